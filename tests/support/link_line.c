/* SPDX-License-Identifier: MIT */
/*
 * A link whose hub is the test, see link_line.h. It looks into the link: there is no other way to be online without
 * a hub.
 */

#include <arpa/inet.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "net/resolver.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/link_line.h"

/* A socket that is connected to and never read. */
static void listen_nowhere(struct link_line *line)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	line->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(bind(line->listening, (struct sockaddr *)&addr, len), 0);
	ASSERT_EQ(listen(line->listening, 16), 0);
	ASSERT_EQ(getsockname(line->listening, (struct sockaddr *)&addr, &len), 0);
	line->config.port = ntohs(addr.sin_port);
}

void link_line_init(struct link_line *line, const struct link_ops *ops, void *userdata)
{
	static char host[] = "127.0.0.1";
	struct link_options options;

	*line = (struct link_line){.listening = -1};
	log_init(&line->log, "# link", LOG_LEVEL_ERROR);
	listen_nowhere(line);
	line->config.host = host;
	snprintf(line->config.client_id, sizeof(line->config.client_id), "dev1");
	ASSERT_EQ(loop_new(&line->loop, &(struct loop_options){.log = &line->log}), 0);
	ASSERT_EQ(tls_context_new_client(&line->tls, NULL, &line->log), 0);
	ASSERT_EQ(resolver_new(&line->resolver, line->loop, &line->log, NULL), 0);
	options = (struct link_options){
		.loop = line->loop,
		.log = &line->log,
		.config = &line->config,
		.resolver = line->resolver,
		.tls = line->tls,
		.ops = ops,
		.userdata = userdata,
	};
	ASSERT_EQ(link_new(&line->link, &options), 0);
}

void link_line_deinit(struct link_line *line)
{
	if (!line->loop)
		return;
	link_free(line->link);
	resolver_free(line->resolver);
	while (loop_n_in_flight(line->loop))
		ASSERT_EQ(loop_turn(line->loop, TIME_NEVER), 0);
	tls_context_free(line->tls);
	loop_free(line->loop);
	close_fd(&line->listening);
	line->loop = NULL;
}

static void link_line_input(struct link_line *line, const struct mqtt_packet *packet)
{
	_cleanup_(free_ptr) uint8_t *bytes = malloc(sizeof(line->packet));
	struct writer w = writer_init(bytes, sizeof(line->packet));

	ASSERT_EQ(mqtt_encode(&w, packet, MQTT_LEVEL_5), 0);
	mqtt_session_input(line->link->session, writer_bytes(&w), loop_now_ns(line->loop));
}

void link_line_online(struct link_line *line)
{
	const struct mqtt_packet connect = {
		.type = MQTT_CONNECT,
		.connect = {.level = MQTT_LEVEL_5, .client_id = BYTES_LIT("dev1")},
	};
	struct mqtt_packet connack = {
		.type = MQTT_CONNACK,
		.connack.session_present = line->has_session,
		.properties = {.maximum_packet_size = HUB_PACKET_BYTES_MAX},
	};
	struct link *link = line->link;
	struct mqtt_packet sent;

	if (link->state == LINK_STOPPED) {
		link_start(link);
	} else {
		loop_timer_disarm(&link->retry);
		link->retry.fn(&link->retry, loop_now_ns(line->loop));
	}
	ASSERT_EQ(mqtt_session_start(link->session, &connect, loop_now_ns(line->loop)), 0);
	link->state = LINK_AUTHENTICATING;
	link->token_renew_ns = TIME_NEVER;
	mqtt_set(&connack.properties, MQTT_PROP_MAXIMUM_PACKET_SIZE);
	ASSERT_TRUE(link_line_next(line, MQTT_CONNECT, &sent));
	link_line_input(line, &connack);
	ASSERT_EQ((int)link->state, LINK_ONLINE);
}

void link_line_offline(struct link_line *line)
{
	link_lost(line->link, 0);
}

void link_line_publish(struct link_line *line, const char *topic, struct bytes correlation,
		       struct bytes payload)
{
	struct mqtt_packet publish = {
		.type = MQTT_PUBLISH,
		.publish = {.topic = bytes_from_str(topic), .payload = payload},
		.properties = {.correlation_data = correlation},
	};

	if (correlation.len)
		mqtt_set(&publish.properties, MQTT_PROP_CORRELATION_DATA);
	link_line_input(line, &publish);
	ASSERT_EQ((int)line->link->state, LINK_ONLINE);
}

/* The first packet of the output. */
static bool link_line_take(struct link_line *line, struct mqtt_packet *out)
{
	struct bytes output = mqtt_session_output(line->link->session), raw;
	struct mqtt_stream stream;

	if (!output.len)
		return false;
	mqtt_stream_init(&stream, sizeof(line->packet));
	mqtt_stream_push(&stream, output);
	ASSERT_EQ(mqtt_stream_next(&stream, &raw), 1);
	memcpy(line->packet, raw.data, raw.len);
	mqtt_session_sent(line->link->session, raw.len, loop_now_ns(line->loop));
	ASSERT_EQ(mqtt_decode(out, BYTES(line->packet, raw.len), MQTT_LEVEL_5, MQTT_FROM_CLIENT), 0);
	mqtt_stream_deinit(&stream);
	return true;
}

bool link_line_next(struct link_line *line, enum mqtt_type type, struct mqtt_packet *out)
{
	while (link_line_take(line, out))
		if (out->type == type)
			return true;
	return false;
}

void link_line_turn(struct link_line *line)
{
	ASSERT_EQ(loop_turn(line->loop, 10 * NSEC_PER_MSEC), 0);
}

void link_line_acknowledge(struct link_line *line)
{
	struct list *iter;

	while ((iter = list_first(&line->link->awaited))) {
		struct link_delivery_wait *wait = container_of(iter, struct link_delivery_wait, link);

		list_remove(iter);
		wait->on_acknowledged(wait, 0);
	}
}

unsigned int link_line_n_awaited(const struct link_line *line)
{
	unsigned int n = 0;

	list_for_each (iter, &line->link->awaited)
		++n;
	return n;
}
