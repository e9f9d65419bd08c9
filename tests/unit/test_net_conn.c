/* SPDX-License-Identifier: MIT */
/*
 * Connections over real loopback sockets and a real loop: opening, data both ways, back-pressure, and every
 * way to end, also from inside the callbacks.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <openssl/evp.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/time.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/resolver.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/certs.h"
#include "tests/support/dns.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

/* Largest piece written at once, and how much is kept queued while sending in bulk. */
#define CHUNK_MAX 40000
#define QUEUE_MAX (2 * MIB)

/* What a side does in a callback. */
enum action {
	ACTION_NONE,
	ACTION_CLOSE,
	ACTION_ABORT,
	ACTION_PAUSE,
};

/* One side of a connection and what happened to it. */
struct side {
	struct conn *conn;
	unsigned int n_opened, n_closed, n_drained;
	enum action on_open, on_data;
	const char *greeting; /* written in on_open */
	bool echo;
	int end; /* enum conn_end */
	char text[1024];
	char cipher[100];
	char server_name[100];
	uint64_t n_received;
	char received[256]; /* the first bytes of it */
	EVP_MD_CTX *received_hash;
	uint64_t n_to_send, n_sent;
	EVP_MD_CTX *sent_hash;
};

FIXTURE(conn)
{
	struct certs certs;
	struct log log;
	struct loop *loop;
	struct dns dns;
	struct resolver *resolver;
	struct tls_context *client_tls, *server_tls;
	struct listener *listener;
	struct side client, server;
	bool accept_raw; /* what comes in goes to @raw, and nobody speaks TLS on it */
	int raw;
};

/* --- the two sides ---------------------------------------------------------------------------- */

static void side_act(struct side *s, enum action action)
{
	switch (action) {
	case ACTION_NONE:
		break;
	case ACTION_CLOSE:
		conn_close(TAKE_PTR(s->conn));
		break;
	case ACTION_ABORT:
		conn_abort(TAKE_PTR(s->conn));
		break;
	case ACTION_PAUSE:
		conn_pause(s->conn);
		break;
	}
}

/* Writes random bytes in pieces of random length while there is something to send and little queued. */
static void side_send(struct side *s)
{
	uint64_t piece[CHUNK_MAX / 8];

	while (s->n_to_send && conn_n_queued(s->conn) < QUEUE_MAX) {
		size_t len = 1 + (size_t)(test_random() % sizeof(piece));

		len = len < s->n_to_send ? len : (size_t)s->n_to_send;
		for (size_t i = 0; i < len / 8 + 1 && i < CHUNK_MAX / 8; ++i)
			piece[i] = test_random();
		ASSERT_EQ(conn_write(s->conn, BYTES(piece, len)), 0);
		EVP_DigestUpdate(s->sent_hash, piece, len);
		s->n_to_send -= len;
		s->n_sent += len;
	}
}

static void on_open(void *userdata)
{
	struct side *s = userdata;

	++s->n_opened;
	snprintf(s->cipher, sizeof(s->cipher), "%s", conn_cipher(s->conn));
	if (conn_server_name(s->conn))
		snprintf(s->server_name, sizeof(s->server_name), "%s", conn_server_name(s->conn));
	if (s->greeting)
		EXPECT_EQ(conn_write(s->conn, bytes_from_str(s->greeting)), 0);
	side_act(s, s->on_open);
}

static void on_data(void *userdata, struct bytes data)
{
	struct side *s = userdata;

	ASSERT_TRUE(s->conn != NULL);
	if (s->n_received < sizeof(s->received) - 1) {
		size_t room = sizeof(s->received) - 1 - s->n_received;

		memcpy(s->received + s->n_received, data.data, data.len < room ? data.len : room);
	}
	s->n_received += data.len;
	EVP_DigestUpdate(s->received_hash, data.data, data.len);
	if (s->echo)
		EXPECT_EQ(conn_write(s->conn, data), 0);
	side_act(s, s->on_data);
}

static void on_drained(void *userdata)
{
	struct side *s = userdata;

	++s->n_drained;
	side_send(s);
}

static void on_closed(void *userdata, enum conn_end end, const char *text)
{
	struct side *s = userdata;

	++s->n_closed;
	s->end = (int)end;
	s->conn = NULL;
	snprintf(s->text, sizeof(s->text), "%s", text);
}

static const struct conn_ops ops = {
	.on_open = on_open, .on_data = on_data, .on_drained = on_drained, .on_closed = on_closed};

static void side_init(struct side *s)
{
	memset(s, 0, sizeof(*s));
	s->received_hash = EVP_MD_CTX_new();
	s->sent_hash = EVP_MD_CTX_new();
	EVP_DigestInit(s->received_hash, EVP_sha256());
	EVP_DigestInit(s->sent_hash, EVP_sha256());
}

static void side_deinit(struct side *s)
{
	conn_abort(TAKE_PTR(s->conn));
	EVP_MD_CTX_free(TAKE_PTR(s->received_hash));
	EVP_MD_CTX_free(TAKE_PTR(s->sent_hash));
}

/* All that @from sent has arrived at @to, byte for byte. */
static void expect_same(struct side *from, struct side *to)
{
	uint8_t sent[32], received[32];

	EXPECT_EQ(from->n_sent, to->n_received);
	EVP_DigestFinal(from->sent_hash, sent, NULL);
	EVP_DigestFinal(to->received_hash, received, NULL);
	EXPECT_MEMEQ(sent, received, sizeof(sent));
}

/* --- the stack under them --------------------------------------------------------------------- */

static void on_accepted(void *userdata, int fd_take)
{
	struct fixture_conn *self = userdata;

	if (self->accept_raw)
		self->raw = fd_take;
	else
		ASSERT_EQ(conn_accept(&self->server.conn, self->loop, self->server_tls, fd_take, &ops,
				      &self->server),
			  0);
}

/* Turns the loop until @condition; the harness's time limit is the only other way out. */
#define WAIT_FOR(condition)                                                                                  \
	do {                                                                                                 \
		while (!(condition))                                                                         \
			ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);                                     \
	} while (0)

static void stack_up(struct fixture_conn *self, struct loop_options loop_options)
{
	struct resolver_options options = {.servers = self->dns.server, .timeout_ms = 20000};

	loop_options.log = &self->log;
	self->raw = -1;
	side_init(&self->client);
	side_init(&self->server);
	ASSERT_EQ(loop_new(&self->loop, &loop_options), 0);
	ASSERT_EQ(dns_init(&self->dns, self->loop), 0);
	ASSERT_EQ(resolver_new(&self->resolver, self->loop, &self->log, &options), 0);
	ASSERT_EQ(listener_new(&self->listener, self->loop, "127.0.0.2", 0, on_accepted, self, &self->log),
		  0);
}

static void stack_down(struct fixture_conn *self)
{
	side_deinit(&self->client);
	side_deinit(&self->server);
	listener_free(TAKE_PTR(self->listener));
	resolver_free(TAKE_PTR(self->resolver));
	dns_deinit(&self->dns);
	while (loop_n_in_flight(self->loop))
		loop_turn(self->loop, TIME_NEVER);
	loop_free(TAKE_PTR(self->loop));
	close_fd(&self->raw);
}

FIXTURE_SETUP(conn)
{
	log_init(&self->log, "test", LOG_LEVEL_WARNING);
	ASSERT_EQ(certs_init(&self->certs), 0);
	ASSERT_EQ(
		certs_issue(&self->certs, (const char *const[]){"hub.test", "127.0.0.2"}, 2, certs_now_ms()),
		0);
	ASSERT_EQ(tls_context_new_client(&self->client_tls, self->certs.ca_file, &self->log), 0);
	ASSERT_EQ(tls_context_new_server(&self->server_tls, self->certs.cert_file, self->certs.key_file,
					 &self->log),
		  0);
	stack_up(self, (struct loop_options){0});
}

FIXTURE_TEARDOWN(conn)
{
	certs_deinit(&self->certs);
	if (test_is_orphan() || !self->loop)
		return;
	stack_down(self);
	tls_context_free(self->client_tls);
	tls_context_free(self->server_tls);
}

static struct conn_client_options client_options(struct fixture_conn *self, const char *host)
{
	return (struct conn_client_options){
		.loop = self->loop,
		.log = &self->log,
		.resolver = self->resolver,
		.tls = self->client_tls,
		.host = host,
		.port = listener_port(self->listener),
		.ops = &ops,
		.userdata = &self->client,
	};
}

static void connect_with(struct fixture_conn *self, const struct conn_client_options *options)
{
	ASSERT_EQ(conn_connect(&self->client.conn, options), 0);
	EXPECT_EQ(self->client.n_opened + self->client.n_closed, 0u);
}

static void connect_to(struct fixture_conn *self, const char *host)
{
	struct conn_client_options options = client_options(self, host);

	connect_with(self, &options);
}

static void open_both(struct fixture_conn *self)
{
	connect_to(self, "127.0.0.2");
	WAIT_FOR(self->client.n_opened && self->server.n_opened);
}

/* Sockets on @ip that nobody accepts on and whose queue is full: a connect there gets no answer. */
struct black_hole {
	int listening;
	int filling[4];
};

static void black_hole_init(struct black_hole *hole, const char *ip, uint16_t port)
{
	union addr addr;
	int one = 1;

	ASSERT_EQ(addr_parse(ip, port, &addr), 0);
	hole->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(hole->listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ASSERT_EQ(bind(hole->listening, &addr.sa, addr_len(&addr)), 0);
	ASSERT_EQ(listen(hole->listening, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(hole->filling); ++i) {
		hole->filling[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		connect(hole->filling[i], &addr.sa, addr_len(&addr));
	}
}

static void black_hole_deinit(struct black_hole *hole)
{
	close(hole->listening);
	for (size_t i = 0; i < ARRAY_SIZE(hole->filling); ++i)
		close(hole->filling[i]);
}

/* --- opening ---------------------------------------------------------------------------------- */

TEST_F(conn, talks_both_ways_and_closes)
{
	dns_add(&self->dns, "hub.test", "127.0.0.2");
	self->client.greeting = "from the client";
	self->server.greeting = "from the server";
	connect_to(self, "hub.test");
	WAIT_FOR(self->client.n_received == 15 && self->server.n_received == 15);
	EXPECT_STREQ(self->client.received, "from the server");
	EXPECT_STREQ(self->server.received, "from the client");
	EXPECT_CONTAINS(self->client.cipher, "TLSv1.3 TLS_");
	EXPECT_STREQ(self->client.cipher, self->server.cipher);
	EXPECT_STREQ(self->server.server_name, "hub.test");
	EXPECT_CONTAINS(conn_peer(self->client.conn), "127.0.0.2:");
	EXPECT_CONTAINS(conn_peer(self->server.conn), "127.0.0.1:");
	WAIT_FOR(self->client.n_drained);
	EXPECT_EQ(conn_n_queued(self->client.conn), 0u);
	conn_close(TAKE_PTR(self->client.conn));
	WAIT_FOR(self->server.n_closed);
	EXPECT_EQ(self->server.end, CONN_END_PEER);
	EXPECT_EQ(self->client.n_closed, 0u);
}

TEST_F(conn, address_literal_sends_no_name)
{
	open_both(self);
	EXPECT_STREQ(self->server.server_name, "");
	EXPECT_STREQ(self->client.server_name, "127.0.0.2");
}

TEST_F(conn, verifies_the_hub_behind_a_gateway)
{
	struct conn_client_options options = client_options(self, "hub.test");

	options.connect_host = "127.0.0.2";
	connect_with(self, &options);
	WAIT_FOR(self->client.n_opened && self->server.n_opened);
	EXPECT_STREQ(self->server.server_name, "hub.test");
	EXPECT_EQ(self->dns.n_queries, 0u);
}

TEST_F(conn, second_address_works_when_the_first_refuses)
{
	dns_add(&self->dns, "hub.test", "127.0.0.1");
	dns_add(&self->dns, "hub.test", "127.0.0.2");
	dns_add(&self->dns, "hub.test", "127.0.0.3");
	connect_to(self, "hub.test");
	WAIT_FOR(self->client.n_opened && self->server.n_opened);
	EXPECT_CONTAINS(conn_peer(self->client.conn), "127.0.0.2:");
}

TEST_F(conn, second_address_works_when_the_first_is_silent)
{
	struct black_hole hole;
	uint64_t start_ns = loop_now_ns(self->loop), end_ns;

	black_hole_init(&hole, "127.0.0.1", listener_port(self->listener));
	dns_add(&self->dns, "hub.test", "127.0.0.1");
	dns_add(&self->dns, "hub.test", "127.0.0.2");
	connect_to(self, "hub.test");
	WAIT_FOR(self->client.n_opened && self->server.n_opened);
	end_ns = loop_now_ns(self->loop);
	EXPECT_CONTAINS(conn_peer(self->client.conn), "127.0.0.2:");
	EXPECT_GE(end_ns - start_ns, CONN_ATTEMPT_DELAY_NS);
	black_hole_deinit(&hole);
}

TEST_F(conn, refused_port_says_so)
{
	connect_to(self, "127.0.0.3");
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_CONNECT);
	TEST_LOG("%s", self->client.text);
	EXPECT_CONTAINS(self->client.text, "cannot connect to 127.0.0.3 (127.0.0.3:");
	EXPECT_CONTAINS(self->client.text, "Connection refused; check the host name and the port");
}

TEST_F(conn, all_addresses_refused_says_so)
{
	dns_add(&self->dns, "hub.test", "127.0.0.4");
	dns_add(&self->dns, "hub.test", "127.0.0.3");
	connect_to(self, "hub.test");
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_CONNECT);
	EXPECT_CONTAINS(self->client.text, "any of the 2 addresses of hub.test");
}

TEST_F(conn, unknown_name_says_so)
{
	connect_to(self, "hub.invalid");
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_RESOLVE);
	TEST_LOG("%s", self->client.text);
	EXPECT_CONTAINS(self->client.text, "no address found for hub.invalid: ");
}

TEST_F(conn, gives_up_opening_in_every_state)
{
	struct conn_client_options options = client_options(self, "hub.test");
	struct black_hole hole;

	options.open_timeout_ns = 300 * NSEC_PER_MSEC;
	self->dns.silent = true;
	connect_with(self, &options);
	WAIT_FOR(self->client.n_closed == 1);
	EXPECT_EQ(self->client.end, CONN_END_TIMEOUT);
	EXPECT_CONTAINS(self->client.text, "no DNS server answered for hub.test");

	black_hole_init(&hole, "127.0.0.1", options.port);
	options.host = "127.0.0.1";
	ASSERT_EQ(conn_connect(&self->client.conn, &options), 0);
	WAIT_FOR(self->client.n_closed == 2);
	EXPECT_EQ(self->client.end, CONN_END_TIMEOUT);
	EXPECT_CONTAINS(self->client.text, "127.0.0.1 did not answer on port");
	black_hole_deinit(&hole);

	self->accept_raw = true;
	options.host = "127.0.0.2";
	ASSERT_EQ(conn_connect(&self->client.conn, &options), 0);
	WAIT_FOR(self->client.n_closed == 3);
	EXPECT_EQ(self->client.end, CONN_END_TIMEOUT);
	EXPECT_CONTAINS(self->client.text, "did not finish the TLS handshake");
}

TEST_F(conn, refuses_a_certificate_for_another_host)
{
	struct conn_client_options options = client_options(self, "other.test");

	options.connect_host = "127.0.0.2";
	connect_with(self, &options);
	WAIT_FOR(self->client.n_closed && self->server.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_VERIFY);
	EXPECT_EQ(self->client.n_opened, 0u);
	TEST_LOG("%s", self->client.text);
	EXPECT_CONTAINS(self->client.text, "certificate is for hub.test, 127.0.0.2, not for other.test");
	EXPECT_EQ(self->server.end, CONN_END_TLS);
	TEST_LOG("%s", self->server.text);
}

TEST_F(conn, peer_without_tls_says_so)
{
	static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";

	self->accept_raw = true;
	connect_to(self, "127.0.0.2");
	WAIT_FOR(self->raw >= 0);
	ASSERT_EQ(send(self->raw, answer, sizeof(answer) - 1, 0), (ssize_t)sizeof(answer) - 1);
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_TLS);
	EXPECT_CONTAINS(self->client.text, "127.0.0.2 does not speak TLS");
}

TEST_F(conn, end_of_stream_in_the_handshake_is_no_orderly_end)
{
	self->accept_raw = true;
	connect_to(self, "127.0.0.2");
	WAIT_FOR(self->raw >= 0);
	shutdown(self->raw, SHUT_WR);
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_TLS);
	EXPECT_CONTAINS(self->client.text, "during the TLS handshake");
}

TEST_F(conn, reset_in_the_handshake_is_a_socket_error)
{
	struct linger linger = {.l_onoff = 1};

	self->accept_raw = true;
	connect_to(self, "127.0.0.2");
	WAIT_FOR(self->raw >= 0);
	setsockopt(self->raw, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close_fd(&self->raw);
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_IO);
	EXPECT_CONTAINS(self->client.text, "check that the port is the TLS port");
}

TEST_F(conn, abort_is_safe_after_any_number_of_turns)
{
	dns_add(&self->dns, "hub.test", "127.0.0.1");
	dns_add(&self->dns, "hub.test", "127.0.0.2");
	for (int n_turns = 0; n_turns < 24; ++n_turns) {
		self->client.greeting = "hello";
		self->client.n_closed = 0;
		connect_to(self, n_turns % 2 ? "hub.test" : "127.0.0.2");
		for (int i = 0; i < n_turns / 2; ++i)
			ASSERT_EQ(loop_turn(self->loop, 0), 0);
		self->client.n_opened = 0;
		if (n_turns % 3)
			conn_abort(TAKE_PTR(self->client.conn));
		else
			conn_close(TAKE_PTR(self->client.conn));
		for (int i = 0; i < 4; ++i)
			ASSERT_EQ(loop_turn(self->loop, 0), 0);
		conn_abort(TAKE_PTR(self->server.conn));
		EXPECT_EQ(self->client.n_closed, 0u);
	}
}

/* --- ending ----------------------------------------------------------------------------------- */

TEST_F(conn, callbacks_may_close_and_abort)
{
	static const enum action actions[] = {ACTION_CLOSE, ACTION_ABORT};

	for (size_t i = 0; i < 8; ++i) {
		enum action action = actions[i & 1];
		struct side *actor = i & 2 ? &self->server : &self->client;
		struct side *other = i & 2 ? &self->client : &self->server;

		TEST_LOG("case %zu", i);
		self->client.greeting = "c";
		self->server.greeting = "s";
		if (i & 4)
			actor->on_data = action;
		else
			actor->on_open = action;
		connect_to(self, "127.0.0.2");
		WAIT_FOR(other->n_closed && !actor->conn);
		EXPECT_EQ(actor->n_opened, 1u);
		EXPECT_EQ(actor->n_closed, 0u);
		stack_down(self);
		stack_up(self, (struct loop_options){0});
	}
}

TEST_F(conn, close_sends_what_is_queued)
{
	open_both(self);
	self->client.n_to_send = QUEUE_MAX;
	side_send(&self->client);
	conn_close(TAKE_PTR(self->client.conn));
	WAIT_FOR(self->server.n_closed);
	EXPECT_EQ(self->server.end, CONN_END_PEER);
	EXPECT_STREQ(self->server.text, "the client closed the connection");
	expect_same(&self->client, &self->server);
}

TEST_F(conn, close_gives_up_on_a_peer_that_does_not_read)
{
	uint64_t start_ns, end_ns;

	self->server.on_open = ACTION_PAUSE;
	open_both(self);
	while (conn_write(self->client.conn, BYTES(self->client.received, sizeof(self->client.received))) ==
	       0)
		;
	start_ns = loop_now_ns(self->loop);
	conn_close(TAKE_PTR(self->client.conn));
	/* The end of the client's socket is all that happens here: the server's is the last receive. */
	conn_resume(self->server.conn);
	conn_pause(self->server.conn);
	WAIT_FOR(loop_n_in_flight(self->loop) <= 3);
	end_ns = loop_now_ns(self->loop);
	EXPECT_GE(end_ns - start_ns, 5 * NSEC_PER_SEC);
	EXPECT_LE(end_ns - start_ns, 15 * NSEC_PER_SEC);
}

TEST_F(conn, cut_off_stream_is_told_from_an_orderly_end)
{
	open_both(self);
	WAIT_FOR(self->server.n_opened);
	conn_abort(TAKE_PTR(self->server.conn));
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_PEER);
	EXPECT_STREQ(self->client.text, "127.0.0.2 cut the connection off");
}

TEST_F(conn, last_words_are_delivered_though_sending_failed)
{
	self->server.greeting = "go away";
	self->server.on_open = ACTION_PAUSE;
	open_both(self);
	WAIT_FOR(self->server.n_drained);
	self->client.n_to_send = QUEUE_MAX;
	side_send(&self->client);
	/* With unread data in its socket, the server's kernel resets the connection. */
	ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	conn_abort(TAKE_PTR(self->server.conn));
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_IO);
	EXPECT_STREQ(self->client.received, "go away");
	TEST_LOG("%s", self->client.text);
}

TEST_F(conn, reset_is_noticed_while_paused_by_sending)
{
	self->client.on_open = ACTION_PAUSE;
	self->server.on_open = ACTION_PAUSE;
	open_both(self);
	self->client.n_to_send = 64 * MIB;
	side_send(&self->client);
	for (int i = 0; i < 8; ++i)
		ASSERT_EQ(loop_turn(self->loop, NSEC_PER_MSEC), 0);
	conn_abort(TAKE_PTR(self->server.conn));
	WAIT_FOR(self->client.n_closed);
	EXPECT_EQ(self->client.end, CONN_END_IO);
}

TEST_F(conn, write_is_refused_when_not_open)
{
	struct conn_client_options options = client_options(self, "127.0.0.2");

	connect_with(self, &options);
	EXPECT_EQ(conn_write(self->client.conn, BYTES_LIT("early")), -ENOTCONN);
	EXPECT_STREQ(conn_cipher(self->client.conn), "");
	EXPECT_STREQ(conn_peer(self->client.conn), "");
}

/* --- data ------------------------------------------------------------------------------------- */

static void bulk(struct fixture_conn *self, uint64_t n_bytes)
{
	open_both(self);
	self->client.n_to_send = n_bytes;
	self->server.n_to_send = n_bytes;
	side_send(&self->client);
	side_send(&self->server);
	WAIT_FOR(self->client.n_received == n_bytes && self->server.n_received == n_bytes);
	expect_same(&self->client, &self->server);
	expect_same(&self->server, &self->client);
}

TEST_F_TIMEOUT(conn, bulk_arrives_both_ways, 120)
{
	bulk(self, 64 * MIB);
}

TEST_F(conn, bulk_arrives_without_multishot_receive)
{
	stack_down(self);
	stack_up(self, (struct loop_options){.no_multishot_recv = true, .no_defer_taskrun = true});
	bulk(self, 4 * MIB);
}

TEST_F(conn, echo_of_many_small_messages)
{
	enum { N_MESSAGES = 5000 };

	self->server.echo = true;
	open_both(self);
	for (int i = 0; i < N_MESSAGES; ++i) {
		ASSERT_EQ(conn_write(self->client.conn, BYTES(&i, sizeof(i))), 0);
		EVP_DigestUpdate(self->client.sent_hash, &i, sizeof(i));
		if (i % 100 == 0)
			ASSERT_EQ(loop_turn(self->loop, 0), 0);
	}
	self->client.n_sent = N_MESSAGES * sizeof(int);
	WAIT_FOR(self->client.n_received == self->client.n_sent);
	expect_same(&self->client, &self->client);
}

TEST_F(conn, one_turn_is_one_send)
{
	unsigned int n_drained;

	open_both(self);
	WAIT_FOR(self->client.n_opened && loop_n_in_flight(self->loop) > 0);
	n_drained = self->client.n_drained;
	for (int i = 0; i < 100; ++i)
		ASSERT_EQ(conn_write(self->client.conn, BYTES_LIT("message")), 0);
	WAIT_FOR(self->server.n_received == 700);
	WAIT_FOR(self->client.n_drained > n_drained);
	EXPECT_EQ(self->client.n_drained, n_drained + 1);
}

/* Fills the way to a paused server until nothing moves any more. */
static void fill_the_way(struct fixture_conn *self)
{
	uint8_t piece[CHUNK_MAX];
	uint64_t n_before;

	memset(piece, 'x', sizeof(piece));
	do {
		n_before = self->client.n_sent;
		while (conn_write(self->client.conn, BYTES(piece, sizeof(piece))) == 0) {
			EVP_DigestUpdate(self->client.sent_hash, piece, sizeof(piece));
			self->client.n_sent += sizeof(piece);
		}
		ASSERT_EQ(loop_turn(self->loop, 20 * NSEC_PER_MSEC), 0);
	} while (self->client.n_sent > n_before);
}

TEST_F(conn, paused_reader_holds_the_writer_back)
{
	uint64_t n_received;

	self->server.on_open = ACTION_PAUSE;
	open_both(self);
	fill_the_way(self);
	n_received = self->server.n_received;
	EXPECT_EQ(conn_write(self->client.conn, BYTES(self, CHUNK_MAX)), -ENOBUFS);
	EXPECT_GT(conn_n_queued(self->client.conn), CONN_SEND_MAX - MIB);
	EXPECT_LE(conn_n_queued(self->client.conn), CONN_SEND_MAX + MIB);
	EXPECT_LE(n_received, MIB);
	conn_resume(self->server.conn);
	WAIT_FOR(self->server.n_received == self->client.n_sent);
	expect_same(&self->client, &self->server);
}

static void pause_and_resume_often(struct fixture_conn *self)
{
	self->server.on_data = ACTION_PAUSE;
	self->server.on_open = ACTION_PAUSE;
	open_both(self);
	self->client.n_to_send = 8 * MIB;
	side_send(&self->client);
	while (self->server.n_received < 8 * MIB) {
		conn_resume(self->server.conn);
		if (test_random() % 4 == 0)
			conn_pause(self->server.conn);
		if (test_random() % 4 == 0)
			conn_resume(self->server.conn);
		ASSERT_EQ(loop_turn(self->loop, NSEC_PER_MSEC), 0);
	}
	expect_same(&self->client, &self->server);
}

TEST_F(conn, pausing_loses_nothing)
{
	pause_and_resume_often(self);
}

TEST_F(conn, pausing_loses_nothing_without_multishot_receive)
{
	stack_down(self);
	stack_up(self, (struct loop_options){.no_multishot_recv = true});
	pause_and_resume_often(self);
}

/* --- what the peer's machine has -------------------------------------------------------------- */

/* Acknowledgements are no events: looks again every moment. */
#define LOOK_FOR(condition)                                                                                  \
	do {                                                                                                 \
		while (!(condition))                                                                         \
			ASSERT_EQ(loop_turn(self->loop, NSEC_PER_MSEC), 0);                                  \
	} while (0)

TEST_F(conn, acknowledged_is_what_the_peer_has)
{
	struct conn *conn;
	uint64_t target;

	self->server.on_open = ACTION_PAUSE;
	connect_to(self, "127.0.0.2");
	conn = self->client.conn;
	EXPECT_EQ(conn_n_written(conn), 0u);
	EXPECT_EQ(conn_n_acknowledged(conn), 0u);
	WAIT_FOR(self->client.n_opened && self->server.n_opened);
	LOOK_FOR(conn_n_acknowledged(conn) == conn_n_written(conn));
	target = conn_n_written(conn);
	ASSERT_EQ(conn_write(conn, BYTES_LIT("hello")), 0);
	EXPECT_GT(conn_n_written(conn), target + 5);
	EXPECT_EQ(conn_n_acknowledged(conn), target);
	/* It need not read. */
	target = conn_n_written(conn);
	LOOK_FOR(conn_n_acknowledged(conn) == target);

	fill_the_way(self);
	target = conn_n_written(conn);
	EXPECT_LT(conn_n_acknowledged(conn), target);
	EXPECT_LE(conn_n_acknowledged(conn), target - conn_n_queued(conn));
	conn_resume(self->server.conn);
	LOOK_FOR(conn_n_acknowledged(conn) == target);
}

TEST_F(conn, acknowledged_goes_on_while_more_is_sent)
{
	uint64_t target;

	open_both(self);
	self->client.n_to_send = 256 * MIB;
	side_send(&self->client);
	for (int i = 0; i < 3; ++i) {
		target = conn_n_written(self->client.conn);
		while (conn_n_acknowledged(self->client.conn) < target)
			ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
		/* What was written meanwhile is not all there. */
		EXPECT_GT(self->client.n_to_send, 0u);
		EXPECT_GT(conn_n_written(self->client.conn), target);
	}
}

TEST_HARNESS_MAIN
