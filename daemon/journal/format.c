/* SPDX-License-Identifier: MIT */
/*
 * A segment's bytes, see format.h. What is read comes from a disk and can be anything: every length and offset is
 * checked against the segment before a byte behind it is touched, and what the CRC covers counts only after it held.
 *
 * Whether records follow each other, what is missing between them and what is done with is for the journal to say.
 */

#include <assert.h>
#include <endian.h>
#include <errno.h>

#include "base/crc32c.h"
#include "journal/format.h"

#define JOURNAL_VERSION      1
#define JOURNAL_PRIORITY_MAX 9
/* Bytes of CRC for each byte that is passed. By chance it is 21 at most, see format.h. */
#define JOURNAL_CRC_PER_BYTE 64

static const uint8_t identity_magic[8] = {'I', 'O', 'T', 'H', 'U', 'B', 'J', '1'};

static void put_u16(uint8_t *at, uint16_t v)
{
	v = htole16(v);
	memcpy(at, &v, sizeof(v));
}

static void put_u32(uint8_t *at, uint32_t v)
{
	v = htole32(v);
	memcpy(at, &v, sizeof(v));
}

static void put_u64(uint8_t *at, uint64_t v)
{
	v = htole64(v);
	memcpy(at, &v, sizeof(v));
}

static uint16_t get_u16(const uint8_t *at)
{
	uint16_t v;

	memcpy(&v, at, sizeof(v));
	return le16toh(v);
}

static uint32_t get_u32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return le32toh(v);
}

static uint64_t get_u64(const uint8_t *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return le64toh(v);
}

static uint32_t crc_with_id(uint64_t id, const uint8_t *data, size_t len)
{
	uint8_t start[8];

	put_u64(start, id);
	return crc32c(crc32c(0, start, sizeof(start)), data, len);
}

/* --- identity --------------------------------------------------------------------------------- */

void journal_identity_put(const struct journal_identity *identity, uint8_t out[static JOURNAL_IDENTITY_BYTES])
{
	size_t name_len = strnlen(identity->channel_name, JOURNAL_CHANNEL_NAME_MAX + 1);

	assert(name_len <= JOURNAL_CHANNEL_NAME_MAX && identity->priority <= JOURNAL_PRIORITY_MAX);
	memset(out, 0, JOURNAL_IDENTITY_BYTES);
	memcpy(out, identity_magic, sizeof(identity_magic));
	put_u32(out + 8, JOURNAL_VERSION);
	put_u64(out + 16, identity->id);
	put_u64(out + 24, identity->size);
	put_u64(out + 32, identity->made_ms);
	put_u64(out + 40, identity->first_index);
	out[48] = (uint8_t)identity->kind;
	out[49] = identity->priority;
	put_u16(out + 50, identity->channel);
	put_u32(out + 52, identity->ttl_s);
	out[56] = (uint8_t)name_len;
	memcpy(out + 57, identity->channel_name, name_len);
	put_u32(out + 12, crc32c(0, out + 16, JOURNAL_IDENTITY_BYTES - 16));
}

static bool identity_is_whole(const uint8_t *at)
{
	return memcmp(at, identity_magic, sizeof(identity_magic)) == 0 &&
	       get_u32(at + 12) == crc32c(0, at + 16, JOURNAL_IDENTITY_BYTES - 16);
}

static bool identity_is_valid(const uint8_t *at)
{
	uint64_t size = get_u64(at + 24);

	return identity_is_whole(at) && get_u32(at + 8) == JOURNAL_VERSION &&
	       size >= JOURNAL_SEGMENT_BYTES_MIN && (size & (size - 1)) == 0 && at[48] < JOURNAL_N_KINDS &&
	       at[49] <= JOURNAL_PRIORITY_MAX && at[56] <= JOURNAL_CHANNEL_NAME_MAX &&
	       !memchr(at + 57, 0, at[56]);
}

static bool identity_is_later(const uint8_t *at)
{
	return identity_is_whole(at) && get_u32(at + 8) > JOURNAL_VERSION;
}

int journal_identity_get(const uint8_t header[static JOURNAL_HEADER_BYTES], struct journal_identity *out)
{
	const uint8_t *at = header + JOURNAL_IDENTITY_AT;

	if (!identity_is_valid(at))
		at = header + JOURNAL_IDENTITY_COPY_AT;
	if (!identity_is_valid(at))
		return identity_is_later(header + JOURNAL_IDENTITY_AT) || identity_is_later(at) ? -ENOTSUP
												: -EBADMSG;
	*out = (struct journal_identity){
		.id = get_u64(at + 16),
		.size = get_u64(at + 24),
		.made_ms = get_u64(at + 32),
		.first_index = get_u64(at + 40),
		.kind = (enum journal_kind)at[48],
		.priority = at[49],
		.channel = get_u16(at + 50),
		.ttl_s = get_u32(at + 52),
	};
	memcpy(out->channel_name, at + 57, at[56]);
	return 0;
}

/* --- state ------------------------------------------------------------------------------------ */

void journal_state_put(const struct journal_state *state, uint64_t id,
		       uint8_t header[static JOURNAL_HEADER_BYTES])
{
	uint8_t *at = header + JOURNAL_STATE_AT(state->generation & 1);

	assert(state->generation != 0);
	memset(at, 0, JOURNAL_STATE_BYTES);
	put_u64(at, state->generation);
	put_u64(at + 8, state->done_index);
	put_u64(at + 16, state->done_offset);
	put_u64(at + 24, state->stored_offset);
	put_u64(at + 32, state->end_offset);
	put_u64(at + 40, state->end_index);
	put_u64(at + 48, state->last_sequence);
	memcpy(at + 56, state->done, sizeof(state->done));
	put_u32(at + 508, crc_with_id(id, at, 508));
}

/* Generations are counted on from what is found. */
static bool state_is_valid(const uint8_t *at, uint64_t id)
{
	uint64_t generation = get_u64(at);

	return generation != 0 && generation < INT64_MAX && get_u32(at + 508) == crc_with_id(id, at, 508);
}

void journal_state_get(const uint8_t header[static JOURNAL_HEADER_BYTES], uint64_t id,
		       struct journal_state *out)
{
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < 2; ++i) {
		const uint8_t *at = header + JOURNAL_STATE_AT(i);

		if (!state_is_valid(at, id) || get_u64(at) <= out->generation)
			continue;
		out->generation = get_u64(at);
		out->done_index = get_u64(at + 8);
		out->done_offset = get_u64(at + 16);
		out->stored_offset = get_u64(at + 24);
		out->end_offset = get_u64(at + 32);
		out->end_index = get_u64(at + 40);
		out->last_sequence = get_u64(at + 48);
		memcpy(out->done, at + 56, sizeof(out->done));
	}
}

/* --- records ---------------------------------------------------------------------------------- */

/* At most JOURNAL_COMMIT_FLIPS bits are set. */
static bool are_few_bits(uint32_t v)
{
	for (int i = 0; i < JOURNAL_COMMIT_FLIPS; ++i)
		v &= v - 1;
	return v == 0;
}

/* With the complement neither word is near zeros when one of them was: the words differ in 24 bits. */
static uint32_t commit_mask(uint64_t id)
{
	uint32_t mask = (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 32);

	if (are_few_bits(mask ^ JOURNAL_COMMIT_PUBLISHED) || are_few_bits(mask ^ JOURNAL_COMMIT_WITHDRAWN))
		return ~mask;
	return mask;
}

static uint32_t commit_load(const uint8_t *at)
{
	return le32toh(__atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_ACQUIRE));
}

static void commit_store(uint8_t *at, uint32_t word)
{
	__atomic_store_n((uint32_t *)(void *)at, htole32(word), __ATOMIC_RELEASE);
}

/* @word without the segment's mask. */
static enum journal_found commit_meaning(uint32_t word)
{
	if (are_few_bits(word ^ JOURNAL_COMMIT_PUBLISHED))
		return JOURNAL_FOUND_RECORD;
	if (are_few_bits(word ^ JOURNAL_COMMIT_WITHDRAWN))
		return JOURNAL_FOUND_WITHDRAWN;
	return JOURNAL_FOUND_NOTHING;
}

struct record_lengths {
	uint32_t properties;
	uint32_t payload;
};

/* Both at once: where somebody else writes meanwhile, what was checked is what is used. */
static struct record_lengths lengths_load(const uint8_t *at)
{
	uint64_t both = le64toh(__atomic_load_n((const uint64_t *)(const void *)(at + 8), __ATOMIC_RELAXED));

	return (struct record_lengths){.properties = (uint32_t)both, .payload = (uint32_t)(both >> 32)};
}

static uint32_t record_crc(uint64_t id, const uint8_t *at, struct record_lengths lengths)
{
	return crc_with_id(id, at + 8,
			   JOURNAL_RECORD_HEADER_BYTES - 8 + (uint64_t)lengths.properties + lengths.payload);
}

void journal_record_reserve(uint8_t *at, const struct journal_header *header)
{
	uint64_t used = JOURNAL_RECORD_HEADER_BYTES + (uint64_t)header->properties_len + header->payload_len;

	assert(header->priority <= JOURNAL_PRIORITY_MAX);
	commit_store(at, JOURNAL_COMMIT_RESERVED);
	put_u32(at + 4, 0);
	put_u32(at + 8, header->properties_len);
	put_u32(at + 12, header->payload_len);
	put_u64(at + 16, header->sequence);
	put_u64(at + 24, header->index);
	put_u64(at + 32, header->time_ms);
	put_u32(at + 40, header->ttl_s);
	put_u16(at + 44, header->channel);
	at[46] = header->priority;
	at[47] = 0;
	put_u64(at + 48, header->origin);
	memset(at + used, 0, journal_record_bytes(header->properties_len, header->payload_len) - used);
}

void journal_record_publish(uint8_t *at, uint64_t id)
{
	put_u32(at + 4, record_crc(id, at, lengths_load(at)));
	commit_store(at, JOURNAL_COMMIT_PUBLISHED ^ commit_mask(id));
}

void journal_record_withdraw(uint8_t *at)
{
	commit_store(at, commit_load(at) ^ JOURNAL_COMMIT_PUBLISHED ^ JOURNAL_COMMIT_WITHDRAWN);
}

/* What may be at @at, with @left bytes from there to the end of the segment, at least a header; @word: its commit word
 * without the mask. *@out: its lengths, unless NOTHING. Its CRC is still to be computed. */
static enum journal_found record_guess(const uint8_t *at, uint64_t left, uint32_t word,
				       struct record_lengths *out)
{
	enum journal_found found = commit_meaning(word);

	if (found == JOURNAL_FOUND_NOTHING || at[46] > JOURNAL_PRIORITY_MAX || at[47] != 0)
		return JOURNAL_FOUND_NOTHING;
	*out = lengths_load(at);
	return journal_record_bytes(out->properties, out->payload) > left ? JOURNAL_FOUND_NOTHING : found;
}

static bool record_is_whole(const uint8_t *at, uint64_t id, struct record_lengths lengths)
{
	return get_u32(at + 4) == record_crc(id, at, lengths);
}

static void record_header(const uint8_t *at, struct record_lengths lengths, struct journal_header *out)
{
	*out = (struct journal_header){
		.properties_len = lengths.properties,
		.payload_len = lengths.payload,
		.sequence = get_u64(at + 16),
		.index = get_u64(at + 24),
		.time_ms = get_u64(at + 32),
		.ttl_s = get_u32(at + 40),
		.channel = get_u16(at + 44),
		.priority = at[46],
		.origin = get_u64(at + 48),
	};
}

enum journal_found journal_record_at(struct bytes segment, uint64_t id, uint64_t offset,
				     struct journal_header *out, uint64_t *out_size)
{
	struct record_lengths lengths;
	enum journal_found found;
	const uint8_t *at;

	if (offset < JOURNAL_HEADER_BYTES || offset % JOURNAL_ALIGNMENT || offset > segment.len ||
	    segment.len - offset < JOURNAL_RECORD_HEADER_BYTES)
		return JOURNAL_FOUND_NOTHING;
	at = segment.data + offset;
	found = record_guess(at, segment.len - offset, commit_load(at) ^ commit_mask(id), &lengths);
	if (found == JOURNAL_FOUND_NOTHING || !record_is_whole(at, id, lengths))
		return JOURNAL_FOUND_NOTHING;
	record_header(at, lengths, out);
	*out_size = journal_record_bytes(lengths.properties, lengths.payload);
	return found;
}

/* The record at @at, which may take that much budget; what it takes for nothing is taken off. */
static bool record_try(const uint8_t *at, uint64_t left, uint64_t id, uint32_t mask, uint64_t *budget,
		       struct record_lengths *out)
{
	uint32_t word = commit_load(at);
	uint64_t size;

	if (word == JOURNAL_COMMIT_RESERVED ||
	    record_guess(at, left, word ^ mask, out) == JOURNAL_FOUND_NOTHING)
		return false;
	size = journal_record_bytes(out->properties, out->payload);
	if (size > *budget)
		return false;
	if (record_is_whole(at, id, *out))
		return true;
	*budget -= size;
	return false;
}

uint64_t journal_record_next(struct bytes segment, uint64_t id, uint64_t offset, uint64_t *budget,
			     struct journal_header *out, uint64_t *out_size)
{
	uint32_t mask = commit_mask(id);

	if (offset < JOURNAL_HEADER_BYTES)
		offset = JOURNAL_HEADER_BYTES;
	if (offset > segment.len)
		return segment.len;
	offset = (offset + JOURNAL_ALIGNMENT - 1) & ~(uint64_t)(JOURNAL_ALIGNMENT - 1);
	for (; offset + JOURNAL_RECORD_HEADER_BYTES <= segment.len; offset += JOURNAL_ALIGNMENT) {
		const uint8_t *at = segment.data + offset;
		struct record_lengths lengths;

		if (record_try(at, segment.len - offset, id, mask, budget, &lengths)) {
			record_header(at, lengths, out);
			*out_size = journal_record_bytes(lengths.properties, lengths.payload);
			return offset;
		}
		*budget += JOURNAL_CRC_PER_BYTE * JOURNAL_ALIGNMENT;
	}
	return segment.len;
}

uint64_t journal_record_find(struct bytes segment, uint64_t id, uint64_t offset)
{
	struct journal_header header;
	uint64_t budget = segment.len, size;

	return journal_record_next(segment, id, offset, &budget, &header, &size);
}
