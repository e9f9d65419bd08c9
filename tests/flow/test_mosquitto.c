/* SPDX-License-Identifier: MIT */
/*
 * The daemon and a stock Mosquitto over TLS, with a stock subscriber at the other end: what the daemon puts
 * on the wire, read by somebody who did not write it. Topics and properties are the contract's; the broker
 * knows nothing of the contract, so authentication is none.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/broker.h"
#include "tests/support/certs.h"
#include "tests/support/lab.h"

#define TOPIC "$iothub/telemetry"
/* Topic, QoS, length, user properties, payload in hexadecimal. */
#define FORMAT "%t %q %l %P %x"

FIXTURE(mosquitto)
{
	struct lab lab; /* no emulator: files, daemon */
	struct broker broker;
	struct certs certs;
	uint16_t port;
	pid_t watcher;
};

FIXTURE_SETUP(mosquitto)
{
	char version[256];

	SKIP_IF(!broker_is_installed(), "there is no mosquitto (packages mosquitto, mosquitto-clients)");
	broker_version(version, sizeof(version));
	TEST_LOG("judge: %s", version);
	lab_init(&self->lab);
	broker_init(&self->broker);
	ASSERT_EQ(certs_init(&self->certs), 0);
	self->port = free_port();
}

FIXTURE_TEARDOWN(mosquitto)
{
	lab_show_log(&self->lab, "daemon");
	if (!test_is_orphan() && harness_state.result->n_failed) {
		_cleanup_(free_ptr) char *broker = broker_log(&self->broker);

		TEST_LOG("broker: %s", broker);
	}
	process_stop(&self->watcher, SIGKILL);
	lab_deinit(&self->lab);
	broker_deinit(&self->broker);
	certs_deinit(&self->certs);
}

static void start_broker(struct fixture_mosquitto *self, const char *options)
{
	char config[1024];

	snprintf(config, sizeof(config),
		 "listener %u 127.0.0.1\n"
		 "certfile %s\n"
		 "keyfile %s\n"
		 "%s\n",
		 self->port, self->certs.cert_file, self->certs.key_file, options);
	broker_start(&self->broker, config);
}

static void start_daemon(struct fixture_mosquitto *self)
{
	char config[1024];

	snprintf(config, sizeof(config),
		 "{\"host\": \"localhost\", \"port\": %u, \"device-id\": \"dev1\",\n"
		 " \"authentication\": \"none\", \"ca-file\": \"%s\", \"mount\": \"%s\"}\n",
		 self->port, self->certs.ca_file, self->lab.mount);
	lab_write_file(&self->lab, "iothubd.json", config);
	lab_start_daemon(&self->lab);
	lab_await_state(&self->lab, "connected");
}

/* Subscribes in the session of the watcher, which is not there yet. */
static void subscribe(struct fixture_mosquitto *self)
{
	broker_subscribe(self->port, self->certs.ca_file, TOPIC);
}

/* What the watcher prints. */
static FILE *watch(struct fixture_mosquitto *self)
{
	FILE *stream;
	int fd;

	self->watcher = broker_watch(&self->broker, self->port, self->certs.ca_file, TOPIC, FORMAT, &fd);
	stream = fdopen(fd, "re");
	ASSERT_TRUE(stream != NULL);
	return stream;
}

/* All three, with default options. */
static FILE *start_all(struct fixture_mosquitto *self, const char *options)
{
	start_broker(self, options);
	subscribe(self);
	start_daemon(self);
	return watch(self);
}

/* The next message has exactly these bytes; its message-id goes to @id (33 characters and NUL). */
static void expect_message(FILE *watcher, const void *bytes, size_t len, char id[static 34])
{
	_cleanup_(free_ptr) char *line = NULL, *hex = malloc(2 * len + 1);
	char topic[64], first[64], second[64];
	unsigned long got_len;
	unsigned int qos, year;
	size_t size = 0;
	int at = 0;

	ASSERT_GT(getline(&line, &size, watcher), 0);
	ASSERT_EQ(sscanf(line, "%63s %u %lu %63s %63s %n", topic, &qos, &got_len, first, second, &at), 5);
	EXPECT_STREQ(topic, TOPIC);
	EXPECT_EQ(qos, 1u);
	ASSERT_EQ(got_len, len);
	ASSERT_EQ(sscanf(first, "message-id:%33s", id), 1);
	EXPECT_EQ(strlen(first), strlen("message-id:") + 33);
	EXPECT_EQ(sscanf(second, "creation-time:%4u-%*2u-%*2uT%*2u:%*2u:%*2u.%*3uZ", &year), 1);
	EXPECT_EQ(strlen(second), strlen("creation-time:2026-01-01T00:00:00.000Z"));
	for (size_t i = 0; i < len; ++i)
		sprintf(hex + 2 * i, "%02x", ((const uint8_t *)bytes)[i]);
	hex[2 * len] = '\0';
	line[strcspn(line, "\n")] = '\0';
	EXPECT_EQ(strlen(line + at), 2 * len);
	EXPECT_TRUE(strcmp(line + at, hex) == 0);
}

static void expect_text(FILE *watcher, const char *text)
{
	char id[34];

	expect_message(watcher, text, strlen(text), id);
}

static int open_file(struct fixture_mosquitto *self, const char *name)
{
	int fd = open(lab_path(&self->lab, name), O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	return fd;
}

TEST_F(mosquitto, all_three_files_arrive_byte_for_byte)
{
	_cleanup_(fclose_ptr) FILE *watcher = start_all(self, "");
	_cleanup_(close_fd) int raw = open_file(self, "telemetry.raw");
	static uint8_t every[256], big[200 * 1024];
	char ids[4][34], text[128];
	int file;

	for (size_t i = 0; i < sizeof(every); ++i)
		every[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(big); ++i)
		big[i] = (uint8_t)test_random();
	EXPECT_EQ(lab_shell(&self->lab, "sh", "printf 'one\\nzwei \\303\\274\\n' > $M/telemetry"), 0);
	expect_message(watcher, "one", 3, ids[0]);
	expect_message(watcher, "zwei \303\274", 7, ids[1]);
	ASSERT_EQ(write(raw, every, sizeof(every)), (ssize_t)sizeof(every));
	expect_message(watcher, every, sizeof(every), ids[2]);
	file = open_file(self, "telemetry.file");
	for (size_t i = 0; i < sizeof(big); i += 4096)
		ASSERT_EQ(write(file, big + i, 4096), 4096);
	close(file);
	expect_message(watcher, big, sizeof(big), ids[3]);
	for (int i = 0; i < 4; ++i)
		for (int j = 0; j < i; ++j)
			EXPECT_NE(strcmp(ids[i], ids[j]), 0);
	lab_status_text(&self->lab, "session", text, sizeof(text));
	EXPECT_STREQ(text, "new");
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
}

/* Without a limit of the broker's the contract's holds: a message under way must not reserve all of the
 * queue. */
TEST_F(mosquitto, a_broker_without_limits_leaves_room_for_others)
{
	_cleanup_(close_fd) int raw = -1, file = -1, other = -1;

	start_broker(self, "");
	start_daemon(self);
	EXPECT_EQ(lab_status_number(&self->lab, "packet-bytes-max"), 262144u);
	raw = open_file(self, "telemetry.raw");
	file = open_file(self, "telemetry.file");
	other = open_file(self, "telemetry.file");
	EXPECT_EQ(write(file, "one", 3), 3);
	EXPECT_EQ(write(other, "two", 3), 3);
	EXPECT_EQ(write(raw, "three", 5), 5);
	EXPECT_EQ(fsync(file), 0);
	EXPECT_EQ(fsync(other), 0);
	EXPECT_EQ(fsync(raw), 0);
	EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), 3u);
}

/* The broker answers for a message nobody subscribed to with reason code 16, which is a success. */
TEST_F(mosquitto, no_matching_subscribers_is_a_success)
{
	_cleanup_(free_ptr) char *log = NULL;
	_cleanup_(close_fd) int fd = -1;

	start_broker(self, "");
	start_daemon(self);
	fd = open_file(self, "telemetry");
	EXPECT_EQ(write(fd, "unheard\n", 8), 8);
	EXPECT_EQ(fsync(fd), 0);
	EXPECT_EQ(lab_status_number(&self->lab, "acknowledged"), 1u);
	EXPECT_EQ(lab_status_number(&self->lab, "refused"), 0u);
	log = broker_log(&self->broker);
	EXPECT_CONTAINS(log, "Sending PUBACK to dev1 (m1, rc16)");
}

TEST_F(mosquitto, limits_of_the_broker_are_kept)
{
	static const char limits[] = "max_inflight_messages 3\n"
				     "max_packet_size 210000\n"
				     "max_topic_alias 0\n"
				     "max_keepalive 60\n";
	_cleanup_(fclose_ptr) FILE *watcher = start_all(self, limits);
	_cleanup_(close_fd) int raw = open_file(self, "telemetry.raw");
	static char big[210000];
	char text[64];

	EXPECT_EQ(lab_status_number(&self->lab, "receive-maximum"), 3u);
	EXPECT_EQ(lab_status_number(&self->lab, "packet-bytes-max"), 210000u);
	EXPECT_EQ(lab_status_number(&self->lab, "topic-alias-maximum"), 0u);
	EXPECT_EQ(lab_status_number(&self->lab, "keep-alive"), 60u);
	EXPECT_EQ(write(raw, big, sizeof(big)), -1);
	EXPECT_EQ(errno, EMSGSIZE);
	ASSERT_EQ(write(raw, big, 200 * 1024), 200 * 1024);
	for (int i = 0; i < 1000; ++i) {
		snprintf(text, sizeof(text), "message %d", i);
		ASSERT_EQ(write(raw, text, strlen(text)), (ssize_t)strlen(text));
	}
	EXPECT_EQ(fsync(raw), 0);
	expect_message(watcher, big, 200 * 1024, text);
	for (int i = 0; i < 1000; ++i) {
		snprintf(text, sizeof(text), "message %d", i);
		expect_text(watcher, text);
	}
	/* Never too many at once: the broker would have said so. */
	EXPECT_EQ(lab_status_number(&self->lab, "connects"), 1u);
	EXPECT_EQ(lab_status_number(&self->lab, "sent-again"), 0u);
}

/* Puts @n messages on their way to a broker that does not read them, and kills it. */
static void lose_in_flight(struct fixture_mosquitto *self, int fd, const char *const *messages, uint64_t n)
{
	ASSERT_EQ(kill(self->broker.pid, SIGSTOP), 0);
	for (uint64_t i = 0; i < n; ++i)
		ASSERT_EQ(write(fd, messages[i], strlen(messages[i])), (ssize_t)strlen(messages[i]));
	/* A write returns before its message leaves. */
	while (lab_status_number(&self->lab, "in-flight") != n)
		;
	broker_stop(&self->broker, SIGKILL);
	lab_await_state(&self->lab, "waiting");
}

static void expect_session(struct fixture_mosquitto *self, const char *want)
{
	char text[64];

	lab_status_text(&self->lab, "session", text, sizeof(text));
	EXPECT_STREQ(text, want);
}

TEST_F(mosquitto, a_restarted_broker_that_kept_the_session_gets_duplicates)
{
	static const char *const messages[] = {"a", "b", "c", "d", "e"};
	static const char persistent[] = "persistence true";
	_cleanup_(fclose_ptr) FILE *watcher = NULL;
	_cleanup_(free_ptr) char *log = NULL;
	_cleanup_(close_fd) int raw = -1;

	start_broker(self, persistent);
	subscribe(self);
	start_daemon(self);
	raw = open_file(self, "telemetry.raw");
	ASSERT_EQ(write(raw, "first", 5), 5);
	ASSERT_EQ(fsync(raw), 0);
	/* In order: the sessions are on disk from here on. */
	EXPECT_EQ(broker_stop(&self->broker, SIGTERM), 0);
	lab_await_state(&self->lab, "waiting");
	ASSERT_EQ(write(raw, "away", 4), 4);
	start_broker(self, persistent);
	ASSERT_EQ(fsync(raw), 0);
	expect_session(self, "resumed");
	EXPECT_EQ(lab_status_number(&self->lab, "sent-again"), 0u);
	lose_in_flight(self, raw, messages, ARRAY_SIZE(messages));
	start_broker(self, persistent);
	ASSERT_EQ(fsync(raw), 0);
	expect_session(self, "resumed");
	EXPECT_EQ(lab_status_number(&self->lab, "sent-again"), ARRAY_SIZE(messages));
	log = broker_log(&self->broker);
	EXPECT_EQ(text_count(log, "Received PUBLISH from dev1 (d1, q1, r0, "), ARRAY_SIZE(messages));
	EXPECT_EQ(text_count(log, "Received PUBLISH from dev1 (d0, q1, r0, "), 2u);
	/* What was acknowledged between the broker's last save and its death is the broker's loss. */
	watcher = watch(self);
	expect_text(watcher, "first");
	for (size_t i = 0; i < ARRAY_SIZE(messages); ++i)
		expect_text(watcher, messages[i]);
}

TEST_F(mosquitto, a_restarted_broker_that_lost_the_session_gets_new_messages)
{
	static const char *const messages[] = {"a", "b", "c"};
	_cleanup_(free_ptr) char *log = NULL;
	_cleanup_(close_fd) int raw = -1;

	start_broker(self, "");
	start_daemon(self);
	raw = open_file(self, "telemetry.raw");
	lose_in_flight(self, raw, messages, ARRAY_SIZE(messages));
	start_broker(self, "");
	ASSERT_EQ(fsync(raw), 0);
	expect_session(self, "new");
	EXPECT_EQ(lab_status_number(&self->lab, "sent-again"), ARRAY_SIZE(messages));
	log = broker_log(&self->broker);
	EXPECT_EQ(text_count(log, "Received PUBLISH from dev1 (d1"), 0u);
	EXPECT_EQ(text_count(log, "Received PUBLISH from dev1 (d0, q1, r0, "), ARRAY_SIZE(messages));
}

TEST_HARNESS_MAIN
