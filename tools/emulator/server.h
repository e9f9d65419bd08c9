/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_SERVER_H
#define EMULATOR_SERVER_H

/*
 * The hub on the network: listening sockets, TLS connections, and the loop's time, wired to the protocol of
 * client.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "hub.h"
#include "loop/loop.h"

struct emu_server;
struct tls_context;

/* Called once, when every connection is gone after emu_server_stop(). */
typedef void (*emu_server_stopped_fn)(void *userdata);

/* Everything is borrowed. Returns 0 or -ENOMEM. */
int emu_server_new(struct emu_server **out, struct loop *loop, struct emu_hub *hub, struct tls_context *tls,
		   struct log *log);

/* Drops what is left without a word; the loop may have to turn until nothing is in flight. NULL is fine. */
void emu_server_free(struct emu_server *s);

/*
 * Listens on @address, or, when it is NULL, on 127.0.0.1 and, where there is IPv6, on ::1. @port 0: one the
 * system picks. Returns 0, or the listener's error, logged.
 */
int emu_server_listen(struct emu_server *s, const char *address, uint16_t port);

/* The port it listens on. */
uint16_t emu_server_port(const struct emu_server *s);

/* Stops listening and says goodbye to every client. The second call drops them. */
void emu_server_stop(struct emu_server *s, emu_server_stopped_fn fn, void *userdata);

/* Drops the connections of all devices without a word. */
void emu_server_cut_devices(struct emu_server *s);

/* The state could not be written and the loop was stopped: nothing that was not written has been told. */
bool emu_server_failed(const struct emu_server *s);

#endif
