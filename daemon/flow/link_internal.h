/* SPDX-License-Identifier: MIT */
#ifndef FLOW_LINK_INTERNAL_H
#define FLOW_LINK_INTERNAL_H

/*
 * The inside of the link, shared by its files: link.c (states, timers, output), link_connect.c (CONNECT, AUTH and
 * their signatures), link_reasons.c (what the hub's refusals and good-byes lead to), link_topics.c (subscriptions
 * and messages), link_requests.c (requests and responses), link_acknowledged.c (what the hub's machine has),
 * link_clock.c (somebody sets this machine's clock).
 */

#include "base/list.h"
#include "flow/link.h"
#include "hub/contract.h"
#include "hub/token.h"
#include "mqtt/requests.h"
#include "mqtt/session.h"
#include "net/backoff.h"
#include "net/conn.h"

/* Our own Receive Maximum and Maximum Packet Size. */
#define LINK_RECEIVE_MAX      16
#define LINK_PACKET_BYTES_MAX HUB_PACKET_BYTES_MAX
/* Above this the session is not asked for more until the kernel has taken it. */
#define LINK_QUEUED_SOFT_MAX (1024 * 1024)
/* Floors of the back-off: nothing is gained by asking again at once. */
#define LINK_PATIENCE_AUTH_NS     (10 * NSEC_PER_SEC)
#define LINK_PATIENCE_TAKEOVER_NS (30 * NSEC_PER_SEC)
#define LINK_PATIENCE_BUSY_NS     (5 * NSEC_PER_SEC)

/* Topic aliases the hub may use. */
#define LINK_TOPIC_ALIAS_MAX 8
/* Topics nobody wants that are remembered for UNSUBSCRIBE, and asked about on one connection. */
#define LINK_STALE_MAX  64

#define LINK_ERROR_SIZE 512
/* A host name and a NUL. */
#define LINK_SERVER_SIZE 256

struct link_clock;

struct link {
	struct loop *loop;
	struct log *log;
	const struct config *config;
	struct resolver *resolver;
	struct tls_context *tls;
	const struct link_ops *ops;
	void *userdata;

	enum link_state state;
	uint64_t since_ms;
	uint64_t n_connects;
	uint64_t n_attempts;
	uint64_t n_renewals;
	struct conn *conn;
	struct mqtt_session *session;
	struct backoff backoff;
	struct loop_timer retry;
	struct loop_timer alive;
	struct loop_deferred flush;
	struct hub_token token;     /* of the last CONNECT or AUTH; lifetime 0 = none */
	uint64_t token_renew_ns;    /* when a new one is due */
	struct hub_token attempted; /* the clocks at the last attempt */
	struct link_clock *clock;
	bool clock_matters;          /* the last failure can be the clock's fault */
	unsigned int n_unauthorized; /* connections in a row the hub ended as not authorized */
	struct hub_status end; /* of the hub's DISCONNECT; SUCCESS: there was none since it accepted us */
	char server[LINK_SERVER_SIZE]; /* where the hub sent us; "" = nowhere else */
	uint16_t server_port;
	uint32_t packet_bytes_max;
	char error[LINK_ERROR_SIZE];
	struct log_once logged;
	struct log_once clock_logged;
	bool paused; /* reading from the connection */

	/* link_topics.c */
	uint64_t connection;                                    /* number of the connection */
	struct list topics;                                     /* what is wanted: struct link_subscription */
	size_t n_topics;                                        /* in it */
	struct link_subscription *asked[HUB_SUBSCRIPTIONS_MAX]; /* in the SUBSCRIBE under way; NULL = gone */
	uint16_t n_asked;
	struct list stale; /* what the hub has and nobody wants: struct stale_topic */
	size_t n_stale;
	unsigned int n_unwanted; /* messages to such topics on this connection */

	/* link_requests.c */
	struct mqtt_requests requests;
	struct loop_timer request_timer;

	/* link_acknowledged.c */
	struct list awaited; /* struct link_delivery_wait, in the order of their targets */
	struct loop_timer awaited_timer;
	uint64_t awaited_interval_ns;
};

/* --- link.c --- */

/* Notes what went wrong: in the status file at once, in the log when it is news. */
__attribute__((format(printf, 2, 3))) void link_error(struct link *link, const char *fmt, ...);

/* The connection is over or given up: says good-bye if the session has something to say, and arranges the next
 * attempt, in @patience_ns or later. */
void link_lost(struct link *link, uint64_t patience_ns);
/* The same when nothing failed: at once. */
void link_reconnect(struct link *link);
void link_arm_alive(struct link *link);

/* The host the connection goes to, for texts. */
const char *link_server(const struct link *link);

/* --- link_connect.c --- */

/* Queues CONNECT with a fresh signature. Returns 0 or a negative errno. */
int link_send_connect(struct link *link);
/* Queues AUTH with a fresh signature, or connects anew when that cannot be. */
void link_renew(struct link *link);
void link_on_auth(void *userdata, const struct mqtt_packet *auth);

/* --- link_reasons.c --- */

void link_on_refused(struct link *link, const struct mqtt_packet *connack);
void link_on_disconnect(void *userdata, const struct mqtt_packet *disconnect);

/* --- link_topics.c --- */

void link_topics_init(struct link *link);
void link_topics_deinit(struct link *link);
/* The hub accepted us. */
void link_topics_online(struct link *link, bool session_present);
void link_topics_offline(struct link *link);
/* Queues SUBSCRIBE and UNSUBSCRIBE for what is different. */
void link_topics_sync(struct link *link);
void link_on_suback(void *userdata, const struct mqtt_packet *suback);
void link_on_publish(void *userdata, const struct mqtt_packet *publish);

/* --- link_requests.c --- */

int link_requests_init(struct link *link);
/* Ends all with -ENOTCONN. */
void link_requests_offline(struct link *link);
void link_on_response(struct link *link, const struct mqtt_packet *publish);

/* --- link_acknowledged.c --- */

void link_awaited_init(struct link *link);
/* All output of the session has gone to the connection. */
void link_awaited_written(struct link *link);
/* Asks the kernel; something may have arrived. */
void link_awaited_check(struct link *link);
/* The connection is over. */
void link_awaited_offline(struct link *link);
/* Nobody is told any more. */
void link_awaited_stop(struct link *link);

/* --- link_clock.c --- */

/* Calls link_on_clock_set() whenever somebody sets the clock. Returns 0 or a negative errno. */
int link_clock_new(struct link_clock **out, struct link *link);
/* It goes away by itself once its operation has ended. NULL is fine. */
void link_clock_free(struct link_clock *clock);
void link_on_clock_set(struct link *link);

#endif
