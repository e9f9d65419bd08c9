/* SPDX-License-Identifier: MIT */
/*
 * Lines for many readers, in a tree without a kernel: pieces of any size, waiting, O_NONBLOCK, poll, and who is too
 * slow.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>

#include "flow/lines.h"
#include "tests/support/fuse_line.h"

FIXTURE(lines)
{
	struct log log;
	struct fuse_tree *tree;
	struct lines *lines;
	struct fuse_line line;
	uint64_t node;
};

static void begin(struct fixture_lines *self, bool from_start)
{
	const struct fuse_tree_options tree = {.log = &self->log, .root_mode = 0755};
	const struct config_access access = {.mode = 0440};
	struct lines_options options = {
		.name = "happened", .access = &access, .bytes_max = LINES_LINE_MAX, .from_start = from_start};

	log_init(&self->log, "test", LOG_LEVEL_ERROR);
	ASSERT_EQ(fuse_tree_new(&self->tree, &tree), 0);
	options.parent = fuse_tree_root(self->tree);
	ASSERT_EQ(lines_new(&self->lines, &options), 0);
	fuse_line_init(&self->line, self->tree);
	self->node = fuse_line_lookup(&self->line, "happened");
}

FIXTURE_SETUP(lines)
{
	begin(self, true);
}

FIXTURE_TEARDOWN(lines)
{
	if (!self->tree)
		return;
	fuse_tree_detach(self->tree);
	fuse_tree_free(self->tree);
	lines_free(self->lines);
}

static uint64_t reader_open(struct fixture_lines *self)
{
	return fuse_line_open(&self->line, self->node, O_RDONLY);
}

static uint64_t reader_ask(struct fixture_lines *self, uint64_t fh, uint32_t size)
{
	return fuse_line_read(&self->line, self->node, fh, O_RDONLY, 0, size);
}

static void expect_data(struct fixture_lines *self, uint64_t unique, const char *text)
{
	struct bytes data = fuse_line_data(&self->line, unique);

	EXPECT_EQ(data.len, strlen(text));
	if (data.len == strlen(text))
		EXPECT_MEMEQ(data.data, text, data.len);
}

static void put(struct fixture_lines *self, const char *text)
{
	lines_put(self->lines, bytes_from_str(text));
}

TEST_F(lines, one_line_a_read)
{
	uint64_t fh = reader_open(self);

	put(self, "one");
	put(self, "");
	expect_data(self, reader_ask(self, fh, 100), "one\n");
	expect_data(self, reader_ask(self, fh, 100), "\n");
}

TEST_F(lines, pieces)
{
	uint64_t fh = reader_open(self);

	put(self, "one");
	put(self, "two");
	expect_data(self, reader_ask(self, fh, 1), "o");
	expect_data(self, reader_ask(self, fh, 2), "ne");
	expect_data(self, reader_ask(self, fh, 2), "\n");
	expect_data(self, reader_ask(self, fh, 4), "two\n");
}

TEST_F(lines, every_reader_gets_every_line)
{
	uint64_t early = reader_open(self), late;

	put(self, "one");
	late = reader_open(self);
	put(self, "two");
	expect_data(self, reader_ask(self, early, 100), "one\n");
	expect_data(self, reader_ask(self, late, 100), "one\n");
	expect_data(self, reader_ask(self, early, 100), "two\n");
	expect_data(self, reader_ask(self, late, 100), "two\n");
}

TEST_F(lines, waiting)
{
	uint64_t first = reader_open(self), second = reader_open(self), a, b, c;

	a = reader_ask(self, first, 2);
	b = reader_ask(self, second, 100);
	c = reader_ask(self, first, 100);
	EXPECT_EQ(fuse_line_result(&self->line, a), FUSE_LINE_WAITS);
	EXPECT_EQ(fuse_line_poll(&self->line, self->node, second), 0u);
	put(self, "one");
	expect_data(self, a, "on");
	expect_data(self, b, "one\n");
	expect_data(self, c, "e\n");
	EXPECT_GE(self->line.n_notes, 1u);
}

TEST_F(lines, interrupted)
{
	uint64_t fh = reader_open(self), a = reader_ask(self, fh, 100);

	fuse_line_interrupt(&self->line, a);
	EXPECT_EQ(fuse_line_result(&self->line, a), -EINTR);
	put(self, "one");
	expect_data(self, reader_ask(self, fh, 100), "one\n");
}

TEST_F(lines, closed_while_waiting)
{
	uint64_t fh = reader_open(self), a = reader_ask(self, fh, 100);

	fuse_line_release(&self->line, self->node, fh);
	EXPECT_EQ(fuse_line_result(&self->line, a), -EINTR);
	put(self, "one");
}

TEST_F(lines, too_many_requests_wait)
{
	uint64_t fh = reader_open(self);

	for (int i = 0; i < 16; ++i)
		EXPECT_EQ(fuse_line_result(&self->line, reader_ask(self, fh, 100)), FUSE_LINE_WAITS);
	EXPECT_EQ(fuse_line_result(&self->line, reader_ask(self, fh, 100)), -EBUSY);
}

TEST_F(lines, without_blocking)
{
	uint64_t fh = fuse_line_open(&self->line, self->node, O_RDONLY | O_NONBLOCK);
	uint64_t a = fuse_line_read(&self->line, self->node, fh, O_RDONLY | O_NONBLOCK, 0, 100);

	EXPECT_EQ(fuse_line_result(&self->line, a), -EAGAIN);
	put(self, "one");
	EXPECT_TRUE(fuse_line_poll(&self->line, self->node, fh) & POLLIN);
	expect_data(self, fuse_line_read(&self->line, self->node, fh, O_RDONLY | O_NONBLOCK, 0, 2), "on");
	EXPECT_TRUE(fuse_line_poll(&self->line, self->node, fh) & POLLIN);
	expect_data(self, reader_ask(self, fh, 100), "e\n");
	EXPECT_FALSE(fuse_line_poll(&self->line, self->node, fh) & POLLIN);
}

TEST_F(lines, too_slow)
{
	uint64_t slow = reader_open(self), half = reader_open(self);
	char text[1000];

	memset(text, 'x', sizeof(text));
	put(self, "one");
	put(self, "two");
	expect_data(self, reader_ask(self, half, 2), "on");
	/* 65 of 1001 bytes fit; with those before, 37 lines go. */
	for (int i = 0; i < 100; ++i)
		lines_put(self->lines, BYTES(text, sizeof(text)));
	expect_data(self, reader_ask(self, slow, 100), "{\"lost\":37}\n");
	EXPECT_EQ(fuse_line_data(&self->line, reader_ask(self, slow, 1000)).len, 1000u);
	/* The line it was reading stays whole. */
	expect_data(self, reader_ask(self, half, 100), "e\n");
	expect_data(self, reader_ask(self, half, 100), "{\"lost\":36}\n");
}

TEST_F(lines, long_line_is_cut)
{
	static char text[LINES_LINE_MAX + 10];
	uint64_t fh = reader_open(self);
	size_t n = 0, len;

	memset(text, 'x', sizeof(text));
	lines_put(self->lines, BYTES(text, sizeof(text)));
	do {
		struct bytes data = fuse_line_data(&self->line, reader_ask(self, fh, 1000));

		len = data.len;
		n += len;
		ASSERT_GT(len, 0u);
		if (data.data[len - 1] == '\n')
			break;
	} while (n <= sizeof(text));
	EXPECT_EQ(n, (size_t)LINES_LINE_MAX);
}

TEST_F(lines, only_for_reading)
{
	const struct fuse_open_in in = {.flags = O_WRONLY};
	uint64_t a = fuse_line_request(&self->line, FUSE_OPEN, self->node, &in, sizeof(in), BYTES("", 0));

	EXPECT_EQ(fuse_line_result(&self->line, a), -EACCES);
}

FIXTURE(news)
{
	struct fixture_lines lines;
};

FIXTURE_SETUP(news)
{
	begin(&self->lines, false);
}

FIXTURE_TEARDOWN(news)
{
	fixture_lines_teardown(&self->lines);
}

TEST_F(news, only_what_comes)
{
	struct fixture_lines *lines = &self->lines;
	uint64_t fh;

	put(lines, "one");
	fh = reader_open(lines);
	put(lines, "two");
	expect_data(lines, reader_ask(lines, fh, 100), "two\n");
}

TEST_HARNESS_MAIN
