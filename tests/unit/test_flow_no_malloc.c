/* SPDX-License-Identifier: MIT */
/*
 * The hot path allocates nothing once it is warm: opening, writing and closing a telemetry file, the queue,
 * and a session's publishes and their outcomes. The allocator's entry points are counted.
 */

#include <fcntl.h>

#include "flow/link_internal.h"
#include "flow/telemetry_internal.h"
#include "tests/support/files_line.h"
#include "tests/support/session_line.h"
#include "tools/bench/preload/allocator.h"

static uint64_t n_allocations;

bool allocator_fails(const void *caller)
{
	(void)caller;
	++n_allocations;
	return false;
}

FIXTURE(hot)
{
	struct files_line rig;
};

FIXTURE_SETUP(hot)
{
	(void)self;
	SKIP_IF(!ALLOCATOR_ASKS, "the sanitizer has an allocator of its own");
}

FIXTURE_TEARDOWN(hot)
{
	files_line_deinit(&self->rig);
}

/* All that is queued goes out and is acknowledged. */
static void drain(struct fixture_hot *self)
{
	struct telemetry *t = self->rig.telemetry;
	struct mqtt_session *session = self->rig.hub.link->session;

	files_line_turn(&self->rig);
	mqtt_session_sent(session, mqtt_session_output(session).len, loop_now_ns(self->rig.hub.loop));
	while (!list_is_empty(&t->air))
		files_line_puback(&self->rig,
				  container_of(list_first(&t->air), struct flight, link)->packet_id, 0, NULL);
}

/* What `echo` does with each file, and a writer that stays: a whole line, one in pieces, one it waits for. */
static void write_all(struct fixture_hot *self, const uint64_t *nodes, size_t n)
{
	for (size_t i = 0; i < n; ++i) {
		uint64_t fh = fuse_line_open(&self->rig.line, nodes[i], O_WRONLY), stored, sync;

		fuse_line_write(&self->rig.line, nodes[i], fh, O_WRONLY, BYTES_LIT("a line\n"));
		fuse_line_write(&self->rig.line, nodes[i], fh, O_WRONLY, BYTES_LIT("another "));
		fuse_line_write(&self->rig.line, nodes[i], fh, O_WRONLY, BYTES_LIT("in pieces\nand"));
		stored = fuse_line_write(&self->rig.line, nodes[i], fh, O_WRONLY | O_DSYNC,
					 BYTES_LIT(" more\n"));
		sync = fuse_line_fsync(&self->rig.line, nodes[i], fh);
		drain(self);
		ASSERT_EQ(fuse_line_result(&self->rig.line, stored), 0);
		ASSERT_EQ(fuse_line_result(&self->rig.line, sync), 0);
		fuse_line_release(&self->rig.line, nodes[i], fh);
	}
	drain(self);
}

/* Where a segment is needed before one is ready, it is made: that many of them, for some 10000 messages. */
#define N_MADE_MAX 16u

static void check_files(struct fixture_hot *self, bool is_durable)
{
	static const char *const names[] = {"telemetry", "telemetry.raw", "telemetry.file"};
	uint64_t nodes[ARRAY_SIZE(names)], before;
	struct telemetry_stats stats;

	files_line_init(&self->rig,
			&(struct files_line_options){.queue_bytes = 1 << 20, .is_durable = is_durable});
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		nodes[i] = fuse_line_lookup(&self->rig.line, names[i]);
	files_line_online(&self->rig, false);
	for (int i = 0; i < 500; ++i)
		write_all(self, nodes, ARRAY_SIZE(names));
	before = n_allocations;
	ASSERT_GT(before, 0u);
	for (int i = 0; i < 1000; ++i)
		write_all(self, nodes, ARRAY_SIZE(names));
	EXPECT_LE(n_allocations - before, N_MADE_MAX);
	telemetry_stats(self->rig.telemetry, &stats);
	EXPECT_EQ(stats.n_acked, stats.n_written);
	EXPECT_GT(stats.n_acked, 5000u);
}

TEST_F(hot, telemetry_files)
{
	check_files(self, false);
}

TEST_F(hot, telemetry_files_on_a_disk)
{
	check_files(self, true);
}

/* A window of messages, out and acknowledged. */
static void window(struct fixture_session *self)
{
	uint16_t ids[WINDOW] = {0};

	for (unsigned int i = 0; i < WINDOW; ++i)
		ASSERT_EQ(publish(self, i, &ids[i]), 0);
	mqtt_session_sent(self->s, mqtt_session_output(self->s).len, self->now_ns);
	for (unsigned int i = 0; i < WINDOW; ++i)
		puback(self, ids[i]);
	expect_told(self, "puback 0 00;puback 1 00;puback 2 00;puback 3 00;");
}

TEST_F(session, publishes)
{
	uint64_t before;

	SKIP_IF(!ALLOCATOR_ASKS, "the sanitizer has an allocator of its own");
	online(self);
	for (int i = 0; i < 10; ++i)
		window(self);
	before = n_allocations;
	for (int i = 0; i < 1000; ++i)
		window(self);
	EXPECT_EQ(n_allocations - before, 0u);
}

TEST_HARNESS_MAIN
