/* SPDX-License-Identifier: MIT */
/*
 * iothub-journal export: messages as lines of JSON.
 */

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "flow/message_json.h"
#include "inspect.h"
#include "message.h"

/* What no daemon writes, or one of another version. */
static void add_raw_properties(struct message_json *text, struct bytes field)
{
	_cleanup_(free_ptr) char *base64 = malloc(BASE64_LEN(field.len) + 1);

	if (base64)
		base64_encode(field, base64);
	message_json_add(text, text->root, "properties-base64",
			 base64 ? json_object_new_string(base64) : NULL);
}

static void add_header(struct message_json *text, const struct message *message)
{
	const struct journal_header *header = &message->item->header;

	message_json_add(text, text->root, "sequence", json_object_new_uint64(header->sequence));
	message_json_add_time(text, "time", header->time_ms);
	message_json_add(text, text->root, "state",
			 json_object_new_string(walk_state_name(message->item->state)));
	if (message->reason.len)
		message_json_add(text, text->root, "reason", message_json_string(message->reason));
	message_json_add(text, text->root, "channel", json_object_new_string(message->channel));
	message_json_add(text, text->root, "priority", json_object_new_int(header->priority));
	message_json_add(text, text->root, "ttl", json_object_new_int64(header->ttl_s));
}

/* Returns 0 or -ENOMEM. */
static int export_message(const struct message *message)
{
	_cleanup_(message_json_deinit) struct message_json text = {.root = json_object_new_object()};
	_cleanup_(free_ptr) char *line = NULL;
	size_t len;
	int r;

	add_header(&text, message);
	if (message_json_add_properties(&text, message->properties) < 0)
		add_raw_properties(&text, message->properties);
	message_json_add_payload(&text, message->payload);
	r = message_json_take(&text, &line, &len);
	if (!r)
		fwrite(line, 1, len, stdout);
	return r;
}

static int export_item(struct inspect *inspect, const struct walk_item *item, bool *is_damaged)
{
	struct message message;

	if (item->kind != WALK_RECORD) {
		*is_damaged |= inspect_complain(item);
		return 0;
	}
	message_get(&message, &inspect->store, item);
	if (!inspect_wants(inspect, message.channel) || (!inspect->all && item->state >= WALK_DONE))
		return 0;
	return export_message(&message);
}

static int export_run(struct inspect *inspect)
{
	struct walk_options options = {.all = inspect->all};
	bool is_damaged = inspect_complain_files(inspect);
	struct walk_item item;
	struct walk *walk;
	int r = inspect_walk(inspect, &options, &walk);

	if (r)
		return r;
	while ((r = walk_next(walk, &item)) > 0 && !ferror(stdout)) {
		r = export_item(inspect, &item, &is_damaged);
		if (r < 0)
			break;
	}
	walk_free(walk);
	if (r < 0)
		return inspect_no_memory();
	return is_damaged ? INSPECT_FAILED : INSPECT_DONE;
}

const struct inspect_verb inspect_verb_export = {
	.name = "export",
	.what = "messages as JSON lines",
	.help = "Prints one JSON object a line for each message that waits or was rejected, in the order "
		"they\n"
		"came in. The payload is \"payload\", a string, or when it is no UTF-8 \"payload-base64\".\n"
		"\n"
		"  -a, --all            also messages that are done with, as far as they are still there\n"
		"  -c, --channel NAME   only messages of this channel\n",
	.options = "ac",
	.run = export_run,
};
