/* SPDX-License-Identifier: MIT */
/*
 * A device with a certificate: it connects, with its key in a file and by URI, known to the hub itself or by the
 * authority that signed it; and what is wrong is said in one line.
 */

#include <errno.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

FIXTURE(x509)
{
	struct lab lab;
};

FIXTURE_SETUP(x509)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	SKIP_IF(lab_shell(&self->lab, "sh", "command -v openssl > /dev/null"), "there is no openssl(1)");
}

FIXTURE_TEARDOWN(x509)
{
	lab_show_log(&self->lab, "daemon");
	lab_show_log(&self->lab, "emulator");
	lab_deinit(&self->lab);
}

/* A certificate of its own for device x1: NAME.pem, NAME.key. */
static void make_certificate(const struct lab *lab, const char *name)
{
	char script[512];

	snprintf(script, sizeof(script),
		 "cd $D && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
		 "-subj /CN=x1 -keyout %s.key -out %s.pem 2> openssl.log",
		 name, name);
	ASSERT_EQ(lab_shell(lab, "sh", script), 0);
}

/* Makes the device x1 at the hub with these words of `hubctl devices add`. */
static void add_device(const struct lab *lab, const char *words)
{
	char all[512];

	snprintf(all, sizeof(all), "devices add x1 %s", words);
	ASSERT_EQ(lab_hubctl_words(lab, all, NULL, 0), 0);
}

/* Paths in the configuration are relative to it. */
static void configure(struct lab *lab, const char *cert, const char *key)
{
	char json[1024];

	snprintf(json, sizeof(json),
		 "{\"host\": \"localhost\", \"device-id\": \"x1\", \"authentication\": \"x509\",\n"
		 " \"certificate-file\": \"%s\", \"private-key-file\": \"%s\",\n"
		 " \"ca-file\": \"%s/state/ca.pem\", \"port\": %u, \"mount\": \"%s\"}\n",
		 cert, key, lab->dir, lab->port, lab->mount);
	lab_write_file(lab, "iothubd.json", json);
}

static void expect_connected(struct lab *lab)
{
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	EXPECT_EQ(lab_shell(lab, "sh", "echo hello | dd oflag=sync of=$M/telemetry.raw status=none"), 0);
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
}

TEST_F(x509, by_thumbprint)
{
	struct lab *lab = &self->lab;
	char uri[256];

	make_certificate(lab, "x1");
	add_device(lab, "--x509-certificate $D/x1.pem");
	configure(lab, "x1.pem", "x1.key");
	expect_connected(lab);
	snprintf(uri, sizeof(uri), "file:%s/x1.key", lab->dir);
	configure(lab, "x1.pem", uri);
	expect_connected(lab);
}

TEST_F(x509, by_connection_string)
{
	struct lab *lab = &self->lab;
	char json[1024];

	make_certificate(lab, "x1");
	add_device(lab, "--x509-certificate $D/x1.pem");
	lab_write_file(lab, "x1.connection-string", "HostName=localhost;DeviceId=x1;x509=true\n");
	snprintf(json, sizeof(json),
		 "{\"connection-string-file\": \"x1.connection-string\",\n"
		 " \"certificate-file\": \"x1.pem\", \"private-key-file\": \"x1.key\",\n"
		 " \"ca-file\": \"state/ca.pem\", \"port\": %u, \"mount\": \"%s\"}\n",
		 lab->port, lab->mount);
	lab_write_file(lab, "iothubd.json", json);
	expect_connected(lab);
}

/*
 * An authority of the device's maker, another one below it, and certificates for the device signed by that: x1.pem
 * with the whole chain, leaf.pem alone; x2.pem is in another device's name.
 */
static const char authority_script[] =
	"cd $D && exec 2> openssl.log && new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
	"-nodes'\n"
	"echo basicConstraints=critical,CA:TRUE > ca.ext\n"
	"$new -x509 -days 2 -subj '/CN=Maker' -keyout root.key -out root.pem || exit 1\n"
	"sign() { openssl x509 -req -days 2 -CA $1.pem -CAkey $1.key; }\n"
	"$new -subj '/CN=Factory' -keyout factory.key |\n"
	"	openssl x509 -req -days 2 -CA root.pem -CAkey root.key -extfile ca.ext > factory.pem || exit "
	"1\n"
	"$new -subj /CN=x1 -keyout x1.key | sign factory > leaf.pem && cat leaf.pem factory.pem > x1.pem || "
	"exit 1\n"
	"$new -subj /CN=x2 -keyout x2.key | sign factory > x2.pem && cat factory.pem >> x2.pem\n";

static void expect_not_connected(struct lab *lab, const char *cert, const char *key)
{
	char text[512];

	configure(lab, cert, key);
	lab_start_daemon(lab);
	lab_await_state(lab, "waiting");
	lab_status_text(lab, "last-error", text, sizeof(text));
	EXPECT_CONTAINS(text, "localhost refused device x1: ");
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
}

TEST_F(x509, by_authority)
{
	struct lab *lab = &self->lab;
	char root[LAB_PATH_MAX];
	const char *const options[] = {"--client-ca", root, NULL};

	ASSERT_EQ(lab_shell(lab, "sh", authority_script), 0);
	snprintf(root, sizeof(root), "%s/root.pem", lab->dir);
	lab_stop_emulator(lab, SIGTERM);
	lab_start_emulator(lab, options);
	add_device(lab, "--x509-ca");
	configure(lab, "x1.pem", "x1.key");
	expect_connected(lab);
	/* The hub has the authority at the top only. */
	expect_not_connected(lab, "leaf.pem", "x1.key");
	expect_not_connected(lab, "x2.pem", "x2.key");
	make_certificate(lab, "own");
	expect_not_connected(lab, "own.pem", "own.key");
}

TEST_F(x509, another_certificate_is_refused_slowly)
{
	struct lab *lab = &self->lab;
	char text[512];

	make_certificate(lab, "x1");
	make_certificate(lab, "other");
	add_device(lab, "--x509-certificate $D/x1.pem");
	configure(lab, "other.pem", "other.key");
	lab_start_daemon(lab);
	lab_await_state(lab, "waiting");
	lab_status_text(lab, "last-error", text, sizeof(text));
	EXPECT_CONTAINS(text, "localhost refused device x1: ");
	EXPECT_CONTAINS(text, "whether the hub knows the certificate in ");
	lab_status_text(lab, "retry-in", text, sizeof(text));
	EXPECT_GE(strtod(text, NULL), 9.0);
}

/* Does not start, with exactly one line that has @want in it. */
static void expect_refused(struct lab *lab, const char *cert, const char *key, const char *want)
{
	char config[LAB_PATH_MAX], text[4096];
	const char *const argv[] = {process_path("iothubd"), "--config", config, NULL};

	snprintf(config, sizeof(config), "%s/iothubd.json", lab->dir);
	configure(lab, cert, key);
	EXPECT_NE(process_run(argv, text, sizeof(text)), 0);
	EXPECT_CONTAINS(text, want);
	EXPECT_EQ(text_count(text, "error: "), 1u);
	TEST_LOG("%s", text);
}

TEST_F(x509, errors_in_one_line)
{
	struct lab *lab = &self->lab;

	make_certificate(lab, "x1");
	make_certificate(lab, "other");
	ASSERT_EQ(
		lab_shell(
			lab, "sh",
			"cd $D && openssl ec -aes128 -passout pass:secret -in x1.key -out locked.key 2> log"),
		0);
	expect_refused(lab, "none.pem", "x1.key",
		       "none.pem\": No such file or directory; set \"certificate-file\"");
	expect_refused(lab, "x1.pem", "none.key",
		       "none.key\": No such file or directory; set \"private-key-file\"");
	expect_refused(lab, "x1.key", "x1.key", "there is no usable certificate in ");
	expect_refused(lab, "x1.pem", "x1.pem", "there is no usable private key in ");
	expect_refused(lab, "x1.pem", "locked.key", "it must not need a password");
	expect_refused(lab, "x1.pem", "other.key", "is not that of the certificate in ");
	expect_refused(lab, "x1.pem", "nothing-like-it:object=x1",
		       "no usable private key in \"nothing-like-it:");
}

TEST_HARNESS_MAIN
