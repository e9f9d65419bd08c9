/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_CONNECT_H
#define EMULATOR_CONNECT_H

/*
 * What CONNECT and AUTH have in common: who it is, and what shows it. Between connect.c and auth.c.
 */

#include "client.h"

struct emu_claim {
	const struct mqtt_packet *packet;
	bool is_service;
	struct emu_identity *identity; /* NULL: the service side, or not known (yet) */
	struct emu_sas_fields sas;     /* host and client_id are the caller's to fill in */
	uint64_t expiry_ms;            /* when the authentication ends; UINT64_MAX: with the connection */
	enum emu_signed_by signed_by;
};

/* Reads the times of a SAS claim; true, or false and a Bad Request. */
bool emu_claim_times_check(struct emu_claim *claim, struct emu_outcome *outcome);

/* Whether the claim holds, by its method: true; or false and the outcome. Sets identity, expiry, signed_by. */
bool emu_claim_check(const struct emu_client *c, struct emu_claim *claim, struct emu_outcome *outcome);

/* The claim is accepted: when it ends. */
void emu_claim_accept(struct emu_client *c, const struct emu_claim *claim);

#endif
