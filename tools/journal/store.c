/* SPDX-License-Identifier: MIT */
/*
 * Reading a journal's directory, see store.h. Of each segment only the header is read here. A file that goes away
 * in between was done with.
 */

#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "journal/zeros.h"

#define SUFFIX        ".segment"
#define READ_ATTEMPTS 5

DEFINE_CLEANUP(DIR *, closedir)

/* Returns 0 or -ENOMEM; the array grows by doubling. */
static int array_grow(void *array, size_t n, size_t size)
{
	void **p = array, *more;

	if (n & (n - 1))
		return 0;
	more = realloc(*p, (n ? 2 * n : 1) * size);
	if (!more)
		return -ENOMEM;
	*p = more;
	return 0;
}

static int add_bad(struct store *store, const char *name, const char *why, bool is_damage)
{
	char *copy = strdup(name);

	if (!copy || array_grow(&store->bad, store->n_bad, sizeof(*store->bad))) {
		free(copy);
		return -ENOMEM;
	}
	store->bad[store->n_bad++] = (struct store_bad){.name = copy, .why = why, .is_damage = is_damage};
	return 0;
}

/* Whether one of the copies cannot be read: alone, in a header with nothing else, it is none. */
static bool has_bad_copy(const uint8_t *header)
{
	_cleanup_(free_ptr) uint8_t *alone = calloc(1, JOURNAL_HEADER_BYTES);
	struct journal_identity identity;
	bool is_bad = false;

	for (int i = 0; alone && i < 2; ++i) {
		memcpy(alone, header + (i ? JOURNAL_IDENTITY_COPY_AT : JOURNAL_IDENTITY_AT),
		       JOURNAL_IDENTITY_BYTES);
		is_bad |= journal_identity_get(alone, &identity) < 0;
	}
	return is_bad;
}

static bool has_bad_state(const uint8_t *header, uint64_t id)
{
	_cleanup_(free_ptr) uint8_t *alone = calloc(1, JOURNAL_HEADER_BYTES);
	struct journal_state state;
	bool is_bad = false;

	for (int i = 0; alone && i < 2; ++i) {
		const uint8_t *at = header + JOURNAL_STATE_AT(i);

		memcpy(alone + JOURNAL_STATE_AT(0), at, JOURNAL_STATE_BYTES);
		journal_state_get(alone, id, &state);
		is_bad |= !state.generation && !zeros_are(at, JOURNAL_STATE_BYTES);
	}
	return is_bad;
}

/* What is wrong with a file that begins like this; NULL: nothing, @out is its segment. */
static const char *segment_read(const char *name, const uint8_t *header, struct store_segment *out)
{
	char want[sizeof(out->name)];
	int r;

	r = journal_identity_get(header, &out->identity);
	if (r)
		return r == -ENOTSUP ? "a newer iothubd wrote it" : "it does not begin as a segment does";
	snprintf(want, sizeof(want), "%016" PRIx64 SUFFIX, out->identity.id);
	if (out->identity.kind != JOURNAL_KIND_SPARE && strcmp(want, name) != 0)
		return "it is another segment than its name says";
	snprintf(out->name, sizeof(out->name), "%s", name);
	out->has_bad_identity = has_bad_copy(header);
	out->has_bad_state = has_bad_state(header, out->identity.id);
	journal_state_get(header, out->identity.id, &out->state);
	return NULL;
}

static int add_segment(struct store *store, const struct store_segment *segment)
{
	store->bytes += segment->file_bytes;
	if (segment->identity.kind == JOURNAL_KIND_SPARE) {
		store->n_spares++;
		return 0;
	}
	if (array_grow(&store->segments, store->n_segments, sizeof(*segment)))
		return -ENOMEM;
	store->segments[store->n_segments++] = *segment;
	return 0;
}

/* Reads the first bytes of a file, zeros behind its end. Returns 0; 1: nothing but zeros is in it; or a negative errno. */
static int header_read(const struct store *store, const char *name,
		       uint8_t header[static JOURNAL_HEADER_BYTES], uint64_t *file_bytes)
{
	_cleanup_(close_fd) int fd = openat(store->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	memset(header, 0, JOURNAL_HEADER_BYTES);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EISDIR;
	*file_bytes = (uint64_t)st.st_size;
	if (pread(fd, header, JOURNAL_HEADER_BYTES, 0) < 0)
		return -errno;
	return zeros_are(header, JOURNAL_HEADER_BYTES) ? zeros_is_file(fd) : 0;
}

static const char *why_not_read(int error)
{
	if (error == -ELOOP)
		return "it is a link";
	return error == -EISDIR ? "it is no file" : strerror(-error);
}

/* Whatever is wrong with the file is noted. Beside a daemon it may just be written, so it gets some more chances.
 * Returns 0 or -ENOMEM. */
static int read_file(struct store *store, const char *name)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	const char *why = NULL;

	for (int i = 0; i < READ_ATTEMPTS; ++i) {
		struct store_segment segment = {.file_bytes = 0};
		int r = header_read(store, name, header, &segment.file_bytes);

		if (r == -ENOENT)
			return 0;
		if (r > 0)
			return add_bad(store, name, "nothing was written into it", false);
		if (r)
			return add_bad(store, name, why_not_read(r), true);
		why = segment_read(name, header, &segment);
		if (!why)
			return add_segment(store, &segment);
	}
	return add_bad(store, name, why, true);
}

static size_t count_aside(const struct store *store)
{
	int fd = openat(store->fd, "damaged", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedir_ptr) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	size_t n = 0;

	if (fd >= 0 && !dir)
		close(fd);
	while (dir && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	return n;
}

static int compare_lanes(const struct journal_identity *a, const struct journal_identity *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->channel != b->channel)
		return a->channel < b->channel ? -1 : 1;
	return a->ttl_s < b->ttl_s ? -1 : a->ttl_s > b->ttl_s;
}

bool store_is_same_lane(const struct store_segment *a, const struct store_segment *b)
{
	return compare_lanes(&a->identity, &b->identity) == 0;
}

static int compare_segments(const void *a, const void *b)
{
	const struct journal_identity *x = &((const struct store_segment *)a)->identity;
	const struct journal_identity *y = &((const struct store_segment *)b)->identity;
	int order = compare_lanes(x, y);

	if (order)
		return order;
	return x->first_index < y->first_index ? -1 : x->first_index > y->first_index;
}

int store_open(struct store *store, const char *path)
{
	_cleanup_(closedir_ptr) DIR *dir = NULL;
	struct dirent *entry;
	int r = 0;

	*store = (struct store){.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	if (store->fd < 0 || !(dir = opendir(path)))
		return -errno;
	while (!r && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);

		store->is_journal |= strcmp(entry->d_name, "lock") == 0;
		if (len < strlen(SUFFIX) || strcmp(entry->d_name + len - strlen(SUFFIX), SUFFIX) != 0)
			continue;
		store->is_journal = true;
		r = read_file(store, entry->d_name);
	}
	if (store->n_segments)
		qsort(store->segments, store->n_segments, sizeof(*store->segments), compare_segments);
	store->n_aside = count_aside(store);
	return r;
}

void store_close(struct store *store)
{
	close_fd(&store->fd);
	free(store->segments);
	for (size_t i = 0; i < store->n_bad; ++i)
		free(store->bad[i].name);
	free(store->bad);
	*store = (struct store){.fd = -1};
}
