/* SPDX-License-Identifier: MIT */
/*
 * Lines for many readers, see lines.h.
 *
 * Lines have numbers, counted from 1 without a gap; the kept ones are first_number … last_number. A reader has the
 * number of the line it wants next, and a copy of the rest of the line it is reading: so a line may go while
 * somebody is in the middle of it. Readers that wait are parked in the order they came; a new line answers all.
 */

#include "flow/lines.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/list.h"

/* Requests of one open file that may wait at the same time; one more is EBUSY. */
#define PARKED_MAX 16

struct line {
	struct list link; /* lines->kept */
	uint32_t len;     /* newline included */
	uint8_t data[];
};

struct lines {
	struct fuse_node *node;
	struct list kept;
	uint64_t first_number; /* of the oldest kept line, or of the next one to come */
	uint64_t last_number;  /* of the newest line there was; 0 = none yet */
	size_t n_bytes;
	size_t bytes_max;
	bool from_start;
	struct list parked; /* struct lines_wait */
};

struct reader {
	uint64_t next;      /* number of the line it wants */
	struct line *piece; /* a line of which a part is still to be read; owned */
	uint32_t offset;    /* in it */
	uint32_t n_parked;
};

struct lines_wait {
	struct list link;
	struct fuse_parked parked;
};

static struct line *line_new(struct bytes text)
{
	size_t len = text.len < LINES_LINE_MAX - 1 ? text.len : LINES_LINE_MAX - 1;
	struct line *line = malloc(sizeof(*line) + len + 1);

	if (!line)
		return NULL;
	list_init(&line->link);
	line->len = (uint32_t)len + 1;
	if (len)
		memcpy(line->data, text.data, len);
	line->data[len] = '\n';
	return line;
}

/* --- readers ---------------------------------------------------------------------------------- */

static bool reader_has_line(const struct lines *lines, const struct reader *reader)
{
	return reader->piece || reader->next <= lines->last_number;
}

/* A copy of the line the reader wants; of a line that says how many are gone, when that one is. */
static struct line *reader_take(const struct lines *lines, struct reader *reader)
{
	uint64_t number = lines->first_number;
	char lost[48];

	if (reader->next < lines->first_number) {
		int n = snprintf(lost, sizeof(lost), "{\"lost\":%" PRIu64 "}",
				 lines->first_number - reader->next);
		struct line *line = line_new(BYTES(lost, (size_t)n));

		if (line)
			reader->next = lines->first_number;
		return line;
	}
	list_for_each (l, &lines->kept) {
		const struct line *kept = container_of(l, struct line, link);

		if (number++ == reader->next) {
			struct line *line = line_new(BYTES(kept->data, kept->len - 1));

			if (line)
				reader->next = number;
			return line;
		}
	}
	return NULL;
}

/* What a READ of @size gets; there is something. Empty without memory. */
static struct bytes reader_piece(const struct lines *lines, struct reader *reader, uint32_t size)
{
	struct bytes piece;

	if (!reader->piece) {
		reader->piece = reader_take(lines, reader);
		reader->offset = 0;
	}
	if (!reader->piece)
		return BYTES(NULL, 0);
	piece = BYTES(reader->piece->data + reader->offset, reader->piece->len - reader->offset);
	if (piece.len > size)
		piece.len = size;
	return piece;
}

static void reader_advance(struct reader *reader, struct bytes piece)
{
	reader->offset += (uint32_t)piece.len;
	if (reader->offset < reader->piece->len)
		return;
	free(reader->piece);
	reader->piece = NULL;
}

/* --- the file --------------------------------------------------------------------------------- */

static int lines_open(struct fuse_file *file)
{
	const struct lines *lines = fuse_node_userdata(file->node);
	struct reader *reader;

	if ((file->flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	reader->next = lines->from_start ? lines->first_number : lines->last_number + 1;
	file->data = reader;
	return 0;
}

static void lines_release(struct fuse_file *file)
{
	struct reader *reader = file->data;

	free(reader->piece);
	free(reader);
}

static int lines_park(struct lines *lines, struct reader *reader, struct fuse_request *req)
{
	struct lines_wait *wait;

	if (reader->n_parked >= PARKED_MAX)
		return -EBUSY;
	wait = calloc(1, sizeof(*wait));
	if (!wait)
		return -ENOMEM;
	list_init(&wait->link);
	list_append(&lines->parked, &wait->link);
	fuse_park(req, &wait->parked);
	++reader->n_parked;
	return FUSE_PARKED;
}

static int lines_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct lines *lines = fuse_node_userdata(file->node);
	struct reader *reader = file->data;
	struct bytes piece;

	(void)offset;
	if (!reader_has_line(lines, reader))
		return file->flags & O_NONBLOCK ? -EAGAIN : lines_park(lines, reader, req);
	piece = reader_piece(lines, reader, size);
	if (!piece.data)
		return -ENOMEM;
	fuse_reply_data(req, piece);
	reader_advance(reader, piece);
	return 0;
}

static uint32_t lines_poll(struct fuse_file *file)
{
	return reader_has_line(fuse_node_userdata(file->node), file->data) ? POLLIN : 0;
}

static void wait_end(struct lines_wait *wait)
{
	--((struct reader *)wait->parked.file->data)->n_parked;
	list_remove(&wait->link);
	free(wait);
}

static void lines_interrupt(struct fuse_parked *parked)
{
	wait_end(container_of(parked, struct lines_wait, parked));
}

static const struct fuse_file_ops lines_ops = {
	.open = lines_open,
	.release = lines_release,
	.read = lines_read,
	.poll = lines_poll,
	.interrupt = lines_interrupt,
};

/* --- lines ------------------------------------------------------------------------------------ */

/* Answers those who wait and have something to read now; two requests of one file wait for two lines. */
static void lines_wake(struct lines *lines)
{
	list_for_each_safe (l, &lines->parked) {
		struct lines_wait *wait = container_of(l, struct lines_wait, link);
		struct reader *reader = wait->parked.file->data;
		struct bytes piece;

		if (!reader_has_line(lines, reader))
			continue;
		piece = reader_piece(lines, reader, wait->parked.size);
		if (piece.data)
			fuse_parked_reply_data(&wait->parked, piece);
		else
			fuse_parked_reply(&wait->parked, -ENOMEM);
		wait_end(wait);
		if (piece.data)
			reader_advance(reader, piece);
	}
	fuse_node_poll_wake(lines->node);
}

static void lines_drop_first(struct lines *lines)
{
	struct line *line = container_of(list_first(&lines->kept), struct line, link);

	list_remove(&line->link);
	lines->n_bytes -= line->len;
	++lines->first_number;
	free(line);
}

void lines_put(struct lines *lines, struct bytes text)
{
	struct line *line = line_new(text);

	++lines->last_number;
	if (!line) {
		/* A gap in the middle there cannot be: all lines up to this one are lost. */
		while (!list_is_empty(&lines->kept))
			lines_drop_first(lines);
		lines->first_number = lines->last_number + 1;
		return;
	}
	list_append(&lines->kept, &line->link);
	lines->n_bytes += line->len;
	while (lines->n_bytes > lines->bytes_max)
		lines_drop_first(lines);
	lines_wake(lines);
}

int lines_new(struct lines **out, const struct lines_options *options)
{
	struct lines *lines = calloc(1, sizeof(*lines));
	const struct fuse_node_options node = {
		.name = options->name,
		.mode = S_IFREG | options->access->mode,
		.uid = options->access->uid,
		.gid = options->access->gid,
		.record = true,
		.ops = &lines_ops,
		.userdata = lines,
	};
	int r;

	assert(options->bytes_max >= LINES_LINE_MAX);
	if (!lines)
		return -ENOMEM;
	list_init(&lines->kept);
	list_init(&lines->parked);
	lines->first_number = 1;
	lines->bytes_max = options->bytes_max;
	lines->from_start = options->from_start;
	r = fuse_node_add(&lines->node, options->parent, &node);
	if (r) {
		free(lines);
		return r;
	}
	*out = lines;
	return 0;
}

void lines_free(struct lines *lines)
{
	if (!lines)
		return;
	while (!list_is_empty(&lines->kept))
		lines_drop_first(lines);
	free(lines);
}
