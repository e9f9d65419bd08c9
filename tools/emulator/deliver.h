/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_DELIVER_H
#define EMULATOR_DELIVER_H

#include "client.h"

/* The device connected; @resumed: its session was there. */
void emu_commands_attached(struct emu_client *c, bool resumed);

/* The device's connection is over. */
void emu_commands_detached(struct emu_hub *hub, struct emu_identity *identity);

/* Sends what waits, as far as the device is subscribed and its Receive Maximum and the output have room. */
void emu_commands_deliver(struct emu_client *c);

/* The same for a device that may not be connected. */
void emu_commands_offer(struct emu_identity *identity);

/* What waited too long becomes a dead letter. */
void emu_commands_expire(struct emu_hub *hub, struct emu_identity *identity);

/* It is new in a queue: its life ends at some time. */
void emu_command_watch(struct emu_hub *hub, const struct emu_command *command);

/* At hub->commands_due_ns or later: what waited too long becomes a dead letter, what was abandoned is delivered
 * again. */
void emu_commands_tick(struct emu_hub *hub);

/* The device settles a command. */
void emu_on_puback(struct emu_client *c, const struct mqtt_packet *packet);

#endif
