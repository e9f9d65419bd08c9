/* SPDX-License-Identifier: MIT */
#ifndef HUB_TWIN_H
#define HUB_TWIN_H

/*
 * Twin states as the contract has them: reading them from text, and the limits which the device checks before
 * it sends, so that whoever wrote a property hears at once what is wrong with it.
 *
 * A state is the desired or the reported object without its `$version`; a patch is what is merged into one. A
 * text that holds both states, as the hub sends them, is read with hub_twin_parse() too; the limits are for
 * each of the two.
 */

#include <stddef.h>

#include "base/bytes.h"

struct json_object;

/* Of a state: the sum over its members and elements. A key counts its bytes, a string its bytes, a number 8, a
 * boolean 4; null, an object and an array count only what is in them, but 1 as elements of an array, as an
 * empty string does there. */
#define HUB_TWIN_STATE_BYTES_MAX  (32u * 1024)

#define HUB_TWIN_LEVELS_MAX       10 /* objects and arrays inside each other, inside the state */
#define HUB_TWIN_KEY_BYTES_MAX    1024
#define HUB_TWIN_STRING_BYTES_MAX 4096
/* As text, which is kept as it is; the contract has no such limit, but counts 8. */
#define HUB_TWIN_NUMBER_BYTES_MAX 40

/* Bounds of the parser: the longest text, which is the contract's longest packet, and levels and values enough for
 * two full states in one text. */
#define HUB_TWIN_TEXT_BYTES_MAX   262144
#define HUB_TWIN_PARSE_LEVELS_MAX 31
#define HUB_TWIN_PARSE_VALUES_MAX (2 * HUB_TWIN_STATE_BYTES_MAX + 16)

/* Why something was refused, in words for whoever wrote it: one line of UTF-8 without control characters. */
#define HUB_TWIN_REASON_SIZE 192

struct hub_twin_reason {
	char text[HUB_TWIN_REASON_SIZE]; /* "" when nothing was refused */
};

/* What the beginning of a text is. */
enum hub_twin_text {
	HUB_TWIN_TEXT_WHOLE,    /* a JSON value; a number at the end of the text could go on */
	HUB_TWIN_TEXT_PART,     /* nothing is wrong with it, but the value is not complete */
	HUB_TWIN_TEXT_TOO_MUCH, /* more levels or values than the bounds above */
	HUB_TWIN_TEXT_BAD,      /* no JSON, whatever follows */
};

/* Looks for a JSON value of any type, after any white space, in a text that comes in pieces. *@out_len: bytes up to
 * the value's end, or up to where it is known to be none. Whether it is UTF-8 is not looked at. */
enum hub_twin_text hub_twin_scan(struct bytes text, size_t *out_len);

/*
 * Reads @text, all of it, as one JSON object (RFC 8259, nothing more lenient). Of a name that stands twice in
 * one object the last one holds; a fraction keeps its text. *@out is a new object, the caller's to json_object_put().
 * Returns 0; -EINVAL: not UTF-8, not JSON, not an object, more levels or values than the bounds above, U+0000
 * in a name, a whole number beyond 64 bits, or a longer one than HUB_TWIN_NUMBER_BYTES_MAX; -EMSGSIZE: longer than HUB_TWIN_TEXT_BYTES_MAX; -ENOMEM. On error *@out is not touched and @reason
 * says why.
 */
int hub_twin_parse(struct bytes text, struct json_object **out, struct hub_twin_reason *reason);

/*
 * The limits on a whole state, desired or reported, without `$version`. Returns 0; -EINVAL: not an object, or a
 * key, a value or the number of levels that the contract does not allow; -EMSGSIZE: a key, a string or the state
 * is too long. @reason names the key.
 */
int hub_twin_check(const struct json_object *state, struct hub_twin_reason *reason);

/*
 * What a patch can break whatever it is merged into. Members that are null take away and do not count for its
 * size; all others do, because they are in the state afterwards: a patch refused here is one that the hub would
 * refuse. Whether the merged state still fits only hub_twin_check() on that state tells. Returns as that.
 */
int hub_twin_check_patch(const struct json_object *patch, struct hub_twin_reason *reason);

#endif
