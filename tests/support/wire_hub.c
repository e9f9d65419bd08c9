/* SPDX-License-Identifier: MIT */
/*
 * The hub's end of a connection by hand, see wire_hub.h.
 */

#include "base/time.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/wire_hub.h"
#include "tests/support/wire_text.h"

#define INBOX_MAX (1024u * 1024)
#define TEXT_MAX  4096

static void on_open(void *userdata)
{
	struct wire_hub *h = userdata;
	struct tls_certificate certificate;

	++h->n_opened;
	h->opened_ns = loop_now_ns(h->loop);
	h->has_certificate = conn_peer_certificate(h->conn, &certificate);
	if (h->has_certificate)
		memcpy(h->fingerprint, certificate.fingerprint, sizeof(h->fingerprint));
}

static void on_data(void *userdata, struct bytes data)
{
	struct wire_hub *h = userdata;

	h->received_ns = loop_now_ns(h->loop);
	ASSERT_EQ(buf_append(&h->inbox, data), 0);
}

static void on_closed(void *userdata, enum conn_end end, const char *text)
{
	struct wire_hub *h = userdata;

	(void)end;
	TEST_LOG("the device's connection is over: %s", text);
	h->conn = NULL;
}

static const struct conn_ops hub_ops = {.on_open = on_open, .on_data = on_data, .on_closed = on_closed};

/* The last one counts: a device has one connection at a time. */
static void on_accept(void *userdata, int fd_take)
{
	struct wire_hub *h = userdata;

	wire_hub_cut(h);
	ASSERT_EQ(conn_accept(&h->conn, h->loop, h->tls, fd_take, &hub_ops, h), 0);
}

static void stream_init(struct wire_hub *h)
{
	mqtt_stream_init(&h->stream, MQTT_VARINT_MAX);
	buf_init(&h->inbox, INBOX_MAX);
	buf_init(&h->piece, INBOX_MAX);
}

static void stream_deinit(struct wire_hub *h)
{
	mqtt_stream_deinit(&h->stream);
	buf_deinit(&h->inbox);
	buf_deinit(&h->piece);
}

void wire_hub_init(struct wire_hub *h, struct loop *loop, const struct certs *certs, uint16_t port)
{
	*h = (struct wire_hub){.loop = loop};
	stream_init(h);
	ASSERT_EQ(tls_context_new_server(&h->tls, certs->cert_file, certs->key_file, NULL), 0);
	ASSERT_EQ(tls_context_ask_client(h->tls, certs->ca_file, NULL), 0);
	ASSERT_EQ(listener_new(&h->listener, loop, "localhost", port, on_accept, h, NULL), 0);
}

void wire_hub_stop(struct wire_hub *h)
{
	listener_free(h->listener);
	h->listener = NULL;
	if (h->conn)
		conn_abort(h->conn);
	h->conn = NULL;
}

void wire_hub_deinit(struct wire_hub *h)
{
	if (!h->loop)
		return;
	wire_hub_stop(h);
	tls_context_free(h->tls);
	stream_deinit(h);
	*h = (struct wire_hub){0};
}

struct bytes wire_hub_next(struct wire_hub *h, struct mqtt_packet *out)
{
	struct bytes packet = BYTES(NULL, 0);
	struct buf swap;
	int r;

	while ((r = mqtt_stream_next(&h->stream, &packet)) == 0) {
		while (buf_len(&h->inbox) == 0)
			ASSERT_EQ(loop_turn(h->loop, TIME_NEVER), 0);
		buf_consume(&h->piece, buf_len(&h->piece));
		swap = h->piece;
		h->piece = h->inbox;
		h->inbox = swap;
		mqtt_stream_push(&h->stream, buf_bytes(&h->piece));
	}
	ASSERT_EQ(r, 1);
	ASSERT_EQ(mqtt_decode(out, packet, MQTT_LEVEL_5, MQTT_FROM_CLIENT), 0);
	return packet;
}

void wire_hub_send(struct wire_hub *h, const char *text)
{
	uint8_t bytes[TEXT_MAX];

	ASSERT_TRUE(h->conn != NULL);
	ASSERT_EQ(conn_write(h->conn, wire_text(text, bytes, sizeof(bytes))), 0);
}

void wire_hub_cut(struct wire_hub *h)
{
	if (h->conn)
		conn_abort(h->conn);
	h->conn = NULL;
	stream_deinit(h);
	stream_init(h);
}
