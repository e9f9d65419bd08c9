/* SPDX-License-Identifier: MIT */
/*
 * Documents of a twin, see twin_doc.h.
 *
 * All that makes a document builds a new object at each level a patch enters, and takes references for the rest:
 * what is published is never touched. The depth of the recursion is that of the patch, which hub_twin_parse() and
 * the limits bound.
 *
 * Rules of a patch with marks, in the order they are used:
 *   apply    the members of a marked object replace whatever was there;
 *   merge    what comes after a marked object changes the members it has, and it stays marked; an object that
 *            comes after anything but an object becomes a marked one;
 *   resolve  a marked object becomes the members it has, and null for what the state has besides.
 * A marked object holds a state: no nulls and no other mark. The patch itself is never marked.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "flow/twin_doc.h"

#define MARK "$replace"

/* The library's functions that change nothing take no const pointer. */
static struct json_object *unconst(const struct json_object *doc)
{
	return (struct json_object *)(uintptr_t)doc;
}

const struct json_object *twin_doc_ref(const struct json_object *doc)
{
	return json_object_get(unconst(doc));
}

void twin_doc_unref(const struct json_object *doc)
{
	json_object_put(unconst(doc));
}

static inline void json_object_put_ptr(struct json_object **object)
{
	json_object_put(*object);
}

const struct json_object *twin_doc_new(void)
{
	return json_object_new_object();
}

bool twin_doc_equal(const struct json_object *a, const struct json_object *b)
{
	return json_object_equal(unconst(a), unconst(b));
}

struct bytes twin_doc_text(const struct json_object *doc, bool indented)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE |
		    (indented ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN);
	const char *text;
	size_t len = 0;

	if (!doc)
		return BYTES_LIT("null");
	text = json_object_to_json_string_length(unconst(doc), flags, &len);
	return text ? BYTES(text, len) : BYTES("", 0);
}

static bool is_object(const struct json_object *value)
{
	return json_object_is_type(value, json_type_object);
}

/* --- paths ------------------------------------------------------------------------------------ */

bool twin_doc_member(const struct json_object *doc, const char *key, const struct json_object **out)
{
	struct json_object *value;

	if (!is_object(doc) || !json_object_object_get_ex(doc, key, &value))
		return false;
	*out = value;
	return true;
}

bool twin_doc_find(const struct json_object *doc, const char *const *keys, size_t n,
		   const struct json_object **out)
{
	for (size_t i = 0; i < n; ++i)
		if (!twin_doc_member(doc, keys[i], &doc))
			return false;
	*out = doc;
	return true;
}

/* Adds a member that is not there yet; the reference moves. On failure it is dropped: -ENOMEM. */
static int add_take(struct json_object *object, const char *key, const struct json_object *value_take)
{
	if (json_object_object_add_ex(object, key, unconst(value_take), JSON_C_OBJECT_ADD_KEY_IS_NEW) == 0)
		return 0;
	twin_doc_unref(value_take);
	return -ENOMEM;
}

int twin_doc_patch_at(const struct json_object **out, const char *const *keys, size_t n,
		      const struct json_object *value)
{
	const struct json_object *inner = twin_doc_ref(value);

	while (n--) {
		struct json_object *object = json_object_new_object();

		if (!object || add_take(object, keys[n], inner)) {
			if (!object)
				twin_doc_unref(inner);
			json_object_put(object);
			return -ENOMEM;
		}
		inner = object;
	}
	*out = inner;
	return 0;
}

/* --- apply ------------------------------------------------------------------------------------ */

static bool is_mark(const char *key)
{
	return strcmp(key, MARK) == 0;
}

static bool is_marked(const struct json_object *value)
{
	const struct json_object *mark;

	return twin_doc_member(value, MARK, &mark);
}

/* Adds what @value of a patch makes of @before, the member in the state or NULL. */
static int apply_member(struct json_object *object, const char *key, const struct json_object *before,
			const struct json_object *value)
{
	const struct json_object *after;

	if (!value)
		return 0;
	if (!is_object(value))
		return add_take(object, key, twin_doc_ref(value));
	if (twin_doc_apply(&after, before, value))
		return -ENOMEM;
	return add_take(object, key, after);
}

/* Adds the members of @state, changed or not. */
static int apply_to_members(struct json_object *object, const struct json_object *state,
			    const struct json_object *patch)
{
	int r = 0;

	json_object_object_foreach(state, key, before)
	{
		const struct json_object *value;

		if (is_mark(key))
			continue;
		if (twin_doc_member(patch, key, &value))
			r = apply_member(object, key, before, value);
		else
			r = add_take(object, key, twin_doc_ref(before));
		if (r)
			return r;
	}
	return 0;
}

/* Adds the members of @patch that @state does not have. */
static int apply_new_members(struct json_object *object, const struct json_object *state,
			     const struct json_object *patch)
{
	const struct json_object *before;

	json_object_object_foreach(patch, key, value)
	{
		if (is_mark(key) || twin_doc_member(state, key, &before))
			continue;
		if (apply_member(object, key, NULL, value))
			return -ENOMEM;
	}
	return 0;
}

/* Adds the members of @state after @patch to @object; what is no object counts as an empty state. */
static int apply_into(struct json_object *object, const struct json_object *state,
		      const struct json_object *patch)
{
	int r = is_object(state) ? apply_to_members(object, state, patch) : 0;

	return r ? r : apply_new_members(object, state, patch);
}

int twin_doc_apply(const struct json_object **out, const struct json_object *state,
		   const struct json_object *patch)
{
	_cleanup_(json_object_put_ptr) struct json_object *object = json_object_new_object();

	if (!object || apply_into(object, is_marked(patch) ? NULL : state, patch))
		return -ENOMEM;
	*out = TAKE_PTR(object);
	return 0;
}

/* --- merge ------------------------------------------------------------------------------------ */

/* A marked object with the members of @state after @patch. */
static int make_marked(const struct json_object **out, const struct json_object *state,
		       const struct json_object *patch)
{
	_cleanup_(json_object_put_ptr) struct json_object *object = json_object_new_object();

	if (!object || add_take(object, MARK, json_object_new_boolean(true)) ||
	    apply_into(object, state, patch))
		return -ENOMEM;
	*out = TAKE_PTR(object);
	return 0;
}

/* A member that both have. */
static int merge_member(const struct json_object **out, const struct json_object *first,
			const struct json_object *second)
{
	if (!is_object(second) || is_marked(second)) {
		*out = twin_doc_ref(second);
		return 0;
	}
	if (!is_object(first))
		return make_marked(out, NULL, second);
	if (is_marked(first))
		return make_marked(out, first, second);
	return twin_doc_merge(out, first, second);
}

int twin_doc_merge(const struct json_object **out, const struct json_object *first,
		   const struct json_object *second)
{
	_cleanup_(json_object_put_ptr) struct json_object *object = json_object_new_object();
	const struct json_object *other, *merged;

	if (!object)
		return -ENOMEM;
	json_object_object_foreach(first, key, value)
	{
		if (!twin_doc_member(second, key, &other))
			merged = twin_doc_ref(value);
		else if (merge_member(&merged, value, other))
			return -ENOMEM;
		if (add_take(object, key, merged))
			return -ENOMEM;
	}
	json_object_object_foreach(second, new_key, new_value)
	{
		if (twin_doc_member(first, new_key, &other))
			continue;
		if (add_take(object, new_key, twin_doc_ref(new_value)))
			return -ENOMEM;
	}
	*out = TAKE_PTR(object);
	return 0;
}

/* --- resolve ---------------------------------------------------------------------------------- */

/* The patch that makes @wanted, which may be marked, of @state. */
static int make_difference(const struct json_object **out, const struct json_object *wanted,
			   const struct json_object *state)
{
	_cleanup_(json_object_put_ptr) struct json_object *object = json_object_new_object();
	const struct json_object *other, *member;

	if (!object)
		return -ENOMEM;
	if (is_object(state)) {
		json_object_object_foreach(state, key, value)
		{
			(void)value;
			if (!twin_doc_member(wanted, key, &other) && add_take(object, key, NULL))
				return -ENOMEM;
		}
	}
	json_object_object_foreach(wanted, wanted_key, wanted_value)
	{
		if (is_mark(wanted_key))
			continue;
		if (!is_object(wanted_value) || !twin_doc_member(state, wanted_key, &other))
			member = twin_doc_ref(wanted_value);
		else if (make_difference(&member, wanted_value, other))
			return -ENOMEM;
		if (add_take(object, wanted_key, member))
			return -ENOMEM;
	}
	*out = TAKE_PTR(object);
	return 0;
}

int twin_doc_resolve(const struct json_object **out, const struct json_object *patch,
		     const struct json_object *state)
{
	_cleanup_(json_object_put_ptr) struct json_object *object = json_object_new_object();

	if (!object)
		return -ENOMEM;
	json_object_object_foreach(patch, key, value)
	{
		const struct json_object *before = NULL, *member;
		int r = 0;

		twin_doc_member(state, key, &before);
		if (is_marked(value))
			r = make_difference(&member, value, before);
		else if (is_object(value))
			r = twin_doc_resolve(&member, value, before);
		else
			member = twin_doc_ref(value);
		if (r || add_take(object, key, member))
			return -ENOMEM;
	}
	*out = TAKE_PTR(object);
	return 0;
}

/* --- what the hub sends ----------------------------------------------------------------------- */

static int fail(struct hub_twin_reason *reason, int error, const char *text)
{
	snprintf(reason->text, sizeof(reason->text), "%s", text);
	return error;
}

/* *@out: @object without the hub's own members. */
static int without_own(const struct json_object **out, const struct json_object *object)
{
	_cleanup_(json_object_put_ptr) struct json_object *copy = json_object_new_object();

	if (!copy)
		return -ENOMEM;
	json_object_object_foreach(object, key,
				   value) if (key[0] != '$' &&
					      add_take(copy, key, twin_doc_ref(value))) return -ENOMEM;
	*out = TAKE_PTR(copy);
	return 0;
}

static int parse_version(uint64_t *out, const struct json_object *part, struct hub_twin_reason *reason)
{
	const struct json_object *value;

	if (!twin_doc_member(part, "$version", &value) || !json_object_is_type(value, json_type_int))
		return fail(reason, -EINVAL, "there is no $version that is a number");
	/* A negative one becomes 0, one that is too large the largest. */
	*out = json_object_get_uint64(value);
	if (*out == 0 || *out == UINT64_MAX)
		return fail(reason, -EINVAL, "a $version is out of range");
	return 0;
}

static int parse_part(struct twin_doc_part *out, const struct json_object *root, const char *name,
		      struct hub_twin_reason *reason)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *members = NULL;
	const struct json_object *part;
	int r;

	if (!twin_doc_member(root, name, &part) || !is_object(part))
		return fail(reason, -EINVAL, "there is no object of desired or of reported properties");
	r = parse_version(&out->version, part, reason);
	if (r)
		return r;
	if (without_own(&members, part))
		return fail(reason, -ENOMEM, "not enough memory");
	/* As a patch of nothing: a member that is null is none. Before it is applied, which would know a mark. */
	r = hub_twin_check_patch(members, reason);
	if (!r && twin_doc_apply(&out->state, NULL, members))
		return fail(reason, -ENOMEM, "not enough memory");
	return r;
}

void twin_doc_whole_deinit(struct twin_doc_whole *whole)
{
	twin_doc_unref(whole->desired.state);
	twin_doc_unref(whole->reported.state);
	*whole = (struct twin_doc_whole){0};
}

int twin_doc_parse_whole(struct bytes text, struct twin_doc_whole *out, struct hub_twin_reason *reason)
{
	_cleanup_(json_object_put_ptr) struct json_object *root = NULL;
	_cleanup_(twin_doc_whole_deinit) struct twin_doc_whole whole = {0};
	int r = hub_twin_parse(text, &root, reason);

	if (!r)
		r = parse_part(&whole.desired, root, "desired", reason);
	if (!r)
		r = parse_part(&whole.reported, root, "reported", reason);
	if (r)
		return r;
	*out = whole;
	whole = (struct twin_doc_whole){0};
	return 0;
}

int twin_doc_parse_patch(struct bytes text, const struct json_object **out, struct hub_twin_reason *reason)
{
	_cleanup_(json_object_put_ptr) struct json_object *root = NULL;
	_cleanup_(twin_doc_unref_ptr) const struct json_object *patch = NULL;
	int r = hub_twin_parse(text, &root, reason);

	if (r)
		return r;
	if (without_own(&patch, root))
		return fail(reason, -ENOMEM, "not enough memory");
	r = hub_twin_check_patch(patch, reason);
	if (!r)
		*out = TAKE_PTR(patch);
	return r;
}
