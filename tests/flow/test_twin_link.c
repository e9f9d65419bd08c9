/* SPDX-License-Identifier: MIT */
/*
 * The twin on a real link, against an emulator in a process of its own: both directions, a hub that goes away, and a
 * device that starts anew. Files are not part of it.
 */

#include <errno.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "flow/twin.h"
#include "flow/twin_doc.h"
#include "tests/harness.h"
#include "tests/support/device.h"
#include "tests/support/process.h"

struct waiter {
	struct twin_waiter base;
	unsigned int n;
	int error;
	uint64_t version;
};

FIXTURE(twin)
{
	struct lab lab;
	struct device device;
	struct twin *twin;
	char store[LAB_PATH_MAX];
	unsigned int n_desired;
};

static void on_desired_changed(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct fixture_twin *self = userdata;

	(void)patch;
	(void)version;
	++self->n_desired;
}

static const struct twin_ops twin_ops = {.on_desired_changed = on_desired_changed};

static void on_online(void *userdata, bool session_present)
{
	twin_on_online(((struct fixture_twin *)userdata)->twin, session_present);
}

static void on_offline(void *userdata)
{
	twin_on_offline(((struct fixture_twin *)userdata)->twin);
}

static void on_writable(void *userdata)
{
	twin_on_writable(((struct fixture_twin *)userdata)->twin);
}

static void on_changed(void *userdata)
{
	(void)userdata;
}

static const struct link_ops link_ops = {
	.on_online = on_online,
	.on_offline = on_offline,
	.on_writable = on_writable,
	.on_changed = on_changed,
};

static void start(struct fixture_twin *self)
{
	struct device *d = &self->device;
	struct twin_options options = {.identity = "localhost/dev1", .ops = &twin_ops, .userdata = self};

	device_init(d, &self->lab);
	options.loop = d->loop;
	options.log = &d->log;
	options.link = d->link;
	options.store_path = self->store;
	ASSERT_EQ(twin_new(&self->twin, &options), 0);
	d->link->ops = &link_ops;
	d->link->userdata = self;
	device_start(d);
}

static void stop(struct fixture_twin *self)
{
	if (self->device.link)
		link_stop(self->device.link);
	twin_free(self->twin);
	self->twin = NULL;
	device_deinit(&self->device);
}

FIXTURE_SETUP(twin)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_configure(&self->lab, NULL);
	snprintf(self->store, sizeof(self->store), "%s/twin", self->lab.dir);
	start(self);
}

FIXTURE_TEARDOWN(twin)
{
	if (!test_is_orphan())
		stop(self);
	device_show_logs(&self->lab);
	lab_deinit(&self->lab);
}

/* --- words of the tests ----------------------------------------------------------------------- */

/* `hubctl WORDS`; its output. */
static const char *service(struct fixture_twin *self, const char *words)
{
	static char out[4096];

	ASSERT_EQ(lab_hubctl_words(&self->lab, words, out, sizeof(out)), 0);
	return out;
}

static void expect_text(const struct json_object *doc, const char *text)
{
	struct bytes got = twin_doc_text(doc, false);

	if (!bytes_equal_str(got, text))
		harness_fail(__FILE__, __LINE__, false, "expected %s, not %.*s", text, (int)got.len,
			     (const char *)got.data);
}

static void on_done(struct twin_waiter *base, int error, uint64_t version, struct bytes reason)
{
	struct waiter *w = container_of(base, struct waiter, base);

	(void)reason;
	++w->n;
	w->error = error;
	w->version = version;
}

static void patch(struct fixture_twin *self, const char *text, const uint64_t *if_version, struct waiter *w)
{
	struct json_object *object = json_tokener_parse(text);
	struct hub_twin_reason reason;

	*w = (struct waiter){.base.on_done = on_done};
	twin_waiter_init(&w->base);
	ASSERT_EQ(twin_patch(self->twin, object, if_version, NULL, &w->base, &reason), 0);
	json_object_put(object);
}

/* --- tests ------------------------------------------------------------------------------------ */

TEST_F(twin, both_directions)
{
	struct waiter w;

	DEVICE_AWAIT(&self->device, twin_desired(self->twin).known);
	EXPECT_EQ(twin_desired(self->twin).version, 1u);
	service(self, "twin patch dev1 '{\"interval\":5,\"text\":\"a/b\"}'");
	DEVICE_AWAIT(&self->device, twin_desired(self->twin).version == 2);
	expect_text(twin_desired(self->twin).object, "{\"interval\":5,\"text\":\"a/b\"}");
	service(self, "twin patch dev1 '{\"text\":null}'");
	DEVICE_AWAIT(&self->device, twin_desired(self->twin).version == 3);
	expect_text(twin_desired(self->twin).object, "{\"interval\":5}");

	patch(self, "{\"state\":{\"on\":true}}", NULL, &w);
	DEVICE_AWAIT(&self->device, w.n);
	EXPECT_EQ(w.error, 0);
	EXPECT_EQ(w.version, 2u);
	EXPECT_CONTAINS(service(self, "twin show dev1 --json"), "\"on\":true");
	patch(self, "{\"state\":1}", &(uint64_t){1}, &w);
	DEVICE_AWAIT(&self->device, w.n);
	EXPECT_EQ(w.error, -ESTALE);
	patch(self, "{\"state\":1}", &(uint64_t){2}, &w);
	DEVICE_AWAIT(&self->device, w.n);
	EXPECT_EQ(w.error, 0);
	EXPECT_EQ(twin_reported(self->twin).version, 3u);
	expect_text(twin_reported(self->twin).object, "{\"state\":1}");
}

TEST_F(twin, the_hub_goes_away_and_comes_back)
{
	struct waiter first, second;

	DEVICE_AWAIT(&self->device, twin_desired(self->twin).known);
	lab_stop_emulator(&self->lab, SIGKILL);
	patch(self, "{\"d\":{\"a\":1}}", NULL, &first);
	DEVICE_AWAIT(&self->device, device_info(&self->device).state != LINK_ONLINE);
	patch(self, "{\"d\":null}", NULL, &second);
	patch(self, "{\"d\":{\"b\":1}}", NULL, &second);
	EXPECT_EQ(first.n + second.n, 0u);
	lab_start_emulator(&self->lab, NULL);
	service(self, "twin patch dev1 '{\"x\":1}'");
	DEVICE_AWAIT(&self->device, first.n && second.n);
	EXPECT_EQ(first.error, 0);
	EXPECT_EQ(second.error, 0);
	expect_text(twin_desired(self->twin).object, "{\"x\":1}");
	expect_text(twin_reported(self->twin).object, "{\"d\":{\"b\":1}}");
	EXPECT_CONTAINS(service(self, "twin show dev1 --json"), "{\"d\":{\"b\":1},\"$version\":");
}

TEST_F(twin, what_was_written_offline_survives_the_device)
{
	struct waiter w;

	DEVICE_AWAIT(&self->device, twin_desired(self->twin).known);
	service(self, "twin patch dev1 '{\"x\":1}'");
	DEVICE_AWAIT(&self->device, twin_desired(self->twin).version == 2);
	lab_stop_emulator(&self->lab, SIGTERM);
	patch(self, "{\"a\":1}", NULL, &w);
	stop(self);
	start(self);
	/* Before any connection. */
	EXPECT_TRUE(twin_desired(self->twin).known);
	expect_text(twin_desired(self->twin).object, "{\"x\":1}");
	expect_text(twin_reported(self->twin).object, "{\"a\":1}");
	lab_start_emulator(&self->lab, NULL);
	EXPECT_EQ(twin_wait(self->twin, NULL, &w.base), TWIN_WAITS);
	DEVICE_AWAIT(&self->device, w.n);
	EXPECT_EQ(twin_wait(self->twin, NULL, &w.base), 0);
	EXPECT_EQ(twin_reported(self->twin).version, 2u);
	EXPECT_CONTAINS(service(self, "twin show dev1 --json"), "\"a\":1");
}

TEST_HARNESS_MAIN
