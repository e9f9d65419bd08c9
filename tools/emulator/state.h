/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_STATE_H
#define EMULATOR_STATE_H

/*
 * What the hub keeps on disk beside the registry: twins, commands, sessions. Every change is noted here when it
 * is made, and is on disk after emu_hub_commit(). Without a store, as in tests, nothing is kept.
 */

#include "command.h"
#include "hub.h"
#include "registry.h"
#include "twin.h"

/* Reads @path (or starts it) into the registry's identities; records of identities that are gone are dropped.
 * The hub's time must have been set. Returns 0 or the negative error, logged. */
int emu_state_open(struct emu_hub *hub, const char *path);

void emu_state_twin(struct emu_hub *hub, const struct emu_identity *identity, enum emu_twin_part part);
void emu_state_command(struct emu_hub *hub, const struct emu_identity *identity,
		       const struct emu_command *command);
/* Delivery count, in flight or not, dead or not. */
void emu_state_command_moved(struct emu_hub *hub, const struct emu_identity *identity,
			     const struct emu_command *command);
/* It leaves the queue for those that are completed. */
void emu_state_command_completed(struct emu_hub *hub, const struct emu_identity *identity,
				 const struct emu_command *command, uint64_t ended_ms);
void emu_state_command_gone(struct emu_hub *hub, const struct emu_identity *identity, uint64_t sequence_no);
void emu_state_session(struct emu_hub *hub, const struct emu_identity *identity);
/* The identity is removed, or new under an old name. */
void emu_state_forget(struct emu_hub *hub, const struct emu_identity *identity);

/* Writes the log anew when most of it is outdated. */
void emu_state_compact(struct emu_hub *hub);

#endif
