/* SPDX-License-Identifier: MIT */
/*
 * Patches of the reported properties, from the writer to the hub's answer, and what comes in between.
 */

#include "tests/support/twin_words.h"

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

/* Other people's patches between one's own. */
TEST_F(twin, errors_are_their_writers_own)
{
	struct twin_writer writer, other;
	const uint64_t version = 7;
	char confirmed[16];

	online(self);
	twin_writer_init(twin(self), &writer);
	twin_writer_init(twin(self), &other);
	for (unsigned int i = 0; i < TWIN_RUNS_MAX / 2; ++i) {
		ASSERT_EQ(try_patch(self, "{\"a\":1}", NULL, &writer, NULL), 0);
		ASSERT_EQ(try_patch(self, "{\"b\":1}", &version, &other, NULL), 0);
	}
	for (unsigned int i = 0; i < TWIN_RUNS_MAX / 2; ++i) {
		expect_request(self, "patch {\"a\":1}");
		snprintf(confirmed, sizeof(confirmed), "%u", 9 + i);
		respond(self, NULL, confirmed);
		expect_request(self, "patch if 7 {\"b\":1}");
		respond(self, "0104", NULL);
		EXPECT_EQ(twin_writer_take_error(&other), -ESTALE);
	}
	EXPECT_EQ(twin_writer_take_error(&writer), 0);
	EXPECT_EQ(twin_wait(twin(self), &writer, &self->a.base), 0);
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
	/* Who waits hears of a version when readers have it. */
	expect_heard(self, "reported 8 {};");
	expect_request(self, "get");
	EXPECT_EQ(twin_wait(twin(self), NULL, &self->b.base), TWIN_WAITS);
	respond_whole(self, "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"a\":1,\"$version\":12}}");
	expect_heard(self, "reported 12 all;a 12;b 12;");
	EXPECT_EQ(twin_wait(twin(self), NULL, &self->b.base), 0);
	/* A hub that does not say its version is asked as well. */
	patch(self, "{\"b\":1}", NULL);
	expect_request(self, "patch {\"b\":1}");
	respond(self, NULL, NULL);
	expect_request(self, "");
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
}

/* A patch that is at the hub, and after which the twin is fetched, with one who waits for each of the two. */
static void begin_gap(struct fixture_twin *self, struct twin_writer *writer)
{
	online(self);
	twin_writer_init(twin(self), writer);
	ASSERT_EQ(try_patch(self, "{\"a\":1}", NULL, writer, &self->a), 0);
	expect_request(self, "patch {\"a\":1}");
	ASSERT_EQ(try_patch(self, "{\"b\":1}", NULL, writer, &self->c), 0);
	self->line.heard[0] = '\0';
	respond(self, NULL, "12");
	expect_heard(self, "reported 8 {};");
	expect_request(self, "get");
}

TEST_F(twin, who_waits_for_a_version_hears_without_it_when_it_does_not_come)
{
	struct twin_writer writer;

	begin_gap(self, &writer);
	twin_line_offline(&self->line);
	expect_heard(self, "a 12;");
	EXPECT_EQ(twin_writer_take_error(&writer), 0);
	twin_writer_end(&writer);
}

TEST_F(twin, who_waits_for_a_version_hears_without_it_when_the_hub_does_not_give_it)
{
	struct twin_writer writer;

	begin_gap(self, &writer);
	respond(self, "0601", NULL);
	expect_heard(self, "a 12;");
	/* It is at the hub, and not sent again. */
	twin_line_fire(&self->line, &twin(self)->get_retry);
	expect_request(self, "get");
	respond_whole(self, "{\"desired\":{\"i\":1,\"$version\":4},\"reported\":{\"a\":1,\"$version\":12}}");
	expect_request(self, "patch {\"b\":1}");
	respond(self, NULL, "13");
	expect_heard(self, "reported 12 all;reported 13 {};c 13;");
	EXPECT_EQ(twin_writer_take_error(&writer), 0);
	twin_writer_end(&writer);
}

TEST_F(twin, ends_while_somebody_waits_for_a_version)
{
	struct twin_writer writer;

	begin_gap(self, &writer);
	twin_writer_end(&writer);
	twin_line_stop(&self->line);
	twin_waiter_cancel(&self->a.base);
	twin_line_start(&self->line);
}

/* What a process that comes after a crash would send. */
static void expect_stored_pending(struct fixture_twin *self, const char *text)
{
	_cleanup_(twin_store_state_deinit) struct twin_store_state state = {0};
	struct twin_store *store;

	ASSERT_EQ(twin_store_new(&store, self->line.hub.loop, &self->line.hub.log, self->path, "hub/dev"), 0);
	ASSERT_EQ(twin_store_load(store, &state), 0);
	twin_store_free(store);
	ASSERT_TRUE(state.pending);
	expect_text(state.pending, text);
}

TEST_F(twin, what_is_sent_is_stored)
{
	online(self);
	/* The twin that was fetched is being stored. */
	self->line.busy_disk = true;
	patch(self, "{\"a\":1}", NULL);
	expect_request(self, "");
	/* Too late for this one. */
	patch(self, "{\"b\":1}", NULL);
	self->line.busy_disk = false;
	expect_request(self, "patch {\"a\":1}");
	expect_stored_pending(self, "{\"a\":1,\"b\":1}");
	self->line.busy_disk = true;
	respond(self, NULL, "9");
	expect_request(self, "");
	self->line.busy_disk = false;
	expect_request(self, "patch {\"b\":1}");
	expect_stored_pending(self, "{\"b\":1}");
}

TEST_F(twin, a_disk_that_does_not_work_is_not_waited_for)
{
	struct twin_info info;

	online(self);
	expect_request(self, "");
	unlink(self->path);
	ASSERT_EQ(rmdir(self->dir), 0);
	patch(self, "{\"a\":1}", &self->a);
	expect_request(self, "patch {\"a\":1}");
	twin_info(twin(self), &info);
	EXPECT_CONTAINS(info.last_error, "cannot write");
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
	const uint64_t version = 8;

	for (unsigned int i = 0; i < TWIN_CONDITIONAL_MAX; ++i)
		patch_if(self, "{\"v\":1}", version, NULL);
	EXPECT_EQ(try_patch(self, "{\"v\":1}", &version, NULL, &self->a), -ENOSPC);
	patch(self, "{\"v\":1}", NULL);
	expect_heard(self, "reported 0 {\"v\":1};");
}

/* --- limits ----------------------------------------------------------------------------------- */

TEST_F(twin, limits_are_told_to_the_writer)
{
	const uint64_t version = 8;
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
	EXPECT_EQ(try_patch(self, text, &version, NULL, &self->a), -EMSGSIZE);
	expect_heard(self, "");
	/* What takes away always fits. */
	patch(self, "{\"k0\":null}", NULL);
	patch(self, text, NULL);
}

/* Six bytes of text for one that counts. */
TEST_F(twin, as_text_it_has_a_bound_too)
{
	char text[16384] = "", control[2049 * 6];

	control[0] = '\0';
	for (size_t i = 0; i < 2048; ++i)
		memcpy(control + i * 6, "\\u0001", 7);
	for (unsigned int i = 0; i < 9; ++i) {
		snprintf(text, sizeof(text), "{\"k%u\":\"%s\"}", i, control);
		self->line.heard[0] = '\0';
		patch(self, text, NULL);
	}
	snprintf(text, sizeof(text), "{\"k9\":\"%s\"}", control);
	EXPECT_EQ(try_patch(self, text, NULL, NULL, &self->a), -EMSGSIZE);
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

TEST_HARNESS_MAIN
