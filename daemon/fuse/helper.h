/* SPDX-License-Identifier: MIT */
#ifndef FUSE_HELPER_H
#define FUSE_HELPER_H

/*
 * fusermount3, the setuid program of Debian's package fuse3 that mounts for users.
 */

#include "base/log.h"

/* Mounts at @path. Returns the descriptor (O_CLOEXEC) or a negative errno, logged: -ENOENT without
 * fusermount3, -EPERM when it refused. */
int fuse_helper_mount(const char *path, struct log *log);

/* Unmounts, lazily. Returns 0 or a negative errno, logged. */
int fuse_helper_unmount(const char *path, struct log *log);

#endif
