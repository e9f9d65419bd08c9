/* SPDX-License-Identifier: MIT */
/*
 * Records as messages, see message.h. A rejected message's record has more than the message, as daemon/flow/rejected.c
 * writes down.
 */

#include "message.h"

#include <stdio.h>

#include "base/cursor.h"

#define REJECTED_VERSION 1

void message_channel(const struct store_segment *segment, char out[static MESSAGE_CHANNEL_SIZE])
{
	const struct journal_identity *identity = &segment->identity;

	if (identity->channel_name[0])
		snprintf(out, MESSAGE_CHANNEL_SIZE, "%s", identity->channel_name);
	else
		snprintf(out, MESSAGE_CHANNEL_SIZE, "#%u", (unsigned int)identity->channel);
}

/* By the number: of a segment with messages of the channel that wait, when there is one. */
static void channel_find(const struct store *store, uint16_t number, char out[static MESSAGE_CHANNEL_SIZE])
{
	for (size_t i = 0; i < store->n_segments; ++i) {
		const struct journal_identity *identity = &store->segments[i].identity;

		if (identity->kind == JOURNAL_KIND_QUEUE && identity->channel == number) {
			message_channel(&store->segments[i], out);
			return;
		}
	}
	snprintf(out, MESSAGE_CHANNEL_SIZE, "#%u", (unsigned int)number);
}

/* The record's payload stays the message's when it cannot be taken apart. */
static void rejected_get(struct message *out, const struct store *store)
{
	struct reader r = reader_init(out->payload);
	uint8_t version = reader_u8(&r);
	struct bytes reason;
	uint16_t channel;

	(void)reader_u8(&r);
	channel = reader_u16(&r);
	reason = reader_take(&r, reader_u32(&r));
	if (r.error || version != REJECTED_VERSION)
		return;
	channel_find(store, channel, out->channel);
	out->reason = reason;
	out->payload = reader_take(&r, reader_left(&r));
}

void message_get(struct message *out, const struct store *store, const struct walk_item *item)
{
	*out = (struct message){.item = item, .properties = item->properties, .payload = item->payload};
	message_channel(item->segment, out->channel);
	if (item->segment->identity.kind == JOURNAL_KIND_REJECTED)
		rejected_get(out, store);
}

void message_print(struct bytes text)
{
	for (size_t i = 0; i < text.len; ++i) {
		uint8_t c = text.data[i];

		/* U+0080 to U+009F are C2 80 to C2 9F. */
		if (c < ' ' || c == 0x7f || (c == 0xc2 && i + 1 < text.len && text.data[i + 1] < 0xa0))
			c = '?';
		else if (c >= 0x80 && c < 0xa0 && i && text.data[i - 1] == 0xc2)
			continue;
		putchar(c);
	}
}
