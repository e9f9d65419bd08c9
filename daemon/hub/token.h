/* SPDX-License-Identifier: MIT */
#ifndef HUB_TOKEN_H
#define HUB_TOKEN_H

/*
 * How long a signature is good, by two clocks: the hub compares its expiry with the time of day, we count
 * nanoseconds since it was made, which nobody can set. When the two drift apart somebody has set this machine's
 * clock, and the signature is about another time than the one that is now. Pure.
 */

#include <stdbool.h>
#include <stdint.h>

struct hub_token {
	uint64_t signed_ns; /* CLOCK_MONOTONIC */
	uint64_t signed_ms; /* time of day */
	uint64_t lifetime_ms;
};

/* 2024-01-01T00:00:00Z. A clock that says less was not set since the machine started. */
#define HUB_CLOCK_MIN_MS UINT64_C(1704067200000)

static inline bool hub_clock_is_set(uint64_t now_ms)
{
	return now_ms >= HUB_CLOCK_MIN_MS;
}

/* When a new signature is due: after two thirds of the life, so that there is time for another way when the
 * first does not work. */
uint64_t hub_token_renew_ns(const struct hub_token *token);

/* How long the hub has to accept a new signature: a fifth of its life, 30 s at most. */
uint64_t hub_token_patience_ns(const struct hub_token *token);

/* Whether the time of day jumped since the signature was made, by more than an eighth of its life or 60 s. */
bool hub_token_clock_jumped(const struct hub_token *token, uint64_t now_ns, uint64_t now_ms);

#endif
