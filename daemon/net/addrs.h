/* SPDX-License-Identifier: MIT */
#ifndef NET_ADDRS_H
#define NET_ADDRS_H

/*
 * Socket addresses of IPv4 and IPv6 as values, their texts, and the order in which the addresses of one host
 * are tried (RFC 8305 section 4). Pure.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Addresses of one host that are looked at; what a name has beyond that is ignored. */
#define ADDRS_MAX 16

/* `[` IPv6 `%` scope `]:` port and a NUL. */
#define ADDR_TEXT_SIZE (INET6_ADDRSTRLEN + 20)

union addr {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};

struct addrs {
	size_t n;
	union addr list[ADDRS_MAX];
};

/* Size for connect(2) and bind(2). */
socklen_t addr_len(const union addr *addr);

/* Reads an IPv4 or IPv6 literal without brackets or scope. Returns 0, or -EINVAL when @text is not one. */
int addr_parse(const char *text, uint16_t port, union addr *out);

/* True when @text is an address literal, so not a name that can be looked up or sent as SNI. */
bool addr_is_literal(const char *text);

uint16_t addr_port(const union addr *addr);

/* `192.0.2.1:8883` or `[2001:db8::1]:8883`; "" for any other family. */
void addr_format(const union addr *addr, char out[static ADDR_TEXT_SIZE]);

/* Appends unless the list is full. */
void addrs_append(struct addrs *list, const union addr *addr);

/*
 * The order of attempts: the families alternate, beginning with that of the first address of @sorted; the
 * order within a family stays.
 * @sorted has @n addresses in the order of preference; at most ADDRS_MAX of them are taken, of each
 * family as many as alternate, then the rest.
 */
void addrs_interleave(struct addrs *out, const union addr *sorted, size_t n);

#endif
