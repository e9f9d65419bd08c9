/* SPDX-License-Identifier: MIT */
#ifndef MQTT_SESSION_H
#define MQTT_SESSION_H

/*
 * The client's end of an MQTT session over any number of connections: packet identifiers, the window of QoS 1
 * messages in flight, topic aliases in both directions, messages of the hub and their answers, subscriptions,
 * re-authentication, keep-alive, and the reaction to every packet in every state.
 *
 * Does no I/O and reads no clock: bytes and time in, bytes and notifications out. Its owner moves
 * mqtt_session_output() to the connection, gives what arrives to mqtt_session_input(), and calls
 * mqtt_session_tick() when mqtt_session_deadline_ns() has come.
 *
 * The messages themselves stay with the owner. A message in flight is a packet identifier and the owner's
 * `cookie`; both survive the loss of a connection, until the message is acknowledged or mqtt_session_forget()
 * is called.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/time.h"
#include "mqtt/packet.h"

struct mqtt_session;

enum mqtt_session_state {
	MQTT_SESSION_OFFLINE,    /* no connection */
	MQTT_SESSION_CONNECTING, /* CONNECT queued, no CONNACK yet */
	MQTT_SESSION_ONLINE,     /* CONNACK accepted */
	MQTT_SESSION_ENDED,      /* this connection is over for us: flush the output, then close it */
};

/* Called from mqtt_session_input() or _tick() only. Packets are borrowed for the call. */
struct mqtt_session_ops {
	/* CONNACK: accepted (reason 0: the state is ONLINE) or refused (the state is ENDED). */
	void (*on_connack)(void *userdata, const struct mqtt_packet *connack);
	/* The outcome of a message in flight; its packet identifier is free again. */
	void (*on_puback)(void *userdata, uint64_t cookie, const struct mqtt_packet *puback);
	/* A message from the hub, its topic alias replaced by the topic; with QoS 1 the owner answers by
	 * mqtt_session_puback(), now or later on this connection. */
	void (*on_publish)(void *userdata, const struct mqtt_packet *publish);
	/* SUBACK or UNSUBACK: a reason for each filter of mqtt_session_subscribe() or _unsubscribe(). */
	void (*on_suback)(void *userdata, const struct mqtt_packet *suback);
	/* AUTH: mqtt_session_authenticate() succeeded. */
	void (*on_auth)(void *userdata, const struct mqtt_packet *auth);
	/* The hub's DISCONNECT; the state is ENDED. */
	void (*on_disconnect)(void *userdata, const struct mqtt_packet *disconnect);
	/* The peer broke the protocol or fell silent: DISCONNECT with @reason is queued if CONNACK was seen,
	 * the state is ENDED. @text says what happened. */
	void (*on_error)(void *userdata, uint8_t reason, const char *text);
};

struct mqtt_session_options {
	const struct mqtt_session_ops *ops; /* borrowed */
	void *userdata;
	/* Messages in flight at most, whatever the hub allows; 1 … MQTT_SESSION_WINDOW_MAX. */
	uint16_t window_max;
	uint16_t receive_maximum;     /* ours, as CONNECT says */
	uint16_t topic_alias_maximum; /* ours, as CONNECT says; 0 = the hub may use none */
	uint32_t packet_bytes_max;    /* ours, as CONNECT says */
};

/* Bytes of output that wait before mqtt_session_publish() asks for patience. */
#define MQTT_SESSION_OUTPUT_SOFT_MAX (256 * 1024)
/* How long CONNACK is waited for, where 1.5 keep-alive intervals are longer. */
#define MQTT_SESSION_CONNACK_NS (30 * NSEC_PER_SEC)
/* Two packet identifiers are kept for SUBSCRIBE and UNSUBSCRIBE. */
#define MQTT_SESSION_WINDOW_MAX 65533
/* Topic aliases used at most, whatever the hub allows. */
#define MQTT_SESSION_ALIASES_MAX 16

/* Returns 0 or -ENOMEM. */
int mqtt_session_new(struct mqtt_session **out, const struct mqtt_session_options *options);
void mqtt_session_free(struct mqtt_session *s);

enum mqtt_session_state mqtt_session_state(const struct mqtt_session *s);

/* A connection is there: queues @connect (a CONNECT; its keep_alive counts until CONNACK says otherwise).
 * Only when OFFLINE. Returns 0 or the encoder's error. */
int mqtt_session_start(struct mqtt_session *s, const struct mqtt_packet *connect, uint64_t now_ns);

/* The connection is gone, in any state: OFFLINE. Messages in flight stay in flight. */
void mqtt_session_lost(struct mqtt_session *s);

/* Queues DISCONNECT with @reason: ENDED. Nothing when no CONNACK was seen. */
void mqtt_session_end(struct mqtt_session *s, uint8_t reason);

/* Bytes from the hub. Ignored when OFFLINE or ENDED. */
void mqtt_session_input(struct mqtt_session *s, struct bytes data, uint64_t now_ns);

/* Bytes for the hub, borrowed until the next call; mqtt_session_sent() drops the first @n of them. */
struct bytes mqtt_session_output(const struct mqtt_session *s);
void mqtt_session_sent(struct mqtt_session *s, size_t n, uint64_t now_ns);

/* When mqtt_session_tick() has something to do: a PINGREQ after one keep-alive interval without traffic in
 * either direction, the end after 1.5 intervals without a byte from the hub (3.1.2.10), or when CONNACK or the
 * answer to AUTH does not come. TIME_NEVER when there is nothing to wait for, as ONLINE without keep-alive. */
uint64_t mqtt_session_deadline_ns(const struct mqtt_session *s);
void mqtt_session_tick(struct mqtt_session *s, uint64_t now_ns);

/* What the hub's CONNACK granted; valid when ONLINE. */
struct mqtt_session_limits {
	uint16_t receive_maximum;
	uint16_t topic_alias_maximum;
	uint16_t keep_alive_s;
	uint32_t packet_bytes_max; /* UINT32_MAX = no limit */
	uint8_t maximum_qos;
	uint32_t session_expiry_s;
	bool session_present;
};
const struct mqtt_session_limits *mqtt_session_limits(const struct mqtt_session *s);

/* --- messages in flight ----------------------------------------------------------------------- */

/*
 * Queues a QoS 1 PUBLISH of @topic (which must stay valid for the connection) with encoded @properties. The
 * first time
 * *@packet_id is 0 and gets one; to send again on a later connection pass the same one: DUP is set. Returns
 * 0, -EAGAIN (window full or too much output waiting: try again after the next PUBACK or
 * mqtt_session_sent()), -EMSGSIZE (over the hub's Maximum Packet Size), -ENOTCONN when not ONLINE,
 * -EOPNOTSUPP when the hub has no QoS 1, -ENOMEM.
 */
int mqtt_session_publish(struct mqtt_session *s, struct bytes topic, struct bytes properties,
			 struct bytes payload, uint64_t cookie, uint16_t *packet_id);

/* The hub has no session any more: every packet identifier is free, messages in flight are to be published
 * anew. */
void mqtt_session_forget(struct mqtt_session *s);

/* Gives up one message in flight that was not sent on this connection. */
void mqtt_session_drop(struct mqtt_session *s, uint16_t packet_id);

/* Queues a QoS 0 PUBLISH, as above; it is lost with the connection. Returns 0, -EAGAIN (too much output
 * waiting), -EMSGSIZE, -ENOTCONN, -ENOMEM. */
int mqtt_session_send(struct mqtt_session *s, struct bytes topic, struct bytes properties,
		      struct bytes payload);

/* --- messages from the hub -------------------------------------------------------------------- */

/* Answers an inbound QoS 1 message; @properties are encoded user properties. Returns 0, -ENOTCONN, -ENOENT (no
 * such message waits for an answer on this connection), -EMSGSIZE (over the hub's Maximum Packet Size, or over
 * 4 KiB), -ENOBUFS (the hub sends and does not read), -EINVAL (properties no PUBACK may have), -ENOMEM. */
int mqtt_session_puback(struct mqtt_session *s, uint16_t packet_id, uint8_t reason, struct bytes properties);

/* --- subscriptions ---------------------------------------------------------------------------- */

/*
 * Queues SUBSCRIBE or UNSUBSCRIBE of @n_filters filters (mqtt_filter_put()); on_suback follows, or the end of
 * the connection. Returns 0, -EBUSY while one of the same kind waits for its answer, -ENOTCONN, -EMSGSIZE (over
 * the hub's Maximum Packet Size, or over 64 KiB), -ENOBUFS, -EINVAL (a filter that is none), -ENOMEM.
 */
int mqtt_session_subscribe(struct mqtt_session *s, struct bytes filters, uint16_t n_filters);
int mqtt_session_unsubscribe(struct mqtt_session *s, struct bytes filters, uint16_t n_filters);

/* --- re-authentication ------------------------------------------------------------------------ */

/*
 * Queues AUTH with reason Re-authenticate; traffic goes on. @properties have the Authentication Method of
 * CONNECT, which must stay valid for the connection, and the new Authentication Data. on_auth follows,
 * on_disconnect (refused), or on_error when the answer has not come at @deadline_ns. Returns 0, -EBUSY while one
 * is under way, -ENOTCONN, -EMSGSIZE, -ENOBUFS, -EINVAL, -ENOMEM.
 */
int mqtt_session_authenticate(struct mqtt_session *s, const struct mqtt_properties *properties,
			      uint64_t deadline_ns);
bool mqtt_session_is_authenticating(const struct mqtt_session *s);

#endif
