/* SPDX-License-Identifier: MIT */
/* PUBLISH at the hub: telemetry with its outcomes, topic aliases, limits, requests, faults. */

#include "tests/harness.h"
#include "tests/support/emu_world.h"

#define TELEMETRY "$iothub/telemetry"

FIXTURE(publish)
{
	struct emu_world w;
	struct emu_peer *peer;
	struct mqtt_packet answer;
	uint8_t scratch[1024];
	char text[200];
};

FIXTURE_SETUP(publish)
{
	struct emu_hub_options options = EMU_HUB_OPTIONS_DEFAULT;

	options.fault.seed = test_random();
	ASSERT_EQ(emu_world_init(&self->w, &options), 0);
	self->peer = emu_peer_connected(&self->w, "dev1");
	ASSERT_TRUE(self->peer != NULL);
}

FIXTURE_TEARDOWN(publish)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_world_deinit(&self->w);
}

static void reconnect(struct fixture_publish *self)
{
	emu_peer_close(self->peer);
	self->peer = emu_peer_connected(&self->w, "dev1");
	ASSERT_TRUE(self->peer != NULL);
}

static void publish(struct fixture_publish *self, const char *topic, uint8_t qos, const char *properties)
{
	struct mqtt_packet packet =
		hub_publish_make(topic, qos, qos ? 9 : 0, "payload", properties, self->scratch);

	emu_peer_send(self->peer, &packet);
}

/* The next packet is a PUBACK for packet 9: its reason code, else -1. */
static int puback(struct fixture_publish *self)
{
	if (!emu_peer_next(self->peer, &self->answer) || self->answer.type != MQTT_PUBACK ||
	    self->answer.ack.packet_id != 9)
		return -1;
	return self->answer.ack.reason;
}

/* The next packet is a DISCONNECT: its reason code, else -1. */
static int disconnect(struct fixture_publish *self)
{
	if (!emu_peer_next(self->peer, &self->answer) || self->answer.type != MQTT_DISCONNECT ||
	    emu_client_closing(self->peer->client) != EMU_CLOSE)
		return -1;
	return self->answer.disconnect.reason;
}

/* A fault of telemetry in the table, to be filled in. */
static struct emu_fault *set_fault(struct fixture_publish *self, enum emu_fault_kind kind)
{
	struct emu_faults *faults = &self->w.hub.faults;
	struct emu_fault fault = emu_fault_make(kind);

	fault.operation = OPERATION_TELEMETRY;
	if (!emu_faults_add(faults, &fault))
		abort();
	return &faults->table[faults->n - 1];
}

static const char *property(struct fixture_publish *self, const char *name)
{
	return hub_property(&self->answer, name, self->text, sizeof(self->text));
}

TEST_F(publish, telemetry_with_everything)
{
	struct mqtt_packet packet =
		hub_publish_make(TELEMETRY, 1, 9, "x",
				 "message-id=1,user-id=u,correlation-id=c,content-encoding=e,creation-time="
				 "2021-04-21T11:30:16Z,@a=1",
				 self->scratch);

	packet.properties.content_type = BYTES_LIT("text/plain");
	mqtt_set(&packet.properties, MQTT_PROP_CONTENT_TYPE);
	/* Not mentioned by the operation: ignored. */
	packet.properties.response_topic = BYTES_LIT("r");
	mqtt_set(&packet.properties, MQTT_PROP_RESPONSE_TOPIC);
	packet.properties.message_expiry_interval = 1;
	mqtt_set(&packet.properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL);
	emu_peer_send(self->peer, &packet);
	EXPECT_EQ(puback(self), 0);
	EXPECT_EQ(self->answer.properties.repeatable.len, 0u);
	EXPECT_EQ(self->w.hub.enqueued_sequence, 1u);
	publish(self, TELEMETRY, 0, NULL);
	EXPECT_EQ(self->w.hub.enqueued_sequence, 2u);
	EXPECT_FALSE(emu_peer_next(self->peer, &self->answer));
}

TEST_F(publish, a_bad_property_is_a_bad_request)
{
	publish(self, TELEMETRY, 1, "colour=red");
	EXPECT_EQ(puback(self), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
	EXPECT_STREQ(property(self, "reason"), "unknown user property colour");
	publish(self, TELEMETRY, 1, "creation-time=2021-04-21T11:30:16-07:00");
	EXPECT_EQ(puback(self), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
	EXPECT_EQ(self->w.hub.enqueued_sequence, 0u);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
	publish(self, TELEMETRY, 0, "colour=red");
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
	EXPECT_STREQ(property(self, "reason"), "unknown user property colour");
}

TEST_F(publish, without_problem_information_only_the_code_tells)
{
	self->peer->client->problem_information = false;
	publish(self, TELEMETRY, 1, "colour=red");
	EXPECT_EQ(puback(self), 131);
	EXPECT_EQ(self->answer.properties.repeatable.len, 0u);
}

TEST_F(publish, properties_that_do_not_fit_the_client_are_left_out)
{
	self->peer->client->maximum_packet_size = 40;
	publish(self, TELEMETRY, 1, "colour=red");
	EXPECT_EQ(puback(self), 131);
	EXPECT_EQ(self->answer.properties.repeatable.len, 0u);
	self->peer->client->maximum_packet_size = 3;
	publish(self, TELEMETRY, 1, NULL);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_CUT + 0u);
}

TEST_F(publish, unknown_topics)
{
	publish(self, "$iothub/telemetry/", 1, NULL);
	EXPECT_EQ(puback(self), 131);
	EXPECT_STREQ(property(self, "status"), "0504");
	publish(self, "$iothub/Telemetry", 0, NULL);
	EXPECT_EQ(disconnect(self), 0x90);
}

TEST_F(publish, what_the_hub_does_not_have)
{
	struct mqtt_packet packet = hub_publish_make(TELEMETRY, 1, 9, "x", NULL, self->scratch);

	packet.publish.retain = true;
	emu_peer_send(self->peer, &packet);
	EXPECT_EQ(disconnect(self), 0x9a);
	reconnect(self);
	packet.publish.retain = false;
	packet.publish.qos = 2;
	emu_peer_send(self->peer, &packet);
	EXPECT_EQ(disconnect(self), 0x9b);
}

TEST_F(publish, too_large_and_malformed)
{
	static const uint8_t header[] = {0x30, 0x80, 0x80, 0x80, 0x02}; /* 4 MiB */

	emu_peer_send_bytes(self->peer, BYTES(header, sizeof(header)));
	EXPECT_EQ(disconnect(self), 0x95);
	reconnect(self);
	emu_peer_send_bytes(self->peer, BYTES("\x36\x05\0\1a\0\0", 7)); /* QoS 3 */
	EXPECT_EQ(disconnect(self), 0x81);
	reconnect(self);
	emu_peer_send_bytes(self->peer, BYTES("\x30\x03\0\0\0", 5)); /* no topic, no alias */
	EXPECT_EQ(disconnect(self), 0x82);
	reconnect(self);
	emu_peer_send_bytes(self->peer, BYTES("\xd0\0", 2)); /* PINGRESP is the server's */
	EXPECT_EQ(disconnect(self), 0x82);
}

static void publish_alias(struct fixture_publish *self, const char *topic, uint16_t alias)
{
	struct mqtt_packet packet = hub_publish_make(topic, 1, 9, "x", NULL, self->scratch);

	packet.properties.topic_alias = alias;
	mqtt_set(&packet.properties, MQTT_PROP_TOPIC_ALIAS);
	emu_peer_send(self->peer, &packet);
}

TEST_F(publish, topic_aliases)
{
	publish_alias(self, TELEMETRY, 10);
	EXPECT_EQ(puback(self), 0);
	publish_alias(self, "", 10);
	EXPECT_EQ(puback(self), 0);
	publish_alias(self, "$iothub/nothing", 10);
	EXPECT_EQ(puback(self), 131);
	publish_alias(self, "", 10);
	EXPECT_EQ(puback(self), 131);
	EXPECT_STREQ(property(self, "status"), "0504");
	publish_alias(self, TELEMETRY, 11);
	EXPECT_EQ(disconnect(self), 0x94);
	/* They live as long as the connection, not the session. */
	reconnect(self);
	publish_alias(self, "", 10);
	EXPECT_EQ(disconnect(self), 0x82);
}

TEST_F(publish, receive_maximum)
{
	struct mqtt_packet packet;

	for (uint16_t i = 1; i <= 16; i++) {
		packet = hub_publish_make(TELEMETRY, 1, i, "x", NULL, self->scratch);
		emu_peer_send(self->peer, &packet);
	}
	/* QoS 0 does not count. */
	publish(self, TELEMETRY, 0, NULL);
	for (uint16_t i = 1; i <= 16; i++) {
		ASSERT_TRUE(emu_peer_next(self->peer, &packet));
		EXPECT_EQ(packet.ack.packet_id, i);
	}
	for (uint16_t i = 1; i <= 17; i++) {
		packet = hub_publish_make(TELEMETRY, 1, i, "x", NULL, self->scratch);
		emu_peer_send(self->peer, &packet);
	}
	for (uint16_t i = 1; i <= 16; i++)
		ASSERT_TRUE(emu_peer_next(self->peer, &packet));
	EXPECT_EQ(disconnect(self), 0x93);
	EXPECT_EQ(self->w.hub.enqueued_sequence, 33u);
}

TEST_F(publish, delayed_acknowledgements)
{
	set_fault(self, FAULT_DELAY)->ms = 500;
	publish(self, TELEMETRY, 1, NULL);
	emu_world_pass_ms(&self->w, 200);
	publish(self, TELEMETRY, 1, "colour=red");
	EXPECT_EQ(puback(self), -1);
	emu_world_pass_ms(&self->w, 300);
	EXPECT_EQ(puback(self), 0);
	EXPECT_EQ(puback(self), -1);
	emu_world_pass_ms(&self->w, 200);
	EXPECT_EQ(puback(self), 131);
	EXPECT_STREQ(property(self, "reason"), "unknown user property colour");
	/* Those not yet acknowledged are in flight. */
	for (int i = 0; i < 17; i++)
		publish(self, TELEMETRY, 1, NULL);
	EXPECT_EQ(disconnect(self), 0x93);
}

TEST_F(publish, refused_on_demand)
{
	static const struct {
		uint16_t status;
		int reason_code;
		const char *text;
	} rows[] = {
		{0x0101, 135, "0101"}, {0x0501, 151, "0501"}, {0x0502, 151, "0502"}, {0x0503, 131, "0503"},
		{0x0601, 131, "0601"}, {0x06a0, 131, "06A0"}, {0x0555, 131, "0555"},
	};
	struct emu_fault *fault;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fault = set_fault(self, FAULT_STATUS);
		fault->status = rows[i].status;
		fault->left = 1;
		publish(self, TELEMETRY, 1, NULL);
		EXPECT_EQ(puback(self), rows[i].reason_code);
		EXPECT_STREQ(property(self, "status"), rows[i].text);
		publish(self, TELEMETRY, 1, NULL);
		EXPECT_EQ(puback(self), 0);
	}
	EXPECT_EQ(self->w.hub.enqueued_sequence, sizeof(rows) / sizeof(rows[0]));
	set_fault(self, FAULT_STATUS)->status = 0x0603;
	publish(self, TELEMETRY, 0, NULL);
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(property(self, "status"), "0603");
	EXPECT_EQ(strlen(property(self, "trace-id")), 32u);
}

TEST_F(publish, half_of_the_cuts_lose_the_acknowledgement)
{
	int n_before = 0, n_after = 0;
	struct emu_fault *fault = set_fault(self, FAULT_CUT);

	fault->every = 3;
	fault->left = 20;
	for (int i = 0; i < 20; i++) {
		publish(self, TELEMETRY, 1, NULL);
		publish(self, TELEMETRY, 1, NULL);
		EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
		publish(self, TELEMETRY, 1, NULL);
		if (emu_client_closing(self->peer->client) == EMU_CUT)
			n_before++;
		else if (emu_client_closing(self->peer->client) == EMU_CUT_FLUSH)
			n_after++;
		for (int j = 0; emu_client_closing(self->peer->client) == EMU_CUT_FLUSH && j < 3; j++)
			EXPECT_EQ(puback(self), 0);
		reconnect(self);
	}
	EXPECT_EQ(n_before, 10);
	EXPECT_EQ(n_after, 10);
	EXPECT_EQ(self->w.hub.enqueued_sequence, 60u);
	for (int i = 0; i < 4; i++)
		publish(self, TELEMETRY, 1, NULL);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
}

static void request(struct fixture_publish *self, const char *topic, const char *payload,
		    const char *correlation, const char *properties)
{
	struct mqtt_packet packet = hub_publish_make(topic, 0, 0, payload, properties, self->scratch);

	if (correlation) {
		packet.properties.correlation_data = bytes_from_str(correlation);
		mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	}
	emu_peer_send(self->peer, &packet);
}

static void expect_response(struct fixture_publish *self, const char *correlation, const char *status)
{
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	ASSERT_EQ(self->answer.type, MQTT_PUBLISH + 0u);
	EXPECT_TRUE(bytes_equal_str(self->answer.publish.topic, "$iothub/responses"));
	EXPECT_EQ(self->answer.publish.qos, 0);
	EXPECT_TRUE(bytes_equal_str(self->answer.properties.correlation_data, correlation));
	EXPECT_STREQ(property(self, "status"), status);
}

TEST_F(publish, requests_are_answered)
{
	request(self, "$iothub/twin/get", "", "1", NULL);
	expect_response(self, "1", "");
	request(self, "$iothub/twin/get", "", "1234567890123456", NULL);
	expect_response(self, "1234567890123456", "");
	request(self, "$iothub/twin/get", "x", "2", NULL);
	expect_response(self, "2", "0100");
	request(self, "$iothub/twin/get", "", "3", "if-version=1");
	expect_response(self, "3", "0100");
	request(self, "$iothub/twin/patch/reported", "{}", "4", "if-version=1");
	expect_response(self, "4", "");
	request(self, "$iothub/twin/patch/reported", "{}", "5", "if-version=x");
	expect_response(self, "5", "0100");
	request(self, "$iothub/responses", "{}", "6", "response-code=200");
	EXPECT_FALSE(emu_peer_next(self->peer, &self->answer));
}

TEST_F(publish, correlation_data_rules)
{
	request(self, "$iothub/twin/get", "", NULL, NULL);
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
	reconnect(self);
	request(self, "$iothub/twin/patch/reported", "", "12345678901234567", NULL);
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
	reconnect(self);
	publish(self, "$iothub/twin/get", 1, NULL);
	EXPECT_EQ(puback(self), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
}

TEST_F(publish, the_service_side_sends_no_telemetry)
{
	emu_peer_close(self->peer);
	self->peer = emu_peer_service(&self->w, "service/x");
	ASSERT_TRUE(self->peer != NULL);
	publish(self, TELEMETRY, 1, NULL);
	EXPECT_EQ(puback(self), 131);
	EXPECT_STREQ(property(self, "status"), "0504");
	publish(self, TELEMETRY, 0, NULL);
	EXPECT_EQ(disconnect(self), 144);
	EXPECT_EQ(self->w.hub.enqueued_sequence, 0u);
}

TEST_HARNESS_MAIN
