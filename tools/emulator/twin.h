/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_TWIN_H
#define EMULATOR_TWIN_H

/*
 * A twin's document: desired and reported properties with their versions, changed by merge patches within the
 * contract's limits. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "base/bytes.h"
#include "contract.h"

#define TWIN_PART_MAX   (32u * 1024) /* bytes, counted as the contract does */
#define TWIN_LEVELS_MAX 10           /* of containers inside the part's object */
#define TWIN_KEY_MAX    1024
#define TWIN_STRING_MAX 4096

enum emu_twin_part {
	TWIN_DESIRED,
	TWIN_REPORTED,
	TWIN_N_PARTS,
};

struct emu_twin_properties {
	json_object *object; /* NULL: empty */
	uint64_t version;    /* from 1 up */
};

struct emu_twin {
	struct emu_twin_properties parts[TWIN_N_PARTS];
};

/* "desired" or "reported". */
const char *emu_twin_part_name(enum emu_twin_part part);

void emu_twin_init(struct emu_twin *twin);
/* Idempotent. */
void emu_twin_deinit(struct emu_twin *twin);

/* Reads a TwinState: true and *@out, which the caller puts; or false and a Bad Request. */
bool emu_twin_patch_parse(struct bytes text, json_object **out, struct emu_outcome *outcome);

/* Merges @patch (RFC 7396) and counts the version up. @if_version: NULL, or the version it must be. True; or
 * false and the outcome (Precondition Failed, Bad Request), with nothing changed. */
bool emu_twin_patch(struct emu_twin *twin, enum emu_twin_part part, json_object *patch,
		    const uint64_t *if_version, struct emu_outcome *outcome);

/* The document as devices get it, a new object. NULL: no memory. */
json_object *emu_twin_to_json(const struct emu_twin *twin);

#endif
