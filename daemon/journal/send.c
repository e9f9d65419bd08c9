/* SPDX-License-Identifier: MIT */
/*
 * Which record of a lane goes out next, and where its front is.
 *
 * next is resolved lazily: it moves over records that were withdrawn, over those an earlier daemon was done with, and
 * over damage, when somebody asks for the next record. Each record is checked with its CRC there, once; journal_read()
 * checks it again before its bytes leave.
 *
 * A hole (the indexes say that records are missing) is passed only when nothing before it is in flight: then the front
 * jumps along, and the range between front and next never has a hole that was there before.
 */

#include <assert.h>
#include <errno.h>

#include "base/time.h"
#include "journal/internal.h"

static uint64_t lane_window_used(struct journal_lane *lane)
{
	return lane->next.index - lane_first(lane)->state.done_index;
}

bool lane_is_done(struct journal_lane *lane, uint64_t index)
{
	uint64_t front = lane_first(lane)->state.done_index;

	return index < front || (index - front < JOURNAL_WINDOW && lane_bit(lane, index));
}

/* --- what is there ---------------------------------------------------------------------------- */

bool lane_look(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset, uint64_t index,
	       struct lane_found *out)
{
	struct journal_header *header = &out->header;
	enum journal_found found = journal_record_at(BYTES(segment->map, segment->head), segment->identity.id,
						     offset, header, &out->size);

	out->is_withdrawn = found == JOURNAL_FOUND_WITHDRAWN;
	if (found == JOURNAL_FOUND_NOTHING || header->index < index || header->index >= segment->next_index ||
	    header->sequence > lane->journal->appended || header->sequence == 0)
		return false;
	/* What is sent is left to the hub. */
	if (lane->journal->n_unseen > 0 && !out->is_withdrawn && header->index >= lane->next.index &&
	    unseen_has(lane->journal, segment, header->sequence)) {
		lane_withdraw(lane, segment, offset, header->sequence, out->size);
		out->is_withdrawn = true;
	}
	return true;
}

uint64_t lane_search(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset,
		     uint64_t index, struct lane_found *out)
{
	struct bytes used = BYTES(segment->map, segment->head);

	while (offset < segment->head) {
		if (lane_look(lane, segment, offset, index, out))
			return offset;
		offset = journal_record_find(used, segment->identity.id, offset + JOURNAL_ALIGNMENT);
	}
	return segment->head;
}

/* --- holes ------------------------------------------------------------------------------------ */

/* Indexes from next to @index that nobody was done with. They are nobody's any more. */
static uint64_t lane_forget(struct journal_lane *lane, uint64_t index)
{
	uint64_t n = index - lane->next.index, n_window = n < JOURNAL_WINDOW ? n : JOURNAL_WINDOW;

	for (uint64_t i = 0; i < n_window; ++i) {
		n -= lane_bit(lane, lane->next.index + i);
		lane_clear_bit(lane, lane->next.index + i);
	}
	return n;
}

/* Whether what was there was promised to anybody: it was stored, or there was no crash since it was appended. */
static bool hole_is_damage(const struct journal_segment *segment, uint64_t offset)
{
	return offset < segment->state.stored_offset || offset >= segment->recovered_head;
}

/* Records of a hole may have been withdrawn, and count no more already: what is left, from @offset on, is counted again. */
static void lane_recount(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset,
			 uint64_t index)
{
	uint64_t n_records = segment->next_index - index, n_bytes = segment->head - offset;
	struct lane_found found;

	while ((offset = lane_search(lane, segment, offset, index, &found)) < segment->head) {
		bool is_new = segment->is_counted || found.header.sequence > lane->journal->recovered;

		if (lane_is_done(lane, found.header.index)) {
			--n_records;
		} else if (found.is_withdrawn && is_new) {
			--n_records;
			n_bytes -= found.size;
		}
		offset += found.size;
		index = found.header.index + 1;
	}
	lane_uncount(lane, segment, n_records < segment->n_records ? segment->n_records - n_records : 0,
		     n_bytes < segment->n_bytes ? segment->n_bytes - n_bytes : 0);
}

/* Records of the segment that are not done and numbered up to @last are gone. */
static void lane_tell_lost(struct journal_lane *lane, struct journal_segment *segment, uint64_t last)
{
	const struct journal *j = lane->journal;
	uint64_t first = 1;

	if (segment != lane_first(lane))
		first = segment_of_link(segment->link.prev)->last_sequence + 1;
	if (j->ops && j->ops->on_lost && !j->is_stopped)
		j->ops->on_lost(j->userdata, lane, first, last);
}

/* What is between next and @offset, with the indexes before @index and numbers up to @last, is gone. */
static enum lane_next lane_pass_hole(struct journal_lane *lane, uint64_t offset, uint64_t index,
				     uint64_t last)
{
	struct journal_place *next = &lane->next;
	struct journal_segment *segment = next->segment;
	uint64_t from = next->offset, n_missing;
	bool has_withdrawn;

	lane_advance(lane);
	if (lane_in_flight(lane))
		return LANE_BLOCKED;
	n_missing = lane_forget(lane, index);
	if (n_missing > 0 && hole_is_damage(segment, from))
		damage_note(lane->journal, segment, from, offset, n_missing);
	/* Everything before next is done: it counts all that lies behind it, unless some of that was withdrawn. */
	has_withdrawn = segment->n_bytes < segment->head - from;
	segment->state.done_index = next->index = index;
	segment->state.done_offset = next->offset = offset;
	if (has_withdrawn)
		lane_recount(lane, segment, offset, index);
	else
		lane_uncount(lane, segment, n_missing, offset - from);
	lane_touch(lane, segment);
	if (n_missing > 0)
		lane_tell_lost(lane, segment, last);
	return LANE_READY;
}

/* --- next ------------------------------------------------------------------------------------- */

/* What was read is good again. */
static void lane_on_read(struct journal_lane *lane)
{
	if (!lane->n_read_errors)
		return;
	lane->n_read_errors = 0;
	disk_on_read(lane->journal, 0);
}

/* Whether nothing can be read: neither the segment's header, nor another segment's, nor the file `lock`. */
static bool disk_is_away(struct journal_lane *lane, struct journal_segment *segment)
{
	const struct journal_dir *dir = &lane->journal->dir;
	const struct journal_segment *other =
		segment == lane_first(lane) ? lane_last(lane) : lane_first(lane);

	return !segment_disk_reads(dir, segment->name) &&
	       (other == segment || !segment_disk_reads(dir, other->name)) &&
	       !segment_disk_reads(dir, JOURNAL_LOCK_NAME);
}

bool lane_on_read_error(struct journal_lane *lane, struct journal_segment *segment, int error)
{
	struct journal *j = lane->journal;
	uint64_t now_ns = loop_now_ns(j->loop);

	disk_on_read(j, error);
	/* However often somebody asks in between. */
	if (lane->n_read_errors && now_ns < lane->read_again_ns)
		return true;
	lane->read_again_ns = now_ns + JOURNAL_RETRY_NS / 2;
	if (++lane->n_read_errors < JOURNAL_READ_ATTEMPTS)
		return true;
	if (!disk_is_away(lane, segment))
		return false;
	/* All of it is as good as it was, when the disk is back. */
	lane->n_read_errors = 1;
	return true;
}

static bool lane_waits(struct journal_lane *lane)
{
	struct journal *j = lane->journal;

	if (!lane->n_read_errors || loop_now_ns(j->loop) >= lane->read_again_ns)
		return false;
	disk_on_read(j, j->read_error);
	return true;
}

/* The process has too little of something: the file is as good as it was. */
static bool is_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EAGAIN;
}

/* Whether a segment that could not be mapped is to be given up. Who has a cursor into it hears of it by on_lost();
 * nothing else brings back rejected records, so they wait for the disk. */
static bool lane_gives_up(struct journal_lane *lane, struct journal_segment *segment, int error)
{
	bool is_final = error == -ENOENT;

	if (!is_final && (lane_on_read_error(lane, segment, error) || is_shortage(error) ||
			  lane->key.kind == JOURNAL_KIND_REJECTED))
		return false;
	if (segment != lane->next.segment)
		return true;
	lane_advance(lane);
	return !lane_in_flight(lane);
}

/* Somebody deleted the file while it was not mapped, or it cannot be read any more. */
static void lane_lose_segment(struct journal_lane *lane, struct journal_segment *segment, int error)
{
	struct journal *j = lane->journal;
	bool is_next = segment == lane->next.segment;

	log_error(j->log, "%s of the journal is lost: %s", segment->name, strerror(-error));
	damage_note(j, segment, 0, 0, segment->n_records);
	lane_tell_lost(lane, segment, segment->last_sequence);
	if (error != -ENOENT)
		damage_set_file_aside(j, segment->name);
	segment->is_failed = true;
	/* What is done with in it says nothing of the records that get the same bits. */
	if (is_next)
		lane_forget(lane, segment->next_index);
	lane_release(lane, segment);
	segment = lane_first(lane);
	if (is_next && segment)
		lane->next = (struct journal_place){.segment = segment,
						    .offset = segment->state.done_offset,
						    .index = segment->state.done_index};
}

/* LANE_READY: it is held, or gone. */
static enum lane_next lane_enter(struct journal_lane *lane, struct journal_segment *segment)
{
	int r = lane_hold(segment);

	if (!r) {
		lane_on_read(lane);
		return LANE_READY;
	}
	if (!lane_gives_up(lane, segment, r))
		return LANE_BLOCKED;
	lane_lose_segment(lane, segment, r);
	lane_on_read(lane);
	return LANE_READY;
}

/* Moves next from the end of a segment to the beginning of the next one. */
static enum lane_next lane_next_segment(struct journal_lane *lane)
{
	struct journal_place *next = &lane->next;
	struct journal_segment *segment = next->segment, *after = lane_after(lane, segment);

	if (next->index != segment->next_index)
		return lane_pass_hole(lane, segment->head, segment->next_index, segment->last_sequence);
	if (!after)
		return LANE_EMPTY;
	lane_advance(lane);
	if (after->state.done_index != segment->next_index && lane_in_flight(lane))
		return LANE_BLOCKED;
	if (lane_enter(lane, after) != LANE_READY)
		return LANE_BLOCKED;
	if (after != lane_after(lane, segment))
		return LANE_READY;
	lane_forget(lane, after->state.done_index);
	*next = (struct journal_place){
		.segment = after, .offset = after->state.done_offset, .index = after->state.done_index};
	lane_advance(lane);
	return LANE_READY;
}

static void lane_step(struct journal_lane *lane, uint64_t size)
{
	lane->next.offset += size;
	++lane->next.index;
	lane->next.is_resolved = false;
}

/* A page could not be read: the disk may come back, so nothing is given up at once. */
static bool lane_waits_for_disk(struct journal_lane *lane, struct journal_segment *segment)
{
	if (!segment_was_hit(segment) && !segment->is_torn)
		return false;
	lane_remap(lane, segment);
	return lane_on_read_error(lane, segment, disk_error_now(lane->journal));
}

/* Something is not as it should be at next: where does it go on? */
static enum lane_next lane_resolve_damage(struct journal_lane *lane)
{
	struct journal_segment *segment = lane->next.segment;
	struct lane_found found;
	uint64_t offset;

	if (lane_waits_for_disk(lane, segment))
		return LANE_BLOCKED;
	offset = lane_search(lane, segment, lane->next.offset, lane->next.index, &found);
	if (offset >= segment->head)
		return lane_pass_hole(lane, segment->head, segment->next_index, segment->last_sequence);
	return lane_pass_hole(lane, offset, found.header.index, found.header.sequence - 1);
}

/* Looks at what is at next. LANE_READY: it is resolved, or next moved. */
static enum lane_next lane_resolve_one(struct journal_lane *lane)
{
	struct journal_place *next = &lane->next;
	struct journal_segment *segment = next->segment;
	struct lane_found found;
	bool is_recovered;

	if (!lane_look(lane, segment, next->offset, next->index, &found) || found.header.index != next->index)
		return lane_resolve_damage(lane);
	lane_on_read(lane);
	is_recovered = !segment->is_counted && found.header.sequence <= lane->journal->recovered;
	if (lane_bit(lane, next->index)) {
		/* Done with by an earlier daemon: its bytes were still counted. */
		lane_uncount(lane, segment, 0, found.size);
	} else if (found.is_withdrawn) {
		lane_uncount(lane, segment, is_recovered, is_recovered ? found.size : 0);
	} else {
		next->is_resolved = true;
		next->sequence = found.header.sequence;
		next->size = found.size;
		return LANE_READY;
	}
	lane_set_bit(lane, next->index);
	lane_step(lane, found.size);
	lane_advance(lane);
	return LANE_READY;
}

enum lane_next lane_resolve(struct journal_lane *lane)
{
	struct journal_place *next = &lane->next;

	for (;;) {
		enum lane_next r;

		if (!next->segment)
			return LANE_EMPTY;
		if (next->offset < next->segment->head && lane_window_used(lane) >= JOURNAL_WINDOW)
			lane_advance(lane);
		if (next->offset < next->segment->head && lane_window_used(lane) >= JOURNAL_WINDOW)
			return LANE_BLOCKED;
		if (next->is_resolved)
			return LANE_READY;
		if (lane_waits(lane))
			return LANE_BLOCKED;
		if (next->offset >= next->segment->head)
			r = lane_next_segment(lane);
		else if (!next->segment->is_held)
			r = lane_enter(lane, next->segment);
		else
			r = lane_resolve_one(lane);
		if (r != LANE_READY)
			return r;
	}
}

struct journal_cursor lane_next_cursor(struct journal_lane *lane)
{
	const struct journal_place *next = &lane->next;

	assert(next->is_resolved);
	return (struct journal_cursor){
		.lane = lane,
		.segment = next->segment,
		.sequence = next->sequence,
		.index = next->index,
		.offset = next->offset,
		.size = next->size,
	};
}

void lane_pass(struct journal_lane *lane)
{
	assert(lane->next.is_resolved);
	lane_step(lane, lane->next.size);
}

void lane_wake(struct journal_lane *lane)
{
	if (!list_is_linked(&lane->ready) && lane->key.kind == JOURNAL_KIND_QUEUE)
		list_append(&lane->journal->ready[lane->key.priority], &lane->ready);
}

/* --- the front -------------------------------------------------------------------------------- */

void lane_settle_front(struct journal_lane *lane)
{
	struct journal_segment *first = lane_first(lane);
	struct journal_state *state = &first->state;
	struct lane_found found;

	if (first == lane->next.segment && state->done_index == lane->next.index) {
		state->done_offset = lane->next.offset;
		return;
	}
	while (first->map && state->done_offset < first->head) {
		state->done_offset = lane_search(lane, first, state->done_offset, 0, &found);
		if (state->done_offset >= first->head || found.header.index >= state->done_index)
			return;
		state->done_offset += found.size;
	}
}

void lane_advance(struct journal_lane *lane)
{
	struct journal_segment *first;
	bool has_moved = false;

	while ((first = lane_first(lane))) {
		bool is_last = first == lane->next.segment;
		uint64_t end = is_last ? lane->next.index : first->next_index;
		uint64_t *index = &first->state.done_index;

		while (*index < end && lane_bit(lane, *index)) {
			lane_clear_bit(lane, *index);
			++*index;
			has_moved = true;
		}
		if (is_last || *index < end)
			break;
		lane_release(lane, first);
	}
	if (!has_moved || !first)
		return;
	lane_touch(lane, first);
	lane_wake(lane);
}

/* --- over the lanes --------------------------------------------------------------------------- */

bool journal_next_unsent(struct journal *j, struct journal_cursor *out)
{
	struct journal_lane *best = NULL;

	for (int priority = 0; priority < JOURNAL_N_PRIORITIES && !best; ++priority)
		list_for_each_safe (link, &j->ready[priority]) {
			struct journal_lane *lane = container_of(link, struct journal_lane, ready);

			/* One that is blocked comes back when its front moves. */
			if (lane_resolve(lane) != LANE_READY)
				list_remove(&lane->ready);
			else if (!best || lane->next.sequence < best->next.sequence)
				best = lane;
		}
	if (!best)
		return false;
	*out = lane_next_cursor(best);
	return true;
}

uint64_t journal_first_unsent(struct journal_lane *lane)
{
	switch (lane_resolve(lane)) {
	case LANE_READY:
		return lane->next.sequence;
	case LANE_EMPTY:
		return UINT64_MAX;
	case LANE_BLOCKED:
		return 0;
	}
	return 0;
}

void journal_mark_sent(struct journal *j, const struct journal_cursor *at)
{
	struct journal_lane *lane = at->lane;

	(void)j;
	assert(lane->next.is_resolved && lane->next.sequence == at->sequence);
	lane_pass(lane);
}

void journal_mark_unread(const struct journal_cursor *at)
{
	assert(!journal_is_sent(at));
	if (at->lane->next.index == at->index)
		at->lane->next.is_resolved = false;
}
