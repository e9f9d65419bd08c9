/* SPDX-License-Identifier: MIT */
/* The emulator as a process: real TLS, real time, faults from its command line, signals, a thousand devices.
 */

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/harness.h"
#include "tests/support/emu_process.h"
#include "tests/support/hub_connect.h"
#include "tests/support/wire_client.h"
#include "base/time.h"

#define TELEMETRY "$iothub/telemetry"

FIXTURE(emulator)
{
	struct emu_process e;
	struct wire *wire;
	struct wire_client *client;
	struct mqtt_packet got;
	uint8_t key[64], scratch[4096];
	char text[200];
};

FIXTURE_SETUP(emulator)
{
	ASSERT_EQ(emu_process_init(&self->e), 0);
}

FIXTURE_TEARDOWN(emulator)
{
	if (!test_is_orphan()) {
		wire_close(self->client);
		wire_free(self->wire);
	}
	emu_process_deinit(&self->e);
}

/* Starts it with dev1 and the options given, up to four. */
static void start(struct fixture_emulator *self, const char *a, const char *b, const char *c, const char *d)
{
	const char *const options[] = {"--device=dev1", a, b, c, d, NULL};

	ASSERT_EQ(emu_process_start(&self->e, options), 0);
	self->wire = wire_new(self->e.ca_file);
	ASSERT_TRUE(self->wire != NULL);
}

static struct hub_connect connect_make(struct fixture_emulator *self, const char *device)
{
	ssize_t n = emu_process_key(&self->e, device, self->key, sizeof(self->key));

	ASSERT_GT(n, 0);
	return hub_connect_make(device, BYTES(self->key, (size_t)n));
}

/* The reason code of CONNACK, -1 when the connection ended instead. */
static int try_connect(struct fixture_emulator *self, const char *host, const struct hub_connect *connect)
{
	uint8_t bytes[HUB_CONNECT_MAX];

	self->client = wire_open(self->wire, host, self->e.port);
	ASSERT_TRUE(wire_wait_open(self->client));
	ASSERT_TRUE(wire_send_bytes(self->client, hub_connect_encode(connect, bytes)));
	if (!wire_next(self->client, &self->got))
		return -1;
	ASSERT_EQ(self->got.type, MQTT_CONNACK + 0u);
	return self->got.connack.reason;
}

static void connect_dev1(struct fixture_emulator *self)
{
	struct hub_connect connect = connect_make(self, "dev1");

	wire_close(self->client);
	ASSERT_EQ(try_connect(self, "localhost", &connect), 0);
}

static void publish(struct fixture_emulator *self, uint8_t qos, uint16_t packet_id, const char *properties)
{
	struct mqtt_packet packet =
		hub_publish_make(TELEMETRY, qos, packet_id, "x", properties, self->scratch);

	ASSERT_TRUE(wire_send(self->client, &packet));
}

/* The reason code of the PUBACK that has to come next for @packet_id; -1 when the connection ended instead.
 */
static int puback(struct fixture_emulator *self, uint16_t packet_id)
{
	if (!wire_next(self->client, &self->got))
		return -1;
	ASSERT_EQ(self->got.type, MQTT_PUBACK + 0u);
	EXPECT_EQ(self->got.ack.packet_id, packet_id);
	return self->got.ack.reason;
}

/* The reason code of the DISCONNECT that has to come next and end the connection. */
static int disconnect(struct fixture_emulator *self)
{
	if (!wire_next(self->client, &self->got))
		return -1;
	ASSERT_EQ(self->got.type, MQTT_DISCONNECT + 0u);
	wire_wait_closed(self->client);
	EXPECT_EQ(self->client->end, CONN_END_PEER + 0u);
	return self->got.disconnect.reason;
}

static const char *property(struct fixture_emulator *self, const char *name)
{
	return hub_property(&self->got, name, self->text, sizeof(self->text));
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * MSEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_MSEC;
}

TEST_F(emulator, telemetry_by_tls)
{
	start(self, NULL, NULL, NULL, NULL);
	connect_dev1(self);
	publish(self, 1, 1, "message-id=1,@a=b");
	EXPECT_EQ(puback(self, 1), 0);
	publish(self, 1, 2, "colour=red");
	EXPECT_EQ(puback(self, 2), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
	EXPECT_STREQ(property(self, "reason"), "unknown user property colour");
	publish(self, 0, 0, NULL);
	publish(self, 0, 0, "colour=red");
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(property(self, "status"), "0100");
}

TEST_F(emulator, refusals_end_with_the_connection_closed)
{
	struct hub_connect connect;

	start(self, NULL, NULL, NULL, NULL);
	connect = connect_make(self, "dev1");
	connect.spoil_signature = true;
	EXPECT_EQ(try_connect(self, "localhost", &connect), 0x87);
	EXPECT_STREQ(property(self, "status"), "0101");
	wire_wait_closed(self->client);
	EXPECT_EQ(self->client->end, CONN_END_PEER + 0u);
}

TEST_F(emulator, without_sni_the_host_has_to_be_told)
{
	struct hub_connect connect;

	start(self, NULL, NULL, NULL, NULL);
	connect = connect_make(self, "dev1");
	EXPECT_EQ(try_connect(self, "127.0.0.1", &connect), 131);
	EXPECT_STREQ(property(self, "reason"), "host is missing, and no SNI was sent");
	wire_close(self->client);
	connect.host = "localhost";
	EXPECT_EQ(try_connect(self, "127.0.0.1", &connect), 0);
	wire_close(self->client);
	EXPECT_EQ(try_connect(self, "::1", &connect), 0);
}

TEST_F(emulator, another_name)
{
	struct hub_connect connect;

	start(self, "--host=hub.test", NULL, NULL, NULL);
	connect = connect_make(self, "dev1");
	connect.host = connect.signed_host = "hub.test";
	EXPECT_EQ(try_connect(self, "localhost", &connect), 0);
	wire_close(self->client);
	connect.host = NULL;
	connect.signed_host = "localhost";
	EXPECT_EQ(try_connect(self, "localhost", &connect), 131);
}

TEST_F(emulator, session_takeover)
{
	struct wire_client *old;

	start(self, NULL, NULL, NULL, NULL);
	connect_dev1(self);
	EXPECT_FALSE(self->got.connack.session_present);
	old = self->client;
	self->client = NULL;
	connect_dev1(self);
	EXPECT_TRUE(self->got.connack.session_present);
	ASSERT_TRUE(wire_next(old, &self->got));
	EXPECT_EQ(self->got.type, MQTT_DISCONNECT + 0u);
	EXPECT_EQ(self->got.disconnect.reason, 0x8e);
	wire_wait_closed(old);
	wire_close(old);
	publish(self, 1, 1, NULL);
	EXPECT_EQ(puback(self, 1), 0);
}

TEST_F(emulator, limits_from_the_command_line)
{
	uint8_t header[] = {0x30, 0xe6, 0x07}; /* 1001 bytes with its header */

	start(self, "--receive-maximum=2", "--max-packet-size=1000", "--topic-alias-maximum=1",
	      "--keep-alive=30");
	connect_dev1(self);
	EXPECT_EQ(self->got.properties.receive_maximum, 2);
	EXPECT_EQ(self->got.properties.maximum_packet_size, 1000u);
	EXPECT_EQ(self->got.properties.topic_alias_maximum, 1);
	EXPECT_EQ(self->got.properties.server_keep_alive, 30);
	ASSERT_TRUE(wire_send_bytes(self->client, BYTES(header, sizeof(header))));
	EXPECT_EQ(disconnect(self), 0x95);
}

TEST_F(emulator, receive_maximum_while_acknowledgements_are_late)
{
	start(self, "--puback-delay=60000", "--receive-maximum=2", NULL, NULL);
	connect_dev1(self);
	publish(self, 1, 1, NULL);
	publish(self, 1, 2, NULL);
	publish(self, 1, 3, NULL);
	EXPECT_EQ(disconnect(self), 0x93);
}

TEST_F(emulator, keep_alive)
{
	struct hub_connect connect;
	uint64_t from;

	start(self, NULL, NULL, NULL, NULL);
	connect = connect_make(self, "dev1");
	connect.packet.connect.keep_alive = 1;
	from = now_ms();
	ASSERT_EQ(try_connect(self, "localhost", &connect), 0);
	EXPECT_EQ(disconnect(self), 0x8d);
	EXPECT_GE(now_ms() - from, 1500u);
}

TEST_F(emulator, the_token_ends_the_connection)
{
	struct hub_connect connect;
	struct timespec ts;
	char expiry[24];

	start(self, NULL, NULL, NULL, NULL);
	connect = connect_make(self, "dev1");
	clock_gettime(CLOCK_REALTIME, &ts);
	snprintf(expiry, sizeof(expiry), "%llu", ((unsigned long long)ts.tv_sec + 2) * 1000);
	connect.expiry = expiry;
	ASSERT_EQ(try_connect(self, "localhost", &connect), 0);
	EXPECT_EQ(disconnect(self), 0x87);
	wire_close(self->client);
	EXPECT_EQ(try_connect(self, "localhost", &connect), 0x87);
}

TEST_F(emulator, late_acknowledgements)
{
	uint64_t from;

	start(self, "--puback-delay=300", NULL, NULL, NULL);
	connect_dev1(self);
	from = now_ms();
	publish(self, 1, 1, NULL);
	publish(self, 1, 2, NULL);
	EXPECT_EQ(puback(self, 1), 0);
	EXPECT_GE(now_ms() - from, 300u);
	EXPECT_EQ(puback(self, 2), 0);
}

TEST_F(emulator, refusals_on_demand)
{
	struct hub_connect connect;

	start(self, "--refuse=0501:2", "--refuse-connect=0x9f:1", NULL, NULL);
	connect = connect_make(self, "dev1");
	EXPECT_EQ(try_connect(self, "localhost", &connect), 0x9f);
	connect_dev1(self);
	publish(self, 1, 1, NULL);
	EXPECT_EQ(puback(self, 1), 151);
	EXPECT_STREQ(property(self, "status"), "0501");
	publish(self, 1, 2, NULL);
	EXPECT_EQ(puback(self, 2), 151);
	publish(self, 1, 3, NULL);
	EXPECT_EQ(puback(self, 3), 0);
}

TEST_F(emulator, cuts)
{
	int n_before = 0, n_after = 0;

	start(self, "--cut-every=2:4", "--seed=7", NULL, NULL);
	for (int i = 0; i < 4; i++) {
		connect_dev1(self);
		publish(self, 1, 1, NULL);
		EXPECT_EQ(puback(self, 1), 0);
		publish(self, 1, 2, NULL);
		if (puback(self, 2) == 0)
			n_after++;
		else
			n_before++;
		/* Nothing is said about it. */
		EXPECT_FALSE(wire_next(self->client, &self->got));
	}
	EXPECT_EQ(n_before, 2);
	EXPECT_EQ(n_after, 2);
	connect_dev1(self);
	for (uint16_t i = 1; i <= 4; i++) {
		publish(self, 1, i, NULL);
		EXPECT_EQ(puback(self, i), 0);
	}
}

TEST_F(emulator, sigusr1_drops_devices)
{
	start(self, NULL, NULL, NULL, NULL);
	connect_dev1(self);
	kill(self->e.pid, SIGUSR1);
	EXPECT_FALSE(wire_next(self->client, &self->got));
	connect_dev1(self);
	EXPECT_TRUE(self->got.connack.session_present);
}

TEST_F(emulator, sigterm_says_goodbye)
{
	start(self, NULL, NULL, NULL, NULL);
	connect_dev1(self);
	kill(self->e.pid, SIGTERM);
	EXPECT_EQ(disconnect(self), 0x8b);
	EXPECT_EQ(emu_process_stop(&self->e, 0), 0);
}

TEST_F(emulator, devices_stay_over_a_restart)
{
	uint8_t before[64];

	start(self, "--device=dev2/mod", NULL, NULL, NULL);
	connect_dev1(self);
	memcpy(before, self->key, sizeof(before));
	EXPECT_EQ(emu_process_stop(&self->e, SIGKILL), 128 + SIGKILL);
	wire_close(self->client);
	self->client = NULL;
	/* The CA is the same: the trust of before is enough. */
	ASSERT_EQ(emu_process_start(&self->e, NULL), 0);
	connect_dev1(self);
	EXPECT_MEMEQ(before, self->key, sizeof(before));
	EXPECT_GT(emu_process_key(&self->e, "dev2/mod", self->key, sizeof(self->key)), 0);
}

/* Its exit code and the line it says, with @options only. */
static int run_wrong(struct fixture_emulator *self, const char *const *options, char **said)
{
	const char *argv[16];
	char program[EMU_PROCESS_PATH_MAX], path[EMU_PROCESS_PATH_MAX];
	size_t n = 1;
	int code;

	emu_program_path("iothub-emulator", program);
	argv[0] = program;
	for (; options[n - 1]; n++)
		argv[n] = options[n - 1];
	argv[n] = NULL;
	snprintf(path, sizeof(path), "%s/said", self->e.dir);
	unlink(path);
	code = emu_wait(emu_spawn(argv, path, path, -1));
	*said = emu_read_file(path);
	ASSERT_TRUE(*said != NULL);
	return code;
}

static void expect_wrong(struct fixture_emulator *self, const char *option, const char *line)
{
	const char *const options[] = {option, NULL};
	char *said;

	EXPECT_EQ(run_wrong(self, options, &said), 2);
	EXPECT_STREQ(said, line);
	free(said);
}

TEST_F(emulator, wrong_options_are_named)
{
	expect_wrong(self, "--port=x", "iothub-emulator: --port x: not a valid value; see --help\n");
	expect_wrong(self, "--port=65536", "iothub-emulator: --port 65536: not a valid value; see --help\n");
	expect_wrong(self, "--max-deliveries=0",
		     "iothub-emulator: --max-deliveries 0: not a valid value; see --help\n");
	expect_wrong(self, "--redelivery-delay=-1",
		     "iothub-emulator: --redelivery-delay -1: not a valid value; see --help\n");
	expect_wrong(self, "--device=a b", "iothub-emulator: --device a b: not a valid value; see --help\n");
	expect_wrong(self, "--refuse=0001",
		     "iothub-emulator: --refuse 0001: not a valid value; see --help\n");
	expect_wrong(self, "--refuse=0501:0",
		     "iothub-emulator: --refuse 0501:0: not a valid value; see --help\n");
	expect_wrong(self, "--refuse-connect=0",
		     "iothub-emulator: --refuse-connect 0: not a valid value; see --help\n");
	expect_wrong(self, "--refuse-connect=0x8e",
		     "iothub-emulator: --refuse-connect 0x8e: not a valid value; see --help\n");
	expect_wrong(self, "--cut-every=0",
		     "iothub-emulator: --cut-every 0: not a valid value; see --help\n");
	expect_wrong(self, "--receive-maximum=0",
		     "iothub-emulator: --receive-maximum 0: not a valid value; see --help\n");
	expect_wrong(self, "--host=", "iothub-emulator: --host : not a valid value; see --help\n");
	expect_wrong(self, "dev1", "iothub-emulator: what is dev1? It takes options only; see --help\n");
}

TEST_F(emulator, what_stops_it_from_starting_is_named)
{
	const char *options[] = {"--state", self->e.dir, "--port=0", NULL, NULL};
	char *said, want[400];

	start(self, NULL, NULL, NULL, NULL);
	EXPECT_EQ(run_wrong(self, options, &said), 1);
	snprintf(want, sizeof(want),
		 "iothub-emulator: state directory %s is in use by another emulator; choose another with "
		 "--state\n",
		 self->e.dir);
	EXPECT_CONTAINS(said, want + sizeof("iothub-emulator: ") - 1);
	free(said);
	options[1] = "/proc/nowhere";
	EXPECT_EQ(run_wrong(self, options, &said), 1);
	EXPECT_CONTAINS(said, "state directory /proc/nowhere: ");
	free(said);
	EXPECT_EQ(emu_process_stop(&self->e, SIGTERM), 0);
	options[1] = self->e.dir;
	options[3] = "--listen=nonsense";
	EXPECT_EQ(run_wrong(self, options, &said), 1);
	EXPECT_CONTAINS(said, "nonsense");
	free(said);
}

TEST_F(emulator, secrets_are_the_owners)
{
	static const char *const names[] = {"ca.key",
					    "server.key",
					    "devices.json",
					    "state.log",
					    "service.connection-string",
					    "devices/dev1.connection-string"};
	char path[400];
	struct stat st;

	start(self, NULL, NULL, NULL, NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", self->e.dir, names[i]);
		ASSERT_EQ(stat(path, &st), 0);
		EXPECT_EQ(st.st_mode & 0777, 0600u);
	}
}

/* Asks the service side's way; the answer is in self->got. */
static void ask_service(struct fixture_emulator *self, const char *topic, const char *properties,
			const char *payload)
{
	ssize_t n = emu_process_key(&self->e, "service", self->key, sizeof(self->key));
	struct hub_connect connect = hub_connect_make("service/f", BYTES(self->key, n > 0 ? (size_t)n : 0));
	struct wire_client *device = self->client;
	struct mqtt_packet packet = hub_publish_make(topic, 0, 0, payload, properties, self->scratch);

	connect.policy = "service";
	packet.properties.correlation_data = BYTES_LIT("f");
	mqtt_set(&packet.properties, MQTT_PROP_CORRELATION_DATA);
	ASSERT_EQ(try_connect(self, "localhost", &connect), 0);
	ASSERT_TRUE(wire_send(self->client, &packet));
	ASSERT_TRUE(wire_next(self->client, &self->got));
	EXPECT_STREQ(property(self, "status"), "");
	wire_close(self->client);
	self->client = device;
}

TEST_F(emulator, byte_by_byte_everything_arrives)
{
	start(self, NULL, NULL, NULL, NULL);
	ask_service(self, "$service/faults/set", NULL, "{\"fault\":\"slow\",\"bytes\":1,\"ms\":1}");
	connect_dev1(self);
	for (uint16_t i = 1; i <= 10; i++)
		publish(self, 1, i, "message-id=1");
	for (uint16_t i = 1; i <= 10; i++)
		EXPECT_EQ(puback(self, i), 0);
}

TEST_F(emulator, a_session_outlives_the_process)
{
	struct hub_connect connect;
	struct mqtt_packet subscribe;

	start(self, NULL, NULL, NULL, NULL);
	connect_dev1(self);
	subscribe = hub_subscribe_make(MQTT_SUBSCRIBE, "$iothub/commands@1", self->scratch);
	ASSERT_TRUE(wire_send(self->client, &subscribe));
	ASSERT_TRUE(wire_next(self->client, &self->got));
	wire_close(self->client);
	self->client = NULL;
	ask_service(self, "$service/commands/send", "device=dev1", "later");
	emu_process_stop(&self->e, SIGKILL);
	wire_free(self->wire);
	self->wire = NULL;
	start(self, NULL, NULL, NULL, NULL);
	connect = connect_make(self, "dev1");
	ASSERT_EQ(try_connect(self, "localhost", &connect), 0);
	EXPECT_TRUE(self->got.connack.session_present);
	ASSERT_TRUE(wire_next(self->client, &self->got));
	EXPECT_TRUE(bytes_equal_str(self->got.publish.topic, "$iothub/commands"));
	EXPECT_TRUE(bytes_equal_str(self->got.publish.payload, "later"));
}

#define N_DEVICES 1000

TEST_F_TIMEOUT(emulator, a_thousand_devices_at_once, 120)
{
	static char names[N_DEVICES][24];
	static const char *options[N_DEVICES + 2];
	static struct wire_client *clients[N_DEVICES];
	uint8_t bytes[HUB_CONNECT_MAX];

	for (int i = 0; i < N_DEVICES; i++) {
		snprintf(names[i], sizeof(names[i]), "--device=d%d", i);
		options[i] = names[i];
	}
	options[N_DEVICES] = "--quiet";
	ASSERT_EQ(emu_process_start(&self->e, options), 0);
	self->wire = wire_new(self->e.ca_file);
	ASSERT_TRUE(self->wire != NULL);
	for (int i = 0; i < N_DEVICES; i++) {
		struct hub_connect connect = connect_make(self, names[i] + sizeof("--device=") - 1);

		clients[i] = wire_open(self->wire, "localhost", self->e.port);
		ASSERT_TRUE(wire_wait_open(clients[i]));
		ASSERT_TRUE(wire_send_bytes(clients[i], hub_connect_encode(&connect, bytes)));
	}
	for (int i = 0; i < N_DEVICES; i++) {
		ASSERT_TRUE(wire_next(clients[i], &self->got));
		ASSERT_EQ(self->got.type, MQTT_CONNACK + 0u);
		ASSERT_EQ(self->got.connack.reason, 0);
	}
	for (int round = 1; round <= 3; round++) {
		for (int i = 0; i < N_DEVICES; i++) {
			self->client = clients[i];
			publish(self, 1, (uint16_t)round, "message-id=1");
		}
		for (int i = 0; i < N_DEVICES; i++) {
			self->client = clients[i];
			EXPECT_EQ(puback(self, (uint16_t)round), 0);
		}
	}
	self->client = NULL;
	for (int i = 0; i < N_DEVICES; i++)
		wire_close(clients[i]);
	EXPECT_EQ(emu_process_stop(&self->e, SIGTERM), 0);
}

TEST_HARNESS_MAIN
