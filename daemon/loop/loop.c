/* SPDX-License-Identifier: MIT */
/*
 * The event loop, see loop.h.
 *
 * A completion finds its operation by user_data; 0 marks cancel requests, whose own result nobody needs.
 * Multishot operations that the kernel ends without an error (full completion queue, kernels without the
 * feature) are queued again before their callback runs, so that a callback that cancels always cancels
 * something that is queued.
 *
 * Receives share one ring of provided buffers. A buffer is borrowed for the length of the callback and put
 * back right after it, so running out (-ENOBUFS) only means that completions with data are still waiting in
 * the queue: the receive is queued again and submitted once they are handled.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/time.h"
#include "loop/loop.h"
#include "loop/timer.h"

#define LOOP_N_ENTRIES_DEFAULT 256
#define LOOP_BUF_GROUP         0

struct loop {
	struct io_uring ring;
	struct io_uring_buf_ring *buf_ring;
	uint8_t *recv_buffers;
	struct loop_timer *timers;
	struct list deferred;
	struct log *log;
	uint64_t now_ns;
	uint64_t wall_ms;
	uint64_t n_enters;
	unsigned int n_in_flight;
	bool has_ring;
	bool no_multishot_recv;
	bool stopping;
	bool running_timers;
};

static void loop_read_clocks(struct loop *loop)
{
	struct timespec mono, real;

	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_REALTIME, &real);
	loop->now_ns = (uint64_t)mono.tv_sec * NSEC_PER_SEC + (uint64_t)mono.tv_nsec;
	loop->wall_ms = (uint64_t)real.tv_sec * MSEC_PER_SEC + (uint64_t)real.tv_nsec / NSEC_PER_MSEC;
}

/* --- set-up ----------------------------------------------------------------------------------- */

static int loop_init_ring(struct loop *loop, const struct loop_options *options)
{
	/* Best first; each later line is what an older kernel (6.0, 5.19) takes. */
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_COOP_TASKRUN,
	};
	unsigned int n = options->n_entries ? options->n_entries : LOOP_N_ENTRIES_DEFAULT;
	int r = -EINVAL;

	for (size_t i = options->no_defer_taskrun ? 1 : 0; i < sizeof(flags) / sizeof(flags[0]); ++i) {
		struct io_uring_params params = {
			.flags =
				flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP,
			.cq_entries = n * 4,
		};

		r = io_uring_queue_init_params(n, &loop->ring, &params);
		if (r != -EINVAL)
			break;
	}
	if (r) {
		log_error(options->log, "io_uring is not available (%s): %s", strerror(-r),
			  r == -ENOSYS   ? "the kernel has to be 5.19 or newer and built with CONFIG_IO_URING"
			  : r == -EPERM  ? "allow it (sysctl kernel.io_uring_disabled=0, seccomp filter of "
					   "the container)"
			  : r == -ENOMEM ? "raise the limit of locked memory (ulimit -l)"
					 : "the kernel has to be 5.19 or newer");
		return r;
	}
	loop->has_ring = true;
	return 0;
}

static void loop_recycle_buffer(struct loop *loop, unsigned int bid)
{
	io_uring_buf_ring_add(loop->buf_ring, loop->recv_buffers + (size_t)bid * LOOP_RECV_SIZE,
			      LOOP_RECV_SIZE, (unsigned short)bid,
			      io_uring_buf_ring_mask(LOOP_N_RECV_BUFFERS), 0);
	io_uring_buf_ring_advance(loop->buf_ring, 1);
}

static int loop_init_buffers(struct loop *loop)
{
	const size_t ring_size = LOOP_N_RECV_BUFFERS * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg reg = {.ring_entries = LOOP_N_RECV_BUFFERS, .bgid = LOOP_BUF_GROUP};
	void *ring;
	int r;

	ring = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	if (ring == MAP_FAILED)
		return -ENOMEM;
	loop->buf_ring = ring;
	loop->recv_buffers = malloc((size_t)LOOP_N_RECV_BUFFERS * LOOP_RECV_SIZE);
	if (!loop->recv_buffers)
		return -ENOMEM;
	reg.ring_addr = (uint64_t)(uintptr_t)ring;
	r = io_uring_register_buf_ring(&loop->ring, &reg, 0);
	if (r) {
		log_error(loop->log,
			  "io_uring has no provided-buffer rings (%s): the kernel has to be 5.19 or newer",
			  strerror(-r));
		return r == -EINVAL ? -EOPNOTSUPP : r;
	}
	io_uring_buf_ring_init(loop->buf_ring);
	for (unsigned int i = 0; i < LOOP_N_RECV_BUFFERS; ++i)
		loop_recycle_buffer(loop, i);
	return 0;
}

int loop_new(struct loop **out, const struct loop_options *options)
{
	struct loop *loop;
	int r;

	loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->log = options->log;
	loop->no_multishot_recv = options->no_multishot_recv;
	list_init(&loop->deferred);
	loop_read_clocks(loop);
	r = loop_init_ring(loop, options);
	if (!r)
		r = loop_init_buffers(loop);
	if (r) {
		loop_free(loop);
		return r;
	}
	*out = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	assert(loop->n_in_flight == 0);
	assert(!loop->timers);
	assert(list_is_empty(&loop->deferred));
	if (loop->has_ring)
		io_uring_queue_exit(&loop->ring);
	if (loop->buf_ring)
		munmap(loop->buf_ring, LOOP_N_RECV_BUFFERS * sizeof(struct io_uring_buf));
	free(loop->recv_buffers);
	free(loop);
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

unsigned int loop_n_in_flight(const struct loop *loop)
{
	return loop->n_in_flight;
}

uint64_t loop_now_ns(const struct loop *loop)
{
	return loop->now_ns;
}

uint64_t loop_wall_ms(const struct loop *loop)
{
	return loop->wall_ms;
}

uint64_t loop_n_turns(const struct loop *loop)
{
	return loop->n_enters;
}

/* --- starting operations ---------------------------------------------------------------------- */

static struct io_uring_sqe *loop_get_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&loop->ring))) {
		int r;

		++loop->n_enters;
		r = io_uring_submit(&loop->ring);
		/* The completion queue or memory is short: fetching completions makes room. */
		if (r == -EBUSY || r == -EAGAIN || r == -EINTR)
			r = io_uring_get_events(&loop->ring);
		if (r < 0 && r != -EBUSY && r != -EAGAIN && r != -EINTR) {
			log_error(loop->log, "io_uring does not take requests any more: %s", strerror(-r));
			abort();
		}
	}
	return sqe;
}

void loop_op_init(struct loop_op *op, loop_op_fn fn)
{
	*op = (struct loop_op){.kind = LOOP_OP_IDLE, .fn = fn, .fd = -1};
}

void loop_op_init_recv(struct loop_op *op, loop_recv_fn fn)
{
	*op = (struct loop_op){.kind = LOOP_OP_IDLE, .recv_fn = fn, .fd = -1};
}

static struct io_uring_sqe *op_start(struct loop *loop, struct loop_op *op, enum loop_op_kind kind, int fd)
{
	assert(loop_op_is_idle(op));
	op->kind = kind;
	op->cancelling = false;
	op->loop = loop;
	op->fd = fd;
	++loop->n_in_flight;
	return loop_get_sqe(loop);
}

void loop_op_connect(struct loop *loop, struct loop_op *op, int fd, const struct sockaddr *addr,
		     socklen_t addr_len)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);

	io_uring_prep_connect(sqe, fd, addr, addr_len);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_send(struct loop *loop, struct loop_op *op, int fd, struct bytes data)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);

	io_uring_prep_send(sqe, fd, data.data, data.len, MSG_NOSIGNAL);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_poll_once(struct loop *loop, struct loop_op *op, int fd, uint32_t events)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);

	io_uring_prep_poll_add(sqe, fd, events);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_openat(struct loop *loop, struct loop_op *op, int dir_fd, const char *path, int flags,
		    mode_t mode)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, dir_fd);

	io_uring_prep_openat(sqe, dir_fd, path, flags, mode);
	/* Of a filesystem behind a network or a process even an open that may not block does. */
	io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_pwrite(struct loop *loop, struct loop_op *op, int fd, struct bytes data, uint64_t offset)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);
	unsigned int len = data.len < INT32_MAX ? (unsigned int)data.len : INT32_MAX;

	io_uring_prep_write(sqe, fd, data.data, len, offset);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_fsync(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);

	io_uring_prep_fsync(sqe, fd, 0);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_fdatasync(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);

	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t offset, uint64_t len)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);

	io_uring_prep_fallocate(sqe, fd, mode, (off_t)offset, (off_t)len);
	io_uring_sqe_set_data(sqe, op);
}

/* Its blocks are there, so there is nothing to do; ext4 begins a transaction to find that out, and others look as well. */
void loop_op_check_fs(struct loop *loop, struct loop_op *op, int fd)
{
	loop_op_fallocate(loop, op, fd, FALLOC_FL_KEEP_SIZE, 0, 1);
}

int loop_check_fs_error(int res)
{
	switch (res) {
	case 0:
	/* It got as far as to look for space. */
	case -ENOSPC:
	case -EDQUOT:
	/* No such operation, or no such file: nothing is known. */
	case -EOPNOTSUPP:
	case -ENOSYS:
	case -EINVAL:
	case -EPERM:
	case -EBADF:
		return 0;
	default:
		return res;
	}
}

void loop_op_close(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, fd);

	io_uring_prep_close(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_renameat(struct loop *loop, struct loop_op *op, int old_dir_fd, const char *old_path,
		      int new_dir_fd, const char *new_path)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, old_dir_fd);

	io_uring_prep_renameat(sqe, old_dir_fd, old_path, new_dir_fd, new_path, 0);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_unlinkat(struct loop *loop, struct loop_op *op, int dir_fd, const char *path)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_ONCE, dir_fd);

	io_uring_prep_unlinkat(sqe, dir_fd, path, 0);
	io_uring_sqe_set_data(sqe, op);
}

static void op_queue_multi(struct loop_op *op, struct io_uring_sqe *sqe)
{
	if (op->events)
		io_uring_prep_poll_multishot(sqe, op->fd, op->events);
	else
		io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_poll(struct loop *loop, struct loop_op *op, int fd, uint32_t events)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_MULTI, fd);

	op->events = events;
	op_queue_multi(op, sqe);
}

void loop_op_accept(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_MULTI, fd);

	op->events = 0;
	op_queue_multi(op, sqe);
}

static void op_queue_recv(struct loop_op *op, struct io_uring_sqe *sqe)
{
	if (op->loop->no_multishot_recv)
		io_uring_prep_recv(sqe, op->fd, NULL, LOOP_RECV_SIZE, 0);
	else
		io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = LOOP_BUF_GROUP;
	io_uring_sqe_set_data(sqe, op);
}

void loop_op_recv(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = op_start(loop, op, LOOP_OP_RECV, fd);

	op_queue_recv(op, sqe);
}

void loop_op_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe;

	if (loop_op_is_idle(op) || op->cancelling)
		return;
	op->cancelling = true;
	sqe = loop_get_sqe(loop);
	io_uring_prep_cancel(sqe, op, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	io_uring_sqe_set_data(sqe, NULL);
}

/* --- completions ------------------------------------------------------------------------------ */

static void op_end(struct loop_op *op)
{
	op->kind = LOOP_OP_IDLE;
	--op->loop->n_in_flight;
}

static void dispatch_multi(struct loop_op *op, int res, bool more)
{
	if (!more) {
		if (res < 0 || op->cancelling || (op->events && res == 0))
			op_end(op);
		else
			op_queue_multi(op, loop_get_sqe(op->loop));
	}
	op->fn(op, res);
}

/* The kernel ended a receive for a reason the owner need not know. */
static bool recv_goes_on(struct loop *loop, int res)
{
	if (res == -EINVAL && !loop->no_multishot_recv) {
		loop->no_multishot_recv = true; /* kernel 5.19 */
		return true;
	}
	return res > 0 || res == -ENOBUFS;
}

static void dispatch_recv(struct loop_op *op, int res, uint32_t flags)
{
	struct loop *loop = op->loop;
	bool has_buffer = flags & IORING_CQE_F_BUFFER, tell = true;
	unsigned int bid = flags >> IORING_CQE_BUFFER_SHIFT;
	struct bytes data = BYTES(NULL, 0);

	if (!(flags & IORING_CQE_F_MORE)) {
		bool goes_on = recv_goes_on(loop, res);

		if (goes_on && !op->cancelling) {
			op_queue_recv(op, loop_get_sqe(loop));
			tell = res > 0;
		} else {
			op_end(op);
			/* Data that arrived before the cancellation is still the owner's. */
			if (goes_on && res <= 0)
				res = -ECANCELED;
		}
	}
	if (has_buffer && res > 0)
		data = BYTES(loop->recv_buffers + (size_t)bid * LOOP_RECV_SIZE, (size_t)res);
	if (tell)
		op->recv_fn(op, res, data);
	if (has_buffer)
		loop_recycle_buffer(loop, bid);
}

static void loop_dispatch_cqe(struct loop_op *op, int res, uint32_t flags)
{
	switch (op->kind) {
	case LOOP_OP_IDLE:
		assert(op->kind != LOOP_OP_IDLE);
		break;
	case LOOP_OP_ONCE:
		op_end(op);
		op->fn(op, res);
		break;
	case LOOP_OP_MULTI:
		dispatch_multi(op, res, flags & IORING_CQE_F_MORE);
		break;
	case LOOP_OP_RECV:
		dispatch_recv(op, res, flags);
		break;
	}
}

static void loop_dispatch(struct loop *loop)
{
	unsigned int n = io_uring_cq_ready(&loop->ring);

	for (; n > 0; --n) {
		struct io_uring_cqe *cqe;
		struct loop_op *op;
		uint32_t flags;
		int res;

		if (io_uring_peek_cqe(&loop->ring, &cqe))
			return;
		op = io_uring_cqe_get_data(cqe);
		res = cqe->res;
		flags = cqe->flags;
		io_uring_cqe_seen(&loop->ring, cqe);
		if (op)
			loop_dispatch_cqe(op, res, flags);
	}
}

/* --- timers and deferred functions ------------------------------------------------------------ */

void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	loop_timer_disarm(timer);
	if (at_ns == TIME_NEVER)
		return;
	/* What a timer arms for now is for the next turn: the turn has to end. */
	if (loop->running_timers && at_ns <= loop->now_ns)
		at_ns = loop->now_ns + 1;
	timer->at_ns = at_ns;
	timer->loop = loop;
	timer_heap_insert(&loop->timers, timer);
}

void loop_timer_disarm(struct loop_timer *timer)
{
	if (!loop_timer_is_armed(timer))
		return;
	timer_heap_remove(&timer->loop->timers, timer);
	timer->at_ns = TIME_NEVER;
}

static void loop_run_timers(struct loop *loop)
{
	loop->running_timers = true;
	while (loop->timers && loop->timers->at_ns <= loop->now_ns) {
		struct loop_timer *t = loop->timers;

		loop_timer_disarm(t);
		t->fn(t, loop->now_ns);
	}
	loop->running_timers = false;
}

void loop_deferred_init(struct loop_deferred *deferred, loop_deferred_fn fn)
{
	deferred->fn = fn;
	list_init(&deferred->link);
}

void loop_defer(struct loop *loop, struct loop_deferred *deferred)
{
	if (!list_is_linked(&deferred->link))
		list_append(&loop->deferred, &deferred->link);
}

void loop_undefer(struct loop_deferred *deferred)
{
	list_remove(&deferred->link);
}

/* Runs what is deferred now, and nothing that comes meanwhile. */
static void loop_run_deferred_round(struct loop *loop)
{
	struct list round, *link;

	list_init(&round);
	list_splice(&round, &loop->deferred);
	while ((link = list_first(&round))) {
		struct loop_deferred *d = container_of(link, struct loop_deferred, link);

		list_remove(link);
		d->fn(d);
	}
}

/* Bounded: functions that defer each other for ever must not keep the loop from everybody else. */
static void loop_run_deferred(struct loop *loop)
{
	for (int n = 0; n < LOOP_DEFERRED_ROUNDS && !list_is_empty(&loop->deferred); ++n)
		loop_run_deferred_round(loop);
}

/* --- turning ---------------------------------------------------------------------------------- */

/* One enter: submits everything and waits for the first completion, at most @wait_ns. */
static int loop_enter(struct loop *loop, uint64_t wait_ns)
{
	struct __kernel_timespec ts = {
		.tv_sec = (long long)(wait_ns / NSEC_PER_SEC),
		.tv_nsec = (long long)(wait_ns % NSEC_PER_SEC),
	};
	struct io_uring_cqe *cqe;
	int r;

	++loop->n_enters;
	if (wait_ns == 0)
		r = io_uring_submit_and_get_events(&loop->ring);
	else
		r = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, wait_ns == TIME_NEVER ? NULL : &ts,
						     NULL);
	/* EBUSY, EAGAIN: submit again once the completions that are there have been handled. */
	if (r == -ETIME || r == -EINTR || r == -EBUSY || r == -EAGAIN)
		r = 0;
	return r < 0 ? r : 0;
}

int loop_turn(struct loop *loop, uint64_t timeout_ns)
{
	uint64_t wait_ns = timeout_ns;
	int r;

	/* What was deferred between turns. */
	loop_run_deferred(loop);
	if (loop->timers) {
		uint64_t due = loop->timers->at_ns, left = due > loop->now_ns ? due - loop->now_ns : 0;

		if (left < wait_ns)
			wait_ns = left;
	}
	if (!list_is_empty(&loop->deferred))
		wait_ns = 0;
	r = loop_enter(loop, wait_ns);
	loop_read_clocks(loop);
	loop_dispatch(loop);
	loop_run_timers(loop);
	loop_run_deferred(loop);
	return r;
}

int loop_run(struct loop *loop)
{
	int r = 0;

	loop->stopping = false;
	loop_run_deferred(loop);
	while (!loop->stopping && !r)
		r = loop_turn(loop, TIME_NEVER);
	return r;
}
