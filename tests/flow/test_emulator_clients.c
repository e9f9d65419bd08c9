/* SPDX-License-Identifier: MIT */
/* Clients nobody here wrote against the emulator: mosquitto_pub and mosquitto_sub, and hubctl on
 * libmosquitto. */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include <json-c/json.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tests/harness.h"
#include "tests/support/emu_process.h"
#include "tests/support/hub_connect.h"
#include "tests/support/process.h"
#include "tests/support/wire_client.h"

FIXTURE(clients)
{
	struct emu_process e;
	char out[300], err[300], service[300];
	pid_t monitor;
	char *text;
};

FIXTURE_SETUP(clients)
{
	ASSERT_EQ(emu_process_init(&self->e), 0);
	snprintf(self->out, sizeof(self->out), "%s/out", self->e.dir);
	snprintf(self->err, sizeof(self->err), "%s/err", self->e.dir);
	snprintf(self->service, sizeof(self->service), "%s/service.connection-string", self->e.dir);
}

FIXTURE_TEARDOWN(clients)
{
	if (self->monitor > 0) {
		kill(self->monitor, SIGKILL);
		emu_wait(self->monitor);
	}
	if (!test_is_orphan())
		free(self->text);
	emu_process_deinit(&self->e);
}

static void start(struct fixture_clients *self, const char *option)
{
	const char *const options[] = {"--device=dev1", "--device=dev2", option, NULL};

	ASSERT_EQ(emu_process_start(&self->e, options), 0);
}

/* And says which. */
static bool has_mosquitto(void)
{
	static const char *const argv[] = {"/usr/bin/mosquitto_pub", "--version", NULL};
	char text[256];

	if (access(argv[0], X_OK) != 0)
		return false;
	process_run(argv, text, sizeof(text));
	TEST_LOG("judge: %.*s", (int)strcspn(text, "\n"), text);
	return true;
}

#define SKIP_WITHOUT_MOSQUITTO SKIP_IF(!has_mosquitto(), "needs mosquitto-clients")

/* The text of a file, until the next call. */
static const char *text_of(struct fixture_clients *self, const char *path)
{
	free(self->text);
	self->text = emu_read_file(path);
	return self->text ? self->text : "";
}

/* --- mosquitto_pub and mosquitto_sub ---------------------------------------------------------- */

struct login {
	char port[8], expiry[24];
	char signature[EVP_MAX_MD_SIZE + 1];
};

/* mosquitto takes Authentication Data as a string: a signature with a NUL in it is passed over. */
static void login_make(struct fixture_clients *self, const char *device, struct login *login)
{
	uint64_t expiry_ms = (uint64_t)time(NULL) * 1000 + 3600000;
	uint8_t key[64];
	ssize_t n = emu_process_key(&self->e, device, key, sizeof(key));
	unsigned int len;
	char text[300];

	ASSERT_GT(n, 0);
	do {
		int text_len;

		snprintf(login->expiry, sizeof(login->expiry), "%llu", (unsigned long long)++expiry_ms);
		text_len = snprintf(text, sizeof(text), "localhost\n%s\n\n\n%s\n", device, login->expiry);
		memset(login->signature, 0, sizeof(login->signature));
		HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)text, (size_t)text_len,
		     (unsigned char *)login->signature, &len);
	} while (memchr(login->signature, 0, len));
	snprintf(login->port, sizeof(login->port), "%u", self->e.port);
}

#define N_ARGS_MAX 80

/* Runs mosquitto_pub or _sub as @device with the arguments @more; its exit code. */
static int mosquitto(struct fixture_clients *self, const char *program, const char *device,
		     const char *const *more)
{
	struct login login;
	size_t n = 0;

	login_make(self, device, &login);

	const char *const first[] = {
		program,
		"-V",
		"5",
		"-h",
		"localhost",
		"-p",
		login.port,
		"--cafile",
		self->e.ca_file,
		"-d",
		"-i",
		device,
		"-D",
		"connect",
		"authentication-method",
		"SAS",
		"-D",
		"connect",
		"authentication-data",
		login.signature,
		"-D",
		"connect",
		"user-property",
		"api-version",
		"2020-10-01-preview",
		"-D",
		"connect",
		"user-property",
		"sas-expiry",
		login.expiry,
	};
	const char *argv[N_ARGS_MAX];

	for (; n < sizeof(first) / sizeof(first[0]); n++)
		argv[n] = first[n];
	for (; *more && n < N_ARGS_MAX - 1; n++)
		argv[n] = *more++;
	argv[n] = NULL;
	unlink(self->out);
	unlink(self->err);
	return emu_wait(emu_spawn(argv, self->out, self->err, -1));
}

TEST_F(clients, mosquitto_pub_sends_telemetry)
{
	static const char *const more[] = {"-q",
					   "1",
					   "-t",
					   "$iothub/telemetry",
					   "-m",
					   "hello",
					   "-D",
					   "publish",
					   "content-type",
					   "text/plain",
					   "-D",
					   "publish",
					   "user-property",
					   "message-id",
					   "m1",
					   NULL};

	SKIP_WITHOUT_MOSQUITTO;
	start(self, NULL);
	EXPECT_EQ(mosquitto(self, "mosquitto_pub", "dev1", more), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "received CONNACK (0)");
	EXPECT_CONTAINS(self->text, "received PUBACK (Mid: 1, RC:0)");
}

TEST_F(clients, mosquitto_pub_sends_100_with_an_alias)
{
	static const char *const more[] = {"-q",  "1",  "-t",      "$iothub/telemetry", "-m", "x", "--repeat",
					   "100", "-D", "publish", "topic-alias",       "3",  NULL};

	SKIP_WITHOUT_MOSQUITTO;
	start(self, NULL);
	EXPECT_EQ(mosquitto(self, "mosquitto_pub", "dev1", more), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "received PUBACK (Mid: 100, RC:0)");
}

TEST_F(clients, mosquitto_pub_is_told_what_is_wrong)
{
	static const char *const property[] = {"-q",  "1",  "-t",      "$iothub/telemetry", "-m",
					       "x",   "-D", "publish", "user-property",     "colour",
					       "red", NULL};
	static const char *const topic[] = {"-q", "1", "-t", "$iothub/Telemetry", "-m", "x", NULL};
	static const char *const refused[] = {"-q", "1", "-t", "$iothub/telemetry", "-m", "x", NULL};

	SKIP_WITHOUT_MOSQUITTO;
	start(self, "--refuse=0502");
	mosquitto(self, "mosquitto_pub", "dev1", property);
	EXPECT_CONTAINS(text_of(self, self->out), "received PUBACK (Mid: 1, RC:131)");
	mosquitto(self, "mosquitto_pub", "dev1", topic);
	EXPECT_CONTAINS(text_of(self, self->out), "received PUBACK (Mid: 1, RC:131)");
	mosquitto(self, "mosquitto_pub", "dev1", refused);
	EXPECT_CONTAINS(text_of(self, self->out), "received PUBACK (Mid: 1, RC:151)");
}

TEST_F(clients, mosquitto_pub_with_what_the_hub_refuses)
{
	static const char *const user[] = {"-t", "$iothub/telemetry", "-m", "x", "-u", "u", NULL};
	static const char *const will[] = {"-t", "$iothub/telemetry", "-m", "x", "--will-topic", "w", NULL};
	static const char *const property[] = {"-t",      "$iothub/telemetry", "-m",     "x",   "-D",
					       "connect", "user-property",     "colour", "red", NULL};
	static const char *const twice[] = {"-t",      "$iothub/telemetry", "-m",          "x", "-D",
					    "connect", "user-property",     "api-version", "1", NULL};

	SKIP_WITHOUT_MOSQUITTO;
	start(self, NULL);
	EXPECT_NE(mosquitto(self, "mosquitto_pub", "dev1", user), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "received CONNACK (131)");
	EXPECT_NE(mosquitto(self, "mosquitto_pub", "dev1", will), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "received CONNACK (131)");
	EXPECT_NE(mosquitto(self, "mosquitto_pub", "dev1", property), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "received CONNACK (131)");
	EXPECT_NE(mosquitto(self, "mosquitto_pub", "dev1", twice), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "received CONNACK (131)");
}

/* Without credentials, in this version of MQTT. */
static void expect_refused(struct fixture_clients *self, const char *version, const char *said)
{
	char port[8];
	const char *const argv[] = {"mosquitto_pub",
				    "-V",
				    version,
				    "-h",
				    "localhost",
				    "-p",
				    port,
				    "--cafile",
				    self->e.ca_file,
				    "-i",
				    "dev1",
				    "-d",
				    "-t",
				    "$iothub/telemetry",
				    "-m",
				    "x",
				    NULL};

	snprintf(port, sizeof(port), "%u", self->e.port);
	EXPECT_NE(emu_wait(emu_spawn(argv, self->out, self->err, -1)), 0);
	EXPECT_CONTAINS(text_of(self, self->out), said);
}

TEST_F(clients, mosquitto_pub_without_credentials_or_in_mqtt_3)
{
	SKIP_WITHOUT_MOSQUITTO;
	start(self, NULL);
	expect_refused(self, "5", "received CONNACK (131)");
	expect_refused(self, "311", "received CONNACK (1)");
}

TEST_F(clients, mosquitto_sub_subscribes)
{
	static const char *const good[] = {"-E",
					   "-q",
					   "1",
					   "-t",
					   "$iothub/commands",
					   "-t",
					   "$iothub/methods/+",
					   "-t",
					   "$iothub/twin/patch/desired",
					   NULL};
	static const char *const unknown[] = {"-E", "-t", "$iothub/nothing", NULL};
	static const char *const wild[] = {"-E", "-t", "$iothub/#", NULL};

	SKIP_WITHOUT_MOSQUITTO;
	start(self, NULL);
	EXPECT_EQ(mosquitto(self, "mosquitto_sub", "dev1", good), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "Subscribed (mid: 1): 1, 0, 0");
	mosquitto(self, "mosquitto_sub", "dev1", unknown);
	EXPECT_CONTAINS(text_of(self, self->out), "Subscribed (mid: 1): 143");
	mosquitto(self, "mosquitto_sub", "dev1", wild);
	EXPECT_CONTAINS(text_of(self, self->out), "Subscribed (mid: 1): 162");
}

/* --- hubctl ----------------------------------------------------------------------------------- */

/* Starts `hubctl monitor` with the options and waits until nothing can be missed. */
static void monitor_start(struct fixture_clients *self, const char *a, const char *b)
{
	char program[EMU_PROCESS_PATH_MAX], ready[16];
	const char *const argv[] = {
		program, "monitor", "--ready-fd=3", "--connection-string-file", self->service, a, b, NULL};
	int fds[2];

	emu_program_path("hubctl", program);
	ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
	self->monitor = emu_spawn(argv, self->out, self->err, fds[1]);
	close(fds[1]);
	ASSERT_EQ(read(fds[0], ready, sizeof(ready)), 6);
	close(fds[0]);
}

static int monitor_wait(struct fixture_clients *self)
{
	int code = emu_wait(self->monitor);

	self->monitor = 0;
	return code;
}

static struct wire_client *device(struct fixture_clients *self, struct wire *wire, const char *id)
{
	struct wire_client *c = wire_open(wire, "localhost", self->e.port);
	uint8_t key[64], bytes[HUB_CONNECT_MAX];
	ssize_t n = emu_process_key(&self->e, id, key, sizeof(key));
	struct hub_connect connect = hub_connect_make(id, BYTES(key, (size_t)n));
	struct mqtt_packet packet;

	ASSERT_TRUE(wire_wait_open(c));
	ASSERT_TRUE(wire_send_bytes(c, hub_connect_encode(&connect, bytes)));
	ASSERT_TRUE(wire_next(c, &packet));
	ASSERT_EQ(packet.connack.reason, 0);
	return c;
}

static const char *member(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_object_get_string(value) : "(none)";
}

TEST_F(clients, hubctl_prints_all_a_message_has)
{
	struct mqtt_packet packet, answer;
	uint8_t scratch[1024];
	struct wire_client *c;
	struct wire *wire;
	json_object *json, *system, *properties;

	start(self, NULL);
	wire = wire_new(self->e.ca_file);
	c = device(self, wire, "dev1");
	monitor_start(self, "--count=2", "--json");
	packet = hub_publish_make("$iothub/telemetry", 1, 1, "gr\xc3\xbc\xc3\x9f/\"e",
				  "message-id=m1,user-id=u,correlation-id=c,content-encoding=utf-8,"
				  "creation-time=2021-04-21T11:30:16Z,@k=v,@k2=v2",
				  scratch);
	packet.properties.content_type = BYTES_LIT("text/plain");
	mqtt_set(&packet.properties, MQTT_PROP_CONTENT_TYPE);
	ASSERT_TRUE(wire_send(c, &packet));
	ASSERT_TRUE(wire_next(c, &answer));
	packet = hub_publish_make("$iothub/telemetry", 1, 2, "\xff\x01", NULL, scratch);
	ASSERT_TRUE(wire_send(c, &packet));
	ASSERT_TRUE(wire_next(c, &answer));
	EXPECT_EQ(monitor_wait(self), 0);
	EXPECT_STREQ(text_of(self, self->err), "monitoring all devices on localhost\n");

	json = json_tokener_parse(text_of(self, self->out));
	ASSERT_TRUE(json != NULL);
	EXPECT_STREQ(member(json, "device-id"), "dev1");
	EXPECT_STREQ(member(json, "module-id"), "(none)");
	EXPECT_STREQ(member(json, "enqueued-sequence"), "1");
	EXPECT_EQ(strlen(member(json, "enqueued-time")), 24u);
	EXPECT_STREQ(member(json, "payload"), "gr\xc3\xbc\xc3\x9f/\"e");
	ASSERT_TRUE(json_object_object_get_ex(json, "system-properties", &system));
	EXPECT_STREQ(member(system, "content-type"), "text/plain");
	EXPECT_STREQ(member(system, "message-id"), "m1");
	EXPECT_STREQ(member(system, "user-id"), "u");
	EXPECT_STREQ(member(system, "correlation-id"), "c");
	EXPECT_STREQ(member(system, "content-encoding"), "utf-8");
	EXPECT_STREQ(member(system, "iothub-creation-time-utc"), "2021-04-21T11:30:16.000Z");
	EXPECT_EQ(json_object_object_length(system), 6);
	ASSERT_TRUE(json_object_object_get_ex(json, "properties", &properties));
	EXPECT_STREQ(member(properties, "k"), "v");
	EXPECT_STREQ(member(properties, "k2"), "v2");
	json_object_put(json);
	EXPECT_CONTAINS(self->text, "\n");
	json = json_tokener_parse(strchr(self->text, '\n') + 1);
	EXPECT_STREQ(member(json, "payload-base64"), "/wE=");
	EXPECT_STREQ(member(json, "payload"), "(none)");
	json_object_put(json);
	wire_close(c);
	wire_free(wire);
}

TEST_F(clients, hubctl_of_one_device)
{
	struct wire_client *one, *two;
	struct mqtt_packet packet, answer;
	uint8_t scratch[1024];
	struct wire *wire;

	start(self, NULL);
	wire = wire_new(self->e.ca_file);
	one = device(self, wire, "dev1");
	two = device(self, wire, "dev2");
	monitor_start(self, "--count=1", "--device=dev2");
	packet = hub_publish_make("$iothub/telemetry", 1, 1, "x", NULL, scratch);
	wire_send(one, &packet);
	ASSERT_TRUE(wire_next(one, &answer));
	wire_send(two, &packet);
	ASSERT_TRUE(wire_next(two, &answer));
	EXPECT_EQ(monitor_wait(self), 0);
	EXPECT_CONTAINS(text_of(self, self->out), "\"device-id\":\"dev2\"");
	EXPECT_TRUE(strstr(self->text, "dev1") == NULL);
	wire_close(one);
	wire_close(two);
	wire_free(wire);
}

#define N_MESSAGES 100000

/* As fast as the hub acknowledges, with a full window. */
static void publish_many(struct wire_client *c, uint32_t n)
{
	uint8_t scratch[1024];
	struct mqtt_packet packet, answer;
	uint32_t n_sent = 0, n_acked = 0;
	char payload[32];

	while (n_acked < n) {
		while (n_sent < n && n_sent - n_acked < 16) {
			snprintf(payload, sizeof(payload), "%u", n_sent);
			packet =
				hub_publish_make("$iothub/telemetry", 1, (uint16_t)(n_sent % 16 + 1), payload,
						 "message-id=0123456789abcdef0123456789abcdef,@a=b", scratch);
			ASSERT_TRUE(wire_send(c, &packet));
			n_sent++;
		}
		ASSERT_TRUE(wire_next(c, &answer));
		ASSERT_EQ(answer.type, MQTT_PUBACK + 0u);
		ASSERT_EQ(answer.ack.reason, 0);
		n_acked++;
	}
}

TEST_F_TIMEOUT(clients, hubctl_keeps_up, 120)
{
	struct timespec from, to;
	struct wire_client *c;
	struct wire *wire;
	char *line;
	uint32_t n = 0;

	start(self, "--quiet");
	wire = wire_new(self->e.ca_file);
	c = device(self, wire, "dev1");
	monitor_start(self, "--count=100000", NULL);
	clock_gettime(CLOCK_MONOTONIC, &from);
	publish_many(c, N_MESSAGES);
	EXPECT_EQ(monitor_wait(self), 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	TEST_LOG("%d messages in %.1f s", N_MESSAGES,
		 (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
	text_of(self, self->out);
	for (line = strtok(self->text, "\n"); line; line = strtok(NULL, "\n")) {
		char want[40];

		snprintf(want, sizeof(want), "\"payload\":\"%u\"}", n++);
		if (!strstr(line, want) || strstr(line, "\"dropped\""))
			ASSERT_STREQ(line, want);
	}
	EXPECT_EQ(n, N_MESSAGES + 0u);
	wire_close(c);
	wire_free(wire);
}

/* Its exit code with these options; what it said is in @err. */
static int hubctl(struct fixture_clients *self, const char *a, const char *b, const char *c, const char *d)
{
	char program[EMU_PROCESS_PATH_MAX];
	const char *const argv[] = {program, a, b, c, d, NULL};

	emu_program_path("hubctl", program);
	unlink(self->out);
	unlink(self->err);
	return emu_wait(emu_spawn(argv, self->out, self->err, -1));
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ASSERT_TRUE(f != NULL);
	fputs(text, f);
	fclose(f);
}

TEST_F(clients, hubctl_says_what_is_wrong)
{
	char path[100], option[140], text[600];

	start(self, NULL);
	EXPECT_EQ(hubctl(self, NULL, NULL, NULL, NULL), 2);
	EXPECT_EQ(hubctl(self, "--version", NULL, NULL, NULL), 0);
	EXPECT_EQ(strncmp(text_of(self, self->out), "hubctl ", 7), 0);
	EXPECT_EQ(hubctl(self, "monitor", "--help", NULL, NULL), 0);
	EXPECT_EQ(hubctl(self, "nosuch", NULL, NULL, NULL), 2);
	EXPECT_STREQ(text_of(self, self->err), "hubctl: no such command: nosuch; see hubctl --help\n");
	EXPECT_EQ(hubctl(self, "monitor", "--count=0", NULL, NULL), 2);
	EXPECT_STREQ(text_of(self, self->err),
		     "hubctl: --count 0: not a valid value; see hubctl monitor --help\n");
	EXPECT_EQ(hubctl(self, "monitor", "--connection-string-file", "/nowhere", NULL), 1);
	EXPECT_STREQ(text_of(self, self->err),
		     "hubctl: /nowhere: No such file or directory; name the service connection "
		     "string with --connection-string-file\n");

	snprintf(path, sizeof(path), "%s/wrong", self->e.dir);
	snprintf(option, sizeof(option), "--connection-string-file=%s", path);
	write_text(path, "HostName=localhost;SharedAccessKeyName=service\n");
	EXPECT_EQ(hubctl(self, "monitor", option, NULL, NULL), 1);
	EXPECT_CONTAINS(text_of(self, self->err), "SharedAccessKey is missing");
	write_text(path, "HostName=localhost;SharedAccessKeyName=service;SharedAccessKey=secret?;Port=1\n");
	EXPECT_EQ(hubctl(self, "monitor", option, NULL, NULL), 1);
	EXPECT_CONTAINS(text_of(self, self->err), "the value of SharedAccessKey is not valid");
	EXPECT_TRUE(strstr(self->text, "secret") == NULL);
	snprintf(text, sizeof(text),
		 "HostName=localhost;SharedAccessKeyName=service;SharedAccessKey=AAAA;Port=%u", self->e.port);
	write_text(path, text);
	EXPECT_EQ(hubctl(self, "monitor", option, NULL, NULL), 1);
	EXPECT_STREQ(text_of(self, self->err),
		     "hubctl: localhost refused the connection: Not authorized (status 0101)\n");
	/* Another CA: the system's does not know this certificate. */
	snprintf(text, sizeof(text), "--ca-file=%s", "/etc/ssl/certs/ca-certificates.crt");
	if (access(text + sizeof("--ca-file=") - 1, R_OK) == 0) {
		EXPECT_EQ(hubctl(self, "monitor", option, text, NULL), 1);
		EXPECT_CONTAINS(text_of(self, self->err),
				"its certificate is not trusted; name the right CA");
	}
	EXPECT_EQ(hubctl(self, "monitor", "--device=a/b/c", "--connection-string-file", self->service), 1);
	EXPECT_STREQ(text_of(self, self->err),
		     "hubctl: localhost refused the subscription to $service/telemetry/a/b/c: "
		     "Topic Filter invalid\n");
}

TEST_F(clients, hubctl_ends_when_asked_and_when_the_hub_does)
{
	start(self, NULL);
	monitor_start(self, NULL, NULL);
	kill(self->monitor, SIGTERM);
	EXPECT_EQ(monitor_wait(self), 0);
	unlink(self->err);
	monitor_start(self, "--quiet", NULL);
	EXPECT_EQ(emu_process_stop(&self->e, SIGTERM), 0);
	EXPECT_EQ(monitor_wait(self), 1);
	EXPECT_STREQ(text_of(self, self->err),
		     "hubctl: localhost ended the connection: Server shutting down\n");
}

TEST_HARNESS_MAIN
