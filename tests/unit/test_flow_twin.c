/* SPDX-License-Identifier: MIT */
/*
 * The twin between a hub that is the test and readers and writers who write down what they hear.
 */

#include <errno.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "tests/support/twin_line.h"

#define WHOLE "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"r\":1,\"$version\":8}}"

struct waiter {
	struct twin_waiter base;
	struct twin_line *line;
	const char *name;
};

FIXTURE(twin)
{
	struct twin_line line;
	char dir[64], path[96];
	struct waiter a, b, c;
};

static void on_done(struct twin_waiter *base, int error, uint64_t version, struct bytes reason)
{
	struct waiter *w = container_of(base, struct waiter, base);

	if (error)
		twin_line_hear(w->line, "%s %s %.*s;", w->name, strerrorname_np(-error), (int)reason.len,
			       reason.len ? (const char *)reason.data : "");
	else
		twin_line_hear(w->line, "%s %" PRIu64 ";", w->name, version);
}

static void waiter_init(struct waiter *w, struct twin_line *line, const char *name)
{
	twin_waiter_init(&w->base);
	w->base.on_done = on_done;
	w->line = line;
	w->name = name;
}

FIXTURE_SETUP(twin)
{
	snprintf(self->dir, sizeof(self->dir), "/tmp/test-twin.XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir));
	snprintf(self->path, sizeof(self->path), "%s/twin", self->dir);
	self->line.store_path = self->path;
	twin_line_init(&self->line);
	twin_line_start(&self->line);
	waiter_init(&self->a, &self->line, "a");
	waiter_init(&self->b, &self->line, "b");
	waiter_init(&self->c, &self->line, "c");
}

FIXTURE_TEARDOWN(twin)
{
	if (!test_is_orphan())
		twin_line_deinit(&self->line);
	unlink(self->path);
	rmdir(self->dir);
}

/* --- words of the tests ----------------------------------------------------------------------- */

static struct twin *twin(struct fixture_twin *self)
{
	return self->line.twin;
}

static void expect_heard(struct fixture_twin *self, const char *what)
{
	EXPECT_STREQ(self->line.heard, what);
	self->line.heard[0] = '\0';
}

static void expect_request(struct fixture_twin *self, const char *what)
{
	ASSERT_STREQ(twin_line_next(&self->line), what);
}

static void expect_text(const struct json_object *doc, const char *text)
{
	struct bytes got = twin_doc_text(doc, false);

	if (!bytes_equal_str(got, text))
		harness_fail(__FILE__, __LINE__, false, "expected %s, not %.*s", text, (int)got.len,
			     (const char *)got.data);
}

static void expect_desired(struct fixture_twin *self, uint64_t version, const char *text)
{
	struct twin_view view = twin_desired(twin(self));

	expect_text(view.object, text);
	EXPECT_EQ(view.version, version);
}

static void expect_reported(struct fixture_twin *self, uint64_t version, const char *text)
{
	struct twin_view view = twin_reported(twin(self));

	expect_text(view.object, text);
	EXPECT_EQ(view.version, version);
}

static int try_patch(struct fixture_twin *self, const char *text, const uint64_t *if_version,
		     struct twin_writer *writer, struct waiter *waiter)
{
	struct json_object *object = json_tokener_parse(text);
	struct hub_twin_reason reason = {.text = ""};
	int r;

	ASSERT_TRUE(object);
	r = twin_patch(twin(self), object, if_version, writer, waiter ? &waiter->base : NULL, &reason);
	EXPECT_TRUE(r == 0 || reason.text[0]);
	json_object_put(object);
	return r;
}

static void patch(struct fixture_twin *self, const char *text, struct waiter *waiter)
{
	ASSERT_EQ(try_patch(self, text, NULL, NULL, waiter), 0);
}

static void patch_if(struct fixture_twin *self, const char *text, uint64_t version, struct waiter *waiter)
{
	ASSERT_EQ(try_patch(self, text, &version, NULL, waiter), 0);
}

static void respond(struct fixture_twin *self, const char *status, const char *version)
{
	twin_line_respond(&self->line, status, version, BYTES(NULL, 0));
}

static void respond_whole(struct fixture_twin *self, const char *whole)
{
	twin_line_respond(&self->line, NULL, NULL, bytes_from_str(whole));
}

static void desired(struct fixture_twin *self, const char *version, const char *text)
{
	twin_line_desired(&self->line, version, bytes_from_str(text));
}

static void online_with(struct fixture_twin *self, const char *whole)
{
	twin_line_online(&self->line);
	expect_request(self, "get");
	respond_whole(self, whole);
	self->line.heard[0] = '\0';
}

/* Connected, desired version 4, reported version 8. */
static void online(struct fixture_twin *self)
{
	online_with(self, WHOLE);
}

static void restart(struct fixture_twin *self)
{
	twin_line_stop(&self->line);
	twin_line_start(&self->line);
}

/* --- fetching --------------------------------------------------------------------------------- */

TEST_F(twin, first_contact)
{
	uint16_t id;

	EXPECT_FALSE(twin_desired(twin(self)).known);
	EXPECT_FALSE(twin_reported(twin(self)).known);
	expect_desired(self, 0, "{}");
	self->line.manual_suback = true;
	twin_line_online(&self->line);
	/* Not before the hub has confirmed that it tells of changes. */
	ASSERT_EQ(sscanf(twin_line_next(&self->line), "subscribe %hu", &id), 1);
	expect_request(self, "");
	twin_line_suback(&self->line, id, 0);
	expect_request(self, "get");
	expect_request(self, "");
	respond_whole(self, WHOLE);
	expect_heard(self, "desired 4 all;reported 8 all;");
	expect_desired(self, 4, "{\"i\":1}");
	expect_reported(self, 8, "{\"r\":1}");
	EXPECT_TRUE(twin_desired(twin(self)).known && twin_reported(twin(self)).known);
	expect_request(self, "");
}

TEST_F(twin, a_subscription_refused_is_no_reason_not_to_ask)
{
	uint16_t id;

	self->line.manual_suback = true;
	twin_line_online(&self->line);
	ASSERT_EQ(sscanf(twin_line_next(&self->line), "subscribe %hu", &id), 1);
	twin_line_suback(&self->line, id, 0x87);
	expect_request(self, "get");
}

TEST_F(twin, the_same_twin_again_is_no_change)
{
	online(self);
	twin_line_offline(&self->line);
	twin_line_online(&self->line);
	/* Subscribed still. */
	expect_request(self, "get");
	respond_whole(self, WHOLE);
	expect_heard(self, "");
}

TEST_F(twin, errors_are_tried_again)
{
	static const char *const statuses[] = {"0100", "0101", "0102", "0501",
					       "0502", "0601", "0602", "0603"};
	struct twin_info info;

	twin_line_online(&self->line);
	for (size_t i = 0; i < ARRAY_SIZE(statuses); ++i) {
		expect_request(self, "get");
		respond(self, statuses[i], NULL);
		expect_request(self, "");
		twin_info(twin(self), &info);
		EXPECT_CONTAINS(info.last_error, statuses[i]);
		EXPECT_FALSE(info.current);
		twin_line_fire(&self->line, &twin(self)->get_retry);
	}
	expect_request(self, "get");
	twin_line_time_out(&self->line);
	expect_request(self, "");
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
	expect_heard(self, "");
	respond_whole(self, WHOLE);
	expect_heard(self, "desired 4 all;reported 8 all;");
	twin_info(twin(self), &info);
	EXPECT_STREQ(info.last_error, "");
	EXPECT_TRUE(info.current);
	EXPECT_EQ(info.n_fetched, 1u);
}

TEST_F(twin, hostile_twins_change_nothing)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{\"desired\":{\"$version\":5}}",
		"{\"desired\":{\"a\":\"\xc3\",\"$version\":5},\"reported\":{\"$version\":9}}",
		"{\"desired\":{\"a\":1e999,\"$version\":5},\"reported\":{\"$version\":9}}",
		"{\"desired\":{\"$version\":\"5\"},\"reported\":{\"$version\":9}}",
		"{\"desired\":{\"a\":[[[[[[[[[[[1]]]]]]]]]]],\"$version\":5},\"reported\":{\"$version\":9}}",
		"{\"desired\":{\"a\":{\"$replace\":true},\"$version\":5},\"reported\":{\"$version\":9}}",
	};
	char bomb[100000];

	online(self);
	memset(bomb, '[', sizeof(bomb));
	memcpy(bomb, "{\"desired\":", 11);
	bomb[sizeof(bomb) - 1] = '\0';
	desired(self, "9", "{}");
	for (size_t i = 0; i <= ARRAY_SIZE(bad); ++i) {
		expect_request(self, "get");
		respond_whole(self, i < ARRAY_SIZE(bad) ? bad[i] : bomb);
		expect_request(self, "");
		twin_line_fire(&self->line, &twin(self)->get_retry);
	}
	expect_heard(self, "");
	expect_desired(self, 4, "{\"i\":1}");
	expect_reported(self, 8, "{\"r\":1}");
}

TEST_F(twin, one_that_was_made_anew_counts)
{
	online(self);
	twin_line_offline(&self->line);
	online_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
	expect_desired(self, 1, "{}");
	expect_reported(self, 1, "{}");
	desired(self, "2", "{\"x\":1}");
	expect_heard(self, "desired 2 {\"x\":1};");
}

/* --- changes of the desired properties -------------------------------------------------------- */

TEST_F(twin, changes_follow_by_version)
{
	online(self);
	desired(self, "5", "{\"i\":null,\"o\":{\"x\":1}}");
	expect_heard(self, "desired 5 {\"i\":null,\"o\":{\"x\":1}};");
	expect_desired(self, 5, "{\"o\":{\"x\":1}}");
	desired(self, "6", "{\"o\":{\"y\":1.10}}");
	expect_desired(self, 6, "{\"o\":{\"x\":1,\"y\":1.10}}");
	expect_heard(self, "desired 6 {\"o\":{\"y\":1.10}};");
	/* Known already. */
	desired(self, "6", "{\"o\":7}");
	desired(self, "1", "{\"o\":7}");
	expect_heard(self, "");
	expect_desired(self, 6, "{\"o\":{\"x\":1,\"y\":1.10}}");
	expect_request(self, "");
}

TEST_F(twin, a_gap_has_the_twin_fetched)
{
	online(self);
	desired(self, "6", "{\"i\":6}");
	desired(self, "7", "{\"i\":7}");
	expect_heard(self, "");
	expect_request(self, "get");
	desired(self, "8", "{\"i\":8}");
	expect_request(self, "");
	/* The answer was made between 6 and 7. */
	respond_whole(self, "{\"desired\":{\"i\":6,\"$version\":6},\"reported\":{\"r\":1,\"$version\":8}}");
	expect_heard(self, "desired 6 all;desired 7 {\"i\":7};desired 8 {\"i\":8};");
	expect_desired(self, 8, "{\"i\":8}");
	expect_request(self, "");
}

TEST_F(twin, a_gap_after_fetching_waits_for_the_next_fetch)
{
	online(self);
	desired(self, "1000", "{\"i\":1}");
	expect_request(self, "get");
	respond_whole(self, WHOLE);
	expect_request(self, "");
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
	respond_whole(self, WHOLE);
	/* Asked once more, and that was all. */
	expect_request(self, "");
	EXPECT_FALSE(loop_timer_is_armed(&twin(self)->get_retry));
	expect_heard(self, "");
	desired(self, "5", "{}");
	expect_heard(self, "desired 5 {};");
}

TEST_F(twin, more_changes_than_are_held)
{
	char version[24];

	online(self);
	desired(self, "6", "{}");
	expect_request(self, "get");
	for (unsigned int i = 0; i < TWIN_HELD_MAX + 10; ++i) {
		snprintf(version, sizeof(version), "%u", 7 + i);
		desired(self, version, "{\"i\":1}");
	}
	EXPECT_LE(twin(self)->n_held, (size_t)TWIN_HELD_MAX);
	respond_whole(self, "{\"desired\":{\"$version\":6},\"reported\":{\"r\":1,\"$version\":8}}");
	expect_heard(self, "desired 6 all;");
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
	respond_whole(self, "{\"desired\":{\"i\":1,\"$version\":80},\"reported\":{\"r\":1,\"$version\":8}}");
	expect_heard(self, "desired 80 all;");
	expect_request(self, "");
}

TEST_F(twin, hostile_changes_change_nothing)
{
	static const struct {
		const char *version, *text;
	} bad[] = {
		{NULL, "{}"},
		{"", "{}"},
		{"-5", "{}"},
		{"5x", "{}"},
		{"0", "{}"},
		{"18446744073709551615", "{}"},
		{"18446744073709551621", "{}"},
		{"5", ""},
		{"5", "7"},
		{"5", "{\"a\":\"\xff\"}"},
		{"5", "{\"a b\":1}"},
		{"5", "{\"a\":{\"$replace\":true}}"},
		{"5", "{\"a\":[[[[[[[[[[[1]]]]]]]]]]]}"},
	};

	online(self);
	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		desired(self, bad[i].version, bad[i].text);
		expect_request(self, "");
		twin_line_fire(&self->line, &twin(self)->get_retry);
		expect_request(self, "get");
		respond_whole(self, WHOLE);
		expect_request(self, "");
	}
	expect_heard(self, "");
	expect_desired(self, 4, "{\"i\":1}");
}

/* Each fits; all of them together are more than a twin has. */
TEST_F(twin, changes_have_the_twins_limits)
{
	char text[4200], version[8];

	online(self);
	for (unsigned int i = 0; i < 8; ++i) {
		snprintf(text, sizeof(text), "{\"k%u\":\"%04096d\"}", i, 0);
		snprintf(version, sizeof(version), "%u", 5 + i);
		desired(self, version, text);
	}
	EXPECT_EQ(twin_desired(twin(self)).version, 11u);
	EXPECT_TRUE(loop_timer_is_armed(&twin(self)->get_retry));
}

TEST_F(twin, a_reader_keeps_its_version)
{
	const struct json_object *mine;

	online(self);
	mine = twin_doc_ref(twin_desired(twin(self)).object);
	desired(self, "5", "{\"i\":2}");
	expect_text(mine, "{\"i\":1}");
	expect_desired(self, 5, "{\"i\":2}");
	twin_doc_unref(mine);
}

/* --- patches ---------------------------------------------------------------------------------- */

TEST_F(twin, patches_of_a_turn_go_together)
{
	online(self);
	patch(self, "{\"a\":1}", &self->a);
	patch(self, "{\"b\":{\"c\":2}}", NULL);
	patch(self, "{\"a\":null,\"r\":null}", &self->b);
	/* Readers see them at once, without a new version. */
	expect_heard(self,
		     "reported 8 {\"a\":1};reported 8 {\"b\":{\"c\":2}};reported 8 {\"a\":null,\"r\":null};");
	expect_reported(self, 8, "{\"b\":{\"c\":2}}");
	expect_request(self, "patch {\"r\":null,\"a\":null,\"b\":{\"c\":2}}");
	expect_request(self, "");
	respond(self, NULL, "9");
	expect_heard(self, "reported 9 {};a 9;b 9;");
	expect_reported(self, 9, "{\"b\":{\"c\":2}}");
	expect_request(self, "");
}

TEST_F(twin, patches_meanwhile_go_next)
{
	online(self);
	patch(self, "{\"a\":1}", &self->a);
	expect_request(self, "patch {\"a\":1}");
	patch(self, "{\"a\":2}", &self->b);
	patch(self, "{\"b\":2}", &self->c);
	expect_request(self, "");
	self->line.heard[0] = '\0';
	respond(self, NULL, "9");
	expect_heard(self, "reported 9 {};a 9;");
	expect_request(self, "patch {\"a\":2,\"b\":2}");
	twin_waiter_cancel(&self->c.base);
	twin_waiter_cancel(&self->c.base);
	respond(self, NULL, "10");
	expect_heard(self, "reported 10 {};b 10;");
	expect_reported(self, 10, "{\"r\":1,\"a\":2,\"b\":2}");
}

TEST_F(twin, offline_patches_wait_for_the_twin)
{
	patch(self, "{\"a\":1}", &self->a);
	expect_reported(self, 0, "{\"a\":1}");
	EXPECT_FALSE(twin_reported(twin(self)).known);
	expect_request(self, "");
	twin_line_online(&self->line);
	expect_request(self, "get");
	self->line.heard[0] = '\0';
	respond_whole(self, WHOLE);
	expect_heard(self, "desired 4 all;reported 8 all;");
	expect_reported(self, 8, "{\"r\":1,\"a\":1}");
	expect_request(self, "patch {\"a\":1}");
}

/* What was there is known only when the twin has come. */
TEST_F(twin, removed_and_made_anew_while_offline)
{
	online_with(self, "{\"desired\":{\"$version\":4},\"reported\":{\"d\":{\"x\":1},\"$version\":8}}");
	twin_line_offline(&self->line);
	patch(self, "{\"d\":null}", NULL);
	patch(self, "{\"d\":{\"z\":1}}", NULL);
	expect_reported(self, 8, "{\"d\":{\"z\":1}}");
	twin_line_online(&self->line);
	expect_request(self, "get");
	respond_whole(self,
		      "{\"desired\":{\"$version\":4},\"reported\":{\"d\":{\"x\":1,\"y\":2},\"$version\":9}}");
	expect_request(self, "patch {\"d\":{\"x\":null,\"y\":null,\"z\":1}}");
	respond(self, NULL, "10");
	expect_reported(self, 10, "{\"d\":{\"z\":1}}");
}

TEST_F(twin, refused_for_good_is_dropped)
{
	struct twin_writer writer, other;

	online(self);
	twin_writer_init(twin(self), &writer);
	twin_writer_init(twin(self), &other);
	ASSERT_EQ(try_patch(self, "{\"a\":1}", NULL, &writer, &self->a), 0);
	EXPECT_EQ(twin_wait(twin(self), &writer, &self->b.base), TWIN_WAITS);
	EXPECT_EQ(twin_wait(twin(self), &other, &self->c.base), 0);
	expect_request(self, "patch {\"a\":1}");
	ASSERT_EQ(try_patch(self, "{\"b\":1}", NULL, &other, NULL), 0);
	self->line.heard[0] = '\0';
	respond(self, "0100", NULL);
	expect_heard(self, "reported 8 all;refused Bad Request (0100): because;a EINVAL because;"
			   "b EINVAL because;");
	expect_reported(self, 8, "{\"r\":1,\"b\":1}");
	EXPECT_EQ(twin_writer_take_error(&writer), -EINVAL);
	EXPECT_EQ(twin_writer_take_error(&writer), 0);
	EXPECT_EQ(twin_wait(twin(self), &writer, &self->a.base), 0);
	expect_request(self, "patch {\"b\":1}");
	EXPECT_EQ(twin_wait(twin(self), &other, &self->a.base), TWIN_WAITS);
	respond(self, NULL, "9");
	EXPECT_EQ(twin_writer_take_error(&other), 0);
	expect_heard(self, "reported 9 {};a 9;");
	EXPECT_EQ(twin_wait(twin(self), NULL, &self->a.base), 0);
	twin_writer_end(&writer);
	twin_writer_end(&other);
}

TEST_F(twin, refused_for_now_is_kept)
{
	static const char *const statuses[] = {"0501", "0502", "0503", "0504"};
	struct twin_info info;

	online(self);
	patch(self, "{\"a\":0}", &self->a);
	for (size_t i = 0; i < ARRAY_SIZE(statuses); ++i) {
		ASSERT_CONTAINS(twin_line_next(&self->line), "patch {\"a\":");
		respond(self, statuses[i], NULL);
		expect_request(self, "");
		patch(self, "{\"a\":1,\"b\":2}", NULL);
		expect_request(self, "");
		twin_info(twin(self), &info);
		EXPECT_EQ(info.n_pending, 1u);
		EXPECT_CONTAINS(info.last_error, statuses[i]);
		twin_line_fire(&self->line, &twin(self)->patch_retry);
	}
	expect_request(self, "patch {\"a\":1,\"b\":2}");
	self->line.heard[0] = '\0';
	respond(self, NULL, "9");
	expect_heard(self, "reported 9 {};a 9;");
}

/* The server failed after it had done it. */
TEST_F(twin, after_a_server_error_the_twin_is_fetched)
{
	static const char *const statuses[] = {"0601", "0602", "0603"};

	online(self);
	patch(self, "{\"d\":{\"x\":1}}", &self->a);
	for (size_t i = 0; i < ARRAY_SIZE(statuses); ++i) {
		ASSERT_CONTAINS(twin_line_next(&self->line), "patch {\"d\":");
		respond(self, statuses[i], NULL);
		patch(self, "{\"d\":null}", NULL);
		patch(self, "{\"d\":{\"y\":1}}", NULL);
		expect_request(self, "");
		twin_line_fire(&self->line, &twin(self)->patch_retry);
		expect_request(self, "");
		twin_line_fire(&self->line, &twin(self)->get_retry);
		expect_request(self, "get");
		respond_whole(self, "{\"desired\":{\"$version\":4},\"reported\":{\"d\":{\"x\":1},"
				    "\"$version\":9}}");
	}
	expect_request(self, "patch {\"d\":{\"x\":null,\"y\":1}}");
	self->line.heard[0] = '\0';
	respond(self, NULL, "10");
	expect_heard(self, "reported 10 {};a 10;");
	expect_reported(self, 10, "{\"d\":{\"y\":1}}");
}

TEST_F(twin, a_patch_that_was_lost_goes_again)
{
	online(self);
	patch(self, "{\"a\":1,\"c\":{\"x\":1}}", &self->a);
	expect_request(self, "patch {\"a\":1,\"c\":{\"x\":1}}");
	patch(self, "{\"a\":2,\"c\":null}", &self->b);
	twin_line_offline(&self->line);
	patch(self, "{\"b\":1,\"c\":{\"y\":1}}", NULL);
	self->line.heard[0] = '\0';
	/* The hub had taken it. */
	online_with(self, "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"a\":1,\"c\":{\"x\":1},"
			  "\"$version\":9}}");
	expect_reported(self, 9, "{\"a\":2,\"c\":{\"y\":1},\"b\":1}");
	expect_request(self, "patch {\"a\":2,\"c\":{\"x\":null,\"y\":1},\"b\":1}");
	respond(self, NULL, "10");
	expect_heard(self, "reported 10 {};a 10;b 10;");
	expect_request(self, "");
}

TEST_F(twin, no_answer_to_a_patch)
{
	online(self);
	patch(self, "{\"a\":1}", &self->a);
	expect_request(self, "patch {\"a\":1}");
	twin_line_time_out(&self->line);
	expect_request(self, "");
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
	respond_whole(self, WHOLE);
	expect_request(self, "patch {\"a\":1}");
	self->line.heard[0] = '\0';
	respond(self, NULL, "9");
	expect_heard(self, "reported 9 {};a 9;");
}

/* Fetching and patching take turns, so that a twin never has half of what is under way. */
TEST_F(twin, no_fetch_while_a_patch_is_under_way)
{
	online(self);
	patch(self, "{\"a\":1}", NULL);
	expect_request(self, "patch {\"a\":1}");
	desired(self, "6", "{}");
	expect_request(self, "");
	patch(self, "{\"b\":1}", NULL);
	respond(self, NULL, "9");
	expect_request(self, "get");
	expect_request(self, "");
	respond_whole(self, "{\"desired\":{\"$version\":6},\"reported\":{\"r\":1,\"a\":1,\"$version\":9}}");
	expect_request(self, "patch {\"b\":1}");
}

TEST_F(twin, somebody_else_writes_too)
{
	online(self);
	patch(self, "{\"a\":1}", &self->a);
	expect_request(self, "patch {\"a\":1}");
	self->line.heard[0] = '\0';
	respond(self, NULL, "12");
	expect_heard(self, "reported 8 {};a 12;");
	expect_request(self, "get");
	respond_whole(self, "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"a\":1,\"$version\":12}}");
	expect_heard(self, "reported 12 all;");
	/* A hub that does not say its version is asked as well. */
	patch(self, "{\"b\":1}", NULL);
	expect_request(self, "patch {\"b\":1}");
	respond(self, NULL, NULL);
	expect_request(self, "");
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
}

/* --- if-version ------------------------------------------------------------------------------- */

TEST_F(twin, if_version_goes_alone)
{
	online(self);
	patch(self, "{\"a\":1}", NULL);
	patch_if(self, "{\"v\":1}", 9, &self->a);
	patch_if(self, "{\"w\":1}", 9, &self->b);
	patch(self, "{\"b\":1}", NULL);
	patch(self, "{\"c\":1}", &self->c);
	/* Not seen before it is true. */
	expect_reported(self, 8, "{\"r\":1,\"a\":1,\"b\":1,\"c\":1}");
	expect_request(self, "patch {\"a\":1}");
	self->line.heard[0] = '\0';
	respond(self, NULL, "9");
	expect_request(self, "patch if 9 {\"v\":1}");
	respond(self, NULL, "10");
	expect_heard(self, "reported 9 {};reported 10 all;a 10;");
	expect_reported(self, 10, "{\"r\":1,\"a\":1,\"v\":1,\"b\":1,\"c\":1}");
	expect_request(self, "patch if 9 {\"w\":1}");
	respond(self, "0104", NULL);
	expect_heard(self, "refused Precondition Failed (0104): because;b ESTALE because;");
	expect_request(self, "patch {\"b\":1,\"c\":1}");
	respond(self, NULL, "11");
	expect_heard(self, "reported 11 {};c 11;");
	expect_reported(self, 11, "{\"r\":1,\"a\":1,\"v\":1,\"b\":1,\"c\":1}");
}

TEST_F(twin, a_known_version_refused_has_the_twin_fetched)
{
	online(self);
	patch_if(self, "{\"v\":1}", 8, &self->a);
	expect_request(self, "patch if 8 {\"v\":1}");
	respond(self, "0104", NULL);
	expect_request(self, "get");
}

/* The connection ended before the answer; what the hub has then decides. */
static void lose_conditional(struct fixture_twin *self)
{
	online(self);
	patch_if(self, "{\"v\":1}", 8, &self->a);
	expect_request(self, "patch if 8 {\"v\":1}");
	twin_line_offline(&self->line);
	twin_line_online(&self->line);
	expect_request(self, "get");
	expect_heard(self, "");
}

TEST_F(twin, if_version_lost_and_not_done)
{
	lose_conditional(self);
	respond_whole(self, WHOLE);
	expect_request(self, "patch if 8 {\"v\":1}");
	respond(self, NULL, "9");
	expect_heard(self, "reported 9 all;a 9;");
}

TEST_F(twin, if_version_lost_and_done)
{
	lose_conditional(self);
	respond_whole(self, "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"v\":1,\"r\":1,"
			    "\"$version\":9}}");
	expect_heard(self, "reported 9 all;a 9;");
	expect_request(self, "");
}

TEST_F(twin, if_version_lost_and_overtaken)
{
	lose_conditional(self);
	respond_whole(self, "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"r\":2,\"$version\":9}}");
	expect_heard(self, "reported 9 all;a ESTALE ;");
	expect_request(self, "");
}

TEST_F(twin, if_version_after_a_server_error)
{
	online(self);
	patch_if(self, "{\"v\":1}", 8, &self->a);
	expect_request(self, "patch if 8 {\"v\":1}");
	respond(self, "0602", NULL);
	expect_request(self, "");
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
	respond_whole(self, "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"v\":1,\"r\":1,"
			    "\"$version\":9}}");
	expect_heard(self, "reported 9 all;a 9;");
}

TEST_F(twin, if_version_has_a_bound)
{
	for (unsigned int i = 0; i < TWIN_CONDITIONAL_MAX; ++i)
		patch_if(self, "{\"v\":1}", 8, NULL);
	EXPECT_EQ(try_patch(self, "{\"v\":1}", &(uint64_t){8}, NULL, &self->a), -ENOSPC);
	patch(self, "{\"v\":1}", NULL);
	expect_heard(self, "reported 0 {\"v\":1};");
}

/* --- limits ----------------------------------------------------------------------------------- */

TEST_F(twin, limits_are_told_to_the_writer)
{
	char text[4300];

	online(self);
	EXPECT_EQ(try_patch(self, "[1]", NULL, NULL, &self->a), -EINVAL);
	EXPECT_EQ(try_patch(self, "{\"a b\":1}", NULL, NULL, &self->a), -EINVAL);
	EXPECT_EQ(try_patch(self, "{\"a\":{\"$replace\":true}}", NULL, NULL, &self->a), -EINVAL);
	snprintf(text, sizeof(text), "{\"k\":\"%04097d\"}", 0);
	EXPECT_EQ(try_patch(self, text, NULL, NULL, &self->a), -EMSGSIZE);
	for (unsigned int i = 0; i < 7; ++i) {
		snprintf(text, sizeof(text), "{\"k%u\":\"%04096d\"}", i, 0);
		patch(self, text, NULL);
	}
	self->line.heard[0] = '\0';
	snprintf(text, sizeof(text), "{\"k7\":\"%04096d\"}", 0);
	EXPECT_EQ(try_patch(self, text, NULL, NULL, &self->a), -EMSGSIZE);
	EXPECT_EQ(try_patch(self, text, &(uint64_t){8}, NULL, &self->a), -EMSGSIZE);
	expect_heard(self, "");
	/* What takes away always fits. */
	patch(self, "{\"k0\":null}", NULL);
	patch(self, text, NULL);
}

/* Members that are taken away count for nothing in a state, but they have to be kept. */
TEST_F(twin, what_waits_has_a_bound)
{
	char text[1100], key[1001];
	int r = 0;
	unsigned int i;

	self->line.deaf = true;
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	for (i = 0; i < 1000 && !r; ++i) {
		snprintf(text, sizeof(text), "{\"%s%u\":null}", key, i);
		r = try_patch(self, text, NULL, NULL, NULL);
	}
	EXPECT_EQ(r, -ENOSPC);
	EXPECT_GT(i, TWIN_PENDING_BYTES_MAX / 1100);
	/* The same again is not more. */
	for (i = 0; i < 1000; ++i) {
		snprintf(text, sizeof(text), "{\"%s%u\":null}", key, i % 10);
		ASSERT_EQ(try_patch(self, text, NULL, NULL, NULL), 0);
	}
}

/* --- restarts --------------------------------------------------------------------------------- */

TEST_F(twin, what_was_known_is_known_again)
{
	online(self);
	desired(self, "5", "{\"f\":1.50,\"n\":18446744073709551615}");
	restart(self);
	expect_desired(self, 5, "{\"i\":1,\"f\":1.50,\"n\":18446744073709551615}");
	expect_reported(self, 8, "{\"r\":1}");
	EXPECT_TRUE(twin_desired(twin(self)).known);
	expect_request(self, "");
}

TEST_F(twin, what_was_not_confirmed_is_sent_after_a_restart)
{
	online(self);
	patch(self, "{\"a\":1}", &self->a);
	expect_request(self, "patch {\"a\":1}");
	patch(self, "{\"b\":1}", NULL);
	patch_if(self, "{\"v\":1}", 9, &self->b);
	patch(self, "{\"c\":1}", NULL);
	self->line.heard[0] = '\0';
	restart(self);
	/* Those who waited are gone with the process. */
	twin_waiter_cancel(&self->a.base);
	expect_heard(self, "");
	expect_reported(self, 8, "{\"r\":1,\"a\":1,\"b\":1,\"c\":1}");
	restart(self);
	twin_line_online(&self->line);
	expect_request(self, "get");
	respond_whole(self, WHOLE);
	expect_request(self, "patch {\"a\":1,\"b\":1,\"c\":1}");
	respond(self, NULL, "9");
	restart(self);
	expect_reported(self, 9, "{\"r\":1,\"a\":1,\"b\":1,\"c\":1}");
	EXPECT_EQ(twin(self)->n_changes, 0u);
}

TEST_F(twin, patches_before_anything_is_known_survive)
{
	patch(self, "{\"a\":{\"b\":1}}", NULL);
	patch(self, "{\"a\":null}", NULL);
	patch(self, "{\"a\":{\"c\":1}}", NULL);
	restart(self);
	EXPECT_FALSE(twin_reported(twin(self)).known);
	expect_reported(self, 0, "{\"a\":{\"c\":1}}");
	online_with(self, "{\"desired\":{\"$version\":4},\"reported\":{\"a\":{\"z\":1},\"$version\":8}}");
	expect_request(self, "patch {\"a\":{\"z\":null,\"c\":1}}");
}

TEST_F(twin, without_a_store)
{
	twin_line_stop(&self->line);
	self->line.store_path = NULL;
	twin_line_start(&self->line);
	online(self);
	patch(self, "{\"a\":1}", NULL);
	restart(self);
	expect_reported(self, 0, "{}");
}

TEST_HARNESS_MAIN
