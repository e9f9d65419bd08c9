/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_SESSION_H
#define EMULATOR_SESSION_H

/*
 * What the hub keeps for a client between connections (MQTT 5 section 4.1): its subscriptions and how long
 * they live. In memory. A session without a connection ends by itself: nobody looks at it before
 * emu_session_is_present().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "contract.h"

#define SESSION_EXPIRY_NEVER UINT32_MAX

struct emu_client;

struct emu_subscription {
	char *topic;
	uint8_t qos;
};

struct emu_session {
	struct emu_client *client; /* the connection, NULL while there is none */
	uint32_t expiry_s;         /* from the end of the connection; SESSION_EXPIRY_NEVER */
	uint64_t ends_at_ns;       /* without a connection: 0 = there is no session, TIME_NEVER */
	size_t n_subscriptions;
	struct emu_subscription subscriptions[CONTRACT_SUBSCRIPTIONS_MAX];
};

void emu_session_init(struct emu_session *s);

/* Drops the subscriptions. Idempotent. */
void emu_session_deinit(struct emu_session *s);

/* There is a session to resume, connected or not. One that ended is cleared. */
bool emu_session_is_present(struct emu_session *s, uint64_t now_ns);

/* @client takes the session over, which is cleared first if it is not @resumed. */
void emu_session_open(struct emu_session *s, struct emu_client *client, bool resumed);

/* The connection ended: the session lives on for its expiry interval. */
void emu_session_close(struct emu_session *s, uint64_t now_ns);

/* Adds the subscription or replaces the one with the same topic. Returns 0, -ENOSPC when there are
 * CONTRACT_SUBSCRIPTIONS_MAX, -ENOMEM. */
int emu_session_subscribe(struct emu_session *s, struct bytes topic, uint8_t qos);

/* False when there was none. */
bool emu_session_unsubscribe(struct emu_session *s, struct bytes topic);

#endif
