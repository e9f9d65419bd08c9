/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_FUSE_LINE_H
#define TESTS_SUPPORT_FUSE_LINE_H

/*
 * A transport without a kernel, for tests of what is in a tree: requests as calls, replies kept by the
 * request's unique. For test files that include the harness: failures are reported through it.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/list.h"
#include "fuse/transport.h"
#include "fuse/wire.h"
#include "tests/harness.h"

/* Replies kept; older ones are overwritten. */
#define FUSE_LINE_REPLIES 16384
#define FUSE_LINE_REQUEST 300000
/* Longest reply kept, without its header. */
#define FUSE_LINE_BODY 1024

/* fuse_line_result() of a request that waits; no errno and no success. */
#define FUSE_LINE_WAITS 1

struct fuse_line_reply {
	uint64_t unique;
	uint64_t number; /* replies are counted from 1 */
	int error;
	uint8_t body[FUSE_LINE_BODY];
	size_t len;
};

struct fuse_line {
	struct fuse_transport transport;
	struct fuse_tree *tree;
	uint64_t unique;
	uint64_t n_replies;
	uint64_t n_notes;
	struct fuse_line_reply replies[FUSE_LINE_REPLIES];
	uint8_t request[FUSE_LINE_REQUEST];
};

static inline struct fuse_line_reply *fuse_line_slot(struct fuse_line *line, uint64_t unique)
{
	return &line->replies[unique / 2 % FUSE_LINE_REPLIES];
}

static inline int fuse_line_keep(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	struct fuse_line *line = container_of(transport, struct fuse_line, transport);
	struct fuse_out_header header;
	struct fuse_line_reply *reply;

	memcpy(&header, iov[0].iov_base, sizeof(header));
	reply = fuse_line_slot(line, header.unique);
	/* One answer each. */
	ASSERT_NE(reply->unique, header.unique);
	*reply = (struct fuse_line_reply){
		.unique = header.unique, .number = ++line->n_replies, .error = header.error};
	for (int i = 1; i < n_iov; ++i) {
		ASSERT_LE(reply->len + iov[i].iov_len, sizeof(reply->body));
		memcpy(reply->body + reply->len, iov[i].iov_base, iov[i].iov_len);
		reply->len += iov[i].iov_len;
	}
	return 0;
}

static inline int fuse_line_note(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	(void)iov;
	(void)n_iov;
	++container_of(transport, struct fuse_line, transport)->n_notes;
	return 0;
}

/* Sends a request; returns its unique. */
static inline uint64_t fuse_line_request(struct fuse_line *line, uint32_t opcode, uint64_t node_id,
					 const void *arg, size_t arg_len, struct bytes data)
{
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + arg_len + data.len),
		.opcode = opcode,
		.unique = line->unique += 2,
		.nodeid = node_id,
		/* A thread without a number is not sent to another inode: the file is open on the node it was asked for. */
		.pid = opcode == FUSE_OPEN ? 0 : 77,
	};

	ASSERT_LE(header.len, sizeof(line->request));
	memcpy(line->request, &header, sizeof(header));
	memcpy(line->request + sizeof(header), arg, arg_len);
	if (data.len)
		memcpy(line->request + sizeof(header) + arg_len, data.data, data.len);
	fuse_tree_request(line->tree, BYTES(line->request, header.len));
	return header.unique;
}

/* 0, a negative errno, or FUSE_LINE_WAITS. */
static inline int fuse_line_result(struct fuse_line *line, uint64_t unique)
{
	const struct fuse_line_reply *reply = fuse_line_slot(line, unique);

	return reply->unique == unique ? reply->error : FUSE_LINE_WAITS;
}

/* When it was answered, among all replies; 0 = not yet. */
static inline uint64_t fuse_line_number(struct fuse_line *line, uint64_t unique)
{
	const struct fuse_line_reply *reply = fuse_line_slot(line, unique);

	return reply->unique == unique ? reply->number : 0;
}

static inline void fuse_line_body(struct fuse_line *line, uint64_t unique, void *out, size_t len)
{
	ASSERT_EQ(fuse_line_result(line, unique), 0);
	ASSERT_EQ(fuse_line_slot(line, unique)->len, len);
	memcpy(out, fuse_line_slot(line, unique)->body, len);
}

/* Attaches to @tree and says INIT. */
static inline void fuse_line_init(struct fuse_line *line, struct fuse_tree *tree)
{
	static const struct fuse_transport_ops ops = {.reply = fuse_line_keep, .notify = fuse_line_note};
	const struct fuse_init_in in = {.major = 7, .minor = 38, .flags = ~0u, .flags2 = ~0u};

	line->transport = (struct fuse_transport){.ops = &ops, .max_pages = 256};
	line->tree = tree;
	fuse_tree_attach(tree, &line->transport);
	ASSERT_EQ(
		fuse_line_result(line, fuse_line_request(line, FUSE_INIT, 0, &in, sizeof(in), BYTES("", 0))),
		0);
}

/* The node id of @name in the root. */
static inline uint64_t fuse_line_lookup(struct fuse_line *line, const char *name)
{
	struct fuse_entry_out out;

	fuse_line_body(
		line,
		fuse_line_request(line, FUSE_LOOKUP, FUSE_ROOT_ID, name, strlen(name) + 1, BYTES("", 0)),
		&out, sizeof(out));
	return out.nodeid;
}

/* The node id of a path below the root; 0 = there is none. */
static inline uint64_t fuse_line_find(struct fuse_line *line, const char *path)
{
	uint64_t node = FUSE_ROOT_ID;

	while (node && *path) {
		size_t len = strcspn(path, "/");
		struct fuse_entry_out out;
		char name[256] = "";
		uint64_t unique;

		memcpy(name, path, len);
		unique = fuse_line_request(line, FUSE_LOOKUP, node, name, len + 1, BYTES("", 0));
		if (fuse_line_result(line, unique) == -ENOENT)
			return 0;
		fuse_line_body(line, unique, &out, sizeof(out));
		node = out.nodeid;
		path += len + (path[len] == '/');
	}
	return node;
}

static inline uint64_t fuse_line_open(struct fuse_line *line, uint64_t node_id, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out out;

	fuse_line_body(line, fuse_line_request(line, FUSE_OPEN, node_id, &in, sizeof(in), BYTES("", 0)), &out,
		       sizeof(out));
	return out.fh;
}

/* @flags: of the open file, now. Returns the request's unique. */
static inline uint64_t fuse_line_write_at(struct fuse_line *line, uint64_t node_id, uint64_t fh,
					  uint32_t flags, uint64_t offset, struct bytes data)
{
	const struct fuse_write_in in = {
		.fh = fh, .offset = offset, .size = (uint32_t)data.len, .flags = flags};

	return fuse_line_request(line, FUSE_WRITE, node_id, &in, sizeof(in), data);
}

static inline uint64_t fuse_line_write(struct fuse_line *line, uint64_t node_id, uint64_t fh, uint32_t flags,
				       struct bytes data)
{
	return fuse_line_write_at(line, node_id, fh, flags, 0, data);
}

/* At most FUSE_LINE_BODY bytes. Returns the request's unique. */
static inline uint64_t fuse_line_read(struct fuse_line *line, uint64_t node_id, uint64_t fh, uint32_t flags,
				      uint64_t offset, uint32_t size)
{
	const struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size, .flags = flags};

	return fuse_line_request(line, FUSE_READ, node_id, &in, sizeof(in), BYTES("", 0));
}

/* What a request that succeeded was answered with; borrowed until FUSE_LINE_REPLIES later. */
static inline struct bytes fuse_line_data(struct fuse_line *line, uint64_t unique)
{
	const struct fuse_line_reply *reply = fuse_line_slot(line, unique);

	ASSERT_EQ(fuse_line_result(line, unique), 0);
	return BYTES(reply->body, reply->len);
}

static inline uint64_t fuse_line_fsync(struct fuse_line *line, uint64_t node_id, uint64_t fh)
{
	const struct fuse_fsync_in in = {.fh = fh};

	return fuse_line_request(line, FUSE_FSYNC, node_id, &in, sizeof(in), BYTES("", 0));
}

static inline uint32_t fuse_line_poll(struct fuse_line *line, uint64_t node_id, uint64_t fh)
{
	const struct fuse_poll_in in = {
		.fh = fh, .kh = fh, .flags = FUSE_POLL_SCHEDULE_NOTIFY, .events = ~0u};
	struct fuse_poll_out out;

	fuse_line_body(line, fuse_line_request(line, FUSE_POLL, node_id, &in, sizeof(in), BYTES("", 0)), &out,
		       sizeof(out));
	return out.revents;
}

static inline void fuse_line_interrupt(struct fuse_line *line, uint64_t unique)
{
	const struct fuse_interrupt_in in = {.unique = unique};

	fuse_line_request(line, FUSE_INTERRUPT, 0, &in, sizeof(in), BYTES("", 0));
}

static inline void fuse_line_release(struct fuse_line *line, uint64_t node_id, uint64_t fh)
{
	const struct fuse_release_in in = {.fh = fh};

	ASSERT_EQ(fuse_line_result(line, fuse_line_request(line, FUSE_RELEASE, node_id, &in, sizeof(in),
							   BYTES("", 0))),
		  0);
}

#endif
