/* SPDX-License-Identifier: MIT */
/*
 * The exchanges that are under way once at a time and on one connection only: SUBSCRIBE, UNSUBSCRIBE, and a new
 * authentication by AUTH. Their packet identifiers lie above those of messages, so they never meet.
 */

#include <assert.h>
#include <errno.h>

#include "mqtt/session_internal.h"

/* The one identifier of each. */
static uint16_t subscribe_id(const struct mqtt_session *s)
{
	return (uint16_t)(s->window_max + 1);
}

static uint16_t unsubscribe_id(const struct mqtt_session *s)
{
	return (uint16_t)(s->window_max + 2);
}

int mqtt_session_subscribe(struct mqtt_session *s, struct bytes filters, uint16_t n_filters)
{
	const struct mqtt_packet subscribe = {
		.type = MQTT_SUBSCRIBE,
		.subscribe = {.packet_id = subscribe_id(s), .filters = filters},
	};
	int r;

	if (s->n_subscribing)
		return -EBUSY;
	r = session_queue_bounded(s, &subscribe, SESSION_CONNECT_MAX);
	if (!r)
		s->n_subscribing = n_filters;
	return r;
}

int mqtt_session_unsubscribe(struct mqtt_session *s, struct bytes filters, uint16_t n_filters)
{
	const struct mqtt_packet unsubscribe = {
		.type = MQTT_UNSUBSCRIBE,
		.subscribe = {.packet_id = unsubscribe_id(s), .filters = filters},
	};
	int r;

	if (s->n_unsubscribing)
		return -EBUSY;
	r = session_queue_bounded(s, &unsubscribe, SESSION_CONNECT_MAX);
	if (!r)
		s->n_unsubscribing = n_filters;
	return r;
}

void session_on_suback(struct mqtt_session *s, const struct mqtt_packet *packet)
{
	bool subscribing = packet->type == MQTT_SUBACK;
	uint16_t *n_filters = subscribing ? &s->n_subscribing : &s->n_unsubscribing;
	uint16_t id = subscribing ? subscribe_id(s) : unsubscribe_id(s);

	if (!*n_filters || packet->suback.packet_id != id) {
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR, "the hub answered a request nobody made");
		return;
	}
	if (packet->suback.reasons.len != *n_filters) {
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR,
			     "the hub did not answer for each topic of a subscription");
		return;
	}
	*n_filters = 0;
	s->ops->on_suback(s->userdata, packet);
}

/* --- a new authentication --------------------------------------------------------------------- */

int mqtt_session_authenticate(struct mqtt_session *s, const struct mqtt_properties *properties,
			      uint64_t deadline_ns)
{
	const struct mqtt_packet auth = {
		.type = MQTT_AUTH,
		.disconnect.reason = MQTT_REASON_RE_AUTHENTICATE,
		.properties = *properties,
	};
	int r;

	if (mqtt_session_is_authenticating(s))
		return -EBUSY;
	r = session_queue_bounded(s, &auth, SESSION_CONTROL_MAX);
	if (r)
		return r;
	assert(deadline_ns != TIME_NEVER);
	s->auth_deadline_ns = deadline_ns;
	s->auth_method = properties->authentication_method;
	return 0;
}

bool mqtt_session_is_authenticating(const struct mqtt_session *s)
{
	return s->auth_deadline_ns != TIME_NEVER;
}

void session_on_auth(struct mqtt_session *s, const struct mqtt_packet *packet)
{
	const struct mqtt_properties *p = &packet->properties;

	if (!mqtt_session_is_authenticating(s)) {
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR,
			     "the hub answered an authentication nobody began");
		return;
	}
	/* [MQTT-4.12.0-5] */
	if (mqtt_has(p, MQTT_PROP_AUTHENTICATION_METHOD) &&
	    !bytes_equal(p->authentication_method, s->auth_method)) {
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR, "the hub changed the authentication method");
		return;
	}
	/* All methods here have one step: there is no more to say. */
	if (packet->disconnect.reason != MQTT_REASON_SUCCESS) {
		session_fail(s, MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR,
			     "the hub wants more authentication than there is");
		return;
	}
	s->auth_deadline_ns = TIME_NEVER;
	s->ops->on_auth(s->userdata, packet);
}
