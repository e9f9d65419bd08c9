/* SPDX-License-Identifier: MIT */
/*
 * A handler in C that uses the daemon's files and nothing else, until it is ended:
 *
 *     handler --commands FILE    reads `commands/stream`; each line handled is a command completed
 *     handler --calls FILE       answers each call of `methods/<name>/call` with 200
 *
 * Writes a line to descriptor 3 when it is ready.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#include "bench.h"

/* A line of `stream`, and a request, in one read(2). */
#define BUFFER_SIZE 65536

static const char response[] = "200 {}";

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		bench_fail_errno(path);
	return fd;
}

/* A read(2) gives the bytes of one line; to ask for the next completes it. */
static void handle_commands(const char *path)
{
	static char line[BUFFER_SIZE];
	_cleanup_(close_fd) int fd = open_file(path, O_RDONLY);
	ssize_t n;

	bench_tell_ready();
	do
		n = read(fd, line, sizeof(line));
	while (n > 0);
	if (n < 0)
		bench_fail_errno(path);
}

static void handle_call(int fd, const char *path)
{
	static char request[BUFFER_SIZE];
	ssize_t n;

	do
		n = read(fd, request, sizeof(request));
	while (n > 0);
	if (n < 0)
		bench_fail_errno(path);
	if (write(fd, response, sizeof(response) - 1) != (ssize_t)sizeof(response) - 1)
		bench_fail_errno(path);
}

__attribute__((noreturn)) static void handle_calls(const char *path)
{
	int fd = open_file(path, O_RDWR);

	bench_tell_ready();
	for (;;) {
		handle_call(fd, path);
		close(fd);
		fd = open_file(path, O_RDWR);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--commands") == 0) {
		handle_commands(argv[2]);
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "--calls") == 0)
		handle_calls(argv[2]);
	fputs("usage: handler --commands FILE | --calls FILE\n", stderr);
	return 2;
}
