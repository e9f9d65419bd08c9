/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_LEAF_H
#define FLOW_TWIN_LEAF_H

/*
 * A property that is no object, as the text of a file and back. Pure.
 *
 * A string is its characters, all else JSON in one line; a newline follows. Back: one newline at the end is taken off;
 * what is JSON then is that value, and anything else a string. So a string that reads like JSON ("12") has to be
 * written in quotes to stay one.
 */

#include "base/bytes.h"
#include "hub/twin.h"

struct json_object;

/* Longest text that is read. */
#define TWIN_LEAF_TEXT_MAX (128u * 1024)

/* Bytes of the text of @value; 0 for NULL, of which there is no text. */
size_t twin_leaf_len(const struct json_object *value);

/* Writes the text to @out, which has room for @size bytes, and returns its length. Longer ones are cut. */
size_t twin_leaf_put(const struct json_object *value, char *out, size_t size);

#define TWIN_LEAF_WAITS 1

/*
 * What @text, all that was written so far, stands for. Returns 0: *@out is a new value, NULL for null; TWIN_LEAF_WAITS:
 * unless this is the @last of it, wait for more, because it is the beginning of an object, an array or a string in
 * quotes, or ends within a character; -EINVAL: not UTF-8, a NUL, or JSON of too many levels, @reason says which;
 * -EMSGSIZE: longer than TWIN_LEAF_TEXT_MAX; -ENOMEM.
 */
int twin_leaf_parse(struct bytes text, bool last, const struct json_object **out,
		    struct hub_twin_reason *reason);

#endif
