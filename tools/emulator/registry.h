/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_REGISTRY_H
#define EMULATOR_REGISTRY_H

/*
 * Who may connect: identities (devices, and modules as `device/module`) with two keys each, and shared access
 * policies. Kept in `devices.json` of the state directory. An identity lives until it is removed and owns all
 * that the hub keeps for it: session, twin, commands.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "command.h"
#include "fault.h"
#include "session.h"
#include "twin.h"

#define KEY_LEN     32
#define KEY_LEN_MAX 64
/* `device/module`, each part up to 128 characters. */
#define IDENTITY_ID_MAX 257

struct emu_registry;

struct emu_key {
	size_t len;
	uint8_t data[KEY_LEN_MAX];
};

#define THUMBPRINT_LEN    32 /* SHA-256 of the certificate */
#define N_THUMBPRINTS_MAX 2

/* What a connection has to show. */
enum emu_authentication {
	AUTHENTICATION_SAS,
	AUTHENTICATION_THUMBPRINT, /* one of these certificates */
	AUTHENTICATION_CA, /* a certificate of a registered authority, with the device's id as common name */
};

struct emu_credentials {
	enum emu_authentication authentication;
	struct emu_key keys[2]; /* SAS */
	size_t n_thumbprints;
	uint8_t thumbprints[N_THUMBPRINTS_MAX][THUMBPRINT_LEN];
};

struct emu_identity {
	char id[IDENTITY_ID_MAX + 1];
	size_t device_len; /* of the device's part of @id */
	struct emu_credentials credentials;
	struct emu_session session;
	struct emu_twin twin;
	struct emu_commands commands;
	struct emu_meter throttle;
	struct emu_meter quota;
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

/* Forgets session, twin and commands. No connection may have the session. */
void emu_identity_reset(struct emu_identity *identity);

/*
 * Reads @dir/devices.json (NULL: nothing is ever read or written); without one there are no identities and the policies get new keys. Returns 0,
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

/* Makes new keys where @credentials has none (an empty key). Returns 0 or -EIO. */
int emu_credentials_complete(struct emu_credentials *credentials);

/* Reads `3f:A2…`, SHA-256 in hexadecimal digits with or without colons. Returns 0 or -EINVAL. */
int emu_thumbprint_parse(const char *text, uint8_t out[static THUMBPRINT_LEN]);

/* Reads a base64 key of 1 to KEY_LEN_MAX bytes. Returns 0 or -EINVAL. */
int emu_key_parse(struct emu_key *key, const char *text);

/* As emu_registry_add() for an id that is new and valid, with these credentials. */
int emu_registry_add_with(struct emu_registry *r, const char *id, const struct emu_credentials *credentials,
			  struct emu_identity **out);

/* Replaces the credentials; the caller ends the connections that have the old ones. */
void emu_registry_set_credentials(struct emu_registry *r, struct emu_identity *identity,
				  const struct emu_credentials *credentials);

/* Takes it out and frees it; its session must have no connection. */
void emu_registry_remove(struct emu_registry *r, struct emu_identity *identity);

/* Index of the first identity behind @id in order, or their number. */
size_t emu_registry_after(const struct emu_registry *r, struct bytes id);

/* Writes devices.json if it differs from what was read. Returns 0, or the error, logged. */
int emu_registry_save(struct emu_registry *r);

/* Writes `devices/<id>.connection-string` for every identity with keys, and `service.connection-string`, for a
 * hub that listens as @host at @port, which is remembered. Returns 0, or the error, logged. */
int emu_registry_write_connection_strings(struct emu_registry *r, const char *host, uint16_t port);

/* NULL when there is none. */
struct emu_identity *emu_registry_find(struct emu_registry *r, struct bytes id);
const struct emu_policy *emu_registry_policy(const struct emu_registry *r, struct bytes name);

/* Identities in order of their ids. */
size_t emu_registry_n_identities(const struct emu_registry *r);
struct emu_identity *emu_registry_identity(const struct emu_registry *r, size_t i);

/* Writes the connection string file of one identity (nothing for X.509), or removes it. Returns 0 or the error,
 * logged. */
int emu_registry_write_connection_string(const struct emu_registry *r, const struct emu_identity *identity);
void emu_registry_remove_connection_string(const struct emu_registry *r, const struct emu_identity *identity);

/* The connection string, without a newline; the caller's. NULL: no memory, or X.509. */
char *emu_registry_connection_string(const struct emu_registry *r, const struct emu_identity *identity);

/* The path of an identity's connection string file; returns 0 or -ENAMETOOLONG. */
int emu_registry_connection_string_path(const struct emu_registry *r, const struct emu_identity *identity,
					char *out, size_t size);

#endif
