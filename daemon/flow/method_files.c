/* SPDX-License-Identifier: MIT */
/*
 * Files of direct methods, see method_files.h.
 *
 * A registered method has two nodes, its directory and the file `call`. Files can be open after rmdir, so what
 * both nodes have in common lives until the tree has dropped the two of them; the method itself goes with rmdir,
 * or with the tree.
 *
 * An open file is an opener. At most one READ and one WRITE of it are parked: the READ until there is a call, the
 * WRITE until its response is acknowledged.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "flow/method_files.h"
#include "hub/contract.h"
#include "hub/method.h"

struct method_files {
	struct methods *methods;
	struct events *events;
	struct config_access access; /* of the files `call` */
	struct fuse_node *dir;
};

/* A method's directory. */
struct method_node {
	struct method_files *owner;
	struct method *method; /* NULL = removed */
	unsigned int n_nodes;  /* not dropped */
};

/* An open `call`. */
struct call_file {
	struct method_opener opener;
	struct fuse_file *file;
	struct fuse_parked read;
	struct fuse_parked write;
	bool is_reading; /* @read is parked */
	size_t write_size;
};

static struct call_file *file_of(struct method_opener *opener)
{
	return container_of(opener, struct call_file, opener);
}

/* --- what methods say ------------------------------------------------------------------------- */

/* Answers the parked READ, if there is one: something has happened. */
static void call_file_answer_read(struct call_file *f)
{
	struct bytes data = BYTES(NULL, 0);
	int r;

	if (!f->is_reading)
		return;
	f->is_reading = false;
	r = method_read(&f->opener, f->read.size, &data);
	assert(r != -EAGAIN);
	if (r)
		fuse_parked_reply(&f->read, r);
	else
		fuse_parked_reply_data(&f->read, data);
}

static void call_file_on_event(struct method_opener *opener)
{
	struct call_file *f = file_of(opener);

	call_file_answer_read(f);
	fuse_file_poll_wake(f->file);
}

static void call_file_on_answered(struct method_opener *opener, int error)
{
	struct call_file *f = file_of(opener);

	fuse_parked_reply(&f->write, error ? error : (ssize_t)f->write_size);
}

/* Why a response is refused is not to be guessed from EINVAL. */
static void call_tell_refused(struct fuse_file *file)
{
	struct method_node *node = fuse_node_userdata(file->node);
	char name[HUB_METHOD_NAME_MAX + sizeof("methods//call")];

	/* After rmdir there is no such file. */
	if (!node->owner->events || !node->method)
		return;
	snprintf(name, sizeof(name), "methods/%s/call", fuse_node_name(fuse_node_parent(file->node)));
	events_emit(node->owner->events, "refused", name,
		    "a response is a response-code from 0 to 4294967295, then one space and the payload, if "
		    "there "
		    "is one, all in one write");
}

/* --- call ------------------------------------------------------------------------------------- */

static int call_open(struct fuse_file *file)
{
	struct method_node *node = fuse_node_userdata(file->node);
	struct call_file *f;

	/* Half a call is none. */
	if ((file->flags & O_ACCMODE) != O_RDWR)
		return -EINVAL;
	if (!node->method)
		return -ENODEV;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->file = file;
	f->opener.on_call = call_file_on_event;
	f->opener.on_gone = call_file_on_event;
	f->opener.on_answered = call_file_on_answered;
	file->data = f;
	method_open(node->method, &f->opener);
	return 0;
}

static void call_release(struct fuse_file *file)
{
	struct call_file *f = file->data;

	method_close(&f->opener);
	free(f);
}

static int call_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct call_file *f = file->data;
	struct bytes data;
	int r = method_read(&f->opener, size, &data);

	(void)offset;
	if (r == 0)
		fuse_reply_data(req, data);
	if (r != -EAGAIN || (file->flags & O_NONBLOCK))
		return r;
	if (f->is_reading)
		return -EBUSY;
	f->is_reading = true;
	method_set_reading(&f->opener, true);
	fuse_park(req, &f->read);
	return FUSE_PARKED;
}

static ssize_t call_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			  struct bytes data)
{
	struct call_file *f = file->data;
	bool wait = !(file->write_flags & O_NONBLOCK);
	struct bytes payload = BYTES(NULL, 0);
	uint32_t code = 0;
	int r;

	(void)offset;
	/* First: what is wrong with the call matters more than what is wrong with the text. */
	r = method_respond_check(&f->opener);
	if (!r) {
		r = hub_method_response_parse(data, &code, &payload);
		if (r)
			call_tell_refused(file);
	}
	if (!r)
		r = method_respond(&f->opener, code, payload, wait);
	if (r < 0)
		return r;
	if (r != METHOD_WAITS)
		return (ssize_t)data.len;
	f->write_size = data.len;
	fuse_park(req, &f->write);
	return FUSE_PARKED;
}

static uint32_t call_poll(struct fuse_file *file)
{
	struct call_file *f = file->data;

	return method_poll(&f->opener);
}

/*
 * A write that was interrupted would look like one that failed. Shells get signals when their children end, and do
 * not try again; the acknowledgement is a matter of milliseconds.
 */
static bool call_holds(struct fuse_parked *parked)
{
	struct call_file *f = parked->file->data;

	return parked == &f->write && method_hurry(&f->opener);
}

static void call_interrupt(struct fuse_parked *parked)
{
	struct call_file *f = parked->file->data;

	if (parked == &f->write) {
		method_stop_waiting(&f->opener);
		return;
	}
	f->is_reading = false;
	method_set_reading(&f->opener, false);
}

/* --- directories ------------------------------------------------------------------------------ */

static void method_node_drop(struct fuse_node *fuse)
{
	struct method_node *node = fuse_node_userdata(fuse);
	int r;

	if (--node->n_nodes)
		return;
	/* The tree goes: all files are closed, so no call is open. */
	if (node->method) {
		r = method_unregister(node->method);
		assert(r == 0);
		(void)r;
	}
	free(node);
}

static const struct fuse_file_ops call_ops = {
	.open = call_open,
	.release = call_release,
	.read = call_read,
	.write = call_write,
	.poll = call_poll,
	.interrupt = call_interrupt,
	.holds = call_holds,
	.drop = method_node_drop,
};

static const struct fuse_dir_ops method_dir_ops = {
	.drop = method_node_drop,
};

/* Users may list what those who may write may change. */
static mode_t dir_mode(const struct config_access *access)
{
	return S_IFDIR | 0555 | (access->mode & 0222);
}

static int method_node_add(struct method_node *node, struct fuse_node **out, struct fuse_node *parent,
			   const char *name)
{
	const struct config_access *access = &node->owner->access;
	const struct fuse_node_options dir = {
		.name = name,
		.mode = dir_mode(access),
		.uid = access->uid,
		.gid = access->gid,
		.dir_ops = &method_dir_ops,
		.userdata = node,
	};
	const struct fuse_node_options call = {
		.name = "call",
		.mode = S_IFREG | access->mode,
		.uid = access->uid,
		.gid = access->gid,
		.record = true,
		.ops = &call_ops,
		.userdata = node,
	};
	struct fuse_node *file;
	int r;

	r = fuse_node_add(out, parent, &dir);
	if (r)
		return r;
	++node->n_nodes;
	r = fuse_node_add(&file, *out, &call);
	if (r)
		fuse_node_remove(*out);
	else
		++node->n_nodes;
	return r;
}

/* mkdir, and the configuration. */
static int method_files_add(struct method_files *files, struct fuse_node *parent, const char *name,
			    struct fuse_node **out)
{
	struct method_node *node = calloc(1, sizeof(*node));
	int r;

	if (!node)
		return -ENOMEM;
	node->owner = files;
	/* Until the end of this function. */
	node->n_nodes = 1;
	r = methods_register(files->methods, name, &node->method);
	if (!r) {
		r = method_node_add(node, out, parent, name);
		if (r) {
			(void)method_unregister(node->method);
			node->method = NULL;
		}
	}
	if (!--node->n_nodes)
		free(node);
	return r;
}

static int methods_mkdir(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	struct method_files *files = fuse_node_userdata(dir);
	int r = method_files_add(files, dir, name, out);

	(void)mode;
	if (r == -EINVAL && files->events)
		events_emit(files->events, "refused", "methods",
			    "a method's name has no '+', no '#' and no control characters, and is UTF-8");
	else if (r == -ENOSPC && files->events)
		events_emit(files->events, "refused", "methods",
			    "the hub allows %d subscriptions, and no more", HUB_SUBSCRIPTIONS_MAX);
	return r;
}

static int methods_rmdir(struct fuse_node *dir, struct fuse_node *child)
{
	struct method_node *node = fuse_node_userdata(child);
	int r = method_unregister(node->method);

	(void)dir;
	if (r)
		return r;
	node->method = NULL;
	fuse_node_remove(child);
	return 0;
}

static const struct fuse_dir_ops methods_ops = {
	.mkdir = methods_mkdir,
	.rmdir = methods_rmdir,
};

/* --- life cycle ------------------------------------------------------------------------------- */

int method_files_new(struct method_files **out, struct methods *methods, struct fuse_node *parent,
		     const struct config_access *access, char *const *names, size_t n_names,
		     struct events *events)
{
	struct method_files *files = calloc(1, sizeof(*files));
	const struct fuse_node_options dir = {
		.name = "methods",
		.mode = dir_mode(access),
		.uid = access->uid,
		.gid = access->gid,
		.dir_ops = &methods_ops,
		.userdata = files,
	};
	struct fuse_node *node;
	int r;

	if (!files)
		return -ENOMEM;
	files->methods = methods;
	files->events = events;
	files->access = *access;
	/* From here on the tree knows it: the caller frees it, also after an error. */
	*out = files;
	r = fuse_node_add(&files->dir, parent, &dir);
	for (size_t i = 0; !r && i < n_names; ++i)
		r = method_files_add(files, files->dir, names[i], &node);
	return r;
}

void method_files_free(struct method_files *files)
{
	free(files);
}
