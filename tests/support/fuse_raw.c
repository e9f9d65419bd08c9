/* SPDX-License-Identifier: MIT */
/*
 * A tree behind a transport that keeps what is sent, see fuse_raw.h.
 */

#include "tests/support/fuse_raw.h"

#include "base/cleanup.h"
#include "tests/harness.h"

static void keep(struct fuse_raw_message *m, const struct iovec *iov, int n_iov)
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
	struct fuse_raw *raw = container_of(transport, struct fuse_raw, transport);

	ASSERT_LT(raw->n_replies, (size_t)FUSE_RAW_MESSAGES);
	keep(&raw->replies[raw->n_replies++], iov, n_iov);
	return raw->send_error;
}

static int keep_note(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	struct fuse_raw *raw = container_of(transport, struct fuse_raw, transport);

	ASSERT_LT(raw->n_notes, (size_t)FUSE_RAW_MESSAGES);
	keep(&raw->notes[raw->n_notes++], iov, n_iov);
	return 0;
}

static const struct fuse_transport_ops keep_ops = {.reply = keep_reply, .notify = keep_note};

uint64_t raw_request_data(struct fuse_raw *raw, uint32_t opcode, uint64_t nodeid, const void *arg,
			  size_t arg_len, const void *data, size_t data_len)
{
	uint8_t buffer[2048];
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + arg_len + data_len),
		.opcode = opcode,
		.unique = raw->unique += 2,
		.nodeid = nodeid,
		.pid = raw->thread,
	};

	memcpy(buffer, &header, sizeof(header));
	if (arg_len > 0)
		memcpy(buffer + sizeof(header), arg, arg_len);
	if (data_len > 0)
		memcpy(buffer + sizeof(header) + arg_len, data, data_len);
	fuse_tree_request(raw->tree, BYTES(buffer, header.len));
	return header.unique;
}

uint64_t raw_request(struct fuse_raw *raw, uint32_t opcode, uint64_t nodeid, const void *arg, size_t arg_len)
{
	return raw_request_data(raw, opcode, nodeid, arg, arg_len, NULL, 0);
}

int raw_error(struct fuse_raw *raw, uint64_t unique)
{
	const struct fuse_raw_message *m = &raw->replies[raw->n_replies - 1];

	ASSERT_GT(raw->n_replies, 0u);
	ASSERT_EQ(m->header.unique, unique);
	return m->header.error;
}

const void *raw_body(struct fuse_raw *raw, uint64_t unique, size_t len)
{
	const struct fuse_raw_message *m = &raw->replies[raw->n_replies - 1];

	ASSERT_EQ(raw_error(raw, unique), 0);
	ASSERT_EQ(m->body_len, len);
	return m->body;
}

void raw_init(struct fuse_raw *raw)
{
	struct fuse_init_in in = {.major = 7, .minor = 38, .flags = ~0u, .flags2 = ~0u};

	ASSERT_EQ(raw_error(raw, raw_request(raw, FUSE_INIT, 0, &in, sizeof(in))), 0);
}

struct fuse_entry_out raw_lookup(struct fuse_raw *raw, uint64_t parent, const char *name)
{
	struct fuse_entry_out out;
	uint64_t u = raw_request(raw, FUSE_LOOKUP, parent, name, strlen(name) + 1);

	memcpy(&out, raw_body(raw, u, sizeof(out)), sizeof(out));
	return out;
}

struct fuse_open_out raw_open(struct fuse_raw *raw, uint64_t nodeid, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out out;
	uint64_t u = raw_request(raw, FUSE_OPEN, nodeid, &in, sizeof(in));

	memcpy(&out, raw_body(raw, u, sizeof(out)), sizeof(out));
	return out;
}

uint64_t raw_read(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh, uint64_t offset, uint32_t flags)
{
	struct fuse_read_in in = {.fh = fh, .offset = offset, .size = 4096, .flags = flags};

	return raw_request(raw, FUSE_READ, nodeid, &in, sizeof(in));
}

uint64_t raw_write(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh, uint32_t flags, const char *text)
{
	struct fuse_write_in in = {.fh = fh, .size = (uint32_t)strlen(text), .flags = flags};

	return raw_request_data(raw, FUSE_WRITE, nodeid, &in, sizeof(in), text, strlen(text));
}

uint64_t raw_release(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	return raw_request(raw, FUSE_RELEASE, nodeid, &in, sizeof(in));
}

uint32_t raw_poll(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh, uint64_t kh, uint32_t flags)
{
	struct fuse_poll_in in = {.fh = fh, .kh = kh, .flags = flags};
	struct fuse_poll_out out;
	uint64_t u = raw_request(raw, FUSE_POLL, nodeid, &in, sizeof(in));

	memcpy(&out, raw_body(raw, u, sizeof(out)), sizeof(out));
	return out.revents;
}

void raw_interrupt(struct fuse_raw *raw, uint64_t unique)
{
	struct fuse_interrupt_in in = {.unique = unique};

	raw_request(raw, FUSE_INTERRUPT, 0, &in, sizeof(in));
}

uint64_t raw_toy(struct fuse_raw *raw, enum toy_ask what, uint64_t arg, const char *text)
{
	char copy[TOY_TEXT_SIZE] = "";

	if (text)
		snprintf(copy, sizeof(copy), "%s", text);
	return toy_tree_do(raw->toy, what, arg, copy);
}

void raw_setup(struct fuse_raw *raw)
{
	ASSERT_EQ(toy_tree_new(&raw->toy, NULL, NULL), 0);
	raw->tree = toy_tree_fuse(raw->toy);
	raw->thread = 77;
	raw->transport = (struct fuse_transport){.ops = &keep_ops, .max_pages = 256};
	fuse_tree_attach(raw->tree, &raw->transport);
}

void raw_teardown(struct fuse_raw *raw)
{
	if (test_is_orphan())
		return;
	fuse_tree_detach(raw->tree);
	toy_tree_free(raw->toy);
}
