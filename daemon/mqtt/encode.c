/* SPDX-License-Identifier: MIT */
/*
 * Packets to bytes. A packet is checked by the same rules as a received one (rules.c, properties.c) and then
 * written; the lengths that stand in front of what they measure are put in afterwards, so nothing is computed
 * twice. The hot path's PUBLISH knows its lengths beforehand and moves no byte.
 */

#include <errno.h>

#include "base/utf8.h"
#include "mqtt/properties.h"
#include "mqtt/rules.h"
#include "mqtt/wire.h"

static void properties_put(struct writer *w, const struct mqtt_packet *p, uint8_t level)
{
	if (level >= MQTT_LEVEL_5)
		mqtt_property_block_put(w, p->type, &p->properties);
}

static void connect_put(struct writer *w, const struct mqtt_packet *p)
{
	const struct mqtt_connect *c = &p->connect;

	mqtt_binary_put(w, BYTES_LIT("MQTT"));
	writer_u8(w, c->level);
	writer_u8(w, (uint8_t)(c->has_user_name << 7 | c->has_password << 6 | c->will_retain << 5 |
			       c->will_qos << 3 | c->has_will << 2 | c->clean_start << 1));
	writer_u16(w, c->keep_alive);
	properties_put(w, p, c->level);
	mqtt_binary_put(w, c->client_id);
	if (c->has_will) {
		if (c->level >= MQTT_LEVEL_5)
			mqtt_property_block_put(w, MQTT_PLACE_WILL, &c->will_properties);
		mqtt_binary_put(w, c->will_topic);
		mqtt_binary_put(w, c->will_payload);
	}
	if (c->has_user_name)
		mqtt_binary_put(w, c->user_name);
	if (c->has_password)
		mqtt_binary_put(w, c->password);
}

static void connack_put(struct writer *w, const struct mqtt_packet *p, uint8_t level)
{
	writer_u8(w, p->connack.session_present);
	writer_u8(w, p->connack.reason);
	properties_put(w, p, level);
}

static void publish_put(struct writer *w, const struct mqtt_packet *p, uint8_t level)
{
	mqtt_binary_put(w, p->publish.topic);
	if (p->publish.qos > 0)
		writer_u16(w, p->publish.packet_id);
	properties_put(w, p, level);
	writer_bytes_put(w, p->publish.payload);
}

/* A reason and its properties, left out from the back as far as they say nothing. */
static void reason_put(struct writer *w, const struct mqtt_packet *p, uint8_t level, uint8_t reason)
{
	bool empty = mqtt_properties_is_empty(&p->properties);

	if (level < MQTT_LEVEL_5 || (empty && reason == MQTT_REASON_SUCCESS))
		return;
	writer_u8(w, reason);
	if (!empty)
		properties_put(w, p, level);
}

static void subscribe_put(struct writer *w, const struct mqtt_packet *p, uint8_t level)
{
	writer_u16(w, p->subscribe.packet_id);
	properties_put(w, p, level);
	writer_bytes_put(w, p->subscribe.filters);
}

static void suback_put(struct writer *w, const struct mqtt_packet *p, uint8_t level)
{
	writer_u16(w, p->suback.packet_id);
	properties_put(w, p, level);
	writer_bytes_put(w, p->suback.reasons);
}

static void body_put(struct writer *w, const struct mqtt_packet *p, uint8_t level)
{
	switch (p->type) {
	case MQTT_CONNECT:
		connect_put(w, p);
		break;
	case MQTT_CONNACK:
		connack_put(w, p, level);
		break;
	case MQTT_PUBLISH:
		publish_put(w, p, level);
		break;
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		writer_u16(w, p->ack.packet_id);
		reason_put(w, p, level, p->ack.reason);
		break;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		subscribe_put(w, p, level);
		break;
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		suback_put(w, p, level);
		break;
	case MQTT_PINGREQ:
	case MQTT_PINGRESP:
		break;
	case MQTT_DISCONNECT:
	case MQTT_AUTH:
		reason_put(w, p, level, p->disconnect.reason);
		break;
	}
}

static uint8_t header_flags(const struct mqtt_packet *p)
{
	switch (p->type) {
	case MQTT_PUBLISH:
		return (uint8_t)(p->publish.dup << 3 | p->publish.qos << 1 | p->publish.retain);
	case MQTT_PUBREL:
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		return 2;
	default:
		return 0;
	}
}

int mqtt_encode(struct writer *w, const struct mqtt_packet *packet, uint8_t level)
{
	size_t start;

	if (packet->type == MQTT_CONNECT)
		level = packet->connect.level;
	if (mqtt_packet_check(packet, level, MQTT_SENDER_ANY))
		writer_fail(w, -EINVAL);
	writer_u8(w, (uint8_t)(packet->type << 4 | header_flags(packet)));
	start = writer_len(w);
	body_put(w, packet, level);
	mqtt_length_insert(w, start);
	return w->error;
}

void mqtt_filter_put(struct writer *w, enum mqtt_type type, struct bytes topic, uint8_t options)
{
	if (!utf8_is_mqtt_string(topic))
		writer_fail(w, -EINVAL);
	mqtt_binary_put(w, topic);
	if (type == MQTT_SUBSCRIBE)
		writer_u8(w, options);
}

/* --- the hot path ----------------------------------------------------------------------------- */

/* Identifier and value of a Topic Alias (3.3.2.3.4). */
#define TOPIC_ALIAS_LEN 3

static size_t parts_property_len(const struct mqtt_publish_parts *p)
{
	return (p->topic_alias ? TOPIC_ALIAS_LEN : 0) + p->properties.len;
}

/* The remaining length; 0 when there is none that fits. */
static uint32_t parts_remaining_len(const struct mqtt_publish_parts *p)
{
	size_t properties = parts_property_len(p), n;

	if (properties > MQTT_VARINT_MAX || p->payload.len > MQTT_VARINT_MAX ||
	    p->topic.len > MQTT_STRING_MAX)
		return 0;
	n = 2 + p->topic.len + (p->qos ? 2 : 0) + mqtt_varint_len((uint32_t)properties) + properties +
	    p->payload.len;
	return n <= MQTT_VARINT_MAX ? (uint32_t)n : 0;
}

size_t mqtt_publish_parts_len(const struct mqtt_publish_parts *p)
{
	uint32_t n = parts_remaining_len(p);

	return n ? 1 + mqtt_varint_len(n) + n : 0;
}

void mqtt_publish_parts_put(struct writer *w, const struct mqtt_publish_parts *p)
{
	uint32_t n = parts_remaining_len(p);

	if (!n || p->qos > 2 || (p->dup && !p->qos) || (p->qos > 0) != (p->packet_id != 0) ||
	    (!p->topic.len && !p->topic_alias)) {
		writer_fail(w, -EINVAL);
		return;
	}
	writer_u8(w, (uint8_t)(MQTT_PUBLISH << 4 | p->dup << 3 | p->qos << 1));
	mqtt_varint_put(w, n);
	mqtt_binary_put(w, p->topic);
	if (p->qos)
		writer_u16(w, p->packet_id);
	mqtt_varint_put(w, (uint32_t)parts_property_len(p));
	if (p->topic_alias) {
		writer_u8(w, MQTT_PROP_TOPIC_ALIAS);
		writer_u16(w, p->topic_alias);
	}
	writer_bytes_put(w, p->properties);
	writer_bytes_put(w, p->payload);
}
