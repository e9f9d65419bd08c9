/* SPDX-License-Identifier: MIT */
/*
 * What writers wait for: the disk, the hub, and room in a queue that is full.
 */

#include <fcntl.h>
#include <poll.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "flow/telemetry_internal.h"
#include "tests/support/files_line.h"

#define QUEUE_BYTES (1 << 20)
#define BLOCK       (16 * 1024)

FIXTURE(levels)
{
	struct files_line rig;
	uint64_t lines, raw, whole; /* nodes, as they were at the start */
	char block[BLOCK];
};

FIXTURE_SETUP(levels)
{
	(void)self;
}

FIXTURE_TEARDOWN(levels)
{
	files_line_deinit(&self->rig);
}

static void rig(struct fixture_levels *self, bool is_durable, uint64_t timeout_ns)
{
	const struct files_line_options options = {
		.queue_bytes = QUEUE_BYTES, .is_durable = is_durable, .timeout_ns = timeout_ns};

	files_line_init(&self->rig, &options);
	self->lines = fuse_line_lookup(&self->rig.line, "telemetry");
	self->raw = fuse_line_lookup(&self->rig.line, "telemetry.raw");
	self->whole = fuse_line_lookup(&self->rig.line, "telemetry.file");
}

static uint64_t open_raw(struct fixture_levels *self)
{
	return fuse_line_open(&self->rig.line, self->raw, O_WRONLY);
}

static uint64_t write_raw(struct fixture_levels *self, uint64_t fh, uint32_t flags, const char *text)
{
	return fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY | flags, bytes_from_str(text));
}

static int result(struct fixture_levels *self, uint64_t unique)
{
	return fuse_line_result(&self->rig.line, unique);
}

/* fdatasync(2). */
static uint64_t datasync(struct fixture_levels *self, uint64_t node, uint64_t fh)
{
	const struct fuse_fsync_in in = {.fh = fh, .fsync_flags = FUSE_FSYNC_FDATASYNC};

	return fuse_line_request(&self->rig.line, FUSE_FSYNC, node, &in, sizeof(in), BYTES("", 0));
}

/* --- stored ----------------------------------------------------------------------------------- */

TEST_F(levels, stored_needs_no_hub)
{
	struct channel *channel;
	uint64_t fh, writes[3];

	rig(self, true, 0);
	channel = files_line_default(&self->rig);
	fh = open_raw(self);
	writes[0] = write_raw(self, fh, O_DSYNC, "1");
	writes[1] = write_raw(self, fh, 0, "2");
	writes[2] = write_raw(self, fh, O_SYNC, "3");
	EXPECT_EQ(result(self, writes[0]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, writes[1]), 0);
	EXPECT_EQ(files_line_await(&self->rig, writes[0]), 0);
	EXPECT_EQ(result(self, writes[2]), FUSE_LINE_WAITS);
	EXPECT_GE(channel->stats.n_stored, 1u);
	files_line_await_stored(&self->rig);
	EXPECT_EQ(channel->stats.n_stored, 3u);
	EXPECT_EQ(channel->stats.n_appended, 3u);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "1", false);
	files_line_expect(&self->rig, "2", false);
	files_line_expect(&self->rig, "3", false);
	EXPECT_EQ(result(self, writes[2]), 0);
}

TEST_F(levels, the_channel_says_what_a_write_waits_for)
{
	struct channel *channel;
	uint64_t fh, u;

	rig(self, true, 0);
	channel = files_line_default(&self->rig);
	fh = open_raw(self);
	ASSERT_EQ(channel_set_ack(channel, CHANNEL_ACK_STORED), 0);
	u = write_raw(self, fh, 0, "1");
	EXPECT_EQ(result(self, u), FUSE_LINE_WAITS);
	EXPECT_EQ(files_line_await(&self->rig, u), 0);
	ASSERT_EQ(channel_set_ack(channel, CHANNEL_ACK_HUB), 0);
	/* Never less than the channel's. */
	u = write_raw(self, fh, O_DSYNC, "2");
	files_line_await_stored(&self->rig);
	EXPECT_EQ(result(self, u), FUSE_LINE_WAITS);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "1", false);
	files_line_expect(&self->rig, "2", false);
	EXPECT_EQ(result(self, u), 0);
}

TEST_F(levels, what_the_hub_has_is_stored)
{
	uint64_t fh, write, sync;

	rig(self, true, 0);
	fh = open_raw(self);
	files_line_online(&self->rig, false);
	/* Not a turn for the commit to end in. */
	write = write_raw(self, fh, O_DSYNC, "1");
	sync = datasync(self, self->raw, fh);
	telemetry_on_writable(self->rig.telemetry);
	mqtt_session_sent(self->rig.hub.link->session, 0, 0);
	telemetry_on_puback(self->rig.telemetry, 0, &(struct hub_status){.class = HUB_SUCCESS},
			    BYTES(NULL, 0));
	EXPECT_EQ(result(self, write), 0);
	EXPECT_EQ(result(self, sync), 0);
}

TEST_F(levels, a_queue_in_memory_waits_for_the_hub)
{
	uint64_t fh, write, sync;

	rig(self, false, 0);
	fh = open_raw(self);
	write = write_raw(self, fh, O_DSYNC, "1");
	sync = datasync(self, self->raw, fh);
	files_line_turn(&self->rig);
	EXPECT_EQ(result(self, write), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, sync), FUSE_LINE_WAITS);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "1", false);
	EXPECT_EQ(result(self, write), 0);
	EXPECT_EQ(result(self, sync), 0);
}

TEST_F(levels, fdatasync_waits_for_the_disk_and_fsync_for_the_hub)
{
	uint64_t fh, data, sync;

	rig(self, true, 0);
	fh = fuse_line_open(&self->rig.line, self->whole, O_WRONLY);
	fuse_line_write(&self->rig.line, self->whole, fh, O_WRONLY, BYTES_LIT("x"));
	data = datasync(self, self->whole, fh);
	sync = fuse_line_fsync(&self->rig.line, self->whole, fh);
	EXPECT_EQ(files_line_await(&self->rig, data), 0);
	EXPECT_EQ(result(self, sync), FUSE_LINE_WAITS);
	/* Nothing new. */
	EXPECT_EQ(result(self, datasync(self, self->whole, fh)), 0);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "x", false);
	EXPECT_EQ(result(self, sync), 0);
}

TEST_F(levels, no_disk_in_time)
{
	uint64_t fh, write;

	rig(self, true, 20 * NSEC_PER_MSEC);
	fh = open_raw(self);
	write = write_raw(self, fh, O_SYNC, "1");
	EXPECT_EQ(files_line_await(&self->rig, write), -ETIMEDOUT);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
}

/* What is queued still goes out; then the kernel has nobody to ask any more. */
TEST_F(levels, the_daemon_stops)
{
	uint64_t fh, other, writes[2], sync;

	rig(self, true, 0);
	fh = open_raw(self);
	other = open_raw(self);
	files_line_online(&self->rig, false);
	writes[0] = write_raw(self, fh, O_SYNC, "1");
	writes[1] = write_raw(self, other, O_SYNC, "2");
	sync = fuse_line_fsync(&self->rig.line, self->raw, fh);
	telemetry_close(self->rig.telemetry);
	EXPECT_EQ(result(self, write_raw(self, fh, O_SYNC, "3")), -ESHUTDOWN);
	files_line_expect(&self->rig, "1", false);
	EXPECT_EQ(result(self, writes[0]), 0);
	EXPECT_EQ(result(self, sync), 0);
	sync = fuse_line_fsync(&self->rig.line, self->raw, other);
	EXPECT_EQ(result(self, writes[1]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, sync), FUSE_LINE_WAITS);
	fuse_tree_detach(self->rig.tree);
	EXPECT_EQ(result(self, writes[1]), -ECONNABORTED);
	EXPECT_EQ(result(self, sync), -ECONNABORTED);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
}

/* --- a disk that fails: what the journal says is said by hand ------------------------------------- */

TEST_F(levels, what_cannot_be_stored_was_not_taken)
{
	uint64_t fh, other, writes[3], sync;
	uint64_t failed;

	rig(self, true, 0);
	fh = open_raw(self);
	other = open_raw(self);
	writes[0] = write_raw(self, fh, 0, "queued");
	writes[1] = write_raw(self, fh, O_DSYNC, "stored");
	writes[2] = write_raw(self, other, O_SYNC, "hub");
	sync = datasync(self, self->raw, other);
	failed = journal_appended(self->rig.journal);
	telemetry_on_stored(self->rig.telemetry, failed, -EIO);
	EXPECT_EQ(result(self, writes[0]), 0);
	EXPECT_EQ(result(self, writes[1]), -EIO);
	EXPECT_EQ(result(self, writes[2]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, sync), -EIO);
	EXPECT_EQ(files_line_n_queued(&self->rig), 2u);
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_appended, 2u);
	/* Once, and to whom it concerns. */
	EXPECT_EQ(result(self, datasync(self, self->raw, fh)), -EIO);
	EXPECT_NE(result(self, datasync(self, self->raw, fh)), -EIO);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "queued", false);
	files_line_expect(&self->rig, "hub", false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(result(self, writes[2]), 0);
}

TEST_F(levels, what_could_not_be_stored_never_counts_as_stored)
{
	struct channel *channel;
	uint64_t fh, write;

	rig(self, true, 0);
	channel = files_line_default(&self->rig);
	fh = open_raw(self);
	for (int i = 0; i < 5; ++i)
		EXPECT_EQ(result(self, write_raw(self, fh, 0, "failed")), 0);
	telemetry_on_stored(self->rig.telemetry, journal_appended(self->rig.journal), -EIO);
	EXPECT_EQ(channel->stats.n_stored, 0u);
	write = write_raw(self, fh, O_DSYNC, "stored");
	EXPECT_EQ(files_line_await(&self->rig, write), 0);
	EXPECT_EQ(channel->stats.n_stored, 1u);
	EXPECT_EQ(channel->stats.n_appended, 6u);
}

/* What comes while a commit is under way is the next one's, whose error is not that of the first. */
TEST_F(levels, what_comes_during_a_commit_counts_with_the_next)
{
	struct journal *j;
	struct channel *channel;
	uint64_t fh, write, next;

	rig(self, true, 0);
	j = self->rig.journal;
	channel = files_line_default(&self->rig);
	fh = open_raw(self);
	write = write_raw(self, fh, O_DSYNC, "1");
	while (journal_committed_last(j) == 0)
		ASSERT_EQ(loop_turn(self->rig.hub.loop, TIME_NEVER), 0);
	next = write_raw(self, fh, 0, "2");
	EXPECT_EQ(result(self, next), 0);
	EXPECT_EQ(files_line_await(&self->rig, write), 0);
	EXPECT_EQ(channel->stats.n_stored, 1u);
	next = write_raw(self, fh, O_DSYNC, "3");
	telemetry_on_stored(self->rig.telemetry, journal_appended(j), -EIO);
	EXPECT_EQ(result(self, next), -EIO);
	EXPECT_EQ(channel->stats.n_stored, 1u);
	EXPECT_EQ(channel->stats.n_appended, 2u);
	EXPECT_EQ(files_line_await(&self->rig, write_raw(self, fh, O_DSYNC, "4")), 0);
	EXPECT_EQ(channel->stats.n_stored, 2u);
}

/* In a time that grows with their number, not with its square: that would be minutes, in which nothing else is served. */
TEST_F(levels, many_lines_that_cannot_be_stored)
{
	const struct files_line_options options = {.queue_bytes = 64 << 20, .is_durable = true};
	static char lines[131072];
	uint64_t node, fh, u;

	for (size_t i = 0; i < sizeof(lines); ++i)
		lines[i] = i % 2 ? '\n' : 'a';
	files_line_init(&self->rig, &options);
	node = fuse_line_lookup(&self->rig.line, "telemetry");
	fh = fuse_line_open(&self->rig.line, node, O_WRONLY);
	u = fuse_line_write(&self->rig.line, node, fh, O_WRONLY, BYTES_LIT("first\n"));
	EXPECT_EQ(result(self, u), 0);
	u = fuse_line_write(&self->rig.line, node, fh, O_WRONLY | O_DSYNC, BYTES(lines, sizeof(lines)));
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u + sizeof(lines) / 2);
	telemetry_on_stored(self->rig.telemetry, journal_appended(self->rig.journal), -EIO);
	EXPECT_EQ(result(self, u), -EIO);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_appended, 1u);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "first", false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(levels, what_was_sent_is_not_taken_back)
{
	uint64_t fh, write;
	uint16_t id;

	rig(self, true, 0);
	fh = open_raw(self);
	files_line_online(&self->rig, false);
	write = write_raw(self, fh, O_DSYNC, "1");
	telemetry_on_writable(self->rig.telemetry);
	telemetry_on_stored(self->rig.telemetry, journal_appended(self->rig.journal), -EIO);
	EXPECT_EQ(result(self, write), -EIO);
	id = files_line_expect(&self->rig, "1", true);
	files_line_puback(&self->rig, id, 0, NULL);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

/* It is in no queue then. */
TEST_F(levels, what_the_hub_refuses_to_who_waits_is_counted)
{
	const struct channel_stats *stats;
	struct telemetry_stats all;
	uint64_t write;

	rig(self, true, 0);
	stats = &files_line_default(&self->rig)->stats;
	files_line_online(&self->rig, false);
	write = write_raw(self, open_raw(self), O_SYNC, "1");
	files_line_puback(&self->rig, files_line_expect(&self->rig, "1", true), 0x97, "0501");
	EXPECT_EQ(result(self, write), -EAGAIN);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_EQ(stats->n_appended, 1u);
	EXPECT_EQ(stats->n_rejected, 1u);
	telemetry_stats(self->rig.telemetry, &all);
	EXPECT_EQ(all.n_rejected, 1u);
	EXPECT_EQ(self->rig.n_rejected, 0u);
}

static int write_lines(struct fixture_levels *self, uint64_t fh, uint32_t flags, const char *text)
{
	return result(self, fuse_line_write(&self->rig.line, self->lines, fh, O_WRONLY | flags,
					    bytes_from_str(text)));
}

/* A write that completes one line and begins another, and cannot be stored. */
static uint64_t fail_in_the_middle(struct fixture_levels *self)
{
	uint64_t fh, u;

	rig(self, true, 0);
	fh = fuse_line_open(&self->rig.line, self->lines, O_WRONLY);
	EXPECT_EQ(write_lines(self, fh, 0, "the beginning"), 0);
	u = fuse_line_write(&self->rig.line, self->lines, fh, O_WRONLY | O_DSYNC,
			    BYTES_LIT(" of a\nb\nrest"));
	EXPECT_EQ(result(self, u), FUSE_LINE_WAITS);
	telemetry_on_stored(self->rig.telemetry, journal_appended(self->rig.journal), -EIO);
	EXPECT_EQ(result(self, u), -EIO);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	return fh;
}

TEST_F(levels, a_write_that_was_not_stored_can_be_repeated)
{
	uint64_t fh = fail_in_the_middle(self);

	EXPECT_EQ(write_lines(self, fh, 0, " of a\nb\nrest"), 0);
	EXPECT_EQ(write_lines(self, fh, 0, " of it\n"), 0);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "the beginning of a", false);
	files_line_expect(&self->rig, "b", false);
	files_line_expect(&self->rig, "rest of it", false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(levels, who_does_not_repeat_it_leaves_no_line_with_a_hole)
{
	uint64_t fh = fail_in_the_middle(self);

	EXPECT_EQ(write_lines(self, fh, 0, " of it\n"), -EIO);
	EXPECT_EQ(write_lines(self, fh, 0, "next\n"), 0);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "next", false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(levels, a_line_that_went_on_meanwhile_is_refused_to_its_end)
{
	uint64_t fh, u;

	rig(self, true, 0);
	fh = fuse_line_open(&self->rig.line, self->lines, O_WRONLY);
	u = fuse_line_write(&self->rig.line, self->lines, fh, O_WRONLY | O_DSYNC, BYTES_LIT("a\nrest"));
	EXPECT_EQ(write_lines(self, fh, 0, " of it"), 0);
	telemetry_on_stored(self->rig.telemetry, journal_appended(self->rig.journal), -EIO);
	EXPECT_EQ(result(self, u), -EIO);
	EXPECT_EQ(write_lines(self, fh, 0, ", the end\n"), -EIO);
	EXPECT_EQ(write_lines(self, fh, 0, "next\n"), 0);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "next", false);
	files_line_expect_none(&self->rig);
}

/* --- blocked ---------------------------------------------------------------------------------- */

/* Fills the queue with blocks; the channel blocks from then on. */
static void fill(struct fixture_levels *self)
{
	uint64_t fh = open_raw(self);
	size_t n = sizeof(self->block);

	while (n > 64) {
		uint64_t u = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY, BYTES(self->block, n));

		n = result(self, u) ? n / 2 : n;
	}
	fuse_line_release(&self->rig.line, self->raw, fh);
	ASSERT_EQ(channel_set_when_full(files_line_default(&self->rig), CHANNEL_FULL_BLOCK), 0);
}

/* The hub takes the first record. */
static void take_one(struct fixture_levels *self)
{
	static uint64_t taken;

	files_line_take(&self->rig, ++taken);
	files_line_turn(&self->rig);
}

TEST_F(levels, blocked_writes_go_on_in_the_order_they_came)
{
	uint64_t a, b, writes[4];

	rig(self, false, 0);
	fill(self);
	a = open_raw(self);
	b = open_raw(self);
	writes[0] = fuse_line_write(&self->rig.line, self->raw, a, O_WRONLY, BYTES(self->block, BLOCK));
	writes[1] = fuse_line_write(&self->rig.line, self->raw, b, O_WRONLY, BYTES(self->block, BLOCK));
	/* Small, and not first. */
	writes[2] = write_raw(self, a, 0, "x");
	EXPECT_EQ(result(self, write_raw(self, b, O_NONBLOCK, "y")), -EAGAIN);
	writes[3] = write_raw(self, b, O_SYNC, "z");
	for (int i = 0; i < 4; ++i)
		EXPECT_EQ(result(self, writes[i]), FUSE_LINE_WAITS);
	EXPECT_EQ(fuse_line_poll(&self->rig.line, self->raw, a) & POLLOUT, 0u);
	while (result(self, writes[0]) == FUSE_LINE_WAITS)
		take_one(self);
	EXPECT_EQ(result(self, writes[1]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, writes[2]), FUSE_LINE_WAITS);
	files_line_take(&self->rig, journal_appended(self->rig.journal));
	files_line_turn(&self->rig);
	for (int i = 0; i < 3; ++i)
		EXPECT_EQ(result(self, writes[i]), 0);
	/* Taken, and waits for the hub now. */
	EXPECT_EQ(result(self, writes[3]), FUSE_LINE_WAITS);
	EXPECT_NE(fuse_line_poll(&self->rig.line, self->raw, a) & POLLOUT, 0u);
	files_line_take(&self->rig, journal_appended(self->rig.journal));
	EXPECT_EQ(result(self, writes[3]), 0);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(levels, an_interrupted_writer_leaves_nothing)
{
	static char large[2 * BLOCK];
	uint64_t fh, other, write, small;

	rig(self, false, 0);
	fill(self);
	fh = open_raw(self);
	other = open_raw(self);
	write = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY, BYTES(large, sizeof(large)));
	small = write_raw(self, other, 0, "x");
	EXPECT_EQ(result(self, small), FUSE_LINE_WAITS);
	take_one(self);
	fuse_line_interrupt(&self->rig.line, write);
	EXPECT_EQ(result(self, write), -EINTR);
	/* Who came behind it needs less. */
	files_line_turn(&self->rig);
	EXPECT_EQ(result(self, small), 0);
	files_line_take(&self->rig, UINT64_MAX);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

static int write_file(struct fixture_levels *self, uint64_t node, uint64_t fh, uint32_t flags,
		      const char *text)
{
	return result(self,
		      fuse_line_write(&self->rig.line, node, fh, O_WRONLY | flags, bytes_from_str(text)));
}

/* More than is promised to a small piece. */
static const char *long_text(const char *head, const char *tail)
{
	static char text[8000];

	snprintf(text, sizeof(text), "%s%06000d%s", head, 1, tail);
	return text;
}

static void come_again(struct fixture_levels *self, uint64_t node)
{
	struct journal_record record;
	struct journal_cursor at;
	uint64_t fh, write;

	fh = fuse_line_open(&self->rig.line, node, O_WRONLY);
	EXPECT_EQ(write_file(self, node, fh, 0, "HEAD-"), 0);
	fill(self);
	EXPECT_EQ(write_file(self, node, fh, O_NONBLOCK, long_text("", "")), -EAGAIN);
	EXPECT_EQ(write_file(self, node, fh, O_NONBLOCK, long_text("", "-two\n")), -EAGAIN);
	write = fuse_line_write(&self->rig.line, node, fh, O_WRONLY, bytes_from_str(long_text("", "")));
	EXPECT_EQ(result(self, write), FUSE_LINE_WAITS);
	fuse_line_interrupt(&self->rig.line, write);
	EXPECT_EQ(result(self, write), -EINTR);
	files_line_take(&self->rig, UINT64_MAX);
	EXPECT_EQ(write_file(self, node, fh, O_NONBLOCK, long_text("", "-two\n")), 0);
	fuse_line_release(&self->rig.line, node, fh);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
	ASSERT_TRUE(journal_first(files_line_default(&self->rig)->lane, &at));
	ASSERT_EQ(journal_read(&at, &record), 0);
	EXPECT_TRUE(
		bytes_equal_str(record.payload, long_text("HEAD-", node == self->lines ? "-two" : "-two\n")));
}

TEST_F(levels, who_comes_again_with_more_of_a_line_leaves_no_hole)
{
	rig(self, false, 0);
	come_again(self, self->lines);
}

TEST_F(levels, who_comes_again_with_more_of_a_file_leaves_no_hole)
{
	rig(self, false, 0);
	come_again(self, self->whole);
}

TEST_F(levels, an_interrupted_piece_of_a_line_was_not_written)
{
	uint64_t fh, write;

	rig(self, false, 0);
	fh = fuse_line_open(&self->rig.line, self->lines, O_WRONLY);
	fill(self);
	write = fuse_line_write(&self->rig.line, self->lines, fh, O_WRONLY, BYTES_LIT("first "));
	EXPECT_EQ(result(self, write), FUSE_LINE_WAITS);
	fuse_line_interrupt(&self->rig.line, write);
	EXPECT_EQ(result(self, write), -EINTR);
	files_line_take(&self->rig, UINT64_MAX);
	EXPECT_EQ(write_file(self, self->lines, fh, 0, "second\n"), 0);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "second", false);
	files_line_expect_none(&self->rig);
}

/* --- blocked, with nothing in the queue ------------------------------------------------------- */

static char piece[250000];

static uint64_t open_blocking(struct fixture_levels *self, uint64_t node)
{
	EXPECT_EQ(channel_set_when_full(files_line_default(&self->rig), CHANNEL_FULL_BLOCK), 0);
	return fuse_line_open(&self->rig.line, node, O_WRONLY);
}

static uint64_t write_piece(struct fixture_levels *self, uint64_t node, uint64_t fh, size_t len)
{
	uint64_t write;

	memset(piece, 'p', sizeof(piece));
	write = fuse_line_write(&self->rig.line, node, fh, O_WRONLY, BYTES(piece, len));
	files_line_turn(&self->rig);
	return write;
}

TEST_F(levels, files_that_block_do_not_wait_for_one_another)
{
	uint64_t fh[5], writes[5];

	rig(self, false, 0);
	for (int i = 0; i < 5; ++i) {
		fh[i] = open_blocking(self, self->whole);
		writes[i] = write_piece(self, self->whole, fh[i], 10000);
	}
	for (int i = 0; i < 3; ++i) {
		EXPECT_EQ(result(self, writes[i]), 0);
		EXPECT_NE(fuse_line_poll(&self->rig.line, self->whole, fh[i]) & POLLOUT, 0u);
		EXPECT_EQ(result(self, write_piece(self, self->whole, fh[i], 240000)), 0);
	}
	EXPECT_EQ(result(self, writes[3]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, writes[4]), FUSE_LINE_WAITS);
	for (int i = 0; i < 3; ++i)
		fuse_line_release(&self->rig.line, self->whole, fh[i]);
	files_line_take(&self->rig, UINT64_MAX);
	files_line_turn(&self->rig);
	for (int i = 3; i < 5; ++i) {
		EXPECT_EQ(result(self, writes[i]), 0);
		fuse_line_release(&self->rig.line, self->whole, fh[i]);
	}
	files_line_take(&self->rig, UINT64_MAX);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(levels, of_lines_that_wait_for_one_another_one_fails)
{
	uint64_t fh[5], writes[5];

	rig(self, false, 0);
	for (int i = 0; i < 5; ++i) {
		fh[i] = open_blocking(self, self->lines);
		writes[i] = write_piece(self, self->lines, fh[i], i == 4 ? 240000 : 200000);
		EXPECT_EQ(result(self, writes[i]), 0);
	}
	for (int i = 0; i < 5; ++i) {
		writes[i] = write_piece(self, self->lines, fh[i], 10000);
		if (i < 4)
			EXPECT_EQ(result(self, writes[i]), FUSE_LINE_WAITS);
	}
	EXPECT_EQ(result(self, writes[0]), -ENOSPC);
	EXPECT_TRUE(strstr(self->rig.events, "queue-full: a write to channel default failed") != NULL);
	for (int i = 1; i < 5; ++i)
		EXPECT_EQ(result(self, writes[i]), 0);
	/* Up to the end of that line, and then it goes on. */
	EXPECT_EQ(write_file(self, self->lines, fh[0], 0, "end\n"), -ENOSPC);
	EXPECT_EQ(write_file(self, self->lines, fh[0], 0, "good\n"), 0);
	for (int i = 0; i < 5; ++i)
		fuse_line_release(&self->rig.line, self->lines, fh[i]);
	EXPECT_EQ(files_line_n_queued(&self->rig), 5u);
	files_line_take(&self->rig, UINT64_MAX);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(levels, who_waits_for_a_message_under_way_holds_up_nobody)
{
	uint64_t fh[4], large, small;

	rig(self, false, 0);
	for (int i = 0; i < 4; ++i) {
		fh[i] = open_blocking(self, self->lines);
		EXPECT_EQ(result(self, write_piece(self, self->lines, fh[i], 250000)), 0);
	}
	large = write_piece(self, self->raw, open_raw(self), 100000);
	EXPECT_EQ(result(self, large), FUSE_LINE_WAITS);
	small = write_raw(self, open_raw(self), 0, "x");
	files_line_turn(&self->rig);
	EXPECT_EQ(result(self, small), 0);
	EXPECT_EQ(result(self, large), FUSE_LINE_WAITS);
	/* The end of a message needs no more room than it has. */
	EXPECT_EQ(write_file(self, self->lines, fh[0], 0, "\n"), 0);
	files_line_take(&self->rig, UINT64_MAX);
	files_line_turn(&self->rig);
	EXPECT_EQ(result(self, large), 0);
}

TEST_F(levels, what_never_fits_does_not_wait)
{
	static char lines[290000];
	uint64_t fh, write;

	rig(self, false, 0);
	ASSERT_EQ(channel_set_when_full(files_line_default(&self->rig), CHANNEL_FULL_BLOCK), 0);
	for (size_t i = 0; i < sizeof(lines); ++i)
		lines[i] = i % 2 ? '\n' : 'x';
	fh = fuse_line_open(&self->rig.line, self->lines, O_WRONLY);
	write = fuse_line_write(&self->rig.line, self->lines, fh, O_WRONLY, BYTES(lines, sizeof(lines)));
	EXPECT_EQ(result(self, write), -ENOSPC);
}

TEST_F(levels, blocked_bytes_are_bounded)
{
	static char large[260000];
	static uint64_t writes[WAITERS_BLOCKED_BYTES_MAX / sizeof(large) + 1];
	size_t n = 0;
	uint64_t fh;

	rig(self, false, 0);
	fill(self);
	fh = open_raw(self);
	for (; n < ARRAY_SIZE(writes); ++n) {
		writes[n] = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY,
					    BYTES(large, sizeof(large)));
		if (result(self, writes[n]) != FUSE_LINE_WAITS)
			break;
	}
	EXPECT_EQ(n, WAITERS_BLOCKED_BYTES_MAX / sizeof(large));
	EXPECT_EQ(result(self, writes[n]), -ENOBUFS);
	telemetry_close(self->rig.telemetry);
	for (size_t i = 0; i < n; ++i)
		EXPECT_EQ(result(self, writes[i]), -ESHUTDOWN);
}

TEST_F(levels, who_was_refused_is_woken)
{
	uint64_t fh, notes;

	rig(self, false, 0);
	/* A poll of the first file has no handle to be woken by. */
	open_raw(self);
	fh = open_raw(self);
	/* Asked while there is room, as an edge-triggered epoll does. */
	EXPECT_NE(fuse_line_poll(&self->rig.line, self->raw, fh) & POLLOUT, 0u);
	fill(self);
	EXPECT_EQ(result(self, fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY | O_NONBLOCK,
					       BYTES(self->block, BLOCK))),
		  -EAGAIN);
	files_line_turn(&self->rig);
	notes = self->rig.line.n_notes;
	files_line_take(&self->rig, UINT64_MAX);
	files_line_turn(&self->rig);
	EXPECT_EQ(self->rig.line.n_notes, notes + 1);
}

TEST_F(levels, a_channel_that_blocks_no_more_rejects)
{
	struct channel *channel;
	uint64_t fh, write;

	rig(self, false, 0);
	channel = files_line_default(&self->rig);
	fill(self);
	fh = open_raw(self);
	write = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY, BYTES(self->block, BLOCK));
	EXPECT_EQ(result(self, write), FUSE_LINE_WAITS);
	ASSERT_EQ(channel_set_when_full(channel, CHANNEL_FULL_REJECT), 0);
	telemetry_on_room(self->rig.telemetry);
	files_line_turn(&self->rig);
	EXPECT_EQ(result(self, write), -ENOSPC);
}

TEST_HARNESS_MAIN
