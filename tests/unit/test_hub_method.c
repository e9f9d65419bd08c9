/* SPDX-License-Identifier: MIT */
/*
 * Names and responses of direct methods.
 */

#include <errno.h>

#include "base/cleanup.h"
#include "hub/method.h"
#include "tests/harness.h"

TEST(names_that_are_good)
{
	static const char *const names[] = {"a",        "reboot",    "Reboot now", "\xc3\xa9teindre",
					    "...",      ".hidden",   "$iothub",    "\xf0\x9f\x94\x84",
					    "\xc2\xa0", "a:b*?\\\"", "~"};
	char longest[HUB_METHOD_NAME_MAX + 2];

	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		TEST_LOG("%s", names[i]);
		EXPECT_TRUE(hub_method_name_is_valid(bytes_from_str(names[i])));
	}
	memset(longest, 'x', sizeof(longest));
	EXPECT_TRUE(hub_method_name_is_valid(BYTES(longest, HUB_METHOD_NAME_MAX)));
	EXPECT_FALSE(hub_method_name_is_valid(BYTES(longest, HUB_METHOD_NAME_MAX + 1)));
}

TEST(names_that_are_none)
{
	static const char *const names[] = {
		"",   ".",    "..",   "a/b",      "/",         "+",    "a+",    "#",        "a#b",
		"\n", "a\tb", "\x7f", "\xc2\x80", "a\xc2\x9f", "\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80"};

	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		TEST_LOG("name %zu", i);
		EXPECT_FALSE(hub_method_name_is_valid(bytes_from_str(names[i])));
	}
	EXPECT_FALSE(hub_method_name_is_valid(BYTES(NULL, 0)));
	EXPECT_FALSE(hub_method_name_is_valid(BYTES_LIT("a\0b")));
	EXPECT_FALSE(hub_method_name_is_valid(BYTES_LIT("\0")));
}

static void expect_response(struct bytes text, uint32_t want_code, struct bytes want_payload)
{
	struct bytes payload = BYTES_LIT("untouched");
	uint32_t code = 0;

	TEST_LOG("%.*s", (int)text.len, (const char *)text.data);
	EXPECT_EQ(hub_method_response_parse(text, &code, &payload), 0);
	EXPECT_EQ(code, want_code);
	EXPECT_EQ(payload.len, want_payload.len);
	EXPECT_TRUE(bytes_equal(payload, want_payload));
}

TEST(responses_that_are_good)
{
	expect_response(BYTES_LIT("200"), 200, BYTES_LIT(""));
	expect_response(BYTES_LIT("200\n"), 200, BYTES_LIT(""));
	expect_response(BYTES_LIT("200 "), 200, BYTES_LIT(""));
	expect_response(BYTES_LIT("200 \n"), 200, BYTES_LIT("\n"));
	expect_response(BYTES_LIT("200 {\"a\": 1}\n"), 200, BYTES_LIT("{\"a\": 1}\n"));
	expect_response(BYTES_LIT("200  two"), 200, BYTES_LIT(" two"));
	expect_response(BYTES_LIT("0"), 0, BYTES_LIT(""));
	expect_response(BYTES_LIT("007 x"), 7, BYTES_LIT("x"));
	expect_response(BYTES_LIT("4294967295 max"), UINT32_MAX, BYTES_LIT("max"));
	expect_response(BYTES_LIT("0000000404 x"), 404, BYTES_LIT("x"));
	expect_response(BYTES_LIT("5 \0\xff\n\0"), 5, BYTES_LIT("\0\xff\n\0"));
}

TEST(responses_that_are_none)
{
	static const struct bytes texts[] = {
		BYTES_LIT(""),           BYTES_LIT("\n"),          BYTES_LIT(" "),
		BYTES_LIT("ok"),         BYTES_LIT(" 200"),        BYTES_LIT("+200"),
		BYTES_LIT("-1"),         BYTES_LIT("-0"),          BYTES_LIT("200x"),
		BYTES_LIT("200\nmore"),  BYTES_LIT("200\n\n"),     BYTES_LIT("200\r\n"),
		BYTES_LIT("200\t"),      BYTES_LIT("0x10"),        BYTES_LIT("2.0"),
		BYTES_LIT("4294967296"), BYTES_LIT("9999999999 "), BYTES_LIT("00000000200"),
		BYTES_LIT("200\0"),      BYTES_LIT("\0 200"),      BYTES_LIT("99999999999999999999999"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); ++i) {
		struct bytes payload = BYTES_LIT("untouched");
		uint32_t code = 77;

		TEST_LOG("text %zu", i);
		EXPECT_EQ(hub_method_response_parse(texts[i], &code, &payload), -EINVAL);
		EXPECT_EQ(code, 77u);
		EXPECT_TRUE(bytes_equal_str(payload, "untouched"));
	}
	EXPECT_EQ(hub_method_response_parse(BYTES(NULL, 0), &(uint32_t){0}, &(struct bytes){0}), -EINVAL);
}

/* Any bytes: the code and payload that are read make the same text again, and nothing else is looked at. */
TEST(any_bytes)
{
	static const char alphabet[] = "0123456789 \n+-x";

	for (int round = 0; round < 200000; ++round) {
		uint8_t text[14];
		size_t len = test_random() % (sizeof(text) + 1);
		uint8_t *exact = malloc(len ? len : 1);
		struct bytes payload = BYTES(NULL, 0);
		uint32_t code = 0;

		for (size_t i = 0; i < len; ++i)
			text[i] = (uint8_t)alphabet[test_random() % (sizeof(alphabet) - 1)];
		/* So that the sanitizers see who reads too far. */
		memcpy(exact, text, len);
		if (hub_method_response_parse(BYTES(exact, len), &code, &payload) == 0) {
			char again[32] = {0};
			size_t n_digits = strspn((char *)memcpy(again, text, len), "0123456789");

			ASSERT_TRUE(n_digits >= 1 && n_digits <= 10);
			again[n_digits] = '\0';
			ASSERT_EQ(strtoull(again, NULL, 10), code);
			ASSERT_TRUE(payload.len ? payload.len + n_digits + 1 == len : len <= n_digits + 1);
		}
		free(exact);
	}
}

TEST_HARNESS_MAIN
