/* SPDX-License-Identifier: MIT */
#ifndef IOTHUBCTL_PROPERTY_H
#define IOTHUBCTL_PROPERTY_H

/*
 * Properties of a twin: their names on the command line, where they are in a document, and their values as text. Pure.
 */

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

#include "base/bytes.h"

/* `desired` or `reported`, and what is below as the trees in `twin` name it: `desired/network/wifi`. */
struct property {
	bool is_desired;
	size_t n_keys;
	char *keys; /* owned; n_keys strings, one behind the other */
};

/* Reads a name. Slashes that say nothing are fine; `%XX` is a byte, and `%` alone the empty key. Returns 0, -EINVAL:
 * the name of nothing, or -ENOMEM. property_deinit() in any case. */
int property_parse(struct property *p, const char *name);
/* Idempotent. */
void property_deinit(struct property *p);

/* Finds the property in the document. *@out is borrowed from there; NULL is JSON's null. */
bool property_find(const struct property *p, json_object *document, json_object **out);

/* A value as files show it: a string as it is, everything else as JSON in one line. Borrowed from @value. */
struct bytes property_text(json_object *value);

/* Whether a value is the one that somebody gave as @text: its text, or the same JSON. */
bool property_is(json_object *value, const char *text);

/* Reads all of @text, a NUL behind it, as one JSON value. Returns 0, or -EINVAL and *@why, which is static. */
int property_read_json(struct bytes text, json_object **out, const char **why);

/* For _cleanup_. */
static inline void json_put(json_object **object)
{
	json_object_put(*object);
}

#endif
