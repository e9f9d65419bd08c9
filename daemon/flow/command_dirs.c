/* SPDX-License-Identifier: MIT */
/*
 * A command's directory, see command_dirs.h.
 *
 * The object behind it is shared by its nodes, the directory and three files, and goes with the last of them: a file
 * that is open keeps its node, and with it the command, after the directory is gone. From then on it only reads: the
 * command has been decided, or belongs to the hub again.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "flow/command_dirs.h"

struct command_dir {
	struct commands *commands;
	struct events *events;
	struct command *command; /* referenced */
	struct fuse_node *node;
	unsigned int n_nodes;
	char *json; /* properties.json; NULL = nobody has looked yet */
	size_t json_len;
};

static struct command_dir *dir_of(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static void dir_free(struct command_dir *dir)
{
	command_unref(dir->command);
	free(dir->json);
	free(dir);
}

/* One of its nodes is gone. */
static void dir_on_drop(struct fuse_node *node)
{
	struct command_dir *dir = fuse_node_userdata(node);
	void **userdata = command_userdata(dir->command);

	if (*userdata == dir)
		*userdata = NULL;
	if (--dir->n_nodes == 0)
		dir_free(dir);
}

/* --- payload, properties.json ----------------------------------------------------------------- */

/* Only root gets this far: the mode has no write permission. */
static int document_open(struct fuse_file *file)
{
	return (file->flags & O_ACCMODE) == O_RDONLY ? 0 : -EACCES;
}

static int payload_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	(void)size;
	fuse_reply_document(req, command_message(dir_of(file)->command)->payload, offset);
	return 0;
}

static uint64_t payload_size(struct fuse_node *node)
{
	const struct command_dir *dir = fuse_node_userdata(node);

	return command_message(dir->command)->payload.len;
}

static int properties_make(struct command_dir *dir)
{
	return dir->json ? 0
			 : command_json_properties(command_message(dir->command), &dir->json, &dir->json_len);
}

static int properties_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct command_dir *dir = dir_of(file);
	int r = properties_make(dir);

	(void)size;
	if (!r)
		fuse_reply_document(req, BYTES(dir->json, dir->json_len), offset);
	return r;
}

static uint64_t properties_size(struct fuse_node *node)
{
	struct command_dir *dir = fuse_node_userdata(node);

	return properties_make(dir) ? 0 : dir->json_len;
}

static const struct fuse_file_ops payload_ops = {
	.open = document_open,
	.read = payload_read,
	.size = payload_size,
	.drop = dir_on_drop,
};

static const struct fuse_file_ops properties_ops = {
	.open = document_open,
	.read = properties_read,
	.size = properties_size,
	.drop = dir_on_drop,
};

/* --- settle ----------------------------------------------------------------------------------- */

static int settle_open(struct fuse_file *file)
{
	return (file->flags & O_ACCMODE) == O_RDONLY ? -EACCES : 0;
}

static void settle_tell_refused(const struct command_dir *dir)
{
	char name[64];

	snprintf(name, sizeof(name), "commands/%" PRIu64 "/settle",
		 command_message(dir->command)->sequence_no);
	if (dir->events)
		events_emit(dir->events, "refused", name, "the word is complete, abandon or reject");
}

static ssize_t settle_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			    struct bytes data)
{
	static const char *const words[] = {
		[LINK_COMPLETE] = "complete",
		[LINK_ABANDON] = "abandon",
		[LINK_REJECT] = "reject",
	};
	struct command_dir *dir = dir_of(file);
	struct bytes word = bytes_chomp(data);
	int r;

	(void)req;
	(void)offset;
	for (size_t i = 0; i < ARRAY_SIZE(words); ++i) {
		if (!bytes_equal_str(word, words[i]))
			continue;
		r = commands_settle(dir->commands, dir->command, (enum link_settlement)i);
		return r ? r : (ssize_t)data.len;
	}
	settle_tell_refused(dir);
	return -EINVAL;
}

static const struct fuse_file_ops settle_ops = {
	.open = settle_open,
	.write = settle_write,
	.drop = dir_on_drop,
};

/* --- directories ------------------------------------------------------------------------------ */

static const struct fuse_dir_ops dir_ops = {
	.drop = dir_on_drop,
};

static int dir_add_file(struct command_dir *dir, const char *name, const struct config_access *access,
			const struct fuse_file_ops *ops)
{
	const struct fuse_node_options options = {
		.name = name,
		.mode = S_IFREG | access->mode,
		.uid = access->uid,
		.gid = access->gid,
		.record = ops == &settle_ops,
		.transient = true,
		.ops = ops,
		.userdata = dir,
	};
	struct fuse_node *node;
	int r = fuse_node_add(&node, dir->node, &options);

	dir->n_nodes += r == 0;
	return r;
}

/* Takes the object away when there is no node that would. */
static int dir_add_nodes(struct command_dir *dir, const struct command_dirs_options *options,
			 const char *name)
{
	const struct fuse_node_options node = {
		.name = name,
		.mode = S_IFDIR | 0555,
		.uid = options->read_access.uid,
		.gid = options->read_access.gid,
		.transient = true,
		.dir_ops = &dir_ops,
		.userdata = dir,
	};
	int r = fuse_node_add(&dir->node, options->parent, &node);

	if (r) {
		dir_free(dir);
		return r;
	}
	++dir->n_nodes;
	r = dir_add_file(dir, "payload", &options->read_access, &payload_ops);
	if (!r)
		r = dir_add_file(dir, "properties.json", &options->read_access, &properties_ops);
	if (!r)
		r = dir_add_file(dir, "settle", &options->settle_access, &settle_ops);
	if (r)
		fuse_node_remove(dir->node);
	return r;
}

void command_dir_add(const struct command_dirs_options *options, struct command *command)
{
	struct command_dir *dir = calloc(1, sizeof(*dir));
	struct fuse_node *older;
	char name[24];

	if (!dir)
		return;
	dir->commands = options->commands;
	dir->events = options->events;
	dir->command = command_ref(command);
	snprintf(name, sizeof(name), "%" PRIu64, command_message(command)->sequence_no);
	older = fuse_node_find(options->parent, name);
	if (older)
		command_dir_remove(((struct command_dir *)fuse_node_userdata(older))->command);
	if (!dir_add_nodes(dir, options, name))
		*command_userdata(command) = dir;
}

void command_dir_remove(struct command *command)
{
	struct command_dir *dir = *command_userdata(command);

	*command_userdata(command) = NULL;
	if (dir)
		fuse_node_remove(dir->node);
}
