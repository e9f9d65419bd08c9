/* SPDX-License-Identifier: MIT */
/*
 * Rejected messages that are kept: what a restart finds, the bounds, a disk that forgets, and records of somebody newer.
 */

#include "tests/support/rejected_line.h"

/* --- restarts, bounds ------------------------------------------------------------------------- */

TEST_F(rejected, restarts_find_all_in_order)
{
	uint64_t before[3], after[3];

	keep_bytes(self, 0, "m-1", BYTES_LIT("one"), "first");
	keep_bytes(self, 5, "m-2", BYTES_LIT("two"), "second");
	keep_bytes(self, 0, "m-3", BYTES_LIT("three"), "third");
	ASSERT_EQ(ids(self, before, 3), 3u);
	restart(self);
	ASSERT_EQ(ids(self, after, 3), 3u);
	EXPECT_MEMEQ(before, after, sizeof(before));
	expect_file(self, after[0], "payload", "one");
	expect_file(self, after[1], "payload", "two");
	expect_file(self, after[1], "reason", "second\n");
	EXPECT_EQ(drop(self, after[1]), 0);
	restart(self);
	ASSERT_EQ(ids(self, after, 3), 2u);
	EXPECT_EQ(after[0], before[0]);
	EXPECT_EQ(after[1], before[2]);
	expect_file(self, after[1], "payload", "three");
	/* Nothing of it goes to the hub. */
	EXPECT_EQ(n_queued(self), 0u);
}

TEST_F(rejected, one_too_many_drops_the_oldest)
{
	uint64_t first;

	keep(self, "0", "no");
	first = only_id(self);
	for (int i = 1; i < REJECTED_MAX; ++i)
		keep(self, "x", "no");
	EXPECT_NE(message_node(self, first, NULL), 0u);
	EXPECT_EQ(rejected_n_dropped(self->rejected), 0u);
	keep(self, "last", "no");
	EXPECT_EQ(ids(self, NULL, 0), (size_t)REJECTED_MAX);
	EXPECT_EQ(message_node(self, first, NULL), 0u);
	EXPECT_EQ(rejected_n_dropped(self->rejected), 1u);
	EXPECT_TRUE(was_told(self, "rejected-dropped"));
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), (size_t)REJECTED_MAX);
	EXPECT_EQ(message_node(self, first, NULL), 0u);
}

TEST_F(rejected, a_quarter_of_the_bytes_at_most)
{
	static uint8_t payload[100000];

	for (int i = 0; i < 10; ++i)
		keep_bytes(self, 0, "m", BYTES(payload, sizeof(payload)), "no");
	EXPECT_EQ(ids(self, NULL, 0), 2u);
	EXPECT_EQ(rejected_n_dropped(self->rejected), 8u);
	EXPECT_LE(journal_n_bytes(self->journal), QUEUE_BYTES / 4);
}

/* Fills the queue; returns how many messages went in. */
static unsigned int fill(struct fixture_rejected *self)
{
	static uint8_t payload[60000];
	uint64_t sequence;
	unsigned int n = 0;

	while (telemetry_append(self->telemetry, channels_default(self->channels), NULL,
				BYTES(payload, sizeof(payload)), BYTES(NULL, 0), &sequence) == 0)
		++n;
	ASSERT_GT(n, 2u);
	return n;
}

/* The original makes the room for the copy. */
TEST_F(rejected, in_a_full_queue_it_waits_for_the_end_of_the_turn)
{
	struct journal_cursor at;
	struct journal_record record;
	uint8_t first;

	fill(self);
	ASSERT_TRUE(journal_next_unsent(self->journal, &at));
	journal_mark_sent(self->journal, &at);
	ASSERT_EQ(journal_read(&at, &record), 0);
	rejected_keep(self->rejected, &record, "no");
	EXPECT_EQ(ids(self, NULL, 0), 0u);
	journal_mark_done(self->journal, &at);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	EXPECT_EQ(ids(self, NULL, 0), 1u);
	first = cat(self, message_node(self, only_id(self), "payload")).data[0];
	EXPECT_EQ(first, 0);
}

TEST_F(rejected, in_a_full_queue_the_oldest_make_room)
{
	static uint8_t payload[60000];
	uint64_t id;

	keep_bytes(self, 0, "old", BYTES(payload, sizeof(payload)), "no");
	id = only_id(self);
	fill(self);
	keep_bytes(self, 0, "new", BYTES(payload, sizeof(payload)), "no");
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	EXPECT_NE(only_id(self), id);
	EXPECT_EQ(rejected_n_dropped(self->rejected), 1u);
}

TEST_F(rejected, without_any_room_it_is_lost_and_told)
{
	static uint8_t payload[60000];

	fill(self);
	self->log.level = LOG_LEVEL_ERROR;
	keep_bytes(self, 0, "new", BYTES(payload, sizeof(payload)), "no");
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
	EXPECT_TRUE(was_told(self, "rejected-lost"));
}

/* The files are gone first, answers still come. */
TEST_F(rejected, kept_after_the_tree_is_gone)
{
	keep(self, "one", "no");
	fuse_tree_detach(self->tree);
	fuse_tree_free(self->tree);
	events_remove_file(self->events);
	keep(self, "two", "no");
	EXPECT_EQ(rejected_n(self->rejected), 2u);
	self->tree = NULL;
	ASSERT_EQ(fuse_tree_new(&self->tree, &(const struct fuse_tree_options){.root_mode = 0755}), 0);
	fuse_line_init(&self->line, self->tree);
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), 2u);
}

/* --- a disk that forgets ---------------------------------------------------------------------- */

/* Flips a bit of @text in whatever segment has it. */
static void spoil(struct fixture_rejected *self, const char *text)
{
	_cleanup_(closedir_ptr) DIR *dir = opendir(self->journal_dir);
	unsigned int n = 0;

	ASSERT_TRUE(dir != NULL);
	for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
		static uint8_t bytes[1 << 20];
		_cleanup_(close_fd) int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
		ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));
		uint8_t *at = size < 0 ? NULL : memmem(bytes, (size_t)size, text, strlen(text));

		if (!at)
			continue;
		*at ^= 1;
		ASSERT_EQ(pwrite(fd, at, 1, at - bytes), 1);
		++n;
	}
	ASSERT_EQ(n, 1u);
}

TEST_F(rejected, what_became_unreadable_is_eio_and_gone)
{
	uint64_t id[3], node, fh;

	keep(self, "before", "no");
	keep(self, "spoiled", "no");
	keep(self, "after", "no");
	ASSERT_EQ(ids(self, id, 3), 3u);
	spoil(self, "spoiled");
	node = message_node(self, id[1], "payload");
	fh = fuse_line_open(&self->line, node, O_RDONLY);
	EXPECT_EQ(fuse_line_result(&self->line, fuse_line_read(&self->line, node, fh, O_RDONLY, 0, 100)),
		  -EIO);
	fuse_line_release(&self->line, node, fh);
	EXPECT_EQ(retry(self, id[1], "retry"), -EIO);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	ASSERT_EQ(ids(self, id, 3), 2u);
	expect_file(self, id[0], "payload", "before");
	expect_file(self, id[1], "payload", "after");
	EXPECT_EQ(n_queued(self), 0u);
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), 2u);
}

/* stat(2) of what cannot be read asks for it, too, when nobody has it open. */
TEST_F(rejected, the_size_of_what_became_unreadable_is_0)
{
	const struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	keep(self, "spoiled", "no");
	spoil(self, "spoiled");
	fuse_line_body(&self->line,
		       fuse_line_request(&self->line, FUSE_GETATTR,
					 message_node(self, only_id(self), "properties.json"), &in,
					 sizeof(in), BYTES("", 0)),
		       &out, sizeof(out));
	EXPECT_EQ(out.attr.size, 0u);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
}

/* Eight messages of three segments, with a letter each. */
static void keep_segments(struct fixture_rejected *self, uint64_t id[8])
{
	static uint8_t block[29 * 1024];

	for (int i = 0; i < 8; ++i) {
		memset(block, 'a' + i, sizeof(block));
		keep_bytes(self, 0, "m-1", BYTES(block, sizeof(block)), "no");
		turn_until_stored(self);
	}
	ASSERT_EQ(ids(self, id, 8), 8u);
}

/* Their segments, one damaged and one deleted, are freed before anybody asks. */
TEST_F(rejected, what_the_journal_finds_lost_is_gone)
{
	char command[192];
	uint64_t id[8];

	keep_segments(self, id);
	spoil(self, "bbbbbbbb");
	snprintf(command, sizeof(command), "rm $(grep -l dddddddd '%s'/*)", self->journal_dir);
	ASSERT_EQ(system(command), 0);
	EXPECT_EQ(drop(self, id[0]), 0);
	EXPECT_EQ(retry(self, id[1], "retry"), -EIO);
	EXPECT_EQ(retry(self, id[2], "retry"), -EIO);
	EXPECT_EQ(drop(self, id[3]), 0);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	EXPECT_EQ(ids(self, id, 8), 2u);
}

TEST_F(rejected, what_a_start_cannot_read_is_not_there)
{
	uint64_t id[2];

	keep(self, "before", "no");
	keep(self, "spoiled", "no");
	keep(self, "after", "no");
	stop(self);
	spoil(self, "spoiled");
	start(self);
	ASSERT_EQ(ids(self, id, 2), 2u);
	expect_file(self, id[0], "payload", "before");
	expect_file(self, id[1], "payload", "after");
	EXPECT_EQ(drop(self, id[0]), 0);
	EXPECT_EQ(drop(self, id[1]), 0);
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
}

/* --- what somebody newer wrote ---------------------------------------------------------------- */

static void append_raw(struct fixture_rejected *self, struct bytes bytes)
{
	const struct journal_lane_key key = {.kind = JOURNAL_KIND_REJECTED,
					     .priority = CHANNEL_PRIORITY_DEFAULT,
					     .channel_name = "default"};
	struct journal_lane *lane;
	uint8_t *at, *payload;
	uint64_t sequence;

	ASSERT_EQ(journal_lane_get(self->journal, &key, &lane), 0);
	ASSERT_EQ(journal_append(lane, 0, 1, 0, bytes.len, &at, &payload), 0);
	memcpy(payload, bytes.data, bytes.len);
	ASSERT_EQ(journal_commit(lane, &sequence), 0);
	journal_lane_put(lane);
}

TEST_F(rejected, records_of_another_version_stay_and_are_not_shown)
{
	keep(self, "one", "no");
	append_raw(self, BYTES_LIT("\x02\0\0\0\0\0\0\x01r."));
	append_raw(self, BYTES_LIT("\x01\0\0\0\0\0\xff\xffr."));
	append_raw(self, BYTES_LIT("\x01"));
	keep(self, "two", "no");
	for (int i = 0; i < 2; ++i) {
		uint64_t id[2];

		restart(self);
		ASSERT_EQ(ids(self, id, 2), 2u);
		expect_file(self, id[0], "payload", "one");
		expect_file(self, id[1], "payload", "two");
	}
}

TEST_HARNESS_MAIN
