/* SPDX-License-Identifier: MIT */
/* Leaves as text: what is read, what a text stands for, and when one waits for more of it. */

#include <errno.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "flow/twin_doc.h"
#include "flow/twin_leaf.h"
#include "tests/harness.h"

static struct json_object *unconst(const struct json_object *value)
{
	return (struct json_object *)(uintptr_t)value;
}

/* What @text stands for as JSON, "waits", or "error"; static. */
static const char *parse_bytes(struct bytes text, bool last, int *error)
{
	static char out[512];
	const struct json_object *value = NULL;
	struct hub_twin_reason reason = {.text = ""};
	int r = twin_leaf_parse(text, last, &value, &reason);
	struct bytes json;

	*error = r < 0 ? r : 0;
	if (r < 0)
		EXPECT_TRUE(reason.text[0]);
	if (r)
		return r == TWIN_LEAF_WAITS ? "waits" : "error";
	json = twin_doc_text(value, false);
	snprintf(out, sizeof(out), "%.*s", (int)json.len, (const char *)json.data);
	twin_doc_unref(value);
	return out;
}

static const char *parse(const char *text, bool last)
{
	int error;

	return parse_bytes(bytes_from_str(text), last, &error);
}

TEST(written)
{
	static const struct {
		const char *text, *json;
	} rows[] = {
		{"hello\n", "\"hello\""},
		{"hello", "\"hello\""},
		{"hello\n\n", "\"hello\\n\""},
		{"", "\"\""},
		{"\n", "\"\""},
		{" ", "\" \""},
		{"5\n", "5"},
		{" 5 \n", "5"},
		{"-1.50\n", "-1.50"},
		{"1e3", "1e3"},
		{"05", "\"05\""},
		{"0x10", "\"0x10\""},
		{"5 m", "\"5 m\""},
		{"true\n", "true"},
		{"True\n", "\"True\""},
		{"tru", "\"tru\""},
		{"-", "\"-\""},
		{"null\n", "null"},
		{"\"5\"\n", "\"5\""},
		{"\"a\\u0041\"", "\"aA\""},
		{"\"a\" b", "\"\\\"a\\\" b\""},
		{"[1, 2,[null]]\n", "[1,2,[null]]"},
		{"{\"a\": {\"b\":1}}\n", "{\"a\":{\"b\":1}}"},
		{"[INFO] started", "\"[INFO] started\""},
		{"{'a':1}", "\"{'a':1}\""},
		{"1,\"w\":2", "\"1,\\\"w\\\":2\""},
		{"1}", "\"1}\""},
		{"NaN", "\"NaN\""},
		{"18446744073709551615\n", "18446744073709551615"},
		{"89014103211118510720\n", "\"89014103211118510720\""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		EXPECT_STREQ(parse(rows[i].text, false), rows[i].json);
		EXPECT_STREQ(parse(rows[i].text, true), rows[i].json);
	}
}

/* The beginning of what has an end waits for it, and is text when there is none. */
TEST(waiting)
{
	static const char *const texts[] = {"{", "[", "\"", " [1,\n", "{\"a\":tr", "\"ab\\", "\"ab\n"};

	EXPECT_STREQ(parse("[1,", true), "\"[1,\"");
	EXPECT_STREQ(parse("\"ab", true), "\"\\\"ab\"");
	for (size_t i = 0; i + 1 < ARRAY_SIZE(texts); ++i)
		EXPECT_STREQ(parse(texts[i], false), "waits");
	/* A newline in a string is none of JSON, but the one at the end is not in it. */
	EXPECT_STREQ(parse("\"ab\n", false), "waits");
	EXPECT_STREQ(parse("\"ab\nc", false), "\"\\\"ab\\nc\"");
}

TEST(within_a_character)
{
	int error;

	EXPECT_STREQ(parse("gr\xc3", false), "waits");
	EXPECT_STREQ(parse("\xe2\x82", false), "waits");
	EXPECT_STREQ(parse("\xf0\x9f\x98", false), "waits");
	EXPECT_STREQ(parse("gr\xc3\xbc", false), "\"gr\xc3\xbc\"");
	EXPECT_STREQ(parse("gr\xc3", true), "error");
	EXPECT_STREQ(parse("\xbc", false), "error");
	EXPECT_STREQ(parse("\xff", false), "error");
	EXPECT_STREQ(parse("\xc3\xc3", false), "error");
	parse_bytes(BYTES("a\xff"
			  "b",
			  3),
		    false, &error);
	EXPECT_EQ(error, -EINVAL);
	parse_bytes(BYTES("a\0b", 3), false, &error);
	EXPECT_EQ(error, -EINVAL);
}

TEST(bounds)
{
	_cleanup_(free_ptr) char *text = malloc(TWIN_LEAF_TEXT_MAX + 2);
	int error;

	memset(text, '[', TWIN_LEAF_TEXT_MAX + 1);
	parse_bytes(BYTES(text, TWIN_LEAF_TEXT_MAX + 1), false, &error);
	EXPECT_EQ(error, -EMSGSIZE);
	parse_bytes(BYTES(text, TWIN_LEAF_TEXT_MAX), false, &error);
	EXPECT_EQ(error, -EINVAL);
	EXPECT_STREQ(parse_bytes(BYTES(text, 31), false, &error), "waits");
}

/* What is read, cut anywhere, and written back. */
TEST(read)
{
	static const struct {
		const char *json, *text;
	} rows[] = {
		{"\"hello\"", "hello\n"},
		{"\"\"", "\n"},
		{"5", "5\n"},
		{"1.50", "1.50\n"},
		{"false", "false\n"},
		{"[ 1, \"a/b\" ]", "[1,\"a/b\"]\n"},
		{"\"a\\nb\"", "a\nb\n"},
		{"\"\\u00fc\"", "\xc3\xbc\n"},
	};
	char out[64];

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		_cleanup_(twin_doc_unref_ptr) const struct json_object *value =
			json_tokener_parse(rows[i].json);
		_cleanup_(twin_doc_unref_ptr) const struct json_object *back = NULL;
		size_t len = strlen(rows[i].text);
		struct hub_twin_reason reason;

		EXPECT_EQ(twin_leaf_len(value), len);
		for (size_t size = 0; size < sizeof(out); ++size) {
			EXPECT_EQ(twin_leaf_put(value, out, size), size < len ? size : len);
			EXPECT_EQ(memcmp(out, rows[i].text, size < len ? size : len), 0);
		}
		ASSERT_EQ(twin_leaf_parse(BYTES(out, len), false, &back, &reason), 0);
		EXPECT_TRUE(json_object_equal(unconst(back), unconst(value)));
	}
	EXPECT_EQ(twin_leaf_len(NULL), 0u);
	EXPECT_EQ(twin_leaf_put(NULL, out, sizeof(out)), 0u);
}

TEST_HARNESS_MAIN
