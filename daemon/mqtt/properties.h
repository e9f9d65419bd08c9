/* SPDX-License-Identifier: MIT */
#ifndef MQTT_PROPERTIES_H
#define MQTT_PROPERTIES_H

/*
 * The property blocks of MQTT 5 (2.2.2). Internal to the codec: one table of the 27 properties drives
 * reading, writing and the rules of which packet may carry what, from which side.
 */

#include "mqtt/packet.h"

/* Where a block stands: a packet type, or this for the Will Properties of CONNECT (3.1.3.2). */
#define MQTT_PLACE_WILL 0u

/* A set of sides a packet may have come from: bits (1 << enum mqtt_sender). */
#define MQTT_SENDER_CLIENT (1u << MQTT_FROM_CLIENT)
#define MQTT_SENDER_SERVER (1u << MQTT_FROM_SERVER)
#define MQTT_SENDER_ANY    (MQTT_SENDER_CLIENT | MQTT_SENDER_SERVER)

/* One property as it stands on the wire. Which members count follows from the type of @id. */
struct mqtt_property_item {
	uint8_t id;
	uint32_t number;
	struct bytes key;   /* User Property only */
	struct bytes value; /* string, binary data, or the value of a User Property */
};

/* Reads a block with its length. Fails with -EBADMSG, or -EPROTO for repetitions and forbidden values. */
void mqtt_property_block_get(struct reader *r, unsigned int place, struct mqtt_properties *out);

/* Writes a block with its length; -EINVAL sticks for what mqtt_property_block_get() would refuse. */
void mqtt_property_block_put(struct writer *w, unsigned int place, const struct mqtt_properties *p);

/* The sides that may send all of @p in @place; what may not stand there at all is not looked at. */
unsigned int mqtt_properties_senders(const struct mqtt_properties *p, unsigned int place);

/* Whether a block of @p would have no byte but its length. */
bool mqtt_properties_is_empty(const struct mqtt_properties *p);

/* Steps over all properties of @field, checking no more than that they can be told apart. */
bool mqtt_property_item_next(struct bytes field, size_t *pos, struct mqtt_property_item *out);

#endif
