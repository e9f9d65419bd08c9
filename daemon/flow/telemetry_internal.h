/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TELEMETRY_INTERNAL_H
#define FLOW_TELEMETRY_INTERNAL_H

/*
 * The inside of telemetry, shared by its files: telemetry.c (append, room, levels), telemetry_send.c (flights,
 * outcomes, connections), telemetry_discard.c (messages that leave the queue without an outcome: dropped, expired,
 * withdrawn), telemetry_lost.c (those that became unreadable).
 */

#include "base/list.h"
#include "flow/telemetry.h"

#define TELEMETRY_N_PRIORITIES (CHANNEL_PRIORITY_MAX + 1)

enum flight_state {
	FLIGHT_FREE,
	FLIGHT_SENT,      /* in the air */
	FLIGHT_RESEND,    /* refused, or its connection was lost */
	FLIGHT_ABANDONED, /* in the air, but the message is gone: its outcome is nobody's */
};

/* A message between its first PUBLISH and its outcome. The cookie of the link is the index. */
struct flight {
	struct list
		link; /* telemetry.free; .air in the order they were sent; or .resend of the priority by sequence */
	enum flight_state state;
	uint8_t priority;
	uint16_t channel;
	uint16_t packet_id; /* 0 = the hub knows of none */
	uint64_t origin;
	struct journal_cursor at;
};

/* Messages of which `events` is told once a second. */
struct tally {
	uint64_t n;
	uint16_t channel;
	bool is_mixed; /* of several channels */
};

enum tally_kind {
	TALLY_DROPPED,
	TALLY_EXPIRED,
	N_TALLIES,
};

/* Somebody set the clock by @ms when @sequence was the last record. */
struct clock_step {
	uint64_t sequence;
	int64_t ms;
};

/* Remembered; an older one counts with the next. */
#define TELEMETRY_N_STEPS 8

struct telemetry {
	struct loop *loop;
	struct log *log;
	struct journal *journal;
	struct channels *channels;
	struct waiters *waiters;
	struct link *link;
	bool was_full;  /* somebody may wait for room */
	bool told_full; /* `events` has it; there was no room since */
	bool closed;
	struct loop_deferred release;
	void (*on_room)(void *userdata);
	void (*on_empty)(void *userdata);
	void (*on_rejected)(void *userdata, const struct journal_record *record, const char *reason);
	void (*on_event)(void *userdata, const char *event, const char *text);
	void *userdata;
	struct telemetry_stats stats;

	/* telemetry_send.c */
	struct list air;
	struct list resend[TELEMETRY_N_PRIORITIES];
	struct list free;
	unsigned int n_air; /* abandoned ones included */
	unsigned int n_resend;
	unsigned int n_refusals; /* in a row */
	struct loop_timer retry;
	/* The oldest message in the air when the hub ended the connection for a message's sake, and how often in a
	 * row. */
	uint64_t suspect;
	unsigned int n_suspected;
	bool careful; /* one message in the air at a time, until those of that connection are through */
	char last_refusal[256];
	struct log_once logged;
	struct flight flights[LINK_WINDOW_MAX];

	/* telemetry_discard.c */
	struct loop_timer expiry;
	uint64_t recovered; /* records up to here are an earlier daemon's */
	uint64_t start_ns;
	int64_t clock_ms;     /* the wall clock over the monotonic one, when they were compared last */
	int64_t suspended_ms; /* time the machine slept, which is in clock_ms */
	unsigned int n_steps;
	struct clock_step steps[TELEMETRY_N_STEPS];
	struct loop_timer tell;
	struct tally tallies[N_TALLIES];
};

static inline void telemetry_event(struct telemetry *t, const char *event, const char *text)
{
	if (t->on_event)
		t->on_event(t->userdata, event, text);
}

/* --- telemetry.c --- */

/* The record has its outcome and is not in the queue any more: tells its origin, and who waits for room. @origin: as
 * in the record. */
void telemetry_settle(struct telemetry *t, uint64_t origin, uint64_t sequence, int error);

/* A message of the channel is as if it had never been written: out of the counters. */
void channel_take_back(struct channel *channel, uint64_t sequence);

/* --- telemetry_send.c --- */

void flights_init(struct telemetry *t);
/* The flight of a record that was sent. */
struct flight *flight_of(struct telemetry *t, const struct journal_cursor *at);
/* The message of a flight is gone: the flight ends now, or when its outcome comes. */
void flight_abandon(struct telemetry *t, struct flight *flight);

/* --- telemetry_lost.c --- */

/* As telemetry_settle(), of a record that could not be read: its origin is whose write waits for it, or nobody knows. */
void telemetry_settle_unread(struct telemetry *t, struct journal_lane *lane, uint64_t sequence, int error);
/* Tells who waits for lost records, once a turn. */
void telemetry_tell_lost(struct telemetry *t);

/* --- telemetry_discard.c --- */

void discard_init(struct telemetry *t);
void discard_deinit(struct telemetry *t);

/* Whether dropping the channel's messages would make room for @n_messages with @n_bytes. */
bool channel_can_make_room(struct telemetry *t, const struct channel *channel, uint64_t n_messages,
			   uint64_t n_bytes);
/* Drops the oldest of the channel's messages that may go first. False: it has none. */
bool channel_drop_oldest(struct telemetry *t, struct channel *channel);
/* Drops the oldest that was sent. False: there is none. */
bool channel_drop_sent(struct telemetry *t, struct channel *channel);

/* Takes back a write that could not be stored. */
void telemetry_withdraw_write(void *userdata, struct fuse_file *file, const struct wait_write *write,
			      int error);

bool record_is_expired(struct telemetry *t, const struct journal_record *record);
/* The time of a message of the channel is over: counts it. */
void count_expired(struct telemetry *t, uint16_t channel);
/* A message is appended next to a channel with a ttl. */
void expiry_arm(struct telemetry *t, uint32_t ttl_s);
/* Tells what was counted and not told yet. */
void tallies_tell(struct telemetry *t);

#endif
