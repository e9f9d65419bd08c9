/* SPDX-License-Identifier: MIT */
/*
 * Message properties as a template, see stamp.h. The time is formatted when its millisecond changes, which is
 * at most once a turn of the loop, since only the loop reads the clock.
 */

#include <assert.h>

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

void stamp_init(struct stamp *stamp, uint64_t run)
{
	struct writer w = writer_init(stamp->encoded, sizeof(stamp->encoded));
	char id[HUB_MESSAGE_ID_LEN + 1], time[TIME_ISO_LEN + 1];

	stamp->run = run;
	hub_message_id_format(run, 0, id);
	mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_MESSAGE_ID), bytes_from_str(id));
	stamp->id_at = writer_len(&w) - HUB_MESSAGE_ID_LEN;
	time_format_iso(0, time);
	mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_CREATION_TIME), bytes_from_str(time));
	stamp->time_at = writer_len(&w) - TIME_ISO_LEN;
	stamp->time_ms = 0;
	assert(!w.error && writer_len(&w) == STAMP_LEN);
}

void stamp_put(struct stamp *stamp, uint64_t sequence, uint64_t wall_ms, uint8_t *out)
{
	char id[HUB_MESSAGE_ID_LEN + 1];

	if (wall_ms != stamp->time_ms)
		stamp_set_time(stamp, wall_ms);
	memcpy(out, stamp->encoded, STAMP_LEN);
	hub_message_id_format(stamp->run, sequence, id);
	memcpy(out + stamp->id_at, id, HUB_MESSAGE_ID_LEN);
}
