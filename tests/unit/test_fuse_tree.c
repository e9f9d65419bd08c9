/* SPDX-License-Identifier: MIT */
/*
 * What the tree answers to raw requests.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/fuse_raw.h"

FIXTURE(tree)
{
	struct fuse_raw raw;
};

FIXTURE_SETUP(tree)
{
	raw_setup(&self->raw);
}

FIXTURE_TEARDOWN(tree)
{
	raw_teardown(&self->raw);
}

TEST_F(tree, nothing_before_init)
{
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_STATFS, 1, NULL, 0)), -EIO);
	raw_init(&self->raw);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_STATFS, 1, NULL, 0)), 0);
}

TEST_F(tree, init_once)
{
	struct fuse_init_in in = {.major = 7, .minor = 38};

	raw_init(&self->raw);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_INIT, 0, &in, sizeof(in))), -EIO);
}

TEST_F(tree, init_of_a_later_major_comes_twice)
{
	struct fuse_init_in in = {.major = 8};
	struct fuse_init_out out;
	uint64_t u = raw_request(&self->raw, FUSE_INIT, 0, &in, sizeof(in));

	memcpy(&out, raw_body(&self->raw, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.major, 7u);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_STATFS, 1, NULL, 0)), -EIO);
	raw_init(&self->raw);
}

TEST_F(tree, init_of_an_old_kernel_is_refused)
{
	struct fuse_init_in in = {.major = 7, .minor = 12};

	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_INIT, 0, &in, sizeof(in))), -EPROTO);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_STATFS, 1, NULL, 0)), -EIO);
}

TEST_F(tree, malformed_requests_get_einval_or_nothing)
{
	size_t n;

	raw_init(&self->raw);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_OPEN, 1, "x", 1)), -EINVAL);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_LOOKUP, 1, "abc", 3)), -EINVAL);
	n = self->raw.n_replies;
	raw_request(&self->raw, FUSE_FORGET, 1, NULL, 0);
	raw_request(&self->raw, FUSE_BATCH_FORGET, 1, NULL, 0);
	raw_request(&self->raw, FUSE_INTERRUPT, 1, NULL, 0);
	fuse_tree_request(self->raw.tree, BYTES_LIT("short"));
	EXPECT_EQ(self->raw.n_replies, n);
}

TEST_F(tree, refusals)
{
	static const struct {
		uint32_t opcode;
		int error;
	} rows[] = {
		{FUSE_MKNOD, -EPERM},      {FUSE_SYMLINK, -EPERM},   {FUSE_LINK, -EPERM},
		{FUSE_READLINK, -EINVAL},  {FUSE_GETXATTR, -ENOSYS}, {FUSE_SETXATTR, -ENOSYS},
		{FUSE_LISTXATTR, -ENOSYS}, {FUSE_LSEEK, -ENOSYS},    {63, -ENOSYS},
		{4000000000u, -ENOSYS},
	};

	raw_init(&self->raw);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, rows[i].opcode, 1, NULL, 0)),
			  rows[i].error);
}

TEST_F(tree, lookup_and_attributes)
{
	struct fuse_entry_out doc, sink, sub, leaf;

	raw_init(&self->raw);
	doc = raw_lookup(&self->raw, 1, "doc");
	sink = raw_lookup(&self->raw, 1, "sink");
	sub = raw_lookup(&self->raw, 1, "sub");
	leaf = raw_lookup(&self->raw, sub.nodeid, "leaf");
	EXPECT_EQ(doc.attr.mode, (uint32_t)(S_IFREG | 0644));
	EXPECT_EQ(doc.attr.size, 9u);
	EXPECT_EQ(doc.entry_valid, 1u);
	EXPECT_EQ(doc.attr_valid, 0u);
	EXPECT_EQ(sink.attr_valid, 1u);
	EXPECT_EQ(sub.attr.mode, (uint32_t)(S_IFDIR | 0755));
	EXPECT_EQ(sub.attr.nlink, 2u);
	EXPECT_EQ(leaf.attr.size, 5u);
	EXPECT_EQ(leaf.generation, 0u);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_LOOKUP, 1, "leaf", 5)), -ENOENT);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_LOOKUP, doc.nodeid, "leaf", 5)),
		  -ENOTDIR);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_LOOKUP, 999, "leaf", 5)), -ESTALE);
}

static uint64_t eight(struct fuse_node *node)
{
	(void)node;
	return 8;
}

/* A file with a size, and a transient directory: but for this one thing, the kernel would have to ask each time. */
TEST_F(tree, attributes_hold_a_moment_where_changes_are_told)
{
	static const struct fuse_file_ops ops = {.size = eight};
	struct fuse_node_options file = {
		.name = "told", .mode = S_IFREG | 0444, .ops = &ops, .tells_changes = true};
	struct fuse_node_options dir = {
		.name = "told.d", .mode = S_IFDIR | 0555, .transient = true, .tells_changes = true};
	struct fuse_node *root = fuse_tree_root(self->raw.tree), *nodes[2];
	struct fuse_entry_out out;
	struct fuse_attr_out attr;
	uint64_t u;

	raw_init(&self->raw);
	ASSERT_EQ(fuse_node_add(&nodes[0], root, &file), 0);
	ASSERT_EQ(fuse_node_add(&nodes[1], root, &dir), 0);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		struct fuse_getattr_in in = {0};
		struct fuse_open_in open = {0};

		out = raw_lookup(&self->raw, 1, fuse_node_name(nodes[i]));
		EXPECT_EQ(out.attr_valid, 0u);
		EXPECT_GT(out.attr_valid_nsec, 0u);
		EXPECT_EQ(out.entry_valid, i == 0 ? 1u : 0u);
		/* Open, so that it has attributes when it is gone. */
		u = raw_request(&self->raw, i == 0 ? FUSE_OPEN : FUSE_OPENDIR, out.nodeid, &open,
				sizeof(open));
		EXPECT_EQ(raw_error(&self->raw, u), 0);
		fuse_node_remove(nodes[i]);
		u = raw_request(&self->raw, FUSE_GETATTR, out.nodeid, &in, sizeof(in));
		memcpy(&attr, raw_body(&self->raw, u, sizeof(attr)), sizeof(attr));
		EXPECT_EQ(attr.attr.nlink, 0u);
		EXPECT_EQ(attr.attr_valid, 0u);
		EXPECT_EQ(attr.attr_valid_nsec, 0u);
	}
}

TEST_F(tree, long_names_are_told)
{
	char name[300];

	raw_init(&self->raw);
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_LOOKUP, 1, name, 257)), -ENAMETOOLONG);
	name[255] = '\0';
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_LOOKUP, 1, name, 256)), -ENOENT);
}

/* INVAL_INODE is sent exactly while the kernel holds a reference. */
TEST_F(tree, lookup_count)
{
	struct fuse_forget_in forget = {.nlookup = 1};
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one ones[2];
	} batch = {.in = {.count = 2}};
	struct fuse_entry_out doc;

	raw_init(&self->raw);
	raw_toy(&self->raw, TOY_SET_DOC, 0, "a");
	EXPECT_EQ(self->raw.n_notes, 0u);
	doc = raw_lookup(&self->raw, 1, "doc");
	raw_lookup(&self->raw, 1, "doc");
	raw_lookup(&self->raw, 1, "doc");
	raw_request(&self->raw, FUSE_FORGET, doc.nodeid, &forget, sizeof(forget));
	raw_toy(&self->raw, TOY_SET_DOC, 0, "b");
	EXPECT_EQ(self->raw.n_notes, 1u);
	EXPECT_EQ(self->raw.notes[0].header.error, (int)FUSE_NOTIFY_INVAL_INODE);
	batch.ones[0] = (struct fuse_forget_one){.nodeid = doc.nodeid, .nlookup = 2};
	batch.ones[1] = (struct fuse_forget_one){.nodeid = 4242, .nlookup = 2};
	raw_request(&self->raw, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch));
	raw_toy(&self->raw, TOY_SET_DOC, 0, "c");
	EXPECT_EQ(self->raw.n_notes, 1u);
	/* More than it holds, and the root: harmless. */
	raw_request(&self->raw, FUSE_FORGET, doc.nodeid, &forget, sizeof(forget));
	raw_request(&self->raw, FUSE_FORGET, 1, &forget, sizeof(forget));
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_STATFS, 1, NULL, 0)), 0);
}

TEST_F(tree, lookup_whose_reply_is_lost_does_not_count)
{
	raw_init(&self->raw);
	self->raw.send_error = -ENOENT;
	raw_request(&self->raw, FUSE_LOOKUP, 1, "doc", 4);
	self->raw.send_error = 0;
	raw_toy(&self->raw, TOY_SET_DOC, 0, "a");
	EXPECT_EQ(self->raw.n_notes, 0u);
}

TEST_F(tree, open_whose_reply_is_lost_is_released)
{
	struct fuse_open_in in = {.flags = O_WRONLY};
	struct fuse_entry_out sink;

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	self->raw.send_error = -ENOENT;
	raw_request(&self->raw, FUSE_OPEN, sink.nodeid, &in, sizeof(in));
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_RELEASED, 0, NULL), 1u);
}

TEST_F(tree, setattr)
{
	struct fuse_setattr_in in = {.valid = FATTR_SIZE};
	struct fuse_attr_out out;
	struct fuse_entry_out sink;
	uint64_t u;

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_SETATTR, sink.nodeid, &in, sizeof(in))),
		  0);
	in.size = 5;
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_SETATTR, sink.nodeid, &in, sizeof(in))),
		  -EINVAL);
	in = (struct fuse_setattr_in){
		.valid = FATTR_MODE | FATTR_UID | FATTR_GID, .mode = 04755, .uid = 7, .gid = 8};
	u = raw_request(&self->raw, FUSE_SETATTR, sink.nodeid, &in, sizeof(in));
	memcpy(&out, raw_body(&self->raw, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.attr.mode, (uint32_t)(S_IFREG | 0755));
	EXPECT_EQ(out.attr.uid, 7u);
	EXPECT_EQ(out.attr.gid, 8u);
	in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 1000, .mtimensec = 5000000};
	u = raw_request(&self->raw, FUSE_SETATTR, sink.nodeid, &in, sizeof(in));
	memcpy(&out, raw_body(&self->raw, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.attr.mtime, 1000u);
	EXPECT_EQ(out.attr.mtimensec, 5000000u);
}

TEST_F(tree, open_flags_by_kind)
{
	struct fuse_entry_out sink, doc, sub;
	struct fuse_open_in in = {.flags = O_RDONLY};

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	doc = raw_lookup(&self->raw, 1, "doc");
	sub = raw_lookup(&self->raw, 1, "sub");
	EXPECT_EQ(raw_open(&self->raw, sink.nodeid, O_WRONLY).open_flags, 0x71u);
	EXPECT_EQ(raw_open(&self->raw, doc.nodeid, O_RDONLY).open_flags,
		  (uint32_t)(FOPEN_DIRECT_IO | FOPEN_NOFLUSH));
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_OPEN, sub.nodeid, &in, sizeof(in))),
		  -EISDIR);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_OPENDIR, sub.nodeid, &in, sizeof(in))),
		  0);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_OPENDIR, doc.nodeid, &in, sizeof(in))),
		  -ENOTDIR);
}

TEST_F(tree, handles_are_not_mistaken_for_older_ones)
{
	struct fuse_entry_out sink, doc;
	struct fuse_open_out first, second;

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	doc = raw_lookup(&self->raw, 1, "doc");
	first = raw_open(&self->raw, sink.nodeid, O_WRONLY);
	EXPECT_EQ(raw_error(&self->raw, raw_release(&self->raw, sink.nodeid, first.fh)), 0);
	EXPECT_EQ(raw_error(&self->raw, raw_release(&self->raw, sink.nodeid, first.fh)), -EBADF);
	second = raw_open(&self->raw, sink.nodeid, O_WRONLY);
	EXPECT_NE(first.fh, second.fh);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, sink.nodeid, first.fh, O_WRONLY, "x")), -EBADF);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, doc.nodeid, second.fh, O_WRONLY, "x")), -EBADF);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, sink.nodeid, second.fh, O_WRONLY, "x")), 0);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, sink.nodeid, 77777, O_WRONLY, "x")), -EBADF);
}

TEST_F(tree, write_and_flush_and_release)
{
	struct fuse_flush_in flush = {0};
	struct fuse_entry_out sink;
	struct fuse_write_out out;
	struct fuse_open_out o;
	uint64_t u;

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	o = raw_open(&self->raw, sink.nodeid, O_WRONLY);
	u = raw_write(&self->raw, sink.nodeid, o.fh, O_WRONLY, "hello\n");
	memcpy(&out, raw_body(&self->raw, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.size, 6u);
	flush.fh = o.fh;
	u = raw_request(&self->raw, FUSE_FLUSH, sink.nodeid, &flush, sizeof(flush));
	EXPECT_EQ(raw_error(&self->raw, u), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_RELEASED, 0, NULL), 0u);
	EXPECT_EQ(raw_error(&self->raw, raw_release(&self->raw, sink.nodeid, o.fh)), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_RELEASED, 0, NULL), 1u);
}

TEST_F(tree, absent_operations)
{
	struct fuse_entry_out sink, doc;
	struct fuse_fsync_in fsync_in;
	struct fuse_open_out o;
	uint64_t u;

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	o = raw_open(&self->raw, sink.nodeid, O_RDWR);
	u = raw_read(&self->raw, sink.nodeid, o.fh, 0, O_RDWR);
	raw_body(&self->raw, u, 0);
	EXPECT_EQ(raw_poll(&self->raw, sink.nodeid, o.fh, 1, 0),
		  (uint32_t)(POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM));
	doc = raw_lookup(&self->raw, 1, "doc");
	o = raw_open(&self->raw, doc.nodeid, O_RDWR);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, doc.nodeid, o.fh, O_RDWR, "x")), -EBADF);
	fsync_in = (struct fuse_fsync_in){.fh = o.fh};
	EXPECT_EQ(raw_error(&self->raw,
			    raw_request(&self->raw, FUSE_FSYNC, doc.nodeid, &fsync_in, sizeof(fsync_in))),
		  0);
}

TEST_F(tree, parked_write_is_answered_later)
{
	struct fuse_entry_out sink;
	struct fuse_write_out out;
	struct fuse_open_out o;
	uint64_t u;
	size_t n;

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	o = raw_open(&self->raw, sink.nodeid, O_WRONLY);
	n = self->raw.n_replies;
	u = raw_write(&self->raw, sink.nodeid, o.fh, O_WRONLY | O_SYNC, "abc");
	EXPECT_EQ(self->raw.n_replies, n);
	raw_toy(&self->raw, TOY_ACK, 0, NULL);
	memcpy(&out, raw_body(&self->raw, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.size, 3u);
	u = raw_write(&self->raw, sink.nodeid, o.fh, O_WRONLY | O_SYNC, "abc");
	raw_toy(&self->raw, TOY_ACK, EDQUOT, NULL);
	EXPECT_EQ(raw_error(&self->raw, u), -EDQUOT);
	EXPECT_EQ(self->raw.n_replies, n + 2);
}

/* The kernel would remember it for the whole mount. */
TEST_F(tree, enosys_of_an_owner_becomes_eio)
{
	struct fuse_fsync_in in;
	struct fuse_entry_out sink;
	uint64_t u;

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	in = (struct fuse_fsync_in){.fh = raw_open(&self->raw, sink.nodeid, O_WRONLY).fh};
	u = raw_request(&self->raw, FUSE_FSYNC, sink.nodeid, &in, sizeof(in));
	raw_toy(&self->raw, TOY_ACK, ENOSYS, NULL);
	EXPECT_EQ(raw_error(&self->raw, u), -EIO);
}

TEST_F(tree, parked_read_gets_data)
{
	struct fuse_entry_out stream;
	uint64_t u, fh;

	raw_init(&self->raw);
	stream = raw_lookup(&self->raw, 1, "stream");
	fh = raw_open(&self->raw, stream.nodeid, O_RDONLY).fh;
	EXPECT_EQ(raw_error(&self->raw, raw_read(&self->raw, stream.nodeid, fh, 0, O_NONBLOCK)), -EAGAIN);
	u = raw_read(&self->raw, stream.nodeid, fh, 0, O_RDONLY);
	raw_toy(&self->raw, TOY_PUSH, 0, "record\n");
	EXPECT_MEMEQ(raw_body(&self->raw, u, 7), "record\n", 7);
	raw_toy(&self->raw, TOY_PUSH, 0, "next\n");
	u = raw_read(&self->raw, stream.nodeid, fh, 7, O_RDONLY);
	EXPECT_MEMEQ(raw_body(&self->raw, u, 5), "next\n", 5);
}

TEST_F(tree, interrupt_answers_the_request_it_names)
{
	struct fuse_entry_out stream;
	uint64_t first, second, fh;
	size_t n;

	raw_init(&self->raw);
	stream = raw_lookup(&self->raw, 1, "stream");
	fh = raw_open(&self->raw, stream.nodeid, O_RDONLY).fh;
	first = raw_read(&self->raw, stream.nodeid, fh, 0, O_RDONLY);
	second = raw_read(&self->raw, stream.nodeid, fh, 0, O_RDONLY);
	n = self->raw.n_replies;
	raw_interrupt(&self->raw, 987654);
	EXPECT_EQ(self->raw.n_replies, n);
	raw_interrupt(&self->raw, first);
	EXPECT_EQ(raw_error(&self->raw, first), -EINTR);
	EXPECT_EQ(self->raw.n_replies, n + 1);
	raw_interrupt(&self->raw, first);
	EXPECT_EQ(self->raw.n_replies, n + 1);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_PARKED, 0, NULL), 1u);
	raw_toy(&self->raw, TOY_PUSH, 0, "x");
	raw_body(&self->raw, second, 1);
	raw_interrupt(&self->raw, second);
	EXPECT_EQ(self->raw.n_replies, n + 2);
}

TEST_F(tree, release_takes_back_what_is_parked)
{
	struct fuse_entry_out stream;
	uint64_t fh;
	size_t n;

	raw_init(&self->raw);
	stream = raw_lookup(&self->raw, 1, "stream");
	fh = raw_open(&self->raw, stream.nodeid, O_RDONLY).fh;
	for (int i = 0; i < 10; i++)
		raw_read(&self->raw, stream.nodeid, fh, 0, O_RDONLY);
	n = self->raw.n_replies;
	raw_release(&self->raw, stream.nodeid, fh);
	EXPECT_EQ(self->raw.n_replies, n + 11);
	EXPECT_EQ(self->raw.replies[n].header.error, -EINTR);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_PARKED, 0, NULL), 0u);
}

TEST_F(tree, detach_answers_what_is_parked)
{
	struct fuse_entry_out stream;
	uint64_t fh, u;

	raw_init(&self->raw);
	stream = raw_lookup(&self->raw, 1, "stream");
	fh = raw_open(&self->raw, stream.nodeid, O_RDONLY).fh;
	u = raw_read(&self->raw, stream.nodeid, fh, 0, O_RDONLY);
	fuse_tree_detach(self->raw.tree);
	EXPECT_EQ(raw_error(&self->raw, u), -ECONNABORTED);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_PARKED, 0, NULL), 0u);
	fuse_tree_attach(self->raw.tree, &self->raw.transport);
}

TEST_F(tree, poll_wakes_every_time_until_release)
{
	struct fuse_entry_out stream;
	uint64_t fh, kh;

	raw_init(&self->raw);
	stream = raw_lookup(&self->raw, 1, "stream");
	fh = raw_open(&self->raw, stream.nodeid, O_RDONLY).fh;
	EXPECT_EQ(raw_poll(&self->raw, stream.nodeid, fh, 31, 0), (uint32_t)(POLLOUT | POLLWRNORM));
	raw_toy(&self->raw, TOY_PUSH, 0, "a");
	EXPECT_EQ(self->raw.n_notes, 0u);
	EXPECT_TRUE(raw_poll(&self->raw, stream.nodeid, fh, 31, FUSE_POLL_SCHEDULE_NOTIFY) & POLLIN);
	for (unsigned int i = 1; i <= 3; i++) {
		raw_toy(&self->raw, TOY_PUSH, 0, "b");
		ASSERT_EQ(self->raw.n_notes, i);
		EXPECT_EQ(self->raw.notes[i - 1].header.error, (int)FUSE_NOTIFY_POLL);
		memcpy(&kh, self->raw.notes[i - 1].body, sizeof(kh));
		EXPECT_EQ(kh, 31u);
	}
	raw_release(&self->raw, stream.nodeid, fh);
	raw_toy(&self->raw, TOY_PUSH, 0, "c");
	EXPECT_EQ(self->raw.n_notes, 3u);
}

TEST_F(tree, changed_document_is_priority_until_read_from_its_beginning)
{
	struct fuse_entry_out doc;
	uint64_t fh;

	raw_init(&self->raw);
	raw_toy(&self->raw, TOY_SET_DOC, 0, "before the open\n");
	doc = raw_lookup(&self->raw, 1, "doc");
	fh = raw_open(&self->raw, doc.nodeid, O_RDONLY).fh;
	EXPECT_FALSE(raw_poll(&self->raw, doc.nodeid, fh, 5, FUSE_POLL_SCHEDULE_NOTIFY) & POLLPRI);
	raw_toy(&self->raw, TOY_SET_DOC, 0, "changed\n");
	EXPECT_EQ(self->raw.n_notes, 2u);
	EXPECT_EQ(self->raw.notes[1].header.error, (int)FUSE_NOTIFY_POLL);
	EXPECT_EQ(raw_poll(&self->raw, doc.nodeid, fh, 5, 0) & (POLLPRI | POLLERR),
		  (uint32_t)(POLLPRI | POLLERR));
	raw_read(&self->raw, doc.nodeid, fh, 3, O_RDONLY);
	EXPECT_TRUE(raw_poll(&self->raw, doc.nodeid, fh, 5, 0) & POLLPRI);
	raw_read(&self->raw, doc.nodeid, fh, 0, O_RDONLY);
	EXPECT_FALSE(raw_poll(&self->raw, doc.nodeid, fh, 5, 0) & (POLLPRI | POLLERR));
}

/* Reads a directory in replies of @size bytes; returns the number of entries, each seen once. */
static size_t read_directory(struct fuse_raw *raw, uint64_t nodeid, uint32_t size)
{
	struct fuse_read_in in = {.size = size};
	size_t n = 0;

	for (;;) {
		const struct fuse_raw_message *m;
		size_t pos = 0;

		raw->n_replies = 0;
		ASSERT_EQ(raw_error(raw, raw_request(raw, FUSE_READDIR, nodeid, &in, sizeof(in))), 0);
		m = &raw->replies[0];
		ASSERT_LE(m->body_len, (size_t)size);
		if (m->body_len == 0)
			return n;
		while (pos < m->body_len) {
			struct fuse_dirent entry;

			memcpy(&entry, m->body + pos, FUSE_NAME_OFFSET);
			ASSERT_GT(entry.off, in.offset);
			in.offset = entry.off;
			pos += FUSE_DIRENT_SIZE(&entry);
			n++;
		}
		ASSERT_EQ(pos, m->body_len);
	}
}

TEST_F(tree, readdir_in_pieces)
{
	struct fuse_entry_out sub;

	raw_init(&self->raw);
	EXPECT_EQ(read_directory(&self->raw, 1, 4096), 11u);
	sub = raw_lookup(&self->raw, 1, "sub");
	EXPECT_EQ(raw_toy(&self->raw, TOY_ADD_FILES, 1000, NULL), 1000u);
	EXPECT_EQ(read_directory(&self->raw, sub.nodeid, 64), 1003u);
	EXPECT_EQ(read_directory(&self->raw, sub.nodeid, 4096), 1003u);
	EXPECT_EQ(read_directory(&self->raw, sub.nodeid, UINT32_MAX), 1003u);
}

TEST_F(tree, names_of_nodes)
{
	static const char *const bad[] = {"", ".", "..", "a/b"};
	struct fuse_node_options options = {.name = "new", .mode = S_IFDIR | 0755};
	struct fuse_node *root = fuse_tree_root(self->raw.tree), *node;
	char name[300];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		options.name = bad[i];
		EXPECT_EQ(fuse_node_add(&node, root, &options), -EINVAL);
	}
	memset(name, 'x', sizeof(name));
	name[256] = '\0';
	options.name = name;
	EXPECT_EQ(fuse_node_add(&node, root, &options), -EINVAL);
	name[255] = '\0';
	EXPECT_EQ(fuse_node_add(&node, root, &options), 0);
	EXPECT_EQ(fuse_node_add(&node, root, &options), -EEXIST);
}

TEST_F(tree, many_open_files)
{
	struct fuse_entry_out sink;
	uint64_t fh[3000];

	raw_init(&self->raw);
	sink = raw_lookup(&self->raw, 1, "sink");
	for (size_t i = 0; i < ARRAY_SIZE(fh); i++) {
		self->raw.n_replies = 0;
		fh[i] = raw_open(&self->raw, sink.nodeid, O_WRONLY).fh;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fh); i++) {
		self->raw.n_replies = 0;
		ASSERT_EQ(raw_error(&self->raw, raw_release(&self->raw, sink.nodeid, fh[i])), 0);
	}
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_RELEASED, 0, NULL), 3000u);
}

TEST_F(tree, resent_requests_are_answered_by_their_own_unique)
{
	struct fuse_entry_out stream;
	uint64_t fh, u;

	raw_init(&self->raw);
	stream = raw_lookup(&self->raw, 1, "stream");
	fh = raw_open(&self->raw, stream.nodeid, O_RDONLY).fh;
	self->raw.unique |= FUSE_UNIQUE_RESEND;
	u = raw_read(&self->raw, stream.nodeid, fh, 0, O_RDONLY);
	EXPECT_TRUE(u & FUSE_UNIQUE_RESEND);
	raw_interrupt(&self->raw, u);
	EXPECT_EQ(raw_error(&self->raw, u), -EINTR);
}

TEST_F(tree, gone_is_told_once)
{
	raw_init(&self->raw);
	EXPECT_EQ(raw_toy(&self->raw, TOY_GONE, 0, NULL), 0u);
	fuse_tree_gone(self->raw.tree);
	fuse_tree_gone(self->raw.tree);
	EXPECT_EQ(raw_toy(&self->raw, TOY_GONE, 0, NULL), 1u);
	/* Nothing is sent to nobody. */
	raw_toy(&self->raw, TOY_SET_DOC, 0, "x");
	EXPECT_EQ(self->raw.n_notes, 0u);
}

TEST_HARNESS_MAIN
