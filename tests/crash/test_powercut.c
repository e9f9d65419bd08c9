/* SPDX-License-Identifier: MIT */
/*
 * Power that goes without warning: the daemon's state lies on an ext4 of its own, which is shut down at random moments
 * without its log being written, while writers go on. The daemon is stopped for that moment and killed then, the file
 * system mounted again and a new daemon started. What was acknowledged at level `stored` is delivered in the end; what
 * was `queued` may be lost, but never garbled, mixed up, or given the message-id of another.
 *
 * $IOTHUB_CUTS: how many cuts; 10 unless it is set. Needs root.
 */

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/disk.h"
#include "tests/support/lab.h"
#include "tests/support/load.h"

#define N_CUTS          10
#define N_WRITERS       16
#define DISK_MIB        192
#define PAUSE_MAX_NS    (150 * NSEC_PER_MSEC)
#define WRITER_PAUSE_US 8000
#define HUB_EVERY       3

FIXTURE(powercut)
{
	struct lab lab;
	struct disk disk;
	bool hub_is_down;
	struct load load;
};

FIXTURE_SETUP(powercut)
{
	const char *why_not = disk_why_not();

	SKIP_IF(why_not, why_not);
	lab_init(&self->lab);
	disk_init(&self->disk, self->lab.dir, "device", DISK_MIB, NULL);
}

FIXTURE_TEARDOWN(powercut)
{
	load_deinit(&self->load);
	lab_stop_daemon(&self->lab, SIGKILL);
	disk_deinit(&self->disk);
	lab_deinit(&self->lab);
}

static unsigned int cuts_wanted(void)
{
	const char *text = getenv("IOTHUB_CUTS");

	return text ? (unsigned int)strtoul(text, NULL, 10) : N_CUTS;
}

static void cut_once(struct fixture_powercut *self)
{
	if (test_random() % HUB_EVERY == 0) {
		self->hub_is_down = !self->hub_is_down;
		if (self->hub_is_down)
			load_hub_down(&self->lab);
		else
			load_hub_up(&self->lab);
	}
	load_pause(PAUSE_MAX_NS);
	load_power(&self->load, false);
	/* Without power it does nothing, either: neither send what it has in memory nor find that it is gone. */
	kill(self->lab.daemon, SIGSTOP);
	ASSERT_EQ(waitpid(self->lab.daemon, NULL, WUNTRACED), self->lab.daemon);
	disk_cut(&self->disk);
	lab_stop_daemon(&self->lab, SIGKILL);
	disk_umount(&self->disk);
	disk_mount(&self->disk);
	load_power(&self->load, true);
	lab_start_daemon(&self->lab);
}

TEST_F_TIMEOUT(powercut, stored_writes_are_delivered, 1800)
{
	static const char *const options[] = {"--quiet", NULL};
	unsigned int n_cuts = cuts_wanted();

	lab_start_emulator(&self->lab, options);
	lab_configure(&self->lab, "\"queue-bytes\": 134217728");
	lab_start_monitor(&self->lab);
	load_start_judge(&self->load, &self->lab);
	self->load.pause_us = 2 * WRITER_PAUSE_US;
	self->load.pad_max = 2048;
	disk_mount(&self->disk);
	lab_start_daemon(&self->lab);
	load_start(&self->load, &self->lab, N_WRITERS, false);
	for (unsigned int i = 0; i < n_cuts; ++i)
		cut_once(self);
	load_stop(&self->load);
	load_hub_up(&self->lab);
	lab_stop_daemon(&self->lab, SIGKILL);
	lab_start_daemon(&self->lab);
	load_fence(&self->load, &self->lab);
	TEST_LOG("%u cuts", n_cuts);
	load_verify(&self->load, LOAD_STORED);
	EXPECT_GT(load_n_acked(&self->load, LOAD_STORED), 0u);
}

TEST_HARNESS_MAIN
