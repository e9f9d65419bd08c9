/* SPDX-License-Identifier: MIT */
/*
 * Trouble with the disk under load: errors of the device for a second, with and without a journal of the file system;
 * a file system that is full; a limit of the size of files; a file system that has become read-only. The daemon stays
 * up, says so, goes on with what needs no disk, accepts again within two seconds when the disk is well, can be started
 * again at any time, and what it acknowledged as stored is delivered. Needs root.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/disk.h"
#include "tests/support/lab.h"
#include "tests/support/load.h"
#include "tests/support/process.h"

#define N_WRITERS       16
#define DISK_MIB        96
#define FULL_MIB        64
#define WRITER_PAUSE_US 4000
#define TROUBLE_NS      NSEC_PER_SEC
#define RESUME_MAX_NS   (2 * NSEC_PER_SEC)
/* When it does not resume: so long until the test goes on. */
#define RESUME_LIMIT_NS (10 * NSEC_PER_SEC)
/* Smaller than any segment. */
#define FILE_MAX    (32 << 10)
#define BLOCK_BYTES 65536
#define BLOCK_MIN   16
/* More than a disk of these tests has room for, of any size. */
#define N_FILL_MAX    (1u << 20)
#define EVENT_WAIT_MS 10000
#define LOG_TAIL      4096

FIXTURE(disk)
{
	struct lab lab;
	struct disk disk;
	int events;
	struct load load;
	char block[BLOCK_BYTES];
	char text[65536];
};

FIXTURE_SETUP(disk)
{
	const char *why_not = disk_why_no_errors();

	self->events = -1;
	SKIP_IF(why_not, why_not);
	lab_init(&self->lab);
	memset(self->block, 'x', sizeof(self->block));
	memcpy(self->block, "other ", 6);
}

/* What the daemon said in the end, but for what it says only to who looks for it. */
static void log_tell(struct fixture_disk *self)
{
	char out[LOG_TAIL];
	const char *const script = "grep -v ': debug: ' \"$1/daemon.log\" | tail -c 3000";
	const char *argv[] = {"/bin/sh", "-c", script, "sh", self->lab.dir, NULL};

	process_run(argv, out, sizeof(out));
	TEST_LOG("daemon: %s", out);
}

FIXTURE_TEARDOWN(disk)
{
	load_deinit(&self->load);
	if (!test_is_orphan() && harness_state.result->n_failed)
		log_tell(self);
	if (!test_is_orphan())
		close(self->events);
	lab_stop_daemon(&self->lab, SIGKILL);
	disk_deinit(&self->disk);
	lab_deinit(&self->lab);
}

/* --- steps ------------------------------------------------------------------------------------ */

/* The disk is there and not mounted yet. */
static void begin(struct fixture_disk *self)
{
	static const char *const options[] = {"--quiet", NULL};

	lab_start_emulator(&self->lab, options);
	lab_configure(&self->lab, "\"queue-bytes\": 134217728");
	lab_start_monitor(&self->lab);
	load_start_judge(&self->load, &self->lab);
	self->load.pause_us = 2 * WRITER_PAUSE_US;
	self->load.pad_max = 2048;
	disk_mount(&self->disk);
	lab_start_daemon(&self->lab);
	self->events = open(lab_path(&self->lab, "events"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_GE(self->events, 0);
}

static void expect_up(struct fixture_disk *self)
{
	char state[64];

	ASSERT_EQ(waitpid(self->lab.daemon, NULL, WNOHANG), 0);
	lab_status_text(&self->lab, "state", state, sizeof(state));
	EXPECT_TRUE(state[0] != 0);
}

/* A line of `events` since begin(). */
static void expect_event(struct fixture_disk *self, const char *event)
{
	size_t len = strlen(self->text);

	while (!strstr(self->text, event)) {
		struct pollfd p = {.fd = self->events, .events = POLLIN};
		ssize_t n;

		ASSERT_LT(len + 1, sizeof(self->text));
		ASSERT_EQ(poll(&p, 1, EVENT_WAIT_MS), 1);
		n = read(self->events, self->text + len, sizeof(self->text) - 1 - len);
		ASSERT_TRUE(n > 0 || errno == EAGAIN);
		len += n > 0 ? (size_t)n : 0;
	}
}

static void expect_resumed(struct fixture_disk *self)
{
	uint64_t queued_ns = load_resumed_ns(&self->lab, LOAD_QUEUED, RESUME_LIMIT_NS);
	uint64_t stored_ns = load_resumed_ns(&self->lab, LOAD_STORED, RESUME_LIMIT_NS);

	TEST_LOG("accepts again after %u ms", (unsigned int)((queued_ns + stored_ns) / NSEC_PER_MSEC));
	EXPECT_LT(queued_ns + stored_ns, RESUME_MAX_NS);
}

/* Messages that do not count, first long ones and then shorter ones, until the shortest is refused, too. Returns its
 * errno, or 0. */
static int write_until_refused(struct fixture_disk *self, enum load_level level)
{
	int flags = O_WRONLY | O_CLOEXEC | (level == LOAD_STORED ? O_DSYNC : 0), error = 0;
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "telemetry.raw"), flags);

	ASSERT_GE(fd, 0);
	for (size_t size = sizeof(self->block); size >= BLOCK_MIN; size /= 4) {
		error = 0;
		for (unsigned int i = 0; i < N_FILL_MAX && !error; ++i)
			error = write(fd, self->block, size) < 0 ? errno : 0;
	}
	return error;
}

/* Until a writer of the load was refused with @error. */
static void await_failure(struct fixture_disk *self, int error)
{
	while (load_n_failed(&self->load, error) == 0)
		load_pause(WRITER_PAUSE_US * NSEC_PER_USEC);
}

/* A new daemon; with @remount it has what is on the disk and not what was in memory. */
static void restart(struct fixture_disk *self, int signo, bool remount)
{
	close(self->events);
	self->events = -1;
	lab_stop_daemon(&self->lab, signo);
	if (remount) {
		disk_umount(&self->disk);
		disk_mount(&self->disk);
	}
	lab_start_daemon(&self->lab);
}

static void settle_and_verify(struct fixture_disk *self, enum load_level promise)
{
	load_hub_up(&self->lab);
	/* So that nobody waits until a refused connection is tried again. */
	restart(self, SIGTERM, false);
	load_fence(&self->load, &self->lab);
	load_verify(&self->load, promise);
}

static void command_goes_through(struct fixture_disk *self)
{
	char text[512], payload[64] = "";
	_cleanup_(close_fd) int fd = -1;

	ASSERT_EQ(lab_hubctl(&self->lab, text, sizeof(text), "command", "send", "dev1", "still here"), 0);
	fd = open(lab_path(&self->lab, "commands/next"), O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_GT(read(fd, payload, sizeof(payload) - 1), 0);
	EXPECT_CONTAINS(payload, "still here");
	EXPECT_EQ(read(fd, payload, sizeof(payload)), 0);
}

/* --- errors of the device --------------------------------------------------------------------- */

static void errors_for_a_second(struct fixture_disk *self)
{
	load_start(&self->load, &self->lab, N_WRITERS, false);
	load_pause(NSEC_PER_SEC / 2);
	/* What is stored stays on the disk only. */
	load_hub_down(&self->lab);
	load_pause(NSEC_PER_SEC / 4);
	disk_errors(&self->disk, true);
	load_last(TROUBLE_NS);
	expect_up(self);
	disk_errors(&self->disk, false);
}

TEST_F_TIMEOUT(disk, errors_of_the_device, 60)
{
	/* Metadata that cannot be written ends writing for good where there is a journal. */
	disk_init_errors(&self->disk, self->lab.dir, "device", DISK_MIB, "-O^has_journal");
	begin(self);
	errors_for_a_second(self);
	expect_resumed(self);
	expect_event(self, "disk-error");
	load_pause(NSEC_PER_SEC / 2);
	load_stop(&self->load);
	expect_up(self);
	EXPECT_GT(load_n_failed(&self->load, EIO), 0u);
	restart(self, SIGKILL, true);
	settle_and_verify(self, LOAD_STORED);
}

TEST_F_TIMEOUT(disk, errors_that_end_the_file_system, 60)
{
	disk_init_errors(&self->disk, self->lab.dir, "device", DISK_MIB, NULL);
	begin(self);
	errors_for_a_second(self);
	load_stop(&self->load);
	expect_up(self);
	expect_event(self, "disk-error");
	EXPECT_GT(load_n_failed(&self->load, EIO) + load_n_failed(&self->load, EROFS), 0u);
	restart(self, SIGTERM, true);
	expect_resumed(self);
	settle_and_verify(self, LOAD_STORED);
}

/* --- no room ---------------------------------------------------------------------------------- */

TEST_F_TIMEOUT(disk, full, 60)
{
	char out[512];

	disk_init(&self->disk, self->lab.dir, "device", FULL_MIB, NULL);
	begin(self);
	load_start(&self->load, &self->lab, N_WRITERS, false);
	load_pause(NSEC_PER_SEC / 4);
	/* Connected, but nothing is taken: what is queued stays. */
	ASSERT_EQ(lab_hubctl(&self->lab, out, sizeof(out), "fault", "set", "status", "status=0501",
			     "operation=telemetry"),
		  0);
	disk_fill(&self->disk, 0);
	EXPECT_EQ(write_until_refused(self, LOAD_QUEUED), ENOSPC);
	EXPECT_EQ(write_until_refused(self, LOAD_STORED), ENOSPC);
	await_failure(self, ENOSPC);
	expect_event(self, "disk-full");
	command_goes_through(self);
	expect_up(self);
	disk_unfill(&self->disk);
	expect_resumed(self);
	load_pause(NSEC_PER_SEC / 4);
	load_stop(&self->load);
	restart(self, SIGKILL, false);
	settle_and_verify(self, LOAD_QUEUED);
}

/* Full while a new daemon starts; sending makes the room. */
TEST_F_TIMEOUT(disk, full_at_start, 60)
{
	disk_init(&self->disk, self->lab.dir, "device", FULL_MIB, NULL);
	begin(self);
	load_hub_down(&self->lab);
	load_start(&self->load, &self->lab, N_WRITERS, false);
	load_pause(NSEC_PER_SEC / 4);
	EXPECT_EQ(write_until_refused(self, LOAD_QUEUED), ENOSPC);
	load_stop(&self->load);
	disk_fill(&self->disk, 0);
	restart(self, SIGKILL, true);
	load_hub_up(&self->lab);
	restart(self, SIGKILL, false);
	EXPECT_LT(load_resumed_ns(&self->lab, LOAD_STORED, RESUME_LIMIT_NS), RESUME_LIMIT_NS);
	/* Until enough was sent, the disk is full again and again. */
	while (!load_try_fence(&self->load, &self->lab))
		load_pause(WRITER_PAUSE_US * NSEC_PER_USEC);
	load_verify(&self->load, LOAD_STORED);
}

static void limit_files(pid_t pid, rlim_t bytes)
{
	struct rlimit limit;

	ASSERT_EQ(prlimit(pid, RLIMIT_FSIZE, NULL, &limit), 0);
	limit.rlim_cur = bytes;
	ASSERT_EQ(prlimit(pid, RLIMIT_FSIZE, &limit, NULL), 0);
}

TEST_F_TIMEOUT(disk, limit_of_file_size, 60)
{
	int error;

	disk_init(&self->disk, self->lab.dir, "device", DISK_MIB, NULL);
	begin(self);
	load_hub_down(&self->lab);
	load_start(&self->load, &self->lab, N_WRITERS, false);
	load_pause(NSEC_PER_SEC / 4);
	limit_files(self->lab.daemon, FILE_MAX);
	error = write_until_refused(self, LOAD_QUEUED);
	EXPECT_TRUE(error == EFBIG || error == ENOSPC);
	load_pause(NSEC_PER_SEC / 4);
	expect_up(self);
	limit_files(self->lab.daemon, RLIM_INFINITY);
	expect_resumed(self);
	load_pause(NSEC_PER_SEC / 4);
	load_stop(&self->load);
	/* A daemon starts under the limit, too. */
	limit_files(getpid(), FILE_MAX);
	restart(self, SIGKILL, false);
	expect_up(self);
	limit_files(getpid(), RLIM_INFINITY);
	settle_and_verify(self, LOAD_QUEUED);
}

/* --- read-only -------------------------------------------------------------------------------- */

TEST_F_TIMEOUT(disk, read_only, 60)
{
	int error;

	disk_init(&self->disk, self->lab.dir, "device", DISK_MIB, NULL);
	begin(self);
	load_hub_down(&self->lab);
	load_start(&self->load, &self->lab, N_WRITERS, false);
	load_pause(NSEC_PER_SEC / 2);
	disk_abort(&self->disk);
	error = write_until_refused(self, LOAD_STORED);
	EXPECT_TRUE(error == EROFS || error == EIO);
	error = write_until_refused(self, LOAD_QUEUED);
	EXPECT_TRUE(error == EROFS || error == EIO);
	expect_event(self, "disk-error");
	load_stop(&self->load);
	expect_up(self);
	/* What is there can be sent, though the new daemon cannot write that it was. */
	restart(self, SIGKILL, false);
	expect_up(self);
	load_hub_up(&self->lab);
	restart(self, SIGKILL, false);
	lab_await_state(&self->lab, "connected");
	error = write_until_refused(self, LOAD_STORED);
	EXPECT_TRUE(error == EROFS || error == EIO);
	/* And with a disk that is well again everything goes on. */
	restart(self, SIGTERM, true);
	expect_resumed(self);
	settle_and_verify(self, LOAD_STORED);
}

TEST_HARNESS_MAIN
