/* SPDX-License-Identifier: MIT */
/*
 * Cutting a byte stream into packets: however it is split, the packets are the same; what is refused is
 * refused as soon as it can be, and memory follows the bytes that arrived.
 */

#include <errno.h>

#include "mqtt/packet.h"
#include "tests/harness.h"
#include "tests/support/wire_text.h"

FIXTURE(stream)
{
	struct mqtt_stream s;
	struct bytes packet;
};

FIXTURE_SETUP(stream)
{
	mqtt_stream_init(&self->s, 1024);
}

FIXTURE_TEARDOWN(stream)
{
	mqtt_stream_deinit(&self->s);
	mqtt_stream_deinit(&self->s);
}

static int push(struct fixture_stream *self, const char *hex)
{
	static uint8_t bytes[4096];

	mqtt_stream_push(&self->s, wire_text(hex, bytes, sizeof(bytes)));
	return mqtt_stream_next(&self->s, &self->packet);
}

TEST_F(stream, nothing)
{
	EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), 0);
	mqtt_stream_push(&self->s, BYTES(NULL, 0));
	EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), 0);
}

TEST_F(stream, whole_packets_lie_in_the_input)
{
	static const uint8_t input[] = {0xc0, 0x00, 0x40, 0x02, 0x00, 0x01, 0xd0, 0x00};

	mqtt_stream_push(&self->s, BYTES(input, sizeof(input)));
	ASSERT_EQ(mqtt_stream_next(&self->s, &self->packet), 1);
	EXPECT_TRUE(self->packet.data == input && self->packet.len == 2);
	ASSERT_EQ(mqtt_stream_next(&self->s, &self->packet), 1);
	EXPECT_TRUE(self->packet.data == input + 2 && self->packet.len == 4);
	ASSERT_EQ(mqtt_stream_next(&self->s, &self->packet), 1);
	EXPECT_TRUE(self->packet.data == input + 6 && self->packet.len == 2);
	EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), 0);
	EXPECT_TRUE(self->s.partial.data == NULL);
}

TEST_F(stream, split_packet_then_whole_one)
{
	EXPECT_EQ(push(self, "40"), 0);
	EXPECT_EQ(push(self, "02 00"), 0);
	ASSERT_EQ(push(self, "01 c000 40"), 1);
	EXPECT_TRUE(bytes_equal(self->packet, BYTES_LIT("\x40\x02\x00\x01")));
	ASSERT_EQ(mqtt_stream_next(&self->s, &self->packet), 1);
	EXPECT_TRUE(bytes_equal(self->packet, BYTES_LIT("\xc0\x00")));
	EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), 0);
	ASSERT_EQ(push(self, "02 0002"), 1);
	EXPECT_TRUE(bytes_equal(self->packet, BYTES_LIT("\x40\x02\x00\x02")));
	EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), 0);
}

TEST_F(stream, malformed_length)
{
	static const char *const texts[] = {"c0 80 00", "c0 ff 80 00", "c0 80 80 80 00", "c0 80 80 80 80",
					    "c0 ffffffff 7f"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); ++i) {
		uint8_t bytes[16];
		struct bytes src = wire_text(texts[i], bytes, sizeof(bytes));
		int r = 0;

		mqtt_stream_reset(&self->s);
		EXPECT_EQ(push(self, texts[i]), -EBADMSG);
		EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), -EBADMSG);
		mqtt_stream_reset(&self->s);
		for (size_t k = 0; k < src.len && !r; ++k) {
			mqtt_stream_push(&self->s, BYTES(src.data + k, 1));
			r = mqtt_stream_next(&self->s, &self->packet);
		}
		EXPECT_EQ(r, -EBADMSG);
		EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), -EBADMSG);
	}
	mqtt_stream_reset(&self->s);
	EXPECT_EQ(push(self, "c000"), 1);
}

TEST_F(stream, too_large)
{
	/* 3 bytes of header and 1021 after it are allowed, one more is not. */
	EXPECT_EQ(push(self, "30 fd07"), 0);
	mqtt_stream_reset(&self->s);
	EXPECT_EQ(push(self, "30 fe07"), -EMSGSIZE);
	EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), -EMSGSIZE);
	mqtt_stream_reset(&self->s);
	EXPECT_EQ(push(self, "30"), 0);
	EXPECT_EQ(push(self, "fe"), 0);
	EXPECT_EQ(push(self, "07"), -EMSGSIZE);
	mqtt_stream_reset(&self->s);
	EXPECT_EQ(push(self, "c000 30 ffffff7f"), 1);
	EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), -EMSGSIZE);
}

TEST_F(stream, smallest_limit)
{
	mqtt_stream_deinit(&self->s);
	mqtt_stream_init(&self->s, 2);
	EXPECT_EQ(push(self, "c0"), 0);
	EXPECT_EQ(push(self, "00"), 1);
	EXPECT_EQ(push(self, "30"), 0);
	EXPECT_EQ(push(self, "80"), 0);
	EXPECT_EQ(push(self, "80"), 0);
	EXPECT_EQ(push(self, "80"), 0);
	EXPECT_EQ(push(self, "01"), -EMSGSIZE);
}

/* A claimed length allocates nothing. */
TEST_F(stream, memory_follows_the_bytes)
{
	static uint8_t body[100];

	mqtt_stream_deinit(&self->s);
	mqtt_stream_init(&self->s, (size_t)MQTT_VARINT_MAX + 5);
	EXPECT_EQ(push(self, "30 ffffff7f"), 0);
	EXPECT_LE(self->s.partial.size, 1024u);
	for (int i = 0; i < 100; ++i) {
		mqtt_stream_push(&self->s, BYTES(body, sizeof(body)));
		EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), 0);
	}
	EXPECT_LE(self->s.partial.size, 4u * 10005u);
}

TEST_F(stream, reset_forgets)
{
	EXPECT_EQ(push(self, "30 05 0001"), 0);
	mqtt_stream_reset(&self->s);
	ASSERT_EQ(push(self, "c000"), 1);
	EXPECT_TRUE(bytes_equal(self->packet, BYTES_LIT("\xc0\x00")));
}

/* Packets of many sizes behind one another; returns their number. */
static size_t make_input(uint8_t *out, size_t size, size_t *starts, size_t n_max)
{
	struct writer w = writer_init(out, size);
	size_t n = 0;

	while (n < n_max) {
		uint32_t remaining = (uint32_t)(test_random() % (n % 5 == 4 ? 700 : 10));

		starts[n] = writer_len(&w);
		writer_u8(&w, 0x30);
		mqtt_varint_put(&w, remaining);
		for (uint32_t i = 0; i < remaining; ++i)
			writer_u8(&w, (uint8_t)test_random());
		if (w.error)
			break;
		++n;
	}
	return n;
}

/* Pushes pieces of random sizes up to @max_piece, each in memory of its own. */
static void expect_same_packets(struct mqtt_stream *s, const uint8_t *input, const size_t *starts, size_t n,
				size_t max_piece)
{
	size_t len = starts[n - 1], pos = 0, next = 0;

	while (pos < len) {
		size_t piece = 1 + (size_t)(test_random() % max_piece);
		struct bytes packet;
		uint8_t *copy;
		int r;

		if (piece > len - pos)
			piece = len - pos;
		copy = malloc(piece);
		memcpy(copy, input + pos, piece);
		pos += piece;
		mqtt_stream_push(s, BYTES(copy, piece));
		while ((r = mqtt_stream_next(s, &packet)) == 1) {
			ASSERT_LT(next + 1, n);
			EXPECT_TRUE(bytes_equal(
				packet, BYTES(input + starts[next], starts[next + 1] - starts[next])));
			++next;
		}
		ASSERT_EQ(r, 0);
		free(copy);
	}
	EXPECT_EQ(next, n - 1);
}

TEST_F(stream, any_split_gives_the_same_packets)
{
	static uint8_t input[20000];
	static size_t starts[200];
	size_t n = make_input(input, sizeof(input), starts, 200);

	ASSERT_GT(n, 20u);
	for (size_t max_piece = 1; max_piece < 3000; max_piece = max_piece * 3 / 2 + 1)
		expect_same_packets(&self->s, input, starts, n, max_piece);
}

/* One packet cut at every place. */
TEST_F(stream, every_cut)
{
	uint8_t bytes[512];
	struct bytes src = wire_text(
		"30 | ('topic') [ 03 ('text/plain') ] 'a payload that makes the remaining length two"
		" bytes long, so that the cut also falls between them, and still some more'",
		bytes, sizeof(bytes));

	ASSERT_GT(src.len, 130u);
	for (size_t cut = 0; cut <= src.len; ++cut) {
		mqtt_stream_push(&self->s, BYTES(bytes, cut));
		if (mqtt_stream_next(&self->s, &self->packet) == 0) {
			mqtt_stream_push(&self->s, BYTES(bytes + cut, src.len - cut));
			ASSERT_EQ(mqtt_stream_next(&self->s, &self->packet), 1);
		}
		EXPECT_TRUE(bytes_equal(self->packet, src));
		EXPECT_EQ(mqtt_stream_next(&self->s, &self->packet), 0);
	}
}

TEST_HARNESS_MAIN
