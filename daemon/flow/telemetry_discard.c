/* SPDX-License-Identifier: MIT */
/*
 * Messages that leave the queue without an outcome of the hub: dropped for newer ones of their channel, expired, or
 * withdrawn. One that is in the air at that moment goes, and what the hub says about it concerns nobody.
 *
 * Dropping takes the oldest message that is not in the air and of which nobody waits to hear the hub's word; one with
 * such a waiter only when there is no other, and one in the air, which may be delivered all the same, last.
 *
 * Expiry. All records of a lane live equally long, so only the first of each lane matters: one timer is armed for
 * the earliest of them. What is behind a message in the air is looked at, too; what stands in the way of nobody is
 * found when it would be sent.
 *
 * Records have the wall clock's time, so that they age while no daemon runs. But a machine without a clock of its
 * own starts in the past, and is set right when it is online: what was written meanwhile must not be old all at
 * once. So steps of the clock are noted, and do not count for the records of this daemon that were there before
 * them. What an earlier daemon wrote before its clock was set, as its time shows, ages from this one's start.
 *
 * `events` is told of drops and expiries once a second, with their number.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/time.h"
#include "flow/telemetry_internal.h"
#include "hub/token.h"

/* Until expiry looks at the clock again. */
#define EXPIRY_LOOK_NS (60 * NSEC_PER_SEC)
/* Messages of a lane that are looked at for one to drop: all that are in the air, and some more. */
#define DROP_LOOK_MAX (LINK_WINDOW_MAX + 256)
/* Messages that expire in one turn of the loop. */
#define EXPIRY_TURN_MAX 4096
#define TALLY_NS        NSEC_PER_SEC
/* By which the two clocks may differ before somebody set one. */
#define CLOCK_STEP_MS 2000

static void telemetry_on_expiry(struct loop_timer *timer, uint64_t now_ns);
static void telemetry_on_tell(struct loop_timer *timer, uint64_t now_ns);
static uint64_t lanes_first_ms_left(struct telemetry *t);
static int64_t clock_difference_ms(const struct telemetry *t);
static int64_t clock_suspended_ms(void);

void discard_init(struct telemetry *t)
{
	t->recovered = journal_appended(t->journal);
	t->start_ns = loop_now_ns(t->loop);
	t->clock_ms = clock_difference_ms(t);
	t->suspended_ms = clock_suspended_ms();
	loop_timer_init(&t->expiry, telemetry_on_expiry);
	loop_timer_init(&t->tell, telemetry_on_tell);
	/* What an earlier daemon left. */
	if (lanes_first_ms_left(t) != UINT64_MAX)
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
		int r = journal_read(at, &record);

		origin = record.origin;
		if (is_first)
			journal_mark_done(t->journal, &copy);
		else
			journal_withdraw(t->journal, &copy);
		if (r) {
			telemetry_settle_unread(t, copy.lane, copy.sequence, error);
			return;
		}
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
	uint64_t own = 0;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));)
		if (lane_is_of(lane, channel->number))
			own += journal_lane_n_bytes(lane);
	/* More than the bound can be in use: an earlier daemon had another one. */
	return journal_n_bytes(t->journal) + n_bytes + n_messages * JOURNAL_RECORD_OVERHEAD <=
	       journal_max_bytes(t->journal) + own;
}

/* How much it hurts to drop a message: the least goes first. */
enum drop_rank {
	DROP_WAITS,   /* nobody waits for the hub to have it */
	DROP_AWAITED, /* a write does */
	DROP_IN_AIR,
	N_DROP_RANKS,
};

static enum drop_rank record_drop_rank(struct telemetry *t, const struct journal_cursor *at)
{
	const struct flight *flight = NULL;
	struct journal_record record = {.origin = 0};
	struct origin *origin;

	if (journal_is_sent(at)) {
		/* Mostly all of them are, and there can be many. */
		flight = t->n_resend ? flight_of(t, at) : NULL;
		if (!flight || flight->state == FLIGHT_SENT)
			return DROP_IN_AIR;
	}
	if (!flight)
		(void)journal_read(at, &record);
	origin = origin_find(t->waiters, flight ? flight->origin : record.origin);
	return origin && origin_waits_for(origin, at->sequence, WAIT_HUB) ? DROP_AWAITED : DROP_WAITS;
}

/* What is dropped first; rank N_DROP_RANKS: nothing. */
struct drop_choice {
	enum drop_rank rank;
	bool is_first; /* of its lane */
	struct journal_cursor at;
};

static void lane_choose_drop(struct telemetry *t, struct journal_lane *lane, struct drop_choice *best)
{
	struct journal_cursor at, next;
	bool found = journal_first(lane, &at), is_first = true;

	for (unsigned int n = 0; found && n < DROP_LOOK_MAX; ++n) {
		enum drop_rank rank = record_drop_rank(t, &at);

		if (rank < best->rank || (rank == best->rank && at.sequence < best->at.sequence))
			*best = (struct drop_choice){.rank = rank, .is_first = is_first, .at = at};
		if (rank == DROP_WAITS)
			return;
		is_first = false;
		found = journal_next(&at, &next);
		if (found)
			at = next;
	}
}

/* What is sent next is the one, when nothing of the channel is in another lane: without a look at all in the air. */
static bool channel_choose_next(struct telemetry *t, const struct channel *channel, struct drop_choice *out)
{
	struct journal_cursor first;

	if (t->n_resend || !journal_next_unsent(t->journal, &out->at))
		return false;
	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));)
		if (lane_is_of(lane, channel->number) && journal_lane_n_records(lane) > 0 &&
		    lane != out->at.lane)
			return false;
	if (!lane_is_of(out->at.lane, channel->number))
		return false;
	out->rank = record_drop_rank(t, &out->at);
	out->is_first = journal_first(out->at.lane, &first) && first.sequence == out->at.sequence;
	return out->rank == DROP_WAITS;
}

static struct drop_choice channel_choose_drop(struct telemetry *t, const struct channel *channel)
{
	struct drop_choice choice = {.rank = N_DROP_RANKS};

	if (channel_choose_next(t, channel, &choice))
		return choice;
	choice = (struct drop_choice){.rank = N_DROP_RANKS};
	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));)
		if (lane_is_of(lane, channel->number))
			lane_choose_drop(t, lane, &choice);
	return choice;
}

static void channel_drop(struct telemetry *t, struct channel *channel, const struct journal_cursor *at,
			 bool is_first)
{
	++channel->stats.n_dropped;
	tally_count(t, TALLY_DROPPED, channel->number);
	/* The hub may have what was sent. */
	record_discard(t, at, is_first, journal_is_sent(at) ? -ETIMEDOUT : -ENOSPC);
}

bool channel_drop_oldest(struct telemetry *t, struct channel *channel)
{
	struct drop_choice choice = channel_choose_drop(t, channel);

	if (choice.rank == N_DROP_RANKS)
		return false;
	channel_drop(t, channel, &choice.at, choice.is_first);
	return true;
}

bool channel_drop_sent(struct telemetry *t, struct channel *channel)
{
	struct journal_cursor at, oldest = {.lane = NULL};

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));)
		if (lane_is_of(lane, channel->number) && journal_first(lane, &at) && journal_is_sent(&at) &&
		    (!oldest.lane || at.sequence < oldest.sequence))
			oldest = at;
	if (!oldest.lane)
		return false;
	channel_drop(t, channel, &oldest, true);
	return true;
}

/* Whether the lane has not been freed: what was in it may have become unreadable. */
static bool lane_is_there(struct telemetry *t, const struct journal_lane *lane)
{
	struct journal_lane *l = NULL;

	while ((l = journal_next_lane(t->journal, l)) && l != lane)
		;
	return l;
}

/* Records that are done with, or cannot be read. */
static void withdraw_unfound(struct telemetry *t, struct journal_lane *lane, uint64_t first, uint64_t end)
{
	for (uint64_t sequence = first; sequence < end; ++sequence)
		if (journal_withdraw_unfound(lane, sequence))
			telemetry_settle_unread(t, lane, sequence, 0);
}

static void record_withdraw(struct telemetry *t, const struct journal_cursor *at)
{
	struct journal_record record = {.origin = 0};
	struct channel *channel;

	if (journal_is_sent(at))
		return;
	(void)journal_read(at, &record);
	channel = channels_by_number(t->channels, record.channel);
	if (channel)
		channel_take_back(channel, at->sequence);
	--t->stats.n_written;
	journal_withdraw(t->journal, at);
	telemetry_settle(t, record.origin, at->sequence, 0);
}

void telemetry_withdraw(struct telemetry *t, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	struct journal_cursor at, next;
	bool found;

	if (!first || first > last || !lane_is_there(t, lane))
		return;
	/* One after the other: each look for a number reads the lane from its front. */
	for (found = journal_seek(lane, first, &at); found && at.sequence <= last; at = next) {
		withdraw_unfound(t, lane, first, at.sequence);
		first = at.sequence + 1;
		found = journal_next(&at, &next);
		record_withdraw(t, &at);
	}
	withdraw_unfound(t, lane, first, last + 1);
}

void telemetry_withdraw_write(void *userdata, struct fuse_file *file, const struct wait_write *write,
			      int error)
{
	struct telemetry *t = userdata;
	struct journal_record record = {.payload = BYTES(NULL, 0)};
	struct journal_cursor at;

	if (write->on_failed) {
		if (lane_is_there(t, write->lane) && journal_find(write->lane, write->first, &at))
			(void)journal_read(&at, &record);
		write->on_failed(file, write, record.payload, error);
	}
	telemetry_withdraw(t, write->lane, write->first, write->last);
}

/* --- ttl -------------------------------------------------------------------------------------- */

static int64_t clock_difference_ms(const struct telemetry *t)
{
	return (int64_t)loop_wall_ms(t->loop) - (int64_t)(loop_now_ns(t->loop) / NSEC_PER_MSEC);
}

/* How long the machine has slept since it was started. */
static int64_t clock_suspended_ms(void)
{
	struct timespec boot, running;

	if (clock_gettime(CLOCK_BOOTTIME, &boot) || clock_gettime(CLOCK_MONOTONIC, &running))
		return 0;
	return (boot.tv_sec - running.tv_sec) * (int64_t)MSEC_PER_SEC +
	       (boot.tv_nsec - running.tv_nsec) / (int64_t)NSEC_PER_MSEC;
}

static void clock_note_step(struct telemetry *t, int64_t ms)
{
	if (t->n_steps == TELEMETRY_N_STEPS) {
		t->steps[1].ms += t->steps[0].ms;
		memmove(&t->steps[0], &t->steps[1], (TELEMETRY_N_STEPS - 1) * sizeof(t->steps[0]));
		--t->n_steps;
	}
	t->steps[t->n_steps++] = (struct clock_step){journal_appended(t->journal), ms};
	log_info(t->log, "the clock was set by %" PRId64 " s: messages that are queued do not age by that",
		 ms / (int64_t)MSEC_PER_SEC);
}

/* Compares the clocks. Small differences are the wall clock being adjusted. */
static void clock_look(struct telemetry *t)
{
	int64_t difference_ms = clock_difference_ms(t), step_ms = difference_ms - t->clock_ms, suspended_ms;

	t->clock_ms = difference_ms;
	if (step_ms > -CLOCK_STEP_MS && step_ms < CLOCK_STEP_MS)
		return;
	suspended_ms = clock_suspended_ms();
	step_ms -= suspended_ms - t->suspended_ms;
	t->suspended_ms = suspended_ms;
	if (step_ms <= -CLOCK_STEP_MS || step_ms >= CLOCK_STEP_MS)
		clock_note_step(t, step_ms);
}

uint64_t telemetry_age_ms(const struct telemetry *t, uint64_t sequence, uint64_t time_ms)
{
	int64_t wall_ms = (int64_t)loop_wall_ms(t->loop);

	if (sequence <= t->recovered && !hub_clock_is_set(time_ms))
		return (loop_now_ns(t->loop) - t->start_ns) / NSEC_PER_MSEC;
	for (unsigned int i = 0; i < t->n_steps; ++i)
		if (sequence > t->recovered && sequence <= t->steps[i].sequence)
			wall_ms -= t->steps[i].ms;
	return wall_ms > 0 && (uint64_t)wall_ms > time_ms ? (uint64_t)wall_ms - time_ms : 0;
}

/* Until the time of the record is over; 0: it is. */
static uint64_t record_ms_left(const struct telemetry *t, const struct journal_record *record)
{
	uint64_t ttl_ms = record->expires_ms - record->time_ms, age_ms;

	if (record->expires_ms == UINT64_MAX)
		return UINT64_MAX;
	age_ms = telemetry_age_ms(t, record->sequence, record->time_ms);
	return ttl_ms > age_ms ? ttl_ms - age_ms : 0;
}

bool record_is_expired(struct telemetry *t, const struct journal_record *record)
{
	if (record->expires_ms == UINT64_MAX)
		return false;
	clock_look(t);
	return record_ms_left(t, record) == 0;
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

static uint64_t lane_ms_left(struct telemetry *t, struct journal_lane *lane)
{
	struct journal_record record = {.origin = 0};
	struct journal_lane_key key;
	struct journal_cursor at;
	uint64_t time_ms;

	if (!journal_first(lane, &at))
		return UINT64_MAX;
	time_ms = journal_time_ms(&at);
	if (!time_ms)
		return EXPIRY_LOOK_NS / NSEC_PER_MSEC;
	journal_lane_key(lane, &key);
	record.sequence = at.sequence;
	record.time_ms = time_ms;
	record.expires_ms = time_ms + key.ttl_s * MSEC_PER_SEC;
	return record_ms_left(t, &record);
}

/* Until the first of all lanes expires; UINT64_MAX: none does. */
static uint64_t lanes_first_ms_left(struct telemetry *t)
{
	uint64_t least = UINT64_MAX;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));) {
		uint64_t left = lane_expires(lane) ? lane_ms_left(t, lane) : UINT64_MAX;

		if (left < least)
			least = left;
	}
	return least;
}

/* Expires what is due at the front of a lane, at most @n_max records; the lane may be gone then. Returns how many. */
static unsigned int lane_expire(struct telemetry *t, struct journal_lane *lane, unsigned int n_max)
{
	struct journal_cursor at, next;
	bool found = journal_first(lane, &at), is_first = true, has_next;
	struct journal_record record;
	unsigned int n = 0;
	int r;

	for (; found && n < n_max; found = has_next, at = next) {
		if (flight_is_in_air(t, &at)) {
			is_first = false;
			has_next = journal_next(&at, &next);
			continue;
		}
		r = journal_read(&at, &record);
		if (r == -EBADMSG && !journal_is_sent(&at)) {
			/* The journal passes it, now or when what is in the air is through. */
			journal_mark_unread(&at);
			++n;
			is_first = true;
			has_next = journal_first(lane, &next);
			continue;
		}
		if (r || !record_is_expired(t, &record))
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

	clock_look(t);
	if (!loop_timer_is_armed(&t->expiry) || at_ns < t->expiry.at_ns)
		expiry_arm_at(t, at_ns);
}

static void telemetry_on_expiry(struct loop_timer *timer, uint64_t now_ns)
{
	struct telemetry *t = container_of(timer, struct telemetry, expiry);
	struct journal_lane *lane = journal_next_lane(t->journal, NULL), *next;
	unsigned int n = 0;
	uint64_t left_ms;

	clock_look(t);
	for (; lane && n < EXPIRY_TURN_MAX; lane = next) {
		next = journal_next_lane(t->journal, lane);
		if (lane_expires(lane))
			n += lane_expire(t, lane, EXPIRY_TURN_MAX - n);
	}
	left_ms = lanes_first_ms_left(t);
	if (left_ms == UINT64_MAX)
		return;
	if (n == EXPIRY_TURN_MAX)
		loop_timer_arm(t->loop, &t->expiry, now_ns + 1);
	else if (left_ms > EXPIRY_LOOK_NS / NSEC_PER_MSEC)
		expiry_arm_at(t, TIME_NEVER);
	else
		/* What is due and still there is in the air: a moment later. */
		expiry_arm_at(t, now_ns + (left_ms ? left_ms * NSEC_PER_MSEC : NSEC_PER_SEC));
}
