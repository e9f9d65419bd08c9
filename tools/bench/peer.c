/* SPDX-License-Identifier: MIT */
/*
 * The peer: a device written in C with libmosquitto, as a program would do it that talks to the hub itself.
 * Same hub, same TLS, same CONNECT with SAS, same messages with the same properties.
 *
 *     peer [-n N] [-s BYTES] --connection-string-file F --ca-file F            publishes, waits for all PUBACKs
 *     peer --latency ...         one message at a time, each waiting for its PUBACK
 *     peer --processes ...       one mosquitto_pub(1) a message: what a shell script has without the daemon
 *     peer --handle METHOD ...   a handler of commands and of one method, until it is ended; writes a line to
 *                                descriptor 3 when it is subscribed
 *
 * Prints `done NS` and `cpu NS`, nanoseconds for one message, `median NS` and `p99 NS` with --latency; `rss KB`
 * is the most memory it had.
 */

#include <getopt.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/time.h"
#include "hub/contract.h"
#include "hub/message.h"
#include "hub/method.h"

#include "bench.h"
#include "client.h"

/* Messages handed to the library and not acknowledged: enough that it never runs dry. */
#define OUTSTANDING_MAX 1000
#define PAYLOAD_MAX     65536

enum mode {
	MODE_THROUGHPUT,
	MODE_LATENCY,
	MODE_PROCESSES,
	MODE_HANDLER,
};

struct peer {
	struct client client;
	enum mode mode;
	uint64_t n_messages;
	size_t size;
	const char *connection_string_file;
	const char *ca_file;
	const char *method; /* of MODE_HANDLER */

	sem_t room;  /* OUTSTANDING_MAX less what is outstanding */
	sem_t acked; /* counts PUBACKs */
	uint64_t run;
};

static void on_publish(struct mosquitto *mosquitto, void *userdata, int id, int reason,
		       const mosquitto_property *properties)
{
	struct peer *p = container_of(userdata, struct peer, client);

	(void)mosquitto;
	(void)id;
	(void)properties;
	if (reason)
		bench_fail("message refused: %s", mosquitto_reason_string(reason));
	sem_post(&p->room);
	sem_post(&p->acked);
}

static void sem_take(sem_t *sem)
{
	while (sem_wait(sem) < 0)
		;
}

static void publish(struct peer *p, uint64_t sequence)
{
	static char payload[PAYLOAD_MAX];
	char id[HUB_MESSAGE_ID_LEN + 1], time[TIME_ISO_LEN + 1];
	mosquitto_property *list = NULL;

	if (!payload[0])
		memset(payload, 'x', sizeof(payload));
	hub_message_id_format(p->run, sequence, id);
	time_format_iso(bench_wall_ms(), time);
	client_user_property(&list, HUB_PROP_MESSAGE_ID, id);
	client_user_property(&list, HUB_PROP_CREATION_TIME, time);
	client_check(mosquitto_publish_v5(p->client.mosquitto, NULL, HUB_TOPIC_TELEMETRY, (int)p->size,
					  payload, 1, false, list),
		     "publish");
	mosquitto_property_free_all(&list);
}

/* --- handling ---------------------------------------------------------------------------------- */

static void respond(struct client *c, const mosquitto_property *request)
{
	_cleanup_(free_ptr) void *data = NULL;
	mosquitto_property *list = NULL;
	uint16_t len = 0;

	if (!mosquitto_property_read_binary(request, MQTT_PROP_CORRELATION_DATA, &data, &len, false))
		bench_fail("a call without Correlation Data");
	client_check(mosquitto_property_add_binary(&list, MQTT_PROP_CORRELATION_DATA, data, len),
		     "Correlation Data");
	client_user_property(&list, HUB_PROP_RESPONSE_CODE, "200");
	client_check(mosquitto_publish_v5(c->mosquitto, NULL, HUB_TOPIC_RESPONSES, 2, "{}", 0, false, list),
		     "respond");
	mosquitto_property_free_all(&list);
}

/* A command is handled by having come: libmosquitto acknowledges it. */
static void on_message(struct mosquitto *mosquitto, void *userdata, const struct mosquitto_message *message,
		       const mosquitto_property *properties)
{
	(void)mosquitto;
	if (strcmp(message->topic, HUB_TOPIC_COMMANDS) != 0)
		respond(userdata, properties);
}

__attribute__((noreturn)) static void handle(struct peer *p)
{
	char topic[sizeof(HUB_TOPIC_METHODS_PREFIX) + HUB_METHOD_NAME_MAX];

	mosquitto_message_v5_callback_set(p->client.mosquitto, on_message);
	snprintf(topic, sizeof(topic), HUB_TOPIC_METHODS_PREFIX "%s", p->method);
	client_subscribe(&p->client, topic, 0);
	client_subscribe(&p->client, HUB_TOPIC_COMMANDS, 1);
	bench_tell_ready();
	for (;;)
		client_loop(&p->client);
}

/* --- what is measured ------------------------------------------------------------------------- */

static void throughput(struct peer *p)
{
	uint64_t start_ns = bench_now_ns();

	for (uint64_t i = 0; i < p->n_messages; ++i) {
		sem_take(&p->room);
		publish(p, i);
	}
	for (uint64_t i = 0; i < p->n_messages; ++i)
		sem_take(&p->acked);
	printf("done %.1f\n", (double)(bench_now_ns() - start_ns) / (double)p->n_messages);
}

static void latency(struct peer *p)
{
	_cleanup_(free_ptr) uint64_t *samples_ns = calloc(p->n_messages, sizeof(*samples_ns));

	if (!samples_ns)
		bench_fail_errno("samples");
	for (uint64_t i = 0; i < p->n_messages; ++i) {
		uint64_t before_ns = bench_now_ns();

		publish(p, i);
		sem_take(&p->acked);
		samples_ns[i] = bench_now_ns() - before_ns;
	}
	bench_print_latencies(samples_ns, p->n_messages);
}

static void processes(struct peer *p)
{
	const struct client *c = &p->client;
	char port[8], signature[sizeof(c->sas.signature) + 1] = "";
	const char *argv[] = {
		"mosquitto_pub",
		"-V",
		"mqttv5",
		"-h",
		c->host,
		"-p",
		port,
		"--cafile",
		c->ca_file,
		"-i",
		c->client_id,
		"-q",
		"1",
		"-t",
		HUB_TOPIC_TELEMETRY,
		"-m",
		"x",
		"-D",
		"CONNECT",
		"authentication-method",
		HUB_AUTH_SAS,
		"-D",
		"CONNECT",
		"authentication-data",
		signature,
		"-D",
		"CONNECT",
		"user-property",
		HUB_PROP_API_VERSION,
		HUB_API_VERSION,
		"-D",
		"CONNECT",
		"user-property",
		HUB_PROP_SAS_AT,
		c->sas.at,
		"-D",
		"CONNECT",
		"user-property",
		HUB_PROP_SAS_EXPIRY,
		c->sas.expiry,
		NULL,
	};
	uint64_t start_ns = bench_now_ns();

	snprintf(port, sizeof(port), "%u", c->port);
	memcpy(signature, c->sas.signature, sizeof(c->sas.signature));
	for (uint64_t i = 0; i < p->n_messages; ++i) {
		int status, r;
		pid_t pid;

		r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
		if (r)
			bench_fail("mosquitto_pub: %s", strerror(r));
		if (waitpid(pid, &status, 0) != pid || status != 0)
			bench_fail("mosquitto_pub failed");
	}
	printf("done %.1f\n", (double)(bench_now_ns() - start_ns) / (double)p->n_messages);
}

static void report_usage(const struct peer *p)
{
	struct rusage u;

	getrusage(p->mode == MODE_PROCESSES ? RUSAGE_CHILDREN : RUSAGE_SELF, &u);
	printf("cpu %.1f\nrss %ld\n",
	       ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e9 +
		(double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e3) /
		       (double)p->n_messages,
	       u.ru_maxrss);
}

static void parse(struct peer *p, int argc, char **argv)
{
	static const struct option options[] = {
		{"connection-string-file", required_argument, NULL, 'c'},
		{"ca-file", required_argument, NULL, 'a'},
		{"latency", no_argument, NULL, 'l'},
		{"processes", no_argument, NULL, 'p'},
		{"handle", required_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "n:s:", options, NULL)) >= 0) {
		if (c == 'n')
			p->n_messages = strtoull(optarg, NULL, 10);
		else if (c == 's')
			p->size = strtoul(optarg, NULL, 10);
		else if (c == 'c')
			p->connection_string_file = optarg;
		else if (c == 'a')
			p->ca_file = optarg;
		else if (c == 'l')
			p->mode = MODE_LATENCY;
		else if (c == 'p')
			p->mode = MODE_PROCESSES;
		else if (c == 'h')
			p->method = optarg;
		else
			exit(2);
	}
	if (p->method)
		p->mode = MODE_HANDLER;
	if (!p->connection_string_file || !p->ca_file || !p->n_messages || p->size > PAYLOAD_MAX) {
		fputs("usage: peer [-n MESSAGES] [-s BYTES] [--latency | --processes | --handle METHOD]\n"
		      "            --connection-string-file FILE --ca-file FILE\n",
		      stderr);
		exit(2);
	}
}

static void run(struct peer *p)
{
	client_connect(&p->client);
	if (p->mode == MODE_HANDLER)
		handle(p);
	mosquitto_publish_v5_callback_set(p->client.mosquitto, on_publish);
	client_check(mosquitto_loop_start(p->client.mosquitto), "thread");
	if (p->mode == MODE_LATENCY)
		latency(p);
	else
		throughput(p);
}

int main(int argc, char **argv)
{
	struct peer p = {.n_messages = 10000, .size = 128, .run = (uint64_t)getpid()};

	parse(&p, argc, argv);
	sem_init(&p.room, 0, OUTSTANDING_MAX);
	sem_init(&p.acked, 0, 0);
	client_init(&p.client, p.connection_string_file, "", p.ca_file);
	if (p.mode == MODE_PROCESSES)
		processes(&p);
	else
		run(&p);
	client_deinit(&p.client);
	report_usage(&p);
	return 0;
}
