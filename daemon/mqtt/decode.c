/* SPDX-License-Identifier: MIT */
/*
 * Bytes to packets. Each packet type is a straight line over a sticky-error cursor that follows its section
 * of the specification; what the fields may hold is checked afterwards, once, by rules.c (properties: by
 * properties.c).
 *
 * Fixed header (2.1): type in bits 7-4 and flags in bits 3-0 of the first byte, then the remaining length as
 * a variable byte integer. The packet is exactly that long: bytes after it, or after its last field, are
 * malformed.
 */

#include <assert.h>
#include <errno.h>

#include "base/utf8.h"
#include "mqtt/properties.h"
#include "mqtt/rules.h"
#include "mqtt/wire.h"

/* Connect Flags (3.1.2.3). */
#define CONNECT_RESERVED    0x01
#define CONNECT_CLEAN_START 0x02
#define CONNECT_WILL        0x04
#define CONNECT_WILL_RETAIN 0x20
#define CONNECT_PASSWORD    0x40
#define CONNECT_USER_NAME   0x80

/* The variable header up to the level, which decides about all the rest. */
static uint8_t connect_level_get(struct reader *r)
{
	struct bytes name = mqtt_binary_get(r);
	uint8_t level = reader_u8(r);

	if (r->error)
		return 0;
	if (!utf8_is_mqtt_string(name))
		reader_fail(r, -EBADMSG);
	else if (!bytes_equal_str(name, "MQTT") || (level != MQTT_LEVEL_3_1_1 && level != MQTT_LEVEL_5))
		reader_fail(r, -EPROTONOSUPPORT);
	return level;
}

static void connect_get(struct reader *r, struct mqtt_packet *out)
{
	struct mqtt_connect *c = &out->connect;
	uint8_t flags;

	c->level = connect_level_get(r);
	flags = reader_u8(r);
	/* [MQTT-3.1.2-3] */
	if (flags & CONNECT_RESERVED)
		reader_fail(r, -EBADMSG);
	c->clean_start = flags & CONNECT_CLEAN_START;
	c->has_will = flags & CONNECT_WILL;
	c->will_qos = flags >> 3 & 3;
	c->will_retain = flags & CONNECT_WILL_RETAIN;
	c->has_password = flags & CONNECT_PASSWORD;
	c->has_user_name = flags & CONNECT_USER_NAME;
	c->keep_alive = reader_u16(r);
	if (c->level >= MQTT_LEVEL_5)
		mqtt_property_block_get(r, MQTT_CONNECT, &out->properties);
	c->client_id = mqtt_binary_get(r);
	if (c->has_will) {
		if (c->level >= MQTT_LEVEL_5)
			mqtt_property_block_get(r, MQTT_PLACE_WILL, &c->will_properties);
		c->will_topic = mqtt_binary_get(r);
		c->will_payload = mqtt_binary_get(r);
	}
	if (c->has_user_name)
		c->user_name = mqtt_binary_get(r);
	if (c->has_password)
		c->password = mqtt_binary_get(r);
}

static void connack_get(struct reader *r, struct mqtt_packet *out, uint8_t level)
{
	uint8_t flags = reader_u8(r);

	/* [MQTT-3.2.2-1] */
	if (flags & 0xfe)
		reader_fail(r, -EBADMSG);
	out->connack.session_present = flags & 1;
	out->connack.reason = reader_u8(r);
	if (level >= MQTT_LEVEL_5)
		mqtt_property_block_get(r, MQTT_CONNACK, &out->properties);
}

static void publish_get(struct reader *r, struct mqtt_packet *out, uint8_t level, uint8_t flags)
{
	struct mqtt_publish *p = &out->publish;

	p->dup = flags & 8;
	p->qos = flags >> 1 & 3;
	p->retain = flags & 1;
	p->topic = mqtt_binary_get(r);
	/* With both QoS bits set there is no telling what follows [MQTT-3.3.1-4]. */
	if (p->qos > 2)
		reader_fail(r, -EBADMSG);
	if (p->qos > 0) {
		p->packet_id = reader_u16(r);
		if (!r->error && !p->packet_id)
			reader_fail(r, -EPROTO);
	}
	if (level >= MQTT_LEVEL_5)
		mqtt_property_block_get(r, MQTT_PUBLISH, &out->properties);
	p->payload = reader_take(r, reader_left(r));
}

/* 3.4.2.1, 3.4.2.2.1: without more bytes the reason is 0, and so is the property length. */
static void ack_get(struct reader *r, struct mqtt_packet *out, uint8_t level)
{
	out->ack.packet_id = reader_u16(r);
	if (level < MQTT_LEVEL_5 || !reader_left(r))
		return;
	out->ack.reason = reader_u8(r);
	if (reader_left(r))
		mqtt_property_block_get(r, out->type, &out->properties);
}

static void subscribe_get(struct reader *r, struct mqtt_packet *out, uint8_t level)
{
	out->subscribe.packet_id = reader_u16(r);
	if (level >= MQTT_LEVEL_5)
		mqtt_property_block_get(r, out->type, &out->properties);
	out->subscribe.filters = reader_take(r, reader_left(r));
}

static void suback_get(struct reader *r, struct mqtt_packet *out, uint8_t level)
{
	out->suback.packet_id = reader_u16(r);
	if (level >= MQTT_LEVEL_5)
		mqtt_property_block_get(r, out->type, &out->properties);
	if (level >= MQTT_LEVEL_5 || out->type == MQTT_SUBACK)
		out->suback.reasons = reader_take(r, reader_left(r));
}

/* 3.14.2.1, 3.14.2.2.1: as ack_get(). */
static void disconnect_get(struct reader *r, struct mqtt_packet *out, uint8_t level)
{
	if (level < MQTT_LEVEL_5 || !reader_left(r))
		return;
	out->disconnect.reason = reader_u8(r);
	if (reader_left(r))
		mqtt_property_block_get(r, MQTT_DISCONNECT, &out->properties);
}

/* 3.15.2.1: reason and properties are both there or both left out; if they are, so is the method
 * (3.15.2.2.2). */
static void auth_get(struct reader *r, struct mqtt_packet *out)
{
	if (!reader_left(r))
		return;
	out->disconnect.reason = reader_u8(r);
	mqtt_property_block_get(r, MQTT_AUTH, &out->properties);
	if (!r->error && !mqtt_has(&out->properties, MQTT_PROP_AUTHENTICATION_METHOD))
		reader_fail(r, -EPROTO);
}

static void body_get(struct reader *r, struct mqtt_packet *out, uint8_t level, uint8_t flags)
{
	switch (out->type) {
	case MQTT_CONNECT:
		connect_get(r, out);
		break;
	case MQTT_CONNACK:
		connack_get(r, out, level);
		break;
	case MQTT_PUBLISH:
		publish_get(r, out, level, flags);
		break;
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		ack_get(r, out, level);
		break;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		subscribe_get(r, out, level);
		break;
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		suback_get(r, out, level);
		break;
	case MQTT_PINGREQ:
	case MQTT_PINGRESP:
		break;
	case MQTT_DISCONNECT:
		disconnect_get(r, out, level);
		break;
	case MQTT_AUTH:
		auth_get(r, out);
		break;
	}
}

/* Table 2-2; the flags of PUBLISH are looked at with its body. */
static bool flags_are_valid(enum mqtt_type type, uint8_t flags)
{
	switch (type) {
	case MQTT_PUBLISH:
		return true;
	case MQTT_PUBREL:
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		return flags == 2;
	default:
		return flags == 0;
	}
}

int mqtt_decode(struct mqtt_packet *out, struct bytes src, uint8_t level, enum mqtt_sender sender)
{
	struct reader r = reader_init(src);
	uint8_t first = reader_u8(&r);
	uint32_t remaining = mqtt_varint_get(&r);
	unsigned int senders = 1u << sender;

	memset(out, 0, sizeof(*out));
	out->type = first >> 4;
	assert(out->type == MQTT_CONNECT || level == MQTT_LEVEL_3_1_1 || level == MQTT_LEVEL_5);
	if (r.error || remaining != reader_left(&r) || out->type < MQTT_CONNECT ||
	    (out->type == MQTT_AUTH && level < MQTT_LEVEL_5) || !flags_are_valid(out->type, first & 0x0f))
		return -EBADMSG;
	if (!(mqtt_type_senders(out->type, level) & senders))
		return -EPROTO;
	body_get(&r, out, level, first & 0x0f);
	if (reader_left(&r))
		reader_fail(&r, -EBADMSG);
	if (r.error)
		return r.error;
	return mqtt_packet_check(out, out->type == MQTT_CONNECT ? out->connect.level : level, senders);
}

bool mqtt_filter_next(enum mqtt_type type, struct bytes filters, size_t *pos, struct mqtt_filter *out)
{
	struct reader r;

	if (*pos >= filters.len)
		return false;
	r = reader_init(BYTES(filters.data + *pos, filters.len - *pos));
	out->topic = mqtt_binary_get(&r);
	out->options = type == MQTT_SUBSCRIBE ? reader_u8(&r) : 0;
	if (r.error)
		return false;
	*pos = filters.len - reader_left(&r);
	return true;
}
