/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_COMMAND_H
#define EMULATOR_COMMAND_H

/*
 * The commands of one device: a queue, those in flight first, in the order in which they were sent, then those that
 * wait, by sequence number; dead letters; and, without their messages, those that were completed. Pure: who
 * delivers is deliver.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"

#define COMMANDS_QUEUED_MAX       1000
#define COMMANDS_QUEUED_BYTES_MAX (16u * 1024 * 1024) /* of the messages in a queue */
#define COMMANDS_DEAD_MAX         1000
#define COMMANDS_COMPLETED_MAX    10000
#define COMMAND_SIZE_MAX          65536 /* payload, Content Type and properties, bytes */
#define COMMAND_DELIVERIES_MAX    10    /* unless the options say otherwise */
#define COMMAND_REDELIVERY_MS     1000  /* likewise: what was abandoned waits so long */
#define COMMAND_TTL_MAX_S         172800
#define COMMAND_TTL_DEFAULT_S     3600

enum emu_command_end {
	COMMAND_LIVES,
	COMMAND_REJECTED,
	COMMAND_EXPIRED,
	COMMAND_DELIVERY_COUNT, /* delivered too often */
	COMMAND_TOO_LARGE,      /* for the device's Maximum Packet Size */
	COMMAND_COMPLETED,      /* the others make a dead letter */
	COMMAND_N_ENDS,
};

/* What the device gets, without what the hub adds. */
struct emu_command_message {
	bool has_content_type;
	struct bytes content_type;
	struct bytes properties; /* encoded User Properties */
	struct bytes payload;
};

struct emu_command {
	struct list link; /* emu_commands.queue, .dead or .completed, as @end says */
	uint64_t sequence_no;
	uint64_t enqueued_ms;
	uint64_t expires_ms;
	uint64_t ended_ms;
	uint64_t ready_ns;       /* abandoned: waits at least until then */
	uint32_t delivery_count; /* deliveries so far */
	uint16_t packet_id;      /* in flight; 0: not */
	bool sent;               /* in flight on this connection, not only in the session */
	bool purged;             /* in flight, and gone with its acknowledgement */
	enum emu_command_end end;
	struct emu_command_message message; /* points behind the struct; empty once completed */
};

struct emu_commands {
	struct list queue;
	struct list dead;      /* the oldest first */
	struct list completed; /* likewise */
	size_t n_queue;
	size_t n_queue_bytes; /* of their messages */
	size_t n_dead;
	size_t n_completed;
};

/* Payload, Content Type and properties, in bytes. */
static inline size_t emu_command_size(const struct emu_command_message *message)
{
	return message->content_type.len + message->properties.len + message->payload.len;
}

void emu_commands_init(struct emu_commands *cs);
/* Frees all. Idempotent. */
void emu_commands_deinit(struct emu_commands *cs);

/* A copy of @message, at the queue's end. Returns 0 or -ENOMEM. The bound of the queue is the caller's to see. */
int emu_commands_add(struct emu_commands *cs, uint64_t sequence_no, const struct emu_command_message *message,
		     struct emu_command **out);

/* In the queue or dead; NULL when there is none. */
struct emu_command *emu_commands_find(struct emu_commands *cs, uint64_t sequence_no);
struct emu_command *emu_commands_in_flight(struct emu_commands *cs, uint16_t packet_id);

/* The first that waits for delivery and is ready at @now_ns; NULL when none is. */
struct emu_command *emu_commands_next(struct emu_commands *cs, uint64_t now_ns);

/* The first past its time that is with no device; NULL when there is none. */
struct emu_command *emu_commands_expired(struct emu_commands *cs, uint64_t wall_ms);

/* It is in flight under this identifier, or, with 0, waits; and stands where that belongs. */
void emu_command_set_packet_id(struct emu_commands *cs, struct emu_command *command, uint16_t packet_id);

/* Makes it a dead letter; over the bound the oldest one goes, whose number is returned, else 0. */
uint64_t emu_command_kill(struct emu_commands *cs, struct emu_command *command, enum emu_command_end end,
			  uint64_t wall_ms);

/* It has reached its end at the device; its message goes, and over the bound the oldest one of these. @command
 * is no more. */
void emu_command_complete(struct emu_commands *cs, struct emu_command *command, uint64_t wall_ms);

/* Takes it out and frees it. */
void emu_command_free(struct emu_commands *cs, struct emu_command *command);

/* "rejected" and so on; "" for one that lives. */
const char *emu_command_end_name(enum emu_command_end end);

#endif
