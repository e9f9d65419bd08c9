/* SPDX-License-Identifier: MIT */
/*
 * Whatever writers, hub and connections do in whatever order, restarts of the daemon between them: no message is lost
 * that was not dropped, refused for good or told its writer, none is delivered again after its outcome, those of a
 * priority go out for the first time in the order they were written, and in the end nothing is left.
 */

#include <fcntl.h>

#include "base/cleanup.h"
#include "flow/telemetry_internal.h"
#include "tests/support/files_line.h"

#define QUEUE_BYTES (1 << 20)
#define N_STEPS     60000
#define N_CHANNELS  4
#define N_OPEN      4
#define N_PENDING   LINK_WINDOW_MAX
#define N_MESSAGES  N_STEPS
#define PAYLOAD_MAX 12000

enum fate {
	FATE_QUEUED,
	FATE_TAKEN,    /* the hub said so */
	FATE_REJECTED, /* likewise */
	FATE_TOLD,     /* the hub refused it, and its writer waited for that */
};

struct message {
	enum fate fate;
	uint8_t channel;
	bool was_sent;   /* by this daemon */
	bool was_taken;  /* the hub has it, whoever knows */
	uint64_t unique; /* of an O_SYNC write; 0 = none */
};

/* A PUBLISH without an answer. */
struct pending {
	uint16_t packet_id;
	unsigned int number;
};

FIXTURE(random)
{
	struct files_line rig;
	struct channel *channels[N_CHANNELS];
	uint64_t fhs[N_CHANNELS];
	uint64_t nodes[N_CHANNELS];
	struct message messages[N_MESSAGES];
	unsigned int n_messages;
	unsigned int last_first[N_CHANNELS]; /* by priority: the last one sent for the first time, and one */
	struct pending pending[N_PENDING];
	unsigned int n_pending;
	bool online;
	uint64_t n_dropped, n_refused, n_again, n_restarts;
};

static const uint8_t priorities[N_CHANNELS] = {5, 5, 0, 9};

static size_t pick(size_t n)
{
	return (size_t)(test_random() % n);
}

static void start(struct fixture_random *self)
{
	static const char *const names[N_CHANNELS] = {NULL, "same", "first", "last"};

	for (size_t i = 0; i < N_CHANNELS; ++i) {
		self->channels[i] = i ? files_line_add(&self->rig, names[i]) : files_line_default(&self->rig);
		ASSERT_EQ(channel_set_priority(self->channels[i], priorities[i]), 0);
		self->nodes[i] = i ? files_line_lookup(&self->rig, names[i], "telemetry.raw")
				   : fuse_line_lookup(&self->rig.line, "telemetry.raw");
		self->fhs[i] = fuse_line_open(&self->rig.line, self->nodes[i], O_WRONLY);
		self->last_first[i] = 0;
	}
	ASSERT_EQ(channel_set_when_full(self->channels[1], CHANNEL_FULL_DROP_OLDEST), 0);
	self->online = false;
	self->n_pending = 0;
}

FIXTURE_SETUP(random)
{
	const struct files_line_options options = {.queue_bytes = QUEUE_BYTES, .is_durable = pick(2)};

	files_line_init(&self->rig, &options);
	self->rig.hub.log.fd = -1;
	start(self);
}

FIXTURE_TEARDOWN(random)
{
	files_line_deinit(&self->rig);
}

/* --- writers ---------------------------------------------------------------------------------- */

static void step_write(struct fixture_random *self)
{
	static char payload[PAYLOAD_MAX];
	size_t i = pick(N_CHANNELS), len = 16 + pick(pick(8) ? 200 : PAYLOAD_MAX - 16);
	uint32_t flags = pick(20) ? 0 : O_SYNC;
	struct message *message = &self->messages[self->n_messages];
	uint64_t u;
	int r;

	ASSERT_LT(self->n_messages, (unsigned int)N_MESSAGES);
	memset(payload, '.', len);
	snprintf(payload, 16, "%u", self->n_messages);
	u = fuse_line_write(&self->rig.line, self->nodes[i], self->fhs[i], O_WRONLY | flags,
			    BYTES(payload, len));
	r = fuse_line_result(&self->rig.line, u);
	if (r < 0) {
		ASSERT_EQ(r, -ENOSPC);
		return;
	}
	*message = (struct message){.channel = (uint8_t)i, .unique = r == FUSE_LINE_WAITS ? u : 0};
	++self->n_messages;
}

/* --- the hub ---------------------------------------------------------------------------------- */

/* For the first time: after all of its priority that were before it. */
static void check_order(struct fixture_random *self, unsigned int number)
{
	struct message *message = &self->messages[number];
	/* Both channels of one priority have one order. */
	unsigned int *last = &self->last_first[message->channel == 1 ? 0 : message->channel];

	ASSERT_GE(number + 1, *last);
	*last = number + 1;
	message->was_sent = true;
}

static void step_take(struct fixture_random *self)
{
	struct mqtt_packet packet;
	struct message *message;
	unsigned int number;

	if (self->n_pending == N_PENDING || !files_line_next(&self->rig, &packet))
		return;
	number = (unsigned int)strtoul((const char *)packet.publish.payload.data, NULL, 10);
	ASSERT_LT(number, self->n_messages);
	message = &self->messages[number];
	/* Nothing is repeated whose outcome the daemon heard of. */
	ASSERT_EQ((int)message->fate, FATE_QUEUED);
	if (message->was_sent)
		++self->n_again;
	else
		check_order(self, number);
	self->pending[self->n_pending++] = (struct pending){packet.publish.packet_id, number};
}

static void step_answer(struct fixture_random *self)
{
	size_t i = self->n_pending ? pick(self->n_pending) : 0, what = pick(20);
	struct pending pending = self->pending[i];
	struct message *message = &self->messages[pending.number];
	bool waits;

	if (!self->n_pending)
		return;
	self->pending[i] = self->pending[--self->n_pending];
	waits = message->unique && fuse_line_result(&self->rig.line, message->unique) == FUSE_LINE_WAITS;
	if (what == 0) {
		files_line_puback(&self->rig, pending.packet_id, 0x97, "0501");
		++self->n_refused;
		message->fate = waits ? FATE_TOLD : FATE_QUEUED;
	} else if (what == 1) {
		files_line_puback(&self->rig, pending.packet_id, 0x83, "0100");
		message->fate = FATE_REJECTED;
	} else {
		files_line_puback(&self->rig, pending.packet_id, 0, NULL);
		message->fate = FATE_TAKEN;
	}
	if (waits)
		ASSERT_EQ(fuse_line_result(&self->rig.line, message->unique) == 0, what > 1);
}

static void go_online(struct fixture_random *self, bool online)
{
	if (online == self->online)
		return;
	self->online = online;
	if (online)
		files_line_online(&self->rig, pick(2));
	else
		files_line_offline(&self->rig);
	self->n_pending = 0;
}

static void step_restart(struct fixture_random *self)
{
	for (size_t i = 0; i < N_CHANNELS; ++i) {
		self->n_dropped += self->channels[i]->stats.n_dropped;
		fuse_line_interrupt(&self->rig.line, 0);
	}
	files_line_restart(&self->rig);
	self->rig.hub.log.fd = -1;
	++self->n_restarts;
	for (unsigned int i = 0; i < self->n_messages; ++i) {
		self->messages[i].was_sent = false;
		/* Whoever waited was told that the connection to the kernel is gone. */
		self->messages[i].unique = 0;
	}
	start(self);
}

/* Each message is somewhere. After a restart, what is queued is counted when it is met. */
static void check_counters(struct fixture_random *self)
{
	uint64_t n_appended = 0, n_gone = files_line_n_queued(&self->rig), n_acked = 0, n_rejected = 0;
	struct telemetry_stats stats;

	for (size_t i = 0; i < N_CHANNELS; ++i) {
		const struct channel_stats *c = &self->channels[i]->stats;

		n_appended += c->n_appended;
		n_acked += c->n_acked;
		n_rejected += c->n_rejected;
		n_gone += c->n_acked + c->n_rejected + c->n_expired + c->n_dropped;
	}
	ASSERT_EQ(n_appended, n_gone);
	telemetry_stats(self->rig.telemetry, &stats);
	ASSERT_EQ(stats.n_written, n_appended);
	ASSERT_EQ(stats.n_acked, n_acked);
	ASSERT_EQ(stats.n_rejected, n_rejected);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void step(struct fixture_random *self)
{
	size_t what = pick(1000);

	if (what < 400)
		step_write(self);
	else if (what < 700)
		step_take(self);
	else if (what < 985)
		step_answer(self);
	else if (what < 999)
		go_online(self, pick(3));
	else if (!pick(5))
		step_restart(self);
}

/* The hub is nice from here on. */
static void drain(struct fixture_random *self)
{
	go_online(self, false);
	go_online(self, true);
	while (files_line_n_queued(&self->rig)) {
		step_take(self);
		while (self->n_pending) {
			struct pending pending = self->pending[--self->n_pending];

			files_line_puback(&self->rig, pending.packet_id, 0, NULL);
			self->messages[pending.number].fate = FATE_TAKEN;
		}
	}
	files_line_expect_none(&self->rig);
}

TEST_F_TIMEOUT(random, writers_hubs_and_connections, 120)
{
	uint64_t n_left = 0;

	for (unsigned int i = 0; i < N_STEPS; ++i) {
		step(self);
		/* A restart counts what was done with before something that was not. */
		if (!self->n_restarts) {
			ASSERT_LE(journal_n_bytes(self->rig.journal), (uint64_t)QUEUE_BYTES);
			check_counters(self);
		}
	}
	drain(self);
	for (size_t i = 0; i < N_CHANNELS; ++i)
		self->n_dropped += self->channels[i]->stats.n_dropped;
	for (unsigned int i = 0; i < self->n_messages; ++i) {
		bool is_left = self->messages[i].fate == FATE_QUEUED;

		/* Only one channel drops. */
		ASSERT_TRUE(!is_left || self->messages[i].channel == 1);
		n_left += is_left;
	}
	/* What was dropped in the air may have been taken all the same. */
	EXPECT_LE(n_left, self->n_dropped);
	EXPECT_EQ(journal_n_bytes(self->rig.journal), 0u);
	TEST_LOG("%u messages, %" PRIu64 " dropped, %" PRIu64 " refused, %" PRIu64 " sent again, %" PRIu64
		 " restarts",
		 self->n_messages, self->n_dropped, self->n_refused, self->n_again, self->n_restarts);
}

TEST_HARNESS_MAIN
