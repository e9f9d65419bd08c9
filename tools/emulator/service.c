/* SPDX-License-Identifier: MIT */
/*
 * Requests of the service side: the table of operations with what each may be asked, and the answer.
 *
 * Properties are checked by the table before an operation is called, and `device` is looked up, so that an
 * operation sees a device that is there (but for the one that makes it). Twins and methods are short enough to
 * be here.
 */

#include "service.h"

#include <errno.h>

#include "base/cleanup.h"
#include "deliver.h"
#include "method.h"
#include "twin_ops.h"

#define N_RULES_MAX 8

enum {
	DEVICE_NONE,
	DEVICE_NEW,
	DEVICE_KNOWN,
};

struct operation {
	const char *topic;
	void (*fn)(struct emu_service_request *rq);
	int device;
	bool takes_application_properties;
	struct emu_property_rule rules[N_RULES_MAX]; /* up to one without a name */
};

#define RULE_DEVICE                                                                                          \
	{                                                                                                    \
		"device", PROPERTY_STRING, true                                                              \
	}

static const struct operation operations[] = {
	{"$service/devices/add", emu_service_devices_add, DEVICE_NEW, false, {RULE_DEVICE}},
	{"$service/devices/list",
	 emu_service_devices_list,
	 DEVICE_NONE,
	 false,
	 {{"after", PROPERTY_STRING, false}}},
	{"$service/devices/show", emu_service_devices_show, DEVICE_KNOWN, false, {RULE_DEVICE}},
	{"$service/devices/remove", emu_service_devices_remove, DEVICE_KNOWN, false, {RULE_DEVICE}},
	{"$service/devices/keys",
	 emu_service_devices_keys,
	 DEVICE_KNOWN,
	 false,
	 {RULE_DEVICE, {"regenerate", PROPERTY_STRING, false}}},
	{"$service/twin/show", emu_service_twin_show, DEVICE_KNOWN, false, {RULE_DEVICE}},
	{"$service/twin/patch",
	 emu_service_twin_patch,
	 DEVICE_KNOWN,
	 false,
	 {RULE_DEVICE, {"if-version", PROPERTY_U64, false}}},
	{"$service/commands/send",
	 emu_service_commands_send,
	 DEVICE_KNOWN,
	 true,
	 {RULE_DEVICE,
	  {"ttl", PROPERTY_U64, false},
	  {"message-id", PROPERTY_STRING, false},
	  {"user-id", PROPERTY_STRING, false},
	  {"correlation-id", PROPERTY_STRING, false},
	  {"creation-time", PROPERTY_TIME, false},
	  {"content-encoding", PROPERTY_STRING, false}}},
	{"$service/commands/list",
	 emu_service_commands_list,
	 DEVICE_KNOWN,
	 false,
	 {RULE_DEVICE, {"after", PROPERTY_U64, false}, {"completed", PROPERTY_U64, false}}},
	{"$service/commands/purge",
	 emu_service_commands_purge,
	 DEVICE_KNOWN,
	 false,
	 {RULE_DEVICE, {"state", PROPERTY_STRING, false}}},
	{"$service/methods/call",
	 emu_service_methods_call,
	 DEVICE_KNOWN,
	 false,
	 {RULE_DEVICE,
	  {"method", PROPERTY_STRING, true},
	  {"connect-timeout", PROPERTY_U64, false},
	  {"response-timeout", PROPERTY_U64, false}}},
	{"$service/faults/set", emu_service_faults_set, DEVICE_NONE, false, {{NULL, PROPERTY_STRING, false}}},
	{"$service/faults/list",
	 emu_service_faults_list,
	 DEVICE_NONE,
	 false,
	 {{NULL, PROPERTY_STRING, false}}},
	{"$service/faults/clear",
	 emu_service_faults_clear,
	 DEVICE_NONE,
	 false,
	 {{"id", PROPERTY_U64, false}}},
};

static const struct operation *operation_find(struct bytes topic)
{
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		if (bytes_equal_str(topic, operations[i].topic))
			return &operations[i];
	}
	return NULL;
}

bool emu_service_topic_is_known(struct bytes topic)
{
	return operation_find(topic);
}

/* --- what is asked
 * --------------------------------------------------------------------------------------------- */

uint64_t emu_service_number(const struct emu_service_request *rq, const char *name, uint64_t otherwise)
{
	struct bytes text;
	uint64_t value;

	if (!mqtt_user_property_find(rq->field, name, &text) || emu_u64_parse(text, &value) < 0)
		return otherwise;
	return value;
}

bool emu_service_payload(const struct emu_service_request *rq, json_object **out)
{
	struct bytes text = rq->packet->publish.payload;
	json_tokener *tokener;

	*out = NULL;
	if (text.len == 0)
		return true;
	tokener = json_tokener_new();
	if (tokener && text.len <= INT32_MAX) {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
		*out = json_tokener_parse_ex(tokener, (const char *)text.data, (int)text.len);
		if (json_tokener_get_error(tokener) != json_tokener_success ||
		    json_tokener_get_parse_end(tokener) != text.len) {
			json_object_put(*out);
			*out = NULL;
		}
	}
	json_tokener_free(tokener);
	if (!*out)
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "the payload is not JSON");
	return *out;
}

static bool application_property_check(const struct operation *op, struct bytes field,
				       struct emu_outcome *outcome)
{
	struct bytes key, value;
	size_t pos = 0;

	if (op->takes_application_properties)
		return true;
	while (mqtt_user_property_next(field, &pos, &key, &value)) {
		if (key.len > 0 && key.data[0] == '@') {
			emu_outcome_set(outcome, STATUS_BAD_REQUEST, "unknown user property %.*s",
					key.len > 64 ? 64 : (int)key.len, (const char *)key.data);
			return false;
		}
	}
	return true;
}

static bool request_check(struct emu_service_request *rq, const struct operation *op)
{
	size_t n_rules = 0;

	while (n_rules < N_RULES_MAX && op->rules[n_rules].name)
		n_rules++;
	if (!emu_properties_check(rq->field, op->rules, n_rules, rq->outcome) ||
	    !application_property_check(op, rq->field, rq->outcome))
		return false;
	if (op->device == DEVICE_NONE)
		return true;
	mqtt_user_property_find(rq->field, "device", &rq->device);
	rq->identity = emu_registry_find(rq->client->hub->registry, rq->device);
	if (rq->identity || op->device == DEVICE_NEW)
		return true;
	emu_outcome_set(rq->outcome, STATUS_NOT_FOUND, "no such device");
	return false;
}

void emu_on_service_request(struct emu_client *c, const struct mqtt_packet *packet)
{
	const struct operation *op = operation_find(packet->publish.topic);
	struct emu_response response = {.correlation_data = packet->properties.correlation_data};
	uint8_t properties[256];
	struct writer w = writer_init(properties, sizeof(properties));
	struct emu_service_request rq = {
		.client = c,
		.packet = packet,
		.field = packet->properties.repeatable,
		.outcome = &response.outcome,
		.properties = &w,
	};
	size_t len = 0;
	const char *text = NULL;

	if (request_check(&rq, op))
		op->fn(&rq);
	if (!rq.is_answered && !c->closing) {
		if (rq.payload && response.outcome.status == STATUS_SUCCESS)
			text = json_object_to_json_string_length(
				rq.payload, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
		response.payload = BYTES(text, len);
		if (response.outcome.status == STATUS_SUCCESS)
			response.properties = writer_bytes(&w);
		emu_client_respond(c, &response);
	}
	json_object_put(rq.payload);
	if (rq.is_offered)
		emu_commands_offer(rq.identity);
}

/* --- twins and methods
 * ----------------------------------------------------------------------------------------- */

void emu_service_twin_show(struct emu_service_request *rq)
{
	rq->payload = emu_twin_to_json(&rq->identity->twin);
}

void emu_service_twin_patch(struct emu_service_request *rq)
{
	if (emu_twin_change(rq->client->hub, rq->identity, TWIN_DESIRED, rq->packet->publish.payload,
			    rq->field, rq->outcome))
		emu_property_put_number(rq->properties, "version",
					rq->identity->twin.parts[TWIN_DESIRED].version);
}

void emu_service_methods_call(struct emu_service_request *rq)
{
	struct emu_method_request request = {
		.identity = rq->identity,
		.correlation_data = rq->packet->properties.correlation_data,
		.payload = rq->packet->publish.payload,
		.connect_timeout_s = emu_service_number(rq, "connect-timeout", 0),
		.response_timeout_s = emu_service_number(rq, "response-timeout", METHOD_RESPONSE_TIMEOUT_S),
	};
	int r;

	mqtt_user_property_find(rq->field, "method", &request.name);
	if (!emu_method_name_is_valid(request.name)) {
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "method is no valid name");
		return;
	}
	if (request.connect_timeout_s > METHOD_TIMEOUT_MAX_S || request.response_timeout_s < 1 ||
	    request.response_timeout_s > METHOD_TIMEOUT_MAX_S) {
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "a timeout is up to 300 seconds");
		return;
	}
	r = emu_method_call(rq->client, &request);
	if (r < 0)
		emu_outcome_set(rq->outcome, r == -ENOSPC ? STATUS_RESOURCE_EXHAUSTED : STATUS_SERVER_ERROR,
				"too many calls");
	else
		rq->is_answered = true;
}
