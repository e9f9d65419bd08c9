/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_CREDENTIALS_H
#define EMULATOR_CREDENTIALS_H

#include <json-c/json.h>

#include "registry.h"

/*
 * Reads `authentication`, `primary-key`, `secondary-key`, `thumbprints` and `ca` of @object, all optional; a key
 * that is absent stays empty. Returns NULL, or what is wrong.
 */
const char *emu_credentials_from_json(struct emu_credentials *credentials, json_object *object);

/* Adds them to @object; @with_keys: the keys, too. */
void emu_credentials_to_json(const struct emu_credentials *credentials, json_object *object, bool with_keys);

#endif
