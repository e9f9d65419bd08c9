/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_CLIENT_H
#define EMULATOR_CLIENT_H

/*
 * The hub's side of one connection, from the first byte after the TLS handshake to its end. Bytes and time
 * in, bytes and the wish to close out. Its owner (server.c; a test) moves the bytes.
 *
 * The owner calls emu_hub_set_time() first in every turn, then emu_client_input() and emu_client_tick(), and,
 * after on_wake, takes the output and looks at emu_client_closing().
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/list.h"
#include "contract.h"
#include "hub.h"
#include "mqtt/packet.h"
#include "session.h"

/* Output that waits for the owner, in bytes. A device that lets its acknowledgements pile up beyond is cut
 * off; for a monitor messages are dropped and counted. */
#define EMU_CLIENT_OUT_MAX  (1024u * 1024)
#define EMU_MONITOR_OUT_MAX (64u * 1024 * 1024)

#define EMU_COMMON_NAME_MAX 128

struct emu_client_ops {
	/* There is output, or the client wants to close. May be called often, also while in a call of this
	 * header. */
	void (*on_wake)(void *userdata);
};

enum emu_closing {
	EMU_OPEN,
	EMU_CLOSE,     /* send the output, then close in order */
	EMU_CUT_FLUSH, /* send the output, then drop the connection */
	EMU_CUT,       /* drop the connection at once */
};

/* The certificate the peer showed in the TLS handshake. */
struct emu_certificate {
	bool is_present;
	bool is_trusted; /* signed by a registered authority */
	uint8_t thumbprint[THUMBPRINT_LEN];
	char common_name[EMU_COMMON_NAME_MAX + 1]; /* "" for none, or one that is longer */
};

/* What a connection was let in with. */
enum emu_signed_by {
	SIGNED_BY_PRIMARY_KEY,
	SIGNED_BY_SECONDARY_KEY,
	SIGNED_BY_POLICY,
	SIGNED_BY_CERTIFICATE,
};

struct emu_client {
	struct emu_hub *hub;
	const struct emu_client_ops *ops;
	void *userdata;
	struct list link; /* hub->clients */
	char *server_name;
	char *peer;
	char *id; /* client id; NULL before CONNECT was accepted */
	enum emu_closing closing;

	struct emu_identity *identity;  /* NULL: not connected yet, or the service side */
	struct emu_session *session;    /* the identity's or own_session; NULL when not connected */
	struct emu_session own_session; /* of the service side, ends with the connection */
	struct emu_certificate certificate;
	enum emu_signed_by signed_by;
	char *sas_host;   /* as it was signed; NULL without SAS */
	char *sas_policy; /* NULL for none */
	uint64_t connected_ms;

	/* What the client asked for. */
	bool problem_information;
	uint32_t maximum_packet_size; /* UINT32_MAX: no limit */
	uint16_t receive_maximum;
	uint16_t keep_alive_s; /* as it holds; 0 = off */

	struct emu_limits limits; /* what CONNACK said */

	uint64_t connect_by_ns; /* TIME_NEVER once it came */
	uint64_t token_ends_ns;
	uint64_t last_packet_ns;

	struct mqtt_stream stream;
	struct buf out;
	uint64_t n_sent;     /* bytes handed to the owner */
	uint32_t n_unacked;  /* QoS 1 messages whose PUBACK has not been handed to the owner */
	struct buf ack_ends; /* of those, PUBACKs in @out: uint64_t @n_sent at which each has gone */
	struct buf delayed;  /* answers that wait for their time, oldest first, see output.c */
	uint32_t n_commands; /* sent and not acknowledged */
	uint16_t packet_id;  /* the last one given to a command */

	/* A slow connection: @slow_bytes go out at a time, then nothing for @slow_ns. 0: as fast as it can. */
	uint64_t slow_bytes;
	uint64_t slow_ns;
	uint64_t slow_until_ns;

	uint8_t *aliases; /* enum emu_topic by alias - 1 */

	struct list monitor_link; /* hub->monitors */
	uint64_t n_dropped;       /* messages since the last that fitted */
	uint64_t n_dropped_total;
};

/* @server_name: the SNI, or NULL. @peer: for the log. Both copied. Returns 0 or -ENOMEM. */
int emu_client_new(struct emu_client **out, struct emu_hub *hub, const char *server_name, const char *peer,
		   const struct emu_client_ops *ops, void *userdata);

/* Right after emu_client_new(): what the peer showed. */
static inline void emu_client_set_certificate(struct emu_client *c, const struct emu_certificate *certificate)
{
	c->certificate = *certificate;
}

/* The connection is gone. on_wake is not called. NULL is fine. */
void emu_client_free(struct emu_client *c);

/* Bytes from the peer; after the client wanted to close they are ignored. */
void emu_client_input(struct emu_client *c, struct bytes data);

/* At emu_client_deadline_ns() or later: does what is due. */
void emu_client_tick(struct emu_client *c);
uint64_t emu_client_deadline_ns(const struct emu_client *c);

/* What is to be sent, borrowed until the next call; emu_client_sent() drops the first @n bytes of it. */
struct bytes emu_client_output(const struct emu_client *c);
void emu_client_sent(struct emu_client *c, size_t n);

static inline enum emu_closing emu_client_closing(const struct emu_client *c)
{
	return c->closing;
}

/* --- for the parts of the protocol ------------------------------------------------------------ */

/* Ends the connection for @reason: CONNACK or DISCONNECT, whatever the state asks for. */
void emu_client_end(struct emu_client *c, uint8_t reason);
/* The same with the contract's outcome, which must be an error. */
void emu_client_end_outcome(struct emu_client *c, const struct emu_outcome *outcome);
/* DISCONNECT with a Server Reference, "" for none. */
void emu_client_disconnect(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome,
			   const char *server_reference);
/* Queues @packet, which ends the connection: with the outcome's properties, and a Server Reference, "" for none. */
void emu_client_put_end(struct emu_client *c, struct mqtt_packet packet, const struct emu_outcome *outcome,
			const char *server_reference);
/* Drops the connection without a word. @c may have ended before. */
void emu_client_cut(struct emu_client *c);
/* As emu_client_cut(), but what was acknowledged is still sent. */
void emu_client_cut_flush(struct emu_client *c);

/*
 * Queues @packet. User Properties are left out when the client does not want problem information (PUBLISH
 * keeps them) or they would exceed its Maximum Packet Size; a packet that is still too large ends the
 * connection.
 */
void emu_client_put(struct emu_client *c, const struct mqtt_packet *packet);

/* As emu_client_put() for a PUBLISH, but what does not fit is left to the caller: 0, -EMSGSIZE (the client's
 * Maximum Packet Size) or -ENOBUFS (EMU_CLIENT_OUT_MAX). */
int emu_client_try_put(struct emu_client *c, const struct mqtt_packet *packet);

/* Acknowledges a QoS 1 message, at once or after a delay. */
void emu_client_puback(struct emu_client *c, uint16_t packet_id, const struct emu_outcome *outcome,
		       uint64_t delay_ms);

/* A response to a request. */
struct emu_response {
	struct bytes correlation_data;
	struct emu_outcome outcome;
	struct bytes properties; /* User Properties beside those of the outcome, encoded */
	struct bytes payload;
	uint64_t delay_ms;
};

/* Sends it to the responses topic of the client's side. */
void emu_client_respond(struct emu_client *c, const struct emu_response *response);

/* Room for the User Properties of any outcome. */
#define EMU_OUTCOME_PROPERTIES_MAX 512
/* The same and those of a response. */
#define EMU_RESPONSE_PROPERTIES_MAX 1024

/* Writes status, trace-id and reason as far as the status has them. */
void emu_outcome_properties(struct emu_hub *hub, const struct emu_outcome *outcome, struct writer *w);

/* One User Property more; numbers in decimal. */
void emu_property_put(struct writer *w, const char *key, const char *value);
void emu_property_put_number(struct writer *w, const char *key, uint64_t value);

/* When the next delayed answer, or piece of a slow connection, is due. */
uint64_t emu_output_deadline_ns(const struct emu_client *c);
/* Sends the delayed answers that are due at @now_ns. */
void emu_output_tick(struct emu_client *c, uint64_t now_ns);

/* Gives up session and name: the connection counts no longer, though its last bytes may still go out. */
void emu_client_detach(struct emu_client *c);

static inline bool emu_client_is_connected(const struct emu_client *c)
{
	return c->session != NULL;
}

static inline bool emu_client_is_service(const struct emu_client *c)
{
	return c->session == &c->own_session;
}

typedef void (*emu_packet_fn)(struct emu_client *c, const struct mqtt_packet *packet);

/* Calls @fn for a packet unless a fault cuts the connection before it, and cuts it afterwards when one says so. */
void emu_with_cut(struct emu_client *c, enum emu_operation operation, const struct mqtt_packet *packet,
		  emu_packet_fn fn);

/* The session's subscription to one of the topics of @filter (for methods: to @method), or NULL. */
const struct emu_subscription *emu_client_subscription(const struct emu_client *c, enum emu_filter filter,
						       struct bytes method);

/* The operations, one per packet type. */
void emu_on_auth(struct emu_client *c, const struct mqtt_packet *packet);
void emu_on_connect(struct emu_client *c, const struct mqtt_packet *packet);
/* A CONNECT that does not decode: @error is mqtt_decode()'s. */
void emu_refuse_connect(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome);
void emu_on_publish(struct emu_client *c, const struct mqtt_packet *packet);
void emu_on_subscribe(struct emu_client *c, const struct mqtt_packet *packet);
void emu_on_unsubscribe(struct emu_client *c, const struct mqtt_packet *packet);

#endif
