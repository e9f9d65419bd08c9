/* SPDX-License-Identifier: MIT */
/*
 * epoll(7) and timers, see poller.h.
 *
 * poll(2) over the hub's files would ask the daemon about each of them every time; epoll asks about those that
 * were woken. The clock is read here only, once before each callback.
 */

#include "poller.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

int poller_init(struct poller *p)
{
	*p = (struct poller){.fd = epoll_create1(EPOLL_CLOEXEC), .now_ns = clock_ns()};
	list_init(&p->timers);
	return p->fd < 0 ? -errno : 0;
}

void poller_deinit(struct poller *p)
{
	if (p->fd < 0)
		return;
	assert(list_is_empty(&p->timers));
	close(p->fd);
	p->fd = -1;
}

int poller_watch(struct poller *p, struct watch *w, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = w};

	assert(w->fd < 0);
	if (epoll_ctl(p->fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	w->fd = fd;
	return 0;
}

void poller_change(struct poller *p, struct watch *w, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = w};
	int r = epoll_ctl(p->fd, EPOLL_CTL_MOD, w->fd, &event);

	assert(r == 0);
	(void)r;
}

void poller_unwatch(struct poller *p, struct watch *w)
{
	if (w->fd < 0)
		return;
	epoll_ctl(p->fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
}

void poller_arm(struct poller *p, struct timer *t, uint64_t at_ns)
{
	list_remove(&t->link);
	t->at_ns = at_ns;
	if (at_ns != TIME_NEVER)
		list_append(&p->timers, &t->link);
}

static struct timer *first_timer(struct poller *p)
{
	struct timer *first = NULL;

	list_for_each (l, &p->timers) {
		struct timer *t = container_of(l, struct timer, link);

		if (!first || t->at_ns < first->at_ns)
			first = t;
	}
	return first;
}

/* For epoll_wait(): rounded up, so that the time has come when it returns. */
static int wait_ms(const struct poller *p, const struct timer *t)
{
	uint64_t ms;

	if (!t)
		return -1;
	if (t->at_ns <= p->now_ns)
		return 0;
	ms = (t->at_ns - p->now_ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

int poller_step(struct poller *p)
{
	struct timer *t = first_timer(p);
	struct epoll_event event;
	struct watch *w;
	int n;

	p->now_ns = clock_ns();
	n = epoll_wait(p->fd, &event, 1, wait_ms(p, t));
	if (n < 0 && errno != EINTR)
		return -errno;
	p->now_ns = clock_ns();
	/* Time first: descriptors that are always ready must not hold it up. */
	if (t && t->at_ns <= p->now_ns) {
		list_remove(&t->link);
		t->on_time(t);
	} else if (n > 0) {
		w = event.data.ptr;
		w->on_event(w, event.events);
	}
	return 0;
}
