/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MQTT_EQUAL_H
#define TESTS_MQTT_EQUAL_H

/*
 * Whether two packets say the same. User Properties and further Subscription Identifiers are compared as the
 * lists they are, wherever they stand in the encoded fields. Fields of properties that are absent must be
 * zero. In a header, because fuzz targets are linked without the tests' support files.
 */

#include "mqtt/packet.h"
#include "mqtt/properties.h"

static inline bool mqtt_item_find(struct bytes field, size_t *pos, uint8_t id, struct mqtt_property_item *out)
{
	while (mqtt_property_item_next(field, pos, out))
		if (out->id == id)
			return true;
	return false;
}

/* Compares the properties @id of both fields, without the first @n_skip of each. */
static inline bool mqtt_repeatable_equal(struct bytes a, struct bytes b, uint8_t id, int n_skip)
{
	struct mqtt_property_item ia, ib;
	size_t pa = 0, pb = 0;

	for (int i = 0; i < n_skip; ++i) {
		mqtt_item_find(a, &pa, id, &ia);
		mqtt_item_find(b, &pb, id, &ib);
	}
	for (;;) {
		bool has_a = mqtt_item_find(a, &pa, id, &ia), has_b = mqtt_item_find(b, &pb, id, &ib);

		if (!has_a || !has_b)
			return has_a == has_b;
		if (ia.number != ib.number || !bytes_equal(ia.key, ib.key) ||
		    !bytes_equal(ia.value, ib.value))
			return false;
	}
}

static inline bool mqtt_properties_equal(const struct mqtt_properties *a, const struct mqtt_properties *b)
{
	uint64_t other = ~(UINT64_C(1) << MQTT_PROP_USER_PROPERTY);

	return (a->present & other) == (b->present & other) &&
	       a->payload_format_indicator == b->payload_format_indicator &&
	       a->request_problem_information == b->request_problem_information &&
	       a->request_response_information == b->request_response_information &&
	       a->maximum_qos == b->maximum_qos && a->retain_available == b->retain_available &&
	       a->wildcard_subscription_available == b->wildcard_subscription_available &&
	       a->subscription_identifier_available == b->subscription_identifier_available &&
	       a->shared_subscription_available == b->shared_subscription_available &&
	       a->server_keep_alive == b->server_keep_alive && a->receive_maximum == b->receive_maximum &&
	       a->topic_alias_maximum == b->topic_alias_maximum && a->topic_alias == b->topic_alias &&
	       a->message_expiry_interval == b->message_expiry_interval &&
	       a->session_expiry_interval == b->session_expiry_interval &&
	       a->will_delay_interval == b->will_delay_interval &&
	       a->maximum_packet_size == b->maximum_packet_size &&
	       a->subscription_identifier == b->subscription_identifier &&
	       bytes_equal(a->content_type, b->content_type) &&
	       bytes_equal(a->response_topic, b->response_topic) &&
	       bytes_equal(a->correlation_data, b->correlation_data) &&
	       bytes_equal(a->assigned_client_identifier, b->assigned_client_identifier) &&
	       bytes_equal(a->authentication_method, b->authentication_method) &&
	       bytes_equal(a->authentication_data, b->authentication_data) &&
	       bytes_equal(a->response_information, b->response_information) &&
	       bytes_equal(a->server_reference, b->server_reference) &&
	       bytes_equal(a->reason_string, b->reason_string) &&
	       mqtt_repeatable_equal(a->repeatable, b->repeatable, MQTT_PROP_USER_PROPERTY, 0);
}

static inline bool mqtt_connect_equal(const struct mqtt_connect *a, const struct mqtt_connect *b)
{
	return a->level == b->level && a->clean_start == b->clean_start && a->keep_alive == b->keep_alive &&
	       bytes_equal(a->client_id, b->client_id) && a->has_user_name == b->has_user_name &&
	       bytes_equal(a->user_name, b->user_name) && a->has_password == b->has_password &&
	       bytes_equal(a->password, b->password) && a->has_will == b->has_will &&
	       a->will_qos == b->will_qos && a->will_retain == b->will_retain &&
	       bytes_equal(a->will_topic, b->will_topic) && bytes_equal(a->will_payload, b->will_payload) &&
	       mqtt_properties_equal(&a->will_properties, &b->will_properties);
}

static inline bool mqtt_publish_equal(const struct mqtt_publish *a, const struct mqtt_publish *b)
{
	return a->dup == b->dup && a->qos == b->qos && a->retain == b->retain &&
	       bytes_equal(a->topic, b->topic) && a->packet_id == b->packet_id &&
	       bytes_equal(a->payload, b->payload);
}

static inline bool mqtt_packet_equal(const struct mqtt_packet *a, const struct mqtt_packet *b)
{
	if (a->type != b->type || !mqtt_properties_equal(&a->properties, &b->properties))
		return false;
	switch (a->type) {
	case MQTT_CONNECT:
		return mqtt_connect_equal(&a->connect, &b->connect);
	case MQTT_CONNACK:
		return a->connack.session_present == b->connack.session_present &&
		       a->connack.reason == b->connack.reason;
	case MQTT_PUBLISH:
		/* The first Subscription Identifier is in the struct. */
		return mqtt_publish_equal(&a->publish, &b->publish) &&
		       (!mqtt_has(&a->properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER) ||
			mqtt_repeatable_equal(a->properties.repeatable, b->properties.repeatable,
					      MQTT_PROP_SUBSCRIPTION_IDENTIFIER, 1));
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		return a->ack.packet_id == b->ack.packet_id && a->ack.reason == b->ack.reason;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		return a->subscribe.packet_id == b->subscribe.packet_id &&
		       bytes_equal(a->subscribe.filters, b->subscribe.filters);
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		return a->suback.packet_id == b->suback.packet_id &&
		       bytes_equal(a->suback.reasons, b->suback.reasons);
	case MQTT_PINGREQ:
	case MQTT_PINGRESP:
		return true;
	case MQTT_DISCONNECT:
	case MQTT_AUTH:
		return a->disconnect.reason == b->disconnect.reason;
	}
	return false;
}

#endif
