/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_REGISTRY_INTERNAL_H
#define EMULATOR_REGISTRY_INTERNAL_H

#include "registry.h"

enum {
	POLICY_SERVICE,
	POLICY_DEVICE,
	N_POLICIES,
};

struct emu_registry {
	struct log *log;
	char *dir; /* NULL: in memory */
	char *host;
	uint16_t port;
	bool changed;
	struct emu_policy policies[N_POLICIES];
	struct emu_identity **identities;
	size_t n_identities;
	size_t size;
};

/* Reads devices.json, or makes keys for the policies. Returns 0 or the error, logged. */
int emu_registry_read(struct emu_registry *r);

#endif
