/* SPDX-License-Identifier: MIT */
/*
 * `hubctl fault set|list|clear`: the hub misbehaves on demand.
 *
 * A fault is a JSON object. On the command line it is its kind and `NAME=VALUE` words, or the object itself.
 * The names and what their values are stand in a table here, so that a slip of the pen is caught; which of
 * them go with which kind is the hub's to say.
 */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "output.h"
#include "verb.h"

/* --- set -------------------------------------------------------------------------------------- */

static const char set_help[] =
	"Usage: hubctl fault set KIND [NAME=VALUE]... [OPTION]...\n"
	"       hubctl fault set '{\"fault\":\"KIND\",...}' [OPTION]...\n"
	"Makes the hub misbehave. Prints the fault's number, for hubctl fault clear.\n"
	"\n"
	"  status status=HEX [operation=OP]     answer with this status and do nothing\n"
	"  throttle rate=N [burst=N]            0501 for telemetry over N a second\n"
	"  quota messages=N                     0502 for telemetry after N messages\n"
	"  delay ms=N [operation=OP]            answer that much later\n"
	"  lose-puback                          telemetry counts, its PUBACK is lost\n"
	"  cut [operation=OP] [every=N] [when=before|unanswered|after|either]\n"
	"                                       drop the connection at every Nth packet\n"
	"  slow [bytes=N] [ms=N]                write so many bytes, wait so long\n"
	"  refuse reason=N [server-reference=S] refuse connections\n"
	"  suback [reason=N] [topic=T]          refuse subscriptions\n"
	"  limits [receive-maximum=N] [maximum-packet-size=N] [topic-alias-maximum=N]\n"
	"         [keep-alive=N] [session-expiry=N]\n"
	"                                       of the next connections\n"
	"  expire, take-over, drop, forget-session,\n"
	"  disconnect reason=N [status=HEX] [server-reference=S]\n"
	"                                       at once, to every connection\n"
	"\n"
	"All take device=ID; all but the last five count=N (how often) and fraction=0.5 (of the\n"
	"occasions). OP: connect, telemetry, twin-get, twin-patch, subscribe, auth or any.\n"
	"See FAULTS in iothub-emulator(1).\n"
	"\n" ARGS_COMMON_HELP;

enum member_type {
	MEMBER_TEXT,
	MEMBER_NUMBER,
	MEMBER_FRACTION,
	MEMBER_REASON, /* a number, or one with 0x */
};

static const struct member {
	const char *name;
	enum member_type type;
} members[] = {
	{"device", MEMBER_TEXT},
	{"operation", MEMBER_TEXT},
	{"count", MEMBER_NUMBER},
	{"fraction", MEMBER_FRACTION},
	{"status", MEMBER_TEXT},
	{"rate", MEMBER_FRACTION},
	{"burst", MEMBER_NUMBER},
	{"messages", MEMBER_NUMBER},
	{"ms", MEMBER_NUMBER},
	{"every", MEMBER_NUMBER},
	{"when", MEMBER_TEXT},
	{"bytes", MEMBER_NUMBER},
	{"reason", MEMBER_REASON},
	{"server-reference", MEMBER_TEXT},
	{"topic", MEMBER_TEXT},
	{"receive-maximum", MEMBER_NUMBER},
	{"maximum-packet-size", MEMBER_NUMBER},
	{"topic-alias-maximum", MEMBER_NUMBER},
	{"keep-alive", MEMBER_NUMBER},
	{"session-expiry", MEMBER_NUMBER},
};

/* The value as JSON, or NULL when it is not one of @type. */
static json_object *value_to_json(enum member_type type, const char *text)
{
	uint64_t number;
	double fraction;
	char *end;

	switch (type) {
	case MEMBER_TEXT:
		return *text ? json_object_new_string(text) : NULL;
	case MEMBER_REASON:
		if (strncmp(text, "0x", 2) == 0)
			return json_object_new_string(text);
		/* fall through */
	case MEMBER_NUMBER:
		return args_number(text, INT64_MAX, &number) < 0 ? NULL : json_object_new_uint64(number);
	case MEMBER_FRACTION:
		if (args_number(text, INT64_MAX, &number) == 0)
			return json_object_new_uint64(number);
		fraction = strtod(text, &end);
		return *text && !*end && isfinite(fraction) ? json_object_new_double_s(fraction, text) : NULL;
	}
	return NULL;
}

/* Adds `NAME=VALUE`. Returns -1, or 2 after a line. */
static int member_add(const struct verb *verb, json_object *fault, const char *word)
{
	const char *value = strchr(word, '=');
	json_object *json;

	for (size_t i = 0; value && i < ARRAY_SIZE(members); i++) {
		if (strlen(members[i].name) != (size_t)(value - word) ||
		    strncmp(members[i].name, word, (size_t)(value - word)) != 0)
			continue;
		json = value_to_json(members[i].type, value + 1);
		if (!json)
			return args_wrong(verb, "%s: not a valid value", word);
		json_object_object_add(fault, members[i].name, json);
		return -1;
	}
	return args_wrong(verb, "what is %s? A fault has NAME=VALUE of known names", word);
}

/* The fault as JSON. Returns -1, or 2 after a line. */
static int fault_parse(const struct verb *verb, const struct args *args, json_object **out)
{
	int code = -1;

	if (args->words[0][0] == '{') {
		*out = json_tokener_parse(args->words[0]);
		return *out && !args->words[1] ? -1 : args_wrong(verb, "the fault is not one JSON object");
	}
	*out = json_object_new_object();
	json_object_object_add(*out, "fault", json_object_new_string(args->words[0]));
	for (size_t i = 1; args->words[i] && code < 0; i++)
		code = member_add(verb, *out, args->words[i]);
	return code;
}

static int set_build(struct request *q, struct args *args, const void *own)
{
	json_object *fault = NULL;
	int code = fault_parse(&verb_fault_set, args, &fault);

	(void)own;
	if (code < 0)
		request_payload_json(q, fault);
	json_object_put(fault);
	return code;
}

static void set_show(json_object *answer)
{
	json_object *id, *hits;

	if (json_object_object_get_ex(answer, "hits", &hits))
		printf("connections it met: %s\n", json_object_get_string(hits));
	else if (json_object_object_get_ex(answer, "id", &id))
		printf("fault %s\n", json_object_get_string(id));
}

const struct verb verb_fault_set = {
	.name = "fault set",
	.what = "make the hub misbehave",
	.help = set_help,
	.words = "KIND [NAME=VALUE]...",
	.n_words_min = 1,
	.n_words_max = ARGS_WORDS_MAX,
	.topic = "$service/faults/set",
	.about = "fault",
	.build = set_build,
	.type = json_type_object,
	.show = set_show,
};

/* --- list and clear --------------------------------------------------------------------------- */

static const char list_help[] = "Usage: hubctl fault list [OPTION]...\n"
				"Prints the faults that are set.\n"
				"\n" ARGS_COMMON_HELP;

/* What has no column of its own, put together under `what`. */
static void rest_collect(json_object *row)
{
	static const char *const columns[] = {"id", "fault", "device", "left", "hits", "count"};
	json_object *rest = json_object_new_object();

	json_object_object_foreach(row, name, value)
	{
		bool has_column = false;

		for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
			has_column |= strcmp(name, columns[i]) == 0;
		if (!has_column)
			json_object_object_add(rest, name, json_object_get(value));
	}
	json_object_object_add(row, "what", rest);
}

static void list_show(json_object *answer)
{
	static const struct output_column columns[] = {
		{"ID", "/id"},     {"FAULT", "/fault"}, {"DEVICE", "/device"},
		{"LEFT", "/left"}, {"HITS", "/hits"},   {"WHAT", "/what"},
	};

	for (size_t i = 0; i < json_object_array_length(answer); i++)
		rest_collect(json_object_array_get_idx(answer, i));
	output_table(answer, columns, ARRAY_SIZE(columns), "no faults");
}

const struct verb verb_fault_list = {
	.name = "fault list",
	.what = "how it does",
	.help = list_help,
	.topic = "$service/faults/list",
	.about = "faults",
	.type = json_type_array,
	.show = list_show,
};

static const char clear_help[] = "Usage: hubctl fault clear [ID] [OPTION]...\n"
				 "Removes the fault of this number, or all. Prints how many went.\n"
				 "\n" ARGS_COMMON_HELP;

static int clear_build(struct request *q, struct args *args, const void *own)
{
	const char *id = args->words[0];
	uint64_t number;

	(void)own;
	if (id && args_number(id, UINT64_MAX, &number) < 0)
		return args_wrong(&verb_fault_clear, "%s is not the number of a fault", id);
	request_property(q, "id", id);
	return -1;
}

static void clear_show(json_object *answer)
{
	json_object *n;

	if (json_object_object_get_ex(answer, "cleared", &n))
		printf("cleared %s\n", json_object_get_string(n));
}

const struct verb verb_fault_clear = {
	.name = "fault clear",
	.what = "no more",
	.help = clear_help,
	.words = "[ID]",
	.n_words_max = 1,
	.topic = "$service/faults/clear",
	.about = "fault",
	.build = clear_build,
	.type = json_type_object,
	.show = clear_show,
};
