/* SPDX-License-Identifier: MIT */
/*
 * PUBLISH from a device: telemetry (MessageAck), requests and responses (ReqRep).
 *
 * A message at QoS 1 is always answered by a PUBACK; an error of one at QoS 0 ends the connection, since
 * nothing else can tell the client. Topic aliases are kept as what the topic means, not as text.
 */

#include "client.h"
#include "method.h"
#include "monitor.h"
#include "service.h"
#include "twin_ops.h"

/* --- the rules of the packet ------------------------------------------------------------------ */

/* TOPIC_NONE: the alias is not good, and the connection has been ended. */
static enum emu_topic topic_resolve(struct emu_client *c, const struct mqtt_packet *packet)
{
	const struct mqtt_publish *publish = &packet->publish;
	enum emu_topic topic = publish->topic.len ? emu_topic_from_name(publish->topic) : TOPIC_NONE;
	uint16_t alias = packet->properties.topic_alias;

	if (!mqtt_has(&packet->properties, MQTT_PROP_TOPIC_ALIAS))
		return topic;
	if (alias == 0 || alias > c->limits.topic_alias_maximum) {
		emu_client_end(c, MQTT_REASON_TOPIC_ALIAS_INVALID);
		return TOPIC_NONE;
	}
	if (topic != TOPIC_NONE)
		c->aliases[alias - 1] = (uint8_t)topic;
	else if (c->aliases[alias - 1] == TOPIC_NONE)
		emu_client_end(c, MQTT_REASON_PROTOCOL_ERROR);
	return (enum emu_topic)c->aliases[alias - 1];
}

/* False: the connection has been ended. */
static bool publish_check(struct emu_client *c, const struct mqtt_publish *publish)
{
	if (publish->retain)
		emu_client_end(c, MQTT_REASON_RETAIN_NOT_SUPPORTED);
	else if (publish->qos > 1)
		emu_client_end(c, MQTT_REASON_QOS_NOT_SUPPORTED);
	else if (publish->qos == 1 && c->n_unacked >= c->limits.receive_maximum)
		emu_client_end(c, MQTT_REASON_RECEIVE_MAXIMUM_EXCEEDED);
	else
		return true;
	return false;
}

static void settle(struct emu_client *c, const struct mqtt_publish *publish,
		   const struct emu_outcome *outcome, uint64_t delay_ms)
{
	if (publish->qos == 1)
		emu_client_puback(c, publish->packet_id, outcome, delay_ms);
	else if (emu_status_info(outcome->status)->reason_code)
		emu_client_end_outcome(c, outcome);
}

/* --- telemetry
 * ------------------------------------------------------------------------------------------------- */

static void on_telemetry(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_faults *faults = &c->hub->faults;
	struct emu_identity *identity = c->identity;
	struct emu_outcome outcome = EMU_SUCCESS;
	uint64_t delay_ms;

	if (emu_telemetry_properties_check(packet->properties.repeatable, &outcome) &&
	    !emu_faults_refuse(faults, c->id, OPERATION_TELEMETRY, &outcome) &&
	    !emu_faults_meter(faults, c->id, &identity->throttle, &identity->quota, c->hub->now_ns, &outcome))
		emu_monitor_post(c->hub, identity, packet);
	if (outcome.status)
		log_debug(c->hub->log, "%s: telemetry refused: %04X %s", c->id, outcome.status,
			  outcome.reason);
	if (packet->publish.qos == 1 &&
	    emu_faults_take(faults, FAULT_LOSE_PUBACK, c->id, OPERATION_TELEMETRY))
		return;
	delay_ms = emu_faults_delay_ms(faults, c->id, OPERATION_TELEMETRY);
	settle(c, &packet->publish, &outcome, delay_ms);
}

/* --- requests
 * -------------------------------------------------------------------------------------------------- */

/* False: answered already, with a PUBACK or the end of the connection. */
static bool correlation_check(struct emu_client *c, const struct mqtt_packet *packet)
{
	size_t len = packet->properties.correlation_data.len;
	struct emu_outcome outcome = EMU_SUCCESS;

	if (packet->publish.qos != 0) {
		emu_outcome_set(&outcome, STATUS_BAD_REQUEST, "requests and responses are sent at QoS 0");
		emu_client_puback(c, packet->publish.packet_id, &outcome, 0);
		return false;
	}
	if (len >= 1 && len <= CONTRACT_CORRELATION_DATA_MAX)
		return true;
	emu_outcome_set(&outcome, STATUS_BAD_REQUEST,
			len ? "Correlation Data is longer than 16 bytes" : "Correlation Data is missing");
	emu_client_end_outcome(c, &outcome);
	return false;
}

static void on_twin_get(struct emu_client *c, const struct mqtt_packet *packet)
{
	if (correlation_check(c, packet))
		emu_on_twin_get(c, packet);
}

static void on_twin_patch(struct emu_client *c, const struct mqtt_packet *packet)
{
	if (correlation_check(c, packet))
		emu_on_twin_patch(c, packet);
}

static void on_response(struct emu_client *c, const struct mqtt_packet *packet)
{
	if (correlation_check(c, packet))
		emu_on_method_response(c, packet);
}

static void on_service_request(struct emu_client *c, const struct mqtt_packet *packet)
{
	if (correlation_check(c, packet))
		emu_on_service_request(c, packet);
}

/* --- dispatch --------------------------------------------------------------------------------- */

static void on_unknown(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_outcome outcome;

	emu_outcome_set(&outcome, STATUS_NOT_FOUND, "no such topic");
	if (packet->publish.qos == 1)
		emu_client_puback(c, packet->publish.packet_id, &outcome, 0);
	else
		emu_client_end(c, MQTT_REASON_TOPIC_NAME_INVALID);
}

static void on_topic(struct emu_client *c, enum emu_topic topic, const struct mqtt_packet *packet)
{
	switch (topic) {
	case TOPIC_NONE:
		break;
	case TOPIC_UNKNOWN:
		emu_with_cut(c, OPERATION_OTHER, packet, on_unknown);
		break;
	case TOPIC_TELEMETRY:
		emu_with_cut(c, OPERATION_TELEMETRY, packet, on_telemetry);
		break;
	case TOPIC_TWIN_GET:
		emu_with_cut(c, OPERATION_TWIN_GET, packet, on_twin_get);
		break;
	case TOPIC_TWIN_PATCH_REPORTED:
		emu_with_cut(c, OPERATION_TWIN_PATCH, packet, on_twin_patch);
		break;
	case TOPIC_RESPONSES:
		emu_with_cut(c, OPERATION_OTHER, packet, on_response);
		break;
	}
}

/* The service side has topics of its own, and no aliases. */
static void on_service_publish(struct emu_client *c, const struct mqtt_packet *packet)
{
	if (mqtt_has(&packet->properties, MQTT_PROP_TOPIC_ALIAS))
		emu_client_end(c, MQTT_REASON_TOPIC_ALIAS_INVALID);
	else if (emu_service_topic_is_known(packet->publish.topic))
		on_service_request(c, packet);
	else
		on_unknown(c, packet);
}

void emu_on_publish(struct emu_client *c, const struct mqtt_packet *packet)
{
	enum emu_topic topic;

	if (!publish_check(c, &packet->publish))
		return;
	if (packet->publish.qos == 1)
		c->n_unacked++;
	if (emu_client_is_service(c)) {
		on_service_publish(c, packet);
		return;
	}
	topic = topic_resolve(c, packet);
	if (!c->closing)
		on_topic(c, topic, packet);
}
