/* SPDX-License-Identifier: MIT */
/*
 * What files of commands, methods and the twin build on: the link's subscriptions, messages and their settlement,
 * requests and responses, against an emulator in a process of its own. The link runs in the test.
 */

#include <errno.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "mqtt/requests.h"
#include "tests/harness.h"
#include "tests/support/device.h"
#include "tests/support/process.h"

FIXTURE(topics)
{
	struct lab lab;
	struct device device;
	struct device_topic other;
};

/* --- the service side ------------------------------------------------------------------------- */

/* lab_hubctl_words() while the device goes on. */
static int service_meanwhile(const struct lab *lab, struct device *d, const char *words, char *out,
			     size_t size)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(lab_hubctl_words(lab, words, NULL, 0));
	for (;;) {
		_cleanup_(free_ptr) char *text = NULL;
		pid_t ended = waitpid(pid, &status, WNOHANG);

		ASSERT_GE(ended, 0);
		if (ended == 0) {
			ASSERT_EQ(loop_turn(d->loop, 10 * NSEC_PER_MSEC), 0);
			continue;
		}
		text = lab_log(lab, "hubctl");
		snprintf(out, size, "%s", text);
		return WEXITSTATUS(status);
	}
}

/* How often the first fault acted. */
static void expect_fault_hits(const struct lab *lab, const char *want)
{
	char text[4096];

	ASSERT_EQ(lab_hubctl_words(lab, "fault list --json", text, sizeof(text)), 0);
	EXPECT_CONTAINS(text, want);
}

static void device_begin(struct fixture_topics *self)
{
	device_init(&self->device, &self->lab);
	device_start(&self->device);
}

FIXTURE_SETUP(topics)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_configure(&self->lab, NULL);
	device_begin(self);
	DEVICE_AWAIT(&self->device, self->device.n_online == 1);
}

FIXTURE_TEARDOWN(topics)
{
	if (!test_is_orphan()) {
		device_show_logs(&self->lab);
		device_deinit(&self->device);
	}
	lab_deinit(&self->lab);
}

/* --- requests --------------------------------------------------------------------------------- */

TEST_F(topics, the_twin_is_got_and_patched)
{
	struct device *d = &self->device;
	struct device_question get, patch, bad;

	device_ask(d, &patch, HUB_TOPIC_TWIN_REPORTED, "{\"colour\":\"blue\"}", NULL);
	device_ask(d, &bad, HUB_TOPIC_TWIN_REPORTED, "no JSON", NULL);
	device_ask(d, &get, HUB_TOPIC_TWIN_GET, "", NULL);
	DEVICE_AWAIT(d, get.n && patch.n && bad.n);
	EXPECT_EQ(patch.error, 0);
	EXPECT_STREQ(patch.status, "Success");
	EXPECT_STREQ(patch.version, "2");
	EXPECT_EQ(bad.error, -EINVAL);
	EXPECT_STREQ(bad.status, "Bad Request (0100)");
	EXPECT_EQ(get.error, 0);
	EXPECT_CONTAINS(get.payload, "\"colour\":\"blue\"");
	EXPECT_CONTAINS(get.payload, "\"desired\"");
}

TEST_F(topics, requests_have_a_time_limit_a_connection_and_a_bound)
{
	struct device *d = &self->device;
	struct device_question brief, many[MQTT_REQUESTS_MAX], more;
	struct device_question cancelled, after;

	ASSERT_EQ(lab_hubctl_words(&self->lab, "fault set delay operation=twin-get ms=600 count=3", NULL, 0),
		  0);
	device_ask(d, &cancelled, HUB_TOPIC_TWIN_GET, "", NULL);
	link_request_cancel(d->link, &cancelled.request);
	link_request_cancel(d->link, &cancelled.request);
	device_question_init(&brief);
	ASSERT_EQ(link_request(d->link, &brief.request, BYTES_LIT(HUB_TOPIC_TWIN_GET), BYTES(NULL, 0),
			       BYTES(NULL, 0), 100 * NSEC_PER_MSEC),
		  0);
	DEVICE_AWAIT(d, brief.n);
	EXPECT_EQ(brief.error, -ETIMEDOUT);
	/* The late responses come before this one's. */
	device_ask(d, &after, HUB_TOPIC_TWIN_GET, "", NULL);
	DEVICE_AWAIT(d, after.n);
	EXPECT_EQ(after.error, 0);
	EXPECT_EQ(brief.n, 1u);
	EXPECT_EQ(cancelled.n, 0u);

	ASSERT_EQ(lab_hubctl_words(&self->lab, "fault set delay operation=twin-get ms=60000", NULL, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(many); ++i)
		device_ask(d, &many[i], HUB_TOPIC_TWIN_GET, "", NULL);
	device_question_init(&more);
	EXPECT_EQ(link_request(d->link, &more.request, BYTES_LIT(HUB_TOPIC_TWIN_GET), BYTES(NULL, 0),
			       BYTES(NULL, 0), NSEC_PER_SEC),
		  -ENOBUFS);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	DEVICE_AWAIT(d, many[0].n);
	for (size_t i = 0; i < ARRAY_SIZE(many); ++i) {
		EXPECT_EQ(many[i].n, 1u);
		EXPECT_EQ(many[i].error, -ENOTCONN);
	}
	EXPECT_EQ(link_request(d->link, &more.request, BYTES_LIT(HUB_TOPIC_TWIN_GET), BYTES(NULL, 0),
			       BYTES(NULL, 0), NSEC_PER_SEC),
		  -ENOTCONN);
	EXPECT_EQ(more.n, 0u);
}

/* --- subscriptions ---------------------------------------------------------------------------- */

TEST_F(topics, one_subscribe_and_none_on_a_session_that_is_still_there)
{
	struct device *d = &self->device;

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->desired.sub), 0);
	device_topic_init(&self->other, d, "$iothub/nothing", 0);
	ASSERT_EQ(link_subscribe(d->link, &self->other.sub), 0);
	EXPECT_TRUE(d->desired.sub.state == LINK_TOPIC_WANTED);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->commands));
	EXPECT_TRUE(device_topic_is_granted(&d->methods));
	EXPECT_TRUE(device_topic_is_granted(&d->desired));
	EXPECT_TRUE(self->other.sub.state == LINK_TOPIC_REFUSED);
	EXPECT_EQ(self->other.n_refused, 1u);
	link_unsubscribe(d->link, &self->other.sub);

	ASSERT_EQ(lab_hubctl_words(&self->lab, "fault set suback reason=0x97", NULL, 0), 0);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	DEVICE_AWAIT(d, d->n_online == 2);
	EXPECT_TRUE(d->session_present);
	EXPECT_TRUE(device_topic_is_granted(&d->commands));
	ASSERT_EQ(lab_hubctl_words(&self->lab, "command send dev1 hello", NULL, 0), 0);
	DEVICE_AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.payload, "hello");
	EXPECT_STREQ(d->commands.name, HUB_TOPIC_COMMANDS);
	/* Nobody asked. */
	expect_fault_hits(&self->lab, "\"hits\":0");

	/* A session that is gone begins anew. */
	ASSERT_EQ(lab_hubctl_words(&self->lab, "fault clear", NULL, 0), 0);
	ASSERT_EQ(lab_hubctl_words(&self->lab, "fault set forget-session device=dev1", NULL, 0), 0);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	DEVICE_AWAIT(d, d->n_online == 3 && device_topic_is_granted(&d->commands) &&
				device_topic_is_granted(&d->desired));
}

TEST_F(topics, what_nobody_wants_is_given_back)
{
	struct device *d = &self->device;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	EXPECT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->commands));
	link_unsubscribe(d->link, &d->commands.sub);
	link_unsubscribe(d->link, &d->commands.sub);
	/* In this order on the wire: nothing comes until it is wanted again. */
	{
		struct device_question q;

		device_ask_wait(d, &q, HUB_TOPIC_TWIN_GET, "", NULL);
	}
	ASSERT_EQ(service_meanwhile(&self->lab, d, "command send dev1 later", text, sizeof(text)), 0);
	EXPECT_EQ(d->commands.n, 0u);
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	DEVICE_AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.payload, "later");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_DELIVERY_COUNT), "1");
}

TEST_F(topics, what_an_earlier_process_subscribed_to_is_given_back)
{
	struct device *d = &self->device;

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->commands));
	device_deinit(d);
	ASSERT_EQ(lab_hubctl_words(&self->lab, "command send dev1 one", NULL, 0), 0);
	device_begin(self);
	DEVICE_AWAIT(d, d->n_online == 1);
	EXPECT_TRUE(d->session_present);
	/* The command comes, is abandoned, and waits. */
	{
		struct device_question q;

		device_ask_wait(d, &q, HUB_TOPIC_TWIN_GET, "", NULL);
		device_ask_wait(d, &q, HUB_TOPIC_TWIN_GET, "", NULL);
	}
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	DEVICE_AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.payload, "one");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_DELIVERY_COUNT), "2");
}

TEST_F(topics, a_call_for_an_earlier_process_is_answered)
{
	struct device *d = &self->device;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->methods));
	device_deinit(d);
	device_begin(self);
	DEVICE_AWAIT(d, d->n_online == 1);
	EXPECT_EQ(service_meanwhile(&self->lab, d, "method call dev1 reboot 1 --timeout 20 --json", text,
				    sizeof(text)),
		  1);
	EXPECT_CONTAINS(text, "06A0");
}

TEST_F(topics, given_back_twice_before_the_hub_has_answered_once)
{
	struct device *d = &self->device;
	struct device_question q;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->commands));
	link_unsubscribe(d->link, &d->commands.sub);
	ASSERT_EQ(loop_turn(d->loop, 0), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(loop_turn(d->loop, 0), 0);
	link_unsubscribe(d->link, &d->commands.sub);
	for (int i = 0; i < 2; ++i) {
		device_ask_wait(d, &q, HUB_TOPIC_TWIN_GET, "", NULL);
	}
	ASSERT_EQ(service_meanwhile(&self->lab, d, "command send dev1 later", text, sizeof(text)), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	DEVICE_AWAIT(d, d->commands.n);
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_DELIVERY_COUNT), "1");
}

/* Takes back the next topic in the row. */
static void on_refused_take_back(struct link_subscription *sub, const struct hub_status *status)
{
	struct device_topic *t = container_of(sub, struct device_topic, sub);

	(void)status;
	++t->n_refused;
	link_unsubscribe(t->device->link, &(t + 1)->sub);
}

TEST_F(topics, a_refused_topic_may_take_back_others)
{
	struct device *d = &self->device;
	struct device_topic topics[3];

	device_topic_init(&topics[0], d, "$iothub/one", 0);
	device_topic_init(&topics[1], d, "$iothub/two", 0);
	device_topic_init(&topics[2], d, "$iothub/three", 0);
	topics[0].sub.on_refused = on_refused_take_back;
	for (size_t i = 0; i < ARRAY_SIZE(topics); ++i)
		ASSERT_EQ(link_subscribe(d->link, &topics[i].sub), 0);
	DEVICE_AWAIT(d, topics[2].n_refused);
	EXPECT_EQ(topics[0].n_refused, 1u);
	EXPECT_EQ(topics[1].n_refused, 0u);
	link_unsubscribe(d->link, &topics[0].sub);
	link_unsubscribe(d->link, &topics[2].sub);
}

TEST_F(topics, as_many_as_a_hub_allows)
{
	static struct device_topic topics[HUB_SUBSCRIPTIONS_MAX];
	static char filters[HUB_SUBSCRIPTIONS_MAX][32];
	struct device *d = &self->device;

	for (size_t i = 0; i < HUB_SUBSCRIPTIONS_MAX; ++i) {
		snprintf(filters[i], sizeof(filters[i]), "$iothub/methods/m%zu", i);
		device_topic_init(&topics[i], d, filters[i], 0);
		ASSERT_EQ(link_subscribe(d->link, &topics[i].sub), 0);
	}
	EXPECT_EQ(link_subscribe(d->link, &d->commands.sub), -ENOSPC);
	link_unsubscribe(d->link, &topics[7].sub);
	EXPECT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->commands));
	for (size_t i = 0; i < HUB_SUBSCRIPTIONS_MAX; ++i)
		EXPECT_EQ(device_topic_is_granted(&topics[i]), i != 7);
	/* One for another, and none twice. */
	link_unsubscribe(d->link, &topics[9].sub);
	topics[7].sub.filter = topics[8].sub.filter;
	EXPECT_EQ(link_subscribe(d->link, &topics[7].sub), -EEXIST);
	EXPECT_EQ(link_subscribe(d->link, &d->desired.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->desired));
}

/* The CONNACK's Session Expiry Interval says that the session ends with its connection; we had asked for a day. */
TEST_F(topics, a_hub_that_keeps_no_session_is_told_everything_again)
{
	struct device *d = &self->device;
	uint16_t id = 0;

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->commands));
	ASSERT_EQ(lab_hubctl_words(&self->lab, "fault set limits session-expiry=0 count=1", NULL, 0), 0);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	/* This session is still there, and ends with the connection. */
	DEVICE_AWAIT(d, d->n_online == 2);
	EXPECT_TRUE(d->session_present);
	EXPECT_EQ(mqtt_session_limits(d->link->session)->session_expiry_s, 0u);
	EXPECT_TRUE(device_topic_is_granted(&d->commands));
	ASSERT_EQ(lab_hubctl_words(&self->lab, "fault set lose-puback count=1", NULL, 0), 0);
	ASSERT_EQ(
		link_publish(d->link, BYTES_LIT(HUB_TOPIC_TELEMETRY), BYTES(NULL, 0), BYTES_LIT("x"), 7, &id),
		0);
	EXPECT_NE(id, 0);
	link_kick(d->link);
	{
		struct device_question q;

		/* The message is at the hub, and without an answer. */
		device_ask_wait(d, &q, HUB_TOPIC_TWIN_GET, "", NULL);
	}
	EXPECT_EQ(d->n_pubacks, 0u);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	DEVICE_AWAIT(d, d->n_online == 3);
	EXPECT_FALSE(d->session_present);
	EXPECT_EQ(mqtt_session_limits(d->link->session)->session_expiry_s,
		  (uint32_t)CONFIG_SESSION_EXPIRY_DEFAULT);
	EXPECT_FALSE(device_topic_is_granted(&d->commands));
	DEVICE_AWAIT(d, device_topic_is_granted(&d->commands));
	ASSERT_EQ(lab_hubctl_words(&self->lab, "command send dev1 hello", NULL, 0), 0);
	DEVICE_AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.payload, "hello");
	/* Its identifier is free again: to the hub the message is a new one. */
	id = 0;
	ASSERT_EQ(
		link_publish(d->link, BYTES_LIT(HUB_TOPIC_TELEMETRY), BYTES(NULL, 0), BYTES_LIT("x"), 8, &id),
		0);
	link_kick(d->link);
	DEVICE_AWAIT(d, d->n_pubacks);
	EXPECT_EQ(d->cookie, 8u);
	EXPECT_TRUE(d->status.class == HUB_SUCCESS);
}

/* --- messages --------------------------------------------------------------------------------- */

/* Nothing of ours goes to such a topic, but the hub's topics can change: then the message waits, as Not Found can
 * be tried again. */
TEST_F(topics, an_unknown_topic_is_not_found)
{
	struct device *d = &self->device;
	uint16_t id = 0;

	ASSERT_EQ(link_publish(d->link, BYTES_LIT("$iothub/nothing"), BYTES(NULL, 0), BYTES_LIT("x"), 5, &id),
		  0);
	link_kick(d->link);
	DEVICE_AWAIT(d, d->n_pubacks);
	EXPECT_EQ(d->cookie, 5u);
	EXPECT_EQ(d->status.reason, 131);
	EXPECT_TRUE(d->status.has_code);
	EXPECT_EQ(d->status.code, HUB_STATUS_NOT_FOUND);
	EXPECT_TRUE(d->status.class == HUB_CLIENT_ERROR);
	EXPECT_TRUE(d->status.retryable);
	EXPECT_EQ(d->status.error, -ENOENT);
	EXPECT_EQ(d->n_online, 1u);
	/* The connection goes on, and so does what has a topic. */
	id = 0;
	ASSERT_EQ(
		link_publish(d->link, BYTES_LIT(HUB_TOPIC_TELEMETRY), BYTES(NULL, 0), BYTES_LIT("x"), 6, &id),
		0);
	link_kick(d->link);
	DEVICE_AWAIT(d, d->n_pubacks == 2);
	EXPECT_TRUE(d->status.class == HUB_SUCCESS);
}

TEST_F(topics, a_command_has_the_applications_properties)
{
	struct device *d = &self->device;

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(lab_hubctl_words(&self->lab,
				   "command send dev1 payload --property colour=blue "
				   "--property gr\xc3\xb6\xc3\x9f"
				   "e=\xf0\x9f\x98\x80 --property status=0100 "
				   "--property empty= --message-id m1 --content-type text/plain",
				   NULL, 0),
		  0);
	DEVICE_AWAIT(d, d->commands.n);
	EXPECT_STREQ(device_topic_property(&d->commands, "@colour"), "blue");
	EXPECT_STREQ(device_topic_property(&d->commands, "@gr\xc3\xb6\xc3\x9f"
							 "e"),
		     "\xf0\x9f\x98\x80");
	EXPECT_STREQ(device_topic_property(&d->commands, "@status"), "0100");
	EXPECT_STREQ(device_topic_property(&d->commands, "@empty"), "");
	/* Without the @ they are the contract's, or nobody's. */
	EXPECT_STREQ(device_topic_property(&d->commands, "colour"), "");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_STATUS), "");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_MESSAGE_ID), "m1");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_DELIVERY_COUNT), "1");
	EXPECT_STREQ(d->commands.content_type, "text/plain");
	EXPECT_STREQ(d->commands.payload, "payload");
}

/* --- settlement ------------------------------------------------------------------------------- */

TEST_F(topics, commands_are_settled_in_each_way_and_in_any_order)
{
	struct device *d = &self->device;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(lab_hubctl_words(&self->lab, "command send dev1 first", NULL, 0), 0);
	ASSERT_EQ(lab_hubctl_words(&self->lab, "command send dev1 second", NULL, 0), 0);
	ASSERT_EQ(lab_hubctl_words(&self->lab, "command send dev1 third", NULL, 0), 0);
	DEVICE_AWAIT(d, d->commands.n == 3);
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_DELIVERY_COUNT), "1");
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[2], LINK_REJECT), 0);
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[0], LINK_COMPLETE), 0);
	EXPECT_EQ(link_settle(d->link, &d->commands.deliveries[0], LINK_COMPLETE), -ESTALE);
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[1], LINK_ABANDON), 0);
	DEVICE_AWAIT(d, d->commands.n == 4);
	EXPECT_STREQ(d->commands.payload, "second");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_DELIVERY_COUNT), "2");

	/* Not settled on its connection: again on the next one, and only there. */
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	DEVICE_AWAIT(d, d->commands.n == 5);
	EXPECT_EQ(link_settle(d->link, &d->commands.deliveries[3], LINK_COMPLETE), -ESTALE);
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[4], LINK_COMPLETE), 0);
	{
		struct device_question q;

		device_ask_wait(d, &q, HUB_TOPIC_TWIN_GET, "", NULL);
	}
	ASSERT_EQ(lab_hubctl_words(&self->lab, "command list dev1 --json", text, sizeof(text)), 0);
	EXPECT_EQ(text_count(text, "\"sequence-no\""), 1u);
	EXPECT_CONTAINS(text, "\"dead-letter-reason\":\"rejected\"");
	EXPECT_CONTAINS(text, "\"payload\":\"third\"");
}

/* --- methods ---------------------------------------------------------------------------------- */

TEST_F(topics, methods_are_answered)
{
	struct device *d = &self->device;
	int status;
	pid_t pid;

	ASSERT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->methods));
	for (unsigned int i = 0; i < 2; ++i) {
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			_exit(lab_hubctl_words(&self->lab, "method call dev1 reboot '{\"in\":5}' --json",
					       NULL, 0));
		DEVICE_AWAIT(d, d->methods.n == i + 1);
		EXPECT_STREQ(d->methods.name, "$iothub/methods/reboot");
		EXPECT_STREQ(d->methods.payload, "{\"in\":5}");
		if (i == 0)
			ASSERT_EQ(link_respond(d->link,
					       BYTES(d->methods.correlation, d->methods.correlation_len), 202,
					       BYTES_LIT("\"soon\"")),
				  0);
		else
			ASSERT_EQ(link_respond_unavailable(
					  d->link, BYTES(d->methods.correlation, d->methods.correlation_len)),
				  0);
		{
			struct device_question q;

			device_ask_wait(d, &q, HUB_TOPIC_TWIN_GET, "", NULL);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT_EQ(WEXITSTATUS(status), (int)i);
		if (i == 0) {
			_cleanup_(free_ptr) char *out = lab_log(&self->lab, "hubctl");

			EXPECT_CONTAINS(out, "202");
			EXPECT_CONTAINS(out, "soon");
		}
	}
	EXPECT_EQ(link_respond(d->link, BYTES(NULL, 0), 200, BYTES(NULL, 0)), -EINVAL);
	EXPECT_EQ(link_respond(d->link, BYTES_LIT("12345678901234567"), 200, BYTES(NULL, 0)), -EINVAL);
}

TEST_HARNESS_MAIN
