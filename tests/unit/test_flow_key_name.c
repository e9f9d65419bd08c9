/* SPDX-License-Identifier: MIT */
/* Keys as file names, and back: each key has one name, and no name stands for two keys. */

#include <errno.h>

#include "base/cleanup.h"
#include "flow/key_name.h"
#include "tests/harness.h"

TEST(both_ways)
{
	static const struct {
		const char *key, *name;
	} rows[] = {
		{"a", "a"},
		{"", "%"},
		{".", "%2E"},
		{"..", "%2E%2E"},
		{"...", "..."},
		{".a", ".a"},
		{"a/b", "a%2Fb"},
		{"/", "%2F"},
		{"%", "%25"},
		{"%2F", "%252F"},
		{"a b", "a b"},
		{"\n\x7f\x01", "%0A%7F%01"},
		{"gr\xc3\xbc\xc3\x9f"
		 "e",
		 "gr\xc3\xbc\xc3\x9f"
		 "e"},
	};
	char out[KEY_NAME_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		ASSERT_EQ(key_name_encode(rows[i].key, out), 0);
		EXPECT_STREQ(out, rows[i].name);
		ASSERT_EQ(key_name_decode(rows[i].name, out), 0);
		EXPECT_STREQ(out, rows[i].key);
	}
}

/* What is not how a key would be written is the name of none. */
TEST(no_names)
{
	static const char *const names[] = {
		"",    ".",    "..",   "a/b",  "%%",        "a%",  "%2",  "%2f",  "%2G", "%00",
		"%41", "%2Ea", "%2E.", ".%2E", "%2E%2E%2E", "%A0", "a\n", "%25%", "%7f", "\x7f",
	};
	char out[KEY_NAME_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		EXPECT_EQ(key_name_decode(names[i], out), -EINVAL);
}

TEST(lengths)
{
	char key[400], out[KEY_NAME_SIZE];

	memset(key, 'x', sizeof(key));
	key[255] = '\0';
	EXPECT_EQ(key_name_encode(key, out), 0);
	EXPECT_STREQ(out, key);
	EXPECT_EQ(key_name_decode(key, out), 0);
	key[255] = 'x';
	key[256] = '\0';
	EXPECT_EQ(key_name_encode(key, out), -ENAMETOOLONG);
	EXPECT_EQ(key_name_decode(key, out), -EINVAL);
	memset(key, '/', 85);
	key[85] = '\0';
	EXPECT_EQ(key_name_encode(key, out), 0);
	EXPECT_EQ(strlen(out), 255u);
	strcat(key, "a");
	EXPECT_EQ(key_name_encode(key, out), -ENAMETOOLONG);
	key[84] = 'a';
	key[85] = '/';
	EXPECT_EQ(key_name_encode(key, out), -ENAMETOOLONG);
}

/* Random keys come back. */
TEST(any_key)
{
	char key[64], name[KEY_NAME_SIZE], back[KEY_NAME_SIZE];

	for (int i = 0; i < 20000; ++i) {
		size_t len = test_random() % 12;

		for (size_t j = 0; j < len; ++j)
			key[j] = "%/.2EFa\n"[test_random() % 8];
		key[len] = '\0';
		ASSERT_EQ(key_name_encode(key, name), 0);
		ASSERT_TRUE(name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 &&
			    strcmp(name, "..") != 0);
		ASSERT_EQ(key_name_decode(name, back), 0);
		EXPECT_STREQ(back, key);
	}
}

TEST_HARNESS_MAIN
