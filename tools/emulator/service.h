/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_SERVICE_H
#define EMULATOR_SERVICE_H

/*
 * Requests of the service side, as iothub-emulator(1) describes them: dispatch in service.c, the operations in
 * service_devices.c, service_commands.c and service_faults.c.
 */

#include <json-c/json.h>

#include "client.h"

bool emu_service_topic_is_known(struct bytes topic);

/* One of the known topics, with good Correlation Data. */
void emu_on_service_request(struct emu_client *c, const struct mqtt_packet *packet);

/* --- for the operations
 * ---------------------------------------------------------------------------------------- */

/* Most objects in an answer that is a list. */
#define SERVICE_DEVICES_MAX  500
#define SERVICE_COMMANDS_MAX 100

struct emu_service_request {
	struct emu_client *client;
	const struct mqtt_packet *packet;
	struct bytes field;            /* its User Properties, checked */
	struct emu_identity *identity; /* of `device`; NULL when the operation has none, or makes it */
	struct bytes device;
	/* The answer: */
	struct emu_outcome *outcome; /* a success when the operation is called */
	struct writer *properties;
	json_object *payload; /* put after answering */
	bool is_answered;     /* or will be, by somebody else */
	bool is_offered;      /* @identity gets what waits for it, once this is answered */
};

/* Value of the User Property @name as a number, or @otherwise. */
uint64_t emu_service_number(const struct emu_service_request *rq, const char *name, uint64_t otherwise);

/* Reads the payload, NULL when it is empty: true, or false and a Bad Request. */
bool emu_service_payload(const struct emu_service_request *rq, json_object **out);

void emu_service_devices_add(struct emu_service_request *rq);
void emu_service_devices_list(struct emu_service_request *rq);
void emu_service_devices_show(struct emu_service_request *rq);
void emu_service_devices_remove(struct emu_service_request *rq);
void emu_service_devices_keys(struct emu_service_request *rq);
void emu_service_twin_show(struct emu_service_request *rq);
void emu_service_twin_patch(struct emu_service_request *rq);
/* The identity goes: those who wait for its commands are told. */
void emu_service_commands_drop(struct emu_hub *hub, struct emu_identity *identity);
void emu_service_commands_send(struct emu_service_request *rq);
void emu_service_commands_list(struct emu_service_request *rq);
void emu_service_commands_purge(struct emu_service_request *rq);
void emu_service_methods_call(struct emu_service_request *rq);
void emu_service_faults_set(struct emu_service_request *rq);
void emu_service_faults_list(struct emu_service_request *rq);
void emu_service_faults_clear(struct emu_service_request *rq);

#endif
