/* SPDX-License-Identifier: MIT */
/*
 * Packets of a device for tests of a hub, see hub_connect.h.
 */

#include "tests/support/hub_connect.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define SCRATCH_SIZE           1024
#define SUBSCRIBE_SCRATCH_SIZE 4096

struct hub_connect hub_connect_make(const char *client_id, struct bytes key)
{
	struct hub_connect c = {
		.packet = {.type = MQTT_CONNECT,
			   .connect = {.level = MQTT_LEVEL_5,
				       .keep_alive = 60,
				       .client_id = bytes_from_str(client_id)}},
		.signed_host = "localhost",
		.api_version = "2020-10-01-preview",
		.at = "1600987795320",
		.expiry = "4102444800000",
		.key = key,
	};

	c.packet.properties.authentication_method = BYTES_LIT("SAS");
	mqtt_set(&c.packet.properties, MQTT_PROP_AUTHENTICATION_METHOD);
	c.packet.properties.session_expiry_interval = 3600;
	mqtt_set(&c.packet.properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	return c;
}

static void put(struct writer *w, const char *name, const char *value)
{
	if (value)
		mqtt_user_property_put(w, bytes_from_str(name), bytes_from_str(value));
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

static unsigned int sign(const struct hub_connect *c, uint8_t out[static EVP_MAX_MD_SIZE])
{
	struct bytes id = c->packet.connect.client_id;
	unsigned int len = 0;
	char text[1024];
	int n = snprintf(text, sizeof(text), "%s\n%.*s\n%s\n%s\n%s\n", or_empty(c->signed_host), (int)id.len,
			 id.data ? (const char *)id.data : "", or_empty(c->policy), or_empty(c->at),
			 or_empty(c->expiry));

	HMAC(EVP_sha256(), c->key.data, (int)c->key.len, (const unsigned char *)text, (size_t)n, out, &len);
	if (c->spoil_signature)
		out[0] ^= 1;
	return len;
}

struct bytes hub_connect_encode(const struct hub_connect *c, uint8_t out[static HUB_CONNECT_MAX])
{
	uint8_t properties[SCRATCH_SIZE], signature[EVP_MAX_MD_SIZE];
	struct writer p = writer_init(properties, sizeof(properties)), w = writer_init(out, HUB_CONNECT_MAX);
	struct mqtt_packet packet = c->packet;

	put(&p, "api-version", c->api_version);
	put(&p, "host", c->host);
	put(&p, "sas-policy", c->policy);
	put(&p, "sas-at", c->at);
	put(&p, "sas-expiry", c->expiry);
	put(&p, "client-agent", c->client_agent);
	for (size_t i = 0; i < HUB_CONNECT_N_EXTRA && c->extra[i][0]; i++)
		put(&p, c->extra[i][0], c->extra[i][1]);
	if (packet.connect.level == MQTT_LEVEL_5) {
		packet.properties.repeatable = writer_bytes(&p);
		if (!c->no_authentication_data) {
			packet.properties.authentication_data = BYTES(signature, sign(c, signature));
			mqtt_set(&packet.properties, MQTT_PROP_AUTHENTICATION_DATA);
		}
	}
	if (p.error || mqtt_encode(&w, &packet, packet.connect.level) < 0)
		return BYTES(NULL, 0);
	return writer_bytes(&w);
}

const char *hub_property(const struct mqtt_packet *packet, const char *name, char *out, size_t size)
{
	struct bytes value = BYTES(NULL, 0);

	mqtt_user_property_find(packet->properties.repeatable, name, &value);
	snprintf(out, size, "%.*s", (int)value.len, value.data ? (const char *)value.data : "");
	return out;
}

struct mqtt_packet hub_publish_make(const char *topic, uint8_t qos, uint16_t packet_id, const char *payload,
				    const char *properties, uint8_t *scratch)
{
	struct writer w = writer_init(scratch, SCRATCH_SIZE);
	struct mqtt_packet packet = {
		.type = MQTT_PUBLISH,
		.publish = {.topic = bytes_from_str(topic),
			    .qos = qos,
			    .packet_id = packet_id,
			    .payload = bytes_from_str(payload)},
	};

	while (properties && *properties) {
		size_t key_len = strcspn(properties, "="), value_len = strcspn(properties + key_len + 1, ",");

		mqtt_user_property_put(&w, BYTES(properties, key_len),
				       BYTES(properties + key_len + 1, value_len));
		properties += key_len + 1 + value_len;
		properties += *properties == ',';
	}
	packet.properties.repeatable = writer_bytes(&w);
	return packet;
}

struct mqtt_packet hub_subscribe_make(enum mqtt_type type, const char *filters, uint8_t *scratch)
{
	struct writer w = writer_init(scratch, SUBSCRIBE_SCRATCH_SIZE);
	struct mqtt_packet packet = {.type = type, .subscribe = {.packet_id = 7}};

	while (*filters) {
		size_t len = strcspn(filters, ",@");
		uint8_t qos = 0;

		if (filters[len] == '@')
			qos = (uint8_t)(filters[len + 1] - '0');
		mqtt_filter_put(&w, type, BYTES(filters, len), qos);
		filters += len + strcspn(filters + len, ",");
		filters += *filters == ',';
	}
	packet.subscribe.filters = writer_bytes(&w);
	return packet;
}
