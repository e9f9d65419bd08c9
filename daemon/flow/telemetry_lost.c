/* SPDX-License-Identifier: MIT */
/*
 * Messages that became unreadable before they were sent: the journal passes over them, and who waits for one gets EIO.
 *
 * Whose they were stood in the records. Writes that wait know their numbers (waiters.h). For an fsync, and for the error
 * that the next one reports, it is found out by what is left: as long as a file of the channel is in doubt, each turn looks
 * how far the channel's messages are through.
 */

#include <errno.h>

#include "flow/telemetry_internal.h"

void telemetry_on_lost(struct telemetry *t, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	struct journal_lane_key key;

	journal_lane_key(lane, &key);
	if (key.kind != JOURNAL_KIND_QUEUE)
		return;
	waiters_on_lost(t->waiters, lane, key.channel, first, last);
	/* Not from within the journal. */
	loop_defer(t->loop, &t->release);
}

void telemetry_settle_unread(struct telemetry *t, struct journal_lane *lane, uint64_t sequence, int error)
{
	struct origin *origin = waiters_writer(t->waiters, sequence);

	if (!origin && sequence > t->recovered)
		telemetry_on_lost(t, lane, sequence, sequence);
	telemetry_settle(t, origin ? origin->id : 0, sequence, error);
}

/* All messages of the channel with smaller numbers have their outcome. */
static uint64_t channel_first_left(struct telemetry *t, uint16_t channel)
{
	uint64_t first = UINT64_MAX;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(t->journal, lane));) {
		struct journal_lane_key key;
		uint64_t unsent;

		journal_lane_key(lane, &key);
		if (key.kind != JOURNAL_KIND_QUEUE || key.channel != channel)
			continue;
		unsent = journal_first_unsent(lane);
		if (unsent < first)
			first = unsent;
	}
	for (size_t i = 0; i < LINK_WINDOW_MAX; ++i) {
		const struct flight *flight = &t->flights[i];

		if ((flight->state == FLIGHT_SENT || flight->state == FLIGHT_RESEND) &&
		    flight->channel == channel && flight->at.sequence < first)
			first = flight->at.sequence;
	}
	return first;
}

void telemetry_tell_lost(struct telemetry *t)
{
	struct origin *origin, *next;

	waiters_fail_lost(t->waiters, telemetry_withdraw_write, t);
	for (origin = waiters_next_doubtful(t->waiters, NULL); origin; origin = next) {
		uint64_t left = channel_first_left(t, origin->channel);

		/* That look may have found more. */
		waiters_fail_lost(t->waiters, telemetry_withdraw_write, t);
		next = waiters_next_doubtful(t->waiters, origin);
		origin_settle_doubt(origin, left);
	}
}
