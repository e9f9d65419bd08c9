/* SPDX-License-Identifier: MIT */
/*
 * The link on a machine whose clock is wrong, and is set: the time of day in this process is the test's own. The
 * link runs in here, the emulator in a process with the right time.
 */

#include <sys/syscall.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "tests/harness.h"
#include "tests/support/device.h"
#include "tests/support/process.h"

/* How far this process's time of day is off. */
static int64_t clock_offset_s;

/* In place of the C library's, for everything in this process. */
int clock_gettime(clockid_t id, struct timespec *out)
{
	int r = (int)syscall(SYS_clock_gettime, id, out);

	if (r == 0 && id == CLOCK_REALTIME)
		out->tv_sec += clock_offset_s;
	return r;
}

time_t time(time_t *out)
{
	struct timespec ts = {0};

	clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

FIXTURE(clock)
{
	struct lab lab;
	struct device device;
};

FIXTURE_SETUP(clock)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_configure(&self->lab, "\"token-lifetime\": 3600");
}

FIXTURE_TEARDOWN(clock)
{
	if (!test_is_orphan()) {
		device_show_logs(&self->lab);
		device_deinit(&self->device);
	}
	lab_deinit(&self->lab);
}

/* The device starts on a machine whose clock is @offset_s off. */
static void boot(struct fixture_clock *self, int64_t offset_s)
{
	clock_offset_s = offset_s;
	device_init(&self->device, &self->lab);
	device_start(&self->device);
}

/* Somebody sets the clock, and the kernel says so. */
static void clock_set(struct fixture_clock *self, int64_t offset_s)
{
	clock_offset_s = offset_s;
	/* The loop reads its clocks once a turn. */
	ASSERT_EQ(loop_turn(self->device.loop, 1), 0);
	link_on_clock_set(self->device.link);
}

static void expect_log_lines(struct fixture_clock *self, const char *text, unsigned int n)
{
	_cleanup_(free_ptr) char *log = lab_log(&self->lab, "device");

	EXPECT_EQ(text_count(log, text), n);
}

TEST_F(clock, not_set_at_boot)
{
	/* 1970, whatever the year is. */
	boot(self, -(int64_t)time(NULL) + 60);
	DEVICE_AWAIT(&self->device, device_info(&self->device).n_attempts == 3 &&
					    device_info(&self->device).state == LINK_WAITING);
	expect_log_lines(self, "this machine's clock is not set", 1);
	EXPECT_EQ(self->device.n_online, 0u);
	clock_set(self, 0);
	expect_log_lines(self, "this machine's clock was set: trying again", 1);
	EXPECT_EQ(device_info(&self->device).retry_in_ns, 0u);
	DEVICE_AWAIT(&self->device, self->device.n_online == 1);
}

/* The certificates are good, the signature is not. */
TEST_F(clock, behind_by_two_hours_at_boot)
{
	boot(self, -7200);
	DEVICE_AWAIT(&self->device, device_info(&self->device).state == LINK_WAITING);
	EXPECT_CONTAINS(device_info(&self->device).last_error, "and this machine's clock");
	EXPECT_GE(device_info(&self->device).retry_in_ns, 9 * NSEC_PER_SEC);
	/* A little: nothing that matters. */
	clock_set(self, -7190);
	EXPECT_GE(device_info(&self->device).retry_in_ns, 8 * NSEC_PER_SEC);
	clock_set(self, 0);
	DEVICE_AWAIT(&self->device, self->device.n_online == 1);
}

TEST_F(clock, set_while_connected)
{
	boot(self, -600);
	DEVICE_AWAIT(&self->device, self->device.n_online == 1);
	clock_set(self, -599);
	EXPECT_EQ(device_info(&self->device).n_renewals, 0u);
	clock_set(self, 0);
	expect_log_lines(self, "this machine's clock was set: signing anew", 1);
	DEVICE_AWAIT(&self->device, device_info(&self->device).n_renewals == 1);
	/* Once a jump. */
	clock_set(self, 0);
	EXPECT_TRUE(!mqtt_session_is_authenticating(self->device.link->session));
	/* While the answer is under way. */
	clock_set(self, -300);
	EXPECT_TRUE(mqtt_session_is_authenticating(self->device.link->session));
	clock_set(self, 0);
	DEVICE_AWAIT(&self->device, device_info(&self->device).n_renewals == 3);
	EXPECT_EQ(self->device.n_online, 1u);
	EXPECT_STREQ(device_info(&self->device).last_error, "");
}

/* A jump after which the hub cannot accept us ends in slow attempts, and the next one in a connection. */
TEST_F(clock, set_wrong_while_connected)
{
	boot(self, 0);
	DEVICE_AWAIT(&self->device, self->device.n_online == 1);
	clock_set(self, -7200);
	DEVICE_AWAIT(&self->device, device_info(&self->device).state == LINK_WAITING &&
					    device_info(&self->device).n_attempts >= 2);
	EXPECT_CONTAINS(device_info(&self->device).last_error, "and this machine's clock");
	clock_set(self, 0);
	DEVICE_AWAIT(&self->device, self->device.n_online == 2);
}

TEST_HARNESS_MAIN
