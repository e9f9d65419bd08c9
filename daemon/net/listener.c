/* SPDX-License-Identifier: MIT */
/*
 * Listening socket, see listener.h. One multishot accept; when the kernel ends it with an error (out of
 * descriptors is the usual one) it is started again after a pause, so that a full process neither spins nor
 * becomes deaf.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/time.h"
#include "net/addrs.h"
#include "net/listener.h"

#define LISTENER_BACKLOG     128
#define LISTENER_RETRY_NS    (NSEC_PER_SEC / 2)
#define LISTENER_PATIENCE_MS 3000
#define LISTENER_PAUSE_MS    20

struct listener {
	struct loop *loop;
	struct log *log;
	struct log_once logged;
	struct loop_op accept;
	struct loop_timer retry;
	listener_fn fn; /* NULL once freed */
	void *userdata;
	int fd;
	uint16_t port;
};

static void listener_destroy(struct listener *l)
{
	close(l->fd);
	free(l);
}

static void on_accept(struct loop_op *op, int res)
{
	struct listener *l = container_of(op, struct listener, accept);

	if (!l->fn) {
		if (res >= 0)
			close(res);
		if (loop_op_is_idle(op))
			listener_destroy(l);
		return;
	}
	if (loop_op_is_idle(op)) {
		log_write_once(l->log, &l->logged, LOG_LEVEL_WARNING,
			       "cannot accept connections on port %u: %s", l->port,
			       strerror(res < 0 ? -res : 0));
		loop_timer_arm(l->loop, &l->retry, loop_now_ns(l->loop) + LISTENER_RETRY_NS);
	}
	if (res >= 0) {
		log_once_reset(&l->logged);
		l->fn(l->userdata, res);
	}
}

static void on_retry(struct loop_timer *timer, uint64_t now_ns)
{
	struct listener *l = container_of(timer, struct listener, retry);

	(void)now_ns;
	loop_op_accept(l->loop, &l->accept, l->fd);
}

/* Returns a listening descriptor or a negative errno; @addr gets the port. */
static int listen_on(union addr *addr)
{
	_cleanup_(close_fd) int fd = -1;
	socklen_t len = addr_len(addr);
	int one = 1;

	fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, &addr->sa, len) || listen(fd, LISTENER_BACKLOG) || getsockname(fd, &addr->sa, &len))
		return -errno;
	return TAKE_FD(fd);
}

/*
 * The kernel takes the ring of a killed process down some time after the process itself, and the sockets in it with the
 * ring. So a port that is in use is tried again for a moment: it may be that of the program that is started anew here.
 */
static int listen_patiently(union addr *addr)
{
	int fd = listen_on(addr);

	for (unsigned int i = 0; fd == -EADDRINUSE && i < LISTENER_PATIENCE_MS / LISTENER_PAUSE_MS; ++i) {
		poll(NULL, 0, LISTENER_PAUSE_MS);
		fd = listen_on(addr);
	}
	return fd;
}

int listener_new(struct listener **out, struct loop *loop, const char *host, uint16_t port, listener_fn fn,
		 void *userdata, struct log *log)
{
	struct listener *l;
	union addr addr;
	int fd;

	if (addr_parse(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port, &addr)) {
		log_error(log,
			  "cannot listen on \"%s\": it is not an IP address; use one of this machine, or "
			  "0.0.0.0 or :: for all",
			  host);
		return -EINVAL;
	}
	fd = listen_patiently(&addr);
	if (fd < 0) {
		log_error(log, "cannot listen on %s port %u: %s", host, port, strerror(-fd));
		return fd;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		close(fd);
		return -ENOMEM;
	}
	*l = (struct listener){
		.loop = loop, .log = log, .fn = fn, .userdata = userdata, .fd = fd, .port = addr_port(&addr)};
	loop_op_init(&l->accept, on_accept);
	loop_timer_init(&l->retry, on_retry);
	loop_op_accept(loop, &l->accept, fd);
	*out = l;
	return 0;
}

uint16_t listener_port(const struct listener *l)
{
	return l->port;
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	l->fn = NULL;
	loop_timer_disarm(&l->retry);
	if (loop_op_is_idle(&l->accept))
		listener_destroy(l);
	else
		loop_op_cancel(l->loop, &l->accept);
}
