/* SPDX-License-Identifier: MIT */
/*
 * iothub-journal show: one message with all there is to know of it.
 */

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/time.h"
#include "inspect.h"
#include "message.h"
#include "mqtt/packet.h"

#define HEX_LINE 16

static void print_hex(struct bytes data)
{
	for (size_t at = 0; at < data.len; at += HEX_LINE) {
		size_t n = data.len - at < HEX_LINE ? data.len - at : HEX_LINE;

		printf("%08zx ", at);
		for (size_t i = 0; i < HEX_LINE; ++i)
			if (i < n)
				printf("%s %02x", i == HEX_LINE / 2 ? " " : "",
				       (unsigned int)data.data[at + i]);
			else
				printf("%s   ", i == HEX_LINE / 2 ? " " : "");
		fputs("  |", stdout);
		for (size_t i = 0; i < n; ++i)
			putchar(data.data[at + i] >= ' ' && data.data[at + i] < 0x7f ? data.data[at + i]
										     : '.');
		puts("|");
	}
}

static void print_pair(struct bytes key, struct bytes value)
{
	message_print(key);
	fputs(": ", stdout);
	message_print(value);
	putchar('\n');
}

static void print_properties(struct bytes field)
{
	struct mqtt_properties properties;
	struct bytes key, value;
	size_t pos = 0;

	if (mqtt_properties_decode(&properties, field, MQTT_PUBLISH) < 0) {
		puts("properties: not understood");
		print_hex(field);
		return;
	}
	if (mqtt_has(&properties, MQTT_PROP_CONTENT_TYPE))
		print_pair(BYTES_LIT("content-type"), properties.content_type);
	while (mqtt_user_property_next(field, &pos, &key, &value))
		print_pair(key, value);
}

static void print_header(const struct message *message)
{
	const struct walk_item *item = message->item;
	const struct journal_header *header = &item->header;
	char time[TIME_ISO_LEN + 1];

	time_format_iso(header->time_ms, time);
	printf("sequence: %" PRIu64 "\ntime: %s\nstate: %s\n", header->sequence, time,
	       walk_state_name(item->state));
	if (message->reason.len)
		print_pair(BYTES_LIT("reason"), message->reason);
	print_pair(BYTES_LIT("channel"), bytes_from_str(message->channel));
	printf("priority: %u\nttl: %" PRIu32 "\n", (unsigned int)header->priority, header->ttl_s);
	printf("place: %s, offset %" PRIu64 ", %" PRIu64 " bytes, index %" PRIu64 "\n", item->segment->name,
	       item->offset, item->size, header->index);
	printf("payload: %zu bytes\n", message->payload.len);
}

static void print_message(const struct inspect *inspect, const struct walk_item *item)
{
	struct message message;

	message_get(&message, &inspect->store, item);
	if (inspect->show != INSPECT_SHOW_PAYLOAD) {
		print_header(&message);
		print_properties(message.properties);
		putchar('\n');
	}
	if (inspect->show == INSPECT_SHOW_HEX) {
		print_hex(message.payload);
		return;
	}
	fwrite(message.payload.data, 1, message.payload.len, stdout);
	if (inspect->show == INSPECT_SHOW_ALL && message.payload.len &&
	    message.payload.data[message.payload.len - 1] != '\n')
		putchar('\n');
}

static int show_run(struct inspect *inspect)
{
	struct walk_options options = {.all = true, .from_sequence = inspect->sequence};
	bool is_damaged = false, is_found = false;
	struct walk_item item;
	struct walk *walk;
	int r = inspect_walk(inspect, &options, &walk);

	if (r)
		return r;
	while (!is_found && (r = walk_next(walk, &item)) > 0) {
		if (item.kind != WALK_RECORD)
			is_damaged |= inspect_complain(&item);
		else if (item.header.sequence > inspect->sequence)
			break;
		else if (item.header.sequence == inspect->sequence)
			is_found = true;
	}
	if (is_found)
		print_message(inspect, &item);
	walk_free(walk);
	if (r < 0)
		return inspect_no_memory();
	if (is_found)
		return INSPECT_DONE;
	is_damaged |= inspect_complain_files(inspect);
	fprintf(stderr, "iothub-journal: there is no message %" PRIu64 "%s\n", inspect->sequence,
		is_damaged ? "; it may be one of those damaged" : "");
	return INSPECT_NOT_THERE;
}

const struct inspect_verb inspect_verb_show = {
	.name = "show",
	.words = "SEQUENCE",
	.what = "one message",
	.help = "Prints the message with this number: where it is, its properties, an empty line, its "
		"payload.\n"
		"\n"
		"  -x, --hex            the payload as hexadecimal numbers\n"
		"  -p, --payload        the bytes of the payload and nothing else\n",
	.options = "xp",
	.run = show_run,
};
