/* SPDX-License-Identifier: MIT */
/*
 * The service side of a latency: one command, or one method call, at a time, each timed from the service's PUBLISH until
 * the service knows how it ended. Who handles it on the device is somebody else.
 *
 *     caller [-n N] [-t MS] [-s BYTES] --device ID ...    commands: sent, handled, completed, and the outcome back here
 *     caller --method NAME ...                            calls: sent, handled, and the response back here
 *
 * One connection for all of it, and what is not timed before: connecting, and the first few. N are timed, or as many as
 * end within MS milliseconds. Prints `median NS`, `p99 NS` and `n COUNT`.
 */

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/time.h"
#include "hub/contract.h"

#include "bench.h"
#include "client.h"

#define N_WARM_UP      20
#define PAYLOAD_MAX    4096
#define TOPIC_SEND     "$service/commands/send"
#define TOPIC_OUTCOMES "$service/commands/outcomes"
#define TOPIC_CALL     "$service/methods/call"
#define TOPIC_ANSWERS  "$service/responses"

/* Whom the service's connection string does not name: any client id of the service side will do. */
#define IDENTITY ";DeviceId=service;ModuleId=bench"

struct caller {
	struct client client;
	size_t n_samples;
	uint64_t time_ms; /* for all samples */
	size_t size;      /* bytes of a payload */
	const char *device;
	const char *method; /* NULL: commands */
	const char *connection_string_file;
	const char *ca_file;

	char payload[PAYLOAD_MAX];
	uint64_t number; /* of what is under way: its Correlation Data */
	bool is_answered;
	bool has_ended; /* the outcome of the command, or the response of the method */
};

/* --- what comes back -------------------------------------------------------------------------- */

/* Value of a User Property, or NULL; the caller frees it. */
static char *find_property(const mosquitto_property *properties, const char *name)
{
	char *key = NULL, *value = NULL;
	const mosquitto_property *at =
		mosquitto_property_read_string_pair(properties, MQTT_PROP_USER_PROPERTY, &key, &value, false);

	while (at && strcmp(key, name) != 0) {
		free(key);
		free(value);
		key = value = NULL;
		at = mosquitto_property_read_string_pair(at, MQTT_PROP_USER_PROPERTY, &key, &value, true);
	}
	free(key);
	return value;
}

static void expect_property(const mosquitto_property *properties, const char *name, const char *want)
{
	_cleanup_(free_ptr) char *value = find_property(properties, name);

	if (!value || strcmp(value, want) != 0)
		bench_fail("%s is %s and not %s", name, value ? value : "absent", want);
}

static bool is_for(const struct caller *c, const mosquitto_property *properties)
{
	_cleanup_(free_ptr) void *data = NULL;
	uint16_t len = 0;

	mosquitto_property_read_binary(properties, MQTT_PROP_CORRELATION_DATA, &data, &len, false);
	return len == sizeof(c->number) && memcmp(data, &c->number, len) == 0;
}

static void on_answer(struct caller *c, const mosquitto_property *properties)
{
	_cleanup_(free_ptr) char *status = find_property(properties, HUB_PROP_STATUS);

	if (!is_for(c, properties))
		bench_fail("an answer nobody asked for");
	if (status)
		bench_fail("the hub answered %s", status);
	c->is_answered = true;
	if (c->method) {
		expect_property(properties, HUB_PROP_RESPONSE_CODE, "200");
		c->has_ended = true;
	}
}

/* It comes after the answer; with one command at a time it is this one's. */
static void on_outcome(struct caller *c, const mosquitto_property *properties)
{
	if (!c->is_answered || c->has_ended)
		bench_fail("an outcome nobody waits for");
	expect_property(properties, "outcome", "completed");
	c->has_ended = true;
}

static void on_message(struct mosquitto *mosquitto, void *userdata, const struct mosquitto_message *message,
		       const mosquitto_property *properties)
{
	struct caller *c = container_of(userdata, struct caller, client);

	(void)mosquitto;
	if (strcmp(message->topic, TOPIC_ANSWERS) == 0)
		on_answer(c, properties);
	else
		on_outcome(c, properties);
}

/* --- what is measured ------------------------------------------------------------------------- */

static void send_one(struct caller *c)
{
	mosquitto_property *list = NULL;

	++c->number;
	c->is_answered = c->has_ended = false;
	client_check(mosquitto_property_add_binary(&list, MQTT_PROP_CORRELATION_DATA, &c->number,
						   sizeof(c->number)),
		     "Correlation Data");
	client_user_property(&list, "device", c->device);
	if (c->method) {
		client_user_property(&list, "method", c->method);
		client_user_property(&list, "connect-timeout", "10");
	}
	client_check(mosquitto_publish_v5(c->client.mosquitto, NULL, c->method ? TOPIC_CALL : TOPIC_SEND,
					  (int)c->size, c->payload, 0, false, list),
		     "publish");
	mosquitto_property_free_all(&list);
}

static uint64_t time_one(struct caller *c)
{
	uint64_t before_ns = bench_now_ns();

	send_one(c);
	while (!c->has_ended)
		client_loop(&c->client);
	return bench_now_ns() - before_ns;
}

static void run(struct caller *c)
{
	_cleanup_(free_ptr) uint64_t *samples_ns = calloc(c->n_samples, sizeof(*samples_ns));
	uint64_t end_ns;
	size_t n = 0;

	if (!samples_ns)
		bench_fail_errno("samples");
	client_connect(&c->client);
	mosquitto_message_v5_callback_set(c->client.mosquitto, on_message);
	if (!c->method) {
		char topic[sizeof(TOPIC_OUTCOMES) + 1 + HUB_ID_MAX];

		snprintf(topic, sizeof(topic), TOPIC_OUTCOMES "/%s", c->device);
		client_subscribe(&c->client, topic, 0);
	}
	for (size_t i = 0; i < N_WARM_UP; ++i)
		time_one(c);
	end_ns = bench_now_ns() + c->time_ms * NSEC_PER_MSEC;
	do
		samples_ns[n++] = time_one(c);
	while (n < c->n_samples && bench_now_ns() < end_ns);
	bench_print_latencies(samples_ns, n);
	printf("n %zu\n", n);
}

static void parse(struct caller *c, int argc, char **argv)
{
	static const struct option options[] = {
		{"connection-string-file", required_argument, NULL, 'c'},
		{"ca-file", required_argument, NULL, 'a'},
		{"device", required_argument, NULL, 'd'},
		{"method", required_argument, NULL, 'm'},
		{NULL, 0, NULL, 0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "n:s:t:", options, NULL)) >= 0) {
		if (o == 'n')
			c->n_samples = strtoul(optarg, NULL, 10);
		else if (o == 's')
			c->size = strtoul(optarg, NULL, 10);
		else if (o == 't')
			c->time_ms = strtoul(optarg, NULL, 10);
		else if (o == 'c')
			c->connection_string_file = optarg;
		else if (o == 'a')
			c->ca_file = optarg;
		else if (o == 'd')
			c->device = optarg;
		else if (o == 'm')
			c->method = optarg;
		else
			exit(2);
	}
	if (optind != argc || !c->connection_string_file || !c->ca_file || !c->device || !c->n_samples ||
	    c->size > PAYLOAD_MAX) {
		fputs("usage: caller [-n N] [-t MS] [-s BYTES] [--method NAME] --device ID\n"
		      "              --connection-string-file FILE --ca-file FILE\n",
		      stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct caller c = {.n_samples = 1000, .time_ms = 3600 * MSEC_PER_SEC, .size = 32};

	parse(&c, argc, argv);
	memset(c.payload, 'x', sizeof(c.payload));
	client_init(&c.client, c.connection_string_file, IDENTITY, c.ca_file);
	run(&c);
	client_deinit(&c.client);
	return 0;
}
