/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_OPTIONS_H
#define EMULATOR_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "hub.h"

struct emu_options {
	const char *listen; /* NULL: loopback */
	uint16_t port;
	char *state;           /* owned */
	const char *client_ca; /* NULL: only its own authority */
	const char **devices;  /* owned array of borrowed names */
	size_t n_devices;
	enum log_level level;
	int ready_fd; /* -1: none */
	struct emu_hub_options hub;
};

enum emu_options_result {
	OPTIONS_RUN,
	OPTIONS_DONE,  /* --help or --version was printed */
	OPTIONS_WRONG, /* said on stderr; exit code 2 */
};

/* Reads the command line; strings in it are borrowed from @argv. */
enum emu_options_result emu_options_parse(struct emu_options *o, int argc, char **argv);

/* Idempotent. */
void emu_options_deinit(struct emu_options *o);

#endif
