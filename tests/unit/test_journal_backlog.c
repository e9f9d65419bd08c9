/* SPDX-License-Identifier: MIT */
/*
 * A journal with a large backlog: opened in no time, and not in memory.
 */

#include "base/cleanup.h"
#include "journal/journal.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"

FIXTURE(backlog)
{
	struct journal_box box;
};

FIXTURE_SETUP(backlog)
{
	box_init(&self->box);
}

FIXTURE_TEARDOWN(backlog)
{
	if (!test_is_orphan())
		box_close(&self->box);
	box_deinit(&self->box);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t rss_kib(void)
{
	_cleanup_(fclose_ptr) FILE *file = fopen("/proc/self/statm", "r");
	unsigned long size, rss = 0;

	ASSERT_TRUE(file && fscanf(file, "%lu %lu", &size, &rss) == 2);
	return rss * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

TEST_F_TIMEOUT(backlog, a_large_backlog_takes_no_time_and_no_memory, 120)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane;
	uint64_t start_ms, n = 0, before_kib;

	box->max_bytes = UINT64_C(1) << 30;
	ASSERT_EQ(box_open(box), 0);
	lane = box_lane(box, 0, 5, 0);
	before_kib = rss_kib();
	for (; journal_n_bytes(box->j) < 256u << 20; ++n) {
		ASSERT_EQ(box_append(box, lane, 100, 4000), 0);
		if (n % 64 == 0)
			box_turn(box);
	}
	TEST_LOG("%llu records, %llu KiB more", (unsigned long long)n,
		 (unsigned long long)(rss_kib() - before_kib));
	EXPECT_LE(rss_kib(), before_kib + 32 * 1024);
	box_close(box);
	start_ms = now_ms();
	ASSERT_EQ(box_open(box), 0);
	TEST_LOG("opened in %llu ms", (unsigned long long)(now_ms() - start_ms));
	EXPECT_LE(now_ms() - start_ms, 250u);
	EXPECT_EQ(box_drain(box), n);
}

TEST_HARNESS_MAIN
