/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_WIRE_HUB_H
#define TESTS_SUPPORT_WIRE_HUB_H

/*
 * The hub's end of real TLS connections, with nothing behind it: the test sees each packet of the device byte for
 * byte and writes the answers by hand (wire_text.h). It lives on the device's loop. What goes wrong ends the test
 * with an assertion.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "loop/loop.h"
#include "mqtt/packet.h"
#include "tests/support/certs.h"

struct wire_hub {
	struct loop *loop;
	struct tls_context *tls;
	struct listener *listener;
	struct conn *conn;       /* the one that was accepted last; NULL: none, or closed */
	unsigned int n_opened;   /* handshakes that were completed */
	uint64_t opened_ns;      /* when the last one was */
	uint64_t received_ns;    /* when the device's last bytes came */
	bool has_certificate;    /* the device showed one; of the last handshake, too */
	uint8_t fingerprint[32]; /* its SHA-256 */
	struct mqtt_stream stream;
	struct buf inbox; /* arrived, not yet cut into packets */
	struct buf piece; /* what the stream works on */
};

/* Listens on @port of localhost with the server's certificate of @certs, and asks the device for one. @loop is
 * borrowed. */
void wire_hub_init(struct wire_hub *h, struct loop *loop, const struct certs *certs, uint16_t port);
/* Ends the connection and listening; the loop has to turn until nothing is in flight before wire_hub_deinit(). Both
 * work when zeroed, and twice. */
void wire_hub_stop(struct wire_hub *h);
void wire_hub_deinit(struct wire_hub *h);

/* Waits for the next packet of the device on the connection that there is, or that comes. The packet's bytes,
 * and what is decoded of them, are borrowed until the next call. */
struct bytes wire_hub_next(struct wire_hub *h, struct mqtt_packet *out);

/* Sends the bytes of a wire_text(). */
void wire_hub_send(struct wire_hub *h, const char *text);

/* Ends the connection without a word; the next one starts with an empty stream. */
void wire_hub_cut(struct wire_hub *h);

#endif
