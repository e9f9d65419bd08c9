/* SPDX-License-Identifier: MIT */
/*
 * The link, see link.h. Owns the session for its whole life and one connection at a time. Events: the
 * connection's (open, data, drained, closed), the session's (CONNACK, PUBACK, DISCONNECT, error) and two
 * timers: `retry` for the next attempt, `alive` for keep-alive and the end of the token.
 *
 * Invariants: conn is non-NULL exactly in CONNECTING, AUTHENTICATING and ONLINE; the session is OFFLINE
 * exactly when the state is none of AUTHENTICATING and ONLINE.
 *
 * All output of a turn leaves in link_flush(), which runs once at its end: PUBLISH packets of many writes and
 * PUBACK packets become one run of TLS records and one send.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link.h"
#include "hub/contract.h"
#include "hub/sas.h"
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

#define LINK_ERROR_SIZE           512

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
	struct conn *conn;
	struct mqtt_session *session;
	struct backoff backoff;
	struct loop_timer retry;
	struct loop_timer alive;
	struct loop_deferred flush;
	uint64_t token_renew_ns; /* when the connection has to be made anew with a fresh token */
	uint32_t packet_bytes_max;
	char error[LINK_ERROR_SIZE];
	struct log_once logged;
	bool paused; /* reading from the connection */
};

static void link_attempt(struct link *link);
static void link_lost(struct link *link, uint64_t patience_ns);

const char *link_state_name(enum link_state state)
{
	switch (state) {
	case LINK_STOPPED:
		return "stopped";
	case LINK_WAITING:
		return "waiting";
	case LINK_CONNECTING:
		return "connecting";
	case LINK_AUTHENTICATING:
		return "authenticating";
	case LINK_ONLINE:
		return "connected";
	}
	return "unknown";
}

static void link_set_state(struct link *link, enum link_state state)
{
	link->state = state;
	link->since_ms = loop_wall_ms(link->loop);
	link->ops->on_changed(link->userdata);
}

/* Notes what went wrong: in the status file at once, in the log when it is news. */
__attribute__((format(printf, 2, 3))) static void link_error(struct link *link, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(link->error, sizeof(link->error), fmt, ap);
	va_end(ap);
	log_write_once(link->log, &link->logged, LOG_LEVEL_WARNING, "%s", link->error);
}

/* --- timers ----------------------------------------------------------------------------------- */

/* Arms `alive` for the session's next deadline. It is left alone when it fires too early: a deadline that
 * moves with every packet is cheaper looked at again than re-armed. */
static void link_arm_alive(struct link *link)
{
	uint64_t at_ns = mqtt_session_deadline_ns(link->session);

	if (link->state == LINK_ONLINE && link->token_renew_ns < at_ns)
		at_ns = link->token_renew_ns;
	if (!loop_timer_is_armed(&link->alive) || at_ns < link->alive.at_ns)
		loop_timer_arm(link->loop, &link->alive, at_ns);
}

static void link_on_alive(struct loop_timer *timer, uint64_t now_ns)
{
	struct link *link = container_of(timer, struct link, alive);

	if (link->state == LINK_ONLINE && now_ns >= link->token_renew_ns) {
		log_debug(link->log, "token is about to expire: connecting anew");
		mqtt_session_end(link->session, MQTT_REASON_SUCCESS);
		link_lost(link, 0);
		/* Our own doing, no failure: at once. */
		backoff_progress(&link->backoff);
		loop_timer_arm(link->loop, &link->retry, now_ns);
		return;
	}
	mqtt_session_tick(link->session, now_ns);
	if (link->state == LINK_AUTHENTICATING || link->state == LINK_ONLINE) {
		link_arm_alive(link);
		loop_defer(link->loop, &link->flush);
	}
}

static void link_on_retry(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	link_attempt(container_of(timer, struct link, retry));
}

/* --- output ----------------------------------------------------------------------------------- */

/* Bytes on their way out, on this side of the kernel. */
static size_t link_n_waiting(const struct link *link)
{
	return mqtt_session_output(link->session).len + conn_n_queued(link->conn);
}

/* Hands the session's output to the connection. */
static void link_write(struct link *link)
{
	struct bytes out = mqtt_session_output(link->session);
	int r;

	if (!out.len)
		return;
	r = conn_write(link->conn, out);
	/* Not taken: more than CONN_SEND_MAX waits, which on_drained ends, or the connection is over, which
	 * on_closed says. */
	if (r == 0)
		mqtt_session_sent(link->session, out.len, loop_now_ns(link->loop));
}

static void link_flush(struct loop_deferred *deferred)
{
	struct link *link = container_of(deferred, struct link, flush);

	if (link->state == LINK_ONLINE) {
		while (conn_n_queued(link->conn) < LINK_QUEUED_SOFT_MAX) {
			link->ops->on_writable(link->userdata);
			if (!mqtt_session_output(link->session).len)
				break;
			link_write(link);
			/* Refused by the connection: later. */
			if (mqtt_session_output(link->session).len)
				break;
		}
	}
	if (link->state == LINK_AUTHENTICATING || link->state == LINK_ONLINE) {
		link_write(link);
		link_arm_alive(link);
	}
}

void link_kick(struct link *link)
{
	if (link->state == LINK_ONLINE)
		loop_defer(link->loop, &link->flush);
}

int link_publish(struct link *link, struct bytes topic, struct bytes properties, struct bytes payload,
		 uint64_t cookie, uint16_t *packet_id)
{
	return mqtt_session_publish(link->session, topic, properties, payload, cookie, packet_id);
}

void link_drop(struct link *link, uint16_t packet_id)
{
	mqtt_session_drop(link->session, packet_id);
}

/* --- the end of a connection ------------------------------------------------------------------ */

/* The connection is over or given up: says good-bye if the session has something to say, and arranges the
 * next attempt. */
static void link_lost(struct link *link, uint64_t patience_ns)
{
	bool was_online = link->state == LINK_ONLINE;
	uint64_t random = 0, wait_ns;

	if (link->conn) {
		link_write(link);
		conn_close(link->conn);
		link->conn = NULL;
	}
	mqtt_session_lost(link->session);
	loop_timer_disarm(&link->alive);
	loop_undefer(&link->flush);
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		random = loop_now_ns(link->loop);
	wait_ns = backoff_failed(&link->backoff, loop_now_ns(link->loop), random, patience_ns);
	loop_timer_arm(link->loop, &link->retry, loop_now_ns(link->loop) + wait_ns);
	link_set_state(link, LINK_WAITING);
	if (was_online)
		link->ops->on_offline(link->userdata);
}

/* --- the session's events --------------------------------------------------------------------- */

/* `status`, `reason` and the Reason String of a refusal as text; @out of LINK_ERROR_SIZE / 2. */
static void packet_explain(const struct mqtt_packet *packet, uint8_t reason_code, char *out, size_t size)
{
	struct bytes reason = packet->properties.reason_string, value, text = BYTES(NULL, 0);
	char status_text[HUB_STATUS_TEXT_SIZE];
	struct hub_status status;

	mqtt_user_property_find(packet->properties.repeatable, HUB_PROP_STATUS, &text);
	if (mqtt_user_property_find(packet->properties.repeatable, HUB_PROP_REASON, &value))
		reason = value;
	status = hub_status_from_packet(reason_code, text);
	hub_status_format(&status, status_text);
	snprintf(out, size, "%s%s%.*s", status.has_code ? status_text : mqtt_reason_name(reason_code),
		 reason.len ? ": " : "", (int)(reason.len < 200 ? reason.len : 200),
		 reason.len ? (const char *)reason.data : "");
}

static void link_on_refused(struct link *link, const struct mqtt_packet *connack)
{
	uint8_t reason = connack->connack.reason;
	uint64_t patience_ns = 0;
	char text[LINK_ERROR_SIZE / 2];

	packet_explain(connack, reason, text, sizeof(text));
	switch (reason) {
	case MQTT_REASON_NOT_AUTHORIZED:
	case MQTT_REASON_BAD_USER_NAME_OR_PASSWORD:
		patience_ns = LINK_PATIENCE_AUTH_NS;
		if (link->config->authentication == CONFIG_AUTHENTICATION_NONE) {
			link_error(
				link,
				"%s refused device %s: %s; it does not do with \"authentication\": \"none\"",
				link->config->host, link->config->client_id, text);
			break;
		}
		link_error(link,
			   "%s refused device %s: %s; check the device id and key in %s, and this machine's "
			   "clock",
			   link->config->host, link->config->client_id, text, link->config->identity_path);
		break;
	case MQTT_REASON_BAD_AUTHENTICATION_METHOD:
		link_error(link,
			   "%s refused device %s: %s; for a plain MQTT broker set "
			   "\"authentication\" to \"none\"",
			   link->config->host, link->config->client_id, text);
		patience_ns = LINK_PATIENCE_AUTH_NS;
		break;
	case MQTT_REASON_QUOTA_EXCEEDED:
	case MQTT_REASON_SERVER_BUSY:
	case MQTT_REASON_CONNECTION_RATE_EXCEEDED:
		link_error(link, "%s has no room for device %s now: %s", link->config->host,
			   link->config->client_id, text);
		patience_ns = LINK_PATIENCE_BUSY_NS;
		break;
	default:
		link_error(link, "%s refused the connection: %s", link->config->host, text);
		break;
	}
	link_lost(link, patience_ns);
}

static void link_on_connack(void *userdata, const struct mqtt_packet *connack)
{
	struct link *link = userdata;
	const struct mqtt_session_limits *limits = mqtt_session_limits(link->session);

	if (connack->connack.reason != MQTT_REASON_SUCCESS) {
		link_on_refused(link, connack);
		return;
	}
	if (!limits->session_present)
		mqtt_session_forget(link->session);
	++link->n_connects;
	/* A hub without a limit gets the contract's: a message under way has room for the largest reserved.
	 */
	link->packet_bytes_max = limits->packet_bytes_max < HUB_PACKET_BYTES_MAX ? limits->packet_bytes_max
										 : HUB_PACKET_BYTES_MAX;
	link->error[0] = '\0';
	log_once_reset(&link->logged);
	backoff_connected(&link->backoff, loop_now_ns(link->loop));
	link_set_state(link, LINK_ONLINE);
	link_arm_alive(link);
	log_info(link->log, "connected to %s as %s (%s, %s)", link->config->host, link->config->client_id,
		 conn_peer(link->conn), conn_cipher(link->conn));
	link->ops->on_online(link->userdata, limits->session_present);
	loop_defer(link->loop, &link->flush);
}

static void link_on_puback(void *userdata, uint64_t cookie, const struct mqtt_packet *puback)
{
	struct link *link = userdata;
	struct bytes text = BYTES(NULL, 0), reason = BYTES(NULL, 0);
	struct hub_status status;

	mqtt_user_property_find(puback->properties.repeatable, HUB_PROP_STATUS, &text);
	mqtt_user_property_find(puback->properties.repeatable, HUB_PROP_REASON, &reason);
	status = hub_status_from_packet(puback->ack.reason, text);
	if (status.class == HUB_SUCCESS)
		backoff_progress(&link->backoff);
	link->ops->on_puback(link->userdata, cookie, &status, reason);
	loop_defer(link->loop, &link->flush);
}

/* Nothing is subscribed to here. A session that another client left behind can still be: its commands stay with
 * the hub, which keeps what has no answer. */
static void link_on_publish(void *userdata, const struct mqtt_packet *publish)
{
	struct link *link = userdata;

	log_debug(link->log, "message to %.*s is left unanswered", (int)publish->publish.topic.len,
		  (const char *)publish->publish.topic.data);
}

static void link_on_disconnect(void *userdata, const struct mqtt_packet *disconnect)
{
	struct link *link = userdata;
	uint8_t reason = disconnect->disconnect.reason;
	uint64_t patience_ns = 0;
	char text[LINK_ERROR_SIZE / 2];

	packet_explain(disconnect, reason, text, sizeof(text));
	switch (reason) {
	case MQTT_REASON_SESSION_TAKEN_OVER:
		link_error(link, "another client connected to %s as %s: every device needs an id of its own",
			   link->config->host, link->config->client_id);
		patience_ns = LINK_PATIENCE_TAKEOVER_NS;
		break;
	case MQTT_REASON_NOT_AUTHORIZED:
		link_error(link, "%s ended the connection: %s; the token expired or the credentials changed",
			   link->config->host, text);
		break;
	case MQTT_REASON_QUOTA_EXCEEDED:
	case MQTT_REASON_CONNECTION_RATE_EXCEEDED:
	case MQTT_REASON_SERVER_BUSY:
		link_error(link, "%s ended the connection: %s", link->config->host, text);
		patience_ns = LINK_PATIENCE_BUSY_NS;
		break;
	default:
		link_error(link, "%s ended the connection: %s", link->config->host, text);
		break;
	}
	link_lost(link, patience_ns);
}

static void link_on_error(void *userdata, uint8_t reason, const char *text)
{
	struct link *link = userdata;

	(void)reason;
	link_error(link, "connection to %s given up: %s", link->config->host, text);
	link_lost(link, 0);
}

static const struct mqtt_session_ops link_session_ops = {
	.on_connack = link_on_connack,
	.on_puback = link_on_puback,
	.on_publish = link_on_publish,
	.on_disconnect = link_on_disconnect,
	.on_error = link_on_error,
};

/* --- CONNECT ---------------------------------------------------------------------------------- */

/* TLS sends no name for an address. */
static bool host_is_address(const char *host)
{
	struct in6_addr address;

	return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

/* The user properties of CONNECT (HUB-CONTRACT section 2); @sas is NULL without authentication. */
static void connect_put_properties(struct writer *w, const struct config *config, const struct hub_sas *sas)
{
	mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_API_VERSION), BYTES_LIT(HUB_API_VERSION));
	/* The name of the TLS connection is the gateway's, or there is none: the hub has to be told which one is
	 * meant. */
	if (config->gateway_host || host_is_address(config->host))
		mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_HOST), bytes_from_str(config->host));
	if (sas) {
		mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_SAS_AT), bytes_from_str(sas->at));
		mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_SAS_EXPIRY), bytes_from_str(sas->expiry));
	}
	if (sas && config->key_name)
		mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_SAS_POLICY), bytes_from_str(config->key_name));
	mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_CLIENT_AGENT), BYTES_LIT("iothubd/" IOTHUB_VERSION));
}

/* Adds a fresh signature, which borrows @sas, and notes when it has to be renewed. */
static int connect_sign(struct link *link, struct mqtt_properties *p, struct hub_sas *sas)
{
	const struct config *config = link->config;
	uint64_t lifetime_ms = config->token_lifetime_s * MSEC_PER_SEC;
	int r = hub_sas_make(sas, &config->key, config->host, config->client_id, config->key_name,
			     loop_wall_ms(link->loop), lifetime_ms);

	if (r)
		return r;
	p->authentication_method = BYTES_LIT(HUB_AUTH_SAS);
	mqtt_set(p, MQTT_PROP_AUTHENTICATION_METHOD);
	p->authentication_data = BYTES(sas->signature, sizeof(sas->signature));
	mqtt_set(p, MQTT_PROP_AUTHENTICATION_DATA);
	/* Early enough that a slow connection and a clock that runs a little fast do not meet the expiry. */
	link->token_renew_ns = loop_now_ns(link->loop) + lifetime_ms * NSEC_PER_MSEC / 10 * 9;
	return 0;
}

/* Queues CONNECT. */
static int link_send_connect(struct link *link)
{
	const struct config *config = link->config;
	bool with_sas = config->authentication == CONFIG_AUTHENTICATION_SAS;
	struct mqtt_packet connect = {
		.type = MQTT_CONNECT,
		.connect =
			{
				.level = MQTT_LEVEL_5,
				.keep_alive = config->keep_alive_s,
				.client_id = bytes_from_str(config->client_id),
			},
	};
	struct mqtt_properties *p = &connect.properties;
	uint8_t properties[2048];
	struct writer w = writer_init(properties, sizeof(properties));
	struct hub_sas sas;
	int r = 0;

	link->token_renew_ns = TIME_NEVER;
	if (with_sas)
		r = connect_sign(link, p, &sas);
	if (r)
		return r;
	connect_put_properties(&w, config, with_sas ? &sas : NULL);
	if (w.error)
		return w.error;
	p->session_expiry_interval = config->session_expiry_s;
	mqtt_set(p, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	p->receive_maximum = LINK_RECEIVE_MAX;
	mqtt_set(p, MQTT_PROP_RECEIVE_MAXIMUM);
	p->maximum_packet_size = LINK_PACKET_BYTES_MAX;
	mqtt_set(p, MQTT_PROP_MAXIMUM_PACKET_SIZE);
	p->repeatable = writer_bytes(&w);
	return mqtt_session_start(link->session, &connect, loop_now_ns(link->loop));
}

/* --- the connection's events ------------------------------------------------------------------ */

static void link_on_open(void *userdata)
{
	struct link *link = userdata;
	int r = link_send_connect(link);

	if (r) {
		link_error(link, "cannot make the token for %s: %s", link->config->host, strerror(-r));
		link_lost(link, 0);
		return;
	}
	link_set_state(link, LINK_AUTHENTICATING);
	loop_defer(link->loop, &link->flush);
}

static void link_on_data(void *userdata, struct bytes data)
{
	struct link *link = userdata;

	mqtt_session_input(link->session, data, loop_now_ns(link->loop));
	/* A hub that asks and does not take the answers has to wait: what it asks for would pile up here. */
	if (link->conn && link_n_waiting(link) > LINK_QUEUED_SOFT_MAX) {
		conn_pause(link->conn);
		link->paused = true;
	}
}

static void link_on_drained(void *userdata)
{
	struct link *link = userdata;

	if (link->paused) {
		link->paused = false;
		conn_resume(link->conn);
	}
	loop_defer(link->loop, &link->flush);
}

static void link_on_closed(void *userdata, enum conn_end end, const char *text)
{
	struct link *link = userdata;

	link->conn = NULL;
	if (end == CONN_END_PEER && link->state == LINK_AUTHENTICATING)
		link_error(link, "%s closed the connection without an answer to CONNECT", link->config->host);
	else
		link_error(link, "%s", text);
	link_lost(link, 0);
}

static const struct conn_ops link_conn_ops = {
	.on_open = link_on_open,
	.on_data = link_on_data,
	.on_drained = link_on_drained,
	.on_closed = link_on_closed,
};

static void link_attempt(struct link *link)
{
	const struct config *config = link->config;
	const struct conn_client_options options = {
		.loop = link->loop,
		.log = link->log,
		.resolver = link->resolver,
		.tls = link->tls,
		.host = config->gateway_host ? config->gateway_host : config->host,
		.port = config->port,
		.ops = &link_conn_ops,
		.userdata = link,
	};
	int r;

	assert(!link->conn);
	link->paused = false;
	++link->n_attempts;
	link_set_state(link, LINK_CONNECTING);
	r = conn_connect(&link->conn, &options);
	if (r) {
		link->conn = NULL;
		link_error(link, "cannot connect to %s: %s", options.host, strerror(-r));
		link_lost(link, 0);
	}
}

/* --- life cycle ------------------------------------------------------------------------------- */

int link_new(struct link **out, const struct link_options *options)
{
	struct mqtt_session_options session = {
		.ops = &link_session_ops,
		.window_max = LINK_WINDOW_MAX,
		.receive_maximum = LINK_RECEIVE_MAX,
		.packet_bytes_max = LINK_PACKET_BYTES_MAX,
	};
	struct link *link;
	int r;

	link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	link->loop = options->loop;
	link->log = options->log;
	link->config = options->config;
	link->resolver = options->resolver;
	link->tls = options->tls;
	link->ops = options->ops;
	link->userdata = options->userdata;
	link->packet_bytes_max = HUB_PACKET_BYTES_MAX;
	link->since_ms = loop_wall_ms(options->loop);
	backoff_init(&link->backoff);
	loop_timer_init(&link->retry, link_on_retry);
	loop_timer_init(&link->alive, link_on_alive);
	loop_deferred_init(&link->flush, link_flush);
	session.userdata = link;
	r = mqtt_session_new(&link->session, &session);
	if (r) {
		free(link);
		return r;
	}
	*out = link;
	return 0;
}

void link_start(struct link *link)
{
	assert(link->state == LINK_STOPPED);
	link_attempt(link);
}

void link_stop(struct link *link)
{
	if (link->state == LINK_STOPPED)
		return;
	if (link->conn) {
		mqtt_session_end(link->session, MQTT_REASON_SUCCESS);
		link_write(link);
		conn_close(link->conn);
		link->conn = NULL;
	}
	mqtt_session_lost(link->session);
	loop_timer_disarm(&link->alive);
	loop_timer_disarm(&link->retry);
	loop_undefer(&link->flush);
	link->state = LINK_STOPPED;
}

void link_free(struct link *link)
{
	if (!link)
		return;
	link_stop(link);
	mqtt_session_free(link->session);
	free(link);
}

void link_info(const struct link *link, struct link_info *out)
{
	const struct mqtt_session_limits *limits = mqtt_session_limits(link->session);
	uint64_t now_ns = loop_now_ns(link->loop);

	*out = (struct link_info){
		.state = link->state,
		.since_ms = link->since_ms,
		.n_connects = link->n_connects,
		.n_attempts = link->n_attempts,
		.last_error = link->error,
		.peer = link->conn ? conn_peer(link->conn) : "",
		.cipher = link->conn ? conn_cipher(link->conn) : "",
	};
	if (loop_timer_is_armed(&link->retry) && link->retry.at_ns > now_ns)
		out->retry_in_ns = link->retry.at_ns - now_ns;
	if (link->state != LINK_ONLINE)
		return;
	out->session_present = limits->session_present;
	out->receive_maximum = limits->receive_maximum;
	out->topic_alias_maximum = limits->topic_alias_maximum;
	out->keep_alive_s = limits->keep_alive_s;
	out->packet_bytes_max = link->packet_bytes_max;
}

uint32_t link_packet_bytes_max(const struct link *link)
{
	return link->packet_bytes_max;
}
