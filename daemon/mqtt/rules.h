/* SPDX-License-Identifier: MIT */
#ifndef MQTT_RULES_H
#define MQTT_RULES_H

/*
 * What makes a parsed packet a legal one. Internal to the codec; decoder and encoder ask the same functions.
 */

#include "mqtt/packet.h"

/* The sides that may send @reason in a packet of @type at level 5 (names.c). */
unsigned int mqtt_reason_senders(enum mqtt_type type, uint8_t reason);

/* The sides that may send packets of @type: 2.1.2, direction of flow. */
unsigned int mqtt_type_senders(enum mqtt_type type, uint8_t level);

/* At least one character, none of them a wildcard (4.7.1, 4.7.3). */
bool mqtt_topic_name_is_valid(struct bytes topic);

/* Wildcards in their places (4.7.1), at least one character (4.7.3), at level 5 well-formed if shared
 * (4.8.2). */
bool mqtt_topic_filter_is_valid(struct bytes filter, uint8_t level);

/* Starts with `$share/` (4.8.2). */
bool mqtt_topic_filter_is_shared(struct bytes filter);

/*
 * Checks everything of @p except its property blocks, whose content their reader and writer check. @senders
 * is a set of MQTT_SENDER_*: the packet must be legal from at least one of them. Returns 0, -EBADMSG
 * (malformed) or -EPROTO (protocol error).
 */
int mqtt_packet_check(const struct mqtt_packet *p, uint8_t level, unsigned int senders);

#endif
