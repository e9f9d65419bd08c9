/* SPDX-License-Identifier: MIT */
/*
 * Allocations that fail in a client's side of TLS, from the first call of the library in a process to the end of a
 * handshake: whichever it is, there is never a session with a server that is not to be trusted, and soon one with a server
 * that is. Each in a process of its own, where the library knows nothing yet.
 *
 * $IOTHUB_MALLOC: how many calls are tried for each server; 60 unless it is set; 0 = every one of them.
 */

#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/certs.h"
#include "tools/bench/preload/allocator.h"

#define N_CALLS    60
#define OUTPUT_MAX (1u << 20)
/* One after the other, until one is open. */
#define N_SESSIONS 2

/* The call that fails, counted down while the client runs; 0 = none. */
static uint64_t fail_in;
static bool is_client;

bool allocator_fails(const void *caller)
{
	(void)caller;
	return is_client && fail_in && --fail_in == 0;
}

enum outcome {
	REFUSED,    /* no session */
	NO_CONTEXT, /* not even a context: a daemon does not start */
	NO_SERVER,  /* the library as a whole is of no use any more */
	OPEN,
	N_OUTCOMES,
};

FIXTURE(failing)
{
	struct certs certs, strangers;
	uint64_t n_calls; /* of the run that was last */
};

FIXTURE_SETUP(failing)
{
	int status;
	pid_t pid;

	SKIP_IF(!ALLOCATOR_ASKS, "the sanitizer has an allocator of its own");
	/* Here the library stays as it was. */
	pid = fork();
	if (pid == 0)
		_exit(certs_init(&self->certs) || certs_init(&self->strangers));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

FIXTURE_TEARDOWN(failing)
{
	certs_deinit(&self->certs);
	certs_deinit(&self->strangers);
}

/* --- a session -------------------------------------------------------------------------------- */

/* With algorithms of its own, whatever happened to the client's. */
static SSL_CTX *server_new(const struct certs *certs)
{
	SSL_CTX *ctx = SSL_CTX_new_ex(OSSL_LIB_CTX_new(), NULL, TLS_server_method());

	if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, certs->cert_file) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, certs->key_file, SSL_FILETYPE_PEM) != 1)
		return NULL;
	return ctx;
}

/* The server's part; returns how many bytes it has to say. */
static size_t server_step(SSL *server, struct buf *input, uint8_t *out, int size)
{
	int n;

	BIO_write(SSL_get_rbio(server), buf_bytes(input).data, (int)buf_len(input));
	buf_consume(input, buf_len(input));
	SSL_do_handshake(server);
	n = BIO_read(SSL_get_wbio(server), out, size);
	return n > 0 ? (size_t)n : 0;
}

/* Whether there is one. */
static bool shake_hands(struct tls_context *ctx, SSL *server, const char *host)
{
	enum tls_status status = TLS_FAILED;
	struct tls *client = NULL;
	uint8_t data[16384];
	struct buf output;
	size_t n;

	buf_init(&output, OUTPUT_MAX);
	is_client = true;
	if (tls_new_client(&client, ctx, host, &output) == 0)
		status = tls_handshake(client);
	is_client = false;
	while (status == TLS_AGAIN && (n = server_step(server, &output, data, sizeof(data)))) {
		is_client = true;
		tls_input(client, BYTES(data, n));
		status = tls_handshake(client);
		is_client = false;
	}
	tls_free(client);
	buf_deinit(&output);
	return status == TLS_OK;
}

static bool try_session(struct tls_context *ctx, SSL_CTX *server_ctx, const char *host)
{
	SSL *server = SSL_new(server_ctx);
	bool is_open;

	SSL_set_bio(server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_set_accept_state(server);
	is_open = shake_hands(ctx, server, host);
	SSL_free(server);
	return is_open;
}

/* In a process of its own: call @n fails. */
static enum outcome run_client(struct fixture_failing *self, uint64_t n, const char *ca_file,
			       const char *host)
{
	struct tls_context *ctx;
	SSL_CTX *server_ctx;
	bool is_open = false;
	int r;

	fail_in = n;
	is_client = true;
	r = tls_context_new_client(&ctx, ca_file, NULL);
	is_client = false;
	if (r)
		return NO_CONTEXT;
	server_ctx = server_new(&self->certs);
	if (!server_ctx)
		return NO_SERVER;
	for (int i = 0; i < N_SESSIONS && !is_open; ++i)
		is_open = try_session(ctx, server_ctx, host);
	self->n_calls = n - fail_in;
	return is_open ? OPEN : REFUSED;
}

/* --- all of them ------------------------------------------------------------------------------ */

static enum outcome run_one(struct fixture_failing *self, uint64_t n, const char *ca_file, const char *host)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit((int)run_client(self, n, ca_file, host));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) < N_OUTCOMES)
		return (enum outcome)WEXITSTATUS(status);
	harness_fail(__FILE__, __LINE__, false, "call %" PRIu64 ": the client ended by %#x", n,
		     (unsigned int)status);
	return N_OUTCOMES;
}

/* @expected: of a client that has memory. */
static void run_all(struct fixture_failing *self, const char *ca_file, const char *host,
		    enum outcome expected)
{
	const char *calls = getenv("IOTHUB_MALLOC");
	uint64_t n_max = calls ? strtoull(calls, NULL, 10) : N_CALLS, n_calls, step;
	unsigned int n[N_OUTCOMES + 1] = {0};

	ASSERT_EQ((int)run_one(self, UINT64_MAX, ca_file, host), (int)expected);
	n_calls = self->n_calls;
	step = n_max && n_max < n_calls ? n_calls / n_max : 1;
	for (uint64_t i = 1 + test_random() % step; i <= n_calls; i += step) {
		enum outcome outcome = run_one(self, i, ca_file, host);

		++n[outcome];
		if (outcome != expected && outcome != NO_CONTEXT && outcome != NO_SERVER)
			harness_fail(__FILE__, __LINE__, false, "call %" PRIu64 ": outcome %d", i,
				     (int)outcome);
	}
	TEST_LOG("%" PRIu64 " calls: with one that fails %u without a context, %u without a server, %u open, "
		 "%u refused",
		 n_calls, n[NO_CONTEXT], n[NO_SERVER], n[OPEN], n[REFUSED]);
	EXPECT_GT(n[expected], 0u);
}

TEST_F_TIMEOUT(failing, trusts_whom_it_is_to_trust, 1800)
{
	run_all(self, self->certs.ca_file, "hub.test", OPEN);
}

TEST_F_TIMEOUT(failing, trusts_no_stranger, 1800)
{
	run_all(self, self->strangers.ca_file, "hub.test", REFUSED);
}

TEST_F_TIMEOUT(failing, trusts_no_other_name, 1800)
{
	run_all(self, self->certs.ca_file, "other.test", REFUSED);
}

TEST_F_TIMEOUT(failing, trusts_no_other_address, 1800)
{
	run_all(self, self->certs.ca_file, "127.0.0.9", REFUSED);
}

TEST_HARNESS_MAIN
