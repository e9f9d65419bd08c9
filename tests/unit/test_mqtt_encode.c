/* SPDX-License-Identifier: MIT */
/*
 * Encoding: the exact bytes, what is left out, what is refused, and that the hot path's PUBLISH is the same
 * packet. Round trips of every packet are in test_mqtt_decode.c, where each accepted row is encoded again.
 */

#include <errno.h>

#include "mqtt/packet.h"
#include "tests/support/mqtt_rows.h"

FIXTURE(encode)
{
	uint8_t out[4096];
	uint8_t want[4096];
	uint8_t extra[1024]; /* properties or filters of the packet */
	struct writer w;
	struct writer x;
	struct mqtt_packet p;
};

FIXTURE_SETUP(encode)
{
	self->w = writer_init(self->out, sizeof(self->out));
	self->x = writer_init(self->extra, sizeof(self->extra));
}

FIXTURE_TEARDOWN(encode)
{
	(void)self;
}

/* Encodes the fixture's packet from scratch. */
static int encode(struct fixture_encode *self, uint8_t level)
{
	self->w = writer_init(self->out, sizeof(self->out));
	return mqtt_encode(&self->w, &self->p, level);
}

static bool wrote(struct fixture_encode *self, const char *text)
{
	return bytes_equal(writer_bytes(&self->w), wire_text(text, self->want, sizeof(self->want)));
}

#define EXPECT_WIRE(level, text)                                                                             \
	do {                                                                                                 \
		EXPECT_EQ(encode(self, (level)), 0);                                                         \
		EXPECT_TRUE(wrote(self, (text)));                                                            \
	} while (0)

#define EXPECT_REFUSED(level) EXPECT_EQ(encode(self, (level)), -EINVAL)

static void set_type(struct fixture_encode *self, enum mqtt_type type)
{
	memset(&self->p, 0, sizeof(self->p));
	self->p.type = type;
}

TEST(varint)
{
	static const struct {
		uint32_t value;
		const char *text;
	} rows[] = {
		{0, "00"},         {127, "7f"},         {128, "8001"},         {16383, "ff7f"},
		{16384, "808001"}, {2097151, "ffff7f"}, {2097152, "80808001"}, {MQTT_VARINT_MAX, "ffffff7f"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i) {
		uint8_t out[8], want[8];
		struct writer w = writer_init(out, sizeof(out));

		mqtt_varint_put(&w, rows[i].value);
		EXPECT_EQ(w.error, 0);
		EXPECT_TRUE(bytes_equal(writer_bytes(&w), wire_text(rows[i].text, want, sizeof(want))));
		EXPECT_EQ(mqtt_varint_len(rows[i].value), writer_len(&w));
	}
}

TEST(varint_too_large)
{
	uint8_t out[8];
	struct writer w = writer_init(out, sizeof(out));

	mqtt_varint_put(&w, MQTT_VARINT_MAX + 1);
	EXPECT_EQ(w.error, -EINVAL);
	EXPECT_EQ(writer_len(&w), 0u);
}

TEST_F(encode, connect)
{
	struct mqtt_connect *c = &self->p.connect;

	set_type(self, MQTT_CONNECT);
	*c = (struct mqtt_connect){.level = 5, .keep_alive = 60, .client_id = BYTES_LIT("dev")};
	EXPECT_WIRE(5, "10 | ('MQTT') 05 00 003c [] ('dev')");
	c->clean_start = true;
	self->p.properties.session_expiry_interval = 3600;
	mqtt_set(&self->p.properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	self->p.properties.authentication_method = BYTES_LIT("SAS");
	mqtt_set(&self->p.properties, MQTT_PROP_AUTHENTICATION_METHOD);
	mqtt_user_property_put(&self->x, BYTES_LIT("k"), BYTES_LIT("v"));
	self->p.properties.repeatable = writer_bytes(&self->x);
	EXPECT_WIRE(5, "10 | ('MQTT') 05 02 003c [ 11 00000e10 15 ('SAS') 26 ('k') ('v') ] ('dev')");
	c->has_will = true;
	c->will_qos = 1;
	c->will_retain = true;
	c->will_topic = BYTES_LIT("t");
	c->will_payload = BYTES_LIT("p");
	c->will_properties.will_delay_interval = 5;
	mqtt_set(&c->will_properties, MQTT_PROP_WILL_DELAY_INTERVAL);
	c->has_user_name = true;
	c->has_password = true;
	c->password = BYTES_LIT("pw");
	EXPECT_WIRE(
		5,
		"10 | ('MQTT') 05 ee 003c [ 11 00000e10 15 ('SAS') 26 ('k') ('v') ] ('dev') [ 18 00000005 ]"
		" ('t') ('p') () ('pw')");
}

TEST_F(encode, connect_level_is_the_packets)
{
	set_type(self, MQTT_CONNECT);
	self->p.connect = (struct mqtt_connect){.level = 4, .clean_start = true, .client_id = BYTES_LIT("d")};
	EXPECT_WIRE(5, "10 | ('MQTT') 04 02 0000 ('d')");
	self->p.connect.level = 3;
	EXPECT_REFUSED(5);
}

TEST_F(encode, connect_refused)
{
	struct mqtt_connect *c = &self->p.connect;
	const struct mqtt_connect good = {.level = 5, .client_id = BYTES_LIT("d")};

	set_type(self, MQTT_CONNECT);
	*c = good;
	c->client_id = BYTES_LIT("\xff");
	EXPECT_REFUSED(5);
	*c = good;
	c->will_qos = 1;
	EXPECT_REFUSED(5);
	*c = good;
	c->will_retain = true;
	EXPECT_REFUSED(5);
	*c = good;
	c->will_topic = BYTES_LIT("t");
	EXPECT_REFUSED(5);
	*c = good;
	c->has_will = true;
	EXPECT_REFUSED(5);
	c->will_topic = BYTES_LIT("t/#");
	EXPECT_REFUSED(5);
	c->will_topic = BYTES_LIT("t");
	c->will_qos = 3;
	EXPECT_REFUSED(5);
	*c = good;
	c->user_name = BYTES_LIT("u");
	EXPECT_REFUSED(5);
	*c = good;
	c->password = BYTES_LIT("p");
	EXPECT_REFUSED(5);
	c->has_password = true;
	EXPECT_EQ(encode(self, 5), 0);
	c->level = 4;
	EXPECT_REFUSED(4);
	c->has_user_name = true;
	EXPECT_EQ(encode(self, 4), 0);
}

TEST_F(encode, connack)
{
	set_type(self, MQTT_CONNACK);
	EXPECT_WIRE(5, "20 | 00 00 []");
	self->p.connack.session_present = true;
	EXPECT_WIRE(4, "20 | 01 00");
	self->p.properties.receive_maximum = 16;
	mqtt_set(&self->p.properties, MQTT_PROP_RECEIVE_MAXIMUM);
	self->p.properties.retain_available = 0;
	mqtt_set(&self->p.properties, MQTT_PROP_RETAIN_AVAILABLE);
	EXPECT_WIRE(5, "20 | 01 00 [ 21 0010 25 00 ]");
	/* No properties at level 4; not refused and present; no such reason. */
	EXPECT_REFUSED(4);
	self->p.connack.reason = MQTT_REASON_NOT_AUTHORIZED;
	EXPECT_REFUSED(5);
	self->p.connack.session_present = false;
	EXPECT_EQ(encode(self, 5), 0);
	self->p.connack.reason = 0x8e;
	EXPECT_REFUSED(5);
}

TEST_F(encode, publish)
{
	struct mqtt_publish *p = &self->p.publish;

	set_type(self, MQTT_PUBLISH);
	p->topic = BYTES_LIT("a/b");
	p->payload = BYTES_LIT("xyz");
	EXPECT_WIRE(4, "30 | ('a/b') 'xyz'");
	EXPECT_WIRE(5, "30 | ('a/b') [] 'xyz'");
	*p = (struct mqtt_publish){.dup = true, .qos = 1, .retain = true, .packet_id = 0x102};
	self->p.properties.topic_alias = 3;
	mqtt_set(&self->p.properties, MQTT_PROP_TOPIC_ALIAS);
	self->p.properties.content_type = BYTES_LIT("ct");
	mqtt_set(&self->p.properties, MQTT_PROP_CONTENT_TYPE);
	self->p.properties.payload_format_indicator = 1;
	mqtt_set(&self->p.properties, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR);
	EXPECT_WIRE(5, "3b | () 0102 [ 23 0003 01 01 03 ('ct') ]");
	EXPECT_REFUSED(4);
}

TEST_F(encode, publish_refused)
{
	const struct mqtt_publish good = {.qos = 1, .packet_id = 1, .topic = BYTES_LIT("t")};
	struct mqtt_publish *p = &self->p.publish;

	set_type(self, MQTT_PUBLISH);
	*p = good;
	EXPECT_EQ(encode(self, 5), 0);
	p->packet_id = 0;
	EXPECT_REFUSED(5);
	*p = good;
	p->qos = 0;
	EXPECT_REFUSED(5);
	*p = good;
	p->qos = 3;
	EXPECT_REFUSED(5);
	*p = good;
	p->qos = 0;
	p->packet_id = 0;
	p->dup = true;
	EXPECT_REFUSED(5);
	*p = good;
	p->topic = BYTES(NULL, 0);
	EXPECT_REFUSED(5);
	p->topic = BYTES_LIT("a/+");
	EXPECT_REFUSED(5);
	p->topic = BYTES_LIT("a\0b");
	EXPECT_REFUSED(5);
	*p = good;
	self->p.properties.topic_alias = 0;
	mqtt_set(&self->p.properties, MQTT_PROP_TOPIC_ALIAS);
	EXPECT_REFUSED(5);
	self->p.properties.present = UINT64_C(1) << 63;
	EXPECT_REFUSED(5);
	self->p.properties.present = 1;
	EXPECT_REFUSED(5);
	self->p.properties.present = UINT64_C(1) << MQTT_PROP_RECEIVE_MAXIMUM;
	EXPECT_REFUSED(5);
}

/* 1.5.4, 1.5.6: the length of a string has two bytes. */
TEST_F(encode, long_strings)
{
	static uint8_t text[65536], out[70000];
	struct writer w;

	memset(text, 'a', sizeof(text));
	set_type(self, MQTT_PUBLISH);
	self->p.publish.topic = BYTES(text, 65535);
	w = writer_init(out, sizeof(out));
	EXPECT_EQ(mqtt_encode(&w, &self->p, 5), 0);
	EXPECT_EQ(writer_len(&w), 1u + 3 + 2 + 65535 + 1);
	self->p.publish.topic = BYTES(text, 65536);
	w = writer_init(out, sizeof(out));
	EXPECT_EQ(mqtt_encode(&w, &self->p, 5), -EINVAL);

	self->p.publish.topic = BYTES_LIT("t");
	self->p.properties.correlation_data = BYTES(text, 65536);
	mqtt_set(&self->p.properties, MQTT_PROP_CORRELATION_DATA);
	w = writer_init(out, sizeof(out));
	EXPECT_EQ(mqtt_encode(&w, &self->p, 5), -EINVAL);

	w = writer_init(out, sizeof(out));
	mqtt_user_property_put(&w, BYTES_LIT("k"), BYTES(text, 65536));
	EXPECT_EQ(w.error, -EINVAL);
	w = writer_init(out, sizeof(out));
	mqtt_filter_put(&w, MQTT_SUBSCRIBE, BYTES(text, 65536), 0);
	EXPECT_EQ(w.error, -EINVAL);
}

TEST_F(encode, bad_text)
{
	mqtt_user_property_put(&self->x, BYTES_LIT("k"), BYTES_LIT("\xed\xa0\x80"));
	EXPECT_EQ(self->x.error, -EINVAL);
	self->x = writer_init(self->extra, sizeof(self->extra));
	mqtt_user_property_put(&self->x, BYTES_LIT("\0"), BYTES_LIT("v"));
	EXPECT_EQ(self->x.error, -EINVAL);
	self->x = writer_init(self->extra, sizeof(self->extra));
	mqtt_filter_put(&self->x, MQTT_UNSUBSCRIBE, BYTES_LIT("\xff"), 0);
	EXPECT_EQ(self->x.error, -EINVAL);
}

/* 3.4.2.1, 3.4.2.2.1, 3.14.2.1, 3.14.2.2.1, 3.15.2.1 */
TEST_F(encode, short_forms)
{
	static const enum mqtt_type acks[] = {MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBREL, MQTT_PUBCOMP};
	static const char *const success[] = {"40 | 0007", "50 | 0007", "62 | 0007", "70 | 0007"};
	static const char *const failure[] = {"40 | 0007 97", "50 | 0007 97", "62 | 0007 92", "70 | 0007 92"};

	for (size_t i = 0; i < 4; ++i) {
		set_type(self, acks[i]);
		self->p.ack.packet_id = 7;
		EXPECT_WIRE(5, success[i]);
		EXPECT_WIRE(4, success[i]);
		self->p.ack.reason = i < 2 ? 0x97 : 0x92;
		EXPECT_WIRE(5, failure[i]);
		EXPECT_REFUSED(4);
	}
	set_type(self, MQTT_PUBACK);
	self->p.ack.packet_id = 7;
	mqtt_user_property_put(&self->x, BYTES_LIT("status"), BYTES_LIT("0001"));
	self->p.properties.repeatable = writer_bytes(&self->x);
	EXPECT_WIRE(5, "40 | 0007 00 [ 26 ('status') ('0001') ]");
	self->p.ack.packet_id = 0;
	EXPECT_REFUSED(5);

	set_type(self, MQTT_DISCONNECT);
	EXPECT_WIRE(5, "e0 |");
	EXPECT_WIRE(4, "e0 |");
	self->p.disconnect.reason = 0x8e;
	EXPECT_WIRE(5, "e0 | 8e");
	EXPECT_REFUSED(4);

	set_type(self, MQTT_AUTH);
	EXPECT_WIRE(5, "f0 |");
	EXPECT_REFUSED(4);
	self->p.disconnect.reason = MQTT_REASON_RE_AUTHENTICATE;
	EXPECT_REFUSED(5);
	self->p.properties.authentication_method = BYTES_LIT("SAS");
	mqtt_set(&self->p.properties, MQTT_PROP_AUTHENTICATION_METHOD);
	EXPECT_WIRE(5, "f0 | 19 [ 15 ('SAS') ]");
}

TEST_F(encode, subscribe)
{
	set_type(self, MQTT_SUBSCRIBE);
	self->p.subscribe.packet_id = 1;
	EXPECT_REFUSED(5);
	mqtt_filter_put(&self->x, MQTT_SUBSCRIBE, BYTES_LIT("a/+"), 1);
	mqtt_filter_put(&self->x, MQTT_SUBSCRIBE, BYTES_LIT("#"), 2);
	self->p.subscribe.filters = writer_bytes(&self->x);
	EXPECT_WIRE(5, "82 | 0001 [] ('a/+') 01 ('#') 02");
	EXPECT_WIRE(4, "82 | 0001 ('a/+') 01 ('#') 02");
	self->p.properties.subscription_identifier = 300;
	mqtt_set(&self->p.properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER);
	EXPECT_WIRE(5, "82 | 0001 [ 0b ac02 ] ('a/+') 01 ('#') 02");
	self->p.properties.subscription_identifier = MQTT_VARINT_MAX + 1;
	EXPECT_REFUSED(5);
	self->p.properties.subscription_identifier = 0;
	EXPECT_REFUSED(5);
	self->p.properties.present = 0;
	mqtt_filter_put(&self->x, MQTT_SUBSCRIBE, BYTES_LIT("a/#/b"), 0);
	self->p.subscribe.filters = writer_bytes(&self->x);
	EXPECT_REFUSED(5);
	self->p.subscribe.filters = BYTES_LIT("\0\1a");
	EXPECT_REFUSED(5);

	set_type(self, MQTT_UNSUBSCRIBE);
	self->x = writer_init(self->extra, sizeof(self->extra));
	mqtt_filter_put(&self->x, MQTT_UNSUBSCRIBE, BYTES_LIT("a"), 0);
	self->p.subscribe = (struct mqtt_subscribe){.packet_id = 2, .filters = writer_bytes(&self->x)};
	EXPECT_WIRE(5, "a2 | 0002 [] ('a')");
}

TEST_F(encode, subscribe_answers)
{
	set_type(self, MQTT_SUBACK);
	self->p.suback = (struct mqtt_suback){.packet_id = 1, .reasons = BYTES_LIT("\x01\x97")};
	EXPECT_WIRE(5, "90 | 0001 [] 01 97");
	EXPECT_REFUSED(4);
	self->p.suback.reasons = BYTES_LIT("\x03");
	EXPECT_REFUSED(5);
	self->p.suback.reasons = BYTES(NULL, 0);
	EXPECT_REFUSED(5);
	self->p.type = MQTT_UNSUBACK;
	EXPECT_REFUSED(5);
	EXPECT_WIRE(4, "b0 | 0001");
	self->p.suback.reasons = BYTES_LIT("\x11");
	EXPECT_WIRE(5, "b0 | 0001 [] 11");
	EXPECT_REFUSED(4);
}

TEST_F(encode, ping)
{
	set_type(self, MQTT_PINGREQ);
	EXPECT_WIRE(5, "c0 |");
	set_type(self, MQTT_PINGRESP);
	EXPECT_WIRE(4, "d0 |");
	mqtt_set(&self->p.properties, MQTT_PROP_REASON_STRING);
	EXPECT_REFUSED(5);
	set_type(self, (enum mqtt_type)0);
	EXPECT_REFUSED(5);
	set_type(self, (enum mqtt_type)16);
	EXPECT_REFUSED(5);
}

/* Each is legal from one side, both together from none. */
TEST_F(encode, sides_contradict)
{
	set_type(self, MQTT_DISCONNECT);
	self->p.disconnect.reason = MQTT_REASON_SESSION_TAKEN_OVER;
	mqtt_set(&self->p.properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	EXPECT_REFUSED(5);
	self->p.disconnect.reason = MQTT_REASON_SUCCESS;
	EXPECT_EQ(encode(self, 5), 0);
	self->p.properties.server_reference = BYTES_LIT("s");
	mqtt_set(&self->p.properties, MQTT_PROP_SERVER_REFERENCE);
	EXPECT_REFUSED(5);
}

/* What was decoded can be sent on; the first Subscription Identifier is the struct's. */
TEST_F(encode, repeatable)
{
	uint8_t field[256];

	set_type(self, MQTT_PUBLISH);
	self->p.publish.topic = BYTES_LIT("t");
	self->p.properties.repeatable =
		wire_text("0b 01 26 ('k') ('1') 03 ('ct') 0b 02 26 ('k') ('2') 0b 03", field, sizeof(field));
	EXPECT_WIRE(5, "30 | ('t') [ 26 ('k') ('1') 26 ('k') ('2') ]");
	self->p.properties.subscription_identifier = 9;
	mqtt_set(&self->p.properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER);
	EXPECT_WIRE(5, "30 | ('t') [ 0b 09 26 ('k') ('1') 0b 02 26 ('k') ('2') 0b 03 ]");
	self->p.properties.repeatable = wire_text("26 ('k') (ff)", field, sizeof(field));
	EXPECT_REFUSED(5);
	self->p.properties.repeatable = wire_text("26 ('k')", field, sizeof(field));
	EXPECT_REFUSED(5);
	self->p.properties.repeatable = wire_text("04", field, sizeof(field));
	EXPECT_REFUSED(5);
}

TEST_F(encode, every_size_of_room)
{
	struct writer w;
	size_t len;

	set_type(self, MQTT_PUBLISH);
	self->p.publish = (struct mqtt_publish){
		.qos = 1, .packet_id = 1, .topic = BYTES_LIT("topic"), .payload = BYTES_LIT("payload")};
	self->p.properties.content_type = BYTES_LIT("text/plain");
	mqtt_set(&self->p.properties, MQTT_PROP_CONTENT_TYPE);
	ASSERT_EQ(encode(self, 5), 0);
	len = writer_len(&self->w);
	for (size_t n = 0; n <= len; ++n) {
		uint8_t *room = malloc(n ? n : 1);

		w = writer_init(room, n);
		EXPECT_EQ(mqtt_encode(&w, &self->p, 5), n < len ? -ENOSPC : 0);
		free(room);
	}
}

TEST_F(encode, appends)
{
	writer_u8(&self->w, 0xaa);
	set_type(self, MQTT_PINGREQ);
	EXPECT_EQ(mqtt_encode(&self->w, &self->p, 5), 0);
	set_type(self, MQTT_DISCONNECT);
	EXPECT_EQ(mqtt_encode(&self->w, &self->p, 5), 0);
	EXPECT_TRUE(wrote(self, "aa c000 e000"));
}

/* --- the hot path ----------------------------------------------------------------------------- */

static void expect_parts_equal(struct fixture_encode *self, const struct mqtt_publish_parts *parts)
{
	uint8_t fast[4096];
	struct writer w = writer_init(fast, sizeof(fast));

	mqtt_publish_parts_put(&w, parts);
	EXPECT_EQ(w.error, 0);
	EXPECT_EQ(writer_len(&w), mqtt_publish_parts_len(parts));
	set_type(self, MQTT_PUBLISH);
	ASSERT_EQ(mqtt_properties_decode(&self->p.properties, parts->properties, MQTT_PUBLISH), 0);
	self->p.publish = (struct mqtt_publish){.dup = parts->dup,
						.qos = parts->qos,
						.packet_id = parts->packet_id,
						.topic = parts->topic,
						.payload = parts->payload};
	if (parts->topic_alias) {
		self->p.properties.topic_alias = parts->topic_alias;
		mqtt_set(&self->p.properties, MQTT_PROP_TOPIC_ALIAS);
	}
	ASSERT_EQ(encode(self, 5), 0);
	EXPECT_TRUE(bytes_equal(writer_bytes(&w), writer_bytes(&self->w)));
}

TEST_F(encode, publish_parts)
{
	static const uint8_t payload[1500];
	struct mqtt_properties p = {.content_type = BYTES_LIT("application/json"),
				    .message_expiry_interval = 60};

	mqtt_set(&p, MQTT_PROP_CONTENT_TYPE);
	mqtt_set(&p, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL);
	mqtt_user_property_put(&self->x, BYTES_LIT("message-id"), BYTES_LIT("1"));
	mqtt_user_property_put(&self->x, BYTES_LIT("@site"), BYTES_LIT("north"));
	p.repeatable = writer_bytes(&self->x);
	for (unsigned int i = 0; i < 64; ++i) {
		uint8_t field[256];
		struct writer f = writer_init(field, sizeof(field));
		struct mqtt_publish_parts parts = {
			.dup = i % 8 >= 3,
			.qos = i % 8 >= 1,
			.packet_id = i % 8 >= 1 ? 0xabcd : 0,
			.topic_alias = i & 8 ? 2 : 0,
			.topic = i & 8 && i & 16 ? BYTES(NULL, 0) : BYTES_LIT("$iothub/telemetry"),
			.payload = BYTES(payload, i & 32 ? sizeof(payload) : 3),
		};

		if (i & 1)
			mqtt_properties_encode(&f, &p, MQTT_PUBLISH);
		EXPECT_EQ(f.error, 0);
		parts.properties = writer_bytes(&f);
		expect_parts_equal(self, &parts);
	}
}

TEST_F(encode, publish_parts_refused)
{
	const struct mqtt_publish_parts good = {.qos = 1, .packet_id = 1, .topic = BYTES_LIT("t")};
	struct mqtt_publish_parts bad[7];

	for (size_t i = 0; i < 7; ++i)
		bad[i] = good;
	bad[0].qos = 3;
	bad[1].packet_id = 0;
	bad[2].qos = 0;
	bad[3].topic.len = 0;
	bad[4].dup = true;
	bad[4].qos = 0;
	bad[4].packet_id = 0;
	bad[5].payload = BYTES("", MQTT_VARINT_MAX);
	bad[6].properties = BYTES("", (size_t)MQTT_VARINT_MAX + 1);
	for (size_t i = 0; i < 7; ++i) {
		self->w = writer_init(self->out, sizeof(self->out));
		mqtt_publish_parts_put(&self->w, &bad[i]);
		EXPECT_EQ(self->w.error, -EINVAL);
		EXPECT_EQ(writer_len(&self->w), 0u);
	}
	EXPECT_EQ(mqtt_publish_parts_len(&bad[5]), 0u);
	EXPECT_EQ(mqtt_publish_parts_len(&bad[6]), 0u);
}

TEST_F(encode, publish_parts_room)
{
	const struct mqtt_publish_parts parts = {
		.qos = 1, .packet_id = 1, .topic = BYTES_LIT("t"), .payload = BYTES_LIT("p")};

	self->w = writer_init(self->out, mqtt_publish_parts_len(&parts) - 1);
	mqtt_publish_parts_put(&self->w, &parts);
	EXPECT_EQ(self->w.error, -ENOSPC);
	self->w = writer_init(self->out, mqtt_publish_parts_len(&parts));
	mqtt_publish_parts_put(&self->w, &parts);
	EXPECT_EQ(self->w.error, 0);
}

/* The limit of the remaining length itself: 2^28 - 1 bytes after the fixed header. */
TEST_F(encode, publish_parts_largest)
{
	struct mqtt_publish_parts parts = {.topic = BYTES_LIT("t"),
					   .payload = BYTES("", MQTT_VARINT_MAX - 4)};

	EXPECT_EQ(mqtt_publish_parts_len(&parts), (size_t)MQTT_VARINT_MAX + 5);
	++parts.payload.len;
	EXPECT_EQ(mqtt_publish_parts_len(&parts), 0u);
}

TEST_HARNESS_MAIN
