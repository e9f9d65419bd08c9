/* SPDX-License-Identifier: MIT */
/*
 * Telemetry, see telemetry.h: its life cycle, and the writers' side of the queue. A message's life goes on in
 * telemetry_send.c (send, acknowledge, retry) or ends in telemetry_discard.c (dropped, expired, withdrawn) or
 * telemetry_lost.c (unreadable).
 *
 * Objects: the journal's records of kind QUEUE; those that were sent have a flight each. Who wrote a record is in the
 * record, its channel too; both may be gone when it has its outcome.
 *
 * What waits for room is told once a turn, after whatever made it: `was_full` says that somebody may wait.
 *
 * Nothing in here allocates, and the clock and the formatted time are the turn's.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "flow/stamp.h"
#include "flow/telemetry_internal.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

static void telemetry_release(struct loop_deferred *deferred);

/* --- life cycle ------------------------------------------------------------------------------- */

int telemetry_new(struct telemetry **out, const struct telemetry_options *options)
{
	struct telemetry *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->loop = options->loop;
	t->log = options->log;
	t->journal = options->journal;
	t->channels = options->channels;
	t->waiters = options->waiters;
	t->on_room = options->on_room;
	t->on_empty = options->on_empty;
	t->on_rejected = options->on_rejected;
	t->on_event = options->on_event;
	t->userdata = options->userdata;
	loop_deferred_init(&t->release, telemetry_release);
	flights_init(t);
	discard_init(t);
	*out = t;
	return 0;
}

void telemetry_free(struct telemetry *t)
{
	if (!t)
		return;
	loop_timer_disarm(&t->retry);
	discard_deinit(t);
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

void telemetry_close(struct telemetry *t)
{
	struct blocked_write blocked;

	t->closed = true;
	while (waiters_next_blocked(t->waiters, NULL, &blocked))
		waiters_answer_blocked(&blocked, -ESHUTDOWN);
	tallies_tell(t);
}

bool telemetry_is_closed(const struct telemetry *t)
{
	return t->closed;
}

/* --- room ------------------------------------------------------------------------------------- */

size_t telemetry_payload_max(const struct telemetry *t, const struct channel *channel)
{
	const struct mqtt_publish_parts empty = {
		.qos = 1,
		.packet_id = 1,
		.topic_alias = 1,
		.topic = BYTES_LIT(HUB_TOPIC_TELEMETRY),
		.properties = BYTES(channel->stamp.encoded, channel_properties_len(channel)),
	};
	/* The remaining length takes up to three bytes more with a payload than without. */
	size_t overhead = mqtt_publish_parts_len(&empty) + 3, max = link_packet_bytes_max(t->link);

	max = max > overhead ? max - overhead : 0;
	overhead = telemetry_overhead(channel);
	if (journal_max_bytes(t->journal) < max + overhead)
		max = journal_max_bytes(t->journal) > overhead ? journal_max_bytes(t->journal) - overhead : 0;
	return max;
}

/* Bytes of properties and payload together. */
static uint64_t messages_bytes(const struct channel *channel, uint64_t n_messages, uint64_t n_bytes)
{
	return n_bytes + n_messages * channel_properties_len(channel);
}

bool telemetry_can_fit(const struct telemetry *t, const struct channel *channel, uint64_t n_messages,
		       uint64_t n_bytes, uint64_t n_held)
{
	return messages_bytes(channel, n_messages, n_bytes) + n_messages * JOURNAL_RECORD_OVERHEAD + n_held <=
	       journal_max_bytes(t->journal);
}

bool telemetry_has_room(const struct telemetry *t, const struct channel *channel, uint64_t n_messages,
			uint64_t n_bytes, uint64_t n_held)
{
	return journal_has_room(t->journal, n_messages,
				messages_bytes(channel, n_messages, n_bytes) + n_held);
}

bool telemetry_has_queued(const struct telemetry *t)
{
	struct journal_lane_key key;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));) {
		journal_lane_key(lane, &key);
		if (key.kind == JOURNAL_KIND_QUEUE && journal_lane_n_records(lane) > 0)
			return true;
	}
	return false;
}

uint64_t telemetry_promised(const struct telemetry *t)
{
	uint64_t n = journal_n_bytes(t->journal);

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));)
		n -= journal_lane_n_bytes(lane);
	return n;
}

void telemetry_tell_stuck(struct telemetry *t, const struct channel *channel)
{
	char text[192];

	snprintf(text, sizeof(text),
		 "a write to channel %s failed: only messages that are not complete are in its way",
		 channel->name);
	telemetry_event(t, "queue-full", text);
}

static int telemetry_full(struct telemetry *t)
{
	char text[96];

	t->was_full = true;
	if (t->told_full)
		return -ENOSPC;
	t->told_full = true;
	snprintf(text, sizeof(text), "%" PRIu64 " of %" PRIu64 " bytes", journal_n_bytes(t->journal),
		 journal_max_bytes(t->journal));
	telemetry_event(t, "queue-full", text);
	return -ENOSPC;
}

static void channel_make_room(struct telemetry *t, struct channel *channel, uint64_t n_messages,
			      uint64_t n_bytes)
{
	uint64_t need = n_messages * JOURNAL_RECORD_OVERHEAD + n_bytes, n;

	while ((n = journal_n_bytes(t->journal)) + need > journal_max_bytes(t->journal))
		/* What frees nothing now is no reason to drop all. */
		if (!channel_drop_oldest(t, channel) || journal_n_bytes(t->journal) >= n)
			return;
	/* What was dropped behind those in the air still takes the disk, which is bounded, too. */
	while (!journal_has_room(t->journal, n_messages, n_bytes))
		if (!channel_drop_sent(t, channel))
			return;
}

int telemetry_reserve(struct telemetry *t, struct channel *channel, uint64_t n_messages, uint64_t n_bytes,
		      uint64_t n_held)
{
	uint64_t bytes = messages_bytes(channel, n_messages, n_bytes);
	int r;

	if (channel->when_full == CHANNEL_FULL_DROP_OLDEST &&
	    !journal_has_room(t->journal, n_messages, bytes + n_held) &&
	    channel_can_make_room(t, channel, n_messages, bytes + n_held))
		channel_make_room(t, channel, n_messages, bytes + n_held);
	if (!journal_has_room(t->journal, n_messages, bytes + n_held))
		return telemetry_full(t);
	if (!n_messages)
		return 0;
	r = journal_reserve(channel->lane, n_messages, bytes);
	if (r)
		t->was_full = true;
	return r;
}

bool telemetry_is_writable(struct telemetry *t, struct channel *channel)
{
	uint64_t bytes = messages_bytes(channel, 1, telemetry_payload_max(t, channel));

	if (t->closed)
		return false;
	if (journal_has_room(t->journal, 1, bytes) || journal_n_bytes(t->journal) == 0)
		return true;
	if (channel->when_full == CHANNEL_FULL_DROP_OLDEST && channel_can_make_room(t, channel, 1, bytes))
		return true;
	t->was_full = true;
	return false;
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

void telemetry_on_room(struct telemetry *t)
{
	struct journal_stats stats;

	journal_stats(t->journal, &stats);
	/* What could not be read is tried again. */
	if (stats.error)
		link_kick(t->link);
	if (t->was_full || waiters_have_lost(t->waiters))
		loop_defer(t->loop, &t->release);
}

/* Once a turn: everybody who waited for room. */
static void telemetry_release(struct loop_deferred *deferred)
{
	struct telemetry *t = container_of(deferred, struct telemetry, release);
	struct channel *channel = channels_default(t->channels);
	struct journal_cursor next;

	if (waiters_have_lost(t->waiters))
		telemetry_tell_lost(t);
	if (t->told_full &&
	    journal_has_room(t->journal, 1, messages_bytes(channel, 1, telemetry_payload_max(t, channel))))
		t->told_full = false;
	if (t->was_full) {
		/* Whoever finds no room again says so again. */
		t->was_full = false;
		if (t->on_room)
			t->on_room(t->userdata);
	}
	if (t->on_empty && !t->n_air && !t->n_resend && !journal_next_unsent(t->journal, &next))
		t->on_empty(t->userdata);
}

/* --- append ----------------------------------------------------------------------------------- */

/* A commit says up to which number of all it stored: when the first message behind its last one comes, it is known how many
 * of the channel's are up to there. */
static void channel_mark(const struct telemetry *t, struct channel *channel)
{
	uint64_t sequence = journal_committed_last(t->journal);

	if (channel->mark_sequence == sequence)
		return;
	channel->mark_sequence = sequence;
	channel->mark_n = channel->stats.n_appended;
}

static int telemetry_commit(struct telemetry *t, struct channel *channel, uint64_t *sequence)
{
	int r = journal_commit(channel->lane, sequence);

	if (r) {
		t->was_full = true;
		return r;
	}
	channel_mark(t, channel);
	++t->stats.n_written;
	++channel->stats.n_appended;
	channel->last_sequence = *sequence;
	link_kick(t->link);
	return 0;
}

int telemetry_append(struct telemetry *t, struct channel *channel, struct origin *origin, struct bytes head,
		     struct bytes tail, uint64_t *sequence)
{
	uint64_t wall_ms = loop_wall_ms(t->loop);
	uint8_t *properties, *payload;
	int r;

	if (channel->ttl_s)
		expiry_arm(t, channel->ttl_s);
	r = journal_append(channel->lane, origin ? origin->id : 0, wall_ms, channel_properties_len(channel),
			   head.len + tail.len, &properties, &payload);
	if (r) {
		t->was_full = true;
		return r;
	}
	stamp_put(&channel->stamp, journal_appended(t->journal) + 1, wall_ms, properties);
	if (head.len)
		memcpy(payload, head.data, head.len);
	if (tail.len)
		memcpy(payload + head.len, tail.data, tail.len);
	r = telemetry_commit(t, channel, sequence);
	if (!r && origin)
		origin_appended(origin, *sequence, journal_stored(t->journal));
	return r;
}

int telemetry_append_again(struct telemetry *t, struct channel *channel, struct bytes properties,
			   struct bytes payload)
{
	uint8_t *properties_at, *payload_at;
	uint64_t sequence;
	int r;

	if (channel->ttl_s)
		expiry_arm(t, channel->ttl_s);
	r = journal_append(channel->lane, 0, loop_wall_ms(t->loop), properties.len, payload.len,
			   &properties_at, &payload_at);
	if (r) {
		t->was_full = true;
		return r;
	}
	if (properties.len)
		memcpy(properties_at, properties.data, properties.len);
	if (payload.len)
		memcpy(payload_at, payload.data, payload.len);
	return telemetry_commit(t, channel, &sequence);
}

/* --- stored ----------------------------------------------------------------------------------- */

static void channel_on_stored(struct channel *channel, uint64_t sequence, int error)
{
	bool is_all = channel->last_sequence <= sequence;
	uint64_t n = is_all ? channel->stats.n_appended : channel->mark_n;

	if ((!is_all && channel->mark_sequence > sequence) || n <= channel->n_settled)
		return;
	/* What a commit could not store, no later one does. */
	if (!error)
		channel->stats.n_stored += n - channel->n_settled;
	channel->n_settled = n;
	channel->settled_sequence = is_all ? sequence : channel->mark_sequence;
}

void channel_take_back(struct channel *channel, uint64_t sequence)
{
	--channel->stats.n_appended;
	if (sequence <= channel->mark_sequence)
		--channel->mark_n;
	if (sequence > channel->settled_sequence)
		return;
	--channel->n_settled;
	if (channel->stats.n_stored > channel->n_settled)
		channel->stats.n_stored = channel->n_settled;
}

void telemetry_on_stored(struct telemetry *t, uint64_t sequence, int error)
{
	if (error)
		waiters_on_not_stored(t->waiters, sequence, error, telemetry_withdraw_write, t);
	else
		waiters_on_stored(t->waiters, sequence);
	for (struct channel *c = NULL; (c = channels_next(t->channels, c));)
		channel_on_stored(c, sequence, error);
}

/* --- outcomes and counters -------------------------------------------------------------------- */

void telemetry_settle(struct telemetry *t, uint64_t origin_id, uint64_t sequence, int error)
{
	struct origin *origin = origin_find(t->waiters, origin_id);

	if (origin) {
		origin->refused = 0;
		/* A parked write gets the error itself. */
		if (error && !origin->error && !origin_waits_for(origin, sequence, WAIT_STORED))
			origin->error = error;
		/* Who is told that a message is done with does not meet it again, whatever becomes of this process. */
		if (origin_answers(origin, sequence))
			journal_flush_states(t->journal);
		origin_record_done(origin, sequence, error);
	}
	loop_defer(t->loop, &t->release);
}

void telemetry_count_full(struct telemetry *t)
{
	++t->stats.n_full;
}

void telemetry_stats(const struct telemetry *t, struct telemetry_stats *out)
{
	struct journal_lane_key key;

	*out = t->stats;
	out->n_queued = 0;
	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));) {
		journal_lane_key(lane, &key);
		if (key.kind == JOURNAL_KIND_QUEUE)
			out->n_queued += journal_lane_n_records(lane);
	}
	out->n_in_flight = 0;
	list_for_each (link, &t->air)
		out->n_in_flight += container_of(link, struct flight, link)->state == FLIGHT_SENT;
	out->queue_bytes = journal_n_bytes(t->journal);
	out->queue_bytes_max = journal_max_bytes(t->journal);
	out->last_refusal = t->last_refusal;
}
