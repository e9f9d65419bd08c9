/* SPDX-License-Identifier: MIT */
/*
 * Names that users make, move and remove: what the protocol wants, around the operations of the directory's owner.
 *
 * The kernel has compared permissions and has found that a name is free or taken. That may have changed since,
 * because the daemon adds and removes names as well, so it is looked at again here; what must not happen is that a
 * file is opened by CREATE that the kernel did not know, and whose mode it therefore has not compared.
 *
 * Operations may take any node out of the tree. None is used after one has returned, but the one it made.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuse/internal.h"

/* open(2) flags that are about the name, and do not come with OPEN either. */
#define NAME_FLAGS (O_CREAT | O_EXCL | O_NOCTTY)

/* A directory in which @name may be made or removed, as far as the tree knows. */
static int find_dir(struct fuse_request *req, uint64_t id, struct bytes name, struct fuse_node **out)
{
	int r = request_live_node(req, id, out);

	if (r < 0)
		return r;
	if (!S_ISDIR((*out)->mode))
		return -ENOTDIR;
	if (!(*out)->dir_ops)
		return -EPERM;
	if (name.len > FUSE_WIRE_NAME_MAX)
		return -ENAMETOOLONG;
	return name_is_valid((const char *)name.data) ? 0 : -EINVAL;
}

/* A new node of @type. @exists_error is for a name that is taken. */
static int make_node(struct fuse_request *req, mode_t type, mode_t mode, int exists_error,
		     struct fuse_node **out)
{
	struct bytes name = req->wire->name;
	int (*make)(struct fuse_node *, const char *, mode_t, struct fuse_node **);
	struct fuse_node *dir;
	int r;

	r = find_dir(req, req->wire->header.nodeid, name, &dir);
	if (r < 0)
		return r;
	make = type == S_IFDIR ? dir->dir_ops->mkdir : dir->dir_ops->create;
	if (!make)
		return -EPERM;
	if (tree_child(dir, name))
		return exists_error;
	r = make(dir, (const char *)name.data, mode & 0777, out);
	if (r < 0)
		return owner_error(r);
	assert(*out && ((*out)->mode & S_IFMT) == type);
	return 0;
}

int names_handle_mkdir(struct fuse_request *req)
{
	const struct fuse_mkdir_in *in = &req->wire->mkdir;
	struct fuse_node *node = NULL;
	int r = make_node(req, S_IFDIR, in->mode & ~in->umask, -EEXIST, &node);

	return r < 0 ? r : request_reply_entry(req, node);
}

static int reply_created(struct fuse_request *req, struct fuse_node *node)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {0};
	struct fuse_inode *inode = request_fill_entry(req, node, &out.entry);
	struct open_file *file;
	int r;

	r = file_open(&file, inode, req->wire->create.flags & ~(uint32_t)NAME_FLAGS,
		      (pid_t)req->wire->header.pid);
	if (r < 0)
		return r;
	out.open.fh = file->fh;
	out.open.open_flags = file_open_flags(node);
	req->answered = true;
	/* When the reply was not taken the kernel knows nothing of either. */
	if (tree_reply(req->tree, req->wire->header.unique, BYTES(&out, sizeof(out))) < 0)
		file_close(file);
	else
		inode->n_lookup++;
	return 0;
}

int names_handle_create(struct fuse_request *req)
{
	const struct fuse_create_in *in = &req->wire->create;
	/* Stale: the kernel looks the name up again, and sends OPEN if it may. */
	int exists_error = in->flags & O_EXCL ? -EEXIST : -ESTALE;
	struct fuse_node *node = NULL;
	int r = make_node(req, S_IFREG, in->mode & ~in->umask, exists_error, &node);

	return r < 0 ? r : reply_created(req, node);
}

static int remove_name(struct fuse_request *req, bool is_dir)
{
	struct bytes name = req->wire->name;
	struct fuse_node *dir, *child;
	int (*op)(struct fuse_node *, struct fuse_node *);
	int r;

	r = find_dir(req, req->wire->header.nodeid, name, &dir);
	if (r < 0)
		return r;
	op = is_dir ? dir->dir_ops->rmdir : dir->dir_ops->unlink;
	if (!op)
		return -EPERM;
	child = tree_child(dir, name);
	if (!child)
		return -ENOENT;
	if (S_ISDIR(child->mode) != is_dir)
		return is_dir ? -ENOTDIR : -EISDIR;
	r = op(dir, child);
	return r < 0 ? owner_error(r) : request_reply(req, BYTES(NULL, 0));
}

int names_handle_unlink(struct fuse_request *req)
{
	return remove_name(req, false);
}

int names_handle_rmdir(struct fuse_request *req)
{
	return remove_name(req, true);
}

static int check_rename(struct fuse_node *child, struct fuse_node *new_dir, struct fuse_node *replaced,
			uint32_t flags)
{
	if (flags & ~(uint32_t)RENAME_NOREPLACE)
		return -EINVAL;
	for (struct fuse_node *up = new_dir; up; up = up->parent) {
		if (up == child)
			return -EINVAL;
	}
	if (!replaced)
		return 0;
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (S_ISDIR(replaced->mode) != S_ISDIR(child->mode))
		return S_ISDIR(child->mode) ? -ENOTDIR : -EISDIR;
	for (struct fuse_node *up = child; up; up = up->parent) {
		if (up == replaced && up != child)
			return -ENOTEMPTY;
	}
	return 0;
}

int names_handle_rename(struct fuse_request *req)
{
	const struct fuse_wire_request *wire = req->wire;
	struct fuse_node *dir, *new_dir, *child, *replaced;
	int r;

	r = find_dir(req, wire->header.nodeid, wire->name, &dir);
	if (r == 0)
		r = find_dir(req, wire->rename.newdir, wire->new_name, &new_dir);
	if (r < 0)
		return r;
	if (!dir->dir_ops->rename)
		return -EPERM;
	if (new_dir->dir_ops->rename != dir->dir_ops->rename)
		return -EXDEV;
	child = tree_child(dir, wire->name);
	if (!child)
		return -ENOENT;
	replaced = tree_child(new_dir, wire->new_name);
	r = check_rename(child, new_dir, replaced, wire->rename.flags);
	if (r < 0)
		return r;
	if (replaced != child)
		r = dir->dir_ops->rename(child, new_dir, (const char *)wire->new_name.data, replaced);
	return r < 0 ? owner_error(r) : request_reply(req, BYTES(NULL, 0));
}
