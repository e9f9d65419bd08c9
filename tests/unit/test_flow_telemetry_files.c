/* SPDX-License-Identifier: MIT */
/*
 * The telemetry files behind a tree without a kernel and a link that never starts: what is written, in pieces
 * of any size, and what stands in the queue afterwards. The random test compares with a framer that does the
 * same the simple way.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "base/cleanup.h"
#include "flow/link.h"
#include "flow/stamp.h"
#include "flow/telemetry_files.h"
#include "mqtt/packet.h"
#include "tests/support/files_line.h"

/* The smallest queue a configuration may have. */
#define QUEUE_BYTES (1 << 20)
/* More than the largest message. */
#define LARGE_BYTES  280000
#define N_FILES      3
#define N_STEPS      20000
#define PARTIAL_SIZE LARGE_BYTES

enum kind {
	LINES,
	RAW,
	WHOLE,
	N_KINDS,
};

static const char *const names[N_KINDS] = {"telemetry", "telemetry.raw", "telemetry.file"};

/* An open file and what the simple framer knows of it. */
struct opened {
	enum kind kind;
	bool open;
	uint64_t node; /* the file's id when it was opened: it changes while requests wait */
	uint64_t fh;
	char partial[PARTIAL_SIZE];
	size_t partial_len;
	int refusing;           /* the error up to the end of the line or file */
	char full[LARGE_BYTES]; /* the last write, if it found the queue full */
	size_t full_len;
};

FIXTURE(files)
{
	struct files_line rig;
	uint64_t nodes[N_KINDS];
	uint64_t next; /* the first record not looked at */
	struct opened opened[N_FILES];
	uint64_t n_messages, n_full, n_refused;
};

FIXTURE_SETUP(files)
{
	const struct files_line_options options = {.queue_bytes = QUEUE_BYTES, .run = 7};

	files_line_init(&self->rig, &options);
	for (size_t i = 0; i < N_KINDS; ++i)
		self->nodes[i] = fuse_line_lookup(&self->rig.line, names[i]);
	self->next = 1;
}

FIXTURE_TEARDOWN(files)
{
	files_line_deinit(&self->rig);
}

/* --- the queue's side ------------------------------------------------------------------------- */

/* The hub takes everything up to the record before `next`. */
static void drain(struct fixture_files *self)
{
	files_line_take(&self->rig, self->next - 1);
}

static void expect_no_message(struct fixture_files *self)
{
	EXPECT_EQ(journal_appended(self->rig.journal) + 1, self->next);
}

static void expect_message(struct fixture_files *self, struct bytes payload)
{
	struct journal_record record;
	struct journal_cursor at;
	struct bytes id;
	char want[HUB_MESSAGE_ID_LEN + 1];

	ASSERT_TRUE(journal_find(files_line_default(&self->rig)->lane, self->next, &at));
	ASSERT_EQ(journal_read(&at, &record), 0);
	ASSERT_EQ(record.payload.len, payload.len);
	if (payload.len)
		ASSERT_TRUE(bytes_equal(record.payload, payload));
	ASSERT_EQ(record.properties.len, (size_t)STAMP_LEN);
	hub_message_id_format(7, record.sequence, want);
	ASSERT_TRUE(mqtt_user_property_find(record.properties, "message-id", &id));
	ASSERT_TRUE(bytes_equal_str(id, want));
	++self->next;
	++self->n_messages;
}

/* --- the writer's side
 * ----------------------------------------------------------------------------------------- */

static void open_file(struct fixture_files *self, struct opened *o, enum kind kind)
{
	o->kind = kind;
	o->open = true;
	o->partial_len = 0;
	o->refusing = 0;
	o->full_len = 0;
	o->node = fuse_line_lookup(&self->rig.line, names[kind]);
	o->fh = fuse_line_open(&self->rig.line, o->node, O_WRONLY);
}

static int write_file(struct fixture_files *self, struct opened *o, struct bytes data)
{
	return fuse_line_result(&self->rig.line,
				fuse_line_write(&self->rig.line, o->node, o->fh, O_WRONLY, data));
}

static int write_text(struct fixture_files *self, struct opened *o, const char *text)
{
	return write_file(self, o, bytes_from_str(text));
}

static void close_file(struct fixture_files *self, struct opened *o)
{
	fuse_line_release(&self->rig.line, o->node, o->fh);
	o->open = false;
}

static void expect_text(struct fixture_files *self, const char *text)
{
	expect_message(self, bytes_from_str(text));
}

/* --- examples
 * -------------------------------------------------------------------------------------------------- */

TEST_F(files, lines)
{
	struct opened *a = &self->opened[0], *b = &self->opened[1];

	open_file(self, a, LINES);
	open_file(self, b, LINES);
	EXPECT_EQ(write_text(self, a, "one\n\n\ntwo\nth"), 0);
	EXPECT_EQ(write_text(self, b, "other\nre"), 0);
	EXPECT_EQ(write_text(self, a, "r"), 0);
	EXPECT_EQ(write_text(self, a, "ee\n"), 0);
	EXPECT_EQ(write_text(self, b, "st"), 0);
	close_file(self, a);
	close_file(self, b);
	expect_text(self, "one");
	expect_text(self, "two");
	expect_text(self, "other");
	expect_text(self, "three");
	expect_text(self, "rest");
	expect_no_message(self);
	drain(self);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(files, writes_and_whole_files)
{
	struct opened *raw = &self->opened[0], *whole = &self->opened[1];

	open_file(self, raw, RAW);
	open_file(self, whole, WHOLE);
	EXPECT_EQ(write_text(self, raw, "a\nb\n"), 0);
	EXPECT_EQ(write_text(self, whole, "x\n"), 0);
	EXPECT_EQ(write_text(self, raw, "\n"), 0);
	EXPECT_EQ(write_text(self, whole, "y"), 0);
	expect_text(self, "a\nb\n");
	expect_text(self, "\n");
	expect_no_message(self);
	fuse_line_fsync(&self->rig.line, self->nodes[WHOLE], whole->fh);
	expect_text(self, "x\ny");
	drain(self);
	EXPECT_EQ(write_text(self, whole, "z"), 0);
	close_file(self, whole);
	expect_text(self, "z");
	close_file(self, raw);
	open_file(self, whole, WHOLE);
	close_file(self, whole);
	expect_no_message(self);
}

TEST_F(files, a_write_that_says_where_is_refused)
{
	struct opened *raw = &self->opened[0];
	uint64_t u;

	open_file(self, raw, RAW);
	u = fuse_line_write_at(&self->rig.line, self->nodes[RAW], raw->fh, O_WRONLY, 4096, BYTES_LIT("x"));
	EXPECT_EQ(fuse_line_result(&self->rig.line, u), -ESPIPE);
	expect_no_message(self);
	u = fuse_line_write_at(&self->rig.line, self->nodes[RAW], raw->fh, O_WRONLY | O_APPEND, 4096,
			       BYTES_LIT("x"));
	EXPECT_EQ(fuse_line_result(&self->rig.line, u), 0);
	expect_text(self, "x");
}

TEST_F(files, empty_writes)
{
	for (enum kind kind = LINES; kind < N_KINDS; ++kind) {
		struct opened *o = &self->opened[0];

		open_file(self, o, kind);
		EXPECT_EQ(write_file(self, o, BYTES("", 0)), 0);
		close_file(self, o);
	}
}

TEST_F(files, reading_is_refused)
{
	const struct fuse_open_in in = {.flags = O_RDONLY};

	for (size_t i = 0; i < N_KINDS; ++i)
		EXPECT_EQ(fuse_line_result(&self->rig.line,
					   fuse_line_request(&self->rig.line, FUSE_OPEN, self->nodes[i], &in,
							     sizeof(in), BYTES("", 0))),
			  -EACCES);
}

TEST_F(files, too_large_is_refused_to_its_end)
{
	static char large[LARGE_BYTES];
	struct opened *a = &self->opened[0];
	size_t max;

	max = telemetry_payload_max(self->rig.telemetry, files_line_default(&self->rig));
	ASSERT_LT(max + 1, sizeof(large));
	memset(large, 'x', sizeof(large));
	open_file(self, a, LINES);
	EXPECT_EQ(write_file(self, a, BYTES(large, max)), 0);
	EXPECT_EQ(write_text(self, a, "\n"), 0);
	expect_message(self, BYTES(large, max));
	drain(self);
	/* One byte more, after a piece that was taken and with a good line before it. */
	EXPECT_EQ(write_file(self, a, BYTES(large, max)), 0);
	EXPECT_EQ(write_text(self, a, "x"), -EMSGSIZE);
	EXPECT_EQ(write_text(self, a, "still"), -EMSGSIZE);
	EXPECT_EQ(write_text(self, a, "still\nand now not\n"), -EMSGSIZE);
	expect_no_message(self);
	EXPECT_EQ(write_text(self, a, "good\n"), 0);
	expect_text(self, "good");
	EXPECT_EQ(write_file(self, a, BYTES(large, max + 1)), -EMSGSIZE);
	close_file(self, a);
	expect_no_message(self);

	open_file(self, a, RAW);
	EXPECT_EQ(write_file(self, a, BYTES(large, max + 1)), -EMSGSIZE);
	EXPECT_EQ(write_text(self, a, "good"), 0);
	expect_text(self, "good");
	drain(self);
	EXPECT_EQ(write_file(self, a, BYTES(large, max)), 0);
	expect_message(self, BYTES(large, max));
	drain(self);
	close_file(self, a);

	open_file(self, a, WHOLE);
	EXPECT_EQ(write_file(self, a, BYTES(large, max)), 0);
	EXPECT_EQ(write_text(self, a, "x"), -EMSGSIZE);
	EXPECT_EQ(write_text(self, a, "x"), -EMSGSIZE);
	close_file(self, a);
	expect_no_message(self);
}

/* Fills the queue up to less than @left_bytes. */
static void fill(struct fixture_files *self, struct opened *raw, size_t left_bytes)
{
	static char block[16 * 1024];

	open_file(self, raw, RAW);
	for (size_t n = sizeof(block); QUEUE_BYTES - journal_n_bytes(self->rig.journal) >= left_bytes;) {
		int r = write_file(self, raw, BYTES(block, n));

		if (r == -ENOSPC) {
			expect_no_message(self);
			n /= 2;
			continue;
		}
		ASSERT_EQ(r, 0);
		expect_message(self, BYTES(block, n));
	}
}

TEST_F(files, a_full_queue_takes_nothing_by_halves)
{
	struct opened *raw = &self->opened[0], *b = &self->opened[1], *c = &self->opened[2];
	static char lines[4096];

	for (size_t i = 0; i < sizeof(lines); ++i)
		lines[i] = i % 2 ? '\n' : 'y';
	fill(self, raw, sizeof(lines) * 20);
	open_file(self, b, LINES);
	/* Many short lines need more than their bytes. */
	EXPECT_EQ(write_file(self, b, BYTES(lines, sizeof(lines))), -ENOSPC);
	close_file(self, raw);
	fill(self, raw, 4096);
	/* No room for a piece whose end may be far away. */
	EXPECT_EQ(write_text(self, b, "piece"), -ENOSPC);
	close_file(self, b);
	open_file(self, b, LINES);
	EXPECT_EQ(write_text(self, b, "whole\npiece"), -ENOSPC);
	open_file(self, c, WHOLE);
	EXPECT_EQ(write_text(self, c, "piece"), -ENOSPC);
	expect_no_message(self);
	EXPECT_EQ(fuse_line_poll(&self->rig.line, self->nodes[LINES], b->fh) & POLLOUT, 0u);
	drain(self);
	EXPECT_NE(fuse_line_poll(&self->rig.line, self->nodes[LINES], b->fh) & POLLOUT, 0u);
	EXPECT_EQ(write_text(self, b, "whole\npiece"), 0);
	expect_text(self, "whole");
	EXPECT_EQ(write_text(self, c, "piece"), 0);
	close_file(self, raw);
	close_file(self, c);
	expect_text(self, "piece");
	close_file(self, b);
	expect_text(self, "piece");
}

TEST_F(files, who_goes_on_after_a_full_queue_gets_no_message_with_a_hole)
{
	struct opened *raw = &self->opened[0], *a = &self->opened[1], *w = &self->opened[2];
	static char second[20000];

	memset(second, 's', sizeof(second));
	/* The first piece is refused: what follows is not a line of its own, up to its end. */
	fill(self, raw, 4096);
	open_file(self, a, LINES);
	EXPECT_EQ(write_text(self, a, "first "), -ENOSPC);
	drain(self);
	EXPECT_EQ(write_text(self, a, "second "), -ENOSPC);
	EXPECT_EQ(write_text(self, a, "third\n"), -ENOSPC);
	EXPECT_EQ(write_text(self, a, "good\n"), 0);
	expect_text(self, "good");
	expect_no_message(self);
	/* A piece in the middle is. */
	EXPECT_EQ(write_text(self, a, "first "), 0);
	close_file(self, raw);
	fill(self, raw, 4096);
	EXPECT_EQ(write_file(self, a, BYTES(second, sizeof(second))), -ENOSPC);
	drain(self);
	EXPECT_EQ(write_text(self, a, "third\n"), -ENOSPC);
	EXPECT_EQ(write_text(self, a, "good\n"), 0);
	expect_text(self, "good");
	/* The piece that ends the line: the next write starts another. */
	EXPECT_EQ(write_text(self, a, "first "), 0);
	close_file(self, raw);
	fill(self, raw, 4096);
	second[sizeof(second) - 1] = '\n';
	EXPECT_EQ(write_file(self, a, BYTES(second, sizeof(second))), -ENOSPC);
	drain(self);
	EXPECT_EQ(write_text(self, a, "good\n"), 0);
	expect_text(self, "good");
	/* A file has only one end. */
	close_file(self, raw);
	fill(self, raw, 4096);
	open_file(self, w, WHOLE);
	EXPECT_EQ(write_text(self, w, "first "), -ENOSPC);
	drain(self);
	EXPECT_EQ(write_text(self, w, "second\n"), -ENOSPC);
	EXPECT_EQ(write_text(self, w, "third\n"), -ENOSPC);
	close_file(self, w);
	close_file(self, a);
	close_file(self, raw);
	expect_no_message(self);
	drain(self);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(files, who_repeats_a_refused_write_goes_on_with_the_message)
{
	struct opened *raw = &self->opened[0], *a = &self->opened[1], *w = &self->opened[2];
	static char rest[20000], want[20002];

	memset(rest, 'r', sizeof(rest));
	memset(want, 'r', sizeof(want));
	want[0] = want[1] = 'a';
	open_file(self, a, LINES);
	open_file(self, w, WHOLE);
	EXPECT_EQ(write_text(self, a, "aa"), 0);
	EXPECT_EQ(write_text(self, w, "aa"), 0);
	fill(self, raw, 4096);
	for (int i = 0; i < 3; ++i) {
		EXPECT_EQ(write_file(self, a, BYTES(rest, sizeof(rest))), -ENOSPC);
		EXPECT_EQ(write_file(self, w, BYTES(rest, sizeof(rest))), -ENOSPC);
	}
	drain(self);
	EXPECT_EQ(write_file(self, a, BYTES(rest, sizeof(rest))), 0);
	EXPECT_EQ(write_file(self, w, BYTES(rest, sizeof(rest))), 0);
	close_file(self, raw);
	close_file(self, a);
	close_file(self, w);
	expect_message(self, BYTES(want, sizeof(want)));
	expect_message(self, BYTES(want, sizeof(want)));
}

TEST_F(files, who_gives_up_after_a_full_queue_leaves_no_beginning)
{
	struct opened *raw = &self->opened[0], *a = &self->opened[1], *w = &self->opened[2];
	static char rest[20000];

	memset(rest, 'r', sizeof(rest));
	open_file(self, a, LINES);
	open_file(self, w, WHOLE);
	EXPECT_EQ(write_text(self, a, "aa"), 0);
	EXPECT_EQ(write_text(self, w, "aa"), 0);
	fill(self, raw, 4096);
	EXPECT_EQ(write_file(self, a, BYTES(rest, sizeof(rest))), -ENOSPC);
	EXPECT_EQ(write_file(self, w, BYTES(rest, sizeof(rest))), -ENOSPC);
	close_file(self, raw);
	close_file(self, a);
	close_file(self, w);
	expect_no_message(self);
	drain(self);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(files, what_was_promised_to_a_piece_is_there)
{
	struct opened *raw = &self->opened[0], *b = &self->opened[1], *c = &self->opened[2];
	static char rest[4000], want[2 * sizeof(rest)];

	memset(rest, 'r', sizeof(rest));
	open_file(self, b, LINES);
	open_file(self, c, WHOLE);
	EXPECT_EQ(write_text(self, b, "piece"), 0);
	EXPECT_EQ(write_text(self, c, "other"), 0);
	fill(self, raw, JOURNAL_RECORD_OVERHEAD + STAMP_LEN + 8);
	EXPECT_EQ(write_text(self, raw, "12345678"), -ENOSPC);
	EXPECT_EQ(write_file(self, b, BYTES(rest, sizeof(rest))), 0);
	EXPECT_EQ(write_file(self, c, BYTES(rest, sizeof(rest))), 0);
	EXPECT_EQ(write_text(self, b, "\n"), 0);
	memcpy(want, "piece", 5);
	memcpy(want + 5, rest, sizeof(rest));
	expect_message(self, BYTES(want, 5 + sizeof(rest)));
	close_file(self, c);
	memcpy(want, "other", 5);
	expect_message(self, BYTES(want, 5 + sizeof(rest)));
	close_file(self, b);
	close_file(self, raw);
	drain(self);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
}

TEST_F(files, a_queue_that_closes_takes_nothing_new)
{
	struct opened *a = &self->opened[0];

	open_file(self, a, LINES);
	EXPECT_EQ(write_text(self, a, "one\ntwo"), 0);
	telemetry_close(self->rig.telemetry);
	EXPECT_EQ(write_text(self, a, "three\n"), -ESHUTDOWN);
	EXPECT_EQ(fuse_line_poll(&self->rig.line, self->nodes[LINES], a->fh) & POLLOUT, 0u);
	close_file(self, a);
	expect_text(self, "one");
	expect_text(self, "two");
}

TEST_F(files, waiting_for_the_hub)
{
	struct opened *a = &self->opened[0];
	uint64_t write, sync;

	open_file(self, a, LINES);
	write = fuse_line_write(&self->rig.line, self->nodes[LINES], a->fh, O_WRONLY | O_SYNC,
				BYTES_LIT("a\nb\nrest"));
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), FUSE_LINE_WAITS);
	/* No message, nothing to wait for. */
	EXPECT_EQ(
		fuse_line_result(&self->rig.line, fuse_line_write(&self->rig.line, self->nodes[LINES], a->fh,
								  O_WRONLY | O_SYNC, BYTES_LIT("of"))),
		0);
	sync = fuse_line_fsync(&self->rig.line, self->nodes[LINES], a->fh);
	EXPECT_EQ(fuse_line_result(&self->rig.line, sync), FUSE_LINE_WAITS);
	expect_text(self, "a");
	expect_text(self, "b");
	files_line_take(&self->rig, 1);
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), FUSE_LINE_WAITS);
	files_line_take(&self->rig, 2);
	EXPECT_EQ(fuse_line_result(&self->rig.line, write), 0);
	EXPECT_EQ(fuse_line_result(&self->rig.line, sync), 0);
	EXPECT_EQ(fuse_line_result(&self->rig.line,
				   fuse_line_fsync(&self->rig.line, self->nodes[LINES], a->fh)),
		  0);
}

/* --- any writes, compared with a simple framer
 * ----------------------------------------------------------------- */

static size_t pick(size_t n)
{
	return (size_t)(test_random() % n);
}

/* What the simple framer says to @data: 0, -EMSGSIZE, or -ENOSPC behind a hole. */
static int framer_check(const struct opened *o, struct bytes data, size_t max)
{
	size_t len = o->partial_len;

	if (o->kind == RAW)
		return data.len > max ? -EMSGSIZE : 0;
	if (o->refusing)
		return o->refusing;
	for (size_t i = 0; i < data.len; ++i) {
		len = o->kind == LINES && data.data[i] == '\n' ? 0 : len + 1;
		if (len > max)
			return -EMSGSIZE;
	}
	return 0;
}

/* The framer takes @data byte by byte: every message that comes to its end is the next in the queue. */
static void framer_take(struct fixture_files *self, struct opened *o, struct bytes data)
{
	if (o->kind == RAW) {
		expect_message(self, data);
		return;
	}
	for (size_t i = 0; i < data.len; ++i) {
		if (o->kind == LINES && data.data[i] == '\n') {
			if (o->partial_len)
				expect_message(self, BYTES(o->partial, o->partial_len));
			o->partial_len = 0;
			continue;
		}
		o->partial[o->partial_len++] = (char)data.data[i];
	}
}

static void framer_refuse(struct opened *o, struct bytes data, int error)
{
	if (o->kind == RAW)
		return;
	o->partial_len = 0;
	o->refusing = o->kind == WHOLE || data.data[data.len - 1] != '\n' ? error : 0;
}

/* The writer went on with something else than the write that found the queue full. */
static void framer_hole(struct opened *o)
{
	if (o->kind != RAW)
		framer_refuse(o, BYTES(o->full, o->full_len), -ENOSPC);
	o->full_len = 0;
}

/* The queue may say that it is full only when it is: the message under way and its steps counted. */
static void check_full(struct fixture_files *self, struct opened *o, struct bytes data)
{
	uint64_t n_messages = 0, free_bytes = QUEUE_BYTES - journal_n_bytes(self->rig.journal),
		 need = data.len;

	for (size_t i = 0; i < data.len; ++i)
		n_messages += data.data[i] == '\n';
	++self->n_full;
	need += o->partial_len + (n_messages + 1) * (JOURNAL_RECORD_OVERHEAD + STAMP_LEN) +
		(o->kind == RAW ? 0 : 4096 + JOURNAL_RECORD_OVERHEAD + STAMP_LEN);
	ASSERT_GT(need, free_bytes);
	memcpy(o->full, data.data, data.len);
	o->full_len = data.len;
}

static void step_write(struct fixture_files *self, struct opened *o)
{
	static uint8_t bytes[LARGE_BYTES];
	size_t len = 1 + pick(pick(8)   ? 40
			      : pick(8) ? 2000
					: sizeof(bytes) - 1),
	       newline_every = 1 + pick(pick(2) ? 60 : 100000);
	size_t max = telemetry_payload_max(self->rig.telemetry, files_line_default(&self->rig));
	struct bytes data = BYTES(bytes, len);
	int want, got;

	for (size_t i = 0; i < len; ++i)
		bytes[i] = pick(newline_every) ? (uint8_t)('a' + pick(26)) : '\n';
	if (o->full_len && pick(2)) {
		len = o->full_len;
		memcpy(bytes, o->full, len);
		data.len = len;
		o->full_len = 0;
	} else if (o->full_len) {
		framer_hole(o);
	}
	want = framer_check(o, data, max);
	got = write_file(self, o, data);
	if (got == -ENOSPC && want == 0) {
		check_full(self, o, data);
	} else if (got < 0) {
		ASSERT_EQ(got, want);
		framer_refuse(o, data, got);
		++self->n_refused;
	} else {
		ASSERT_EQ(got, want);
		framer_take(self, o, data);
	}
}

static void step_end(struct fixture_files *self, struct opened *o, bool fsync)
{
	if (fsync) {
		fuse_line_fsync(&self->rig.line, o->node, o->fh);
		if (o->kind != WHOLE)
			return;
	} else {
		close_file(self, o);
		if (o->full_len)
			o->partial_len = 0;
	}
	if (o->partial_len)
		expect_message(self, BYTES(o->partial, o->partial_len));
	o->partial_len = 0;
	o->refusing = 0;
	o->full_len = 0;
}

TEST_F_TIMEOUT(files, any_writes_against_a_simple_framer, 60)
{
	for (size_t i = 0; i < N_STEPS; ++i) {
		struct opened *o = &self->opened[pick(N_FILES)];

		if (!o->open)
			open_file(self, o, (enum kind)pick(N_KINDS));
		else if (!pick(24))
			step_end(self, o, pick(2));
		else
			step_write(self, o);
		expect_no_message(self);
		ASSERT_LE(journal_n_bytes(self->rig.journal), (uint64_t)QUEUE_BYTES);
		if (!pick(300))
			drain(self);
	}
	for (size_t i = 0; i < N_FILES; ++i)
		if (self->opened[i].open)
			step_end(self, &self->opened[i], false);
	expect_no_message(self);
	drain(self);
	/* Nothing is promised to anybody any more. */
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
	TEST_LOG("%" PRIu64 " messages, %" PRIu64 " writes found the queue full, %" PRIu64 " were refused",
		 self->n_messages, self->n_full, self->n_refused);
	EXPECT_GT(self->n_messages, 1000u);
	EXPECT_GT(self->n_full, 100u);
	EXPECT_GT(self->n_refused, 100u);
}

TEST_HARNESS_MAIN
