/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_DOC_H
#define FLOW_TWIN_DOC_H

/*
 * The documents of a twin: states and patches as JSON objects of json-c. Pure.
 *
 * A document never changes: every call here that makes one makes a new one, in which what is the same as before is
 * shared, so that a change costs what it touches and a reference is a snapshot. A null is a NULL pointer, as in
 * json-c.
 *
 * State: an object without members that are null, at any depth outside arrays.
 *
 * Patch: a merge patch (RFC 7396), which can have one thing more inside the daemon. Merge patches are not closed
 * under "one after the other": null for a member and then an object for it means that object and nothing of what was
 * there, which no merge patch says without knowing what that was. Such a member is an object with the mark
 * `"$replace":true` besides the members that are to be all there is; no key of a twin can have a `$`. Before such a
 * patch goes to the hub twin_doc_resolve() turns it into a plain one for the state the hub has.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "hub/twin.h"

struct json_object;

/* Counts references; NULL is fine. twin_doc_ref() returns its argument. */
const struct json_object *twin_doc_ref(const struct json_object *doc);
void twin_doc_unref(const struct json_object *doc);

DEFINE_CLEANUP(const struct json_object *, twin_doc_unref)

/* {} ; NULL without memory. */
const struct json_object *twin_doc_new(void);

/* Whether both are the same JSON. */
bool twin_doc_equal(const struct json_object *a, const struct json_object *b);

/*
 * As JSON text: in one line, or indented for people. Never NULL, but empty without memory. The text belongs to the
 * document: it lasts until the next call for the same one, or its last reference is gone. A document that others have
 * too can be asked for by them at the end of the turn (it is stored like this): copy what is to last longer.
 */
struct bytes twin_doc_text(const struct json_object *doc, bool indented);

/* --- paths ------------------------------------------------------------------------------------ */

/* The member @key of @doc; false: there is none, or @doc is no object. *@out is borrowed from @doc. */
bool twin_doc_member(const struct json_object *doc, const char *key, const struct json_object **out);

/* The value behind @n keys, one inside the other; with 0 @doc itself. As twin_doc_member(). */
bool twin_doc_find(const struct json_object *doc, const char *const *keys, size_t n,
		   const struct json_object **out);

/* The patch that gives the member behind @n >= 1 keys @value, of which it takes a reference; NULL takes it away.
 * Returns 0 or -ENOMEM. */
int twin_doc_patch_at(const struct json_object **out, const char *const *keys, size_t n,
		      const struct json_object *value);

/* --- patches ---------------------------------------------------------------------------------- */

/* Of the following each returns -EINVAL too, for objects deeper inside each other than hub_twin_parse() reads. */

/* *@out: @state after @patch; @state may be NULL for an empty one. Returns 0 or -ENOMEM. */
int twin_doc_apply(const struct json_object **out, const struct json_object *state,
		   const struct json_object *patch);

/* *@out: the one patch that does what @first and then @second do, whatever the state. Returns 0 or -ENOMEM. */
int twin_doc_merge(const struct json_object **out, const struct json_object *first,
		   const struct json_object *second);

/* *@out: the merge patch without marks that does to @state what @patch does. Returns 0 or -ENOMEM. */
int twin_doc_resolve(const struct json_object **out, const struct json_object *patch,
		     const struct json_object *state);

/* --- what the hub sends ----------------------------------------------------------------------- */

struct twin_doc_part {
	const struct json_object *state; /* owned */
	uint64_t version;                /* 1 up to UINT64_MAX - 1 */
};

struct twin_doc_whole {
	struct twin_doc_part desired, reported;
};

/* Idempotent. */
void twin_doc_whole_deinit(struct twin_doc_whole *whole);

/*
 * Reads the twin as Get Twin answers it. Members whose name begins with `$` are the hub's own and left out. Returns 0;
 * -EINVAL or -EMSGSIZE: not a twin, or one beyond the limits of hub/twin.h; -ENOMEM. On error *@out is not touched
 * and @reason says why.
 */
int twin_doc_parse_whole(struct bytes text, struct twin_doc_whole *out, struct hub_twin_reason *reason);

/* Reads a patch of the desired properties, in the same way. */
int twin_doc_parse_patch(struct bytes text, const struct json_object **out, struct hub_twin_reason *reason);

#endif
