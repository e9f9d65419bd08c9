/* SPDX-License-Identifier: MIT */
/* Twin states: what is JSON and what is not, the limits one by one on both sides of each, and what people are told. */

#include <errno.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "hub/twin.h"
#include "tests/harness.h"
#include "tools/emulator/twin.h"

static struct hub_twin_reason reason;

static int parse(struct bytes text)
{
	struct json_object *object = NULL;
	int r = hub_twin_parse(text, &object, &reason);

	EXPECT_TRUE((r == 0) == (object != NULL));
	EXPECT_TRUE((r == 0) == (reason.text[0] == '\0'));
	json_object_put(object);
	return r;
}

static int parse_str(const char *text)
{
	return parse(bytes_from_str(text));
}

/* What @check says of @text, which is JSON. */
static int check_with(int (*check)(const struct json_object *, struct hub_twin_reason *), struct bytes text)
{
	struct json_object *object = NULL;
	int r;

	ASSERT_EQ(hub_twin_parse(text, &object, &reason), 0);
	r = check(object, &reason);
	EXPECT_TRUE((r == 0) == (reason.text[0] == '\0'));
	json_object_put(object);
	return r;
}

static int check(const char *text)
{
	int r = check_with(hub_twin_check, bytes_from_str(text));

	EXPECT_EQ(check_with(hub_twin_check_patch, bytes_from_str(text)), r);
	return r;
}

/* @head, @n times @piece, @tail: the caller's to free. */
static char *repeat(const char *head, const char *piece, size_t n, const char *tail)
{
	size_t len = strlen(piece);
	char *out = malloc(strlen(head) + n * len + strlen(tail) + 1), *end;

	ASSERT_TRUE(out != NULL);
	end = stpcpy(out, head);
	for (size_t i = 0; i < n; i++)
		end = stpcpy(end, piece);
	stpcpy(end, tail);
	return out;
}

static int check_repeat(const char *head, const char *piece, size_t n, const char *tail)
{
	_cleanup_(free_ptr) char *text = repeat(head, piece, n, tail);

	return check(text);
}

/* A state that counts @size bytes: strings of 3999 and one of the rest, each under a key of one byte. */
static char *state_of_size(size_t size)
{
	char *out = malloc(size + 1024), *end;
	char key = 'a';

	ASSERT_TRUE(out != NULL);
	end = stpcpy(out, "{");
	while (size) {
		size_t len = size > 4000 ? 3999 : size - 1;

		end += sprintf(end, "%s\"%c\":\"%0*d\"", key == 'a' ? "" : ",", key, (int)len, 0);
		size -= len + 1;
		key++;
	}
	stpcpy(end, "}");
	return out;
}

TEST(parse_takes_json_objects)
{
	static const char *const good[] = {
		"{}",
		" {\"a\" : [1, 2] }\n",
		"\t\r\n{ }\t",
		"{\"a\":null,\"b\":true,\"c\":false}",
		"{\"a\":0,\"b\":-0,\"c\":-1,\"d\":10,\"e\":1.5,\"f\":-0.5e+10,\"g\":1E-2}",
		"{\"a\":[],\"b\":[[]],\"c\":{},\"d\":[{}]}",
		"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"}",
		"{\"\xc3\xa9\":\"\xf0\x9f\x98\x80\"}",
		"{\"a\":\"\\u0000\"}",
		"{\"\":1,\"a b\":1,\"$version\":7}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		EXPECT_EQ(parse_str(good[i]), 0);
		if (reason.text[0])
			TEST_LOG("%s: %s", good[i], reason.text);
	}
}

/* Not JSON, or not an object. */
static const char *const not_a_state[] = {
	"",
	" ",
	"1",
	"null",
	"[]",
	"\"a\"",
	"{",
	"}",
	"{}{}",
	"{} x",
	"{},",
	"{'a':1}",
	"{\"a\":'b'}",
	"{a:1}",
	"{\"a\"}",
	"{\"a\":}",
	"{\"a\" 1}",
	"{\"a\":1,}",
	"{,}",
	"{\"a\":1 \"b\":2}",
	"{\"a\":[1,]}",
	"{\"a\":[,1]}",
	"{\"a\":[1 2]}",
	"{\"a\":[1}",
	"{\"a\":NaN}",
	"{\"a\":Infinity}",
	"{\"a\":-Infinity}",
	"{\"a\":nul}",
	"{\"a\":True}",
	"{\"a\":truex}",
	"{\"a\":01}",
	"{\"a\":-01}",
	"{\"a\":00}",
	"{\"a\":1.}",
	"{\"a\":.5}",
	"{\"a\":-.5}",
	"{\"a\":-}",
	"{\"a\":+1}",
	"{\"a\":1e}",
	"{\"a\":1e+}",
	"{\"a\":0x1}",
	"{\"a\":\"\n\"}",
	"{\"a\":\"\x1f\"}",
	"{\"a\":\"\\x\"}",
	"{\"a\":\"\\u12g4\"}",
	"{\"a\":\"\\u12\"}",
	"{\"a\":\"\\",
	"{\"a\":\"b",
	"{\"a\\u0000b\":1}",
	"{\"a\":\"\xff\"}",
	"{\"a\":\"\xc0\x80\"}",
	"{\"a\":\"\xed\xa0\x80\"}",
	"{/* */}",
	"{}//",
	"\xef\xbb\xbf{}",
};

TEST(parse_refuses_everything_else)
{
	for (size_t i = 0; i < ARRAY_SIZE(not_a_state); i++) {
		EXPECT_EQ(parse_str(not_a_state[i]), -EINVAL);
		if (!reason.text[0])
			TEST_LOG("accepted: %s", not_a_state[i]);
	}
	EXPECT_EQ(parse(BYTES("{\"a\0b\":1}", 9)), -EINVAL);
	EXPECT_EQ(parse(BYTES("{\"a\":\"\0\"}", 9)), -EINVAL);
	EXPECT_EQ(parse(BYTES("{}\0", 3)), -EINVAL);
	EXPECT_EQ(parse(BYTES(NULL, 0)), -EINVAL);
}

TEST(parse_reads_no_further_than_the_text)
{
	EXPECT_EQ(parse(BYTES("{\"a\":1}", 6)), -EINVAL);
	EXPECT_EQ(parse(BYTES("{\"a\":true}", 8)), -EINVAL);
	EXPECT_EQ(parse(BYTES("{}}", 2)), 0);
}

TEST(parse_says_where)
{
	EXPECT_EQ(parse_str("{\"a\":1,}"), -EINVAL);
	EXPECT_STREQ(reason.text, "not a JSON object: byte 8: a key in double quotes is expected");
	EXPECT_EQ(parse_str("{\"a\":1"), -EINVAL);
	EXPECT_STREQ(reason.text, "not a JSON object: byte 7: the text ends early");
	EXPECT_EQ(parse_str("[]"), -EINVAL);
	EXPECT_STREQ(reason.text, "not a JSON object: byte 1: a JSON object is expected");
	EXPECT_EQ(parse_str("{\"a\":\"\xff\"}"), -EINVAL);
	EXPECT_STREQ(reason.text, "the text is not UTF-8");
}

TEST(parse_bounds_levels)
{
	_cleanup_(free_ptr) char *deep = repeat("{\"a\":", "[", 30, "");
	_cleanup_(free_ptr) char *good = repeat(deep, "]", 30, "}");
	_cleanup_(free_ptr) char *inner = repeat(deep, "[", 1, "]");
	_cleanup_(free_ptr) char *bad = repeat(inner, "]", 30, "}");
	_cleanup_(free_ptr) char *hostile = repeat("{\"a\":", "[", 200000, "");

	EXPECT_EQ(parse_str(good), 0);
	EXPECT_EQ(parse_str(bad), -EINVAL);
	EXPECT_CONTAINS(reason.text, "too many levels");
	EXPECT_EQ(parse_str(hostile), -EINVAL);
	EXPECT_CONTAINS(reason.text, "too many levels");
}

TEST(parse_bounds_values)
{
	/* The object and the array are values as well. */
	_cleanup_(free_ptr) char *good = repeat("{\"a\":[0", ",0", HUB_TWIN_PARSE_VALUES_MAX - 3, "]}");
	_cleanup_(free_ptr) char *bad = repeat("{\"a\":[0", ",0", HUB_TWIN_PARSE_VALUES_MAX - 2, "]}");

	EXPECT_EQ(parse_str(good), 0);
	EXPECT_EQ(parse_str(bad), -EINVAL);
	EXPECT_CONTAINS(reason.text, "too many values");
}

TEST(parse_bounds_the_text)
{
	_cleanup_(free_ptr) char *good = repeat("{}", " ", HUB_TWIN_TEXT_BYTES_MAX - 2, "");
	_cleanup_(free_ptr) char *bad = repeat("{}", " ", HUB_TWIN_TEXT_BYTES_MAX - 1, "");

	EXPECT_EQ(parse_str(good), 0);
	EXPECT_EQ(parse_str(bad), -EMSGSIZE);
	EXPECT_CONTAINS(reason.text, "262145 bytes");
}

TEST(keys)
{
	static const char *const good[] = {"{\"a\":1}",         "{\"a-b_c/d\":1}",
					   "{\"'\\\"\\\\\":1}", "{\"\xc3\xa9\":1}",
					   "{\"\xc2\xa0\":1}",  "{\"\xf0\x9f\x98\x80\":1}"};
	static const char *const bad[][2] = {
		{"{\"\":1}", "key \"\": an empty key is not allowed"},
		{"{\"a b\":1}", "key \"a b\": a space is not allowed in keys"},
		{"{\"a.b\":1}", "key \"a.b\": a dot is not allowed in keys"},
		{"{\"$version\":1}", "key \"$version\": a $ is not allowed in keys"},
		{"{\"a\\nb\":1}", "key \"a?b\": control characters are not allowed in keys"},
		{"{\"a\x7f\":1}", "key \"a?\": control characters are not allowed in keys"},
		{"{\"\\u0085\":1}", "key \"??\": control characters are not allowed in keys"},
		{"{\"\\u009f\":1}", "key \"??\": control characters are not allowed in keys"},
		{"{\"a\":{\"b\":[0,{\"c d\":1}]}}", "key \"c d\": a space is not allowed in keys"},
		{"{\"a b\":null}", "key \"a b\": a space is not allowed in keys"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		EXPECT_EQ(check(good[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(check(bad[i][0]), -EINVAL);
		EXPECT_STREQ(reason.text, bad[i][1]);
	}
}

TEST(lengths_of_keys)
{
	EXPECT_EQ(check_repeat("{\"", "k", 1024, "\":1}"), 0);
	EXPECT_EQ(check_repeat("{\"", "k", 1025, "\":1}"), -EMSGSIZE);
	EXPECT_STREQ(reason.text, "key \"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk...\": "
				  "a key has at most 1024 bytes");
	/* Bytes and not characters; and no half of one in the reason. */
	EXPECT_EQ(check_repeat("{\"", "\xe2\x82\xac", 341, "\":1}"), 0);
	EXPECT_EQ(check_repeat("{\"", "\xe2\x82\xac", 342, "\":1}"), -EMSGSIZE);
	EXPECT_CONTAINS(reason.text, "\xe2\x82\xac...\"");
	EXPECT_EQ(check_repeat("{\"ab", "\xe2\x82\xac", 342, "\":1}"), -EMSGSIZE);
	EXPECT_CONTAINS(reason.text, "\xe2\x82\xac...\"");
}

TEST(lengths_of_strings)
{
	EXPECT_EQ(check_repeat("{\"a\":\"", "v", 4096, "\"}"), 0);
	EXPECT_EQ(check_repeat("{\"a\":\"", "v", 4097, "\"}"), -EMSGSIZE);
	EXPECT_STREQ(reason.text, "key \"a\": a string has at most 4096 bytes");
	EXPECT_EQ(check_repeat("{\"a\":[[\"", "v", 4097, "\"]]}"), -EMSGSIZE);
	/* What the string is, not how it is written. */
	EXPECT_EQ(check_repeat("{\"a\":\"", "\\u0041", 4096, "\"}"), 0);
	EXPECT_EQ(check("{\"a\":\"b\\u0000\"}"), -EINVAL);
	EXPECT_STREQ(reason.text, "key \"a\": U+0000 is not allowed in strings");
}

TEST(levels)
{
	EXPECT_EQ(check("{\"a\":[[[[[[[[[[1]]]]]]]]]]}"), 0);
	EXPECT_EQ(check("{\"a\":[[[[[[[[[[[]]]]]]]]]]]}"), -EINVAL);
	EXPECT_STREQ(reason.text, "key \"a\": more than 10 levels are not allowed");
	EXPECT_EQ(check("{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":{\"j\":{}}}}}}}}}}}"),
		  0);
	EXPECT_EQ(check("{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":{\"j\":"
			"{\"k\":{}}}}}}}}}}}}"),
		  -EINVAL);
	EXPECT_STREQ(reason.text, "key \"k\": more than 10 levels are not allowed");
}

TEST(numbers_have_bounds)
{
	EXPECT_EQ(check("{\"a\":1e308}"), 0);
	EXPECT_EQ(check("{\"a\":1e999}"), -EINVAL);
	EXPECT_STREQ(reason.text, "key \"a\": a number beyond all bounds is not allowed");
	EXPECT_EQ(check("{\"a\":-1e999}"), -EINVAL);
}

/* What is held is what was written. */
TEST(numbers_are_not_changed)
{
	EXPECT_EQ(parse_str("{\"a\":18446744073709551615,\"b\":-9223372036854775808}"), 0);
	EXPECT_EQ(parse_str("{\"a\":18446744073709551616}"), -EINVAL);
	EXPECT_STREQ(reason.text, "not a JSON object: byte 26: a whole number has at most 64 bits: "
				  "write it as a string");
	EXPECT_EQ(parse_str("{\"a\":-9223372036854775809}"), -EINVAL);
	EXPECT_EQ(parse_str("{\"a\":0.00000000000000000000000000000000000001}"), 0);
	EXPECT_EQ(parse_str("{\"a\":0.000000000000000000000000000000000000001}"), -EINVAL);
}

TEST(only_objects)
{
	struct json_object *array = json_object_new_array();

	EXPECT_EQ(hub_twin_check(array, &reason), -EINVAL);
	EXPECT_EQ(hub_twin_check_patch(array, &reason), -EINVAL);
	EXPECT_EQ(hub_twin_check(NULL, &reason), -EINVAL);
	EXPECT_STREQ(reason.text, "a JSON object is expected");
	json_object_put(array);
}

/* An object nobody parsed can have any depth and any bytes in its keys. */
TEST(objects_from_elsewhere)
{
	struct json_object *deep = json_object_new_object(), *bytes = json_object_new_object();

	for (int i = 0; i < 1000; i++) {
		struct json_object *outer = json_object_new_object();

		json_object_object_add(outer, "a", deep);
		deep = outer;
	}
	EXPECT_EQ(hub_twin_check(deep, &reason), -EINVAL);
	EXPECT_CONTAINS(reason.text, "more than 10 levels");
	json_object_object_add(bytes, "\xff", NULL);
	EXPECT_EQ(hub_twin_check_patch(bytes, &reason), -EINVAL);
	EXPECT_STREQ(reason.text, "key \"?\": a key is UTF-8");
	json_object_put(deep);
	json_object_put(bytes);
}

TEST(the_size_of_a_state)
{
	_cleanup_(free_ptr) char *full = state_of_size(HUB_TWIN_STATE_BYTES_MAX);
	_cleanup_(free_ptr) char *over = state_of_size(HUB_TWIN_STATE_BYTES_MAX + 1);

	EXPECT_EQ(check(full), 0);
	EXPECT_EQ(check(over), -EMSGSIZE);
	EXPECT_STREQ(reason.text, "the properties have 32769 bytes, at most 32768 are allowed");
}

/* Room for @n elements after a key of 8 bytes, and not one more. */
static void expect_elements(const char *element, size_t n)
{
	char head[64], piece[64];

	snprintf(head, sizeof(head), "{\"12345678\":[%s", element);
	snprintf(piece, sizeof(piece), ",%s", element);
	EXPECT_EQ(check_repeat(head, piece, n - 1, "]}"), 0);
	EXPECT_EQ(check_repeat(head, piece, n, "]}"), -EMSGSIZE);
}

TEST(what_counts_how_much)
{
	expect_elements("0", 4095);
	expect_elements("1.25", 4095);
	expect_elements("true", 8190);
	expect_elements("\"abcde\"", 6552);
	expect_elements("null", 32760);
	expect_elements("\"\"", 32760);
	expect_elements("[]", 32760);
	expect_elements("{}", 32760);
	expect_elements("[0]", 3640);
	expect_elements("{\"a\":0}", 3276);
	expect_elements("{\"a\":null}", 16380);
}

/* A patch which only takes away is never too long, and nothing that the hub would take is refused. */
TEST(null_in_a_patch_counts_nothing)
{
	_cleanup_(free_ptr) char *full = state_of_size(HUB_TWIN_STATE_BYTES_MAX);
	_cleanup_(free_ptr) char *both = NULL;
	_cleanup_(free_ptr) char *in_array = repeat("{\"a\":[{\"b\":null}", ",{\"b\":null}", 16383, "]}");

	ASSERT_GT(asprintf(&both, "{\"old\":null,%s", full + 1), 0);
	EXPECT_EQ(check_with(hub_twin_check_patch, bytes_from_str(both)), 0);
	EXPECT_EQ(check_with(hub_twin_check, bytes_from_str(both)), -EMSGSIZE);
	EXPECT_EQ(check_with(hub_twin_check_patch, bytes_from_str(in_array)), -EMSGSIZE);
}

/* The hub's reading of the limits was written by its own hand: both say the same. */
TEST(the_hub_agrees)
{
	static const char *const texts[] = {
		"{}",
		"{\"a\":1}",
		"{\"a b\":1}",
		"{\"a.b\":1}",
		"{\"$a\":1}",
		"{\"\":1}",
		"{\"\\u0085\":1}",
		"{\"a\":\"\\u0000\"}",
		"{\"a\":1e999}",
		"{\"a\":[[[[[[[[[[1]]]]]]]]]]}",
		"{\"a\":[[[[[[[[[[[]]]]]]]]]]]}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct emu_outcome outcome = EMU_SUCCESS;
		struct json_object *object = NULL;
		bool taken = emu_twin_patch_parse(bytes_from_str(texts[i]), &object, &outcome);

		json_object_put(object);
		EXPECT_EQ(check(texts[i]) == 0, taken);
	}
}

/* What comes in pieces: every beginning of a good text is a part, of a bad one at some point it is not. */
TEST(scan)
{
	static const struct {
		const char *text;
		enum hub_twin_text result;
		size_t len;
	} rows[] = {
		{"", HUB_TWIN_TEXT_PART, 0},
		{" \n", HUB_TWIN_TEXT_PART, 2},
		{"{", HUB_TWIN_TEXT_PART, 1},
		{" {\"a\" : [1, tr", HUB_TWIN_TEXT_PART, 14},
		{"\"a\\u00", HUB_TWIN_TEXT_PART, 6},
		{"\"a\\", HUB_TWIN_TEXT_PART, 3},
		{"-", HUB_TWIN_TEXT_PART, 1},
		{"nul", HUB_TWIN_TEXT_PART, 3},
		{"null", HUB_TWIN_TEXT_WHOLE, 4},
		{" 12 {}", HUB_TWIN_TEXT_WHOLE, 3},
		{"{\"a\":{}}\n{\"b\":", HUB_TWIN_TEXT_WHOLE, 8},
		{"\"a\" b", HUB_TWIN_TEXT_WHOLE, 3},
		{"[INFO]", HUB_TWIN_TEXT_BAD, 1},
		{"{'a':1}", HUB_TWIN_TEXT_BAD, 1},
		{"nil", HUB_TWIN_TEXT_BAD, 0},
		{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", HUB_TWIN_TEXT_TOO_MUCH, 31},
	};
	size_t len;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EXPECT_EQ(hub_twin_scan(bytes_from_str(rows[i].text), &len), rows[i].result);
		EXPECT_EQ(len, rows[i].len);
	}
}

TEST_HARNESS_MAIN
