/* SPDX-License-Identifier: MIT */
/*
 * Telemetry under kill -9: 64 writers, half of them at level `queued` and half at `stored`, go on while the daemon is
 * killed at random moments, some of them in the middle of its start, and while the hub goes away, comes back, drops
 * connections and loses acknowledgements. Whatever was acknowledged is delivered in the end, in order, and what comes
 * twice has the same message-id.
 *
 * $IOTHUB_KILLS: how many kills; 20 unless it is set.
 */

#include <signal.h>
#include <stdlib.h>

#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/load.h"
#include "tests/support/process.h"

#define N_KILLS   20
#define N_WRITERS 64
/* Longest time between two kills, and from a start to the kill in its middle. */
#define PAUSE_MAX_NS (150 * NSEC_PER_MSEC)
#define START_MAX_NS (40 * NSEC_PER_MSEC)
/* Each writer: on the average as long between two messages, so that the monitor keeps up. */
#define WRITER_PAUSE_US 30000
/* Out of so many kills, the hub goes or comes with one, and one start is killed. */
#define HUB_EVERY   3
#define START_EVERY 4

FIXTURE(kill)
{
	struct lab lab;
	bool hub_is_down;
	unsigned int n_hub_downs, n_starts_killed;
	struct load load;
};

FIXTURE_SETUP(kill)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(kill)
{
	load_deinit(&self->load);
	lab_deinit(&self->lab);
}

static unsigned int kills_wanted(void)
{
	const char *text = getenv("IOTHUB_KILLS");

	return text ? (unsigned int)strtoul(text, NULL, 10) : N_KILLS;
}

static void hub_toggle(struct fixture_kill *self)
{
	self->hub_is_down = !self->hub_is_down;
	self->n_hub_downs += self->hub_is_down;
	if (self->hub_is_down)
		load_hub_down(&self->lab);
	else
		load_hub_up(&self->lab);
}

/* A start that does not get far. */
static void start_and_kill(struct fixture_kill *self)
{
	char config[LAB_PATH_MAX], log[LAB_PATH_MAX];
	const char *argv[] = {process_path("iothubd"), "--config", config, NULL};

	snprintf(config, sizeof(config), "%s/iothubd.json", self->lab.dir);
	snprintf(log, sizeof(log), "%s/daemon.log", self->lab.dir);
	self->lab.daemon = process_start(log, argv, -1, -1);
	load_pause(START_MAX_NS);
	lab_stop_daemon(&self->lab, SIGKILL);
	++self->n_starts_killed;
}

static void kill_once(struct fixture_kill *self)
{
	if (test_random() % HUB_EVERY == 0)
		hub_toggle(self);
	load_pause(PAUSE_MAX_NS);
	lab_stop_daemon(&self->lab, SIGKILL);
	if (test_random() % START_EVERY == 0)
		start_and_kill(self);
	lab_start_daemon(&self->lab);
}

TEST_F_TIMEOUT(kill, acknowledged_writes_are_delivered, 1800)
{
	static const char *const options[] = {"--cut-every=1999", "--quiet", NULL};
	unsigned int n_kills = kills_wanted();

	lab_start_emulator(&self->lab, options);
	lab_configure(&self->lab, "\"queue-bytes\": 268435456");
	lab_start_monitor(&self->lab);
	load_start_judge(&self->load, &self->lab);
	self->load.pause_us = 2 * WRITER_PAUSE_US;
	self->load.pad_max = 2048;
	lab_start_daemon(&self->lab);
	load_start(&self->load, &self->lab, N_WRITERS, false);
	for (unsigned int i = 0; i < n_kills; ++i)
		kill_once(self);
	load_stop(&self->load);
	load_hub_up(&self->lab);
	/* One more, so that nobody waits until a refused connection is tried again. */
	lab_stop_daemon(&self->lab, SIGKILL);
	lab_start_daemon(&self->lab);
	load_fence(&self->load, &self->lab);
	TEST_LOG("%u kills, %u starts killed, the hub went %u times", n_kills + 1, self->n_starts_killed,
		 self->n_hub_downs);
	load_verify(&self->load, LOAD_QUEUED);
	EXPECT_GT(load_n_acked(&self->load, LOAD_STORED), 0u);
	EXPECT_GT(load_n_acked(&self->load, LOAD_QUEUED), 0u);
}

TEST_HARNESS_MAIN
