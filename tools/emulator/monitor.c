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

#define TOPIC_TELEMETRY_POSTED "$service/telemetry"
#define TOPIC_TWIN_CHANGES     "$service/twin/changes"
#define TOPIC_COMMAND_OUTCOMES "$service/commands/outcomes"
#define TOPIC_PREFIX_MAX       sizeof(TOPIC_COMMAND_OUTCOMES)
#define PUBLISH_BOUND          64
#define OUTCOME_PROPERTIES_MAX (IDENTITY_ID_MAX + 256)

/* --- subscriptions ---------------------------------------------------------------------------- */

static bool filter_is(struct bytes topic, const char *prefix)
{
	char id[IDENTITY_ID_MAX + 1];

	if (!bytes_start_with(topic, bytes_from_str(prefix)))
		return false;
	topic = BYTES(topic.data + strlen(prefix), topic.len - strlen(prefix));
	if (topic.len == 0)
		return true;
	if (topic.data[0] != '/' || topic.len - 1 > IDENTITY_ID_MAX)
		return false;
	memcpy(id, topic.data + 1, topic.len - 1);
	id[topic.len - 1] = '\0';
	return strlen(id) == topic.len - 1 && emu_identity_id_is_valid(id);
}

bool emu_monitor_filter_is_known(struct bytes topic)
{
	return filter_is(topic, TOPIC_TELEMETRY_POSTED) || filter_is(topic, TOPIC_TWIN_CHANGES) ||
	       filter_is(topic, TOPIC_COMMAND_OUTCOMES);
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
static bool subscription_covers(const char *topic, const char *prefix, const struct emu_identity *from)
{
	const char *id = topic + strlen(prefix);

	if (strncmp(topic, prefix, strlen(prefix)) != 0)
		return false;
	if (*id == '\0')
		return true;
	id++;
	return strcmp(id, from->id) == 0 ||
	       (strlen(id) == from->device_len && memcmp(id, from->id, from->device_len) == 0);
}

static bool monitor_wants(const struct emu_client *c, const char *prefix, const struct emu_identity *from)
{
	for (size_t i = 0; i < c->session->n_subscriptions; i++) {
		if (subscription_covers(c->session->subscriptions[i].topic, prefix, from))
			return true;
	}
	return false;
}

/* --- the message ------------------------------------------------------------------------------ */

static const char *time_now(struct emu_hub *hub)
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

static void properties_put(struct bytes field, struct writer *w)
{
	struct bytes key, value;
	size_t pos = 0;

	while (mqtt_user_property_next(field, &pos, &key, &value)) {
		if (bytes_equal(key, BYTES_LIT("creation-time")))
			creation_time_put(w, value);
		else
			mqtt_user_property_put(w, key, value);
	}
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
		emu_property_put_number(&w, "dropped", c->n_dropped);
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

/* A topic name has no `+` and `#`, an id may. */
static void topic_make(const char *prefix, const struct emu_identity *from,
		       char out[static TOPIC_PREFIX_MAX + 1 + IDENTITY_ID_MAX])
{
	sprintf(out, "%s/%s", prefix, from->id);
	for (char *c = out; *c; c++) {
		if (*c == '+' || *c == '#')
			*c = '_';
	}
}

/* Delivers a copy of @packet with the properties in @w to everyone who wants it. */
static void post(struct emu_hub *hub, const char *prefix, const struct emu_identity *from,
		 const struct mqtt_packet *packet, struct writer w)
{
	char topic[TOPIC_PREFIX_MAX + 1 + IDENTITY_ID_MAX];
	struct mqtt_packet posted = *packet;

	topic_make(prefix, from, topic);
	posted.publish.topic = bytes_from_str(topic);
	list_for_each (link, &hub->monitors) {
		struct emu_client *c = container_of(link, struct emu_client, monitor_link);

		if (monitor_wants(c, prefix, from))
			deliver(c, &posted, w);
	}
}

static void identity_put(struct writer *w, const struct emu_identity *identity)
{
	const char *module = emu_identity_module(identity);

	property_put(w, "device-id", BYTES(identity->id, identity->device_len));
	if (*module)
		property_put(w, "module-id", bytes_from_str(module));
}

void emu_monitor_post(struct emu_hub *hub, const struct emu_identity *from, const struct mqtt_packet *packet)
{
	struct writer w = writer_init(hub->scratch, hub->scratch_size);
	struct mqtt_packet posted = {
		.type = MQTT_PUBLISH,
		.properties = {.content_type = packet->properties.content_type},
		.publish = {.payload = packet->publish.payload},
	};

	hub->enqueued_sequence++;
	if (list_is_empty(&hub->monitors))
		return;
	if (mqtt_has(&packet->properties, MQTT_PROP_CONTENT_TYPE))
		mqtt_set(&posted.properties, MQTT_PROP_CONTENT_TYPE);
	properties_put(packet->properties.repeatable, &w);
	identity_put(&w, from);
	property_put(&w, "enqueued-time", bytes_from_str(time_now(hub)));
	emu_property_put_number(&w, "enqueued-sequence", hub->enqueued_sequence);
	post(hub, TOPIC_TELEMETRY_POSTED, from, &posted, w);
}

void emu_monitor_post_twin(struct emu_hub *hub, const struct emu_identity *of, enum emu_twin_part part,
			   uint64_t version, struct bytes patch)
{
	struct writer w = writer_init(hub->scratch, hub->scratch_size);
	struct mqtt_packet posted = {.type = MQTT_PUBLISH, .publish = {.payload = patch}};

	if (list_is_empty(&hub->monitors))
		return;
	identity_put(&w, of);
	emu_property_put(&w, "part", emu_twin_part_name(part));
	emu_property_put_number(&w, "version", version);
	post(hub, TOPIC_TWIN_CHANGES, of, &posted, w);
}

void emu_monitor_post_command(struct emu_hub *hub, const struct emu_identity *to,
			      const struct emu_command *command, const char *outcome)
{
	uint8_t properties[OUTCOME_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet posted = {.type = MQTT_PUBLISH};

	if (list_is_empty(&hub->monitors))
		return;
	identity_put(&w, to);
	emu_property_put_number(&w, "sequence-no", command->sequence_no);
	emu_property_put(&w, "outcome", outcome);
	emu_property_put_number(&w, "delivery-count", command->delivery_count);
	property_put(&w, "settled-time", bytes_from_str(time_now(hub)));
	post(hub, TOPIC_COMMAND_OUTCOMES, to, &posted, w);
}
