/* SPDX-License-Identifier: MIT */
/*
 * Delivery as a channel's files set it, with a real daemon and hub: when write(2) returns and what survives then, what
 * a full queue means, how long messages live, and which go first.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

FIXTURE(delivery)
{
	struct lab lab;
};

FIXTURE_SETUP(delivery)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(delivery)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

static void shell(struct lab *lab, const char *script)
{
	EXPECT_EQ(lab_shell(lab, "bash", script), 0);
}

/* A number of a channel's statistics. */
static unsigned long stats_number(struct lab *lab, const char *channel, const char *key)
{
	char name[LAB_PATH_MAX], line[256];
	unsigned long value = ULONG_MAX;
	FILE *file;

	snprintf(name, sizeof(name), "channels/%s/stats", channel);
	file = fopen(lab_path(lab, name), "re");
	ASSERT_TRUE(file != NULL);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
			value = strtoul(line + strlen(key) + 1, NULL, 10);
	fclose(file);
	return value;
}

/* --- levels ----------------------------------------------------------------------------------- */

TEST_F(delivery, what_was_written_survives_kill_9)
{
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	int queued, stored;

	lab_start_without_hub(&self->lab, NULL);
	queued = lab_open(&self->lab, "telemetry.raw", 0);
	stored = lab_open(&self->lab, "telemetry.raw", O_DSYNC);
	ASSERT_EQ(write(queued, "1", 1), 1);
	ASSERT_EQ(write(stored, "2", 1), 1);
	shell(&self->lab, "printf '3\\n4\\n' > $M/telemetry");
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 4u);
	monitor = lab_restart_with_hub(&self->lab);
	close(queued);
	close(stored);
	for (const char *const *p = (const char *[]){"1", "2", "3", "4", NULL}; *p; ++p)
		lab_expect_payload(&self->lab, monitor, *p);
	shell(&self->lab, "echo 5 | dd oflag=sync of=$M/telemetry status=none");
	lab_expect_payload(&self->lab, monitor, "5");
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 0u);
}

TEST_F(delivery, fdatasync_needs_no_hub_and_fsync_does)
{
	_cleanup_(close_fd) int fd = -1;

	lab_start_without_hub(&self->lab, "\"ack-timeout\": 1");
	fd = lab_open(&self->lab, "telemetry", 0);
	ASSERT_EQ(write(fd, "a\nb\n", 4), 4);
	EXPECT_EQ(fdatasync(fd), 0);
	EXPECT_EQ(fsync(fd), -1);
	EXPECT_EQ(errno, ETIMEDOUT);
	EXPECT_EQ(stats_number(&self->lab, "default", "stored"), 2u);
	lab_start_emulator(&self->lab, NULL);
	lab_await_state(&self->lab, "connected");
	EXPECT_EQ(fsync(fd), 0);
	EXPECT_EQ(stats_number(&self->lab, "default", "acked"), 2u);
}

TEST_F(delivery, a_channel_has_a_level)
{
	lab_start_without_hub(&self->lab, "\"ack-timeout\": 1");
	shell(&self->lab, "mkdir $M/channels/a && echo stored > $M/channels/a/ack");
	shell(&self->lab, "echo x > $M/channels/a/telemetry");
	EXPECT_EQ(stats_number(&self->lab, "a", "stored"), 1u);
	shell(&self->lab, "echo hub > $M/channels/a/ack");
	shell(&self->lab, "echo y 2>$D/err > $M/channels/a/telemetry && exit 9; "
			  "LC_ALL=C grep -q 'timed out' $D/err");
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 2u);
}

TEST_F(delivery, in_memory_stored_means_the_hub)
{
	_cleanup_(close_fd) int fd = -1;

	lab_start_without_hub(&self->lab, "\"ack-timeout\": 1, \"storage\": \"volatile\"");
	fd = lab_open(&self->lab, "telemetry.raw", O_DSYNC);
	EXPECT_EQ(write(fd, "x", 1), -1);
	EXPECT_EQ(errno, ETIMEDOUT);
	EXPECT_EQ(fdatasync(fd), -1);
	EXPECT_EQ(errno, ETIMEDOUT);
}

/* --- a full queue ----------------------------------------------------------------------------- */

#define BLOCK 60000

static char block[BLOCK];

/* Writes a block that begins with a number. */
static bool write_block(int fd, unsigned int number)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u ", number);

	memset(block, ' ', sizeof(block));
	memcpy(block, text, (size_t)len);
	return write(fd, block, sizeof(block)) == BLOCK;
}

/* Writes blocks that begin with a number until there is no room; how many. */
static unsigned int fill(struct lab *lab)
{
	int fd = lab_open(lab, "telemetry.raw", O_NONBLOCK);
	unsigned int n = 0;

	while (write_block(fd, n))
		++n;
	close(fd);
	return n;
}

static void expect_block(struct lab *lab, FILE *monitor, unsigned int number)
{
	struct lab_message message;

	lab_next_message(lab, monitor, &message);
	EXPECT_EQ(message.payload_len, (size_t)BLOCK);
	EXPECT_EQ(strtoul(message.payload, NULL, 10), number);
	lab_message_clear(&message);
}

static pid_t write_in_a_process(struct lab *lab, const char *text)
{
	/* Before the process is there: whatever ends the daemon finds the file open. */
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry.raw", 0);
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		memset(block, ' ', sizeof(block));
		memcpy(block, text, strlen(text));
		_exit(write(fd, block, sizeof(block)) == BLOCK ? 0 : errno);
	}
	return pid;
}

/* Until a write on a channel that blocks would wait behind another one; how many were taken until then. */
static unsigned int await_blocked(struct lab *lab)
{
	int fd = lab_open(lab, "telemetry.raw", O_NONBLOCK);
	unsigned int n = 0;

	while (write(fd, "x", 1) == 1)
		++n;
	EXPECT_EQ(errno, EAGAIN);
	close(fd);
	return n;
}

TEST_F(delivery, a_channel_that_blocks)
{
	_cleanup_(close_fd) int fd = -1;
	unsigned int n;
	pid_t writer, killed;
	int status;

	lab_start_without_hub(&self->lab, "\"queue-bytes\": 1048576");
	shell(&self->lab, "echo block > $M/channels/default/when-full");
	n = fill(&self->lab);
	EXPECT_EQ(errno, EAGAIN);
	killed = write_in_a_process(&self->lab, "killed");
	n += await_blocked(&self->lab);
	ASSERT_EQ(kill(killed, SIGKILL), 0);
	ASSERT_EQ(waitpid(killed, &status, 0), killed);
	EXPECT_TRUE(WIFSIGNALED(status));
	writer = write_in_a_process(&self->lab, "goes on");
	n += await_blocked(&self->lab);
	EXPECT_GT(lab_status_number(&self->lab, "queue-full"), 0u);
	lab_start_emulator(&self->lab, NULL);
	ASSERT_EQ(waitpid(writer, &status, 0), writer);
	EXPECT_EQ(status, 0);
	fd = lab_open(&self->lab, "telemetry.raw", O_SYNC);
	EXPECT_EQ(write(fd, "last", 4), 4);
	EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), n + 2);
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 0u);
}

TEST_F(delivery, a_channel_that_blocks_no_more_lets_them_go_on)
{
	pid_t writer;
	int status;

	lab_start_without_hub(&self->lab, "\"queue-bytes\": 1048576");
	shell(&self->lab, "echo block > $M/channels/default/when-full");
	fill(&self->lab);
	writer = write_in_a_process(&self->lab, "x");
	await_blocked(&self->lab);
	shell(&self->lab, "echo drop-oldest > $M/channels/default/when-full");
	ASSERT_EQ(waitpid(writer, &status, 0), writer);
	EXPECT_EQ(status, 0);
	EXPECT_GT(stats_number(&self->lab, "default", "dropped"), 0u);
}

TEST_F(delivery, a_stop_ends_blocked_writers)
{
	pid_t writer;
	int status;

	lab_start_without_hub(&self->lab, "\"queue-bytes\": 1048576");
	shell(&self->lab, "echo block > $M/channels/default/when-full");
	fill(&self->lab);
	writer = write_in_a_process(&self->lab, "x");
	await_blocked(&self->lab);
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
	ASSERT_EQ(waitpid(writer, &status, 0), writer);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), ESHUTDOWN);
}

/* Reads `events` until so many drops were told, which is once a second at most. */
static void expect_drops_told(struct lab *lab, unsigned long n)
{
	static const char key[] = "\"event\":\"dropped\",\"reason\":\"";
	FILE *events = fopen(lab_path(lab, "events"), "re");
	bool was_full = false;
	char line[512];

	ASSERT_TRUE(events != NULL);
	while (n > 0 && fgets(line, sizeof(line), events)) {
		const char *at = strstr(line, key);

		was_full |= strstr(line, "\"queue-full\"") != NULL;
		if (at)
			n -= strtoul(at + strlen(key), NULL, 10);
	}
	EXPECT_EQ(n, 0ul);
	EXPECT_TRUE(was_full);
	fclose(events);
}

TEST_F(delivery, the_oldest_are_dropped)
{
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	_cleanup_(close_fd) int fd = -1;
	unsigned int n;

	lab_start_without_hub(&self->lab, "\"queue-bytes\": 1048576");
	n = fill(&self->lab);
	EXPECT_EQ(errno, ENOSPC);
	shell(&self->lab, "echo drop-oldest > $M/channels/default/when-full");
	fd = lab_open(&self->lab, "telemetry.raw", 0);
	for (unsigned int i = n; i < n + 5; ++i)
		EXPECT_TRUE(write_block(fd, i));
	EXPECT_EQ(stats_number(&self->lab, "default", "dropped"), 5u);
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), n);
	expect_drops_told(&self->lab, 5);
	monitor = lab_restart_with_hub(&self->lab);
	for (unsigned int i = 5; i < n + 5; ++i)
		expect_block(&self->lab, monitor, i);
}

/* --- time and order --------------------------------------------------------------------------- */

TEST_F(delivery, what_is_too_old_is_not_delivered)
{
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	_cleanup_(close_fd) int fd = -1;

	lab_start_without_hub(&self->lab, NULL);
	shell(&self->lab, "mkdir $M/channels/short && echo 1 > $M/channels/short/ttl");
	shell(&self->lab, "echo before > $M/telemetry");
	fd = lab_open(&self->lab, "channels/short/telemetry", 0);
	ASSERT_EQ(write(fd, "old\n", 4), 4);
	/* Who waits for it is told, when it is time. */
	EXPECT_EQ(fsync(fd), -1);
	EXPECT_EQ(errno, ETIMEDOUT);
	EXPECT_EQ(stats_number(&self->lab, "short", "expired"), 1u);
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 1u);
	shell(&self->lab, "echo after > $M/telemetry");
	monitor = lab_restart_with_hub(&self->lab);
	lab_expect_payload(&self->lab, monitor, "before");
	lab_expect_payload(&self->lab, monitor, "after");
	shell(&self->lab, "echo new | dd oflag=sync of=$M/channels/short/telemetry status=none");
	lab_expect_payload(&self->lab, monitor, "new");
}

#define N_BACKLOG 20000

TEST_F(delivery, an_alarm_overtakes_a_backlog)
{
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	_cleanup_(close_fd) int fd = -1;
	char text[32];

	lab_start_without_hub(&self->lab, NULL);
	shell(&self->lab, "mkdir $M/channels/alarm && echo 0 > $M/channels/alarm/priority");
	fd = lab_open(&self->lab, "telemetry", 0);
	for (unsigned int i = 0; i < N_BACKLOG; ++i)
		ASSERT_GT(dprintf(fd, "%u\n", i), 0);
	shell(&self->lab, "echo fire > $M/channels/alarm/telemetry");
	monitor = lab_restart_with_hub(&self->lab);
	lab_expect_payload(&self->lab, monitor, "fire");
	for (unsigned int i = 0; i < N_BACKLOG; ++i) {
		snprintf(text, sizeof(text), "%u", i);
		lab_expect_payload(&self->lab, monitor, text);
	}
	/* The monitor has it before the daemon has its answer. */
	shell(&self->lab, "echo end | dd oflag=sync of=$M/telemetry status=none");
	EXPECT_EQ(stats_number(&self->lab, "default", "acked"), N_BACKLOG + 1ul);
}

TEST_HARNESS_MAIN
