/* SPDX-License-Identifier: MIT */
#ifndef FLOW_LINK_H
#define FLOW_LINK_H

/*
 * The link: one device's connection to its hub, kept up for as long as the daemon runs. Connects,
 * authenticates, reconnects with back-off, renews its token, and moves bytes between session and connection
 * once per turn of the loop.
 *
 * What is sent is for its user (struct link_ops) to say: the link asks for messages when there is room for
 * them.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "config/config.h"
#include "hub/status.h"
#include "loop/loop.h"

struct link;
struct resolver;
struct tls_context;

enum link_state {
	LINK_STOPPED,        /* not started, or stopped for good */
	LINK_WAITING,        /* until the next attempt */
	LINK_CONNECTING,     /* name lookup, TCP, TLS */
	LINK_AUTHENTICATING, /* CONNECT sent */
	LINK_ONLINE,
};

/* "waiting" for LINK_WAITING; the words of the status file. */
const char *link_state_name(enum link_state state);

/* Messages in flight at most, whatever the hub's Receive Maximum says. */
#define LINK_WINDOW_MAX 1024

struct link_ops {
	/* The hub accepted us. Without @session_present every packet identifier has been forgotten. */
	void (*on_online)(void *userdata, bool session_present);
	/* ONLINE no more. Messages in flight stay in flight. */
	void (*on_offline)(void *userdata);
	/* There is room: publish until link_publish() says -EAGAIN or nothing is left. */
	void (*on_writable)(void *userdata);
	/* Outcome of the message in flight with this cookie. @reason: the hub's text, may be empty; borrowed.
	 */
	void (*on_puback)(void *userdata, uint64_t cookie, const struct hub_status *status,
			  struct bytes reason);
	/* State, error or limits changed: for the status file. */
	void (*on_changed)(void *userdata);
};

struct link_options {
	struct loop *loop;
	struct log *log;
	const struct config *config; /* borrowed, outlives the link */
	struct resolver *resolver;   /* borrowed */
	struct tls_context *tls;     /* borrowed */
	const struct link_ops *ops;  /* borrowed */
	void *userdata;
};

/* Returns 0 or -ENOMEM. */
int link_new(struct link **out, const struct link_options *options);

/* Starts connecting. */
void link_start(struct link *link);

/* Says DISCONNECT and closes; no callback after this. */
void link_stop(struct link *link);

/* Frees the link, stopping it first. NULL is fine. */
void link_free(struct link *link);

/* There is something to send: on_writable follows at the end of this turn when there is room. */
void link_kick(struct link *link);

/* As mqtt_session_publish() and mqtt_session_drop(); @properties are encoded. */
int link_publish(struct link *link, struct bytes topic, struct bytes properties, struct bytes payload,
		 uint64_t cookie, uint16_t *packet_id);
void link_drop(struct link *link, uint16_t packet_id);

/* What the status file shows. Texts are owned by the link and valid until it changes. */
struct link_info {
	enum link_state state;
	uint64_t since_ms;      /* wall clock: when this state began */
	uint64_t n_connects;    /* times the hub accepted us */
	uint64_t n_attempts;    /* connections tried */
	uint64_t retry_in_ns;   /* WAITING: until the next attempt */
	const char *last_error; /* "" = none since the last time online */
	const char *peer;       /* "" unless connected */
	const char *cipher;     /* likewise */
	bool session_present;   /* ONLINE only, as are the following */
	uint16_t receive_maximum;
	uint16_t topic_alias_maximum;
	uint16_t keep_alive_s;
	uint32_t packet_bytes_max;
};
void link_info(const struct link *link, struct link_info *out);

/* Largest packet the hub takes: of this connection, the last one, or the contract's. */
uint32_t link_packet_bytes_max(const struct link *link);

#endif
