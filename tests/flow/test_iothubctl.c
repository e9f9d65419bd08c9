/* SPDX-License-Identifier: MIT */
/*
 * iothubctl with a real daemon and hub: what it prints, what it does, its exit codes, and that waiting ends when it
 * should.
 */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"
#include "tools/iothubctl/verb.h"

#define TEXT_SIZE 16384
#define ARGS_MAX  16

FIXTURE(ctl)
{
	struct lab lab;
	pid_t pid; /* of an iothubctl that goes on */
	int out;   /* what it prints */
};

/* What is abandoned comes again at once. */
static const char *const emulator_options[] = {"--redelivery-delay", "0", NULL};

#define ctl(text, ...) ctl_argv(text, (const char *const[]){__VA_ARGS__, NULL})

/* All it prints is in @text, of TEXT_SIZE bytes. Returns its exit code. */
static int ctl_argv(char *text, const char *const *args)
{
	const char *argv[ARGS_MAX] = {getenv("IOTHUBCTL")};

	for (size_t n = 1; *args; n++, args++) {
		ASSERT_LT(n + 1, (size_t)ARGS_MAX);
		argv[n] = *args;
	}
	return process_run(argv, text, TEXT_SIZE);
}

FIXTURE_SETUP(ctl)
{
	char text[TEXT_SIZE];

	lab_init(&self->lab);
	lab_start_emulator(&self->lab, emulator_options);
	lab_start_daemon(&self->lab);
	lab_await_state(&self->lab, "connected");
	setenv("IOTHUBCTL", process_path("iothubctl"), 1);
	setenv("IOTHUB_MOUNT", self->lab.mount, 1);
	/* The twin is asked for when the connection is there. */
	ASSERT_EQ(ctl(text, "twin", "wait", "desired"), CTL_DONE);
}

FIXTURE_TEARDOWN(ctl)
{
	lab_show_log(&self->lab, "daemon");
	lab_show_log(&self->lab, "ctl");
	process_stop(&self->pid, SIGKILL);
	lab_deinit(&self->lab);
}

/* --- running it ------------------------------------------------------------------------------- */

#define start(self, ...) start_argv(self, (const char *const[]){__VA_ARGS__, NULL})

static void start_argv(struct fixture_ctl *self, const char *const *args)
{
	const char *argv[ARGS_MAX] = {getenv("IOTHUBCTL")};
	char log[LAB_PATH_MAX];
	int out[2];

	for (size_t n = 1; *args; n++, args++)
		argv[n] = *args;
	snprintf(log, sizeof(log), "%s/ctl.log", self->lab.dir);
	ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
	self->pid = process_start(log, argv, -1, out[1]);
	close(out[1]);
	self->out = out[0];
}

/* Waits for the end of what was started: its exit code, and in @text what it printed. */
static int finish(struct fixture_ctl *self, char *text)
{
	size_t len = 0;
	ssize_t n;
	int status;

	while ((n = read(self->out, text + len, TEXT_SIZE - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(self->out);
	status = process_stop(&self->pid, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Until it has printed @needle. */
static void await_output(struct fixture_ctl *self, const char *needle)
{
	char text[TEXT_SIZE] = "";
	size_t len = 0;
	ssize_t n;

	while (!strstr(text, needle)) {
		n = read(self->out, text + len, TEXT_SIZE - 1 - len);
		ASSERT_GT(n, 0);
		len += (size_t)n;
		text[len] = '\0';
	}
}

/* Whether it prints something or ends within a moment. */
static bool has_output(struct fixture_ctl *self)
{
	struct pollfd p = {.fd = self->out, .events = POLLIN};

	return poll(&p, 1, 50) == 1;
}

/* --- the hub's side --------------------------------------------------------------------------- */

static void hub_desired(const struct lab *lab, const char *patch)
{
	char text[TEXT_SIZE];

	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "twin", "patch", "dev1", patch), 0);
}

static void hub_expect(const struct lab *lab, const char *want)
{
	char text[TEXT_SIZE];

	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "twin", "show", "dev1", "--json"), 0);
	EXPECT_CONTAINS(text, want);
}

/* The hub has heard all that was decided, and what it sent before is here: a message behind it is acknowledged. */
static void await_hub(const struct lab *lab)
{
	_cleanup_(close_fd) int fd = open(lab_path(lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "sync", 4), 4);
}

/* --- status, events --------------------------------------------------------------------------- */

TEST_F(ctl, status)
{
	char text[TEXT_SIZE];

	EXPECT_EQ(ctl(text, "status"), CTL_DONE);
	EXPECT_CONTAINS(text, "state: connected\n");
	EXPECT_EQ(ctl(text, "status", "--json"), CTL_DONE);
	EXPECT_CONTAINS(text, "\"device\":\"dev1\"");
	EXPECT_CONTAINS(text, "\"connects\":1");
	lab_stop_emulator(&self->lab, SIGKILL);
	lab_await_state(&self->lab, "waiting");
	EXPECT_EQ(ctl(text, "status"), CTL_OFFLINE);
	EXPECT_CONTAINS(text, "state: ");
	EXPECT_EQ(ctl(text, "status", "--json"), CTL_OFFLINE);
}

TEST_F(ctl, no_daemon)
{
	static const char *const lines[][3] = {
		{"status"},
		{"events"},
		{"twin", "get"},
		{"twin", "patch", "{}"},
		{"twin", "watch"},
		{"command", "list"},
		{"command", "complete", "1"},
	};
	char text[TEXT_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *const *l = lines[i];

		EXPECT_EQ(ctl(text, "--mount", self->lab.dir, l[0], l[1], l[1] ? l[2] : NULL), CTL_NO_DAEMON);
		EXPECT_CONTAINS(text, "iothubd does not run here");
	}
	lab_stop_daemon(&self->lab, SIGKILL);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *const *l = lines[i];

		EXPECT_EQ(ctl(text, l[0], l[1], l[1] ? l[2] : NULL), CTL_NO_DAEMON);
		EXPECT_CONTAINS(text, "systemctl start iothubd");
	}
}

TEST_F(ctl, events)
{
	char text[TEXT_SIZE];

	EXPECT_EQ(ctl(text, "events"), CTL_DONE);
	EXPECT_EQ(text_count(text, "\"event\":\"connected\""), 1u);
	start(self, "events", "--follow");
	await_output(self, "\"event\":\"connected\"");
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"$a\":1}"), CTL_REFUSED);
	await_output(self, "\"event\":\"refused\",\"file\":\"twin/reported.json\"");
	lab_stop_daemon(&self->lab, SIGKILL);
	EXPECT_EQ(finish(self, text), CTL_NO_DAEMON);
}

/* --- twin get --------------------------------------------------------------------------------- */

TEST_F(ctl, get)
{
	char text[TEXT_SIZE];

	hub_desired(&self->lab, "{\"interval\":5,\"wifi\":{\"name\":\"x/y\",\"keys\":[1,2]},\"a/b\":1.50}");
	ASSERT_EQ(ctl(text, "twin", "wait", "desired/a%2Fb"), CTL_DONE);
	EXPECT_STREQ(text, "1.50\n");
	EXPECT_EQ(ctl(text, "twin", "get", "desired/interval"), CTL_DONE);
	EXPECT_STREQ(text, "5\n");
	EXPECT_EQ(ctl(text, "twin", "get", "desired/wifi/name"), CTL_DONE);
	EXPECT_STREQ(text, "x/y\n");
	EXPECT_EQ(ctl(text, "twin", "get", "desired/wifi"), CTL_DONE);
	EXPECT_STREQ(text, "{\"name\":\"x/y\",\"keys\":[1,2]}\n");
	EXPECT_EQ(ctl(text, "twin", "get", "desired/wifi", "--json"), CTL_DONE);
	EXPECT_STREQ(text, "{\"version\":2,\"property\":\"desired/wifi\","
			   "\"value\":{\"name\":\"x/y\",\"keys\":[1,2]}}\n");
	EXPECT_EQ(ctl(text, "twin", "get", "desired", "--json"), CTL_DONE);
	EXPECT_STREQ(text,
		     "{\"version\":2,\"desired\":{\"interval\":5,\"wifi\":{\"name\":\"x/y\",\"keys\":[1,2]},"
		     "\"a/b\":1.50}}\n");
	EXPECT_EQ(ctl(text, "twin", "get", "reported", "--json"), CTL_DONE);
	EXPECT_STREQ(text, "{\"version\":1,\"reported\":{}}\n");
	EXPECT_EQ(ctl(text, "twin", "get", "reported/nothing"), CTL_NOT_THERE);
	EXPECT_CONTAINS(text, "there is no such property");
	EXPECT_EQ(ctl(text, "twin", "get", "elsewhere"), CTL_WRONG);
	EXPECT_EQ(lab_shell(&self->lab, "sh",
			    "[ \"$($IOTHUBCTL twin get)\" = \"$(cat $M/twin/desired.json)\" ]"),
		  0);
}

TEST_F(ctl, get_before_the_hub_was_reached)
{
	char text[TEXT_SIZE];

	lab_stop_daemon(&self->lab, SIGTERM);
	lab_stop_emulator(&self->lab, SIGKILL);
	ASSERT_EQ(lab_shell(&self->lab, "sh", "rm -r $D/device"), 0);
	lab_start_daemon(&self->lab);
	EXPECT_EQ(ctl(text, "twin", "get"), CTL_NOT_THERE);
	EXPECT_CONTAINS(text, "not known yet");
	start(self, "twin", "wait", "desired");
	lab_start_emulator(&self->lab, emulator_options);
	EXPECT_EQ(finish(self, text), CTL_DONE);
	EXPECT_STREQ(text, "{}\n");
}

/* --- twin patch ------------------------------------------------------------------------------- */

TEST_F(ctl, patch)
{
	char text[TEXT_SIZE];

	EXPECT_EQ(ctl(text, "twin", "patch", "{\"a\":{\"b\":1},\"c\":\"x\"}"), CTL_DONE);
	EXPECT_STREQ(text, "2\n");
	hub_expect(&self->lab, "\"a\":{\"b\":1}");
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"a\":{\"b\":null}}", "--if-version", "2"), CTL_DONE);
	EXPECT_STREQ(text, "3\n");
	hub_expect(&self->lab, "\"a\":{}");
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"c\":\"y\"}", "--if-version", "2"), CTL_OTHER_VERSION);
	EXPECT_STREQ(text, "iothubctl: the reported properties have version 3, not 2; nothing was changed\n");
	EXPECT_EQ(ctl(text, "twin", "get", "reported/c"), CTL_DONE);
	EXPECT_STREQ(text, "x\n");
}

TEST_F(ctl, patch_from_files)
{
	char text[TEXT_SIZE];

	EXPECT_EQ(lab_shell(&self->lab, "sh",
			    "exec > $D/out 2>&1; echo '{\"a\":1}' > $D/patch && $IOTHUBCTL twin patch --file "
			    "$D/patch &&"
			    "echo '{\"b\":2}' | $IOTHUBCTL twin patch - &&"
			    "printf '\\n {\"c\":3} \\n\\n' | $IOTHUBCTL twin patch --no-wait - &&"
			    "$IOTHUBCTL twin patch --file - < /dev/null; [ $? -eq 8 ]"),
		  0);
	EXPECT_EQ(ctl(text, "twin", "patch", "--file", "/nothing"), CTL_FAILED);
	EXPECT_STREQ(text, "iothubctl: /nothing: No such file or directory\n");
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"d\":4}"), CTL_DONE);
	hub_expect(&self->lab, "\"a\":1");
	hub_expect(&self->lab, "\"b\":2");
	hub_expect(&self->lab, "\"c\":3");
}

TEST_F(ctl, patch_that_is_refused)
{
	static char large[40000];
	char text[TEXT_SIZE];
	int n = 0;

	EXPECT_EQ(ctl(text, "twin", "patch", "{\"a\":{\"$b\":1}}"), CTL_REFUSED);
	EXPECT_CONTAINS(text, "iothubctl: refused: key \"$b\"");
	EXPECT_EQ(ctl(text, "twin", "patch", "--no-wait", "{\"c d\":1}"), CTL_REFUSED);
	EXPECT_CONTAINS(text, "refused: key \"c d\"");
	for (int i = 0; i < 9; i++)
		n += snprintf(large + n, sizeof(large) - (size_t)n, "%c\"k%d\":\"%04000d\"", i ? ',' : '{', i,
			      i);
	snprintf(large + n, sizeof(large) - (size_t)n, "}");
	EXPECT_EQ(ctl(text, "twin", "patch", large), CTL_REFUSED);
	EXPECT_CONTAINS(text, "32");
	EXPECT_EQ(lab_shell(&self->lab, "sh",
			    "printf '{%262144s}' | $IOTHUBCTL twin patch - 2> $D/out; [ $? -eq 8 ] && grep "
			    "-q long $D/out"),
		  0);
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"a\":1"), CTL_REFUSED);
	EXPECT_CONTAINS(text, "not a JSON object: ");
	EXPECT_EQ(ctl(text, "twin", "patch", "[1]"), CTL_REFUSED);
	EXPECT_STREQ(text, "iothubctl: not a JSON object: it is something else\n");
	EXPECT_EQ(ctl(text, "twin", "patch"), CTL_WRONG);
	EXPECT_EQ(ctl(text, "twin", "patch", "{}", "--file", "x"), CTL_WRONG);
	EXPECT_EQ(ctl(text, "twin", "patch", "{}", "--no-wait", "--if-version", "1"), CTL_WRONG);
	EXPECT_EQ(ctl(text, "twin", "get", "reported", "--json"), CTL_DONE);
	EXPECT_STREQ(text, "{\"version\":1,\"reported\":{}}\n");
}

TEST_F(ctl, patch_that_the_hub_refuses)
{
	char text[TEXT_SIZE];

	ASSERT_EQ(lab_hubctl(&self->lab, text, sizeof(text), "fault", "set", "status", "operation=twin-patch",
			     "status=0100", "count=1"),
		  0);
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"a\":1}"), CTL_REFUSED);
	EXPECT_CONTAINS(text, "iothubctl: refused: ");
	EXPECT_CONTAINS(text, "0100");
}

TEST_F(ctl, patch_without_a_hub)
{
	char text[TEXT_SIZE];

	lab_stop_emulator(&self->lab, SIGKILL);
	lab_await_state(&self->lab, "waiting");
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"a\":1}", "--timeout", "0.2"), CTL_TIMED_OUT);
	EXPECT_CONTAINS(text, "the patch stays on its way");
	EXPECT_EQ(ctl(text, "twin", "patch", "{\"b\":2}", "--no-wait"), CTL_DONE);
	start(self, "twin", "patch", "{\"c\":3}");
	lab_start_emulator(&self->lab, emulator_options);
	EXPECT_EQ(finish(self, text), CTL_DONE);
	hub_expect(&self->lab, "\"a\":1");
	hub_expect(&self->lab, "\"b\":2");
	hub_expect(&self->lab, "\"c\":3");
}

/* --- twin wait, twin watch -------------------------------------------------------------------- */

TEST_F(ctl, wait)
{
	char text[TEXT_SIZE];

	start(self, "twin", "wait", "desired/wifi/interval");
	hub_desired(&self->lab, "{\"other\":1}");
	hub_desired(&self->lab, "{\"wifi\":{\"name\":\"x\"}}");
	EXPECT_FALSE(has_output(self));
	hub_desired(&self->lab, "{\"wifi\":{\"interval\":5}}");
	EXPECT_EQ(finish(self, text), CTL_DONE);
	EXPECT_STREQ(text, "5\n");
	EXPECT_EQ(ctl(text, "twin", "wait", "desired/wifi/interval"), CTL_DONE);
	EXPECT_STREQ(text, "5\n");
}

TEST_F(ctl, wait_for_a_value)
{
	char text[TEXT_SIZE];

	hub_desired(&self->lab, "{\"mode\":\"off\"}");
	start(self, "twin", "wait", "desired/mode", "--value", "on", "--timeout", "20");
	EXPECT_FALSE(has_output(self));
	hub_desired(&self->lab, "{\"mode\":\"on\"}");
	EXPECT_EQ(finish(self, text), CTL_DONE);
	EXPECT_STREQ(text, "on\n");
	EXPECT_EQ(ctl(text, "twin", "wait", "desired/mode", "--value", "off", "--timeout", "0.1"),
		  CTL_TIMED_OUT);
	EXPECT_CONTAINS(text, "not within the time");
	EXPECT_EQ(ctl(text, "twin", "wait", "desired/mode", "--value", "x", "--change"), CTL_WRONG);
}

TEST_F(ctl, wait_for_reported)
{
	char text[TEXT_SIZE];

	start(self, "twin", "wait", "reported/done", "--value", "true");
	EXPECT_EQ(lab_shell(&self->lab, "sh", "mkdir $M/twin/reported/x; echo true > $M/twin/reported/done"),
		  0);
	EXPECT_EQ(finish(self, text), CTL_DONE);
	EXPECT_STREQ(text, "true\n");
}

/* What it compares with is what is there when it starts, which nobody is told: so things change until it has seen it. */
TEST_F(ctl, wait_for_a_change)
{
	char text[TEXT_SIZE], patch[64];

	hub_desired(&self->lab, "{\"n\":-1,\"gone\":1}");
	ASSERT_EQ(ctl(text, "twin", "wait", "desired/n", "--timeout", "20"), CTL_DONE);
	start(self, "twin", "wait", "desired/n", "--change");
	hub_desired(&self->lab, "{\"other\":1}");
	EXPECT_FALSE(has_output(self));
	for (int n = 0; !has_output(self); n++) {
		snprintf(patch, sizeof(patch), "{\"n\":%d}", n);
		hub_desired(&self->lab, patch);
	}
	EXPECT_EQ(finish(self, text), CTL_DONE);
	EXPECT_GE(atoi(text), 0);
	start(self, "twin", "wait", "desired/gone", "--change");
	EXPECT_FALSE(has_output(self));
	hub_desired(&self->lab, "{\"gone\":null}");
	EXPECT_EQ(finish(self, text), CTL_NOT_THERE);
	EXPECT_STREQ(text, "");
}

TEST_F(ctl, wait_until_the_daemon_ends)
{
	char text[TEXT_SIZE];

	start(self, "twin", "wait", "desired/nothing");
	EXPECT_FALSE(has_output(self));
	lab_stop_daemon(&self->lab, SIGTERM);
	EXPECT_EQ(finish(self, text), CTL_NO_DAEMON);
}

TEST_F(ctl, watch)
{
	char text[TEXT_SIZE], patch[64];

	start(self, "twin", "watch");
	for (int n = 0; !has_output(self); n++) {
		snprintf(patch, sizeof(patch), "{\"n\":%d}", n);
		hub_desired(&self->lab, patch);
	}
	await_output(self, ",\"patch\":{\"n\":");
	lab_stop_daemon(&self->lab, SIGKILL);
	EXPECT_EQ(finish(self, text), CTL_NO_DAEMON);
}

/* --- command ---------------------------------------------------------------------------------- */

TEST_F(ctl, commands)
{
	char text[TEXT_SIZE];

	EXPECT_EQ(ctl(text, "command", "list"), CTL_DONE);
	EXPECT_STREQ(text, "");
	EXPECT_EQ(ctl(text, "command", "list", "--json"), CTL_DONE);
	EXPECT_STREQ(text, "[]\n");
	ASSERT_EQ(lab_hubctl(&self->lab, text, sizeof(text), "command", "send", "dev1", "a\033b",
			     "--property", "k=v"),
		  0);
	ASSERT_EQ(
		lab_shell(&self->lab, "sh", "printf '\\377' | hubctl command send dev1 --file - > /dev/null"),
		0);
	await_hub(&self->lab);
	EXPECT_EQ(ctl(text, "command", "list"), CTL_DONE);
	EXPECT_EQ(strncmp(text, "1\t", 2), 0);
	EXPECT_CONTAINS(text, "\t1\t\"a\\u001bb\"\n2\t");
	EXPECT_CONTAINS(text, "\t1\tbinary\n");
	EXPECT_EQ(ctl(text, "command", "list", "--json"), CTL_DONE);
	EXPECT_CONTAINS(text, "[{\"sequence-no\":1,");
	EXPECT_CONTAINS(text, "\"properties\":{\"k\":\"v\"}");
	EXPECT_CONTAINS(text, "\"payload\":\"a\\u001bb\"},{\"sequence-no\":2,");
	EXPECT_CONTAINS(text, "\"payload-base64\":\"/w==\"}]\n");
}

TEST_F(ctl, settling_commands)
{
	char text[TEXT_SIZE];

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(lab_hubctl(&self->lab, text, sizeof(text), "command", "send", "dev1", "x"), 0);
	await_hub(&self->lab);
	EXPECT_EQ(ctl(text, "command", "complete", "1"), CTL_DONE);
	EXPECT_STREQ(text, "");
	EXPECT_EQ(ctl(text, "command", "reject", "2"), CTL_DONE);
	EXPECT_EQ(ctl(text, "command", "abandon", "3"), CTL_DONE);
	await_hub(&self->lab);
	ASSERT_EQ(lab_hubctl(&self->lab, text, sizeof(text), "command", "list", "dev1", "--json"), 0);
	EXPECT_EQ(text_count(text, "\"sequence-no\""), 2u);
	EXPECT_EQ(text_count(text, "dead-lettered"), 1u);
	EXPECT_CONTAINS(text, "\"delivery-count\":2");
	EXPECT_EQ(ctl(text, "command", "complete", "1"), CTL_NOT_THERE);
	EXPECT_CONTAINS(text, "there is no command 1 here");
	EXPECT_EQ(ctl(text, "command", "complete", "99"), CTL_NOT_THERE);
	EXPECT_EQ(ctl(text, "command", "complete", "../1"), CTL_WRONG);
}

/* --- the program itself ----------------------------------------------------------------------- */

TEST(usage)
{
	char text[TEXT_SIZE];

	setenv("IOTHUBCTL", process_path("iothubctl"), 1);
	EXPECT_EQ(ctl(text, "--version"), CTL_DONE);
	EXPECT_STREQ(text, "iothubctl " IOTHUB_VERSION "\n");
	EXPECT_EQ(ctl(text, "--help"), CTL_DONE);
	EXPECT_CONTAINS(text, "command abandon");
	EXPECT_EQ(ctl(text, "twin", "wait", "--help"), CTL_DONE);
	EXPECT_CONTAINS(text, "--change");
	EXPECT_EQ(ctl(text, "twin"), CTL_WRONG);
	EXPECT_EQ(ctl(text, "status", "--mount"), CTL_WRONG);
	EXPECT_CONTAINS(text, "--mount needs a value");
}

TEST_HARNESS_MAIN
