/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_TEXTFILE_H
#define CONFIG_TEXTFILE_H

/*
 * A small text file in memory: configuration and secrets.
 */

#include <sys/types.h>

#include "base/bytes.h"
#include "base/log.h"

struct textfile {
	char *data; /* NUL-terminated, owned */
	size_t len;
	mode_t mode; /* type and permissions */
};

/*
 * Reads all of @path, which can be a pipe. Returns 0; -EFBIG: over @max_bytes; -EILSEQ: a NUL byte in it; or
 * the error of open(2) or read(2). On failure @out is empty. What was read is in no other place of memory.
 */
int textfile_read(struct textfile *out, const char *path, size_t max_bytes);

/* Logs why textfile_read() failed and what to do. @what: "configuration file". */
void textfile_log_error(struct log *log, const char *what, const char *path, int error);

/* The text without white space at both ends; borrowed. */
struct bytes textfile_trimmed(const struct textfile *file);

/* Overwrites and frees. Idempotent. */
void textfile_wipe(struct textfile *file);

#endif
