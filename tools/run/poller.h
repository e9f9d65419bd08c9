/* SPDX-License-Identifier: MIT */
#ifndef RUN_POLLER_H
#define RUN_POLLER_H

/*
 * Waits for descriptors and for points in time, and calls who asked. Watches and timers are embedded in their
 * owners, who take them back before they go.
 *
 * One event is taken at a time, so a callback may take back and free any watch or timer, its own included.
 */

#include <stdint.h>
#include <sys/epoll.h>

#include "base/list.h"
#include "base/time.h"

struct poller {
	int fd;
	struct list timers; /* those that are armed, in no order: there are few */
	uint64_t now_ns;    /* CLOCK_MONOTONIC when the current callback began */
};

/* A descriptor that is watched; -1 = none. The poller never closes it. */
struct watch {
	int fd;
	void (*on_event)(struct watch *w, uint32_t events); /* EPOLL* */
};

struct timer {
	struct list link;
	uint64_t at_ns;
	void (*on_time)(struct timer *t); /* the timer is not armed any more */
};

/* Returns 0 or a negative errno. */
int poller_init(struct poller *p);
/* No watch and no timer is left. Idempotent. */
void poller_deinit(struct poller *p);

static inline void watch_init(struct watch *w, void (*on_event)(struct watch *w, uint32_t events))
{
	*w = (struct watch){.fd = -1, .on_event = on_event};
}

/* Watches @fd for @events; EPOLLERR and EPOLLHUP are always reported, as often as they are there. Returns 0 or a
 * negative errno. */
int poller_watch(struct poller *p, struct watch *w, int fd, uint32_t events);
/* For other events. Cannot fail for a descriptor that is watched. */
void poller_change(struct poller *p, struct watch *w, uint32_t events);
/* Idempotent; before the descriptor is closed. */
void poller_unwatch(struct poller *p, struct watch *w);

static inline void timer_init(struct timer *t, void (*on_time)(struct timer *t))
{
	t->at_ns = TIME_NEVER;
	t->on_time = on_time;
	list_init(&t->link);
}

/* Calls the timer's owner at @at_ns, which replaces what was armed; TIME_NEVER: not at all. */
void poller_arm(struct poller *p, struct timer *t, uint64_t at_ns);

/* Waits for one event or time and lets its owner know. Returns 0, or a negative errno when waiting does not work. */
int poller_step(struct poller *p);

#endif
