/* SPDX-License-Identifier: MIT */
/*
 * Channels in the configuration: every field, every refusal word for word, and the bounds.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "config/settings.h"
#include "tests/harness.h"

FIXTURE(channels)
{
	char text[4096]; /* what the log got */
	int log_fd;
	struct log log;
	struct settings settings;
};

FIXTURE_SETUP(channels)
{
	self->log_fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_GE(self->log_fd, 0);
	self->log = (struct log){.fd = self->log_fd, .level = LOG_LEVEL_INFO};
	settings_init(&self->settings);
}

FIXTURE_TEARDOWN(channels)
{
	if (!test_is_orphan())
		settings_deinit(&self->settings);
}

static int load(struct fixture_channels *self, const char *channels)
{
	static char json[65536];
	ssize_t n;
	int r;

	settings_deinit(&self->settings);
	settings_init(&self->settings);
	ASSERT_EQ(ftruncate(self->log_fd, 0), 0);
	ASSERT_EQ(lseek(self->log_fd, 0, SEEK_SET), 0);
	ASSERT_LT(snprintf(json, sizeof(json), "{\"channels\": %s}", channels), (int)sizeof(json));
	r = settings_read(&self->settings, bytes_from_str(json), "c.json", &self->log);
	n = pread(self->log_fd, self->text, sizeof(self->text) - 1, 0);
	ASSERT_GE(n, 0);
	self->text[n] = '\0';
	return r;
}

static void expect_refused(struct fixture_channels *self, const char *channels, const char *line)
{
	char want[1024];

	EXPECT_EQ(load(self, channels), -EINVAL);
	snprintf(want, sizeof(want), "error: c.json: field \"channels%s\n", line);
	EXPECT_STREQ(self->text, want);
}

TEST_F(channels, every_field)
{
	const struct config *c = &self->settings.config;
	const struct config_channel *channel;

	ASSERT_EQ(load(self, "{\"alarm\": {\"ack\": \"hub\", \"when-full\": \"block\", \"ttl\": 315360000, "
			     "\"priority\": 0,\n"
			     "\"content-type\": \"application/json\", \"content-encoding\": \"utf-8\",\n"
			     "\"user-id\": \"u\", \"correlation-id\": \"c d\",\n"
			     "\"properties\": {\"level\": \"3\", \"ort\": \"M\xc3\xbcnchen\"}}}"),
		  0);
	EXPECT_STREQ(self->text, "");
	ASSERT_EQ(c->n_channels, 1u);
	channel = &c->channels[0];
	EXPECT_STREQ(channel->name, "alarm");
	EXPECT_TRUE(channel->ack == CONFIG_ACK_HUB);
	EXPECT_TRUE(channel->when_full == CONFIG_FULL_BLOCK);
	EXPECT_EQ(channel->ttl_s, 315360000u);
	EXPECT_EQ(channel->priority, 0);
	EXPECT_STREQ(channel->texts[CONFIG_CHANNEL_CONTENT_TYPE], "application/json");
	EXPECT_STREQ(channel->texts[CONFIG_CHANNEL_CONTENT_ENCODING], "utf-8");
	EXPECT_STREQ(channel->texts[CONFIG_CHANNEL_USER_ID], "u");
	EXPECT_STREQ(channel->texts[CONFIG_CHANNEL_CORRELATION_ID], "c d");
	ASSERT_EQ(channel->n_properties, 2u);
	EXPECT_STREQ(channel->property_names[0], "level");
	EXPECT_STREQ(channel->property_values[0], "3");
	EXPECT_STREQ(channel->property_names[1], "ort");
	EXPECT_STREQ(channel->property_values[1], "M\xc3\xbcnchen");
}

TEST_F(channels, defaults)
{
	const struct config_channel *channel;

	ASSERT_EQ(load(self,
		       "{\"default\": {}, \"b\": {\"ack\": \"stored\", \"when-full\": \"drop-oldest\"}, "
		       "\"c\": {\"ack\": \"queued\", \"when-full\": \"reject\"}}"),
		  0);
	ASSERT_EQ(self->settings.config.n_channels, 3u);
	channel = &self->settings.config.channels[0];
	EXPECT_STREQ(channel->name, "default");
	EXPECT_TRUE(channel->ack == CONFIG_ACK_QUEUED);
	EXPECT_TRUE(channel->when_full == CONFIG_FULL_REJECT);
	EXPECT_EQ(channel->ttl_s, 0u);
	EXPECT_EQ(channel->priority, 5);
	for (size_t i = 0; i < CONFIG_CHANNEL_N_TEXTS; ++i)
		EXPECT_EQ(channel->texts[i], NULL);
	EXPECT_EQ(channel->n_properties, 0u);
	++channel;
	EXPECT_TRUE(channel->ack == CONFIG_ACK_STORED);
	EXPECT_TRUE(channel->when_full == CONFIG_FULL_DROP_OLDEST);
	ASSERT_EQ(load(self, "{}"), 0);
	EXPECT_EQ(self->settings.config.n_channels, 0u);
}

TEST_F(channels, wrong_values)
{
	expect_refused(self, "[]", "\" must be an object, not an array");
	expect_refused(self, "{\"a\": 1}", ".a\" must be an object, not a number");
	expect_refused(self, "{\"a\": {\"akc\": 1}}", ".a.akc\" is not known: did you mean \"ack\"?");
	expect_refused(self, "{\"a\": {\"ack\": \"disk\"}}",
		       ".a.ack\" must be \"queued\", \"stored\" or \"hub\"");
	expect_refused(self, "{\"a\": {\"when-full\": 1}}",
		       ".a.when-full\" must be \"reject\", \"block\" or \"drop-oldest\", not a number");
	expect_refused(self, "{\"a\": {\"ttl\": 315360001}}",
		       ".a.ttl\" must be a whole number from 0 to 315360000, not 315360001");
	expect_refused(self, "{\"a\": {\"priority\": 10}}",
		       ".a.priority\" must be a whole number from 0 to 9, not 10");
	expect_refused(self, "{\"a\": {\"user-id\": \"\"}}", ".a.user-id\" must be a string, not empty");
	expect_refused(self, "{\"a\": {\"user-id\": \"x\\ny\"}}",
		       ".a.user-id\" is not valid: use at most 1024 bytes without control characters");
	expect_refused(self, "{\"a\": {\"user-id\": \"\xc2\x85\"}}",
		       ".a.user-id\" is not valid: use at most 1024 bytes without control characters");
	expect_refused(self, "{\"a\": {\"properties\": []}}",
		       ".a.properties\" must be an object, not an array");
	expect_refused(self, "{\"a\": {\"properties\": {\"k\": 1}}}",
		       ".a.properties.k\" must be a string, not a number");
	expect_refused(
		self, "{\"a\": {\"properties\": {\"k/l\": \"v\"}}}",
		".a.properties.k/l\" is a name no property can have: use 1 to 255 bytes without control "
		"characters and slashes");
	expect_refused(self, "{\"a\": {}, \"b\": {\"ttl\": \"x\"}}",
		       ".b.ttl\" must be a whole number from 0 to 315360000, not a string");
}

TEST_F(channels, names)
{
	static const char rule[] =
		"\" is a name no channel can have: use 1 to 64 letters, digits and -_. (not a dot "
		"first)";
	static const char *const wrong[] = {"", ".a", "a/b", "a b", "..", "\xc3\xa4"};
	char json[256], line[256], name[66];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); ++i) {
		snprintf(json, sizeof(json), "{\"%s\": {}}", wrong[i]);
		EXPECT_EQ(load(self, json), -EINVAL);
		EXPECT_CONTAINS(self->text, rule);
	}
	memset(name, 'n', 65);
	name[65] = '\0';
	snprintf(json, sizeof(json), "{\"%s\": {}}", name);
	snprintf(line, sizeof(line), ".%s%s", name, rule);
	expect_refused(self, json, line);
	name[64] = '\0';
	snprintf(json, sizeof(json), "{\"%s\": {}}", name);
	EXPECT_EQ(load(self, json), 0);
	EXPECT_EQ(load(self, "{\"A.b-c_9\": {}}"), 0);
}

/* {"c0": {}, … } and what is in @more. */
static int load_many(struct fixture_channels *self, int n, const char *more)
{
	static char json[4096];
	size_t len = (size_t)snprintf(json, sizeof(json), "{%s", more);

	for (int i = 0; i < n; ++i)
		len += (size_t)snprintf(json + len, sizeof(json) - len, "%s\"c%d\": {}", i ? ", " : "", i);
	snprintf(json + len, sizeof(json) - len, "}");
	return load(self, json);
}

TEST_F(channels, bounds)
{
	static char json[60000];
	char value[1026];
	size_t len;

	EXPECT_EQ(load_many(self, 63, ""), 0);
	EXPECT_EQ(load_many(self, 63, "\"default\": {}, "), 0);
	EXPECT_EQ(load_many(self, 64, ""), -EINVAL);
	EXPECT_CONTAINS(self->text,
			"field \"channels\" has 64 channels: at most 63 besides \"default\" are possible\n");
	memset(value, 'v', sizeof(value) - 1);
	value[1025] = '\0';
	snprintf(json, sizeof(json), "{\"a\": {\"user-id\": \"%s\"}}", value);
	EXPECT_EQ(load(self, json), -EINVAL);
	value[1024] = '\0';
	snprintf(json, sizeof(json), "{\"a\": {\"user-id\": \"%s\"}}", value);
	EXPECT_EQ(load(self, json), 0);
	/* 16 properties of 1024 bytes are a little more than all may have together. */
	len = (size_t)snprintf(json, sizeof(json), "{\"a\": {\"properties\": {\"k\": \"v\"");
	for (int i = 0; i < 16; ++i)
		len += (size_t)snprintf(json + len, sizeof(json) - len, ", \"k%d\": \"%s\"", i, value);
	snprintf(json + len, sizeof(json) - len, "}}}");
	expect_refused(
		self, json,
		".a\" has properties of 16526 bytes: every message has them, so at most 16384 are allowed");
	len = (size_t)snprintf(json, sizeof(json), "{\"a\": {\"properties\": {\"k\": \"v\"");
	for (int i = 0; i < 64; ++i)
		len += (size_t)snprintf(json + len, sizeof(json) - len, ", \"k%d\": \"v\"", i);
	snprintf(json + len, sizeof(json) - len, "}}}");
	expect_refused(self, json, ".a.properties\" has 65 properties: a channel has at most 64");
}

TEST_HARNESS_MAIN
