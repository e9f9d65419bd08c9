/* SPDX-License-Identifier: MIT */
/*
 * The hub object: options, faults, the list of clients, and the scratch space messages for monitors are built
 * in, so that posting one allocates nothing.
 */

#include "hub.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "state.h"
#include "store.h"

/* What posting adds to the properties at most: device-id, module-id, time, sequence, dropped, longer names.
 */
#define POSTING_OVERHEAD 4096

int emu_hub_init(struct emu_hub *hub, const struct emu_hub_options *options, struct emu_registry *registry,
		 struct log *log, uint64_t wall_ms)
{
	*hub = (struct emu_hub){
		.log = log,
		.options = *options,
		.registry = registry,
		.wall_ms = wall_ms,
		.trace_prefix = wall_ms,
		.scratch_size = options->maximum_packet_size + COMMAND_SIZE_MAX + POSTING_OVERHEAD,
	};
	list_init(&hub->clients);
	list_init(&hub->calls);
	list_init(&hub->monitors);
	emu_faults_init(&hub->faults, &options->fault);
	time_format_iso(0, hub->enqueued_time);
	hub->scratch = malloc(hub->scratch_size);
	return hub->scratch ? 0 : -ENOMEM;
}

void emu_hub_deinit(struct emu_hub *hub)
{
	assert(list_is_empty(&hub->clients) && list_is_empty(&hub->monitors) && list_is_empty(&hub->calls));
	emu_store_free(hub->store);
	hub->store = NULL;
	free(hub->scratch);
	hub->scratch = NULL;
}

int emu_hub_commit(struct emu_hub *hub)
{
	int r = hub->store ? emu_store_commit(hub->store) : 0;

	if (r == 0)
		emu_state_compact(hub);
	return r;
}

void emu_hub_shut_down(struct emu_hub *hub)
{
	list_for_each (link, &hub->clients)
		emu_client_end(container_of(link, struct emu_client, link), MQTT_REASON_SERVER_SHUTTING_DOWN);
}

void emu_hub_cut_devices(struct emu_hub *hub)
{
	list_for_each (link, &hub->clients) {
		struct emu_client *client = container_of(link, struct emu_client, link);

		if (client->identity)
			emu_client_cut(client);
	}
}

void emu_hub_trace_id(struct emu_hub *hub, char out[static EMU_TRACE_ID_LEN + 1])
{
	snprintf(out, EMU_TRACE_ID_LEN + 1, "%016" PRIx64 "%016" PRIx64, hub->trace_prefix, ++hub->n_traces);
}
