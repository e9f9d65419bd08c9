/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TELEMETRY_FILES_H
#define FLOW_TELEMETRY_FILES_H

/*
 * The files that become telemetry, and how what is written to them is cut into messages:
 *
 *   telemetry       each line is a message: newline removed, empty lines skipped; what is left
 *                   unterminated is a message at the last close. Lines are framed per open file, not
 *                   per write.
 *   telemetry.raw   each write(2) is a message.
 *   telemetry.file  all from open to the last close, or to an fsync, is a message.
 *
 * Every channel has these three, in its directory; those of the default one are in the root.
 *
 * A write is whole or an error: EMSGSIZE over the hub's packet limit, ENOSPC when the queue or the disk is full,
 * EIO or EROFS when the disk fails. After EMSGSIZE the rest of that line (or file) is refused as well; after the
 * others too, unless the writer repeats the write, and what was written of it is no message when the file is closed.
 * EAGAIN, and EINTR of a write that waited for room, refuse nothing. The channel's `when-full` says what happens
 * when the queue is full: `reject` is ENOSPC; `block` waits, or EAGAIN with O_NONBLOCK; `drop-oldest` makes room.
 *
 * When a write returns is said by the channel's `ack`, and by O_DSYNC (`stored`) and O_SYNC (`hub`); what waits
 * longest counts. A write that waits fails with the error of the messages it completed, the disk's or the hub's; these
 * are not queued any more then. ETIMEDOUT and EINTR say that the outcome is not known: the messages stay queued.
 * fdatasync waits for `stored` and fsync for `hub` of everything written through the open file. When the
 * daemon stops, writes fail with ESHUTDOWN.
 */

#include "base/log.h"
#include "config/config.h"
#include "flow/channel.h"
#include "flow/telemetry.h"
#include "fuse/tree.h"

/* What all of these files share. */
struct telemetry_files;
/* The three of one channel. */
struct telemetry_nodes;

/* Returns 0 or -ENOMEM. */
int telemetry_files_new(struct telemetry_files **out, struct telemetry *telemetry, struct log *log);
/* After the tree, before the channels. What could not be written to the queue at a last close gets its last chance.
 * NULL is fine. */
void telemetry_files_free(struct telemetry_files *files);

/*
 * Adds the channel's files to @dir; their modes and owners from @access, by enum config_file. The channel outlives
 * them, and is referenced by those who have one open. Returns 0, -ENOMEM, or as fuse_node_add(): nothing was added
 * then.
 *
 * The files go with their directory, and @out, which may be NULL, with them: telemetry_files_remove() is for when
 * the directory stays. Open files go on until they are closed.
 */
int telemetry_files_add(struct telemetry_files *files, struct channel *channel, struct fuse_node *dir,
			const struct config_access *access, struct telemetry_nodes **out);
void telemetry_files_remove(struct telemetry_nodes *nodes);

struct telemetry *telemetry_files_telemetry(const struct telemetry_files *files);

/* There may be room in the queue where there was none: writes go on that wait for it, and who polls is woken. */
void telemetry_files_on_room(struct telemetry_files *files);

#endif
