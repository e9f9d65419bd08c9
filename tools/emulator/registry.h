/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_REGISTRY_H
#define EMULATOR_REGISTRY_H

/*
 * Who may connect: identities (devices, and modules as `device/module`) with two keys each, and shared access
 * policies. Kept in `devices.json` of the state directory. Identities live as long as the registry and own
 * their session.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "session.h"

#define KEY_LEN     32
#define KEY_LEN_MAX 64
/* `device/module`, each part up to 128 characters. */
#define IDENTITY_ID_MAX 257

struct emu_registry;

struct emu_key {
	size_t len;
	uint8_t data[KEY_LEN_MAX];
};

struct emu_identity {
	char id[IDENTITY_ID_MAX + 1];
	size_t device_len; /* of the device's part of @id */
	struct emu_key keys[2];
	struct emu_session session;
};

enum emu_policy_right {
	POLICY_DEVICE_CONNECT,
	POLICY_SERVICE_CONNECT,
};

struct emu_policy {
	const char *name;
	enum emu_policy_right right;
	struct emu_key key;
};

/* The keys as they are used: borrowed. */
static inline struct bytes emu_key_bytes(const struct emu_key *key)
{
	return BYTES(key->data, key->len);
}

/* The module's part of the id, "" for a device. */
static inline const char *emu_identity_module(const struct emu_identity *identity)
{
	return identity->id[identity->device_len] ? identity->id + identity->device_len + 1 : "";
}

/*
 * Reads @dir/devices.json; without one there are no identities and the policies get new keys. Returns 0,
 * -ENOMEM, or, with one line logged that names the file, another error.
 */
int emu_registry_load(struct emu_registry **out, const char *dir, struct log *log);

/* Clients must have let go of their sessions. NULL is fine. */
void emu_registry_free(struct emu_registry *r);

/* A device's or module's name as the hub allows it: ASCII letters, digits and -:.+%_#*?!(),=@$', up to 128
 * each. */
bool emu_identity_id_is_valid(const char *id);

/* Adds @id with new keys. Returns 0 when it is there, old or new, -EINVAL for a name that is not allowed,
 * -ENOMEM. */
int emu_registry_add(struct emu_registry *r, const char *id);

/* Writes devices.json if it differs from what was read. Returns 0, or the error, logged. */
int emu_registry_save(struct emu_registry *r);

/* Writes `devices/<id>.connection-string` for every identity, and `service.connection-string`, for a hub that
 * listens as
 * @host at @port. Returns 0, or the error, logged. */
int emu_registry_write_connection_strings(struct emu_registry *r, const char *host, uint16_t port);

/* NULL when there is none. */
struct emu_identity *emu_registry_find(struct emu_registry *r, struct bytes id);
const struct emu_policy *emu_registry_policy(const struct emu_registry *r, struct bytes name);

/* Identities in order of their ids. */
size_t emu_registry_n_identities(const struct emu_registry *r);
struct emu_identity *emu_registry_identity(const struct emu_registry *r, size_t i);

/* The path of an identity's connection string file; returns 0 or -ENAMETOOLONG. */
int emu_registry_connection_string_path(const struct emu_registry *r, const struct emu_identity *identity,
					char *out, size_t size);

#endif
