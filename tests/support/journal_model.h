/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_JOURNAL_MODEL_H
#define TESTS_SUPPORT_JOURNAL_MODEL_H

/*
 * What a journal has to have, in memory: every record that was ever appended, and whether it has to come, may come or
 * must not. The calls here do something with a journal and compare what it does; what differs ends the test.
 *
 * A record is known by its time, which is its place in the model; its bytes follow from that. The model lies in shared
 * memory and outlives the processes that have the journal open; what they have in flight is a struct model_run of each.
 */

#include <stdbool.h>
#include <stdint.h>

#include "journal/journal.h"
#include "tests/support/journal_box.h"

#define MODEL_RECORDS_MAX 4000
#define MODEL_FLIGHT_MAX  1500
#define MODEL_LANES       6
#define MODEL_FILES_MAX   256
#define MODEL_HELD_MAX    20000

enum model_fate {
	MODEL_LIVE,  /* has to come */
	MODEL_MAYBE, /* it was promised to nobody, was hit, or its end was not written */
	MODEL_SENT,
	MODEL_ENDING, /* done with, in the turn that did not end */
	MODEL_DONE,
	MODEL_WITHDRAWN,
	MODEL_LOST, /* one that may come and did not */
};

struct model_record {
	uint64_t sequence;
	uint64_t file; /* its id */
	uint64_t offset;
	uint64_t size;
	uint32_t properties_len;
	uint32_t payload_len;
	uint8_t lane;
	uint8_t fate;   /* enum model_fate */
	uint8_t before; /* likewise, when the snapshot was made */
	bool is_hit;
	bool is_stored; /* and the file's state says so */
};

/* A file that somebody damaged. */
struct model_file {
	uint64_t id;
	unsigned int n_header_hits;
	bool is_gone; /* all of it, or its end */
};

struct model {
	uint64_t seed;
	uint64_t random;
	uint64_t max_bytes;
	bool is_calm; /* a turn ends when nothing is in flight: the same happens each time */
	uint64_t n;   /* records, from 1 on */
	uint64_t n_before;
	struct model_record records[MODEL_RECORDS_MAX + 1];
	struct model_file files[MODEL_FILES_MAX];
	size_t n_files;
	uint64_t n_hits;        /* records that may be counted as lost, at most */
	uint64_t n_withdrawn;   /* ever */
	bool had_cut;           /* of power: there are holes */
	uint64_t n_lost_stored; /* were stored, hit by one flip, and passed by */
	uint64_t n_damaged;     /* what the journal counted in this process, and in those before */
	uint64_t n_damaged_before;
	/* What was proved. */
	uint64_t n_checked;
	uint64_t n_lost;
};

struct model_flight {
	struct journal_cursor at;
	uint64_t n;
};

struct model_run {
	struct model *model;
	struct journal_box box;
	struct journal_lane *lanes[MODEL_LANES]; /* NULL: not held */
	struct model_flight flight[MODEL_FLIGHT_MAX];
	size_t n_flight;
	unsigned int n_of_lane[MODEL_LANES]; /* of these */
	uint64_t n_first;                    /* records of earlier processes */
	uint64_t held;
	uint64_t stored;
	bool is_exact; /* the journal had nothing when it was opened, or since: its counts are right */
};

void model_init(struct model *m, uint64_t seed);
/* From 0 to @n - 1, of the sequence's own numbers. */
uint64_t model_random(struct model *m, uint64_t n);

/* --- one process's ---------------------------------------------------------------------------- */

/* Opens the journal in @dir. */
void model_open(struct model_run *run, struct model *m, const char *dir);
struct journal_lane *model_lane(struct model_run *run, unsigned int lane);
/* The lane goes when it is empty. */
void model_put_lane(struct model_run *run, unsigned int lane);

/* Whether it was appended; false: it is over the bound. */
bool model_append(struct model_run *run, unsigned int lane, size_t properties_len, size_t payload_len);
/* Begins one and does not end it. */
void model_append_half(struct model_run *run, unsigned int lane, size_t payload_len);
/* So many at once, or none. */
void model_append_batch(struct model_run *run, unsigned int lane, uint64_t n, size_t payload_len);
/* Takes what goes out next. False: nothing does. */
bool model_send(struct model_run *run);
/* Ends one of those in flight. */
void model_end_one(struct model_run *run, size_t i);
/* Ends the first one of a lane, sent or not. False: it is empty, or its first one is in flight. */
bool model_end_first(struct model_run *run, unsigned int lane);
void model_withdraw(struct model_run *run, uint64_t n);
void model_hold(struct model_run *run, uint64_t n_bytes);
void model_unhold(struct model_run *run, uint64_t n_bytes);
void model_turn(struct model_run *run);
void model_flush(struct model_run *run);
/* Until everything is stored. */
void model_sync(struct model_run *run);
/* Walks all lanes: everything that has to come is there, in order. */
void model_walk(struct model_run *run);
/* Looks for one, as it is in the model. */
void model_find(struct model_run *run, uint64_t n);
void model_check_counters(struct model_run *run);
/* Empties the journal; nothing is left of it. */
void model_drain(struct model_run *run);

/* --- between processes ------------------------------------------------------------------------ */

enum model_end {
	MODEL_STOP,
	MODEL_KILL,
	MODEL_CUT, /* of power: since the snapshot */
};
/* All that was appended is on the disk, and all that was done with. */
void model_snapshot(struct model *m);
void model_ended(struct model *m, enum model_end how);
/* One bit of that byte of a file was flipped. */
void model_hit(struct model *m, uint64_t file, uint64_t offset);
/* Both copies of what is in its header may have been hit: nobody may know what the file is. */
bool model_is_lost_file(const struct model *m, uint64_t file);
/* The bytes of a file from @offset on are gone. */
void model_hit_from(struct model *m, uint64_t file, uint64_t offset);

#endif
