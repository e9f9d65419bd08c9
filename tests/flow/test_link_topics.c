/* SPDX-License-Identifier: MIT */
/*
 * What files of commands, methods and the twin build on: the link's subscriptions, messages and their settlement,
 * requests and responses, against an emulator in a process of its own. The link runs in the test.
 */

#include <errno.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link.h"
#include "hub/contract.h"
#include "mqtt/packet.h"
#include "mqtt/requests.h"
#include "net/resolver.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define N_MESSAGES 32
#define TEXT_SIZE  256

/* A topic, and what came to it. */
struct topic {
	struct link_subscription sub; /* first: the callbacks get it */
	struct device *device;
	unsigned int n;
	struct link_delivery deliveries[N_MESSAGES];
	char payload[TEXT_SIZE]; /* of the last one, as is the rest */
	char name[TEXT_SIZE];
	char delivery_count[16];
	uint8_t correlation[16];
	size_t correlation_len;
	unsigned int n_refused;
};

/* A question, and what became of it. */
struct question {
	struct link_request request;
	unsigned int n;
	int error;
	char status[HUB_STATUS_TEXT_SIZE];
	char version[32];
	char payload[4096];
};

struct device {
	struct config config;
	struct loop *loop;
	struct log log;
	struct tls_context *tls;
	struct resolver *resolver;
	struct link *link;
	unsigned int n_online;
	bool session_present;
	struct topic commands, methods, desired, other;
};

FIXTURE(topics)
{
	struct lab lab;
	struct device device;
};

/* --- the link in here ------------------------------------------------------------------------- */

static void on_online(void *userdata, bool session_present)
{
	struct device *d = userdata;

	++d->n_online;
	d->session_present = session_present;
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

static void text_store(char *out, size_t size, struct bytes text)
{
	snprintf(out, size, "%.*s", (int)text.len, text.len ? (const char *)text.data : "");
}

static void on_message(struct link_subscription *sub, const struct link_message *message)
{
	struct topic *t = container_of(sub, struct topic, sub);
	struct bytes value = BYTES(NULL, 0), correlation = message->properties->correlation_data;

	ASSERT_LT(t->n, (unsigned int)N_MESSAGES);
	t->deliveries[t->n++] = message->delivery;
	text_store(t->payload, sizeof(t->payload), message->payload);
	text_store(t->name, sizeof(t->name), message->topic);
	mqtt_user_property_find(message->properties->repeatable, HUB_PROP_DELIVERY_COUNT, &value);
	text_store(t->delivery_count, sizeof(t->delivery_count), value);
	ASSERT_LE(correlation.len, sizeof(t->correlation));
	t->correlation_len = correlation.len;
	if (correlation.len)
		memcpy(t->correlation, correlation.data, correlation.len);
}

static void on_refused(struct link_subscription *sub, const struct hub_status *status)
{
	struct topic *t = container_of(sub, struct topic, sub);

	EXPECT_TRUE(status->class != HUB_SUCCESS);
	++t->n_refused;
}

static void topic_init(struct topic *t, const char *filter, uint8_t qos)
{
	*t = (struct topic){.sub = {.filter = bytes_from_str(filter),
				    .qos = qos,
				    .on_message = on_message,
				    .on_refused = on_refused}};
	link_subscription_init(&t->sub);
}

static void on_response(struct link_request *request, const struct link_response *response)
{
	struct question *q = container_of(request, struct question, request);
	struct bytes version = BYTES(NULL, 0);

	++q->n;
	q->error = response->error;
	hub_status_format(&response->status, q->status);
	text_store(q->payload, sizeof(q->payload), response->payload);
	if (response->properties)
		mqtt_user_property_find(response->properties->repeatable, HUB_PROP_VERSION, &version);
	text_store(q->version, sizeof(q->version), version);
}

static void device_start(struct lab *lab, struct device *d)
{
	char path[LAB_PATH_MAX];
	const struct config_source source = {.config_file = path, .config_dir = "/nowhere"};
	struct link_options options;

	*d = (struct device){0};
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
	topic_init(&d->commands, HUB_TOPIC_COMMANDS, 1);
	topic_init(&d->methods, HUB_TOPIC_METHODS_ALL, 0);
	topic_init(&d->desired, HUB_TOPIC_TWIN_DESIRED, 0);
	topic_init(&d->other, "$iothub/nothing", 0);
	link_start(d->link);
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
	*d = (struct device){0};
}

/* Turns the loop until something has happened. */
#define AWAIT(d, condition)                                                                                  \
	do {                                                                                                 \
		while (!(condition))                                                                         \
			ASSERT_EQ(loop_turn((d)->loop, TIME_NEVER), 0);                                      \
	} while (0)

static bool is_granted(const struct topic *t)
{
	return t->sub.state == LINK_TOPIC_GRANTED;
}

/* --- the service side ------------------------------------------------------------------------- */

/* `hubctl WORDS`, its output in @out; returns the exit code. */
static int service(const struct lab *lab, const char *words, char *out, size_t size)
{
	char script[1024], path[LAB_PATH_MAX];
	_cleanup_(free_ptr) char *text = NULL;
	int r;

	snprintf(script, sizeof(script),
		 "%s %s --connection-string-file $D/state/service.connection-string > $D/service.out 2>&1",
		 process_path("hubctl"), words);
	r = lab_shell(lab, "sh", script);
	snprintf(path, sizeof(path), "%s/service.out", lab->dir);
	text = text_read(path);
	if (out)
		snprintf(out, size, "%s", text);
	if (r)
		TEST_LOG("hubctl %s: %s", words, text);
	return r;
}

/* The same while the device goes on. */
static int service_meanwhile(const struct lab *lab, struct device *d, const char *words, char *out,
			     size_t size)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(service(lab, words, NULL, 0));
	for (;;) {
		char path[LAB_PATH_MAX];
		pid_t ended = waitpid(pid, &status, WNOHANG);

		ASSERT_GE(ended, 0);
		if (ended == 0) {
			ASSERT_EQ(loop_turn(d->loop, 10 * NSEC_PER_MSEC), 0);
			continue;
		}
		snprintf(path, sizeof(path), "%s/service.out", lab->dir);
		{
			_cleanup_(free_ptr) char *text = text_read(path);

			snprintf(out, size, "%s", text);
		}
		return WEXITSTATUS(status);
	}
}

/* How often the first fault acted. */
static void expect_fault_hits(const struct lab *lab, const char *want)
{
	char text[4096];

	ASSERT_EQ(service(lab, "fault list --json", text, sizeof(text)), 0);
	EXPECT_CONTAINS(text, want);
}

FIXTURE_SETUP(topics)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_configure(&self->lab, NULL);
	device_start(&self->lab, &self->device);
	AWAIT(&self->device, self->device.n_online == 1);
}

FIXTURE_TEARDOWN(topics)
{
	if (!test_is_orphan()) {
		if (harness_state.result->n_failed) {
			_cleanup_(free_ptr) char *emulator = lab_log(&self->lab, "emulator");

			TEST_LOG("emulator: %s", emulator);
		}
		device_stop(&self->device);
	}
	lab_deinit(&self->lab);
}

/* --- requests --------------------------------------------------------------------------------- */

static void ask(struct device *d, struct question *q, const char *topic, const char *payload)
{
	*q = (struct question){.request.on_response = on_response};
	ASSERT_EQ(link_request(d->link, &q->request, bytes_from_str(topic), BYTES(NULL, 0),
			       bytes_from_str(payload), 20 * NSEC_PER_SEC),
		  0);
}

TEST_F(topics, the_twin_is_got_and_patched)
{
	struct device *d = &self->device;
	struct question get, patch, bad;

	ask(d, &patch, HUB_TOPIC_TWIN_REPORTED, "{\"colour\":\"blue\"}");
	ask(d, &bad, HUB_TOPIC_TWIN_REPORTED, "no JSON");
	ask(d, &get, HUB_TOPIC_TWIN_GET, "");
	AWAIT(d, get.n && patch.n && bad.n);
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
	struct question brief = {.request.on_response = on_response}, many[MQTT_REQUESTS_MAX], more;
	struct question cancelled, after;

	ASSERT_EQ(service(&self->lab, "fault set delay operation=twin-get ms=600 count=3", NULL, 0), 0);
	ask(d, &cancelled, HUB_TOPIC_TWIN_GET, "");
	link_request_cancel(d->link, &cancelled.request);
	link_request_cancel(d->link, &cancelled.request);
	ASSERT_EQ(link_request(d->link, &brief.request, BYTES_LIT(HUB_TOPIC_TWIN_GET), BYTES(NULL, 0),
			       BYTES(NULL, 0), 100 * NSEC_PER_MSEC),
		  0);
	AWAIT(d, brief.n);
	EXPECT_EQ(brief.error, -ETIMEDOUT);
	/* The late responses come before this one's. */
	ask(d, &after, HUB_TOPIC_TWIN_GET, "");
	AWAIT(d, after.n);
	EXPECT_EQ(after.error, 0);
	EXPECT_EQ(brief.n, 1u);
	EXPECT_EQ(cancelled.n, 0u);

	ASSERT_EQ(service(&self->lab, "fault set delay operation=twin-get ms=60000", NULL, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(many); ++i)
		ask(d, &many[i], HUB_TOPIC_TWIN_GET, "");
	more = (struct question){.request.on_response = on_response};
	EXPECT_EQ(link_request(d->link, &more.request, BYTES_LIT(HUB_TOPIC_TWIN_GET), BYTES(NULL, 0),
			       BYTES(NULL, 0), NSEC_PER_SEC),
		  -ENOBUFS);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	AWAIT(d, many[0].n);
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
	ASSERT_EQ(link_subscribe(d->link, &d->other.sub), 0);
	EXPECT_TRUE(d->desired.sub.state == LINK_TOPIC_WANTED);
	AWAIT(d, is_granted(&d->commands));
	EXPECT_TRUE(is_granted(&d->methods));
	EXPECT_TRUE(is_granted(&d->desired));
	EXPECT_TRUE(d->other.sub.state == LINK_TOPIC_REFUSED);
	EXPECT_EQ(d->other.n_refused, 1u);
	link_unsubscribe(d->link, &d->other.sub);

	ASSERT_EQ(service(&self->lab, "fault set suback reason=0x97", NULL, 0), 0);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	AWAIT(d, d->n_online == 2);
	EXPECT_TRUE(d->session_present);
	EXPECT_TRUE(is_granted(&d->commands));
	ASSERT_EQ(service(&self->lab, "command send dev1 hello", NULL, 0), 0);
	AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.payload, "hello");
	EXPECT_STREQ(d->commands.name, HUB_TOPIC_COMMANDS);
	/* Nobody asked. */
	expect_fault_hits(&self->lab, "\"hits\":0");

	/* A session that is gone begins anew. */
	ASSERT_EQ(service(&self->lab, "fault clear", NULL, 0), 0);
	ASSERT_EQ(service(&self->lab, "fault set forget-session device=dev1", NULL, 0), 0);
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	AWAIT(d, d->n_online == 3 && is_granted(&d->commands) && is_granted(&d->desired));
}

TEST_F(topics, what_nobody_wants_is_given_back)
{
	struct device *d = &self->device;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	EXPECT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	AWAIT(d, is_granted(&d->commands));
	link_unsubscribe(d->link, &d->commands.sub);
	link_unsubscribe(d->link, &d->commands.sub);
	/* In this order on the wire: nothing comes until it is wanted again. */
	{
		struct question q;

		ask(d, &q, HUB_TOPIC_TWIN_GET, "");
		AWAIT(d, q.n);
	}
	ASSERT_EQ(service_meanwhile(&self->lab, d, "command send dev1 later", text, sizeof(text)), 0);
	EXPECT_EQ(d->commands.n, 0u);
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.payload, "later");
	EXPECT_STREQ(d->commands.delivery_count, "1");
}

TEST_F(topics, what_an_earlier_process_subscribed_to_is_given_back)
{
	struct device *d = &self->device;

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	AWAIT(d, is_granted(&d->commands));
	device_stop(d);
	ASSERT_EQ(service(&self->lab, "command send dev1 one", NULL, 0), 0);
	device_start(&self->lab, d);
	AWAIT(d, d->n_online == 1);
	EXPECT_TRUE(d->session_present);
	/* The command comes, is abandoned, and waits. */
	{
		struct question q;

		ask(d, &q, HUB_TOPIC_TWIN_GET, "");
		AWAIT(d, q.n);
		ask(d, &q, HUB_TOPIC_TWIN_GET, "");
		AWAIT(d, q.n);
	}
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.payload, "one");
	EXPECT_STREQ(d->commands.delivery_count, "2");
}

TEST_F(topics, a_call_for_an_earlier_process_is_answered)
{
	struct device *d = &self->device;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	AWAIT(d, is_granted(&d->methods));
	device_stop(d);
	device_start(&self->lab, d);
	AWAIT(d, d->n_online == 1);
	EXPECT_EQ(service_meanwhile(&self->lab, d, "method call dev1 reboot 1 --timeout 20 --json", text,
				    sizeof(text)),
		  1);
	EXPECT_CONTAINS(text, "06A0");
}

TEST_F(topics, given_back_twice_before_the_hub_has_answered_once)
{
	struct device *d = &self->device;
	struct question q;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	AWAIT(d, is_granted(&d->commands));
	link_unsubscribe(d->link, &d->commands.sub);
	ASSERT_EQ(loop_turn(d->loop, 0), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(loop_turn(d->loop, 0), 0);
	link_unsubscribe(d->link, &d->commands.sub);
	for (int i = 0; i < 2; ++i) {
		ask(d, &q, HUB_TOPIC_TWIN_GET, "");
		AWAIT(d, q.n);
	}
	ASSERT_EQ(service_meanwhile(&self->lab, d, "command send dev1 later", text, sizeof(text)), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	AWAIT(d, d->commands.n);
	EXPECT_STREQ(d->commands.delivery_count, "1");
}

/* Takes back the next topic in the row. */
static void on_refused_take_back(struct link_subscription *sub, const struct hub_status *status)
{
	struct topic *t = container_of(sub, struct topic, sub);

	(void)status;
	++t->n_refused;
	link_unsubscribe(t->device->link, &(t + 1)->sub);
}

TEST_F(topics, a_refused_topic_may_take_back_others)
{
	struct device *d = &self->device;
	struct topic topics[3];

	topic_init(&topics[0], "$iothub/one", 0);
	topic_init(&topics[1], "$iothub/two", 0);
	topic_init(&topics[2], "$iothub/three", 0);
	topics[0].device = d;
	topics[0].sub.on_refused = on_refused_take_back;
	for (size_t i = 0; i < ARRAY_SIZE(topics); ++i)
		ASSERT_EQ(link_subscribe(d->link, &topics[i].sub), 0);
	AWAIT(d, topics[2].n_refused);
	EXPECT_EQ(topics[0].n_refused, 1u);
	EXPECT_EQ(topics[1].n_refused, 0u);
	link_unsubscribe(d->link, &topics[0].sub);
	link_unsubscribe(d->link, &topics[2].sub);
}

TEST_F(topics, as_many_as_a_hub_allows)
{
	static struct topic topics[HUB_SUBSCRIPTIONS_MAX];
	static char filters[HUB_SUBSCRIPTIONS_MAX][32];
	struct device *d = &self->device;

	for (size_t i = 0; i < HUB_SUBSCRIPTIONS_MAX; ++i) {
		snprintf(filters[i], sizeof(filters[i]), "$iothub/methods/m%zu", i);
		topic_init(&topics[i], filters[i], 0);
		ASSERT_EQ(link_subscribe(d->link, &topics[i].sub), 0);
	}
	EXPECT_EQ(link_subscribe(d->link, &d->commands.sub), -ENOSPC);
	link_unsubscribe(d->link, &topics[7].sub);
	EXPECT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	AWAIT(d, is_granted(&d->commands));
	for (size_t i = 0; i < HUB_SUBSCRIPTIONS_MAX; ++i)
		EXPECT_EQ(is_granted(&topics[i]), i != 7);
	/* One for another, and none twice. */
	link_unsubscribe(d->link, &topics[9].sub);
	topics[7].sub.filter = topics[8].sub.filter;
	EXPECT_EQ(link_subscribe(d->link, &topics[7].sub), -EEXIST);
	EXPECT_EQ(link_subscribe(d->link, &d->desired.sub), 0);
	AWAIT(d, is_granted(&d->desired));
}

/* --- settlement ------------------------------------------------------------------------------- */

TEST_F(topics, commands_are_settled_in_each_way_and_in_any_order)
{
	struct device *d = &self->device;
	char text[4096];

	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(service(&self->lab, "command send dev1 first", NULL, 0), 0);
	ASSERT_EQ(service(&self->lab, "command send dev1 second", NULL, 0), 0);
	ASSERT_EQ(service(&self->lab, "command send dev1 third", NULL, 0), 0);
	AWAIT(d, d->commands.n == 3);
	EXPECT_STREQ(d->commands.delivery_count, "1");
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[2], LINK_REJECT), 0);
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[0], LINK_COMPLETE), 0);
	EXPECT_EQ(link_settle(d->link, &d->commands.deliveries[0], LINK_COMPLETE), -ESTALE);
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[1], LINK_ABANDON), 0);
	AWAIT(d, d->commands.n == 4);
	EXPECT_STREQ(d->commands.payload, "second");
	EXPECT_STREQ(d->commands.delivery_count, "2");

	/* Not settled on its connection: again on the next one, and only there. */
	ASSERT_EQ(kill(self->lab.emulator, SIGUSR1), 0);
	AWAIT(d, d->commands.n == 5);
	EXPECT_EQ(link_settle(d->link, &d->commands.deliveries[3], LINK_COMPLETE), -ESTALE);
	ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[4], LINK_COMPLETE), 0);
	{
		struct question q;

		ask(d, &q, HUB_TOPIC_TWIN_GET, "");
		AWAIT(d, q.n);
	}
	ASSERT_EQ(service(&self->lab, "command list dev1 --json", text, sizeof(text)), 0);
	EXPECT_EQ(text_count(text, "\"sequence-no\""), 1u);
	EXPECT_CONTAINS(text, "\"dead-letter-reason\":\"rejected\"");
	EXPECT_CONTAINS(text, "\"payload\":\"third\"");
}

/* --- methods ---------------------------------------------------------------------------------- */

TEST_F(topics, methods_are_answered)
{
	struct device *d = &self->device;
	char text[4096];
	int status;
	pid_t pid;

	ASSERT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	AWAIT(d, is_granted(&d->methods));
	for (unsigned int i = 0; i < 2; ++i) {
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			_exit(service(&self->lab, "method call dev1 reboot '{\"in\":5}' --json", text,
				      sizeof(text)));
		AWAIT(d, d->methods.n == i + 1);
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
			struct question q;

			ask(d, &q, HUB_TOPIC_TWIN_GET, "");
			AWAIT(d, q.n);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT_EQ(WEXITSTATUS(status), (int)i);
		if (i == 0) {
			char path[LAB_PATH_MAX];
			_cleanup_(free_ptr) char *out = NULL;

			snprintf(path, sizeof(path), "%s/service.out", self->lab.dir);
			out = text_read(path);
			EXPECT_CONTAINS(out, "202");
			EXPECT_CONTAINS(out, "soon");
		}
	}
	EXPECT_EQ(link_respond(d->link, BYTES(NULL, 0), 200, BYTES(NULL, 0)), -EINVAL);
	EXPECT_EQ(link_respond(d->link, BYTES_LIT("12345678901234567"), 200, BYTES(NULL, 0)), -EINVAL);
}

TEST_HARNESS_MAIN
