/* SPDX-License-Identifier: MIT */
#ifndef FLOW_REJECTED_INTERNAL_H
#define FLOW_REJECTED_INTERNAL_H

/*
 * What the table of rejected messages (rejected.c) and their files (rejected_files.c) share.
 */

#include "flow/rejected.h"

/* Longest reason, in bytes; longer ones are cut. */
#define REJECTED_REASON_MAX 1024

/*
 * One message. Freed when it is in no list and its nodes are gone: files that are open in its directory keep it, though
 * not its record.
 */
struct rejected_message {
	struct list link; /* of rejected->messages or ->leaving */
	struct rejected *owner;
	struct journal_cursor at; /* valid while it is in a list and not lost */
	uint64_t id;
	uint64_t time_ms; /* of its rejection */
	uint64_t again;   /* leaving: the number it has in the queue */
	uint64_t n_bytes; /* of the bound */
	size_t payload_len;
	uint16_t channel;
	bool unreadable; /* dropped at the end of this turn */
	bool lost;       /* the journal has given its record up: @at is of nothing */
	char *reason;    /* with a newline at its end */
	size_t reason_len;
	struct fuse_node *node; /* its directory; NULL = not there (any more) */
	unsigned int n_nodes;   /* the directory and its files */
};

struct rejected {
	struct rejected_options options;
	struct journal_lane *lane;
	struct list messages; /* oldest first */
	struct list leaving;  /* queued again, and not yet stored there */
	struct list drafts;   /* to be kept at the end of this turn */
	uint64_t n_draft_bytes;
	struct loop_deferred deferred; /* for drafts, and for what became unreadable */
	uint64_t n_messages;
	uint64_t n_bytes;
	uint64_t n_dropped;
	struct log_once logged; /* the reason */
	struct fuse_node *dir;  /* NULL = no files (any more) */
	struct config_access access;
};

/* What is in a message's record, borrowed until the next call of the journal. Returns 0; -ESTALE: it was dropped; -EIO: it
 * became unreadable, and is dropped at the end of this turn. */
int rejected_read(struct rejected_message *message, struct bytes *properties, struct bytes *payload);

/* Queues the message again. Returns 0 and it is gone; or -ESTALE, -EIO, -ENOMEM, -ESHUTDOWN, or as
 * telemetry_append(). */
int rejected_retry(struct rejected_message *message);
/* Nothing when it is gone already. */
void rejected_drop(struct rejected_message *message);
/* One of its nodes is gone. */
void rejected_message_unref(struct rejected_message *message);

/* Adds the message's directory. Without memory there is none. Nothing without the parent. */
void rejected_files_add(struct rejected_message *message);
/* Removes it if it is there. */
void rejected_files_remove(struct rejected_message *message);

#endif
