/* SPDX-License-Identifier: MIT */
/*
 * A command as JSON, see command_json.h. What every message has is in message_json.c; a payload that is valid UTF-8 may
 * have any character.
 */

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "flow/command_json.h"
#include "flow/message_json.h"
#include "hub/contract.h"

/* --- payload ---------------------------------------------------------------------------------- */

static void add_payload(struct message_json *text, struct bytes payload)
{
	_cleanup_(free_ptr) char *base64 = NULL;

	if (utf8_is_valid(payload)) {
		message_json_add(text, text->root, "payload", message_json_string(payload));
		return;
	}
	base64 = malloc(BASE64_LEN(payload.len) + 1);
	if (base64)
		base64_encode(payload, base64);
	message_json_add(text, text->root, "payload-base64", base64 ? json_object_new_string(base64) : NULL);
}

/* --- the whole -------------------------------------------------------------------------------- */

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
		add_payload(&text, message->payload);
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
