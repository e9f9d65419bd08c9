/* SPDX-License-Identifier: MIT */
#ifndef NET_CONN_INTERNAL_H
#define NET_CONN_INTERNAL_H

/*
 * What conn.c (the life of a connection and its data) and conn_open.c (how a client gets its socket) share.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/addrs.h"
#include "net/conn.h"
#include "net/resolver.h"
#include "net/tls.h"

#define CONN_TEXT_SIZE 768

enum conn_state {
	CONN_RESOLVING,
	CONN_CONNECTING,
	CONN_HANDSHAKE,
	CONN_OPEN,
	CONN_LINGERING, /* the owner is gone: sends what is queued */
	CONN_SHUT,      /* all is sent and our direction closed: waits for the end of the peer's */
	CONN_DEAD,      /* waits for the operations in flight, then goes away */
};

/* One address being tried. */
struct conn_attempt {
	struct conn *conn;
	struct loop_op op;
	int fd;
};

struct conn {
	struct loop *loop;
	struct log *log;
	enum conn_state state;
	unsigned int n_entered; /* callbacks of ours on the stack: do not free */

	const struct conn_ops *ops;
	void *userdata;

	/* Opening, client only. */
	char *host;
	char *connect_host;
	uint16_t port;
	struct resolver_query query;
	struct addrs addrs;
	size_t n_tried;
	struct conn_attempt attempts[ADDRS_MAX];
	struct loop_timer attempt_timer;
	int connect_error; /* of the last attempt that failed, positive */

	struct loop_timer timer; /* until open, and while lingering */
	uint64_t timeout_ns;

	/* The stream. */
	int fd;
	char peer[ADDR_TEXT_SIZE];
	struct tls *tls;
	struct loop_op recv;
	struct loop_op send;
	struct loop_deferred flush;
	struct buf sending;    /* unchanged while @send is in flight */
	struct buf collecting; /* the output of @tls */
	uint64_t n_taken;      /* bytes the kernel took, as far as sends have completed */
	int send_error;        /* positive; nothing is sent any more */
	bool paused;
	bool peer_ended; /* nothing more will be received */
	uint8_t plaintext[TLS_RECORD_MAX];
};

static inline void conn_enter(struct conn *conn)
{
	++conn->n_entered;
}

/* Frees the connection if it is dead and was only waiting for the caller. */
void conn_leave(struct conn *conn);

/* Takes a connected socket and begins with TLS. */
void conn_start(struct conn *conn, int fd_take, const union addr *peer);

/* Tells the owner, who must not be told again. @text is borrowed. */
void conn_end(struct conn *conn, enum conn_end end, const char *text);

/* What people call the other side. */
const char *conn_name(const struct conn *conn);

/* conn_open.c: starts looking the host up; returns 0 or -ENOMEM. */
void conn_open_init(struct conn *conn);
int conn_open_start(struct conn *conn, struct resolver *resolver);
/* Stops what is going on of it; conn_open_is_idle() says when it has stopped. */
void conn_open_cancel(struct conn *conn);
bool conn_open_is_idle(const struct conn *conn);

#endif
