/* SPDX-License-Identifier: MIT */
/*
 * Commands from a real hub to shells and programs: who gets which, and what becomes of it when readers finish, close,
 * are interrupted or killed, and when the connection, the hub or the daemon goes away between any two steps.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define TEXT_SIZE 16384
#define N_READERS 12

FIXTURE(commands)
{
	struct lab lab;
};

/* What is abandoned comes again at once, as often as a test wants. */
static const char *const emulator_options[] = {"--redelivery-delay", "0", "--max-deliveries", "100", NULL};

FIXTURE_SETUP(commands)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, emulator_options);
	lab_start_daemon(&self->lab);
	lab_await_state(&self->lab, "connected");
}

FIXTURE_TEARDOWN(commands)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

/* --- the hub's side --------------------------------------------------------------------------- */

static void send(const struct lab *lab, const char *payload)
{
	char text[256];

	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "command", "send", "dev1", payload), 0);
}

/* While the test goes on. */
static pid_t send_meanwhile(const struct lab *lab, const char *payload)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		send(lab, payload);
		_exit(0);
	}
	return pid;
}

/* The hub has heard all that was decided, and the daemon has all that the hub delivered before: a message behind it
 * is acknowledged. */
static void await_hub(const struct lab *lab)
{
	_cleanup_(close_fd) int fd = open(lab_path(lab, "telemetry.raw"), O_WRONLY | O_SYNC | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "sync", 4), 4);
}

/* What the hub still has, dead letters included. */
static void list(const struct lab *lab, char *text)
{
	await_hub(lab);
	ASSERT_EQ(lab_hubctl(lab, text, TEXT_SIZE, "command", "list", "dev1", "--json"), 0);
}

static void expect_n_left(const struct lab *lab, unsigned int n)
{
	char text[TEXT_SIZE];

	list(lab, text);
	EXPECT_EQ(text_count(text, "\"sequence-no\""), n);
}

/* One command is left, which was delivered @n times. */
static void expect_delivered(const struct lab *lab, const char *payload, unsigned int n)
{
	char text[TEXT_SIZE], want[256];

	list(lab, text);
	EXPECT_EQ(text_count(text, "\"sequence-no\""), 1u);
	snprintf(want, sizeof(want), "\"payload\":\"%s\"", payload);
	EXPECT_CONTAINS(text, want);
	snprintf(want, sizeof(want), "\"delivery-count\":%u,", n);
	EXPECT_CONTAINS(text, want);
}

static void cut(const struct lab *lab)
{
	uint64_t n_connects = lab_status_number(lab, "connects");

	ASSERT_EQ(kill(lab->emulator, SIGUSR1), 0);
	lab_await_number(lab, "connects", n_connects + 1);
	await_hub(lab);
}

/* --- readers ---------------------------------------------------------------------------------- */

static int open_path(const struct lab *lab, const char *name, int flags)
{
	int fd = open(lab_path(lab, name), flags | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	return fd;
}

/* One read(2). */
static void expect_read(int fd, size_t size, const char *want)
{
	char text[1024];
	ssize_t n;

	ASSERT_LT(size, sizeof(text));
	n = read(fd, text, size);
	ASSERT_GE(n, 0);
	text[n > 0 ? n : 0] = '\0';
	EXPECT_STREQ(text, want);
}

static void expect_errno(ssize_t result, int error)
{
	EXPECT_EQ(result, -1);
	EXPECT_EQ(errno, error);
}

static void expect_file(const struct lab *lab, const char *name, const char *want)
{
	_cleanup_(free_ptr) char *text = NULL;
	char path[LAB_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", lab->dir, name);
	text = text_read(path);
	EXPECT_STREQ(text, want);
}

/* --- next ------------------------------------------------------------------------------------- */

static const char *const shells[] = {"bash", "dash"};

TEST_F(commands, next_in_shells)
{
	const struct lab *lab = &self->lab;

	for (size_t i = 0; i < ARRAY_SIZE(shells); ++i) {
		send(lab, "first");
		send(lab, "");
		send(lab, "third");
		send(lab, "fourth\n");
		EXPECT_EQ(lab_shell(lab, shells[i],
				    "[ \"$(cat $M/commands/next)\" = first ] &&\n"
				    "read -r line < $M/commands/next && [ -z \"$line\" ] &&\n"
				    "read -r line < $M/commands/next && [ \"$line\" = third ] &&\n"
				    "cat $M/commands/next.raw > $D/out"),
			  0);
		expect_file(lab, "out", "fourth\n");
		expect_n_left(lab, 0);
	}
}

TEST_F(commands, next_gives_all_bytes_of_large_ones)
{
	const struct lab *lab = &self->lab;

	EXPECT_EQ(lab_shell(lab, "bash",
			    "head -c 60000 /dev/urandom > $D/in\n"
			    "hubctl command send dev1 --file $D/in > $D/numbers &&\n"
			    "hubctl command send dev1 --file $D/in >> $D/numbers &&\n"
			    "cat $M/commands/next.raw > $D/raw && cmp $D/raw $D/in &&\n"
			    "dd if=$M/commands/next bs=7 of=$D/next status=none && printf '\\n' >> $D/in &&\n"
			    "cmp $D/next $D/in"),
		  0);
	expect_n_left(lab, 0);
}

TEST_F(commands, closed_before_the_end_is_abandoned)
{
	const struct lab *lab = &self->lab;
	int fd = open_path(lab, "commands/next", O_RDONLY);

	send(lab, "text");
	expect_read(fd, 2, "te");
	close(fd);
	expect_delivered(lab, "text", 2);
	EXPECT_EQ(lab_shell(lab, "bash", "head -c 1 $M/commands/next.raw > $D/out"), 0);
	expect_file(lab, "out", "t");
	expect_delivered(lab, "text", 3);
	/* Opened and closed. */
	close(open_path(lab, "commands/next", O_RDONLY));
	close(open_path(lab, "commands/stream", O_RDONLY));
	expect_delivered(lab, "text", 3);
	fd = open_path(lab, "commands/next", O_RDONLY);
	expect_read(fd, 5, "text\n");
	expect_delivered(lab, "text", 3);
	close(fd);
	expect_n_left(lab, 0);
}

TEST_F(commands, a_shell_settles_when_its_handler_is_done)
{
	const struct lab *lab = &self->lab;

	send(lab, "one");
	EXPECT_EQ(lab_shell(lab, "dash",
			    "exec 3< $M/commands/next && command=$(cat <&3) && [ \"$command\" = one ] &&\n"
			    "hubctl command list dev1 > $D/before && exec 3<&- && ls $M/commands > $D/names"),
		  0);
	expect_file(lab, "names", "next\nnext.raw\nstream\n");
	{
		_cleanup_(free_ptr) char *before = NULL;
		char path[LAB_PATH_MAX];

		snprintf(path, sizeof(path), "%s/before", lab->dir);
		before = text_read(path);
		EXPECT_CONTAINS(before, "one");
	}
	expect_n_left(lab, 0);
}

/* A shell that has all of a command and is killed by, or with, something. */
static void expect_abandoned_by(const struct lab *lab, const char *shell, const char *end)
{
	char script[1024];

	await_hub(lab);
	snprintf(script, sizeof(script),
		 "unset command; %s -c 'exec 3< $M/commands/next; command=$(cat <&3); [ \"$command\" = one ] "
		 "|| exit 9\n"
		 "%s'; [ $? != 9 ]",
		 shell, end);
	EXPECT_EQ(lab_shell(lab, "bash", script), 0);
}

TEST_F(commands, a_shell_that_is_killed_abandons_what_it_handles)
{
	const struct lab *lab = &self->lab;
	unsigned int n = 1;

	send(lab, "one");
	for (size_t i = 0; i < ARRAY_SIZE(shells); ++i) {
		expect_abandoned_by(lab, shells[i], "kill -9 $$");
		expect_delivered(lab, "one", ++n);
		expect_abandoned_by(lab, shells[i], "kill -TERM $$");
		expect_delivered(lab, "one", ++n);
		/* A handler that the shell started. */
		expect_abandoned_by(lab, shells[i], "sh -c \"kill -9 \\$\\$\"; exec 3<&-; exit 0");
		expect_delivered(lab, "one", ++n);
	}
	/* Who ends by itself has had its say. */
	EXPECT_EQ(lab_shell(lab, "bash", "bash -c 'exec 3< $M/commands/next; cat <&3 > $D/out; exit 1'"), 1);
	expect_n_left(lab, 0);
}

/* --- stream ----------------------------------------------------------------------------------- */

TEST_F(commands, stream_in_shells)
{
	const struct lab *lab = &self->lab;

	for (size_t i = 0; i < ARRAY_SIZE(shells); ++i) {
		for (const char *const *p = (const char *[]){"one", "two", "three", NULL}; *p; ++p)
			send(lab, *p);
		EXPECT_EQ(lab_shell(lab, shells[i],
				    "rm -f $D/out\n"
				    "while read -r line; do\n"
				    "	line=${line##*\\\"payload\\\":\\\"}\n"
				    "	echo \"${line%%\\\"*}\" >> $D/out\n"
				    "	[ \"${line%%\\\"*}\" = three ] && break\n"
				    "done < $M/commands/stream"),
			  0);
		expect_file(lab, "out", "one\ntwo\nthree\n");
		/* Nobody asked what comes after the third. */
		expect_delivered(lab, "three", 2);
		EXPECT_EQ(lab_shell(lab, shells[i], "read -r line < $M/commands/next && [ $line = three ]"),
			  0);
		expect_n_left(lab, 0);
	}
}

TEST_F(commands, stream_has_all_that_a_command_has)
{
	const struct lab *lab = &self->lab;
	char text[1024];
	ssize_t n;
	int fd;

	EXPECT_EQ(lab_shell(lab, "dash",
			    "printf 'a\\000\\377' > $D/in &&\n"
			    "hubctl command send dev1 'say \"hi\" /\\' --property colour=blue --property a=b "
			    "--message-id m1 --user-id u1 --correlation-id c1 --content-type text/plain "
			    "--content-encoding utf-8 --creation-time 1619004616000 > $D/out &&\n"
			    "hubctl command send dev1 --file $D/in > $D/out"),
		  0);
	fd = open_path(lab, "commands/stream", O_RDONLY);
	n = read(fd, text, sizeof(text) - 1);
	ASSERT_GT(n, 0);
	text[n] = '\0';
	EXPECT_TRUE(strncmp(text, "{\"sequence-no\":1,\"enqueued-time\":\"2", 35) == 0);
	EXPECT_CONTAINS(text,
			"\"delivery-count\":1,\"creation-time\":\"2021-04-21T11:30:16.000Z\","
			"\"message-id\":\"m1\",\"user-id\":\"u1\",\"correlation-id\":\"c1\","
			"\"content-type\":\"text/plain\",\"content-encoding\":\"utf-8\",\"properties\":{");
	EXPECT_CONTAINS(text, "\"colour\":\"blue\"");
	EXPECT_CONTAINS(text, "\"a\":\"b\"");
	EXPECT_CONTAINS(text, "\"payload\":\"say \\\"hi\\\" /\\\\\"}\n");
	n = read(fd, text, sizeof(text) - 1);
	ASSERT_GT(n, 0);
	text[n] = '\0';
	EXPECT_CONTAINS(text, "\"payload-base64\":\"YQD/\"}\n");
	close(fd);
	expect_n_left(lab, 1);
}

/* --- several readers -------------------------------------------------------------------------- */

/* Reads one command by itself, says so, and waits to be told before it closes. */
static pid_t reader_start(const struct lab *lab, int out, int go)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		char text[16];
		int fd = open(lab_path(lab, "commands/next.raw"), O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, text, sizeof(text));

		if (n != 1 || write(out, text, 1) != 1 || read(go, text, 1) < 0)
			_exit(1);
		_exit(0);
	}
	return pid;
}

TEST_F(commands, each_of_several_readers_gets_its_own)
{
	const struct lab *lab = &self->lab;
	int out[2], go[2], status;
	char seen[N_READERS + 1] = "", text[2] = "";
	pid_t pids[N_READERS];

	ASSERT_EQ(pipe(out), 0);
	ASSERT_EQ(pipe(go), 0);
	for (size_t i = 0; i < N_READERS; ++i)
		pids[i] = reader_start(lab, out[1], go[0]);
	for (size_t i = 0; i < N_READERS; ++i) {
		text[0] = (char)('a' + i);
		send(lab, text);
	}
	for (size_t i = 0; i < N_READERS; ++i) {
		ASSERT_EQ(read(out[0], text, 1), 1);
		ASSERT_TRUE(strchr(seen, text[0]) == NULL);
		seen[i] = text[0];
	}
	expect_n_left(lab, N_READERS);
	/* One is killed with all read, the others finish. */
	ASSERT_EQ(kill(pids[0], SIGKILL), 0);
	ASSERT_EQ(waitpid(pids[0], &status, 0), pids[0]);
	for (size_t i = 1; i < N_READERS; ++i)
		ASSERT_EQ(write(go[1], "", 1), 1);
	for (size_t i = 1; i < N_READERS; ++i) {
		ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
		EXPECT_EQ(status, 0);
	}
	expect_n_left(lab, 1);
}

TEST_F(commands, killed_while_they_wait_they_have_nothing)
{
	const struct lab *lab = &self->lab;
	pid_t pids[N_READERS];
	int out[2], fd;

	ASSERT_EQ(pipe(out), 0);
	for (size_t i = 0; i < N_READERS; ++i)
		pids[i] = reader_start(lab, out[1], out[0]);
	for (size_t i = 0; i < N_READERS; ++i) {
		ASSERT_EQ(kill(pids[i], SIGKILL), 0);
		ASSERT_EQ(waitpid(pids[i], NULL, 0), pids[i]);
	}
	fd = open_path(lab, "commands/next", O_RDONLY);
	send(lab, "one");
	expect_read(fd, 10, "one\n");
	expect_delivered(lab, "one", 1);
	close(fd);
	expect_n_left(lab, 0);
}

/* --- how programs wait ------------------------------------------------------------------------ */

TEST_F(commands, poll_and_nonblocking_reads)
{
	const struct lab *lab = &self->lab;
	struct pollfd fds[2] = {
		{.fd = open_path(lab, "commands/next", O_RDONLY | O_NONBLOCK), .events = POLLIN},
		{.fd = open_path(lab, "commands/stream", O_RDONLY | O_NONBLOCK), .events = POLLIN}};
	char text[16];
	pid_t sender;

	EXPECT_EQ(poll(fds, 2, 0), 0);
	expect_errno(read(fds[0].fd, text, sizeof(text)), EAGAIN);
	expect_errno(read(fds[1].fd, text, sizeof(text)), EAGAIN);
	sender = send_meanwhile(lab, "one");
	EXPECT_EQ(poll(fds, 2, -1), 2);
	EXPECT_EQ(fds[0].revents, POLLIN);
	EXPECT_EQ(fds[1].revents, POLLIN);
	ASSERT_EQ(waitpid(sender, NULL, 0), sender);
	/* Looking decides nothing. */
	expect_delivered(lab, "one", 1);
	expect_read(fds[0].fd, 3, "one");
	EXPECT_EQ(poll(fds, 2, 0), 1);
	EXPECT_EQ(fds[0].revents, POLLIN);
	expect_errno(read(fds[1].fd, text, sizeof(text)), EAGAIN);
	expect_read(fds[0].fd, 3, "\n");
	expect_read(fds[0].fd, 3, "");
	EXPECT_EQ(lseek(fds[0].fd, 0, SEEK_SET), -1);
	close(fds[0].fd);
	sender = send_meanwhile(lab, "two");
	EXPECT_EQ(poll(&fds[1], 1, -1), 1);
	ASSERT_EQ(waitpid(sender, NULL, 0), sender);
	expect_read(fds[1].fd, 17, "{\"sequence-no\":2,");
	close(fds[1].fd);
	expect_delivered(lab, "two", 2);
}

static void on_alarm(int signo)
{
	(void)signo;
}

TEST_F(commands, an_interrupted_read_loses_nothing)
{
	const struct lab *lab = &self->lab;
	const struct sigaction action = {.sa_handler = on_alarm}, ignore = {.sa_handler = SIG_IGN};
	/* Again and again, should one come before the read waits. */
	const struct itimerval often = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}};
	const struct itimerval never = {.it_value = {.tv_usec = 0}};
	int next = open_path(lab, "commands/next", O_RDONLY),
	    stream = open_path(lab, "commands/stream", O_RDONLY);
	char text[16];

	ASSERT_EQ(sigaction(SIGALRM, &action, NULL), 0);
	ASSERT_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
	expect_errno(read(next, text, sizeof(text)), EINTR);
	expect_errno(read(stream, text, sizeof(text)), EINTR);
	expect_errno(read(next, text, sizeof(text)), EINTR);
	ASSERT_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
	ASSERT_EQ(sigaction(SIGALRM, &ignore, NULL), 0);
	send(lab, "one");
	expect_read(next, sizeof(text), "one\n");
	close(next);
	close(stream);
	expect_n_left(lab, 0);
}

/* --- directories ------------------------------------------------------------------------------ */

TEST_F(commands, directories_show_and_settle)
{
	const struct lab *lab = &self->lab;
	char text[TEXT_SIZE];

	send(lab, "one");
	send(lab, "two");
	send(lab, "three");
	await_hub(lab);
	EXPECT_EQ(
		lab_shell(
			lab, "bash",
			"cd $M/commands && [ \"$(cat 1/payload)\" = one ] && [ $(stat -c %s 3/payload) = 5 ] "
			"&&\n"
			"grep -q '^{\"sequence-no\":2,\"enqueued-time\":\"2.*Z\",\"delivery-count\":1,"
			"\"properties\":{}}$' 2/properties.json &&\n"
			"! echo what > 1/settle && dd if=$M/events iflag=nonblock 2>$D/errors |\n"
			"grep -qF '\"file\":\"commands/1/settle\",\"reason\":\"the word is complete' &&\n"
			"! mkdir 9 && ! rm 1/payload && ! rmdir 1 && ! touch 9 &&\n"
			"echo complete > 1/settle && echo reject > 3/settle && [ ! -e 1 ] && [ ! -e 3 ] &&\n"
			"printf abandon > 2/settle 2> $D/errors"),
		0);
	list(lab, text);
	EXPECT_EQ(text_count(text, "\"sequence-no\""), 2u);
	EXPECT_CONTAINS(text, "\"sequence-no\":2,");
	EXPECT_CONTAINS(text, "\"delivery-count\":2,");
	EXPECT_CONTAINS(text, "\"dead-letter-reason\":\"rejected\"");
	EXPECT_EQ(lab_shell(lab, "dash", "echo complete > $M/commands/2/settle && [ ! -e $M/commands/2 ]"),
		  0);
	expect_n_left(lab, 1);
}

TEST_F(commands, settle_takes_a_command_from_its_reader)
{
	const struct lab *lab = &self->lab;
	int fd = open_path(lab, "commands/next", O_RDONLY), payload;

	send(lab, "one");
	expect_read(fd, 2, "on");
	payload = open_path(lab, "commands/1/payload", O_RDONLY);
	EXPECT_EQ(lab_shell(lab, "dash", "echo complete > $M/commands/1/settle"), 0);
	expect_n_left(lab, 0);
	expect_read(fd, 10, "e\n");
	expect_read(payload, 10, "one");
	close(fd);
	close(payload);
	expect_n_left(lab, 0);
}

/* --- what goes away meanwhile ----------------------------------------------------------------- */

TEST_F(commands, handled_over_connections_and_handed_out_once)
{
	const struct lab *lab = &self->lab;
	int handled = open_path(lab, "commands/next", O_RDONLY), other;
	char text[16];

	send(lab, "one");
	expect_read(handled, 2, "on");
	send(lab, "two");
	cut(lab);
	cut(lab);
	/* Both came again; one is being handled. */
	expect_n_left(lab, 2);
	other = open_path(lab, "commands/next", O_RDONLY | O_NONBLOCK);
	expect_read(other, sizeof(text), "two\n");
	close(other);
	other = open_path(lab, "commands/next", O_RDONLY | O_NONBLOCK);
	expect_errno(read(other, text, sizeof(text)), EAGAIN);
	close(other);
	expect_n_left(lab, 1);
	expect_read(handled, sizeof(text), "e\n");
	close(handled);
	expect_n_left(lab, 0);
}

TEST_F(commands, settled_while_the_hub_is_away)
{
	struct lab *lab = &self->lab;
	int one = open_path(lab, "commands/next", O_RDONLY), two = open_path(lab, "commands/next", O_RDONLY);
	int three = open_path(lab, "commands/stream", O_RDONLY);
	char text[TEXT_SIZE];

	send(lab, "one");
	expect_read(one, 100, "one\n");
	send(lab, "two");
	expect_read(two, 100, "two\n");
	send(lab, "three");
	ASSERT_GT(read(three, text, sizeof(text)), 0);
	send(lab, "four");
	await_hub(lab);
	lab_stop_emulator(lab, SIGTERM);
	lab_await_state(lab, "waiting");
	close(one);
	EXPECT_EQ(lab_shell(lab, "bash", "echo reject > $M/commands/2/settle"), 0);
	close(two);
	close(three);
	/* What nobody had is not here any more. */
	EXPECT_EQ(lab_shell(lab, "bash", "ls $M/commands > $D/names"), 0);
	expect_file(lab, "names", "next\nnext.raw\nstream\n");
	lab_start_emulator(lab, emulator_options);
	lab_await_state(lab, "connected");
	list(lab, text);
	EXPECT_EQ(text_count(text, "\"sequence-no\""), 3u);
	EXPECT_CONTAINS(text, "\"payload\":\"three\"");
	EXPECT_CONTAINS(text, "\"payload\":\"four\"");
	EXPECT_CONTAINS(text, "\"dead-letter-reason\":\"rejected\"");
	EXPECT_EQ(lab_shell(lab, "bash", "cat $M/commands/next $M/commands/next | sort > $D/out"), 0);
	expect_file(lab, "out", "four\nthree\n");
}

TEST_F(commands, a_daemon_that_is_killed_has_decided_nothing)
{
	struct lab *lab = &self->lab;
	int fd = open_path(lab, "commands/next", O_RDONLY);
	char text[16];

	send(lab, "one");
	expect_read(fd, sizeof(text), "one\n");
	lab_stop_daemon(lab, SIGKILL);
	EXPECT_EQ(read(fd, text, sizeof(text)), -1);
	close(fd);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	expect_delivered(lab, "one", 2);
	EXPECT_EQ(lab_shell(lab, "bash", "cat $M/commands/next > $D/out"), 0);
	expect_file(lab, "out", "one\n");
	expect_n_left(lab, 0);
}

TEST_F(commands, a_daemon_that_stops_tells_who_waits_and_decides_nothing)
{
	struct lab *lab = &self->lab;
	int next = open_path(lab, "commands/next", O_RDONLY),
	    stream = open_path(lab, "commands/stream", O_RDONLY);
	char text[TEXT_SIZE];
	int status;
	pid_t pid;

	send(lab, "one");
	expect_read(next, 100, "one\n");
	send(lab, "two");
	ASSERT_GT(read(stream, text, sizeof(text)), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(read(stream, text, sizeof(text)) == -1 ? errno : 0);
	/* The read that completes the second one waits from then on. */
	do
		list(lab, text);
	while (text_count(text, "\"sequence-no\"") == 2);
	EXPECT_EQ(lab_stop_daemon(lab, SIGTERM), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WEXITSTATUS(status), ESHUTDOWN);
	close(next);
	close(stream);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	expect_delivered(lab, "one", 2);
}

TEST_HARNESS_MAIN
