/* SPDX-License-Identifier: MIT */
/*
 * The command line. Every wrong value is one line that names the option.
 */

#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/cleanup.h"
#include "mqtt/packet.h"

enum option_id {
	OPT_LISTEN = 256,
	OPT_PORT,
	OPT_HOST,
	OPT_STATE,
	OPT_DEVICE,
	OPT_CLIENT_CA,
	OPT_READY_FD,
	OPT_SEED,
	OPT_PUBACK_DELAY,
	OPT_REFUSE,
	OPT_REFUSE_CONNECT,
	OPT_CUT_EVERY,
	OPT_RECEIVE_MAXIMUM,
	OPT_MAX_PACKET_SIZE,
	OPT_TOPIC_ALIAS_MAXIMUM,
	OPT_KEEP_ALIVE,
	OPT_REDELIVERY_DELAY,
	OPT_MAX_DELIVERIES,
	OPT_QUIET = 'q',
	OPT_VERBOSE = 'v',
	OPT_HELP = 'h',
	OPT_VERSION = 'V',
};

static const struct option long_options[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"port", required_argument, NULL, OPT_PORT},
	{"host", required_argument, NULL, OPT_HOST},
	{"state", required_argument, NULL, OPT_STATE},
	{"device", required_argument, NULL, OPT_DEVICE},
	{"client-ca", required_argument, NULL, OPT_CLIENT_CA},
	{"ready-fd", required_argument, NULL, OPT_READY_FD},
	{"seed", required_argument, NULL, OPT_SEED},
	{"puback-delay", required_argument, NULL, OPT_PUBACK_DELAY},
	{"refuse", required_argument, NULL, OPT_REFUSE},
	{"refuse-connect", required_argument, NULL, OPT_REFUSE_CONNECT},
	{"cut-every", required_argument, NULL, OPT_CUT_EVERY},
	{"receive-maximum", required_argument, NULL, OPT_RECEIVE_MAXIMUM},
	{"max-packet-size", required_argument, NULL, OPT_MAX_PACKET_SIZE},
	{"topic-alias-maximum", required_argument, NULL, OPT_TOPIC_ALIAS_MAXIMUM},
	{"keep-alive", required_argument, NULL, OPT_KEEP_ALIVE},
	{"redelivery-delay", required_argument, NULL, OPT_REDELIVERY_DELAY},
	{"max-deliveries", required_argument, NULL, OPT_MAX_DELIVERIES},
	{"quiet", no_argument, NULL, OPT_QUIET},
	{"verbose", no_argument, NULL, OPT_VERBOSE},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

static const char help[] =
	"Usage: iothub-emulator [OPTION]...\n"
	"A local IoT hub: MQTT 5 over TLS, for iothubd and any other device.\n"
	"\n"
	"  --listen ADDRESS         listen there; default 127.0.0.1 and ::1\n"
	"  --port N                 default 8883; 0 = any free port\n"
	"  --host NAME              the hub's name, in the certificate too; default localhost\n"
	"  --state DIR              keys, certificates, devices; default /var/lib/iothub-emulator\n"
	"                           as root, else $XDG_STATE_HOME/iothub-emulator\n"
	"  --device ID[/MODULE]     make this device if it is not there; can be repeated\n"
	"  --client-ca FILE         devices may show certificates that an authority in this PEM file\n"
	"                           signed, beside the emulator's own\n"
	"  --ready-fd N             write the port and a newline to descriptor N once it listens\n"
	"  -q, --quiet              warnings and errors only\n"
	"  -v, --verbose            debug lines\n"
	"  -h, --help               this text\n"
	"  -V, --version            the version\n"
	"\n"
	"Limits told to clients:\n"
	"  --receive-maximum N      QoS 1 messages in flight; default 16\n"
	"  --max-packet-size N      bytes; default 262144\n"
	"  --topic-alias-maximum N  default 10\n"
	"  --keep-alive N           seconds; default 1140\n"
	"\n"
	"Commands:\n"
	"  --redelivery-delay MS    what a device abandons comes again that much later; default 1000\n"
	"  --max-deliveries N       after so many it is a dead letter; default 10\n"
	"\n"
	"Faults:\n"
	"  --puback-delay MS        acknowledge telemetry that much later\n"
	"  --refuse STATUS[:N]      answer all (or the next N) telemetry with that status, such as 0501\n"
	"  --refuse-connect REASON[:N]  refuse all (or the next N) devices, reason as in CONNACK: 0x87\n"
	"  --cut-every N[:TIMES]    drop the connection with every N-th telemetry message, half of the\n"
	"                           times before its PUBACK, half after\n"
	"  --seed N                 for what faults draw; default 0\n"
	"\n"
	"SIGTERM ends it in order, SIGUSR1 drops all device connections. See iothub-emulator(1).\n";

/* --- values ----------------------------------------------------------------------------------- */

static int number_parse(const char *text, int base, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;
	unsigned long long value;

	if (!((text[0] >= '0' && text[0] <= '9')))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, base);
	if (errno || *end || value < min || value > max)
		return -EINVAL;
	*out = value;
	return 0;
}

static int u16_parse(const char *text, uint64_t min, uint16_t *out)
{
	uint64_t value;
	int r = number_parse(text, 10, min, UINT16_MAX, &value);

	if (r == 0)
		*out = (uint16_t)value;
	return r;
}

/* Cuts `value[:n]` at the colon; @n stays for ever without one. */
static int count_cut(const char *text, char *value, size_t size, uint64_t *n)
{
	size_t len = strcspn(text, ":");

	if (len == 0 || len >= size)
		return -EINVAL;
	memcpy(value, text, len);
	value[len] = '\0';
	*n = EMU_FAULT_ALWAYS;
	return text[len] ? number_parse(text + len + 1, 10, 1, EMU_FAULT_ALWAYS - 1, n) : 0;
}

static int refuse_parse(const char *text, struct emu_fault_options *fault)
{
	char value[8];
	int r = count_cut(text, value, sizeof(value), &fault->refuse_n);

	if (r == 0)
		r = emu_status_parse(bytes_from_str(value), &fault->refuse_status);
	/* 0000 and 0001 refuse nothing. */
	return r == 0 && fault->refuse_status < STATUS_BAD_REQUEST ? -EINVAL : r;
}

/* CONNACK does not take every reason code. */
static bool is_connack_reason(uint8_t reason)
{
	struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.reason = reason}};
	uint8_t bytes[8];
	struct writer w = writer_init(bytes, sizeof(bytes));

	return mqtt_encode(&w, &packet, MQTT_LEVEL_5) == 0;
}

static int refuse_connect_parse(const char *text, struct emu_fault_options *fault)
{
	uint64_t reason = 0;
	char value[8];
	int r = count_cut(text, value, sizeof(value), &fault->refuse_connect_n);

	if (r == 0)
		r = number_parse(value, 0, 0x80, UINT8_MAX, &reason);
	if (r < 0 || !is_connack_reason((uint8_t)reason))
		return -EINVAL;
	fault->refuse_connect_reason = (uint8_t)reason;
	return 0;
}

static int cut_every_parse(const char *text, struct emu_fault_options *fault)
{
	char value[24];
	int r = count_cut(text, value, sizeof(value), &fault->cut_n);

	return r == 0 ? number_parse(value, 10, 1, EMU_FAULT_ALWAYS - 1, &fault->cut_every) : r;
}

/* --- the line --------------------------------------------------------------------------------- */

static int host_set(const char *name, struct emu_hub_options *hub)
{
	size_t len = strlen(name);

	if (len == 0 || len > 253 || strpbrk(name, "; \t"))
		return -EINVAL;
	hub->host = name;
	return 0;
}

static int device_add(struct emu_options *o, const char *id)
{
	const char **grown;

	if (!emu_identity_id_is_valid(id))
		return -EINVAL;
	grown = reallocarray(o->devices, o->n_devices + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	o->devices = grown;
	o->devices[o->n_devices++] = id;
	return 0;
}

static int text_set(struct emu_options *o, int id, const char *text)
{
	switch (id) {
	case OPT_LISTEN:
		o->listen = text;
		return 0;
	case OPT_CLIENT_CA:
		o->client_ca = text;
		return 0;
	case OPT_HOST:
		return host_set(text, &o->hub);
	case OPT_STATE:
		free(o->state);
		o->state = strdup(text);
		return o->state ? 0 : -ENOMEM;
	case OPT_DEVICE:
		return device_add(o, text);
	case OPT_REFUSE:
		return refuse_parse(text, &o->hub.fault);
	case OPT_REFUSE_CONNECT:
		return refuse_connect_parse(text, &o->hub.fault);
	case OPT_CUT_EVERY:
		return cut_every_parse(text, &o->hub.fault);
	}
	return -EINVAL;
}

static int number_set(struct emu_options *o, int id, const char *text)
{
	uint64_t value = 0;
	int r;

	switch (id) {
	case OPT_PORT:
		return u16_parse(text, 0, &o->port);
	case OPT_RECEIVE_MAXIMUM:
		return u16_parse(text, 1, &o->hub.receive_maximum);
	case OPT_TOPIC_ALIAS_MAXIMUM:
		return u16_parse(text, 0, &o->hub.topic_alias_maximum);
	case OPT_KEEP_ALIVE:
		return u16_parse(text, 1, &o->hub.keep_alive_s);
	case OPT_SEED:
		return number_parse(text, 10, 0, UINT64_MAX, &o->hub.fault.seed);
	case OPT_PUBACK_DELAY:
		return number_parse(text, 10, 0, 24 * 3600 * MSEC_PER_SEC, &o->hub.fault.puback_delay_ms);
	case OPT_REDELIVERY_DELAY:
		return number_parse(text, 10, 0, 24 * 3600 * MSEC_PER_SEC, &o->hub.redelivery_delay_ms);
	case OPT_MAX_DELIVERIES:
		r = number_parse(text, 10, 1, UINT32_MAX, &value);
		if (r == 0)
			o->hub.deliveries_max = (uint32_t)value;
		return r;
	case OPT_MAX_PACKET_SIZE:
		r = number_parse(text, 10, EMU_PACKET_SIZE_MIN, EMU_PACKET_SIZE_MAX, &value);
		if (r == 0)
			o->hub.maximum_packet_size = (uint32_t)value;
		return r;
	case OPT_READY_FD:
		r = number_parse(text, 10, 0, INT32_MAX, &value);
		if (r == 0)
			o->ready_fd = (int)value;
		return r;
	}
	return text_set(o, id, text);
}

static int state_set_default(struct emu_options *o)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n;

	if (o->state)
		return 0;
	if (geteuid() == 0)
		n = asprintf(&o->state, "/var/lib/iothub-emulator");
	else if (xdg && *xdg == '/')
		n = asprintf(&o->state, "%s/iothub-emulator", xdg);
	else
		n = asprintf(&o->state, "%s/.local/state/iothub-emulator", home ? home : "");
	if (n < 0)
		o->state = NULL;
	return n < 0 ? -ENOMEM : 0;
}

static const char *option_name(int id)
{
	for (const struct option *option = long_options; option->name; option++) {
		if (option->val == id)
			return option->name;
	}
	return "?";
}

static enum emu_options_result option_apply(struct emu_options *o, int id)
{
	switch (id) {
	case OPT_QUIET:
		o->level = LOG_LEVEL_WARNING;
		return OPTIONS_RUN;
	case OPT_VERBOSE:
		o->level = LOG_LEVEL_DEBUG;
		return OPTIONS_RUN;
	case OPT_HELP:
		fputs(help, stdout);
		return OPTIONS_DONE;
	case OPT_VERSION:
		puts("iothub-emulator " IOTHUB_VERSION);
		return OPTIONS_DONE;
	case '?':
		fputs("Try iothub-emulator --help.\n", stderr);
		return OPTIONS_WRONG;
	}
	if (number_set(o, id, optarg) == 0)
		return OPTIONS_RUN;
	fprintf(stderr, "iothub-emulator: --%s %s: not a valid value; see --help\n", option_name(id), optarg);
	return OPTIONS_WRONG;
}

enum emu_options_result emu_options_parse(struct emu_options *o, int argc, char **argv)
{
	enum emu_options_result result = OPTIONS_RUN;
	int id;

	*o = (struct emu_options){
		.port = 8883,
		.level = LOG_LEVEL_INFO,
		.ready_fd = -1,
		.hub = EMU_HUB_OPTIONS_DEFAULT,
	};
	o->hub.host = "localhost";
	optind = 1;
	while (result == OPTIONS_RUN && (id = getopt_long(argc, argv, "qvhV", long_options, NULL)) != -1)
		result = option_apply(o, id);
	if (result == OPTIONS_RUN && optind < argc) {
		fprintf(stderr, "iothub-emulator: what is %s? It takes options only; see --help\n",
			argv[optind]);
		result = OPTIONS_WRONG;
	}
	if (result == OPTIONS_RUN && state_set_default(o) < 0)
		result = OPTIONS_WRONG;
	return result;
}

void emu_options_deinit(struct emu_options *o)
{
	free(o->state);
	free(o->devices);
	o->state = NULL;
	o->devices = NULL;
	o->n_devices = 0;
}
