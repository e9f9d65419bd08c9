/* SPDX-License-Identifier: MIT */
/*
 * Walking a lane, reading its records and ending them. What is read lies in a mapping: of a segment that is held for
 * the sender, or of the one pinned for the last reader.
 */

#include <assert.h>
#include <errno.h>

#include "base/time.h"
#include "journal/internal.h"

/* --- walking ---------------------------------------------------------------------------------- */

/* Where the run ends that is at the end of @run: they are one. False: there is none. */
static bool run_join(const struct journal_segment *segment, struct journal_run *run)
{
	for (int i = 0; i < JOURNAL_SEGMENT_RUNS; ++i) {
		const struct journal_run *known = &segment->runs[i];

		if (run->to < known->from || run->to >= known->to)
			continue;
		run->from = known->from < run->from ? known->from : run->from;
		run->to = known->to;
		return true;
	}
	return false;
}

/* Remembers it in the place of what it has in it, or else of the shortest one. */
static void run_remember(struct journal_segment *segment, struct journal_run run)
{
	struct journal_run *shortest = &segment->runs[0];

	if (run.from == run.to)
		return;
	for (int i = 0; i < JOURNAL_SEGMENT_RUNS; ++i) {
		struct journal_run *known = &segment->runs[i];

		if (run.from <= known->from && known->to <= run.to)
			*known = (struct journal_run){0};
		if (known->to - known->from < shortest->to - shortest->from)
			shortest = known;
	}
	if (run.to - run.from > shortest->to - shortest->from)
		*shortest = run;
}

/* As lane_walk(), in one segment from the offset on. */
static bool segment_walk(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset,
			 uint64_t sequence, struct journal_cursor *out)
{
	struct journal_run run = {offset, offset};
	struct lane_found found;

	for (;;) {
		bool is_gone;

		while (run_join(segment, &run))
			;
		/* With nothing left it need not even be mapped. */
		if (run.to >= segment->head || journal_pin(lane->journal, segment))
			break;
		offset = lane_search(lane, segment, run.to, 0, &found);
		if (offset >= segment->head)
			break;
		is_gone = found.is_withdrawn || lane_is_done(lane, found.header.index);
		if (!is_gone || offset != run.to) {
			run_remember(segment, run);
			run.from = is_gone ? offset : offset + found.size;
		}
		run.to = offset + found.size;
		if (is_gone || found.header.sequence < sequence)
			continue;
		*out = (struct journal_cursor){.lane = lane,
					       .segment = segment,
					       .sequence = found.header.sequence,
					       .index = found.header.index,
					       .offset = offset,
					       .size = found.size};
		return true;
	}
	run_remember(segment, run);
	return false;
}

/*
 * The first record at or behind the place that is not done and has at least the number. Damage on the way is stepped
 * over in silence: it is counted when the sender meets it.
 */
static bool lane_walk(struct journal_lane *lane, struct journal_place from, uint64_t sequence,
		      struct journal_cursor *out)
{
	struct journal_segment *segment = from.segment;
	uint64_t offset = from.offset;

	while (segment) {
		if (segment->last_sequence >= sequence && segment_walk(lane, segment, offset, sequence, out))
			return true;
		segment = lane_after(lane, segment);
		offset = segment ? segment->state.done_offset : 0;
	}
	return false;
}

bool journal_first(struct journal_lane *lane, struct journal_cursor *out)
{
	enum lane_next r = lane_resolve(lane);
	struct journal_segment *first;

	lane_advance(lane);
	first = lane_first(lane);
	if (!first)
		return false;
	if (r == LANE_READY && !lane_in_flight(lane)) {
		*out = lane_next_cursor(lane);
		return true;
	}
	lane_settle_front(lane);
	return lane_walk(lane, (struct journal_place){.segment = first, .offset = first->state.done_offset},
			 0, out);
}

bool journal_next(const struct journal_cursor *at, struct journal_cursor *out)
{
	struct journal_place from = {.segment = at->segment, .offset = at->offset};

	return lane_walk(at->lane, from, at->sequence + 1, out);
}

bool journal_seek(struct journal_lane *lane, uint64_t sequence, struct journal_cursor *out)
{
	struct journal_segment *first = lane_first(lane);

	return first &&
	       lane_walk(lane, (struct journal_place){.segment = first, .offset = first->state.done_offset},
			 sequence, out);
}

bool journal_find(struct journal_lane *lane, uint64_t sequence, struct journal_cursor *out)
{
	return journal_seek(lane, sequence, out) && out->sequence == sequence;
}

bool journal_is_sent(const struct journal_cursor *at)
{
	return at->index < at->lane->next.index;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Looks at the record of a cursor; its segment is mapped then. Returns 0, -EBADMSG, or -EIO: a page cannot be read. */
static int cursor_look(const struct journal_cursor *at, struct lane_found *found)
{
	struct journal_segment *segment = at->segment;

	if (journal_pin(at->lane->journal, segment))
		return -EIO;
	if (lane_look(at->lane, segment, at->offset, at->index, found) && !found->is_withdrawn &&
	    found->header.index == at->index && found->header.sequence == at->sequence)
		return 0;
	if (!segment_was_hit(segment) && !segment->is_torn)
		return -EBADMSG;
	lane_remap(at->lane, segment);
	return -EIO;
}

static int cursor_read(const struct journal_cursor *at, struct lane_found *found)
{
	struct journal_lane *lane = at->lane;
	struct journal *j = lane->journal;
	int r = cursor_look(at, found);

	if (r == -EIO && !lane_on_read_error(lane, at->segment, disk_error_now(j)))
		r = -EBADMSG;
	/* Of the next record as many attempts are made as of this one. */
	if (r != -EIO && lane->n_read_errors) {
		lane->n_read_errors = 0;
		disk_on_read(j, 0);
	}
	/* One that is not sent is counted when the sender meets it. */
	if (r == -EBADMSG && journal_is_sent(at))
		damage_note(j, at->segment, at->offset, at->offset + JOURNAL_RECORD_HEADER_BYTES, 1);
	return r;
}

int journal_read(const struct journal_cursor *at, struct journal_record *out)
{
	struct lane_found found;
	const struct journal_header *header = &found.header;
	const uint8_t *data;
	int r = cursor_read(at, &found);

	if (r)
		return r;
	data = at->segment->map + at->offset + JOURNAL_RECORD_HEADER_BYTES;
	*out = (struct journal_record){
		.sequence = header->sequence,
		.origin = header->sequence <= at->lane->journal->recovered ? 0 : header->origin,
		.time_ms = header->time_ms,
		.expires_ms = UINT64_MAX,
		.channel = header->channel,
		.priority = header->priority,
		.properties = BYTES(data, header->properties_len),
		.payload = BYTES(data + header->properties_len, header->payload_len),
	};
	if (header->ttl_s && header->time_ms <= UINT64_MAX - header->ttl_s * MSEC_PER_SEC)
		out->expires_ms = header->time_ms + header->ttl_s * MSEC_PER_SEC;
	return 0;
}

uint64_t journal_time_ms(const struct journal_cursor *at)
{
	struct lane_found found;

	return cursor_look(at, &found) ? 0 : found.header.time_ms;
}

/* --- ending ----------------------------------------------------------------------------------- */

/* A withdrawn record counts no more, though it lies there. */
static void lane_take_off(struct journal_lane *lane, struct journal_segment *segment, uint64_t size)
{
	lane_uncount(lane, segment, 1, size);
	segment->n_withdrawn += size;
	lane->journal->n_withdrawn += size;
}

/*
 * A recovered segment is counted by its end: nobody has looked at what an earlier daemon withdrew in it. That is done
 * once, when one of its records is withdrawn, the one at @but: from then on every withdrawn one is known not to count.
 */
static void lane_count_withdrawn(struct journal_lane *lane, struct journal_segment *segment, uint64_t but)
{
	const struct journal_place *next = &lane->next;
	bool is_next = segment == next->segment;
	uint64_t offset = is_next ? next->offset : segment->state.done_offset;
	uint64_t index = is_next ? next->index : segment->state.done_index, n_withdrawn;
	struct lane_found found;

	segment->is_counted = true;
	for (; offset < segment->head; offset += found.size) {
		n_withdrawn = segment->n_withdrawn;
		offset = lane_search(lane, segment, offset, index, &found);
		if (offset >= segment->head)
			return;
		index = found.header.index + 1;
		/* That look may have withdrawn it (unseen.c). The bytes of one with a bit go when next passes. */
		if (found.is_withdrawn && offset != but && n_withdrawn == segment->n_withdrawn &&
		    found.header.sequence <= lane->journal->recovered &&
		    !lane_is_done(lane, found.header.index))
			lane_take_off(lane, segment, found.size);
	}
}

/* Whether next passes what is withdrawn there as soon as it looks. */
static bool lane_passes(struct journal_lane *lane, const struct journal_segment *segment, uint64_t offset)
{
	const struct journal_place *next = &lane->next;

	return segment == next->segment && offset == next->offset &&
	       next->index - lane_first(lane)->state.done_index < JOURNAL_WINDOW;
}

void lane_withdraw(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset,
		   uint64_t sequence, uint64_t size)
{
	journal_record_withdraw(segment->map + offset);
	if (sequence > lane->journal->recovered || segment->is_counted ||
	    !lane_passes(lane, segment, offset)) {
		if (!segment->is_counted)
			lane_count_withdrawn(lane, segment, offset);
		lane_take_off(lane, segment, size);
	}
	if (segment->n_records == 0 && segment != lane->active)
		lane_shrink_later(lane);
}

/* The disk cannot be read now: next passes the record as one that an earlier daemon was done with. */
static void lane_withdraw_unseen(struct journal_lane *lane, const struct journal_cursor *at)
{
	if (lane_is_done(lane, at->index))
		return;
	if (at->index - lane_first(lane)->state.done_index >= JOURNAL_WINDOW) {
		unseen_add(lane->journal, at->segment, at->sequence);
		return;
	}
	lane_set_bit(lane, at->index);
	lane_uncount(lane, at->segment, 1, 0);
	lane_touch(lane, at->segment);
}

void journal_withdraw(struct journal *j, const struct journal_cursor *at)
{
	struct journal_lane *lane = at->lane;
	struct lane_found found;
	int r;

	(void)j;
	assert(!journal_is_sent(at));
	r = cursor_look(at, &found);
	if (!r)
		lane_withdraw(lane, at->segment, at->offset, at->sequence, at->size);
	else if (r == -EIO)
		lane_withdraw_unseen(lane, at);
	/* Otherwise it is damage, and the sender meets it. */
	if (lane->next.index != at->index)
		return;
	lane->next.is_resolved = false;
	lane_resolve(lane);
	lane_advance(lane);
}

bool journal_withdraw_unfound(struct journal_lane *lane, uint64_t sequence)
{
	struct journal_segment *segment = lane_first(lane);

	while (segment && segment->last_sequence < sequence)
		segment = lane_after(lane, segment);
	if (!segment ||
	    (!journal_pin(lane->journal, segment) && !segment_was_hit(segment) && !segment->is_torn))
		return false;
	unseen_add(lane->journal, segment, sequence);
	return true;
}

void journal_mark_done(struct journal *j, const struct journal_cursor *at)
{
	struct journal_lane *lane = at->lane;
	struct journal_segment *first = lane_first(lane);

	if (!journal_is_sent(at)) {
		/* Where it is the first one, the front moves over it at once. */
		journal_withdraw(j, at);
		return;
	}
	assert(!lane_is_done(lane, at->index));
	if (first == at->segment && first->state.done_index == at->index)
		first->state.done_offset = at->offset + at->size;
	lane_uncount(lane, at->segment, 1, at->size);
	lane_set_bit(lane, at->index);
	lane_touch(lane, at->segment);
	lane_advance(lane);
}
