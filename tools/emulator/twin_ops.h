/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_TWIN_OPS_H
#define EMULATOR_TWIN_OPS_H

#include "client.h"

/* Requests of the device; the Correlation Data is good. */
void emu_on_twin_get(struct emu_client *c, const struct mqtt_packet *packet);
void emu_on_twin_patch(struct emu_client *c, const struct mqtt_packet *packet);

/* Patches a part of the twin, keeps it, tells the device (desired) and who watches. @field: User Properties, for
 * `if-version`. True; or false and the outcome, with nothing changed. */
bool emu_twin_change(struct emu_hub *hub, struct emu_identity *identity, enum emu_twin_part part,
		     struct bytes payload, struct bytes field, struct emu_outcome *outcome);

#endif
