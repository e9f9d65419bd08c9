/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SEGMENT_MAKE_H
#define TESTS_SEGMENT_MAKE_H

/*
 * Segments of the journal made by hand, with nothing of the journal but its format.
 */

#include "journal/format.h"

struct segment_make {
	uint8_t *data; /* borrowed, at a multiple of 8; identity.size bytes */
	struct journal_identity identity;
	uint64_t head;     /* where the next record goes */
	uint64_t index;    /* of the next record */
	uint64_t sequence; /* of the next record */
};

/* Puts the identity (both copies) to @data and no records behind it; the rest of @data stays what it is. @identity->size: bytes of
 * @data. The first record gets @sequence. */
void segment_make_init(struct segment_make *make, uint8_t *data, const struct journal_identity *identity,
		       uint64_t sequence);

/* Appends a record, published; time, ttl and origin follow from its sequence. Returns its offset, 0: there is no room. */
uint64_t segment_make_add(struct segment_make *make, struct bytes properties, struct bytes payload);

/* The header segment_make_add() writes. */
struct journal_header segment_make_header(const struct segment_make *make, uint64_t properties_len,
					  uint64_t payload_len);

static inline struct bytes segment_make_bytes(const struct segment_make *make)
{
	return BYTES(make->data, make->identity.size);
}

#endif
