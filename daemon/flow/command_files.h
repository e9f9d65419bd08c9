/* SPDX-License-Identifier: MIT */
#ifndef FLOW_COMMAND_FILES_H
#define FLOW_COMMAND_FILES_H

/*
 * The directory `commands`:
 *
 *   next      one open is one command: read waits for it and gives its payload, with a newline added if it does not
 *             end in one, then end of file. Closed by the last who has it open: all read is complete, anything else
 *             is abandon; so is a process with the file open that a signal ended, even before the read.
 *   next.raw  the same with the exact bytes.
 *   stream    one command after the other as JSON lines. Asking for what follows a line completes its command;
 *             closing abandons the last one. A read never returns bytes of two lines.
 *   <sequence-no>/payload, properties.json     each unsettled command
 *   <sequence-no>/settle                       complete, abandon or reject, whoever has the command
 *
 * A command goes to the reader that waits longest. A reader gets one by reading, never by open(2) or poll(2), which
 * reports POLLIN when there is something to read. O_NONBLOCK gives EAGAIN. When the daemon stops, who waits gets
 * ESHUTDOWN and nothing is decided.
 */

#include "config/config.h"
#include "flow/commands.h"
#include "flow/events.h"
#include "fuse/tree.h"

struct command_files;

/* Adds the directory to @root, and watches @commands. @settle_access: of the settle files, @read_access: of all others
 * and the directories' owner. @events: what was refused and why goes there; borrowed, may be NULL. Returns 0 or
 * -ENOMEM. */
int command_files_new(struct command_files **out, struct commands *commands, struct fuse_node *root,
		      const struct config_access *read_access, const struct config_access *settle_access,
		      struct events *events);
/* After the tree, before the commands. NULL is fine. */
void command_files_free(struct command_files *files);

#endif
