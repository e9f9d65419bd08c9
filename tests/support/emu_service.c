/* SPDX-License-Identifier: MIT */
/*
 * Requests to the emulator in memory, see emu_service.h.
 */

#include "tests/support/emu_service.h"

#include <stdio.h>
#include <stdlib.h>

void emu_request_send(struct emu_peer *p, const char *topic, const char *properties, const char *payload,
		      const char *correlation)
{
	uint8_t scratch[1024];
	struct mqtt_packet packet = hub_publish_make(topic, 0, 0, payload, properties, scratch);

	if (correlation) {
		packet.properties.correlation_data = bytes_from_str(correlation);
		mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	}
	emu_peer_send(p, &packet);
}

static void reply_fill(const struct mqtt_packet *packet, struct emu_reply *reply)
{
	struct bytes key, value;
	size_t pos = 0, n = 0;

	*reply = (struct emu_reply){.came = true};
	hub_property(packet, "status", reply->status, sizeof(reply->status));
	hub_property(packet, "reason", reply->reason, sizeof(reply->reason));
	snprintf(reply->payload, sizeof(reply->payload), "%.*s", (int)packet->publish.payload.len,
		 (const char *)packet->publish.payload.data);
	while (mqtt_user_property_next(packet->properties.repeatable, &pos, &key, &value) &&
	       n < sizeof(reply->properties))
		n += (size_t)snprintf(reply->properties + n, sizeof(reply->properties) - n, "%s%.*s=%.*s",
				      n ? "," : "", (int)key.len, (const char *)key.data, (int)value.len,
				      (const char *)value.data);
}

bool emu_reply_take(struct emu_peer *p, const char *correlation, struct emu_reply *reply)
{
	struct mqtt_packet packet;

	*reply = (struct emu_reply){.came = false};
	while (emu_peer_next(p, &packet)) {
		if (packet.type != MQTT_PUBLISH ||
		    !bytes_equal_str(packet.properties.correlation_data, correlation) ||
		    packet.publish.topic.len < 10 ||
		    memcmp(packet.publish.topic.data + packet.publish.topic.len - 10, "/responses", 10) != 0)
			continue;
		reply_fill(&packet, reply);
		return true;
	}
	return false;
}

const char *emu_ask(struct emu_peer *p, struct emu_reply *reply, const char *topic, const char *properties,
		    const char *payload)
{
	emu_request_send(p, topic, properties, payload, "ask");
	return emu_reply_take(p, "ask", reply) ? reply->status : "none";
}

const char *emu_reply_property(const struct emu_reply *reply, const char *name)
{
	static char value[256];
	size_t len = strlen(name);

	for (const char *at = reply->properties; *at;) {
		size_t n = strcspn(at, ",");

		if (n > len && strncmp(at, name, len) == 0 && at[len] == '=') {
			snprintf(value, sizeof(value), "%.*s", (int)(n - len - 1), at + len + 1);
			return value;
		}
		at += at[n] ? n + 1 : n;
	}
	return "";
}

int emu_subscribe(struct emu_peer *p, const char *filters)
{
	uint8_t scratch[4096];
	struct mqtt_packet packet = hub_subscribe_make(MQTT_SUBSCRIBE, filters, scratch);

	emu_peer_send(p, &packet);
	if (!emu_peer_next(p, &packet) || packet.type != MQTT_SUBACK || packet.suback.reasons.len == 0)
		return -1;
	return packet.suback.reasons.data[0];
}

void emu_puback(struct emu_peer *p, uint16_t packet_id, uint8_t reason, const char *status)
{
	uint8_t scratch[128];
	struct writer w = writer_init(scratch, sizeof(scratch));
	struct mqtt_packet packet = {.type = MQTT_PUBACK, .ack = {.packet_id = packet_id, .reason = reason}};

	if (status)
		mqtt_user_property_put(&w, BYTES_LIT("status"), bytes_from_str(status));
	packet.properties.repeatable = writer_bytes(&w);
	emu_peer_send(p, &packet);
}

const char *emu_set_fault(struct emu_peer *service, const char *json)
{
	static struct emu_reply reply;

	return emu_ask(service, &reply, "$service/faults/set", NULL, json);
}
