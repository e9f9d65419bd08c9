/* SPDX-License-Identifier: MIT */
/*
 * What iothub-run makes of a line of `commands/stream`, and the environment a program gets.
 */

#include <errno.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tools/run/delivery.h"
#include "tools/run/environment.h"

FIXTURE(environment)
{
	struct environment env;
	struct delivery delivery;
};

FIXTURE_SETUP(environment)
{
	ASSERT_EQ(environment_init(&self->env, NULL), 0);
}

FIXTURE_TEARDOWN(environment)
{
	if (test_is_orphan())
		return;
	environment_deinit(&self->env);
	delivery_deinit(&self->delivery);
}

/* Value of a variable, "(none)" without. */
static const char *value(const struct environment *env, const char *name)
{
	size_t len = strlen(name);

	for (char **v = env->vars; *v; v++) {
		if (strncmp(*v, name, len) == 0 && (*v)[len] == '=')
			return *v + len + 1;
	}
	return "(none)";
}

static int set(struct environment *env, const char *name, const char *text)
{
	return environment_set(env, name, text, strlen(text));
}

static int set_property(struct environment *env, const char *name, const char *text)
{
	return environment_set_property(env, name, text, strlen(text));
}

static int parse(struct fixture_environment *self, const char *line)
{
	delivery_deinit(&self->delivery);
	return delivery_parse(&self->delivery, bytes_from_str(line));
}

/* --- environment ------------------------------------------------------------------------------ */

TEST_F(environment, is_empty_at_first_and_grows)
{
	char name[16];

	EXPECT_TRUE(self->env.vars[0] == NULL);
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "N%d", i);
		ASSERT_EQ(set(&self->env, name, name), 0);
	}
	EXPECT_EQ(self->env.n, 500u);
	EXPECT_TRUE(self->env.vars[500] == NULL);
	EXPECT_STREQ(value(&self->env, "N0"), "N0");
	EXPECT_STREQ(value(&self->env, "N499"), "N499");
}

TEST_F(environment, setting_replaces)
{
	ASSERT_EQ(set(&self->env, "A", "one"), 0);
	ASSERT_EQ(set(&self->env, "AB", "other"), 0);
	ASSERT_EQ(set(&self->env, "A", "two"), 0);
	EXPECT_EQ(self->env.n, 2u);
	EXPECT_STREQ(value(&self->env, "A"), "two");
	EXPECT_STREQ(value(&self->env, "AB"), "other");
}

TEST_F(environment, what_is_ours_does_not_come_from_elsewhere)
{
	char path[] = "PATH=/bin", id[] = "IOTHUB_MESSAGE_ID=old", property[] = "IOTHUB_PROPERTY_X=old",
	     mount[] = "IOTHUB_MOUNT=/m", notify[] = "NOTIFY_SOCKET=/s",
	     similar[] = "IOTHUB_MESSAGE_IDS=kept";
	char *vars[] = {path, id, property, mount, notify, similar, NULL};

	environment_deinit(&self->env);
	ASSERT_EQ(environment_init(&self->env, vars), 0);
	EXPECT_EQ(self->env.n, 3u);
	EXPECT_STREQ(value(&self->env, "PATH"), "/bin");
	EXPECT_STREQ(value(&self->env, "IOTHUB_MOUNT"), "/m");
	EXPECT_STREQ(value(&self->env, "IOTHUB_MESSAGE_IDS"), "kept");
}

TEST_F(environment, names_of_properties)
{
	ASSERT_EQ(set_property(&self->env, "kind", "a"), 0);
	ASSERT_EQ(set_property(&self->env, "Content-Hash.sha256", "b"), 0);
	ASSERT_EQ(set_property(&self->env,
			       "Gr\xc3\xb6\xc3\x9f"
			       "e=1",
			       "c"),
		  0);
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTY_KIND"), "a");
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTY_CONTENT_HASH_SHA256"), "b");
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTY_GR____E_1"), "c");
	ASSERT_EQ(set_property(&self->env, "KIND", "last"), 0);
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTY_KIND"), "last");
}

TEST_F(environment, what_does_not_fit)
{
	static char text[131072];

	memset(text, 'x', sizeof(text));
	EXPECT_EQ(environment_set(&self->env, "A", text, sizeof(text) - 3), 0);
	EXPECT_EQ(environment_set(&self->env, "A", text, sizeof(text) - 2), -E2BIG);
	EXPECT_EQ(environment_set(&self->env, "B", "a\0b", 3), -EINVAL);
	EXPECT_EQ(self->env.n, 1u);
}

/* --- commands --------------------------------------------------------------------------------- */

TEST_F(environment, of_a_command_with_all_there_is)
{
	ASSERT_EQ(
		parse(self,
		      "{\"sequence-no\":18446744073709551615,\"enqueued-time\":\"2026-11-22T08:00:00.000Z\","
		      "\"delivery-count\":3,\"message-id\":\"m "
		      "1\",\"user-id\":\"u\",\"correlation-id\":\"c\","
		      "\"creation-time\":\"2026-11-22T07:00:00.000Z\",\"content-type\":\"text/plain\","
		      "\"content-encoding\":\"utf-8\",\"later\":{\"x\":1},"
		      "\"properties\":{\"kind\":\"a/b\",\"x-y\":\"1\\n2\"},\"payload\":\"on\"}\n"),
		0);
	EXPECT_EQ(self->delivery.sequence_no, UINT64_MAX);
	EXPECT_STREQ(self->delivery.enqueued_time, "2026-11-22T08:00:00.000Z");
	EXPECT_EQ(self->delivery.delivery_count, 3u);
	EXPECT_TRUE(bytes_equal_str(self->delivery.payload, "on"));
	ASSERT_EQ(delivery_environment(&self->delivery, &self->env), 0);
	EXPECT_STREQ(value(&self->env, "IOTHUB_SEQUENCE_NO"), "18446744073709551615");
	EXPECT_STREQ(value(&self->env, "IOTHUB_ENQUEUED_TIME"), "2026-11-22T08:00:00.000Z");
	EXPECT_STREQ(value(&self->env, "IOTHUB_DELIVERY_COUNT"), "3");
	EXPECT_STREQ(value(&self->env, "IOTHUB_MESSAGE_ID"), "m 1");
	EXPECT_STREQ(value(&self->env, "IOTHUB_USER_ID"), "u");
	EXPECT_STREQ(value(&self->env, "IOTHUB_CORRELATION_ID"), "c");
	EXPECT_STREQ(value(&self->env, "IOTHUB_CREATION_TIME"), "2026-11-22T07:00:00.000Z");
	EXPECT_STREQ(value(&self->env, "IOTHUB_CONTENT_TYPE"), "text/plain");
	EXPECT_STREQ(value(&self->env, "IOTHUB_CONTENT_ENCODING"), "utf-8");
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTY_KIND"), "a/b");
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTY_X_Y"), "1\n2");
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTIES"), "{\"kind\":\"a/b\",\"x-y\":\"1\\n2\"}");
}

#define HEAD "{\"sequence-no\":1,\"enqueued-time\":\"t\",\"delivery-count\":1,"

TEST_F(environment, of_a_command_with_nothing_but_what_must_be)
{
	ASSERT_EQ(parse(self, HEAD "\"payload\":\"\"}"), 0);
	EXPECT_EQ(self->delivery.payload.len, 0u);
	ASSERT_EQ(delivery_environment(&self->delivery, &self->env), 0);
	EXPECT_EQ(self->env.n, 4u);
	EXPECT_STREQ(value(&self->env, "IOTHUB_MESSAGE_ID"), "(none)");
	EXPECT_STREQ(value(&self->env, "IOTHUB_PROPERTIES"), "{}");
}

TEST_F(environment, payloads)
{
	ASSERT_EQ(parse(self, HEAD "\"payload\":\"a\\u0000\\u00e9\"}\n"), 0);
	EXPECT_TRUE(bytes_equal(self->delivery.payload, BYTES_LIT("a\0\xc3\xa9")));
	ASSERT_EQ(parse(self, HEAD "\"payload-base64\":\"AP+A\"}\n"), 0);
	EXPECT_TRUE(bytes_equal(self->delivery.payload, BYTES_LIT("\0\xff\x80")));
	ASSERT_EQ(parse(self, HEAD "\"payload-base64\":\"\"}\n"), 0);
	EXPECT_EQ(self->delivery.payload.len, 0u);
}

TEST_F(environment, lines_that_are_no_command)
{
	static const char *const lines[] = {
		"",
		"\n",
		"[]",
		"1",
		"{",
		HEAD,
		HEAD "\"payload\":\"x\"",
		HEAD "\"x\":1}",
		HEAD "\"payload\":1}",
		HEAD "\"payload-base64\":\"A\"}",
		"{\"enqueued-time\":\"t\",\"delivery-count\":1,\"payload\":\"\"}",
		"{\"sequence-no\":\"1\",\"enqueued-time\":\"t\",\"delivery-count\":1,\"payload\":\"\"}",
		"{\"sequence-no\":1,\"delivery-count\":1,\"payload\":\"\"}",
		"{\"sequence-no\":1,\"enqueued-time\":\"t\",\"payload\":\"\"}",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (parse(self, lines[i]) != -EPROTO)
			TEST_LOG("taken: %s", lines[i]);
		EXPECT_EQ(parse(self, lines[i]), -EPROTO);
	}
	/* A time that is longer than any. */
	EXPECT_EQ(parse(self, "{\"sequence-no\":1,\"enqueued-time\":\"01234567890123456789012345678901\","
			      "\"delivery-count\":1,\"payload\":\"\"}"),
		  -EPROTO);
}

TEST_F(environment, a_property_that_does_not_fit)
{
	static char line[200000];
	size_t n = (size_t)snprintf(line, sizeof(line), HEAD "\"payload\":\"\",\"properties\":{\"long\":\"");

	memset(line + n, 'x', 140000);
	strcpy(line + n + 140000, "\"}}");
	ASSERT_EQ(parse(self, line), 0);
	EXPECT_EQ(delivery_environment(&self->delivery, &self->env), -E2BIG);
	ASSERT_EQ(parse(self, HEAD "\"payload\":\"\",\"properties\":{\"nul\":\"a\\u0000b\"}}"), 0);
	EXPECT_EQ(delivery_environment(&self->delivery, &self->env), -EINVAL);
}

static int compare(struct fixture_environment *self, const char *text)
{
	_cleanup_(close_fd) int fd = memfd_create("properties", MFD_CLOEXEC);

	ASSERT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	return delivery_compare(&self->delivery, fd);
}

TEST_F(environment, properties_of_this_command_or_of_another)
{
	char text[20000];

	ASSERT_EQ(parse(self,
			"{\"sequence-no\":7,\"enqueued-time\":\"t1\",\"delivery-count\":1,\"payload\":\"\"}"),
		  0);
	EXPECT_EQ(compare(self, "{\"sequence-no\":7,\"enqueued-time\":\"t1\",\"delivery-count\":3}\n"), 1);
	EXPECT_EQ(compare(self, "{\"sequence-no\":7,\"enqueued-time\":\"t2\"}"), 0);
	EXPECT_EQ(compare(self, "{\"sequence-no\":7,\"enqueued-time\":\"t11\"}"), 0);
	EXPECT_EQ(compare(self, "{\"sequence-no\":8,\"enqueued-time\":\"t1\"}"), 0);
	/* More than is read at once. */
	snprintf(text, sizeof(text), "{\"a\":\"%*d\",\"sequence-no\":7,\"enqueued-time\":\"t1\"}", 10000, 1);
	EXPECT_EQ(compare(self, text), 1);
	text[9000] = '\0';
	EXPECT_EQ(compare(self, text), -EPROTO);
	EXPECT_EQ(compare(self, ""), -EPROTO);
	EXPECT_EQ(compare(self, "[]"), -EPROTO);
	EXPECT_EQ(compare(self, "{\"sequence-no\":7}"), -EPROTO);
	EXPECT_EQ(compare(self, "{]"), -EPROTO);
}

TEST_HARNESS_MAIN
