/* SPDX-License-Identifier: MIT */
#ifndef FUSE_DEV_H
#define FUSE_DEV_H

/*
 * The `dev` transport: requests read from and replies written to /dev/fuse in the main loop.
 */

#include "base/log.h"
#include "fuse/tree.h"
#include "loop/loop.h"

struct fuse_dev;

/* Starts serving @fd (borrowed, non-blocking, freshly mounted). Returns 0 or -ENOMEM. */
int fuse_dev_new(struct fuse_dev **out, struct loop *loop, struct fuse_tree *tree, int fd, struct log *log);
/* Stops serving: whoever is parked gets an error. The descriptor is in use until fuse_dev_is_idle(), which takes a
 * turn of the loop. */
void fuse_dev_stop(struct fuse_dev *dev);
bool fuse_dev_is_idle(const struct fuse_dev *dev);
/* Stops serving if that was not done; frees itself once nothing is in flight. NULL is fine. */
void fuse_dev_free(struct fuse_dev *dev);

#endif
