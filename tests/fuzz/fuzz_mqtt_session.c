/* SPDX-License-Identifier: MIT */
/*
 * A life of the client session. The input is a list of steps: packets of a hub, whole, mutated, cut and as noise;
 * time that passes; connections that come and go; and what the session's owner does, also from inside its
 * callbacks. What must hold:
 *
 *   what goes out are whole packets a client may send, none larger than the hub takes;
 *   no more messages are in the air than the hub allows, each outcome reaches its message, once, and answers
 *   go to messages that are there;
 *   callbacks come only in the states that allow them, and nothing comes after the end of a connection;
 *   a deadline that has come is gone after the tick;
 *   a request has one end.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "mqtt/requests.h"
#include "mqtt/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WINDOW      4
#define RECEIVE_MAX 3
#define ALIAS_MAX   2
#define PACKET_MAX  512
#define N_MESSAGES  6
#define N_STEPS_MAX 48

enum message_state {
	MESSAGE_FREE,
	MESSAGE_AWAY, /* has an identifier, not sent on this connection */
	MESSAGE_IN_AIR,
};

struct message {
	enum message_state state;
	uint16_t id;
};

struct world {
	struct mqtt_session *s;
	struct bytes steps;
	uint64_t now_ns;
	bool let_go; /* lose the connection from inside the callback that ends it, as a link does */
	bool answer; /* answer messages from inside their callback */
	bool online; /* CONNACK was accepted on this connection */
	bool ended;  /* the connection's end was told */
	unsigned int n_subscribing, n_unsubscribing;
	bool authenticating;
	struct message messages[N_MESSAGES];
	uint16_t unanswered[RECEIVE_MAX];
	unsigned int n_unanswered;
	struct mqtt_stream hub; /* what the hub gets */
	struct mqtt_requests requests;
	uint8_t correlation[MQTT_REQUESTS_CORRELATION_BYTES]; /* of the last request */
	unsigned int n_waiting;
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Some of these are what a hub says, the identifiers being those in use; mutations make the rest of them. */
static const struct bytes packets[] = {
	BYTES_LIT("\x20\x03\x00\x00\x00"),
	BYTES_LIT("\x20\x0e\x01\x00\x0b\x21\x00\x02\x22\x00\x02\x27\x00\x00\x01\x00"),
	BYTES_LIT("\x20\x08\x00\x00\x05\x24\x00\x13\x00\x04"),
	BYTES_LIT("\x20\x03\x00\x87\x00"),
	BYTES_LIT("\x30\x05\x00\x01"
		  "a\x00x"),
	BYTES_LIT("\x32\x07\x00\x01"
		  "a\x00\x07\x00x"),
	BYTES_LIT("\x3a\x07\x00\x01"
		  "a\x00\x08\x00x"),
	BYTES_LIT("\x34\x07\x00\x01"
		  "a\x00\x07\x00x"),
	BYTES_LIT("\x30\x08\x00\x01"
		  "a\x03\x23\x00\x01x"),
	BYTES_LIT("\x32\x0c\x00\x03"
		  "abc\x00\x09\x03\x23\x00\x02x"),
	BYTES_LIT("\x30\x07\x00\x00\x03\x23\x00\x01x"),
	BYTES_LIT("\x32\x08\x00\x00\x00\x0a\x03\x23\x00\x02"),
	BYTES_LIT("\x40\x02\x00\x01"),
	BYTES_LIT("\x40\x02\x00\x02"),
	BYTES_LIT("\x40\x04\x00\x03\x97\x00"),
	BYTES_LIT("\x40\x13\x00\x01\x83\x0f\x26\x00\x06status\x00\x04"
		  "0501"),
	BYTES_LIT("\x90\x05\x00\x05\x00\x00\x8f"),
	BYTES_LIT("\x90\x04\x00\x05\x00\x01"),
	BYTES_LIT("\xb0\x05\x00\x06\x00\x00\x11"),
	BYTES_LIT("\xb0\x04\x00\x06\x00\x00"),
	BYTES_LIT("\xd0\x00"),
	BYTES_LIT("\xe0\x00"),
	BYTES_LIT("\xe0\x01\x8e"),
	BYTES_LIT("\xe0\x08\x9d\x06\x1c\x00\x03h:1"),
	BYTES_LIT("\xf0\x08\x00\x06\x15\x00\x03SAS"),
	BYTES_LIT("\xf0\x00"),
	BYTES_LIT("\xf0\x08\x18\x06\x15\x00\x03SAS"),
	BYTES_LIT("\x50\x02\x00\x01"),
	BYTES_LIT("\x62\x02\x00\x01"),
	BYTES_LIT("\x70\x02\x00\x01"),
};

static uint8_t take(struct world *w)
{
	uint8_t byte;

	if (!w->steps.len)
		return 0;
	byte = w->steps.data[0];
	w->steps = BYTES(w->steps.data + 1, w->steps.len - 1);
	return byte;
}

/* --- the owner -------------------------------------------------------------------------------- */

static void world_lost(struct world *w)
{
	mqtt_session_lost(w->s);
	must(mqtt_session_state(w->s) == MQTT_SESSION_OFFLINE);
	must(mqtt_session_output(w->s).len == 0 && mqtt_session_deadline_ns(w->s) == TIME_NEVER);
	w->online = false;
	w->n_subscribing = w->n_unsubscribing = w->n_unanswered = 0;
	w->authenticating = false;
	for (size_t i = 0; i < N_MESSAGES; ++i)
		if (w->messages[i].state == MESSAGE_IN_AIR)
			w->messages[i].state = MESSAGE_AWAY;
	while (mqtt_requests_take_expired(&w->requests, TIME_NEVER))
		--w->n_waiting;
	must(w->n_waiting == 0);
}

static void world_ended(struct world *w)
{
	must(!w->ended && mqtt_session_state(w->s) == MQTT_SESSION_ENDED);
	w->ended = true;
	if (w->let_go)
		world_lost(w);
}

static void on_connack(void *userdata, const struct mqtt_packet *connack)
{
	struct world *w = userdata;

	must(!w->online && !w->ended);
	if (connack->connack.reason) {
		world_ended(w);
		return;
	}
	must(mqtt_session_state(w->s) == MQTT_SESSION_ONLINE);
	w->online = true;
	if (connack->connack.session_present)
		return;
	mqtt_session_forget(w->s);
	for (size_t i = 0; i < N_MESSAGES; ++i)
		w->messages[i] = (struct message){0};
}

static void on_puback(void *userdata, uint64_t cookie, const struct mqtt_packet *puback)
{
	struct world *w = userdata;

	must(w->online && !w->ended && cookie < N_MESSAGES);
	must(w->messages[cookie].state == MESSAGE_IN_AIR && w->messages[cookie].id == puback->ack.packet_id);
	w->messages[cookie] = (struct message){0};
}

static void world_answer(struct world *w, unsigned int which, uint8_t reason)
{
	static const struct bytes status = BYTES_LIT("\x26\x00\x06status\x00\x04"
						     "0603");
	uint16_t id = which < w->n_unanswered ? w->unanswered[which] : (uint16_t)(which + 0x4000);
	int r = mqtt_session_puback(w->s, id, reason & 1 ? 0x83 : 0, reason & 2 ? status : BYTES(NULL, 0));

	must(r == 0 || r == -ENOTCONN || r == -ENOENT || r == -EMSGSIZE || r == -ENOBUFS);
	must(r != 0 || which < w->n_unanswered);
	must(r != -ENOENT || which >= w->n_unanswered);
	if (r == 0)
		w->unanswered[which] = w->unanswered[--w->n_unanswered];
}

static void on_publish(void *userdata, const struct mqtt_packet *publish)
{
	struct world *w = userdata;

	must(w->online && !w->ended);
	must(publish->publish.topic.len > 0 && publish->publish.qos < 2);
	if (mqtt_has(&publish->properties, MQTT_PROP_CORRELATION_DATA) &&
	    mqtt_requests_take(&w->requests, publish->properties.correlation_data))
		--w->n_waiting;
	if (publish->publish.qos == 0)
		return;
	must(w->n_unanswered < RECEIVE_MAX);
	w->unanswered[w->n_unanswered++] = publish->publish.packet_id;
	if (w->answer)
		world_answer(w, w->n_unanswered - 1, 3);
}

static void on_suback(void *userdata, const struct mqtt_packet *suback)
{
	struct world *w = userdata;
	unsigned int *n = suback->type == MQTT_SUBACK ? &w->n_subscribing : &w->n_unsubscribing;

	must(w->online && !w->ended && *n && suback->suback.reasons.len == *n);
	*n = 0;
}

static void on_auth(void *userdata, const struct mqtt_packet *auth)
{
	struct world *w = userdata;

	must(w->online && !w->ended && w->authenticating && auth->disconnect.reason == 0);
	w->authenticating = false;
}

static void on_disconnect(void *userdata, const struct mqtt_packet *disconnect)
{
	must(disconnect->type == MQTT_DISCONNECT);
	world_ended(userdata);
}

static void on_error(void *userdata, uint8_t reason, const char *text)
{
	must(reason >= 0x80 && text && *text);
	world_ended(userdata);
}

static const struct mqtt_session_ops world_ops = {
	.on_connack = on_connack,
	.on_puback = on_puback,
	.on_publish = on_publish,
	.on_suback = on_suback,
	.on_auth = on_auth,
	.on_disconnect = on_disconnect,
	.on_error = on_error,
};

/* --- what comes out --------------------------------------------------------------------------- */

static void check_packet(const struct world *w, struct bytes raw)
{
	struct mqtt_packet p;

	must(mqtt_decode(&p, raw, MQTT_LEVEL_5, MQTT_FROM_CLIENT) == 0);
	switch (p.type) {
	case MQTT_PUBLISH:
	case MQTT_PUBACK:
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
	case MQTT_AUTH:
		must(w->online && raw.len <= mqtt_session_limits(w->s)->packet_bytes_max);
		break;
	default:
		must(p.type == MQTT_CONNECT || p.type == MQTT_PINGREQ || p.type == MQTT_DISCONNECT);
		break;
	}
}

/* The connection takes up to @n bytes. */
static void world_drain(struct world *w, size_t n)
{
	struct bytes out = mqtt_session_output(w->s), raw;
	int r;

	if (out.len > n)
		out.len = n;
	if (!out.len)
		return;
	mqtt_stream_push(&w->hub, out);
	while ((r = mqtt_stream_next(&w->hub, &raw)) == 1)
		check_packet(w, raw);
	must(r == 0);
	mqtt_session_sent(w->s, out.len, w->now_ns);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void world_input(struct world *w, const uint8_t *data, size_t len, size_t cut)
{
	/* A copy that is gone afterwards, of exactly this size: nothing may be borrowed, or read beyond it. */
	uint8_t *copy = malloc(len ? len : 1);

	must(copy);
	if (len)
		memcpy(copy, data, len);
	cut = cut < len ? cut : len;
	mqtt_session_input(w->s, BYTES(copy, cut), w->now_ns);
	mqtt_session_input(w->s, BYTES(copy + cut, len - cut), w->now_ns);
	free(copy);
}

/* One of the packets, with up to three of its bytes changed, or cut off, in one piece or two. */
static void step_packet(struct world *w)
{
	const struct bytes *packet = &packets[take(w) % ARRAY_SIZE(packets)];
	uint8_t copy[64], how = take(w);
	size_t len = packet->len;

	must(len <= sizeof(copy));
	memcpy(copy, packet->data, len);
	for (unsigned int i = 0; i < (how & 3u); ++i) {
		size_t at = take(w) % len;

		copy[at] = take(w);
	}
	if (how & 0x10)
		len = take(w) % (len + 1);
	world_input(w, copy, len, how & 0x20 ? take(w) : len);
}

static void step_noise(struct world *w)
{
	size_t len = take(w), cut = take(w);

	if (len > w->steps.len)
		len = w->steps.len;
	world_input(w, w->steps.data, len, cut);
	w->steps = len ? BYTES(w->steps.data + len, w->steps.len - len) : w->steps;
}

/* The response to the last request, if it still waits. */
static void step_response(struct world *w)
{
	uint8_t packet[] = {0x30, 15, 0, 1, 'r', 11, 9, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0};

	memcpy(packet + sizeof(packet) - sizeof(w->correlation), w->correlation, sizeof(w->correlation));
	world_input(w, packet, sizeof(packet), sizeof(packet));
}

static void world_tick(struct world *w)
{
	enum mqtt_session_state before = mqtt_session_state(w->s);

	mqtt_session_tick(w->s, w->now_ns);
	must(before == MQTT_SESSION_CONNECTING || before == MQTT_SESSION_ONLINE || !w->let_go || !w->ended ||
	     mqtt_session_state(w->s) == before);
	while (mqtt_requests_take_expired(&w->requests, w->now_ns))
		--w->n_waiting;
	must(mqtt_requests_deadline_ns(&w->requests) > w->now_ns);
}

static void step_deadline(struct world *w)
{
	uint64_t at_ns = mqtt_session_deadline_ns(w->s);

	if (at_ns == TIME_NEVER)
		return;
	if (at_ns > w->now_ns)
		w->now_ns = at_ns;
	world_tick(w);
	must(mqtt_session_deadline_ns(w->s) > w->now_ns);
}

static void step_connect(struct world *w)
{
	const struct mqtt_packet connect = {
		.type = MQTT_CONNECT,
		.connect = {.level = MQTT_LEVEL_5, .keep_alive = take(w), .client_id = BYTES_LIT("d")},
	};

	if (mqtt_session_state(w->s) != MQTT_SESSION_OFFLINE)
		world_lost(w);
	mqtt_stream_reset(&w->hub);
	w->ended = false;
	w->let_go = connect.connect.keep_alive & 1;
	w->answer = connect.connect.keep_alive & 2;
	must(mqtt_session_start(w->s, &connect, w->now_ns) == 0);
}

static unsigned int n_in_air(const struct world *w)
{
	unsigned int n = 0;

	for (size_t i = 0; i < N_MESSAGES; ++i)
		n += w->messages[i].state == MESSAGE_IN_AIR;
	return n;
}

static void step_publish(struct world *w)
{
	static const char *const topics[] = {"t", "u", "telemetry", "v"};
	static const uint8_t payload[256] = {0};
	uint8_t which = take(w);
	struct message *message = &w->messages[which % N_MESSAGES];
	uint16_t id = message->id;
	int r;

	if (message->state == MESSAGE_IN_AIR)
		return;
	r = mqtt_session_publish(w->s, bytes_from_str(topics[which / N_MESSAGES % ARRAY_SIZE(topics)]),
				 BYTES(NULL, 0), BYTES(payload, which), (uint64_t)(message - w->messages),
				 &id);
	if (r) {
		must(r == -ENOTCONN || r == -EAGAIN || r == -EMSGSIZE || r == -EOPNOTSUPP);
		must(id == message->id);
		if (message->state == MESSAGE_AWAY && r == -EMSGSIZE) {
			mqtt_session_drop(w->s, id);
			*message = (struct message){0};
		}
		return;
	}
	must(id && (message->state == MESSAGE_FREE || id == message->id));
	for (size_t i = 0; i < N_MESSAGES; ++i)
		must(&w->messages[i] == message || w->messages[i].state == MESSAGE_FREE ||
		     w->messages[i].id != id);
	*message = (struct message){.state = MESSAGE_IN_AIR, .id = id};
	must(n_in_air(w) <= mqtt_session_limits(w->s)->receive_maximum && n_in_air(w) <= WINDOW);
}

static void step_subscribe(struct world *w, enum mqtt_type type)
{
	bool subscribing = type == MQTT_SUBSCRIBE;
	unsigned int n = 1u + (take(w) & 1), *waiting = subscribing ? &w->n_subscribing : &w->n_unsubscribing;
	uint8_t filters[32];
	struct writer writer = writer_init(filters, sizeof(filters));
	int r;

	for (unsigned int i = 0; i < n; ++i)
		mqtt_filter_put(&writer, type, i ? BYTES_LIT("b/+") : BYTES_LIT("a"), subscribing);
	r = subscribing ? mqtt_session_subscribe(w->s, writer_bytes(&writer), (uint16_t)n)
			: mqtt_session_unsubscribe(w->s, writer_bytes(&writer), (uint16_t)n);
	must(r == 0 || r == -EBUSY || r == -ENOTCONN || r == -EMSGSIZE || r == -ENOBUFS);
	must(r != 0 || !*waiting);
	must(r != -EBUSY || *waiting);
	if (r == 0)
		*waiting = n;
}

static void step_authenticate(struct world *w)
{
	struct mqtt_properties p = {
		.authentication_method = BYTES_LIT("SAS"),
		.authentication_data = BYTES_LIT("0123456789abcdef"),
	};
	uint64_t patience_ns = (1u + take(w)) * NSEC_PER_SEC / 8;
	int r;

	mqtt_set(&p, MQTT_PROP_AUTHENTICATION_METHOD);
	mqtt_set(&p, MQTT_PROP_AUTHENTICATION_DATA);
	r = mqtt_session_authenticate(w->s, &p, w->now_ns + patience_ns);
	must(r == 0 || r == -EBUSY || r == -ENOTCONN || r == -EMSGSIZE || r == -ENOBUFS);
	must(r != -EBUSY || w->authenticating || !w->online);
	if (r == 0)
		w->authenticating = true;
}

static void step_request(struct world *w)
{
	uint8_t properties[3 + MQTT_REQUESTS_CORRELATION_BYTES] = {9, 0, MQTT_REQUESTS_CORRELATION_BYTES};
	uint8_t correlation[MQTT_REQUESTS_CORRELATION_BYTES];
	uint64_t timeout_ns = (1u + take(w)) * NSEC_PER_SEC / 8;
	int r, cookie;

	r = mqtt_requests_add(&w->requests, &cookie, w->now_ns + timeout_ns, correlation);
	must(r == 0 ? w->n_waiting < MQTT_REQUESTS_MAX : r == -ENOBUFS && w->n_waiting == MQTT_REQUESTS_MAX);
	if (r)
		return;
	memcpy(properties + 3, correlation, sizeof(correlation));
	r = mqtt_session_send(w->s, BYTES_LIT("get"), BYTES(properties, sizeof(properties)), BYTES(NULL, 0));
	must(r == 0 || r == -ENOTCONN || r == -EAGAIN || r == -EMSGSIZE);
	if (r) {
		must(mqtt_requests_take(&w->requests, BYTES(correlation, sizeof(correlation))) == &cookie);
		return;
	}
	++w->n_waiting;
	memcpy(w->correlation, correlation, sizeof(correlation));
}

static void step(struct world *w)
{
	uint8_t op = take(w);

	switch (op & 0x0f) {
	case 0:
		step_noise(w);
		break;
	case 1:
	case 2:
	case 3:
		step_packet(w);
		break;
	case 4:
		w->now_ns += (op >> 4) * NSEC_PER_SEC;
		world_tick(w);
		break;
	case 5:
		step_deadline(w);
		break;
	case 6:
		world_lost(w);
		break;
	case 7:
		step_connect(w);
		break;
	case 8:
	case 9:
		step_publish(w);
		break;
	case 10:
		step_subscribe(w, op & 0x10 ? MQTT_SUBSCRIBE : MQTT_UNSUBSCRIBE);
		break;
	case 11:
		step_authenticate(w);
		break;
	case 12:
		world_answer(w, (op >> 4) & 3, op >> 6);
		break;
	case 13:
		step_request(w);
		break;
	case 14:
		step_response(w);
		break;
	default:
		if (op >> 4 == 0x0f)
			mqtt_session_end(w->s, 0);
		else
			world_drain(w, op >> 4 ? (size_t)(op >> 4) * 4 : SIZE_MAX);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.steps = BYTES(data, size), .now_ns = NSEC_PER_SEC};
	const struct mqtt_session_options options = {
		.ops = &world_ops,
		.userdata = &w,
		.window_max = WINDOW,
		.receive_maximum = RECEIVE_MAX,
		.topic_alias_maximum = ALIAS_MAX,
		.packet_bytes_max = PACKET_MAX,
	};

	must(mqtt_session_new(&w.s, &options) == 0);
	mqtt_stream_init(&w.hub, MQTT_VARINT_MAX);
	mqtt_requests_init(&w.requests, size ? data[0] : 0);
	for (unsigned int i = 0; w.steps.len && i < N_STEPS_MAX; ++i)
		step(&w);
	world_drain(&w, SIZE_MAX);
	mqtt_stream_deinit(&w.hub);
	mqtt_session_free(w.s);
	return 0;
}
