/* SPDX-License-Identifier: MIT */
#ifndef IOTHUBCTL_FILES_H
#define IOTHUBCTL_FILES_H

/*
 * The daemon's files: opening and reading them, and what to say when that fails.
 */

#include "base/buf.h"
#include "verb.h"

/* No document of the daemon is as long. */
#define CTL_TEXT_MAX (4u * 1024 * 1024)

/* Says on standard error that @error, an errno, came of the file @name, and what can be done about it. Returns the
 * exit code. */
int ctl_say(const struct ctl_args *args, const char *name, int error);

/* Opens the file @name, from the mount point. Returns 0, or the exit code after a line. */
int ctl_open(const struct ctl_args *args, const char *name, int flags, int *out_fd);

/* Reads all of an open file from its beginning into @text, in place of what is there, with a NUL behind it that does not
 * count. Returns 0 or a negative errno. */
int ctl_read(int fd, struct buf *text);

/* The same of the file @name, into @text, which is initialised here and the caller's to deinitialise in any case.
 * Returns 0, or the exit code after a line. */
int ctl_read_file(const struct ctl_args *args, const char *name, struct buf *text);

/* Copies the lines of the file @name to standard output as they come; without @follow, what is there. Returns the exit
 * code. */
int ctl_copy_lines(const struct ctl_args *args, const char *name, bool follow);

#endif
