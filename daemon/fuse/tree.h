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
	 * @file->write_flags has the caller's O_SYNC, O_DSYNC, O_NONBLOCK, O_APPEND of this very write; with O_APPEND
	 * @offset is where the kernel believes the end to be. */
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
	/* Whether a parked request goes on although its caller got a signal, because it ends soon whatever happens:
	 * until then the caller cannot be killed. Absent: none does. */
	bool (*holds)(struct fuse_parked *parked);
	/* Somebody closes a descriptor of the file, or ends; @file->pid is who. Not the end of the file: release
	 * is. Only the files of nodes with this operation cost a FLUSH. */
	void (*flush)(struct fuse_file *file);
	/* truncate(2) and, with @file, ftruncate(2). Absent: 0 is accepted and does nothing, others -EINVAL. O_TRUNC
	 * of open(2) does not come here but is in @file->flags at open. */
	int (*truncate)(struct fuse_node *node, struct fuse_file *file, uint64_t size);
	/* ioctl(2): @in are the bytes of an _IOW or _IOWR command. Answers with fuse_reply_ioctl() (and returns 0), a
	 * negative errno, or parks. Absent: -ENOTTY. */
	int (*ioctl)(struct fuse_file *file, struct fuse_request *req, uint32_t command, struct bytes in);
	/* Size shown by stat(2), for documents. */
	uint64_t (*size)(struct fuse_node *node);
	/* The node was removed, or its tree is being freed, and no file is open on it: nothing is called for it any
	 * more and its userdata is the owner's again. Called once, when all that a removal takes out is out, what is
	 * below a directory before the directory; those of open files come later. */
	void (*drop)(struct fuse_node *node);
};

/*
 * What users may do in a directory; an absent operation is -EPERM. Permissions have been checked by the kernel,
 * names by the tree (fuse_node_add()). Results are 0 or a negative errno. The owner changes the tree itself, by
 * fuse_node_add(), fuse_node_remove() and fuse_node_move(), before it returns 0.
 */
struct fuse_dir_ops {
	/* @out: the new node. @mode: permission bits, the caller's umask applied. */
	int (*mkdir)(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out);
	/* Makes an empty file, which is opened next as by open(2). */
	int (*create)(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out);
	/* Whether a directory must be empty is for the owner to say: -ENOTEMPTY. */
	int (*rmdir)(struct fuse_node *dir, struct fuse_node *child);
	int (*unlink)(struct fuse_node *dir, struct fuse_node *child);
	/* @replaced: what has the new name now, NULL = nothing; it is of the same kind, and @new_dir is not below
	 * @child. Asked of the directory of @child; one with another rename operation is -EXDEV, and mv(1) copies. */
	int (*rename)(struct fuse_node *child, struct fuse_node *new_dir, const char *new_name,
		      struct fuse_node *replaced);
	/* As in struct fuse_file_ops. */
	void (*drop)(struct fuse_node *node);
};

struct fuse_node_options {
	const char *name; /* copied; at most 255 bytes, no '/' */
	mode_t mode;      /* S_IFREG or S_IFDIR and permissions */
	uid_t uid;
	gid_t gid;
	bool record; /* stream or record file: direct-io, non-seekable, no flush, parallel writes */
	/* Another file, a document, of which a write or fsync may wait for long: the kernel is shown it as several, so that
	 * who waits holds up nobody else, see inode.c. */
	bool writers_wait;
	/* The daemon removes it by itself: the kernel asks each time whether it is still there. */
	bool transient;
	/* fuse_node_changed() is called when what stat(2) shows of the file is another: the kernel need not ask each time,
	 * though the node be transient or have a size. What is not told, such as the times and link count of a directory,
	 * is seen a moment late. */
	bool tells_changes;
	const struct fuse_file_ops *ops;    /* files only; borrowed */
	const struct fuse_dir_ops *dir_ops; /* directories only, may be NULL; borrowed */
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
/* At most 255 bytes; borrowed until the node is moved or removed. */
const char *fuse_node_name(const struct fuse_node *node);
/* NULL for the root, and for what was removed. */
struct fuse_node *fuse_node_parent(const struct fuse_node *node);
/* The child of that name, or NULL. */
struct fuse_node *fuse_node_find(struct fuse_node *dir, const char *name);
/* The children in the order they were added: NULL @after is the first; NULL at the end. */
struct fuse_node *fuse_node_next_child(struct fuse_node *dir, struct fuse_node *after);
bool fuse_node_is_dir(const struct fuse_node *node);

/*
 * Takes @node, and everything below it, out of the tree: its names are gone at once. Open files go on with their
 * operations until they are released; requests that are parked stay parked, it is for the owner to answer them.
 * The pointers are invalid afterwards except inside the operations of open files. Not the root.
 */
void fuse_node_remove(struct fuse_node *node);
/* Gives @node another name or directory, or both. Returns 0, -EEXIST, -EINVAL (name; or @dir is below @node). */
int fuse_node_move(struct fuse_node *node, struct fuse_node *dir, const char *name);
/* The document changed: sets mtime and ctime, tells the kernel to drop what it cached, wakes poll(2) with
 * POLLPRI. */
void fuse_node_changed(struct fuse_node *node);
/* A record or document whose writers may come to wait for one another: for some minutes from now on, files that are
 * opened share no inode with one that is open. */
void fuse_node_keep_apart(struct fuse_node *node);
/* Poll events of open files of @node may have changed: wakes everybody who polls one of them. */
void fuse_node_poll_wake(struct fuse_node *node);
void fuse_file_poll_wake(struct fuse_file *file);

/* Answers a READ inside its operation; @data at most the size asked for. */
void fuse_reply_data(struct fuse_request *req, struct bytes data);
/* The same with what @document has at @offset, which is nothing behind its end. */
void fuse_reply_document(struct fuse_request *req, struct bytes document, uint64_t offset);

/* Answers an IOCTL inside its operation; @data at most the size of an _IOR or _IOWR command. */
void fuse_reply_ioctl(struct fuse_request *req, struct bytes data);

/* Whether the thread @pid, which closes a file or ends, was ended by a signal. False when that cannot be known. */
bool fuse_pid_was_killed(pid_t pid);

/* Parks @req in @parked; the operation then returns FUSE_PARKED. Check O_NONBLOCK first. */
void fuse_park(struct fuse_request *req, struct fuse_parked *parked);
/* Answers a parked request: @result as the operation would have returned it (not FUSE_PARKED). */
void fuse_parked_reply(struct fuse_parked *parked, ssize_t result);
/* Answers a parked READ with data. */
void fuse_parked_reply_data(struct fuse_parked *parked, struct bytes data);

/* Requests received so far by opcode (FUSE_* of linux/fuse.h); 0 for unknown ones. For tests and metrics. */
uint64_t fuse_tree_n_requests(const struct fuse_tree *tree, uint32_t opcode);
/* Removed nodes that open files or the kernel still use; likewise. */
uint64_t fuse_tree_n_removed(const struct fuse_tree *tree);

#endif
