/* SPDX-License-Identifier: MIT */
/*
 * The table of commands between a link whose hub is the test and a watcher that writes down what it hears: deliveries,
 * settlements, connections that end between any two of them, and the bounds. The random test plays a hub that loses
 * connections and answers, and counts what each command came to.
 */

#include "base/cleanup.h"
#include "flow/commands.h"
#include "tests/support/hub_line.h"

#define N_RANDOM_COMMANDS 200
#define TIME_A            "2021-04-21T11:30:16Z"
#define TIME_B            "1600987795320"

FIXTURE(commands)
{
	struct hub_line line;
	struct commands *commands;
	struct command *added; /* the last one; not referenced */
	char heard[4096];
};

static void hear(struct fixture_commands *self, const char *what, struct command *command)
{
	size_t len = strlen(self->heard);

	ASSERT_LT(len + 40, sizeof(self->heard));
	snprintf(self->heard + len, sizeof(self->heard) - len, command ? "%s %" PRIu64 ";" : "%s;", what,
		 command ? command_message(command)->sequence_no : 0);
}

static void on_added(void *userdata, struct command *command)
{
	EXPECT_TRUE(command_state(command) == COMMAND_WAITING);
	((struct fixture_commands *)userdata)->added = command;
	hear(userdata, "added", command);
}

static void on_removed(void *userdata, struct command *command)
{
	hear(userdata, command_state(command) == COMMAND_GONE ? "gone" : "removed", command);
}

static void on_available(void *userdata)
{
	hear(userdata, "available", NULL);
}

static void on_draining(void *userdata)
{
	hear(userdata, "draining", NULL);
}

static const struct commands_watcher watcher = {
	.on_added = on_added,
	.on_removed = on_removed,
	.on_available = on_available,
	.on_draining = on_draining,
};

FIXTURE_SETUP(commands)
{
	struct commands_options options;

	hub_line_init(&self->line);
	options = (struct commands_options){.log = &self->line.log, .link = self->line.link};
	ASSERT_EQ(commands_new(&self->commands, &options), 0);
	commands_set_watcher(self->commands, &watcher, self);
	hub_line_online(&self->line);
}

FIXTURE_TEARDOWN(commands)
{
	if (test_is_orphan())
		return;
	if (self->commands)
		commands_set_watcher(self->commands, NULL, NULL);
	commands_free(self->commands);
	hub_line_deinit(&self->line);
}

static void deliver_as(struct fixture_commands *self, uint16_t packet_id, uint64_t sequence_no,
		       const char *enqueued_time, const char *delivery_count)
{
	char number[24], payload[32];

	snprintf(number, sizeof(number), "%" PRIu64, sequence_no);
	snprintf(payload, sizeof(payload), "payload %" PRIu64, sequence_no);
	hub_line_command(&self->line, &(struct hub_line_command){.packet_id = packet_id,
								 .sequence_no = number,
								 .enqueued_time = enqueued_time,
								 .delivery_count = delivery_count,
								 .payload = bytes_from_str(payload)});
}

static void deliver(struct fixture_commands *self, uint16_t packet_id, uint64_t sequence_no)
{
	deliver_as(self, packet_id, sequence_no, TIME_A, "1");
}

static void offline(struct fixture_commands *self)
{
	hub_line_offline(&self->line);
	commands_on_offline(self->commands);
}

static void reconnect(struct fixture_commands *self)
{
	offline(self);
	hub_line_online(&self->line);
}

static void expect_heard(struct fixture_commands *self, const char *want)
{
	EXPECT_STREQ(self->heard, want);
	self->heard[0] = '\0';
}

static void expect_answers(struct fixture_commands *self, const char *want)
{
	EXPECT_STREQ(hub_line_answers(&self->line), want);
}

/* Takes the command that has to be @sequence_no. */
static struct command *take(struct fixture_commands *self, uint64_t sequence_no)
{
	struct command *command = commands_take(self->commands);

	ASSERT_TRUE(command != NULL);
	EXPECT_TRUE(command_state(command) == COMMAND_HANDED);
	EXPECT_EQ(command_message(command)->sequence_no, sequence_no);
	return command;
}

static void settle(struct fixture_commands *self, struct command *command, enum link_settlement settlement)
{
	EXPECT_EQ(commands_settle(self->commands, command, settlement), 0);
	EXPECT_TRUE(command_state(command) == COMMAND_SETTLED);
	command_unref(command);
}

static void take_and_settle(struct fixture_commands *self, uint64_t sequence_no,
			    enum link_settlement settlement)
{
	settle(self, take(self, sequence_no), settlement);
}

/* --- on one connection ------------------------------------------------------------------------ */

TEST_F(commands, each_is_taken_once_in_order_and_settled_as_said)
{
	struct command *one, *two, *three;

	EXPECT_FALSE(commands_available(self->commands));
	EXPECT_TRUE(commands_take(self->commands) == NULL);
	deliver(self, 1, 10);
	deliver(self, 2, 11);
	deliver(self, 3, 12);
	expect_heard(self, "added 10;available;added 11;available;added 12;available;");
	one = take(self, 10);
	two = take(self, 11);
	three = take(self, 12);
	EXPECT_TRUE(commands_take(self->commands) == NULL);
	expect_answers(self, "");
	settle(self, three, LINK_REJECT);
	settle(self, one, LINK_ABANDON);
	expect_answers(self, "3 0100;1 0603;");
	EXPECT_EQ(commands_settle(self->commands, command_ref(two), LINK_COMPLETE), 0);
	EXPECT_EQ(commands_settle(self->commands, two, LINK_ABANDON), -ESTALE);
	command_unref(two);
	command_unref(two);
	expect_answers(self, "2 complete;");
	expect_heard(self, "removed 12;removed 10;removed 11;");
	/* The abandoned one's next try. */
	deliver_as(self, 4, 10, TIME_A, "2");
	one = take(self, 10);
	EXPECT_EQ(command_message(one)->delivery_count, 2u);
	settle(self, one, LINK_COMPLETE);
	expect_answers(self, "4 complete;");
}

TEST_F(commands, have_what_the_hub_sent)
{
	struct command *command;
	const struct command_message *message;
	struct bytes value;

	deliver_as(self, 1, UINT64_MAX, TIME_B, "4294967295");
	command = take(self, UINT64_MAX);
	message = command_message(command);
	EXPECT_EQ(message->enqueued_ms, UINT64_C(1600987795320));
	EXPECT_EQ(message->delivery_count, UINT32_MAX);
	EXPECT_TRUE(bytes_equal_str(message->payload, "payload 18446744073709551615"));
	EXPECT_EQ(message->payload.data[message->payload.len], '\n');
	EXPECT_TRUE(mqtt_user_property_find(message->properties, "enqueued-time", &value));
	EXPECT_TRUE(bytes_equal_str(value, TIME_B));
	settle(self, command, LINK_COMPLETE);
}

TEST_F(commands, one_that_waits_can_be_settled)
{
	struct command *command;

	deliver(self, 1, 1);
	command = command_ref(self->added);
	deliver(self, 2, 2);
	settle(self, command, LINK_COMPLETE);
	expect_answers(self, "1 complete;");
	expect_heard(self, "added 1;available;added 2;available;removed 1;");
	take_and_settle(self, 2, LINK_COMPLETE);
	EXPECT_FALSE(commands_available(self->commands));
}

TEST_F(commands, what_is_no_command_is_rejected)
{
	static const struct hub_line_command bad[] = {
		{.packet_id = 1, .enqueued_time = TIME_A, .delivery_count = "1"},
		{.packet_id = 2, .sequence_no = "1", .delivery_count = "1"},
		{.packet_id = 3, .sequence_no = "1", .enqueued_time = TIME_A},
		{.packet_id = 4, .sequence_no = "", .enqueued_time = TIME_A, .delivery_count = "1"},
		{.packet_id = 5, .sequence_no = "-1", .enqueued_time = TIME_A, .delivery_count = "1"},
		{.packet_id = 6, .sequence_no = "1x", .enqueued_time = TIME_A, .delivery_count = "1"},
		{.packet_id = 7,
		 .sequence_no = "18446744073709551616",
		 .enqueued_time = TIME_A,
		 .delivery_count = "1"},
		{.packet_id = 8, .sequence_no = "1", .enqueued_time = TIME_A, .delivery_count = "4294967296"},
		{.packet_id = 9,
		 .sequence_no = "1",
		 .enqueued_time = "2021-04-21T11:30:16-07:00",
		 .delivery_count = "1"},
		{.packet_id = 10,
		 .sequence_no = "99999999999999999999999",
		 .enqueued_time = TIME_A,
		 .delivery_count = "1"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i)
		hub_line_command(&self->line, &bad[i]);
	expect_answers(self, "1 0100;2 0100;3 0100;4 0100;5 0100;6 0100;7 0100;8 0100;9 0100;10 0100;");
	expect_heard(self, "");
}

TEST_F(commands, the_same_number_at_another_time_is_another_command)
{
	deliver_as(self, 1, 5, TIME_A, "1");
	deliver_as(self, 2, 5, TIME_B, "1");
	take_and_settle(self, 5, LINK_COMPLETE);
	take_and_settle(self, 5, LINK_REJECT);
	expect_answers(self, "1 complete;2 0100;");
}

/* --- over connections ------------------------------------------------------------------------- */

TEST_F(commands, one_that_waits_goes_with_its_connection)
{
	deliver(self, 1, 1);
	offline(self);
	expect_heard(self, "added 1;available;gone 1;");
	EXPECT_FALSE(commands_available(self->commands));
	hub_line_online(&self->line);
	deliver(self, 1, 1);
	expect_heard(self, "added 1;available;");
	take_and_settle(self, 1, LINK_COMPLETE);
	expect_answers(self, "1 complete;");
}

TEST_F(commands, one_that_is_handled_is_not_handed_out_twice)
{
	struct command *command;

	deliver(self, 1, 1);
	command = take(self, 1);
	reconnect(self);
	deliver_as(self, 7, 1, TIME_A, "2");
	EXPECT_FALSE(commands_available(self->commands));
	settle(self, command, LINK_COMPLETE);
	expect_answers(self, "7 complete;");
	expect_heard(self, "added 1;available;removed 1;");
}

TEST_F(commands, what_was_settled_offline_is_answered_when_it_comes_again)
{
	static const enum link_settlement settlements[] = {LINK_COMPLETE, LINK_ABANDON, LINK_REJECT};
	struct command *commands[3];

	for (uint16_t i = 0; i < 3; ++i) {
		deliver(self, (uint16_t)(1 + i), i);
		commands[i] = take(self, i);
	}
	offline(self);
	for (size_t i = 0; i < 3; ++i)
		settle(self, commands[i], settlements[i]);
	/* Settled before it came again. */
	hub_line_online(&self->line);
	expect_answers(self, "");
	for (uint16_t i = 0; i < 3; ++i)
		deliver_as(self, (uint16_t)(11 + i), i, TIME_A, "2");
	expect_answers(self, "11 complete;12 0603;13 0100;");
	EXPECT_FALSE(commands_available(self->commands));
	/* The hub's next try of what was abandoned. */
	deliver_as(self, 14, 1, TIME_A, "3");
	take_and_settle(self, 1, LINK_COMPLETE);
	expect_answers(self, "14 complete;");
}

TEST_F(commands, settled_on_a_later_connection_before_it_came_again)
{
	struct command *command;

	deliver(self, 1, 1);
	command = take(self, 1);
	reconnect(self);
	settle(self, command, LINK_COMPLETE);
	expect_answers(self, "");
	deliver(self, 1, 1);
	expect_answers(self, "1 complete;");
}

TEST_F(commands, an_answer_that_was_lost_is_given_again)
{
	deliver(self, 1, 1);
	deliver(self, 2, 2);
	deliver(self, 3, 3);
	take_and_settle(self, 1, LINK_COMPLETE);
	take_and_settle(self, 2, LINK_REJECT);
	take_and_settle(self, 3, LINK_ABANDON);
	for (int i = 0; i < 3; ++i) {
		reconnect(self);
		deliver(self, 1, 1);
		deliver(self, 2, 2);
		expect_answers(self, "1 complete;2 0100;");
	}
	EXPECT_FALSE(commands_available(self->commands));
	deliver(self, 3, 3);
	take_and_settle(self, 3, LINK_COMPLETE);
	expect_answers(self, "3 complete;");
}

TEST_F(commands, a_delivery_without_an_answer_is_one_all_the_same)
{
	deliver(self, 0, 1);
	take_and_settle(self, 1, LINK_COMPLETE);
	expect_answers(self, "");
	deliver(self, 4, 1);
	expect_answers(self, "4 complete;");
}

/* --- bounds ----------------------------------------------------------------------------------- */

/* Settlements find no room until hub_line_flush(). Returns the packet of the first that did not: it is rejected. */
static uint16_t fill_output(struct fixture_commands *self)
{
	struct hub_line_command bad = {.packet_id = 1000};
	static uint8_t block[900];
	size_t before = 0;

	for (uint64_t i = 0; i < 64; ++i) {
		uint16_t id = 0;

		ASSERT_EQ(mqtt_session_publish(self->line.link->session, BYTES_LIT("t"), BYTES(NULL, 0),
					       BYTES(block, sizeof(block)), i, &id),
			  0);
	}
	/* What is no command is answered at once. */
	while (mqtt_session_output(self->line.link->session).len != before) {
		before = mqtt_session_output(self->line.link->session).len;
		++bad.packet_id;
		hub_line_command(&self->line, &bad);
	}
	return bad.packet_id;
}

TEST_F(commands, settlements_wait_for_room_in_order)
{
	struct command *commands[4];
	char want[64];
	uint16_t bad;

	offline(self);
	hub_line_online_with(&self->line, 1000);
	for (uint16_t i = 0; i < 4; ++i) {
		deliver(self, (uint16_t)(1 + i), i);
		commands[i] = take(self, i);
	}
	bad = fill_output(self);
	settle(self, commands[2], LINK_COMPLETE);
	settle(self, commands[0], LINK_ABANDON);
	commands_on_writable(self->commands);
	hub_line_flush(&self->line);
	/* Behind those that wait. */
	settle(self, commands[3], LINK_REJECT);
	snprintf(want, sizeof(want), "%u 0100;3 complete;1 0603;4 0100;", bad);
	expect_answers(self, want);
	commands_on_writable(self->commands);
	expect_answers(self, "");
	settle(self, commands[1], LINK_COMPLETE);
	expect_answers(self, "2 complete;");
}

TEST_F(commands, settlements_that_found_no_room_are_for_the_next_delivery)
{
	struct command *command;

	offline(self);
	hub_line_online_with(&self->line, 1000);
	deliver(self, 1, 1);
	command = take(self, 1);
	fill_output(self);
	settle(self, command, LINK_COMPLETE);
	offline(self);
	hub_line_online(&self->line);
	commands_on_writable(self->commands);
	expect_answers(self, "");
	deliver(self, 1, 1);
	expect_answers(self, "1 complete;");
}

TEST_F(commands, as_many_are_handled_at_once_as_may_be)
{
	struct command *handed[COMMANDS_HANDED_MAX];
	unsigned int n = 0;

	/* As many a connection as the hub may send. */
	for (uint64_t at = 0; n < COMMANDS_HANDED_MAX; at += LINK_RECEIVE_MAX) {
		for (uint16_t i = 0; i < LINK_RECEIVE_MAX; ++i)
			deliver(self, (uint16_t)(1 + i), at + i);
		while (n < COMMANDS_HANDED_MAX && commands_available(self->commands))
			handed[n++] = commands_take(self->commands);
		reconnect(self);
	}
	for (uint16_t i = 0; i < LINK_RECEIVE_MAX; ++i)
		deliver(self, (uint16_t)(1 + i), 1000u + i);
	EXPECT_FALSE(commands_available(self->commands));
	EXPECT_TRUE(commands_take(self->commands) == NULL);
	expect_answers(self, "");
	/* A hub that sends without waiting for answers, all the same. */
	self->heard[0] = '\0';
	deliver(self, 0, 5000);
	expect_heard(self, "");
	settle(self, handed[0], LINK_COMPLETE);
	expect_heard(self, "removed 0;available;");
	take_and_settle(self, 1000, LINK_COMPLETE);
	for (unsigned int i = 1; i < n; ++i)
		settle(self, handed[i], LINK_COMPLETE);
	expect_answers(self, "1 complete;");
	EXPECT_TRUE(commands_available(self->commands));
}

/* Delivers @n commands from @from on, as many a connection as may be. Returns how many were completed at once. */
static unsigned int deliver_many(struct fixture_commands *self, uint64_t from, uint64_t n)
{
	unsigned int n_completed = 0;

	for (uint64_t i = 0; i < n; ++i) {
		if (i % LINK_RECEIVE_MAX == 0)
			reconnect(self);
		deliver(self, (uint16_t)(1 + i % LINK_RECEIVE_MAX), from + i);
		n_completed += strstr(hub_line_answers(&self->line), "complete;") != NULL;
	}
	return n_completed;
}

TEST_F(commands, all_that_can_have_been_decided_meanwhile_is_known)
{
	struct command *handed[COMMANDS_HANDED_MAX];

	for (unsigned int n = 0; n < COMMANDS_HANDED_MAX; ++n) {
		EXPECT_EQ(deliver_many(self, n, 1), 0u);
		handed[n] = take(self, n);
	}
	settle(self, handed[0], LINK_REJECT);
	/* These answers are lost. */
	reconnect(self);
	for (uint64_t i = 0; i < LINK_RECEIVE_MAX; ++i)
		deliver(self, (uint16_t)(2 + i), 1000 + i);
	for (uint64_t i = 0; i < LINK_RECEIVE_MAX; ++i)
		take_and_settle(self, 1000 + i, LINK_COMPLETE);
	offline(self);
	for (unsigned int n = 1; n < COMMANDS_HANDED_MAX; ++n)
		settle(self, handed[n], LINK_COMPLETE);
	EXPECT_EQ(deliver_many(self, 1000, LINK_RECEIVE_MAX), (unsigned int)LINK_RECEIVE_MAX);
	EXPECT_EQ(deliver_many(self, 1, COMMANDS_HANDED_MAX - 1), COMMANDS_HANDED_MAX - 1u);
	EXPECT_FALSE(commands_available(self->commands));
}

TEST_F(commands, what_was_taken_can_be_settled_while_the_daemon_ends)
{
	struct command *command;

	deliver(self, 1, 1);
	deliver(self, 2, 2);
	command = take(self, 1);
	self->heard[0] = '\0';
	commands_drain(self->commands);
	expect_heard(self, "draining;");
	EXPECT_FALSE(commands_available(self->commands));
	EXPECT_TRUE(commands_take(self->commands) == NULL);
	EXPECT_EQ(commands_settle(self->commands, command, LINK_COMPLETE), 0);
	command_unref(command);
	expect_answers(self, "1 complete;");
	deliver(self, 3, 3);
	EXPECT_FALSE(commands_available(self->commands));
	commands_close(self->commands);
	expect_heard(self, "removed 1;");
}

TEST_F(commands, nothing_is_decided_after_the_end)
{
	struct command *command;

	deliver(self, 1, 1);
	deliver(self, 2, 2);
	command = take(self, 1);
	self->heard[0] = '\0';
	commands_close(self->commands);
	expect_heard(self, "draining;");
	EXPECT_FALSE(commands_available(self->commands));
	EXPECT_TRUE(commands_take(self->commands) == NULL);
	EXPECT_EQ(commands_settle(self->commands, command, LINK_COMPLETE), -ESHUTDOWN);
	command_unref(command);
	deliver(self, 3, 3);
	expect_heard(self, "");
	expect_answers(self, "");
	offline(self);
	expect_heard(self, "gone 2;");
}

/* --- a hub that loses things ------------------------------------------------------------------ */

/* One command at the hub. */
struct queued {
	bool done;          /* a complete or reject came */
	bool delivered;     /* without an answer so far, on this connection */
	unsigned int count; /* tries */
	uint16_t packet_id;
	unsigned int n_done_here; /* times somebody completed or rejected it here */
	struct command *handed;
};

struct hub {
	struct queued queue[N_RANDOM_COMMANDS];
	unsigned int n_unanswered;
	uint16_t last_packet_id;
};

static void hub_deliver(struct fixture_commands *self, struct hub *hub)
{
	for (size_t i = 0; i < N_RANDOM_COMMANDS && hub->n_unanswered < LINK_RECEIVE_MAX; ++i) {
		struct queued *q = &hub->queue[i];
		char count[12];

		if (q->done || q->delivered)
			continue;
		q->delivered = true;
		hub->last_packet_id = (uint16_t)(hub->last_packet_id % 60000 + 1);
		q->packet_id = hub->last_packet_id;
		++hub->n_unanswered;
		snprintf(count, sizeof(count), "%u", ++q->count);
		deliver_as(self, q->packet_id, i, TIME_A, count);
		if (test_random() % 4 == 0)
			return;
	}
}

/* Hears the answers, or, with the connection, loses them from some point on. */
static void hub_hear(struct fixture_commands *self, struct hub *hub, bool lose)
{
	char *at = (char *)(uintptr_t)hub_line_answers(&self->line), *end;

	for (; *at; at = end + 1) {
		unsigned long id = strtoul(at, &end, 10);
		bool abandoned = strncmp(end, " 0603", 5) == 0;
		struct queued *q = hub->queue;

		end = strchr(end, ';');
		if (lose && test_random() % 3 == 0)
			return;
		while (!q->delivered || q->packet_id != id)
			ASSERT_LT(++q - hub->queue, N_RANDOM_COMMANDS);
		q->delivered = false;
		q->done = !abandoned;
		--hub->n_unanswered;
	}
}

static void hub_cut(struct fixture_commands *self, struct hub *hub)
{
	hub_hear(self, hub, true);
	offline(self);
	for (size_t i = 0; i < N_RANDOM_COMMANDS; ++i)
		hub->queue[i].delivered = false;
	hub->n_unanswered = 0;
	/* Readers go on offline. */
	for (size_t i = 0; i < N_RANDOM_COMMANDS; ++i) {
		struct queued *q = &hub->queue[i];

		if (!q->handed || test_random() % 4)
			continue;
		++q->n_done_here;
		settle(self, TAKE_PTR(q->handed), LINK_COMPLETE);
	}
	hub_line_online(&self->line);
}

static void reader_step(struct fixture_commands *self, struct hub *hub)
{
	struct queued *q = &hub->queue[test_random() % N_RANDOM_COMMANDS];
	enum link_settlement settlement = (enum link_settlement)(test_random() % 3);

	if (test_random() % 3 && commands_available(self->commands)) {
		struct command *command = commands_take(self->commands);
		struct queued *taken = &hub->queue[command_message(command)->sequence_no];

		/* Never two at once, never what was done. */
		ASSERT_TRUE(taken->handed == NULL);
		ASSERT_EQ(taken->n_done_here, 0u);
		taken->handed = command;
		return;
	}
	if (!q->handed)
		return;
	q->n_done_here += settlement != LINK_ABANDON;
	settle(self, TAKE_PTR(q->handed), settlement);
}

static unsigned int hub_n_done(const struct hub *hub)
{
	unsigned int n = 0;

	for (size_t i = 0; i < N_RANDOM_COMMANDS; ++i)
		n += hub->queue[i].done;
	return n;
}

TEST_F(commands, whatever_is_lost_each_is_done_once)
{
	struct hub hub = {.n_unanswered = 0};
	unsigned int n_steps = 0;

	while (hub_n_done(&hub) < N_RANDOM_COMMANDS) {
		ASSERT_LT(++n_steps, 1000000u);
		hub_deliver(self, &hub);
		for (uint64_t n = test_random() % 8; n; --n)
			reader_step(self, &hub);
		self->heard[0] = '\0';
		if (test_random() % 10 == 0)
			hub_cut(self, &hub);
		else
			hub_hear(self, &hub, false);
	}
	for (size_t i = 0; i < N_RANDOM_COMMANDS; ++i) {
		EXPECT_EQ(hub.queue[i].n_done_here, 1u);
		EXPECT_TRUE(hub.queue[i].handed == NULL);
	}
}

TEST_HARNESS_MAIN
