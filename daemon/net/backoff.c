/* SPDX-License-Identifier: MIT */
/*
 * Back-off between connection attempts, see backoff.h.
 *
 * The jitter is full (uniform from zero up to the exponential bound) because a hub that restarts loses all
 * its devices in the same second: spreading them over the whole interval is what keeps it from losing them
 * again. A connection that did not last counts as a failure, so that a hub which accepts and drops is not
 * asked faster than one which refuses; unless it was of use while it lasted.
 */

#include <limits.h>
#include <stdbool.h>

#include "net/backoff.h"

void backoff_init(struct backoff *b)
{
	*b = (struct backoff){.connected_at_ns = TIME_NEVER};
}

void backoff_connected(struct backoff *b, uint64_t now_ns)
{
	b->connected_at_ns = now_ns;
}

void backoff_progress(struct backoff *b)
{
	b->n_failures = 0;
}

static uint64_t backoff_bound_ns(unsigned int n_failures)
{
	uint64_t bound_ns = BACKOFF_BASE_NS;

	while (n_failures-- && bound_ns < BACKOFF_CAP_NS)
		bound_ns *= 2;
	return bound_ns < BACKOFF_CAP_NS ? bound_ns : BACKOFF_CAP_NS;
}

uint64_t backoff_failed(struct backoff *b, uint64_t now_ns, uint64_t random, uint64_t min_ns)
{
	bool good = b->connected_at_ns != TIME_NEVER && now_ns - b->connected_at_ns >= BACKOFF_GOOD_NS;
	uint64_t wait_ns = 0;

	b->connected_at_ns = TIME_NEVER;
	if (good) {
		b->n_failures = 0;
	} else {
		wait_ns = random % (backoff_bound_ns(b->n_failures) + 1);
		if (wait_ns < BACKOFF_BASE_NS / 10)
			wait_ns = BACKOFF_BASE_NS / 10;
		if (b->n_failures < UINT_MAX)
			++b->n_failures;
	}
	return wait_ns > min_ns ? wait_ns : min_ns;
}
