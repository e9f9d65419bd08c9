/* SPDX-License-Identifier: MIT */
/* Method calls at the hub: who gets them, what is answered, timeouts. */

#include "tests/harness.h"
#include "tests/support/emu_service.h"

FIXTURE(methods)
{
	struct emu_world w;
	struct emu_peer *peer, *service;
	struct emu_reply reply;
	struct mqtt_packet packet;
	uint8_t correlation[16];
	char text[256];
};

FIXTURE_SETUP(methods)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->peer = emu_peer_connected(&self->w, "dev1");
	self->service = emu_peer_service(&self->w, "service/t");
	ASSERT_TRUE(self->peer && self->service);
}

FIXTURE_TEARDOWN(methods)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_peer_close(self->service);
	emu_world_deinit(&self->w);
}

static void call(struct fixture_methods *self, const char *properties)
{
	char all[256];

	snprintf(all, sizeof(all), "device=dev1,method=reboot%s%s", properties ? "," : "",
		 properties ? properties : "");
	emu_request_send(self->service, "$service/methods/call", all, "now", "call");
}

/* The status of the answer; "none" while there is none. */
static const char *answer(struct fixture_methods *self)
{
	return emu_reply_take(self->service, "call", &self->reply) ? self->reply.status : "none";
}

static bool arrived(struct fixture_methods *self)
{
	return emu_peer_next(self->peer, &self->packet) && self->packet.type == MQTT_PUBLISH &&
	       bytes_equal_str(self->packet.publish.topic, "$iothub/methods/reboot");
}

/* Answers the call that arrived. */
static void respond(struct fixture_methods *self, const char *properties, const char *payload)
{
	uint8_t scratch[1024];
	struct bytes correlation = self->packet.properties.correlation_data;
	struct mqtt_packet packet = hub_publish_make("$iothub/responses", 0, 0, payload, properties, scratch);

	memcpy(self->correlation, correlation.data, correlation.len);
	packet.properties.correlation_data = BYTES(self->correlation, correlation.len);
	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	emu_peer_send(self->peer, &packet);
}

TEST_F(methods, request_and_response)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/reboot"), 0);
	call(self, NULL);
	ASSERT_TRUE(arrived(self));
	EXPECT_EQ(self->packet.publish.qos, 0);
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.payload, "now"));
	EXPECT_GE(self->packet.properties.correlation_data.len, 1u);
	EXPECT_LE(self->packet.properties.correlation_data.len, 16u);
	respond(self, "response-code=200,@a=b", "done");
	EXPECT_STREQ(answer(self), "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "response-code"), "200");
	EXPECT_STREQ(self->reply.payload, "done");
	/* The same once more comes too late, and is nothing wrong. */
	respond(self, "response-code=200", "done");
	EXPECT_STREQ(answer(self), "none");
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
}

TEST_F(methods, all_kinds_of_subscriptions)
{
	static const char *const filters[] = {"$iothub/methods/+", "methods/reboot",
					      "$iothub/methods/reboot"};

	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		uint8_t scratch[4096];
		struct mqtt_packet unsubscribe;

		ASSERT_EQ(emu_subscribe(self->peer, filters[i]), 0);
		call(self, NULL);
		ASSERT_TRUE(arrived(self));
		respond(self, "response-code=0", "");
		EXPECT_STREQ(answer(self), "");
		unsubscribe = hub_subscribe_make(MQTT_UNSUBSCRIBE, filters[i], scratch);
		emu_peer_send(self->peer, &unsubscribe);
		ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
		call(self, NULL);
		EXPECT_STREQ(answer(self), "06A0");
	}
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/eboot,methods/rebootx"), 0);
	call(self, NULL);
	EXPECT_STREQ(answer(self), "06A0");
}

TEST_F(methods, without_the_device_it_is_target_unavailable)
{
	emu_peer_close(self->peer);
	self->peer = NULL;
	call(self, NULL);
	EXPECT_STREQ(answer(self), "06A0");
	emu_request_send(self->service, "$service/methods/call", "device=nobody,method=reboot", "", "call");
	EXPECT_STREQ(answer(self), "0504");
}

TEST_F(methods, the_connect_timeout_waits_for_the_device)
{
	emu_peer_close(self->peer);
	self->peer = NULL;
	call(self, "connect-timeout=10");
	EXPECT_STREQ(answer(self), "none");
	emu_world_pass_ms(&self->w, 9000);
	self->peer = emu_peer_connected(&self->w, "dev1");
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	ASSERT_TRUE(arrived(self));
	/* The other timeout begins now. */
	emu_world_pass_ms(&self->w, 29000);
	EXPECT_STREQ(answer(self), "none");
	respond(self, "response-code=200", "");
	EXPECT_STREQ(answer(self), "");
}

TEST_F(methods, the_connect_timeout_ends)
{
	call(self, "connect-timeout=10");
	emu_world_pass_ms(&self->w, 9999);
	EXPECT_STREQ(answer(self), "none");
	emu_world_pass_ms(&self->w, 1);
	EXPECT_STREQ(answer(self), "06A0");
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	EXPECT_FALSE(arrived(self));
}

TEST_F(methods, the_response_timeout_is_target_timeout)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	call(self, "response-timeout=5");
	ASSERT_TRUE(arrived(self));
	emu_world_pass_ms(&self->w, 4999);
	EXPECT_STREQ(answer(self), "none");
	emu_world_pass_ms(&self->w, 1);
	EXPECT_STREQ(answer(self), "06A1");
	EXPECT_EQ(strlen(emu_reply_property(&self->reply, "trace-id")), 32u);
	EXPECT_NE(strlen(self->reply.reason), 0u);
	respond(self, "response-code=200", "");
	EXPECT_STREQ(answer(self), "none");
}

TEST_F(methods, a_device_that_goes_away_is_unavailable)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	call(self, NULL);
	ASSERT_TRUE(arrived(self));
	emu_peer_close(self->peer);
	self->peer = NULL;
	EXPECT_STREQ(answer(self), "06A0");
}

TEST_F(methods, a_device_that_cannot_serve_it_says_so)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	call(self, NULL);
	ASSERT_TRUE(arrived(self));
	respond(self, "status=06A0", "");
	EXPECT_STREQ(answer(self), "06A0");
	call(self, NULL);
	ASSERT_TRUE(arrived(self));
	respond(self, "status=0601", "");
	EXPECT_STREQ(answer(self), "06A2");
}

TEST_F(methods, a_response_without_a_valid_code_is_target_failed)
{
	static const char *const wrong[] = {"@a=b", "response-code=", "response-code=-1", "response-code=x",
					    "response-code=4294967296"};

	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		call(self, NULL);
		ASSERT_TRUE(arrived(self));
		respond(self, wrong[i], "");
		EXPECT_STREQ(answer(self), "06A2");
		EXPECT_NE(strlen(self->reply.reason), 0u);
	}
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
	call(self, NULL);
	ASSERT_TRUE(arrived(self));
	respond(self, "response-code=4294967295", "");
	EXPECT_STREQ(answer(self), "");
}

TEST_F(methods, an_unknown_property_of_a_response_is_a_bad_request)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	call(self, NULL);
	ASSERT_TRUE(arrived(self));
	respond(self, "response-code=200,colour=red", "");
	EXPECT_STREQ(answer(self), "06A2");
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_EQ(self->packet.type, MQTT_DISCONNECT + 0u);
	EXPECT_EQ(self->packet.disconnect.reason, 131);
	EXPECT_STREQ(hub_property(&self->packet, "status", self->text, sizeof(self->text)), "0100");
}

TEST_F(methods, another_device_cannot_answer)
{
	struct emu_peer *own = self->peer;

	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	call(self, NULL);
	ASSERT_TRUE(arrived(self));
	self->peer = emu_peer_connected(&self->w, "dev2");
	respond(self, "response-code=200", "");
	emu_peer_close(self->peer);
	self->peer = own;
	EXPECT_STREQ(answer(self), "none");
}

TEST_F(methods, a_call_ends_with_its_callers_connection)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	call(self, NULL);
	call(self, "connect-timeout=300");
	ASSERT_TRUE(arrived(self));
	EXPECT_EQ(self->w.hub.n_calls, 2u);
	emu_peer_close(self->service);
	EXPECT_EQ(self->w.hub.n_calls, 0u);
	self->service = emu_peer_service(&self->w, "service/t");
	respond(self, "response-code=200", "");
	EXPECT_STREQ(answer(self), "none");
}

TEST_F(methods, a_request_over_the_maximum_packet_size_fails)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	self->peer->client->maximum_packet_size = 30;
	call(self, NULL);
	EXPECT_STREQ(answer(self), "06A2");
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
}

TEST_F(methods, what_is_asked_is_checked)
{
	static const char *const wrong[] = {
		"device=dev1",
		"device=dev1,method=a/b",
		"device=dev1,method=+",
		"device=dev1,method=",
		"device=dev1,method=a,connect-timeout=301",
		"device=dev1,method=a,response-timeout=0",
		"device=dev1,method=a,response-timeout=301",
		"device=dev1,method=a,response-timeout=x",
		"device=dev1,method=a,@x=1",
		"method=a",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/methods/call", wrong[i], ""),
			     "0100");
}

TEST_F(methods, at_most_1000_calls)
{
	for (int i = 0; i < 1000; i++)
		call(self, "connect-timeout=300");
	EXPECT_EQ(self->w.hub.n_calls, 1000u);
	call(self, "connect-timeout=300");
	EXPECT_STREQ(answer(self), "0503");
}

TEST_HARNESS_MAIN
