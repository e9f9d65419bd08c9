/* SPDX-License-Identifier: MIT */
/*
 * iothub-journal list: tables of records, lanes or segments.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "inspect.h"
#include "message.h"

/* What a lane holds, added up. */
struct lane_sum {
	const struct store_segment *first;
	uint64_t n_records;
	uint64_t n_bytes;
	uint64_t oldest_ms;
};

static const char *kind_name(enum journal_kind kind)
{
	switch (kind) {
	case JOURNAL_KIND_SPARE:
		return "spare";
	case JOURNAL_KIND_QUEUE:
		return "queue";
	case JOURNAL_KIND_REJECTED:
		return "rejected";
	case JOURNAL_N_KINDS:
		break;
	}
	return "unknown";
}

/* --- records ---------------------------------------------------------------------------------- */

static void print_record(struct inspect *inspect, const struct walk_item *item)
{
	char time[TIME_ISO_LEN + 1];
	struct message message;

	message_get(&message, &inspect->store, item);
	if (!inspect_wants(inspect, message.channel) || (!inspect->all && item->state >= WALK_DONE))
		return;
	time_format_iso(item->header.time_ms, time);
	printf("%10" PRIu64 "  %s  %-9s  %u  %8zu  %10zu  ", item->header.sequence, time,
	       walk_state_name(item->state), (unsigned int)item->header.priority, message.properties.len,
	       message.payload.len);
	message_print(bytes_from_str(message.channel));
	putchar('\n');
}

static int list_records(struct inspect *inspect, struct walk *walk)
{
	bool is_damaged = inspect_complain_files(inspect);
	struct walk_item item;
	int r;

	puts("  SEQUENCE  TIME                      STATE      P  PROPERTY     PAYLOAD  CHANNEL");
	while ((r = walk_next(walk, &item)) > 0)
		if (item.kind != WALK_RECORD)
			is_damaged |= inspect_complain(&item);
		else
			print_record(inspect, &item);
	if (r < 0)
		return inspect_no_memory();
	return is_damaged ? INSPECT_FAILED : INSPECT_DONE;
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void lane_print(struct inspect *inspect, const struct lane_sum *sum)
{
	const struct journal_identity *identity = &sum->first->identity;
	char time[TIME_ISO_LEN + 1] = "-", channel[MESSAGE_CHANNEL_SIZE];

	message_channel(sum->first, channel);
	if (!inspect_wants(inspect, channel))
		return;
	if (sum->n_records)
		time_format_iso(sum->oldest_ms, time);
	printf("%-8s  %u  %10" PRIu32 "  %10" PRIu64 "  %12" PRIu64 "  %-24s  ", kind_name(identity->kind),
	       (unsigned int)identity->priority, identity->ttl_s, sum->n_records, sum->n_bytes, time);
	message_print(bytes_from_str(channel));
	putchar('\n');
}

static struct lane_sum *lane_of(struct lane_sum *sums, size_t n, const struct store_segment *segment)
{
	size_t i = 0;

	while (i + 1 < n && !store_is_same_lane(sums[i].first, segment))
		i++;
	return &sums[i];
}

static void lane_add(struct lane_sum *sum, const struct walk_item *item)
{
	sum->n_records++;
	sum->n_bytes += item->size;
	if (!sum->oldest_ms || item->header.time_ms < sum->oldest_ms)
		sum->oldest_ms = item->header.time_ms;
}

static int list_lanes(struct inspect *inspect, struct walk *walk)
{
	const struct store *store = &inspect->store;
	_cleanup_(free_ptr) struct lane_sum *sums = calloc(store->n_segments + 1, sizeof(*sums));
	bool is_damaged = inspect_complain_files(inspect);
	struct walk_item item;
	size_t n = 0;
	int r;

	if (!sums)
		return inspect_no_memory();
	for (size_t i = 0; i < store->n_segments; ++i)
		if (!i || !store_is_same_lane(&store->segments[i - 1], &store->segments[i]))
			sums[n++].first = &store->segments[i];
	while ((r = walk_next(walk, &item)) > 0)
		if (item.kind != WALK_RECORD)
			is_damaged |= inspect_complain(&item);
		else if (item.state < WALK_DONE)
			lane_add(lane_of(sums, n, item.segment), &item);
	if (r < 0)
		return inspect_no_memory();
	puts("KIND      P         TTL     RECORDS         BYTES  OLDEST                    CHANNEL");
	for (size_t i = 0; i < n; ++i)
		lane_print(inspect, &sums[i]);
	return is_damaged ? INSPECT_FAILED : INSPECT_DONE;
}

/* --- segments --------------------------------------------------------------------------------- */

static void segment_print(struct inspect *inspect, const struct store_segment *segment)
{
	const struct journal_identity *identity = &segment->identity;
	const struct journal_state *state = &segment->state;
	char channel[MESSAGE_CHANNEL_SIZE], end[24] = "-";

	message_channel(segment, channel);
	if (!inspect_wants(inspect, channel))
		return;
	if (state->end_offset)
		snprintf(end, sizeof(end), "%" PRIu64, state->end_index);
	printf("%.16s  %-8s  %u  %10" PRIu32 "  %11" PRIu64 "  %10" PRIu64 "  %10" PRIu64 "  %10s  %11" PRIu64
	       "  ",
	       segment->name, kind_name(identity->kind), (unsigned int)identity->priority, identity->ttl_s,
	       identity->size, identity->first_index,
	       state->generation ? state->done_index : identity->first_index, end, state->stored_offset);
	message_print(bytes_from_str(channel));
	putchar('\n');
}

static int list_segments(struct inspect *inspect)
{
	const struct store *store = &inspect->store;

	puts("SEGMENT           KIND      P         TTL         SIZE       FIRST        DONE         END  "
	     "     STORED  CHANNEL");
	for (size_t i = 0; i < store->n_segments; ++i)
		segment_print(inspect, &store->segments[i]);
	return inspect_complain_files(inspect) ? INSPECT_FAILED : INSPECT_DONE;
}

static int list_run(struct inspect *inspect)
{
	struct walk_options options = {.all = inspect->all};
	struct walk *walk;
	int code;

	if (inspect->part == INSPECT_SEGMENTS)
		return list_segments(inspect);
	code = inspect_walk(inspect, &options, &walk);
	if (code)
		return code;
	code = inspect->part == INSPECT_LANES ? list_lanes(inspect, walk) : list_records(inspect, walk);
	walk_free(walk);
	return code;
}

const struct inspect_verb inspect_verb_list = {
	.name = "list",
	.words = "[records | lanes | segments]",
	.what = "what there is, as a table",
	.help = "Prints the messages that wait or were rejected, in the order they came in; or the lanes\n"
		"(messages of one channel, priority and ttl), or the segments (files).\n"
		"\n"
		"  -a, --all            also messages that are done with, as far as they are still there\n"
		"  -c, --channel NAME   only what is of this channel\n",
	.options = "ac",
	.run = list_run,
};
