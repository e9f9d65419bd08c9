/* SPDX-License-Identifier: MIT */
/*
 * Options before and after the word that says what is run; what follows DIR or PROGRAM is the program's own.
 */

#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arguments.h"
#include "base/time.h"
#include "iothub.h"

#define TIMEOUT_DEFAULT_S 60
#define GRACE_DEFAULT_S   5

/* Methods are called at the same time and must find somebody at once; commands wait, and keep their order. */
#define METHODS_JOBS_DEFAULT  4
#define COMMANDS_JOBS_DEFAULT 1
#define JOBS_MAX              256

/* Of the hub's largest packet, for the topic, the properties and the response code. */
#define RESPONSE_HEADROOM_BYTES 1024
#define RESPONSE_BYTES_MAX      (IOTHUB_PACKET_BYTES_MAX - RESPONSE_HEADROOM_BYTES)

enum option_id {
	ID_MAX_DELIVERIES = 256,
	ID_RESPONSE_BYTES,
	ID_GRACE,
};

static void print_help(FILE *out)
{
	fputs("Usage: iothub-run [OPTION]... methods DIR\n"
	      "       iothub-run [OPTION]... commands DIR | PROGRAM [ARGUMENT]...\n"
	      "Runs programs for what an IoT hub asks of this device, through the files of iothubd.\n"
	      "\n"
	      "  methods DIR         each program in DIR is the method of that name: payload on its "
	      "standard\n"
	      "                      input, the answer on its standard output, exit code 0 is 200, else 500\n"
	      "  commands DIR        every program in DIR, in order of name, for each command, up to one "
	      "that fails\n"
	      "  commands PROGRAM    PROGRAM for each command: payload on its standard input, properties in "
	      "its\n"
	      "                      environment; exit code 0 completes, 65 rejects, others abandon the "
	      "command\n"
	      "\n"
	      "  -m, --mount DIR     where the files are; default $IOTHUB_MOUNT, else /run/iothub,\n"
	      "                      for users $XDG_RUNTIME_DIR/iothub\n"
	      "  -j, --jobs N        as many at a time: of each method (4), or commands (1)\n"
	      "  -t, --timeout SECONDS\n"
	      "                      how long one may take; 60\n"
	      "      --grace SECONDS how long what has to end may take to do so; 5\n"
	      "      --response-bytes N\n"
	      "                      methods: longest answer; 261120\n"
	      "      --max-deliveries N\n"
	      "                      commands: reject what failed at its Nth delivery or later\n"
	      "  -v, --verbose       a line on standard error for each run\n"
	      "  -h, --help          this text\n"
	      "  -V, --version       the version\n"
	      "\n"
	      "Exit code: 0 stopped by SIGTERM or SIGINT, 1 failed, 2 not understood. See iothub-run(1).\n",
	      out);
}

/* 2, after a line. */
__attribute__((format(printf, 1, 2))) static int wrong(const char *fmt, ...)
{
	va_list list;

	fputs("iothub-run: ", stderr);
	va_start(list, fmt);
	vfprintf(stderr, fmt, list);
	va_end(list);
	fputs("; see iothub-run --help\n", stderr);
	return 2;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Returns 0 or -EINVAL. */
static int option_apply(struct run_options *options, int id, const char *value)
{
	uint64_t n = 0;
	int r = 0;

	switch (id) {
	case 'm':
		free(options->mount);
		options->mount = strdup(value);
		return *value && options->mount ? 0 : -EINVAL;
	case 'j':
		r = argument_number(value, 1, JOBS_MAX, &n);
		options->n_jobs = (unsigned int)n;
		return r;
	case 't':
		return argument_seconds(value, &options->timeout_ns);
	case ID_GRACE:
		return argument_seconds(value, &options->grace_ns);
	case ID_RESPONSE_BYTES:
		r = argument_number(value, 0, RESPONSE_BYTES_MAX, &n);
		options->response_bytes_max = n;
		return r;
	case ID_MAX_DELIVERIES:
		r = argument_number(value, 1, UINT32_MAX, &n);
		options->n_deliveries_max = (unsigned int)n;
		return r;
	case 'v':
		options->log_level = LOG_LEVEL_DEBUG;
		return 0;
	default:
		return -EINVAL;
	}
}

/* --- the command line ------------------------------------------------------------------------- */

static const char *option_name(const struct option *names, int id)
{
	while (names->name && names->val != id)
		names++;
	return names->name;
}

/* Takes the options up to the next word. Returns -1 to go on, or the exit code. */
static int options_take(struct run_options *options, int argc, char **argv)
{
	static const struct option names[] = {
		{"mount", required_argument, NULL, 'm'},
		{"jobs", required_argument, NULL, 'j'},
		{"timeout", required_argument, NULL, 't'},
		{"grace", required_argument, NULL, ID_GRACE},
		{"response-bytes", required_argument, NULL, ID_RESPONSE_BYTES},
		{"max-deliveries", required_argument, NULL, ID_MAX_DELIVERIES},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int id;

	opterr = 0;
	while ((id = getopt_long(argc, argv, "+m:j:t:vhV", names, NULL)) != -1) {
		switch (id) {
		case 'h':
			print_help(stdout);
			return 0;
		case 'V':
			puts("iothub-run " IOTHUB_VERSION);
			return 0;
		case '?':
			return wrong("%s is no option, or lacks its value", argv[optind - 1]);
		default:
			if (option_apply(options, id, optarg) < 0)
				return wrong("--%s %s: not a valid value", option_name(names, id), optarg);
		}
	}
	return -1;
}

static int what_parse(struct run_options *options, const char *word)
{
	if (strcmp(word, "methods") == 0)
		options->what = RUN_METHODS;
	else if (strcmp(word, "commands") == 0)
		options->what = RUN_COMMANDS;
	else
		return wrong("what is %s? It is methods or commands", word);
	return -1;
}

/* Where the files are when nobody says so. */
static int mount_default(struct run_options *options)
{
	int r = options->mount ? 0 : argument_mount_dir(&options->mount);

	if (!r)
		return -1;
	if (r == -ENOENT)
		return wrong("where are the files? Neither --mount nor $XDG_RUNTIME_DIR says so");
	fputs("iothub-run: out of memory\n", stderr);
	return 1;
}

int options_parse(struct run_options *options, int argc, char **argv)
{
	int code;

	*options = (struct run_options){
		.timeout_ns = TIMEOUT_DEFAULT_S * NSEC_PER_SEC,
		.grace_ns = GRACE_DEFAULT_S * NSEC_PER_SEC,
		.response_bytes_max = RESPONSE_BYTES_MAX,
		.log_level = LOG_LEVEL_INFO,
	};
	/* 0 makes GNU's getopt start anew. */
	optind = 0;
	code = options_take(options, argc, argv);
	if (code >= 0)
		return code;
	if (optind >= argc)
		return wrong("what is to be run, methods or commands?");
	code = what_parse(options, argv[optind++]);
	if (code < 0)
		code = options_take(options, argc, argv);
	if (code >= 0)
		return code;
	options->program = argv + optind;
	if (optind >= argc)
		return wrong(options->what == RUN_METHODS ? "methods takes a directory"
							  : "commands takes a directory or a program");
	if (options->what == RUN_METHODS && optind + 1 < argc)
		return wrong("what is %s? methods takes one directory", argv[optind + 1]);
	if (!options->n_jobs)
		options->n_jobs = options->what == RUN_METHODS ? METHODS_JOBS_DEFAULT : COMMANDS_JOBS_DEFAULT;
	return mount_default(options);
}

void options_deinit(struct run_options *options)
{
	free(options->mount);
	options->mount = NULL;
}
