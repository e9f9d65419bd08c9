/* SPDX-License-Identifier: MIT */
/*
 * Queue and dead letters of a device's commands. A command is one allocation, the bytes of its message behind
 * it. The queue is searched linearly: it holds COMMANDS_QUEUED_MAX at most, and what is looked for is near its
 * front.
 */

#include "command.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void emu_commands_init(struct emu_commands *cs)
{
	*cs = (struct emu_commands){.n_queue = 0};
	list_init(&cs->queue);
	list_init(&cs->dead);
}

void emu_commands_deinit(struct emu_commands *cs)
{
	list_for_each_safe (link, &cs->queue)
		emu_command_free(cs, container_of(link, struct emu_command, link));
	list_for_each_safe (link, &cs->dead)
		emu_command_free(cs, container_of(link, struct emu_command, link));
}

static void count_in(struct emu_commands *cs, const struct emu_command *command)
{
	if (command->dead) {
		cs->n_dead++;
		return;
	}
	cs->n_queue++;
	cs->n_queue_bytes += emu_command_size(&command->message);
}

static void count_out(struct emu_commands *cs, const struct emu_command *command)
{
	if (command->dead) {
		cs->n_dead--;
		return;
	}
	cs->n_queue--;
	cs->n_queue_bytes -= emu_command_size(&command->message);
}

static struct bytes copy_to(uint8_t **dst, struct bytes src)
{
	struct bytes copy = BYTES(*dst, src.len);

	if (src.len > 0)
		memcpy(*dst, src.data, src.len);
	*dst += src.len;
	return copy;
}

int emu_commands_add(struct emu_commands *cs, uint64_t sequence_no, const struct emu_command_message *message,
		     enum emu_dead_reason dead, struct emu_command **out)
{
	size_t n = emu_command_size(message);
	struct emu_command *command = calloc(1, sizeof(*command) + n);
	uint8_t *dst;

	if (!command)
		return -ENOMEM;
	dst = (uint8_t *)(command + 1);
	command->sequence_no = sequence_no;
	command->dead = dead;
	command->message.has_content_type = message->has_content_type;
	command->message.content_type = copy_to(&dst, message->content_type);
	command->message.properties = copy_to(&dst, message->properties);
	command->message.payload = copy_to(&dst, message->payload);
	list_append(dead ? &cs->dead : &cs->queue, &command->link);
	count_in(cs, command);
	*out = command;
	return 0;
}

static struct emu_command *find_in(struct list *list, uint64_t sequence_no)
{
	list_for_each (link, list) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->sequence_no == sequence_no)
			return command;
	}
	return NULL;
}

struct emu_command *emu_commands_find(struct emu_commands *cs, uint64_t sequence_no)
{
	struct emu_command *command = find_in(&cs->queue, sequence_no);

	return command ? command : find_in(&cs->dead, sequence_no);
}

struct emu_command *emu_commands_in_flight(struct emu_commands *cs, uint16_t packet_id)
{
	list_for_each (link, &cs->queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->packet_id == packet_id)
			return command;
	}
	return NULL;
}

struct emu_command *emu_commands_next(struct emu_commands *cs)
{
	return emu_commands_in_flight(cs, 0);
}

struct emu_command *emu_commands_expired(struct emu_commands *cs, uint64_t wall_ms)
{
	list_for_each (link, &cs->queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->packet_id == 0 && command->expires_ms <= wall_ms)
			return command;
	}
	return NULL;
}

uint64_t emu_command_kill(struct emu_commands *cs, struct emu_command *command, enum emu_dead_reason reason)
{
	struct emu_command *oldest;
	uint64_t number;

	assert(!command->dead && reason);
	list_remove(&command->link);
	count_out(cs, command);
	command->packet_id = 0;
	command->sent = false;
	command->dead = reason;
	list_append(&cs->dead, &command->link);
	count_in(cs, command);
	if (cs->n_dead <= COMMANDS_DEAD_MAX)
		return 0;
	oldest = container_of(list_first(&cs->dead), struct emu_command, link);
	number = oldest->sequence_no;
	emu_command_free(cs, oldest);
	return number;
}

void emu_command_free(struct emu_commands *cs, struct emu_command *command)
{
	list_remove(&command->link);
	count_out(cs, command);
	free(command);
}

const char *emu_dead_reason_name(enum emu_dead_reason reason)
{
	switch (reason) {
	case DEAD_REJECTED:
		return "rejected";
	case DEAD_EXPIRED:
		return "expired";
	case DEAD_DELIVERY_COUNT:
		return "delivery-count";
	case DEAD_TOO_LARGE:
		return "too-large";
	case DEAD_NOT:
	case DEAD_N_REASONS:
		break;
	}
	return "";
}
