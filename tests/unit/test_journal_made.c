/* SPDX-License-Identifier: MIT */
/*
 * Segments that were made by hand, with nothing of the journal but its format, and what the journal makes of them.
 */

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "journal/segment.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"
#include "tests/support/segment_make.h"

FIXTURE(made)
{
	struct journal_box box;
};

FIXTURE_SETUP(made)
{
	box_init(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
}

FIXTURE_TEARDOWN(made)
{
	if (!test_is_orphan())
		box_close(&self->box);
	box_deinit(&self->box);
}

static uint64_t n_damaged(struct journal_box *box)
{
	struct journal_stats stats;

	journal_stats(box->j, &stats);
	return stats.n_damaged;
}

/* Puts a segment's file of @n_bytes there. */
static void put_segment(const struct journal_box *box, const struct segment_make *make, size_t n_bytes)
{
	char path[256], name[JOURNAL_SEGMENT_NAME_SIZE];
	_cleanup_(close_fd) int fd = -1;

	segment_name(make->identity.id, name);
	snprintf(path, sizeof(path), "%s/%s", box->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_EQ(write(fd, make->data, n_bytes), (ssize_t)n_bytes);
}

static struct segment_make made_by_hand(uint8_t *data, uint64_t size)
{
	struct journal_identity identity = {
		.id = 77, .size = size, .made_ms = 1, .first_index = 1, .kind = JOURNAL_KIND_QUEUE};
	struct segment_make make;

	segment_make_init(&make, data, &identity, 1);
	return make;
}

TEST_F(made, numbers_that_make_no_sense_are_no_records)
{
	static const uint64_t wrong[] = {100, INT64_MAX - 1, INT64_MAX, UINT64_MAX - 1, UINT64_MAX};
	static _Alignas(8) uint8_t data[JOURNAL_SEGMENT_BYTES_MIN];
	struct segment_make make = made_by_hand(data, sizeof(data));
	struct journal_box *box = &self->box;
	struct journal_cursor at;

	box_close(box);
	segment_make_add(&make, BYTES("", 0), BYTES("a", 1));
	for (size_t i = 0; i < 2 * ARRAY_SIZE(wrong); ++i) {
		struct segment_make other = make;

		if (i % 2)
			other.index = wrong[i / 2];
		else
			other.sequence = wrong[i / 2] < INT64_MAX ? INT64_MAX : wrong[i / 2];
		segment_make_add(&other, BYTES("", 0), BYTES("b", 1));
		make.head = other.head;
	}
	segment_make_add(&make, BYTES("", 0), BYTES("c", 1));
	put_segment(box, &make, sizeof(data));
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(journal_appended(box->j), 2u);
	for (uint64_t i = 1; i <= 2; ++i) {
		ASSERT_TRUE(journal_next_unsent(box->j, &at));
		EXPECT_EQ(at.sequence, i);
		journal_mark_sent(box->j, &at);
		journal_mark_done(box->j, &at);
	}
	EXPECT_FALSE(journal_next_unsent(box->j, &at));
	box_turn(box);
	EXPECT_EQ(n_damaged(box), 0u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

/* A file of three records with an end. */
static void put_ended(const struct journal_box *box, uint64_t first_index, uint64_t done_index, uint8_t done)
{
	static _Alignas(8) uint8_t data[JOURNAL_SEGMENT_BYTES_MIN];
	struct journal_identity identity = {.id = first_index,
					    .size = sizeof(data),
					    .made_ms = 1,
					    .first_index = first_index,
					    .kind = JOURNAL_KIND_QUEUE};
	struct journal_state state = {.generation = 1, .done_index = done_index, .done = {done}};
	struct segment_make make;

	memset(data, 0, sizeof(data));
	segment_make_init(&make, data, &identity, first_index);
	for (uint64_t i = 0; i < 3; ++i) {
		if (make.index == done_index)
			state.done_offset = make.head;
		segment_make_add(&make, BYTES("", 0), BYTES("a", 1));
	}
	if (make.index == done_index)
		state.done_offset = make.head;
	state.stored_offset = state.end_offset = make.head;
	state.end_index = make.index;
	state.last_sequence = make.sequence - 1;
	journal_state_put(&state, identity.id, data);
	put_segment(box, &make, sizeof(data));
}

/* A daemon was killed before it deleted the first file: the second one has what was done with in a window of its own. */
TEST_F(made, a_file_that_is_done_with_and_not_deleted)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;

	box_close(box);
	put_ended(box, 1, 4, 0);
	put_ended(box, 5000, 5000, 2);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(journal_lane_n_records(journal_next_lane(box->j, NULL)), 2u);
	for (uint64_t i = 5000; i <= 5002; i += 2) {
		ASSERT_TRUE(journal_next_unsent(box->j, &at));
		EXPECT_EQ(at.sequence, i);
		journal_mark_sent(box->j, &at);
		journal_mark_done(box->j, &at);
	}
	EXPECT_FALSE(journal_next_unsent(box->j, &at));
	box_turn(box);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_EQ(n_damaged(box), 0u);
}

/* What is done with in the first file is at the places in the window that the second one's records have. */
TEST_F(made, a_file_that_was_deleted_takes_its_window_along)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;
	char path[256];

	box_close(box);
	put_ended(box, 1, 1, 2);
	put_ended(box, 1 + JOURNAL_WINDOW, 1 + JOURNAL_WINDOW, 0);
	ASSERT_EQ(box_open(box), 0);
	snprintf(path, sizeof(path), "%s/0000000000000001.segment", box->dir);
	ASSERT_EQ(unlink(path), 0);
	for (uint64_t i = 1; i <= 3; ++i) {
		ASSERT_TRUE(journal_next_unsent(box->j, &at));
		EXPECT_EQ(at.sequence, i + JOURNAL_WINDOW);
		journal_mark_sent(box->j, &at);
		journal_mark_done(box->j, &at);
	}
	EXPECT_EQ(n_damaged(box), 2u);
	box_turn(box);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

TEST_F(made, a_small_file_that_says_it_is_large)
{
	static _Alignas(8) uint8_t data[JOURNAL_SEGMENT_BYTES_MIN];
	struct segment_make make = made_by_hand(data, JOURNAL_SEGMENT_BYTES_MAX);
	struct journal_state state = {.generation = 1,
				      .done_index = 1,
				      .done_offset = JOURNAL_HEADER_BYTES,
				      .stored_offset = JOURNAL_SEGMENT_BYTES_MAX};
	struct journal_box *box = &self->box;
	uint64_t before = loop_now_ns(box->loop);
	char command[256];

	box_close(box);
	journal_state_put(&state, make.identity.id, data);
	put_segment(box, &make, JOURNAL_HEADER_BYTES);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 0u);
	EXPECT_LT(loop_now_ns(box->loop) - before, 2 * NSEC_PER_SEC);
	snprintf(command, sizeof(command), "test $(du -sk '%s' | cut -f 1) -lt 1000", box->dir);
	EXPECT_EQ(system(command), 0);
	ASSERT_EQ(box_append(box, box_lane(box, 0, 0, 0), 5, 5), 0);
	EXPECT_EQ(box_drain(box), 1u);
}

TEST_HARNESS_MAIN
