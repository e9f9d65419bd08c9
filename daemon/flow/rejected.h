/* SPDX-License-Identifier: MIT */
#ifndef FLOW_REJECTED_H
#define FLOW_REJECTED_H

/*
 * Messages the hub refused for good, kept until a user drops or retries them. In the directory `rejected`:
 *
 *   <id>/payload           its exact bytes
 *   <id>/properties.json   "rejected-time", "channel" (when there is one of its number), and as in message_json.h
 *   <id>/reason            one line: what the hub said
 *   <id>/retry             `retry` puts the message into its channel's queue again, with the message-id it had; into the
 *                          default one's when the channel was removed
 *
 * rmdir of <id> drops the message. So does rm -r: the files in it can be removed, which does nothing to the message.
 *
 * They lie in a lane of kind REJECTED of the journal and so survive restarts; the id is the record's number there. A
 * message leaves it when what is queued again is as safe as it was. Bounded: one more than REJECTED_MAX, or over a
 * quarter of the journal's bytes, drops the oldest, which is counted and told in `events`.
 */

#include "base/log.h"
#include "config/config.h"
#include "flow/channel.h"
#include "flow/events.h"
#include "flow/telemetry.h"
#include "fuse/tree.h"
#include "journal/journal.h"
#include "loop/loop.h"

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

/* Keeps a copy of the record. @reason: one line; it is logged with the message's id when it is another one than the last time. Where the queue is full, it is kept at the end of the turn, when the
 * original has made room. When it cannot be kept (the disk is full) the message is lost, which is logged and told in
 * `events`. */
void rejected_keep(struct rejected *r, const struct journal_record *record, const char *reason);

/* From struct journal_ops. */
void rejected_on_stored(struct rejected *r, uint64_t sequence, int error);
void rejected_on_lost(struct rejected *r, const struct journal_lane *lane, uint64_t first, uint64_t last);

/* Messages there are now, and those dropped for want of room. */
uint64_t rejected_n(const struct rejected *r);
uint64_t rejected_n_dropped(const struct rejected *r);

#endif
