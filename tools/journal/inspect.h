/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_JOURNAL_INSPECT_H
#define TOOLS_JOURNAL_INSPECT_H

/*
 * What a command of iothub-journal gets and gives.
 */

#include "walk.h"

/* Exit codes; scripts rely on them, see iothub-journal(8). */
enum inspect_code {
	INSPECT_DONE = 0,
	INSPECT_FAILED = 1,    /* damage was found, or something could not be read or written */
	INSPECT_WRONG = 2,     /* the command line */
	INSPECT_NOT_THERE = 3, /* no such message, channel or journal */
};

enum inspect_part {
	INSPECT_RECORDS,
	INSPECT_LANES,
	INSPECT_SEGMENTS,
};

enum inspect_show {
	INSPECT_SHOW_ALL,
	INSPECT_SHOW_HEX,     /* the payload as numbers */
	INSPECT_SHOW_PAYLOAD, /* the payload's bytes and nothing else */
};

struct inspect_verb;

struct inspect {
	const struct inspect_verb *verb;
	const char *dir_option; /* NULL: none */
	char *dir;              /* of the journal; owned */
	bool all;
	enum inspect_part part;
	enum inspect_show show;
	uint64_t sequence;
	const char *channel; /* NULL: of all */
	bool is_channel_there;
	struct journal_guard *guard;
	struct store store;
};

struct inspect_verb {
	const char *name;
	const char *words;
	const char *what;
	const char *help;    /* lines */
	const char *options; /* short ones it has besides those of all */
	int (*run)(struct inspect *inspect);
};

extern const struct inspect_verb inspect_verb_list, inspect_verb_show, inspect_verb_verify,
	inspect_verb_export;

/* Reads the command line. Returns -1 to go on, or the exit code. inspect_deinit() in any case. */
int inspect_parse(struct inspect *inspect, int argc, char **argv);
void inspect_deinit(struct inspect *inspect);

/* Finds the journal, opens it and does what the command line says. Returns the exit code, after a line for some of them. */
int inspect_run(struct inspect *inspect);

/* Finds the journal: the directory of the option or what is in it, else what is in the usual places. Returns 0, or the exit code
 * after a line. */
int inspect_find(struct inspect *inspect);

/* What was found is none. Returns the exit code, after a line. */
int inspect_say_no_journal(const struct inspect *inspect);

/* Starts a walk as the options say. Returns 0, or the exit code after a line. */
int inspect_walk(struct inspect *inspect, const struct walk_options *options, struct walk **out);

/* Out of memory: says so. */
int inspect_no_memory(void);

/* One line on standard error for something that is damaged; nothing for a hole with nothing that was promised. Returns whether there
 * was damage. */
bool inspect_complain(const struct walk_item *item);

/* The same for each file that is no segment. One that was never written to is no damage, and named by who lists files. */
bool inspect_complain_files(const struct inspect *inspect);

/* Whether the channel is one that the command line asks for. */
bool inspect_wants(struct inspect *inspect, const char *channel);

#endif
