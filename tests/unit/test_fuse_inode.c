/* SPDX-License-Identifier: MIT */
/*
 * Which inode the kernel is sent to, by requests as it makes them: OPEN; after -ESTALE LOOKUP twice and OPEN.
 */

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/fuse_raw.h"

#define LINGER_NS   (100 * NSEC_PER_MSEC)
#define RESERVED_NS (10 * NSEC_PER_SEC)
#define APART_NS    (600 * NSEC_PER_SEC)
#define N_INODES    256

FIXTURE(inode)
{
	struct fuse_raw raw;
	uint64_t now_ns;
};

struct opened {
	uint64_t id, fh;
};

FIXTURE_SETUP(inode)
{
	raw_setup(&self->raw);
	raw_init(&self->raw);
}

FIXTURE_TEARDOWN(inode)
{
	raw_teardown(&self->raw);
}

static void pass(struct fixture_inode *self, uint64_t ns)
{
	self->now_ns += ns;
	fuse_tree_set_now_ns(self->raw.tree, self->now_ns);
}

static struct fuse_entry_out lookup(struct fixture_inode *self)
{
	return raw_lookup(&self->raw, 1, "sink");
}

/* One OPEN; its error. */
static int try_open(struct fixture_inode *self, uint64_t id, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out out;
	int r = raw_error(&self->raw, raw_request(&self->raw, FUSE_OPEN, id, &in, sizeof(in)));

	if (r == 0) {
		memcpy(&out, self->raw.replies[self->raw.n_replies - 1].body, sizeof(out));
		*fh = out.fh;
	}
	return r;
}

static void forget(struct fixture_inode *self, uint64_t id, uint64_t n)
{
	struct fuse_forget_in in = {.nlookup = n};

	raw_request(&self->raw, FUSE_FORGET, id, &in, sizeof(in));
}

/* What the kernel does for open(2) by @thread when its cached name leads to @id. */
static struct opened open_by(struct fixture_inode *self, uint32_t thread, uint64_t id, uint32_t flags)
{
	struct opened opened = {.id = id};

	self->raw.thread = thread;
	self->raw.n_replies = 0;
	if (try_open(self, id, flags, &opened.fh) == 0)
		return opened;
	EXPECT_EQ(self->raw.replies[0].header.error, -ESTALE);
	opened.id = lookup(self).nodeid;
	if (opened.id != id) {
		forget(self, opened.id, 1);
		EXPECT_EQ(lookup(self).nodeid, opened.id);
	}
	EXPECT_EQ(try_open(self, opened.id, flags, &opened.fh), 0);
	return opened;
}

static void close_file(struct fixture_inode *self, struct opened file)
{
	ASSERT_EQ(raw_error(&self->raw, raw_release(&self->raw, file.id, file.fh)), 0);
}

static uint64_t fsync_file(struct fixture_inode *self, struct opened file)
{
	struct fuse_fsync_in in = {.fh = file.fh};

	return raw_request(&self->raw, FUSE_FSYNC, file.id, &in, sizeof(in));
}

/* Whether the kernel may still use @id. */
static bool is_known(struct fixture_inode *self, uint64_t id)
{
	struct fuse_getattr_in in = {0};

	return raw_error(&self->raw, raw_request(&self->raw, FUSE_GETATTR, id, &in, sizeof(in))) == 0;
}

TEST_F(inode, files_opened_together_share_one_while_nothing_waits)
{
	uint64_t id = lookup(self).nodeid;

	for (uint32_t i = 0; i < 10; i++) {
		pass(self, LINGER_NS / 20);
		EXPECT_EQ(open_by(self, 10 + i, id, O_WRONLY).id, id);
	}
	EXPECT_EQ(lookup(self).nodeid, id);
	EXPECT_EQ(lookup(self).entry_valid, 1u);
	/* The first of them counts, not the newest. */
	pass(self, LINGER_NS / 20 * 11);
	EXPECT_NE(open_by(self, 30, id, O_WRONLY).id, id);
}

TEST_F(inode, a_file_that_stays_open_keeps_its_own)
{
	uint64_t id = lookup(self).nodeid;
	struct opened first = open_by(self, 10, id, O_WRONLY), second, third;

	pass(self, LINGER_NS);
	second = open_by(self, 11, id, O_WRONLY);
	EXPECT_NE(second.id, id);
	/* The name now leads to the second; it closes, and those that follow use its inode. */
	close_file(self, second);
	EXPECT_EQ(lookup(self).nodeid, second.id);
	EXPECT_EQ(lookup(self).entry_valid, 1u);
	third = open_by(self, 12, second.id, O_WRONLY);
	EXPECT_EQ(third.id, second.id);
	/* Files work on, by their inode and no other. */
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, id, first.fh, O_WRONLY, "x")), 0);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, third.id, first.fh, O_WRONLY, "x")), -EBADF);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, third.id, third.fh, O_WRONLY, "x")), 0);
}

TEST_F(inode, a_waiting_write_or_fsync_has_its_own)
{
	uint64_t id = lookup(self).nodeid, write_unique, fsync_unique;
	struct opened writer = open_by(self, 10, id, O_WRONLY), syncer, other;

	write_unique = raw_write(&self->raw, id, writer.fh, O_WRONLY | O_SYNC, "abc");
	EXPECT_NE(lookup(self).nodeid, id);
	EXPECT_EQ(lookup(self).entry_valid, 0u);
	syncer = open_by(self, 11, id, O_WRONLY);
	EXPECT_NE(syncer.id, id);
	fsync_unique = fsync_file(self, syncer);
	other = open_by(self, 12, syncer.id, O_WRONLY | O_TRUNC);
	EXPECT_NE(other.id, id);
	EXPECT_NE(other.id, syncer.id);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, other.id, other.fh, O_WRONLY, "x")), 0);

	raw_toy(&self->raw, TOY_ACK, 0, NULL);
	EXPECT_EQ(self->raw.replies[self->raw.n_replies - 2].header.unique, write_unique);
	EXPECT_EQ(raw_error(&self->raw, fsync_unique), 0);
	/* Nothing waits: names are kept again, and a free inode is opened at once. */
	EXPECT_EQ(lookup(self).entry_valid, 1u);
	close_file(self, writer);
	EXPECT_EQ(open_by(self, 13, id, O_WRONLY).id, id);
}

TEST_F(inode, all_look_the_same)
{
	struct fuse_entry_out first = lookup(self), second;
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0640};

	open_by(self, 10, first.nodeid, O_WRONLY | O_SYNC);
	second = lookup(self);
	ASSERT_NE(second.nodeid, first.nodeid);
	EXPECT_EQ(second.attr.ino, first.nodeid);
	EXPECT_MEMEQ(&second.attr, &first.attr, sizeof(first.attr));
	/* The kernel has the attributes twice: the others are dropped. */
	raw_request(&self->raw, FUSE_SETATTR, second.nodeid, &in, sizeof(in));
	ASSERT_EQ(self->raw.n_notes, 1u);
	EXPECT_EQ(self->raw.notes[0].header.error, (int)FUSE_NOTIFY_INVAL_INODE);
	EXPECT_MEMEQ(self->raw.notes[0].body, &first.nodeid, sizeof(first.nodeid));
	EXPECT_EQ(lookup(self).attr.mode & 0777, 0640u);
}

TEST_F(inode, synchronous_files_are_apart_from_their_open_on)
{
	uint64_t id = lookup(self).nodeid;
	struct opened first = open_by(self, 10, id, O_WRONLY);
	struct opened sync = open_by(self, 11, id, O_WRONLY | O_SYNC), third;

	EXPECT_NE(sync.id, first.id);
	third = open_by(self, 12, sync.id, O_WRONLY);
	EXPECT_NE(third.id, sync.id);
	EXPECT_NE(third.id, first.id);
	/* O_DSYNC likewise, in another node. */
	id = raw_lookup(&self->raw, 1, "private").nodeid;
	open_by(self, 10, id, O_WRONLY);
	self->raw.thread = 11;
	EXPECT_EQ(try_open(self, id, O_WRONLY | O_DSYNC, &sync.fh), -ESTALE);
}

TEST_F(inode, apart_ends_some_time_after_the_last_wait)
{
	uint64_t id = lookup(self).nodeid;
	struct opened file = open_by(self, 10, id, O_WRONLY);

	fsync_file(self, file);
	pass(self, 2 * APART_NS);
	EXPECT_NE(open_by(self, 11, id, O_WRONLY).id, id);
	raw_toy(&self->raw, TOY_ACK, 0, NULL);
	close_file(self, file);
	pass(self, APART_NS - 1);
	file = open_by(self, 12, id, O_WRONLY);
	EXPECT_NE(open_by(self, 13, id, O_WRONLY).id, id);
	close_file(self, file);
	pass(self, 1);
	open_by(self, 14, id, O_WRONLY);
	EXPECT_EQ(open_by(self, 15, id, O_WRONLY).id, id);
}

TEST_F(inode, readers_that_wait_change_nothing)
{
	uint64_t id = raw_lookup(&self->raw, 1, "stream").nodeid, fh;

	fh = raw_open(&self->raw, id, O_RDONLY).fh;
	raw_read(&self->raw, id, fh, 0, O_RDONLY);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "stream").nodeid, id);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "stream").entry_valid, 1u);
	raw_open(&self->raw, id, O_RDONLY);
}

TEST_F(inode, documents_have_one)
{
	uint64_t id = raw_lookup(&self->raw, 1, "doc").nodeid;

	raw_open(&self->raw, id, O_RDONLY | O_SYNC);
	pass(self, LINGER_NS);
	raw_open(&self->raw, id, O_RDONLY | O_SYNC);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "doc").nodeid, id);
}

/* --- documents whose writers wait */

static struct opened open_paper(struct fixture_inode *self, uint32_t thread, uint32_t flags)
{
	struct opened opened = {.id = raw_lookup(&self->raw, 1, "paper").nodeid};

	self->raw.thread = thread;
	if (try_open(self, opened.id, flags, &opened.fh) == -ESTALE) {
		opened.id = raw_lookup(&self->raw, 1, "paper").nodeid;
		EXPECT_EQ(try_open(self, opened.id, flags, &opened.fh), 0);
	}
	return opened;
}

TEST_F(inode, a_documents_name_leads_to_the_first_beside_synchronous_writers)
{
	uint64_t id = raw_lookup(&self->raw, 1, "paper").nodeid, uniques[2];
	struct opened writers[2];

	for (uint32_t i = 0; i < ARRAY_SIZE(writers); i++) {
		writers[i] = open_paper(self, 10 + i, O_WRONLY | O_SYNC);
		EXPECT_NE(writers[i].id, id);
		uniques[i] = raw_write(&self->raw, writers[i].id, writers[i].fh, O_WRONLY | O_SYNC, "abc");
	}
	EXPECT_NE(writers[0].id, writers[1].id);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_PARKED, 0, NULL), 2u);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "paper").nodeid, id);
	EXPECT_EQ(open_paper(self, 20, O_RDONLY).id, id);
	close_file(self, open_paper(self, 21, O_WRONLY | O_TRUNC));
	EXPECT_EQ(raw_lookup(&self->raw, 1, "paper").nodeid, id);
	raw_toy(&self->raw, TOY_ACK, 0, NULL);
	for (uint32_t i = 0; i < ARRAY_SIZE(writers); i++)
		EXPECT_EQ(self->raw.replies[self->raw.n_replies - 2 + i].header.unique, uniques[i]);
	for (uint32_t i = 0; i < ARRAY_SIZE(writers); i++) {
		close_file(self, writers[i]);
		forget(self, writers[i].id, 1);
		EXPECT_FALSE(is_known(self, writers[i].id));
	}
}

TEST_F(inode, a_documents_name_leads_away_from_the_first_while_an_fsync_waits_there)
{
	uint64_t id = raw_lookup(&self->raw, 1, "paper").nodeid;
	struct opened syncer = open_paper(self, 10, O_WRONLY), reader, writer;

	EXPECT_EQ(syncer.id, id);
	fsync_file(self, syncer);
	EXPECT_NE(raw_lookup(&self->raw, 1, "paper").nodeid, id);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "paper").entry_valid, 0u);
	reader = open_paper(self, 11, O_RDONLY);
	writer = open_paper(self, 12, O_WRONLY | O_TRUNC);
	EXPECT_NE(reader.id, id);
	EXPECT_NE(writer.id, id);
	raw_toy(&self->raw, TOY_ACK, 0, NULL);
	close_file(self, syncer);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "paper").nodeid, id);
	/* They have their files all the same. */
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, writer.id, writer.fh, O_WRONLY, "x")), 0);
	close_file(self, writer);
	close_file(self, reader);
}

TEST_F(inode, readers_of_a_document_take_no_inode)
{
	uint64_t id = raw_lookup(&self->raw, 1, "paper").nodeid;

	open_paper(self, 10, O_RDONLY | O_SYNC);
	open_paper(self, 11, O_RDONLY);
	pass(self, LINGER_NS);
	EXPECT_EQ(open_paper(self, 12, O_WRONLY).id, id);
	EXPECT_EQ(open_paper(self, 13, O_WRONLY).id, id);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "paper").nodeid, id);
	EXPECT_EQ(raw_lookup(&self->raw, 1, "paper").entry_valid, 1u);
}

TEST_F(inode, a_document_that_changed_is_dropped_by_all_inodes)
{
	uint64_t id = raw_lookup(&self->raw, 1, "paper").nodeid;
	struct opened writer = open_paper(self, 10, O_WRONLY | O_SYNC);
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0640};

	raw_request(&self->raw, FUSE_SETATTR, id, &in, sizeof(in));
	ASSERT_EQ(self->raw.n_notes, 1u);
	EXPECT_EQ(self->raw.notes[0].header.error, (int)FUSE_NOTIFY_INVAL_INODE);
	EXPECT_MEMEQ(self->raw.notes[0].body, &writer.id, sizeof(writer.id));
}

/* A descriptor in /proc, a bind mount of the file: no name to look up, so the same inode again. */
TEST_F(inode, a_thread_is_refused_once)
{
	uint64_t id = lookup(self).nodeid, fh;

	open_by(self, 10, id, O_WRONLY | O_SYNC);
	for (uint32_t thread = 11; thread < 15; thread++) {
		self->raw.thread = thread;
		EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), -ESTALE);
	}
	for (uint32_t thread = 11; thread < 15; thread++) {
		self->raw.thread = thread;
		EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), 0);
		EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), -ESTALE);
	}
}

TEST_F(inode, a_thread_without_number_is_never_refused)
{
	uint64_t id = lookup(self).nodeid, fh;

	open_by(self, 10, id, O_WRONLY | O_SYNC);
	self->raw.thread = 0;
	EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), 0);
	/* By its name it gets another one all the same. */
	EXPECT_NE(lookup(self).nodeid, id);
}

TEST_F(inode, refused_threads_do_not_meet_again)
{
	uint64_t id = lookup(self).nodeid, fh, ids[20];

	open_by(self, 10, id, O_WRONLY | O_SYNC);
	for (uint32_t i = 0; i < ARRAY_SIZE(ids); i++) {
		self->raw.thread = 100 + i;
		EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), -ESTALE);
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct fuse_entry_out entry;

		self->raw.thread = 100 + i;
		self->raw.n_replies = 0;
		entry = lookup(self);
		EXPECT_EQ(entry.entry_valid, 0u);
		ids[i] = entry.nodeid;
		for (uint32_t k = 0; k < i; k++)
			EXPECT_NE(ids[k], ids[i]);
	}
	/* Somebody else came by the name that one of them had looked up: is refused, not the one. */
	self->raw.thread = 500;
	EXPECT_EQ(try_open(self, ids[0], O_WRONLY, &fh), -ESTALE);
	for (uint32_t i = 0; i < ARRAY_SIZE(ids); i++) {
		self->raw.thread = 100 + i;
		EXPECT_EQ(try_open(self, ids[i], O_WRONLY, &fh), 0);
	}
}

TEST_F(inode, reservations_end)
{
	uint64_t id = lookup(self).nodeid, fh = 0, reserved;

	open_by(self, 10, id, O_WRONLY | O_SYNC);
	self->raw.thread = 11;
	EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), -ESTALE);
	reserved = lookup(self).nodeid;
	self->raw.thread = 12;
	EXPECT_NE(lookup(self).nodeid, reserved);
	pass(self, RESERVED_NS);
	/* Free for anybody; and the thread may be refused anew. */
	self->raw.thread = 13;
	EXPECT_EQ(try_open(self, reserved, O_WRONLY, &fh), 0);
	self->raw.thread = 11;
	EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), -ESTALE);
	/* Nothing of it keeps the inode. */
	self->raw.thread = 13;
	close_file(self, (struct opened){.id = reserved, .fh = fh});
	forget(self, reserved, 1);
	EXPECT_FALSE(is_known(self, reserved));
}

TEST_F(inode, a_reservation_that_was_not_needed_leaves_nothing)
{
	uint64_t id = lookup(self).nodeid, fh, reserved;

	open_by(self, 10, id, O_WRONLY | O_SYNC);
	self->raw.thread = 11;
	EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), -ESTALE);
	reserved = lookup(self).nodeid;
	forget(self, reserved, 1);
	EXPECT_TRUE(is_known(self, reserved));
	EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), 0);
	EXPECT_FALSE(is_known(self, reserved));
}

TEST_F(inode, lookups_are_counted_for_each)
{
	uint64_t id = lookup(self).nodeid;
	struct opened sync = open_by(self, 10, id, O_WRONLY | O_SYNC), other;

	other = open_by(self, 11, id, O_WRONLY);
	ASSERT_NE(other.id, id);
	lookup(self); /* a third, or none of these */
	forget(self, id, 1);
	EXPECT_TRUE(is_known(self, id));
	/* One reference came with open_by(). */
	close_file(self, other);
	EXPECT_TRUE(is_known(self, other.id));
	forget(self, other.id, 1);
	EXPECT_FALSE(is_known(self, other.id));
	EXPECT_TRUE(is_known(self, sync.id));
}

TEST_F(inode, forgotten_while_open_it_ends_with_its_last_file)
{
	uint64_t id = lookup(self).nodeid;
	struct opened other;

	open_by(self, 10, id, O_WRONLY | O_SYNC);
	other = open_by(self, 11, id, O_WRONLY);
	forget(self, other.id, 100);
	EXPECT_TRUE(is_known(self, other.id));
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, other.id, other.fh, O_WRONLY, "x")), 0);
	close_file(self, other);
	EXPECT_FALSE(is_known(self, other.id));
	forget(self, other.id, 1);
	/* Identifiers are not given again. */
	EXPECT_GT(open_by(self, 12, id, O_WRONLY).id, other.id);
}

TEST_F(inode, the_one_that_lookup_answers_and_the_first_stay)
{
	uint64_t id = lookup(self).nodeid, current;
	struct opened file = open_by(self, 10, id, O_WRONLY | O_SYNC);

	current = lookup(self).nodeid;
	forget(self, current, 1);
	forget(self, id, 1);
	EXPECT_TRUE(is_known(self, current));
	EXPECT_EQ(lookup(self).nodeid, current);
	close_file(self, file);
	EXPECT_TRUE(is_known(self, id));
	EXPECT_EQ(lookup(self).nodeid, current);
}

/* At the limit files share, and nobody is refused. */
TEST_F(inode, limit)
{
	uint64_t id = lookup(self).nodeid, last, fh;
	struct opened files[N_INODES];

	for (uint32_t i = 0; i < N_INODES; i++) {
		files[i] = open_by(self, 100 + i, id, O_WRONLY | O_SYNC);
		ASSERT_EQ(files[i].id == id, i == 0);
	}
	self->raw.n_replies = 0;
	self->raw.thread = 77;
	last = lookup(self).nodeid;
	EXPECT_LE(last, files[N_INODES - 1].id);
	EXPECT_EQ(try_open(self, last, O_WRONLY | O_SYNC, &fh), 0);
	EXPECT_EQ(try_open(self, id, O_WRONLY, &fh), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_PARKED, 0, NULL), 0u);
	/* One becomes free: the next gets it. */
	close_file(self, files[200]);
	EXPECT_EQ(open_by(self, 78, id, O_WRONLY).id, files[200].id);
	/* All go. */
	for (uint32_t i = 0; i < N_INODES; i++) {
		self->raw.n_replies = 0;
		if (i != 200)
			close_file(self, files[i]);
		forget(self, files[i].id, 100);
		EXPECT_EQ(is_known(self, files[i].id), i == 0 || i == 200 || files[i].id == last);
	}
}

TEST_F(inode, an_open_whose_reply_is_lost_takes_nothing)
{
	uint64_t id = lookup(self).nodeid, fh;

	self->raw.send_error = -ENOENT;
	try_open(self, id, O_WRONLY | O_SYNC, &fh);
	self->raw.send_error = 0;
	EXPECT_EQ(try_open(self, id, O_WRONLY | O_SYNC, &fh), 0);
}

TEST_HARNESS_MAIN
