/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_TOY_BOX_H
#define TESTS_SUPPORT_TOY_BOX_H

/*
 * The part of the toy tree in which names come and go.
 *
 *   box    0777, a directory in which users make, move and remove directories and documents, also in what they
 *          made. Documents keep what is written to them, up to TOY_BOX_DOCUMENT bytes; TOY_BOX_SET and TOY_BOX_GET
 *          are their ioctls. A name that begins with `no` is refused with EACCES.
 *   live   0755, transient directories that the test adds and removes: 0, 1, … each with a document `leaf`
 */

#include <stdint.h>
#include <sys/ioctl.h>

#include "fuse/tree.h"

#define TOY_BOX_DOCUMENT 4096

/* Replace the first bytes of a document, give them, and exchange them. */
struct toy_box_bytes {
	char text[8];
};
#define TOY_BOX_SET   _IOW('T', 1, struct toy_box_bytes)
#define TOY_BOX_GET   _IOR('T', 2, struct toy_box_bytes)
#define TOY_BOX_SWAP  _IOWR('T', 3, struct toy_box_bytes)
#define TOY_BOX_CLEAR _IO('T', 4)

struct toy_box {
	struct fuse_node *live;
	struct fuse_node *root;
	uint64_t n_items;   /* made and not dropped */
	uint64_t n_closed;  /* FLUSH of a thread that goes on, or ended by itself */
	uint64_t n_killed;  /* FLUSH of one that was killed */
	uint64_t last_live; /* number of the next one */
};

/* Adds box and live to @root. Returns 0 or -ENOMEM. */
int toy_box_add(struct toy_box *box, struct fuse_node *root);

/* Adds @n directories to live; returns how many there are then since the beginning. */
uint64_t toy_box_add_live(struct toy_box *box, uint64_t n);

/* Removes what @path below the root names; returns 0 or -ENOENT. */
int toy_box_remove(struct toy_box *box, const char *path);
/* Moves it into box, under the name it has with `moved-` before it. Returns as fuse_node_move(). */
int toy_box_move(struct toy_box *box, const char *path);

#endif
