/* SPDX-License-Identifier: MIT */
/*
 * Programs as children, see child.h.
 *
 * Standard input is a sealed file in memory: there is nothing to feed, and a program that does not read holds up
 * nobody. Standard output, when it is collected, is a pipe that is read up to the end of the program; what goes
 * over the bound is read and thrown away, so that the program does not hang and nothing incomplete passes for an
 * answer.
 *
 * The end of a run is the end of the program itself, as its pidfd says. Its process group is killed then: what it
 * left behind neither holds up the answer, by keeping the pipe open, nor goes on unseen. As long as the program has
 * not been waited for, its process id, which is the group's, belongs to nobody else; so the group is only signalled
 * before that.
 *
 * At the limit of time the group gets SIGTERM, and SIGKILL after the grace time. PR_SET_PDEATHSIG ends the program
 * (though not what it started) when we are killed.
 */

#include "child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Newer than the C library (Linux 6.3). */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define EXIT_NOT_FOUND      127
#define EXIT_NOT_EXECUTABLE 126

/* --- input and output ------------------------------------------------------------------------- */

static int write_all(int fd, struct bytes data)
{
	while (data.len) {
		ssize_t n = write(fd, data.data, data.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data = BYTES(data.data + n, data.len - (size_t)n);
	}
	return 0;
}

/* A descriptor at the start of @input, or a negative errno. */
static int input_open(struct bytes input)
{
	_cleanup_(close_fd) int fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	int r;

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	r = write_all(fd, input);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* At most @n bytes of the output. Returns how many there were; 0 at the end, and when there are none now. */
static size_t output_read(struct child *child, size_t n)
{
	uint8_t data[16384];
	ssize_t got = read(child->out.fd, data, n < sizeof(data) ? n : sizeof(data));

	if (got <= 0)
		return 0;
	if (!child->too_long && buf_append(&child->output, BYTES(data, (size_t)got)) < 0) {
		child->too_long = true;
		buf_deinit(&child->output);
	}
	return (size_t)got;
}

static void output_close(struct child *child)
{
	int fd = child->out.fd;

	poller_unwatch(child->poller, &child->out);
	close_fd(&fd);
}

/* What is in the pipe at the end of the program, and not what somebody it left behind goes on writing. */
static void output_finish(struct child *child)
{
	int left = 0;

	if (child->out.fd < 0)
		return;
	ioctl(child->out.fd, FIONREAD, &left);
	for (size_t n, todo = (size_t)left; todo && (n = output_read(child, todo)); todo -= n)
		;
	output_close(child);
}

static void on_output(struct watch *w, uint32_t events)
{
	struct child *child = container_of(w, struct child, out);
	int left = 0;

	ioctl(w->fd, FIONREAD, &left);
	if (left)
		output_read(child, (size_t)left);
	else if (events & (EPOLLHUP | EPOLLERR))
		output_close(child);
}

/* --- the new process -------------------------------------------------------------------------- */

static void signals_default(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void child_exec(const struct child_spec *spec, pid_t parent, int in, int out)
{
	int error;

	setpgid(0, 0);
	signals_default();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It may have ended before the line above. */
	if (getppid() != parent)
		_exit(EXIT_NOT_EXECUTABLE);
	/* Both are above 2, since main() has seen to it that 0 to 2 are open. */
	if (dup2(in, STDIN_FILENO) >= 0 && (out < 0 || dup2(out, STDOUT_FILENO) >= 0))
		execve(spec->path, spec->argv, spec->envp);
	error = errno;
	dprintf(STDERR_FILENO, "iothub-run: %s: %s\n", spec->path, strerror(error));
	_exit(error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

/* Watches the new process and its output, whose descriptors become the watches'. Returns 0 or a negative errno. */
static int child_watch(struct child *child, int *out)
{
	_cleanup_(close_fd) int pidfd = pidfd_open(child->pid, 0);
	int r;

	if (pidfd < 0)
		return -errno;
	r = poller_watch(child->poller, &child->end, pidfd, EPOLLIN);
	if (r == 0 && *out >= 0)
		r = poller_watch(child->poller, &child->out, *out, EPOLLIN);
	if (r < 0) {
		poller_unwatch(child->poller, &child->end);
		return r;
	}
	(void)TAKE_FD(pidfd);
	*out = -1;
	return 0;
}

int child_start(struct child *child, const struct child_spec *spec)
{
	_cleanup_(close_fd) int in = input_open(spec->input);
	_cleanup_(close_fd) int out = -1, theirs = -1;
	pid_t parent = getpid(), pid;
	int pipe_fds[2], r;

	assert(child->state == CHILD_IDLE);
	if (in < 0)
		return in;
	if (spec->capture) {
		if (pipe2(pipe_fds, O_CLOEXEC) < 0)
			return -errno;
		out = pipe_fds[0];
		theirs = pipe_fds[1];
	}
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child_exec(spec, parent, in, theirs);
	child->pid = pid;
	/* Here, too, so that the group is there when it is to be killed. */
	setpgid(pid, pid);
	r = child_watch(child, &out);
	if (r < 0) {
		kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	child->state = CHILD_RUNNING;
	child->cut = false;
	child->grace_ns = spec->grace_ns;
	child->too_long = false;
	buf_deinit(&child->output);
	buf_init(&child->output, spec->output_bytes_max);
	poller_arm(child->poller, &child->limit, spec->deadline_ns);
	return 0;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* The program has ended, or SIGKILL is on its way to it. */
static void child_reap(struct child *child)
{
	int pidfd = child->end.fd;

	kill(-child->pid, SIGKILL);
	while (waitpid(child->pid, &child->status, 0) < 0 && errno == EINTR)
		;
	poller_unwatch(child->poller, &child->end);
	close_fd(&pidfd);
	poller_arm(child->poller, &child->limit, TIME_NEVER);
	output_finish(child);
	child->state = CHILD_IDLE;
}

static void on_exit_of_program(struct watch *w, uint32_t events)
{
	struct child *child = container_of(w, struct child, end);

	(void)events;
	child_reap(child);
	child->on_end(child);
}

static void on_limit(struct timer *t)
{
	struct child *child = container_of(t, struct child, limit);

	switch (child->state) {
	case CHILD_RUNNING:
		child->state = CHILD_TERMINATING;
		child->cut = true;
		kill(-child->pid, SIGTERM);
		poller_arm(child->poller, &child->limit, child->poller->now_ns + child->grace_ns);
		break;
	case CHILD_TERMINATING:
		child->state = CHILD_KILLED;
		kill(-child->pid, SIGKILL);
		break;
	case CHILD_IDLE:
	case CHILD_KILLED:
		assert(false);
	}
}

void child_hurry(struct child *child, uint64_t deadline_ns)
{
	if (child->state != CHILD_RUNNING || deadline_ns >= child->limit.at_ns)
		return;
	poller_arm(child->poller, &child->limit, deadline_ns);
}

void child_kill(struct child *child)
{
	if (child->state == CHILD_IDLE || child->state == CHILD_KILLED)
		return;
	child->state = CHILD_KILLED;
	child->cut = true;
	poller_arm(child->poller, &child->limit, TIME_NEVER);
	kill(-child->pid, SIGKILL);
}

/* --- life cycle ------------------------------------------------------------------------------- */

void child_init(struct child *child, struct poller *poller, void (*on_end)(struct child *child))
{
	*child = (struct child){.poller = poller, .state = CHILD_IDLE, .on_end = on_end};
	watch_init(&child->end, on_exit_of_program);
	watch_init(&child->out, on_output);
	timer_init(&child->limit, on_limit);
	buf_init(&child->output, 0);
}

void child_deinit(struct child *child)
{
	if (child->state != CHILD_IDLE)
		child_reap(child);
	buf_deinit(&child->output);
}

bool child_succeeded(const struct child *child)
{
	return !child->cut && WIFEXITED(child->status) && WEXITSTATUS(child->status) == 0;
}

const char *child_describe(const struct child *child, char *out, size_t size)
{
	if (child->cut)
		snprintf(out, size, "ended at its time limit");
	else if (WIFSIGNALED(child->status))
		snprintf(out, size, "signal %d", WTERMSIG(child->status));
	else
		snprintf(out, size, "exit code %d", WEXITSTATUS(child->status));
	return out;
}
