/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_ARGS_H
#define HUBCTL_ARGS_H

/*
 * The command line of a command: what all of them take, their own options, and their words.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARGS_WORDS_MAX   24
#define ARGS_OPTIONS_MAX 32

/* The ids of a command's own options are up to here; only `q` is a short option, too. */
#define ARGS_OWN_ID_MAX 255

/* A device's or module's name at most: two of 128 and a slash. */
#define ARGS_DEVICE_MAX 257

#define ARGS_COMMON_HELP                                                                                     \
	"  --connection-string-file FILE  the service's; default $IOTHUB_SERVICE_CONNECTION_STRING_FILE,\n"  \
	"                                 else the emulator's\n"                                             \
	"  --ca-file FILE                 certificates to trust; default ca.pem beside the connection\n"     \
	"                                 string if there, else the system's\n"                              \
	"  --timeout SECONDS              how long to wait for the hub; 10\n"                                \
	"  --json                         JSON on standard output\n"                                         \
	"  -h, --help                     this text\n"

struct args {
	const char *connection_string_file; /* NULL: look for it */
	const char *ca_file;                /* NULL: look for it */
	uint64_t timeout_ms;                /* for the connection, and for each request */
	bool has_timeout;                   /* --timeout was there */
	bool json;
	const char *words[ARGS_WORDS_MAX + 1]; /* ends with NULL */
};

struct verb;

/* Reads @verb's command line, its own options into @own. Returns -1 to go on, or the exit code: 0 after --help, 2
 * after a line about what is wrong. */
int args_parse(struct args *args, const struct verb *verb, void *own, int argc, char **argv);

/* 2, after one line about a command line that is wrong as a whole. */
__attribute__((format(printf, 2, 3))) int args_wrong(const struct verb *verb, const char *fmt, ...);

/* A decimal number up to @max. Returns 0 or -EINVAL. */
int args_number(const char *text, uint64_t max, uint64_t *out);

/* Seconds with up to three digits of fraction, not 0, at most ten million; as milliseconds. Returns 0 or
 * -EINVAL. */
int args_seconds(const char *text, uint64_t *out_ms);

/* Whether @text can be the name of a device, or of a module with its device's before it. */
bool args_is_device(const char *text);

/* -1 when @device is such a name or NULL, else 2, after a line. */
int args_device(const struct verb *verb, const char *device);

#endif
