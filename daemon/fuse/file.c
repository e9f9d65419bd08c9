/* SPDX-License-Identifier: MIT */
/*
 * Open files: handles, reading and writing through the owner's operations, poll, and requests that wait.
 *
 * A handle names a slot of the table and how often the slot was used, so one from before is never taken for
 * the one of now. Slots are kept for reuse: opening a file allocates nothing once as many files were open at
 * the same time.
 *
 * A parked request is in exactly one chain of tree->parked until it is answered, by its owner, by INTERRUPT,
 * or when the connection ends; whoever answers unlinks it first. The kernel releases a file only when no
 * request on it is left; file_close() does not rely on that.
 *
 * INTERRUPT: the kernel sends it only for a request that was read from /dev/fuse before, and every request is
 * served as soon as it is read. So one that waits is parked by the time its INTERRUPT is read, and a unique
 * that is not in the table is one that has been answered: nothing to do. (A transport that fetches requests
 * elsewhere has to see to this itself.)
 *
 * A WRITE or FSYNC that waits keeps the kernel's lock of its inode; inode.c sees to it that others use other
 * inodes. What uses the same one, first of all the same open file, stands in line behind it and cannot be
 * killed there: owners bound how long they let one wait. Reads hold no lock.
 */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuse/internal.h"

#define POLL_ALWAYS (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM)

/* --- table --- */

static struct open_file *file_find(struct fuse_tree *tree, uint64_t fh, uint64_t node_id)
{
	uint32_t slot = (uint32_t)fh;
	struct open_file *file;

	if (slot >= tree->n_files)
		return NULL;
	file = tree->files[slot];
	if (file->fh != fh || !file->pub.node || file->inode->id != node_id)
		return NULL;
	return file;
}

static int table_grow(struct fuse_tree *tree)
{
	size_t size = tree->files_size ? tree->files_size * 2 : 64;
	struct open_file **files;

	if (tree->n_files < tree->files_size)
		return 0;
	if (tree->n_files >= FUSE_MAX_OPEN_FILES)
		return -ENFILE;
	files = reallocarray(tree->files, size, sizeof(struct open_file *));
	if (!files)
		return -ENOMEM;
	tree->files = files;
	tree->files_size = size;
	return 0;
}

static int file_alloc(struct open_file **out, struct fuse_tree *tree)
{
	struct list *l = list_first(&tree->free_files);
	struct open_file *file;
	int r;

	if (l) {
		list_remove(l);
		*out = container_of(l, struct open_file, node_link);
		return 0;
	}
	r = table_grow(tree);
	if (r < 0)
		return r;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	list_init(&file->node_link);
	file->fh = tree->n_files;
	tree->files[tree->n_files++] = file;
	*out = file;
	return 0;
}

/* May free the inode and its node. */
static void file_recycle(struct open_file *file)
{
	struct fuse_node *node = file->pub.node;
	struct fuse_inode *inode = file->inode;

	file->inode = NULL;
	file->pub = (struct fuse_file){.node = NULL};
	file->kh = 0;
	file->fh += UINT64_C(1) << 32;
	list_remove(&file->node_link);
	list_append(&node->tree->free_files, &file->node_link);
	node_file_closed(node);
	inode_closed(inode, file->locks);
}

/* --- requests that wait --- */

/* The kernel counts unique by twos; bit 63 marks one that was sent again. */
static struct list *parked_chain(struct fuse_tree *tree, uint64_t unique)
{
	return &tree->parked[(unique >> 1) & (FUSE_N_PARKED_CHAINS - 1)];
}

/* Whether the kernel keeps the lock of the inode for as long as this waits. */
static bool parked_locks(const struct fuse_parked *parked)
{
	return parked->opcode == FUSE_WRITE || parked->opcode == FUSE_FSYNC;
}

void fuse_park(struct fuse_request *req, struct fuse_parked *parked)
{
	const struct fuse_wire_request *wire = req->wire;

	assert(req->file && !req->answered);
	assert(req->file->pub.node->ops->interrupt);
	req->answered = true;
	parked->file = &req->file->pub;
	parked->unique = wire->header.unique;
	parked->opcode = wire->header.opcode;
	parked->size = 0;
	if (parked->opcode == FUSE_READ)
		parked->size = wire->read.size;
	else if (parked->opcode == FUSE_WRITE)
		parked->size = wire->write.size;
	else if (parked->opcode == FUSE_IOCTL)
		parked->size = wire->ioctl.out_size;
	list_init(&parked->link);
	list_append(parked_chain(req->tree, parked->unique), &parked->link);
	req->file->n_parked++;
	if (parked_locks(parked))
		node_waits(req->file->pub.node);
}

/* Takes the request out of the table; the caller answers it. */
static struct fuse_tree *parked_unlink(struct fuse_parked *parked)
{
	struct open_file *file = container_of(parked->file, struct open_file, pub);

	assert(list_is_linked(&parked->link) && file->n_parked > 0);
	list_remove(&parked->link);
	file->n_parked--;
	if (parked_locks(parked))
		node_answered(file->pub.node);
	return file->pub.node->tree;
}

int owner_error(ssize_t result)
{
	return result <= -512 || result == -ENOSYS ? -EIO : (int)result;
}

static void reply_ioctl(struct fuse_tree *tree, uint64_t unique, struct bytes data)
{
	struct fuse_ioctl_out out = {.result = 0};

	tree_reply_parts(tree, unique, BYTES(&out, sizeof(out)), data);
}

void fuse_parked_reply(struct fuse_parked *parked, ssize_t result)
{
	struct fuse_tree *tree = parked_unlink(parked);
	struct fuse_write_out out = {.size = (uint32_t)result};

	assert(result != FUSE_PARKED);
	if (result < 0) {
		tree_reply_error(tree, parked->unique, owner_error(result));
		return;
	}
	if (parked->opcode == FUSE_WRITE) {
		assert(result == parked->size);
		tree_reply(tree, parked->unique, BYTES(&out, sizeof(out)));
		return;
	}
	assert(result == 0);
	if (parked->opcode == FUSE_IOCTL)
		reply_ioctl(tree, parked->unique, BYTES(NULL, 0));
	else
		tree_reply(tree, parked->unique, BYTES(NULL, 0));
}

void fuse_parked_reply_data(struct fuse_parked *parked, struct bytes data)
{
	struct fuse_tree *tree = parked_unlink(parked);

	assert(data.len <= parked->size);
	if (parked->opcode == FUSE_IOCTL) {
		reply_ioctl(tree, parked->unique, data);
		return;
	}
	assert(parked->opcode == FUSE_READ);
	tree_reply(tree, parked->unique, data);
}

/* The owner may free @parked when it takes it back. */
static void parked_abort(struct fuse_parked *parked, int error)
{
	uint64_t unique = parked->unique;
	struct fuse_tree *tree = parked_unlink(parked);

	parked->file->node->ops->interrupt(parked);
	tree_reply_error(tree, unique, error);
}

static void interrupt_parked(struct fuse_parked *parked)
{
	const struct fuse_file_ops *ops = parked->file->node->ops;

	if (!ops->holds || !ops->holds(parked))
		parked_abort(parked, -EINTR);
}

int file_handle_interrupt(struct fuse_request *req)
{
	uint64_t unique = req->wire->interrupt.unique;

	list_for_each (l, parked_chain(req->tree, unique)) {
		struct fuse_parked *parked = container_of(l, struct fuse_parked, link);

		if (parked->unique == unique) {
			interrupt_parked(parked);
			return 0;
		}
	}
	return 0;
}

/* The parked requests of @file, or all of them. The owner may answer others while it takes one back: begin
 * again. */
static void abort_parked(struct fuse_tree *tree, const struct open_file *file, int error)
{
	for (size_t i = 0; i < FUSE_N_PARKED_CHAINS; i++) {
		struct list *l = tree->parked[i].next;

		while (l != &tree->parked[i]) {
			struct fuse_parked *parked = container_of(l, struct fuse_parked, link);

			l = l->next;
			if (file && parked->file != &file->pub)
				continue;
			parked_abort(parked, error);
			l = tree->parked[i].next;
		}
	}
}

void file_abort_parked(struct fuse_tree *tree, int error)
{
	abort_parked(tree, NULL, error);
}

/* --- open and release --- */

void file_close(struct open_file *file)
{
	struct fuse_node *node = file->pub.node;

	if (file->n_parked > 0)
		abort_parked(node->tree, file, -EINTR);
	if (node->ops->release)
		node->ops->release(&file->pub);
	file_recycle(file);
}

int file_open(struct open_file **out, struct fuse_inode *inode, uint32_t flags, pid_t pid)
{
	struct fuse_node *node = inode->node;
	struct open_file *file;
	int r;

	r = file_alloc(&file, node->tree);
	if (r < 0)
		return r;
	file->pub = (struct fuse_file){.node = node, .flags = flags, .pid = pid};
	file->inode = inode;
	file->locks = node_locks(node, flags);
	inode_opened(inode, file->locks);
	file->seen_changes = node->n_changes;
	list_append(&node->open_files, &file->node_link);
	r = node->ops->open ? node->ops->open(&file->pub) : 0;
	if (r < 0) {
		file_recycle(file);
		return owner_error(r);
	}
	*out = file;
	return 0;
}

uint32_t file_open_flags(const struct fuse_node *node)
{
	uint32_t flags = FOPEN_DIRECT_IO;

	if (node->record)
		flags |= FOPEN_STREAM | FOPEN_PARALLEL_DIRECT_WRITES;
	return node->ops->flush ? flags : flags | FOPEN_NOFLUSH;
}

int file_handle_open(struct fuse_request *req)
{
	const struct fuse_in_header *header = &req->wire->header;
	struct fuse_inode *inode = tree_inode(req->tree, header->nodeid);
	struct fuse_open_out out = {0};
	uint32_t flags = req->wire->open.flags;
	struct open_file *file;
	int r;

	if (!inode)
		return -ESTALE;
	if (!node_is_live(inode->node))
		return node_refuse(inode->node, (pid_t)header->pid);
	if (!S_ISREG(inode->node->mode))
		return -EISDIR;
	r = inode_admit(inode, (pid_t)header->pid, flags);
	if (r < 0)
		return r;
	r = file_open(&file, inode, flags, (pid_t)header->pid);
	if (r < 0)
		return r;
	out.fh = file->fh;
	out.open_flags = file_open_flags(inode->node);
	req->answered = true;
	/* When the reply was not taken no RELEASE will come. */
	if (tree_reply(req->tree, header->unique, BYTES(&out, sizeof(out))) < 0)
		file_close(file);
	return 0;
}

int file_handle_release(struct fuse_request *req)
{
	struct open_file *file = file_find(req->tree, req->wire->release.fh, req->wire->header.nodeid);

	if (!file)
		return -EBADF;
	file_close(file);
	return request_reply(req, BYTES(NULL, 0));
}

void file_table_deinit(struct fuse_tree *tree)
{
	for (size_t i = 0; i < tree->n_files; i++) {
		if (tree->files[i]->pub.node)
			file_close(tree->files[i]);
	}
	for (size_t i = 0; i < tree->n_files; i++)
		free(tree->files[i]);
	free(tree->files);
	tree->files = NULL;
	tree->n_files = 0;
	tree->files_size = 0;
}

/* --- operations --- */

struct open_file *request_file(struct fuse_request *req, uint64_t fh)
{
	const struct fuse_in_header *header = &req->wire->header;

	req->file = file_find(req->tree, fh, header->nodeid);
	if (req->file)
		req->file->pub.pid = (pid_t)header->pid;
	return req->file;
}

/* Not the end of a file: every close(2) of a duplicate sends one, where NOFLUSH does not say that it need not. */
int file_handle_flush(struct fuse_request *req)
{
	struct open_file *file = request_file(req, req->wire->flush.fh);

	if (file && file->pub.node->ops->flush)
		file->pub.node->ops->flush(&file->pub);
	return request_reply(req, BYTES(NULL, 0));
}

void fuse_reply_data(struct fuse_request *req, struct bytes data)
{
	assert(req->wire->header.opcode == FUSE_READ && data.len <= req->wire->read.size);
	request_reply(req, data);
}

void fuse_reply_document(struct fuse_request *req, struct bytes document, uint64_t offset)
{
	size_t at = offset < document.len ? (size_t)offset : document.len, left = document.len - at;
	uint32_t size = req->wire->read.size;

	fuse_reply_data(req, left ? BYTES(document.data + at, left < size ? left : size) : BYTES(NULL, 0));
}

int file_handle_read(struct fuse_request *req)
{
	const struct fuse_read_in *in = &req->wire->read;
	struct open_file *file = request_file(req, in->fh);
	const struct fuse_file_ops *ops;
	int r = 0;

	if (!file)
		return -EBADF;
	ops = file->pub.node->ops;
	file->pub.flags = in->flags;
	if (in->offset == 0)
		file->seen_changes = file->pub.node->n_changes;
	if (ops->read)
		r = ops->read(&file->pub, req, in->offset, in->size);
	if (r == FUSE_PARKED)
		return r;
	if (r < 0)
		return owner_error(r);
	return req->answered ? 0 : request_reply(req, BYTES(NULL, 0));
}

int file_handle_write(struct fuse_request *req)
{
	const struct fuse_write_in *in = &req->wire->write;
	struct open_file *file = request_file(req, in->fh);
	struct fuse_write_out out = {.size = in->size};
	const struct fuse_file_ops *ops;
	ssize_t n;

	if (!file)
		return -EBADF;
	ops = file->pub.node->ops;
	if (!ops->write)
		return -EBADF;
	file->pub.flags = in->flags;
	file->pub.write_flags = in->flags;
	n = ops->write(&file->pub, req, in->offset, req->wire->data);
	if (n == FUSE_PARKED)
		return FUSE_PARKED;
	if (n < 0)
		return owner_error(n);
	assert((size_t)n == in->size);
	return request_reply(req, BYTES(&out, sizeof(out)));
}

int file_handle_fsync(struct fuse_request *req)
{
	const struct fuse_fsync_in *in = &req->wire->fsync;
	struct open_file *file = request_file(req, in->fh);
	const struct fuse_file_ops *ops;
	int r = 0;

	if (!file)
		return -EBADF;
	ops = file->pub.node->ops;
	if (ops->fsync)
		r = ops->fsync(&file->pub, req, in->fsync_flags & FUSE_FSYNC_FDATASYNC);
	if (r == FUSE_PARKED)
		return r;
	return r < 0 ? owner_error(r) : request_reply(req, BYTES(NULL, 0));
}

/*
 * The kernel's handle is kept until RELEASE and used for every wake-up, not once: an edge-triggered epoll
 * asks only when it was woken. A changed document reports POLLPRI and POLLERR until it is read from its
 * beginning, as sysfs does.
 */
int file_handle_poll(struct fuse_request *req)
{
	const struct fuse_poll_in *in = &req->wire->poll;
	struct open_file *file = request_file(req, in->fh);
	struct fuse_poll_out out = {.revents = POLL_ALWAYS};
	const struct fuse_file_ops *ops;

	if (!file)
		return -EBADF;
	ops = file->pub.node->ops;
	if (in->flags & FUSE_POLL_SCHEDULE_NOTIFY)
		file->kh = in->kh;
	if (ops->poll)
		out.revents = ops->poll(&file->pub);
	if (file->seen_changes != file->pub.node->n_changes)
		out.revents |= POLLPRI | POLLERR;
	if (out.revents & POLLIN)
		out.revents |= POLLRDNORM;
	if (out.revents & POLLOUT)
		out.revents |= POLLWRNORM;
	return request_reply(req, BYTES(&out, sizeof(out)));
}

void fuse_reply_ioctl(struct fuse_request *req, struct bytes data)
{
	assert(req->wire->header.opcode == FUSE_IOCTL && data.len <= req->wire->ioctl.out_size);
	assert(!req->answered);
	req->answered = true;
	reply_ioctl(req->tree, req->wire->header.unique, data);
}

/* Sizes and directions are those in the command; the kernel copies the caller's bytes accordingly. */
int file_handle_ioctl(struct fuse_request *req)
{
	const struct fuse_ioctl_in *in = &req->wire->ioctl;
	struct open_file *file = in->flags & FUSE_IOCTL_DIR ? NULL : request_file(req, in->fh);
	const struct fuse_file_ops *ops;
	int r;

	if (!file)
		return in->flags & FUSE_IOCTL_DIR ? -ENOTTY : -EBADF;
	ops = file->pub.node->ops;
	if (!ops->ioctl || (in->flags & (FUSE_IOCTL_UNRESTRICTED | FUSE_IOCTL_COMPAT)))
		return -ENOTTY;
	r = ops->ioctl(&file->pub, req, in->cmd, req->wire->data);
	if (r == FUSE_PARKED)
		return r;
	if (r < 0)
		return owner_error(r);
	if (!req->answered)
		fuse_reply_ioctl(req, BYTES(NULL, 0));
	return 0;
}
