/* SPDX-License-Identifier: MIT */
/*
 * Rejected messages on a journal in a directory of its own, behind a tree without a kernel: what their files show, retry,
 * drop, the bounds, and what a restart finds.
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
#define N_STEPS     400

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

static void on_stored(void *userdata, uint64_t sequence, int error)
{
	struct fixture_rejected *self = userdata;

	telemetry_on_stored(self->telemetry, sequence, error);
	rejected_on_stored(self->rejected, sequence, error);
}

static void on_lost(void *userdata, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	rejected_on_lost(((struct fixture_rejected *)userdata)->rejected, lane, first, last);
}

static void on_changed(void *userdata)
{
	(void)userdata;
}

static void start_queue(struct fixture_rejected *self)
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

static void start(struct fixture_rejected *self)
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
static void stop(struct fixture_rejected *self)
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

static void restart(struct fixture_rejected *self)
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
static struct bytes properties(const char *id)
{
	static uint8_t encoded[256];
	struct writer w = writer_init(encoded, sizeof(encoded));

	mqtt_user_property_put(&w, BYTES_LIT("message-id"), bytes_from_str(id));
	mqtt_user_property_put(&w, BYTES_LIT("creation-time"), BYTES_LIT("2021-04-21T11:30:16Z"));
	mqtt_user_property_put(&w, BYTES_LIT("@level"), BYTES_LIT("3"));
	ASSERT_EQ(w.error, 0);
	return writer_bytes(&w);
}

static void keep_bytes(struct fixture_rejected *self, uint16_t channel, const char *id, struct bytes payload,
		       const char *reason)
{
	const struct journal_record record = {.channel = channel,
					      .priority = CHANNEL_PRIORITY_DEFAULT,
					      .properties = properties(id),
					      .payload = payload};

	rejected_keep(self->rejected, &record, reason);
}

static void keep(struct fixture_rejected *self, const char *payload, const char *reason)
{
	keep_bytes(self, 0, "m-1", bytes_from_str(payload), reason);
}

/* What is the first of the queue now. */
static void expect_queued(struct fixture_rejected *self, const char *id, const char *payload)
{
	struct journal_cursor at;
	struct journal_record record;

	ASSERT_TRUE(journal_next_unsent(self->journal, &at));
	ASSERT_EQ(journal_read(&at, &record), 0);
	EXPECT_TRUE(bytes_equal(record.properties, properties(id)));
	EXPECT_TRUE(bytes_equal_str(record.payload, payload));
}

static uint64_t n_queued(struct fixture_rejected *self)
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
static size_t ids(struct fixture_rejected *self, uint64_t *out, size_t n_out)
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

static uint64_t only_id(struct fixture_rejected *self)
{
	uint64_t id = 0;

	EXPECT_EQ(ids(self, &id, 1), 1u);
	return id;
}

static uint64_t message_node(struct fixture_rejected *self, uint64_t id, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "rejected/%" PRIu64 "%s%s", id, name ? "/" : "", name ? name : "");
	return fuse_line_find(&self->line, path);
}

/* What cat prints; at most FUSE_LINE_BODY bytes. */
static struct bytes cat(struct fixture_rejected *self, uint64_t node)
{
	uint64_t fh, unique;

	ASSERT_NE(node, 0u);
	fh = fuse_line_open(&self->line, node, O_RDONLY);
	unique = fuse_line_read(&self->line, node, fh, O_RDONLY, 0, FUSE_LINE_BODY);
	fuse_line_release(&self->line, node, fh);
	return fuse_line_data(&self->line, unique);
}

static void expect_file(struct fixture_rejected *self, uint64_t id, const char *name, const char *want)
{
	struct bytes got = cat(self, message_node(self, id, name));

	if (!bytes_equal_str(got, want))
		TEST_LOG("%s is %.*s", name, (int)got.len, (const char *)got.data);
	EXPECT_TRUE(bytes_equal_str(got, want));
}

/* The result of writing @word to its retry. */
static int retry(struct fixture_rejected *self, uint64_t id, const char *word)
{
	uint64_t node = message_node(self, id, "retry"), fh, unique;

	ASSERT_NE(node, 0u);
	fh = fuse_line_open(&self->line, node, O_WRONLY);
	unique = fuse_line_write(&self->line, node, fh, O_WRONLY, bytes_from_str(word));
	fuse_line_release(&self->line, node, fh);
	return fuse_line_result(&self->line, unique);
}

static int remove_name(struct fixture_rejected *self, uint32_t opcode, uint64_t dir, const char *name)
{
	return fuse_line_result(&self->line, fuse_line_request(&self->line, opcode, dir, name,
							       strlen(name) + 1, BYTES("", 0)));
}

static int drop(struct fixture_rejected *self, uint64_t id)
{
	char name[24];

	snprintf(name, sizeof(name), "%" PRIu64, id);
	return remove_name(self, FUSE_RMDIR, fuse_line_find(&self->line, "rejected"), name);
}

/* Whether a line of `events` has @text. */
static bool was_told(struct fixture_rejected *self, const char *text)
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
static void turn_until_stored(struct fixture_rejected *self)
{
	while (journal_stored(self->journal) < journal_appended(self->journal))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
}

/* --- files ------------------------------------------------------------------------------------ */

TEST_F(rejected, shows_the_message_and_why)
{
	static const char rest[] = "\"channel\":\"default\",\"creation-time\":\"2021-04-21T11:30:16.000Z\","
				   "\"message-id\":\"m-1\",\"properties\":{\"level\":\"3\"}}\n";
	uint64_t id;
	struct bytes json;

	keep(self, "hello", "0100 Bad Request: no such schema");
	id = only_id(self);
	expect_file(self, id, "payload", "hello");
	expect_file(self, id, "reason", "0100 Bad Request: no such schema\n");
	json = cat(self, message_node(self, id, "properties.json"));
	EXPECT_NE(memmem(json.data, json.len, rest, strlen(rest)), NULL);
	EXPECT_TRUE(bytes_start_with(json, BYTES_LIT("{\"rejected-time\":\"")));
	EXPECT_TRUE(was_told(self, "\"event\":\"rejected\",\"file\":\"rejected/"));
	EXPECT_TRUE(was_told(self, "no such schema"));
}

/* A line for each new reason; what stderr gets. */
TEST_F(rejected, the_log_says_which_and_why)
{
	static const char expected[] =
		"the hub does not take a message, which is kept as rejected/1: why\n"
		"the hub does not take a message, which is kept as rejected/3: other\n";
	static char text[2048];
	FILE *file = tmpfile();
	size_t len = 0;

	ASSERT_TRUE(file != NULL);
	self->log = (struct log){.fd = fileno(file), .level = LOG_LEVEL_WARNING};
	keep(self, "a", "why");
	keep(self, "b", "why");
	keep(self, "c", "other");
	self->log.fd = -1;
	rewind(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	text[len] = '\0';
	fclose(file);
	for (char *at; (at = strstr(text, "warning: "));)
		memmove(at, at + 9, strlen(at + 9) + 1);
	EXPECT_STREQ(text, expected);
}

TEST_F(rejected, any_bytes_and_a_reason_of_one_line)
{
	static const uint8_t bytes[] = {0, 0xff, '\n', 0};
	char reason[1100];

	keep_bytes(self, 0, "m", BYTES(bytes, sizeof(bytes)), "two\nlines\x7f");
	EXPECT_TRUE(bytes_equal(cat(self, message_node(self, only_id(self), "payload")),
				BYTES(bytes, sizeof(bytes))));
	expect_file(self, only_id(self), "reason", "two?lines?\n");
	EXPECT_EQ(drop(self, only_id(self)), 0);
	/* Nothing, and a reason of no end. */
	memset(reason, 'r', sizeof(reason) - 1);
	reason[sizeof(reason) - 1] = '\0';
	keep(self, "", reason);
	expect_file(self, only_id(self), "payload", "");
	EXPECT_EQ(cat(self, message_node(self, only_id(self), "reason")).len, (size_t)FUSE_LINE_BODY);
}

TEST_F(rejected, modes_follow_the_access)
{
	static const struct {
		const char *name;
		uint32_t mode;
	} want[] = {
		{NULL, S_IFDIR | 0775},     {"payload", S_IFREG | 0440}, {"properties.json", S_IFREG | 0440},
		{"reason", S_IFREG | 0440}, {"retry", S_IFREG | 0220},
	};
	uint64_t id;

	keep(self, "hello", "no");
	id = only_id(self);
	for (size_t i = 0; i < ARRAY_SIZE(want); ++i) {
		const struct fuse_getattr_in in = {0};
		struct fuse_attr_out out;

		fuse_line_body(&self->line,
			       fuse_line_request(&self->line, FUSE_GETATTR,
						 message_node(self, id, want[i].name), &in, sizeof(in),
						 BYTES("", 0)),
			       &out, sizeof(out));
		EXPECT_EQ(out.attr.mode, want[i].mode);
	}
}

/* --- retry, drop ------------------------------------------------------------------------------ */

TEST_F(rejected, retry_queues_it_again_as_it_was)
{
	keep(self, "hello", "no");
	EXPECT_EQ(retry(self, only_id(self), "retry\n"), 0);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
	EXPECT_EQ(n_queued(self), 1u);
	expect_queued(self, "m-1", "hello");
	turn_until_stored(self);
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
	EXPECT_EQ(n_queued(self), 1u);
	expect_queued(self, "m-1", "hello");
}

/* What is queued again was not stored: better twice than not at all. */
TEST_F(rejected, retry_that_is_not_stored_yet_leaves_the_record)
{
	keep(self, "hello", "no");
	turn_until_stored(self);
	EXPECT_EQ(retry(self, only_id(self), "retry"), 0);
	rejected_on_stored(self->rejected, journal_appended(self->journal), -EIO);
	stop(self);
	start(self);
	expect_file(self, only_id(self), "payload", "hello");
	EXPECT_EQ(n_queued(self), 1u);
}

TEST_F(rejected, retry_without_durable_storage_is_done_at_once)
{
	stop(self);
	self->is_volatile = true;
	start(self);
	keep(self, "hello", "no");
	EXPECT_EQ(retry(self, only_id(self), "retry"), 0);
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
	expect_queued(self, "m-1", "hello");
}

TEST_F(rejected, retry_goes_to_its_channel_or_the_default_one)
{
	struct journal_cursor at;
	struct journal_record record;
	struct channel *channel;
	uint16_t number;

	ASSERT_EQ(channels_add(self->channels, "alarm", &channel), 0);
	number = channel->number;
	keep_bytes(self, number, "m-2", BYTES_LIT("fire"), "no");
	EXPECT_EQ(retry(self, only_id(self), "retry"), 0);
	ASSERT_TRUE(journal_next_unsent(self->journal, &at));
	ASSERT_EQ(journal_read(&at, &record), 0);
	EXPECT_EQ(record.channel, number);
	journal_mark_sent(self->journal, &at);
	journal_mark_done(self->journal, &at);
	keep_bytes(self, number, "m-3", BYTES_LIT("fire"), "no");
	ASSERT_EQ(channels_remove(channel), 0);
	EXPECT_EQ(memmem(cat(self, message_node(self, only_id(self), "properties.json")).data, 100, "channel",
			 7),
		  NULL);
	EXPECT_EQ(retry(self, only_id(self), "retry"), 0);
	ASSERT_TRUE(journal_next_unsent(self->journal, &at));
	ASSERT_EQ(journal_read(&at, &record), 0);
	EXPECT_EQ(record.channel, 0);
	EXPECT_TRUE(bytes_equal(record.properties, properties("m-3")));
}

TEST_F(rejected, a_wrong_word_is_explained)
{
	char told[128];

	keep(self, "hello", "no");
	EXPECT_EQ(retry(self, only_id(self), "again\n"), -EINVAL);
	EXPECT_EQ(retry(self, only_id(self), ""), -EINVAL);
	snprintf(told, sizeof(told),
		 "\"refused\",\"file\":\"rejected/%" PRIu64 "/retry\",\"reason\":\"the word is retry",
		 only_id(self));
	EXPECT_TRUE(was_told(self, told));
	EXPECT_EQ(ids(self, NULL, 0), 1u);
	telemetry_close(self->telemetry);
	EXPECT_EQ(retry(self, only_id(self), "retry"), -ESHUTDOWN);
}

TEST_F(rejected, rmdir_drops_it)
{
	uint64_t id, node, fh;

	keep(self, "hello", "no");
	id = only_id(self);
	node = message_node(self, id, "payload");
	fh = fuse_line_open(&self->line, node, O_RDONLY);
	EXPECT_EQ(drop(self, id), 0);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
	EXPECT_EQ(message_node(self, id, NULL), 0u);
	EXPECT_EQ(fuse_line_result(&self->line, fuse_line_read(&self->line, node, fh, O_RDONLY, 0, 100)),
		  -ESTALE);
	fuse_line_release(&self->line, node, fh);
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
}

/* Nothing happens twice to who has its retry open. */
TEST_F(rejected, retry_of_what_is_gone_is_estale)
{
	uint64_t node, fh;

	keep(self, "hello", "no");
	node = message_node(self, only_id(self), "retry");
	fh = fuse_line_open(&self->line, node, O_WRONLY);
	EXPECT_EQ(fuse_line_result(&self->line,
				   fuse_line_write(&self->line, node, fh, O_WRONLY, BYTES_LIT("retry"))),
		  0);
	EXPECT_EQ(fuse_line_result(&self->line,
				   fuse_line_write(&self->line, node, fh, O_WRONLY, BYTES_LIT("retry"))),
		  -ESTALE);
	turn_until_stored(self);
	EXPECT_EQ(fuse_line_result(&self->line,
				   fuse_line_write(&self->line, node, fh, O_WRONLY, BYTES_LIT("retry"))),
		  -ESTALE);
	fuse_line_release(&self->line, node, fh);
	EXPECT_EQ(n_queued(self), 1u);
}

/* As rm -r goes about it. */
TEST_F(rejected, its_files_can_be_removed_which_does_nothing)
{
	static const char *const names[] = {"payload", "properties.json", "reason", "retry"};
	uint64_t id, dir;

	keep(self, "hello", "no");
	id = only_id(self);
	dir = message_node(self, id, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		EXPECT_EQ(remove_name(self, FUSE_UNLINK, dir, names[i]), 0);
	EXPECT_EQ(message_node(self, id, "payload"), 0u);
	restart(self);
	EXPECT_EQ(only_id(self), id);
	expect_file(self, id, "payload", "hello");
	dir = message_node(self, id, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		EXPECT_EQ(remove_name(self, FUSE_UNLINK, dir, names[i]), 0);
	EXPECT_EQ(drop(self, id), 0);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
	restart(self);
	EXPECT_EQ(ids(self, NULL, 0), 0u);
}

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

/* --- random steps ----------------------------------------------------------------------------- */

struct model {
	uint64_t id[REJECTED_MAX + 1];
	uint32_t value[REJECTED_MAX + 1];
	size_t n;
	uint64_t n_queued;
};

static void model_check(struct fixture_rejected *self, const struct model *model)
{
	static uint64_t got[REJECTED_MAX];

	ASSERT_EQ(ids(self, got, REJECTED_MAX), model->n);
	for (size_t i = 0; i < model->n; ++i) {
		char want[12];

		ASSERT_EQ(got[i], model->id[i]);
		snprintf(want, sizeof(want), "%u", model->value[i]);
		expect_file(self, got[i], "payload", want);
	}
	ASSERT_EQ(n_queued(self), model->n_queued);
}

static void model_remove(struct model *model, size_t i)
{
	memmove(&model->id[i], &model->id[i + 1], (model->n - i - 1) * sizeof(model->id[0]));
	memmove(&model->value[i], &model->value[i + 1], (model->n - i - 1) * sizeof(model->value[0]));
	--model->n;
}

static void model_keep(struct fixture_rejected *self, struct model *model)
{
	static uint64_t got[REJECTED_MAX];
	char payload[12];

	model->value[model->n] = (uint32_t)test_random();
	snprintf(payload, sizeof(payload), "%u", model->value[model->n]);
	keep(self, payload, "no");
	ASSERT_EQ(ids(self, got, REJECTED_MAX), model->n + 1);
	model->id[model->n] = got[model->n];
	++model->n;
}

TEST_F(rejected, random_steps)
{
	static struct model model;

	self->is_volatile = test_random() % 2 == 0;
	restart(self);
	for (int i = 0; i < N_STEPS; ++i) {
		uint64_t dice = test_random() % 20;
		size_t at = model.n ? test_random() % model.n : 0;

		if (dice < 11) {
			model_keep(self, &model);
		} else if (dice < 15 && model.n) {
			ASSERT_EQ(drop(self, model.id[at]), 0);
			model_remove(&model, at);
		} else if (dice < 19 && model.n) {
			ASSERT_EQ(retry(self, model.id[at], "retry"), 0);
			model_remove(&model, at);
			++model.n_queued;
		} else if (dice == 19) {
			if (!self->is_volatile)
				turn_until_stored(self);
			restart(self);
			model_check(self, &model);
		}
	}
	model_check(self, &model);
}

TEST_HARNESS_MAIN
