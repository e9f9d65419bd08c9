/* SPDX-License-Identifier: MIT */
/*
 * hubctl: the service side of a hub. Each command is a module; this is the table of them.
 */

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "monitor.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
	{"monitor", hubctl_monitor},
};

static const char help[] = "Usage: hubctl COMMAND [OPTION]...\n"
			   "The service side of an IoT hub.\n"
			   "\n"
			   "  monitor      print the telemetry that arrives, as JSON lines\n"
			   "\n"
			   "  --help       this text; hubctl COMMAND --help for a command's\n"
			   "  --version    the version\n"
			   "\n"
			   "Exit code: 0 done, 1 failed, 2 not understood. See hubctl(1).\n";

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (!name) {
		fputs(help, stderr);
		return 2;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		fputs(help, stdout);
		return 0;
	}
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
		puts("hubctl " IOTHUB_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "hubctl: no such command: %s; see hubctl --help\n", name);
	return 2;
}
