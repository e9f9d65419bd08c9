/* SPDX-License-Identifier: MIT */
/*
 * What requests mean: INIT, lookups, attributes and reading directories. Requests about open files go to file.c,
 * those that make, move and remove names to names.c.
 *
 * Permissions are the kernel's: the mount has default_permissions, so it compares owner, group and mode
 * before it sends a request. What reaches us is allowed.
 *
 *  - chmod(2) and chown(2) hold until the daemon ends, as in sysfs; setuid, setgid and sticky bits are
 * dropped;
 *  - truncate(2) is for the owner of the file to say. Where it says nothing, 0 is accepted and does nothing,
 * because `> file` asks for it on kernels that do not leave O_TRUNC to open; another size is EINVAL;
 *  - touch(1) sets mtime; atime is mtime;
 *  - directories and regular files are made, moved and removed where the owner of the directory says so; elsewhere,
 * and for links, devices, pipes and sockets everywhere: EPERM;
 *  - extended attributes, locks and the like are answered ENOSYS, which the kernel remembers, so that it asks
 * once (locks then work between processes of this machine, as on any local file; those of files with
 * several inodes only between open files that share one, see inode.c).
 */

#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/time.h"
#include "fuse/internal.h"

struct operation {
	int (*handle)(struct fuse_request *req);
	int refusal; /* the answer without a handler */
};

int request_reply(struct fuse_request *req, struct bytes body)
{
	assert(!req->answered);
	req->answered = true;
	tree_reply(req->tree, req->wire->header.unique, body);
	return 0;
}

static int reply_ok(struct fuse_request *req)
{
	return request_reply(req, BYTES(NULL, 0));
}

int request_live_node(struct fuse_request *req, uint64_t id, struct fuse_node **out)
{
	*out = tree_node(req->tree, id);
	if (!*out)
		return -ESTALE;
	return node_is_live(*out) ? 0 : node_refuse(*out, (pid_t)req->wire->header.pid);
}

/* --- connection --- */

static int handle_init(struct fuse_request *req)
{
	const struct fuse_init_in *in = &req->wire->init;
	struct fuse_tree *tree = req->tree;
	struct fuse_init_out out;
	int r;

	if (tree->state != FUSE_STATE_NEW)
		return -EIO;
	r = fuse_wire_init(in, tree->transport->max_pages, &out);
	if (r < 0) {
		log_error(tree->options.log,
			  "this kernel speaks FUSE %u.%u, which is too old: Linux 5.19 or later is needed",
			  in->major, in->minor);
		return r;
	}
	if (r == 0)
		tree->state = FUSE_STATE_READY;
	tree->kernel_prunes = in->minor >= FUSE_MINOR_PRUNE;
	return request_reply(req, BYTES(&out, sizeof(out)));
}

/* Sent before the connection is torn down in order; its end comes as an error of the transport. */
static int handle_destroy(struct fuse_request *req)
{
	return reply_ok(req);
}

static int handle_statfs(struct fuse_request *req)
{
	struct fuse_statfs_out out = {
		.st = {.bsize = 4096,
		       .frsize = 4096,
		       .files = req->tree->n_nodes,
		       .namelen = FUSE_WIRE_NAME_MAX},
	};

	return request_reply(req, BYTES(&out, sizeof(out)));
}

/* --- names --- */

struct fuse_inode *request_fill_entry(struct fuse_request *req, struct fuse_node *node,
				      struct fuse_entry_out *out)
{
	struct fuse_inode *inode;

	*out = (struct fuse_entry_out){0};
	inode = node_lookup_inode(node, (pid_t)req->wire->header.pid, &out->entry_valid);
	out->nodeid = inode->id;
	if (node->transient)
		out->entry_valid = 0;
	node_attr_timeout(node, &out->attr_valid, &out->attr_valid_nsec);
	node_fill_attr(node, &out->attr);
	return inode;
}

int request_reply_entry(struct fuse_request *req, struct fuse_node *node)
{
	struct fuse_entry_out out;
	struct fuse_inode *inode = request_fill_entry(req, node, &out);

	req->answered = true;
	/* When the reply was not taken the kernel knows nothing of the reference in it. */
	if (tree_reply(req->tree, req->wire->header.unique, BYTES(&out, sizeof(out))) == 0)
		inode->n_lookup++;
	return 0;
}

static int handle_lookup(struct fuse_request *req)
{
	struct fuse_node *parent, *node;
	int r;

	r = request_live_node(req, req->wire->header.nodeid, &parent);
	if (r < 0)
		return r;
	if (!S_ISDIR(parent->mode))
		return -ENOTDIR;
	if (req->wire->name.len > FUSE_WIRE_NAME_MAX)
		return -ENAMETOOLONG;
	node = tree_child(parent, req->wire->name);
	return node ? request_reply_entry(req, node) : -ENOENT;
}

static void node_forget(struct fuse_tree *tree, uint64_t id, uint64_t n)
{
	struct fuse_inode *inode = tree_inode(tree, id);

	if (inode && inode->node != tree->root)
		inode_forget(inode, n);
}

static int handle_forget(struct fuse_request *req)
{
	node_forget(req->tree, req->wire->header.nodeid, req->wire->forget.nlookup);
	return 0;
}

static int handle_batch_forget(struct fuse_request *req)
{
	for (uint32_t i = 0; i < req->wire->batch_forget.count; i++) {
		struct fuse_forget_one one = fuse_wire_forget_one(req->wire, i);

		node_forget(req->tree, one.nodeid, one.nlookup);
	}
	return 0;
}

/* --- attributes --- */

static int reply_attr(struct fuse_request *req, struct fuse_node *node)
{
	struct fuse_attr_out out = {0};

	node_attr_timeout(node, &out.attr_valid, &out.attr_valid_nsec);
	node_fill_attr(node, &out.attr);
	return request_reply(req, BYTES(&out, sizeof(out)));
}

/* Of a node out of the tree, what somebody has open has attributes. */
static int handle_getattr(struct fuse_request *req)
{
	struct fuse_inode *inode = tree_inode(req->tree, req->wire->header.nodeid);
	struct fuse_node *node;
	int r;

	if (inode && (node_is_owned(inode->node) || inode->n_open > 0))
		return reply_attr(req, inode->node);
	r = request_live_node(req, req->wire->header.nodeid, &node);
	return r < 0 ? r : reply_attr(req, node);
}

static int truncate_node(struct fuse_request *req, struct fuse_node *node)
{
	const struct fuse_setattr_in *in = &req->wire->setattr;
	struct open_file *file = in->valid & FATTR_FH ? request_file(req, in->fh) : NULL;
	int r;

	if (!node->ops)
		return -EISDIR;
	if (!node->ops->truncate)
		return in->size == 0 ? 0 : -EINVAL;
	r = node->ops->truncate(node, file ? &file->pub : NULL, in->size);
	return r < 0 ? owner_error(r) : 0;
}

/* An owner may take the node out of the tree while it is truncated: @inode is looked up again. */
static int handle_setattr(struct fuse_request *req)
{
	const struct fuse_setattr_in *in = &req->wire->setattr;
	struct fuse_inode *inode = tree_inode(req->tree, req->wire->header.nodeid);
	struct fuse_node *node;
	int r;

	if (!inode)
		return -ESTALE;
	if (!node_is_owned(inode->node))
		return node_refuse(inode->node, (pid_t)req->wire->header.pid);
	if (in->valid & FATTR_SIZE) {
		r = truncate_node(req, inode->node);
		if (r < 0)
			return r;
		inode = tree_inode(req->tree, req->wire->header.nodeid);
		if (!inode)
			return -ESTALE;
	}
	node = inode->node;
	if (in->valid & FATTR_MODE)
		node->mode = (node->mode & S_IFMT) | (in->mode & 0777);
	if (in->valid & FATTR_UID)
		node->uid = in->uid;
	if (in->valid & FATTR_GID)
		node->gid = in->gid;
	if (in->valid & FATTR_MTIME_NOW)
		node->mtime_ms = tree_wall_ms(req->tree);
	else if (in->valid & FATTR_MTIME)
		node->mtime_ms = in->mtime * MSEC_PER_SEC + in->mtimensec / NSEC_PER_MSEC;
	node->ctime_ms = tree_wall_ms(req->tree);
	node_drop_attr(node, inode->id);
	return reply_attr(req, node);
}

/* --- directories: of open ones only their number is known --- */

static int handle_opendir(struct fuse_request *req)
{
	struct fuse_open_out out = {.fh = 0};
	struct fuse_node *node;
	int r;

	r = request_live_node(req, req->wire->header.nodeid, &node);
	if (r < 0)
		return r;
	if (!S_ISDIR(node->mode))
		return -ENOTDIR;
	req->answered = true;
	/* When the reply was not taken no RELEASEDIR will come. */
	if (tree_reply(req->tree, req->wire->header.unique, BYTES(&out, sizeof(out))) == 0)
		inode_opened(&node->first, false);
	return 0;
}

static int handle_releasedir(struct fuse_request *req)
{
	struct fuse_inode *inode = tree_inode(req->tree, req->wire->header.nodeid);

	if (inode && S_ISDIR(inode->node->mode) && inode->n_open > 0)
		inode_closed(inode, false);
	return reply_ok(req);
}

static bool put_dots(struct writer *w, const struct fuse_node *dir, uint64_t offset)
{
	const struct fuse_node *parent = dir->parent ? dir->parent : dir;

	if (offset < 1 && !fuse_wire_dirent(w, dir->first.id, 1, S_IFDIR, BYTES_LIT(".")))
		return false;
	return offset >= 2 || fuse_wire_dirent(w, parent->first.id, 2, S_IFDIR, BYTES_LIT(".."));
}

static void put_children(struct writer *w, struct fuse_node *dir, uint64_t offset)
{
	list_for_each (l, &dir->children) {
		const struct fuse_node *child = container_of(l, struct fuse_node, sibling_link);

		if (child->cookie <= offset)
			continue;
		if (!fuse_wire_dirent(w, child->first.id, child->cookie, child->mode,
				      BYTES(child->name, child->name_len)))
			return;
	}
}

static int handle_readdir(struct fuse_request *req)
{
	const struct fuse_read_in *in = &req->wire->read;
	struct fuse_node *dir = tree_node(req->tree, req->wire->header.nodeid);
	struct writer w;

	if (!dir)
		return -ESTALE;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	/* For readdir(3) this is the end. */
	if (!node_is_live(dir))
		return -ENOENT;
	w = writer_init(req->tree->dirents, in->size < FUSE_DIRENTS_SIZE ? in->size : FUSE_DIRENTS_SIZE);
	if (put_dots(&w, dir, in->offset))
		put_children(&w, dir, in->offset);
	return request_reply(req, writer_bytes(&w));
}

/* --- dispatch --- */

static const struct operation operations[] = {
	[FUSE_INIT] = {.handle = handle_init},
	[FUSE_DESTROY] = {.handle = handle_destroy},
	[FUSE_STATFS] = {.handle = handle_statfs},

	[FUSE_LOOKUP] = {.handle = handle_lookup},
	[FUSE_FORGET] = {.handle = handle_forget},
	[FUSE_BATCH_FORGET] = {.handle = handle_batch_forget},
	[FUSE_GETATTR] = {.handle = handle_getattr},
	[FUSE_SETATTR] = {.handle = handle_setattr},

	[FUSE_OPENDIR] = {.handle = handle_opendir},
	[FUSE_READDIR] = {.handle = handle_readdir},
	[FUSE_RELEASEDIR] = {.handle = handle_releasedir},
	[FUSE_FSYNCDIR] = {.handle = reply_ok},

	[FUSE_OPEN] = {.handle = file_handle_open},
	[FUSE_READ] = {.handle = file_handle_read},
	[FUSE_WRITE] = {.handle = file_handle_write},
	[FUSE_FSYNC] = {.handle = file_handle_fsync},
	[FUSE_POLL] = {.handle = file_handle_poll},
	[FUSE_FLUSH] = {.handle = file_handle_flush},
	[FUSE_IOCTL] = {.handle = file_handle_ioctl},
	[FUSE_RELEASE] = {.handle = file_handle_release},
	[FUSE_INTERRUPT] = {.handle = file_handle_interrupt},

	[FUSE_MKDIR] = {.handle = names_handle_mkdir},
	[FUSE_CREATE] = {.handle = names_handle_create},
	[FUSE_UNLINK] = {.handle = names_handle_unlink},
	[FUSE_RMDIR] = {.handle = names_handle_rmdir},
	[FUSE_RENAME] = {.handle = names_handle_rename},
	[FUSE_RENAME2] = {.handle = names_handle_rename},

	[FUSE_MKNOD] = {.refusal = -EPERM},
	[FUSE_SYMLINK] = {.refusal = -EPERM},
	[FUSE_LINK] = {.refusal = -EPERM},
	[FUSE_READLINK] = {.refusal = -EINVAL},
};

static int dispatch(struct fuse_request *req)
{
	uint32_t opcode = req->wire->header.opcode;
	const struct operation *op;

	if (opcode != FUSE_INIT && req->tree->state == FUSE_STATE_NEW)
		return -EIO;
	if (opcode >= sizeof(operations) / sizeof(operations[0]))
		return -ENOSYS;
	op = &operations[opcode];
	if (op->handle)
		return op->handle(req);
	return op->refusal ? op->refusal : -ENOSYS;
}

void fuse_tree_request(struct fuse_tree *tree, struct bytes request)
{
	struct fuse_wire_request wire;
	struct fuse_request req = {.tree = tree, .wire = &wire};
	int r;

	assert(tree->transport);
	r = fuse_wire_parse(&wire, request);
	if (r == -EBADMSG) {
		log_write_once(tree->options.log, &tree->bad_request_log, LOG_LEVEL_ERROR,
			       "%zu bytes from the kernel are not a FUSE request: ignored", request.len);
		return;
	}
	if (wire.header.opcode < FUSE_N_OPCODES)
		tree->n_requests[wire.header.opcode]++;
	if (r == 0)
		r = dispatch(&req);
	if (r < 0 && r != FUSE_PARKED && fuse_wire_is_answered(wire.header.opcode))
		tree_reply_error(tree, wire.header.unique, r);
}
