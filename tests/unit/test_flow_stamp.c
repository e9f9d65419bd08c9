/* SPDX-License-Identifier: MIT */
/*
 * The properties every message gets: what is put in place digit by digit must decode like what the codec
 * itself would have encoded.
 */

#include "base/cleanup.h"
#include "flow/stamp.h"
#include "mqtt/packet.h"
#include "tests/harness.h"

#define RUN 0x0123456789abcdef

FIXTURE(stamp)
{
	struct stamp stamp;
	uint8_t out[STAMP_LEN];
	char id[HUB_MESSAGE_ID_LEN + 1];
	char time[TIME_ISO_LEN + 1];
};

FIXTURE_SETUP(stamp)
{
	ASSERT_EQ(stamp_init(&self->stamp, RUN, BYTES(NULL, 0)), 0);
}

FIXTURE_TEARDOWN(stamp)
{
	stamp_deinit(&self->stamp);
}

static void copy(struct bytes value, char *out, size_t size)
{
	ASSERT_EQ(value.len + 1, size);
	memcpy(out, value.data, value.len);
	out[value.len] = '\0';
}

/* Stamps a message and reads it back with the codec. */
static void put(struct fixture_stamp *self, uint64_t sequence, uint64_t wall_ms)
{
	struct bytes key, value;
	size_t pos = 0;

	memset(self->out, 0xee, sizeof(self->out));
	stamp_put(&self->stamp, sequence, wall_ms, self->out);
	ASSERT_TRUE(mqtt_user_property_next(BYTES(self->out, STAMP_LEN), &pos, &key, &value));
	EXPECT_TRUE(bytes_equal_str(key, "message-id"));
	copy(value, self->id, sizeof(self->id));
	ASSERT_TRUE(mqtt_user_property_next(BYTES(self->out, STAMP_LEN), &pos, &key, &value));
	EXPECT_TRUE(bytes_equal_str(key, "creation-time"));
	copy(value, self->time, sizeof(self->time));
	ASSERT_EQ(pos, (size_t)STAMP_LEN);
	EXPECT_FALSE(mqtt_user_property_next(BYTES(self->out, STAMP_LEN), &pos, &key, &value));
}

TEST_F(stamp, what_it_says)
{
	put(self, 1, UINT64_C(1600987795320));
	EXPECT_STREQ(self->id, "0123456789abcdef-0000000000000001");
	EXPECT_STREQ(self->time, "2020-09-24T22:49:55.320Z");
	put(self, UINT64_MAX, 0);
	EXPECT_STREQ(self->id, "0123456789abcdef-ffffffffffffffff");
	EXPECT_STREQ(self->time, "1970-01-01T00:00:00.000Z");
}

TEST_F(stamp, a_packet_with_it_decodes)
{
	uint8_t bytes[STAMP_LEN + 64];
	struct writer w = writer_init(bytes, sizeof(bytes));
	struct mqtt_publish_parts parts = {
		.qos = 1,
		.packet_id = 1,
		.topic = BYTES_LIT("t"),
		.properties = BYTES(self->out, STAMP_LEN),
		.payload = BYTES_LIT("x"),
	};
	struct mqtt_packet packet;
	struct bytes value;

	stamp_put(&self->stamp, 0xbeef, UINT64_C(1600987795320), self->out);
	mqtt_publish_parts_put(&w, &parts);
	ASSERT_EQ(w.error, 0);
	ASSERT_EQ(mqtt_decode(&packet, writer_bytes(&w), MQTT_LEVEL_5, MQTT_FROM_CLIENT), 0);
	ASSERT_TRUE(mqtt_user_property_find(packet.properties.repeatable, "message-id", &value));
	EXPECT_TRUE(bytes_equal_str(value, "0123456789abcdef-000000000000beef"));
	EXPECT_TRUE(bytes_equal_str(packet.publish.payload, "x"));
}

TEST_F(stamp, time_follows_the_clock_forth_and_back)
{
	static const uint64_t times_ms[] = {0,
					    1,
					    UINT64_C(1600987795320),
					    UINT64_C(1600987795320),
					    UINT64_C(1600987795321),
					    UINT64_C(1600987795320),
					    0,
					    UINT64_C(1700000000000)};

	for (size_t i = 0; i < ARRAY_SIZE(times_ms); ++i) {
		char want[TIME_ISO_LEN + 1];
		uint64_t ms;

		put(self, i, times_ms[i]);
		time_format_iso(times_ms[i], want);
		EXPECT_STREQ(self->time, want);
		ASSERT_EQ(time_parse(BYTES(self->time, TIME_ISO_LEN), &ms), 0);
		EXPECT_EQ(ms, times_ms[i]);
	}
}

TEST_F(stamp, ids_are_unique)
{
	static char ids[4096][HUB_MESSAGE_ID_LEN + 1];
	struct stamp other;

	for (size_t i = 0; i < ARRAY_SIZE(ids); ++i) {
		put(self, i * i * 65537, i);
		strcpy(ids[i], self->id);
		/* Sequences grow and the text sorts like them. */
		if (i)
			ASSERT_GT(strcmp(ids[i], ids[i - 1]), 0);
	}
	ASSERT_EQ(stamp_init(&other, RUN + 1, BYTES(NULL, 0)), 0);
	stamp_put(&other, 0, 0, self->out);
	put(self, 0, 0);
	EXPECT_STREQ(self->id, ids[0]);
	stamp_put(&other, 0, 0, self->out);
	EXPECT_TRUE(memcmp(self->out + other.id_at, ids[0], HUB_MESSAGE_ID_LEN) != 0);
	stamp_deinit(&other);
}

TEST_F(stamp, other_properties_follow)
{
	uint8_t others[64], out[STAMP_LEN + 64];
	struct writer w = writer_init(others, sizeof(others));
	struct bytes value;
	struct stamp stamp;

	mqtt_user_property_put(&w, BYTES_LIT("@site"), BYTES_LIT("field"));
	ASSERT_EQ(stamp_init(&stamp, RUN, writer_bytes(&w)), 0);
	ASSERT_EQ(stamp_len(&stamp), STAMP_LEN + writer_len(&w));
	/* It was copied. */
	memset(others, 0xee, sizeof(others));
	stamp_put(&stamp, 7, 1, out);
	ASSERT_TRUE(mqtt_user_property_find(BYTES(out, stamp_len(&stamp)), "message-id", &value));
	EXPECT_TRUE(bytes_equal_str(value, "0123456789abcdef-0000000000000007"));
	ASSERT_TRUE(mqtt_user_property_find(BYTES(out, stamp_len(&stamp)), "@site", &value));
	EXPECT_TRUE(bytes_equal_str(value, "field"));
	stamp_deinit(&stamp);
	stamp_deinit(&stamp);
	EXPECT_EQ(stamp_len(&stamp), 0u);
}

TEST_HARNESS_MAIN
