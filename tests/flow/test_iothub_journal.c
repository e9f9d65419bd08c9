/* SPDX-License-Identifier: MIT */
/*
 * iothub-journal on the journal of a daemon: what is written without a hub is what it shows, while the daemon runs and
 * when it was killed; and nothing is left when the hub has it.
 */

#include <fcntl.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define N_MESSAGES 300
#define TEXT_SIZE  (1u << 20)

FIXTURE(journal)
{
	struct lab lab;
	char text[TEXT_SIZE];
};

FIXTURE_SETUP(journal)
{
	lab_init(&self->lab);
	/* Keys and certificates are there, the hub is not. */
	lab_start_emulator(&self->lab, NULL);
	lab_stop_emulator(&self->lab, SIGTERM);
	lab_configure(
		&self->lab,
		"\"channels\": {\"alarms\": {\"priority\": 1, \"properties\": {\"room\": \"k\\u00fcche\"}}}");
	lab_start_daemon(&self->lab);
}

FIXTURE_TEARDOWN(journal)
{
	lab_deinit(&self->lab);
}

static int run(struct fixture_journal *self, const char *a, const char *b)
{
	char dir[128];
	const char *const argv[] = {process_path("iothub-journal"), "--dir", dir, a, b, NULL};

	snprintf(dir, sizeof(dir), "%s/device", self->lab.dir);
	return process_run(argv, self->text, sizeof(self->text));
}

static void write_numbers(struct fixture_journal *self, const char *name)
{
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, name), O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	for (int i = 0; i < N_MESSAGES; ++i)
		ASSERT_GT(dprintf(fd, "%d\n", i), 0);
}

static const char *member(json_object *json, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(json, key, &value) ? json_object_get_string(value) : "none";
}

/* The export has both channels' messages in their order. */
static void expect_export(struct fixture_journal *self)
{
	char *line = self->text, *rest = NULL;

	ASSERT_EQ(run(self, "export", NULL), 0);
	ASSERT_EQ(text_count(self->text, "\n"), 2u * N_MESSAGES);
	for (int i = 0; i < 2 * N_MESSAGES; ++i) {
		json_object *json = json_tokener_parse(strtok_r(i ? NULL : line, "\n", &rest)), *properties;
		char want[16];

		ASSERT_TRUE(json != NULL);
		snprintf(want, sizeof(want), "%d", i % N_MESSAGES);
		ASSERT_STREQ(member(json, "payload"), want);
		ASSERT_STREQ(member(json, "channel"), i < N_MESSAGES ? "default" : "alarms");
		ASSERT_STREQ(member(json, "state"), "queued");
		ASSERT_TRUE(strlen(member(json, "message-id")) > 8);
		ASSERT_TRUE(json_object_object_get_ex(json, "properties", &properties));
		ASSERT_STREQ(member(properties, "room"), i < N_MESSAGES ? "none"
									: "k\xc3\xbc"
									  "che");
		json_object_put(json);
	}
}

TEST_F_TIMEOUT(journal, what_waits, 120)
{
	write_numbers(self, "telemetry");
	write_numbers(self, "channels/alarms/telemetry");
	expect_export(self);
	ASSERT_EQ(run(self, "verify", NULL), 0);
	EXPECT_CONTAINS(self->text, "\nqueued            600\n");
	lab_stop_daemon(&self->lab, SIGKILL);
	expect_export(self);
	ASSERT_EQ(run(self, "verify", NULL), 0);
	EXPECT_CONTAINS(self->text, "\nqueued            600\n");
	ASSERT_EQ(run(self, "show", "301"), 0);
	EXPECT_CONTAINS(self->text, "\nchannel: alarms\npriority: 1\n");
	EXPECT_CONTAINS(self->text, "\n@room: k\xc3\xbc"
				    "che\n");
	ASSERT_EQ(run(self, "list", "lanes"), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 3u);
}

TEST_F_TIMEOUT(journal, what_the_hub_has, 120)
{
	_cleanup_(close_fd) int fd = -1;

	write_numbers(self, "telemetry");
	lab_stop_daemon(&self->lab, SIGKILL);
	lab_start_emulator(&self->lab, NULL);
	lab_start_daemon(&self->lab);
	/* When the hub has the last one it has all. */
	fd = open(lab_path(&self->lab, "telemetry"), O_WRONLY | O_CLOEXEC);
	ASSERT_EQ(write(fd, "last\n", 5), 5);
	ASSERT_EQ(fsync(fd), 0);
	close_fd(&fd);
	lab_stop_daemon(&self->lab, SIGTERM);
	ASSERT_EQ(run(self, "list", NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 1u);
	ASSERT_EQ(run(self, "verify", NULL), 0);
	EXPECT_CONTAINS(self->text, "\nqueued              0\n");
}

TEST_HARNESS_MAIN
