/* SPDX-License-Identifier: MIT */
/*
 * One connection: its life, its output, its deadlines, and the way from bytes to operations.
 *
 * A client is new (waiting for CONNECT), connected (it has a session), or closing. Every way to end goes
 * through emu_client_end(), emu_client_cut() or the peer's DISCONNECT, and each detaches the client from its
 * session first, so a session never points to a client that is on its way out.
 *
 * A QoS 1 message counts against Receive Maximum until its PUBACK has been handed to the owner of the bytes:
 * the client cannot have seen it earlier, and so may not have counted it as free.
 */

#include "client.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "monitor.h"

struct delayed_ack {
	uint64_t due_ns;
	uint16_t packet_id;
	struct emu_outcome outcome;
};

/* --- life ------------------------------------------------------------------------------------- */

int emu_client_new(struct emu_client **out, struct emu_hub *hub, const char *server_name, const char *peer,
		   const struct emu_client_ops *ops, void *userdata)
{
	struct emu_client *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->hub = hub;
	c->ops = ops;
	c->userdata = userdata;
	c->problem_information = true;
	c->maximum_packet_size = UINT32_MAX;
	c->connect_by_ns = hub->now_ns + CONTRACT_CONNECT_LIMIT_S * NSEC_PER_SEC;
	c->token_ends_ns = TIME_NEVER;
	list_init(&c->link);
	list_init(&c->monitor_link);
	emu_session_init(&c->own_session);
	/* The hub's own limit holds from CONNACK on, which tells it. */
	mqtt_stream_init(&c->stream, CONTRACT_MAXIMUM_PACKET_SIZE);
	buf_init(&c->out, EMU_CLIENT_OUT_MAX);
	buf_init(&c->delayed, hub->options.receive_maximum * sizeof(struct delayed_ack));
	c->server_name = server_name ? strdup(server_name) : NULL;
	c->peer = strdup(peer);
	c->aliases = calloc(hub->options.topic_alias_maximum + 1u, 1);
	if (!c->peer || !c->aliases || (server_name && !c->server_name)) {
		emu_client_free(c);
		return -ENOMEM;
	}
	list_append(&hub->clients, &c->link);
	*out = c;
	return 0;
}

void emu_client_detach(struct emu_client *c)
{
	list_remove(&c->monitor_link);
	if (!c->session)
		return;
	emu_session_close(c->session, c->hub->now_ns);
	c->session = NULL;
}

void emu_client_free(struct emu_client *c)
{
	if (!c)
		return;
	if (emu_client_is_connected(c))
		log_info(c->hub->log, "%s: connection lost", c->id);
	emu_client_detach(c);
	list_remove(&c->link);
	emu_session_deinit(&c->own_session);
	mqtt_stream_deinit(&c->stream);
	buf_deinit(&c->out);
	buf_deinit(&c->delayed);
	free(c->aliases);
	free(c->server_name);
	free(c->peer);
	free(c->id);
	free(c);
}

/* --- output ----------------------------------------------------------------------------------- */

static size_t packet_bound(const struct mqtt_packet *packet)
{
	const struct mqtt_properties *p = &packet->properties;
	size_t n = 128 + p->repeatable.len + p->content_type.len + p->correlation_data.len +
		   p->authentication_method.len;

	if (packet->type == MQTT_PUBLISH)
		n += packet->publish.topic.len + packet->publish.payload.len;
	if (packet->type == MQTT_SUBACK || packet->type == MQTT_UNSUBACK)
		n += packet->suback.reasons.len;
	return n;
}

static int put_encoded(struct emu_client *c, const struct mqtt_packet *packet)
{
	size_t bound = packet_bound(packet);
	struct writer w;
	uint8_t *dst;
	int r = buf_reserve(&c->out, bound, &dst);

	if (r < 0)
		return r;
	w = writer_init(dst, bound);
	r = mqtt_encode(&w, packet, MQTT_LEVEL_5);
	if (r < 0)
		return r;
	if (writer_len(&w) > c->maximum_packet_size)
		return -EMSGSIZE;
	buf_commit(&c->out, writer_len(&w));
	return 0;
}

void emu_client_put(struct emu_client *c, const struct mqtt_packet *packet)
{
	bool can_shrink = packet->type != MQTT_PUBLISH && packet->properties.repeatable.len > 0;
	struct mqtt_packet bare = *packet;
	int r;

	bare.properties.repeatable = BYTES(NULL, 0);
	r = put_encoded(c, can_shrink && !c->problem_information ? &bare : packet);
	if (r == -EMSGSIZE && can_shrink)
		r = put_encoded(c, &bare);
	if (r == 0) {
		c->ops->on_wake(c->userdata);
		return;
	}
	log_warning(c->hub->log, "%s: cannot send %s: %s", c->id ? c->id : c->peer,
		    mqtt_type_name(packet->type),
		    r == -EMSGSIZE ? "over the client's Maximum Packet Size" : strerror(-r));
	emu_client_cut(c);
}

static void property_put(struct writer *w, const char *key, const char *value)
{
	mqtt_user_property_put(w, bytes_from_str(key), bytes_from_str(value));
}

void emu_outcome_properties(struct emu_hub *hub, const struct emu_outcome *outcome, struct writer *w)
{
	const struct emu_status_info *info = emu_status_info(outcome->status);
	char trace_id[EMU_TRACE_ID_LEN + 1], status[5];

	if (outcome->status == STATUS_SUCCESS)
		return;
	snprintf(status, sizeof(status), "%04X", outcome->status);
	property_put(w, "status", status);
	if (info->has_trace_id) {
		emu_hub_trace_id(hub, trace_id);
		property_put(w, "trace-id", trace_id);
	}
	if (info->has_reason && outcome->reason[0])
		property_put(w, "reason", outcome->reason);
}

static void puback_put(struct emu_client *c, uint16_t packet_id, const struct emu_outcome *outcome)
{
	uint8_t properties[EMU_OUTCOME_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet packet = {
		.type = MQTT_PUBACK,
		.ack = {.packet_id = packet_id, .reason = emu_status_info(outcome->status)->reason_code},
	};

	emu_outcome_properties(c->hub, outcome, &w);
	packet.properties.repeatable = writer_bytes(&w);
	c->n_acks_in_out++;
	emu_client_put(c, &packet);
}

void emu_client_puback(struct emu_client *c, uint16_t packet_id, const struct emu_outcome *outcome)
{
	uint64_t delay_ms = c->hub->options.fault.puback_delay_ms;
	struct delayed_ack ack = {
		.due_ns = c->hub->now_ns + delay_ms * NSEC_PER_MSEC,
		.packet_id = packet_id,
		.outcome = *outcome,
	};

	if (delay_ms == 0)
		puback_put(c, packet_id, outcome);
	else if (buf_append(&c->delayed, BYTES(&ack, sizeof(ack))) < 0)
		emu_client_end(c, MQTT_REASON_SERVER_BUSY);
	else
		c->ops->on_wake(c->userdata);
}

/* The oldest delayed acknowledgement; false when there is none. */
static bool delayed_first(const struct emu_client *c, struct delayed_ack *ack)
{
	struct bytes waiting = buf_bytes(&c->delayed);

	if (waiting.len == 0)
		return false;
	memcpy(ack, waiting.data, sizeof(*ack));
	return true;
}

static void delayed_put_due(struct emu_client *c, uint64_t now_ns)
{
	struct delayed_ack ack;

	while (!c->closing && delayed_first(c, &ack) && ack.due_ns <= now_ns) {
		buf_consume(&c->delayed, sizeof(ack));
		puback_put(c, ack.packet_id, &ack.outcome);
	}
}

struct bytes emu_client_output(const struct emu_client *c)
{
	return buf_bytes(&c->out);
}

void emu_client_sent(struct emu_client *c, size_t n)
{
	buf_consume(&c->out, n);
	if (buf_len(&c->out) > 0)
		return;
	assert(c->n_acks_in_out <= c->n_unacked);
	c->n_unacked -= c->n_acks_in_out;
	c->n_acks_in_out = 0;
}

/* --- ends ------------------------------------------------------------------------------------- */

static void close_as(struct emu_client *c, enum emu_closing closing)
{
	emu_client_detach(c);
	c->closing = closing;
	c->ops->on_wake(c->userdata);
}

static void disconnect(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome)
{
	uint8_t properties[EMU_OUTCOME_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet packet = {.type = MQTT_DISCONNECT, .disconnect = {.reason = reason}};

	log_info(c->hub->log, "%s: disconnected: %s%s%s", c->id, mqtt_reason_name(reason),
		 outcome->reason[0] ? ": " : "", outcome->reason);
	emu_outcome_properties(c->hub, outcome, &w);
	packet.properties.repeatable = writer_bytes(&w);
	emu_client_put(c, &packet);
	if (!c->closing)
		close_as(c, EMU_CLOSE);
}

/* A client that has not been accepted gets a CONNACK, unless the reason is none of CONNACK's. */
static void end(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome)
{
	if (c->closing)
		return;
	if (emu_client_is_connected(c))
		disconnect(c, reason, outcome);
	else if (reason == MQTT_REASON_SERVER_SHUTTING_DOWN)
		close_as(c, EMU_CLOSE);
	else
		emu_refuse_connect(c, reason, outcome);
}

void emu_client_end(struct emu_client *c, uint8_t reason)
{
	end(c, reason, &EMU_SUCCESS);
}

void emu_client_end_outcome(struct emu_client *c, const struct emu_outcome *outcome)
{
	end(c, emu_status_info(outcome->status)->reason_code, outcome);
}

void emu_client_cut(struct emu_client *c)
{
	close_as(c, EMU_CUT);
}

void emu_client_cut_flush(struct emu_client *c)
{
	if (c->closing)
		return;
	delayed_put_due(c, TIME_NEVER);
	if (!c->closing)
		close_as(c, EMU_CUT_FLUSH);
}

/* --- deadlines -------------------------------------------------------------------------------- */

/* 3.1.2.10: one and a half times the Keep Alive. */
static uint64_t silent_until_ns(const struct emu_client *c)
{
	if (!emu_client_is_connected(c) || c->keep_alive_s == 0)
		return TIME_NEVER;
	return c->last_packet_ns + c->keep_alive_s * NSEC_PER_SEC * 3 / 2;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t emu_client_deadline_ns(const struct emu_client *c)
{
	struct delayed_ack ack;
	uint64_t at;

	if (c->closing)
		return TIME_NEVER;
	at = min_u64(min_u64(c->connect_by_ns, c->token_ends_ns), silent_until_ns(c));
	return delayed_first(c, &ack) ? min_u64(at, ack.due_ns) : at;
}

void emu_client_tick(struct emu_client *c)
{
	uint64_t now_ns = c->hub->now_ns;
	struct emu_outcome expired;

	if (c->closing)
		return;
	delayed_put_due(c, now_ns);
	if (now_ns >= c->connect_by_ns) {
		log_info(c->hub->log, "%s: no CONNECT within %d s", c->peer, CONTRACT_CONNECT_LIMIT_S);
		close_as(c, EMU_CLOSE);
	} else if (now_ns >= c->token_ends_ns) {
		emu_outcome_set(&expired, STATUS_NOT_AUTHORIZED, "the authentication expired");
		emu_client_end_outcome(c, &expired);
	} else if (now_ns >= silent_until_ns(c)) {
		emu_client_end(c, MQTT_REASON_KEEP_ALIVE_TIMEOUT);
	}
}

/* --- input ------------------------------------------------------------------------------------ */

static void on_disconnect(struct emu_client *c, const struct mqtt_packet *packet)
{
	const struct mqtt_properties *p = &packet->properties;

	if (mqtt_has(p, MQTT_PROP_SESSION_EXPIRY_INTERVAL)) {
		/* 3.14.2.2.2: a session that was to end with the connection stays so. */
		if (c->session->expiry_s == 0 && p->session_expiry_interval != 0) {
			emu_client_end(c, MQTT_REASON_PROTOCOL_ERROR);
			return;
		}
		c->session->expiry_s = p->session_expiry_interval;
	}
	log_info(c->hub->log, "%s: disconnected by the client: %s", c->id,
		 mqtt_reason_name(packet->disconnect.reason));
	close_as(c, EMU_CLOSE);
}

static void on_auth(struct emu_client *c)
{
	struct emu_outcome outcome;

	emu_outcome_set(&outcome, STATUS_NOT_ALLOWED, "re-authentication is not in this version");
	emu_client_end_outcome(c, &outcome);
}

static void on_packet(struct emu_client *c, const struct mqtt_packet *packet)
{
	switch (packet->type) {
	case MQTT_PUBLISH:
		emu_on_publish(c, packet);
		break;
	case MQTT_SUBSCRIBE:
		emu_on_subscribe(c, packet);
		break;
	case MQTT_UNSUBSCRIBE:
		emu_on_unsubscribe(c, packet);
		break;
	case MQTT_PINGREQ:
		emu_client_put(c, &(struct mqtt_packet){.type = MQTT_PINGRESP});
		break;
	case MQTT_DISCONNECT:
		on_disconnect(c, packet);
		break;
	case MQTT_AUTH:
		on_auth(c);
		break;
	case MQTT_PUBACK: /* the hub has no QoS 1 message in flight */
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
	case MQTT_CONNECT: /* a second one */
	case MQTT_CONNACK:
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
	case MQTT_PINGRESP:
		emu_client_end(c, MQTT_REASON_PROTOCOL_ERROR);
		break;
	}
}

static uint8_t reason_from_error(int error)
{
	switch (error) {
	case -EPROTO:
		return MQTT_REASON_PROTOCOL_ERROR;
	case -EPROTONOSUPPORT:
		return MQTT_REASON_UNSUPPORTED_PROTOCOL_VERSION;
	case -EMSGSIZE:
		return MQTT_REASON_PACKET_TOO_LARGE;
	case -ENOMEM:
		return MQTT_REASON_SERVER_BUSY;
	default:
		return MQTT_REASON_MALFORMED_PACKET;
	}
}

static void on_packet_bytes(struct emu_client *c, struct bytes bytes)
{
	bool is_connected = emu_client_is_connected(c);
	struct mqtt_packet packet;
	int r;

	/* 3.1: anything else before CONNECT closes the connection without an answer. */
	if (!is_connected && bytes.data[0] >> 4 != MQTT_CONNECT) {
		log_info(c->hub->log, "%s: the first packet is no CONNECT", c->peer);
		close_as(c, EMU_CUT);
		return;
	}
	r = mqtt_decode(&packet, bytes, MQTT_LEVEL_5, MQTT_FROM_CLIENT);
	c->last_packet_ns = c->hub->now_ns;
	if (r < 0)
		emu_client_end(c, reason_from_error(r));
	else if (is_connected)
		on_packet(c, &packet);
	else
		emu_on_connect(c, &packet);
}

void emu_client_input(struct emu_client *c, struct bytes data)
{
	struct bytes packet;
	int r = 0;

	if (c->closing)
		return;
	mqtt_stream_push(&c->stream, data);
	while (!c->closing && (r = mqtt_stream_next(&c->stream, &packet)) > 0)
		on_packet_bytes(c, packet);
	if (r < 0)
		emu_client_end(c, reason_from_error(r));
	if (c->closing)
		mqtt_stream_reset(&c->stream);
}
