/* SPDX-License-Identifier: MIT */
/*
 * The service side's devices: add, list, show, remove, keys.
 *
 * devices.json is written before the answer; when that fails the answer is Server Error and the registry is as
 * before (a removal is the exception: what is gone from memory stays gone, and the file is written with the next
 * change).
 */

#include <errno.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "credentials.h"
#include "deliver.h"
#include "method.h"
#include "service.h"
#include "state.h"

static inline void json_object_put_ptr(json_object **object)
{
	json_object_put(*object);
}

/* --- what a device is
 * ------------------------------------------------------------------------------------------ */

static void string_add(json_object *object, const char *name, struct bytes text)
{
	json_object_object_add(object, name,
			       json_object_new_string_len((const char *)text.data, (int)text.len));
}

static json_object *subscriptions_to_json(const struct emu_session *s)
{
	json_object *array = json_object_new_array();

	for (size_t i = 0; i < s->n_subscriptions; i++)
		json_object_array_add(array, json_object_new_string(s->subscriptions[i].topic));
	return array;
}

static void connection_add(json_object *object, const struct emu_client *client)
{
	char time[TIME_ISO_LEN + 1];

	json_object_object_add(object, "connected", json_object_new_boolean(client != NULL));
	if (!client)
		return;
	time_format_iso(client->connected_ms, time);
	json_object_object_add(object, "peer", json_object_new_string(client->peer));
	json_object_object_add(object, "connected-since", json_object_new_string(time));
}

static json_object *device_to_json(struct emu_hub *hub, struct emu_identity *identity)
{
	json_object *object = json_object_new_object(), *commands = json_object_new_object();
	bool has_session;

	emu_commands_expire(hub, identity);
	has_session = emu_session_is_present(&identity->session, hub->now_ns);
	json_object_object_add(object, "device", json_object_new_string(identity->id));
	string_add(object, "device-id", BYTES(identity->id, identity->device_len));
	if (*emu_identity_module(identity))
		json_object_object_add(object, "module-id",
				       json_object_new_string(emu_identity_module(identity)));
	emu_credentials_to_json(&identity->credentials, object, false);
	connection_add(object, identity->session.client);
	json_object_object_add(object, "session", json_object_new_boolean(has_session));
	json_object_object_add(object, "subscriptions", subscriptions_to_json(&identity->session));
	json_object_object_add(commands, "queued", json_object_new_uint64(identity->commands.n_queue));
	json_object_object_add(commands, "dead-lettered", json_object_new_uint64(identity->commands.n_dead));
	json_object_object_add(object, "commands", commands);
	json_object_object_add(object, "desired-version",
			       json_object_new_uint64(identity->twin.parts[TWIN_DESIRED].version));
	json_object_object_add(object, "reported-version",
			       json_object_new_uint64(identity->twin.parts[TWIN_REPORTED].version));
	return object;
}

void emu_service_devices_show(struct emu_service_request *rq)
{
	rq->payload = device_to_json(rq->client->hub, rq->identity);
}

void emu_service_devices_list(struct emu_service_request *rq)
{
	struct emu_registry *registry = rq->client->hub->registry;
	struct bytes after = BYTES(NULL, 0);
	size_t first, n = emu_registry_n_identities(registry);

	mqtt_user_property_find(rq->field, "after", &after);
	first = emu_registry_after(registry, after);
	rq->payload = json_object_new_array();
	for (size_t i = first; i < n && i - first < SERVICE_DEVICES_MAX; i++)
		json_object_array_add(rq->payload,
				      device_to_json(rq->client->hub, emu_registry_identity(registry, i)));
	if (n > first && n - first > SERVICE_DEVICES_MAX)
		emu_property_put(rq->properties, "more", "1");
}

/* --- add
 * ------------------------------------------------------------------------------------------------------- */

/* The id asked for, when it can be added: true; or false and the outcome. */
static bool id_check(struct emu_service_request *rq, char id[static IDENTITY_ID_MAX + 1])
{
	struct emu_registry *registry = rq->client->hub->registry;
	const uint8_t *slash = rq->device.len ? memchr(rq->device.data, '/', rq->device.len) : NULL;

	snprintf(id, IDENTITY_ID_MAX + 1, "%.*s",
		 (int)(rq->device.len > IDENTITY_ID_MAX ? 0 : rq->device.len), (const char *)rq->device.data);
	if (!emu_identity_id_is_valid(id))
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "device is no valid name");
	else if (rq->identity)
		emu_outcome_set(rq->outcome, STATUS_CONFLICT, "the device is there already");
	else if (slash &&
		 !emu_registry_find(registry, BYTES(rq->device.data, (size_t)(slash - rq->device.data))))
		emu_outcome_set(rq->outcome, STATUS_NOT_FOUND, "the module's device is not there");
	else
		return true;
	return false;
}

static bool credentials_read(struct emu_service_request *rq, struct emu_credentials *credentials)
{
	_cleanup_(json_object_put_ptr) json_object *object = NULL;
	const char *wrong = NULL;

	*credentials = (struct emu_credentials){.authentication = AUTHENTICATION_SAS};
	if (!emu_service_payload(rq, &object))
		return false;
	if (object)
		wrong = emu_credentials_from_json(credentials, object);
	if (wrong) {
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "%s", wrong);
		return false;
	}
	if (credentials->authentication == AUTHENTICATION_SAS && emu_credentials_complete(credentials) < 0) {
		emu_outcome_set(rq->outcome, STATUS_SERVER_ERROR, "no random numbers");
		return false;
	}
	return true;
}

void emu_service_devices_add(struct emu_service_request *rq)
{
	struct emu_hub *hub = rq->client->hub;
	struct emu_credentials credentials;
	struct emu_identity *identity;
	char id[IDENTITY_ID_MAX + 1];
	int r;

	if (!id_check(rq, id) || !credentials_read(rq, &credentials))
		return;
	r = emu_registry_add_with(hub->registry, id, &credentials, &identity);
	if (r == 0) {
		r = emu_registry_save(hub->registry);
		if (r < 0)
			emu_registry_remove(hub->registry, identity);
	}
	if (r < 0) {
		emu_outcome_set(rq->outcome, STATUS_SERVER_ERROR, "cannot be stored");
		return;
	}
	emu_registry_write_connection_string(hub->registry, identity);
	rq->payload = device_to_json(hub, identity);
}

/* --- remove
 * ---------------------------------------------------------------------------------------------------- */

static void connection_end(struct emu_identity *identity, const char *why)
{
	struct emu_outcome outcome;

	if (!identity->session.client)
		return;
	emu_outcome_set(&outcome, STATUS_NOT_AUTHORIZED, "%s", why);
	emu_client_end_outcome(identity->session.client, &outcome);
}

static void identity_remove(struct emu_hub *hub, struct emu_identity *identity)
{
	connection_end(identity, "the device was removed");
	emu_methods_identity_gone(hub, identity);
	emu_service_commands_drop(hub, identity);
	emu_state_forget(hub, identity);
	emu_registry_remove_connection_string(hub->registry, identity);
	emu_registry_remove(hub->registry, identity);
}

/* Modules stand right behind their device only as far as `/` sorts; so all are looked at. */
static void modules_remove(struct emu_hub *hub, const struct emu_identity *device)
{
	size_t len = strlen(device->id);

	for (size_t i = emu_registry_n_identities(hub->registry); i > 0; i--) {
		struct emu_identity *identity = emu_registry_identity(hub->registry, i - 1);

		if (identity->device_len == len && identity->id[len] == '/' &&
		    memcmp(identity->id, device->id, len) == 0)
			identity_remove(hub, identity);
	}
}

/* The log goes first: with the registry first, a kill in between would leave twin and commands of a device that
 * is gone for the next of its name. */
void emu_service_devices_remove(struct emu_service_request *rq)
{
	struct emu_hub *hub = rq->client->hub;

	if (!*emu_identity_module(rq->identity))
		modules_remove(hub, rq->identity);
	identity_remove(hub, rq->identity);
	rq->identity = NULL;
	if (emu_hub_commit(hub) < 0 || emu_registry_save(hub->registry) < 0)
		emu_outcome_set(rq->outcome, STATUS_SERVER_ERROR, "cannot be stored");
}

/* --- keys
 * ------------------------------------------------------------------------------------------------------ */

static bool which_keys(const struct emu_service_request *rq, bool regenerate[static 2])
{
	struct bytes which;

	if (!mqtt_user_property_find(rq->field, "regenerate", &which))
		return true;
	regenerate[0] = bytes_equal_str(which, "primary") || bytes_equal_str(which, "both");
	regenerate[1] = bytes_equal_str(which, "secondary") || bytes_equal_str(which, "both");
	if (regenerate[0] || regenerate[1])
		return true;
	emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "regenerate is primary, secondary or both");
	return false;
}

static bool keys_regenerate(struct emu_service_request *rq, const bool regenerate[static 2])
{
	struct emu_registry *registry = rq->client->hub->registry;
	struct emu_credentials old = rq->identity->credentials, new = old;
	struct emu_client *client = rq->identity->session.client;

	for (size_t i = 0; i < 2; i++) {
		if (regenerate[i])
			new.keys[i].len = 0;
	}
	if (emu_credentials_complete(&new) < 0) {
		emu_outcome_set(rq->outcome, STATUS_SERVER_ERROR, "no random numbers");
		return false;
	}
	emu_registry_set_credentials(registry, rq->identity, &new);
	if (emu_registry_save(registry) < 0) {
		emu_registry_set_credentials(registry, rq->identity, &old);
		emu_outcome_set(rq->outcome, STATUS_SERVER_ERROR, "cannot be stored");
		return false;
	}
	emu_registry_write_connection_string(registry, rq->identity);
	if (client && ((client->signed_by == SIGNED_BY_PRIMARY_KEY && regenerate[0]) ||
		       (client->signed_by == SIGNED_BY_SECONDARY_KEY && regenerate[1])))
		connection_end(rq->identity, "the key was replaced");
	return true;
}

static void key_add(json_object *object, const char *name, const struct emu_key *key)
{
	char text[BASE64_LEN(KEY_LEN_MAX) + 1];

	base64_encode(emu_key_bytes(key), text);
	json_object_object_add(object, name, json_object_new_string(text));
}

void emu_service_devices_keys(struct emu_service_request *rq)
{
	_cleanup_(free_ptr) char *text = NULL;
	bool regenerate[2] = {false, false};

	if (rq->identity->credentials.authentication != AUTHENTICATION_SAS) {
		emu_outcome_set(rq->outcome, STATUS_NOT_ALLOWED, "the device has a certificate, no keys");
		return;
	}
	if (!which_keys(rq, regenerate))
		return;
	if ((regenerate[0] || regenerate[1]) && !keys_regenerate(rq, regenerate))
		return;
	text = emu_registry_connection_string(rq->client->hub->registry, rq->identity);
	rq->payload = json_object_new_object();
	key_add(rq->payload, "primary-key", &rq->identity->credentials.keys[0]);
	key_add(rq->payload, "secondary-key", &rq->identity->credentials.keys[1]);
	if (text)
		json_object_object_add(rq->payload, "connection-string", json_object_new_string(text));
}
