/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_LINK_LINE_H
#define TESTS_SUPPORT_LINK_LINE_H

/*
 * A link whose hub is the test: it is told by hand that it is online, what it sends stays in its session until the
 * test takes it, and what the hub says is put in. Its connection leads to a socket where nobody answers.
 */

#include "flow/link.h"
#include "loop/loop.h"
#include "mqtt/packet.h"

struct link_line {
	struct loop *loop;
	struct log log;
	struct config config;
	struct resolver *resolver;
	struct tls_context *tls;
	struct link *link;
	int listening;
	bool has_session;       /* whether the hub says so when it accepts the link */
	uint8_t packet[300000]; /* the last one of link_line_next() */
};

/* @ops, @userdata: of the link. */
void link_line_init(struct link_line *line, const struct link_ops *ops, void *userdata);
/* Frees what is there; works with a zeroed struct. */
void link_line_deinit(struct link_line *line);

/* The hub accepts the link; and the connection ends. */
void link_line_online(struct link_line *line);
void link_line_offline(struct link_line *line);

/* A message of the hub, QoS 0. @correlation: Correlation Data; without bytes: none. */
void link_line_publish(struct link_line *line, const char *topic, struct bytes correlation,
		       struct bytes payload);

/* Takes the next packet of @type the link has for the hub, dropping others before it; false: there is none. Borrowed
 * until the next call. */
bool link_line_next(struct link_line *line, enum mqtt_type type, struct mqtt_packet *out);

/* The next turn of the loop, with whatever is there to do. */
void link_line_turn(struct link_line *line);

/* Those who wait for an acknowledgement get it (0), as if the hub's machine had sent one. */
void link_line_acknowledge(struct link_line *line);
/* How many wait. */
unsigned int link_line_n_awaited(const struct link_line *line);

#endif
