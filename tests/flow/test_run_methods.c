/* SPDX-License-Identifier: MIT */
/*
 * Programs as methods: `iothub-run methods` between a real hub and scripts.
 */

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/process.h"
#include "tests/support/run_lab.h"

#define TEXT_SIZE 300000

FIXTURE(run_methods)
{
	struct run_lab r;
	char text[TEXT_SIZE];
};

/* Calls wait for somebody to answer them, so that none comes too early. */
#define PATIENT "\"method-wait\": 20"

FIXTURE_SETUP(run_methods)
{
	run_lab_init(&self->r, PATIENT);
}

FIXTURE_TEARDOWN(run_methods)
{
	run_lab_deinit(&self->r);
}

#define HANDLERS run_lab_path(&self->r, "handlers")

/* Calls a method with a payload; the exit code. */
static int call(struct fixture_run_methods *self, const char *name, const char *payload)
{
	return lab_hubctl(&self->r.lab, self->text, sizeof(self->text), "method", "call", "dev1", name,
			  payload, "--connect-timeout", "20");
}

static void expect_answer(struct fixture_run_methods *self, const char *name, const char *payload,
			  const char *answer)
{
	EXPECT_EQ(call(self, name, payload), 0);
	EXPECT_STREQ(self->text, answer);
}

/* As JSON, response code included. */
static void expect_json(struct fixture_run_methods *self, const char *name, const char *json)
{
	lab_hubctl(&self->r.lab, self->text, sizeof(self->text), "method", "call", "dev1", name, "--json",
		   "--connect-timeout", "20");
	EXPECT_CONTAINS(self->text, json);
}

/* Calls a method and does not wait; what comes goes to the file @out. */
static pid_t call_start(struct fixture_run_methods *self, const char *name, const char *payload,
			const char *out)
{
	return lab_hubctl_start(&self->r.lab, run_lab_path(&self->r, out), -1, -1, "method", "call", "dev1",
				name, payload, "--connect-timeout", "20");
}

static void expect_file(struct fixture_run_methods *self, const char *name, const char *text)
{
	_cleanup_(free_ptr) char *got = text_read(run_lab_path(&self->r, name));

	EXPECT_STREQ(got, text);
}

static bool is_there(struct fixture_run_methods *self, const char *name)
{
	char path[LAB_PATH_MAX];

	snprintf(path, sizeof(path), "%s/methods/%s", self->r.lab.mount, name);
	return access(path, F_OK) == 0;
}

/* Waits until the method is registered. */
static void await_method(struct fixture_run_methods *self, const char *name)
{
	_cleanup_(close_fd) int watch = inotify_init1(IN_CLOEXEC);
	char event[512];

	ASSERT_GE(inotify_add_watch(watch, lab_path(&self->r.lab, "methods"), IN_CREATE), 0);
	while (!is_there(self, name))
		ASSERT_GT(read(watch, event, sizeof(event)), 0);
}

/* --- answers ---------------------------------------------------------------------------------- */

TEST_F(run_methods, answers_what_the_program_writes)
{
	run_lab_handler(&self->r, "shout", "tr a-z A-Z");
	run_lab_handler(&self->r, "who", "echo $IOTHUB_METHOD $IOTHUB_MOUNT");
	run_lab_start(&self->r, "methods", HANDLERS);
	expect_answer(self, "shout", "is anybody there?", "IS ANYBODY THERE?");
	expect_answer(self, "shout", "", "");
	EXPECT_EQ(call(self, "who", "x"), 0);
	EXPECT_CONTAINS(self->text, "who /tmp/");
	expect_json(self, "shout", "\"response-code\":200,\"payload\":\"\"");
}

TEST_F(run_methods, a_program_that_fails_answers_500)
{
	run_lab_handler(&self->r, "fails", "echo because; exit 3");
	run_lab_handler(&self->r, "dies", "echo last words; kill -9 $$");
	run_lab_start(&self->r, "methods", HANDLERS);
	expect_json(self, "fails", "\"response-code\":500,\"payload\":\"because\\n\"");
	expect_json(self, "dies", "\"response-code\":500,\"payload\":\"last words\\n\"");
	EXPECT_EQ(call(self, "fails", ""), 1);
}

TEST_F(run_methods, a_program_that_cannot_be_run_answers_500)
{
	run_lab_handler(&self->r, "gone", "echo here");
	run_lab_start(&self->r, "methods", HANDLERS);
	expect_answer(self, "gone", "", "here\n");
	ASSERT_EQ(unlink(run_lab_path(&self->r, "handlers/gone")), 0);
	expect_json(self, "gone", "\"response-code\":500,\"payload\":\"\"");
	/* What is changed needs no signal. */
	run_lab_handler(&self->r, "gone", "echo again");
	expect_answer(self, "gone", "", "again\n");
}

TEST_F(run_methods, any_bytes_both_ways)
{
	static unsigned char bytes[60000], got[sizeof(bytes) + 1];
	_cleanup_(close_fd) int fd = open(run_lab_path(&self->r, "in"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	_cleanup_(close_fd) int out = -1;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)test_random();
	ASSERT_EQ(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	run_lab_handler(&self->r, "echo", "cat");
	run_lab_start(&self->r, "methods", HANDLERS);
	ASSERT_EQ(lab_shell(&self->r.lab, "bash",
			    "hubctl method call dev1 echo --file $D/in --connect-timeout 20 > $D/out"),
		  0);
	out = open(run_lab_path(&self->r, "out"), O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(read(out, got, sizeof(got)), (ssize_t)sizeof(bytes));
	EXPECT_MEMEQ(got, bytes, sizeof(bytes));
}

TEST_F(run_methods, a_program_that_reads_nothing)
{
	_cleanup_(close_fd) int fd = open(run_lab_path(&self->r, "in"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ASSERT_EQ(ftruncate(fd, 100000), 0);
	run_lab_handler(&self->r, "deaf", "exec 0<&-; echo done");
	run_lab_start(&self->r, "methods", HANDLERS);
	ASSERT_EQ(
		lab_shell(
			&self->r.lab, "bash",
			"test \"$(hubctl method call dev1 deaf --file $D/in --connect-timeout 20)\" = done"),
		0);
}

/* --- limits ----------------------------------------------------------------------------------- */

TEST_F(run_methods, answers_have_a_bound)
{
	run_lab_handler(&self->r, "just", "printf 1234567890");
	run_lab_handler(&self->r, "over", "printf 12345678901");
	run_lab_start(&self->r, "methods", "--response-bytes", "10", HANDLERS);
	expect_answer(self, "just", "", "1234567890");
	expect_json(self, "over", "\"response-code\":500,\"payload\":\"\"");
}

TEST_F(run_methods, the_longest_answer_there_can_be)
{
	run_lab_handler(&self->r, "most", "head -c 261120 /dev/zero | tr '\\0' x");
	run_lab_handler(&self->r, "more", "head -c 261121 /dev/zero | tr '\\0' x");
	run_lab_start(&self->r, "methods", HANDLERS);
	EXPECT_EQ(call(self, "most", ""), 0);
	EXPECT_EQ(strlen(self->text), 261120u);
	expect_json(self, "more", "\"response-code\":500,\"payload\":\"\"");
}

TEST_F(run_methods, at_the_time_limit_the_whole_group_goes)
{
	run_lab_handler(&self->r, "slow",
			"trap '' TERM; echo $$ > $D/said\n"
			"sh -c 'echo $$ > $D/said; echo partly; while :; do sleep 1000; done' & wait; wait");
	run_lab_start(&self->r, "methods", "--timeout", "0.5", "--grace", "0.1", HANDLERS);
	expect_json(self, "slow", "\"response-code\":500,\"payload\":\"partly\\n\"");
	run_lab_await_gone(run_lab_next_pid(&self->r));
	run_lab_await_gone(run_lab_next_pid(&self->r));
}

TEST_F(run_methods, as_many_at_a_time_as_there_are_jobs)
{
	pid_t first, second;

	lab_stop_daemon(&self->r.lab, SIGTERM);
	lab_configure(&self->r.lab, "\"method-wait\": 0");
	lab_start_daemon(&self->r.lab);
	run_lab_handler(&self->r, "wait", "x=$(cat); echo $x > $D/said; read -r y < $D/go; echo $x");
	run_lab_start(&self->r, "methods", "--jobs", "2", HANDLERS);
	first = call_start(self, "wait", "1", "out1");
	run_lab_expect(&self->r, "1");
	second = call_start(self, "wait", "2", "out2");
	run_lab_expect(&self->r, "2");
	expect_json(self, "wait", "06A0");
	run_lab_go(&self->r);
	run_lab_go(&self->r);
	EXPECT_EQ(process_stop(&first, 0), 0);
	EXPECT_EQ(process_stop(&second, 0), 0);
	expect_file(self, "out1", "1\n");
	expect_file(self, "out2", "2\n");
}

TEST_F(run_methods, a_call_that_waits_is_the_next)
{
	pid_t first, second;

	run_lab_handler(&self->r, "wait", "x=$(cat); echo $x > $D/said; read -r y < $D/go; echo $x");
	run_lab_start(&self->r, "methods", "--jobs", "1", HANDLERS);
	first = call_start(self, "wait", "1", "out1");
	run_lab_expect(&self->r, "1");
	second = call_start(self, "wait", "2", "out2");
	run_lab_go(&self->r);
	run_lab_go(&self->r);
	run_lab_expect(&self->r, "2");
	EXPECT_EQ(process_stop(&first, 0), 0);
	EXPECT_EQ(process_stop(&second, 0), 0);
	expect_file(self, "out1", "1\n");
	expect_file(self, "out2", "2\n");
}

/* --- which programs --------------------------------------------------------------------------- */

TEST_F(run_methods, looks_again_when_told_to)
{
	_cleanup_(close_fd) int watch = inotify_init1(IN_CLOEXEC);
	char event[512];

	run_lab_handler(&self->r, "old", "echo old");
	run_lab_handler(&self->r, "stays", "echo stays");
	run_lab_start(&self->r, "methods", HANDLERS);
	EXPECT_TRUE(is_there(self, "old"));
	ASSERT_GE(inotify_add_watch(watch, lab_path(&self->r.lab, "methods"), IN_DELETE), 0);
	ASSERT_EQ(unlink(run_lab_path(&self->r, "handlers/old")), 0);
	run_lab_handler(&self->r, "new", "echo new");
	ASSERT_EQ(kill(self->r.run, SIGHUP), 0);
	expect_answer(self, "new", "", "new\n");
	expect_answer(self, "stays", "", "stays\n");
	ASSERT_GT(read(watch, event, sizeof(event)), 0);
	EXPECT_FALSE(is_there(self, "old"));
	EXPECT_TRUE(is_there(self, "stays"));
}

TEST_F(run_methods, names_no_method_can_have)
{
	_cleanup_(free_ptr) char *log = NULL;

	run_lab_handler(&self->r, "a+b", "echo never");
	run_lab_handler(&self->r, "good", "echo good");
	run_lab_start(&self->r, "methods", HANDLERS);
	expect_answer(self, "good", "", "good\n");
	log = text_read(run_lab_path(&self->r, "run.log"));
	EXPECT_EQ(text_count(log, "/a+b: no method can have this name"), 1u);
	EXPECT_EQ(run_lab_stop(&self->r, SIGTERM), 0);
}

TEST_F(run_methods, an_answer_that_comes_too_late_is_not_the_last)
{
	lab_stop_daemon(&self->r.lab, SIGTERM);
	lab_configure(&self->r.lab, "\"method-timeout\": 1, \"method-wait\": 20");
	lab_start_daemon(&self->r.lab);
	run_lab_handler(&self->r, "late", "x=$(cat); [ $x = quick ] || read -r y < $D/go; echo $x");
	run_lab_start(&self->r, "methods", "--jobs", "1", HANDLERS);
	EXPECT_EQ(call(self, "late", "slow"), 1);
	run_lab_go(&self->r);
	expect_answer(self, "late", "quick", "quick\n");
}

TEST_F(run_methods, what_is_removed_answers_the_calls_it_has)
{
	pid_t caller;

	run_lab_handler(&self->r, "last", "echo started > $D/said; read -r x < $D/go; echo done");
	run_lab_start(&self->r, "methods", HANDLERS);
	caller = call_start(self, "last", "", "out");
	run_lab_expect(&self->r, "started");
	ASSERT_EQ(unlink(run_lab_path(&self->r, "handlers/last")), 0);
	run_lab_handler(&self->r, "new", "echo new");
	ASSERT_EQ(kill(self->r.run, SIGHUP), 0);
	expect_answer(self, "new", "", "new\n");
	EXPECT_TRUE(is_there(self, "last"));
	run_lab_go(&self->r);
	EXPECT_EQ(process_stop(&caller, 0), 0);
	expect_file(self, "out", "done\n");
}

TEST_F(run_methods, a_directory_somebody_removed_comes_back)
{
	run_lab_handler(&self->r, "mine", "echo here");
	run_lab_start(&self->r, "methods", HANDLERS);
	ASSERT_EQ(rmdir(lab_path(&self->r.lab, "methods/mine")), 0);
	expect_answer(self, "mine", "", "here\n");
}

TEST_F(run_methods, a_directory_that_was_there_stays)
{
	run_lab_handler(&self->r, "theirs", "echo here");
	run_lab_handler(&self->r, "ours", "echo here");
	ASSERT_EQ(mkdir(lab_path(&self->r.lab, "methods/theirs"), 0755), 0);
	run_lab_start(&self->r, "methods", HANDLERS);
	expect_answer(self, "theirs", "", "here\n");
	EXPECT_TRUE(is_there(self, "ours"));
	EXPECT_EQ(run_lab_stop(&self->r, SIGTERM), 0);
	EXPECT_TRUE(is_there(self, "theirs"));
	EXPECT_FALSE(is_there(self, "ours"));
}

/* --- ends ------------------------------------------------------------------------------------- */

TEST_F(run_methods, a_signal_lets_calls_be_answered)
{
	pid_t caller;

	run_lab_handler(&self->r, "last", "echo started > $D/said; read -r x < $D/go; echo done");
	run_lab_start(&self->r, "methods", HANDLERS);
	caller = call_start(self, "last", "", "out");
	run_lab_expect(&self->r, "started");
	ASSERT_EQ(kill(self->r.run, SIGTERM), 0);
	run_lab_go(&self->r);
	EXPECT_EQ(run_lab_stop(&self->r, 0), 0);
	EXPECT_EQ(process_stop(&caller, 0), 0);
	expect_file(self, "out", "done\n");
	EXPECT_FALSE(is_there(self, "last"));
}

TEST_F(run_methods, a_signal_ends_what_does_not_end)
{
	pid_t caller, handler;

	run_lab_handler(&self->r, "stuck", "echo $$ > $D/said; exec sleep 1000");
	run_lab_start(&self->r, "methods", "--grace", "0.1", HANDLERS);
	caller = call_start(self, "stuck", "", "out");
	handler = run_lab_next_pid(&self->r);
	EXPECT_EQ(run_lab_stop(&self->r, SIGINT), 0);
	run_lab_await_gone(handler);
	/* 500, since it failed. */
	EXPECT_NE(process_stop(&caller, 0), 0);
}

TEST_F(run_methods, a_second_signal_ends_it_at_once)
{
	pid_t caller;

	run_lab_handler(&self->r, "stuck",
			"trap '' TERM; echo started > $D/said; while :; do sleep 1000; done");
	run_lab_start(&self->r, "methods", "--grace", "1000", HANDLERS);
	caller = call_start(self, "stuck", "", "out");
	run_lab_expect(&self->r, "started");
	ASSERT_EQ(kill(self->r.run, SIGTERM), 0);
	/* Two of one kind could be taken for one. */
	EXPECT_EQ(run_lab_stop(&self->r, SIGINT), 0);
	EXPECT_NE(process_stop(&caller, 0), 0);
}

TEST_F(run_methods, killed_its_program_goes_and_the_caller_is_told)
{
	pid_t caller, handler;

	run_lab_handler(&self->r, "stuck", "echo $$ > $D/said; exec sleep 1000");
	run_lab_start(&self->r, "methods", HANDLERS);
	caller = call_start(self, "stuck", "", "out");
	handler = run_lab_next_pid(&self->r);
	run_lab_stop(&self->r, SIGKILL);
	run_lab_await_gone(handler);
	EXPECT_NE(process_stop(&caller, 0), 0);
	/* The next one goes on. */
	run_lab_handler(&self->r, "stuck", "echo not any more");
	run_lab_start(&self->r, "methods", HANDLERS);
	expect_answer(self, "stuck", "", "not any more\n");
}

static void restart_daemon(struct fixture_run_methods *self, int signo)
{
	pid_t caller;

	run_lab_handler(&self->r, "slow", "echo started > $D/said; read -r x < $D/go; echo done");
	run_lab_handler(&self->r, "quick", "echo quick");
	run_lab_start(&self->r, "methods", HANDLERS);
	caller = call_start(self, "slow", "", "out");
	run_lab_expect(&self->r, "started");
	lab_stop_daemon(&self->r.lab, signo);
	EXPECT_NE(process_stop(&caller, 0), 0);
	lab_start_daemon(&self->r.lab);
	/* The hub remembers that this device serves it, and does not wait. */
	await_method(self, "quick");
	expect_answer(self, "quick", "", "quick\n");
	run_lab_go(&self->r);
	/* The job that had it is free again; nothing is left of the old call. */
	caller = call_start(self, "slow", "", "out2");
	run_lab_expect(&self->r, "started");
	run_lab_go(&self->r);
	EXPECT_EQ(process_stop(&caller, 0), 0);
	expect_file(self, "out2", "done\n");
}

TEST_F(run_methods, goes_on_after_the_daemon_was_killed)
{
	restart_daemon(self, SIGKILL);
}

TEST_F(run_methods, goes_on_after_the_daemon_was_stopped)
{
	restart_daemon(self, SIGTERM);
}

TEST_F(run_methods, waits_for_the_daemon_at_the_start)
{
	const char *mount = self->r.lab.mount;
	const char *argv[] = {process_path("iothub-run"), "--mount", mount, "methods", HANDLERS, NULL};
	char program[PROCESS_PATH_MAX], log[LAB_PATH_MAX];

	/* Its own buffers are used again. */
	snprintf(program, sizeof(program), "%s", argv[0]);
	argv[0] = program;
	snprintf(log, sizeof(log), "%s/run.log", self->r.lab.dir);
	run_lab_handler(&self->r, "early", "echo here");
	lab_stop_daemon(&self->r.lab, SIGTERM);
	self->r.run = process_start(log, argv, -1, -1);
	lab_start_daemon(&self->r.lab);
	expect_answer(self, "early", "", "here\n");
}

TEST_HARNESS_MAIN
