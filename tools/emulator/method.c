/* SPDX-License-Identifier: MIT */
/*
 * Method calls. A call waits for its device (device NULL), or was delivered and waits for the response. It
 * belongs to the client that made it: its answer goes there, and it ends with that connection.
 *
 * The device gets Correlation Data of the hub's own, the number of the call, since two callers may choose the
 * same. A response to a number nobody waits for any more is ignored, as one that comes too late is nothing
 * wrong; so is one from another device than the call's.
 */

#include "method.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct emu_call {
	struct list link; /* hub->calls */
	struct emu_client *service;
	struct emu_identity *identity;
	struct emu_client *device; /* it was delivered to; NULL: not yet */
	uint64_t id;
	uint64_t due_ns; /* what it waits for must have come by then */
	uint64_t response_timeout_ns;
	size_t correlation_len;
	uint8_t correlation[CONTRACT_CORRELATION_DATA_MAX];
	struct bytes name; /* both point behind the struct */
	struct bytes payload;
};

bool emu_method_name_is_valid(struct bytes name)
{
	if (name.len == 0 || name.len > METHOD_NAME_MAX)
		return false;
	return !memchr(name.data, '/', name.len) && !memchr(name.data, '+', name.len) &&
	       !memchr(name.data, '#', name.len);
}

/* --- ends
 * ------------------------------------------------------------------------------------------------------ */

static void call_free(struct emu_hub *hub, struct emu_call *call)
{
	list_remove(&call->link);
	hub->n_calls--;
	free(call);
}

/* The answer to the caller; the call is gone. */
static void call_end(struct emu_call *call, struct emu_response *response)
{
	struct emu_client *service = call->service;

	response->correlation_data = BYTES(call->correlation, call->correlation_len);
	emu_client_respond(service, response);
	/* Answering may have ended the caller's connection, and with it all of its calls. */
	if (!service->closing)
		call_free(service->hub, call);
}

static void call_fail(struct emu_call *call, uint16_t status, const char *why)
{
	struct emu_response response = {.properties = BYTES(NULL, 0)};

	emu_outcome_set(&response.outcome, status, "%s", why);
	call_end(call, &response);
}

static struct emu_call *find(struct emu_hub *hub, bool (*is_it)(const struct emu_call *, const void *),
			     const void *what)
{
	list_for_each (link, &hub->calls) {
		struct emu_call *call = container_of(link, struct emu_call, link);

		if (is_it(call, what))
			return call;
	}
	return NULL;
}

static bool is_of_service(const struct emu_call *call, const void *service)
{
	return call->service == service;
}

static bool is_at_device(const struct emu_call *call, const void *device)
{
	return call->device == device;
}

static bool is_of_identity(const struct emu_call *call, const void *identity)
{
	return call->identity == identity;
}

void emu_methods_client_gone(struct emu_client *c)
{
	struct emu_call *call;

	while ((call = find(c->hub, is_of_service, c)))
		call_free(c->hub, call);
	while ((call = find(c->hub, is_at_device, c)))
		call_fail(call, STATUS_TARGET_UNAVAILABLE, "");
}

void emu_methods_identity_gone(struct emu_hub *hub, const struct emu_identity *identity)
{
	struct emu_call *call;

	while ((call = find(hub, is_of_identity, identity)))
		call_fail(call, STATUS_TARGET_UNAVAILABLE, "");
}

/* --- to the device
 * --------------------------------------------------------------------------------------------- */

/* False: the device is not there, or not subscribed. Otherwise the call was delivered or has ended. */
static bool deliver(struct emu_call *call)
{
	struct emu_client *device = call->identity->session.client;
	struct emu_hub *hub = call->service->hub;
	char topic[sizeof("$iothub/methods/") + METHOD_NAME_MAX];
	uint8_t number[METHOD_CORRELATION_LEN];
	struct writer w = writer_init(number, sizeof(number));
	struct mqtt_packet packet = {.type = MQTT_PUBLISH};

	if (!device || device->closing || !emu_client_subscription(device, FILTER_METHODS, call->name))
		return false;
	writer_u32(&w, (uint32_t)(call->id >> 32));
	writer_u32(&w, (uint32_t)call->id);
	snprintf(topic, sizeof(topic), "$iothub/methods/%.*s", (int)call->name.len,
		 (const char *)call->name.data);
	packet.publish.topic = bytes_from_str(topic);
	packet.publish.payload = call->payload;
	packet.properties.correlation_data = writer_bytes(&w);
	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	/* Set first: a connection that ends while it is sent to fails the calls it has. */
	call->device = device;
	call->due_ns = hub->now_ns + call->response_timeout_ns;
	if (emu_client_try_put(device, &packet) < 0)
		call_fail(call, STATUS_TARGET_FAILED, "the request does not fit the device's limits");
	return true;
}

static struct emu_call *call_new(struct emu_client *service, const struct emu_method_request *request)
{
	struct emu_call *call = calloc(1, sizeof(*call) + request->name.len + request->payload.len);
	uint8_t *dst;

	if (!call)
		return NULL;
	dst = (uint8_t *)(call + 1);
	call->service = service;
	call->identity = request->identity;
	call->id = ++service->hub->call_id;
	call->due_ns = service->hub->now_ns + request->connect_timeout_s * NSEC_PER_SEC;
	call->response_timeout_ns = request->response_timeout_s * NSEC_PER_SEC;
	call->correlation_len = request->correlation_data.len;
	memcpy(call->correlation, request->correlation_data.data, call->correlation_len);
	memcpy(dst, request->name.data, request->name.len);
	call->name = BYTES(dst, request->name.len);
	if (request->payload.len > 0)
		memcpy(dst + request->name.len, request->payload.data, request->payload.len);
	call->payload = BYTES(dst + request->name.len, request->payload.len);
	list_append(&service->hub->calls, &call->link);
	service->hub->n_calls++;
	return call;
}

int emu_method_call(struct emu_client *service, const struct emu_method_request *request)
{
	struct emu_call *call;

	if (service->hub->n_calls >= METHOD_CALLS_MAX)
		return -ENOSPC;
	call = call_new(service, request);
	if (!call)
		return -ENOMEM;
	if (!deliver(call) && request->connect_timeout_s == 0)
		call_fail(call, STATUS_TARGET_UNAVAILABLE, "");
	/* For the owner to look at the deadline. */
	service->ops->on_wake(service->userdata);
	return 0;
}

static bool waits_for(const struct emu_call *call, const void *client)
{
	const struct emu_client *c = client;

	return !call->device && call->identity == c->identity &&
	       emu_client_subscription(c, FILTER_METHODS, call->name);
}

void emu_methods_device_ready(struct emu_client *c)
{
	struct emu_call *call;

	while (!c->closing && c->hub->n_calls > 0 && (call = find(c->hub, waits_for, c))) {
		call->service->ops->on_wake(call->service->userdata);
		deliver(call);
	}
}

/* --- from the device
 * ------------------------------------------------------------------------------------------- */

static struct emu_call *call_find(struct emu_client *c, struct bytes number)
{
	struct reader r = reader_init(number);
	uint64_t id = (uint64_t)reader_u32(&r) << 32;

	id |= reader_u32(&r);
	if (r.error || reader_left(&r) > 0)
		return NULL;
	list_for_each (link, &c->hub->calls) {
		struct emu_call *call = container_of(link, struct emu_call, link);

		if (call->id == id && call->device == c)
			return call;
	}
	return NULL;
}

/* What the device said instead of a response. */
static void call_fail_by_device(struct emu_call *call, struct bytes status)
{
	uint16_t code;

	if (emu_status_parse(status, &code) == 0 && code == STATUS_TARGET_UNAVAILABLE)
		call_fail(call, STATUS_TARGET_UNAVAILABLE, "");
	else
		call_fail(call, STATUS_TARGET_FAILED, "the device answered with an error");
}

static void call_succeed(struct emu_call *call, const struct mqtt_packet *packet)
{
	struct bytes field = packet->properties.repeatable, text;
	uint8_t properties[64];
	struct writer w = writer_init(properties, sizeof(properties));
	struct emu_response response = {.payload = packet->publish.payload};
	uint64_t code;

	if (!mqtt_user_property_find(field, "response-code", &text) || emu_u64_parse(text, &code) < 0 ||
	    code > UINT32_MAX) {
		call_fail(call, STATUS_TARGET_FAILED, "the response has no valid response-code");
		return;
	}
	emu_property_put_number(&w, "response-code", code);
	response.properties = writer_bytes(&w);
	call_end(call, &response);
}

void emu_on_method_response(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_call *call = call_find(c, packet->properties.correlation_data);
	struct bytes field = packet->properties.repeatable, status;
	struct emu_outcome outcome = EMU_SUCCESS;

	if (!emu_response_properties_check(field, &outcome)) {
		if (call)
			call_fail(call, STATUS_TARGET_FAILED, outcome.reason);
		emu_client_end_outcome(c, &outcome);
	} else if (!call) {
		log_debug(c->hub->log, "%s: a response to no call", c->id);
	} else if (mqtt_user_property_find(field, "status", &status) && !bytes_equal_str(status, "0000")) {
		call_fail_by_device(call, status);
	} else {
		call_succeed(call, packet);
	}
}

/* --- timeouts
 * -------------------------------------------------------------------------------------------------- */

uint64_t emu_methods_deadline_ns(const struct emu_client *service)
{
	uint64_t at = TIME_NEVER;

	list_for_each (link, &service->hub->calls) {
		const struct emu_call *call = container_of(link, struct emu_call, link);

		if (call->service == service && call->due_ns < at)
			at = call->due_ns;
	}
	return at;
}

static bool is_due(const struct emu_call *call, const void *service)
{
	const struct emu_client *c = service;

	return call->service == c && call->due_ns <= c->hub->now_ns;
}

void emu_methods_tick(struct emu_client *service)
{
	struct emu_call *call;

	while (!service->closing && (call = find(service->hub, is_due, service))) {
		if (call->device)
			call_fail(call, STATUS_TARGET_TIMEOUT, "the device did not answer in time");
		else
			call_fail(call, STATUS_TARGET_UNAVAILABLE, "");
	}
}
