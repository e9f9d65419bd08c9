/* SPDX-License-Identifier: MIT */
/*
 * Files with a value of a channel, and `stats`, see channel_files.h.
 *
 * An open value file has two texts: what was read from its beginning, so that reads in pieces fit together, and what
 * was written through it, of which each write makes the channel's value.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/time.h"
#include "config/check.h"
#include "flow/channel_files_internal.h"

#define STRING_OF(number)  STRING_OF_(number)
#define STRING_OF_(number) #number

/* With its newline. */
#define VALUE_TEXT_MAX (CHANNEL_VALUE_MAX + 1)
/* Ten lines with a number each. */
#define STATS_TEXT_MAX 512

struct value_file {
	struct list waiting; /* of struct channel_files, while @parked is in use */
	struct fuse_parked parked;
	uint64_t change;     /* until it is kept */
	ssize_t wait_result; /* then */
	size_t shown_len, written_len;
	bool is_shown; /* was read from */
	/* Was cut to nothing, and nothing was written since: stands for an empty value when it is closed. */
	bool is_cut;
	char shown[VALUE_TEXT_MAX], written[VALUE_TEXT_MAX];
};

/* --- values ----------------------------------------------------------------------------------- */

/* Of one line of text, which may be nothing. */
static bool is_text(enum channel_value which)
{
	return which < CHANNEL_VALUE_ACK;
}

const char *channel_value_name(enum channel_value which)
{
	static const char *const names[CHANNEL_N_VALUES] = {
		[CHANNEL_VALUE_ACK] = IOTHUB_FILE_CHANNEL_ACK,
		[CHANNEL_VALUE_WHEN_FULL] = IOTHUB_FILE_CHANNEL_WHEN_FULL,
		[CHANNEL_VALUE_TTL] = IOTHUB_FILE_CHANNEL_TTL,
		[CHANNEL_VALUE_PRIORITY] = IOTHUB_FILE_CHANNEL_PRIORITY,
	};

	return is_text(which) ? channel_text_name((enum channel_text)which) : names[which];
}

static const char *value_reason_invalid(enum channel_value which)
{
	switch (which) {
	case CHANNEL_VALUE_ACK:
		return "not one of queued, stored and hub";
	case CHANNEL_VALUE_WHEN_FULL:
		return "not one of reject, block and drop-oldest";
	case CHANNEL_VALUE_TTL:
		return "not a number of seconds from 0, for ever, to " STRING_OF(CHANNEL_TTL_MAX);
	case CHANNEL_VALUE_PRIORITY:
		return "not a number from 0, first, to " STRING_OF(CHANNEL_PRIORITY_MAX);
	case CHANNEL_VALUE_CONTENT_TYPE:
	case CHANNEL_VALUE_CONTENT_ENCODING:
	case CHANNEL_VALUE_USER_ID:
	case CHANNEL_VALUE_CORRELATION_ID:
	case CHANNEL_VALUE_PROPERTY:
	case CHANNEL_N_VALUES:
		break;
	}
	return "a value is one line of UTF-8 without control characters";
}

const char *channel_value_reason(enum channel_value which, int error)
{
	switch (error) {
	case -EINVAL:
		return value_reason_invalid(which);
	case -EMSGSIZE:
		return "a value has at most " STRING_OF(
			CHANNEL_VALUE_MAX) " bytes, all of a channel with "
					   "their names " STRING_OF(CHANNEL_PROPERTY_BYTES_MAX);
	case -ENOSPC:
		return which == CHANNEL_VALUE_PROPERTY
			       ? "a channel has at most " STRING_OF(CHANNEL_PROPERTIES_MAX) " properties"
			       : "messages are queued with too many different priorities and times to live";
	default:
		return NULL;
	}
}

static struct channel_value_node *value_node(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static bool is_gone(const struct fuse_file *file)
{
	return !value_node(file)->dir->channel || !fuse_node_parent(file->node);
}

/* The value as text; borrowed, or in @number. */
static const char *value_get(struct fuse_node *node, char number[static 16])
{
	const struct channel_value_node *v = fuse_node_userdata(node);
	const struct channel *c = v->dir->channel;
	char key[KEY_NAME_SIZE];
	const char *text = NULL;

	switch (v->which) {
	case CHANNEL_VALUE_ACK:
		return channel_ack_name(c->ack);
	case CHANNEL_VALUE_WHEN_FULL:
		return channel_when_full_name(c->when_full);
	case CHANNEL_VALUE_TTL:
		snprintf(number, 16, "%" PRIu32, c->ttl_s);
		return number;
	case CHANNEL_VALUE_PRIORITY:
		snprintf(number, 16, "%u", c->priority);
		return number;
	case CHANNEL_VALUE_PROPERTY:
		if (key_name_decode(fuse_node_name(node), key) == 0)
			text = channel_property(c, key);
		break;
	case CHANNEL_VALUE_CONTENT_TYPE:
	case CHANNEL_VALUE_CONTENT_ENCODING:
	case CHANNEL_VALUE_USER_ID:
	case CHANNEL_VALUE_CORRELATION_ID:
		text = c->texts[v->which];
		break;
	case CHANNEL_N_VALUES:
		break;
	}
	return text ? text : "";
}

static int set_number(struct channel *channel, enum channel_value which, struct bytes text)
{
	bool is_ttl = which == CHANNEL_VALUE_TTL;
	uint64_t number;

	if (check_u64(text, 0, is_ttl ? CHANNEL_TTL_MAX : CHANNEL_PRIORITY_MAX, &number))
		return -EINVAL;
	return is_ttl ? channel_set_ttl(channel, (uint32_t)number)
		      : channel_set_priority(channel, (uint8_t)number);
}

static int set_ack(struct channel *channel, struct bytes text)
{
	enum channel_ack ack;
	int r = channel_ack_parse(text, &ack);

	return r ? r : channel_set_ack(channel, ack);
}

static int set_when_full(struct channel *channel, struct bytes text)
{
	enum channel_when_full when_full;
	int r = channel_when_full_parse(text, &when_full);

	return r ? r : channel_set_when_full(channel, when_full);
}

static int set_property(struct channel *channel, const char *name, struct bytes text)
{
	char key[KEY_NAME_SIZE];
	int r = key_name_decode(name, key);

	return r ? r : channel_set_property(channel, key, text);
}

static int value_set(struct fuse_node *node, struct bytes text)
{
	const struct channel_value_node *v = fuse_node_userdata(node);
	struct channel *c = v->dir->channel;

	switch (v->which) {
	case CHANNEL_VALUE_ACK:
		return set_ack(c, text);
	case CHANNEL_VALUE_WHEN_FULL:
		return set_when_full(c, text);
	case CHANNEL_VALUE_TTL:
	case CHANNEL_VALUE_PRIORITY:
		return set_number(c, v->which, text);
	case CHANNEL_VALUE_PROPERTY:
		return set_property(c, fuse_node_name(node), text);
	case CHANNEL_VALUE_CONTENT_TYPE:
	case CHANNEL_VALUE_CONTENT_ENCODING:
	case CHANNEL_VALUE_USER_ID:
	case CHANNEL_VALUE_CORRELATION_ID:
		return channel_set_text(c, (enum channel_text)v->which, text);
	case CHANNEL_N_VALUES:
		break;
	}
	return -EINVAL;
}

static int value_refuse(struct fuse_node *node, int error, const char *reason)
{
	const struct channel_value_node *v = fuse_node_userdata(node);
	char name[CHANNEL_NAME_MAX + sizeof("/" IOTHUB_DIR_CHANNEL_PROPERTIES "/") + KEY_NAME_SIZE];

	snprintf(name, sizeof(name), "%s/%s%s", v->dir->channel->name,
		 v->which == CHANNEL_VALUE_PROPERTY ? IOTHUB_DIR_CHANNEL_PROPERTIES "/" : "",
		 fuse_node_name(node));
	return channel_refuse(v->dir->owner, name, error, reason);
}

/* As value_set(), and says why not. */
static int value_change(struct fuse_node *node, struct bytes text)
{
	const struct channel_value_node *v = fuse_node_userdata(node);
	int r = value_set(node, text);

	if (r)
		return value_refuse(node, r, channel_value_reason(v->which, r));
	/* Writes that wait for room may have it now, or are to wait no more. */
	if (v->which == CHANNEL_VALUE_WHEN_FULL)
		telemetry_files_on_room(v->dir->owner->options.telemetry_files);
	fuse_node_changed(node);
	return 0;
}

/* Whether the value may be nothing. */
static bool can_be_empty(const struct channel_value_node *v)
{
	return is_text(v->which) || v->which == CHANNEL_VALUE_PROPERTY;
}

/* --- the file --------------------------------------------------------------------------------- */

/* Returns the length of the text in @out. */
static size_t value_render(struct fuse_node *node, char out[static VALUE_TEXT_MAX])
{
	char number[16];
	const char *value = value_get(node, number);
	size_t len = strlen(value);

	memcpy(out, value, len);
	if (len)
		out[len++] = '\n';
	return len;
}

static int value_open(struct fuse_file *file)
{
	struct value_file *f;

	if (is_gone(file))
		return -ENODEV;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	list_init(&f->waiting);
	f->is_cut = file->flags & O_TRUNC;
	file->data = f;
	return 0;
}

static void value_release(struct fuse_file *file)
{
	struct value_file *f = file->data;

	if (f->is_cut && !is_gone(file) && can_be_empty(value_node(file)))
		(void)value_change(file->node, BYTES("", 0));
	free(f);
}

static int value_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct value_file *f = file->data;

	(void)size;
	if (offset == 0 || !f->is_shown) {
		if (is_gone(file))
			return -ENODEV;
		f->shown_len = value_render(file->node, f->shown);
		f->is_shown = true;
	}
	fuse_reply_document(req, BYTES(f->shown, f->shown_len), offset);
	return 0;
}

void channel_values_on_kept(struct channel_files *files)
{
	const struct channels *channels = files->options.channels;
	int error = channels_kept_error(channels);

	list_for_each_safe (link, &files->waiting) {
		struct value_file *f = container_of(link, struct value_file, waiting);

		if (f->change > channels_kept(channels))
			continue;
		list_remove(link);
		fuse_parked_reply(&f->parked, error ? error : f->wait_result);
	}
}

/* Answers @result when all that was set is kept. */
static ssize_t value_wait(struct fuse_file *file, struct fuse_request *req, ssize_t result)
{
	struct channel_files *files = value_node(file)->dir->owner;
	struct value_file *f = file->data;

	channels_keep(files->options.channels);
	f->change = channels_changed(files->options.channels);
	if (f->change <= channels_kept(files->options.channels))
		return result;
	f->wait_result = result;
	list_append(&files->waiting, &f->waiting);
	fuse_park(req, &f->parked);
	return FUSE_PARKED;
}

static int value_put(struct fuse_file *file, uint64_t offset, struct bytes data)
{
	struct value_file *f = file->data;
	char text[VALUE_TEXT_MAX];
	size_t len;
	int r;

	if (offset > f->written_len)
		return value_refuse(file->node, -EINVAL, "a hole in a text");
	if (data.len > sizeof(text) - (size_t)offset)
		return value_refuse(file->node, -EMSGSIZE,
				    channel_value_reason(value_node(file)->which, -EMSGSIZE));
	len = (size_t)offset + data.len;
	memcpy(text, f->written, (size_t)offset);
	memcpy(text + offset, data.data, data.len);
	r = value_change(file->node, bytes_chomp(BYTES(text, len)));
	if (r)
		return r;
	memcpy(f->written, text, len);
	f->written_len = len;
	return 0;
}

static ssize_t value_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			   struct bytes data)
{
	struct value_file *f = file->data;
	int r;

	if (is_gone(file))
		return -ENODEV;
	if (!data.len)
		return 0;
	f->is_cut = false;
	/* The kernel counts from the end of the value, which this one replaces. */
	if (file->write_flags & O_APPEND)
		offset = f->written_len;
	if ((file->write_flags & O_DSYNC) && list_is_linked(&f->waiting))
		return -EBUSY;
	r = value_put(file, offset, data);
	if (r)
		return r;
	return file->write_flags & O_DSYNC ? value_wait(file, req, (ssize_t)data.len) : (ssize_t)data.len;
}

static int value_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	struct value_file *f = file->data;

	(void)datasync;
	return list_is_linked(&f->waiting) ? -EBUSY : (int)value_wait(file, req, 0);
}

static void value_interrupt(struct fuse_parked *parked)
{
	list_remove(&((struct value_file *)parked->file->data)->waiting);
}

static int value_truncate(struct fuse_node *node, struct fuse_file *file, uint64_t size)
{
	const struct channel_value_node *v = fuse_node_userdata(node);
	struct value_file *f = file ? file->data : NULL;

	if (size)
		return -EINVAL;
	if (!f)
		return can_be_empty(v) ? value_change(node, BYTES("", 0)) : 0;
	f->written_len = 0;
	f->is_cut = true;
	return 0;
}

static uint64_t value_size(struct fuse_node *node)
{
	const struct channel_value_node *v = fuse_node_userdata(node);
	char text[VALUE_TEXT_MAX];

	return v->dir->channel ? value_render(node, text) : 0;
}

static void value_drop(struct fuse_node *node)
{
	channel_dir_unref(((struct channel_value_node *)fuse_node_userdata(node))->dir);
}

const struct fuse_file_ops channel_value_ops = {
	.open = value_open,
	.release = value_release,
	.read = value_read,
	.write = value_write,
	.fsync = value_fsync,
	.interrupt = value_interrupt,
	.truncate = value_truncate,
	.size = value_size,
	.drop = value_drop,
};

/* --- stats ------------------------------------------------------------------------------------ */

struct queued {
	uint64_t n_records, n_bytes;
	uint64_t oldest_age_ms;
};

/* What the journal has of the channel, whatever its priority and ttl were. */
static struct queued queued_count(const struct telemetry *telemetry, struct journal *journal,
				  const struct channel *channel)
{
	struct queued q = {0};
	struct journal_lane_key key;
	struct journal_cursor at;
	uint64_t time_ms, age_ms;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(journal, lane));) {
		journal_lane_key(lane, &key);
		if (key.kind != JOURNAL_KIND_QUEUE || key.channel != channel->number)
			continue;
		q.n_records += journal_lane_n_records(lane);
		q.n_bytes += journal_lane_n_bytes(lane);
		time_ms = journal_first(lane, &at) ? journal_time_ms(&at) : 0;
		age_ms = time_ms ? telemetry_age_ms(telemetry, at.sequence, time_ms) : 0;
		if (age_ms > q.oldest_age_ms)
			q.oldest_age_ms = age_ms;
	}
	return q;
}

static size_t stats_render(const struct channel_dir *dir, char out[static STATS_TEXT_MAX])
{
	const struct channel_files_options *options = &dir->owner->options;
	const struct channel_stats *stats = &dir->channel->stats;
	struct queued q = queued_count(telemetry_files_telemetry(options->telemetry_files), options->journal,
				       dir->channel);
	int len;

	len = snprintf(out, STATS_TEXT_MAX,
		       "appended: %" PRIu64 "\nstored: %" PRIu64 "\nacked: %" PRIu64 "\nretried: %" PRIu64
		       "\nrejected: %" PRIu64 "\nexpired: %" PRIu64 "\ndropped: %" PRIu64 "\nqueued: %" PRIu64
		       "\nbytes: %" PRIu64 "\noldest-age: %" PRIu64 "\n",
		       stats->n_appended, stats->n_stored, stats->n_acked, stats->n_retried,
		       stats->n_rejected, stats->n_expired, stats->n_dropped, q.n_records, q.n_bytes,
		       q.oldest_age_ms / MSEC_PER_SEC);
	return (size_t)len;
}

struct stats_file {
	size_t len;
	char text[STATS_TEXT_MAX];
};

static int stats_open(struct fuse_file *file)
{
	if ((file->flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	file->data = calloc(1, sizeof(struct stats_file));
	return file->data ? 0 : -ENOMEM;
}

static void stats_release(struct fuse_file *file)
{
	free(file->data);
}

static int stats_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct channel_dir *dir = fuse_node_userdata(file->node);
	struct stats_file *f = file->data;

	(void)size;
	if (!dir->channel)
		return -ENODEV;
	if (offset == 0)
		f->len = stats_render(dir, f->text);
	fuse_reply_document(req, BYTES(f->text, f->len), offset);
	return 0;
}

static uint64_t stats_size(struct fuse_node *node)
{
	struct channel_dir *dir = fuse_node_userdata(node);
	char text[STATS_TEXT_MAX];

	return dir->channel ? stats_render(dir, text) : 0;
}

static void stats_drop(struct fuse_node *node)
{
	channel_dir_unref(fuse_node_userdata(node));
}

const struct fuse_file_ops channel_stats_ops = {
	.open = stats_open,
	.release = stats_release,
	.read = stats_read,
	.size = stats_size,
	.drop = stats_drop,
};
