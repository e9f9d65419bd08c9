/* SPDX-License-Identifier: MIT */
/*
 * Walking through a journal, see walk.h: each lane has a place, and the lane whose next record has the smallest number
 * goes next. One segment of each lane is mapped at a time.
 */

#include "walk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"

struct walk_lane {
	const struct store_segment *segment, *end; /* the present one, and behind the last one */
	uint8_t *map;                              /* NULL: none is open */
	size_t map_len;
	struct journal_guard_range *range;
	struct journal_state state; /* of the present segment, when it was opened */
	uint64_t limit;             /* end of its records, as far as known */
	uint64_t offset;            /* the next place */
	uint64_t index;             /* of the record that is expected there */
	uint64_t reached;           /* behind the last one of all segments before */
	uint64_t sequence;          /* of the last record; orders holes */
	bool is_index_known;
	/* A copy of the record at hand, at JOURNAL_HEADER_BYTES. */
	uint8_t *copy;
	size_t copy_size;
	struct walk_item item;
	bool has_item;
};

struct walk {
	const struct store *store;
	struct walk_options options;
	struct walk_lane *lanes;
	size_t n_lanes;
	struct walk_lane *last; /* whose item was handed out */
};

const char *walk_state_name(enum walk_state state)
{
	static const char *const names[] = {
		[WALK_QUEUED] = "queued", [WALK_REJECTED] = "rejected",   [WALK_EXPIRED] = "expired",
		[WALK_DONE] = "done",     [WALK_WITHDRAWN] = "withdrawn",
	};

	assert(state < WALK_N_STATES);
	return names[state];
}

/* --- segments --------------------------------------------------------------------------------- */

static void segment_close(struct walk_lane *lane)
{
	if (!lane->map)
		return;
	journal_guard_remove(lane->range);
	munmap(lane->map, lane->map_len);
	lane->map = NULL;
}

/* A copy of the header as it is now. Returns 0 when it is still the same segment. */
static int segment_header(const struct walk_lane *lane, uint8_t header[static JOURNAL_HEADER_BYTES])
{
	struct journal_identity identity;

	memcpy(header, lane->map, JOURNAL_HEADER_BYTES);
	return journal_identity_get(header, &identity) == 0 && identity.id == lane->segment->identity.id
		       ? 0
		       : -ESTALE;
}

/* Returns 0 or a negative errno; -ENOENT: it was done with. */
static int segment_map(struct walk *walk, struct walk_lane *lane)
{
	_cleanup_(close_fd) int fd =
		openat(walk->store->fd, lane->segment->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	void *map;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < JOURNAL_HEADER_BYTES)
		return -ENODATA;
	lane->map_len = (size_t)st.st_size;
	if (lane->map_len > lane->segment->identity.size)
		lane->map_len = lane->segment->identity.size;
	map = mmap(NULL, lane->map_len, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	lane->map = map;
	lane->range = journal_guard_add(walk->options.guard, map, lane->map_len);
	return 0;
}

static bool is_place(const struct walk_lane *lane, uint64_t offset)
{
	return offset >= JOURNAL_HEADER_BYTES && offset <= lane->map_len && offset % JOURNAL_ALIGNMENT == 0;
}

/* Returns 0 or a negative errno; -ENOENT, -ESTALE: it was done with. */
static int segment_open(struct walk *walk, struct walk_lane *lane)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	int r = segment_map(walk, lane);

	if (r)
		return r;
	r = segment_header(lane, header);
	if (r) {
		segment_close(lane);
		return r;
	}
	journal_state_get(header, lane->segment->identity.id, &lane->state);
	lane->limit = lane->map_len;
	if (lane->state.end_offset && is_place(lane, lane->state.end_offset))
		lane->limit = lane->state.end_offset;
	lane->offset = JOURNAL_HEADER_BYTES;
	if (!walk->options.all && is_place(lane, lane->state.done_offset))
		lane->offset = lane->state.done_offset;
	return 0;
}

/* --- what is at a place ----------------------------------------------------------------------- */

static bool is_done(const struct walk_lane *lane, uint64_t index)
{
	uint64_t i = index - lane->state.done_index;

	if (!lane->state.generation)
		return false;
	return index < lane->state.done_index || (i < JOURNAL_WINDOW && lane->state.done[i / 8] >> i % 8 & 1);
}

static enum walk_state record_state(const struct walk *walk, const struct walk_lane *lane,
				    const struct journal_header *header, enum journal_found found)
{
	if (found == JOURNAL_FOUND_WITHDRAWN)
		return WALK_WITHDRAWN;
	if (is_done(lane, header->index))
		return WALK_DONE;
	if (lane->segment->identity.kind == JOURNAL_KIND_REJECTED)
		return WALK_REJECTED;
	if (header->ttl_s && header->time_ms + header->ttl_s * UINT64_C(1000) < walk->options.now_ms)
		return WALK_EXPIRED;
	return WALK_QUEUED;
}

/* Makes room for a record of @size bytes. Returns 0 or -ENOMEM. */
static int copy_reserve(struct walk_lane *lane, size_t size)
{
	size_t need = JOURNAL_HEADER_BYTES + size;
	uint8_t *copy;

	if (need <= lane->copy_size)
		return 0;
	copy = realloc(lane->copy, need);
	if (!copy)
		return -ENOMEM;
	lane->copy = copy;
	lane->copy_size = need;
	return 0;
}

/* Copies the record at the lane's place, and reads the copy. Returns 1, 0: it is none any more, or -ENOMEM. */
static int record_copy(struct walk *walk, struct walk_lane *lane)
{
	uint64_t id = lane->segment->identity.id, size;
	struct walk_item *item = &lane->item;
	enum journal_found found;

	*item = (struct walk_item){.kind = WALK_RECORD, .segment = lane->segment, .offset = lane->offset};
	if (journal_record_at(BYTES(lane->map, lane->limit), id, lane->offset, &item->header, &size) ==
	    JOURNAL_FOUND_NOTHING)
		return 0;
	if (copy_reserve(lane, (size_t)size) < 0)
		return -ENOMEM;
	memcpy(lane->copy + JOURNAL_HEADER_BYTES, lane->map + lane->offset, (size_t)size);
	found = journal_record_at(BYTES(lane->copy, JOURNAL_HEADER_BYTES + size), id, JOURNAL_HEADER_BYTES,
				  &item->header, &item->size);
	if (found == JOURNAL_FOUND_NOTHING || item->header.index < lane->index)
		return 0;
	item->state = record_state(walk, lane, &item->header, found);
	item->properties = BYTES(lane->copy + JOURNAL_HEADER_BYTES + JOURNAL_RECORD_HEADER_BYTES,
				 item->header.properties_len);
	item->payload = BYTES(item->properties.data + item->properties.len, item->header.payload_len);
	return 1;
}

/* The first place from the lane's on with a record that can come here; lane->limit when there is none. */
static uint64_t find_record(const struct walk_lane *lane)
{
	struct bytes segment = BYTES(lane->map, lane->limit);
	struct journal_header header;
	uint64_t offset = lane->offset, size;

	for (;; offset += JOURNAL_ALIGNMENT) {
		offset = journal_record_find(segment, lane->segment->identity.id, offset);
		if (offset >= lane->limit || (journal_record_at(segment, lane->segment->identity.id, offset,
								&header, &size) != JOURNAL_FOUND_NOTHING &&
					      header.index >= lane->index))
			return offset;
	}
}

/* --- what is missing -------------------------------------------------------------------------- */

/* How many of the records from @index up to @end are not done with. */
static uint64_t count_waiting(const struct walk_lane *lane, uint64_t index, uint64_t end)
{
	uint64_t n = 0;

	if (lane->state.generation && index < lane->state.done_index)
		index = lane->state.done_index;
	while (index < end && index - lane->state.done_index < JOURNAL_WINDOW)
		n += !is_done(lane, index++);
	return index < end ? n + end - index : n;
}

/* Notes that the records from the lane's index up to @index are missing, between the lane's place and @to. Returns whether there
 * are any. */
static bool hole_note(struct walk_lane *lane, uint64_t to, uint64_t index)
{
	uint64_t size = to - lane->offset, most = size / JOURNAL_RECORD_HEADER_BYTES;
	uint64_t n = index > lane->index ? index - lane->index : 0;

	if (n > most)
		n = most;
	lane->item = (struct walk_item){.kind = WALK_HOLE,
					.segment = lane->segment,
					.offset = lane->offset,
					.size = size,
					.n_gone = n};
	if (lane->offset < lane->state.stored_offset)
		lane->item.n_missing = count_waiting(lane, lane->index, lane->index + n);
	return n > 0;
}

/* Whether a file of the segment's size would have the place. */
static bool is_within(const struct walk_lane *lane, uint64_t offset)
{
	return offset >= lane->offset && offset <= lane->segment->identity.size;
}

/* Behind the last record of a segment; what a file had that was cut counts as if it was there. */
static bool tail_note(struct walk_lane *lane)
{
	const struct journal_state *state = &lane->state;

	if (state->end_offset) {
		uint64_t end = is_within(lane, state->end_offset) ? state->end_offset : lane->limit;
		bool is_hole = hole_note(lane, end, state->end_index);

		lane->index = state->end_index;
		return is_hole;
	}
	if (lane->offset >= state->stored_offset)
		return false;
	/* How many there were is not known: the daemon will go on as if it was one. */
	hole_note(lane, is_within(lane, state->stored_offset) ? state->stored_offset : lane->limit, 0);
	lane->item.n_gone = lane->item.n_missing = 1;
	lane->item.is_at_least = true;
	lane->index++;
	return true;
}

/* A segment with all there is in it. Of one without an end only its header says something. */
static void segment_note(struct walk_lane *lane, int error)
{
	const struct journal_state *state = &lane->segment->state;

	lane->state = *state;
	lane->item = (struct walk_item){.kind = WALK_UNREADABLE, .segment = lane->segment, .error = error};
	if (state->end_offset)
		lane->item.n_missing =
			count_waiting(lane, lane->segment->identity.first_index, state->end_index);
	else
		lane->item.is_at_least = true;
}

/* Between the segment before and the one that was opened. No damage: a file that was never synced may be gone after a power cut. */
static bool gap_note(struct walk_lane *lane)
{
	uint64_t first = lane->segment->identity.first_index;
	bool is_gap = lane->is_index_known && first > lane->reached;

	lane->item = (struct walk_item){
		.kind = WALK_HOLE,
		.segment = lane->segment,
		.offset = JOURNAL_HEADER_BYTES,
		.n_gone = first - lane->reached,
	};
	return is_gap;
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void lane_leave_segment(struct walk_lane *lane)
{
	segment_close(lane);
	lane->segment++;
	/* Two lanes of one key may lie here together: then indexes come twice. */
	if (lane->index > lane->reached)
		lane->reached = lane->index;
}

/* Whether what is wrong with the segment only means that it was done with. */
static bool is_stale(const struct walk_lane *lane)
{
	uint8_t header[JOURNAL_HEADER_BYTES];

	return segment_header(lane, header) < 0;
}

/* Opens the next segment. Returns whether there is something to tell. */
static bool lane_enter_segment(struct walk *walk, struct walk_lane *lane)
{
	const struct journal_state *state = &lane->segment->state;
	bool is_gap;
	int r;

	if (state->end_offset && state->last_sequence < walk->options.from_sequence) {
		lane->segment++;
		return lane->is_index_known = false;
	}
	r = segment_open(walk, lane);
	if (r == 0) {
		is_gap = gap_note(lane);
		lane->index = lane->offset == JOURNAL_HEADER_BYTES ? lane->segment->identity.first_index
								   : lane->state.done_index;
		lane->is_index_known = true;
		return is_gap;
	}
	segment_note(lane, r);
	lane->is_index_known = false;
	lane->segment++;
	return r != -ENOENT && r != -ESTALE;
}

/* Goes on to @next, the next record, or to the end of the segment. Returns whether there is something to tell. */
static bool lane_pass_hole(struct walk_lane *lane, uint64_t next)
{
	struct journal_header header;
	uint64_t size;
	bool is_told;

	if (next >= lane->limit) {
		is_told = tail_note(lane) && !is_stale(lane);
		lane_leave_segment(lane);
		return is_told;
	}
	if (journal_record_at(BYTES(lane->map, lane->limit), lane->segment->identity.id, next, &header,
			      &size) == JOURNAL_FOUND_NOTHING)
		return false;
	is_told = hole_note(lane, next, header.index) && !is_stale(lane);
	lane->offset = next;
	lane->index = header.index;
	return is_told;
}

/* Returns 1: there is an item; 0: not yet; -ENOMEM. */
static int lane_step(struct walk *walk, struct walk_lane *lane)
{
	uint64_t next;
	int r;

	if (!lane->map)
		return lane_enter_segment(walk, lane);
	next = find_record(lane);
	if (next != lane->offset || next >= lane->limit)
		return lane_pass_hole(lane, next);
	r = record_copy(walk, lane);
	if (r > 0) {
		lane->offset += lane->item.size;
		lane->index = lane->item.header.index + 1;
		lane->sequence = lane->item.header.sequence;
	} else if (r == 0) {
		/* It changed in between. */
		lane->offset += JOURNAL_ALIGNMENT;
	}
	return r;
}

/* Returns 0 or -ENOMEM. */
static int lane_fill(struct walk *walk, struct walk_lane *lane)
{
	int r = 0;

	while (!r && lane->segment < lane->end)
		r = lane_step(walk, lane);
	lane->has_item = r > 0;
	return r < 0 ? r : 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int lanes_make(struct walk *walk)
{
	const struct store_segment *s = walk->store->segments, *end;
	int r = 0;

	if (!walk->store->n_segments)
		return 0;
	walk->lanes = calloc(walk->store->n_segments, sizeof(*walk->lanes));
	if (!walk->lanes)
		return -ENOMEM;
	end = s + walk->store->n_segments;
	for (; s < end && !r; r = lane_fill(walk, &walk->lanes[walk->n_lanes++])) {
		struct walk_lane *lane = &walk->lanes[walk->n_lanes];

		lane->segment = s;
		while (s < end && store_is_same_lane(s, lane->segment))
			s++;
		lane->end = s;
	}
	return r;
}

int walk_new(struct walk **out, const struct store *store, const struct walk_options *options)
{
	struct walk *walk = calloc(1, sizeof(*walk));

	if (!walk)
		return -ENOMEM;
	walk->store = store;
	walk->options = *options;
	if (lanes_make(walk) < 0) {
		walk_free(walk);
		return -ENOMEM;
	}
	*out = walk;
	return 0;
}

void walk_free(struct walk *walk)
{
	if (!walk)
		return;
	for (size_t i = 0; i < walk->n_lanes; ++i) {
		segment_close(&walk->lanes[i]);
		free(walk->lanes[i].copy);
	}
	free(walk->lanes);
	free(walk);
}

int walk_next(struct walk *walk, struct walk_item *out)
{
	struct walk_lane *first = NULL;
	int r = walk->last ? lane_fill(walk, walk->last) : 0;

	if (r)
		return r;
	for (size_t i = 0; i < walk->n_lanes; ++i)
		if (walk->lanes[i].has_item && (!first || walk->lanes[i].sequence < first->sequence))
			first = &walk->lanes[i];
	walk->last = first;
	if (!first)
		return 0;
	*out = first->item;
	return 1;
}
