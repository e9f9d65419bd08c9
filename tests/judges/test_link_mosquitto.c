/* SPDX-License-Identifier: MIT */
/*
 * The device's session and a stock Mosquitto over TLS, with a paho client that plays the hub behind it
 * (hub_behind_broker.py): twin, commands and methods, with nothing of this project's hub side in between. The broker
 * treats nobody as subscribed to responses, so the device subscribes here.
 */

#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/broker.h"
#include "tests/support/certs.h"
#include "tests/support/device.h"

#define HUB       "tests/judges/hub_behind_broker.py"
#define LINE_SIZE 512

FIXTURE(judged)
{
	struct lab lab; /* a directory and a configuration */
	struct broker broker;
	struct certs certs;
	uint16_t port;
	pid_t hub;
	int to_hub;
	FILE *from_hub;
	struct device device;
	struct device_topic responses;
};

/* --- the device ------------------------------------------------------------------------------- */

/* Asks and waits for the response; @if_version NULL = none. */
static struct device_question ask(struct device *d, const char *topic, const char *payload,
				  const char *if_version)
{
	struct device_question q;

	device_ask_wait(d, &q, topic, payload, if_version);
	return q;
}

/* --- the hub ---------------------------------------------------------------------------------- */

/* A line the script printed, without its newline. */
static void hub_read(struct fixture_judged *self, char line[static LINE_SIZE])
{
	ASSERT_TRUE(fgets(line, LINE_SIZE, self->from_hub) != NULL);
	line[strcspn(line, "\n")] = '\0';
}

/* Has the script do something. */
static void hub_order(struct fixture_judged *self, const char *order)
{
	char line[LINE_SIZE];

	ASSERT_EQ(write(self->to_hub, order, strlen(order)), (ssize_t)strlen(order));
	ASSERT_EQ(write(self->to_hub, "\n", 1), 1);
	hub_read(self, line);
	ASSERT_STREQ(line, "done");
}

static void hub_start(struct fixture_judged *self)
{
	char port[8], log[PROCESS_PATH_MAX], line[LINE_SIZE];
	const char *const argv[] = {HUB, port, self->certs.ca_file, NULL};
	int orders[2], lines[2];

	snprintf(port, sizeof(port), "%u", self->port);
	snprintf(log, sizeof(log), "%s/hub.log", self->broker.dir);
	ASSERT_EQ(pipe2(orders, O_CLOEXEC), 0);
	ASSERT_EQ(pipe2(lines, O_CLOEXEC), 0);
	self->hub = process_start(log, argv, orders[0], lines[1]);
	close(orders[0]);
	close(lines[1]);
	self->to_hub = orders[1];
	self->from_hub = fdopen(lines[0], "re");
	ASSERT_TRUE(self->from_hub != NULL);
	hub_read(self, line);
	TEST_LOG("judge: %s", line);
}

static void start_broker(struct fixture_judged *self)
{
	char config[1024], version[256];

	broker_version(version, sizeof(version));
	TEST_LOG("judge: %s", version);
	snprintf(config, sizeof(config), "listener %u 127.0.0.1\ncertfile %s\nkeyfile %s\n", self->port,
		 self->certs.cert_file, self->certs.key_file);
	broker_start(&self->broker, config);
}

FIXTURE_SETUP(judged)
{
	struct device *d = &self->device;
	char config[1024];

	SKIP_IF(!broker_is_installed(), "there is no mosquitto (packages mosquitto, mosquitto-clients)");
	lab_init(&self->lab);
	broker_init(&self->broker);
	ASSERT_EQ(certs_init(&self->certs), 0);
	self->port = free_port();
	start_broker(self);
	hub_start(self);
	snprintf(config, sizeof(config),
		 "{\"host\": \"localhost\", \"port\": %u, \"device-id\": \"dev1\",\n"
		 " \"authentication\": \"none\", \"ca-file\": \"%s\", \"mount\": \"%s\"}\n",
		 self->port, self->certs.ca_file, self->lab.mount);
	lab_write_file(&self->lab, "iothubd.json", config);
	device_init(d, &self->lab);
	device_topic_init(&self->responses, d, HUB_TOPIC_RESPONSES, 0);
	ASSERT_EQ(link_subscribe(d->link, &self->responses.sub), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->desired.sub), 0);
	device_start(d);
	DEVICE_AWAIT(d, d->n_online == 1 && device_topic_is_granted(&d->desired));
}

FIXTURE_TEARDOWN(judged)
{
	if (!test_is_orphan()) {
		if (harness_state.result->n_failed) {
			_cleanup_(free_ptr) char *log = broker_log(&self->broker);

			TEST_LOG("broker: %s", log);
			device_show_logs(&self->lab);
		}
		device_deinit(&self->device);
		if (self->from_hub)
			fclose(self->from_hub);
	}
	process_stop(&self->hub, SIGKILL);
	broker_deinit(&self->broker);
	certs_deinit(&self->certs);
	lab_deinit(&self->lab);
}

/* --- tests ------------------------------------------------------------------------------------ */

TEST_F(judged, the_twin_is_got_and_patched_with_its_version)
{
	struct device *d = &self->device;
	struct device_question q = ask(d, HUB_TOPIC_TWIN_GET, "", NULL);

	EXPECT_EQ(q.error, 0);
	EXPECT_STREQ(q.status, "Success");
	EXPECT_STREQ(q.payload, "{\"desired\": {\"$version\": 1}, \"reported\": {\"$version\": 1}}");
	q = ask(d, HUB_TOPIC_TWIN_REPORTED, "{\"a\": {\"b\": 1, \"c\": 2}}", NULL);
	EXPECT_STREQ(q.version, "2");
	EXPECT_STREQ(q.payload, "");
	q = ask(d, HUB_TOPIC_TWIN_REPORTED, "{\"a\": {\"b\": null}}", "2");
	EXPECT_STREQ(q.version, "3");
	q = ask(d, HUB_TOPIC_TWIN_REPORTED, "{\"a\": 1}", "2");
	EXPECT_EQ(q.error, -ESTALE);
	EXPECT_STREQ(q.status, "Precondition Failed (0104)");
	q = ask(d, HUB_TOPIC_TWIN_GET, "", NULL);
	EXPECT_CONTAINS(q.payload, "\"reported\": {\"a\": {\"c\": 2}, \"$version\": 3}");
}

TEST_F(judged, every_status_of_twin_requests)
{
	static const struct {
		const char *status, *name;
		int error;
		bool retryable;
	} rows[] = {
		{"0100", "Bad Request (0100)", -EINVAL, false},
		{"0101", "Not Authorized (0101)", -EACCES, false},
		{"0102", "Not Allowed (0102)", -EPERM, false},
		{"0104", "Precondition Failed (0104)", -ESTALE, false},
		{"0501", "Throttled (0501)", -EAGAIN, true},
		{"0502", "Quota Exceeded (0502)", -EDQUOT, true},
		{"0601", "Server Error (0601)", -EIO, true},
		{"0602", "Timeout (0602)", -ETIMEDOUT, true},
		{"0603", "Server Busy (0603)", -EBUSY, true},
	};
	char order[LINE_SIZE];

	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); ++i) {
		const char *topic = i % 2 ? HUB_TOPIC_TWIN_GET : HUB_TOPIC_TWIN_REPORTED;
		struct device_question q;

		snprintf(order, sizeof(order),
			 "{\"answer\": {\"status\": \"%s\", \"reason\": \"because\", \"trace-id\": \"t\"}}",
			 rows[i / 2].status);
		hub_order(self, order);
		q = ask(&self->device, topic, i % 2 ? "" : "{}", NULL);
		EXPECT_EQ(q.error, rows[i / 2].error);
		EXPECT_EQ(q.retryable, rows[i / 2].retryable);
		EXPECT_STREQ(q.status, rows[i / 2].name);
		EXPECT_STREQ(q.reason, "because");
	}
}

TEST_F(judged, desired_changes_come_with_their_version)
{
	struct device *d = &self->device;

	hub_order(self, "{\"publish\": \"$iothub/twin/patch/desired\", \"payload\": \"{\\\"speed\\\": 3}\", "
			"\"user\": {\"version\": \"18446744073709551615\"}}");
	DEVICE_AWAIT(d, d->desired.n);
	EXPECT_STREQ(d->desired.payload, "{\"speed\": 3}");
	EXPECT_STREQ(device_topic_property(&d->desired, HUB_PROP_VERSION), "18446744073709551615");
	EXPECT_EQ(d->desired.deliveries[0].packet_id, 0);
}

TEST_F(judged, commands_are_completed_abandoned_and_rejected)
{
	static const enum link_settlement ways[] = {LINK_ABANDON, LINK_COMPLETE, LINK_REJECT};
	struct device *d = &self->device;
	_cleanup_(free_ptr) char *log = NULL;
	char order[LINE_SIZE];

	for (unsigned int i = 0; i < ARRAY_SIZE(ways); ++i) {
		snprintf(
			order, sizeof(order),
			"{\"publish\": \"$iothub/commands\", \"payload\": \"%u\", \"qos\": 1, \"user\": "
			"{\"sequence-no\": \"%u\", \"enqueued-time\": \"1600987795320\", \"delivery-count\": "
			"\"1\", \"@colour\": \"gr\\u00fcn\"}}",
			i, i + 7);
		hub_order(self, order);
	}
	DEVICE_AWAIT(d, d->commands.n == ARRAY_SIZE(ways));
	EXPECT_STREQ(d->commands.payload, "2");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_SEQUENCE_NO), "9");
	EXPECT_STREQ(device_topic_property(&d->commands, HUB_PROP_DELIVERY_COUNT), "1");
	EXPECT_STREQ(device_topic_property(&d->commands, "@colour"), "gr\xc3\xbcn");
	/* Later, and in another order. */
	for (size_t i = ARRAY_SIZE(ways); i-- > 0;)
		EXPECT_EQ(link_settle(d->link, &d->commands.deliveries[i], ways[i]), 0);
	(void)ask(d, HUB_TOPIC_TWIN_GET, "", NULL);
	log = broker_log(&self->broker);
	EXPECT_EQ(text_count(log, "Received PUBACK from dev1 (Mid: "), 3u);
	EXPECT_EQ(text_count(log, ", RC:131)"), 2u);
	EXPECT_EQ(text_count(log, "Received PUBACK from dev1 (Mid: 2, RC:0)"), 1u);
	EXPECT_EQ(text_count(log, "protocol error"), 0u);
}

TEST_F(judged, methods_are_answered)
{
	static const char order[] = "{\"publish\": \"$iothub/methods/reboot\", \"payload\": \"in\", "
				    "\"correlation\": \"call\"}";
	struct device *d = &self->device;
	struct device_topic *t = &d->methods;
	char line[LINE_SIZE];

	hub_order(self, order);
	DEVICE_AWAIT(d, t->n == 1);
	EXPECT_STREQ(t->name, "$iothub/methods/reboot");
	EXPECT_STREQ(t->payload, "in");
	EXPECT_EQ(link_respond(d->link, BYTES(t->correlation, t->correlation_len), 202, BYTES_LIT("out")), 0);
	(void)ask(d, HUB_TOPIC_TWIN_GET, "", NULL);
	hub_read(self, line);
	EXPECT_STREQ(line, "[\"call\", {\"response-code\": \"202\"}, \"out\"]");
	hub_order(self, order);
	DEVICE_AWAIT(d, t->n == 2);
	EXPECT_EQ(link_respond_unavailable(d->link, BYTES(t->correlation, t->correlation_len)), 0);
	(void)ask(d, HUB_TOPIC_TWIN_GET, "", NULL);
	hub_read(self, line);
	EXPECT_STREQ(line, "[\"call\", {\"status\": \"06A0\"}, \"\"]");
}

TEST_HARNESS_MAIN
