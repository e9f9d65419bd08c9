/* SPDX-License-Identifier: MIT */
/*
 * Byte stream to packets, see packet.h. A packet that lies whole in the current piece is handed out in place;
 * one that does not is collected in @partial. Invariant: @partial holds the start of exactly one packet, or
 * one whole packet that was handed out by the last call; bytes of the next packet never enter it.
 *
 * Errors stick without a flag: what caused one stays at the front until mqtt_stream_reset().
 */

#include <assert.h>
#include <errno.h>

#include "mqtt/packet.h"
#include "mqtt/wire.h"

void mqtt_stream_init(struct mqtt_stream *s, size_t max_packet_bytes)
{
	size_t bound = max_packet_bytes > MQTT_FIXED_HEADER_MAX ? max_packet_bytes : MQTT_FIXED_HEADER_MAX;

	*s = (struct mqtt_stream){.max_packet = max_packet_bytes};
	buf_init(&s->partial, bound);
}

void mqtt_stream_deinit(struct mqtt_stream *s)
{
	buf_deinit(&s->partial);
	s->input = BYTES(NULL, 0);
	s->handed_out = 0;
}

void mqtt_stream_reset(struct mqtt_stream *s)
{
	buf_consume(&s->partial, buf_len(&s->partial));
	s->input = BYTES(NULL, 0);
	s->handed_out = 0;
}

void mqtt_stream_push(struct mqtt_stream *s, struct bytes piece)
{
	assert(s->input.len == 0);
	s->input = piece;
}

/* Returns 1 and the size of the packet that starts at @at, 0 when its fixed header is not complete, or an
 * error. */
static int packet_size(const struct mqtt_stream *s, struct bytes at, size_t *size)
{
	struct reader r;
	size_t n = 1;
	uint32_t remaining;

	while (n < at.len && n < MQTT_FIXED_HEADER_MAX - 1 && at.data[n] & 0x80)
		++n;
	if (n >= at.len)
		return 0;
	r = reader_init(BYTES(at.data + 1, n));
	remaining = mqtt_varint_get(&r);
	if (r.error)
		return r.error;
	*size = 1 + n + remaining;
	return *size > s->max_packet ? -EMSGSIZE : 1;
}

/* Moves up to @n bytes of input to the packet being collected. */
static int collect(struct mqtt_stream *s, size_t n)
{
	int r;

	if (n > s->input.len)
		n = s->input.len;
	if (!n)
		return 0;
	r = buf_append(&s->partial, BYTES(s->input.data, n));
	if (r)
		return r;
	s->input = BYTES(s->input.data + n, s->input.len - n);
	return 0;
}

static int next_in_place(struct mqtt_stream *s, struct bytes *packet)
{
	size_t size = 0;
	int r = packet_size(s, s->input, &size);

	if (r < 0)
		return r;
	if (r == 0 || size > s->input.len)
		return collect(s, s->input.len);
	*packet = BYTES(s->input.data, size);
	s->input = BYTES(s->input.data + size, s->input.len - size);
	return 1;
}

int mqtt_stream_next(struct mqtt_stream *s, struct bytes *packet)
{
	size_t size = 0;
	int r;

	buf_consume(&s->partial, s->handed_out);
	s->handed_out = 0;
	if (!buf_len(&s->partial))
		return next_in_place(s, packet);
	for (;;) {
		r = packet_size(s, buf_bytes(&s->partial), &size);
		if (r < 0)
			return r;
		if (r > 0 && size <= buf_len(&s->partial))
			break;
		if (!s->input.len)
			return 0;
		/* A byte at a time until the header tells how many belong to the packet. */
		r = collect(s, r > 0 ? size - buf_len(&s->partial) : 1);
		if (r)
			return r;
	}
	*packet = BYTES(buf_bytes(&s->partial).data, size);
	s->handed_out = size;
	return 1;
}
