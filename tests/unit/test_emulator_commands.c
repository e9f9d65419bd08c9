/* SPDX-License-Identifier: MIT */
/* Commands at the hub: queue, delivery, settlement, dead letters, sessions, flow control. */

#include "tests/harness.h"
#include "tests/support/emu_service.h"

FIXTURE(commands)
{
	struct emu_world w;
	struct emu_peer *peer, *service;
	struct emu_reply reply;
	struct mqtt_packet packet;
	char text[256];
};

FIXTURE_SETUP(commands)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->peer = emu_peer_connected(&self->w, "dev1");
	self->service = emu_peer_service(&self->w, "service/t");
	ASSERT_TRUE(self->peer && self->service);
}

FIXTURE_TEARDOWN(commands)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_peer_close(self->service);
	emu_world_deinit(&self->w);
}

static const char *send_command(struct fixture_commands *self, const char *properties, const char *payload)
{
	char all[512];

	snprintf(all, sizeof(all), "device=dev1%s%s", properties ? "," : "", properties ? properties : "");
	return emu_ask(self->service, &self->reply, "$service/commands/send", all, payload);
}

static const char *list(struct fixture_commands *self)
{
	emu_ask(self->service, &self->reply, "$service/commands/list", "device=dev1", "");
	return self->reply.payload;
}

static bool subscribe(struct fixture_commands *self)
{
	return emu_subscribe(self->peer, "$iothub/commands@1") == 1;
}

static const char *property(struct fixture_commands *self, const char *name)
{
	return hub_property(&self->packet, name, self->text, sizeof(self->text));
}

/* The next packet is a command with this payload. */
static bool command(struct fixture_commands *self, const char *payload)
{
	return emu_peer_next(self->peer, &self->packet) && self->packet.type == MQTT_PUBLISH &&
	       bytes_equal_str(self->packet.publish.topic, "$iothub/commands") &&
	       bytes_equal_str(self->packet.publish.payload, payload);
}

static bool nothing(struct fixture_commands *self)
{
	return !emu_peer_next(self->peer, &self->packet);
}

static void settle(struct fixture_commands *self, uint8_t reason, const char *status)
{
	emu_puback(self->peer, self->packet.publish.packet_id, reason, status);
}

/* What was abandoned comes again. */
static void wait_for_redelivery(struct fixture_commands *self)
{
	emu_world_pass_ms(&self->w, COMMAND_REDELIVERY_MS);
}

static struct emu_peer *reconnect_as(struct fixture_commands *self, bool clean_start,
				     uint16_t receive_maximum)
{
	struct hub_connect c = hub_connect_make("dev1", emu_world_key(&self->w, "dev1", 0));
	uint8_t bytes[HUB_CONNECT_MAX];

	emu_peer_close(self->peer);
	c.packet.connect.clean_start = clean_start;
	if (receive_maximum) {
		c.packet.properties.receive_maximum = receive_maximum;
		mqtt_set(&c.packet.properties, MQTT_PROP_RECEIVE_MAXIMUM);
	}
	self->peer = emu_peer_open(&self->w, "localhost");
	emu_peer_send_bytes(self->peer, hub_connect_encode(&c, bytes));
	if (!emu_peer_next(self->peer, &self->packet) || self->packet.connack.reason != 0)
		abort();
	return self->peer;
}

TEST_F(commands, a_command_has_what_was_sent_and_what_the_hub_adds)
{
	ASSERT_TRUE(subscribe(self));
	EXPECT_STREQ(
		send_command(
			self,
			"message-id=m,user-id=u,correlation-id=c,content-encoding=e,creation-time=1,@a=b",
			"do it"),
		"");
	EXPECT_STREQ(emu_reply_property(&self->reply, "sequence-no"), "1");
	EXPECT_STREQ(emu_reply_property(&self->reply, "enqueued-time"), "2023-11-14T22:13:20.000Z");
	ASSERT_TRUE(command(self, "do it"));
	EXPECT_EQ(self->packet.publish.qos, 1);
	EXPECT_FALSE(self->packet.publish.dup);
	EXPECT_STREQ(property(self, "sequence-no"), "1");
	EXPECT_STREQ(property(self, "enqueued-time"), "2023-11-14T22:13:20.000Z");
	EXPECT_STREQ(property(self, "delivery-count"), "1");
	EXPECT_STREQ(property(self, "message-id"), "m");
	EXPECT_STREQ(property(self, "user-id"), "u");
	EXPECT_STREQ(property(self, "correlation-id"), "c");
	EXPECT_STREQ(property(self, "content-encoding"), "e");
	EXPECT_STREQ(property(self, "creation-time"), "1");
	EXPECT_STREQ(property(self, "@a"), "b");
	EXPECT_STREQ(property(self, "device"), "");
	EXPECT_STREQ(property(self, "ttl"), "");
	settle(self, 0, NULL);
	EXPECT_STREQ(list(self), "[]");
}

TEST_F(commands, they_queue_until_a_subscription_exists)
{
	EXPECT_STREQ(send_command(self, NULL, "1"), "");
	EXPECT_STREQ(send_command(self, NULL, "2"), "");
	EXPECT_TRUE(nothing(self));
	emu_peer_close(self->peer);
	self->peer = NULL;
	EXPECT_STREQ(send_command(self, NULL, "3"), "");
	self->peer = emu_peer_connected(&self->w, "dev1");
	EXPECT_TRUE(nothing(self));
	ASSERT_TRUE(subscribe(self));
	EXPECT_TRUE(command(self, "1"));
	EXPECT_TRUE(command(self, "2"));
	EXPECT_TRUE(command(self, "3"));
	EXPECT_TRUE(nothing(self));
}

TEST_F(commands, complete)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "x");
	ASSERT_TRUE(command(self, "x"));
	EXPECT_TRUE(strstr(list(self), "\"in-flight\"") != NULL);
	settle(self, 0, NULL);
	EXPECT_STREQ(list(self), "[]");
	EXPECT_TRUE(nothing(self));
}

TEST_F(commands, abandon_delivers_again_and_counts)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "x");
	ASSERT_TRUE(command(self, "x"));
	settle(self, 131, "0603");
	EXPECT_TRUE(nothing(self));
	EXPECT_TRUE(strstr(list(self), "\"queued\"") != NULL);
	emu_world_pass_ms(&self->w, COMMAND_REDELIVERY_MS - 1);
	EXPECT_TRUE(nothing(self));
	emu_world_pass_ms(&self->w, 1);
	ASSERT_TRUE(command(self, "x"));
	EXPECT_STREQ(property(self, "delivery-count"), "2");
	EXPECT_STREQ(property(self, "sequence-no"), "1");
	EXPECT_FALSE(self->packet.publish.dup);
	settle(self, 0, NULL);
	EXPECT_STREQ(list(self), "[]");
}

TEST_F(commands, those_behind_an_abandoned_one_do_not_wait_for_it)
{
	ASSERT_TRUE(subscribe(self));
	self->peer->client->receive_maximum = 1;
	send_command(self, NULL, "1");
	send_command(self, NULL, "2");
	ASSERT_TRUE(command(self, "1"));
	settle(self, 131, "0603");
	ASSERT_TRUE(command(self, "2"));
	wait_for_redelivery(self);
	EXPECT_TRUE(nothing(self));
	settle(self, 0, NULL);
	ASSERT_TRUE(command(self, "1"));
}

/* A new connection is no way around it. */
TEST_F(commands, an_abandoned_one_waits_across_connections)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "x");
	ASSERT_TRUE(command(self, "x"));
	settle(self, 131, "0603");
	reconnect_as(self, false, 0);
	EXPECT_TRUE(nothing(self));
	emu_peer_close(self->peer);
	self->peer = NULL;
	wait_for_redelivery(self);
	self->peer = emu_peer_connected(&self->w, "dev1");
	EXPECT_TRUE(command(self, "x"));
}

TEST_F(commands, the_delay_and_the_number_of_deliveries_are_options)
{
	self->w.hub.options.redelivery_delay_ms = 0;
	self->w.hub.options.deliveries_max = 3;
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "x");
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(command(self, "x"));
		settle(self, 131, "0603");
	}
	EXPECT_TRUE(nothing(self));
	EXPECT_TRUE(strstr(list(self), "\"dead-letter-reason\":\"delivery-count\"") != NULL);
	send_command(self, NULL, "y");
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(command(self, "y"));
		reconnect_as(self, false, 0);
	}
	EXPECT_TRUE(nothing(self));
}

TEST_F(commands, the_tenth_delivery_is_the_last)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "x");
	for (int i = 1; i <= 10; i++) {
		ASSERT_TRUE(command(self, "x"));
		EXPECT_EQ(atoi(property(self, "delivery-count")), i);
		settle(self, 131, "0603");
		wait_for_redelivery(self);
	}
	EXPECT_TRUE(nothing(self));
	EXPECT_TRUE(strstr(list(self), "\"dead-letter-reason\":\"delivery-count\"") != NULL);
}

TEST_F(commands, reject_is_for_ever)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, "@a=b", "x");
	ASSERT_TRUE(command(self, "x"));
	settle(self, 131, "0100");
	EXPECT_TRUE(nothing(self));
	EXPECT_TRUE(strstr(list(self), "\"state\":\"dead-lettered\"") != NULL);
	EXPECT_TRUE(strstr(list(self), "\"dead-letter-reason\":\"rejected\"") != NULL);
	EXPECT_TRUE(strstr(list(self), "\"properties\":{\"@a\":\"b\"},\"payload\":\"x\"") != NULL);
}

TEST_F(commands, an_unknown_status_is_classified_by_its_bits)
{
	static const struct {
		uint8_t reason;
		const char *status;
		bool again;
	} rows[] = {
		{131, "0700", true}, {131, "0500", true}, {131, "0299", false},
		{151, NULL, true},   {131, NULL, true},   {135, NULL, false},
		{131, "what", true}, {131, "06a0", true}, {0x10, NULL, false},
	};

	ASSERT_TRUE(subscribe(self));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		send_command(self, NULL, "x");
		ASSERT_TRUE(command(self, "x"));
		settle(self, rows[i].reason, rows[i].status);
		wait_for_redelivery(self);
		EXPECT_EQ(command(self, "x"), rows[i].again);
		if (rows[i].again)
			settle(self, 0, NULL);
	}
}

TEST_F(commands, a_queue_has_up_to_16_mib)
{
	static char payload[COMMAND_SIZE_MAX + 1];

	memset(payload, 'x', COMMAND_SIZE_MAX);
	for (size_t i = 0; i < COMMANDS_QUEUED_BYTES_MAX / COMMAND_SIZE_MAX; i++)
		ASSERT_STREQ(send_command(self, NULL, payload), "");
	EXPECT_STREQ(send_command(self, NULL, "x"), "0502");
	/* One that leaves the queue makes room, also as a dead letter. */
	ASSERT_TRUE(subscribe(self));
	ASSERT_TRUE(command(self, payload));
	settle(self, 131, "0100");
	EXPECT_STREQ(send_command(self, NULL, payload), "");
	EXPECT_STREQ(send_command(self, NULL, "x"), "0502");
	EXPECT_EQ(self->peer->client->identity->commands.n_dead, 1u);
}

TEST_F(commands, a_puback_of_nothing_is_ignored)
{
	uint16_t packet_id;

	emu_puback(self->peer, 5, 0, NULL);
	emu_puback(self->service, 5, 0, NULL);
	EXPECT_TRUE(nothing(self));
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "x");
	ASSERT_TRUE(command(self, "x"));
	packet_id = self->packet.publish.packet_id;
	/* Twice, and once more on another connection. */
	emu_puback(self->peer, packet_id, 0, NULL);
	emu_puback(self->peer, packet_id, 0, NULL);
	reconnect_as(self, true, 0);
	emu_puback(self->peer, packet_id, 0, NULL);
	EXPECT_TRUE(nothing(self));
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
	EXPECT_EQ(emu_client_closing(self->service->client), EMU_OPEN + 0u);
	/* What only waits is not settled by it. */
	send_command(self, NULL, "y");
	emu_puback(self->peer, packet_id, 0, NULL);
	EXPECT_TRUE(strstr(list(self), "\"y\"") != NULL);
}

TEST_F(commands, a_puback_with_an_unknown_property_is_a_bad_request)
{
	uint8_t scratch[64];
	struct writer w = writer_init(scratch, sizeof(scratch));
	struct mqtt_packet ack = {.type = MQTT_PUBACK};

	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "x");
	ASSERT_TRUE(command(self, "x"));
	mqtt_user_property_put(&w, BYTES_LIT("colour"), BYTES_LIT("red"));
	ack.ack.packet_id = self->packet.publish.packet_id;
	ack.properties.repeatable = writer_bytes(&w);
	emu_peer_send(self->peer, &ack);
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_EQ(self->packet.type, MQTT_DISCONNECT + 0u);
	EXPECT_EQ(self->packet.disconnect.reason, 131);
	EXPECT_STREQ(property(self, "status"), "0100");
}

TEST_F(commands, they_expire_while_they_wait)
{
	EXPECT_STREQ(send_command(self, "ttl=10", "short"), "");
	EXPECT_STREQ(send_command(self, NULL, "long"), "");
	emu_world_pass_ms(&self->w, 10000);
	EXPECT_TRUE(strstr(list(self), "\"dead-letter-reason\":\"expired\"") != NULL);
	ASSERT_TRUE(subscribe(self));
	EXPECT_TRUE(command(self, "long"));
	EXPECT_TRUE(nothing(self));
	EXPECT_STREQ(send_command(self, "ttl=0", "x"), "0100");
	EXPECT_STREQ(send_command(self, "ttl=172801", "x"), "0100");
}

/* With an answer from the device it is the device's; without one, or without a connection, it expires. */
TEST_F(commands, they_expire_while_no_connection_has_them)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, "ttl=10", "held");
	ASSERT_TRUE(command(self, "held"));
	emu_world_pass_ms(&self->w, 10000);
	EXPECT_TRUE(strstr(list(self), "\"in-flight\"") != NULL);
	settle(self, 131, "0603");
	EXPECT_TRUE(strstr(list(self), "\"dead-letter-reason\":\"expired\"") != NULL);
	send_command(self, "ttl=10", "lost");
	ASSERT_TRUE(command(self, "lost"));
	emu_peer_close(self->peer);
	self->peer = NULL;
	emu_world_pass_ms(&self->w, 10000);
	/* Nobody has to look for it. */
	EXPECT_EQ(emu_registry_find(self->w.registry, BYTES_LIT("dev1"))->commands.n_dead, 2u);
	self->peer = emu_peer_connected(&self->w, "dev1");
	EXPECT_TRUE(nothing(self));
}

/* MQTT 5 section 4.6: what was abandoned meanwhile was sent last. */
TEST_F(commands, a_resumed_session_gets_them_in_the_order_in_which_they_were_sent)
{
	ASSERT_TRUE(subscribe(self));
	for (const char *payload = "1\0002\0003\0"; *payload; payload += 2)
		send_command(self, NULL, payload);
	ASSERT_TRUE(command(self, "1"));
	settle(self, 131, "0603");
	ASSERT_TRUE(command(self, "2"));
	ASSERT_TRUE(command(self, "3"));
	wait_for_redelivery(self);
	ASSERT_TRUE(command(self, "1"));
	reconnect_as(self, false, 0);
	EXPECT_TRUE(command(self, "2"));
	EXPECT_TRUE(command(self, "3"));
	EXPECT_TRUE(command(self, "1"));
	/* A new session gets them in the order of their numbers. */
	reconnect_as(self, true, 0);
	ASSERT_TRUE(subscribe(self));
	EXPECT_TRUE(command(self, "1"));
	EXPECT_TRUE(command(self, "2"));
	EXPECT_TRUE(command(self, "3"));
}

TEST_F(commands, a_resumed_session_gets_what_was_in_flight_again)
{
	uint16_t packet_id;

	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "1");
	send_command(self, NULL, "2");
	ASSERT_TRUE(command(self, "1"));
	packet_id = self->packet.publish.packet_id;
	ASSERT_TRUE(command(self, "2"));
	settle(self, 0, NULL);
	reconnect_as(self, false, 0);
	EXPECT_TRUE(self->packet.connack.session_present);
	ASSERT_TRUE(command(self, "1"));
	EXPECT_TRUE(self->packet.publish.dup);
	EXPECT_EQ(self->packet.publish.packet_id, packet_id);
	EXPECT_STREQ(property(self, "sequence-no"), "1");
	EXPECT_STREQ(property(self, "delivery-count"), "2");
	EXPECT_TRUE(nothing(self));
	/* The subscription is kept, too. */
	send_command(self, NULL, "3");
	EXPECT_TRUE(command(self, "3"));
}

TEST_F(commands, a_new_session_gets_them_anew)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "1");
	ASSERT_TRUE(command(self, "1"));
	reconnect_as(self, true, 0);
	EXPECT_FALSE(self->packet.connack.session_present);
	EXPECT_TRUE(nothing(self));
	ASSERT_TRUE(subscribe(self));
	ASSERT_TRUE(command(self, "1"));
	EXPECT_FALSE(self->packet.publish.dup);
	EXPECT_STREQ(property(self, "delivery-count"), "2");
}

TEST_F(commands, lost_ten_times_is_a_dead_letter)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "1");
	for (int i = 0; i < 10; i++) {
		ASSERT_TRUE(command(self, "1"));
		reconnect_as(self, false, 0);
	}
	EXPECT_TRUE(nothing(self));
	EXPECT_TRUE(strstr(list(self), "\"dead-letter-reason\":\"delivery-count\"") != NULL);
}

TEST_F(commands, the_devices_receive_maximum_holds)
{
	uint16_t ids[3];

	reconnect_as(self, false, 3);
	ASSERT_TRUE(subscribe(self));
	for (int i = 0; i < 5; i++)
		send_command(self, NULL, "x");
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(command(self, "x"));
		ids[i] = self->packet.publish.packet_id;
	}
	EXPECT_TRUE(nothing(self));
	emu_puback(self->peer, ids[1], 0, NULL);
	EXPECT_TRUE(command(self, "x"));
	EXPECT_TRUE(nothing(self));
	emu_puback(self->peer, ids[0], 0, NULL);
	emu_puback(self->peer, ids[2], 0, NULL);
	EXPECT_TRUE(command(self, "x"));
	EXPECT_TRUE(nothing(self));
}

TEST_F(commands, the_devices_maximum_packet_size_holds)
{
	ASSERT_TRUE(subscribe(self));
	self->peer->client->maximum_packet_size = 150;
	send_command(self, NULL,
		     "12345678901234567890123456789012345678901234567890123456789012345678901234567890");
	send_command(self, NULL, "small");
	EXPECT_TRUE(command(self, "small"));
	EXPECT_TRUE(strstr(list(self), "\"dead-letter-reason\":\"too-large\"") != NULL);
}

TEST_F(commands, big_ones_wait_for_the_output_to_drain)
{
	char *big = calloc(1, 60001);

	memset(big, 'x', 60000);
	ASSERT_TRUE(subscribe(self));
	for (int i = 0; i < 40; i++)
		EXPECT_STREQ(send_command(self, NULL, big), "");
	EXPECT_LT(emu_client_output(self->peer->client).len, 400000u);
	for (int i = 0; i < 40; i++) {
		ASSERT_TRUE(command(self, big));
		settle(self, 0, NULL);
	}
	EXPECT_TRUE(nothing(self));
	free(big);
}

TEST_F(commands, subscribed_at_qos_0_they_are_complete_when_sent)
{
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/commands@0"), 0);
	send_command(self, NULL, "x");
	ASSERT_TRUE(command(self, "x"));
	EXPECT_EQ(self->packet.publish.qos, 0);
	EXPECT_STREQ(list(self), "[]");
}

TEST_F(commands, bounds_of_a_command_and_of_the_queue)
{
	char *big = calloc(1, 65538);

	memset(big, 'x', 65537);
	EXPECT_STREQ(send_command(self, NULL, big), "0100");
	big[65536] = '\0';
	EXPECT_STREQ(send_command(self, NULL, big), "");
	EXPECT_STREQ(send_command(self, "@a=b", big), "0100");
	for (int i = 1; i < 1000; i++)
		ASSERT_TRUE(*send_command(self, NULL, "x") == '\0');
	EXPECT_STREQ(send_command(self, NULL, "x"), "0502");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/commands/send", "device=dev2", "x"), "");
	free(big);
}

TEST_F(commands, purge)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, NULL, "1");
	ASSERT_TRUE(command(self, "1"));
	settle(self, 131, "0100");
	send_command(self, NULL, "2");
	ASSERT_TRUE(command(self, "2"));
	self->peer->client->receive_maximum = 1;
	send_command(self, NULL, "3");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/commands/purge",
			     "device=dev1,state=queued", ""),
		     "");
	EXPECT_STREQ(self->reply.payload, "{\"purged\":2}");
	EXPECT_TRUE(strstr(list(self), "\"rejected\"") != NULL);
	/* The one in flight is acknowledged after it was purged. */
	settle(self, 131, "0603");
	EXPECT_TRUE(nothing(self));
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
	emu_ask(self->service, &self->reply, "$service/commands/purge", "device=dev1", "");
	EXPECT_STREQ(self->reply.payload, "{\"purged\":1}");
	EXPECT_STREQ(list(self), "[]");
	EXPECT_STREQ(
		emu_ask(self->service, &self->reply, "$service/commands/purge", "device=dev1,state=x", ""),
		"0100");
}

static const char *list_all(struct fixture_commands *self)
{
	emu_ask(self->service, &self->reply, "$service/commands/list", "device=dev1,completed=1", "");
	return self->reply.payload;
}

TEST_F(commands, completed_ones_can_be_listed)
{
	ASSERT_TRUE(subscribe(self));
	send_command(self, "@a=b", "done");
	ASSERT_TRUE(command(self, "done"));
	settle(self, 131, NULL);
	send_command(self, NULL, "rejected");
	ASSERT_TRUE(command(self, "rejected"));
	settle(self, 131, "0100");
	wait_for_redelivery(self);
	ASSERT_TRUE(command(self, "done"));
	settle(self, 0, NULL);
	EXPECT_STREQ(
		list_all(self),
		"[{\"sequence-no\":1,\"state\":\"completed\",\"enqueued-time\":\"2023-11-14T22:13:20.000Z\","
		"\"expires-at\":\"2023-11-14T23:13:20.000Z\",\"delivery-count\":2,"
		"\"settled-time\":\"2023-11-14T22:13:21.000Z\"},"
		"{\"sequence-no\":2,\"state\":\"dead-lettered\",\"enqueued-time\":\"2023-11-14T22:13:20."
		"000Z\","
		"\"expires-at\":\"2023-11-14T23:13:20.000Z\",\"delivery-count\":1,"
		"\"settled-time\":\"2023-11-14T22:13:20.000Z\",\"dead-letter-reason\":\"rejected\","
		"\"properties\":{},\"payload\":\"rejected\"}]");
	EXPECT_TRUE(strstr(list(self), "completed") == NULL);
	/* At QoS 0, too. */
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/commands@0"), 0);
	send_command(self, NULL, "unacknowledged");
	EXPECT_TRUE(strstr(list_all(self), "\"sequence-no\":3,\"state\":\"completed\"") != NULL);
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/commands/list",
			     "device=dev1,completed=yes", ""),
		     "0100");
}

TEST_F(commands, the_last_10000_that_were_completed_are_kept)
{
	struct emu_commands *cs = &emu_registry_find(self->w.registry, BYTES_LIT("dev1"))->commands;

	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/commands@0"), 0);
	for (int i = 0; i < COMMANDS_COMPLETED_MAX + 1; i++) {
		send_command(self, NULL, "x");
		if (!command(self, "x"))
			break;
	}
	EXPECT_EQ(cs->n_completed, (size_t)COMMANDS_COMPLETED_MAX);
	EXPECT_EQ(container_of(list_first(&cs->completed), struct emu_command, link)->sequence_no, 2u);
}

/* The next thing the service side is told about a command. */
static const char *outcome(struct fixture_commands *self)
{
	static char text[128];

	if (!emu_peer_next(self->service, &self->packet) || self->packet.type != MQTT_PUBLISH)
		return "none";
	snprintf(text, sizeof(text), "%.*s", (int)self->packet.publish.topic.len,
		 (const char *)self->packet.publish.topic.data);
	for (const char *const *name = (const char *const[]){"device-id", "sequence-no", "outcome",
							     "delivery-count", "settled-time", NULL};
	     *name; name++) {
		strncat(text, " ", sizeof(text) - strlen(text) - 1);
		strncat(text, property(self, *name), sizeof(text) - strlen(text) - 1);
	}
	return text;
}

TEST_F(commands, those_who_want_to_know_are_told_how_they_end)
{
	static const struct {
		uint8_t reason;
		const char *status, *outcome;
	} rows[] = {
		{0, NULL, "completed 1 2023-11-14T22:13:20.000Z"},
		{131, "0100", "rejected 1 2023-11-14T22:13:20.000Z"},
	};
	char want[256];

	EXPECT_EQ(emu_subscribe(self->service, "$service/commands/outcomes/dev1"), 0);
	ASSERT_TRUE(subscribe(self));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		send_command(self, NULL, "x");
		ASSERT_TRUE(command(self, "x"));
		settle(self, rows[i].reason, rows[i].status);
		snprintf(want, sizeof(want), "$service/commands/outcomes/dev1 dev1 %zu %s", i + 1,
			 rows[i].outcome);
		EXPECT_STREQ(outcome(self), want);
	}
	send_command(self, "ttl=1", "x");
	ASSERT_TRUE(command(self, "x"));
	settle(self, 131, "0603");
	EXPECT_STREQ(outcome(self), "none");
	emu_world_pass_ms(&self->w, 1000);
	EXPECT_STREQ(outcome(self),
		     "$service/commands/outcomes/dev1 dev1 3 expired 1 2023-11-14T22:13:21.000Z");
	send_command(self, NULL, "x");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/commands/send", "device=dev2", "x"), "");
	ASSERT_TRUE(command(self, "x"));
	emu_request_send(self->service, "$service/commands/purge", "device=dev1,state=queued", "", "p");
	EXPECT_STREQ(outcome(self),
		     "$service/commands/outcomes/dev1 dev1 4 purged 1 2023-11-14T22:13:21.000Z");
	emu_reply_take(self->service, "p", &self->reply);
	send_command(self, NULL, "x");
	emu_request_send(self->service, "$service/devices/remove", "device=dev1", "", "r");
	EXPECT_STREQ(outcome(self),
		     "$service/commands/outcomes/dev1 dev1 6 purged 1 2023-11-14T22:13:21.000Z");
}

TEST_F(commands, lists_come_in_pieces_of_100)
{
	for (int i = 0; i < 150; i++)
		send_command(self, NULL, "x");
	list(self);
	EXPECT_STREQ(emu_reply_property(&self->reply, "more"), "1");
	EXPECT_TRUE(strstr(self->reply.payload, "\"sequence-no\":100,") != NULL);
	EXPECT_TRUE(strstr(self->reply.payload, "\"sequence-no\":101,") == NULL);
	emu_ask(self->service, &self->reply, "$service/commands/list", "device=dev1,after=100", "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "more"), "");
	EXPECT_TRUE(strstr(self->reply.payload, "\"sequence-no\":101,") != NULL);
	EXPECT_TRUE(strstr(self->reply.payload, "\"sequence-no\":150,") != NULL);
}

TEST_HARNESS_MAIN
