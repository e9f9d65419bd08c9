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
#include "flow/link.h"
#include "hub/contract.h"
#include "mqtt/packet.h"
#include "net/resolver.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/broker.h"
#include "tests/support/certs.h"
#include "tests/support/lab.h"

#define HUB        "tests/judges/hub_behind_broker.py"
#define N_MESSAGES 8
#define TEXT_SIZE  512

/* A topic, and what came to it. */
struct topic {
	struct link_subscription sub;
	unsigned int n;
	struct link_delivery deliveries[N_MESSAGES];
	char name[TEXT_SIZE]; /* of the last one, as is the rest */
	char payload[TEXT_SIZE];
	char version[TEXT_SIZE];
	char sequence_no[TEXT_SIZE];
	char delivery_count[TEXT_SIZE];
	uint8_t correlation[HUB_CORRELATION_BYTES_MAX];
	size_t correlation_len;
};

/* A request, and what became of it. */
struct question {
	struct link_request request;
	unsigned int n;
	int error;
	bool retryable;
	char status[HUB_STATUS_TEXT_SIZE];
	char reason[TEXT_SIZE];
	char version[TEXT_SIZE];
	char payload[TEXT_SIZE];
};

struct device {
	struct config config;
	struct loop *loop;
	struct log log;
	struct tls_context *tls;
	struct resolver *resolver;
	struct link *link;
	unsigned int n_online;
	struct topic commands, methods, desired, responses;
};

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
};

/* --- the device ------------------------------------------------------------------------------- */

static void on_online(void *userdata, bool session_present)
{
	struct device *d = userdata;

	(void)session_present;
	++d->n_online;
}

static void on_nothing(void *userdata)
{
	(void)userdata;
}

static void on_puback(void *userdata, uint64_t cookie, const struct hub_status *status, struct bytes reason)
{
	(void)userdata;
	(void)cookie;
	(void)status;
	(void)reason;
}

static const struct link_ops device_ops = {
	.on_online = on_online,
	.on_offline = on_nothing,
	.on_writable = on_nothing,
	.on_puback = on_puback,
	.on_changed = on_nothing,
};

static void text_store(char out[static TEXT_SIZE], struct bytes text)
{
	snprintf(out, TEXT_SIZE, "%.*s", (int)text.len, text.len ? (const char *)text.data : "");
}

static void property_store(char out[static TEXT_SIZE], const struct mqtt_properties *properties,
			   const char *name)
{
	struct bytes value = BYTES(NULL, 0);

	if (properties)
		mqtt_user_property_find(properties->repeatable, name, &value);
	text_store(out, value);
}

static void on_message(struct link_subscription *sub, const struct link_message *message)
{
	struct topic *t = container_of(sub, struct topic, sub);
	struct bytes correlation = message->properties->correlation_data;

	ASSERT_LT(t->n, (unsigned int)N_MESSAGES);
	t->deliveries[t->n++] = message->delivery;
	text_store(t->name, message->topic);
	text_store(t->payload, message->payload);
	property_store(t->version, message->properties, HUB_PROP_VERSION);
	property_store(t->sequence_no, message->properties, HUB_PROP_SEQUENCE_NO);
	property_store(t->delivery_count, message->properties, HUB_PROP_DELIVERY_COUNT);
	ASSERT_LE(correlation.len, sizeof(t->correlation));
	t->correlation_len = correlation.len;
	if (correlation.len)
		memcpy(t->correlation, correlation.data, correlation.len);
}

static void on_response(struct link_request *request, const struct link_response *response)
{
	struct question *q = container_of(request, struct question, request);

	++q->n;
	q->error = response->error;
	q->retryable = response->status.retryable;
	hub_status_format(&response->status, q->status);
	text_store(q->reason, response->reason);
	text_store(q->payload, response->payload);
	property_store(q->version, response->properties, HUB_PROP_VERSION);
}

static void device_start(struct lab *lab, struct device *d)
{
	char path[LAB_PATH_MAX];
	const struct config_source source = {.config_file = path, .config_dir = "/nowhere"};
	struct link_options options;

	snprintf(path, sizeof(path), "%s/iothubd.json", lab->dir);
	log_init(&d->log, "# device", LOG_LEVEL_DEBUG);
	ASSERT_EQ(config_load(&d->config, &source, &d->log), 0);
	ASSERT_EQ(loop_new(&d->loop, &(struct loop_options){.log = &d->log}), 0);
	ASSERT_EQ(tls_context_new_client(&d->tls, d->config.ca_file, &d->log), 0);
	ASSERT_EQ(resolver_new(&d->resolver, d->loop, &d->log, NULL), 0);
	options = (struct link_options){
		.loop = d->loop,
		.log = &d->log,
		.config = &d->config,
		.resolver = d->resolver,
		.tls = d->tls,
		.ops = &device_ops,
		.userdata = d,
	};
	ASSERT_EQ(link_new(&d->link, &options), 0);
}

static void device_stop(struct device *d)
{
	if (!d->loop)
		return;
	link_free(d->link);
	resolver_free(d->resolver);
	while (loop_n_in_flight(d->loop) > 0)
		ASSERT_EQ(loop_turn(d->loop, TIME_NEVER), 0);
	tls_context_free(d->tls);
	loop_free(d->loop);
	config_deinit(&d->config);
}

/* Turns the loop until something has happened. */
#define AWAIT(d, condition)                                                                                  \
	do {                                                                                                 \
		while (!(condition))                                                                         \
			ASSERT_EQ(loop_turn((d)->loop, TIME_NEVER), 0);                                      \
	} while (0)

static void want(struct device *d, struct topic *t, const char *filter, uint8_t qos)
{
	t->sub = (struct link_subscription){
		.filter = bytes_from_str(filter), .qos = qos, .on_message = on_message};
	link_subscription_init(&t->sub);
	ASSERT_EQ(link_subscribe(d->link, &t->sub), 0);
}

/* Asks and waits for the response; @if_version NULL = none. */
static struct question ask(struct device *d, const char *topic, const char *payload, const char *if_version)
{
	struct question q = {.request.on_response = on_response};
	uint8_t scratch[64];
	struct writer w = writer_init(scratch, sizeof(scratch));

	if (if_version)
		mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_IF_VERSION), bytes_from_str(if_version));
	ASSERT_EQ(link_request(d->link, &q.request, bytes_from_str(topic), writer_bytes(&w),
			       bytes_from_str(payload), 20 * NSEC_PER_SEC),
		  0);
	AWAIT(d, q.n);
	EXPECT_EQ(q.n, 1u);
	return q;
}

/* --- the hub ---------------------------------------------------------------------------------- */

/* A line the script printed, without its newline. */
static void hub_read(struct fixture_judged *self, char line[static TEXT_SIZE])
{
	ASSERT_TRUE(fgets(line, TEXT_SIZE, self->from_hub) != NULL);
	line[strcspn(line, "\n")] = '\0';
}

/* Has the script do something. */
static void hub_order(struct fixture_judged *self, const char *order)
{
	char line[TEXT_SIZE];

	ASSERT_EQ(write(self->to_hub, order, strlen(order)), (ssize_t)strlen(order));
	ASSERT_EQ(write(self->to_hub, "\n", 1), 1);
	hub_read(self, line);
	ASSERT_STREQ(line, "done");
}

static void hub_start(struct fixture_judged *self)
{
	char port[8], log[PROCESS_PATH_MAX], line[TEXT_SIZE];
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
	device_start(&self->lab, d);
	want(d, &d->responses, HUB_TOPIC_RESPONSES, 0);
	want(d, &d->commands, HUB_TOPIC_COMMANDS, 1);
	want(d, &d->methods, HUB_TOPIC_METHODS_ALL, 0);
	want(d, &d->desired, HUB_TOPIC_TWIN_DESIRED, 0);
	link_start(d->link);
	AWAIT(d, d->n_online == 1 && d->desired.sub.state == LINK_TOPIC_GRANTED);
}

FIXTURE_TEARDOWN(judged)
{
	if (!test_is_orphan()) {
		if (harness_state.result->n_failed) {
			_cleanup_(free_ptr) char *log = broker_log(&self->broker);

			TEST_LOG("broker: %s", log);
		}
		device_stop(&self->device);
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
	struct question q = ask(d, HUB_TOPIC_TWIN_GET, "", NULL);

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
	char order[TEXT_SIZE];

	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); ++i) {
		const char *topic = i % 2 ? HUB_TOPIC_TWIN_GET : HUB_TOPIC_TWIN_REPORTED;
		struct question q;

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
	AWAIT(d, d->desired.n);
	EXPECT_STREQ(d->desired.payload, "{\"speed\": 3}");
	EXPECT_STREQ(d->desired.version, "18446744073709551615");
	EXPECT_EQ(d->desired.deliveries[0].packet_id, 0);
}

TEST_F(judged, commands_are_completed_abandoned_and_rejected)
{
	static const enum link_settlement ways[] = {LINK_ABANDON, LINK_COMPLETE, LINK_REJECT};
	struct device *d = &self->device;
	_cleanup_(free_ptr) char *log = NULL;
	char order[TEXT_SIZE];

	for (unsigned int i = 0; i < ARRAY_SIZE(ways); ++i) {
		snprintf(
			order, sizeof(order),
			"{\"publish\": \"$iothub/commands\", \"payload\": \"%u\", \"qos\": 1, \"user\": "
			"{\"sequence-no\": \"%u\", \"enqueued-time\": \"1600987795320\", \"delivery-count\": "
			"\"1\"}}",
			i, i + 7);
		hub_order(self, order);
	}
	AWAIT(d, d->commands.n == ARRAY_SIZE(ways));
	EXPECT_STREQ(d->commands.payload, "2");
	EXPECT_STREQ(d->commands.sequence_no, "9");
	EXPECT_STREQ(d->commands.delivery_count, "1");
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
	struct topic *t = &d->methods;
	char line[TEXT_SIZE];

	hub_order(self, order);
	AWAIT(d, t->n == 1);
	EXPECT_STREQ(t->name, "$iothub/methods/reboot");
	EXPECT_STREQ(t->payload, "in");
	EXPECT_EQ(link_respond(d->link, BYTES(t->correlation, t->correlation_len), 202, BYTES_LIT("out")), 0);
	(void)ask(d, HUB_TOPIC_TWIN_GET, "", NULL);
	hub_read(self, line);
	EXPECT_STREQ(line, "[\"call\", {\"response-code\": \"202\"}, \"out\"]");
	hub_order(self, order);
	AWAIT(d, t->n == 2);
	EXPECT_EQ(link_respond_unavailable(d->link, BYTES(t->correlation, t->correlation_len)), 0);
	(void)ask(d, HUB_TOPIC_TWIN_GET, "", NULL);
	hub_read(self, line);
	EXPECT_STREQ(line, "[\"call\", {\"status\": \"06A0\"}, \"\"]");
}

TEST_HARNESS_MAIN
