/* SPDX-License-Identifier: MIT */
/*
 * The hub's side of telemetry, see telemetry.h, in the order of a message's life: send_next, on_puback, done; and
 * what becomes of messages in the air when connections come and go.
 *
 * A flight is in the air (SENT, or ABANDONED when its message was dropped meanwhile), or waits to be sent again
 * (RESEND). Invariants: a flight that is not ABANDONED has a record that was sent and is not done; `air` is in the
 * order of sending; each list of `resend` is in the order of sequences.
 *
 * Order: whatever waits to be sent again goes before what was never sent, unless that has a higher priority; while the
 * retry timer is armed nothing goes. So messages of one priority keep their order over refusals and reconnects.
 *
 * A message the hub does not refuse but ends the connection for would do so for ever. When the hub says that a
 * packet of ours was the reason, those in the air go out one at a time until all have their outcome: then it is
 * known which one it is, and the third time it is rejected.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/telemetry_internal.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

/* Back-off after retryable refusals: doubled from the first to the last value, with jitter. */
#define RETRY_BASE_NS (200 * NSEC_PER_MSEC)
#define RETRY_CAP_NS  (30 * NSEC_PER_SEC)
/* Of a page that could not be read. */
#define RETRY_DISK_NS (500 * NSEC_PER_MSEC)
/* Connections a message may end. */
#define SUSPECT_MAX 3

static const struct bytes telemetry_topic = {
	.data = (const uint8_t *)HUB_TOPIC_TELEMETRY,
	.len = sizeof(HUB_TOPIC_TELEMETRY) - 1,
};

static void telemetry_on_retry(struct loop_timer *timer, uint64_t now_ns);

/* --- flights ---------------------------------------------------------------------------------- */

void flights_init(struct telemetry *t)
{
	list_init(&t->air);
	list_init(&t->free);
	for (size_t i = 0; i < TELEMETRY_N_PRIORITIES; ++i)
		list_init(&t->resend[i]);
	for (size_t i = 0; i < LINK_WINDOW_MAX; ++i) {
		list_init(&t->flights[i].link);
		list_append(&t->free, &t->flights[i].link);
	}
	loop_timer_init(&t->retry, telemetry_on_retry);
}

static void flight_set_state(struct telemetry *t, struct flight *flight, enum flight_state state)
{
	struct list *at;

	t->n_air -= flight->state == FLIGHT_SENT || flight->state == FLIGHT_ABANDONED;
	t->n_resend -= flight->state == FLIGHT_RESEND;
	list_remove(&flight->link);
	flight->state = state;
	switch (state) {
	case FLIGHT_FREE:
		/* The one that is used next is the one that was used last. */
		list_insert_before(t->free.next, &flight->link);
		break;
	case FLIGHT_SENT:
	case FLIGHT_ABANDONED:
		list_append(&t->air, &flight->link);
		++t->n_air;
		break;
	case FLIGHT_RESEND:
		at = &t->resend[flight->priority];
		while (at->prev != &t->resend[flight->priority] &&
		       container_of(at->prev, struct flight, link)->at.sequence > flight->at.sequence)
			at = at->prev;
		list_insert_before(at, &flight->link);
		++t->n_resend;
		break;
	}
}

struct flight *flight_of(struct telemetry *t, const struct journal_cursor *at)
{
	for (size_t i = 0; i < LINK_WINDOW_MAX; ++i) {
		struct flight *flight = &t->flights[i];

		if ((flight->state == FLIGHT_SENT || flight->state == FLIGHT_RESEND) &&
		    flight->at.sequence == at->sequence && flight->at.lane == at->lane)
			return flight;
	}
	return NULL;
}

/* Of a flight that is not in the air on this connection. */
static void flight_drop_packet_id(struct telemetry *t, struct flight *flight)
{
	if (flight->packet_id)
		link_drop(t->link, flight->packet_id);
	flight->packet_id = 0;
}

void flight_abandon(struct telemetry *t, struct flight *flight)
{
	if (flight->state == FLIGHT_SENT) {
		flight->state = FLIGHT_ABANDONED;
		return;
	}
	flight_drop_packet_id(t, flight);
	flight_set_state(t, flight, FLIGHT_FREE);
}

/* The first of those that go out again. */
static struct flight *flight_first_again(struct telemetry *t)
{
	if (!t->n_resend)
		return NULL;
	for (size_t i = 0; i < TELEMETRY_N_PRIORITIES; ++i)
		if (!list_is_empty(&t->resend[i]))
			return container_of(list_first(&t->resend[i]), struct flight, link);
	return NULL;
}

/* --- outcomes --------------------------------------------------------------------------------- */

/* The message in the flight has its outcome. */
static void flight_done(struct telemetry *t, struct flight *flight, int error)
{
	struct journal_cursor at = flight->at;
	uint64_t origin = flight->origin;

	flight_set_state(t, flight, FLIGHT_FREE);
	journal_mark_done(t->journal, &at);
	telemetry_settle(t, origin, at.sequence, error);
}

/* The record is not what it was, which the journal counts and keeps. */
static void flight_damaged(struct telemetry *t, struct flight *flight)
{
	flight_drop_packet_id(t, flight);
	flight_done(t, flight, -EIO);
}

static void telemetry_arm_disk_retry(struct telemetry *t)
{
	loop_timer_arm(t->loop, &t->retry, loop_now_ns(t->loop) + RETRY_DISK_NS);
}

static void flight_count_rejected(struct telemetry *t, const struct flight *flight)
{
	struct channel *channel = channels_by_number(t->channels, flight->channel);

	++t->stats.n_rejected;
	if (channel)
		++channel->stats.n_rejected;
}

/* For good: the reason is in last_refusal. What cannot be read now, to be kept, is sent again, and refused again. */
static void flight_reject(struct telemetry *t, struct flight *flight, int error)
{
	struct journal_record record;
	int r = journal_read(&flight->at, &record);

	if (r == -EIO) {
		flight_set_state(t, flight, FLIGHT_RESEND);
		telemetry_arm_disk_retry(t);
		return;
	}
	/* What is damaged the journal counts. */
	if (!r) {
		flight_count_rejected(t, flight);
		if (t->on_rejected)
			t->on_rejected(t->userdata, &record, t->last_refusal);
	}
	flight_done(t, flight, error);
}

static void flight_reject_oversized(struct telemetry *t, struct flight *flight)
{
	/* The hub may take less than on the connection before. */
	flight_drop_packet_id(t, flight);
	snprintf(t->last_refusal, sizeof(t->last_refusal), "larger than the hub's Maximum Packet Size");
	flight_reject(t, flight, -EMSGSIZE);
}

/* --- send_next -------------------------------------------------------------------------------- */

static void telemetry_arm_retry(struct telemetry *t);

static uint64_t flight_cookie(const struct telemetry *t, const struct flight *flight)
{
	return (uint64_t)(flight - t->flights);
}

/* Result of sending one message: this, or the errno of link_publish(). */
#define SEND_GOES_ON 1

/* Sends one again, or finds that it need not be. */
static int telemetry_send_again(struct telemetry *t, struct flight *flight)
{
	struct channel *channel;
	struct journal_record record;
	int r;

	r = journal_read(&flight->at, &record);
	if (r == -EIO) {
		telemetry_arm_disk_retry(t);
		return -EAGAIN;
	}
	if (r) {
		flight_damaged(t, flight);
		return SEND_GOES_ON;
	}
	if (record_is_expired(t, &record)) {
		flight_drop_packet_id(t, flight);
		count_expired(t, flight->channel);
		flight_done(t, flight, -ETIMEDOUT);
		return SEND_GOES_ON;
	}
	r = link_publish(t->link, telemetry_topic, record.properties, record.payload,
			 flight_cookie(t, flight), &flight->packet_id);
	if (r == -EMSGSIZE)
		flight_reject_oversized(t, flight);
	if (r)
		return r == -EMSGSIZE ? SEND_GOES_ON : r;
	flight_set_state(t, flight, FLIGHT_SENT);
	++t->stats.n_sent;
	++t->stats.n_resent;
	channel = channels_by_number(t->channels, flight->channel);
	if (channel)
		++channel->stats.n_retried;
	return SEND_GOES_ON;
}

/* A record that goes no further than the front of the queue. */
static void telemetry_skip(struct telemetry *t, const struct journal_cursor *at, uint64_t origin, int error)
{
	journal_mark_sent(t->journal, at);
	journal_mark_done(t->journal, at);
	telemetry_settle(t, origin, at->sequence, error);
}

/* Sends one for the first time, or finds that it cannot be. */
static int telemetry_send_new(struct telemetry *t, const struct journal_cursor *at,
			      const struct journal_record *record)
{
	struct list *link = list_first(&t->free);
	struct flight *flight;
	int r;

	if (record_is_expired(t, record)) {
		count_expired(t, record->channel);
		telemetry_skip(t, at, record->origin, -ETIMEDOUT);
		return SEND_GOES_ON;
	}
	if (!link)
		return -EAGAIN;
	flight = container_of(link, struct flight, link);
	flight->at = *at;
	flight->origin = record->origin;
	flight->channel = record->channel;
	flight->priority =
		record->priority < TELEMETRY_N_PRIORITIES ? record->priority : CHANNEL_PRIORITY_MAX;
	flight->packet_id = 0;
	r = link_publish(t->link, telemetry_topic, record->properties, record->payload,
			 flight_cookie(t, flight), &flight->packet_id);
	if (r && r != -EMSGSIZE)
		return r;
	journal_mark_sent(t->journal, at);
	flight_set_state(t, flight, FLIGHT_SENT);
	if (r)
		flight_reject_oversized(t, flight);
	else
		++t->stats.n_sent;
	return SEND_GOES_ON;
}

/* One message. Returns SEND_GOES_ON, 0 when there is none, or why none can be sent now. */
static int telemetry_send_next(struct telemetry *t)
{
	struct flight *again = flight_first_again(t);
	struct journal_record record = {.origin = 0};
	struct journal_cursor at;
	bool is_new;

	if (t->careful && t->n_air)
		return -EAGAIN;
	t->careful = t->careful && t->n_resend;
	is_new = journal_next_unsent(t->journal, &at);
	if (!again && !is_new)
		return 0;
	if (again && again->priority == 0)
		return telemetry_send_again(t, again);
	if (is_new && journal_read(&at, &record)) {
		journal_mark_unread(&at);
		return SEND_GOES_ON;
	}
	if (again && (!is_new || again->priority <= record.priority))
		return telemetry_send_again(t, again);
	return telemetry_send_new(t, &at, &record);
}

void telemetry_on_writable(struct telemetry *t)
{
	int r;

	if (loop_timer_is_armed(&t->retry))
		return;
	do
		r = telemetry_send_next(t);
	while (r == SEND_GOES_ON);
	if (r == -EOPNOTSUPP)
		log_write_once(t->log, &t->logged, LOG_LEVEL_ERROR,
			       "the hub allows no QoS 1: nothing can be delivered");
	else if (r && r != -EAGAIN) {
		log_write_once(t->log, &t->logged, LOG_LEVEL_ERROR, "cannot send: %s", strerror(-r));
		telemetry_arm_retry(t);
	}
}

/* --- connections come and go ------------------------------------------------------------------ */

/* Whether the hub ended the connection because of something that was sent to it. */
static bool end_is_of_a_message(const struct hub_status *end)
{
	switch (end->reason) {
	case MQTT_REASON_TOPIC_NAME_INVALID:
	case MQTT_REASON_PACKET_TOO_LARGE:
	case MQTT_REASON_PAYLOAD_FORMAT_INVALID:
		return true;
	case MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR:
		return end->class == HUB_CLIENT_ERROR;
	default:
		return false;
	}
}

static struct flight *flight_oldest_in_air(struct telemetry *t)
{
	list_for_each (link, &t->air) {
		struct flight *flight = container_of(link, struct flight, link);

		if (flight->state == FLIGHT_SENT)
			return flight;
	}
	return NULL;
}

/* The connection is over: which message is to blame, if one is. Returns it when it has ended enough of them. */
static struct flight *telemetry_blame(struct telemetry *t, const struct hub_status *end)
{
	struct flight *oldest = flight_oldest_in_air(t);

	if (!oldest || !end_is_of_a_message(end)) {
		t->n_suspected = 0;
		return NULL;
	}
	t->n_suspected = t->n_suspected && t->suspect == oldest->at.sequence ? t->n_suspected + 1 : 1;
	t->suspect = oldest->at.sequence;
	t->careful = true;
	return t->n_suspected < SUSPECT_MAX ? NULL : oldest;
}

void telemetry_on_offline(struct telemetry *t)
{
	struct hub_status end = {.class = HUB_SUCCESS};
	char text[HUB_STATUS_TEXT_SIZE];
	struct flight *guilty;

	link_last_end(t->link, &end);
	guilty = telemetry_blame(t, &end);
	list_for_each_safe (link, &t->air) {
		struct flight *flight = container_of(link, struct flight, link);

		if (flight->state == FLIGHT_SENT) {
			flight_set_state(t, flight, FLIGHT_RESEND);
		} else {
			flight_drop_packet_id(t, flight);
			flight_set_state(t, flight, FLIGHT_FREE);
		}
	}
	if (!guilty)
		return;
	flight_drop_packet_id(t, guilty);
	hub_status_format(&end, text);
	snprintf(t->last_refusal, sizeof(t->last_refusal), "ends the connection: %s", text);
	flight_reject(t, guilty, end.error);
}

void telemetry_on_online(struct telemetry *t, bool session_present)
{
	/* The refusals were the last connection's. */
	loop_timer_disarm(&t->retry);
	if (session_present)
		return;
	for (size_t i = 0; i < LINK_WINDOW_MAX; ++i)
		t->flights[i].packet_id = 0;
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

static void flight_refused(struct telemetry *t, struct flight *flight, const struct hub_status *status)
{
	struct origin *origin = origin_find(t->waiters, flight->origin);

	/* The writer that waits for the hub is still there to decide for itself: it gets the error, and the queue
	 * nothing. */
	if (origin && origin_waits_for(origin, flight->at.sequence, WAIT_HUB)) {
		flight_count_rejected(t, flight);
		flight_done(t, flight, status->error);
		return;
	}
	++t->stats.n_refused;
	if (origin)
		origin->refused = status->error;
	flight_set_state(t, flight, FLIGHT_RESEND);
	log_write_once(t->log, &t->logged, LOG_LEVEL_WARNING,
		       "the hub refuses telemetry for now: %s; trying again", t->last_refusal);
	telemetry_arm_retry(t);
}

static void flight_taken(struct telemetry *t, struct flight *flight)
{
	struct channel *channel = channels_by_number(t->channels, flight->channel);

	if (t->n_refusals) {
		t->n_refusals = 0;
		log_once_reset(&t->logged);
	}
	++t->stats.n_acked;
	if (channel)
		++channel->stats.n_acked;
	flight_done(t, flight, 0);
}

void telemetry_on_puback(struct telemetry *t, uint64_t cookie, const struct hub_status *status,
			 struct bytes reason)
{
	struct flight *flight = &t->flights[cookie];
	char text[HUB_STATUS_TEXT_SIZE];

	assert(cookie < LINK_WINDOW_MAX);
	assert(flight->state == FLIGHT_SENT || flight->state == FLIGHT_ABANDONED);
	flight->packet_id = 0;
	if (flight->state == FLIGHT_ABANDONED) {
		flight_set_state(t, flight, FLIGHT_FREE);
	} else if (status->class == HUB_SUCCESS) {
		flight_taken(t, flight);
	} else {
		hub_status_format(status, text);
		snprintf(t->last_refusal, sizeof(t->last_refusal), "%s%s%.*s", text, reason.len ? ": " : "",
			 (int)(reason.len < 150 ? reason.len : 150),
			 reason.len ? (const char *)reason.data : "");
		if (status->retryable)
			flight_refused(t, flight, status);
		else
			flight_reject(t, flight, status->error);
	}
}
