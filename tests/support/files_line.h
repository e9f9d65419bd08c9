/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_FILES_LINE_H
#define TESTS_SUPPORT_FILES_LINE_H

/*
 * The telemetry files with their queue behind a tree without a kernel (fuse_line.h), and a link that never starts: what
 * the hub would say is said by hand.
 */

#include "config/config.h"
#include "flow/link.h"
#include "flow/telemetry_files.h"
#include "journal/journal.h"
#include "loop/loop.h"
#include "tests/support/fuse_line.h"

struct files_line {
	struct loop *loop;
	struct log log;
	struct config config;
	struct journal *journal;
	struct waiters *waiters;
	struct link *link;
	struct telemetry *telemetry;
	struct fuse_tree *tree;
	struct telemetry_files *files;
	struct fuse_line line;
};

/* @run: the first half of message ids. */
void files_line_init(struct files_line *f, uint64_t queue_bytes, uint64_t run);
/* Works with a zeroed struct. */
void files_line_deinit(struct files_line *f);

/* The hub takes all records up to @last. */
void files_line_take(struct files_line *f, uint64_t last);

#endif
