/* SPDX-License-Identifier: MIT */
/*
 * One connection: its life, its deadlines, and the way from bytes to operations.
 *
 * A client is new (waiting for CONNECT), connected (it has a session), or closing. Every way to end goes
 * through emu_client_end(), emu_client_cut() or the peer's DISCONNECT, and each detaches the client from its
 * session first, so a session never points to a client that is on its way out.
 */

#include "client.h"

#include <errno.h>
#include <stdlib.h>

#include "deliver.h"
#include "method.h"
#include "state.h"

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
	c->receive_maximum = UINT16_MAX;
	c->limits = (struct emu_limits){
		.receive_maximum = hub->options.receive_maximum,
		.topic_alias_maximum = hub->options.topic_alias_maximum,
		.keep_alive_s = hub->options.keep_alive_s,
		.maximum_packet_size = hub->options.maximum_packet_size,
		.session_expiry_s = UINT32_MAX,
	};
	c->connect_by_ns = hub->now_ns + CONTRACT_CONNECT_LIMIT_S * NSEC_PER_SEC;
	c->token_ends_ns = TIME_NEVER;
	list_init(&c->link);
	list_init(&c->monitor_link);
	emu_session_init(&c->own_session);
	/* The hub's own limit holds from CONNACK on, which tells it. */
	mqtt_stream_init(&c->stream, CONTRACT_MAXIMUM_PACKET_SIZE);
	buf_init(&c->out, EMU_CLIENT_OUT_MAX);
	buf_init(&c->delayed, EMU_CLIENT_OUT_MAX);
	/* As many as Receive Maximum can be. */
	buf_init(&c->ack_ends, UINT16_MAX * sizeof(uint64_t));
	c->server_name = server_name ? strdup(server_name) : NULL;
	c->peer = strdup(peer);
	if (!c->peer || (server_name && !c->server_name)) {
		emu_client_free(c);
		return -ENOMEM;
	}
	list_append(&hub->clients, &c->link);
	*out = c;
	return 0;
}

void emu_client_detach(struct emu_client *c)
{
	struct emu_identity *identity = c->identity;

	list_remove(&c->monitor_link);
	if (!c->session)
		return;
	emu_session_close(c->session, c->hub->now_ns);
	c->session = NULL;
	c->identity = NULL;
	emu_methods_client_gone(c);
	if (identity) {
		emu_commands_detached(c->hub, identity);
		emu_state_session(c->hub, identity);
	}
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
	buf_deinit(&c->ack_ends);
	free(c->aliases);
	free(c->sas_host);
	free(c->sas_policy);
	free(c->server_name);
	free(c->peer);
	free(c->id);
	free(c);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void close_as(struct emu_client *c, enum emu_closing closing)
{
	emu_client_detach(c);
	c->closing = closing;
	c->ops->on_wake(c->userdata);
}

void emu_client_put_end(struct emu_client *c, struct mqtt_packet packet, const struct emu_outcome *outcome,
			const char *server_reference)
{
	uint8_t properties[EMU_OUTCOME_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));

	if (*server_reference) {
		packet.properties.server_reference = bytes_from_str(server_reference);
		mqtt_set(&packet.properties, MQTT_PROP_SERVER_REFERENCE);
	}
	emu_outcome_properties(c->hub, outcome, &w);
	packet.properties.repeatable = writer_bytes(&w);
	emu_client_put(c, &packet);
}

void emu_client_disconnect(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome,
			   const char *server_reference)
{
	struct mqtt_packet packet = {.type = MQTT_DISCONNECT, .disconnect = {.reason = reason}};

	log_info(c->hub->log, "%s: disconnected: %s%s%s", c->id, mqtt_reason_name(reason),
		 outcome->reason[0] ? ": " : "", outcome->reason);
	emu_client_put_end(c, packet, outcome, server_reference);
	if (!c->closing)
		close_as(c, EMU_CLOSE);
}

/* A client that has not been accepted gets a CONNACK, unless the reason is none of CONNACK's. */
static void end(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome)
{
	if (c->closing)
		return;
	if (emu_client_is_connected(c))
		emu_client_disconnect(c, reason, outcome, "");
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
	emu_output_tick(c, TIME_NEVER);
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
	uint64_t at;

	if (c->closing)
		return TIME_NEVER;
	at = min_u64(min_u64(c->connect_by_ns, c->token_ends_ns), silent_until_ns(c));
	at = min_u64(at, emu_output_deadline_ns(c));
	return emu_client_is_service(c) ? min_u64(at, emu_methods_deadline_ns(c)) : at;
}

void emu_client_tick(struct emu_client *c)
{
	uint64_t now_ns = c->hub->now_ns;
	struct emu_outcome expired;

	if (c->closing)
		return;
	emu_output_tick(c, now_ns);
	if (emu_client_is_service(c))
		emu_methods_tick(c);
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

static void on_pingreq(struct emu_client *c, const struct mqtt_packet *packet)
{
	(void)packet;
	emu_client_put(c, &(struct mqtt_packet){.type = MQTT_PINGRESP});
}

void emu_with_cut(struct emu_client *c, enum emu_operation operation, const struct mqtt_packet *packet,
		  emu_packet_fn fn)
{
	enum emu_cut cut =
		emu_client_is_service(c) ? EMU_CUT_NONE : emu_faults_cut(&c->hub->faults, c->id, operation);

	if (cut != EMU_CUT_BEFORE)
		fn(c, packet);
	switch (cut) {
	case EMU_CUT_NONE:
		break;
	case EMU_CUT_BEFORE:
	case EMU_CUT_BEFORE_ACK:
		emu_client_cut(c);
		break;
	case EMU_CUT_AFTER_ACK:
		emu_client_cut_flush(c);
		break;
	}
}

static void on_packet(struct emu_client *c, const struct mqtt_packet *packet)
{
	switch (packet->type) {
	case MQTT_PUBLISH:
		emu_on_publish(c, packet);
		break;
	case MQTT_PUBACK:
		emu_on_puback(c, packet);
		break;
	case MQTT_SUBSCRIBE:
		emu_with_cut(c, OPERATION_SUBSCRIBE, packet, emu_on_subscribe);
		break;
	case MQTT_UNSUBSCRIBE:
		emu_with_cut(c, OPERATION_OTHER, packet, emu_on_unsubscribe);
		break;
	case MQTT_PINGREQ:
		emu_with_cut(c, OPERATION_OTHER, packet, on_pingreq);
		break;
	case MQTT_DISCONNECT:
		on_disconnect(c, packet);
		break;
	case MQTT_AUTH:
		emu_with_cut(c, OPERATION_AUTH, packet, emu_on_auth);
		break;
	case MQTT_PUBREC: /* nothing is sent at QoS 2 */
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
