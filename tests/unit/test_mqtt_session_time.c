/* SPDX-License-Identifier: MIT */
/*
 * The client session over time: keep-alive, messages from the hub and their answers, and that it does not
 * matter in which pieces the input comes.
 */

#include "tests/support/session_line.h"

/* --- keep-alive ------------------------------------------------------------------------------- */

static void tick(struct fixture_session *self)
{
	mqtt_session_tick(self->s, self->now_ns);
}

/* The deadline is @s after now; nothing happens a nanosecond before. */
static void expect_deadline(struct fixture_session *self, double s)
{
	uint64_t at_ns = self->now_ns + (uint64_t)(s * (double)NSEC_PER_SEC);

	EXPECT_EQ(mqtt_session_deadline_ns(self->s), at_ns);
	mqtt_session_tick(self->s, at_ns - 1);
	expect_told(self, "");
	expect_no_packet(self);
}

/* The deadline has come. */
static void await_deadline(struct fixture_session *self)
{
	self->now_ns = mqtt_session_deadline_ns(self->s);
	tick(self);
}

TEST_F(session, ping_after_silence)
{
	online(self);
	expect_deadline(self, 10);
	await_deadline(self);
	expect_packet(self, MQTT_PINGREQ);
	expect_no_packet(self);
	expect_deadline(self, 5);
	pass_s(self, 4);
	input(self, "d0 00");
	/* Six seconds after the ping was sent and ten after the answer. */
	expect_deadline(self, 6);
	await_deadline(self);
	expect_packet(self, MQTT_PINGREQ);
	expect_told(self, "");
}

TEST_F(session, ping_after_silence_in_one_direction)
{
	uint16_t id = 0;

	/* The hub sends and we do not: it counts what we send. */
	online(self);
	pass_s(self, 9);
	input(self, "30 | ('a') []");
	expect_told(self, "publish a 0;");
	expect_deadline(self, 1);
	await_deadline(self);
	expect_packet(self, MQTT_PINGREQ);
	mqtt_session_lost(self->s);

	/* We send and the hub does not: only an answer shows that it gets there. */
	online(self);
	pass_s(self, 9);
	ASSERT_EQ(publish(self, 1, &id), 0);
	flush(self);
	expect_packet(self, MQTT_PUBLISH);
	expect_deadline(self, 1);
	await_deadline(self);
	expect_packet(self, MQTT_PINGREQ);
	expect_deadline(self, 5);
	await_deadline(self);
	expect_told(self, "error 80;");
	expect_disconnect(self, MQTT_REASON_UNSPECIFIED_ERROR);
	EXPECT_EQ(state(self), MQTT_SESSION_ENDED);
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), TIME_NEVER);
	mqtt_session_tick(self->s, TIME_NEVER - 1);
	expect_told(self, "");
}

TEST_F(session, any_byte_shows_that_the_hub_is_there)
{
	online(self);
	await_deadline(self);
	expect_packet(self, MQTT_PINGREQ);
	pass_s(self, 4);
	input(self, "30");
	pass_s(self, 4);
	tick(self);
	expect_told(self, "");
	mqtt_session_input(self->s, BYTES(NULL, 0), self->now_ns);
	/* No bytes are no sign of life: dead 15 s after the last one. */
	pass_s(self, 2);
	tick(self);
	expect_packet(self, MQTT_PINGREQ);
	expect_deadline(self, 9);
	await_deadline(self);
	expect_told(self, "error 80;");
}

TEST_F(session, one_ping_at_a_time_while_nothing_can_be_sent)
{
	struct bytes out;

	/* The connection takes nothing, the hub keeps talking: no heap of pings. */
	online(self);
	for (int i = 0; i < 100; ++i) {
		pass_s(self, 1);
		input(self, "d0 00");
		tick(self);
		tick(self);
	}
	out = mqtt_session_output(self->s);
	EXPECT_LE(out.len, 20u);
	EXPECT_GT(out.len, 0u);
}

TEST_F(session, keep_alive_of_the_server)
{
	connect_with(self, "20 | 00 00 [ 13 0004 ]");
	expect_deadline(self, 4);
	await_deadline(self);
	expect_packet(self, MQTT_PINGREQ);
	expect_deadline(self, 2);
	mqtt_session_lost(self->s);
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), TIME_NEVER);

	connect_with(self, "20 | 00 00 [ 13 0000 ]");
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), TIME_NEVER);
	pass_s(self, 100000);
	tick(self);
	expect_told(self, "");
	expect_no_packet(self);
}

TEST_F(session, no_keep_alive)
{
	start(self, 0);
	input(self, CONNACK);
	expect_told(self, "connack 00;");
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), TIME_NEVER);
}

TEST_F(session, connack_never_comes)
{
	static const struct {
		uint16_t keep_alive_s;
		double wait_s;
	} cases[] = {{KEEP_ALIVE_S, 15}, {0, 30}, {20, 30}, {1000, 30}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); ++i) {
		start(self, cases[i].keep_alive_s);
		expect_deadline(self, cases[i].wait_s);
		await_deadline(self);
		expect_told(self, "error 80;");
		/* 3.1.0: before CONNACK there is nothing to say. */
		expect_no_packet(self);
		EXPECT_EQ(state(self), MQTT_SESSION_ENDED);
		mqtt_session_lost(self->s);
	}
	/* Half a CONNACK does not make it longer. */
	start(self, 20);
	pass_s(self, 29);
	input(self, "20 03 00");
	expect_deadline(self, 1);
	await_deadline(self);
	expect_told(self, "error 80;");
}

/* --- messages from the hub -------------------------------------------------------------------- */

TEST_F(session, unanswered_messages_are_bounded)
{
	online(self);
	input(self, "32 | ('a') 0001 []");
	input(self, "32 | ('a') 0002 []");
	input(self, "30 | ('a') []");
	expect_told(self, "publish a 1;publish a 2;publish a 0;");
	ASSERT_EQ(mqtt_session_puback(self->s, 2, 0, BYTES(NULL, 0)), 0);
	expect_packet(self, MQTT_PUBACK);
	EXPECT_EQ(self->packet.ack.packet_id, 2);
	EXPECT_EQ(self->packet.ack.reason, 0);
	input(self, "32 | ('a') 0003 []");
	expect_told(self, "publish a 3;");
	input(self, "32 | ('a') 0004 []");
	expect_told(self, "error 93;");
	expect_disconnect(self, MQTT_REASON_RECEIVE_MAXIMUM_EXCEEDED);
	mqtt_session_lost(self->s);

	/* The count is the connection's. */
	online(self);
	input(self, "32 | ('a') 0001 []");
	input(self, "32 | ('a') 0002 []");
	expect_told(self, "publish a 1;publish a 2;");
}

TEST_F(session, answers)
{
	static const uint8_t status[] = "\x26\x00\x06status\x00\x04"
					"0603";
	static uint8_t large[8192];

	memset(large, 'v', sizeof(large));
	memcpy(large, "\x26\x00\x01k\x1f\xfa", 6);
	online(self);
	input(self, "32 | ('a') 0001 []");
	expect_told(self, "publish a 1;");
	ASSERT_EQ(mqtt_session_puback(self->s, 1, 0x83, BYTES(status, sizeof(status) - 1)), 0);
	expect_packet(self, MQTT_PUBACK);
	EXPECT_EQ(self->packet.ack.reason, 0x83);
	EXPECT_EQ(self->packet.properties.repeatable.len, sizeof(status) - 1);
	/* Once, and only what is there to be answered. */
	EXPECT_EQ(mqtt_session_puback(self->s, 1, 0, BYTES(NULL, 0)), -ENOENT);
	EXPECT_EQ(mqtt_session_puback(self->s, 0, 0, BYTES(NULL, 0)), -ENOENT);
	input(self, "32 | ('a') 0002 []");
	EXPECT_EQ(mqtt_session_puback(self->s, 2, 0, BYTES(large, sizeof(large))), -EMSGSIZE);
	EXPECT_EQ(mqtt_session_puback(self->s, 2, 0, BYTES(NULL, 0)), 0);
	expect_told(self, "publish a 2;");
	expect_packet(self, MQTT_PUBACK);
	expect_no_packet(self);
	mqtt_session_lost(self->s);

	/* 3.2.2.3.6: not larger than the hub takes. */
	connect_with(self, "20 | 00 00 [ 27 00000008 ]");
	input(self, "32 | ('a') 0001 []");
	EXPECT_EQ(mqtt_session_puback(self->s, 1, 0x83, BYTES(status, sizeof(status) - 1)), -EMSGSIZE);
	expect_no_packet(self);
	EXPECT_EQ(mqtt_session_puback(self->s, 1, 0x83, BYTES(NULL, 0)), 0);
	expect_packet(self, MQTT_PUBACK);
}

TEST_F(session, answers_nobody_takes_are_bounded)
{
	int r = 0;

	connect_with(self, "20 | 00 00 [ 27 00001000 ]");
	for (unsigned int i = 0; i < 1000000 && !r; ++i) {
		input(self, "32 | ('a') 0001 []");
		forget_told(self);
		r = mqtt_session_puback(self->s, 1, 0, BYTES(NULL, 0));
	}
	EXPECT_EQ(r, -ENOBUFS);
	EXPECT_LT(mqtt_session_output(self->s).len, 2 * (size_t)MQTT_SESSION_OUTPUT_SOFT_MAX);
}

/* --- any split of the input ------------------------------------------------------------------- */

/* A connection's worth of input with two messages of ours in the air; the last packet is a mistake. */
static const char conversation[] = "20 0c 00 00 09 21 0004 22 0001 13 0020"
				   "30 06 00 01 61 00 78 79"
				   "32 0a 00 03 616263 00 09 00 78 79"
				   "40 02 00 01"
				   "d0 00"
				   "40 04 00 02 97 00"
				   "32 06 00 01 61 00 0a 00"
				   "90 04 00 01 00 00";
static const char conversation_told[] = "connack 00;publish a 0;publish abc 9;puback 1 00;puback 2 97;"
					"publish a 10;error 82;";

/* Feeds the conversation in pieces that end where @cut says. */
static void converse(struct fixture_session *self, bool (*cut)(size_t at, size_t arg), size_t arg)
{
	uint8_t bytes[256];
	struct bytes all = wire_text(conversation, bytes, sizeof(bytes));
	uint16_t ids[2] = {0};
	size_t from = 0;

	mqtt_session_lost(self->s);
	mqtt_session_forget(self->s);
	start(self, KEEP_ALIVE_S);
	for (size_t i = 1; i <= all.len; ++i) {
		uint8_t piece[256];

		if (i < all.len && !cut(i, arg))
			continue;
		/* A copy that is gone afterwards: nothing may be borrowed from it. */
		memcpy(piece, all.data + from, i - from);
		mqtt_session_input(self->s, BYTES(piece, i - from), self->now_ns);
		memset(piece, 0xee, sizeof(piece));
		from = i;
		for (unsigned int k = 0; k < 2; ++k)
			if (!ids[k] && mqtt_session_state(self->s) == MQTT_SESSION_ONLINE)
				ASSERT_EQ(publish(self, k + 1, &ids[k]), 0);
	}
	expect_packet(self, MQTT_PUBLISH);
	expect_packet(self, MQTT_PUBLISH);
	expect_disconnect(self, MQTT_REASON_PROTOCOL_ERROR);
	expect_told(self, conversation_told);
}

/* CONNACK has 14 bytes: a cut there, so that the messages are in the air before their PUBACK. */
static bool cut_once(size_t at, size_t arg)
{
	return at == 14 || at == arg;
}

static bool cut_each(size_t at, size_t arg)
{
	return at == 14 || at % arg == 0;
}

static bool cut_at_random(size_t at, size_t arg)
{
	return at == 14 || test_random() % arg == 0;
}

TEST_F(session, any_split_of_the_input_is_the_same)
{
	for (size_t i = 1; i < 64; ++i) {
		converse(self, cut_once, i);
		converse(self, cut_each, i);
	}
	for (size_t i = 0; i < 200; ++i)
		converse(self, cut_at_random, 2 + i % 10);
}

TEST_HARNESS_MAIN
