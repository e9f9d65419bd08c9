/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_MESSAGE_H
#define HUBCTL_MESSAGE_H

#include <json-c/json.h>
#include <mosquitto.h>

#include "base/bytes.h"

/*
 * A posted telemetry message as JSON, in the form of hubctl(1). The caller's reference. NULL when there is no
 * memory.
 */
json_object *message_to_json(struct bytes payload, const mosquitto_property *properties);

#endif
