/* SPDX-License-Identifier: MIT */
/*
 * Who closes a file: whether it was killed is known while it does, and asking never waits for it.
 */

#include <pthread.h>

#include "base/cleanup.h"
#include "tests/mount/mounted.h"

/* Opens call in a child, which then runs @end with the descriptor. */
static pid_t fork_holder(struct fixture_mounted *self, int flags, void (*end)(int fd))
{
	char path[128];
	pid_t pid;

	/* Of this process alone: the fixture lies in memory that the children share. */
	snprintf(path, sizeof(path), "%s", file_path(self, "call"));
	pid = fork();
	if (pid == 0) {
		end(open(path, O_RDWR | flags));
		_exit(99);
	}
	return pid;
}

static void expect_closed(struct fixture_mounted *self, uint64_t n_closed, uint64_t n_killed)
{
	EXPECT_EQ(ask(self, TOY_AWAIT_CLOSED, n_closed + n_killed), n_closed + n_killed);
	EXPECT_EQ(ask(self, TOY_N_CLOSED, 0), n_closed);
	EXPECT_EQ(ask(self, TOY_N_KILLED, 0), n_killed);
}

static void end_0(int fd)
{
	(void)fd;
	_exit(0);
}

static void end_1(int fd)
{
	(void)fd;
	_exit(1);
}

static void end_after_close(int fd)
{
	close(fd);
	raise(SIGKILL);
}

static void end_by_sigkill(int fd)
{
	(void)fd;
	raise(SIGKILL);
}

static void end_by_sigterm(int fd)
{
	(void)fd;
	raise(SIGTERM);
}

static void end_by_read(int fd)
{
	char c;

	_exit(read(fd, &c, 1) < 0 ? 1 : 0);
}

static void *wait_for_ever(void *userdata)
{
	(void)userdata;
	for (;;)
		pause();
	return NULL;
}

static void start_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, wait_for_ever, NULL);
}

static void end_by_sigkill_with_threads(int fd)
{
	(void)fd;
	start_threads();
	raise(SIGKILL);
}

static void end_0_with_threads(int fd)
{
	(void)fd;
	start_threads();
	exit(0);
}

static void *kill_all(void *userdata)
{
	(void)userdata;
	kill(getpid(), SIGKILL);
	return NULL;
}

static void end_by_another_thread(int fd)
{
	pthread_t thread;

	(void)fd;
	start_threads();
	pthread_create(&thread, NULL, kill_all, NULL);
	wait_for_ever(NULL);
}

static void end_by_exec(int fd)
{
	(void)fd;
	start_threads();
	execlp("true", "true", NULL);
}

TEST_F(mounted, ends_that_are_not_kills)
{
	static void (*const ends[])(int fd) = {end_0, end_1, end_0_with_threads};

	for (uint64_t i = 0; i < ARRAY_SIZE(ends); i++) {
		wait_child(fork_holder(self, 0, ends[i]));
		expect_closed(self, i + 1, 0);
	}
	EXPECT_EQ(wait_child(fork_holder(self, 0, end_after_close)), -SIGKILL);
	expect_closed(self, ARRAY_SIZE(ends) + 1, 0);
}

TEST_F(mounted, kills)
{
	static void (*const ends[])(int fd) = {end_by_sigkill, end_by_sigterm, end_by_sigkill_with_threads,
					       end_by_another_thread};

	for (uint64_t i = 0; i < ARRAY_SIZE(ends); i++) {
		EXPECT_LT(wait_child(fork_holder(self, 0, ends[i])), 0);
		expect_closed(self, 0, i + 1);
	}
}

/* execve(2) closes the file with a lock that keeps away who looks at the process. */
TEST_F(mounted, execve_closes)
{
	EXPECT_EQ(wait_child(fork_holder(self, O_CLOEXEC, end_by_exec)), 0);
	expect_closed(self, 1, 0);
	/* What is handed on is closed by the program. */
	EXPECT_EQ(wait_child(fork_holder(self, 0, end_by_exec)), 0);
	expect_closed(self, 2, 0);
}

/* Killed in a read that waits: several at once, each with a file of its own. */
TEST_F(mounted, kills_of_who_waits)
{
	pid_t pids[5];

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		pids[i] = fork_holder(self, 0, end_by_read);
	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, ARRAY_SIZE(pids)), ARRAY_SIZE(pids));
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		kill(pids[i], SIGKILL);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(wait_child(pids[i]), -SIGKILL);
	expect_closed(self, 0, ARRAY_SIZE(pids));
	EXPECT_EQ(ask(self, TOY_AWAIT_RELEASED, ARRAY_SIZE(pids)), ARRAY_SIZE(pids));
	EXPECT_EQ(ask(self, TOY_N_PARKED, 0), 0u);
}

/* One file, opened once and held by many: every one of them closes it. */
TEST_F(mounted, a_shared_file_is_closed_by_each)
{
	int fd = open_file(self, "call", O_RDWR);
	pid_t pid = fork();

	if (pid == 0) {
		raise(SIGKILL);
		_exit(99);
	}
	EXPECT_EQ(wait_child(pid), -SIGKILL);
	expect_closed(self, 0, 1);
	EXPECT_EQ(ask(self, TOY_N_RELEASED, 0), 0u);
	close(fd);
	expect_closed(self, 1, 1);
	EXPECT_EQ(ask(self, TOY_AWAIT_RELEASED, 1), 1u);
}

TEST_HARNESS_MAIN
