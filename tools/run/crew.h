/* SPDX-License-Identifier: MIT */
#ifndef RUN_CREW_H
#define RUN_CREW_H

/*
 * The workers of one iothub-run, and what is common to them: the files' place, waiting, signals, the end.
 *
 * A worker has one of the hub's files open, reads one request from it, runs a program for it, and goes on with the
 * next. What the requests are and what becomes of a program's result is for methods.c and commands.c to say.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "child.h"
#include "environment.h"
#include "options.h"
#include "poller.h"

struct crew;
struct worker;

enum worker_state {
	WORKER_CLOSED,   /* the file is to be opened */
	WORKER_WAITING,  /* it is open; a part of the request may have been read */
	WORKER_RUNNING,  /* a program runs */
	WORKER_ORPHANED, /* a program runs; the daemon its request came from is gone, and the file closed */
	WORKER_STOPPED,  /* nothing any more */
};

/* What a worker does next. */
enum worker_next {
	NEXT_INPUT, /* the next request, or more of this one, from the file that is open */
	NEXT_RUN,   /* a program was started */
	NEXT_OPEN,  /* close, and open again */
	NEXT_PAUSE, /* likewise, after a pause that grows from one to the next */
};

struct worker_ops {
	/* Opens the file, which must not wait. Returns its descriptor or a negative errno: -EBUSY, not now; -EINVAL, it
	 * never will, after a line. */
	int (*open)(struct worker *w);
	/* Looks at what was read, and takes it from the buffer when it is whole. @at_end: the file has ended. */
	enum worker_next (*on_input)(struct worker *w, bool at_end);
	/* The program has ended. NEXT_INPUT only when the file is still open. */
	enum worker_next (*on_end)(struct worker *w);
	/* Frees it, STOPPED. */
	void (*free)(struct worker *w);
	/* The daemon is looked after while a program runs: its end makes an orphan of it. */
	bool notices_loss;
	size_t input_bytes_max;
};

struct worker {
	struct crew *crew;
	const struct worker_ops *ops;
	struct list link;
	enum worker_state state;
	bool is_leaving; /* STOPPED is what comes after the run */
	int fd;          /* the file; -1 in CLOSED, ORPHANED and STOPPED */
	struct watch file;
	struct timer retry;
	uint64_t pause_ns; /* the next one */
	struct buf input;
	struct child child;
	uint64_t deadline_ns;  /* of the run */
	const char *path;      /* of the file, for messages; borrowed */
	struct log_once *once; /* what was said last about it; borrowed */
};

/* Adds a worker, which opens its file in the next turn. @path and @once may be those of other workers; borrowed. */
void worker_init(struct worker *w, struct crew *crew, const struct worker_ops *ops, const char *path,
		 struct log_once *once);
/* What is left of it when it is STOPPED, or when the crew failed. Idempotent. */
void worker_deinit(struct worker *w);

/* Starts a program for its request: limits and capture are filled in here. Returns as child_start(). */
int worker_run(struct worker *w, struct child_spec *spec);

/* No more requests; a program that runs goes on to its end or, unless TIME_NEVER, to @deadline_ns. */
void worker_leave(struct worker *w, uint64_t deadline_ns);

/* The daemon is gone: all files are closed, what runs is orphaned. */
void crew_lost(struct crew *crew);

/* Whether an error says that the daemon has gone or is about to. */
bool is_daemon_gone(int error);

/* --- the crew --------------------------------------------------------------------------------- */

enum crew_state {
	CREW_SERVING,
	CREW_STOPPING, /* programs that run may end */
	CREW_STOPPED,
};

struct crew_ops {
	/* At the start, and again when SIGHUP came: looks at what programs there are, adds workers and lets others
	 * leave. Returns 0, or a negative errno after a line, with nothing changed. */
	int (*load)(struct crew *crew);
	/* Something was freed: once per turn, after worker_ops.free. May be NULL. */
	void (*tidy)(struct crew *crew);
};

struct crew {
	const struct run_options *options;
	const struct crew_ops *ops;
	struct poller poller;
	struct log log;
	struct list workers; /* STOPPED ones are not among them ... */
	struct list stopped; /* ... but here, to be freed */
	enum crew_state state;
	struct watch signals;
	bool is_ready;          /* who started us has been told so */
	struct log_once missed; /* that the daemon is not there was said */
};

/* Returns 0 or a negative errno; crew_deinit() in any case. */
int crew_init(struct crew *crew, const struct run_options *options, const struct crew_ops *ops);
/* Loads, and serves until a signal ends it. Returns the exit code. */
int crew_run(struct crew *crew);
/* Kills what runs, and frees all workers. */
void crew_deinit(struct crew *crew);

/* The environment of a program, to which the request's is added. Returns as environment_init(). */
int crew_environment(const struct crew *crew, struct environment *env);

#endif
