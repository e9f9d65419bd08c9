/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_COMMAND_H
#define EMULATOR_COMMAND_H

/*
 * The commands of one device: a queue in order of sequence number, part of it in flight, and dead letters. Pure:
 * who delivers is deliver.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"

#define COMMANDS_QUEUED_MAX       1000
#define COMMANDS_QUEUED_BYTES_MAX (16u * 1024 * 1024) /* of the messages in a queue */
#define COMMANDS_DEAD_MAX         1000
#define COMMAND_SIZE_MAX          65536 /* payload, Content Type and properties, bytes */
#define COMMAND_DELIVERIES_MAX    10
#define COMMAND_TTL_MAX_S         172800
#define COMMAND_TTL_DEFAULT_S     3600

enum emu_dead_reason {
	DEAD_NOT,
	DEAD_REJECTED,
	DEAD_EXPIRED,
	DEAD_DELIVERY_COUNT,
	DEAD_TOO_LARGE, /* for the device's Maximum Packet Size */
	DEAD_N_REASONS,
};

/* What the device gets, without what the hub adds. */
struct emu_command_message {
	bool has_content_type;
	struct bytes content_type;
	struct bytes properties; /* encoded User Properties */
	struct bytes payload;
};

struct emu_command {
	struct list link; /* emu_commands.queue or .dead */
	uint64_t sequence_no;
	uint64_t enqueued_ms;
	uint64_t expires_ms;
	uint32_t delivery_count;            /* deliveries so far */
	uint16_t packet_id;                 /* in flight; 0: not */
	bool sent;                          /* in flight on this connection, not only in the session */
	bool purged;                        /* in flight, and gone with its acknowledgement */
	enum emu_dead_reason dead;          /* DEAD_NOT: in the queue */
	struct emu_command_message message; /* points behind the struct */
};

struct emu_commands {
	struct list queue;
	struct list dead; /* the oldest first */
	size_t n_queue;
	size_t n_queue_bytes; /* of their messages */
	size_t n_dead;
};

/* Payload, Content Type and properties, in bytes. */
static inline size_t emu_command_size(const struct emu_command_message *message)
{
	return message->content_type.len + message->properties.len + message->payload.len;
}

void emu_commands_init(struct emu_commands *cs);
/* Frees all. Idempotent. */
void emu_commands_deinit(struct emu_commands *cs);

/* A copy of @message, at the queue's end (or among the dead if @dead). Returns 0 or -ENOMEM. The bound of the
 * queue is the caller's to see. */
int emu_commands_add(struct emu_commands *cs, uint64_t sequence_no, const struct emu_command_message *message,
		     enum emu_dead_reason dead, struct emu_command **out);

/* Living or dead; NULL when there is none. */
struct emu_command *emu_commands_find(struct emu_commands *cs, uint64_t sequence_no);
struct emu_command *emu_commands_in_flight(struct emu_commands *cs, uint16_t packet_id);

/* The first that waits for delivery; NULL when none does. */
struct emu_command *emu_commands_next(struct emu_commands *cs);

/* The first that waits and is past its time; NULL when there is none. */
struct emu_command *emu_commands_expired(struct emu_commands *cs, uint64_t wall_ms);

/* Makes it a dead letter; over the bound the oldest one goes, whose number is returned, else 0. */
uint64_t emu_command_kill(struct emu_commands *cs, struct emu_command *command, enum emu_dead_reason reason);

/* Takes it out and frees it. */
void emu_command_free(struct emu_commands *cs, struct emu_command *command);

/* "rejected" and so on; "" for DEAD_NOT. */
const char *emu_dead_reason_name(enum emu_dead_reason reason);

#endif
