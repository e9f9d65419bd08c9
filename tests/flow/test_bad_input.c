/* SPDX-License-Identifier: MIT */
/*
 * What people get wrong: every mistake is one line that names the thing and what to do. Before the files are
 * there it comes with exit code 1 or 2; afterwards it is in `status`, and in the log once, however often the
 * daemon tries again.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/broker.h"
#include "tests/support/certs.h"
#include "tests/support/lab.h"

#define CONNECTION_STRING "HostName=hub.example;DeviceId=dev1;SharedAccessKey=c2VjcmV0"

/* --- before the files are there --------------------------------------------------------------- */

FIXTURE(start)
{
	struct lab lab;
	char text[8192]; /* what the daemon said last */
};

FIXTURE_SETUP(start)
{
	lab_init(&self->lab);
	/* In place of the machine's configuration; a test names another one after it. */
	lab_write_file(&self->lab, "none.json", "{\"mount\": \"hub\"}");
}

FIXTURE_TEARDOWN(start)
{
	lab_deinit(&self->lab);
}

/* Runs the daemon with up to four arguments and wants it to end with @code. */
static void run(struct fixture_start *self, int code, const char *a, const char *b, const char *c,
		const char *d)
{
	char config[LAB_PATH_MAX];
	const char *const argv[] = {process_path("iothubd"), "--config", config, a, b, c, d, NULL};

	snprintf(config, sizeof(config), "%s/none.json", self->lab.dir);
	EXPECT_EQ(process_run(argv, self->text, sizeof(self->text)), code);
}

/* What it said was one line, with both parts. */
static void expect_error(struct fixture_start *self, const char *first, const char *second)
{
	EXPECT_EQ(text_count(self->text, "\n"), 1u);
	EXPECT_CONTAINS(self->text, first);
	EXPECT_CONTAINS(self->text, second);
}

static const char *in_lab(const struct fixture_start *self, const char *name)
{
	static char paths[4][LAB_PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, LAB_PATH_MAX, "%s/%s", self->lab.dir, name);
	return path;
}

static void run_config(struct fixture_start *self, const char *json)
{
	lab_write_file(&self->lab, "c.json", json);
	run(self, 2, "--config", in_lab(self, "c.json"), NULL, NULL);
}

TEST_F(start, options)
{
	run(self, 0, "--help", NULL, NULL, NULL);
	EXPECT_CONTAINS(self->text, "usage: iothubd");
	EXPECT_CONTAINS(self->text, "--connection-string-file");
	run(self, 0, "--version", NULL, NULL, NULL);
	EXPECT_STREQ(self->text, "iothubd " IOTHUB_VERSION "\n");
	run(self, 2, "now", NULL, NULL, NULL);
	expect_error(self, "unexpected argument now", "--help");
	run(self, 2, "--moutn", NULL, NULL, NULL);
	EXPECT_CONTAINS(self->text, "--moutn");
	EXPECT_CONTAINS(self->text, "--help");
	run(self, 2, "--ready-fd", "99", NULL, NULL);
	expect_error(self, "--ready-fd 99", "not an open descriptor");
	lab_write_file(&self->lab, "cs", CONNECTION_STRING);
	run(self, 2, "--log-level", "loud", "--connection-string-file", in_lab(self, "cs"));
	expect_error(self, "--log-level", "error, warning, info or debug");
}

TEST_F(start, check)
{
	lab_write_file(&self->lab, "cs", CONNECTION_STRING "\n");
	run(self, 0, "--check", "--connection-string-file", in_lab(self, "cs"), NULL);
	EXPECT_STREQ(self->text, "");
	lab_write_file(&self->lab, "cs", "HostName=hub.example");
	run(self, 2, "--check", "--connection-string-file", in_lab(self, "cs"), NULL);
	expect_error(self, in_lab(self, "cs"), "DeviceId is missing");
}

TEST_F(start, missing_files)
{
	run(self, 2, "--config", in_lab(self, "missing.json"), NULL, NULL);
	expect_error(self, in_lab(self, "missing.json"), "does not exist: create it or name another");
	run(self, 2, "--connection-string-file", in_lab(self, "none"), NULL, NULL);
	expect_error(self, in_lab(self, "none"), "does not exist: create it or name another");
	run_config(self, "{\"host\": \"h\", \"device-id\": \"d\", \"shared-access-key-file\": \"no.key\"}");
	expect_error(self, in_lab(self, "no.key"), "does not exist: create it or name another");
	run(self, 1, "--config", self->lab.dir, NULL, NULL);
	expect_error(self, self->lab.dir, "is a directory: name a file");
}

TEST_F(start, connection_strings)
{
	static const char *const rows[][2] = {
		{"", "HostName is missing"},
		{"hub.example", "part 1 has no '='"},
		{"HostName=hub.example;DeviceId=dev1", "SharedAccessKey is missing"},
		{"HostName=hub.example;DeviceId=dev1;SharedAccessKey=se cret",
		 "SharedAccessKey is not base64"},
		{"HostName=hub.example:8883;DeviceId=dev1;SharedAccessKey=c2VjcmV0",
		 "HostName is not a host name"},
		{"HostNam=hub.example;DeviceId=dev1;SharedAccessKey=c2VjcmV0", "did you mean HostName?"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		lab_write_file(&self->lab, "cs", rows[i][0]);
		run(self, 2, "--connection-string-file", in_lab(self, "cs"), NULL, NULL);
		expect_error(self, in_lab(self, "cs"), rows[i][1]);
		EXPECT_EQ(text_count(self->text, "c2VjcmV0"), 0u);
	}
}

TEST_F(start, configurations)
{
	run_config(self, "{\"queue-byte\": 1}");
	expect_error(self, in_lab(self, "c.json"),
		     "\"queue-byte\" is not known: did you mean \"queue-bytes\"?");
	run_config(self, "{\"port\": 1,}");
	expect_error(self, in_lab(self, "c.json"), "line 1");
	run_config(self, "");
	expect_error(self, in_lab(self, "c.json"), "must be one JSON object, { ... }: correct it there");
	run_config(self, "{\"port\": 0}");
	expect_error(self, in_lab(self, "c.json"), "\"port\" must be a whole number from 1 to 65535");
	run_config(self, "{\"shared-access-key\": \"c2VjcmV0\"}");
	expect_error(self, in_lab(self, "c.json"), "\"shared-access-key-file\"");
	run_config(self, "{\"authentication\": \"none\", \"connection-string-file\": \"cs\"}");
	expect_error(self, in_lab(self, "c.json"), "keep one");
}

/* A key that is the owner's only, read by somebody else. */
TEST_F(start, unreadable_key)
{
	_cleanup_(free_ptr) char *out = NULL;
	char script[1024];

	SKIP_IF(geteuid() != 0, "needs root, to be somebody else");
	lab_write_file(&self->lab, "key", "c2VjcmV0");
	lab_write_file(&self->lab, "c.json",
		       "{\"host\": \"h\", \"device-id\": \"d\", \"shared-access-key-file\": \"key\"}");
	/* A copy: the build directory may be in a home. */
	snprintf(script, sizeof(script),
		 "cp %s $D/ && chmod 755 $D/iothubd && chmod 644 $D/c.json && "
		 "exec setpriv --reuid=65534 --regid=65534 --clear-groups "
		 "$D/iothubd --config $D/c.json --mount $D/m > $D/out 2>&1",
		 process_path("iothubd"));
	EXPECT_EQ(lab_shell(&self->lab, "sh", script), 1);
	out = text_read(in_lab(self, "out"));
	snprintf(self->text, sizeof(self->text), "%s", out);
	expect_error(self, in_lab(self, "key"), "permission denied: let user 65534 read it");
}

TEST_F(start, ca_files)
{
	lab_write_file(&self->lab, "cs", CONNECTION_STRING);
	lab_write_file(&self->lab, "c.json",
		       "{\"connection-string-file\": \"cs\", \"mount\": \"m\", "
		       "\"ca-file\": \"ca.pem\"}");
	run(self, 1, "--config", in_lab(self, "c.json"), NULL, NULL);
	expect_error(self, in_lab(self, "ca.pem"), "No such file or directory");
	lab_write_file(&self->lab, "ca.pem", "this is no certificate\n");
	run(self, 1, "--config", in_lab(self, "c.json"), NULL, NULL);
	expect_error(self, in_lab(self, "ca.pem"), "no certificate in the CA file");
	/* A key is no certificate either. */
	lab_write_file(&self->lab, "ca.pem",
		       "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	run(self, 1, "--config", in_lab(self, "c.json"), NULL, NULL);
	expect_error(self, in_lab(self, "ca.pem"), "no certificate in the CA file");
	EXPECT_NE(access(in_lab(self, "m"), F_OK), 0);
}

static void run_mount(struct fixture_start *self, const char *mount)
{
	run(self, 1, "--connection-string-file", in_lab(self, "cs"), "--mount", mount);
}

TEST_F(start, mount_points)
{
	char below[LAB_PATH_MAX];

	lab_write_file(&self->lab, "cs", CONNECTION_STRING);
	run_mount(self, in_lab(self, "cs"));
	expect_error(self, in_lab(self, "cs"), "it is not a directory");
	run_mount(self, in_lab(self, "no/hub"));
	expect_error(self, in_lab(self, "no/hub"), "the directory above it does not exist");
	ASSERT_EQ(mkdir(in_lab(self, "full"), 0755), 0);
	lab_write_file(&self->lab, "full/file", "x");
	run_mount(self, in_lab(self, "full"));
	expect_error(self, in_lab(self, "full"), "is not empty: remove what is in it or choose another");
	ASSERT_EQ(symlink("full", in_lab(self, "link")), 0);
	run_mount(self, in_lab(self, "link"));
	expect_error(self, in_lab(self, "link"), "not a directory");
	/* Another daemon is there. */
	snprintf(below, sizeof(below),
		 "{\"connection-string-file\": \"cs\", \"mount\": \"%s\", \"state-directory\": \"other\"}",
		 self->lab.mount);
	lab_write_file(&self->lab, "iothubd.json", below);
	lab_start_daemon(&self->lab);
	run_mount(self, self->lab.mount);
	expect_error(self, self->lab.mount, "another iothubd?): stop it or choose another");
	EXPECT_EQ(lab_status_number(&self->lab, "queued"), 0u);
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
}

/* --- while it runs ---------------------------------------------------------------------------- */

enum wrong {
	NOBODY_LISTENS,
	NO_SUCH_HOST,
	NOT_TLS,
	UNKNOWN_CA,
	SYSTEM_CA,
	OTHER_NAME,
	EXPIRED,
	WRONG_KEY,
	WRONG_DEVICE,
	NONE_REFUSED,
	SAS_NOT_KNOWN,
	N_WRONG,
};

/* The words its one line has to have. */
static const char *const wrong_words[N_WRONG][2] = {
	[NOBODY_LISTENS] = {"localhost", "onnection refused"},
	[NO_SUCH_HOST] = {"no-such-hub.invalid", "the DNS of this machine"},
	[NOT_TLS] = {"localhost", "check that the port is the TLS port"},
	[UNKNOWN_CA] = {"certificate of localhost is not trusted", "does not hold the CA that signed it"},
	[SYSTEM_CA] = {"certificate of localhost is not trusted", "set \"ca-file\" to the CA that signed it"},
	[OTHER_NAME] = {"certificate is for hub.test, not for localhost",
			"connect by a name it is valid for"},
	[EXPIRED] = {"certificate of localhost expired on", "renew it, or set the clock"},
	[WRONG_KEY] = {"refused device dev1", "check the device id and key in"},
	[WRONG_DEVICE] = {"refused device dev2", "check the device id and key in"},
	[NONE_REFUSED] = {"refused device dev1", "\"authentication\": \"none\""},
	[SAS_NOT_KNOWN] = {"refused device dev1", "set \"authentication\" to \"none\""},
};

FIXTURE(running)
{
	struct lab hub; /* the emulator */
	struct lab labs[N_WRONG];
	struct certs good, other_name, expired;
	struct broker broker, strict;
	uint16_t good_port, plain_port, other_name_port, expired_port, strict_port;
};

static const char *listener(char *out, size_t size, uint16_t port, const struct certs *certs)
{
	int n = snprintf(out, size, "listener %u 127.0.0.1\n", port);

	if (certs)
		snprintf(out + n, size - (size_t)n, "certfile %s\nkeyfile %s\n", certs->cert_file,
			 certs->key_file);
	return out;
}

static void start_brokers(struct fixture_running *self)
{
	char config[4096], parts[4][1024];

	snprintf(config, sizeof(config), "%s%s%s%s",
		 listener(parts[0], sizeof(parts[0]), self->good_port, &self->good),
		 listener(parts[1], sizeof(parts[1]), self->plain_port, NULL),
		 listener(parts[2], sizeof(parts[2]), self->other_name_port, &self->other_name),
		 listener(parts[3], sizeof(parts[3]), self->expired_port, &self->expired));
	broker_init(&self->broker);
	broker_start(&self->broker, config);
	snprintf(config, sizeof(config), "%sallow_anonymous false\n",
		 listener(parts[0], sizeof(parts[0]), self->strict_port, &self->good));
	broker_init(&self->strict);
	broker_start(&self->strict, config);
}

FIXTURE_SETUP(running)
{
	static const char *const other_name[] = {"hub.test"};
	static const char *const good[] = {"localhost"};
	uint64_t now_ms = certs_now_ms(), year_ms = UINT64_C(365) * 86400 * MSEC_PER_SEC;

	SKIP_IF(!broker_is_installed(), "there is no mosquitto (packages mosquitto, mosquitto-clients)");
	self->good_port = free_port();
	self->plain_port = free_port();
	self->other_name_port = free_port();
	self->expired_port = free_port();
	self->strict_port = free_port();
	ASSERT_EQ(certs_init(&self->good), 0);
	ASSERT_EQ(certs_init(&self->other_name), 0);
	ASSERT_EQ(certs_issue(&self->other_name, other_name, 1, now_ms), 0);
	ASSERT_EQ(certs_init(&self->expired), 0);
	ASSERT_EQ(certs_issue(&self->expired, good, 1, now_ms - 2 * year_ms), 0);
	start_brokers(self);
	lab_init(&self->hub);
	lab_start_emulator(&self->hub, NULL);
}

FIXTURE_TEARDOWN(running)
{
	for (int i = 0; i < N_WRONG; ++i) {
		lab_show_log(&self->labs[i], "daemon");
		lab_deinit(&self->labs[i]);
	}
	lab_deinit(&self->hub);
	broker_deinit(&self->broker);
	broker_deinit(&self->strict);
	certs_deinit(&self->good);
	certs_deinit(&self->other_name);
	certs_deinit(&self->expired);
}

static void start_wrong(struct fixture_running *self, enum wrong wrong, const char *host, uint16_t port,
			const char *ca_file, const char *who)
{
	struct lab *lab = &self->labs[wrong];
	char config[2048], ca[LAB_PATH_MAX];

	lab_init(lab);
	lab_write_file(lab, "key", "bm90IHRoZSBrZXk=");
	snprintf(ca, sizeof(ca), "\"ca-file\": \"%s\", ", ca_file ? ca_file : "");
	snprintf(config, sizeof(config),
		 "{\"host\": \"%s\", \"port\": %u, %s%s,\n"
		 " \"mount\": \"%s\"}\n",
		 host, port, ca_file ? ca : "", who, lab->mount);
	lab_write_file(lab, "iothubd.json", config);
	lab_start_daemon(lab);
}

static void start_all_wrong(struct fixture_running *self)
{
	static const char none[] = "\"device-id\": \"dev1\", \"authentication\": \"none\"";
	static const char key[] = "\"device-id\": \"dev1\", \"shared-access-key-file\": \"key\"";
	static const char device[] = "\"device-id\": \"dev2\", \"shared-access-key-file\": \"key\"";
	const char *ca = self->good.ca_file;
	char hub_ca[LAB_PATH_MAX];

	snprintf(hub_ca, sizeof(hub_ca), "%s/state/ca.pem", self->hub.dir);
	start_wrong(self, WRONG_KEY, "localhost", self->hub.port, hub_ca, key);
	start_wrong(self, WRONG_DEVICE, "localhost", self->hub.port, hub_ca, device);
	start_wrong(self, NONE_REFUSED, "localhost", self->strict_port, ca, none);
	start_wrong(self, SAS_NOT_KNOWN, "localhost", self->good_port, ca, key);
	start_wrong(self, NOBODY_LISTENS, "localhost", free_port(), ca, none);
	start_wrong(self, NO_SUCH_HOST, "no-such-hub.invalid", 8883, ca, none);
	start_wrong(self, NOT_TLS, "localhost", self->plain_port, ca, none);
	start_wrong(self, UNKNOWN_CA, "localhost", self->good_port, self->expired.ca_file, none);
	start_wrong(self, SYSTEM_CA, "localhost", self->good_port, NULL, none);
	start_wrong(self, OTHER_NAME, "localhost", self->other_name_port, self->other_name.ca_file, none);
	start_wrong(self, EXPIRED, "localhost", self->expired_port, self->expired.ca_file, none);
}

/* After three failed attempts: in the status, and one line in the log. */
static void expect_wrong(struct lab *lab, const char *const words[2])
{
	_cleanup_(free_ptr) char *log = NULL;
	char error[1024];

	lab_await_number(lab, "attempts", 3);
	lab_await_state(lab, "waiting");
	lab_status_text(lab, "last-error", error, sizeof(error));
	EXPECT_CONTAINS(error, words[0]);
	EXPECT_CONTAINS(error, words[1]);
	EXPECT_EQ(lab_status_number(lab, "connects"), 0u);
	log = lab_log(lab, "daemon");
	EXPECT_EQ(text_count(log, "warning: "), 1u);
	EXPECT_EQ(text_count(log, "error: "), 0u);
	EXPECT_EQ(text_count(log, error), 1u);
	EXPECT_EQ(text_count(log, "bm90IHRoZSBrZXk"), 0u);
	/* A write is still queued, and nothing stands in the way of the end. */
	EXPECT_EQ(lab_shell(lab, "sh", "echo kept > $M/telemetry"), 0);
	EXPECT_EQ(lab_status_number(lab, "queued"), 1u);
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
}

/* All at once: some of them are asked for patience between attempts. */
TEST_F_TIMEOUT(running, each_mistake_is_one_line_over_three_attempts, 90)
{
	start_all_wrong(self);
	for (int i = 0; i < N_WRONG; ++i)
		expect_wrong(&self->labs[i], wrong_words[i]);
}

TEST_HARNESS_MAIN
