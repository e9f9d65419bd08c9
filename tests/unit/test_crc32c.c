/* SPDX-License-Identifier: MIT */
/*
 * CRC-32C: the examples of RFC 3720 appendix B.4, and both ways to compute it against one bit at a time.
 */

#include "base/bytes.h"
#include "base/crc32c.h"
#include "tests/harness.h"

typedef uint32_t (*crc_fn)(uint32_t crc, const void *data, size_t len);

static const crc_fn ways[] = {crc32c, crc32c_portable};

/* By the definition: the remainder of a division of polynomials. */
static uint32_t crc_by_bits(struct bytes data)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < data.len; ++i) {
		crc ^= data.data[i];
		for (int bit = 0; bit < 8; ++bit)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

TEST(rfc_3720)
{
	static const uint8_t read_10[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
					    0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
					    0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0};
	uint8_t zeros[32] = {0}, ones[32], up[32], down[32];

	for (uint8_t i = 0; i < 32; ++i) {
		ones[i] = 0xff;
		up[i] = i;
		down[i] = (uint8_t)(31 - i);
	}
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); ++i) {
		EXPECT_EQ(ways[i](0, zeros, 32), 0x8a9136aau);
		EXPECT_EQ(ways[i](0, ones, 32), 0x62a8ab43u);
		EXPECT_EQ(ways[i](0, up, 32), 0x46dd794eu);
		EXPECT_EQ(ways[i](0, down, 32), 0x113fdb5cu);
		EXPECT_EQ(ways[i](0, read_10, 48), 0xd9963a56u);
		EXPECT_EQ(ways[i](0, "123456789", 9), 0xe3069283u);
		EXPECT_EQ(ways[i](0, "", 0), 0u);
	}
}

/* Every single byte, so every entry of the tables has its turn, behind 0 to 15 others. */
TEST(bytes_at_every_place)
{
	uint8_t data[32];

	for (size_t n = 1; n <= 16; ++n)
		for (unsigned int v = 0; v < 256; ++v) {
			memset(data, 0, sizeof(data));
			data[n - 1] = (uint8_t)v;
			for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); ++i)
				EXPECT_EQ(ways[i](0, data, 16), crc_by_bits(BYTES(data, 16)));
		}
}

/* Any bytes, at any address, cut in any two. */
TEST(random_bytes)
{
	uint8_t data[600];

	for (int round = 0; round < 2000; ++round) {
		size_t at = test_random() % 16, len = test_random() % (sizeof(data) - at), cut;
		uint32_t want;

		for (size_t i = 0; i < len; ++i)
			data[at + i] = (uint8_t)test_random();
		want = crc_by_bits(BYTES(data + at, len));
		cut = len ? test_random() % len : 0;
		for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); ++i) {
			EXPECT_EQ(ways[i](0, data + at, len), want);
			EXPECT_EQ(ways[i](ways[i](0, data + at, cut), data + at + cut, len - cut), want);
		}
	}
}

TEST_HARNESS_MAIN
