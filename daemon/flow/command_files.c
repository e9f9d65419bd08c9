/* SPDX-License-Identifier: MIT */
/*
 * The files of commands, see command_files.h; the directories of single commands are command_dirs.c.
 *
 * Objects: a reader for each open file of `next`, `next.raw` and `stream`, with the command it has, the bytes those
 * become and how many were taken; and the waiting READs, in one line for all readers, since an open file can be
 * shared by several who read.
 *
 * A waiting READ is ready when its reader has something to give or may take a command. None that is ready is left in
 * the line: after whatever can make one ready, files_serve() answers it. One that waits on a stream whose line has been
 * taken is not: it asked before that line was there, so it says nothing about the command's end.
 *
 * What is decided when: a stream's command by the READ behind its line, any other when the last holder closes the
 * file. Users who decide earlier, by settle, take the command away: the bytes stay, the decision here is too late and
 * so nothing.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "flow/command_dirs.h"
#include "flow/command_files.h"

/* READs that wait at most; one more fails with ENOBUFS. */
#define WAITING_MAX 4096

enum kind {
	KIND_NEXT,
	KIND_NEXT_RAW,
	KIND_STREAM,
	N_KINDS,
};

static const char *const kind_names[N_KINDS] = {"next", "next.raw", "stream"};

struct command_files {
	struct commands *commands;
	struct command_dirs_options dirs;
	struct fuse_node *nodes[N_KINDS];
	struct list waiting; /* struct waiting, who waits longest first */
	unsigned int n_waiting;
};

struct reader {
	struct command_files *owner;
	enum kind kind;
	struct command *command; /* referenced; NULL = it has none */
	struct bytes text;       /* what its command becomes; borrowed from it, or from line */
	size_t n_taken;
	char *line;  /* of a stream */
	bool killed; /* a signal ended somebody who could read the command */
};

/* A READ that waits. */
struct waiting {
	struct list link; /* command_files.waiting */
	struct fuse_parked parked;
	struct reader *reader;
};

/* --- readers and their commands --------------------------------------------------------------- */

static bool reader_has_bytes(const struct reader *reader)
{
	return reader->n_taken < reader->text.len;
}

/* Whether a READ is answered now without taking a command: with bytes, or with the end of file. */
static bool reader_can_give(const struct reader *reader)
{
	return reader->command && (reader_has_bytes(reader) || reader->kind != KIND_STREAM);
}

/*
 * The kernel cuts a large read(2) into READs, and goes on with the next one when it got all that the last one asked
 * for. That would be the READ behind the line, which completes the command before its reader has seen a byte. So the
 * last byte of a line never makes a READ full, unless nothing else can be given.
 */
static struct bytes reader_give(struct reader *reader, size_t size)
{
	size_t left = reader->text.len - reader->n_taken, n = left < size ? left : size;
	struct bytes piece;

	if (reader->kind == KIND_STREAM && left == size && size > 1)
		--n;
	piece = BYTES(reader->text.data + reader->n_taken, n);
	reader->n_taken += n;
	return piece;
}

/* The reader has a command no longer. Whoever decided before has the last word. */
static void reader_settle(struct reader *reader, enum link_settlement settlement)
{
	struct command *command = reader->command;

	reader->command = NULL;
	reader->text = BYTES(NULL, 0);
	reader->n_taken = 0;
	free(reader->line);
	reader->line = NULL;
	(void)commands_settle(reader->owner->commands, command, settlement);
	command_unref(command);
}

static int reader_make_text(struct reader *reader)
{
	const struct command_message *message = command_message(reader->command);
	struct bytes text = message->payload;
	int r = 0;

	switch (reader->kind) {
	case KIND_NEXT:
		/* The newline stands behind the payload. */
		if (!text.len || text.data[text.len - 1] != '\n')
			++text.len;
		break;
	case KIND_NEXT_RAW:
		break;
	case KIND_STREAM:
		r = command_json_line(message, &reader->line, &text.len);
		text.data = (const uint8_t *)reader->line;
		break;
	case N_KINDS:
		assert(false);
	}
	reader->text = text;
	return r;
}

/* Returns 0; -EAGAIN: nothing waits; or the error that made the command go back to the hub. */
static int reader_take(struct reader *reader)
{
	int r;

	reader->command = commands_take(reader->owner->commands);
	if (!reader->command)
		return -EAGAIN;
	r = reader_make_text(reader);
	if (r)
		reader_settle(reader, LINK_ABANDON);
	return r;
}

/* --- READs that wait -------------------------------------------------------------------------- */

static struct reader *waiting_unlink(struct waiting *waiting)
{
	list_remove(&waiting->link);
	--waiting->reader->owner->n_waiting;
	return waiting->reader;
}

static int files_park(struct reader *reader, struct fuse_request *req)
{
	struct command_files *files = reader->owner;
	struct waiting *waiting;

	if (files->n_waiting == WAITING_MAX)
		return -ENOBUFS;
	waiting = calloc(1, sizeof(*waiting));
	if (!waiting)
		return -ENOMEM;
	waiting->reader = reader;
	list_append(&files->waiting, &waiting->link);
	++files->n_waiting;
	fuse_park(req, &waiting->parked);
	return FUSE_PARKED;
}

static void reader_on_interrupt(struct fuse_parked *parked)
{
	struct waiting *waiting = container_of(parked, struct waiting, parked);

	waiting_unlink(waiting);
	free(waiting);
}

/* The READ that is ready and waits longest. */
static struct waiting *files_ready(struct command_files *files)
{
	bool available = commands_available(files->commands);

	list_for_each (link, &files->waiting) {
		struct waiting *waiting = container_of(link, struct waiting, link);

		if (reader_can_give(waiting->reader) || (!waiting->reader->command && available))
			return waiting;
	}
	return NULL;
}

static void files_serve(struct command_files *files)
{
	struct waiting *waiting;

	while ((waiting = files_ready(files))) {
		struct reader *reader = waiting_unlink(waiting);
		int r = reader->command ? 0 : reader_take(reader);

		if (r)
			fuse_parked_reply(&waiting->parked, r);
		else
			fuse_parked_reply_data(&waiting->parked, reader_give(reader, waiting->parked.size));
		free(waiting);
	}
}

/* --- operations of an open file --------------------------------------------------------------- */

static int reader_open(struct fuse_file *file)
{
	struct command_files *files = fuse_node_userdata(file->node);
	struct reader *reader;

	/* Only root gets this far: the mode has no write permission. */
	if ((file->flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	reader->owner = files;
	while (files->nodes[reader->kind] != file->node)
		++reader->kind;
	file->data = reader;
	return 0;
}

static int reader_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct reader *reader = file->data;
	struct command_files *files = reader->owner;
	int r = 0;

	(void)offset;
	if (!size)
		return 0;
	if (reader->command && !reader_can_give(reader)) {
		reader_settle(reader, LINK_COMPLETE);
		/* Others may have waited on this file for that. */
		files_serve(files);
	}
	if (!reader->command)
		r = reader_take(reader);
	if (!r && reader_can_give(reader)) {
		fuse_reply_data(req, reader_give(reader, size));
		return 0;
	}
	if (r && r != -EAGAIN)
		return r;
	if (commands_phase(files->commands) != COMMANDS_SERVING)
		return -ESHUTDOWN;
	return file->flags & O_NONBLOCK ? -EAGAIN : files_park(reader, req);
}

/* Never takes anything. */
static uint32_t reader_poll(struct fuse_file *file)
{
	const struct reader *reader = file->data;

	if (reader_can_give(reader) || commands_available(reader->owner->commands))
		return POLLIN | POLLRDNORM;
	return 0;
}

/*
 * Who handles a command and is killed did not handle it, even if all of it was read before; or is read later, by a
 * child that is left behind.
 */
static void reader_on_flush(struct fuse_file *file)
{
	struct reader *reader = file->data;

	if (fuse_pid_was_killed(file->pid))
		reader->killed = true;
}

static void reader_release(struct fuse_file *file)
{
	struct reader *reader = file->data;
	bool done = reader->kind != KIND_STREAM && !reader_has_bytes(reader) && !reader->killed;

	if (reader->command)
		reader_settle(reader, done ? LINK_COMPLETE : LINK_ABANDON);
	free(reader);
}

static const struct fuse_file_ops next_ops = {
	.open = reader_open,
	.release = reader_release,
	.read = reader_read,
	.poll = reader_poll,
	.interrupt = reader_on_interrupt,
	.flush = reader_on_flush,
};

/* Closing it decides nothing but abandon, whoever does it. */
static const struct fuse_file_ops stream_ops = {
	.open = reader_open,
	.release = reader_release,
	.read = reader_read,
	.poll = reader_poll,
	.interrupt = reader_on_interrupt,
};

/* --- the table's side ------------------------------------------------------------------------- */

static void files_on_added(void *userdata, struct command *command)
{
	struct command_files *files = userdata;

	command_dir_add(&files->dirs, command);
}

static void files_on_removed(void *userdata, struct command *command)
{
	(void)userdata;
	command_dir_remove(command);
}

static void files_on_available(void *userdata)
{
	struct command_files *files = userdata;

	files_serve(files);
	if (!commands_available(files->commands))
		return;
	for (size_t i = 0; i < N_KINDS; ++i)
		fuse_node_poll_wake(files->nodes[i]);
}

static void files_on_draining(void *userdata)
{
	struct command_files *files = userdata;
	struct list *link;

	while ((link = list_first(&files->waiting))) {
		struct waiting *waiting = container_of(link, struct waiting, link);

		waiting_unlink(waiting);
		fuse_parked_reply(&waiting->parked, -ESHUTDOWN);
		free(waiting);
	}
}

static const struct commands_watcher files_watcher = {
	.on_added = files_on_added,
	.on_removed = files_on_removed,
	.on_available = files_on_available,
	.on_draining = files_on_draining,
};

/* --- life cycle ------------------------------------------------------------------------------- */

static int files_add_nodes(struct command_files *files, struct fuse_node *root)
{
	const struct config_access *access = &files->dirs.read_access;
	struct fuse_node_options options = {
		.name = "commands",
		.mode = S_IFDIR | 0555,
		.uid = access->uid,
		.gid = access->gid,
	};
	int r = fuse_node_add(&files->dirs.parent, root, &options);

	options.mode = S_IFREG | access->mode;
	options.record = true;
	options.userdata = files;
	for (enum kind kind = 0; !r && kind < N_KINDS; ++kind) {
		options.name = kind_names[kind];
		options.ops = kind == KIND_STREAM ? &stream_ops : &next_ops;
		r = fuse_node_add(&files->nodes[kind], files->dirs.parent, &options);
	}
	return r;
}

int command_files_new(struct command_files **out, struct commands *commands, struct fuse_node *root,
		      const struct config_access *read_access, const struct config_access *settle_access,
		      struct events *events)
{
	struct command_files *files = calloc(1, sizeof(*files));
	int r;

	if (!files)
		return -ENOMEM;
	files->commands = commands;
	files->dirs = (struct command_dirs_options){
		.commands = commands,
		.events = events,
		.read_access = *read_access,
		.settle_access = *settle_access,
	};
	list_init(&files->waiting);
	r = files_add_nodes(files, root);
	if (r) {
		free(files);
		return r;
	}
	commands_set_watcher(commands, &files_watcher, files);
	*out = files;
	return 0;
}

void command_files_free(struct command_files *files)
{
	if (!files)
		return;
	assert(list_is_empty(&files->waiting));
	commands_set_watcher(files->commands, NULL, NULL);
	free(files);
}
