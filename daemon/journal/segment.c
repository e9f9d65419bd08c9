/* SPDX-License-Identifier: MIT */
/*
 * Segments as files.
 *
 * A new one gets all its space from fallocate(2) (or zeros where a file system has no such thing), so that a page
 * fault finds room on a full disk. The header is written with pwrite(2), which reports an error that a mapping could only
 * report as a signal. Then the file is mapped, shared, and everything goes through the mapping.
 *
 * Invariants: map and fd are there exactly while n_users > 0. The missing end of a file that was cut is covered with
 * zeros before anybody sees the mapping; it is never made longer, because its size is only what its header says.
 *
 * What is left behind by a crash of the machine: a file that segment_new() made and nobody synced may be missing, empty
 * or without its header. The owner syncs file and directory before it calls anything in it stored, so such a file
 * never held a promise (-ENODATA). One with zeros for a header and something behind it may have held some, and is damaged
 * (-EBADMSG). After kill -9 all that was written is there.
 *
 * No advice is given about the mapping. Populating it ahead does not help: the file system has to hear of the first
 * write to each page after each sync, so the fault comes anyway (one or two microseconds for a page of records); and
 * it would count as memory in use. Reading from end to end is as fast as the disk without any.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "journal/segment.h"
#include "journal/zeros.h"

/* Random numbers that are taken are met by chance once in the life of the universe; more often means that the
 * directory lies. */
#define NEW_ATTEMPTS 4

const uint8_t segment_zeros[SEGMENT_ZEROS_BYTES];

void segment_name(uint64_t id, char out[static JOURNAL_SEGMENT_NAME_SIZE])
{
	snprintf(out, JOURNAL_SEGMENT_NAME_SIZE, "%016" PRIx64 ".segment", id);
}

int segment_disk_error(int error)
{
	return error == -EFBIG || error == -EDQUOT ? -ENOSPC : error;
}

static bool size_is_valid(uint64_t size)
{
	return size >= JOURNAL_SEGMENT_BYTES_MIN && size <= JOURNAL_SEGMENT_BYTES_MAX &&
	       (size & (size - 1)) == 0;
}

int segment_random_id(uint64_t *id)
{
	do {
		ssize_t n = getrandom(id, sizeof(*id), 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n != (ssize_t)sizeof(*id))
			*id = 0;
	} while (*id == 0);
	return 0;
}

struct journal_segment *segment_of(struct journal_dir *dir, const struct journal_identity *identity)
{
	struct journal_segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return NULL;
	list_init(&segment->link);
	list_init(&segment->unsynced);
	list_init(&segment->synced);
	segment->dir = dir;
	segment->identity = *identity;
	segment->fd = -1;
	segment_name(identity->id, segment->name);
	return segment;
}

/* --- files ------------------------------------------------------------------------------------ */

/* Returns 0 or the error; what was written stays. */
static int write_at(int fd, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? segment_disk_error(-errno) : -EIO;
		at += n;
		len -= (size_t)n;
		offset += (size_t)n;
	}
	return 0;
}

static int write_zeros(int fd, uint64_t size)
{
	int r = 0;

	for (uint64_t at = 0; at < size && !r; at += segment_fill_len(at, size))
		r = write_at(fd, segment_zeros, segment_fill_len(at, size), at);
	return r;
}

/* Returns 0, -EOPNOTSUPP, or the error. */
static int allocate(int fd, uint64_t size)
{
	int r;

	do
		r = fallocate(fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
	while (r == -EINTR);
	return segment_disk_error(r == -ENOSYS ? -EOPNOTSUPP : r);
}

static int open_for_writing(const struct journal_segment *segment)
{
	return openat(segment->dir->fd, segment->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* The file, for writing if that is possible. Returns the descriptor or the error. */
static int open_file(const struct journal_segment *segment, bool *is_private)
{
	int fd = open_for_writing(segment);

	*is_private = fd < 0 && (errno == EROFS || errno == EACCES || errno == EPERM);
	if (*is_private)
		fd = openat(segment->dir->fd, segment->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* --- headers ---------------------------------------------------------------------------------- */

/* Nothing is done, from the first record on. */
static struct journal_state first_state(const struct journal_identity *identity)
{
	return (struct journal_state){.done_index = identity->first_index,
				      .done_offset = JOURNAL_HEADER_BYTES,
				      .stored_offset = JOURNAL_HEADER_BYTES};
}

/* Nothing of an earlier use stays. */
static void segment_reset(struct journal_segment *segment)
{
	segment->state = first_state(&segment->identity);
	segment->state.generation = 1;
	segment->is_failed = false;
	segment->head = JOURNAL_HEADER_BYTES;
	segment->next_index = segment->identity.first_index;
	segment->last_sequence = 0;
	segment->recovered_head = 0;
	segment->n_records = 0;
	segment->n_bytes = 0;
	segment->is_dirty = false;
	segment->sync_head = 0;
	segment->owner = NULL;
}

static void put_identity(const struct journal_identity *identity, uint8_t *header)
{
	journal_identity_put(identity, header + JOURNAL_IDENTITY_AT);
	journal_identity_put(identity, header + JOURNAL_IDENTITY_COPY_AT);
}

void segment_begin(struct journal_segment *segment, const struct journal_identity *identity)
{
	assert(segment->map && identity->id == segment->identity.id);
	assert(identity->size == segment->identity.size);
	segment->identity = *identity;
	segment_reset(segment);
	/* A state of an earlier use has another id in its checksum, and goes all the same. */
	memset(segment->map + JOURNAL_STATE_AT(0), 0, 2 * JOURNAL_STATE_BYTES);
	journal_state_put(&segment->state, identity->id, segment->map);
	put_identity(identity, segment->map);
}

/* --- mapping ---------------------------------------------------------------------------------- */

static uint64_t page_round_up(uint64_t n)
{
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);

	return (n + page_bytes - 1) / page_bytes * page_bytes;
}

/* As far as there is more than zeros: the last page of a file is whole in memory. */
static void set_file_bytes(struct journal_segment *segment, const struct stat *st)
{
	uint64_t n = page_round_up((uint64_t)st->st_size);

	segment->file_bytes = n < segment->identity.size ? n : segment->identity.size;
}

/* Pages behind the end of a file that was cut are zeros. */
static int cover_missing(uint8_t *map, uint64_t from, uint64_t size)
{
	if (from < size && mmap(map + from, (size_t)(size - from), PROT_READ | PROT_WRITE,
				MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

/* Returns 0, or -EMFILE: there is a guard, and it has no place left. */
static int guard_map(struct journal_segment *segment, uint8_t *map)
{
	struct journal_guard *guard = segment->dir->guard;

	segment->range = journal_guard_add(guard, map, (size_t)segment->identity.size);
	return guard && !segment->range ? -EMFILE : 0;
}

/* Maps the file open as @fd, which is the segment's when this returns 0. */
static int map_file(struct journal_segment *segment, int fd, bool is_private)
{
	uint64_t size = segment->identity.size;
	struct stat st;
	uint8_t *map;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	map = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, is_private ? MAP_PRIVATE : MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	set_file_bytes(segment, &st);
	r = cover_missing(map, segment->file_bytes, size);
	if (!r)
		r = guard_map(segment, map);
	if (r) {
		munmap(map, (size_t)size);
		return r;
	}
	segment->map = map;
	segment->fd = fd;
	segment->is_private = is_private || (uint64_t)st.st_size < size;
	return 0;
}

static void segment_release(struct journal_segment *segment)
{
	assert(loop_op_is_idle(&segment->sync));
	journal_guard_remove(segment->range);
	if (segment->map)
		munmap(segment->map, (size_t)segment->identity.size);
	if (segment->fd >= 0)
		close(segment->fd);
	segment->range = NULL;
	segment->map = NULL;
	segment->fd = -1;
	segment->is_torn = false;
}

int segment_map(struct journal_segment *segment)
{
	bool is_private;
	int fd, r;

	if (segment->n_users > 0) {
		++segment->n_users;
		return 0;
	}
	fd = open_file(segment, &is_private);
	if (fd < 0)
		return fd;
	r = map_file(segment, fd, is_private);
	if (r)
		close(fd);
	else
		segment->n_users = 1;
	return r;
}

void segment_unmap(struct journal_segment *segment)
{
	assert(segment->n_users > 0);
	if (--segment->n_users == 0)
		segment_release(segment);
}

bool segment_was_hit(struct journal_segment *segment)
{
	bool hit = journal_guard_take_hit(segment->range);

	segment->is_torn |= hit;
	return hit;
}

uint64_t segment_hit_end(const struct journal_segment *segment)
{
	uintptr_t end = journal_guard_hit_end(segment->range);

	return end ? end - (uintptr_t)segment->map : 0;
}

bool segment_disk_reads(const struct journal_dir *dir, const char *name)
{
	_Alignas(JOURNAL_HEADER_BYTES) uint8_t bytes[JOURNAL_HEADER_BYTES];
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	_cleanup_(close_fd) int fd = openat(dir->fd, name, flags | O_DIRECT);

	if (fd < 0 && errno == EINVAL)
		fd = openat(dir->fd, name, flags);
	return fd >= 0 && pread(fd, bytes, sizeof(bytes), 0) > 0;
}

/* --- life ------------------------------------------------------------------------------------- */

/* Finds a name that is free. Returns the descriptor, or the error. */
static int create_file(struct journal_segment *segment)
{
	int fd = -1, r = -EEXIST;

	for (int i = 0; i < NEW_ATTEMPTS && r == -EEXIST; ++i) {
		r = segment_random_id(&segment->identity.id);
		if (r)
			return r;
		segment_name(segment->identity.id, segment->name);
		fd = openat(segment->dir->fd, segment->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = fd < 0 ? segment_disk_error(-errno) : 0;
	}
	return r ? r : fd;
}

static int fill_file(struct journal_segment *segment, int fd)
{
	uint8_t header[JOURNAL_HEADER_BYTES] = {0};
	int r = allocate(fd, segment->identity.size);

	if (r == -EOPNOTSUPP)
		r = write_zeros(fd, segment->identity.size);
	if (r)
		return r;
	segment_reset(segment);
	put_identity(&segment->identity, header);
	journal_state_put(&segment->state, segment->identity.id, header);
	return write_at(fd, header, sizeof(header), 0);
}

int segment_new(struct journal_segment **out, struct journal_dir *dir, struct journal_identity *identity)
{
	struct journal_segment *segment;
	int fd, r;

	assert(size_is_valid(identity->size));
	segment = segment_of(dir, identity);
	if (!segment)
		return -ENOMEM;
	fd = create_file(segment);
	if (fd < 0) {
		free(segment);
		return fd;
	}
	r = fill_file(segment, fd);
	if (!r)
		r = map_file(segment, fd, false);
	if (r) {
		unlinkat(dir->fd, segment->name, 0);
		close(fd);
		free(segment);
		return r;
	}
	segment->n_users = 1;
	identity->id = segment->identity.id;
	dir->is_dirty = true;
	*out = segment;
	return 0;
}

void segment_free(struct journal_segment *segment)
{
	if (!segment)
		return;
	segment_release(segment);
	list_remove(&segment->link);
	free(segment);
}

void segment_free_tail(const struct journal_segment *segment)
{
	uint64_t from = page_round_up(segment->head);

	/* Read as zeros afterwards, which are no record. When it fails, the space is free when the segment is. */
	if (segment->n_users > 0 && !segment->is_private && from < segment->identity.size)
		(void)fallocate(segment->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
				(off_t)(segment->identity.size - from));
}

void segment_delete(struct journal_segment *segment)
{
	if (!segment)
		return;
	/* What cannot be deleted is found again at the next start. */
	unlinkat(segment->dir->fd, segment->name, 0);
	segment_free(segment);
}

/* --- opening what is there -------------------------------------------------------------------- */

/* Returns how much of the header there is, or the error. */
static int read_header(int fd, uint8_t header[static JOURNAL_HEADER_BYTES])
{
	size_t have = 0;

	while (have < JOURNAL_HEADER_BYTES) {
		ssize_t n = pread(fd, header + have, JOURNAL_HEADER_BYTES - have, (off_t)have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (int)have;
}

/* A file that begins with zeros. Returns -ENODATA, -EBADMSG as segment_open(), or the error of reading it. */
static int look_behind_zeros(int fd)
{
	int r = zeros_is_file(fd);

	if (r < 0)
		return r;
	return r > 0 ? -ENODATA : -EBADMSG;
}

/* Whether the header is one of the file with that name; -EBADMSG, -ENOTSUP as segment_open(). */
static int read_identity(const uint8_t header[static JOURNAL_HEADER_BYTES], const char *name,
			 struct journal_identity *identity)
{
	char expected[JOURNAL_SEGMENT_NAME_SIZE];
	int r;

	r = journal_identity_get(header, identity);
	if (r)
		return r;
	if (!size_is_valid(identity->size) || identity->first_index >= INT64_MAX)
		return -EBADMSG;
	segment_name(identity->id, expected);
	return strcmp(name, expected) == 0 || identity->kind == JOURNAL_KIND_SPARE ? 0 : -EBADMSG;
}

static bool offset_is_valid(const struct journal_segment *segment, uint64_t offset)
{
	return offset >= JOURNAL_HEADER_BYTES && offset <= segment->identity.size &&
	       offset % JOURNAL_ALIGNMENT == 0;
}

/* Whether so many records fit before the offset. */
static bool index_is_valid(const struct journal_segment *segment, uint64_t index, uint64_t offset)
{
	uint64_t first = segment->identity.first_index;

	return index >= first &&
	       index - first <= (offset - JOURNAL_HEADER_BYTES) / JOURNAL_RECORD_HEADER_BYTES;
}

/* The end of a file that was cut is where the file ends; its index says how many there were. */
static bool end_is_valid(const struct journal_segment *segment)
{
	const struct journal_state *state = &segment->state;

	return offset_is_valid(segment, state->end_offset) && state->done_offset <= state->end_offset &&
	       state->done_index <= state->end_index &&
	       index_is_valid(segment, state->end_index, segment->identity.size);
}

/* A checksum says that somebody wrote it, not that it makes sense. */
static bool state_is_valid(const struct journal_segment *segment)
{
	const struct journal_state *state = &segment->state;

	return state->generation != 0 && state->last_sequence < INT64_MAX &&
	       index_is_valid(segment, state->done_index, segment->identity.size) &&
	       offset_is_valid(segment, state->done_offset) &&
	       offset_is_valid(segment, state->stored_offset) &&
	       (state->end_offset == 0 || end_is_valid(segment));
}

static void offset_cut(const struct journal_segment *segment, uint64_t *offset)
{
	uint64_t end =
		segment->file_bytes > JOURNAL_HEADER_BYTES ? segment->file_bytes : JOURNAL_HEADER_BYTES;

	if (*offset > end)
		*offset = end;
}

static void segment_take_state(struct journal_segment *segment,
			       const uint8_t header[static JOURNAL_HEADER_BYTES])
{
	struct journal_state *state = &segment->state;

	journal_state_get(header, segment->identity.id, state);
	if (!state_is_valid(segment)) {
		uint64_t generation = state->generation;

		*state = first_state(&segment->identity);
		state->generation = generation;
	}
	offset_cut(segment, &state->done_offset);
	offset_cut(segment, &state->stored_offset);
	offset_cut(segment, &state->end_offset);
	if (state->end_offset) {
		segment->head = state->end_offset;
		segment->next_index = state->end_index;
		segment->last_sequence = state->last_sequence;
	}
}

/* The header of the regular file with that name, zeros where there is nothing. Returns 0 or the error, -EBADMSG for anything but a
 * file; for a header of zeros as look_behind_zeros(). */
static int load_header(const struct journal_segment *probe, uint8_t header[static JOURNAL_HEADER_BYTES],
		       bool *is_private, struct stat *st)
{
	_cleanup_(close_fd) int fd = open_file(probe, is_private);
	int r;

	memset(header, 0, JOURNAL_HEADER_BYTES);
	if (fd < 0)
		return fd == -ELOOP || fd == -EISDIR || fd == -ENXIO ? -EBADMSG : fd;
	if (fstat(fd, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return -EBADMSG;
	r = read_header(fd, header);
	if (r < 0)
		return r;
	return zeros_are(header, JOURNAL_HEADER_BYTES) ? look_behind_zeros(fd) : 0;
}

int segment_open(struct journal_segment **out, struct journal_dir *dir, const char *name)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	struct journal_segment *segment;
	struct stat st;
	int r;

	if (strlen(name) >= JOURNAL_SEGMENT_NAME_SIZE)
		return -EBADMSG;
	segment = segment_of(dir, &(struct journal_identity){.id = 0});
	if (!segment)
		return -ENOMEM;
	strcpy(segment->name, name);
	r = load_header(segment, header, &segment->is_private, &st);
	if (!r)
		r = read_identity(header, name, &segment->identity);
	if (r) {
		free(segment);
		return r;
	}
	set_file_bytes(segment, &st);
	segment_take_state(segment, header);
	*out = segment;
	return 0;
}

/* --- state ------------------------------------------------------------------------------------ */

static int write_state_to_file(struct journal_segment *segment, const struct journal_state *state)
{
	_cleanup_(close_fd) int fd = open_for_writing(segment);
	size_t at = JOURNAL_STATE_AT(state->generation % 2);
	uint8_t header[JOURNAL_HEADER_BYTES];

	if (fd < 0)
		return -errno;
	journal_state_put(state, segment->identity.id, header);
	return write_at(fd, header + at, JOURNAL_STATE_BYTES, at);
}

/* Whether the file may not have what is in the mapping. The hit is not taken: who appends has to hear of it as well. */
static bool is_torn(const struct journal_segment *segment)
{
	return segment->is_torn ||
	       (segment->range && __atomic_load_n(&segment->range->hit, __ATOMIC_ACQUIRE));
}

int segment_write_state(struct journal_segment *segment)
{
	struct journal_state state = segment->state;
	int r = 0;

	++state.generation;
	if (segment->map)
		journal_state_put(&state, segment->identity.id, segment->map);
	if (!segment->map || segment->is_private || is_torn(segment))
		r = write_state_to_file(segment, &state);
	/* The next attempt goes to the same slot: the other one is whole. */
	if (!r)
		segment->state.generation = state.generation;
	return r;
}
