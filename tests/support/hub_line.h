/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_HUB_LINE_H
#define TESTS_SUPPORT_HUB_LINE_H

/*
 * A link with its session and no connection: the hub's packets are put in by hand, and what the device answers is
 * taken out. The loop must not turn. For test files that include the harness.
 */

#include "base/time.h"
#include "flow/link_internal.h"
#include "loop/loop.h"
#include "tests/harness.h"

struct hub_line {
	struct loop *loop;
	struct log log;
	struct config config;
	struct link *link;
	char told[8192]; /* since the last look */
};

static inline void hub_line_ignore(void *userdata, const struct mqtt_packet *packet)
{
	(void)userdata;
	(void)packet;
}

static inline void hub_line_on_puback(void *userdata, uint64_t cookie, const struct mqtt_packet *packet)
{
	(void)userdata;
	(void)cookie;
	(void)packet;
}

static inline void hub_line_on_error(void *userdata, uint8_t reason, const char *text)
{
	(void)userdata;
	harness_fail(__FILE__, __LINE__, true, "the session ended: %02x, %s", reason, text);
}

static inline void hub_line_on_changed(void *userdata)
{
	(void)userdata;
}

static inline void hub_line_init(struct hub_line *l)
{
	static const struct link_ops ops = {.on_changed = hub_line_on_changed};
	static const struct mqtt_session_ops session_ops = {
		.on_connack = hub_line_ignore,
		.on_puback = hub_line_on_puback,
		.on_publish = link_on_publish,
		.on_suback = link_on_suback,
		.on_auth = hub_line_ignore,
		.on_disconnect = hub_line_ignore,
		.on_error = hub_line_on_error,
	};
	struct link_options options = {.log = &l->log, .config = &l->config, .ops = &ops};
	struct mqtt_session_options session = {
		.ops = &session_ops,
		.window_max = 64,
		.receive_maximum = LINK_RECEIVE_MAX,
		.packet_bytes_max = LINK_PACKET_BYTES_MAX,
	};

	log_init(&l->log, "test", LOG_LEVEL_ERROR);
	ASSERT_EQ(loop_new(&l->loop, &(struct loop_options){.log = &l->log}), 0);
	options.loop = l->loop;
	ASSERT_EQ(link_new(&l->link, &options), 0);
	mqtt_session_free(l->link->session);
	session.userdata = l->link;
	ASSERT_EQ(mqtt_session_new(&l->link->session, &session), 0);
}

static inline void hub_line_deinit(struct hub_line *l)
{
	if (!l->loop)
		return;
	link_free(l->link);
	while (loop_n_in_flight(l->loop))
		ASSERT_EQ(loop_turn(l->loop, TIME_NEVER), 0);
	loop_free(l->loop);
	l->loop = NULL;
}

/* The hub's packet arrives. */
static inline void hub_line_input(struct hub_line *l, const struct mqtt_packet *packet)
{
	static uint8_t wire[LINK_PACKET_BYTES_MAX];
	struct writer w = writer_init(wire, sizeof(wire));

	ASSERT_EQ(mqtt_encode(&w, packet, MQTT_LEVEL_5), 0);
	mqtt_session_input(l->link->session, writer_bytes(&w), 0);
}

/* What waits to be sent is on its way. */
static inline void hub_line_flush(struct hub_line *l)
{
	mqtt_session_sent(l->link->session, mqtt_session_output(l->link->session).len, 0);
}

/* The hub takes no packet over @packet_bytes_max, 0 = no limit. */
static inline void hub_line_online_with(struct hub_line *l, uint32_t packet_bytes_max)
{
	const struct mqtt_packet connect = {
		.type = MQTT_CONNECT,
		.connect = {.level = MQTT_LEVEL_5, .client_id = BYTES_LIT("dev")},
	};
	struct mqtt_packet connack = {.type = MQTT_CONNACK, .connack.session_present = true};

	if (packet_bytes_max) {
		mqtt_set(&connack.properties, MQTT_PROP_MAXIMUM_PACKET_SIZE);
		connack.properties.maximum_packet_size = packet_bytes_max;
	}
	ASSERT_EQ(mqtt_session_start(l->link->session, &connect, 0), 0);
	hub_line_flush(l);
	hub_line_input(l, &connack);
	l->link->state = LINK_ONLINE;
	link_topics_online(l->link, true);
}

static inline void hub_line_online(struct hub_line *l)
{
	hub_line_online_with(l, 0);
}

/* The owners of subscriptions are to be told by the test. */
static inline void hub_line_offline(struct hub_line *l)
{
	mqtt_session_lost(l->link->session);
	l->link->state = LINK_WAITING;
	link_topics_offline(l->link);
}

/* The PUBACKs that leave, as `<packet id> <what it says>;`, the latter "complete" or the status. */
static inline const char *hub_line_answers(struct hub_line *l)
{
	struct bytes out = mqtt_session_output(l->link->session), raw, status;
	struct mqtt_stream stream;
	struct mqtt_packet packet;
	size_t len = 0;

	mqtt_stream_init(&stream, LINK_PACKET_BYTES_MAX);
	mqtt_stream_push(&stream, out);
	l->told[0] = '\0';
	while (mqtt_stream_next(&stream, &raw) == 1) {
		ASSERT_EQ(mqtt_decode(&packet, raw, MQTT_LEVEL_5, MQTT_FROM_CLIENT), 0);
		if (packet.type != MQTT_PUBACK)
			continue;
		if (!mqtt_user_property_find(packet.properties.repeatable, "status", &status))
			status = BYTES_LIT("complete");
		len += (size_t)snprintf(l->told + len, sizeof(l->told) - len, "%u %.*s;",
					packet.ack.packet_id, (int)status.len, (const char *)status.data);
		ASSERT_LT(len, sizeof(l->told));
	}
	mqtt_stream_deinit(&stream);
	hub_line_flush(l);
	return l->told;
}

/* A command arrives; NULL for a property that it lacks. */
struct hub_line_command {
	uint16_t packet_id; /* 0 = QoS 0 */
	const char *sequence_no, *enqueued_time, *delivery_count;
	struct bytes payload;
};

static inline void hub_line_put(struct writer *w, const char *name, const char *value)
{
	if (value)
		mqtt_user_property_put(w, bytes_from_str(name), bytes_from_str(value));
}

static inline void hub_line_command(struct hub_line *l, const struct hub_line_command *command)
{
	uint8_t properties[512];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet publish = {
		.type = MQTT_PUBLISH,
		.publish = {.topic = BYTES_LIT(HUB_TOPIC_COMMANDS),
			    .qos = command->packet_id > 0,
			    .packet_id = command->packet_id,
			    .payload = command->payload},
	};

	hub_line_put(&w, HUB_PROP_SEQUENCE_NO, command->sequence_no);
	hub_line_put(&w, HUB_PROP_ENQUEUED_TIME, command->enqueued_time);
	hub_line_put(&w, HUB_PROP_DELIVERY_COUNT, command->delivery_count);
	publish.properties.repeatable = writer_bytes(&w);
	hub_line_input(l, &publish);
}

#endif
