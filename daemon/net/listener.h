/* SPDX-License-Identifier: MIT */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

/*
 * A listening TCP socket that hands out accepted connections.
 */

#include <stdint.h>

#include "base/log.h"
#include "loop/loop.h"

struct listener;

/* A connection came in; the callback owns @fd_take (normally it goes to conn_accept()). May free the
 * listener. */
typedef void (*listener_fn)(void *userdata, int fd_take);

/*
 * Listens on @host, an address literal or `localhost` (127.0.0.1), and @port, 0 for one the system picks. Blocks for up
 * to three seconds while somebody else has the port.
 * Returns 0, or, with one line logged, -EINVAL (not an address), -EADDRINUSE, -EACCES and other errors of
 * bind(2); -ENOMEM.
 */
int listener_new(struct listener **out, struct loop *loop, const char *host, uint16_t port, listener_fn fn,
		 void *userdata, struct log *log);

/* The port it listens on. */
uint16_t listener_port(const struct listener *l);

/* Stops; nothing is called afterwards. The object goes away by itself once its operation has ended. NULL is
 * fine. */
void listener_free(struct listener *l);

#endif
