/* SPDX-License-Identifier: MIT */
/*
 * Moves bytes between connections (net/conn.h) and clients (client.h), and time from the loop to both.
 *
 * One port per connection. All that a turn of the loop produces for a connection, acknowledgements above all,
 * is written at its end in one piece. What the connection has not taken stays in the client's bounded output
 * until it has drained.
 *
 * The timer of a port is only ever moved forward to an earlier deadline: a keep-alive that was prolonged is
 * found out when the old time comes. So is that of the commands, which belong to no connection; whatever changes
 * them ends in a flush or in a connection that is gone.
 */

#include "server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "client.h"
#include "deliver.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/tls.h"

/* Ciphertext waiting for the kernel, in bytes: over it the client's own output holds the rest. */
#define QUEUED_MAX (1024u * 1024)
/* The last words of a connection get more room, and the piece a single write takes. */
#define QUEUED_MAX_CLOSING (8u * 1024 * 1024)
#define WRITE_MAX          (256u * 1024)

/* How long the last acknowledgements before a cut may take to leave. */
#define CUT_FLUSH_NS (5 * NSEC_PER_SEC)

#define N_LISTENERS  2

struct emu_server {
	struct loop *loop;
	struct emu_hub *hub;
	struct tls_context *tls;
	struct log *log;
	struct listener *listeners[N_LISTENERS];
	struct list ports;
	struct loop_timer commands;
	bool failed;
	emu_server_stopped_fn stopped_fn; /* set while stopping */
	void *stopped_userdata;
};

_Static_assert(TLS_FINGERPRINT_LEN == THUMBPRINT_LEN && TLS_COMMON_NAME_MAX == EMU_COMMON_NAME_MAX,
	       "a certificate is the same on both layers");

struct port {
	struct emu_server *server;
	struct list link;
	struct conn *conn;
	struct emu_client *client; /* NULL before the handshake is done */
	struct loop_timer timer;
	struct loop_deferred flush;
};

static void port_set_time(struct port *port)
{
	struct emu_server *s = port->server;

	emu_hub_set_time(s->hub, loop_now_ns(s->loop), loop_wall_ms(s->loop));
}

static void timer_arm(struct emu_server *s, struct loop_timer *timer, uint64_t at_ns)
{
	if (at_ns != TIME_NEVER && (!loop_timer_is_armed(timer) || at_ns < timer->at_ns))
		loop_timer_arm(s->loop, timer, at_ns);
}

static void commands_arm(struct emu_server *s)
{
	timer_arm(s, &s->commands, s->hub->commands_due_ns);
}

static void on_commands_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct emu_server *s = container_of(timer, struct emu_server, commands);

	emu_hub_set_time(s->hub, now_ns, loop_wall_ms(s->loop));
	emu_commands_tick(s->hub);
	commands_arm(s);
}

/* The connection is gone or going by itself. */
static void port_free(struct port *port)
{
	struct emu_server *s = port->server;

	loop_undefer(&port->flush);
	loop_timer_disarm(&port->timer);
	emu_client_free(port->client);
	list_remove(&port->link);
	free(port);
	commands_arm(s);
	if (s->stopped_fn && list_is_empty(&s->ports)) {
		emu_server_stopped_fn fn = s->stopped_fn;

		s->stopped_fn = NULL;
		fn(s->stopped_userdata);
	}
}

static void port_abort(struct port *port)
{
	conn_abort(port->conn);
	port_free(port);
}

/* --- output ----------------------------------------------------------------------------------- */

static void port_send(struct port *port, size_t queued_max)
{
	struct bytes out = emu_client_output(port->client);

	while (out.len > 0 && conn_n_queued(port->conn) < queued_max) {
		if (out.len > WRITE_MAX)
			out.len = WRITE_MAX;
		if (conn_write(port->conn, out) < 0)
			return;
		emu_client_sent(port->client, out.len);
		out = emu_client_output(port->client);
	}
}

static void on_flush(struct loop_deferred *deferred)
{
	struct port *port = container_of(deferred, struct port, flush);
	struct emu_server *s = port->server;
	enum emu_closing closing = emu_client_closing(port->client);

	/* What the output says must be true after a crash, too. */
	port_set_time(port);
	if (emu_hub_commit(s->hub) < 0) {
		s->failed = true;
		loop_stop(s->loop);
		return;
	}
	commands_arm(s);
	if (closing != EMU_CUT)
		port_send(port, closing == EMU_OPEN ? QUEUED_MAX : QUEUED_MAX_CLOSING);
	switch (closing) {
	case EMU_OPEN:
		timer_arm(s, &port->timer, emu_client_deadline_ns(port->client));
		break;
	case EMU_CLOSE:
		conn_close(port->conn);
		port_free(port);
		break;
	case EMU_CUT_FLUSH:
		if (emu_client_output(port->client).len == 0 && conn_n_queued(port->conn) == 0)
			port_abort(port);
		else
			timer_arm(s, &port->timer, loop_now_ns(s->loop) + CUT_FLUSH_NS);
		break;
	case EMU_CUT:
		port_abort(port);
		break;
	}
}

static void on_wake(void *userdata)
{
	struct port *port = userdata;

	loop_defer(port->server->loop, &port->flush);
}

static const struct emu_client_ops client_ops = {.on_wake = on_wake};

static void on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct port *port = container_of(timer, struct port, timer);

	(void)now_ns;
	port_set_time(port);
	if (emu_client_closing(port->client) == EMU_CUT_FLUSH)
		emu_client_cut(port->client);
	emu_client_tick(port->client);
	loop_defer(port->server->loop, &port->flush);
}

/* --- connections ------------------------------------------------------------------------------ */

static void certificate_tell(const struct port *port)
{
	struct emu_certificate certificate = {.is_present = true};
	struct tls_certificate shown;

	if (!conn_peer_certificate(port->conn, &shown))
		return;
	certificate.is_trusted = shown.is_trusted;
	memcpy(certificate.thumbprint, shown.fingerprint, sizeof(certificate.thumbprint));
	strcpy(certificate.common_name, shown.common_name);
	emu_client_set_certificate(port->client, &certificate);
}

static void on_open(void *userdata)
{
	struct port *port = userdata;
	struct emu_server *s = port->server;

	port_set_time(port);
	if (emu_client_new(&port->client, s->hub, conn_server_name(port->conn), conn_peer(port->conn),
			   &client_ops, port) < 0) {
		port_abort(port);
		return;
	}
	certificate_tell(port);
	loop_defer(s->loop, &port->flush);
}

static void on_data(void *userdata, struct bytes data)
{
	struct port *port = userdata;

	port_set_time(port);
	emu_client_input(port->client, data);
}

static void on_drained(void *userdata)
{
	struct port *port = userdata;

	loop_defer(port->server->loop, &port->flush);
}

static void on_closed(void *userdata, enum conn_end end, const char *text)
{
	struct port *port = userdata;

	port_set_time(port);
	if (end != CONN_END_PEER)
		log_debug(port->server->log, "%s", text);
	port_free(port);
}

static const struct conn_ops conn_ops = {
	.on_open = on_open,
	.on_data = on_data,
	.on_drained = on_drained,
	.on_closed = on_closed,
};

static void on_accept(void *userdata, int fd_take)
{
	struct emu_server *s = userdata;
	struct port *port = calloc(1, sizeof(*port));

	if (!port) {
		close(fd_take);
		return;
	}
	port->server = s;
	loop_timer_init(&port->timer, on_timer);
	loop_deferred_init(&port->flush, on_flush);
	if (conn_accept(&port->conn, s->loop, s->tls, fd_take, &conn_ops, port) < 0) {
		free(port);
		return;
	}
	list_append(&s->ports, &port->link);
}

/* --- life ------------------------------------------------------------------------------------- */

int emu_server_new(struct emu_server **out, struct loop *loop, struct emu_hub *hub, struct tls_context *tls,
		   struct log *log)
{
	struct emu_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->hub = hub;
	s->tls = tls;
	s->log = log;
	list_init(&s->ports);
	loop_timer_init(&s->commands, on_commands_timer);
	*out = s;
	return 0;
}

static void listeners_free(struct emu_server *s)
{
	for (size_t i = 0; i < N_LISTENERS; i++) {
		listener_free(s->listeners[i]);
		s->listeners[i] = NULL;
	}
}

static void ports_abort(struct emu_server *s)
{
	list_for_each_safe (link, &s->ports)
		port_abort(container_of(link, struct port, link));
}

void emu_server_free(struct emu_server *s)
{
	if (!s)
		return;
	s->stopped_fn = NULL;
	listeners_free(s);
	ports_abort(s);
	loop_timer_disarm(&s->commands);
	free(s);
}

int emu_server_listen(struct emu_server *s, const char *address, uint16_t port)
{
	int r = listener_new(&s->listeners[0], s->loop, address ? address : "127.0.0.1", port, on_accept, s,
			     s->log);

	if (r < 0 || address)
		return r;
	/* Without IPv6 there is no ::1, and nobody will look for it there. */
	listener_new(&s->listeners[1], s->loop, "::1", emu_server_port(s), on_accept, s, NULL);
	return 0;
}

bool emu_server_failed(const struct emu_server *s)
{
	return s->failed;
}

uint16_t emu_server_port(const struct emu_server *s)
{
	return listener_port(s->listeners[0]);
}

static void ports_close(struct emu_server *s)
{
	emu_hub_set_time(s->hub, loop_now_ns(s->loop), loop_wall_ms(s->loop));
	emu_hub_shut_down(s->hub);
	list_for_each_safe (link, &s->ports) {
		struct port *port = container_of(link, struct port, link);

		if (!port->client)
			port_abort(port);
	}
}

void emu_server_stop(struct emu_server *s, emu_server_stopped_fn fn, void *userdata)
{
	bool again = s->stopped_fn != NULL;

	listeners_free(s);
	if (list_is_empty(&s->ports)) {
		fn(userdata);
		return;
	}
	s->stopped_fn = fn;
	s->stopped_userdata = userdata;
	if (again)
		ports_abort(s);
	else
		ports_close(s);
}

void emu_server_cut_devices(struct emu_server *s)
{
	emu_hub_set_time(s->hub, loop_now_ns(s->loop), loop_wall_ms(s->loop));
	emu_hub_cut_devices(s->hub);
}
