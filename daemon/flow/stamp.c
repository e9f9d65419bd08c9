/* SPDX-License-Identifier: MIT */
/*
 * Message properties as a template, see stamp.h. The time is formatted when its millisecond changes, which is
 * at most once a turn of the loop, since only the loop reads the clock.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "flow/stamp.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

static void stamp_set_time(struct stamp *stamp, uint64_t wall_ms)
{
	char text[TIME_ISO_LEN + 1];

	time_format_iso(wall_ms, text);
	memcpy(stamp->encoded + stamp->time_at, text, TIME_ISO_LEN);
	stamp->time_ms = wall_ms;
}

int stamp_init(struct stamp *stamp, uint64_t run, struct bytes others)
{
	size_t len = STAMP_LEN + others.len;
	uint8_t *encoded = malloc(len);
	struct writer w = writer_init(encoded, len);
	char id[HUB_MESSAGE_ID_LEN + 1], time[TIME_ISO_LEN + 1];

	if (!encoded)
		return -ENOMEM;
	*stamp = (struct stamp){.run = run, .encoded = encoded, .len = len};
	hub_message_id_format(run, 0, id);
	mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_MESSAGE_ID), bytes_from_str(id));
	stamp->id_at = writer_len(&w) - HUB_MESSAGE_ID_LEN;
	time_format_iso(0, time);
	mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_CREATION_TIME), bytes_from_str(time));
	stamp->time_at = writer_len(&w) - TIME_ISO_LEN;
	assert(!w.error && writer_len(&w) == STAMP_LEN);
	if (others.len)
		writer_bytes_put(&w, others);
	return 0;
}

void stamp_deinit(struct stamp *stamp)
{
	free(TAKE_PTR(stamp->encoded));
	stamp->len = 0;
}

void stamp_put(struct stamp *stamp, uint64_t sequence, uint64_t wall_ms, uint8_t *out)
{
	char id[HUB_MESSAGE_ID_LEN + 1];

	if (wall_ms != stamp->time_ms)
		stamp_set_time(stamp, wall_ms);
	memcpy(out, stamp->encoded, stamp->len);
	hub_message_id_format(stamp->run, sequence, id);
	memcpy(out + stamp->id_at, id, HUB_MESSAGE_ID_LEN);
}
