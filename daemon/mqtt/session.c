/* SPDX-License-Identifier: MIT */
/*
 * The client session, see session.h: its life cycle, output, keep-alive, and which packet is welcome in which
 * state (session_accepts). Everything that is not welcome is a Protocol Error. What is sent and received in
 * between lies in session_inflight.c, session_inbound.c and session_subscriptions.c.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/time.h"
#include "mqtt/session_internal.h"

/* Output beyond the soft limit is one PUBLISH and answers. */
#define SESSION_OUTPUT_MAX                                                                                   \
	(MQTT_SESSION_OUTPUT_SOFT_MAX + MQTT_VARINT_MAX + (size_t)MQTT_FIXED_HEADER_MAX +                    \
	 SESSION_ANSWERS_MAX + SESSION_CONTROL_MAX)
/* Defaults where CONNACK is silent (3.2.2.3). */
#define RECEIVE_MAXIMUM_DEFAULT 65535

/* --- life cycle ------------------------------------------------------------------------------- */

int mqtt_session_new(struct mqtt_session **out, const struct mqtt_session_options *options)
{
	struct mqtt_session *s;

	assert(options->window_max > 0 && options->window_max <= MQTT_SESSION_WINDOW_MAX);
	s = calloc(1, sizeof(*s) + options->window_max * sizeof(s->slots[0]));
	if (!s)
		return -ENOMEM;
	s->ops = options->ops;
	s->userdata = options->userdata;
	s->window_max = options->window_max;
	s->receive_maximum = options->receive_maximum;
	s->topic_alias_maximum = options->topic_alias_maximum;
	s->auth_deadline_ns = TIME_NEVER;
	s->free = calloc(options->window_max, sizeof(s->free[0]));
	/* One more: nothing is allocated with size 0. */
	s->unanswered = calloc(options->receive_maximum + 1u, sizeof(s->unanswered[0]));
	s->inbound_aliases = calloc(options->topic_alias_maximum + 1u, sizeof(s->inbound_aliases[0]));
	if (!s->free || !s->unanswered || !s->inbound_aliases) {
		mqtt_session_free(s);
		return -ENOMEM;
	}
	mqtt_stream_init(&s->stream, options->packet_bytes_max);
	buf_init(&s->out, SESSION_OUTPUT_MAX);
	mqtt_session_forget(s);
	*out = s;
	return 0;
}

void mqtt_session_free(struct mqtt_session *s)
{
	if (!s)
		return;
	mqtt_stream_deinit(&s->stream);
	buf_deinit(&s->out);
	for (size_t i = 0; s->inbound_aliases && i < s->topic_alias_maximum; ++i)
		free(s->inbound_aliases[i].topic);
	free(s->inbound_aliases);
	free(s->unanswered);
	free(s->free);
	free(s);
}

enum mqtt_session_state mqtt_session_state(const struct mqtt_session *s)
{
	return s->state;
}

const struct mqtt_session_limits *mqtt_session_limits(const struct mqtt_session *s)
{
	return &s->limits;
}

/* --- output ----------------------------------------------------------------------------------- */

struct bytes mqtt_session_output(const struct mqtt_session *s)
{
	return buf_bytes(&s->out);
}

void mqtt_session_sent(struct mqtt_session *s, size_t n, uint64_t now_ns)
{
	buf_consume(&s->out, n);
	s->last_sent_ns = now_ns;
}

int session_queue(struct mqtt_session *s, const struct mqtt_packet *packet, size_t room)
{
	struct writer w;
	uint8_t *at;
	int r;

	r = buf_reserve(&s->out, room, &at);
	if (r)
		return r;
	w = writer_init(at, room);
	r = mqtt_encode(&w, packet, MQTT_LEVEL_5);
	if (r)
		return r;
	buf_commit(&s->out, writer_len(&w));
	return 0;
}

int session_queue_bounded(struct mqtt_session *s, const struct mqtt_packet *packet, size_t room)
{
	size_t max = s->limits.packet_bytes_max;
	int r;

	if (s->state != MQTT_SESSION_ONLINE)
		return -ENOTCONN;
	if (max > MQTT_VARINT_MAX)
		max = MQTT_VARINT_MAX;
	if (buf_len(&s->out) >= MQTT_SESSION_OUTPUT_SOFT_MAX + max + SESSION_ANSWERS_MAX)
		return -ENOBUFS;
	r = session_queue(s, packet, max < room ? max : room);
	return r == -ENOSPC ? -EMSGSIZE : r;
}

void session_fail(struct mqtt_session *s, uint8_t reason, const char *text)
{
	const struct mqtt_packet disconnect = {.type = MQTT_DISCONNECT, .disconnect.reason = reason};

	/* Before CONNACK the server does not expect anything but AUTH (3.1.0): it is just closed. Without
	 * memory for the DISCONNECT the close has to say it. */
	if (s->state == MQTT_SESSION_ONLINE)
		(void)session_queue(s, &disconnect, SESSION_CONTROL_MAX);
	s->state = MQTT_SESSION_ENDED;
	s->ops->on_error(s->userdata, reason, text);
}

int mqtt_session_start(struct mqtt_session *s, const struct mqtt_packet *connect, uint64_t now_ns)
{
	int r;

	assert(s->state == MQTT_SESSION_OFFLINE);
	mqtt_stream_reset(&s->stream);
	buf_consume(&s->out, buf_len(&s->out));
	r = session_queue(s, connect, SESSION_CONNECT_MAX);
	if (r)
		return r;
	s->limits = (struct mqtt_session_limits){
		.keep_alive_s = connect->connect.keep_alive,
		.session_expiry_s = connect->properties.session_expiry_interval,
	};
	s->n_aliases = 0;
	s->ping_pending = false;
	s->started_ns = s->last_received_ns = s->last_sent_ns = now_ns;
	s->state = MQTT_SESSION_CONNECTING;
	return 0;
}

void mqtt_session_lost(struct mqtt_session *s)
{
	s->state = MQTT_SESSION_OFFLINE;
	s->n_sent = 0;
	s->n_subscribing = 0;
	s->n_unsubscribing = 0;
	s->auth_deadline_ns = TIME_NEVER;
	session_inbound_reset(s);
	for (uint16_t i = 0; i < s->window_max; ++i)
		s->slots[i].sent = false;
	buf_consume(&s->out, buf_len(&s->out));
}

void mqtt_session_end(struct mqtt_session *s, uint8_t reason)
{
	const struct mqtt_packet disconnect = {.type = MQTT_DISCONNECT, .disconnect.reason = reason};

	if (s->state == MQTT_SESSION_ONLINE)
		(void)session_queue(s, &disconnect, SESSION_CONTROL_MAX);
	if (s->state != MQTT_SESSION_OFFLINE)
		s->state = MQTT_SESSION_ENDED;
}

/* --- keep-alive ------------------------------------------------------------------------------- */

static uint64_t session_keep_alive_ns(const struct mqtt_session *s)
{
	return s->limits.keep_alive_s * NSEC_PER_SEC;
}

/* A PINGREQ is due when either direction was silent for an interval: the hub counts what we send, and only an
 * answer shows that what we send arrives. */
static uint64_t session_ping_ns(const struct mqtt_session *s)
{
	uint64_t oldest = s->last_sent_ns < s->last_received_ns ? s->last_sent_ns : s->last_received_ns;

	return oldest + session_keep_alive_ns(s);
}

static uint64_t session_dead_ns(const struct mqtt_session *s)
{
	uint64_t keep_alive_ns = session_keep_alive_ns(s),
		 connack_ns = s->started_ns + MQTT_SESSION_CONNACK_NS;
	uint64_t dead_ns = keep_alive_ns ? s->last_received_ns + keep_alive_ns * 3 / 2 : TIME_NEVER;

	return s->state == MQTT_SESSION_CONNECTING && connack_ns < dead_ns ? connack_ns : dead_ns;
}

static uint64_t session_alive_ns(const struct mqtt_session *s)
{
	if (s->state == MQTT_SESSION_CONNECTING || s->ping_pending || !s->limits.keep_alive_s)
		return session_dead_ns(s);
	/* Never after session_dead_ns(): it counts from the last byte received at the latest. */
	return session_ping_ns(s);
}

uint64_t mqtt_session_deadline_ns(const struct mqtt_session *s)
{
	uint64_t alive_ns;

	if (s->state == MQTT_SESSION_OFFLINE || s->state == MQTT_SESSION_ENDED)
		return TIME_NEVER;
	alive_ns = session_alive_ns(s);
	return s->auth_deadline_ns < alive_ns ? s->auth_deadline_ns : alive_ns;
}

void mqtt_session_tick(struct mqtt_session *s, uint64_t now_ns)
{
	const struct mqtt_packet ping = {.type = MQTT_PINGREQ};

	if (now_ns < mqtt_session_deadline_ns(s))
		return;
	if (now_ns >= session_dead_ns(s)) {
		/* "Keep Alive timeout" is the server's reason only (3.14.2.1). */
		session_fail(s, MQTT_REASON_UNSPECIFIED_ERROR,
			     s->state == MQTT_SESSION_CONNECTING ? "the hub did not answer CONNECT"
								 : "the hub fell silent (keep-alive)");
		return;
	}
	if (now_ns >= s->auth_deadline_ns) {
		session_fail(s, MQTT_REASON_UNSPECIFIED_ERROR,
			     "the hub did not answer the new authentication");
		return;
	}
	/* Both can be due at once: the rest has the next tick. */
	if (session_queue(s, &ping, SESSION_CONTROL_MAX)) {
		session_fail(s, MQTT_REASON_UNSPECIFIED_ERROR,
			     "no room for a PINGREQ: the hub takes nothing");
		return;
	}
	s->ping_pending = true;
	/* Counts as sent: while the connection takes nothing, another PINGREQ would not help. */
	s->last_sent_ns = now_ns;
}

/* --- input ------------------------------------------------------------------------------------ */

static void session_on_connack(struct mqtt_session *s, const struct mqtt_packet *packet)
{
	const struct mqtt_properties *p = &packet->properties;
	struct mqtt_session_limits *l = &s->limits;

	if (packet->connack.reason != MQTT_REASON_SUCCESS) {
		s->state = MQTT_SESSION_ENDED;
		s->ops->on_connack(s->userdata, packet);
		return;
	}
	l->session_present = packet->connack.session_present;
	l->receive_maximum =
		mqtt_has(p, MQTT_PROP_RECEIVE_MAXIMUM) ? p->receive_maximum : RECEIVE_MAXIMUM_DEFAULT;
	l->topic_alias_maximum = mqtt_has(p, MQTT_PROP_TOPIC_ALIAS_MAXIMUM) ? p->topic_alias_maximum : 0;
	l->packet_bytes_max =
		mqtt_has(p, MQTT_PROP_MAXIMUM_PACKET_SIZE) ? p->maximum_packet_size : UINT32_MAX;
	l->maximum_qos = mqtt_has(p, MQTT_PROP_MAXIMUM_QOS) ? p->maximum_qos : 2;
	if (mqtt_has(p, MQTT_PROP_SESSION_EXPIRY_INTERVAL))
		l->session_expiry_s = p->session_expiry_interval;
	if (mqtt_has(p, MQTT_PROP_SERVER_KEEP_ALIVE))
		l->keep_alive_s = p->server_keep_alive;
	s->state = MQTT_SESSION_ONLINE;
	s->ops->on_connack(s->userdata, packet);
}

/*
 * Which packet is welcome when: bit = state. What only a client sends never gets past the decoder.
 */
static bool session_accepts(enum mqtt_session_state state, enum mqtt_type type)
{
	enum { CONNECTING = 1 << MQTT_SESSION_CONNECTING, ONLINE = 1 << MQTT_SESSION_ONLINE };
	static const uint8_t welcome[MQTT_AUTH + 1] = {
		[MQTT_CONNACK] = CONNECTING,
		[MQTT_PUBLISH] = ONLINE,
		[MQTT_PUBACK] = ONLINE,
		/* These three only as answers, which their functions check. */
		[MQTT_SUBACK] = ONLINE,
		[MQTT_UNSUBACK] = ONLINE,
		[MQTT_AUTH] = ONLINE,
		/* Before CONNACK only CONNACK and AUTH are allowed (3.2, 4.12); some brokers still say why
		   they close. */
		[MQTT_DISCONNECT] = CONNECTING | ONLINE,
		[MQTT_PINGRESP] = ONLINE,
	};

	return welcome[type] >> state & 1;
}

static void session_on_packet(struct mqtt_session *s, struct mqtt_packet *packet)
{
	if (!session_accepts(s->state, packet->type)) {
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR, "the hub sent a packet that is not allowed here");
		return;
	}
	switch (packet->type) {
	case MQTT_CONNACK:
		session_on_connack(s, packet);
		break;
	case MQTT_PUBLISH:
		session_on_publish(s, packet);
		break;
	case MQTT_PUBACK:
		session_on_puback(s, packet);
		break;
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		session_on_suback(s, packet);
		break;
	case MQTT_AUTH:
		session_on_auth(s, packet);
		break;
	case MQTT_DISCONNECT:
		s->state = MQTT_SESSION_ENDED;
		s->ops->on_disconnect(s->userdata, packet);
		break;
	case MQTT_PINGRESP:
		break; /* any byte received has answered the ping */
	case MQTT_CONNECT:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
	case MQTT_PINGREQ:
		assert(!session_accepts(s->state, packet->type));
		break;
	}
}

void mqtt_session_input(struct mqtt_session *s, struct bytes data, uint64_t now_ns)
{
	struct mqtt_packet packet;
	struct bytes raw;
	int r = 0;

	if (!data.len || s->state == MQTT_SESSION_OFFLINE || s->state == MQTT_SESSION_ENDED)
		return;
	s->last_received_ns = now_ns;
	s->ping_pending = false;
	mqtt_stream_push(&s->stream, data);
	while (s->state == MQTT_SESSION_CONNECTING || s->state == MQTT_SESSION_ONLINE) {
		r = mqtt_stream_next(&s->stream, &raw);
		if (r <= 0)
			break;
		r = mqtt_decode(&packet, raw, MQTT_LEVEL_5, MQTT_FROM_SERVER);
		if (r)
			break;
		session_on_packet(s, &packet);
	}
	if (r >= 0)
		return;
	if (r == -EMSGSIZE)
		session_fail(s, MQTT_REASON_PACKET_TOO_LARGE,
			     "the hub sent a packet over our Maximum Packet Size");
	else if (r == -EPROTO)
		session_fail(s, MQTT_REASON_PROTOCOL_ERROR, "the hub broke the MQTT protocol");
	else if (r == -ENOMEM)
		session_fail(s, MQTT_REASON_QUOTA_EXCEEDED, "out of memory");
	else
		session_fail(s, MQTT_REASON_MALFORMED_PACKET, "the hub sent a malformed packet");
}
