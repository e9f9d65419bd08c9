/* SPDX-License-Identifier: MIT */
/*
 * The journal on disks in trouble: no space, a limit of file size, syncs that fail, nothing to write any more, files that
 * are cut while they are mapped. What was stored is there afterwards, what is queued still goes out, and writers go on
 * as soon as they can.
 */

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "journal/journal.h"
#include "tests/harness.h"
#include "tests/support/guarded.h"
#include "tests/support/disk.h"
#include "tests/support/journal_box.h"

#define DISK_MIB 24
#define N_ENDS   5

FIXTURE(disk)
{
	char base[64];
	struct disk disk;
	struct journal_box box;
};

FIXTURE_SETUP(disk)
{

	strcpy(self->base, "/tmp/test-journal.XXXXXX");
	ASSERT_TRUE(mkdtemp(self->base));
	self->box.guard = guarded();
	self->box.max_bytes = 64u << 20;
	snprintf(self->box.dir, sizeof(self->box.dir), "%s/journal", self->base);
}

FIXTURE_TEARDOWN(disk)
{
	char command[96];

	if (!test_is_orphan())
		box_close(&self->box);
	disk_deinit(&self->disk);
	snprintf(command, sizeof(command), "rm -rf '%s'", self->base);
	if (self->base[0] && system(command) != 0)
		TEST_LOG("%s failed", command);
}

/* The journal on a file system of its own. */
static void use_disk(struct fixture_disk *self)
{
	disk_init(&self->disk, self->base, "disk", DISK_MIB, NULL);
	disk_mount(&self->disk);
	snprintf(self->box.dir, sizeof(self->box.dir), "%s/journal", self->disk.dir);
	ASSERT_EQ(box_open(&self->box), 0);
}

/* The directory with the segments' only file. */
static void cut_segment(const char *dir, unsigned int n_bytes)
{
	char command[256];

	snprintf(command, sizeof(command), "truncate -s %u '%s'/*.segment", n_bytes, dir);
	ASSERT_EQ(system(command), 0);
}

/* Until a write is taken; at most two seconds. */
static bool append_again(struct journal_box *box, struct journal_lane *lane)
{
	unsigned int n_room = box->n_room;

	for (int i = 0; i < 200; ++i) {
		ASSERT_EQ(loop_turn(box->loop, 10 * NSEC_PER_MSEC), 0);
		if (box->n_room == n_room)
			continue;
		n_room = box->n_room;
		if (box_append(box, lane, 10, 1000) == 0)
			return true;
	}
	return false;
}

static int error_of(const struct journal_box *box)
{
	struct journal_stats stats;

	journal_stats(box->j, &stats);
	return stats.error;
}

TEST_F(disk, a_limit_of_file_size)
{
	struct rlimit limit, small;
	struct journal_box *box = &self->box;
	struct journal_lane *lane;
	uint64_t n = 0;
	int r;

	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 100000;
	ASSERT_EQ(box_open(box), 0);
	lane = box_lane(box, 0, 5, 0);
	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	while (!(r = box_append(box, lane, 10, 1000)))
		++n;
	EXPECT_EQ(r, -ENOSPC);
	EXPECT_GT(n, 50u);
	EXPECT_EQ(error_of(box), -ENOSPC);
	for (int i = 0; i < 3; ++i)
		EXPECT_EQ(box_append(box, lane, 10, 1000), -ENOSPC);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_STREQ(box->events, "disk-full ");
	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	EXPECT_TRUE(append_again(box, lane));
	EXPECT_STREQ(box->events, "disk-full disk-ok ");
	EXPECT_EQ(error_of(box), 0);
	EXPECT_EQ(box_drain(box), n + 1);
}

TEST_F(disk, no_space)
{
	const char *why_not = disk_why_not();
	struct journal_box *box = &self->box;
	struct journal_lane *lane;
	struct journal_cursor at;
	uint64_t n = 0;
	int r;

	SKIP_IF(why_not, why_not);
	use_disk(self);
	lane = box_lane(box, 0, 5, 0);
	disk_fill(&self->disk, 3u << 20);
	while (!(r = box_append(box, lane, 10, 10000)))
		++n;
	EXPECT_EQ(r, -ENOSPC);
	EXPECT_GT(n, 50u);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_EQ(journal_stored(box->j), n);
	ASSERT_TRUE(box_send(box, &at));
	journal_mark_done(box->j, &at);
	disk_unfill(&self->disk);
	EXPECT_TRUE(append_again(box, lane));
	EXPECT_TRUE(box_wait_event(box, "disk-ok"));
	EXPECT_STREQ(box->events, "disk-full disk-ok ");
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), n);
}

TEST_F(disk, space_comes_back_without_a_writer)
{
	const char *why_not = disk_why_not();
	struct journal_box *box = &self->box;

	SKIP_IF(why_not, why_not);
	use_disk(self);
	disk_fill(&self->disk, 0);
	EXPECT_EQ(box_append(box, box_lane(box, 0, 5, 0), 10, 100000), -ENOSPC);
	EXPECT_TRUE(box_wait_event(box, "disk-full"));
	disk_unfill(&self->disk);
	EXPECT_TRUE(box_wait_event(box, "disk-ok"));
	EXPECT_EQ(box_append(box, box_lane(box, 0, 5, 0), 10, 100000), 0);
}

TEST_F(disk, a_full_disk_at_start)
{
	const char *why_not = disk_why_not();
	struct journal_box *box = &self->box;
	struct journal_lane *lane;

	SKIP_IF(why_not, why_not);
	use_disk(self);
	lane = box_lane(box, 0, 5, 0);
	for (int i = 0; i < 100; ++i)
		ASSERT_EQ(box_append(box, lane, 10, 100), 0);
	box_close(box);
	disk_fill(&self->disk, 0);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 100u);
}

TEST_F(disk, syncs_that_fail)
{
	const char *why_not = disk_why_not();
	struct journal_box *box = &self->box;
	struct journal_lane *lane;
	struct journal_stats stats;
	struct journal_cursor at;
	int r;

	SKIP_IF(why_not, why_not);
	use_disk(self);
	lane = box_lane(box, 0, 5, 0);
	for (int i = 0; i < 10; ++i)
		ASSERT_EQ(box_append(box, lane, 10, 100), 0);
	EXPECT_EQ(box_sync(box), 0);
	disk_cut(&self->disk);
	for (int i = 0; i < 10; ++i) {
		r = box_append(box, lane, 10, 8000);
		if (r)
			break;
	}
	EXPECT_LT(box_sync(box), 0);
	EXPECT_EQ(journal_stored(box->j), 10u);
	EXPECT_CONTAINS(box->events, "disk-error");
	EXPECT_LT(box_append(box, lane, 10, 100), 0);
	journal_stats(box->j, &stats);
	EXPECT_EQ(stats.n_failed, 1u);
	EXPECT_LT(stats.error, 0);
	/* What is in memory goes out. */
	for (int i = 0; i < 5; ++i) {
		ASSERT_TRUE(box_send(box, &at));
		journal_mark_done(box->j, &at);
		box_turn(box);
	}
	box_close(box);
	disk_umount(&self->disk);
	disk_mount(&self->disk);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_GE(box_drain(box), 5u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

TEST_F(disk, nothing_to_write_any_more)
{
	const char *why_not = disk_why_not();
	struct journal_box *box = &self->box;
	struct journal_lane *lane;
	int r = 0;

	SKIP_IF(why_not, why_not);
	use_disk(self);
	lane = box_lane(box, 0, 5, 0);
	for (int i = 0; i < 100; ++i)
		ASSERT_EQ(box_append(box, lane, 10, 1000), 0);
	EXPECT_EQ(box_sync(box), 0);
	disk_abort(&self->disk);
	for (int i = 0; i < 2000 && !r; ++i)
		r = box_append(box, lane, 10, 1000);
	EXPECT_EQ(r, -EROFS);
	EXPECT_TRUE(box_wait_event(box, "disk-error"));
	EXPECT_GE(box_drain(box), 100u);
	/* A daemon that starts there. */
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	lane = box_lane(box, 0, 5, 0);
	EXPECT_EQ(box_append(box, lane, 10, 1000), -EROFS);
	EXPECT_LE(box_drain(box), 2000u);
}

/* Somebody else on that file system: each sync is a commit of its journal that is none of ours, and fails without us. */
__attribute__((noreturn)) static void rival_run(const char *dir)
{
	char path[300] = "";
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "%s/rival", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (fd >= 0 && write(fd, path, sizeof(path)) > 0 && fsync(fd) == 0)
		;
	_exit(0);
}

/* Appends and syncs until that is refused. Returns the last one that was called stored. */
static uint64_t store_until_refused(struct fixture_disk *self, uint64_t errors_from)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane = box_lane(box, 0, 5, 0);

	do {
		if (journal_appended(box->j) == errors_from)
			disk_errors(&self->disk, true);
		if (box_append(box, lane, 10, 1000 + test_random() % 8000))
			break;
	} while (box_sync(box) == 0);
	return journal_stored(box->j);
}

static void end_the_journal(struct fixture_disk *self, const char *name)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;
	uint64_t stored, last = 0;
	pid_t rival;

	disk_init_log_errors(&self->disk, self->base, name, DISK_MIB);
	disk_mount(&self->disk);
	snprintf(self->box.dir, sizeof(self->box.dir), "%s/journal", self->disk.dir);
	ASSERT_EQ(box_open(box), 0);
	fflush(NULL);
	rival = fork();
	if (rival == 0)
		rival_run(self->disk.dir);
	ASSERT_GT(rival, 0);
	stored = store_until_refused(self, 1 + test_random() % 12);
	disk_errors(&self->disk, false);
	kill(rival, SIGKILL);
	waitpid(rival, NULL, 0);
	box_close(box);
	disk_umount(&self->disk);
	disk_mount(&self->disk);
	ASSERT_EQ(box_open(box), 0);
	while (box_send(box, &at))
		last = at.sequence;
	EXPECT_GE(last, stored);
	box_close(box);
	disk_umount(&self->disk);
	disk_deinit(&self->disk);
}

/* A sync that is a success then was seen once in 15 times. */
TEST_F_TIMEOUT(disk, a_file_system_whose_journal_ends, 60)
{
	const char *why_not = disk_why_no_errors();
	char name[16];

	SKIP_IF(why_not, why_not);
	for (int i = 0; i < N_ENDS; ++i) {
		snprintf(name, sizeof(name), "disk%d", i);
		end_the_journal(self, name);
	}
}

TEST_F(disk, a_file_that_is_cut_under_a_writer)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane;
	uint64_t n = 0;

	ASSERT_EQ(box_open(box), 0);
	lane = box_lane(box, 0, 5, 0);
	for (; journal_n_bytes(box->j) < 30000; ++n)
		ASSERT_EQ(box_append(box, lane, 10, 1000), 0);
	ASSERT_EQ(box_sync(box), 0);
	cut_segment(box->dir, 40960);
	while (box_append(box, lane, 10, 1000) == 0)
		++n;
	EXPECT_TRUE(box_wait_event(box, "disk-error"));
	/* Those behind the last sync were in it. */
	EXPECT_LT(box_sync(box), 0);
	for (int i = 0; i < 10; ++i, ++n)
		ASSERT_EQ(box_append(box, lane, 10, 1000), 0);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_CONTAINS(box->events, "disk-ok");
	EXPECT_EQ(box_drain(box), n);
}

TEST_F(disk, a_file_that_is_cut_under_the_sender)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane;
	struct journal_stats stats;
	uint64_t n;

	ASSERT_EQ(box_open(box), 0);
	lane = box_lane(box, 0, 5, 0);
	for (int i = 0; i < 50; ++i)
		ASSERT_EQ(box_append(box, lane, 10, 1000), 0);
	ASSERT_EQ(box_sync(box), 0);
	cut_segment(box->dir, 16384);
	n = box_drain(box);
	EXPECT_GE(n, 10u);
	journal_stats(box->j, &stats);
	/* It can be made longer again, so what was there is zeros: lost, but nothing waits for it. */
	for (int i = 0; i < 300 && journal_n_bytes(box->j) > 0; ++i) {
		ASSERT_EQ(loop_turn(box->loop, 10 * NSEC_PER_MSEC), 0);
		n += box_drain(box);
	}
	journal_stats(box->j, &stats);
	EXPECT_EQ(n + stats.n_damaged, 50u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

TEST_HARNESS_MAIN
