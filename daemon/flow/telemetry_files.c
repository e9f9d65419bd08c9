/* SPDX-License-Identifier: MIT */
/*
 * Telemetry files, see telemetry_files.h.
 *
 * An open file has its origin in the queue and, between writes, a `partial` message: the rest of a line, or a
 * file so far. While partial is not empty, `held` bytes of the queue are promised to it. `refusing` is set
 * from an EMSGSIZE to the end of that line or file; partial is empty then.
 *
 * Closed files are kept for reuse with their buffer, so that opening, writing and closing, which is what
 * every `echo` does, allocates nothing.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "flow/telemetry_files.h"
#include "hub/contract.h"

/* Files kept for reuse, and the largest buffer kept with one. */
#define SPARE_MAX       256
#define SPARE_BYTES_MAX (16 * 1024)

enum framing {
	FRAMING_LINES,
	FRAMING_RAW,
	FRAMING_FILE,
	N_FRAMINGS,
};

struct telemetry_files {
	struct telemetry *telemetry;
	struct log *log;
	struct fuse_node *nodes[N_FRAMINGS];
	struct list spare;
	unsigned int n_spare;
};

struct tfile {
	struct telemetry_files *owner;
	struct origin *origin;
	struct list link; /* telemetry_files.spare */
	struct buf partial;
	uint64_t held;
	bool refusing;
};

static struct tfile *tfile_of(const struct fuse_file *file)
{
	return file->data;
}

/* --- what is promised to a partial message ---------------------------------------------------- */

static uint64_t tfile_hold_bytes(const struct tfile *f)
{
	return telemetry_payload_max(f->owner->telemetry) + TELEMETRY_MESSAGE_OVERHEAD;
}

/* The largest message this file can make: what the hub takes now and, for one under way, what was promised.
 */
static size_t tfile_payload_max(const struct tfile *f)
{
	size_t max = telemetry_payload_max(f->owner->telemetry);

	return f->held && f->held - TELEMETRY_MESSAGE_OVERHEAD < max ? f->held - TELEMETRY_MESSAGE_OVERHEAD
								     : max;
}

static void tfile_unhold(struct tfile *f)
{
	journal_unhold(telemetry_journal(f->owner->telemetry), f->held);
	f->held = 0;
}

/* Drops the message under way. */
static void tfile_drop_partial(struct tfile *f)
{
	buf_consume(&f->partial, buf_len(&f->partial));
	tfile_unhold(f);
}

static ssize_t tfile_full(struct tfile *f)
{
	telemetry_count_full(f->owner->telemetry);
	return -ENOSPC;
}

/* Appends the partial message, if there is one; the room for it was promised. */
static void tfile_finish(struct tfile *f, uint64_t *sequence)
{
	if (buf_len(&f->partial)) {
		int r;

		tfile_unhold(f);
		r = telemetry_append(f->owner->telemetry, f->origin, buf_bytes(&f->partial), BYTES(NULL, 0),
				     sequence);
		assert(r == 0);
		(void)r;
	}
	tfile_drop_partial(f);
	f->refusing = false;
}

/* --- open, close ------------------------------------------------------------------------------ */

static int telemetry_file_open(struct fuse_file *file)
{
	struct telemetry_files *owner = fuse_node_userdata(file->node);
	struct list *link = list_first(&owner->spare);
	struct tfile *f;
	int r;

	/* Only root gets this far: the mode has no read permission. */
	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return -EACCES;
	if (link) {
		f = container_of(link, struct tfile, link);
	} else {
		f = calloc(1, sizeof(*f));
		if (!f)
			return -ENOMEM;
		f->owner = owner;
		/* The rest of one line and the start of the next can be there at once. */
		buf_init(&f->partial, 2 * HUB_PACKET_BYTES_MAX);
		list_init(&f->link);
	}
	r = origin_open(telemetry_waiters(owner->telemetry), &f->origin);
	if (r) {
		if (!link)
			free(f);
		return r;
	}
	if (link) {
		list_remove(link);
		--owner->n_spare;
	}
	file->data = f;
	return 0;
}

static void telemetry_file_release(struct fuse_file *file)
{
	struct tfile *f = tfile_of(file);
	struct telemetry_files *owner = f->owner;
	uint64_t sequence;

	tfile_finish(f, &sequence);
	origin_close(telemetry_waiters(owner->telemetry), f->origin);
	f->origin = NULL;
	if (f->partial.size > SPARE_BYTES_MAX)
		buf_deinit(&f->partial);
	if (owner->n_spare == SPARE_MAX) {
		buf_deinit(&f->partial);
		free(f);
		return;
	}
	list_append(&owner->spare, &f->link);
	++owner->n_spare;
}

/* --- waiting for the hub ---------------------------------------------------------------------- */

/* With a queue in memory nothing is stored before the hub has it: O_DSYNC waits for the same as O_SYNC. */
static bool write_waits(const struct fuse_file *file)
{
	return file->write_flags & (O_SYNC | O_DSYNC);
}

/* The end of a write that appended @first to @last (none when last < first). */
static ssize_t write_finish(struct fuse_file *file, struct fuse_request *req, uint64_t first, uint64_t last,
			    size_t size)
{
	struct tfile *f = tfile_of(file);

	if (last < first || !write_waits(file))
		return (ssize_t)size;
	waiters_park_write(telemetry_waiters(f->owner->telemetry), f->origin, req, first, last, size);
	return FUSE_PARKED;
}

static int write_prepare(struct fuse_file *file)
{
	return write_waits(file) ? waiters_make_room(telemetry_waiters(tfile_of(file)->owner->telemetry)) : 0;
}

static int telemetry_file_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	struct tfile *f = tfile_of(file);
	struct telemetry *t = f->owner->telemetry;
	uint64_t sequence;

	(void)datasync;
	if (file->node == f->owner->nodes[FRAMING_FILE])
		tfile_finish(f, &sequence);
	if (f->origin->last_sequence <= journal_acked(telemetry_journal(t)))
		return origin_take_error(f->origin);
	return waiters_park_sync(telemetry_waiters(t), f->origin, req);
}

static uint32_t telemetry_file_poll(struct fuse_file *file)
{
	struct tfile *f = tfile_of(file);

	return telemetry_has_room(f->owner->telemetry, 1, tfile_hold_bytes(f)) ? POLLOUT | POLLWRNORM : 0;
}

void telemetry_files_on_room(struct telemetry_files *files)
{
	for (size_t i = 0; i < N_FRAMINGS; ++i)
		fuse_node_poll_wake(files->nodes[i]);
}

/* --- telemetry: lines ------------------------------------------------------------------------- */

/* What a write to a file of lines holds, counted before anything of it is taken. */
struct lines {
	uint64_t n_messages;
	uint64_t n_bytes; /* of their payload, the partial one's start included */
	size_t rest_at;   /* where the unterminated rest starts */
	bool too_long;    /* a message, or the rest, is over the limit */
};

static struct lines lines_scan(struct bytes data, size_t n_partial, size_t max)
{
	struct lines lines = {0};
	const uint8_t *newline;
	size_t len, n_before = n_partial;

	while (lines.rest_at < data.len &&
	       (newline = memchr(data.data + lines.rest_at, '\n', data.len - lines.rest_at))) {
		len = n_before + (size_t)(newline - data.data) - lines.rest_at;
		lines.n_messages += len > 0;
		lines.n_bytes += len;
		lines.too_long |= len > max;
		lines.rest_at = (size_t)(newline - data.data) + 1;
		n_before = 0;
	}
	lines.too_long |= n_before + data.len - lines.rest_at > max;
	return lines;
}

/* Appends the complete lines of @data, the first of them behind the partial message. Room was checked. */
static void lines_append(struct tfile *f, struct bytes data, uint64_t *last)
{
	struct bytes head = buf_bytes(&f->partial);
	const uint8_t *at = data.data, *end = data.data + data.len, *newline;

	for (; at < end && (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1) {
		size_t len = (size_t)(newline - at);

		if (head.len || len) {
			int r = telemetry_append(f->owner->telemetry, f->origin, head, BYTES(at, len), last);

			assert(r == 0);
			(void)r;
		}
		if (head.len)
			buf_consume(&f->partial, head.len);
		head = BYTES(NULL, 0);
	}
}

/* The line is too long: nothing of this write is taken, and nothing more of the line. */
static ssize_t lines_refuse(struct tfile *f, struct bytes data)
{
	tfile_drop_partial(f);
	f->refusing = data.data[data.len - 1] != '\n';
	return -EMSGSIZE;
}

static ssize_t lines_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			   struct bytes data)
{
	struct tfile *f = tfile_of(file);
	struct telemetry *t = f->owner->telemetry;
	uint64_t held = f->held, first = journal_appended(telemetry_journal(t)) + 1, last = 0, need;
	struct lines lines;
	struct bytes rest;
	uint8_t *at;
	int r;

	(void)offset;
	r = write_prepare(file);
	if (r)
		return r;
	lines = lines_scan(data, buf_len(&f->partial), tfile_payload_max(f));
	if (f->refusing || lines.too_long)
		return lines_refuse(f, data);
	rest = BYTES(data.data + lines.rest_at, data.len - lines.rest_at);
	r = rest.len ? buf_reserve(&f->partial, rest.len, &at) : 0;
	if (r)
		return r;
	/* The promise of the partial message is used or renewed. */
	need = rest.len ? held ? held : tfile_hold_bytes(f) : 0;
	tfile_unhold(f);
	if (!telemetry_has_room(t, lines.n_messages, lines.n_bytes + need)) {
		r = journal_hold(telemetry_journal(t), held);
		assert(r == 0);
		f->held = held;
		return tfile_full(f);
	}
	lines_append(f, BYTES(data.data, lines.rest_at), &last);
	r = journal_hold(telemetry_journal(t), need);
	assert(r == 0);
	f->held = need;
	r = buf_append(&f->partial, rest);
	assert(r == 0);
	return write_finish(file, req, first, last, data.len);
}

/* --- telemetry.raw: writes -------------------------------------------------------------------- */

static ssize_t raw_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset, struct bytes data)
{
	struct tfile *f = tfile_of(file);
	struct telemetry *t = f->owner->telemetry;
	uint64_t sequence;
	int r;

	/* The second part of a write the kernel had to split: what is one write(2) must not become two
	 * messages. */
	if (offset > 0 && !(file->write_flags & O_APPEND))
		return -EMSGSIZE;
	if (data.len > telemetry_payload_max(t))
		return -EMSGSIZE;
	r = write_prepare(file);
	if (r)
		return r;
	r = telemetry_append(t, f->origin, data, BYTES(NULL, 0), &sequence);
	if (r)
		return r == -ENOSPC ? tfile_full(f) : r;
	return write_finish(file, req, sequence, sequence, data.len);
}

/* --- telemetry.file: open to close ------------------------------------------------------------ */

static ssize_t file_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			  struct bytes data)
{
	struct tfile *f = tfile_of(file);
	int r;

	(void)req;
	(void)offset;
	if (f->refusing || buf_len(&f->partial) + data.len > tfile_payload_max(f)) {
		tfile_drop_partial(f);
		f->refusing = true;
		return -EMSGSIZE;
	}
	if (!f->held) {
		uint64_t need = tfile_hold_bytes(f);

		if (!telemetry_has_room(f->owner->telemetry, 0, need))
			return tfile_full(f);
		r = journal_hold(telemetry_journal(f->owner->telemetry), need);
		assert(r == 0);
		f->held = need;
	}
	r = buf_append(&f->partial, data);
	return r ? r : (ssize_t)data.len;
}

/* --- the files -------------------------------------------------------------------------------- */

static const struct fuse_file_ops telemetry_file_ops[N_FRAMINGS] = {
	[FRAMING_LINES] =
		{
			.open = telemetry_file_open,
			.release = telemetry_file_release,
			.write = lines_write,
			.fsync = telemetry_file_fsync,
			.poll = telemetry_file_poll,
			.interrupt = waiters_interrupt,
		},
	[FRAMING_RAW] =
		{
			.open = telemetry_file_open,
			.release = telemetry_file_release,
			.write = raw_write,
			.fsync = telemetry_file_fsync,
			.poll = telemetry_file_poll,
			.interrupt = waiters_interrupt,
		},
	[FRAMING_FILE] =
		{
			.open = telemetry_file_open,
			.release = telemetry_file_release,
			.write = file_write,
			.fsync = telemetry_file_fsync,
			.poll = telemetry_file_poll,
			.interrupt = waiters_interrupt,
		},
};

int telemetry_files_new(struct telemetry_files **out, struct telemetry *telemetry, struct fuse_node *parent,
			const struct config_access *access, struct log *log)
{
	static const enum config_file which[N_FRAMINGS] = {
		[FRAMING_LINES] = CONFIG_FILE_TELEMETRY,
		[FRAMING_RAW] = CONFIG_FILE_TELEMETRY_RAW,
		[FRAMING_FILE] = CONFIG_FILE_TELEMETRY_FILE,
	};
	struct telemetry_files *files = calloc(1, sizeof(*files));
	int r;

	if (!files)
		return -ENOMEM;
	files->telemetry = telemetry;
	files->log = log;
	list_init(&files->spare);
	for (size_t i = 0; i < N_FRAMINGS; ++i) {
		const struct fuse_node_options options = {
			.name = config_file_name(which[i]),
			.mode = S_IFREG | access[which[i]].mode,
			.uid = access[which[i]].uid,
			.gid = access[which[i]].gid,
			.record = true,
			.ops = &telemetry_file_ops[i],
			.userdata = files,
		};

		r = fuse_node_add(&files->nodes[i], parent, &options);
		if (r) {
			free(files);
			return r;
		}
	}
	*out = files;
	return 0;
}

void telemetry_files_free(struct telemetry_files *files)
{
	if (!files)
		return;
	list_for_each_safe (link, &files->spare) {
		struct tfile *f = container_of(link, struct tfile, link);

		buf_deinit(&f->partial);
		free(f);
	}
	free(files);
}
