/* SPDX-License-Identifier: MIT */
#ifndef RUN_MODES_H
#define RUN_MODES_H

/*
 * What iothub-run does; each returns the exit code when a signal has ended it.
 */

#include "options.h"

int run_methods(const struct run_options *options);
int run_commands(const struct run_options *options);

#endif
