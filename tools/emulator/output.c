/* SPDX-License-Identifier: MIT */
/*
 * What a client is sent: encoding within its limits, acknowledgements and responses, delays, slow connections.
 *
 * A QoS 1 message counts against Receive Maximum until the last byte of its PUBACK has been handed to the owner
 * of the bytes: the client cannot have seen it earlier, and so may not have counted it as free. Where each PUBACK
 * in the output ends, counted from the connection's first byte, is kept in client.ack_ends.
 *
 * Delayed answers are kept encoded, each behind a struct delayed, in the order in which they will go out: one
 * with a shorter delay waits for those before it, as acknowledgements keep the order of what they acknowledge.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "client.h"
#include "deliver.h"

struct delayed {
	uint64_t due_ns;
	size_t len;
	bool is_ack;
};

/* --- encoding --------------------------------------------------------------------------------- */

static size_t packet_bound(const struct mqtt_packet *packet)
{
	const struct mqtt_properties *p = &packet->properties;
	size_t n = 128 + p->repeatable.len + p->content_type.len + p->correlation_data.len +
		   p->authentication_method.len + p->server_reference.len;

	if (packet->type == MQTT_PUBLISH)
		n += packet->publish.topic.len + packet->publish.payload.len;
	if (packet->type == MQTT_SUBACK || packet->type == MQTT_UNSUBACK)
		n += packet->suback.reasons.len;
	return n;
}

/* Appends @n_header bytes for the caller to fill and the packet behind them. Returns the packet's length or a
 * negative error; then nothing was appended. */
static ssize_t encode_whole(const struct emu_client *c, const struct mqtt_packet *packet, struct buf *to,
			    size_t n_header)
{
	size_t bound = packet_bound(packet);
	struct writer w;
	uint8_t *dst;
	int r = buf_reserve(to, n_header + bound, &dst);

	if (r < 0)
		return r;
	w = writer_init(dst + n_header, bound);
	r = mqtt_encode(&w, packet, MQTT_LEVEL_5);
	if (r < 0)
		return r;
	if (writer_len(&w) > c->maximum_packet_size)
		return -EMSGSIZE;
	buf_commit(to, n_header + writer_len(&w));
	return (ssize_t)writer_len(&w);
}

/* The same without User Properties where the client does not want them or they do not fit. */
static ssize_t encode(const struct emu_client *c, const struct mqtt_packet *packet, struct buf *to,
		      size_t n_header)
{
	bool can_shrink = packet->type != MQTT_PUBLISH && packet->properties.repeatable.len > 0;
	struct mqtt_packet bare = *packet;
	ssize_t r;

	bare.properties.repeatable = BYTES(NULL, 0);
	r = encode_whole(c, can_shrink && !c->problem_information ? &bare : packet, to, n_header);
	if (r == -EMSGSIZE && can_shrink)
		r = encode_whole(c, &bare, to, n_header);
	return r;
}

static void cannot_send(struct emu_client *c, const struct mqtt_packet *packet, ssize_t error)
{
	log_warning(c->hub->log, "%s: cannot send %s: %s", c->id ? c->id : c->peer,
		    mqtt_type_name(packet->type),
		    error == -EMSGSIZE ? "over the client's Maximum Packet Size" : strerror((int)-error));
	emu_client_cut(c);
}

void emu_client_put(struct emu_client *c, const struct mqtt_packet *packet)
{
	ssize_t r = encode(c, packet, &c->out, 0);

	if (r < 0)
		cannot_send(c, packet, r);
	else
		c->ops->on_wake(c->userdata);
}

int emu_client_try_put(struct emu_client *c, const struct mqtt_packet *packet)
{
	ssize_t r = encode(c, packet, &c->out, 0);

	if (r == -EMSGSIZE || r == -ENOBUFS)
		return (int)r;
	if (r < 0)
		cannot_send(c, packet, r);
	else
		c->ops->on_wake(c->userdata);
	return 0;
}

/* The output ends with a PUBACK. Returns 0, -ENOBUFS or -ENOMEM. */
static int ack_note(struct emu_client *c)
{
	uint64_t end = c->n_sent + buf_len(&c->out);

	return buf_append(&c->ack_ends, BYTES((const uint8_t *)&end, sizeof(end)));
}

/* Messages whose PUBACK is out count no longer. */
static void acks_release(struct emu_client *c)
{
	uint64_t end;

	for (struct bytes ends; (ends = buf_bytes(&c->ack_ends)).data && ends.len >= sizeof(end);) {
		memcpy(&end, ends.data, sizeof(end));
		if (end > c->n_sent)
			return;
		assert(c->n_unacked > 0);
		c->n_unacked--;
		buf_consume(&c->ack_ends, sizeof(end));
	}
}

/* Puts the packet, or keeps it for later. Returns 0 or the error of encoding it. */
static ssize_t put_later(struct emu_client *c, const struct mqtt_packet *packet, uint64_t delay_ms,
			 bool is_ack)
{
	struct delayed delayed = {.due_ns = c->hub->now_ns + delay_ms * NSEC_PER_MSEC, .is_ack = is_ack};
	ssize_t r;

	if (delay_ms == 0 && buf_len(&c->delayed) == 0) {
		r = encode(c, packet, &c->out, 0);
		if (r >= 0 && is_ack)
			r = ack_note(c);
	} else {
		r = encode(c, packet, &c->delayed, sizeof(delayed));
		delayed.len = (size_t)r;
		if (r >= 0)
			memcpy(c->delayed.data + c->delayed.end - r - sizeof(delayed), &delayed,
			       sizeof(delayed));
	}
	if (r < 0)
		return r;
	c->ops->on_wake(c->userdata);
	return 0;
}

/* --- delayed answers -------------------------------------------------------------------------- */

static bool delayed_first(const struct emu_client *c, struct delayed *delayed)
{
	struct bytes waiting = buf_bytes(&c->delayed);

	if (waiting.len == 0)
		return false;
	memcpy(delayed, waiting.data, sizeof(*delayed));
	return true;
}

void emu_output_tick(struct emu_client *c, uint64_t now_ns)
{
	struct delayed delayed;

	while (!c->closing && delayed_first(c, &delayed) && delayed.due_ns <= now_ns) {
		buf_consume(&c->delayed, sizeof(delayed));
		if (buf_append(&c->out, BYTES(buf_bytes(&c->delayed).data, delayed.len)) < 0 ||
		    (delayed.is_ack && ack_note(c) < 0))
			emu_client_cut(c);
		buf_consume(&c->delayed, delayed.len);
		c->ops->on_wake(c->userdata);
	}
}

uint64_t emu_output_deadline_ns(const struct emu_client *c)
{
	struct delayed delayed;
	uint64_t at = TIME_NEVER;

	if (c->slow_bytes && buf_len(&c->out) > 0)
		at = c->slow_until_ns;
	if (delayed_first(c, &delayed) && delayed.due_ns < at)
		at = delayed.due_ns;
	return at;
}

/* --- the owner's side ------------------------------------------------------------------------- */

struct bytes emu_client_output(const struct emu_client *c)
{
	struct bytes out = buf_bytes(&c->out);

	if (!c->slow_bytes || c->closing)
		return out;
	if (c->hub->now_ns < c->slow_until_ns)
		return BYTES(out.data, 0);
	return BYTES(out.data, out.len < c->slow_bytes ? out.len : c->slow_bytes);
}

void emu_client_sent(struct emu_client *c, size_t n)
{
	buf_consume(&c->out, n);
	c->n_sent += n;
	acks_release(c);
	if (c->slow_bytes)
		c->slow_until_ns = c->hub->now_ns + c->slow_ns;
	if (buf_len(&c->out) > 0)
		return;
	/* Commands that found no room. */
	if (!c->closing && c->identity)
		emu_commands_deliver(c);
}

/* --- outcomes --------------------------------------------------------------------------------- */

void emu_property_put(struct writer *w, const char *key, const char *value)
{
	mqtt_user_property_put(w, bytes_from_str(key), bytes_from_str(value));
}

void emu_property_put_number(struct writer *w, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	emu_property_put(w, key, text);
}

void emu_outcome_properties(struct emu_hub *hub, const struct emu_outcome *outcome, struct writer *w)
{
	const struct emu_status_info *info = emu_status_info(outcome->status);
	char trace_id[EMU_TRACE_ID_LEN + 1], status[5];

	if (outcome->status == STATUS_SUCCESS)
		return;
	snprintf(status, sizeof(status), "%04X", outcome->status);
	emu_property_put(w, "status", status);
	if (info->has_trace_id) {
		emu_hub_trace_id(hub, trace_id);
		emu_property_put(w, "trace-id", trace_id);
	}
	if (info->has_reason && outcome->reason[0])
		emu_property_put(w, "reason", outcome->reason);
}

void emu_client_puback(struct emu_client *c, uint16_t packet_id, const struct emu_outcome *outcome,
		       uint64_t delay_ms)
{
	uint8_t properties[EMU_OUTCOME_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet packet = {
		.type = MQTT_PUBACK,
		.ack = {.packet_id = packet_id, .reason = emu_status_info(outcome->status)->reason_code},
	};
	ssize_t r;

	emu_outcome_properties(c->hub, outcome, &w);
	packet.properties.repeatable = writer_bytes(&w);
	r = put_later(c, &packet, delay_ms, true);
	if (r < 0)
		cannot_send(c, &packet, r);
}

static ssize_t respond(struct emu_client *c, const struct emu_response *response)
{
	uint8_t properties[EMU_RESPONSE_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet packet = {
		.type = MQTT_PUBLISH,
		.properties = {.correlation_data = response->correlation_data},
		.publish = {.topic = emu_client_is_service(c) ? BYTES_LIT("$service/responses")
							      : BYTES_LIT("$iothub/responses"),
			    .payload = response->payload},
	};

	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	emu_outcome_properties(c->hub, &response->outcome, &w);
	writer_bytes_put(&w, response->properties);
	assert(!w.error);
	packet.properties.repeatable = writer_bytes(&w);
	return put_later(c, &packet, response->delay_ms, false);
}

void emu_client_respond(struct emu_client *c, const struct emu_response *response)
{
	struct emu_response too_large = {.correlation_data = response->correlation_data,
					 .delay_ms = response->delay_ms};
	ssize_t r = respond(c, response);

	if (r == -EMSGSIZE && response->payload.len > 0) {
		emu_outcome_set(&too_large.outcome, STATUS_BAD_REQUEST,
				"the response is over the client's Maximum Packet Size");
		r = respond(c, &too_large);
	}
	if (r < 0)
		cannot_send(c, &(struct mqtt_packet){.type = MQTT_PUBLISH}, r);
}
