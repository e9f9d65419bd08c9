/* SPDX-License-Identifier: MIT */
#ifndef BASE_JSON_READ_H
#define BASE_JSON_READ_H

/*
 * Objects of json-c from JSON text. Its own reader, before version 0.18, does not look whether there was memory for a
 * name: it leaves such a member out without a word, or dies of it. Where that version can be relied on, this can go.
 */

#include "base/bytes.h"

struct json_object;

/* The largest number of objects and arrays inside each other. */
#define JSON_READ_LEVELS_MAX 40

/*
 * Reads @text, all of it, as one JSON object (RFC 8259) with at most @n_levels levels, itself counted. Of a name that
 * stands twice in one object the last one holds; a name ends at U+0000; a whole number beyond 64 bits is the nearest one
 * that has them, and a fraction keeps its text; half of a surrogate pair is U+FFFD. Returns 0 and a new object in @out,
 * the caller's to json_object_put(); -EINVAL: not UTF-8, not JSON, not an object, more levels, or a number of more than
 * 63 characters; -ENOMEM. On error *@out is not touched.
 */
int json_read(struct bytes text, size_t n_levels, struct json_object **out);

#endif
