/* SPDX-License-Identifier: MIT */
/*
 * From the PUBLISH a hub posts to one JSON object:
 *
 *   {"device-id": …, "module-id": …, "enqueued-time": …, "enqueued-sequence": N, "dropped": N,
 *    "system-properties": {"content-type": …, "message-id": …, …}, "properties": {…},
 *    "payload": … or "payload-base64": …}
 *
 * Members that do not apply are left out, the two property objects are always there. Application properties
 * stand without their `@`.
 */

#include "message.h"

#include <stdlib.h>

#include <mqtt_protocol.h>

#include "output.h"

/* The hub's own annotations, which stand at the top. */
enum annotation {
	ANNOTATION_NONE,
	ANNOTATION_TEXT,
	ANNOTATION_NUMBER,
};

static enum annotation annotation_from_name(const char *name)
{
	if (strcmp(name, "device-id") == 0 || strcmp(name, "module-id") == 0 ||
	    strcmp(name, "enqueued-time") == 0)
		return ANNOTATION_TEXT;
	if (strcmp(name, "enqueued-sequence") == 0 || strcmp(name, "dropped") == 0)
		return ANNOTATION_NUMBER;
	return ANNOTATION_NONE;
}

static void property_add(json_object *message, json_object *system, json_object *application,
			 const char *name, const char *value)
{
	if (name[0] == '@') {
		json_object_object_add(application, name + 1, json_object_new_string(value));
		return;
	}
	switch (annotation_from_name(name)) {
	case ANNOTATION_TEXT:
		json_object_object_add(message, name, json_object_new_string(value));
		break;
	case ANNOTATION_NUMBER:
		json_object_object_add(message, name, json_object_new_uint64(strtoull(value, NULL, 10)));
		break;
	case ANNOTATION_NONE:
		json_object_object_add(system, name, json_object_new_string(value));
		break;
	}
}

static void properties_add(json_object *message, json_object *system, json_object *application,
			   const mosquitto_property *properties)
{
	char *name = NULL, *value = NULL;
	const mosquitto_property *p;

	if (mosquitto_property_read_string(properties, MQTT_PROP_CONTENT_TYPE, &value, false)) {
		json_object_object_add(system, "content-type", json_object_new_string(value));
		free(value);
	}
	for (p = mosquitto_property_read_string_pair(properties, MQTT_PROP_USER_PROPERTY, &name, &value,
						     false);
	     p; p = mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &value, true)) {
		property_add(message, system, application, name, value);
		free(name);
		free(value);
	}
}

json_object *message_to_json(struct bytes payload, const mosquitto_property *properties)
{
	json_object *message = json_object_new_object();
	json_object *system = json_object_new_object();
	json_object *application = json_object_new_object();

	if (!message || !system || !application) {
		json_object_put(message);
		json_object_put(system);
		json_object_put(application);
		return NULL;
	}
	properties_add(message, system, application, properties);
	json_object_object_add(message, "system-properties", system);
	json_object_object_add(message, "properties", application);
	if (output_payload_add(message, payload) < 0) {
		json_object_put(message);
		return NULL;
	}
	return message;
}
