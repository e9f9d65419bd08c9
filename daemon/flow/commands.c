/* SPDX-License-Identifier: MIT */
/*
 * Commands, see commands.h.
 *
 * Objects: the table of the commands that are not settled, in the order of their arrival; and the answers, a ring of
 * the last decisions, where one stays for as long as the hub may still ask for it: because there was no room to send
 * it, because its connection was over, or because its PUBACK may have been lost.
 *
 * Invariants: the table has the commands that are WAITING and HANDED, and a reference for each. No command is in the
 * table and in the ring, but for one whose abandonment was sent. Answers leave in the order of their decisions, so the
 * UNSENT ones are the last ones, and no more of them than Receive Maximum: none is forgotten unsent. Those of a
 * connection that is over become STALE when they are tried.
 *
 * The bounds fit each other: unanswered deliveries of this connection are limited by Receive Maximum, which the
 * session enforces, and the commands of earlier connections by COMMANDS_HANDED_MAX, since only handed ones stay. The
 * ring is for as many decisions as can be made offline, and as many PUBACKs as can be lost.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/time.h"
#include "flow/commands.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

#define ANSWERS_MAX (2 * COMMANDS_MAX)

struct command {
	struct list link; /* commands.table */
	enum command_state state;
	unsigned int n_refs;
	struct command_message message; /* its bytes are in data */
	struct link_delivery delivery;
	void *userdata;
	uint8_t data[]; /* properties, payload, newline */
};

enum answer_state {
	ANSWER_NONE,   /* nothing here */
	ANSWER_UNSENT, /* waits for room */
	ANSWER_STALE,  /* its connection is over: for the next delivery */
	ANSWER_SENT,
};

struct answer {
	enum answer_state state;
	enum link_settlement settlement;
	uint64_t sequence_no, enqueued_ms;
	struct link_delivery delivery;
};

struct commands {
	struct log *log;
	struct link *hub;
	struct link_subscription subscription;
	const struct commands_watcher *watcher;
	void *userdata;
	struct list table;
	unsigned int n_waiting;
	unsigned int n_handed;
	struct answer answers[ANSWERS_MAX];
	size_t next_answer; /* the oldest one's place */
	unsigned int n_unsent;
	enum commands_phase phase;
	struct log_once logged;
};

/* --- one command ------------------------------------------------------------------------------ */

struct command *command_ref(struct command *command)
{
	++command->n_refs;
	return command;
}

void command_unref(struct command *command)
{
	if (!command || --command->n_refs)
		return;
	assert(!list_is_linked(&command->link));
	free(command);
}

enum command_state command_state(const struct command *command)
{
	return command->state;
}

const struct command_message *command_message(const struct command *command)
{
	return &command->message;
}

void **command_userdata(struct command *command)
{
	return &command->userdata;
}

/* Bytes after one another; returns where the next ones go. */
static uint8_t *store(uint8_t *at, struct bytes src, struct bytes *out)
{
	if (src.len)
		memcpy(at, src.data, src.len);
	*out = BYTES(at, src.len);
	return at + src.len;
}

static struct command *command_new(const struct command_message *message)
{
	struct command *command =
		malloc(sizeof(*command) + message->properties.len + message->payload.len + 1);
	uint8_t *at;

	if (!command)
		return NULL;
	*command = (struct command){.state = COMMAND_WAITING, .n_refs = 1, .message = *message};
	list_init(&command->link);
	at = store(command->data, message->properties, &command->message.properties);
	at = store(at, message->payload, &command->message.payload);
	*at = '\n';
	return command;
}

/* --- the table -------------------------------------------------------------------------------- */

static unsigned int *commands_counter(struct commands *c, enum command_state state)
{
	switch (state) {
	case COMMAND_WAITING:
		return &c->n_waiting;
	case COMMAND_HANDED:
		return &c->n_handed;
	case COMMAND_SETTLED:
	case COMMAND_GONE:
		break;
	}
	return NULL;
}

/* Out of the table with the last two; the caller has a reference of its own then. */
static void command_set_state(struct commands *c, struct command *command, enum command_state state)
{
	unsigned int *counter = commands_counter(c, state);

	--*commands_counter(c, command->state);
	command->state = state;
	if (counter) {
		++*counter;
		return;
	}
	list_remove(&command->link);
	if (c->watcher)
		c->watcher->on_removed(c->userdata, command);
	command_unref(command);
}

static struct command *commands_find(struct commands *c, uint64_t sequence_no, uint64_t enqueued_ms)
{
	list_for_each (link, &c->table) {
		struct command *command = container_of(link, struct command, link);

		if (command->message.sequence_no == sequence_no &&
		    command->message.enqueued_ms == enqueued_ms)
			return command;
	}
	return NULL;
}

bool commands_available(const struct commands *c)
{
	return c->n_waiting && c->n_handed < COMMANDS_HANDED_MAX && c->phase == COMMANDS_SERVING;
}

enum commands_phase commands_phase(const struct commands *c)
{
	return c->phase;
}

static void commands_offer(struct commands *c)
{
	if (c->watcher && commands_available(c))
		c->watcher->on_available(c->userdata);
}

struct command *commands_take(struct commands *c)
{
	if (!commands_available(c))
		return NULL;
	list_for_each (link, &c->table) {
		struct command *command = container_of(link, struct command, link);

		if (command->state != COMMAND_WAITING)
			continue;
		command_set_state(c, command, COMMAND_HANDED);
		return command_ref(command);
	}
	return NULL;
}

/* --- answers ---------------------------------------------------------------------------------- */

static struct answer *answers_find(struct commands *c, uint64_t sequence_no, uint64_t enqueued_ms)
{
	for (size_t i = 0; i < ANSWERS_MAX; ++i) {
		struct answer *answer = &c->answers[i];

		if (answer->state != ANSWER_NONE && answer->sequence_no == sequence_no &&
		    answer->enqueued_ms == enqueued_ms)
			return answer;
	}
	return NULL;
}

static void answer_set_state(struct commands *c, struct answer *answer, enum answer_state state)
{
	c->n_unsent -= answer->state == ANSWER_UNSENT;
	c->n_unsent += state == ANSWER_UNSENT;
	answer->state = state;
}

/* False: there is no room. */
static bool answer_send(struct commands *c, struct answer *answer)
{
	int r = link_settle(c->hub, &answer->delivery, answer->settlement);

	switch (r) {
	case 0:
		answer_set_state(c, answer, ANSWER_SENT);
		return true;
	case -ENOBUFS:
	case -ENOMEM:
		return false;
	case -ESTALE:
		break;
	default:
		/* A hub that takes no packet of this size. */
		log_write_once(c->log, &c->logged, LOG_LEVEL_WARNING, "cannot settle a command: %s",
			       strerror(-r));
	}
	answer_set_state(c, answer, ANSWER_STALE);
	return true;
}

/* In order, until there is no room. */
static void answers_send(struct commands *c)
{
	for (size_t i = 0; i < ANSWERS_MAX && c->n_unsent; ++i) {
		struct answer *answer = &c->answers[(c->next_answer + i) % ANSWERS_MAX];

		if (answer->state == ANSWER_UNSENT && !answer_send(c, answer))
			return;
	}
}

/* Puts a decision into the ring, and out to the hub if it can be. */
static void answers_add(struct commands *c, const struct command_message *message,
			const struct link_delivery *delivery, enum link_settlement settlement)
{
	struct answer *answer = answers_find(c, message->sequence_no, message->enqueued_ms);

	/* What was decided of this command before does not count any more. */
	if (answer)
		answer_set_state(c, answer, ANSWER_NONE);
	answer = &c->answers[c->next_answer];
	c->next_answer = (c->next_answer + 1) % ANSWERS_MAX;
	answer_set_state(c, answer, ANSWER_NONE);
	*answer = (struct answer){
		.settlement = settlement,
		.sequence_no = message->sequence_no,
		.enqueued_ms = message->enqueued_ms,
		.delivery = *delivery,
	};
	answer_set_state(c, answer, ANSWER_UNSENT);
	answers_send(c);
}

int commands_settle(struct commands *c, struct command *command, enum link_settlement settlement)
{
	bool was_full = c->n_handed == COMMANDS_HANDED_MAX;

	if (c->phase == COMMANDS_CLOSED)
		return -ESHUTDOWN;
	if (command->state != COMMAND_WAITING && command->state != COMMAND_HANDED)
		return -ESTALE;
	answers_add(c, &command->message, &command->delivery, settlement);
	command_set_state(c, command, COMMAND_SETTLED);
	if (was_full)
		commands_offer(c);
	return 0;
}

/* --- deliveries ------------------------------------------------------------------------------- */

static int parse_u64(struct bytes text, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (!text.len)
		return -EINVAL;
	for (size_t i = 0; i < text.len; ++i)
		if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value))
			return -EINVAL;
	*out = value;
	return value <= max ? 0 : -EINVAL;
}

/* What the contract requires of a command. Returns NULL, or the name of the property that is missing or no good. */
static const char *message_read(const struct link_message *message, struct command_message *out)
{
	struct bytes field = message->properties->repeatable, text;
	uint64_t n;

	*out = (struct command_message){.properties = field, .payload = message->payload};
	if (!mqtt_user_property_find(field, HUB_PROP_SEQUENCE_NO, &text) ||
	    parse_u64(text, UINT64_MAX, &out->sequence_no))
		return HUB_PROP_SEQUENCE_NO;
	if (!mqtt_user_property_find(field, HUB_PROP_ENQUEUED_TIME, &text) ||
	    time_parse(text, &out->enqueued_ms))
		return HUB_PROP_ENQUEUED_TIME;
	if (!mqtt_user_property_find(field, HUB_PROP_DELIVERY_COUNT, &text) ||
	    parse_u64(text, UINT32_MAX, &n))
		return HUB_PROP_DELIVERY_COUNT;
	out->delivery_count = (uint32_t)n;
	return NULL;
}

/* A delivery of something known. True: that is all there is to it. */
static bool commands_on_again(struct commands *c, const struct command_message *message,
			      const struct link_delivery *delivery)
{
	struct command *command = commands_find(c, message->sequence_no, message->enqueued_ms);
	struct answer *answer;

	if (command) {
		command->delivery = *delivery;
		return true;
	}
	answer = answers_find(c, message->sequence_no, message->enqueued_ms);
	/* Abandoned, and that was sent: this is the hub's next try. */
	if (!answer || (answer->state == ANSWER_SENT && answer->settlement == LINK_ABANDON))
		return false;
	answers_add(c, message, delivery, answer->settlement);
	return true;
}

static void commands_add(struct commands *c, const struct command_message *message,
			 const struct link_delivery *delivery)
{
	struct command *command = NULL;

	if (c->n_waiting + c->n_handed < COMMANDS_MAX)
		command = command_new(message);
	if (!command) {
		log_write_once(
			c->log, &c->logged, LOG_LEVEL_WARNING, "commands are given back to the hub: %s",
			c->n_waiting + c->n_handed < COMMANDS_MAX ? "out of memory" : "too many at once");
		answers_add(c, message, delivery, LINK_ABANDON);
		return;
	}
	command->delivery = *delivery;
	list_append(&c->table, &command->link);
	++c->n_waiting;
	if (c->watcher)
		c->watcher->on_added(c->userdata, command);
	commands_offer(c);
}

static void commands_on_message(struct link_subscription *sub, const struct link_message *message)
{
	struct commands *c = container_of(sub, struct commands, subscription);
	struct command_message read;
	const char *bad;

	if (c->phase != COMMANDS_SERVING)
		return;
	bad = message_read(message, &read);
	if (bad) {
		log_warning(c->log, "rejected a command of the hub: no valid %s", bad);
		answers_add(c, &read, &message->delivery, LINK_REJECT);
		return;
	}
	if (!commands_on_again(c, &read, &message->delivery))
		commands_add(c, &read, &message->delivery);
}

/* --- the link's side -------------------------------------------------------------------------- */

void commands_on_offline(struct commands *c)
{
	list_for_each_safe (link, &c->table) {
		struct command *command = container_of(link, struct command, link);

		if (command->state == COMMAND_WAITING)
			command_set_state(c, command, COMMAND_GONE);
	}
}

void commands_on_writable(struct commands *c)
{
	answers_send(c);
}

/* --- life cycle ------------------------------------------------------------------------------- */

void commands_set_watcher(struct commands *c, const struct commands_watcher *watcher, void *userdata)
{
	c->watcher = watcher;
	c->userdata = userdata;
}

void commands_drain(struct commands *c)
{
	if (c->phase != COMMANDS_SERVING)
		return;
	c->phase = COMMANDS_DRAINING;
	if (c->watcher)
		c->watcher->on_draining(c->userdata);
}

void commands_close(struct commands *c)
{
	commands_drain(c);
	c->phase = COMMANDS_CLOSED;
}

int commands_new(struct commands **out, const struct commands_options *options)
{
	struct commands *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->log = options->log;
	c->hub = options->link;
	list_init(&c->table);
	c->subscription.filter = BYTES_LIT(HUB_TOPIC_COMMANDS);
	c->subscription.qos = 1;
	c->subscription.on_message = commands_on_message;
	link_subscription_init(&c->subscription);
	r = link_subscribe(c->hub, &c->subscription);
	if (r) {
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

void commands_free(struct commands *c)
{
	if (!c)
		return;
	assert(!c->watcher);
	link_unsubscribe(c->hub, &c->subscription);
	list_for_each_safe (link, &c->table) {
		list_remove(link);
		command_unref(container_of(link, struct command, link));
	}
	free(c);
}
