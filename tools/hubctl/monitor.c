/* SPDX-License-Identifier: MIT */
/*
 * `hubctl monitor`: subscribes to the hub's service topics and prints what is posted.
 *
 * One thread: poll(2) on the connection and on a signalfd. What one read brought is printed with one flush,
 * so a line is never held back while there is nothing else to do, and a fast stream does not cost a write(2)
 * each.
 */

#include "monitor.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "message.h"
#include "service.h"

#define TOPIC         "$service/telemetry"
#define POLL_MS       1000 /* libmosquitto sends its pings from mosquitto_loop_misc() */
#define SUBACK_FAILED 0x80

struct options {
	const char *device;
	const char *connection_string_file;
	const char *ca_file;
	unsigned long long n_wanted; /* 0: no end */
	int ready_fd;
	bool quiet;
};

enum monitor_state {
	MONITOR_CONNECTING,
	MONITOR_RUNNING,
	MONITOR_DONE,
	MONITOR_FAILED, /* said on stderr */
};

struct monitor {
	struct options options;
	struct service_target target;
	struct mosquitto *client;
	enum monitor_state state;
	char topic[300];
	unsigned long long n_printed;
	char tls_error[SERVICE_ERROR_MAX]; /* what OpenSSL said last */
};

__attribute__((format(printf, 2, 3))) static void fail(struct monitor *m, const char *fmt, ...)
{
	va_list args;

	if (m->state == MONITOR_FAILED || m->state == MONITOR_DONE)
		return;
	m->state = MONITOR_FAILED;
	fflush(stdout);
	fputs("hubctl: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

/* --- callbacks -------------------------------------------------------------------------------- */

/* ` (status 0100: reason)` of a refusal, as far as the hub told. */
static void outcome_format(const mosquitto_property *properties, char *out, size_t size)
{
	char *name = NULL, *value = NULL, status[16] = "", reason[200] = "";
	const mosquitto_property *p;

	for (p = mosquitto_property_read_string_pair(properties, MQTT_PROP_USER_PROPERTY, &name, &value,
						     false);
	     p; p = mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &value, true)) {
		if (strcmp(name, "status") == 0)
			snprintf(status, sizeof(status), "%s", value);
		else if (strcmp(name, "reason") == 0)
			snprintf(reason, sizeof(reason), "%s", value);
		free(name);
		free(value);
	}
	out[0] = '\0';
	if (status[0])
		snprintf(out, size, " (status %s%s%s)", status, reason[0] ? ": " : "", reason);
}

static void on_connect(struct mosquitto *client, void *userdata, int code, int flags,
		       const mosquitto_property *properties)
{
	struct monitor *m = userdata;
	char outcome[SERVICE_ERROR_MAX];
	int r;

	(void)flags;
	if (code) {
		outcome_format(properties, outcome, sizeof(outcome));
		fail(m, "%s refused the connection: %s%s", m->target.host, mosquitto_reason_string(code),
		     outcome);
		return;
	}
	r = mosquitto_subscribe_v5(client, NULL, m->topic, 0, 0, NULL);
	if (r != MOSQ_ERR_SUCCESS)
		fail(m, "cannot subscribe to %s: %s", m->topic, mosquitto_strerror(r));
}

static void on_subscribe(struct mosquitto *client, void *userdata, int mid, int n_granted, const int *granted,
			 const mosquitto_property *properties)
{
	struct monitor *m = userdata;

	(void)client;
	(void)mid;
	(void)properties;
	if (n_granted < 1 || granted[0] >= SUBACK_FAILED) {
		fail(m, "%s refused the subscription to %s: %s", m->target.host, m->topic,
		     n_granted < 1 ? "no answer for it" : mosquitto_reason_string(granted[0]));
		return;
	}
	m->state = MONITOR_RUNNING;
	if (!m->options.quiet)
		fprintf(stderr, "monitoring %s on %s\n",
			m->options.device ? m->options.device : "all devices", m->target.host);
	if (m->options.ready_fd >= 0) {
		if (write(m->options.ready_fd, "ready\n", 6) != 6)
			fail(m, "--ready-fd %d: %s", m->options.ready_fd, strerror(errno));
		close_fd(&m->options.ready_fd);
	}
}

static void on_message(struct mosquitto *client, void *userdata, const struct mosquitto_message *message,
		       const mosquitto_property *properties)
{
	struct monitor *m = userdata;
	json_object *json;
	const char *text;
	size_t len;

	(void)client;
	if (m->state != MONITOR_RUNNING)
		return;
	json = message_to_json(BYTES(message->payload, (size_t)message->payloadlen), properties);
	text = json ? json_object_to_json_string_length(
			      json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len)
		    : NULL;
	if (!text)
		fail(m, "out of memory");
	else if (fwrite(text, 1, len, stdout) != len || putchar('\n') == EOF)
		fail(m, "standard output: %s", strerror(errno));
	else if (++m->n_printed == m->options.n_wanted)
		m->state = MONITOR_DONE;
	json_object_put(json);
}

/* What OpenSSL said, in words that tell what to do, or NULL when it said nothing. */
static const char *tls_problem(const struct monitor *m)
{
	if (strstr(m->tls_error, "certificate verify failed"))
		return "its certificate is not trusted; name the right CA with --ca-file";
	return m->tls_error[0] ? m->tls_error : NULL;
}

static void on_disconnect(struct mosquitto *client, void *userdata, int code,
			  const mosquitto_property *properties)
{
	struct monitor *m = userdata;
	char outcome[SERVICE_ERROR_MAX];

	(void)client;
	outcome_format(properties, outcome, sizeof(outcome));
	if (tls_problem(m))
		fail(m, "%s: %s", m->target.host, tls_problem(m));
	else if (code >= SUBACK_FAILED)
		fail(m, "%s ended the connection: %s%s", m->target.host, mosquitto_reason_string(code),
		     outcome);
	else
		fail(m, "the connection to %s was lost", m->target.host);
}

static void on_log(struct mosquitto *client, void *userdata, int level, const char *text)
{
	struct monitor *m = userdata;

	(void)client;
	if (level == MOSQ_LOG_ERR && !m->tls_error[0] && (strstr(text, "SSL") || strstr(text, "host name")))
		snprintf(m->tls_error, sizeof(m->tls_error), "%s", text);
}

/* --- the loop --------------------------------------------------------------------------------- */

static int signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void step(struct monitor *m, int signal_fd)
{
	struct pollfd fds[] = {
		{.fd = mosquitto_socket(m->client), .events = POLLIN},
		{.fd = signal_fd, .events = POLLIN},
	};
	int r = MOSQ_ERR_SUCCESS;

	if (mosquitto_want_write(m->client))
		fds[0].events |= POLLOUT;
	if (poll(fds, ARRAY_SIZE(fds), POLL_MS) < 0 && errno != EINTR) {
		fail(m, "poll: %s", strerror(errno));
		return;
	}
	if (fds[1].revents) {
		m->state = MONITOR_DONE;
		return;
	}
	if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		r = mosquitto_loop_read(m->client, 1);
	if (r == MOSQ_ERR_SUCCESS && fds[0].revents & POLLOUT)
		r = mosquitto_loop_write(m->client, 1);
	if (r == MOSQ_ERR_SUCCESS)
		r = mosquitto_loop_misc(m->client);
	if (r != MOSQ_ERR_SUCCESS)
		fail(m, "the connection to %s was lost: %s", m->target.host,
		     tls_problem(m) ? tls_problem(m) : mosquitto_strerror(r));
	if (fflush(stdout) == EOF)
		fail(m, "standard output: %s", strerror(errno));
}

static int run(struct monitor *m)
{
	_cleanup_(close_fd) int signal_fd = signals_open();
	char error[SERVICE_ERROR_MAX];

	if (signal_fd < 0) {
		fail(m, "signals: %s", strerror(errno));
		return 1;
	}
	if (service_client_new(&m->client, &m->target, m, error) < 0) {
		fail(m, "%s", error);
		return 1;
	}
	mosquitto_connect_v5_callback_set(m->client, on_connect);
	mosquitto_subscribe_v5_callback_set(m->client, on_subscribe);
	mosquitto_message_v5_callback_set(m->client, on_message);
	mosquitto_disconnect_v5_callback_set(m->client, on_disconnect);
	mosquitto_log_callback_set(m->client, on_log);
	if (service_client_connect(m->client, &m->target, error) < 0)
		fail(m, "%s%s%s", error, tls_problem(m) ? ": " : "", tls_problem(m) ? tls_problem(m) : "");
	while (m->state == MONITOR_CONNECTING || m->state == MONITOR_RUNNING)
		step(m, signal_fd);
	fflush(stdout);
	if (m->state == MONITOR_DONE)
		mosquitto_disconnect_v5(m->client, 0, NULL);
	mosquitto_destroy(m->client);
	return m->state == MONITOR_DONE ? 0 : 1;
}

/* --- command line ----------------------------------------------------------------------------- */

static const char help[] =
	"Usage: hubctl monitor [OPTION]...\n"
	"Prints the telemetry that arrives at the hub, one JSON object per line.\n"
	"\n"
	"  --device ID[/MODULE]           of this device only, and of its modules\n"
	"  --count N                      stop after N messages\n"
	"  --json                         JSON lines, which is the default\n"
	"  --connection-string-file FILE  the service's; default $IOTHUB_SERVICE_CONNECTION_STRING_FILE,\n"
	"                                 else the emulator's\n"
	"  --ca-file FILE                 certificates to trust; default ca.pem beside the connection\n"
	"                                 string if there, else the system's\n"
	"  --ready-fd N                   write a line to descriptor N once nothing can be missed\n"
	"  -q, --quiet                    no line on standard error at the start\n"
	"  -h, --help                     this text\n";

static int number_parse(const char *text, unsigned long long max, unsigned long long *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *out <= max ? 0 : -EINVAL;
}

/* 0, or -EINVAL for a wrong value. */
static int option_apply(struct options *o, int id, const char *value)
{
	unsigned long long number;

	switch (id) {
	case 'd':
		o->device = value;
		return *value && strlen(value) <= 257 ? 0 : -EINVAL;
	case 'n':
		return number_parse(value, UINT64_MAX, &o->n_wanted) == 0 && o->n_wanted > 0 ? 0 : -EINVAL;
	case 'f':
		o->connection_string_file = value;
		return 0;
	case 'c':
		o->ca_file = value;
		return 0;
	case 'r':
		if (number_parse(value, INT32_MAX, &number) < 0)
			return -EINVAL;
		o->ready_fd = (int)number;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	default:
		return 0;
	}
}

/* -1, or the exit code. */
static int options_parse(struct options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{"device", required_argument, NULL, 'd'},
		{"count", required_argument, NULL, 'n'},
		{"json", no_argument, NULL, 'j'},
		{"connection-string-file", required_argument, NULL, 'f'},
		{"ca-file", required_argument, NULL, 'c'},
		{"ready-fd", required_argument, NULL, 'r'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int id, index = -1;

	*o = (struct options){.ready_fd = -1};
	optind = 1;
	while ((id = getopt_long(argc, argv, "qh", options, &index)) != -1) {
		if (id == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (id == '?') {
			fputs("Try hubctl monitor --help.\n", stderr);
			return 2;
		}
		if (option_apply(o, id, optarg) < 0) {
			fprintf(stderr, "hubctl: --%s %s: not a valid value; see hubctl monitor --help\n",
				options[index].name, optarg);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "hubctl: what is %s? monitor takes options only; see hubctl monitor --help\n",
			argv[optind]);
		return 2;
	}
	return -1;
}

int hubctl_monitor(int argc, char **argv)
{
	struct monitor m = {.state = MONITOR_CONNECTING};
	char error[SERVICE_ERROR_MAX];
	int code = options_parse(&m.options, argc, argv);

	if (code >= 0)
		return code;
	if (service_target_read(&m.target, m.options.connection_string_file, m.options.ca_file, error) < 0) {
		fprintf(stderr, "hubctl: %s\n", error);
		return 1;
	}
	snprintf(m.topic, sizeof(m.topic), "%s%s%s", TOPIC, m.options.device ? "/" : "",
		 m.options.device ? m.options.device : "");
	signal(SIGPIPE, SIG_IGN);
	mosquitto_lib_init();
	code = run(&m);
	mosquitto_lib_cleanup();
	service_target_wipe(&m.target);
	return code;
}
