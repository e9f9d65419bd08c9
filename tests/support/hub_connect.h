/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_HUB_CONNECT_H
#define TESTS_SUPPORT_HUB_CONNECT_H

/*
 * CONNECT as a device sends it, with everything a test may want to be wrong. Signed with OpenSSL's HMAC() on
 * its own, so that neither the device's nor the emulator's code is asked whether it is right.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "mqtt/packet.h"

#define HUB_CONNECT_N_EXTRA 4
#define HUB_CONNECT_MAX     4096

struct hub_connect {
	struct mqtt_packet
		packet; /* its User Properties and Authentication Data are filled in by the encoder */
	const char *signed_host;
	const char *host; /* these six: NULL = the property is left out */
	const char *api_version;
	const char *policy;
	const char *at;
	const char *expiry;
	const char *client_agent;
	const char *extra[HUB_CONNECT_N_EXTRA][2]; /* more User Properties, up to a NULL */
	struct bytes key;
	bool spoil_signature;
	bool no_authentication_data;
};

/* A good CONNECT: Clean Start 0, Keep Alive 60, Session Expiry 3600, to `localhost` by SNI, valid until 2100.
 */
struct hub_connect hub_connect_make(const char *client_id, struct bytes key);

/* Encodes it; returns the packet in @out, or an empty run when it cannot be encoded. */
struct bytes hub_connect_encode(const struct hub_connect *c, uint8_t out[static HUB_CONNECT_MAX]);

/* Value of the User Property @name as a string, "" when it is absent. Lives until the next call. */
const char *hub_property(const struct mqtt_packet *packet, const char *name, char *out, size_t size);

/* PUBLISH of @payload, with User Properties `name=value,…` in @properties (encoded to @scratch, 1024 bytes).
 */
struct mqtt_packet hub_publish_make(const char *topic, uint8_t qos, uint16_t packet_id, const char *payload,
				    const char *properties, uint8_t *scratch);

/* SUBSCRIBE or UNSUBSCRIBE of the filters `filter,filter@1` (QoS 0 unless it ends in @1 or @2); @scratch has
 * 4096 bytes. */
struct mqtt_packet hub_subscribe_make(enum mqtt_type type, const char *filters, uint8_t *scratch);

#endif
