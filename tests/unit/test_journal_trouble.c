/* SPDX-License-Identifier: MIT */
/*
 * The journal when the disk has less, or something older, than was written, when pages and files cannot be read, and when
 * what is withdrawn piles up: what is queued is never thrown away, nothing is called stored that is not, no lane stands
 * still for ever.
 *
 * A power cut, or a kill, is a copy of the directory that is changed and opened instead.
 */

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "journal/internal.h"
#include "tests/harness.h"
#include "tests/support/guarded.h"
#include "tests/support/journal_box.h"

FIXTURE(trouble)
{
	struct journal_box box;
	struct journal_box copy;
	struct journal_lane *lane;
};

FIXTURE_SETUP(trouble)
{

	box_init(&self->box);
	box_init(&self->copy);
	self->box.guard = self->copy.guard = guarded();
	ASSERT_EQ(box_open(&self->box), 0);
	self->lane = box_lane(&self->box, 1, 0, 0);
}

FIXTURE_TEARDOWN(trouble)
{
	if (!test_is_orphan()) {
		box_close(&self->box);
		box_close(&self->copy);
	}
	box_deinit(&self->box);
	box_deinit(&self->copy);
}

static void append(struct fixture_trouble *self, unsigned int n, size_t n_bytes)
{
	while (n-- > 0)
		ASSERT_EQ(box_append(&self->box, self->lane, 0, n_bytes), 0);
}

/* The copy's directory becomes as the journal's is now. */
static void copy_dir(struct fixture_trouble *self)
{
	char command[600];

	snprintf(command, sizeof(command), "rm -rf '%s' && cp -a '%s' '%s'", self->copy.dir, self->box.dir,
		 self->copy.dir);
	ASSERT_EQ(system(command), 0);
}

static struct journal_segment *segment_at(struct journal_lane *lane, unsigned int i)
{
	struct journal_segment *segment = lane_first(lane);

	while (i-- > 0 && segment)
		segment = lane_after(lane, segment);
	ASSERT_TRUE(segment);
	return segment;
}

static int open_segment(const struct journal_box *box, const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", box->dir, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_TRUE(fd >= 0);
	return fd;
}

/* --- what is older on the disk ---------------------------------------------------------------- */

TEST_F(trouble, an_older_state_of_the_first_segment)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	char name[JOURNAL_SEGMENT_NAME_SIZE];
	_cleanup_(close_fd) int fd = -1, copy_fd = -1;
	struct journal_cursor at;
	uint64_t n_first, last = 0;

	append(self, 1900, 40);
	ASSERT_EQ(box_sync(&self->box), 0);
	n_first = segment_at(self->lane, 0)->next_index - segment_at(self->lane, 0)->identity.first_index;
	strcpy(name, segment_at(self->lane, 0)->name);
	fd = open_segment(&self->box, name);
	ASSERT_EQ(pread(fd, header, sizeof(header), 0), (ssize_t)sizeof(header));
	/* Up to the second segment, but for one in the first. */
	for (uint64_t i = 1; i <= 1500; ++i) {
		ASSERT_TRUE(box_send(&self->box, &at));
		if (i != n_first - 20)
			journal_mark_done(self->box.j, &at);
	}
	box_turn(&self->box);
	copy_dir(self);
	copy_fd = open_segment(&self->copy, name);
	ASSERT_EQ(pwrite(copy_fd, header, sizeof(header), 0), (ssize_t)sizeof(header));
	ASSERT_EQ(box_open(&self->copy), 0);
	while (box_send(&self->copy, &at)) {
		last = at.sequence;
		journal_mark_done(self->copy.j, &at);
		if (last % 10 == 0)
			box_turn(&self->copy);
	}
	EXPECT_EQ(last, 1900u);
}

TEST_F(trouble, what_was_withdrawn_and_is_damaged_then_counts_once)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at, withdrawn[5];

	append(self, 10, 100);
	for (unsigned int i = 0; i < 5; ++i) {
		ASSERT_TRUE(journal_find(self->lane, i + 3, &withdrawn[i]));
		journal_withdraw(box->j, &withdrawn[i]);
	}
	for (unsigned int i = 0; i < 5; ++i)
		withdrawn[i].segment->map[withdrawn[i].offset + JOURNAL_RECORD_HEADER_BYTES] ^= 1;
	for (unsigned int i = 0; i < 2; ++i) {
		ASSERT_TRUE(box_send(box, &at));
		journal_mark_done(box->j, &at);
	}
	append(self, 1, 100);
	ASSERT_TRUE(box_send(box, &at));
	EXPECT_EQ(at.sequence, 8u);
	journal_mark_done(box->j, &at);
	EXPECT_EQ(journal_lane_n_records(self->lane), 3u);
	EXPECT_EQ(journal_lane_n_bytes(self->lane), 3 * journal_record_bytes(0, 100));
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 3u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

/* One bit of the newest state is wrong. */
static void spoil_state(const struct journal_box *box, const char *name, uint64_t id)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	_cleanup_(close_fd) int fd = open_segment(box, name);
	struct journal_state state;
	off_t at;

	ASSERT_EQ(pread(fd, header, sizeof(header), 0), (ssize_t)sizeof(header));
	journal_state_get(header, id, &state);
	at = (off_t)JOURNAL_STATE_AT(state.generation % 2) + 8;
	header[at] ^= 1;
	ASSERT_EQ(pwrite(fd, &header[at], 1, at), 1);
}

TEST_F(trouble, a_bit_of_the_state_after_going_on_with_a_segment)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;

	append(self, 10, 100);
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	self->lane = box_lane(box, 1, 0, 0);
	append(self, 50, 100);
	segment = segment_at(self->lane, 0);
	ASSERT_TRUE(segment == self->lane->active);
	copy_dir(self);
	spoil_state(&self->copy, segment->name, segment->identity.id);
	ASSERT_EQ(box_open(&self->copy), 0);
	EXPECT_EQ(box_drain(&self->copy), 60u);
}

TEST_F(trouble, what_is_done_with_can_be_written_before_the_turn_ends)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;

	append(self, 10, 100);
	for (int i = 0; i < 4; ++i) {
		ASSERT_TRUE(box_send(box, &at));
		if (i != 1)
			journal_mark_done(box->j, &at);
	}
	journal_flush_states(box->j);
	copy_dir(self);
	ASSERT_EQ(box_open(&self->copy), 0);
	EXPECT_EQ(box_drain(&self->copy), 7u);
}

/* --- what cannot be read ---------------------------------------------------------------------- */

/* Cuts the file of a segment, and makes it as long as it was again: pages that were read in between raised SIGBUS. */
static void cut_and_read(struct journal_box *box, struct journal_segment *segment, off_t n_bytes)
{
	_cleanup_(close_fd) int fd = open_segment(box, segment->name);
	volatile uint8_t *at = segment->map + n_bytes;

	ASSERT_EQ(ftruncate(fd, n_bytes), 0);
	(void)*at;
	ASSERT_EQ(ftruncate(fd, (off_t)segment->identity.size), 0);
}

TEST_F(trouble, a_tail_that_cannot_be_read_is_not_gone_on_with)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;

	append(self, 10, 100);
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	self->lane = box_lane(box, 1, 0, 0);
	segment = segment_at(self->lane, 0);
	ASSERT_EQ(lane_hold(segment), 0);
	cut_and_read(box, segment, 8192);
	append(self, 1, 100);
	EXPECT_TRUE(self->lane->active != segment);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_EQ(journal_stored(box->j), 11u);
}

/* The sender meets a page that cannot be read, in the segment that is appended to. What an append answers, and what a
 * sync of it answers, is true. */
static void append_after_a_hit(struct fixture_trouble *self)
{
	struct journal_box *box = &self->box;
	bool is_there = false;
	struct journal_cursor at;
	uint64_t last;

	if (box_append(box, self->lane, 0, 200))
		return;
	last = journal_appended(box->j);
	do
		if (box_sync(box))
			return;
	while (journal_stored(box->j) < last);
	copy_dir(self);
	ASSERT_EQ(box_open(&self->copy), 0);
	for (; journal_next_unsent(self->copy.j, &at); journal_mark_sent(self->copy.j, &at))
		is_there |= at.sequence == last;
	EXPECT_TRUE(is_there);
}

TEST_F(trouble, a_page_that_the_sender_cannot_read_while_a_sync_is_in_flight)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;
	struct journal_cursor at;

	append(self, 6, 1000);
	ASSERT_EQ(box_sync(box), 0);
	while (box_send(box, &at))
		;
	segment = self->lane->active;
	append(self, 1, 100);
	/* It is read, as one of an earlier daemon. */
	self->lane->next.is_resolved = false;
	journal_sync(box->j);
	for (int i = 0; i < 100 && loop_op_is_idle(&segment->sync); ++i)
		box_turn(box);
	ASSERT_FALSE(loop_op_is_idle(&segment->sync));
	cut_and_read(box, segment, 4096);
	EXPECT_FALSE(journal_next_unsent(box->j, &at));
	append_after_a_hit(self);
}

TEST_F(trouble, a_page_that_only_a_walk_read_while_a_sync_is_in_flight)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment = NULL;

	append(self, 6, 1000);
	segment = self->lane->active;
	journal_sync(box->j);
	for (int i = 0; i < 100 && loop_op_is_idle(&segment->sync); ++i)
		box_turn(box);
	ASSERT_FALSE(loop_op_is_idle(&segment->sync));
	cut_and_read(box, segment, 4096);
	EXPECT_LT(box_sync(box), 0);
	EXPECT_EQ(journal_stored(box->j), 0u);
	append_after_a_hit(self);
}

TEST_F(trouble, a_page_that_the_sender_cannot_read_and_a_file_that_cannot_be_written)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;
	struct journal_cursor at;
	char path[256];
	bool is_root = geteuid() == 0;

	append(self, 6, 1000);
	ASSERT_EQ(box_sync(box), 0);
	while (box_send(box, &at))
		;
	segment = self->lane->active;
	append(self, 1, 100);
	ASSERT_EQ(box_sync(box), 0);
	self->lane->next.is_resolved = false;
	cut_and_read(box, segment, 4096);
	snprintf(path, sizeof(path), "%s/%s", box->dir, segment->name);
	ASSERT_EQ(chmod(path, 0444), 0);
	ASSERT_EQ(chmod(box->dir, 0755), 0);
	if (is_root)
		ASSERT_EQ(setresuid(65534, 65534, 0), 0);
	EXPECT_FALSE(journal_next_unsent(box->j, &at));
	EXPECT_TRUE(segment->is_private && segment->is_failed);
	if (is_root)
		ASSERT_EQ(setresuid(0, 0, 0), 0);
	ASSERT_EQ(chmod(path, 0600), 0);
	append_after_a_hit(self);
}

TEST_F(trouble, an_error_is_over_when_nobody_syncs)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;

	append(self, 6, 1000);
	ASSERT_EQ(box_sync(box), 0);
	segment = self->lane->active;
	append(self, 1, 100);
	journal_sync(box->j);
	for (int i = 0; i < 100 && loop_op_is_idle(&segment->sync); ++i)
		box_turn(box);
	ASSERT_FALSE(loop_op_is_idle(&segment->sync));
	cut_and_read(box, segment, 4096);
	EXPECT_TRUE(box_wait_event(box, "disk-error"));
	EXPECT_TRUE(box_wait_event(box, "disk-ok"));
	EXPECT_STREQ(box->events, "disk-error disk-ok ");
}

TEST_F(trouble, what_is_to_be_synced_stays_open)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;

	append(self, 1, 100);
	segment = self->lane->active;
	ASSERT_EQ(box_drain(box), 1u);
	lane_close(self->lane);
	lane_unhold(segment);
	EXPECT_TRUE(segment->map);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_FALSE(segment->map);
}

/* --- files that cannot be opened -------------------------------------------------------------- */

/* What goes out until the lane is empty, with the journal's own retries. */
static uint64_t drain_all(struct fixture_trouble *self)
{
	struct journal_box *box = &self->box;
	uint64_t n = box_drain(box);

	for (unsigned int n_room = 0; journal_lane_n_records(self->lane) > 0;) {
		ASSERT_EQ(loop_turn(box->loop, 100 * NSEC_PER_MSEC), 0);
		if (box->n_room != n_room)
			n += box_drain(box);
		n_room = box->n_room;
	}
	return n;
}

static struct journal_stats stats_of(const struct journal_box *box)
{
	struct journal_stats stats;

	journal_stats(box->j, &stats);
	return stats;
}

/* In the place of the file is something that cannot be opened as one. */
static void replace_file(const struct journal_box *box, const char *name)
{
	char path[256], aside[300];

	snprintf(path, sizeof(path), "%s/%s", box->dir, name);
	snprintf(aside, sizeof(aside), "%s.aside", path);
	ASSERT_EQ(rename(path, aside), 0);
	ASSERT_EQ(symlink("nowhere", path), 0);
}

static void put_file_back(const struct journal_box *box, const char *name)
{
	char path[256], aside[300];

	snprintf(path, sizeof(path), "%s/%s", box->dir, name);
	snprintf(aside, sizeof(aside), "%s.aside", path);
	ASSERT_EQ(rename(aside, path), 0);
}

TEST_F_TIMEOUT(trouble, a_middle_file_that_is_gone, 60)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;
	uint64_t first, last, n;

	append(self, 1000, 1000);
	ASSERT_EQ(box_sync(box), 0);
	segment = segment_at(self->lane, 2);
	first = segment_at(self->lane, 1)->last_sequence + 1;
	last = segment->last_sequence;
	ASSERT_FALSE(segment->map);
	ASSERT_EQ(unlinkat(box->j->dir.fd, segment->name, 0), 0);
	n = drain_all(self);
	EXPECT_EQ(n, 1000 - (last - first + 1));
	EXPECT_EQ(box->n_lost, 1u);
	EXPECT_TRUE(box->lost_lane == self->lane);
	EXPECT_EQ(box->lost_last, last);
	/* Those before it may be in the air. */
	EXPECT_EQ(box->lost_first, first);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_GT(stats_of(box).n_damaged, 0u);
	EXPECT_EQ(stats_of(box).error, 0);
}

TEST_F_TIMEOUT(trouble, a_middle_file_that_can_never_be_opened_again, 60)
{
	struct journal_box *box = &self->box;
	struct journal_segment *segment;
	uint64_t n;

	append(self, 1000, 1000);
	ASSERT_EQ(box_sync(box), 0);
	segment = segment_at(self->lane, 2);
	replace_file(box, segment->name);
	n = box_drain(box);
	EXPECT_EQ(self->lane->n_read_errors, 1u);
	self->lane->n_read_errors = JOURNAL_READ_ATTEMPTS - 2;
	n += drain_all(self);
	EXPECT_LT(n, 1000u);
	EXPECT_EQ(n + stats_of(box).n_damaged, 1000u);
	EXPECT_EQ(stats_of(box).error, 0);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

TEST_F(trouble, a_middle_file_that_cannot_be_opened_for_a_moment)
{
	struct journal_box *box = &self->box;
	char name[JOURNAL_SEGMENT_NAME_SIZE];
	uint64_t n;

	append(self, 1000, 1000);
	ASSERT_EQ(box_sync(box), 0);
	strcpy(name, segment_at(self->lane, 2)->name);
	replace_file(box, name);
	n = box_drain(box);
	EXPECT_GT(n, 0u);
	EXPECT_LT(stats_of(box).error, 0);
	/* However often somebody asks. */
	for (int i = 0; i < 100; ++i)
		EXPECT_EQ(box_drain(box), 0u);
	put_file_back(box, name);
	EXPECT_EQ(n + drain_all(self), 1000u);
	EXPECT_EQ(stats_of(box).error, 0);
	EXPECT_STREQ(box->events, "disk-error disk-ok ");
}

/* No file of the journal can be opened, as if it were on another disk. */
static void disk_goes(struct journal_box *box)
{
	replace_file(box, JOURNAL_LOCK_NAME);
	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(box->j, lane));)
		list_for_each (link, &lane->segments)
			replace_file(box, segment_of_link(link)->name);
}

static void disk_comes(struct journal_box *box)
{
	put_file_back(box, JOURNAL_LOCK_NAME);
	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(box->j, lane));)
		list_for_each (link, &lane->segments)
			put_file_back(box, segment_of_link(link)->name);
}

TEST_F(trouble, a_disk_that_is_away_for_long)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;
	uint64_t n;

	append(self, 1000, 1000);
	ASSERT_EQ(box_sync(box), 0);
	disk_goes(box);
	n = box_drain(box);
	ASSERT_LT(n, 1000u);
	for (int i = 0; i < JOURNAL_READ_ATTEMPTS * 3; ++i) {
		self->lane->read_again_ns = 0;
		EXPECT_FALSE(journal_next_unsent(box->j, &at));
		lane_wake(self->lane);
	}
	EXPECT_LT(stats_of(box).error, 0);
	disk_comes(box);
	self->lane->read_again_ns = 0;
	EXPECT_EQ(n + box_drain(box), 1000u);
	EXPECT_EQ(stats_of(box).n_damaged, 0u);
	EXPECT_EQ(stats_of(box).error, 0);
}

/* The first page of records is zeros from now on. */
static void hit(struct fixture_trouble *self, struct journal_segment *segment)
{
	_cleanup_(close_fd) int fd = open_segment(&self->box, segment->name);

	ASSERT_EQ(ftruncate(fd, JOURNAL_HEADER_BYTES), 0);
	ASSERT_EQ(*(const volatile uint8_t *)(segment->map + JOURNAL_HEADER_BYTES), 0u);
}

/* What was sent, and is to be sent again. */
TEST_F(trouble, records_in_flight_when_the_disk_is_away)
{
	struct journal_box *box = &self->box;
	struct journal_record record;
	struct journal_cursor at[3];
	static uint8_t saved[65536];
	_cleanup_(close_fd) int fd = -1;

	append(self, 3, 1000);
	ASSERT_EQ(box_sync(box), 0);
	for (int i = 0; i < 3; ++i)
		ASSERT_TRUE(box_send(box, &at[i]));
	fd = open_segment(box, at[0].segment->name);
	ASSERT_EQ(pread(fd, saved, sizeof(saved), 0), (ssize_t)sizeof(saved));
	hit(self, at[0].segment);
	disk_goes(box);
	for (int i = 0; i < JOURNAL_READ_ATTEMPTS * 3; ++i) {
		self->lane->read_again_ns = 0;
		ASSERT_EQ(journal_read(&at[0], &record), -EIO);
	}
	disk_comes(box);
	ASSERT_EQ(pwrite(fd, saved, sizeof(saved), 0), (ssize_t)sizeof(saved));
	for (int i = 0; i < 3; ++i) {
		box_check(&at[i]);
		journal_mark_done(box->j, &at[i]);
	}
	EXPECT_EQ(stats_of(box).n_damaged, 0u);
	EXPECT_EQ(box->j->read_error, 0);
}

/* Each record that is given up was tried as often. */
TEST_F(trouble, records_in_flight_that_can_never_be_read_again)
{
	struct journal_box *box = &self->box;
	struct journal_record record;
	struct journal_cursor at[3];

	append(self, 3, 1000);
	ASSERT_EQ(box_sync(box), 0);
	for (int i = 0; i < 3; ++i)
		ASSERT_TRUE(box_send(box, &at[i]));
	hit(self, at[0].segment);
	replace_file(box, at[0].segment->name);
	for (int i = 0; i < 3; ++i) {
		for (int n = 1; n < JOURNAL_READ_ATTEMPTS; ++n) {
			self->lane->read_again_ns = 0;
			/* However often somebody asks. */
			for (int k = 0; k < 3; ++k)
				ASSERT_EQ(journal_read(&at[i], &record), -EIO);
		}
		self->lane->read_again_ns = 0;
		ASSERT_EQ(journal_read(&at[i], &record), -EBADMSG);
		journal_mark_done(box->j, &at[i]);
	}
	EXPECT_EQ(stats_of(box).n_damaged, 3u);
	EXPECT_EQ(box->j->read_error, 0);
}

TEST_F(trouble, no_descriptors_at_start)
{
	struct journal_box *box = &self->box;
	struct rlimit limit, small;
	struct journal_cursor at;

	append(self, 300, 1000);
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	self->lane = box_lane(box, 1, 0, 0);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	small = limit;
	small.rlim_cur = 3;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &small), 0);
	EXPECT_FALSE(journal_next_unsent(box->j, &at));
	/* For longer than a file that cannot be read is waited for. */
	for (int i = 0; i < JOURNAL_READ_ATTEMPTS * 2; ++i) {
		self->lane->read_again_ns = 0;
		EXPECT_FALSE(journal_first(self->lane, &at));
	}
	EXPECT_EQ(stats_of(box).error, -EMFILE);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	EXPECT_EQ(drain_all(self), 300u);
	EXPECT_EQ(stats_of(box).n_damaged, 0u);
	EXPECT_EQ(stats_of(box).error, 0);
}

TEST_F(trouble, what_is_withdrawn_while_the_disk_cannot_be_read)
{
	struct journal_box *box = &self->box;
	struct rlimit limit, small;
	struct journal_cursor near, far, found;

	append(self, 2000, 1000);
	ASSERT_EQ(box_sync(box), 0);
	ASSERT_TRUE(journal_find(self->lane, 200, &near));
	ASSERT_TRUE(journal_find(self->lane, 1500, &far));
	ASSERT_FALSE(near.segment->is_held || far.segment->is_held);
	journal_unpin(box->j);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	small = limit;
	small.rlim_cur = 3;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &small), 0);
	for (int i = 0; i < 2; ++i) {
		journal_withdraw(box->j, &near);
		journal_withdraw(box->j, &far);
	}
	/* A run, from its end as a write is taken back. */
	for (uint64_t i = 1700; i > 1600; --i) {
		EXPECT_FALSE(journal_find(self->lane, i, &found));
		EXPECT_TRUE(journal_withdraw_unfound(self->lane, i));
	}
	EXPECT_FALSE(journal_withdraw_unfound(self->lane, 2001));
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	EXPECT_EQ(box->j->n_unseen, 2u);
	EXPECT_EQ(journal_lane_n_records(self->lane), 1999u);
	/* Whoever sees one first. */
	EXPECT_FALSE(journal_find(self->lane, 200, &near));
	EXPECT_FALSE(journal_find(self->lane, 1650, &found));
	EXPECT_EQ(box_drain(box), 2000u - 2 - 100);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_EQ(journal_lane_n_records(self->lane), 0u);
	EXPECT_EQ(stats_of(box).n_damaged, 0u);
}

/* As many as can be remembered, and one more, in places that do not touch. */
TEST_F(trouble, more_is_withdrawn_unseen_than_is_remembered)
{
	struct journal_box *box = &self->box;
	struct rlimit limit, small;
	struct journal_cursor at;
	uint64_t n = 0;

	append(self, 5000, 100);
	ASSERT_TRUE(box_send(box, &at));
	journal_unpin(box->j);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	small = limit;
	small.rlim_cur = 3;
	ASSERT_EQ(box_sync(box), 0);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &small), 0);
	for (uint64_t i = 2000; i < 4000; i += 2)
		n += journal_withdraw_unfound(self->lane, i);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	EXPECT_GT(n, (uint64_t)JOURNAL_UNSEEN_MAX);
	EXPECT_EQ(box->j->n_unseen, (unsigned int)JOURNAL_UNSEEN_MAX);
	journal_mark_done(box->j, &at);
	EXPECT_EQ(box_drain(box), 4999u - JOURNAL_UNSEEN_MAX);
	EXPECT_EQ(box->j->n_unseen, 0u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_EQ(journal_lane_n_records(self->lane), 0u);
}

/* What is in the air is the hub's, whatever is asked for. */
TEST_F(trouble, what_was_sent_is_not_withdrawn_unseen)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;

	append(self, 2, 1000);
	ASSERT_TRUE(box_send(box, &at));
	unseen_add(box->j, at.segment, 1);
	unseen_add(box->j, at.segment, 2);
	box_check(&at);
	journal_mark_done(box->j, &at);
	/* That was as it was appended. */
	self->lane->next.is_resolved = false;
	EXPECT_FALSE(box_send(box, &at));
	EXPECT_EQ(journal_lane_n_records(self->lane), 0u);
}

/* --- what is withdrawn behind a record that stays --------------------------------------------- */

static void withdraw_last(struct fixture_trouble *self)
{
	struct journal_cursor at;

	ASSERT_TRUE(journal_find(self->lane, journal_appended(self->box.j), &at));
	journal_withdraw(self->box.j, &at);
}

static void open_small(struct fixture_trouble *self)
{
	box_close(&self->box);
	self->box.max_bytes = 1 << 20;
	ASSERT_EQ(box_open(&self->box), 0);
	self->lane = box_lane(&self->box, 1, 0, 0);
}

TEST_F(trouble, withdrawn_records_behind_one_that_stays_leave_the_disk)
{
	struct journal_box *box = &self->box;

	open_small(self);
	append(self, 1, 100);
	for (int i = 0; i < 3000; ++i) {
		append(self, 1, 4000);
		withdraw_last(self);
		if (i % 50 == 0)
			box_turn(box);
	}
	append(self, 1, 100);
	/* Files are deleted beside. */
	while (loop_n_in_flight(box->loop) > 0)
		ASSERT_EQ(loop_turn(box->loop, TIME_NEVER), 0);
	EXPECT_LT(stats_of(box).segment_bytes, UINT64_C(2) << 20);
	EXPECT_EQ(box_drain(box), 2u);
	EXPECT_EQ(stats_of(box).n_damaged, 0u);
}

TEST_F(trouble, the_disk_is_bounded_when_some_of_each_segment_stay)
{
	struct journal_box *box = &self->box;
	uint64_t n = 0, n_withdrawn = 0;
	unsigned int n_room;

	open_small(self);
	while (journal_has_room(box->j, 1, 4000)) {
		append(self, 1, n_withdrawn % 10 ? 4000 : 8);
		if (n_withdrawn++ % 10)
			withdraw_last(self);
		else
			++n;
		if (n_withdrawn % 50 == 0)
			box_turn(box);
	}
	EXPECT_LT(journal_n_bytes(box->j), UINT64_C(64) << 10);
	EXPECT_LT(stats_of(box).segment_bytes, UINT64_C(3) << 20);
	EXPECT_EQ(journal_reserve(self->lane, 1, 100), -ENOSPC);
	n_room = box->n_room;
	EXPECT_EQ(box_drain(box), n);
	EXPECT_GT(box->n_room, n_room);
	EXPECT_EQ(journal_reserve(self->lane, 1, 100), 0);
}

TEST_HARNESS_MAIN
