/* SPDX-License-Identifier: MIT */
/*
 * Delivery of commands.
 *
 * A command in flight has a packet identifier. It belongs to the session, not to the connection: a session that
 * is resumed gets it again under the same identifier and with DUP (MQTT 5 section 4.4), any other end of the
 * session gives it back to the queue. `sent` says that this connection has it, and client.n_commands counts
 * those.
 *
 * Settlement by PUBACK: success completes it; an error is an abandon when its status is retryable, a reject when
 * not. Without a status (131 alone, say) nothing tells that it is for ever, so it is an abandon. What is abandoned
 * waits for the redelivery delay, and those behind it do not wait for it. Each delivery counts; what comes back
 * after as many as the options allow is a dead letter. A PUBACK of nothing that is in flight here is late (the
 * command went back to the queue meanwhile, or is for another connection): ignored.
 *
 * A command expires whenever no connection has it. One that does is the device's to settle, however long that
 * takes.
 *
 * emu_hub.commands_due_ns is when the next delay or life ends, or earlier; emu_commands_tick() looks then.
 */

#include "deliver.h"

#include <errno.h>

#include "monitor.h"
#include "state.h"

/* Output in bytes beyond which commands wait for it to drain. */
#define OUT_ENOUGH           (256u * 1024)

#define PROPERTIES_ADDED_MAX 256

/* --- states of a command
 * --------------------------------------------------------------------------------------- */

static void command_kill(struct emu_hub *hub, struct emu_identity *identity, struct emu_command *command,
			 enum emu_command_end end)
{
	uint64_t dropped;

	log_debug(hub->log, "%s: command %llu is a dead letter: %s", identity->id,
		  (unsigned long long)command->sequence_no, emu_command_end_name(end));
	emu_monitor_post_command(hub, identity, command, emu_command_end_name(end));
	dropped = emu_command_kill(&identity->commands, command, end, hub->wall_ms);
	if (dropped)
		emu_state_command_gone(hub, identity, dropped);
	emu_state_command_moved(hub, identity, command);
}

static void command_complete(struct emu_hub *hub, struct emu_identity *identity, struct emu_command *command)
{
	if (command->purged) {
		emu_command_free(&identity->commands, command);
		return;
	}
	emu_monitor_post_command(hub, identity, command, emu_command_end_name(COMMAND_COMPLETED));
	emu_state_command_completed(hub, identity, command, hub->wall_ms);
	emu_command_complete(&identity->commands, command, hub->wall_ms);
}

static void due(struct emu_hub *hub, uint64_t at_ns)
{
	if (at_ns < hub->commands_due_ns)
		hub->commands_due_ns = at_ns;
}

void emu_command_watch(struct emu_hub *hub, const struct emu_command *command)
{
	uint64_t left_ms = command->expires_ms > hub->wall_ms ? command->expires_ms - hub->wall_ms : 0;

	if (command->sent)
		return;
	due(hub, hub->now_ns + left_ms * NSEC_PER_MSEC);
	if (command->packet_id == 0 && command->ready_ns > hub->now_ns)
		due(hub, command->ready_ns);
}

/* Back to those that wait, unless it was delivered often enough. */
static void command_return(struct emu_hub *hub, struct emu_identity *identity, struct emu_command *command)
{
	command->sent = false;
	if (command->purged) {
		emu_command_free(&identity->commands, command);
		return;
	}
	if (command->delivery_count >= hub->options.deliveries_max) {
		command_kill(hub, identity, command, COMMAND_DELIVERY_COUNT);
		return;
	}
	emu_command_set_packet_id(&identity->commands, command, 0);
	emu_state_command_moved(hub, identity, command);
	emu_command_watch(hub, command);
}

void emu_commands_expire(struct emu_hub *hub, struct emu_identity *identity)
{
	struct emu_command *command;

	while ((command = emu_commands_expired(&identity->commands, hub->wall_ms))) {
		if (command->purged)
			emu_command_free(&identity->commands, command);
		else
			command_kill(hub, identity, command, COMMAND_EXPIRED);
	}
}

static void return_in_flight(struct emu_hub *hub, struct emu_identity *identity)
{
	/* What is put back waits, and is passed over if it is met again. */
	list_for_each_safe (link, &identity->commands.queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->packet_id)
			command_return(hub, identity, command);
	}
}

void emu_commands_attached(struct emu_client *c, bool resumed)
{
	struct emu_commands *cs = &c->identity->commands;

	if (!resumed) {
		return_in_flight(c->hub, c->identity);
		return;
	}
	/* What was delivered often enough is not delivered again. */
	list_for_each_safe (link, &cs->queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->packet_id &&
		    (command->purged || command->delivery_count >= c->hub->options.deliveries_max))
			command_return(c->hub, c->identity, command);
	}
}

void emu_commands_detached(struct emu_hub *hub, struct emu_identity *identity)
{
	list_for_each (link, &identity->commands.queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (!command->sent)
			continue;
		command->sent = false;
		emu_command_watch(hub, command);
	}
	if (identity->session.ends_at_ns == 0)
		return_in_flight(hub, identity);
}

/* --- sending
 * --------------------------------------------------------------------------------------------------- */

static uint16_t packet_id_next(struct emu_client *c)
{
	/* There are more identifiers than commands in a queue. */
	do {
		if (++c->packet_id == 0)
			c->packet_id = 1;
	} while (emu_commands_in_flight(&c->identity->commands, c->packet_id));
	return c->packet_id;
}

static struct bytes properties_make(struct emu_client *c, const struct emu_command *command)
{
	struct writer w = writer_init(c->hub->scratch, c->hub->scratch_size);
	char time[TIME_ISO_LEN + 1];

	emu_property_put_number(&w, "sequence-no", command->sequence_no);
	time_format_iso(command->enqueued_ms, time);
	emu_property_put(&w, "enqueued-time", time);
	emu_property_put_number(&w, "delivery-count", command->delivery_count + 1);
	writer_bytes_put(&w, command->message.properties);
	return writer_bytes(&w);
}

static int command_put(struct emu_client *c, const struct emu_command *command, uint8_t qos,
		       uint16_t packet_id)
{
	struct mqtt_packet packet = {
		.type = MQTT_PUBLISH,
		.properties = {.repeatable = properties_make(c, command),
			       .content_type = command->message.content_type},
		.publish = {.topic = BYTES_LIT("$iothub/commands"),
			    .qos = qos,
			    .dup = command->packet_id != 0,
			    .packet_id = packet_id,
			    .payload = command->message.payload},
	};

	if (command->message.has_content_type)
		mqtt_set(&packet.properties, MQTT_PROP_CONTENT_TYPE);
	return emu_client_try_put(c, &packet);
}

/* Sends one. False: there is no room now. */
static bool command_send(struct emu_client *c, struct emu_command *command, uint8_t qos)
{
	struct emu_identity *identity = c->identity;
	uint16_t packet_id = 0;
	int r;

	if (qos > 0)
		packet_id = command->packet_id ? command->packet_id : packet_id_next(c);
	r = command_put(c, command, qos, packet_id);
	if (r == -ENOBUFS || c->closing)
		return false;
	if (r == -EMSGSIZE) {
		command_kill(c->hub, identity, command, COMMAND_TOO_LARGE);
		return true;
	}
	command->delivery_count++;
	if (qos == 0) {
		command_complete(c->hub, identity, command);
		return true;
	}
	if (command->packet_id == 0)
		emu_command_set_packet_id(&identity->commands, command, packet_id);
	command->sent = true;
	c->n_commands++;
	emu_state_command_moved(c->hub, identity, command);
	return true;
}

/* In flight in the session, but not on this connection. */
static struct emu_command *first_to_resend(struct emu_commands *cs)
{
	list_for_each (link, &cs->queue) {
		struct emu_command *command = container_of(link, struct emu_command, link);

		if (command->packet_id && !command->sent)
			return command;
	}
	return NULL;
}

void emu_commands_deliver(struct emu_client *c)
{
	struct emu_identity *identity = c->identity;
	const struct emu_subscription *subscription;
	bool go_on = true;

	/* Most often: this is asked whenever the output has drained. */
	if (identity->commands.n_queue == 0)
		return;
	subscription = emu_client_subscription(c, FILTER_COMMANDS, BYTES(NULL, 0));
	emu_commands_expire(c->hub, identity);
	while (go_on && !c->closing && c->n_commands < c->receive_maximum && buf_len(&c->out) < OUT_ENOUGH) {
		struct emu_command *command = first_to_resend(&identity->commands);

		if (command) {
			go_on = command_send(c, command, 1);
			continue;
		}
		command = subscription ? emu_commands_next(&identity->commands, c->hub->now_ns) : NULL;
		go_on = command && command_send(c, command, subscription->qos);
	}
}

void emu_commands_offer(struct emu_identity *identity)
{
	if (identity->session.client)
		emu_commands_deliver(identity->session.client);
}

/* --- settlement
 * ------------------------------------------------------------------------------------------------ */

static bool is_abandon(const struct mqtt_packet *packet)
{
	struct bytes text;
	uint16_t status;

	if (packet->ack.reason == MQTT_REASON_NOT_AUTHORIZED)
		return false;
	if (!mqtt_user_property_find(packet->properties.repeatable, "status", &text) ||
	    emu_status_parse(text, &status) < 0)
		return true;
	return emu_status_is_retryable(status);
}

static void settle(struct emu_client *c, struct emu_command *command, const struct mqtt_packet *packet)
{
	struct emu_hub *hub = c->hub;

	c->n_commands--;
	if (packet->ack.reason < 0x80 || command->purged) {
		command_complete(hub, c->identity, command);
	} else if (is_abandon(packet)) {
		command->ready_ns = hub->now_ns + hub->options.redelivery_delay_ms * NSEC_PER_MSEC;
		command_return(hub, c->identity, command);
	} else {
		command_kill(hub, c->identity, command, COMMAND_REJECTED);
	}
}

void emu_on_puback(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_outcome outcome = EMU_SUCCESS;
	struct emu_command *command =
		c->identity ? emu_commands_in_flight(&c->identity->commands, packet->ack.packet_id) : NULL;

	if (!emu_puback_properties_check(packet->properties.repeatable, &outcome)) {
		emu_client_end_outcome(c, &outcome);
		return;
	}
	if (!command || !command->sent) {
		log_info(c->hub->log, "%s: PUBACK of packet %u, which is not in flight; ignored", c->id,
			 packet->ack.packet_id);
		return;
	}
	settle(c, command, packet);
	/* For the owner to write it down, and to look at the time. */
	c->ops->on_wake(c->userdata);
	emu_commands_deliver(c);
}

/* --- time
 * ------------------------------------------------------------------------------------------------------ */

void emu_commands_tick(struct emu_hub *hub)
{
	if (hub->now_ns < hub->commands_due_ns)
		return;
	hub->commands_due_ns = TIME_NEVER;
	for (size_t i = 0; i < emu_registry_n_identities(hub->registry); i++) {
		struct emu_identity *identity = emu_registry_identity(hub->registry, i);

		emu_commands_expire(hub, identity);
		emu_commands_offer(identity);
		list_for_each (link, &identity->commands.queue)
			emu_command_watch(hub, container_of(link, struct emu_command, link));
	}
}
