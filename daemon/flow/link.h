/* SPDX-License-Identifier: MIT */
#ifndef FLOW_LINK_H
#define FLOW_LINK_H

/*
 * The link: one device's connection to its hub, kept up for as long as the daemon runs. Connects,
 * authenticates, reconnects with back-off, renews its authentication, keeps the hub's subscriptions at what is
 * wanted, matches responses to requests, and moves bytes between session and connection once per turn of the loop.
 *
 * Telemetry is for its user (struct link_ops) to say: the link asks for messages when there is room for them.
 * Whoever wants messages of the hub, or asks it something, does so by the structs further down, each embedded in
 * its owner. Their callbacks run from the loop; they may call anything here but link_stop() and link_free().
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "config/config.h"
#include "hub/status.h"
#include "base/list.h"
#include "loop/loop.h"

struct link;
struct mqtt_properties;
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

/* --- messages of the hub ---------------------------------------------------------------------- */

/* Longest filter, in bytes. */
#define LINK_FILTER_MAX 1024

enum link_topic_state {
	LINK_TOPIC_WANTED, /* the hub is asked with the next SUBSCRIBE */
	LINK_TOPIC_ASKED,  /* SUBACK is to come */
	LINK_TOPIC_GRANTED,
	LINK_TOPIC_REFUSED, /* asked again on the next connection */
};

/* One delivery of a message that wants an answer, as link_settle() needs it. */
struct link_delivery {
	uint64_t connection;
	uint16_t packet_id; /* 0 = QoS 0: nothing to answer */
};

/* Borrowed for the call. */
struct link_message {
	struct bytes topic;
	const struct mqtt_properties *properties;
	struct bytes payload;
	struct link_delivery delivery;
};

/* A topic that is wanted. The owner fills in all but link and state, and calls link_subscription_init(). */
struct link_subscription {
	struct list link;
	enum link_topic_state state;
	struct bytes filter; /* borrowed while subscribed; a `+` only at its end */
	uint8_t qos;
	void (*on_message)(struct link_subscription *sub, const struct link_message *message);
	/* The hub refused the topic. May be NULL; it is logged in any case. */
	void (*on_refused)(struct link_subscription *sub, const struct hub_status *status);
};

static inline void link_subscription_init(struct link_subscription *sub)
{
	list_init(&sub->link);
}

/*
 * Adds a topic to what is wanted, online or not: the hub hears of it with the next SUBSCRIBE. Returns 0, -EEXIST
 * (the filter is wanted already), -ENOSPC (as many as a hub allows), -EINVAL (a filter that is empty or too long).
 */
int link_subscribe(struct link *link, struct link_subscription *sub);
/* Takes it back. Idempotent. */
void link_unsubscribe(struct link *link, struct link_subscription *sub);

enum link_settlement {
	LINK_COMPLETE,
	LINK_ABANDON, /* deliver it again later */
	LINK_REJECT,  /* never again */
};

/* Answers a QoS 1 message, now or later. Returns 0; -ESTALE: its connection is over or it has its answer, so the
 * hub may deliver it again; -ENOBUFS: too much waits to be sent; -EMSGSIZE, -ENOMEM. */
int link_settle(struct link *link, const struct link_delivery *delivery, enum link_settlement settlement);

/* --- requests and responses ------------------------------------------------------------------- */

struct link_response {
	struct hub_status status;                 /* as the hub says; without a response, a retryable error */
	int error;                                /* 0, the status's errno, -ETIMEDOUT, or -ENOTCONN */
	struct bytes reason;                      /* the hub's text; may be empty */
	const struct mqtt_properties *properties; /* NULL without a response */
	struct bytes payload;
};

struct link_request {
	/* Once for each link_request() that returned 0, unless cancelled. @response is borrowed. */
	void (*on_response)(struct link_request *request, const struct link_response *response);
};

/*
 * Sends a request; the response, or that none came within @timeout_ns or on this connection, goes to
 * on_response. @user_properties are encoded. Returns 0, -ENOTCONN, -ENOBUFS (MQTT_REQUESTS_MAX wait), -EAGAIN
 * (too much waits to be sent), -EMSGSIZE, -ENOMEM.
 */
int link_request(struct link *link, struct link_request *request, struct bytes topic,
		 struct bytes user_properties, struct bytes payload, uint64_t timeout_ns);
/* The response, if it comes, is ignored. Idempotent. */
void link_request_cancel(struct link *link, struct link_request *request);

/* Answers a request of the hub, a direct method, by its Correlation Data: with a result, or that nobody is there
 * to serve it. Returns as link_request(), -EINVAL for Correlation Data that is none. */
int link_respond(struct link *link, struct bytes correlation, uint32_t response_code, struct bytes payload);
int link_respond_unavailable(struct link *link, struct bytes correlation);

/* --- what has arrived -------------------------------------------------------------------------- */

/* Waits until the hub's machine has acknowledged bytes of ours, TCP to TCP: from then on nothing that happens here
 * can keep the hub from getting them. Its owner fills in the function, and calls link_delivery_wait_init(). */
struct link_delivery_wait {
	struct list link;
	uint64_t target; /* bytes of the connection */
	/* Once, unless cancelled: 0, or -ECONNRESET: the connection ended first. */
	void (*on_acknowledged)(struct link_delivery_wait *wait, int error);
};

static inline void link_delivery_wait_init(struct link_delivery_wait *wait)
{
	list_init(&wait->link);
}

/* Waits for all that was queued on this connection up to now. Not bounded in time. Returns 0 or -ENOTCONN. */
int link_await_acknowledged(struct link *link, struct link_delivery_wait *wait);
/* Idempotent. */
void link_await_cancel(struct link *link, struct link_delivery_wait *wait);

/* --- state ------------------------------------------------------------------------------------ */

/* What the status file shows. Texts are owned by the link and valid until it changes. */
struct link_info {
	enum link_state state;
	uint64_t since_ms;      /* wall clock: when this state began */
	uint64_t n_connects;    /* times the hub accepted us */
	uint64_t n_attempts;    /* connections tried */
	uint64_t n_renewals;    /* new signatures accepted on a living connection */
	uint64_t retry_in_ns;   /* WAITING: until the next attempt */
	const char *last_error; /* "" = none since the last time online */
	const char *server;     /* where the hub sent us; "" = the configured host */
	const char *peer;       /* "" unless connected */
	const char *cipher;     /* likewise */
	bool session_present;   /* ONLINE only, as are the following */
	uint16_t receive_maximum;
	uint16_t topic_alias_maximum;
	uint16_t keep_alive_s;
	uint32_t packet_bytes_max;
};
void link_info(const struct link *link, struct link_info *out);

/* What the hub's DISCONNECT said that ended the last connection. False, and nothing in @out: it ended without one. */
bool link_last_end(const struct link *link, struct hub_status *out);

/* Largest packet the hub takes: of this connection, the last one, or the contract's. */
uint32_t link_packet_bytes_max(const struct link *link);

#endif
