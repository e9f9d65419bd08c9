/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_SESSION_H
#define HUBCTL_SESSION_H

/*
 * A connection to the hub's service side, driven by whoever waits for something: session_open() waits for the
 * CONNACK, session_subscribe() for the SUBACK, session_request() for the response, each at most the timeout;
 * session_turn() takes what comes, also the responses to requests of session_post(). What goes wrong is said on standard error, once, in one line; after that
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

#define SESSION_STATUS_MAX 8
#define SESSION_TEXT_MAX   256

struct session;

/* A PUBLISH that is no response. */
typedef void session_message_fn(struct session *s, const struct mosquitto_message *message,
				const mosquitto_property *properties);

/* The answer to a request that was posted, under the number it got. */
struct session_reply;
typedef void session_reply_fn(struct session *s, uint64_t number, struct session_reply *reply);

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
	session_reply_fn *on_reply;     /* likewise */
	void *userdata;
	int input_fd; /* polled for input, too; -1: none */
	bool is_input_ready;
	bool is_answered; /* the SUBSCRIBE in flight */
	const char *filter;
	uint64_t number;                  /* of the last request */
	struct session_reply *reply;      /* of that one, while it is waited for */
	char tls_error[SESSION_TEXT_MAX]; /* what OpenSSL said last */
};

/* Connects. session_close() afterwards in any case. */
int session_open(struct session *s, const struct args *args);
/* Says DISCONNECT and frees all. Idempotent. */
void session_close(struct session *s);

int session_subscribe(struct session *s, const char *filter);

/*
 * Subscribes to @topic, or, with a @device, to what is that one's and its modules' below it. Returns 0, or 1 when
 * everything comes, since a device's name may have characters that no filter may have.
 */
int session_subscribe_device(struct session *s, const char *topic, const char *device);

/*
 * Publishes @payload to @topic with @properties, which it takes (a NULL is fine), and waits for the response.
 * -EREMOTEIO, not said, when the hub answered with an error: then @reply has its status.
 */
int session_request(struct session *s, const char *topic, struct bytes payload,
		    mosquitto_property *properties_take, struct session_reply *reply);

/* Publishes a request without waiting: its answer goes to on_reply, under its number, 1 for the first request of
 * the session, then 2 … */
int session_post(struct session *s, const char *topic, struct bytes payload,
		 mosquitto_property *properties_take);

/* Copies the value of a User Property; false when it is not there. */
bool session_property(const mosquitto_property *properties, const char *name, char *out, size_t size);
bool session_reply_is_error(const struct session_reply *reply);
void session_reply_deinit(struct session_reply *reply);

/* Waits at most @timeout_ms and takes what came; for commands that listen. -EINTR, not said, when a signal
 * asks to end. */
int session_turn(struct session *s, uint64_t timeout_ms);

/* The hub did not do @what within the timeout: says so. */
int session_fail_late(struct session *s, const char *what);
/* Of CLOCK_MONOTONIC. */
uint64_t session_now_ms(void);

/* Says what went wrong, unless something was said before; returns -EIO. */
__attribute__((format(printf, 2, 3))) int session_fail(struct session *s, const char *fmt, ...);

/* `status 0504: no such device`; what there is of it. */
void session_outcome_format(const mosquitto_property *properties, char *out, size_t size);

#endif
