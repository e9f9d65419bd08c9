/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_VERB_H
#define HUBCTL_VERB_H

/*
 * What a command is: its words, its options, and either one request with a way to print the answer, or a function
 * of its own. verb_run() is what all of them have in common.
 */

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include "args.h"
#include "request.h"

struct verb {
	const char *name; /* `twin show` */
	const char *what; /* it does, in a few words */
	const char *help;
	const char *words; /* `DEVICE [PAYLOAD]`, for messages; NULL when it takes none */
	size_t n_words_min, n_words_max;
	bool is_about_device; /* the first word, if there is one: looked at, and the request's `device` */

	/* Own options, ending with zeros. @apply takes one into a copy of @own, which has @own_size bytes (0: there
	 * are none), and returns 0 or -EINVAL for a wrong value. */
	const struct option *options;
	int (*apply)(void *own, int id, const char *value);
	const void *own;
	size_t own_size;

	/* What else can be wrong with the command line: -1, or 2 after args_wrong(). May be NULL. */
	int (*check)(const struct verb *verb, const struct args *args, const void *own);

	/* The request: its topic, what errors are about when that is no device, and what @build (may be NULL) adds
	 * to it. Returns -1 to go on, or the exit code when all is said. */
	const char *topic;
	const char *about;
	int (*build)(struct request *q, struct args *args, const void *own);

	/* The answer: JSON of @type, which --json prints as it is and @show for people; or whatever @print makes of
	 * it. */
	enum json_type type;
	void (*show)(json_object *answer);
	request_print_fn *print;

	/* Instead of request and answer: the exit code. */
	int (*run)(const struct args *args, void *own);
};

/* Members of a command about one device, which takes no other word. */
#define VERB_OF_DEVICE .words = "DEVICE", .n_words_min = 1, .n_words_max = 1, .is_about_device = true

/* Every command. */
extern const struct verb verb_devices_add, verb_devices_list, verb_devices_show, verb_devices_remove,
	verb_devices_keys;
extern const struct verb verb_monitor;
extern const struct verb verb_twin_show, verb_twin_patch, verb_twin_watch;
extern const struct verb verb_command_send, verb_command_list, verb_command_watch, verb_command_purge;
extern const struct verb verb_method_call;
extern const struct verb verb_fault_set, verb_fault_list, verb_fault_clear;

/* @argv[0] is the command's last word. Returns the exit code: 0 done, 1 failed, 2 not understood; the two errors
 * come with one line on standard error. */
int verb_run(const struct verb *verb, int argc, char **argv);

#endif
