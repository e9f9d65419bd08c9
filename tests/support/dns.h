/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_DNS_H
#define TESTS_SUPPORT_DNS_H

/*
 * A tiny DNS server on loopback, on the test's own loop: A and AAAA records of a few names, NXDOMAIN for the
 * rest.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/loop.h"
#include "net/addrs.h"

#define DNS_N_RECORDS 48

struct dns_record {
	const char *name;
	union addr addr;
};

struct dns {
	struct loop *loop;
	struct loop_op op;
	int fd;
	char server[32]; /* `127.0.0.1:port`, for resolver_options */
	bool silent;     /* queries are counted and not answered */
	unsigned int n_queries;
	size_t n_records;
	struct dns_record records[DNS_N_RECORDS];
};

/* Returns 0 or a negative errno. */
int dns_init(struct dns *dns, struct loop *loop);

/* @name is borrowed, @literal an address. */
void dns_add(struct dns *dns, const char *name, const char *literal);

/* The operation ends with the next turns of the loop. */
void dns_deinit(struct dns *dns);

#endif
