/* SPDX-License-Identifier: MIT */
/*
 * Commands from JSON, see delivery.h. Members that are not known are left alone: later versions may add some.
 */

#include "delivery.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/cleanup.h"

DEFINE_CLEANUP(json_tokener *, json_tokener_free)

/* --- reading ---------------------------------------------------------------------------------- */

/* A member of that type, or NULL. */
static json_object *member(json_object *object, const char *name, json_type type)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value) && json_object_is_type(value, type) ? value
												   : NULL;
}

static struct bytes text_of(json_object *string)
{
	return BYTES(json_object_get_string(string), (size_t)json_object_get_string_len(string));
}

static int parse_json(json_object **out, struct bytes line)
{
	_cleanup_(json_tokener_free_ptr) json_tokener *tokener = json_tokener_new();
	json_object *json;

	if (!tokener)
		return -ENOMEM;
	json = json_tokener_parse_ex(tokener, (const char *)line.data, (int)line.len);
	if (json_tokener_get_error(tokener) != json_tokener_success ||
	    !json_object_is_type(json, json_type_object)) {
		json_object_put(json);
		return -EPROTO;
	}
	*out = json;
	return 0;
}

static int parse_payload(struct delivery *delivery)
{
	json_object *text = member(delivery->json, "payload", json_type_string);
	struct bytes encoded;
	ssize_t n;

	if (text) {
		delivery->payload = text_of(text);
		return 0;
	}
	text = member(delivery->json, "payload-base64", json_type_string);
	if (!text)
		return -EPROTO;
	encoded = text_of(text);
	delivery->decoded = malloc(encoded.len + 1);
	if (!delivery->decoded)
		return -ENOMEM;
	n = base64_decode(encoded, delivery->decoded, encoded.len);
	if (n < 0)
		return -EPROTO;
	delivery->payload = BYTES(delivery->decoded, (size_t)n);
	return 0;
}

int delivery_parse(struct delivery *delivery, struct bytes line)
{
	json_object *number, *time, *count;
	int r;

	*delivery = (struct delivery){.sequence_no = 0};
	r = parse_json(&delivery->json, line);
	if (r < 0)
		return r;
	number = member(delivery->json, "sequence-no", json_type_int);
	time = member(delivery->json, "enqueued-time", json_type_string);
	count = member(delivery->json, "delivery-count", json_type_int);
	if (!number || !time || !count || json_object_get_string_len(time) > DELIVERY_TIME_MAX)
		return -EPROTO;
	delivery->sequence_no = json_object_get_uint64(number);
	strcpy(delivery->enqueued_time, json_object_get_string(time));
	delivery->delivery_count = (uint32_t)json_object_get_uint64(count);
	return parse_payload(delivery);
}

int delivery_compare(const struct delivery *delivery, int fd)
{
	_cleanup_(json_tokener_free_ptr) json_tokener *tokener = json_tokener_new();
	json_object *json = NULL, *number, *time;
	char data[4096];
	ssize_t n;
	int r = -EPROTO;

	if (!tokener)
		return -ENOMEM;
	do {
		n = read(fd, data, sizeof(data));
		if (n < 0)
			return -errno;
		if (n > 0)
			json = json_tokener_parse_ex(tokener, data, (int)n);
	} while (n > 0 && json_tokener_get_error(tokener) == json_tokener_continue);
	if (json_object_is_type(json, json_type_object)) {
		number = member(json, "sequence-no", json_type_int);
		time = member(json, "enqueued-time", json_type_string);
		if (number && time)
			r = json_object_get_uint64(number) == delivery->sequence_no &&
			    bytes_equal_str(text_of(time), delivery->enqueued_time);
	}
	json_object_put(json);
	return r;
}

void delivery_deinit(struct delivery *delivery)
{
	json_object_put(delivery->json);
	free(delivery->decoded);
	*delivery = (struct delivery){.sequence_no = 0};
}

/* --- the environment -------------------------------------------------------------------------- */

/* What a value is as text: a string's is its own, of others their JSON. */
static struct bytes value_text(json_object *value)
{
	if (json_object_is_type(value, json_type_string))
		return text_of(value);
	return bytes_from_str(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
}

/* The member @name, when it is there. */
static int add_member(struct environment *env, const char *variable, json_object *json, const char *name)
{
	json_object *value;
	struct bytes text;

	if (!json_object_object_get_ex(json, name, &value))
		return 0;
	text = value_text(value);
	return environment_set(env, variable, (const char *)text.data, text.len);
}

static int add_properties(struct environment *env, json_object *json)
{
	json_object *properties = member(json, "properties", json_type_object);
	const char *all = "{}";
	int r = 0;

	if (properties) {
		json_object_object_foreach(properties, name, value)
		{
			struct bytes text = value_text(value);

			if (r == 0)
				r = environment_set_property(env, name, (const char *)text.data, text.len);
		}
		all = json_object_to_json_string_ext(properties,
						     JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	}
	return r < 0 ? r : environment_set(env, "IOTHUB_PROPERTIES", all, strlen(all));
}

int delivery_environment(const struct delivery *delivery, struct environment *env)
{
	static const struct {
		const char *variable, *name;
	} members[] = {
		{"IOTHUB_SEQUENCE_NO", "sequence-no"},
		{"IOTHUB_ENQUEUED_TIME", "enqueued-time"},
		{"IOTHUB_DELIVERY_COUNT", "delivery-count"},
		{"IOTHUB_MESSAGE_ID", "message-id"},
		{"IOTHUB_USER_ID", "user-id"},
		{"IOTHUB_CORRELATION_ID", "correlation-id"},
		{"IOTHUB_CREATION_TIME", "creation-time"},
		{"IOTHUB_CONTENT_TYPE", "content-type"},
		{"IOTHUB_CONTENT_ENCODING", "content-encoding"},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(members); i++)
		r = add_member(env, members[i].variable, delivery->json, members[i].name);
	return r < 0 ? r : add_properties(env, delivery->json);
}
