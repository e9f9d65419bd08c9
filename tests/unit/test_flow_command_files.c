/* SPDX-License-Identifier: MIT */
/*
 * The files of commands behind a tree without a kernel and a link whose hub is the test: who gets which command, in
 * pieces of any size, and what reading, closing and settling make of it.
 */

#include <fcntl.h>
#include <poll.h>

#include "base/cleanup.h"
#include "flow/command_files.h"
#include "tests/support/fuse_line.h"
#include "tests/support/hub_line.h"

#define TIME_TEXT  "2021-04-21T11:30:16Z"
#define PIECE_SIZE 100 /* what a reply of the line may have */
#define N_WAITING  4096

FIXTURE(files)
{
	struct hub_line hub;
	struct commands *commands;
	struct fuse_tree *tree;
	struct command_files *files;
	struct fuse_line line;
};

/* An open file. */
struct opened {
	struct fixture_files *self;
	uint64_t node;
	uint64_t fh;
};

/* After the files the tables, in the daemon's order. */
static void stop(struct fixture_files *self)
{
	if (!self->tree)
		return;
	commands_close(self->commands);
	fuse_tree_detach(self->tree);
	fuse_tree_free(self->tree);
	self->tree = NULL;
	command_files_free(self->files);
}

FIXTURE_SETUP(files)
{
	const struct fuse_tree_options tree = {.root_mode = 0755};
	const struct config_access read_access = {.mode = 0444}, settle_access = {.mode = 0222};
	struct commands_options options;

	hub_line_init(&self->hub);
	options = (struct commands_options){.log = &self->hub.log, .link = self->hub.link};
	ASSERT_EQ(commands_new(&self->commands, &options), 0);
	ASSERT_EQ(fuse_tree_new(&self->tree, &tree), 0);
	ASSERT_EQ(command_files_new(&self->files, self->commands, fuse_tree_root(self->tree), &read_access,
				    &settle_access, NULL),
		  0);
	fuse_line_init(&self->line, self->tree);
	hub_line_online(&self->hub);
}

FIXTURE_TEARDOWN(files)
{
	if (test_is_orphan())
		return;
	stop(self);
	commands_free(self->commands);
	hub_line_deinit(&self->hub);
}

/* --- the hub's side --------------------------------------------------------------------------- */

/* Packet identifier and sequence-no are the same. */
static void deliver_bytes(struct fixture_files *self, uint16_t number, struct bytes payload)
{
	char text[12];

	snprintf(text, sizeof(text), "%u", number);
	hub_line_command(&self->hub, &(struct hub_line_command){.packet_id = number,
								.sequence_no = text,
								.enqueued_time = TIME_TEXT,
								.delivery_count = "1",
								.payload = payload});
}

static void deliver(struct fixture_files *self, uint16_t number, const char *payload)
{
	deliver_bytes(self, number, bytes_from_str(payload));
}

static void expect_answers(struct fixture_files *self, const char *want)
{
	EXPECT_STREQ(hub_line_answers(&self->hub), want);
}

/* --- the users' side -------------------------------------------------------------------------- */

/* The node of a path below the root; 0 = there is none. */
static uint64_t lookup(struct fixture_files *self, const char *path)
{
	uint64_t node = FUSE_ROOT_ID;

	while (*path) {
		size_t len = strcspn(path, "/");
		struct fuse_entry_out out;
		char name[256] = "";
		uint64_t unique;

		memcpy(name, path, len);
		unique = fuse_line_request(&self->line, FUSE_LOOKUP, node, name, len + 1, BYTES("", 0));
		if (fuse_line_result(&self->line, unique) == -ENOENT)
			return 0;
		fuse_line_body(&self->line, unique, &out, sizeof(out));
		node = out.nodeid;
		path += len + (path[len] == '/');
		if (!node)
			return 0;
	}
	return node;
}

static struct opened open_flags(struct fixture_files *self, const char *path, uint32_t flags)
{
	struct opened o = {.self = self, .node = lookup(self, path)};

	ASSERT_NE(o.node, 0u);
	o.fh = fuse_line_open(&self->line, o.node, flags);
	return o;
}

static struct opened open_file(struct fixture_files *self, const char *path)
{
	return open_flags(self, path, O_RDONLY);
}

static int open_error(struct fixture_files *self, const char *path, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	return fuse_line_result(&self->line, fuse_line_request(&self->line, FUSE_OPEN, lookup(self, path),
							       &in, sizeof(in), BYTES("", 0)));
}

static void close_file(struct opened *o)
{
	fuse_line_release(&o->self->line, o->node, o->fh);
}

static uint64_t read_start(struct opened *o, uint32_t size, uint64_t offset, uint32_t flags)
{
	const struct fuse_read_in in = {.fh = o->fh, .offset = offset, .size = size, .flags = flags};

	return fuse_line_request(&o->self->line, FUSE_READ, o->node, &in, sizeof(in), BYTES("", 0));
}

static void expect_data(struct opened *o, uint64_t unique, const char *want)
{
	const struct fuse_line_reply *reply = fuse_line_slot(&o->self->line, unique);
	char got[PIECE_SIZE + 1] = "";

	ASSERT_EQ(fuse_line_result(&o->self->line, unique), 0);
	ASSERT_LE(reply->len, (size_t)PIECE_SIZE);
	memcpy(got, reply->body, reply->len);
	EXPECT_STREQ(got, want);
}

static void expect_waits(struct opened *o, uint64_t unique)
{
	EXPECT_EQ(fuse_line_result(&o->self->line, unique), FUSE_LINE_WAITS);
}

/* One READ, answered at once. */
static void expect_read(struct opened *o, uint32_t size, const char *want)
{
	expect_data(o, read_start(o, size, 0, O_RDONLY), want);
}

static int read_error(struct opened *o, uint32_t flags)
{
	return fuse_line_result(&o->self->line, read_start(o, 1, 0, flags));
}

/* A whole line of the stream, in pieces of @size. */
static void expect_line(struct opened *o, uint32_t size, unsigned int number, const char *payload)
{
	char want[512], got[512];
	size_t len = 0;

	snprintf(want, sizeof(want),
		 "{\"sequence-no\":%u,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\",\"delivery-count\":1,"
		 "\"properties\":{},\"payload\":\"%s\"}\n",
		 number, payload);
	do {
		uint64_t unique = read_start(o, size, len, O_RDONLY);
		const struct fuse_line_reply *reply = fuse_line_slot(&o->self->line, unique);

		ASSERT_EQ(fuse_line_result(&o->self->line, unique), 0);
		ASSERT_TRUE(reply->len > 0 && reply->len <= size);
		ASSERT_LT(len + reply->len, sizeof(got));
		memcpy(got + len, reply->body, reply->len);
		len += reply->len;
	} while (got[len - 1] != '\n');
	got[len] = '\0';
	EXPECT_STREQ(got, want);
}

static uint32_t poll_file(struct opened *o)
{
	return fuse_line_poll(&o->self->line, o->node, o->fh) & POLLIN;
}

/* FLUSH from @pid. */
static void flush_file(struct opened *o, pid_t pid)
{
	struct {
		struct fuse_in_header header;
		struct fuse_flush_in in;
	} request = {
		.header = {.len = sizeof(request),
			   .opcode = FUSE_FLUSH,
			   .unique = o->self->line.unique += 2,
			   .nodeid = o->node,
			   .pid = (uint32_t)pid},
		.in = {.fh = o->fh},
	};

	fuse_tree_request(o->self->tree, BYTES(&request, sizeof(request)));
	EXPECT_EQ(fuse_line_result(&o->self->line, request.header.unique), 0);
}

/* --- next ------------------------------------------------------------------------------------- */

TEST_F(files, next_is_one_command_and_ends_in_a_newline)
{
	static const struct {
		const char *payload, *next, *raw;
	} cases[] = {
		{"on", "on\n", "on"}, {"on\n", "on\n", "on\n"}, {"a\nb", "a\nb\n", "a\nb"},
		{"\n", "\n", "\n"},   {"", "\n", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); ++i) {
		struct opened o = open_file(self, "commands/next");

		deliver(self, 1, cases[i].payload);
		deliver(self, 2, cases[i].payload);
		expect_read(&o, PIECE_SIZE, cases[i].next);
		expect_read(&o, PIECE_SIZE, "");
		expect_read(&o, PIECE_SIZE, "");
		expect_answers(self, "");
		close_file(&o);
		expect_answers(self, "1 complete;");
		o = open_file(self, "commands/next.raw");
		expect_read(&o, PIECE_SIZE, cases[i].raw);
		expect_read(&o, PIECE_SIZE, "");
		close_file(&o);
		expect_answers(self, "2 complete;");
		/* The hub forgets, so that numbers may come again. */
		stop(self);
		commands_free(self->commands);
		hub_line_deinit(&self->hub);
		*self = (struct fixture_files){.tree = NULL};
		fixture_files_setup_typed(self);
	}
}

TEST_F(files, a_command_in_pieces)
{
	struct opened o = open_file(self, "commands/next");

	deliver(self, 1, "abcd");
	expect_read(&o, 1, "a");
	expect_read(&o, 2, "bc");
	expect_read(&o, 1, "d");
	expect_read(&o, 1, "\n");
	/* All is read; the end of file need not be. */
	close_file(&o);
	expect_answers(self, "1 complete;");
}

TEST_F(files, what_is_read_by_halves_is_abandoned)
{
	struct opened o = open_file(self, "commands/next");

	deliver(self, 1, "abcd");
	expect_read(&o, 4, "abcd");
	close_file(&o);
	expect_answers(self, "1 0603;");
	o = open_file(self, "commands/next.raw");
	deliver(self, 2, "abcd");
	expect_read(&o, 3, "abc");
	close_file(&o);
	expect_answers(self, "2 0603;");
}

TEST_F(files, open_and_poll_take_nothing)
{
	struct opened next = open_file(self, "commands/next"), other = open_file(self, "commands/next");
	struct opened stream = open_file(self, "commands/stream");

	EXPECT_EQ(poll_file(&next) | poll_file(&other) | poll_file(&stream), 0u);
	EXPECT_EQ(read_error(&next, O_NONBLOCK), -EAGAIN);
	EXPECT_EQ(read_error(&stream, O_NONBLOCK), -EAGAIN);
	deliver(self, 1, "x");
	EXPECT_TRUE(poll_file(&next) && poll_file(&other) && poll_file(&stream));
	/* The first file of the line has the handle 0, by which nobody is woken. */
	EXPECT_EQ(self->line.n_notes, 2u);
	expect_read(&next, 1, "x");
	/* Bytes are left for one, nothing waits for the others. */
	EXPECT_TRUE(poll_file(&next));
	EXPECT_EQ(poll_file(&other) | poll_file(&stream), 0u);
	EXPECT_EQ(read_error(&other, O_NONBLOCK), -EAGAIN);
	expect_read(&next, 2, "\n");
	/* The end of file does not wait. */
	EXPECT_TRUE(poll_file(&next));
	expect_read(&next, 1, "");
	close_file(&other);
	close_file(&stream);
	expect_answers(self, "");
	close_file(&next);
	expect_answers(self, "1 complete;");
}

TEST_F(files, each_reader_gets_its_own_in_the_order_of_asking)
{
	struct opened a = open_file(self, "commands/next"), b = open_file(self, "commands/next.raw");
	struct opened c = open_file(self, "commands/stream"), d = open_file(self, "commands/next");
	uint64_t read_d = read_start(&d, PIECE_SIZE, 0, O_RDONLY);
	uint64_t read_b = read_start(&b, PIECE_SIZE, 0, O_RDONLY);
	uint64_t read_c = read_start(&c, 20, 0, O_RDONLY), read_a = read_start(&a, PIECE_SIZE, 0, O_RDONLY);

	deliver(self, 1, "one");
	expect_data(&d, read_d, "one\n");
	expect_waits(&b, read_b);
	deliver(self, 2, "two");
	deliver(self, 3, "three");
	expect_data(&b, read_b, "two");
	expect_data(&c, read_c, "{\"sequence-no\":3,\"en");
	expect_waits(&a, read_a);
	/* Interrupted: it goes to somebody else. */
	fuse_line_interrupt(&self->line, read_a);
	EXPECT_EQ(fuse_line_result(&self->line, read_a), -EINTR);
	deliver(self, 4, "four");
	expect_read(&a, PIECE_SIZE, "four\n");
	close_file(&a);
	close_file(&b);
	close_file(&c);
	close_file(&d);
	expect_answers(self, "4 complete;2 complete;3 0603;1 complete;");
}

/* --- stream ----------------------------------------------------------------------------------- */

TEST_F(files, the_next_read_completes_a_line)
{
	struct opened o = open_file(self, "commands/stream");
	uint64_t unique;

	deliver(self, 1, "one");
	deliver(self, 2, "two");
	deliver(self, 3, "three");
	/* As a shell reads. */
	expect_line(&o, 1, 1, "one");
	expect_answers(self, "");
	EXPECT_TRUE(poll_file(&o));
	expect_answers(self, "");
	/* And as others do. */
	expect_line(&o, PIECE_SIZE, 2, "two");
	expect_answers(self, "1 complete;");
	expect_line(&o, 7, 3, "three");
	expect_answers(self, "2 complete;");
	EXPECT_EQ(poll_file(&o), 0u);
	EXPECT_EQ(read_error(&o, O_NONBLOCK), -EAGAIN);
	expect_answers(self, "3 complete;");
	deliver(self, 4, "four");
	expect_line(&o, 50, 4, "four");
	unique = read_start(&o, 1, 0, O_RDONLY);
	expect_answers(self, "4 complete;");
	deliver(self, 5, "five");
	expect_data(&o, unique, "{");
	close_file(&o);
	expect_answers(self, "5 0603;");
}

TEST_F(files, closing_abandons_what_was_not_asked_beyond)
{
	struct opened o = open_file(self, "commands/stream");

	deliver(self, 1, "one");
	expect_line(&o, PIECE_SIZE, 1, "one");
	close_file(&o);
	expect_answers(self, "1 0603;");
	o = open_file(self, "commands/stream");
	deliver(self, 2, "two");
	expect_line(&o, PIECE_SIZE, 2, "two");
	EXPECT_EQ(read_error(&o, O_NONBLOCK), -EAGAIN);
	close_file(&o);
	expect_answers(self, "2 complete;");
}

TEST_F(files, who_shares_a_stream_has_one_command_at_a_time)
{
	struct opened o = open_file(self, "commands/stream");
	uint64_t a = read_start(&o, 1, 0, O_RDONLY), b = read_start(&o, 1, 0, O_RDONLY), c;

	deliver(self, 1, "one");
	deliver(self, 2, "two");
	/* Two bytes of one line. */
	expect_data(&o, a, "{");
	expect_data(&o, b, "\"");
	for (size_t left = strlen("{\"sequence-no\":1,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\","
				  "\"delivery-count\":1,\"properties\":{},\"payload\":\"one\"}\n") -
			   2;
	     left > 0; --left)
		ASSERT_EQ(read_error(&o, O_RDONLY), 0);
	expect_answers(self, "");
	ASSERT_EQ(read_error(&o, O_RDONLY), 0);
	expect_answers(self, "1 complete;");
	close_file(&o);
	expect_answers(self, "2 0603;");
	/* Who waited before a line was there did not ask for what follows it. */
	o = open_file(self, "commands/next");
	a = read_start(&o, 2, 0, O_RDONLY);
	b = read_start(&o, 2, 0, O_RDONLY);
	c = read_start(&o, 2, 0, O_RDONLY);
	deliver(self, 3, "");
	expect_data(&o, a, "\n");
	expect_data(&o, b, "");
	expect_data(&o, c, "");
	close_file(&o);
	expect_answers(self, "3 complete;");
}

TEST_F(files, a_read_that_waits_does_not_complete_the_line_that_comes)
{
	struct opened o = open_file(self, "commands/stream");
	uint64_t a = read_start(&o, PIECE_SIZE, 0, O_RDONLY), b = read_start(&o, PIECE_SIZE, 0, O_RDONLY), c;

	deliver(self, 1, "a text so that all takes two pieces");
	deliver(self, 2, "two");
	EXPECT_EQ(fuse_line_result(&self->line, a), 0);
	EXPECT_EQ(fuse_line_result(&self->line, b), 0);
	a = read_start(&o, PIECE_SIZE, 0, O_RDONLY);
	expect_answers(self, "1 complete;");
	EXPECT_EQ(fuse_line_result(&self->line, a), 0);
	b = read_start(&o, PIECE_SIZE, 0, O_RDONLY);
	EXPECT_EQ(fuse_line_result(&self->line, b), 0);
	a = read_start(&o, PIECE_SIZE, 0, O_RDONLY);
	b = read_start(&o, PIECE_SIZE, 0, O_RDONLY);
	c = read_start(&o, PIECE_SIZE, 0, O_RDONLY);
	expect_answers(self, "2 complete;");
	deliver(self, 3, "another text, so that all takes two pieces");
	deliver(self, 4, "four");
	EXPECT_EQ(fuse_line_result(&self->line, a), 0);
	EXPECT_EQ(fuse_line_result(&self->line, b), 0);
	expect_waits(&o, c);
	expect_answers(self, "");
	/* This one asks, and the one in line before it gets the answer. */
	a = read_start(&o, PIECE_SIZE, 0, O_RDONLY);
	expect_answers(self, "3 complete;");
	EXPECT_EQ(fuse_line_result(&self->line, c), 0);
	EXPECT_EQ(fuse_line_result(&self->line, a), 0);
	close_file(&o);
	expect_answers(self, "4 0603;");
}

/* --- who is killed ---------------------------------------------------------------------------- */

/* A process that has ended by @signo, or by itself with 0, and was not waited for. */
static pid_t dead_process(int signo)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0) {
		if (signo)
			raise(signo);
		_exit(1);
	}
	ASSERT_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	return pid;
}

TEST_F(files, a_command_of_somebody_killed_is_abandoned)
{
	pid_t killed = dead_process(SIGKILL), ended = dead_process(0);
	struct opened o = open_file(self, "commands/next");

	deliver(self, 1, "one");
	expect_read(&o, PIECE_SIZE, "one\n");
	flush_file(&o, ended);
	flush_file(&o, getpid());
	close_file(&o);
	expect_answers(self, "1 complete;");
	o = open_file(self, "commands/next.raw");
	deliver(self, 2, "two");
	expect_read(&o, PIECE_SIZE, "two");
	flush_file(&o, killed);
	flush_file(&o, getpid());
	close_file(&o);
	expect_answers(self, "2 0603;");
	/* Who dies before the command comes would have handled what a child reads now. */
	o = open_file(self, "commands/next");
	flush_file(&o, killed);
	deliver(self, 3, "three");
	expect_read(&o, PIECE_SIZE, "three\n");
	flush_file(&o, getpid());
	close_file(&o);
	expect_answers(self, "3 0603;");
	ASSERT_EQ(waitpid(killed, NULL, 0), killed);
	ASSERT_EQ(waitpid(ended, NULL, 0), ended);
}

/* --- directories ------------------------------------------------------------------------------ */

static void expect_size(struct fixture_files *self, const char *path, size_t want)
{
	const struct fuse_getattr_in in = {.getattr_flags = 0};
	struct fuse_attr_out out;

	fuse_line_body(&self->line,
		       fuse_line_request(&self->line, FUSE_GETATTR, lookup(self, path), &in, sizeof(in),
					 BYTES("", 0)),
		       &out, sizeof(out));
	EXPECT_EQ(out.attr.size, want);
}

static int write_file(struct opened *o, const char *text)
{
	return fuse_line_result(&o->self->line, fuse_line_write(&o->self->line, o->node, o->fh, O_WRONLY,
								bytes_from_str(text)));
}

static int settle(struct fixture_files *self, const char *path, const char *word)
{
	struct opened o = open_flags(self, path, O_WRONLY | O_TRUNC);
	int r = write_file(&o, word);

	close_file(&o);
	return r;
}

TEST_F(files, a_command_has_a_directory_until_it_is_settled)
{
	static const char properties[] = "{\"sequence-no\":1,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\","
					 "\"delivery-count\":1,\"properties\":{}}\n";
	struct opened payload, json, next = open_file(self, "commands/next");

	EXPECT_EQ(lookup(self, "commands/1"), 0u);
	deliver_bytes(self, 1, BYTES("a\0b", 3));
	payload = open_file(self, "commands/1/payload");
	json = open_file(self, "commands/1/properties.json");
	expect_size(self, "commands/1/payload", 3);
	expect_size(self, "commands/1/properties.json", strlen(properties));
	expect_read(&payload, PIECE_SIZE, "a");
	expect_data(&payload, read_start(&payload, PIECE_SIZE, 2, O_RDONLY), "b");
	expect_data(&payload, read_start(&payload, PIECE_SIZE, 3, O_RDONLY), "");
	expect_data(&payload, read_start(&payload, PIECE_SIZE, UINT64_C(1) << 40, O_RDONLY), "");
	expect_read(&json, PIECE_SIZE, properties);
	expect_data(&json, read_start(&json, PIECE_SIZE, 90, O_RDONLY), properties + 90);
	/* A reader has it: still there. */
	expect_read(&next, 1, "a");
	EXPECT_NE(lookup(self, "commands/1/settle"), 0u);
	close_file(&next);
	expect_answers(self, "1 0603;");
	EXPECT_EQ(lookup(self, "commands/1"), 0u);
	/* What is open goes on. */
	expect_data(&payload, read_start(&payload, PIECE_SIZE, 2, O_RDONLY), "b");
	expect_data(&json, read_start(&json, PIECE_SIZE, 90, O_RDONLY), properties + 90);
	close_file(&payload);
	close_file(&json);
	EXPECT_EQ(fuse_tree_n_removed(self->tree) > 0, true);
}

TEST_F(files, settle_says_what_becomes_of_a_command)
{
	struct opened settle_file;

	for (uint16_t i = 1; i <= 4; ++i)
		deliver(self, i, "x");
	EXPECT_EQ(settle(self, "commands/1/settle", "complete\n"), 0);
	EXPECT_EQ(settle(self, "commands/2/settle", "abandon"), 0);
	EXPECT_EQ(settle(self, "commands/3/settle", "reject\n"), 0);
	expect_answers(self, "1 complete;2 0603;3 0100;");
	settle_file = open_flags(self, "commands/4/settle", O_WRONLY);
	EXPECT_EQ(write_file(&settle_file, "Complete"), -EINVAL);
	EXPECT_EQ(write_file(&settle_file, "complete\n\n"), -EINVAL);
	EXPECT_EQ(write_file(&settle_file, " complete"), -EINVAL);
	EXPECT_EQ(write_file(&settle_file, "complete abandon"), -EINVAL);
	EXPECT_EQ(write_file(&settle_file, "\n"), -EINVAL);
	expect_answers(self, "");
	EXPECT_EQ(write_file(&settle_file, "complete"), 0);
	EXPECT_EQ(write_file(&settle_file, "complete"), -ESTALE);
	EXPECT_EQ(write_file(&settle_file, "abandon"), -ESTALE);
	close_file(&settle_file);
	expect_answers(self, "4 complete;");
	for (uint16_t i = 1; i <= 4; ++i) {
		char path[32];

		snprintf(path, sizeof(path), "commands/%u", i);
		EXPECT_EQ(lookup(self, path), 0u);
	}
}

TEST_F(files, settle_takes_a_command_from_its_reader)
{
	struct opened next = open_file(self, "commands/next"), stream = open_file(self, "commands/stream");

	deliver(self, 1, "one");
	deliver(self, 2, "two");
	expect_read(&next, 2, "on");
	expect_line(&stream, PIECE_SIZE, 2, "two");
	EXPECT_EQ(settle(self, "commands/1/settle", "reject"), 0);
	EXPECT_EQ(settle(self, "commands/2/settle", "abandon"), 0);
	expect_answers(self, "1 0100;2 0603;");
	expect_read(&next, 5, "e\n");
	expect_read(&next, 5, "");
	close_file(&next);
	deliver(self, 3, "three");
	expect_line(&stream, PIECE_SIZE, 3, "three");
	expect_answers(self, "");
	close_file(&stream);
	expect_answers(self, "3 0603;");
}

TEST_F(files, a_hub_set_up_anew_uses_numbers_again)
{
	struct opened next = open_file(self, "commands/next"), payload, old_settle;
	struct hub_line_command again = {.packet_id = 2,
					 .sequence_no = "1",
					 .enqueued_time = "2022-01-01T00:00:00Z",
					 .delivery_count = "1",
					 .payload = BYTES_LIT("new")};

	deliver(self, 1, "old");
	expect_read(&next, PIECE_SIZE, "old\n");
	old_settle = open_flags(self, "commands/1/settle", O_WRONLY);
	hub_line_command(&self->hub, &again);
	payload = open_file(self, "commands/1/payload");
	expect_read(&payload, PIECE_SIZE, "new");
	close_file(&payload);
	close_file(&next);
	expect_answers(self, "1 complete;");
	EXPECT_EQ(write_file(&old_settle, "reject"), -ESTALE);
	close_file(&old_settle);
	EXPECT_EQ(settle(self, "commands/1/settle", "complete"), 0);
	expect_answers(self, "2 complete;");
	EXPECT_EQ(lookup(self, "commands/1"), 0u);
}

TEST_F(files, directories_of_what_waits_go_with_the_connection)
{
	struct opened next = open_file(self, "commands/next"), settle_file;

	deliver(self, 1, "one");
	deliver(self, 2, "two");
	expect_read(&next, PIECE_SIZE, "one\n");
	settle_file = open_flags(self, "commands/2/settle", O_WRONLY);
	hub_line_offline(&self->hub);
	commands_on_offline(self->commands);
	EXPECT_NE(lookup(self, "commands/1"), 0u);
	EXPECT_EQ(lookup(self, "commands/2"), 0u);
	EXPECT_EQ(write_file(&settle_file, "complete"), -ESTALE);
	close_file(&settle_file);
	close_file(&next);
	EXPECT_EQ(lookup(self, "commands/1"), 0u);
	hub_line_online(&self->hub);
	deliver(self, 1, "one");
	deliver(self, 2, "two");
	expect_answers(self, "1 complete;");
	EXPECT_EQ(lookup(self, "commands/1"), 0u);
	EXPECT_NE(lookup(self, "commands/2"), 0u);
}

/* --- what is refused -------------------------------------------------------------------------- */

TEST_F(files, files_are_for_reading_or_for_writing)
{
	deliver(self, 1, "one");
	EXPECT_EQ(open_error(self, "commands/next", O_RDWR), -EACCES);
	EXPECT_EQ(open_error(self, "commands/stream", O_WRONLY), -EACCES);
	EXPECT_EQ(open_error(self, "commands/1/payload", O_RDWR), -EACCES);
	EXPECT_EQ(open_error(self, "commands/1/properties.json", O_WRONLY), -EACCES);
	EXPECT_EQ(open_error(self, "commands/1/settle", O_RDONLY), -EACCES);
}

TEST_F(files, as_many_reads_wait_as_may)
{
	struct opened o = open_file(self, "commands/next"), other = open_file(self, "commands/stream");
	uint64_t first = read_start(&o, 1, 0, O_RDONLY), last = 0;

	for (unsigned int i = 1; i < N_WAITING; ++i)
		last = read_start(&o, 1, 0, O_RDONLY);
	expect_waits(&o, last);
	EXPECT_EQ(read_error(&other, O_RDONLY), -ENOBUFS);
	EXPECT_EQ(read_error(&other, O_NONBLOCK), -EAGAIN);
	deliver(self, 1, "x");
	expect_data(&o, first, "x");
	expect_data(&o, last, "");
	expect_waits(&other, read_start(&other, 1, 0, O_RDONLY));
}

/* The kernel would ask for what follows on its own. */
TEST_F(files, a_line_never_ends_where_a_read_is_full)
{
	struct opened o = open_file(self, "commands/stream");
	struct bytes piece;
	uint64_t whole;

	deliver(self, 1, "x");
	whole = read_start(&o, FUSE_LINE_BODY, 0, O_RDONLY);
	piece = fuse_line_data(&self->line, whole);
	ASSERT_LT(piece.len, (size_t)FUSE_LINE_BODY);
	/* The next line has the same length. */
	deliver(self, 2, "y");
	EXPECT_EQ(fuse_line_data(&self->line, read_start(&o, (uint32_t)piece.len, 0, O_RDONLY)).len,
		  piece.len - 1);
	expect_answers(self, "1 complete;");
	EXPECT_EQ(fuse_line_data(&self->line, read_start(&o, 1, 0, O_RDONLY)).len, 1u);
	expect_answers(self, "");
	close_file(&o);
	expect_answers(self, "2 0603;");
}

TEST_F(files, a_daemon_that_stops_decides_nothing)
{
	struct opened next = open_file(self, "commands/next"), stream = open_file(self, "commands/stream");
	struct opened raw = open_file(self, "commands/next.raw"), other = open_file(self, "commands/next");
	uint64_t waits;

	deliver(self, 1, "one");
	deliver(self, 2, "two");
	deliver(self, 3, "three");
	expect_read(&next, PIECE_SIZE, "one\n");
	expect_line(&stream, PIECE_SIZE, 2, "two");
	expect_read(&raw, 2, "th");
	waits = read_start(&other, 1, 0, O_RDONLY);
	commands_drain(self->commands);
	EXPECT_EQ(fuse_line_result(&self->line, waits), -ESHUTDOWN);
	EXPECT_EQ(read_error(&other, O_RDONLY), -ESHUTDOWN);
	commands_close(self->commands);
	/* What was begun can be read to its end. */
	expect_read(&raw, PIECE_SIZE, "ree");
	EXPECT_EQ(settle(self, "commands/3/settle", "complete"), -ESHUTDOWN);
	close_file(&raw);
	stop(self);
	expect_answers(self, "");
}

TEST_HARNESS_MAIN
