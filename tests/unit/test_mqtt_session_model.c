/* SPDX-License-Identifier: MIT */
/*
 * The client session against a model of both of its ends, over random sequences of publishing, outcomes, lost
 * connections and reconnects.
 *
 * The model's client knows its messages; the model's hub knows what arrived on this connection. Whatever the
 * session sends is decoded and held against both: identifiers are unique while in flight and the same when
 * sent again, DUP says so, no more are in the air than the hub allows, every topic can be resolved, no packet
 * is too large, and each outcome reaches the message it is about, once.
 */

#include "tests/support/session_line.h"

#define N_STEPS    50000
#define MESSAGES   64
#define ALIASES    8
#define PAYLOADMAX 40

enum message_state {
	MESSAGE_FREE,
	MESSAGE_QUEUED, /* has no packet identifier */
	MESSAGE_AWAY,   /* has one, not sent on this connection */
	MESSAGE_IN_AIR, /* sent on this connection */
};

struct message {
	enum message_state state;
	uint16_t id;
	size_t topic;
	char payload[PAYLOADMAX + 1];
};

struct model {
	struct fixture_session *self;
	struct message messages[MESSAGES];
	/* The hub's side of this connection. */
	bool online;
	uint16_t receive_maximum, alias_maximum;
	uint32_t packet_max;
	char aliases[ALIASES + 1][8];
	size_t n_in_air;
	uint64_t expected_cookie; /* of the next outcome, 0 = none */
	uint64_t n_published, n_again, n_outcomes, n_refused, n_too_large;
};

static const char *const topics[] = {"t", "telemetry", "other"};

static struct model *the_model(void)
{
	static struct model model;

	return &model;
}

static void model_on_connack(void *userdata, const struct mqtt_packet *p)
{
	(void)userdata;
	the_model()->online = p->connack.reason == 0;
}

static void model_on_puback(void *userdata, uint64_t cookie, const struct mqtt_packet *p)
{
	struct model *m = the_model();

	(void)userdata;
	ASSERT_NE(cookie, 0u);
	ASSERT_EQ(cookie, m->expected_cookie);
	m->expected_cookie = 0;
	ASSERT_EQ(m->messages[cookie].id, p->ack.packet_id);
	m->n_refused += p->ack.reason != 0;
	++m->n_outcomes;
}

static const struct mqtt_session_ops model_ops = {
	.on_connack = model_on_connack,
	.on_puback = model_on_puback,
	.on_publish = on_publish,
	.on_suback = on_suback,
	.on_auth = on_auth,
	.on_disconnect = on_disconnect,
	.on_error = on_error,
};

static size_t pick(size_t n)
{
	return (size_t)(test_random() % n);
}

/* A random message in @state, or NULL. */
static struct message *pick_message(struct model *m, enum message_state state)
{
	size_t from = pick(MESSAGES);

	for (size_t i = 0; i < MESSAGES; ++i) {
		struct message *message = &m->messages[(from + i) % MESSAGES];

		/* Cookie 0 is nobody. */
		if (message->state == state && message != m->messages)
			return message;
	}
	return NULL;
}

/* --- the hub ---------------------------------------------------------------------------------- */

/* The topic of a PUBLISH as the hub sees it. */
static const char *hub_topic(struct model *m, const struct mqtt_packet *p)
{
	struct bytes topic = p->publish.topic;
	uint16_t alias = p->properties.topic_alias;
	static char text[8 + 2];

	if (mqtt_has(&p->properties, MQTT_PROP_TOPIC_ALIAS)) {
		ASSERT_GE(alias, 1);
		ASSERT_LE(alias, m->alias_maximum);
		if (!topic.len)
			return m->aliases[alias];
	}
	ASSERT_GT(topic.len, 0u);
	snprintf(text, sizeof(text), "%.*s", (int)topic.len, (const char *)topic.data);
	if (alias)
		snprintf(m->aliases[alias], sizeof(m->aliases[alias]), "%.7s", text);
	return text;
}

/* The session took @message: what comes out must be it. */
static void hub_receive(struct model *m, struct message *message, bool again)
{
	struct fixture_session *self = m->self;
	size_t at = self->wire_at;
	const struct mqtt_packet *p = &self->packet;

	expect_packet(self, MQTT_PUBLISH);
	EXPECT_LE(self->wire_at - at, (size_t)m->packet_max);
	EXPECT_EQ(p->publish.qos, 1);
	EXPECT_EQ(p->publish.dup, again);
	EXPECT_EQ(p->publish.packet_id, message->id);
	EXPECT_TRUE(bytes_equal_str(p->publish.payload, message->payload));
	EXPECT_TRUE(strncmp(hub_topic(m, p), topics[message->topic], 7) == 0);
	expect_no_packet(self);
	self->wire_at = self->wire_len = 0;
}

/* --- steps ------------------------------------------------------------------------------------ */

static size_t n_with_id(const struct model *m)
{
	size_t n = 0;

	for (size_t i = 1; i < MESSAGES; ++i)
		n += m->messages[i].state >= MESSAGE_AWAY;
	return n;
}

static size_t packet_size(const struct model *m, const struct message *message)
{
	bool known = false;
	size_t n_known = 0, len;

	for (size_t i = 1; i <= m->alias_maximum; ++i) {
		known |= strncmp(m->aliases[i], topics[message->topic], 7) == 0;
		n_known += m->aliases[i][0] != '\0';
	}
	len = known ? 0 : strlen(topics[message->topic]);
	/* Topic, packet identifier, property length, alias. */
	len += (known || n_known < m->alias_maximum ? 3u : 0u) + 5 + strlen(message->payload);
	return len + 2;
}

static void step_publish(struct model *m, struct message *message)
{
	bool again = message->state == MESSAGE_AWAY;
	uint16_t id = message->id;
	size_t size = packet_size(m, message), n_ids = n_with_id(m);
	int r;

	r = mqtt_session_publish(m->self->s, bytes_from_str(topics[message->topic]), BYTES(NULL, 0),
				 bytes_from_str(message->payload), (uint64_t)(message - m->messages), &id);
	if (!m->online) {
		ASSERT_EQ(r, -ENOTCONN);
	} else if (m->n_in_air >= m->receive_maximum || (!again && n_ids >= WINDOW)) {
		ASSERT_EQ(r, -EAGAIN);
	} else if (size > m->packet_max) {
		ASSERT_EQ(r, -EMSGSIZE);
		++m->n_too_large;
	} else {
		ASSERT_EQ(r, 0);
	}
	if (r) {
		ASSERT_EQ(id, message->id);
		expect_no_packet(m->self);
		return;
	}
	ASSERT_NE(id, 0);
	if (again)
		ASSERT_EQ(id, message->id);
	for (size_t i = 1; i < MESSAGES; ++i)
		if (&m->messages[i] != message && m->messages[i].state >= MESSAGE_AWAY)
			ASSERT_NE(m->messages[i].id, id);
	message->id = id;
	message->state = MESSAGE_IN_AIR;
	++m->n_in_air;
	ASSERT_LE(m->n_in_air, (size_t)m->receive_maximum);
	++m->n_published;
	m->n_again += again;
	hub_receive(m, message, again);
}

static void step_write(struct model *m)
{
	struct message *message = pick_message(m, MESSAGE_FREE);
	size_t len = pick(PAYLOADMAX + 1);

	if (!message)
		return;
	*message = (struct message){.state = MESSAGE_QUEUED, .topic = pick(ARRAY_SIZE(topics))};
	for (size_t i = 0; i < len; ++i)
		message->payload[i] = (char)('a' + pick(26));
	step_publish(m, message);
}

static void hub_puback(struct model *m, uint16_t id, uint8_t reason)
{
	const uint8_t bytes[] = {0x40, 3, (uint8_t)(id >> 8), (uint8_t)id, reason};

	mqtt_session_input(m->self->s, BYTES(bytes, sizeof(bytes)), m->self->now_ns);
}

static void step_puback(struct model *m)
{
	struct message *message = pick_message(m, MESSAGE_IN_AIR);

	if (!m->online || !message)
		return;
	m->expected_cookie = (uint64_t)(message - m->messages);
	hub_puback(m, message->id, pick(4) ? 0 : 0x97);
	ASSERT_EQ(m->expected_cookie, 0u);
	--m->n_in_air;
	*message =
		(struct message){.state = pick(4) ? MESSAGE_FREE : MESSAGE_QUEUED, .topic = message->topic};
}

/* For nothing that is in the air on this connection: no outcome. */
static void step_stray_puback(struct model *m)
{
	uint16_t id = (uint16_t)(1 + pick(2 * WINDOW));

	for (size_t i = 1; i < MESSAGES; ++i)
		if (m->messages[i].state == MESSAGE_IN_AIR && m->messages[i].id == id)
			return;
	if (m->online)
		hub_puback(m, id, 0);
}

static void step_drop(struct model *m)
{
	struct message *message = pick_message(m, MESSAGE_AWAY);

	if (!message)
		return;
	mqtt_session_drop(m->self->s, message->id);
	*message = (struct message){.state = MESSAGE_FREE};
}

static void step_lost(struct model *m)
{
	mqtt_session_lost(m->self->s);
	ASSERT_EQ(mqtt_session_output(m->self->s).len, 0u);
	m->online = false;
	m->n_in_air = 0;
	for (size_t i = 1; i < MESSAGES; ++i)
		if (m->messages[i].state == MESSAGE_IN_AIR)
			m->messages[i].state = MESSAGE_AWAY;
}

static void step_connect(struct model *m)
{
	bool present = pick(4) != 0;
	char text[96];

	step_lost(m);
	m->receive_maximum = (uint16_t)(1 + pick(2 * WINDOW));
	m->alias_maximum = (uint16_t)pick(ALIASES / 2);
	m->packet_max = (uint32_t)(20 + pick(60));
	memset(m->aliases, 0, sizeof(m->aliases));
	start(m->self, KEEP_ALIVE_S);
	snprintf(text, sizeof(text), "20 | %02x 00 [ 21 %04x 22 %04x 27 %08x ]", present, m->receive_maximum,
		 m->alias_maximum, m->packet_max);
	input(m->self, text);
	ASSERT_TRUE(m->online);
	ASSERT_EQ(mqtt_session_limits(m->self->s)->session_present, present);
	m->self->wire_at = m->self->wire_len = 0;
	if (present)
		return;
	mqtt_session_forget(m->self->s);
	for (size_t i = 1; i < MESSAGES; ++i) {
		if (m->messages[i].state == MESSAGE_AWAY)
			m->messages[i].state = MESSAGE_QUEUED;
		m->messages[i].id = 0;
	}
}

static void step(struct model *m)
{
	struct message *message = pick_message(m, pick(2) ? MESSAGE_AWAY : MESSAGE_QUEUED);

	switch (pick(32)) {
	case 0:
		step_lost(m);
		break;
	case 1:
	case 2:
		step_connect(m);
		break;
	case 3:
		step_drop(m);
		break;
	case 4:
	case 5:
		step_stray_puback(m);
		break;
	case 6 ... 13:
		step_write(m);
		break;
	case 14 ... 22:
		if (message)
			step_publish(m, message);
		break;
	default:
		step_puback(m);
		break;
	}
}

TEST_F(session, against_a_model)
{
	const struct mqtt_session_options options = {
		.ops = &model_ops,
		.userdata = self,
		.window_max = WINDOW,
		.receive_maximum = RECEIVE_MAX,
		.packet_bytes_max = PACKET_MAX,
	};
	struct model *m = the_model();

	mqtt_session_free(self->s);
	ASSERT_EQ(mqtt_session_new(&self->s, &options), 0);
	m->self = self;
	for (int i = 0; i < N_STEPS; ++i)
		step(m);
	EXPECT_STREQ(self->told, "");
	TEST_LOG("%" PRIu64 " published, %" PRIu64 " of them again, %" PRIu64 " outcomes, %" PRIu64
		 " refusals, %" PRIu64 " too large",
		 m->n_published, m->n_again, m->n_outcomes, m->n_refused, m->n_too_large);
	EXPECT_GT(m->n_again, 100u);
	EXPECT_GT(m->n_too_large, 100u);
	EXPECT_GT(m->n_refused, 100u);
}

TEST_HARNESS_MAIN
