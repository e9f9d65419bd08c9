/* SPDX-License-Identifier: MIT */
#ifndef HUB_SAS_H
#define HUB_SAS_H

/*
 * Shared access signatures: a key proves itself by an HMAC-SHA256 over who connects to which hub and until
 * when (CONNECT and AUTH, Authentication Method SAS).
 */

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Longest decoded key. A hub's own keys have 32 or 64 bytes. */
#define HUB_KEY_BYTES_MAX 256

/* Longest base64 text of a key. */
#define HUB_KEY_TEXT_MAX    344

#define HUB_SIGNATURE_BYTES 32

/* 2^64 - 1 in decimal and a NUL. */
#define HUB_TIME_TEXT_SIZE 21

/* A decoded key. Wiped by its owner with hub_key_wipe(). */
struct hub_key {
	uint8_t data[HUB_KEY_BYTES_MAX];
	size_t len; /* 0 = no key */
};

/* Decodes standard base64. Returns 0; -EINVAL: empty or not base64; -ENOSPC: over HUB_KEY_BYTES_MAX. On error
 * @out is wiped. */
int hub_key_decode(struct bytes text, struct hub_key *out);

/* Overwrites the key so that the compiler cannot leave it out. Idempotent. */
void hub_key_wipe(struct hub_key *key);

/* What is signed, exactly as it stands in the packet's properties; an absent one is the empty run. */
struct hub_sas_fields {
	struct bytes host;      /* the hub's, also behind a gateway */
	struct bytes client_id; /* `device` or `device/module` */
	struct bytes policy;    /* sas-policy */
	struct bytes at;        /* sas-at */
	struct bytes expiry;    /* sas-expiry */
};

/* HMAC-SHA256 over `host\nclient-id\nsas-policy\nsas-at\nsas-expiry\n`. Returns 0; -ENOSPC: a field is longer
 * than any name of its kind; -ENOMEM: OpenSSL failed. */
int hub_sas_sign(const struct hub_key *key, const struct hub_sas_fields *fields,
		 uint8_t out[static HUB_SIGNATURE_BYTES]);

/* One signature with its times, ready for a packet. Not secret once sent, but good until its expiry. */
struct hub_sas {
	char at[HUB_TIME_TEXT_SIZE];     /* sas-at: milliseconds since 1970 in decimal */
	char expiry[HUB_TIME_TEXT_SIZE]; /* sas-expiry */
	uint64_t expiry_ms;
	uint8_t signature[HUB_SIGNATURE_BYTES]; /* Authentication Data */
};

/* Signs for @lifetime_ms from @now_ms (since 1970) on. @policy NULL or "" = the device's own key.
 * Returns as hub_sas_sign(). */
int hub_sas_make(struct hub_sas *out, const struct hub_key *key, const char *host, const char *client_id,
		 const char *policy, uint64_t now_ms, uint64_t lifetime_ms);

#endif
