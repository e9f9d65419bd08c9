/* SPDX-License-Identifier: MIT */
#ifndef NET_TLS_H
#define NET_TLS_H

/*
 * TLS 1.2 and 1.3 as a pump: ciphertext of the peer goes in, plaintext comes out, and the other way round. No
 * sockets, no waiting; tls_openssl.c is the only file that knows the library.
 *
 * The client always verifies the whole certificate chain and the host name (or the IP address, when the host
 * is an address literal); nothing turns that off. No renegotiation, no compression, no ALPN.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/log.h"

struct tls;
struct tls_context;

/* What a step of a session came to. From TLS_CLOSED on the session is over and every later step returns the
 * same. */
enum tls_status {
	TLS_OK,
	TLS_AGAIN,     /* all input is used up; give more with tls_input() */
	TLS_CLOSED,    /* the peer said close_notify */
	TLS_TRUNCATED, /* the stream ended without close_notify */
	TLS_UNTRUSTED, /* the peer's certificate chain or name is not valid */
	TLS_FAILED,    /* anything else: not TLS, no common version, a broken record, an alert */
};

/* Largest piece of plaintext one record carries; a tls_read() into this many bytes empties a record. */
#define TLS_RECORD_MAX 16384

/*
 * A client's trust: the certificates in the PEM file @ca_file, or the system's store when it is NULL; read again for
 * the session after one that failed, since that may be because there was no memory for what is in it. Returns
 * 0, -ENOMEM, or, with one line logged that names the file and what to do, -ENOENT, -EACCES or another error
 * of opening it, -EINVAL when there is no certificate in it.
 */
int tls_context_new_client(struct tls_context **out, const char *ca_file, struct log *log);

/*
 * A client shows a certificate to servers that ask for one: the PEM file @cert_file with the chain, leaf first,
 * and its key, an unencrypted file or a URI of OpenSSL's stores (`pkcs11:…`, `file:…`). Whenever the files are
 * others than before, new sessions show what they hold then; files that cannot be used, such as a certificate whose
 * key has not been renewed yet, leave it at what was there before, with a line in @log, which is borrowed. Returns
 * 0, or, with one line logged that names the thing and what to do, a negative errno as above.
 */
int tls_context_use_certificate(struct tls_context *ctx, const char *cert_file, const char *key,
				struct log *log);

/* A server's identity: PEM files with the certificate chain, leaf first, and its unencrypted key. Returns as
 * above. */
int tls_context_new_server(struct tls_context **out, const char *cert_file, const char *key_file,
			   struct log *log);

/*
 * A server asks its clients for a certificate from here on: none or any is fine for the handshake, and what was
 * shown is for tls_peer_certificate() to tell. A chain that ends at one of the certificates in the PEM file
 * @ca_file counts as trusted; can be called again for more files. Sessions are not resumed. Returns as above.
 */
int tls_context_ask_client(struct tls_context *ctx, const char *ca_file, struct log *log);

/* Sessions of it must be gone. NULL is fine. */
void tls_context_free(struct tls_context *ctx);

/*
 * A session. Ciphertext for the peer is appended to @output, which is borrowed and whose bound is the
 * session's bound: running into it is TLS_FAILED. @host is copied: the name or address literal that is
 * verified, and, if a name, sent as SNI. Returns 0 or -ENOMEM; -EINVAL for a @host that can be neither.
 */
int tls_new_client(struct tls **out, struct tls_context *ctx, const char *host, struct buf *output);
int tls_new_server(struct tls **out, struct tls_context *ctx, struct buf *output);

/* NULL is fine. */
void tls_free(struct tls *tls);

/* Ciphertext from the peer, borrowed until tls_handshake() or tls_read() returns anything but TLS_OK. The
 * input given before must be used up. */
void tls_input(struct tls *tls, struct bytes ciphertext);
/* No more input will come. */
void tls_input_end(struct tls *tls);

/* Goes on with the handshake: TLS_OK when it is done (and the peer verified), TLS_AGAIN, or how it ended. */
enum tls_status tls_handshake(struct tls *tls);

/* TLS_OK with 1 to @size bytes in @dst and their number in @n; TLS_AGAIN, or how the session ended. */
enum tls_status tls_read(struct tls *tls, uint8_t *dst, size_t size, size_t *n);

/* Encrypts all of @plaintext (any length) into the output: TLS_OK or TLS_FAILED. Only after the handshake. */
enum tls_status tls_write(struct tls *tls, struct bytes plaintext);

/* Appends close_notify, if the session is in a state to say it. Nothing can be written afterwards. */
void tls_close(struct tls *tls);

/* One line on how the session ended, naming the host and, where there is something, what to do. "" while it
 * lives. */
const char *tls_error(const struct tls *tls);

/* `TLSv1.3 TLS_AES_256_GCM_SHA384`, "" before the end of the handshake. */
const char *tls_cipher(const struct tls *tls);

/* Client: the name sent as SNI, server: the name received; NULL when there is none. */
const char *tls_server_name(const struct tls *tls);

#define TLS_FINGERPRINT_LEN 32
#define TLS_COMMON_NAME_MAX 128

struct tls_certificate {
	bool is_trusted;                          /* the chain is valid now, for a client */
	uint8_t fingerprint[TLS_FINGERPRINT_LEN]; /* SHA-256 of the certificate */
	char common_name[TLS_COMMON_NAME_MAX +
			 1]; /* UTF-8; "" when there is none, or not exactly one that fits */
};

/* Server, after the handshake: the certificate the client showed, or false. */
bool tls_peer_certificate(const struct tls *tls, struct tls_certificate *out);

#endif
