/* SPDX-License-Identifier: MIT */
#ifndef FUSE_TREE_H
#define FUSE_TREE_H

/*
 * The file tree as its owners (daemon/flow) see it: nodes with a table of file operations, open files, and
 * requests that may be answered later. The FUSE protocol itself stays below this line.
 *
 * Life of a request: an operation either returns its result, and the reply has been sent when it returns, or
 * returns FUSE_PARKED after fuse_park(), and the owner answers later with one fuse_parked_reply*() call. A
 * parked request ends without its owner when the caller is interrupted or killed: then the `interrupt`
 * operation takes it back first and the tree answers -EINTR.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/loop.h"

struct fuse_tree;
struct fuse_node;
struct fuse_file;
struct fuse_request;

/* Result of an operation that will be answered later; outside the range of errno and of counts. */
#define FUSE_PARKED (-4096)

/*
 * A request that waits, embedded in its owner or in the owner's table of waiters. Linked into the tree while
 * it waits.
 */
struct fuse_parked {
	struct list link; /* the tree's, by unique */
	struct fuse_file *file;
	uint64_t unique;
	uint32_t size; /* READ: bytes asked for */
	uint32_t opcode;
	void *owner_data; /* the owner's */
};

/*
 * What one kind of file does. Absent operations: open allows, read gives end of file, write -EBADF, fsync 0,
 * poll always ready. Arguments are borrowed for the call. Results are 0 or a count, a negative errno, or
 * FUSE_PARKED.
 */
struct fuse_file_ops {
	int (*open)(struct fuse_file *file);
	/* The last reference is gone; nobody is parked on the file. */
	void (*release)(struct fuse_file *file);
	/* Returns the number of bytes taken (all: a write is whole or an error) or a negative errno.
	 * @file->write_flags has the caller's O_SYNC, O_DSYNC, O_NONBLOCK of this very write. */
	ssize_t (*write)(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			 struct bytes data);
	/* Answers with fuse_reply_data() (and returns 0), a negative errno, or parks. */
	int (*read)(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size);
	/* @datasync: fdatasync(2). */
	int (*fsync)(struct fuse_file *file, struct fuse_request *req, bool datasync);
	/* Current poll(2) events (POLLIN, POLLOUT, POLLPRI, POLLERR). */
	uint32_t (*poll)(struct fuse_file *file);
	/* Takes a parked request back: the owner unlinks it from its lists, and may free it; must succeed. */
	void (*interrupt)(struct fuse_parked *parked);
	/* Size shown by stat(2), for documents. */
	uint64_t (*size)(struct fuse_node *node);
};

struct fuse_node_options {
	const char *name; /* copied; at most 255 bytes, no '/' */
	mode_t mode;      /* S_IFREG or S_IFDIR and permissions */
	uid_t uid;
	gid_t gid;
	bool record; /* stream or record file: direct-io, non-seekable, no flush, parallel writes */
	const struct fuse_file_ops *ops; /* files only; borrowed */
	void *userdata;
};

/* The owner's view of an open file; valid from open to release. */
struct fuse_file {
	struct fuse_node *node;
	uint32_t flags; /* O_* of open(2), from then on those of the current read or write (fcntl(2) changes
			   them) */
	uint32_t write_flags; /* O_* of the current write */
	pid_t pid;            /* of the current request */
	void *data;           /* the owner's, NULL at open */
};

struct fuse_tree_options {
	struct loop *loop; /* for the clock; NULL (tests): all times are 0, see also fuse_tree_set_now_ns() */
	struct log *log;
	mode_t root_mode; /* permissions of the root directory */
	uid_t uid;
	gid_t gid;
	/* The kernel ended the connection (unmounted from outside, or aborted); nothing works any more. */
	void (*on_gone)(void *userdata);
	void *userdata;
};

int fuse_tree_new(struct fuse_tree **out, const struct fuse_tree_options *options);
/* Frees the tree, releasing open files; not while a transport serves it (free that first: it answers what is
 * parked). The owners' operations are called for the last time here. NULL is fine. */
void fuse_tree_free(struct fuse_tree *tree);

struct fuse_node *fuse_tree_root(struct fuse_tree *tree);

/* Adds a file or directory to @parent. Returns 0, -ENOMEM (also beyond 65536 nodes), -EEXIST, -EINVAL (name).
 */
int fuse_node_add(struct fuse_node **out, struct fuse_node *parent, const struct fuse_node_options *options);
void *fuse_node_userdata(const struct fuse_node *node);
/* The document changed: sets mtime and ctime, tells the kernel to drop what it cached, wakes poll(2) with
 * POLLPRI. */
void fuse_node_changed(struct fuse_node *node);
/* Poll events of open files of @node may have changed: wakes everybody who polls one of them. */
void fuse_node_poll_wake(struct fuse_node *node);
void fuse_file_poll_wake(struct fuse_file *file);

/* Answers a READ inside its operation; @data at most the size asked for. */
void fuse_reply_data(struct fuse_request *req, struct bytes data);

/* Parks @req in @parked; the operation then returns FUSE_PARKED. Check O_NONBLOCK first. */
void fuse_park(struct fuse_request *req, struct fuse_parked *parked);
/* Answers a parked request: @result as the operation would have returned it (not FUSE_PARKED). */
void fuse_parked_reply(struct fuse_parked *parked, ssize_t result);
/* Answers a parked READ with data. */
void fuse_parked_reply_data(struct fuse_parked *parked, struct bytes data);

/* Requests received so far by opcode (FUSE_* of linux/fuse.h); 0 for unknown ones. For tests and metrics. */
uint64_t fuse_tree_n_requests(const struct fuse_tree *tree, uint32_t opcode);

#endif
