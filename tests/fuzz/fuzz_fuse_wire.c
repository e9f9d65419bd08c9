/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as FUSE requests, through the wire format and a tree with one file of each kind and a directory in
 * which users make, move and remove names.
 *
 * The input is a row of records: two bytes, little-endian, then as many bytes as their lower 15 bits say.
 * With the top bit clear the record is a request, whose length field is set right so that most of them come
 * further than that check (but every request whose first byte is 0xff, to see the check). With the top bit
 * set its length says what the owner of the files does: answer what is parked, change a document, or remove a
 * name. INIT has been done before.
 *
 * Checked beyond "does not crash": a request is answered once or parked, never both; one that must not be
 * answered is not; replies name the request; after the end nothing is parked, no file is open, and every node
 * was dropped.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/transport.h"
#include "fuse/wire.h"

#define N_PARKED    64
#define MAX_REQUEST 0x7fff

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct target {
	struct fuse_transport transport;
	struct fuse_tree *tree;
	struct fuse_node *document;
	struct fuse_node *dir;
	uint64_t n_nodes;
	struct fuse_parked parked[N_PARKED];
	bool is_parked[N_PARKED];
	uint64_t n_parked;
	uint64_t n_open;
	uint64_t n_replies;
	uint64_t last_unique;
};

static struct target *file_target(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static int park(struct fuse_file *file, struct fuse_request *req)
{
	struct target *t = file_target(file);

	for (size_t i = 0; i < N_PARKED; i++) {
		if (t->is_parked[i])
			continue;
		t->is_parked[i] = true;
		t->n_parked++;
		fuse_park(req, &t->parked[i]);
		return FUSE_PARKED;
	}
	return -EAGAIN;
}

static int on_open(struct fuse_file *file)
{
	if (file->flags & O_EXCL)
		return -EBUSY;
	file_target(file)->n_open++;
	return 0;
}

static void on_release(struct fuse_file *file)
{
	struct target *t = file_target(file);

	for (size_t i = 0; i < N_PARKED; i++)
		assert(!t->is_parked[i] || t->parked[i].file != file);
	t->n_open--;
}

static ssize_t on_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset, struct bytes data)
{
	if (offset > 0)
		return -EMSGSIZE;
	return file->write_flags & O_SYNC ? park(file, req) : (ssize_t)data.len;
}

static int on_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	static const uint8_t text[64];

	if (offset & 1)
		return park(file, req);
	if (offset & 2)
		return -EIO;
	fuse_reply_data(req, BYTES(text, size < sizeof(text) ? size : sizeof(text)));
	return 0;
}

static int on_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	return datasync ? 0 : park(file, req);
}

static uint32_t on_poll(struct fuse_file *file)
{
	return file_target(file)->n_parked ? 0 : POLLIN;
}

static void on_interrupt(struct fuse_parked *parked)
{
	struct target *t = file_target(parked->file);
	size_t i = (size_t)(parked - t->parked);

	assert(i < N_PARKED && t->is_parked[i]);
	t->is_parked[i] = false;
	t->n_parked--;
}

static uint64_t on_size(struct fuse_node *node)
{
	(void)node;
	return 64;
}

static void on_flush(struct fuse_file *file)
{
	assert(file_target(file)->n_open > 0);
}

static int on_truncate(struct fuse_node *node, struct fuse_file *file, uint64_t size)
{
	assert(!file || file->node == node);
	return size & 1 ? -EFBIG : 0;
}

static int on_ioctl(struct fuse_file *file, struct fuse_request *req, uint32_t command, struct bytes in)
{
	if (command & 1)
		return park(file, req);
	if (command & 2)
		return -ENOSYS;
	if (command & 4)
		fuse_reply_ioctl(req, BYTES(in.data, 0));
	return 0;
}

static void on_drop(struct fuse_node *node)
{
	struct target *t = fuse_node_userdata(node);

	t->n_nodes--;
	if (node == t->document)
		t->document = NULL;
}

static const struct fuse_file_ops record_ops = {
	.open = on_open,
	.release = on_release,
	.write = on_write,
	.read = on_read,
	.fsync = on_fsync,
	.poll = on_poll,
	.interrupt = on_interrupt,
	.ioctl = on_ioctl,
	.drop = on_drop,
};

static const struct fuse_file_ops document_ops = {
	.open = on_open,
	.release = on_release,
	.read = on_read,
	.interrupt = on_interrupt,
	.flush = on_flush,
	.truncate = on_truncate,
	.size = on_size,
	.drop = on_drop,
};

static int add(struct target *t, struct fuse_node **out, struct fuse_node *parent, const char *name,
	       mode_t mode, const struct fuse_file_ops *ops);

static int on_mkdir(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	return add(fuse_node_userdata(dir), out, dir, name, S_IFDIR | mode, NULL);
}

static int on_create(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	return add(fuse_node_userdata(dir), out, dir, name, S_IFREG | mode,
		   name[0] & 1 ? &record_ops : &document_ops);
}

static int on_remove(struct fuse_node *dir, struct fuse_node *child)
{
	assert(fuse_node_parent(child) == dir);
	fuse_node_remove(child);
	return 0;
}

static int on_rename(struct fuse_node *child, struct fuse_node *new_dir, const char *new_name,
		     struct fuse_node *replaced)
{
	assert(fuse_node_find(new_dir, new_name) == replaced);
	if (replaced)
		fuse_node_remove(replaced);
	return fuse_node_move(child, new_dir, new_name);
}

static const struct fuse_dir_ops dir_ops = {
	.mkdir = on_mkdir,
	.create = on_create,
	.rmdir = on_remove,
	.unlink = on_remove,
	.rename = on_rename,
	.drop = on_drop,
};

static int on_reply(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	struct target *t = container_of(transport, struct target, transport);
	struct fuse_out_header header;
	size_t len = 0;

	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	memcpy(&header, iov[0].iov_base, sizeof(header));
	assert(header.len == len && header.error <= 0 && header.error > -512);
	assert(header.error == 0 || len == sizeof(header));
	t->n_replies++;
	t->last_unique = header.unique;
	/* As when the connection ends between a request and its answer. */
	return t->n_replies % 13 == 0 ? -ENOENT : 0;
}

static int on_notify(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	struct fuse_out_header header;

	(void)transport;
	assert(n_iov == 2);
	memcpy(&header, iov[0].iov_base, sizeof(header));
	assert(header.unique == 0 && header.error > 0);
	return 0;
}

static const struct fuse_transport_ops transport_ops = {.reply = on_reply, .notify = on_notify};

static void run_request(struct target *t, uint8_t *request, size_t len)
{
	uint64_t n_replies = t->n_replies, n_parked = t->n_parked, answered;
	struct fuse_in_header header;
	uint32_t right_len = (uint32_t)len;

	if (len < sizeof(header) || request[0] == 0xff) {
		fuse_tree_request(t->tree, BYTES(request, len));
		return;
	}
	memcpy(request, &right_len, sizeof(right_len));
	memcpy(&header, request, sizeof(header));
	fuse_tree_request(t->tree, BYTES(request, len));

	answered = t->n_replies - n_replies;
	if (header.opcode == FUSE_INTERRUPT || header.opcode == FUSE_RELEASE || header.opcode == FUSE_OPEN ||
	    header.opcode == FUSE_CREATE)
		return; /* these also answer what was parked */
	if (!fuse_wire_is_answered(header.opcode))
		assert(answered == 0);
	else
		assert(answered + (t->n_parked - n_parked) == 1);
	assert(answered == 0 || t->last_unique == header.unique);
}

static void run_removal(struct target *t, unsigned int n)
{
	struct fuse_node *node = fuse_node_next_child(t->dir, NULL);

	while (node && n-- > 0)
		node = fuse_node_next_child(t->dir, node);
	if (node)
		fuse_node_remove(node);
}

static void run_action(struct target *t, unsigned int action)
{
	struct fuse_parked *parked = &t->parked[action % N_PARKED];

	if (action & 0x4000) {
		if (action & 0x800)
			run_removal(t, action & 7);
		else if (t->document)
			fuse_node_changed(t->document);
		return;
	}
	if (!t->is_parked[action % N_PARKED])
		return;
	t->is_parked[action % N_PARKED] = false;
	t->n_parked--;
	if (parked->opcode == FUSE_READ && (action & 0x2000))
		fuse_parked_reply_data(parked, BYTES("", parked->size > 0));
	else if (action & 0x1000)
		fuse_parked_reply(parked, -EDQUOT);
	else
		fuse_parked_reply(parked, parked->opcode == FUSE_WRITE ? (ssize_t)parked->size : 0);
}

static int add(struct target *t, struct fuse_node **out, struct fuse_node *parent, const char *name,
	       mode_t mode, const struct fuse_file_ops *ops)
{
	struct fuse_node_options options = {
		.name = name,
		.mode = mode,
		.record = ops == &record_ops,
		.transient = name[0] & 2,
		.ops = ops,
		.dir_ops = ops ? NULL : &dir_ops,
		.userdata = t,
	};
	int r = fuse_node_add(out, parent, &options);

	t->n_nodes += r == 0;
	return r;
}

static void begin(struct target *t)
{
	struct {
		struct fuse_in_header header;
		struct fuse_init_in in;
	} init = {
		.header = {.len = sizeof(init), .opcode = FUSE_INIT, .unique = 2},
		.in = {.major = 7, .minor = FUSE_MINOR_PRUNE, .flags = ~0u, .flags2 = ~0u},
	};
	struct fuse_tree_options options = {.root_mode = 0755, .userdata = t};
	int r = fuse_tree_new(&t->tree, &options);

	assert(r == 0);
	add(t, NULL, fuse_tree_root(t->tree), "r", S_IFREG | 0666, &record_ops);
	add(t, &t->document, fuse_tree_root(t->tree), "d", S_IFREG | 0444, &document_ops);
	add(t, &t->dir, fuse_tree_root(t->tree), "s", S_IFDIR | 0755, NULL);
	add(t, NULL, t->dir, "r", S_IFREG | 0666, &record_ops);
	t->transport = (struct fuse_transport){.ops = &transport_ops, .max_pages = 256};
	fuse_tree_attach(t->tree, &t->transport);
	fuse_tree_request(t->tree, BYTES(&init, sizeof(init)));
	assert(t->n_replies == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target *t = calloc(1, sizeof(*t));

	if (!t)
		return 0;
	begin(t);
	while (size >= 2) {
		unsigned int record = data[0] | (unsigned int)data[1] << 8;
		size_t len = record & MAX_REQUEST;
		uint8_t *copy;

		data += 2;
		size -= 2;
		if (record & 0x8000) {
			run_action(t, record & MAX_REQUEST);
			continue;
		}
		if (len > size)
			len = size;
		/* Of its own size, so that reading past the end is seen. */
		copy = malloc(len ? len : 1);
		if (!copy)
			break;
		memcpy(copy, data, len);
		run_request(t, copy, len);
		free(copy);
		data += len;
		size -= len;
	}
	fuse_tree_detach(t->tree);
	assert(t->n_parked == 0);
	fuse_tree_free(t->tree);
	assert(t->n_open == 0 && t->n_nodes == 0);
	free(t);
	return 0;
}
