/* SPDX-License-Identifier: MIT */
/*
 * The rules of a single packet, see rules.h. What depends on other packets (packet identifiers in use,
 * aliases known, quotas, a Session Expiry Interval that may not change) is the session's.
 *
 * Malformed and Protocol Error are told apart as the section of each rule does. Where it names neither: what
 * cannot be a value of the field (bad text, flag bits that contradict each other, 2.1.3) is malformed; what
 * could, and is not allowed there, is a protocol error (1.2, "data not allowed by the protocol"). Level 4
 * knows one kind of violation; it is told apart in the same way.
 */

#include <errno.h>

#include "base/utf8.h"
#include "mqtt/properties.h"
#include "mqtt/rules.h"
#include "mqtt/wire.h"

static int text_check(struct bytes b)
{
	return b.len <= MQTT_STRING_MAX && utf8_is_mqtt_string(b) ? 0 : -EBADMSG;
}

/* --- topics ----------------------------------------------------------------------------------- */

bool mqtt_topic_name_is_valid(struct bytes topic)
{
	return topic.len > 0 && !memchr(topic.data, '+', topic.len) && !memchr(topic.data, '#', topic.len);
}

bool mqtt_topic_filter_is_shared(struct bytes filter)
{
	return bytes_start_with(filter, BYTES_LIT("$share/"));
}

/* 4.8.2: a share name of at least one character without wildcards, and a topic filter after it. */
static bool share_strip(struct bytes *filter)
{
	size_t start = sizeof("$share/") - 1;
	struct bytes rest = BYTES(filter->data + start, filter->len - start);
	const uint8_t *slash = rest.len ? memchr(rest.data, '/', rest.len) : NULL;

	if (!slash || !mqtt_topic_name_is_valid(BYTES(rest.data, (size_t)(slash - rest.data))))
		return false;
	*filter = BYTES(slash + 1, (size_t)(filter->data + filter->len - (slash + 1)));
	return true;
}

bool mqtt_topic_filter_is_valid(struct bytes filter, uint8_t level)
{
	if (level >= MQTT_LEVEL_5 && mqtt_topic_filter_is_shared(filter) && !share_strip(&filter))
		return false;
	for (size_t i = 0; i < filter.len; ++i) {
		bool first = i == 0 || filter.data[i - 1] == '/';
		bool last = i + 1 == filter.len;

		/* [MQTT-4.7.1-1]: the last character, alone in its level. */
		if (filter.data[i] == '#' && !(first && last))
			return false;
		/* [MQTT-4.7.1-2]: alone in its level. */
		if (filter.data[i] == '+' && !(first && (last || filter.data[i + 1] == '/')))
			return false;
	}
	return filter.len > 0;
}

/* --- packets ---------------------------------------------------------------------------------- */

static int will_check(const struct mqtt_connect *c)
{
	if (!c->has_will) {
		/* [MQTT-3.1.2-11], [MQTT-3.1.2-13] */
		if (c->will_qos || c->will_retain)
			return -EBADMSG;
		return c->will_topic.len || c->will_payload.len ||
				       !mqtt_properties_is_empty(&c->will_properties)
			       ? -EPROTO
			       : 0;
	}
	if (c->will_qos > 2 || text_check(c->will_topic) || c->will_payload.len > MQTT_STRING_MAX)
		return -EBADMSG;
	if (c->level < MQTT_LEVEL_5 && !mqtt_properties_is_empty(&c->will_properties))
		return -EPROTO;
	return mqtt_topic_name_is_valid(c->will_topic) ? 0 : -EPROTO;
}

static int connect_check(const struct mqtt_connect *c)
{
	if (c->level != MQTT_LEVEL_3_1_1 && c->level != MQTT_LEVEL_5)
		return -EPROTONOSUPPORT;
	if (text_check(c->client_id) || text_check(c->user_name) || c->password.len > MQTT_STRING_MAX)
		return -EBADMSG;
	if ((!c->has_user_name && c->user_name.len) || (!c->has_password && c->password.len))
		return -EPROTO;
	/* 3.1.1 [MQTT-3.1.2-22]; level 5 allows it (3.1.2.9). */
	if (c->level < MQTT_LEVEL_5 && c->has_password && !c->has_user_name)
		return -EBADMSG;
	return will_check(c);
}

static int connack_check(const struct mqtt_connack *c, uint8_t level, unsigned int *senders)
{
	/* [MQTT-3.2.2-6] */
	if (c->session_present && c->reason)
		return -EPROTO;
	if (level < MQTT_LEVEL_5)
		return c->reason <= 5 ? 0 : -EPROTO;
	*senders &= mqtt_reason_senders(MQTT_CONNACK, c->reason);
	return 0;
}

static int publish_check(const struct mqtt_publish *p, const struct mqtt_properties *properties)
{
	/* [MQTT-3.3.1-4], [MQTT-3.3.1-2] */
	if (p->qos > 2 || (p->dup && p->qos == 0) || text_check(p->topic))
		return -EBADMSG;
	/* [MQTT-2.2.1-3], [MQTT-2.2.1-2] */
	if ((p->qos > 0) != (p->packet_id != 0))
		return -EPROTO;
	/* 3.3.2.1 */
	if (p->topic.len == 0)
		return mqtt_has(properties, MQTT_PROP_TOPIC_ALIAS) ? 0 : -EPROTO;
	return mqtt_topic_name_is_valid(p->topic) ? 0 : -EPROTO;
}

static int ack_check(enum mqtt_type type, const struct mqtt_ack *a, uint8_t level, unsigned int *senders)
{
	if (level < MQTT_LEVEL_5 && a->reason)
		return -EPROTO;
	if (level >= MQTT_LEVEL_5)
		*senders &= mqtt_reason_senders(type, a->reason);
	return a->packet_id ? 0 : -EPROTO;
}

/* 3.8.3.1 */
static int options_check(struct mqtt_filter f, uint8_t level)
{
	if (level < MQTT_LEVEL_5)
		return f.options > 2 ? -EBADMSG : 0;
	if (f.options & 0xc0)
		return -EBADMSG;
	if ((f.options & 0x03) == 3 || (f.options & 0x30) == 0x30)
		return -EPROTO;
	/* [MQTT-3.8.3-4] */
	return (f.options & 0x04) && mqtt_topic_filter_is_shared(f.topic) ? -EPROTO : 0;
}

static int subscribe_check(enum mqtt_type type, const struct mqtt_subscribe *s, uint8_t level)
{
	struct mqtt_filter f;
	size_t pos = 0;
	int r;

	/* [MQTT-3.8.3-2], [MQTT-3.10.3-2] */
	if (!s->packet_id || !s->filters.len)
		return -EPROTO;
	while (mqtt_filter_next(type, s->filters, &pos, &f)) {
		r = text_check(f.topic);
		if (r)
			return r;
		r = options_check(f, level);
		if (r)
			return r;
		if (!mqtt_topic_filter_is_valid(f.topic, level))
			return -EPROTO;
	}
	return pos == s->filters.len ? 0 : -EBADMSG;
}

static int suback_check(enum mqtt_type type, const struct mqtt_suback *s, uint8_t level,
			unsigned int *senders)
{
	bool has_reasons = level >= MQTT_LEVEL_5 || type == MQTT_SUBACK;

	if (!s->packet_id || (s->reasons.len > 0) != has_reasons)
		return -EPROTO;
	for (size_t i = 0; i < s->reasons.len; ++i) {
		uint8_t reason = s->reasons.data[i];

		if (level >= MQTT_LEVEL_5)
			*senders &= mqtt_reason_senders(type, reason);
		else if (reason > 2 && reason != 0x80)
			return -EPROTO;
	}
	return 0;
}

static int disconnect_check(const struct mqtt_disconnect *d, uint8_t level, unsigned int *senders)
{
	if (level < MQTT_LEVEL_5)
		return d->reason ? -EPROTO : 0;
	*senders &= mqtt_reason_senders(MQTT_DISCONNECT, d->reason);
	return 0;
}

/* 3.15.2.2.2 wants an Authentication Method, 3.15.2.1 allows a packet without any property. */
static int auth_check(const struct mqtt_packet *p, uint8_t level, unsigned int *senders)
{
	if (level < MQTT_LEVEL_5)
		return -EBADMSG;
	*senders &= mqtt_reason_senders(MQTT_AUTH, p->disconnect.reason);
	if (mqtt_has(&p->properties, MQTT_PROP_AUTHENTICATION_METHOD))
		return 0;
	return p->disconnect.reason == MQTT_REASON_SUCCESS && mqtt_properties_is_empty(&p->properties)
		       ? 0
		       : -EPROTO;
}

static int body_check(const struct mqtt_packet *p, uint8_t level, unsigned int *senders)
{
	switch (p->type) {
	case MQTT_CONNECT:
		return connect_check(&p->connect);
	case MQTT_CONNACK:
		return connack_check(&p->connack, level, senders);
	case MQTT_PUBLISH:
		return publish_check(&p->publish, &p->properties);
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		return ack_check(p->type, &p->ack, level, senders);
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		return subscribe_check(p->type, &p->subscribe, level);
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		return suback_check(p->type, &p->suback, level, senders);
	case MQTT_PINGREQ:
	case MQTT_PINGRESP:
		return mqtt_properties_is_empty(&p->properties) ? 0 : -EPROTO;
	case MQTT_DISCONNECT:
		return disconnect_check(&p->disconnect, level, senders);
	case MQTT_AUTH:
		return auth_check(p, level, senders);
	}
	return -EBADMSG;
}

unsigned int mqtt_type_senders(enum mqtt_type type, uint8_t level)
{
	switch (type) {
	case MQTT_CONNECT:
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
	case MQTT_PINGREQ:
		return MQTT_SENDER_CLIENT;
	case MQTT_CONNACK:
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
	case MQTT_PINGRESP:
		return MQTT_SENDER_SERVER;
	case MQTT_DISCONNECT:
		return level < MQTT_LEVEL_5 ? MQTT_SENDER_CLIENT : MQTT_SENDER_ANY;
	case MQTT_PUBLISH:
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
	case MQTT_AUTH:
		return MQTT_SENDER_ANY;
	}
	return 0;
}

int mqtt_packet_check(const struct mqtt_packet *p, uint8_t level, unsigned int senders)
{
	const struct mqtt_properties *properties = &p->properties;
	int r = body_check(p, level, &senders);

	if (r)
		return r;
	if (level < MQTT_LEVEL_5 && !mqtt_properties_is_empty(properties))
		return -EPROTO;
	/* 3.1.2.11.10; CONNACK and AUTH take the method from CONNECT [MQTT-4.12.0-5]. */
	if (mqtt_has(properties, MQTT_PROP_AUTHENTICATION_DATA) &&
	    !mqtt_has(properties, MQTT_PROP_AUTHENTICATION_METHOD))
		return -EPROTO;
	senders &= mqtt_type_senders(p->type, level);
	senders &= mqtt_properties_senders(properties, p->type);
	return senders ? 0 : -EPROTO;
}
