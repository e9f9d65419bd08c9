/* SPDX-License-Identifier: MIT */
/*
 * Arbitrary bytes as a connection's input. The first byte chooses level, sender and packet limit, the second
 * how the rest is split. What must hold:
 *
 *   any split of the stream gives the same packets and the same end;
 *   what decodes also encodes, into no more bytes than it came in, and comes back equal;
 *   the hot path's PUBLISH has the bytes of mqtt_encode().
 */

#include <stdlib.h>

#include "mqtt/packet.h"
#include "tests/support/mqtt_equal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_PACKETS_MAX 64

struct cut {
	struct bytes packets[N_PACKETS_MAX];
	size_t n;
	int end; /* what the stream returned after the last packet */
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* A copy of exactly this size: reads beyond it are seen. */
static uint8_t *copy_of(struct bytes src)
{
	uint8_t *copy = malloc(src.len ? src.len : 1);

	must(copy);
	if (src.len)
		memcpy(copy, src.data, src.len);
	return copy;
}

static void cut_whole(struct cut *out, struct bytes input, size_t max_packet)
{
	struct mqtt_stream s;

	mqtt_stream_init(&s, max_packet);
	mqtt_stream_push(&s, input);
	out->n = 0;
	while (out->n < N_PACKETS_MAX && (out->end = mqtt_stream_next(&s, &out->packets[out->n])) == 1)
		++out->n;
	mqtt_stream_deinit(&s);
}

static void expect_split_same(const struct cut *whole, struct bytes input, size_t max_packet, uint8_t split)
{
	uint32_t random = split * 2654435761u + 1;
	/* Single bytes at the smallest, but not hundreds of them: most of a run's time would go there. */
	uint32_t piece_max = 1u + (split & 31u) + (uint32_t)(input.len / 32);
	struct mqtt_stream s;
	struct bytes packet;
	size_t n = 0;
	int end = 0;

	mqtt_stream_init(&s, max_packet);
	while (input.len && end == 0) {
		size_t piece;

		random = random * 1664525u + 1013904223u;
		piece = 1 + (random >> 16) % piece_max;
		if (piece > input.len)
			piece = input.len;
		mqtt_stream_push(&s, BYTES(input.data, piece));
		input = BYTES(input.data + piece, input.len - piece);
		while (n < whole->n && (end = mqtt_stream_next(&s, &packet)) == 1)
			must(bytes_equal(packet, whole->packets[n++]));
		if (n == whole->n)
			end = n < N_PACKETS_MAX ? mqtt_stream_next(&s, &packet) : 1;
		must(end <= 0 || n == N_PACKETS_MAX);
	}
	must(n == whole->n && (end == whole->end || n == N_PACKETS_MAX));
	mqtt_stream_deinit(&s);
}

static void expect_parts_same(const struct mqtt_packet *p, struct bytes encoded)
{
	struct mqtt_properties rest = p->properties;
	struct mqtt_publish_parts parts = {
		.dup = p->publish.dup,
		.qos = p->publish.qos,
		.packet_id = p->publish.packet_id,
		.topic_alias = p->properties.topic_alias,
		.topic = p->publish.topic,
		.payload = p->publish.payload,
	};
	uint8_t *field = malloc(encoded.len), *fast = malloc(encoded.len);
	struct writer f = writer_init(field, encoded.len), w = writer_init(fast, encoded.len);

	must(field && fast);
	rest.present &= ~(UINT64_C(1) << MQTT_PROP_TOPIC_ALIAS);
	mqtt_properties_encode(&f, &rest, MQTT_PUBLISH);
	must(!f.error);
	parts.properties = writer_bytes(&f);
	mqtt_publish_parts_put(&w, &parts);
	must(!w.error && bytes_equal(writer_bytes(&w), encoded) &&
	     mqtt_publish_parts_len(&parts) == encoded.len);
	free(field);
	free(fast);
}

static void expect_round_trip(const struct mqtt_packet *p, size_t size, uint8_t level,
			      enum mqtt_sender sender)
{
	uint8_t *encoded = malloc(size);
	struct writer w = writer_init(encoded, size);
	struct mqtt_packet again;

	must(encoded);
	must(mqtt_encode(&w, p, level) == 0);
	must(mqtt_decode(&again, writer_bytes(&w), level, sender) == 0);
	must(mqtt_packet_equal(p, &again));
	if (p->type == MQTT_PUBLISH && level == MQTT_LEVEL_5 && !p->publish.retain)
		expect_parts_same(p, writer_bytes(&w));
	free(encoded);
}

static void walk(const struct mqtt_packet *p)
{
	struct bytes key, value;
	struct mqtt_filter filter;
	size_t pos = 0;

	while (mqtt_user_property_next(p->properties.repeatable, &pos, &key, &value))
		must(mqtt_user_property_find(p->properties.repeatable, "status", &value) || key.len != 6 ||
		     memcmp(key.data, "status", 6) != 0);
	pos = 0;
	if (p->type == MQTT_SUBSCRIBE || p->type == MQTT_UNSUBSCRIBE)
		while (mqtt_filter_next(p->type, p->subscribe.filters, &pos, &filter))
			must(filter.topic.len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes input;
	struct cut whole;
	uint8_t level;
	enum mqtt_sender sender;
	size_t max_packet;

	if (size < 2)
		return 0;
	level = data[0] & 1 ? MQTT_LEVEL_3_1_1 : MQTT_LEVEL_5;
	sender = data[0] & 2 ? MQTT_FROM_SERVER : MQTT_FROM_CLIENT;
	max_packet = data[0] & 4 ? data[0] : MQTT_VARINT_MAX;
	input = BYTES(data + 2, size - 2);
	cut_whole(&whole, input, max_packet);
	expect_split_same(&whole, input, max_packet, data[1]);
	for (size_t i = 0; i < whole.n; ++i) {
		uint8_t *copy = copy_of(whole.packets[i]);
		struct mqtt_packet p;

		if (mqtt_decode(&p, BYTES(copy, whole.packets[i].len), level, sender) == 0) {
			walk(&p);
			expect_round_trip(&p, whole.packets[i].len, level, sender);
		}
		free(copy);
	}
	return 0;
}
