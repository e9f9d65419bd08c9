/* SPDX-License-Identifier: MIT */
/*
 * What an earlier daemon left: segments become lanes again.
 *
 * Each file is opened and its header read; what is no segment goes to damaged/. A segment with an end is taken as its
 * state says, without looking at a record: start-up takes the time of reading headers. One without an end (that was
 * written to when the daemon died; one of a lane) is scanned to the end of the file for what is good, and ended
 * there; or, when nothing can be read from some page on, before that page for now (is_unread): nothing is appended to it,
 * its file is kept for the next start, and numbers are left free for what may be in it. Nothing is repaired and nothing
 * is counted as damage here: the sender meets every record, once, and does both.
 *
 * Segments of a lane are in order of their first index. A gap between two is no damage: a file that was never synced
 * may be gone after a power cut.
 *
 * The file `lock` has two numbers, of the process and of the last record, as of the last time when no segment had it:
 * a stop, or the end of the last lane. It is not synced: after a power cut that comes right then the numbers may begin
 * again, in a journal without records.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "journal/internal.h"

#define SUFFIX ".segment"

/* --- the file lock ---------------------------------------------------------------------------- */

void journal_save_sequence(struct journal *j)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%-10d %-20" PRIu64 "\n", (int)getpid(), j->appended);

	if (j->lock_fd < 0 || j->saved == j->appended)
		return;
	if (pwrite(j->lock_fd, text, (size_t)n, 0) == n)
		j->saved = j->appended;
}

void journal_load_sequence(struct journal *j)
{
	char text[64] = "", *at;

	if (j->lock_fd >= 0 && pread(j->lock_fd, text, sizeof(text) - 1, 0) > 0) {
		strtoull(text, &at, 10);
		j->appended = strtoull(at, NULL, 10);
		/* Nobody has appended so much: it is somebody else's text. */
		if (j->appended >= INT64_MAX)
			j->appended = 0;
	}
	/* With this process's number, whatever the last record is. */
	j->saved = UINT64_MAX;
	journal_save_sequence(j);
}

/* --- the directory ---------------------------------------------------------------------------- */

struct names {
	char (*at)[JOURNAL_SEGMENT_NAME_SIZE];
	size_t n, size;
};

static void names_free(struct names *names)
{
	free(names->at);
}

static int names_add(struct names *names, const char *name)
{
	if (names->n == names->size) {
		size_t size = names->size ? names->size * 2 : 64;
		void *at = reallocarray(names->at, size, sizeof(*names->at));

		if (!at)
			return -ENOMEM;
		names->at = at;
		names->size = size;
	}
	strcpy(names->at[names->n++], name);
	return 0;
}

static bool name_is_segment(const char *name)
{
	return strlen(name) == JOURNAL_SEGMENT_NAME_SIZE - 1 && strspn(name, "0123456789abcdef") == 16 &&
	       strcmp(name + 16, SUFFIX) == 0;
}

static void closedir_ptr(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Everything that has the name of a segment; the list comes first, because files are moved and deleted later. */
static int names_read(struct journal *j, struct names *names)
{
	int fd = openat(j->dir.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	_cleanup_(closedir_ptr) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (entry = readdir(dir)))
		if (name_is_segment(entry->d_name))
			r = names_add(names, entry->d_name);
	return r;
}

/* --- one segment ------------------------------------------------------------------------------ */

/* A checksum says that somebody wrote it, not that it makes sense: counting goes on from these. No more records come
 * before it than there is room for. */
static bool record_is_sane(const struct journal_segment *segment, const struct journal_header *header,
			   uint64_t offset)
{
	return header->sequence < INT64_MAX &&
	       header->index - segment->identity.first_index <=
		       (offset - JOURNAL_HEADER_BYTES) / JOURNAL_RECORD_HEADER_BYTES;
}

/* Finds the records of a segment without an end. */
static void segment_scan(struct journal_segment *segment)
{
	struct bytes used = BYTES(segment->map, segment->file_bytes);
	uint64_t offset = segment->state.done_offset, id = segment->identity.id, budget = used.len, size;
	struct journal_header header;

	segment->head = segment->state.done_offset;
	segment->next_index = segment->state.done_index;
	segment->last_sequence = segment->state.last_sequence;
	segment->is_whole = true;
	for (;; offset += size) {
		offset = journal_record_next(used, id, offset, &budget, &header, &size);
		if (offset >= used.len)
			break;
		if (header.index < segment->next_index || !record_is_sane(segment, &header, offset))
			continue;
		segment->is_whole &= header.index == segment->next_index;
		segment->head = offset + size;
		segment->next_index = header.index + 1;
		if (header.sequence > segment->last_sequence)
			segment->last_sequence = header.sequence;
	}
}

/* What was stored behind the last good one is a hole, of one record at least: the sender meets it and counts it. */
static void segment_add_hole(struct journal_segment *segment)
{
	if (segment->head >= segment->state.stored_offset)
		return;
	segment->head = segment->state.stored_offset;
	++segment->next_index;
	segment->is_whole = false;
}

/*
 * On a disk that may not read: a page of zeros would be taken for the end. When there is no good record behind all that
 * cannot be read, nobody knows where it ends. Returns 0; 1: not all of it could be read, and its end is right for now; or
 * the error of mapping the file.
 */
static int segment_try_scan(struct journal_segment *segment)
{
	uint64_t hit_end;
	int r = segment_map(segment);

	if (r)
		return r;
	segment_scan(segment);
	hit_end = segment_was_hit(segment) ? segment_hit_end(segment) : 0;
	segment_unmap(segment);
	segment->is_unread = segment->head < hit_end;
	if (!segment->is_unread)
		segment_add_hole(segment);
	return hit_end ? 1 : 0;
}

/* Returns 0 or the error, after which the file is as it was. */
static int segment_recover(struct journal_segment *segment)
{
	struct journal_state *state = &segment->state;
	int r = state->end_offset ? 0 : segment_try_scan(segment);

	/* Once more: it may have been for a moment. */
	if (r == 1)
		r = segment_try_scan(segment);
	if (r < 0)
		return r;
	/* An end that is not sure, or cannot be written, is found again next time. */
	if (!state->end_offset && r == 0) {
		state->end_offset = segment->head;
		state->end_index = segment->next_index;
		state->last_sequence = segment->last_sequence;
		segment_write_state(segment);
	}
	segment->recovered_head = segment->head;
	segment->n_records = segment->next_index - state->done_index;
	segment->n_bytes = segment->head - state->done_offset;
	return 0;
}

/* --- lanes ------------------------------------------------------------------------------------ */

static int segment_compare(const void *a, const void *b)
{
	const struct journal_segment *x = *(struct journal_segment *const *)a,
				     *y = *(struct journal_segment *const *)b;
	const struct journal_identity *p = &x->identity, *q = &y->identity;

	if (p->kind != q->kind)
		return p->kind < q->kind ? -1 : 1;
	if (p->priority != q->priority)
		return p->priority < q->priority ? -1 : 1;
	if (p->channel != q->channel)
		return p->channel < q->channel ? -1 : 1;
	if (p->ttl_s != q->ttl_s)
		return p->ttl_s < q->ttl_s ? -1 : 1;
	if (p->first_index != q->first_index)
		return p->first_index < q->first_index ? -1 : 1;
	return p->made_ms < q->made_ms ? -1 : p->made_ms > q->made_ms;
}

/* What the segment's state says of single records, as far as the lane's window reaches: the others go out once more.
 * Returns how many are done with. */
static uint64_t lane_take_bits(struct journal_lane *lane, const struct journal_segment *segment)
{
	const struct journal_state *state = &segment->state;
	uint64_t front = lane_first(lane)->state.done_index, n_done = 0;

	for (uint64_t i = 0; i < JOURNAL_WINDOW; ++i) {
		uint64_t index = state->done_index + i;

		if (index >= segment->next_index || index - front >= JOURNAL_WINDOW)
			break;
		if (!(state->done[i / 8] >> (i % 8) & 1))
			continue;
		lane_set_bit(lane, index);
		++n_done;
	}
	return n_done;
}

/*
 * The lane of the key that the segment continues; a new one when it continues none. There are two of one key when a file
 * could not be read at an earlier start, and indexes were given once more meanwhile. Returns 0 or -ENOMEM.
 */
static int lane_of(struct journal *j, const struct journal_segment *segment, struct journal_lane **out)
{
	const struct journal_identity *identity = &segment->identity;
	struct journal_lane_key key = {
		.kind = identity->kind,
		.priority = identity->priority,
		.channel = identity->channel,
		.ttl_s = identity->ttl_s,
		.channel_name = identity->channel_name,
	};
	int r;

	for (*out = lane_find(j, &key, NULL); *out; *out = lane_find(j, &key, *out))
		if (!lane_last(*out) || lane_last(*out)->next_index <= segment->state.done_index)
			return 0;
	r = lane_new(out, j, &key);
	if (!r)
		(*out)->n_refs = 0;
	return r;
}

static void leave_alone(struct journal *j, struct journal_segment *segment, int error)
{
	damage_leave_file(j, segment->name, error);
	segment_free(segment);
}

static void set_aside(struct journal *j, struct journal_segment *segment)
{
	damage_set_file_aside(j, segment->name);
	segment_free(segment);
}

/* Files that were done with and not deleted yet. The lane's window begins behind them: their indexes may be far before it. */
static void lane_drop_done(struct journal_lane *lane)
{
	struct journal_segment *first;

	while ((first = lane_first(lane)) && first->state.done_index == first->next_index)
		lane_release(lane, first);
}

static void take_segment(struct journal *j, struct journal_segment *segment, struct journal_lane *lane)
{
	if (segment->last_sequence > j->appended)
		j->appended = segment->last_sequence;
	lane_drop_done(lane);
	lane_attach(lane, segment);
	lane_uncount(lane, segment, lane_take_bits(lane, segment), 0);
	j->stats.n_recovered += segment->n_records;
	if (segment->is_unread)
		damage_leave_file(j, segment->name, -EIO);
}

/* Records that may be where nothing can be read, at most. */
static uint64_t n_unread_max(const struct journal_segment *segment)
{
	return segment->is_unread ? (segment->file_bytes - segment->head) / JOURNAL_RECORD_HEADER_BYTES : 0;
}

/* What is appended now comes behind what the next start may find there. */
static void lane_leave_numbers(struct journal_lane *lane)
{
	list_for_each (link, &lane->segments)
		lane->journal->appended += n_unread_max(segment_of_link(link));
	if (lane_last(lane))
		lane->next_index += n_unread_max(lane_last(lane));
}

/* A checksum says that somebody wrote it, not that it makes sense: counting goes on from these. */
static bool numbers_are_sane(const struct journal_segment *segment)
{
	return segment->next_index < INT64_MAX && segment->last_sequence < INT64_MAX;
}

/* Segments in order; takes over all of them. Returns 0 or -ENOMEM. */
static int recover_lanes(struct journal *j, struct journal_segment **segments, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n; ++i) {
		struct journal_segment *segment = segments[i];
		struct journal_lane *lane;
		int error = r ? 0 : segment_recover(segment);

		if (r) {
			segment_free(segment);
			continue;
		}
		if (error) {
			leave_alone(j, segment, error);
			continue;
		}
		if (numbers_are_sane(segment))
			error = lane_of(j, segment, &lane);
		else
			error = -EBADMSG;
		if (!error)
			take_segment(j, segment, lane);
		else if (error == -ENOMEM)
			r = error;
		else
			set_aside(j, segment);
		if (r)
			segment_free(segment);
	}
	return r;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Segments of records into @out, the rest to where it belongs. Returns how many, or -ENOMEM. */
static ssize_t open_all(struct journal *j, const struct names *names, struct journal_segment **out)
{
	ssize_t n = 0;

	for (size_t i = 0; i < names->n; ++i) {
		struct journal_segment *segment;
		int r = segment_open(&segment, &j->dir, names->at[i]);

		if (r == -ENODATA)
			unlinkat(j->dir.fd, names->at[i], 0);
		else if (r == -EBADMSG)
			damage_set_file_aside(j, names->at[i]);
		else if (r == -ENOMEM)
			goto fail;
		else if (r)
			damage_leave_file(j, names->at[i], r);
		else if (segment->identity.kind == JOURNAL_KIND_SPARE)
			spares_give(j->spares, segment);
		else
			out[n++] = segment;
	}
	return n;
fail:
	while (n > 0)
		segment_free(out[--n]);
	return -ENOMEM;
}

int journal_recover(struct journal *j)
{
	_cleanup_(names_free) struct names names = {0};
	_cleanup_(free_ptr) struct journal_segment **segments = NULL;
	ssize_t n;
	int r = names_read(j, &names);

	if (r) {
		log_error(j->log, "cannot read the journal's directory: %s", strerror(-r));
		return r;
	}
	segments = calloc(names.n + 1, sizeof(struct journal_segment *));
	if (!segments)
		return -ENOMEM;
	n = open_all(j, &names, segments);
	if (n < 0)
		return (int)n;
	qsort(segments, (size_t)n, sizeof(struct journal_segment *), segment_compare);
	r = recover_lanes(j, segments, (size_t)n);
	if (r)
		return r;
	list_for_each (link, &j->lanes)
		lane_leave_numbers(container_of(link, struct journal_lane, link));
	j->recovered = j->stored = j->appended;
	list_for_each (link, &j->lanes) {
		struct journal_lane *lane = container_of(link, struct journal_lane, link);

		lane_wake(lane);
		/* One without records is freed at the end of the turn unless it is wanted by then. */
		lane_touch(lane, NULL);
	}
	if (j->stats.n_recovered)
		log_info(j->log, "%" PRIu64 " messages were in the journal", j->stats.n_recovered);
	return 0;
}
