/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_FILE_H
#define EMULATOR_FILE_H

#include <stdbool.h>

#include "base/bytes.h"

/* Creates @path and its missing parents with mode 0700. Returns 0 or the negative error. */
int emu_dir_make(const char *path);

/*
 * Replaces @path with @data, mode 0600: readers see the old file or the new one, never a part. @durable: also
 * after a power loss. Returns 0 or the negative error, the old file untouched.
 */
int emu_file_replace(const char *path, struct bytes data, bool durable);

#endif
