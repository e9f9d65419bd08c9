/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_WIRE_CLIENT_H
#define TESTS_SUPPORT_WIRE_CLIENT_H

/*
 * MQTT packets over real TLS connections, one at a time and by hand: no session, no keep-alive, no reconnect.
 * Any number of clients share one loop; waiting for one serves all.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "mqtt/packet.h"
#include "net/conn.h"

struct wire; /* the loop, the resolver, the trust */

/* NULL when it cannot be made; @ca_file is a PEM file. */
struct wire *wire_new(const char *ca_file);
/* Clients must be closed. */
void wire_free(struct wire *w);
struct loop *wire_loop(struct wire *w);

struct wire_client {
	struct wire *wire;
	struct conn *conn; /* NULL once closed */
	bool is_open;
	enum conn_end end; /* how it closed */
	struct mqtt_stream stream;
	struct buf inbox; /* arrived, not yet cut into packets */
	struct buf piece; /* what the stream works on */
};

/* Starts connecting to @host, which is also the SNI when it is a name. NULL: no memory. */
struct wire_client *wire_open(struct wire *w, const char *host, uint16_t port);

/* Waits; false: it closed instead. */
bool wire_wait_open(struct wire_client *c);

/* Waits until the peer has closed the connection; packets that arrive meanwhile stay. */
void wire_wait_closed(struct wire_client *c);

/* Closes without a word and frees. NULL is fine. */
void wire_close(struct wire_client *c);

/* False: it is closed. */
bool wire_send_bytes(struct wire_client *c, struct bytes bytes);
bool wire_send(struct wire_client *c, const struct mqtt_packet *packet);

/* Waits for the next packet, borrowed until the next call. False: the connection ended before one came. */
bool wire_next(struct wire_client *c, struct mqtt_packet *out);

#endif
