/* SPDX-License-Identifier: MIT */
#ifndef NET_BACKOFF_H
#define NET_BACKOFF_H

/*
 * When to connect again: exponential back-off with full jitter and a cap; at once on the first loss after a
 * long good connection. Pure: time and randomness are given.
 */

#include <stdint.h>

#include "base/time.h"

#define BACKOFF_BASE_NS (1 * NSEC_PER_SEC)
#define BACKOFF_CAP_NS  (60 * NSEC_PER_SEC)
/* A connection that lasted this long was good: losing it is an event, not a state. */
#define BACKOFF_GOOD_NS (30 * NSEC_PER_SEC)

struct backoff {
	unsigned int n_failures;  /* in a row */
	uint64_t connected_at_ns; /* TIME_NEVER: not connected */
};

void backoff_init(struct backoff *b);

/* The hub accepted the connection. */
void backoff_connected(struct backoff *b, uint64_t now_ns);

/* The hub did what it is there for on this connection (acknowledged a message): failures in a row end here.
 */
void backoff_progress(struct backoff *b);

/*
 * An attempt failed or the connection was lost: nanoseconds to wait before the next attempt. The first loss
 * of a connection that lasted BACKOFF_GOOD_NS gives 0; otherwise uniform in [0, min(cap, base << n)] but at
 * least base / 10, with @random any 64 random bits. @min_ns is a floor the caller may set (a hub that asked
 * for patience), 0 for none.
 */
uint64_t backoff_failed(struct backoff *b, uint64_t now_ns, uint64_t random, uint64_t min_ns);

#endif
