/* SPDX-License-Identifier: MIT */
#ifndef NET_CONN_H
#define NET_CONN_H

/*
 * One TLS connection over TCP, seen as a stream of plaintext in both directions; client side (resolve,
 * connect, verify) or server side (an accepted descriptor). It lives once: after it closed, make another.
 * When to try again is for backoff.h and its caller.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "loop/loop.h"

struct conn;
struct tls_context;
struct resolver;

/* Why a connection ended. What to do about it differs, so callers switch on it; the text is for people. */
enum conn_end {
	CONN_END_PEER,    /* the peer closed it in order (close_notify or end of stream after it was open) */
	CONN_END_RESOLVE, /* the host name has no address, or no resolver answers */
	CONN_END_CONNECT, /* no address accepted the connection */
	CONN_END_VERIFY,  /* the certificate chain or host name is not valid */
	CONN_END_TLS,     /* any other TLS failure, including a peer that does not speak TLS */
	CONN_END_IO,      /* the socket failed: reset, timed out, unreachable */
	CONN_END_TIMEOUT, /* resolving, connecting and the handshake took longer than CONN_OPEN_TIMEOUT_NS */
};

struct conn_ops {
	/* The handshake is done and the peer verified: conn_write() is allowed from here on. */
	void (*on_open)(void *userdata);
	/* Plaintext, borrowed until the callback returns. May close the connection. */
	void (*on_data)(void *userdata, struct bytes data);
	/* All that was written has been handed to the kernel. May be NULL. */
	void (*on_drained)(void *userdata);
	/* The connection is over, nothing else will be called; the object is gone when this returns. @text
	 * names the thing that failed and what to do; borrowed. Not called after conn_close(). */
	void (*on_closed)(void *userdata, enum conn_end end, const char *text);
};

/* From conn_connect() to on_open(). */
#define CONN_OPEN_TIMEOUT_NS (UINT64_C(30) * 1000000000)
/* Between attempts to the addresses of one host (RFC 8305 section 5). */
#define CONN_ATTEMPT_DELAY_NS (UINT64_C(250) * 1000000)
/* Ciphertext not yet taken by the kernel: over it conn_write() refuses. */
#define CONN_SEND_MAX (UINT64_C(16) * 1024 * 1024)

struct conn_client_options {
	struct loop *loop;
	struct log *log;
	struct resolver *resolver; /* borrowed, outlives the connection */
	struct tls_context *tls;   /* client context, borrowed, outlives the connection */
	/* DNS name or address literal, copied: SNI and the name that is verified. */
	const char *host;
	/* Where to connect instead (a gateway reached by another name), copied; NULL = @host. */
	const char *connect_host;
	uint16_t port;
	uint64_t open_timeout_ns;   /* 0 = CONN_OPEN_TIMEOUT_NS */
	const struct conn_ops *ops; /* borrowed */
	void *userdata;
};

/* Starts connecting; on_open or on_closed follows, never before this returns. Returns 0, -ENOMEM, or -EINVAL
 * for a host that can be neither a name nor an address. */
int conn_connect(struct conn **out, const struct conn_client_options *options);

/* Takes the descriptor @fd_take also on failure and starts the server's handshake. Returns 0 or -ENOMEM. */
int conn_accept(struct conn **out, struct loop *loop, struct tls_context *tls, int fd_take,
		const struct conn_ops *ops, void *userdata);

/*
 * Encrypts @data and queues it; everything queued in one turn of the loop goes out in one send at its end.
 * Write bundles, not single packets: each call is at least one TLS record. Returns 0, -ENOBUFS when more than
 * CONN_SEND_MAX would wait (nothing was taken), -ENOTCONN when not open (or closing), -EIO when TLS failed
 * (on_closed follows).
 */
int conn_write(struct conn *conn, struct bytes data);

/* Ciphertext bytes the kernel has not taken yet. */
size_t conn_n_queued(const struct conn *conn);

/*
 * Ciphertext bytes written so far, waiting ones included; and how many of them the peer's TCP is known to have: what
 * the kernel took less what it still keeps (one ioctl(2)). It has what was written when the second has reached what
 * the first was then, whatever was written behind it. Valid until on_closed returns.
 */
uint64_t conn_n_written(const struct conn *conn);
uint64_t conn_n_acknowledged(const struct conn *conn);

/* Stops and restarts reading: back-pressure towards the peer. Data already received may still be delivered.
 */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

/* Name the client sent as SNI (server side), or the host (client side); NULL when there is none. Borrowed. */
const char *conn_server_name(const struct conn *conn);
/* `TLSv1.3 TLS_AES_256_GCM_SHA384`, or "" before the handshake ended. Borrowed. */
const char *conn_cipher(const struct conn *conn);
/* `192.0.2.1:8883` or `[2001:db8::1]:8883` of the peer, "" before it is connected. Borrowed. */
const char *conn_peer(const struct conn *conn);

/* Server side, once open: as tls_peer_certificate(). */
struct tls_certificate;
bool conn_peer_certificate(const struct conn *conn, struct tls_certificate *out);

/*
 * Ends the connection: sends what is queued and close_notify, gives up after five seconds, then frees itself.
 * No callback after this, the handle is invalid. NULL is fine. @abort: at once, dropping what is queued.
 */
void conn_close(struct conn *conn);
void conn_abort(struct conn *conn);

#endif
