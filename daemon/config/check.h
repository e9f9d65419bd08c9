/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

/*
 * Small checks that the JSON file and the connection string share.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Longest host name (RFC 1035 section 2.3.4, without the final dot). */
#define CHECK_HOST_MAX 253

/* A DNS name (ASCII letters, digits, `-`, `_`, dots between labels) or an IPv4 or IPv6 address without
 * brackets. */
bool check_host(struct bytes text);

/* Of a channel's name, in bytes. */
#define CHECK_CHANNEL_NAME_MAX 64

/* A channel's name: letters, digits, `-`, `_` and `.`, not first. */
bool check_channel_name(struct bytes text);

/* A value that a channel sends: UTF-8 without control characters. */
bool check_channel_value(struct bytes text);

/* Decimal digits only, from @min to @max. Returns 0, -EINVAL, -ERANGE. */
int check_u64(struct bytes text, uint64_t min, uint64_t max, uint64_t *out);

/* How many letters have to be changed, added, left out or swapped with their neighbour to get from @a to @b,
 * in any case of letters; SIZE_MAX when either is over 64 bytes. */
size_t check_distance(struct bytes a, struct bytes b);

/* Whether @b can be what somebody meant who wrote @a, given their check_distance(). */
bool check_is_near(struct bytes a, struct bytes b, size_t distance);

#endif
