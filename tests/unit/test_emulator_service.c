/* SPDX-License-Identifier: MIT */
/* The service side's requests: their form, and devices. */

#include "tests/harness.h"
#include "tests/support/emu_service.h"

FIXTURE(service)
{
	struct emu_world w;
	struct emu_peer *peer, *service;
	struct emu_reply reply;
	struct mqtt_packet packet;
	char text[256];
};

FIXTURE_SETUP(service)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->peer = emu_peer_connected(&self->w, "dev1");
	self->service = emu_peer_service(&self->w, "service/t");
	ASSERT_TRUE(self->peer && self->service);
}

FIXTURE_TEARDOWN(service)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_peer_close(self->service);
	emu_world_deinit(&self->w);
}

static const char *ask(struct fixture_service *self, const char *topic, const char *properties,
		       const char *payload)
{
	return emu_ask(self->service, &self->reply, topic, properties, payload);
}

static bool has(struct fixture_service *self, const char *text)
{
	return strstr(self->reply.payload, text) != NULL;
}

static int disconnect(struct emu_peer *p, struct mqtt_packet *packet)
{
	if (!emu_peer_next(p, packet) || packet->type != MQTT_DISCONNECT)
		return -1;
	return packet->disconnect.reason;
}

TEST_F(service, correlation_data_rules)
{
	emu_request_send(self->service, "$service/devices/list", NULL, "", NULL);
	EXPECT_EQ(disconnect(self->service, &self->packet), 131);
	emu_peer_close(self->service);
	self->service = emu_peer_service(&self->w, "service/t");
	emu_request_send(self->service, "$service/devices/list", NULL, "", "12345678901234567");
	EXPECT_EQ(disconnect(self->service, &self->packet), 131);
}

TEST_F(service, an_unknown_topic_ends_the_connection)
{
	emu_request_send(self->service, "$service/devices/dance", NULL, "", "c");
	EXPECT_EQ(disconnect(self->service, &self->packet), 144);
}

TEST_F(service, devices_do_not_reach_it)
{
	emu_request_send(self->peer, "$service/devices/list", NULL, "", "c");
	EXPECT_EQ(disconnect(self->peer, &self->packet), 144);
}

TEST_F(service, unknown_and_repeated_properties)
{
	EXPECT_STREQ(ask(self, "$service/devices/list", "colour=red", ""), "0100");
	EXPECT_STREQ(ask(self, "$service/devices/list", "@a=b", ""), "0100");
	EXPECT_STREQ(ask(self, "$service/devices/show", NULL, ""), "0100");
	EXPECT_STREQ(ask(self, "$service/devices/show", "device=dev1,device=dev1", ""), "0100");
}

TEST_F(service, responses_need_no_subscription)
{
	EXPECT_EQ(emu_subscribe(self->service, "$service/responses"), 0);
	EXPECT_EQ(emu_subscribe(self->service, "$service/commands"), 0x8f);
	EXPECT_EQ(emu_subscribe(self->service, "$service/twin/changes"), 0);
	EXPECT_EQ(emu_subscribe(self->service, "$service/twin/changes/dev1/mod"), 0);
	EXPECT_EQ(emu_subscribe(self->service, "$service/+"), 0xa2);
}

TEST_F(service, add_with_keys_made_up)
{
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=new", ""), "");
	EXPECT_TRUE(has(self, "\"device\":\"new\",\"device-id\":\"new\",\"authentication\":\"sas\""));
	EXPECT_TRUE(has(self, "\"connected\":false"));
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=new", ""), "0103");
	EXPECT_EQ(strlen(emu_reply_property(&self->reply, "trace-id")), 32u);
	emu_peer_close(self->peer);
	self->peer = emu_peer_connected(&self->w, "new");
	EXPECT_TRUE(self->peer != NULL);
}

TEST_F(service, add_with_given_keys)
{
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=new", "{\"primary-key\":\"QUFB\"}"), "");
	EXPECT_TRUE(bytes_equal_str(emu_world_key(&self->w, "new", 0), "AAA"));
	EXPECT_EQ(emu_world_key(&self->w, "new", 1).len, 32u);
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=new/m", "{\"authentication\":\"sas\"}"), "");
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=newer/m", ""), "0504");
}

TEST_F(service, add_checks_what_it_is_given)
{
	static const char *const rows[] = {
		"{\"primary-key\":\"?\"}",
		"{\"authentication\":\"none\"}",
		"{\"authentication\":\"x509\"}",
		"{\"authentication\":\"x509\",\"ca\":false}",
		"{\"authentication\":\"x509\",\"ca\":true,\"primary-key\":\"QUFB\"}",
		"{\"authentication\":\"x509\",\"thumbprints\":[]}",
		"{\"authentication\":\"x509\",\"thumbprints\":[\"12\"]}",
		"{\"thumbprints\":[\"12\"]}",
		"{\"ca\":true}",
		"{\"colour\":1}",
		"[]",
		"x",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		EXPECT_STREQ(ask(self, "$service/devices/add", "device=new", rows[i]), "0100");
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=a b", ""), "0100");
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=", ""), "0100");
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=service/x", ""), "0100");
	EXPECT_STREQ(ask(self, "$service/devices/show", "device=new", ""), "0504");
}

TEST_F(service, show)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 1);
	ask(self, "$service/commands/send", "device=dev1", "x");
	EXPECT_STREQ(ask(self, "$service/devices/show", "device=dev1", ""), "");
	EXPECT_TRUE(
		has(self, "\"connected\":true,\"peer\":\"192.0.2.1:1\",\"connected-since\":\"2023-11-14T"));
	EXPECT_TRUE(has(
		self, "\"session\":true,\"subscriptions\":[\"$iothub/commands\"],\"commands\":{\"queued\":1,"
		      "\"dead-lettered\":0},\"desired-version\":1,\"reported-version\":1"));
	EXPECT_FALSE(has(self, "key"));
	EXPECT_STREQ(ask(self, "$service/devices/show", "device=dev1/mod", ""), "");
	EXPECT_TRUE(has(self, "\"device\":\"dev1/mod\",\"device-id\":\"dev1\",\"module-id\":\"mod\""));
	EXPECT_TRUE(has(self, "\"session\":false"));
}

TEST_F(service, list)
{
	EXPECT_STREQ(ask(self, "$service/devices/list", NULL, ""), "");
	EXPECT_TRUE(has(self, "\"device\":\"dev1\""));
	EXPECT_TRUE(has(self, "\"device\":\"dev1/mod\""));
	EXPECT_TRUE(has(self, "\"device\":\"dev2\""));
	EXPECT_STREQ(ask(self, "$service/devices/list", "after=dev1", ""), "");
	EXPECT_FALSE(has(self, "\"device\":\"dev1\""));
	EXPECT_TRUE(has(self, "\"device\":\"dev1/mod\""));
	EXPECT_STREQ(ask(self, "$service/devices/list", "after=dev2", ""), "");
	EXPECT_STREQ(self->reply.payload, "[]");
	for (int i = 0; i < 500; i++) {
		char device[32];

		snprintf(device, sizeof(device), "device=x%03d", i);
		ASSERT_TRUE(*ask(self, "$service/devices/add", device, "") == '\0');
	}
	EXPECT_STREQ(ask(self, "$service/devices/list", NULL, ""), "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "more"), "1");
	EXPECT_STREQ(ask(self, "$service/devices/list", "after=x496", ""), "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "more"), "");
	EXPECT_TRUE(has(self, "\"device\":\"x499\""));
}

TEST_F(service, remove_takes_all_of_it)
{
	struct emu_peer *module = emu_peer_connected(&self->w, "dev1/mod");

	ASSERT_TRUE(module != NULL);
	ask(self, "$service/commands/send", "device=dev1", "x");
	ask(self, "$service/twin/patch", "device=dev1", "{\"a\":1}");
	emu_request_send(self->service, "$service/methods/call", "device=dev1,method=m,connect-timeout=9", "",
			 "call");
	emu_request_send(self->service, "$service/devices/remove", "device=dev1", "", "remove");
	ASSERT_TRUE(emu_reply_take(self->service, "call", &self->reply));
	EXPECT_STREQ(self->reply.status, "06A0");
	ASSERT_TRUE(emu_reply_take(self->service, "remove", &self->reply));
	EXPECT_STREQ(self->reply.status, "");
	EXPECT_EQ(disconnect(self->peer, &self->packet), 0x87);
	EXPECT_EQ(disconnect(module, &self->packet), 0x87);
	emu_peer_close(module);
	EXPECT_STREQ(ask(self, "$service/devices/show", "device=dev1/mod", ""), "0504");
	EXPECT_STREQ(ask(self, "$service/devices/remove", "device=dev1", ""), "0504");
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=dev1", ""), "");
	EXPECT_TRUE(has(self, "\"queued\":0"));
	EXPECT_TRUE(has(self, "\"desired-version\":1"));
}

TEST_F(service, a_module_goes_alone)
{
	EXPECT_STREQ(ask(self, "$service/devices/remove", "device=dev1/mod", ""), "");
	EXPECT_STREQ(ask(self, "$service/devices/show", "device=dev1", ""), "");
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
}

TEST_F(service, keys)
{
	EXPECT_STREQ(ask(self, "$service/devices/keys", "device=dev1", ""), "");
	EXPECT_TRUE(has(self, "\"primary-key\":\""));
	EXPECT_TRUE(has(self, "\"connection-string\":\"HostName=localhost;DeviceId=dev1;SharedAccessKey="));
	EXPECT_STREQ(ask(self, "$service/devices/keys", "device=dev1,regenerate=both,regenerate=both", ""),
		     "0100");
	EXPECT_STREQ(ask(self, "$service/devices/keys", "device=dev1,regenerate=x", ""), "0100");
	EXPECT_STREQ(
		ask(self, "$service/devices/add", "device=c", "{\"authentication\":\"x509\",\"ca\":true}"),
		"");
	EXPECT_STREQ(ask(self, "$service/devices/keys", "device=c", ""), "0102");
}

TEST_F(service, a_replaced_key_ends_the_connection_it_signed)
{
	EXPECT_STREQ(ask(self, "$service/devices/keys", "device=dev1,regenerate=secondary", ""), "");
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
	EXPECT_STREQ(ask(self, "$service/devices/keys", "device=dev1,regenerate=primary", ""), "");
	EXPECT_EQ(disconnect(self->peer, &self->packet), 0x87);
	EXPECT_STREQ(hub_property(&self->packet, "status", self->text, sizeof(self->text)), "0101");
	emu_peer_close(self->peer);
	self->peer = emu_peer_connected(&self->w, "dev1");
	EXPECT_TRUE(self->peer != NULL);
}

TEST_F(service, topics_of_posts_have_no_wildcards)
{
	struct emu_peer *odd;
	uint8_t scratch[1024];
	struct mqtt_packet telemetry = hub_publish_make("$iothub/telemetry", 0, 0, "x", NULL, scratch);

	EXPECT_STREQ(ask(self, "$service/devices/add", "device=a+b#", ""), "");
	ASSERT_EQ(emu_subscribe(self->service, "$service/telemetry"), 0);
	odd = emu_peer_connected(&self->w, "a+b#");
	ASSERT_TRUE(odd != NULL);
	emu_peer_send(odd, &telemetry);
	ASSERT_TRUE(emu_peer_next(self->service, &self->packet));
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.topic, "$service/telemetry/a_b_"));
	EXPECT_STREQ(hub_property(&self->packet, "device-id", self->text, sizeof(self->text)), "a+b#");
	emu_peer_close(odd);
}

TEST_HARNESS_MAIN
