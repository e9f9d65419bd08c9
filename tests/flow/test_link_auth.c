/* SPDX-License-Identifier: MIT */
/*
 * Authentication over time: signatures renewed on the living connection under full load, hubs that do not renew
 * them, and what the link does about each of the hub's good-byes.
 *
 * IOTHUB_AUTH_SECONDS says how long the load lasts, 25 by default.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define TOKEN "\"token-lifetime\": 10"
/* Two thirds of it. */
#define RENEWAL_MS 6667

FIXTURE(auth)
{
	struct lab lab;
};

FIXTURE_SETUP(auth)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(auth)
{
	lab_show_log(&self->lab, "daemon");
	lab_show_log(&self->lab, "emulator");
	lab_deinit(&self->lab);
}

/* --- helpers ---------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void start_all(struct lab *lab, const char *const *emulator_options, const char *config)
{
	lab_start_emulator(lab, emulator_options);
	lab_configure(lab, config);
	lab_start_monitor(lab);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
}

static void expect_log_lines(const struct lab *lab, const char *text, unsigned int n)
{
	_cleanup_(free_ptr) char *log = lab_log(lab, "daemon");

	EXPECT_EQ(text_count(log, text), n);
}

/* `hubctl fault set` with these words. */
static void fault(const struct lab *lab, const char *words)
{
	char all[512];

	snprintf(all, sizeof(all), "fault set %s", words);
	ASSERT_EQ(lab_hubctl_words(lab, all, NULL, 0), 0);
}

static void write_message(const struct lab *lab, const char *text)
{
	_cleanup_(close_fd) int fd = open(lab_path(lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* --- renewal ---------------------------------------------------------------------------------- */

/* Numbers, as fast as they are taken, for @ms; then `end`. */
static void writer_run(const struct lab *lab, uint64_t ms)
{
	int fd = open(lab_path(lab, "telemetry"), O_WRONLY | O_CLOEXEC);
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	uint64_t n = 0, until = now_ms() + ms;

	while (n % 64 || now_ms() < until) {
		char text[64];
		int len = snprintf(text, sizeof(text), "%" PRIu64 "\n", n);

		if (write(fd, text, (size_t)len) == len)
			++n;
		else if (errno != ENOSPC || poll(&p, 1, -1) < 0)
			_exit(1);
	}
	while (write(fd, "end\n", 4) != 4)
		poll(&p, 1, -1);
	_exit(fsync(fd) != 0);
}

TEST_F_TIMEOUT(auth, renewed_under_full_load_without_a_reconnect, 240)
{
	static const char *const options[] = {"--puback-delay", "2", NULL};
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	const char *seconds = getenv("IOTHUB_AUTH_SECONDS");
	uint64_t ms = (seconds ? strtoull(seconds, NULL, 10) : 25) * 1000, next = 0, n_renewals;
	pid_t pid;

	start_all(lab, options, TOKEN ", \"queue-bytes\": 1048576");
	monitor = lab_monitor_stream(lab);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		writer_run(lab, ms);
	for (bool end = false; !end; ++next) {
		struct lab_message message;

		lab_next_message(lab, monitor, &message);
		ASSERT_EQ(message.n_dropped, 0u);
		end = strcmp(message.payload, "end") == 0;
		if (!end)
			ASSERT_EQ(strtoull(message.payload, NULL, 10), next);
		lab_message_clear(&message);
	}
	EXPECT_EQ(process_stop(&pid, 0), 0);
	n_renewals = lab_status_number(lab, "renewals");
	TEST_LOG("%" PRIu64 " messages in %" PRIu64 " s, %" PRIu64 " renewals", next, ms / 1000, n_renewals);
	EXPECT_GE(n_renewals, ms / (RENEWAL_MS + 1000));
	EXPECT_EQ(lab_status_number(lab, "connects"), 1u);
	EXPECT_EQ(lab_status_number(lab, "sent-again"), 0u);
	EXPECT_EQ(lab_status_number(lab, "written"), next);
	EXPECT_EQ(lab_status_number(lab, "acknowledged"), next);
	lab_expect_status(lab, "last-error", "none");
	expect_log_lines(lab, "warning: ", 0);
}

/* A key that belongs to a shared access policy: CONNECT names the policy, AUTH does not. */
TEST_F_TIMEOUT(auth, renewed_with_the_key_of_a_policy, 60)
{
	static const char script[] =
		"key=$(sed -n 's/.*\"device\":\"\\([^\"]*\\)\".*/\\1/p' $D/state/devices.json | tr -d "
		"'\\\\') && "
		"test -n \"$key\" && umask 077 && "
		"echo \"HostName=localhost;DeviceId=dev1;SharedAccessKeyName=device;SharedAccessKey=$key\" "
		"> $D/state/devices/dev1.connection-string";
	struct lab *lab = &self->lab;

	lab_start_emulator(lab, NULL);
	ASSERT_EQ(lab_shell(lab, "sh", script), 0);
	lab_configure(lab, TOKEN);
	lab_start_daemon(lab);
	lab_await_number(lab, "renewals", 1);
	EXPECT_EQ(lab_status_number(lab, "connects"), 1u);
	write_message(lab, "still there");
	expect_log_lines(lab, "warning: ", 0);
}

/* The hub ends the connection instead of renewing, in words or without: a new connection, at once. */
TEST_F_TIMEOUT(auth, not_renewed_is_connected_anew, 60)
{
	struct lab *lab = &self->lab;

	start_all(lab, NULL, TOKEN);
	fault(lab, "status status=0101 operation=auth count=1");
	lab_await_number(lab, "connects", 2);
	expect_log_lines(lab, "does not renew the authentication: Not Authorized (0101)", 1);
	expect_log_lines(lab, "warning: ", 0);
	fault(lab, "cut operation=auth when=before count=1");
	lab_await_number(lab, "connects", 3);
	write_message(lab, "still there");
	/* And then it renews again. */
	lab_await_number(lab, "renewals", 1);
	EXPECT_EQ(lab_status_number(lab, "connects"), 3u);
}

/* The hub says nothing at all when the signature is due: another connection, long before keep-alive notices. */
TEST_F_TIMEOUT(auth, no_answer_is_connected_anew, 60)
{
	struct lab *lab = &self->lab;
	uint64_t start = now_ms();

	start_all(lab, NULL, TOKEN);
	ASSERT_EQ(kill(lab->emulator, SIGSTOP), 0);
	lab_await_number(lab, "attempts", 2);
	/* Two thirds of the signature's life and a fifth. */
	EXPECT_GE(now_ms() - start, 8000u);
	EXPECT_LT(now_ms() - start, 12000u);
	expect_log_lines(lab, "does not renew the authentication: the hub did not answer", 1);
	ASSERT_EQ(kill(lab->emulator, SIGCONT), 0);
	lab_await_number(lab, "connects", 2);
	expect_log_lines(lab, "warning: ", 0);
	write_message(lab, "still there");
}

/* --- good-byes -------------------------------------------------------------------------------- */

struct good_bye {
	const char *fault;
	const char *error;  /* what status says */
	double retry_min_s; /* until the next attempt */
};

static void check_good_bye(struct lab *lab, const struct good_bye *row)
{
	uint64_t start = now_ms();
	char text[64];

	fault(lab, row->fault);
	lab_await_state(lab, "waiting");
	lab_expect_status(lab, "last-error", row->error);
	lab_status_text(lab, "retry-in", text, sizeof(text));
	/* The text is as old as the fault at most. */
	EXPECT_GE(strtod(text, NULL) + (double)(now_ms() - start) / 1000 + 0.1, row->retry_min_s);
}

TEST_F_TIMEOUT(auth, good_byes_by_name, 80)
{
	static const struct good_bye rows[] = {
		{"disconnect reason=151 status=0502", "Quota Exceeded (0502)", 5},
		{"disconnect reason=159", "Connection rate exceeded", 5},
		{"disconnect reason=144", "Topic Name invalid; it does not know a topic", 5},
		{"disconnect reason=149", "Packet too large; it takes less than", 5},
		{"disconnect reason=131 status=0603", "Server Busy (0603)", 0},
		{"take-over", "another client connected to localhost as dev1", 30},
	};
	struct lab *lab = &self->lab;

	start_all(lab, NULL, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		lab_await_state(lab, "connected");
		check_good_bye(lab, &rows[i]);
	}
}

/* Expired: a fresh signature does. Once more without anything acknowledged in between: slowly. */
TEST_F_TIMEOUT(auth, an_expired_signature_is_made_anew_at_once_and_then_slowly, 60)
{
	static const struct good_bye slowly = {"expire", "the token expired or the credentials changed", 10};
	struct lab *lab = &self->lab;
	uint64_t start = now_ms();

	start_all(lab, NULL, NULL);
	fault(lab, "expire");
	lab_await_number(lab, "connects", 2);
	EXPECT_LT(now_ms() - start, 4000u);
	expect_log_lines(lab, "the token expired or the credentials changed", 1);
	check_good_bye(lab, &slowly);
}

/* To a place where nobody listens, and back to the hub. */
TEST_F_TIMEOUT(auth, another_server_until_it_fails, 60)
{
	struct lab *lab = &self->lab;
	_cleanup_(free_ptr) char *status = NULL;
	char words[128];

	start_all(lab, NULL, NULL);
	snprintf(words, sizeof(words), "refuse reason=157 server-reference=127.0.0.1:%u count=1 device=dev1",
		 lab->port);
	fault(lab, words);
	fault(lab, "drop device=dev1");
	/* The same hub by another name. */
	lab_await_number(lab, "connects", 2);
	lab_expect_status(lab, "server", "127.0.0.1");
	expect_log_lines(lab, "localhost sends device dev1 to 127.0.0.1 port", 1);
	write_message(lab, "over there");

	snprintf(words, sizeof(words), "refuse reason=156 server-reference=localhost:%u count=1 device=dev1",
		 free_port());
	fault(lab, words);
	fault(lab, "drop device=dev1");
	lab_await_number(lab, "connects", 3);
	expect_log_lines(lab, "127.0.0.1 sends device dev1 to localhost port", 1);
	lab_expect_status(lab, "hub", "localhost");
	write_message(lab, "back");
	status = text_read(lab_path(lab, "status"));
	EXPECT_EQ(text_count(status, "server: "), 0u);
}

TEST_HARNESS_MAIN
