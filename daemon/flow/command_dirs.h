/* SPDX-License-Identifier: MIT */
#ifndef FLOW_COMMAND_DIRS_H
#define FLOW_COMMAND_DIRS_H

/*
 * The directory of a command that is not settled, `<sequence-no>/`, see command_files.h.
 */

#include "config/config.h"
#include "flow/commands.h"
#include "flow/events.h"
#include "fuse/tree.h"

struct command_dirs_options {
	struct commands *commands; /* borrowed */
	struct fuse_node *parent;
	struct events *events; /* borrowed; may be NULL */
	struct config_access read_access;
	struct config_access settle_access;
};

/*
 * Makes the directory of @command, which is its userdata until it is removed. The numbers of a hub that was set up
 * anew repeat: then the newer command's directory takes the place of the older one's. Without memory there is none.
 */
void command_dir_add(const struct command_dirs_options *options, struct command *command);

/* Removes it if there is one. Files open in it go on. */
void command_dir_remove(struct command *command);

#endif
