/* SPDX-License-Identifier: MIT */
/*
 * iothub-run: programs as handlers of an IoT hub's methods and commands, by the files of iothubd alone.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "modes.h"
#include "options.h"

/* What is opened later must not become standard input, output or error. */
static int open_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
	if (fd < 0) {
		fprintf(stderr, "iothub-run: /dev/null: %s\n", strerror(errno));
		return -errno;
	}
	close(fd);
	return 0;
}

static int run(const struct run_options *options)
{
	switch (options->what) {
	case RUN_METHODS:
		return run_methods(options);
	case RUN_COMMANDS:
		return run_commands(options);
	}
	return 2;
}

int main(int argc, char **argv)
{
	struct run_options options;
	int code;

	if (open_standard_files() < 0)
		return 1;
	code = options_parse(&options, argc, argv);
	if (code < 0)
		code = run(&options);
	options_deinit(&options);
	return code;
}
