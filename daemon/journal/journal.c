/* SPDX-License-Identifier: MIT */
/*
 * The journal: its life, its bound, its lanes and appending, see journal.h.
 *
 * What a turn changes is written at its end, in this order: the states of segments, then a commit, then the news that
 * there is room. Lanes that nobody needs any more are freed there, too, and nowhere else.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "journal/internal.h"

/* --- life ------------------------------------------------------------------------------------- */

static void journal_on_turn_end(struct loop_deferred *deferred)
{
	struct journal *j = container_of(deferred, struct journal, turn_end);
	struct list *link;

	j->is_running = true;
	while ((link = list_first(&j->dirty)))
		lane_flush(container_of(link, struct journal_lane, dirty));
	/* Freeing a lane touches it: that was all. */
	loop_undefer(&j->turn_end);
	commit_start(j);
	if (j->has_freed) {
		j->has_freed = false;
		if (j->ops && j->ops->on_room && !j->is_stopped)
			j->ops->on_room(j->userdata);
	}
}

void journal_flush_states(struct journal *j)
{
	list_for_each (link, &j->dirty)
		lane_flush_states(container_of(link, struct journal_lane, dirty));
}

/* The directory that has the journal's: its entry is to survive as well. */
static void sync_parent(const struct journal *j, const char *path)
{
	_cleanup_(close_fd) int fd = openat(j->dir.fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		log_warning(j->log, "cannot sync the directory of %s: %s", path, strerror(errno));
}

static int journal_open_dir(struct journal *j, const char *path)
{
	int made = mkdir(path, 0700) == 0 ? 0 : -errno, r;

	if (made && made != -EEXIST && made != -EROFS) {
		log_error(j->log, "cannot make %s: %s", path, strerror(-made));
		return made;
	}
	j->dir.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->dir.fd < 0) {
		/* One that is there is good enough, where none can be made. */
		r = errno == ENOENT && made ? made : -errno;
		log_error(j->log, "cannot open %s: %s", path, strerror(-r));
		return r;
	}
	/* Who made it, or files in it, may have been killed before they were synced. */
	j->dir.is_dirty = !j->dir.is_volatile;
	if (!j->dir.is_volatile)
		sync_parent(j, path);
	return 0;
}

void journal_open_lock(struct journal *j)
{
	j->lock_fd = openat(j->dir.fd, JOURNAL_LOCK_NAME,
			    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	j->dir.check_fd = j->lock_fd;
}

/*
 * The lock is on the directory, so it works where no file can be made; the file has the owner's number to show. It has a
 * descriptor of its own, which the ring never sees: what the ring uses is closed a while after a process that was killed.
 */
static int journal_lock(struct journal *j, const char *path)
{
	char text[32] = "";

	journal_open_lock(j);
	j->locked_fd = openat(j->dir.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->locked_fd >= 0 && flock(j->locked_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (j->locked_fd < 0 || errno != EWOULDBLOCK) {
		int r = -errno;

		log_error(j->log, "cannot lock %s: %s", path, strerror(-r));
		return r;
	}
	if (j->lock_fd < 0 || pread(j->lock_fd, text, sizeof(text) - 1, 0) < 0)
		text[0] = '\0';
	text[strcspn(text, " \n")] = '\0';
	log_error(j->log, "%s is in use by another process%s%s", path, text[0] ? ", number " : "", text);
	return -EBUSY;
}

static struct journal *journal_alloc(const struct journal_options *options)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->loop = options->loop;
	j->log = options->log;
	j->ops = options->ops;
	j->userdata = options->userdata;
	j->max_bytes = options->max_bytes;
	j->dir = (struct journal_dir){
		.fd = -1, .check_fd = -1, .is_volatile = options->is_volatile, .guard = options->guard};
	j->locked_fd = -1;
	j->lock_fd = -1;
	list_init(&j->lanes);
	list_init(&j->dirty);
	list_init(&j->zombies);
	for (size_t i = 0; i < ARRAY_SIZE(j->ready); ++i)
		list_init(&j->ready[i]);
	loop_deferred_init(&j->turn_end, journal_on_turn_end);
	commit_init(j);
	damage_init(j);
	return j;
}

int journal_new(struct journal **out, const struct journal_options *options)
{
	struct journal *j = journal_alloc(options);
	int r;

	if (!j)
		return -ENOMEM;
	r = journal_open_dir(j, options->dir);
	if (!r)
		r = journal_lock(j, options->dir);
	if (!r)
		r = spares_new(&j->spares, j->loop, &j->dir);
	if (!r) {
		journal_load_sequence(j);
		r = journal_recover(j);
	}
	if (r) {
		if (j->spares)
			spares_stop(j->spares, true);
		j->is_stopped = true;
		journal_free(j);
		return r;
	}
	loop_defer(j->loop, &j->turn_end);
	*out = j;
	return 0;
}

void journal_stop(struct journal *j)
{
	if (!j || j->is_stopped)
		return;
	journal_save_sequence(j);
	j->is_stopped = true;
	spares_stop(j->spares, false);
	list_for_each (link, &j->lanes) {
		struct journal_lane *lane = container_of(link, struct journal_lane, link);

		lane_close(lane);
		lane_flush_states(lane);
		if (!lane_ends(lane))
			continue;
		while (!list_is_empty(&lane->segments))
			lane_release(lane, lane_first(lane));
	}
	loop_undefer(&j->turn_end);
	loop_timer_disarm(&j->retry);
	loop_timer_disarm(&j->damage_timer);
	j->is_sync_wanted = !j->dir.is_volatile;
	commit_start(j);
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	assert(j->is_stopped && !j->is_committing && list_is_empty(&j->zombies));
	journal_unpin(j);
	list_for_each_safe (link, &j->lanes) {
		struct journal_lane *lane = container_of(link, struct journal_lane, link);

		list_for_each_safe (at, &lane->segments) {
			lane_unhold(segment_of_link(at));
			segment_free(segment_of_link(at));
		}
		free(lane);
	}
	loop_undefer(&j->turn_end);
	loop_timer_disarm(&j->retry);
	loop_timer_disarm(&j->damage_timer);
	spares_free(j->spares);
	close_fd(&j->lock_fd);
	close_fd(&j->locked_fd);
	close_fd(&j->dir.fd);
	free(j);
}

/* --- room ------------------------------------------------------------------------------------- */

uint64_t journal_n_bytes(const struct journal *j)
{
	return j->n_bytes + j->held;
}

uint64_t journal_max_bytes(const struct journal *j)
{
	return j->max_bytes;
}

/* What was recovered may be more than the bound is now. */
static uint64_t journal_left(const struct journal *j)
{
	uint64_t n = journal_n_bytes(j);

	return n < j->max_bytes ? j->max_bytes - n : 0;
}

bool journal_has_room(const struct journal *j, uint64_t n_records, uint64_t n_bytes)
{
	uint64_t left = journal_left(j);

	/* What was withdrawn takes space on the disk until what was before it is done. */
	return j->n_withdrawn <= j->max_bytes && n_bytes <= left &&
	       n_records <= (left - n_bytes) / JOURNAL_RECORD_OVERHEAD;
}

int journal_hold(struct journal *j, uint64_t n_bytes)
{
	if (n_bytes > journal_left(j))
		return -ENOSPC;
	j->held += n_bytes;
	return 0;
}

void journal_lend(struct journal *j, uint64_t n_bytes)
{
	assert(n_bytes <= j->held);
	j->held -= n_bytes;
}

void journal_unhold(struct journal *j, uint64_t n_bytes)
{
	assert(n_bytes <= j->held);
	j->held -= n_bytes;
	if (n_bytes == 0 || j->is_stopped)
		return;
	j->has_freed = true;
	loop_defer(j->loop, &j->turn_end);
}

/* --- lanes ------------------------------------------------------------------------------------ */

int journal_lane_get(struct journal *j, const struct journal_lane_key *key, struct journal_lane **out)
{
	struct journal_lane *lane = lane_find(j, key, NULL);

	assert(key->kind == JOURNAL_KIND_QUEUE || key->kind == JOURNAL_KIND_REJECTED);
	assert(key->priority < JOURNAL_N_PRIORITIES);
	if (lane) {
		++lane->n_refs;
		*out = lane;
		return 0;
	}
	if (j->is_running && j->n_lanes >= JOURNAL_LANES_MAX)
		return -ENOSPC;
	return lane_new(out, j, key);
}

void journal_lane_put(struct journal_lane *lane)
{
	assert(lane->n_refs > 0);
	if (--lane->n_refs == 0 && !lane->journal->is_stopped)
		lane_touch(lane, NULL);
}

struct journal_lane *journal_next_lane(struct journal *j, struct journal_lane *after)
{
	struct list *link = after ? after->link.next : j->lanes.next;

	return link == &j->lanes ? NULL : container_of(link, struct journal_lane, link);
}

void journal_lane_key(const struct journal_lane *lane, struct journal_lane_key *out)
{
	*out = lane->key;
}

uint64_t journal_lane_n_records(const struct journal_lane *lane)
{
	return lane->n_records;
}

uint64_t journal_lane_n_bytes(const struct journal_lane *lane)
{
	return lane->n_bytes;
}

/* --- append ----------------------------------------------------------------------------------- */

int journal_reserve(struct journal_lane *lane, uint64_t n_records, uint64_t n_bytes)
{
	static_assert(JOURNAL_RECORD_HEADER_BYTES + JOURNAL_ALIGNMENT - 1 <= JOURNAL_RECORD_OVERHEAD,
		      "overhead is an upper bound");
	if (!journal_has_room(lane->journal, n_records, n_bytes))
		return -ENOSPC;
	return lane_make_room(lane, n_bytes + n_records * JOURNAL_RECORD_OVERHEAD);
}

int journal_append(struct journal_lane *lane, uint64_t origin, uint64_t time_ms, size_t properties_len,
		   size_t payload_len, uint8_t **properties, uint8_t **payload)
{
	struct journal *j = lane->journal;
	uint64_t size = journal_record_bytes(properties_len, payload_len);
	struct journal_header header;
	uint8_t *at;
	int r;

	assert(!j->appender);
	if (properties_len > UINT32_MAX || payload_len > UINT32_MAX || size > journal_left(j))
		return -ENOSPC;
	r = lane_make_room(lane, size);
	if (r)
		return r;
	header = (struct journal_header){
		.properties_len = (uint32_t)properties_len,
		.payload_len = (uint32_t)payload_len,
		.sequence = j->appended + 1,
		.index = lane->next_index,
		.time_ms = time_ms,
		.ttl_s = lane->key.ttl_s,
		.channel = lane->key.channel,
		.priority = lane->key.priority,
		.origin = origin,
	};
	at = lane->active->map + lane->active->head;
	journal_record_reserve(at, &header);
	*properties = at + JOURNAL_RECORD_HEADER_BYTES;
	*payload = *properties + properties_len;
	j->appender = lane;
	j->pending = size;
	return 0;
}

/* The record is there: everything that counts it. */
static void lane_count(struct journal_lane *lane, struct journal_segment *segment, uint64_t size)
{
	struct journal *j = lane->journal;
	struct journal_place *next = &lane->next;

	++j->appended;
	/* It was right when it was written a moment ago, and is checked when it is read. */
	if (next->segment == segment && next->offset == segment->head && next->index == lane->next_index) {
		next->is_resolved = true;
		next->sequence = j->appended;
		next->size = size;
	}
	segment->head += size;
	segment->next_index = ++lane->next_index;
	segment->last_sequence = j->appended;
	++segment->n_records;
	segment->n_bytes += size;
	++lane->n_records;
	lane->n_bytes += size;
	j->n_bytes += size;
	commit_add(j, segment);
	lane_wake(lane);
}

int journal_commit(struct journal_lane *lane, uint64_t *sequence)
{
	struct journal *j = lane->journal;
	struct journal_segment *segment = lane->active;
	uint8_t *at = segment->map + segment->head;

	assert(j->appender == lane);
	j->appender = NULL;
	journal_record_publish(at, segment->identity.id);
	if (segment_was_hit(segment) || segment->is_torn) {
		/* What of it reached the file is no record, and its number is nobody's. */
		memset(at, 0, JOURNAL_RECORD_HEADER_BYTES);
		++j->appended;
		commit_fail_segment(j, segment, disk_error_now(j));
		lane_remap(lane, segment);
		return -EIO;
	}
	lane_count(lane, segment, j->pending);
	if (segment->head >= lane->prepare_at) {
		lane->prepare_at = UINT64_MAX;
		spares_prepare(j->spares, lane->segment_bytes);
	}
	*sequence = j->appended;
	return 0;
}

/* --- counters --------------------------------------------------------------------------------- */

uint64_t journal_appended(const struct journal *j)
{
	return j->appended;
}

uint64_t journal_stored(const struct journal *j)
{
	return j->stored;
}

uint64_t journal_committed_last(const struct journal *j)
{
	return j->commit_sequence;
}

bool journal_is_durable(const struct journal *j)
{
	return !j->dir.is_volatile;
}

void journal_stats(const struct journal *j, struct journal_stats *out)
{
	*out = j->stats;
	out->n_segments += spares_n(j->spares);
	out->segment_bytes += spares_bytes(j->spares);
	out->error = j->make_error ? j->make_error : j->sync_error ? j->sync_error : j->read_error;
}
