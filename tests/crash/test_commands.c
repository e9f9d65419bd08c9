/* SPDX-License-Identifier: MIT */
/*
 * Commands under kill -9: handlers in bash, dash and C, reading `stream` and `next`, are killed at random moments,
 * alone or with their children, and now and then the daemon is. Whatever happens, a command is completed if and only
 * if a handler finished it: so at the end the hub has none left, and every one of them was finished at least once.
 * A handler has finished when its line is in the log; killed between that and the closing of its file it finishes the
 * same command again, which is all that may happen twice.
 *
 * $IOTHUB_KILLS: how many kills; 100 unless it is set.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

#define N_HANDLERS   6
#define N_KILLS      100
#define KILLS_MAX    10000
#define COMMANDS_MAX 400000
/* Commands sent at a time, whenever fewer than half of them are left. */
#define BATCH 64
/* Out of so many kills one is the daemon's. */
#define DAEMON_EVERY 12
/* Longest pause between two kills. */
#define PAUSE_MAX_NS (4 * NSEC_PER_MSEC)
#define LINE_SIZE    4096

FIXTURE(kills)
{
	struct lab lab;
	pid_t handlers[N_HANDLERS];
	char log[LAB_PATH_MAX];
	int log_fd;
	char line[LINE_SIZE]; /* of the log, so far */
	size_t line_len;
	unsigned int n_sent, n_finished, n_twice;
	uint8_t finished[COMMANDS_MAX];
};

FIXTURE_SETUP(kills)
{
	lab_init(&self->lab);
	snprintf(self->log, sizeof(self->log), "%s/finished", self->lab.dir);
	self->log_fd = open(self->log, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(self->log_fd, 0);
}

static void handlers_kill(struct fixture_kills *self)
{
	for (int i = 0; i < N_HANDLERS; ++i) {
		if (self->handlers[i] <= 0)
			continue;
		kill(-self->handlers[i], SIGKILL);
		waitpid(self->handlers[i], NULL, 0);
		self->handlers[i] = 0;
	}
}

FIXTURE_TEARDOWN(kills)
{
	handlers_kill(self);
	lab_deinit(&self->lab);
}

/* --- handlers --------------------------------------------------------------------------------- */

#define STREAM_LOOP                                                                                          \
	"while read -r line; do printf '%s\\n' \"$line\" >> \"$LOG\"; done < \"$M/commands/stream\""
#define NEXT_ONCE "exec 3< \"$M/commands/next\"; c=$(cat <&3) && printf '%s\\n' \"$c\" >> \"$LOG\"; exec 3<&-"

/* Reads the stream in small pieces; ends with the daemon. */
static int stream_reader(const struct fixture_kills *self)
{
	int in = open(lab_path(&self->lab, "commands/stream"), O_RDONLY | O_CLOEXEC);
	int out = open(self->log, O_WRONLY | O_APPEND | O_CLOEXEC);
	char line[LINE_SIZE];
	size_t len = 0;

	for (;;) {
		ssize_t n = read(in, line + len, len % 13 + 1);

		if (n <= 0 || len + (size_t)n + 16 > sizeof(line))
			return 1;
		len += (size_t)n;
		if (line[len - 1] != '\n')
			continue;
		if (write(out, line, len) != (ssize_t)len)
			return 1;
		len = 0;
	}
}

static void handler_start(struct fixture_kills *self, int i)
{
	static const struct {
		const char *shell, *script;
	} kinds[N_HANDLERS] = {
		{"bash", STREAM_LOOP}, {"dash", STREAM_LOOP}, {"bash", NEXT_ONCE},
		{"dash", NEXT_ONCE},   {"bash", NEXT_ONCE},   {NULL, NULL},
	};
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		setpgid(0, 0);
		dup2(null, STDIN_FILENO);
		dup2(null, STDERR_FILENO); /* the daemon is away at times */
		if (!kinds[i].shell)
			_exit(stream_reader(self));
		setenv("M", self->lab.mount, 1);
		setenv("LOG", self->log, 1);
		execlp(kinds[i].shell, kinds[i].shell, "-c", kinds[i].script, (char *)NULL);
		_exit(127);
	}
	setpgid(pid, pid);
	self->handlers[i] = pid;
}

/* Who has ended comes again. */
static void handlers_respawn(struct fixture_kills *self)
{
	for (int i = 0; i < N_HANDLERS; ++i) {
		if (self->handlers[i] && waitpid(self->handlers[i], NULL, WNOHANG) != self->handlers[i])
			continue;
		handler_start(self, i);
	}
}

/* --- commands --------------------------------------------------------------------------------- */

static void send_batch(struct fixture_kills *self)
{
	char script[256];

	ASSERT_LT(self->n_sent + BATCH, (unsigned int)COMMANDS_MAX);
	snprintf(script, sizeof(script),
		 "seq -f 'c%%.0f.' %u %u | hubctl command send dev1 --lines > /dev/null", self->n_sent + 1,
		 self->n_sent + BATCH);
	ASSERT_EQ(lab_shell(&self->lab, "sh", script), 0);
	self->n_sent += BATCH;
}

/* A line of the log: the payload, `c17.`, alone or in JSON. */
static void line_take(struct fixture_kills *self)
{
	const char *at = strstr(self->line, "\"payload\":\"c");
	unsigned int number = 0;
	char dot = 0;

	at = at ? strchr(at + 11, 'c') : self->line;
	ASSERT_EQ(sscanf(at, "c%u%c", &number, &dot), 2);
	ASSERT_EQ(dot, '.');
	ASSERT_TRUE(number >= 1 && number <= self->n_sent);
	if (!self->finished[number]++)
		++self->n_finished;
	else
		++self->n_twice;
}

static void log_take(struct fixture_kills *self)
{
	char bytes[LINE_SIZE];
	ssize_t n;

	while ((n = read(self->log_fd, bytes, sizeof(bytes))) > 0) {
		for (ssize_t i = 0; i < n; ++i) {
			ASSERT_LT(self->line_len + 1, sizeof(self->line));
			if (bytes[i] != '\n') {
				self->line[self->line_len++] = bytes[i];
				continue;
			}
			self->line[self->line_len] = '\0';
			self->line_len = 0;
			line_take(self);
		}
	}
}

/* --- kills ------------------------------------------------------------------------------------ */

static void pause_random(void)
{
	const struct timespec pause = {.tv_nsec = (long)(test_random() % PAUSE_MAX_NS)};

	ppoll(NULL, 0, &pause, NULL);
}

static void kill_one(struct fixture_kills *self)
{
	uint64_t random = test_random();
	pid_t pid = self->handlers[random % N_HANDLERS];

	if (random >> 32 & 1)
		pid = -pid;
	if (random >> 40 & 0xff && (random >> 16) % DAEMON_EVERY) {
		kill(pid, SIGKILL);
		return;
	}
	lab_stop_daemon(&self->lab, SIGKILL);
	lab_start_daemon(&self->lab);
}

static unsigned int kills_wanted(void)
{
	const char *text = getenv("IOTHUB_KILLS");
	unsigned long n = text ? strtoul(text, NULL, 10) : N_KILLS;

	return n < KILLS_MAX ? (unsigned int)n : KILLS_MAX;
}

TEST_F_TIMEOUT(kills, completed_when_finished_and_none_lost, 1200)
{
	static const char *const options[] = {"--redelivery-delay=0", "--max-deliveries=1000", NULL};
	unsigned int n_kills = kills_wanted();
	char left[4096];

	lab_start_emulator(&self->lab, options);
	lab_start_daemon(&self->lab);
	for (unsigned int i = 0; i < n_kills; ++i) {
		log_take(self);
		if (self->n_sent - self->n_finished < BATCH / 2)
			send_batch(self);
		handlers_respawn(self);
		pause_random();
		kill_one(self);
	}
	/* The hub has none left when all have been completed. Each look takes a process, which is pause enough. */
	do {
		handlers_respawn(self);
		ASSERT_EQ(
			lab_hubctl(&self->lab, left, sizeof(left), "command", "list", "dev1", "--json-lines"),
			0);
	} while (left[0]);
	handlers_kill(self);
	log_take(self);
	TEST_LOG("%u kills, %u commands, %u finished twice", n_kills, self->n_sent, self->n_twice);
	for (unsigned int i = 1; i <= self->n_sent; ++i) {
		if (!self->finished[i])
			TEST_LOG("command %u was completed, but nobody finished it", i);
	}
	EXPECT_EQ(self->n_finished, self->n_sent);
	EXPECT_LE(self->n_twice, n_kills * 2);
}

TEST_HARNESS_MAIN
