/* SPDX-License-Identifier: MIT */
/*
 * Somebody cuts the files of the journal while the daemon has them mapped, which raises SIGBUS in it: the daemon stays
 * up, who writes is told or served, what comes after it is delivered, and it can be started again.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define WRITES_MAX 16

FIXTURE(cut)
{
	struct lab lab;
};

static const char *const options[] = {"--quiet", NULL};

FIXTURE_SETUP(cut)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, options);
	lab_configure(&self->lab, NULL);
	lab_start_monitor(&self->lab);
	lab_start_daemon(&self->lab);
	lab_await_state(&self->lab, "connected");
}

FIXTURE_TEARDOWN(cut)
{
	lab_deinit(&self->lab);
}

/* All of them that have records, to their header and less. */
static void cut_files(struct fixture_cut *self)
{
	ASSERT_EQ(lab_shell(&self->lab, "/bin/sh",
			    "f=$(find \"$D\" -name '*.segment') && [ \"$f\" ] && truncate -s 100 $f"),
		  0);
}

/* Returns 0 or the error. */
static int write_message(struct fixture_cut *self, const char *text)
{
	_cleanup_(close_fd) int fd =
		open(lab_path(&self->lab, "telemetry.raw"), O_WRONLY | O_DSYNC | O_CLOEXEC);
	size_t len = strlen(text);

	ASSERT_GE(fd, 0);
	return write(fd, text, len) == (ssize_t)len ? 0 : errno;
}

static void write_until_taken(struct fixture_cut *self, const char *text)
{
	int n = 0, r;

	while ((r = write_message(self, text)) != 0) {
		EXPECT_EQ(r, EIO);
		ASSERT_LT(++n, WRITES_MAX);
	}
}

/* Until that message comes; what was lost with the files is lost. */
static void await_message(struct fixture_cut *self, FILE *monitor, const char *text)
{
	struct lab_message message;
	bool found = false;

	while (!found) {
		lab_next_message(&self->lab, monitor, &message);
		found = strcmp(message.payload, text) == 0;
		lab_message_clear(&message);
	}
}

static void expect_up(struct fixture_cut *self)
{
	ASSERT_EQ(waitpid(self->lab.daemon, NULL, WNOHANG), 0);
}

TEST_F_TIMEOUT(cut, while_it_sends, 60)
{
	FILE *monitor = lab_monitor_stream(&self->lab);

	EXPECT_EQ(write_message(self, "before"), 0);
	await_message(self, monitor, "before");
	for (int i = 0; i < 3; ++i) {
		cut_files(self);
		write_until_taken(self, "after");
		await_message(self, monitor, "after");
		expect_up(self);
	}
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
	fclose(monitor);
}

TEST_F_TIMEOUT(cut, with_messages_that_wait, 60)
{
	FILE *monitor;

	lab_stop_emulator(&self->lab, SIGTERM);
	lab_await_state(&self->lab, "waiting");
	for (int i = 0; i < 100; ++i)
		EXPECT_EQ(write_message(self, "before"), 0);
	cut_files(self);
	write_until_taken(self, "after");
	expect_up(self);
	/* The next one finds what is left. */
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGKILL), SIGKILL);
	lab_start_emulator(&self->lab, options);
	process_stop(&self->lab.monitor, SIGKILL);
	close(self->lab.monitor_fd);
	lab_start_monitor(&self->lab);
	monitor = lab_monitor_stream(&self->lab);
	lab_start_daemon(&self->lab);
	await_message(self, monitor, "after");
	EXPECT_EQ(write_message(self, "last"), 0);
	await_message(self, monitor, "last");
	expect_up(self);
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
	fclose(monitor);
}

TEST_HARNESS_MAIN
