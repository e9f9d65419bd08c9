/* SPDX-License-Identifier: MIT */
#ifndef FLOW_WAITERS_H
#define FLOW_WAITERS_H

/*
 * Who wrote, and who waits for the hub: open files as the queue knows them (origins), and their parked O_SYNC
 * writes and fsyncs.
 *
 * An origin's id is in every record its file wrote. It stays meaningful after the file was closed: it then
 * names nobody, and an outcome that comes later has nobody to be told to.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "fuse/tree.h"
#include "loop/loop.h"

/* Parked requests at most; one more fails with -ENOBUFS. */
#define WAITERS_MAX 4096
/* Open files at most; one more fails with -ENFILE. */
#define ORIGINS_MAX 65536

struct waiters;

struct origin {
	uint64_t id;
	uint64_t last_sequence; /* of the last record written through this file, 0 = none */
	uint64_t n_unfinished;  /* its records without an outcome */
	int error;              /* first negative error since fsync reported one */
	int refused;            /* the last retryable refusal of one of its records, 0 = none */
	struct list waiters;    /* parked writes and fsyncs */
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

/* Makes sure that one more request can be parked: 0, -ENOBUFS or -ENOMEM. */
int waiters_make_room(struct waiters *w);

/* Parks a write of records @first to @last of @origin; answered with @size, or with the first error of its
 * records, when all of them have an outcome. waiters_make_room() said 0. */
void waiters_park_write(struct waiters *w, struct origin *origin, struct fuse_request *req, uint64_t first,
			uint64_t last, size_t size);

/* Parks an fsync; answered when all records written through @origin so far have an outcome. Returns
 * FUSE_PARKED, -ENOBUFS or -ENOMEM. */
int waiters_park_sync(struct waiters *w, struct origin *origin, struct fuse_request *req);

/* The `interrupt` operation of files whose requests are parked here. */
void waiters_interrupt(struct fuse_parked *parked);

/* Whether somebody waits for exactly this record (a parked O_SYNC write). */
bool origin_waits_for(const struct origin *origin, uint64_t sequence);

/* Record @sequence was appended for @origin. */
void origin_appended(struct origin *origin, uint64_t sequence);

/* Record @sequence of @origin has its outcome: answers who waited for it last. @error: 0 or negative. */
void origin_record_done(struct origin *origin, uint64_t sequence, int error);

/* Takes and clears what fsync has to report. */
int origin_take_error(struct origin *origin);

#endif
