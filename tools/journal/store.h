/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_JOURNAL_STORE_H
#define TOOLS_JOURNAL_STORE_H

/*
 * A journal's directory, read and never written: which segments there are, in which lanes. A daemon may be using it
 * meanwhile: what is here is as it was when it was read.
 */

#include "journal/format.h"

struct store_segment {
	char name[32]; /* of the file */
	struct journal_identity identity;
	struct journal_state state;
	uint64_t file_bytes;
	bool has_bad_identity; /* one of the two copies */
	bool has_bad_state;    /* one of the two, and it is not empty */
};

/* A file that is no segment to read. */
struct store_bad {
	char *name;
	const char *why;
	bool is_damage; /* else it was never finished */
};

struct store {
	int fd;                         /* of the directory */
	bool is_journal;                /* has the file `lock`, or anything with the name of a segment */
	struct store_segment *segments; /* without spare ones; those of a lane together, by index */
	size_t n_segments;
	size_t n_spares;
	uint64_t bytes; /* of all files */
	struct store_bad *bad;
	size_t n_bad;
	size_t n_aside; /* files in damaged/ */
};

/* Returns 0 or a negative errno; store_close() in any case. */
int store_open(struct store *store, const char *dir);
/* Idempotent. */
void store_close(struct store *store);

bool store_is_same_lane(const struct store_segment *a, const struct store_segment *b);

#endif
