/* SPDX-License-Identifier: MIT */
/*
 * Rejected messages: what their files show, retry, drop, and random steps.
 */

#include "tests/support/rejected_line.h"

#define N_STEPS 400

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
