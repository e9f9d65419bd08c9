/* SPDX-License-Identifier: MIT */
/*
 * A client's private key wherever OpenSSL's stores find it: in a file, and in a token behind a URI. The token is a
 * provider in this process with a store of its own, as one named in openssl.cnf would be: its key is in no file.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>

#include "base/cleanup.h"
#include "net/tls.h"
#include "net/tls_key.h"
#include "tests/harness.h"
#include "tests/support/certs.h"
#include "tests/support/process.h"

#define OUTPUT_MAX (256u * 1024)

/* --- the token -------------------------------------------------------------------------------- */

/* What it holds: a key in DER (PKCS #8). */
static struct token {
	unsigned char *der;
	int len;
	unsigned int n_loaded;
} token;

struct token_session {
	bool is_there;
	bool wants_pin;
	bool done;
};

/* `token:object=x1` is there, and so is `token:object=locked` for those who know the PIN. */
static void *token_open(void *provctx, const char *uri)
{
	struct token_session *s = calloc(1, sizeof(*s));

	(void)provctx;
	s->wants_pin = strcmp(uri, "token:object=locked") == 0;
	s->is_there = s->wants_pin || strcmp(uri, "token:object=x1") == 0;
	return s;
}

static int token_load(void *loaderctx, OSSL_CALLBACK *object_cb, void *object_cbarg,
		      OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
	static char type[] = "EC", structure[] = "PrivateKeyInfo";
	struct token_session *s = loaderctx;
	int object = OSSL_OBJECT_PKEY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &object),
		OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, type, 0),
		OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, structure, 0),
		OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, token.der, (size_t)token.len),
		OSSL_PARAM_construct_end(),
	};
	char pin[16];
	size_t n = 0;

	s->done = true;
	if (!s->is_there || (s->wants_pin && !pw_cb(pin, sizeof(pin), &n, NULL, pw_cbarg)))
		return 0;
	++token.n_loaded;
	return object_cb(params, object_cbarg);
}

static int token_eof(void *loaderctx)
{
	return ((struct token_session *)loaderctx)->done;
}

static int token_close(void *loaderctx)
{
	free(loaderctx);
	return 1;
}

static const OSSL_DISPATCH store_functions[] = {
	{OSSL_FUNC_STORE_OPEN, (void (*)(void))token_open},
	{OSSL_FUNC_STORE_LOAD, (void (*)(void))token_load},
	{OSSL_FUNC_STORE_EOF, (void (*)(void))token_eof},
	{OSSL_FUNC_STORE_CLOSE, (void (*)(void))token_close},
	{0, NULL},
};

static const OSSL_ALGORITHM *provider_query(void *provctx, int operation, int *no_cache)
{
	static const OSSL_ALGORITHM stores[] = {{"token", "provider=token", store_functions, "a token"},
						{NULL, NULL, NULL, NULL}};

	(void)provctx;
	*no_cache = 0;
	return operation == OSSL_OP_STORE ? stores : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
			 void **provctx)
{
	static const OSSL_DISPATCH functions[] = {
		{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))provider_query}, {0, NULL}};

	(void)handle;
	(void)in;
	*out = functions;
	*provctx = &token;
	return 1;
}

/* Moves the key in @key_file into the token; the file is gone then. */
static void token_import(const char *key_file)
{
	FILE *file = fopen(key_file, "re");
	EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
	PKCS8_PRIV_KEY_INFO *info = key ? EVP_PKEY2PKCS8(key) : NULL;

	ASSERT_TRUE(info != NULL);
	OPENSSL_free(token.der);
	token.der = NULL;
	token.len = i2d_PKCS8_PRIV_KEY_INFO(info, &token.der);
	ASSERT_GT(token.len, 0);
	PKCS8_PRIV_KEY_INFO_free(info);
	EVP_PKEY_free(key);
	fclose(file);
	ASSERT_EQ(unlink(key_file), 0);
}

/* --- a handshake ------------------------------------------------------------------------------ */

FIXTURE(key)
{
	struct certs server, device;
	struct tls_context *server_ctx, *ctx;
	struct log log;
	char log_path[CERTS_PATH_SIZE + 8];
	OSSL_PROVIDER *providers[2];
};

FIXTURE_SETUP(key)
{
	ASSERT_EQ(certs_init(&self->server), 0);
	ASSERT_EQ(certs_init(&self->device), 0);
	snprintf(self->log_path, sizeof(self->log_path), "%s.log", self->device.dir);
	self->log = (struct log){.fd = open(self->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
				 .level = LOG_LEVEL_DEBUG};
	ASSERT_GE(self->log.fd, 0);
	ASSERT_EQ(OSSL_PROVIDER_add_builtin(NULL, "token", provider_init), 1);
	self->providers[0] = OSSL_PROVIDER_load(NULL, "default");
	self->providers[1] = OSSL_PROVIDER_load(NULL, "token");
	ASSERT_TRUE(self->providers[0] && self->providers[1]);
	ASSERT_EQ(tls_context_new_server(&self->server_ctx, self->server.cert_file, self->server.key_file,
					 NULL),
		  0);
	ASSERT_EQ(tls_context_ask_client(self->server_ctx, self->device.ca_file, NULL), 0);
	ASSERT_EQ(tls_context_new_client(&self->ctx, self->server.ca_file, NULL), 0);
}

FIXTURE_TEARDOWN(key)
{
	certs_deinit(&self->server);
	certs_deinit(&self->device);
	unlink(self->log_path);
	if (test_is_orphan())
		return;
	tls_context_free(self->server_ctx);
	tls_context_free(self->ctx);
	OPENSSL_free(token.der);
	close(self->log.fd);
	OSSL_PROVIDER_unload(self->providers[1]);
	OSSL_PROVIDER_unload(self->providers[0]);
}

/* One step of one end, with what the other one sent. */
static enum tls_status step(struct tls *tls, struct buf *input)
{
	enum tls_status status;

	if (buf_len(input))
		tls_input(tls, buf_bytes(input));
	status = tls_handshake(tls);
	buf_consume(input, buf_len(input));
	return status;
}

/* Whether a session comes about in which the device shows its certificate, signing with its key; which one, in
 * @got. */
static bool shake(struct fixture_key *self, struct tls_certificate *got)
{
	enum tls_status client_status = TLS_AGAIN, server_status = TLS_AGAIN;
	struct tls *client, *server;
	struct buf to_client, to_server;
	bool shown;

	buf_init(&to_client, OUTPUT_MAX);
	buf_init(&to_server, OUTPUT_MAX);
	ASSERT_EQ(tls_new_client(&client, self->ctx, "localhost", &to_server), 0);
	ASSERT_EQ(tls_new_server(&server, self->server_ctx, &to_client), 0);
	for (int i = 0; i < 10 && (client_status == TLS_AGAIN || server_status == TLS_AGAIN); ++i) {
		if (client_status == TLS_AGAIN)
			client_status = step(client, &to_client);
		if (server_status == TLS_AGAIN)
			server_status = step(server, &to_server);
	}
	EXPECT_EQ(client_status, TLS_OK + 0u);
	EXPECT_EQ(server_status, TLS_OK + 0u);
	shown = tls_peer_certificate(server, got);
	tls_free(client);
	tls_free(server);
	buf_deinit(&to_client);
	buf_deinit(&to_server);
	return shown;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void expect_shown_with_key(struct fixture_key *self, const char *key)
{
	struct tls_certificate got;

	EXPECT_EQ(tls_context_use_certificate(self->ctx, self->device.cert_file, key, &self->log), 0);
	EXPECT_TRUE(shake(self, &got));
}

TEST_F(key, in_a_file)
{
	char uri[CERTS_PATH_SIZE + 32];

	expect_shown_with_key(self, self->device.key_file);
	snprintf(uri, sizeof(uri), "file:%s", self->device.key_file);
	expect_shown_with_key(self, uri);
	snprintf(uri, sizeof(uri), "file://%s", self->device.key_file);
	expect_shown_with_key(self, uri);
}

TEST_F(key, in_a_token_by_uri)
{
	token_import(self->device.key_file);
	expect_shown_with_key(self, "token:object=x1");
	EXPECT_EQ(token.n_loaded, 1u);
}

static void expect_none(struct fixture_key *self, const char *key, const char *text)
{
	_cleanup_(free_ptr) char *log = NULL;
	EVP_PKEY *out = NULL;

	ASSERT_EQ(ftruncate(self->log.fd, 0), 0);
	EXPECT_EQ(tls_key_load(&out, key, NULL, &self->log), -EINVAL);
	EXPECT_TRUE(out == NULL);
	log = text_read(self->log_path);
	EXPECT_CONTAINS(log, text);
	EXPECT_EQ(text_count(log, "\n"), 1u);
}

TEST_F(key, a_token_without_it_or_with_a_pin)
{
	token_import(self->device.key_file);
	expect_none(self, "token:object=x2", "there is no usable private key in \"token:object=x2\"");
	expect_none(self, "token:object=locked", "it must not need a password");
	expect_none(self, "nothing-like-it:object=x1", "a URI needs a provider for it in openssl.cnf");
	EXPECT_EQ(token.n_loaded, 0u);
}

/* The token cannot be watched, but the certificate tells. */
TEST_F(key, renewed_with_a_token)
{
	static const char *const names[] = {"localhost"};
	struct tls_certificate old, new;

	token_import(self->device.key_file);
	EXPECT_EQ(
		tls_context_use_certificate(self->ctx, self->device.cert_file, "token:object=x1", &self->log),
		0);
	ASSERT_TRUE(shake(self, &old));
	ASSERT_TRUE(shake(self, &new));
	EXPECT_EQ(token.n_loaded, 1u);
	ASSERT_EQ(certs_issue(&self->device, names, 1, certs_now_ms()), 0);
	ASSERT_TRUE(shake(self, &new));
	EXPECT_MEMEQ(new.fingerprint, old.fingerprint, TLS_FINGERPRINT_LEN);
	token_import(self->device.key_file);
	ASSERT_TRUE(shake(self, &new));
	EXPECT_NE(memcmp(new.fingerprint, old.fingerprint, TLS_FINGERPRINT_LEN), 0);
}

TEST_HARNESS_MAIN
