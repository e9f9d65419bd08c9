/* SPDX-License-Identifier: MIT */
/*
 * What the hub publishes: QoS 0 and 1, topic aliases, and the answers, which may come much later.
 *
 * Objects: the identifiers of messages without an answer, as many as our Receive Maximum at most, and the
 * topics of aliases. Both are the connection's: what it leaves unanswered the hub sends again on the next one,
 * under whichever identifier, so an answer for an old one must not be sent there.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt/session_internal.h"

void session_inbound_reset(struct mqtt_session *s)
{
	s->n_unanswered = 0;
	for (uint16_t i = 0; i < s->topic_alias_maximum; ++i)
		s->inbound_aliases[i].len = 0;
}

/* --- topic aliases ---------------------------------------------------------------------------- */

static int alias_set(struct inbound_alias *alias, struct bytes topic)
{
	if (alias->size < topic.len) {
		uint8_t *grown = realloc(alias->topic, topic.len);

		if (!grown)
			return -ENOMEM;
		alias->topic = grown;
		alias->size = topic.len;
	}
	memcpy(alias->topic, topic.data, topic.len);
	alias->len = topic.len;
	return 0;
}

/* Replaces an alias by its topic, or notes the topic (3.3.2.3.4). False: the connection is over. */
static bool session_resolve(struct mqtt_session *s, struct mqtt_packet *packet)
{
	uint16_t number = packet->properties.topic_alias;
	struct inbound_alias *alias;

	if (!mqtt_has(&packet->properties, MQTT_PROP_TOPIC_ALIAS))
		return true;
	if (number == 0 || number > s->topic_alias_maximum) {
		session_fail(s, MQTT_REASON_TOPIC_ALIAS_INVALID, "the hub used a topic alias nobody offered");
		return false;
	}
	alias = &s->inbound_aliases[number - 1];
	if (packet->publish.topic.len) {
		if (alias_set(alias, packet->publish.topic) == 0)
			return true;
		session_fail(s, MQTT_REASON_QUOTA_EXCEEDED, "out of memory");
		return false;
	}
	if (!alias->len) {
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR, "the hub used a topic alias it had not set");
		return false;
	}
	packet->publish.topic = BYTES(alias->topic, alias->len);
	return true;
}

/* --- messages and answers --------------------------------------------------------------------- */

/* Index of @packet_id among those without an answer; n_unanswered when it is none of them. */
static uint16_t unanswered_find(const struct mqtt_session *s, uint16_t packet_id)
{
	uint16_t i = 0;

	while (i < s->n_unanswered && s->unanswered[i] != packet_id)
		++i;
	return i;
}

/* False: the connection is over. */
static bool session_expect_answer(struct mqtt_session *s, uint16_t packet_id)
{
	if (unanswered_find(s, packet_id) < s->n_unanswered) {
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR,
			     "the hub used a packet identifier again that has no answer yet");
		return false;
	}
	if (s->n_unanswered >= s->receive_maximum) {
		session_fail(s, MQTT_REASON_RECEIVE_MAXIMUM_EXCEEDED,
			     "the hub sent more unacknowledged messages than Receive Maximum allows");
		return false;
	}
	s->unanswered[s->n_unanswered++] = packet_id;
	return true;
}

void session_on_publish(struct mqtt_session *s, struct mqtt_packet *packet)
{
	if (packet->publish.qos == 2) {
		/* "QoS not supported" is the server's reason only (3.14.2.1). */
		session_fail(s, MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR,
			     "the hub sent a message with QoS 2");
		return;
	}
	if (!session_resolve(s, packet))
		return;
	if (packet->publish.qos == 1 && !session_expect_answer(s, packet->publish.packet_id))
		return;
	s->ops->on_publish(s->userdata, packet);
}

int mqtt_session_puback(struct mqtt_session *s, uint16_t packet_id, uint8_t reason, struct bytes properties)
{
	const struct mqtt_packet puback = {
		.type = MQTT_PUBACK,
		.ack = {.packet_id = packet_id, .reason = reason},
		.properties.repeatable = properties,
	};
	uint16_t i = unanswered_find(s, packet_id);
	int r;

	if (s->state != MQTT_SESSION_ONLINE)
		return -ENOTCONN;
	if (i == s->n_unanswered)
		return -ENOENT;
	r = session_queue_bounded(s, &puback, SESSION_CONTROL_MAX);
	if (!r)
		s->unanswered[i] = s->unanswered[--s->n_unanswered];
	return r;
}
