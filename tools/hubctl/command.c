/* SPDX-License-Identifier: MIT */
/*
 * `hubctl command send|list|purge`: the queue of commands for a device.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "commands.h"
#include "input.h"
#include "output.h"
#include "request.h"

#define N_PROPERTIES_MAX 64
#define EXPIRY_MAX_S     172800

/* --- send ------------------------------------------------------------------------------------- */

static const char send_help[] =
	"Usage: hubctl command send DEVICE[/MODULE] [PAYLOAD] [OPTION]...\n"
	"Puts a command into the device's queue; the payload comes from standard input when it is\n"
	"not given. Prints the command's sequence number.\n"
	"\n"
	"  --file FILE                    the payload is in FILE; - is standard input\n"
	"  --property NAME=VALUE          an application property; can be given many times\n"
	"  --message-id TEXT, --user-id TEXT, --correlation-id TEXT, --creation-time TIME,\n"
	"  --content-type TEXT, --content-encoding TEXT\n"
	"                                 the message's system properties\n"
	"  --expiry SECONDS               when it is given up, 1 to 172800; 3600\n" ARGS_COMMON_HELP;

enum send_id {
	SEND_FILE = 1,
	SEND_PROPERTY,
	SEND_CONTENT_TYPE,
	SEND_EXPIRY,
	SEND_TEXT, /* and up: a User Property under the option's name */
};

static const struct option send_options[] = {
	{"file", required_argument, NULL, SEND_FILE},
	{"property", required_argument, NULL, SEND_PROPERTY},
	{"content-type", required_argument, NULL, SEND_CONTENT_TYPE},
	{"expiry", required_argument, NULL, SEND_EXPIRY},
	{"message-id", required_argument, NULL, SEND_TEXT},
	{"user-id", required_argument, NULL, SEND_TEXT + 1},
	{"correlation-id", required_argument, NULL, SEND_TEXT + 2},
	{"creation-time", required_argument, NULL, SEND_TEXT + 3},
	{"content-encoding", required_argument, NULL, SEND_TEXT + 4},
	{NULL, 0, NULL, 0},
};

#define N_TEXTS 5

struct send_options {
	const char *file;
	const char *content_type;
	const char *texts[N_TEXTS];
	const char *properties[N_PROPERTIES_MAX]; /* NAME=VALUE */
	size_t n_properties;
	uint64_t expiry_s; /* 0: the hub's default */
};

static int send_apply(void *own, int id, const char *value)
{
	struct send_options *o = own;

	switch (id) {
	case SEND_FILE:
		o->file = value;
		return 0;
	case SEND_CONTENT_TYPE:
		o->content_type = value;
		return 0;
	case SEND_EXPIRY:
		return args_number(value, EXPIRY_MAX_S, &o->expiry_s) == 0 && o->expiry_s > 0 ? 0 : -EINVAL;
	case SEND_PROPERTY:
		if (o->n_properties == N_PROPERTIES_MAX || !strchr(value, '=') || *value == '=')
			return -EINVAL;
		o->properties[o->n_properties++] = value;
		return 0;
	default:
		o->texts[id - SEND_TEXT] = value;
		return 0;
	}
}

/* `NAME=VALUE` as the User Property `@NAME`. */
static void application_property(struct request *q, const char *text)
{
	const char *value = strchr(text, '=') + 1;
	_cleanup_(free_ptr) char *name = NULL;

	if (asprintf(&name, "@%.*s", (int)(value - 1 - text), text) < 0) {
		name = NULL;
		q->error = MOSQ_ERR_NOMEM;
		return;
	}
	request_property(q, name, value);
}

static void send_properties(struct request *q, const struct send_options *o)
{
	request_property(q, "device", q->about);
	for (const struct option *option = send_options; option->name; option++) {
		if (option->val >= SEND_TEXT)
			request_property(q, option->name, o->texts[option->val - SEND_TEXT]);
	}
	if (o->expiry_s)
		request_property_number(q, "ttl", o->expiry_s);
	for (size_t i = 0; i < o->n_properties; i++)
		application_property(q, o->properties[i]);
	request_content_type(q, o->content_type);
}

static int print_sent(struct session *s, const struct args *args, const struct session_reply *reply,
		      void *own)
{
	char sequence_no[24], enqueued_time[40];
	json_object *object;
	uint64_t number;

	(void)own;
	if (!session_reply_property(reply, "sequence-no", sequence_no, sizeof(sequence_no)) ||
	    !session_reply_property(reply, "enqueued-time", enqueued_time, sizeof(enqueued_time)) ||
	    args_number(sequence_no, UINT64_MAX, &number) < 0)
		return session_fail(s, "%s did not say the command's number", s->target.host);
	if (!args->json) {
		printf("command %s, enqueued %s\n", sequence_no, enqueued_time);
		return 0;
	}
	object = json_object_new_object();
	json_object_object_add(object, "sequence-no", json_object_new_uint64(number));
	json_object_object_add(object, "enqueued-time", json_object_new_string(enqueued_time));
	output_json(object);
	json_object_put(object);
	return 0;
}

static int send_run(const struct args *args, const struct send_options *o)
{
	struct request q = {.topic = "$service/commands/send", .about = args->words[0]};
	_cleanup_(free_ptr) char *payload = NULL;
	size_t len;

	if (input_read(args->words[1], o->file ? o->file : "-", &payload, &len) < 0)
		return 1;
	q.payload = BYTES(payload, len);
	send_properties(&q, o);
	return request_run(args, &q, print_sent, NULL);
}

int hubctl_command_send(int argc, char **argv)
{
	struct send_options own = {.file = NULL};
	const struct args_spec spec = {
		.command = "command send",
		.help = send_help,
		.words = "DEVICE [PAYLOAD]",
		.n_words_min = 1,
		.n_words_max = 2,
		.options = send_options,
		.apply = send_apply,
		.own = &own,
	};
	struct args args;
	int code = args_parse(&args, &spec, argc, argv);

	if (code < 0)
		code = args_device(&spec, args.words[0]);
	if (code < 0 && args.words[1] && own.file)
		code = args_wrong(&spec, "PAYLOAD or --file, not both");
	return code >= 0 ? code : send_run(&args, &own);
}

/* --- list ------------------------------------------------------------------------------------- */

static const char list_help[] =
	"Usage: hubctl command list DEVICE[/MODULE] [OPTION]...\n"
	"Prints the commands that wait for the device, and those that were given up.\n"
	"\n" ARGS_COMMON_HELP;

/* What people see of a payload is one column, whatever it is. */
static void payloads_unify(json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *row = json_object_array_get_idx(list, i), *payload;

		if (!json_object_object_get_ex(row, "payload", &payload) &&
		    json_object_object_get_ex(row, "payload-base64", &payload))
			json_object_object_add(row, "payload", json_object_get(payload));
	}
}

static void list_print(const struct args *args, json_object *list)
{
	static const struct output_column columns[] = {
		{"NUMBER", "/sequence-no"},     {"STATE", "/state"},        {"WHY", "/dead-letter-reason"},
		{"ENQUEUED", "/enqueued-time"}, {"EXPIRES", "/expires-at"}, {"DELIVERIES", "/delivery-count"},
		{"PAYLOAD", "/payload"},
	};

	if (args->json) {
		output_json(list);
		return;
	}
	payloads_unify(list);
	output_table(list, columns, ARRAY_SIZE(columns), "no commands");
}

int hubctl_command_list(int argc, char **argv)
{
	static const struct args_spec spec = {
		.command = "command list",
		.help = list_help,
		.words = "DEVICE",
		.n_words_min = 1,
		.n_words_max = 1,
	};
	struct args args;
	struct session s;
	json_object *list = NULL;
	int code = args_parse(&args, &spec, argc, argv);

	if (code < 0)
		code = args_device(&spec, args.words[0]);
	if (code >= 0)
		return code;
	if (session_open(&s, &args) == 0)
		list = request_list(&s, &args, "$service/commands/list", args.words[0], "sequence-no");
	session_close(&s);
	if (list)
		list_print(&args, list);
	code = list ? 0 : 1;
	json_object_put(list);
	return code;
}

/* --- purge ------------------------------------------------------------------------------------ */

static const char purge_help[] =
	"Usage: hubctl command purge DEVICE[/MODULE] [OPTION]...\n"
	"Empties the device's queue and removes what was given up. Prints how many went.\n"
	"\n"
	"  --state STATE                  only those that are queued, or dead-lettered\n" ARGS_COMMON_HELP;

static int purge_apply(void *own, int id, const char *value)
{
	const char **state = own;

	(void)id;
	*state = value;
	return strcmp(value, "queued") == 0 || strcmp(value, "dead-lettered") == 0 ? 0 : -EINVAL;
}

static int print_purged(struct session *s, const struct args *args, const struct session_reply *reply,
			void *own)
{
	json_object *object = request_reply_json(s, reply, json_type_object), *n;

	(void)own;
	if (!object)
		return -1;
	if (args->json)
		output_json(object);
	else if (json_object_object_get_ex(object, "purged", &n))
		printf("purged %s\n", json_object_get_string(n));
	json_object_put(object);
	return 0;
}

int hubctl_command_purge(int argc, char **argv)
{
	static const struct option options[] = {
		{"state", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	const char *state = NULL;
	const struct args_spec spec = {
		.command = "command purge",
		.help = purge_help,
		.words = "DEVICE",
		.n_words_min = 1,
		.n_words_max = 1,
		.options = options,
		.apply = purge_apply,
		.own = &state,
	};
	struct request q = {.topic = "$service/commands/purge"};
	struct args args;
	int code = args_parse(&args, &spec, argc, argv);

	if (code < 0)
		code = args_device(&spec, args.words[0]);
	if (code >= 0)
		return code;
	q.about = args.words[0];
	request_property(&q, "device", q.about);
	request_property(&q, "state", state);
	return request_run(&args, &q, print_purged, NULL);
}
