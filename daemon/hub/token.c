/* SPDX-License-Identifier: MIT */
/*
 * The life of a signature, see token.h.
 */

#include "base/time.h"
#include "hub/token.h"

#define PATIENCE_MAX_NS (30 * NSEC_PER_SEC)
#define JUMP_MAX_MS     (60 * MSEC_PER_SEC)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t hub_token_renew_ns(const struct hub_token *token)
{
	return token->signed_ns + token->lifetime_ms * NSEC_PER_MSEC / 3 * 2;
}

uint64_t hub_token_patience_ns(const struct hub_token *token)
{
	return min_u64(token->lifetime_ms * NSEC_PER_MSEC / 5, PATIENCE_MAX_NS);
}

bool hub_token_clock_jumped(const struct hub_token *token, uint64_t now_ns, uint64_t now_ms)
{
	uint64_t expected_ms = token->signed_ms + (now_ns - token->signed_ns) / NSEC_PER_MSEC;
	uint64_t distance_ms = expected_ms > now_ms ? expected_ms - now_ms : now_ms - expected_ms;

	return distance_ms > min_u64(token->lifetime_ms / 8, JUMP_MAX_MS);
}
