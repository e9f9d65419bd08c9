/* SPDX-License-Identifier: MIT */
/*
 * hubctl: the service side of a hub. The table of its commands, each of one or two words, and what is the
 * same for all: whether standard output took what was printed.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "commands.h"

struct command {
	const char *group, *verb; /* a NULL @verb: of one word */
	int (*run)(int argc, char **argv);
	const char *what;
};

static const struct command commands[] = {
	{"devices", "add", hubctl_devices_add, "make a device or a module; prints its connection string"},
	{"devices", "list", hubctl_devices_list, "which there are, and whether they are connected"},
	{"devices", "show", hubctl_devices_show, "what the hub knows about one"},
	{"devices", "remove", hubctl_devices_remove, "remove one and all that is its"},
	{"devices", "keys", hubctl_devices_keys, "print its keys, or make new ones"},
	{"monitor", NULL, hubctl_monitor, "print the telemetry that arrives, as JSON lines"},
	{"twin", "show", hubctl_twin_show, "print a twin"},
	{"twin", "patch", hubctl_twin_patch, "change its desired properties"},
	{"twin", "watch", hubctl_twin_watch, "print changes of twins, as JSON lines"},
	{"command", "send", hubctl_command_send, "put a command into a device's queue"},
	{"command", "list", hubctl_command_list, "what is in it, and which were given up"},
	{"command", "watch", hubctl_command_watch, "print how commands end, as JSON lines"},
	{"command", "purge", hubctl_command_purge, "empty it"},
	{"method", "call", hubctl_method_call, "call a device's method and print the answer"},
	{"fault", "set", hubctl_fault_set, "make the hub misbehave"},
	{"fault", "list", hubctl_fault_list, "how it does"},
	{"fault", "clear", hubctl_fault_clear, "no more"},
};

static bool is_help(const char *word)
{
	return word && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0);
}

/* @group NULL: all commands. */
static void usage(FILE *out, const char *group)
{
	fprintf(out,
		"Usage: hubctl %s%sCOMMAND [WORD]... [OPTION]...\n"
		"The service side of an IoT hub.\n\n",
		group ? group : "", group ? " " : "");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		char name[32];

		if (group && strcmp(group, c->group) != 0)
			continue;
		snprintf(name, sizeof(name), "%s%s%s", c->group, c->verb ? " " : "", c->verb ? c->verb : "");
		fprintf(out, "  %-15s %s\n", name, c->what);
	}
	if (!group)
		fputs("\n"
		      "  --help          this text; hubctl COMMAND --help for a command's\n"
		      "  --version       the version\n",
		      out);
	fputs("\nExit code: 0 done, 1 failed, 2 not understood. See hubctl(1).\n", out);
}

/* A group without one of its verbs. */
static int group_usage(const char *group, const char *word)
{
	if (is_help(word)) {
		usage(stdout, group);
		return 0;
	}
	if (word)
		fprintf(stderr, "hubctl: no such command: %s %s; see hubctl %s --help\n", group, word, group);
	else
		usage(stderr, group);
	return 2;
}

static int dispatch(int argc, char **argv)
{
	const char *group = argv[1], *verb = argc > 2 ? argv[2] : NULL;
	bool is_known = false;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];

		if (strcmp(group, c->group) != 0)
			continue;
		is_known = true;
		if (!c->verb)
			return c->run(argc - 1, argv + 1);
		if (verb && strcmp(verb, c->verb) == 0)
			return c->run(argc - 2, argv + 2);
	}
	if (is_known)
		return group_usage(group, verb);
	fprintf(stderr, "hubctl: no such command: %s; see hubctl --help\n", group);
	return 2;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;
	int code = 0;

	if (!word) {
		usage(stderr, NULL);
		return 2;
	}
	if (is_help(word))
		usage(stdout, NULL);
	else if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		puts("hubctl " IOTHUB_VERSION);
	else
		code = dispatch(argc, argv);
	if ((fflush(stdout) == EOF || ferror(stdout)) && code == 0) {
		fprintf(stderr, "hubctl: standard output: %s\n", strerror(errno));
		code = 1;
	}
	return code;
}
