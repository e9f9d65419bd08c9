/* SPDX-License-Identifier: MIT */
/*
 * SUBSCRIBE and UNSUBSCRIBE. Each filter gets its own answer; nothing of a packet is undone for another
 * filter's sake.
 *
 * Every device counts as subscribed to `$iothub/responses`: asking for it and giving it up both succeed and
 * change nothing.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "client.h"
#include "deliver.h"
#include "method.h"
#include "monitor.h"
#include "state.h"

#define REASON_NO_SUBSCRIPTION_EXISTED  0x11
#define REASON_SHARED_SUBSCRIPTIONS     0x9e
#define REASON_SUBSCRIPTION_IDENTIFIERS 0xa1

/* Smallest filter in the packet: length and one character. */
#define FILTER_LEN_MIN 3

static bool topic_is_for_method(struct bytes topic, struct bytes method)
{
	if (bytes_equal(topic, BYTES_LIT("$iothub/methods/+")))
		return true;
	return topic.len > method.len && topic.data[topic.len - method.len - 1] == '/' &&
	       bytes_equal(BYTES(topic.data + topic.len - method.len, method.len), method);
}

const struct emu_subscription *emu_client_subscription(const struct emu_client *c, enum emu_filter filter,
						       struct bytes method)
{
	for (size_t i = 0; c->session && i < c->session->n_subscriptions; i++) {
		struct bytes topic = bytes_from_str(c->session->subscriptions[i].topic);

		if (emu_filter_from_topic(topic) == filter &&
		    (filter != FILTER_METHODS || topic_is_for_method(topic, method)))
			return &c->session->subscriptions[i];
	}
	return NULL;
}

static uint8_t session_add(struct emu_client *c, struct bytes topic, uint8_t qos)
{
	switch (emu_session_subscribe(c->session, topic, qos)) {
	case 0:
		return qos;
	case -ENOSPC:
		return MQTT_REASON_QUOTA_EXCEEDED;
	default:
		return MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR;
	}
}

static uint8_t device_subscribe(struct emu_client *c, const struct mqtt_filter *f)
{
	uint8_t fault = emu_faults_suback(&c->hub->faults, c->id, f->topic);
	enum emu_filter filter = emu_filter_from_topic(f->topic);
	uint8_t qos = f->options & 3;
	uint8_t max = emu_filter_max_qos(filter);

	if (fault)
		return fault;
	switch (filter) {
	case FILTER_UNKNOWN:
		return MQTT_REASON_TOPIC_FILTER_INVALID;
	case FILTER_WILDCARD:
		return MQTT_REASON_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
	case FILTER_SHARED:
		return REASON_SHARED_SUBSCRIPTIONS;
	case FILTER_RESPONSES:
		return 0;
	case FILTER_COMMANDS:
	case FILTER_TWIN_DESIRED:
	case FILTER_METHODS:
		break;
	}
	return session_add(c, f->topic, qos < max ? qos : max);
}

static uint8_t service_subscribe(struct emu_client *c, const struct mqtt_filter *f)
{
	if (emu_monitor_filter_is_known(f->topic))
		return session_add(c, f->topic, 0);
	if (bytes_equal(f->topic, BYTES_LIT("$service/responses")))
		return 0;
	if (memchr(f->topic.data, '#', f->topic.len) || memchr(f->topic.data, '+', f->topic.len))
		return MQTT_REASON_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
	return MQTT_REASON_TOPIC_FILTER_INVALID;
}

static uint8_t unsubscribe(struct emu_client *c, const struct mqtt_filter *f)
{
	bool is_responses = emu_client_is_service(c) ? bytes_equal(f->topic, BYTES_LIT("$service/responses"))
						     : emu_filter_from_topic(f->topic) == FILTER_RESPONSES;

	if (is_responses)
		return 0;
	return emu_session_unsubscribe(c->session, f->topic) ? 0 : REASON_NO_SUBSCRIPTION_EXISTED;
}

static uint8_t filter_apply(struct emu_client *c, enum mqtt_type type, const struct mqtt_filter *f)
{
	if (type == MQTT_UNSUBSCRIBE)
		return unsubscribe(c, f);
	return emu_client_is_service(c) ? service_subscribe(c, f) : device_subscribe(c, f);
}

static void filters_apply(struct emu_client *c, const struct mqtt_packet *packet, enum mqtt_type answer)
{
	struct bytes filters = packet->subscribe.filters;
	size_t max = filters.len / FILTER_LEN_MIN + 1;
	_cleanup_(free_ptr) uint8_t *reasons = malloc(max);
	struct mqtt_packet ack = {.type = answer};
	struct mqtt_filter f;
	size_t pos = 0, n = 0;

	if (!reasons) {
		emu_client_end(c, MQTT_REASON_SERVER_BUSY);
		return;
	}
	while (n < max && mqtt_filter_next(packet->type, filters, &pos, &f))
		reasons[n++] = filter_apply(c, packet->type, &f);
	ack.suback = (struct mqtt_suback){
		.packet_id = packet->subscribe.packet_id,
		.reasons = BYTES(reasons, n),
	};
	/* The answer first: a monitor that reads SUBACK gets what is posted from then on. */
	emu_client_put(c, &ack);
	if (c->closing)
		return;
	emu_monitor_update(c);
	if (!c->identity)
		return;
	emu_state_session(c->hub, c->identity);
	emu_commands_deliver(c);
	emu_methods_device_ready(c);
}

void emu_on_subscribe(struct emu_client *c, const struct mqtt_packet *packet)
{
	if (mqtt_has(&packet->properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER))
		emu_client_end(c, REASON_SUBSCRIPTION_IDENTIFIERS);
	else
		filters_apply(c, packet, MQTT_SUBACK);
}

void emu_on_unsubscribe(struct emu_client *c, const struct mqtt_packet *packet)
{
	filters_apply(c, packet, MQTT_UNSUBACK);
}
