/* SPDX-License-Identifier: MIT */
/*
 * While the hub is away: whoever asked to wait for it waits, alone, and can be ended; everybody else goes on.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

/* For a whole command; far below the ack timeout of 60 s. */
#define SOON_MS 10000

FIXTURE(stall)
{
	struct lab lab;
};

FIXTURE_SETUP(stall)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(stall)
{
	lab_deinit(&self->lab);
}

static void start_offline(struct lab *lab)
{
	lab_start_emulator(lab, NULL);
	lab_stop_emulator(lab, SIGTERM);
	lab_start_daemon(lab);
}

/* The status file tells no events of the queue: it is read until @key is @n, within the test's time. */
static void await_number(struct lab *lab, const char *key, uint64_t n)
{
	while (lab_status_number(lab, key) != n)
		;
}

/* Wait status of a child that ends soon; one that does not fails the test, and hangs until the mount is gone.
 */
static int wait_soon(pid_t pid)
{
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int n, status;

	ASSERT_GE(p.fd, 0);
	n = poll(&p, 1, SOON_MS);
	close(p.fd);
	ASSERT_EQ(n, 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static pid_t start_shell(struct lab *lab, const char *shell, const char *script)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(lab_shell(lab, shell, script));
	return pid;
}

static void on_signal(int signo)
{
	(void)signo;
}

/* A child that opens @name, writes @text and, if asked, calls fsync(2); exits with errno or 0. */
static pid_t start_writer(struct lab *lab, const char *name, int flags, const char *text, bool sync)
{
	const char *path = lab_path(lab, name);
	pid_t pid = fork();

	if (pid == 0) {
		struct sigaction action = {.sa_handler = on_signal};
		int fd = open(path, flags | O_CLOEXEC, 0666);

		sigaction(SIGINT, &action, NULL);
		if (fd < 0 || write(fd, text, strlen(text)) < 0 || (sync && fsync(fd) < 0))
			_exit(errno);
		_exit(close(fd) < 0 ? errno : 0);
	}
	return pid;
}

/* A synchronous writer by dd, and an fsync: of the same file, and as the end of a message. */
#define N_WAITING 3

static void start_waiting(struct lab *lab, const char *name, pid_t pids[static N_WAITING])
{
	uint64_t n = lab_status_number(lab, "written");
	char script[128];

	snprintf(script, sizeof(script), "echo by-dd | dd oflag=sync of=$M/%s status=none", name);
	pids[0] = start_shell(lab, "bash", script);
	pids[1] = start_writer(lab, name, O_WRONLY, "by-fsync\n", true);
	/* This message is written by the FSYNC itself: it waits by then. */
	pids[2] = start_writer(lab, "telemetry.file", O_WRONLY, "by-fsync-of-file", true);
	await_number(lab, "written", n + N_WAITING);
}

static void go_on(struct lab *lab, const char *name)
{
	static const char *const scripts[] = {
		"echo x > $F",
		"echo x >> $F",
		"exec 3> $F; echo x >&3; echo x >&3; echo x > /dev/fd/3",
		"for i in 1 2 3 4 5 6 7 8; do echo x > $F & done; wait",
		"stat $F && ls -l $M && test -w $F && cat $M/status",
		"cp /etc/hostname $M/telemetry.file",
	};
	char script[256];

	for (size_t i = 0; i < ARRAY_SIZE(scripts); ++i) {
		snprintf(script, sizeof(script), "exec > /dev/null; F=$M/%s; %s", name, scripts[i]);
		EXPECT_EQ(wait_soon(start_shell(lab, i % 2 ? "dash" : "bash", script)), 0);
	}
}

TEST_F_TIMEOUT(stall, shells_and_programs_go_on_while_the_hub_is_away, 60)
{
	static const char *const names[] = {"telemetry", "telemetry.raw"};
	pid_t waiting[ARRAY_SIZE(names)][N_WAITING], pids[12];
	struct lab *lab = &self->lab;

	start_offline(lab);
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		start_waiting(lab, names[i], waiting[i]);
		go_on(lab, names[i]);
		for (size_t k = 0; k < ARRAY_SIZE(pids); ++k)
			pids[k] = start_writer(lab, names[i], k % 2 ? O_WRONLY | O_CREAT | O_TRUNC : O_WRONLY,
					       "y\n", false);
		for (size_t k = 0; k < ARRAY_SIZE(pids); ++k)
			EXPECT_EQ(wait_soon(pids[k]), 0);
	}
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), 0u);

	/* The hub comes back: all is delivered, each message once, and who waited is told. */
	lab_start_emulator(lab, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(names) * N_WAITING; ++i)
		EXPECT_EQ(wait_soon(waiting[i / N_WAITING][i % N_WAITING]), 0);
	await_number(lab, "queued", 0);
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), lab_status_number(lab, "written"));
	EXPECT_EQ(lab_status_number(lab, "sent-again"), 0u);
}

#define N_WRITERS 50

TEST_F_TIMEOUT(stall, fifty_synchronous_writers_wait_side_by_side, 60)
{
	static const int flags[] = {O_WRONLY | O_SYNC, O_WRONLY | O_SYNC | O_APPEND,
				    O_WRONLY | O_SYNC | O_CREAT | O_TRUNC};
	struct lab *lab = &self->lab;
	pid_t pids[N_WRITERS];

	start_offline(lab);
	for (size_t i = 0; i < N_WRITERS; ++i)
		pids[i] = start_writer(lab, "telemetry", flags[i % ARRAY_SIZE(flags)], "z\n", false);
	/* Every write has come to the daemon: nobody stands in line for a lock. */
	await_number(lab, "queued", N_WRITERS);
	for (size_t i = 0; i < N_WRITERS; ++i)
		EXPECT_EQ(waitpid(pids[i], NULL, WNOHANG), 0);
	for (size_t i = 0; i < N_WRITERS / 2; i += 2) {
		kill(pids[i], SIGINT);
		EXPECT_EQ(wait_soon(pids[i]), EINTR);
		kill(pids[i + 1], SIGKILL);
		EXPECT_EQ(wait_soon(pids[i + 1]), -SIGKILL);
	}
	lab_start_emulator(lab, NULL);
	for (size_t i = N_WRITERS / 2 + 1; i < N_WRITERS; ++i)
		EXPECT_EQ(wait_soon(pids[i]), 0);
	await_number(lab, "queued", 0);
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), (uint64_t)N_WRITERS);
}

/* A hub that stays connected and does not answer; its monitor sees what came when it goes on. */
TEST_F_TIMEOUT(stall, messages_arrive_once_when_a_silent_hub_goes_on, 60)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	_cleanup_(close_fd) int synchronous = -1;
	unsigned int seen[N_WRITERS] = {0};
	pid_t pids[N_WRITERS];

	lab_start_emulator(lab, NULL);
	lab_start_monitor(lab);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	monitor = lab_monitor_stream(lab);
	/* From the first such open on no two of the others share an inode, however close they come. */
	synchronous = open(lab_path(lab, "telemetry"), O_WRONLY | O_SYNC | O_CLOEXEC);
	ASSERT_GE(synchronous, 0);
	kill(lab->emulator, SIGSTOP);
	for (int i = 0; i < N_WRITERS; ++i) {
		char text[16];

		snprintf(text, sizeof(text), "%d\n", i);
		pids[i] = start_writer(lab, "telemetry", i % 2 ? O_WRONLY : O_WRONLY | O_SYNC, text,
				       i % 4 == 1);
	}
	await_number(lab, "written", N_WRITERS);
	for (size_t i = 3; i < N_WRITERS; i += 4)
		EXPECT_EQ(wait_soon(pids[i]), 0);
	kill(lab->emulator, SIGCONT);
	for (size_t i = 0; i < N_WRITERS; ++i) {
		struct lab_message message;

		if (i % 4 != 3)
			EXPECT_EQ(wait_soon(pids[i]), 0);
		lab_next_message(lab, monitor, &message);
		ASSERT_LT(strtoul(message.payload, NULL, 10), (unsigned long)N_WRITERS);
		++seen[strtoul(message.payload, NULL, 10)];
		lab_message_clear(&message);
	}
	for (size_t i = 0; i < N_WRITERS; ++i)
		EXPECT_EQ(seen[i], 1u);
	await_number(lab, "queued", 0);
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), (uint64_t)N_WRITERS);
}

TEST_HARNESS_MAIN
