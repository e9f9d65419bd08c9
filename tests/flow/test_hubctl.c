/* SPDX-License-Identifier: MIT */
/* hubctl's command lines, and how it fails: every error is one line and an exit code. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/harness.h"
#include "tests/support/hubctl_run.h"

FIXTURE(hubctl)
{
	struct hubctl_run h;
};

FIXTURE_SETUP(hubctl)
{
	ASSERT_EQ(emu_process_init(&self->h.e), 0);
}

FIXTURE_TEARDOWN(hubctl)
{
	hubctl_run_deinit(&self->h);
}

static void start(struct fixture_hubctl *self)
{
	const char *const options[] = {"--device=dev1", NULL};

	ASSERT_EQ(emu_process_start(&self->h.e, options), 0);
}

/* One line that begins with the program's name. */
static void expect_one_line(const struct hubctl_run *h)
{
	EXPECT_EQ(strncmp(h->err, "hubctl: ", 8), 0);
	EXPECT_TRUE(strchr(h->err, '\n') != NULL && strchr(h->err, '\n')[1] == '\0');
}

#define N_WORDS 3

static const char *const all[][N_WORDS] = {
	{"devices", "add", "devices add"},   {"devices", "list", "devices list"},
	{"devices", "show", "devices show"}, {"devices", "remove", "devices remove"},
	{"devices", "keys", "devices keys"}, {"monitor", NULL, "monitor"},
	{"twin", "show", "twin show"},       {"twin", "patch", "twin patch"},
	{"twin", "watch", "twin watch"},     {"command", "send", "command send"},
	{"command", "list", "command list"}, {"command", "purge", "command purge"},
	{"method", "call", "method call"},   {"fault", "set", "fault set"},
	{"fault", "list", "fault list"},     {"fault", "clear", "fault clear"},
};

#define N_ALL (sizeof(all) / sizeof(all[0]))

TEST_F(hubctl, helps_with_every_command)
{
	struct hubctl_run *h = &self->h;
	char usage[64];

	EXPECT_EQ(hubctl_run(h, "--help"), 0);
	for (size_t i = 0; i < N_ALL; i++)
		EXPECT_CONTAINS(h->out, all[i][2]);
	for (size_t i = 0; i < N_ALL; i++) {
		EXPECT_EQ(hubctl_run(h, all[i][0], all[i][1] ? all[i][1] : "--help", "--help"), 0);
		snprintf(usage, sizeof(usage), "Usage: hubctl %s", all[i][2]);
		EXPECT_EQ(strncmp(h->out, usage, strlen(usage)), 0);
		EXPECT_CONTAINS(h->out, "--json");
		EXPECT_CONTAINS(h->out, "--timeout");
		EXPECT_STREQ(h->err, "");
	}
	EXPECT_EQ(hubctl_run(h, "twin", "--help"), 0);
	EXPECT_CONTAINS(h->out, "twin patch");
	EXPECT_TRUE(strstr(h->out, "fault") == NULL);
}

struct wrong_line {
	const char *words[6];
	const char *says;
};

TEST_F(hubctl, says_what_is_wrong_with_a_command_line)
{
	static const struct wrong_line lines[] = {
		{{"nosuch"}, "no such command: nosuch; see hubctl --help"},
		{{"devices", "nosuch"}, "no such command: devices nosuch; see hubctl devices --help"},
		{{"devices", "add"}, "devices add needs DEVICE"},
		{{"devices", "add", "a", "b"}, "what is b? devices add takes DEVICE"},
		{{"devices", "list", "a"}, "what is a? devices list takes options only"},
		{{"devices", "add", ""}, "`' is not the name of a device"},
		{{"devices", "add", "a b"}, "`a b' is not the name of a device"},
		{{"devices", "add", "d", "--x509-thumbprint", "12:34"},
		 "--x509-thumbprint 12:34: not a valid"},
		{{"devices", "add", "d", "--x509-certificate", "/dev/null"},
		 "--x509-certificate /dev/null: not"},
		{{"devices", "add", "d", "--x509-ca", "--output=x"}, "no connection string to save"},
		{{"devices", "add", "d", "--x509-ca", "--primary-key=AAAA"}, "keys or X.509, not both"},
		{{"devices", "keys", "d", "--regenerate", "all"}, "--regenerate all: not a valid value"},
		{{"devices", "show", "d", "--nosuch"}, "--nosuch is not an option here"},
		{{"devices", "show", "d", "--timeout"}, "--timeout needs a value"},
		{{"devices", "show", "d", "--timeout=0"}, "--timeout 0: not a valid value"},
		{{"devices", "show", "d", "--timeout=1.2345"}, "--timeout 1.2345: not a valid value"},
		{{"devices", "show", "d", "--timeout=-1"}, "--timeout -1: not a valid value"},
		{{"devices", "show", "d", "-q"}, "-q is not an option here"},
		{{"monitor", "--count=0"}, "--count 0: not a valid value; see hubctl monitor --help"},
		{{"monitor", "dev1"}, "what is dev1? monitor takes options only"},
		{{"twin", "patch", "d", "{}", "--file=x"}, "PATCH or --file, not both"},
		{{"twin", "patch", "d", "{}", "--if-version=x"}, "--if-version x: not a valid value"},
		{{"command", "send", "d", "x", "--file=x"}, "PAYLOAD or --file, not both"},
		{{"command", "send", "d", "x", "--property=x"}, "--property x: not a valid value"},
		{{"command", "send", "d", "x", "--expiry=172801"}, "--expiry 172801: not a valid value"},
		{{"command", "purge", "d", "--state=in-flight"}, "--state in-flight: not a valid value"},
		{{"method", "call", "d"}, "method call needs DEVICE NAME [PAYLOAD]"},
		{{"method", "call", "d", "a/b"}, "a/b is not the name of a method"},
		{{"method", "call", "d", "m", "--timeout=1.5"},
		 "--timeout takes whole seconds from 1 to 300"},
		{{"method", "call", "d", "m", "--connect-timeout=301"}, "--connect-timeout 301: not a valid"},
		{{"fault", "set"}, "fault set needs KIND [NAME=VALUE]..."},
		{{"fault", "set", "cut", "evry=3"}, "what is evry=3? A fault has NAME=VALUE of known names"},
		{{"fault", "set", "cut", "every"}, "what is every?"},
		{{"fault", "set", "cut", "every=x"}, "every=x: not a valid value"},
		{{"fault", "set", "cut", "fraction=1/2"}, "fraction=1/2: not a valid value"},
		{{"fault", "set", "{\"fault\":"}, "the fault is not one JSON object"},
		{{"fault", "clear", "x"}, "x is not the number of a fault"},
	};
	struct hubctl_run *h = &self->h;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		const char *const *w = lines[i].words;

		EXPECT_EQ(hubctl_run(h, w[0], w[1], w[2], w[3], w[4], w[5]), 2);
		expect_one_line(h);
		EXPECT_CONTAINS(h->err, lines[i].says);
		EXPECT_STREQ(h->out, "");
	}
	EXPECT_EQ(hubctl_run(h, "twin"), 2);
	EXPECT_CONTAINS(h->err, "twin patch");
}

TEST_F(hubctl, says_what_is_wrong_with_a_patch)
{
	struct hubctl_run *h = &self->h;

	EXPECT_EQ(hubctl_run(h, "twin", "patch", "dev1", "{a:1}"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: the patch is not JSON: ");
	EXPECT_EQ(hubctl_run(h, "twin", "patch", "dev1", "[1]"), 1);
	EXPECT_STREQ(h->err, "hubctl: the patch is not a JSON object, such as {\"interval\":5}\n");
	EXPECT_EQ(hubctl_run(h, "twin", "patch", "dev1", "{\"a\":1} {}"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: the patch is not JSON: ");
	EXPECT_EQ(hubctl_run_input(h, "{\"a\":", "twin", "patch", "dev1"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: the patch is not JSON: ");
	EXPECT_EQ(hubctl_run(h, "twin", "patch", "dev1", "--file=/nowhere"), 1);
	EXPECT_STREQ(h->err, "hubctl: /nowhere: No such file or directory\n");
}

TEST_F(hubctl, does_not_read_for_ever)
{
	struct hubctl_run *h = &self->h;

	EXPECT_EQ(hubctl_run(h, "command", "send", "dev1", "--file=/dev/zero"), 1);
	EXPECT_STREQ(h->err, "hubctl: /dev/zero: too long\n");
}

/* A hub that takes connections and says nothing. */
TEST_F(hubctl, does_not_wait_for_ever)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);
	struct hubctl_run *h = &self->h;
	char text[200];

	ASSERT_EQ(bind(fd, (struct sockaddr *)&address, len), 0);
	ASSERT_EQ(listen(fd, 4), 0);
	ASSERT_EQ(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(text, sizeof(text),
		 "HostName=127.0.0.1;SharedAccessKeyName=service;SharedAccessKey=AAAA;Port=%u",
		 ntohs(address.sin_port));
	hubctl_write_file(h, "service.connection-string", text, strlen(text));
	EXPECT_EQ(hubctl_run(h, "devices", "list", "--timeout=0.3"), 1);
	EXPECT_STREQ(h->err, "hubctl: 127.0.0.1 did not take the connection within 0.3 s\n");
	EXPECT_STREQ(h->out, "");
	close(fd);
	EXPECT_EQ(hubctl_run(h, "devices", "list"), 1);
	EXPECT_CONTAINS(h->err, "hubctl: cannot connect to 127.0.0.1:");
	EXPECT_CONTAINS(h->err, "Connection refused");
}

TEST_F(hubctl, every_command_says_when_it_is_not_authorized)
{
	struct hubctl_run *h = &self->h;
	char text[200];

	start(self);
	snprintf(text, sizeof(text),
		 "HostName=localhost;SharedAccessKeyName=service;SharedAccessKey=AAAA;Port=%u", h->e.port);
	hubctl_write_file(h, "service.connection-string", text, strlen(text));
	for (size_t i = 0; i < N_ALL; i++) {
		const char *group = all[i][0], *verb = all[i][1];
		bool has_device = verb && strcmp(verb, "list") != 0 && strcmp(group, "fault") != 0;

		if (strcmp(group, "method") == 0)
			EXPECT_EQ(hubctl_run(h, group, verb, "dev1", "m"), 1);
		else if (strcmp(group, "command") == 0 || has_device)
			EXPECT_EQ(hubctl_run_input(h, "{}", group, verb, "dev1"), 1);
		else if (verb && strcmp(verb, "set") == 0)
			EXPECT_EQ(hubctl_run(h, group, verb, "lose-puback"), 1);
		else
			EXPECT_EQ(hubctl_run(h, group, verb), 1);
		EXPECT_STREQ(h->err,
			     "hubctl: localhost refused the connection: Not authorized (status 0101)\n");
		EXPECT_STREQ(h->out, "");
	}
}

TEST_F(hubctl, says_when_it_cannot_print)
{
	struct hubctl_run *h = &self->h;
	const char *argv[] = {"sh", "-c", NULL, NULL};
	char *said;
	char program[EMU_PROCESS_PATH_MAX], script[EMU_PROCESS_PATH_MAX + 40];

	SKIP_IF(access("/dev/full", W_OK) < 0, "needs /dev/full");
	emu_program_path("hubctl", program);
	snprintf(script, sizeof(script), "%s --help > /dev/full", program);
	argv[2] = script;
	EXPECT_EQ(emu_wait(emu_spawn(argv, NULL, hubctl_file(h, "err"), -1)), 1);
	said = emu_read_file(hubctl_file(h, "err"));
	EXPECT_STREQ(said, "hubctl: standard output: No space left on device\n");
	free(said);
}

TEST_HARNESS_MAIN
