/* SPDX-License-Identifier: MIT */
/* hubctl's twins, commands and methods against the emulator, with a device on the other side. */

#include "tests/harness.h"
#include "tests/support/hub_connect.h"
#include "tests/support/hubctl_run.h"

#define FILTERS "$iothub/commands@1,$iothub/twin/patch/desired,$iothub/methods/+"

FIXTURE(hubctl)
{
	struct hubctl_run h;
	struct wire *wire;
	struct wire_client *device;
};

FIXTURE_SETUP(hubctl)
{
	const char *const options[] = {"--device=dev1", "--device=dev1/mod", "--device=a+b", NULL};

	hubctl_run_init(&self->h, options);
	self->wire = wire_new(self->h.e.ca_file);
	ASSERT_TRUE(self->wire != NULL);
}

FIXTURE_TEARDOWN(hubctl)
{
	if (!test_is_orphan()) {
		wire_close(self->device);
		wire_free(self->wire);
	}
	hubctl_run_deinit(&self->h);
}

static void device_connect(struct fixture_hubctl *self)
{
	self->device = hubctl_device(&self->h, self->wire, "dev1", FILTERS);
}

/* The next PUBLISH to the device, which has to be on @topic. */
static void device_next(struct fixture_hubctl *self, const char *topic, struct mqtt_packet *out)
{
	ASSERT_TRUE(wire_next(self->device, out));
	ASSERT_EQ(out->type, MQTT_PUBLISH + 0u);
	ASSERT_TRUE(bytes_equal(out->publish.topic, bytes_from_str(topic)));
}

static void expect_payload(const struct mqtt_packet *packet, const char *want)
{
	char text[256];

	snprintf(text, sizeof(text), "%.*s", (int)packet->publish.payload.len,
		 (const char *)packet->publish.payload.data);
	EXPECT_STREQ(text, want);
}

static void expect_property(const struct mqtt_packet *packet, const char *name, const char *want)
{
	char text[256];

	EXPECT_STREQ(hub_property(packet, name, text, sizeof(text)), want);
}

/* --- twins
 * ----------------------------------------------------------------------------------------------------- */

TEST_F(hubctl, shows_and_patches_a_twin)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;
	char text[512];

	device_connect(self);
	EXPECT_EQ(hubctl_run(h, "twin", "show", "dev1", "--json"), 0);
	EXPECT_STREQ(h->out, "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}\n");
	EXPECT_EQ(
		hubctl_run(h, "twin", "patch", "dev1", "{\"interval\":5,\"name\":\"gr\xc3\xbc\xc3\x9f/e\"}"),
		0);
	EXPECT_STREQ(h->out, "version 2\n");
	device_next(self, "$iothub/twin/patch/desired", &packet);
	expect_property(&packet, "version", "2");
	EXPECT_EQ(hubctl_run(h, "twin", "show", "dev1", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/desired/interval", text), "5");
	EXPECT_STREQ(hubctl_printed(h, "/desired/name", text), "gr\xc3\xbc\xc3\x9f/e");
	EXPECT_STREQ(hubctl_printed(h, "/desired/$version", text), "2");
	EXPECT_EQ(hubctl_run(h, "twin", "show", "dev1"), 0);
	EXPECT_CONTAINS(h->out, "    \"interval\": 5,\n");
	EXPECT_EQ(hubctl_run_input(h, " {\"interval\":null}\n", "twin", "patch", "dev1", "--json"), 0);
	EXPECT_STREQ(h->out, "{\"version\":3}\n");
	hubctl_write_file(h, "patch", "{\"a\":{\"b\":[1]}}", 15);
	EXPECT_EQ(hubctl_run(h, "twin", "patch", "dev1", "--file", hubctl_file(h, "patch"), "--if-version=3"),
		  0);
	EXPECT_STREQ(h->out, "version 4\n");
	EXPECT_EQ(hubctl_run(h, "twin", "show", "dev1", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/desired/interval", text), "(none)");
	EXPECT_STREQ(hubctl_printed(h, "/desired/a/b/0", text), "1");
}

TEST_F(hubctl, says_why_a_twin_is_not_patched)
{
	struct hubctl_run *h = &self->h;
	char text[512];

	EXPECT_EQ(hubctl_run(h, "twin", "patch", "dev1", "{\"a\":1}", "--if-version=7", "--json"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Precondition Failed (status 0104)");
	EXPECT_STREQ(hubctl_printed(h, "/status", text), "0104");
	EXPECT_EQ(hubctl_run(h, "twin", "patch", "dev1", "{\"a.b\":1}"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Bad Request (status 0100): ");
	EXPECT_EQ(hubctl_run(h, "twin", "patch", "nosuch", "{}"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch: Not Found (status 0504)");
	EXPECT_EQ(hubctl_run(h, "twin", "show", "dev1/nosuch"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1/nosuch: Not Found (status 0504)");
}

/* Another device's changes are not among them. */
TEST_F(hubctl, watches_twins)
{
	struct hubctl_run *watcher = &self->h;
	struct mqtt_packet packet;
	uint8_t scratch[1024];
	pid_t watch;
	char text[512], *second;

	device_connect(self);
	hubctl_start(watcher, "twin", "watch", "dev1", "--count=2", "--ready-fd=3");
	watch = watcher->pid;
	packet = hub_publish_make("$iothub/twin/patch/reported", 0, 0, "{\"on\":true}", NULL, scratch);
	packet.properties.correlation_data = BYTES_LIT("c");
	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	ASSERT_TRUE(wire_send(self->device, &packet));
	ASSERT_TRUE(wire_next(self->device, &packet));
	expect_property(&packet, "version", "2");
	{
		const char *argv[] = {NULL, "twin", "patch", "dev1/mod", "{\"x\":[1,null]}", NULL};
		const char *other[] = {NULL, "twin", "patch", "a+b", "{\"y\":1}", NULL};
		char program[EMU_PROCESS_PATH_MAX];

		setenv("IOTHUB_SERVICE_CONNECTION_STRING_FILE",
		       hubctl_file(watcher, "service.connection-string"), 1);
		emu_program_path("hubctl", program);
		argv[0] = other[0] = program;
		EXPECT_EQ(emu_wait(emu_spawn(other, NULL, NULL, -1)), 0);
		EXPECT_EQ(emu_wait(emu_spawn(argv, NULL, NULL, -1)), 0);
	}
	ASSERT_EQ(watcher->pid, watch);
	EXPECT_EQ(hubctl_wait(watcher), 0);
	EXPECT_STREQ(watcher->err, "watching dev1 on localhost\n");
	second = strchr(watcher->out, '\n') + 1;
	EXPECT_CONTAINS(second, "\"module-id\":\"mod\"");
	EXPECT_CONTAINS(second, "\"part\":\"desired\"");
	EXPECT_CONTAINS(second, "\"patch\":{\"x\":[1,null]}");
	*second = '\0';
	EXPECT_STREQ(hubctl_printed(watcher, "/device-id", text), "dev1");
	EXPECT_STREQ(hubctl_printed(watcher, "/part", text), "reported");
	EXPECT_STREQ(hubctl_printed(watcher, "/version", text), "2");
	EXPECT_STREQ(hubctl_printed(watcher, "/patch/on", text), "true");
}

/* A name that no topic filter may have. */
TEST_F(hubctl, listens_to_a_device_with_a_plus)
{
	struct hubctl_run *h = &self->h;
	struct wire_client *other = hubctl_device(h, self->wire, "a+b", NULL);
	struct mqtt_packet packet, answer;
	uint8_t scratch[1024];

	device_connect(self);
	hubctl_start(h, "monitor", "--device=a+b", "--count=1", "--ready-fd=3", "-q");
	packet = hub_publish_make("$iothub/telemetry", 1, 1, "not this", NULL, scratch);
	ASSERT_TRUE(wire_send(self->device, &packet));
	ASSERT_TRUE(wire_next(self->device, &answer));
	packet = hub_publish_make("$iothub/telemetry", 1, 1, "this", NULL, scratch);
	ASSERT_TRUE(wire_send(other, &packet));
	ASSERT_TRUE(wire_next(other, &answer));
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_CONTAINS(h->out, "\"device-id\":\"a+b\"");
	EXPECT_CONTAINS(h->out, "\"payload\":\"this\"");
	EXPECT_STREQ(h->err, "");
	wire_close(other);
}

/* --- commands
 * -------------------------------------------------------------------------------------------------- */

TEST_F(hubctl, sends_a_command_with_all_it_can_have)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;
	char text[512];

	device_connect(self);
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "do it", "--property=k=v=w", "--property",
			     "empty=", "--message-id=m1", "--user-id=u", "--correlation-id=c",
			     "--content-type=text/plain", "--content-encoding=utf-8",
			     "--creation-time=2021-04-21T11:30:16Z", "--expiry=60"),
		  0);
	EXPECT_EQ(strncmp(h->out, "command 1, enqueued 20", 22), 0);
	device_next(self, "$iothub/commands", &packet);
	expect_payload(&packet, "do it");
	expect_property(&packet, "sequence-no", "1");
	expect_property(&packet, "@k", "v=w");
	expect_property(&packet, "@empty", "");
	expect_property(&packet, "message-id", "m1");
	expect_property(&packet, "user-id", "u");
	expect_property(&packet, "correlation-id", "c");
	expect_property(&packet, "content-encoding", "utf-8");
	EXPECT_TRUE(mqtt_has(&packet.properties, MQTT_PROP_CONTENT_TYPE));
	EXPECT_TRUE(bytes_equal(packet.properties.content_type, BYTES_LIT("text/plain")));
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--json", "--", "-5"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/sequence-no", text), "2");
	EXPECT_EQ(strlen(hubctl_printed(h, "/enqueued-time", text)), 24u);
	device_next(self, "$iothub/commands", &packet);
	expect_payload(&packet, "-5");
}

TEST_F(hubctl, sends_commands_from_a_file_and_from_standard_input)
{
	static const char binary[] = "\xff\0\x01 and so on";
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;

	device_connect(self);
	hubctl_write_file(h, "binary", binary, sizeof(binary));
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--file", hubctl_file(h, "binary")), 0);
	device_next(self, "$iothub/commands", &packet);
	EXPECT_TRUE(bytes_equal(packet.publish.payload, BYTES(binary, sizeof(binary))));
	EXPECT_EQ(hubctl_run_input(h, "from a pipe\n", "command", "send", "dev1"), 0);
	device_next(self, "$iothub/commands", &packet);
	expect_payload(&packet, "from a pipe\n");
	EXPECT_EQ(hubctl_run_input(h, "", "command", "send", "dev1", "--file=-"), 0);
	device_next(self, "$iothub/commands", &packet);
	expect_payload(&packet, "");
}

TEST_F(hubctl, lists_and_purges_commands)
{
	struct hubctl_run *h = &self->h;
	char text[512];

	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1"), 0);
	EXPECT_STREQ(h->out, "no commands\n");
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "one\x1b[31m", "--property=k=v"), 0);
	hubctl_write_file(h, "binary", "\xff\x01", 2);
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--file", hubctl_file(h, "binary")), 0);
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1"), 0);
	EXPECT_EQ(strncmp(h->out, "NUMBER  STATE   WHY  ENQUEUED", 29), 0);
	EXPECT_CONTAINS(h->out, "\n1       queued  -    20");
	EXPECT_CONTAINS(h->out, "  one?[31m\n");
	EXPECT_CONTAINS(h->out, "  /wE=\n");
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/0/sequence-no", text), "1");
	EXPECT_STREQ(hubctl_printed(h, "/0/state", text), "queued");
	EXPECT_STREQ(hubctl_printed(h, "/0/properties/@k", text), "v");
	EXPECT_STREQ(hubctl_printed(h, "/0/payload", text), "one\x1b[31m");
	EXPECT_STREQ(hubctl_printed(h, "/1/payload-base64", text), "/wE=");
	EXPECT_EQ(hubctl_run(h, "command", "purge", "dev1", "--state=dead-lettered"), 0);
	EXPECT_STREQ(h->out, "purged 0\n");
	EXPECT_EQ(hubctl_run(h, "command", "purge", "dev1", "--json"), 0);
	EXPECT_STREQ(h->out, "{\"purged\":2}\n");
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--json"), 0);
	EXPECT_STREQ(h->out, "[]\n");
}

/* More than one page of the hub's. */
TEST_F(hubctl, lists_many_commands)
{
	struct hubctl_run *h = &self->h;
	json_object *list;
	char text[16];

	for (unsigned int i = 1; i <= 101; i++) {
		snprintf(text, sizeof(text), "%u", i);
		ASSERT_EQ(hubctl_run(h, "command", "send", "dev1", text), 0);
	}
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--json"), 0);
	list = hubctl_json(h);
	EXPECT_EQ(json_object_array_length(list), 101u);
	EXPECT_STREQ(json_text(list, "/100/sequence-no"), "101");
	EXPECT_STREQ(json_text(list, "/100/payload"), "101");
	json_object_put(list);
}

TEST_F(hubctl, says_why_a_command_is_not_sent)
{
	struct hubctl_run *h = &self->h;
	char *big = malloc(300000);

	EXPECT_EQ(hubctl_run(h, "command", "send", "nosuch", "x"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch: Not Found (status 0504)");
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "x", "--creation-time=now"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Bad Request (status 0100): ");
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "x", "--user-id=\xff"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: a property is not valid: ");
	memset(big, 'x', 300000);
	hubctl_write_file(h, "big", big, 300000);
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--file", hubctl_file(h, "big")), 1);
	EXPECT_STREQ(h->err, "hubctl: that is more than localhost takes in one packet\n");
	hubctl_write_file(h, "big", big, 70000);
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--file", hubctl_file(h, "big")), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Bad Request (status 0100): ");
	free(big);
	EXPECT_EQ(hubctl_run(h, "command", "list", "nosuch"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch: Not Found (status 0504)");
}

/* --- methods
 * --------------------------------------------------------------------------------------------------- */

/* Answers the call in @request with @code (a property) and @payload. */
static void device_answer(struct fixture_hubctl *self, const struct mqtt_packet *request, const char *code,
			  struct bytes payload)
{
	uint8_t scratch[1024], correlation[16];
	struct bytes data = request->properties.correlation_data;
	struct mqtt_packet packet;

	ASSERT_LE(data.len, sizeof(correlation));
	memcpy(correlation, data.data, data.len);
	packet = hub_publish_make("$iothub/responses", 0, 0, "", code, scratch);
	packet.publish.payload = payload;
	packet.properties.correlation_data = BYTES(correlation, data.len);
	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	ASSERT_TRUE(wire_send(self->device, &packet));
	/* What it was sent before is with the hub when this comes back. */
	ASSERT_TRUE(wire_send(self->device, &(struct mqtt_packet){.type = MQTT_PINGREQ}));
	ASSERT_TRUE(wire_next(self->device, &packet));
	ASSERT_EQ(packet.type, MQTT_PINGRESP + 0u);
}

TEST_F(hubctl, calls_a_method)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;
	char text[512];

	device_connect(self);
	hubctl_start(h, "method", "call", "dev1", "reboot", "{\"delay\":3}");
	device_next(self, "$iothub/methods/reboot", &packet);
	expect_payload(&packet, "{\"delay\":3}");
	device_answer(self, &packet, "response-code=200", BYTES_LIT("{\"ok\":true}"));
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_STREQ(h->out, "{\"ok\":true}");
	EXPECT_STREQ(h->err, "");

	hubctl_start(h, "method", "call", "dev1", "reboot", "--json");
	device_next(self, "$iothub/methods/reboot", &packet);
	expect_payload(&packet, "");
	device_answer(self, &packet, "response-code=399", BYTES_LIT("\xff\x01"));
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_STREQ(hubctl_printed(h, "/response-code", text), "399");
	EXPECT_STREQ(hubctl_printed(h, "/payload-base64", text), "/wE=");

	hubctl_start(h, "method", "call", "dev1", "reboot", "--json");
	device_next(self, "$iothub/methods/reboot", &packet);
	device_answer(self, &packet, "response-code=404", BYTES_LIT("no such thing"));
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_STREQ(hubctl_printed(h, "/response-code", text), "404");
	EXPECT_STREQ(hubctl_printed(h, "/payload", text), "no such thing");
	EXPECT_STREQ(h->err, "hubctl: dev1: reboot: the device answered 404\n");
}

TEST_F(hubctl, waits_for_a_device_to_come)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;

	hubctl_start(h, "method", "call", "dev1", "m", "--connect-timeout=20");
	device_connect(self);
	device_next(self, "$iothub/methods/m", &packet);
	device_answer(self, &packet, "response-code=200", BYTES_LIT("here"));
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_STREQ(h->out, "here");
}

TEST_F(hubctl, says_why_a_method_has_no_answer)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;
	char text[512];

	EXPECT_EQ(hubctl_run(h, "method", "call", "dev1", "m", "--json"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Target Unavailable (status 06A0)");
	EXPECT_STREQ(hubctl_printed(h, "/status", text), "06A0");
	EXPECT_STREQ(hubctl_printed(h, "/name", text), "Target Unavailable");
	device_connect(self);
	hubctl_start(h, "method", "call", "dev1", "m", "--timeout=1");
	device_next(self, "$iothub/methods/m", &packet);
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Target Timeout (status 06A1)");
	EXPECT_STREQ(h->out, "");
	hubctl_start(h, "method", "call", "dev1", "m");
	device_next(self, "$iothub/methods/m", &packet);
	device_answer(self, &packet, "response-code=x", BYTES_LIT(""));
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Target Failed (status 06A2)");
	hubctl_start(h, "method", "call", "dev1", "m");
	device_next(self, "$iothub/methods/m", &packet);
	ASSERT_TRUE(wire_send(self->device, &(struct mqtt_packet){.type = MQTT_DISCONNECT}));
	wire_wait_closed(self->device);
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Target Unavailable (status 06A0)");
	EXPECT_EQ(hubctl_run(h, "method", "call", "nosuch", "m"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch: Not Found (status 0504)");
}

TEST_F(hubctl, can_be_interrupted)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;

	device_connect(self);
	hubctl_start(h, "method", "call", "dev1", "m");
	device_next(self, "$iothub/methods/m", &packet);
	kill(h->pid, SIGINT);
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_STREQ(h->err, "hubctl: interrupted\n");
	hubctl_start(h, "twin", "watch", "--ready-fd=3", "-q");
	kill(h->pid, SIGINT);
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_STREQ(h->err, "");
}

/* The hub stands still while it is asked: hubctl waits a little longer than the hub should. */
TEST_F(hubctl, says_when_the_hub_does_not_answer)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;
	int code;

	device_connect(self);
	hubctl_start(h, "method", "call", "dev1", "m", "--timeout=1");
	device_next(self, "$iothub/methods/m", &packet);
	kill(h->e.pid, SIGSTOP);
	code = hubctl_wait(h);
	kill(h->e.pid, SIGCONT);
	EXPECT_EQ(code, 1);
	EXPECT_STREQ(h->err, "hubctl: localhost did not answer within 6.0 s\n");
}

/* The hub ends while it is asked. */
TEST_F(hubctl, says_when_the_hub_goes)
{
	struct hubctl_run *h = &self->h;
	struct mqtt_packet packet;

	device_connect(self);
	hubctl_start(h, "method", "call", "dev1", "m");
	device_next(self, "$iothub/methods/m", &packet);
	EXPECT_EQ(emu_process_stop(&h->e, SIGKILL), 128 + SIGKILL);
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_CONTAINS(h->err, "hubctl: the connection to localhost was lost");
	EXPECT_EQ(strchr(h->err, '\n')[1], '\0');
}

TEST_HARNESS_MAIN
