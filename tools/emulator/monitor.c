/* SPDX-License-Identifier: MIT */
/*
 * Posting telemetry to monitors: one PUBLISH at QoS 0 for each,
 *
 *   topic          $service/telemetry/<device>[/<module>]
 *   payload        unchanged
 *   Content Type   unchanged
 *   User Property  system properties under their names (creation-time as iothub-creation-time-utc),
 * application properties with their `@`, then device-id, module-id, enqueued-time, enqueued-sequence, and
 *                  `dropped`: how many messages did not fit since the last one that did.
 *
 * The properties are put together once per message in the hub's scratch space, and encoded into each
 * monitor's output. A monitor that does not keep up loses messages, never the device its acknowledgement.
 */

#include "monitor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define TOPIC_PREFIX  "$service/telemetry"
#define PUBLISH_BOUND 64

/* --- subscriptions ---------------------------------------------------------------------------- */

bool emu_monitor_filter_is_known(struct bytes topic)
{
	struct bytes prefix = BYTES_LIT(TOPIC_PREFIX);
	char id[IDENTITY_ID_MAX + 1];

	if (!bytes_start_with(topic, prefix))
		return false;
	if (topic.len == prefix.len)
		return true;
	topic = BYTES(topic.data + prefix.len, topic.len - prefix.len);
	if (topic.data[0] != '/' || topic.len - 1 > IDENTITY_ID_MAX)
		return false;
	memcpy(id, topic.data + 1, topic.len - 1);
	id[topic.len - 1] = '\0';
	return emu_identity_id_is_valid(id);
}

void emu_monitor_update(struct emu_client *c)
{
	bool wanted = emu_client_is_service(c) && c->session->n_subscriptions > 0;

	if (!wanted)
		list_remove(&c->monitor_link);
	else if (!list_is_linked(&c->monitor_link))
		list_append(&c->hub->monitors, &c->monitor_link);
}

/* A device's subscription includes its modules. */
static bool subscription_covers(const char *topic, const struct emu_identity *from)
{
	const char *id = topic + sizeof(TOPIC_PREFIX) - 1;

	if (*id == '\0')
		return true;
	id++;
	return strcmp(id, from->id) == 0 ||
	       (strlen(id) == from->device_len && memcmp(id, from->id, from->device_len) == 0);
}

static bool monitor_wants(const struct emu_client *c, const struct emu_identity *from)
{
	for (size_t i = 0; i < c->session->n_subscriptions; i++) {
		if (subscription_covers(c->session->subscriptions[i].topic, from))
			return true;
	}
	return false;
}

/* --- the message ------------------------------------------------------------------------------ */

static const char *enqueued_time(struct emu_hub *hub)
{
	if (hub->enqueued_time_ms != hub->wall_ms) {
		time_format_iso(hub->wall_ms, hub->enqueued_time);
		hub->enqueued_time_ms = hub->wall_ms;
	}
	return hub->enqueued_time;
}

static void property_put(struct writer *w, const char *key, struct bytes value)
{
	mqtt_user_property_put(w, bytes_from_str(key), value);
}

static void number_put(struct writer *w, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	property_put(w, key, bytes_from_str(text));
}

static void creation_time_put(struct writer *w, struct bytes value)
{
	char text[TIME_ISO_LEN + 1];
	uint64_t ms = 0;

	/* Telemetry with another form of time was refused before. */
	if (time_parse(value, &ms) == 0) {
		time_format_iso(ms, text);
		property_put(w, "iothub-creation-time-utc", bytes_from_str(text));
	}
}

static void properties_put(struct emu_hub *hub, const struct emu_identity *from, struct bytes field,
			   struct writer *w)
{
	const char *module = emu_identity_module(from);
	struct bytes key, value;
	size_t pos = 0;

	while (mqtt_user_property_next(field, &pos, &key, &value)) {
		if (bytes_equal(key, BYTES_LIT("creation-time")))
			creation_time_put(w, value);
		else
			mqtt_user_property_put(w, key, value);
	}
	property_put(w, "device-id", BYTES(from->id, from->device_len));
	if (*module)
		property_put(w, "module-id", bytes_from_str(module));
	property_put(w, "enqueued-time", bytes_from_str(enqueued_time(hub)));
	number_put(w, "enqueued-sequence", hub->enqueued_sequence);
}

/* --- delivery --------------------------------------------------------------------------------- */

static void dropped(struct emu_client *c)
{
	if (c->n_dropped_total == 0)
		log_warning(c->hub->log, "%s: does not keep up, messages are dropped for it", c->id);
	c->n_dropped++;
	c->n_dropped_total++;
}

/* Encodes @packet with the properties in @w, and `dropped` behind them when there is something to tell. */
static void deliver(struct emu_client *c, struct mqtt_packet *packet, struct writer w)
{
	size_t bound;
	struct writer out;
	uint8_t *dst;

	if (c->n_dropped > 0)
		number_put(&w, "dropped", c->n_dropped);
	packet->properties.repeatable = writer_bytes(&w);
	bound = PUBLISH_BOUND + packet->publish.topic.len + packet->publish.payload.len + writer_len(&w) +
		packet->properties.content_type.len;
	if (bound > c->maximum_packet_size || buf_reserve(&c->out, bound, &dst) < 0) {
		dropped(c);
		return;
	}
	out = writer_init(dst, bound);
	if (w.error || mqtt_encode(&out, packet, MQTT_LEVEL_5) < 0) {
		dropped(c);
		return;
	}
	buf_commit(&c->out, writer_len(&out));
	c->n_dropped = 0;
	c->ops->on_wake(c->userdata);
}

void emu_monitor_post(struct emu_hub *hub, const struct emu_identity *from, const struct mqtt_packet *packet)
{
	char topic[sizeof(TOPIC_PREFIX) + 1 + IDENTITY_ID_MAX];
	struct writer w = writer_init(hub->scratch, hub->scratch_size);
	struct mqtt_packet posted = {
		.type = MQTT_PUBLISH,
		.properties = {.content_type = packet->properties.content_type},
		.publish = {.payload = packet->publish.payload},
	};

	hub->enqueued_sequence++;
	if (list_is_empty(&hub->monitors))
		return;
	snprintf(topic, sizeof(topic), TOPIC_PREFIX "/%s", from->id);
	posted.publish.topic = bytes_from_str(topic);
	if (mqtt_has(&packet->properties, MQTT_PROP_CONTENT_TYPE))
		mqtt_set(&posted.properties, MQTT_PROP_CONTENT_TYPE);
	properties_put(hub, from, packet->properties.repeatable, &w);
	list_for_each (link, &hub->monitors) {
		struct emu_client *c = container_of(link, struct emu_client, monitor_link);

		if (monitor_wants(c, from))
			deliver(c, &posted, w);
	}
}
