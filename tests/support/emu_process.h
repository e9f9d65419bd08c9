/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_EMU_PROCESS_H
#define TESTS_SUPPORT_EMU_PROCESS_H

/*
 * `iothub-emulator` as a process of its own, with a state directory of its own, and other programs run
 * against it. Holds no pointers, so it may lie in a fixture and be cleaned up by another process.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define EMU_PROCESS_DIR_MAX  64
#define EMU_PROCESS_PATH_MAX 256

struct emu_process {
	char dir[EMU_PROCESS_DIR_MAX]; /* the state directory */
	char ca_file[EMU_PROCESS_PATH_MAX];
	char log_file[EMU_PROCESS_PATH_MAX]; /* its standard output and error */
	uint16_t port;
	pid_t pid; /* 0: not running */
};

/* Makes the directory; nothing runs yet. Returns 0 or a negative errno. */
int emu_process_init(struct emu_process *e);

/* Starts it with @options (NULL-terminated, may be NULL) on a free port, and waits until it listens. Returns
 * 0 or a negative errno. */
int emu_process_start(struct emu_process *e, const char *const *options);

/* Sends the signal and waits for the end: the wait status. */
int emu_process_stop(struct emu_process *e, int signo);

/* Kills it if it runs and removes the directory. Idempotent. */
void emu_process_deinit(struct emu_process *e);

/* Decoded SharedAccessKey of @device's connection string file; returns its length or a negative errno. */
ssize_t emu_process_key(const struct emu_process *e, const char *device, uint8_t *out, size_t size);

/* Path of a program of this build. */
void emu_program_path(const char *name, char out[static EMU_PROCESS_PATH_MAX]);

/*
 * Runs @argv with standard input from /dev/null and standard output and error in the files given (NULL:
 * /dev/null), descriptor @ready_fd (-1: none) as descriptor 3. Returns the pid or a negative errno.
 */
pid_t emu_spawn(const char *const *argv, const char *out_file, const char *err_file, int ready_fd);

/* Waits for @pid; its exit code, or 128 and the signal. */
int emu_wait(pid_t pid);

/* Whole text of a file, NUL-terminated; the caller's. NULL when it cannot be read. */
char *emu_read_file(const char *path);

#endif
