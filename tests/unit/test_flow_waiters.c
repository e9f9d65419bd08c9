/* SPDX-License-Identifier: MIT */
/*
 * Origins and waiters, behind one file of a tree without a kernel: a write parks for the records the test
 * names, an fsync for all so far.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/waiters.h"
#include "tests/support/fuse_line.h"

FIXTURE(waiters)
{
	struct loop *loop;
	struct waiters *w;
	struct fuse_tree *tree;
	struct fuse_line line;
	uint64_t node;
	uint64_t first, last; /* records of the next write */
	uint64_t stored;
	enum wait_level level;
};

static struct fixture_waiters *self_of(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static int file_open(struct fuse_file *file)
{
	struct origin *origin;
	int r = origin_open(self_of(file)->w, &origin);

	file->data = origin;
	return r;
}

static void file_release(struct fuse_file *file)
{
	origin_close(self_of(file)->w, file->data);
}

static ssize_t file_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			  struct bytes data)
{
	struct fixture_waiters *self = self_of(file);
	struct origin *origin = file->data;
	int r = waiters_make_room(self->w);

	(void)offset;
	if (r)
		return r;
	for (uint64_t i = self->first; i <= self->last; ++i)
		origin_appended(origin, i, self->stored);
	waiters_park_write(
		self->w, origin, req,
		&(struct wait_write){
			.level = self->level, .first = self->first, .last = self->last, .size = data.len});
	return FUSE_PARKED;
}

static int file_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	return waiters_park_sync(self_of(file)->w, file->data, req, datasync ? WAIT_STORED : WAIT_HUB);
}

static const struct fuse_file_ops file_ops = {
	.open = file_open,
	.release = file_release,
	.write = file_write,
	.fsync = file_fsync,
	.interrupt = waiters_interrupt,
};

static void new_waiters(struct fixture_waiters *self, uint64_t timeout_ns)
{
	const struct fuse_tree_options tree = {.loop = self->loop, .root_mode = 0755};
	const struct fuse_node_options file = {
		.name = "file", .mode = S_IFREG | 0222, .record = true, .ops = &file_ops, .userdata = self};
	struct fuse_node *node;

	ASSERT_EQ(waiters_new(&self->w, self->loop, timeout_ns), 0);
	ASSERT_EQ(fuse_tree_new(&self->tree, &tree), 0);
	ASSERT_EQ(fuse_node_add(&node, fuse_tree_root(self->tree), &file), 0);
	fuse_line_init(&self->line, self->tree);
	self->node = fuse_line_lookup(&self->line, "file");
}

FIXTURE_SETUP(waiters)
{
	const struct loop_options options = {0};

	self->level = WAIT_HUB;
	ASSERT_EQ(loop_new(&self->loop, &options), 0);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
}

FIXTURE_TEARDOWN(waiters)
{
	if (test_is_orphan())
		return;
	if (self->tree)
		fuse_tree_detach(self->tree);
	fuse_tree_free(self->tree);
	waiters_free(self->w);
	loop_free(self->loop);
}

static uint64_t open_file(struct fixture_waiters *self)
{
	return fuse_line_open(&self->line, self->node, O_WRONLY);
}

/* The origin that the next open gets: ids are slot and generation, counted from 1. */
static struct origin *origin_of(struct fixture_waiters *self, uint32_t slot, uint32_t generation)
{
	return origin_find(self->w, (uint64_t)generation << 32 | slot);
}

static uint64_t write_records(struct fixture_waiters *self, uint64_t fh, uint64_t first, uint64_t last)
{
	self->first = first;
	self->last = last;
	return fuse_line_write(&self->line, self->node, fh, O_SYNC, BYTES_LIT("12345"));
}

static int result(struct fixture_waiters *self, uint64_t unique)
{
	return fuse_line_result(&self->line, unique);
}

static uint64_t sync_file(struct fixture_waiters *self, uint64_t fh)
{
	return fuse_line_fsync(&self->line, self->node, fh);
}

static void turn_until_answered(struct fixture_waiters *self, uint64_t unique)
{
	while (result(self, unique) == FUSE_LINE_WAITS)
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
}

/* --- origins
 * --------------------------------------------------------------------------------------------------- */

TEST_F(waiters, an_origin_is_not_the_one_before_it)
{
	struct origin *a, *b, *again;
	uint64_t id;

	ASSERT_EQ(waiters_new(&self->w, self->loop, TIME_NEVER), 0);
	EXPECT_TRUE(origin_find(self->w, 0) == NULL);
	ASSERT_EQ(origin_open(self->w, &a), 0);
	ASSERT_EQ(origin_open(self->w, &b), 0);
	EXPECT_NE(a->id, b->id);
	EXPECT_NE(a->id, 0u);
	EXPECT_TRUE(origin_find(self->w, 0) == NULL);
	EXPECT_TRUE(origin_find(self->w, a->id) == a);
	EXPECT_TRUE(origin_find(self->w, b->id) == b);

	id = a->id;
	a->error = -EIO;
	a->refused = -EAGAIN;
	a->last_sequence = 7;
	origin_close(self->w, a);
	EXPECT_TRUE(origin_find(self->w, id) == NULL);
	ASSERT_EQ(origin_open(self->w, &again), 0);
	EXPECT_TRUE(again == a);
	EXPECT_NE(again->id, id);
	EXPECT_EQ(again->error, 0);
	EXPECT_EQ(again->refused, 0);
	EXPECT_EQ(again->last_sequence, 0u);
	EXPECT_TRUE(origin_find(self->w, id) == NULL);
	EXPECT_TRUE(origin_find(self->w, again->id) == again);
	EXPECT_TRUE(origin_find(self->w, UINT64_MAX) == NULL);
}

TEST_F(waiters, origins_are_bounded)
{
	struct origin *origin;

	ASSERT_EQ(waiters_new(&self->w, self->loop, TIME_NEVER), 0);
	for (size_t i = 0; i < ORIGINS_MAX; ++i)
		ASSERT_EQ(origin_open(self->w, &origin), 0);
	EXPECT_EQ(origin_open(self->w, &origin), -ENFILE);
	origin_close(self->w, origin_of(self, 77, 1));
	ASSERT_EQ(origin_open(self->w, &origin), 0);
	EXPECT_EQ((uint32_t)origin->id, 77u);
}

TEST_F(waiters, the_error_is_told_once)
{
	struct origin *origin;

	ASSERT_EQ(waiters_new(&self->w, self->loop, TIME_NEVER), 0);
	ASSERT_EQ(origin_open(self->w, &origin), 0);
	EXPECT_EQ(origin_take_error(origin), 0);
	origin->error = -EACCES;
	EXPECT_EQ(origin_take_error(origin), -EACCES);
	EXPECT_EQ(origin_take_error(origin), 0);
}

/* --- outcomes
 * -------------------------------------------------------------------------------------------------- */

TEST_F(waiters, a_write_waits_for_all_its_records)
{
	uint64_t fh, write;
	struct origin *origin;

	new_waiters(self, TIME_NEVER);
	fh = open_file(self);
	origin = origin_of(self, 0, 1);
	origin_appended(origin, 2, 0);
	write = write_records(self, fh, 3, 5);
	origin_appended(origin, 6, 0);
	EXPECT_FALSE(origin_waits_for(origin, 2, WAIT_HUB));
	EXPECT_TRUE(origin_waits_for(origin, 3, WAIT_HUB));
	EXPECT_TRUE(origin_waits_for(origin, 5, WAIT_HUB));
	EXPECT_FALSE(origin_waits_for(origin, 6, WAIT_HUB));
	/* In any order; others do not count. */
	origin_record_done(origin, 5, 0);
	origin_record_done(origin, 2, -EIO);
	origin_record_done(origin, 6, -EIO);
	origin_record_done(origin, 3, 0);
	EXPECT_EQ(result(self, write), FUSE_LINE_WAITS);
	origin_record_done(origin, 4, 0);
	EXPECT_EQ(result(self, write), 0);
	EXPECT_FALSE(origin_waits_for(origin, 4, WAIT_HUB));
	fuse_line_release(&self->line, self->node, fh);
}

TEST_F(waiters, the_first_error_wins)
{
	uint64_t fh, write;
	struct origin *origin;

	new_waiters(self, TIME_NEVER);
	fh = open_file(self);
	origin = origin_of(self, 0, 1);
	write = write_records(self, fh, 1, 3);
	origin_record_done(origin, 1, 0);
	origin_record_done(origin, 3, -EACCES);
	origin_record_done(origin, 2, -EINVAL);
	EXPECT_EQ(result(self, write), -EACCES);
}

TEST_F(waiters, writes_of_several_files)
{
	uint64_t a, b, writes[4];

	new_waiters(self, TIME_NEVER);
	a = open_file(self);
	b = open_file(self);
	writes[0] = write_records(self, a, 1, 1);
	writes[1] = write_records(self, b, 2, 2);
	writes[2] = write_records(self, a, 3, 3);
	writes[3] = write_records(self, b, 4, 4);
	origin_record_done(origin_of(self, 0, 1), 3, 0);
	origin_record_done(origin_of(self, 1, 1), 2, -EPERM);
	EXPECT_EQ(result(self, writes[0]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, writes[1]), -EPERM);
	EXPECT_EQ(result(self, writes[2]), 0);
	EXPECT_EQ(result(self, writes[3]), FUSE_LINE_WAITS);
	origin_record_done(origin_of(self, 0, 1), 1, 0);
	origin_record_done(origin_of(self, 1, 1), 4, 0);
	EXPECT_EQ(result(self, writes[0]), 0);
	EXPECT_EQ(result(self, writes[3]), 0);
}

TEST_F(waiters, a_sync_waits_for_the_records_of_its_file_only)
{
	uint64_t a, b, first, second, other;
	struct origin *origin;

	new_waiters(self, TIME_NEVER);
	a = open_file(self);
	b = open_file(self);
	origin = origin_of(self, 0, 1);
	origin_appended(origin, 1, 0);
	origin_appended(origin, 2, 0);
	first = sync_file(self, a);
	origin_appended(origin, 5, 0);
	second = sync_file(self, a);
	origin_appended(origin_of(self, 1, 1), 3, 0);
	other = sync_file(self, b);
	origin_record_done(origin, 2, 0);
	origin_record_done(origin_of(self, 1, 1), 3, 0);
	EXPECT_EQ(result(self, first), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, other), 0);
	/* Later records do not hold up an fsync that came before them. */
	origin->error = -EDQUOT;
	origin_record_done(origin, 1, -EDQUOT);
	EXPECT_EQ(result(self, first), -EDQUOT);
	EXPECT_EQ(result(self, second), FUSE_LINE_WAITS);
	origin_record_done(origin, 5, 0);
	EXPECT_EQ(result(self, second), 0);
}

TEST_F(waiters, parked_requests_are_bounded)
{
	static uint64_t uniques[WAITERS_MAX];
	uint64_t fh;

	new_waiters(self, TIME_NEVER);
	fh = open_file(self);
	for (uint64_t i = 0; i < WAITERS_MAX; ++i)
		uniques[i] = write_records(self, fh, i + 1, i + 1);
	EXPECT_EQ(result(self, uniques[WAITERS_MAX - 1]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, write_records(self, fh, WAITERS_MAX + 1, WAITERS_MAX + 1)), -ENOBUFS);
	EXPECT_EQ(result(self, sync_file(self, fh)), -ENOBUFS);
	origin_record_done(origin_of(self, 0, 1), 1, 0);
	EXPECT_EQ(result(self, uniques[0]), 0);
	EXPECT_EQ(result(self, write_records(self, fh, WAITERS_MAX + 1, WAITERS_MAX + 1)), FUSE_LINE_WAITS);
}

/* --- the disk --------------------------------------------------------------------------------- */

static uint64_t write_stored(struct fixture_waiters *self, uint64_t fh, uint64_t first, uint64_t last)
{
	self->level = WAIT_STORED;
	return write_records(self, fh, first, last);
}

static uint64_t datasync_file(struct fixture_waiters *self, uint64_t fh)
{
	const struct fuse_fsync_in in = {.fh = fh, .fsync_flags = FUSE_FSYNC_FDATASYNC};

	return fuse_line_request(&self->line, FUSE_FSYNC, self->node, &in, sizeof(in), BYTES("", 0));
}

TEST_F(waiters, a_commit_answers_who_came_before_it)
{
	uint64_t a, b, writes[3], data, hub;
	struct origin *origin;

	new_waiters(self, TIME_NEVER);
	a = open_file(self);
	b = open_file(self);
	origin = origin_of(self, 0, 1);
	hub = write_records(self, a, 1, 1);
	writes[0] = write_stored(self, a, 2, 3);
	writes[1] = write_stored(self, b, 4, 4);
	writes[2] = write_stored(self, b, 5, 6);
	/* Comes last, and waits for less than the others. */
	data = datasync_file(self, a);
	EXPECT_FALSE(origin_waits_for(origin, 2, WAIT_HUB));
	EXPECT_TRUE(origin_waits_for(origin, 2, WAIT_STORED));
	EXPECT_TRUE(origin_waits_for(origin, 1, WAIT_STORED));
	waiters_on_stored(self->w, 2);
	EXPECT_EQ(result(self, writes[0]), FUSE_LINE_WAITS);
	waiters_on_stored(self->w, 3);
	EXPECT_EQ(result(self, writes[0]), 0);
	EXPECT_EQ(result(self, data), 0);
	EXPECT_EQ(result(self, writes[1]), FUSE_LINE_WAITS);
	waiters_on_stored(self->w, 100);
	EXPECT_EQ(result(self, writes[1]), 0);
	EXPECT_EQ(result(self, writes[2]), 0);
	EXPECT_EQ(result(self, hub), FUSE_LINE_WAITS);
	origin_record_done(origin, 1, 0);
	EXPECT_EQ(result(self, hub), 0);
}

TEST_F(waiters, the_hub_has_it_before_the_disk)
{
	uint64_t fh, write, data;
	struct origin *origin;

	new_waiters(self, TIME_NEVER);
	fh = open_file(self);
	origin = origin_of(self, 0, 1);
	write = write_stored(self, fh, 1, 2);
	data = datasync_file(self, fh);
	origin_record_done(origin, 2, 0);
	EXPECT_EQ(result(self, write), FUSE_LINE_WAITS);
	origin_record_done(origin, 1, -EACCES);
	EXPECT_EQ(result(self, write), -EACCES);
	EXPECT_EQ(result(self, data), 0);
	waiters_on_stored(self->w, 2);
}

static void withdraw(void *userdata, struct fuse_file *file, const struct wait_write *write, int error)
{
	struct fixture_waiters *self = userdata;

	ASSERT_TRUE(file != NULL);
	ASSERT_EQ(error, -EIO);
	for (uint64_t i = write->first; i <= write->last; ++i)
		origin_record_done(origin_of(self, 0, 1), i, 0);
}

TEST_F(waiters, a_commit_that_fails)
{
	uint64_t fh, other, queued, writes[3], data[2];

	new_waiters(self, TIME_NEVER);
	fh = open_file(self);
	other = open_file(self);
	queued = open_file(self);
	writes[0] = write_stored(self, fh, 1, 2);
	waiters_on_stored(self->w, 2);
	/* One that begins before the end of the commit and ends behind it, and one behind it. */
	writes[1] = write_stored(self, fh, 3, 5);
	origin_appended(origin_of(self, 2, 1), 6, 2);
	writes[2] = write_stored(self, fh, 7, 7);
	origin_appended(origin_of(self, 1, 1), 8, 2);
	data[0] = datasync_file(self, fh);
	data[1] = datasync_file(self, other);
	waiters_on_not_stored(self->w, 6, -EIO, withdraw, self);
	EXPECT_EQ(result(self, writes[0]), 0);
	EXPECT_EQ(result(self, writes[1]), -EIO);
	EXPECT_EQ(result(self, writes[2]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, data[1]), FUSE_LINE_WAITS);
	EXPECT_EQ(origin_of(self, 2, 1)->error, -EIO);
	EXPECT_EQ(origin_of(self, 1, 1)->error, 0);
	waiters_on_stored(self->w, 8);
	EXPECT_EQ(result(self, writes[2]), 0);
	EXPECT_EQ(result(self, data[1]), 0);
	EXPECT_NE(result(self, data[0]), FUSE_LINE_WAITS);
	fuse_line_release(&self->line, self->node, queued);
}

/* --- time and signals
 * ------------------------------------------------------------------------------------------ */

TEST_F(waiters, interrupted)
{
	uint64_t fh, write, sync, other;
	struct origin *origin;

	new_waiters(self, 10 * NSEC_PER_SEC);
	fh = open_file(self);
	origin = origin_of(self, 0, 1);
	write = write_records(self, fh, 1, 1);
	other = write_records(self, fh, 2, 2);
	sync = sync_file(self, fh);
	fuse_line_interrupt(&self->line, write);
	EXPECT_EQ(result(self, write), -EINTR);
	EXPECT_FALSE(origin_waits_for(origin, 1, WAIT_HUB));
	/* Its outcome has nobody to go to. */
	origin_record_done(origin, 1, -EIO);
	fuse_line_interrupt(&self->line, sync);
	EXPECT_EQ(result(self, sync), -EINTR);
	/* Both places are used again. */
	sync = sync_file(self, fh);
	origin_record_done(origin, 2, 0);
	EXPECT_EQ(result(self, other), 0);
	EXPECT_EQ(result(self, sync), 0);
	fuse_line_interrupt(&self->line, write);
	fuse_line_release(&self->line, self->node, fh);
}

TEST_F(waiters, time_runs_out_in_order)
{
	uint64_t fh, uniques[3];

	new_waiters(self, 50 * NSEC_PER_MSEC);
	fh = open_file(self);
	for (uint64_t i = 0; i < 3; ++i) {
		uint64_t before_ns = loop_now_ns(self->loop);

		uniques[i] = write_records(self, fh, i + 1, i + 1);
		while (loop_now_ns(self->loop) < before_ns + 5 * NSEC_PER_MSEC)
			ASSERT_EQ(loop_turn(self->loop, NSEC_PER_MSEC), 0);
	}
	turn_until_answered(self, uniques[0]);
	EXPECT_EQ(result(self, uniques[0]), -ETIMEDOUT);
	/* The one in between has its outcome in time; the timer that was meant for it does no harm. */
	if (result(self, uniques[1]) == FUSE_LINE_WAITS) {
		origin_record_done(origin_of(self, 0, 1), 2, 0);
		EXPECT_EQ(result(self, uniques[1]), 0);
	}
	turn_until_answered(self, uniques[2]);
	EXPECT_EQ(result(self, uniques[2]), -ETIMEDOUT);
	EXPECT_LT(fuse_line_number(&self->line, uniques[0]), fuse_line_number(&self->line, uniques[1]));
	EXPECT_LT(fuse_line_number(&self->line, uniques[1]), fuse_line_number(&self->line, uniques[2]));
	/* Too late, and told nobody. */
	origin_record_done(origin_of(self, 0, 1), 1, 0);
	/* The timer is set anew for the next one. */
	uniques[0] = write_records(self, fh, 4, 4);
	turn_until_answered(self, uniques[0]);
	EXPECT_EQ(result(self, uniques[0]), -ETIMEDOUT);
}

TEST_F(waiters, a_sync_tells_the_last_refusal_when_time_runs_out)
{
	uint64_t fh, sync, write;
	struct origin *origin;

	new_waiters(self, 20 * NSEC_PER_MSEC);
	fh = open_file(self);
	origin = origin_of(self, 0, 1);
	write = write_records(self, fh, 1, 1);
	sync = sync_file(self, fh);
	origin->refused = -EDQUOT;
	turn_until_answered(self, sync);
	EXPECT_EQ(result(self, sync), -EDQUOT);
	EXPECT_EQ(result(self, write), -ETIMEDOUT);
	origin->refused = 0;
	sync = sync_file(self, fh);
	turn_until_answered(self, sync);
	EXPECT_EQ(result(self, sync), -ETIMEDOUT);
}

/* Of several records one had an error. */
TEST_F(waiters, an_error_says_more_than_the_clock)
{
	struct origin *origin;
	uint64_t fh, write, sync;

	new_waiters(self, 20 * NSEC_PER_MSEC);
	fh = open_file(self);
	origin = origin_of(self, 0, 1);
	write = write_records(self, fh, 1, 2);
	origin_record_done(origin, 1, -EINVAL);
	turn_until_answered(self, write);
	EXPECT_EQ(result(self, write), -EINVAL);
	sync = sync_file(self, fh);
	origin->error = -EACCES;
	turn_until_answered(self, sync);
	EXPECT_EQ(result(self, sync), -EACCES);
	EXPECT_EQ(origin_take_error(origin), 0);
}

/* A commit or the clock comes between the loss and who tells of it. */
TEST_F(waiters, a_lost_record_is_no_success)
{
	uint64_t a, b, writes[3];

	new_waiters(self, 20 * NSEC_PER_MSEC);
	a = open_file(self);
	b = open_file(self);
	writes[0] = write_records(self, a, 1, 1);
	self->level = WAIT_STORED;
	writes[1] = write_records(self, b, 2, 3);
	writes[2] = write_records(self, b, 4, 4);
	EXPECT_FALSE(waiters_have_lost(self->w));
	waiters_on_lost(self->w, NULL, 0, 1, 2);
	EXPECT_TRUE(waiters_have_lost(self->w));
	for (int i = 0; i < 3; ++i)
		EXPECT_EQ(result(self, writes[i]), FUSE_LINE_WAITS);
	waiters_on_stored(self->w, 4);
	EXPECT_EQ(result(self, writes[1]), -EIO);
	EXPECT_EQ(result(self, writes[2]), 0);
	turn_until_answered(self, writes[0]);
	EXPECT_EQ(result(self, writes[0]), -EIO);
}

TEST_F(waiters, the_end_of_the_connection_frees_everybody)
{
	uint64_t fh, write, sync;

	new_waiters(self, 10 * NSEC_PER_SEC);
	fh = open_file(self);
	write = write_records(self, fh, 1, 1);
	sync = sync_file(self, fh);
	fuse_tree_detach(self->tree);
	EXPECT_EQ(result(self, write), -ECONNABORTED);
	EXPECT_EQ(result(self, sync), -ECONNABORTED);
	fuse_tree_attach(self->tree, &self->line.transport);
}

TEST_HARNESS_MAIN
