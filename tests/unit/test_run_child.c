/* SPDX-License-Identifier: MIT */
/*
 * Programs run by iothub-run: what they read and write, their limits, and what is left of them.
 */

#include <fcntl.h>
#include <poll.h>
#include <linux/close_range.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tools/run/child.h"

#define SECOND_NS NSEC_PER_SEC

FIXTURE(child)
{
	struct poller poller;
	struct child child;
	bool has_ended;
};

static void on_end(struct child *child)
{
	container_of(child, struct fixture_child, child)->has_ended = true;
}

FIXTURE_SETUP(child)
{
	ASSERT_EQ(poller_init(&self->poller), 0);
	child_init(&self->child, &self->poller, on_end);
}

FIXTURE_TEARDOWN(child)
{
	if (test_is_orphan())
		return;
	child_deinit(&self->child);
	poller_deinit(&self->poller);
}

#define FOREVER                                                                                              \
	(struct limits)                                                                                      \
	{                                                                                                    \
		TIME_NEVER, SECOND_NS, 65536                                                                 \
	}

struct limits {
	uint64_t timeout_ns, grace_ns;
	size_t output_bytes_max;
};

static void start(struct fixture_child *self, const char *script, struct bytes input, struct limits limits)
{
	char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL};
	struct child_spec spec = {
		.path = "/bin/sh",
		.argv = argv,
		.envp = environ,
		.input = input,
		.capture = true,
		.output_bytes_max = limits.output_bytes_max,
		.deadline_ns = limits.timeout_ns == TIME_NEVER ? TIME_NEVER
							       : self->poller.now_ns + limits.timeout_ns,
		.grace_ns = limits.grace_ns,
	};

	self->has_ended = false;
	ASSERT_EQ(child_start(&self->child, &spec), 0);
}

static void finish(struct fixture_child *self)
{
	while (!self->has_ended)
		ASSERT_EQ(poller_step(&self->poller), 0);
	EXPECT_TRUE(self->child.state == CHILD_IDLE);
}

static void run(struct fixture_child *self, const char *script, struct bytes input, struct limits limits)
{
	start(self, script, input, limits);
	finish(self);
}

static void expect_output(struct fixture_child *self, const char *text)
{
	struct bytes output = buf_bytes(&self->child.output);

	EXPECT_EQ(output.len, strlen(text));
	if (output.len == strlen(text))
		EXPECT_MEMEQ(output.data, text, output.len);
	else
		TEST_LOG("output: %.*s", (int)output.len, (const char *)output.data);
}

static int exit_code(const struct child *child)
{
	return WIFEXITED(child->status) ? WEXITSTATUS(child->status) : 128 + WTERMSIG(child->status);
}

/* Waits for the end of @pid, no child of ours. */
static void await_gone(pid_t pid)
{
	_cleanup_(close_fd) int fd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd < 0)
		ASSERT_EQ(errno, ESRCH);
	else
		ASSERT_EQ(poll(&p, 1, -1), 1);
}

/* A number the script wrote. */
static pid_t pid_written(struct fixture_child *self)
{
	char text[32] = "";
	struct bytes output = buf_bytes(&self->child.output);

	ASSERT_LT(output.len, sizeof(text));
	memcpy(text, output.data, output.len);
	ASSERT_GT(atoi(text), 1);
	return (pid_t)atoi(text);
}

/* --- input and output ------------------------------------------------------------------------- */

TEST_F(child, reads_its_input_and_its_output_is_collected)
{
	run(self, "cat; echo end", BYTES_LIT("one\ntwo\n"), FOREVER);
	EXPECT_TRUE(child_succeeded(&self->child));
	expect_output(self, "one\ntwo\nend\n");
}

TEST_F(child, input_of_any_bytes_and_size)
{
	static uint8_t input[300000];
	struct bytes output;

	for (size_t i = 0; i < sizeof(input); i++)
		input[i] = (uint8_t)test_random();
	run(self, "cat", BYTES(input, sizeof(input)), (struct limits){TIME_NEVER, SECOND_NS, sizeof(input)});
	output = buf_bytes(&self->child.output);
	EXPECT_FALSE(self->child.too_long);
	ASSERT_EQ(output.len, sizeof(input));
	EXPECT_MEMEQ(output.data, input, sizeof(input));
}

TEST_F(child, empty_input_is_the_end_of_a_file)
{
	run(self, "cat | wc -c", BYTES(NULL, 0), FOREVER);
	expect_output(self, "0\n");
}

TEST_F(child, that_does_not_read_holds_up_nobody)
{
	static uint8_t input[300000];

	run(self, "exit 0", BYTES(input, sizeof(input)), FOREVER);
	EXPECT_TRUE(child_succeeded(&self->child));
	run(self, "exec 0<&-; echo closed", BYTES(input, sizeof(input)), FOREVER);
	EXPECT_TRUE(child_succeeded(&self->child));
	expect_output(self, "closed\n");
}

TEST_F(child, input_cannot_be_written_to)
{
	run(self, "echo x 2>/dev/null >&0 || echo refused; cat", BYTES_LIT("kept\n"), FOREVER);
	expect_output(self, "refused\nkept\n");
}

TEST_F(child, output_up_to_the_bound)
{
	run(self, "printf 12345678", BYTES(NULL, 0), (struct limits){TIME_NEVER, SECOND_NS, 8});
	EXPECT_FALSE(self->child.too_long);
	expect_output(self, "12345678");
	run(self, "printf 123456789", BYTES(NULL, 0), (struct limits){TIME_NEVER, SECOND_NS, 8});
	EXPECT_TRUE(self->child.too_long);
	EXPECT_TRUE(child_succeeded(&self->child));
	EXPECT_EQ(buf_len(&self->child.output), 0u);
}

TEST_F(child, output_over_the_bound_is_drained)
{
	run(self, "head -c 3000000 /dev/zero && exit 3", BYTES(NULL, 0),
	    (struct limits){TIME_NEVER, SECOND_NS, 1000});
	EXPECT_TRUE(self->child.too_long);
	EXPECT_EQ(exit_code(&self->child), 3);
	/* The next run begins anew. */
	run(self, "echo again", BYTES(NULL, 0), FOREVER);
	EXPECT_FALSE(self->child.too_long);
	expect_output(self, "again\n");
}

TEST_F(child, that_closes_its_output_goes_on)
{
	run(self, "echo before; exec >&-; exit 5", BYTES(NULL, 0), FOREVER);
	EXPECT_EQ(exit_code(&self->child), 5);
	expect_output(self, "before\n");
}

/* --- how it ends ------------------------------------------------------------------------------ */

TEST_F(child, exit_codes_and_signals)
{
	char how[64];

	run(self, "exit 7", BYTES(NULL, 0), FOREVER);
	EXPECT_FALSE(child_succeeded(&self->child));
	EXPECT_STREQ(child_describe(&self->child, how, sizeof(how)), "exit code 7");
	run(self, "kill -9 $$", BYTES(NULL, 0), FOREVER);
	EXPECT_FALSE(child_succeeded(&self->child));
	EXPECT_FALSE(self->child.cut);
	EXPECT_STREQ(child_describe(&self->child, how, sizeof(how)), "signal 9");
}

TEST_F(child, that_cannot_be_executed)
{
	char *argv[] = {(char *)(uintptr_t) "x", NULL};
	struct child_spec spec = {
		.path = "/nowhere/program", .argv = argv, .envp = environ, .deadline_ns = TIME_NEVER};

	ASSERT_EQ(child_start(&self->child, &spec), 0);
	finish(self);
	EXPECT_EQ(exit_code(&self->child), 127);
	self->has_ended = false;
	spec.path = "/";
	ASSERT_EQ(child_start(&self->child, &spec), 0);
	finish(self);
	EXPECT_EQ(exit_code(&self->child), 126);
}

TEST_F(child, has_signals_as_they_are_by_default)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Without 32 and 33, which are the C library's own: make(1) leaves them ignored, and nobody can change that. */
	run(self,
	    "while read -r key value; do case $key in SigBlk: | SigIgn:)"
	    " echo $key $((0x$value & ~0x180000000));; esac; done < /proc/self/status",
	    BYTES(NULL, 0), FOREVER);
	expect_output(self, "SigBlk: 0\nSigIgn: 0\n");
}

TEST_F(child, has_no_other_descriptors)
{
	/* What we inherited goes on to it. */
	ASSERT_EQ(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), 0);
	run(self, "ls /proc/self/fd | tr '\\n' ' '", BYTES(NULL, 0), FOREVER);
	/* 3 is the directory ls looks into. */
	expect_output(self, "0 1 2 3 ");
}

TEST_F(child, is_a_process_group)
{
	run(self, "test $(cut -d' ' -f5 /proc/$$/stat) = $$ && echo leader", BYTES(NULL, 0), FOREVER);
	expect_output(self, "leader\n");
}

/* --- limits ----------------------------------------------------------------------------------- */

#define SHORT                                                                                                \
	(struct limits)                                                                                      \
	{                                                                                                    \
		SECOND_NS / 20, SECOND_NS / 20, 65536                                                        \
	}

TEST_F(child, ends_at_the_limit)
{
	run(self, "echo started; sleep 1000", BYTES(NULL, 0), SHORT);
	EXPECT_TRUE(self->child.cut);
	EXPECT_FALSE(child_succeeded(&self->child));
	EXPECT_TRUE(WIFSIGNALED(self->child.status));
	expect_output(self, "started\n");
}

/* Its time is over once it has written something. */
static void run_until_output(struct fixture_child *self, const char *script, uint64_t grace_ns)
{
	start(self, script, BYTES(NULL, 0), (struct limits){TIME_NEVER, grace_ns, 65536});
	while (buf_len(&self->child.output) == 0)
		ASSERT_EQ(poller_step(&self->poller), 0);
	child_hurry(&self->child, self->poller.now_ns);
	finish(self);
	EXPECT_TRUE(self->child.cut);
}

TEST_F(child, may_clean_up_at_the_limit)
{
	run_until_output(self, "trap 'echo cleaned; exit 0' TERM; echo started; while :; do sleep 0.01; done",
			 20 * SECOND_NS);
	EXPECT_EQ(exit_code(&self->child), 0);
	EXPECT_FALSE(child_succeeded(&self->child));
	expect_output(self, "started\ncleaned\n");
}

TEST_F(child, that_ignores_the_limit_is_killed_with_its_group)
{
	run_until_output(self, "trap '' TERM; sh -c 'echo $$; while :; do sleep 1000; done' & wait; wait",
			 SECOND_NS / 20);
	EXPECT_EQ(exit_code(&self->child), 128 + SIGKILL);
	await_gone(pid_written(self));
}

TEST_F(child, what_it_leaves_behind_does_not_hold_up_its_end)
{
	run(self, "sleep 1000 & echo $!", BYTES(NULL, 0), FOREVER);
	EXPECT_TRUE(child_succeeded(&self->child));
	await_gone(pid_written(self));
}

TEST_F(child, what_escapes_its_group_does_not_hold_up_its_end)
{
	pid_t pid;

	/* It writes for ever, in a session of its own; the script ends when it has begun. */
	run(self,
	    "exec 4>&1\n"
	    "x=$(setsid --fork sh -c 'echo $$ >&4; exec >&4 4>&-; while echo; do :; done')",
	    BYTES(NULL, 0), (struct limits){TIME_NEVER, SECOND_NS, 10000000});
	EXPECT_TRUE(child_succeeded(&self->child));
	ASSERT_GT(buf_len(&self->child.output), 0u);
	pid = (pid_t)atoi((const char *)buf_bytes(&self->child.output).data);
	ASSERT_GT(pid, 1);
	/* Nobody reads any more. */
	await_gone(pid);
}

TEST_F(child, in_a_hurry)
{
	start(self, "sleep 1000", BYTES(NULL, 0), FOREVER);
	child_hurry(&self->child, self->poller.now_ns + SECOND_NS / 20);
	/* Not later again. */
	child_hurry(&self->child, self->poller.now_ns + 1000 * SECOND_NS);
	finish(self);
	EXPECT_TRUE(self->child.cut);
	EXPECT_EQ(exit_code(&self->child), 128 + SIGTERM);
}

TEST_F(child, killed)
{
	start(self, "trap '' TERM; sleep 1000", BYTES(NULL, 0), FOREVER);
	child_kill(&self->child);
	child_kill(&self->child);
	finish(self);
	EXPECT_TRUE(self->child.cut);
	EXPECT_EQ(exit_code(&self->child), 128 + SIGKILL);
	child_kill(&self->child);
}

TEST_F(child, deinit_ends_it)
{
	pid_t pid;

	start(self, "sleep 1000", BYTES(NULL, 0), FOREVER);
	pid = self->child.pid;
	child_deinit(&self->child);
	EXPECT_FALSE(self->has_ended);
	EXPECT_EQ(kill(pid, 0), -1);
}

TEST_F(child, ends_when_we_are_killed)
{
	int fds[2];
	pid_t pid, program;

	ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		start(self, "sleep 1000", BYTES(NULL, 0), FOREVER);
		if (write(fds[1], &self->child.pid, sizeof(pid_t)) < 0)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	ASSERT_EQ(read(fds[0], &program, sizeof(program)), (ssize_t)sizeof(program));
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	await_gone(program);
	close(fds[0]);
	close(fds[1]);
}

TEST_HARNESS_MAIN
