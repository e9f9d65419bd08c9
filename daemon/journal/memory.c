/* SPDX-License-Identifier: MIT */
/*
 * The journal in memory, see journal.h: a ring of bytes that is mapped twice, one copy behind the other, so
 * that a record which wraps around is contiguous all the same.
 *
 * A record, at an offset that is a multiple of 8 (offsets count bytes ever appended; the place is the offset
 * modulo the ring's size):
 *
 *     0  u32  length of the properties
 *     4  u32  length of the payload
 *     8  u64  sequence
 *    16  u64  origin
 *    24       properties, payload, 0 to 7 bytes of padding
 *
 * In host byte order: it never leaves the process. Invariant: head - tail + held <= max_bytes <= ring size.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "journal/journal.h"

struct record_header {
	uint32_t properties_len;
	uint32_t payload_len;
	uint64_t sequence;
	uint64_t origin;
};

struct journal {
	uint8_t *ring;
	uint64_t ring_size; /* a multiple of the page size */
	uint64_t max_bytes;
	uint64_t head; /* offset of the next record */
	uint64_t tail; /* offset of the record after acked */
	uint64_t held;
	uint64_t pending; /* size of the record between append and commit, 0 = none */
	uint64_t acked;
	uint64_t sent;
	uint64_t appended;
};

static uint64_t record_size(uint64_t data_len)
{
	return (sizeof(struct record_header) + data_len + 7) & ~UINT64_C(7);
}

static struct record_header *record_at(const struct journal *j, uint64_t offset)
{
	return (struct record_header *)(void *)(j->ring + offset % j->ring_size);
}

static int journal_map(struct journal *j)
{
	_cleanup_(close_fd) int fd = -1;
	uint8_t *base;

	fd = memfd_create("iothub-journal", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)j->ring_size) < 0)
		return -errno;
	base = mmap(NULL, 2 * j->ring_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	j->ring = base;
	for (int i = 0; i < 2; ++i)
		if (mmap(base + (size_t)i * j->ring_size, j->ring_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
			return -errno;
	return 0;
}

int journal_new(struct journal **out, uint64_t max_bytes)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct journal *j;
	int r;

	static_assert(sizeof(struct record_header) + 7 <= JOURNAL_RECORD_OVERHEAD,
		      "overhead is an upper bound");
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->max_bytes = max_bytes;
	j->ring_size = (max_bytes + page - 1) / page * page;
	r = journal_map(j);
	if (r) {
		journal_free(j);
		return r;
	}
	*out = j;
	return 0;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	if (j->ring)
		munmap(j->ring, 2 * j->ring_size);
	free(j);
}

uint64_t journal_n_bytes(const struct journal *j)
{
	return j->head - j->tail + j->held;
}

uint64_t journal_max_bytes(const struct journal *j)
{
	return j->max_bytes;
}

bool journal_has_room(const struct journal *j, uint64_t n_records, uint64_t n_bytes)
{
	uint64_t left = j->max_bytes - journal_n_bytes(j);

	return n_bytes <= left && n_records <= (left - n_bytes) / JOURNAL_RECORD_OVERHEAD;
}

int journal_hold(struct journal *j, uint64_t n_bytes)
{
	if (n_bytes > j->max_bytes - journal_n_bytes(j))
		return -ENOSPC;
	j->held += n_bytes;
	return 0;
}

void journal_unhold(struct journal *j, uint64_t n_bytes)
{
	assert(n_bytes <= j->held);
	j->held -= n_bytes;
}

int journal_append(struct journal *j, uint64_t origin, size_t properties_len, size_t payload_len,
		   uint8_t **properties, uint8_t **payload)
{
	uint64_t size = record_size((uint64_t)properties_len + payload_len);
	struct record_header *header;

	assert(!j->pending);
	if (properties_len > UINT32_MAX || payload_len > UINT32_MAX ||
	    size > j->max_bytes - journal_n_bytes(j))
		return -ENOSPC;
	header = record_at(j, j->head);
	*header = (struct record_header){
		.properties_len = (uint32_t)properties_len,
		.payload_len = (uint32_t)payload_len,
		.sequence = j->appended + 1,
		.origin = origin,
	};
	*properties = (uint8_t *)(header + 1);
	*payload = *properties + properties_len;
	j->pending = size;
	return 0;
}

uint64_t journal_commit(struct journal *j)
{
	assert(j->pending);
	j->head += j->pending;
	j->pending = 0;
	return ++j->appended;
}

uint64_t journal_trimmed(const struct journal *j)
{
	return j->acked;
}

uint64_t journal_acked(const struct journal *j)
{
	return j->acked;
}

uint64_t journal_sent(const struct journal *j)
{
	return j->sent;
}

uint64_t journal_stored(const struct journal *j)
{
	return j->acked;
}

uint64_t journal_appended(const struct journal *j)
{
	return j->appended;
}

struct journal_cursor journal_first(const struct journal *j)
{
	return (struct journal_cursor){.sequence = j->acked + 1, .offset = j->tail};
}

void journal_read(const struct journal *j, struct journal_cursor at, struct journal_record *out)
{
	const struct record_header *header = record_at(j, at.offset);
	const uint8_t *data = (const uint8_t *)(header + 1);

	assert(at.sequence > j->acked && at.sequence <= j->appended && header->sequence == at.sequence);
	*out = (struct journal_record){
		.sequence = header->sequence,
		.origin = header->origin,
		.properties = BYTES(data, header->properties_len),
		.payload = BYTES(data + header->properties_len, header->payload_len),
	};
}

struct journal_cursor journal_next(const struct journal *j, struct journal_cursor at)
{
	const struct record_header *header = record_at(j, at.offset);

	assert(header->sequence == at.sequence);
	return (struct journal_cursor){
		.sequence = at.sequence + 1,
		.offset = at.offset + record_size((uint64_t)header->properties_len + header->payload_len),
	};
}

void journal_mark_sent(struct journal *j, uint64_t sequence)
{
	if (sequence > j->sent)
		j->sent = sequence;
	assert(j->sent <= j->appended);
}

void journal_mark_acked(struct journal *j, struct journal_cursor at)
{
	assert(at.sequence > j->acked && at.sequence <= j->sent);
	j->tail = journal_next(j, at).offset;
	j->acked = at.sequence;
	assert(j->tail <= j->head);
}
