/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

/*
 * The queue of messages between their writers and the hub, in order, bounded in bytes. Records are numbered
 * from 1 on without gaps. This implementation keeps them in memory: they survive a lost link, not the end of
 * the daemon, and count as stored when the hub has acknowledged them.
 *
 * Watermarks, record numbers each: trimmed <= acked <= sent <= appended, stored <= appended. Asserted here,
 * moved only by the calls below. acked is the contiguous prefix of what is done with: acknowledged, rejected
 * or withdrawn.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct journal;

/* One record; the bytes are borrowed from the journal until the record is trimmed. */
struct journal_record {
	uint64_t sequence;
	uint64_t origin; /* the writer's mark, see journal_append() */
	struct bytes properties;
	struct bytes payload;
};

/* Bytes a record takes of the bound besides its properties and payload, with what rounding adds. */
#define JOURNAL_RECORD_OVERHEAD 40

/* @max_bytes bounds the records together with their overhead. Returns 0, -ENOMEM, or the error of
 * memfd_create(2). */
int journal_new(struct journal **out, uint64_t max_bytes);
void journal_free(struct journal *j);

/* Bytes in use and promised, and their bound. */
uint64_t journal_n_bytes(const struct journal *j);
uint64_t journal_max_bytes(const struct journal *j);

/* Whether @n_records records with @n_bytes of properties and payload together fit now. */
bool journal_has_room(const struct journal *j, uint64_t n_records, uint64_t n_bytes);

/* Promises and releases room for what will be appended later: promised bytes are in use for everybody else.
 * journal_hold() returns 0 or -ENOSPC. */
int journal_hold(struct journal *j, uint64_t n_bytes);
void journal_unhold(struct journal *j, uint64_t n_bytes);

/*
 * Appends a record: journal_append() makes room and says where the properties and the payload go (each
 * contiguous), journal_commit() makes it the last record and returns its number. Nothing else may be called
 * between the two. Returns 0 or -ENOSPC.
 */
int journal_append(struct journal *j, uint64_t origin, size_t properties_len, size_t payload_len,
		   uint8_t **properties, uint8_t **payload);
uint64_t journal_commit(struct journal *j);

uint64_t journal_trimmed(const struct journal *j);
uint64_t journal_acked(const struct journal *j);
uint64_t journal_sent(const struct journal *j);
uint64_t journal_stored(const struct journal *j);
uint64_t journal_appended(const struct journal *j);

/*
 * Where a record lies, so that reading it needs no search. journal_first() is the record after acked, which
 * must exist (acked < appended); the cursor stays valid until its record is trimmed.
 */
struct journal_cursor {
	uint64_t sequence;
	uint64_t offset;
};
struct journal_cursor journal_first(const struct journal *j);
void journal_read(const struct journal *j, struct journal_cursor at, struct journal_record *out);
/* The cursor of the next record, which may be the one appended next. */
struct journal_cursor journal_next(const struct journal *j, struct journal_cursor at);

/* Records up to @sequence have been handed to the connection at least once. */
void journal_mark_sent(struct journal *j, uint64_t sequence);
/* Records up to the one at @at are done with: their memory is free. */
void journal_mark_acked(struct journal *j, struct journal_cursor at);

#endif
