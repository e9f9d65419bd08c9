/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_TWIN_LINE_H
#define TESTS_SUPPORT_TWIN_LINE_H

/*
 * A twin on a link without a connection: the test is the hub. It takes what the device sends, packet by packet, and
 * answers when and how it likes. The loop turns, so that the end of a turn and the store are the real ones; timers
 * fire when the test says so. For test files that include the harness.
 */

#include "base/buf.h"
#include "base/cleanup.h"
#include "flow/twin_internal.h"
#include "hub/contract.h"
#include "mqtt/packet.h"
#include "tests/support/hub_line.h"

#define TWIN_LINE_HEARD_SIZE 65536

struct twin_line {
	struct hub_line hub; /* first: also the link's userdata */
	struct twin *twin;
	const char *store_path;                         /* NULL: none */
	char heard[TWIN_LINE_HEARD_SIZE];               /* what the twin told since the last look */
	struct buf wire;                                /* what the device sent, not yet looked at */
	uint8_t correlation[HUB_CORRELATION_BYTES_MAX]; /* of the last request */
	size_t correlation_len;
	char request[HUB_PACKET_BYTES_MAX + 64]; /* the last packet as text, see twin_line_next() */
	struct bytes payload;                    /* of it */
	char payload_text[HUB_PACKET_BYTES_MAX + 1];
	unsigned int n_link_ops; /* the loop always has in flight */
	bool busy_disk;          /* turns do not wait for what is being stored */
	bool manual_suback;
	bool deaf; /* nothing is written down */
};

/* --- what the twin tells ---------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static inline void twin_line_hear(struct twin_line *l, const char *fmt,
									...)
{
	size_t len = strlen(l->heard);
	va_list ap;

	if (l->deaf)
		return;
	va_start(ap, fmt);
	vsnprintf(l->heard + len, sizeof(l->heard) - len, fmt, ap);
	va_end(ap);
	ASSERT_LT(strlen(l->heard), sizeof(l->heard) - 1);
}

static inline void twin_line_on_desired(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct bytes text = patch ? twin_doc_text(patch, false) : BYTES_LIT("all");

	twin_line_hear(userdata, "desired %" PRIu64 " %.*s;", version, (int)text.len,
		       (const char *)text.data);
}

static inline void twin_line_on_reported(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct bytes text = patch ? twin_doc_text(patch, false) : BYTES_LIT("all");

	twin_line_hear(userdata, "reported %" PRIu64 " %.*s;", version, (int)text.len,
		       (const char *)text.data);
}

static inline void twin_line_on_refused(void *userdata, int error, const char *reason)
{
	EXPECT_TRUE(error < 0 && reason[0]);
	twin_line_hear(userdata, "refused %s;", reason);
}

/* --- life ------------------------------------------------------------------------------------- */

static inline void twin_line_flush(struct loop_deferred *deferred)
{
	struct link *link = container_of(deferred, struct link, flush);
	struct twin_line *l = link->userdata;

	if (link->state != LINK_ONLINE)
		return;
	link_topics_sync(link);
	twin_on_writable(l->twin);
}

static inline void twin_line_start(struct twin_line *l)
{
	static const struct twin_ops ops = {
		.on_desired_changed = twin_line_on_desired,
		.on_reported_changed = twin_line_on_reported,
		.on_refused = twin_line_on_refused,
	};
	const struct twin_options options = {
		.loop = l->hub.loop,
		.log = &l->hub.log,
		.link = l->hub.link,
		.store_path = l->store_path,
		.identity = "hub/dev",
		.ops = &ops,
		.userdata = l,
	};

	ASSERT_EQ(twin_new(&l->twin, &options), 0);
}

static inline void twin_line_init(struct twin_line *l)
{
	hub_line_init(&l->hub);
	l->hub.link->userdata = l;
	loop_deferred_init(&l->hub.link->flush, twin_line_flush);
	buf_init(&l->wire, 64 << 20);
	l->n_link_ops = loop_n_in_flight(l->hub.loop);
}

/* The process ends; what is to be saved is saved. */
static inline void twin_line_stop(struct twin_line *l)
{
	if (l->hub.link->state == LINK_ONLINE)
		hub_line_offline(&l->hub);
	twin_free(l->twin);
	l->twin = NULL;
	link_requests_offline(l->hub.link);
	buf_consume(&l->wire, buf_len(&l->wire));
	do
		ASSERT_EQ(loop_turn(l->hub.loop, 0), 0);
	while (loop_n_in_flight(l->hub.loop) > l->n_link_ops);
}

static inline void twin_line_deinit(struct twin_line *l)
{
	if (!l->hub.loop)
		return;
	twin_line_stop(l);
	buf_deinit(&l->wire);
	hub_line_deinit(&l->hub);
}

/* --- the line --------------------------------------------------------------------------------- */

/* To the end of a turn; what the device sends then is on the hub's side. */
static inline void twin_line_turn(struct twin_line *l)
{
	struct mqtt_session *session = l->hub.link->session;

	ASSERT_EQ(loop_turn(l->hub.loop, 0), 0);
	/* What is being stored is waited for. */
	while (!l->busy_disk && loop_n_in_flight(l->hub.loop) > l->n_link_ops)
		ASSERT_EQ(loop_turn(l->hub.loop, TIME_NEVER), 0);
	if (l->hub.link->state != LINK_ONLINE)
		return;
	ASSERT_EQ(buf_append(&l->wire, mqtt_session_output(session)), 0);
	mqtt_session_sent(session, mqtt_session_output(session).len, 0);
}

static inline void twin_line_suback(struct twin_line *l, uint16_t packet_id, uint8_t reason)
{
	const struct mqtt_packet suback = {
		.type = MQTT_SUBACK,
		.suback = {.packet_id = packet_id, .reasons = BYTES(&reason, 1)},
	};

	hub_line_input(&l->hub, &suback);
}

static inline void twin_line_note(struct twin_line *l, const struct mqtt_packet *packet)
{
	struct bytes payload = packet->publish.payload, correlation = packet->properties.correlation_data;
	struct bytes version = BYTES(NULL, 0);
	bool get = bytes_equal_str(packet->publish.topic, HUB_TOPIC_TWIN_GET);

	ASSERT_TRUE(get || bytes_equal_str(packet->publish.topic, HUB_TOPIC_TWIN_REPORTED));
	ASSERT_EQ(packet->publish.qos, 0);
	ASSERT_TRUE(correlation.len > 0 && correlation.len <= sizeof(l->correlation));
	memcpy(l->correlation, correlation.data, correlation.len);
	l->correlation_len = correlation.len;
	mqtt_user_property_find(packet->properties.repeatable, HUB_PROP_IF_VERSION, &version);
	ASSERT_LT(payload.len, sizeof(l->payload_text));
	snprintf(l->payload_text, sizeof(l->payload_text), "%.*s", (int)payload.len,
		 payload.len ? (const char *)payload.data : "");
	l->payload = BYTES(l->payload_text, payload.len);
	snprintf(l->request, sizeof(l->request), "%s%s%.*s%s%s", get ? "get" : "patch",
		 version.len ? " if " : "", (int)version.len, version.len ? (const char *)version.data : "",
		 payload.len ? " " : "", l->payload_text);
}

/* The next packet of the device, noted; of @out only the type and numbers are good. False: there is none. */
static inline bool twin_line_take(struct twin_line *l, struct mqtt_packet *out)
{
	struct mqtt_stream stream;
	struct bytes raw;

	if (!buf_len(&l->wire))
		return false;
	mqtt_stream_init(&stream, MQTT_VARINT_MAX);
	mqtt_stream_push(&stream, buf_bytes(&l->wire));
	ASSERT_EQ(mqtt_stream_next(&stream, &raw), 1);
	ASSERT_EQ(mqtt_decode(out, raw, MQTT_LEVEL_5, MQTT_FROM_CLIENT), 0);
	if (out->type == MQTT_PUBLISH)
		twin_line_note(l, out);
	else
		snprintf(l->request, sizeof(l->request), "subscribe %u", out->subscribe.packet_id);
	buf_consume(&l->wire, raw.len);
	mqtt_stream_deinit(&stream);
	return true;
}

/* The next request: "get", "patch {...}" or "patch if 3 {...}"; "" = there is none. SUBSCRIBE is granted on the way. */
static inline const char *twin_line_next(struct twin_line *l)
{
	struct mqtt_packet packet;

	twin_line_turn(l);
	while (twin_line_take(l, &packet)) {
		if (packet.type == MQTT_PUBLISH)
			return l->request;
		ASSERT_EQ((int)packet.type, MQTT_SUBSCRIBE);
		if (l->manual_suback)
			return l->request;
		twin_line_suback(l, packet.subscribe.packet_id, 0);
		twin_line_turn(l);
	}
	l->request[0] = '\0';
	return l->request;
}

/* The response to the last request. NULL: no such property. */
static inline void twin_line_respond(struct twin_line *l, const char *status, const char *version,
				     struct bytes payload)
{
	uint8_t properties[256];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet publish = {
		.type = MQTT_PUBLISH,
		.publish = {.topic = BYTES_LIT(HUB_TOPIC_RESPONSES), .payload = payload},
	};

	hub_line_put(&w, HUB_PROP_STATUS, status);
	hub_line_put(&w, HUB_PROP_REASON, status ? "because" : NULL);
	hub_line_put(&w, HUB_PROP_VERSION, version);
	publish.properties.repeatable = writer_bytes(&w);
	mqtt_set(&publish.properties, MQTT_PROP_CORRELATION_DATA);
	publish.properties.correlation_data = BYTES(l->correlation, l->correlation_len);
	hub_line_input(&l->hub, &publish);
}

/* A change of the desired properties. */
static inline void twin_line_desired(struct twin_line *l, const char *version, struct bytes patch)
{
	uint8_t properties[256];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet publish = {
		.type = MQTT_PUBLISH,
		.publish = {.topic = BYTES_LIT(HUB_TOPIC_TWIN_DESIRED), .payload = patch},
	};

	hub_line_put(&w, HUB_PROP_VERSION, version);
	publish.properties.repeatable = writer_bytes(&w);
	hub_line_input(&l->hub, &publish);
}

static inline void twin_line_online(struct twin_line *l)
{
	hub_line_online(&l->hub);
	twin_on_online(l->twin, true);
	link_kick(l->hub.link);
}

/* What is on its way in either direction is lost. */
static inline void twin_line_offline(struct twin_line *l)
{
	hub_line_offline(&l->hub);
	twin_on_offline(l->twin);
	link_requests_offline(l->hub.link);
	buf_consume(&l->wire, buf_len(&l->wire));
}

/* A timer of the twin fires. */
static inline void twin_line_fire(struct twin_line *l, struct loop_timer *timer)
{
	ASSERT_TRUE(loop_timer_is_armed(timer));
	loop_timer_arm(l->hub.loop, timer, loop_now_ns(l->hub.loop));
	twin_line_turn(l);
}

/* The hub does not answer the requests under way in time. */
static inline void twin_line_time_out(struct twin_line *l)
{
	struct link *link = l->hub.link;

	for (size_t i = 0; i < MQTT_REQUESTS_MAX; ++i)
		link->requests.slots[i].deadline_ns = 0;
	loop_timer_arm(l->hub.loop, &link->request_timer, loop_now_ns(l->hub.loop));
	twin_line_turn(l);
}

#endif
