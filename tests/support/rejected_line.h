/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_REJECTED_LINE_H
#define TESTS_SUPPORT_REJECTED_LINE_H

/*
 * Rejected messages on a journal in a directory of its own, behind a tree without a kernel: the hub's side and the users'.
 * For test files that include the harness: failures are reported through it.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "flow/rejected.h"
#include "mqtt/packet.h"
#include "tests/harness.h"
#include "tests/support/fuse_line.h"

#define QUEUE_BYTES (UINT64_C(1) << 20)

DEFINE_CLEANUP(DIR *, closedir)

FIXTURE(rejected)
{
	char dir[64];
	char journal_dir[96];
	char channels_path[96];
	bool is_volatile;
	struct log log;
	struct config config;
	struct loop *loop;
	struct journal *journal;
	struct channels *channels;
	struct waiters *waiters;
	struct link *link;
	struct telemetry *telemetry;
	struct events *events;
	struct rejected *rejected;
	struct fuse_tree *tree;
	struct fuse_line line;
};

static inline void on_stored(void *userdata, uint64_t sequence, int error)
{
	struct fixture_rejected *self = userdata;

	telemetry_on_stored(self->telemetry, sequence, error);
	rejected_on_stored(self->rejected, sequence, error);
}

static inline void on_lost(void *userdata, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	rejected_on_lost(((struct fixture_rejected *)userdata)->rejected, lane, first, last);
}

static inline void on_changed(void *userdata)
{
	(void)userdata;
}

static inline void start_queue(struct fixture_rejected *self)
{
	static const struct journal_ops journal_ops = {.on_stored = on_stored, .on_lost = on_lost};
	static const struct link_ops link_ops = {.on_changed = on_changed};
	const struct journal_options journal = {.loop = self->loop,
						.log = &self->log,
						.dir = self->journal_dir,
						.is_volatile = self->is_volatile,
						.max_bytes = QUEUE_BYTES,
						.ops = &journal_ops,
						.userdata = self};
	const struct link_options link = {
		.loop = self->loop, .log = &self->log, .config = &self->config, .ops = &link_ops};
	struct channels_options channels = {
		.loop = self->loop, .log = &self->log, .path = self->channels_path, .run = 7};
	struct telemetry_options telemetry = {.loop = self->loop, .log = &self->log};

	ASSERT_EQ(journal_new(&self->journal, &journal), 0);
	channels.journal = self->journal;
	ASSERT_EQ(channels_new(&self->channels, &channels), 0);
	ASSERT_EQ(waiters_new(&self->waiters, self->loop, TIME_NEVER), 0);
	telemetry.journal = self->journal;
	telemetry.channels = self->channels;
	telemetry.waiters = self->waiters;
	ASSERT_EQ(telemetry_new(&self->telemetry, &telemetry), 0);
	ASSERT_EQ(link_new(&self->link, &link), 0);
	telemetry_set_link(self->telemetry, self->link);
}

static inline void start(struct fixture_rejected *self)
{
	const struct config_access access = {.mode = 0660}, events_access = {.mode = 0440};
	const struct loop_options loop = {0};
	const struct fuse_tree_options tree = {.root_mode = 0755};
	struct rejected_options options = {.log = &self->log};

	ASSERT_EQ(loop_new(&self->loop, &loop), 0);
	ASSERT_EQ(fuse_tree_new(&self->tree, &tree), 0);
	ASSERT_EQ(events_new(&self->events, self->loop), 0);
	ASSERT_EQ(events_add_file(self->events, fuse_tree_root(self->tree), &events_access), 0);
	start_queue(self);
	options.loop = self->loop;
	options.events = self->events;
	options.journal = self->journal;
	options.channels = self->channels;
	options.telemetry = self->telemetry;
	ASSERT_EQ(rejected_new(&self->rejected, &options), 0);
	ASSERT_EQ(rejected_add_files(self->rejected, fuse_tree_root(self->tree), &access), 0);
	memset(&self->line, 0, sizeof(self->line));
	fuse_line_init(&self->line, self->tree);
}

/* In the daemon's order. */
static inline void stop(struct fixture_rejected *self)
{
	if (!self->loop)
		return;
	fuse_tree_detach(self->tree);
	fuse_tree_free(self->tree);
	events_remove_file(self->events);
	link_free(self->link);
	rejected_free(self->rejected);
	telemetry_free(self->telemetry);
	waiters_free(self->waiters);
	channels_free(self->channels);
	journal_stop(self->journal);
	events_free(self->events);
	while (loop_n_in_flight(self->loop))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	journal_free(self->journal);
	loop_free(self->loop);
	self->loop = NULL;
}

static inline void restart(struct fixture_rejected *self)
{
	stop(self);
	start(self);
}

FIXTURE_SETUP(rejected)
{
	strcpy(self->dir, "/tmp/test-rejected-XXXXXX");
	ASSERT_NE(mkdtemp(self->dir), NULL);
	snprintf(self->journal_dir, sizeof(self->journal_dir), "%s/journal", self->dir);
	snprintf(self->channels_path, sizeof(self->channels_path), "%s/channels.json", self->dir);
	log_init(&self->log, "test", LOG_LEVEL_ERROR);
	start(self);
}

FIXTURE_TEARDOWN(rejected)
{
	char command[128];

	if (!test_is_orphan())
		stop(self);
	snprintf(command, sizeof(command), "rm -rf '%s'", self->dir);
	(void)!system(command);
}

/* --- the hub's side --------------------------------------------------------------------------- */

/* As a message of telemetry has them. */
static inline struct bytes properties(const char *id)
{
	static uint8_t encoded[256];
	struct writer w = writer_init(encoded, sizeof(encoded));

	mqtt_user_property_put(&w, BYTES_LIT("message-id"), bytes_from_str(id));
	mqtt_user_property_put(&w, BYTES_LIT("creation-time"), BYTES_LIT("2021-04-21T11:30:16Z"));
	mqtt_user_property_put(&w, BYTES_LIT("@level"), BYTES_LIT("3"));
	ASSERT_EQ(w.error, 0);
	return writer_bytes(&w);
}

static inline void keep_bytes(struct fixture_rejected *self, uint16_t channel, const char *id,
			      struct bytes payload, const char *reason)
{
	const struct journal_record record = {.channel = channel,
					      .priority = CHANNEL_PRIORITY_DEFAULT,
					      .properties = properties(id),
					      .payload = payload};

	rejected_keep(self->rejected, &record, reason);
}

static inline void keep(struct fixture_rejected *self, const char *payload, const char *reason)
{
	keep_bytes(self, 0, "m-1", bytes_from_str(payload), reason);
}

/* What is the first of the queue now. */
static inline void expect_queued(struct fixture_rejected *self, const char *id, const char *payload)
{
	struct journal_cursor at;
	struct journal_record record;

	ASSERT_TRUE(journal_next_unsent(self->journal, &at));
	ASSERT_EQ(journal_read(&at, &record), 0);
	EXPECT_TRUE(bytes_equal(record.properties, properties(id)));
	EXPECT_TRUE(bytes_equal_str(record.payload, payload));
}

static inline uint64_t n_queued(struct fixture_rejected *self)
{
	uint64_t n = 0;

	for (struct journal_lane *lane = journal_next_lane(self->journal, NULL); lane;
	     lane = journal_next_lane(self->journal, lane)) {
		struct journal_lane_key key;

		journal_lane_key(lane, &key);
		if (key.kind == JOURNAL_KIND_QUEUE)
			n += journal_lane_n_records(lane);
	}
	return n;
}

/* --- the users' side -------------------------------------------------------------------------- */

/* Names of what is in rejected/, oldest first; returns how many there are. */
static inline size_t ids(struct fixture_rejected *self, uint64_t *out, size_t n_out)
{
	struct fuse_node *dir = fuse_node_find(fuse_tree_root(self->tree), "rejected");
	size_t n = 0;

	for (struct fuse_node *node = fuse_node_next_child(dir, NULL); node;
	     node = fuse_node_next_child(dir, node))
		if (n++ < n_out)
			out[n - 1] = strtoull(fuse_node_name(node), NULL, 10);
	EXPECT_EQ(rejected_n(self->rejected), n);
	return n;
}

static inline uint64_t only_id(struct fixture_rejected *self)
{
	uint64_t id = 0;

	EXPECT_EQ(ids(self, &id, 1), 1u);
	return id;
}

static inline uint64_t message_node(struct fixture_rejected *self, uint64_t id, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "rejected/%" PRIu64 "%s%s", id, name ? "/" : "", name ? name : "");
	return fuse_line_find(&self->line, path);
}

/* What cat prints; at most FUSE_LINE_BODY bytes. */
static inline struct bytes cat(struct fixture_rejected *self, uint64_t node)
{
	uint64_t fh, unique;

	ASSERT_NE(node, 0u);
	fh = fuse_line_open(&self->line, node, O_RDONLY);
	unique = fuse_line_read(&self->line, node, fh, O_RDONLY, 0, FUSE_LINE_BODY);
	fuse_line_release(&self->line, node, fh);
	return fuse_line_data(&self->line, unique);
}

static inline void expect_file(struct fixture_rejected *self, uint64_t id, const char *name, const char *want)
{
	struct bytes got = cat(self, message_node(self, id, name));

	if (!bytes_equal_str(got, want))
		TEST_LOG("%s is %.*s", name, (int)got.len, (const char *)got.data);
	EXPECT_TRUE(bytes_equal_str(got, want));
}

/* The result of writing @word to its retry. */
static inline int retry(struct fixture_rejected *self, uint64_t id, const char *word)
{
	uint64_t node = message_node(self, id, "retry"), fh, unique;

	ASSERT_NE(node, 0u);
	fh = fuse_line_open(&self->line, node, O_WRONLY);
	unique = fuse_line_write(&self->line, node, fh, O_WRONLY, bytes_from_str(word));
	fuse_line_release(&self->line, node, fh);
	return fuse_line_result(&self->line, unique);
}

static inline int remove_name(struct fixture_rejected *self, uint32_t opcode, uint64_t dir, const char *name)
{
	return fuse_line_result(&self->line, fuse_line_request(&self->line, opcode, dir, name,
							       strlen(name) + 1, BYTES("", 0)));
}

static inline int drop(struct fixture_rejected *self, uint64_t id)
{
	char name[24];

	snprintf(name, sizeof(name), "%" PRIu64, id);
	return remove_name(self, FUSE_RMDIR, fuse_line_find(&self->line, "rejected"), name);
}

/* Whether a line of `events` has @text. */
static inline bool was_told(struct fixture_rejected *self, const char *text)
{
	uint64_t node = fuse_line_find(&self->line, "events"),
		 fh = fuse_line_open(&self->line, node, O_RDONLY);
	bool found = false;

	for (;;) {
		uint64_t unique =
			fuse_line_read(&self->line, node, fh, O_RDONLY | O_NONBLOCK, 0, FUSE_LINE_BODY);
		struct bytes line;

		if (fuse_line_result(&self->line, unique))
			break;
		line = fuse_line_data(&self->line, unique);
		found |= memmem(line.data, line.len, text, strlen(text)) != NULL;
	}
	fuse_line_release(&self->line, node, fh);
	return found;
}

/* Until what was queued again is stored. */
static inline void turn_until_stored(struct fixture_rejected *self)
{
	while (journal_stored(self->journal) < journal_appended(self->journal))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
}

#endif
