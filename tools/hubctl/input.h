/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_INPUT_H
#define HUBCTL_INPUT_H

/*
 * Payloads: from the command line, a file, or standard input.
 */

#include <stddef.h>

#include "base/bytes.h"

/* More than any hub takes in one packet by default. */
#define INPUT_MAX (1024u * 1024u)

/*
 * The bytes of @word, or, when that is NULL, of the file @path, `-` being standard input. Both NULL: none.
 * In malloc()ed memory with a NUL behind it, to be freed by the caller. Returns 0, or a negative errno after
 * a line on standard error.
 */
int input_read(const char *word, const char *path, char **out, size_t *out_len);

#endif
