/* SPDX-License-Identifier: MIT */
/*
 * The service side's commands: send, list, purge.
 *
 * A command keeps the User Properties of its request but those that are the request's own, encoded, as the
 * device will get them.
 */

#include <errno.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "deliver.h"
#include "monitor.h"
#include "service.h"
#include "state.h"

/* --- send
 * ------------------------------------------------------------------------------------------------------ */

static struct bytes message_properties(struct emu_hub *hub, struct bytes field)
{
	struct writer w = writer_init(hub->scratch, hub->scratch_size);
	struct bytes key, value;
	size_t pos = 0;

	while (mqtt_user_property_next(field, &pos, &key, &value)) {
		if (!bytes_equal_str(key, "device") && !bytes_equal_str(key, "ttl"))
			mqtt_user_property_put(&w, key, value);
	}
	return w.error ? BYTES(NULL, SIZE_MAX) : writer_bytes(&w);
}

/* True; or false and the outcome. */
static bool send_check(struct emu_service_request *rq, struct emu_command_message *message, uint64_t ttl_s)
{
	const struct mqtt_properties *p = &rq->packet->properties;

	message->has_content_type = mqtt_has(p, MQTT_PROP_CONTENT_TYPE);
	message->content_type = p->content_type;
	message->payload = rq->packet->publish.payload;
	message->properties = message_properties(rq->client->hub, rq->field);
	if (ttl_s < 1 || ttl_s > COMMAND_TTL_MAX_S)
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "ttl is 1 to %d seconds", COMMAND_TTL_MAX_S);
	else if (message->payload.len > COMMAND_SIZE_MAX || message->properties.len > COMMAND_SIZE_MAX ||
		 emu_command_size(message) > COMMAND_SIZE_MAX)
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "a command has up to %d bytes",
				COMMAND_SIZE_MAX);
	else if (rq->identity->commands.n_queue >= COMMANDS_QUEUED_MAX ||
		 rq->identity->commands.n_queue_bytes + emu_command_size(message) > COMMANDS_QUEUED_BYTES_MAX)
		emu_outcome_set(rq->outcome, STATUS_QUOTA_EXCEEDED, "the queue is full");
	else
		return true;
	return false;
}

void emu_service_commands_send(struct emu_service_request *rq)
{
	struct emu_hub *hub = rq->client->hub;
	uint64_t ttl_s = emu_service_number(rq, "ttl", COMMAND_TTL_DEFAULT_S);
	struct emu_command_message message;
	struct emu_command *command;
	char time[TIME_ISO_LEN + 1];

	emu_commands_expire(hub, rq->identity);
	if (!send_check(rq, &message, ttl_s))
		return;
	if (emu_commands_add(&rq->identity->commands, hub->command_sequence + 1, &message, &command) < 0) {
		emu_outcome_set(rq->outcome, STATUS_SERVER_ERROR, "no memory");
		return;
	}
	hub->command_sequence++;
	command->enqueued_ms = hub->wall_ms;
	command->expires_ms = hub->wall_ms + ttl_s * MSEC_PER_SEC;
	emu_state_command(hub, rq->identity, command);
	emu_command_watch(hub, command);
	time_format_iso(command->enqueued_ms, time);
	emu_property_put_number(rq->properties, "sequence-no", command->sequence_no);
	emu_property_put(rq->properties, "enqueued-time", time);
	/* How it ends may be known as soon as it is sent; the sender is to know its number by then. */
	rq->is_offered = true;
}

/* --- list
 * ------------------------------------------------------------------------------------------------------ */

static json_object *text_to_json(struct bytes text)
{
	return json_object_new_string_len((const char *)text.data, (int)text.len);
}

static void time_add(json_object *object, const char *name, uint64_t ms)
{
	char time[TIME_ISO_LEN + 1];

	time_format_iso(ms, time);
	json_object_object_add(object, name, json_object_new_string(time));
}

static void payload_add(json_object *object, struct bytes payload)
{
	_cleanup_(free_ptr) char *text = NULL;

	if (payload.len == 0 || utf8_is_valid(payload)) {
		json_object_object_add(object, "payload",
				       payload.len ? text_to_json(payload) : json_object_new_string(""));
		return;
	}
	text = malloc(BASE64_LEN(payload.len) + 1);
	if (!text)
		return;
	base64_encode(payload, text);
	json_object_object_add(object, "payload-base64", json_object_new_string(text));
}

static json_object *properties_to_json(const struct emu_command_message *message)
{
	json_object *object = json_object_new_object();
	struct bytes key, value;
	size_t pos = 0;

	if (message->has_content_type)
		json_object_object_add(object, "content-type", text_to_json(message->content_type));
	while (mqtt_user_property_next(message->properties, &pos, &key, &value)) {
		_cleanup_(free_ptr) char *name = strndup((const char *)key.data, key.len);

		if (name)
			json_object_object_add(object, name, text_to_json(value));
	}
	return object;
}

static const char *state_of(const struct emu_command *command)
{
	switch (command->end) {
	case COMMAND_LIVES:
		return command->sent ? "in-flight" : "queued";
	case COMMAND_COMPLETED:
		return "completed";
	case COMMAND_REJECTED:
	case COMMAND_EXPIRED:
	case COMMAND_DELIVERY_COUNT:
	case COMMAND_TOO_LARGE:
	case COMMAND_N_ENDS:
		break;
	}
	return "dead-lettered";
}

static json_object *command_to_json(const struct emu_command *command)
{
	json_object *object = json_object_new_object();
	bool is_completed = command->end == COMMAND_COMPLETED;

	json_object_object_add(object, "sequence-no", json_object_new_uint64(command->sequence_no));
	json_object_object_add(object, "state", json_object_new_string(state_of(command)));
	time_add(object, "enqueued-time", command->enqueued_ms);
	time_add(object, "expires-at", command->expires_ms);
	json_object_object_add(object, "delivery-count", json_object_new_uint64(command->delivery_count));
	/* A dead letter of an older log does not know. */
	if (command->end && command->ended_ms)
		time_add(object, "settled-time", command->ended_ms);
	if (command->end && !is_completed)
		json_object_object_add(object, "dead-letter-reason",
				       json_object_new_string(emu_command_end_name(command->end)));
	if (is_completed)
		return object;
	json_object_object_add(object, "properties", properties_to_json(&command->message));
	payload_add(object, command->message.payload);
	return object;
}

static int by_number(const void *a, const void *b)
{
	const struct emu_command *const *left = a, *const *right = b;

	return ((*left)->sequence_no > (*right)->sequence_no) -
	       ((*left)->sequence_no < (*right)->sequence_no);
}

/* Those with a number above @after, in order; the caller's array of borrowed ones. NULL: no memory. */
static const struct emu_command **commands_after(struct emu_commands *cs, uint64_t after, bool with_completed,
						 size_t *n)
{
	struct list *lists[] = {&cs->queue, &cs->dead, &cs->completed};
	size_t n_max = cs->n_queue + cs->n_dead + cs->n_completed;
	const struct emu_command **found = calloc(n_max + 1, sizeof(const struct emu_command *));

	*n = 0;
	for (size_t i = 0; found && i < ARRAY_SIZE(lists) - !with_completed; i++) {
		list_for_each (link, lists[i]) {
			const struct emu_command *command = container_of(link, struct emu_command, link);

			if (!command->purged && command->sequence_no > after)
				found[(*n)++] = command;
		}
	}
	if (found)
		qsort(found, *n, sizeof(const struct emu_command *), by_number);
	return found;
}

void emu_service_commands_list(struct emu_service_request *rq)
{
	uint64_t after = emu_service_number(rq, "after", 0);
	bool with_completed = emu_service_number(rq, "completed", 0);
	_cleanup_(free_ptr) const struct emu_command **found = NULL;
	size_t n;

	emu_commands_expire(rq->client->hub, rq->identity);
	found = commands_after(&rq->identity->commands, after, with_completed, &n);
	if (!found) {
		emu_outcome_set(rq->outcome, STATUS_SERVER_ERROR, "no memory");
		return;
	}
	if (n > SERVICE_COMMANDS_MAX) {
		emu_property_put(rq->properties, "more", "1");
		n = SERVICE_COMMANDS_MAX;
	}
	rq->payload = json_object_new_array();
	for (size_t i = 0; i < n; i++)
		json_object_array_add(rq->payload, command_to_json(found[i]));
}

/* --- purge
 * ----------------------------------------------------------------------------------------------------- */

/* One in flight stays until its acknowledgement, so that this finds it; nobody else does. */
static uint64_t list_purge(struct emu_hub *hub, struct emu_identity *identity, struct list *list)
{
	uint64_t n = 0;

	list_for_each_safe (link, list) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->purged)
			continue;
		n++;
		if (!command->end)
			emu_monitor_post_command(hub, identity, command, "purged");
		emu_state_command_gone(hub, identity, command->sequence_no);
		if (command->packet_id)
			command->purged = true;
		else
			emu_command_free(&identity->commands, command);
	}
	return n;
}

void emu_service_commands_drop(struct emu_hub *hub, struct emu_identity *identity)
{
	list_purge(hub, identity, &identity->commands.queue);
}

void emu_service_commands_purge(struct emu_service_request *rq)
{
	struct emu_hub *hub = rq->client->hub;
	struct emu_commands *cs = &rq->identity->commands;
	struct bytes state = BYTES(NULL, 0);
	bool all = !mqtt_user_property_find(rq->field, "state", &state);
	bool queued = all || bytes_equal_str(state, "queued");
	bool dead = all || bytes_equal_str(state, "dead-lettered");
	uint64_t n = 0;

	if (!queued && !dead) {
		emu_outcome_set(rq->outcome, STATUS_BAD_REQUEST, "state is queued or dead-lettered");
		return;
	}
	emu_commands_expire(hub, rq->identity);
	if (queued)
		n += list_purge(hub, rq->identity, &cs->queue);
	if (dead)
		n += list_purge(hub, rq->identity, &cs->dead);
	rq->payload = json_object_new_object();
	json_object_object_add(rq->payload, "purged", json_object_new_uint64(n));
}
