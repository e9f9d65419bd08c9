/* SPDX-License-Identifier: MIT */
/* hubctl's registry and faults against the emulator. */

#include <sys/stat.h>

#include "tests/harness.h"
#include "tests/support/hub_connect.h"
#include "tests/support/hubctl_run.h"

#define KEY_1 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define KEY_2 "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="

FIXTURE(hubctl)
{
	struct hubctl_run h;
};

FIXTURE_SETUP(hubctl)
{
	const char *const options[] = {"--device=dev1", "--device=dev1/mod", NULL};

	hubctl_run_init(&self->h, options);
}

FIXTURE_TEARDOWN(hubctl)
{
	hubctl_run_deinit(&self->h);
}

static void expect_error(struct hubctl_run *h, const char *err, const char *status)
{
	char text[512];

	EXPECT_CONTAINS(h->err, err);
	EXPECT_EQ(strncmp(h->err, "hubctl: ", 8), 0);
	EXPECT_STREQ(hubctl_printed(h, "/status", text), status);
	EXPECT_GT(strlen(hubctl_printed(h, "/name", text)), 0u);
}

/* --- devices
 * --------------------------------------------------------------------------------------------------- */

TEST_F(hubctl, adds_a_device_that_connects)
{
	struct hubctl_run *h = &self->h;
	struct wire_client *c;
	struct wire *wire;
	char *saved;

	EXPECT_EQ(hubctl_run(h, "devices", "add", "dev2", "--primary-key", KEY_1, "--secondary-key", KEY_2),
		  0);
	EXPECT_CONTAINS(h->out, "HostName=localhost;DeviceId=dev2;SharedAccessKey=" KEY_1);
	EXPECT_EQ(strchr(h->out, '\n')[1], '\0');
	saved = emu_read_file(hubctl_file(h, "devices/dev2.connection-string"));
	EXPECT_STREQ(saved, h->out);
	free(saved);
	wire = wire_new(h->e.ca_file);
	c = hubctl_device(h, wire, "dev2", NULL);
	wire_close(c);
	wire_free(wire);

	EXPECT_EQ(hubctl_run(h, "devices", "add", "dev2"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev2: Conflict (status 0103)");
	EXPECT_STREQ(h->out, "");
	EXPECT_EQ(hubctl_run(h, "devices", "add", "dev2", "--json"), 1);
	expect_error(h, "dev2: Conflict (status 0103)", "0103");
	EXPECT_EQ(hubctl_run(h, "devices", "add", "nosuch/mod"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch/mod: Not Found (status 0504)");
	EXPECT_EQ(hubctl_run(h, "devices", "add", "dev3", "--primary-key=?"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev3: Bad Request (status 0100)");
}

TEST_F(hubctl, saves_a_connection_string)
{
	struct hubctl_run *h = &self->h;
	const char *path = hubctl_file(h, "saved");
	char text[512];
	struct stat st;
	char *saved;

	hubctl_write_file(h, "saved", "before\n", 7);
	ASSERT_EQ(chmod(path, 0644), 0);
	EXPECT_EQ(hubctl_run(h, "devices", "add", "dev2", "--output", path), 0);
	EXPECT_STREQ(h->out, "");
	saved = emu_read_file(path);
	EXPECT_EQ(strncmp(saved, "HostName=localhost;DeviceId=dev2;SharedAccessKey=", 49), 0);
	ASSERT_EQ(stat(path, &st), 0);
	EXPECT_EQ(st.st_mode & 0777, 0600u);
	EXPECT_EQ(hubctl_run(h, "devices", "keys", "dev2", "--json"), 0);
	EXPECT_EQ(strncmp(saved, hubctl_printed(h, "/connection-string", text), strlen(saved) - 1), 0);
	free(saved);
	EXPECT_EQ(hubctl_run(h, "devices", "keys", "dev2", "--output=/nowhere/saved"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: /nowhere/saved: No such file or directory");
}

TEST_F(hubctl, prints_and_renews_keys)
{
	struct hubctl_run *h = &self->h;
	char primary[512], secondary[512], text[512];

	EXPECT_EQ(hubctl_run(h, "devices", "keys", "dev1", "--json"), 0);
	hubctl_printed(h, "/primary-key", primary);
	hubctl_printed(h, "/secondary-key", secondary);
	EXPECT_EQ(hubctl_run(h, "devices", "keys", "dev1"), 0);
	EXPECT_CONTAINS(h->out, primary);
	EXPECT_CONTAINS(h->out, "connection-string: HostName=localhost;DeviceId=dev1;SharedAccessKey=");
	EXPECT_EQ(hubctl_run(h, "devices", "keys", "dev1", "--regenerate=primary", "--json"), 0);
	EXPECT_NE(strcmp(hubctl_printed(h, "/primary-key", text), primary), 0);
	EXPECT_STREQ(hubctl_printed(h, "/secondary-key", text), secondary);
	EXPECT_EQ(hubctl_run(h, "devices", "keys", "nosuch"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: nosuch: Not Found (status 0504)");
}

TEST_F(hubctl, adds_devices_with_x509)
{
	static const char colons[] = "01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:"
				     "01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF";
	struct hubctl_run *h = &self->h;
	char text[512];

	EXPECT_EQ(hubctl_run(h, "devices", "add", "x1", "--x509-thumbprint", colons), 0);
	EXPECT_STREQ(h->out, "added x1, which connects with its certificate\n");
	EXPECT_EQ(hubctl_run(h, "devices", "add", "x2", "--x509-certificate", h->e.ca_file,
			     "--x509-thumbprint", colons, "--json"),
		  0);
	EXPECT_STREQ(hubctl_printed(h, "/authentication", text), "x509");
	EXPECT_EQ(strlen(hubctl_printed(h, "/thumbprints/0", text)), 64u);
	EXPECT_EQ(strlen(hubctl_printed(h, "/thumbprints/1", text)), 64u);
	EXPECT_STREQ(hubctl_printed(h, "/connection-string", text), "(none)");
	EXPECT_EQ(hubctl_run(h, "devices", "add", "x3", "--x509-ca"), 0);
	EXPECT_EQ(hubctl_run(h, "devices", "show", "x3", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/ca", text), "true");
	EXPECT_EQ(hubctl_run(h, "devices", "keys", "x3"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: x3: Not Allowed (status 0102)");
}

TEST_F(hubctl, lists_and_shows_devices)
{
	struct hubctl_run *h = &self->h;
	struct wire *wire = wire_new(h->e.ca_file);
	struct wire_client *c = hubctl_device(h, wire, "dev1", "$iothub/commands@1");
	char text[512];

	EXPECT_EQ(hubctl_run(h, "devices", "list", "--ids"), 0);
	EXPECT_STREQ(h->out, "dev1\ndev1/mod\n");
	EXPECT_EQ(hubctl_run(h, "devices", "list"), 0);
	EXPECT_EQ(strncmp(h->out, "DEVICE    AUTHENTICATION  CONNECTED  SINCE", 42), 0);
	EXPECT_CONTAINS(h->out, "\ndev1      sas             yes        20");
	EXPECT_CONTAINS(h->out, "\ndev1/mod  sas             no         -");
	EXPECT_EQ(hubctl_run(h, "devices", "list", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/0/device", text), "dev1");
	EXPECT_STREQ(hubctl_printed(h, "/0/connected", text), "true");
	EXPECT_STREQ(hubctl_printed(h, "/1/module-id", text), "mod");
	EXPECT_STREQ(hubctl_printed(h, "/1/connected", text), "false");

	EXPECT_EQ(hubctl_run(h, "devices", "show", "dev1"), 0);
	EXPECT_CONTAINS(h->out, "\nconnected:        yes\n");
	EXPECT_CONTAINS(h->out, "\nsubscriptions:    $iothub/commands\n");
	EXPECT_CONTAINS(h->out, "\ncommands:         queued 0, dead-lettered 0\n");
	EXPECT_EQ(hubctl_run(h, "devices", "show", "dev1", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/desired-version", text), "1");
	EXPECT_EQ(hubctl_run(h, "devices", "show", "nosuch", "--json"), 1);
	expect_error(h, "nosuch: Not Found (status 0504)", "0504");
	wire_close(c);
	wire_free(wire);
}

/* More than one page of the hub's. */
TEST_F(hubctl, lists_many_devices)
{
	const char *options[1102];
	char names[1101][20];
	struct hubctl_run *h = &self->h;
	size_t n = 0;

	ASSERT_EQ(emu_process_stop(&h->e, SIGTERM), 0);
	for (size_t i = 0; i < 1101; i++) {
		snprintf(names[i], sizeof(names[i]), "--device=many%04zu", i);
		options[i] = names[i];
	}
	options[1101] = NULL;
	ASSERT_EQ(emu_process_start(&h->e, options), 0);
	EXPECT_EQ(hubctl_run(h, "devices", "list", "--ids"), 0);
	for (const char *p = h->out; *p; p++)
		n += *p == '\n';
	EXPECT_EQ(n, 1103u);
	EXPECT_EQ(strncmp(h->out, "dev1\ndev1/mod\nmany0000\nmany0001\n", 32), 0);
	EXPECT_CONTAINS(h->out, "\nmany1100\n");
}

TEST_F(hubctl, removes_devices)
{
	struct hubctl_run *h = &self->h;
	struct wire *wire = wire_new(h->e.ca_file);
	struct wire_client *c = hubctl_device(h, wire, "dev1", NULL);
	struct mqtt_packet packet;

	EXPECT_EQ(hubctl_run(h, "devices", "remove", "dev1"), 0);
	EXPECT_STREQ(h->out, "removed dev1\n");
	ASSERT_TRUE(wire_next(c, &packet));
	EXPECT_EQ(packet.type, MQTT_DISCONNECT + 0u);
	EXPECT_EQ(packet.disconnect.reason, MQTT_REASON_NOT_AUTHORIZED);
	EXPECT_EQ(hubctl_run(h, "devices", "list"), 0);
	EXPECT_STREQ(h->out, "no devices; hubctl devices add makes one\n");
	EXPECT_EQ(hubctl_run(h, "devices", "list", "--json"), 0);
	EXPECT_STREQ(h->out, "[]\n");
	EXPECT_EQ(hubctl_run(h, "devices", "remove", "dev1"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: dev1: Not Found (status 0504)");
	EXPECT_EQ(hubctl_run(h, "devices", "add", "dev1"), 0);
	EXPECT_EQ(hubctl_run(h, "devices", "remove", "dev1", "--json"), 0);
	EXPECT_STREQ(h->out, "{\"removed\":\"dev1\"}\n");
	wire_close(c);
	wire_free(wire);
}

/* --- faults
 * ---------------------------------------------------------------------------------------------------- */

/* Publishes and returns the PUBACK's reason. */
static unsigned int publish(struct wire_client *c, uint16_t packet_id)
{
	uint8_t scratch[1024];
	struct mqtt_packet packet = hub_publish_make("$iothub/telemetry", 1, packet_id, "x", NULL, scratch);

	ASSERT_TRUE(wire_send(c, &packet));
	ASSERT_TRUE(wire_next(c, &packet));
	ASSERT_EQ(packet.type, MQTT_PUBACK + 0u);
	return packet.ack.reason;
}

TEST_F(hubctl, sets_lists_and_clears_faults)
{
	struct hubctl_run *h = &self->h;
	struct wire *wire = wire_new(h->e.ca_file);
	struct wire_client *c = hubctl_device(h, wire, "dev1", NULL);
	char id[512], line[600], text[512];

	EXPECT_EQ(hubctl_run(h, "fault", "list"), 0);
	EXPECT_STREQ(h->out, "no faults\n");
	EXPECT_EQ(hubctl_run(h, "fault", "set", "status", "status=0502", "operation=telemetry", "count=3",
			     "device=dev1", "--json"),
		  0);
	hubctl_printed(h, "/id", id);
	EXPECT_EQ(publish(c, 1), MQTT_REASON_QUOTA_EXCEEDED + 0u);
	EXPECT_EQ(hubctl_run(h, "fault", "list", "--json"), 0);
	EXPECT_STREQ(hubctl_printed(h, "/0/id", text), id);
	EXPECT_STREQ(hubctl_printed(h, "/0/fault", text), "status");
	EXPECT_STREQ(hubctl_printed(h, "/0/status", text), "0502");
	EXPECT_STREQ(hubctl_printed(h, "/0/left", text), "2");
	EXPECT_STREQ(hubctl_printed(h, "/0/hits", text), "1");
	EXPECT_EQ(hubctl_run(h, "fault", "list"), 0);
	EXPECT_EQ(strncmp(h->out, "ID", 2), 0);
	EXPECT_CONTAINS(h->out, "status 0502");
	EXPECT_CONTAINS(h->out, "operation telemetry");
	EXPECT_EQ(hubctl_run(h, "fault", "clear", id), 0);
	EXPECT_STREQ(h->out, "cleared 1\n");
	EXPECT_EQ(publish(c, 2), 0u);
	EXPECT_EQ(hubctl_run(h, "fault", "clear", id), 1);
	EXPECT_CONTAINS(h->err, "hubctl: fault: Not Found (status 0504)");
	EXPECT_EQ(hubctl_run(h, "fault", "set", "{\"fault\":\"lose-puback\",\"fraction\":0.5}"), 0);
	EXPECT_EQ(strncmp(h->out, "fault ", 6), 0);
	EXPECT_EQ(hubctl_run(h, "fault", "set", "refuse", "reason=0x97", "count=1"), 0);
	EXPECT_EQ(hubctl_run(h, "fault", "clear", "--json"), 0);
	snprintf(line, sizeof(line), "{\"cleared\":%d}\n", 2);
	EXPECT_STREQ(h->out, line);
	wire_close(c);
	wire_free(wire);
}

TEST_F(hubctl, faults_that_act_at_once)
{
	struct hubctl_run *h = &self->h;
	struct wire *wire = wire_new(h->e.ca_file);
	struct wire_client *c = hubctl_device(h, wire, "dev1", NULL);
	struct mqtt_packet packet;

	EXPECT_EQ(hubctl_run(h, "fault", "set", "take-over", "device=dev1"), 0);
	EXPECT_STREQ(h->out, "connections it met: 1\n");
	ASSERT_TRUE(wire_next(c, &packet));
	EXPECT_EQ(packet.disconnect.reason, MQTT_REASON_SESSION_TAKEN_OVER);
	EXPECT_EQ(hubctl_run(h, "fault", "set", "drop", "--json"), 0);
	EXPECT_CONTAINS(h->out, "\"hits\":0");
	wire_close(c);
	wire_free(wire);
}

TEST_F(hubctl, says_what_is_wrong_with_a_fault)
{
	struct hubctl_run *h = &self->h;

	EXPECT_EQ(hubctl_run(h, "fault", "set", "nosuch"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: fault: Bad Request (status 0100): ");
	EXPECT_EQ(hubctl_run(h, "fault", "set", "status"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: fault: Bad Request (status 0100): ");
	EXPECT_EQ(hubctl_run(h, "fault", "set", "throttle", "rate=1", "ms=3", "--json"), 1);
	expect_error(h, "hubctl: fault: Bad Request (status 0100): ", "0100");
}

TEST_HARNESS_MAIN
