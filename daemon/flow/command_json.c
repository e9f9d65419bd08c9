/* SPDX-License-Identifier: MIT */
/*
 * A command as JSON, see command_json.h. json-c makes the text, so that every string is escaped by the same rules:
 * an MQTT string is valid UTF-8 without NUL, a payload that is valid UTF-8 may have any character.
 *
 * Without memory json-c gives NULL; `error` of the text under way sticks, and everything is looked at once.
 */

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/time.h"
#include "base/utf8.h"
#include "flow/command_json.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

struct text {
	struct json_object *root;
	int error;
};

static void text_deinit(struct text *text)
{
	json_object_put(text->root);
}

/* Takes @value, NULL = there was no memory for it. */
static void text_add(struct text *text, struct json_object *object, const char *key,
		     struct json_object *value)
{
	if (object && value && json_object_object_add(object, key, value) == 0)
		return;
	json_object_put(value);
	text->error = -ENOMEM;
}

static struct json_object *string_of(struct bytes bytes)
{
	return json_object_new_string_len(bytes.len ? (const char *)bytes.data : "", (int)bytes.len);
}

static void text_add_time(struct text *text, const char *key, uint64_t ms)
{
	char iso[TIME_ISO_LEN + 1];

	time_format_iso(ms, iso);
	text_add(text, text->root, key, json_object_new_string(iso));
}

/* --- properties ------------------------------------------------------------------------------- */

/* In the order of their appearance in the text. */
static void text_add_system(struct text *text, const struct mqtt_properties *properties)
{
	static const char *const names[] = {HUB_PROP_MESSAGE_ID, HUB_PROP_USER_ID, HUB_PROP_CORRELATION_ID};
	struct bytes field = properties->repeatable, value;
	uint64_t ms;

	/* The contract's two forms become one; what is neither is for its reader to judge. */
	if (mqtt_user_property_find(field, HUB_PROP_CREATION_TIME, &value)) {
		if (time_parse(value, &ms) == 0)
			text_add_time(text, HUB_PROP_CREATION_TIME, ms);
		else
			text_add(text, text->root, HUB_PROP_CREATION_TIME, string_of(value));
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		if (mqtt_user_property_find(field, names[i], &value))
			text_add(text, text->root, names[i], string_of(value));
	if (mqtt_has(properties, MQTT_PROP_CONTENT_TYPE))
		text_add(text, text->root, "content-type", string_of(properties->content_type));
	if (mqtt_user_property_find(field, HUB_PROP_CONTENT_ENCODING, &value))
		text_add(text, text->root, HUB_PROP_CONTENT_ENCODING, string_of(value));
}

static void text_add_application(struct text *text, struct bytes field)
{
	struct json_object *object = json_object_new_object();
	struct bytes key, value;
	size_t pos = 0;

	text_add(text, text->root, "properties", object);
	while (!text->error && mqtt_user_property_next(field, &pos, &key, &value)) {
		_cleanup_(free_ptr) char *name = NULL;

		if (!key.len || key.data[0] != HUB_APPLICATION_PREFIX)
			continue;
		name = strndup((const char *)key.data + 1, key.len - 1);
		if (name)
			text_add(text, object, name, string_of(value));
		else
			text->error = -ENOMEM;
	}
}

/* --- payload ---------------------------------------------------------------------------------- */

static void text_add_payload(struct text *text, struct bytes payload)
{
	_cleanup_(free_ptr) char *base64 = NULL;

	if (utf8_is_valid(payload)) {
		text_add(text, text->root, "payload", string_of(payload));
		return;
	}
	base64 = malloc(BASE64_LEN(payload.len) + 1);
	if (base64)
		base64_encode(payload, base64);
	text_add(text, text->root, "payload-base64", base64 ? json_object_new_string(base64) : NULL);
}

/* --- the whole -------------------------------------------------------------------------------- */

static int text_take(struct text *text, char **out, size_t *len)
{
	const char *json;
	char *line;

	if (text->error)
		return text->error;
	json = json_object_to_json_string_length(
		text->root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, len);
	line = json ? malloc(*len + 2) : NULL;
	if (!line)
		return -ENOMEM;
	memcpy(line, json, *len);
	line[(*len)++] = '\n';
	line[*len] = '\0';
	*out = line;
	return 0;
}

static int command_json(const struct command_message *message, bool with_payload, char **out, size_t *len)
{
	_cleanup_(text_deinit) struct text text = {.root = json_object_new_object()};
	struct mqtt_properties properties;
	int r;

	r = mqtt_properties_decode(&properties, message->properties, MQTT_PUBLISH);
	if (r)
		return r;
	text_add(&text, text.root, HUB_PROP_SEQUENCE_NO, json_object_new_uint64(message->sequence_no));
	text_add_time(&text, HUB_PROP_ENQUEUED_TIME, message->enqueued_ms);
	text_add(&text, text.root, HUB_PROP_DELIVERY_COUNT, json_object_new_uint64(message->delivery_count));
	text_add_system(&text, &properties);
	text_add_application(&text, message->properties);
	if (with_payload)
		text_add_payload(&text, message->payload);
	return text_take(&text, out, len);
}

int command_json_line(const struct command_message *message, char **out, size_t *len)
{
	return command_json(message, true, out, len);
}

int command_json_properties(const struct command_message *message, char **out, size_t *len)
{
	return command_json(message, false, out, len);
}
