/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_SESSION_LINE_H
#define TESTS_SUPPORT_SESSION_LINE_H

/*
 * A client session and the line it hangs on, for tests: bytes in, bytes out, time by hand. What the session
 * tells its owner becomes a transcript, one word group an event, so that a test reads as `this went in, that
 * came out`. For test files that include the harness: failures are reported through it.
 */

#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "mqtt/session.h"
#include "tests/harness.h"
#include "tests/support/wire_text.h"

#define WINDOW          4
#define RECEIVE_MAX     2 /* ours */
#define PACKET_MAX      64
#define ALIAS_MAX       2 /* ours */
#define KEEP_ALIVE_S    10
#define TRANSCRIPT_SIZE 4096

FIXTURE(session)
{
	struct mqtt_session *s;
	uint64_t now_ns;
	char told[TRANSCRIPT_SIZE]; /* since the last look */
	size_t told_len;
	uint8_t wire[1 << 20]; /* the output, as the hub gets it */
	size_t wire_len, wire_at;
	struct mqtt_packet packet; /* the last one of expect_packet() */
};

__attribute__((format(printf, 2, 3))) static inline void tell(void *userdata, const char *fmt, ...)
{
	struct fixture_session *self = userdata;
	va_list ap;

	va_start(ap, fmt);
	self->told_len +=
		(size_t)vsnprintf(self->told + self->told_len, sizeof(self->told) - self->told_len, fmt, ap);
	va_end(ap);
	ASSERT_LT(self->told_len, sizeof(self->told));
}

static inline void on_connack(void *userdata, const struct mqtt_packet *p)
{
	tell(userdata, "connack %02x;", p->connack.reason);
}

static inline void on_puback(void *userdata, uint64_t cookie, const struct mqtt_packet *p)
{
	tell(userdata, "puback %" PRIu64 " %02x;", cookie, p->ack.reason);
}

static inline void on_publish(void *userdata, const struct mqtt_packet *p)
{
	tell(userdata, "publish %.*s %u;", (int)p->publish.topic.len, (const char *)p->publish.topic.data,
	     p->publish.packet_id);
}

static inline void on_disconnect(void *userdata, const struct mqtt_packet *p)
{
	tell(userdata, "disconnect %02x;", p->disconnect.reason);
}

static inline void on_suback(void *userdata, const struct mqtt_packet *p)
{
	tell(userdata, "%s", p->type == MQTT_SUBACK ? "suback" : "unsuback");
	for (size_t i = 0; i < p->suback.reasons.len; ++i)
		tell(userdata, " %02x", p->suback.reasons.data[i]);
	tell(userdata, ";");
}

static inline void on_auth(void *userdata, const struct mqtt_packet *p)
{
	tell(userdata, "auth %02x;", p->disconnect.reason);
}

static inline void on_error(void *userdata, uint8_t reason, const char *text)
{
	ASSERT_TRUE(text && *text);
	tell(userdata, "error %02x;", reason);
}

static const struct mqtt_session_ops ops = {
	.on_connack = on_connack,
	.on_puback = on_puback,
	.on_publish = on_publish,
	.on_suback = on_suback,
	.on_auth = on_auth,
	.on_disconnect = on_disconnect,
	.on_error = on_error,
};

FIXTURE_SETUP(session)
{
	const struct mqtt_session_options options = {
		.ops = &ops,
		.userdata = self,
		.window_max = WINDOW,
		.receive_maximum = RECEIVE_MAX,
		.topic_alias_maximum = ALIAS_MAX,
		.packet_bytes_max = PACKET_MAX,
	};

	ASSERT_EQ(mqtt_session_new(&self->s, &options), 0);
	self->now_ns = 1000 * NSEC_PER_SEC;
}

FIXTURE_TEARDOWN(session)
{
	if (!test_is_orphan())
		mqtt_session_free(self->s);
}

static inline int state(const struct fixture_session *self)
{
	return (int)mqtt_session_state(self->s);
}

/* --- the other end of the line ---------------------------------------------------------------- */

/* Moves the output to the hub. */
static inline void flush(struct fixture_session *self)
{
	struct bytes out = mqtt_session_output(self->s);

	ASSERT_LE(out.len, sizeof(self->wire) - self->wire_len);
	if (out.len)
		memcpy(self->wire + self->wire_len, out.data, out.len);
	self->wire_len += out.len;
	mqtt_session_sent(self->s, out.len, self->now_ns);
}

/* The next packet the hub gets, which has to be a @type; self->packet is valid until the wire is cleared. */
static inline void expect_packet(struct fixture_session *self, enum mqtt_type type)
{
	struct mqtt_stream stream;
	struct bytes raw;

	flush(self);
	mqtt_stream_init(&stream, sizeof(self->wire));
	mqtt_stream_push(&stream, BYTES(self->wire + self->wire_at, self->wire_len - self->wire_at));
	ASSERT_EQ(mqtt_stream_next(&stream, &raw), 1);
	ASSERT_EQ(mqtt_decode(&self->packet, raw, MQTT_LEVEL_5, MQTT_FROM_CLIENT), 0);
	self->wire_at += raw.len;
	mqtt_stream_deinit(&stream);
	ASSERT_EQ((int)self->packet.type, (int)type);
}

static inline void expect_no_packet(struct fixture_session *self)
{
	flush(self);
	EXPECT_EQ(self->wire_at, self->wire_len);
}

static inline void expect_disconnect(struct fixture_session *self, uint8_t reason)
{
	expect_packet(self, MQTT_DISCONNECT);
	EXPECT_EQ(self->packet.disconnect.reason, reason);
	expect_no_packet(self);
}

/* What the owner was told since the last call. */
static inline void forget_told(struct fixture_session *self)
{
	self->told_len = 0;
	self->told[0] = '\0';
}

static inline void expect_told(struct fixture_session *self, const char *want)
{
	EXPECT_STREQ(self->told, want);
	forget_told(self);
}

static inline void input(struct fixture_session *self, const char *text)
{
	uint8_t bytes[4096];

	mqtt_session_input(self->s, wire_text(text, bytes, sizeof(bytes)), self->now_ns);
}

static inline void pass_s(struct fixture_session *self, uint64_t s)
{
	self->now_ns += s * NSEC_PER_SEC;
}

static inline void start(struct fixture_session *self, uint16_t keep_alive_s)
{
	const struct mqtt_packet connect = {
		.type = MQTT_CONNECT,
		.connect = {.level = MQTT_LEVEL_5, .keep_alive = keep_alive_s, .client_id = BYTES_LIT("dev")},
		.properties = {.present = UINT64_C(1) << MQTT_PROP_SESSION_EXPIRY_INTERVAL,
			       .session_expiry_interval = 77},
	};

	self->wire_at = self->wire_len = 0;
	ASSERT_EQ(mqtt_session_start(self->s, &connect, self->now_ns), 0);
	ASSERT_EQ(state(self), MQTT_SESSION_CONNECTING);
	expect_packet(self, MQTT_CONNECT);
}

/* Connects; @connack is the CONNACK's text. */
static inline void connect_with(struct fixture_session *self, const char *connack)
{
	start(self, KEEP_ALIVE_S);
	input(self, connack);
	ASSERT_EQ(state(self), MQTT_SESSION_ONLINE);
	expect_told(self, "connack 00;");
}

#define CONNACK         "20 | 00 00 []"
#define CONNACK_PRESENT "20 | 01 00 []"

static inline void online(struct fixture_session *self)
{
	connect_with(self, CONNACK);
}

/* Encoded filters `a,b` for SUBSCRIBE or UNSUBSCRIBE. */
static inline int subscribe(struct fixture_session *self, enum mqtt_type type, const char *filters)
{
	uint8_t bytes[512];
	struct writer w = writer_init(bytes, sizeof(bytes));
	uint16_t n = 0;

	for (const char *at = filters; *at; ++n) {
		size_t len = strcspn(at, ",");

		mqtt_filter_put(&w, type, BYTES(at, len), type == MQTT_SUBSCRIBE);
		at += len + (at[len] == ',');
	}
	return type == MQTT_SUBSCRIBE ? mqtt_session_subscribe(self->s, writer_bytes(&w), n)
				      : mqtt_session_unsubscribe(self->s, writer_bytes(&w), n);
}

/* AUTH with the method SAS, to be answered within @s seconds. */
static inline int authenticate(struct fixture_session *self, uint64_t s)
{
	const struct mqtt_properties properties = {
		.present = UINT64_C(1) << MQTT_PROP_AUTHENTICATION_METHOD |
			   UINT64_C(1) << MQTT_PROP_AUTHENTICATION_DATA,
		.authentication_method = BYTES_LIT("SAS"),
		.authentication_data = BYTES_LIT("signature"),
	};

	return mqtt_session_authenticate(self->s, &properties, self->now_ns + s * NSEC_PER_SEC);
}

static inline int publish_to(struct fixture_session *self, const char *topic, uint64_t cookie, uint16_t *id)
{
	return mqtt_session_publish(self->s, bytes_from_str(topic), BYTES(NULL, 0), BYTES_LIT("x"), cookie,
				    id);
}

static inline int publish(struct fixture_session *self, uint64_t cookie, uint16_t *id)
{
	return publish_to(self, "t", cookie, id);
}

static inline void puback(struct fixture_session *self, uint16_t id)
{
	const uint8_t bytes[] = {0x40, 2, (uint8_t)(id >> 8), (uint8_t)id};

	mqtt_session_input(self->s, BYTES(bytes, sizeof(bytes)), self->now_ns);
}

#endif
