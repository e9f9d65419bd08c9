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
 * A write is whole or an error: EMSGSIZE over the hub's packet limit, ENOSPC when the queue is full. After
 * EMSGSIZE the rest of that line (or file) is refused as well; after ENOSPC too, unless the writer repeats the write.
 *
 * With O_SYNC or O_DSYNC a write waits for the hub's outcome of the messages it completed, and fails with the hub's
 * error; a message refused that way is not queued any more. ETIMEDOUT and EINTR say that the outcome is not known:
 * the messages stay queued. fsync and fdatasync wait likewise for everything written through the open file. When the
 * daemon stops, writes fail with ESHUTDOWN.
 */

#include "config/config.h"
#include "flow/telemetry.h"
#include "fuse/tree.h"

struct telemetry_files;

/* Adds the three files to @parent; their modes and owners from @access, by enum config_file. Returns 0 or
 * -ENOMEM. */
int telemetry_files_new(struct telemetry_files **out, struct telemetry *telemetry, struct fuse_node *parent,
			const struct config_access *access);
/* After the tree. NULL is fine. */
void telemetry_files_free(struct telemetry_files *files);

/* There is room in the queue again: wakes who polls for it. */
void telemetry_files_on_room(struct telemetry_files *files);

#endif
