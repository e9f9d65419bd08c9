/* SPDX-License-Identifier: MIT */
#ifndef IOTHUBCTL_VERB_H
#define IOTHUBCTL_VERB_H

/*
 * What a command is, and its command line.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes; scripts rely on them, see iothubctl(1). */
enum ctl_code {
	CTL_DONE = 0,
	CTL_FAILED = 1,
	CTL_WRONG = 2,         /* the command line */
	CTL_OFFLINE = 3,       /* there is no connection to the hub */
	CTL_TIMED_OUT = 4,     /* not within the time */
	CTL_NO_DAEMON = 5,     /* the daemon does not run */
	CTL_NOT_THERE = 6,     /* no such property or command */
	CTL_OTHER_VERSION = 7, /* the hub has another version than --if-version */
	CTL_REFUSED = 8,       /* a patch that the twin or the hub does not take */
};

/* Options that not every command has. */
enum ctl_option {
	CTL_OPTION_JSON = 1 << 0,
	CTL_OPTION_FILE = 1 << 1,
	CTL_OPTION_IF_VERSION = 1 << 2,
	CTL_OPTION_NO_WAIT = 1 << 3,
	CTL_OPTION_TIMEOUT = 1 << 4,
	CTL_OPTION_VALUE = 1 << 5,
	CTL_OPTION_CHANGE = 1 << 6,
	CTL_OPTION_FOLLOW = 1 << 7,
};

struct ctl_args;

struct ctl_verb {
	const char *name;  /* `twin get` */
	const char *words; /* what it takes, as in its usage */
	const char *what;  /* it does, in a few words */
	const char *help;  /* more about it and its options, lines */
	unsigned int options;
	size_t n_words_min, n_words_max;
	/* Returns an exit code, after a line on standard error unless that is CTL_DONE or CTL_OFFLINE. */
	int (*run)(const struct ctl_args *args);
};

#define CTL_WORDS_MAX 4

struct ctl_args {
	const struct ctl_verb *verb;
	char *mount;          /* owned */
	unsigned int options; /* given, of enum ctl_option */
	const char *file;
	const char *value;
	uint64_t if_version;
	uint64_t timeout_ns;              /* TIME_NEVER without the option */
	const char *words[CTL_WORDS_MAX]; /* after the verb's own */
	size_t n_words;
};

/* Reads the command line; @verbs ends with NULL. Returns -1 to go on, or the exit code. ctl_args_deinit() in any
 * case. */
int ctl_args_parse(struct ctl_args *args, const struct ctl_verb *const *verbs, int argc, char **argv);
/* Idempotent. */
void ctl_args_deinit(struct ctl_args *args);

/* CTL_WRONG, after one line about a command line that is wrong as a whole. */
__attribute__((format(printf, 2, 3))) int ctl_wrong(const struct ctl_verb *verb, const char *fmt, ...);

/* Every command. */
extern const struct ctl_verb ctl_verb_status, ctl_verb_events;
extern const struct ctl_verb ctl_verb_twin_get, ctl_verb_twin_patch, ctl_verb_twin_wait, ctl_verb_twin_watch;
extern const struct ctl_verb ctl_verb_command_list, ctl_verb_command_complete, ctl_verb_command_abandon,
	ctl_verb_command_reject;

#endif
