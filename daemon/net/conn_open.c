/* SPDX-License-Identifier: MIT */
/*
 * How a client connection gets its socket: look the host up, then connect to its addresses one after the
 * other, the next one when an attempt failed or CONN_ATTEMPT_DELAY_NS after the last began, whichever is
 * first. The first to connect wins; the others are cancelled and closed as they end (RFC 8305, "happy
 * eyeballs").
 *
 * An attempt owns its descriptor while its operation is in flight and closes it in the callback.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "net/conn_internal.h"

static void conn_try_next(struct conn *conn);

static const char *connect_host(const struct conn *conn)
{
	return conn->connect_host ? conn->connect_host : conn->host;
}

static const char *connect_advice(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return "; check the host name and the port, and that the hub is running";
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EADDRNOTAVAIL:
		return "; check the network of this machine";
	default:
		return "";
	}
}

static bool attempts_are_idle(const struct conn *conn)
{
	for (size_t i = 0; i < conn->n_tried; ++i)
		if (!loop_op_is_idle(&conn->attempts[i].op))
			return false;
	return true;
}

static void conn_end_unconnected(struct conn *conn)
{
	char text[CONN_TEXT_SIZE], addr[ADDR_TEXT_SIZE];
	const char *advice = connect_advice(conn->connect_error);

	addr_format(&conn->addrs.list[conn->addrs.n - 1], addr);
	if (conn->addrs.n == 1)
		snprintf(text, sizeof(text), "cannot connect to %s (%s): %s%s", connect_host(conn), addr,
			 strerror(conn->connect_error), advice);
	else
		snprintf(text, sizeof(text),
			 "cannot connect to any of the %zu addresses of %s, last %s: %s%s", conn->addrs.n,
			 connect_host(conn), addr, strerror(conn->connect_error), advice);
	conn_end(conn, CONN_END_CONNECT, text);
}

static void on_attempt(struct loop_op *op, int res)
{
	struct conn_attempt *attempt = container_of(op, struct conn_attempt, op);
	_cleanup_(close_fd) int fd = TAKE_FD(attempt->fd);
	struct conn *conn = attempt->conn;

	conn_enter(conn);
	if (conn->state == CONN_CONNECTING && res == 0) {
		conn_open_cancel(conn);
		conn_start(conn, TAKE_FD(fd), &conn->addrs.list[attempt - conn->attempts]);
	} else if (conn->state == CONN_CONNECTING) {
		conn->connect_error = -res;
		conn_try_next(conn);
	}
	conn_leave(conn);
}

/* Begins with the next address there can be a socket for; ends the connection when that was the last one. */
static void conn_try_next(struct conn *conn)
{
	loop_timer_disarm(&conn->attempt_timer);
	while (conn->n_tried < conn->addrs.n) {
		struct conn_attempt *attempt = &conn->attempts[conn->n_tried];
		const union addr *addr = &conn->addrs.list[conn->n_tried++];

		attempt->fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (attempt->fd < 0) {
			conn->connect_error = errno;
			continue;
		}
		loop_op_connect(conn->loop, &attempt->op, attempt->fd, &addr->sa, addr_len(addr));
		if (conn->n_tried < conn->addrs.n)
			loop_timer_arm(conn->loop, &conn->attempt_timer,
				       loop_now_ns(conn->loop) + CONN_ATTEMPT_DELAY_NS);
		return;
	}
	if (attempts_are_idle(conn))
		conn_end_unconnected(conn);
}

static void on_attempt_delay(struct loop_timer *timer, uint64_t now_ns)
{
	struct conn *conn = container_of(timer, struct conn, attempt_timer);

	(void)now_ns;
	conn_enter(conn);
	conn_try_next(conn);
	conn_leave(conn);
}

static void on_resolved(struct resolver_query *query, const struct addrs *addrs, const char *error)
{
	struct conn *conn = container_of(query, struct conn, query);
	char text[CONN_TEXT_SIZE];

	conn_enter(conn);
	if (addrs) {
		conn->addrs = *addrs;
		conn->state = CONN_CONNECTING;
		conn_try_next(conn);
	} else {
		snprintf(text, sizeof(text),
			 "no address found for %s: %s; check the host name and the DNS of this machine",
			 connect_host(conn), error);
		conn_end(conn, CONN_END_RESOLVE, text);
	}
	conn_leave(conn);
}

void conn_open_init(struct conn *conn)
{
	for (size_t i = 0; i < ADDRS_MAX; ++i) {
		conn->attempts[i].conn = conn;
		conn->attempts[i].fd = -1;
		loop_op_init(&conn->attempts[i].op, on_attempt);
	}
	loop_timer_init(&conn->attempt_timer, on_attempt_delay);
	resolver_query_init(&conn->query, on_resolved);
}

int conn_open_start(struct conn *conn, struct resolver *resolver)
{
	conn->state = CONN_RESOLVING;
	return resolver_lookup(resolver, &conn->query, connect_host(conn), conn->port);
}

void conn_open_cancel(struct conn *conn)
{
	resolver_cancel(&conn->query);
	loop_timer_disarm(&conn->attempt_timer);
	for (size_t i = 0; i < conn->n_tried; ++i)
		loop_op_cancel(conn->loop, &conn->attempts[i].op);
}

bool conn_open_is_idle(const struct conn *conn)
{
	return !resolver_query_is_pending(&conn->query) && attempts_are_idle(conn);
}
