/* SPDX-License-Identifier: MIT */
/*
 * Telemetry files, see telemetry_files.h: opening and closing, what a write waits for, and polling. How bytes
 * become messages is in telemetry_framing.c.
 *
 * A write that finds the queue full on a channel that blocks is parked with a copy of its bytes. Blocked writes go
 * on in the order they came, whatever their channel, and none on such a channel overtakes them, but for those that
 * need no more room than was promised to their message before.
 *
 * While messages are in the queue, room comes when they go. When none is, it only comes from messages under way, and
 * these may be under way in blocked writes: then one of those fails, since all would wait for ever.
 *
 * The rest of a line at its file's last close was promised room in the queue, but the disk can fail: such files are
 * `late`, keep their rest, and try again when there is room.
 *
 * Closed files are kept for reuse with their buffer, so that opening, writing and closing, which is what every
 * `echo` does, allocates nothing. Files that found no room, when they were written or asked by poll(2), are in
 * `full`: an edge-triggered epoll asks again only when it was woken.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "flow/telemetry_files_internal.h"
#include "hub/contract.h"

/* Files kept for reuse, and the largest buffer kept with one. */
#define SPARE_MAX       256
#define SPARE_BYTES_MAX (16 * 1024)
/* Rests of lines that wait for the disk, in bytes; what does not fit is lost. */
#define LATE_BYTES_MAX (4u << 20)

struct telemetry_files {
	struct telemetry *telemetry;
	struct log *log;
	struct list spare;
	unsigned int n_spare;
	struct list late;
	size_t late_bytes;
	struct list full;
	uint64_t walk; /* over the blocked writes */
	struct log_once logged;
};

struct telemetry_nodes {
	struct telemetry_files *files;
	struct channel *channel;
	struct fuse_node *nodes[N_FRAMINGS];
	unsigned int n_nodes; /* that were not dropped */
};

static struct tfile *tfile_of(const struct fuse_file *file)
{
	return file->data;
}

static struct waiters *tfile_waiters(const struct tfile *f)
{
	return telemetry_waiters(f->telemetry);
}

/* --- open, close ------------------------------------------------------------------------------ */

static struct tfile *tfile_new(struct telemetry_files *files)
{
	struct list *link = list_first(&files->spare);
	struct tfile *f;

	if (link) {
		list_remove(link);
		--files->n_spare;
		return container_of(link, struct tfile, link);
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->owner = files;
	f->telemetry = files->telemetry;
	/* The rest of one line and the start of the next can be there at once. */
	buf_init(&f->partial, 2 * HUB_PACKET_BYTES_MAX);
	list_init(&f->link);
	list_init(&f->full);
	return f;
}

/* Nothing is promised to it, and it is in no list. */
static void tfile_recycle(struct tfile *f)
{
	struct telemetry_files *files = f->owner;

	if (f->partial.size > SPARE_BYTES_MAX)
		buf_deinit(&f->partial);
	if (files->n_spare == SPARE_MAX) {
		buf_deinit(&f->partial);
		free(f);
		return;
	}
	list_append(&files->spare, &f->link);
	++files->n_spare;
}

static int telemetry_file_open(struct fuse_file *file, enum framing framing)
{
	struct telemetry_nodes *nodes = fuse_node_userdata(file->node);
	struct tfile *f;
	int r;

	/* Only root gets this far: the mode has no read permission. */
	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return -EACCES;
	f = tfile_new(nodes->files);
	if (!f)
		return -ENOMEM;
	r = origin_open(tfile_waiters(f), &f->origin);
	if (r) {
		tfile_recycle(f);
		return r;
	}
	f->file = file;
	f->framing = framing;
	f->channel = nodes->channel;
	f->origin->channel = f->channel->number;
	channel_ref(f->channel);
	file->data = f;
	/* Who waits for room may wait for who has the same file open: the kernel must not make that one wait for him. */
	if (f->channel->when_full == CHANNEL_FULL_BLOCK)
		fuse_node_keep_apart(file->node);
	return 0;
}

static int lines_open(struct fuse_file *file)
{
	return telemetry_file_open(file, FRAMING_LINES);
}

static int raw_open(struct fuse_file *file)
{
	return telemetry_file_open(file, FRAMING_RAW);
}

static int whole_open(struct fuse_file *file)
{
	return telemetry_file_open(file, FRAMING_FILE);
}

/* The rest of a line, or a file, that could not be appended at its last close. */
static void tfile_keep_late(struct tfile *f, int error)
{
	struct telemetry_files *files = f->owner;
	size_t len = buf_len(&f->partial);

	if (len > LATE_BYTES_MAX - files->late_bytes) {
		log_error(files->log, "the end of a message to channel %s, %zu bytes, is lost: %s",
			  f->channel->name, len, strerror(-error));
		tfile_drop_partial(f, 0);
		return;
	}
	log_write_once(files->log, &files->logged, LOG_LEVEL_WARNING,
		       "messages of files that were closed wait for the disk: %s", strerror(-error));
	files->late_bytes += len;
	list_append(&files->late, &f->link);
}

static void telemetry_file_release(struct fuse_file *file)
{
	struct tfile *f = tfile_of(file);
	int r;

	/* Its writer gave up where a write was refused: that is no end of a message. */
	if (f->refused)
		tfile_drop_partial(f, 0);
	r = tfile_finish(f);
	origin_close(tfile_waiters(f), f->origin);
	f->origin = NULL;
	f->file = NULL;
	list_remove(&f->full);
	if (r)
		tfile_keep_late(f, r);
	if (list_is_linked(&f->link))
		return;
	channel_unref(f->channel);
	tfile_recycle(f);
}

static void files_retry_late(struct telemetry_files *files)
{
	list_for_each_safe (link, &files->late) {
		struct tfile *f = container_of(link, struct tfile, link);
		size_t len = buf_len(&f->partial);

		if (tfile_finish(f))
			return;
		files->late_bytes -= len;
		list_remove(link);
		channel_unref(f->channel);
		tfile_recycle(f);
	}
	log_once_reset(&files->logged);
}

/* --- what a write waits for ------------------------------------------------------------------- */

/* A queue in memory stores nothing before the hub has it. */
static enum channel_ack level_of(const struct tfile *f, enum channel_ack level)
{
	return level == CHANNEL_ACK_STORED && !journal_is_durable(telemetry_journal(f->telemetry))
		       ? CHANNEL_ACK_HUB
		       : level;
}

/* @flags: those of the write. */
static enum channel_ack write_level(const struct tfile *f, uint32_t flags)
{
	enum channel_ack level = f->channel->ack;

	if ((flags & O_SYNC) == O_SYNC)
		level = CHANNEL_ACK_HUB;
	else if ((flags & O_DSYNC) && level == CHANNEL_ACK_QUEUED)
		level = CHANNEL_ACK_STORED;
	return level_of(f, level);
}

/* A message in pieces has some of them from other writes. */
static void split_write_failed(struct fuse_file *file, const struct wait_write *write, struct bytes payload,
			       int error)
{
	tfile_undo(tfile_of(file), write, payload, error);
}

/* What the writer of @taken has to wait for. False: nothing. */
static bool write_waits(const struct tfile *f, uint32_t flags, const struct taken *taken, struct bytes data,
			struct wait_write *out)
{
	enum channel_ack level = write_level(f, flags);

	if (taken->last < taken->first || level == CHANNEL_ACK_QUEUED)
		return false;
	*out = (struct wait_write){
		.level = level == CHANNEL_ACK_HUB ? WAIT_HUB : WAIT_STORED,
		.first = taken->first,
		.last = taken->last,
		.lane = f->channel->lane,
		.size = data.len,
	};
	if (out->level == WAIT_HUB)
		return true;
	if (taken->is_split) {
		out->on_failed = split_write_failed;
		tfile_note_undo(f, data, taken, out);
	}
	journal_sync(telemetry_journal(f->telemetry));
	return true;
}

/* What every write needs before anything of it is taken. */
static int write_prepare(const struct tfile *f, const struct fuse_file *file, uint64_t offset)
{
	if (telemetry_is_closed(f->telemetry))
		return -ESHUTDOWN;
	/* Only pwrite(2) says where. The second part of a write that the kernel had to split would do, too; but the first
	 * part of it is larger than any message. */
	if (f->framing == FRAMING_RAW && offset > 0 && !(file->write_flags & O_APPEND))
		return -ESPIPE;
	return write_level(f, file->write_flags) == CHANNEL_ACK_QUEUED ? 0
								       : waiters_make_room(tfile_waiters(f));
}

/* Whether a write that was not taken for want of room waits for it. */
static bool write_blocks(const struct tfile *f, int error, const struct taken *taken)
{
	return error == -ENOSPC && taken->is_good && f->channel->when_full == CHANNEL_FULL_BLOCK &&
	       telemetry_can_fit(f->telemetry, f->channel, taken->n_messages, taken->n_bytes, taken->n_held);
}

/* It is woken when there is room. */
static void tfile_await_room(struct tfile *f)
{
	if (!list_is_linked(&f->full))
		list_append(&f->owner->full, &f->full);
}

/* The writer is told the error. */
static int write_refused(struct tfile *f, struct bytes data, const struct taken *taken, int error)
{
	if (!taken->is_good)
		return error;
	if (error == -ENOSPC || error == -EAGAIN) {
		telemetry_count_full(f->telemetry);
		tfile_await_room(f);
	}
	tfile_refuse(f, data, error);
	return error;
}

static ssize_t write_block(struct tfile *f, struct fuse_file *file, struct fuse_request *req,
			   struct bytes data)
{
	const struct taken good = {.is_good = true};
	int r = -EAGAIN;

	if (!(file->write_flags & O_NONBLOCK))
		r = waiters_park_blocked(tfile_waiters(f), file, req, data);
	if (r != FUSE_PARKED)
		return write_refused(f, data, &good, r);
	/* Nothing that leaves the queue will say that there is room. */
	if (!telemetry_has_queued(f->telemetry))
		telemetry_on_room(f->telemetry);
	return r;
}

/* Whether a write has to wait behind those that wait already. */
static bool write_stands_in_line(const struct tfile *f, const struct fuse_file *file, struct bytes data)
{
	struct waiters *w = tfile_waiters(f);
	struct blocked_write at;
	bool more;

	if (f->channel->when_full != CHANNEL_FULL_BLOCK || f->refusing || !waiters_has_blocked(w))
		return false;
	if (!tfile_is_promised(f, data))
		return true;
	/* Nor does one overtake those of the same open file. */
	for (more = waiters_next_blocked(w, NULL, &at); more && at.file != file;)
		more = waiters_next_blocked(w, at.parked, &at);
	return more;
}

static ssize_t telemetry_file_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
				    struct bytes data)
{
	struct tfile *f = tfile_of(file);
	struct wait_write wait;
	struct taken taken;
	int r;

	r = write_prepare(f, file, offset);
	if (r || !data.len)
		return r;
	tfile_begin_write(f, data);
	if (write_stands_in_line(f, file, data))
		return write_block(f, file, req, data);
	r = tfile_take(f, data, &taken);
	if (r && write_blocks(f, r, &taken))
		return write_block(f, file, req, data);
	if (r)
		return write_refused(f, data, &taken, r);
	if (!write_waits(f, file->write_flags, &taken, data, &wait))
		return (ssize_t)data.len;
	waiters_park_write(tfile_waiters(f), f->origin, req, &wait);
	return FUSE_PARKED;
}

/* A blocked write again. False: it still finds no room. */
static bool write_retry(const struct blocked_write *blocked, struct taken *taken)
{
	struct tfile *f = tfile_of(blocked->file);
	int r = tfile_take(f, blocked->data, taken);
	struct wait_write wait;

	if (r && write_blocks(f, r, taken))
		return false;
	if (r)
		waiters_answer_blocked(blocked, write_refused(f, blocked->data, taken, r));
	else if (write_waits(f, blocked->flags, taken, blocked->data, &wait))
		waiters_take_blocked(blocked, f->origin, &wait);
	else
		waiters_answer_blocked(blocked, (ssize_t)blocked->data.len);
	return true;
}

static bool files_retry_first(struct waiters *w)
{
	struct blocked_write first;
	struct taken taken;

	return waiters_next_blocked(w, NULL, &first) && write_retry(&first, &taken);
}

static void write_give_up(const struct blocked_write *blocked)
{
	struct tfile *f = tfile_of(blocked->file);

	telemetry_tell_stuck(f->telemetry, f->channel);
	telemetry_count_full(f->telemetry);
	tfile_give_up(f, blocked->data);
	waiters_answer_blocked(blocked, -ENOSPC);
}

/* What a walk over the blocked writes found. */
struct blocked_walk {
	bool went_on; /* one of them did, or had an error */
	bool is_disk; /* they wait for the disk */
	uint64_t n_held;
	struct blocked_write victim; /* the first one that holds room, or the first */
};

static struct blocked_walk files_walk_blocked(struct telemetry_files *files)
{
	struct waiters *w = telemetry_waiters(files->telemetry);
	struct blocked_walk walk = {.victim = {.parked = NULL}};
	struct blocked_write at, next;
	struct taken taken;
	bool more, has_next;

	++files->walk;
	for (more = waiters_next_blocked(w, NULL, &at); more; more = has_next, at = next) {
		struct tfile *f = tfile_of(at.file);

		has_next = waiters_next_blocked(w, at.parked, &next);
		if (f->walk == files->walk)
			continue;
		if (write_retry(&at, &taken)) {
			walk.went_on = true;
			continue;
		}
		/* Behind it there may be more of the same open file. */
		f->walk = files->walk;
		walk.is_disk |= taken.is_disk;
		if (!walk.victim.parked || (f->held && !walk.n_held))
			walk.victim = at;
		walk.n_held += f->held;
	}
	return walk;
}

/* The first one finds no room, and none comes from the queue: whoever can goes on, or somebody has to give up. False:
 * they wait for who is not blocked. */
static bool files_unblock(struct telemetry_files *files)
{
	struct blocked_walk walk;

	if (telemetry_has_queued(files->telemetry) || !list_is_empty(&files->late))
		return false;
	walk = files_walk_blocked(files);
	if (walk.went_on)
		return true;
	if (!walk.victim.parked || walk.is_disk || walk.n_held < telemetry_promised(files->telemetry))
		return false;
	write_give_up(&walk.victim);
	return true;
}

static void telemetry_file_interrupt(struct fuse_parked *parked)
{
	/* A write that waits for room is not taken, and those behind it may need less. */
	if (waiters_blocked_bytes(parked).len)
		telemetry_on_room(tfile_of(parked->file)->telemetry);
	waiters_interrupt(parked);
}

static int telemetry_file_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	struct tfile *f = tfile_of(file);
	struct journal *journal = telemetry_journal(f->telemetry);
	enum channel_ack level = level_of(f, datasync ? CHANNEL_ACK_STORED : CHANNEL_ACK_HUB);
	int r = f->framing == FRAMING_FILE ? tfile_finish(f) : 0;

	if (r)
		return r;
	if (!f->origin->n_unfinished ||
	    (level == CHANNEL_ACK_STORED && f->origin->last_sequence <= journal_stored(journal)))
		return origin_take_error(f->origin);
	if (level == CHANNEL_ACK_HUB)
		return waiters_park_sync(tfile_waiters(f), f->origin, req, WAIT_HUB);
	/* What could not be stored will not be by waiting. */
	if (f->origin->error)
		return origin_take_error(f->origin);
	r = waiters_park_sync(tfile_waiters(f), f->origin, req, WAIT_STORED);
	if (r == FUSE_PARKED)
		journal_sync(journal);
	return r;
}

/* --- room ------------------------------------------------------------------------------------- */

static bool tfile_is_writable(const struct tfile *f)
{
	if (tfile_is_promised_all(f))
		return !telemetry_is_closed(f->telemetry);
	if (f->channel->when_full == CHANNEL_FULL_BLOCK && waiters_has_blocked(tfile_waiters(f)))
		return false;
	return telemetry_is_writable(f->telemetry, f->channel);
}

static uint32_t telemetry_file_poll(struct fuse_file *file)
{
	struct tfile *f = tfile_of(file);

	if (tfile_is_writable(f))
		return POLLOUT | POLLWRNORM;
	tfile_await_room(f);
	return 0;
}

static void files_wake(struct telemetry_files *files)
{
	list_for_each_safe (link, &files->full) {
		struct tfile *f = container_of(link, struct tfile, full);

		if (!tfile_is_writable(f))
			continue;
		list_remove(link);
		fuse_file_poll_wake(f->file);
	}
}

struct telemetry *telemetry_files_telemetry(const struct telemetry_files *files)
{
	return files->telemetry;
}

void telemetry_files_on_room(struct telemetry_files *files)
{
	files_retry_late(files);
	while (files_retry_first(telemetry_waiters(files->telemetry)) || files_unblock(files))
		;
	files_wake(files);
}

/* --- the files -------------------------------------------------------------------------------- */

static void telemetry_node_drop(struct fuse_node *node)
{
	struct telemetry_nodes *nodes = fuse_node_userdata(node);

	if (--nodes->n_nodes == 0)
		free(nodes);
}

#define TELEMETRY_FILE_OPS(open_fn)                                                                          \
	{                                                                                                    \
		.open = (open_fn), .release = telemetry_file_release, .write = telemetry_file_write,         \
		.fsync = telemetry_file_fsync, .poll = telemetry_file_poll,                                  \
		.interrupt = telemetry_file_interrupt, .drop = telemetry_node_drop,                          \
	}

static const struct fuse_file_ops telemetry_file_ops[N_FRAMINGS] = {
	[FRAMING_LINES] = TELEMETRY_FILE_OPS(lines_open),
	[FRAMING_RAW] = TELEMETRY_FILE_OPS(raw_open),
	[FRAMING_FILE] = TELEMETRY_FILE_OPS(whole_open),
};

static const enum config_file telemetry_file_access[N_FRAMINGS] = {
	[FRAMING_LINES] = CONFIG_FILE_TELEMETRY,
	[FRAMING_RAW] = CONFIG_FILE_TELEMETRY_RAW,
	[FRAMING_FILE] = CONFIG_FILE_TELEMETRY_FILE,
};

int telemetry_files_add(struct telemetry_files *files, struct channel *channel, struct fuse_node *dir,
			const struct config_access *access, struct telemetry_nodes **out)
{
	struct telemetry_nodes *nodes = calloc(1, sizeof(*nodes));
	int r;

	if (!nodes)
		return -ENOMEM;
	nodes->files = files;
	nodes->channel = channel;
	/* One more, until all are there. */
	nodes->n_nodes = 1;
	for (size_t i = 0; i < N_FRAMINGS; ++i) {
		enum config_file which = telemetry_file_access[i];
		const struct fuse_node_options options = {
			.name = config_file_name(which),
			.mode = S_IFREG | access[which].mode,
			.uid = access[which].uid,
			.gid = access[which].gid,
			.record = true,
			.ops = &telemetry_file_ops[i],
			.userdata = nodes,
		};

		r = fuse_node_add(&nodes->nodes[i], dir, &options);
		if (r) {
			while (i-- > 0)
				fuse_node_remove(nodes->nodes[i]);
			free(nodes);
			return r;
		}
		++nodes->n_nodes;
	}
	--nodes->n_nodes;
	if (out)
		*out = nodes;
	return 0;
}

void telemetry_files_remove(struct telemetry_nodes *nodes)
{
	const struct telemetry_nodes copy = *nodes;

	/* The last one takes @nodes along. */
	for (size_t i = 0; i < N_FRAMINGS; ++i)
		fuse_node_remove(copy.nodes[i]);
}

int telemetry_files_new(struct telemetry_files **out, struct telemetry *telemetry, struct log *log)
{
	struct telemetry_files *files = calloc(1, sizeof(*files));

	if (!files)
		return -ENOMEM;
	files->telemetry = telemetry;
	files->log = log;
	list_init(&files->spare);
	list_init(&files->late);
	list_init(&files->full);
	*out = files;
	return 0;
}

void telemetry_files_free(struct telemetry_files *files)
{
	if (!files)
		return;
	files_retry_late(files);
	list_for_each_safe (link, &files->late) {
		struct tfile *f = container_of(link, struct tfile, link);

		log_error(files->log,
			  "the end of a message to channel %s, %zu bytes, is lost: the disk does not take it",
			  f->channel->name, buf_len(&f->partial));
		tfile_drop_partial(f, 0);
		list_remove(link);
		channel_unref(f->channel);
		tfile_recycle(f);
	}
	list_for_each_safe (link, &files->spare) {
		struct tfile *f = container_of(link, struct tfile, link);

		buf_deinit(&f->partial);
		free(f);
	}
	free(files);
}
