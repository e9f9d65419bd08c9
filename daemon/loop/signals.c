/* SPDX-License-Identifier: MIT */
/*
 * Signals through the loop: a signalfd, polled, read until it is empty. The object outlives
 * loop_signals_free() until its poll has ended.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "loop/loop.h"

struct loop_signals {
	struct loop *loop;
	struct loop_op poll;
	int fd;
	loop_signal_fn fn;
	void *userdata;
};

static void signals_on_poll(struct loop_op *op, int res)
{
	struct loop_signals *s = container_of(op, struct loop_signals, poll);
	struct signalfd_siginfo info;

	if (loop_op_is_idle(op) && op->cancelling) {
		close(s->fd);
		free(s);
		return;
	}
	if (res <= 0)
		return;
	while (!op->cancelling && read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		s->fn(s->userdata, (int)info.ssi_signo);
}

int loop_signals_new(struct loop_signals **out, struct loop *loop, const int *signals, size_t n,
		     loop_signal_fn fn, void *userdata)
{
	struct loop_signals *s;
	sigset_t set;
	int r;

	sigemptyset(&set);
	for (size_t i = 0; i < n; ++i)
		sigaddset(&set, signals[i]);
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->fn = fn;
	s->userdata = userdata;
	s->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->fd < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
		r = -errno;
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return r;
	}
	loop_op_init(&s->poll, signals_on_poll);
	loop_op_poll(loop, &s->poll, s->fd, POLLIN);
	*out = s;
	return 0;
}

void loop_signals_free(struct loop_signals *s)
{
	if (s)
		loop_op_cancel(s->loop, &s->poll);
}
