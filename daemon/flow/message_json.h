/* SPDX-License-Identifier: MIT */
#ifndef FLOW_MESSAGE_JSON_H
#define FLOW_MESSAGE_JSON_H

/*
 * What the JSON texts of messages have in common, commands' and rejected ones'. Members, each only when the message
 * has it, but "properties":
 *
 *   "creation-time"                            YYYY-MM-DDTHH:MM:SS.mmmZ
 *   "message-id", "user-id", "correlation-id", "content-type", "content-encoding"
 *   "properties"                               an object of strings: the application's, without the @; of several
 *                                              with one name, the last
 */

#include <stddef.h>
#include <stdint.h>

#include <json-c/json_object.h>

#include "base/bytes.h"

/* A text under way. */
struct message_json {
	struct json_object *root; /* owned: json_object_new_object(), NULL = there was no memory */
	int error;                /* the first one */
};

void message_json_deinit(struct message_json *text);

/* Takes @value, NULL = there was no memory for it. */
void message_json_add(struct message_json *text, struct json_object *object, const char *key,
		      struct json_object *value);
/* To the root. */
void message_json_add_time(struct message_json *text, const char *key, uint64_t ms);
struct json_object *message_json_string(struct bytes bytes);

/* Adds the members above. @field: a PUBLISH's encoded properties. Returns 0, or as mqtt_properties_decode(). */
int message_json_add_properties(struct message_json *text, struct bytes field);

/* Adds "payload", a string, when it is valid UTF-8; else "payload-base64". */
void message_json_add_payload(struct message_json *text, struct bytes payload);

/* The text as one line with a newline at its end. The caller frees *@out, which has a NUL behind its @len bytes. Returns 0
 * or -ENOMEM. */
int message_json_take(struct message_json *text, char **out, size_t *len);

#endif
