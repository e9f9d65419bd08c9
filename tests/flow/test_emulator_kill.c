/* SPDX-License-Identifier: MIT */
/*
 * The emulator is killed while twins and commands change, again and again: nothing that was acknowledged is
 * lost, and nothing comes back that was never asked for.
 */

#include <signal.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "tests/harness.h"
#include "tests/support/emu_process.h"
#include "tests/support/hub_connect.h"
#include "tests/support/wire_client.h"

#define N_ROUNDS   8
#define BATCH      30
#define TWIN_PATCH "$iothub/twin/patch/reported"

/* What is known of a counter that is set to 1, 2, 3 …: the last value acknowledged, and the last one asked for. */
struct counter {
	uint64_t acked, asked;
};

FIXTURE(kill)
{
	struct emu_process e;
	struct wire *wire;
	struct wire_client *device, *service;
	struct mqtt_packet got;
	struct counter reported, desired, commands;
	uint8_t key[64], scratch[1024];
};

FIXTURE_SETUP(kill)
{
	ASSERT_EQ(emu_process_init(&self->e), 0);
}

FIXTURE_TEARDOWN(kill)
{
	if (!test_is_orphan()) {
		wire_close(self->device);
		wire_close(self->service);
		wire_free(self->wire);
	}
	emu_process_deinit(&self->e);
}

static struct wire_client *connect_as(struct fixture_kill *self, const char *id, const char *file,
				      const char *policy)
{
	ssize_t n = emu_process_key(&self->e, file, self->key, sizeof(self->key));
	struct hub_connect connect = hub_connect_make(id, BYTES(self->key, n > 0 ? (size_t)n : 0));
	struct wire_client *c = wire_open(self->wire, "localhost", self->e.port);
	uint8_t bytes[HUB_CONNECT_MAX];

	connect.policy = policy;
	if (!c || !wire_wait_open(c) || !wire_send_bytes(c, hub_connect_encode(&connect, bytes)) ||
	    !wire_next(c, &self->got) || self->got.connack.reason != 0) {
		wire_close(c);
		return NULL;
	}
	return c;
}

static void start(struct fixture_kill *self)
{
	static const char *const options[] = {"--device=dev1", "--device=dev2", "--quiet", NULL};

	ASSERT_EQ(emu_process_start(&self->e, options), 0);
	if (!self->wire)
		self->wire = wire_new(self->e.ca_file);
	self->device = connect_as(self, "dev1", "dev1", NULL);
	self->service = connect_as(self, "service/k", "service", "service");
	ASSERT_TRUE(self->device && self->service);
}

static void request(struct fixture_kill *self, struct wire_client *c, const char *topic,
		    const char *properties, const char *payload, const char *correlation)
{
	struct mqtt_packet packet = hub_publish_make(topic, 0, 0, payload, properties, self->scratch);

	packet.properties.correlation_data = bytes_from_str(correlation);
	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	wire_send(c, &packet);
}

/* One step of each counter; what kind it is stands in the Correlation Data. */
static void ask_for_more(struct fixture_kill *self)
{
	char payload[64];

	snprintf(payload, sizeof(payload), "{\"n\":%llu}", (unsigned long long)++self->reported.asked);
	request(self, self->device, TWIN_PATCH, NULL, payload, "r");
	snprintf(payload, sizeof(payload), "{\"n\":%llu}", (unsigned long long)++self->desired.asked);
	request(self, self->service, "$service/twin/patch", "device=dev1", payload, "d");
	snprintf(payload, sizeof(payload), "%llu", (unsigned long long)++self->commands.asked);
	request(self, self->service, "$service/commands/send", "device=dev2", payload, "c");
}

/* Takes one answer. False: the connection is gone. */
static bool take_answer(struct fixture_kill *self, struct wire_client *c)
{
	char text[16];

	if (!wire_next(c, &self->got))
		return false;
	ASSERT_EQ(self->got.type, MQTT_PUBLISH + 0u);
	EXPECT_STREQ(hub_property(&self->got, "status", text, sizeof(text)), "");
	switch (self->got.properties.correlation_data.data[0]) {
	case 'r':
		self->reported.acked++;
		break;
	case 'd':
		self->desired.acked++;
		break;
	case 'c':
		self->commands.acked++;
		break;
	}
	return true;
}

static void kill_in_the_middle(struct fixture_kill *self)
{
	int n = (int)(test_random() % (2 * BATCH));

	for (int i = 0; i < BATCH; i++)
		ask_for_more(self);
	while (n-- > 0 && take_answer(self, self->service))
		;
	emu_process_stop(&self->e, SIGKILL);
	/* What is on its way was acknowledged, too. */
	while (take_answer(self, self->device))
		;
	while (take_answer(self, self->service))
		;
	wire_close(self->device);
	wire_close(self->service);
	self->device = NULL;
	self->service = NULL;
}

static json_object *answer_of(struct fixture_kill *self, const char *topic, const char *properties)
{
	char *text;
	json_object *object;

	request(self, self->service, topic, properties, "", "q");
	if (!wire_next(self->service, &self->got))
		return NULL;
	text = strndup((const char *)self->got.publish.payload.data, self->got.publish.payload.len);
	object = json_tokener_parse(text);
	free(text);
	return object;
}

static uint64_t twin_number(json_object *twin, const char *part, const char *name)
{
	json_object *object, *number;

	if (!json_object_object_get_ex(twin, part, &object) ||
	    !json_object_object_get_ex(object, name, &number))
		return 0;
	return json_object_get_uint64(number);
}

/* The value is the last one acknowledged, or one asked for after it; what was not done is forgotten. */
static void expect_counter(struct counter *c, uint64_t value)
{
	EXPECT_GE(value, c->acked);
	EXPECT_LE(value, c->asked);
	c->acked = value;
	c->asked = value;
}

static void check_twin(struct fixture_kill *self)
{
	json_object *twin = answer_of(self, "$service/twin/show", "device=dev1");

	EXPECT_EQ(twin_number(twin, "reported", "$version"), twin_number(twin, "reported", "n") + 1);
	EXPECT_EQ(twin_number(twin, "desired", "$version"), twin_number(twin, "desired", "n") + 1);
	expect_counter(&self->reported, twin_number(twin, "reported", "n"));
	expect_counter(&self->desired, twin_number(twin, "desired", "n"));
	json_object_put(twin);
}

/* They are there without a gap. */
static void check_commands(struct fixture_kill *self)
{
	uint64_t n = 0, last = 0;

	for (;;) {
		char properties[64];
		json_object *list;
		size_t len;

		snprintf(properties, sizeof(properties), "device=dev2,after=%llu", (unsigned long long)last);
		list = answer_of(self, "$service/commands/list", properties);
		len = list ? json_object_array_length(list) : 0;
		for (size_t i = 0; i < len; i++) {
			json_object *command = json_object_array_get_idx(list, i), *value;

			ASSERT_TRUE(json_object_object_get_ex(command, "payload", &value));
			EXPECT_EQ(json_object_get_uint64(value), ++n);
			ASSERT_TRUE(json_object_object_get_ex(command, "sequence-no", &value));
			EXPECT_GT(json_object_get_uint64(value), last);
			last = json_object_get_uint64(value);
		}
		json_object_put(list);
		if (len == 0)
			break;
	}
	expect_counter(&self->commands, n);
}

TEST_F_TIMEOUT(kill, nothing_acknowledged_is_lost, 120)
{
	start(self);
	for (int round = 0; round < N_ROUNDS; round++) {
		kill_in_the_middle(self);
		start(self);
		check_twin(self);
		check_commands(self);
	}
	printf("# %llu reported, %llu desired, %llu commands\n", (unsigned long long)self->reported.acked,
	       (unsigned long long)self->desired.acked, (unsigned long long)self->commands.acked);
	EXPECT_GT(self->commands.acked, 0u);
}

TEST_HARNESS_MAIN
