/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_SPARES_H
#define JOURNAL_SPARES_H

/*
 * Segments made ahead, in the loop and off the telemetry path, so that a lane goes on without waiting for the file
 * system: allocated, filled with zeros (a sync of a record then needs no change of the file's metadata), synced with
 * their directory. Segments that are done with come back here: with another id, synced before they are used again, so that
 * what is left of their last use is never taken for records.
 *
 * At most SPARES_MAX are kept; one more is deleted.
 */

#include "base/log.h"
#include "journal/segment.h"

#define SPARES_MAX 2

struct journal_spares;

/* @dir and @loop are borrowed. Returns 0 or -ENOMEM. */
int spares_new(struct journal_spares **out, struct loop *loop, struct journal_dir *dir);
/* What is in flight ends by itself; no file of a half-made one stays. Spare files stay when @keep, else they are deleted. */
void spares_stop(struct journal_spares *spares, bool keep);
bool spares_is_idle(const struct journal_spares *spares);
/* Idle. NULL is fine. */
void spares_free(struct journal_spares *spares);

/* Makes one of @size bytes ready unless there is one or it is being made. Errors are kept to itself: who then needs a
 * segment makes it and gets the error. */
void spares_prepare(struct journal_spares *spares, uint64_t size);
/* A spare one of @identity->size, mapped with one user, its identity written (id set). NULL: there is none. */
struct journal_segment *spares_take(struct journal_spares *spares, struct journal_identity *identity);
/* Takes over a segment whose records are all done; no user, no sync in flight. */
void spares_give(struct journal_spares *spares, struct journal_segment *segment);

uint64_t spares_n(const struct journal_spares *spares);
uint64_t spares_bytes(const struct journal_spares *spares);

#endif
