/* SPDX-License-Identifier: MIT */
/*
 * The command line: all options of all commands are known everywhere, so that they may stand anywhere; then the words
 * say which command it is, and whether it has these options.
 */

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arguments.h"
#include "base/cleanup.h"
#include "base/time.h"
#include "iothub.h"
#include "verb.h"

/* Beyond those of enum ctl_option, which are getopt's values for the others. */
enum common_id {
	ID_MOUNT = 1 << 16,
	ID_HELP,
	ID_VERSION,
};

static const struct option options[] = {
	{"mount", required_argument, NULL, ID_MOUNT},
	{"help", no_argument, NULL, ID_HELP},
	{"version", no_argument, NULL, ID_VERSION},
	{"json", no_argument, NULL, CTL_OPTION_JSON},
	{"file", required_argument, NULL, CTL_OPTION_FILE},
	{"if-version", required_argument, NULL, CTL_OPTION_IF_VERSION},
	{"no-wait", no_argument, NULL, CTL_OPTION_NO_WAIT},
	{"timeout", required_argument, NULL, CTL_OPTION_TIMEOUT},
	{"value", required_argument, NULL, CTL_OPTION_VALUE},
	{"change", no_argument, NULL, CTL_OPTION_CHANGE},
	{"follow", no_argument, NULL, CTL_OPTION_FOLLOW},
	{NULL, 0, NULL, 0},
};

static const char *option_name(int id)
{
	const struct option *o = options;

	while (o->name && o->val != id)
		o++;
	return o->name ? o->name : "";
}

int ctl_wrong(const struct ctl_verb *verb, const char *fmt, ...)
{
	va_list list;

	fputs("iothubctl: ", stderr);
	va_start(list, fmt);
	vfprintf(stderr, fmt, list);
	va_end(list);
	fprintf(stderr, "; see iothubctl %s%s--help\n", verb ? verb->name : "", verb ? " " : "");
	return CTL_WRONG;
}

/* --- help ------------------------------------------------------------------------------------- */

#define COMMON_HELP                                                                                          \
	"  -m, --mount DIR      where the files are; default $IOTHUB_MOUNT, else /run/iothub,\n"             \
	"                       for users $XDG_RUNTIME_DIR/iothub\n"                                         \
	"  -h, --help           this text\n"

static void usage(FILE *out, const struct ctl_verb *const *verbs)
{
	fputs("Usage: iothubctl COMMAND [WORD]... [OPTION]...\n"
	      "The device side of an IoT hub, through the files of iothubd.\n"
	      "\n",
	      out);
	for (; *verbs; verbs++)
		fprintf(out, "  %-17s  %s\n", (*verbs)->name, (*verbs)->what);
	fputs("\n" COMMON_HELP "  -V, --version        the version\n"
	      "\n"
	      "iothubctl COMMAND --help says more. Exit code: 0 done, 1 failed, 2 not understood, 3 not\n"
	      "connected, 4 timed out, 5 iothubd does not run, 6 not there, 7 another version, 8 refused.\n"
	      "See iothubctl(1).\n",
	      out);
}

static void verb_usage(const struct ctl_verb *verb)
{
	printf("Usage: iothubctl %s%s%s [OPTION]...\n%s\n" COMMON_HELP, verb->name, verb->words ? " " : "",
	       verb->words ? verb->words : "", verb->help);
}

/* --- options ---------------------------------------------------------------------------------- */

struct parse {
	struct ctl_args *args;
	bool help;
};

/* Returns 0 or -EINVAL. */
static int option_apply(struct parse *p, int id, const char *value)
{
	struct ctl_args *args = p->args;

	switch (id) {
	case ID_HELP:
	case 'h':
		p->help = true;
		return 0;
	case ID_MOUNT:
	case 'm':
		free(args->mount);
		args->mount = strdup(value);
		return *value && args->mount ? 0 : -EINVAL;
	case CTL_OPTION_FILE:
		args->file = value;
		break;
	case CTL_OPTION_VALUE:
		args->value = value;
		break;
	case CTL_OPTION_IF_VERSION:
		args->options |= (unsigned int)id;
		return argument_number(value, 1, UINT64_MAX, &args->if_version);
	case CTL_OPTION_TIMEOUT:
		args->options |= (unsigned int)id;
		return argument_seconds(value, &args->timeout_ns);
	default:
		break;
	}
	args->options |= (unsigned int)id;
	return 0;
}

/* Afterwards the words are at the end, from optind on. Returns -1 to go on, or the exit code. */
static int options_parse(struct parse *p, int argc, char **argv)
{
	int id;

	/* 0 makes GNU's getopt start anew. */
	optind = 0;
	opterr = 0;
	while ((id = getopt_long(argc, argv, ":m:hV", options, NULL)) != -1) {
		switch (id) {
		case ID_VERSION:
		case 'V':
			puts("iothubctl " IOTHUB_VERSION);
			return CTL_DONE;
		case '?':
			return ctl_wrong(NULL, "%s is not an option", argv[optind - 1]);
		case ':':
			return ctl_wrong(NULL, "%s needs a value", argv[optind - 1]);
		default:
			if (option_apply(p, id, optarg) < 0)
				return ctl_wrong(NULL, "--%s %s: not a valid value",
						 option_name(id == 'm' ? ID_MOUNT : id), optarg);
		}
	}
	return -1;
}

/* --- words ------------------------------------------------------------------------------------ */

/* How many of the words are the verb's name; 0: it is another one. */
static size_t verb_match(const struct ctl_verb *verb, size_t n_words, char **words)
{
	size_t len = n_words ? strlen(words[0]) : 0;

	if (!n_words || strncmp(verb->name, words[0], len) != 0)
		return 0;
	if (!verb->name[len])
		return 1;
	return verb->name[len] == ' ' && n_words > 1 && strcmp(verb->name + len + 1, words[1]) == 0 ? 2 : 0;
}

static int words_parse(struct ctl_args *args, size_t n_words, char **words)
{
	const struct ctl_verb *verb = args->verb;
	unsigned int strange = args->options & ~verb->options;

	if (strange)
		return ctl_wrong(verb, "--%s is not an option of %s", option_name((int)(strange & -strange)),
				 verb->name);
	if (n_words > verb->n_words_max)
		return ctl_wrong(verb, "what is %s? %s takes %s", words[verb->n_words_max], verb->name,
				 verb->words ? verb->words : "options only");
	if (n_words < verb->n_words_min)
		return ctl_wrong(verb, "%s needs %s", verb->name, verb->words);
	for (; args->n_words < n_words; args->n_words++)
		args->words[args->n_words] = words[args->n_words];
	return -1;
}

/* No command: none of this name, or none at all. */
static int verb_missing(const struct parse *p, const struct ctl_verb *const *verbs, size_t n_words,
			char **words)
{
	if (p->help || !n_words) {
		usage(p->help ? stdout : stderr, verbs);
		return p->help ? CTL_DONE : CTL_WRONG;
	}
	return ctl_wrong(NULL, "no such command: %s%s%s", words[0], n_words > 1 ? " " : "",
			 n_words > 1 ? words[1] : "");
}

static int mount_default(struct ctl_args *args)
{
	int r = args->mount ? 0 : argument_mount_dir(&args->mount);

	if (!r)
		return -1;
	if (r == -ENOENT)
		return ctl_wrong(args->verb,
				 "where are the files? Neither --mount nor $XDG_RUNTIME_DIR says so");
	fputs("iothubctl: out of memory\n", stderr);
	return CTL_FAILED;
}

int ctl_args_parse(struct ctl_args *args, const struct ctl_verb *const *verbs, int argc, char **argv)
{
	struct parse p = {.args = args};
	size_t n_words, n_own = 0;
	char **words;
	int code;

	*args = (struct ctl_args){.timeout_ns = TIME_NEVER};
	code = options_parse(&p, argc, argv);
	if (code >= 0)
		return code;
	words = argv + optind;
	n_words = (size_t)(argc - optind);
	for (const struct ctl_verb *const *v = verbs; *v && !n_own; v++) {
		n_own = verb_match(*v, n_words, words);
		if (n_own)
			args->verb = *v;
	}
	if (!args->verb)
		return verb_missing(&p, verbs, n_words, words);
	if (p.help) {
		verb_usage(args->verb);
		return CTL_DONE;
	}
	code = words_parse(args, n_words - n_own, words + n_own);
	return code >= 0 ? code : mount_default(args);
}

void ctl_args_deinit(struct ctl_args *args)
{
	free(args->mount);
	args->mount = NULL;
}
