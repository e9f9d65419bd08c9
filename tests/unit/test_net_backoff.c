/* SPDX-License-Identifier: MIT */
/*
 * Back-off: bounds, growth, cap, jitter, and what a good connection changes.
 */

#include "net/backoff.h"
#include "tests/harness.h"

#define START_NS (1000 * NSEC_PER_SEC)

TEST(grows_to_the_cap_and_stays)
{
	static const uint64_t bounds_s[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
	struct backoff b;

	backoff_init(&b);
	for (size_t i = 0; i < sizeof(bounds_s) / sizeof(bounds_s[0]); ++i) {
		struct backoff copy = b;

		/* The bound itself is the largest value, for the random number that is the bound. */
		EXPECT_EQ(backoff_failed(&copy, START_NS, bounds_s[i] * NSEC_PER_SEC, 0),
			  bounds_s[i] * NSEC_PER_SEC);
		EXPECT_EQ(backoff_failed(&b, START_NS, bounds_s[i] * NSEC_PER_SEC + 1, 0),
			  BACKOFF_BASE_NS / 10);
	}
}

TEST(wait_is_between_the_floor_and_the_bound)
{
	struct backoff b;

	backoff_init(&b);
	for (int i = 0; i < 100000; ++i) {
		uint64_t wait_ns = backoff_failed(&b, START_NS, test_random(), 0);

		EXPECT_GE(wait_ns, BACKOFF_BASE_NS / 10);
		EXPECT_LE(wait_ns, BACKOFF_CAP_NS);
	}
}

TEST(jitter_is_uniform_over_the_whole_interval)
{
	enum { N_SAMPLES = 100000, N_BINS = 10 };
	int bins[N_BINS] = {0};
	struct backoff b;

	backoff_init(&b);
	for (int i = 0; i < 10; ++i)
		backoff_failed(&b, START_NS, test_random(), 0);
	for (int i = 0; i < N_SAMPLES; ++i) {
		uint64_t wait_ns = backoff_failed(&b, START_NS, test_random(), 0);

		++bins[wait_ns * N_BINS / (BACKOFF_CAP_NS + 1)];
	}
	for (int i = 0; i < N_BINS; ++i) {
		EXPECT_GT(bins[i], N_SAMPLES / N_BINS * 9 / 10);
		EXPECT_LT(bins[i], N_SAMPLES / N_BINS * 11 / 10);
	}
}

TEST(first_loss_after_a_good_connection_is_at_once)
{
	struct backoff b;

	backoff_init(&b);
	for (int i = 0; i < 10; ++i)
		backoff_failed(&b, START_NS, 0, 0);
	backoff_connected(&b, START_NS);
	EXPECT_EQ(backoff_failed(&b, START_NS + BACKOFF_GOOD_NS, UINT64_MAX, 0), 0u);
	/* The second is not, and counts from one again. */
	EXPECT_EQ(backoff_failed(&b, START_NS + BACKOFF_GOOD_NS, BACKOFF_BASE_NS, 0), BACKOFF_BASE_NS);
	EXPECT_EQ(backoff_failed(&b, START_NS + BACKOFF_GOOD_NS, 2 * BACKOFF_BASE_NS, 0),
		  2 * BACKOFF_BASE_NS);
}

TEST(short_connections_count_as_failures)
{
	struct backoff b;

	backoff_init(&b);
	for (int i = 0; i < 10; ++i) {
		backoff_connected(&b, START_NS);
		EXPECT_GT(backoff_failed(&b, START_NS + BACKOFF_GOOD_NS - 1, 0, 0), 0u);
	}
	EXPECT_EQ(backoff_failed(&b, START_NS, BACKOFF_CAP_NS, 0), BACKOFF_CAP_NS);
}

TEST(asked_for_patience_is_kept)
{
	struct backoff b;

	backoff_init(&b);
	EXPECT_EQ(backoff_failed(&b, START_NS, 0, 90 * NSEC_PER_SEC), 90 * NSEC_PER_SEC);
	backoff_connected(&b, START_NS);
	EXPECT_EQ(backoff_failed(&b, START_NS + BACKOFF_GOOD_NS, 0, 5 * NSEC_PER_SEC), 5 * NSEC_PER_SEC);
	EXPECT_EQ(backoff_failed(&b, START_NS, NSEC_PER_SEC / 2, NSEC_PER_SEC / 4), NSEC_PER_SEC / 2);
}

TEST(progress_ends_the_row_of_failures)
{
	struct backoff b;

	backoff_init(&b);
	for (int i = 0; i < 10; ++i)
		backoff_failed(&b, START_NS, 0, 0);
	backoff_connected(&b, START_NS);
	backoff_progress(&b);
	EXPECT_EQ(backoff_failed(&b, START_NS + 1, BACKOFF_BASE_NS, 0), BACKOFF_BASE_NS);
	EXPECT_EQ(backoff_failed(&b, START_NS + 1, 2 * BACKOFF_BASE_NS, 0), 2 * BACKOFF_BASE_NS);
}

TEST_HARNESS_MAIN
