/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a segment of the journal, and any damage to a good one.
 *
 * The first byte says which. A header: the rest of the input lies over the identities and states, whose CRCs are made
 * to hold when a bit says so; what is taken must be within the ranges of format.h. Records: the rest is a list of steps that
 * append, withdraw, overwrite and flip bits. Checked: nothing is found but what was appended, byte for byte;
 * what no step touched is found; looking for records finds what looking at every place does.
 */

#include <assert.h>
#include <endian.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "journal/format.h"
#include "tests/support/segment_make.h"

#define SEGMENT_SIZE  JOURNAL_SEGMENT_BYTES_MIN
#define N_RECORDS_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- header ----------------------------------------------------------------------------------- */

static void put_crc(uint8_t *at, uint32_t crc)
{
	crc = htole32(crc);
	memcpy(at, &crc, sizeof(crc));
}

static void header_seal(uint8_t *header)
{
	static const size_t identities[] = {JOURNAL_IDENTITY_AT, JOURNAL_IDENTITY_COPY_AT};

	for (int i = 0; i < 2; ++i) {
		uint8_t *at = header + identities[i], *state = header + JOURNAL_STATE_AT(i);

		memcpy(at, "IOTHUBJ1\1\0\0", 12);
		put_crc(at + 12, crc32c(0, at + 16, JOURNAL_IDENTITY_BYTES - 16));
		put_crc(state + 508, crc32c(crc32c(0, header + 16, 8), state, 508));
	}
}

/* What was read is what stands in one of the two places, but for zeros that are none. */
static void check_same(const uint8_t *header, size_t one, size_t other, const uint8_t *again, size_t from,
		       size_t to)
{
	assert(memcmp(header + one + from, again + from, to - from) == 0 ||
	       memcmp(header + other + from, again + from, to - from) == 0);
}

static void check_header_read(const uint8_t *header)
{
	uint8_t again[JOURNAL_HEADER_BYTES];
	struct journal_identity identity;
	struct journal_state state;

	if (journal_identity_get(header, &identity) < 0)
		return;
	assert(identity.kind < JOURNAL_N_KINDS && identity.priority <= 9);
	assert(identity.size >= SEGMENT_SIZE && (identity.size & (identity.size - 1)) == 0);
	assert(strlen(identity.channel_name) <= JOURNAL_CHANNEL_NAME_MAX);
	journal_identity_put(&identity, again);
	check_same(header, JOURNAL_IDENTITY_AT, JOURNAL_IDENTITY_COPY_AT, again, 16,
		   57 + strlen(identity.channel_name));
	journal_state_get(header, identity.id, &state);
	if (!state.generation)
		return;
	journal_state_put(&state, identity.id, again);
	check_same(header, JOURNAL_STATE_AT(0), JOURNAL_STATE_AT(1),
		   again + JOURNAL_STATE_AT(state.generation & 1), 0, 184);
}

static void check_header(struct bytes input, bool seal)
{
	static const size_t places[] = {JOURNAL_IDENTITY_AT, JOURNAL_IDENTITY_COPY_AT, JOURNAL_STATE_AT(0),
					JOURNAL_STATE_AT(1)};
	uint8_t *header = calloc(1, JOURNAL_HEADER_BYTES);

	assert(header);
	for (int i = 0; i < 4; ++i) {
		size_t n = input.len < 200 ? input.len : 200;

		if (n)
			memcpy(header + places[i], input.data, n);
		input = BYTES(input.data + n, input.len - n);
	}
	if (seal)
		header_seal(header);
	check_header_read(header);
	free(header);
}

/* --- records ---------------------------------------------------------------------------------- */

struct box {
	struct bytes input;
	uint8_t *whole; /* what was appended and no step has touched */
	struct segment_make make;
	uint64_t offsets[N_RECORDS_MAX + 1];
	bool is_touched[N_RECORDS_MAX];
	bool is_withdrawn[N_RECORDS_MAX];
	size_t n;
};

static uint32_t take(struct box *box)
{
	uint32_t byte = box->input.len ? box->input.data[0] : 0;

	if (box->input.len)
		box->input = BYTES(box->input.data + 1, box->input.len - 1);
	return byte;
}

static uint64_t take_place(struct box *box)
{
	uint32_t high = take(box);

	return JOURNAL_HEADER_BYTES + (high << 8 | take(box)) % (SEGMENT_SIZE - JOURNAL_HEADER_BYTES);
}

/* The payload begins with a record as another segment would have it, when it is long enough. */
static void step_append(struct box *box)
{
	uint8_t payload[1024] __attribute__((aligned(8))), properties[16];
	size_t len = (size_t)take(box) * 4, properties_len = take(box) % sizeof(properties);
	struct journal_header inner = segment_make_header(&box->make, take(box), take(box));
	uint64_t at;

	if (box->n == N_RECORDS_MAX)
		return;
	memset(payload, (int)take(box), sizeof(payload));
	memset(properties, 0x5a, sizeof(properties));
	if (journal_record_bytes(inner.properties_len, inner.payload_len) <= len) {
		journal_record_reserve(payload, &inner);
		journal_record_publish(payload, box->make.identity.id + take(box) + 1);
	}
	at = segment_make_add(&box->make, BYTES(properties, properties_len), BYTES(payload, len));
	if (!at)
		return;
	memcpy(box->whole + at, box->make.data + at, box->make.head - at);
	box->is_touched[box->n] = box->is_withdrawn[box->n] = false;
	box->offsets[box->n++] = at;
	box->offsets[box->n] = box->make.head;
}

static void touch(struct box *box, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < box->n; ++i)
		if (box->offsets[i] < to && box->offsets[i + 1] > from)
			box->is_touched[i] = true;
}

static void step_withdraw(struct box *box)
{
	size_t i = take(box);

	if (i >= box->n || box->is_touched[i] || box->is_withdrawn[i])
		return;
	journal_record_withdraw(box->make.data + box->offsets[i]);
	box->is_withdrawn[i] = true;
}

static void step_flip(struct box *box)
{
	uint64_t at = take_place(box);

	box->make.data[at] ^= (uint8_t)(1u << take(box) % 8);
	touch(box, at, at + 1);
}

static void step_overwrite(struct box *box)
{
	uint64_t at = take_place(box), len = take(box);

	len = len < SEGMENT_SIZE - at ? len : SEGMENT_SIZE - at;
	touch(box, at, at + len);
	for (uint64_t i = 0; i < len; ++i)
		box->make.data[at + i] = (uint8_t)take(box);
}

static void run_steps(struct box *box)
{
	while (box->input.len)
		switch (take(box) % 5) {
		case 0:
		case 1:
			step_append(box);
			break;
		case 2:
			step_withdraw(box);
			break;
		case 3:
			step_flip(box);
			break;
		case 4:
			step_overwrite(box);
			break;
		}
}

/* What is found at @at is record @i as it was appended. */
static void check_record(const struct box *box, size_t i, uint64_t at)
{
	struct journal_header header;
	uint64_t size = 0;
	enum journal_found found =
		journal_record_at(segment_make_bytes(&box->make), box->make.identity.id, at, &header, &size);

	assert(found != JOURNAL_FOUND_NOTHING);
	assert(at == box->offsets[i] && size == box->offsets[i + 1] - at);
	assert(header.sequence == 1 + i && header.index == box->make.identity.first_index + i);
	size = JOURNAL_RECORD_HEADER_BYTES - 8 + header.properties_len + header.payload_len;
	assert(memcmp(box->make.data + at + 8, box->whole + at + 8, size) == 0);
	assert(box->is_touched[i] || (found == JOURNAL_FOUND_WITHDRAWN) == box->is_withdrawn[i]);
}

static void check_walk(const struct box *box)
{
	struct bytes segment = segment_make_bytes(&box->make);
	uint64_t next = journal_record_find(segment, box->make.identity.id, 0);
	struct journal_header header;
	uint64_t size;
	size_t i = 0;

	for (uint64_t at = JOURNAL_HEADER_BYTES; at < SEGMENT_SIZE; at += JOURNAL_ALIGNMENT) {
		if (at != next) {
			assert(journal_record_at(segment, box->make.identity.id, at, &header, &size) ==
			       JOURNAL_FOUND_NOTHING);
			continue;
		}
		for (; i < box->n && box->offsets[i] != at; ++i)
			assert(box->is_touched[i]);
		assert(i < box->n);
		check_record(box, i++, at);
		next = journal_record_find(segment, box->make.identity.id, box->offsets[i]);
		at = box->offsets[i] - JOURNAL_ALIGNMENT;
	}
	for (; i < box->n; ++i)
		assert(box->is_touched[i]);
}

static void check_records(struct bytes input)
{
	static const struct journal_identity identity = {.id = UINT64_C(0x1122334455667788),
							 .size = SEGMENT_SIZE,
							 .kind = JOURNAL_KIND_QUEUE,
							 .first_index = 5,
							 .priority = 5};
	struct box *box = calloc(1, sizeof(*box));
	uint8_t *data = calloc(1, SEGMENT_SIZE);

	assert(box && data);
	box->whole = calloc(1, SEGMENT_SIZE);
	assert(box->whole);
	box->input = input;
	segment_make_init(&box->make, data, &identity, 1);
	run_steps(box);
	check_walk(box);
	free(box->whole);
	free(data);
	free(box);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & 2)
		check_header(BYTES(data + 1, size - 1), data[0] & 1);
	else
		check_records(BYTES(data + 1, size - 1));
	return 0;
}
