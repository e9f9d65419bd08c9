/* SPDX-License-Identifier: MIT */
/*
 * Many commands from a real hub through a shell's `while read`: each is handled once and in order, and completed.
 */

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

FIXTURE(commands_many)
{
	struct lab lab;
};

FIXTURE_SETUP(commands_many)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_start_daemon(&self->lab);
	lab_await_state(&self->lab, "connected");
}

FIXTURE_TEARDOWN(commands_many)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

/* The sender ends when the last is completed, which is when the loop asks for what comes after it: everything it wrote
 * is there, and it can be ended. */
TEST_F_TIMEOUT(commands_many, ten_thousand_through_while_read, 120)
{
	const struct lab *lab = &self->lab;
	char text[64];

	EXPECT_EQ(lab_shell(lab, "bash",
			    "seq 10000 > $D/in\n"
			    "while read -r line; do\n"
			    "	line=${line##*\\\"payload\\\":\\\"}\n"
			    "	echo \"${line%%\\\"*}\"\n"
			    "done < $M/commands/stream > $D/out &\n"
			    "hubctl command send dev1 --lines --wait < $D/in > $D/outcomes || exit 2\n"
			    "kill $! && ! wait $! &&\n"
			    "cmp $D/in $D/out &&\n"
			    "[ $(grep -c ': completed, delivered 1 time$' $D/outcomes) = 10000 ]"),
		  0);
	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "command", "list", "dev1", "--json"), 0);
	EXPECT_STREQ(text, "[]\n");
}

TEST_HARNESS_MAIN
