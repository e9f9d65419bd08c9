/* SPDX-License-Identifier: MIT */
#ifndef RUN_OPTIONS_H
#define RUN_OPTIONS_H

/*
 * The command line.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum run_what {
	RUN_METHODS,
	RUN_COMMANDS,
};

struct run_options {
	enum run_what what;
	char *mount; /* owned */
	uint64_t timeout_ns, grace_ns;
	unsigned int n_jobs;
	unsigned int n_deliveries_max; /* 0: any number */
	size_t response_bytes_max;
	enum log_level log_level;
	char *const *program; /* DIR, or PROGRAM and its arguments; ends with NULL */
};

/* Returns -1 to go on, or the exit code: 0 after --help or --version, 1 and 2 after a line about what is wrong.
 * options_deinit() in any case. */
int options_parse(struct run_options *options, int argc, char **argv);
/* Idempotent. */
void options_deinit(struct run_options *options);

#endif
