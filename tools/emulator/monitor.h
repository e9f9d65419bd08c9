/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_MONITOR_H
#define EMULATOR_MONITOR_H

/*
 * The service side: what devices send, how twins change and how commands end is posted to every monitor, a client
 * of the policy `service` that subscribed to `$service/telemetry`, `$service/twin/changes` or
 * `$service/commands/outcomes` (all), or one of these followed by `/<device>[/<module>]`. The emulator's own interface, described in iothub-emulator(1).
 */

#include <stdbool.h>

#include "client.h"
#include "twin.h"

/* Whether the service side can subscribe to @topic. */
bool emu_monitor_filter_is_known(struct bytes topic);

/* The subscriptions of @c changed. */
void emu_monitor_update(struct emu_client *c);

/* Posts an accepted telemetry message of @from. */
void emu_monitor_post(struct emu_hub *hub, const struct emu_identity *from, const struct mqtt_packet *packet);

/* Posts a change of a twin of @of. */
void emu_monitor_post_twin(struct emu_hub *hub, const struct emu_identity *of, enum emu_twin_part part,
			   uint64_t version, struct bytes patch);

/* Posts how a command for @to has ended. */
void emu_monitor_post_command(struct emu_hub *hub, const struct emu_identity *to,
			      const struct emu_command *command, const char *outcome);

#endif
