/* SPDX-License-Identifier: MIT */
/*
 * The twin as the hub tells it: fetched, followed by its changes, whatever the hub sends; and what is known again after
 * a restart.
 */

#include "tests/support/twin_words.h"

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
