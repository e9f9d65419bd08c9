/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_MONITOR_H
#define EMULATOR_MONITOR_H

/*
 * The service side: what devices send is posted to every monitor, a client of the policy `service` that
 * subscribed to
 * `$service/telemetry` (all) or `$service/telemetry/<device>[/<module>]`. The emulator's own interface,
 * described in iothub-emulator(1).
 */

#include <stdbool.h>

#include "client.h"

/* Whether the service side can subscribe to @topic. */
bool emu_monitor_filter_is_known(struct bytes topic);

/* The subscriptions of @c changed. */
void emu_monitor_update(struct emu_client *c);

/* Posts an accepted telemetry message of @from. */
void emu_monitor_post(struct emu_hub *hub, const struct emu_identity *from, const struct mqtt_packet *packet);

#endif
