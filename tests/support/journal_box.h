/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_JOURNAL_BOX_H
#define TESTS_SUPPORT_JOURNAL_BOX_H

/*
 * A journal in a directory of its own, with its loop, and what it told its owner. The bytes of a record follow from its
 * number and lengths, so whatever is read can be checked.
 *
 * Holds pointers: a child process uses a copy of it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "journal/journal.h"
#include "loop/loop.h"

struct journal_box {
	char dir[176];
	bool is_volatile;
	uint64_t max_bytes;
	struct journal_guard *guard;
	struct loop *loop;
	struct journal *j;
	/* What was called. */
	unsigned int n_stored;
	uint64_t stored;
	int stored_error;
	unsigned int n_room;
	unsigned int n_lost;
	struct journal_lane *lost_lane;
	uint64_t lost_first, lost_last;
	char events[512]; /* names, each with a space behind it */
};

/* Makes the directory. */
void box_init(struct journal_box *box);
/* Opens the journal, with a new loop. Returns what journal_new() does. */
int box_open(struct journal_box *box);
/* As a daemon that stops. Works twice. */
void box_close(struct journal_box *box);
/* Deletes the directory. */
void box_deinit(struct journal_box *box);

void box_turn(struct journal_box *box);
/* Until the last journal_sync() was answered, and nothing is in flight. Returns the error of the last answer. */
int box_sync(struct journal_box *box);
/* Turns until the event came; false: it did not within a second or two. */
bool box_wait_event(struct journal_box *box, const char *event);

struct journal_lane *box_lane(struct journal_box *box, uint16_t channel, uint8_t priority, uint32_t ttl_s);
/* Returns 0 or the error. */
int box_append(struct journal_box *box, struct journal_lane *lane, size_t properties_len, size_t payload_len);
/* Asserts that the record can be read and has the bytes it was given. */
void box_check(const struct journal_cursor *at);
/* Takes what goes out next, checked. False: nothing does. */
bool box_send(struct journal_box *box, struct journal_cursor *out);
/* Sends and ends everything, checked. Returns how many. */
uint64_t box_drain(struct journal_box *box);

#endif
