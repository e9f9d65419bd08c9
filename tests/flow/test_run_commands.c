/* SPDX-License-Identifier: MIT */
/*
 * Programs for commands: `iothub-run commands` between a real hub and scripts.
 */

#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/process.h"
#include "tests/support/run_lab.h"

#define TEXT_SIZE 16384

FIXTURE(run_commands)
{
	struct run_lab r;
	char text[TEXT_SIZE];
};

FIXTURE_SETUP(run_commands)
{
	run_lab_init(&self->r, NULL);
}

FIXTURE_TEARDOWN(run_commands)
{
	run_lab_deinit(&self->r);
}

#define HANDLERS run_lab_path(&self->r, "handlers")

static void send(struct fixture_run_commands *self, const char *payload)
{
	ASSERT_EQ(
		lab_hubctl(&self->r.lab, self->text, sizeof(self->text), "command", "send", "dev1", payload),
		0);
}

/* What the hub has left when it has heard of all that was settled: a message behind that is acknowledged. */
static const char *list(struct fixture_run_commands *self)
{
	_cleanup_(close_fd) int fd =
		open(lab_path(&self->r.lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "sync", 4), 4);
	ASSERT_EQ(
		lab_hubctl(&self->r.lab, self->text, sizeof(self->text), "command", "list", "dev1", "--json"),
		0);
	return self->text;
}

/* iothub-run has ended, and everything with it: these are left in the hub's queue and among its dead letters. */
static void expect_left(struct fixture_run_commands *self, unsigned int n_queued, unsigned int n_dead)
{
	const char *text = list(self);

	EXPECT_EQ(text_count(text, "\"sequence-no\""), n_queued + n_dead);
	EXPECT_EQ(text_count(text, "\"dead-lettered\""), n_dead);
	if (text_count(text, "\"sequence-no\"") != n_queued + n_dead)
		TEST_LOG("left: %s", text);
}

static void stop(struct fixture_run_commands *self)
{
	EXPECT_EQ(run_lab_stop(&self->r, SIGTERM), 0);
}

/* --- what programs get ------------------------------------------------------------------------ */

TEST_F(run_commands, payload_and_properties)
{
	_cleanup_(free_ptr) char *env = NULL;

	run_lab_handler(
		&self->r, "show",
		"cat > $D/payload; env | grep ^IOTHUB_ | LC_ALL=C sort > $D/env; echo done > $D/said");
	run_lab_start(&self->r, "commands", HANDLERS);
	ASSERT_EQ(
		lab_shell(&self->r.lab, "bash",
			  "head -c 20000 /dev/urandom > $D/in\n"
			  "hubctl command send dev1 --file $D/in --property kind=update --property 'a-b=x y' "
			  "--message-id m1 --user-id u1 --correlation-id c1 --content-type a/b "
			  "--content-encoding gzip --creation-time 2026-11-22T08:00:00Z > $D/sent"),
		0);
	run_lab_expect(&self->r, "done");
	EXPECT_EQ(lab_shell(&self->r.lab, "sh", "cmp $D/in $D/payload"), 0);
	env = text_read(run_lab_path(&self->r, "env"));
	EXPECT_CONTAINS(env,
			"IOTHUB_CONTENT_ENCODING=gzip\nIOTHUB_CONTENT_TYPE=a/b\nIOTHUB_CORRELATION_ID=c1\n"
			"IOTHUB_CREATION_TIME=2026-11-22T08:00:00.000Z\nIOTHUB_DELIVERY_COUNT=1\n"
			"IOTHUB_ENQUEUED_TIME=20");
	EXPECT_CONTAINS(env, "IOTHUB_MESSAGE_ID=m1\nIOTHUB_MOUNT=/tmp/");
	EXPECT_CONTAINS(env, "IOTHUB_PROPERTIES={\"kind\":\"update\",\"a-b\":\"x y\"}\n"
			     "IOTHUB_PROPERTY_A_B=x y\nIOTHUB_PROPERTY_KIND=update\nIOTHUB_SEQUENCE_NO=1\n"
			     "IOTHUB_USER_ID=u1\n");
	stop(self);
	expect_left(self, 0, 0);
}

TEST_F(run_commands, a_command_line_is_a_handler)
{
	_cleanup_(free_ptr) char *log = NULL;

	run_lab_start(&self->r, "commands", "bash", "-c",
		      "echo \"$1 $(cat) number $IOTHUB_SEQUENCE_NO\" | tee $D/said", "name", "got");
	send(self, "on");
	run_lab_expect(&self->r, "got on number 1");
	send(self, "off");
	run_lab_expect(&self->r, "got off number 2");
	stop(self);
	/* Standard output is that of iothub-run. */
	log = text_read(run_lab_path(&self->r, "run.log"));
	EXPECT_CONTAINS(log, "got on number 1\n");
	expect_left(self, 0, 0);
}

TEST_F(run_commands, a_program_that_reads_nothing)
{
	run_lab_start(&self->r, "commands", "sh", "-c", "exec 0<&-; echo $IOTHUB_SEQUENCE_NO > $D/said");
	ASSERT_EQ(lab_shell(&self->r.lab, "sh",
			    "head -c 60000 /dev/zero | tr '\\0' x | hubctl command send dev1 > $D/sent"),
		  0);
	run_lab_expect(&self->r, "1");
	stop(self);
	expect_left(self, 0, 0);
}

/* --- what becomes of commands ----------------------------------------------------------------- */

TEST_F(run_commands, complete_abandon_and_reject)
{
	run_lab_handler(&self->r, "decide",
			"x=$(cat); echo \"$x $IOTHUB_DELIVERY_COUNT\" > $D/said\n"
			"case $x in\n"
			"good) exit 0 ;;\n"
			"bad) exit 65 ;;\n"
			"later) [ $IOTHUB_DELIVERY_COUNT -ge 2 ] || exit 75 ;;\n"
			"broken) [ $IOTHUB_DELIVERY_COUNT -ge 2 ] || kill -9 $$ ;;\n"
			"esac");
	run_lab_start(&self->r, "commands", HANDLERS);
	send(self, "good");
	run_lab_expect(&self->r, "good 1");
	send(self, "bad");
	run_lab_expect(&self->r, "bad 1");
	send(self, "later");
	run_lab_expect(&self->r, "later 1");
	run_lab_expect(&self->r, "later 2");
	send(self, "broken");
	run_lab_expect(&self->r, "broken 1");
	run_lab_expect(&self->r, "broken 2");
	stop(self);
	expect_left(self, 0, 1);
	EXPECT_CONTAINS(self->text, "\"payload\":\"bad\"");
	EXPECT_CONTAINS(self->text, "\"dead-letter-reason\":\"rejected\"");
}

TEST_F(run_commands, what_fails_too_often_is_rejected)
{
	run_lab_start(&self->r, "--max-deliveries", "3", "commands", "sh", "-c",
		      "echo $IOTHUB_DELIVERY_COUNT > $D/said; exit 1");
	send(self, "never");
	run_lab_expect(&self->r, "1");
	run_lab_expect(&self->r, "2");
	run_lab_expect(&self->r, "3");
	stop(self);
	expect_left(self, 0, 1);
	EXPECT_CONTAINS(self->text, "\"dead-letter-reason\":\"rejected\"");
}

TEST_F(run_commands, all_programs_of_a_directory_up_to_one_that_fails)
{
	run_lab_handler(&self->r, "10-first", "echo first $(cat) > $D/said");
	run_lab_handler(&self->r, "20-second",
			"echo second $(cat) > $D/said; [ $IOTHUB_DELIVERY_COUNT = 2 ]");
	run_lab_handler(&self->r, "30-third", "echo third $(cat) > $D/said");
	run_lab_handler(&self->r, "40-ignored~", "echo never > $D/said");
	run_lab_start(&self->r, "commands", HANDLERS);
	send(self, "x");
	for (const char *const *line =
		     (const char *[]){"first x", "second x", "first x", "second x", "third x", NULL};
	     *line; line++)
		run_lab_expect(&self->r, *line);
	stop(self);
	expect_left(self, 0, 0);
}

TEST_F(run_commands, without_a_program_no_command_is_taken)
{
	run_lab_start(&self->r, "commands", HANDLERS);
	send(self, "waits");
	run_lab_handler(&self->r, "now", "echo $IOTHUB_DELIVERY_COUNT > $D/said");
	ASSERT_EQ(kill(self->r.run, SIGHUP), 0);
	run_lab_expect(&self->r, "1");
	ASSERT_EQ(unlink(run_lab_path(&self->r, "handlers/now")), 0);
	stop(self);
	expect_left(self, 0, 0);
}

TEST_F(run_commands, ended_at_the_time_limit_it_is_abandoned)
{
	run_lab_handler(&self->r, "slow",
			"[ $IOTHUB_DELIVERY_COUNT = 1 ] || { echo again > $D/said; exit 0; }\n"
			"trap '' TERM; echo $$ > $D/said\n"
			"sh -c 'echo $$ > $D/said; while :; do sleep 1000; done' & wait; wait");
	run_lab_start(&self->r, "commands", "--timeout", "0.5", "--grace", "0.1", HANDLERS);
	send(self, "x");
	run_lab_await_gone(run_lab_next_pid(&self->r));
	run_lab_await_gone(run_lab_next_pid(&self->r));
	run_lab_expect(&self->r, "again");
	stop(self);
	expect_left(self, 0, 0);
}

/* --- several at a time ------------------------------------------------------------------------ */

TEST_F(run_commands, as_many_at_a_time_as_there_are_jobs)
{
	int seen = 0;

	run_lab_start(&self->r, "--jobs", "3", "commands", "sh", "-c",
		      "echo $IOTHUB_SEQUENCE_NO > $D/said; read -r x < $D/go");
	for (int i = 0; i < 4; i++)
		send(self, "x");
	for (int i = 0; i < 3; i++)
		seen |= 1 << atoi(run_lab_next(&self->r));
	EXPECT_EQ(seen, 1 << 1 | 1 << 2 | 1 << 3);
	EXPECT_EQ(text_count(list(self), "\"sequence-no\""), 4u);
	run_lab_go(&self->r);
	run_lab_expect(&self->r, "4");
	for (int i = 0; i < 3; i++)
		run_lab_go(&self->r);
	stop(self);
	expect_left(self, 0, 0);
}

TEST_F(run_commands, one_job_keeps_the_order)
{
	char number[16];

	run_lab_start(&self->r, "commands", "sh", "-c", "cat > $D/said");
	for (int i = 0; i < 20; i++) {
		snprintf(number, sizeof(number), "%d\n", i);
		send(self, number);
	}
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(atoi(run_lab_next(&self->r)), i);
	stop(self);
	expect_left(self, 0, 0);
}

/* --- ends ------------------------------------------------------------------------------------- */

TEST_F(run_commands, a_signal_lets_it_complete)
{
	run_lab_start(&self->r, "commands", "sh", "-c", "cat > $D/said; read -r x < $D/go");
	send(self, "one\n");
	send(self, "two\n");
	run_lab_expect(&self->r, "one");
	ASSERT_EQ(kill(self->r.run, SIGTERM), 0);
	run_lab_go(&self->r);
	EXPECT_EQ(run_lab_stop(&self->r, 0), 0);
	expect_left(self, 1, 0);
	EXPECT_CONTAINS(self->text, "\"payload\":\"two\\n\"");
}

TEST_F(run_commands, what_a_signal_cut_off_is_abandoned)
{
	/* Even at its last delivery: it is not to blame. */
	run_lab_start(&self->r, "--grace", "0.1", "--max-deliveries", "1", "commands", "sh", "-c",
		      "cat > $D/said; exec sleep 1000");
	send(self, "cut\n");
	run_lab_expect(&self->r, "cut");
	stop(self);
	expect_left(self, 1, 0);
}

TEST_F(run_commands, killed_its_program_goes_and_the_command_comes_back)
{
	pid_t handler;

	run_lab_start(&self->r, "commands", "sh", "-c", "echo $$ > $D/said; exec sleep 1000");
	send(self, "x");
	handler = run_lab_next_pid(&self->r);
	ASSERT_GT(handler, 1);
	run_lab_stop(&self->r, SIGKILL);
	run_lab_await_gone(handler);
	run_lab_start(&self->r, "commands", "sh", "-c", "echo $IOTHUB_DELIVERY_COUNT > $D/said");
	run_lab_expect(&self->r, "2");
	stop(self);
	expect_left(self, 0, 0);
}

/* A command is run while the daemon goes away and comes back; when its program ends is said by @ends_before. */
static void restart_daemon(struct fixture_run_commands *self, int signo, bool ends_before)
{
	run_lab_start(
		&self->r, "--jobs", "2", "commands", "sh", "-c",
		"echo \"$(cat) $IOTHUB_DELIVERY_COUNT\" > $D/said; read -r x < $D/go; echo $$ > $D/said");
	send(self, "one");
	run_lab_expect(&self->r, "one 1");
	lab_stop_daemon(&self->r.lab, signo);
	if (ends_before) {
		run_lab_go(&self->r);
		run_lab_await_gone(run_lab_next_pid(&self->r));
	}
	lab_start_daemon(&self->r.lab);
	lab_await_state(&self->r.lab, "connected");
	if (!ends_before) {
		run_lab_go(&self->r);
		run_lab_await_gone(run_lab_next_pid(&self->r));
	}
	/* It is delivered again, and not run again. */
	send(self, "two");
	run_lab_expect(&self->r, "two 1");
	run_lab_go(&self->r);
	run_lab_await_gone(run_lab_next_pid(&self->r));
	send(self, "three");
	run_lab_expect(&self->r, "three 1");
	run_lab_go(&self->r);
	run_lab_await_gone(run_lab_next_pid(&self->r));
	stop(self);
	expect_left(self, 0, 0);
}

TEST_F(run_commands, the_daemon_is_killed_and_the_program_ends_meanwhile)
{
	restart_daemon(self, SIGKILL, true);
}

TEST_F(run_commands, the_daemon_is_killed_and_the_program_ends_later)
{
	restart_daemon(self, SIGKILL, false);
}

TEST_F(run_commands, the_daemon_is_stopped_and_the_program_ends_meanwhile)
{
	restart_daemon(self, SIGTERM, true);
}

TEST_F(run_commands, the_daemon_is_stopped_and_the_program_ends_later)
{
	restart_daemon(self, SIGTERM, false);
}

TEST_F(run_commands, what_failed_without_the_daemon_is_run_again)
{
	static const char script[] =
		"echo $IOTHUB_DELIVERY_COUNT > $D/said; read -r x < $D/go; echo $$ > $D/said\n"
		"[ $IOTHUB_DELIVERY_COUNT -gt 1 ]";

	run_lab_start(&self->r, "commands", "sh", "-c", script);
	send(self, "x");
	run_lab_expect(&self->r, "1");
	lab_stop_daemon(&self->r.lab, SIGKILL);
	run_lab_go(&self->r);
	run_lab_await_gone(run_lab_next_pid(&self->r));
	lab_start_daemon(&self->r.lab);
	lab_await_state(&self->r.lab, "connected");
	run_lab_expect(&self->r, "2");
	run_lab_go(&self->r);
	run_lab_await_gone(run_lab_next_pid(&self->r));
	stop(self);
	expect_left(self, 0, 0);
}

TEST_F(run_commands, the_connection_may_break_meanwhile)
{
	run_lab_start(&self->r, "commands", "sh", "-c",
		      "echo $IOTHUB_DELIVERY_COUNT > $D/said; read -r x < $D/go; echo $$ > $D/said");
	send(self, "x");
	run_lab_expect(&self->r, "1");
	ASSERT_EQ(lab_hubctl(&self->r.lab, self->text, sizeof(self->text), "fault", "set", "drop"), 0);
	lab_await_number(&self->r.lab, "connects", 2);
	lab_await_state(&self->r.lab, "connected");
	run_lab_go(&self->r);
	run_lab_await_gone(run_lab_next_pid(&self->r));
	stop(self);
	expect_left(self, 0, 0);
}

/* With the same devices, but no queues; numbers repeat then. The new hub's first command is not decided by what
 * becomes of the old one's. */
TEST_F(run_commands, the_hub_is_set_up_anew_meanwhile)
{
	static const char script[] =
		"x=$(cat); echo \"$x $IOTHUB_SEQUENCE_NO $IOTHUB_DELIVERY_COUNT\" > $D/said\n"
		"read -r y < $D/go; [ $x = new ] || exit 65";

	run_lab_start(&self->r, "commands", "sh", "-c", script);
	send(self, "old");
	run_lab_expect(&self->r, "old 1 1");
	lab_stop_emulator(&self->r.lab, SIGTERM);
	lab_await_state(&self->r.lab, "waiting");
	ASSERT_EQ(lab_shell(&self->r.lab, "sh", "rm $D/state/state.log"), 0);
	lab_start_emulator(&self->r.lab, NULL);
	lab_await_state(&self->r.lab, "connected");
	send(self, "new");
	EXPECT_CONTAINS(list(self), "\"payload\":\"new\"");
	EXPECT_EQ(lab_shell(&self->r.lab, "sh", "grep -q new $M/commands/1/payload"), 0);
	run_lab_go(&self->r);
	run_lab_expect(&self->r, "new 1 1");
	run_lab_go(&self->r);
	stop(self);
	expect_left(self, 0, 0);
}

#define N_COMMANDS 60
#define N_KILLS    25

/* Each start ends by a kill, at a time some handler has just begun or ended. */
TEST_F_TIMEOUT(run_commands, killed_at_any_time_nothing_is_lost, 60)
{
	static const char script[] =
		"echo began > $D/said; echo $IOTHUB_SEQUENCE_NO >> $D/done; echo end > $D/said";
	bool seen[N_COMMANDS + 1] = {false};
	_cleanup_(free_ptr) char *done = NULL;
	int n = 0;

	ASSERT_EQ(lab_shell(&self->r.lab, "bash",
			    "for i in {1..60}; do hubctl command send dev1 $i || exit 1; done > $D/sent"),
		  0);
	for (int i = 0; i < N_KILLS; i++) {
		run_lab_start(&self->r, "--jobs", "4", "commands", "sh", "-c", script);
		for (uint64_t lines = test_random() % 4 + 1; lines; lines--)
			run_lab_next(&self->r);
		run_lab_stop(&self->r, SIGKILL);
	}
	run_lab_start(&self->r, "--jobs", "4", "commands", "sh", "-c", script);
	while (text_count(list(self), "\"sequence-no\"") > text_count(self->text, "\"dead-lettered\""))
		;
	stop(self);
	expect_left(self, 0, 0);
	done = text_read(run_lab_path(&self->r, "done"));
	for (const char *line = done; *line; line = strchr(line, '\n') + 1) {
		int number = atoi(line);

		ASSERT_TRUE(number >= 1 && number <= N_COMMANDS);
		n += !seen[number];
		seen[number] = true;
	}
	EXPECT_EQ(n, N_COMMANDS);
}

TEST_HARNESS_MAIN
