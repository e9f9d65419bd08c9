/* SPDX-License-Identifier: MIT */
/*
 * Messages that the disk loses, or cannot read for a while, before the hub has them: who waits is told, and only who
 * waits for those.
 */

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/telemetry_internal.h"
#include "journal/internal.h"
#include "tests/support/files_line.h"
#include "tests/support/guarded.h"

#define QUEUE_BYTES (1 << 20)

FIXTURE(lost)
{
	struct files_line rig;
	uint64_t lines, raw;
};

FIXTURE_SETUP(lost)
{
	const struct files_line_options options = {
		.queue_bytes = QUEUE_BYTES, .is_durable = true, .guard = guarded()};

	files_line_init(&self->rig, &options);
	self->lines = fuse_line_lookup(&self->rig.line, "telemetry");
	self->raw = fuse_line_lookup(&self->rig.line, "telemetry.raw");
}

FIXTURE_TEARDOWN(lost)
{
	files_line_deinit(&self->rig);
}

static uint64_t open_raw(struct fixture_lost *self)
{
	return fuse_line_open(&self->rig.line, self->raw, O_WRONLY);
}

static uint64_t write_raw(struct fixture_lost *self, uint64_t fh, uint32_t flags, const char *text)
{
	return fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY | flags, bytes_from_str(text));
}

static uint64_t sync_raw(struct fixture_lost *self, uint64_t fh)
{
	return fuse_line_fsync(&self->rig.line, self->raw, fh);
}

static int result(struct fixture_lost *self, uint64_t unique)
{
	return fuse_line_result(&self->rig.line, unique);
}

static void closedir_ptr(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* The segment that has @text, and where. */
static int open_with(struct fixture_lost *self, const char *text, off_t *at)
{
	_cleanup_(closedir_ptr) DIR *dir = opendir(self->rig.dir);

	ASSERT_TRUE(dir != NULL);
	for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
		static uint8_t bytes[1 << 20];
		int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
		ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));
		uint8_t *found = size < 0 ? NULL : memmem(bytes, (size_t)size, text, strlen(text));

		if (found) {
			*at = found - bytes;
			return fd;
		}
		close_fd(&fd);
	}
	ASSERT_TRUE(false);
	return -1;
}

/* A bit of @text flips. */
static void spoil(struct fixture_lost *self, const char *text)
{
	off_t at = 0;
	_cleanup_(close_fd) int fd = open_with(self, text, &at);
	char c = (char)(text[0] ^ 1);

	ASSERT_EQ(pwrite(fd, &c, 1, at), 1);
}

/* The first records of the default channel can be read the second time only. */
static void blind(struct fixture_lost *self)
{
	struct journal_segment *segment = files_line_default(&self->rig)->lane->active;
	const volatile uint8_t *page = segment->map + JOURNAL_HEADER_BYTES;
	uint8_t saved[4096];

	ASSERT_EQ(pread(segment->fd, saved, sizeof(saved), JOURNAL_HEADER_BYTES), (ssize_t)sizeof(saved));
	ASSERT_EQ(ftruncate(segment->fd, JOURNAL_HEADER_BYTES), 0);
	ASSERT_EQ(*page, 0u);
	ASSERT_EQ(ftruncate(segment->fd, (off_t)segment->identity.size), 0);
	ASSERT_EQ(pwrite(segment->fd, saved, sizeof(saved), JOURNAL_HEADER_BYTES), (ssize_t)sizeof(saved));
}

static uint64_t n_damaged(struct fixture_lost *self)
{
	struct journal_stats stats;

	journal_stats(self->rig.journal, &stats);
	return stats.n_damaged;
}

/* Turns until the hub gets a message. */
static void await_sent(struct fixture_lost *self)
{
	struct telemetry_stats stats;
	uint64_t n;

	telemetry_stats(self->rig.telemetry, &stats);
	n = stats.n_sent;
	while (stats.n_sent == n) {
		ASSERT_EQ(loop_turn(self->rig.hub.loop, TIME_NEVER), 0);
		telemetry_stats(self->rig.telemetry, &stats);
	}
}

/* It takes it. */
static void await_message(struct fixture_lost *self, const char *payload)
{
	await_sent(self);
	files_line_expect(&self->rig, payload, false);
}

/* --- writes that wait ------------------------------------------------------------------------- */

TEST_F(lost, a_write_that_waits_is_told_at_once)
{
	struct channel *other = files_line_add(&self->rig, "other");
	uint64_t node = files_line_lookup(&self->rig, "other", "telemetry.raw"), fh[4], u[4], elsewhere;

	ASSERT_EQ(channel_set_priority(other, 9), 0);
	for (int i = 0; i < 4; ++i)
		fh[i] = open_raw(self);
	/* The first one is the next one from the beginning; the others are looked at when it is their turn. */
	u[0] = write_raw(self, fh[0], O_SYNC, "spoiled-0");
	u[1] = write_raw(self, fh[1], O_SYNC, "good-1");
	elsewhere = fuse_line_write(&self->rig.line, node, fuse_line_open(&self->rig.line, node, O_WRONLY),
				    O_WRONLY | O_SYNC, BYTES_LIT("elsewhere"));
	u[2] = write_raw(self, fh[2], O_SYNC, "spoiled-2");
	u[3] = write_raw(self, fh[3], O_SYNC, "good-3");
	spoil(self, "spoiled-0");
	spoil(self, "spoiled-2");
	files_line_online(&self->rig, false);
	EXPECT_EQ(result(self, u[0]), -EIO);
	files_line_expect(&self->rig, "good-1", false);
	EXPECT_EQ(result(self, u[1]), 0);
	EXPECT_EQ(result(self, u[2]), -EIO);
	EXPECT_EQ(result(self, u[3]), FUSE_LINE_WAITS);
	EXPECT_EQ(result(self, elsewhere), FUSE_LINE_WAITS);
	/* It went out while the hole waited for what was in the air. */
	files_line_expect(&self->rig, "elsewhere", false);
	EXPECT_EQ(result(self, elsewhere), 0);
	files_line_expect(&self->rig, "good-3", false);
	EXPECT_EQ(result(self, u[3]), 0);
	EXPECT_EQ(n_damaged(self), 2u);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
	/* They were told, and nobody waits for what is not there. */
	for (int i = 0; i < 4; ++i)
		EXPECT_EQ(result(self, sync_raw(self, fh[i])), 0);
}

static uint64_t write_lines(struct fixture_lost *self, uint64_t fh, uint32_t flags, const char *text)
{
	return fuse_line_write(&self->rig.line, self->lines, fh, O_WRONLY | flags, bytes_from_str(text));
}

TEST_F(lost, one_of_several_lines)
{
	uint64_t fh = fuse_line_open(&self->rig.line, self->lines, O_WRONLY), u, sync;

	u = write_lines(self, fh, O_SYNC, "one\nspoiled\nthree\n");
	sync = fuse_line_fsync(&self->rig.line, self->lines, fh);
	spoil(self, "spoiled");
	files_line_online(&self->rig, false);
	EXPECT_EQ(result(self, u), FUSE_LINE_WAITS);
	files_line_expect(&self->rig, "one", false);
	EXPECT_EQ(result(self, u), -EIO);
	EXPECT_EQ(result(self, sync), FUSE_LINE_WAITS);
	files_line_expect(&self->rig, "three", false);
	EXPECT_EQ(result(self, sync), -EIO);
	EXPECT_EQ(result(self, fuse_line_fsync(&self->rig.line, self->lines, fh)), 0);
}

/* Before the commit ends, so none of it was promised. */
TEST_F(lost, one_of_several_lines_to_be_stored)
{
	uint64_t fh = fuse_line_open(&self->rig.line, self->lines, O_WRONLY), u;

	files_line_online(&self->rig, false);
	EXPECT_EQ(result(self, write_lines(self, fh, 0, "be")), 0);
	u = write_lines(self, fh, O_DSYNC, "ginning\nspoiled\nthree\nrest");
	spoil(self, "spoiled");
	/* No turn, in which the commit could end; as if the hub's window were one message. */
	self->rig.telemetry->careful = true;
	++self->rig.telemetry->n_resend;
	telemetry_on_writable(self->rig.telemetry);
	--self->rig.telemetry->n_resend;
	self->rig.telemetry->careful = true;
	EXPECT_EQ(result(self, u), FUSE_LINE_WAITS);
	files_line_take(&self->rig, 1);
	EXPECT_EQ(n_damaged(self), 1u);
	telemetry_tell_lost(self->rig.telemetry);
	EXPECT_EQ(result(self, u), -EIO);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

/* --- fsync ------------------------------------------------------------------------------------ */

TEST_F(lost, an_fsync_is_told_of_its_files_messages_only)
{
	uint64_t a = open_raw(self), b = open_raw(self), syncs[2];

	EXPECT_EQ(result(self, write_raw(self, a, 0, "a-1")), 0);
	EXPECT_EQ(result(self, write_raw(self, b, 0, "b-1")), 0);
	EXPECT_EQ(result(self, write_raw(self, a, 0, "a-2")), 0);
	EXPECT_EQ(result(self, write_raw(self, b, 0, "b-2")), 0);
	syncs[0] = sync_raw(self, a);
	syncs[1] = sync_raw(self, b);
	spoil(self, "a-2");
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "a-1", false);
	files_line_expect(&self->rig, "b-1", false);
	/* The hole waits for what is in the air. */
	EXPECT_EQ(result(self, syncs[0]), -EIO);
	EXPECT_EQ(result(self, syncs[1]), FUSE_LINE_WAITS);
	files_line_expect(&self->rig, "b-2", false);
	EXPECT_EQ(result(self, syncs[1]), 0);
	EXPECT_EQ(result(self, sync_raw(self, a)), 0);
	EXPECT_EQ(result(self, write_raw(self, a, 0, "a-3")), 0);
	syncs[0] = sync_raw(self, a);
	EXPECT_EQ(result(self, syncs[0]), FUSE_LINE_WAITS);
	files_line_expect(&self->rig, "a-3", false);
	EXPECT_EQ(result(self, syncs[0]), 0);
	EXPECT_FALSE(waiters_have_lost(self->rig.waiters));
}

/* Who writes without a pause is never through. */
TEST_F(lost, an_fsync_with_more_behind_it)
{
	uint64_t fh = open_raw(self), syncs[3];

	EXPECT_EQ(result(self, write_raw(self, fh, 0, "spoiled-1")), 0);
	EXPECT_EQ(result(self, write_raw(self, fh, 0, "2")), 0);
	syncs[0] = sync_raw(self, fh);
	EXPECT_EQ(result(self, write_raw(self, fh, 0, "3")), 0);
	syncs[1] = sync_raw(self, fh);
	spoil(self, "spoiled-1");
	files_line_online(&self->rig, false);
	EXPECT_EQ(result(self, write_raw(self, fh, 0, "4")), 0);
	syncs[2] = sync_raw(self, fh);
	EXPECT_EQ(result(self, syncs[0]), FUSE_LINE_WAITS);
	files_line_expect(&self->rig, "2", false);
	EXPECT_EQ(result(self, syncs[0]), -EIO);
	EXPECT_EQ(result(self, syncs[1]), FUSE_LINE_WAITS);
	files_line_expect(&self->rig, "3", false);
	EXPECT_EQ(result(self, syncs[1]), 0);
	EXPECT_FALSE(waiters_have_lost(self->rig.waiters));
	EXPECT_EQ(result(self, syncs[2]), FUSE_LINE_WAITS);
	files_line_expect(&self->rig, "4", false);
	EXPECT_EQ(result(self, syncs[2]), 0);
}

/* Nobody waits when it is lost: the next fsync says so. */
TEST_F(lost, an_fsync_that_comes_later)
{
	uint64_t fh = open_raw(self), other = open_raw(self);

	EXPECT_EQ(result(self, write_raw(self, fh, 0, "spoiled")), 0);
	EXPECT_EQ(result(self, write_raw(self, other, 0, "good")), 0);
	spoil(self, "spoiled");
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "good", false);
	EXPECT_EQ(result(self, sync_raw(self, fh)), -EIO);
	EXPECT_EQ(result(self, sync_raw(self, fh)), 0);
	EXPECT_EQ(result(self, sync_raw(self, other)), 0);
}

TEST_F(lost, a_file_that_was_closed_meanwhile)
{
	uint64_t fh = open_raw(self), other = open_raw(self);

	EXPECT_EQ(result(self, write_raw(self, fh, 0, "good")), 0);
	EXPECT_EQ(result(self, write_raw(self, fh, 0, "spoiled")), 0);
	EXPECT_EQ(result(self, write_raw(self, other, 0, "last")), 0);
	spoil(self, "spoiled");
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "good", false);
	EXPECT_TRUE(waiters_have_lost(self->rig.waiters));
	fuse_line_release(&self->rig.line, self->raw, fh);
	files_line_expect(&self->rig, "last", false);
	EXPECT_FALSE(waiters_have_lost(self->rig.waiters));
	EXPECT_EQ(result(self, sync_raw(self, other)), 0);
}

/* --- other ways out of the queue -------------------------------------------------------------- */

TEST_F(lost, a_whole_file_that_is_gone)
{
	static char block[1000];
	uint64_t fh = open_raw(self), waits = open_raw(self), sync, u = 0;
	char name[JOURNAL_SEGMENT_NAME_SIZE + 300];
	struct journal_cursor at;

	for (int i = 0; i < 300; ++i) {
		fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY, BYTES(block, sizeof(block)));
		if (i == 100)
			u = write_raw(self, waits, O_SYNC, "waits");
	}
	sync = sync_raw(self, fh);
	files_line_await_stored(&self->rig);
	ASSERT_TRUE(journal_find(files_line_default(&self->rig)->lane, 102, &at));
	snprintf(name, sizeof(name), "%s/%s", self->rig.dir, at.segment->name);
	ASSERT_FALSE(at.segment->is_held);
	journal_unpin(self->rig.journal);
	ASSERT_EQ(unlink(name), 0);
	files_line_online(&self->rig, false);
	while (files_line_n_queued(&self->rig)) {
		struct mqtt_packet packet;

		ASSERT_TRUE(files_line_next(&self->rig, &packet));
		files_line_puback(&self->rig, packet.publish.packet_id, MQTT_REASON_SUCCESS, NULL);
	}
	EXPECT_EQ(result(self, u), -EIO);
	EXPECT_EQ(result(self, sync), -EIO);
	EXPECT_EQ(result(self, sync_raw(self, fh)), 0);
	EXPECT_EQ(result(self, sync_raw(self, waits)), 0);
}

TEST_F(lost, dropped_when_it_cannot_be_read)
{
	struct channel *channel = files_line_default(&self->rig);
	uint64_t fh = open_raw(self), other = open_raw(self), u, sync;

	u = write_raw(self, fh, O_SYNC, "spoiled-1");
	EXPECT_EQ(result(self, write_raw(self, other, 0, "spoiled-2")), 0);
	sync = sync_raw(self, other);
	spoil(self, "spoiled-1");
	EXPECT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	EXPECT_EQ(result(self, u), -ENOSPC);
	spoil(self, "spoiled-2");
	EXPECT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	files_line_turn(&self->rig);
	EXPECT_EQ(result(self, sync), -EIO);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_EQ(result(self, sync_raw(self, fh)), 0);
	EXPECT_FALSE(waiters_have_lost(self->rig.waiters));
}

TEST_F(lost, too_old_is_told_at_once)
{
	uint64_t fh = open_raw(self), u;

	ASSERT_EQ(channel_set_ttl(files_line_default(&self->rig), 1), 0);
	u = write_raw(self, fh, O_SYNC, "1");
	/* There is no other end to the wait. */
	EXPECT_EQ(files_line_await(&self->rig, u), -ETIMEDOUT);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_EQ(result(self, sync_raw(self, fh)), 0);
}

/* Nobody is there to send. */
TEST_F(lost, too_old_behind_one_that_is_damaged)
{
	uint64_t fh[3], u[3], sync;

	ASSERT_EQ(channel_set_ttl(files_line_default(&self->rig), 1), 0);
	for (int i = 0; i < 3; ++i)
		fh[i] = open_raw(self);
	u[0] = write_raw(self, fh[0], O_SYNC, "spoiled-0");
	u[1] = write_raw(self, fh[1], O_SYNC, "behind");
	EXPECT_EQ(result(self, write_raw(self, fh[2], 0, "spoiled-2")), 0);
	u[2] = write_raw(self, fh[1], O_SYNC, "last");
	sync = sync_raw(self, fh[2]);
	spoil(self, "spoiled-0");
	spoil(self, "spoiled-2");
	EXPECT_EQ(files_line_await(&self->rig, u[1]), -ETIMEDOUT);
	files_line_turn(&self->rig);
	EXPECT_EQ(result(self, u[0]), -EIO);
	EXPECT_EQ(result(self, u[2]), -ETIMEDOUT);
	EXPECT_EQ(result(self, sync), -EIO);
	EXPECT_EQ(n_damaged(self), 2u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

/* They were sent, and wait for a connection. */
TEST_F(lost, damaged_before_it_is_sent_again)
{
	uint64_t fh = open_raw(self), u[2];

	ASSERT_EQ(channel_set_ttl(files_line_default(&self->rig), 1), 0);
	u[0] = write_raw(self, fh, O_SYNC, "spoiled");
	u[1] = write_raw(self, fh, O_SYNC, "behind");
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "spoiled", true);
	files_line_expect(&self->rig, "behind", true);
	files_line_offline(&self->rig);
	spoil(self, "spoiled");
	EXPECT_EQ(files_line_await(&self->rig, u[1]), -ETIMEDOUT);
	/* Nobody looked at it. */
	EXPECT_EQ(result(self, u[0]), FUSE_LINE_WAITS);
	files_line_online(&self->rig, false);
	EXPECT_EQ(result(self, u[0]), -EIO);
	EXPECT_EQ(n_damaged(self), 1u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

/* --- a disk that does not read for a while ---------------------------------------------------- */

TEST_F(lost, what_cannot_be_read_once_is_sent)
{
	uint64_t u = write_raw(self, open_raw(self), O_SYNC, "first");

	blind(self);
	files_line_online(&self->rig, false);
	await_message(self, "first");
	EXPECT_EQ(result(self, u), 0);
	EXPECT_EQ(n_damaged(self), 0u);
}

/* Nobody writes or acknowledges anything meanwhile. */
TEST_F(lost, what_the_journal_waits_for_is_sent_later)
{
	uint64_t u = write_raw(self, open_raw(self), O_SYNC, "first");

	blind(self);
	/* It is read, as one of an earlier daemon. */
	files_line_default(&self->rig)->lane->next.is_resolved = false;
	files_line_online(&self->rig, false);
	files_line_expect_none(&self->rig);
	await_message(self, "first");
	EXPECT_EQ(result(self, u), 0);
	EXPECT_EQ(n_damaged(self), 0u);
}

TEST_F(lost, what_cannot_be_read_now_is_sent_again_later)
{
	uint64_t fh = open_raw(self), u;

	u = write_raw(self, fh, O_SYNC, "first");
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "first", true);
	files_line_offline(&self->rig);
	blind(self);
	files_line_online(&self->rig, false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(result(self, u), FUSE_LINE_WAITS);
	await_message(self, "first");
	EXPECT_EQ(result(self, u), 0);
	EXPECT_EQ(n_damaged(self), 0u);
}

/* It is kept with what it says, which is to be read first. */
TEST_F(lost, what_cannot_be_read_now_is_rejected_later)
{
	uint64_t u = write_raw(self, open_raw(self), O_SYNC, "first");
	struct telemetry_stats stats;
	uint16_t id;

	files_line_online(&self->rig, false);
	id = files_line_expect(&self->rig, "first", true);
	blind(self);
	files_line_puback(&self->rig, id, MQTT_REASON_UNSPECIFIED_ERROR, "0100");
	EXPECT_EQ(self->rig.n_rejected, 0u);
	EXPECT_EQ(result(self, u), FUSE_LINE_WAITS);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
	await_sent(self);
	id = files_line_expect(&self->rig, "first", true);
	files_line_puback(&self->rig, id, MQTT_REASON_UNSPECIFIED_ERROR, "0100");
	EXPECT_EQ(self->rig.n_rejected, 1u);
	EXPECT_STREQ(self->rig.rejected, "first");
	EXPECT_LT(result(self, u), 0);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_EQ(n_damaged(self), 0u);
	telemetry_stats(self->rig.telemetry, &stats);
	EXPECT_EQ(stats.n_rejected, 1u);
}

/* The hub says what is wrong with it by ending connections. */
TEST_F(lost, what_ends_connections_and_cannot_be_read_now)
{
	uint64_t fh = open_raw(self);

	EXPECT_EQ(result(self, write_raw(self, fh, 0, "first")), 0);
	for (int i = 0; i < 3; ++i) {
		files_line_online(&self->rig, false);
		files_line_expect(&self->rig, "first", true);
		if (i == 2)
			blind(self);
		files_line_disconnect(&self->rig, MQTT_REASON_PAYLOAD_FORMAT_INVALID, NULL);
	}
	EXPECT_EQ(self->rig.n_rejected, 0u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "first", true);
	files_line_disconnect(&self->rig, MQTT_REASON_PAYLOAD_FORMAT_INVALID, NULL);
	EXPECT_EQ(self->rig.n_rejected, 1u);
	EXPECT_STREQ(self->rig.rejected, "first");
	EXPECT_EQ(n_damaged(self), 0u);
}

TEST_F(lost, what_was_taken_back_unread_is_not_sent)
{
	uint64_t fh = open_raw(self), other = open_raw(self), u, sync;

	EXPECT_EQ(result(self, write_raw(self, other, 0, "queued")), 0);
	u = write_raw(self, fh, O_DSYNC, "stored");
	EXPECT_EQ(result(self, write_raw(self, other, 0, "last")), 0);
	blind(self);
	telemetry_on_stored(self->rig.telemetry, journal_appended(self->rig.journal), -EIO);
	EXPECT_EQ(result(self, u), -EIO);
	files_line_online(&self->rig, false);
	await_message(self, "queued");
	files_line_expect(&self->rig, "last", false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
	sync = sync_raw(self, fh);
	EXPECT_EQ(result(self, sync), -EIO);
	EXPECT_EQ(result(self, sync_raw(self, fh)), 0);
}

/* --- any writers, any damage ------------------------------------------------------------------ */

#define N_FILES    5
#define N_MESSAGES 4000

struct message {
	uint64_t sequence;
	uint64_t unique; /* of a write that waits, 0 = none */
	unsigned int file;
	bool is_spoiled;
	bool is_told;     /* an fsync told of it, or */
	bool may_be_told; /* told of another one when it was lost already */
	bool is_acked;
};

struct writers {
	struct fixture_lost *self;
	uint64_t fh[N_FILES];
	uint64_t sync[N_FILES]; /* 0 = none waits */
	uint64_t sync_until[N_FILES];
	struct message messages[N_MESSAGES];
	unsigned int n, n_spoiled, n_syncs, n_told;
	uint16_t in_air[64];
	unsigned int number[64];
	unsigned int n_in_air;
};

static unsigned int pick(unsigned int n)
{
	return (unsigned int)(test_random() % n);
}

static void text_of(unsigned int number, char out[static 32])
{
	snprintf(out, 32, "message-%06u-", number);
}

static void writers_write(struct writers *w)
{
	struct message *message = &w->messages[w->n];
	uint32_t flags = pick(3) ? 0 : O_SYNC;
	uint64_t u;
	char text[32];

	text_of(w->n++, text);
	message->file = pick(N_FILES);
	u = write_raw(w->self, w->fh[message->file], flags, text);
	message->unique = flags ? u : 0;
	message->sequence = journal_appended(w->self->rig.journal);
	ASSERT_EQ(result(w->self, u), flags ? FUSE_LINE_WAITS : 0);
}

static bool is_unsent(struct writers *w, const struct message *message)
{
	struct journal *j = w->self->rig.journal;
	struct journal_cursor at;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(j, lane));)
		if (journal_find(lane, message->sequence, &at))
			return !journal_is_sent(&at);
	return false;
}

static void writers_spoil(struct writers *w)
{
	unsigned int number = w->n - 1 - pick(w->n < 30 ? w->n : 30);
	struct message *message = &w->messages[number];
	char text[32];

	if (message->is_spoiled || !is_unsent(w, message))
		return;
	text_of(number, text);
	spoil(w->self, text);
	message->is_spoiled = true;
	++w->n_spoiled;
}

/* What an fsync up to @until said is true. */
static void writers_check_sync(struct writers *w, unsigned int file, uint64_t until, int r)
{
	bool must = false, may = false;

	for (unsigned int i = 0; i < w->n; ++i) {
		struct message *message = &w->messages[i];

		if (message->file != file || message->unique || message->is_told)
			continue;
		if (message->sequence <= until)
			ASSERT_TRUE(message->is_spoiled || message->is_acked);
		if (!message->is_spoiled)
			continue;
		must |= message->sequence <= until && !message->may_be_told;
		may = true;
		message->is_told |= message->sequence <= until;
		message->may_be_told |= r != 0;
	}
	++w->n_syncs;
	w->n_told += r != 0;
	if (r)
		ASSERT_TRUE(r == -EIO && may);
	else
		ASSERT_FALSE(must);
}

static void writers_sync(struct writers *w, unsigned int file)
{
	if (w->sync[file])
		return;
	w->sync_until[file] = journal_appended(w->self->rig.journal);
	w->sync[file] = sync_raw(w->self, w->fh[file]);
}

/* Whoever has an answer has the right one. */
static void writers_check(struct writers *w)
{
	for (unsigned int i = 0; i < w->n; ++i) {
		struct message *message = &w->messages[i];
		int r = message->unique && !message->is_told ? result(w->self, message->unique)
							     : FUSE_LINE_WAITS;

		if (r == FUSE_LINE_WAITS)
			continue;
		ASSERT_EQ(r, message->is_spoiled ? -EIO : 0);
		ASSERT_TRUE(message->is_spoiled || message->is_acked);
		message->is_told = true;
	}
	for (unsigned int i = 0; i < N_FILES; ++i) {
		int r = w->sync[i] ? result(w->self, w->sync[i]) : FUSE_LINE_WAITS;

		if (r == FUSE_LINE_WAITS)
			continue;
		w->sync[i] = 0;
		writers_check_sync(w, i, w->sync_until[i], r);
	}
}

static void writers_take(struct writers *w)
{
	struct mqtt_packet packet;

	if (w->n_in_air == ARRAY_SIZE(w->in_air) || !files_line_next(&w->self->rig, &packet))
		return;
	w->in_air[w->n_in_air] = packet.publish.packet_id;
	w->number[w->n_in_air++] = (unsigned int)strtoul(
		(const char *)packet.publish.payload.data + strlen("message-"), NULL, 10);
}

static void writers_acknowledge(struct writers *w)
{
	unsigned int i = w->n_in_air ? pick(w->n_in_air) : 0;
	uint16_t id = w->in_air[i];

	if (!w->n_in_air)
		return;
	w->messages[w->number[i]].is_acked = true;
	--w->n_in_air;
	w->in_air[i] = w->in_air[w->n_in_air];
	w->number[i] = w->number[w->n_in_air];
	files_line_puback(&w->self->rig, id, MQTT_REASON_SUCCESS, NULL);
}

static void writers_reconnect(struct writers *w)
{
	files_line_offline(&w->self->rig);
	w->n_in_air = 0;
	for (unsigned int n = pick(20); n > 0 && w->n < N_MESSAGES; --n)
		writers_write(w);
	for (unsigned int n = pick(8); n > 0; --n)
		writers_spoil(w);
	files_line_online(&w->self->rig, false);
}

static void writers_step(struct writers *w)
{
	unsigned int what = pick(100);

	if (what < 22)
		writers_write(w);
	else if (what < 54)
		writers_take(w);
	else if (what < 86)
		writers_acknowledge(w);
	else if (what < 92)
		writers_sync(w, pick(N_FILES));
	else if (what < 98)
		writers_spoil(w);
	else if (what < 99)
		writers_reconnect(w);
	else
		ASSERT_EQ(channel_set_priority(files_line_default(&w->self->rig), (uint8_t)pick(3)), 0);
}

TEST_F_TIMEOUT(lost, any_writers_and_any_damage, 120)
{
	static struct writers writers;
	struct writers *w = &writers;

	writers.self = self;
	self->rig.hub.log.fd = -1;
	for (unsigned int i = 0; i < N_FILES; ++i)
		w->fh[i] = open_raw(self);
	writers_write(w);
	files_line_online(&self->rig, false);
	while (w->n < N_MESSAGES) {
		writers_step(w);
		writers_check(w);
	}
	for (unsigned int i = 0; i < N_FILES; ++i)
		writers_sync(w, i);
	while (files_line_n_queued(&self->rig)) {
		writers_take(w);
		writers_acknowledge(w);
		writers_check(w);
	}
	writers_check(w);
	for (unsigned int i = 0; i < N_FILES; ++i)
		EXPECT_EQ(w->sync[i], 0u);
	for (unsigned int i = 0; i < w->n; ++i)
		EXPECT_TRUE(w->messages[i].is_acked || w->messages[i].is_spoiled);
	EXPECT_FALSE(waiters_have_lost(self->rig.waiters));
	EXPECT_EQ(n_damaged(self), (uint64_t)w->n_spoiled);
	EXPECT_GT(w->n_told, 0u);
	TEST_LOG("%u messages, %u lost, %u syncs, %u told", w->n, w->n_spoiled, w->n_syncs, w->n_told);
}

TEST_HARNESS_MAIN
