/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_INPUT_H
#define HUBCTL_INPUT_H

/*
 * Payloads: from the command line, a file, or standard input; one, or one in every line.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/bytes.h"

/* More than any hub takes in one packet by default. */
#define INPUT_MAX (1024u * 1024u)

/*
 * The bytes of @word, or, when that is NULL, of the file @path, `-` being standard input. Both NULL: none.
 * In malloc()ed memory with a NUL behind it, to be freed by the caller. Returns 0, or a negative errno after
 * a line on standard error.
 */
int input_read(const char *word, const char *path, char **out, size_t *out_len);

/* Lines that come from a descriptor, each up to INPUT_MAX bytes. */
struct input_lines {
	int fd;
	bool is_at_end; /* nothing more comes; what is left is a line, too */
	struct buf buf;
};

/* Of the file @path, `-` being standard input. input_lines_close() afterwards in any case. Returns 0, or a negative
 * errno after a line on standard error. */
int input_lines_open(struct input_lines *l, const char *path);
void input_lines_close(struct input_lines *l);

/* Reads once what is there; blocks when that is nothing. Returns as above. */
int input_lines_read(struct input_lines *l);

/* The next line without its newline, borrowed until the next read; false when there is none, yet or ever. */
bool input_lines_next(struct input_lines *l, struct bytes *out);

/* Whether all lines were taken. */
bool input_lines_are_done(const struct input_lines *l);

#endif
