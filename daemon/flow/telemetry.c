/* SPDX-License-Identifier: MIT */
/*
 * Telemetry, see telemetry.h, in the order of a message's life: append, send_next, on_puback, done, release.
 *
 * Objects: the journal's records after `acked`; those up to `sent` have a flight each, at index sequence
 * modulo the window. A flight is in the air (SENT), waits to be sent again (RESEND) or has its outcome and
 * waits for those before it (DONE). `next` is the first record that was never sent.
 *
 * Invariants: sent - acked <= LINK_WINDOW_MAX; n_resend counts the flights in RESEND; while the retry timer
 * is armed, or a flight is in RESEND, no record after it is sent for the first time: that keeps the order
 * over refusals and reconnects.
 *
 * Nothing in here allocates, and the clock and the formatted time are the turn's.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/stamp.h"
#include "flow/telemetry.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

/* Back-off after retryable refusals: doubled from the first to the last value, with jitter. */
#define RETRY_BASE_NS (200 * NSEC_PER_MSEC)
#define RETRY_CAP_NS  (30 * NSEC_PER_SEC)

enum flight_state {
	FLIGHT_SENT,
	FLIGHT_RESEND,
	FLIGHT_DONE,
};

struct flight {
	struct journal_cursor at;
	uint16_t packet_id; /* 0 = the hub knows of none */
	uint8_t state;      /* enum flight_state */
};

struct telemetry {
	struct loop *loop;
	struct log *log;
	struct journal *journal;
	struct waiters *waiters;
	struct link *link;
	struct stamp stamp;
	struct journal_cursor next;
	uint64_t n_resend;
	uint64_t n_in_flight;
	unsigned int n_refusals; /* in a row */
	bool was_full;           /* somebody may wait for room */
	bool closed;
	struct loop_timer retry;
	struct loop_deferred release;
	void (*on_room)(void *userdata);
	void (*on_empty)(void *userdata);
	void *userdata;
	struct telemetry_stats stats;
	char last_refusal[256];
	struct log_once logged;
	struct flight flights[LINK_WINDOW_MAX];
};

static const struct bytes telemetry_topic = {
	.data = (const uint8_t *)HUB_TOPIC_TELEMETRY,
	.len = sizeof(HUB_TOPIC_TELEMETRY) - 1,
};

static void telemetry_on_retry(struct loop_timer *timer, uint64_t now_ns);
static void telemetry_release(struct loop_deferred *deferred);

static struct flight *flight_of(struct telemetry *t, uint64_t sequence)
{
	return &t->flights[sequence % LINK_WINDOW_MAX];
}

/* --- life cycle ------------------------------------------------------------------------------- */

int telemetry_new(struct telemetry **out, const struct telemetry_options *options)
{
	struct telemetry *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->loop = options->loop;
	t->log = options->log;
	t->journal = options->journal;
	t->waiters = options->waiters;
	t->on_room = options->on_room;
	t->on_empty = options->on_empty;
	t->userdata = options->userdata;
	t->next = journal_first(t->journal);
	stamp_init(&t->stamp, options->run);
	loop_timer_init(&t->retry, telemetry_on_retry);
	loop_deferred_init(&t->release, telemetry_release);
	*out = t;
	return 0;
}

void telemetry_free(struct telemetry *t)
{
	if (!t)
		return;
	loop_timer_disarm(&t->retry);
	loop_undefer(&t->release);
	free(t);
}

void telemetry_set_link(struct telemetry *t, struct link *link)
{
	t->link = link;
}

struct journal *telemetry_journal(struct telemetry *t)
{
	return t->journal;
}

struct waiters *telemetry_waiters(struct telemetry *t)
{
	return t->waiters;
}

/* --- append ----------------------------------------------------------------------------------- */

size_t telemetry_payload_max(const struct telemetry *t)
{
	const struct mqtt_publish_parts empty = {
		.qos = 1,
		.packet_id = 1,
		.topic_alias = 1,
		.topic = telemetry_topic,
		.properties = BYTES(t->stamp.encoded, STAMP_LEN),
	};
	/* The remaining length takes up to three bytes more with a payload than without. */
	size_t overhead = mqtt_publish_parts_len(&empty) + 3, max = link_packet_bytes_max(t->link);

	if (max > journal_max_bytes(t->journal) - TELEMETRY_MESSAGE_OVERHEAD)
		max = journal_max_bytes(t->journal) - TELEMETRY_MESSAGE_OVERHEAD;
	return max > overhead ? max - overhead : 0;
}

bool telemetry_has_room(struct telemetry *t, uint64_t n_messages, uint64_t n_bytes)
{
	bool room = n_messages <= UINT32_MAX &&
		    journal_has_room(t->journal, n_messages, n_bytes + n_messages * STAMP_LEN);

	if (!room)
		t->was_full = true;
	return room;
}

bool telemetry_is_writable(struct telemetry *t)
{
	return !t->closed &&
	       (telemetry_has_room(t, 1, telemetry_payload_max(t)) || journal_n_bytes(t->journal) == 0);
}

int telemetry_hold(struct telemetry *t, uint64_t n_bytes)
{
	int r = journal_hold(t->journal, n_bytes);

	if (r)
		t->was_full = true;
	return r;
}

void telemetry_unhold(struct telemetry *t, uint64_t n_bytes)
{
	journal_unhold(t->journal, n_bytes);
	if (n_bytes && t->was_full)
		loop_defer(t->loop, &t->release);
}

void telemetry_close(struct telemetry *t)
{
	t->closed = true;
}

bool telemetry_is_closed(const struct telemetry *t)
{
	return t->closed;
}

int telemetry_append(struct telemetry *t, struct origin *origin, struct bytes head, struct bytes tail,
		     uint64_t *sequence)
{
	uint8_t *properties, *payload;
	int r;

	static_assert(JOURNAL_RECORD_OVERHEAD + STAMP_LEN <= TELEMETRY_MESSAGE_OVERHEAD,
		      "overhead is an upper bound");
	r = journal_append(t->journal, origin->id, STAMP_LEN, head.len + tail.len, &properties, &payload);
	if (r) {
		t->was_full = true;
		return r;
	}
	stamp_put(&t->stamp, journal_appended(t->journal) + 1, loop_wall_ms(t->loop), properties);
	if (head.len)
		memcpy(payload, head.data, head.len);
	if (tail.len)
		memcpy(payload + head.len, tail.data, tail.len);
	*sequence = journal_commit(t->journal);
	origin_appended(origin, *sequence);
	++t->stats.n_written;
	link_kick(t->link);
	return 0;
}

/* --- send_next -------------------------------------------------------------------------------- */

static void telemetry_done(struct telemetry *t, uint64_t sequence, int error);
static void telemetry_reject_oversized(struct telemetry *t, uint64_t sequence);
static void telemetry_arm_retry(struct telemetry *t);

static int telemetry_publish(struct telemetry *t, struct flight *flight)
{
	struct journal_record record;

	journal_read(t->journal, flight->at, &record);
	return link_publish(t->link, telemetry_topic, record.properties, record.payload, record.sequence,
			    &flight->packet_id);
}

/* Sends again, in order, what was lost with a connection or refused. Returns 0 when nothing is left to send
 * again. */
static int telemetry_send_again(struct telemetry *t)
{
	for (uint64_t s = journal_acked(t->journal) + 1; t->n_resend; ++s) {
		struct flight *flight = flight_of(t, s);
		int r;

		if (flight->state != FLIGHT_RESEND)
			continue;
		r = telemetry_publish(t, flight);
		if (r && r != -EMSGSIZE)
			return r;
		--t->n_resend;
		flight->state = FLIGHT_SENT;
		++t->n_in_flight;
		if (r) {
			/* The hub takes less than on the connection before. */
			if (flight->packet_id)
				link_drop(t->link, flight->packet_id);
			telemetry_reject_oversized(t, s);
			continue;
		}
		++t->stats.n_sent;
		++t->stats.n_resent;
	}
	return 0;
}

static int telemetry_send_new(struct telemetry *t)
{
	while (t->next.sequence <= journal_appended(t->journal)) {
		uint64_t sequence = t->next.sequence;
		struct flight *flight = flight_of(t, sequence);
		int r;

		if (sequence - journal_acked(t->journal) > LINK_WINDOW_MAX)
			return -EAGAIN;
		*flight = (struct flight){.at = t->next, .state = FLIGHT_SENT};
		r = telemetry_publish(t, flight);
		if (r && r != -EMSGSIZE)
			return r;
		journal_mark_sent(t->journal, sequence);
		t->next = journal_next(t->journal, t->next);
		++t->n_in_flight;
		if (r)
			telemetry_reject_oversized(t, sequence);
		else
			++t->stats.n_sent;
	}
	return 0;
}

void telemetry_on_writable(struct telemetry *t)
{
	int r;

	if (loop_timer_is_armed(&t->retry))
		return;
	r = telemetry_send_again(t);
	if (!r)
		r = telemetry_send_new(t);
	if (r == -EOPNOTSUPP)
		log_write_once(t->log, &t->logged, LOG_LEVEL_ERROR,
			       "the hub allows no QoS 1: nothing can be delivered");
	else if (r && r != -EAGAIN) {
		log_write_once(t->log, &t->logged, LOG_LEVEL_ERROR, "cannot send: %s", strerror(-r));
		telemetry_arm_retry(t);
	}
}

/* --- connections come and go ------------------------------------------------------------------ */

void telemetry_on_offline(struct telemetry *t)
{
	for (uint64_t s = journal_acked(t->journal) + 1; s <= journal_sent(t->journal); ++s) {
		struct flight *flight = flight_of(t, s);

		if (flight->state != FLIGHT_SENT)
			continue;
		flight->state = FLIGHT_RESEND;
		++t->n_resend;
	}
	t->n_in_flight = 0;
}

void telemetry_on_online(struct telemetry *t, bool session_present)
{
	/* The refusals were the last connection's. */
	loop_timer_disarm(&t->retry);
	if (session_present)
		return;
	for (uint64_t s = journal_acked(t->journal) + 1; s <= journal_sent(t->journal); ++s)
		flight_of(t, s)->packet_id = 0;
}

/* --- on_puback -------------------------------------------------------------------------------- */

static void telemetry_on_retry(struct loop_timer *timer, uint64_t now_ns)
{
	struct telemetry *t = container_of(timer, struct telemetry, retry);

	(void)now_ns;
	link_kick(t->link);
}

static void telemetry_arm_retry(struct telemetry *t)
{
	uint64_t cap_ns = RETRY_BASE_NS << (t->n_refusals < 10 ? t->n_refusals : 10), random;

	if (loop_timer_is_armed(&t->retry))
		return;
	++t->n_refusals;
	if (cap_ns > RETRY_CAP_NS)
		cap_ns = RETRY_CAP_NS;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		random = loop_now_ns(t->loop);
	loop_timer_arm(t->loop, &t->retry, loop_now_ns(t->loop) + cap_ns / 2 + random % (cap_ns / 2));
}

static void telemetry_refused(struct telemetry *t, struct flight *flight, struct origin *origin,
			      const struct hub_status *status)
{
	++t->stats.n_refused;
	flight->state = FLIGHT_RESEND;
	++t->n_resend;
	--t->n_in_flight;
	if (origin)
		origin->refused = status->error;
	log_write_once(t->log, &t->logged, LOG_LEVEL_WARNING,
		       "the hub refuses telemetry for now: %s; trying again", t->last_refusal);
	telemetry_arm_retry(t);
}

/* The reason is in last_refusal. */
static void telemetry_reject(struct telemetry *t, uint64_t sequence, int error)
{
	struct journal_record record;
	struct origin *origin;

	journal_read(t->journal, flight_of(t, sequence)->at, &record);
	origin = origin_find(t->waiters, record.origin);
	++t->stats.n_rejected;
	log_write_once(t->log, &t->logged, LOG_LEVEL_WARNING, "the hub does not take messages: %s",
		       t->last_refusal);
	log_debug(t->log, "message %.*s was dropped: %s", HUB_MESSAGE_ID_LEN,
		  (const char *)record.properties.data + t->stamp.id_at, t->last_refusal);
	/* A parked write gets the error itself. */
	if (origin && !origin->error && !origin_waits_for(origin, sequence))
		origin->error = error;
	telemetry_done(t, sequence, error);
}

static void telemetry_reject_oversized(struct telemetry *t, uint64_t sequence)
{
	snprintf(t->last_refusal, sizeof(t->last_refusal), "larger than the hub's Maximum Packet Size");
	telemetry_reject(t, sequence, -EMSGSIZE);
}

void telemetry_on_puback(struct telemetry *t, uint64_t cookie, const struct hub_status *status,
			 struct bytes reason)
{
	struct flight *flight = flight_of(t, cookie);
	char text[HUB_STATUS_TEXT_SIZE];
	struct journal_record record;
	struct origin *origin;

	assert(cookie > journal_acked(t->journal) && cookie <= journal_sent(t->journal));
	assert(flight->state == FLIGHT_SENT && flight->at.sequence == cookie);
	flight->packet_id = 0;
	if (status->class == HUB_SUCCESS) {
		if (t->n_refusals) {
			t->n_refusals = 0;
			log_once_reset(&t->logged);
		}
		++t->stats.n_acked;
		telemetry_done(t, cookie, 0);
		return;
	}
	hub_status_format(status, text);
	snprintf(t->last_refusal, sizeof(t->last_refusal), "%s%s%.*s", text, reason.len ? ": " : "",
		 (int)(reason.len < 150 ? reason.len : 150), reason.len ? (const char *)reason.data : "");
	journal_read(t->journal, flight->at, &record);
	origin = origin_find(t->waiters, record.origin);
	/* The writer of an O_SYNC write is still there to decide for itself: it gets the error, and the queue
	 * nothing. */
	if (status->retryable && !(origin && origin_waits_for(origin, cookie)))
		telemetry_refused(t, flight, origin, status);
	else if (status->retryable)
		telemetry_done(t, cookie, status->error);
	else
		telemetry_reject(t, cookie, status->error);
}

/* --- trim, release_waiters -------------------------------------------------------------------- */

/* The record in the air has its outcome: tells who waits for it, and trims what is done with from the front.
 */
static void telemetry_done(struct telemetry *t, uint64_t sequence, int error)
{
	struct flight *flight = flight_of(t, sequence);
	struct journal_record record;
	struct origin *origin;

	journal_read(t->journal, flight->at, &record);
	origin = origin_find(t->waiters, record.origin);
	if (origin) {
		origin->refused = 0;
		origin_record_done(origin, sequence, error);
	}
	assert(flight->state == FLIGHT_SENT);
	flight->state = FLIGHT_DONE;
	--t->n_in_flight;
	while (journal_acked(t->journal) < journal_sent(t->journal)) {
		flight = flight_of(t, journal_acked(t->journal) + 1);
		if (flight->state != FLIGHT_DONE)
			break;
		journal_mark_acked(t->journal, flight->at);
	}
	loop_defer(t->loop, &t->release);
}

/* Once a turn: everybody who waited for room. */
static void telemetry_release(struct loop_deferred *deferred)
{
	struct telemetry *t = container_of(deferred, struct telemetry, release);

	if (t->was_full && telemetry_is_writable(t)) {
		t->was_full = false;
		if (t->on_room)
			t->on_room(t->userdata);
	}
	if (journal_acked(t->journal) == journal_appended(t->journal) && t->on_empty)
		t->on_empty(t->userdata);
}

/* --- counters --------------------------------------------------------------------------------- */

void telemetry_count_full(struct telemetry *t)
{
	++t->stats.n_full;
}

void telemetry_stats(const struct telemetry *t, struct telemetry_stats *out)
{
	*out = t->stats;
	out->n_queued = journal_appended(t->journal) - journal_acked(t->journal);
	out->n_in_flight = t->n_in_flight;
	out->queue_bytes = journal_n_bytes(t->journal);
	out->queue_bytes_max = journal_max_bytes(t->journal);
	out->last_refusal = t->last_refusal;
}
