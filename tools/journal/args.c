/* SPDX-License-Identifier: MIT */
/*
 * The command line: options may stand anywhere; the first word is the command, which has some of them.
 */

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arguments.h"
#include "base/cleanup.h"
#include "inspect.h"
#include "iothub.h"

static const struct option options[] = {
	{"dir", required_argument, NULL, 'd'},     {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},       {"all", no_argument, NULL, 'a'},
	{"channel", required_argument, NULL, 'c'}, {"hex", no_argument, NULL, 'x'},
	{"payload", no_argument, NULL, 'p'},       {NULL, 0, NULL, 0},
};

static const struct inspect_verb *const verbs[] = {
	&inspect_verb_list,
	&inspect_verb_show,
	&inspect_verb_verify,
	&inspect_verb_export,
};

#define COMMON_HELP                                                                                          \
	"  -d, --dir DIR        the journal's directory; default: the only one there is below\n"             \
	"                       /var/lib/iothub and /run/iothubd (or a user's own places)\n"                 \
	"  -h, --help           this text\n"

static void usage(FILE *out)
{
	fputs("Usage: iothub-journal COMMAND [WORD]... [OPTION]...\n"
	      "Shows what iothubd keeps on the disk. Changes nothing; iothubd may be running.\n"
	      "\n",
	      out);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); ++i)
		fprintf(out, "  %-7s  %s\n", verbs[i]->name, verbs[i]->what);
	fputs("\n" COMMON_HELP "  -V, --version        the version\n"
	      "\n"
	      "iothub-journal COMMAND --help says more. Exit code: 0 done, 1 damage or failed, 2 not\n"
	      "understood, 3 no such message, channel or journal. See iothub-journal(8).\n",
	      out);
}

static void verb_usage(const struct inspect_verb *verb)
{
	printf("Usage: iothub-journal %s%s%s [OPTION]...\n%s%s" COMMON_HELP, verb->name,
	       verb->words ? " " : "", verb->words ? verb->words : "", verb->help,
	       *verb->options ? "" : "\n");
}

__attribute__((format(printf, 2, 3))) static int wrong(const struct inspect *inspect, const char *fmt, ...)
{
	const char *name = inspect->verb ? inspect->verb->name : "";
	va_list list;

	fputs("iothub-journal: ", stderr);
	va_start(list, fmt);
	vfprintf(stderr, fmt, list);
	va_end(list);
	fprintf(stderr, "; see iothub-journal %s%s--help\n", name, *name ? " " : "");
	return INSPECT_WRONG;
}

static void option_apply(struct inspect *inspect, int id)
{
	switch (id) {
	case 'd':
		inspect->dir_option = optarg;
		break;
	case 'a':
		inspect->all = true;
		break;
	case 'c':
		inspect->channel = optarg;
		break;
	case 'x':
		inspect->show = INSPECT_SHOW_HEX;
		break;
	case 'p':
		inspect->show = INSPECT_SHOW_PAYLOAD;
		break;
	default:
		break;
	}
}

/* Which commands have the options that were given. */
static int options_check(const struct inspect *inspect)
{
	const char *allowed = inspect->verb->options;

	if (inspect->all && !strchr(allowed, 'a'))
		return wrong(inspect, "--all is not an option of %s", inspect->verb->name);
	if (inspect->channel && !strchr(allowed, 'c'))
		return wrong(inspect, "--channel is not an option of %s", inspect->verb->name);
	if (inspect->show != INSPECT_SHOW_ALL && !strchr(allowed, 'x'))
		return wrong(inspect, "--hex and --payload are not options of %s", inspect->verb->name);
	return -1;
}

static int words_parse(struct inspect *inspect, int n, char **words)
{
	static const char *const parts[] = {
		[INSPECT_RECORDS] = "records", [INSPECT_LANES] = "lanes", [INSPECT_SEGMENTS] = "segments"};
	const struct inspect_verb *verb = inspect->verb;
	size_t part = 0;

	if (n > (verb->words ? 1 : 0))
		return wrong(inspect, "what is %s? %s takes %s", words[n - 1], verb->name,
			     verb->words ? verb->words : "options only");
	if (verb == &inspect_verb_show) {
		if (n < 1)
			return wrong(inspect, "show needs a number; list has them");
		return argument_number(words[0], 1, UINT64_MAX, &inspect->sequence) < 0
			       ? wrong(inspect, "%s: not the number of a message", words[0])
			       : -1;
	}
	while (n && part < ARRAY_SIZE(parts) && strcmp(parts[part], words[0]) != 0)
		part++;
	if (part == ARRAY_SIZE(parts))
		return wrong(inspect, "what is %s? %s takes %s", words[0], verb->name, verb->words);
	inspect->part = (enum inspect_part)part;
	return -1;
}

/* Afterwards the words are at the end, from optind on. Returns -1 to go on, or the exit code. */
static int options_parse(struct inspect *inspect, bool *help, int argc, char **argv)
{
	int id;

	opterr = 0;
	/* 0 makes GNU's getopt start anew. */
	optind = 0;
	while ((id = getopt_long(argc, argv, ":d:hVac:xp", options, NULL)) != -1) {
		switch (id) {
		case 'V':
			puts("iothub-journal " IOTHUB_VERSION);
			return INSPECT_DONE;
		case 'h':
			*help = true;
			break;
		case '?':
			return wrong(inspect, "%s is not an option", argv[optind - 1]);
		case ':':
			return wrong(inspect, "%s needs a value", argv[optind - 1]);
		default:
			option_apply(inspect, id);
			break;
		}
	}
	return -1;
}

int inspect_parse(struct inspect *inspect, int argc, char **argv)
{
	bool help = false;
	int code;

	*inspect = (struct inspect){.store.fd = -1};
	code = options_parse(inspect, &help, argc, argv);
	if (code >= 0)
		return code;
	for (size_t i = 0; optind < argc && i < ARRAY_SIZE(verbs); ++i)
		if (strcmp(verbs[i]->name, argv[optind]) == 0)
			inspect->verb = verbs[i];
	if (!inspect->verb && optind < argc)
		return wrong(inspect, "no such command: %s", argv[optind]);
	if (!inspect->verb) {
		usage(help ? stdout : stderr);
		return help ? INSPECT_DONE : INSPECT_WRONG;
	}
	if (help) {
		verb_usage(inspect->verb);
		return INSPECT_DONE;
	}
	code = options_check(inspect);
	return code >= 0 ? code : words_parse(inspect, argc - optind - 1, argv + optind + 1);
}

void inspect_deinit(struct inspect *inspect)
{
	store_close(&inspect->store);
	free(inspect->dir);
	inspect->dir = NULL;
}
