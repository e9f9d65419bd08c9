/* SPDX-License-Identifier: MIT */
/*
 * The tree: its nodes, found by identifier and by name in the parent, and the messages that begin here (the
 * notifications of changed documents and of poll).
 *
 * Invariants: every node has its first inode in by_id, and every node of the tree but the root is in by_name
 * and in its parent's children. What happens to those that are taken out is in removal.c.
 *
 * Replies are sent at once; the tree keeps none. Identifiers are in inode.c, what requests mean is in
 * dispatch.c and names.c, open files are in file.c.
 */

#include "fuse/tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/time.h"
#include "fuse/internal.h"

/* setuid, setgid and sticky mean nothing here. */
#define MODE_BITS (S_IFMT | 0777)

/* FNV-1a, begun with the parent so that equal names in different directories spread. */
static size_t name_chain(const struct fuse_node *parent, struct bytes name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ parent->first.id;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ name.data[i]) * UINT64_C(0x100000001b3);
	return (h ^ (h >> 32)) & (FUSE_N_NODE_CHAINS - 1);
}

static struct bytes node_name(const struct fuse_node *node)
{
	return BYTES(node->name, node->name_len);
}

struct fuse_node *tree_node(struct fuse_tree *tree, uint64_t id)
{
	struct fuse_inode *inode = tree_inode(tree, id);

	return inode ? inode->node : NULL;
}

struct fuse_node *tree_child(struct fuse_node *parent, struct bytes name)
{
	list_for_each (l, &parent->tree->by_name[name_chain(parent, name)]) {
		struct fuse_node *node = container_of(l, struct fuse_node, name_link);

		if (node->parent == parent && bytes_equal(node_name(node), name))
			return node;
	}
	return NULL;
}

uint64_t tree_wall_ms(const struct fuse_tree *tree)
{
	return tree->options.loop ? loop_wall_ms(tree->options.loop) : 0;
}

uint64_t tree_now_ns(const struct fuse_tree *tree)
{
	return tree->options.loop ? loop_now_ns(tree->options.loop) : tree->now_ns;
}

void fuse_tree_set_now_ns(struct fuse_tree *tree, uint64_t now_ns)
{
	tree->now_ns = now_ns;
}

static void set_time(uint64_t ms, uint64_t *seconds, uint32_t *nanoseconds)
{
	*seconds = ms / MSEC_PER_SEC;
	*nanoseconds = (uint32_t)(ms % MSEC_PER_SEC * NSEC_PER_MSEC);
}

void node_fill_attr(struct fuse_node *node, struct fuse_attr *out)
{
	*out = (struct fuse_attr){
		.ino = node->first.id,
		.mode = node->mode,
		.nlink = !node_is_live(node)   ? 0
			 : S_ISDIR(node->mode) ? 2 + node->n_subdirs
					       : 1,
		.uid = node->uid,
		.gid = node->gid,
		.blksize = 4096,
	};
	if (node->ops && node->ops->size && node_is_owned(node))
		out->size = node->ops->size(node);
	out->blocks = out->size / 512 + (out->size % 512 != 0);
	set_time(node->mtime_ms, &out->mtime, &out->mtimensec);
	set_time(node->mtime_ms, &out->atime, &out->atimensec);
	set_time(node->ctime_ms, &out->ctime, &out->ctimensec);
}

/* The size of a document may change at any time. */
void node_attr_timeout(const struct fuse_node *node, uint64_t *seconds, uint32_t *nanoseconds)
{
	*seconds = 0;
	*nanoseconds = 0;
	if (!node_is_live(node))
		return;
	if (node->tells_changes)
		*nanoseconds = FUSE_TOLD_TIMEOUT_NS;
	else if (!node->transient && !(node->ops && node->ops->size))
		*seconds = FUSE_ENTRY_TIMEOUT_S;
}

bool name_is_valid(const char *name)
{
	size_t len = strnlen(name, FUSE_WIRE_NAME_MAX + 1);

	return len > 0 && len <= FUSE_WIRE_NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static struct fuse_node *node_new(struct fuse_tree *tree, const struct fuse_node_options *options)
{
	struct fuse_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->tree = tree;
	node->ops = options->ops;
	node->dir_ops = options->dir_ops;
	node->userdata = options->userdata;
	list_init(&node->name_link);
	list_init(&node->sibling_link);
	list_init(&node->children);
	list_init(&node->open_files);
	list_init(&node->inodes);
	inode_init(&node->first, node);
	node->current = &node->first;
	node->cookie = ++tree->last_cookie;
	node->mtime_ms = tree_wall_ms(tree);
	node->ctime_ms = node->mtime_ms;
	node->mode = options->mode & MODE_BITS;
	node->uid = options->uid;
	node->gid = options->gid;
	node->record = options->record;
	node->writers_wait = options->writers_wait;
	node->transient = options->transient;
	node->tells_changes = options->tells_changes;
	node->name_len = (uint8_t)strlen(options->name);
	memcpy(node->name, options->name, node->name_len);

	tree->n_nodes++;
	return node;
}

void node_free(struct fuse_node *node)
{
	assert(list_is_empty(&node->open_files) && list_is_empty(&node->children));
	assert(!list_is_linked(&node->name_link));
	node_free_inodes(node);
	list_remove(&node->sibling_link);
	free(node);
}

static void node_touch(struct fuse_node *node)
{
	node->mtime_ms = tree_wall_ms(node->tree);
	node->ctime_ms = node->mtime_ms;
}

static void node_link_in(struct fuse_node *node, struct fuse_node *parent)
{
	node->parent = parent;
	list_append(&node->tree->by_name[name_chain(parent, node_name(node))], &node->name_link);
	list_append(&parent->children, &node->sibling_link);
	if (S_ISDIR(node->mode))
		parent->n_subdirs++;
	node_touch(parent);
}

void node_link_out(struct fuse_node *node)
{
	struct fuse_node *parent = node->parent;

	list_remove(&node->name_link);
	list_remove(&node->sibling_link);
	node->parent = NULL;
	if (!parent)
		return;
	if (S_ISDIR(node->mode))
		parent->n_subdirs--;
	node_touch(parent);
}

int fuse_node_add(struct fuse_node **out, struct fuse_node *parent, const struct fuse_node_options *options)
{
	struct fuse_tree *tree = parent->tree;
	struct fuse_node *node;
	struct bytes name;

	assert(S_ISDIR(parent->mode) && node_is_live(parent));
	assert(S_ISDIR(options->mode) || (S_ISREG(options->mode) && options->ops));
	if (!name_is_valid(options->name))
		return -EINVAL;
	name = bytes_from_str(options->name);
	if (tree_child(parent, name))
		return -EEXIST;
	if (tree->n_nodes >= FUSE_MAX_NODES)
		return -ENOMEM;

	node = node_new(tree, options);
	if (!node)
		return -ENOMEM;
	node_link_in(node, parent);
	if (out)
		*out = node;
	return 0;
}

static bool node_is_below(const struct fuse_node *node, const struct fuse_node *top)
{
	while (node && node != top)
		node = node->parent;
	return node != NULL;
}

int fuse_node_move(struct fuse_node *node, struct fuse_node *dir, const char *name)
{
	struct fuse_node *there;

	assert(node->parent && node_is_live(node));
	assert(S_ISDIR(dir->mode) && node_is_live(dir));
	if (!name_is_valid(name) || node_is_below(dir, node))
		return -EINVAL;
	there = tree_child(dir, bytes_from_str(name));
	if (there)
		return there == node ? 0 : -EEXIST;
	/* To the end also when the directory stays the same: cookies go up along the list. */
	node_link_out(node);
	node->name_len = (uint8_t)strlen(name);
	memmove(node->name, name, node->name_len + 1u);
	node->cookie = ++node->tree->last_cookie;
	node_link_in(node, dir);
	node->ctime_ms = tree_wall_ms(node->tree);
	return 0;
}

void *fuse_node_userdata(const struct fuse_node *node)
{
	return node->userdata;
}

const char *fuse_node_name(const struct fuse_node *node)
{
	return node->name;
}

struct fuse_node *fuse_node_parent(const struct fuse_node *node)
{
	return node->parent;
}

struct fuse_node *fuse_node_find(struct fuse_node *dir, const char *name)
{
	return tree_child(dir, bytes_from_str(name));
}

struct fuse_node *fuse_node_next_child(struct fuse_node *dir, struct fuse_node *after)
{
	struct list *l = after ? after->sibling_link.next : dir->children.next;

	assert(!after || after->parent == dir);
	return l == &dir->children ? NULL : container_of(l, struct fuse_node, sibling_link);
}

bool fuse_node_is_dir(const struct fuse_node *node)
{
	return S_ISDIR(node->mode);
}

int fuse_tree_new(struct fuse_tree **out, const struct fuse_tree_options *options)
{
	struct fuse_node_options root = {
		.name = "",
		.mode = S_IFDIR | (options->root_mode & 0777),
		.uid = options->uid,
		.gid = options->gid,
	};
	struct fuse_tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return -ENOMEM;
	tree->options = *options;
	for (size_t i = 0; i < FUSE_N_NODE_CHAINS; i++) {
		list_init(&tree->by_id[i]);
		list_init(&tree->by_name[i]);
	}
	for (size_t i = 0; i < FUSE_N_PARKED_CHAINS; i++)
		list_init(&tree->parked[i]);
	list_init(&tree->free_files);
	list_init(&tree->leaving);
	list_init(&tree->removed);
	list_init(&tree->dropped);
	tree_init_sweep(tree);
	/* READDIR offsets 1 and 2 are `.` and `..`; the root's own cookie is never used. */
	tree->last_cookie = 2;
	tree->root = node_new(tree, &root);
	if (!tree->root) {
		free(tree);
		return -ENOMEM;
	}
	assert(tree->root->first.id == FUSE_ROOT_ID);
	tree->root->first.n_lookup = 1; /* the mount's */
	*out = tree;
	return 0;
}

void fuse_tree_free(struct fuse_tree *tree)
{
	if (!tree)
		return;
	assert(!tree->transport);
	file_abort_parked(tree, -ECONNABORTED);
	file_table_deinit(tree);
	tree_free_nodes(tree);
	assert(tree->n_nodes == 0 && tree->n_removed == 0);
	free(tree);
}

struct fuse_node *fuse_tree_root(struct fuse_tree *tree)
{
	return tree->root;
}

uint64_t fuse_tree_n_requests(const struct fuse_tree *tree, uint32_t opcode)
{
	return opcode < FUSE_N_OPCODES ? tree->n_requests[opcode] : 0;
}

/* --- messages --- */

void fuse_tree_attach(struct fuse_tree *tree, struct fuse_transport *transport)
{
	assert(!tree->transport);
	tree->transport = transport;
}

void fuse_tree_detach(struct fuse_tree *tree)
{
	file_abort_parked(tree, -ECONNABORTED);
	tree_stop_sweep(tree);
	tree->transport = NULL;
}

void fuse_tree_gone(struct fuse_tree *tree)
{
	if (tree->state == FUSE_STATE_GONE)
		return;
	tree->state = FUSE_STATE_GONE;
	tree_stop_sweep(tree);
	if (tree->options.on_gone)
		tree->options.on_gone(tree->options.userdata);
}

int tree_reply(struct fuse_tree *tree, uint64_t unique, struct bytes body)
{
	struct fuse_wire_message message;

	if (!tree->transport)
		return -ENOTCONN;
	fuse_wire_reply(&message, unique, body);
	return tree->transport->ops->reply(tree->transport, message.iov, message.n_iov);
}

int tree_reply_parts(struct fuse_tree *tree, uint64_t unique, struct bytes head, struct bytes body)
{
	struct fuse_wire_message message;

	if (!tree->transport)
		return -ENOTCONN;
	fuse_wire_reply_parts(&message, unique, head, body);
	return tree->transport->ops->reply(tree->transport, message.iov, message.n_iov);
}

int tree_reply_error(struct fuse_tree *tree, uint64_t unique, int error)
{
	struct fuse_wire_message message;

	if (!tree->transport)
		return -ENOTCONN;
	fuse_wire_error(&message, unique, error);
	return tree->transport->ops->reply(tree->transport, message.iov, message.n_iov);
}

int tree_notify(struct fuse_tree *tree, int code, struct bytes body)
{
	struct fuse_wire_message message;

	if (!tree->transport || tree->state != FUSE_STATE_READY)
		return -ENOTCONN;
	fuse_wire_notify(&message, code, body);
	return tree->transport->ops->notify(tree->transport, message.iov, message.n_iov);
}

void fuse_file_poll_wake(struct fuse_file *file)
{
	struct open_file *open = container_of(file, struct open_file, pub);
	struct fuse_notify_poll_wakeup_out out = {.kh = open->kh};

	if (open->kh)
		tree_notify(file->node->tree, FUSE_NOTIFY_POLL, BYTES(&out, sizeof(out)));
}

void fuse_node_poll_wake(struct fuse_node *node)
{
	list_for_each (l, &node->open_files)
		fuse_file_poll_wake(&container_of(l, struct open_file, node_link)->pub);
}

/*
 * A negative offset drops the attributes alone. Cached pages there are none, and to drop them would wait for
 * page locks, which this thread must never do.
 */
void node_drop_attr(struct fuse_node *node, uint64_t except_id)
{
	list_for_each (l, &node->inodes) {
		const struct fuse_inode *inode = container_of(l, struct fuse_inode, node_link);
		struct fuse_notify_inval_inode_out out = {.ino = inode->id, .off = -1, .len = 0};

		if (inode->n_lookup > 0 && inode->id != except_id)
			tree_notify(node->tree, FUSE_NOTIFY_INVAL_INODE, BYTES(&out, sizeof(out)));
	}
}

void fuse_node_changed(struct fuse_node *node)
{
	node->n_changes++;
	node->mtime_ms = tree_wall_ms(node->tree);
	node->ctime_ms = node->mtime_ms;
	node_drop_attr(node, 0);
	fuse_node_poll_wake(node);
}
