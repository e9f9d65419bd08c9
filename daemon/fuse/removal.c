/* SPDX-License-Identifier: MIT */
/*
 * Nodes that are taken out of the tree.
 *
 * Their names are gone at once, but files may be open on them, and the kernel goes on to use their identifiers
 * until it forgets them. So a node goes through the lists of the tree, and never back:
 *
 *   leaving   just taken out, by itself or with a directory above it
 *   removed   files are open on it and work as before; the last one that is closed drops it
 *   dropped   its owner has been told and no operation is called any more; freed when the kernel has forgotten
 *             it and no directory is open on it. At most FUSE_MAX_DROPPED: the oldest are freed before that,
 *             because identifiers are never given twice, and what the kernel asks about an unknown one has an
 *             answer as well (-ESTALE).
 *
 * What the kernel asks by the identifier of such a node (by a name that it still holds for valid, a working
 * directory, or an open descriptor) is answered -ESTALE: it then walks the path again with a LOOKUP of each name,
 * and finds what is there now, or nothing. Where there is no name to look up, as in a working directory, the same
 * thread comes back by the same identifier, and is answered -ENOENT, what other filesystems say there. The
 * attributes of what somebody has open are answered, with a link count of 0.
 *
 * The kernel keeps names, with their nodes, until it needs the memory, or asks for one again and hears that it is
 * gone. Nobody asks for a command that is settled, so they would pile up, in its memory and in ours. Therefore it
 * is told from time to time which nodes are dropped (FUSE_NOTIFY_PRUNE, Linux 6.18), and forgets those that nobody
 * uses; those in use at that time, somebody's working directory, are in the next message, and it is sent ever more
 * rarely. (A name that was asked for in a removed directory and is not there keeps it, and cannot be named; that is
 * left until the kernel needs the memory.) Earlier kernels are left to themselves. They know INVAL_ENTRY, but that waits for the lock of the
 * directory, which somebody may hold whose request waits for us: a thread of ours that waits there cannot be
 * killed, and the death of the daemon would not end the mount, nor the daemon.
 *
 * An owner's drop operation runs when all nodes of a removal are out of the tree, so it may change the tree.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/time.h"
#include "fuse/internal.h"

/* A message names as many nodes as there are to be told, in pieces of PRUNE_IDS; not later than after SWEEP_NODES,
 * and a second after one was dropped. */
#define PRUNE_IDS      256
#define SWEEP_NODES    1024
#define SWEEP_FIRST_NS (1 * NSEC_PER_SEC)
#define SWEEP_MOST_NS  (64 * NSEC_PER_SEC)

/* --- what the kernel is told */

struct prune_message {
	struct fuse_notify_prune_out head;
	uint64_t ids[PRUNE_IDS];
};

static void send_prune(struct fuse_tree *tree, struct prune_message *message)
{
	size_t len = sizeof(message->head) + message->head.count * sizeof(message->ids[0]);

	if (message->head.count > 0)
		tree_notify(tree, FUSE_NOTIFY_PRUNE, BYTES(message, len));
	message->head.count = 0;
}

/* Oldest first, and what was below a directory before it: a name is in use while there are others below it. */
static void tree_sweep(struct fuse_tree *tree)
{
	struct prune_message message = {.head = {.count = 0}};

	tree->n_unswept = 0;
	list_for_each (l, &tree->dropped) {
		const struct fuse_node *node = container_of(l, struct fuse_node, sibling_link);

		list_for_each (i, &node->inodes) {
			const struct fuse_inode *inode = container_of(i, struct fuse_inode, node_link);

			if (inode->n_lookup == 0)
				continue;
			message.ids[message.head.count++] = inode->id;
			if (message.head.count == PRUNE_IDS)
				send_prune(tree, &message);
		}
	}
	send_prune(tree, &message);
}

static void on_sweep(struct loop_timer *timer, uint64_t now_ns)
{
	struct fuse_tree *tree = container_of(timer, struct fuse_tree, sweep_timer);

	if (tree->n_dropped == 0)
		return;
	tree_sweep(tree);
	if (tree->sweep_delay_ns < SWEEP_MOST_NS)
		tree->sweep_delay_ns *= 2;
	loop_timer_arm(tree->options.loop, timer, now_ns + tree->sweep_delay_ns);
}

/* One more was dropped. */
static void sweep_later(struct fuse_tree *tree)
{
	if (!tree->kernel_prunes || !tree->transport || tree->state != FUSE_STATE_READY)
		return;
	if (++tree->n_unswept >= SWEEP_NODES)
		tree_sweep(tree);
	if (!tree->options.loop)
		return;
	if (loop_timer_is_armed(&tree->sweep_timer) && tree->sweep_delay_ns == SWEEP_FIRST_NS)
		return;
	tree->sweep_delay_ns = SWEEP_FIRST_NS;
	loop_timer_arm(tree->options.loop, &tree->sweep_timer, tree_now_ns(tree) + tree->sweep_delay_ns);
}

void tree_init_sweep(struct fuse_tree *tree)
{
	loop_timer_init(&tree->sweep_timer, on_sweep);
}

void tree_stop_sweep(struct fuse_tree *tree)
{
	loop_timer_disarm(&tree->sweep_timer);
}

/* --- the way out */

/* Bottom up. */
static void detach_all(struct fuse_node *top)
{
	struct fuse_tree *tree = top->tree;
	struct fuse_node *node = top, *parent;

	for (;;) {
		struct list *child = list_first(&node->children);

		if (child) {
			node = container_of(child, struct fuse_node, sibling_link);
			continue;
		}
		parent = node->parent;
		node_link_out(node);
		node->state = FUSE_NODE_REMOVED;
		list_append(&tree->leaving, &node->sibling_link);
		tree->n_nodes--;
		tree->n_removed++;
		if (node == top)
			return;
		node = parent;
	}
}

static void node_forgotten(struct fuse_node *node)
{
	struct fuse_tree *tree = node->tree;

	node_free(node);
	tree->n_dropped--;
	tree->n_removed--;
}

void node_put(struct fuse_node *node)
{
	if (node->state == FUSE_NODE_DROPPED && node->n_inodes == 1 && node->first.n_lookup == 0 &&
	    node->first.n_open == 0)
		node_forgotten(node);
}

static void node_drop(struct fuse_node *node)
{
	struct fuse_tree *tree = node->tree;

	node->state = FUSE_NODE_DROPPED;
	if (node->ops && node->ops->drop)
		node->ops->drop(node);
	else if (node->dir_ops && node->dir_ops->drop)
		node->dir_ops->drop(node);
	list_remove(&node->sibling_link);
	list_append(&tree->dropped, &node->sibling_link);
	tree->n_dropped++;
	node_trim_inodes(node);
	sweep_later(tree);
}

/* Not while a node is in use. */
static void limit_dropped(struct fuse_tree *tree)
{
	while (tree->n_dropped > FUSE_MAX_DROPPED)
		node_forgotten(container_of(list_first(&tree->dropped), struct fuse_node, sibling_link));
}

static void drop_leaving(struct fuse_tree *tree)
{
	struct list *l;

	while ((l = list_first(&tree->leaving))) {
		struct fuse_node *node = container_of(l, struct fuse_node, sibling_link);

		list_remove(l);
		list_append(&tree->removed, l);
		if (!list_is_empty(&node->open_files))
			continue;
		node_drop(node);
		node_put(node);
	}
}

void fuse_node_remove(struct fuse_node *node)
{
	struct fuse_tree *tree = node->tree;

	assert(node->parent && node_is_live(node));
	detach_all(node);
	drop_leaving(tree);
	limit_dropped(tree);
}

/* The caller's file still counts for its inode, which keeps the node. */
void node_file_closed(struct fuse_node *node)
{
	if (node->state == FUSE_NODE_REMOVED && list_is_empty(&node->open_files))
		node_drop(node);
}

void tree_free_nodes(struct fuse_tree *tree)
{
	struct list *l;

	detach_all(tree->root);
	drop_leaving(tree);
	assert(list_is_empty(&tree->removed));
	while ((l = list_first(&tree->dropped)))
		node_forgotten(container_of(l, struct fuse_node, sibling_link));
}

uint64_t fuse_tree_n_removed(const struct fuse_tree *tree)
{
	return tree->n_removed;
}

/* --- requests */

int node_refuse(struct fuse_node *node, pid_t thread)
{
	assert(!node_is_live(node));
	if (thread != 0 && node->refused_thread == thread) {
		/* It may come by a name the next time. */
		node->refused_thread = 0;
		return -ENOENT;
	}
	node->refused_thread = thread;
	return -ESTALE;
}
