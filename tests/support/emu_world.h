/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_EMU_WORLD_H
#define TESTS_SUPPORT_EMU_WORLD_H

/*
 * The emulator's hub in memory, and peers that talk to it: bytes and time by hand, no sockets, no clock.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mqtt/packet.h"
#include "tests/support/hub_connect.h"
#include "tools/emulator/client.h"
#include "tools/emulator/hub.h"

#define EMU_WORLD_START_MS UINT64_C(1700000000000)

struct emu_world {
	struct emu_hub hub;
	struct emu_registry *registry; /* dev1, dev1/mod, dev2 */
};

struct emu_peer {
	struct emu_world *world;
	struct emu_client *client;
	struct mqtt_stream stream;
	struct buf inbox; /* what the hub sent, not yet looked at */
	bool has_input;   /* the stream has a piece */
};

/* @options may be NULL. Returns 0 or a negative errno. */
int emu_world_init(struct emu_world *w, const struct emu_hub_options *options);
/* The same with what was kept in the directory @dir, which must be there. */
int emu_world_init_kept(struct emu_world *w, const char *dir);
/* All peers must be closed. */
void emu_world_deinit(struct emu_world *w);

void emu_world_pass_ms(struct emu_world *w, uint64_t ms);

struct bytes emu_world_key(struct emu_world *w, const char *id, size_t which);
struct bytes emu_world_policy_key(struct emu_world *w, const char *name);

/* A connection with the SNI `localhost`, or another, or NULL for none. */
struct emu_peer *emu_peer_open(struct emu_world *w, const char *server_name);
void emu_peer_close(struct emu_peer *p);

void emu_peer_send_bytes(struct emu_peer *p, struct bytes bytes);
/* Aborts when the packet cannot be encoded. */
void emu_peer_send(struct emu_peer *p, const struct mqtt_packet *packet);

/* The next packet from the hub, borrowed until the next call; false when there is none. */
bool emu_peer_next(struct emu_peer *p, struct mqtt_packet *out);

/* Connects as @id with its key and takes the CONNACK; NULL when that is not a success. */
struct emu_peer *emu_peer_connected(struct emu_world *w, const char *id);
/* As the service side. */
struct emu_peer *emu_peer_service(struct emu_world *w, const char *id);

#endif
