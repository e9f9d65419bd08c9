/* SPDX-License-Identifier: MIT */
/*
 * Segments made by hand, see segment_make.h.
 */

#include "tests/support/segment_make.h"

void segment_make_init(struct segment_make *make, uint8_t *data, const struct journal_identity *identity,
		       uint64_t sequence)
{
	*make = (struct segment_make){
		.data = data,
		.identity = *identity,
		.head = JOURNAL_HEADER_BYTES,
		.index = identity->first_index,
		.sequence = sequence,
	};
	journal_identity_put(identity, data + JOURNAL_IDENTITY_AT);
	journal_identity_put(identity, data + JOURNAL_IDENTITY_COPY_AT);
}

struct journal_header segment_make_header(const struct segment_make *make, uint64_t properties_len,
					  uint64_t payload_len)
{
	return (struct journal_header){
		.properties_len = (uint32_t)properties_len,
		.payload_len = (uint32_t)payload_len,
		.sequence = make->sequence,
		.index = make->index,
		.time_ms = UINT64_C(1700000000000) + make->sequence,
		.ttl_s = make->identity.ttl_s,
		.channel = make->identity.channel,
		.priority = make->identity.priority,
		.origin = make->sequence % 7,
	};
}

uint64_t segment_make_add(struct segment_make *make, struct bytes properties, struct bytes payload)
{
	struct journal_header header = segment_make_header(make, properties.len, payload.len);
	uint64_t at = make->head, size = journal_record_bytes(properties.len, payload.len);
	uint8_t *record = make->data + at;

	if (size > make->identity.size - at)
		return 0;
	journal_record_reserve(record, &header);
	if (properties.len)
		memcpy(record + JOURNAL_RECORD_HEADER_BYTES, properties.data, properties.len);
	if (payload.len)
		memcpy(record + JOURNAL_RECORD_HEADER_BYTES + properties.len, payload.data, payload.len);
	journal_record_publish(record, make->identity.id);
	make->head += size;
	++make->index;
	++make->sequence;
	return at;
}
