/* SPDX-License-Identifier: MIT */
/*
 * The queue on a disk, or in memory: what kill -9 leaves, in order and with the same message-ids; what a disk that
 * cannot be written means; and who may have the directory.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define N_MESSAGES 2000
/* After each kill, more are written. */
#define N_KILLS 5

FIXTURE(storage)
{
	struct lab lab;
	char disk[96]; /* mounted there, "" = nothing */
};

FIXTURE_SETUP(storage)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(storage)
{
	lab_show_log(&self->lab, "daemon");
	if (self->lab.daemon)
		lab_stop_daemon(&self->lab, SIGKILL);
	if (self->disk[0])
		umount2(self->disk, MNT_DETACH);
	lab_deinit(&self->lab);
}

/* Writes lines of the numbers from *@next on and waits for nothing. */
static void write_numbers(struct lab *lab, unsigned int *next, unsigned int n)
{
	_cleanup_(close_fd) int fd = open(lab_path(lab, "telemetry"), O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	for (unsigned int i = 0; i < n; ++i)
		ASSERT_GT(dprintf(fd, "%u\n", (*next)++), 0);
}

/* The numbers from @first to @last - 1 arrive, each once and in order. */
static void expect_numbers(struct lab *lab, FILE *monitor, unsigned int first, unsigned int last)
{
	for (unsigned int i = first; i < last; ++i) {
		struct lab_message message;

		lab_next_message(lab, monitor, &message);
		ASSERT_EQ(message.n_dropped, 0u);
		ASSERT_EQ((unsigned int)atoi(message.payload), i);
		ASSERT_TRUE(message.message_id != NULL);
		lab_message_clear(&message);
	}
}

/* --- kill -9 ---------------------------------------------------------------------------------- */

static void kill_without_hub(struct lab *lab, const char *config)
{
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	unsigned int n = 0;

	lab_start_without_hub(lab, config);
	write_numbers(lab, &n, N_MESSAGES);
	for (int i = 0; i < N_KILLS; ++i) {
		lab_stop_daemon(lab, SIGKILL);
		lab_start_daemon(lab);
		EXPECT_EQ(lab_status_number(lab, "queued"), n);
		write_numbers(lab, &n, 100);
		EXPECT_EQ(lab_status_number(lab, "queued"), n);
	}
	monitor = lab_restart_with_hub(lab);
	EXPECT_GT(lab_status_number(lab, "recovered"), 0u);
	expect_numbers(lab, monitor, 0, n);
}

TEST_F(storage, all_of_it_survives_kill_9)
{
	kill_without_hub(&self->lab, NULL);
}

TEST_F(storage, and_so_it_does_when_volatile)
{
	struct lab *lab = &self->lab;
	struct stat st;
	char text[64];

	kill_without_hub(lab, "\"storage\": \"volatile\"");
	lab_status_text(lab, "storage", text, sizeof(text));
	EXPECT_STREQ(text, "volatile");
	EXPECT_EQ(lab_status_number(lab, "stored"), 0u);
	EXPECT_EQ(lab_status_number(lab, "disk-syncs"), 0u);
	ASSERT_EQ(lab_shell(lab, "sh", "test -d $D/run/journal-dev1 && test ! -e $D/device/journal-dev1"), 0);
	snprintf(text, sizeof(text), "%s/run/journal-dev1", lab->dir);
	ASSERT_EQ(stat(text, &st), 0);
	EXPECT_EQ(st.st_mode & 07777, 0700u);
}

/* What the hub took is not sent again. */
TEST_F(storage, what_was_acknowledged_does_not_come_twice)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	unsigned int n = 0;

	lab_start_without_hub(lab, NULL);
	monitor = lab_restart_with_hub(lab);
	for (int i = 0; i < N_KILLS; ++i) {
		_cleanup_(close_fd) int fd = -1;

		fd = open(lab_path(lab, "telemetry"), O_WRONLY | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		for (int k = 0; k < 50; ++k)
			ASSERT_GT(dprintf(fd, "%u\n", n++), 0);
		ASSERT_EQ(fsync(fd), 0);
		/* What a turn of the loop changed is noted at its end, this is another one. */
		EXPECT_EQ(lab_status_number(lab, "queued"), 0u);
		lab_stop_daemon(lab, SIGKILL);
		lab_start_daemon(lab);
		EXPECT_EQ(lab_status_number(lab, "queued"), 0u);
	}
	ASSERT_EQ(lab_shell(lab, "sh", "echo end | dd of=$M/telemetry conv=fsync,notrunc status=none"), 0);
	expect_numbers(lab, monitor, 0, n);
	lab_expect_payload(lab, monitor, "end");
}

/* A hub that takes and does not say so: what comes again has the ids it had. */
TEST_F(storage, what_was_not_acknowledged_comes_again_with_its_id)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	struct lab_message first[3] = {0};
	unsigned int n = 0;

	lab_start_without_hub(lab, NULL);
	monitor = lab_restart_with_hub(lab);
	ASSERT_EQ(lab_shell(lab, "sh", "hubctl fault set lose-puback count=3 > $D/fault"), 0);
	write_numbers(lab, &n, 3);
	for (unsigned int i = 0; i < 3; ++i)
		lab_next_message(lab, monitor, &first[i]);
	lab_stop_daemon(lab, SIGKILL);
	lab_start_daemon(lab);
	write_numbers(lab, &n, 1);
	for (unsigned int i = 0; i < 3; ++i) {
		struct lab_message again;

		lab_next_message(lab, monitor, &again);
		EXPECT_STREQ(again.payload, first[i].payload);
		EXPECT_STREQ(again.message_id, first[i].message_id);
		EXPECT_STREQ(again.creation_time, first[i].creation_time);
		lab_message_clear(&again);
		lab_message_clear(&first[i]);
	}
	lab_expect_payload(lab, monitor, "3");
}

/* In order, too, and what is said about it is true. */
static void stop_without_hub(struct lab *lab, const char *config, const char *line)
{
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	_cleanup_(free_ptr) char *log = NULL;
	unsigned int n = 0;

	lab_start_without_hub(lab, config);
	write_numbers(lab, &n, 7);
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
	log = lab_log(lab, "daemon");
	EXPECT_CONTAINS(log, line);
	lab_start_daemon(lab);
	monitor = lab_restart_with_hub(lab);
	expect_numbers(lab, monitor, 0, n);
}

TEST_F(storage, a_stop_leaves_it_for_the_next_start)
{
	stop_without_hub(&self->lab, NULL, "7 messages for the hub wait in ");
}

TEST_F(storage, a_stop_leaves_it_when_volatile_and_warns)
{
	stop_without_hub(&self->lab, "\"storage\": \"volatile\"",
			 "7 messages did not reach the hub: lost if the machine stops before the next start");
}

/* --- the directory ---------------------------------------------------------------------------- */

/* Starts a second daemon with the first one's configuration, mounted somewhere else. */
static int second_daemon(struct lab *lab, char *text, size_t size)
{
	char config[LAB_PATH_MAX], mount[LAB_PATH_MAX];
	const char *argv[] = {process_path("iothubd"), "--config", config, "--mount", mount, NULL};

	snprintf(config, sizeof(config), "%s/iothubd.json", lab->dir);
	snprintf(mount, sizeof(mount), "%s/second", lab->dir);
	return process_run(argv, text, size);
}

TEST_F(storage, a_second_daemon_cannot_have_it)
{
	struct lab *lab = &self->lab;
	char text[4096], number[16];
	unsigned int n = 0;

	lab_start_without_hub(lab, NULL);
	write_numbers(lab, &n, 3);
	EXPECT_EQ(second_daemon(lab, text, sizeof(text)), 1);
	EXPECT_CONTAINS(text, "journal-dev1 is in use by another process");
	snprintf(number, sizeof(number), "%d", (int)lab->daemon);
	EXPECT_CONTAINS(text, number);
	/* The first one is none the worse for it. */
	write_numbers(lab, &n, 3);
	EXPECT_EQ(lab_status_number(lab, "queued"), 6u);
}

/* Each device has its own. */
TEST_F(storage, two_devices_share_a_state_directory)
{
	struct lab *lab = &self->lab;
	unsigned int n = 0;

	lab_start_without_hub(lab, NULL);
	write_numbers(lab, &n, 3);
	lab_stop_daemon(lab, SIGTERM);
	ASSERT_EQ(lab_shell(lab, "sh",
			    "sed 's/DeviceId=dev1/DeviceId=dev2;ModuleId=a%b/' "
			    "$D/state/devices/dev1.connection-string > $D/other && chmod 600 $D/other && "
			    "sed -i \"s|\\\"connection-string-file\\\": \\\"[^\\\"]*\\\"|"
			    "\\\"connection-string-file\\\": \\\"$D/other\\\"|\" $D/iothubd.json"),
		  0);
	lab_start_daemon(lab);
	EXPECT_EQ(lab_status_number(lab, "queued"), 0u);
	ASSERT_EQ(lab_shell(lab, "sh",
			    "test -d $D/device/journal-dev1 && test -d $D/device/journal-dev2%2Fa%25b"),
		  0);
}

TEST_F(storage, without_a_place_it_does_not_start)
{
	struct lab *lab = &self->lab;
	char text[4096];

	lab_start_emulator(lab, NULL);
	lab_configure(lab, NULL);
	lab_write_file(lab, "device", "");
	EXPECT_EQ(second_daemon(lab, text, sizeof(text)), 1);
	EXPECT_CONTAINS(
		text,
		"/device cannot be made: Not a directory: the queue is there: name another directory in "
		"\"state-directory\"\n");
	lab_write_file(lab, "run", "");
	lab_configure(lab, "\"storage\": \"volatile\"");
	EXPECT_EQ(second_daemon(lab, text, sizeof(text)), 1);
	EXPECT_CONTAINS(text, "/run cannot be made: Not a directory: the queue is there\n");
}

/* --- a disk that cannot be written ------------------------------------------------------------ */

/* A small file system at the state directory. */
static void mount_disk(struct fixture_storage *self)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/device", self->lab.dir);
	ASSERT_EQ(mkdir(path, 0700), 0);
	SKIP_IF(mount("tmpfs", path, "tmpfs", 0, "size=8m,mode=700"), "cannot mount");
	snprintf(self->disk, sizeof(self->disk), "%s", path);
}

static void remount_disk(struct fixture_storage *self, unsigned long flags)
{
	ASSERT_EQ(mount(NULL, self->disk, NULL, MS_REMOUNT | flags, NULL), 0);
}

TEST_F(storage, a_new_one_on_a_disk_that_is_read_only)
{
	struct lab *lab = &self->lab;
	char text[4096];

	mount_disk(self);
	remount_disk(self, MS_RDONLY);
	lab_start_emulator(lab, NULL);
	lab_configure(lab, NULL);
	EXPECT_EQ(second_daemon(lab, text, sizeof(text)), 1);
	EXPECT_CONTAINS(text, "journal-dev1");
	EXPECT_CONTAINS(text, "ead-only file system");
}

/* What is there goes out, and nothing new comes in until the disk is well. */
TEST_F(storage, a_disk_that_became_read_only)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = NULL;
	unsigned int n = 0;
	char text[64];

	mount_disk(self);
	lab_start_without_hub(lab, NULL);
	write_numbers(lab, &n, 100);
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
	remount_disk(self, MS_RDONLY);
	lab_start_daemon(lab);
	EXPECT_EQ(lab_status_number(lab, "queued"), 100u);
	monitor = lab_restart_with_hub(lab);
	expect_numbers(lab, monitor, 0, n);
	{
		_cleanup_(close_fd) int fd = open(lab_path(lab, "telemetry.raw"), O_WRONLY | O_CLOEXEC);

		ASSERT_GE(fd, 0);
		EXPECT_EQ(write(fd, "no", 2), -1);
		EXPECT_EQ(errno, EROFS);
	}
	lab_status_text(lab, "disk", text, sizeof(text));
	EXPECT_CONTAINS(text, "EROFS");
	remount_disk(self, 0);
	ASSERT_EQ(lab_shell(lab, "sh",
			    "echo well > $M/telemetry.raw && "
			    "timeout 10 grep -q '\"event\":\"disk-ok\"' $M/events"),
		  0);
	lab_expect_payload(lab, monitor, "well\n");
	lab_status_text(lab, "disk", text, sizeof(text));
	EXPECT_STREQ(text, "ok");
}

/* --- channels --------------------------------------------------------------------------------- */

/* What the configuration declares is there, what users set goes before, and what waits keeps what it has. */
TEST_F(storage, channels_and_their_messages)
{
	struct lab *lab = &self->lab;
	static const char config[] =
		"\"channels\": {\"alarm\": {\"priority\": 0, \"properties\": {\"level\": \"high\"}},\n"
		" \"log\": {\"ttl\": 3600, \"when-full\": \"drop-oldest\", \"content-type\": "
		"\"text/plain\"}}";
	_cleanup_(fclose_ptr) FILE *monitor = NULL;

	lab_start_without_hub(lab, config);
	ASSERT_EQ(
		lab_shell(
			lab, "sh",
			"set -e; cd $M/channels; test $(cat alarm/priority) = 0\n"
			"test $(cat alarm/properties/level) = high; test $(cat log/ttl) = 3600\n"
			"test $(cat log/when-full) = drop-oldest; test $(cat log/content-type) = text/plain\n"
			"echo stored > alarm/ack; mkdir mine; echo 9 > mine/priority"),
		0);
	/* In order: what is set of a channel is written a moment later. */
	lab_stop_daemon(lab, SIGTERM);
	lab_start_daemon(lab);
	ASSERT_EQ(lab_shell(lab, "sh",
			    "set -e; cd $M/channels; test $(cat alarm/ack) = stored\n"
			    "test $(cat mine/priority) = 9; test $(cat alarm/properties/level) = high\n"
			    "echo last > mine/telemetry; echo middle > ../telemetry; echo first > "
			    "alarm/telemetry"),
		  0);
	monitor = lab_restart_with_hub(lab);
	lab_expect_payload(lab, monitor, "first");
	lab_expect_payload(lab, monitor, "middle");
	lab_expect_payload(lab, monitor, "last");
}

TEST_HARNESS_MAIN
