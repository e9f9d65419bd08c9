/* SPDX-License-Identifier: MIT */
/*
 * PUBLISH from a device: telemetry (MessageAck), requests and responses (ReqRep).
 *
 * A message at QoS 1 is always answered by a PUBACK; an error of one at QoS 0 ends the connection, since
 * nothing else can tell the client. Topic aliases are kept as what the topic means, not as text.
 */

#include "client.h"
#include "monitor.h"

/* --- the rules of the packet ------------------------------------------------------------------ */

/* TOPIC_NONE: the alias is not good, and the connection has been ended. */
static enum emu_topic topic_resolve(struct emu_client *c, const struct mqtt_packet *packet)
{
	const struct mqtt_publish *publish = &packet->publish;
	enum emu_topic topic = publish->topic.len ? emu_topic_from_name(publish->topic) : TOPIC_NONE;
	uint16_t alias = packet->properties.topic_alias;

	if (!mqtt_has(&packet->properties, MQTT_PROP_TOPIC_ALIAS))
		return topic;
	if (alias == 0 || alias > c->hub->options.topic_alias_maximum) {
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
	else if (publish->qos == 1 && c->n_unacked >= c->hub->options.receive_maximum)
		emu_client_end(c, MQTT_REASON_RECEIVE_MAXIMUM_EXCEEDED);
	else
		return true;
	return false;
}

static void settle(struct emu_client *c, const struct mqtt_publish *publish,
		   const struct emu_outcome *outcome)
{
	if (publish->qos == 1)
		emu_client_puback(c, publish->packet_id, outcome);
	else if (emu_status_info(outcome->status)->reason_code)
		emu_client_end_outcome(c, outcome);
}

/* --- telemetry -------------------------------------------------------------------------------- */

static void on_telemetry(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_outcome outcome = EMU_SUCCESS;

	if (emu_telemetry_properties_check(packet->properties.repeatable, &outcome) &&
	    !emu_fault_telemetry(&c->hub->fault, &outcome))
		emu_monitor_post(c->hub, c->identity, packet);
	if (outcome.status)
		log_debug(c->hub->log, "%s: telemetry refused: %04X %s", c->id, outcome.status,
			  outcome.reason);

	switch (emu_fault_cut(&c->hub->fault)) {
	case EMU_CUT_NONE:
		settle(c, &packet->publish, &outcome);
		break;
	case EMU_CUT_BEFORE_ACK:
		emu_client_cut(c);
		break;
	case EMU_CUT_AFTER_ACK:
		settle(c, &packet->publish, &outcome);
		emu_client_cut_flush(c);
		break;
	}
}

/* --- requests --------------------------------------------------------------------------------- */

static void respond(struct emu_client *c, struct bytes correlation_data, const struct emu_outcome *outcome)
{
	uint8_t properties[EMU_OUTCOME_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet packet = {
		.type = MQTT_PUBLISH,
		.properties = {.correlation_data = correlation_data},
		.publish = {.topic = BYTES_LIT("$iothub/responses")},
	};

	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	emu_outcome_properties(c->hub, outcome, &w);
	packet.properties.repeatable = writer_bytes(&w);
	emu_client_put(c, &packet);
}

/* False: answered already, with a PUBACK or the end of the connection. */
static bool correlation_check(struct emu_client *c, const struct mqtt_packet *packet)
{
	size_t len = packet->properties.correlation_data.len;
	struct emu_outcome outcome = EMU_SUCCESS;

	if (packet->publish.qos != 0) {
		emu_outcome_set(&outcome, STATUS_BAD_REQUEST, "requests and responses are sent at QoS 0");
		emu_client_puback(c, packet->publish.packet_id, &outcome);
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
	struct emu_outcome outcome;

	if (!correlation_check(c, packet))
		return;
	if (packet->publish.payload.len > 0)
		emu_outcome_set(&outcome, STATUS_BAD_REQUEST, "the payload must be empty");
	else if (emu_twin_get_properties_check(packet->properties.repeatable, &outcome))
		emu_outcome_set(&outcome, STATUS_NOT_ALLOWED, "twins are not in this version");
	respond(c, packet->properties.correlation_data, &outcome);
}

static void on_twin_patch(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_outcome outcome;

	if (!correlation_check(c, packet))
		return;
	if (emu_twin_patch_properties_check(packet->properties.repeatable, &outcome))
		emu_outcome_set(&outcome, STATUS_NOT_ALLOWED, "twins are not in this version");
	respond(c, packet->properties.correlation_data, &outcome);
}

/* A response answers a method call. There are none in this version, and one that comes too late is nothing
 * new. */
static void on_response(struct emu_client *c, const struct mqtt_packet *packet)
{
	if (correlation_check(c, packet))
		log_debug(c->hub->log, "%s: a response to no call", c->id);
}

/* --- dispatch --------------------------------------------------------------------------------- */

static void on_unknown(struct emu_client *c, const struct mqtt_publish *publish)
{
	struct emu_outcome outcome;

	emu_outcome_set(&outcome, STATUS_NOT_FOUND, "no such topic");
	if (publish->qos == 1)
		emu_client_puback(c, publish->packet_id, &outcome);
	else
		emu_client_end(c, MQTT_REASON_TOPIC_NAME_INVALID);
}

static void on_topic(struct emu_client *c, enum emu_topic topic, const struct mqtt_packet *packet)
{
	switch (topic) {
	case TOPIC_NONE:
		break;
	case TOPIC_UNKNOWN:
		on_unknown(c, &packet->publish);
		break;
	case TOPIC_TELEMETRY:
		on_telemetry(c, packet);
		break;
	case TOPIC_TWIN_GET:
		on_twin_get(c, packet);
		break;
	case TOPIC_TWIN_PATCH_REPORTED:
		on_twin_patch(c, packet);
		break;
	case TOPIC_RESPONSES:
		on_response(c, packet);
		break;
	}
}

void emu_on_publish(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_outcome outcome;
	enum emu_topic topic;

	if (!publish_check(c, &packet->publish))
		return;
	topic = topic_resolve(c, packet);
	if (c->closing)
		return;
	if (packet->publish.qos == 1)
		c->n_unacked++;
	if (emu_client_is_service(c)) {
		emu_outcome_set(&outcome, STATUS_NOT_ALLOWED, "the service side does not publish");
		settle(c, &packet->publish, &outcome);
		return;
	}
	on_topic(c, topic, packet);
}
