/* SPDX-License-Identifier: MIT */
#ifndef FLOW_REJECTED_H
#define FLOW_REJECTED_H

/*
 * Messages the hub refused for good, kept until a user drops or retries them: rejected/ID with payload,
 * properties.json, reason and retry. They lie in lanes of kind REJECTED of the journal and so survive restarts; ID is the
 * record's number there. Bounded: one more than REJECTED_MAX, or over a quarter of the journal's bytes, drops the oldest, which is counted
 * and told in `events`.
 */

#include "base/log.h"
#include "config/config.h"
#include "flow/channel.h"
#include "flow/events.h"
#include "flow/telemetry.h"
#include "fuse/tree.h"
#include "hub/status.h"

#define REJECTED_MAX 1000

struct rejected;

struct rejected_options {
	struct loop *loop;
	struct log *log;
	struct events *events;
	struct journal *journal;
	struct channels *channels;
	struct telemetry *telemetry;
};

/* Takes over what the journal recovered. Returns 0 or -ENOMEM. */
int rejected_new(struct rejected **out, const struct rejected_options *options);
/* After the tree. NULL is fine. */
void rejected_free(struct rejected *r);

/* Adds the directory. Returns 0 or -ENOMEM. */
int rejected_add_files(struct rejected *r, struct fuse_node *parent, const struct config_access *access);

/* Keeps a copy of the record. @reason: one line. When it cannot be kept (the disk is full) the message is lost, which is logged
 * and told in `events`. */
void rejected_keep(struct rejected *r, const struct journal_record *record, const char *reason);

/* Messages there are now, and those dropped for want of room. */
uint64_t rejected_n(const struct rejected *r);
uint64_t rejected_n_dropped(const struct rejected *r);

#endif
