/* SPDX-License-Identifier: MIT */
/*
 * What `iothub-run commands` does with a command's own files: a directory made here stands for the mount, with a pipe as
 * the stream, so that moments can be had that pass too quickly with a daemon.
 */

#include <fcntl.h>
#include <stdarg.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/process.h"

#define TIME_NOW   "2026-11-22T08:00:00.000Z"
#define TIME_LATER "2026-11-22T09:00:00.000Z"

FIXTURE(settle)
{
	char dir[64];
	pid_t run;
	int stream, said;
};

/* Something in the directory; a static buffer, good for one call. */
__attribute__((format(printf, 2, 3))) static const char *path(struct fixture_settle *self, const char *format,
							      ...)
{
	static char text[256];
	int n = snprintf(text, sizeof(text), "%s/", self->dir);
	va_list args;

	va_start(args, format);
	vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
	va_end(args);
	return text;
}

/* A pipe with a name, open for both sides: there is always somebody to read and to write. */
static int make_pipe(const char *name)
{
	int fd;

	ASSERT_EQ(mkfifo(name, 0600), 0);
	fd = open(name, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	return fd;
}

FIXTURE_SETUP(settle)
{
	strcpy(self->dir, "/tmp/iothub-settle-XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir) != NULL);
	setenv("D", self->dir, 1);
	ASSERT_EQ(mkdir(path(self, "commands"), 0755), 0);
	self->stream = make_pipe(path(self, "commands/stream"));
	self->said = make_pipe(path(self, "said"));
}

FIXTURE_TEARDOWN(settle)
{
	const char *argv[] = {"/bin/rm", "-rf", self->dir, NULL};
	char text[256];

	process_stop(&self->run, SIGKILL);
	ASSERT_EQ(process_run(argv, text, sizeof(text)), 0);
}

static void start(struct fixture_settle *self, const char *script)
{
	char log[128], notify[128];
	const char *argv[] = {
		process_path("iothub-run"), "--mount", self->dir, "commands", "sh", "-c", script, NULL};

	snprintf(log, sizeof(log), "%s/log", self->dir);
	snprintf(notify, sizeof(notify), "%s/notify", self->dir);
	process_start_notify(&self->run, log, argv, notify);
}

/* The directory of a command. */
static void make_command(struct fixture_settle *self, unsigned int number, const char *time)
{
	int fd;

	ASSERT_EQ(mkdir(path(self, "commands/%u", number), 0755), 0);
	fd = open(path(self, "commands/%u/settle", number), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	close(fd);
	fd = open(path(self, "commands/%u/properties.json", number), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_GT(dprintf(fd,
			  "{\"sequence-no\":%u,\"enqueued-time\":\"%s\",\"delivery-count\":1,"
			  "\"properties\":{}}\n",
			  number, time),
		  0);
	close(fd);
}

/* Gives it to who reads. */
static void deliver(struct fixture_settle *self, unsigned int number)
{
	ASSERT_GT(dprintf(self->stream,
			  "{\"sequence-no\":%u,\"enqueued-time\":\"" TIME_NOW
			  "\",\"delivery-count\":1,\"properties\":{},\"payload\":\"x\"}\n",
			  number),
		  0);
}

static void expect_said(struct fixture_settle *self, const char *text)
{
	char line[64];
	size_t n = 0;

	while (n + 1 < sizeof(line) && read(self->said, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	EXPECT_STREQ(line, text);
}

static void expect_settled(struct fixture_settle *self, unsigned int number, const char *word)
{
	_cleanup_(free_ptr) char *text = text_read(path(self, "commands/%u/settle", number));

	EXPECT_STREQ(text, word);
}

static void expect_logged(struct fixture_settle *self, const char *what)
{
	_cleanup_(free_ptr) char *text = text_read(path(self, "log"));

	EXPECT_CONTAINS(text, what);
}

/* The directory has become that of a newer command since the line: it is left alone, and the stream decides. */
TEST_F(settle, another_of_the_number)
{
	make_command(self, 1, TIME_LATER);
	make_command(self, 2, TIME_NOW);
	start(self, "echo $IOTHUB_SEQUENCE_NO > $D/said");
	deliver(self, 1);
	expect_said(self, "1");
	/* The next line is asked for, without a pause and on the same open file. */
	deliver(self, 2);
	expect_said(self, "2");
	EXPECT_EQ(process_stop(&self->run, SIGTERM), 0);
	expect_settled(self, 1, "");
	expect_settled(self, 2, "complete");
	expect_logged(self, "command 1: the hub has another of this number");
}

/* Only closing the stream is left for what is neither complete nor to be delivered again. */
TEST_F(settle, another_of_the_number_is_not_rejected)
{
	make_command(self, 1, TIME_LATER);
	start(self, "echo $IOTHUB_SEQUENCE_NO > $D/said; exit 65");
	deliver(self, 1);
	expect_said(self, "1");
	EXPECT_EQ(process_stop(&self->run, SIGTERM), 0);
	expect_settled(self, 1, "");
	expect_logged(self, "command 1: could not be settled");
}

/* Somebody has decided since the line. */
TEST_F(settle, what_is_decided_is_not_run)
{
	_cleanup_(close_fd) int watch = inotify_init1(IN_CLOEXEC);
	struct inotify_event event;

	make_command(self, 2, TIME_NOW);
	start(self, "echo $IOTHUB_SEQUENCE_NO > $D/said");
	ASSERT_GE(inotify_add_watch(watch, path(self, "commands/stream"), IN_CLOSE_NOWRITE), 0);
	deliver(self, 1);
	ASSERT_EQ(read(watch, &event, sizeof(event)), (ssize_t)sizeof(event));
	deliver(self, 2);
	expect_said(self, "2");
	EXPECT_EQ(process_stop(&self->run, SIGTERM), 0);
	expect_settled(self, 2, "complete");
	expect_logged(self, "command 1: not run");
}

TEST_F(settle, programs_do_not_get_the_file)
{
	make_command(self, 1, TIME_NOW);
	start(self, "ls -l /proc/self/fd | grep -c /commands/ > $D/said; exit 65");
	deliver(self, 1);
	expect_said(self, "0");
	EXPECT_EQ(process_stop(&self->run, SIGTERM), 0);
	expect_settled(self, 1, "reject");
}

TEST_HARNESS_MAIN
