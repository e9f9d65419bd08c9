/* SPDX-License-Identifier: MIT */
/*
 * Resolver on c-ares, see resolver.h.
 *
 * c-ares owns its sockets and says which events it wants on each; a struct watch is one such socket, with a
 * poll that ends with its first event (c-ares does not read until EAGAIN). One timer stands for all of
 * c-ares' own.
 *
 * c-ares cannot cancel a single query and may answer from inside the call that starts it. So what it is given
 * is a struct resolver_lookup, which outlives the query of the owner if need be and passes the answer on at
 * the end of the turn.
 *
 * A channel reads its configuration only when it is made. It is made again before a lookup when there is a
 * reason to and nobody waits for an answer of the old one.
 */

#include <ares.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/list.h"
#include "base/time.h"
#include "net/resolver.h"

#define RESOLV_CONF        "/etc/resolv.conf"
#define TIMEOUT_MS_DEFAULT 2000
#define N_TRIES            3
#define ERROR_SIZE         160
/* Addresses of an answer that are looked at before the order of attempts is made of them. */
#define N_SORTED_MAX ((size_t)4 * ADDRS_MAX)

struct watch {
	struct resolver *resolver;
	struct loop_op op;
	struct list link;
	int fd; /* -1 once c-ares closed it */
	uint32_t events;
};

struct resolver {
	struct loop *loop;
	struct log *log;
	ares_channel channel; /* NULL once freed */
	struct loop_timer timer;
	struct list watches;
	struct list lookups;
	char *servers;
	int timeout_ms;
	struct timespec conf_mtime;
	bool stale; /* a lookup failed, or was given up, since the channel was made */
};

struct resolver_lookup {
	struct resolver *resolver;
	struct resolver_query *query; /* NULL: cancelled */
	struct list link;
	struct loop_deferred answer;
	bool answered;
	uint16_t port;
	struct addrs addrs;
	char error[ERROR_SIZE];
};

/* --- sockets and time ------------------------------------------------------------------------- */

static void resolver_settle(struct resolver *r)
{
	if (!r->channel && list_is_empty(&r->watches)) {
		free(r->servers);
		free(r);
	}
}

static void resolver_arm(struct resolver *r)
{
	struct timeval tv;

	if (!r->channel || !ares_timeout(r->channel, NULL, &tv)) {
		loop_timer_disarm(&r->timer);
		return;
	}
	/* One millisecond more: c-ares compares with a clock of its own and finer units. */
	loop_timer_arm(r->loop, &r->timer,
		       loop_now_ns(r->loop) + (uint64_t)tv.tv_sec * NSEC_PER_SEC +
			       (uint64_t)tv.tv_usec * NSEC_PER_USEC + NSEC_PER_MSEC);
}

static void watch_settle(struct watch *w)
{
	if (!loop_op_is_idle(&w->op))
		return;
	if (w->fd >= 0) {
		loop_op_poll_once(w->resolver->loop, &w->op, w->fd, w->events);
		return;
	}
	list_remove(&w->link);
	free(w);
}

static void on_socket(struct loop_op *op, int res)
{
	struct watch *w = container_of(op, struct watch, op);
	struct resolver *r = w->resolver;
	uint32_t events = res > 0 ? (uint32_t)res : 0;

	if (w->fd >= 0 && events) {
		/* Errors are found by reading or writing. */
		ares_socket_t in = events & ~(uint32_t)POLLOUT ? w->fd : ARES_SOCKET_BAD;
		ares_socket_t out =
			events & (uint32_t)(POLLOUT | POLLERR | POLLHUP) ? w->fd : ARES_SOCKET_BAD;

		ares_process_fd(r->channel, in, w->events & POLLOUT ? out : ARES_SOCKET_BAD);
		resolver_arm(r);
	}
	watch_settle(w);
	resolver_settle(r);
}

static struct watch *watch_find(struct resolver *r, int fd)
{
	list_for_each (link, &r->watches) {
		struct watch *w = container_of(link, struct watch, link);

		if (w->fd == fd)
			return w;
	}
	return NULL;
}

static void on_socket_state(void *userdata, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = userdata;
	struct watch *w = watch_find(r, fd);
	uint32_t events = (readable ? POLLIN : 0u) | (writable ? POLLOUT : 0u);

	if (!w) {
		w = events ? calloc(1, sizeof(*w)) : NULL;
		if (!w)
			return; /* out of memory: the query times out */
		w->resolver = r;
		w->fd = fd;
		loop_op_init(&w->op, on_socket);
		list_append(&r->watches, &w->link);
	} else if (w->events == events) {
		return;
	}
	w->events = events;
	if (!events)
		w->fd = -1;
	if (loop_op_is_idle(&w->op)) {
		/* Inside on_socket() of this one, which settles it afterwards, or it is new. */
		if (events)
			loop_op_poll_once(r->loop, &w->op, w->fd, events);
	} else {
		loop_op_cancel(r->loop, &w->op);
	}
}

static void on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct resolver *r = container_of(timer, struct resolver, timer);

	(void)now_ns;
	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	resolver_arm(r);
}

/* --- the channel ------------------------------------------------------------------------------ */

static struct timespec conf_mtime(void)
{
	struct stat st;

	if (stat(RESOLV_CONF, &st))
		st.st_mtim = (struct timespec){0};
	return st.st_mtim;
}

static int channel_new(struct resolver *r, ares_channel *out)
{
	struct ares_options options = {
		.timeout = r->timeout_ms,
		.tries = N_TRIES,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
	};
	ares_channel channel;
	int status;

	status = ares_init_options(&channel, &options,
				   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
	if (status == ARES_SUCCESS && r->servers) {
		status = ares_set_servers_ports_csv(channel, r->servers);
		if (status != ARES_SUCCESS)
			ares_destroy(channel);
	}
	if (status == ARES_ENOMEM)
		return -ENOMEM;
	if (status != ARES_SUCCESS) {
		log_error(r->log, "the resolver does not start: %s; check " RESOLV_CONF,
			  ares_strerror(status));
		return -EIO;
	}
	*out = channel;
	return 0;
}

/* Somebody waits for an answer of the channel. */
static bool resolver_is_busy(struct resolver *r)
{
	list_for_each (link, &r->lookups) {
		if (container_of(link, struct resolver_lookup, link)->query)
			return true;
	}
	return false;
}

/* Reads the configuration again where there is a reason to; keeps the old channel when that fails. */
static void resolver_refresh(struct resolver *r)
{
	struct timespec mtime = conf_mtime();
	bool changed = mtime.tv_sec != r->conf_mtime.tv_sec || mtime.tv_nsec != r->conf_mtime.tv_nsec;
	ares_channel channel;

	if ((!changed && !r->stale) || resolver_is_busy(r) || channel_new(r, &channel))
		return;
	ares_destroy(r->channel);
	r->channel = channel;
	r->conf_mtime = mtime;
	r->stale = false;
}

int resolver_new(struct resolver **out, struct loop *loop, struct log *log,
		 const struct resolver_options *options)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int error = 0;

	if (!r)
		return -ENOMEM;
	r->loop = loop;
	r->log = log;
	r->timeout_ms = options && options->timeout_ms ? (int)options->timeout_ms : TIMEOUT_MS_DEFAULT;
	list_init(&r->watches);
	list_init(&r->lookups);
	loop_timer_init(&r->timer, on_timer);
	r->conf_mtime = conf_mtime();
	if (options && options->servers) {
		r->servers = strdup(options->servers);
		error = r->servers ? 0 : -ENOMEM;
	}
	if (!error)
		error = channel_new(r, &r->channel);
	if (error) {
		resolver_settle(r);
		return error;
	}
	*out = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	loop_timer_disarm(&r->timer);
	/* Ends the lookups whose queries were cancelled, and closes the sockets. */
	ares_destroy(r->channel);
	r->channel = NULL;
	assert(list_is_empty(&r->lookups));
	resolver_settle(r);
}

/* --- lookups ---------------------------------------------------------------------------------- */

static void lookup_free(struct resolver_lookup *l)
{
	assert(!l->query);
	loop_undefer(&l->answer);
	list_remove(&l->link);
	free(l);
}

static void on_answer(struct loop_deferred *deferred)
{
	struct resolver_lookup *l = container_of(deferred, struct resolver_lookup, answer);
	struct resolver_query *query = l->query;

	l->query = NULL;
	query->lookup = NULL;
	/* Out of the list first: the callback may look up again, or free the resolver. */
	list_remove(&l->link);
	query->fn(query, l->addrs.n ? &l->addrs : NULL, l->error);
	free(l);
}

static void lookup_answer(struct resolver_lookup *l)
{
	l->answered = true;
	if (l->query)
		loop_defer(l->resolver->loop, &l->answer);
	else
		lookup_free(l);
}

static void lookup_take(struct resolver_lookup *l, const struct ares_addrinfo *info)
{
	union addr sorted[N_SORTED_MAX];
	size_t n = 0;

	memset(sorted, 0, sizeof(sorted));
	for (const struct ares_addrinfo_node *node = info->nodes; node && n < N_SORTED_MAX;
	     node = node->ai_next) {
		if (node->ai_family == AF_INET && node->ai_addrlen == sizeof(struct sockaddr_in)) {
			memcpy(&sorted[n].in4, node->ai_addr, sizeof(struct sockaddr_in));
			sorted[n++].in4.sin_port = htons(l->port);
		} else if (node->ai_family == AF_INET6 && node->ai_addrlen == sizeof(struct sockaddr_in6)) {
			memcpy(&sorted[n].in6, node->ai_addr, sizeof(struct sockaddr_in6));
			sorted[n++].in6.sin6_port = htons(l->port);
		}
	}
	addrs_interleave(&l->addrs, sorted, n);
}

static void on_ares_answer(void *userdata, int status, int n_timeouts, struct ares_addrinfo *info)
{
	struct resolver_lookup *l = userdata;

	(void)n_timeouts;
	if (status == ARES_SUCCESS)
		lookup_take(l, info);
	if (!l->addrs.n) {
		l->resolver->stale = true;
		snprintf(l->error, sizeof(l->error), "%s",
			 status == ARES_SUCCESS ? "the name has no address" : ares_strerror(status));
	}
	ares_freeaddrinfo(info);
	lookup_answer(l);
}

void resolver_query_init(struct resolver_query *query, resolver_fn fn)
{
	*query = (struct resolver_query){.fn = fn};
}

bool resolver_query_is_pending(const struct resolver_query *query)
{
	return query->lookup != NULL;
}

int resolver_lookup(struct resolver *r, struct resolver_query *query, const char *host, uint16_t port)
{
	struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct resolver_lookup *l;
	union addr addr;

	assert(!query->lookup);
	resolver_refresh(r);
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->resolver = r;
	l->query = query;
	l->port = port;
	loop_deferred_init(&l->answer, on_answer);
	list_append(&r->lookups, &l->link);
	query->resolver = r;
	query->lookup = l;
	if (addr_parse(host, port, &addr) == 0) {
		addrs_append(&l->addrs, &addr);
		lookup_answer(l);
		return 0;
	}
	ares_getaddrinfo(r->channel, host, NULL, &hints, on_ares_answer, l);
	resolver_arm(r);
	return 0;
}

void resolver_cancel(struct resolver_query *query)
{
	struct resolver_lookup *l = query->lookup;

	if (!l)
		return;
	query->lookup = NULL;
	l->query = NULL;
	if (l->answered)
		lookup_free(l);
	else
		query->resolver->stale = true;
}
