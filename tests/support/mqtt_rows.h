/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MQTT_ROWS_H
#define TESTS_MQTT_ROWS_H

/*
 * Tables of packets and what decoding them gives. Whatever is accepted is also encoded again and must come
 * back the same. For test files that include the harness: failures are reported through it.
 */

#include <stdlib.h>

#include "mqtt/packet.h"
#include "tests/harness.h"
#include "tests/support/mqtt_equal.h"
#include "tests/support/wire_text.h"

#define C MQTT_FROM_CLIENT
#define S MQTT_FROM_SERVER

/* Wire text, level and sender it is decoded with, the result, and in words what it is. */
struct row {
	const char *text;
	uint8_t level;
	enum mqtt_sender sender;
	int want;
	const char *what;
};

/* A copy of exactly the packet's size, so that the address sanitizer sees reads beyond it. */
static inline int decode_copy(struct bytes src, uint8_t **copy, uint8_t level, enum mqtt_sender sender,
			      struct mqtt_packet *out)
{
	*copy = malloc(src.len ? src.len : 1);
	if (src.len)
		memcpy(*copy, src.data, src.len);
	return mqtt_decode(out, BYTES(*copy, src.len), level, sender);
}

static inline void expect_round_trip(const struct row *row, const struct mqtt_packet *packet)
{
	uint8_t bytes[2048];
	struct writer w = writer_init(bytes, sizeof(bytes));
	struct mqtt_packet again;
	int r = mqtt_encode(&w, packet, row->level);

	if (!r)
		r = mqtt_decode(&again, writer_bytes(&w), row->level, row->sender);
	if (r || !mqtt_packet_equal(packet, &again))
		harness_fail(__FILE__, __LINE__, false, "%s: does not come back the same: %d", row->what, r);
}

static inline void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; ++i) {
		uint8_t bytes[1024], *copy;
		struct bytes src = wire_text(rows[i].text, bytes, sizeof(bytes));
		struct mqtt_packet packet;
		int r = decode_copy(src, &copy, rows[i].level, rows[i].sender, &packet);

		if (r != rows[i].want)
			harness_fail(__FILE__, __LINE__, false, "%s: %s: %d, expected %d", rows[i].what,
				     rows[i].text, r, rows[i].want);
		else if (!r)
			expect_round_trip(&rows[i], &packet);
		free(copy);
	}
}

#define CHECK_ROWS(...)                                                                                      \
	do {                                                                                                 \
		static const struct row rows[] = {__VA_ARGS__};                                              \
		check_rows(rows, sizeof(rows) / sizeof(rows[0]));                                            \
	} while (0)

/* Whether @name is one of the words of @list. */
static inline bool has_word(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = list; (at = strstr(at, name)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
			return true;
	return false;
}

#endif
