/* SPDX-License-Identifier: MIT */
/*
 * Documents of the twin: merge patches against RFC 7396's own words, the laws that hold for one patch after another,
 * and what a hub may send.
 */

#include <json-c/json.h>

#include "base/cleanup.h"
#include "flow/twin_doc.h"
#include "tests/harness.h"

#define N_ROUNDS 20000

typedef const struct json_object *doc;

static doc parse(const char *text)
{
	struct json_object *object = json_tokener_parse(text);

	ASSERT_TRUE(object || strcmp(text, "null") == 0);
	return object;
}

static const char *text_of(doc d)
{
	static char texts[4][65536];
	static unsigned int turn;
	struct bytes text = twin_doc_text(d, false);
	char *out = texts[turn++ % ARRAY_SIZE(texts)];

	ASSERT_LT(text.len, sizeof(texts[0]));
	snprintf(out, sizeof(texts[0]), "%.*s", (int)text.len, (const char *)text.data);
	return out;
}

#define EXPECT_SAME(a, b)                                                                                    \
	do {                                                                                                 \
		if (!twin_doc_equal(a, b))                                                                   \
			harness_fail(__FILE__, __LINE__, true, "%s and %s differ: %s, %s", #a, #b,           \
				     text_of(a), text_of(b));                                                \
	} while (0)

/* --- random documents ------------------------------------------------------------------------- */

static struct json_object *random_array(unsigned int depth);

static struct json_object *random_value(unsigned int depth, bool nulls);

/* Few names, so that documents meet. */
static struct json_object *random_object(unsigned int depth, bool nulls)
{
	struct json_object *object = json_object_new_object();
	unsigned int n = (unsigned int)(test_random() % 4);

	while (n--) {
		const char key[] = {(char)('a' + test_random() % 4), '\0'};

		json_object_object_add(object, key, random_value(depth + 1, nulls));
	}
	return object;
}

static struct json_object *random_value(unsigned int depth, bool nulls)
{
	switch (test_random() % (depth < 4 ? 10 : 6)) {
	case 0:
		return nulls ? NULL : json_object_new_boolean(true);
	case 1:
		return nulls ? NULL : json_object_new_string("");
	case 2:
		return json_object_new_int64((int64_t)test_random());
	case 3:
		return json_object_new_boolean(test_random() & 1);
	case 4:
		return json_object_new_string(test_random() & 1 ? "x" : "\xc3\xa4/\"");
	case 5:
		return random_array(depth);
	default:
		return random_object(depth, nulls);
	}
}

static struct json_object *random_array(unsigned int depth)
{
	struct json_object *array = json_object_new_array();
	unsigned int n = (unsigned int)(test_random() % 3);

	/* Nulls are values in there. */
	while (n--)
		json_object_array_add(array, depth < 4 ? random_value(depth + 1, true) : NULL);
	return array;
}

/* RFC 7396 section 2, word by word, on a copy. */
static struct json_object *rfc_merge_patch(struct json_object *target, doc patch)
{
	if (!json_object_is_type(patch, json_type_object)) {
		json_object_put(target);
		return json_object_get((struct json_object *)(uintptr_t)patch);
	}
	if (!json_object_is_type(target, json_type_object)) {
		json_object_put(target);
		target = json_object_new_object();
	}
	json_object_object_foreach(patch, name, value)
	{
		if (!value) {
			json_object_object_del(target, name);
		} else {
			struct json_object *member = NULL;

			if (json_object_object_get_ex(target, name, &member))
				member = json_object_get(member);
			json_object_object_add(target, name, NULL);
			json_object_object_add(target, name, rfc_merge_patch(member, value));
		}
	}
	return target;
}

static doc rfc_apply(doc state, doc patch)
{
	struct json_object *copy = NULL;

	ASSERT_EQ(json_object_deep_copy((struct json_object *)(uintptr_t)state, &copy, NULL), 0);
	return rfc_merge_patch(copy, patch);
}

static doc apply(doc state, doc patch)
{
	doc out;

	ASSERT_EQ(twin_doc_apply(&out, state, patch), 0);
	return out;
}

static doc merge(doc first, doc second)
{
	doc out;

	ASSERT_EQ(twin_doc_merge(&out, first, second), 0);
	return out;
}

static doc resolve(doc patch, doc state)
{
	doc out;

	ASSERT_EQ(twin_doc_resolve(&out, patch, state), 0);
	return out;
}

#define DOC _cleanup_(twin_doc_unref_ptr) doc

/* --- laws ------------------------------------------------------------------------------------- */

TEST(apply_is_the_rfcs)
{
	for (int i = 0; i < N_ROUNDS; ++i) {
		DOC state = random_object(0, false), patch = random_object(0, true);
		DOC wanted = rfc_apply(state, patch);
		char before[2][65536];
		DOC got = NULL;

		snprintf(before[0], sizeof(before[0]), "%s", text_of(state));
		snprintf(before[1], sizeof(before[1]), "%s", text_of(patch));
		got = apply(state, patch);
		EXPECT_SAME(got, wanted);
		/* Nobody's document changes. */
		EXPECT_STREQ(text_of(state), before[0]);
		EXPECT_STREQ(text_of(patch), before[1]);
	}
}

TEST(one_patch_does_what_several_did)
{
	for (int i = 0; i < N_ROUNDS; ++i) {
		DOC state = random_object(0, false), a = random_object(0, true);
		DOC b = random_object(0, true), c = random_object(0, true);
		DOC after_a = rfc_apply(state, a), after_b = rfc_apply(after_a, b);
		DOC after_c = rfc_apply(after_b, c);
		DOC ab = merge(a, b), bc = merge(b, c), ab_c = merge(ab, c), a_bc = merge(a, bc);
		DOC by_ab = apply(state, ab), by_ab_c = apply(state, ab_c), by_a_bc = apply(state, a_bc);

		EXPECT_SAME(by_ab, after_b);
		EXPECT_SAME(by_ab_c, after_c);
		EXPECT_SAME(by_a_bc, after_c);
	}
}

TEST(what_goes_to_the_hub_does_what_was_meant)
{
	for (int i = 0; i < N_ROUNDS; ++i) {
		DOC state = random_object(0, false), a = random_object(0, true);
		DOC b = random_object(0, true), c = random_object(0, true), ab = merge(a, b);
		DOC pending = merge(ab, c), wanted = apply(state, pending), plain = resolve(pending, state);
		DOC got = rfc_apply(state, plain), again = rfc_apply(got, plain);

		EXPECT_SAME(got, wanted);
		/* Sent twice is sent once. */
		EXPECT_SAME(again, wanted);
		EXPECT_TRUE(!strchr(text_of(plain), '$'));
	}
}

TEST(what_stays_is_shared)
{
	DOC state = parse("{\"a\":{\"x\":1},\"b\":{\"y\":2}}"), patch = parse("{\"b\":{\"y\":3}}");
	DOC after = apply(state, patch);
	doc before_a = NULL, after_a = NULL, before_b = NULL, after_b = NULL;

	ASSERT_TRUE(twin_doc_member(state, "a", &before_a) && twin_doc_member(after, "a", &after_a));
	ASSERT_TRUE(twin_doc_member(state, "b", &before_b) && twin_doc_member(after, "b", &after_b));
	EXPECT_TRUE(before_a == after_a);
	EXPECT_TRUE(before_b != after_b);
	/* A reference outlives the document. */
	before_a = twin_doc_ref(before_a);
	twin_doc_unref(TAKE_PTR(state));
	twin_doc_unref(TAKE_PTR(after));
	EXPECT_STREQ(text_of(before_a), "{\"x\":1}");
	twin_doc_unref(before_a);
}

/* --- cases ------------------------------------------------------------------------------------ */

/* Those of RFC 7396, appendix A, that have objects as target and patch; and more. */
TEST(known_patches)
{
	static const struct {
		const char *state, *patch, *after;
	} cases[] = {
		{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
		{"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
		{"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
		{"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
		{"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
		{"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
		{"{\"a\":[null,{\"b\":null}]}", "{\"c\":[null]}", "{\"a\":[null,{\"b\":null}],\"c\":[null]}"},
		{"{\"a\":1.10}", "{\"b\":1e3}", "{\"a\":1.10,\"b\":1e3}"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); ++i) {
		DOC state = parse(cases[i].state), patch = parse(cases[i].patch), after = apply(state, patch);

		EXPECT_STREQ(text_of(after), cases[i].after);
	}
}

/* `rm -r` and a new directory of the same name, while the hub is away. */
TEST(removed_and_made_anew)
{
	DOC gone = parse("{\"d\":null}"), made = parse("{\"d\":{\"x\":{\"n\":null,\"y\":1}}}");
	DOC pending = merge(gone, made);
	DOC state = parse("{\"d\":{\"x\":{\"y\":0,\"z\":9},\"old\":2},\"e\":3}");
	DOC nothing = parse("{}"), scalar = parse("{\"d\":5}");
	DOC after = apply(state, pending), plain = resolve(pending, state);
	DOC plain_nothing = resolve(pending, nothing), plain_scalar = resolve(pending, scalar);

	EXPECT_STREQ(text_of(after), "{\"d\":{\"x\":{\"y\":1}},\"e\":3}");
	EXPECT_STREQ(text_of(plain), "{\"d\":{\"x\":{\"y\":1,\"z\":null},\"old\":null}}");
	EXPECT_STREQ(text_of(plain_nothing), "{\"d\":{\"x\":{\"y\":1}}}");
	EXPECT_STREQ(text_of(plain_scalar), "{\"d\":{\"x\":{\"y\":1}}}");
}

/* Deeper than the parser goes: nobody's recursion ends the daemon. */
TEST(levels_have_a_bound)
{
	const char *keys[40];
	DOC deep = NULL, fits = NULL, state = parse("{}"), after = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(keys); ++i)
		keys[i] = "k";
	ASSERT_EQ(twin_doc_patch_at(&fits, keys, HUB_TWIN_PARSE_LEVELS_MAX, state), 0);
	ASSERT_EQ(twin_doc_apply(&after, state, fits), 0);
	EXPECT_SAME(after, fits);
	ASSERT_EQ(twin_doc_patch_at(&deep, keys, ARRAY_SIZE(keys), state), 0);
	EXPECT_EQ(twin_doc_apply(&after, state, deep), -EINVAL);
	EXPECT_EQ(twin_doc_merge(&after, deep, deep), -EINVAL);
	EXPECT_EQ(twin_doc_resolve(&after, deep, state), -EINVAL);
}

TEST(paths)
{
	static const char *const keys[] = {"a", "b", "c"};
	DOC state = parse("{\"a\":{\"b\":{\"c\":7},\"l\":[1]},\"n\":[null]}");
	DOC patch = NULL, removal = NULL, value = parse("\"v\""), after = NULL;
	doc found = NULL;

	EXPECT_TRUE(twin_doc_find(state, keys, 3, &found));
	EXPECT_STREQ(text_of(found), "7");
	EXPECT_TRUE(twin_doc_find(state, keys, 0, &found));
	EXPECT_TRUE(found == state);
	EXPECT_TRUE(!twin_doc_find(state, (const char *const[]){"a", "l", "0"}, 3, &found));
	EXPECT_TRUE(!twin_doc_find(state, (const char *const[]){"x"}, 1, &found));
	EXPECT_TRUE(!twin_doc_member(NULL, "x", &found));
	ASSERT_EQ(twin_doc_patch_at(&patch, keys, 3, value), 0);
	EXPECT_STREQ(text_of(patch), "{\"a\":{\"b\":{\"c\":\"v\"}}}");
	ASSERT_EQ(twin_doc_patch_at(&removal, keys, 2, NULL), 0);
	EXPECT_STREQ(text_of(removal), "{\"a\":{\"b\":null}}");
	after = apply(state, removal);
	EXPECT_STREQ(text_of(after), "{\"a\":{\"l\":[1]},\"n\":[null]}");
	EXPECT_STREQ(text_of(NULL), "null");
}

TEST(text_for_people)
{
	DOC state = parse("{\"a\":{\"b\":\"x/y\"}}");
	struct bytes text = twin_doc_text(state, true);

	EXPECT_TRUE(bytes_equal_str(text, "{\n  \"a\": {\n    \"b\": \"x/y\"\n  }\n}"));
}

/* --- what the hub sends ----------------------------------------------------------------------- */

TEST(a_whole_twin)
{
	struct twin_doc_whole whole = {0};
	struct hub_twin_reason reason;

	ASSERT_EQ(twin_doc_parse_whole(
			  BYTES_LIT("{\"desired\":{\"i\":1.50,\"n\":null,\"o\":{\"n\":null},\"$version\":3,"
				    "\"$metadata\":{}},\"reported\":{\"big\":18446744073709551615,"
				    "\"$version\":18446744073709551614},\"tags\":1}"),
			  &whole, &reason),
		  0);
	EXPECT_STREQ(text_of(whole.desired.state), "{\"i\":1.50,\"o\":{}}");
	EXPECT_EQ(whole.desired.version, 3u);
	EXPECT_STREQ(text_of(whole.reported.state), "{\"big\":18446744073709551615}");
	EXPECT_EQ(whole.reported.version, UINT64_MAX - 1);
	twin_doc_whole_deinit(&whole);
	twin_doc_whole_deinit(&whole);
}

static int parse_whole(const char *text)
{
	struct twin_doc_whole whole = {0};
	struct hub_twin_reason reason = {.text = ""};
	int r = twin_doc_parse_whole(bytes_from_str(text), &whole, &reason);

	EXPECT_TRUE(r == 0 || (!whole.desired.state && !whole.reported.state && reason.text[0]));
	twin_doc_whole_deinit(&whole);
	return r;
}

TEST(no_whole_twins)
{
	static const char *const bad[] = {
		"",
		"{",
		"null",
		"[]",
		"{}",
		"{\"desired\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":1},\"reported\":5}",
		"{\"desired\":{\"$version\":1},\"reported\":{}}",
		"{\"desired\":{\"$version\":0},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":-1},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":1.0},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":\"1\"},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":null},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":18446744073709551615},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":99999999999999999999999},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"a b\":1,\"$version\":1},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"a\":{\"$replace\":true},\"$version\":1},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"a\":1e999,\"$version\":1},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"a\":\"\xff\",\"$version\":1},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"a\":\"\\u0000\",\"$version\":1},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"a\":NaN,\"$version\":1},\"reported\":{\"$version\":1}}",
		"{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}x",
	};
	char deep[4096] = "{\"desired\":{\"$version\":1,\"a\":";

	EXPECT_EQ(parse_whole("{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}"), 0);
	/* The last of two names holds. */
	EXPECT_EQ(parse_whole("{\"desired\":{\"$version\":0,\"$version\":1},\"reported\":{\"$version\":1}}"),
		  0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		if (parse_whole(bad[i]) != -EINVAL)
			harness_fail(__FILE__, __LINE__, false, "a twin was made of %s", bad[i]);
	}
	memset(deep + strlen(deep), '[', 2000);
	EXPECT_EQ(parse_whole(deep), -EINVAL);
}

TEST(patches_of_the_hub)
{
	struct hub_twin_reason reason;
	DOC patch = NULL;

	ASSERT_EQ(twin_doc_parse_patch(BYTES_LIT("{\"a\":{\"b\":null},\"$version\":4}"), &patch, &reason), 0);
	EXPECT_STREQ(text_of(patch), "{\"a\":{\"b\":null}}");
	twin_doc_unref(TAKE_PTR(patch));
	EXPECT_EQ(twin_doc_parse_patch(BYTES_LIT("{\"a\":{\"$replace\":true}}"), &patch, &reason), -EINVAL);
	EXPECT_EQ(twin_doc_parse_patch(BYTES_LIT("[]"), &patch, &reason), -EINVAL);
	EXPECT_EQ(twin_doc_parse_patch(BYTES(NULL, 0), &patch, &reason), -EINVAL);
	EXPECT_TRUE(!patch);
}

TEST_HARNESS_MAIN
