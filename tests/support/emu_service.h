/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_EMU_SERVICE_H
#define TESTS_SUPPORT_EMU_SERVICE_H

/*
 * Requests to the emulator in memory: of the service side, and those of a device.
 */

#include "tests/support/emu_world.h"

struct emu_reply {
	bool came;
	char status[8]; /* "" for a success */
	char reason[200];
	char payload[65536];
	char properties[512]; /* all of them, `name=value,…` */
};

/* Sends the request @topic with the User Properties `name=value,…` (NULL: none) and @payload. */
void emu_request_send(struct emu_peer *p, const char *topic, const char *properties, const char *payload,
		      const char *correlation);

/* Takes packets until one is the response with @correlation; false: there is none. Lives in @reply. */
bool emu_reply_take(struct emu_peer *p, const char *correlation, struct emu_reply *reply);

/* Both: the status, "none" when no answer came. */
const char *emu_ask(struct emu_peer *p, struct emu_reply *reply, const char *topic, const char *properties,
		    const char *payload);

/* Value of a property of the reply, "" when it has none. Lives until the next call. */
const char *emu_reply_property(const struct emu_reply *reply, const char *name);

/* Subscribes, one filter or more as in hub_subscribe_make(), and takes the SUBACK; its first reason, -1 without. */
int emu_subscribe(struct emu_peer *p, const char *filters);

/* PUBACK with a reason and, unless NULL, a status. */
void emu_puback(struct emu_peer *p, uint16_t packet_id, uint8_t reason, const char *status);

/* A fault by the service side's JSON; its status. */
const char *emu_set_fault(struct emu_peer *service, const char *json);

#endif
