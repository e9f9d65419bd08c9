/* SPDX-License-Identifier: MIT */
/*
 * Records that were withdrawn while the disk could not be read.
 *
 * Nothing of them can be marked on the disk then. The next ones of a lane have a bit in its window (read.c); others are
 * remembered here by number, and withdrawn by whoever looks at them first (lane_look()): the sender does so before it
 * sends one. They are counted as records of the lane until then.
 *
 * Remembered are runs: what one write appended is one. There are JOURNAL_UNSEEN_MAX of them; a record too many stays in
 * its lane as if it had not been withdrawn, and the log says so. A start forgets all of it.
 */

#include "journal/internal.h"

void unseen_add(struct journal *j, const struct journal_segment *segment, uint64_t sequence)
{
	if (unseen_has(j, segment, sequence))
		return;
	for (unsigned int i = 0; i < j->n_unseen; ++i) {
		struct journal_unseen *run = &j->unseen[i];

		if (run->segment != segment || (sequence + 1 != run->first && sequence != run->last + 1))
			continue;
		if (sequence < run->first)
			run->first = sequence;
		else
			run->last = sequence;
		return;
	}
	if (j->n_unseen == JOURNAL_UNSEEN_MAX) {
		log_write_once(j->log, &j->unseen_logged, LOG_LEVEL_ERROR,
			       "messages that were taken back cannot be read, and may be sent later");
		return;
	}
	j->unseen[j->n_unseen++] =
		(struct journal_unseen){.segment = segment, .first = sequence, .last = sequence};
}

bool unseen_has(const struct journal *j, const struct journal_segment *segment, uint64_t sequence)
{
	for (unsigned int i = 0; i < j->n_unseen; ++i)
		if (j->unseen[i].segment == segment && sequence >= j->unseen[i].first &&
		    sequence <= j->unseen[i].last)
			return true;
	return false;
}

void unseen_forget(struct journal *j, const struct journal_segment *segment)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < j->n_unseen; ++i)
		if (j->unseen[i].segment != segment)
			j->unseen[n++] = j->unseen[i];
	j->n_unseen = n;
}
