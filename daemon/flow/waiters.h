/* SPDX-License-Identifier: MIT */
#ifndef FLOW_WAITERS_H
#define FLOW_WAITERS_H

/*
 * Who wrote, and who waits: open files as the queue knows them (origins), and their parked requests. A write waits
 * until its records are stored or until the hub has them, an fsync likewise for everything written so far, and a
 * write that was not taken waits for room (blocked), with a copy of its bytes.
 *
 * An origin's id is in every record its file wrote. It stays meaningful after the file was closed: it then
 * names nobody, and an outcome that comes later has nobody to be told to.
 *
 * What is acknowledged by the hub counts as stored.
 *
 * Records that became unreadable have nobody's name on them (lost). A write that waits for one knows its numbers. Otherwise
 * it is known when all other records of the channel up to there are out of the queue: those that an open file still
 * waits for then were lost. Until then its origin is in doubt.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "fuse/tree.h"
#include "loop/loop.h"

/* Parked requests at most; one more fails with -ENOBUFS. */
#define WAITERS_MAX 4096
/* Bytes of blocked writes at most, all together; likewise. */
#define WAITERS_BLOCKED_BYTES_MAX (16u << 20)
/* Open files at most; one more fails with -ENFILE. */
#define ORIGINS_MAX 65536

struct journal_lane;
struct waiters;

struct origin {
	uint64_t id;
	uint64_t last_sequence; /* of the last record written through this file, 0 = none */
	uint64_t unstored_from; /* of the first that is not known to be stored; may lie before it */
	uint64_t n_unfinished;  /* its records without an outcome */
	int error;              /* first negative error since fsync reported one */
	int refused;            /* the last retryable refusal of one of its records, 0 = none */
	uint16_t channel;       /* the owner's */
	struct list waiters;    /* parked writes and fsyncs, blocked ones not */
	struct list doubt;      /* of those in doubt: */
	uint64_t doubt_until;   /* up to here some may be lost, 0 = none */
	uint64_t n_doubtful;    /* its records up to there without an outcome */
};

enum wait_level {
	WAIT_STORED,
	WAIT_HUB,
};

/* A write that was taken. */
struct wait_write {
	enum wait_level level;
	uint64_t first, last; /* its records, all of one lane */
	struct journal_lane *lane;
	size_t size; /* what it is answered with */
	/* Its records could not be stored and will be withdrawn; @payload: of the first, none if that is gone. May be
	 * NULL. Does not answer it. */
	void (*on_failed)(struct fuse_file *file, const struct wait_write *write, struct bytes payload,
			  int error);
	/* For on_failed, the file's: */
	uint64_t number;
	size_t head_len;
	uint64_t hash;
	bool ends;
};

/* @timeout_ns: how long a waiter waits, TIME_NEVER = for ever. Returns 0 or -ENOMEM. */
int waiters_new(struct waiters **out, struct loop *loop, uint64_t timeout_ns);
/* Nobody may be parked (the files are closed). NULL is fine. */
void waiters_free(struct waiters *w);

/* Returns 0, -ENFILE or -ENOMEM. */
int origin_open(struct waiters *w, struct origin **out);
/* The file is closed. */
void origin_close(struct waiters *w, struct origin *origin);
/* NULL when the file of @id was closed. */
struct origin *origin_find(struct waiters *w, uint64_t id);

/* --- parking ---------------------------------------------------------------------------------- */

/* Makes sure that one more request can be parked: 0, -ENOBUFS or -ENOMEM. */
int waiters_make_room(struct waiters *w);

/* Parks a write; answered with its size, or with the first error of its records. waiters_make_room() said 0. */
void waiters_park_write(struct waiters *w, struct origin *origin, struct fuse_request *req,
			const struct wait_write *write);

/* Parks an fsync; answered when all records written through @origin so far are stored, or have an outcome. Returns
 * FUSE_PARKED, -ENOBUFS or -ENOMEM. */
int waiters_park_sync(struct waiters *w, struct origin *origin, struct fuse_request *req,
		      enum wait_level level);

/* The `interrupt` operation of files whose requests are parked here. */
void waiters_interrupt(struct fuse_parked *parked);

/* --- writes that wait for room, first come, first served; not bounded in time ------------------- */

/* Parks a write of which nothing was taken; @data is copied. Returns FUSE_PARKED, -ENOBUFS or -ENOMEM. */
int waiters_park_blocked(struct waiters *w, struct fuse_file *file, struct fuse_request *req,
			 struct bytes data);
bool waiters_has_blocked(const struct waiters *w);
/* The bytes of a blocked write; none when the request waits for something else. */
struct bytes waiters_blocked_bytes(struct fuse_parked *parked);

/* Borrowed until it is answered. */
struct blocked_write {
	struct fuse_parked *parked;
	struct fuse_file *file;
	uint32_t flags; /* those of the write */
	struct bytes data;
};

/* The blocked write that came after @after, NULL: the first. False: there is none. */
bool waiters_next_blocked(struct waiters *w, struct fuse_parked *after, struct blocked_write *out);
/* Answers it; or lets it wait as any other write, now that it was taken. */
void waiters_answer_blocked(const struct blocked_write *blocked, ssize_t result);
void waiters_take_blocked(const struct blocked_write *blocked, struct origin *origin,
			  const struct wait_write *write);

/* --- outcomes --------------------------------------------------------------------------------- */

/* Whether a parked write of @origin waits for this record, at @level or a higher one. */
bool origin_waits_for(const struct origin *origin, uint64_t sequence, enum wait_level level);

/* Record @sequence was appended for @origin; those up to @stored are stored. */
void origin_appended(struct origin *origin, uint64_t sequence, uint64_t stored);

/* Whether somebody is answered by the outcome of this record. */
bool origin_answers(const struct origin *origin, uint64_t sequence);
/* Record @sequence of @origin has its outcome: answers who waited for it last. @error: 0 or negative. */
void origin_record_done(struct origin *origin, uint64_t sequence, int error);

/* Takes and clears what fsync has to report. */
int origin_take_error(struct origin *origin);

/* All records up to @sequence are stored. */
void waiters_on_stored(struct waiters *w, uint64_t sequence);

/* Takes the records of a write back that is answered with @error next. */
typedef void (*waiters_withdraw_fn)(void *userdata, struct fuse_file *file, const struct wait_write *write,
				    int error);

/*
 * Those up to @sequence that are not stored could not be: who waits for one of them is answered with @error, and
 * origins that have one report it at their next fsync. @withdraw is called for each write.
 */
void waiters_on_not_stored(struct waiters *w, uint64_t sequence, int error, waiters_withdraw_fn withdraw,
			   void *userdata);

/* --- lost records ----------------------------------------------------------------------------- */

/* All records of the channel in @lane from @first to @last without an outcome are lost: writes that wait for one have the error
 * -EIO, if no other. Answers nobody yet. */
void waiters_on_lost(struct waiters *w, const struct journal_lane *lane, uint16_t channel, uint64_t first,
		     uint64_t last);
/* The origin of a write that waits for the record; NULL: there is none. */
struct origin *waiters_writer(struct waiters *w, uint64_t sequence);
/* Whether somebody is to be answered, or in doubt. */
bool waiters_have_lost(const struct waiters *w);
/* Answers writes that wait for lost records. */
void waiters_fail_lost(struct waiters *w, waiters_withdraw_fn withdraw, void *userdata);
/* The origin in doubt behind @after, NULL: the first. NULL at the end. */
struct origin *waiters_next_doubtful(struct waiters *w, const struct origin *after);
/* Records of the origin below @left that have no outcome yet are lost: answers who waited for nothing else. The origin may be
 * in doubt no longer. */
void origin_settle_doubt(struct origin *origin, uint64_t left);

#endif
