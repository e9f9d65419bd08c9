/* SPDX-License-Identifier: MIT */
/*
 * The life of a signature: when it is renewed, and clocks that jump.
 */

#include "base/time.h"
#include "hub/token.h"
#include "tests/harness.h"

#define NS UINT64_C(5000000000)
#define MS UINT64_C(1750000000000)

TEST(renewal_leaves_time)
{
	static const uint64_t lives_s[] = {10, 60, 3600, 31536000};

	for (size_t i = 0; i < 4; ++i) {
		struct hub_token t = {.signed_ns = NS, .signed_ms = MS, .lifetime_ms = lives_s[i] * 1000};
		uint64_t end_ns = NS + lives_s[i] * NSEC_PER_SEC, renew_ns = hub_token_renew_ns(&t);

		EXPECT_GT(renew_ns, NS + lives_s[i] * NSEC_PER_SEC / 2);
		EXPECT_LT(renew_ns + hub_token_patience_ns(&t), end_ns);
		EXPECT_LE(hub_token_patience_ns(&t), 30 * NSEC_PER_SEC);
		EXPECT_GE(hub_token_patience_ns(&t), 2 * NSEC_PER_SEC);
	}
}

TEST(jumps)
{
	struct hub_token t = {.signed_ns = NS, .signed_ms = MS, .lifetime_ms = 3600000};
	struct hub_token brief = {.signed_ns = NS, .signed_ms = MS, .lifetime_ms = 10000};
	struct hub_token boot = {.signed_ns = NS, .signed_ms = 5000, .lifetime_ms = 3600000};

	EXPECT_FALSE(hub_token_clock_jumped(&t, NS, MS));
	EXPECT_FALSE(hub_token_clock_jumped(&t, NS + 100 * NSEC_PER_SEC, MS + 100000));
	EXPECT_FALSE(hub_token_clock_jumped(&t, NS + 100 * NSEC_PER_SEC, MS + 100000 + 60000));
	EXPECT_TRUE(hub_token_clock_jumped(&t, NS + 100 * NSEC_PER_SEC, MS + 100000 + 60001));
	EXPECT_TRUE(hub_token_clock_jumped(&t, NS + 100 * NSEC_PER_SEC, MS + 100000 - 60001));
	EXPECT_FALSE(hub_token_clock_jumped(&brief, NS, MS + 1250));
	EXPECT_TRUE(hub_token_clock_jumped(&brief, NS, MS + 1251));
	/* Set after boot, and back to 1970 by somebody's mistake. */
	EXPECT_TRUE(hub_token_clock_jumped(&boot, NS + NSEC_PER_SEC, MS));
	EXPECT_TRUE(hub_token_clock_jumped(&t, NS + NSEC_PER_SEC, 0));
}

TEST(clocks_that_were_never_set)
{
	EXPECT_FALSE(hub_clock_is_set(0));
	EXPECT_FALSE(hub_clock_is_set(HUB_CLOCK_MIN_MS - 1));
	EXPECT_TRUE(hub_clock_is_set(MS));
}

TEST_HARNESS_MAIN
