/* SPDX-License-Identifier: MIT */
/*
 * A lab with iothub-run, see run_lab.h.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/process.h"
#include "tests/support/run_lab.h"

#define ARGS_MAX 24

const char *run_lab_path(const struct run_lab *r, const char *name)
{
	static char paths[4][LAB_PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, LAB_PATH_MAX, "%s/%s", r->lab.dir, name);
	return path;
}

/* A pipe with a name, open for both sides: opening it never waits. */
static int fifo_open(const char *path)
{
	int fd;

	ASSERT_EQ(mkfifo(path, 0600), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	return fd;
}

void run_lab_init(struct run_lab *r, const char *config)
{
	lab_init(&r->lab);
	r->run = 0;
	setenv("D", r->lab.dir, 1);
	ASSERT_EQ(mkdir(run_lab_path(r, "handlers"), 0755), 0);
	r->said = fifo_open(run_lab_path(r, "said"));
	r->go = fifo_open(run_lab_path(r, "go"));
	lab_start_emulator(&r->lab, NULL);
	lab_configure(&r->lab, config);
	lab_start_daemon(&r->lab);
	lab_await_state(&r->lab, "connected");
}

void run_lab_deinit(struct run_lab *r)
{
	if (!test_is_orphan() && r->lab.dir[0]) {
		close(r->said);
		close(r->go);
	}
	lab_show_log(&r->lab, "daemon");
	lab_show_log(&r->lab, "run");
	process_stop(&r->run, SIGKILL);
	lab_deinit(&r->lab);
}

void run_lab_handler(const struct run_lab *r, const char *name, const char *script)
{
	_cleanup_(close_fd) int fd = -1;
	char path[LAB_PATH_MAX];

	snprintf(path, sizeof(path), "%s/handlers/%s", r->lab.dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
	ASSERT_GE(fd, 0);
	ASSERT_GT(dprintf(fd, "#!/bin/sh\n%s\n", script), 0);
}

void run_lab_start_argv(struct run_lab *r, const char *const *args)
{
	const char *argv[ARGS_MAX] = {process_path("iothub-run"), "--verbose", "--mount", r->lab.mount};
	char log[LAB_PATH_MAX], notify[LAB_PATH_MAX];
	size_t n = 4;

	for (; *args; args++) {
		ASSERT_LT(n + 1, (size_t)ARGS_MAX);
		argv[n++] = *args;
	}
	snprintf(log, sizeof(log), "%s/run.log", r->lab.dir);
	snprintf(notify, sizeof(notify), "%s/notify-run", r->lab.dir);
	process_start_notify(&r->run, log, argv, notify);
}

int run_lab_stop(struct run_lab *r, int signo)
{
	return process_stop(&r->run, signo);
}

const char *run_lab_next(struct run_lab *r)
{
	static char line[512];
	size_t n = 0;

	while (n + 1 < sizeof(line) && read(r->said, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	return line;
}

pid_t run_lab_next_pid(struct run_lab *r)
{
	pid_t pid = (pid_t)atoi(run_lab_next(r));

	ASSERT_GT(pid, 1);
	return pid;
}

void run_lab_expect(struct run_lab *r, const char *text)
{
	EXPECT_STREQ(run_lab_next(r), text);
}

void run_lab_go(struct run_lab *r)
{
	ASSERT_EQ(write(r->go, "go\n", 3), 3);
}

void run_lab_await_gone(pid_t pid)
{
	_cleanup_(close_fd) int fd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd < 0)
		ASSERT_EQ(errno, ESRCH);
	else
		ASSERT_EQ(poll(&p, 1, -1), 1);
}
