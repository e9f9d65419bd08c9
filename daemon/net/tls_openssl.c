/* SPDX-License-Identifier: MIT */
/*
 * tls.h on OpenSSL 3.
 *
 * The library talks to a BIO of our own instead of a socket: reading takes from the bytes tls_input() was
 * given, without a copy in between, writing appends to the owner's output buffer and never blocks. So the
 * only reason to stop is that the input is used up, and one SSL_write takes any amount.
 *
 * struct tls_context is trust or identity, shared by sessions; struct tls is one session. @ended is TLS_OK
 * while the session lives and then how it ended, for good; @text was written together with it.
 *
 * The library keeps what it looked up once: algorithms, certificates it trusts. Where that failed for lack of memory
 * it keeps that there is none, without a word, and finds it no more however much memory there is later. So what a
 * client's sessions are made with, struct library, is made anew after one that failed. All that makes it trust less.
 * What it leaves out that would make it trust more, the name in the certificate, is looked at here once more.
 *
 * Certificate errors are put into words by the verify callback, the one place where the certificate at fault
 * is at hand; the callback never changes the verdict.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "net/addrs.h"
#include "net/tls.h"
#include "net/tls_key.h"
#include "net/tls_verify.h"

#define TEXT_SIZE   640
#define CIPHER_SIZE 80

/* Names are matched against the subject alternative names only (RFC 9525 section 6.3), and a wildcard stands for a whole
 * label. */
#define HOST_FLAGS (X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

/* A file as far as one can see from outside whether it is another one; all zero when it is not there. */
struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

/* The files that hold a client's certificate and its key. */
struct stamps {
	struct stamp cert, key;
};

/* A client's certificate: what sessions show, and where it is from. */
struct identity {
	SSL_CTX *loaded; /* holds certificate, chain and key, and makes no sessions; NULL: there is none */
	char *cert_file;
	char *key; /* a file or a URI */
	struct log *log;
	struct stamps used;  /* of @loaded */
	struct stamps tried; /* when they were read last, even if that was of no use */
};

/* What sessions are made with; there while one of them is. */
struct library {
	unsigned int n_users;
	OSSL_LIB_CTX *own; /* its algorithms; NULL: those of the process */
	SSL_CTX *ssl;
};

struct tls_context {
	struct library *library;
	bool is_suspect; /* client: a session failed, maybe for what is in @library */
	BIO_METHOD *bio;
	char *ca_file; /* NULL: the system's store, or a server */
	struct identity identity;
};

struct tls {
	struct tls_context *ctx;
	struct library *library;
	SSL *ssl;
	char *host; /* NULL on the server side */
	struct bytes input;
	bool input_ended;
	bool client_untrusted;  /* server: what the client showed is no valid chain */
	bool input_seen;        /* @first_bytes are set */
	uint8_t first_bytes[2]; /* of the peer, to tell what is not TLS at all */
	struct buf *output;
	enum tls_status ended;
	char text[TEXT_SIZE];
	char cipher[CIPHER_SIZE]; /* "" until the handshake is done */
};

/* --- the BIO ---------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *dst, int size)
{
	struct tls *tls = BIO_get_data(bio);
	size_t n = size < 0 ? 0 : (size_t)size;

	BIO_clear_retry_flags(bio);
	if (!tls->input.len) {
		if (tls->input_ended)
			return 0;
		BIO_set_retry_read(bio);
		return -1;
	}
	if (n > tls->input.len)
		n = tls->input.len;
	memcpy(dst, tls->input.data, n);
	tls->input.data += n;
	tls->input.len -= n;
	return (int)n;
}

static int bio_write(BIO *bio, const char *src, int len)
{
	struct tls *tls = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (len <= 0 || buf_append(tls->output, BYTES(src, (size_t)len)))
		return -1;
	return len;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	struct tls *tls = BIO_get_data(bio);

	(void)num;
	(void)ptr;
	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return tls->input_ended && !tls->input.len;
	default:
		return 0;
	}
}

static BIO_METHOD *bio_method_new(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "tls pump");

	if (method) {
		BIO_meth_set_read(method, bio_read);
		BIO_meth_set_write(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
	}
	return method;
}

/* --- contexts --------------------------------------------------------------------------------- */

static const char *ssl_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	return reason ? reason : "unknown error";
}

/* A prompt on the terminal would stop a daemon; an encrypted key is an error instead. */
static int no_password(char *buf, int size, int writing, void *userdata)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)userdata;
	return -1;
}

static void library_unref(struct library *library)
{
	if (!library || --library->n_users)
		return;
	SSL_CTX_free(library->ssl);
	OSSL_LIB_CTX_free(library->own);
	free(library);
}

/* As the process's own was: providers may come from there. */
static bool library_configure(OSSL_LIB_CTX *own)
{
	char *file = CONF_get1_default_config_file();
	bool is_done = file && (access(file, R_OK) < 0 || OSSL_LIB_CTX_load_config(own, file));

	OPENSSL_free(file);
	return is_done;
}

/* What the library has for the process, whatever is made anew: the table it looks up a signature's digest in, which may
 * lack some, and what asks for engines, which fails for good if it failed once. */
static bool process_is_ready(void)
{
	static const EVP_MD *(*const digests[])(void) = {EVP_sha1, EVP_sha224, EVP_sha256, EVP_sha384,
							 EVP_sha512};
	ENGINE *engine = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(digests); ++i)
		if (!EVP_get_digestbynid(EVP_MD_get_type(digests[i]())) && !EVP_add_digest(digests[i]()))
			return false;
	ERR_clear_error();
	EVP_PKEY_asn1_find_str(&engine, "RSA", -1);
	return !ERR_peek_error();
}

/* @has_own: nothing in it is from before. NULL: no memory. */
static struct library *library_new(const SSL_METHOD *method, bool has_own)
{
	struct library *library = calloc(1, sizeof(*library));

	if (!library)
		return NULL;
	library->n_users = 1;
	ERR_clear_error();
	if (has_own)
		library->own = OSSL_LIB_CTX_new();
	if (!has_own || (library->own && library_configure(library->own)))
		library->ssl = SSL_CTX_new_ex(library->own, NULL, method);
	if (!library->ssl || !process_is_ready() ||
	    !SSL_CTX_set_min_proto_version(library->ssl, TLS1_2_VERSION)) {
		library_unref(library);
		return NULL;
	}
	SSL_CTX_set_options(library->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_default_passwd_cb(library->ssl, no_password);
	return library;
}

/* The library does not say why it cannot open a file. Returns 0 or the negative errno, logged. */
static int file_check(const char *what, const char *path, const char *advice, struct log *log)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd >= 0)
		return 0;
	r = -errno;
	log_error(log, "cannot read the %s \"%s\": %s; %s", what, path, strerror(-r), advice);
	return r;
}

static int on_verify(int ok, X509_STORE_CTX *store);

static int client_load_trust(SSL_CTX *ssl, const char *ca_file, struct log *log)
{
	static const char advice[] =
		"set \"ca-file\" to a PEM file with the certificate of the CA that signed the hub's";
	int r;

	if (!ca_file)
		return SSL_CTX_set_default_verify_paths(ssl) ? 0 : -ENOMEM;
	r = file_check("CA file", ca_file, advice, log);
	if (r)
		return r;
	if (!SSL_CTX_load_verify_file(ssl, ca_file)) {
		log_error(log, "there is no certificate in the CA file \"%s\": %s; %s", ca_file, ssl_reason(),
			  advice);
		return -EINVAL;
	}
	return 0;
}

static int client_library_new(struct library **out, bool has_own, const char *ca_file, struct log *log)
{
	struct library *library = library_new(TLS_client_method(), has_own);
	int r;

	if (!library)
		return -ENOMEM;
	SSL_CTX_set_verify(library->ssl, SSL_VERIFY_PEER, on_verify);
	r = client_load_trust(library->ssl, ca_file, log);
	if (r) {
		library_unref(library);
		return r;
	}
	*out = library;
	return 0;
}

int tls_context_new_client(struct tls_context **out, const char *ca_file, struct log *log)
{
	struct tls_context *ctx = calloc(1, sizeof(*ctx));
	int r = -ENOMEM;

	if (!ctx)
		return r;
	ctx->bio = bio_method_new();
	ctx->ca_file = ca_file ? strdup(ca_file) : NULL;
	if (ctx->bio && (ctx->ca_file || !ca_file))
		r = client_library_new(&ctx->library, false, ca_file, log);
	if (r) {
		tls_context_free(ctx);
		return r;
	}
	*out = ctx;
	return 0;
}

/* --- a client's certificate ------------------------------------------------------------------- */

static bool timespec_equal(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       timespec_equal(a->mtime, b->mtime) && timespec_equal(a->ctime, b->ctime);
}

static bool stamps_equal(const struct stamps *a, const struct stamps *b)
{
	return stamp_equal(&a->cert, &b->cert) && stamp_equal(&a->key, &b->key);
}

static struct stamp stamp_make(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return (struct stamp){0};
	return (struct stamp){.dev = st.st_dev,
			      .ino = st.st_ino,
			      .size = st.st_size,
			      .mtime = st.st_mtim,
			      .ctime = st.st_ctim};
}

/* The path of the key's file, or the URI of anything else. */
static const char *key_path(const struct identity *id)
{
	if (strncmp(id->key, "file:", 5) != 0)
		return id->key;
	return id->key + (strncmp(id->key, "file://", 7) == 0 ? 7 : 5);
}

/* A URI of anything but a file stays as it is: only its certificate tells that the key is another. */
static struct stamps stamps_make(const struct identity *id)
{
	return (struct stamps){.cert = stamp_make(id->cert_file), .key = stamp_make(key_path(id))};
}

/* Certificate and key from where they are, and whether they are a pair. */
static int identity_read(SSL_CTX *out, const struct identity *id, OSSL_LIB_CTX *own, struct log *log)
{
	EVP_PKEY *pkey;
	int r;

	r = file_check("certificate", id->cert_file,
		       "set \"certificate-file\" to a PEM file with the device's certificate chain", log);
	if (r)
		return r;
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(out, id->cert_file) != 1) {
		log_error(log,
			  "there is no usable certificate in \"%s\": %s; set \"certificate-file\" to a PEM "
			  "file",
			  id->cert_file, ssl_reason());
		return -EINVAL;
	}
	r = tls_key_load(&pkey, id->key, own, log);
	if (r)
		return r;
	if (SSL_CTX_use_PrivateKey(out, pkey) != 1 || SSL_CTX_check_private_key(out) != 1) {
		log_error(log, "the key in \"%s\" is not that of the certificate in \"%s\": %s", id->key,
			  id->cert_file, ssl_reason());
		r = -EINVAL;
	}
	EVP_PKEY_free(pkey);
	return r;
}

/* Replaces what is loaded, or leaves it as it is. */
static int identity_load(struct identity *id, OSSL_LIB_CTX *own, struct log *log)
{
	SSL_CTX *loaded = SSL_CTX_new_ex(own, NULL, TLS_client_method());
	int r;

	if (!loaded)
		return -ENOMEM;
	SSL_CTX_set_default_passwd_cb(loaded, no_password);
	/* Before reading: what changes meanwhile is seen the next time. */
	id->tried = stamps_make(id);
	r = identity_read(loaded, id, own, log);
	if (r) {
		SSL_CTX_free(loaded);
		return r;
	}
	SSL_CTX_free(id->loaded);
	id->loaded = loaded;
	id->used = id->tried;
	return 0;
}

/* Looks whether somebody renewed the certificate. Files that are half renewed or damaged are tried again each time,
 * and complained about once. */
static void identity_refresh(struct identity *id, OSSL_LIB_CTX *own)
{
	struct stamps now = stamps_make(id);
	bool is_news = !stamps_equal(&now, &id->tried);

	if (stamps_equal(&now, &id->used))
		return;
	if (identity_load(id, own, is_news ? id->log : NULL) == 0)
		log_info(id->log, "the certificate in \"%s\" was renewed: new connections use it",
			 id->cert_file);
	else if (is_news)
		log_warning(id->log, "the certificate that was there before stays in use");
}

/* Has the session show it. */
static int identity_show(const struct identity *id, SSL *ssl)
{
	STACK_OF(X509) *chain = NULL;

	SSL_CTX_get0_chain_certs(id->loaded, &chain);
	return SSL_use_cert_and_key(ssl, SSL_CTX_get0_certificate(id->loaded),
				    SSL_CTX_get0_privatekey(id->loaded), chain, 1) == 1
		       ? 0
		       : -ENOMEM;
}

static void identity_deinit(struct identity *id)
{
	SSL_CTX_free(id->loaded);
	free(id->cert_file);
	free(id->key);
	*id = (struct identity){0};
}

int tls_context_use_certificate(struct tls_context *ctx, const char *cert_file, const char *key,
				struct log *log)
{
	struct identity id = {.cert_file = strdup(cert_file), .key = strdup(key), .log = log};
	int r = id.cert_file && id.key ? identity_load(&id, ctx->library->own, log) : -ENOMEM;

	if (r) {
		identity_deinit(&id);
		return r;
	}
	identity_deinit(&ctx->identity);
	ctx->identity = id;
	return 0;
}

/* --- a server's context ----------------------------------------------------------------------- */

static int server_load_identity(struct tls_context *ctx, const char *cert_file, const char *key_file,
				struct log *log)
{
	int r;

	r = file_check("certificate", cert_file, "give a PEM file with the server's certificate chain", log);
	if (!r)
		r = file_check("key", key_file, "give a PEM file with the server's key", log);
	if (r)
		return r;
	if (SSL_CTX_use_certificate_chain_file(ctx->library->ssl, cert_file) != 1) {
		log_error(log, "there is no usable certificate in \"%s\": %s", cert_file, ssl_reason());
		return -EINVAL;
	}
	if (SSL_CTX_use_PrivateKey_file(ctx->library->ssl, key_file, SSL_FILETYPE_PEM) != 1) {
		log_error(log, "there is no usable key in \"%s\" for the certificate in \"%s\": %s", key_file,
			  cert_file, ssl_reason());
		return -EINVAL;
	}
	return 0;
}

int tls_context_new_server(struct tls_context **out, const char *cert_file, const char *key_file,
			   struct log *log)
{
	struct tls_context *ctx = calloc(1, sizeof(*ctx));
	int r = -ENOMEM;

	if (!ctx)
		return r;
	ctx->bio = bio_method_new();
	ctx->library = library_new(TLS_server_method(), false);
	if (ctx->bio && ctx->library)
		r = server_load_identity(ctx, cert_file, key_file, log);
	if (r) {
		tls_context_free(ctx);
		return r;
	}
	*out = ctx;
	return 0;
}

/* Notes that the chain is not trusted, and lets the handshake go on. */
static int on_verify_client(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *tls = SSL_get_app_data(ssl);

	if (!ok)
		tls->client_untrusted = true;
	return 1;
}

int tls_context_ask_client(struct tls_context *ctx, const char *ca_file, struct log *log)
{
	static const char advice[] = "give a PEM file with the certificate of the CA that signs clients'";
	int r = file_check("CA file", ca_file, advice, log);

	if (r)
		return r;
	ERR_clear_error();
	if (!SSL_CTX_load_verify_file(ctx->library->ssl, ca_file)) {
		log_error(log, "there is no certificate in the CA file \"%s\": %s; %s", ca_file, ssl_reason(),
			  advice);
		return -EINVAL;
	}
	/* A resumed session would not show its certificate to on_verify_client(). */
	SSL_CTX_set_session_cache_mode(ctx->library->ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx->library->ssl, SSL_OP_NO_TICKET);
	SSL_CTX_set_num_tickets(ctx->library->ssl, 0);
	SSL_CTX_set_verify(ctx->library->ssl, SSL_VERIFY_PEER, on_verify_client);
	return 0;
}

void tls_context_free(struct tls_context *ctx)
{
	if (!ctx)
		return;
	identity_deinit(&ctx->identity);
	library_unref(ctx->library);
	BIO_meth_free(ctx->bio);
	free(ctx->ca_file);
	free(ctx);
}

/* --- sessions --------------------------------------------------------------------------------- */

static struct tls *tls_new(struct tls_context *ctx, struct buf *output)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	BIO *bio;

	if (!tls)
		return NULL;
	ERR_clear_error();
	tls->ctx = ctx;
	tls->library = ctx->library;
	++tls->library->n_users;
	tls->output = output;
	tls->ssl = SSL_new(ctx->library->ssl);
	bio = tls->ssl ? BIO_new(ctx->bio) : NULL;
	if (!bio) {
		tls_free(tls);
		return NULL;
	}
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	if (!SSL_set_app_data(tls->ssl, tls)) {
		tls_free(tls);
		return NULL;
	}
	return tls;
}

/* Makes the handshake fail unless the certificate is for @host. */
static int tls_expect_host(struct tls *tls, char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);

	if (addr_is_literal(host))
		return X509_VERIFY_PARAM_set1_ip_asc(param, host) ? 0 : -EINVAL;
	X509_VERIFY_PARAM_set_hostflags(param, HOST_FLAGS);
	/* SSL_set_tlsext_host_name() without its cast, which takes a const away. */
	if (!X509_VERIFY_PARAM_set1_host(param, host, 0) ||
	    !SSL_ctrl(tls->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, host))
		return -EINVAL;
	return 0;
}

/* All that sessions are made with, read again. What cannot be leaves it as it is: that was good once. A key that is no
 * file stays with the provider that has it, and so the algorithms do. */
static void context_renew(struct tls_context *ctx)
{
	const struct identity *id = &ctx->identity;
	struct library *library;

	if (client_library_new(&library, !id->loaded || key_path(id)[0] == '/', ctx->ca_file, NULL))
		return;
	if (id->loaded && identity_load(&ctx->identity, library->own, NULL)) {
		library_unref(library);
		return;
	}
	library_unref(ctx->library);
	ctx->library = library;
	ctx->is_suspect = false;
}

static int client_prepare(struct tls *tls, const char *host, size_t len)
{
	struct identity *id = &tls->ctx->identity;
	int r;

	tls->host = strndup(host, len);
	r = tls->host ? tls_expect_host(tls, tls->host) : -ENOMEM;
	if (r || !id->loaded)
		return r;
	identity_refresh(id, tls->library->own);
	return identity_show(id, tls->ssl);
}

int tls_new_client(struct tls **out, struct tls_context *ctx, const char *host, struct buf *output)
{
	struct tls *tls;
	size_t len = strlen(host);
	int r;

	/* The dot that ends an absolute name is of the resolver, not of the name. */
	if (len && host[len - 1] == '.')
		--len;
	if (!len)
		return -EINVAL;
	if (ctx->is_suspect)
		context_renew(ctx);
	tls = tls_new(ctx, output);
	r = tls ? client_prepare(tls, host, len) : -ENOMEM;
	if (r) {
		tls_free(tls);
		ctx->is_suspect = true;
		return r;
	}
	SSL_set_connect_state(tls->ssl);
	*out = tls;
	return 0;
}

int tls_new_server(struct tls **out, struct tls_context *ctx, struct buf *output)
{
	struct tls *tls = tls_new(ctx, output);

	if (!tls)
		return -ENOMEM;
	SSL_set_accept_state(tls->ssl);
	*out = tls;
	return 0;
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	SSL_free(tls->ssl);
	library_unref(tls->library);
	free(tls->host);
	free(tls);
}

/* --- how it ended ----------------------------------------------------------------------------- */

static const char *tls_peer(const struct tls *tls)
{
	return tls->host ? tls->host : "the client";
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *tls = SSL_get_app_data(ssl);

	/* The first error is the cause; later ones follow from it. */
	if (!ok && !tls->text[0])
		tls_verify_describe(store, tls->host, tls->ctx->ca_file, tls->text, sizeof(tls->text));
	return ok;
}

/* A TLS stream begins with a handshake or alert record of major version 3 (RFC 8446 section 5.1). */
static bool tls_is_foreign(const struct tls *tls)
{
	return tls->input_seen && ((tls->first_bytes[0] != 0x16 && tls->first_bytes[0] != 0x15) ||
				   (tls->first_bytes[1] != 0x03 && tls->first_bytes[1] != 0x00));
}

static void tls_describe(struct tls *tls)
{
	int reason = ERR_GET_REASON(ERR_peek_last_error());
	const char *peer = tls_peer(tls);

	if (tls_is_foreign(tls))
		snprintf(tls->text, sizeof(tls->text),
			 "%s does not speak TLS; check that the port is the TLS port", peer);
	else if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_VERSION_TOO_LOW ||
		 reason == SSL_AD_REASON_OFFSET + SSL_AD_PROTOCOL_VERSION)
		snprintf(tls->text, sizeof(tls->text), "%s offers neither TLS 1.2 nor TLS 1.3", peer);
	else if (reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
		snprintf(tls->text, sizeof(tls->text), "%s refused the TLS session: %s", peer,
			 SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
	else
		snprintf(tls->text, sizeof(tls->text), "TLS with %s failed: %s", peer, ssl_reason());
}

static enum tls_status tls_end(struct tls *tls, enum tls_status status)
{
	assert(status > TLS_AGAIN);
	tls->ended = status;
	if (tls->host && (status == TLS_UNTRUSTED || status == TLS_FAILED))
		tls->ctx->is_suspect = true;
	switch (status) {
	case TLS_OK:
	case TLS_AGAIN:
		break;
	case TLS_CLOSED:
		snprintf(tls->text, sizeof(tls->text), "%s closed the connection", tls_peer(tls));
		break;
	case TLS_TRUNCATED:
		if (tls->cipher[0])
			snprintf(tls->text, sizeof(tls->text), "%s cut the connection off", tls_peer(tls));
		else
			snprintf(tls->text, sizeof(tls->text),
				 "%s ended the connection during the TLS handshake; check that the port is "
				 "the TLS port",
				 tls_peer(tls));
		break;
	case TLS_UNTRUSTED: /* worded where it was found */
		break;
	case TLS_FAILED:
		tls_describe(tls);
		break;
	}
	return status;
}

/* What the result @ret of an SSL_* call means. */
static enum tls_status tls_result(struct tls *tls, int ret)
{
	switch (SSL_get_error(tls->ssl, ret)) {
	case SSL_ERROR_NONE:
		return TLS_OK;
	case SSL_ERROR_WANT_READ:
		/* The library asks for more only with nothing left: anything else would stall. */
		return tls->input.len ? tls_end(tls, TLS_FAILED) : TLS_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return tls_end(tls, TLS_CLOSED);
	default:
		break;
	}
	if (tls->text[0])
		return tls_end(tls, TLS_UNTRUSTED);
	if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return tls_end(tls, TLS_TRUNCATED);
	return tls_end(tls, TLS_FAILED);
}

/* --- operations ------------------------------------------------------------------------------- */

void tls_input(struct tls *tls, struct bytes ciphertext)
{
	assert(!tls->input.len);
	tls->input = ciphertext;
	if (!tls->input_seen && ciphertext.len) {
		tls->input_seen = true;
		tls->first_bytes[0] = ciphertext.data[0];
		tls->first_bytes[1] = ciphertext.len > 1 ? ciphertext.data[1] : 0;
	}
}

void tls_input_end(struct tls *tls)
{
	tls->input_ended = true;
}

/* The library has compared the names already, unless it had no memory for its copy of @tls->host: then it leaves that out
 * and trusts every name. */
static bool peer_is_expected(const struct tls *tls)
{
	X509 *cert = SSL_get0_peer_certificate(tls->ssl);

	if (!cert || SSL_get_verify_result(tls->ssl) != X509_V_OK)
		return false;
	if (addr_is_literal(tls->host))
		return X509_check_ip_asc(cert, tls->host, 0) == 1;
	return X509_check_host(cert, tls->host, 0, HOST_FLAGS, NULL) == 1;
}

enum tls_status tls_handshake(struct tls *tls)
{
	enum tls_status status;

	if (tls->ended)
		return tls->ended;
	ERR_clear_error();
	/* The library would take such bytes for the head of a record and wait for the rest of it. */
	if (tls_is_foreign(tls))
		return tls_end(tls, TLS_FAILED);
	status = tls_result(tls, SSL_do_handshake(tls->ssl));
	if (status == TLS_OK && tls->host && !peer_is_expected(tls)) {
		snprintf(tls->text, sizeof(tls->text), "the certificate of %s could not be checked",
			 tls->host);
		return tls_end(tls, TLS_UNTRUSTED);
	}
	if (status == TLS_OK)
		snprintf(tls->cipher, sizeof(tls->cipher), "%s %s", SSL_get_version(tls->ssl),
			 SSL_get_cipher_name(tls->ssl));
	return status;
}

enum tls_status tls_read(struct tls *tls, uint8_t *dst, size_t size, size_t *n)
{
	if (tls->ended)
		return tls->ended;
	ERR_clear_error();
	return tls_result(tls, SSL_read_ex(tls->ssl, dst, size, n));
}

enum tls_status tls_write(struct tls *tls, struct bytes plaintext)
{
	enum tls_status status;
	size_t n;

	if (tls->ended)
		return TLS_FAILED;
	if (!plaintext.len)
		return TLS_OK;
	ERR_clear_error();
	status = tls_result(tls, SSL_write_ex(tls->ssl, plaintext.data, plaintext.len, &n));
	assert(status != TLS_AGAIN);
	return status == TLS_OK ? TLS_OK : TLS_FAILED;
}

void tls_close(struct tls *tls)
{
	/* In a handshake or after an error the alert that fits is out already. */
	if ((tls->ended != TLS_OK && tls->ended != TLS_CLOSED) || !tls->cipher[0])
		return;
	ERR_clear_error();
	SSL_shutdown(tls->ssl);
}

const char *tls_error(const struct tls *tls)
{
	return tls->text;
}

const char *tls_cipher(const struct tls *tls)
{
	return tls->cipher;
}

const char *tls_server_name(const struct tls *tls)
{
	return SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
}

/* The only common name of the subject, when it fits and is one string. */
static void common_name_of(X509 *cert, char out[static TLS_COMMON_NAME_MAX + 1])
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *text = NULL;
	int len;

	out[0] = '\0';
	if (i < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, i) >= 0)
		return;
	len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
	if (len > 0 && len <= TLS_COMMON_NAME_MAX && !memchr(text, '\0', (size_t)len)) {
		memcpy(out, text, (size_t)len);
		out[len] = '\0';
	}
	OPENSSL_free(text);
}

bool tls_peer_certificate(const struct tls *tls, struct tls_certificate *out)
{
	X509 *cert = SSL_get0_peer_certificate(tls->ssl);
	unsigned int len = TLS_FINGERPRINT_LEN;

	if (!cert || !X509_digest(cert, EVP_sha256(), out->fingerprint, &len) || len != TLS_FINGERPRINT_LEN)
		return false;
	out->is_trusted = !tls->client_untrusted && SSL_get_verify_result(tls->ssl) == X509_V_OK;
	common_name_of(cert, out->common_name);
	return true;
}
