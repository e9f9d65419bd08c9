/* SPDX-License-Identifier: MIT */
/*
 * Channels on a mount, with a real hub: shells make and set them as any directory with files, the hub sees the
 * properties, and the next daemon has what was set.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

FIXTURE(channels)
{
	struct lab lab;
};

FIXTURE_SETUP(channels)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
}

FIXTURE_TEARDOWN(channels)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

static void start_daemon(struct lab *lab)
{
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
}

static FILE *start_all(struct lab *lab, const char *config)
{
	lab_configure(lab, config);
	lab_start_monitor(lab);
	start_daemon(lab);
	return lab_monitor_stream(lab);
}

/* Runs a script that ends with an error at the first command that fails. */
static void run(const struct lab *lab, const char *shell, const char *script)
{
	_cleanup_(free_ptr) char *text = NULL;

	ASSERT_GT(asprintf(&text,
			   "set -e; C=$M/channels\n"
			   "same() { [ \"$1\" = \"$2\" ] || { echo \"# $1, but expected: $2\"; exit 1; }; }\n"
			   "fails() { if \"$@\" 2>$D/err; then echo \"# not refused: $*\"; exit 1; fi; }\n%s",
			   script),
		  0);
	EXPECT_EQ(lab_shell(lab, shell, text), 0);
}

/* --- what the hub sees ------------------------------------------------------------------------ */

static const char *member(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value) : "-";
}

/* The next message as `payload content-type content-encoding user-id correlation-id {application properties}`, `-` for
 * what it does not have. */
static void expect_message(FILE *monitor, const char *wanted)
{
	_cleanup_(free_ptr) char *line = NULL, *got = NULL;
	struct json_object *object, *system = NULL, *properties = NULL;
	size_t size = 0;

	ASSERT_GT(getline(&line, &size, monitor), 0);
	object = json_tokener_parse(line);
	ASSERT_TRUE(object && json_object_object_get_ex(object, "system-properties", &system));
	json_object_object_get_ex(object, "properties", &properties);
	ASSERT_GT(asprintf(&got, "%s %s %s %s %s %s", member(object, "payload"),
			   member(system, "content-type"), member(system, "content-encoding"),
			   member(system, "user-id"), member(system, "correlation-id"),
			   properties ? json_object_to_json_string_ext(properties, JSON_C_TO_STRING_PLAIN)
				      : "{}"),
		  0);
	EXPECT_STREQ(got, wanted);
	json_object_put(object);
}

TEST_F(channels, properties_arrive)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL);

	run(&self->lab, "bash",
	    "mkdir $C/x; cd $C/x\n"
	    "echo application/json > content-type; echo utf-8 > content-encoding\n"
	    "echo me > user-id; echo 7 > correlation-id\n"
	    "echo north > properties/site; echo 'a b' > properties/caf\xc3\xa9; echo 1 > properties/a%2Fb\n"
	    "echo one > telemetry; printf two > telemetry.raw; printf three > $D/three; cp $D/three "
	    "telemetry.file");
	expect_message(monitor, "one application/json utf-8 me 7 "
				"{\"site\":\"north\",\"caf\xc3\xa9\":\"a b\",\"a\\/b\":\"1\"}");
	expect_message(monitor, "two application/json utf-8 me 7 "
				"{\"site\":\"north\",\"caf\xc3\xa9\":\"a b\",\"a\\/b\":\"1\"}");
	expect_message(monitor, "three application/json utf-8 me 7 "
				"{\"site\":\"north\",\"caf\xc3\xa9\":\"a b\",\"a\\/b\":\"1\"}");
	/* What is written next has what is set by then, the other channels nothing of it. */
	run(&self->lab, "dash",
	    "cd $C/x; exec 3> telemetry; echo four >&3; : > user-id; rm properties/a%2Fb; mv properties/site "
	    "properties/place; echo five >&3; echo six > ../default/telemetry; echo seven > $M/telemetry\n"
	    "echo text/plain > ../default/content-type; echo eight > $M/telemetry");
	expect_message(monitor, "four application/json utf-8 me 7 "
				"{\"site\":\"north\",\"caf\xc3\xa9\":\"a b\",\"a\\/b\":\"1\"}");
	expect_message(monitor, "five application/json utf-8 - 7 "
				"{\"place\":\"north\",\"caf\xc3\xa9\":\"a b\"}");
	expect_message(monitor, "six - - - - {}");
	expect_message(monitor, "seven - - - - {}");
	expect_message(monitor, "eight text/plain - - - {}");
}

/* --- as any directory ------------------------------------------------------------------------- */

TEST_F(channels, shells_and_tools)
{
	start_daemon(&self->lab);
	run(&self->lab, "bash",
	    "cd $C; mkdir x y; same \"$(ls | tr '\\n' ' ')\" 'default x y '\n"
	    "same \"$(find x | LC_ALL=C sort | tr '\\n' ' ')\" 'x x/ack x/content-encoding x/content-type "
	    "x/correlation-id x/priority x/properties x/stats x/telemetry x/telemetry.file x/telemetry.raw "
	    "x/ttl "
	    "x/user-id x/when-full '\n"
	    "echo 60 > x/ttl; same \"$(cat x/ttl)\" 60; same \"$(stat -c %s x/ttl)\" 3\n"
	    "read -r ttl < x/ttl; same $ttl 60\n"
	    "printf 'b\\n' > x/properties/a; printf c > x/properties/a; same \"$(cat x/properties/a)\" c\n"
	    "cp -r x/properties/. y/properties/; same \"$(cat y/properties/a)\" c\n"
	    "mv x/properties/a y/properties/b; same \"$(ls x/properties)\" ''\n"
	    "same \"$(grep -r . y/properties | LC_ALL=C sort | tr '\\n' ' ')\" 'y/properties/a:c "
	    "y/properties/b:c '\n"
	    "sed -i s/c/d/ y/properties/a; same \"$(cat y/properties/a)\" d\n"
	    "same \"$(ls y/properties | tr '\\n' ' ')\" 'a b '\n"
	    "touch y/properties/e; same \"$(cat y/properties/e)\" ''\n"
	    "truncate -s 0 y/properties/a; same \"$(cat y/properties/a)\" ''\n"
	    "rm y/properties/*; same \"$(ls y/properties)\" ''\n");
	run(&self->lab, "dash",
	    "cd $C; fails rmdir default; grep -q busy $D/err; fails mkdir 'a b'; grep -q Invalid $D/err\n"
	    "fails sh -c 'echo never > x/ack'; fails sh -c 'echo x > x/properties/%'; fails mkdir x/z\n"
	    "fails sh -c 'echo > x/stats'; fails rm x/ttl\n"
	    "same \"$(timeout 1 cat $M/events | grep -c channels/x/ack)\" 1\n"
	    "rmdir x y; same \"$(ls)\" default; fails ls x\n"
	    "cd $C; mkdir x; cd x; rmdir ../x; fails sh -c 'echo a > telemetry'\n");
}

/* What a shell wrote into a removed channel goes out, and so does what it goes on writing. */
TEST_F(channels, a_removed_channel_sends_what_it_has)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL);

	run(&self->lab, "bash",
	    "mkdir $C/x; echo u > $C/x/user-id; exec 3> $C/x/telemetry; echo one >&3; rmdir $C/x; echo two "
	    ">&3\n"
	    "mkdir $C/x; echo three > $C/x/telemetry");
	expect_message(monitor, "one - - u - {}");
	expect_message(monitor, "two - - u - {}");
	expect_message(monitor, "three - - - - {}");
}

/* --- over restarts ---------------------------------------------------------------------------- */

TEST_F(channels, settings_outlive_the_daemon)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL);

	run(&self->lab, "bash",
	    "cd $C; mkdir x y gone; rmdir gone; echo text/plain > x/content-type; echo north > "
	    "x/properties/site\n"
	    "echo stored > x/ack; echo block > y/when-full; echo 60 > y/ttl; echo 9 > y/priority\n"
	    "echo me > default/user-id");
	for (int i = 0; i < 2; ++i) {
		lab_stop_daemon(&self->lab, SIGTERM);
		start_daemon(&self->lab);
		run(&self->lab, "bash",
		    "cd $C; same \"$(ls | tr '\\n' ' ')\" 'default x y '\n"
		    "same \"$(cat x/content-type x/properties/site x/ack x/ttl | tr '\\n' ' ')\" 'text/plain "
		    "north "
		    "stored 0 '\n"
		    "same \"$(cat y/when-full y/ttl y/priority default/user-id | tr '\\n' ' ')\" 'block 60 9 "
		    "me '\n"
		    "echo one > x/telemetry; echo two > $M/telemetry");
		expect_message(monitor, "one text/plain - - - {\"site\":\"north\"}");
		expect_message(monitor, "two - - me - {}");
	}
}

/* Killed: what a writer waited for is there, and the file is whole whatever the daemon was doing. */
TEST_F(channels, settings_outlive_a_kill)
{
	start_daemon(&self->lab);
	run(&self->lab, "bash",
	    "cd $C; mkdir x; echo north > x/properties/site; echo u | dd of=x/user-id oflag=sync "
	    "status=none");
	for (int i = 0; i < 3; ++i) {
		lab_stop_daemon(&self->lab, SIGKILL);
		start_daemon(&self->lab);
		run(&self->lab, "bash",
		    "cd $C; same \"$(cat x/properties/site x/user-id | tr '\\n' ' ')\" 'north u '\n"
		    "for i in $(seq 100); do echo $i > x/properties/n; echo $i > x/ttl; done\n"
		    "echo 7 > x/ttl; sync x/ttl; echo 8 > x/priority");
	}
	lab_stop_daemon(&self->lab, SIGKILL);
	start_daemon(&self->lab);
	run(&self->lab, "bash",
	    "same \"$(cat $C/x/ttl $C/x/properties/n | tr '\\n' ' ')\" '7 100 '\n"
	    "same \"$(ls $D/device/*.bad 2> $D/err)\" ''");
}

TEST_F(channels, declared_in_the_configuration)
{
	_cleanup_(fclose_ptr) FILE *monitor =
		start_all(&self->lab, "\"channels\":{\"x\":{\"content-type\":\"text/plain\",\"ttl\":60,"
				      "\"properties\":{\"site\":\"north\"}},\"default\":{\"priority\":2}}");

	run(&self->lab, "bash",
	    "cd $C; same \"$(cat x/ttl x/priority default/priority | tr '\\n' ' ')\" '60 5 2 '\n"
	    "echo one > x/telemetry; echo 61 > x/ttl; rm x/properties/site; echo two > x/telemetry");
	expect_message(monitor, "one text/plain - - - {\"site\":\"north\"}");
	expect_message(monitor, "two text/plain - - - {}");
	lab_stop_daemon(&self->lab, SIGTERM);
	lab_configure(&self->lab, "\"channels\":{\"x\":{\"content-type\":\"text/html\",\"ttl\":1}}");
	start_daemon(&self->lab);
	run(&self->lab, "bash",
	    "cd $C; same \"$(cat x/ttl default/priority | tr '\\n' ' ')\" '61 5 '; echo three > x/telemetry\n"
	    "rmdir x; same \"$(ls)\" default");
	expect_message(monitor, "three text/html - - - {}");
	lab_stop_daemon(&self->lab, SIGTERM);
	start_daemon(&self->lab);
	run(&self->lab, "bash", "same \"$(cat $C/x/ttl)\" 1");
}

/* --- stats ------------------------------------------------------------------------------------ */

TEST_F(channels, stats_count)
{
	_cleanup_(fclose_ptr) FILE *monitor = start_all(&self->lab, NULL);

	run(&self->lab, "bash",
	    "mkdir $C/x; echo hub > $C/x/ack; printf 'a\\nb\\n' > $C/x/telemetry\n"
	    "same \"$(grep -E 'appended|acked|rejected|queued|bytes' $C/x/stats | tr '\\n' ' ')\" 'appended: "
	    "2 "
	    "acked: 2 rejected: 0 queued: 0 bytes: 0 '\n"
	    "same \"$(grep appended $C/default/stats)\" 'appended: 0'");
	expect_message(monitor, "a - - - - {}");
	expect_message(monitor, "b - - - - {}");
	lab_stop_emulator(&self->lab, SIGTERM);
	run(&self->lab, "bash",
	    "echo queued > $C/x/ack; echo c > $C/x/telemetry\n"
	    "grep -q 'queued: 1' $C/x/stats; grep -q 'bytes: [1-9]' $C/x/stats; grep -q 'oldest-age: ' "
	    "$C/x/stats");
}

TEST_HARNESS_MAIN
