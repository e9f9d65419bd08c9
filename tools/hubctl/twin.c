/* SPDX-License-Identifier: MIT */
/*
 * `hubctl twin show|patch|watch`.
 *
 * A change of a twin is printed as
 *
 *   {"device-id": …, "module-id": …, "part": "desired" or "reported", "version": N, "patch": {…}}
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "listen.h"
#include "output.h"
#include "verb.h"

/* --- show ------------------------------------------------------------------------------------- */

static const char show_help[] = "Usage: hubctl twin show DEVICE[/MODULE] [OPTION]...\n"
				"Prints the twin, desired and reported properties with their versions.\n"
				"\n" ARGS_COMMON_HELP;

const struct verb verb_twin_show = {
	.name = "twin show",
	.what = "print a twin",
	.help = show_help,
	VERB_OF_DEVICE,
	.topic = "$service/twin/show",
	.type = json_type_object,
	.show = output_json_pretty,
};

/* --- patch ------------------------------------------------------------------------------------ */

static const char patch_help[] =
	"Usage: hubctl twin patch DEVICE[/MODULE] [PATCH] [OPTION]...\n"
	"Changes the desired properties by a merge patch (RFC 7396), a JSON object in which null\n"
	"removes; it comes from standard input when it is not given. Prints the new version.\n"
	"\n"
	"  --file FILE                    the patch is in FILE; - is standard input\n"
	"  --if-version N                 only when N is still the version of the desired "
	"properties\n" ARGS_COMMON_HELP;

struct patch_options {
	const char *file;
	bool has_version;
	uint64_t if_version;
};

static int patch_apply(void *own, int id, const char *value)
{
	struct patch_options *o = own;

	if (id == 'f') {
		o->file = value;
		return 0;
	}
	o->has_version = true;
	return args_number(value, UINT64_MAX, &o->if_version);
}

static int print_version(struct session *s, const struct args *args, const struct session_reply *reply,
			 void *own)
{
	json_object *object;
	uint64_t version;
	char text[24];

	(void)own;
	if (!session_property(reply->properties, "version", text, sizeof(text)) ||
	    args_number(text, UINT64_MAX, &version) < 0)
		return session_fail(s, "%s did not say the version", s->target.host);
	if (!args->json) {
		printf("version %s\n", text);
		return 0;
	}
	object = json_object_new_object();
	json_object_object_add(object, "version", json_object_new_uint64(version));
	output_json(object);
	json_object_put(object);
	return 0;
}

/* Whether it is one JSON object and nothing behind it; else a line says what is wrong. */
static bool patch_is_valid(const char *text, size_t len)
{
	struct json_tokener *tokener = json_tokener_new();
	enum json_tokener_error error;
	json_object *json;
	bool is_object;
	size_t end;

	if (!tokener)
		return false;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* With the NUL, so that a number in the end is seen to have ended. */
	json = json_tokener_parse_ex(tokener, text, (int)len + 1);
	error = json_tokener_get_error(tokener);
	end = json_tokener_get_parse_end(tokener);
	is_object = json_object_is_type(json, json_type_object);
	json_object_put(json);
	json_tokener_free(tokener);
	if (error == json_tokener_success && is_object && end >= len)
		return true;
	if (error == json_tokener_success)
		fprintf(stderr, "hubctl: the patch is not a JSON object, such as {\"interval\":5}\n");
	else
		fprintf(stderr, "hubctl: the patch is not JSON: %s at byte %zu\n",
			error == json_tokener_continue ? "it ends too early" : json_tokener_error_desc(error),
			end);
	return false;
}

static int patch_check(const struct verb *verb, const struct args *args, const void *own)
{
	const struct patch_options *o = own;

	return args->words[1] && o->file ? args_wrong(verb, "PATCH or --file, not both") : -1;
}

static int patch_build(struct request *q, struct args *args, const void *own)
{
	const struct patch_options *o = own;

	if (request_payload_read(q, args->words[1], o->file ? o->file : "-") < 0 ||
	    !patch_is_valid(q->payload_taken, q->payload.len))
		return 1;
	if (o->has_version)
		request_property_number(q, "if-version", o->if_version);
	return -1;
}

static const struct option patch_options[] = {
	{"file", required_argument, NULL, 'f'},
	{"if-version", required_argument, NULL, 'v'},
	{NULL, 0, NULL, 0},
};

const struct verb verb_twin_patch = {
	.name = "twin patch",
	.what = "change its desired properties",
	.help = patch_help,
	.words = "DEVICE [PATCH]",
	.n_words_min = 1,
	.n_words_max = 2,
	.is_about_device = true,
	.options = patch_options,
	.apply = patch_apply,
	.own_size = sizeof(struct patch_options),
	.check = patch_check,
	.topic = "$service/twin/patch",
	.build = patch_build,
	.print = print_version,
};

/* --- watch ------------------------------------------------------------------------------------ */

static const char watch_help[] = "Usage: hubctl twin watch [DEVICE[/MODULE]] [OPTION]...\n"
				 "Prints the changes of all twins, or of a device's and its modules', one\n"
				 "JSON object per line.\n"
				 "\n" LISTEN_HELP ARGS_COMMON_HELP;

static json_object *change_to_json(struct bytes payload, const mosquitto_property *properties)
{
	json_object *change = listen_properties(properties);
	struct json_tokener *tokener = json_tokener_new();

	if (!change || !tokener) {
		json_object_put(change);
		json_tokener_free(tokener);
		return NULL;
	}
	json_object_object_add(change, "patch",
			       json_tokener_parse_ex(tokener, (const char *)payload.data, (int)payload.len));
	json_tokener_free(tokener);
	return change;
}

static const struct listen watch_defaults = {
	.topic = "$service/twin/changes",
	.start = "watching",
	.convert = change_to_json,
	.ready_fd = -1,
};

const struct verb verb_twin_watch = {
	.name = "twin watch",
	.what = "print changes of twins, as JSON lines",
	.help = watch_help,
	.words = "[DEVICE]",
	.n_words_max = 1,
	.is_about_device = true,
	.options = listen_options,
	LISTEN_VERB(watch_defaults),
};
