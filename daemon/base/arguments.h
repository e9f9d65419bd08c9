/* SPDX-License-Identifier: MIT */
#ifndef BASE_ARGUMENTS_H
#define BASE_ARGUMENTS_H

/*
 * What the command lines of programs that use the files have in common.
 */

#include <stdint.h>

/* A decimal number from @min to @max. Returns 0 or -EINVAL. */
int argument_number(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* Seconds, whole ones or with a fraction; more than 0, at most a million. Returns 0 or -EINVAL. */
int argument_seconds(const char *text, uint64_t *out_ns);

/* Where the files are when no option says so: $IOTHUB_MOUNT, else root's place, for other users the one below
 * $XDG_RUNTIME_DIR. The caller frees *@out. Returns 0, -ENOENT: nothing says where, or -ENOMEM. */
int argument_mount_dir(char **out);

#endif
