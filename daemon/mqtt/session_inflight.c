/* SPDX-License-Identifier: MIT */
/*
 * What the client publishes: the window of QoS 1 messages, their packet identifiers, and topic aliases.
 *
 * Objects: the window, one slot for each packet identifier a message of this session ever uses (identifier =
 * index + 1). Invariants: n_sent, the messages sent on this connection without a PUBACK, is at most the hub's
 * Receive Maximum and at most the number of slots in use; a slot that is not in use is on the free stack.
 */

#include <assert.h>
#include <errno.h>

#include "mqtt/session_internal.h"

/* --- messages in flight ----------------------------------------------------------------------- */

void mqtt_session_forget(struct mqtt_session *s)
{
	assert(s->n_sent == 0);
	s->n_free = 0;
	/* Lowest identifiers on top. */
	for (uint16_t i = s->window_max; i > 0; --i) {
		s->slots[i - 1] = (struct slot){0};
		s->free[s->n_free++] = (uint16_t)(i - 1);
	}
}

static void slot_release(struct mqtt_session *s, struct slot *slot)
{
	if (slot->sent)
		--s->n_sent;
	*slot = (struct slot){0};
	s->free[s->n_free++] = (uint16_t)(slot - s->slots);
}

void mqtt_session_drop(struct mqtt_session *s, uint16_t packet_id)
{
	struct slot *slot;

	assert(packet_id > 0 && packet_id <= s->window_max);
	slot = &s->slots[packet_id - 1];
	assert(slot->in_use && !slot->sent);
	slot_release(s, slot);
}

/* Uses the alias of @topic, or makes one as long as the hub allows: then the topic goes along once. */
static void session_alias(struct mqtt_session *s, struct mqtt_publish_parts *parts)
{
	for (uint16_t i = 0; i < s->n_aliases; ++i) {
		if (bytes_equal(s->aliases[i], parts->topic)) {
			parts->topic_alias = (uint16_t)(i + 1);
			parts->topic = BYTES(NULL, 0);
			return;
		}
	}
	if (s->n_aliases < s->limits.topic_alias_maximum && s->n_aliases < MQTT_SESSION_ALIASES_MAX)
		parts->topic_alias = (uint16_t)(s->n_aliases + 1);
}

/* Queues a PUBLISH. Returns as mqtt_session_publish(). */
static int session_put(struct mqtt_session *s, struct mqtt_publish_parts *parts)
{
	struct bytes topic = parts->topic;
	struct writer w;
	uint8_t *at;
	size_t len;
	int r;

	session_alias(s, parts);
	len = mqtt_publish_parts_len(parts);
	if (!len || len > s->limits.packet_bytes_max)
		return -EMSGSIZE;
	r = buf_reserve(&s->out, len, &at);
	if (r)
		return r;
	w = writer_init(at, len);
	mqtt_publish_parts_put(&w, parts);
	assert(!w.error);
	buf_commit(&s->out, len);
	if (parts->topic_alias > s->n_aliases)
		s->aliases[s->n_aliases++] = topic;
	return 0;
}

int mqtt_session_publish(struct mqtt_session *s, struct bytes topic, struct bytes properties,
			 struct bytes payload, uint64_t cookie, uint16_t *packet_id)
{
	uint16_t id = *packet_id ? *packet_id : s->n_free ? (uint16_t)(s->free[s->n_free - 1] + 1) : 0;
	struct mqtt_publish_parts parts = {
		.dup = *packet_id != 0,
		.qos = 1,
		.packet_id = id,
		.topic = topic,
		.properties = properties,
		.payload = payload,
	};
	struct slot *slot;
	int r;

	assert(!*packet_id || (id <= s->window_max && s->slots[id - 1].in_use));
	if (s->state != MQTT_SESSION_ONLINE)
		return -ENOTCONN;
	if (s->limits.maximum_qos < 1)
		return -EOPNOTSUPP;
	if (!id || s->n_sent >= s->limits.receive_maximum || buf_len(&s->out) >= MQTT_SESSION_OUTPUT_SOFT_MAX)
		return -EAGAIN;
	slot = &s->slots[id - 1];
	assert(!slot->sent);
	r = session_put(s, &parts);
	if (r)
		return r;
	if (!*packet_id)
		--s->n_free;
	*slot = (struct slot){.cookie = cookie, .in_use = true, .sent = true};
	++s->n_sent;
	*packet_id = id;
	return 0;
}

int mqtt_session_send(struct mqtt_session *s, struct bytes topic, struct bytes properties,
		      struct bytes payload)
{
	struct mqtt_publish_parts parts = {.topic = topic, .properties = properties, .payload = payload};

	if (s->state != MQTT_SESSION_ONLINE)
		return -ENOTCONN;
	if (buf_len(&s->out) >= MQTT_SESSION_OUTPUT_SOFT_MAX)
		return -EAGAIN;
	return session_put(s, &parts);
}

void session_on_puback(struct mqtt_session *s, const struct mqtt_packet *packet)
{
	uint16_t id = packet->ack.packet_id;
	uint64_t cookie;

	/* An identifier that is not in flight on this connection: harmless, so ignored (4.3.2, and what
	 * Receive Maximum counts after a lost PUBACK). */
	if (id > s->window_max || !s->slots[id - 1].sent)
		return;
	cookie = s->slots[id - 1].cookie;
	slot_release(s, &s->slots[id - 1]);
	s->ops->on_puback(s->userdata, cookie, packet);
}
