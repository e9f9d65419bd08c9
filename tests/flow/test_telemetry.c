/* SPDX-License-Identifier: MIT */
/*
 * Telemetry from shells and programs to the monitor of a real hub: framing, errno, waiting for the hub, and
 * delivery over lost connections.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

FIXTURE(telemetry)
{
	struct lab lab;
};

FIXTURE_SETUP(telemetry)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(telemetry)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

/* All three, connected. */
static FILE *start_all(struct lab *lab, const char *const *emulator_options, const char *config)
{
	lab_start_emulator(lab, emulator_options);
	lab_configure(lab, config);
	lab_start_monitor(lab);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	return lab_monitor_stream(lab);
}

static char *repeated(char c, size_t n)
{
	char *text = malloc(n + 1);

	memset(text, c, n);
	text[n] = '\0';
	return text;
}

/* --- framing ---------------------------------------------------------------------------------- */

TEST_F(telemetry, lines_from_bash_and_dash)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);

	EXPECT_EQ(lab_shell(&self->lab, "bash", "echo '{\"temperature\":21}' > $M/telemetry"), 0);
	lab_expect_payload(&self->lab, monitor, "{\"temperature\":21}");
	EXPECT_EQ(lab_shell(&self->lab, "bash", "printf 'a\\nb\\nc\\n' > $M/telemetry"), 0);
	EXPECT_EQ(lab_shell(&self->lab, "dash", "printf 'd\\n\\ne\\nf' > $M/telemetry"), 0);
	EXPECT_EQ(lab_shell(&self->lab, "dash", "{ printf 'g'; printf 'h\\ni'; printf 'j'; } > $M/telemetry"),
		  0);
	EXPECT_EQ(lab_shell(&self->lab, "dash",
			    ": > $M/telemetry; : > $M/telemetry.file; echo end >> $M/telemetry"),
		  0);
	for (const char *const *p = (const char *[]){"a", "b", "c", "d", "e", "f", "gh", "ij", "end", NULL};
	     *p; ++p)
		lab_expect_payload(&self->lab, monitor, *p);
}

TEST_F(telemetry, a_long_line_from_bash_is_one_message)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);
	_cleanup_(free_ptr) char *want = repeated('x', 20000);

	EXPECT_EQ(
		lab_shell(&self->lab, "bash",
			  "s=$(head -c 20000 /dev/zero | tr '\\0' x); echo \"$s\" > $M/telemetry; echo end > "
			  "$M/telemetry"),
		0);
	lab_expect_payload(&self->lab, monitor, want);
	lab_expect_payload(&self->lab, monitor, "end");
}

TEST_F(telemetry, a_copied_file_is_one_message_byte_for_byte)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);
	static uint8_t bytes[200 * 1024], got[200 * 1024];
	struct lab_message message;
	char path[LAB_PATH_MAX];
	int fd;

	for (size_t i = 0; i < sizeof(bytes); ++i)
		bytes[i] = (uint8_t)test_random();
	snprintf(path, sizeof(path), "%s/picture", self->lab.dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	ASSERT_EQ(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	close(fd);
	EXPECT_EQ(lab_shell(&self->lab, "bash",
			    "cp $D/picture $M/telemetry.file && cat $D/picture > $M/telemetry.file"),
		  0);
	for (int i = 0; i < 2; ++i) {
		lab_next_message(&self->lab, monitor, &message);
		ASSERT_TRUE(message.is_base64);
		ASSERT_EQ(base64_decode(BYTES(message.payload, message.payload_len), got, sizeof(got)),
			  (ssize_t)sizeof(bytes));
		EXPECT_MEMEQ(got, bytes, sizeof(bytes));
		lab_message_clear(&message);
	}
}

TEST_F(telemetry, raw_writes_are_messages)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "one\ntwo", 7), 7);
	ASSERT_EQ(write(fd, "\n", 1), 1);
	lab_expect_payload(&self->lab, monitor, "one\ntwo");
	lab_expect_payload(&self->lab, monitor, "\n");
	EXPECT_EQ(lseek(fd, 0, SEEK_SET), -1);
	EXPECT_EQ(errno, ESPIPE);
}

TEST_F(telemetry, fsync_ends_a_file_message)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);
	int fd = open(lab_path(&self->lab, "telemetry.file"), O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "ab", 2), 2);
	ASSERT_EQ(write(fd, "cd", 2), 2);
	ASSERT_EQ(fsync(fd), 0);
	EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), 1u);
	lab_expect_payload(&self->lab, monitor, "abcd");
	ASSERT_EQ(write(fd, "ef", 2), 2);
	close(fd);
	lab_expect_payload(&self->lab, monitor, "ef");
}

/* --- limits ----------------------------------------------------------------------------------- */

/* Largest message: the packet limit less the header, topic, alias and properties. */
static size_t find_largest(int fd, char *bytes, size_t limit)
{
	size_t low = 1, high = limit;

	while (low < high) {
		size_t mid = (low + high + 1) / 2;

		if (write(fd, bytes, mid) == (ssize_t)mid)
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

TEST_F(telemetry, over_the_packet_limit_is_emsgsize)
{
	static const char *const options[] = {"--max-packet-size", "8192", NULL};
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, options, NULL);
	_cleanup_(free_ptr) char *bytes = repeated('y', 300000);
	_cleanup_(close_fd) int raw = open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_CLOEXEC);
	_cleanup_(close_fd) int lines = open(lab_path(&self->lab, "telemetry"), O_WRONLY | O_CLOEXEC);
	_cleanup_(close_fd) int file = open(lab_path(&self->lab, "telemetry.file"), O_WRONLY | O_CLOEXEC);
	size_t largest = find_largest(raw, bytes, 300000);

	EXPECT_GT(largest, 8000u);
	EXPECT_LT(largest, 8192u);
	EXPECT_EQ(write(raw, bytes, 300000), -1);
	EXPECT_EQ(errno, EMSGSIZE);
	/* A line: what follows up to its end is refused with it, the next line is not. */
	EXPECT_EQ(write(lines, bytes, 8000), 8000);
	EXPECT_EQ(write(lines, bytes, 8000), -1);
	EXPECT_EQ(errno, EMSGSIZE);
	EXPECT_EQ(write(lines, "tail\n", 5), -1);
	EXPECT_EQ(errno, EMSGSIZE);
	EXPECT_EQ(write(lines, "good\n", 5), 5);
	/* A file. */
	EXPECT_EQ(write(file, bytes, 8000), 8000);
	EXPECT_EQ(write(file, bytes, 8000), -1);
	EXPECT_EQ(errno, EMSGSIZE);
	EXPECT_EQ(fsync(file), 0);
	EXPECT_EQ(write(file, "whole", 5), 5);
	EXPECT_EQ(fsync(file), 0);
	EXPECT_EQ(lab_status_number(&self->lab, "rejected"), 0u);
	for (struct lab_message m;;) {
		lab_next_message(&self->lab, monitor, &m);
		if (m.payload[0] != 'y') {
			EXPECT_STREQ(m.payload, "good");
			lab_message_clear(&m);
			break;
		}
		lab_message_clear(&m);
	}
	lab_expect_payload(&self->lab, monitor, "whole");
}

TEST_F(telemetry, the_largest_message_arrives)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);
	_cleanup_(free_ptr) char *bytes = repeated('z', 262000);
	_cleanup_(close_fd) int raw =
		open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);
	struct lab_message message;

	ASSERT_EQ(write(raw, bytes, 262000), 262000);
	lab_next_message(&self->lab, monitor, &message);
	EXPECT_EQ(message.payload_len, 262000u);
	EXPECT_MEMEQ(message.payload, bytes, 262000);
	lab_message_clear(&message);
}

TEST_F(telemetry, full_queue_is_enospc_and_poll_says_when_there_is_room)
{
	_cleanup_(close_fd) int fd = -1;
	_cleanup_(free_ptr) char *bytes = repeated('q', 60000);
	struct pollfd p = {.events = POLLOUT};
	uint64_t n = 0;

	/* No hub: everything stays queued. */
	lab_start_emulator(&self->lab, NULL);
	lab_stop_emulator(&self->lab, SIGTERM);
	lab_configure(&self->lab, "\"queue-bytes\": 1048576");
	lab_start_daemon(&self->lab);
	fd = open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	while (write(fd, bytes, 60000) == 60000)
		++n;
	EXPECT_EQ(errno, ENOSPC);
	EXPECT_EQ(n, 17u);
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), n);
	EXPECT_EQ(lab_status_number(&self->lab, "queue-full"), 1u);
	p.fd = fd;
	EXPECT_EQ(poll(&p, 1, 0), 0);
	lab_start_emulator(&self->lab, NULL);
	EXPECT_EQ(poll(&p, 1, -1), 1);
	EXPECT_EQ(write(fd, "more", 4), 4);
	EXPECT_EQ(fsync(fd), 0);
	EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), n + 1);
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 0u);
}

/* --- waiting for the hub ---------------------------------------------------------------------- */

TEST_F(telemetry, a_synchronous_write_waits_for_the_puback)
{
	static const char *const options[] = {"--puback-delay", "300", NULL};
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, options, NULL);
	struct timespec start, end;
	int64_t ms;

	clock_gettime(CLOCK_MONOTONIC, &start);
	EXPECT_EQ(lab_shell(&self->lab, "bash", "echo now | dd oflag=sync of=$M/telemetry.raw status=none"),
		  0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
	EXPECT_GE(ms, 300);
	EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), 1u);
	lab_expect_payload(&self->lab, monitor, "now\n");
	/* A queued write does not wait. */
	clock_gettime(CLOCK_MONOTONIC, &start);
	EXPECT_EQ(lab_shell(&self->lab, "bash", "echo later > $M/telemetry"), 0);
	EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), 1u);
}

struct refusal {
	const char *status;
	int error;
};

TEST_F(telemetry, a_refused_synchronous_write_has_the_hubs_errno)
{
	static const struct refusal refusals[] = {
		{"0100", EINVAL}, {"0101", EACCES}, {"0102", EPERM},     {"0103", EBUSY},
		{"0104", ESTALE}, {"0501", EAGAIN}, {"0502", EDQUOT},    {"0503", ENOSPC},
		{"0504", ENOENT}, {"0601", EIO},    {"0602", ETIMEDOUT}, {"0603", EBUSY},
	};

	for (size_t i = 0; i < ARRAY_SIZE(refusals); ++i) {
		char refuse[16];
		const char *const options[] = {"--refuse", refuse, NULL};
		int fd;

		snprintf(refuse, sizeof(refuse), "%s:1", refusals[i].status);
		lab_start_emulator(&self->lab, options);
		lab_start_daemon(&self->lab);
		lab_await_state(&self->lab, "connected");
		fd = open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		errno = 0;
		EXPECT_EQ(write(fd, "no", 2), -1);
		EXPECT_EQ(errno, refusals[i].error);
		/* The message was the writer's: it is not sent again, and the next one goes through. */
		EXPECT_EQ(write(fd, "yes", 3), 3);
		EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), 1u);
		EXPECT_EQ(lab_status_number(&self->lab, "sent-again"), 0u);
		EXPECT_EQ(lab_status_number(&self->lab, "queued"), 0u);
		close(fd);
		EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
		lab_stop_emulator(&self->lab, SIGTERM);
	}
}

TEST_F(telemetry, dd_fails_when_the_hub_refuses)
{
	static const char *const options[] = {"--refuse", "0502", NULL};

	lab_start_emulator(&self->lab, options);
	lab_start_daemon(&self->lab);
	EXPECT_EQ(lab_shell(&self->lab, "bash",
			    "echo now | LC_ALL=C dd oflag=sync of=$M/telemetry.raw 2> $D/err && exit 9; "
			    "grep -q 'Disk quota exceeded' $D/err"),
		  0);
}

TEST_F(telemetry, a_retryable_refusal_is_tried_again_in_order)
{
	static const char *const options[] = {"--refuse", "0501:3", NULL};
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, options, NULL);
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "telemetry"), O_WRONLY | O_CLOEXEC);

	ASSERT_EQ(write(fd, "1\n2\n3\n", 6), 6);
	EXPECT_EQ(fsync(fd), 0);
	lab_expect_payload(&self->lab, monitor, "1");
	lab_expect_payload(&self->lab, monitor, "2");
	lab_expect_payload(&self->lab, monitor, "3");
	EXPECT_EQ(lab_status_number(&self->lab, "refused"), 3u);
	EXPECT_EQ(lab_status_number(&self->lab, "rejected"), 0u);
}

TEST_F(telemetry, a_final_refusal_is_dropped_and_reported_by_fsync)
{
	static const char *const options[] = {"--refuse", "0100:1", NULL};
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, options, NULL);
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "telemetry"), O_WRONLY | O_CLOEXEC);
	char why[256];

	ASSERT_EQ(write(fd, "bad\ngood\n", 9), 9);
	EXPECT_EQ(fsync(fd), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(fsync(fd), 0);
	lab_expect_payload(&self->lab, monitor, "good");
	EXPECT_EQ(lab_status_number(&self->lab, "rejected"), 1u);
	lab_status_text(&self->lab, "last-refusal", why, sizeof(why));
	EXPECT_CONTAINS(why, "0100");
}

TEST_F(telemetry, no_hub_within_the_ack_timeout_is_etimedout)
{
	_cleanup_(close_fd) int fd = -1;

	lab_start_emulator(&self->lab, NULL);
	lab_stop_emulator(&self->lab, SIGTERM);
	lab_configure(&self->lab, "\"ack-timeout\": 1");
	lab_start_daemon(&self->lab);
	fd = open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);
	EXPECT_EQ(write(fd, "x", 1), -1);
	EXPECT_EQ(errno, ETIMEDOUT);
	/* The outcome is not known: the message stays. */
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 1u);
	EXPECT_EQ(fsync(fd), -1);
	EXPECT_EQ(errno, ETIMEDOUT);
	/* The disk has it. */
	EXPECT_EQ(fdatasync(fd), 0);
}

static void on_alarm(int signo)
{
	(void)signo;
}

TEST_F(telemetry, a_signal_interrupts_a_synchronous_write)
{
	struct sigaction action = {.sa_handler = on_alarm};
	_cleanup_(close_fd) int fd = -1;

	lab_start_emulator(&self->lab, NULL);
	lab_stop_emulator(&self->lab, SIGTERM);
	lab_start_daemon(&self->lab);
	fd = open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);
	sigaction(SIGALRM, &action, NULL);
	alarm(1);
	EXPECT_EQ(write(fd, "x", 1), -1);
	EXPECT_EQ(errno, EINTR);
	alarm(1);
	EXPECT_EQ(fsync(fd), -1);
	EXPECT_EQ(errno, EINTR);
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 1u);
}

TEST_F(telemetry, a_stop_lets_waiting_writers_have_their_answer)
{
	static const char *const options[] = {"--puback-delay", "500", NULL};
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, options, NULL);
	char path[LAB_PATH_MAX];
	int status, fd;
	pid_t writer;

	snprintf(path, sizeof(path), "%s", lab_path(&self->lab, "telemetry.raw"));
	fflush(NULL);
	writer = fork();
	if (writer == 0) {
		fd = open(path, O_WRONLY | O_SYNC | O_CLOEXEC);
		_exit(write(fd, "x", 1) == 1 ? 0 : errno);
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	lab_expect_payload(&self->lab, monitor, "x");
	/* An unterminated line is a message at the last close, and the end of the daemon is that. */
	ASSERT_EQ(kill(self->lab.daemon, SIGHUP), 0);
	ASSERT_EQ(waitpid(writer, &status, 0), writer);
	EXPECT_EQ(status, 0);
	ASSERT_EQ(waitpid(self->lab.daemon, &status, 0), self->lab.daemon);
	self->lab.daemon = 0;
	EXPECT_EQ(status, 0);
	EXPECT_EQ(write(fd, "y", 1), -1);
	close(fd);
}

TEST_F(telemetry, what_was_written_before_a_stop_arrives)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);
	int fd = open(lab_path(&self->lab, "telemetry"), O_WRONLY | O_CLOEXEC);

	ASSERT_EQ(write(fd, "line\nrest", 9), 9);
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
	lab_expect_payload(&self->lab, monitor, "line");
	lab_expect_payload(&self->lab, monitor, "rest");
	close(fd);
}

TEST_F(telemetry, a_hub_that_is_an_address)
{
	static const char *const options[] = {"--host", "127.0.0.1", NULL};
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, options, NULL);

	EXPECT_EQ(lab_shell(&self->lab, "dash", "echo x > $M/telemetry"), 0);
	lab_expect_payload(&self->lab, monitor, "x");
}

/* --- delivery --------------------------------------------------------------------------------- */

#define N_WRITERS  4
#define N_MESSAGES 25000

/* Writer @k: lines `k n padding`, through one open file, retrying when the queue is full. */
static void writer_run(const char *path, unsigned int k)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	char line[128];

	for (unsigned int n = 0; n < N_MESSAGES; ++n) {
		int len = snprintf(line, sizeof(line), "%u %u %.*s\n", k, n, (int)(n % 60),
				   "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnop");

		while (write(fd, line, (size_t)len) != len) {
			if (errno != ENOSPC)
				_exit(1);
			poll(&p, 1, -1);
		}
	}
	_exit(fsync(fd) == 0 ? 0 : 2);
}

/* Takes one message into account: in order for its writer, complete, a duplicate only with the message-id it
 * had. */
static bool delivery_take(const struct lab_message *message, uint64_t (*ids)[N_MESSAGES], unsigned int *next,
			  uint64_t *n_duplicates)
{
	unsigned int k, n;
	uint64_t id;
	char padding[128] = "";

	ASSERT_GE(sscanf(message->payload, "%u %u %127s", &k, &n, padding), 2);
	ASSERT_LT(k, (unsigned int)N_WRITERS);
	ASSERT_LT(n, (unsigned int)N_MESSAGES);
	ASSERT_EQ(strlen(padding), n % 60);
	ASSERT_EQ(strlen(message->message_id), 33u);
	ASSERT_EQ(message->n_dropped, 0u);
	id = strtoull(message->message_id + 17, NULL, 16);
	if (n < next[k]) {
		ASSERT_EQ(ids[k][n], id);
		++*n_duplicates;
		return false;
	}
	ASSERT_EQ(n, next[k]);
	ids[k][n] = id;
	++next[k];
	return true;
}

static void check_delivery(struct lab *lab, FILE *monitor, uint64_t *n_duplicates)
{
	static uint64_t ids[N_WRITERS][N_MESSAGES];
	unsigned int next[N_WRITERS] = {0};
	pid_t pids[N_WRITERS];
	int status;

	*n_duplicates = 0;
	fflush(NULL);
	for (unsigned int k = 0; k < N_WRITERS; ++k) {
		pids[k] = fork();
		if (pids[k] == 0)
			writer_run(lab_path(lab, "telemetry"), k);
	}
	for (uint64_t n = 0; n < N_WRITERS * N_MESSAGES;) {
		struct lab_message message;

		lab_next_message(lab, monitor, &message);
		n += delivery_take(&message, ids, next, n_duplicates);
		lab_message_clear(&message);
	}
	for (unsigned int k = 0; k < N_WRITERS; ++k) {
		ASSERT_EQ(waitpid(pids[k], &status, 0), pids[k]);
		EXPECT_EQ(status, 0);
	}
	EXPECT_EQ(lab_status_number(lab, "queued"), 0u);
	EXPECT_EQ(lab_status_number(lab, "written"), (uint64_t)N_WRITERS * N_MESSAGES);
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), (uint64_t)N_WRITERS * N_MESSAGES);
}

TEST_F_TIMEOUT(telemetry, a_hundred_thousand_from_four_writers_arrive_once_each, 120)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL, NULL);
	uint64_t n_duplicates;

	check_delivery(&self->lab, monitor, &n_duplicates);
	EXPECT_EQ(n_duplicates, 0u);
}

TEST_F_TIMEOUT(telemetry, a_hundred_thousand_survive_twenty_cut_connections, 240)
{
	static const char *const options[] = {"--cut-every", "4700:20", NULL};
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, options, NULL);
	uint64_t n_duplicates;

	check_delivery(&self->lab, monitor, &n_duplicates);
	EXPECT_EQ(lab_status_number(&self->lab, "connects"), 21u);
	EXPECT_GT(lab_status_number(&self->lab, "sent-again"), 0u);
	TEST_LOG("%" PRIu64 " duplicates, each with the message-id of the first", n_duplicates);
}

TEST_HARNESS_MAIN
