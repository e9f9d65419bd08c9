/* SPDX-License-Identifier: MIT */
/*
 * Random histories: a hub that is the emulator's twin and loses, refuses and forgets to tell, writers, restarts. When
 * the dust settles both sides have the same twin, what writers wrote is there, and nobody who waits was forgotten.
 */

#include <errno.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "tests/support/twin_line.h"
#include "tools/emulator/twin.h"

#define N_HISTORIES 300
#define N_STEPS     120
#define N_WAITERS   16
#define N_VERSIONS  (N_STEPS * 12) /* more than happen */

struct waiter {
	struct twin_waiter base;
	bool waits;
};

FIXTURE(history)
{
	struct twin_line line;
	char dir[64], path[96];
	struct emu_twin hub;
	struct json_object *past[TWIN_N_PARTS][N_VERSIONS]; /* what the hub had, by version */
	const struct json_object *written;                  /* reported properties as the writers want them */
	uint64_t seen_desired, seen_reported;               /* versions */
	bool is_harsh;      /* the hub refuses for good, and patches have an if-version */
	bool waits_for_hub; /* a request has come that the hub has not answered */
	struct waiter waiters[N_WAITERS];
};

static void hub_forget(struct fixture_history *self)
{
	for (size_t part = 0; part < TWIN_N_PARTS; ++part)
		for (size_t version = 0; version < N_VERSIONS; ++version) {
			json_object_put(self->past[part][version]);
			self->past[part][version] = NULL;
		}
}

FIXTURE_SETUP(history)
{
	/* Much is written: in memory, where that is possible. */
	snprintf(self->dir, sizeof(self->dir), "%s/test-twin.XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	ASSERT_TRUE(mkdtemp(self->dir));
	snprintf(self->path, sizeof(self->path), "%s/twin", self->dir);
	self->line.store_path = self->path;
	self->line.deaf = true;
	twin_line_init(&self->line);
	self->line.hub.log.fd = -1;
}

FIXTURE_TEARDOWN(history)
{
	if (!test_is_orphan()) {
		twin_line_deinit(&self->line);
		emu_twin_deinit(&self->hub);
		hub_forget(self);
		twin_doc_unref(self->written);
	}
	unlink(self->path);
	rmdir(self->dir);
}

static bool chance(unsigned int percent)
{
	return test_random() % 100 < percent;
}

/* --- random patches --------------------------------------------------------------------------- */

static struct json_object *random_value(unsigned int depth);

static struct json_object *random_object(unsigned int depth)
{
	struct json_object *object = json_object_new_object();
	unsigned int n = (unsigned int)(test_random() % 3) + (depth == 0);

	while (n--) {
		const char key[] = {(char)('a' + test_random() % 3), '\0'};

		json_object_object_add(object, key, random_value(depth + 1));
	}
	return object;
}

static struct json_object *random_value(unsigned int depth)
{
	switch (test_random() % (depth < 4 ? 6 : 3)) {
	case 0:
		return NULL;
	case 1:
		return json_object_new_int64((int64_t)(test_random() % 100));
	case 2:
		return json_object_new_string("x");
	default:
		return random_object(depth);
	}
}

/* --- the hub ---------------------------------------------------------------------------------- */

static void hub_remember(struct fixture_history *self, enum emu_twin_part part)
{
	const struct emu_twin_properties *p = &self->hub.parts[part];

	ASSERT_LT(p->version, (uint64_t)N_VERSIONS);
	self->past[part][p->version] = json_object_get(p->object);
}

static void expect_same(const struct json_object *a, const struct json_object *b)
{
	struct bytes text_a = twin_doc_text(a, false), text_b = twin_doc_text(b, false);

	if (!twin_doc_equal(a, b))
		harness_fail(__FILE__, __LINE__, true, "they differ: %.*s, %.*s", (int)text_a.len,
			     (const char *)text_a.data, (int)text_b.len, (const char *)text_b.data);
}

/* Whatever happens, a version is what the hub had under its number. */
static void expect_true_versions(struct fixture_history *self)
{
	const struct twin *t = self->line.twin;
	const struct json_object *past;

	ASSERT_GE(t->desired.version, self->seen_desired);
	ASSERT_GE(t->reported.version, self->seen_reported);
	self->seen_desired = t->desired.version;
	self->seen_reported = t->reported.version;
	past = self->past[TWIN_DESIRED][t->desired.version];
	expect_same(t->desired.state, past ? past : t->none);
	past = self->past[TWIN_REPORTED][t->reported.version];
	if (t->sync == TWIN_CURRENT)
		expect_same(t->reported.state, past ? past : t->none);
}

static void hub_answer_get(struct fixture_history *self)
{
	struct json_object *whole = emu_twin_to_json(&self->hub);
	const char *text = json_object_to_json_string(whole);

	twin_line_respond(&self->line, NULL, NULL, bytes_from_str(text));
	json_object_put(whole);
}

/* The patch happens. Returns the status, NULL = success. */
static const char *hub_patch(struct fixture_history *self)
{
	struct emu_outcome outcome = {0};
	struct json_object *patch = NULL;
	uint64_t if_version;
	bool conditional = sscanf(self->line.request, "patch if %" SCNu64, &if_version) == 1, done;

	ASSERT_TRUE(emu_twin_patch_parse(self->line.payload, &patch, &outcome));
	done = emu_twin_patch(&self->hub, TWIN_REPORTED, patch, conditional ? &if_version : NULL, &outcome);
	if (done)
		hub_remember(self, TWIN_REPORTED);
	json_object_put(patch);
	return done ? NULL : conditional ? "0104" : "0100";
}

static void hub_answer_patch(struct fixture_history *self, const char *status)
{
	char version[24];

	snprintf(version, sizeof(version), "%" PRIu64, self->hub.parts[TWIN_REPORTED].version);
	twin_line_respond(&self->line, status, status ? NULL : version, BYTES(NULL, 0));
}

/* Answers the request that is there. */
static void hub_answer(struct fixture_history *self, bool is_kind)
{
	static const char *const retryable[] = {"0501", "0502", "0601", "0602", "0603"};
	const char *status = retryable[test_random() % ARRAY_SIZE(retryable)];
	bool get = strcmp(self->line.request, "get") == 0;

	if (!is_kind && chance(20)) {
		/* A server can fail after it has done what it was asked. */
		if (!get && status[1] == '6' && chance(50))
			(void)hub_patch(self);
		twin_line_respond(&self->line, status, NULL, BYTES(NULL, 0));
	} else if (!is_kind && self->is_harsh && !get && chance(10)) {
		twin_line_respond(&self->line, "0100", NULL, BYTES(NULL, 0));
	} else if (get) {
		hub_answer_get(self);
	} else {
		hub_answer_patch(self, hub_patch(self));
	}
	self->waits_for_hub = false;
}

/* The service changes the desired properties; the device hears of it or not. */
static void hub_change_desired(struct fixture_history *self)
{
	struct json_object *patch = random_object(0);
	struct emu_outcome outcome = {0};
	char version[24];

	ASSERT_TRUE(emu_twin_patch(&self->hub, TWIN_DESIRED, patch, NULL, &outcome));
	hub_remember(self, TWIN_DESIRED);
	snprintf(version, sizeof(version), "%" PRIu64, self->hub.parts[TWIN_DESIRED].version);
	if (self->line.hub.link->state == LINK_ONLINE && chance(80))
		twin_line_desired(&self->line, version, bytes_from_str(json_object_to_json_string(patch)));
	json_object_put(patch);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void on_done(struct twin_waiter *base, int error, uint64_t version, struct bytes reason)
{
	struct waiter *w = container_of(base, struct waiter, base);

	(void)reason;
	ASSERT_TRUE(w->waits && (error || version));
	w->waits = false;
}

static struct twin_waiter *waiter_take(struct fixture_history *self)
{
	struct waiter *w = &self->waiters[test_random() % N_WAITERS];

	if (w->waits)
		return NULL;
	twin_waiter_init(&w->base);
	w->base.on_done = on_done;
	w->waits = true;
	return &w->base;
}

static void step_write(struct fixture_history *self)
{
	struct json_object *patch = random_object(0);
	uint64_t version = twin_reported(self->line.twin).version + test_random() % 2;
	const uint64_t *if_version = self->is_harsh && chance(30) ? &version : NULL;
	const struct json_object *next;
	struct hub_twin_reason reason;
	int r = twin_patch(self->line.twin, patch, if_version, NULL, waiter_take(self), &reason);

	ASSERT_EQ(r, 0);
	ASSERT_EQ(twin_doc_apply(&next, self->written, patch), 0);
	twin_doc_unref(self->written);
	self->written = next;
	json_object_put(patch);
	if (!self->is_harsh && twin_reported(self->line.twin).known && !self->line.twin->in_flight &&
	    !twin_doc_equal(twin_reported(self->line.twin).object, self->written))
		harness_fail(__FILE__, __LINE__, true, "readers do not see what was written");
}

static void step_restart(struct fixture_history *self)
{
	twin_line_stop(&self->line);
	self->waits_for_hub = false;
	for (size_t i = 0; i < N_WAITERS; ++i)
		self->waiters[i].waits = false;
	twin_line_start(&self->line);
}

static void step_line(struct fixture_history *self)
{
	if (self->line.hub.link->state != LINK_ONLINE) {
		twin_line_online(&self->line);
		return;
	}
	/* Done or not done, the device does not hear of it. */
	if (self->waits_for_hub && strcmp(self->line.request, "get") != 0 && chance(50))
		(void)hub_patch(self);
	twin_line_offline(&self->line);
	self->waits_for_hub = false;
}

static void step_timers(struct fixture_history *self)
{
	struct twin *t = self->line.twin;

	if (loop_timer_is_armed(&t->get_retry))
		twin_line_fire(&self->line, &t->get_retry);
	if (loop_timer_is_armed(&t->patch_retry))
		twin_line_fire(&self->line, &t->patch_retry);
}

static void step_hub(struct fixture_history *self, bool is_kind)
{
	if (self->line.hub.link->state != LINK_ONLINE)
		return;
	if (!self->waits_for_hub)
		self->waits_for_hub = twin_line_next(&self->line)[0] != '\0';
	if (self->waits_for_hub && (is_kind || chance(60)))
		hub_answer(self, is_kind);
}

static void step(struct fixture_history *self)
{
	unsigned int n = (unsigned int)(test_random() % 100);

	if (n < 25)
		step_write(self);
	else if (n < 35)
		hub_change_desired(self);
	else if (n < 80)
		step_hub(self, false);
	else if (n < 90)
		step_timers(self);
	else if (n < 97)
		step_line(self);
	else if (n < 98)
		step_restart(self);
	else if (self->waits_for_hub) {
		twin_line_time_out(&self->line);
		self->waits_for_hub = false;
	}
	expect_true_versions(self);
}

static void settle(struct fixture_history *self)
{
	if (self->line.hub.link->state == LINK_ONLINE)
		twin_line_offline(&self->line);
	self->waits_for_hub = false;
	twin_line_online(&self->line);
	for (int i = 0; i < 1000; ++i) {
		step_hub(self, true);
		step_timers(self);
	}
	expect_true_versions(self);
}

static void expect_agreement(struct fixture_history *self)
{
	const struct twin_view desired = twin_desired(self->line.twin);
	const struct twin_view reported = twin_reported(self->line.twin);

	EXPECT_EQ(desired.version, self->hub.parts[TWIN_DESIRED].version);
	EXPECT_EQ(reported.version, self->hub.parts[TWIN_REPORTED].version);
	expect_same(desired.object, self->hub.parts[TWIN_DESIRED].object ?: self->line.twin->none);
	expect_same(reported.object, self->hub.parts[TWIN_REPORTED].object ?: self->line.twin->none);
	if (!self->is_harsh)
		expect_same(reported.object, self->written);
	EXPECT_EQ(self->line.twin->n_changes, 0u);
	for (size_t i = 0; i < N_WAITERS; ++i)
		ASSERT_FALSE(self->waiters[i].waits);
}

static void history(struct fixture_history *self)
{
	unlink(self->path);
	twin_line_start(&self->line);
	emu_twin_init(&self->hub);
	self->written = twin_doc_new();
	self->seen_desired = self->seen_reported = 0;
	for (unsigned int i = 0; i < N_STEPS; ++i)
		step(self);
	settle(self);
	expect_agreement(self);
	/* What is on the disk is the same. */
	step_restart(self);
	expect_agreement(self);
	emu_twin_deinit(&self->hub);
	hub_forget(self);
	twin_doc_unref(self->written);
	self->written = NULL;
	twin_line_stop(&self->line);
}

TEST_F_TIMEOUT(history, of_a_kind_hub, 120)
{
	for (unsigned int i = 0; i < N_HISTORIES; ++i)
		history(self);
}

TEST_F_TIMEOUT(history, of_a_harsh_hub, 120)
{
	self->is_harsh = true;
	for (unsigned int i = 0; i < N_HISTORIES; ++i)
		history(self);
}

TEST_HARNESS_MAIN
