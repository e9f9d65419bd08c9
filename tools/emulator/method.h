/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_METHOD_H
#define EMULATOR_METHOD_H

/*
 * Method calls: from the request of a client of the service side to the response of a device. In memory: a call
 * ends with its caller's connection.
 */

#include "client.h"

#define METHOD_CALLS_MAX          1000
#define METHOD_NAME_MAX           128
#define METHOD_TIMEOUT_MAX_S      300
#define METHOD_RESPONSE_TIMEOUT_S 30
#define METHOD_CORRELATION_LEN    8

struct emu_method_request {
	struct emu_identity *identity;
	struct bytes correlation_data; /* the caller's, up to CONTRACT_CORRELATION_DATA_MAX */
	struct bytes name;
	struct bytes payload;
	uint64_t connect_timeout_s;
	uint64_t response_timeout_s;
};

/* A name that stands in a topic: 1 to METHOD_NAME_MAX bytes without `/`, `+`, `#`. */
bool emu_method_name_is_valid(struct bytes name);

/* Starts the call, which answers @service. Returns 0, -ENOSPC (METHOD_CALLS_MAX) or -ENOMEM. */
int emu_method_call(struct emu_client *service, const struct emu_method_request *request);

/* The device has connected or subscribed: delivers what waits for that. */
void emu_methods_device_ready(struct emu_client *c);

/* The device answers. */
void emu_on_method_response(struct emu_client *c, const struct mqtt_packet *packet);

/* The connection, of a device or of the service side, is over. */
void emu_methods_client_gone(struct emu_client *c);

/* The identity is removed: its calls fail. */
void emu_methods_identity_gone(struct emu_hub *hub, const struct emu_identity *identity);

/* Timeouts of the calls of @service. */
uint64_t emu_methods_deadline_ns(const struct emu_client *service);
void emu_methods_tick(struct emu_client *service);

#endif
