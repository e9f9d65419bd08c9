/* SPDX-License-Identifier: MIT */
/*
 * The log file: one line for each record,
 *
 *   crc32 of the record, 8 hexadecimal digits; a space; the record; a newline
 *
 * (CRC-32 as in IEEE 802.3, reflected, 0xedb88320.) A line counts when it is whole and its checksum holds; the
 * first that does not ends the log, and it is cut there, so that what is appended later stands behind records
 * that count.
 *
 * Appending collects lines in memory; a commit writes them with one write(2) and one fdatasync(2), or, after
 * emu_store_rewrite(), as a new file that takes the old one's name. While the old one still has it, an error of
 * the new file costs nothing: the old one holds all of what was committed, and goes on.
 */

#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "file.h"

#define PREFIX_LEN  9
#define PENDING_MAX (1024u * 1024 * 1024)

struct emu_store {
	struct log *log;
	char *path;
	int fd;
	int error; /* sticks */
	bool rewriting;
	struct buf pending;
	uint64_t n_bytes;
	uint32_t crc_table[256];
};

/* --- checksum --------------------------------------------------------------------------------- */

static void crc_init(uint32_t table[static 256])
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ UINT32_C(0xedb88320) : c >> 1;
		table[i] = c;
	}
}

static uint32_t crc(const struct emu_store *s, struct bytes b)
{
	uint32_t c = UINT32_MAX;

	for (size_t i = 0; i < b.len; i++)
		c = s->crc_table[(c ^ b.data[i]) & 0xff] ^ c >> 8;
	return ~c;
}

/* --- replay ----------------------------------------------------------------------------------- */

/* The first line of @rest when it counts: its length with the newline; else 0. */
static size_t line_check(const struct emu_store *s, struct bytes rest, struct bytes *record)
{
	const uint8_t *newline = memchr(rest.data, '\n', rest.len);
	size_t len = newline ? (size_t)(newline - rest.data) : 0;
	char prefix[PREFIX_LEN + 1];

	if (len < PREFIX_LEN)
		return 0;
	*record = BYTES(rest.data + PREFIX_LEN, len - PREFIX_LEN);
	snprintf(prefix, sizeof(prefix), "%08x ", crc(s, *record));
	return memcmp(prefix, rest.data, PREFIX_LEN) == 0 ? len + 1 : 0;
}

static int read_all(int fd, size_t size, uint8_t *dst)
{
	for (size_t n = 0; n < size;) {
		ssize_t r = pread(fd, dst + n, size - n, (off_t)n);

		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		n += (size_t)r;
	}
	return 0;
}

static int replay(struct emu_store *s, emu_store_record_fn fn, void *userdata)
{
	_cleanup_(free_ptr) uint8_t *text = NULL;
	struct bytes rest, record;
	struct stat st;
	size_t n;
	int r;

	if (fstat(s->fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return 0;
	text = malloc((size_t)st.st_size);
	if (!text)
		return -ENOMEM;
	r = read_all(s->fd, (size_t)st.st_size, text);
	rest = BYTES(text, (size_t)st.st_size);
	while (r == 0 && rest.len > 0 && (n = line_check(s, rest, &record)) > 0) {
		r = fn(userdata, record);
		rest = BYTES(rest.data + n, rest.len - n);
	}
	s->n_bytes = (uint64_t)st.st_size - rest.len;
	if (r == 0 && rest.len > 0) {
		log_warning(s->log, "%s: its last %zu bytes were not written in full; dropped", s->path,
			    rest.len);
		r = ftruncate(s->fd, (off_t)s->n_bytes) < 0 || fdatasync(s->fd) < 0 ? -errno : 0;
	}
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

int emu_store_open(struct emu_store **out, const char *path, emu_store_record_fn fn, void *userdata,
		   struct log *log)
{
	struct emu_store *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return -ENOMEM;
	s->log = log;
	s->fd = -1;
	buf_init(&s->pending, PENDING_MAX);
	crc_init(s->crc_table);
	s->path = strdup(path);
	if (s->path) {
		s->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		r = s->fd < 0 ? -errno : replay(s, fn, userdata);
	}
	if (r < 0) {
		log_error(log, "%s: %s", path, strerror(-r));
		emu_store_free(s);
		return r;
	}
	*out = s;
	return 0;
}

void emu_store_free(struct emu_store *s)
{
	if (!s)
		return;
	close_fd(&s->fd);
	buf_deinit(&s->pending);
	free(s->path);
	free(s);
}

/* --- writing ---------------------------------------------------------------------------------- */

void emu_store_append(struct emu_store *s, struct bytes record)
{
	char prefix[PREFIX_LEN + 1];

	snprintf(prefix, sizeof(prefix), "%08x ", crc(s, record));
	if (!s->error)
		s->error = buf_append(&s->pending, BYTES(prefix, PREFIX_LEN));
	if (!s->error)
		s->error = buf_append(&s->pending, record);
	if (!s->error)
		s->error = buf_append(&s->pending, BYTES_LIT("\n"));
}

void emu_store_rewrite(struct emu_store *s)
{
	if (s->error)
		return;
	buf_consume(&s->pending, buf_len(&s->pending));
	s->rewriting = true;
}

uint64_t emu_store_n_bytes(const struct emu_store *s)
{
	return s->n_bytes;
}

static int commit_appended(struct emu_store *s)
{
	struct bytes rest = buf_bytes(&s->pending);

	while (rest.len > 0) {
		ssize_t n = write(s->fd, rest.data, rest.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		rest = BYTES(rest.data + n, rest.len - (size_t)n);
	}
	return fdatasync(s->fd) < 0 ? -errno : 0;
}

static int commit_rewritten(struct emu_store *s)
{
	int r = emu_file_replace(s->path, buf_bytes(&s->pending), true);
	int fd;

	if (r < 0)
		return r;
	fd = open(s->path, O_RDWR | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close_fd(&s->fd);
	s->fd = fd;
	s->n_bytes = 0;
	s->rewriting = false;
	return 0;
}

/* The log's name still stands for the file that is open. */
static bool has_name(const struct emu_store *s)
{
	struct stat named, open;

	return stat(s->path, &named) == 0 && fstat(s->fd, &open) == 0 && named.st_dev == open.st_dev &&
	       named.st_ino == open.st_ino;
}

/* The log could not be written anew: true when it goes on as it is. */
static bool rewrite_undo(struct emu_store *s)
{
	if (!s->rewriting || !has_name(s))
		return false;
	log_warning(s->log, "%s: cannot be written anew: %s; goes on as it is", s->path, strerror(-s->error));
	buf_consume(&s->pending, buf_len(&s->pending));
	s->rewriting = false;
	s->error = 0;
	return true;
}

int emu_store_commit(struct emu_store *s)
{
	size_t n = buf_len(&s->pending);

	if (!s->error && !s->rewriting && n == 0)
		return 0;
	if (!s->error)
		s->error = s->rewriting ? commit_rewritten(s) : commit_appended(s);
	if (s->error && rewrite_undo(s))
		return 0;
	if (s->error) {
		log_error(s->log, "%s: %s", s->path, strerror(-s->error));
		return s->error;
	}
	s->n_bytes += n;
	buf_consume(&s->pending, n);
	return 0;
}
