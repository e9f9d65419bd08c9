/* SPDX-License-Identifier: MIT */
#ifndef NET_RESOLVER_H
#define NET_RESOLVER_H

/*
 * Host names to addresses, without blocking the loop: /etc/hosts and DNS as in /etc/resolv.conf, asked
 * directly and not through the C library's name services.
 *
 * The configuration is read again when /etc/resolv.conf changed and after a lookup that failed: a device in
 * the field often starts before its network is there.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "loop/loop.h"
#include "net/addrs.h"

struct resolver;
struct resolver_query;

/*
 * The answer: @addrs has at least one address, in the order in which to try them, or is NULL and @error says
 * why in words. Both borrowed until the callback returns; the query is idle again.
 */
typedef void (*resolver_fn)(struct resolver_query *query, const struct addrs *addrs, const char *error);

/* Embedded in its owner, which stays where it is while the query is pending. */
struct resolver_query {
	resolver_fn fn;
	struct resolver *resolver;
	struct resolver_lookup *lookup; /* NULL: not pending */
};

/* For tests; zero-initialise for the system's. */
struct resolver_options {
	const char *servers; /* `127.0.0.1:5353`, comma-separated, instead of resolv.conf's; copied */
	uint32_t timeout_ms; /* of a server's first answer; default 2000 */
};

/* @options may be NULL. Returns 0, -ENOMEM or -EIO (the library does not start). */
int resolver_new(struct resolver **out, struct loop *loop, struct log *log,
		 const struct resolver_options *options);

/* No query may be pending. The object goes away by itself once its operations ended. NULL is fine. */
void resolver_free(struct resolver *r);

void resolver_query_init(struct resolver_query *query, resolver_fn fn);

/*
 * Looks @host up (address literals need no server); @port goes into the addresses. The callback comes from
 * the loop, never from in here. Returns 0 or -ENOMEM.
 */
int resolver_lookup(struct resolver *r, struct resolver_query *query, const char *host, uint16_t port);

bool resolver_query_is_pending(const struct resolver_query *query);

/* No callback any more; the query may be freed. No-op when it is not pending. */
void resolver_cancel(struct resolver_query *query);

#endif
