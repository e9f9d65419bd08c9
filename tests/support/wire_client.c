/* SPDX-License-Identifier: MIT */
/*
 * MQTT packets over TLS by hand, see wire_client.h.
 */

#include "tests/support/wire_client.h"

#include <stdlib.h>

#include "base/time.h"
#include "loop/loop.h"
#include "net/resolver.h"
#include "net/tls.h"

#define BYTES_MAX (256u * 1024 * 1024)

struct wire {
	struct loop *loop;
	struct resolver *resolver;
	struct tls_context *tls;
};

struct wire *wire_new(const char *ca_file)
{
	struct wire *w = calloc(1, sizeof(*w));
	struct loop_options options = {.log = NULL};

	if (!w)
		return NULL;
	if (loop_new(&w->loop, &options) < 0 || resolver_new(&w->resolver, w->loop, NULL, NULL) < 0 ||
	    tls_context_new_client(&w->tls, ca_file, NULL) < 0) {
		wire_free(w);
		return NULL;
	}
	return w;
}

void wire_free(struct wire *w)
{
	if (!w)
		return;
	resolver_free(w->resolver);
	while (w->loop && loop_n_in_flight(w->loop) > 0) {
		if (loop_turn(w->loop, TIME_NEVER) < 0)
			break;
	}
	tls_context_free(w->tls);
	loop_free(w->loop);
	free(w);
}

struct loop *wire_loop(struct wire *w)
{
	return w->loop;
}

static void on_open(void *userdata)
{
	struct wire_client *c = userdata;

	c->is_open = true;
}

static void on_data(void *userdata, struct bytes data)
{
	struct wire_client *c = userdata;

	if (buf_append(&c->inbox, data) < 0)
		abort();
}

static void on_closed(void *userdata, enum conn_end end, const char *text)
{
	struct wire_client *c = userdata;

	(void)text;
	c->conn = NULL;
	c->end = end;
}

struct wire_client *wire_open(struct wire *w, const char *host, uint16_t port)
{
	static const struct conn_ops ops = {.on_open = on_open, .on_data = on_data, .on_closed = on_closed};
	struct wire_client *c = calloc(1, sizeof(*c));
	struct conn_client_options options = {
		.loop = w->loop,
		.resolver = w->resolver,
		.tls = w->tls,
		.host = host,
		.port = port,
		.ops = &ops,
		.userdata = c,
	};

	if (!c)
		return NULL;
	c->wire = w;
	mqtt_stream_init(&c->stream, MQTT_VARINT_MAX);
	buf_init(&c->inbox, BYTES_MAX);
	buf_init(&c->piece, BYTES_MAX);
	if (conn_connect(&c->conn, &options) < 0) {
		wire_close(c);
		return NULL;
	}
	return c;
}

static bool turn(struct wire_client *c)
{
	return loop_turn(c->wire->loop, TIME_NEVER) >= 0;
}

bool wire_wait_open(struct wire_client *c)
{
	while (!c->is_open && c->conn) {
		if (!turn(c))
			return false;
	}
	return c->conn != NULL;
}

void wire_wait_closed(struct wire_client *c)
{
	while (c->conn && turn(c))
		;
}

void wire_close(struct wire_client *c)
{
	if (!c)
		return;
	if (c->conn)
		conn_abort(c->conn);
	mqtt_stream_deinit(&c->stream);
	buf_deinit(&c->inbox);
	buf_deinit(&c->piece);
	free(c);
}

bool wire_send_bytes(struct wire_client *c, struct bytes bytes)
{
	return c->conn && conn_write(c->conn, bytes) == 0;
}

bool wire_send(struct wire_client *c, const struct mqtt_packet *packet)
{
	size_t size = 4096 + packet->properties.repeatable.len;
	struct writer w;
	uint8_t *bytes;
	bool sent;

	if (packet->type == MQTT_PUBLISH)
		size += packet->publish.payload.len;
	bytes = malloc(size);
	w = writer_init(bytes, size);
	sent = mqtt_encode(&w, packet, MQTT_LEVEL_5) == 0 && wire_send_bytes(c, writer_bytes(&w));
	free(bytes);
	return sent;
}

bool wire_next(struct wire_client *c, struct mqtt_packet *out)
{
	struct bytes bytes;
	struct buf swap;
	int r;

	while ((r = mqtt_stream_next(&c->stream, &bytes)) == 0) {
		while (buf_len(&c->inbox) == 0) {
			if (!c->conn || !turn(c))
				return false;
		}
		buf_consume(&c->piece, buf_len(&c->piece));
		swap = c->piece;
		c->piece = c->inbox;
		c->inbox = swap;
		mqtt_stream_push(&c->stream, buf_bytes(&c->piece));
	}
	if (r < 0 || mqtt_decode(out, bytes, MQTT_LEVEL_5, MQTT_FROM_SERVER) < 0)
		abort();
	return true;
}
