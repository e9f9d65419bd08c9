/* SPDX-License-Identifier: MIT */
/*
 * Data representations, see wire.h.
 *
 * A variable byte integer holds seven bits in each byte, least significant first; the top bit says that
 * another byte follows. One to four bytes, in the shortest form [MQTT-1.5.5-1]: so the last byte is zero only
 * for the value zero.
 */

#include <errno.h>

#include "mqtt/packet.h"
#include "mqtt/wire.h"

uint32_t mqtt_varint_get(struct reader *r)
{
	uint32_t value = 0;

	for (unsigned int shift = 0; shift < 28; shift += 7) {
		uint8_t byte = reader_u8(r);

		value |= (uint32_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		if (byte == 0 && shift > 0)
			break;
		return r->error ? 0 : value;
	}
	reader_fail(r, -EBADMSG);
	return 0;
}

size_t mqtt_varint_len(uint32_t value)
{
	return value < 1u << 7 ? 1 : value < 1u << 14 ? 2 : value < 1u << 21 ? 3 : 4;
}

void mqtt_varint_put(struct writer *w, uint32_t value)
{
	if (value > MQTT_VARINT_MAX) {
		writer_fail(w, -EINVAL);
		return;
	}
	for (; value > 0x7f; value >>= 7)
		writer_u8(w, (uint8_t)(value | 0x80));
	writer_u8(w, (uint8_t)value);
}

struct bytes mqtt_binary_get(struct reader *r)
{
	return reader_take(r, reader_u16(r));
}

void mqtt_binary_put(struct writer *w, struct bytes src)
{
	if (src.len > MQTT_STRING_MAX) {
		writer_fail(w, -EINVAL);
		return;
	}
	writer_u16(w, (uint16_t)src.len);
	writer_bytes_put(w, src);
}

void mqtt_length_insert(struct writer *w, size_t start)
{
	size_t len = writer_len(w) - start, n;
	struct writer at;

	if (len > MQTT_VARINT_MAX) {
		writer_fail(w, -EINVAL);
		return;
	}
	n = mqtt_varint_len((uint32_t)len);
	if (!writer_reserve(w, n))
		return;
	memmove(w->start + start + n, w->start + start, len);
	at = writer_init(w->start + start, n);
	mqtt_varint_put(&at, (uint32_t)len);
}
