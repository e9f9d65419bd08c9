/* SPDX-License-Identifier: MIT */
#ifndef FLOW_STAMP_H
#define FLOW_STAMP_H

/*
 * The properties every telemetry message of a channel gets: the daemon's own `message-id` and `creation-time`, then
 * those of the channel. They are encoded once; for each message only digits are put in place.
 */

#include <stdint.h>

#include "base/bytes.h"
#include "base/time.h"
#include "hub/message.h"

/* An encoded User Property: identifier and two lengths besides the strings. */
#define STAMP_PROPERTY_OVERHEAD 5

/* Bytes of the daemon's own two. */
#define STAMP_LEN                                                                                            \
	(2 * STAMP_PROPERTY_OVERHEAD + (sizeof("message-id") - 1) + HUB_MESSAGE_ID_LEN +                     \
	 (sizeof("creation-time") - 1) + TIME_ISO_LEN)

struct stamp {
	uint64_t run;     /* first half of every message-id */
	uint64_t time_ms; /* what the template's time says */
	uint8_t *encoded; /* owned */
	size_t len;
	size_t id_at;
	size_t time_at;
};

/* @run: 64 random bits, new for each run of the daemon. @others: further properties, encoded, which every message
 * gets too; copied. Returns 0, or -ENOMEM, after which @stamp is as before. */
int stamp_init(struct stamp *stamp, uint64_t run, struct bytes others);
/* Idempotent. */
void stamp_deinit(struct stamp *stamp);

static inline size_t stamp_len(const struct stamp *stamp)
{
	return stamp->len;
}

/* Writes stamp_len() bytes of encoded properties: the message @sequence of this run, created at @wall_ms. */
void stamp_put(struct stamp *stamp, uint64_t sequence, uint64_t wall_ms, uint8_t *out);

#endif
