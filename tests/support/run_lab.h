/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_RUN_LAB_H
#define TESTS_SUPPORT_RUN_LAB_H

/*
 * A lab with `iothub-run` in it, and a directory of handlers. Handlers find the lab's directory in $D: what they
 * write to "$D/said" the test reads line by line, and what they read from "$D/go" it writes. Holds no pointers, as
 * the lab.
 */

#include <sys/types.h>

#include "tests/support/lab.h"

struct run_lab {
	struct lab lab;
	pid_t run;
	int said, go;
};

/* Everything but iothub-run, connected. @config as in lab_configure(). */
void run_lab_init(struct run_lab *r, const char *config);
/* Shows what was logged when the test has failed. Works with a zeroed struct, and twice. */
void run_lab_deinit(struct run_lab *r);

/* Makes an executable file `handlers/<name>`: @script for /bin/sh. */
void run_lab_handler(const struct run_lab *r, const char *name, const char *script);
/* The directory of them, or a file in the lab's directory; static buffers, good for a few calls. */
const char *run_lab_path(const struct run_lab *r, const char *name);

/* Starts iothub-run with these arguments (strings), and waits until it serves. */
#define run_lab_start(r, ...) run_lab_start_argv(r, (const char *const[]){__VA_ARGS__, NULL})
void run_lab_start_argv(struct run_lab *r, const char *const *args);
/* Ends it by @signo (0: it ends on its own) and waits for it; returns its wait status. */
int run_lab_stop(struct run_lab *r, int signo);

/* The next line a handler said. */
const char *run_lab_next(struct run_lab *r);
/* The next line is the id of a process. */
pid_t run_lab_next_pid(struct run_lab *r);
/* The next line is @text. */
void run_lab_expect(struct run_lab *r, const char *text);
/* Lets one handler go on that waits for it. */
void run_lab_go(struct run_lab *r);
/* Waits for the end of a process that is no child. */
void run_lab_await_gone(pid_t pid);

#endif
