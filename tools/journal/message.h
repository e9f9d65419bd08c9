/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_JOURNAL_MESSAGE_H
#define TOOLS_JOURNAL_MESSAGE_H

/*
 * A record as the message it holds.
 */

#include "walk.h"

/* Room for a channel's name, or its number. */
#define MESSAGE_CHANNEL_SIZE (JOURNAL_CHANNEL_NAME_MAX + 8)

struct message {
	const struct walk_item *item;
	char channel[MESSAGE_CHANNEL_SIZE];
	struct bytes properties;
	struct bytes payload;
	struct bytes reason; /* of a rejected one, in a line; else empty */
};

/* @item: a WALK_RECORD; borrowed. */
void message_get(struct message *out, const struct store *store, const struct walk_item *item);

/* The name of the channel of a segment's records; its number behind a # when it has none. */
void message_channel(const struct store_segment *segment, char out[static MESSAGE_CHANNEL_SIZE]);

/* Writes text that may be anything to standard output, without control characters. */
void message_print(struct bytes text);

#endif
