/* SPDX-License-Identifier: MIT */
/*
 * A hub in memory with two devices, a module and the service side, and an input that is a program: connect,
 * send one of many good packets, as it is or with bytes changed, send raw bytes, answer what came, let time
 * pass, read a part of the output, go away. What must hold:
 *
 *   what the hub sends can be decoded, fits the client's Maximum Packet Size and its Receive Maximum;
 *   nothing is sent after the end of a connection but its last packets;
 *   queues, subscriptions, calls and twins stay within their bounds and count what they hold.
 */

#include <stdio.h>
#include <stdlib.h>

#include "mqtt/packet.h"
#include "tests/support/hub_connect.h"
#include "tools/emulator/client.h"
#include "tools/emulator/deliver.h"
#include "tools/emulator/hub.h"
#include "tools/emulator/method.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define START_MS        UINT64_C(1700000000000)
#define N_PEERS         4
#define N_VARIANTS      5
#define N_TEMPLATES_MAX 96
#define TEMPLATE_MAX    512
#define N_STEPS_MAX     64
#define PACKET_MAX      8192

struct template
{
	uint16_t len;
	uint8_t bytes[TEMPLATE_MAX];
};

/* Made once: packets and who is registered. */
struct stock {
	struct emu_registry *registry;
	struct template connects[N_PEERS][N_VARIANTS];
	struct template templates[N_TEMPLATES_MAX];
	size_t n_templates;
};

struct peer {
	struct emu_client *client;
	struct mqtt_stream stream;
	uint16_t packet_id; /* of the last command */
	uint8_t correlation[16];
	size_t correlation_len;
};

struct world {
	struct stock *stock;
	struct emu_hub hub;
	struct peer peers[N_PEERS];
	struct bytes program;
};

static const char *const ids[N_PEERS] = {"dev1", "dev2", "dev1/mod", "service/s"};

/* The line tells the rule that was broken. */
static void must_at(bool ok, int line)
{
	if (ok)
		return;
	fprintf(stderr, "%s:%d: this does not hold\n", __FILE__, line);
	abort();
}

#define must(ok) must_at(ok, __LINE__)

/* --- the stock -------------------------------------------------------------------------------- */

static void template_add(struct stock *s, const struct mqtt_packet *packet)
{
	struct template *t = &s->templates[s->n_templates++];
	struct writer w = writer_init(t->bytes, sizeof(t->bytes));

	must(s->n_templates <= N_TEMPLATES_MAX && mqtt_encode(&w, packet, MQTT_LEVEL_5) == 0);
	t->len = (uint16_t)writer_len(&w);
}

static void publish_add(struct stock *s, const char *topic, uint8_t qos, const char *properties,
			const char *payload, const char *correlation)
{
	uint8_t scratch[1024];
	struct mqtt_packet packet = hub_publish_make(topic, qos, qos ? 9 : 0, payload, properties, scratch);

	if (correlation) {
		packet.properties.correlation_data = bytes_from_str(correlation);
		mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	}
	template_add(s, &packet);
}

static void filters_add(struct stock *s, enum mqtt_type type, const char *filters)
{
	uint8_t scratch[4096];
	struct mqtt_packet packet = hub_subscribe_make(type, filters, scratch);

	template_add(s, &packet);
}

static void alias_add(struct stock *s, const char *topic, uint16_t alias)
{
	struct mqtt_packet packet = {
		.type = MQTT_PUBLISH,
		.properties = {.topic_alias = alias},
		.publish = {.topic = bytes_from_str(topic), .payload = BYTES_LIT("x")},
	};

	mqtt_set(&packet.properties, MQTT_PROP_TOPIC_ALIAS);
	template_add(s, &packet);
}

static void device_templates(struct stock *s)
{
	static const uint8_t reasons[] = {0, 131, 0x97};
	struct mqtt_packet packet = {.type = MQTT_PINGREQ};

	template_add(s, &packet);
	packet = (struct mqtt_packet){.type = MQTT_DISCONNECT};
	template_add(s, &packet);
	packet.properties.session_expiry_interval = 5;
	mqtt_set(&packet.properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	template_add(s, &packet);
	packet = (struct mqtt_packet){.type = MQTT_AUTH, .disconnect = {.reason = 0x19}};
	packet.properties.authentication_method = BYTES_LIT("SAS");
	mqtt_set(&packet.properties, MQTT_PROP_AUTHENTICATION_METHOD);
	template_add(s, &packet);
	for (size_t i = 0; i < sizeof(reasons); i++) {
		packet = (struct mqtt_packet){.type = MQTT_PUBACK,
					      .ack = {.packet_id = 1, .reason = reasons[i]}};
		template_add(s, &packet);
	}
	publish_add(s, "$iothub/telemetry", 1, "message-id=1,@a=b,creation-time=2021-04-21T11:30:16Z", "x",
		    NULL);
	publish_add(s, "$iothub/telemetry", 0, NULL, "x", NULL);
	publish_add(s, "$iothub/telemetry", 1, "colour=red", "x", NULL);
	alias_add(s, "$iothub/telemetry", 1);
	alias_add(s, "", 1);
	alias_add(s, "$iothub/twin/get", 10);
	publish_add(s, "$iothub/twin/get", 0, NULL, "", "g");
	publish_add(s, "$iothub/twin/patch/reported", 0, "if-version=1", "{\"a\":{\"b\":[1,null,2.5]}}", "p");
	publish_add(s, "$iothub/twin/patch/reported", 0, NULL, "{\"a\":null,\"c\":true,\"d\":\"e\"}", "p");
	publish_add(s, "$iothub/twin/patch/reported", 1, NULL, "{}", "p");
	publish_add(s, "$iothub/responses", 0, "response-code=200", "ok", "\001\001\001\001\001\001\001\001");
	publish_add(s, "$iothub/other", 0, NULL, "", "p");
	filters_add(s, MQTT_SUBSCRIBE, "$iothub/commands@1,$iothub/twin/patch/desired,$iothub/methods/+");
	filters_add(s, MQTT_SUBSCRIBE, "$iothub/commands@0");
	filters_add(s, MQTT_SUBSCRIBE, "methods/a,$iothub/methods/b,#,$iothub/responses");
	filters_add(s, MQTT_UNSUBSCRIBE, "$iothub/commands,$iothub/methods/+");
}

static void service_templates(struct stock *s)
{
	static const char *const faults[] = {
		"{\"fault\":\"status\",\"status\":\"0501\",\"count\":1}",
		"{\"fault\":\"throttle\",\"rate\":1}",
		"{\"fault\":\"delay\",\"ms\":50}",
		"{\"fault\":\"lose-puback\",\"fraction\":0.5}",
		"{\"fault\":\"cut\",\"when\":\"after\",\"every\":3}",
		"{\"fault\":\"cut\",\"when\":\"before\",\"operation\":\"subscribe\"}",
		"{\"fault\":\"slow\",\"bytes\":3}",
		"{\"fault\":\"suback\"}",
		"{\"fault\":\"limits\",\"receive-maximum\":1,\"session-expiry\":2,\"topic-alias-maximum\":1}",
		"{\"fault\":\"refuse\",\"reason\":\"0x97\",\"count\":1}",
		"{\"fault\":\"expire\"}",
		"{\"fault\":\"take-over\"}",
		"{\"fault\":\"forget-session\"}",
		"{\"fault\":\"disconnect\",\"reason\":\"0x9d\",\"server-reference\":\"b\"}",
	};

	filters_add(s, MQTT_SUBSCRIBE,
		    "$service/telemetry,$service/twin/changes/dev1,$service/commands/outcomes");
	publish_add(s, "$service/devices/add", 0, "device=new", "", "s");
	publish_add(s, "$service/devices/add", 0, "device=dev1", "{\"authentication\":\"x509\",\"ca\":true}",
		    "s");
	publish_add(s, "$service/devices/list", 0, "after=dev1", "", "s");
	publish_add(s, "$service/devices/show", 0, "device=dev1", "", "s");
	publish_add(s, "$service/devices/remove", 0, "device=dev1", "", "s");
	publish_add(s, "$service/devices/remove", 0, "device=dev2", "", "s");
	publish_add(s, "$service/devices/keys", 0, "device=dev2,regenerate=primary", "", "s");
	publish_add(s, "$service/twin/show", 0, "device=dev1", "", "s");
	publish_add(s, "$service/twin/patch", 0, "device=dev1", "{\"x\":{\"y\":1}}", "s");
	publish_add(s, "$service/twin/patch", 0, "device=dev2,if-version=1", "{\"x\":null}", "s");
	publish_add(s, "$service/commands/send", 0, "device=dev1,@a=b,message-id=m", "command", "s");
	publish_add(s, "$service/commands/send", 0, "device=dev1,ttl=1", "short", "s");
	publish_add(s, "$service/commands/send", 0, "device=dev2", "other", "s");
	publish_add(s, "$service/commands/list", 0, "device=dev1,after=1", "", "s");
	publish_add(s, "$service/commands/purge", 0, "device=dev1", "", "s");
	publish_add(s, "$service/commands/purge", 0, "device=dev1,state=queued", "", "s");
	publish_add(s, "$service/methods/call", 0, "device=dev1,method=a,connect-timeout=5", "in", "m");
	publish_add(s, "$service/methods/call", 0, "device=dev2,method=b,response-timeout=1", "in", "m");
	publish_add(s, "$service/faults/list", 0, NULL, "", "s");
	publish_add(s, "$service/faults/clear", 0, NULL, "", "s");
	publish_add(s, "$service/other", 0, NULL, "", "s");
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		publish_add(s, "$service/faults/set", 0, NULL, faults[i], "f");
}

static struct emu_key key_make(uint8_t fill)
{
	struct emu_key key = {.len = KEY_LEN};

	memset(key.data, fill, KEY_LEN);
	return key;
}

static void variant_make(struct mqtt_packet *packet, size_t variant)
{
	struct mqtt_properties *p = &packet->properties;

	switch (variant) {
	case 1:
		packet->connect.clean_start = true;
		p->receive_maximum = 1;
		mqtt_set(p, MQTT_PROP_RECEIVE_MAXIMUM);
		break;
	case 2:
		p->receive_maximum = 2;
		mqtt_set(p, MQTT_PROP_RECEIVE_MAXIMUM);
		p->session_expiry_interval = 0;
		packet->connect.keep_alive = 1;
		break;
	case 3:
		p->maximum_packet_size = 90;
		mqtt_set(p, MQTT_PROP_MAXIMUM_PACKET_SIZE);
		mqtt_set(p, MQTT_PROP_REQUEST_PROBLEM_INFORMATION);
		break;
	case 4:
		p->maximum_packet_size = 160;
		mqtt_set(p, MQTT_PROP_MAXIMUM_PACKET_SIZE);
		p->session_expiry_interval = UINT32_MAX;
		break;
	}
}

static void connect_add(struct stock *s, size_t i, size_t variant)
{
	bool is_service = i == N_PEERS - 1;
	struct emu_key own = key_make((uint8_t)i);
	const struct emu_policy *policy = emu_registry_policy(s->registry, BYTES_LIT("service"));
	struct hub_connect c = hub_connect_make(ids[i], emu_key_bytes(is_service ? &policy->key : &own));
	struct template *t = &s->connects[i][variant];
	uint8_t bytes[HUB_CONNECT_MAX];
	struct bytes encoded;

	c.policy = is_service ? "service" : NULL;
	variant_make(&c.packet, variant);
	encoded = hub_connect_encode(&c, bytes);
	must(encoded.len > 0 && encoded.len <= TEMPLATE_MAX);
	memcpy(t->bytes, encoded.data, encoded.len);
	t->len = (uint16_t)encoded.len;
}

static struct stock *stock_new(void)
{
	struct stock *s = calloc(1, sizeof(*s));

	must(s && emu_registry_load(&s->registry, NULL, NULL) == 0);
	for (size_t i = 0; i < N_PEERS; i++) {
		for (size_t variant = 0; variant < N_VARIANTS; variant++)
			connect_add(s, i, variant);
	}
	device_templates(s);
	service_templates(s);
	return s;
}

/* --- the world -------------------------------------------------------------------------------- */

static void on_wake(void *userdata)
{
	(void)userdata;
}

static const struct emu_client_ops client_ops = {.on_wake = on_wake};

static void world_init(struct world *w)
{
	struct emu_hub_options options = EMU_HUB_OPTIONS_DEFAULT;

	options.host = "localhost";
	options.maximum_packet_size = PACKET_MAX;
	for (uint8_t i = 0; i < N_PEERS - 1; i++) {
		struct emu_credentials credentials = {.keys = {key_make(i), key_make((uint8_t)(i + 100))}};
		struct emu_identity *identity;

		must(emu_registry_add_with(w->stock->registry, ids[i], &credentials, &identity) == 0);
	}
	must(emu_hub_init(&w->hub, &options, w->stock->registry, NULL, START_MS) == 0);
	emu_hub_set_time(&w->hub, NSEC_PER_SEC, START_MS);
}

static void peer_close(struct peer *p)
{
	if (!p->client)
		return;
	emu_client_free(p->client);
	mqtt_stream_deinit(&p->stream);
	*p = (struct peer){.client = NULL};
}

/* All that a run has allocated is freed with it, or the fuzzer would run it again to look for a leak. */
static void world_deinit(struct world *w)
{
	for (size_t i = 0; i < N_PEERS; i++)
		peer_close(&w->peers[i]);
	emu_hub_deinit(&w->hub);
	while (emu_registry_n_identities(w->stock->registry) > 0)
		emu_registry_remove(w->stock->registry, emu_registry_identity(w->stock->registry, 0));
}

static uint8_t take(struct world *w)
{
	uint8_t byte;

	if (w->program.len == 0)
		return 0;
	byte = w->program.data[0];
	w->program = BYTES(w->program.data + 1, w->program.len - 1);
	return byte;
}

/* --- what the hub says ------------------------------------------------------------------------ */

static void peer_hear(struct peer *p, const struct mqtt_packet *packet)
{
	if (packet->type != MQTT_PUBLISH)
		return;
	if (packet->publish.qos == 1) {
		p->packet_id = packet->publish.packet_id;
		must(p->packet_id != 0 && p->client->n_commands <= p->client->receive_maximum);
	}
	p->correlation_len = packet->properties.correlation_data.len;
	must(p->correlation_len <= sizeof(p->correlation));
	if (p->correlation_len > 0)
		memcpy(p->correlation, packet->properties.correlation_data.data, p->correlation_len);
}

/* Takes up to @max bytes of the output. */
static void peer_read(struct peer *p, size_t max)
{
	struct bytes out = emu_client_output(p->client), bytes;
	struct mqtt_packet packet;
	int r;

	if (out.len > max)
		out.len = max;
	if (out.len == 0 || emu_client_closing(p->client) == EMU_CUT)
		return;
	mqtt_stream_push(&p->stream, out);
	while ((r = mqtt_stream_next(&p->stream, &bytes)) > 0) {
		must(bytes.len <= p->client->maximum_packet_size);
		must(mqtt_decode(&packet, bytes, MQTT_LEVEL_5, MQTT_FROM_SERVER) == 0 ||
		     (bytes.len == 4 && bytes.data[0] == 0x20));
		peer_hear(p, &packet);
	}
	must(r == 0);
	emu_client_sent(p->client, out.len);
}

/* --- what the peers do ------------------------------------------------------------------------ */

static void peer_open(struct world *w, size_t i)
{
	struct peer *p = &w->peers[i];

	peer_close(p);
	must(emu_client_new(&p->client, &w->hub, "localhost", "192.0.2.1:1", &client_ops, p) == 0);
	mqtt_stream_init(&p->stream, MQTT_VARINT_MAX);
}

/* Sends @t with as many bytes changed as the program says. */
static void peer_send(struct world *w, struct peer *p, const struct template *t, uint8_t n_changes)
{
	uint8_t *copy = calloc(1, t->len);

	must(copy);
	memcpy(copy, t->bytes, t->len);
	for (uint8_t i = 0; i < n_changes; i++) {
		size_t at = (size_t)(take(w) | take(w) << 8) % t->len;

		copy[at] ^= take(w);
	}
	emu_client_input(p->client, BYTES(copy, t->len));
	free(copy);
}

static void peer_acknowledge(struct world *w, struct peer *p)
{
	static const uint8_t reasons[] = {0, 131, 0x97, 0x87};
	struct mqtt_packet packet = {.type = MQTT_PUBACK,
				     .ack = {.packet_id = p->packet_id, .reason = reasons[take(w) % 4]}};
	uint8_t bytes[16];
	struct writer out = writer_init(bytes, sizeof(bytes));

	if (p->packet_id == 0)
		return;
	p->packet_id = 0;
	must(mqtt_encode(&out, &packet, MQTT_LEVEL_5) == 0);
	emu_client_input(p->client, writer_bytes(&out));
}

static void peer_respond(struct world *w, struct peer *p)
{
	static const char *const properties[] = {"response-code=200", "status=06A0", "response-code=x",
						 "colour=1"};
	uint8_t scratch[1024], bytes[256];
	struct writer out = writer_init(bytes, sizeof(bytes));
	struct mqtt_packet packet =
		hub_publish_make("$iothub/responses", 0, 0, "ok", properties[take(w) % 4], scratch);

	if (p->correlation_len == 0)
		return;
	packet.properties.correlation_data = BYTES(p->correlation, p->correlation_len);
	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	must(mqtt_encode(&out, &packet, MQTT_LEVEL_5) == 0);
	emu_client_input(p->client, writer_bytes(&out));
}

static void peer_send_raw(struct world *w, struct peer *p)
{
	size_t n = take(w);
	uint8_t *copy;

	if (n > w->program.len)
		n = w->program.len;
	copy = calloc(1, n + 1);
	must(copy);
	if (n > 0)
		memcpy(copy, w->program.data, n);
	w->program = BYTES(w->program.data + n, w->program.len - n);
	emu_client_input(p->client, BYTES(copy, n));
	free(copy);
}

static void time_pass(struct world *w)
{
	uint64_t ms = UINT64_C(1) << take(w) % 24;

	emu_hub_set_time(&w->hub, w->hub.now_ns + ms * NSEC_PER_MSEC, w->hub.wall_ms + ms);
	list_for_each (link, &w->hub.clients) {
		struct emu_client *c = container_of(link, struct emu_client, link);

		if (emu_client_deadline_ns(c) <= w->hub.now_ns)
			emu_client_tick(c);
	}
	emu_commands_tick(&w->hub);
}

static void step(struct world *w)
{
	uint8_t op = take(w);
	size_t i = op % N_PEERS;
	struct peer *p = &w->peers[i];
	const struct stock *s = w->stock;

	op /= N_PEERS;
	if (!p->client || op % 16 == 0)
		peer_open(w, i);
	switch (op % 16) {
	case 0:
		peer_send(w, p, &s->connects[i][take(w) % N_VARIANTS], 0);
		break;
	case 1:
		peer_send(w, p, &s->connects[i][take(w) % N_VARIANTS], take(w) % 4);
		break;
	case 2:
		peer_send_raw(w, p);
		break;
	case 3:
		time_pass(w);
		break;
	case 4:
		peer_read(p, take(w));
		break;
	case 5:
		peer_acknowledge(w, p);
		break;
	case 6:
		peer_respond(w, p);
		break;
	case 7:
		peer_close(p);
		break;
	case 10:
		peer_send(w, p, &s->templates[take(w) % s->n_templates], take(w) % 4);
		break;
	default:
		peer_send(w, p, &s->templates[take(w) % s->n_templates], 0);
		break;
	}
}

/* --- what holds ------------------------------------------------------------------------------- */

static size_t list_len(const struct list *head)
{
	size_t n = 0;

	list_for_each (link, (struct list *)(uintptr_t)head)
		n++;
	return n;
}

static void identity_check(const struct emu_identity *identity)
{
	const struct emu_commands *cs = &identity->commands;
	const struct emu_client *c = identity->session.client;
	size_t n_sent = 0;

	must(list_len(&cs->queue) == cs->n_queue && list_len(&cs->dead) == cs->n_dead &&
	     list_len(&cs->completed) == cs->n_completed);
	must(cs->n_queue <= COMMANDS_QUEUED_MAX + COMMANDS_DEAD_MAX && cs->n_dead <= COMMANDS_DEAD_MAX &&
	     cs->n_completed <= COMMANDS_COMPLETED_MAX);
	list_for_each (link, (struct list *)(uintptr_t)&cs->queue) {
		const struct emu_command *command = container_of(link, struct emu_command, link);

		must(command->delivery_count <= COMMAND_DELIVERIES_MAX);
		must(!command->sent || (c && command->packet_id));
		n_sent += command->sent;
	}
	must(identity->session.n_subscriptions <= CONTRACT_SUBSCRIPTIONS_MAX);
	must(!c || (c->identity == identity && c->session == &identity->session && !c->closing &&
		    n_sent == c->n_commands));
	for (size_t i = 0; i < TWIN_N_PARTS; i++)
		must(identity->twin.parts[i].version >= 1);
}

static void world_check(const struct world *w)
{
	must(list_len(&w->hub.calls) == w->hub.n_calls && w->hub.n_calls <= METHOD_CALLS_MAX);
	must(list_len(&w->hub.clients) <= N_PEERS);
	for (size_t i = 0; i < emu_registry_n_identities(w->hub.registry); i++)
		identity_check(emu_registry_identity(w->hub.registry, i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stock *stock;
	static struct world world;

	if (!stock)
		stock = stock_new();
	world = (struct world){.stock = stock, .program = BYTES(data, size)};
	world_init(&world);
	for (int i = 0; i < N_STEPS_MAX && world.program.len > 0; i++)
		step(&world);
	world_check(&world);
	for (size_t i = 0; i < N_PEERS; i++) {
		if (world.peers[i].client)
			peer_read(&world.peers[i], SIZE_MAX);
	}
	world_deinit(&world);
	return 0;
}
