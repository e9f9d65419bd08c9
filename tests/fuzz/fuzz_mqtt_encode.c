/* SPDX-License-Identifier: MIT */
/*
 * Bytes as instructions for building a packet, good or bad. What must hold:
 *
 *   a packet the encoder accepts is accepted by the decoder, from one side at least, and comes back equal;
 *   it fits into exactly the room it took, and into no less;
 *   anything else is refused with -EINVAL, or -ENOSPC when the room was too small.
 */

#include <errno.h>
#include <stdlib.h>

#include "mqtt/packet.h"
#include "tests/support/mqtt_equal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOM 4096

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Up to 255 bytes of the input; beyond its end the empty run. */
static struct bytes take(struct reader *in)
{
	size_t n = reader_left(in) ? reader_u8(in) : 0;

	return reader_take(in, n < reader_left(in) ? n : reader_left(in));
}

static uint8_t take_u8(struct reader *in)
{
	return reader_left(in) ? reader_u8(in) : 0;
}

static uint16_t take_u16(struct reader *in)
{
	return (uint16_t)(take_u8(in) << 8 | take_u8(in));
}

static uint32_t take_u32(struct reader *in)
{
	return (uint32_t)take_u16(in) << 16 | take_u16(in);
}

static void set_number(struct mqtt_properties *p, unsigned int id, struct reader *in)
{
	switch (id) {
	case MQTT_PROP_PAYLOAD_FORMAT_INDICATOR:
		p->payload_format_indicator = take_u8(in);
		break;
	case MQTT_PROP_REQUEST_PROBLEM_INFORMATION:
		p->request_problem_information = take_u8(in);
		break;
	case MQTT_PROP_REQUEST_RESPONSE_INFORMATION:
		p->request_response_information = take_u8(in);
		break;
	case MQTT_PROP_MAXIMUM_QOS:
		p->maximum_qos = take_u8(in);
		break;
	case MQTT_PROP_RETAIN_AVAILABLE:
		p->retain_available = take_u8(in);
		break;
	case MQTT_PROP_WILDCARD_SUBSCRIPTION_AVAILABLE:
		p->wildcard_subscription_available = take_u8(in);
		break;
	case MQTT_PROP_SUBSCRIPTION_IDENTIFIER_AVAILABLE:
		p->subscription_identifier_available = take_u8(in);
		break;
	case MQTT_PROP_SHARED_SUBSCRIPTION_AVAILABLE:
		p->shared_subscription_available = take_u8(in);
		break;
	case MQTT_PROP_SERVER_KEEP_ALIVE:
		p->server_keep_alive = take_u16(in);
		break;
	case MQTT_PROP_RECEIVE_MAXIMUM:
		p->receive_maximum = take_u16(in);
		break;
	case MQTT_PROP_TOPIC_ALIAS_MAXIMUM:
		p->topic_alias_maximum = take_u16(in);
		break;
	case MQTT_PROP_TOPIC_ALIAS:
		p->topic_alias = take_u16(in);
		break;
	case MQTT_PROP_MESSAGE_EXPIRY_INTERVAL:
		p->message_expiry_interval = take_u32(in);
		break;
	case MQTT_PROP_SESSION_EXPIRY_INTERVAL:
		p->session_expiry_interval = take_u32(in);
		break;
	case MQTT_PROP_WILL_DELAY_INTERVAL:
		p->will_delay_interval = take_u32(in);
		break;
	case MQTT_PROP_MAXIMUM_PACKET_SIZE:
		p->maximum_packet_size = take_u32(in);
		break;
	case MQTT_PROP_SUBSCRIPTION_IDENTIFIER:
		p->subscription_identifier = take_u32(in);
		break;
	}
}

static void set_text(struct mqtt_properties *p, unsigned int id, struct reader *in)
{
	switch (id) {
	case MQTT_PROP_CONTENT_TYPE:
		p->content_type = take(in);
		break;
	case MQTT_PROP_RESPONSE_TOPIC:
		p->response_topic = take(in);
		break;
	case MQTT_PROP_CORRELATION_DATA:
		p->correlation_data = take(in);
		break;
	case MQTT_PROP_ASSIGNED_CLIENT_IDENTIFIER:
		p->assigned_client_identifier = take(in);
		break;
	case MQTT_PROP_AUTHENTICATION_METHOD:
		p->authentication_method = take(in);
		break;
	case MQTT_PROP_AUTHENTICATION_DATA:
		p->authentication_data = take(in);
		break;
	case MQTT_PROP_RESPONSE_INFORMATION:
		p->response_information = take(in);
		break;
	case MQTT_PROP_SERVER_REFERENCE:
		p->server_reference = take(in);
		break;
	case MQTT_PROP_REASON_STRING:
		p->reason_string = take(in);
		break;
	}
}

/* Up to 15 properties with any identifier; what repeats is raw bytes, or well-formed User Properties in @w.
 */
static void build_properties(struct mqtt_properties *p, struct reader *in, struct writer *w)
{
	uint8_t how = take_u8(in);
	size_t start = writer_len(w);

	for (unsigned int n = how & 15; n > 0; --n) {
		unsigned int id = take_u8(in) & 63;

		set_number(p, id, in);
		set_text(p, id, in);
		p->present |= UINT64_C(1) << id;
	}
	if (how & 16)
		p->repeatable = take(in);
	for (unsigned int n = how >> 5; n > 0 && !(how & 16); --n) {
		struct bytes key = take(in), value = take(in);
		struct writer before = *w;

		mqtt_user_property_put(w, key, value);
		if (w->error)
			*w = before;
		p->repeatable = BYTES(w->start + start, writer_len(w) - start);
	}
}

static void build_connect(struct mqtt_connect *c, struct reader *in, struct writer *w)
{
	uint8_t flags = take_u8(in);

	c->level = flags & 1 ? MQTT_LEVEL_3_1_1 : MQTT_LEVEL_5;
	c->clean_start = flags & 2;
	c->has_will = flags & 4;
	c->will_qos = flags >> 3 & 3;
	c->will_retain = flags & 0x20;
	c->has_password = flags & 0x40;
	c->has_user_name = flags & 0x80;
	c->keep_alive = take_u16(in);
	c->client_id = take(in);
	c->user_name = take(in);
	c->password = take(in);
	c->will_topic = take(in);
	c->will_payload = take(in);
	build_properties(&c->will_properties, in, w);
}

static void build_publish(struct mqtt_publish *p, struct reader *in)
{
	uint8_t flags = take_u8(in);

	p->dup = flags & 8;
	p->qos = flags >> 1 & 3;
	p->retain = flags & 1;
	p->topic = take(in);
	p->packet_id = take_u16(in);
	p->payload = take(in);
}

static void build_subscribe(struct mqtt_packet *p, struct reader *in, struct writer *w)
{
	uint8_t how = take_u8(in);
	size_t start = writer_len(w);

	p->subscribe.packet_id = take_u16(in);
	if (how & 8)
		p->subscribe.filters = take(in);
	for (unsigned int n = how & 7; n > 0 && !(how & 8); --n) {
		struct bytes topic = take(in);
		struct writer before = *w;

		mqtt_filter_put(w, p->type, topic, take_u8(in));
		if (w->error)
			*w = before;
		p->subscribe.filters = BYTES(w->start + start, writer_len(w) - start);
	}
}

static void build_packet(struct mqtt_packet *p, struct reader *in, struct writer *w)
{
	build_properties(&p->properties, in, w);
	switch (p->type) {
	case MQTT_CONNECT:
		build_connect(&p->connect, in, w);
		break;
	case MQTT_CONNACK:
		p->connack.session_present = take_u8(in) & 1;
		p->connack.reason = take_u8(in);
		break;
	case MQTT_PUBLISH:
		build_publish(&p->publish, in);
		break;
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		p->ack.packet_id = take_u16(in);
		p->ack.reason = take_u8(in);
		break;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		build_subscribe(p, in, w);
		break;
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		p->suback.packet_id = take_u16(in);
		p->suback.reasons = take(in);
		break;
	case MQTT_PINGREQ:
	case MQTT_PINGRESP:
		break;
	case MQTT_DISCONNECT:
	case MQTT_AUTH:
		p->disconnect.reason = take_u8(in);
		break;
	}
}

static void expect_room(const struct mqtt_packet *p, uint8_t level, struct bytes encoded)
{
	uint8_t *exact = malloc(encoded.len);
	struct writer w = writer_init(exact, encoded.len);

	must(exact);
	must(mqtt_encode(&w, p, level) == 0 && bytes_equal(writer_bytes(&w), encoded));
	w = writer_init(exact, encoded.len - 1);
	must(mqtt_encode(&w, p, level) == -ENOSPC);
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader in = reader_init(BYTES(data, size));
	uint8_t extra[ROOM], out[2 * ROOM], first = take_u8(&in), level;
	struct writer x = writer_init(extra, sizeof(extra)), w = writer_init(out, sizeof(out));
	struct mqtt_packet p = {.type = first & 15}, again;
	bool ok;
	int r;

	level = first & 16 ? MQTT_LEVEL_3_1_1 : MQTT_LEVEL_5;
	build_packet(&p, &in, &x);
	r = mqtt_encode(&w, &p, level);
	must(r == 0 || r == -EINVAL || r == -ENOSPC);
	if (r)
		return 0;
	ok = mqtt_decode(&again, writer_bytes(&w), level, MQTT_FROM_CLIENT) == 0;
	if (ok)
		must(mqtt_packet_equal(&p, &again));
	if (mqtt_decode(&again, writer_bytes(&w), level, MQTT_FROM_SERVER) == 0) {
		must(mqtt_packet_equal(&p, &again));
		ok = true;
	}
	must(ok);
	expect_room(&p, level, writer_bytes(&w));
	return 0;
}
