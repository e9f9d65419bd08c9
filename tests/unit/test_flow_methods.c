/* SPDX-License-Identifier: MIT */
/*
 * Methods, their calls and openers, with a hub that is the test (link_line.h): who gets which call, and what the hub
 * is told in every way a call can end.
 */

#include <errno.h>
#include <poll.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/methods.h"
#include "hub/contract.h"
#include "tests/harness.h"
#include "tests/support/methods_line.h"

#define N_OPENERS 24
#define LONG_NS   (1000 * NSEC_PER_SEC)
/* Time limits that tests wait for. */
#define SHORT_NS (40 * NSEC_PER_MSEC)
#define CALL     HUB_TOPIC_METHODS_PREFIX "reboot"

/* An opener, and what it was told. */
struct watcher {
	struct method_opener opener;
	unsigned int n_calls, n_gone, n_answered;
	int error;
};

FIXTURE(methods)
{
	struct methods_line device;
	struct method *method; /* reboot */
	struct watcher w[N_OPENERS];
};

/* --- the device ------------------------------------------------------------------------------- */

static void on_call(struct method_opener *opener)
{
	++container_of(opener, struct watcher, opener)->n_calls;
}

static void on_gone(struct method_opener *opener)
{
	++container_of(opener, struct watcher, opener)->n_gone;
}

static void on_answered(struct method_opener *opener, int error)
{
	struct watcher *w = container_of(opener, struct watcher, opener);

	++w->n_answered;
	w->error = error;
}

static void start(struct fixture_methods *self, uint64_t wait_ns, uint64_t timeout_ns)
{
	methods_line_init(&self->device, wait_ns, timeout_ns);
	ASSERT_EQ(methods_register(self->device.methods, "reboot", &self->method), 0);
	for (size_t i = 0; i < N_OPENERS; ++i)
		self->w[i].opener = (struct method_opener){
			.on_call = on_call, .on_gone = on_gone, .on_answered = on_answered};
	link_line_online(&self->device.hub);
	ASSERT_EQ(self->device.n_online, 1u);
}

FIXTURE_SETUP(methods)
{
	(void)self;
}

/* After a failure openers may be open. */
FIXTURE_TEARDOWN(methods)
{
	if (test_is_orphan() || harness_state.result->n_failed)
		return;
	if (self->method)
		ASSERT_EQ(method_unregister(TAKE_PTR(self->method)), 0);
	methods_line_deinit(&self->device);
}

/* --- the hub ---------------------------------------------------------------------------------- */

static void call(struct fixture_methods *self, const char *correlation, const char *payload)
{
	link_line_publish(&self->device.hub, CALL, bytes_from_str(correlation), bytes_from_str(payload));
}

/* The hub gets this answer next: `code payload`, or `status 06A0`. */
static void expect_answer(struct fixture_methods *self, const char *correlation, const char *want)
{
	struct bytes code = BYTES(NULL, 0), status = BYTES(NULL, 0);
	struct mqtt_packet p;
	char got[256];

	ASSERT_TRUE(link_line_next(&self->device.hub, MQTT_PUBLISH, &p));
	EXPECT_TRUE(bytes_equal_str(p.publish.topic, HUB_TOPIC_RESPONSES));
	EXPECT_EQ(p.publish.qos, 0);
	mqtt_user_property_find(p.properties.repeatable, HUB_PROP_RESPONSE_CODE, &code);
	mqtt_user_property_find(p.properties.repeatable, HUB_PROP_STATUS, &status);
	if (status.len)
		snprintf(got, sizeof(got), "status %.*s", (int)status.len, (const char *)status.data);
	else
		snprintf(got, sizeof(got), "%.*s %.*s", (int)code.len, (const char *)code.data,
			 (int)p.publish.payload.len, (const char *)p.publish.payload.data);
	EXPECT_STREQ(got, want);
	snprintf(got, sizeof(got), "%.*s", (int)p.properties.correlation_data.len,
		 (const char *)p.properties.correlation_data.data);
	EXPECT_STREQ(got, correlation);
}

static void expect_refused(struct fixture_methods *self, const char *correlation)
{
	expect_answer(self, correlation, "status 06A0");
}

static void expect_no_answer(struct fixture_methods *self)
{
	struct mqtt_packet p;

	EXPECT_FALSE(link_line_next(&self->device.hub, MQTT_PUBLISH, &p));
}

/* --- openers ---------------------------------------------------------------------------------- */

static struct method_opener *open_one(struct fixture_methods *self, size_t i)
{
	method_open(self->method, &self->w[i].opener);
	return &self->w[i].opener;
}

/* Reads up to @size bytes, which are @want. */
static void expect_read(struct method_opener *opener, size_t size, const char *want)
{
	struct bytes got = BYTES(NULL, 0);

	EXPECT_EQ(method_read(opener, size, &got), 0);
	EXPECT_EQ(got.len, strlen(want));
	EXPECT_TRUE(bytes_equal_str(got, want));
}

static int read_error(struct method_opener *opener)
{
	struct bytes got;

	return method_read(opener, 100, &got);
}

static int respond(struct method_opener *opener, const char *payload, bool wait)
{
	return method_respond(opener, 200, bytes_from_str(payload), wait);
}

#define AWAIT(condition)                                                                                     \
	do {                                                                                                 \
		while (!(condition))                                                                         \
			link_line_turn(&self->device.hub);                                                   \
	} while (0)

/* --- the usual -------------------------------------------------------------------------------- */

TEST_F(methods, a_call_is_read_and_answered)
{
	struct method_opener *o;

	start(self, 0, LONG_NS);
	o = open_one(self, 0);
	EXPECT_EQ(read_error(o), -EAGAIN);
	EXPECT_EQ(respond(o, "early", true), -ENOTCONN);
	EXPECT_EQ(method_poll(o), 0u);
	call(self, "c1", "request");
	EXPECT_EQ(self->w[0].n_calls, 1u);
	EXPECT_EQ(method_poll(o), (uint32_t)(POLLIN | POLLOUT));
	expect_read(o, 3, "req");
	expect_read(o, 1, "u");
	expect_read(o, 100, "est");
	expect_read(o, 100, "");
	expect_read(o, 100, "");
	EXPECT_EQ(respond(o, "done", true), METHOD_WAITS);
	expect_answer(self, "c1", "200 done");
	EXPECT_EQ(self->w[0].n_answered, 0u);
	EXPECT_EQ(respond(o, "again", true), -EALREADY);
	EXPECT_EQ(method_poll(o), (uint32_t)POLLIN);
	link_line_acknowledge(&self->device.hub);
	EXPECT_EQ(self->w[0].n_answered, 1u);
	EXPECT_EQ(self->w[0].error, 0);
	EXPECT_EQ(respond(o, "again", true), -EALREADY);
	expect_read(o, 100, "");
	method_close(o);
	expect_no_answer(self);
	EXPECT_EQ(self->w[0].n_calls + self->w[0].n_gone, 1u);
}

TEST_F(methods, the_answer_may_come_first)
{
	struct method_opener *o;

	start(self, 0, LONG_NS);
	o = open_one(self, 0);
	call(self, "c1", "request");
	EXPECT_EQ(respond(o, "", false), 0);
	expect_answer(self, "c1", "200 ");
	EXPECT_EQ(link_line_n_awaited(&self->device.hub), 0u);
	expect_read(o, 100, "request");
	expect_read(o, 100, "");
	method_close(o);
	/* Of one that has one no other call comes. */
	call(self, "c2", "");
	expect_refused(self, "c2");
}

TEST_F(methods, a_call_without_a_way_back_is_none)
{
	static const uint8_t long_correlation[HUB_CORRELATION_BYTES_MAX + 1] = {1};

	start(self, 0, LONG_NS);
	open_one(self, 0);
	link_line_publish(&self->device.hub, CALL, BYTES(NULL, 0), BYTES_LIT("x"));
	link_line_publish(&self->device.hub, CALL, BYTES(long_correlation, sizeof(long_correlation)),
			  BYTES_LIT("x"));
	EXPECT_EQ(self->w[0].n_calls, 0u);
	expect_no_answer(self);
	method_close(&self->w[0].opener);
}

TEST_F(methods, readers_come_first_then_those_who_were_first)
{
	static const size_t order[] = {3, 1, 0, 2, 4};
	char correlation[8];

	start(self, 0, LONG_NS);
	for (size_t i = 0; i < 5; ++i)
		open_one(self, i);
	method_set_reading(&self->w[3].opener, true);
	method_set_reading(&self->w[4].opener, true);
	method_set_reading(&self->w[1].opener, true);
	/* An interrupted one stands behind those who did not move. */
	method_set_reading(&self->w[4].opener, false);
	for (size_t i = 0; i < 5; ++i) {
		snprintf(correlation, sizeof(correlation), "c%zu", i);
		call(self, correlation, correlation);
		EXPECT_EQ(self->w[order[i]].n_calls, 1u);
		expect_read(&self->w[order[i]].opener, 100, correlation);
	}
	/* Answers in another order, each to its call. */
	for (size_t i = 5; i-- > 0;) {
		EXPECT_EQ(method_respond(&self->w[order[i]].opener, (uint32_t)i, BYTES_LIT("x"), false), 0);
		method_close(&self->w[order[i]].opener);
	}
	for (size_t i = 5; i-- > 0;) {
		char want[16];

		snprintf(correlation, sizeof(correlation), "c%zu", i);
		snprintf(want, sizeof(want), "%zu x", i);
		expect_answer(self, correlation, want);
	}
}

/* --- nobody answers --------------------------------------------------------------------------- */

TEST_F(methods, nobody_is_there)
{
	start(self, 0, LONG_NS);
	call(self, "c1", "x");
	expect_refused(self, "c1");
}

TEST_F(methods, closed_without_an_answer)
{
	start(self, 0, LONG_NS);
	open_one(self, 0);
	call(self, "c1", "x");
	expect_read(&self->w[0].opener, 100, "x");
	open_one(self, 1);
	method_close(&self->w[0].opener);
	expect_refused(self, "c1");
	EXPECT_EQ(self->w[1].n_calls, 0u);
	method_close(&self->w[1].opener);
}

TEST_F(methods, what_nobody_has_read_goes_to_the_next)
{
	start(self, 0, LONG_NS);
	open_one(self, 0);
	open_one(self, 1);
	call(self, "c1", "x");
	EXPECT_EQ(self->w[0].n_calls, 1u);
	method_close(&self->w[0].opener);
	EXPECT_EQ(self->w[1].n_calls, 1u);
	expect_no_answer(self);
	method_close(&self->w[1].opener);
	expect_refused(self, "c1");
}

TEST_F(methods, calls_wait_for_openers)
{
	start(self, LONG_NS, LONG_NS);
	call(self, "c1", "one");
	call(self, "c2", "two");
	expect_no_answer(self);
	open_one(self, 0);
	/* It is there at once, and so not announced. */
	EXPECT_EQ(self->w[0].n_calls, 0u);
	open_one(self, 1);
	/* Not read: the oldest again. */
	method_close(&self->w[0].opener);
	call(self, "c3", "three");
	open_one(self, 0);
	expect_read(&self->w[0].opener, 100, "one");
	expect_read(&self->w[1].opener, 100, "two");
	method_close(&self->w[1].opener);
	expect_refused(self, "c2");
	method_close(&self->w[0].opener);
	expect_refused(self, "c1");
	EXPECT_EQ(method_unregister(TAKE_PTR(self->method)), 0);
	expect_refused(self, "c3");
}

TEST_F(methods, calls_do_not_wait_for_ever)
{
	struct mqtt_packet p;

	start(self, SHORT_NS, LONG_NS);
	call(self, "c1", "one");
	expect_no_answer(self);
	AWAIT(link_line_next(&self->device.hub, MQTT_PUBLISH, &p));
	EXPECT_TRUE(bytes_equal_str(p.properties.correlation_data, "c1"));
	/* One that was given back is as old as it is. */
	open_one(self, 0);
	call(self, "c2", "two");
	for (uint64_t until_ns = loop_now_ns(self->device.hub.loop) + 2 * SHORT_NS;
	     loop_now_ns(self->device.hub.loop) < until_ns;)
		link_line_turn(&self->device.hub);
	expect_no_answer(self);
	method_close(&self->w[0].opener);
	expect_refused(self, "c2");
}

TEST_F(methods, those_that_wait_are_bounded)
{
	char correlation[8];

	start(self, LONG_NS, LONG_NS);
	for (unsigned int i = 0; i < METHOD_WAITING_MAX; ++i) {
		snprintf(correlation, sizeof(correlation), "c%u", i);
		call(self, correlation, "x");
	}
	expect_no_answer(self);
	call(self, "more", "x");
	expect_refused(self, "more");
	for (unsigned int i = 0; i < METHOD_WAITING_MAX; ++i)
		expect_read(open_one(self, i), 1, "x");
	call(self, "c99", "x");
	expect_no_answer(self);
	for (unsigned int i = 0; i < METHOD_WAITING_MAX; ++i)
		method_close(&self->w[i].opener);
	for (unsigned int i = 0; i < METHOD_WAITING_MAX; ++i) {
		snprintf(correlation, sizeof(correlation), "c%u", i);
		expect_refused(self, correlation);
	}
}

TEST_F(methods, memory_is_bounded)
{
	enum { SIZE = 200000 };
	_cleanup_(free_ptr) uint8_t *payload = calloc(1, SIZE);
	size_t n_max = METHODS_BYTES_MAX / SIZE, n_methods = n_max / METHOD_WAITING_MAX + 1;
	struct method *methods[16] = {NULL};
	char topic[64], name[16];
	size_t n_calls = 0;

	start(self, LONG_NS, LONG_NS);
	ASSERT_LE(n_methods, ARRAY_SIZE(methods));
	for (size_t i = 0; i < n_methods; ++i) {
		snprintf(name, sizeof(name), "m%zu", i);
		ASSERT_EQ(methods_register(self->device.methods, name, &methods[i]), 0);
	}
	for (;; ++n_calls) {
		struct mqtt_packet p;

		snprintf(topic, sizeof(topic), HUB_TOPIC_METHODS_PREFIX "m%zu", n_calls / METHOD_WAITING_MAX);
		link_line_publish(&self->device.hub, topic, BYTES_LIT("c"), BYTES(payload, SIZE));
		if (link_line_next(&self->device.hub, MQTT_PUBLISH, &p))
			break;
	}
	EXPECT_LE(n_calls, n_max);
	EXPECT_GT(n_calls, n_max - 2);
	/* With room again, as before. */
	link_line_offline(&self->device.hub);
	link_line_online(&self->device.hub);
	link_line_publish(&self->device.hub, topic, BYTES_LIT("c"), BYTES(payload, SIZE));
	expect_no_answer(self);
	for (size_t i = 0; i < n_methods; ++i)
		ASSERT_EQ(method_unregister(methods[i]), 0);
	expect_refused(self, "c");
}

/* --- too late --------------------------------------------------------------------------------- */

TEST_F(methods, an_answer_that_takes_too_long)
{
	struct method_opener *o;

	start(self, 0, SHORT_NS);
	o = open_one(self, 0);
	call(self, "c1", "request");
	expect_read(o, 3, "req");
	AWAIT(self->w[0].n_gone);
	expect_refused(self, "c1");
	EXPECT_EQ(respond(o, "late", true), -ETIMEDOUT);
	EXPECT_EQ(respond(o, "late", true), -ETIMEDOUT);
	EXPECT_EQ(read_error(o), -ETIMEDOUT);
	EXPECT_EQ(method_poll(o), (uint32_t)(POLLIN | POLLOUT | POLLERR));
	method_close(o);
	expect_no_answer(self);
}

TEST_F(methods, who_has_not_read_does_not_notice)
{
	struct method_opener *o;
	struct mqtt_packet p;

	start(self, 0, SHORT_NS);
	o = open_one(self, 0);
	call(self, "c1", "one");
	AWAIT(link_line_next(&self->device.hub, MQTT_PUBLISH, &p));
	EXPECT_EQ(self->w[0].n_gone, 0u);
	EXPECT_EQ(read_error(o), -EAGAIN);
	call(self, "c2", "two");
	EXPECT_EQ(self->w[0].n_calls, 2u);
	link_line_offline(&self->device.hub);
	EXPECT_EQ(read_error(o), -EAGAIN);
	link_line_online(&self->device.hub);
	call(self, "c3", "three");
	expect_read(o, 100, "three");
	EXPECT_EQ(respond(o, "3", false), 0);
	expect_answer(self, "c3", "200 3");
	method_close(o);
}

TEST_F(methods, a_call_ends_with_its_connection)
{
	struct method_opener *read_all, *read_some, *answered;

	start(self, LONG_NS, LONG_NS);
	read_all = open_one(self, 0);
	read_some = open_one(self, 1);
	answered = open_one(self, 2);
	call(self, "c1", "one");
	call(self, "c2", "two");
	call(self, "c3", "three");
	call(self, "c4", "four"); /* waits */
	expect_read(read_all, 100, "one");
	expect_read(read_some, 1, "t");
	EXPECT_EQ(respond(answered, "3", true), METHOD_WAITS);
	EXPECT_EQ(link_line_n_awaited(&self->device.hub), 1u);
	link_line_offline(&self->device.hub);
	EXPECT_EQ(self->w[2].n_answered, 1u);
	EXPECT_EQ(self->w[2].error, -ECONNRESET);
	EXPECT_EQ(respond(answered, "3", true), -EALREADY);
	EXPECT_EQ(self->w[0].n_gone + self->w[1].n_gone, 2u);
	EXPECT_EQ(respond(read_all, "1", true), -ETIMEDOUT);
	expect_read(read_all, 100, "");
	EXPECT_EQ(read_error(read_some), -ETIMEDOUT);
	link_line_online(&self->device.hub);
	EXPECT_EQ(respond(read_all, "1", true), -ETIMEDOUT);
	open_one(self, 3);
	EXPECT_EQ(read_error(&self->w[3].opener), -EAGAIN);
	for (size_t i = 0; i < 4; ++i)
		method_close(&self->w[i].opener);
	expect_no_answer(self);
}

/* --- the way to the hub ----------------------------------------------------------------------- */

/* Leaves no room in the link. */
static void fill(struct fixture_methods *self)
{
	static const uint8_t payload[200000];

	while (link_respond(self->device.hub.link, BYTES_LIT("filler"), 1, BYTES(payload, sizeof(payload))) ==
	       0)
		continue;
}

/* The next answer that is no filler. */
static void expect_after_filler(struct fixture_methods *self, const char *correlation, const char *want)
{
	struct mqtt_packet p;

	do {
		AWAIT(link_line_next(&self->device.hub, MQTT_PUBLISH, &p));
	} while (bytes_equal_str(p.properties.correlation_data, "filler"));
	EXPECT_TRUE(bytes_equal_str(p.properties.correlation_data, correlation));
	if (want)
		EXPECT_TRUE(bytes_equal_str(p.publish.payload, want));
	else
		EXPECT_TRUE(mqtt_user_property_find(p.properties.repeatable, HUB_PROP_STATUS,
						    &(struct bytes){0}));
}

TEST_F(methods, answers_wait_for_room)
{
	static const char *const names[] = {"c0", "c1", "c2", "c3"};

	start(self, 0, LONG_NS);
	for (size_t i = 0; i < 4; ++i) {
		open_one(self, i);
		call(self, names[i], names[i]);
		expect_read(&self->w[i].opener, 100, names[i]);
	}
	fill(self);
	EXPECT_EQ(respond(&self->w[0].opener, "zero", true), METHOD_WAITS);
	EXPECT_EQ(respond(&self->w[1].opener, "one", false), 0);
	EXPECT_EQ(respond(&self->w[2].opener, "two", true), METHOD_WAITS);
	EXPECT_EQ(respond(&self->w[2].opener, "two", true), -EALREADY);
	/* Nobody has to be there any more. */
	method_close(&self->w[1].opener);
	method_stop_waiting(&self->w[2].opener);
	method_close(&self->w[2].opener);
	method_close(&self->w[3].opener);
	call(self, "c4", "");
	EXPECT_EQ(link_line_n_awaited(&self->device.hub), 0u);
	link_kick(self->device.hub.link);
	/* Refusals are short. */
	expect_after_filler(self, "c3", NULL);
	expect_after_filler(self, "c4", NULL);
	expect_after_filler(self, "c0", "zero");
	expect_after_filler(self, "c1", "one");
	expect_after_filler(self, "c2", "two");
	EXPECT_EQ(link_line_n_awaited(&self->device.hub), 1u);
	link_line_acknowledge(&self->device.hub);
	EXPECT_EQ(self->w[0].n_answered, 1u);
	EXPECT_EQ(self->w[0].error, 0);
	EXPECT_EQ(self->w[2].n_answered, 0u);
	method_close(&self->w[0].opener);
}

TEST_F(methods, answers_that_wait_end_with_the_connection)
{
	start(self, 0, LONG_NS);
	for (size_t i = 0; i < 3; ++i) {
		open_one(self, i);
		call(self, "c", "");
		expect_read(&self->w[i].opener, 100, "");
	}
	fill(self);
	EXPECT_EQ(respond(&self->w[0].opener, "zero", true), METHOD_WAITS);
	EXPECT_EQ(respond(&self->w[1].opener, "one", false), 0);
	EXPECT_EQ(respond(&self->w[2].opener, "two", false), 0);
	method_close(&self->w[2].opener);
	call(self, "refused", "");
	link_line_offline(&self->device.hub);
	EXPECT_EQ(self->w[0].n_answered, 1u);
	EXPECT_EQ(self->w[0].error, -ECONNRESET);
	EXPECT_EQ(respond(&self->w[1].opener, "one", false), -EALREADY);
	link_line_online(&self->device.hub);
	link_kick(self->device.hub.link);
	link_line_turn(&self->device.hub);
	expect_no_answer(self);
	method_close(&self->w[0].opener);
	method_close(&self->w[1].opener);
}

TEST_F(methods, an_answer_that_finds_no_room_in_time)
{
	start(self, 0, SHORT_NS);
	open_one(self, 0);
	call(self, "c0", "");
	fill(self);
	EXPECT_EQ(respond(&self->w[0].opener, "zero", true), METHOD_WAITS);
	/* The link is full all the time. */
	while (!self->w[0].n_answered) {
		fill(self);
		link_line_turn(&self->device.hub);
	}
	EXPECT_EQ(self->w[0].error, -ETIMEDOUT);
	EXPECT_EQ(respond(&self->w[0].opener, "zero", true), -EALREADY);
	method_close(&self->w[0].opener);
	link_kick(self->device.hub.link);
	expect_after_filler(self, "c0", NULL);
}

TEST_F(methods, an_answer_that_is_too_large)
{
	enum { SIZE = HUB_PACKET_BYTES_MAX };
	_cleanup_(free_ptr) uint8_t *payload = calloc(1, SIZE + 1);

	start(self, 0, LONG_NS);
	open_one(self, 0);
	open_one(self, 1);
	call(self, "c0", "");
	call(self, "c1", "");
	EXPECT_EQ(method_respond(&self->w[0].opener, 1, BYTES(payload, SIZE), true), -EMSGSIZE);
	EXPECT_EQ(method_respond(&self->w[0].opener, 1, BYTES(payload, SIZE - 100), true), METHOD_WAITS);
	link_line_acknowledge(&self->device.hub);
	fill(self);
	EXPECT_EQ(method_respond(&self->w[1].opener, 1, BYTES(payload, SIZE + 1), true), -EMSGSIZE);
	/* Too large by its head alone: known when it is its turn. */
	EXPECT_EQ(method_respond(&self->w[1].opener, 1, BYTES(payload, SIZE), true), METHOD_WAITS);
	link_kick(self->device.hub.link);
	while (!self->w[1].n_answered) {
		struct mqtt_packet p;

		link_line_next(&self->device.hub, MQTT_PUBLISH, &p);
		link_line_turn(&self->device.hub);
	}
	EXPECT_EQ(self->w[1].error, -EMSGSIZE);
	EXPECT_EQ(respond(&self->w[1].opener, "short", false), 0);
	expect_after_filler(self, "c1", "short");
	method_close(&self->w[0].opener);
	method_close(&self->w[1].opener);
}

/* --- registering ------------------------------------------------------------------------------ */

TEST_F(methods, names_and_how_many)
{
	struct method *methods[HUB_SUBSCRIPTIONS_MAX], *more;
	char name[16];

	start(self, 0, LONG_NS);
	EXPECT_EQ(methods_register(self->device.methods, "a/b", &more), -EINVAL);
	EXPECT_EQ(methods_register(self->device.methods, "", &more), -EINVAL);
	EXPECT_EQ(methods_register(self->device.methods, "reboot", &more), -EEXIST);
	for (size_t i = 1; i < HUB_SUBSCRIPTIONS_MAX; ++i) {
		snprintf(name, sizeof(name), "m%zu", i);
		ASSERT_EQ(methods_register(self->device.methods, name, &methods[i]), 0);
	}
	EXPECT_EQ(methods_register(self->device.methods, "more", &more), -ENOSPC);
	EXPECT_EQ(method_unregister(methods[1]), 0);
	EXPECT_EQ(methods_register(self->device.methods, "more", &methods[1]), 0);
	for (size_t i = 1; i < HUB_SUBSCRIPTIONS_MAX; ++i)
		EXPECT_EQ(method_unregister(methods[i]), 0);
}

TEST_F(methods, the_hub_hears_of_them)
{
	struct mqtt_packet p;
	struct mqtt_filter filter;
	size_t pos = 0;

	start(self, 0, LONG_NS);
	AWAIT(link_line_next(&self->device.hub, MQTT_SUBSCRIBE, &p));
	ASSERT_TRUE(mqtt_filter_next(MQTT_SUBSCRIBE, p.subscribe.filters, &pos, &filter));
	EXPECT_TRUE(bytes_equal_str(filter.topic, CALL));
	EXPECT_EQ(filter.options & 3, 0);
	EXPECT_EQ(method_unregister(TAKE_PTR(self->method)), 0);
	AWAIT(link_line_next(&self->device.hub, MQTT_UNSUBSCRIBE, &p));
}

TEST_F(methods, unregistering)
{
	struct method_opener *idle, *reading, *unread, *read, *waits;

	start(self, LONG_NS, LONG_NS);
	read = open_one(self, 0);
	unread = open_one(self, 1);
	waits = open_one(self, 2);
	call(self, "c1", "one");
	call(self, "c2", "two");
	call(self, "c3", "three");
	call(self, "c4", "four");
	expect_read(read, 100, "one");
	EXPECT_EQ(respond(waits, "3", true), METHOD_WAITS);
	expect_answer(self, "c3", "200 3");
	EXPECT_EQ(method_unregister(self->method), -EBUSY);
	EXPECT_EQ(respond(read, "1", false), 0);
	expect_answer(self, "c1", "200 1");
	EXPECT_EQ(method_unregister(TAKE_PTR(self->method)), 0);
	expect_refused(self, "c4");
	expect_refused(self, "c2");
	EXPECT_EQ(self->w[1].n_gone, 1u);
	EXPECT_EQ(self->w[0].n_gone + self->w[2].n_gone, 0u);
	EXPECT_EQ(read_error(unread), -ENODEV);
	EXPECT_EQ(respond(unread, "x", true), -ENODEV);
	EXPECT_EQ(method_poll(unread), (uint32_t)(POLLIN | POLLOUT | POLLERR));
	method_set_reading(unread, true);
	link_line_acknowledge(&self->device.hub);
	EXPECT_EQ(self->w[2].n_answered, 1u);
	for (size_t i = 0; i < 3; ++i)
		method_close(&self->w[i].opener);

	ASSERT_EQ(methods_register(self->device.methods, "reboot", &self->method), 0);
	idle = open_one(self, 3);
	reading = open_one(self, 4);
	method_set_reading(reading, true);
	EXPECT_EQ(method_unregister(TAKE_PTR(self->method)), 0);
	EXPECT_EQ(self->w[3].n_gone + self->w[4].n_gone, 2u);
	EXPECT_EQ(read_error(idle), -ENODEV);
	method_close(idle);
	method_close(reading);
	expect_no_answer(self);
}

/* --- anything in any order -------------------------------------------------------------------- */

/* What the hub and the openers say, since the connection is there. */
struct tally {
	unsigned int n_calls, n_answers;   /* the hub: made, and ended by any answer */
	unsigned int n_responses, n_given; /* the hub: ended by a response; the openers: given */
	bool is_open[N_OPENERS];
};

static void count_answers(struct fixture_methods *self, struct tally *t)
{
	struct mqtt_packet p;

	while (link_line_next(&self->device.hub, MQTT_PUBLISH, &p)) {
		++t->n_answers;
		t->n_responses += mqtt_user_property_find(p.properties.repeatable, HUB_PROP_RESPONSE_CODE,
							  &(struct bytes){0});
	}
	EXPECT_LE(t->n_answers, t->n_calls);
	EXPECT_EQ(t->n_responses, t->n_given);
}

static void use_opener(struct fixture_methods *self, struct tally *t, size_t i)
{
	struct method_opener *opener = &self->w[i].opener;
	struct bytes got;
	int r;

	if (!t->is_open[i]) {
		open_one(self, i);
		t->is_open[i] = true;
		return;
	}
	switch (test_random() % 4) {
	case 0:
		if (method_read(opener, test_random() % 4, &got) == -EAGAIN)
			method_set_reading(opener, test_random() % 2);
		break;
	case 1:
		r = respond(opener, "x", test_random() % 2);
		EXPECT_TRUE(r == 0 || r == METHOD_WAITS || r == -ENOTCONN || r == -EALREADY ||
			    r == -ETIMEDOUT || r == -ENODEV);
		t->n_given += r >= 0;
		break;
	case 2:
		if (test_random() % 8 == 0)
			method_stop_waiting(opener);
		break;
	case 3:
		method_close(opener);
		t->is_open[i] = false;
		break;
	}
}

/* Every call that is not cut off gets exactly one answer, and a response exactly when an opener gave one. */
TEST_F_TIMEOUT(methods, anything_in_any_order, 60)
{
	enum { N_ROUNDS = 60000 };
	struct tally t = {0};
	char correlation[16];

	start(self, LONG_NS, LONG_NS);
	for (unsigned int i = 0; i < N_ROUNDS; ++i) {
		switch (test_random() % 8) {
		case 0:
		case 1:
			snprintf(correlation, sizeof(correlation), "%u", i);
			call(self, correlation, test_random() % 4 ? correlation : "");
			++t.n_calls;
			break;
		case 2:
			count_answers(self, &t);
			if (test_random() % 50 == 0) {
				link_line_offline(&self->device.hub);
				link_line_online(&self->device.hub);
				t.n_calls = t.n_answers = t.n_responses = t.n_given = 0;
			} else if (test_random() % 20 == 0 && method_unregister(self->method) == 0) {
				ASSERT_EQ(methods_register(self->device.methods, "reboot", &self->method), 0);
			}
			break;
		case 3:
			link_line_acknowledge(&self->device.hub);
			break;
		default:
			use_opener(self, &t, test_random() % N_OPENERS);
			break;
		}
	}
	for (size_t i = 0; i < N_OPENERS; ++i)
		if (t.is_open[i])
			method_close(&self->w[i].opener);
	ASSERT_EQ(method_unregister(TAKE_PTR(self->method)), 0);
	count_answers(self, &t);
	EXPECT_EQ(t.n_answers, t.n_calls);
}

TEST_HARNESS_MAIN
