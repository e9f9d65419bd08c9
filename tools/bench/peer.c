/* SPDX-License-Identifier: MIT */
/*
 * The peer: a device written in C with libmosquitto, as a program would do it that talks to the hub itself.
 * Same hub, same TLS, same CONNECT with SAS, same messages with the same properties.
 *
 *     peer [-n N] [-s BYTES] --connection-string-file F --ca-file F            publishes, waits for all PUBACKs
 *     peer --latency ...         one message at a time, each waiting for its PUBACK
 *     peer --processes ...       one mosquitto_pub(1) a message: what a shell script has without the daemon
 *
 * Prints `done NS` and `cpu NS`, nanoseconds for one message, `median NS` and `p99 NS` with --latency; `rss KB`
 * is the most memory it had.
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mosquitto.h>
#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "config/connstr.h"
#include "hub/contract.h"
#include "hub/identity.h"
#include "hub/message.h"
#include "hub/sas.h"

/* Messages handed to the library and not acknowledged: enough that it never runs dry. */
#define OUTSTANDING_MAX 1000
#define PAYLOAD_MAX     65536
#define LIFETIME_MS     (3600 * MSEC_PER_SEC)
#define KEEP_ALIVE_S    60

enum mode {
	MODE_THROUGHPUT,
	MODE_LATENCY,
	MODE_PROCESSES,
};

struct peer {
	enum mode mode;
	uint64_t n_messages;
	size_t size;
	const char *connection_string_file;
	const char *ca_file;

	char host[256];
	char client_id[HUB_CLIENT_ID_SIZE];
	uint16_t port;
	struct hub_key key;
	struct hub_sas sas;

	struct mosquitto *client;
	sem_t connected;
	sem_t room;  /* OUTSTANDING_MAX less what is outstanding */
	sem_t acked; /* counts PUBACKs */
	uint64_t run;
};

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("peer: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static uint64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * MSEC_PER_SEC + (uint64_t)t.tv_nsec / NSEC_PER_MSEC;
}

/* --- who it is
 * ------------------------------------------------------------------------------------------------- */

static void read_identity(struct peer *p)
{
	char text[CONNSTR_MAX], error[CONNSTR_ERROR_SIZE];
	_cleanup_(fclose_ptr) FILE *f = fopen(p->connection_string_file, "re");
	struct connstr c;
	struct bytes host, device;

	if (!f || !fgets(text, sizeof(text), f))
		fail("%s: %s", p->connection_string_file, strerror(errno));
	text[strcspn(text, "\n")] = '\0';
	if (connstr_parse(bytes_from_str(text), &c, error) < 0)
		fail("%s: %s", p->connection_string_file, error);
	host = c.fields[CONNSTR_HOST];
	device = c.fields[CONNSTR_DEVICE];
	snprintf(p->host, sizeof(p->host), "%.*s", (int)host.len, (const char *)host.data);
	snprintf(p->client_id, sizeof(p->client_id), "%.*s", (int)device.len, (const char *)device.data);
	p->port = c.port ? c.port : HUB_PORT;
	if (hub_key_decode(c.fields[CONNSTR_KEY], &p->key) < 0)
		fail("%s: no key", p->connection_string_file);
}

static bool fits_an_argument(const uint8_t *data, size_t len)
{
	return !memchr(data, '\0', len);
}

/* As an argument of mosquitto_pub a signature must not have a zero byte: another expiry, another signature. */
static void sign(struct peer *p)
{
	for (uint64_t ms = 0;; ++ms) {
		if (hub_sas_make(&p->sas, &p->key, p->host, p->client_id, NULL, wall_ms(), LIFETIME_MS + ms) <
		    0)
			fail("cannot sign");
		if (fits_an_argument(p->sas.signature, sizeof(p->sas.signature)))
			return;
	}
}

/* --- client
 * ---------------------------------------------------------------------------------------------------- */

static void check(int r, const char *what)
{
	if (r != MOSQ_ERR_SUCCESS)
		fail("%s: %s", what, r == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(r));
}

static void user_property(mosquitto_property **list, const char *name, const char *value)
{
	check(mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, name, value), name);
}

static void on_connect(struct mosquitto *client, void *userdata, int reason, int flags,
		       const mosquitto_property *properties)
{
	struct peer *p = userdata;

	(void)client;
	(void)flags;
	(void)properties;
	if (reason)
		fail("refused: %s", mosquitto_reason_string(reason));
	sem_post(&p->connected);
}

static void on_disconnect(struct mosquitto *client, void *userdata, int reason,
			  const mosquitto_property *properties)
{
	(void)client;
	(void)userdata;
	(void)properties;
	if (reason)
		fail("connection lost: %s", mosquitto_strerror(reason));
}

static void on_publish(struct mosquitto *client, void *userdata, int id, int reason,
		       const mosquitto_property *properties)
{
	struct peer *p = userdata;

	(void)client;
	(void)id;
	(void)properties;
	if (reason)
		fail("message refused: %s", mosquitto_reason_string(reason));
	sem_post(&p->room);
	sem_post(&p->acked);
}

static void sem_take(sem_t *sem)
{
	while (sem_wait(sem) < 0)
		;
}

static void connect_client(struct peer *p)
{
	mosquitto_property *list = NULL;

	mosquitto_lib_init();
	p->client = mosquitto_new(p->client_id, true, p);
	if (!p->client)
		fail("out of memory");
	mosquitto_int_option(p->client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
	mosquitto_int_option(p->client, MOSQ_OPT_TCP_NODELAY, 1);
	check(mosquitto_tls_set(p->client, p->ca_file, NULL, NULL, NULL, NULL), p->ca_file);
	mosquitto_connect_v5_callback_set(p->client, on_connect);
	mosquitto_disconnect_v5_callback_set(p->client, on_disconnect);
	mosquitto_publish_v5_callback_set(p->client, on_publish);
	check(mosquitto_property_add_string(&list, MQTT_PROP_AUTHENTICATION_METHOD, HUB_AUTH_SAS), "method");
	check(mosquitto_property_add_binary(&list, MQTT_PROP_AUTHENTICATION_DATA, p->sas.signature,
					    sizeof(p->sas.signature)),
	      "signature");
	user_property(&list, HUB_PROP_API_VERSION, HUB_API_VERSION);
	user_property(&list, HUB_PROP_SAS_AT, p->sas.at);
	user_property(&list, HUB_PROP_SAS_EXPIRY, p->sas.expiry);
	check(mosquitto_connect_bind_v5(p->client, p->host, p->port, KEEP_ALIVE_S, NULL, list), p->host);
	mosquitto_property_free_all(&list);
	check(mosquitto_loop_start(p->client), "thread");
	sem_take(&p->connected);
}

static void publish(struct peer *p, uint64_t sequence)
{
	static char payload[PAYLOAD_MAX];
	char id[HUB_MESSAGE_ID_LEN + 1], time[TIME_ISO_LEN + 1];
	mosquitto_property *list = NULL;

	if (!payload[0])
		memset(payload, 'x', sizeof(payload));
	hub_message_id_format(p->run, sequence, id);
	time_format_iso(wall_ms(), time);
	user_property(&list, HUB_PROP_MESSAGE_ID, id);
	user_property(&list, HUB_PROP_CREATION_TIME, time);
	check(mosquitto_publish_v5(p->client, NULL, HUB_TOPIC_TELEMETRY, (int)p->size, payload, 1, false,
				   list),
	      "publish");
	mosquitto_property_free_all(&list);
}

/* --- what is measured
 * ------------------------------------------------------------------------------------------ */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static void throughput(struct peer *p)
{
	uint64_t start_ns = now_ns();

	for (uint64_t i = 0; i < p->n_messages; ++i) {
		sem_take(&p->room);
		publish(p, i);
	}
	for (uint64_t i = 0; i < p->n_messages; ++i)
		sem_take(&p->acked);
	printf("done %.1f\n", (double)(now_ns() - start_ns) / (double)p->n_messages);
}

static void latency(struct peer *p)
{
	_cleanup_(free_ptr) uint64_t *samples_ns = calloc(p->n_messages, sizeof(*samples_ns));

	if (!samples_ns)
		fail("out of memory");
	for (uint64_t i = 0; i < p->n_messages; ++i) {
		uint64_t before_ns = now_ns();

		publish(p, i);
		sem_take(&p->acked);
		samples_ns[i] = now_ns() - before_ns;
	}
	qsort(samples_ns, p->n_messages, sizeof(*samples_ns), compare_u64);
	printf("median %" PRIu64 "\np99 %" PRIu64 "\n", samples_ns[p->n_messages / 2],
	       samples_ns[p->n_messages - 1 - p->n_messages / 100]);
}

static void processes(struct peer *p)
{
	char port[8], signature[sizeof(p->sas.signature) + 1] = "";
	const char *argv[] = {
		"mosquitto_pub",
		"-V",
		"mqttv5",
		"-h",
		p->host,
		"-p",
		port,
		"--cafile",
		p->ca_file,
		"-i",
		p->client_id,
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
		p->sas.at,
		"-D",
		"CONNECT",
		"user-property",
		HUB_PROP_SAS_EXPIRY,
		p->sas.expiry,
		NULL,
	};
	uint64_t start_ns;

	snprintf(port, sizeof(port), "%u", p->port);
	memcpy(signature, p->sas.signature, sizeof(p->sas.signature));
	start_ns = now_ns();
	for (uint64_t i = 0; i < p->n_messages; ++i) {
		int status, r;
		pid_t pid;

		r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
		if (r)
			fail("mosquitto_pub: %s", strerror(r));
		if (waitpid(pid, &status, 0) != pid || status != 0)
			fail("mosquitto_pub failed");
	}
	printf("done %.1f\n", (double)(now_ns() - start_ns) / (double)p->n_messages);
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
		else
			exit(2);
	}
	if (!p->connection_string_file || !p->ca_file || !p->n_messages || p->size > PAYLOAD_MAX) {
		fputs("usage: peer [-n MESSAGES] [-s BYTES] [--latency | --processes]\n"
		      "            --connection-string-file FILE --ca-file FILE\n",
		      stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct peer p = {.n_messages = 10000, .size = 128, .run = (uint64_t)getpid()};

	parse(&p, argc, argv);
	sem_init(&p.connected, 0, 0);
	sem_init(&p.room, 0, OUTSTANDING_MAX);
	sem_init(&p.acked, 0, 0);
	read_identity(&p);
	sign(&p);
	if (p.mode == MODE_PROCESSES) {
		processes(&p);
	} else {
		connect_client(&p);
		if (p.mode == MODE_LATENCY)
			latency(&p);
		else
			throughput(&p);
		mosquitto_disconnect(p.client);
		mosquitto_loop_stop(p.client, false);
		mosquitto_destroy(p.client);
		mosquitto_lib_cleanup();
	}
	report_usage(&p);
	hub_key_wipe(&p.key);
	return 0;
}
