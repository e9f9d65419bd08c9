/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_PROCESS_H
#define TESTS_SUPPORT_PROCESS_H

/*
 * Programs as a test runs them. Nothing waits by sleeping: a program says when it is ready. What goes wrong
 * ends the test with an assertion.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_PATH_MAX 256

/* Path of one of our programs, in $IOTHUB_BUILD (default: build); a static buffer, good for one call. */
const char *process_path(const char *name);

/* Starts @argv with stderr appended to the file @log; @fd becomes descriptor 3 of the program, @out its
 * stdout (-1 = stderr's file). */
pid_t process_start(const char *log, const char *const *argv, int fd, int out);

/* Starts @argv likewise and waits until it says READY=1 (sd_notify(3)) at the socket @notify, which is made
 * there. *@pid is set before waiting. */
void process_start_notify(pid_t *pid, const char *log, const char *const *argv, const char *notify);

/* As that, but it may end instead: then returns false, with its wait status, and *@pid is 0. */
bool process_try_notify(pid_t *pid, const char *log, const char *const *argv, const char *notify,
			int *status);

/* Ends it by @signo (0 = it ends on its own) and waits for it; *@pid becomes 0. Returns its wait status, or
 * -1 when there is none. */
int process_stop(pid_t *pid, int signo);

/* Runs @argv to its end, with all it writes in @text, cut to @size. Returns its exit code, or 128 and the
 * signal that ended it. */
int process_run(const char *const *argv, char *text, size_t size);

/* Times @needle is in @text; and what the file at @path holds, for the caller to free ("" when there is
 * none). */
unsigned int text_count(const char *text, const char *needle);
char *text_read(const char *path);

/* A TCP port on 127.0.0.1 that nobody listens on. */
uint16_t free_port(void);

#endif
