/* SPDX-License-Identifier: MIT */
#ifndef MQTT_WIRE_H
#define MQTT_WIRE_H

/*
 * The data representations of MQTT 5 section 1.5 that are more than a big-endian integer. Internal to the
 * codec.
 */

#include "base/bytes.h"
#include "base/cursor.h"

/* Longest string or binary data: its length has two bytes (1.5.4, 1.5.6). */
#define MQTT_STRING_MAX 65535u

/* A variable byte integer (1.5.5); -EBADMSG for a fifth byte and for any form that is not the shortest. */
uint32_t mqtt_varint_get(struct reader *r);

/* Binary data, or a string whose content is checked later: two bytes of length, then the bytes. */
struct bytes mqtt_binary_get(struct reader *r);

/* -EINVAL sticks when @src is longer than MQTT_STRING_MAX. */
void mqtt_binary_put(struct writer *w, struct bytes src);

/* Puts the length of what was written since @start (an offset) in front of it, as a variable byte integer. */
void mqtt_length_insert(struct writer *w, size_t start);

#endif
