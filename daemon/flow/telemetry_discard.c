/* SPDX-License-Identifier: MIT */
/*
 * Messages that leave the queue without an outcome of the hub: dropped for newer ones of their channel, expired, or
 * withdrawn. One that is in the air at that moment goes, and what the hub says about it concerns nobody.
 *
 * Expiry. All records of a lane live equally long, so only the first of each lane matters: one timer is armed for
 * the earliest of them. Times are wall clock, which somebody can set: the timer looks again every now and then. What
 * is behind a message in the air is looked at, too; what stands in the way of nobody is found when it would be sent.
 *
 * `events` is told of drops and expiries once a second, with their number.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/time.h"
#include "flow/telemetry_internal.h"

/* Until expiry looks at the clock again. */
#define EXPIRY_LOOK_NS (60 * NSEC_PER_SEC)
/* Messages that expire in one turn of the loop. */
#define EXPIRY_TURN_MAX 4096
#define TALLY_NS        NSEC_PER_SEC

static void telemetry_on_expiry(struct loop_timer *timer, uint64_t now_ns);
static void telemetry_on_tell(struct loop_timer *timer, uint64_t now_ns);
static uint64_t lanes_first_expiry_ms(struct telemetry *t);

void discard_init(struct telemetry *t)
{
	loop_timer_init(&t->expiry, telemetry_on_expiry);
	loop_timer_init(&t->tell, telemetry_on_tell);
	/* What an earlier daemon left. */
	if (lanes_first_expiry_ms(t) != UINT64_MAX)
		loop_timer_arm(t->loop, &t->expiry, loop_now_ns(t->loop));
}

void discard_deinit(struct telemetry *t)
{
	loop_timer_disarm(&t->expiry);
	loop_timer_disarm(&t->tell);
}

/* --- telling ---------------------------------------------------------------------------------- */

static void tally_tell(struct telemetry *t, enum tally_kind kind)
{
	static const char *const events[N_TALLIES] = {
		[TALLY_DROPPED] = "dropped",
		[TALLY_EXPIRED] = "expired",
	};
	struct tally *tally = &t->tallies[kind];
	const struct channel *channel = channels_by_number(t->channels, tally->channel);
	const char *name = channel ? channel->name : "a removed one";
	char text[192];

	if (!tally->n)
		return;
	snprintf(text, sizeof(text), "%" PRIu64 " message%s of %s%s", tally->n, tally->n == 1 ? "" : "s",
		 tally->is_mixed ? "several channels" : "channel ", tally->is_mixed ? "" : name);
	tally->n = 0;
	telemetry_event(t, events[kind], text);
}

void tallies_tell(struct telemetry *t)
{
	loop_timer_disarm(&t->tell);
	for (enum tally_kind kind = 0; kind < N_TALLIES; ++kind)
		tally_tell(t, kind);
}

static void telemetry_on_tell(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	tallies_tell(container_of(timer, struct telemetry, tell));
}

static void tally_count(struct telemetry *t, enum tally_kind kind, uint16_t channel)
{
	struct tally *tally = &t->tallies[kind];

	tally->is_mixed = tally->n && (tally->is_mixed || tally->channel != channel);
	tally->channel = channel;
	++tally->n;
	if (!loop_timer_is_armed(&t->tell))
		loop_timer_arm(t->loop, &t->tell, loop_now_ns(t->loop) + TALLY_NS);
}

/* --- out of the queue ------------------------------------------------------------------------- */

/* Takes a record out that is the first of its lane, or was sent, or neither. */
static void record_discard(struct telemetry *t, const struct journal_cursor *at, bool is_first, int error)
{
	struct journal_record record = {.origin = 0};
	struct journal_cursor copy = *at;
	uint64_t origin;

	if (journal_is_sent(at)) {
		struct flight *flight = flight_of(t, at);

		assert(flight);
		origin = flight->origin;
		flight_abandon(t, flight);
		journal_mark_done(t->journal, &copy);
	} else {
		(void)journal_read(at, &record);
		origin = record.origin;
		if (is_first)
			journal_mark_done(t->journal, &copy);
		else
			journal_withdraw(t->journal, &copy);
	}
	telemetry_settle(t, origin, copy.sequence, error);
}

/* The lane whose key is in @key, when it is a channel's own. */
static bool lane_is_of(const struct journal_lane *lane, uint16_t channel)
{
	struct journal_lane_key key;

	journal_lane_key(lane, &key);
	return key.kind == JOURNAL_KIND_QUEUE && key.channel == channel;
}

bool channel_can_make_room(struct telemetry *t, const struct channel *channel, uint64_t n_messages,
			   uint64_t n_bytes)
{
	uint64_t room = journal_max_bytes(t->journal) - journal_n_bytes(t->journal);

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));)
		if (lane_is_of(lane, channel->number))
			room += journal_lane_n_bytes(lane);
	return n_bytes + n_messages * JOURNAL_RECORD_OVERHEAD <= room;
}

bool channel_drop_oldest(struct telemetry *t, struct channel *channel)
{
	struct journal_cursor at, oldest = {.lane = NULL};

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));)
		if (lane_is_of(lane, channel->number) && journal_first(lane, &at) &&
		    (!oldest.lane || at.sequence < oldest.sequence))
			oldest = at;
	if (!oldest.lane)
		return false;
	++channel->stats.n_dropped;
	tally_count(t, TALLY_DROPPED, channel->number);
	record_discard(t, &oldest, true, -ENOSPC);
	return true;
}

void telemetry_withdraw(struct telemetry *t, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	for (uint64_t sequence = last; sequence >= first && sequence; --sequence) {
		struct journal_record record = {.origin = 0};
		struct journal_cursor at;
		struct channel *channel;

		if (!journal_find(lane, sequence, &at) || journal_is_sent(&at))
			continue;
		(void)journal_read(&at, &record);
		channel = channels_by_number(t->channels, record.channel);
		if (channel)
			--channel->stats.n_appended;
		--t->stats.n_written;
		journal_withdraw(t->journal, &at);
		telemetry_settle(t, record.origin, sequence, 0);
	}
}

/* --- ttl -------------------------------------------------------------------------------------- */

bool record_is_expired(const struct telemetry *t, const struct journal_record *record)
{
	return record->expires_ms <= loop_wall_ms(t->loop);
}

void count_expired(struct telemetry *t, uint16_t number)
{
	struct channel *channel = channels_by_number(t->channels, number);

	if (channel)
		++channel->stats.n_expired;
	tally_count(t, TALLY_EXPIRED, number);
}

static bool lane_expires(const struct journal_lane *lane)
{
	struct journal_lane_key key;

	journal_lane_key(lane, &key);
	return key.kind == JOURNAL_KIND_QUEUE && key.ttl_s > 0;
}

static bool flight_is_in_air(struct telemetry *t, const struct journal_cursor *at)
{
	struct flight *flight = journal_is_sent(at) ? flight_of(t, at) : NULL;

	return flight && flight->state == FLIGHT_SENT;
}

/* When the first of all lanes expires; UINT64_MAX: none does. */
static uint64_t lanes_first_expiry_ms(struct telemetry *t)
{
	uint64_t earliest = UINT64_MAX;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));) {
		struct journal_record record;
		struct journal_cursor at;

		if (!lane_expires(lane) || !journal_first(lane, &at))
			continue;
		if (journal_read(&at, &record))
			continue;
		if (record.expires_ms < earliest)
			earliest = record.expires_ms;
	}
	return earliest;
}

/* Expires what is due at the front of a lane, at most @n_max records; the lane may be gone then. Returns how many. */
static unsigned int lane_expire(struct telemetry *t, struct journal_lane *lane, unsigned int n_max)
{
	struct journal_cursor at, next;
	bool found = journal_first(lane, &at), is_first = true, has_next;
	struct journal_record record;
	unsigned int n = 0;

	for (; found && n < n_max; found = has_next, at = next) {
		if (flight_is_in_air(t, &at)) {
			is_first = false;
			has_next = journal_next(&at, &next);
			continue;
		}
		/* One that became unreadable is found when it is sent. */
		if (journal_read(&at, &record) || !record_is_expired(t, &record))
			break;
		has_next = journal_next(&at, &next);
		count_expired(t, record.channel);
		record_discard(t, &at, is_first, -ETIMEDOUT);
		++n;
	}
	return n;
}

static void expiry_arm_at(struct telemetry *t, uint64_t at_ns)
{
	uint64_t look_ns = loop_now_ns(t->loop) + EXPIRY_LOOK_NS;

	loop_timer_arm(t->loop, &t->expiry, at_ns < look_ns ? at_ns : look_ns);
}

void expiry_arm(struct telemetry *t, uint32_t ttl_s)
{
	uint64_t at_ns = loop_now_ns(t->loop) + ttl_s * NSEC_PER_SEC;

	if (!loop_timer_is_armed(&t->expiry) || at_ns < t->expiry.at_ns)
		expiry_arm_at(t, at_ns);
}

static void telemetry_on_expiry(struct loop_timer *timer, uint64_t now_ns)
{
	struct telemetry *t = container_of(timer, struct telemetry, expiry);
	uint64_t wall_ms = loop_wall_ms(t->loop), earliest_ms, wait_ms;
	struct journal_lane *lane = journal_next_lane(t->journal, NULL), *next;
	unsigned int n = 0;

	for (; lane && n < EXPIRY_TURN_MAX; lane = next) {
		next = journal_next_lane(t->journal, lane);
		if (lane_expires(lane))
			n += lane_expire(t, lane, EXPIRY_TURN_MAX - n);
	}
	earliest_ms = lanes_first_expiry_ms(t);
	if (earliest_ms == UINT64_MAX)
		return;
	wait_ms = earliest_ms > wall_ms ? earliest_ms - wall_ms : 0;
	if (n == EXPIRY_TURN_MAX)
		loop_timer_arm(t->loop, &t->expiry, now_ns + 1);
	else if (wait_ms > EXPIRY_LOOK_NS / NSEC_PER_MSEC)
		expiry_arm_at(t, TIME_NEVER);
	else
		/* What is due and still there is in the air: a moment later. */
		expiry_arm_at(t, now_ns + (wait_ms ? wait_ms * NSEC_PER_MSEC : NSEC_PER_SEC));
}
