/* SPDX-License-Identifier: MIT */
/*
 * Messages a real hub refuses for good: where they are, how they are sent again or dropped, with shells, over restarts and
 * kill -9.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

#define N_MANY     1010
#define N_MANY_TXT "1010"

FIXTURE(rejected)
{
	struct lab lab;
};

FIXTURE_SETUP(rejected)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(rejected)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

/* What scripts find defined: `refuse STATUS COUNT` makes the hub refuse telemetry, `say FILE TEXT` writes a line and
 * waits for its outcome, `same A B` fails and shows both when they differ, `id` is the only message in rejected/. */
#define FUNCTIONS                                                                                            \
	"refuse() { hubctl fault set status status=$1 operation=telemetry count=$2 > $D/fault; }\n"          \
	"say() { echo \"$2\" | dd of=$M/$1 conv=fsync,notrunc status=none 2> $D/err; }\n"                    \
	"same() { [ \"$1\" = \"$2\" ] && return; echo \"'$1' is not '$2'\" >&2; exit 1; }\n"                 \
	"id() { set -- $M/rejected/*/; [ $# = 1 ] && [ -d $1 ] || { echo \"rejected: $*\" >&2; exit 1; }; "  \
	"echo ${1%/}; }\n"                                                                                   \
	"none() { same \"$(ls $M/rejected)\" ''; }\n"

/* Fails the test with what the script printed. */
static void run(struct lab *lab, const char *script)
{
	_cleanup_(free_ptr) char *text = NULL;

	ASSERT_GE(asprintf(&text, "set -e\n%s%s", FUNCTIONS, script), 0);
	ASSERT_EQ(lab_shell(lab, "sh", text), 0);
}

static FILE *start_all(struct lab *lab, const char *config)
{
	lab_start_emulator(lab, NULL);
	lab_configure(lab, config);
	lab_start_monitor(lab);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	return lab_monitor_stream(lab);
}

static void expect_message(struct lab *lab, FILE *monitor, const char *payload, const char *id)
{
	struct lab_message message;

	lab_next_message(lab, monitor, &message);
	EXPECT_STREQ(message.payload, payload);
	if (id)
		EXPECT_STREQ(message.message_id, id);
	lab_message_clear(&message);
}

/* What jq prints of the only message's properties; the caller frees it. */
static char *property(struct lab *lab, const char *filter)
{
	_cleanup_(free_ptr) char *script = NULL;
	char path[LAB_PATH_MAX];
	_cleanup_(fclose_ptr) FILE *file = NULL;
	char *line = NULL;
	size_t size = 0;

	ASSERT_GE(asprintf(&script, "cat \"$(id)/properties.json\" | jq -r '%s' > $D/out", filter), 0);
	run(lab, script);
	snprintf(path, sizeof(path), "%s/out", lab->dir);
	file = fopen(path, "re");
	ASSERT_TRUE(file != NULL);
	ASSERT_GT(getline(&line, &size, file), 0);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

TEST_F(rejected, is_kept_with_its_reason_and_sent_again_with_its_id)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL);
	_cleanup_(free_ptr) char *id = NULL, *channel = NULL;

	run(lab, "none; refuse 0100 1; say telemetry bad || grep -q 'Invalid argument' $D/err; say telemetry "
		 "good");
	expect_message(lab, monitor, "good", NULL);
	run(lab,
	    "m=$(id); same \"$(cat $m/payload)\" bad; grep -q 0100 $m/reason; same $(wc -l < $m/reason) 1\n"
	    "same $(wc -c < $m/payload) 3; same \"$(ls $m | tr '\\n' ' ')\" 'payload properties.json reason "
	    "retry '\n"
	    "timeout 10 grep -q '\"event\":\"rejected\",\"file\":\"rejected/'${m##*/} $M/events");
	EXPECT_EQ(lab_status_number(lab, "rejected-kept"), 1u);
	EXPECT_EQ(lab_status_number(lab, "queued"), 0u);
	id = property(lab, ".\"message-id\"");
	channel = property(lab, ".channel");
	EXPECT_STREQ(channel, "default");
	run(lab, "m=$(id); if echo again > $m/retry; then exit 1; fi 2> $D/err\n"
		 "echo retry > $m/retry; [ ! -e $m ]; none");
	expect_message(lab, monitor, "bad", id);
	EXPECT_EQ(lab_status_number(lab, "rejected-kept"), 0u);
}

/* With a shell's own tools. */
TEST_F(rejected, is_dropped)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL);

	run(lab, "refuse 0101 3; for i in 1 2 3; do say telemetry $i || :; done\n"
		 "same $(ls $M/rejected | wc -l) 3\n"
		 "set -- $M/rejected/*; rmdir $1; rm -r $2; same \"$(id)\" $3\n"
		 "exec 9< $3/payload; rm -rf $M/rejected/*; none\n"
		 "if cat <&9 2> $D/err; then exit 1; fi; grep -qi stale $D/err\n"
		 "say telemetry end");
	expect_message(lab, monitor, "end", NULL);
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
	lab_start_daemon(lab);
	run(lab, "none");
}

static void survives(struct lab *lab, int signo)
{
	_cleanup_(free_ptr) char *before = NULL, *after = NULL;

	run(lab, "refuse 0102 1; say channels/default/telemetry.raw 'to stay' || :");
	before = property(lab, ".\"message-id\"");
	lab_stop_daemon(lab, signo);
	lab_start_daemon(lab);
	after = property(lab, ".\"message-id\"");
	EXPECT_STREQ(before, after);
	run(lab, "m=$(id); same \"$(cat $m/payload)\" 'to stay'; grep -q 0102 $m/reason; rmdir $m");
	lab_stop_daemon(lab, signo);
	lab_start_daemon(lab);
	run(lab, "none");
}

TEST_F(rejected, survives_restarts)
{
	fclose(start_all(&self->lab, NULL));
	survives(&self->lab, SIGTERM);
	lab_await_state(&self->lab, "connected");
	survives(&self->lab, SIGKILL);
}

TEST_F(rejected, survives_restarts_in_volatile_storage)
{
	fclose(start_all(&self->lab, "\"storage\": \"volatile\""));
	survives(&self->lab, SIGTERM);
	lab_await_state(&self->lab, "connected");
	survives(&self->lab, SIGKILL);
}

/* The channel's properties stay with the message, also when the channel is gone. */
TEST_F(rejected, belongs_to_a_channel)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL);
	_cleanup_(free_ptr) char *channel = NULL, *level = NULL, *id = NULL;

	run(lab, "mkdir $M/channels/alarm; echo 3 > $M/channels/alarm/properties/level\n"
		 "refuse 0100 1; say channels/alarm/telemetry fire || :");
	channel = property(lab, ".channel");
	level = property(lab, ".properties.level");
	id = property(lab, ".\"message-id\"");
	EXPECT_STREQ(channel, "alarm");
	EXPECT_STREQ(level, "3");
	run(lab, "rmdir $M/channels/alarm; echo retry > $(id)/retry");
	expect_message(lab, monitor, "fire", id);
}

/* A hub without a link to it: what is retried waits its turn. */
TEST_F(rejected, retry_without_a_hub)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL);
	_cleanup_(free_ptr) char *id = NULL;

	run(lab, "refuse 0100 1; say telemetry bad || :");
	id = property(lab, ".\"message-id\"");
	lab_stop_daemon(lab, SIGTERM);
	lab_stop_emulator(lab, SIGTERM);
	lab_start_daemon(lab);
	/* Until what is queued again is stored, a crash would show it in both places. */
	run(lab, "echo retry > $(id)/retry; none\n"
		 "until grep -q '^stored: \\([0-9]*\\) of \\1$' $M/status; do :; done");
	EXPECT_EQ(lab_status_number(lab, "queued"), 1u);
	lab_stop_daemon(lab, SIGKILL);
	lab_start_emulator(lab, NULL);
	fclose(TAKE_PTR(monitor));
	lab_start_monitor(lab);
	monitor = lab_monitor_stream(lab);
	lab_start_daemon(lab);
	expect_message(lab, monitor, "bad", id);
	run(lab, "none");
}

/* Who cannot write has no say. */
TEST_F(rejected, permissions)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = NULL;

	SKIP_IF(geteuid() != 0, "needs root to become another user");
	monitor = start_all(lab, "\"files\": {\"rejected\": {\"mode\": \"0664\"}}");
	run(lab, "refuse 0100 1; say telemetry bad || :\n"
		 "as() { setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \"$1\" 2> $D/err; }\n"
		 "m=$(id); same \"$(as \"cat $m/payload\")\" bad\n"
		 "! as \"echo retry > $m/retry\"; grep -q 'ermission' $D/err\n"
		 "! as \"rmdir $m\"; grep -q 'ermission' $D/err; same $(id) $m\n"
		 "if echo x > $m/payload; then exit 1; fi 2> $D/err");
}

TEST_F_TIMEOUT(rejected, a_thousand_at_most, 120)
{
	struct lab *lab = &self->lab;
	_cleanup_(fclose_ptr) FILE *monitor = start_all(lab, NULL);

	run(lab,
	    "refuse 0100 " N_MANY_TXT "\n"
	    "seq " N_MANY_TXT " | dd of=$M/telemetry bs=64k conv=fsync,notrunc status=none 2> $D/err || :\n"
	    "say telemetry end");
	expect_message(lab, monitor, "end", NULL);
	EXPECT_EQ(lab_status_number(lab, "rejected-kept"), 1000u);
	EXPECT_EQ(lab_status_number(lab, "rejected-dropped"), (uint64_t)N_MANY - 1000);
	run(lab, "set -- $(ls $M/rejected | sort -n); same $# 1000; same $(cat $M/rejected/$1/payload) 11");
	lab_stop_daemon(lab, SIGKILL);
	lab_start_daemon(lab);
	EXPECT_EQ(lab_status_number(lab, "rejected-kept"), 1000u);
	run(lab, "set -- $(ls $M/rejected | sort -n); same $# 1000; same $(cat $M/rejected/$1/payload) 11\n"
		 "rm -rf $M/rejected/*; none");
}

TEST_HARNESS_MAIN
