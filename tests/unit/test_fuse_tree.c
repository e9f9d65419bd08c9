/* SPDX-License-Identifier: MIT */
/*
 * The tree behind a transport that keeps what is sent: requests as bytes in, replies and notifications out.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "fuse/transport.h"
#include "fuse/wire.h"
#include "tests/harness.h"
#include "tests/support/fuse_toy.h"

#define N_MESSAGES 64

struct message {
	struct fuse_out_header header;
	uint8_t body[17000];
	size_t body_len;
};

FIXTURE(tree)
{
	struct fuse_transport transport;
	struct toy_tree *toy;
	struct fuse_tree *tree;
	struct message replies[N_MESSAGES];
	struct message notes[N_MESSAGES];
	size_t n_replies, n_notes;
	uint64_t unique;
	int send_error;
};

static void keep(struct message *m, const struct iovec *iov, int n_iov)
{
	memset(m, 0, sizeof(*m));
	memcpy(&m->header, iov[0].iov_base, sizeof(m->header));
	for (int i = 1; i < n_iov; i++) {
		memcpy(m->body + m->body_len, iov[i].iov_base, iov[i].iov_len);
		m->body_len += iov[i].iov_len;
	}
	ASSERT_EQ(m->header.len, sizeof(m->header) + m->body_len);
}

static int keep_reply(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	struct fixture_tree *self = container_of(transport, struct fixture_tree, transport);

	ASSERT_LT(self->n_replies, (size_t)N_MESSAGES);
	keep(&self->replies[self->n_replies++], iov, n_iov);
	return self->send_error;
}

static int keep_note(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	struct fixture_tree *self = container_of(transport, struct fixture_tree, transport);

	ASSERT_LT(self->n_notes, (size_t)N_MESSAGES);
	keep(&self->notes[self->n_notes++], iov, n_iov);
	return 0;
}

static const struct fuse_transport_ops keep_ops = {.reply = keep_reply, .notify = keep_note};

/* Sends a request; returns its unique. */
static uint64_t request_data(struct fixture_tree *self, uint32_t opcode, uint64_t nodeid, const void *arg,
			     size_t arg_len, const void *data, size_t data_len)
{
	uint8_t buffer[2048];
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + arg_len + data_len),
		.opcode = opcode,
		.unique = self->unique += 2,
		.nodeid = nodeid,
		.pid = 77,
	};

	memcpy(buffer, &header, sizeof(header));
	if (arg_len > 0)
		memcpy(buffer + sizeof(header), arg, arg_len);
	if (data_len > 0)
		memcpy(buffer + sizeof(header) + arg_len, data, data_len);
	fuse_tree_request(self->tree, BYTES(buffer, header.len));
	return header.unique;
}

static uint64_t request(struct fixture_tree *self, uint32_t opcode, uint64_t nodeid, const void *arg,
			size_t arg_len)
{
	return request_data(self, opcode, nodeid, arg, arg_len, NULL, 0);
}

/* The newest reply's error, after checking that it answers @unique. */
static int error_of(struct fixture_tree *self, uint64_t unique)
{
	const struct message *m = &self->replies[self->n_replies - 1];

	ASSERT_GT(self->n_replies, 0u);
	ASSERT_EQ(m->header.unique, unique);
	return m->header.error;
}

static const void *body_of(struct fixture_tree *self, uint64_t unique, size_t len)
{
	const struct message *m = &self->replies[self->n_replies - 1];

	ASSERT_EQ(error_of(self, unique), 0);
	ASSERT_EQ(m->body_len, len);
	return m->body;
}

static void init(struct fixture_tree *self)
{
	struct fuse_init_in in = {.major = 7, .minor = 38, .flags = ~0u, .flags2 = ~0u};

	ASSERT_EQ(error_of(self, request(self, FUSE_INIT, 0, &in, sizeof(in))), 0);
}

static struct fuse_entry_out lookup(struct fixture_tree *self, uint64_t parent, const char *name)
{
	struct fuse_entry_out out;
	uint64_t u = request(self, FUSE_LOOKUP, parent, name, strlen(name) + 1);

	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	return out;
}

static struct fuse_open_out open_node(struct fixture_tree *self, uint64_t nodeid, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out out;
	uint64_t u = request(self, FUSE_OPEN, nodeid, &in, sizeof(in));

	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	return out;
}

static uint64_t read_file(struct fixture_tree *self, uint64_t nodeid, uint64_t fh, uint64_t offset,
			  uint32_t flags)
{
	struct fuse_read_in in = {.fh = fh, .offset = offset, .size = 4096, .flags = flags};

	return request(self, FUSE_READ, nodeid, &in, sizeof(in));
}

static uint64_t write_file(struct fixture_tree *self, uint64_t nodeid, uint64_t fh, uint32_t flags,
			   const char *text)
{
	struct fuse_write_in in = {.fh = fh, .size = (uint32_t)strlen(text), .flags = flags};

	return request_data(self, FUSE_WRITE, nodeid, &in, sizeof(in), text, strlen(text));
}

static uint64_t release(struct fixture_tree *self, uint64_t nodeid, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	return request(self, FUSE_RELEASE, nodeid, &in, sizeof(in));
}

static uint32_t poll_file(struct fixture_tree *self, uint64_t nodeid, uint64_t fh, uint64_t kh,
			  uint32_t flags)
{
	struct fuse_poll_in in = {.fh = fh, .kh = kh, .flags = flags};
	struct fuse_poll_out out;
	uint64_t u = request(self, FUSE_POLL, nodeid, &in, sizeof(in));

	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	return out.revents;
}

static void interrupt(struct fixture_tree *self, uint64_t unique)
{
	struct fuse_interrupt_in in = {.unique = unique};

	request(self, FUSE_INTERRUPT, 0, &in, sizeof(in));
}

static uint64_t toy(struct fixture_tree *self, enum toy_ask what, uint64_t arg, const char *text)
{
	char copy[TOY_TEXT_SIZE] = "";

	if (text)
		snprintf(copy, sizeof(copy), "%s", text);
	return toy_tree_do(self->toy, what, arg, copy);
}

FIXTURE_SETUP(tree)
{
	ASSERT_EQ(toy_tree_new(&self->toy, NULL, NULL), 0);
	self->tree = toy_tree_fuse(self->toy);
	self->transport = (struct fuse_transport){.ops = &keep_ops, .max_pages = 256};
	fuse_tree_attach(self->tree, &self->transport);
}

FIXTURE_TEARDOWN(tree)
{
	if (test_is_orphan())
		return;
	fuse_tree_detach(self->tree);
	toy_tree_free(self->toy);
}

TEST_F(tree, nothing_before_init)
{
	EXPECT_EQ(error_of(self, request(self, FUSE_STATFS, 1, NULL, 0)), -EIO);
	init(self);
	EXPECT_EQ(error_of(self, request(self, FUSE_STATFS, 1, NULL, 0)), 0);
}

TEST_F(tree, init_once)
{
	struct fuse_init_in in = {.major = 7, .minor = 38};

	init(self);
	EXPECT_EQ(error_of(self, request(self, FUSE_INIT, 0, &in, sizeof(in))), -EIO);
}

TEST_F(tree, init_of_a_later_major_comes_twice)
{
	struct fuse_init_in in = {.major = 8};
	struct fuse_init_out out;
	uint64_t u = request(self, FUSE_INIT, 0, &in, sizeof(in));

	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.major, 7u);
	EXPECT_EQ(error_of(self, request(self, FUSE_STATFS, 1, NULL, 0)), -EIO);
	init(self);
}

TEST_F(tree, init_of_an_old_kernel_is_refused)
{
	struct fuse_init_in in = {.major = 7, .minor = 12};

	EXPECT_EQ(error_of(self, request(self, FUSE_INIT, 0, &in, sizeof(in))), -EPROTO);
	EXPECT_EQ(error_of(self, request(self, FUSE_STATFS, 1, NULL, 0)), -EIO);
}

TEST_F(tree, malformed_requests_get_einval_or_nothing)
{
	size_t n;

	init(self);
	EXPECT_EQ(error_of(self, request(self, FUSE_OPEN, 1, "x", 1)), -EINVAL);
	EXPECT_EQ(error_of(self, request(self, FUSE_LOOKUP, 1, "abc", 3)), -EINVAL);
	n = self->n_replies;
	request(self, FUSE_FORGET, 1, NULL, 0);
	request(self, FUSE_BATCH_FORGET, 1, NULL, 0);
	request(self, FUSE_INTERRUPT, 1, NULL, 0);
	fuse_tree_request(self->tree, BYTES_LIT("short"));
	EXPECT_EQ(self->n_replies, n);
}

TEST_F(tree, refusals)
{
	static const struct {
		uint32_t opcode;
		int error;
	} rows[] = {
		{FUSE_MKDIR, -EPERM},      {FUSE_CREATE, -EPERM},
		{FUSE_UNLINK, -EPERM},     {FUSE_RENAME2, -EPERM},
		{FUSE_GETXATTR, -ENOSYS},  {FUSE_SETXATTR, -ENOSYS},
		{FUSE_LISTXATTR, -ENOSYS}, {FUSE_IOCTL, -ENOTTY},
		{FUSE_LSEEK, -ENOSYS},     {63, -ENOSYS},
		{4000000000u, -ENOSYS},
	};

	init(self);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		EXPECT_EQ(error_of(self, request(self, rows[i].opcode, 1, NULL, 0)), rows[i].error);
}

TEST_F(tree, lookup_and_attributes)
{
	struct fuse_entry_out doc, sink, sub, leaf;

	init(self);
	doc = lookup(self, 1, "doc");
	sink = lookup(self, 1, "sink");
	sub = lookup(self, 1, "sub");
	leaf = lookup(self, sub.nodeid, "leaf");
	EXPECT_EQ(doc.attr.mode, (uint32_t)(S_IFREG | 0644));
	EXPECT_EQ(doc.attr.size, 9u);
	EXPECT_EQ(doc.entry_valid, 1u);
	EXPECT_EQ(doc.attr_valid, 0u);
	EXPECT_EQ(sink.attr_valid, 1u);
	EXPECT_EQ(sub.attr.mode, (uint32_t)(S_IFDIR | 0755));
	EXPECT_EQ(sub.attr.nlink, 2u);
	EXPECT_EQ(leaf.attr.size, 5u);
	EXPECT_EQ(leaf.generation, 0u);
	EXPECT_EQ(error_of(self, request(self, FUSE_LOOKUP, 1, "leaf", 5)), -ENOENT);
	EXPECT_EQ(error_of(self, request(self, FUSE_LOOKUP, doc.nodeid, "leaf", 5)), -ENOTDIR);
	EXPECT_EQ(error_of(self, request(self, FUSE_LOOKUP, 999, "leaf", 5)), -ESTALE);
}

TEST_F(tree, long_names_are_told)
{
	char name[300];

	init(self);
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	EXPECT_EQ(error_of(self, request(self, FUSE_LOOKUP, 1, name, 257)), -ENAMETOOLONG);
	name[255] = '\0';
	EXPECT_EQ(error_of(self, request(self, FUSE_LOOKUP, 1, name, 256)), -ENOENT);
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

	init(self);
	toy(self, TOY_SET_DOC, 0, "a");
	EXPECT_EQ(self->n_notes, 0u);
	doc = lookup(self, 1, "doc");
	lookup(self, 1, "doc");
	lookup(self, 1, "doc");
	request(self, FUSE_FORGET, doc.nodeid, &forget, sizeof(forget));
	toy(self, TOY_SET_DOC, 0, "b");
	EXPECT_EQ(self->n_notes, 1u);
	EXPECT_EQ(self->notes[0].header.error, (int)FUSE_NOTIFY_INVAL_INODE);
	batch.ones[0] = (struct fuse_forget_one){.nodeid = doc.nodeid, .nlookup = 2};
	batch.ones[1] = (struct fuse_forget_one){.nodeid = 4242, .nlookup = 2};
	request(self, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch));
	toy(self, TOY_SET_DOC, 0, "c");
	EXPECT_EQ(self->n_notes, 1u);
	/* More than it holds, and the root: harmless. */
	request(self, FUSE_FORGET, doc.nodeid, &forget, sizeof(forget));
	request(self, FUSE_FORGET, 1, &forget, sizeof(forget));
	EXPECT_EQ(error_of(self, request(self, FUSE_STATFS, 1, NULL, 0)), 0);
}

TEST_F(tree, lookup_whose_reply_is_lost_does_not_count)
{
	init(self);
	self->send_error = -ENOENT;
	request(self, FUSE_LOOKUP, 1, "doc", 4);
	self->send_error = 0;
	toy(self, TOY_SET_DOC, 0, "a");
	EXPECT_EQ(self->n_notes, 0u);
}

TEST_F(tree, open_whose_reply_is_lost_is_released)
{
	struct fuse_open_in in = {.flags = O_WRONLY};
	struct fuse_entry_out sink;

	init(self);
	sink = lookup(self, 1, "sink");
	self->send_error = -ENOENT;
	request(self, FUSE_OPEN, sink.nodeid, &in, sizeof(in));
	EXPECT_EQ(toy(self, TOY_N_RELEASED, 0, NULL), 1u);
}

TEST_F(tree, setattr)
{
	struct fuse_setattr_in in = {.valid = FATTR_SIZE};
	struct fuse_attr_out out;
	struct fuse_entry_out sink;
	uint64_t u;

	init(self);
	sink = lookup(self, 1, "sink");
	EXPECT_EQ(error_of(self, request(self, FUSE_SETATTR, sink.nodeid, &in, sizeof(in))), 0);
	in.size = 5;
	EXPECT_EQ(error_of(self, request(self, FUSE_SETATTR, sink.nodeid, &in, sizeof(in))), -EINVAL);
	in = (struct fuse_setattr_in){
		.valid = FATTR_MODE | FATTR_UID | FATTR_GID, .mode = 04755, .uid = 7, .gid = 8};
	u = request(self, FUSE_SETATTR, sink.nodeid, &in, sizeof(in));
	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.attr.mode, (uint32_t)(S_IFREG | 0755));
	EXPECT_EQ(out.attr.uid, 7u);
	EXPECT_EQ(out.attr.gid, 8u);
	in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 1000, .mtimensec = 5000000};
	u = request(self, FUSE_SETATTR, sink.nodeid, &in, sizeof(in));
	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.attr.mtime, 1000u);
	EXPECT_EQ(out.attr.mtimensec, 5000000u);
}

TEST_F(tree, open_flags_by_kind)
{
	struct fuse_entry_out sink, doc, sub;
	struct fuse_open_in in = {.flags = O_RDONLY};

	init(self);
	sink = lookup(self, 1, "sink");
	doc = lookup(self, 1, "doc");
	sub = lookup(self, 1, "sub");
	EXPECT_EQ(open_node(self, sink.nodeid, O_WRONLY).open_flags, 0x71u);
	EXPECT_EQ(open_node(self, doc.nodeid, O_RDONLY).open_flags,
		  (uint32_t)(FOPEN_DIRECT_IO | FOPEN_NOFLUSH));
	EXPECT_EQ(error_of(self, request(self, FUSE_OPEN, sub.nodeid, &in, sizeof(in))), -EISDIR);
	EXPECT_EQ(error_of(self, request(self, FUSE_OPENDIR, sub.nodeid, &in, sizeof(in))), 0);
	EXPECT_EQ(error_of(self, request(self, FUSE_OPENDIR, doc.nodeid, &in, sizeof(in))), -ENOTDIR);
}

TEST_F(tree, handles_are_not_mistaken_for_older_ones)
{
	struct fuse_entry_out sink, doc;
	struct fuse_open_out first, second;

	init(self);
	sink = lookup(self, 1, "sink");
	doc = lookup(self, 1, "doc");
	first = open_node(self, sink.nodeid, O_WRONLY);
	EXPECT_EQ(error_of(self, release(self, sink.nodeid, first.fh)), 0);
	EXPECT_EQ(error_of(self, release(self, sink.nodeid, first.fh)), -EBADF);
	second = open_node(self, sink.nodeid, O_WRONLY);
	EXPECT_NE(first.fh, second.fh);
	EXPECT_EQ(error_of(self, write_file(self, sink.nodeid, first.fh, O_WRONLY, "x")), -EBADF);
	EXPECT_EQ(error_of(self, write_file(self, doc.nodeid, second.fh, O_WRONLY, "x")), -EBADF);
	EXPECT_EQ(error_of(self, write_file(self, sink.nodeid, second.fh, O_WRONLY, "x")), 0);
	EXPECT_EQ(error_of(self, write_file(self, sink.nodeid, 77777, O_WRONLY, "x")), -EBADF);
}

TEST_F(tree, write_and_flush_and_release)
{
	struct fuse_entry_out sink;
	struct fuse_write_out out;
	struct fuse_open_out o;
	uint64_t u;

	init(self);
	sink = lookup(self, 1, "sink");
	o = open_node(self, sink.nodeid, O_WRONLY);
	u = write_file(self, sink.nodeid, o.fh, O_WRONLY, "hello\n");
	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.size, 6u);
	EXPECT_EQ(error_of(self, request(self, FUSE_FLUSH, sink.nodeid, NULL, 0)), 0);
	EXPECT_EQ(toy(self, TOY_N_RELEASED, 0, NULL), 0u);
	EXPECT_EQ(error_of(self, release(self, sink.nodeid, o.fh)), 0);
	EXPECT_EQ(toy(self, TOY_N_RELEASED, 0, NULL), 1u);
}

TEST_F(tree, absent_operations)
{
	struct fuse_entry_out sink, doc;
	struct fuse_fsync_in fsync_in;
	struct fuse_open_out o;
	uint64_t u;

	init(self);
	sink = lookup(self, 1, "sink");
	o = open_node(self, sink.nodeid, O_RDWR);
	u = read_file(self, sink.nodeid, o.fh, 0, O_RDWR);
	body_of(self, u, 0);
	EXPECT_EQ(poll_file(self, sink.nodeid, o.fh, 1, 0),
		  (uint32_t)(POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM));
	doc = lookup(self, 1, "doc");
	o = open_node(self, doc.nodeid, O_RDWR);
	EXPECT_EQ(error_of(self, write_file(self, doc.nodeid, o.fh, O_RDWR, "x")), -EBADF);
	fsync_in = (struct fuse_fsync_in){.fh = o.fh};
	EXPECT_EQ(error_of(self, request(self, FUSE_FSYNC, doc.nodeid, &fsync_in, sizeof(fsync_in))), 0);
}

TEST_F(tree, parked_write_is_answered_later)
{
	struct fuse_entry_out sink;
	struct fuse_write_out out;
	struct fuse_open_out o;
	uint64_t u;
	size_t n;

	init(self);
	sink = lookup(self, 1, "sink");
	o = open_node(self, sink.nodeid, O_WRONLY);
	n = self->n_replies;
	u = write_file(self, sink.nodeid, o.fh, O_WRONLY | O_SYNC, "abc");
	EXPECT_EQ(self->n_replies, n);
	toy(self, TOY_ACK, 0, NULL);
	memcpy(&out, body_of(self, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.size, 3u);
	u = write_file(self, sink.nodeid, o.fh, O_WRONLY | O_SYNC, "abc");
	toy(self, TOY_ACK, EDQUOT, NULL);
	EXPECT_EQ(error_of(self, u), -EDQUOT);
	EXPECT_EQ(self->n_replies, n + 2);
}

/* The kernel would remember it for the whole mount. */
TEST_F(tree, enosys_of_an_owner_becomes_eio)
{
	struct fuse_fsync_in in;
	struct fuse_entry_out sink;
	uint64_t u;

	init(self);
	sink = lookup(self, 1, "sink");
	in = (struct fuse_fsync_in){.fh = open_node(self, sink.nodeid, O_WRONLY).fh};
	u = request(self, FUSE_FSYNC, sink.nodeid, &in, sizeof(in));
	toy(self, TOY_ACK, ENOSYS, NULL);
	EXPECT_EQ(error_of(self, u), -EIO);
}

TEST_F(tree, parked_read_gets_data)
{
	struct fuse_entry_out stream;
	uint64_t u, fh;

	init(self);
	stream = lookup(self, 1, "stream");
	fh = open_node(self, stream.nodeid, O_RDONLY).fh;
	EXPECT_EQ(error_of(self, read_file(self, stream.nodeid, fh, 0, O_NONBLOCK)), -EAGAIN);
	u = read_file(self, stream.nodeid, fh, 0, O_RDONLY);
	toy(self, TOY_PUSH, 0, "record\n");
	EXPECT_MEMEQ(body_of(self, u, 7), "record\n", 7);
	toy(self, TOY_PUSH, 0, "next\n");
	u = read_file(self, stream.nodeid, fh, 7, O_RDONLY);
	EXPECT_MEMEQ(body_of(self, u, 5), "next\n", 5);
}

TEST_F(tree, interrupt_answers_the_request_it_names)
{
	struct fuse_entry_out stream;
	uint64_t first, second, fh;
	size_t n;

	init(self);
	stream = lookup(self, 1, "stream");
	fh = open_node(self, stream.nodeid, O_RDONLY).fh;
	first = read_file(self, stream.nodeid, fh, 0, O_RDONLY);
	second = read_file(self, stream.nodeid, fh, 0, O_RDONLY);
	n = self->n_replies;
	interrupt(self, 987654);
	EXPECT_EQ(self->n_replies, n);
	interrupt(self, first);
	EXPECT_EQ(error_of(self, first), -EINTR);
	EXPECT_EQ(self->n_replies, n + 1);
	interrupt(self, first);
	EXPECT_EQ(self->n_replies, n + 1);
	EXPECT_EQ(toy(self, TOY_N_PARKED, 0, NULL), 1u);
	toy(self, TOY_PUSH, 0, "x");
	body_of(self, second, 1);
	interrupt(self, second);
	EXPECT_EQ(self->n_replies, n + 2);
}

TEST_F(tree, release_takes_back_what_is_parked)
{
	struct fuse_entry_out stream;
	uint64_t fh;
	size_t n;

	init(self);
	stream = lookup(self, 1, "stream");
	fh = open_node(self, stream.nodeid, O_RDONLY).fh;
	for (int i = 0; i < 10; i++)
		read_file(self, stream.nodeid, fh, 0, O_RDONLY);
	n = self->n_replies;
	release(self, stream.nodeid, fh);
	EXPECT_EQ(self->n_replies, n + 11);
	EXPECT_EQ(self->replies[n].header.error, -EINTR);
	EXPECT_EQ(toy(self, TOY_N_PARKED, 0, NULL), 0u);
}

TEST_F(tree, detach_answers_what_is_parked)
{
	struct fuse_entry_out stream;
	uint64_t fh, u;

	init(self);
	stream = lookup(self, 1, "stream");
	fh = open_node(self, stream.nodeid, O_RDONLY).fh;
	u = read_file(self, stream.nodeid, fh, 0, O_RDONLY);
	fuse_tree_detach(self->tree);
	EXPECT_EQ(error_of(self, u), -ECONNABORTED);
	EXPECT_EQ(toy(self, TOY_N_PARKED, 0, NULL), 0u);
	fuse_tree_attach(self->tree, &self->transport);
}

TEST_F(tree, poll_wakes_every_time_until_release)
{
	struct fuse_entry_out stream;
	uint64_t fh, kh;

	init(self);
	stream = lookup(self, 1, "stream");
	fh = open_node(self, stream.nodeid, O_RDONLY).fh;
	EXPECT_EQ(poll_file(self, stream.nodeid, fh, 31, 0), (uint32_t)(POLLOUT | POLLWRNORM));
	toy(self, TOY_PUSH, 0, "a");
	EXPECT_EQ(self->n_notes, 0u);
	EXPECT_TRUE(poll_file(self, stream.nodeid, fh, 31, FUSE_POLL_SCHEDULE_NOTIFY) & POLLIN);
	for (unsigned int i = 1; i <= 3; i++) {
		toy(self, TOY_PUSH, 0, "b");
		ASSERT_EQ(self->n_notes, i);
		EXPECT_EQ(self->notes[i - 1].header.error, (int)FUSE_NOTIFY_POLL);
		memcpy(&kh, self->notes[i - 1].body, sizeof(kh));
		EXPECT_EQ(kh, 31u);
	}
	release(self, stream.nodeid, fh);
	toy(self, TOY_PUSH, 0, "c");
	EXPECT_EQ(self->n_notes, 3u);
}

TEST_F(tree, changed_document_is_priority_until_read_from_its_beginning)
{
	struct fuse_entry_out doc;
	uint64_t fh;

	init(self);
	toy(self, TOY_SET_DOC, 0, "before the open\n");
	doc = lookup(self, 1, "doc");
	fh = open_node(self, doc.nodeid, O_RDONLY).fh;
	EXPECT_FALSE(poll_file(self, doc.nodeid, fh, 5, FUSE_POLL_SCHEDULE_NOTIFY) & POLLPRI);
	toy(self, TOY_SET_DOC, 0, "changed\n");
	EXPECT_EQ(self->n_notes, 2u);
	EXPECT_EQ(self->notes[1].header.error, (int)FUSE_NOTIFY_POLL);
	EXPECT_EQ(poll_file(self, doc.nodeid, fh, 5, 0) & (POLLPRI | POLLERR), (uint32_t)(POLLPRI | POLLERR));
	read_file(self, doc.nodeid, fh, 3, O_RDONLY);
	EXPECT_TRUE(poll_file(self, doc.nodeid, fh, 5, 0) & POLLPRI);
	read_file(self, doc.nodeid, fh, 0, O_RDONLY);
	EXPECT_FALSE(poll_file(self, doc.nodeid, fh, 5, 0) & (POLLPRI | POLLERR));
}

/* Reads a directory in replies of @size bytes; returns the number of entries, each seen once. */
static size_t read_directory(struct fixture_tree *self, uint64_t nodeid, uint32_t size)
{
	struct fuse_read_in in = {.size = size};
	size_t n = 0;

	for (;;) {
		const struct message *m;
		size_t pos = 0;

		self->n_replies = 0;
		ASSERT_EQ(error_of(self, request(self, FUSE_READDIR, nodeid, &in, sizeof(in))), 0);
		m = &self->replies[0];
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

	init(self);
	EXPECT_EQ(read_directory(self, 1, 4096), 7u);
	sub = lookup(self, 1, "sub");
	EXPECT_EQ(toy(self, TOY_ADD_FILES, 1000, NULL), 1000u);
	EXPECT_EQ(read_directory(self, sub.nodeid, 64), 1003u);
	EXPECT_EQ(read_directory(self, sub.nodeid, 4096), 1003u);
	EXPECT_EQ(read_directory(self, sub.nodeid, UINT32_MAX), 1003u);
}

TEST_F(tree, names_of_nodes)
{
	static const char *const bad[] = {"", ".", "..", "a/b"};
	struct fuse_node_options options = {.name = "new", .mode = S_IFDIR | 0755};
	struct fuse_node *root = fuse_tree_root(self->tree), *node;
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

	init(self);
	sink = lookup(self, 1, "sink");
	for (size_t i = 0; i < ARRAY_SIZE(fh); i++) {
		self->n_replies = 0;
		fh[i] = open_node(self, sink.nodeid, O_WRONLY).fh;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fh); i++) {
		self->n_replies = 0;
		ASSERT_EQ(error_of(self, release(self, sink.nodeid, fh[i])), 0);
	}
	EXPECT_EQ(toy(self, TOY_N_RELEASED, 0, NULL), 3000u);
}

TEST_F(tree, resent_requests_are_answered_by_their_own_unique)
{
	struct fuse_entry_out stream;
	uint64_t fh, u;

	init(self);
	stream = lookup(self, 1, "stream");
	fh = open_node(self, stream.nodeid, O_RDONLY).fh;
	self->unique |= FUSE_UNIQUE_RESEND;
	u = read_file(self, stream.nodeid, fh, 0, O_RDONLY);
	EXPECT_TRUE(u & FUSE_UNIQUE_RESEND);
	interrupt(self, u);
	EXPECT_EQ(error_of(self, u), -EINTR);
}

TEST_F(tree, gone_is_told_once)
{
	init(self);
	EXPECT_EQ(toy(self, TOY_GONE, 0, NULL), 0u);
	fuse_tree_gone(self->tree);
	fuse_tree_gone(self->tree);
	EXPECT_EQ(toy(self, TOY_GONE, 0, NULL), 1u);
	/* Nothing is sent to nobody. */
	toy(self, TOY_SET_DOC, 0, "x");
	EXPECT_EQ(self->n_notes, 0u);
}

TEST_HARNESS_MAIN
