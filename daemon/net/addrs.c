/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses and their order, see addrs.h.
 *
 * A host with both families is tried alternately, so that one family that is configured but does not work
 * (the usual case is IPv6 on a field network) costs one attempt delay and not one per address.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/addrs.h"

socklen_t addr_len(const union addr *addr)
{
	return addr->sa.sa_family == AF_INET6 ? sizeof(addr->in6) : sizeof(addr->in4);
}

int addr_parse(const char *text, uint16_t port, union addr *out)
{
	union addr addr;

	memset(&addr, 0, sizeof(addr));
	if (inet_pton(AF_INET, text, &addr.in4.sin_addr) == 1) {
		addr.in4.sin_family = AF_INET;
		addr.in4.sin_port = htons(port);
	} else if (inet_pton(AF_INET6, text, &addr.in6.sin6_addr) == 1) {
		addr.in6.sin6_family = AF_INET6;
		addr.in6.sin6_port = htons(port);
	} else {
		return -EINVAL;
	}
	*out = addr;
	return 0;
}

bool addr_is_literal(const char *text)
{
	union addr addr;

	return addr_parse(text, 0, &addr) == 0;
}

uint16_t addr_port(const union addr *addr)
{
	return ntohs(addr->sa.sa_family == AF_INET6 ? addr->in6.sin6_port : addr->in4.sin_port);
}

void addr_format(const union addr *addr, char out[static ADDR_TEXT_SIZE])
{
	char text[INET6_ADDRSTRLEN];

	out[0] = '\0';
	if (addr->sa.sa_family == AF_INET && inet_ntop(AF_INET, &addr->in4.sin_addr, text, sizeof(text)))
		snprintf(out, ADDR_TEXT_SIZE, "%s:%u", text, addr_port(addr));
	else if (addr->sa.sa_family == AF_INET6 &&
		 inet_ntop(AF_INET6, &addr->in6.sin6_addr, text, sizeof(text)))
		snprintf(out, ADDR_TEXT_SIZE, "[%s]:%u", text, addr_port(addr));
}

void addrs_append(struct addrs *list, const union addr *addr)
{
	if (list->n < ADDRS_MAX)
		list->list[list->n++] = *addr;
}

/* The first index from @from on whose address is of the family (@same) or of another one; @n when there is
 * none. */
static size_t addrs_find(const union addr *sorted, size_t n, size_t from, sa_family_t family, bool same)
{
	while (from < n && (sorted[from].sa.sa_family == family) != same)
		++from;
	return from;
}

void addrs_interleave(struct addrs *out, const union addr *sorted, size_t n)
{
	sa_family_t first = n ? sorted[0].sa.sa_family : AF_UNSPEC;
	size_t mine = addrs_find(sorted, n, 0, first, true);
	size_t other = addrs_find(sorted, n, 0, first, false);

	out->n = 0;
	while ((mine < n || other < n) && out->n < ADDRS_MAX) {
		if (mine < n) {
			addrs_append(out, &sorted[mine]);
			mine = addrs_find(sorted, n, mine + 1, first, true);
		}
		if (other < n) {
			addrs_append(out, &sorted[other]);
			other = addrs_find(sorted, n, other + 1, first, false);
		}
	}
}
