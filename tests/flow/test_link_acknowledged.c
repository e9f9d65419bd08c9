/* SPDX-License-Identifier: MIT */
/*
 * Waiting until the hub's machine has what was sent, against an emulator in a process of its own. The link runs in
 * the test; what it sends are responses to calls the hub does not know, which it ignores.
 */

#include <errno.h>

#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/device.h"

#define PAYLOAD_SIZE 100000

/* Somebody who waits. */
struct waiter {
	struct link_delivery_wait wait; /* first: the callback gets it */
	unsigned int n;
	int error;
	unsigned int order; /* among all that were told */
	unsigned int *n_told;
};

FIXTURE(acknowledged)
{
	struct lab lab;
	struct device device;
	unsigned int n_told;
	bool flood; /* use all the room there is */
	uint64_t n_flooded;
};

#define AWAIT(condition) DEVICE_AWAIT(&self->device, condition)

static int send_response(struct device *d, size_t len)
{
	static const uint8_t payload[PAYLOAD_SIZE];

	return link_respond(d->link, BYTES_LIT("nobody"), 200, BYTES(payload, len));
}

static void on_writable(struct device *d)
{
	struct fixture_acknowledged *self = container_of(d, struct fixture_acknowledged, device);

	while (self->flood && send_response(d, PAYLOAD_SIZE) == 0)
		++self->n_flooded;
}

static void on_acknowledged(struct link_delivery_wait *wait, int error)
{
	struct waiter *w = container_of(wait, struct waiter, wait);

	++w->n;
	w->error = error;
	w->order = ++*w->n_told;
}

static int await(struct fixture_acknowledged *self, struct waiter *w)
{
	*w = (struct waiter){.wait.on_acknowledged = on_acknowledged, .n_told = &self->n_told};
	link_delivery_wait_init(&w->wait);
	return link_await_acknowledged(self->device.link, &w->wait);
}

FIXTURE_SETUP(acknowledged)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_configure(&self->lab, NULL);
	device_init(&self->device, &self->lab);
	self->device.on_writable = on_writable;
	device_start(&self->device);
}

FIXTURE_TEARDOWN(acknowledged)
{
	device_show_logs(&self->lab);
	if (!test_is_orphan())
		device_deinit(&self->device);
	lab_deinit(&self->lab);
}

/* --- examples --------------------------------------------------------------------------------- */

TEST_F(acknowledged, who_waits_is_told_in_order)
{
	struct waiter before, first, second, nothing, cancelled;

	EXPECT_EQ(await(self, &before), -ENOTCONN);
	AWAIT(self->device.n_online);
	ASSERT_EQ(send_response(&self->device, 10), 0);
	ASSERT_EQ(await(self, &first), 0);
	ASSERT_EQ(await(self, &cancelled), 0);
	ASSERT_EQ(send_response(&self->device, PAYLOAD_SIZE), 0);
	ASSERT_EQ(await(self, &second), 0);
	/* Never from inside the call. */
	EXPECT_EQ(self->n_told, 0u);
	link_await_cancel(self->device.link, &cancelled.wait);
	link_await_cancel(self->device.link, &cancelled.wait);
	AWAIT(second.n);
	EXPECT_EQ(first.error, 0);
	EXPECT_EQ(second.error, 0);
	EXPECT_EQ(first.order, 1u);
	EXPECT_EQ(second.order, 2u);
	/* With nothing new on its way. */
	ASSERT_EQ(await(self, &nothing), 0);
	AWAIT(nothing.n);
	EXPECT_EQ(nothing.error, 0);
	EXPECT_EQ(first.n + second.n + nothing.n, 3u);
	EXPECT_EQ(cancelled.n + before.n, 0u);
}

TEST_F(acknowledged, it_works_while_the_way_is_always_full)
{
	struct waiter w;

	AWAIT(self->device.n_online);
	self->flood = true;
	link_kick(self->device.link);
	for (int i = 0; i < 20; ++i) {
		AWAIT(send_response(&self->device, 10) == 0);
		ASSERT_EQ(await(self, &w), 0);
		AWAIT(w.n);
		EXPECT_EQ(w.error, 0);
	}
	EXPECT_GT(self->n_flooded, 20u);
	EXPECT_EQ(self->device.n_offline, 0u);
}

TEST_F(acknowledged, a_connection_that_ends_first_says_so)
{
	struct waiter first, second;

	AWAIT(self->device.n_online);
	/* A hub that does not read: its machine takes some, and no more. */
	ASSERT_EQ(kill(self->lab.emulator, SIGSTOP), 0);
	self->flood = true;
	do {
		self->n_flooded = 0;
		link_kick(self->device.link);
		ASSERT_EQ(loop_turn(self->device.loop, 20 * NSEC_PER_MSEC), 0);
	} while (self->n_flooded);
	ASSERT_EQ(await(self, &first), 0);
	ASSERT_EQ(await(self, &second), 0);
	for (int i = 0; i < 20; ++i)
		ASSERT_EQ(loop_turn(self->device.loop, 5 * NSEC_PER_MSEC), 0);
	EXPECT_EQ(self->n_told, 0u);
	self->flood = false;
	lab_stop_emulator(&self->lab, SIGKILL);
	AWAIT(self->device.n_offline);
	AWAIT(first.n && second.n);
	EXPECT_EQ(first.error, -ECONNRESET);
	EXPECT_EQ(second.error, -ECONNRESET);
	EXPECT_EQ(first.order, 1u);
	EXPECT_EQ(self->n_told, 2u);
}

TEST_HARNESS_MAIN
