/* SPDX-License-Identifier: MIT */
/*
 * The directory `channels`, see channel_files.h: what can be made, moved and removed there. Files with values are in
 * channel_value_files.c, those that take telemetry in telemetry_files.c.
 *
 * A channel's directory, its files and its `properties` share one struct channel_dir. It knows its channel until
 * rmdir(2); files that are open by then have none any more.
 */

#include "flow/channel_files.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "flow/channel_files_internal.h"

int channel_refuse(const struct channel_files *files, const char *name, int error, const char *reason)
{
	char path[sizeof(IOTHUB_DIR_CHANNELS "/") + CHANNEL_NAME_MAX + 2 * KEY_NAME_SIZE];

	if (!files->options.events || !reason)
		return error;
	snprintf(path, sizeof(path), IOTHUB_DIR_CHANNELS "%s%s", name[0] ? "/" : "", name);
	events_emit(files->options.events, "refused", path, "%s", reason);
	return error;
}

void channel_dir_unref(struct channel_dir *dir)
{
	if (!--dir->n_nodes)
		free(dir);
}

static void channel_dir_drop(struct fuse_node *node)
{
	channel_dir_unref(fuse_node_userdata(node));
}

static const struct config_access *access_of(const struct channel_files *files)
{
	return &files->options.access[CONFIG_FILE_CHANNELS];
}

/* Users may list what those who may write may change. */
static mode_t dir_mode(const struct channel_files *files)
{
	return S_IFDIR | 0555 | (access_of(files)->mode & 0222);
}

/* Adds a node that shares @dir. */
static int node_add(struct channel_dir *dir, struct fuse_node **out, struct fuse_node *parent,
		    struct fuse_node_options *options)
{
	struct fuse_node *node;
	int r;

	options->uid = access_of(dir->owner)->uid;
	options->gid = access_of(dir->owner)->gid;
	r = fuse_node_add(&node, parent, options);
	if (r)
		return r;
	++dir->n_nodes;
	if (out)
		*out = node;
	return 0;
}

static int value_add(struct channel_dir *dir, struct fuse_node **out, struct fuse_node *parent,
		     const char *name, enum channel_value which)
{
	struct fuse_node_options options = {
		.name = name,
		.mode = S_IFREG | access_of(dir->owner)->mode,
		.ops = &channel_value_ops,
		.userdata = &dir->values[which],
	};

	return node_add(dir, out, parent, &options);
}

/* --- properties ------------------------------------------------------------------------------- */

static int property_refuse(const struct channel_dir *dir, const char *name, int error)
{
	char path[CHANNEL_NAME_MAX + sizeof("/" IOTHUB_DIR_CHANNEL_PROPERTIES "/") + KEY_NAME_SIZE];

	snprintf(path, sizeof(path), "%s/" IOTHUB_DIR_CHANNEL_PROPERTIES "/%s", dir->channel->name, name);
	return channel_refuse(
		dir->owner, path, error,
		error == -EINVAL ? "a name is UTF-8 without control characters; % stands for itself as %25"
				 : channel_value_reason(CHANNEL_VALUE_PROPERTY, error));
}

static int properties_create(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	struct channel_dir *d = fuse_node_userdata(dir);
	char key[KEY_NAME_SIZE];
	int r = key_name_decode(name, key);

	(void)mode;
	if (!r)
		r = channel_set_property(d->channel, key, BYTES("", 0));
	if (r)
		return property_refuse(d, name, r);
	r = value_add(d, out, dir, name, CHANNEL_VALUE_PROPERTY);
	if (r)
		(void)channel_remove_property(d->channel, key);
	return r;
}

static int properties_unlink(struct fuse_node *dir, struct fuse_node *child)
{
	struct channel_dir *d = fuse_node_userdata(dir);
	char key[KEY_NAME_SIZE];
	int r = key_name_decode(fuse_node_name(child), key);

	assert(r == 0);
	r = channel_remove_property(d->channel, key);
	if (r)
		return r;
	fuse_node_remove(child);
	return 0;
}

static int properties_rename(struct fuse_node *child, struct fuse_node *new_dir, const char *new_name,
			     struct fuse_node *replaced)
{
	struct channel_dir *d = fuse_node_userdata(new_dir);
	char key[KEY_NAME_SIZE], new_key[KEY_NAME_SIZE];
	int r;

	/* Another channel's: mv(1) copies. */
	if (new_dir != fuse_node_parent(child))
		return -EXDEV;
	r = key_name_decode(fuse_node_name(child), key);
	assert(r == 0);
	r = key_name_decode(new_name, new_key);
	if (!r)
		r = channel_rename_property(d->channel, key, new_key);
	if (r)
		return property_refuse(d, new_name, r);
	if (replaced)
		fuse_node_remove(replaced);
	return fuse_node_move(child, new_dir, new_name);
}

static const struct fuse_dir_ops properties_ops = {
	.create = properties_create,
	.unlink = properties_unlink,
	.rename = properties_rename,
	.drop = channel_dir_drop,
};

static int properties_add(struct channel_dir *dir, struct fuse_node *parent)
{
	struct fuse_node_options options = {
		.name = IOTHUB_DIR_CHANNEL_PROPERTIES,
		.mode = dir_mode(dir->owner),
		.dir_ops = &properties_ops,
		.userdata = dir,
	};
	struct fuse_node *properties;
	int r = node_add(dir, &properties, parent, &options);
	const char *key;

	for (size_t i = 0; !r && (key = channel_property_name(dir->channel, i)); ++i) {
		char name[KEY_NAME_SIZE];

		/* One that was declared with a name too long for a file is sent, and not shown. */
		if (key_name_encode(key, name) == 0)
			r = value_add(dir, NULL, properties, name, CHANNEL_VALUE_PROPERTY);
	}
	return r;
}

/* --- a channel -------------------------------------------------------------------------------- */

static const struct fuse_dir_ops channel_dir_ops = {
	.drop = channel_dir_drop,
};

static int channel_fill(struct channel_dir *dir, struct fuse_node *node)
{
	const struct channel_files_options *options = &dir->owner->options;
	struct fuse_node_options stats = {
		.name = IOTHUB_FILE_CHANNEL_STATS,
		.mode = S_IFREG | (access_of(dir->owner)->mode & 0444),
		.ops = &channel_stats_ops,
		.userdata = dir,
	};
	int r = telemetry_files_add(options->telemetry_files, dir->channel, node, options->access, NULL);

	for (unsigned int i = 0; !r && i < CHANNEL_VALUE_PROPERTY; ++i)
		r = value_add(dir, NULL, node, channel_value_name((enum channel_value)i),
			      (enum channel_value)i);
	if (!r)
		r = properties_add(dir, node);
	return r ? r : node_add(dir, NULL, node, &stats);
}

static int channel_add(struct channel_files *files, struct channel *channel, struct fuse_node **out)
{
	struct channel_dir *dir = calloc(1, sizeof(*dir));
	struct fuse_node_options options = {
		.name = channel->name,
		.mode = S_IFDIR | 0555,
		.dir_ops = &channel_dir_ops,
		.userdata = dir,
	};
	struct fuse_node *node;
	int r;

	if (!dir)
		return -ENOMEM;
	dir->owner = files;
	dir->channel = channel;
	for (unsigned int i = 0; i < CHANNEL_N_VALUES; ++i)
		dir->values[i] = (struct channel_value_node){dir, (enum channel_value)i};
	/* Until the end of this function. */
	dir->n_nodes = 1;
	r = node_add(dir, &node, files->dir, &options);
	if (!r) {
		r = channel_fill(dir, node);
		if (r)
			fuse_node_remove(node);
		else if (out)
			*out = node;
	}
	channel_dir_unref(dir);
	return r;
}

/* --- channels --------------------------------------------------------------------------------- */

static int channels_mkdir(struct fuse_node *node, const char *name, mode_t mode, struct fuse_node **out)
{
	struct channel_files *files = fuse_node_userdata(node);
	struct channel *channel;
	int r = channels_add(files->options.channels, name, &channel);

	(void)mode;
	if (r == -EINVAL)
		return channel_refuse(
			files, "", r,
			"a channel's name has 1 to 64 letters, digits and -_. (not a dot first)");
	if (r == -ENOSPC)
		return channel_refuse(files, "", r, "there are as many channels as there can be");
	if (r)
		return r;
	r = channel_add(files, channel, out);
	if (r)
		(void)channels_remove(channel);
	return r;
}

static int channels_rmdir(struct fuse_node *node, struct fuse_node *child)
{
	struct channel_files *files = fuse_node_userdata(node);
	struct channel_dir *dir = fuse_node_userdata(child);
	struct channel *channel = dir->channel;

	if (channel == channels_default(files->options.channels))
		return channel_refuse(files, channel->name, -EBUSY, "this channel is always there");
	dir->channel = NULL;
	fuse_node_remove(child);
	return channels_remove(channel);
}

static const struct fuse_dir_ops channels_ops = {
	.mkdir = channels_mkdir,
	.rmdir = channels_rmdir,
};

static void on_kept(void *userdata)
{
	channel_values_on_kept(userdata);
}

/* --- life cycle ------------------------------------------------------------------------------- */

int channel_files_new(struct channel_files **out, const struct channel_files_options *options)
{
	struct channel_files *files = calloc(1, sizeof(*files));
	struct fuse_node_options dir = {
		.name = IOTHUB_DIR_CHANNELS,
		.dir_ops = &channels_ops,
		.userdata = files,
	};
	int r;

	if (!files)
		return -ENOMEM;
	files->options = *options;
	list_init(&files->waiting);
	channels_watch(options->channels, on_kept, files);
	dir.mode = dir_mode(files);
	dir.uid = access_of(files)->uid;
	dir.gid = access_of(files)->gid;
	/* From here on the tree knows it: the caller frees it, also after an error. */
	*out = files;
	r = fuse_node_add(&files->dir, options->parent, &dir);
	for (struct channel *c = NULL; !r && (c = channels_next(options->channels, c));)
		r = channel_add(files, c, NULL);
	return r;
}

void channel_files_free(struct channel_files *files)
{
	if (!files)
		return;
	assert(list_is_empty(&files->waiting));
	channels_watch(files->options.channels, NULL, NULL);
	free(files);
}
