/* SPDX-License-Identifier: MIT */
/*
 * The way of messages to a hub that is the test: order, priorities, refusals, lost connections, and what leaves the
 * queue on other ways.
 */

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/telemetry_internal.h"
#include "tests/support/files_line.h"

#define QUEUE_BYTES (1 << 20)

FIXTURE(telemetry)
{
	struct files_line rig;
	uint64_t raw; /* telemetry.raw of the default channel */
};

static void rig(struct fixture_telemetry *self, const struct files_line_options *options)
{
	files_line_init(&self->rig, options);
	self->raw = fuse_line_lookup(&self->rig.line, "telemetry.raw");
}

FIXTURE_SETUP(telemetry)
{
	rig(self, &(struct files_line_options){.queue_bytes = QUEUE_BYTES, .run = 7});
}

FIXTURE_TEARDOWN(telemetry)
{
	files_line_deinit(&self->rig);
}

static void echo(struct fixture_telemetry *self, const char *text)
{
	ASSERT_EQ(files_line_echo(&self->rig, self->raw, text), 0);
}

/* To a channel of its own. */
static uint64_t raw_of(struct fixture_telemetry *self, const char *channel)
{
	return files_line_lookup(&self->rig, channel, "telemetry.raw");
}

static uint64_t open_raw(struct fixture_telemetry *self)
{
	return fuse_line_open(&self->rig.line, self->raw, O_WRONLY);
}

/* The file's id is another one while requests wait. */
static void look_again(struct fixture_telemetry *self)
{
	self->raw = fuse_line_lookup(&self->rig.line, "telemetry.raw");
}

/* Turns the loop until the hub gets something. */
static void turn_until_sent(struct fixture_telemetry *self, uint64_t n)
{
	struct telemetry_stats stats;

	do {
		ASSERT_EQ(loop_turn(self->rig.hub.loop, TIME_NEVER), 0);
		telemetry_stats(self->rig.telemetry, &stats);
	} while (stats.n_sent < n);
}

/* --- order ------------------------------------------------------------------------------------ */

TEST_F(telemetry, messages_go_out_in_order)
{
	uint16_t ids[3];

	echo(self, "1");
	echo(self, "2");
	files_line_online(&self->rig, false);
	echo(self, "3");
	for (int i = 0; i < 3; ++i)
		ids[i] = files_line_expect(&self->rig, (const char *[]){"1", "2", "3"}[i], true);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(files_line_n_queued(&self->rig), 3u);
	/* In any order. */
	files_line_puback(&self->rig, ids[2], 0, NULL);
	files_line_puback(&self->rig, ids[0], 0, NULL);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
	EXPECT_EQ(self->rig.n_empty, 0u);
	files_line_puback(&self->rig, ids[1], 0, NULL);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_GT(self->rig.n_empty, 0u);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(telemetry, a_higher_priority_overtakes_a_backlog)
{
	struct channel *fast = files_line_add(&self->rig, "fast"), *slow = files_line_add(&self->rig, "slow");

	ASSERT_EQ(channel_set_priority(fast, 0), 0);
	ASSERT_EQ(channel_set_priority(slow, 9), 0);
	ASSERT_EQ(files_line_echo(&self->rig, raw_of(self, "slow"), "s1"), 0);
	echo(self, "m1");
	ASSERT_EQ(files_line_echo(&self->rig, raw_of(self, "fast"), "f1"), 0);
	echo(self, "m2");
	ASSERT_EQ(files_line_echo(&self->rig, raw_of(self, "fast"), "f2"), 0);
	ASSERT_EQ(files_line_echo(&self->rig, raw_of(self, "slow"), "s2"), 0);
	files_line_online(&self->rig, false);
	for (const char *const *p = (const char *[]){"f1", "f2", "m1", "m2", "s1", "s2", NULL}; *p; ++p)
		files_line_expect(&self->rig, *p, false);
	EXPECT_EQ(fast->stats.n_acked, 2u);
	EXPECT_EQ(slow->stats.n_appended, 2u);
}

TEST_F(telemetry, one_order_over_the_channels_of_a_priority)
{
	files_line_add(&self->rig, "other");
	for (int i = 0; i < 10; ++i) {
		char text[8];

		snprintf(text, sizeof(text), "%d", i);
		ASSERT_EQ(files_line_echo(&self->rig, i % 2 ? raw_of(self, "other") : self->raw, text), 0);
	}
	files_line_online(&self->rig, false);
	for (int i = 0; i < 10; ++i) {
		char text[8];

		snprintf(text, sizeof(text), "%d", i);
		files_line_expect(&self->rig, text, false);
	}
}

static void check_lost_connection(struct fixture_telemetry *self, bool session_present)
{
	struct mqtt_packet packet;
	uint16_t ids[4];

	files_line_online(&self->rig, false);
	for (int i = 0; i < 4; ++i) {
		const char *text = (const char *[]){"1", "2", "3", "4"}[i];

		echo(self, text);
		ids[i] = files_line_expect(&self->rig, text, true);
	}
	files_line_puback(&self->rig, ids[1], 0, NULL);
	files_line_offline(&self->rig);
	echo(self, "5");
	files_line_online(&self->rig, session_present);
	for (const char *const *p = (const char *[]){"1", "3", "4", "5", NULL}; *p; ++p) {
		ASSERT_TRUE(files_line_next(&self->rig, &packet));
		EXPECT_TRUE(bytes_equal_str(packet.publish.payload, *p));
		EXPECT_EQ((int)packet.publish.dup, session_present && **p != '5');
		if (session_present && **p != '5')
			EXPECT_EQ(packet.publish.packet_id, ids[**p - '1']);
		files_line_puback(&self->rig, packet.publish.packet_id, 0, NULL);
	}
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_retried, 3u);
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_acked, 5u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

TEST_F(telemetry, a_lost_connection_repeats_what_was_in_the_air_in_order)
{
	check_lost_connection(self, false);
}

TEST_F(telemetry, with_the_hubs_session_too)
{
	check_lost_connection(self, true);
}

TEST_F(telemetry, a_full_window_survives_a_lost_connection)
{
	char text[8];

	for (unsigned int i = 0; i < 3 * LINK_WINDOW_MAX; ++i) {
		snprintf(text, sizeof(text), "%u", i);
		echo(self, text);
	}
	files_line_online(&self->rig, false);
	for (unsigned int i = 0; i < LINK_WINDOW_MAX; ++i) {
		snprintf(text, sizeof(text), "%u", i);
		files_line_expect(&self->rig, text, true);
	}
	files_line_expect_none(&self->rig);
	files_line_offline(&self->rig);
	files_line_online(&self->rig, true);
	for (unsigned int i = 0; i < 3 * LINK_WINDOW_MAX; ++i) {
		snprintf(text, sizeof(text), "%u", i);
		files_line_expect(&self->rig, text, false);
	}
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

/* --- refusals --------------------------------------------------------------------------------- */

TEST_F(telemetry, what_was_refused_goes_before_what_is_new)
{
	struct channel *fast = files_line_add(&self->rig, "fast");
	uint16_t ids[3];

	ASSERT_EQ(channel_set_priority(fast, 0), 0);
	files_line_online(&self->rig, false);
	for (int i = 0; i < 3; ++i) {
		echo(self, (const char *[]){"1", "2", "3"}[i]);
		ids[i] = files_line_expect(&self->rig, (const char *[]){"1", "2", "3"}[i], true);
	}
	/* The later one first. */
	files_line_puback(&self->rig, ids[1], 0x97, "0501");
	files_line_puback(&self->rig, ids[0], 0x97, "0501");
	files_line_puback(&self->rig, ids[2], 0, NULL);
	echo(self, "4");
	ASSERT_EQ(files_line_echo(&self->rig, raw_of(self, "fast"), "f"), 0);
	files_line_expect_none(&self->rig);
	turn_until_sent(self, 4);
	for (const char *const *p = (const char *[]){"f", "1", "2", "4", NULL}; *p; ++p)
		files_line_expect(&self->rig, *p, false);
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_retried, 2u);
}

TEST_F(telemetry, a_final_refusal_is_told_with_the_message)
{
	struct channel *channel = files_line_default(&self->rig);
	uint64_t fh = open_raw(self), sync;
	uint16_t id;

	files_line_online(&self->rig, false);
	fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY, BYTES_LIT("bad"));
	sync = fuse_line_fsync(&self->rig.line, self->raw, fh);
	id = files_line_expect(&self->rig, "bad", true);
	files_line_puback(&self->rig, id, 0x83, "0100");
	EXPECT_EQ(self->rig.n_rejected, 1u);
	EXPECT_STREQ(self->rig.rejected, "bad");
	EXPECT_STREQ(self->rig.reason, "Bad Request (0100)");
	EXPECT_EQ(channel->stats.n_rejected, 1u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_EQ(fuse_line_result(&self->rig.line, sync), -EINVAL);
}

TEST_F(telemetry, a_message_appended_again_has_the_properties_it_had)
{
	struct channel *channel = files_line_default(&self->rig);
	struct mqtt_packet packet;
	struct bytes id;
	uint8_t bytes[64];
	struct writer w = writer_init(bytes, sizeof(bytes));

	mqtt_user_property_put(&w, BYTES_LIT("message-id"), BYTES_LIT("old"));
	ASSERT_EQ(telemetry_append_again(self->rig.telemetry, channel, writer_bytes(&w), BYTES_LIT("again")),
		  0);
	files_line_online(&self->rig, false);
	ASSERT_TRUE(files_line_next(&self->rig, &packet));
	ASSERT_TRUE(mqtt_user_property_find(packet.properties.repeatable, "message-id", &id));
	EXPECT_TRUE(bytes_equal_str(id, "old"));
}

/* --- the hub ends the connection for a message's sake ------------------------------------------ */

/* The hub ends the connection for the message `bad` whenever it gets it; it acknowledges others late, or at once.
 * Returns how often it did. */
static unsigned int hub_dislikes(struct fixture_telemetry *self, uint8_t reason, const char *status,
				 bool at_once)
{
	unsigned int n = 0;

	for (bool ended = true; ended;) {
		uint16_t ids[64];
		size_t n_ids = 0;
		struct mqtt_packet packet;

		ended = false;
		files_line_online(&self->rig, true);
		while (!ended && files_line_next(&self->rig, &packet)) {
			ended = packet.publish.payload.data[0] == 'b';
			if (!ended && at_once)
				files_line_puback(&self->rig, packet.publish.packet_id, 0, NULL);
			else if (!ended)
				ids[n_ids++] = packet.publish.packet_id;
			/* Nothing more comes: then the acknowledgements do. */
			if (!ended && !at_once && n_ids == 1 && self->rig.telemetry->careful)
				files_line_puback(&self->rig, ids[--n_ids], 0, NULL);
		}
		if (ended) {
			files_line_disconnect(&self->rig, reason, status);
			++n;
		}
		while (!ended && n_ids > 0)
			files_line_puback(&self->rig, ids[--n_ids], 0, NULL);
	}
	return n;
}

static void check_disliked(struct fixture_telemetry *self, uint8_t reason, const char *status, bool at_once)
{
	for (const char *const *p = (const char *[]){"1", "2", "bad", "3", "4", NULL}; *p; ++p)
		echo(self, *p);
	EXPECT_LE(hub_dislikes(self, reason, status, at_once), 4u);
	EXPECT_EQ(self->rig.n_rejected, 1u);
	EXPECT_STREQ(self->rig.rejected, "bad");
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_acked, 4u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_FALSE(self->rig.telemetry->careful && self->rig.telemetry->n_resend);
}

TEST_F(telemetry, a_message_that_ends_connections_is_rejected)
{
	check_disliked(self, MQTT_REASON_PACKET_TOO_LARGE, NULL, true);
	EXPECT_STREQ(self->rig.reason, "ends the connection: Packet Too Large (reason 149)");
}

TEST_F(telemetry, and_only_that_one_when_acknowledgements_are_late)
{
	check_disliked(self, MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR, "0100", false);
}

TEST_F(telemetry, a_hub_that_is_busy_blames_no_message)
{
	echo(self, "1");
	for (int i = 0; i < 10; ++i) {
		files_line_online(&self->rig, true);
		files_line_expect(&self->rig, "1", true);
		files_line_disconnect(&self->rig, MQTT_REASON_SERVER_BUSY, NULL);
	}
	EXPECT_EQ(self->rig.n_rejected, 0u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
}

/* --- drop-oldest ------------------------------------------------------------------------------ */

#define BLOCK (16 * 1024)

static char block[BLOCK];

/* Writes blocks that begin with a number each, from @first on, until the queue is full. Returns the number of the
 * first that was refused. */
static unsigned int fill(struct fixture_telemetry *self, uint64_t node, unsigned int first, int error)
{
	uint64_t fh = fuse_line_open(&self->rig.line, node, O_WRONLY);
	int r = 0;

	for (; !r; ++first) {
		memset(block, ' ', sizeof(block));
		snprintf(block, 8, "%u", first);
		r = fuse_line_result(&self->rig.line, fuse_line_write(&self->rig.line, node, fh, O_WRONLY,
								      BYTES(block, sizeof(block))));
	}
	EXPECT_EQ(r, error);
	fuse_line_release(&self->rig.line, node, fh);
	return first - 1;
}

static int write_block(struct fixture_telemetry *self, uint64_t node, unsigned int number)
{
	uint64_t fh = fuse_line_open(&self->rig.line, node, O_WRONLY);
	int r;

	memset(block, ' ', sizeof(block));
	snprintf(block, 8, "%u", number);
	r = fuse_line_result(&self->rig.line, fuse_line_write(&self->rig.line, node, fh, O_WRONLY,
							      BYTES(block, sizeof(block))));
	fuse_line_release(&self->rig.line, node, fh);
	return r;
}

static void expect_block(struct fixture_telemetry *self, unsigned int number, bool keep)
{
	struct mqtt_packet packet;

	ASSERT_TRUE(files_line_next(&self->rig, &packet));
	ASSERT_EQ(packet.publish.payload.len, sizeof(block));
	ASSERT_EQ(strtoul((const char *)packet.publish.payload.data, NULL, 10), number);
	if (!keep)
		files_line_puback(&self->rig, packet.publish.packet_id, 0, NULL);
}

TEST_F(telemetry, a_full_queue_is_told_once)
{
	char told[64];

	fill(self, self->raw, 0, -ENOSPC);
	EXPECT_EQ(write_block(self, self->raw, 0), -ENOSPC);
	snprintf(told, sizeof(told), "queue-full: %" PRIu64 " of %u bytes\n",
		 journal_n_bytes(self->rig.journal), QUEUE_BYTES);
	EXPECT_STREQ(self->rig.events, told);
	self->rig.events[0] = '\0';
	files_line_take(&self->rig, UINT64_MAX);
	files_line_turn(&self->rig);
	EXPECT_GT(self->rig.n_room, 0u);
	fill(self, self->raw, 0, -ENOSPC);
	EXPECT_STREQ(self->rig.events, told);
}

TEST_F(telemetry, the_oldest_of_the_channel_are_dropped)
{
	struct channel *channel = files_line_default(&self->rig),
		       *other = files_line_add(&self->rig, "other");
	unsigned int n, n_other;

	n_other = 0;
	for (; n_other < 5; ++n_other)
		ASSERT_EQ(write_block(self, raw_of(self, "other"), n_other), 0);
	n = fill(self, self->raw, 0, -ENOSPC);
	ASSERT_EQ(channel_set_when_full(channel, CHANNEL_FULL_DROP_OLDEST), 0);
	/* Another lane of the same channel: the smallest number counts. */
	ASSERT_EQ(channel_set_priority(channel, 3), 0);
	for (unsigned int i = 0; i < 10; ++i)
		ASSERT_EQ(write_block(self, self->raw, n + i), 0);
	EXPECT_EQ(channel->stats.n_dropped, 10u);
	EXPECT_EQ(other->stats.n_dropped, 0u);
	/* Not for a channel that has nothing to drop. */
	ASSERT_EQ(channel_set_when_full(other, CHANNEL_FULL_REJECT), 0);
	EXPECT_EQ(write_block(self, raw_of(self, "other"), 99), -ENOSPC);
	files_line_online(&self->rig, false);
	for (unsigned int i = 0; i < 10; ++i)
		expect_block(self, n + i, false);
	for (unsigned int i = 0; i < n_other; ++i)
		expect_block(self, i, false);
	for (unsigned int i = 10; i < n; ++i)
		expect_block(self, i, false);
	files_line_expect_none(&self->rig);
	telemetry_close(self->rig.telemetry);
	EXPECT_TRUE(strstr(self->rig.events, "dropped: 10 messages of channel default\n") != NULL);
}

TEST_F(telemetry, nothing_is_dropped_in_vain)
{
	struct channel *other = files_line_add(&self->rig, "other");

	ASSERT_EQ(files_line_echo(&self->rig, raw_of(self, "other"), "small"), 0);
	fill(self, self->raw, 0, -ENOSPC);
	ASSERT_EQ(channel_set_when_full(other, CHANNEL_FULL_DROP_OLDEST), 0);
	EXPECT_EQ(write_block(self, raw_of(self, "other"), 0), -ENOSPC);
	EXPECT_EQ(other->stats.n_dropped, 0u);
}

TEST_F(telemetry, what_is_dropped_in_the_air_has_no_outcome)
{
	struct channel *channel = files_line_default(&self->rig);
	struct telemetry_stats stats;
	struct mqtt_packet packet;
	uint16_t ids[4];

	files_line_online(&self->rig, false);
	for (unsigned int i = 0; i < 4; ++i) {
		ASSERT_EQ(write_block(self, self->raw, i), 0);
		ASSERT_TRUE(files_line_next(&self->rig, &packet));
		ids[i] = packet.publish.packet_id;
	}
	for (unsigned int i = 0; i < 2; ++i)
		EXPECT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	EXPECT_EQ(channel->stats.n_dropped, 2u);
	files_line_puback(&self->rig, ids[0], 0, NULL);
	files_line_puback(&self->rig, ids[1], 0x97, "0501");
	telemetry_stats(self->rig.telemetry, &stats);
	EXPECT_EQ(stats.n_acked, 0u);
	EXPECT_EQ(stats.n_refused, 0u);
	/* And those that wait to be sent again. */
	files_line_offline(&self->rig);
	EXPECT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	EXPECT_EQ(channel->stats.n_dropped, 3u);
	files_line_online(&self->rig, true);
	expect_block(self, 3, false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(telemetry, what_is_in_the_air_is_dropped_last)
{
	struct channel *channel = files_line_default(&self->rig);
	uint64_t fh = open_raw(self), write;
	uint16_t first;
	unsigned int n;

	files_line_online(&self->rig, false);
	write = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY | O_SYNC, BYTES_LIT("x"));
	first = files_line_expect(&self->rig, "x", true);
	look_again(self);
	/* The rest is not sent for now. */
	loop_timer_arm(self->rig.hub.loop, &self->rig.telemetry->retry,
		       loop_now_ns(self->rig.hub.loop) + 3600 * NSEC_PER_SEC);
	n = fill(self, self->raw, 0, -ENOSPC);
	ASSERT_EQ(channel_set_when_full(channel, CHANNEL_FULL_DROP_OLDEST), 0);
	for (unsigned int i = 0; i < n / 2; ++i) {
		ASSERT_EQ(write_block(self, self->raw, n + i), 0);
		files_line_turn(&self->rig);
	}
	EXPECT_EQ(channel->stats.n_dropped, n / 2);
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), FUSE_LINE_WAITS);
	files_line_puback(&self->rig, first, 0, NULL);
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), 0);
}

/* What is behind it lies on the disk as long as it does. */
TEST_F(telemetry, what_is_in_the_air_for_long_is_dropped_too)
{
	struct channel *channel = files_line_default(&self->rig);
	uint64_t fh = open_raw(self), write;
	unsigned int n;

	files_line_online(&self->rig, false);
	write = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY | O_SYNC, BYTES_LIT("x"));
	files_line_expect(&self->rig, "x", true);
	look_again(self);
	loop_timer_arm(self->rig.hub.loop, &self->rig.telemetry->retry,
		       loop_now_ns(self->rig.hub.loop) + 3600 * NSEC_PER_SEC);
	n = fill(self, self->raw, 0, -ENOSPC);
	ASSERT_EQ(channel_set_when_full(channel, CHANNEL_FULL_DROP_OLDEST), 0);
	for (unsigned int i = 0; i < 20 * n; ++i) {
		ASSERT_EQ(write_block(self, self->raw, n + i), 0);
		files_line_turn(&self->rig);
	}
	EXPECT_LE(channel->stats.n_dropped, 20 * n + 1);
	if (fuse_line_result(&self->rig.line, write) != FUSE_LINE_WAITS)
		EXPECT_EQ(fuse_line_result(&self->rig.line, write), -ETIMEDOUT);
}

/* One that was not sent goes before one of which a writer waits for the hub, and that one before those in the air. */
TEST_F(telemetry, who_waits_for_a_dropped_message_is_told)
{
	struct channel *channel = files_line_default(&self->rig);
	uint64_t fh = open_raw(self), write, sync;
	unsigned int n;

	write = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY | O_SYNC, BYTES_LIT("x"));
	look_again(self);
	n = fill(self, self->raw, 0, -ENOSPC);
	ASSERT_EQ(channel_set_when_full(channel, CHANNEL_FULL_DROP_OLDEST), 0);
	for (unsigned int i = 0; i < 2 * n; ++i) {
		ASSERT_EQ(write_block(self, self->raw, n + i), 0);
		files_line_turn(&self->rig);
	}
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), FUSE_LINE_WAITS);
	EXPECT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	while (journal_lane_n_records(channel->lane) > 1)
		ASSERT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), FUSE_LINE_WAITS);
	EXPECT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), -ENOSPC);
	EXPECT_FALSE(channel_drop_oldest(self->rig.telemetry, channel));
	/* Of what was sent nobody knows. */
	look_again(self);
	files_line_online(&self->rig, false);
	fh = open_raw(self);
	write = fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY | O_SYNC, BYTES_LIT("y"));
	sync = fuse_line_fsync(&self->rig.line, self->raw, fh);
	files_line_expect(&self->rig, "y", true);
	EXPECT_TRUE(channel_drop_oldest(self->rig.telemetry, channel));
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), -ETIMEDOUT);
	EXPECT_NE(fuse_line_result(&self->rig.line, sync), FUSE_LINE_WAITS);
}

/* --- ttl -------------------------------------------------------------------------------------- */

static void set_ttl(struct fixture_telemetry *self, uint32_t ttl_s)
{
	ASSERT_EQ(channel_set_ttl(files_line_default(&self->rig), ttl_s), 0);
}

TEST_F(telemetry, what_is_too_old_leaves_the_queue_by_itself)
{
	struct channel *channel = files_line_default(&self->rig);
	uint64_t fh = open_raw(self), sync;

	echo(self, "for ever");
	set_ttl(self, 1);
	fuse_line_write(&self->rig.line, self->raw, fh, O_WRONLY, BYTES_LIT("1"));
	echo(self, "2");
	sync = fuse_line_fsync(&self->rig.line, self->raw, fh);
	look_again(self);
	set_ttl(self, 1000);
	echo(self, "later");
	while (channel->stats.n_expired < 2)
		ASSERT_EQ(loop_turn(self->rig.hub.loop, TIME_NEVER), 0);
	EXPECT_EQ(fuse_line_result(&self->rig.line, sync), -ETIMEDOUT);
	EXPECT_EQ(files_line_n_queued(&self->rig), 2u);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "for ever", false);
	files_line_expect(&self->rig, "later", false);
	telemetry_close(self->rig.telemetry);
	EXPECT_STREQ(self->rig.events, "expired: 2 messages of channel default\n");
}

TEST_F(telemetry, what_is_too_old_is_not_sent_again)
{
	struct channel *channel = files_line_default(&self->rig);

	set_ttl(self, 1);
	files_line_online(&self->rig, false);
	echo(self, "1");
	echo(self, "2");
	files_line_expect(&self->rig, "1", true);
	files_line_expect(&self->rig, "2", true);
	files_line_offline(&self->rig);
	while (channel->stats.n_expired < 2)
		ASSERT_EQ(loop_turn(self->rig.hub.loop, TIME_NEVER), 0);
	files_line_online(&self->rig, true);
	echo(self, "3");
	files_line_expect(&self->rig, "3", false);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

TEST_F(telemetry, what_is_in_the_air_is_left_to_the_hub)
{
	struct channel *channel = files_line_default(&self->rig);
	uint16_t id;

	set_ttl(self, 1);
	files_line_online(&self->rig, false);
	echo(self, "1");
	id = files_line_expect(&self->rig, "1", true);
	/* Behind it, and not sent: the hub is asked for patience. */
	self->rig.telemetry->careful = true;
	self->rig.telemetry->n_resend++;
	echo(self, "2");
	echo(self, "3");
	while (channel->stats.n_expired < 2)
		ASSERT_EQ(loop_turn(self->rig.hub.loop, TIME_NEVER), 0);
	self->rig.telemetry->n_resend--;
	EXPECT_EQ(files_line_n_queued(&self->rig), 1u);
	files_line_puback(&self->rig, id, 0, NULL);
	EXPECT_EQ(channel->stats.n_acked, 1u);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

/* A message that was written at some time. */
static void write_at(struct fixture_telemetry *self, uint64_t time_ms)
{
	uint8_t *properties, *payload;
	uint64_t sequence;

	ASSERT_EQ(
		journal_append(files_line_default(&self->rig)->lane, 0, time_ms, 0, 1, &properties, &payload),
		0);
	*payload = '1';
	ASSERT_EQ(journal_commit(files_line_default(&self->rig)->lane, &sequence), 0);
}

/* When the clock was so far behind. */
static void write_behind(struct fixture_telemetry *self, uint64_t behind_ms)
{
	write_at(self, loop_wall_ms(self->rig.hub.loop) - behind_ms);
}

/* The clock is set by so much: as if it had been different when telemetry looked at it last. */
static void set_clock(struct fixture_telemetry *self, int64_t ms)
{
	self->rig.telemetry->clock_ms -= ms;
}

#define BEHIND_MS 1000000

TEST_F(telemetry, a_clock_that_is_set_makes_nothing_old)
{
	struct telemetry *t = self->rig.telemetry;

	self->rig.hub.log.fd = -1;
	set_ttl(self, 100);
	write_behind(self, BEHIND_MS);
	set_clock(self, BEHIND_MS);
	echo(self, "2");
	EXPECT_EQ(t->n_steps, 1u);
	EXPECT_EQ(t->steps[0].sequence, 1u);
	loop_timer_arm(self->rig.hub.loop, &t->expiry, 0);
	files_line_turn(&self->rig);
	/* Any number of times. */
	for (int i = 0; i < 40; ++i) {
		set_clock(self, i % 2 ? 10000 : -10000);
		EXPECT_FALSE(record_is_expired(t, &(struct journal_record){.expires_ms = INT64_MAX}));
	}
	EXPECT_EQ(t->n_steps, (unsigned int)TELEMETRY_N_STEPS);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "1", false);
	files_line_expect(&self->rig, "2", false);
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_expired, 0u);
}

TEST_F(telemetry, what_is_old_by_a_clock_that_was_not_set_expires)
{
	set_ttl(self, 100);
	write_behind(self, BEHIND_MS);
	echo(self, "2");
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "2", false);
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_expired, 1u);
}

/* A machine without a clock of its own begins in 1970; the daemon before this one wrote it then. */
TEST_F(telemetry, what_was_written_before_the_clock_was_set_is_not_old)
{
	set_ttl(self, 100);
	write_at(self, 3600 * 1000);
	/* By a clock that was right. */
	write_behind(self, BEHIND_MS);
	files_line_restart(&self->rig);
	look_again(self);
	EXPECT_LT(telemetry_age_ms(self->rig.telemetry, 1, 3600 * 1000), UINT64_C(60000));
	files_line_turn(&self->rig);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "1", false);
	files_line_expect_none(&self->rig);
	EXPECT_EQ(files_line_default(&self->rig)->stats.n_expired, 1u);
}

/* --- restarts and channels that are gone -------------------------------------------------------- */

TEST_F(telemetry, what_an_earlier_daemon_left_goes_out_first)
{
	files_line_add(&self->rig, "gone");
	echo(self, "1");
	ASSERT_EQ(files_line_echo(&self->rig, raw_of(self, "gone"), "2"), 0);
	files_line_restart(&self->rig);
	look_again(self);
	EXPECT_EQ(files_line_n_queued(&self->rig), 2u);
	echo(self, "3");
	files_line_online(&self->rig, false);
	for (const char *const *p = (const char *[]){"1", "2", "3", NULL}; *p; ++p)
		files_line_expect(&self->rig, *p, false);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
}

TEST_F(telemetry, messages_of_a_removed_channel_still_go_out)
{
	struct channel *gone = files_line_add(&self->rig, "gone");
	uint64_t node = raw_of(self, "gone"), fh = fuse_line_open(&self->rig.line, node, O_WRONLY), u;

	u = fuse_line_write(&self->rig.line, node, fh, O_WRONLY, BYTES_LIT("1"));
	EXPECT_EQ(fuse_line_result(&self->rig.line, u), 0);
	ASSERT_EQ(channels_remove(gone), 0);
	fuse_node_remove(fuse_node_find(fuse_tree_root(self->rig.tree), "gone"));
	/* Who has a file open goes on. */
	u = fuse_line_write(&self->rig.line, node, fh, O_WRONLY, BYTES_LIT("2"));
	EXPECT_EQ(fuse_line_result(&self->rig.line, u), 0);
	fuse_line_release(&self->rig.line, node, fh);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "1", false);
	files_line_expect(&self->rig, "2", false);
}

/* --- a disk that takes nothing ----------------------------------------------------------------- */

/* Files may not grow from here on, or may again. */
static void limit_files(bool limited)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = limited ? 0 : limit.rlim_max;
	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

TEST_F(telemetry, a_disk_that_takes_nothing_is_the_writers_error)
{
	uint64_t lines = fuse_line_lookup(&self->rig.line, "telemetry");

	limit_files(true);
	EXPECT_EQ(files_line_echo(&self->rig, self->raw, "1"), -ENOSPC);
	EXPECT_EQ(files_line_echo(&self->rig, lines, "1\n2\n"), -ENOSPC);
	limit_files(false);
	echo(self, "3");
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "3", false);
	files_line_expect_none(&self->rig);
}

TEST_F(telemetry, the_rest_of_a_line_waits_for_the_disk)
{
	uint64_t lines = fuse_line_lookup(&self->rig.line, "telemetry"),
		 fh = fuse_line_open(&self->rig.line, lines, O_WRONLY), u;

	u = fuse_line_write(&self->rig.line, lines, fh, O_WRONLY, BYTES_LIT("rest"));
	EXPECT_EQ(fuse_line_result(&self->rig.line, u), 0);
	limit_files(true);
	self->rig.hub.log.fd = -1;
	fuse_line_release(&self->rig.line, lines, fh);
	EXPECT_EQ(files_line_n_queued(&self->rig), 0u);
	limit_files(false);
	/* The journal tries again by itself. */
	while (!files_line_n_queued(&self->rig))
		ASSERT_EQ(loop_turn(self->rig.hub.loop, TIME_NEVER), 0);
	files_line_online(&self->rig, false);
	files_line_expect(&self->rig, "rest", false);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_HARNESS_MAIN
