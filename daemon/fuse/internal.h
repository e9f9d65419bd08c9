/* SPDX-License-Identifier: MIT */
#ifndef FUSE_INTERNAL_H
#define FUSE_INTERNAL_H

/*
 * What tree.c (nodes, notifications), removal.c (nodes that are not in the tree any more), inode.c (what the
 * kernel takes for an inode), dispatch.c and names.c (protocol) and file.c (open files) share. Nobody else
 * includes this.
 */

#include "fuse/transport.h"
#include "fuse/tree.h"
#include "fuse/wire.h"

/* Chains of the hash tables; powers of two. */
#define FUSE_N_NODE_CHAINS   1024
#define FUSE_N_PARKED_CHAINS 256

#define FUSE_MAX_NODES       65536
#define FUSE_MAX_OPEN_FILES  65536

/* Removed nodes that are remembered for the kernel; the oldest are given up. */
#define FUSE_MAX_DROPPED 4096

/* Inodes of one node at most; beyond that its open files share them, see inode.c. */
#define FUSE_MAX_INODES 256

/* Largest READDIR reply in bytes; the kernel asks again for what did not fit. */
#define FUSE_DIRENTS_SIZE 16384

/* One more than the largest opcode that is counted. */
#define FUSE_N_OPCODES 64

/* How long the kernel may use names and attributes without asking. Short, because it also reuses permission
 * checks. */
#define FUSE_ENTRY_TIMEOUT_S 1

/* Likewise the attributes of a node that tells its changes. The kernel misses a change that is told between a LOOKUP
 * and the first use of its reply: so that it shows what was before for no longer than this. */
#define FUSE_TOLD_TIMEOUT_NS (20 * NSEC_PER_MSEC)

/* A node as the kernel knows it, by one identifier. Those are never given twice: the generation is always 0.
 */
struct fuse_inode {
	struct fuse_node *node;
	struct list id_link;   /* tree->by_id */
	struct list node_link; /* node->inodes */
	uint64_t id;
	uint64_t n_lookup;          /* references of the kernel */
	uint64_t opened_ns;         /* when n_lockers left 0 */
	uint64_t reserved_until_ns; /* for @reserved_for */
	pid_t reserved_for;         /* a thread, or 0 */
	uint32_t n_open;            /* open files, open directories */
	uint32_t n_lockers;         /* open files that may make the kernel lock it */
};

/* One way: down. */
enum fuse_node_state {
	FUSE_NODE_LIVE,    /* in the tree */
	FUSE_NODE_REMOVED, /* files are open on it, or drop is about to be called */
	FUSE_NODE_DROPPED, /* no operation is called any more; the kernel may name it */
};

/* A file or directory. */
struct fuse_node {
	struct fuse_tree *tree;
	struct fuse_node *parent;           /* NULL: the root, and what is not in the tree */
	const struct fuse_file_ops *ops;    /* files */
	const struct fuse_dir_ops *dir_ops; /* directories; NULL: users change nothing there */
	void *userdata;
	enum fuse_node_state state;

	struct list name_link;    /* tree->by_name */
	struct list sibling_link; /* parent->children, in the order of cookies; else tree->leaving, removed or
				     dropped */
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
	pid_t refused_thread; /* told that a removed node is stale, see removal.c; 0: none yet */
	bool record;
	bool writers_wait;
	bool transient;
	bool tells_changes;
	uint8_t name_len;
	char name[FUSE_WIRE_NAME_MAX + 1];
};

/* A slot of the table of open files; reused, never freed before the tree. */
struct open_file {
	struct fuse_file pub; /* pub.node is NULL while the slot is free */
	struct fuse_inode *inode;
	bool locks;            /* counts in inode->n_lockers */
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
	size_t n_nodes; /* in the tree */

	/* Out of the tree, by sibling_link. */
	struct list leaving; /* detached a moment ago */
	struct list removed;
	struct list dropped; /* oldest first */
	size_t n_removed;    /* in the three of them */
	size_t n_dropped;
	size_t n_unswept; /* dropped since the kernel was last told */
	struct loop_timer sweep_timer;
	uint64_t sweep_delay_ns;
	bool kernel_prunes; /* knows FUSE_NOTIFY_PRUNE */

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
	struct open_file *file; /* of requests about an open file */
	bool answered;          /* replied or parked */
};

/* --- tree.c */

/* As fuse_node_add() wants it. */
bool name_is_valid(const char *name);
/* Takes @node out of its directory, with what is below it. */
void node_link_out(struct fuse_node *node);
/* Frees what is in no list of the tree any more but the removed ones. */
void node_free(struct fuse_node *node);

/* NULL when there is no such node. */
struct fuse_node *tree_node(struct fuse_tree *tree, uint64_t id);
uint64_t tree_now_ns(const struct fuse_tree *tree);
struct fuse_node *tree_child(struct fuse_node *parent, struct bytes name);
/* Wall clock of this turn, in milliseconds since 1970. */
uint64_t tree_wall_ms(const struct fuse_tree *tree);
void node_fill_attr(struct fuse_node *node, struct fuse_attr *out);
/* How long the kernel may use the attributes: seconds, and nanoseconds on top. */
void node_attr_timeout(const struct fuse_node *node, uint64_t *seconds, uint32_t *nanoseconds);
/* Tells the kernel to drop the attributes it has of @node, but not those of the inode @except_id (0: none). */
void node_drop_attr(struct fuse_node *node, uint64_t except_id);

/* Send a message; 0 or what the transport returns, -ENOTCONN without one. */
int tree_reply(struct fuse_tree *tree, uint64_t unique, struct bytes body);
int tree_reply_parts(struct fuse_tree *tree, uint64_t unique, struct bytes head, struct bytes body);
int tree_reply_error(struct fuse_tree *tree, uint64_t unique, int error);
int tree_notify(struct fuse_tree *tree, int code, struct bytes body);

/* --- removal.c */

static inline bool node_is_live(const struct fuse_node *node)
{
	return node->state == FUSE_NODE_LIVE;
}

/* Whether its operations may still be called. */
static inline bool node_is_owned(const struct fuse_node *node)
{
	return node->state != FUSE_NODE_DROPPED;
}

/* A file was closed on @node, and is not in its list any more: drops it when it was the last of a removed node. */
void node_file_closed(struct fuse_node *node);
/* The kernel knows less of @node: frees it when it is out of the tree and nobody can name it any more. */
void node_put(struct fuse_node *node);
/* What to answer to @thread, which came by the identifier of a node that is not in the tree: -ESTALE or -ENOENT. */
int node_refuse(struct fuse_node *node, pid_t thread);
void tree_init_sweep(struct fuse_tree *tree);
/* Tells the kernel nothing more. */
void tree_stop_sweep(struct fuse_tree *tree);
/* Removes and drops all nodes, and frees them; no file is open. */
void tree_free_nodes(struct fuse_tree *tree);

/* --- inode.c */

/* NULL when there is no such inode. */
struct fuse_inode *tree_inode(struct fuse_tree *tree, uint64_t id);
/* @node->first. */
void inode_init(struct fuse_inode *inode, struct fuse_node *node);
/* Frees all but the first that neither the kernel nor an open file uses; @node is not in the tree any more. */
void node_trim_inodes(struct fuse_node *node);
/* All of them, @node->first too; no file is open. */
void node_free_inodes(struct fuse_node *node);
/* What to answer to a LOOKUP by @thread, and how long the kernel may use the name. */
struct fuse_inode *node_lookup_inode(struct fuse_node *node, pid_t thread, uint64_t *valid_s);
/* FORGET. May free @inode, and its node when that is not in the tree. */
void inode_forget(struct fuse_inode *inode, uint64_t n);
/* Whether @thread may open @inode with @flags: 0, or -ESTALE to send it to another one. */
int inode_admit(struct fuse_inode *inode, pid_t thread, uint32_t flags);
/* Whether a file of @node that is opened with @flags may make the kernel lock its inode. */
bool node_locks(const struct fuse_node *node, uint32_t flags);
/* A file or directory is open on @inode, and no more, and @locks as above; the latter may free it, as above. */
void inode_opened(struct fuse_inode *inode, bool locks);
void inode_closed(struct fuse_inode *inode, bool locks);
/* A WRITE or FSYNC of @node was parked, and answered. */
void node_waits(struct fuse_node *node);
void node_answered(struct fuse_node *node);

/* --- dispatch.c: handlers return 0 when the request was answered, a negative errno to answer with, or
 * FUSE_PARKED */

int request_reply(struct fuse_request *req, struct bytes body);
/* The node @id that the request is about, in the tree. Returns 0, -ESTALE, -ENOENT. */
int request_live_node(struct fuse_request *req, uint64_t id, struct fuse_node **out);
/* Fills what the kernel may know of @node; returns the inode that it will refer to. */
struct fuse_inode *request_fill_entry(struct fuse_request *req, struct fuse_node *node,
				      struct fuse_entry_out *out);
/* Answers with @node and counts the kernel's reference. */
int request_reply_entry(struct fuse_request *req, struct fuse_node *node);

/* --- names.c */

int names_handle_mkdir(struct fuse_request *req);
int names_handle_create(struct fuse_request *req);
int names_handle_unlink(struct fuse_request *req);
int names_handle_rmdir(struct fuse_request *req);
int names_handle_rename(struct fuse_request *req);

/* --- file.c */

/*
 * What an owner returned, as the kernel may be told: it takes errors above -512 only, and remembers ENOSYS for
 * the whole mount.
 */
int owner_error(ssize_t result);
/* Opens @inode: the owner's open operation. */
int file_open(struct open_file **out, struct fuse_inode *inode, uint32_t flags, pid_t pid);
/* May free the inode and its node. */
void file_close(struct open_file *file);
/* FOPEN_* for files of @node. */
uint32_t file_open_flags(const struct fuse_node *node);
/* The open file @fh of the request, and notes who asks; NULL when the handle is not valid. */
struct open_file *request_file(struct fuse_request *req, uint64_t fh);

int file_handle_open(struct fuse_request *req);
int file_handle_read(struct fuse_request *req);
int file_handle_write(struct fuse_request *req);
int file_handle_fsync(struct fuse_request *req);
int file_handle_poll(struct fuse_request *req);
int file_handle_flush(struct fuse_request *req);
int file_handle_ioctl(struct fuse_request *req);
int file_handle_release(struct fuse_request *req);
int file_handle_interrupt(struct fuse_request *req);
/* Takes every parked request back from its owner and answers it with @error. */
void file_abort_parked(struct fuse_tree *tree, int error);
/* Releases all open files and frees the table. */
void file_table_deinit(struct fuse_tree *tree);

#endif
