/* SPDX-License-Identifier: MIT */
/*
 * Records that were withdrawn: what that frees, of this run's and of an earlier one's, and that nobody pays for walking over
 * them again and again.
 */

#include <time.h>

#include "journal/internal.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"

#define N_RECORDS 3000

FIXTURE(withdrawn)
{
	struct journal_box box;
	struct journal_lane *lane;
};

static void start(struct fixture_withdrawn *self)
{
	ASSERT_EQ(box_open(&self->box), 0);
	self->lane = box_lane(&self->box, 1, 5, 0);
}

static void restart(struct fixture_withdrawn *self)
{
	box_close(&self->box);
	start(self);
}

FIXTURE_SETUP(withdrawn)
{
	box_init(&self->box);
	start(self);
}

FIXTURE_TEARDOWN(withdrawn)
{
	if (!test_is_orphan())
		box_close(&self->box);
	box_deinit(&self->box);
}

static void append(struct fixture_withdrawn *self, unsigned int n)
{
	while (n-- > 0)
		ASSERT_EQ(box_append(&self->box, self->lane, 10, 100), 0);
}

static void withdraw(struct fixture_withdrawn *self, uint64_t sequence)
{
	struct journal_cursor at;

	ASSERT_TRUE(journal_find(self->lane, sequence, &at));
	journal_withdraw(self->box.j, &at);
}

/* What a walk finds is what is counted. */
static void expect_counted(struct fixture_withdrawn *self, uint64_t n)
{
	struct journal_cursor at;
	uint64_t n_records = 0, n_bytes = 0;

	for (bool more = journal_first(self->lane, &at); more; more = journal_next(&at, &at)) {
		++n_records;
		n_bytes += at.size;
	}
	EXPECT_EQ(n_records, n);
	EXPECT_EQ(journal_lane_n_records(self->lane), n);
	EXPECT_EQ(journal_lane_n_bytes(self->lane), n_bytes);
	EXPECT_EQ(journal_n_bytes(self->box.j), n_bytes);
}

/* --- of an earlier daemon --------------------------------------------------------------------- */

/* Drops what lies behind @last, from its end on or from its beginning; each has to free its bytes at once. Returns how
 * many. */
static uint64_t drop_behind(struct fixture_withdrawn *self, const struct journal_cursor *last,
			    bool is_backward)
{
	static uint64_t sequences[N_RECORDS];
	struct journal_cursor at;
	uint64_t n = 0;

	for (bool more = journal_next(last, &at); more; more = journal_next(&at, &at))
		sequences[n++] = at.sequence;
	for (uint64_t i = 0; i < n; ++i) {
		uint64_t before = journal_n_bytes(self->box.j);

		ASSERT_TRUE(journal_find(self->lane, sequences[is_backward ? n - 1 - i : i], &at));
		journal_withdraw(self->box.j, &at);
		ASSERT_LE(journal_n_bytes(self->box.j), before - at.size);
	}
	return n;
}

static void drop_recovered(struct fixture_withdrawn *self, bool is_backward)
{
	struct journal_cursor sent[16];

	append(self, N_RECORDS);
	for (uint64_t i = 7; i <= N_RECORDS; i += 7)
		withdraw(self, i);
	for (int i = 0; i < 16; ++i)
		ASSERT_TRUE(box_send(&self->box, &sent[i]));
	journal_mark_done(self->box.j, &sent[3]);
	journal_mark_done(self->box.j, &sent[11]);
	restart(self);
	/* One that is not the first is done with by a bit. */
	for (int i = 0; i < 10; ++i)
		ASSERT_TRUE(box_send(&self->box, &sent[i]));
	EXPECT_EQ(drop_behind(self, &sent[9], is_backward), N_RECORDS - N_RECORDS / 7 - 2u - 10u);
	expect_counted(self, 10);
	append(self, 5);
	expect_counted(self, 15);
	for (int i = 0; i < 10; ++i)
		journal_mark_done(self->box.j, &sent[i]);
	EXPECT_EQ(box_drain(&self->box), 5u);
	expect_counted(self, 0);
}

TEST_F(withdrawn, an_earlier_daemons_bytes_are_free_at_once)
{
	drop_recovered(self, false);
}

TEST_F(withdrawn, whichever_comes_first)
{
	drop_recovered(self, true);
}

static unsigned int n_segments(const struct fixture_withdrawn *self)
{
	unsigned int n = 0;

	list_for_each (link, &self->lane->segments)
		++n;
	return n;
}

TEST_F(withdrawn, an_earlier_daemons_files_go)
{
	struct journal_cursor at;

	append(self, N_RECORDS);
	restart(self);
	ASSERT_GT(n_segments(self), 2u);
	ASSERT_TRUE(box_send(&self->box, &at));
	drop_behind(self, &at, true);
	box_turn(&self->box);
	/* What next has passed stays until the one before is done. */
	EXPECT_EQ(n_segments(self), 2u);
	expect_counted(self, 1);
	append(self, 3);
	restart(self);
	EXPECT_EQ(box_drain(&self->box), 4u);
}

/* What is left does not go on where indexes are missing: that would look like damage. */
TEST_F(withdrawn, what_is_left_of_an_earlier_daemons_is_not_gone_on_with)
{
	struct journal_stats stats;

	for (int i = 0; i < 2; ++i)
		ASSERT_EQ(box_append(&self->box, self->lane, 10, 40000), 0);
	EXPECT_EQ(box_sync(&self->box), 0);
	restart(self);
	ASSERT_EQ(n_segments(self), 2u);
	withdraw(self, 2);
	box_turn(&self->box);
	ASSERT_EQ(n_segments(self), 1u);
	append(self, 1);
	EXPECT_EQ(n_segments(self), 2u);
	EXPECT_EQ(box_drain(&self->box), 2u);
	journal_stats(self->box.j, &stats);
	EXPECT_EQ(stats.n_damaged, 0u);
}

/* --- walking over them ------------------------------------------------------------------------ */

#define N_MANY 60000

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Drops the first one behind @n_stay again and again. Looking at all that were dropped before each time would be some
 * billions of looks. */
static void drop_many(struct fixture_withdrawn *self, unsigned int n_stay)
{
	struct journal_cursor at, next;
	uint64_t start_ms = now_ms();

	for (uint64_t n = journal_lane_n_records(self->lane) - n_stay; n > 0; --n) {
		ASSERT_TRUE(journal_first(self->lane, &at));
		for (unsigned int i = 0; i < n_stay; ++i) {
			ASSERT_TRUE(journal_next(&at, &next));
			at = next;
		}
		journal_withdraw(self->box.j, &at);
	}
	TEST_LOG("%llu ms", (unsigned long long)(now_ms() - start_ms));
	EXPECT_LE(now_ms() - start_ms, 5000u);
	expect_counted(self, n_stay);
}

TEST_F_TIMEOUT(withdrawn, many_behind_those_in_flight, 120)
{
	struct journal_cursor at;

	append(self, N_MANY);
	for (int i = 0; i < 16; ++i)
		ASSERT_TRUE(box_send(&self->box, &at));
	drop_many(self, 16);
}

TEST_F_TIMEOUT(withdrawn, many_behind_one_that_waits, 120)
{
	append(self, N_MANY);
	drop_many(self, 1);
}

TEST_F_TIMEOUT(withdrawn, many_behind_some_that_wait_here_and_there, 120)
{
	append(self, N_MANY / 2);
	/* Four are left over with many between them. */
	for (int i = 0; i < 4; ++i) {
		append(self, N_MANY / 8);
		drop_many(self, (unsigned int)i + 1);
	}
	EXPECT_EQ(box_drain(&self->box), 4u);
}

TEST_HARNESS_MAIN
