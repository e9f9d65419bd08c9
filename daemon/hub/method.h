/* SPDX-License-Identifier: MIT */
#ifndef HUB_METHOD_H
#define HUB_METHOD_H

/*
 * Direct methods: which names they may have, and how a handler writes its response. Pure.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

/* Longest name, in bytes: a name is a topic level and the name of a directory. */
#define HUB_METHOD_NAME_MAX 255

/* 1 to HUB_METHOD_NAME_MAX bytes of UTF-8 without control characters, '/', '+' and '#'; and not `.` or `..`, which
 * no directory can be called. */
bool hub_method_name_is_valid(struct bytes name);

/*
 * Reads a response as handlers write it: the response code, decimal, 0 … 4294967295 in 1 to 10 digits without a
 * sign; then nothing, or one newline, or one space and the payload, which is every byte that follows, newlines
 * included, and may be empty. @payload is borrowed from @text. Returns 0 or -EINVAL.
 */
int hub_method_response_parse(struct bytes text, uint32_t *code, struct bytes *payload);

#endif
