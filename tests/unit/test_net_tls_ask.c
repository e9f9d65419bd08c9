/* SPDX-License-Identifier: MIT */
/* A TLS server that asks for a certificate, against OpenSSL clients with and without one. */

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/cleanup.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/certs.h"

#define OUTPUT_MAX (1024u * 1024)

FIXTURE(ask)
{
	struct certs certs;
	struct tls_context *ctx;
	struct tls *tls;
	struct buf output;
	SSL_CTX *client_ctx;
	SSL *client;
	EVP_PKEY *key;
	X509 *cert;
	struct tls_certificate got;
};

FIXTURE_SETUP(ask)
{
	ASSERT_EQ(certs_init(&self->certs), 0);
	ASSERT_EQ(tls_context_new_server(&self->ctx, self->certs.cert_file, self->certs.key_file, NULL), 0);
	ASSERT_EQ(tls_context_ask_client(self->ctx, self->certs.ca_file, NULL), 0);
	self->client_ctx = SSL_CTX_new(TLS_client_method());
	self->key = EVP_EC_gen("P-256");
	ASSERT_TRUE(self->client_ctx && self->key);
}

FIXTURE_TEARDOWN(ask)
{
	certs_deinit(&self->certs);
	if (test_is_orphan())
		return;
	SSL_free(self->client);
	SSL_CTX_free(self->client_ctx);
	EVP_PKEY_free(self->key);
	X509_free(self->cert);
	tls_free(self->tls);
	buf_deinit(&self->output);
	tls_context_free(self->ctx);
}

static void name_add(X509_NAME *name, const char *common_name)
{
	if (common_name)
		X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1,
					   -1, 0);
}

/* A certificate for @self->key, valid from @from_s for a day, signed by itself or by the CA. */
static void cert_make(struct fixture_ask *self, const char *common_name, const char *second, bool by_ca,
		      long from_s)
{
	X509 *cert = X509_new(), *ca = NULL;
	EVP_PKEY *ca_key = NULL;
	FILE *f;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
	X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(cert), from_s + 86400);
	X509_set_pubkey(cert, self->key);
	name_add(X509_get_subject_name(cert), common_name);
	name_add(X509_get_subject_name(cert), second);
	if (by_ca) {
		f = fopen(self->certs.ca_file, "re");
		ca = PEM_read_X509(f, NULL, NULL, NULL);
		fclose(f);
		f = fopen(self->certs.ca_key_file, "re");
		ca_key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
		fclose(f);
		ASSERT_TRUE(ca && ca_key);
	}
	X509_set_issuer_name(cert, ca ? X509_get_subject_name(ca) : X509_get_subject_name(cert));
	ASSERT_GT(X509_sign(cert, ca_key ? ca_key : self->key, EVP_sha256()), 0);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	X509_free(self->cert);
	self->cert = cert;
}

static enum tls_status server_step(struct fixture_ask *self, BIO *from_client)
{
	static uint8_t bytes[65536];
	int n = BIO_read(from_client, bytes, sizeof(bytes));

	if (n > 0)
		tls_input(self->tls, BYTES(bytes, (size_t)n));
	return tls_handshake(self->tls);
}

/* The whole handshake; whether the server has seen a certificate. */
static bool shake(struct fixture_ask *self, int version, bool with_cert)
{
	BIO *to_client = BIO_new(BIO_s_mem()), *from_client = BIO_new(BIO_s_mem());
	enum tls_status status = TLS_AGAIN;
	int done = 0;

	SSL_free(self->client);
	tls_free(self->tls);
	buf_deinit(&self->output);
	buf_init(&self->output, OUTPUT_MAX);
	if (tls_new_server(&self->tls, self->ctx, &self->output) < 0)
		abort();
	self->client = SSL_new(self->client_ctx);
	SSL_set_bio(self->client, to_client, from_client);
	SSL_set_connect_state(self->client);
	SSL_set_max_proto_version(self->client, version);
	if (with_cert &&
	    (!SSL_use_certificate(self->client, self->cert) || !SSL_use_PrivateKey(self->client, self->key)))
		abort();
	for (int i = 0; i < 10 && (done != 1 || status != TLS_OK); i++) {
		if (done != 1)
			done = SSL_do_handshake(self->client);
		if (status != TLS_OK)
			status = server_step(self, from_client);
		BIO_write(to_client, buf_bytes(&self->output).data, (int)buf_len(&self->output));
		buf_consume(&self->output, buf_len(&self->output));
	}
	EXPECT_EQ(done, 1);
	EXPECT_EQ(status, TLS_OK + 0u);
	return tls_peer_certificate(self->tls, &self->got);
}

TEST_F(ask, none_is_fine)
{
	EXPECT_FALSE(shake(self, TLS1_3_VERSION, false));
	EXPECT_FALSE(shake(self, TLS1_2_VERSION, false));
}

TEST_F(ask, a_self_signed_one_is_shown_and_not_trusted)
{
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
	uint8_t fingerprint[EVP_MAX_MD_SIZE];
	unsigned int len;

	cert_make(self, "dev1", NULL, false, -3600);
	ASSERT_TRUE(X509_digest(self->cert, EVP_sha256(), fingerprint, &len));
	for (size_t i = 0; i < 2; i++) {
		ASSERT_TRUE(shake(self, versions[i], true));
		EXPECT_FALSE(self->got.is_trusted);
		EXPECT_MEMEQ(self->got.fingerprint, fingerprint, TLS_FINGERPRINT_LEN);
		EXPECT_STREQ(self->got.common_name, "dev1");
	}
}

TEST_F(ask, one_of_the_authority_is_trusted)
{
	cert_make(self, "dev1", NULL, true, -3600);
	ASSERT_TRUE(shake(self, TLS1_3_VERSION, true));
	EXPECT_TRUE(self->got.is_trusted);
	ASSERT_TRUE(shake(self, TLS1_2_VERSION, true));
	EXPECT_TRUE(self->got.is_trusted);
	EXPECT_STREQ(self->got.common_name, "dev1");
}

TEST_F(ask, out_of_date_is_not_trusted)
{
	cert_make(self, "dev1", NULL, true, 3600);
	ASSERT_TRUE(shake(self, TLS1_3_VERSION, true));
	EXPECT_FALSE(self->got.is_trusted);
	cert_make(self, "dev1", NULL, true, -2 * 86400);
	ASSERT_TRUE(shake(self, TLS1_3_VERSION, true));
	EXPECT_FALSE(self->got.is_trusted);
}

TEST_F(ask, only_a_single_common_name_counts)
{
	cert_make(self, "dev1", "dev2", true, -3600);
	ASSERT_TRUE(shake(self, TLS1_3_VERSION, true));
	EXPECT_STREQ(self->got.common_name, "");
	cert_make(self, NULL, NULL, true, -3600);
	ASSERT_TRUE(shake(self, TLS1_3_VERSION, true));
	EXPECT_STREQ(self->got.common_name, "");
}

TEST_F(ask, a_file_without_a_certificate)
{
	EXPECT_EQ(tls_context_ask_client(self->ctx, "/nonexistent/ca.pem", NULL), -ENOENT);
	EXPECT_EQ(tls_context_ask_client(self->ctx, self->certs.key_file, NULL), -EINVAL);
}

TEST_HARNESS_MAIN
