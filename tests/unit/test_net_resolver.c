/* SPDX-License-Identifier: MIT */
/*
 * Addresses and their order; the resolver against a DNS server on loopback.
 */

#include "base/cleanup.h"
#include "base/time.h"
#include "net/addrs.h"
#include "net/resolver.h"
#include "tests/harness.h"
#include "tests/support/dns.h"

/* --- addresses -------------------------------------------------------------------------------- */

static union addr addr_of(const char *literal)
{
	union addr addr;

	ASSERT_EQ(addr_parse(literal, 8883, &addr), 0);
	return addr;
}

static void expect_text(const union addr *addr, const char *want)
{
	char text[ADDR_TEXT_SIZE];

	addr_format(addr, text);
	EXPECT_STREQ(text, want);
}

TEST(addresses_have_texts)
{
	static const char *const names[] = {"",          "localhost", "1.2.3",  "1.2.3.4.5",
					    "256.1.1.1", "[::1]",     "::1%lo", " 1.2.3.4"};
	union addr addr = addr_of("192.0.2.1");

	expect_text(&addr, "192.0.2.1:8883");
	EXPECT_EQ(addr_len(&addr), sizeof(struct sockaddr_in));
	addr = addr_of("2001:DB8:0::1");
	expect_text(&addr, "[2001:db8::1]:8883");
	EXPECT_EQ(addr_len(&addr), sizeof(struct sockaddr_in6));
	EXPECT_EQ(addr_port(&addr), 8883);
	addr = (union addr){.sa.sa_family = AF_UNIX};
	expect_text(&addr, "");
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		EXPECT_FALSE(addr_is_literal(names[i]));
	EXPECT_TRUE(addr_is_literal("::"));
}

/* The addresses @in are to be tried in the order @want. */
static void expect_order(const char *const *in, size_t n_in, const char *const *want, size_t n_want)
{
	union addr sorted[64];
	struct addrs out;

	for (size_t i = 0; i < n_in; ++i)
		sorted[i] = addr_of(in[i]);
	addrs_interleave(&out, sorted, n_in);
	ASSERT_EQ(out.n, n_want);
	for (size_t i = 0; i < n_want; ++i) {
		union addr addr = addr_of(want[i]);

		EXPECT_MEMEQ(&out.list[i], &addr, sizeof(addr));
	}
}

#define ORDER(...) (const char *const[]){__VA_ARGS__}, ARRAY_SIZE(((const char *const[]){__VA_ARGS__}))

TEST(families_alternate)
{
	struct addrs none = {.n = 7};

	addrs_interleave(&none, NULL, 0);
	EXPECT_EQ(none.n, 0u);
	expect_order(ORDER("1.1.1.1"), ORDER("1.1.1.1"));
	expect_order(ORDER("::1", "::2", "1.1.1.1", "1.1.1.2"), ORDER("::1", "1.1.1.1", "::2", "1.1.1.2"));
	expect_order(ORDER("1.1.1.1", "::1", "::2", "::3", "1.1.1.2"),
		     ORDER("1.1.1.1", "::1", "1.1.1.2", "::2", "::3"));
	expect_order(ORDER("::1", "::2", "::3", "1.1.1.1"), ORDER("::1", "1.1.1.1", "::2", "::3"));
	expect_order(ORDER("1.1.1.3", "1.1.1.1", "1.1.1.2"), ORDER("1.1.1.3", "1.1.1.1", "1.1.1.2"));
}

TEST(long_lists_keep_both_families)
{
	union addr sorted[40];
	struct addrs out;

	for (size_t i = 0; i < ARRAY_SIZE(sorted); ++i)
		sorted[i] = addr_of(i < 30 ? "::1" : "1.1.1.1");
	addrs_interleave(&out, sorted, ARRAY_SIZE(sorted));
	ASSERT_EQ(out.n, (size_t)ADDRS_MAX);
	for (size_t i = 0; i < out.n; ++i)
		EXPECT_EQ(out.list[i].sa.sa_family, i % 2 ? AF_INET : AF_INET6);
}

/* --- the resolver ----------------------------------------------------------------------------- */

struct lookup {
	struct resolver_query query;
	unsigned int n_answers;
	struct addrs addrs;
	char error[200];
};

FIXTURE(resolver)
{
	struct log log;
	struct loop *loop;
	struct dns dns;
	struct resolver *resolver;
	struct lookup a, b;
};

static void on_answer(struct resolver_query *query, const struct addrs *addrs, const char *error)
{
	struct lookup *l = container_of(query, struct lookup, query);

	EXPECT_FALSE(resolver_query_is_pending(query));
	++l->n_answers;
	if (addrs)
		l->addrs = *addrs;
	else
		snprintf(l->error, sizeof(l->error), "%s", error);
}

FIXTURE_SETUP(resolver)
{
	struct resolver_options options = {.servers = self->dns.server, .timeout_ms = 100};

	log_init(&self->log, "test", LOG_LEVEL_WARNING);
	ASSERT_EQ(loop_new(&self->loop, &(struct loop_options){.log = &self->log}), 0);
	ASSERT_EQ(dns_init(&self->dns, self->loop), 0);
	ASSERT_EQ(resolver_new(&self->resolver, self->loop, &self->log, &options), 0);
	resolver_query_init(&self->a.query, on_answer);
	resolver_query_init(&self->b.query, on_answer);
}

FIXTURE_TEARDOWN(resolver)
{
	if (test_is_orphan())
		return;
	resolver_cancel(&self->a.query);
	resolver_cancel(&self->b.query);
	resolver_free(self->resolver);
	dns_deinit(&self->dns);
	while (loop_n_in_flight(self->loop))
		loop_turn(self->loop, TIME_NEVER);
	loop_free(self->loop);
}

static void ask(struct fixture_resolver *self, struct lookup *l, const char *host)
{
	unsigned int n_answers = l->n_answers;

	l->addrs.n = 0;
	ASSERT_EQ(resolver_lookup(self->resolver, &l->query, host, 8883), 0);
	EXPECT_EQ(l->n_answers, n_answers);
	EXPECT_TRUE(resolver_query_is_pending(&l->query));
}

static void wait_for(struct fixture_resolver *self, struct lookup *l)
{
	/* An answer that needs no server comes in a turn with nothing to wait for. */
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	while (resolver_query_is_pending(&l->query))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
}

TEST_F(resolver, literals_need_no_server)
{
	ask(self, &self->a, "2001:db8::1");
	wait_for(self, &self->a);
	ASSERT_EQ(self->a.addrs.n, 1u);
	expect_text(&self->a.addrs.list[0], "[2001:db8::1]:8883");
	EXPECT_EQ(self->dns.n_queries, 0u);
}

TEST_F(resolver, names_have_all_their_addresses)
{
	dns_add(&self->dns, "hub.test", "127.0.0.5");
	dns_add(&self->dns, "hub.test", "127.0.0.6");
	dns_add(&self->dns, "hub.test", "::1");
	ask(self, &self->a, "Hub.Test");
	wait_for(self, &self->a);
	ASSERT_EQ(self->a.addrs.n, 3u);
	/* Both families, the single one not last. */
	EXPECT_NE(self->a.addrs.list[0].sa.sa_family, self->a.addrs.list[1].sa.sa_family);
	for (size_t i = 0; i < 3; ++i)
		EXPECT_EQ(addr_port(&self->a.addrs.list[i]), 8883);
}

TEST_F(resolver, localhost_needs_no_server)
{
	ask(self, &self->a, "localhost");
	wait_for(self, &self->a);
	ASSERT_GE(self->a.addrs.n, 1u);
	EXPECT_EQ(self->dns.n_queries, 0u);
}

TEST_F(resolver, too_many_addresses_are_cut)
{
	char literals[28][32];

	for (size_t i = 0; i < ARRAY_SIZE(literals); ++i) {
		snprintf(literals[i], sizeof(literals[i]), "127.0.1.%zu", i + 1);
		dns_add(&self->dns, "many.test", literals[i]);
	}
	ask(self, &self->a, "many.test");
	wait_for(self, &self->a);
	EXPECT_EQ(self->a.addrs.n, (size_t)ADDRS_MAX);
}

TEST_F(resolver, unknown_and_empty_names_fail)
{
	ask(self, &self->a, "nowhere.test");
	wait_for(self, &self->a);
	EXPECT_EQ(self->a.addrs.n, 0u);
	EXPECT_STREQ(self->a.error, "Domain name not found");
	ask(self, &self->a, "not a name..");
	wait_for(self, &self->a);
	EXPECT_EQ(self->a.addrs.n, 0u);
}

TEST_F(resolver, silent_server_times_out_and_a_later_answer_is_found)
{
	dns_add(&self->dns, "hub.test", "127.0.0.5");
	self->dns.silent = true;
	ask(self, &self->a, "hub.test");
	wait_for(self, &self->a);
	EXPECT_EQ(self->a.addrs.n, 0u);
	EXPECT_GE(self->dns.n_queries, 2u);
	TEST_LOG("%s", self->a.error);
	self->dns.silent = false;
	ask(self, &self->a, "hub.test");
	wait_for(self, &self->a);
	EXPECT_EQ(self->a.addrs.n, 1u);
}

TEST_F(resolver, cancelled_queries_are_not_called)
{
	dns_add(&self->dns, "hub.test", "127.0.0.5");
	ask(self, &self->a, "127.0.0.1");
	resolver_cancel(&self->a.query);
	for (int i = 0; i < 6; ++i) {
		ask(self, &self->a, "hub.test");
		ask(self, &self->b, "hub.test");
		for (int turn = 0; turn < i; ++turn)
			ASSERT_EQ(loop_turn(self->loop, 0), 0);
		resolver_cancel(&self->a.query);
		EXPECT_FALSE(resolver_query_is_pending(&self->a.query));
		wait_for(self, &self->b);
		EXPECT_EQ(self->b.addrs.n, 1u);
	}
	EXPECT_LE(self->a.n_answers, 4u);
	resolver_cancel(&self->a.query);
}

TEST_F(resolver, may_be_freed_while_a_cancelled_query_is_open)
{
	self->dns.silent = true;
	ask(self, &self->a, "hub.test");
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	resolver_cancel(&self->a.query);
	resolver_free(TAKE_PTR(self->resolver));
	/* Only the server is left. */
	while (loop_n_in_flight(self->loop) > 1)
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_EQ(self->a.n_answers, 0u);
}

/* Looks the other name up from inside the first answer. */
static void on_chain(struct resolver_query *query, const struct addrs *addrs, const char *error)
{
	struct lookup *l = container_of(query, struct lookup, query);

	on_answer(query, addrs, error);
	if (l->n_answers < 3)
		ASSERT_EQ(resolver_lookup(query->resolver, query,
					  l->n_answers == 1 ? "hub.test" : "nowhere.test", 1),
			  0);
}

TEST_F(resolver, answers_may_ask_again)
{
	dns_add(&self->dns, "hub.test", "127.0.0.5");
	resolver_query_init(&self->a.query, on_chain);
	ask(self, &self->a, "127.0.0.1");
	wait_for(self, &self->a);
	EXPECT_EQ(self->a.n_answers, 3u);
	EXPECT_STREQ(self->a.error, "Domain name not found");
}

TEST_F(resolver, wrong_server_option_is_an_error)
{
	struct resolver_options options = {.servers = "not an address"};
	struct resolver *r = NULL;

	self->log.fd = -1;
	EXPECT_EQ(resolver_new(&r, self->loop, &self->log, &options), -EIO);
	EXPECT_TRUE(r == NULL);
}

TEST_HARNESS_MAIN
