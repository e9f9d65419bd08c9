/* SPDX-License-Identifier: MIT */
/*
 * `hubctl method call`: a question to a device, and its answer.
 *
 * Two times are the hub's to keep: how long to wait for the device (--connect-timeout) and for its answer
 * (--timeout). hubctl waits for both and a while longer, so that the hub is the one to say which passed.
 *
 * A device says how it went by a number, in the manner of HTTP. From 400 up it is an error, and the exit code
 * is 1; the payload is printed either way.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "output.h"
#include "verb.h"

#define CONNECT_TIMEOUT_MS 10000 /* for hubctl's own connection */
#define PATIENCE_MS        5000
#define TIMEOUT_DEFAULT_S  30
#define TIMEOUT_MAX_S      300
#define FIRST_ERROR_CODE   400

static const char help[] =
	"Usage: hubctl method call DEVICE[/MODULE] NAME [PAYLOAD] [OPTION]...\n"
	"Calls a method of a device and prints the payload of its answer. Exit code 1 also when the\n"
	"answer's response-code is 400 or more.\n"
	"\n"
	"  --file FILE                    the payload is in FILE; - is standard input\n"
	"  --timeout SECONDS              how long to wait for the answer, 1 to 300; 30\n"
	"  --connect-timeout SECONDS      how long to wait for the device to be there, 0 to 300; 0\n"
	"  --connection-string-file FILE  the service's; default $IOTHUB_SERVICE_CONNECTION_STRING_FILE,\n"
	"                                 else the emulator's\n"
	"  --ca-file FILE                 certificates to trust; default ca.pem beside the connection\n"
	"                                 string if there, else the system's\n"
	"  --json                         JSON on standard output, with the response-code\n"
	"  -h, --help                     this text\n";

struct call_options {
	const char *file;
	uint64_t connect_timeout_s;
};

static int apply(void *own, int id, const char *value)
{
	struct call_options *o = own;

	if (id == 'c')
		return args_number(value, TIMEOUT_MAX_S, &o->connect_timeout_s);
	o->file = value;
	return 0;
}

static int print_json(struct session *s, const struct session_reply *reply, uint64_t response_code)
{
	json_object *object = json_object_new_object();
	int r;

	json_object_object_add(object, "response-code", json_object_new_uint64(response_code));
	r = output_payload_add(object, BYTES(reply->payload, reply->payload_len));
	if (r < 0)
		session_fail(s, "out of memory");
	else
		output_json(object);
	json_object_put(object);
	return r;
}

static int print_answer(struct session *s, const struct args *args, const struct session_reply *reply,
			void *own)
{
	uint64_t response_code;
	char text[16];

	(void)own;
	if (!session_property(reply->properties, "response-code", text, sizeof(text)) ||
	    args_number(text, UINT32_MAX, &response_code) < 0)
		return session_fail(s, "%s did not say the response-code", s->target.host);
	if (args->json && print_json(s, reply, response_code) < 0)
		return -1;
	if (!args->json && reply->payload_len) {
		fwrite(reply->payload, 1, reply->payload_len, stdout);
		/* A program gets the bytes as they are. */
		if (isatty(STDOUT_FILENO))
			putchar('\n');
	}
	if (response_code < FIRST_ERROR_CODE)
		return 0;
	return session_fail(s, "%s: %s: the device answered %s", args->words[0], args->words[1], text);
}

/* Connects as everyone does, and then has more patience. */
static int build(struct request *q, struct args *args, const void *own)
{
	const struct call_options *o = own;
	uint64_t response_timeout_ms =
		args->has_timeout ? args->timeout_ms : TIMEOUT_DEFAULT_S * MSEC_PER_SEC;

	if (request_payload_read(q, args->words[2], o->file) < 0)
		return 1;
	request_property(q, "method", args->words[1]);
	request_property_number(q, "response-timeout", response_timeout_ms / MSEC_PER_SEC);
	request_property_number(q, "connect-timeout", o->connect_timeout_s);
	args->timeout_ms = CONNECT_TIMEOUT_MS;
	q->timeout_ms = o->connect_timeout_s * MSEC_PER_SEC + response_timeout_ms + PATIENCE_MS;
	return -1;
}

static int check(const struct verb *verb, const struct args *args, const void *own)
{
	const struct call_options *o = own;
	const char *name = args->words[1];

	if (!*name || strpbrk(name, "/+#"))
		return args_wrong(verb, "%s is not the name of a method", name);
	if (args->words[2] && o->file)
		return args_wrong(verb, "PAYLOAD or --file, not both");
	if (args->has_timeout &&
	    (args->timeout_ms % MSEC_PER_SEC || args->timeout_ms > TIMEOUT_MAX_S * MSEC_PER_SEC))
		return args_wrong(verb, "--timeout takes whole seconds from 1 to %d", TIMEOUT_MAX_S);
	return -1;
}

static const struct option options[] = {
	{"file", required_argument, NULL, 'f'},
	{"connect-timeout", required_argument, NULL, 'c'},
	{NULL, 0, NULL, 0},
};

const struct verb verb_method_call = {
	.name = "method call",
	.what = "call a device's method and print the answer",
	.help = help,
	.words = "DEVICE NAME [PAYLOAD]",
	.n_words_min = 2,
	.n_words_max = 3,
	.is_about_device = true,
	.options = options,
	.apply = apply,
	.own_size = sizeof(struct call_options),
	.check = check,
	.topic = "$service/methods/call",
	.build = build,
	.print = print_answer,
};
