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
#include "verb.h"

static const struct verb *const verbs[] = {
	&verb_devices_add,   &verb_devices_list, &verb_devices_show, &verb_devices_remove,
	&verb_devices_keys,  &verb_monitor,      &verb_twin_show,    &verb_twin_patch,
	&verb_twin_watch,    &verb_command_send, &verb_command_list, &verb_command_watch,
	&verb_command_purge, &verb_method_call,  &verb_fault_set,    &verb_fault_list,
	&verb_fault_clear,
};

/* What is behind @group in the name: "" when that is all, NULL when it is another group's. */
static const char *verb_in_group(const struct verb *verb, const char *group)
{
	size_t len = strlen(group);

	if (strncmp(verb->name, group, len) != 0)
		return NULL;
	if (verb->name[len] == ' ')
		return verb->name + len + 1;
	return verb->name[len] ? NULL : "";
}

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
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!group || verb_in_group(verbs[i], group))
			fprintf(out, "  %-15s %s\n", verbs[i]->name, verbs[i]->what);
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
	const char *group = argv[1], *word = argc > 2 ? argv[2] : NULL;
	bool is_known = false;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		const char *rest = verb_in_group(verbs[i], group);

		if (!rest)
			continue;
		is_known = true;
		if (!*rest)
			return verb_run(verbs[i], argc - 1, argv + 1);
		if (word && strcmp(word, rest) == 0)
			return verb_run(verbs[i], argc - 2, argv + 2);
	}
	if (is_known)
		return group_usage(group, word);
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
