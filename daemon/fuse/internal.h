/* SPDX-License-Identifier: MIT */
#ifndef FUSE_INTERNAL_H
#define FUSE_INTERNAL_H

/*
 * What tree.c (nodes, notifications), inode.c (what the kernel takes for an inode), dispatch.c (protocol) and
 * file.c (open files) share. Nobody else includes this.
 */

#include "fuse/transport.h"
#include "fuse/tree.h"
#include "fuse/wire.h"

/* Chains of the hash tables; powers of two. */
#define FUSE_N_NODE_CHAINS   1024
#define FUSE_N_PARKED_CHAINS 256

#define FUSE_MAX_NODES       65536
#define FUSE_MAX_OPEN_FILES  65536

/* Inodes of one node at most; beyond that its open files share them, see inode.c. */
#define FUSE_MAX_INODES 256

/* Largest READDIR reply in bytes; the kernel asks again for what did not fit. */
#define FUSE_DIRENTS_SIZE 16384

/* One more than the largest opcode that is counted. */
#define FUSE_N_OPCODES 64

/* How long the kernel may use names and attributes without asking. Short, because it also reuses permission
 * checks. */
#define FUSE_ENTRY_TIMEOUT_S 1

/* A node as the kernel knows it, by one identifier. Those are never given twice: the generation is always 0.
 */
struct fuse_inode {
	struct fuse_node *node;
	struct list id_link;   /* tree->by_id */
	struct list node_link; /* node->inodes */
	uint64_t id;
	uint64_t n_lookup;          /* references of the kernel */
	uint64_t opened_ns;         /* when n_open left 0 */
	uint64_t reserved_until_ns; /* for @reserved_for */
	pid_t reserved_for;         /* a thread, or 0 */
	uint32_t n_open;            /* open files */
};

/* A file or directory; lives as long as the tree. */
struct fuse_node {
	struct fuse_tree *tree;
	struct fuse_node *parent; /* NULL: the root */
	const struct fuse_file_ops *ops;
	void *userdata;

	struct list name_link;    /* tree->by_name */
	struct list sibling_link; /* parent->children, in the order of cookies */
	struct list children;     /* directories */
	struct list open_files;   /* struct open_file.node_link */

	struct fuse_inode first;    /* its identifier is the inode number that users see */
	struct fuse_inode *current; /* the one LOOKUP answers */
	struct list inodes;         /* struct fuse_inode.node_link */
	uint32_t n_inodes;
	uint32_t n_waiting;      /* parked WRITEs and FSYNCs */
	uint64_t apart_until_ns; /* see inode.c */

	uint64_t cookie;    /* READDIR offset */
	uint64_t n_changes; /* fuse_node_changed() calls */
	uint64_t mtime_ms;  /* since 1970 */
	uint64_t ctime_ms;
	uint32_t n_subdirs;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	bool record;
	uint8_t name_len;
	char name[FUSE_WIRE_NAME_MAX + 1];
};

/* A slot of the table of open files; reused, never freed before the tree. */
struct open_file {
	struct fuse_file pub; /* pub.node is NULL while the slot is free */
	struct fuse_inode *inode;
	struct list node_link; /* node->open_files, or tree->free_files */
	uint64_t fh;           /* slot number, and a count of uses in the upper half */
	uint64_t kh;           /* the kernel's handle for NOTIFY_POLL; 0 when never polled */
	uint64_t seen_changes; /* node->n_changes when the file was last read from its beginning */
	uint32_t n_parked;
};

enum fuse_state {
	FUSE_STATE_NEW, /* before INIT */
	FUSE_STATE_READY,
	FUSE_STATE_GONE,
};

struct fuse_tree {
	struct fuse_tree_options options;
	enum fuse_state state;
	struct fuse_transport *transport; /* NULL when not attached */
	struct fuse_node *root;

	struct list by_id[FUSE_N_NODE_CHAINS];
	struct list by_name[FUSE_N_NODE_CHAINS];
	uint64_t now_ns; /* without a loop */
	uint64_t last_id;
	uint64_t last_cookie;
	size_t n_nodes;

	struct open_file **files;
	size_t n_files; /* slots, free ones too */
	size_t files_size;
	struct list free_files;

	struct list parked[FUSE_N_PARKED_CHAINS]; /* struct fuse_parked.link */

	uint64_t n_requests[FUSE_N_OPCODES];
	struct log_once bad_request_log;
	uint8_t dirents[FUSE_DIRENTS_SIZE];
};

/* A request while its operation runs. */
struct fuse_request {
	struct fuse_tree *tree;
	const struct fuse_wire_request *wire;
	struct open_file *file; /* READ, WRITE, FSYNC */
	bool answered;          /* replied or parked */
};

/* --- tree.c */

/* NULL when there is no such node. */
struct fuse_node *tree_node(struct fuse_tree *tree, uint64_t id);
uint64_t tree_now_ns(const struct fuse_tree *tree);
struct fuse_node *tree_child(struct fuse_node *parent, struct bytes name);
/* Wall clock of this turn, in milliseconds since 1970. */
uint64_t tree_wall_ms(const struct fuse_tree *tree);
void node_fill_attr(struct fuse_node *node, struct fuse_attr *out);
/* How long the kernel may use the attributes, in seconds. */
uint64_t node_attr_timeout_s(const struct fuse_node *node);
/* Tells the kernel to drop the attributes it has of @node, but not those of the inode @except_id (0: none). */
void node_drop_attr(struct fuse_node *node, uint64_t except_id);

/* Send a message; 0 or what the transport returns, -ENOTCONN without one. */
int tree_reply(struct fuse_tree *tree, uint64_t unique, struct bytes body);
int tree_reply_error(struct fuse_tree *tree, uint64_t unique, int error);
int tree_notify(struct fuse_tree *tree, int code, struct bytes body);

/* --- inode.c */

/* NULL when there is no such inode. */
struct fuse_inode *tree_inode(struct fuse_tree *tree, uint64_t id);
/* @node->first. */
void inode_init(struct fuse_inode *inode, struct fuse_node *node);
/* All of them, @node->first too; no file is open. */
void node_free_inodes(struct fuse_node *node);
/* What to answer to a LOOKUP by @thread, and how long the kernel may use the name. */
struct fuse_inode *node_lookup_inode(struct fuse_node *node, pid_t thread, uint64_t *valid_s);
/* FORGET. May free @inode. */
void inode_forget(struct fuse_inode *inode, uint64_t n);
/* Whether @thread may open @inode with @flags: 0, or -ESTALE to send it to another one. */
int inode_admit(struct fuse_inode *inode, pid_t thread, uint32_t flags);
/* A file is open on @inode, and no more; the latter may free it. */
void inode_opened(struct fuse_inode *inode);
void inode_closed(struct fuse_inode *inode);
/* A WRITE or FSYNC of @node was parked, and answered. */
void node_waits(struct fuse_node *node);
void node_answered(struct fuse_node *node);

/* --- dispatch.c: handlers return 0 when the request was answered, a negative errno to answer with, or
 * FUSE_PARKED */

int request_reply(struct fuse_request *req, struct bytes body);

/* --- file.c */

int file_handle_open(struct fuse_request *req);
int file_handle_read(struct fuse_request *req);
int file_handle_write(struct fuse_request *req);
int file_handle_fsync(struct fuse_request *req);
int file_handle_poll(struct fuse_request *req);
int file_handle_release(struct fuse_request *req);
int file_handle_interrupt(struct fuse_request *req);
/* Takes every parked request back from its owner and answers it with @error. */
void file_abort_parked(struct fuse_tree *tree, int error);
/* Releases all open files and frees the table. */
void file_table_deinit(struct fuse_tree *tree);

#endif
