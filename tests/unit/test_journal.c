/* SPDX-License-Identifier: MIT */
/*
 * The journal's contract while it runs: order over lanes and priorities, every byte, the bound with holds, what is done
 * in any order, withdrawn, and walked over; segments as they grow and go.
 */

#include <dirent.h>

#include "journal/journal.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"

FIXTURE(journal)
{
	struct journal_box box;
	struct journal *j;
};

FIXTURE_SETUP(journal)
{
	box_init(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
	self->j = self->box.j;
}

FIXTURE_TEARDOWN(journal)
{
	if (!test_is_orphan())
		box_close(&self->box);
	box_deinit(&self->box);
}

static void reopen(struct fixture_journal *self)
{
	box_close(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
	self->j = self->box.j;
}

static unsigned int n_files(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned int n = 0;

	ASSERT_TRUE(dir);
	while ((entry = readdir(dir)))
		n += strstr(entry->d_name, ".segment") != NULL;
	closedir(dir);
	return n;
}

TEST_F(journal, starts_empty)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	struct journal_cursor at;

	EXPECT_EQ(journal_appended(self->j), 0u);
	EXPECT_EQ(journal_stored(self->j), 0u);
	EXPECT_EQ(journal_n_bytes(self->j), 0u);
	EXPECT_EQ(journal_max_bytes(self->j), 64u << 20);
	EXPECT_TRUE(journal_is_durable(self->j));
	EXPECT_FALSE(journal_next_unsent(self->j, &at));
	EXPECT_FALSE(journal_first(lane, &at));
	EXPECT_FALSE(journal_find(lane, 1, &at));
	EXPECT_EQ(n_files(self->box.dir), 0u);
}

TEST_F(journal, what_goes_in_comes_out)
{
	struct journal_lane *lane = box_lane(&self->box, 3, 5, 60);
	struct journal_cursor at;

	for (size_t i = 0; i < 100; ++i)
		ASSERT_EQ(box_append(&self->box, lane, i, 1000 - i * 10), 0);
	EXPECT_EQ(journal_lane_n_records(lane), 100u);
	EXPECT_EQ(journal_lane_n_bytes(lane), journal_n_bytes(self->j));
	for (uint64_t i = 1; i <= 100; ++i) {
		ASSERT_TRUE(box_send(&self->box, &at));
		EXPECT_EQ(at.sequence, i);
		EXPECT_TRUE(journal_is_sent(&at));
		journal_mark_done(self->j, &at);
	}
	EXPECT_FALSE(box_send(&self->box, &at));
	EXPECT_EQ(journal_n_bytes(self->j), 0u);
	EXPECT_EQ(journal_lane_n_records(lane), 0u);
}

TEST_F(journal, smaller_priorities_overtake_and_equal_ones_keep_the_order)
{
	static const uint8_t priorities[] = {5, 9, 5, 0, 5, 9, 0};
	static const uint64_t order[] = {4, 7, 1, 3, 5, 2, 6};
	struct journal_cursor at;

	for (size_t i = 0; i < sizeof(priorities); ++i)
		ASSERT_EQ(box_append(&self->box, box_lane(&self->box, (uint16_t)i, priorities[i], 0), 1, 1),
			  0);
	for (size_t i = 0; i < sizeof(priorities); ++i) {
		ASSERT_TRUE(box_send(&self->box, &at));
		EXPECT_EQ(at.sequence, order[i]);
	}
	EXPECT_FALSE(box_send(&self->box, &at));
}

TEST_F(journal, the_next_one_stays_the_next_one)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0), *urgent = box_lane(&self->box, 1, 0, 0);
	struct journal_cursor at;

	ASSERT_EQ(box_append(&self->box, lane, 0, 10), 0);
	ASSERT_EQ(box_append(&self->box, lane, 0, 10), 0);
	for (int i = 0; i < 3; ++i) {
		ASSERT_TRUE(journal_next_unsent(self->j, &at));
		EXPECT_EQ(at.sequence, 1u);
	}
	ASSERT_EQ(box_append(&self->box, urgent, 0, 10), 0);
	ASSERT_TRUE(journal_next_unsent(self->j, &at));
	EXPECT_EQ(at.sequence, 3u);
}

TEST_F(journal, full_is_enospc_and_changes_nothing)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	uint64_t appended, n_bytes;
	struct journal_cursor at;

	while (box_append(&self->box, lane, 10, 200000) == 0)
		;
	appended = journal_appended(self->j);
	n_bytes = journal_n_bytes(self->j);
	EXPECT_LE(n_bytes, 64u << 20);
	EXPECT_GT(n_bytes, (64u << 20) - 201000);
	EXPECT_EQ(box_append(&self->box, lane, 10, 200000), -ENOSPC);
	EXPECT_EQ(journal_reserve(lane, 1, 200000), -ENOSPC);
	EXPECT_EQ(journal_appended(self->j), appended);
	EXPECT_EQ(journal_n_bytes(self->j), n_bytes);
	ASSERT_TRUE(box_send(&self->box, &at));
	journal_mark_done(self->j, &at);
	EXPECT_EQ(self->box.n_room, 0u);
	box_turn(&self->box);
	EXPECT_EQ(self->box.n_room, 1u);
	EXPECT_EQ(box_append(&self->box, lane, 10, 200000), 0);
	EXPECT_EQ(box_drain(&self->box), appended);
	EXPECT_EQ(journal_n_bytes(self->j), 0u);
}

TEST_F(journal, reserve_is_a_promise)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	for (int i = 0; i < 50; ++i) {
		uint64_t n_records = 1 + test_random() % 200, left = test_random() % 300000;
		uint64_t first = journal_appended(self->j) + 1;
		struct journal_cursor a, b;

		if (journal_reserve(lane, n_records, left))
			break;
		for (; n_records > 0; --n_records) {
			uint64_t n = n_records == 1 ? left : test_random() % (left + 1);

			left -= n;
			ASSERT_EQ(box_append(&self->box, lane, n / 2, n - n / 2), 0);
		}
		ASSERT_TRUE(journal_find(lane, first, &a));
		ASSERT_TRUE(journal_find(lane, journal_appended(self->j), &b));
		ASSERT_TRUE(a.segment == b.segment);
	}
	EXPECT_GT(box_drain(&self->box), 1000u);
}

TEST_F(journal, held_bytes_are_in_use)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	const uint64_t most = (64u << 20) - 6000;

	ASSERT_EQ(journal_hold(self->j, most), 0);
	EXPECT_EQ(journal_hold(self->j, 7000), -ENOSPC);
	EXPECT_EQ(box_append(&self->box, lane, 0, 6000), -ENOSPC);
	EXPECT_FALSE(journal_has_room(self->j, 1, 6000));
	EXPECT_FALSE(journal_has_room(self->j, UINT64_MAX / 2, 0));
	EXPECT_TRUE(journal_has_room(self->j, 1, 5000));
	EXPECT_EQ(box_append(&self->box, lane, 0, 5000), 0);
	journal_unhold(self->j, most);
	EXPECT_EQ(box_append(&self->box, lane, 0, 50000), 0);
	box_turn(&self->box);
	EXPECT_EQ(self->box.n_room, 1u);
}

TEST_F(journal, records_larger_than_segments)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	for (size_t n = 1; n <= 20000000; n *= 3)
		ASSERT_EQ(box_append(&self->box, lane, n / 4, n), 0);
	EXPECT_EQ(box_drain(&self->box), 16u);
}

TEST_F(journal, files_come_and_go_with_the_backlog)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	struct journal_stats stats;

	for (int round = 0; round < 3; ++round) {
		uint64_t n = 0;

		for (; journal_n_bytes(self->j) < 20u << 20; ++n)
			ASSERT_EQ(box_append(&self->box, lane, 100, 3000), 0);
		journal_stats(self->j, &stats);
		EXPECT_GE(stats.segment_bytes, 20u << 20);
		EXPECT_LE(stats.segment_bytes, 60u << 20);
		EXPECT_EQ(box_drain(&self->box), n);
		box_sync(&self->box);
	}
	journal_stats(self->j, &stats);
	EXPECT_LE(stats.n_segments, 3u);
	reopen(self);
	EXPECT_EQ(n_files(self->box.dir), 0u);
}

TEST_F(journal, at_most_a_window_of_a_lane_is_in_flight)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0), *other = box_lane(&self->box, 1, 5, 0);
	struct journal_cursor sent[JOURNAL_WINDOW], at;

	for (int i = 0; i < 3 * JOURNAL_WINDOW; ++i)
		ASSERT_EQ(box_append(&self->box, lane, 10, 100), 0);
	ASSERT_EQ(box_append(&self->box, other, 10, 100), 0);
	for (int i = 0; i < JOURNAL_WINDOW; ++i)
		ASSERT_TRUE(box_send(&self->box, &sent[i]));
	ASSERT_TRUE(box_send(&self->box, &at));
	EXPECT_TRUE(at.lane == other);
	EXPECT_FALSE(box_send(&self->box, &at));
	for (int i = JOURNAL_WINDOW - 1; i > 0; --i)
		journal_mark_done(self->j, &sent[i]);
	EXPECT_FALSE(box_send(&self->box, &at));
	journal_mark_done(self->j, &sent[0]);
	EXPECT_EQ(box_drain(&self->box), 2u * JOURNAL_WINDOW);
	/* One of the other lane. */
	EXPECT_EQ(journal_lane_n_records(lane), 0u);
	EXPECT_EQ(journal_lane_n_records(other), 1u);
}

TEST_F(journal, walking_sees_what_is_not_done)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	struct journal_cursor sent[10], at, next;

	for (int i = 0; i < 30; ++i)
		ASSERT_EQ(box_append(&self->box, lane, 10, 9000), 0);
	for (int i = 0; i < 10; ++i)
		ASSERT_TRUE(box_send(&self->box, &sent[i]));
	journal_mark_done(self->j, &sent[4]);
	journal_mark_done(self->j, &sent[0]);
	ASSERT_TRUE(journal_find(lane, 20, &at));
	EXPECT_FALSE(journal_is_sent(&at));
	journal_withdraw(self->j, &at);
	EXPECT_FALSE(journal_find(lane, 20, &at));
	EXPECT_FALSE(journal_find(lane, 5, &at));
	EXPECT_FALSE(journal_find(lane, 1, &at));
	EXPECT_FALSE(journal_find(lane, 31, &at));
	ASSERT_TRUE(journal_first(lane, &at));
	for (uint64_t i = 2; i <= 30; ++i) {
		if (i == 5 || i == 20)
			continue;
		ASSERT_EQ(at.sequence, i);
		box_check(&at);
		EXPECT_EQ(journal_is_sent(&at), i <= 10);
		ASSERT_EQ(journal_next(&at, &next), i < 30);
		at = next;
	}
}

TEST_F(journal, the_oldest_can_be_dropped_while_others_are_in_flight)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	struct journal_cursor a, b, at;

	for (int i = 0; i < 6; ++i)
		ASSERT_EQ(box_append(&self->box, lane, 10, 100), 0);
	ASSERT_TRUE(box_send(&self->box, &a));
	ASSERT_TRUE(box_send(&self->box, &b));
	ASSERT_TRUE(journal_next(&b, &at));
	EXPECT_EQ(at.sequence, 3u);
	journal_mark_done(self->j, &at);
	ASSERT_TRUE(journal_next(&b, &at));
	EXPECT_EQ(at.sequence, 4u);
	journal_mark_done(self->j, &at);
	EXPECT_EQ(journal_lane_n_records(lane), 4u);
	journal_mark_done(self->j, &b);
	ASSERT_TRUE(journal_first(lane, &at));
	EXPECT_EQ(at.sequence, 1u);
	journal_mark_done(self->j, &a);
	ASSERT_TRUE(journal_first(lane, &at));
	EXPECT_EQ(at.sequence, 5u);
	journal_mark_done(self->j, &at);
	ASSERT_TRUE(box_send(&self->box, &at));
	EXPECT_EQ(at.sequence, 6u);
	journal_mark_done(self->j, &at);
	EXPECT_EQ(journal_n_bytes(self->j), 0u);
}

TEST_F(journal, lanes_of_rejected_ones_send_nothing)
{
	struct journal_lane_key key = {.kind = JOURNAL_KIND_REJECTED, .channel_name = "x"};
	struct journal_lane *lane;
	struct journal_cursor at;

	ASSERT_EQ(journal_lane_get(self->j, &key, &lane), 0);
	for (int i = 0; i < 3; ++i)
		ASSERT_EQ(box_append(&self->box, lane, 5, 5), 0);
	EXPECT_FALSE(journal_next_unsent(self->j, &at));
	ASSERT_TRUE(journal_find(lane, 2, &at));
	box_check(&at);
	journal_withdraw(self->j, &at);
	ASSERT_TRUE(journal_first(lane, &at));
	EXPECT_EQ(at.sequence, 1u);
	journal_mark_done(self->j, &at);
	ASSERT_TRUE(journal_first(lane, &at));
	EXPECT_EQ(at.sequence, 3u);
	journal_mark_done(self->j, &at);
	EXPECT_FALSE(journal_first(lane, &at));
	EXPECT_EQ(journal_n_bytes(self->j), 0u);
}

TEST_F(journal, lanes_end_when_nobody_needs_them)
{
	struct journal_lane *lane = box_lane(&self->box, 7, 5, 0);

	EXPECT_TRUE(box_lane(&self->box, 7, 5, 0) == lane);
	journal_lane_put(lane);
	ASSERT_EQ(box_append(&self->box, lane, 5, 5), 0);
	journal_lane_put(lane);
	box_turn(&self->box);
	EXPECT_TRUE(journal_next_lane(self->j, NULL) == lane);
	EXPECT_EQ(box_drain(&self->box), 1u);
	EXPECT_TRUE(journal_next_lane(self->j, NULL) == NULL);
	for (uint16_t i = 0; i < JOURNAL_LANES_MAX; ++i)
		box_lane(&self->box, i, 5, 0);
	EXPECT_EQ(journal_lane_get(self->j, &(struct journal_lane_key){.kind = JOURNAL_KIND_QUEUE}, &lane),
		  -ENOSPC);
}

/* As many lanes with messages as there can be: the next start needs some besides. */
TEST_F(journal, a_start_has_lanes_in_any_case)
{
	const struct journal_lane_key key = {.kind = JOURNAL_KIND_QUEUE, .channel = 9};
	struct journal_lane *lane;

	box_turn(&self->box);
	for (uint16_t i = 0; i < JOURNAL_LANES_MAX; ++i)
		ASSERT_EQ(box_append(&self->box, box_lane(&self->box, i, 5, 0), 5, 5), 0);
	box_close(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
	self->j = self->box.j;
	ASSERT_EQ(journal_lane_get(self->j, &key, &lane), 0);
	box_turn(&self->box);
	journal_lane_put(lane);
	box_turn(&self->box);
	EXPECT_EQ(journal_lane_get(self->j, &key, &lane), -ENOSPC);
	EXPECT_EQ(box_drain(&self->box), JOURNAL_LANES_MAX + 0u);
}

TEST_F(journal, a_sync_serves_all_who_asked)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	struct journal_stats stats;

	for (int i = 0; i < 50; ++i) {
		ASSERT_EQ(box_append(&self->box, lane, 10, 100), 0);
		journal_sync(self->j);
	}
	EXPECT_EQ(journal_stored(self->j), 0u);
	EXPECT_EQ(box_sync(&self->box), 0);
	EXPECT_EQ(self->box.n_stored, 1u);
	EXPECT_EQ(self->box.stored, 50u);
	EXPECT_EQ(journal_stored(self->j), 50u);
	journal_stats(self->j, &stats);
	EXPECT_EQ(stats.n_commits, 1u);
	EXPECT_EQ(stats.error, 0);
	/* Nothing new: answered all the same. */
	EXPECT_EQ(box_sync(&self->box), 0);
	EXPECT_EQ(self->box.n_stored, 2u);
}

TEST_F(journal, volatile_ones_store_nothing)
{
	struct journal_lane *lane;

	box_close(&self->box);
	self->box.is_volatile = true;
	ASSERT_EQ(box_open(&self->box), 0);
	self->j = self->box.j;
	lane = box_lane(&self->box, 0, 5, 0);
	EXPECT_FALSE(journal_is_durable(self->j));
	for (int i = 0; i < 2000; ++i)
		ASSERT_EQ(box_append(&self->box, lane, 10, 1000), 0);
	journal_sync(self->j);
	for (int i = 0; i < 5; ++i)
		box_turn(&self->box);
	EXPECT_EQ(self->box.n_stored, 0u);
	reopen(self);
	EXPECT_EQ(box_drain(&self->box), 2000u);
}

/* --- against a model -------------------------------------------------------------------------- */

enum model_state {
	MODEL_QUEUED,
	MODEL_SENT,
	MODEL_DONE,
};

#define MODEL_N_LANES   6
#define MODEL_N_RECORDS 20000

struct model {
	struct {
		enum model_state state;
		unsigned int lane;
		struct journal_cursor at;
	} records[MODEL_N_RECORDS + 1];
	struct journal_lane *lanes[MODEL_N_LANES];
	uint64_t first; /* all before it are done; never a whole window from n */
	uint64_t n;
};

static unsigned int model_priority(unsigned int lane)
{
	return lane % 3;
}

static uint64_t model_next(const struct model *m)
{
	uint64_t best = 0;

	for (uint64_t i = m->first; i <= m->n; ++i)
		if (m->records[i].state == MODEL_QUEUED &&
		    (!best || model_priority(m->records[i].lane) < model_priority(m->records[best].lane)))
			best = i;
	return best;
}

static void model_step(struct fixture_journal *self, struct model *m)
{
	uint64_t pick = m->first <= m->n ? m->first + test_random() % (m->n - m->first + 1) : 0;
	struct journal_cursor at;

	switch (test_random() % 8) {
	case 0 ... 2:
		if (m->n == MODEL_N_RECORDS || m->n + 1 - m->first >= JOURNAL_WINDOW)
			return;
		m->records[++m->n].lane = (unsigned int)(test_random() % MODEL_N_LANES);
		ASSERT_EQ(box_append(&self->box, m->lanes[m->records[m->n].lane], test_random() % 100,
				     test_random() % (test_random() % 64 ? 500 : 100000)),
			  0);
		return;
	case 3 ... 4:
		pick = model_next(m);
		ASSERT_EQ(journal_next_unsent(self->j, &at), pick != 0);
		if (!pick)
			return;
		ASSERT_EQ(at.sequence, pick);
		box_check(&at);
		journal_mark_sent(self->j, &at);
		m->records[pick].at = at;
		m->records[pick].state = MODEL_SENT;
		return;
	case 5 ... 6:
		if (!pick || m->records[pick].state != MODEL_SENT)
			return;
		box_check(&m->records[pick].at);
		journal_mark_done(self->j, &m->records[pick].at);
		m->records[pick].state = MODEL_DONE;
		return;
	default:
		box_turn(&self->box);
		if (!pick || m->records[pick].state != MODEL_QUEUED || test_random() % 4)
			return;
		ASSERT_TRUE(journal_find(m->lanes[m->records[pick].lane], pick, &at));
		journal_withdraw(self->j, &at);
		m->records[pick].state = MODEL_DONE;
	}
}

static void model_check(struct fixture_journal *self, const struct model *m)
{
	for (unsigned int i = 0; i < MODEL_N_LANES; ++i) {
		struct journal_cursor at;
		bool more = journal_first(m->lanes[i], &at);
		uint64_t n = 0;

		for (uint64_t s = m->first; s <= m->n; ++s) {
			if (m->records[s].lane != i || m->records[s].state == MODEL_DONE)
				continue;
			ASSERT_TRUE(more);
			ASSERT_EQ(at.sequence, s);
			ASSERT_EQ(journal_is_sent(&at), m->records[s].state == MODEL_SENT);
			more = journal_next(&at, &at);
			++n;
		}
		ASSERT_FALSE(more);
		ASSERT_EQ(journal_lane_n_records(m->lanes[i]), n);
	}
	(void)self;
}

TEST_F(journal, random_steps_agree_with_a_model)
{
	struct model *m = calloc(1, sizeof(*m));

	ASSERT_TRUE(m);
	m->first = 1;
	for (unsigned int i = 0; i < MODEL_N_LANES; ++i)
		m->lanes[i] = box_lane(&self->box, (uint16_t)i, (uint8_t)model_priority(i), 0);
	for (int i = 0; m->n < MODEL_N_RECORDS || m->first <= m->n; ++i) {
		if (i % 5000 == 0)
			model_check(self, m);
		/* Old ones do not stay for ever. */
		if (m->n + 1 - m->first > 900 && m->records[m->first].state == MODEL_SENT) {
			journal_mark_done(self->j, &m->records[m->first].at);
			m->records[m->first].state = MODEL_DONE;
		}
		if (m->first <= m->n || m->n < MODEL_N_RECORDS)
			model_step(self, m);
		while (m->first <= m->n && m->records[m->first].state == MODEL_DONE)
			++m->first;
	}
	EXPECT_EQ(journal_n_bytes(self->j), 0u);
	EXPECT_EQ(box_sync(&self->box), 0);
	free(m);
}

TEST_HARNESS_MAIN
