/* SPDX-License-Identifier: MIT */
/*
 * The client session: every packet in every state, what CONNACK grants, messages in flight, topic aliases.
 */

#include "tests/support/session_line.h"

/* --- every packet in every state -------------------------------------------------------------- */

/*
 * A packet from the hub, and what becomes of it while CONNECTING, while ONLINE, and while ONLINE with SUBSCRIBE,
 * UNSUBSCRIBE and AUTH under way: what the owner is told, `end` when the connection is over, and the reason of
 * the DISCONNECT sent. OFFLINE and ENDED ignore
 * everything.
 */
struct row {
	const char *packet;
	const char *what;
	const char *connecting;
	const char *online;
	const char *awaiting;
};

#define ERROR(code)      "error " code "; end"
#define ERROR_SENT(code) "error " code "; end, sent " code

static const struct row rows[] = {
	{"00 | ", "reserved type 0", ERROR("81"), ERROR_SENT("81"), ERROR_SENT("81")},
	{"10 | ('MQTT') 05 02 003c [] ('dev')", "CONNECT", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"20 | 00 00 []", "CONNACK", "connack 00;", ERROR_SENT("82"), ERROR_SENT("82")},
	{"20 | 01 00 []", "CONNACK, session present", "connack 00;", ERROR_SENT("82"), ERROR_SENT("82")},
	{"20 | 00 87 []", "CONNACK that refuses", "connack 87; end", ERROR_SENT("82"), ERROR_SENT("82")},
	{"20 | 01 87 []", "CONNACK, refused with a session", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"20 | 00 00 [ 21 0000 ]", "CONNACK, Receive Maximum 0", ERROR("82"), ERROR_SENT("82"),
	 ERROR_SENT("82")},
	{"20 | 00 00 [ 27 00000000 ]", "CONNACK, no packet fits", ERROR("82"), ERROR_SENT("82"),
	 ERROR_SENT("82")},
	{"30 | ('a') [] 'x'", "PUBLISH, QoS 0", ERROR("82"), "publish a 0;", "publish a 0;"},
	{"32 | ('a') 0007 [] 'x'", "PUBLISH, QoS 1", ERROR("82"), "publish a 7;", "publish a 7;"},
	{"34 | ('a') 0007 [] 'x'", "PUBLISH, QoS 2", ERROR("82"), ERROR_SENT("83"), ERROR_SENT("83")},
	{"36 | ('a') 0007 [] 'x'", "PUBLISH, QoS 3", ERROR("81"), ERROR_SENT("81"), ERROR_SENT("81")},
	{"30 | ('a') [ 23 0001 ] 'x'", "PUBLISH, topic alias", ERROR("82"), "publish a 0;", "publish a 0;"},
	{"30 | () [ 23 0001 ] 'x'", "PUBLISH, only an alias", ERROR("82"), ERROR_SENT("82"),
	 ERROR_SENT("82")},
	{"30 | ('a') [ 23 0003 ] 'x'", "PUBLISH, alias over the maximum", ERROR("82"), ERROR_SENT("94"),
	 ERROR_SENT("94")},
	{"30 | ('a') [ 23 0000 ] 'x'", "PUBLISH, alias 0", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"30 | () [] 'x'", "PUBLISH without a topic", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"40 | 0001", "PUBACK, unknown", ERROR("82"), "", ""},
	{"40 | ffff", "PUBACK beyond the window", ERROR("82"), "", ""},
	{"50 | 0001", "PUBREC", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"62 | 0001", "PUBREL", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"70 | 0001", "PUBCOMP", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"82 | 0001 [] ('a') 00", "SUBSCRIBE", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"90 | 0005 [] 00", "SUBACK", ERROR("82"), ERROR_SENT("82"), "suback 00;"},
	{"90 | 0005 [] 87", "SUBACK, refused", ERROR("82"), ERROR_SENT("82"), "suback 87;"},
	{"90 | 0005 [] 00 00", "SUBACK for two filters", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"90 | 0006 [] 00", "SUBACK, other identifier", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"a2 | 0001 [] ('a')", "UNSUBSCRIBE", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"b0 | 0006 [] 00", "UNSUBACK", ERROR("82"), ERROR_SENT("82"), "unsuback 00;"},
	{"b0 | 0006 [] 11", "UNSUBACK, none existed", ERROR("82"), ERROR_SENT("82"), "unsuback 11;"},
	{"b0 | 0006 [] 00 00", "UNSUBACK for two filters", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"b0 | 0005 [] 00", "UNSUBACK, other identifier", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"c0 | ", "PINGREQ", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"d0 | ", "PINGRESP", ERROR("82"), "", ""},
	{"e0 | ", "DISCONNECT", "disconnect 00; end", "disconnect 00; end", "disconnect 00; end"},
	{"e0 | 8e", "DISCONNECT, taken over", "disconnect 8e; end", "disconnect 8e; end",
	 "disconnect 8e; end"},
	{"f0 | 18 [ 15 ('SAS') ]", "AUTH", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("83")},
	{"f0 | ", "AUTH, empty", ERROR("82"), ERROR_SENT("82"), "auth 00;"},
	{"f0 | 00 [ 15 ('SAS') ]", "AUTH, success", ERROR("82"), ERROR_SENT("82"), "auth 00;"},
	{"f0 | 00 [ 15 ('X509') ]", "AUTH, other method", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"f0 | 19 [ 15 ('SAS') ]", "AUTH, re-authenticate", ERROR("82"), ERROR_SENT("82"), ERROR_SENT("82")},
	{"e0 | 87", "DISCONNECT, not authorized", "disconnect 87; end", "disconnect 87; end",
	 "disconnect 87; end"},
};

static void check_reaction(struct fixture_session *self, const struct row *row, const char *want)
{
	enum mqtt_session_state before = mqtt_session_state(self->s), after;

	input(self, row->packet);
	after = mqtt_session_state(self->s);
	if (after == MQTT_SESSION_ENDED && before != after)
		tell(self, " end");
	flush(self);
	if (self->wire_at < self->wire_len) {
		expect_packet(self, MQTT_DISCONNECT);
		tell(self, ", sent %02x", self->packet.disconnect.reason);
	}
	expect_no_packet(self);
	if (strcmp(self->told, want) != 0)
		harness_fail(__FILE__, __LINE__, false, "%s: \"%s\", expected \"%s\"", row->what, self->told,
			     want);
	forget_told(self);
}

TEST_F(session, every_packet_in_every_state)
{
	bool seen[16] = {false};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		seen[strtoul(rows[i].packet, NULL, 16) >> 4] = true;
		check_reaction(self, &rows[i], "");

		start(self, KEEP_ALIVE_S);
		check_reaction(self, &rows[i], rows[i].connecting);
		mqtt_session_lost(self->s);

		online(self);
		check_reaction(self, &rows[i], rows[i].online);
		mqtt_session_lost(self->s);

		online(self);
		ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "a"), 0);
		ASSERT_EQ(subscribe(self, MQTT_UNSUBSCRIBE, "b"), 0);
		ASSERT_EQ(authenticate(self, 5), 0);
		expect_packet(self, MQTT_SUBSCRIBE);
		expect_packet(self, MQTT_UNSUBSCRIBE);
		expect_packet(self, MQTT_AUTH);
		check_reaction(self, &rows[i], rows[i].awaiting);
		mqtt_session_lost(self->s);

		start(self, KEEP_ALIVE_S);
		mqtt_session_end(self->s, 0);
		check_reaction(self, &rows[i], "");
		mqtt_session_lost(self->s);
	}
	for (size_t type = 0; type < ARRAY_SIZE(seen); ++type)
		EXPECT_TRUE(seen[type]);
}

TEST_F(session, puback_packet_identifier_zero_is_malformed)
{
	online(self);
	input(self, "40 | 0000");
	EXPECT_EQ(state(self), MQTT_SESSION_ENDED);
	EXPECT_TRUE(strncmp(self->told, "error 8", 7) == 0);
}

TEST_F(session, reasons_of_bad_input)
{
	static const struct {
		const char *text;
		uint8_t reason;
	} bad[] = {
		{"d0 80 80 80 80 01", MQTT_REASON_MALFORMED_PACKET},
		{"d0 80 00", MQTT_REASON_MALFORMED_PACKET},
		{"d0 | 00", MQTT_REASON_MALFORMED_PACKET},
		{"d1 | ", MQTT_REASON_MALFORMED_PACKET},
		{"30 41", MQTT_REASON_PACKET_TOO_LARGE},
		{"30 ff ff ff 7f", MQTT_REASON_PACKET_TOO_LARGE},
		{"30 | ('a') [ 11 00000001 ]", MQTT_REASON_MALFORMED_PACKET},
		{"30 | ('a') [ 01 00 01 00 ]", MQTT_REASON_PROTOCOL_ERROR},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		char want[32];

		snprintf(want, sizeof(want), "error %02x;", bad[i].reason);
		start(self, KEEP_ALIVE_S);
		input(self, bad[i].text);
		expect_told(self, want);
		expect_no_packet(self);
		mqtt_session_lost(self->s);

		online(self);
		input(self, bad[i].text);
		expect_told(self, want);
		expect_disconnect(self, bad[i].reason);
		mqtt_session_lost(self->s);
	}
}

TEST_F(session, nothing_after_the_end_of_a_connection)
{
	/* In one piece: what follows the packet that ended it is not looked at. */
	online(self);
	input(self, "e0 00 30 | ('a') [] 'x'");
	expect_told(self, "disconnect 00;");
	mqtt_session_lost(self->s);
	online(self);
	input(self, "50 02 00 01 40 02 00 01");
	expect_told(self, "error 82;");
	EXPECT_EQ(publish(self, 1, &(uint16_t){0}), -ENOTCONN);
	EXPECT_EQ(mqtt_session_puback(self->s, 1, 0, BYTES(NULL, 0)), -ENOTCONN);
	mqtt_session_lost(self->s);
	/* Half a packet does not reach into the next connection. */
	online(self);
	input(self, "40 02");
	mqtt_session_lost(self->s);
	online(self);
	input(self, "d0 00");
	expect_told(self, "");
	EXPECT_EQ(state(self), MQTT_SESSION_ONLINE);
}

TEST_F(session, good_bye)
{
	mqtt_session_end(self->s, 0);
	EXPECT_EQ(state(self), MQTT_SESSION_OFFLINE);
	start(self, KEEP_ALIVE_S);
	mqtt_session_end(self->s, 0);
	EXPECT_EQ(state(self), MQTT_SESSION_ENDED);
	expect_no_packet(self);
	mqtt_session_lost(self->s);
	online(self);
	mqtt_session_end(self->s, 0x04);
	mqtt_session_end(self->s, 0x04);
	EXPECT_EQ(state(self), MQTT_SESSION_ENDED);
	expect_disconnect(self, 0x04);
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), TIME_NEVER);
	expect_told(self, "");
}

/* --- CONNACK ---------------------------------------------------------------------------------- */

TEST_F(session, limits_of_connack)
{
	const struct mqtt_session_limits *l = mqtt_session_limits(self->s);

	online(self);
	EXPECT_EQ(l->receive_maximum, 65535);
	EXPECT_EQ(l->topic_alias_maximum, 0);
	EXPECT_EQ(l->keep_alive_s, KEEP_ALIVE_S);
	EXPECT_EQ(l->packet_bytes_max, UINT32_MAX);
	EXPECT_EQ(l->maximum_qos, 2);
	EXPECT_FALSE(l->session_present);
	/* 3.2.2.3.2: absent, what CONNECT asked for counts. */
	EXPECT_EQ(l->session_expiry_s, 77u);
	mqtt_session_lost(self->s);

	connect_with(self, "20 | 01 00 [ 11 00000005 13 0014 21 0003 22 0009 24 01 27 00001000 ]");
	EXPECT_EQ(l->receive_maximum, 3);
	EXPECT_EQ(l->topic_alias_maximum, 9);
	EXPECT_EQ(l->keep_alive_s, 20);
	EXPECT_EQ(l->packet_bytes_max, 4096u);
	EXPECT_EQ(l->maximum_qos, 1);
	EXPECT_TRUE(l->session_present);
	EXPECT_EQ(l->session_expiry_s, 5u);
	mqtt_session_lost(self->s);

	/* Nothing of it is left on the next connection. */
	online(self);
	EXPECT_EQ(l->receive_maximum, 65535);
	EXPECT_EQ(l->topic_alias_maximum, 0);
	EXPECT_EQ(l->keep_alive_s, KEEP_ALIVE_S);
	EXPECT_EQ(l->packet_bytes_max, UINT32_MAX);
	EXPECT_FALSE(l->session_present);
}

TEST_F(session, connect_that_cannot_be_encoded)
{
	const struct mqtt_packet connect = {
		.type = MQTT_CONNECT, .connect = {.level = MQTT_LEVEL_5, .client_id = BYTES_LIT("\xff")}};

	EXPECT_EQ(mqtt_session_start(self->s, &connect, self->now_ns), -EINVAL);
	EXPECT_EQ(state(self), MQTT_SESSION_OFFLINE);
	EXPECT_EQ(mqtt_session_output(self->s).len, 0u);
	online(self);
}

/* --- messages in flight ----------------------------------------------------------------------- */

TEST_F(session, publish_needs_a_connection)
{
	uint16_t id = 0;

	EXPECT_EQ(publish(self, 1, &id), -ENOTCONN);
	start(self, KEEP_ALIVE_S);
	EXPECT_EQ(publish(self, 1, &id), -ENOTCONN);
	EXPECT_EQ(id, 0);
	expect_no_packet(self);
}

TEST_F(session, a_message_and_its_outcome)
{
	uint16_t id = 0;

	online(self);
	ASSERT_EQ(mqtt_session_publish(self->s, BYTES_LIT("some/topic"), BYTES_LIT("\x26\x00\x01k\x00\x01v"),
				       BYTES_LIT("payload"), 99, &id),
		  0);
	expect_packet(self, MQTT_PUBLISH);
	EXPECT_EQ(self->packet.publish.qos, 1);
	EXPECT_FALSE(self->packet.publish.dup);
	EXPECT_FALSE(self->packet.publish.retain);
	EXPECT_EQ(self->packet.publish.packet_id, id);
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.topic, "some/topic"));
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.payload, "payload"));
	EXPECT_TRUE(bytes_equal(self->packet.properties.repeatable, BYTES_LIT("\x26\x00\x01k\x00\x01v")));
	expect_no_packet(self);
	puback(self, id);
	expect_told(self, "puback 99 00;");
	/* Once. */
	puback(self, id);
	expect_told(self, "");
}

TEST_F(session, refused_message)
{
	uint16_t id = 0;

	online(self);
	ASSERT_EQ(publish(self, 5, &id), 0);
	ASSERT_EQ(id, 1);
	input(self, "40 | 0001 97 [ 26 ('status') ('0501') ]");
	expect_told(self, "puback 5 97;");
}

TEST_F(session, window_is_what_both_allow)
{
	static const struct {
		const char *connack;
		unsigned int window;
	} cases[] = {
		{CONNACK, WINDOW},
		{"20 | 00 00 [ 21 0001 ]", 1},
		{"20 | 00 00 [ 21 0003 ]", 3},
		{"20 | 00 00 [ 21 ffff ]", WINDOW},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); ++i) {
		uint16_t ids[WINDOW] = {0}, one_more = 0;

		connect_with(self, cases[i].connack);
		for (unsigned int k = 0; k < cases[i].window; ++k) {
			ASSERT_EQ(publish(self, k, &ids[k]), 0);
			ASSERT_GT(ids[k], 0);
			for (unsigned int other = 0; other < k; ++other)
				EXPECT_NE(ids[k], ids[other]);
		}
		EXPECT_EQ(publish(self, 9, &one_more), -EAGAIN);
		EXPECT_EQ(one_more, 0);
		puback(self, ids[0]);
		ASSERT_EQ(publish(self, 9, &one_more), 0);
		EXPECT_EQ(one_more, ids[0]);
		mqtt_session_lost(self->s);
		mqtt_session_forget(self->s);
		forget_told(self);
	}
}

TEST_F(session, again_on_the_next_connection)
{
	uint16_t ids[3] = {0}, fresh = 0;

	online(self);
	for (unsigned int i = 0; i < 3; ++i)
		ASSERT_EQ(publish(self, 10 + i, &ids[i]), 0);
	flush(self);
	mqtt_session_lost(self->s);

	/* A smaller window this time; what is not sent again yet leaves its place to new ones or keeps it, as
	 * its owner likes, but never its identifier. */
	connect_with(self, "20 | 01 00 [ 21 0002 ]");
	ASSERT_EQ(publish(self, 10, &ids[0]), 0);
	expect_packet(self, MQTT_PUBLISH);
	EXPECT_TRUE(self->packet.publish.dup);
	EXPECT_EQ(self->packet.publish.packet_id, ids[0]);
	ASSERT_EQ(publish(self, 20, &fresh), 0);
	expect_packet(self, MQTT_PUBLISH);
	EXPECT_FALSE(self->packet.publish.dup);
	EXPECT_EQ(self->packet.publish.packet_id, fresh);
	for (unsigned int i = 0; i < 3; ++i)
		EXPECT_NE(fresh, ids[i]);
	EXPECT_EQ(publish(self, 11, &ids[1]), -EAGAIN);
	expect_no_packet(self);

	/* Not in flight on this connection: not an outcome. */
	puback(self, ids[1]);
	expect_told(self, "");
	puback(self, fresh);
	expect_told(self, "puback 20 00;");
	ASSERT_EQ(publish(self, 11, &ids[1]), 0);
	expect_packet(self, MQTT_PUBLISH);
	EXPECT_TRUE(self->packet.publish.dup);
	puback(self, ids[0]);
	ASSERT_EQ(publish(self, 12, &ids[2]), 0);
	puback(self, ids[2]);
	puback(self, ids[1]);
	expect_told(self, "puback 10 00;puback 12 00;puback 11 00;");
}

TEST_F(session, forgotten_messages_are_new_ones)
{
	uint16_t ids[WINDOW] = {0};

	online(self);
	for (unsigned int i = 0; i < WINDOW; ++i)
		ASSERT_EQ(publish(self, i, &ids[i]), 0);
	flush(self);
	mqtt_session_lost(self->s);
	start(self, KEEP_ALIVE_S);
	input(self, CONNACK);
	mqtt_session_forget(self->s);
	for (unsigned int i = 0; i < WINDOW; ++i) {
		ids[i] = 0;
		ASSERT_EQ(publish(self, 30 + i, &ids[i]), 0);
		expect_packet(self, MQTT_PUBLISH);
		EXPECT_FALSE(self->packet.publish.dup);
	}
	forget_told(self);
	puback(self, ids[3]);
	expect_told(self, "puback 33 00;");
}

TEST_F(session, dropped_message_gives_its_identifier_back)
{
	uint16_t ids[WINDOW] = {0}, fresh = 0;

	online(self);
	for (unsigned int i = 0; i < WINDOW; ++i)
		ASSERT_EQ(publish(self, i, &ids[i]), 0);
	mqtt_session_lost(self->s);
	connect_with(self, CONNACK_PRESENT);
	EXPECT_EQ(publish(self, 9, &fresh), -EAGAIN);
	mqtt_session_drop(self->s, ids[2]);
	ASSERT_EQ(publish(self, 9, &fresh), 0);
	EXPECT_EQ(fresh, ids[2]);
	expect_packet(self, MQTT_PUBLISH);
	EXPECT_FALSE(self->packet.publish.dup);
	puback(self, fresh);
	expect_told(self, "puback 9 00;");
}

TEST_F(session, packet_size_and_qos_of_the_hub)
{
	uint16_t id = 0;

	/* 1 + 1 + 2 + 1 + 2 + 1 + 9 bytes. */
	connect_with(self, "20 | 00 00 [ 27 00000011 ]");
	EXPECT_EQ(
		mqtt_session_publish(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("123456789"), 1, &id),
		0);
	id = 0;
	EXPECT_EQ(mqtt_session_publish(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("1234567890"), 1,
				       &id),
		  -EMSGSIZE);
	EXPECT_EQ(id, 0);
	expect_packet(self, MQTT_PUBLISH);
	expect_no_packet(self);
	mqtt_session_lost(self->s);
	mqtt_session_forget(self->s);

	connect_with(self, "20 | 00 00 [ 24 00 ]");
	EXPECT_EQ(publish(self, 1, &id), -EOPNOTSUPP);
	expect_no_packet(self);
	EXPECT_EQ(state(self), MQTT_SESSION_ONLINE);
}

TEST_F(session, a_message_too_large_now_keeps_its_place)
{
	uint16_t id = 0, fresh = 0;

	online(self);
	ASSERT_EQ(mqtt_session_publish(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("1234567890"), 1,
				       &id),
		  0);
	mqtt_session_lost(self->s);
	connect_with(self, "20 | 01 00 [ 27 00000010 ]");
	EXPECT_EQ(mqtt_session_publish(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("1234567890"), 1,
				       &id),
		  -EMSGSIZE);
	ASSERT_EQ(publish(self, 2, &fresh), 0);
	EXPECT_NE(fresh, id);
	mqtt_session_drop(self->s, id);
	fresh = 0;
	ASSERT_EQ(publish(self, 3, &fresh), 0);
	EXPECT_EQ(fresh, id);
}

TEST_F(session, output_soft_limit)
{
	static uint8_t payload[100 * 1024];
	uint16_t ids[WINDOW] = {0};

	online(self);
	for (unsigned int i = 0; i < 3; ++i)
		ASSERT_EQ(mqtt_session_publish(self->s, BYTES_LIT("t"), BYTES(NULL, 0),
					       BYTES(payload, sizeof(payload)), i, &ids[i]),
			  0);
	ASSERT_GE(mqtt_session_output(self->s).len, (size_t)MQTT_SESSION_OUTPUT_SOFT_MAX);
	EXPECT_EQ(publish(self, 3, &ids[3]), -EAGAIN);
	/* Part of it is taken: enough. */
	mqtt_session_sent(self->s, 100 * 1024, self->now_ns);
	EXPECT_EQ(publish(self, 3, &ids[3]), 0);
}

/* --- topic alias ------------------------------------------------------------------------------ */

/* Publishes to @topic and expects it on the wire as @want_topic with @want_alias (0 = none). */
static void check_alias(struct fixture_session *self, const char *topic, const char *want_topic,
			uint16_t want_alias)
{
	uint16_t id = 0;

	ASSERT_EQ(publish_to(self, topic, 1, &id), 0);
	expect_packet(self, MQTT_PUBLISH);
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.topic, want_topic));
	EXPECT_EQ(mqtt_has(&self->packet.properties, MQTT_PROP_TOPIC_ALIAS), want_alias != 0);
	EXPECT_EQ(self->packet.properties.topic_alias, want_alias);
	puback(self, id);
	expect_told(self, "puback 1 00;");
}

TEST_F(session, topic_alias)
{
	connect_with(self, "20 | 00 00 [ 22 0002 ]");
	check_alias(self, "a", "a", 1);
	check_alias(self, "a", "", 1);
	check_alias(self, "b", "b", 2);
	check_alias(self, "c", "c", 0);
	check_alias(self, "b", "", 2);
	check_alias(self, "a", "", 1);
	check_alias(self, "ab", "ab", 0);
	mqtt_session_lost(self->s);

	/* Aliases end with the connection. */
	connect_with(self, "20 | 01 00 [ 22 0001 ]");
	check_alias(self, "b", "b", 1);
	check_alias(self, "a", "a", 0);
	check_alias(self, "b", "", 1);
	mqtt_session_lost(self->s);
	connect_with(self, CONNACK_PRESENT);
	check_alias(self, "b", "b", 0);
	check_alias(self, "b", "b", 0);
}

TEST_F(session, topic_aliases_are_bounded)
{
	static char topics[MQTT_SESSION_ALIASES_MAX + 1][8];

	connect_with(self, "20 | 00 00 [ 22 ffff ]");
	for (unsigned int i = 0; i <= MQTT_SESSION_ALIASES_MAX; ++i) {
		snprintf(topics[i], sizeof(topics[i]), "t%u", i);
		check_alias(self, topics[i], topics[i], i < MQTT_SESSION_ALIASES_MAX ? (uint16_t)(i + 1) : 0);
	}
	check_alias(self, topics[0], "", 1);
}

TEST_F(session, no_alias_without_the_message_that_names_it)
{
	uint16_t id = 0;

	connect_with(self, "20 | 00 00 [ 22 0001 27 00000014 ]");
	EXPECT_EQ(mqtt_session_publish(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("1234567890"), 1,
				       &id),
		  -EMSGSIZE);
	check_alias(self, "t", "t", 1);
	check_alias(self, "t", "", 1);
}

TEST_HARNESS_MAIN
