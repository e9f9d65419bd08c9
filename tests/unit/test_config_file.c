/* SPDX-License-Identifier: MIT */
/*
 * The configuration: every field of the JSON file, where hub and key are looked for, what the command line
 * overrides, and each error line, word for word.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "config/config.h"
#include "config/jsonfile.h"
#include "config/textfile.h"
#include "tests/harness.h"

/* "secret" */
#define KEY     "c2VjcmV0"
#define CONNSTR "HostName=hub.example;DeviceId=dev1;SharedAccessKey=" KEY
#define DEVICE  "\"host\": \"hub.example\", \"device-id\": \"dev1\", \"shared-access-key-file\": \"key\""
#define FORM    "the form is HostName=...;DeviceId=...;SharedAccessKey=..."

FIXTURE(config)
{
	char dir[64];
	char text[4096]; /* what the log got */
	int log_fd;
	struct log log;
	struct config config;
	struct config_source source;
	char config_dir[128], credentials_dir[128], runtime_dir[128], state_dir[128], run_dir[128];
};

static void file_write(struct fixture_config *self, const char *name, const char *text, mode_t mode)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", self->dir, name);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ASSERT_EQ(fchmod(fd, mode), 0);
	close(fd);
}

FIXTURE_SETUP(config)
{
	strcpy(self->dir, "/tmp/test-config-XXXXXX");
	ASSERT_NE(mkdtemp(self->dir), NULL);
	snprintf(self->config_dir, sizeof(self->config_dir), "%s/etc", self->dir);
	snprintf(self->credentials_dir, sizeof(self->credentials_dir), "%s/credentials", self->dir);
	snprintf(self->runtime_dir, sizeof(self->runtime_dir), "%s/run", self->dir);
	snprintf(self->state_dir, sizeof(self->state_dir), "%s/state", self->dir);
	snprintf(self->run_dir, sizeof(self->run_dir), "%s/run/iothubd", self->dir);
	ASSERT_EQ(mkdir(self->config_dir, 0700), 0);
	ASSERT_EQ(mkdir(self->credentials_dir, 0700), 0);
	self->log_fd = open(self->dir, O_TMPFILE | O_RDWR, 0600);
	ASSERT_GE(self->log_fd, 0);
	self->log = (struct log){.fd = self->log_fd, .level = LOG_LEVEL_INFO};
	self->source = (struct config_source){.config_dir = self->config_dir,
					      .runtime_dir = self->runtime_dir,
					      .state_dir = self->state_dir,
					      .run_dir = self->run_dir,
					      .uid = 4711,
					      .gid = 4712};
	file_write(self, "key", KEY "\n", 0600);
	ASSERT_EQ(chdir(self->dir), 0);
}

static void tree_remove(const char *path)
{
	DIR *dir = opendir(path);

	for (const struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
		char below[PATH_MAX];

		snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (e->d_type == DT_DIR)
			tree_remove(below);
		else
			unlink(below);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

FIXTURE_TEARDOWN(config)
{
	if (!test_is_orphan())
		config_deinit(&self->config);
	tree_remove(self->dir);
}

/* Loads, and keeps what was logged in self->text. */
static int load(struct fixture_config *self)
{
	ssize_t n;
	int r;

	config_deinit(&self->config);
	ASSERT_EQ(ftruncate(self->log_fd, 0), 0);
	ASSERT_EQ(lseek(self->log_fd, 0, SEEK_SET), 0);
	r = config_load(&self->config, &self->source, &self->log);
	n = pread(self->log_fd, self->text, sizeof(self->text) - 1, 0);
	ASSERT_GE(n, 0);
	self->text[n] = '\0';
	return r;
}

static int load_json(struct fixture_config *self, const char *json)
{
	file_write(self, "c.json", json, 0644);
	self->source.config_file = "c.json";
	return load(self);
}

static void expect_line(struct fixture_config *self, const char *line)
{
	EXPECT_STREQ(self->text, line);
}

/* The JSON text is refused with exactly this line after the file's name. */
static void expect_refused(struct fixture_config *self, const char *json, const char *line)
{
	static const struct config empty;
	char want[1024];

	EXPECT_EQ(load_json(self, json), -EINVAL);
	snprintf(want, sizeof(want), "error: c.json: %s\n", line);
	EXPECT_STREQ(self->text, want);
	EXPECT_MEMEQ(&self->config, &empty, sizeof(empty));
}

TEST_F(config, defaults)
{
	static const mode_t modes[CONFIG_N_FILES] = {
		[CONFIG_FILE_TELEMETRY] = 0220,      [CONFIG_FILE_TELEMETRY_RAW] = 0220,
		[CONFIG_FILE_TELEMETRY_FILE] = 0220, [CONFIG_FILE_STATUS] = 0440,
		[CONFIG_FILE_EVENTS] = 0440,         [CONFIG_FILE_COMMANDS] = 0440,
		[CONFIG_FILE_SETTLE] = 0220,         [CONFIG_FILE_METHODS] = 0660,
		[CONFIG_FILE_TWIN] = 0440,           [CONFIG_FILE_REPORTED] = 0660,
		[CONFIG_FILE_CHANNELS] = 0660,       [CONFIG_FILE_REJECTED] = 0660,
	};
	const struct config *c = &self->config;
	const struct group *group = getgrnam("iothub");
	gid_t gid = group ? group->gr_gid : 4712;
	char path[256];

	ASSERT_EQ(load_json(self, "{" DEVICE "}"), 0);
	expect_line(self, "");
	EXPECT_STREQ(c->host, "hub.example");
	EXPECT_EQ(c->port, 8883);
	EXPECT_EQ(c->gateway_host, NULL);
	EXPECT_TRUE(c->authentication == CONFIG_AUTHENTICATION_SAS);
	EXPECT_STREQ(c->device_id, "dev1");
	EXPECT_EQ(c->module_id, NULL);
	EXPECT_EQ(c->key_name, NULL);
	EXPECT_EQ(c->key.len, 6u);
	EXPECT_MEMEQ(c->key.data, "secret", 6);
	EXPECT_STREQ(c->client_id, "dev1");
	EXPECT_EQ(c->ca_file, NULL);
	snprintf(path, sizeof(path), "%s/iothub", self->runtime_dir);
	EXPECT_STREQ(c->mount, path);
	EXPECT_EQ(c->uid, 4711u);
	EXPECT_EQ(c->gid, gid);
	for (unsigned int i = 0; i < CONFIG_N_FILES; ++i) {
		EXPECT_EQ(c->files[i].mode, modes[i]);
		EXPECT_EQ(c->files[i].uid, 4711u);
		EXPECT_EQ(c->files[i].gid, gid);
	}
	EXPECT_EQ(c->n_methods, 0u);
	EXPECT_EQ(c->method_wait_s, 0u);
	EXPECT_EQ(c->method_timeout_s, 300u);
	snprintf(path, sizeof(path), "%s/state", self->dir);
	EXPECT_STREQ(c->state_dir, path);
	snprintf(path, sizeof(path), "%s/run/iothubd", self->dir);
	EXPECT_STREQ(c->run_dir, path);
	EXPECT_TRUE(c->storage == CONFIG_STORAGE_PERSISTENT);
	EXPECT_EQ(c->queue_bytes, 64u << 20);
	EXPECT_EQ(c->n_channels, 0u);
	EXPECT_EQ(c->ack_timeout_s, 60u);
	EXPECT_EQ(c->keep_alive_s, 240);
	EXPECT_EQ(c->token_lifetime_s, 3600u);
	EXPECT_EQ(c->session_expiry_s, 86400u);
	EXPECT_TRUE(c->log_level == LOG_LEVEL_INFO);
	EXPECT_STREQ(c->config_path, "c.json");
	EXPECT_STREQ(c->identity_path, "./key");
}

TEST_F(config, every_field)
{
	const struct config *c = &self->config;

	ASSERT_EQ(
		load_json(self,
			  "{" DEVICE ",\n"
			  "\"port\": 1, \"gateway-host\": \"gw.local\", \"module-id\": \"m1\",\n"
			  "\"authentication\": \"sas\",\n"
			  "\"shared-access-key-name\": \"device\", \"ca-file\": \"/ca.pem\",\n"
			  "\"mount\": \"/m\", \"owner\": \"7\", \"group\": \"8\",\n"
			  "\"files\": {\"telemetry\": {\"mode\": \"0222\", \"group\": \"9\"},\n"
			  "\"telemetry.raw\": {\"owner\": \"10\"}, \"telemetry.file\": {},\n"
			  "\"status\": {\"mode\": \"644\", \"owner\": \"root\", \"group\": \"root\"}},\n"
			  "\"queue-bytes\": 1048576, \"ack-timeout\": 0, \"keep-alive\": 65535,\n"
			  "\"token-lifetime\": 10, \"session-expiry\": 4294967295,\n"
			  "\"methods\": [\"reboot\", \"a.b\"], \"method-wait\": 300, \"method-timeout\": 1,\n"
			  "\"state-directory\": \"st\", \"log-level\": \"debug\"}\n"),
		0);
	expect_line(self, "");
	EXPECT_EQ(c->port, 1);
	EXPECT_STREQ(c->gateway_host, "gw.local");
	EXPECT_STREQ(c->module_id, "m1");
	EXPECT_STREQ(c->client_id, "dev1/m1");
	EXPECT_TRUE(c->authentication == CONFIG_AUTHENTICATION_SAS);
	EXPECT_STREQ(c->key_name, "device");
	ASSERT_EQ(c->n_methods, 2u);
	EXPECT_STREQ(c->methods[0], "reboot");
	EXPECT_STREQ(c->methods[1], "a.b");
	EXPECT_EQ(c->method_wait_s, 300u);
	EXPECT_EQ(c->method_timeout_s, 1u);
	EXPECT_STREQ(c->state_dir, "./st");
	EXPECT_STREQ(c->ca_file, "/ca.pem");
	EXPECT_STREQ(c->mount, "/m");
	EXPECT_EQ(c->uid, 7u);
	EXPECT_EQ(c->gid, 8u);
	EXPECT_EQ(c->files[CONFIG_FILE_TELEMETRY].mode, 0222u);
	EXPECT_EQ(c->files[CONFIG_FILE_TELEMETRY].uid, 7u);
	EXPECT_EQ(c->files[CONFIG_FILE_TELEMETRY].gid, 9u);
	EXPECT_EQ(c->files[CONFIG_FILE_TELEMETRY_RAW].mode, 0220u);
	EXPECT_EQ(c->files[CONFIG_FILE_TELEMETRY_RAW].uid, 10u);
	EXPECT_EQ(c->files[CONFIG_FILE_TELEMETRY_RAW].gid, 8u);
	EXPECT_EQ(c->files[CONFIG_FILE_TELEMETRY_FILE].mode, 0220u);
	EXPECT_EQ(c->files[CONFIG_FILE_STATUS].mode, 0644u);
	EXPECT_EQ(c->files[CONFIG_FILE_STATUS].uid, 0u);
	EXPECT_EQ(c->files[CONFIG_FILE_STATUS].gid, 0u);
	EXPECT_EQ(c->queue_bytes, 1048576u);
	EXPECT_EQ(c->ack_timeout_s, 0u);
	EXPECT_EQ(c->keep_alive_s, 65535);
	EXPECT_EQ(c->token_lifetime_s, 10u);
	EXPECT_EQ(c->session_expiry_s, UINT32_MAX);
	EXPECT_TRUE(c->log_level == LOG_LEVEL_DEBUG);
}

TEST_F(config, unknown_fields)
{
	expect_refused(self, "{\"prot\": 1}", "field \"prot\" is not known: did you mean \"port\"?");
	expect_refused(self, "{\"queue_byte\": 1}",
		       "field \"queue_byte\" is not known: did you mean \"queue-bytes\"?");
	expect_refused(self, "{\"Host\": \"x\"}", "field \"Host\" is not known: did you mean \"host\"?");
	expect_refused(self, "{\"colour\": 1}",
		       "field \"colour\" is not known: iothubd.json(5) lists the fields there are");
	expect_refused(self, "{\"\": 1}",
		       "field \"\" is not known: iothubd.json(5) lists the fields there are");
	expect_refused(self, "{\"files\": {\"telemtry\": {}}}",
		       "field \"files.telemtry\" is not known: did you mean \"telemetry\"?");
	expect_refused(self, "{\"files\": {\"status\": {\"mod\": \"0\"}}}",
		       "field \"files.status.mod\" is not known: did you mean \"mode\"?");
	expect_refused(self, "{\"files\": {\"status\": {\"mode\": \"0\"}}, \"mode\": 1}",
		       "field \"mode\" is not known: iothubd.json(5) lists the fields there are");
}

TEST_F(config, wrong_types)
{
	expect_refused(self, "{\"host\": 1}", "field \"host\" must be a host name, not a number");
	expect_refused(self, "{\"host\": \"\"}", "field \"host\" must be a host name, not empty");
	expect_refused(self, "{\"device-id\": null}", "field \"device-id\" must be a string, not null");
	expect_refused(self, "{\"device-id\": \"a\\u0000b\"}",
		       "field \"device-id\" must be a string, not a string with a NUL");
	expect_refused(self, "{\"ca-file\": []}", "field \"ca-file\" must be a path, not an array");
	expect_refused(self, "{\"port\": \"8883\"}",
		       "field \"port\" must be a whole number from 1 to 65535, not a string");
	expect_refused(self, "{\"port\": 1.5}",
		       "field \"port\" must be a whole number from 1 to 65535, not a fraction");
	expect_refused(self, "{\"keep-alive\": true}",
		       "field \"keep-alive\" must be a whole number from 10 to 65535, not true or false");
	expect_refused(self, "{\"files\": 1}", "field \"files\" must be an object, not a number");
	expect_refused(self, "{\"files\": {\"status\": \"0444\"}}",
		       "field \"files.status\" must be an object, not a string");
}

TEST_F(config, numbers_out_of_range)
{
	expect_refused(self, "{\"port\": 0}", "field \"port\" must be a whole number from 1 to 65535, not 0");
	expect_refused(self, "{\"port\": 65536}",
		       "field \"port\" must be a whole number from 1 to 65535, not 65536");
	expect_refused(self, "{\"port\": -1}",
		       "field \"port\" must be a whole number from 1 to 65535, not -1");
	expect_refused(self, "{\"ack-timeout\": -1}",
		       "field \"ack-timeout\" must be a whole number from 0 to 86400, not -1");
	expect_refused(
		self, "{\"queue-bytes\": 1048575}",
		"field \"queue-bytes\" must be a whole number from 1048576 to 1099511627776, not 1048575");
	expect_refused(self, "{\"queue-bytes\": 1099511627777}",
		       "field \"queue-bytes\" must be a whole number from 1048576 to 1099511627776, not "
		       "1099511627777");
	expect_refused(self, "{\"keep-alive\": 9}",
		       "field \"keep-alive\" must be a whole number from 10 to 65535, not 9");
	expect_refused(self, "{\"token-lifetime\": 9}",
		       "field \"token-lifetime\" must be a whole number from 10 to 31536000, not 9");
	expect_refused(
		self, "{\"session-expiry\": 4294967296}",
		"field \"session-expiry\" must be a whole number from 0 to 4294967295, not 4294967296");
	EXPECT_EQ(load_json(self, "{\"session-expiry\": 99999999999999999999999999}"), -EINVAL);
	EXPECT_CONTAINS(self->text,
			"c.json: field \"session-expiry\" must be a whole number from 0 to 4294967295");
}

TEST_F(config, wrong_values)
{
	static const char mode[] = "field \"files.telemetry.mode\" must be a string of octal digits "
				   "from \"0\" to \"0666\"";

	expect_refused(
		self, "{\"host\": \"hub:8883\"}",
		"field \"host\" is not a host name: write a DNS name or an IP address, without a port");
	expect_refused(self, "{\"module-id\": \"a b\"}",
		       "field \"module-id\" is not valid: use 1 to 128 ASCII letters, digits and "
		       "-.%_*?!(),:=@$'");
	expect_refused(self, "{\"log-level\": \"loud\"}",
		       "field \"log-level\" must be \"error\", \"warning\", \"info\" or \"debug\"");
	expect_refused(self, "{\"authentication\": \"password\"}",
		       "field \"authentication\" must be \"sas\", \"x509\" or \"none\"");
	expect_refused(self, "{\"authentication\": false}",
		       "field \"authentication\" must be \"sas\", \"x509\" or \"none\", not true or false");
	expect_refused(self, "{\"files\": {\"telemetry\": {\"mode\": \"0800\"}}}", mode);
	expect_refused(self, "{\"files\": {\"telemetry\": {\"mode\": \"0777\"}}}", mode);
	expect_refused(self, "{\"files\": {\"telemetry\": {\"mode\": \"04220\"}}}", mode);
	expect_refused(self, "{\"files\": {\"telemetry\": {\"mode\": \"7777777777777777777777\"}}}", mode);
	expect_refused(
		self, "{\"files\": {\"telemetry\": {\"mode\": 220}}}",
		"field \"files.telemetry.mode\" must be a string of octal digits from \"0\" to \"0666\", "
		"not a number");
	expect_refused(self, "{\"group\": \"no-such-group\"}",
		       "field \"group\" names a group that does not exist: create it or name another");
	expect_refused(self, "{\"owner\": \"no-such-user\"}",
		       "field \"owner\" names a user that does not exist: create it or name another");
	expect_refused(self, "{\"group\": \"4294967295\"}",
		       "field \"group\" names a group that does not exist: create it or name another");
}

TEST_F(config, secrets_do_not_belong_there)
{
	expect_refused(
		self, "{\"shared-access-key\": \"" KEY "\"}",
		"field \"shared-access-key\" is a secret: put it into a file that only the daemon can read "
		"and name that in \"shared-access-key-file\"");
	expect_refused(
		self, "{\"connection-string\": \"" CONNSTR "\"}",
		"field \"connection-string\" is a secret: put it into a file that only the daemon can read "
		"and name that in \"connection-string-file\"");
	expect_refused(
		self, "{\"host\": \"" CONNSTR "\"}",
		"field \"host\" is not a host name: write a DNS name or an IP address, without a port");
}

TEST_F(config, not_json)
{
	expect_refused(
		self, "",
		"line 1, column 1: the configuration must be one JSON object, { ... }: correct it there");
	expect_refused(self, "{\n\"port\": 1,\n",
		       "line 3, column 1: not JSON: the text ends too early: correct it there");
	expect_refused(self, "{\"port\": 1} x", "line 1, column 13: unexpected character: correct it there");
	expect_refused(self, "{\n  port: 1\n}",
		       "line 2, column 3: quoted object property name expected: correct it there");
	expect_refused(self, "{\"port\": 1,}", "line 1, column 12: unexpected character: correct it there");
	expect_refused(self, "{\n\t/* no */ \"port\": 1}",
		       "line 2, column 2: quoted object property name expected: correct it there");
	expect_refused(self, "{\"host\": \"h\xff\"}",
		       "line 1, column 12: invalid utf-8 string: correct it there");
	expect_refused(self, "[]",
		       "line 1, column 1: the configuration must be one JSON object, { ... }: "
		       "correct it there");
	expect_refused(self, "null",
		       "line 1, column 1: the configuration must be one JSON object, { ... }: "
		       "correct it there");
	expect_refused(self, "{\"port\": NaN}", "line 1, column 10: not JSON: correct it there");
	EXPECT_EQ(load_json(self, "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}"),
		  -EINVAL);
	EXPECT_CONTAINS(self->text, "nesting too deep");
}

TEST_F(config, fields_twice)
{
	expect_refused(self, "{\"port\": 1,\n \"port\": 2}",
		       "line 2, column 2: this field is there twice: correct it there");
	expect_refused(self,
		       "{\"files\": {\"status\": {\"mode\": \"0\", \"owner\": \"1\", \"mode\": \"0\"}}}",
		       "line 1, column 50: this field is there twice: correct it there");
	expect_refused(self, "{\"po\\u0072t\": 1, \"port\": 2}",
		       "line 1, column 2: a field name with an escape: correct it there");
	/* The same name in different objects is fine, and so is one in a value. */
	EXPECT_EQ(load_json(self, "{" DEVICE ", \"files\": {\"status\": {\"mode\": \"0\"}, "
				  "\"telemetry\": {\"mode\": \"0\"}}, \"ca-file\": \"\\\"mount\\\": {\", "
				  "\"mount\": \"/ca-file\"}"),
		  0);
	EXPECT_STREQ(self->config.mount, "/ca-file");
}

TEST_F(config, too_many_fields)
{
	static char json[JSONFILE_FIELDS_MAX * 16];
	size_t n = 0;

	for (int i = 0; i <= JSONFILE_FIELDS_MAX; ++i)
		n += (size_t)snprintf(json + n, sizeof(json) - n, "%s\"f%d\":1", i ? "," : "{", i);
	snprintf(json + n, sizeof(json) - n, "}");
	EXPECT_EQ(load_json(self, json), -EINVAL);
	EXPECT_CONTAINS(self->text, "more fields than any configuration has");
}

TEST_F(config, unreadable_files)
{
	self->source.config_file = "missing.json";
	EXPECT_EQ(load(self), -ENOENT);
	expect_line(self,
		    "error: configuration file missing.json does not exist: create it or name another\n");
	self->source.config_file = ".";
	EXPECT_EQ(load(self), -EISDIR);
	expect_line(self, "error: configuration file . is a directory: name a file\n");
	self->source.config_file = NULL;
	self->source.connection_string_file = "missing";
	EXPECT_EQ(load(self), -ENOENT);
	expect_line(self,
		    "error: connection string file missing does not exist: create it or name another\n");
	self->source.connection_string_file = "/dev/zero";
	EXPECT_EQ(load(self), -EFBIG);
	expect_line(
		self,
		"error: connection string file /dev/zero is too large: check that it is the right file\n");
}

TEST_F(config, files_without_permission)
{
	bool as_root = getuid() == 0;

	file_write(self, "c.json", "{}", 0);
	self->source.config_file = "c.json";
	ASSERT_EQ(chmod(self->dir, 0711), 0);
	SKIP_IF(as_root && seteuid(65534), "cannot become another user");
	EXPECT_EQ(load(self), -EACCES);
	EXPECT_CONTAINS(self->text,
			"error: configuration file c.json cannot be read: permission denied: let user ");
	EXPECT_CONTAINS(self->text, " read it\n");
	if (as_root)
		ASSERT_EQ(seteuid(0), 0);
}

TEST_F(config, a_binary_file)
{
	int fd = open("bin", O_WRONLY | O_CREAT, 0600);

	ASSERT_EQ(write(fd, "{\0}", 3), 3);
	close(fd);
	self->source.config_file = "bin";
	EXPECT_EQ(load(self), -EILSEQ);
	expect_line(self, "error: configuration file bin is not text: check that it is the right file\n");
}

TEST_F(config, connection_string_on_the_command_line)
{
	file_write(self, "cs", "\n " CONNSTR ";ModuleId=m1\r\n\n", 0600);
	self->source.connection_string_file = "cs";
	ASSERT_EQ(load(self), 0);
	expect_line(self, "");
	EXPECT_STREQ(self->config.client_id, "dev1/m1");
	EXPECT_MEMEQ(self->config.key.data, "secret", 6);
	EXPECT_EQ(self->config.port, 8883);
	EXPECT_EQ(self->config.config_path, NULL);
	EXPECT_STREQ(self->config.identity_path, "cs");
	/* It replaces all the JSON file says about hub and device, and nothing else. */
	ASSERT_EQ(load_json(self,
			    "{\"host\": \"other\", \"device-id\": \"other\", \"port\": 1, \"gateway-host\": "
			    "\"gw\", \"shared-access-key-file\": \"missing\", \"keep-alive\": 11}"),
		  0);
	EXPECT_STREQ(self->config.host, "hub.example");
	EXPECT_STREQ(self->config.device_id, "dev1");
	EXPECT_EQ(self->config.gateway_host, NULL);
	EXPECT_EQ(self->config.port, 8883);
	EXPECT_EQ(self->config.keep_alive_s, 11);
}

TEST_F(config, connection_string_through_a_pipe)
{
	int fds[2];
	char path[32];

	ASSERT_EQ(pipe(fds), 0);
	ASSERT_EQ(write(fds[1], CONNSTR, strlen(CONNSTR)), (ssize_t)strlen(CONNSTR));
	close(fds[1]);
	snprintf(path, sizeof(path), "/dev/fd/%d", fds[0]);
	self->source.connection_string_file = path;
	EXPECT_EQ(load(self), 0);
	/* A pipe has no permissions to warn about. */
	expect_line(self, "");
	EXPECT_STREQ(self->config.device_id, "dev1");
}

TEST_F(config, connection_string_named_by_the_json_file)
{
	file_write(self, "etc/cs", CONNSTR ";Port=99;GatewayHostName=gw2", 0600);
	file_write(self, "etc/iothubd.json",
		   "{\"connection-string-file\": \"cs\", \"port\": 7, "
		   "\"gateway-host\": \"gw\"}",
		   0600);
	ASSERT_EQ(load(self), 0);
	EXPECT_STREQ(self->config.host, "hub.example");
	EXPECT_EQ(self->config.port, 99);
	EXPECT_STREQ(self->config.gateway_host, "gw2");
	/* What the string leaves open the file may say. */
	file_write(self, "etc/cs", CONNSTR, 0600);
	ASSERT_EQ(load(self), 0);
	EXPECT_EQ(self->config.port, 7);
	EXPECT_STREQ(self->config.gateway_host, "gw");
	expect_refused(self, "{\"connection-string-file\": \"cs\", \"module-id\": \"m\"}",
		       "fields \"connection-string-file\" and \"module-id\" are both there: keep one");
}

TEST_F(config, default_places_of_the_connection_string)
{
	char want[512];

	EXPECT_EQ(load(self), -ENOENT);
	snprintf(want, sizeof(want),
		 "error: no hub to connect to: put the device's connection string into %s/connection-string "
		 "or name its file with --connection-string-file\n",
		 self->config_dir);
	expect_line(self, want);
	file_write(self, "etc/connection-string", CONNSTR, 0600);
	ASSERT_EQ(load(self), 0);
	EXPECT_STREQ(self->config.device_id, "dev1");
	/* systemd's credential comes first. Its mode is systemd's affair. */
	file_write(self, "credentials/connection-string",
		   "HostName=hub.example;DeviceId=dev2;SharedAccessKey=" KEY, 0444);
	self->source.credentials_dir = self->credentials_dir;
	ASSERT_EQ(load(self), 0);
	expect_line(self, "");
	EXPECT_STREQ(self->config.device_id, "dev2");
	/* A JSON file that does not say which hub changes nothing about that. */
	ASSERT_EQ(load_json(self, "{\"keep-alive\": 11}"), 0);
	EXPECT_STREQ(self->config.device_id, "dev2");
	EXPECT_EQ(self->config.keep_alive_s, 11);
}

TEST_F(config, key_from_the_credentials)
{
	file_write(self, "credentials/shared-access-key", "b3RoZXI=", 0400);
	self->source.credentials_dir = self->credentials_dir;
	ASSERT_EQ(load_json(self, "{\"host\": \"h\", \"device-id\": \"d\"}"), 0);
	EXPECT_MEMEQ(self->config.key.data, "other", 5);
	/* A key file that is named is the one that counts. */
	ASSERT_EQ(load_json(self, "{" DEVICE "}"), 0);
	EXPECT_MEMEQ(self->config.key.data, "secret", 6);
}

TEST_F(config, without_authentication)
{
	static const char none[] = "{\"host\": \"h\", \"device-id\": \"d\", \"authentication\": \"none\"}";
	const struct config *c = &self->config;

	/* A credential of that name may be there for another purpose. */
	file_write(self, "credentials/shared-access-key", "b3RoZXI=", 0400);
	self->source.credentials_dir = self->credentials_dir;
	ASSERT_EQ(load_json(self, none), 0);
	expect_line(self, "");
	EXPECT_TRUE(c->authentication == CONFIG_AUTHENTICATION_NONE);
	EXPECT_EQ(c->key.len, 0u);
	EXPECT_EQ(c->identity_path, NULL);
	EXPECT_STREQ(c->client_id, "d");
	expect_refused(self, "{\"authentication\": \"none\"}",
		       "field \"host\" is missing: \"authentication\" needs it");
	expect_refused(self, "{\"authentication\": \"none\", \"host\": \"h\"}",
		       "field \"device-id\" is missing: \"host\" needs it");
	expect_refused(self, "{" DEVICE ", \"authentication\": \"none\"}",
		       "field \"shared-access-key-file\" brings a key and \"authentication\" is \"none\": "
		       "keep one");
	expect_refused(self, "{\"connection-string-file\": \"key\", \"authentication\": \"none\"}",
		       "field \"connection-string-file\" brings a key and \"authentication\" is \"none\": "
		       "keep one");
	/* A connection string of the command line replaces all that, its key included. */
	file_write(self, "cs", CONNSTR, 0600);
	self->source.connection_string_file = "cs";
	ASSERT_EQ(load_json(self, none), 0);
	EXPECT_TRUE(c->authentication == CONFIG_AUTHENTICATION_SAS);
}

TEST_F(config, half_an_identity)
{
	expect_refused(self, "{\"host\": \"h\"}", "field \"device-id\" is missing: \"host\" needs it");
	expect_refused(self, "{\"device-id\": \"d\"}", "field \"host\" is missing: \"device-id\" needs it");
	expect_refused(self, "{\"shared-access-key-file\": \"key\"}",
		       "field \"host\" is missing: \"shared-access-key-file\" needs it");
	expect_refused(self, "{\"host\": \"h\", \"device-id\": \"d\"}",
		       "field \"shared-access-key-file\" is missing: name the file with the key of device d");
}

TEST_F(config, wrong_connection_strings)
{
	self->source.connection_string_file = "cs";
	file_write(self, "cs", "HostName=hub.example", 0600);
	EXPECT_EQ(load(self), -EINVAL);
	expect_line(self, "error: cs: connection string: DeviceId is missing: " FORM "\n");
	file_write(self, "cs", "", 0600);
	EXPECT_EQ(load(self), -EINVAL);
	expect_line(self, "error: cs: connection string: HostName is missing: " FORM "\n");
	file_write(self, "cs", "HostName=h;DeviceId=d;SharedAccessKey=secret-key", 0600);
	EXPECT_EQ(load(self), -EINVAL);
	expect_line(self,
		    "error: cs: SharedAccessKey is not base64: copy it again, whole and without quotes\n");
}

TEST_F(config, wrong_key_files)
{
	char key[BASE64_LEN(HUB_KEY_BYTES_MAX) + 5];

	file_write(self, "key", "secret-key", 0600);
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), -EINVAL);
	expect_line(self, "error: ./key: the key is not base64: copy it again, whole and without quotes\n");
	file_write(self, "key", "\n", 0600);
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), -EINVAL);
	expect_line(self, "error: ./key: the key is not base64: copy it again, whole and without quotes\n");
	memset(key, 'A', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	file_write(self, "key", key, 0600);
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), -EINVAL);
	expect_line(self, "error: ./key: the key is longer than any key: check that it is the right one\n");
	unlink("key");
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), -ENOENT);
	expect_line(self, "error: key file ./key does not exist: create it or name another\n");
}

TEST_F(config, open_secrets_are_warned_about)
{
	file_write(self, "key", KEY, 0640);
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), 0);
	expect_line(self,
		    "warning: key file ./key is a secret open to other users (mode 0640): chmod 600 it\n");
	/* A directory whose name merely starts like the credentials' one does not guard it. */
	self->source.credentials_dir = ".";
	file_write(self, "..cs", CONNSTR, 0604);
	self->source.connection_string_file = "..cs";
	EXPECT_EQ(load(self), 0);
	expect_line(self, "warning: connection string file ..cs is a secret open to other users (mode 0604): "
			  "chmod 600 it\n");
}

TEST_F(config, paths_start_at_the_file_or_here)
{
	char path[256];

	file_write(self, "etc/key", KEY, 0600);
	file_write(self, "etc/iothubd.json", "{" DEVICE ", \"ca-file\": \"ca.pem\", \"mount\": \"m\"}", 0600);
	ASSERT_EQ(load(self), 0);
	snprintf(path, sizeof(path), "%s/ca.pem", self->config_dir);
	EXPECT_STREQ(self->config.ca_file, path);
	snprintf(path, sizeof(path), "%s/m", self->config_dir);
	EXPECT_STREQ(self->config.mount, path);
	self->source.ca_file = "other.pem";
	self->source.mount = "here";
	ASSERT_EQ(load(self), 0);
	snprintf(path, sizeof(path), "%s/other.pem", self->dir);
	EXPECT_STREQ(self->config.ca_file, path);
	snprintf(path, sizeof(path), "%s/here", self->dir);
	EXPECT_STREQ(self->config.mount, path);
}

TEST_F(config, log_level_on_the_command_line)
{
	self->source.log_level = "error";
	ASSERT_EQ(load_json(self, "{" DEVICE ", \"log-level\": \"debug\"}"), 0);
	EXPECT_TRUE(self->config.log_level == LOG_LEVEL_ERROR);
	self->source.log_level = "ERROR";
	EXPECT_EQ(load(self), -EINVAL);
	expect_line(self, "error: --log-level must be error, warning, info or debug\n");
}

TEST_F(config, methods)
{
	char many[1024] = "{\"methods\": [\"0\"";
	size_t len = strlen(many);

	expect_refused(self, "{\"methods\": \"reboot\"}",
		       "field \"methods\" must be an array of names, not a string");
	expect_refused(self, "{\"methods\": [\"a\", 1]}",
		       "field \"methods\" must be an array of names, not a number");
	expect_refused(self, "{\"methods\": [\"a\", \"\"]}",
		       "field \"methods\" must be an array of names, not empty");
	expect_refused(self, "{\"methods\": [\"a\", \"b/c\"]}",
		       "field \"methods\" has a name at position 2 that no method can have");
	expect_refused(self, "{\"methods\": [\"a\", \"b\", \"a\"]}",
		       "field \"methods\" has a name at position 3 that is there before");
	for (int i = 1; i <= CONFIG_METHODS_MAX; ++i)
		len += (size_t)snprintf(many + len, sizeof(many) - len, ", \"%d\"", i);
	snprintf(many + len, sizeof(many) - len, "]}");
	expect_refused(self, many, "field \"methods\" has 49 names: a hub allows 48");
	expect_refused(self, "{\"method-timeout\": 0}",
		       "field \"method-timeout\" must be a whole number from 1 to 3600, not 0");
}

TEST_F(config, storage)
{
	ASSERT_EQ(load_json(self, "{" DEVICE ", \"storage\": \"volatile\"}"), 0);
	EXPECT_TRUE(self->config.storage == CONFIG_STORAGE_VOLATILE);
	EXPECT_EQ(self->config.queue_bytes, 16u << 20);
	ASSERT_EQ(load_json(self, "{" DEVICE ", \"storage\": \"volatile\", \"queue-bytes\": 1099511627776}"),
		  0);
	EXPECT_EQ(self->config.queue_bytes, UINT64_C(1) << 40);
	ASSERT_EQ(load_json(self, "{" DEVICE ", \"storage\": \"persistent\"}"), 0);
	EXPECT_TRUE(self->config.storage == CONFIG_STORAGE_PERSISTENT);
	expect_refused(self, "{\"storage\": \"disk\"}",
		       "field \"storage\" must be \"persistent\" or \"volatile\"");
	expect_refused(self, "{\"storage\": true}",
		       "field \"storage\" must be \"persistent\" or \"volatile\", not true or false");
}

TEST_F(config, no_state_directory)
{
	self->source.state_dir = NULL;
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), -ENOENT);
	expect_line(
		self,
		"error: no place for the queue: HOME is not set: name a directory in \"state-directory\", "
		"or set \"storage\" to \"volatile\"\n");
	EXPECT_EQ(load_json(self, "{" DEVICE ", \"state-directory\": \"/s\"}"), 0);
	EXPECT_STREQ(self->config.state_dir, "/s");
	EXPECT_EQ(load_json(self, "{" DEVICE ", \"storage\": \"volatile\"}"), 0);
	EXPECT_EQ(self->config.state_dir, NULL);
}

TEST_F(config, no_place_for_volatile_storage)
{
	self->source.run_dir = NULL;
	EXPECT_EQ(load_json(self, "{" DEVICE ", \"storage\": \"volatile\"}"), -ENOENT);
	expect_line(
		self,
		"error: no place for volatile storage: XDG_RUNTIME_DIR is not set: set it, or \"storage\" "
		"to \"persistent\"\n");
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), 0);
	EXPECT_EQ(self->config.run_dir, NULL);
}

TEST_F(config, no_runtime_directory)
{
	self->source.runtime_dir = NULL;
	EXPECT_EQ(load_json(self, "{" DEVICE "}"), -ENOENT);
	expect_line(
		self,
		"error: no place for the files: XDG_RUNTIME_DIR is not set: name a directory with --mount\n");
	self->source.mount = "/m";
	EXPECT_EQ(load(self), 0);
}

TEST_F(config, source_of_root_and_of_a_user)
{
	struct config_source_paths paths;
	struct config_source s;

	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x", 1);
	setenv("XDG_CONFIG_HOME", "/home/u/cfg", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	setenv("XDG_STATE_HOME", "/home/u/st", 1);
	unsetenv("STATE_DIRECTORY");
	unsetenv("RUNTIME_DIRECTORY");
	setenv("HOME", "/home/u", 1);
	config_source_init(&s, &paths);
	EXPECT_STREQ(s.credentials_dir, "/run/credentials/x");
	if (geteuid() == 0) {
		EXPECT_STREQ(s.config_dir, "/etc/iothub");
		EXPECT_STREQ(s.runtime_dir, "/run");
		EXPECT_STREQ(s.state_dir, "/var/lib/iothub");
		EXPECT_STREQ(s.run_dir, "/run/iothubd");
		setenv("STATE_DIRECTORY", "/var/lib/x", 1);
		setenv("RUNTIME_DIRECTORY", "/run/x", 1);
		config_source_init(&s, &paths);
		EXPECT_STREQ(s.state_dir, "/var/lib/x");
		EXPECT_STREQ(s.run_dir, "/run/x");
		SKIP_IF(seteuid(65534), "cannot become another user");
		config_source_init(&s, &paths);
	}
	EXPECT_EQ(s.uid, geteuid());
	EXPECT_STREQ(s.config_dir, "/home/u/cfg/iothub");
	EXPECT_STREQ(s.runtime_dir, "/run/user/7");
	EXPECT_STREQ(s.run_dir, "/run/user/7/iothubd");
	EXPECT_STREQ(s.state_dir, "/home/u/st/iothub");
	/* Relative directories in the environment do not count, as the XDG specification says. */
	setenv("XDG_CONFIG_HOME", "cfg", 1);
	setenv("XDG_RUNTIME_DIR", "run", 1);
	unsetenv("XDG_STATE_HOME");
	config_source_init(&s, &paths);
	EXPECT_STREQ(s.config_dir, "/home/u/.config/iothub");
	EXPECT_STREQ(s.state_dir, "/home/u/.local/state/iothub");
	EXPECT_EQ(s.runtime_dir, NULL);
	EXPECT_EQ(s.run_dir, NULL);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("HOME");
	unsetenv("CREDENTIALS_DIRECTORY");
	config_source_init(&s, &paths);
	EXPECT_EQ(s.config_dir, NULL);
	EXPECT_EQ(s.state_dir, NULL);
	EXPECT_EQ(s.credentials_dir, NULL);
	if (getuid() == 0)
		ASSERT_EQ(seteuid(0), 0);
}

TEST(names)
{
	EXPECT_STREQ(config_file_name(CONFIG_FILE_TELEMETRY), "telemetry");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_TELEMETRY_RAW), "telemetry.raw");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_TELEMETRY_FILE), "telemetry.file");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_STATUS), "status");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_EVENTS), "events");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_COMMANDS), "commands");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_SETTLE), "settle");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_METHODS), "methods");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_TWIN), "twin");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_REPORTED), "reported");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_CHANNELS), "channels");
	EXPECT_STREQ(config_file_name(CONFIG_FILE_REJECTED), "rejected");
}

TEST(deinit_twice)
{
	struct config c = {.host = strdup("h"), .key = {.data = "k", .len = 1}};
	static const struct config empty;

	config_deinit(&c);
	EXPECT_MEMEQ(&c, &empty, sizeof(c));
	config_deinit(&c);
}

TEST_HARNESS_MAIN
