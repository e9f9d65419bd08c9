/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_FAULT_JSON_H
#define EMULATOR_FAULT_JSON_H

#include <json-c/json.h>

#include "fault.h"

/* Reads a fault as iothub-emulator(1) describes it. True; or false and a Bad Request. */
bool emu_fault_from_json(json_object *object, struct emu_fault *out, struct emu_outcome *outcome);

/* As it was set, with `id`, `left` and `hits`; a new object. */
json_object *emu_fault_to_json(const struct emu_fault *fault);

/* Whether it acts at once and is never in the table. */
bool emu_fault_is_immediate(const struct emu_fault *fault);

#endif
