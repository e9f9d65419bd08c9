/* SPDX-License-Identifier: MIT */
/*
 * CRC-32C, see crc32c.h. The register is kept as RFC 3720 has it on the wire: bits reflected, inverted before and after.
 *
 * In plain C eight bytes at a time: table k says what a byte does to the register when k more bytes follow it. CRCs
 * are linear, so a table is the sums of eight numbers, those of the single bits; only these stand here, and each is
 * the one before it, shifted by a bit (right to left, row by row) and reduced by the polynomial 0x82f63b78.
 *
 * With the instructions of x86-64 (SSE4.2) or ARMv8 where the processor this runs on has them: one instruction for
 * eight bytes.
 */

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include "base/crc32c.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>

/* HWCAP_CRC32 of <asm/hwcap.h>. */
#define CRC_HWCAP (1ul << 7)
#endif

#define CRC_ENTRY(i, b0, b1, b2, b3, b4, b5, b6, b7)                                                         \
	(((i)&1 ? (b0) : 0) ^ ((i)&2 ? (b1) : 0) ^ ((i)&4 ? (b2) : 0) ^ ((i)&8 ? (b3) : 0) ^                 \
	 ((i)&16 ? (b4) : 0) ^ ((i)&32 ? (b5) : 0) ^ ((i)&64 ? (b6) : 0) ^ ((i)&128 ? (b7) : 0))
#define CRC_ENTRIES_4(i, ...)                                                                                \
	CRC_ENTRY((i), __VA_ARGS__), CRC_ENTRY((i) + 1, __VA_ARGS__), CRC_ENTRY((i) + 2, __VA_ARGS__),       \
		CRC_ENTRY((i) + 3, __VA_ARGS__)
#define CRC_ENTRIES_16(i, ...)                                                                               \
	CRC_ENTRIES_4((i), __VA_ARGS__), CRC_ENTRIES_4((i) + 4, __VA_ARGS__),                                \
		CRC_ENTRIES_4((i) + 8, __VA_ARGS__), CRC_ENTRIES_4((i) + 12, __VA_ARGS__)
#define CRC_ENTRIES_64(i, ...)                                                                               \
	CRC_ENTRIES_16((i), __VA_ARGS__), CRC_ENTRIES_16((i) + 16, __VA_ARGS__),                             \
		CRC_ENTRIES_16((i) + 32, __VA_ARGS__), CRC_ENTRIES_16((i) + 48, __VA_ARGS__)
/* All bytes from what each of their bits, the lowest first, does. */
#define CRC_TABLE(...)                                                                                       \
	{                                                                                                    \
		CRC_ENTRIES_64(0, __VA_ARGS__), CRC_ENTRIES_64(64, __VA_ARGS__),                             \
			CRC_ENTRIES_64(128, __VA_ARGS__), CRC_ENTRIES_64(192, __VA_ARGS__)                   \
	}

static const uint32_t crc_tables[8][256] = {
	CRC_TABLE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc,
		  0x82f63b78),
	CRC_TABLE(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604,
		  0xfbc3faf9),
	CRC_TABLE(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9,
		  0x8b277743),
	CRC_TABLE(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7,
		  0x52a0c93f),
	CRC_TABLE(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae,
		  0x6ea2d55c),
	CRC_TABLE(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb,
		  0x1c08b7d6),
	CRC_TABLE(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a,
		  0xf56e0ef4),
	CRC_TABLE(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32,
		  0x34019664),
};

static uint64_t load_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	crc = ~crc;
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v = load_le64(p) ^ crc;

		crc = crc_tables[7][v & 255] ^ crc_tables[6][v >> 8 & 255] ^ crc_tables[5][v >> 16 & 255] ^
		      crc_tables[4][v >> 24 & 255] ^ crc_tables[3][v >> 32 & 255] ^
		      crc_tables[2][v >> 40 & 255] ^ crc_tables[1][v >> 48 & 255] ^ crc_tables[0][v >> 56];
	}
	for (; len > 0; ++p, --len)
		crc = crc >> 8 ^ crc_tables[0][(crc ^ *p) & 255];
	return ~crc;
}

#if defined(__x86_64__)

static bool crc_is_built_in(void)
{
	return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t crc_built_in(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t wide = ~crc;

	for (; len >= 8; p += 8, len -= 8)
		wide = _mm_crc32_u64(wide, load_le64(p));
	crc = (uint32_t)wide;
	for (; len > 0; ++p, --len)
		crc = _mm_crc32_u8(crc, *p);
	return ~crc;
}

#elif defined(__aarch64__)

static bool crc_is_built_in(void)
{
	return getauxval(AT_HWCAP) & CRC_HWCAP;
}

/* The assembler is told of the instructions, so the compiler's flags need not. */
static uint32_t crc_built_in(uint32_t crc, const uint8_t *p, size_t len)
{
	crc = ~crc;
	for (; len >= 8; p += 8, len -= 8)
		__asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(load_le64(p)));
	for (; len > 0; ++p, --len)
		__asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(*p));
	return ~crc;
}

#else

static bool crc_is_built_in(void)
{
	return false;
}

static uint32_t crc_built_in(uint32_t crc, const uint8_t *p, size_t len)
{
	return crc32c_portable(crc, p, len);
}

#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	return crc_is_built_in() ? crc_built_in(crc, data, len) : crc32c_portable(crc, data, len);
}
