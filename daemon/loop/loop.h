/* SPDX-License-Identifier: MIT */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

/*
 * The event loop: one io_uring, one thread. The only user of liburing.
 *
 * A turn is: submit everything queued and wait for the first completion or timer with one io_uring_enter(2),
 * read both clocks once, dispatch every completion, run the timers that are due, run what was deferred.
 * Nothing is submitted in between, so all sends, receives and cancellations of a turn cost one system call
 * together.
 *
 * An operation in flight is a struct loop_op embedded in its owner. Rules:
 *  - loop_op_init() once; start with one of the loop_op_*() calls when it is idle;
 *  - its callback runs from the loop only, never from inside a start or cancel call;
 *  - the owner may be freed when no op of it is in flight (loop_op_is_idle()); loop_op_cancel() asks the
 * kernel to end it, the callback still comes, with res = -ECANCELED unless it finished first;
 *  - callbacks may start and cancel any op, but never enter the loop.
 *
 * Kernel: 5.19 for the buffer rings and multishot accept (all of the file operations are older, the youngest of them
 * renameat and unlinkat, 5.11); multishot receive (6.0), SINGLE_ISSUER (6.0) and
 * DEFER_TASKRUN (6.1) are used where present.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"

struct loop;
struct loop_op;
struct loop_timer;
struct loop_deferred;

/* Completion: @res as in the CQE (negative errno, or a count or descriptor). */
typedef void (*loop_op_fn)(struct loop_op *op, int res);
/* Completion of a receive with provided buffers: @data is borrowed until the callback returns; res <= 0: no
 * data (0 = end of stream, negative = error, -ENOBUFS never reaches the owner). */
typedef void (*loop_recv_fn)(struct loop_op *op, int res, struct bytes data);
typedef void (*loop_timer_fn)(struct loop_timer *timer, uint64_t now_ns);
typedef void (*loop_deferred_fn)(struct loop_deferred *deferred);

enum loop_op_kind {
	LOOP_OP_IDLE,
	LOOP_OP_ONCE,  /* ends with its only completion */
	LOOP_OP_MULTI, /* multishot: re-armed by the loop when the kernel ends it without an error */
	LOOP_OP_RECV,  /* multishot receive into provided buffers, or its emulation */
};

struct loop_op {
	enum loop_op_kind kind;
	bool cancelling; /* asked for; a multishot operation is not re-armed any more */
	union {
		loop_op_fn fn;
		loop_recv_fn recv_fn;
	};
	int fd;          /* multishot kinds: to re-arm */
	uint32_t events; /* poll mask of LOOP_OP_MULTI; 0 = accept */
	struct loop *loop;
};

struct loop_timer {
	uint64_t at_ns; /* TIME_NEVER when not armed */
	loop_timer_fn fn;
	struct loop *loop;
	struct loop_timer *child, *next, *prev; /* pairing heap: prev is the sibling before, or the parent */
};

struct loop_deferred {
	loop_deferred_fn fn;
	struct list link;
};

/* What loop_new() may be told; zero-initialise for the defaults. Only tests switch features off. */
struct loop_options {
	struct log *log;        /* borrowed; may be NULL */
	unsigned int n_entries; /* submission queue; default 256 */
	bool no_multishot_recv; /* as on kernel 5.19 */
	bool no_defer_taskrun;  /* as before kernel 6.1 */
};

/*
 * Returns 0 and a loop, -ENOSYS/-EPERM/-EOPNOTSUPP when the kernel lacks or forbids io_uring or something
 * required (what and from which kernel on is logged as an error), -ENOMEM.
 */
int loop_new(struct loop **out, const struct loop_options *options);

/* Frees the loop; nothing may be in flight, armed or deferred (asserted). NULL is fine. */
void loop_free(struct loop *loop);

/* Runs turns until loop_stop(). Returns 0, or the negative error of io_uring_enter(2). */
int loop_run(struct loop *loop);

/* One turn; waits for at most @timeout_ns (TIME_NEVER: until something happens). For tests and teardown. */
int loop_turn(struct loop *loop, uint64_t timeout_ns);

/* Makes loop_run() return after this turn. */
void loop_stop(struct loop *loop);

/* Operations in flight; teardown turns the loop until this is 0. */
unsigned int loop_n_in_flight(const struct loop *loop);

/* Clocks as read at the start of this turn's dispatch. */
uint64_t loop_now_ns(const struct loop *loop);  /* CLOCK_MONOTONIC */
uint64_t loop_wall_ms(const struct loop *loop); /* CLOCK_REALTIME, milliseconds since 1970 */

/* System calls the loop made: io_uring_enter(2). For tests and metrics. */
uint64_t loop_n_turns(const struct loop *loop);

/* --- operations ------------------------------------------------------------------------------- */

void loop_op_init(struct loop_op *op, loop_op_fn fn);
void loop_op_init_recv(struct loop_op *op, loop_recv_fn fn);

static inline bool loop_op_is_idle(const struct loop_op *op)
{
	return op->kind == LOOP_OP_IDLE;
}

/*
 * Starting never fails: when the submission queue is full it is submitted at once (counted as one more call),
 * and what the kernel refuses comes as the callback's result. Buffers and addresses are borrowed until the
 * callback.
 */
void loop_op_connect(struct loop *loop, struct loop_op *op, int fd, const struct sockaddr *addr,
		     socklen_t addr_len);
/* Multishot: the callback gets one accepted descriptor (SOCK_CLOEXEC) each, negative errors end it. */
void loop_op_accept(struct loop *loop, struct loop_op *op, int fd);
void loop_op_send(struct loop *loop, struct loop_op *op, int fd, struct bytes data);
/* Multishot poll: the callback gets the events; 0 or negative ends it. Edge-triggered: read until EAGAIN. */
void loop_op_poll(struct loop *loop, struct loop_op *op, int fd, uint32_t events);
/* Poll that ends with its first event. */
void loop_op_poll_once(struct loop *loop, struct loop_op *op, int fd, uint32_t events);
/* Receive until end of stream, error or cancellation, into the loop's provided buffers (LOOP_RECV_SIZE each).
 */
void loop_op_recv(struct loop *loop, struct loop_op *op, int fd);
/*
 * Files. Each is its system call; the kernel runs it in a thread of its own where it would block. The callback of
 * loop_op_openat() gets the descriptor, that of loop_op_pwrite() the number of bytes written, which may be fewer.
 * Paths are borrowed until the callback, as buffers are.
 */
void loop_op_openat(struct loop *loop, struct loop_op *op, int dir_fd, const char *path, int flags,
		    mode_t mode);
void loop_op_pwrite(struct loop *loop, struct loop_op *op, int fd, struct bytes data, uint64_t offset);
void loop_op_fsync(struct loop *loop, struct loop_op *op, int fd);
void loop_op_fdatasync(struct loop *loop, struct loop_op *op, int fd);
void loop_op_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t offset,
		       uint64_t len);
/*
 * Asks the file system of a regular file that is open for writing whether it still takes changes, with one that changes
 * nothing: what earlier syncs needed of its journal is on the disk if so (journal/commit.c says why a sync does not tell).
 * loop_check_fs_error() is what the result says: 0, also when the file system cannot be asked; or the error.
 */
void loop_op_check_fs(struct loop *loop, struct loop_op *op, int fd);
int loop_check_fs_error(int res);
void loop_op_close(struct loop *loop, struct loop_op *op, int fd);
void loop_op_renameat(struct loop *loop, struct loop_op *op, int old_dir_fd, const char *old_path,
		      int new_dir_fd, const char *new_path);
void loop_op_unlinkat(struct loop *loop, struct loop_op *op, int dir_fd, const char *path);
/* No-op when idle. */
void loop_op_cancel(struct loop *loop, struct loop_op *op);

#define LOOP_RECV_SIZE      16384
#define LOOP_N_RECV_BUFFERS 64

/* --- timers ----------------------------------------------------------------------------------- */

/* Fires once, in the first turn at or after @at_ns; arming an armed timer moves it. Timers fire in order of
 * time. */
void loop_timer_init(struct loop_timer *timer, loop_timer_fn fn);
void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
void loop_timer_disarm(struct loop_timer *timer);
bool loop_timer_is_armed(const struct loop_timer *timer);

/* --- end of turn ------------------------------------------------------------------------------ */

/* Runs once at the end of this turn, before the next submission; deferring twice is the same as once. What a
 * deferred function defers runs in the same turn, for so many rounds; what is left then runs in the next turn, which does
 * not wait for anything. */
#define LOOP_DEFERRED_ROUNDS 16
void loop_deferred_init(struct loop_deferred *deferred, loop_deferred_fn fn);
void loop_defer(struct loop *loop, struct loop_deferred *deferred);
void loop_undefer(struct loop_deferred *deferred);

/* --- signals ---------------------------------------------------------------------------------- */

struct loop_signals;
typedef void (*loop_signal_fn)(void *userdata, int signo);

/* Blocks the @n signals for the process and delivers them from the loop. Returns 0, -ENOMEM or signalfd's
 * error. */
int loop_signals_new(struct loop_signals **out, struct loop *loop, const int *signals, size_t n,
		     loop_signal_fn fn, void *userdata);
/* Stops delivery; the object is freed by itself once its operation ended. NULL is fine. */
void loop_signals_free(struct loop_signals *s);

#endif
