/* SPDX-License-Identifier: MIT */
/*
 * iothubd: arguments, and exit codes: 0 stopped in order, 1 failed, 2 wrong usage or configuration.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "config/config.h"
#include "journal/guard.h"

/* For the handler of SIGBUS, which gets no argument of ours. */
static struct journal_guard guard;

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

static void print_help(FILE *out)
{
	fprintf(out,
		"usage: iothubd [OPTION]...\n"
		"Shows an IoT hub as files: write telemetry with echo, read the state with cat.\n"
		"\n"
		"  -c, --config=FILE                  configuration (default: /etc/iothub/iothubd.json,\n"
		"                                     as a user ~/.config/iothub/iothubd.json)\n"
		"      --connection-string-file=FILE  connection string of the device\n"
		"      --ca-file=FILE                 certificates (PEM) to trust instead of the system's\n"
		"  -m, --mount=DIR                    where the files appear (default: /run/iothub,\n"
		"                                     as a user $XDG_RUNTIME_DIR/iothub)\n"
		"  -l, --log-level=LEVEL              error, warning, info or debug\n"
		"      --ready-fd=N                   write a line to descriptor N once the files are there\n"
		"      --check                        check the configuration and exit\n"
		"  -h, --help                         show this\n"
		"  -V, --version                      show the version\n"
		"\n"
		"Exit codes: 0 stopped in order, 1 failed, 2 wrong usage or configuration.\n"
		"See iothubd(8), iothubd.json(5) and iothub(7).\n");
}

struct arguments {
	struct config_source *source;
	bool check_only;
	int ready_fd; /* -1: none */
};

/* Returns 0, or -EINVAL after a line on standard error. */
static int parse_ready_fd(const char *text, int *fd)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 0 || n > INT_MAX || fcntl((int)n, F_SETFD, FD_CLOEXEC) < 0) {
		fprintf(stderr, "iothubd: --ready-fd %s: not an open descriptor\n", text);
		return -EINVAL;
	}
	*fd = (int)n;
	return 0;
}

enum {
	OPT_CONNECTION_STRING = 256,
	OPT_CA_FILE,
	OPT_CHECK,
	OPT_READY_FD,
};

/* @word: the argument it came from. Returns -1 to go on, or the exit code. */
static int parse_option(int option, const char *word, struct arguments *arguments)
{
	struct config_source *source = arguments->source;

	switch (option) {
	case 'c':
		source->config_file = optarg;
		return -1;
	case OPT_CONNECTION_STRING:
		source->connection_string_file = optarg;
		return -1;
	case OPT_CA_FILE:
		source->ca_file = optarg;
		return -1;
	case 'm':
		source->mount = optarg;
		return -1;
	case 'l':
		source->log_level = optarg;
		return -1;
	case OPT_READY_FD:
		return parse_ready_fd(optarg, &arguments->ready_fd) ? EXIT_USAGE : -1;
	case OPT_CHECK:
		arguments->check_only = true;
		return -1;
	case 'h':
		print_help(stdout);
		return EXIT_OK;
	case 'V':
		printf("iothubd %s\n", IOTHUB_VERSION);
		return EXIT_OK;
	default:
		fprintf(stderr, "iothubd: %s is no option, or lacks its value: see iothubd --help\n", word);
		return EXIT_USAGE;
	}
}

/* Returns -1 to go on, or the exit code. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"connection-string-file", required_argument, NULL, OPT_CONNECTION_STRING},
		{"ca-file", required_argument, NULL, OPT_CA_FILE},
		{"mount", required_argument, NULL, 'm'},
		{"log-level", required_argument, NULL, 'l'},
		{"ready-fd", required_argument, NULL, OPT_READY_FD},
		{"check", no_argument, NULL, OPT_CHECK},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "c:m:l:hV", options, NULL)) >= 0) {
		int r = parse_option(c, argv[optind - 1], arguments);

		if (r >= 0)
			return r;
	}
	if (optind < argc) {
		fprintf(stderr, "iothubd: unexpected argument %s: see iothubd --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

/* Nobody may be listening any more, which is no reason to stop. */
static void tell_ready(int fd)
{
	ssize_t n;

	if (fd < 0)
		return;
	n = write(fd, "ready\n", 6);
	(void)n;
	close(fd);
}

/* Without memory nobody says what was not possible. */
static void tell_no_memory(struct log *log, int r)
{
	if (r == -ENOMEM)
		log_error(log, "cannot start: %s", strerror(ENOMEM));
}

static int run(const struct config *config, struct log *log, int ready_fd)
{
	struct app *app;
	int r;

	r = app_new(&app, config, log, &guard);
	if (r) {
		tell_no_memory(log, r);
		return EXIT_FAILED;
	}
	tell_ready(ready_fd);
	r = app_run(app);
	/* The kernel still uses what is in flight: nothing else is taken down. */
	if (app_free(app))
		_exit(EXIT_FAILED);
	return r ? EXIT_FAILED : EXIT_OK;
}

/* Descriptors 0 to 2 that are closed would be given to a socket or to the ring, and log lines with them. */
static int open_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

/* An error of a mapping of the journal: the instruction is done again. Any other is what it would be without us. */
static void on_sigbus(int signo, siginfo_t *info, void *context)
{
	(void)context;
	/* A number of 0 or less: somebody sent it. */
	if (info->si_code > 0 && journal_guard_handle(&guard, info->si_addr))
		return;
	/* Blocked until this returns. */
	signal(signo, SIG_DFL);
	raise(signo);
}

static int set_up_signals(void)
{
	struct sigaction bus = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	sigemptyset(&bus.sa_mask);
	if (sigaction(SIGBUS, &bus, NULL) < 0)
		return -errno;
	/* Peers close connections, and so do readers of our log. */
	signal(SIGPIPE, SIG_IGN);
	/* A file over the limit is an error of its write. */
	signal(SIGXFSZ, SIG_IGN);
	return 0;
}

int main(int argc, char **argv)
{
	struct config_source_paths paths;
	struct config_source source;
	struct config config;
	struct arguments arguments = {.source = &source, .ready_fd = -1};
	struct log log;
	int r;

	if (set_up_signals() || open_standard_descriptors())
		return EXIT_FAILED;
	log_init(&log, "iothubd", LOG_LEVEL_INFO);
	config_source_init(&source, &paths);
	r = parse_arguments(argc, argv, &arguments);
	if (r >= 0)
		return r;
	r = config_load(&config, &source, &log);
	if (r) {
		tell_no_memory(&log, r);
		return r == -EINVAL || r == -ENOENT ? EXIT_USAGE : EXIT_FAILED;
	}
	log.level = config.log_level;
	if (arguments.check_only)
		r = app_check(&config, &log) ? EXIT_USAGE : EXIT_OK;
	else
		r = run(&config, &log, arguments.ready_fd);
	config_deinit(&config);
	return r;
}
