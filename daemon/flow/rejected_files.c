/* SPDX-License-Identifier: MIT */
/*
 * The directory `rejected`, see rejected.h.
 *
 * A message is shared by the nodes of its directory, which know it as their userdata. When it goes, by rmdir, by retry or
 * for want of room, they go at once; files that are still open give ESTALE from then on.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "flow/message_json.h"
#include "flow/rejected_internal.h"
#include "iothub.h"

static struct rejected_message *message_of(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static void file_on_drop(struct fuse_node *node)
{
	rejected_message_unref(fuse_node_userdata(node));
}

/* Only root gets this far: the mode has no write permission. */
static int document_open(struct fuse_file *file)
{
	return (file->flags & O_ACCMODE) == O_RDONLY ? 0 : -EACCES;
}

/* --- payload, reason -------------------------------------------------------------------------- */

static int payload_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct bytes properties, payload;
	int r = rejected_read(message_of(file), &properties, &payload);

	(void)size;
	if (!r)
		fuse_reply_document(req, payload, offset);
	return r;
}

static uint64_t payload_size(struct fuse_node *node)
{
	const struct rejected_message *message = fuse_node_userdata(node);

	return message->payload_len;
}

static int reason_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	const struct rejected_message *message = message_of(file);

	(void)size;
	fuse_reply_document(req, BYTES(message->reason, message->reason_len), offset);
	return 0;
}

static uint64_t reason_size(struct fuse_node *node)
{
	const struct rejected_message *message = fuse_node_userdata(node);

	return message->reason_len;
}

static const struct fuse_file_ops payload_ops = {
	.open = document_open,
	.read = payload_read,
	.size = payload_size,
	.drop = file_on_drop,
};

static const struct fuse_file_ops reason_ops = {
	.open = document_open,
	.read = reason_read,
	.size = reason_size,
	.drop = file_on_drop,
};

/* --- properties.json -------------------------------------------------------------------------- */

/* The text of an open file. */
struct document {
	char *text;
	size_t len;
};

static int document_make(struct rejected_message *message, struct document *out)
{
	_cleanup_(message_json_deinit) struct message_json text = {0};
	const struct channel *channel;
	struct bytes properties, payload;
	int r;

	channel = channels_by_number(message->owner->options.channels, message->channel);
	r = rejected_read(message, &properties, &payload);
	if (r)
		return r;
	text.root = json_object_new_object();
	message_json_add_time(&text, "rejected-time", message->time_ms);
	if (channel)
		message_json_add(&text, text.root, "channel", json_object_new_string(channel->name));
	r = message_json_add_properties(&text, properties);
	return r ? r : message_json_take(&text, &out->text, &out->len);
}

static int properties_open(struct fuse_file *file)
{
	struct document *document;
	int r = document_open(file);

	if (r)
		return r;
	document = calloc(1, sizeof(*document));
	if (!document)
		return -ENOMEM;
	r = document_make(message_of(file), document);
	if (r)
		free(document);
	else
		file->data = document;
	return r;
}

static void properties_release(struct fuse_file *file)
{
	struct document *document = file->data;

	free(document->text);
	free(document);
}

static int properties_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	const struct document *document = file->data;

	(void)size;
	fuse_reply_document(req, BYTES(document->text, document->len), offset);
	return 0;
}

static uint64_t properties_size(struct fuse_node *node)
{
	struct document document = {0};

	if (document_make(fuse_node_userdata(node), &document))
		return 0;
	free(document.text);
	return document.len;
}

static const struct fuse_file_ops properties_ops = {
	.open = properties_open,
	.release = properties_release,
	.read = properties_read,
	.size = properties_size,
	.drop = file_on_drop,
};

/* --- retry ------------------------------------------------------------------------------------ */

static int retry_open(struct fuse_file *file)
{
	return (file->flags & O_ACCMODE) == O_RDONLY ? -EACCES : 0;
}

static ssize_t retry_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			   struct bytes data)
{
	struct rejected_message *message = message_of(file);
	const struct rejected_options *options = &message->owner->options;
	char name[sizeof(IOTHUB_DIR_REJECTED) + 20 + sizeof("/" IOTHUB_FILE_REJECTED_RETRY)];
	int r;

	(void)req;
	(void)offset;
	if (bytes_equal_str(bytes_chomp(data), "retry")) {
		r = rejected_retry(message);
		return r ? r : (ssize_t)data.len;
	}
	snprintf(name, sizeof(name), IOTHUB_DIR_REJECTED "/%" PRIu64 "/" IOTHUB_FILE_REJECTED_RETRY,
		 message->id);
	if (options->events)
		events_emit(options->events, "refused", name, "the word is retry; rmdir drops the message");
	return -EINVAL;
}

static const struct fuse_file_ops retry_ops = {
	.open = retry_open,
	.write = retry_write,
	.drop = file_on_drop,
};

/* --- directories ------------------------------------------------------------------------------ */

/* What rm -r does before it removes the directory. */
static int message_unlink(struct fuse_node *dir, struct fuse_node *child)
{
	(void)dir;
	fuse_node_remove(child);
	return 0;
}

static void message_on_drop(struct fuse_node *node)
{
	struct rejected_message *message = fuse_node_userdata(node);

	if (message->node == node)
		message->node = NULL;
	rejected_message_unref(message);
}

static int rejected_rmdir(struct fuse_node *dir, struct fuse_node *child)
{
	(void)dir;
	rejected_drop(fuse_node_userdata(child));
	return 0;
}

static void rejected_on_drop(struct fuse_node *node)
{
	struct rejected *r = fuse_node_userdata(node);

	r->dir = NULL;
}

static const struct fuse_dir_ops message_ops = {
	.unlink = message_unlink,
	.drop = message_on_drop,
};

static const struct fuse_dir_ops rejected_ops = {
	.rmdir = rejected_rmdir,
	.drop = rejected_on_drop,
};

/* Users may list what those who may write may change. */
static mode_t dir_mode(const struct config_access *access)
{
	return S_IFDIR | 0555 | (access->mode & 0222);
}

static int message_add_file(struct rejected_message *message, const char *name,
			    const struct fuse_file_ops *ops)
{
	const struct config_access *access = &message->owner->access;
	bool is_retry = ops == &retry_ops;
	const struct fuse_node_options options = {
		.name = name,
		.mode = S_IFREG | (access->mode & (is_retry ? 0222 : 0444)),
		.uid = access->uid,
		.gid = access->gid,
		.record = is_retry,
		.transient = true,
		.ops = ops,
		.userdata = message,
	};
	struct fuse_node *node;
	int r = fuse_node_add(&node, message->node, &options);

	message->n_nodes += r == 0;
	return r;
}

void rejected_files_add(struct rejected_message *message)
{
	const struct rejected *rejected = message->owner;
	char name[24];
	const struct fuse_node_options options = {
		.name = name,
		.mode = dir_mode(&rejected->access),
		.uid = rejected->access.uid,
		.gid = rejected->access.gid,
		.transient = true,
		.dir_ops = &message_ops,
		.userdata = message,
	};
	int r;

	if (!rejected->dir)
		return;
	snprintf(name, sizeof(name), "%" PRIu64, message->id);
	if (fuse_node_add(&message->node, rejected->dir, &options)) {
		message->node = NULL;
		return;
	}
	++message->n_nodes;
	r = message_add_file(message, IOTHUB_FILE_REJECTED_PAYLOAD, &payload_ops);
	if (!r)
		r = message_add_file(message, IOTHUB_FILE_REJECTED_PROPERTIES, &properties_ops);
	if (!r)
		r = message_add_file(message, IOTHUB_FILE_REJECTED_REASON, &reason_ops);
	if (!r)
		r = message_add_file(message, IOTHUB_FILE_REJECTED_RETRY, &retry_ops);
	if (r)
		rejected_files_remove(message);
}

void rejected_files_remove(struct rejected_message *message)
{
	struct fuse_node *node = message->node;

	message->node = NULL;
	if (node)
		fuse_node_remove(node);
}

int rejected_add_files(struct rejected *r, struct fuse_node *parent, const struct config_access *access)
{
	const struct fuse_node_options options = {
		.name = IOTHUB_DIR_REJECTED,
		.mode = dir_mode(access),
		.uid = access->uid,
		.gid = access->gid,
		.dir_ops = &rejected_ops,
		.userdata = r,
	};
	int error;

	r->access = *access;
	error = fuse_node_add(&r->dir, parent, &options);
	if (error) {
		r->dir = NULL;
		return error;
	}
	list_for_each (link, &r->messages)
		rejected_files_add(container_of(link, struct rejected_message, link));
	return 0;
}
