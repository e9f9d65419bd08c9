/* SPDX-License-Identifier: MIT */
/* The service side: what monitors are told, and what happens to one that does not listen. */

#include <stdlib.h>

#include "tests/harness.h"
#include "tests/support/emu_world.h"

FIXTURE(monitor)
{
	struct emu_world w;
	struct emu_peer *device, *module, *monitor;
	struct mqtt_packet got;
	uint8_t scratch[4096];
	char text[200];
};

FIXTURE_SETUP(monitor)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->device = emu_peer_connected(&self->w, "dev1");
	self->module = emu_peer_connected(&self->w, "dev1/mod");
	self->monitor = emu_peer_service(&self->w, "service/m");
	ASSERT_TRUE(self->device && self->module && self->monitor);
}

FIXTURE_TEARDOWN(monitor)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->device);
	emu_peer_close(self->module);
	emu_peer_close(self->monitor);
	emu_world_deinit(&self->w);
}

/* The reason code of the only filter. */
static int subscribe(struct fixture_monitor *self, enum mqtt_type type, const char *filter)
{
	struct mqtt_packet packet = hub_subscribe_make(type, filter, self->scratch);

	emu_peer_send(self->monitor, &packet);
	if (!emu_peer_next(self->monitor, &self->got) || self->got.suback.reasons.len != 1)
		return -1;
	return self->got.suback.reasons.data[0];
}

static void publish(struct fixture_monitor *self, struct emu_peer *from, const char *payload,
		    const char *properties)
{
	struct mqtt_packet packet =
		hub_publish_make("$iothub/telemetry", 0, 0, payload, properties, self->scratch);

	emu_peer_send(from, &packet);
}

static bool next(struct fixture_monitor *self)
{
	return emu_peer_next(self->monitor, &self->got);
}

static const char *property(struct fixture_monitor *self, const char *name)
{
	return hub_property(&self->got, name, self->text, sizeof(self->text));
}

TEST_F(monitor, a_message_arrives_with_all_it_has)
{
	struct mqtt_packet packet;

	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry"), 0);
	packet = hub_publish_make("$iothub/telemetry", 1, 1, "hello",
				  "message-id=m,user-id=u,correlation-id=c,content-encoding=e,"
				  "creation-time=1600987795320,@a=1,@b=2",
				  self->scratch);
	packet.properties.content_type = BYTES_LIT("text/plain");
	mqtt_set(&packet.properties, MQTT_PROP_CONTENT_TYPE);
	emu_peer_send(self->device, &packet);
	ASSERT_TRUE(next(self));
	ASSERT_EQ(self->got.type, MQTT_PUBLISH + 0u);
	EXPECT_TRUE(bytes_equal_str(self->got.publish.topic, "$service/telemetry/dev1"));
	EXPECT_TRUE(bytes_equal_str(self->got.publish.payload, "hello"));
	EXPECT_EQ(self->got.publish.qos, 0);
	EXPECT_TRUE(bytes_equal_str(self->got.properties.content_type, "text/plain"));
	EXPECT_STREQ(property(self, "message-id"), "m");
	EXPECT_STREQ(property(self, "user-id"), "u");
	EXPECT_STREQ(property(self, "correlation-id"), "c");
	EXPECT_STREQ(property(self, "content-encoding"), "e");
	EXPECT_STREQ(property(self, "creation-time"), "");
	EXPECT_STREQ(property(self, "iothub-creation-time-utc"), "2020-09-24T22:49:55.320Z");
	EXPECT_STREQ(property(self, "@a"), "1");
	EXPECT_STREQ(property(self, "@b"), "2");
	EXPECT_STREQ(property(self, "device-id"), "dev1");
	EXPECT_STREQ(property(self, "module-id"), "");
	EXPECT_STREQ(property(self, "enqueued-time"), "2023-11-14T22:13:20.000Z");
	EXPECT_STREQ(property(self, "enqueued-sequence"), "1");
	EXPECT_STREQ(property(self, "dropped"), "");
	EXPECT_FALSE(next(self));
}

TEST_F(monitor, modules_and_filters)
{
	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry/dev1/mod"), 0);
	publish(self, self->device, "1", NULL);
	publish(self, self->module, "2", NULL);
	ASSERT_TRUE(next(self));
	EXPECT_TRUE(bytes_equal_str(self->got.publish.topic, "$service/telemetry/dev1/mod"));
	EXPECT_STREQ(property(self, "device-id"), "dev1");
	EXPECT_STREQ(property(self, "module-id"), "mod");
	EXPECT_STREQ(property(self, "enqueued-sequence"), "2");
	EXPECT_FALSE(next(self));

	ASSERT_EQ(subscribe(self, MQTT_UNSUBSCRIBE, "$service/telemetry/dev1/mod"), 0);
	publish(self, self->module, "3", NULL);
	EXPECT_FALSE(next(self));

	/* A device's filter includes its modules, and each message comes once. */
	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry/dev1"), 0);
	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry"), 0);
	publish(self, self->module, "4", NULL);
	ASSERT_TRUE(next(self));
	EXPECT_FALSE(next(self));
	ASSERT_EQ(subscribe(self, MQTT_UNSUBSCRIBE, "$service/telemetry"), 0);
	ASSERT_EQ(subscribe(self, MQTT_UNSUBSCRIBE, "$service/telemetry/dev1"), 0);
	ASSERT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry/dev"), 0);
	publish(self, self->device, "5", NULL);
	EXPECT_FALSE(next(self));
}

TEST_F(monitor, filters_it_does_not_know)
{
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry/"), 0x8f);
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetryx"), 0x8f);
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry/a/b/c"), 0x8f);
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$iothub/commands"), 0x8f);
	EXPECT_EQ(subscribe(self, MQTT_SUBSCRIBE, "$service/#"), 0xa2);
	EXPECT_EQ(subscribe(self, MQTT_UNSUBSCRIBE, "$service/telemetry"), 0x11);
}

TEST_F(monitor, refused_messages_are_not_posted_and_duplicates_are)
{
	struct mqtt_packet packet =
		hub_publish_make("$iothub/telemetry", 1, 1, "x", "message-id=1", self->scratch);

	subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry");
	publish(self, self->device, "no", "colour=red");
	EXPECT_FALSE(next(self));
	emu_peer_close(self->device);
	self->device = emu_peer_connected(&self->w, "dev1");
	packet = hub_publish_make("$iothub/telemetry", 1, 1, "x", "message-id=1", self->scratch);
	emu_peer_send(self->device, &packet);
	packet.publish.dup = true;
	emu_peer_send(self->device, &packet);
	ASSERT_TRUE(next(self));
	ASSERT_TRUE(next(self));
	EXPECT_STREQ(property(self, "message-id"), "1");
	EXPECT_FALSE(next(self));
}

TEST_F(monitor, one_that_does_not_listen_loses_and_is_told)
{
	const size_t len = 200000, n = EMU_MONITOR_OUT_MAX / 200000 + 5;
	char *payload = calloc(1, len + 1);
	size_t n_got = 0;

	memset(payload, 'x', len);
	subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry");
	for (size_t i = 0; i < n; i++)
		publish(self, self->device, payload, NULL);
	EXPECT_LE(emu_client_output(self->monitor->client).len, EMU_MONITOR_OUT_MAX + 0u);
	while (next(self)) {
		EXPECT_STREQ(property(self, "dropped"), "");
		n_got++;
	}
	EXPECT_LT(n_got, n);
	publish(self, self->device, "after", NULL);
	ASSERT_TRUE(next(self));
	EXPECT_EQ((size_t)atoi(property(self, "dropped")), n - n_got);
	EXPECT_EQ((size_t)atoi(property(self, "enqueued-sequence")), n + 1);
	publish(self, self->device, "after", NULL);
	ASSERT_TRUE(next(self));
	EXPECT_STREQ(property(self, "dropped"), "");
	free(payload);
}

TEST_F(monitor, the_fullest_packet_still_fits)
{
	const size_t size = CONTRACT_MAXIMUM_PACKET_SIZE;
	uint8_t *field = malloc(size), *bytes = malloc(size);
	struct writer w = writer_init(field, size - 128), out = writer_init(bytes, size);
	struct mqtt_packet packet;

	subscribe(self, MQTT_SUBSCRIBE, "$service/telemetry");
	/* Nothing but properties, and the one that gets longer when it is posted. */
	mqtt_user_property_put(&w, BYTES_LIT("creation-time"), BYTES_LIT("0"));
	while (writer_len(&w) + 7 <= size - 128)
		mqtt_user_property_put(&w, BYTES_LIT("@a"), BYTES_LIT(""));
	packet = hub_publish_make("$iothub/telemetry", 0, 0, "", NULL, self->scratch);
	packet.properties.repeatable = writer_bytes(&w);
	ASSERT_EQ(mqtt_encode(&out, &packet, MQTT_LEVEL_5), 0);
	emu_peer_send_bytes(self->device, writer_bytes(&out));
	ASSERT_TRUE(next(self));
	EXPECT_STREQ(property(self, "iothub-creation-time-utc"), "1970-01-01T00:00:00.000Z");
	EXPECT_STREQ(property(self, "enqueued-sequence"), "1");
	free(field);
	free(bytes);
}

TEST_HARNESS_MAIN
