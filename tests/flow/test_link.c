/* SPDX-License-Identifier: MIT */
/*
 * The link over lost connections, restarted hubs, limits that change, tokens that end and daemons that stop:
 * what was written arrives, and `status` says what is going on.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

FIXTURE(link)
{
	struct lab lab;
};

FIXTURE_SETUP(link)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(link)
{
	lab_show_log(&self->lab, "daemon");
	lab_show_log(&self->lab, "emulator");
	lab_deinit(&self->lab);
}

/* --- helpers
 * --------------------------------------------------------------------------------------------------- */

/* Hub and daemon, connected. */
static void start_two(struct lab *lab, const char *const *emulator_options, const char *config)
{
	lab_start_emulator(lab, emulator_options);
	lab_configure(lab, config);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
}

/* With a monitor, too. */
static FILE *start_all(struct lab *lab, const char *const *emulator_options, const char *config)
{
	start_two(lab, emulator_options, config);
	lab_start_monitor(lab);
	return lab_monitor_stream(lab);
}

/* Starts the emulator again, and a monitor before the daemon can have connected. */
static FILE *restart_hub(struct lab *lab, const char *const *options)
{
	process_stop(&lab->monitor, SIGKILL);
	close(lab->monitor_fd);
	ASSERT_EQ(kill(lab->daemon, SIGSTOP), 0);
	lab_start_emulator(lab, options);
	lab_start_monitor(lab);
	ASSERT_EQ(kill(lab->daemon, SIGCONT), 0);
	return lab_monitor_stream(lab);
}

static void write_text(int fd, const char *text)
{
	ASSERT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* A write returns before its message leaves. */
static void await_in_flight(const struct lab *lab, uint64_t n)
{
	while (lab_status_number(lab, "in-flight") != n)
		;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void expect_log_lines(const struct lab *lab, const char *text, unsigned int n)
{
	_cleanup_(free_ptr) char *log = lab_log(lab, "daemon");

	EXPECT_EQ(text_count(log, text), n);
}

static const char *const slow_pubacks[] = {"--puback-delay", "60000", NULL};

/* --- lost connections
 * ------------------------------------------------------------------------------------------- */

TEST_F(link, a_restarted_hub_gets_what_was_written_meanwhile)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL, NULL), *again = NULL;
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry", 0);

	lab_expect_status(lab, "session", "new");
	write_text(fd, "before\n");
	lab_expect_payload(lab, monitor, "before");
	ASSERT_EQ(fsync(fd), 0);
	EXPECT_EQ(lab_stop_emulator(lab, SIGTERM), 0);
	lab_await_state(lab, "waiting");
	write_text(fd, "away 1\naway 2\n");
	again = restart_hub(lab, NULL);
	lab_expect_payload(lab, again, "away 1");
	lab_expect_payload(lab, again, "away 2");
	ASSERT_EQ(fsync(fd), 0);
	EXPECT_EQ(lab_status_number(lab, "connects"), 2u);
	EXPECT_EQ(lab_status_number(lab, "sent-again"), 0u);
	lab_expect_status(lab, "last-error", "none");
}

TEST_F(link, a_killed_hub_gets_what_was_in_flight_again)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, slow_pubacks, NULL), *again = NULL;
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry.raw", 0);
	char text[32];

	for (int i = 0; i < 20; ++i) {
		snprintf(text, sizeof(text), "message %d", i);
		write_text(fd, text);
	}
	/* The window. */
	await_in_flight(lab, 16);
	lab_expect_payload(lab, monitor, "message 0");
	lab_stop_emulator(lab, SIGKILL);
	lab_await_state(lab, "waiting");
	EXPECT_EQ(lab_status_number(lab, "in-flight"), 0u);
	EXPECT_EQ(lab_status_number(lab, "queued"), 20u);
	again = restart_hub(lab, NULL);
	for (int i = 0; i < 20; ++i) {
		snprintf(text, sizeof(text), "message %d", i);
		lab_expect_payload(lab, again, text);
	}
	ASSERT_EQ(fsync(fd), 0);
	/* Sessions outlive the hub. */
	lab_expect_status(lab, "session", "resumed");
	EXPECT_EQ(lab_status_number(lab, "sent-again"), 16u);
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), 20u);
}

TEST_F(link, a_dropped_connection_resumes_the_session)
{
	static const char *const options[] = {"--puback-delay", "200", NULL};
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, options, NULL);
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry", 0);
	struct lab_message first, second;

	write_text(fd, "a\n");
	lab_next_message(lab, monitor, &first);
	ASSERT_EQ(kill(lab->emulator, SIGUSR1), 0);
	ASSERT_EQ(fsync(fd), 0);
	lab_expect_status(lab, "session", "resumed");
	EXPECT_EQ(lab_status_number(lab, "connects"), 2u);
	EXPECT_EQ(lab_status_number(lab, "sent-again"), 1u);
	lab_next_message(lab, monitor, &second);
	EXPECT_STREQ(first.payload, "a");
	EXPECT_STREQ(second.payload, "a");
	EXPECT_STREQ(second.message_id, first.message_id);
	EXPECT_STREQ(second.creation_time, first.creation_time);
	lab_message_clear(&first);
	lab_message_clear(&second);
}

/* --- limits
 * ---------------------------------------------------------------------------------------------------- */

TEST_F(link, the_smallest_limits)
{
	static const char *const options[] = {
		"--receive-maximum", "1", "--topic-alias-maximum", "0", "--keep-alive", "60", NULL};
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, options, NULL);
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry.raw", 0);
	char text[32];

	EXPECT_EQ(lab_status_number(lab, "receive-maximum"), 1u);
	EXPECT_EQ(lab_status_number(lab, "topic-alias-maximum"), 0u);
	EXPECT_EQ(lab_status_number(lab, "keep-alive"), 60u);
	for (int i = 0; i < 200; ++i) {
		snprintf(text, sizeof(text), "message %d", i);
		write_text(fd, text);
	}
	ASSERT_EQ(fsync(fd), 0);
	for (int i = 0; i < 200; ++i) {
		snprintf(text, sizeof(text), "message %d", i);
		lab_expect_payload(lab, monitor, text);
	}
	/* The emulator disconnects whoever sends more at once. */
	EXPECT_EQ(lab_status_number(lab, "connects"), 1u);
}

/* One message was queued and one in flight when the hub took this much. */
TEST_F(link, a_message_over_the_next_connections_limit_is_rejected)
{
	static const char *const small[] = {"--max-packet-size", "8192", NULL};
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	_cleanup_(close_fd) int raw = -1, other = -1;
	static char big[100000];

	start_two(lab, slow_pubacks, NULL);
	raw = lab_open(lab, "telemetry.raw", 0);
	other = lab_open(lab, "telemetry", 0);
	memset(big, 'x', sizeof(big));
	ASSERT_EQ(write(raw, big, sizeof(big)), (ssize_t)sizeof(big));
	await_in_flight(lab, 1);
	lab_stop_emulator(lab, SIGKILL);
	lab_await_state(lab, "waiting");
	ASSERT_EQ(write(raw, big, sizeof(big)), (ssize_t)sizeof(big));
	write_text(raw, "small");
	write_text(other, "line\n");
	monitor = restart_hub(lab, small);
	EXPECT_EQ(fsync(raw), -1);
	EXPECT_EQ(errno, EMSGSIZE);
	EXPECT_EQ(fsync(raw), 0);
	EXPECT_EQ(fsync(other), 0);
	lab_expect_payload(lab, monitor, "small");
	lab_expect_payload(lab, monitor, "line");
	EXPECT_EQ(lab_status_number(lab, "rejected"), 2u);
	EXPECT_EQ(lab_status_number(lab, "queued"), 0u);
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), 2u);
	lab_expect_status(lab, "last-refusal", "larger than the hub's Maximum Packet Size");
	EXPECT_EQ(write(raw, big, sizeof(big)), -1);
	EXPECT_EQ(errno, EMSGSIZE);
}

/* --- the end of the daemon
 * -------------------------------------------------------------------------------------- */

TEST_F(link, sigterm_sends_what_is_queued_and_unmounts)
{
	static const char *const options[] = {"--puback-delay", "20", "--receive-maximum", "1", NULL};
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, options, NULL);
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry", 0);
	_cleanup_(close_fd) int file = lab_open(lab, "telemetry.file", 0);
	_cleanup_(free_ptr) char *log = NULL;
	char text[32];

	for (int i = 0; i < 20; ++i) {
		snprintf(text, sizeof(text), "message %d\n", i);
		write_text(fd, text);
	}
	/* Under way in files that are still open. */
	write_text(fd, "rest");
	write_text(file, "whole");
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
	EXPECT_NE(access(lab->mount, F_OK), 0);
	for (int i = 0; i < 20; ++i) {
		snprintf(text, sizeof(text), "message %d", i);
		lab_expect_payload(lab, monitor, text);
	}
	for (int i = 0; i < 2; ++i) {
		struct lab_message message;

		lab_next_message(lab, monitor, &message);
		EXPECT_TRUE(strcmp(message.payload, "rest") == 0 || strcmp(message.payload, "whole") == 0);
		lab_message_clear(&message);
	}
	expect_log_lines(lab, "for the next start", 0);
	log = lab_log(lab, "emulator");
	EXPECT_CONTAINS(log, "dev1: disconnected by the client");
}

TEST_F(link, sigterm_without_a_hub_says_what_waits)
{
	struct lab *lab = &self->lab;

	lab_start_emulator(lab, NULL);
	lab_stop_emulator(lab, SIGTERM);
	lab_start_daemon(lab);
	EXPECT_EQ(lab_shell(lab, "sh", "printf 'a\\nb\\n' > $M/telemetry"), 0);
	EXPECT_EQ(lab_stop_daemon(lab, SIGINT), 0);
	EXPECT_NE(access(lab->mount, F_OK), 0);
	expect_log_lines(lab, "2 messages for the hub wait in ", 1);
}

TEST_F(link, a_stale_mount_is_detached_by_the_next_daemon)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL, NULL);
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry", 0);

	lab_stop_daemon(lab, SIGKILL);
	EXPECT_EQ(write(fd, "x\n", 2), -1);
	EXPECT_TRUE(errno == ENOTCONN || errno == ECONNABORTED);
	lab_start_daemon(lab);
	expect_log_lines(lab, "detached the stale mount at", 1);
	lab_await_state(lab, "connected");
	/* The hub kept the session. */
	lab_expect_status(lab, "session", "resumed");
	EXPECT_EQ(lab_shell(lab, "bash", "echo after > $M/telemetry"), 0);
	lab_expect_payload(lab, monitor, "after");
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
}

TEST_F(link, unmounted_by_somebody_else_is_the_end)
{
	struct lab *lab = &self->lab;
	int status;

	start_two(lab, NULL, NULL);
	ASSERT_EQ(lab_shell(lab, "sh", "umount $M 2>/dev/null || fusermount3 -u $M"), 0);
	status = process_stop(&lab->daemon, 0);
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 1);
	expect_log_lines(lab, "was unmounted by somebody else: stopping", 1);
}

/* --- slow ones: all at once, each in a process and a lab of its own
 * --------------------------------------------- */

/* Ten seconds of keep-alive, and half as many again. */
static void half_open_connection(struct lab *lab, struct lab *other)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL, "\"keep-alive\": 10");
	_cleanup_(close_fd) int fd = lab_open(lab, "telemetry", 0);
	struct lab_message message;
	uint64_t start, passed;

	(void)other;
	write_text(fd, "before\n");
	ASSERT_EQ(fsync(fd), 0);
	ASSERT_EQ(kill(lab->emulator, SIGSTOP), 0);
	start = now_ms();
	write_text(fd, "meanwhile\n");
	lab_await_state(lab, "waiting");
	passed = now_ms() - start;
	EXPECT_GE(passed, 14000u);
	EXPECT_LE(passed, 17000u);
	lab_expect_status(lab, "last-error", "fell silent (keep-alive)");
	write_text(fd, "later\n");
	ASSERT_EQ(kill(lab->emulator, SIGCONT), 0);
	ASSERT_EQ(fsync(fd), 0);
	lab_expect_payload(lab, monitor, "before");
	lab_expect_payload(lab, monitor, "meanwhile");
	/* It waited in the old connection, too: the hub may have read that before the new one ended it. */
	lab_next_message(lab, monitor, &message);
	if (strcmp(message.payload, "meanwhile") == 0) {
		lab_message_clear(&message);
		lab_next_message(lab, monitor, &message);
	}
	EXPECT_STREQ(message.payload, "later");
	lab_message_clear(&message);
	expect_log_lines(lab, "fell silent", 1);
}

/* A hub that wants a sign of life every two seconds gets it. */
static void server_keep_alive(struct lab *lab, struct lab *other)
{
	static const char *const options[] = {"--keep-alive", "2", NULL};
	_cleanup_(close_fd) int fd = -1;
	struct pollfd p = {.events = POLLPRI};
	char byte;

	(void)other;
	start_two(lab, options, NULL);
	p.fd = fd = open(lab_path(lab, "status"), O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(lab_status_number(lab, "keep-alive"), 2u);
	ASSERT_EQ(read(fd, &byte, 1), 1);
	/* Nothing happens for longer than the hub's patience. */
	EXPECT_EQ(poll(&p, 1, 7000), 0);
	EXPECT_EQ(lab_status_number(lab, "connects"), 1u);
}

/* Two daemons with the same identity: they must not throw each other out all the time. */
static void takeover(struct lab *lab, struct lab *other)
{
	char config[1024], text[64];
	uint64_t start;

	start_two(lab, NULL, NULL);
	snprintf(config, sizeof(config),
		 "{\"connection-string-file\": \"%s/state/devices/dev1.connection-string\",\n"
		 " \"ca-file\": \"%s/state/ca.pem\", \"port\": %u, \"mount\": \"%s\"}\n",
		 lab->dir, lab->dir, lab->port, other->mount);
	lab_write_file(other, "iothubd.json", config);
	start = now_ms();
	lab_start_daemon(other);
	lab_await_state(other, "connected");
	lab_await_state(lab, "waiting");
	lab_expect_status(lab, "last-error",
			  "another client connected to localhost as dev1: every device needs");
	lab_status_text(lab, "retry-in", text, sizeof(text));
	EXPECT_GE(strtod(text, NULL), 25.0);
	lab_await_state(lab, "connected");
	EXPECT_GE(now_ms() - start, 30000u);
	lab_await_state(other, "waiting");
	expect_log_lines(lab, "another client connected", 1);
	expect_log_lines(other, "another client connected", 1);
}

/* The writer waits as long as its message has a chance, and not for a hub that does not answer. */
static void sigterm_with_a_synchronous_writer(struct lab *lab, struct lab *other)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, slow_pubacks, NULL);
	uint64_t start;
	pid_t writer;

	(void)other;
	fflush(NULL);
	writer = fork();
	if (writer == 0) {
		int fd = open(lab_path(lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);

		_exit(write(fd, "x", 1) < 0 ? errno : 0);
	}
	lab_expect_payload(lab, monitor, "x");
	start = now_ms();
	ASSERT_EQ(kill(lab->daemon, SIGTERM), 0);
	EXPECT_NE(process_stop(&writer, 0), 0);
	EXPECT_LT(now_ms() - start, 4000u);
	EXPECT_EQ(process_stop(&lab->daemon, 0), 0);
	EXPECT_GE(now_ms() - start, 900u);
	expect_log_lines(lab, "1 message for the hub waits in ", 1);
}

struct scenario {
	const char *name;
	void (*run)(struct lab *lab, struct lab *other);
};

static const struct scenario scenarios[] = {
	{"half-open connection", half_open_connection},
	{"server keep-alive", server_keep_alive},
	{"takeover", takeover},
	{"SIGTERM with a synchronous writer", sigterm_with_a_synchronous_writer},
};

#define N_SCENARIOS ARRAY_SIZE(scenarios)

struct run {
	const struct scenario *scenario;
	struct lab lab, other;
};

FIXTURE(slow)
{
	struct run runs[N_SCENARIOS];
};

FIXTURE_SETUP(slow)
{
	for (size_t i = 0; i < N_SCENARIOS; ++i) {
		self->runs[i].scenario = &scenarios[i];
		lab_init(&self->runs[i].lab);
		lab_init(&self->runs[i].other);
	}
}

FIXTURE_TEARDOWN(slow)
{
	for (size_t i = 0; i < N_SCENARIOS; ++i) {
		if (!test_is_orphan() && harness_state.result->n_failed)
			TEST_LOG("%s:", self->runs[i].scenario->name);
		lab_show_log(&self->runs[i].lab, "daemon");
		lab_show_log(&self->runs[i].lab, "emulator");
		lab_deinit(&self->runs[i].lab);
		lab_deinit(&self->runs[i].other);
	}
}

static void run_scenario(void *data)
{
	struct run *run = data;

	run->scenario->run(&run->lab, &run->other);
}

TEST_F_TIMEOUT(slow, ones, 80)
{
	pid_t pids[N_SCENARIOS];

	for (size_t i = 0; i < N_SCENARIOS; ++i) {
		fflush(NULL);
		pids[i] = fork();
		if (pids[i] == 0) {
			uint64_t start = now_ms();

			harness_call(run_scenario, &self->runs[i]);
			TEST_LOG("%s: done after %" PRIu64 " ms", scenarios[i].name, now_ms() - start);
			_exit(0);
		}
	}
	for (size_t i = 0; i < N_SCENARIOS; ++i)
		EXPECT_EQ(process_stop(&pids[i], 0), 0);
}

TEST_HARNESS_MAIN
