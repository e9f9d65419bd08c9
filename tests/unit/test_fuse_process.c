/* SPDX-License-Identifier: MIT */
/*
 * What became of a thread, as those see it who may trace it and those who may not. Threads that have ended stand for
 * threads that end: /proc says the same of both.
 */

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "fuse/tree.h"
#include "tests/harness.h"

#define NOBODY 65534

FIXTURE(process)
{
	pid_t killed, ended, running;
};

/* Has ended by @signo, or by itself with 0, and nobody has waited for it. */
static pid_t dead_process(int signo)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0) {
		if (signo)
			raise(signo);
		_exit(1);
	}
	ASSERT_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	return pid;
}

FIXTURE_SETUP(process)
{
	self->killed = dead_process(SIGKILL);
	self->ended = dead_process(0);
	self->running = getpid();
}

FIXTURE_TEARDOWN(process)
{
	if (test_is_orphan())
		return;
	waitpid(self->killed, NULL, 0);
	waitpid(self->ended, NULL, 0);
}

TEST_F(process, may_be_traced)
{
	EXPECT_TRUE(fuse_pid_was_killed(self->killed));
	EXPECT_FALSE(fuse_pid_was_killed(self->ended));
	EXPECT_FALSE(fuse_pid_was_killed(self->running));
	EXPECT_FALSE(fuse_pid_was_killed(0));
}

TEST_F(process, may_not_be_traced)
{
	int status;
	pid_t pid;

	SKIP_IF(getuid() != 0, "needs root to become somebody else");
	pid = fork();
	if (pid == 0) {
		if (setresuid(NOBODY, NOBODY, NOBODY))
			_exit(4);
		_exit((fuse_pid_was_killed(self->killed) ? 1 : 0) |
		      (fuse_pid_was_killed(self->ended) || fuse_pid_was_killed(self->running) ? 2 : 0));
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST_HARNESS_MAIN
