/* SPDX-License-Identifier: MIT */
/*
 * A lane's segments: which there are, which are mapped, when one is closed and the next one made, when their states
 * are written. See internal.h for the invariants.
 *
 * A new lane counts its indexes from the journal's next sequence on. A record's index is so never larger than its
 * sequence, and a lane that is made again begins behind all indexes it ever had: a file of its earlier life that a
 * crash brings back sorts before everything new.
 *
 * The last segment of a recovered lane is gone on with when nothing behind its head is a record. Appending changes only
 * bytes at the head, so what lies behind stays what it was, no record, until it is overwritten, and a later recovery finds
 * nothing there. There can be records behind the end that a state tells: a power cut may keep them, and not the newer
 * state; their numbers are given again.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "journal/internal.h"

#define SEGMENT_BYTES_CAP (UINT64_C(8) << 20)
/* A full journal of one lane has about so many segments at most, unless they get too large: a start after a kill looks at all
 * of a lane's last one. */
#define SEGMENTS_OF_A_LANE 256
#define SEGMENT_BYTES_MOST (UINT64_C(64) << 20)

static uint64_t power_of_two(uint64_t at_least)
{
	uint64_t n = JOURNAL_SEGMENT_BYTES_MIN;

	while (n < at_least && n < UINT64_C(1) << 62)
		n *= 2;
	return n;
}

static uint64_t segment_bytes_cap(const struct journal *j)
{
	uint64_t cap = j->max_bytes / 8 < SEGMENT_BYTES_CAP ? j->max_bytes / 8 : SEGMENT_BYTES_CAP;

	if (cap < j->max_bytes / SEGMENTS_OF_A_LANE)
		cap = j->max_bytes / SEGMENTS_OF_A_LANE;
	return power_of_two(cap < SEGMENT_BYTES_MOST ? cap : SEGMENT_BYTES_MOST);
}

/* --- life ------------------------------------------------------------------------------------- */

struct journal_lane *lane_find(struct journal *j, const struct journal_lane_key *key,
			       struct journal_lane *after)
{
	for (struct journal_lane *lane = journal_next_lane(j, after); lane; lane = journal_next_lane(j, lane))
		if (lane->key.kind == key->kind && lane->key.priority == key->priority &&
		    lane->key.channel == key->channel && lane->key.ttl_s == key->ttl_s)
			return lane;
	return NULL;
}

int lane_new(struct journal_lane **out, struct journal *j, const struct journal_lane_key *key)
{
	struct journal_lane *lane = calloc(1, sizeof(*lane));
	size_t len = key->channel_name ? strnlen(key->channel_name, JOURNAL_CHANNEL_NAME_MAX) : 0;

	if (!lane)
		return -ENOMEM;
	lane->journal = j;
	lane->key = *key;
	memcpy(lane->name, key->channel_name ? key->channel_name : "", len);
	lane->key.channel_name = lane->name;
	lane->n_refs = 1;
	lane->next_index = j->appended + 1;
	lane->segment_bytes = JOURNAL_SEGMENT_BYTES_MIN;
	list_init(&lane->ready);
	list_init(&lane->dirty);
	list_init(&lane->segments);
	list_append(&j->lanes, &lane->link);
	++j->n_lanes;
	*out = lane;
	return 0;
}

void lane_free(struct journal_lane *lane)
{
	while (!list_is_empty(&lane->segments))
		lane_release(lane, lane_first(lane));
	assert(lane->n_bytes == 0 && lane->n_records == 0);
	list_remove(&lane->ready);
	list_remove(&lane->dirty);
	list_remove(&lane->link);
	--lane->journal->n_lanes;
	free(lane);
}

/* --- mappings --------------------------------------------------------------------------------- */

int lane_hold(struct journal_segment *segment)
{
	int r;

	if (segment->is_held)
		return 0;
	r = segment_map(segment);
	segment->is_held = r == 0;
	return r;
}

void lane_unhold(struct journal_segment *segment)
{
	if (segment->is_held)
		segment_unmap(segment);
	segment->is_held = false;
}

int journal_pin(struct journal *j, struct journal_segment *segment)
{
	int r;

	if (segment->is_held || j->pin == segment)
		return 0;
	r = segment_map(segment);
	if (r)
		return r;
	journal_unpin(j);
	j->pin = segment;
	return 0;
}

void journal_unpin(struct journal *j)
{
	if (j->pin)
		segment_unmap(j->pin);
	j->pin = NULL;
}

void lane_remap(struct journal_lane *lane, struct journal_segment *segment)
{
	struct journal *j = lane->journal;
	unsigned int n;

	/* What was written to such a page is nowhere, and no sync tells: a record that was withdrawn may be back. */
	memset(segment->runs, 0, sizeof(segment->runs));
	if (!segment->is_failed && (lane->active == segment || list_is_linked(&segment->unsynced)))
		commit_fail_segment(j, segment, disk_error_now(j));
	n = segment->n_users;
	/* A sync in flight needs the descriptor. */
	if (n == 0 || !loop_op_is_idle(&segment->sync))
		return;
	while (segment->n_users > 0)
		segment_unmap(segment);
	while (segment->n_users < n) {
		if (!segment_map(segment))
			continue;
		/* The first one failed: nobody has it. */
		segment->is_held = false;
		if (j->pin == segment)
			j->pin = NULL;
		if (lane->active == segment)
			lane_close(lane);
		return;
	}
}

/* --- segments come and go --------------------------------------------------------------------- */

void lane_attach(struct journal_lane *lane, struct journal_segment *segment)
{
	struct journal *j = lane->journal;

	segment->owner = lane;
	lane->is_ended = false;
	segment->n_withdrawn = 0;
	segment->is_counted = segment->recovered_head == 0;
	memset(segment->runs, 0, sizeof(segment->runs));
	list_init(&segment->unsynced);
	loop_op_init(&segment->sync, commit_on_synced);
	list_append(&lane->segments, &segment->link);
	lane->next_index = segment->next_index;
	lane->n_records += segment->n_records;
	lane->n_bytes += segment->n_bytes;
	j->n_bytes += segment->n_bytes;
	++j->stats.n_segments;
	j->stats.segment_bytes += segment->identity.size;
	if (!lane->next.segment)
		lane->next = (struct journal_place){.segment = segment,
						    .offset = segment->state.done_offset,
						    .index = segment->state.done_index};
}

/* All is done: a crash before the file is used again or deleted brings nothing back. What was not read yet may come. */
static void segment_finish(struct journal_segment *segment)
{
	struct journal_state *state = &segment->state;

	state->done_index = state->end_index = segment->next_index;
	state->done_offset = segment->head;
	state->end_offset = segment->is_unread ? 0 : segment->head;
	state->last_sequence = segment->last_sequence;
	memset(state->done, 0, sizeof(state->done));
	segment_write_state(segment);
}

void lane_release(struct journal_lane *lane, struct journal_segment *segment)
{
	struct journal *j = lane->journal;

	segment_finish(segment);
	lane_uncount(lane, segment, segment->n_records, segment->n_bytes);
	j->has_freed |= segment->n_withdrawn > 0;
	j->n_withdrawn -= segment->n_withdrawn;
	if (lane->next.segment == segment)
		lane->next = (struct journal_place){.segment = NULL};
	if (lane->active == segment)
		lane->active = NULL;
	/* The one with the last number is the only one that knows it. */
	if (segment->last_sequence >= j->appended)
		journal_save_sequence(j);
	if (j->pin == segment)
		journal_unpin(j);
	lane_unhold(segment);
	list_remove(&segment->link);
	commit_forget(segment);
	unseen_forget(j, segment);
	segment->owner = NULL;
	--j->stats.n_segments;
	j->stats.segment_bytes -= segment->identity.size;
	if (segment->is_unread)
		segment_free(segment);
	else if (!loop_op_is_idle(&segment->sync))
		list_append(&j->zombies, &segment->link);
	else if (j->is_stopped || segment->is_private || segment->is_failed)
		segment_delete(segment);
	else
		spares_give(j->spares, segment);
}

void lane_shrink_later(struct journal_lane *lane)
{
	lane->may_shrink = true;
	lane_touch(lane, NULL);
}

/*
 * Releases segments behind next with withdrawn records only. The indexes that are missing then are a gap between two
 * segments, which is none of a promise. What an earlier daemon left is counted well enough for that when it was looked at.
 */
static void lane_shrink(struct journal_lane *lane)
{
	struct journal_segment *segment = lane->next.segment, *after;

	lane->may_shrink = false;
	for (segment = segment ? lane_after(lane, segment) : NULL; segment; segment = after) {
		after = lane_after(lane, segment);
		if (segment != lane->active && segment->n_records == 0 && segment->is_counted)
			lane_release(lane, segment);
	}
}

void lane_close(struct journal_lane *lane)
{
	struct journal_segment *segment = lane->active;

	if (!segment)
		return;
	lane->active = NULL;
	segment->state.end_offset = segment->head;
	segment->state.end_index = segment->next_index;
	segment->state.last_sequence = segment->last_sequence;
	/* When that fails, recovery finds the end by itself. */
	lane_write_state(lane, segment);
	if (segment->is_failed)
		segment_free_tail(segment);
	if (segment->n_records == 0)
		lane_shrink_later(lane);
	if (segment == lane->next.segment || segment == lane_first(lane))
		return;
	lane_unhold(segment);
	/* It stays mapped until it is synced, which may be long; that needs no memory. */
	if (segment->map && !segment->is_private && !segment->is_torn)
		(void)madvise(segment->map, (size_t)segment->identity.size, MADV_DONTNEED);
}

/* Where records are missing that were promised to nobody: they would count as damage when what is appended behind them
 * is stored. */
static bool segment_may_have_hole(const struct journal_segment *segment)
{
	return !segment->is_whole && !segment->dir->is_volatile &&
	       segment->state.stored_offset < segment->head;
}

static bool segment_ends_at_head(struct journal_segment *segment)
{
	uint64_t end = journal_record_find(segment_bytes(segment), segment->identity.id, segment->head);

	/* Zeros in the place of a page that could not be read say nothing. */
	return end == segment->identity.size && !segment_was_hit(segment) && !segment->is_torn;
}

/* Neither state tells an end any more: what is appended is found with any one of them. */
static int lane_write_no_end(struct journal_lane *lane, struct journal_segment *segment)
{
	uint64_t end = segment->state.end_offset;
	int r;

	segment->state.end_offset = 0;
	r = lane_write_state(lane, segment);
	if (!r)
		r = lane_write_state(lane, segment);
	if (r)
		segment->state.end_offset = end;
	return r;
}

/* The last segment of a recovered lane takes records again, if it has room and none behind it was released. */
static bool lane_reopen(struct journal_lane *lane, uint64_t n_bytes)
{
	struct journal_segment *segment = lane_last(lane);

	if (!segment || segment->next_index != lane->next_index || lane->is_ended || segment->is_unread ||
	    segment->is_private || segment->is_failed || segment_may_have_hole(segment) ||
	    segment->identity.size - segment->head < n_bytes || lane_hold(segment))
		return false;
	if (!segment->is_private && segment_ends_at_head(segment) && !lane_write_no_end(lane, segment)) {
		lane->active = segment;
		return true;
	}
	lane->is_ended = true;
	if (segment != lane->next.segment)
		lane_unhold(segment);
	return false;
}

static int lane_make_segment(struct journal_lane *lane, uint64_t size, struct journal_segment **out)
{
	struct journal *j = lane->journal;
	struct journal_identity identity = {
		.size = size,
		.made_ms = loop_wall_ms(j->loop),
		.first_index = lane->next_index,
		.kind = lane->key.kind,
		.priority = lane->key.priority,
		.channel = lane->key.channel,
		.ttl_s = lane->key.ttl_s,
	};
	int r;

	memcpy(identity.channel_name, lane->name, sizeof(identity.channel_name));
	*out = spares_take(j->spares, &identity);
	if (*out) {
		/* What was wanted is there, however it came. */
		if (j->make_error && size >= j->wanted_bytes)
			disk_on_make(j, size, 0);
		return 0;
	}
	r = segment_new(out, &j->dir, &identity);
	if (r == -ENOSPC && spares_drop(j->spares))
		r = segment_new(out, &j->dir, &identity);
	disk_on_make(j, size, r);
	return r;
}

static void lane_set_next_size(struct journal_lane *lane, uint64_t size)
{
	uint64_t cap = segment_bytes_cap(lane->journal);

	lane->segment_bytes = size * 2 < cap ? size * 2 : cap;
	lane->prepare_at = size / 2;
}

int lane_make_room(struct journal_lane *lane, uint64_t n_bytes)
{
	struct journal_segment *segment = lane->active, *old = segment;
	uint64_t size = power_of_two(JOURNAL_HEADER_BYTES + n_bytes);
	int r;

	if (segment && !segment->is_failed && (segment->is_torn || segment->is_private))
		commit_fail_segment(lane->journal, segment, disk_error_now(lane->journal));
	if (segment && !segment->is_failed && n_bytes <= segment->identity.size - segment->head)
		return 0;
	if (n_bytes > JOURNAL_SEGMENT_BYTES_MAX - JOURNAL_HEADER_BYTES)
		return -ENOSPC;
	if (!segment && lane_reopen(lane, n_bytes)) {
		lane_set_next_size(lane, lane->active->identity.size);
		return 0;
	}
	/* While the disk fails, each commit costs a segment. */
	if (segment && segment->is_failed)
		lane->segment_bytes = JOURNAL_SEGMENT_BYTES_MIN;
	if (size < lane->segment_bytes)
		size = lane->segment_bytes;
	r = lane_make_segment(lane, size, &segment);
	if (r)
		return r;
	lane_close(lane);
	segment->is_held = true;
	lane_attach(lane, segment);
	lane->active = segment;
	lane_set_next_size(lane, size);
	/* The sender is more than a segment behind: what was closed stays for a while, and memory is freed by its sync. */
	if (old && old != lane->next.segment)
		journal_sync(lane->journal);
	lane_resolve(lane);
	lane_advance(lane);
	return 0;
}

/* --- counts and states ------------------------------------------------------------------------ */

void lane_uncount(struct journal_lane *lane, struct journal_segment *segment, uint64_t n_records,
		  uint64_t n_bytes)
{
	struct journal *j = lane->journal;

	/* A recovered segment is counted by its end; what was lost from it shows later. */
	if (n_records > segment->n_records)
		n_records = segment->n_records;
	if (n_bytes > segment->n_bytes)
		n_bytes = segment->n_bytes;
	segment->n_records -= n_records;
	segment->n_bytes -= n_bytes;
	lane->n_records -= n_records;
	lane->n_bytes -= n_bytes;
	j->n_bytes -= n_bytes;
	j->has_freed |= n_bytes > 0;
	lane_touch(lane, NULL);
}

void lane_touch(struct journal_lane *lane, struct journal_segment *segment)
{
	struct journal *j = lane->journal;

	if (segment)
		segment->is_dirty = true;
	if (!list_is_linked(&lane->dirty))
		list_append(&j->dirty, &lane->dirty);
	if (!j->is_stopped)
		loop_defer(j->loop, &j->turn_end);
}

int lane_write_state(struct journal_lane *lane, struct journal_segment *segment)
{
	struct journal_state *state = &segment->state;
	uint64_t behind = state->done_index - lane_first(lane)->state.done_index, n = 0;

	if (segment == lane_first(lane))
		lane_settle_front(lane);
	memset(state->done, 0, sizeof(state->done));
	/* Bits are there for a window from the lane's front on. */
	if (behind < JOURNAL_WINDOW)
		n = JOURNAL_WINDOW - behind;
	if (n > segment->next_index - state->done_index)
		n = segment->next_index - state->done_index;
	for (uint64_t i = 0; i < n; ++i)
		if (lane_bit(lane, state->done_index + i))
			state->done[i / 8] |= (uint8_t)(1u << (i % 8));
	/* When all are done with, recovery looks at none of them. */
	state->last_sequence = segment->last_sequence;
	segment->is_dirty = false;
	return segment_write_state(segment);
}

void lane_flush_states(struct journal_lane *lane)
{
	list_for_each (link, &lane->segments) {
		struct journal_segment *segment = segment_of_link(link);

		/* One that cannot be written now is written with its next change; until then more is sent twice after
		 * a crash. */
		if (segment->is_dirty)
			lane_write_state(lane, segment);
		if (segment == lane->next.segment)
			break;
	}
	if (lane->active && lane->active->is_dirty)
		lane_write_state(lane, lane->active);
}

bool lane_ends(struct journal_lane *lane)
{
	if (lane->n_records == 0) {
		lane_resolve(lane);
		lane_advance(lane);
	}
	return lane_is_empty(lane);
}

void lane_flush(struct journal_lane *lane)
{
	list_remove(&lane->dirty);
	if (lane->may_shrink)
		lane_shrink(lane);
	if (lane->n_refs == 0 && lane_ends(lane))
		lane_free(lane);
	else
		lane_flush_states(lane);
}
