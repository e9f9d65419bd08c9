/* SPDX-License-Identifier: MIT */
/*
 * Leaves of the twin's trees as open files, see twin_tree.h.
 *
 * An open file has the text of the leaf as it was when it was last read from its beginning, opened for writing, or
 * written through it. `unsent`: it stands for something else than what was sent, because it is not complete, or was cut
 * to nothing; the last close sends it, unless a write of it was `refused`.
 *
 * A file whose node is out of the tree reads on, and writes nothing.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "flow/twin_doc.h"
#include "flow/twin_leaf.h"
#include "flow/twin_tree_internal.h"

struct leaf_file {
	bool is_writer; /* @write is in use */
	struct twin_write write;
	char *text; /* NULL = nothing, or not looked at yet */
	size_t len;
	bool unsent;
	bool sent; /* something was */
	bool refused;
	bool ended; /* a write of this file took the leaf away */
};

static bool is_gone(const struct fuse_file *file)
{
	return !fuse_node_parent(file->node);
}

/* --- the text --------------------------------------------------------------------------------- */

static int text_render(const struct twin_node *node, char **out, size_t *out_len)
{
	size_t len = twin_leaf_len(node->value);
	char *text = malloc(len + 1);

	if (!text)
		return -ENOMEM;
	*out_len = twin_leaf_put(node->value, text, len);
	*out = text;
	return 0;
}

static int leaf_render(struct fuse_file *file)
{
	struct leaf_file *f = file->data;
	char *text;
	int r = text_render(twin_node_of(file->node), &text, &f->len);

	if (r)
		return r;
	free(f->text);
	f->text = text;
	return 0;
}

static uint64_t leaf_size(struct fuse_node *node)
{
	return twin_leaf_len(twin_node_of(node)->value);
}

/* --- what it stands for ----------------------------------------------------------------------- */

static int leaf_refuse(const struct fuse_file *file, int error, const char *reason)
{
	char label[TWIN_LABEL_SIZE];

	twin_tree_label(label, fuse_node_parent(file->node), fuse_node_name(file->node));
	return twin_writes_refuse(twin_node_of(file->node)->tree->writes, label, error, reason);
}

/* Gives the leaf @value, NULL takes it away. */
static int leaf_set(struct fuse_file *file, const struct json_object *value)
{
	struct twin_node *node = twin_node_of(file->node);
	struct leaf_file *f = file->data;
	int r;

	if (!value && !node->value) {
		twin_node_remove(file->node);
		return 0;
	}
	/* A newline that came by itself. */
	if (f->sent && value && node->value && twin_doc_equal(value, node->value))
		return 0;
	r = twin_tree_set(fuse_node_parent(file->node), fuse_node_name(file->node), value, &f->write.writer);
	f->sent |= r == 0;
	return r;
}

/* Sends what @text stands for. Returns 0, TWIN_LEAF_WAITS or an error, of which the reason was told. */
static int leaf_send(struct fuse_file *file, struct bytes text, bool last)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *value = NULL;
	struct leaf_file *f = file->data;
	struct hub_twin_reason reason;
	int r = twin_leaf_parse(text, last, &value, &reason);

	if (r == TWIN_LEAF_WAITS)
		return r;
	if (r)
		return leaf_refuse(file, r, reason.text);
	r = leaf_set(file, value);
	f->ended |= r == 0 && is_gone(file);
	return r;
}

/* The text is @text from now on, if that can be. */
static int leaf_take(struct fuse_file *file, char **text_take, size_t len)
{
	struct leaf_file *f = file->data;
	int r = leaf_send(file, BYTES(*text_take, len), false);

	if (r < 0) {
		f->refused = true;
		return r;
	}
	free(f->text);
	f->text = TAKE_PTR(*text_take);
	f->len = len;
	f->unsent = r == TWIN_LEAF_WAITS;
	f->refused = false;
	return 0;
}

/* --- open, close ------------------------------------------------------------------------------ */

static int leaf_open(struct fuse_file *file)
{
	struct twin_node *node = twin_node_of(file->node);
	/* Whoever created it is the first to open it, if for reading only. */
	bool is_new = !node->value && !node->n_writers;
	bool writes = (file->flags & O_ACCMODE) != O_RDONLY || (file->flags & O_TRUNC) || is_new;
	struct leaf_file *f;

	if (writes && !node->tree->writable)
		return -EROFS;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	file->data = f;
	if (!writes)
		return 0;
	f->unsent = !node->value || (file->flags & O_TRUNC);
	if (!f->unsent && leaf_render(file)) {
		free(f);
		return -ENOMEM;
	}
	f->is_writer = true;
	twin_write_init(&f->write, node->tree->writes);
	++node->n_writers;
	return 0;
}

/* A file that did not become a property before its last writer went. */
static bool is_abandoned(const struct fuse_file *file)
{
	const struct twin_node *node = twin_node_of(file->node);

	return !is_gone(file) && !node->value && !node->n_writers;
}

static void leaf_release(struct fuse_file *file)
{
	struct leaf_file *f = file->data;

	if (f->is_writer) {
		if (f->unsent && !f->refused && !is_gone(file))
			(void)leaf_send(file, BYTES(f->text, f->len), true);
		--twin_node_of(file->node)->n_writers;
		if (is_abandoned(file))
			twin_node_remove(file->node);
		twin_write_deinit(&f->write);
	}
	free(f->text);
	free(f);
}

/* --- read, write ------------------------------------------------------------------------------ */

static int leaf_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct leaf_file *f = file->data;
	int r = 0;

	(void)size;
	/* What is here and not there yet is read as it was written. */
	if (!f->unsent && (offset == 0 || !f->text))
		r = leaf_render(file);
	if (r)
		return r;
	fuse_reply_document(req, BYTES(f->text, f->len), offset);
	return 0;
}

static bool is_space(struct bytes data)
{
	for (size_t i = 0; i < data.len; ++i)
		if (data.data[i] != '\n' && data.data[i] != ' ' && data.data[i] != '\t' &&
		    data.data[i] != '\r')
			return false;
	return true;
}

/* The text after a write. */
static int text_after(const struct leaf_file *f, uint64_t offset, struct bytes data, char **out,
		      size_t *out_len)
{
	size_t end = (size_t)offset + data.len;
	char *text = malloc(end > f->len ? end : f->len + 1);

	if (!text)
		return -ENOMEM;
	if (f->len)
		memcpy(text, f->text, f->len);
	memcpy(text + offset, data.data, data.len);
	*out = text;
	*out_len = end > f->len ? end : f->len;
	return 0;
}

static int leaf_put(struct fuse_file *file, uint64_t offset, struct bytes data)
{
	_cleanup_(free_ptr) char *text = NULL;
	struct leaf_file *f = file->data;
	size_t len;
	int r;

	if (file->write_flags & O_APPEND)
		offset = f->len;
	if (offset > f->len)
		return leaf_refuse(file, -EINVAL, "a hole in a text");
	if (offset + data.len > TWIN_LEAF_TEXT_MAX) {
		f->refused = true;
		return leaf_refuse(file, -EMSGSIZE, "the text is too long");
	}
	r = text_after(f, offset, data, &text, &len);
	return r ? r : leaf_take(file, &text, len);
}

static ssize_t leaf_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			  struct bytes data)
{
	struct leaf_file *f = file->data;
	bool waits = twin_write_waits(file);
	int r = 0;

	if (!f->is_writer)
		return -EBADF;
	if (is_gone(file))
		return f->ended && is_space(data) ? (ssize_t)data.len : -ESTALE;
	if (!data.len)
		return 0;
	if (waits)
		r = twin_write_can_wait(&f->write);
	if (!r)
		r = leaf_put(file, offset, data);
	if (r)
		return r;
	return waits && !f->unsent ? twin_write_wait(&f->write, req, data.len) : (ssize_t)data.len;
}

static int leaf_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	struct leaf_file *f = file->data;
	int r;

	(void)datasync;
	if (!f->is_writer)
		return 0;
	r = twin_write_can_wait(&f->write);
	return r ? r : (int)twin_write_wait(&f->write, req, 0);
}

/* --- truncate --------------------------------------------------------------------------------- */

static int file_truncate(struct fuse_file *file, size_t size)
{
	_cleanup_(free_ptr) char *text = NULL;
	struct leaf_file *f = file->data;
	size_t len;
	int r;

	if (is_gone(file))
		return -ESTALE;
	if (size == f->len && size)
		return 0;
	if (size > f->len)
		return leaf_refuse(file, -EINVAL, "a hole in a text");
	/* What follows is the value; without it, nothing is. */
	if (!size) {
		f->len = 0;
		f->unsent = true;
		f->refused = false;
		return 0;
	}
	r = text_after(f, 0, BYTES(f->text, size), &text, &len);
	return r ? r : leaf_take(file, &text, size);
}

/* By name: there is nobody who goes on writing. */
static int node_truncate(struct fuse_node *fuse, size_t size)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *value = NULL;
	const struct twin_writes *writes = twin_node_of(fuse)->tree->writes;
	_cleanup_(free_ptr) char *text = NULL;
	struct hub_twin_reason reason;
	char label[TWIN_LABEL_SIZE];
	size_t len;
	int r = text_render(twin_node_of(fuse), &text, &len);

	if (r || size == len)
		return r;
	twin_tree_label(label, fuse_node_parent(fuse), fuse_node_name(fuse));
	if (size > len)
		return twin_writes_refuse(writes, label, -EINVAL, "a hole in a text");
	r = twin_leaf_parse(BYTES(text, size), true, &value, &reason);
	if (r)
		return twin_writes_refuse(writes, label, r, reason.text);
	return twin_tree_set(fuse_node_parent(fuse), fuse_node_name(fuse), value, NULL);
}

static int leaf_truncate(struct fuse_node *node, struct fuse_file *file, uint64_t size)
{
	struct leaf_file *f = file ? file->data : NULL;

	if (!twin_node_of(node)->tree->writable)
		return -EROFS;
	if (size > TWIN_LEAF_TEXT_MAX)
		return -EMSGSIZE;
	return f && f->is_writer ? file_truncate(file, (size_t)size) : node_truncate(node, (size_t)size);
}

const struct fuse_file_ops twin_leaf_ops = {
	.open = leaf_open,
	.release = leaf_release,
	.read = leaf_read,
	.write = leaf_write,
	.fsync = leaf_fsync,
	.interrupt = twin_write_interrupt,
	.truncate = leaf_truncate,
	.size = leaf_size,
	.drop = twin_node_on_drop,
};
