/* SPDX-License-Identifier: MIT */
/*
 * `hubctl command list|watch|purge`: the queue of commands for a device, and how they end. command_send.c fills it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "listen.h"
#include "output.h"
#include "verb.h"

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

static void list_print(const struct args *args, json_object *list, const void *own)
{
	const struct list_options *o = own;
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

static int list_run(const struct args *args, void *own)
{
	const struct list_options *o = own;
	const struct list_request rq = {
		.topic = "$service/commands/list",
		.device = args->words[0],
		.option = o->all ? "completed" : NULL,
		.key = "sequence-no",
	};

	return request_list_run(args, &rq, list_print, o);
}

static const struct option list_options[] = {
	{"all", no_argument, NULL, 'a'},
	{"json-lines", no_argument, NULL, 'l'},
	{NULL, 0, NULL, 0},
};

const struct verb verb_command_list = {
	.name = "command list",
	.what = "what is in it, and which were given up",
	.help = list_help,
	VERB_OF_DEVICE,
	.options = list_options,
	.apply = list_apply,
	.own_size = sizeof(struct list_options),
	.run = list_run,
};

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

static const struct listen watch_defaults = {
	.topic = "$service/commands/outcomes",
	.start = "watching",
	.convert = outcome_to_json,
	.ready_fd = -1,
};

const struct verb verb_command_watch = {
	.name = "command watch",
	.what = "print how commands end, as JSON lines",
	.help = watch_help,
	.words = "[DEVICE]",
	.n_words_max = 1,
	.is_about_device = true,
	.options = listen_options,
	LISTEN_VERB(watch_defaults),
};

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

static int purge_build(struct request *q, struct args *args, const void *own)
{
	const char *const *state = own;

	(void)args;
	request_property(q, "state", *state);
	return -1;
}

static void purge_show(json_object *answer)
{
	json_object *n;

	if (json_object_object_get_ex(answer, "purged", &n))
		printf("purged %s\n", json_object_get_string(n));
}

static const struct option purge_options[] = {
	{"state", required_argument, NULL, 's'},
	{NULL, 0, NULL, 0},
};

const struct verb verb_command_purge = {
	.name = "command purge",
	.what = "empty it",
	.help = purge_help,
	VERB_OF_DEVICE,
	.options = purge_options,
	.apply = purge_apply,
	.own_size = sizeof(const char *),
	.topic = "$service/commands/purge",
	.build = purge_build,
	.type = json_type_object,
	.show = purge_show,
};
