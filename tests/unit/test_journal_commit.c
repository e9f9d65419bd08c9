/* SPDX-License-Identifier: MIT */
/*
 * A commit and its check: what the file system was to commit for a sync is asked for once more, and before that answer
 * nothing of it is stored. What happens to a segment meanwhile. A pipe is what cannot be checked.
 */

#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "journal/internal.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"

FIXTURE(commit)
{
	struct journal_box box;
	struct journal_lane *lane;
	int pipe[2];
};

FIXTURE_SETUP(commit)
{
	ASSERT_EQ(pipe2(self->pipe, O_CLOEXEC), 0);
	box_init(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
	self->lane = box_lane(&self->box, 1, 0, 0);
}

FIXTURE_TEARDOWN(commit)
{
	if (!test_is_orphan())
		box_close(&self->box);
	box_deinit(&self->box);
}

static void append(struct fixture_commit *self, unsigned int n)
{
	while (n-- > 0)
		ASSERT_EQ(box_append(&self->box, self->lane, 0, 1000), 0);
}

static void refuse_checks(struct fixture_commit *self)
{
	self->box.j->dir.check_fd = self->pipe[1];
}

static void allow_checks(struct fixture_commit *self)
{
	self->box.j->dir.check_fd = self->box.j->lock_fd;
}

/* The syncs of a commit ended, its check is in flight. */
static void await_check(struct fixture_commit *self)
{
	journal_sync(self->box.j);
	while (loop_op_is_idle(&self->box.j->check))
		ASSERT_EQ(loop_turn(self->box.loop, 10 * NSEC_PER_MSEC), 0);
}

static void await_end(struct fixture_commit *self)
{
	while (self->box.j->is_committing || loop_n_in_flight(self->box.loop) > 0)
		ASSERT_EQ(loop_turn(self->box.loop, 10 * NSEC_PER_MSEC), 0);
}

/* Until the segment that is appended to is one that was made ahead. */
static void append_until_settled(struct fixture_commit *self)
{
	do {
		append(self, 1);
		ASSERT_EQ(box_sync(&self->box), 0);
	} while (!self->lane->active->is_settled);
}

/* --- what the check says ---------------------------------------------------------------------- */

TEST_F(commit, a_commit_that_cannot_be_checked_stores_nothing)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;

	append(self, 5);
	segment = self->lane->active;
	refuse_checks(self);
	EXPECT_EQ(box_sync(box), -ESPIPE);
	EXPECT_EQ(journal_stored(box->j), 0u);
	EXPECT_TRUE(segment->is_failed);
	EXPECT_EQ(segment->state.stored_offset, JOURNAL_HEADER_BYTES + 0u);
	EXPECT_EQ(segment->sync_head, 0u);
	EXPECT_TRUE(box->j->dir.is_dirty);
	EXPECT_STREQ(box->events, "disk-error ");
	allow_checks(self);
	append(self, 1);
	EXPECT_TRUE(self->lane->active != segment);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_STREQ(box->events, "disk-error disk-ok ");
	EXPECT_EQ(self->lane->active->state.stored_offset, self->lane->active->head);
	EXPECT_EQ(box_drain(box), 6u);
}

TEST_F(commit, the_directory_is_checked_as_well)
{
	struct journal_box *box = &self->box;

	append_until_settled(self);
	append(self, 1);
	box->j->dir.is_dirty = true;
	refuse_checks(self);
	EXPECT_EQ(box_sync(box), -ESPIPE);
	EXPECT_EQ(journal_stored(box->j), journal_appended(box->j) - 1);
	EXPECT_TRUE(box->j->dir.is_dirty);
	/* There was nothing wrong with its own sync. */
	EXPECT_FALSE(self->lane->active->is_failed);
	allow_checks(self);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_EQ(journal_stored(box->j), journal_appended(box->j));
}

TEST_F(commit, a_segment_made_ahead_needs_no_check)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;

	append_until_settled(self);
	segment = self->lane->active;
	refuse_checks(self);
	append(self, 1);
	ASSERT_TRUE(self->lane->active == segment);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_EQ(journal_stored(box->j), journal_appended(box->j));
}

TEST_F(commit, a_segment_that_is_gone_on_with_is_checked)
{
	struct journal_box *box = &self->box;
	uint64_t n;

	append_until_settled(self);
	n = journal_appended(box->j);
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	self->lane = box_lane(box, 1, 0, 0);
	append(self, 1);
	ASSERT_GT(self->lane->active->recovered_head, 0u);
	refuse_checks(self);
	EXPECT_EQ(box_sync(box), -ESPIPE);
	EXPECT_EQ(box_drain(box), n + 1);
}

TEST_F(commit, what_says_nothing_of_the_disk_is_no_error)
{
	_cleanup_(close_fd) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	EXPECT_EQ(loop_check_fs_error(0), 0);
	EXPECT_EQ(loop_check_fs_error(-EOPNOTSUPP), 0);
	EXPECT_EQ(loop_check_fs_error(-ENOSPC), 0);
	EXPECT_EQ(loop_check_fs_error(-EIO), -EIO);
	EXPECT_EQ(loop_check_fs_error(-EROFS), -EROFS);
	append(self, 1);
	self->box.j->dir.check_fd = fd;
	EXPECT_EQ(box_sync(&self->box), 0);
	EXPECT_EQ(journal_stored(self->box.j), 1u);
}

TEST_F(commit, a_file_to_check_with_is_made_when_that_is_possible)
{
	struct journal *j = self->box.j;

	close_fd(&j->lock_fd);
	j->dir.check_fd = -1;
	append(self, 1);
	EXPECT_EQ(box_sync(&self->box), 0);
	EXPECT_GE(j->lock_fd, 0);
	EXPECT_EQ(j->dir.check_fd, j->lock_fd);
}

/* --- while it is checked ---------------------------------------------------------------------- */

TEST_F(commit, what_is_appended_meanwhile_is_the_next_commits)
{
	struct journal_box *box = &self->box;

	append(self, 5);
	await_check(self);
	EXPECT_EQ(box->n_stored, 0u);
	EXPECT_EQ(self->lane->active->state.stored_offset, JOURNAL_HEADER_BYTES + 0u);
	append(self, 5);
	await_end(self);
	EXPECT_EQ(journal_stored(box->j), 5u);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_EQ(journal_stored(box->j), 10u);
	EXPECT_EQ(self->lane->active->state.stored_offset, self->lane->active->head);
}

TEST_F(commit, a_segment_that_fails_meanwhile_is_not_stored)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;

	append(self, 5);
	segment = self->lane->active;
	await_check(self);
	commit_fail_segment(box->j, segment, -EIO);
	await_end(self);
	EXPECT_EQ(box->n_stored, 1u);
	EXPECT_EQ(box->stored_error, -EIO);
	EXPECT_EQ(journal_stored(box->j), 0u);
	EXPECT_EQ(segment->state.stored_offset, JOURNAL_HEADER_BYTES + 0u);
	append(self, 1);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_EQ(box_drain(box), 6u);
}

TEST_F(commit, a_failed_one_is_not_the_fault_of_another)
{
	struct journal_box *box = &self->box;
	struct journal_lane *other = box_lane(box, 2, 0, 0);

	append(self, 5);
	ASSERT_EQ(box_append(box, other, 0, 1000), 0);
	await_check(self);
	commit_fail_segment(box->j, self->lane->active, -EIO);
	await_end(self);
	EXPECT_EQ(box->stored_error, -EIO);
	EXPECT_FALSE(other->active->is_failed);
	EXPECT_EQ(other->active->state.stored_offset, other->active->head);
}

TEST_F(commit, a_lane_that_ends_meanwhile)
{
	struct journal_box *box = &self->box;

	append(self, 5);
	await_check(self);
	EXPECT_EQ(box_drain(box), 5u);
	journal_lane_put(self->lane);
	await_end(self);
	EXPECT_EQ(box->n_stored, 1u);
	EXPECT_EQ(box->stored_error, 0);
	EXPECT_EQ(box->j->n_lanes, 0u);
	self->lane = box_lane(box, 1, 0, 0);
	append(self, 1);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_EQ(box_drain(box), 1u);
}

TEST_F(commit, a_stop_meanwhile)
{
	struct journal_box *box = &self->box;

	append(self, 5);
	await_check(self);
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 5u);
}

TEST_HARNESS_MAIN
