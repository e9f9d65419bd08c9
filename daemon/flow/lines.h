/* SPDX-License-Identifier: MIT */
#ifndef FLOW_LINES_H
#define FLOW_LINES_H

/*
 * A file of lines that grows as things happen and that any number of readers follow: `events`, `twin/changes`. A
 * read gives one line or a part of one; at the end it waits for the next line (O_NONBLOCK: EAGAIN). poll(2) reports
 * POLLIN when there is one.
 *
 * The last lines are kept, up to a bound in bytes. A reader begins with the oldest kept line, or with the next one
 * to come, as the file's owner chose. One that is too slow loses the oldest lines, and is told how many by a line of
 * its own, `{"lost":N}`.
 */

#include "base/bytes.h"
#include "config/config.h"
#include "fuse/tree.h"

struct lines;

/* Longest line, in bytes, newline included. */
#define LINES_LINE_MAX 65536

struct lines_options {
	struct fuse_node *parent;
	const char *name;
	const struct config_access *access; /* borrowed for the call */
	size_t bytes_max;                   /* of lines kept, at least LINES_LINE_MAX */
	bool from_start;                    /* readers begin with what is kept */
};

/* Adds the file. Returns 0, -ENOMEM, or as fuse_node_add(). */
int lines_new(struct lines **out, const struct lines_options *options);
/* After the tree. NULL is fine. */
void lines_free(struct lines *lines);

/* Adds a line, without its newline; cut at LINES_LINE_MAX. Without memory it counts as lost by every reader. */
void lines_put(struct lines *lines, struct bytes line);

#endif
