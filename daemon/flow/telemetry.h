/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TELEMETRY_H
#define FLOW_TELEMETRY_H

/*
 * Telemetry: from a writer's bytes to the hub's PUBACK. The queue's writer (append) and its reader (send,
 * acknowledge, retry) in one place; how files are cut into messages is in telemetry_files.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "flow/link.h"
#include "flow/waiters.h"
#include "journal/journal.h"
#include "loop/loop.h"

struct telemetry;

struct telemetry_options {
	struct loop *loop;
	struct log *log;
	struct journal *journal; /* borrowed, empty or with what is to be sent first */
	struct waiters *waiters; /* borrowed */
	uint64_t run;            /* 64 random bits, see stamp.h */
	/* There is room in a queue that was full; and: nothing is left in the queue. May be NULL. */
	void (*on_room)(void *userdata);
	void (*on_empty)(void *userdata);
	void *userdata;
};

int telemetry_new(struct telemetry **out, const struct telemetry_options *options);
/* The link must not call any more. NULL is fine. */
void telemetry_free(struct telemetry *t);

/* Before the first append. The link is borrowed and calls telemetry_on_*(). */
void telemetry_set_link(struct telemetry *t, struct link *link);

/* Largest payload of a message the hub takes now, in bytes. */
size_t telemetry_payload_max(const struct telemetry *t);

/* Whether @n_messages with @n_bytes of payload together fit into the queue. */
bool telemetry_has_room(struct telemetry *t, uint64_t n_messages, uint64_t n_bytes);

/* Whether the largest message fits: what poll(2) says. */
bool telemetry_is_writable(struct telemetry *t);

/* What has to be held for one message besides its payload. */
#define TELEMETRY_MESSAGE_OVERHEAD 192

/* Promises room to a message that comes in pieces, as journal_hold(); and gives it back. */
int telemetry_hold(struct telemetry *t, uint64_t n_bytes);
void telemetry_unhold(struct telemetry *t, uint64_t n_bytes);

/* The daemon stops: files take nothing new from here on; what is queued still goes out. */
void telemetry_close(struct telemetry *t);
bool telemetry_is_closed(const struct telemetry *t);

/*
 * Appends one message, the payload being @head and @tail one after the other. Returns 0 and its number in the
 * queue; -ENOSPC: the queue is full. The size was checked against telemetry_payload_max().
 */
int telemetry_append(struct telemetry *t, struct origin *origin, struct bytes head, struct bytes tail,
		     uint64_t *sequence);

/* --- the link's side, see struct link_ops ----------------------------------------------------- */

void telemetry_on_online(struct telemetry *t, bool session_present);
void telemetry_on_offline(struct telemetry *t);
void telemetry_on_writable(struct telemetry *t);
void telemetry_on_puback(struct telemetry *t, uint64_t cookie, const struct hub_status *status,
			 struct bytes reason);

/* --- counters --------------------------------------------------------------------------------- */

struct telemetry_stats {
	uint64_t n_written;  /* messages accepted from writers */
	uint64_t n_sent;     /* PUBLISH packets, re-sends included */
	uint64_t n_acked;    /* messages the hub took */
	uint64_t n_resent;   /* PUBLISH packets of messages sent before */
	uint64_t n_refused;  /* retryable refusals */
	uint64_t n_rejected; /* messages refused for good */
	uint64_t n_full;     /* writes that found the queue full */
	uint64_t n_queued;   /* messages in the queue now */
	uint64_t n_in_flight;
	uint64_t queue_bytes;
	uint64_t queue_bytes_max;
	const char *last_refusal; /* "" = none; borrowed */
};
void telemetry_stats(const struct telemetry *t, struct telemetry_stats *out);

/* A writer was told ENOSPC. */
void telemetry_count_full(struct telemetry *t);

struct journal *telemetry_journal(struct telemetry *t);
struct waiters *telemetry_waiters(struct telemetry *t);

#endif
