/* SPDX-License-Identifier: MIT */
/*
 * The parts of iothubctl that need no files: names and values of properties, the status, the command line.
 */

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tools/iothubctl/property.h"
#include "tools/iothubctl/status.h"
#include "tools/iothubctl/verb.h"

/* --- properties ------------------------------------------------------------------------------- */

static json_object *read_json(const char *text)
{
	json_object *json;
	const char *why;

	ASSERT_EQ(property_read_json(bytes_from_str(text), &json, &why), 0);
	return json;
}

/* What is found at @name in a document, as text; a static buffer. */
static const char *look_up(const char *name, const char *document)
{
	static char found[256];
	_cleanup_(property_deinit) struct property p;
	_cleanup_(json_put) json_object *json = read_json(document);
	json_object *value;
	struct bytes text;

	ASSERT_EQ(property_parse(&p, name), 0);
	if (!property_find(&p, json, &value))
		return "nothing";
	text = property_text(value);
	snprintf(found, sizeof(found), "%.*s", (int)text.len, (const char *)text.data);
	return found;
}

/* One of many that is not as it should be. */
#define EXPECT_FOR(x, ...)                                                                                   \
	do {                                                                                                 \
		bool _is = (x);                                                                              \
		if (!_is)                                                                                    \
			TEST_LOG(__VA_ARGS__);                                                               \
		EXPECT_TRUE(_is);                                                                            \
	} while (0)

TEST(a_property_by_its_name)
{
	static const char document[] =
		"{\"a\":{\"b\":{\"c\":5}},\"d\":\"x y\",\"e\":[1,\"z\"],\"f\":1.50,\"g\":{}}";

	EXPECT_STREQ(look_up("desired/a/b/c", document), "5");
	EXPECT_STREQ(look_up("desired//a/b/", document), "{\"c\":5}");
	EXPECT_STREQ(look_up("reported/d", document), "x y");
	EXPECT_STREQ(look_up("desired/e", document), "[1,\"z\"]");
	EXPECT_STREQ(look_up("desired/f", document), "1.50");
	EXPECT_STREQ(look_up("desired/g", document), "{}");
	EXPECT_STREQ(look_up("desired", "{\"a\":true}"), "{\"a\":true}");
	EXPECT_STREQ(look_up("desired/", "{}"), "{}");
	EXPECT_STREQ(look_up("desired/x", document), "nothing");
	EXPECT_STREQ(look_up("desired/d/x", document), "nothing");
	EXPECT_STREQ(look_up("desired/e/0", document), "nothing");
	EXPECT_STREQ(look_up("desired/g/x", document), "nothing");
}

TEST(keys_that_names_cannot_have)
{
	static const char document[] = "{\"a/b\":1,\"\":{\"\":2},\"..\":3,\"50%\":4,\"\\u00e9\":5}";

	EXPECT_STREQ(look_up("desired/a%2Fb", document), "1");
	EXPECT_STREQ(look_up("desired/a%2fb", document), "1");
	EXPECT_STREQ(look_up("desired/%/%", document), "2");
	EXPECT_STREQ(look_up("desired/%2E%2E", document), "3");
	EXPECT_STREQ(look_up("desired/50%25", document), "4");
	EXPECT_STREQ(look_up("desired/\xc3\xa9", document), "5");
	EXPECT_STREQ(look_up("desired/%C3%A9", document), "5");
}

TEST(names_of_nothing)
{
	static const char *const names[] = {
		"",           "x",          "/desired",    "desire",
		"desiredx",   "desired/.",  "desired/..",  "desired/a/../b",
		"desired/5%", "desired/%2", "desired/%zz", "desired/a%00",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(property_deinit) struct property p;

		EXPECT_FOR(property_parse(&p, names[i]) == -EINVAL, "%s", names[i]);
	}
}

TEST(values_as_they_are_given)
{
	_cleanup_(json_put) json_object *text = read_json("\"on\""), *digits = read_json("\"5\"");
	_cleanup_(json_put) json_object *number = read_json("5"), *object = read_json("{\"a\":1,\"b\":[2]}");
	_cleanup_(json_put) json_object *fraction = read_json("0.50"), *no = read_json("false");

	EXPECT_TRUE(property_is(text, "on"));
	EXPECT_TRUE(property_is(text, "\"on\""));
	EXPECT_FALSE(property_is(text, "of"));
	EXPECT_FALSE(property_is(text, ""));
	EXPECT_TRUE(property_is(digits, "5"));
	EXPECT_TRUE(property_is(number, "5"));
	EXPECT_TRUE(property_is(number, " 5 "));
	EXPECT_FALSE(property_is(number, "\"5\""));
	EXPECT_TRUE(property_is(fraction, "0.5"));
	EXPECT_TRUE(property_is(fraction, "0.50"));
	EXPECT_TRUE(property_is(no, "false"));
	EXPECT_FALSE(property_is(no, "0"));
	EXPECT_TRUE(property_is(object, "{\"b\": [2], \"a\": 1}"));
	EXPECT_FALSE(property_is(object, "{\"b\": [2]}"));
}

TEST(what_is_not_one_json_value)
{
	static const char *const texts[] = {
		"",    " ",   "{",     "{\"a\":1", "{}{}", "{} x", "tru",
		"nul", "'a'", "{a:1}", "\"\xff\"", "01",   "[1,]",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		json_object *json;
		const char *why = NULL;

		EXPECT_FOR(property_read_json(bytes_from_str(texts[i]), &json, &why) == -EINVAL && !json &&
				   why,
			   "%s", texts[i]);
	}
}

TEST(json_without_a_value)
{
	const char *why;
	json_object *json;

	ASSERT_EQ(property_read_json(BYTES_LIT("null"), &json, &why), 0);
	EXPECT_TRUE(json == NULL);
	EXPECT_FALSE(property_is(NULL, "x"));
	EXPECT_TRUE(property_is(NULL, "null"));
}

/* --- status ----------------------------------------------------------------------------------- */

TEST(status)
{
	const struct bytes text = BYTES_LIT("state: connected\ndevice: 4711\nkeep-alive: 240 s\nqueued: 12\n"
					    "strange\nlast-error: a: b\nbig: 99999999999999999999\nend: x");
	_cleanup_(json_put) json_object *json = status_to_json(text),
					*nothing = status_to_json(BYTES(NULL, 0));

	EXPECT_STREQ(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN),
		     "{\"state\":\"connected\",\"device\":\"4711\",\"keep-alive\":\"240 s\",\"queued\":12,"
		     "\"last-error\":\"a: b\",\"big\":\"99999999999999999999\",\"end\":\"x\"}");
	EXPECT_STREQ(json_object_to_json_string_ext(nothing, JSON_C_TO_STRING_PLAIN), "{}");
	EXPECT_TRUE(status_is_connected(text));
	EXPECT_FALSE(status_is_connected(BYTES_LIT("state: waiting\nlast-error: state: connected\n")));
	EXPECT_FALSE(status_is_connected(BYTES(NULL, 0)));
}

/* --- the command line ------------------------------------------------------------------------- */

static const struct ctl_verb *const verbs[] = {&ctl_verb_status, &ctl_verb_twin_wait, &ctl_verb_twin_patch,
					       NULL};

/* Errors are for people, and are not looked at. */
static int parse(struct ctl_args *args, const char *a, const char *b, const char *c, const char *d,
		 const char *e)
{
	static char text[8][64];
	char *argv[] = {text[0], text[1], text[2], text[3], text[4], text[5], NULL};
	const char *words[] = {"iothubctl", a, b, c, d, e};
	int argc = 0;

	for (; argc < 6 && words[argc]; argc++)
		snprintf(text[argc], sizeof(text[argc]), "%s", words[argc]);
	argv[argc] = NULL;
	if (!freopen("/dev/null", "we", stderr))
		return -1;
	return ctl_args_parse(args, verbs, argc, argv);
}

TEST(options_anywhere)
{
	_cleanup_(ctl_args_deinit) struct ctl_args args;

	ASSERT_EQ(parse(&args, "--timeout=0.5", "twin", "-m/x", "wait", "desired/a"), -1);
	EXPECT_TRUE(args.verb == &ctl_verb_twin_wait);
	EXPECT_EQ(args.timeout_ns, NSEC_PER_SEC / 2);
	EXPECT_STREQ(args.mount, "/x");
	EXPECT_EQ(args.n_words, 1u);
	EXPECT_STREQ(args.words[0], "desired/a");
	EXPECT_EQ(args.options, (unsigned int)CTL_OPTION_TIMEOUT);
}

TEST(a_word_that_is_a_hyphen)
{
	_cleanup_(ctl_args_deinit) struct ctl_args args;

	ASSERT_EQ(parse(&args, "twin", "patch", "-", "--if-version", "7"), -1);
	EXPECT_STREQ(args.words[0], "-");
	EXPECT_EQ(args.if_version, 7u);
	EXPECT_EQ(args.timeout_ns, TIME_NEVER);
}

TEST(command_lines_that_are_wrong)
{
	static const char *const lines[][5] = {
		{NULL},
		{"nothing"},
		{"twin"},
		{"twin", "x"},
		{"stat"},
		{"statusx"},
		{"status", "x"},
		{"status", "--change"},
		{"status", "--nothing"},
		{"twin", "wait"},
		{"twin", "wait", "a", "b"},
		{"twin", "wait", "a", "--timeout"},
		{"twin", "wait", "a", "--timeout", "0"},
		{"twin", "patch", "{}", "--if-version", "0"},
		{"twin", "patch", "{}", "--if-version", "x"},
		{"status", "--mount", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		_cleanup_(ctl_args_deinit) struct ctl_args args;
		const char *const *l = lines[i];

		EXPECT_FOR(parse(&args, l[0], l[1], l[2], l[3], l[4]) == CTL_WRONG, "line %zu", i);
	}
}

TEST_HARNESS_MAIN
