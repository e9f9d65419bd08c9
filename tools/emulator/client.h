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

	/* What the client asked for. */
	bool problem_information;
	uint32_t maximum_packet_size; /* UINT32_MAX: no limit */
	uint16_t keep_alive_s;        /* as it holds; 0 = off */

	uint64_t connect_by_ns; /* TIME_NEVER once it came */
	uint64_t token_ends_ns;
	uint64_t last_packet_ns;

	struct mqtt_stream stream;
	struct buf out;
	uint32_t n_unacked;     /* QoS 1 messages whose PUBACK has not been handed to the owner */
	uint32_t n_acks_in_out; /* of those, PUBACKs in @out */
	struct buf delayed;     /* struct delayed_ack, oldest first */
	uint8_t *aliases;       /* enum emu_topic by alias - 1 */

	struct list monitor_link; /* hub->monitors */
	uint64_t n_dropped;       /* messages since the last that fitted */
	uint64_t n_dropped_total;
};

/* @server_name: the SNI, or NULL. @peer: for the log. Both copied. Returns 0 or -ENOMEM. */
int emu_client_new(struct emu_client **out, struct emu_hub *hub, const char *server_name, const char *peer,
		   const struct emu_client_ops *ops, void *userdata);

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

/* --- for the parts of the protocol: connect.c, publish.c, subscribe.c, monitor.c -------------- */

/* Ends the connection for @reason: CONNACK or DISCONNECT, whatever the state asks for. */
void emu_client_end(struct emu_client *c, uint8_t reason);
/* The same with the contract's outcome, which must be an error. */
void emu_client_end_outcome(struct emu_client *c, const struct emu_outcome *outcome);
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

/* Acknowledges a QoS 1 message, at once or after the delay asked for on the command line. */
void emu_client_puback(struct emu_client *c, uint16_t packet_id, const struct emu_outcome *outcome);

/* Room for the User Properties of any outcome. */
#define EMU_OUTCOME_PROPERTIES_MAX 512

/* Writes status, trace-id and reason as far as the status has them. */
void emu_outcome_properties(struct emu_hub *hub, const struct emu_outcome *outcome, struct writer *w);

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

/* The operations, one per packet type. */
void emu_on_connect(struct emu_client *c, const struct mqtt_packet *packet);
/* A CONNECT that does not decode: @error is mqtt_decode()'s. */
void emu_refuse_connect(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome);
void emu_on_publish(struct emu_client *c, const struct mqtt_packet *packet);
void emu_on_subscribe(struct emu_client *c, const struct mqtt_packet *packet);
void emu_on_unsubscribe(struct emu_client *c, const struct mqtt_packet *packet);

#endif
