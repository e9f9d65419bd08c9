/* SPDX-License-Identifier: MIT */
/* Faults on demand, as the service side sets them: the table, each kind, what acts at once. */

#include "tests/harness.h"
#include "tests/support/emu_service.h"

FIXTURE(faults)
{
	struct emu_world w;
	struct emu_peer *peer, *service;
	struct emu_reply reply;
	struct mqtt_packet packet;
	char text[256];
};

FIXTURE_SETUP(faults)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->peer = emu_peer_connected(&self->w, "dev1");
	self->service = emu_peer_service(&self->w, "service/t");
	ASSERT_TRUE(self->peer && self->service);
}

FIXTURE_TEARDOWN(faults)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_peer_close(self->service);
	emu_world_deinit(&self->w);
}

static const char *set(struct fixture_faults *self, const char *json)
{
	return emu_ask(self->service, &self->reply, "$service/faults/set", NULL, json);
}

static void telemetry(struct fixture_faults *self, uint8_t qos)
{
	uint8_t scratch[1024];
	struct mqtt_packet packet =
		hub_publish_make("$iothub/telemetry", qos, qos ? 9 : 0, "x", NULL, scratch);

	emu_peer_send(self->peer, &packet);
}

static const char *status(struct fixture_faults *self)
{
	return hub_property(&self->packet, "status", self->text, sizeof(self->text));
}

/* Sends telemetry at QoS 1: the status of its PUBACK, "none" without one. */
static const char *acked(struct fixture_faults *self)
{
	telemetry(self, 1);
	if (!emu_peer_next(self->peer, &self->packet) || self->packet.type != MQTT_PUBACK)
		return "none";
	return status(self);
}

static int connect_again(struct fixture_faults *self)
{
	struct hub_connect c = hub_connect_make("dev1", emu_world_key(&self->w, "dev1", 0));
	uint8_t bytes[HUB_CONNECT_MAX];

	emu_peer_close(self->peer);
	self->peer = emu_peer_open(&self->w, "localhost");
	emu_peer_send_bytes(self->peer, hub_connect_encode(&c, bytes));
	if (!emu_peer_next(self->peer, &self->packet) || self->packet.type != MQTT_CONNACK)
		return -1;
	return self->packet.connack.reason;
}

static int disconnect(struct fixture_faults *self)
{
	if (!emu_peer_next(self->peer, &self->packet) || self->packet.type != MQTT_DISCONNECT)
		return -1;
	return self->packet.disconnect.reason;
}

static enum emu_closing closing(struct fixture_faults *self)
{
	return emu_client_closing(self->peer->client);
}

TEST_F(faults, every_status_for_telemetry)
{
	static const char *const rows[] = {"0001", "0100", "0101", "0102", "0103", "0104",
					   "0501", "0502", "0503", "0504", "0601", "0602",
					   "0603", "06A0", "06A1", "06A2", "0799"};
	char json[128];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(json, sizeof(json),
			 "{\"fault\":\"status\",\"operation\":\"telemetry\",\"status\":\"%s\",\"count\":1}",
			 rows[i]);
		EXPECT_STREQ(set(self, json), "");
		EXPECT_STREQ(acked(self), rows[i]);
		EXPECT_STREQ(acked(self), "");
	}
}

TEST_F(faults, a_status_for_each_operation)
{
	struct emu_peer *p = self->peer;

	EXPECT_STREQ(set(self, "{\"fault\":\"status\",\"operation\":\"twin-get\",\"status\":\"0501\"}"), "");
	EXPECT_STREQ(set(self, "{\"fault\":\"status\",\"operation\":\"twin-patch\",\"status\":\"0602\"}"),
		     "");
	EXPECT_STREQ(emu_ask(p, &self->reply, "$iothub/twin/get", NULL, ""), "0501");
	EXPECT_STREQ(emu_ask(p, &self->reply, "$iothub/twin/patch/reported", NULL, "{\"a\":1}"), "0602");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(
		set(self, "{\"fault\":\"status\",\"operation\":\"connect\",\"status\":\"0501\",\"count\":1}"),
		"");
	EXPECT_EQ(connect_again(self), 0x97);
	EXPECT_STREQ(status(self), "0501");
	EXPECT_EQ(connect_again(self), 0);
	EXPECT_STREQ(set(self, "{\"fault\":\"status\",\"status\":\"0603\",\"device\":\"dev2\"}"), "");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(set(self, "{\"fault\":\"status\",\"status\":\"0603\",\"device\":\"dev1\"}"), "");
	EXPECT_STREQ(acked(self), "0603");
	/* A refused patch changes nothing. */
	EXPECT_EQ(self->peer->client->identity->twin.parts[TWIN_REPORTED].version, 1u);
}

TEST_F(faults, a_fraction)
{
	int n = 0;

	EXPECT_STREQ(set(self, "{\"fault\":\"status\",\"status\":\"0601\",\"fraction\":0.25}"), "");
	for (int i = 0; i < 1000; i++)
		n += strcmp(acked(self), "0601") == 0;
	EXPECT_GT(n, 180);
	EXPECT_LT(n, 320);
}

TEST_F(faults, throttle)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"throttle\",\"rate\":10,\"burst\":3}"), "");
	for (int i = 0; i < 3; i++)
		EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "0501");
	emu_world_pass_ms(&self->w, 99);
	EXPECT_STREQ(acked(self), "0501");
	emu_world_pass_ms(&self->w, 1);
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "0501");
	/* It never saves up more than the burst. */
	emu_world_pass_ms(&self->w, 50000);
	for (int i = 0; i < 3; i++)
		EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "0501");
}

TEST_F(faults, quota)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"quota\",\"messages\":2}"), "");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "0502");
	EXPECT_STREQ(acked(self), "0502");
	telemetry(self, 0);
	EXPECT_EQ(disconnect(self), 0x97);
	EXPECT_STREQ(status(self), "0502");
}

TEST_F(faults, of_two_rates_or_quotas_the_first_holds)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"quota\",\"messages\":3,\"device\":\"dev1\"}"), "");
	EXPECT_STREQ(set(self, "{\"fault\":\"quota\",\"messages\":2}"), "");
	for (int i = 0; i < 3; i++)
		EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "0502");
	EXPECT_STREQ(acked(self), "0502");
	emu_ask(self->service, &self->reply, "$service/faults/clear", NULL, "");
	EXPECT_STREQ(set(self, "{\"fault\":\"throttle\",\"rate\":1,\"burst\":2}"), "");
	EXPECT_STREQ(set(self, "{\"fault\":\"throttle\",\"rate\":100,\"burst\":1}"), "");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "0501");
	EXPECT_STREQ(acked(self), "0501");
}

TEST_F(faults, delay)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"delay\",\"operation\":\"twin-get\",\"ms\":500}"), "");
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/get", NULL, ""), "none");
	emu_world_pass_ms(&self->w, 499);
	EXPECT_FALSE(emu_reply_take(self->peer, "ask", &self->reply));
	emu_world_pass_ms(&self->w, 1);
	EXPECT_TRUE(emu_reply_take(self->peer, "ask", &self->reply));
	EXPECT_STREQ(acked(self), "");
}

TEST_F(faults, lose_puback)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"lose-puback\",\"count\":1}"), "");
	EXPECT_STREQ(acked(self), "none");
	EXPECT_EQ(self->w.hub.enqueued_sequence, 1u);
	EXPECT_STREQ(acked(self), "");
	EXPECT_EQ(closing(self), EMU_OPEN + 0u);
}

TEST_F(faults, cut_before_a_packet)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"cut\",\"when\":\"before\",\"every\":2,\"count\":1}"), "");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(acked(self), "none");
	EXPECT_EQ(closing(self), EMU_CUT + 0u);
	EXPECT_EQ(self->w.hub.enqueued_sequence, 1u);
	EXPECT_EQ(connect_again(self), 0);
	EXPECT_STREQ(acked(self), "");
}

TEST_F(faults, cut_with_the_answer_lost)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"cut\",\"when\":\"unanswered\",\"operation\":\"twin-patch\"}"),
		     "");
	EXPECT_STREQ(acked(self), "");
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/patch/reported", NULL, "{\"a\":1}"),
		     "none");
	EXPECT_EQ(closing(self), EMU_CUT + 0u);
	emu_ask(self->service, &self->reply, "$service/twin/show", "device=dev1", "");
	EXPECT_TRUE(strstr(self->reply.payload, "\"a\":1") != NULL);
}

TEST_F(faults, cut_after_a_packet)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"cut\",\"when\":\"after\",\"operation\":\"subscribe\"}"), "");
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 1);
	EXPECT_EQ(closing(self), EMU_CUT_FLUSH + 0u);
}

TEST_F(faults, slow_writes)
{
	struct bytes out;
	size_t n = 0;

	EXPECT_STREQ(set(self, "{\"fault\":\"slow\",\"bytes\":2,\"ms\":10}"), "");
	emu_peer_close(self->peer);
	self->peer = emu_peer_open(&self->w, "localhost");
	{
		struct hub_connect c = hub_connect_make("dev1", emu_world_key(&self->w, "dev1", 0));
		uint8_t bytes[HUB_CONNECT_MAX];

		emu_peer_send_bytes(self->peer, hub_connect_encode(&c, bytes));
	}
	for (;;) {
		out = emu_client_output(self->peer->client);
		if (out.len == 0)
			break;
		EXPECT_LE(out.len, 2u);
		emu_client_sent(self->peer->client, out.len);
		EXPECT_EQ(emu_client_output(self->peer->client).len, 0u);
		n += out.len;
		if (emu_client_deadline_ns(self->peer->client) > self->w.hub.now_ns + 10 * NSEC_PER_MSEC)
			break;
		emu_world_pass_ms(&self->w, 10);
	}
	EXPECT_GT(n, 20u);
}

/* Takes @n bytes of what a slow connection has. */
static void take_slowly(struct fixture_faults *self, size_t n)
{
	while (n > 0) {
		struct bytes out = emu_client_output(self->peer->client);
		size_t take = out.len < n ? out.len : n;

		ASSERT_GT(take, 0u);
		emu_client_sent(self->peer->client, take);
		n -= take;
		emu_world_pass_ms(&self->w, 10);
	}
}

TEST_F(faults, each_puback_that_is_out_makes_room_for_a_message)
{
	struct emu_client *c = self->peer->client;
	size_t one;

	c->slow_bytes = 2;
	c->slow_ns = 10 * NSEC_PER_MSEC;
	telemetry(self, 1);
	one = buf_len(&c->out);
	for (int i = 1; i < CONTRACT_RECEIVE_MAXIMUM; i++)
		telemetry(self, 1);
	EXPECT_EQ(buf_len(&c->out), one * CONTRACT_RECEIVE_MAXIMUM);
	take_slowly(self, one);
	telemetry(self, 1);
	EXPECT_EQ(closing(self), EMU_OPEN + 0u);
	/* A PUBACK of which a byte is missing makes none. */
	take_slowly(self, one - 1);
	telemetry(self, 1);
	EXPECT_EQ(closing(self), EMU_CLOSE + 0u);
}

TEST_F(faults, refuse_connections)
{
	EXPECT_STREQ(set(self,
			 "{\"fault\":\"refuse\",\"reason\":\"0x9c\",\"server-reference\":\"other:8883\","
			 "\"count\":1}"),
		     "");
	EXPECT_EQ(connect_again(self), 0x9c);
	EXPECT_TRUE(bytes_equal_str(self->packet.properties.server_reference, "other:8883"));
	EXPECT_EQ(connect_again(self), 0);
	EXPECT_STREQ(set(self, "{\"fault\":\"refuse\",\"reason\":151,\"count\":1}"), "");
	EXPECT_EQ(connect_again(self), 0x97);
}

TEST_F(faults, suback_failures)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"suback\",\"topic\":\"$iothub/commands\",\"count\":1}"), "");
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/twin/patch/desired"), 0);
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 0x87);
	EXPECT_EQ(self->peer->client->session->n_subscriptions, 1u);
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 1);
	EXPECT_STREQ(set(self, "{\"fault\":\"suback\",\"reason\":\"0x97\"}"), "");
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0x97);
}

TEST_F(faults, smaller_limits)
{
	EXPECT_STREQ(set(self,
			 "{\"fault\":\"limits\",\"receive-maximum\":2,\"maximum-packet-size\":200,"
			 "\"topic-alias-maximum\":0,\"keep-alive\":5,\"session-expiry\":7,\"count\":1}"),
		     "");
	ASSERT_EQ(connect_again(self), 0);
	EXPECT_EQ(self->packet.properties.receive_maximum, 2);
	EXPECT_EQ(self->packet.properties.maximum_packet_size, 200u);
	EXPECT_EQ(self->packet.properties.topic_alias_maximum, 0);
	EXPECT_EQ(self->packet.properties.server_keep_alive, 5);
	EXPECT_EQ(self->packet.properties.session_expiry_interval, 7u);
	for (int i = 0; i < 3; i++)
		telemetry(self, 1);
	EXPECT_EQ(emu_peer_next(self->peer, &self->packet), true);
	EXPECT_EQ(emu_peer_next(self->peer, &self->packet), true);
	EXPECT_EQ(disconnect(self), 0x93);
	ASSERT_EQ(connect_again(self), 0);
	EXPECT_EQ(self->packet.properties.receive_maximum, 16);
}

TEST_F(faults, expire_tokens_now)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"expire\"}"), "");
	EXPECT_STREQ(self->reply.payload, "{\"hits\":1}");
	EXPECT_EQ(disconnect(self), 0x87);
	EXPECT_STREQ(status(self), "0101");
}

TEST_F(faults, take_over)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"take-over\",\"device\":\"dev2\"}"), "");
	EXPECT_STREQ(self->reply.payload, "{\"hits\":0}");
	EXPECT_STREQ(set(self, "{\"fault\":\"take-over\",\"device\":\"dev1\"}"), "");
	EXPECT_EQ(disconnect(self), 0x8e);
	EXPECT_EQ(connect_again(self), 0);
	EXPECT_TRUE(self->packet.connack.session_present);
}

TEST_F(faults, disconnect_with_any_reason)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"disconnect\",\"reason\":\"0x9d\",\"server-reference\":\"b\"}"),
		     "");
	EXPECT_EQ(disconnect(self), 0x9d);
	EXPECT_TRUE(bytes_equal_str(self->packet.properties.server_reference, "b"));
	EXPECT_EQ(connect_again(self), 0);
	EXPECT_STREQ(set(self, "{\"fault\":\"disconnect\",\"reason\":131,\"status\":\"0603\"}"), "");
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(status(self), "0603");
}

TEST_F(faults, drop)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"drop\"}"), "");
	EXPECT_EQ(closing(self), EMU_CUT + 0u);
}

TEST_F(faults, forget_session)
{
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 1);
	EXPECT_STREQ(set(self, "{\"fault\":\"forget-session\"}"), "");
	EXPECT_EQ(closing(self), EMU_CUT + 0u);
	EXPECT_EQ(connect_again(self), 0);
	EXPECT_FALSE(self->packet.connack.session_present);
	/* One that is away, too. */
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 1);
	emu_peer_close(self->peer);
	self->peer = NULL;
	EXPECT_STREQ(set(self, "{\"fault\":\"forget-session\",\"device\":\"dev1\"}"), "");
	EXPECT_STREQ(self->reply.payload, "{\"hits\":1}");
	EXPECT_EQ(connect_again(self), 0);
	EXPECT_FALSE(self->packet.connack.session_present);
}

TEST_F(faults, list_and_clear)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"status\",\"status\":\"0501\",\"count\":2}"), "");
	EXPECT_STREQ(self->reply.payload, "{\"id\":1}");
	EXPECT_STREQ(set(self, "{\"fault\":\"refuse\",\"reason\":\"0x97\"}"), "");
	EXPECT_STREQ(acked(self), "0501");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/faults/list", NULL, ""), "");
	EXPECT_STREQ(
		self->reply.payload,
		"[{\"id\":1,\"fault\":\"status\",\"operation\":\"any\",\"fraction\":1.0,\"status\":\"0501\","
		"\"left\":1,\"hits\":1},{\"id\":2,\"fault\":\"refuse\",\"fraction\":1.0,\"reason\":\"0x97\","
		"\"hits\":"
		"0}]");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/faults/clear", "id=3", ""), "0504");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/faults/clear", "id=2", ""), "");
	EXPECT_STREQ(self->reply.payload, "{\"cleared\":1}");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/faults/clear", NULL, ""), "");
	EXPECT_STREQ(self->reply.payload, "{\"cleared\":1}");
	EXPECT_STREQ(acked(self), "");
}

TEST_F(faults, what_is_set_is_checked)
{
	static const char *const rows[] = {
		"",
		"[]",
		"{}",
		"{\"fault\":\"dance\"}",
		"{\"fault\":\"status\"}",
		"{\"fault\":\"status\",\"status\":\"0000\"}",
		"{\"fault\":\"status\",\"status\":\"0001\"}",
		"{\"fault\":\"status\",\"status\":501}",
		"{\"fault\":\"status\",\"status\":\"0501\",\"operation\":\"subscribe\"}",
		"{\"fault\":\"status\",\"status\":\"0501\",\"count\":0}",
		"{\"fault\":\"status\",\"status\":\"0501\",\"fraction\":1.5}",
		"{\"fault\":\"status\",\"status\":\"0501\",\"ms\":5}",
		"{\"fault\":\"delay\",\"ms\":-1}",
		"{\"fault\":\"delay\",\"ms\":1,\"operation\":\"auth\"}",
		"{\"fault\":\"cut\",\"when\":\"now\"}",
		"{\"fault\":\"refuse\",\"reason\":0}",
		"{\"fault\":\"refuse\",\"reason\":\"0x8e\"}",
		"{\"fault\":\"disconnect\",\"reason\":\"0x86\"}",
		"{\"fault\":\"suback\",\"reason\":1}",
		"{\"fault\":\"limits\"}",
		"{\"fault\":\"limits\",\"receive-maximum\":0}",
		"{\"fault\":\"expire\",\"count\":1}",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		EXPECT_STREQ(set(self, rows[i]), "0100");
	EXPECT_STREQ(set(self, "{\"fault\":\"drop\",\"device\":\"nobody\"}"), "0504");
	EXPECT_EQ(self->w.hub.faults.n, 0u);
}

TEST_F(faults, the_table_has_64_places)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"lose-puback\",\"count\":1}"), "");
	for (int i = 1; i < 64; i++)
		EXPECT_STREQ(set(self, "{\"fault\":\"lose-puback\"}"), "");
	EXPECT_STREQ(set(self, "{\"fault\":\"lose-puback\"}"), "0502");
	/* One that has acted for the last time makes room. */
	EXPECT_STREQ(acked(self), "none");
	EXPECT_STREQ(set(self, "{\"fault\":\"lose-puback\"}"), "");
}

TEST_F(faults, the_service_side_does_not_suffer)
{
	EXPECT_STREQ(set(self, "{\"fault\":\"cut\",\"when\":\"before\"}"), "");
	EXPECT_STREQ(set(self, "{\"fault\":\"refuse\",\"reason\":\"0x97\"}"), "");
	EXPECT_STREQ(set(self, "{\"fault\":\"suback\"}"), "");
	EXPECT_EQ(emu_subscribe(self->service, "$service/telemetry"), 0);
	emu_peer_close(self->service);
	self->service = emu_peer_service(&self->w, "service/t");
	EXPECT_TRUE(self->service != NULL);
}

TEST_HARNESS_MAIN
