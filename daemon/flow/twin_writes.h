/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_WRITES_H
#define FLOW_TWIN_WRITES_H

/*
 * What open files that write reported properties have in common: patches, whose refusal goes to `events`, and the one
 * request, a write or an fsync, that waits for their outcome.
 */

#include "flow/events.h"
#include "flow/twin.h"
#include "fuse/tree.h"
#include "loop/loop.h"

/* Whose it is. */
struct twin_writes {
	struct loop *loop;
	struct events *events;
	struct twin *twin;
	uint64_t timeout_ns; /* TIME_NEVER = none */
};

/* One open file; embedded in its owner. */
struct twin_write {
	const struct twin_writes *writes;
	struct twin_writer writer;
	struct twin_waiter waiter; /* linked while @parked waits */
	struct fuse_parked parked;
	struct loop_timer timer;
	size_t size;      /* of the write that waits; 0 = an fsync */
	bool has_version; /* something was waited for */
	uint64_t version; /* of the reported properties after it */
};

void twin_write_init(struct twin_write *w, const struct twin_writes *writes);
/* Nobody waits. The patches go on. */
void twin_write_deinit(struct twin_write *w);

/* Tells in `events` why @file did not take something. Returns @error. */
int twin_writes_refuse(const struct twin_writes *writes, const char *file, int error, const char *reason);

/* twin_patch(), without waiting; @writer may be NULL. A refusal is told in `events` as that of @file. */
int twin_writes_patch(const struct twin_writes *writes, struct twin_writer *writer,
		      const struct json_object *patch, const uint64_t *if_version, const char *file);

/* Whether this write has to wait for the hub. */
bool twin_write_waits(const struct fuse_file *file);

/* Whether a request may wait: 0, or -EBUSY, because another one of the open file does. */
int twin_write_can_wait(const struct twin_write *w);

/*
 * The end of a write of @size bytes that waits, with 0 of an fsync: until all patches of the open file have an outcome.
 * twin_write_can_wait() said 0. Returns FUSE_PARKED, or the result.
 */
ssize_t twin_write_wait(struct twin_write *w, struct fuse_request *req, size_t size);

/* The `interrupt` operation. */
void twin_write_interrupt(struct fuse_parked *parked);

#endif
