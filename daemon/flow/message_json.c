/* SPDX-License-Identifier: MIT */
/*
 * A message's properties as JSON, see message_json.h. json-c makes the text, so that every string is escaped by the same
 * rules: an MQTT string is valid UTF-8 without NUL.
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
#include "flow/message_json.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

void message_json_deinit(struct message_json *text)
{
	json_object_put(text->root);
}

void message_json_add(struct message_json *text, struct json_object *object, const char *key,
		      struct json_object *value)
{
	if (object && value && json_object_object_add(object, key, value) == 0)
		return;
	json_object_put(value);
	text->error = -ENOMEM;
}

struct json_object *message_json_string(struct bytes bytes)
{
	return json_object_new_string_len(bytes.len ? (const char *)bytes.data : "", (int)bytes.len);
}

void message_json_add_time(struct message_json *text, const char *key, uint64_t ms)
{
	char iso[TIME_ISO_LEN + 1];

	time_format_iso(ms, iso);
	message_json_add(text, text->root, key, json_object_new_string(iso));
}

/* --- properties ------------------------------------------------------------------------------- */

/* In the order of their appearance in the text. */
static void add_system(struct message_json *text, const struct mqtt_properties *properties)
{
	static const char *const names[] = {HUB_PROP_MESSAGE_ID, HUB_PROP_USER_ID, HUB_PROP_CORRELATION_ID};
	struct bytes field = properties->repeatable, value;
	uint64_t ms;

	/* The contract's two forms become one; what is neither is for its reader to judge. */
	if (mqtt_user_property_find(field, HUB_PROP_CREATION_TIME, &value)) {
		if (time_parse(value, &ms) == 0)
			message_json_add_time(text, HUB_PROP_CREATION_TIME, ms);
		else
			message_json_add(text, text->root, HUB_PROP_CREATION_TIME,
					 message_json_string(value));
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		if (mqtt_user_property_find(field, names[i], &value))
			message_json_add(text, text->root, names[i], message_json_string(value));
	if (mqtt_has(properties, MQTT_PROP_CONTENT_TYPE))
		message_json_add(text, text->root, "content-type",
				 message_json_string(properties->content_type));
	if (mqtt_user_property_find(field, HUB_PROP_CONTENT_ENCODING, &value))
		message_json_add(text, text->root, HUB_PROP_CONTENT_ENCODING, message_json_string(value));
}

static void add_application(struct message_json *text, struct bytes field)
{
	struct json_object *object = json_object_new_object();
	struct bytes key, value;
	size_t pos = 0;

	message_json_add(text, text->root, "properties", object);
	while (!text->error && mqtt_user_property_next(field, &pos, &key, &value)) {
		_cleanup_(free_ptr) char *name = NULL;

		if (!key.len || key.data[0] != HUB_APPLICATION_PREFIX)
			continue;
		name = strndup((const char *)key.data + 1, key.len - 1);
		if (name)
			message_json_add(text, object, name, message_json_string(value));
		else
			text->error = -ENOMEM;
	}
}

int message_json_add_properties(struct message_json *text, struct bytes field)
{
	struct mqtt_properties properties;
	int r = mqtt_properties_decode(&properties, field, MQTT_PUBLISH);

	if (r)
		return r;
	add_system(text, &properties);
	add_application(text, field);
	return 0;
}

/* --- payload ---------------------------------------------------------------------------------- */

void message_json_add_payload(struct message_json *text, struct bytes payload)
{
	_cleanup_(free_ptr) char *base64 = NULL;

	/* A payload that is valid UTF-8 may have any character. */
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

int message_json_take(struct message_json *text, char **out, size_t *len)
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
