/* SPDX-License-Identifier: MIT */
/*
 * Tiny DNS server, see dns.h. Messages as in RFC 1035 section 4.1: header, one question, answers whose name
 * points at the question.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/list.h"
#include "tests/support/dns.h"

#define HEADER_SIZE   12
#define TYPE_A        1
#define TYPE_AAAA     28
#define RCODE_NO_NAME 3

/* Reads the question's name; returns the offset behind it, 0 when it is not one. */
static size_t question_name(const uint8_t *msg, size_t len, char out[static 256])
{
	size_t at = HEADER_SIZE, n = 0;

	while (at < len && msg[at]) {
		size_t label = msg[at];

		if (label > 63 || at + 1 + label >= len || n + label + 1 > 255)
			return 0;
		memcpy(out + n, msg + at + 1, label);
		n += label;
		out[n++] = '.';
		at += label + 1;
	}
	out[n ? n - 1 : 0] = '\0';
	return at < len ? at + 1 : 0;
}

static size_t answer_append(uint8_t *out, const union addr *addr)
{
	bool v6 = addr->sa.sa_family == AF_INET6;
	uint8_t head[] = {0xc0, HEADER_SIZE, 0, v6 ? TYPE_AAAA : TYPE_A, 0, 1, 0, 0, 0, 60, 0, v6 ? 16 : 4};

	memcpy(out, head, sizeof(head));
	if (v6)
		memcpy(out + sizeof(head), &addr->in6.sin6_addr, 16);
	else
		memcpy(out + sizeof(head), &addr->in4.sin_addr, 4);
	return sizeof(head) + (v6 ? 16 : 4);
}

/* Makes the answer of the @len bytes of question in @msg, in place; returns its length, 0 for none. */
static size_t dns_answer(const struct dns *dns, uint8_t *msg, size_t len)
{
	char name[256];
	size_t at = len > HEADER_SIZE ? question_name(msg, len, name) : 0;
	bool known = false;
	uint16_t type;
	uint8_t n = 0;

	if (!at || at + 4 > len)
		return 0;
	type = (uint16_t)(msg[at] << 8 | msg[at + 1]);
	at += 4;
	for (size_t i = 0; i < dns->n_records; ++i) {
		const struct dns_record *r = &dns->records[i];

		if (strcasecmp(r->name, name) != 0)
			continue;
		known = true;
		if (type != (r->addr.sa.sa_family == AF_INET6 ? TYPE_AAAA : TYPE_A))
			continue;
		at += answer_append(msg + at, &r->addr);
		++n;
	}
	msg[2] = 0x81;
	msg[3] = (uint8_t)(0x80 | (known ? 0 : RCODE_NO_NAME));
	msg[6] = 0;
	msg[7] = n;
	memset(msg + 8, 0, 4);
	return at;
}

static void on_socket(struct loop_op *op, int res)
{
	struct dns *dns = container_of(op, struct dns, op);
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	uint8_t msg[2048];
	ssize_t n;

	if (res == -ECANCELED) {
		close(dns->fd);
		return;
	}
	while ((n = recvfrom(dns->fd, msg, 512, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len)) > 0) {
		size_t len = dns_answer(dns, msg, (size_t)n);

		++dns->n_queries;
		if (len && !dns->silent)
			sendto(dns->fd, msg, len, 0, (struct sockaddr *)&from, from_len);
	}
	loop_op_poll_once(dns->loop, &dns->op, dns->fd, POLLIN);
}

int dns_init(struct dns *dns, struct loop *loop)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	memset(dns, 0, sizeof(*dns));
	dns->loop = loop;
	loop_op_init(&dns->op, on_socket);
	dns->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (dns->fd < 0 || bind(dns->fd, (struct sockaddr *)&addr, len) ||
	    getsockname(dns->fd, (struct sockaddr *)&addr, &len))
		return -errno;
	snprintf(dns->server, sizeof(dns->server), "127.0.0.1:%u", ntohs(addr.sin_port));
	loop_op_poll_once(loop, &dns->op, dns->fd, POLLIN);
	return 0;
}

void dns_add(struct dns *dns, const char *name, const char *literal)
{
	struct dns_record *r = &dns->records[dns->n_records++];
	int error = addr_parse(literal, 0, &r->addr);

	assert(dns->n_records <= DNS_N_RECORDS && !error);
	(void)error;
	r->name = name;
}

void dns_deinit(struct dns *dns)
{
	loop_op_cancel(dns->loop, &dns->op);
}
