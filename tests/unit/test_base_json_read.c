/* SPDX-License-Identifier: MIT */
/*
 * JSON text to objects: the same as json-c's own reader makes of it, what is no JSON, and every allocation that fails.
 */

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/json_read.h"
#include "tests/harness.h"
#include "tools/bench/preload/allocator.h"

DEFINE_CLEANUP(struct json_object *, json_object_put)

/* The call that fails, counted down; 0 = none. */
static uint64_t fail_in;

bool allocator_fails(const void *caller)
{
	(void)caller;
	return fail_in && --fail_in == 0;
}

#define LEVELS 20

static const char *const texts[] = {
	"{}",
	" {\t}\r\n",
	"{\"a\":1,\"b\":{\"c\":[1,2,[],[{}],{\"d\":null}]},\"e\":\"\"}",
	"{\"a\":[null,null],\"b\":null,\"c\":true,\"d\":false}",
	"{\"a\":0,\"b\":-0,\"c\":-1}",
	"{\"a\":9223372036854775807,\"b\":-9223372036854775808,\"c\":18446744073709551615}",
	"{\"a\":0.10,\"b\":-1.5e3,\"c\":1E+2,\"d\":1e-7,\"e\":0e0}",
	"{\"a\":1,\"a\":{\"b\":2},\"a\":[3]}",
	"{\"\\u0041\\n\\\"\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\\ud83d\\ude00\\u0000x\"}",
	"{\"a\":\"\\ud83d\",\"b\":\"\\ude00\",\"c\":\"\\ud83dx\",\"d\":\"\\ud83d\\u0041\"}",
	"{\"a\":18446744073709551616,\"b\":-9223372036854775809,\"c\\u0000d\":1}",
	"{\"\":\"\xc3\xa9\",\"\xe2\x82\xac\":\"\xf0\x9f\x98\x80\"}",
	"{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":[[[[[[[[1]]]]]]]]}}}}}}}",
};

TEST(gives_what_the_library_gives)
{
	for (size_t i = 0; i < ARRAY_SIZE(texts); ++i) {
		_cleanup_(json_object_put_ptr) struct json_object *got = NULL, *want = NULL;

		TEST_LOG("%s", texts[i]);
		ASSERT_EQ(json_read(BYTES(texts[i], strlen(texts[i])), LEVELS, &got), 0);
		want = json_tokener_parse(texts[i]);
		EXPECT_TRUE(json_object_equal(got, want));
		EXPECT_STREQ(json_object_to_json_string(got), json_object_to_json_string(want));
	}
}

TEST(refuses_what_is_no_json)
{
	static const char *const bad[] = {
		"",
		" ",
		"[]",
		"1",
		"null",
		"{",
		"}",
		"{}}",
		"{} x",
		"{a:1}",
		"{'a':1}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{,\"a\":1}",
		"{\"a\":1 \"b\":2}",
		"{\"a\":[1,]}",
		"{\"a\":[,1]}",
		"{\"a\":[1 2]}",
		"{\"a\":[1}",
		"{\"a\":01}",
		"{\"a\":+1}",
		"{\"a\":-}",
		"{\"a\":1.}",
		"{\"a\":.5}",
		"{\"a\":1e}",
		"{\"a\":NaN}",
		"{\"a\":-Infinity}",
		"{\"a\":True}",
		"{\"a\":nul}",
		"{\"a\":\"\\x\"}",
		"{\"a\":\"\\u12g4\"}",
		"{\"a\":\"\\u12\"}",
		"{\"a\":\"\n\"}",
		"{\"a\":\"",
		"{\"a\":\"\xff\"}",
		"{\"a\":/**/1}",
		"{\"a\":\"\\ud83d\\u12\"}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		struct json_object *out = NULL;

		TEST_LOG("%s", bad[i]);
		EXPECT_EQ(json_read(BYTES(bad[i], strlen(bad[i])), LEVELS, &out), -EINVAL);
		EXPECT_TRUE(out == NULL);
	}
}

TEST(levels_have_a_bound)
{
	char text[3 * JSON_READ_LEVELS_MAX];
	struct json_object *out = NULL;

	for (size_t n = JSON_READ_LEVELS_MAX; n <= JSON_READ_LEVELS_MAX + 1; ++n) {
		memcpy(text, "{\"a\":", 5);
		memset(text + 5, '[', n - 1);
		memset(text + 4 + n, ']', n - 1);
		text[2 * n + 3] = '}';
		EXPECT_EQ(json_read(BYTES(text, 2 * n + 4), JSON_READ_LEVELS_MAX, &out),
			  n > JSON_READ_LEVELS_MAX ? -EINVAL : 0);
	}
	json_object_put(out);
}

/* Never a part of it. */
TEST(without_memory_there_is_no_object)
{
	SKIP_IF(!ALLOCATOR_ASKS, "the sanitizer has an allocator of its own");
	for (size_t i = 0; i < ARRAY_SIZE(texts); ++i) {
		int r = -ENOMEM;

		for (uint64_t n = 1; r; ++n) {
			struct json_object *out = NULL;

			fail_in = n;
			r = json_read(BYTES(texts[i], strlen(texts[i])), LEVELS, &out);
			if (r) {
				ASSERT_EQ(r, -ENOMEM);
				ASSERT_EQ(fail_in, 0u);
				ASSERT_TRUE(out == NULL);
			}
			json_object_put(out);
		}
		/* The last one was not needed. */
		EXPECT_GT(fail_in, 0u);
		fail_in = 0;
	}
}

TEST_HARNESS_MAIN
