/* SPDX-License-Identifier: MIT */
/*
 * The link, see link.h. Owns the session for its whole life and one connection at a time. Events: the
 * connection's (open, data, drained, closed), the session's (CONNACK, PUBACK, error here; the rest in the other
 * files of the link) and two timers: `retry` for the next attempt, `alive` for keep-alive and the renewal of the
 * signature.
 *
 * Invariants: conn is non-NULL exactly in CONNECTING, AUTHENTICATING and ONLINE; the session is OFFLINE
 * exactly when the state is none of AUTHENTICATING and ONLINE.
 *
 * All output of a turn leaves in link_flush(), which runs once at its end: PUBLISH packets of many writes and
 * PUBACK packets become one run of TLS records and one send.
 */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"

static void link_attempt(struct link *link);

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

const char *link_server(const struct link *link)
{
	return link->server[0] ? link->server : link->config->host;
}

void link_error(struct link *link, const char *fmt, ...)
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
void link_arm_alive(struct link *link)
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
		link_renew(link);
		if (link->state != LINK_ONLINE)
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
	if (r)
		return;
	mqtt_session_sent(link->session, out.len, loop_now_ns(link->loop));
	if (!list_is_empty(&link->awaited))
		link_awaited_written(link);
}

static void link_flush(struct loop_deferred *deferred)
{
	struct link *link = container_of(deferred, struct link, flush);

	if (link->state == LINK_ONLINE) {
		link_topics_sync(link);
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

void link_lost(struct link *link, uint64_t patience_ns)
{
	bool was_online = link->state == LINK_ONLINE;
	uint64_t random = 0, wait_ns;

	if (link->conn) {
		link_awaited_check(link);
		link_write(link);
		conn_close(link->conn);
		link->conn = NULL;
	}
	mqtt_session_lost(link->session);
	loop_timer_disarm(&link->alive);
	loop_undefer(&link->flush);
	/* Another server that does not work is no reason not to try the hub. */
	if (!was_online)
		link->server[0] = '\0';
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		random = loop_now_ns(link->loop);
	wait_ns = backoff_failed(&link->backoff, loop_now_ns(link->loop), random, patience_ns);
	loop_timer_arm(link->loop, &link->retry, loop_now_ns(link->loop) + wait_ns);
	link_set_state(link, LINK_WAITING);
	link_on_clock_set(link);
	if (!was_online)
		return;
	link_topics_offline(link);
	link->ops->on_offline(link->userdata);
	link_requests_offline(link);
	link_awaited_offline(link);
}

void link_reconnect(struct link *link)
{
	link_lost(link, 0);
	/* Our own doing, no failure. */
	backoff_progress(&link->backoff);
	loop_timer_arm(link->loop, &link->retry, loop_now_ns(link->loop));
}

/* --- the session's events --------------------------------------------------------------------- */

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
	link->end = (struct hub_status){.class = HUB_SUCCESS};
	link->clock_matters = false;
	log_once_reset(&link->logged);
	backoff_connected(&link->backoff, loop_now_ns(link->loop));
	link_set_state(link, LINK_ONLINE);
	link_arm_alive(link);
	log_info(link->log, "connected to %s as %s (%s, %s)", link_server(link), link->config->client_id,
		 conn_peer(link->conn), conn_cipher(link->conn));
	link_topics_online(link, limits->session_present);
	link->ops->on_online(link->userdata, limits->session_present);
	loop_defer(link->loop, &link->flush);
	/* The clock can have been set since this attempt was signed; so below. */
	link_on_clock_set(link);
}

static void link_on_puback(void *userdata, uint64_t cookie, const struct mqtt_packet *puback)
{
	struct link *link = userdata;
	struct bytes text = BYTES(NULL, 0), reason = BYTES(NULL, 0);
	struct hub_status status;

	mqtt_user_property_find(puback->properties.repeatable, HUB_PROP_STATUS, &text);
	mqtt_user_property_find(puback->properties.repeatable, HUB_PROP_REASON, &reason);
	status = hub_status_from_packet(puback->ack.reason, text);
	if (status.class == HUB_SUCCESS) {
		backoff_progress(&link->backoff);
		link->n_unauthorized = 0;
	}
	link->ops->on_puback(link->userdata, cookie, &status, reason);
	loop_defer(link->loop, &link->flush);
}

static void link_on_error(void *userdata, uint8_t reason, const char *text)
{
	struct link *link = userdata;

	(void)reason;
	if (mqtt_session_is_authenticating(link->session)) {
		log_info(link->log, "%s does not renew the authentication: %s; connecting anew",
			 link_server(link), text);
		link_reconnect(link);
		return;
	}
	link_error(link, "connection to %s given up: %s", link_server(link), text);
	link_lost(link, 0);
}

static const struct mqtt_session_ops link_session_ops = {
	.on_connack = link_on_connack,
	.on_puback = link_on_puback,
	.on_publish = link_on_publish,
	.on_suback = link_on_suback,
	.on_auth = link_on_auth,
	.on_disconnect = link_on_disconnect,
	.on_error = link_on_error,
};

/* --- the connection's events ------------------------------------------------------------------ */

static void link_on_open(void *userdata)
{
	struct link *link = userdata;
	int r = link_send_connect(link);

	if (r) {
		link_error(link, "cannot make the token for %s: %s", link_server(link), strerror(-r));
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
	link_awaited_check(link);
	loop_defer(link->loop, &link->flush);
}

static void link_on_closed(void *userdata, enum conn_end end, const char *text)
{
	struct link *link = userdata;

	link_awaited_check(link);
	link->conn = NULL;
	if (end == CONN_END_VERIFY)
		link->clock_matters = true;
	if (end == CONN_END_PEER && link->state == LINK_AUTHENTICATING)
		link_error(link, "%s closed the connection without an answer to CONNECT", link_server(link));
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
		.host = link->server[0]        ? link->server
			: config->gateway_host ? config->gateway_host
					       : config->host,
		.port = link->server[0] ? link->server_port : config->port,
		.ops = &link_conn_ops,
		.userdata = link,
	};
	int r;

	assert(!link->conn);
	link->paused = false;
	link->attempted = (struct hub_token){
		.signed_ns = loop_now_ns(link->loop),
		.signed_ms = loop_wall_ms(link->loop),
		.lifetime_ms = config->token_lifetime_s * MSEC_PER_SEC,
	};
	if (!hub_clock_is_set(link->attempted.signed_ms))
		log_write_once(
			link->log, &link->clock_logged, LOG_LEVEL_WARNING,
			"this machine's clock is not set (it is before 2024): signatures and certificates "
			"are not valid until it is");
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
		.topic_alias_maximum = LINK_TOPIC_ALIAS_MAX,
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
	link_topics_init(link);
	link_awaited_init(link);
	session.userdata = link;
	r = link_requests_init(link);
	if (!r)
		r = mqtt_session_new(&link->session, &session);
	if (!r)
		r = link_clock_new(&link->clock, link);
	if (r) {
		mqtt_session_free(link->session);
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
	link_topics_offline(link);
	loop_timer_disarm(&link->alive);
	loop_timer_disarm(&link->retry);
	loop_timer_disarm(&link->request_timer);
	link_awaited_stop(link);
	loop_undefer(&link->flush);
	link->state = LINK_STOPPED;
}

void link_free(struct link *link)
{
	if (!link)
		return;
	link_stop(link);
	link_clock_free(link->clock);
	link_topics_deinit(link);
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
		.n_renewals = link->n_renewals,
		.server = link->server,
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

bool link_last_end(const struct link *link, struct hub_status *out)
{
	if (link->end.class == HUB_SUCCESS)
		return false;
	*out = link->end;
	return true;
}

uint32_t link_packet_bytes_max(const struct link *link)
{
	return link->packet_bytes_max;
}
