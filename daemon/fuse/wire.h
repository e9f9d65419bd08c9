/* SPDX-License-Identifier: MIT */
#ifndef FUSE_WIRE_H
#define FUSE_WIRE_H

/*
 * The FUSE messages as bytes: requests in, replies and notifications out. Pure: no I/O, no memory of its own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "fuse/abi.h"

/*
 * Largest WRITE. One page more than the hub's largest message (256 KiB), so that a write above that limit
 * arrives visibly larger instead of cut in two.
 */
#define FUSE_WIRE_MAX_WRITE 266240

/* A read buffer of this size takes every request: header, fuse_write_in and data. */
#define FUSE_WIRE_MAX_REQUEST                                                                                \
	(FUSE_WIRE_MAX_WRITE + sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

/* Longest file name in bytes, without NUL. */
#define FUSE_WIRE_NAME_MAX 255

struct fuse_wire_request {
	struct fuse_in_header header;
	union {
		struct fuse_init_in init;
		struct fuse_forget_in forget;
		struct fuse_batch_forget_in batch_forget;
		struct fuse_getattr_in getattr;
		struct fuse_setattr_in setattr;
		struct fuse_open_in open;
		struct fuse_read_in read; /* READ, READDIR */
		struct fuse_write_in write;
		struct fuse_release_in release; /* RELEASE, RELEASEDIR */
		struct fuse_fsync_in fsync;     /* FSYNC, FSYNCDIR */
		struct fuse_poll_in poll;
		struct fuse_interrupt_in interrupt;
		struct fuse_flush_in flush;
		struct fuse_mkdir_in mkdir;
		struct fuse_create_in create;
		struct fuse_rename2_in rename; /* RENAME too: flags are 0 */
		struct fuse_ioctl_in ioctl;
	};
	/* LOOKUP, MKDIR, CREATE, UNLINK, RMDIR, RENAME*: the name, not counting the NUL that follows it; borrowed
	 * from the source. */
	struct bytes name;
	struct bytes new_name; /* RENAME, RENAME2: likewise */
	/* WRITE: what is written; IOCTL: what goes in; BATCH_FORGET: `count` fuse_forget_one; borrowed. */
	struct bytes data;
};

/*
 * Reads one request, as one read(2) of /dev/fuse returns it. Results: 0; -EBADMSG, not even a header, nothing
 * can be answered; -EINVAL, the header is valid and the rest is not. Of opcodes not listed above only the
 * header is read.
 */
int fuse_wire_parse(struct fuse_wire_request *out, struct bytes src);

/* Entry @i of a BATCH_FORGET; @i below its count. */
struct fuse_forget_one fuse_wire_forget_one(const struct fuse_wire_request *request, uint32_t i);

/* FORGET, BATCH_FORGET and INTERRUPT are never answered, not even with an error. */
bool fuse_wire_is_answered(uint32_t opcode);

/*
 * Answers INIT: takes what both sides have. @max_pages is the kernel's limit for the pages of one request.
 * Results: 0; 1, the kernel speaks a later major version and sends INIT again after this answer; -EPROTO, it
 * is too old.
 */
int fuse_wire_init(const struct fuse_init_in *in, uint32_t max_pages, struct fuse_init_out *out);

/* A message for writev(2); points into itself, so it does not move. */
struct fuse_wire_message {
	struct fuse_out_header header;
	struct iovec iov[3];
	int n_iov;
};

/* @body is borrowed until the message was written. */
void fuse_wire_reply(struct fuse_wire_message *out, uint64_t unique, struct bytes body);
/* A reply in two parts, as to IOCTL; both are borrowed until the message was written. */
void fuse_wire_reply_parts(struct fuse_wire_message *out, uint64_t unique, struct bytes head,
			   struct bytes body);
/* @error is a negative errno above -512, or 0. */
void fuse_wire_error(struct fuse_wire_message *out, uint64_t unique, int error);
/* @code is one of enum fuse_notify_code. */
void fuse_wire_notify(struct fuse_wire_message *out, int code, struct bytes body);

/* Appends a directory entry; @type as in the upper bits of st_mode. Returns false when @w has no room for it.
 */
bool fuse_wire_dirent(struct writer *w, uint64_t ino, uint64_t next_offset, uint32_t type, struct bytes name);

#endif
