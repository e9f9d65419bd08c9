/* SPDX-License-Identifier: MIT */
/*
 * The configuration of a device with a certificate: where it may be named, and what does not go together.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "config/config.h"
#include "tests/harness.h"
#include "tests/support/process.h"

#define X509  "\"host\": \"h\", \"device-id\": \"d\", \"authentication\": \"x509\""
#define FILES "\"certificate-file\": \"c.pem\", \"private-key-file\": \"k.pem\""

FIXTURE(x509)
{
	char dir[64];
	char text[1024]; /* the log */
	struct config config;
};

FIXTURE_SETUP(x509)
{
	strcpy(self->dir, "/tmp/test-config-XXXXXX");
	ASSERT_NE(mkdtemp(self->dir), NULL);
	ASSERT_EQ(chdir(self->dir), 0);
}

FIXTURE_TEARDOWN(x509)
{
	char command[128];

	if (!test_is_orphan())
		config_deinit(&self->config);
	snprintf(command, sizeof(command), "rm -rf '%s'", self->dir);
	(void)!system(command);
}

static void write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* Loads @json, with @connstr (may be NULL) in the file of that name, given on the command line if @override. */
static int load(struct fixture_x509 *self, const char *json, const char *connstr, bool override)
{
	char path[128];
	const struct config_source source = {
		.config_file = path,
		.connection_string_file = override ? "connstr" : NULL,
		.config_dir = self->dir,
		.runtime_dir = self->dir,
		.state_dir = self->dir,
	};
	struct log log;
	ssize_t n;
	int r;

	config_deinit(&self->config);
	snprintf(path, sizeof(path), "%s/f.json", self->dir);
	write_file("f.json", json);
	if (connstr)
		write_file("connstr", connstr);
	log = (struct log){.fd = open("log", O_RDWR | O_CREAT | O_TRUNC, 0600), .level = LOG_LEVEL_INFO};
	r = config_load(&self->config, &source, &log);
	n = pread(log.fd, self->text, sizeof(self->text) - 1, 0);
	ASSERT_GE(n, 0);
	self->text[n] = '\0';
	close(log.fd);
	return r;
}

static void expect_refused(struct fixture_x509 *self, const char *json, const char *connstr, const char *want)
{
	EXPECT_EQ(load(self, json, connstr, false), -EINVAL);
	EXPECT_CONTAINS(self->text, want);
	EXPECT_EQ(text_count(self->text, "\n"), 1u);
}

static void expect_x509(struct fixture_x509 *self)
{
	char want[128];

	EXPECT_TRUE(self->config.authentication == CONFIG_AUTHENTICATION_X509);
	EXPECT_EQ(self->config.key.len, 0u);
	EXPECT_STREQ(self->text, "");
	snprintf(want, sizeof(want), "%s/c.pem", self->dir);
	EXPECT_STREQ(self->config.certificate_file, want);
	EXPECT_STREQ(self->config.identity_path, want);
}

TEST_F(x509, by_fields)
{
	char want[128];

	ASSERT_EQ(load(self, "{" X509 ", " FILES "}", NULL, false), 0);
	expect_x509(self);
	snprintf(want, sizeof(want), "%s/k.pem", self->dir);
	EXPECT_STREQ(self->config.private_key, want);
}

TEST_F(x509, by_connection_string)
{
	static const char string[] = "HostName=h;DeviceId=d;x509=true";

	ASSERT_EQ(load(self, "{\"connection-string-file\": \"connstr\", " FILES "}", string, false), 0);
	expect_x509(self);
	ASSERT_EQ(load(self,
		       "{\"connection-string-file\": \"connstr\", \"authentication\": \"x509\", " FILES "}",
		       string, false),
		  0);
	expect_x509(self);
	ASSERT_EQ(load(self, "{" FILES "}", string, true), 0);
	expect_x509(self);
	/* Another one on the command line needs no certificate. */
	ASSERT_EQ(load(self, "{" X509 ", " FILES "}", "HostName=h;DeviceId=d;SharedAccessKey=YQ==", true), 0);
	EXPECT_TRUE(self->config.authentication == CONFIG_AUTHENTICATION_SAS);
}

TEST_F(x509, keys_by_uri)
{
	static const char *const uris[] = {"pkcs11:token=t;object=dev1", "file:/etc/k.pem", "tpm2-x.y+z:1"};
	static const char *const paths[] = {"a:b", ":b", "/a:b", "1a:b", "ab"};
	char json[256];

	for (size_t i = 0; i < ARRAY_SIZE(uris); ++i) {
		snprintf(json, sizeof(json),
			 "{" X509 ", \"certificate-file\": \"c.pem\", \"private-key-file\": \"%s\"}",
			 uris[i]);
		ASSERT_EQ(load(self, json, NULL, false), 0);
		EXPECT_STREQ(self->config.private_key, uris[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(paths); ++i) {
		snprintf(json, sizeof(json),
			 "{" X509 ", \"certificate-file\": \"c.pem\", \"private-key-file\": \"%s\"}",
			 paths[i]);
		ASSERT_EQ(load(self, json, NULL, false), 0);
		EXPECT_EQ(self->config.private_key[0], '/');
	}
}

TEST_F(x509, what_is_missing)
{
	expect_refused(self, "{" X509 "}", NULL,
		       "field \"certificate-file\" is missing: \"authentication\": \"x509\" "
		       "needs it");
	expect_refused(self, "{" X509 ", \"certificate-file\": \"c\"}", NULL,
		       "field \"private-key-file\" is missing");
	expect_refused(self, "{\"connection-string-file\": \"connstr\"}", "HostName=h;DeviceId=d;x509=true",
		       "field \"certificate-file\" is missing: a connection string with x509=true needs it");
	EXPECT_EQ(load(self, "{\"authentication\": \"x509\", " FILES "}", NULL, false), -ENOENT);
}

TEST_F(x509, what_does_not_go_together)
{
	expect_refused(
		self, "{" X509 ", " FILES ", \"shared-access-key-file\": \"key\"}", NULL,
		"field \"shared-access-key-file\" brings a key and \"authentication\" is \"x509\": keep one");
	expect_refused(self,
		       "{\"connection-string-file\": \"connstr\", \"authentication\": \"x509\", " FILES "}",
		       "HostName=h;DeviceId=d;SharedAccessKey=YQ==",
		       "connection string: it has a key, and \"authentication\" is \"x509\": keep one");
	expect_refused(self, "{\"connection-string-file\": \"connstr\", " FILES "}",
		       "HostName=h;DeviceId=d;SharedAccessKey=YQ==",
		       "field \"certificate-file\" needs \"authentication\": \"x509\"");
	expect_refused(self,
		       "{\"host\": \"h\", \"device-id\": \"d\", \"authentication\": \"none\", " FILES "}",
		       NULL, "field \"certificate-file\" needs \"authentication\": \"x509\"");
	expect_refused(self, "{\"private-key\": \"x\"}", NULL, "field \"private-key\" is a secret");
}

TEST_HARNESS_MAIN
