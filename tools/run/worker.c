/* SPDX-License-Identifier: MIT */
/*
 * One worker: its file, its request, its program; see crew.h.
 *
 * The states and what leads from one to the next:
 *
 *   CLOSED   --opened-->  WAITING  --request whole-->  RUNNING  --program's end-->  WAITING, or CLOSED
 *   WAITING  --daemon gone-->  CLOSED
 *   RUNNING  --daemon gone-->  ORPHANED  --program's end-->  CLOSED
 *
 * and, once it is leaving, STOPPED instead of CLOSED and of WAITING. There is a descriptor in WAITING and RUNNING
 * only, and a timer in CLOSED only.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "crew.h"

/* From one attempt to the next, to open a file or to handle what was not handled. */
#define PAUSE_MIN_NS (100 * NSEC_PER_MSEC)
#define PAUSE_MAX_NS (2 * NSEC_PER_SEC)

#define READ_BYTES   65536

bool is_daemon_gone(int error)
{
	return error == -ENOTCONN || error == -ECONNABORTED || error == -ESHUTDOWN;
}

/* --- transitions ------------------------------------------------------------------------------ */

static void worker_close_file(struct worker *w)
{
	poller_unwatch(&w->crew->poller, &w->file);
	close_fd(&w->fd);
	buf_consume(&w->input, buf_len(&w->input));
}

static void worker_stop(struct worker *w)
{
	worker_close_file(w);
	poller_arm(&w->crew->poller, &w->retry, TIME_NEVER);
	w->state = WORKER_STOPPED;
	list_remove(&w->link);
	list_append(&w->crew->stopped, &w->link);
}

static void worker_close(struct worker *w, uint64_t pause_ns)
{
	if (w->is_leaving) {
		worker_stop(w);
		return;
	}
	worker_close_file(w);
	w->state = WORKER_CLOSED;
	poller_arm(&w->crew->poller, &w->retry, w->crew->poller.now_ns + pause_ns);
}

static void worker_pause(struct worker *w)
{
	worker_close(w, w->pause_ns);
	w->pause_ns = w->pause_ns < PAUSE_MAX_NS / 2 ? 2 * w->pause_ns : PAUSE_MAX_NS;
}

/* Waits for input. Returns 0 or a negative errno. */
static int worker_listen(struct worker *w)
{
	struct poller *poller = &w->crew->poller;

	w->state = WORKER_WAITING;
	if (w->file.fd < 0)
		return poller_watch(poller, &w->file, w->fd, EPOLLIN);
	poller_change(poller, &w->file, EPOLLIN);
	return 0;
}

static void worker_go_on(struct worker *w, enum worker_next next)
{
	switch (next) {
	case NEXT_INPUT:
		if (w->is_leaving)
			worker_stop(w);
		else if (worker_listen(w) < 0)
			worker_pause(w);
		break;
	case NEXT_RUN:
		break;
	case NEXT_OPEN:
		worker_close(w, 0);
		break;
	case NEXT_PAUSE:
		worker_pause(w);
		break;
	}
}

/* The file does not work any more. */
static void worker_fail(struct worker *w, int error)
{
	w->pause_ns = PAUSE_MIN_NS;
	if (is_daemon_gone(error) && w->ops->notices_loss) {
		crew_lost(w->crew);
		return;
	}
	if (!is_daemon_gone(error))
		log_write_once(&w->crew->log, w->once, LOG_LEVEL_WARNING, "%s: reading: %s", w->path,
			       strerror(-error));
	worker_pause(w);
}

static void worker_lose(struct worker *w)
{
	switch (w->state) {
	case WORKER_WAITING:
		w->pause_ns = PAUSE_MIN_NS;
		worker_pause(w);
		break;
	case WORKER_RUNNING:
		worker_close_file(w);
		w->state = WORKER_ORPHANED;
		break;
	case WORKER_CLOSED:
	case WORKER_ORPHANED:
	case WORKER_STOPPED:
		break;
	}
}

void crew_lost(struct crew *crew)
{
	list_for_each_safe (l, &crew->workers)
		worker_lose(container_of(l, struct worker, link));
}

/* --- the file --------------------------------------------------------------------------------- */

static void worker_say_missing(struct worker *w, int error)
{
	struct crew *crew = w->crew;

	if (error == -EBUSY)
		return;
	if (error == -ENOENT || is_daemon_gone(error))
		log_write_once(&crew->log, &crew->missed, LOG_LEVEL_WARNING,
			       "%s: the files are not there; waiting for iothubd", crew->options->mount);
	else
		log_write_once(&crew->log, w->once, LOG_LEVEL_WARNING, "%s: %s; trying again", w->path,
			       strerror(-error));
}

static void on_retry(struct timer *t)
{
	struct worker *w = container_of(t, struct worker, retry);
	struct crew *crew = w->crew;
	int r;

	assert(w->state == WORKER_CLOSED);
	r = w->ops->open(w);
	if (r >= 0) {
		w->fd = r;
		r = worker_listen(w);
	}
	if (r == -EINVAL) {
		w->is_leaving = true;
		worker_stop(w);
	} else if (r < 0) {
		worker_say_missing(w, r);
		worker_pause(w);
	} else {
		if (crew->missed.text[0])
			log_info(&crew->log, "%s: the files are there again", crew->options->mount);
		log_once_reset(&crew->missed);
		log_once_reset(w->once);
	}
}

/* Reads up to the end of the request, or of what there is now. */
static void worker_read(struct worker *w)
{
	enum worker_next next = NEXT_INPUT;
	uint8_t data[READ_BYTES];
	ssize_t n;
	int r;

	while (next == NEXT_INPUT && w->state == WORKER_WAITING) {
		n = read(w->fd, data, sizeof(data));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				worker_fail(w, -errno);
			return;
		}
		r = buf_append(&w->input, BYTES(data, (size_t)n));
		if (r < 0) {
			worker_fail(w, r);
			return;
		}
		next = w->ops->on_input(w, n == 0);
	}
	worker_go_on(w, next);
}

static void on_file(struct watch *watch, uint32_t events)
{
	struct worker *w = container_of(watch, struct worker, file);

	switch (w->state) {
	case WORKER_WAITING:
		worker_read(w);
		/* An error that reading does not show: the daemon did not answer the question what events there are. */
		if (w->state == WORKER_WAITING && (events & (EPOLLERR | EPOLLHUP)))
			worker_fail(w, -ENOTCONN);
		break;
	case WORKER_RUNNING:
		if (w->ops->notices_loss && (events & EPOLLERR))
			crew_lost(w->crew);
		else
			poller_unwatch(&w->crew->poller, watch);
		break;
	case WORKER_CLOSED:
	case WORKER_ORPHANED:
	case WORKER_STOPPED:
		assert(false);
	}
}

/* --- the program ------------------------------------------------------------------------------ */

int worker_run(struct worker *w, struct child_spec *spec)
{
	const struct run_options *options = w->crew->options;
	int r;

	if (w->state == WORKER_WAITING)
		w->deadline_ns = w->crew->poller.now_ns + options->timeout_ns;
	spec->deadline_ns = w->deadline_ns;
	spec->grace_ns = options->grace_ns;
	r = child_start(&w->child, spec);
	if (r < 0)
		return r;
	if (w->state == WORKER_WAITING) {
		w->state = WORKER_RUNNING;
		poller_change(&w->crew->poller, &w->file, 0);
	}
	return 0;
}

static void on_end(struct child *child)
{
	struct worker *w = container_of(child, struct worker, child);
	enum worker_next next = w->ops->on_end(w);

	if (next == NEXT_INPUT || next == NEXT_OPEN)
		w->pause_ns = PAUSE_MIN_NS;
	/* on_end may have found that the daemon is gone. */
	if (w->state == WORKER_ORPHANED && next != NEXT_RUN)
		next = NEXT_PAUSE;
	worker_go_on(w, next);
}

/* --- life cycle ------------------------------------------------------------------------------- */

void worker_init(struct worker *w, struct crew *crew, const struct worker_ops *ops, const char *path,
		 struct log_once *once)
{
	*w = (struct worker){.crew = crew,
			     .ops = ops,
			     .fd = -1,
			     .state = WORKER_CLOSED,
			     .pause_ns = PAUSE_MIN_NS,
			     .path = path,
			     .once = once};
	watch_init(&w->file, on_file);
	timer_init(&w->retry, on_retry);
	buf_init(&w->input, ops->input_bytes_max);
	child_init(&w->child, &crew->poller, on_end);
	list_init(&w->link);
	list_append(&crew->workers, &w->link);
	poller_arm(&crew->poller, &w->retry, crew->poller.now_ns);
}

void worker_deinit(struct worker *w)
{
	child_deinit(&w->child);
	worker_close_file(w);
	poller_arm(&w->crew->poller, &w->retry, TIME_NEVER);
	buf_deinit(&w->input);
	list_remove(&w->link);
}

void worker_leave(struct worker *w, uint64_t deadline_ns)
{
	w->is_leaving = true;
	switch (w->state) {
	case WORKER_CLOSED:
	case WORKER_WAITING:
		worker_stop(w);
		break;
	case WORKER_RUNNING:
	case WORKER_ORPHANED:
		if (deadline_ns < w->deadline_ns)
			w->deadline_ns = deadline_ns;
		child_hurry(&w->child, w->deadline_ns);
		break;
	case WORKER_STOPPED:
		break;
	}
}
