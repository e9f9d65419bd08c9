/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

/*
 * The queue of messages between their writers and the hub: on disk, in order, bounded in bytes.
 *
 * A lane is what is first in, first out: the records of one channel with one priority and one ttl. All records of the
 * journal are numbered in the order they were appended; records go out by priority, those of one priority by number,
 * whatever their lanes. A lane is a list of segments (format.h); the one that is written and those with records in
 * flight are mapped, the rest is files, so memory does not grow with the backlog.
 *
 * Watermarks of each lane, as indexes: done <= sent <= appended. done is the contiguous prefix of what needs no more
 * attention: acknowledged, rejected, dropped, expired, withdrawn or damaged. Of the journal, as sequences:
 * stored <= appended. All asserted here and moved only by the calls below.
 *
 * Disk space: a lane takes segments of 64 KiB at first and larger ones as it grows, so the files are a little more
 * than the bytes in use; a segment that is done with is used again or deleted.
 *
 * Trouble with the disk never ends the daemon and never blocks what is already queued. An error on making a segment
 * goes to the writer (-ENOSPC, -EROFS, -EIO, …), and the next write tries again. After a failed sync, or a page that
 * could not be written, the segments of that batch are closed for appending, what waits for the batch is told the
 * error, and its records count as stored only when the hub has them. Reading skips what is damaged, counts it, and
 * keeps a copy aside in `damaged/`.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "journal/format.h"
#include "journal/guard.h"
#include "loop/loop.h"

struct journal;
struct journal_lane;
struct journal_segment;

/* Of the bound: bytes a record takes besides its properties and payload, with what rounding adds. */
#define JOURNAL_RECORD_OVERHEAD 64
/* Runs of records at most that are remembered to be withdrawn, see journal_withdraw(). */
#define JOURNAL_UNSEEN_MAX 256
/* Lanes at most; one more is -ENOSPC. Until the first turn of the loop there is no bound: a start must not fail for want of
 * the lanes it needs besides those with messages of the last run. */
#define JOURNAL_LANES_MAX 1024

struct journal_ops {
	/*
	 * A commit ended. @error 0: every record up to @sequence is on the disk, but for those that an earlier call told
	 * as failed. Negative: those up to @sequence that were not stored before will not be called stored.
	 */
	void (*on_stored)(void *userdata, uint64_t sequence, int error);
	/* There may be room where there was none: space was freed, or it is time to try the disk again (every 500 ms while
	 * it fails). */
	void (*on_room)(void *userdata);
	/*
	 * Records of the lane cannot be read any more and will never be sent: all those numbered from @first to @last that are
	 * not done. Who wrote them is lost with them, and no cursor to one is valid any more. Called from within other calls: nothing
	 * here may be called from it.
	 * Not for sent ones, see journal_read().
	 */
	void (*on_lost)(void *userdata, struct journal_lane *lane, uint64_t first, uint64_t last);
	/* Something to tell the user: `journal-damaged`, `disk-error`, `disk-full`, `disk-ok`; @text is one line. */
	void (*on_event)(void *userdata, const char *event, const char *text);
};

struct journal_options {
	struct loop *loop;
	struct log *log;
	const char *dir;  /* made when its parent is there */
	bool is_volatile; /* a file system in memory: nothing is synced, nothing is ever stored */
	uint64_t max_bytes;
	struct journal_guard *guard;   /* may be NULL */
	const struct journal_ops *ops; /* each operation, and all of them, may be NULL */
	void *userdata;
};

/*
 * Opens the directory and recovers what is in it. Content is never a reason to fail, nor is a disk that cannot be
 * written. Returns 0; -EBUSY: another process has it (logged with its number); -ENOMEM; or the error of making or reading
 * the directory, logged.
 */
int journal_new(struct journal **out, const struct journal_options *options);
/*
 * Writes what there is to write, and no more callbacks come. What is in flight in the loop ends by itself
 * (loop_n_in_flight()); journal_free() is after that. NULL is fine for both.
 */
void journal_stop(struct journal *j);
void journal_free(struct journal *j);

/* --- room ------------------------------------------------------------------------------------- */

/* Bytes in use and promised, and their bound. */
uint64_t journal_n_bytes(const struct journal *j);
uint64_t journal_max_bytes(const struct journal *j);

/* Whether @n_records records with @n_bytes of properties and payload together fit now, as far as the bound goes. */
bool journal_has_room(const struct journal *j, uint64_t n_records, uint64_t n_bytes);

/* Promises and releases room for what will be appended later: promised bytes are in use for everybody else. The disk
 * promises nothing. journal_hold() returns 0 or -ENOSPC. */
int journal_hold(struct journal *j, uint64_t n_bytes);
void journal_unhold(struct journal *j, uint64_t n_bytes);
/* Gives promised room back to its owner, who uses it or holds it again before anybody else runs: on_room() does not
 * follow. */
void journal_lend(struct journal *j, uint64_t n_bytes);

/* --- lanes ------------------------------------------------------------------------------------ */

struct journal_lane_key {
	enum journal_kind kind; /* QUEUE or REJECTED */
	uint8_t priority;       /* 0 first … 9 */
	uint16_t channel;
	uint32_t ttl_s;
	const char
		*channel_name; /* at most JOURNAL_CHANNEL_NAME_MAX bytes; not part of the identity, copied */
};

/*
 * The lane of the key, made if need be; one reference. Makes no file. Returns 0, -ENOSPC (too many) or -ENOMEM. A lane
 * without records and references is freed by itself, at the end of the turn. journal_lane_put() comes before
 * journal_free(), and may come after journal_stop().
 */
int journal_lane_get(struct journal *j, const struct journal_lane_key *key, struct journal_lane **out);
void journal_lane_put(struct journal_lane *lane);

/* All lanes, NULL @after is the first; NULL at the end. No lane may come or go in between. */
struct journal_lane *journal_next_lane(struct journal *j, struct journal_lane *after);
void journal_lane_key(const struct journal_lane *lane, struct journal_lane_key *out);
/* Records that are not done, and bytes of the bound they take. */
uint64_t journal_lane_n_records(const struct journal_lane *lane);
uint64_t journal_lane_n_bytes(const struct journal_lane *lane);

/* --- append ----------------------------------------------------------------------------------- */

/*
 * Makes sure that @n_records records with @n_bytes of properties and payload together can be appended to the lane in this
 * turn, so that a write of many is whole or nothing. Held bytes are not touched. Returns 0; -ENOSPC: over the bound, or the disk
 * is full; or another error of the disk.
 */
int journal_reserve(struct journal_lane *lane, uint64_t n_records, uint64_t n_bytes);

/*
 * Appends one record: journal_append() says where the properties and the payload go (each contiguous),
 * journal_commit() makes it the last record. Nothing else may be called between the two. journal_append() returns 0 or as
 * journal_reserve(), which it needs not after a call of that; journal_commit() 0 and the number, or -EIO: a page could not be
 * written, the record is not there.
 */
int journal_append(struct journal_lane *lane, uint64_t origin, uint64_t time_ms, size_t properties_len,
		   size_t payload_len, uint8_t **properties, uint8_t **payload);
int journal_commit(struct journal_lane *lane, uint64_t *sequence);

/* The number of the last record appended; the next one has the number after it. Outlives restarts. */
uint64_t journal_appended(const struct journal *j);
/* Up to here everything is stored, or was told as failed (on_stored()), or an earlier daemon's. */
uint64_t journal_stored(const struct journal *j);
/* The last record of the commit that began last; what came after it is another one's. */
uint64_t journal_committed_last(const struct journal *j);
/* Whether it can ever be: false when volatile. */
bool journal_is_durable(const struct journal *j);

/* Asks for a commit of all that was appended so far, at the end of this turn or when the one under way has ended:
 * on_stored() follows. One commit serves all who asked. */
void journal_sync(struct journal *j);

/* --- out -------------------------------------------------------------------------------------- */

/* One record; the bytes are borrowed from the mapping until the next call of anything here. */
struct journal_record {
	uint64_t sequence;
	uint64_t origin; /* the writer's mark, see journal_append(); 0 = appended by an earlier daemon */
	uint64_t time_ms;
	uint64_t expires_ms; /* UINT64_MAX = never */
	uint16_t channel;
	uint8_t priority;
	struct bytes properties;
	struct bytes payload;
};

/* Where a record lies; valid until it is done. */
struct journal_cursor {
	struct journal_lane *lane;
	struct journal_segment *segment;
	uint64_t sequence;
	uint64_t index;
	uint64_t offset;
	uint64_t size;
};

/*
 * The record of kind QUEUE that goes out next: the first unsent one by priority, then by sequence. False: there is none. Stays the
 * next one until journal_mark_sent(), unless one of a higher priority comes. At most JOURNAL_WINDOW records of a lane may
 * be sent and not in its done prefix: a lane which reached that has none that goes out next.
 */
bool journal_next_unsent(struct journal *j, struct journal_cursor *out);
/* The number of the lane's first unsent record; UINT64_MAX: all are sent; 0: it is not known now. */
uint64_t journal_first_unsent(struct journal_lane *lane);
void journal_mark_sent(struct journal *j, const struct journal_cursor *at);
/* The one that goes out next could not be read: it does so no more until it can be. When it is given up, on_lost() says so. */
void journal_mark_unread(const struct journal_cursor *at);

/* The first record that is not done, sent or not. False: the lane is empty. */
bool journal_first(struct journal_lane *lane, struct journal_cursor *out);
/* The record after @at that is not done, to walk a lane. */
bool journal_next(const struct journal_cursor *at, struct journal_cursor *out);
/* The record with that number, if it is in the lane and not done. Reads the lane's segments: not for a hot path. And the
 * first one from that number on. */
bool journal_find(struct journal_lane *lane, uint64_t sequence, struct journal_cursor *out);
bool journal_seek(struct journal_lane *lane, uint64_t sequence, struct journal_cursor *out);
bool journal_is_sent(const struct journal_cursor *at);

/*
 * Returns 0; -EBADMSG: it became unreadable meanwhile; it is counted and kept aside, and is to be marked as done; or -EIO:
 * the disk cannot be read now, try again (after on_room()). A record that cannot be read again and again, while other things
 * on the disk can, becomes -EBADMSG. Of one that goes out next either is for journal_mark_unread().
 */
int journal_read(const struct journal_cursor *at, struct journal_record *out);
/* When the record was appended, 0 = it cannot be read now: nothing is counted, and it is not nearer to being given up. */
uint64_t journal_time_ms(const struct journal_cursor *at);

/* The record is done with: sent ones in any order, of those not sent the first of the lane only. Frees what can be freed. */
void journal_mark_done(struct journal *j, const struct journal_cursor *at);

/* What is done with is written at the end of the turn, or with this: a daemon that is killed then sends it no more. */
void journal_flush_states(struct journal *j);

/* An unsent record anywhere in its lane is as if it had never been appended: it is done without being sent, and its bytes of the
 * bound are free, though the disk has it until those before it are done. While the disk cannot be read that comes later, but
 * before the record could be sent; JOURNAL_WINDOW of a lane, and JOURNAL_UNSEEN_MAX runs of records one after the other, are
 * remembered for that. What is more stays, and is logged; a start before the disk reads again brings back all but those of
 * the window. */
void journal_withdraw(struct journal *j, const struct journal_cursor *at);
/* The same, of a record of the lane that journal_find() did not find. False: it is not there, or is damaged, and not for want of
 * reading. Sent ones stay. */
bool journal_withdraw_unfound(struct journal_lane *lane, uint64_t sequence);

/* --- counters --------------------------------------------------------------------------------- */

struct journal_stats {
	uint64_t n_commits;     /* that ended well */
	uint64_t n_failed;      /* commits that did not */
	uint64_t n_recovered;   /* records found at start */
	uint64_t n_damaged;     /* records lost to damage since the start */
	uint64_t n_segments;    /* files in use, spare ones included */
	uint64_t segment_bytes; /* their size */
	int error;              /* of the disk, now; 0 = none */
};
void journal_stats(const struct journal *j, struct journal_stats *out);

#endif
