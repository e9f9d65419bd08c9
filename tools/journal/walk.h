/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_JOURNAL_WALK_H
#define TOOLS_JOURNAL_WALK_H

/*
 * All records of a journal in the order they were appended, and where there should be some and are none.
 *
 * A daemon may be appending, marking and recycling meanwhile. Each record is copied, and its checksum is checked on
 * the copy; a segment that is used again for something else counts as done with.
 */

#include "journal/guard.h"
#include "store.h"

enum walk_kind {
	WALK_RECORD,
	WALK_HOLE, /* bytes that are no record, where records were or may have been; none: before a segment */
	WALK_UNREADABLE, /* a whole segment, for an error of the file system */
};

enum walk_state {
	WALK_QUEUED,
	WALK_REJECTED, /* the hub did, and it is kept for the user */
	WALK_EXPIRED,  /* queued, and its time is over */
	WALK_DONE,
	WALK_WITHDRAWN, /* taken back; why is not written down */
	WALK_N_STATES,
};

struct walk_item {
	enum walk_kind kind;
	const struct store_segment *segment;
	uint64_t offset;
	uint64_t size; /* in the file; of a hole: where the file was cut, as it was */
	/* WALK_RECORD: */
	struct journal_header header;
	enum walk_state state;
	struct bytes properties; /* borrowed until the next call */
	struct bytes payload;
	/* WALK_HOLE, WALK_UNREADABLE: records that were stored and not done with; what else is missing was promised to nobody */
	uint64_t n_missing;
	bool is_at_least; /* nothing tells whether there were more */
	/* WALK_HOLE: all that are missing, as far as one can tell */
	uint64_t n_gone;
	/* WALK_UNREADABLE: negative errno */
	int error;
};

struct walk_options {
	bool all;               /* from the first record on, not from the first that is not done with */
	uint64_t from_sequence; /* segments that end before it may be left out */
	uint64_t now_ms;        /* what is expired */
	struct journal_guard *guard;
};

struct walk;

/* @store stays the caller's and must live longer. Returns 0 or -ENOMEM. */
int walk_new(struct walk **out, const struct store *store, const struct walk_options *options);
/* NULL is fine. */
void walk_free(struct walk *walk);

/* Returns 1 with the next one, 0 at the end, or -ENOMEM. */
int walk_next(struct walk *walk, struct walk_item *out);

const char *walk_state_name(enum walk_state state);

#endif
