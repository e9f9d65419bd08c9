/* SPDX-License-Identifier: MIT */
/*
 * Inodes: a file whose writers may wait can have several, so that whoever waits in one does not hold up the others.
 *
 * The kernel keeps a lock per inode. A WRITE holds it until it is answered, alone when it appends or goes
 * beyond the size that the kernel knows (0 after every `>`), and so does an FSYNC; `>` takes it after its
 * OPEN, to truncate, and so do chmod(2), unlink(2) and rename(2), the latter two with the lock of the directory.
 * Who waits for that lock cannot be killed. With one inode for a file, a single O_SYNC write that waits for the
 * hub would hang every `echo x > file` until the hub answers, and after an `rm file` the whole directory.
 *
 * What the kernel takes for an inode is the identifier that LOOKUP answers. So an OPEN on an inode that is
 * taken is answered -ESTALE: the kernel then walks the path again with a LOOKUP of each name, finds another
 * identifier, drops the name it had cached and opens the other inode, with a free lock. The inode number and
 * attributes that users see are the node's. Open files stay where they are.
 *
 * When an inode is taken, for the next OPEN:
 *  - its node is apart, and a file is open on it. A node is apart while a WRITE or FSYNC of it waits, and
 *    APART_NS after the last one was answered, a file was opened with O_SYNC or O_DSYNC, or its owner said so;
 *  - otherwise, when a file has been open on it for LINGER_NS: before any request waits the ones that stay,
 *    who may begin to, are apart from the ones that come, and `echo x > file` beside them still costs OPEN,
 *    WRITE and RELEASE. Only files opened within that time of each other share an inode, and can hold each
 *    other up the first time one of them waits;
 *  - or it is reserved for another thread.
 *
 * The kernel tries again once; a second -ESTALE would be the user's. Other threads race for the inodes
 * meanwhile, and through /proc/self/fd or a bind mount of the file itself there is no name to look up, so
 * that the same inode is opened again. Therefore a refused thread has an inode reserved: its LOOKUP gets that
 * one, and its next OPEN on the node is served whatever the inode. A reservation ends with that OPEN or after
 * RESERVED_NS (the thread was killed on its way). The header names threads; one of a foreign pid namespace is
 * 0 there, nothing can be reserved for it, and it is never refused.
 *
 * The first inode is part of the node. Others come when needed, are used again when no file is open on them,
 * and end when the kernel forgets them. A node has at most FUSE_MAX_INODES; then nothing is refused, and
 * files share what there is.
 *
 * What this leaves to users is in iothub(7), "Waiting beside others".
 *
 * In all this the open files of a document count only when they may be written to: others hold no lock. A document
 * is also locked and watched, and what is in the kernel per inode (flock(2) and fcntl(2) locks, watches of
 * inotify(7)) should be whole there. So its name leads to the first inode whenever that is free, and a file that is
 * opened with O_SYNC or O_DSYNC to be written is sent to another from the start: the first is left only beside an
 * fsync(2) that waits, or a file that is open for writing for long.
 *
 * Directories, and files whose writers do not wait, have one inode.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/time.h"
#include "fuse/internal.h"

#define APART_NS    (600 * NSEC_PER_SEC)
#define LINGER_NS   (100 * NSEC_PER_MSEC)
#define RESERVED_NS (10 * NSEC_PER_SEC)

/* --- life cycle */

static struct list *id_chain(struct fuse_tree *tree, uint64_t id)
{
	return &tree->by_id[id & (FUSE_N_NODE_CHAINS - 1)];
}

struct fuse_inode *tree_inode(struct fuse_tree *tree, uint64_t id)
{
	list_for_each (l, id_chain(tree, id)) {
		struct fuse_inode *inode = container_of(l, struct fuse_inode, id_link);

		if (inode->id == id)
			return inode;
	}
	return NULL;
}

void inode_init(struct fuse_inode *inode, struct fuse_node *node)
{
	struct fuse_tree *tree = node->tree;

	*inode = (struct fuse_inode){.node = node, .id = ++tree->last_id};
	list_init(&inode->id_link);
	list_init(&inode->node_link);
	list_append(id_chain(tree, inode->id), &inode->id_link);
	list_append(&node->inodes, &inode->node_link);
	node->n_inodes++;
}

static void inode_deinit(struct fuse_inode *inode)
{
	list_remove(&inode->id_link);
	list_remove(&inode->node_link);
	inode->node->n_inodes--;
}

static struct fuse_inode *inode_new(struct fuse_node *node)
{
	struct fuse_inode *inode;

	if (node->n_inodes >= FUSE_MAX_INODES)
		return NULL;
	inode = malloc(sizeof(*inode));
	if (inode)
		inode_init(inode, node);
	return inode;
}

static bool inode_is_reserved(const struct fuse_inode *inode, uint64_t now_ns)
{
	return inode->reserved_for && now_ns < inode->reserved_until_ns;
}

/* Ends an inode that nobody can name any more, and its node when that was the last of one that is not in the
 * tree. */
static void inode_put(struct fuse_inode *inode)
{
	struct fuse_node *node = inode->node;

	if (inode->n_lookup > 0 || inode->n_open > 0)
		return;
	if (node_is_live(node) &&
	    (inode == node->current || inode_is_reserved(inode, tree_now_ns(node->tree))))
		return;
	if (inode != &node->first) {
		inode_deinit(inode);
		free(inode);
	}
	node_put(node);
}

void node_trim_inodes(struct fuse_node *node)
{
	node->current = &node->first;
	list_for_each_safe (l, &node->inodes) {
		struct fuse_inode *inode = container_of(l, struct fuse_inode, node_link);

		if (inode == &node->first || inode->n_lookup > 0 || inode->n_open > 0)
			continue;
		inode_deinit(inode);
		free(inode);
	}
}

void inode_forget(struct fuse_inode *inode, uint64_t n)
{
	inode->n_lookup -= n < inode->n_lookup ? n : inode->n_lookup;
	inode_put(inode);
}

void node_free_inodes(struct fuse_node *node)
{
	list_for_each_safe (l, &node->inodes) {
		struct fuse_inode *inode = container_of(l, struct fuse_inode, node_link);

		inode_deinit(inode);
		if (inode != &node->first)
			free(inode);
	}
}

/* --- choice */

static bool node_is_apart(const struct fuse_node *node, uint64_t now_ns)
{
	return node->n_waiting > 0 || now_ns < node->apart_until_ns;
}

static bool node_has_several(const struct fuse_node *node)
{
	return node->record || node->writers_wait;
}

static bool inode_is_taken(const struct fuse_inode *inode, uint64_t now_ns)
{
	if (inode_is_reserved(inode, now_ns))
		return true;
	if (inode->n_lockers == 0)
		return false;
	return node_is_apart(inode->node, now_ns) || now_ns - inode->opened_ns >= LINGER_NS;
}

/* An inode that nobody locks, for somebody who found another one taken; NULL at the limit. */
static struct fuse_inode *node_spare_inode(struct fuse_node *node, uint64_t now_ns)
{
	list_for_each (l, &node->inodes) {
		struct fuse_inode *inode = container_of(l, struct fuse_inode, node_link);

		if (inode->n_lockers == 0 && !inode_is_reserved(inode, now_ns) &&
		    (node->record || inode != &node->first))
			return inode;
	}
	return inode_new(node);
}

static struct fuse_inode *node_reserved_inode(struct fuse_node *node, pid_t thread, uint64_t now_ns)
{
	list_for_each (l, &node->inodes) {
		struct fuse_inode *inode = container_of(l, struct fuse_inode, node_link);

		if (inode->reserved_for == thread && inode_is_reserved(inode, now_ns))
			return inode;
	}
	return NULL;
}

/* From now on the name leads to @inode. */
static struct fuse_inode *node_lead_to(struct fuse_node *node, struct fuse_inode *inode)
{
	struct fuse_inode *before = node->current;

	node->current = inode;
	if (before != inode)
		inode_put(before);
	return inode;
}

/*
 * The kernel does not use the name of a reserved inode for others, nor any name while a request waits: those
 * that take the lock without OPEN, such as chmod(2) and truncate(2), are then sent to a free one as well.
 */
struct fuse_inode *node_lookup_inode(struct fuse_node *node, pid_t thread, uint64_t *valid_s)
{
	uint64_t now_ns = tree_now_ns(node->tree);
	struct fuse_inode *inode;

	*valid_s = FUSE_ENTRY_TIMEOUT_S;
	if (!node_has_several(node))
		return &node->first;
	inode = node_reserved_inode(node, thread, now_ns);
	if (inode) {
		*valid_s = 0;
		return inode;
	}
	if (node->n_waiting > 0)
		*valid_s = 0;
	if (!node->record && !inode_is_taken(&node->first, now_ns))
		return node_lead_to(node, &node->first);
	if (inode_is_taken(node->current, now_ns)) {
		inode = node_spare_inode(node, now_ns);
		if (inode)
			node->current = inode;
	}
	return node->current;
}

/* --- open files and waiting requests */

bool node_locks(const struct fuse_node *node, uint32_t flags)
{
	return node->record || (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

int inode_admit(struct fuse_inode *inode, pid_t thread, uint32_t flags)
{
	struct fuse_node *node = inode->node;
	uint64_t now_ns = tree_now_ns(node->tree);
	struct fuse_inode *other;
	bool waits;

	if (!node_has_several(node))
		return 0;
	waits = node_locks(node, flags) && (flags & (O_SYNC | O_DSYNC));
	if (waits)
		node->apart_until_ns = now_ns + APART_NS;
	other = node_reserved_inode(node, thread, now_ns);
	if (other) {
		other->reserved_for = 0;
		if (other != inode)
			inode_put(other);
		return 0;
	}
	if (thread == 0 || !node_locks(node, flags))
		return 0;
	if (!inode_is_taken(inode, now_ns) && (node->record || !waits || inode != &node->first))
		return 0;
	other = node_spare_inode(node, now_ns);
	if (!other)
		return 0;
	other->reserved_for = thread;
	other->reserved_until_ns = now_ns + RESERVED_NS;
	return -ESTALE;
}

void inode_opened(struct fuse_inode *inode, bool locks)
{
	inode->n_open++;
	if (locks && inode->n_lockers++ == 0)
		inode->opened_ns = tree_now_ns(inode->node->tree);
}

void inode_closed(struct fuse_inode *inode, bool locks)
{
	assert(inode->n_open > 0 && inode->n_lockers >= locks);
	inode->n_open--;
	inode->n_lockers -= locks;
	inode_put(inode);
}

void node_waits(struct fuse_node *node)
{
	node->n_waiting++;
}

void fuse_node_keep_apart(struct fuse_node *node)
{
	node->apart_until_ns = tree_now_ns(node->tree) + APART_NS;
}

void node_answered(struct fuse_node *node)
{
	assert(node->n_waiting > 0);
	node->n_waiting--;
	node->apart_until_ns = tree_now_ns(node->tree) + APART_NS;
}
