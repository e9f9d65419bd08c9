/* SPDX-License-Identifier: MIT */
/*
 * Command lines: getopt_long(3) over the options common to all commands and those of one, then the words.
 * Everything that can be said about a command line without asking the hub is said here, in one line on
 * standard error, with exit code 2.
 */

#include "args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "verb.h"

#define TIMEOUT_DEFAULT_MS 10000
#define SECONDS_MAX        UINT64_C(10000000)

enum common_id {
	ID_CONNECTION_STRING_FILE = ARGS_OWN_ID_MAX + 1,
	ID_CA_FILE,
	ID_TIMEOUT,
	ID_JSON,
	ID_HELP,
};

static const struct option common_options[] = {
	{"connection-string-file", required_argument, NULL, ID_CONNECTION_STRING_FILE},
	{"ca-file", required_argument, NULL, ID_CA_FILE},
	{"timeout", required_argument, NULL, ID_TIMEOUT},
	{"json", no_argument, NULL, ID_JSON},
	{"help", no_argument, NULL, ID_HELP},
};

/* --- values ----------------------------------------------------------------------------------- */

int args_number(const char *text, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *out <= max ? 0 : -EINVAL;
}

int args_seconds(const char *text, uint64_t *out_ms)
{
	char whole[16], fraction[4] = "000";
	const char *point = strchr(text, '.');
	size_t len = point ? (size_t)(point - text) : strlen(text);
	uint64_t seconds, ms = 0;

	if (len == 0 || len >= sizeof(whole))
		return -EINVAL;
	memcpy(whole, text, len);
	whole[len] = '\0';
	if (args_number(whole, SECONDS_MAX, &seconds) < 0)
		return -EINVAL;
	if (point) {
		size_t n = strlen(point + 1);

		if (n == 0 || n > 3)
			return -EINVAL;
		memcpy(fraction, point + 1, n);
		if (args_number(fraction, 999, &ms) < 0)
			return -EINVAL;
	}
	*out_ms = seconds * 1000 + ms;
	return *out_ms > 0 ? 0 : -EINVAL;
}

/* Which characters and how many slashes is the hub's to say; what is looked for is what was not meant. */
bool args_is_device(const char *text)
{
	if (!*text || strlen(text) > ARGS_DEVICE_MAX)
		return false;
	for (const char *p = text; *p; p++) {
		if (*p <= ' ' || *p > '~')
			return false;
	}
	return true;
}

int args_device(const struct verb *verb, const char *device)
{
	if (!device || args_is_device(device))
		return -1;
	return args_wrong(verb, "`%s' is not the name of a device or DEVICE/MODULE", device);
}

/* --- options ---------------------------------------------------------------------------------- */

int args_wrong(const struct verb *verb, const char *fmt, ...)
{
	va_list list;

	fputs("hubctl: ", stderr);
	va_start(list, fmt);
	vfprintf(stderr, fmt, list);
	va_end(list);
	fprintf(stderr, "; see hubctl %s --help\n", verb->name);
	return 2;
}

/* All long options in @all. Returns the short ones, for getopt. */
static const char *options_collect(const struct verb *verb, struct option all[static ARGS_OPTIONS_MAX + 1])
{
	const char *letters = ":h";
	size_t n = 0;

	for (; n < ARRAY_SIZE(common_options); n++)
		all[n] = common_options[n];
	for (const struct option *o = verb->options; o && o->name && n < ARGS_OPTIONS_MAX; o++) {
		if (o->val == 'q')
			letters = ":hq";
		all[n++] = *o;
	}
	all[n] = (struct option){.name = NULL};
	return letters;
}

static int common_apply(struct args *args, int id, const char *value)
{
	switch (id) {
	case ID_CONNECTION_STRING_FILE:
		args->connection_string_file = value;
		return 0;
	case ID_CA_FILE:
		args->ca_file = value;
		return 0;
	case ID_TIMEOUT:
		args->has_timeout = true;
		return args_seconds(value, &args->timeout_ms);
	case ID_JSON:
		args->json = true;
		return 0;
	default:
		return -EINVAL;
	}
}

static const char *option_name(const struct option *all, int id)
{
	for (; all->name; all++) {
		if (all->val == id)
			return all->name;
	}
	return "";
}

/* -1, or the exit code. */
static int options_apply(struct args *args, const struct verb *verb, void *own, int argc, char **argv)
{
	struct option all[ARGS_OPTIONS_MAX + 1];
	const char *letters = options_collect(verb, all);
	int id, r;

	/* 0 makes GNU's getopt start anew. */
	optind = 0;
	opterr = 0;
	while ((id = getopt_long(argc, argv, letters, all, NULL)) != -1) {
		switch (id) {
		case ID_HELP:
		case 'h':
			fputs(verb->help, stdout);
			return 0;
		case '?':
			return args_wrong(verb, "%s is not an option here", argv[optind - 1]);
		case ':':
			return args_wrong(verb, "%s needs a value", argv[optind - 1]);
		default:
			r = id > ARGS_OWN_ID_MAX ? common_apply(args, id, optarg)
						 : verb->apply(own, id, optarg);
			if (r < 0)
				return args_wrong(verb, "--%s %s: not a valid value", option_name(all, id),
						  optarg ? optarg : "");
		}
	}
	return -1;
}

int args_parse(struct args *args, const struct verb *verb, void *own, int argc, char **argv)
{
	size_t n;
	int code;

	*args = (struct args){.timeout_ms = TIMEOUT_DEFAULT_MS};
	code = options_apply(args, verb, own, argc, argv);
	if (code >= 0)
		return code;
	n = (size_t)(argc - optind);
	if (n > verb->n_words_max)
		return args_wrong(verb, "what is %s? %s takes %s", argv[(size_t)optind + verb->n_words_max],
				  verb->name, verb->words ? verb->words : "options only");
	if (n < verb->n_words_min)
		return args_wrong(verb, "%s needs %s", verb->name, verb->words);
	for (size_t i = 0; i < n; i++)
		args->words[i] = argv[(size_t)optind + i];
	return -1;
}
