/* SPDX-License-Identifier: MIT */
/*
 * One TLS connection, see conn.h; how a client gets its socket is in conn_open.c.
 *
 * Receiving: the loop's buffer is given to TLS as it is, and TLS is read until it wants more, one on_data()
 * per record. Then the buffer is used up, or the connection is over and the rest does not matter.
 *
 * Sending: TLS appends to @collecting. At the end of the turn, if nothing is being sent, the two buffers
 * change places and one send takes the whole of @sending; what a short send leaves goes next. Both keep their
 * memory, so a steady stream allocates nothing.
 *
 * Ending: conn_end() and conn_close() cut the owner off first; from then on the object belongs to itself. It
 * lingers if there is something to say (data, close_notify, an alert): a socket closed with unread data is
 * reset by the kernel, which can take with it what was just sent, so the object closes its own direction and
 * reads until the peer closes too, or LINGER_NS passed. Then it is dead: everything in flight is cancelled,
 * and with the last completion it is freed.
 *
 * A failed send does not end the connection at once. The peer's last words (an alert, a DISCONNECT) may still
 * be in the receive queue: they are read first, the socket being shut down so that their end comes for
 * certain.
 */

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/list.h"
#include "base/time.h"
#include "net/conn_internal.h"

#define LINGER_NS (5 * NSEC_PER_SEC)

/* Over CONN_SEND_MAX, for what TLS adds to the last write and for what it says by itself. */
#define OUTPUT_SLACK ((size_t)256 * 1024)

/* An empty buffer that grew beyond this in a burst gives its memory back. */
#define OUTPUT_KEEP ((size_t)1024 * 1024)

/* --- ending ----------------------------------------------------------------------------------- */

const char *conn_name(const struct conn *conn)
{
	return conn->host ? conn->host : conn->peer[0] ? conn->peer : "the client";
}

static void conn_free(struct conn *conn)
{
	assert(!loop_timer_is_armed(&conn->timer) && !list_is_linked(&conn->flush.link));
	if (conn->fd >= 0)
		close(conn->fd);
	tls_free(conn->tls);
	buf_deinit(&conn->sending);
	buf_deinit(&conn->collecting);
	free(conn->connect_host);
	free(conn->host);
	free(conn);
}

void conn_leave(struct conn *conn)
{
	assert(conn->n_entered > 0);
	if (--conn->n_entered == 0 && conn->state == CONN_DEAD && loop_op_is_idle(&conn->recv) &&
	    loop_op_is_idle(&conn->send) && conn_open_is_idle(conn))
		conn_free(conn);
}

static void conn_die(struct conn *conn)
{
	conn->state = CONN_DEAD;
	conn_open_cancel(conn);
	loop_timer_disarm(&conn->timer);
	loop_undefer(&conn->flush);
	loop_op_cancel(conn->loop, &conn->recv);
	loop_op_cancel(conn->loop, &conn->send);
}

/* Receive exactly while somebody wants it; called whenever one of the reasons changed. */
static void conn_update_recv(struct conn *conn)
{
	bool wanted = false;

	switch (conn->state) {
	case CONN_HANDSHAKE:
	case CONN_LINGERING:
	case CONN_SHUT:
		wanted = !conn->peer_ended;
		break;
	case CONN_OPEN:
		wanted = !conn->peer_ended && !conn->paused;
		break;
	case CONN_RESOLVING:
	case CONN_CONNECTING:
	case CONN_DEAD:
		break;
	}
	if (!wanted)
		loop_op_cancel(conn->loop, &conn->recv);
	else if (loop_op_is_idle(&conn->recv))
		loop_op_recv(conn->loop, &conn->recv, conn->fd);
}

static void conn_linger(struct conn *conn)
{
	conn->state = CONN_LINGERING;
	loop_timer_arm(conn->loop, &conn->timer, loop_now_ns(conn->loop) + LINGER_NS);
	loop_defer(conn->loop, &conn->flush);
	conn_update_recv(conn);
}

void conn_end(struct conn *conn, enum conn_end end, const char *text)
{
	const struct conn_ops *ops = conn->ops;
	void *userdata = conn->userdata;

	switch (end) {
	case CONN_END_PEER:
	case CONN_END_VERIFY:
	case CONN_END_TLS:
		tls_close(conn->tls);
		conn_linger(conn);
		break;
	case CONN_END_RESOLVE:
	case CONN_END_CONNECT:
	case CONN_END_IO:
	case CONN_END_TIMEOUT:
		conn_die(conn);
		break;
	}
	ops->on_closed(userdata, end, text);
}

static void conn_end_io(struct conn *conn, int error)
{
	char text[CONN_TEXT_SIZE];

	/* Something that is not TLS resets as often as it closes: the same words as for a close. */
	if (conn->host && conn->state == CONN_HANDSHAKE && (error == ECONNRESET || error == EPIPE))
		snprintf(text, sizeof(text),
			 "%s ended the connection during the TLS handshake; check that the port is the TLS "
			 "port",
			 conn->host);
	else if (conn->host)
		snprintf(text, sizeof(text), "connection to %s (%s) failed: %s", conn->host, conn->peer,
			 strerror(error));
	else
		snprintf(text, sizeof(text), "connection from %s failed: %s", conn_name(conn),
			 strerror(error));
	conn_end(conn, CONN_END_IO, text);
}

static void conn_end_tls(struct conn *conn, enum tls_status status)
{
	bool opened = conn->state == CONN_OPEN;
	enum conn_end end = CONN_END_TLS;

	if (status == TLS_UNTRUSTED)
		end = CONN_END_VERIFY;
	else if (opened && (status == TLS_CLOSED || status == TLS_TRUNCATED))
		end = CONN_END_PEER;
	if (status == TLS_CLOSED)
		conn->peer_ended = true;
	conn_end(conn, end, tls_error(conn->tls));
}

static void on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct conn *conn = container_of(timer, struct conn, timer);
	unsigned long long seconds = conn->timeout_ns / NSEC_PER_SEC;
	char text[CONN_TEXT_SIZE];

	(void)now_ns;
	conn_enter(conn);
	switch (conn->state) {
	case CONN_RESOLVING:
		snprintf(text, sizeof(text),
			 "no DNS server answered for %s within %llu s; check the DNS of this machine",
			 conn_name(conn), seconds);
		conn_end(conn, CONN_END_TIMEOUT, text);
		break;
	case CONN_CONNECTING:
		snprintf(text, sizeof(text),
			 "%s did not answer on port %u within %llu s; check the port and the firewalls on "
			 "the way",
			 conn_name(conn), conn->port, seconds);
		conn_end(conn, CONN_END_TIMEOUT, text);
		break;
	case CONN_HANDSHAKE:
		snprintf(text, sizeof(text), "%s did not finish the TLS handshake within %llu s",
			 conn_name(conn), seconds);
		conn_end(conn, CONN_END_TIMEOUT, text);
		break;
	case CONN_OPEN:
	case CONN_DEAD:
		break;
	case CONN_LINGERING:
	case CONN_SHUT:
		conn_die(conn);
		break;
	}
	conn_leave(conn);
}

/* --- sending ---------------------------------------------------------------------------------- */

size_t conn_n_queued(const struct conn *conn)
{
	return buf_len(&conn->sending) + buf_len(&conn->collecting);
}

uint64_t conn_n_written(const struct conn *conn)
{
	return conn->n_taken + conn_n_queued(conn);
}

/* What a send in flight has handed over is kept by the kernel and not counted as taken yet: until it completes the
 * result can be too small, never too large. */
uint64_t conn_n_acknowledged(const struct conn *conn)
{
	int n_kept;

	if (conn->fd < 0 || ioctl(conn->fd, SIOCOUTQ, &n_kept) < 0 || n_kept < 0)
		return 0;
	return conn->n_taken > (uint64_t)n_kept ? conn->n_taken - (uint64_t)n_kept : 0;
}

static void conn_send_next(struct conn *conn)
{
	struct buf swap;

	if (!loop_op_is_idle(&conn->send) || conn->send_error)
		return;
	if (!buf_len(&conn->sending)) {
		swap = conn->sending;
		conn->sending = conn->collecting;
		conn->collecting = swap;
	}
	if (buf_len(&conn->sending))
		loop_op_send(conn->loop, &conn->send, conn->fd, buf_bytes(&conn->sending));
}

/* The end of a turn in which something was written, sent or ended. */
static void on_flush(struct loop_deferred *deferred)
{
	struct conn *conn = container_of(deferred, struct conn, flush);

	conn_enter(conn);
	switch (conn->state) {
	case CONN_OPEN:
		/* A conn_write() failed, or a send, and nothing will be received that could say so. */
		if (tls_error(conn->tls)[0])
			conn_end(conn, CONN_END_TLS, tls_error(conn->tls));
		else if (conn->send_error && conn->paused)
			conn_end_io(conn, conn->send_error);
		else
			conn_send_next(conn);
		break;
	case CONN_HANDSHAKE:
		conn_send_next(conn);
		break;
	case CONN_LINGERING:
		if (conn_n_queued(conn) && !conn->send_error) {
			conn_send_next(conn);
		} else if (conn->peer_ended || conn->send_error) {
			conn_die(conn);
		} else {
			conn->state = CONN_SHUT;
			shutdown(conn->fd, SHUT_WR);
		}
		break;
	case CONN_SHUT:
		if (conn->peer_ended)
			conn_die(conn);
		break;
	case CONN_RESOLVING:
	case CONN_CONNECTING:
	case CONN_DEAD:
		break;
	}
	conn_leave(conn);
}

static void conn_sent(struct conn *conn, size_t n)
{
	buf_consume(&conn->sending, n);
	conn->n_taken += n;
	if (!buf_len(&conn->sending) && conn->sending.size > OUTPUT_KEEP)
		buf_deinit(&conn->sending);
	loop_defer(conn->loop, &conn->flush);
	if (!conn_n_queued(conn) && conn->state == CONN_OPEN && conn->ops->on_drained)
		conn->ops->on_drained(conn->userdata);
}

static void on_send(struct loop_op *op, int res)
{
	struct conn *conn = container_of(op, struct conn, send);

	conn_enter(conn);
	if (conn->state != CONN_DEAD) {
		if (res >= 0) {
			conn_sent(conn, (size_t)res);
		} else {
			conn->send_error = -res;
			shutdown(conn->fd, SHUT_RDWR);
			loop_defer(conn->loop, &conn->flush);
		}
	}
	conn_leave(conn);
}

int conn_write(struct conn *conn, struct bytes data)
{
	size_t n_queued = conn_n_queued(conn);

	if (conn->state != CONN_OPEN)
		return -ENOTCONN;
	if (conn->send_error || tls_error(conn->tls)[0])
		return -EIO;
	if (data.len > CONN_SEND_MAX || n_queued > CONN_SEND_MAX - data.len)
		return -ENOBUFS;
	loop_defer(conn->loop, &conn->flush);
	return tls_write(conn->tls, data) == TLS_OK ? 0 : -EIO;
}

/* --- receiving -------------------------------------------------------------------------------- */

static void conn_opened(struct conn *conn)
{
	conn->state = CONN_OPEN;
	loop_timer_disarm(&conn->timer);
	conn_update_recv(conn);
	log_debug(conn->log, "%s: %s", conn_name(conn), tls_cipher(conn->tls));
	conn->ops->on_open(conn->userdata);
}

/* Lets TLS go on with what it was given until it wants more or the connection is over. */
static void conn_pump(struct conn *conn)
{
	enum tls_status status = TLS_OK;
	size_t n;

	if (conn->state == CONN_HANDSHAKE) {
		status = tls_handshake(conn->tls);
		if (buf_len(&conn->collecting))
			loop_defer(conn->loop, &conn->flush);
		if (status == TLS_OK)
			conn_opened(conn);
	}
	while (status == TLS_OK && conn->state == CONN_OPEN) {
		status = tls_read(conn->tls, conn->plaintext, sizeof(conn->plaintext), &n);
		if (status == TLS_OK)
			conn->ops->on_data(conn->userdata, BYTES(conn->plaintext, n));
	}
	if (status > TLS_AGAIN && (conn->state == CONN_HANDSHAKE || conn->state == CONN_OPEN))
		conn_end_tls(conn, status);
}

static void conn_received(struct conn *conn, int res, struct bytes data)
{
	if (res > 0) {
		tls_input(conn->tls, data);
		conn_pump(conn);
	} else if (conn->send_error) {
		conn_end_io(conn, conn->send_error);
	} else if (res == 0) {
		tls_input_end(conn->tls);
		conn_pump(conn);
	} else {
		conn_end_io(conn, -res);
	}
}

static void on_recv(struct loop_op *op, int res, struct bytes data)
{
	struct conn *conn = container_of(op, struct conn, recv);

	conn_enter(conn);
	if (res <= 0 && res != -ECANCELED)
		conn->peer_ended = true;
	switch (conn->state) {
	case CONN_HANDSHAKE:
	case CONN_OPEN:
		if (res != -ECANCELED)
			conn_received(conn, res, data);
		break;
	case CONN_LINGERING:
	case CONN_SHUT:
		if (conn->peer_ended)
			loop_defer(conn->loop, &conn->flush);
		break;
	case CONN_RESOLVING:
	case CONN_CONNECTING:
	case CONN_DEAD:
		break;
	}
	conn_update_recv(conn);
	conn_leave(conn);
}

void conn_pause(struct conn *conn)
{
	conn->paused = true;
	conn_update_recv(conn);
	if (conn->send_error)
		loop_defer(conn->loop, &conn->flush);
}

void conn_resume(struct conn *conn)
{
	conn->paused = false;
	conn_update_recv(conn);
}

/* --- life cycle ------------------------------------------------------------------------------- */

static struct conn *conn_new(struct loop *loop, const struct conn_ops *ops, void *userdata)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->loop = loop;
	conn->ops = ops;
	conn->userdata = userdata;
	conn->fd = -1;
	conn->timeout_ns = CONN_OPEN_TIMEOUT_NS;
	buf_init(&conn->sending, CONN_SEND_MAX + OUTPUT_SLACK);
	buf_init(&conn->collecting, CONN_SEND_MAX + OUTPUT_SLACK);
	loop_op_init_recv(&conn->recv, on_recv);
	loop_op_init(&conn->send, on_send);
	loop_timer_init(&conn->timer, on_timer);
	loop_deferred_init(&conn->flush, on_flush);
	conn_open_init(conn);
	return conn;
}

void conn_start(struct conn *conn, int fd_take, const union addr *peer)
{
	int one = 1;

	conn->fd = fd_take;
	conn->state = CONN_HANDSHAKE;
	addr_format(peer, conn->peer);
	/* Bundling is done here, one send a turn; waiting for acknowledgements would only delay it. */
	setsockopt(fd_take, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	conn_update_recv(conn);
	conn_pump(conn);
}

static int conn_connect_init(struct conn *conn, const struct conn_client_options *options)
{
	int r;

	conn->log = options->log;
	conn->port = options->port;
	if (options->open_timeout_ns)
		conn->timeout_ns = options->open_timeout_ns;
	conn->host = strdup(options->host);
	if (options->connect_host)
		conn->connect_host = strdup(options->connect_host);
	if (!conn->host || (options->connect_host && !conn->connect_host))
		return -ENOMEM;
	r = tls_new_client(&conn->tls, options->tls, conn->host, &conn->collecting);
	if (r)
		return r;
	return conn_open_start(conn, options->resolver);
}

int conn_connect(struct conn **out, const struct conn_client_options *options)
{
	struct conn *conn = conn_new(options->loop, options->ops, options->userdata);
	int r = conn ? conn_connect_init(conn, options) : -ENOMEM;

	if (r) {
		if (conn)
			conn_free(conn);
		return r;
	}
	loop_timer_arm(conn->loop, &conn->timer, loop_now_ns(conn->loop) + conn->timeout_ns);
	*out = conn;
	return 0;
}

int conn_accept(struct conn **out, struct loop *loop, struct tls_context *tls, int fd_take,
		const struct conn_ops *ops, void *userdata)
{
	struct conn *conn = conn_new(loop, ops, userdata);
	union addr peer = {.sa.sa_family = AF_UNSPEC};
	socklen_t len = sizeof(peer);

	if (!conn || tls_new_server(&conn->tls, tls, &conn->collecting)) {
		if (conn)
			conn_free(conn);
		close(fd_take);
		return -ENOMEM;
	}
	if (getpeername(fd_take, &peer.sa, &len))
		peer.sa.sa_family = AF_UNSPEC; /* gone already; receiving will say so */
	loop_timer_arm(loop, &conn->timer, loop_now_ns(loop) + conn->timeout_ns);
	conn_start(conn, fd_take, &peer);
	*out = conn;
	return 0;
}

void conn_close(struct conn *conn)
{
	if (!conn)
		return;
	conn_enter(conn);
	if (conn->state == CONN_OPEN) {
		tls_close(conn->tls);
		conn_linger(conn);
	} else {
		conn_die(conn);
	}
	conn_leave(conn);
}

void conn_abort(struct conn *conn)
{
	if (!conn)
		return;
	conn_enter(conn);
	conn_die(conn);
	conn_leave(conn);
}

const char *conn_server_name(const struct conn *conn)
{
	return conn->host ? conn->host : tls_server_name(conn->tls);
}

const char *conn_cipher(const struct conn *conn)
{
	return tls_cipher(conn->tls);
}

bool conn_peer_certificate(const struct conn *conn, struct tls_certificate *out)
{
	return tls_peer_certificate(conn->tls, out);
}

const char *conn_peer(const struct conn *conn)
{
	return conn->peer;
}
