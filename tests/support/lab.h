/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_LAB_H
#define TESTS_SUPPORT_LAB_H

/*
 * The whole way for real: an emulator, a daemon with a mount, and a monitor, as processes of their own in a
 * directory of their own. The struct holds no pointers: a fixture keeps it in its shared memory, so that
 * lab_deinit() cleans up after a test that died, too.
 *
 * Programs come from $IOTHUB_BUILD (default: build). Nothing waits by sleeping: programs say when they are
 * ready. What goes wrong ends the test with an assertion.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define LAB_PATH_MAX 256

struct lab {
	char dir[64];
	char mount[96];
	char device[64];
	uint16_t port; /* of the emulator, kept over its restarts; 0 = not chosen yet */
	pid_t emulator;
	pid_t daemon;
	pid_t monitor;
	int monitor_fd;
};

/* One message as `hubctl monitor` printed it; strings are owned, see lab_message_clear(). */
struct lab_message {
	char *message_id;
	char *payload; /* text, or base64 when @is_base64 */
	size_t payload_len;
	bool is_base64;
	uint64_t n_dropped; /* messages the monitor missed before this one */
	char *creation_time;
};

/* Makes the directory. */
void lab_init(struct lab *lab);
/* Kills what runs by pid, unmounts, removes the directory. Works with a zeroed lab, and twice. */
void lab_deinit(struct lab *lab);

/* Starts the emulator with one device `dev1` and @options (NULL-terminated; may be NULL) and waits until it
 * listens. */
void lab_start_emulator(struct lab *lab, const char *const *options);
/* Ends it by @signo and waits for it. Returns its wait status. */
int lab_stop_emulator(struct lab *lab, int signo);

/* Writes the daemon's configuration: @extra are more JSON members, such as `"queue-bytes": 1048576`, or NULL.
 */
void lab_configure(struct lab *lab, const char *extra);
/* Puts @text into the file @name in the lab's directory, for its owner's eyes; `iothubd.json` is the
 * configuration. */
void lab_write_file(const struct lab *lab, const char *name, const char *text);
/* Starts the daemon with that configuration (the default one if none was written) and waits until its files
 * are there. */
void lab_start_daemon(struct lab *lab);
int lab_stop_daemon(struct lab *lab, int signo);
/* Configures and starts it when the emulator was there once and is gone: keys and certificates are. */
void lab_start_without_hub(struct lab *lab, const char *extra);
/* Kills it, and starts it again when the emulator is there and somebody looks. Returns lab_monitor_stream(). */
FILE *lab_restart_with_hub(struct lab *lab);

/* Starts `hubctl monitor` and waits until it is subscribed. */
void lab_start_monitor(struct lab *lab);
/* The next message, waiting for it. */
void lab_next_message(struct lab *lab, FILE *monitor, struct lab_message *out);
FILE *lab_monitor_stream(const struct lab *lab);
void lab_message_clear(struct lab_message *message);
/* The next message is this text. */
void lab_expect_payload(struct lab *lab, FILE *monitor, const char *payload);

/* Path of a file in the mount; static buffers, good for a few calls. */
const char *lab_path(const struct lab *lab, const char *name);
/* Opens one for writing, with more @flags. */
int lab_open(const struct lab *lab, const char *name, int flags);

/* Value of @key in the status file, as number or as text; waits (by poll) until the state is @state. */
uint64_t lab_status_number(const struct lab *lab, const char *key);
void lab_status_text(const struct lab *lab, const char *key, char *out, size_t size);
/* The value has @want in it. */
void lab_expect_status(const struct lab *lab, const char *key, const char *want);
void lab_await_state(const struct lab *lab, const char *state);
/* Waits until a number that changes with the link's state (attempts, connects) is at least @at_least. */
void lab_await_number(const struct lab *lab, const char *key, uint64_t at_least);
/* Runs `hubctl` with the service's connection string and more arguments (strings); what it printed is in @text, cut to
 * @size. Returns its exit code, or 128 and the signal that ended it. */
#define lab_hubctl(lab, text, size, ...)                                                                     \
	lab_hubctl_argv(lab, text, size, (const char *const[]){__VA_ARGS__, NULL})
int lab_hubctl_argv(const struct lab *lab, char *text, size_t size, const char *const *args);
/* The same for words as a shell has them; @text may be NULL, lab_log() has it as `hubctl`. What failed is a comment of
 * the test. */
int lab_hubctl_words(const struct lab *lab, const char *words, char *text, size_t size);
/* Starts it, with @log, @fd and @out as of process_start(). */
#define lab_hubctl_start(lab, log, fd, out, ...)                                                             \
	lab_hubctl_start_argv(lab, log, fd, out, (const char *const[]){__VA_ARGS__, NULL})
pid_t lab_hubctl_start_argv(const struct lab *lab, const char *log, int fd, int out, const char *const *args);

/* Runs `shell -c script` with $M set to the mount point, $D to the lab's directory, and hubctl a command that has the
 * service's connection string; returns its exit status. */
int lab_shell(const struct lab *lab, const char *shell, const char *script);

/* What a program of the lab wrote on stderr: "emulator", "daemon" or "monitor"; caller frees. */
char *lab_log(const struct lab *lab, const char *program);
/* The same as a comment of the test, if that has failed; for teardowns. */
void lab_show_log(const struct lab *lab, const char *program);

#endif
