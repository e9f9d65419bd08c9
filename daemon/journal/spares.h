/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_SPARES_H
#define JOURNAL_SPARES_H

/*
 * Segments made ahead, in the loop and off the telemetry path, so that a lane goes on without waiting for the file
 * system: allocated, filled with zeros (a sync of a record then needs no change of the file's metadata), synced with
 * their directory. Segments that are done with come back here: with another id, synced before they are used again, so that
 * what is left of their last use is never taken for records.
 *
 * At most SPARES_MAX are kept, of any sizes; one more is deleted, and so is one whose size was not asked for in the last
 * SPARES_AGE_MAX times. Deleting is done in the loop as well.
 *
 * In the directory a spare segment is `ID.segment` of kind SPARE, one being made is `ID.spare`.
 */

#include "journal/segment.h"

#define SPARES_MAX     2
#define SPARES_AGE_MAX 16

struct journal_spares;

/* @dir and @loop are borrowed, until it is idle. Deletes what an earlier daemon left half made. Returns 0 or -ENOMEM. */
int spares_new(struct journal_spares **out, struct loop *loop, struct journal_dir *dir);
/* What is in flight ends by itself; no file of a half-made one stays. Spare files stay when @keep, else they are deleted,
 * as is what waits to be one. */
void spares_stop(struct journal_spares *spares, bool keep);
bool spares_is_idle(const struct journal_spares *spares);
/* Idle, and stopped or without any left. NULL is fine. */
void spares_free(struct journal_spares *spares);

/* Makes one of @size bytes ready unless there is one or it is being made. Errors are kept to itself: who then needs a
 * segment makes it and gets the error. */
void spares_prepare(struct journal_spares *spares, uint64_t size);
/* A spare one of @identity->size, mapped with one user, its identity written (id set), file and directory entry synced.
 * NULL: there is none. */
struct journal_segment *spares_take(struct journal_spares *spares, struct journal_identity *identity);
/* Whether spares_take() has one of that size. */
bool spares_has(const struct journal_spares *spares, uint64_t size);
/* Takes over a segment whose records are all done, or of kind SPARE and found at start; no user, no sync in flight. One
 * that failed is deleted. */
void spares_give(struct journal_spares *spares, struct journal_segment *segment_take);
/* Deletes at once what is spare or waits to be deleted, to have its space; what is being made goes as soon as its step under way
 * is done. Returns whether anything was deleted at once. */
bool spares_drop(struct journal_spares *spares);

/* Files on the disk, of all kinds, and their size. */
uint64_t spares_n(const struct journal_spares *spares);
uint64_t spares_bytes(const struct journal_spares *spares);

#endif
