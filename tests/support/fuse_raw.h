/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_FUSE_RAW_H
#define TESTS_SUPPORT_FUSE_RAW_H

/*
 * The toy tree behind a transport that keeps what is sent: requests as bytes in, replies and notifications
 * out. What goes wrong ends the test with an assertion.
 */

#include <stddef.h>
#include <stdint.h>

#include "fuse/transport.h"
#include "fuse/wire.h"
#include "tests/support/fuse_toy.h"

#define FUSE_RAW_MESSAGES 64

struct fuse_raw_message {
	struct fuse_out_header header;
	uint8_t body[17000];
	size_t body_len;
};

struct fuse_raw {
	struct fuse_transport transport;
	struct toy_tree *toy;
	struct fuse_tree *tree;
	struct fuse_raw_message replies[FUSE_RAW_MESSAGES];
	struct fuse_raw_message notes[FUSE_RAW_MESSAGES];
	size_t n_replies, n_notes; /* a test that needs many sets them to 0 in between */
	uint64_t unique;           /* of the last request */
	uint32_t thread;           /* that sends the requests */
	int send_error;            /* of replies */
};

void raw_setup(struct fuse_raw *raw);
void raw_teardown(struct fuse_raw *raw);

/* Send a request; return its unique. */
uint64_t raw_request(struct fuse_raw *raw, uint32_t opcode, uint64_t nodeid, const void *arg, size_t arg_len);
uint64_t raw_request_data(struct fuse_raw *raw, uint32_t opcode, uint64_t nodeid, const void *arg,
			  size_t arg_len, const void *data, size_t data_len);
uint64_t raw_read(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh, uint64_t offset, uint32_t flags);
uint64_t raw_write(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh, uint32_t flags, const char *text);
uint64_t raw_release(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh);
void raw_interrupt(struct fuse_raw *raw, uint64_t unique);

/* Error and body (of @len bytes, without error) of the newest reply, which answers @unique. */
int raw_error(struct fuse_raw *raw, uint64_t unique);
const void *raw_body(struct fuse_raw *raw, uint64_t unique, size_t len);

/* Send a request that succeeds; return what was answered. */
void raw_init(struct fuse_raw *raw);
struct fuse_entry_out raw_lookup(struct fuse_raw *raw, uint64_t parent, const char *name);
struct fuse_open_out raw_open(struct fuse_raw *raw, uint64_t nodeid, uint32_t flags);
uint32_t raw_poll(struct fuse_raw *raw, uint64_t nodeid, uint64_t fh, uint64_t kh, uint32_t flags);

/* toy_tree_do(); @text may be NULL. */
uint64_t raw_toy(struct fuse_raw *raw, enum toy_ask what, uint64_t arg, const char *text);

#endif
