/* SPDX-License-Identifier: MIT */
/*
 * Twins on the wire: the device's two requests, and what follows from a change.
 *
 * A change of the desired properties goes to the device as the patch that was sent, if it is subscribed. One
 * that does not fit it is left out: the device sees from the next version that it has to get the twin.
 */

#include "twin_ops.h"

#include "base/cleanup.h"
#include "monitor.h"
#include "state.h"

static inline void json_object_put_ptr(json_object **object)
{
	json_object_put(*object);
}

static void notify_device(struct emu_identity *identity, uint64_t version, struct bytes patch)
{
	struct emu_client *device = identity->session.client;
	uint8_t properties[64];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet packet = {
		.type = MQTT_PUBLISH,
		.publish = {.topic = BYTES_LIT("$iothub/twin/patch/desired"), .payload = patch},
	};

	if (!device || !emu_client_subscription(device, FILTER_TWIN_DESIRED, BYTES(NULL, 0)))
		return;
	emu_property_put_number(&w, "version", version);
	packet.properties.repeatable = writer_bytes(&w);
	if (emu_client_try_put(device, &packet) < 0)
		log_warning(device->hub->log, "%s: desired version %llu does not fit its limits",
			    identity->id, (unsigned long long)version);
}

bool emu_twin_change(struct emu_hub *hub, struct emu_identity *identity, enum emu_twin_part part,
		     struct bytes payload, struct bytes field, struct emu_outcome *outcome)
{
	_cleanup_(json_object_put_ptr) json_object *patch = NULL;
	struct bytes text;
	uint64_t if_version = 0, version;
	bool has_version =
		mqtt_user_property_find(field, "if-version", &text) && emu_u64_parse(text, &if_version) == 0;

	if (!emu_twin_patch_parse(payload, &patch, outcome) ||
	    !emu_twin_patch(&identity->twin, part, patch, has_version ? &if_version : NULL, outcome))
		return false;
	version = identity->twin.parts[part].version;
	emu_state_twin(hub, identity, part);
	if (part == TWIN_DESIRED)
		notify_device(identity, version, payload);
	emu_monitor_post_twin(hub, identity, part, version, payload);
	return true;
}

/* --- the device's requests
 * ------------------------------------------------------------------------------------- */

void emu_on_twin_get(struct emu_client *c, const struct mqtt_packet *packet)
{
	_cleanup_(json_object_put_ptr) json_object *document = NULL;
	struct emu_response response = {.correlation_data = packet->properties.correlation_data};
	const char *text;
	size_t len;

	if (packet->publish.payload.len > 0) {
		emu_outcome_set(&response.outcome, STATUS_BAD_REQUEST, "the payload must be empty");
	} else if (emu_twin_get_properties_check(packet->properties.repeatable, &response.outcome) &&
		   !emu_faults_refuse(&c->hub->faults, c->id, OPERATION_TWIN_GET, &response.outcome)) {
		document = emu_twin_to_json(&c->identity->twin);
		text = json_object_to_json_string_length(document, JSON_C_TO_STRING_PLAIN, &len);
		response.payload = BYTES(text, document ? len : 0);
	}
	response.delay_ms = emu_faults_delay_ms(&c->hub->faults, c->id, OPERATION_TWIN_GET);
	emu_client_respond(c, &response);
}

void emu_on_twin_patch(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_response response = {.correlation_data = packet->properties.correlation_data};
	struct bytes field = packet->properties.repeatable;
	uint8_t properties[64];
	struct writer w = writer_init(properties, sizeof(properties));

	if (emu_twin_patch_properties_check(field, &response.outcome) &&
	    !emu_faults_refuse(&c->hub->faults, c->id, OPERATION_TWIN_PATCH, &response.outcome) &&
	    emu_twin_change(c->hub, c->identity, TWIN_REPORTED, packet->publish.payload, field,
			    &response.outcome))
		emu_property_put_number(&w, "version", c->identity->twin.parts[TWIN_REPORTED].version);
	response.properties = writer_bytes(&w);
	response.delay_ms = emu_faults_delay_ms(&c->hub->faults, c->id, OPERATION_TWIN_PATCH);
	emu_client_respond(c, &response);
}
