/* SPDX-License-Identifier: MIT */
#ifndef RUN_DELIVERY_H
#define RUN_DELIVERY_H

/*
 * A command as `commands/stream` gives it: one line of JSON.
 */

#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "base/bytes.h"
#include "environment.h"

/* Longest `enqueued-time`, in characters. */
#define DELIVERY_TIME_MAX 31

struct delivery {
	/* Both together say which command it is, however often it is delivered. */
	uint64_t sequence_no;
	char enqueued_time[DELIVERY_TIME_MAX + 1];
	uint32_t delivery_count; /* 1 = the first */
	struct bytes payload;    /* lives as long as the delivery */
	/* Private. */
	json_object *json;
	uint8_t *decoded;
};

/* Reads a line, with its newline or without. Returns 0, -EPROTO (it is not such a line), -ENOMEM; delivery_deinit() in
 * any case. */
int delivery_parse(struct delivery *delivery, struct bytes line);
/* Whether a file open at its start, `properties.json`, is about this command: 1, or 0: another of the same number; or a
 * negative errno, -EPROTO when it is no such file. */
int delivery_compare(const struct delivery *delivery, int fd);
/* Idempotent; a zeroed delivery is fine. */
void delivery_deinit(struct delivery *delivery);

/* Adds what the command has to the environment of its program. Returns 0, -ENOMEM, -E2BIG (a property is longer than
 * an environment takes), -EINVAL (it holds a NUL). */
int delivery_environment(const struct delivery *delivery, struct environment *env);

#endif
