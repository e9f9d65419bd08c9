/* SPDX-License-Identifier: MIT */
#ifndef RUN_CHILD_H
#define RUN_CHILD_H

/*
 * One program, run once: what it reads, what it writes, how long it may take, and the end of its process group.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "poller.h"

enum child_state {
	CHILD_IDLE, /* nothing runs; the results of the last run can be looked at */
	CHILD_RUNNING,
	CHILD_TERMINATING, /* SIGTERM was sent; SIGKILL follows */
	CHILD_KILLED,      /* SIGKILL was sent */
};

/* Borrowed for the call of child_start(). */
struct child_spec {
	const char *path;
	char *const *argv; /* both end with NULL */
	char *const *envp;
	struct bytes input; /* standard input: a file with these bytes, open for reading */
	bool capture;       /* standard output is collected; otherwise it is ours */
	size_t output_bytes_max;
	uint64_t deadline_ns; /* TIME_NEVER: none */
	uint64_t grace_ns;    /* from SIGTERM to SIGKILL */
};

struct child {
	struct poller *poller;
	enum child_state state;
	pid_t pid;
	struct watch end; /* the process's descriptor */
	struct watch out; /* what it writes */
	struct timer limit;
	uint64_t grace_ns;

	/* Results, until the next start. */
	int status;        /* as of waitpid(2) */
	bool cut;          /* it did not end by itself but was ended here */
	struct buf output; /* nothing when @too_long */
	bool too_long;     /* it wrote more than was allowed */

	/* Nothing runs any more. May start the next run. */
	void (*on_end)(struct child *child);
};

void child_init(struct child *child, struct poller *poller, void (*on_end)(struct child *child));
/* Kills what runs, waits for its end, and does not call on_end. Idempotent. */
void child_deinit(struct child *child);

/*
 * Starts the program in a process group of its own, with all signals as they are by default; it is killed when
 * we end. Nothing runs before. Returns 0, and on_end follows, or a negative errno. A program that cannot be executed
 * is no error here but exits with 127 when it is not there, else 126, after a line on standard error.
 */
int child_start(struct child *child, const struct child_spec *spec);

/* It may only take until @deadline_ns, unless its time ends before that. */
void child_hurry(struct child *child, uint64_t deadline_ns);
/* Ends its process group at once; on_end follows. Nothing happens when nothing runs. */
void child_kill(struct child *child);

/* Whether the last run ended by itself with exit code 0. */
bool child_succeeded(const struct child *child);
/* How the last run ended, for people, in @out of @size bytes: `exit code 3`. Returns @out. */
const char *child_describe(const struct child *child, char *out, size_t size);

#endif
