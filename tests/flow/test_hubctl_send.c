/* SPDX-License-Identifier: MIT */
/* hubctl's commands from the line to their end: many at once, waiting for the device, and what is told afterwards. */

#include "tests/harness.h"
#include "tests/support/hub_connect.h"
#include "tests/support/hubctl_run.h"

#define TOPIC  "$iothub/commands@1"
#define N_MANY 1100 /* more than a queue holds */

FIXTURE(hubctl)
{
	struct hubctl_run h;
	struct wire *wire;
	struct wire_client *device;
	struct mqtt_packet packet;
	char text[512];
};

FIXTURE_SETUP(hubctl)
{
	const char *const options[] = {"--device=dev1",         "--device=dev1/mod",  "--device=a+b",
				       "--redelivery-delay=20", "--max-deliveries=2", NULL};

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
	self->device = hubctl_device(&self->h, self->wire, "dev1", TOPIC);
}

/* Takes the next command and settles it. */
static void device_settle(struct fixture_hubctl *self, uint8_t reason, const char *status)
{
	uint8_t scratch[64];
	struct writer w = writer_init(scratch, sizeof(scratch));
	struct mqtt_packet ack = {.type = MQTT_PUBACK, .ack = {.reason = reason}};

	ASSERT_TRUE(wire_next(self->device, &self->packet));
	ASSERT_EQ(self->packet.type, MQTT_PUBLISH + 0u);
	if (status)
		mqtt_user_property_put(&w, BYTES_LIT("status"), bytes_from_str(status));
	ack.ack.packet_id = self->packet.publish.packet_id;
	ack.properties.repeatable = writer_bytes(&w);
	ASSERT_TRUE(wire_send(self->device, &ack));
}

/* What it sent before is with the hub when this comes back. */
static void device_flush(struct fixture_hubctl *self)
{
	ASSERT_TRUE(wire_send(self->device, &(struct mqtt_packet){.type = MQTT_PINGREQ}));
	do
		ASSERT_TRUE(wire_next(self->device, &self->packet));
	while (self->packet.type != MQTT_PINGRESP);
}

/* What was printed, without the times. */
static const char *out_without_times(struct hubctl_run *h)
{
	for (char *at = h->out; (at = strstr(at, "enqueued 20")); at += 8)
		memmove(at + 8, at + 9 + strlen("2026-11-22T08:00:00.000Z"),
			strlen(at + 9 + strlen("2026-11-22T08:00:00.000Z")) + 1);
	return h->out;
}

static size_t n_lines(const char *text)
{
	size_t n = 0;

	for (; (text = strchr(text, '\n')); text++)
		n++;
	return n;
}

/* --- lines
 * ----------------------------------------------------------------------------------------------------- */

TEST_F(hubctl, sends_a_command_for_every_line)
{
	struct hubctl_run *h = &self->h;

	EXPECT_EQ(hubctl_run_input(h, "one\n\nthree", "command", "send", "dev1", "--lines", "--property=k=v"),
		  0);
	EXPECT_STREQ(out_without_times(h), "command 1, enqueued\ncommand 2, enqueued\ncommand 3, enqueued\n");
	hubctl_write_file(h, "lines", "4\n5\n", 4);
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--lines", "--file", hubctl_file(h, "lines"),
			     "--json"),
		  0);
	EXPECT_EQ(n_lines(h->out), 2u);
	EXPECT_EQ(strncmp(h->out, "{\"sequence-no\":4,\"enqueued-time\":\"20", 36), 0);
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/0/payload", self->text), "one");
	EXPECT_STREQ(hubctl_printed(h, "/0/properties/@k", self->text), "v");
	EXPECT_STREQ(hubctl_printed(h, "/1/payload", self->text), "");
	EXPECT_STREQ(hubctl_printed(h, "/2/payload", self->text), "three");
	EXPECT_STREQ(hubctl_printed(h, "/2/properties/@k", self->text), "v");
	EXPECT_STREQ(hubctl_printed(h, "/4/payload", self->text), "5");
	EXPECT_EQ(hubctl_run_input(h, "", "command", "send", "dev1", "--lines", "--wait"), 0);
	EXPECT_STREQ(h->out, "");
}

TEST_F(hubctl, says_which_line_was_refused)
{
	struct hubctl_run *h = &self->h;
	char *big = malloc(70000);

	memset(big, 'x', 70000);
	memcpy(big + 69990, "\nsmall", 7);
	memcpy(big, "first\n", 6);
	EXPECT_EQ(hubctl_run_input(h, big, "command", "send", "dev1", "--lines"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: line 2: Bad Request (status 0100): ");
	EXPECT_CONTAINS(h->out, "command 1, ");
	EXPECT_EQ(hubctl_run_input(h, "x\n", "command", "send", "nosuch", "--lines", "--json"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch: line 1: Not Found (status 0504)");
	EXPECT_STREQ(hubctl_printed(h, "/status", self->text), "0504");
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "x", "--lines"), 2);
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--lines", "--file", hubctl_file(h, "nosuch")), 1);
	EXPECT_CONTAINS(h->err, "nosuch: No such file or directory\n");
	free(big);
}

TEST_F(hubctl, says_that_a_queue_is_full)
{
	struct hubctl_run *h = &self->h;
	char lines[2 * N_MANY + 1] = "";

	for (size_t i = 0; i < N_MANY; i++)
		memcpy(lines + 2 * i, "x\n", 3);
	EXPECT_EQ(hubctl_run_input(h, lines, "command", "send", "dev1", "--lines"), 1);
	EXPECT_EQ(n_lines(h->out), 1000u);
	EXPECT_EQ(strncmp(h->err, "hubctl: dev1: line 1001: Quota Exceeded (status 0502)", 53), 0);
}

/* --- waiting
 * --------------------------------------------------------------------------------------------------- */

TEST_F(hubctl, waits_until_a_command_is_completed)
{
	struct hubctl_run *h = &self->h;

	device_connect(self);
	hubctl_start(h, "command", "send", "dev1", "x", "--wait");
	device_settle(self, 131, "0603");
	device_settle(self, 0, NULL);
	device_flush(self);
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_STREQ(out_without_times(h), "command 1, enqueued\ncommand 1: completed, delivered 2 times\n");
	EXPECT_STREQ(h->err, "");
	hubctl_start(h, "command", "send", "dev1", "x", "--wait", "--json", "--timeout=20");
	device_settle(self, 0, NULL);
	device_flush(self);
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_STREQ(hubctl_printed(h, "/sequence-no", self->text), "2");
	EXPECT_EQ(strlen(hubctl_printed(h, "/enqueued-time", self->text)), 24u);
	EXPECT_STREQ(hubctl_printed(h, "/outcome", self->text), "completed");
	EXPECT_STREQ(hubctl_printed(h, "/delivery-count", self->text), "1");
}

TEST_F(hubctl, says_how_else_a_command_ended)
{
	struct hubctl_run *h = &self->h;

	EXPECT_EQ(hubctl_run(h, "command", "send", "a+b", "x", "--wait", "--expiry=1"), 1);
	EXPECT_STREQ(out_without_times(h), "command 1, enqueued\ncommand 1: expired, delivered 0 times\n");
	EXPECT_STREQ(h->err, "hubctl: a+b: the command was not completed\n");
	device_connect(self);
	hubctl_start(h, "command", "send", "dev1", "x", "--wait");
	device_settle(self, 131, "0100");
	device_flush(self);
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_CONTAINS(h->out, "command 2: rejected, delivered 1 time\n");
	hubctl_start(h, "command", "send", "dev1", "x", "--wait", "--json");
	device_settle(self, 131, "0603");
	device_settle(self, 131, "0603");
	device_flush(self);
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_STREQ(hubctl_printed(h, "/outcome", self->text), "delivery-count");
	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1/mod", "x", "--wait", "--timeout=0.3"), 1);
	EXPECT_STREQ(h->err, "hubctl: dev1/mod: command 4 was not settled within 0.3 s\n");
	EXPECT_EQ(hubctl_run(h, "command", "send", "nosuch", "x", "--wait"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch: Not Found (status 0504)");
}

TEST_F(hubctl, sends_more_than_a_queue_holds_as_the_device_completes_them)
{
	struct hubctl_run *h = &self->h;
	char lines[2 * N_MANY + 1] = "";

	for (size_t i = 0; i < N_MANY; i++)
		memcpy(lines + 2 * i, "x\n", 3);
	hubctl_write_file(h, "lines", lines, strlen(lines));
	device_connect(self);
	hubctl_start(h, "command", "send", "dev1", "--lines", "--wait", "--json", "--file",
		     hubctl_file(h, "lines"));
	for (int i = 0; i < N_MANY - 1; i++)
		device_settle(self, 0, NULL);
	device_settle(self, 131, "0100");
	device_flush(self);
	EXPECT_EQ(hubctl_wait(h), 1);
	EXPECT_EQ(n_lines(h->out), (size_t)N_MANY);
	EXPECT_STREQ(h->err, "hubctl: dev1: 1 of 1100 commands were not completed\n");
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--all", "--json-lines"), 0);
	EXPECT_EQ(n_lines(h->out), (size_t)N_MANY);
}

/* --- afterwards
 * ------------------------------------------------------------------------------------------------ */

TEST_F(hubctl, watches_how_commands_end)
{
	struct hubctl_run *h = &self->h;

	EXPECT_EQ(hubctl_run_input(h, "1\n2", "command", "send", "dev1", "--lines"), 0);
	hubctl_start(h, "command", "watch", "dev1", "--count=2", "--ready-fd=3");
	device_connect(self);
	device_settle(self, 0, NULL);
	device_settle(self, 131, "0100");
	device_flush(self);
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_STREQ(h->err, "watching dev1 on localhost\n");
	EXPECT_CONTAINS(h->out, "{\"device-id\":\"dev1\",\"sequence-no\":1,\"outcome\":\"completed\","
				"\"delivery-count\":1,\"settled-time\":\"20");
	EXPECT_CONTAINS(h->out, "\n{\"device-id\":\"dev1\",\"sequence-no\":2,\"outcome\":\"rejected\",");
}

TEST_F(hubctl, lists_completed_commands)
{
	struct hubctl_run *h = &self->h;

	EXPECT_EQ(hubctl_run_input(h, "1\n2\n", "command", "send", "dev1", "--lines"), 0);
	hubctl_start(h, "command", "watch", "--count=1", "--ready-fd=3", "-q");
	device_connect(self);
	device_settle(self, 0, NULL);
	device_flush(self);
	EXPECT_EQ(hubctl_wait(h), 0);
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1"), 0);
	EXPECT_TRUE(strstr(h->out, "completed") == NULL);
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--all"), 0);
	EXPECT_CONTAINS(h->out, "\n1       completed  -    20");
	EXPECT_CONTAINS(h->out, "\n2       in-flight  -    20");
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--all", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/0/state", self->text), "completed");
	EXPECT_STREQ(hubctl_printed(h, "/0/delivery-count", self->text), "1");
	EXPECT_STREQ(hubctl_printed(h, "/0/payload", self->text), "(none)");
	EXPECT_EQ(hubctl_run(h, "command", "list", "dev1", "--json-lines"), 0);
	EXPECT_EQ(n_lines(h->out), 1u);
	EXPECT_STREQ(hubctl_printed(h, "/payload", self->text), "2");
}

TEST_HARNESS_MAIN
