/* SPDX-License-Identifier: MIT */
#ifndef FLOW_CHANNEL_FILES_H
#define FLOW_CHANNEL_FILES_H

/*
 * The directory `channels`, in the manner of configfs: mkdir makes a channel, rmdir removes it with all its files. In
 * a channel's directory are its telemetry files (telemetry_files.h) and
 *
 *   content-type, content-encoding, user-id, correlation-id   nothing, or one value
 *   ack             queued, stored or hub
 *   when-full       reject, block or drop-oldest
 *   ttl, priority   a number
 *   properties/KEY  an application property each: create, write, mv and rm; KEY as in key_name.h
 *   stats           key: value lines
 *
 * A value reads as itself and a newline, an empty one as nothing. A write sets it at once, one newline at its end is
 * taken off, and what is written next through the same open file is put behind what was written before; a value cut to
 * nothing is empty when the file is closed. EINVAL, EMSGSIZE: no such value, which `events` explains. ENODEV: the
 * channel was removed. With O_DSYNC and by fsync(2) it waits until what was set is on the disk, and gives the disk's
 * error.
 *
 * mkdir fails with EINVAL for a name no channel can have, with ENOSPC when there are CHANNELS_MAX. rmdir fails with
 * EBUSY for `default`. Files of a removed channel that are open go on until they are closed: telemetry still goes
 * out.
 */

#include "config/config.h"
#include "flow/channel.h"
#include "flow/events.h"
#include "flow/telemetry_files.h"
#include "fuse/tree.h"

struct channel_files;

struct channel_files_options {
	struct channels *channels;               /* borrowed */
	struct telemetry_files *telemetry_files; /* borrowed */
	struct journal *journal;                 /* borrowed; for `stats` */
	struct events *events;                   /* borrowed; what was refused and why; may be NULL */
	struct loop *loop;
	struct fuse_node *parent;
	const struct config_access
		*access; /* by enum config_file; borrowed for as long as the tree is there */
};

/* Adds the directory with what channels there are. Returns 0 or -ENOMEM; after an error @out may be there all the same,
 * for channel_files_free(). */
int channel_files_new(struct channel_files **out, const struct channel_files_options *options);
/* After the tree, before the channels. NULL is fine. */
void channel_files_free(struct channel_files *files);

#endif
