/* SPDX-License-Identifier: MIT */
/*
 * Packet types and reason codes by name, and which packet from which side may carry which reason code.
 *
 * Sources: table 2-6 for the names; tables 3-1, 3-4 to 3-11 and the "Sent by" columns of 3.14.2.1
 * and 3.15.2.1 for the packets. Table 2-6 lists DISCONNECT for 0x8C and table 3-10 does not: it is taken from
 * a server, which is who judges authentication methods.
 */

#include "mqtt/properties.h"
#include "mqtt/rules.h"

#define AT(type)   (1u << (type))
#define CONNACK    AT(MQTT_CONNACK)
#define PUBACK     (AT(MQTT_PUBACK) | AT(MQTT_PUBREC))
#define PUBREL     (AT(MQTT_PUBREL) | AT(MQTT_PUBCOMP))
#define SUBACK     AT(MQTT_SUBACK)
#define UNSUBACK   AT(MQTT_UNSUBACK)
#define DISCONNECT AT(MQTT_DISCONNECT)
#define AUTH       AT(MQTT_AUTH)

struct reason_spec {
	const char *name; /* NULL: no such code */
	uint16_t from_client;
	uint16_t from_server;
};

static const struct reason_spec reason_specs[] = {
	[0x00] = {"Success", PUBACK | PUBREL | DISCONNECT,
		  CONNACK | PUBACK | PUBREL | SUBACK | UNSUBACK | DISCONNECT | AUTH},
	[0x01] = {"Granted QoS 1", 0, SUBACK},
	[0x02] = {"Granted QoS 2", 0, SUBACK},
	[0x04] = {"Disconnect with Will Message", DISCONNECT, 0},
	[0x10] = {"No matching subscribers", 0, PUBACK},
	[0x11] = {"No subscription existed", 0, UNSUBACK},
	[0x18] = {"Continue authentication", AUTH, AUTH},
	[0x19] = {"Re-authenticate", AUTH, 0},
	[0x80] = {"Unspecified error", PUBACK | DISCONNECT,
		  CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT},
	[0x81] = {"Malformed Packet", DISCONNECT, CONNACK | DISCONNECT},
	[0x82] = {"Protocol Error", DISCONNECT, CONNACK | DISCONNECT},
	[0x83] = {"Implementation specific error", PUBACK | DISCONNECT,
		  CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT},
	[0x84] = {"Unsupported Protocol Version", 0, CONNACK},
	[0x85] = {"Client Identifier not valid", 0, CONNACK},
	[0x86] = {"Bad User Name or Password", 0, CONNACK},
	[0x87] = {"Not authorized", PUBACK, CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT},
	[0x88] = {"Server unavailable", 0, CONNACK},
	[0x89] = {"Server busy", 0, CONNACK | DISCONNECT},
	[0x8a] = {"Banned", 0, CONNACK},
	[0x8b] = {"Server shutting down", 0, DISCONNECT},
	[0x8c] = {"Bad authentication method", 0, CONNACK | DISCONNECT},
	[0x8d] = {"Keep Alive timeout", 0, DISCONNECT},
	[0x8e] = {"Session taken over", 0, DISCONNECT},
	[0x8f] = {"Topic Filter invalid", 0, SUBACK | UNSUBACK | DISCONNECT},
	[0x90] = {"Topic Name invalid", PUBACK | DISCONNECT, CONNACK | PUBACK | DISCONNECT},
	[0x91] = {"Packet Identifier in use", PUBACK, PUBACK | SUBACK | UNSUBACK},
	[0x92] = {"Packet Identifier not found", PUBREL, PUBREL},
	[0x93] = {"Receive Maximum exceeded", DISCONNECT, DISCONNECT},
	[0x94] = {"Topic Alias invalid", DISCONNECT, DISCONNECT},
	[0x95] = {"Packet too large", DISCONNECT, CONNACK | DISCONNECT},
	[0x96] = {"Message rate too high", DISCONNECT, DISCONNECT},
	[0x97] = {"Quota exceeded", PUBACK | DISCONNECT, CONNACK | PUBACK | SUBACK | DISCONNECT},
	[0x98] = {"Administrative action", DISCONNECT, DISCONNECT},
	[0x99] = {"Payload format invalid", PUBACK | DISCONNECT, CONNACK | PUBACK | DISCONNECT},
	[0x9a] = {"Retain not supported", 0, CONNACK | DISCONNECT},
	[0x9b] = {"QoS not supported", 0, CONNACK | DISCONNECT},
	[0x9c] = {"Use another server", 0, CONNACK | DISCONNECT},
	[0x9d] = {"Server moved", 0, CONNACK | DISCONNECT},
	[0x9e] = {"Shared Subscriptions not supported", 0, SUBACK | DISCONNECT},
	[0x9f] = {"Connection rate exceeded", 0, CONNACK | DISCONNECT},
	[0xa0] = {"Maximum connect time", 0, DISCONNECT},
	[0xa1] = {"Subscription Identifiers not supported", 0, SUBACK | DISCONNECT},
	[0xa2] = {"Wildcard Subscriptions not supported", 0, SUBACK | DISCONNECT},
};

#define N_REASONS (sizeof(reason_specs) / sizeof(reason_specs[0]))

static const char *const type_names[] = {
	[MQTT_CONNECT] = "CONNECT",         [MQTT_CONNACK] = "CONNACK",       [MQTT_PUBLISH] = "PUBLISH",
	[MQTT_PUBACK] = "PUBACK",           [MQTT_PUBREC] = "PUBREC",         [MQTT_PUBREL] = "PUBREL",
	[MQTT_PUBCOMP] = "PUBCOMP",         [MQTT_SUBSCRIBE] = "SUBSCRIBE",   [MQTT_SUBACK] = "SUBACK",
	[MQTT_UNSUBSCRIBE] = "UNSUBSCRIBE", [MQTT_UNSUBACK] = "UNSUBACK",     [MQTT_PINGREQ] = "PINGREQ",
	[MQTT_PINGRESP] = "PINGRESP",       [MQTT_DISCONNECT] = "DISCONNECT", [MQTT_AUTH] = "AUTH",
};

const char *mqtt_type_name(enum mqtt_type type)
{
	return type >= MQTT_CONNECT && type <= MQTT_AUTH ? type_names[type] : "reserved";
}

const char *mqtt_reason_name(uint8_t reason)
{
	return reason < N_REASONS && reason_specs[reason].name ? reason_specs[reason].name : "unknown reason";
}

unsigned int mqtt_reason_senders(enum mqtt_type type, uint8_t reason)
{
	unsigned int senders = 0;

	if (reason >= N_REASONS)
		return 0;
	if (reason_specs[reason].from_client >> type & 1)
		senders |= MQTT_SENDER_CLIENT;
	if (reason_specs[reason].from_server >> type & 1)
		senders |= MQTT_SENDER_SERVER;
	return senders;
}
