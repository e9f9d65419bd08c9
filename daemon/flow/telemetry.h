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
#include "flow/channel.h"
#include "flow/link.h"
#include "flow/waiters.h"
#include "journal/journal.h"
#include "loop/loop.h"

struct telemetry;

struct telemetry_options {
	struct loop *loop;
	struct log *log;
	struct journal *
		journal; /* borrowed; what was recovered is sent first. Its operations are telemetry_on_*() */
	struct channels *channels; /* borrowed */
	struct waiters *waiters;   /* borrowed */
	/* There is room in a queue that was full; and: nothing is left in the queue. May be NULL. */
	void (*on_room)(void *userdata);
	void (*on_empty)(void *userdata);
	/* The hub refused a message for good, which is for the owner to log; it leaves the queue after this. @reason: one line.
	 * May be NULL. */
	void (*on_rejected)(void *userdata, const struct journal_record *record, const char *reason);
	/* A line for `events`; @event: `queue-full`, `dropped`, `expired`. May be NULL. */
	void (*on_event)(void *userdata, const char *event, const char *text);
	void *userdata;
};

int telemetry_new(struct telemetry **out, const struct telemetry_options *options);
/* The link must not call any more. NULL is fine. */
void telemetry_free(struct telemetry *t);

/* Before the first append. The link is borrowed and calls telemetry_on_*(). */
void telemetry_set_link(struct telemetry *t, struct link *link);

/* Largest payload of a message of the channel that the hub takes now, in bytes. */
size_t telemetry_payload_max(const struct telemetry *t, const struct channel *channel);

/*
 * Makes sure that @n_messages with @n_bytes of payload together, and @n_held bytes that will be held, fit into the
 * queue now; with `drop-oldest` at the cost of the channel's oldest messages. Returns 0; -ENOSPC: the queue or the
 * disk is full; or another error of the disk.
 */
int telemetry_reserve(struct telemetry *t, struct channel *channel, uint64_t n_messages, uint64_t n_bytes,
		      uint64_t n_held);

/* Whether the channel's largest message fits: what poll(2) says. */
bool telemetry_is_writable(struct telemetry *t, struct channel *channel);

/* Whether a write fits into the empty queue. */
bool telemetry_can_fit(const struct telemetry *t, const struct channel *channel, uint64_t n_messages,
		       uint64_t n_bytes, uint64_t n_held);

/* Whether it fits now, as far as the bound goes. */
bool telemetry_has_room(const struct telemetry *t, const struct channel *channel, uint64_t n_messages,
			uint64_t n_bytes, uint64_t n_held);
/* Whether there are messages in the queue: room comes when they go. */
bool telemetry_has_queued(const struct telemetry *t);
/* Bytes promised to messages that come in pieces, all together. */
uint64_t telemetry_promised(const struct telemetry *t);
/* Tells `events` that a blocked write failed, because no room would ever come. */
void telemetry_tell_stuck(struct telemetry *t, const struct channel *channel);
/* What has to be held for one message besides its payload. */
static inline uint64_t telemetry_overhead(const struct channel *channel)
{
	return JOURNAL_RECORD_OVERHEAD + channel_properties_len(channel);
}

/* Promises room to a message that comes in pieces, as journal_hold(); and gives it back. */
int telemetry_hold(struct telemetry *t, uint64_t n_bytes);
void telemetry_unhold(struct telemetry *t, uint64_t n_bytes);

/* The daemon stops: files take nothing new from here on, and writes that wait for room fail with -ESHUTDOWN; what is
 * queued still goes out. */
void telemetry_close(struct telemetry *t);
bool telemetry_is_closed(const struct telemetry *t);

/*
 * Appends one message, the payload being @head and @tail one after the other. Returns 0 and its number in the
 * queue, or as telemetry_reserve(), which is called before where several belong together. The size was checked against
 * telemetry_payload_max(). @origin: NULL: nobody's.
 */
int telemetry_append(struct telemetry *t, struct channel *channel, struct origin *origin, struct bytes head,
		     struct bytes tail, uint64_t *sequence);

/* Appends a message with properties that are encoded already, for nobody: one that is tried again after all. Returns
 * as telemetry_append(). */
int telemetry_append_again(struct telemetry *t, struct channel *channel, struct bytes properties,
			   struct bytes payload);

/* Takes back the records @first to @last of the lane that were not sent yet; nobody is told an error. */
void telemetry_withdraw(struct telemetry *t, struct journal_lane *lane, uint64_t first, uint64_t last);

/* --- the link's side, see struct link_ops ----------------------------------------------------- */

void telemetry_on_online(struct telemetry *t, bool session_present);
void telemetry_on_offline(struct telemetry *t);
void telemetry_on_writable(struct telemetry *t);
void telemetry_on_puback(struct telemetry *t, uint64_t cookie, const struct hub_status *status,
			 struct bytes reason);

/* --- the journal's side, see struct journal_ops ----------------------------------------------- */

void telemetry_on_stored(struct telemetry *t, uint64_t sequence, int error);
void telemetry_on_room(struct telemetry *t);
void telemetry_on_lost(struct telemetry *t, struct journal_lane *lane, uint64_t first, uint64_t last);

/* --- counters --------------------------------------------------------------------------------- */

struct telemetry_stats {
	uint64_t n_written;  /* messages accepted from writers */
	uint64_t n_sent;     /* PUBLISH packets, re-sends included */
	uint64_t n_acked;    /* messages the hub took */
	uint64_t n_resent;   /* PUBLISH packets of messages sent before */
	uint64_t n_refused;  /* retryable refusals */
	uint64_t n_rejected; /* messages refused for good, or whose writer waited and was told */
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

/* How long a record has been in the queue, whatever became of the clock meanwhile; @time_ms: when it was appended. */
uint64_t telemetry_age_ms(const struct telemetry *t, uint64_t sequence, uint64_t time_ms);

struct journal *telemetry_journal(struct telemetry *t);
struct waiters *telemetry_waiters(struct telemetry *t);

#endif
