/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_SESSION_H
#define HUBCTL_SESSION_H

/*
 * A connection to the hub's service side, driven by whoever waits for something: session_open() waits for the
 * CONNACK, session_subscribe() for the SUBACK, session_request() for the response, each at most the timeout;
 * session_turn() takes what comes. What goes wrong is said on standard error, once, in one line; after that
 * every call returns the error again.
 *
 * Results are 0 or a negative errno.
 */

#include <stdbool.h>
#include <stdint.h>

#include <mosquitto.h>

#include "args.h"
#include "base/bytes.h"
#include "service.h"

#define SESSION_CORRELATION_LEN 8
#define SESSION_STATUS_MAX      8
#define SESSION_TEXT_MAX        256

struct session;

/* A PUBLISH that is no response. */
typedef void session_message_fn(struct session *s, const struct mosquitto_message *message,
				const mosquitto_property *properties);

enum session_state {
	SESSION_CLOSED,
	SESSION_CONNECTING,
	SESSION_OPEN,
	SESSION_FAILED, /* said on standard error */
};

/* What the hub answered; session_reply_deinit() when done. */
struct session_reply {
	bool is_here;
	char status[SESSION_STATUS_MAX]; /* "": success */
	char reason[SESSION_TEXT_MAX];
	char trace_id[SESSION_TEXT_MAX];
	void *payload; /* NUL-terminated behind its end */
	size_t payload_len;
	mosquitto_property *properties;
};

struct session {
	struct service_target target;
	struct mosquitto *client;
	enum session_state state;
	int signal_fd;
	uint64_t timeout_ms;
	session_message_fn *on_message; /* may be NULL */
	void *userdata;
	bool is_answered; /* the SUBSCRIBE in flight */
	const char *filter;
	uint64_t correlation; /* of the request in flight */
	struct session_reply *reply;
	char tls_error[SESSION_TEXT_MAX]; /* what OpenSSL said last */
};

/* Connects. session_close() afterwards in any case. */
int session_open(struct session *s, const struct args *args);
/* Says DISCONNECT and frees all. Idempotent. */
void session_close(struct session *s);

int session_subscribe(struct session *s, const char *filter);

/*
 * Publishes @payload to @topic with @properties, which it takes (a NULL is fine), and waits for the response.
 * -EREMOTEIO, not said, when the hub answered with an error: then @reply has its status.
 */
int session_request(struct session *s, const char *topic, struct bytes payload,
		    mosquitto_property *properties_take, struct session_reply *reply);

/* Value of a User Property, or NULL; good until the next call with the same @out. */
const char *session_reply_property(const struct session_reply *reply, const char *name, char *out,
				   size_t size);
void session_reply_deinit(struct session_reply *reply);

/* Waits at most @timeout_ms and takes what came; for commands that listen. -EINTR, not said, when a signal
 * asks to end. */
int session_turn(struct session *s, uint64_t timeout_ms);

/* Says what went wrong, unless something was said before; returns -EIO. */
__attribute__((format(printf, 2, 3))) int session_fail(struct session *s, const char *fmt, ...);

/* `status 0504: no such device`; what there is of it. */
void session_outcome_format(const mosquitto_property *properties, char *out, size_t size);

#endif
