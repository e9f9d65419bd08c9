/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_INTERNAL_H
#define JOURNAL_INTERNAL_H

/*
 * The journal's objects, for its own files: journal.c (life, room, lanes, append), lane.c (the segments of a lane),
 * send.c (the first unsent record), read.c (reading and ending records), unseen.c (ending what cannot be read), commit.c
 * (the disk), recover.c, damage.c.
 *
 * A lane's records by index:
 *
 *     first->state.done_index      next.index                 next_index
 *       |  sent: bit in done[] when  |  not sent yet            |
 *       |  it is done with           |                          |
 *
 * `first` is the lane's first segment. Invariants: the sent range is at most JOURNAL_WINDOW long, and what is missing
 * in it (a hole) became so after it was sent: next moves over a hole only when the sent range is empty. Bits of
 * done[] are of the indexes [done_index, done_index + JOURNAL_WINDOW); withdrawn records get theirs when next passes.
 *
 * The segments from the first one to next.segment, and the active one, are held: mapped.
 */

#include "base/list.h"
#include "journal/journal.h"
#include "journal/segment.h"
#include "journal/spares.h"

/* How often a disk that fails is tried again. */
#define JOURNAL_RETRY_NS (500 * NSEC_PER_MSEC)
/* A record that cannot be read because of the disk is given up after so many attempts, when other things can be read. */
#define JOURNAL_READ_ATTEMPTS 20
/* Of the process's lock, in the directory. */
#define JOURNAL_LOCK_NAME    "lock"
#define JOURNAL_N_PRIORITIES 10

struct journal_place {
	struct journal_segment *segment; /* NULL: the lane has none */
	uint64_t offset;
	uint64_t index;
	bool is_resolved; /* a good record is there; its: */
	uint64_t sequence;
	uint64_t size;
};

struct journal_lane {
	struct list link;  /* of all lanes */
	struct list ready; /* of its priority, while there may be something to send */
	struct list dirty; /* of those with states to write, or that may be freed */
	struct journal *journal;
	struct journal_lane_key key;
	char name[JOURNAL_CHANNEL_NAME_MAX + 1];
	unsigned int n_refs;
	struct list segments;           /* in order of index */
	struct journal_segment *active; /* the last one, when it takes records; else NULL */
	bool may_shrink;                /* nothing but withdrawn records may be in one of them */
	bool is_ended;                  /* the last one is not gone on with: that was tried */
	uint64_t next_index;            /* of the next record */
	uint64_t n_records;             /* not done with, and their bytes */
	uint64_t n_bytes;
	uint64_t segment_bytes;     /* size of the next segment */
	uint64_t prepare_at;        /* head of the active one that makes it time to prepare the next one */
	struct journal_place next;  /* the first record that is not sent */
	unsigned int n_read_errors; /* in a row */
	uint64_t read_again_ns;     /* then: not before */
	uint64_t done[JOURNAL_WINDOW / 64];
};

/* Records of a segment to withdraw, by number. */
struct journal_unseen {
	const struct journal_segment *segment;
	uint64_t first, last;
};

/* What the disk does now. */
enum journal_disk {
	JOURNAL_DISK_OK,
	JOURNAL_DISK_FULL,
	JOURNAL_DISK_FAILS,
};

struct journal {
	struct loop *loop;
	struct log *log;
	const struct journal_ops *ops;
	void *userdata;
	struct journal_dir dir;
	int locked_fd; /* the directory; has the lock */
	int lock_fd;   /* the file `lock`, also dir.check_fd; -1: it could not be made */
	struct journal_spares *spares;
	uint64_t max_bytes;

	struct list lanes;
	unsigned int n_lanes;
	struct list ready[JOURNAL_N_PRIORITIES];
	struct list dirty;
	struct list zombies;           /* segments that are done with, their sync still in flight */
	struct journal_segment *pin;   /* mapped for the last reader */
	struct journal_lane *appender; /* between append and commit */
	uint64_t pending;              /* bytes of that record */

	uint64_t n_bytes;     /* in use */
	uint64_t n_withdrawn; /* bytes of records that are not, of segments that are there */
	uint64_t held;
	uint64_t appended;
	uint64_t recovered; /* sequences up to here are an earlier daemon's */
	uint64_t saved;     /* as the file `lock` has it */
	uint64_t stored;
	bool has_freed;  /* bytes of the bound, in this turn */
	bool is_running; /* the first turn has ended */
	bool is_stopped;
	struct loop_deferred turn_end;

	struct journal_unseen unseen[JOURNAL_UNSEEN_MAX];
	unsigned int n_unseen;
	struct log_once unseen_logged;

	/* Commits. */
	struct list unsynced; /* segments with records that no commit took up yet; it is one of their users */
	bool is_sync_wanted;
	bool is_committing;
	struct list synced;   /* segments of the commit that wait for its check */
	bool needs_check;     /* the commit under way */
	unsigned int n_syncs; /* in flight */
	uint64_t commit_sequence;
	int commit_error;
	int lost_error;  /* records that no commit can store any more: the next one fails with this */
	bool has_synced; /* the commit under way: a file */
	struct journal_segment *probe; /* in flight */
	struct loop_op dir_sync;
	struct loop_op check;

	/* Trouble. */
	enum journal_disk disk;
	int make_error;          /* of the last segment that was to be made, 0 = it went well */
	int sync_error;          /* of the last commit */
	uint64_t sync_failed_ns; /* when that was */
	int read_error;          /* of the last thing the sender read */
	uint64_t wanted_bytes;   /* size of the segment that could not be made */
	struct loop_timer retry;

	/* Damage. */
	struct loop_timer damage_timer;
	uint64_t damage_at_ns;  /* not before the next event */
	uint64_t n_damage_told; /* records */
	uint64_t n_files_aside; /* since the last event */
	uint64_t n_files_left;  /* likewise, that cannot be read */
	unsigned int n_copies;  /* since the last event */

	struct journal_stats stats;
};

static inline struct journal_segment *segment_of_link(struct list *link)
{
	return container_of(link, struct journal_segment, link);
}

static inline struct journal_segment *lane_first(struct journal_lane *lane)
{
	return list_is_empty(&lane->segments) ? NULL : segment_of_link(lane->segments.next);
}

static inline struct journal_segment *lane_last(struct journal_lane *lane)
{
	return list_is_empty(&lane->segments) ? NULL : segment_of_link(lane->segments.prev);
}

static inline struct journal_segment *lane_after(struct journal_lane *lane, struct journal_segment *segment)
{
	return segment->link.next == &lane->segments ? NULL : segment_of_link(segment->link.next);
}

/* Records are sent that are not done with, or not known to be. */
static inline bool lane_in_flight(struct journal_lane *lane)
{
	struct journal_segment *first = lane_first(lane);

	return first && (first != lane->next.segment || first->state.done_index != lane->next.index);
}

/* By what is there: how many records an earlier daemon left can be counted wrong. */
static inline bool lane_is_empty(struct journal_lane *lane)
{
	struct journal_segment *segment = lane->next.segment;

	return !segment || (!lane_in_flight(lane) && segment == lane_last(lane) &&
			    lane->next.index == segment->next_index);
}

/* --- lane.c ----------------------------------------------------------------------------------- */

/* The first one behind @after, which may be NULL. */
struct journal_lane *lane_find(struct journal *j, const struct journal_lane_key *key,
			       struct journal_lane *after);
/* With one reference. Returns 0 or -ENOMEM. */
int lane_new(struct journal_lane **out, struct journal *j, const struct journal_lane_key *key);
/* Its segments are released. */
void lane_free(struct journal_lane *lane);

/* Adds a segment at the end; its head, next_index, n_records and n_bytes are set. */
void lane_attach(struct journal_lane *lane, struct journal_segment *segment);
/* Takes a segment out, for spares or deletion; whatever records it had are gone. */
void lane_release(struct journal_lane *lane, struct journal_segment *segment);

/* Makes sure that the active segment has @n_bytes behind its head. Returns 0 or the error of the disk. */
int lane_make_room(struct journal_lane *lane, uint64_t n_bytes);
/* The active segment takes no more records. */
void lane_close(struct journal_lane *lane);
/* At the end of the turn: segments with withdrawn records only are released. */
void lane_shrink_later(struct journal_lane *lane);

/* One lane's claim on the mapping. Returns 0 or a negative errno. */
int lane_hold(struct journal_segment *segment);
void lane_unhold(struct journal_segment *segment);
/* Maps the segment for a reader, until another one is pinned. Returns 0 or a negative errno. */
int journal_pin(struct journal *j, struct journal_segment *segment);
void journal_unpin(struct journal *j);
/* Pages that were replaced after an error are the file's again, where that is possible now. Nothing is appended to the
 * segment any more, and what was not synced is not called stored. */
void lane_remap(struct journal_lane *lane, struct journal_segment *segment);

/* Records and bytes are not in use any more. */
void lane_uncount(struct journal_lane *lane, struct journal_segment *segment, uint64_t n_records,
		  uint64_t n_bytes);

/* The segment's state changed: it is written at the end of the turn. */
void lane_touch(struct journal_lane *lane, struct journal_segment *segment);
/* Writes the states that changed. */
void lane_flush_states(struct journal_lane *lane);
/* Whether nothing is left in it. Moves next when that may be so. */
bool lane_ends(struct journal_lane *lane);
/* Writes the states; or frees the lane when nobody needs it. */
void lane_flush(struct journal_lane *lane);
/* Writes one state with the bits of done[] in it. Returns 0 or the error. */
int lane_write_state(struct journal_lane *lane, struct journal_segment *segment);

static inline bool lane_bit(const struct journal_lane *lane, uint64_t index)
{
	return lane->done[index % JOURNAL_WINDOW / 64] >> (index % 64) & 1;
}

static inline void lane_set_bit(struct journal_lane *lane, uint64_t index)
{
	lane->done[index % JOURNAL_WINDOW / 64] |= UINT64_C(1) << (index % 64);
}

static inline void lane_clear_bit(struct journal_lane *lane, uint64_t index)
{
	lane->done[index % JOURNAL_WINDOW / 64] &= ~(UINT64_C(1) << (index % 64));
}

/* --- send.c ----------------------------------------------------------------------------------- */

enum lane_next {
	LANE_READY,   /* next is a good record */
	LANE_EMPTY,   /* nothing is unsent */
	LANE_BLOCKED, /* the window is full, a hole waits for what is in flight, or the disk does not read */
};

/* Moves next over whatever is not to be sent. */
enum lane_next lane_resolve(struct journal_lane *lane);
/* The record at next, resolved. */
struct journal_cursor lane_next_cursor(struct journal_lane *lane);
/* It counts as sent. */
void lane_pass(struct journal_lane *lane);
/* There may be something to send again. */
void lane_wake(struct journal_lane *lane);
/* Moves the front over what is done with, releases segments. */
void lane_advance(struct journal_lane *lane);
/* Brings done_offset of the first segment up to done_index. */
void lane_settle_front(struct journal_lane *lane);

/* A record, or one that was withdrawn, as it lies in a segment. */
struct lane_found {
	struct journal_header header;
	uint64_t size;
	bool is_withdrawn;
};

/* Whether there is one at the offset of a mapped segment, with an index from @index on: anything else that looks like a
 * record there is none. */
bool lane_look(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset, uint64_t index,
	       struct lane_found *out);
/* The first place from @offset on with one; the segment's head when there is none. */
uint64_t lane_search(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset,
		     uint64_t index, struct lane_found *out);

/* Something in the segment could not be read. Whether it is to be tried once more, some time later: the disk may come
 * back. */
bool lane_on_read_error(struct journal_lane *lane, struct journal_segment *segment, int error);

/* Whether the record is done with; @index is not behind the end. */
bool lane_is_done(struct journal_lane *lane, uint64_t index);

/* --- read.c ----------------------------------------------------------------------------------- */

/* Withdraws a good record; its segment is mapped. */
void lane_withdraw(struct journal_lane *lane, struct journal_segment *segment, uint64_t offset,
		   uint64_t sequence, uint64_t size);

/* --- unseen.c --------------------------------------------------------------------------------- */

/* The record is to be withdrawn as soon as it can be read. When there are too many of them it stays, which is logged. */
void unseen_add(struct journal *j, const struct journal_segment *segment, uint64_t sequence);
bool unseen_has(const struct journal *j, const struct journal_segment *segment, uint64_t sequence);
/* Nothing of the segment matters any more. */
void unseen_forget(struct journal *j, const struct journal_segment *segment);

/* --- commit.c --------------------------------------------------------------------------------- */

void commit_init(struct journal *j);
/* At the end of a turn. */
void commit_start(struct journal *j);
void commit_on_synced(struct loop_op *op, int res);
/* The segment, mapped, has records that are to be synced: it stays mapped. */
void commit_add(struct journal *j, struct journal_segment *segment);
/* It is not synced any more. */
void commit_forget(struct journal_segment *segment);
/* Nothing is appended to the segment any more; what it has unsynced will never be called stored. */
void commit_fail_segment(struct journal *j, struct journal_segment *segment, int error);

/* A segment of @n_bytes could not be made, or could. */
void disk_on_make(struct journal *j, uint64_t n_bytes, int error);
/* A page could not be read or written: -EROFS or -EIO, whichever it is. */
int disk_error_now(const struct journal *j);
/* The sender could not read, 0: it can again. */
void disk_on_read(struct journal *j, int error);
void journal_event(struct journal *j, const char *event, const char *text);

/* --- journal.c -------------------------------------------------------------------------------- */

/* The file `lock`, which is made if it is not there. */
void journal_open_lock(struct journal *j);

/* --- recover.c -------------------------------------------------------------------------------- */

/* Takes over what is in the directory. Returns 0, -ENOMEM, or the error of reading the directory. */
int journal_recover(struct journal *j);
/* Notes the number of the last record in the file `lock`. */
void journal_save_sequence(struct journal *j);
/* Reads it, and writes the process's number. */
void journal_load_sequence(struct journal *j);

/* --- damage.c --------------------------------------------------------------------------------- */

/* @n_records were lost; the bytes of the segment (mapped) are kept aside. */
void damage_note(struct journal *j, struct journal_segment *segment, uint64_t from, uint64_t to,
		 uint64_t n_records);
/* A file that is no segment goes to damaged/. */
void damage_set_file_aside(struct journal *j, const char *name);
/* A file that cannot be read, or its end, stays where it is; it is not looked at again before the next start. */
void damage_leave_file(struct journal *j, const char *name, int error);
void damage_init(struct journal *j);

#endif
