/* SPDX-License-Identifier: MIT */
#ifndef FLOW_STATUS_H
#define FLOW_STATUS_H

/*
 * The file `status`: one `key: value` line each, for people and for scripts. A reader sees what was true when
 * it opened the file; poll(2) reports POLLPRI when the state of the link changed (not for every counter).
 */

#include "config/config.h"
#include "flow/link.h"
#include "flow/rejected.h"
#include "flow/telemetry.h"
#include "flow/twin.h"
#include "fuse/tree.h"
#include "journal/journal.h"

struct status;

struct status_options {
	struct loop *loop;
	const struct config *config; /* borrowed, as are the following */
	struct link *link;
	struct telemetry *telemetry;
	struct journal *journal;
	struct rejected *rejected;
	struct twin *twin;
	struct fuse_node *parent;
};

/* Adds the file. Returns 0 or -ENOMEM. */
int status_new(struct status **out, const struct status_options *options);
/* After the tree. NULL is fine. */
void status_free(struct status *status);

/* The link changed: wakes pollers at the end of this turn. */
void status_changed(struct status *status);

#endif
