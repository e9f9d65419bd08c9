/* SPDX-License-Identifier: MIT */
/*
 * Names that come and go, see toy_box.h. Every node has an item of its own, made with it and freed by its drop
 * operation and by nothing else: the sanitizers see a drop that is missing, comes twice or too early.
 */

#include "tests/support/toy_box.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct item {
	struct toy_box *box;
	size_t len;
	char text[TOY_BOX_DOCUMENT];
};

static struct item *file_item(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static void item_drop(struct fuse_node *node)
{
	struct item *item = fuse_node_userdata(node);

	item->box->n_items--;
	free(item);
}

static int document_open(struct fuse_file *file)
{
	if (file->flags & O_TRUNC)
		file_item(file)->len = 0;
	return 0;
}

static ssize_t document_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			      struct bytes data)
{
	struct item *item = file_item(file);

	(void)req;
	if (file->write_flags & O_APPEND)
		offset = item->len;
	if (offset > sizeof(item->text) || data.len > sizeof(item->text) - offset)
		return -EFBIG;
	if (offset > item->len)
		memset(item->text + item->len, 0, offset - item->len);
	memcpy(item->text + offset, data.data, data.len);
	if (offset + data.len > item->len)
		item->len = offset + data.len;
	return (ssize_t)data.len;
}

static int document_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct item *item = file_item(file);
	size_t left = offset < item->len ? item->len - offset : 0;

	fuse_reply_data(req, BYTES(item->text + (left ? offset : 0), left < size ? left : size));
	return 0;
}

static void document_flush(struct fuse_file *file)
{
	struct toy_box *box = file_item(file)->box;

	if (fuse_pid_was_killed(file->pid))
		box->n_killed++;
	else
		box->n_closed++;
}

static int document_truncate(struct fuse_node *node, struct fuse_file *file, uint64_t size)
{
	struct item *item = fuse_node_userdata(node);

	(void)file;
	if (size > sizeof(item->text))
		return -EFBIG;
	if (size > item->len)
		memset(item->text + item->len, 0, size - item->len);
	item->len = size;
	return 0;
}

static int document_ioctl(struct fuse_file *file, struct fuse_request *req, uint32_t command, struct bytes in)
{
	struct item *item = file_item(file);
	struct toy_box_bytes before;

	memcpy(before.text, item->text, sizeof(before.text));
	switch (command) {
	case TOY_BOX_CLEAR:
		item->len = 0;
		return 0;
	case TOY_BOX_SET:
	case TOY_BOX_SWAP:
		if (in.len != sizeof(before))
			return -EINVAL;
		memcpy(item->text, in.data, in.len);
		if (item->len < in.len)
			item->len = in.len;
		if (command == TOY_BOX_SWAP)
			fuse_reply_ioctl(req, BYTES(&before, sizeof(before)));
		return 0;
	case TOY_BOX_GET:
		if (in.len != 0)
			return -EINVAL;
		fuse_reply_ioctl(req, BYTES(&before, sizeof(before)));
		return 0;
	}
	return -ENOTTY;
}

static uint64_t document_size(struct fuse_node *node)
{
	const struct item *item = fuse_node_userdata(node);

	return item->len;
}

static const struct fuse_file_ops document_ops = {
	.open = document_open,
	.write = document_write,
	.read = document_read,
	.flush = document_flush,
	.truncate = document_truncate,
	.ioctl = document_ioctl,
	.size = document_size,
	.drop = item_drop,
};

static int box_mkdir(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out);
static int box_create(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out);

static int box_unlink(struct fuse_node *dir, struct fuse_node *child)
{
	(void)dir;
	fuse_node_remove(child);
	return 0;
}

static int box_rmdir(struct fuse_node *dir, struct fuse_node *child)
{
	(void)dir;
	if (fuse_node_next_child(child, NULL))
		return -ENOTEMPTY;
	fuse_node_remove(child);
	return 0;
}

static int box_rename(struct fuse_node *child, struct fuse_node *new_dir, const char *new_name,
		      struct fuse_node *replaced)
{
	if (replaced && fuse_node_next_child(replaced, NULL))
		return -ENOTEMPTY;
	if (replaced)
		fuse_node_remove(replaced);
	return fuse_node_move(child, new_dir, new_name);
}

static const struct fuse_dir_ops box_ops = {
	.mkdir = box_mkdir,
	.create = box_create,
	.rmdir = box_rmdir,
	.unlink = box_unlink,
	.rename = box_rename,
	.drop = item_drop,
};

static const struct fuse_dir_ops live_ops = {.drop = item_drop};

static int add(struct toy_box *box, struct fuse_node *parent, const char *name, mode_t mode,
	       const struct fuse_dir_ops *dir_ops, struct fuse_node **out)
{
	struct item *item = calloc(1, sizeof(*item));
	struct fuse_node_options options = {
		.name = name,
		.mode = mode,
		.uid = geteuid(),
		.gid = getegid(),
		.transient = dir_ops == &live_ops && parent == box->live,
		.ops = dir_ops ? NULL : &document_ops,
		.dir_ops = dir_ops,
		.userdata = item,
	};
	int r;

	if (!item)
		return -ENOMEM;
	item->box = box;
	r = fuse_node_add(out, parent, &options);
	if (r < 0)
		free(item);
	else
		box->n_items++;
	return r;
}

static bool is_refused(const char *name)
{
	return strncmp(name, "no", 2) == 0;
}

static struct toy_box *dir_box(struct fuse_node *dir)
{
	const struct item *item = fuse_node_userdata(dir);

	return item->box;
}

static int box_mkdir(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	return is_refused(name) ? -EACCES : add(dir_box(dir), dir, name, S_IFDIR | mode, &box_ops, out);
}

static int box_create(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	return is_refused(name) ? -EACCES : add(dir_box(dir), dir, name, S_IFREG | mode, NULL, out);
}

int toy_box_add(struct toy_box *box, struct fuse_node *root)
{
	struct fuse_node *node;
	int r;

	box->root = root;
	r = add(box, root, "box", S_IFDIR | 0777, &box_ops, &node);
	return r < 0 ? r : add(box, root, "live", S_IFDIR | 0755, &live_ops, &box->live);
}

uint64_t toy_box_add_live(struct toy_box *box, uint64_t n)
{
	struct fuse_node *dir, *leaf;
	char name[32];

	for (; n > 0; n--) {
		snprintf(name, sizeof(name), "%llu", (unsigned long long)box->last_live);
		if (add(box, box->live, name, S_IFDIR | 0755, &live_ops, &dir) < 0 ||
		    add(box, dir, "leaf", S_IFREG | 0666, NULL, &leaf) < 0)
			break;
		box->last_live++;
	}
	return box->last_live;
}

static struct fuse_node *find(struct toy_box *box, const char *path)
{
	struct fuse_node *node = box->root;
	char copy[256], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", path);
	while (node && (name = strsep(&rest, "/")))
		node = fuse_node_is_dir(node) ? fuse_node_find(node, name) : NULL;
	return node;
}

int toy_box_remove(struct toy_box *box, const char *path)
{
	struct fuse_node *node = find(box, path);

	if (!node)
		return -ENOENT;
	fuse_node_remove(node);
	return 0;
}

int toy_box_move(struct toy_box *box, const char *path)
{
	struct fuse_node *node = find(box, path);
	char name[300];

	if (!node)
		return -ENOENT;
	snprintf(name, sizeof(name), "moved-%s", fuse_node_name(node));
	return fuse_node_move(node, find(box, "box"), name);
}
