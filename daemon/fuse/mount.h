/* SPDX-License-Identifier: MIT */
#ifndef FUSE_MOUNT_H
#define FUSE_MOUNT_H

/*
 * A mount point: the /dev/fuse descriptor and what is needed to take it down again. As root by mount(2), as a
 * user through fusermount3.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

struct fuse_mount {
	int fd;         /* /dev/fuse, O_NONBLOCK|O_CLOEXEC; -1 when not mounted */
	char *path;     /* absolute */
	uint64_t id;    /* of the mount, as in mountinfo: somebody else's on the same path is left alone */
	bool by_helper; /* fusermount3 mounted it and has to unmount it */
	bool made_dir;  /* the directory was created and is removed again */
};

/*
 * Mounts at @path (absolute), creating the last component when it is missing; a stale mount of a daemon that
 * died is detached first. Logs one line that says what is wrong and what to do. Returns 0, -EBUSY (something
 * is mounted there, or files are in the way), -ENOTDIR, -EACCES, -EINVAL (a relative path), -ENOENT (parent
 * directory, or no fusermount3), -ENODEV (no /dev/fuse), or mount(2)'s error.
 */
int fuse_mount(struct fuse_mount *out, const char *path, struct log *log);

/*
 * Closes the descriptor, which ends the connection (whoever waits in a file gets an error), then unmounts,
 * also when files are open. Idempotent. Call it when the transport's operations have ended: one in flight
 * would keep the connection, and a request from fusermount3 would wait for us as we wait for it.
 */
void fuse_unmount(struct fuse_mount *m, struct log *log);

#endif
