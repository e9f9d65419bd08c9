/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a segment: where everything is, what is valid, and that damage anywhere costs what it hits and nothing
 * else.
 */

#include <pthread.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "journal/format.h"
#include "tests/harness.h"
#include "tests/support/segment_make.h"

#define SEGMENT_SIZE  JOURNAL_SEGMENT_BYTES_MIN
#define N_RECORDS_MAX 1024

static const struct journal_identity usual = {
	.id = UINT64_C(0x0123456789abcdef),
	.size = SEGMENT_SIZE,
	.made_ms = UINT64_C(0x18bcfe56800),
	.first_index = 1000,
	.kind = JOURNAL_KIND_QUEUE,
	.priority = 5,
	.channel = 0x102,
	.ttl_s = 0x3040506,
	.channel_name = "engine",
};

/* A segment whose last byte is the last one that can be read. */
FIXTURE(format)
{
	uint8_t *segment;
	struct segment_make make;
	uint64_t offsets[N_RECORDS_MAX];
	uint64_t sizes[N_RECORDS_MAX];
	size_t n;
};

FIXTURE_SETUP(format)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *at =
		mmap(NULL, SEGMENT_SIZE + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_TRUE(at != MAP_FAILED);
	ASSERT_EQ(mprotect(at + SEGMENT_SIZE, page, PROT_NONE), 0);
	self->segment = at;
	segment_make_init(&self->make, self->segment, &usual, 77);
}

FIXTURE_TEARDOWN(format)
{
	if (self->segment && !test_is_orphan())
		munmap(self->segment, SEGMENT_SIZE + (size_t)sysconf(_SC_PAGESIZE));
}

static void fill_random(uint8_t *at, size_t n)
{
	for (size_t i = 0; i < n; ++i)
		at[i] = (uint8_t)test_random();
}

static void add(struct fixture_format *self, size_t properties_len, size_t payload_len)
{
	static uint8_t bytes[SEGMENT_SIZE];

	fill_random(bytes, properties_len + payload_len);
	self->offsets[self->n] = segment_make_add(&self->make, BYTES(bytes, properties_len),
						  BYTES(bytes + properties_len, payload_len));
	ASSERT_NE(self->offsets[self->n], 0u);
	self->sizes[self->n] = self->make.head - self->offsets[self->n];
	++self->n;
}

/* One of enum journal_found. */
static int found_at(struct fixture_format *self, uint64_t offset, struct journal_header *header)
{
	uint64_t size = 0;

	return (int)journal_record_at(segment_make_bytes(&self->make), usual.id, offset, header, &size);
}

static uint64_t find(struct fixture_format *self, uint64_t offset)
{
	return journal_record_find(segment_make_bytes(&self->make), usual.id, offset);
}

/* --- identity --------------------------------------------------------------------------------- */

static void expect_identity(const uint8_t *header, const struct journal_identity *want)
{
	struct journal_identity got;

	ASSERT_EQ(journal_identity_get(header, &got), 0);
	EXPECT_EQ(got.id, want->id);
	EXPECT_EQ(got.size, want->size);
	EXPECT_EQ(got.made_ms, want->made_ms);
	EXPECT_EQ(got.first_index, want->first_index);
	EXPECT_EQ(got.kind, want->kind);
	EXPECT_EQ(got.priority, want->priority);
	EXPECT_EQ(got.channel, want->channel);
	EXPECT_EQ(got.ttl_s, want->ttl_s);
	EXPECT_STREQ(got.channel_name, want->channel_name);
}

TEST(identity_bytes)
{
	static const uint8_t want[64] = {
		'I',  'O',  'T',  'H',  'U',  'B',  'J',  '1', 1,    0,   0,   0,   0,   0,   0,   0,
		0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 1,   0,    0,   1,   0,   0,   0,   0,   0,
		0,    0x68, 0xe5, 0xcf, 0x8b, 1,    0,    0,   0xe8, 3,   0,   0,   0,   0,   0,   0,
		1,    5,    2,    1,    6,    5,    4,    3,   6,    'e', 'n', 'g', 'i', 'n', 'e', 0,
	};
	static const uint8_t zeros[JOURNAL_IDENTITY_BYTES];
	uint8_t got[JOURNAL_IDENTITY_BYTES];
	uint32_t crc;

	journal_identity_put(&usual, got);
	crc = crc32c(0, got + 16, sizeof(got) - 16);
	for (int i = 0; i < 4; ++i) {
		EXPECT_EQ(got[12 + i], (uint8_t)(crc >> 8 * i));
		got[12 + i] = 0;
	}
	EXPECT_MEMEQ(got, want, sizeof(want));
	EXPECT_MEMEQ(got + 64, zeros, sizeof(got) - 64);
}

TEST_F(format, identity_comes_back)
{
	struct journal_identity identity = usual;

	expect_identity(self->segment, &usual);
	memset(identity.channel_name, 'n', JOURNAL_CHANNEL_NAME_MAX);
	identity.size = UINT64_C(1) << 40;
	identity.first_index = UINT64_MAX;
	identity.priority = 9;
	identity.kind = JOURNAL_KIND_REJECTED;
	segment_make_init(&self->make, self->segment, &identity, 1);
	expect_identity(self->segment, &identity);
}

TEST_F(format, identity_with_one_bad_copy)
{
	uint8_t *copies[2] = {self->segment + JOURNAL_IDENTITY_AT, self->segment + JOURNAL_IDENTITY_COPY_AT};
	struct journal_identity got;

	for (size_t bit = 0; bit < 8 * JOURNAL_IDENTITY_BYTES; ++bit)
		for (int i = 0; i < 2; ++i) {
			copies[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
			expect_identity(self->segment, &usual);
			copies[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	memset(copies[0], 0, JOURNAL_IDENTITY_BYTES);
	copies[1][200] ^= 1;
	EXPECT_EQ(journal_identity_get(self->segment, &got), -EBADMSG);
}

/* A CRC that holds and a content that cannot be. */
TEST_F(format, identity_out_of_range)
{
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = {{8, 0}, {24, 1}, {26, 3}, {26, 0}, {48, JOURNAL_N_KINDS}, {49, 10}, {56, 65}, {56, 7}};
	struct journal_identity got;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i) {
		uint8_t *at = self->segment;
		uint32_t crc;

		journal_identity_put(&usual, at);
		at[rows[i].at] = rows[i].value;
		crc = htole32(crc32c(0, at + 16, JOURNAL_IDENTITY_BYTES - 16));
		memcpy(at + 12, &crc, 4);
		memcpy(at + JOURNAL_IDENTITY_COPY_AT, at, JOURNAL_IDENTITY_BYTES);
		EXPECT_EQ(journal_identity_get(self->segment, &got), -EBADMSG);
	}
}

TEST_F(format, identity_of_a_later_version)
{
	struct journal_identity got;

	journal_identity_put(&usual, self->segment);
	self->segment[8] = 2;
	memcpy(self->segment + JOURNAL_IDENTITY_COPY_AT, self->segment, JOURNAL_IDENTITY_BYTES);
	EXPECT_EQ(journal_identity_get(self->segment, &got), -ENOTSUP);
	/* Damaged on top of that, one and then both. */
	self->segment[JOURNAL_IDENTITY_COPY_AT + 20] ^= 1;
	EXPECT_EQ(journal_identity_get(self->segment, &got), -ENOTSUP);
	self->segment[20] ^= 1;
	EXPECT_EQ(journal_identity_get(self->segment, &got), -EBADMSG);
}

/* --- state ------------------------------------------------------------------------------------ */

static struct journal_state state_of(uint64_t generation)
{
	struct journal_state state = {
		.generation = generation,
		.done_index = generation * 11,
		.done_offset = generation * 13,
		.stored_offset = generation * 17,
		.end_offset = generation * 19,
		.end_index = generation * 23,
		.last_sequence = generation * 29,
	};

	memset(state.done, (int)generation, sizeof(state.done));
	return state;
}

static void expect_state(const uint8_t *header, uint64_t generation)
{
	struct journal_state got, want = {.generation = 0};

	if (generation)
		want = state_of(generation);
	journal_state_get(header, usual.id, &got);
	EXPECT_MEMEQ(&got, &want, sizeof(got));
}

static void put_state(uint8_t *header, uint64_t generation)
{
	struct journal_state state = state_of(generation);

	journal_state_put(&state, usual.id, header);
}

TEST_F(format, state_bytes)
{
	const uint8_t *at = self->segment + 1024;
	uint32_t crc;

	put_state(self->segment, 3);
	for (size_t i = 0; i < 7; ++i) {
		static const uint8_t want[7] = {3, 33, 39, 51, 57, 69, 87};

		EXPECT_EQ(at[i * 8], want[i]);
		EXPECT_EQ(at[i * 8 + 1], 0);
	}
	EXPECT_EQ(at[56], 3);
	EXPECT_EQ(at[183], 3);
	EXPECT_EQ(at[184], 0);
	crc = htole32(crc32c(crc32c(0, "\xef\xcd\xab\x89\x67\x45\x23\x01", 8), at, 508));
	EXPECT_MEMEQ(at + 508, &crc, 4);
}

TEST_F(format, the_newest_state_counts)
{
	struct journal_state got;

	expect_state(self->segment, 0);
	for (uint64_t generation = 1; generation < 20; ++generation) {
		put_state(self->segment, generation);
		expect_state(self->segment, generation);
	}
	journal_state_get(self->segment, usual.id + 1, &got);
	EXPECT_EQ(got.generation, 0u);
	expect_identity(self->segment, &usual);
}

TEST_F(format, a_bad_state_leaves_the_one_before)
{
	uint8_t *newest = self->segment + JOURNAL_STATE_AT(0);

	put_state(self->segment, 41);
	put_state(self->segment, 42);
	for (size_t bit = 0; bit < 8 * JOURNAL_STATE_BYTES; ++bit) {
		newest[bit / 8] ^= (uint8_t)(1 << bit % 8);
		expect_state(self->segment, 41);
		newest[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	newest[0] ^= 1;
	self->segment[JOURNAL_STATE_AT(1) + 511] ^= 1;
	expect_state(self->segment, 0);
}

TEST_F(format, a_generation_nobody_has_counted_to)
{
	static const uint64_t generations[] = {INT64_MAX, UINT64_MAX - 1, UINT64_MAX};

	put_state(self->segment, 4);
	put_state(self->segment, 3);
	for (size_t i = 0; i < ARRAY_SIZE(generations); ++i) {
		put_state(self->segment, generations[i]);
		expect_state(self->segment, generations[i] & 1 ? 4 : 3);
		put_state(self->segment, 3 + (~generations[i] & 1));
	}
	put_state(self->segment, INT64_MAX - 1);
	expect_state(self->segment, INT64_MAX - 1);
}

/* --- one record ------------------------------------------------------------------------------- */

TEST_F(format, record_bytes)
{
	static const uint8_t want[] = {
		2, 0, 0, 0, 5, 0,    0,    0,    0x4d, 0,    0,   0,   0,   0,   0,   0,   0xe8, 3, 0,
		0, 0, 0, 0, 0, 0x4d, 0x68, 0xe5, 0xcf, 0x8b, 1,   0,   0,   6,   5,   4,   3,    2, 1,
		5, 0, 0, 0, 0, 0,    0,    0,    0,    0,    'p', 'q', 'h', 'e', 'l', 'l', 'o',  0,
	};
	const uint8_t *at = self->segment + JOURNAL_HEADER_BYTES;
	uint32_t crc, mask = (uint32_t)(usual.id * UINT64_C(0x9e3779b97f4a7c15) >> 32), word;

	memset(self->segment + JOURNAL_HEADER_BYTES, 0xee, 100);
	EXPECT_EQ(segment_make_add(&self->make, BYTES_LIT("pq"), BYTES_LIT("hello")), 4096u);
	EXPECT_MEMEQ(at + 8, want, sizeof(want));
	EXPECT_EQ(at[64], 0xee);
	crc = htole32(crc32c(crc32c(0, "\xef\xcd\xab\x89\x67\x45\x23\x01", 8), at + 8, 55));
	EXPECT_MEMEQ(at + 4, &crc, 4);
	word = htole32(JOURNAL_COMMIT_PUBLISHED ^ mask);
	EXPECT_MEMEQ(at, &word, 4);
	journal_record_withdraw(self->segment + JOURNAL_HEADER_BYTES);
	word = htole32(JOURNAL_COMMIT_WITHDRAWN ^ mask);
	EXPECT_MEMEQ(at, &word, 4);
	EXPECT_MEMEQ(at + 4, &crc, 4);
}

TEST_F(format, record_comes_back)
{
	struct journal_header want = segment_make_header(&self->make, 3, 10), got;
	uint64_t size;

	add(self, 3, 10);
	ASSERT_TRUE(journal_record_at(segment_make_bytes(&self->make), usual.id, 4096, &got, &size) ==
		    JOURNAL_FOUND_RECORD);
	EXPECT_EQ(size, 72u);
	EXPECT_EQ(got.properties_len, want.properties_len);
	EXPECT_EQ(got.payload_len, want.payload_len);
	EXPECT_EQ(got.sequence, want.sequence);
	EXPECT_EQ(got.index, want.index);
	EXPECT_EQ(got.time_ms, want.time_ms);
	EXPECT_EQ(got.ttl_s, want.ttl_s);
	EXPECT_EQ(got.channel, want.channel);
	EXPECT_EQ(got.priority, want.priority);
	EXPECT_EQ(got.origin, want.origin);
	EXPECT_TRUE(journal_record_at(segment_make_bytes(&self->make), usual.id + 1, 4096, &got, &size) ==
		    JOURNAL_FOUND_NOTHING);
}

TEST_F(format, a_record_is_there_when_it_is_published)
{
	struct journal_header header = segment_make_header(&self->make, 0, 16);
	uint8_t *at = self->segment + JOURNAL_HEADER_BYTES;

	add(self, 0, 16);
	journal_record_reserve(at, &header);
	EXPECT_EQ(found_at(self, 4096, &header), JOURNAL_FOUND_NOTHING);
	EXPECT_EQ(find(self, 4096), SEGMENT_SIZE);
	memset(at + JOURNAL_RECORD_HEADER_BYTES, 'x', 16);
	journal_record_publish(at, usual.id);
	EXPECT_EQ(found_at(self, 4096, &header), JOURNAL_FOUND_RECORD);
	journal_record_withdraw(at);
	EXPECT_EQ(found_at(self, 4096, &header), JOURNAL_FOUND_WITHDRAWN);
	EXPECT_EQ(find(self, 4096), 4096u);
}

TEST_F(format, no_place_for_a_record)
{
	static const uint64_t offsets[] = {0,
					   8,
					   4088,
					   4097,
					   4100,
					   SEGMENT_SIZE - 48,
					   SEGMENT_SIZE - 8,
					   SEGMENT_SIZE,
					   SEGMENT_SIZE + 8,
					   UINT64_MAX - 7,
					   UINT64_MAX - 55,
					   UINT64_MAX};
	struct journal_header header;

	add(self, 0, SEGMENT_SIZE - JOURNAL_HEADER_BYTES - JOURNAL_RECORD_HEADER_BYTES);
	EXPECT_EQ(found_at(self, 4096, &header), JOURNAL_FOUND_RECORD);
	EXPECT_EQ(find(self, 0), 4096u);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); ++i) {
		EXPECT_EQ(found_at(self, offsets[i], &header), JOURNAL_FOUND_NOTHING);
		if (offsets[i] > 4096)
			EXPECT_EQ(find(self, offsets[i]), SEGMENT_SIZE);
	}
	EXPECT_EQ(journal_record_find(BYTES(self->segment, 0), usual.id, 0), 0u);
	EXPECT_EQ(journal_record_find(BYTES(self->segment, 4096), usual.id, 0), 4096u);
}

/* Of every id, also of those whose mask would turn a commit word into zeros. */
TEST_F(format, commit_words_are_never_near_zeros)
{
	/* x * 0x9e3779b97f4a7c15 >> 32 is the commit word, but for the three lowest bits. */
	static const uint64_t inverse = UINT64_C(0xf1de83e19937733d);
	static const uint32_t words[] = {JOURNAL_COMMIT_PUBLISHED, JOURNAL_COMMIT_WITHDRAWN};

	EXPECT_EQ(inverse * UINT64_C(0x9e3779b97f4a7c15), 1u);
	for (int i = 0; i < 40000; ++i) {
		uint64_t id = i % 2 ? test_random() : ((uint64_t)words[i / 2 % 2] << 32) * inverse;
		struct journal_identity identity = usual;
		uint32_t word;

		if (i % 4 == 2)
			id ^= UINT64_C(1) << test_random() % 64;
		identity.id = id;
		segment_make_init(&self->make, self->segment, &identity, 1);
		segment_make_add(&self->make, BYTES(NULL, 0), BYTES(NULL, 0));
		memcpy(&word, self->segment + 4096, 4);
		ASSERT_GT(__builtin_popcount(word), JOURNAL_COMMIT_FLIPS);
		ASSERT_EQ(journal_record_find(segment_make_bytes(&self->make), id, 0), 4096u);
		journal_record_withdraw(self->segment + 4096);
		memcpy(&word, self->segment + 4096, 4);
		ASSERT_GT(__builtin_popcount(word), JOURNAL_COMMIT_FLIPS);
		ASSERT_EQ(journal_record_find(segment_make_bytes(&self->make), id, 0), 4096u);
	}
}

TEST_F(format, few_wrong_bits_of_a_commit_word_change_nothing)
{
	struct journal_header header;
	uint32_t *word = (uint32_t *)(void *)(self->segment + 4096);

	add(self, 1, 1);
	for (int withdrawn = 0; withdrawn < 2; ++withdrawn) {
		int want = withdrawn ? JOURNAL_FOUND_WITHDRAWN : JOURNAL_FOUND_RECORD;

		for (uint32_t i = 0; i < 32 * 32 * 32 * 32; ++i) {
			uint32_t flips =
				1u << (i & 31) | 1u << (i >> 5 & 31) | 1u << (i >> 10 & 31) | 1u << (i >> 15);

			*word ^= flips;
			ASSERT_EQ(found_at(self, 4096, &header),
				  __builtin_popcount(flips) <= JOURNAL_COMMIT_FLIPS ? want
										    : JOURNAL_FOUND_NOTHING);
			*word ^= flips;
		}
		journal_record_withdraw(self->segment + 4096);
	}
}

/* --- many records ----------------------------------------------------------------------------- */

static void add_many(struct fixture_format *self, size_t n, size_t len_max)
{
	for (size_t i = 0; i < n; ++i)
		add(self, test_random() % 30, test_random() % len_max);
}

/* All records are found but @missing (SIZE_MAX: none), and nothing else is. */
static void expect_walk(struct fixture_format *self, size_t missing)
{
	uint64_t at = find(self, 0);

	for (size_t i = 0; i < self->n; ++i) {
		struct journal_header header;

		if (i == missing)
			continue;
		ASSERT_EQ(at, self->offsets[i]);
		ASSERT_EQ(found_at(self, at, &header), JOURNAL_FOUND_RECORD);
		ASSERT_EQ(header.sequence, 77 + i);
		ASSERT_EQ(header.index, usual.first_index + i);
		at = find(self, at + self->sizes[i]);
	}
	ASSERT_EQ(at, SEGMENT_SIZE);
}

TEST_F(format, walk)
{
	for (int round = 0; round < 50; ++round) {
		self->n = 0;
		fill_random(self->segment + JOURNAL_HEADER_BYTES, SEGMENT_SIZE - JOURNAL_HEADER_BYTES);
		segment_make_init(&self->make, self->segment, &usual, 77);
		add_many(self, 1 + test_random() % 200, 200);
		expect_walk(self, SIZE_MAX);
	}
}

/* What an earlier use of the file left is never taken for records of this one, wherever those end. */
TEST_F(format, records_of_the_last_use)
{
	struct journal_identity next = usual;

	add_many(self, 200, 200);
	next.id = test_random();
	segment_make_init(&self->make, self->segment, &next, 77);
	EXPECT_EQ(journal_record_find(segment_make_bytes(&self->make), next.id, 0), SEGMENT_SIZE);
	EXPECT_NE(find(self, 0), SEGMENT_SIZE);
}

/* Every single bit of a segment, one at a time: at most the record it is in is lost, nothing else changes. */
TEST_F(format, every_flipped_bit_costs_its_record)
{
	uint64_t used;

	add_many(self, 12, 60);
	used = self->make.head;
	for (size_t i = 0; i < self->n; ++i)
		for (uint64_t bit = 0; bit < 8 * self->sizes[i]; ++bit) {
			uint8_t *at = self->segment + self->offsets[i] + bit / 8;
			struct journal_header header;

			*at ^= (uint8_t)(1 << bit % 8);
			expect_walk(self, found_at(self, self->offsets[i], &header) == JOURNAL_FOUND_RECORD
						  ? SIZE_MAX
						  : i);
			*at ^= (uint8_t)(1 << bit % 8);
		}
	for (uint64_t bit = 8 * used; bit < 8 * used + 1024; ++bit) {
		self->segment[bit / 8] ^= (uint8_t)(1 << bit % 8);
		expect_walk(self, SIZE_MAX);
		self->segment[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* Only the commit word and the zeros behind a record may change without it being lost. */
TEST_F(format, what_a_flipped_bit_spares)
{
	struct journal_header header;

	add(self, 3, 4);
	for (uint64_t bit = 0; bit < 8 * self->sizes[0]; ++bit) {
		self->segment[4096 + bit / 8] ^= (uint8_t)(1 << bit % 8);
		EXPECT_EQ(found_at(self, 4096, &header),
			  bit < 32 || bit >= 8 * 63 ? JOURNAL_FOUND_RECORD : JOURNAL_FOUND_NOTHING);
		self->segment[4096 + bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* Damage of any length: what it does not touch is found. */
TEST_F(format, holes)
{
	static uint8_t whole[SEGMENT_SIZE];

	add_many(self, 200, 200);
	memcpy(whole, self->segment, SEGMENT_SIZE);
	for (int round = 0; round < 300; ++round) {
		uint64_t from = JOURNAL_HEADER_BYTES + test_random() % (SEGMENT_SIZE - JOURNAL_HEADER_BYTES),
			 at;
		uint64_t to = from + test_random() % (SEGMENT_SIZE - from + 1);

		if (round % 2)
			memset(self->segment + from, 0, to - from);
		else
			fill_random(self->segment + from, to - from);
		at = find(self, 0);
		for (size_t i = 0; i < self->n; ++i) {
			uint64_t end = self->offsets[i] + self->sizes[i];

			if (end > from && self->offsets[i] < to && at != self->offsets[i])
				continue;
			ASSERT_EQ(at, self->offsets[i]);
			ASSERT_EQ(memcmp(self->segment + at, whole + at, self->sizes[i] - 7), 0);
			at = find(self, end);
		}
		ASSERT_EQ(at, SEGMENT_SIZE);
		memcpy(self->segment, whole, SEGMENT_SIZE);
	}
}

/* --- hostile bytes ---------------------------------------------------------------------------- */

/* Lengths of all kinds, with commit words that hold: nothing behind the segment is read. */
TEST_F(format, lengths_at_the_end)
{
	static const uint32_t lengths[] = {0,         1, 7, 8, 9, 100, 0x7fffffff, 0x80000000, UINT32_MAX - 7,
					   UINT32_MAX};
	size_t n = sizeof(lengths) / sizeof(lengths[0]);
	struct journal_header header;
	uint32_t word;

	add(self, 0, 0);
	memcpy(&word, self->segment + 4096, 4);
	for (uint64_t at = SEGMENT_SIZE - 160; at <= SEGMENT_SIZE - 56; at += 8)
		for (size_t i = 0; i < n * n; ++i) {
			uint32_t properties_len = htole32(lengths[i % n]),
				 payload_len = htole32(lengths[i / n]);

			memset(self->segment + SEGMENT_SIZE - 160, 0, 160);
			memcpy(self->segment + at, &word, 4);
			memcpy(self->segment + at + 8, &properties_len, 4);
			memcpy(self->segment + at + 12, &payload_len, 4);
			EXPECT_EQ(found_at(self, at, &header), JOURNAL_FOUND_NOTHING);
			EXPECT_EQ(find(self, at), SEGMENT_SIZE);
			if (lengths[i % n] + (uint64_t)lengths[i / n] > SEGMENT_SIZE - at - 56)
				continue;
			journal_record_publish(self->segment + at, usual.id);
			EXPECT_EQ(found_at(self, at, &header), JOURNAL_FOUND_RECORD);
		}
}

static void *write_lengths(void *at)
{
	for (uint32_t i = 0; i < 3000000; ++i)
		__atomic_store_n((uint32_t *)at, htole32(i % 2 ? UINT32_MAX / 4 : 8), __ATOMIC_RELAXED);
	return NULL;
}

/* Somebody else writes into the same mapping, a daemon beside the program that looks at its journal. */
TEST_F(format, lengths_that_change)
{
	struct journal_header header;
	pthread_t thread;

	/* A long one: its lengths change while its CRC is computed. */
	add(self, 8, SEGMENT_SIZE - JOURNAL_HEADER_BYTES - JOURNAL_RECORD_HEADER_BYTES - 8);
	ASSERT_EQ(pthread_create(&thread, NULL, write_lengths, self->segment + self->offsets[0] + 8), 0);
	while (pthread_tryjoin_np(thread, NULL) == EBUSY)
		if (found_at(self, self->offsets[0], &header) != JOURNAL_FOUND_NOTHING)
			ASSERT_EQ(header.properties_len, 8u);
}

/* A payload that looks like long records from end to end, of one who does not know the id. */
TEST(a_hostile_payload_is_passed_in_time)
{
	static const uint32_t words[] = {JOURNAL_COMMIT_PUBLISHED, JOURNAL_COMMIT_WITHDRAWN};
	size_t size = (size_t)32 << 20;
	uint8_t *data = aligned_alloc(4096, size);
	struct timespec start, end;

	ASSERT_TRUE(data != NULL);
	for (size_t at = 0; at < size; at += 16) {
		uint32_t lengths[4] = {htole32(words[at / 16 % 2]), 0, htole32((uint32_t)(size - at) / 2),
				       0x90000};

		memcpy(data + at, lengths, 16);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	EXPECT_EQ(journal_record_find(BYTES(data, size), usual.id, 0), size);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	TEST_LOG("%ld ms", (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000);
	EXPECT_LT(end.tv_sec - start.tv_sec, 5);
	free(data);
}

/* Who knows the id can make each place look like a long record. */
TEST(a_hostile_file_is_passed_in_time)
{
	struct journal_identity identity = usual;
	struct segment_make make;
	struct journal_header header;
	struct timespec start, end;
	uint64_t budget, size, at;
	uint32_t word;

	identity.size = (uint64_t)8 << 20;
	make.data = aligned_alloc(4096, identity.size);
	ASSERT_TRUE(make.data != NULL);
	memset(make.data, 0, identity.size);
	segment_make_init(&make, make.data, &identity, 1);
	segment_make_add(&make, BYTES("", 0), BYTES("first", 5));
	memcpy(&word, make.data + JOURNAL_HEADER_BYTES, sizeof(word));
	for (at = make.head; at < identity.size; at += 16) {
		uint32_t lengths[4] = {word, 0, htole32((uint32_t)(identity.size - at) / 2), 0x90000};

		memcpy(make.data + at, lengths, 16);
	}
	make.head = identity.size - 4096;
	at = segment_make_add(&make, BYTES("", 0), BYTES("last", 4));
	budget = identity.size;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	EXPECT_EQ(journal_record_next(segment_make_bytes(&make), usual.id, 0, &budget, &header, &size),
		  (uint64_t)JOURNAL_HEADER_BYTES);
	EXPECT_EQ(header.sequence, 1u);
	EXPECT_EQ(journal_record_next(segment_make_bytes(&make), usual.id, JOURNAL_HEADER_BYTES + size,
				      &budget, &header, &size),
		  at);
	EXPECT_EQ(header.sequence, 2u);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	TEST_LOG("%ld ms", (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000);
	EXPECT_LT(end.tv_sec - start.tv_sec, 5);
	free(make.data);
}

TEST_HARNESS_MAIN
