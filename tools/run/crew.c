/* SPDX-License-Identifier: MIT */
/*
 * All workers of one iothub-run, see crew.h: start, signals, stop.
 *
 * SIGTERM and SIGINT: nothing new is taken; programs that run have the grace time to end, then they get SIGTERM, and
 * after the grace time once more SIGKILL. A second such signal means at once. SIGHUP: look anew what programs there
 * are. Signals are blocked and read from a descriptor.
 */

#include "crew.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"

/* --- signals ---------------------------------------------------------------------------------- */

static void crew_stop(struct crew *crew)
{
	uint64_t deadline_ns = crew->poller.now_ns + crew->options->grace_ns;

	crew->state = CREW_STOPPING;
	sd_notify(0, "STOPPING=1");
	list_for_each_safe (l, &crew->workers)
		worker_leave(container_of(l, struct worker, link), deadline_ns);
}

static void crew_stop_now(struct crew *crew)
{
	list_for_each (l, &crew->workers)
		child_kill(&container_of(l, struct worker, link)->child);
}

static void on_signal(struct watch *w, uint32_t events)
{
	struct crew *crew = container_of(w, struct crew, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(w->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo != SIGHUP && crew->state == CREW_SERVING)
		crew_stop(crew);
	else if (info.ssi_signo != SIGHUP)
		crew_stop_now(crew);
	else if (crew->state == CREW_SERVING)
		crew->ops->load(crew);
}

/* Blocks the signals that are read, and has no other state of signals than what programs expect. */
static int crew_take_signals(struct crew *crew)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, standard = {.sa_handler = SIG_DFL};
	sigset_t set;
	int fd, r;

	sigaction(SIGPIPE, &ignore, NULL);
	/* Where it is ignored nobody can be waited for. */
	sigaction(SIGCHLD, &standard, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_SETMASK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	r = poller_watch(&crew->poller, &crew->signals, fd, EPOLLIN);
	if (r < 0)
		close(fd);
	return r;
}

/* --- life cycle ------------------------------------------------------------------------------- */

int crew_init(struct crew *crew, const struct run_options *options, const struct crew_ops *ops)
{
	int r;

	*crew = (struct crew){.options = options, .ops = ops, .state = CREW_SERVING};
	list_init(&crew->workers);
	list_init(&crew->stopped);
	watch_init(&crew->signals, on_signal);
	log_init(&crew->log, "iothub-run", options->log_level);
	r = poller_init(&crew->poller);
	if (r == 0)
		r = crew_take_signals(crew);
	if (r < 0)
		log_error(&crew->log, "cannot start: %s", strerror(-r));
	return r;
}

static void free_stopped(struct crew *crew)
{
	bool any = !list_is_empty(&crew->stopped);

	list_for_each_safe (l, &crew->stopped) {
		struct worker *w = container_of(l, struct worker, link);

		w->ops->free(w);
	}
	if (any && crew->ops->tidy)
		crew->ops->tidy(crew);
}

void crew_deinit(struct crew *crew)
{
	int fd = crew->signals.fd;

	list_splice(&crew->stopped, &crew->workers);
	free_stopped(crew);
	poller_unwatch(&crew->poller, &crew->signals);
	close_fd(&fd);
	poller_deinit(&crew->poller);
}

/* Whether all files have been opened. */
static bool is_serving(const struct crew *crew)
{
	list_for_each (l, &crew->workers) {
		if (container_of(l, struct worker, link)->state == WORKER_CLOSED)
			return false;
	}
	return true;
}

int crew_run(struct crew *crew)
{
	int r = crew->ops->load(crew);

	if (r < 0)
		return 1;
	while (crew->state != CREW_STOPPED) {
		if (crew->state == CREW_SERVING && !crew->is_ready && is_serving(crew)) {
			crew->is_ready = true;
			sd_notify(0, "READY=1");
		}
		r = poller_step(&crew->poller);
		if (r < 0) {
			log_error(&crew->log, "waiting: %s", strerror(-r));
			return 1;
		}
		free_stopped(crew);
		if (crew->state == CREW_STOPPING && list_is_empty(&crew->workers))
			crew->state = CREW_STOPPED;
	}
	return 0;
}

int crew_environment(const struct crew *crew, struct environment *env)
{
	const char *mount = crew->options->mount;
	int r = environment_init(env, environ);

	return r < 0 ? r : environment_set(env, "IOTHUB_MOUNT", mount, strlen(mount));
}
