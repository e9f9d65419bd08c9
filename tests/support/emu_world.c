/* SPDX-License-Identifier: MIT */
/*
 * The emulator's hub in memory, see emu_world.h.
 */

#include "tests/support/emu_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/emulator/deliver.h"
#include "tools/emulator/state.h"

#define INBOX_MAX (128u * 1024 * 1024)

static void on_wake(void *userdata)
{
	(void)userdata;
}

static const struct emu_client_ops client_ops = {.on_wake = on_wake};

static int world_init(struct emu_world *w, const struct emu_hub_options *options, const char *dir)
{
	struct emu_hub_options defaults = EMU_HUB_OPTIONS_DEFAULT;
	static const char *const ids[] = {"dev1", "dev1/mod", "dev2"};
	int r = emu_registry_load(&w->registry, dir, NULL);

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]) && r == 0; i++)
		r = emu_registry_add(w->registry, ids[i]);
	if (r == 0)
		r = emu_registry_save(w->registry);
	if (r < 0)
		return r;
	if (options)
		defaults = *options;
	defaults.host = "localhost";
	r = emu_hub_init(&w->hub, &defaults, w->registry, NULL, EMU_WORLD_START_MS);
	emu_hub_set_time(&w->hub, NSEC_PER_SEC, EMU_WORLD_START_MS);
	return r;
}

int emu_world_init(struct emu_world *w, const struct emu_hub_options *options)
{
	return world_init(w, options, NULL);
}

int emu_world_init_kept(struct emu_world *w, const char *dir)
{
	char path[256];
	int r = world_init(w, NULL, dir);

	snprintf(path, sizeof(path), "%s/state.log", dir);
	return r < 0 ? r : emu_state_open(&w->hub, path);
}

void emu_world_deinit(struct emu_world *w)
{
	emu_hub_deinit(&w->hub);
	emu_registry_free(w->registry);
}

void emu_world_pass_ms(struct emu_world *w, uint64_t ms)
{
	emu_hub_set_time(&w->hub, w->hub.now_ns + ms * NSEC_PER_MSEC, w->hub.wall_ms + ms);
	list_for_each (link, &w->hub.clients) {
		struct emu_client *c = container_of(link, struct emu_client, link);

		if (emu_client_deadline_ns(c) <= w->hub.now_ns)
			emu_client_tick(c);
	}
	emu_commands_tick(&w->hub);
}

struct bytes emu_world_key(struct emu_world *w, const char *id, size_t which)
{
	return emu_key_bytes(&emu_registry_find(w->registry, bytes_from_str(id))->credentials.keys[which]);
}

struct bytes emu_world_policy_key(struct emu_world *w, const char *name)
{
	return emu_key_bytes(&emu_registry_policy(w->registry, bytes_from_str(name))->key);
}

struct emu_peer *emu_peer_open(struct emu_world *w, const char *server_name)
{
	struct emu_peer *p = calloc(1, sizeof(*p));

	if (!p || emu_client_new(&p->client, &w->hub, server_name, "192.0.2.1:1", &client_ops, p) < 0)
		abort();
	p->world = w;
	mqtt_stream_init(&p->stream, MQTT_VARINT_MAX);
	buf_init(&p->inbox, INBOX_MAX);
	return p;
}

void emu_peer_close(struct emu_peer *p)
{
	if (!p)
		return;
	emu_client_free(p->client);
	mqtt_stream_deinit(&p->stream);
	buf_deinit(&p->inbox);
	free(p);
}

void emu_peer_send_bytes(struct emu_peer *p, struct bytes bytes)
{
	emu_client_input(p->client, bytes);
}

void emu_peer_send(struct emu_peer *p, const struct mqtt_packet *packet)
{
	size_t size = 8192 + packet->publish.payload.len;
	uint8_t *bytes = malloc(size);
	struct writer w = writer_init(bytes, size);

	if (mqtt_encode(&w, packet, MQTT_LEVEL_5) < 0)
		abort();
	emu_peer_send_bytes(p, writer_bytes(&w));
	free(bytes);
}

/* Moves what the hub has to say to the peer, as the connection would at the end of a turn. */
static bool inbox_fill(struct emu_peer *p)
{
	struct bytes out = emu_client_output(p->client);

	if (out.len == 0 || emu_client_closing(p->client) == EMU_CUT)
		return false;
	if (emu_hub_commit(&p->world->hub) < 0)
		abort();
	buf_consume(&p->inbox, buf_len(&p->inbox));
	if (buf_append(&p->inbox, out) < 0)
		abort();
	emu_client_sent(p->client, out.len);
	mqtt_stream_push(&p->stream, buf_bytes(&p->inbox));
	return true;
}

bool emu_peer_next(struct emu_peer *p, struct mqtt_packet *out)
{
	struct bytes bytes;
	int r;

	while ((r = mqtt_stream_next(&p->stream, &bytes)) == 0) {
		if (!inbox_fill(p))
			return false;
	}
	if (r < 0 || mqtt_decode(out, bytes, MQTT_LEVEL_5, MQTT_FROM_SERVER) < 0)
		abort();
	return true;
}

static struct emu_peer *connected(struct emu_world *w, const struct hub_connect *connect)
{
	struct emu_peer *p = emu_peer_open(w, "localhost");
	uint8_t bytes[HUB_CONNECT_MAX];
	struct mqtt_packet packet;

	emu_peer_send_bytes(p, hub_connect_encode(connect, bytes));
	if (emu_peer_next(p, &packet) && packet.type == MQTT_CONNACK && packet.connack.reason == 0)
		return p;
	emu_peer_close(p);
	return NULL;
}

struct emu_peer *emu_peer_connected(struct emu_world *w, const char *id)
{
	struct hub_connect connect = hub_connect_make(id, emu_world_key(w, id, 0));

	return connected(w, &connect);
}

struct emu_peer *emu_peer_service(struct emu_world *w, const char *id)
{
	struct hub_connect connect = hub_connect_make(id, emu_world_policy_key(w, "service"));

	connect.policy = "service";
	return connected(w, &connect);
}
