/* SPDX-License-Identifier: MIT */
/*
 * Writing reported properties through an open file, see twin_writes.h.
 *
 * At most one request waits: for documents the kernel sends one write or fsync at a time, with the lock of the file
 * held. So one waiter of the twin is enough, and it is linked exactly while the request is parked.
 */

#include "flow/twin_writes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "base/time.h"
#include "flow/twin_doc.h"

static void write_answer(struct twin_write *w, int error)
{
	loop_timer_disarm(&w->timer);
	fuse_parked_reply(&w->parked, error ? error : (ssize_t)w->size);
}

/* A writer is told of errors before waiters are: its first error is that of a patch before the last one, or the same,
 * which is told once. */
static void write_on_done(struct twin_waiter *waiter, int error, uint64_t version, struct bytes reason)
{
	struct twin_write *w = container_of(waiter, struct twin_write, waiter);
	int first = twin_writer_take_error(&w->writer);

	(void)reason;
	w->has_version = true;
	w->version = version;
	write_answer(w, first ? first : error);
}

static void write_on_timeout(struct loop_timer *timer, uint64_t now_ns)
{
	struct twin_write *w = container_of(timer, struct twin_write, timer);

	(void)now_ns;
	twin_waiter_cancel(&w->waiter);
	write_answer(w, -ETIMEDOUT);
}

void twin_write_init(struct twin_write *w, const struct twin_writes *writes)
{
	*w = (struct twin_write){.writes = writes};
	w->waiter.on_done = write_on_done;
	twin_waiter_init(&w->waiter);
	twin_writer_init(writes->twin, &w->writer);
	loop_timer_init(&w->timer, write_on_timeout);
}

void twin_write_deinit(struct twin_write *w)
{
	assert(!list_is_linked(&w->waiter.link));
	twin_writer_end(&w->writer);
	loop_timer_disarm(&w->timer);
}

int twin_writes_refuse(const struct twin_writes *writes, const char *file, int error, const char *reason)
{
	events_emit(writes->events, "refused", file, "%s", reason);
	return error;
}

int twin_writes_patch(const struct twin_writes *writes, struct twin_writer *writer,
		      const struct json_object *patch, const uint64_t *if_version, const char *file)
{
	struct hub_twin_reason reason = {.text = ""};
	/* The twin only takes a reference. */
	int r = twin_patch(writes->twin, (struct json_object *)(uintptr_t)patch, if_version, writer, NULL,
			   &reason);

	return r ? twin_writes_refuse(writes, file, r, reason.text) : 0;
}

bool twin_write_waits(const struct fuse_file *file)
{
	return file->write_flags & (O_SYNC | O_DSYNC);
}

int twin_write_can_wait(const struct twin_write *w)
{
	return list_is_linked(&w->waiter.link) ? -EBUSY : 0;
}

ssize_t twin_write_wait(struct twin_write *w, struct fuse_request *req, size_t size)
{
	const struct twin_writes *writes = w->writes;
	int error;

	if (twin_wait(writes->twin, &w->writer, &w->waiter) != TWIN_WAITS) {
		error = twin_writer_take_error(&w->writer);
		return error ? error : (ssize_t)size;
	}
	w->size = size;
	if (writes->timeout_ns != TIME_NEVER)
		loop_timer_arm(writes->loop, &w->timer, loop_now_ns(writes->loop) + writes->timeout_ns);
	fuse_park(req, &w->parked);
	return FUSE_PARKED;
}

void twin_write_interrupt(struct fuse_parked *parked)
{
	struct twin_write *w = container_of(parked, struct twin_write, parked);

	twin_waiter_cancel(&w->waiter);
	loop_timer_disarm(&w->timer);
}
