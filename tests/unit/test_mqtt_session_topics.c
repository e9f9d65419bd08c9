/* SPDX-License-Identifier: MIT */
/*
 * The client session: subscriptions, messages of the hub with their aliases and late answers, messages of ours
 * that have no answer, re-authentication, and requests with their responses.
 */

#include "mqtt/requests.h"
#include "tests/support/session_line.h"

/* --- subscriptions ---------------------------------------------------------------------------- */

TEST_F(session, one_subscribe_for_all)
{
	struct mqtt_filter filter;
	size_t pos = 0;

	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "a"), -ENOTCONN);
	online(self);
	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "a,b/+,c"), 0);
	expect_packet(self, MQTT_SUBSCRIBE);
	EXPECT_GT(self->packet.subscribe.packet_id, WINDOW);
	for (size_t i = 0; i < 3; ++i) {
		ASSERT_TRUE(mqtt_filter_next(MQTT_SUBSCRIBE, self->packet.subscribe.filters, &pos, &filter));
		EXPECT_EQ(filter.options, 1);
	}
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "d"), -EBUSY);
	input(self, "90 | 0005 [] 01 8f 00");
	expect_told(self, "suback 01 8f 00;");
	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "d"), 0);
	expect_packet(self, MQTT_SUBSCRIBE);
	mqtt_session_lost(self->s);
	/* The exchange ended with the connection. */
	online(self);
	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "d"), 0);
	ASSERT_EQ(subscribe(self, MQTT_UNSUBSCRIBE, "a,b"), 0);
	EXPECT_EQ(subscribe(self, MQTT_UNSUBSCRIBE, "c"), -EBUSY);
	input(self, "b0 | 0006 [] 00 11");
	input(self, "90 | 0005 [] 01");
	expect_told(self, "unsuback 00 11;suback 01;");
}

TEST_F(session, subscribe_no_larger_than_the_hub_takes)
{
	connect_with(self, "20 | 00 00 [ 27 0000000a ]");
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "abcd"), -EMSGSIZE);
	expect_no_packet(self);
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "a"), 0);
}

/* --- messages from the hub -------------------------------------------------------------------- */

TEST_F(session, inbound_aliases)
{
	online(self);
	input(self, "30 | ('one') [ 23 0001 ]");
	input(self, "30 | ('two') [ 23 0002 ]");
	input(self, "32 | () 0001 [ 23 0001 ]");
	input(self, "30 | () [ 23 0002 ]");
	input(self, "30 | ('longer') [ 23 0001 ]");
	input(self, "30 | () [ 23 0001 ]");
	input(self, "30 | ('a') [ 23 0001 ]");
	input(self, "30 | () [ 23 0001 ]");
	expect_told(self, "publish one 0;publish two 0;publish one 1;publish two 0;"
			  "publish longer 0;publish longer 0;publish a 0;publish a 0;");
	mqtt_session_lost(self->s);
	/* They were the connection's. */
	online(self);
	input(self, "30 | () [ 23 0001 ]");
	expect_told(self, "error 82;");
	expect_disconnect(self, MQTT_REASON_PROTOCOL_ERROR);
}

TEST_F(session, an_answer_in_its_own_time_and_only_on_its_connection)
{
	online(self);
	input(self, "32 | ('a') 0009 []");
	input(self, "32 | ('a') 0005 []");
	expect_told(self, "publish a 9;publish a 5;");
	ASSERT_EQ(mqtt_session_puback(self->s, 9, 0x83, BYTES(NULL, 0)), 0);
	expect_packet(self, MQTT_PUBACK);
	EXPECT_EQ(self->packet.ack.packet_id, 9);
	EXPECT_EQ(self->packet.ack.reason, 0x83);
	mqtt_session_lost(self->s);
	connect_with(self, CONNACK_PRESENT);
	EXPECT_EQ(mqtt_session_puback(self->s, 5, 0, BYTES(NULL, 0)), -ENOENT);
	expect_no_packet(self);
	input(self, "3a | ('a') 0005 []");
	EXPECT_EQ(mqtt_session_puback(self->s, 5, 0, BYTES(NULL, 0)), 0);
}

TEST_F(session, an_identifier_without_an_answer_is_not_used_again)
{
	online(self);
	input(self, "32 | ('a') 0009 []");
	input(self, "32 | ('b') 0009 []");
	expect_told(self, "publish a 9;error 82;");
	expect_disconnect(self, MQTT_REASON_PROTOCOL_ERROR);
}

/* --- messages without an answer --------------------------------------------------------------- */

TEST_F(session, send)
{
	EXPECT_EQ(mqtt_session_send(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("x")), -ENOTCONN);
	connect_with(self, "20 | 00 00 [ 21 0001 22 0001 24 00 27 00000010 ]");
	ASSERT_EQ(mqtt_session_send(self->s, BYTES_LIT("t"), BYTES_LIT("\x09\x00\x01k"), BYTES_LIT("x")), 0);
	expect_packet(self, MQTT_PUBLISH);
	EXPECT_EQ(self->packet.publish.qos, 0);
	EXPECT_EQ(self->packet.properties.topic_alias, 1);
	EXPECT_TRUE(bytes_equal_str(self->packet.properties.correlation_data, "k"));
	EXPECT_EQ(mqtt_session_send(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("0123456789ab")),
		  -EMSGSIZE);
	/* No part of the window. */
	for (int i = 0; i < 10; ++i)
		ASSERT_EQ(mqtt_session_send(self->s, BYTES_LIT("t"), BYTES(NULL, 0), BYTES_LIT("y")), 0);
}

/* --- re-authentication ------------------------------------------------------------------------ */

TEST_F(session, authenticates_again_while_traffic_goes_on)
{
	uint16_t id = 0;

	EXPECT_EQ(authenticate(self, 5), -ENOTCONN);
	online(self);
	ASSERT_EQ(authenticate(self, 5), 0);
	EXPECT_TRUE(mqtt_session_is_authenticating(self->s));
	EXPECT_EQ(authenticate(self, 5), -EBUSY);
	expect_packet(self, MQTT_AUTH);
	EXPECT_EQ(self->packet.disconnect.reason, MQTT_REASON_RE_AUTHENTICATE);
	EXPECT_TRUE(bytes_equal_str(self->packet.properties.authentication_data, "signature"));
	ASSERT_EQ(publish(self, 3, &id), 0);
	puback(self, id);
	expect_told(self, "puback 3 00;");
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), self->now_ns + 5 * NSEC_PER_SEC);
	input(self, "f0 | 00 [ 15 ('SAS') ]");
	expect_told(self, "auth 00;");
	EXPECT_FALSE(mqtt_session_is_authenticating(self->s));
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), self->now_ns + KEEP_ALIVE_S * NSEC_PER_SEC);
	EXPECT_EQ(authenticate(self, 5), 0);
}

TEST_F(session, authentication_without_an_answer)
{
	online(self);
	ASSERT_EQ(authenticate(self, 5), 0);
	expect_packet(self, MQTT_AUTH);
	pass_s(self, 4);
	/* Other packets are no answer. */
	input(self, "d0 00");
	mqtt_session_tick(self->s, self->now_ns);
	expect_told(self, "");
	pass_s(self, 1);
	mqtt_session_tick(self->s, self->now_ns);
	expect_told(self, "error 80;");
	expect_disconnect(self, MQTT_REASON_UNSPECIFIED_ERROR);
	mqtt_session_lost(self->s);
	/* The next connection knows nothing of it. */
	online(self);
	EXPECT_FALSE(mqtt_session_is_authenticating(self->s));
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), self->now_ns + KEEP_ALIVE_S * NSEC_PER_SEC);
}

TEST_F(session, ping_while_authenticating)
{
	online(self);
	pass_s(self, 8);
	ASSERT_EQ(authenticate(self, 5), 0);
	expect_packet(self, MQTT_AUTH);
	pass_s(self, 2);
	mqtt_session_tick(self->s, self->now_ns);
	expect_packet(self, MQTT_PINGREQ);
	expect_told(self, "");
	EXPECT_EQ(mqtt_session_deadline_ns(self->s), self->now_ns + 3 * NSEC_PER_SEC);
}

/* --- requests --------------------------------------------------------------------------------- */

TEST(requests_and_their_responses)
{
	uint8_t correlation[3][MQTT_REQUESTS_CORRELATION_BYTES];
	struct mqtt_requests r;
	int a, b, c;

	/* Across the largest number: 0 is nobody's. */
	mqtt_requests_init(&r, UINT64_MAX - 1);
	EXPECT_EQ(mqtt_requests_deadline_ns(&r), TIME_NEVER);
	ASSERT_EQ(mqtt_requests_add(&r, &a, 30, correlation[0]), 0);
	ASSERT_EQ(mqtt_requests_add(&r, &b, 10, correlation[1]), 0);
	ASSERT_EQ(mqtt_requests_add(&r, &c, 20, correlation[2]), 0);
	EXPECT_EQ(mqtt_requests_deadline_ns(&r), 10u);
	EXPECT_TRUE(mqtt_requests_take(&r, BYTES(correlation[0], 7)) == NULL);
	EXPECT_TRUE(mqtt_requests_take(&r, BYTES("\0\0\0\0\0\0\0\0", 8)) == NULL);
	EXPECT_TRUE(mqtt_requests_take(&r, BYTES(correlation[0], 8)) == &a);
	EXPECT_TRUE(mqtt_requests_take(&r, BYTES(correlation[0], 8)) == NULL);
	EXPECT_TRUE(mqtt_requests_take_expired(&r, 9) == NULL);
	EXPECT_TRUE(mqtt_requests_take_expired(&r, 10) == &b);
	EXPECT_TRUE(mqtt_requests_cancel(&r, &c));
	EXPECT_FALSE(mqtt_requests_cancel(&r, &c));
	EXPECT_TRUE(mqtt_requests_take(&r, BYTES(correlation[2], 8)) == NULL);
	EXPECT_EQ(mqtt_requests_deadline_ns(&r), TIME_NEVER);
}

TEST(requests_are_bounded)
{
	uint8_t correlation[MQTT_REQUESTS_MAX][MQTT_REQUESTS_CORRELATION_BYTES], more[8];
	struct mqtt_requests r;
	int cookies[MQTT_REQUESTS_MAX];

	mqtt_requests_init(&r, test_random());
	for (size_t i = 0; i < MQTT_REQUESTS_MAX; ++i)
		ASSERT_EQ(mqtt_requests_add(&r, &cookies[i], i, correlation[i]), 0);
	EXPECT_EQ(mqtt_requests_add(&r, &more, 1, more), -ENOBUFS);
	for (size_t i = MQTT_REQUESTS_MAX; i > 0; --i)
		EXPECT_TRUE(mqtt_requests_take(&r, BYTES(correlation[i - 1], 8)) == &cookies[i - 1]);
	EXPECT_TRUE(mqtt_requests_take_expired(&r, TIME_NEVER) == NULL);
}

TEST_HARNESS_MAIN
