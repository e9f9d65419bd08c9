/* SPDX-License-Identifier: MIT */
/*
 * TLS over memory: client against server with every fragmentation, all that verification has to refuse,
 * foreign peers (an OpenSSL client or server made here), ends in order and out of order.
 */

#include <fcntl.h>
#include <sys/stat.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/certs.h"

#define DAY_MS     (UINT64_C(24) * 3600 * 1000)
#define OUTPUT_MAX (4u * 1024 * 1024)

/* One end of a session: what it wants to send, and what it received. */
struct end {
	struct tls *tls;
	struct buf output;
	struct buf received;
	bool open;
	int status; /* enum tls_status of the last step */
};

FIXTURE(tls)
{
	struct certs certs;
	struct log log;
	int log_pipe[2];
	struct tls_context *client_ctx, *server_ctx;
	struct end client, server;
};

FIXTURE_SETUP(tls)
{
	ASSERT_EQ(pipe2(self->log_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	self->log = (struct log){.fd = self->log_pipe[1], .level = LOG_LEVEL_DEBUG};
	ASSERT_EQ(certs_init(&self->certs), 0);
	ASSERT_EQ(tls_context_new_client(&self->client_ctx, self->certs.ca_file, &self->log), 0);
	ASSERT_EQ(tls_context_new_server(&self->server_ctx, self->certs.cert_file, self->certs.key_file,
					 &self->log),
		  0);
}

static void end_deinit(struct end *e)
{
	tls_free(TAKE_PTR(e->tls));
	buf_deinit(&e->output);
	buf_deinit(&e->received);
	memset(e, 0, sizeof(*e));
}

FIXTURE_TEARDOWN(tls)
{
	certs_deinit(&self->certs);
	if (test_is_orphan())
		return;
	end_deinit(&self->client);
	end_deinit(&self->server);
	tls_context_free(self->client_ctx);
	tls_context_free(self->server_ctx);
	close(self->log_pipe[0]);
	close(self->log_pipe[1]);
}

/* --- two ends --------------------------------------------------------------------------------- */

static void end_init(struct end *e)
{
	buf_init(&e->output, OUTPUT_MAX);
	buf_init(&e->received, OUTPUT_MAX);
	e->open = false;
	e->status = TLS_AGAIN;
}

static void ends_init(struct fixture_tls *self, const char *host)
{
	end_deinit(&self->client);
	end_deinit(&self->server);
	end_init(&self->client);
	end_init(&self->server);
	ASSERT_EQ(tls_new_client(&self->client.tls, self->client_ctx, host, &self->client.output), 0);
	ASSERT_EQ(tls_new_server(&self->server.tls, self->server_ctx, &self->server.output), 0);
}

/* Goes on until more input is needed or the session is over. */
static void end_run(struct end *e)
{
	uint8_t data[TLS_RECORD_MAX];
	size_t n;

	e->status = TLS_OK;
	if (!e->open) {
		e->status = (int)tls_handshake(e->tls);
		e->open = e->status == TLS_OK;
	}
	while (e->status == TLS_OK) {
		e->status = (int)tls_read(e->tls, data, sizeof(data), &n);
		if (e->status == TLS_OK)
			ASSERT_EQ(buf_append(&e->received, BYTES(data, n)), 0);
	}
}

/* Gives @n bytes of @from to @to, in pieces of @piece bytes (0: of random length). */
static void end_feed(struct end *to, struct buf *from, size_t n, size_t piece)
{
	while (n) {
		size_t len = piece ? piece : 1 + (size_t)(test_random() % 3000);

		len = len < n ? len : n;
		tls_input(to->tls, BYTES(buf_bytes(from).data, len));
		end_run(to);
		buf_consume(from, len);
		n -= len;
		if (to->status != TLS_AGAIN)
			return;
	}
}

/* Lets both ends talk until neither has anything to say or one is over. */
static void ends_run(struct fixture_tls *self, size_t piece)
{
	if (!self->client.open)
		end_run(&self->client);
	while (buf_len(&self->client.output) || buf_len(&self->server.output)) {
		if (self->server.status > TLS_AGAIN)
			buf_consume(&self->client.output, buf_len(&self->client.output));
		end_feed(&self->server, &self->client.output, buf_len(&self->client.output), piece);
		if (self->client.status > TLS_AGAIN)
			buf_consume(&self->server.output, buf_len(&self->server.output));
		end_feed(&self->client, &self->server.output, buf_len(&self->server.output), piece);
	}
}

static void ends_open(struct fixture_tls *self, const char *host)
{
	ends_init(self, host);
	ends_run(self, 0);
	ASSERT_STREQ(tls_error(self->client.tls), "");
	ASSERT_STREQ(tls_error(self->server.tls), "");
	ASSERT_TRUE(self->client.open && self->server.open);
}

static void expect_received(const struct end *e, struct bytes want)
{
	ASSERT_EQ(buf_len(&e->received), want.len);
	EXPECT_MEMEQ(buf_bytes(&e->received).data, want.data, want.len);
}

/* --- data ------------------------------------------------------------------------------------- */

static void exchange(struct fixture_tls *self, size_t piece)
{
	static const size_t lengths[] = {1,    2, 100, TLS_RECORD_MAX - 1, TLS_RECORD_MAX, TLS_RECORD_MAX + 1,
					 50000};
	static uint8_t data[200000];
	size_t n = 0;

	for (size_t i = 0; i < sizeof(data); ++i)
		data[i] = (uint8_t)test_random();
	ends_init(self, "hub.test");
	ends_run(self, piece);
	ASSERT_TRUE(self->client.open && self->server.open);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); ++i) {
		ASSERT_EQ((int)tls_write(self->client.tls, BYTES(data + n, lengths[i])), TLS_OK);
		ASSERT_EQ((int)tls_write(self->server.tls, BYTES(data + n, lengths[i])), TLS_OK);
		n += lengths[i];
		if (i % 2)
			ends_run(self, piece);
	}
	ends_run(self, piece);
	expect_received(&self->server, BYTES(data, n));
	expect_received(&self->client, BYTES(data, n));
}

TEST_F(tls, any_fragmentation_gives_the_same)
{
	static const size_t pieces[] = {1, 2, 3, 5, 6, 7, 64, 1000, 16384, 1 << 20};

	for (size_t i = 0; i < ARRAY_SIZE(pieces); ++i) {
		TEST_LOG("pieces of %zu", pieces[i]);
		exchange(self, pieces[i]);
	}
	for (int i = 0; i < 20; ++i)
		exchange(self, 0);
}

TEST_F(tls, names_what_was_agreed)
{
	ends_init(self, "hub.test");
	EXPECT_STREQ(tls_cipher(self->client.tls), "");
	ends_run(self, 0);
	EXPECT_CONTAINS(tls_cipher(self->client.tls), "TLSv1.3 TLS_");
	EXPECT_STREQ(tls_cipher(self->client.tls), tls_cipher(self->server.tls));
	EXPECT_STREQ(tls_server_name(self->server.tls), "hub.test");
}

TEST_F(tls, empty_write_is_nothing)
{
	ends_open(self, "hub.test");
	EXPECT_EQ((int)tls_write(self->client.tls, BYTES(NULL, 0)), TLS_OK);
	EXPECT_EQ(buf_len(&self->client.output), 0u);
}

TEST_F(tls, output_beyond_its_bound_fails)
{
	static uint8_t data[OUTPUT_MAX];

	ends_open(self, "hub.test");
	EXPECT_EQ((int)tls_write(self->client.tls, BYTES(data, sizeof(data))), TLS_FAILED);
	EXPECT_CONTAINS(tls_error(self->client.tls), "TLS with hub.test failed");
	EXPECT_EQ((int)tls_write(self->client.tls, BYTES_LIT("more")), TLS_FAILED);
	EXPECT_LE(buf_len(&self->client.output), OUTPUT_MAX);
}

/* --- verification ----------------------------------------------------------------------------- */

static void expect_refused(struct fixture_tls *self, const char *host, const char *text)
{
	ends_init(self, host);
	ends_run(self, 0);
	EXPECT_EQ(self->client.status, TLS_UNTRUSTED);
	EXPECT_FALSE(self->client.open);
	TEST_LOG("%s", tls_error(self->client.tls));
	EXPECT_CONTAINS(tls_error(self->client.tls), text);
	/* The server is told, and nothing can be said any more. */
	EXPECT_EQ(self->server.status, TLS_FAILED);
	EXPECT_CONTAINS(tls_error(self->server.tls), "the client refused the TLS session: ");
	EXPECT_EQ((int)tls_handshake(self->client.tls), TLS_UNTRUSTED);
	EXPECT_EQ((int)tls_write(self->client.tls, BYTES_LIT("secret")), TLS_FAILED);
	tls_close(self->client.tls);
	EXPECT_EQ(buf_len(&self->client.output), 0u);
}

/* The server's certificate becomes another. */
static void serve(struct fixture_tls *self, const char *cert_file, const char *key_file)
{
	end_deinit(&self->client);
	end_deinit(&self->server);
	tls_context_free(self->server_ctx);
	ASSERT_EQ(tls_context_new_server(&self->server_ctx, cert_file, key_file, &self->log), 0);
}

/* What the client trusts becomes another. */
static void trust(struct fixture_tls *self, const char *ca_file)
{
	end_deinit(&self->client);
	end_deinit(&self->server);
	tls_context_free(self->client_ctx);
	ASSERT_EQ(tls_context_new_client(&self->client_ctx, ca_file, &self->log), 0);
}

static void issue(struct fixture_tls *self, const char *name, uint64_t now_ms)
{
	ASSERT_EQ(certs_issue(&self->certs, &name, 1, now_ms), 0);
	serve(self, self->certs.cert_file, self->certs.key_file);
}

TEST_F(tls, accepts_every_name_of_the_certificate)
{
	static const char *const hosts[] = {"localhost", "hub.test", "HUB.test", "hub.test.",
					    "127.0.0.1", "::1",      "0:0::1"};

	for (size_t i = 0; i < ARRAY_SIZE(hosts); ++i)
		ends_open(self, hosts[i]);
}

TEST_F(tls, refuses_every_other_name)
{
	static const char *const hosts[] = {"hub.tes",   "hub.test2", "a.hub.test",    "test",
					    "127.0.0.2", "::2",       "127.0.0.1.test"};

	for (size_t i = 0; i < ARRAY_SIZE(hosts); ++i)
		expect_refused(self, hosts[i],
			       "certificate is for localhost, hub.test, 127.0.0.1, ::1, not for ");
}

TEST_F(tls, wildcard_is_one_whole_label)
{
	issue(self, "*.hub.test", certs_now_ms());
	ends_open(self, "a.hub.test");
	expect_refused(self, "a.b.hub.test", "certificate is for *.hub.test, not for a.b.hub.test");
	expect_refused(self, "hub.test", "certificate is for *.hub.test");
}

/* Makes the server's certificate say @name in its subject, and have no alternative names. */
static void issue_subject_only(struct fixture_tls *self, const char *name)
{
	FILE *ca_file = fopen(self->certs.ca_file, "r"), *ca_key_file = fopen(self->certs.ca_key_file, "r");
	FILE *cert_file = fopen(self->certs.cert_file, "w"), *key_file = fopen(self->certs.key_file, "w");
	X509 *ca = PEM_read_X509(ca_file, NULL, NULL, NULL), *cert = X509_new();
	EVP_PKEY *ca_key = PEM_read_PrivateKey(ca_key_file, NULL, NULL, NULL), *key = EVP_EC_gen("P-256");

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(ca));
	ASSERT_GT(X509_sign(cert, ca_key, EVP_sha256()), 0);
	ASSERT_EQ(PEM_write_X509(cert_file, cert), 1);
	ASSERT_EQ(PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(ca_file);
	fclose(ca_key_file);
	fclose(cert_file);
	fclose(key_file);
	X509_free(ca);
	X509_free(cert);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
	serve(self, self->certs.cert_file, self->certs.key_file);
}

TEST_F(tls, name_in_the_subject_does_not_count)
{
	issue_subject_only(self, "hub.test");
	expect_refused(self, "hub.test", "certificate is for no host name, not for hub.test");
}

TEST_F(tls, refuses_a_stranger)
{
	struct certs other;

	ASSERT_EQ(certs_init(&other), 0);
	trust(self, other.ca_file);
	expect_refused(self, "hub.test", "certificate of hub.test is not trusted: ");
	EXPECT_CONTAINS(tls_error(self->client.tls), other.ca_file);
	certs_deinit(&other);
}

TEST_F(tls, refuses_what_the_system_does_not_trust)
{
	trust(self, NULL);
	expect_refused(self, "hub.test", "set \"ca-file\" to the CA that signed it");
}

TEST_F(tls, refuses_outside_of_the_dates)
{
	issue(self, "hub.test", certs_now_ms() - 400 * DAY_MS);
	expect_refused(self, "hub.test", "certificate of hub.test expired on 20");
	issue(self, "hub.test", certs_now_ms() + 2 * DAY_MS);
	expect_refused(self, "hub.test", "certificate of hub.test is not valid before 20");
	EXPECT_CONTAINS(tls_error(self->client.tls), "set the clock");
}

static void file_append(const char *path, const char *from)
{
	_cleanup_(fclose_ptr) FILE *out = fopen(path, "a");
	_cleanup_(fclose_ptr) FILE *in = fopen(from, "r");
	char text[8192];
	size_t n = fread(text, 1, sizeof(text), in);

	ASSERT_GT(n, 0u);
	ASSERT_EQ(fwrite(text, 1, n, out), n);
}

TEST_F(tls, server_may_not_vouch_for_another)
{
	/* The key of a server with a good certificate signs one for another name, and sends both. */
	struct certs fake = self->certs;
	const char *name = "victim.test";

	snprintf(fake.ca_file, sizeof(fake.ca_file), "%s", self->certs.cert_file);
	snprintf(fake.ca_key_file, sizeof(fake.ca_key_file), "%s", self->certs.key_file);
	snprintf(fake.cert_file, sizeof(fake.cert_file), "%s/fake.pem", self->certs.dir);
	snprintf(fake.key_file, sizeof(fake.key_file), "%s/fake.key", self->certs.dir);
	ASSERT_EQ(certs_issue(&fake, &name, 1, certs_now_ms()), 0);
	file_append(fake.cert_file, self->certs.cert_file);
	serve(self, fake.cert_file, fake.key_file);
	expect_refused(self, "victim.test",
		       "certificate of the CA \"localhost\" of victim.test is not valid: invalid CA");
	unlink(fake.cert_file);
	unlink(fake.key_file);
}

TEST_F(tls, host_must_be_a_name_or_address)
{
	char name[300];
	struct tls *tls;
	struct buf output;

	buf_init(&output, OUTPUT_MAX);
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	EXPECT_EQ(tls_new_client(&tls, self->client_ctx, "", &output), -EINVAL);
	EXPECT_EQ(tls_new_client(&tls, self->client_ctx, ".", &output), -EINVAL);
	EXPECT_EQ(tls_new_client(&tls, self->client_ctx, name, &output), -EINVAL);
}

/* --- ends ------------------------------------------------------------------------------------- */

TEST_F(tls, close_notify_is_an_orderly_end)
{
	ends_open(self, "hub.test");
	ASSERT_EQ((int)tls_write(self->client.tls, BYTES_LIT("bye")), TLS_OK);
	tls_close(self->client.tls);
	ends_run(self, 1);
	expect_received(&self->server, BYTES_LIT("bye"));
	EXPECT_EQ(self->server.status, TLS_CLOSED);
	EXPECT_STREQ(tls_error(self->server.tls), "the client closed the connection");
	tls_close(self->server.tls);
	EXPECT_GT(buf_len(&self->server.output), 0u);
	ends_run(self, 1);
	EXPECT_EQ(self->client.status, TLS_CLOSED);
}

TEST_F(tls, truncated_stream_is_not_an_orderly_end)
{
	/* The end comes between records, inside one, and before anything at all. */
	for (size_t n_missing = 0; n_missing < 3; ++n_missing) {
		ends_open(self, "hub.test");
		ASSERT_EQ((int)tls_write(self->server.tls, BYTES_LIT("data")), TLS_OK);
		end_feed(&self->client, &self->server.output, buf_len(&self->server.output) - n_missing, 0);
		tls_input_end(self->client.tls);
		end_run(&self->client);
		EXPECT_EQ(self->client.status, TLS_TRUNCATED);
		EXPECT_STREQ(tls_error(self->client.tls), "hub.test cut the connection off");
	}
}

TEST_F(tls, end_in_the_handshake_is_told)
{
	size_t n_total;

	ends_init(self, "hub.test");
	end_run(&self->client);
	end_feed(&self->server, &self->client.output, buf_len(&self->client.output), 0);
	n_total = buf_len(&self->server.output);
	for (size_t n = 0; n < n_total; n += 1 + n / 2) {
		ends_init(self, "hub.test");
		end_run(&self->client);
		end_feed(&self->server, &self->client.output, buf_len(&self->client.output), 0);
		end_feed(&self->client, &self->server.output, n, 0);
		tls_input_end(self->client.tls);
		end_run(&self->client);
		EXPECT_EQ(self->client.status, TLS_TRUNCATED);
		EXPECT_CONTAINS(tls_error(self->client.tls), "during the TLS handshake");
	}
}

TEST_F(tls, damaged_record_ends_the_session)
{
	ends_open(self, "hub.test");
	ASSERT_EQ((int)tls_write(self->client.tls, BYTES_LIT("data that gets damaged")), TLS_OK);
	self->client.output.data[self->client.output.end - 3] ^= 1;
	ends_run(self, 0);
	EXPECT_EQ(self->server.status, TLS_FAILED);
	EXPECT_EQ(buf_len(&self->server.received), 0u);
	EXPECT_EQ(self->client.status, TLS_FAILED);
	TEST_LOG("%s", tls_error(self->server.tls));
	TEST_LOG("%s", tls_error(self->client.tls));
}

TEST_F(tls, random_damage_never_does_more_than_end_it)
{
	for (int i = 0; i < 300; ++i) {
		ends_init(self, "hub.test");
		end_run(&self->client);
		for (int step = 0; step < 6; ++step) {
			struct end *from = step % 2 ? &self->server : &self->client;
			struct end *to = step % 2 ? &self->client : &self->server;

			if (to->status > TLS_AGAIN)
				break;
			if (test_random() % 3 == 0 && buf_len(&from->output))
				from->output
					.data[from->output.start + test_random() % buf_len(&from->output)] ^=
					(uint8_t)(1u << (test_random() % 8));
			end_feed(to, &from->output, buf_len(&from->output), 0);
		}
	}
}

/* Gives @e words that are not TLS, in pieces of @piece bytes. */
static void expect_foreign(struct end *e, struct bytes words, size_t piece, const char *text)
{
	struct buf input;

	buf_init(&input, 1000);
	ASSERT_EQ(buf_append(&input, words), 0);
	end_feed(e, &input, words.len, piece);
	EXPECT_EQ(e->status, TLS_FAILED);
	EXPECT_CONTAINS(tls_error(e->tls), text);
	buf_deinit(&input);
}

TEST_F(tls, peer_that_does_not_speak_tls_is_told)
{
	static const struct bytes servers[] = {
		BYTES_LIT("HTTP/1.1 400 Bad Request\r\n\r\n"),
		BYTES_LIT("220 mail.test ESMTP ready\r\n"),
		BYTES_LIT("\x20\x03\0\x01\0"),
		BYTES_LIT("SSH-2.0-OpenSSH_9.2p1\r\n"),
	};
	static const struct bytes clients[] = {
		BYTES_LIT("GET / HTTP/1.1\r\nHost: hub.test\r\n\r\n"),
		BYTES_LIT("\x10\x13\0\x04MQTT\x05\x02\0\x3c\0\0\x06"
			  "device"),
	};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(servers); ++i) {
		ends_init(self, "hub.test");
		end_run(&self->client);
		expect_foreign(&self->client, servers[i / 2], i % 2 ? 1 : 100, "hub.test does not speak TLS");
	}
	for (size_t i = 0; i < 2 * ARRAY_SIZE(clients); ++i) {
		ends_init(self, "hub.test");
		expect_foreign(&self->server, clients[i / 2], i % 2 ? 1 : 100,
			       "the client does not speak TLS");
	}
}

/* --- foreign peers ---------------------------------------------------------------------------- */

/* An OpenSSL session of the given newest version on memory BIOs. */
static SSL *foreign_new(const SSL_METHOD *method, struct fixture_tls *self, int version)
{
	SSL_CTX *ctx = SSL_CTX_new(method);
	SSL *ssl;

	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
	SSL_CTX_set_min_proto_version(ctx, version < TLS1_2_VERSION ? TLS1_VERSION : version);
	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_use_certificate_chain_file(ctx, self->certs.cert_file);
	SSL_CTX_use_PrivateKey_file(ctx, self->certs.key_file, SSL_FILETYPE_PEM);
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	return ssl;
}

/* Lets @ssl and @e shake hands until nothing moves. */
static void foreign_run(SSL *ssl, struct end *e)
{
	bool moved = true;

	end_run(e);
	while (moved) {
		char data[4096];
		struct buf input;
		int n;

		moved = buf_len(&e->output) > 0;
		if (moved)
			ASSERT_EQ(BIO_write(SSL_get_rbio(ssl), buf_bytes(&e->output).data,
					    (int)buf_len(&e->output)),
				  (int)buf_len(&e->output));
		buf_consume(&e->output, buf_len(&e->output));
		ERR_clear_error();
		SSL_do_handshake(ssl);
		n = BIO_read(SSL_get_wbio(ssl), data, sizeof(data));
		if (n <= 0 || e->status > TLS_AGAIN)
			continue;
		moved = true;
		buf_init(&input, sizeof(data));
		ASSERT_EQ(buf_append(&input, BYTES(data, (size_t)n)), 0);
		end_feed(e, &input, (size_t)n, 0);
		buf_deinit(&input);
	}
}

TEST_F(tls, speaks_tls_1_2)
{
	SSL *ssl;

	ends_init(self, "hub.test");
	ssl = foreign_new(TLS_server_method(), self, TLS1_2_VERSION);
	SSL_set_accept_state(ssl);
	foreign_run(ssl, &self->client);
	EXPECT_TRUE(self->client.open);
	EXPECT_CONTAINS(tls_cipher(self->client.tls), "TLSv1.2 ");
	SSL_free(ssl);

	ssl = foreign_new(TLS_client_method(), self, TLS1_2_VERSION);
	SSL_set_connect_state(ssl);
	foreign_run(ssl, &self->server);
	EXPECT_TRUE(self->server.open);
	EXPECT_CONTAINS(tls_cipher(self->server.tls), "TLSv1.2 ");
	SSL_free(ssl);
}

TEST_F(tls, refuses_tls_1_1)
{
	SSL *ssl;

	ends_init(self, "hub.test");
	ssl = foreign_new(TLS_server_method(), self, TLS1_1_VERSION);
	SSL_set_accept_state(ssl);
	foreign_run(ssl, &self->client);
	EXPECT_EQ(self->client.status, TLS_FAILED);
	EXPECT_STREQ(tls_error(self->client.tls), "hub.test offers neither TLS 1.2 nor TLS 1.3");
	SSL_free(ssl);

	ssl = foreign_new(TLS_client_method(), self, TLS1_1_VERSION);
	SSL_set_connect_state(ssl);
	foreign_run(ssl, &self->server);
	EXPECT_EQ(self->server.status, TLS_FAILED);
	EXPECT_STREQ(tls_error(self->server.tls), "the client offers neither TLS 1.2 nor TLS 1.3");
	SSL_free(ssl);
}

TEST_F(tls, refuses_renegotiation)
{
	char data[4096];
	struct buf input;
	SSL *ssl;
	int n;

	ends_init(self, "hub.test");
	ssl = foreign_new(TLS_client_method(), self, TLS1_2_VERSION);
	SSL_set_connect_state(ssl);
	foreign_run(ssl, &self->server);
	ASSERT_TRUE(self->server.open);
	ASSERT_EQ(SSL_renegotiate(ssl), 1);
	SSL_do_handshake(ssl);
	n = BIO_read(SSL_get_wbio(ssl), data, sizeof(data));
	ASSERT_GT(n, 0);
	buf_init(&input, sizeof(data));
	ASSERT_EQ(buf_append(&input, BYTES(data, (size_t)n)), 0);
	end_feed(&self->server, &input, (size_t)n, 0);
	/* The answer is a warning alert, not a handshake. */
	ASSERT_GT(buf_len(&self->server.output), 0u);
	EXPECT_EQ(buf_bytes(&self->server.output).data[0], 0x15);
	buf_deinit(&input);
	SSL_free(ssl);
}

/* --- contexts --------------------------------------------------------------------------------- */

static const char *logged(struct fixture_tls *self, char out[static 1100])
{
	ssize_t n = read(self->log_pipe[0], out, 1099);

	out[n > 0 ? n : 0] = '\0';
	return out;
}

static void file_make(const char *path, const char *text)
{
	_cleanup_(fclose_ptr) FILE *file = fopen(path, "w");

	ASSERT_TRUE(file != NULL);
	fputs(text, file);
}

TEST_F(tls, unusable_files_are_named)
{
	struct tls_context *ctx = NULL;
	char text[1100], path[CERTS_PATH_SIZE + 16];
	struct certs other;

	EXPECT_EQ(tls_context_new_client(&ctx, "/nonexistent/ca.pem", &self->log), -ENOENT);
	EXPECT_STREQ(logged(self, text), "error: cannot read the CA file \"/nonexistent/ca.pem\": No such "
					 "file or directory; set \"ca-file\" to a PEM file "
					 "with the certificate of the CA that signed the hub's\n");
	snprintf(path, sizeof(path), "%s/garbage", self->certs.dir);
	file_make(path, "this is no certificate\n");
	EXPECT_EQ(tls_context_new_client(&ctx, path, &self->log), -EINVAL);
	EXPECT_CONTAINS(logged(self, text), "there is no certificate in the CA file");
	EXPECT_EQ(tls_context_new_client(&ctx, self->certs.ca_key_file, &self->log), -EINVAL);
	EXPECT_CONTAINS(logged(self, text), self->certs.ca_key_file);
	EXPECT_EQ(tls_context_new_server(&ctx, path, self->certs.key_file, &self->log), -EINVAL);
	EXPECT_CONTAINS(logged(self, text), "there is no usable certificate in");
	EXPECT_EQ(tls_context_new_server(&ctx, self->certs.cert_file, path, &self->log), -EINVAL);
	EXPECT_CONTAINS(logged(self, text), "there is no usable key in");
	EXPECT_EQ(tls_context_new_server(&ctx, self->certs.cert_file, "/nonexistent/key", &self->log),
		  -ENOENT);
	EXPECT_CONTAINS(logged(self, text), "cannot read the key \"/nonexistent/key\"");
	unlink(path);
	ASSERT_EQ(certs_init(&other), 0);
	EXPECT_EQ(tls_context_new_server(&ctx, self->certs.cert_file, other.key_file, &self->log), -EINVAL);
	EXPECT_CONTAINS(logged(self, text), "key values mismatch");
	certs_deinit(&other);
	EXPECT_TRUE(ctx == NULL);
}

TEST_F(tls, keys_are_for_their_owner_only)
{
	struct stat st;

	ASSERT_EQ(stat(self->certs.key_file, &st), 0);
	EXPECT_EQ(st.st_mode & 0777, 0600u);
	ASSERT_EQ(stat(self->certs.ca_key_file, &st), 0);
	EXPECT_EQ(st.st_mode & 0777, 0600u);
	ASSERT_EQ(stat(self->certs.ca_file, &st), 0);
	EXPECT_EQ(st.st_mode & 0777, 0644u);
}

TEST_F(tls, certificate_needs_usable_names)
{
	static const char *const bad[] = {"", "a b", "ex\nample", "1.2.3.4:8883"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i)
		EXPECT_EQ(certs_issue(&self->certs, &bad[i], 1, certs_now_ms()), -EINVAL);
	EXPECT_EQ(certs_issue(&self->certs, NULL, 0, certs_now_ms()), -EINVAL);
}

TEST_HARNESS_MAIN
