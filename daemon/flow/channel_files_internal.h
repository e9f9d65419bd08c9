/* SPDX-License-Identifier: MIT */
#ifndef FLOW_CHANNEL_FILES_INTERNAL_H
#define FLOW_CHANNEL_FILES_INTERNAL_H

/* What channel_files.c and channel_value_files.c share; nobody else includes it. */

#include "flow/channel_files.h"
#include "flow/key_name.h"
#include "iothub.h"

/* What a value file is about. */
enum channel_value {
	CHANNEL_VALUE_CONTENT_TYPE = CHANNEL_TEXT_CONTENT_TYPE,
	CHANNEL_VALUE_CONTENT_ENCODING = CHANNEL_TEXT_CONTENT_ENCODING,
	CHANNEL_VALUE_USER_ID = CHANNEL_TEXT_USER_ID,
	CHANNEL_VALUE_CORRELATION_ID = CHANNEL_TEXT_CORRELATION_ID,
	CHANNEL_VALUE_ACK,
	CHANNEL_VALUE_WHEN_FULL,
	CHANNEL_VALUE_TTL,
	CHANNEL_VALUE_PRIORITY,
	CHANNEL_VALUE_PROPERTY, /* each file in `properties` */
	CHANNEL_N_VALUES,
};

struct channel_files {
	struct channel_files_options options;
	struct fuse_node *dir;
	struct list waiting; /* open value files that wait until what they wrote is kept */
};

/* A channel's directory, with what all nodes in it have in common: lives until the tree has dropped the last one. */
struct channel_dir {
	struct channel_files *owner;
	struct channel *channel; /* NULL = removed */
	unsigned int n_nodes;    /* not dropped */
	struct channel_value_node {
		struct channel_dir *dir;
		enum channel_value which;
	} values[CHANNEL_N_VALUES]; /* userdata of value files, by enum channel_value */
};

/* One of its nodes was dropped. */
void channel_dir_unref(struct channel_dir *dir);

/* Tells `events` why something was refused: @name is below `channels`, @reason may be NULL. Returns @error. */
int channel_refuse(const struct channel_files *files, const char *name, int error, const char *reason);

/* What was written is kept, or cannot be: answers who waits for it. */
void channel_values_on_kept(struct channel_files *files);

/* The name of the value's file; NULL for CHANNEL_VALUE_PROPERTY. */
const char *channel_value_name(enum channel_value which);
/* Why the value cannot be set; NULL for errors that speak for themselves. */
const char *channel_value_reason(enum channel_value which, int error);

extern const struct fuse_file_ops channel_value_ops,
	channel_stats_ops; /* userdata: value node; channel_dir */

#endif
