/* SPDX-License-Identifier: MIT */
/*
 * Telemetry files, see telemetry_files.h.
 *
 * An open file has its origin in the queue and, between writes, a `partial` message: the rest of a line, or a
 * file so far. While partial is not empty, `held` bytes of the queue are promised to it. `refusing` is the error
 * of everything up to the end of that line or file; partial is empty then.
 *
 * A write that found the queue full is remembered: only who repeats it goes on with the message it belongs to. Who
 * ignores the error, as a shell's echo does, writes what comes next, and a message with a hole would be worse than
 * none.
 *
 * Closed files are kept for reuse with their buffer, so that opening, writing and closing, which is what every
 * `echo` does, allocates nothing.
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
	int refusing;       /* 0 or negative */
	size_t full_len;    /* of the write that found the queue full; 0 = none since the last that did not */
	uint64_t full_hash; /* of its bytes */
	bool full_ends;     /* it ended with a newline */
};

static struct tfile *tfile_of(const struct fuse_file *file)
{
	return file->data;
}

/* --- what is promised to a partial message ---------------------------------------------------- */

/* Promises grow by steps, so that a line of small pieces does not ask each time. */
#define HOLD_STEP 4096

static uint64_t tfile_hold_bytes(size_t n_partial)
{
	return n_partial ? (n_partial + HOLD_STEP - 1) / HOLD_STEP * HOLD_STEP + TELEMETRY_MESSAGE_OVERHEAD
			 : 0;
}

static void tfile_unhold(struct tfile *f)
{
	telemetry_unhold(f->owner->telemetry, f->held);
	f->held = 0;
}

/* Only with room that was checked, or that was just given back. */
static void tfile_hold(struct tfile *f, uint64_t n_bytes)
{
	int r = telemetry_hold(f->owner->telemetry, n_bytes);

	assert(r == 0);
	(void)r;
	f->held = n_bytes;
}

/* Drops the message under way and refuses the rest of it with @error. */
static void tfile_drop_partial(struct tfile *f, int error)
{
	buf_consume(&f->partial, buf_len(&f->partial));
	tfile_unhold(f);
	f->refusing = error;
}

/* FNV-1a. */
static uint64_t hash_bytes(struct bytes data)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < data.len; ++i)
		hash = (hash ^ data.data[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static int tfile_full(struct tfile *f, struct bytes data)
{
	telemetry_count_full(f->owner->telemetry);
	f->full_len = data.len;
	f->full_hash = hash_bytes(data);
	f->full_ends = data.data[data.len - 1] == '\n';
	return -ENOSPC;
}

/* Whether the writer goes on without what was refused: its message has a hole. Forgets the refused write. */
static bool tfile_has_hole(struct tfile *f, struct bytes data)
{
	bool hole = f->full_len && (f->full_len != data.len || f->full_hash != hash_bytes(data));

	f->full_len = 0;
	return hole;
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
	tfile_drop_partial(f, 0);
	f->full_len = 0;
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

/* What every write needs before anything of it is taken. */
static int write_prepare(struct fuse_file *file)
{
	struct telemetry *t = tfile_of(file)->owner->telemetry;

	if (telemetry_is_closed(t))
		return -ESHUTDOWN;
	return write_waits(file) ? waiters_make_room(telemetry_waiters(t)) : 0;
}

static int telemetry_file_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	struct tfile *f = tfile_of(file);
	struct telemetry *t = f->owner->telemetry;
	uint64_t sequence;

	(void)datasync;
	if (file->node == f->owner->nodes[FRAMING_FILE])
		tfile_finish(f, &sequence);
	if (!f->origin->n_unfinished)
		return origin_take_error(f->origin);
	return waiters_park_sync(telemetry_waiters(t), f->origin, req);
}

static uint32_t telemetry_file_poll(struct fuse_file *file)
{
	return telemetry_is_writable(tfile_of(file)->owner->telemetry) ? POLLOUT | POLLWRNORM : 0;
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

/* Takes nothing of this write, nor of the line it ends in. */
static ssize_t lines_refuse(struct tfile *f, struct bytes data, int error)
{
	tfile_drop_partial(f, data.data[data.len - 1] == '\n' ? 0 : error);
	return error;
}

/* Takes a write that was found to be good, if there is room for all of it. Returns the number of the last message
 * in @last, 0 = none was complete. */
static int lines_take(struct tfile *f, struct bytes data, const struct lines *lines, uint64_t *last)
{
	struct bytes rest = BYTES(data.data + lines->rest_at, data.len - lines->rest_at);
	uint64_t held = f->held, need;
	uint8_t *at;
	int r;

	/* Before anything is appended, so that only the queue can refuse from here on. */
	r = rest.len ? buf_reserve(&f->partial, rest.len, &at) : 0;
	if (r)
		return r;
	need = tfile_hold_bytes(rest.len + (lines->rest_at ? 0 : buf_len(&f->partial)));
	tfile_unhold(f);
	if (!telemetry_has_room(f->owner->telemetry, lines->n_messages, lines->n_bytes + need)) {
		tfile_hold(f, held);
		return tfile_full(f, data);
	}
	lines_append(f, BYTES(data.data, lines->rest_at), last);
	tfile_hold(f, need);
	r = buf_append(&f->partial, rest);
	assert(r == 0);
	return 0;
}

static ssize_t lines_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			   struct bytes data)
{
	struct tfile *f = tfile_of(file);
	struct telemetry *t = f->owner->telemetry;
	uint64_t first = journal_appended(telemetry_journal(t)) + 1, last = 0;
	struct lines lines;
	int r;

	(void)offset;
	r = write_prepare(file);
	if (r || !data.len)
		return r;
	if (tfile_has_hole(f, data))
		tfile_drop_partial(f, f->full_ends ? 0 : -ENOSPC);
	if (f->refusing)
		return lines_refuse(f, data, f->refusing);
	lines = lines_scan(data, buf_len(&f->partial), telemetry_payload_max(t));
	if (lines.too_long)
		return lines_refuse(f, data, -EMSGSIZE);
	r = lines_take(f, data, &lines, &last);
	if (r)
		return r;
	return write_finish(file, req, first, last, data.len);
}

/* --- telemetry.raw: writes -------------------------------------------------------------------- */

static ssize_t raw_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset, struct bytes data)
{
	struct tfile *f = tfile_of(file);
	struct telemetry *t = f->owner->telemetry;
	uint64_t sequence;
	int r;

	r = write_prepare(file);
	if (r || !data.len)
		return r;
	/* The second part of a write the kernel had to split: what is one write(2) must not become two
	 * messages. */
	if (offset > 0 && !(file->write_flags & O_APPEND))
		return -EMSGSIZE;
	if (data.len > telemetry_payload_max(t))
		return -EMSGSIZE;
	r = telemetry_append(t, f->origin, data, BYTES(NULL, 0), &sequence);
	if (r) {
		telemetry_count_full(t);
		return r;
	}
	return write_finish(file, req, sequence, sequence, data.len);
}

/* --- telemetry.file: open to close ------------------------------------------------------------ */

static ssize_t file_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			  struct bytes data)
{
	struct tfile *f = tfile_of(file);
	struct telemetry *t = f->owner->telemetry;
	size_t len = buf_len(&f->partial) + data.len;
	uint64_t held = f->held;
	int r;

	(void)req;
	(void)offset;
	r = write_prepare(file);
	if (r || !data.len)
		return r;
	if (tfile_has_hole(f, data))
		tfile_drop_partial(f, -ENOSPC);
	else if (!f->refusing && len > telemetry_payload_max(t))
		tfile_drop_partial(f, -EMSGSIZE);
	if (f->refusing)
		return f->refusing;
	tfile_unhold(f);
	if (!telemetry_has_room(t, 0, tfile_hold_bytes(len))) {
		tfile_hold(f, held);
		return tfile_full(f, data);
	}
	tfile_hold(f, tfile_hold_bytes(len));
	r = buf_append(&f->partial, data);
	if (r)
		tfile_drop_partial(f, r);
	return r ? r : (ssize_t)data.len;
}

/* --- the files -------------------------------------------------------------------------------- */

#define TELEMETRY_FILE_OPS(write_fn)                                                                         \
	{                                                                                                    \
		.open = telemetry_file_open, .release = telemetry_file_release, .write = (write_fn),         \
		.fsync = telemetry_file_fsync, .poll = telemetry_file_poll, .interrupt = waiters_interrupt,  \
	}

static const struct fuse_file_ops telemetry_file_ops[N_FRAMINGS] = {
	[FRAMING_LINES] = TELEMETRY_FILE_OPS(lines_write),
	[FRAMING_RAW] = TELEMETRY_FILE_OPS(raw_write),
	[FRAMING_FILE] = TELEMETRY_FILE_OPS(file_write),
};

int telemetry_files_new(struct telemetry_files **out, struct telemetry *telemetry, struct fuse_node *parent,
			const struct config_access *access)
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
