/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_H
#define FLOW_TWIN_H

/*
 * The device's twin: desired properties, which the hub sets and the device reads, and reported ones, which the
 * device writes. Keeps both at what the hub has while there is a connection, and on disk, so that they can be read
 * before there is one; takes patches of the reported properties at any time and sees them through to the hub. How
 * this looks as files is for those who use it.
 *
 * Documents are JSON objects of json-c that never change: a change makes a new document, which shares with the old
 * one what is the same. Whoever wants to keep one over a change takes a reference, twin_doc_ref() in twin_doc.h;
 * what is borrowed is valid until the next change callback. A state has no member that is null (in an array a
 * null is a value like others), no `$version`, and keeps the text of numbers with a fraction.
 *
 * What readers see of the reported properties is what the hub has confirmed with the patches on their way applied,
 * those with an if-version aside: whether they happen is for the hub to say. The version is the confirmed one.
 *
 * Versions do not go backwards, with one exception: when a whole twin that the hub sends has a lower version, the
 * twin was deleted and made anew; what is there counts, and the log says so. After a crash the last few
 * milliseconds may be missing until the twin is fetched.
 *
 * Everything runs on the loop's thread. The callbacks may call anything here but twin_free().
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"
#include "hub/twin.h"
#include "loop/loop.h"

struct json_object;
struct link;
struct twin;

/* Patches with an if-version that wait; one more fails with -ENOSPC. */
#define TWIN_CONDITIONAL_MAX 64

/* Bytes of the reported properties as JSON text: with as many desired ones the twin fits into a packet of the hub. */
#define TWIN_TEXT_BYTES_MAX (120u * 1024)

/* Bytes of all patches that wait, as JSON text; more fail with -ENOSPC. */
#define TWIN_PENDING_BYTES_MAX (192u * 1024)

/* Any may be NULL. */
struct twin_ops {
	/*
	 * The desired properties are others, or have another version. @patch: the hub's, which did it, as it came
	 * (members that are null take away); NULL: the whole twin was fetched, anything may be different. Borrowed.
	 */
	void (*on_desired_changed)(void *userdata, const struct json_object *patch, uint64_t version);
	/*
	 * The same of the reported ones as readers see them. @patch: what a writer changed, told from inside
	 * twin_patch(); an empty object: the hub confirmed, only the version is another; NULL: anything may be
	 * different.
	 */
	void (*on_reported_changed)(void *userdata, const struct json_object *patch, uint64_t version);
	/* The hub refused a patch for good: it is gone, and its writers know if they wait. @reason: one line. */
	void (*on_refused)(void *userdata, int error, const char *reason);
};

struct twin_options {
	struct loop *loop;
	struct log *log;
	struct link *link; /* borrowed, outlives the twin */
	/* File of the last known twin, in a directory that exists; NULL: none is kept. Copied. */
	const char *store_path;
	/* Whose twin it is, such as `hub/device`: a file of another one's is not used. Copied; at most 255 bytes. */
	const char *identity;
	const struct twin_ops *ops; /* borrowed */
	void *userdata;
};

/* Reads the file, which may block, and asks the link for the hub's changes. Returns 0, -ENOMEM, -ENAMETOOLONG, or
 * what link_subscribe() says. A file that cannot be used is no error: it is logged, and nothing is known. */
int twin_new(struct twin **out, const struct twin_options *options);

/*
 * Waiters are forgotten without a call, writers must have ended. What is to be stored still goes to the disk: the
 * loop has operations in flight until then (loop_n_in_flight()). NULL is fine.
 */
void twin_free(struct twin *t);

/* --- reading ---------------------------------------------------------------------------------- */

struct twin_view {
	const struct json_object *object; /* never NULL; borrowed until the next change */
	uint64_t version;                 /* 0 = not known yet */
	bool known; /* false: the hub's twin was never seen, on this run or one before */
};

struct twin_view twin_desired(const struct twin *t);
/* Before anything is known: what was written here. */
struct twin_view twin_reported(const struct twin *t);

/* --- writing ---------------------------------------------------------------------------------- */

/* Who waits for the outcome of a patch; embedded in its owner, who fills in on_done and calls twin_waiter_init(). */
struct twin_waiter {
	struct list link; /* linked while it waits */
	/*
	 * Once, unless cancelled, from the loop. @error: 0, and @version is the reported one after the patch, which
	 * readers have by then unless the connection was lost or the hub does not give the twin; or the
	 * hub's answer as a negative errno (-ESTALE: the if-version is not the hub's), and @reason its text, which
	 * may be empty and is borrowed.
	 */
	void (*on_done)(struct twin_waiter *waiter, int error, uint64_t version, struct bytes reason);
};

static inline void twin_waiter_init(struct twin_waiter *waiter)
{
	list_init(&waiter->link);
}

/* The outcome is of no interest any more; the patch goes on. Idempotent. */
static inline void twin_waiter_cancel(struct twin_waiter *waiter)
{
	list_remove(&waiter->link);
}

/* Runs of patches that a writer can have without an outcome, with those of others between them. One that has more is
 * also told of errors of what lies between its last ones. */
#define TWIN_RUNS_MAX 8

/* Somebody who writes again and again, an open file say, and wants to hear of errors later, as fsync(2) does. */
struct twin_writer {
	struct list link;
	struct twin_run {
		uint64_t first, last;
	} runs[TWIN_RUNS_MAX]; /* its patches that have no outcome, by their numbers, in order */
	uint32_t n_runs;
	int error; /* the first one that was not taken yet */
};

void twin_writer_init(struct twin *t, struct twin_writer *writer);
/* Its patches go on. Idempotent. */
void twin_writer_end(struct twin_writer *writer);

/* The first error of its patches since the last call, which forgets it; 0: none. */
static inline int twin_writer_take_error(struct twin_writer *writer)
{
	int error = writer->error;

	writer->error = 0;
	return error;
}

/*
 * Changes the reported properties by a merge patch (RFC 7396). Readers see it at once. It goes to the hub at the
 * end of this turn, merged with the others of the turn; or, while one is on its way or there is no connection,
 * merged with what comes until the next can go. A patch the hub refuses for now is tried again; one it refuses for
 * good is dropped, and the reported properties are without it. It survives a restart once it is stored, usually
 * within milliseconds, and it is stored before it is sent.
 *
 * @patch: the twin takes a reference; nobody may change it afterwards.
 * @if_version: NULL, or the reported version that the hub must have, else -ESTALE. Such a patch goes alone, in its
 * turn; readers see it when the hub has confirmed it; it does not survive a restart. When the connection is lost
 * before the answer came, the twin fetched next decides: if it still has that version the patch is sent again, if it
 * has the next one and is what the patch makes, it is done, and otherwise it failed with -ESTALE.
 * @writer: NULL, or who asks for failures later, twin_writer_take_error().
 * @waiter: NULL, or who waits for the outcome; idle. There is no limit of time: the caller cancels.
 *
 * Returns 0. Otherwise nothing has changed, nobody waits, and @reason, which is never NULL, says why: -EINVAL and -EMSGSIZE as
 * hub_twin_check_patch() of the patch, and hub_twin_check() of what it would make of the reported properties;
 * -ENOSPC: too much waits already; -ENOMEM.
 */
int twin_patch(struct twin *t, struct json_object *patch, const uint64_t *if_version,
	       struct twin_writer *writer, struct twin_waiter *waiter, struct hub_twin_reason *reason);

#define TWIN_WAITS 1

/*
 * Waits until all patches so far have their outcome; those of @writer, unless it is NULL. Returns 0: they have; or
 * TWIN_WAITS: @waiter's on_done follows, with the outcome of the last of them. What became of all of a writer's
 * twin_writer_take_error() says then.
 */
int twin_wait(struct twin *t, const struct twin_writer *writer, struct twin_waiter *waiter);

/* --- the link's side, see struct link_ops ----------------------------------------------------- */

void twin_on_online(struct twin *t, bool session_present);
void twin_on_offline(struct twin *t);
void twin_on_writable(struct twin *t);

/* --- state ------------------------------------------------------------------------------------ */

struct twin_info {
	bool current;           /* what is known is what the hub has, as far as it has told */
	uint64_t n_fetched;     /* whole twins that came from the hub */
	uint64_t n_changes;     /* patches of the desired properties applied */
	uint64_t n_confirmed;   /* patches of ours the hub took */
	uint64_t n_refused;     /* for good */
	uint64_t n_pending;     /* patches waiting or on their way */
	const char *last_error; /* of the hub's or the disk's; "" = none since the last success; borrowed */
};

void twin_info(const struct twin *t, struct twin_info *out);

#endif
