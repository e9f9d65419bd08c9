/* SPDX-License-Identifier: MIT */
/*
 * Records of the store (store.h), JSON objects with `op` and, but for `sequence`, `device`:
 *
 *   twin           part, version, properties
 *   command        sequence-no, enqueued, expires (ms), content-type, properties, payload (base64), and what
 *                  `moved` has; replaces one with the same number
 *   moved          sequence-no, count, packet-id (0: not in flight), dead (enum emu_command_end), ended (ms)
 *   completed      sequence-no, count, enqueued, expires, ended (ms); it leaves the queue
 *   gone           sequence-no
 *   session        expiry (s), ends (ms since 1970; 0: there is no session), subscriptions [[topic, qos]…]
 *   forget         nothing of the identity counts that came before
 *   sequence       last: the last sequence number given out
 *
 * A record holds all of what it is about, so that reading one twice does no harm. A session that was connected
 * has `ends` 2^64-1, and lives for its expiry from the start of the hub that reads it.
 */

#include "state.h"

#include <errno.h>

#include <json-c/json.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "mqtt/packet.h"
#include "store.h"

/* The log is written anew beyond that, and when it has doubled. */
#define COMPACT_MIN (UINT64_C(4) * 1024 * 1024)

static inline void json_object_put_ptr(json_object **object)
{
	json_object_put(*object);
}

/* --- writing ---------------------------------------------------------------------------------- */

static json_object *record_new(const char *op, const struct emu_identity *identity)
{
	json_object *record = json_object_new_object();

	json_object_object_add(record, "op", json_object_new_string(op));
	if (identity)
		json_object_object_add(record, "device", json_object_new_string(identity->id));
	return record;
}

static void number_add(json_object *record, const char *name, uint64_t value)
{
	json_object_object_add(record, name, json_object_new_uint64(value));
}

static void base64_add(json_object *record, const char *name, struct bytes value)
{
	_cleanup_(free_ptr) char *text = malloc(BASE64_LEN(value.len) + 1);

	if (!text)
		return;
	base64_encode(value, text);
	json_object_object_add(record, name, json_object_new_string(text));
}

static void record_put(struct emu_hub *hub, json_object *record_take)
{
	size_t len;
	const char *text = json_object_to_json_string_length(record_take, JSON_C_TO_STRING_PLAIN, &len);

	emu_store_append(hub->store, BYTES(text, len));
	json_object_put(record_take);
}

void emu_state_twin(struct emu_hub *hub, const struct emu_identity *identity, enum emu_twin_part part)
{
	const struct emu_twin_properties *p = &identity->twin.parts[part];
	json_object *record;

	if (!hub->store)
		return;
	record = record_new("twin", identity);
	json_object_object_add(record, "part", json_object_new_string(emu_twin_part_name(part)));
	number_add(record, "version", p->version);
	json_object_object_add(record, "properties", json_object_get(p->object));
	record_put(hub, record);
}

static void moved_add(json_object *record, const struct emu_command *command)
{
	number_add(record, "sequence-no", command->sequence_no);
	number_add(record, "count", command->delivery_count);
	number_add(record, "packet-id", command->packet_id);
	number_add(record, "dead", command->end);
	if (command->end)
		number_add(record, "ended", command->ended_ms);
}

void emu_state_command(struct emu_hub *hub, const struct emu_identity *identity,
		       const struct emu_command *command)
{
	const struct emu_command_message *m = &command->message;
	json_object *record;

	if (!hub->store)
		return;
	record = record_new("command", identity);
	moved_add(record, command);
	number_add(record, "enqueued", command->enqueued_ms);
	number_add(record, "expires", command->expires_ms);
	if (m->has_content_type)
		base64_add(record, "content-type", m->content_type);
	base64_add(record, "properties", m->properties);
	base64_add(record, "payload", m->payload);
	record_put(hub, record);
}

void emu_state_command_moved(struct emu_hub *hub, const struct emu_identity *identity,
			     const struct emu_command *command)
{
	json_object *record;

	if (!hub->store || command->purged)
		return;
	record = record_new("moved", identity);
	moved_add(record, command);
	record_put(hub, record);
}

void emu_state_command_completed(struct emu_hub *hub, const struct emu_identity *identity,
				 const struct emu_command *command, uint64_t ended_ms)
{
	json_object *record;

	if (!hub->store)
		return;
	record = record_new("completed", identity);
	number_add(record, "sequence-no", command->sequence_no);
	number_add(record, "count", command->delivery_count);
	number_add(record, "enqueued", command->enqueued_ms);
	number_add(record, "expires", command->expires_ms);
	number_add(record, "ended", ended_ms);
	record_put(hub, record);
}

void emu_state_command_gone(struct emu_hub *hub, const struct emu_identity *identity, uint64_t sequence_no)
{
	json_object *record;

	if (!hub->store)
		return;
	record = record_new("gone", identity);
	number_add(record, "sequence-no", sequence_no);
	record_put(hub, record);
}

static uint64_t session_ends_ms(const struct emu_hub *hub, const struct emu_session *s)
{
	if (s->client)
		return s->expiry_s ? UINT64_MAX : 0;
	if (s->ends_at_ns == TIME_NEVER || s->ends_at_ns == 0)
		return s->ends_at_ns;
	return s->ends_at_ns <= hub->now_ns ? 0
					    : hub->wall_ms + (s->ends_at_ns - hub->now_ns) / NSEC_PER_MSEC;
}

void emu_state_session(struct emu_hub *hub, const struct emu_identity *identity)
{
	const struct emu_session *s = &identity->session;
	json_object *record, *subscriptions, *pair;

	if (!hub->store)
		return;
	record = record_new("session", identity);
	subscriptions = json_object_new_array();
	number_add(record, "expiry", s->expiry_s);
	number_add(record, "ends", session_ends_ms(hub, s));
	for (size_t i = 0; i < s->n_subscriptions; i++) {
		pair = json_object_new_array();
		json_object_array_add(pair, json_object_new_string(s->subscriptions[i].topic));
		json_object_array_add(pair, json_object_new_int(s->subscriptions[i].qos));
		json_object_array_add(subscriptions, pair);
	}
	json_object_object_add(record, "subscriptions", subscriptions);
	record_put(hub, record);
}

void emu_state_forget(struct emu_hub *hub, const struct emu_identity *identity)
{
	if (hub->store)
		record_put(hub, record_new("forget", identity));
}

/* --- reading ---------------------------------------------------------------------------------- */

static uint64_t number_get(json_object *record, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(record, name, &value) ? json_object_get_uint64(value) : 0;
}

static const char *text_get(json_object *record, const char *name)
{
	json_object *value;

	if (!json_object_object_get_ex(record, name, &value) || !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

/* Decodes into @dst, which holds as many bytes as the text has characters, and moves it on. */
static struct bytes base64_get(json_object *record, const char *name, uint8_t **dst)
{
	const char *text = text_get(record, name);
	ssize_t n = text ? base64_decode(bytes_from_str(text), *dst, strlen(text)) : 0;
	struct bytes value = BYTES(*dst, n > 0 ? (size_t)n : 0);

	*dst += value.len;
	return value;
}

static void twin_read(struct emu_identity *identity, json_object *record)
{
	const char *part = text_get(record, "part");
	struct emu_twin_properties *p = &identity->twin.parts[TWIN_DESIRED];
	json_object *properties = NULL;

	if (part && strcmp(part, "reported") == 0)
		p = &identity->twin.parts[TWIN_REPORTED];
	json_object_object_get_ex(record, "properties", &properties);
	json_object_put(p->object);
	p->object = json_object_is_type(properties, json_type_object) ? json_object_get(properties) : NULL;
	p->version = number_get(record, "version");
}

static void moved_read(struct emu_commands *cs, struct emu_command *command, json_object *record)
{
	uint64_t end = number_get(record, "dead");

	command->delivery_count = (uint32_t)number_get(record, "count");
	if (command->end)
		return;
	emu_command_set_packet_id(cs, command, (uint16_t)number_get(record, "packet-id"));
	if (end > COMMAND_LIVES && end < COMMAND_COMPLETED)
		emu_command_kill(cs, command, (enum emu_command_end)end, number_get(record, "ended"));
}

/* @command: as it is in the queue; NULL when the log was written anew since. */
static int completed_read(struct emu_commands *cs, struct emu_command *command, json_object *record)
{
	static const struct emu_command_message no_message;

	if (!command && emu_commands_add(cs, number_get(record, "sequence-no"), &no_message, &command) < 0)
		return -ENOMEM;
	if (command->end)
		return 0;
	command->delivery_count = (uint32_t)number_get(record, "count");
	command->enqueued_ms = number_get(record, "enqueued");
	command->expires_ms = number_get(record, "expires");
	emu_command_complete(cs, command, number_get(record, "ended"));
	return 0;
}

static int command_read(struct emu_commands *cs, json_object *record)
{
	uint64_t sequence_no = number_get(record, "sequence-no");
	struct emu_command *command = emu_commands_find(cs, sequence_no);
	struct emu_command_message message = {.has_content_type = text_get(record, "content-type")};
	_cleanup_(free_ptr) uint8_t *bytes = malloc(strlen(json_object_to_json_string(record)) + 1);
	uint8_t *dst = bytes;
	int r;

	if (!bytes)
		return -ENOMEM;
	message.content_type = base64_get(record, "content-type", &dst);
	message.properties = base64_get(record, "properties", &dst);
	message.payload = base64_get(record, "payload", &dst);
	if (command)
		emu_command_free(cs, command);
	r = emu_commands_add(cs, sequence_no, &message, &command);
	if (r < 0)
		return r;
	command->enqueued_ms = number_get(record, "enqueued");
	command->expires_ms = number_get(record, "expires");
	moved_read(cs, command, record);
	return 0;
}

static void session_read(struct emu_hub *hub, struct emu_session *s, json_object *record)
{
	uint64_t ends_ms = number_get(record, "ends");
	json_object *subscriptions = NULL;

	emu_session_deinit(s);
	s->expiry_s = (uint32_t)number_get(record, "expiry");
	if (ends_ms == UINT64_MAX)
		emu_session_close(s, hub->now_ns);
	else
		s->ends_at_ns =
			ends_ms > hub->wall_ms ? hub->now_ns + (ends_ms - hub->wall_ms) * NSEC_PER_MSEC : 0;
	if (s->ends_at_ns == 0 || !json_object_object_get_ex(record, "subscriptions", &subscriptions))
		return;
	for (size_t i = 0; i < json_object_array_length(subscriptions); i++) {
		json_object *pair = json_object_array_get_idx(subscriptions, i);
		const char *topic = json_object_get_string(json_object_array_get_idx(pair, 0));

		emu_session_subscribe(s, bytes_from_str(topic),
				      (uint8_t)json_object_get_int(json_object_array_get_idx(pair, 1)));
	}
}

static int identity_read(struct emu_hub *hub, struct emu_identity *identity, const char *op,
			 json_object *record)
{
	struct emu_commands *cs = &identity->commands;
	struct emu_command *command = emu_commands_find(cs, number_get(record, "sequence-no"));

	if (strcmp(op, "twin") == 0)
		twin_read(identity, record);
	else if (strcmp(op, "command") == 0)
		return command_read(cs, record);
	else if (strcmp(op, "completed") == 0)
		return completed_read(cs, command, record);
	else if (strcmp(op, "session") == 0)
		session_read(hub, &identity->session, record);
	else if (strcmp(op, "forget") == 0)
		emu_identity_reset(identity);
	else if (strcmp(op, "moved") == 0 && command)
		moved_read(cs, command, record);
	else if (strcmp(op, "gone") == 0 && command)
		emu_command_free(cs, command);
	return 0;
}

static int record_read(void *userdata, struct bytes text)
{
	struct emu_hub *hub = userdata;
	_cleanup_(free_ptr) char *copy = strndup((const char *)text.data, text.len);
	_cleanup_(json_object_put_ptr) json_object *record = copy ? json_tokener_parse(copy) : NULL;
	const char *op = text_get(record, "op"), *device = text_get(record, "device");
	uint64_t number = number_get(record, strcmp(op ? op : "", "sequence") == 0 ? "last" : "sequence-no");
	struct emu_identity *identity;

	if (!op)
		return -EINVAL;
	if (number > hub->command_sequence)
		hub->command_sequence = number;
	identity = emu_registry_find(hub->registry, bytes_from_str(device));
	return identity ? identity_read(hub, identity, op, record) : 0;
}

int emu_state_open(struct emu_hub *hub, const char *path)
{
	int r = emu_store_open(&hub->store, path, record_read, hub, hub->log);

	hub->store_floor = COMPACT_MIN;
	return r;
}

/* --- writing anew ----------------------------------------------------------------------------- */

static void identity_write(struct emu_hub *hub, const struct emu_identity *identity)
{
	for (size_t i = 0; i < TWIN_N_PARTS; i++) {
		if (identity->twin.parts[i].version > 1)
			emu_state_twin(hub, identity, (enum emu_twin_part)i);
	}
	list_for_each (link, &identity->commands.completed) {
		const struct emu_command *command = container_of(link, struct emu_command, link);

		emu_state_command_completed(hub, identity, command, command->ended_ms);
	}
	list_for_each (link, &identity->commands.dead)
		emu_state_command(hub, identity, container_of(link, struct emu_command, link));
	list_for_each (link, &identity->commands.queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (!command->purged)
			emu_state_command(hub, identity, command);
	}
	if (identity->session.client || identity->session.ends_at_ns)
		emu_state_session(hub, identity);
}

void emu_state_compact(struct emu_hub *hub)
{
	json_object *record;

	if (!hub->store || emu_store_n_bytes(hub->store) < hub->store_floor)
		return;
	emu_store_rewrite(hub->store);
	record = record_new("sequence", NULL);
	number_add(record, "last", hub->command_sequence);
	record_put(hub, record);
	for (size_t i = 0; i < emu_registry_n_identities(hub->registry); i++)
		identity_write(hub, emu_registry_identity(hub->registry, i));
	/* When that was not possible, the next time is when it has grown again. */
	if (emu_store_commit(hub->store) == 0)
		hub->store_floor = COMPACT_MIN + 2 * emu_store_n_bytes(hub->store);
}
