/* SPDX-License-Identifier: MIT */
/* CONNECT at the hub: each rule of the contract's section 2 with the CONNACK that answers it. */

#include "tests/harness.h"
#include "tests/support/emu_world.h"

FIXTURE(connect)
{
	struct emu_world w;
	struct hub_connect c; /* a good one for dev1 */
	const char *server_name;
	struct emu_peer *peer;
	struct mqtt_packet answer;
	char status[16], reason[200], trace_id[64];
};

FIXTURE_SETUP(connect)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->c = hub_connect_make("dev1", emu_world_key(&self->w, "dev1", 0));
	self->server_name = "localhost";
}

FIXTURE_TEARDOWN(connect)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_world_deinit(&self->w);
}

/* Sends it on a new connection; returns the reason code of CONNACK, or -1 when there is none. */
static int try_connect(struct fixture_connect *self)
{
	uint8_t bytes[HUB_CONNECT_MAX];
	struct bytes packet = hub_connect_encode(&self->c, bytes);

	emu_peer_close(self->peer);
	self->peer = emu_peer_open(&self->w, self->server_name);
	if (packet.len == 0)
		return -2;
	emu_peer_send_bytes(self->peer, packet);
	if (!emu_peer_next(self->peer, &self->answer))
		return -1;
	if (self->answer.type != MQTT_CONNACK)
		return -3;
	hub_property(&self->answer, "status", self->status, sizeof(self->status));
	hub_property(&self->answer, "reason", self->reason, sizeof(self->reason));
	hub_property(&self->answer, "trace-id", self->trace_id, sizeof(self->trace_id));
	if (self->answer.connack.reason && emu_client_closing(self->peer->client) != EMU_CLOSE)
		return -4;
	return self->answer.connack.reason;
}

static void expect_bad_request(struct fixture_connect *self, const char *reason)
{
	EXPECT_EQ(try_connect(self), 131);
	EXPECT_STREQ(self->status, "0100");
	EXPECT_STREQ(self->reason, reason);
	EXPECT_STREQ(self->trace_id, "");
}

static void expect_not_authorized(struct fixture_connect *self)
{
	EXPECT_EQ(try_connect(self), 0x87);
	EXPECT_STREQ(self->status, "0101");
	EXPECT_STREQ(self->reason, "");
	EXPECT_EQ(strlen(self->trace_id), 32u);
}

TEST_F(connect, success_names_every_limit)
{
	const struct mqtt_properties *p = &self->answer.properties;

	ASSERT_EQ(try_connect(self), 0);
	EXPECT_FALSE(self->answer.connack.session_present);
	EXPECT_EQ(p->receive_maximum, 16);
	EXPECT_TRUE(mqtt_has(p, MQTT_PROP_MAXIMUM_QOS));
	EXPECT_EQ(p->maximum_qos, 1);
	EXPECT_TRUE(mqtt_has(p, MQTT_PROP_RETAIN_AVAILABLE));
	EXPECT_EQ(p->retain_available, 0);
	EXPECT_EQ(p->maximum_packet_size, 262144u);
	EXPECT_EQ(p->topic_alias_maximum, 10);
	EXPECT_TRUE(mqtt_has(p, MQTT_PROP_WILDCARD_SUBSCRIPTION_AVAILABLE));
	EXPECT_EQ(p->wildcard_subscription_available, 0);
	EXPECT_TRUE(mqtt_has(p, MQTT_PROP_SUBSCRIPTION_IDENTIFIER_AVAILABLE));
	EXPECT_EQ(p->subscription_identifier_available, 0);
	EXPECT_TRUE(mqtt_has(p, MQTT_PROP_SHARED_SUBSCRIPTION_AVAILABLE));
	EXPECT_EQ(p->shared_subscription_available, 0);
	EXPECT_FALSE(mqtt_has(p, MQTT_PROP_SERVER_KEEP_ALIVE));
	EXPECT_FALSE(mqtt_has(p, MQTT_PROP_SESSION_EXPIRY_INTERVAL));
	EXPECT_FALSE(mqtt_has(p, MQTT_PROP_RESPONSE_INFORMATION));
	EXPECT_FALSE(mqtt_has(p, MQTT_PROP_ASSIGNED_CLIENT_IDENTIFIER));
	EXPECT_TRUE(bytes_equal_str(p->authentication_method, "SAS"));
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
}

TEST_F(connect, keep_alive_is_bounded)
{
	static const struct {
		uint16_t asked, told;
	} rows[] = {{0, 1140}, {1141, 1140}, {65535, 1140}, {1140, 0}, {1, 0}};

	for (size_t i = 0; i < 5; i++) {
		self->c.packet.connect.keep_alive = rows[i].asked;
		ASSERT_EQ(try_connect(self), 0);
		EXPECT_EQ(mqtt_has(&self->answer.properties, MQTT_PROP_SERVER_KEEP_ALIVE), rows[i].told != 0);
		EXPECT_EQ(self->answer.properties.server_keep_alive, rows[i].told);
	}
}

TEST_F(connect, both_keys_and_the_device_policy_sign)
{
	self->c.key = emu_world_key(&self->w, "dev1", 1);
	EXPECT_EQ(try_connect(self), 0);
	self->c.policy = "device";
	expect_not_authorized(self);
	self->c.key = emu_world_policy_key(&self->w, "device");
	EXPECT_EQ(try_connect(self), 0);
	self->c.policy = NULL;
	expect_not_authorized(self);
}

TEST_F(connect, policies_have_their_place)
{
	self->c.policy = "service";
	self->c.key = emu_world_policy_key(&self->w, "service");
	expect_not_authorized(self);
	self->c.policy = "nosuch";
	expect_not_authorized(self);
	self->c.policy = "";
	expect_not_authorized(self);

	self->c = hub_connect_make("service/x", emu_world_policy_key(&self->w, "service"));
	expect_not_authorized(self);
	self->c.policy = "service";
	EXPECT_EQ(try_connect(self), 0);
	/* Its session ends with the connection, and it is told so. */
	EXPECT_TRUE(mqtt_has(&self->answer.properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL));
	EXPECT_EQ(self->answer.properties.session_expiry_interval, 0u);
	self->c.policy = "device";
	self->c.key = emu_world_policy_key(&self->w, "device");
	expect_not_authorized(self);
}

TEST_F(connect, modules_have_keys_of_their_own)
{
	self->c = hub_connect_make("dev1/mod", emu_world_key(&self->w, "dev1/mod", 0));
	EXPECT_EQ(try_connect(self), 0);
	self->c.key = emu_world_key(&self->w, "dev1", 0);
	expect_not_authorized(self);
}

TEST_F(connect, who_is_unknown_is_not_authorized)
{
	static const char *const ids[] = {"dev3", "dev1/",   "dev1/other", "DEV1",
					  "dev",  "service", "service/"};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		TEST_LOG("%s", ids[i]);
		self->c.packet.connect.client_id = bytes_from_str(ids[i]);
		expect_not_authorized(self);
	}
}

TEST_F(connect, signature)
{
	self->c.spoil_signature = true;
	expect_not_authorized(self);
	self->c.spoil_signature = false;
	self->c.no_authentication_data = true;
	expect_not_authorized(self);
	self->c.no_authentication_data = false;
	self->c.signed_host = "other";
	expect_not_authorized(self);
	self->c.signed_host = "localhost";
	self->c.at = NULL;
	EXPECT_EQ(try_connect(self), 0);
}

TEST_F(connect, times)
{
	self->c.expiry = "2100-01-01T00:00:00Z";
	self->c.at = "2020-09-24T22:49:55.320Z";
	EXPECT_EQ(try_connect(self), 0);
	self->c.expiry = "2100-01-01T00:00:00+00:00";
	expect_bad_request(self, "sas-expiry is no valid time: 2100-01-01T00:00:00+00:00");
	self->c.expiry = "tomorrow";
	expect_bad_request(self, "sas-expiry is no valid time: tomorrow");
	self->c.expiry = NULL;
	expect_bad_request(self, "sas-expiry is missing");
	self->c.expiry = "4102444800000";
	self->c.at = "";
	expect_bad_request(self, "sas-at is no valid time: ");
	self->c.at = NULL;
	self->c.expiry = "1699999999999"; /* a millisecond ago */
	expect_not_authorized(self);
	self->c.expiry = "1700000000000"; /* now */
	expect_not_authorized(self);
	self->c.expiry = "1700000000001";
	EXPECT_EQ(try_connect(self), 0);
}

TEST_F(connect, api_version)
{
	self->c.api_version = NULL;
	expect_bad_request(self, "api-version is missing");
	self->c.api_version = "2020-10-01";
	expect_bad_request(self, "api-version is not 2020-10-01-preview");
	self->c.api_version = "2020-10-01-PREVIEW";
	expect_bad_request(self, "api-version is not 2020-10-01-preview");
}

TEST_F(connect, host)
{
	self->server_name = "LocalHost";
	self->c.signed_host = "LocalHost";
	EXPECT_EQ(try_connect(self), 0);
	self->server_name = "other.example";
	self->c.signed_host = "other.example";
	expect_bad_request(self, "the SNI is not this hub's name, which is localhost");
	self->server_name = NULL;
	expect_bad_request(self, "host is missing, and no SNI was sent");
	self->c.host = self->c.signed_host = "localhost";
	EXPECT_EQ(try_connect(self), 0);
	self->c.host = self->c.signed_host = "127.0.0.1";
	expect_bad_request(self, "the host is not this hub's name, which is localhost");
	/* Through a gateway: the SNI is the gateway's, the property names the hub. */
	self->server_name = "gateway.example";
	self->c.host = self->c.signed_host = "localhost";
	EXPECT_EQ(try_connect(self), 0);
}

TEST_F(connect, user_properties)
{
	self->c.client_agent = "test";
	self->c.extra[0][0] = "@application";
	self->c.extra[0][1] = "1";
	EXPECT_EQ(try_connect(self), 0);
	self->c.extra[1][0] = "message-id";
	self->c.extra[1][1] = "1";
	expect_bad_request(self, "unknown user property message-id");
	self->c.extra[1][0] = "api-version";
	expect_bad_request(self, "api-version is given twice");
}

TEST_F(connect, methods)
{
	struct mqtt_properties *p = &self->c.packet.properties;

	p->authentication_method = BYTES_LIT("X509");
	expect_not_authorized(self);
	p->authentication_method = BYTES_LIT("sas");
	expect_not_authorized(self);
	p->authentication_method = BYTES(NULL, 0);
	p->present &= ~(UINT64_C(1) << MQTT_PROP_AUTHENTICATION_METHOD);
	self->c.no_authentication_data = true;
	expect_bad_request(self, "Authentication Method is missing");
}

TEST_F(connect, form)
{
	struct mqtt_connect *connect = &self->c.packet.connect;

	connect->has_user_name = true;
	connect->user_name = BYTES_LIT("u");
	expect_bad_request(self, "user name and password are not used");
	connect->has_user_name = false;
	connect->user_name = BYTES(NULL, 0);
	connect->has_password = true;
	connect->password = BYTES_LIT("p");
	expect_bad_request(self, "user name and password are not used");
	connect->has_password = false;
	connect->password = BYTES(NULL, 0);
	connect->has_will = true;
	connect->will_topic = BYTES_LIT("$iothub/telemetry");
	expect_bad_request(self, "will messages are not supported");
	connect->has_will = false;
	connect->will_topic = BYTES(NULL, 0);
	connect->client_id = BYTES(NULL, 0);
	EXPECT_EQ(try_connect(self), 0x85);
}

TEST_F(connect, level_3_1_1_gets_its_own_refusal)
{
	static const uint8_t want[] = {0x20, 0x02, 0x00, 0x01};
	struct bytes out;

	self->c.packet.connect.level = MQTT_LEVEL_3_1_1;
	self->c.packet.properties = (struct mqtt_properties){.present = 0};
	self->peer = emu_peer_open(&self->w, "localhost");
	emu_peer_send_bytes(self->peer, hub_connect_encode(&self->c, (uint8_t[HUB_CONNECT_MAX]){0}));
	out = emu_client_output(self->peer->client);
	EXPECT_TRUE(bytes_equal(out, BYTES(want, sizeof(want))));
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_CLOSE + 0u);
}

static int answer_to_bytes(struct fixture_connect *self, const void *bytes, size_t len)
{
	emu_peer_close(self->peer);
	self->peer = emu_peer_open(&self->w, "localhost");
	emu_peer_send_bytes(self->peer, BYTES(bytes, len));
	if (!emu_peer_next(self->peer, &self->answer))
		return emu_client_closing(self->peer->client) == EMU_CUT ? -1 : -2;
	return self->answer.type == MQTT_CONNACK ? self->answer.connack.reason : -3;
}

TEST_F(connect, broken_packets)
{
	/* Another protocol, level 6, reserved flag, cut short, five bytes of length, PINGREQ first, too
	 * large. */
	EXPECT_EQ(answer_to_bytes(self, "\x10\x0d\0\x04MQTX\x05\0\0\x3c\0\0\0", 15), 0x84);
	EXPECT_EQ(answer_to_bytes(self, "\x10\x0d\0\x04MQTT\x06\0\0\x3c\0\0\0", 15), 0x84);
	EXPECT_EQ(answer_to_bytes(self, "\x10\x0d\0\x04MQTT\x05\x01\0\x3c\0\0\0", 15), 0x81);
	EXPECT_EQ(answer_to_bytes(self, "\x10\x0b\0\x04MQTT\x05\0\0\x3c\0", 13), 0x81);
	EXPECT_EQ(answer_to_bytes(self, "\x10\xff\xff\xff\xff\x01", 6), 0x81);
	EXPECT_EQ(answer_to_bytes(self, "\xc0\0", 2), -1);
	EXPECT_EQ(answer_to_bytes(self, "\x10\x80\x80\x11", 4), 0x95);
}

TEST_F(connect, problem_information_0_leaves_the_code_only)
{
	self->c.packet.properties.request_problem_information = 0;
	mqtt_set(&self->c.packet.properties, MQTT_PROP_REQUEST_PROBLEM_INFORMATION);
	self->c.api_version = NULL;
	EXPECT_EQ(try_connect(self), 131);
	EXPECT_EQ(self->answer.properties.repeatable.len, 0u);
}

TEST_F(connect, maximum_packet_size_of_the_client)
{
	self->c.packet.properties.maximum_packet_size = 24;
	mqtt_set(&self->c.packet.properties, MQTT_PROP_MAXIMUM_PACKET_SIZE);
	self->c.api_version = NULL;
	EXPECT_EQ(try_connect(self), 131);
	EXPECT_EQ(self->answer.properties.repeatable.len, 0u);
	/* The CONNACK that names the limits does not fit: better no connection than one that hides them. */
	self->c.api_version = CONTRACT_API_VERSION;
	EXPECT_EQ(try_connect(self), -1);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_CUT + 0u);
}

TEST_F(connect, the_hubs_packet_limit_holds_from_connack_on)
{
	static const uint8_t header[] = {0x30, 0x80, 0x01};

	self->w.hub.options.maximum_packet_size = 128;
	ASSERT_EQ(try_connect(self), 0);
	EXPECT_EQ(self->answer.properties.maximum_packet_size, 128u);
	emu_peer_send_bytes(self->peer, BYTES(header, sizeof(header)));
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	EXPECT_EQ(self->answer.disconnect.reason, 0x95);
}

TEST_F(connect, connect_has_30_seconds)
{
	self->peer = emu_peer_open(&self->w, "localhost");
	emu_peer_send_bytes(self->peer, BYTES_LIT("\x10"));
	emu_world_pass_ms(&self->w, 29999);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
	emu_world_pass_ms(&self->w, 1);
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_CLOSE + 0u);
	EXPECT_FALSE(emu_peer_next(self->peer, &self->answer));
}

TEST_F(connect, a_second_one_is_a_protocol_error)
{
	uint8_t bytes[HUB_CONNECT_MAX];

	ASSERT_EQ(try_connect(self), 0);
	emu_peer_send_bytes(self->peer, hub_connect_encode(&self->c, bytes));
	ASSERT_TRUE(emu_peer_next(self->peer, &self->answer));
	EXPECT_EQ(self->answer.type, MQTT_DISCONNECT + 0u);
	EXPECT_EQ(self->answer.disconnect.reason, 0x82);
}

TEST_F(connect, refused_on_demand)
{
	struct emu_fault fault = emu_fault_make(FAULT_REFUSE);

	fault.left = 2;
	fault.reason = 0x9f;
	emu_faults_add(&self->w.hub.faults, &fault);
	EXPECT_EQ(try_connect(self), 0x9f);
	/* The service side is not asked to suffer. */
	emu_peer_close(emu_peer_service(&self->w, "service/x"));
	EXPECT_EQ(try_connect(self), 0x9f);
	EXPECT_EQ(try_connect(self), 0);
}

TEST_HARNESS_MAIN
