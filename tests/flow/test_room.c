/* SPDX-License-Identifier: MIT */
/*
 * Writers that wait for room in the queue, or for the disk, with a message under way: the daemon goes on for everybody
 * else, and they go on when there is room.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

#define QUEUE_1_MIB "\"queue-bytes\": 1048576"

FIXTURE(room)
{
	struct lab lab;
	char disk[96];
};

FIXTURE_SETUP(room)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(room)
{
	lab_show_log(&self->lab, "daemon");
	lab_stop_daemon(&self->lab, SIGKILL);
	if (self->disk[0])
		umount2(self->disk, MNT_DETACH);
	lab_deinit(&self->lab);
}

static void shell(struct lab *lab, const char *script)
{
	EXPECT_EQ(lab_shell(lab, "bash", script), 0);
}

/* Of the daemon, in clock ticks. */
static unsigned long cpu_ticks(const struct lab *lab)
{
	unsigned long user = 0, kernel = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)lab->daemon);
	file = fopen(path, "re");
	ASSERT_TRUE(file != NULL);
	ASSERT_EQ(fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
			 &kernel),
		  2);
	fclose(file);
	return user + kernel;
}

/* The daemon answers, and has nothing to do while nobody asks it. */
static void expect_quiet(struct lab *lab)
{
	unsigned long before;

	lab_status_number(lab, "queued");
	before = cpu_ticks(lab);
	/* The time that is looked at. */
	poll(NULL, 0, 500);
	EXPECT_LT(cpu_ticks(lab) - before, 20u);
	lab_status_number(lab, "queued");
}

/* Until a write on a channel that blocks would wait behind another one. */
static void await_blocked(struct lab *lab)
{
	int fd = lab_open(lab, "telemetry.raw", O_NONBLOCK);

	while (write(fd, "x", 1) == 1)
		;
	EXPECT_EQ(errno, EAGAIN);
	close(fd);
}

/* Begins a line, and writes the rest of one and the beginning of the next until it is killed. */
static pid_t write_lines_in_a_process(struct lab *lab, const char *name)
{
	static char rest[1002];
	char path[LAB_PATH_MAX];
	pid_t pid;

	memset(rest, 'y', sizeof(rest));
	rest[1000] = '\n';
	snprintf(path, sizeof(path), "%s", lab_path(lab, name));
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		ssize_t n = write(fd, "half of a line ", 15);

		while (n > 0)
			n = write(fd, rest, sizeof(rest));
		_exit(1);
	}
	return pid;
}

TEST_F(room, who_waits_in_the_middle_of_a_line_keeps_nobody_busy)
{
	unsigned long n;
	int status;
	pid_t pid;

	lab_start_without_hub(&self->lab, QUEUE_1_MIB);
	shell(&self->lab, "echo block > $M/channels/default/when-full");
	pid = write_lines_in_a_process(&self->lab, "telemetry");
	await_blocked(&self->lab);
	expect_quiet(&self->lab);
	n = lab_status_number(&self->lab, "written");
	lab_start_emulator(&self->lab, NULL);
	/* It goes on. */
	lab_await_state(&self->lab, "connected");
	while (lab_status_number(&self->lab, "written") < n + 1000)
		;
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
}

TEST_F(room, files_larger_than_the_queue_together)
{
	struct lab *lab = &self->lab;

	lab_start_emulator(lab, NULL);
	lab_configure(lab, QUEUE_1_MIB);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	shell(lab, "echo block > $M/channels/default/when-full");
	shell(lab, "for i in 1 2 3 4 5 6 7 8; do\n"
		   "	dd if=/dev/zero bs=10000 count=24 of=$M/telemetry.file status=none & pids+=($!)\n"
		   "done\n"
		   "for pid in ${pids[@]}; do wait $pid || exit; done");
	EXPECT_EQ(lab_status_number(lab, "written"), 8u);
}

/* The directory of a channel goes while somebody waits in it. */
TEST_F(room, a_channel_is_removed_under_its_writer)
{
	struct lab *lab = &self->lab;
	unsigned long n;
	int status;
	pid_t pid;

	lab_start_without_hub(lab, QUEUE_1_MIB);
	shell(lab, "echo block > $M/channels/default/when-full; mkdir $M/channels/c; "
		   "echo block > $M/channels/c/when-full");
	pid = write_lines_in_a_process(lab, "channels/c/telemetry");
	await_blocked(lab);
	shell(lab, "rmdir $M/channels/c");
	expect_quiet(lab);
	n = lab_status_number(lab, "written");
	lab_start_emulator(lab, NULL);
	lab_await_state(lab, "connected");
	while (lab_status_number(lab, "acknowledged") < n)
		;
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
}

TEST_F(room, the_end_of_a_message_waits_for_a_full_disk)
{
	struct lab *lab = &self->lab;
	char path[96];

	snprintf(path, sizeof(path), "%s/device", lab->dir);
	ASSERT_EQ(mkdir(path, 0700), 0);
	SKIP_IF(mount("tmpfs", path, "tmpfs", 0, "size=48k,mode=700"), "cannot mount");
	snprintf(self->disk, sizeof(self->disk), "%s", path);
	lab_start_without_hub(lab, NULL);
	shell(lab, "printf 'no newline' > $M/telemetry");
	EXPECT_EQ(lab_status_number(lab, "queued"), 0u);
	expect_quiet(lab);
	ASSERT_EQ(mount(NULL, self->disk, NULL, MS_REMOUNT, "size=4m,mode=700"), 0);
	while (lab_status_number(lab, "queued") == 0)
		;
}

TEST_HARNESS_MAIN
