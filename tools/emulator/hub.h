/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_HUB_H
#define EMULATOR_HUB_H

/*
 * The hub: what all connections share. Protocol only: bytes and time come in through client.h, no sockets and
 * no clock in here, so that tests and fuzzers can drive it.
 */

#include <stdint.h>

#include "base/list.h"
#include "base/log.h"
#include "base/time.h"
#include "fault.h"
#include "registry.h"

struct emu_hub_options {
	const char *host; /* the hub's name; borrowed */
	uint16_t receive_maximum;
	uint16_t topic_alias_maximum;
	uint16_t keep_alive_s;
	uint32_t maximum_packet_size;
	uint32_t deliveries_max;      /* of a command */
	uint64_t redelivery_delay_ms; /* of one that was abandoned */
	struct emu_fault_options fault;
};

/* What the contract says; @host is the caller's. */
#define EMU_HUB_OPTIONS_DEFAULT                                                                              \
	((struct emu_hub_options){.receive_maximum = CONTRACT_RECEIVE_MAXIMUM,                               \
				  .topic_alias_maximum = CONTRACT_TOPIC_ALIAS_MAXIMUM,                       \
				  .keep_alive_s = CONTRACT_SERVER_KEEP_ALIVE_S,                              \
				  .maximum_packet_size = CONTRACT_MAXIMUM_PACKET_SIZE,                       \
				  .deliveries_max = COMMAND_DELIVERIES_MAX,                                  \
				  .redelivery_delay_ms = COMMAND_REDELIVERY_MS})

/* Bounds of the option, in bytes. */
#define EMU_PACKET_SIZE_MIN 128
#define EMU_PACKET_SIZE_MAX (8u * 1024 * 1024)

struct emu_store;

struct emu_hub {
	struct log *log;
	struct emu_hub_options options;
	struct emu_registry *registry; /* borrowed */
	struct emu_faults faults;
	struct emu_store *store;   /* NULL: nothing is kept on disk */
	uint64_t store_floor;      /* bytes before it is written anew */
	uint64_t command_sequence; /* the last number given to a command */
	uint64_t commands_due_ns;  /* emu_commands_tick() is to be called then; TIME_NEVER */
	struct list calls;         /* of methods, in order of id */
	size_t n_calls;
	uint64_t call_id; /* the last one */
	struct list clients;
	struct list monitors; /* clients of the service side with a subscription */
	uint64_t now_ns;
	uint64_t wall_ms;
	uint64_t trace_prefix;
	uint64_t n_traces;
	uint64_t enqueued_sequence; /* of the last posted message */
	uint64_t enqueued_time_ms;  /* that @enqueued_time stands for */
	char enqueued_time[TIME_ISO_LEN + 1];
	/* Where the properties of a message for the monitors are put together. */
	size_t scratch_size;
	uint8_t *scratch;
};

/* @options->host, @registry and @log are borrowed. Returns 0 or -ENOMEM. */
int emu_hub_init(struct emu_hub *hub, const struct emu_hub_options *options, struct emu_registry *registry,
		 struct log *log, uint64_t wall_ms);

/* Every client must be gone (asserted). Idempotent. */
void emu_hub_deinit(struct emu_hub *hub);

/* Before anything else in a turn: the time. */
static inline void emu_hub_set_time(struct emu_hub *hub, uint64_t now_ns, uint64_t wall_ms)
{
	hub->now_ns = now_ns;
	hub->wall_ms = wall_ms;
}

/* Everything that was noted is on disk when it returns 0: before any output of this turn is sent. After an error,
 * which was logged, the hub cannot go on. */
int emu_hub_commit(struct emu_hub *hub);

/* Says goodbye (DISCONNECT 0x8b) to every client. */
void emu_hub_shut_down(struct emu_hub *hub);

/* Drops the connections of all devices, without a word. */
void emu_hub_cut_devices(struct emu_hub *hub);

#define EMU_TRACE_ID_LEN 32

/* A trace-id nobody was given before. */
void emu_hub_trace_id(struct emu_hub *hub, char out[static EMU_TRACE_ID_LEN + 1]);

#endif
