/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_TWIN_WORDS_H
#define TESTS_SUPPORT_TWIN_WORDS_H

/*
 * The words of the twin's unit tests: a fixture with a twin on a line whose hub is the test, who waits, and what is
 * expected. For test files that include the harness.
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

static inline void on_done(struct twin_waiter *base, int error, uint64_t version, struct bytes reason)
{
	struct waiter *w = container_of(base, struct waiter, base);

	if (error)
		twin_line_hear(w->line, "%s %s %.*s;", w->name, strerrorname_np(-error), (int)reason.len,
			       reason.len ? (const char *)reason.data : "");
	else
		twin_line_hear(w->line, "%s %" PRIu64 ";", w->name, version);
}

static inline void waiter_init(struct waiter *w, struct twin_line *line, const char *name)
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

static inline struct twin *twin(struct fixture_twin *self)
{
	return self->line.twin;
}

static inline void expect_heard(struct fixture_twin *self, const char *what)
{
	EXPECT_STREQ(self->line.heard, what);
	self->line.heard[0] = '\0';
}

static inline void expect_request(struct fixture_twin *self, const char *what)
{
	ASSERT_STREQ(twin_line_next(&self->line), what);
}

static inline void expect_text(const struct json_object *doc, const char *text)
{
	struct bytes got = twin_doc_text(doc, false);

	if (!bytes_equal_str(got, text))
		harness_fail(__FILE__, __LINE__, false, "expected %s, not %.*s", text, (int)got.len,
			     (const char *)got.data);
}

static inline void expect_desired(struct fixture_twin *self, uint64_t version, const char *text)
{
	struct twin_view view = twin_desired(twin(self));

	expect_text(view.object, text);
	EXPECT_EQ(view.version, version);
}

static inline void expect_reported(struct fixture_twin *self, uint64_t version, const char *text)
{
	struct twin_view view = twin_reported(twin(self));

	expect_text(view.object, text);
	EXPECT_EQ(view.version, version);
}

static inline int try_patch(struct fixture_twin *self, const char *text, const uint64_t *if_version,
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

static inline void patch(struct fixture_twin *self, const char *text, struct waiter *waiter)
{
	ASSERT_EQ(try_patch(self, text, NULL, NULL, waiter), 0);
}

static inline void patch_if(struct fixture_twin *self, const char *text, uint64_t version,
			    struct waiter *waiter)
{
	ASSERT_EQ(try_patch(self, text, &version, NULL, waiter), 0);
}

static inline void respond(struct fixture_twin *self, const char *status, const char *version)
{
	twin_line_respond(&self->line, status, version, BYTES(NULL, 0));
}

static inline void respond_whole(struct fixture_twin *self, const char *whole)
{
	twin_line_respond(&self->line, NULL, NULL, bytes_from_str(whole));
}

static inline void desired(struct fixture_twin *self, const char *version, const char *text)
{
	twin_line_desired(&self->line, version, bytes_from_str(text));
}

static inline void online_with(struct fixture_twin *self, const char *whole)
{
	twin_line_online(&self->line);
	expect_request(self, "get");
	respond_whole(self, whole);
	self->line.heard[0] = '\0';
}

/* Connected, desired version 4, reported version 8. */
static inline void online(struct fixture_twin *self)
{
	online_with(self, WHOLE);
}

static inline void restart(struct fixture_twin *self)
{
	twin_line_stop(&self->line);
	twin_line_start(&self->line);
}

#endif
