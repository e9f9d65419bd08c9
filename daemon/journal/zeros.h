/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_ZEROS_H
#define JOURNAL_ZEROS_H

/*
 * Whether a file was ever written to.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is read of a file at most: it is as much as is kept of a damaged one. */
#define ZEROS_BYTES_MAX (UINT64_C(64) << 20)

/* @len: at least 1. */
bool zeros_are(const uint8_t *data, size_t len);

/*
 * Whether all of the regular file open as @fd is zeros; the descriptor's offset moves. Holes, and what is only allocated, are
 * not read where the file system can tell them from data. Returns 1; 0: there is something else, or more than
 * ZEROS_BYTES_MAX would have to be read; or a negative errno.
 */
int zeros_is_file(int fd);

#endif
