/* SPDX-License-Identifier: MIT */
#ifndef MQTT_SESSION_INTERNAL_H
#define MQTT_SESSION_INTERNAL_H

/*
 * The inside of the client session, shared by its files: session.c (life cycle, keep-alive, which packet is
 * welcome when), session_inflight.c (what we publish), session_inbound.c (what the hub publishes),
 * session_subscriptions.c (SUBSCRIBE, UNSUBSCRIBE and AUTH, the exchanges of which there is one at a time).
 */

#include "base/buf.h"
#include "mqtt/session.h"

/* Bytes of output that are answers beyond what messages of ours take: more is waiting only when the hub asks
 * and does not read. */
#define SESSION_ANSWERS_MAX (64 * 1024)
/* Room for one control packet; one that does not fit is not sent. */
#define SESSION_CONTROL_MAX (4 * 1024)
/* Room for CONNECT, SUBSCRIBE and UNSUBSCRIBE. */
#define SESSION_CONNECT_MAX (64 * 1024)

struct slot {
	uint64_t cookie;
	bool in_use;
	bool sent; /* on this connection */
};

/* A topic the hub gave an alias to; memory is kept for the next connection. */
struct inbound_alias {
	uint8_t *topic;
	size_t len; /* 0 = not set on this connection */
	size_t size;
};

struct mqtt_session {
	const struct mqtt_session_ops *ops;
	void *userdata;
	enum mqtt_session_state state;
	struct mqtt_stream stream;
	struct buf out;
	struct mqtt_session_limits limits;
	uint64_t started_ns; /* CONNECT queued */
	uint64_t last_received_ns;
	uint64_t last_sent_ns;
	bool ping_pending; /* PINGREQ queued, nothing received since */

	/* Inbound QoS 1 messages of this connection without our PUBACK, in no order. */
	uint16_t receive_maximum;
	uint16_t n_unanswered;
	uint16_t *unanswered;
	uint16_t topic_alias_maximum; /* ours */
	struct inbound_alias *inbound_aliases;

	/* Filters in the exchange under way on this connection; 0 = none. */
	uint16_t n_subscribing;
	uint16_t n_unsubscribing;
	uint64_t auth_deadline_ns; /* AUTH is to be answered; TIME_NEVER = none under way */
	struct bytes auth_method;  /* of it, borrowed */

	struct bytes aliases[MQTT_SESSION_ALIASES_MAX]; /* alias = index + 1, this connection */
	uint16_t n_aliases;

	uint16_t window_max;
	uint16_t n_sent;
	uint16_t n_free;
	uint16_t *free; /* stack of free slot indices; top is next */
	struct slot slots[];
};

/* Encodes a packet of at most @room bytes into the output. Returns 0 or the error of buffer or encoder. */
int session_queue(struct mqtt_session *s, const struct mqtt_packet *packet, size_t room);

/* The same for a packet that counts as an answer or a question of ours: no larger than the hub takes, and
 * -ENOBUFS when too much waits already. -EMSGSIZE when it does not fit. */
int session_queue_bounded(struct mqtt_session *s, const struct mqtt_packet *packet, size_t room);

/* The peer cannot be talked to any more: DISCONNECT with @reason where one is allowed, ENDED, on_error. */
void session_fail(struct mqtt_session *s, uint8_t reason, const char *text);

void session_on_puback(struct mqtt_session *s, const struct mqtt_packet *packet);
/* Fills in the topic of an alias. */
void session_on_publish(struct mqtt_session *s, struct mqtt_packet *packet);
/* SUBACK and UNSUBACK. */
void session_on_suback(struct mqtt_session *s, const struct mqtt_packet *packet);
void session_on_auth(struct mqtt_session *s, const struct mqtt_packet *packet);

/* Forgets what the connection before had. */
void session_inbound_reset(struct mqtt_session *s);

#endif
