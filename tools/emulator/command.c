/* SPDX-License-Identifier: MIT */
/*
 * Queue, dead letters and completed commands of a device. A command is one allocation, the bytes of its message
 * behind it. The queue is searched linearly: it holds COMMANDS_QUEUED_MAX at most, and what is looked for is near
 * its front. Those in flight keep the order in which they were sent, since that is the one in which a resumed
 * session gets them again (MQTT 5 section 4.6).
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
	list_init(&cs->completed);
}

static void list_free(struct emu_commands *cs, struct list *list)
{
	list_for_each_safe (link, list)
		emu_command_free(cs, container_of(link, struct emu_command, link));
}

void emu_commands_deinit(struct emu_commands *cs)
{
	list_free(cs, &cs->queue);
	list_free(cs, &cs->dead);
	list_free(cs, &cs->completed);
}

/* Puts it into the list its end says, the queue's waiting part for one that lives. */
static void command_put_in(struct emu_commands *cs, struct emu_command *command)
{
	switch (command->end) {
	case COMMAND_LIVES:
		list_append(&cs->queue, &command->link);
		cs->n_queue++;
		cs->n_queue_bytes += emu_command_size(&command->message);
		return;
	case COMMAND_REJECTED:
	case COMMAND_EXPIRED:
	case COMMAND_DELIVERY_COUNT:
	case COMMAND_TOO_LARGE:
		list_append(&cs->dead, &command->link);
		cs->n_dead++;
		return;
	case COMMAND_COMPLETED:
		list_append(&cs->completed, &command->link);
		cs->n_completed++;
		return;
	case COMMAND_N_ENDS:
		break;
	}
	assert(false);
}

static void command_take_out(struct emu_commands *cs, struct emu_command *command)
{
	list_remove(&command->link);
	if (command->end == COMMAND_COMPLETED) {
		cs->n_completed--;
	} else if (command->end) {
		cs->n_dead--;
	} else {
		cs->n_queue--;
		cs->n_queue_bytes -= emu_command_size(&command->message);
	}
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
		     struct emu_command **out)
{
	size_t n = emu_command_size(message);
	struct emu_command *command = calloc(1, sizeof(*command) + n);
	uint8_t *dst;

	if (!command)
		return -ENOMEM;
	dst = (uint8_t *)(command + 1);
	command->sequence_no = sequence_no;
	command->message.has_content_type = message->has_content_type;
	command->message.content_type = copy_to(&dst, message->content_type);
	command->message.properties = copy_to(&dst, message->properties);
	command->message.payload = copy_to(&dst, message->payload);
	command_put_in(cs, command);
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

struct emu_command *emu_commands_next(struct emu_commands *cs, uint64_t now_ns)
{
	list_for_each (link, &cs->queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->packet_id == 0 && command->ready_ns <= now_ns)
			return command;
	}
	return NULL;
}

struct emu_command *emu_commands_expired(struct emu_commands *cs, uint64_t wall_ms)
{
	list_for_each (link, &cs->queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (!command->sent && command->expires_ms <= wall_ms)
			return command;
	}
	return NULL;
}

void emu_command_set_packet_id(struct emu_commands *cs, struct emu_command *command, uint16_t packet_id)
{
	struct list *where = &cs->queue;

	assert(!command->end);
	list_remove(&command->link);
	command->packet_id = packet_id;
	list_for_each (link, &cs->queue) {
		const struct emu_command *other = container_of(link, struct emu_command, link);

		if (other->packet_id == 0 && (packet_id || other->sequence_no > command->sequence_no)) {
			where = link;
			break;
		}
	}
	list_insert_before(where, &command->link);
}

uint64_t emu_command_kill(struct emu_commands *cs, struct emu_command *command, enum emu_command_end end,
			  uint64_t wall_ms)
{
	struct emu_command *oldest;
	uint64_t number;

	assert(!command->end && end && end != COMMAND_COMPLETED);
	command_take_out(cs, command);
	command->packet_id = 0;
	command->sent = false;
	command->end = end;
	command->ended_ms = wall_ms;
	command_put_in(cs, command);
	if (cs->n_dead <= COMMANDS_DEAD_MAX)
		return 0;
	oldest = container_of(list_first(&cs->dead), struct emu_command, link);
	number = oldest->sequence_no;
	emu_command_free(cs, oldest);
	return number;
}

void emu_command_complete(struct emu_commands *cs, struct emu_command *command, uint64_t wall_ms)
{
	struct emu_command *small;

	assert(!command->end);
	command_take_out(cs, command);
	small = realloc(command, sizeof(*command));
	if (small)
		command = small;
	list_init(&command->link);
	command->message = (struct emu_command_message){.has_content_type = false};
	command->packet_id = 0;
	command->sent = false;
	command->end = COMMAND_COMPLETED;
	command->ended_ms = wall_ms;
	command_put_in(cs, command);
	if (cs->n_completed > COMMANDS_COMPLETED_MAX)
		emu_command_free(cs, container_of(list_first(&cs->completed), struct emu_command, link));
}

void emu_command_free(struct emu_commands *cs, struct emu_command *command)
{
	command_take_out(cs, command);
	free(command);
}

const char *emu_command_end_name(enum emu_command_end end)
{
	switch (end) {
	case COMMAND_REJECTED:
		return "rejected";
	case COMMAND_EXPIRED:
		return "expired";
	case COMMAND_DELIVERY_COUNT:
		return "delivery-count";
	case COMMAND_TOO_LARGE:
		return "too-large";
	case COMMAND_COMPLETED:
		return "completed";
	case COMMAND_LIVES:
	case COMMAND_N_ENDS:
		break;
	}
	return "";
}
