/* SPDX-License-Identifier: MIT */
/*
 * `hubctl command list|watch|purge`: the queue of commands for a device, and how they end. command_send.c fills it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "commands.h"
#include "listen.h"
#include "output.h"
#include "request.h"

/* --- list ------------------------------------------------------------------------------------- */

static const char list_help[] =
	"Usage: hubctl command list DEVICE[/MODULE] [OPTION]...\n"
	"Prints the commands that wait for the device, and those that were given up.\n"
	"\n"
	"  --all                          those that were completed, too\n"
	"  --json-lines                   JSON, one object per line\n" ARGS_COMMON_HELP;

struct list_options {
	bool all, json_lines;
};

static int list_apply(void *own, int id, const char *value)
{
	struct list_options *o = own;

	(void)value;
	if (id == 'a')
		o->all = true;
	else
		o->json_lines = true;
	return 0;
}

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

static void list_print(const struct args *args, const struct list_options *o, json_object *list)
{
	static const struct output_column columns[] = {
		{"NUMBER", "/sequence-no"},     {"STATE", "/state"},        {"WHY", "/dead-letter-reason"},
		{"ENQUEUED", "/enqueued-time"}, {"EXPIRES", "/expires-at"}, {"DELIVERIES", "/delivery-count"},
		{"PAYLOAD", "/payload"},
	};

	if (o->json_lines) {
		for (size_t i = 0; i < json_object_array_length(list); i++)
			output_json(json_object_array_get_idx(list, i));
		return;
	}
	if (args->json) {
		output_json(list);
		return;
	}
	payloads_unify(list);
	output_table(list, columns, ARRAY_SIZE(columns), "no commands");
}

int hubctl_command_list(int argc, char **argv)
{
	static const struct option options[] = {
		{"all", no_argument, NULL, 'a'},
		{"json-lines", no_argument, NULL, 'l'},
		{NULL, 0, NULL, 0},
	};
	struct list_options own = {.all = false};
	const struct args_spec spec = {
		.command = "command list",
		.help = list_help,
		.words = "DEVICE",
		.n_words_min = 1,
		.n_words_max = 1,
		.options = options,
		.apply = list_apply,
		.own = &own,
	};
	struct list_request rq = {.topic = "$service/commands/list", .key = "sequence-no"};
	struct args args;
	struct session s;
	json_object *list = NULL;
	int code = args_parse(&args, &spec, argc, argv);

	if (code < 0)
		code = args_device(&spec, args.words[0]);
	if (code >= 0)
		return code;
	rq.device = args.words[0];
	rq.option = own.all ? "completed" : NULL;
	if (session_open(&s, &args) == 0)
		list = request_list(&s, &args, &rq);
	session_close(&s);
	if (list)
		list_print(&args, &own, list);
	code = list ? 0 : 1;
	json_object_put(list);
	return code;
}

/* --- watch ------------------------------------------------------------------------------------ */

static const char watch_help[] =
	"Usage: hubctl command watch [DEVICE[/MODULE]] [OPTION]...\n"
	"Prints how commands end, of all devices, or of a device's and its modules', one JSON object\n"
	"per line.\n"
	"\n" LISTEN_HELP ARGS_COMMON_HELP;

static json_object *outcome_to_json(struct bytes payload, const mosquitto_property *properties)
{
	(void)payload;
	return listen_properties(properties);
}

static int watch_apply(void *own, int id, const char *value)
{
	return listen_apply(own, id, value);
}

int hubctl_command_watch(int argc, char **argv)
{
	static const struct option options[] = {
		LISTEN_OPTIONS,
		{NULL, 0, NULL, 0},
	};
	struct listen listen = {
		.topic = "$service/commands/outcomes",
		.start = "watching",
		.convert = outcome_to_json,
		.ready_fd = -1,
	};
	const struct args_spec spec = {
		.command = "command watch",
		.help = watch_help,
		.words = "[DEVICE]",
		.n_words_max = 1,
		.options = options,
		.apply = watch_apply,
		.own = &listen,
	};
	struct args args;
	int code = args_parse(&args, &spec, argc, argv);

	if (code < 0)
		code = args_device(&spec, args.words[0]);
	if (code >= 0)
		return code;
	listen.device = args.words[0];
	return listen_run(&listen, &args);
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
