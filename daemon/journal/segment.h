/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_SEGMENT_H
#define JOURNAL_SEGMENT_H

/*
 * One segment as a file: make, open, map, write its state, end. What the records in it mean is the journal's.
 *
 * The calls here are made from the loop and may block for as long as the file system's metadata takes; on the
 * telemetry path they come once a segment, and mostly a spare one is ready (spares.h).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "journal/format.h"
#include "journal/guard.h"
#include "loop/loop.h"

/* "0123456789abcdef.segment" and its NUL. */
#define JOURNAL_SEGMENT_NAME_SIZE 25

/* Where segments live; owned by the journal. */
struct journal_dir {
	int fd;           /* of the directory; -1: there is none */
	int check_fd;     /* of a file in it, borrowed, see loop_op_check_fs(); -1: there is none */
	bool is_volatile; /* nothing is synced */
	bool is_dirty; /* entries were added that are not synced yet: nothing in new files is stored before */
	struct journal_guard *guard; /* may be NULL */
};

/* Offsets of records one after the other, none of which is of interest any more. */
struct journal_run {
	uint64_t from, to;
};

/* Of a segment, the longest ones that were met: what a walk has passed once it passes at once. */
#define JOURNAL_SEGMENT_RUNS 8

struct journal_segment {
	struct list link; /* the owner's: of a lane in order of index, or of the spare ones */
	struct journal_dir *dir;
	struct journal_identity identity;
	struct journal_state state;           /* as it is meant; in the file after segment_write_state() */
	char name[JOURNAL_SEGMENT_NAME_SIZE]; /* of the file */
	int fd;                               /* -1 while it is not mapped */
	uint8_t *map;                         /* of the whole file; NULL: not mapped */
	uint64_t file_bytes; /* of the file, as of when it was opened or mapped; behind them are zeros */
	struct journal_guard_range *range;
	unsigned int n_users; /* that need the mapping, see segment_map() */
	bool is_private;      /* the file cannot be written, or not all of it: nothing is to be appended */
	bool is_torn;         /* there was a hit: not every page of the mapping is the file's */
	bool is_failed; /* a sync or a write failed: nothing is appended any more, nothing of it is called stored */
	bool is_settled; /* each block was written, and loop_op_check_fs() found that known: syncs are of data only */
	/* The owner's: */
	uint64_t head;       /* where the next record goes */
	uint64_t next_index; /* and its index */
	uint64_t last_sequence;
	uint64_t recovered_head; /* head when the journal was opened; 0: made since */
	bool is_unread;          /* there may be more behind the head, which could not be read */
	bool is_whole;           /* recovery looked at every record, and none is missing */
	bool is_counted;         /* what was withdrawn by the time it was opened is off the next two, too */
	uint64_t n_records;      /* not done with, and the bytes of the bound they take */
	uint64_t n_bytes;
	uint64_t n_withdrawn; /* bytes that do not count any more, but lie there */
	bool is_dirty;        /* its state is to be written */
	bool is_held;         /* its lane is one of the users */
	struct list unsynced; /* of those with records behind stored_offset */
	struct list synced;   /* of those whose sync went well, until the commit is checked */
	uint64_t sync_head;   /* head of the commit under way, 0 = none */
	struct loop_op sync;  /* of the commit; the owner is container_of */
	/* Withdrawn or done with; empty ones are unused. */
	struct journal_run runs[JOURNAL_SEGMENT_RUNS];
	void *owner;
};

void segment_name(uint64_t id, char out[static JOURNAL_SEGMENT_NAME_SIZE]);

/*
 * Makes the file of an identity (with a new random id, which is set in it) and maps it, with one user: all its space is
 * allocated, so that no write into the mapping finds the disk full. @identity->size: a power of two, at least
 * JOURNAL_SEGMENT_BYTES_MIN. Nothing is synced yet: sets dir->is_dirty. Returns 0, or what the file system says:
 * -ENOSPC (also for the process's limit of file size and a quota), -EROFS, -EIO, -EMFILE, -ENOMEM, … and nothing of
 * it is left.
 */
int segment_new(struct journal_segment **out, struct journal_dir *dir, struct journal_identity *identity);

/*
 * Opens a file by name and reads its header; not mapped, and no descriptor is kept. The owner fills in head, next_index
 * and last_sequence unless the state has an end. A state that is impossible counts as none; without one nothing is
 * done, from the first record on. A file that was cut is accepted: what is missing is zeros, and where its state says
 * that something is, the file ends. Returns 0;
 *  -ENODATA: empty, or all zeros: made just before a crash, and nothing in it was ever promised;
 *  -EBADMSG: no valid identity (zeros with something behind them are none), or not the name of the id (a spare one may
 *    have another name, of its last use): not a segment that can be used;
 *  -ENOTSUP: of a later version of the format;
 *  -ENOMEM, or the error of the file system.
 */
int segment_open(struct journal_segment **out, struct journal_dir *dir, const char *name);

/*
 * One user more and less of the mapping, which is there while it has any. A file that cannot be opened for writing is
 * opened for reading (is_private); one that was cut is not made longer, and is private as well. With a guard that is full
 * it is not mapped: -EMFILE. A page that cannot be read or written is zeros from then on, whatever is written to it
 * (guard.h); segment_was_hit() says so once. Returns 0 or a negative errno. The last user leaves when no sync is in flight.
 */
int segment_map(struct journal_segment *segment);
void segment_unmap(struct journal_segment *segment);
bool segment_was_hit(struct journal_segment *segment);
/* The offset behind the last page that was replaced since the file was mapped, 0: none was. */
uint64_t segment_hit_end(const struct journal_segment *segment);

/* All of the file; mapped. */
static inline struct bytes segment_bytes(const struct journal_segment *segment)
{
	return BYTES(segment->map, segment->identity.size);
}

/*
 * Writes segment->state with the next generation: into the mapping, or by pwrite(2) when there is none that reaches the
 * file. Syncs nothing. Returns 0 or the error, after which state.generation is the old one.
 */
int segment_write_state(struct journal_segment *segment);

/* Gives the space behind the head back to the file system, if it can: nothing will be appended any more. */
void segment_free_tail(const struct journal_segment *segment);

/* Whether the disk reads the beginning of a file of the directory: not what is in memory of it, where the file system can
 * tell. May block. */
bool segment_disk_reads(const struct journal_dir *dir, const char *name);

/* Errors of file systems that mean "full" are -ENOSPC, others what they are. */
int segment_disk_error(int error);

/* Closes the file, which stays. Idle (no sync in flight). NULL is fine. */
void segment_free(struct journal_segment *segment);
/* Deletes the file and frees. NULL is fine. */
void segment_delete(struct journal_segment *segment);

/* --- for those who make segments (spares.h) --------------------------------------------------- */

/* A random number that is not 0. Returns 0 or the error. */
int segment_random_id(uint64_t *id);

/* A segment of an identity, whose file nobody has looked at yet. Returns it, or NULL: no memory. */
struct journal_segment *segment_of(struct journal_dir *dir, const struct journal_identity *identity);

/* A mapped segment without records, and with the id of @identity, gets all the rest of it and a first state. */
void segment_begin(struct journal_segment *segment, const struct journal_identity *identity);

/*
 * What a file is filled with, a piece at a time. The pieces are small on purpose: a kernel that keeps files in memory in
 * large folios makes one of each write, and later writes the whole folio for each byte that changes in it.
 */
#define SEGMENT_ZEROS_BYTES 16384
extern const uint8_t segment_zeros[SEGMENT_ZEROS_BYTES];

/* The piece of a file of @size that begins at @at: the header has its own. */
static inline size_t segment_fill_len(uint64_t at, uint64_t size)
{
	size_t len =
		at == 0 ? JOURNAL_HEADER_BYTES : SEGMENT_ZEROS_BYTES - (size_t)(at % SEGMENT_ZEROS_BYTES);

	return size - at < len ? (size_t)(size - at) : len;
}

#endif
