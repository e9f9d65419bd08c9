/* SPDX-License-Identifier: MIT */
/*
 * A command as JSON, see command_json.h. What every message has is in message_json.c.
 */

#include <json-c/json.h>

#include "base/cleanup.h"
#include "flow/command_json.h"
#include "flow/message_json.h"
#include "hub/contract.h"

static int command_json(const struct command_message *message, bool with_payload, char **out, size_t *len)
{
	_cleanup_(message_json_deinit) struct message_json text = {.root = json_object_new_object()};
	int r;

	message_json_add(&text, text.root, HUB_PROP_SEQUENCE_NO,
			 json_object_new_uint64(message->sequence_no));
	message_json_add_time(&text, HUB_PROP_ENQUEUED_TIME, message->enqueued_ms);
	message_json_add(&text, text.root, HUB_PROP_DELIVERY_COUNT,
			 json_object_new_uint64(message->delivery_count));
	r = message_json_add_properties(&text, message->properties);
	if (r)
		return r;
	if (with_payload)
		message_json_add_payload(&text, message->payload);
	return message_json_take(&text, out, len);
}

int command_json_line(const struct command_message *message, char **out, size_t *len)
{
	return command_json(message, true, out, len);
}

int command_json_properties(const struct command_message *message, char **out, size_t *len)
{
	return command_json(message, false, out, len);
}
