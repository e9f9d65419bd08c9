/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_HUBCTL_RUN_H
#define TESTS_SUPPORT_HUBCTL_RUN_H

/*
 * `hubctl` against an emulator, both as processes, and devices made by hand. Holds no pointers, so it may lie
 * in a fixture and be cleaned up by another process. What goes wrong ends the test with an assertion.
 */

#include <stdbool.h>
#include <sys/types.h>

#include <json-c/json.h>

#include "tests/support/emu_process.h"
#include "tests/support/wire_client.h"

#define HUBCTL_OUT_MAX  262144
#define HUBCTL_TEXT_MAX 512

struct hubctl_run {
	struct emu_process e;
	pid_t pid; /* in the background; 0: none */
	/* What the last one printed, for both until the next run. */
	char out[HUBCTL_OUT_MAX];
	char err[4096];
};

/* Starts an emulator with @options (NULL-terminated, may be NULL). */
void hubctl_run_init(struct hubctl_run *h, const char *const *options);
/* Idempotent. */
void hubctl_run_deinit(struct hubctl_run *h);

/* Path of a file in the directory of the test; static buffers, good for a few calls. */
const char *hubctl_file(const struct hubctl_run *h, const char *name);
void hubctl_write_file(const struct hubctl_run *h, const char *name, const char *data, size_t len);

/* Runs it with these arguments and the service's connection string. Returns the exit code. */
#define hubctl_run(h, ...) hubctl_run_argv(h, NULL, HUBCTL_ARGS(__VA_ARGS__))
/* The same, reading @input. */
#define hubctl_run_input(h, input, ...) hubctl_run_argv(h, input, HUBCTL_ARGS(__VA_ARGS__))

/* Starts it; hubctl_wait() is to follow. With `--ready-fd=3` among the arguments waits until it is ready. */
#define hubctl_start(h, ...) hubctl_start_argv(h, HUBCTL_ARGS(__VA_ARGS__))

#define HUBCTL_ARGS(...)     ((const char *const[]){__VA_ARGS__, NULL})
int hubctl_run_argv(struct hubctl_run *h, const char *input, const char *const *args);
void hubctl_start_argv(struct hubctl_run *h, const char *const *args);
int hubctl_wait(struct hubctl_run *h);

/* What was printed as JSON, strictly one value; the caller's reference. */
json_object *hubctl_json(struct hubctl_run *h);
/* A member as text, `(none)` when it is not there; @path is a JSON pointer. */
const char *json_text(json_object *json, const char *path);
/* One of what was printed, as that. Returns @out. */
const char *hubctl_printed(struct hubctl_run *h, const char *path, char out[static HUBCTL_TEXT_MAX]);

/* A connection of device @id, with its key, subscribed to @filters (`filter,filter@1`) unless NULL. */
struct wire_client *hubctl_device(struct hubctl_run *h, struct wire *wire, const char *id,
				  const char *filters);

#endif
