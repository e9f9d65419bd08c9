/* SPDX-License-Identifier: MIT */
/* What the hub keeps between packets and connections: subscriptions, sessions, takeover, keep-alive, token
 * life. */

#include "tests/harness.h"
#include "tests/support/emu_world.h"

FIXTURE(session)
{
	struct emu_world w;
	struct emu_peer *peer;
	struct mqtt_packet answer;
	uint8_t scratch[4096];
};

FIXTURE_SETUP(session)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->peer = emu_peer_connected(&self->w, "dev1");
	ASSERT_TRUE(self->peer != NULL);
}

FIXTURE_TEARDOWN(session)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_world_deinit(&self->w);
}

/* Sends the filters; the reasons of the answer in hex, `00 8f`. */
static const char *apply(struct fixture_session *self, enum mqtt_type type, const char *filters)
{
	static char text[4096];
	struct mqtt_packet packet = hub_subscribe_make(type, filters, self->scratch);
	enum mqtt_type want = type == MQTT_SUBSCRIBE ? MQTT_SUBACK : MQTT_UNSUBACK;
	size_t n = 0;

	emu_peer_send(self->peer, &packet);
	if (!emu_peer_next(self->peer, &self->answer) || self->answer.type != want ||
	    self->answer.suback.packet_id != 7)
		return "no answer";
	text[0] = '\0';
	for (size_t i = 0; i < self->answer.suback.reasons.len; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%02x", i ? " " : "",
				      self->answer.suback.reasons.data[i]);
	return text;
}

static int disconnect(struct fixture_session *self)
{
	if (!emu_peer_next(self->peer, &self->answer) || self->answer.type != MQTT_DISCONNECT)
		return -1;
	return self->answer.disconnect.reason;
}

TEST_F(session, each_filter_has_its_answer)
{
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE,
			   "$iothub/commands@1,$iothub/twin/patch/desired,$iothub/methods/a,$iothub/methods/"
			   "+,methods/"
			   "b,$iothub/responses"),
		     "01 00 00 00 00 00");
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE, "$iothub/commands@2,$iothub/twin/patch/desired@1"), "01 00");
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE, "$iothub/nothing,a,$iothub/telemetry,$iothub/methods/"),
		     "8f 8f 8f 8f");
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE, "#,$iothub/#,$iothub/+,methods/+,$iothub/twin/patch/+"),
		     "a2 a2 a2 a2 a2");
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE, "$share/g/$iothub/commands"), "9e");
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE, "$service/telemetry"), "8f");
}

TEST_F(session, at_most_50_subscriptions)
{
	char filters[1024] = "";

	for (int i = 0; i < 50; i++)
		snprintf(filters + strlen(filters), sizeof(filters) - strlen(filters), "%smethods/%d",
			 i ? "," : "", i);
	apply(self, MQTT_SUBSCRIBE, filters);
	EXPECT_EQ(self->answer.suback.reasons.len, 50u);
	for (size_t i = 0; i < 50; i++)
		EXPECT_EQ(self->answer.suback.reasons.data[i], 0);
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE, "$iothub/commands@1,methods/7,$iothub/responses,x"),
		     "97 00 00 8f");
	EXPECT_STREQ(apply(self, MQTT_UNSUBSCRIBE, "methods/7"), "00");
	EXPECT_STREQ(apply(self, MQTT_SUBSCRIBE, "$iothub/commands@1"), "01");
}

TEST_F(session, unsubscribe)
{
	apply(self, MQTT_SUBSCRIBE, "$iothub/commands@1");
	EXPECT_STREQ(apply(self, MQTT_UNSUBSCRIBE, "$iothub/commands,$iothub/commands,$iothub/responses"),
		     "00 11 00");
}

TEST_F(session, subscription_identifiers_are_not_available)
{
	struct mqtt_packet packet = hub_subscribe_make(MQTT_SUBSCRIBE, "$iothub/commands", self->scratch);

	packet.properties.subscription_identifier = 1;
	mqtt_set(&packet.properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER);
	emu_peer_send(self->peer, &packet);
	EXPECT_EQ(disconnect(self), 0xa1);
}

TEST_F(session, ping)
{
	emu_peer_send(self->peer, &(struct mqtt_packet){.type = MQTT_PINGREQ});
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	EXPECT_EQ(self->answer.type, MQTT_PINGRESP + 0u);
}

TEST_F(session, auth_is_for_later)
{
	struct mqtt_packet packet = {.type = MQTT_AUTH, .disconnect = {.reason = 0x19}};

	packet.properties.authentication_method = BYTES_LIT("SAS");
	mqtt_set(&packet.properties, MQTT_PROP_AUTHENTICATION_METHOD);
	emu_peer_send(self->peer, &packet);
	EXPECT_EQ(disconnect(self), 131);
}

/* Connects anew, without closing the old connection first; CONNACK is in answer. */
static struct emu_peer *again(struct fixture_session *self, bool clean_start, uint32_t expiry_s)
{
	struct hub_connect connect = hub_connect_make("dev1", emu_world_key(&self->w, "dev1", 0));
	struct emu_peer *peer = emu_peer_open(&self->w, "localhost");
	uint8_t bytes[HUB_CONNECT_MAX];

	connect.packet.connect.clean_start = clean_start;
	connect.packet.properties.session_expiry_interval = expiry_s;
	emu_peer_send_bytes(peer, hub_connect_encode(&connect, bytes));
	ASSERT_TRUE(emu_peer_next(peer, &self->answer));
	ASSERT_EQ(self->answer.type, MQTT_CONNACK + 0u);
	ASSERT_EQ(self->answer.connack.reason, 0);
	return peer;
}

TEST_F(session, takeover)
{
	struct emu_peer *old = self->peer;
	struct mqtt_packet last;

	apply(self, MQTT_SUBSCRIBE, "$iothub/commands@1");
	self->peer = again(self, false, 3600);
	EXPECT_TRUE(self->answer.connack.session_present);
	ASSERT_TRUE(emu_peer_next(old, &last));
	EXPECT_EQ(last.type, MQTT_DISCONNECT + 0u);
	EXPECT_EQ(last.disconnect.reason, 0x8e);
	EXPECT_EQ(emu_client_closing(old->client), EMU_CLOSE + 0u);
	/* What the old one still says counts for nothing, and its end is not the session's. */
	emu_peer_send(old, &(struct mqtt_packet){.type = MQTT_PINGREQ});
	EXPECT_FALSE(emu_peer_next(old, &last));
	emu_peer_close(old);
	EXPECT_STREQ(apply(self, MQTT_UNSUBSCRIBE, "$iothub/commands"), "00");
}

TEST_F(session, takeover_on_the_service_side)
{
	struct emu_peer *first = emu_peer_service(&self->w, "service/a"),
			*other = emu_peer_service(&self->w, "service/b"),
			*second = emu_peer_service(&self->w, "service/a");
	struct mqtt_packet last;

	ASSERT_TRUE(first && other && second);
	ASSERT_TRUE(emu_peer_next(first, &last));
	EXPECT_EQ(last.disconnect.reason, 0x8e);
	EXPECT_FALSE(emu_peer_next(other, &last));
	EXPECT_FALSE(emu_peer_next(second, &last));
	emu_peer_close(first);
	emu_peer_close(other);
	emu_peer_close(second);
}

TEST_F(session, lives_for_its_expiry_interval)
{
	apply(self, MQTT_SUBSCRIBE, "$iothub/commands@1");
	emu_peer_close(self->peer);
	emu_world_pass_ms(&self->w, 3599999);
	self->peer = again(self, false, 10);
	EXPECT_TRUE(self->answer.connack.session_present);
	/* As long as it is connected it does not end. */
	emu_world_pass_ms(&self->w, 20000);
	emu_peer_close(self->peer);
	emu_world_pass_ms(&self->w, 10000);
	self->peer = again(self, false, UINT32_MAX);
	EXPECT_FALSE(self->answer.connack.session_present);
	EXPECT_STREQ(apply(self, MQTT_UNSUBSCRIBE, "$iothub/commands"), "11");
	emu_peer_close(self->peer);
	emu_world_pass_ms(&self->w, UINT64_C(1000) * 3600 * 24 * 365);
	self->peer = again(self, false, 0);
	EXPECT_TRUE(self->answer.connack.session_present);
	emu_peer_close(self->peer);
	self->peer = again(self, false, 0);
	EXPECT_FALSE(self->answer.connack.session_present);
}

TEST_F(session, clean_start_forgets_it)
{
	struct emu_peer *old = self->peer;

	apply(self, MQTT_SUBSCRIBE, "$iothub/commands@1");
	self->peer = again(self, true, 3600);
	EXPECT_FALSE(self->answer.connack.session_present);
	emu_peer_close(old);
	EXPECT_STREQ(apply(self, MQTT_UNSUBSCRIBE, "$iothub/commands"), "11");
}

static void say_disconnect(struct fixture_session *self, uint32_t expiry_s)
{
	struct mqtt_packet packet = {.type = MQTT_DISCONNECT};

	packet.properties.session_expiry_interval = expiry_s;
	mqtt_set(&packet.properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	emu_peer_send(self->peer, &packet);
}

TEST_F(session, disconnect_changes_the_expiry_interval)
{
	say_disconnect(self, 0);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_CLOSE + 0u);
	EXPECT_EQ(disconnect(self), -1);
	emu_peer_close(self->peer);
	self->peer = again(self, false, 0);
	EXPECT_FALSE(self->answer.connack.session_present);
	say_disconnect(self, 100);
	EXPECT_EQ(disconnect(self), 0x82);
}

TEST_F(session, silence_ends_it_at_one_and_a_half_times_the_keep_alive)
{
	emu_world_pass_ms(&self->w, 89999);
	EXPECT_EQ(disconnect(self), -1);
	emu_peer_send(self->peer, &(struct mqtt_packet){.type = MQTT_PINGREQ});
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	emu_world_pass_ms(&self->w, 89999);
	EXPECT_EQ(disconnect(self), -1);
	/* A part of a packet is no packet. */
	emu_peer_send_bytes(self->peer, BYTES_LIT("\x30"));
	emu_world_pass_ms(&self->w, 1);
	EXPECT_EQ(disconnect(self), 0x8d);
}

TEST_F(session, the_token_ends_it)
{
	struct hub_connect connect = hub_connect_make("dev2", emu_world_key(&self->w, "dev2", 0));
	uint8_t bytes[HUB_CONNECT_MAX];
	char trace_id[64];

	emu_peer_close(self->peer);
	self->peer = emu_peer_open(&self->w, "localhost");
	connect.expiry = "1700000005000";
	emu_peer_send_bytes(self->peer, hub_connect_encode(&connect, bytes));
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	ASSERT_EQ(self->answer.connack.reason, 0);
	emu_world_pass_ms(&self->w, 4999);
	EXPECT_EQ(disconnect(self), -1);
	emu_world_pass_ms(&self->w, 1);
	EXPECT_EQ(disconnect(self), 0x87);
	EXPECT_EQ(strlen(hub_property(&self->answer, "trace-id", trace_id, sizeof(trace_id))), 32u);
}

TEST_F(session, shut_down_says_so)
{
	struct emu_peer *early = emu_peer_open(&self->w, "localhost");
	struct mqtt_packet packet;

	emu_hub_shut_down(&self->w.hub);
	EXPECT_EQ(disconnect(self), 0x8b);
	EXPECT_FALSE(emu_peer_next(early, &packet));
	EXPECT_EQ(emu_client_closing(early->client), EMU_CLOSE + 0u);
	emu_peer_close(early);
}

TEST_F(session, devices_are_cut_and_monitors_stay)
{
	struct emu_peer *service = emu_peer_service(&self->w, "service/x");

	emu_hub_cut_devices(&self->w.hub);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_CUT + 0u);
	EXPECT_EQ(emu_client_closing(service->client), EMU_OPEN + 0u);
	emu_peer_close(service);
}

TEST_F(session, bytes_one_by_one)
{
	static const uint8_t pings[] = {0xc0, 0, 0xc0, 0};

	for (size_t i = 0; i < sizeof(pings); i++)
		emu_peer_send_bytes(self->peer, BYTES(&pings[i], 1));
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	EXPECT_FALSE(emu_peer_next(self->peer, &self->answer));
}

TEST_HARNESS_MAIN
