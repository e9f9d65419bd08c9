/* SPDX-License-Identifier: MIT */
/*
 * Somebody sets this machine's clock: NTP after boot, an administrator, the end of a suspend. A timer on the time
 * of day that is never due becomes readable then (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
 *
 * The object outlives link_clock_free() until its operation has ended.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "flow/link_internal.h"

struct link_clock {
	struct loop *loop;
	struct loop_op op;
	int fd;
	struct link *link; /* NULL: to be freed */
};

static int clock_arm(struct link_clock *clock)
{
	/* The end of time, also for a clock that starts far in the future. */
	const struct itimerspec never = {.it_value.tv_sec = INT64_MAX};

	if (timerfd_settime(clock->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL))
		return -errno;
	loop_op_poll_once(clock->loop, &clock->op, clock->fd, POLLIN);
	return 0;
}

static void clock_on_poll(struct loop_op *op, int res)
{
	struct link_clock *clock = container_of(op, struct link_clock, op);

	if (!clock->link) {
		close(clock->fd);
		free(clock);
		return;
	}
	/* Without the watch a signature is still renewed in time by the other clock. */
	if (res < 0 || clock_arm(clock))
		return;
	link_on_clock_set(clock->link);
}

int link_clock_new(struct link_clock **out, struct link *link)
{
	struct link_clock *clock = calloc(1, sizeof(*clock));
	int r;

	if (!clock)
		return -ENOMEM;
	clock->loop = link->loop;
	clock->link = link;
	loop_op_init(&clock->op, clock_on_poll);
	clock->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = clock->fd < 0 ? -errno : clock_arm(clock);
	if (r) {
		if (clock->fd >= 0)
			close(clock->fd);
		free(clock);
		return r;
	}
	*out = clock;
	return 0;
}

void link_clock_free(struct link_clock *clock)
{
	if (!clock)
		return;
	clock->link = NULL;
	if (loop_op_is_idle(&clock->op)) {
		close(clock->fd);
		free(clock);
		return;
	}
	loop_op_cancel(clock->loop, &clock->op);
}
