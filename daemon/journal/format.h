/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_FORMAT_H
#define JOURNAL_FORMAT_H

/*
 * What a journal's segment is on the disk, byte by byte. Pure: bytes in, bytes out.
 *
 * A segment is one file, `ID.segment` with ID in 16 hexadecimal digits, of a fixed size: a power of two from
 * 64 KiB to 4 GiB. All numbers are little-endian.
 *
 *        0  identity   256 bytes, written before the first record and never changed
 *      512  state 0    512 bytes ┐ written in turn; the valid one with the larger generation counts, so that
 *     1024  state 1    512 bytes ┘ one is whole at any moment
 *     2048  identity   the same again
 *     4096  records    each at a multiple of 8, up to the end of the file
 *
 * Identity. Valid when its magic, version and CRC hold and what is in it is within the ranges below; the second copy
 * counts when the first is not. Later versions keep the first 16 bytes: where magic and CRC hold, but the version is
 * larger, the file is another program's, and left alone.
 *
 *        0  8   magic "IOTHUBJ1"
 *        8  u32 version, 1
 *       12  u32 CRC-32C of bytes 16 to 255
 *       16  u64 id: random, another one each time the file is used again
 *       24  u64 size of the file in bytes
 *       32  u64 when it was made, milliseconds since 1970
 *       40  u64 index of the first record
 *       48  u8  kind: 0 spare, 1 queue, 2 rejected
 *       49  u8  priority, 0 … 9
 *       50  u16 number of the channel
 *       52  u32 ttl in seconds, 0 = for ever
 *       56  u8  length of the channel's name, 0 … 64
 *       57  64  the name, zeros behind it; zeros up to 255
 *
 * State: what changes while records go out. Valid when its CRC holds and its generation is not 0 and less than
 * 2^63 - 1. When neither is valid, nothing of the segment is known to be done: it is delivered once more.
 *
 *        0  u64 generation, from 1 on
 *        8  u64 index of the first record that is not done with
 *       16  u64 its offset in the file, at most where the next record would be
 *       24  u64 records before this offset are stored
 *       32  u64 end: 0 while records may be added; then the offset behind the last one
 *       40  u64 index behind the last record, valid with end
 *       48  u64 sequence of the last record when the state was written; 0 = there is none
 *       56  128 bit i (of byte i / 8, from the lowest): the record `first not done + i` is done with too
 *      184  zeros up to 507
 *      508  u32 CRC-32C of bytes 0 to 507, started with the 8 bytes of the id
 *
 * Record.
 *
 *        0  u32 commit: JOURNAL_COMMIT_RESERVED; or _PUBLISHED or _WITHDRAWN, each XOR the mask of the segment's id
 *        4  u32 CRC-32C of bytes 8 to the end of the payload, started with the 8 bytes of the segment's id
 *        8  u32 length of the properties
 *       12  u32 length of the payload
 *       16  u64 sequence: counts the records of the whole journal; rises within a segment and a lane, with gaps
 *       24  u64 index: counts the records of the lane, without gaps
 *       32  u64 when it was appended, milliseconds since 1970
 *       40  u32 ttl in seconds, 0 = for ever
 *       44  u16 number of the channel
 *       46  u8  priority
 *       47  u8  0
 *       48  u64 origin: who wrote it, means something to the daemon that appended it only
 *       56      properties (of the PUBLISH, encoded), payload, then 0 to 7 zeros
 *
 * A record is good when its lengths stay within the file, its priority and byte 47 are in range, its CRC holds and its
 * commit word is published. The id in the CRC makes bytes of the file's last use, and of a payload, no records. Bytes
 * behind the payload are not looked at.
 *
 * The commit word is outside of the CRC because it changes. With up to JOURNAL_COMMIT_FLIPS wrong bits it still counts
 * as what it was; with more it is no commit word, and the record is lost. The mask is the upper half of the lower 64 bits
 * of id times 0x9e3779b97f4a7c15, or the complement of that when it would leave at most JOURNAL_COMMIT_FLIPS bits set in
 * one of the two words: zeros are neither. It is for speed: who looks for the next record behind damage computes a CRC
 * only where there is a commit word, and who wrote the payload that is searched does not know the id, so cannot make
 * it look like many long records. By chance one place in 390,000 passes: in a segment of 64 MiB that is on average at
 * most 21 bytes of CRC for each byte searched, whatever its content.
 *
 * Appending, by any number of threads: reserve (move the end of what is reserved), fill, publish (CRC, then the
 * commit word, last). A crash leaves at worst places that were reserved and not published: a hole. Reading goes on
 * behind whatever is no record at the next multiple of 8 where there is a good one. Holes between good records are
 * damage when the index says that records are missing and they lie before the stored offset; what comes after it
 * was promised to nobody.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define JOURNAL_HEADER_BYTES        4096
#define JOURNAL_IDENTITY_BYTES      256
#define JOURNAL_IDENTITY_AT         0
#define JOURNAL_IDENTITY_COPY_AT    2048
#define JOURNAL_STATE_BYTES         512
#define JOURNAL_STATE_AT(i)         (512 + (size_t)(i)*512)
#define JOURNAL_RECORD_HEADER_BYTES 56
#define JOURNAL_ALIGNMENT           8
#define JOURNAL_SEGMENT_BYTES_MIN   (UINT64_C(64) << 10)
#define JOURNAL_SEGMENT_BYTES_MAX   (UINT64_C(4) << 30)
#define JOURNAL_CHANNEL_NAME_MAX    64
/* Records that can be done with before one that is not. */
#define JOURNAL_WINDOW           1024

#define JOURNAL_COMMIT_RESERVED  0x00000000u
#define JOURNAL_COMMIT_PUBLISHED 0x5ac3e71bu
#define JOURNAL_COMMIT_WITHDRAWN 0xa5671cd4u
#define JOURNAL_COMMIT_FLIPS     3

enum journal_kind {
	JOURNAL_KIND_SPARE,
	JOURNAL_KIND_QUEUE,
	JOURNAL_KIND_REJECTED,
	JOURNAL_N_KINDS,
};

struct journal_identity {
	uint64_t id;
	uint64_t size;
	uint64_t made_ms;
	uint64_t first_index;
	enum journal_kind kind;
	uint8_t priority;
	uint16_t channel;
	uint32_t ttl_s;
	char channel_name[JOURNAL_CHANNEL_NAME_MAX + 1];
};

struct journal_state {
	uint64_t generation; /* 0 = there is no valid one */
	uint64_t done_index;
	uint64_t done_offset;
	uint64_t stored_offset;
	uint64_t end_offset;
	uint64_t end_index;
	uint64_t last_sequence;
	uint8_t done[JOURNAL_WINDOW / 8];
};

/* A record as it lies in a segment; bytes are borrowed from there. */
struct journal_header {
	uint32_t properties_len;
	uint32_t payload_len;
	uint64_t sequence;
	uint64_t index;
	uint64_t time_ms;
	uint32_t ttl_s;
	uint16_t channel;
	uint8_t priority;
	uint64_t origin;
};

/* Bytes of a record in the file. */
static inline uint64_t journal_record_bytes(uint64_t properties_len, uint64_t payload_len)
{
	return (JOURNAL_RECORD_HEADER_BYTES + properties_len + payload_len + JOURNAL_ALIGNMENT - 1) &
	       ~(uint64_t)(JOURNAL_ALIGNMENT - 1);
}

void journal_identity_put(const struct journal_identity *identity,
			  uint8_t out[static JOURNAL_IDENTITY_BYTES]);
/* Reads the first copy that is valid from the first JOURNAL_HEADER_BYTES of a file. Returns 0;
 * -EBADMSG: neither is; or -ENOTSUP: it is of a later version. */
int journal_identity_get(const uint8_t header[static JOURNAL_HEADER_BYTES], struct journal_identity *out);

/* Writes @state to the slot of its generation (even: 0, odd: 1). */
void journal_state_put(const struct journal_state *state, uint64_t id,
		       uint8_t header[static JOURNAL_HEADER_BYTES]);
/* The newest valid one. When there is none @out is all zeros. */
void journal_state_get(const uint8_t header[static JOURNAL_HEADER_BYTES], uint64_t id,
		       struct journal_state *out);

/* Fills the header of a record but for its CRC and commit word, which become 0 and RESERVED, and the zeros behind the
 * payload. Properties and payload are for the caller to fill in. @at: a multiple of 8 in memory too. */
void journal_record_reserve(uint8_t *at, const struct journal_header *header);
/* Everything is filled in: CRC, then (release) the commit word. */
void journal_record_publish(uint8_t *at, uint64_t id);
/* In place; a record that is published (a second call would undo the first). */
void journal_record_withdraw(uint8_t *at);

enum journal_found {
	JOURNAL_FOUND_RECORD,    /* good */
	JOURNAL_FOUND_WITHDRAWN, /* the CRC holds, but nobody wants it */
	JOURNAL_FOUND_NOTHING,   /* neither */
};

/* What is at @offset of a segment with the id, which lies at a multiple of 8 in memory; NOTHING for an offset that is none.
 * @out is valid unless NOTHING; *@out_size: bytes it takes in the file. Reads nothing outside of @segment, whatever is in it or
 * is written into it meanwhile. */
enum journal_found journal_record_at(struct bytes segment, uint64_t id, uint64_t offset,
				     struct journal_header *out, uint64_t *out_size);

/* The first place at or behind @offset with a RECORD or WITHDRAWN; segment.len when there is none. Takes time in proportion to
 * what it passes, see above. */
uint64_t journal_record_find(struct bytes segment, uint64_t id, uint64_t offset);

/*
 * The same, for who looks at one record after the other: @out and @out_size are of what is there. *@budget: the bytes
 * of CRC that may still be computed for nothing, segment.len at first; it grows with what is passed. Only who knows the id can
 * use it up, with what looks like many long records: then those that are longer are no records.
 */
uint64_t journal_record_next(struct bytes segment, uint64_t id, uint64_t offset, uint64_t *budget,
			     struct journal_header *out, uint64_t *out_size);

#endif
