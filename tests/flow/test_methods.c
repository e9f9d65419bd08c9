/* SPDX-License-Identifier: MIT */
/*
 * Direct methods from `hubctl method call` to handlers at the files, and back: bash, dash and C, handlers that die
 * or come too late, connections and daemons that end, many calls at once.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define TEXT_SIZE 1024

FIXTURE(methods)
{
	struct lab lab;
};

FIXTURE_SETUP(methods)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(methods)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

/* Emulator and daemon, connected; with the method `act`. */
static void start(struct lab *lab, const char *config)
{
	lab_start_emulator(lab, NULL);
	lab_configure(lab, config);
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	if (!config || !strstr(config, "\"methods\""))
		ASSERT_EQ(mkdir(lab_path(lab, "methods/act"), 0777), 0);
}

/* --- callers ---------------------------------------------------------------------------------- */

struct caller {
	pid_t pid;
	int out;
};

/* `hubctl method call dev1 METHOD PAYLOAD`; the hub waits until the method is registered. */
static struct caller call_method(const struct lab *lab, const char *method, const char *payload)
{
	char log[LAB_PATH_MAX];
	struct caller caller;
	int out[2];

	snprintf(log, sizeof(log), "%s/callers.log", lab->dir);
	ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
	caller.pid = lab_hubctl_start(lab, log, -1, out[1], "method", "call", "dev1", method, payload,
				      "--connect-timeout", "20");
	caller.out = out[0];
	close(out[1]);
	return caller;
}

/* Waits for the end: its exit code, and what it printed. */
static int caller_finish(struct caller *caller, char *text)
{
	size_t len = 0;
	ssize_t n;
	int status;

	while ((n = read(caller->out, text + len, TEXT_SIZE - 1 - len)) > 0)
		len += (size_t)n;
	ASSERT_EQ(n, 0);
	text[len] = '\0';
	close(caller->out);
	ASSERT_EQ(waitpid(caller->pid, &status, 0), caller->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void expect_response(struct caller *caller, const char *want)
{
	char text[TEXT_SIZE];

	EXPECT_EQ(caller_finish(caller, text), 0);
	EXPECT_STREQ(text, want);
}

/* The last line of the callers' errors is an 06A0. */
static void expect_unavailable(const struct lab *lab, struct caller *caller)
{
	_cleanup_(free_ptr) char *log = NULL;
	char text[TEXT_SIZE], path[LAB_PATH_MAX];

	EXPECT_EQ(caller_finish(caller, text), 1);
	EXPECT_STREQ(text, "");
	snprintf(path, sizeof(path), "%s/callers.log", lab->dir);
	log = text_read(path);
	EXPECT_CONTAINS(log, "06A0");
	unlink(path);
}

/* --- handlers in C ---------------------------------------------------------------------------- */

static int open_method(const struct lab *lab, const char *method, int flags)
{
	char name[300];

	snprintf(name, sizeof(name), "methods/%s/call", method);
	return open(lab_path(lab, name), O_RDWR | O_CLOEXEC | flags);
}

/* Reads the request to its end. */
static void read_request(int fd, char *text)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, text + len, 7)) > 0)
		len += (size_t)n;
	ASSERT_EQ(n, 0);
	text[len] = '\0';
}

static int write_error(int fd, const char *text)
{
	ssize_t n = write(fd, text, strlen(text));

	if (n < 0)
		return -errno;
	EXPECT_EQ(n, (ssize_t)strlen(text));
	return 0;
}

static short poll_for(int fd, short events, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = events};

	ASSERT_GE(poll(&p, 1, timeout_ms), 0);
	return p.revents;
}

static void answer(const struct lab *lab, const char *payload)
{
	_cleanup_(close_fd) int fd = open_method(lab, "act", 0);
	struct caller caller = call_method(lab, "act", payload);
	char text[TEXT_SIZE], response[TEXT_SIZE + 16];

	ASSERT_GE(fd, 0);
	read_request(fd, text);
	EXPECT_STREQ(text, payload);
	snprintf(response, sizeof(response), "200 <%s>", text);
	EXPECT_EQ(write_error(fd, response), 0);
	EXPECT_EQ(write_error(fd, response), -EALREADY);
	expect_response(&caller, response + 4);
}

/* --- shells ----------------------------------------------------------------------------------- */

static void add_numbers(struct fixture_methods *self, const char *shell)
{
	EXPECT_EQ(
		lab_shell(&self->lab, shell,
			  "mkdir $M/methods/add || exit 10\n"
			  "exec 3<> $M/methods/add/call || exit 11\n"
			  "hubctl method call dev1 add '3 4' --connect-timeout 20 3>&- > $D/out & caller=$!\n"
			  "read -r a b <&3\n"
			  "test \"$a+$b\" = 3+4 || exit 12\n"
			  "printf '200 %d' $((a + b)) >&3 || exit 13\n"
			  "printf '200 %d' $((a + b)) >&3 2> $D/twice && exit 14\n"
			  "exec 3>&-\n"
			  "wait $caller || exit 15\n"
			  "test \"$(cat $D/out)\" = 7 || exit 16\n"
			  "rmdir $M/methods/add || exit 17\n"
			  "test ! -e $M/methods/add || exit 18\n"),
		0);
}

/* A handler as people write them: calls one after the other, lines in the request, one that ends the loop. */
static void serve_in_a_loop(struct fixture_methods *self, const char *shell)
{
	EXPECT_EQ(
		lab_shell(
			&self->lab, shell,
			"mkdir $M/methods/upper || exit 10\n"
			"exec 3<> $M/methods/upper/call || exit 11\n"
			"ask() { hubctl method call dev1 upper \"$@\" --connect-timeout 20; }\n"
			"{ ask 'one'; ask 'two\nlines'; ask --file /dev/null; ask bad; ask stop; } 3>&- > "
			"$D/out 2> $D/errors & caller=$!\n"
			"while :; do\n"
			"  text=$(cat <&3)\n"
			"  case $text in\n"
			"  bad) echo 'no code' >&3 2> $D/bad && exit 12; echo '404' >&3 ;;\n"
			"  *) echo \"200 [$(echo \"$text\" | tr a-z A-Z | tr '\\n' ,)]\" >&3 || exit 13 ;;\n"
			"  esac\n"
			"  test \"$text\" = stop && break\n"
			"  exec 3>&- 4<> $M/methods/upper/call; exec 3<&4 4>&-\n"
			"done\n"
			"wait $caller\n"
			"printf '[ONE,]\\n[TWO,LINES,]\\n[,]\\n[STOP,]\\n' | cmp - $D/out || exit 14\n"
			"grep -q 'answered 404' $D/errors || exit 15\n"
			"exec 3>&-; rmdir $M/methods/upper || exit 16\n"),
		0);
}

static void big_and_binary(struct fixture_methods *self, const char *shell)
{
	EXPECT_EQ(
		lab_shell(
			&self->lab, shell,
			"head -c 200000 /dev/urandom > $D/request\n"
			"head -c 200000 /dev/urandom > $D/response\n"
			"exec 3<> $M/methods/act/call || exit 10\n"
			"hubctl method call dev1 act --file $D/request --connect-timeout 20 3>&- > $D/out & "
			"caller=$!\n"
			"cat <&3 > $D/got || exit 11\n"
			"{ printf '0 '; cat $D/response; } > $D/text\n"
			"dd if=$D/text bs=1M >&3 2> /dev/null || exit 12\n"
			"wait $caller || exit 13\n"
			"cmp $D/request $D/got && cmp $D/response $D/out\n"),
		0);
}

TEST_F_TIMEOUT(methods, handlers_in_bash, 60)
{
	start(&self->lab, NULL);
	add_numbers(self, "bash");
	/* Between two opens nobody is there: the next call waits. */
	lab_stop_daemon(&self->lab, SIGTERM);
	lab_configure(&self->lab, "\"method-wait\": 20, \"methods\": [\"act\"]");
	lab_start_daemon(&self->lab);
	serve_in_a_loop(self, "bash");
	big_and_binary(self, "bash");
}

TEST_F_TIMEOUT(methods, handlers_in_dash, 60)
{
	start(&self->lab, "\"method-wait\": 20, \"methods\": [\"act\"]");
	add_numbers(self, "dash");
	serve_in_a_loop(self, "dash");
	big_and_binary(self, "dash");
}

/* --- errors of the files ---------------------------------------------------------------------- */

TEST_F(methods, what_users_may_do)
{
	struct lab *lab = &self->lab;
	char name[300];
	struct stat st;
	int n_made = 0;

	start(lab, NULL);
	ASSERT_EQ(stat(lab_path(lab, "methods"), &st), 0);
	EXPECT_EQ(st.st_mode, (mode_t)(S_IFDIR | 0775));
	ASSERT_EQ(stat(lab_path(lab, "methods/act"), &st), 0);
	EXPECT_EQ(st.st_mode, (mode_t)(S_IFDIR | 0775));
	ASSERT_EQ(stat(lab_path(lab, "methods/act/call"), &st), 0);
	EXPECT_EQ(st.st_mode, (mode_t)(S_IFREG | 0660));
	EXPECT_EQ(open(lab_path(lab, "methods/act/call"), O_RDONLY | O_CLOEXEC), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(mkdir(lab_path(lab, "methods/a+"), 0777), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(mkdir(lab_path(lab, "methods/act"), 0777), -1);
	EXPECT_EQ(errno, EEXIST);
	EXPECT_EQ(mkdir(lab_path(lab, "methods/act/more"), 0777), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(unlink(lab_path(lab, "methods/act/call")), -1);
	EXPECT_EQ(errno, EPERM);
	do
		snprintf(name, sizeof(name), "methods/m%d", n_made);
	while (mkdir(lab_path(lab, name), 0777) == 0 && ++n_made < 100);
	EXPECT_EQ(errno, ENOSPC);
	EXPECT_LT(n_made, 50);
	EXPECT_GT(n_made, 40);
	EXPECT_EQ(rmdir(lab_path(lab, "methods/m0")), 0);
	EXPECT_EQ(mkdir(lab_path(lab, name), 0777), 0);
}

static void on_alarm(int signo)
{
	(void)signo;
}

TEST_F(methods, waiting_for_a_call)
{
	const struct sigaction action = {.sa_handler = on_alarm};
	const struct itimerval often = {.it_interval.tv_usec = 20000, .it_value.tv_usec = 20000}, never = {0};
	struct lab *lab = &self->lab;
	struct caller caller;
	char text[TEXT_SIZE];
	int fd;

	start(lab, NULL);
	fd = open_method(lab, "act", O_NONBLOCK);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(read(fd, text, 1), -1);
	EXPECT_EQ(errno, EAGAIN);
	EXPECT_EQ(write_error(fd, "200 early"), -ENOTCONN);
	EXPECT_EQ(poll_for(fd, POLLIN | POLLOUT, 0), 0);
	/* A blocking read ends with a signal, and takes nothing with it. */
	fcntl(fd, F_SETFL, 0);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	EXPECT_EQ(read(fd, text, 1), -1);
	EXPECT_EQ(errno, EINTR);
	setitimer(ITIMER_REAL, &never, NULL);
	caller = call_method(lab, "act", "payload");
	EXPECT_EQ(poll_for(fd, POLLIN, -1), POLLIN);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(poll_for(fd, POLLOUT, 0), POLLOUT);
	read_request(fd, text);
	EXPECT_STREQ(text, "payload");
	EXPECT_EQ(write_error(fd, "200 done"), 0);
	expect_response(&caller, "done");
	close(fd);
}

TEST_F(methods, a_bad_answer_leaves_the_call_open)
{
	struct lab *lab = &self->lab;
	_cleanup_(free_ptr) char *large = malloc(300000);
	_cleanup_(close_fd) int events = -1;
	char text[4096] = {0};
	struct caller caller;
	size_t len = 0;
	ssize_t n;
	int fd;

	start(lab, NULL);
	memset(large, '1', 300000);
	memcpy(large, "200 ", 4);
	large[262144] = '\0';
	events = open(lab_path(lab, "events"), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ASSERT_GE(events, 0);
	EXPECT_EQ(mkdir(lab_path(lab, "methods/a+"), 0777), -1);
	fd = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "payload");
	EXPECT_EQ(poll_for(fd, POLLOUT, -1), POLLOUT);
	EXPECT_EQ(write_error(fd, "no code"), -EINVAL);
	EXPECT_EQ(write_error(fd, "4294967296"), -EINVAL);
	/* Why is among the events. */
	while ((n = read(events, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	EXPECT_CONTAINS(text, "\"refused\",\"file\":\"methods\",\"reason\":\"a method's name has no '+'");
	EXPECT_CONTAINS(text, "\"refused\",\"file\":\"methods/act/call\",\"reason\":\"a response is");
	EXPECT_EQ(write_error(fd, large), -EMSGSIZE);
	EXPECT_EQ(write_error(fd, "200 good\n"), 0);
	expect_response(&caller, "good\n");
	close(fd);
}

TEST_F(methods, removing_a_method_in_use)
{
	struct lab *lab = &self->lab;
	struct caller caller;
	char text[TEXT_SIZE];
	int fd, pipes[2], status;
	pid_t reader;

	start(lab, NULL);
	fd = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "x");
	read_request(fd, text);
	EXPECT_EQ(rmdir(lab_path(lab, "methods/act")), -1);
	EXPECT_EQ(errno, EBUSY);
	EXPECT_EQ(write_error(fd, "200"), 0);
	expect_response(&caller, "");
	close(fd);

	ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	reader = fork();
	if (reader == 0) {
		fd = open_method(lab, "act", 0);
		if (fd < 0 || write(pipes[1], "x", 1) != 1)
			_exit(1);
		_exit(read(fd, text, 1) == -1 && errno == ENODEV ? 0 : 2);
	}
	ASSERT_EQ(read(pipes[0], text, 1), 1);
	EXPECT_EQ(rmdir(lab_path(lab, "methods/act")), 0);
	ASSERT_EQ(waitpid(reader, &status, 0), reader);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(open_method(lab, "act", 0), -1);
	EXPECT_EQ(errno, ENOENT);
}

/* --- nobody answers --------------------------------------------------------------------------- */

TEST_F(methods, nobody_is_there)
{
	struct timespec before, after;
	struct caller caller;

	start(&self->lab, NULL);
	clock_gettime(CLOCK_MONOTONIC, &before);
	caller = call_method(&self->lab, "act", "x");
	expect_unavailable(&self->lab, &caller);
	clock_gettime(CLOCK_MONOTONIC, &after);
	EXPECT_LT(after.tv_sec - before.tv_sec, 10);
}

TEST_F(methods, a_call_waits_for_somebody)
{
	struct lab *lab = &self->lab;
	_cleanup_(close_fd) int fd = -1;
	struct caller caller;
	char text[TEXT_SIZE];

	start(lab, "\"method-wait\": 20, \"methods\": [\"act\"]");
	caller = call_method(lab, "act", "wait");
	fd = open_method(lab, "act", 0);
	read_request(fd, text);
	EXPECT_STREQ(text, "wait");
	EXPECT_EQ(write_error(fd, "200 found"), 0);
	expect_response(&caller, "found");
}

TEST_F(methods, closed_without_an_answer)
{
	struct lab *lab = &self->lab;
	struct caller caller;
	char text[TEXT_SIZE];
	int fd, next;

	start(lab, NULL);
	fd = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "x");
	read_request(fd, text);
	close(fd);
	expect_unavailable(lab, &caller);
	/* What nobody has read is somebody else's. */
	fd = open_method(lab, "act", 0);
	next = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "y");
	EXPECT_EQ(poll_for(fd, POLLIN, -1), POLLIN);
	close(fd);
	read_request(next, text);
	EXPECT_STREQ(text, "y");
	EXPECT_EQ(write_error(next, "200 next"), 0);
	expect_response(&caller, "next");
	close(next);
}

/* Kills a handler that has read @n_read bytes, and perhaps waits in a read or write. */
static void kill_handler(struct fixture_methods *self, ssize_t n_read)
{
	struct lab *lab = &self->lab;
	struct caller caller;
	int pipes[2], status;
	char text[TEXT_SIZE];
	pid_t handler;

	ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	handler = fork();
	if (handler == 0) {
		int fd = open_method(lab, "act", 0);

		if (write(pipes[1], "o", 1) != 1)
			_exit(1);
		for (ssize_t n = 0; n < n_read; ++n)
			if (read(fd, text, 1) < 0)
				_exit(2);
		if (write(pipes[1], "r", 1) != 1)
			_exit(3);
		for (;;)
			pause();
	}
	ASSERT_EQ(read(pipes[0], text, 1), 1);
	caller = call_method(lab, "act", "ab");
	ASSERT_EQ(read(pipes[0], text, 1), 1);
	/* A call that nobody has read from may not have come yet; in either case nobody is left. */
	kill(handler, SIGKILL);
	ASSERT_EQ(waitpid(handler, &status, 0), handler);
	expect_unavailable(lab, &caller);
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F_TIMEOUT(methods, handlers_that_are_killed, 60)
{
	start(&self->lab, NULL);
	for (ssize_t n_read = 0; n_read <= 3; ++n_read)
		kill_handler(self, n_read);
	answer(&self->lab, "and now somebody who lives");
}

TEST_F(methods, an_answer_that_comes_too_late)
{
	struct lab *lab = &self->lab;
	struct caller caller;
	char text[TEXT_SIZE];
	int fd;

	start(lab, "\"method-timeout\": 1, \"methods\": [\"act\"]");
	fd = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "x");
	read_request(fd, text);
	EXPECT_TRUE(poll_for(fd, 0, -1) & POLLERR);
	EXPECT_EQ(write_error(fd, "200 late"), -ETIMEDOUT);
	expect_unavailable(lab, &caller);
	close(fd);
	answer(lab, "the next");
}

/* --- connections and daemons that end --------------------------------------------------------- */

TEST_F_TIMEOUT(methods, registrations_survive_a_connection, 60)
{
	struct lab *lab = &self->lab;
	struct caller caller;
	char text[TEXT_SIZE];
	int has_read, has_not;

	start(lab, NULL);
	has_read = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "lost");
	read_request(has_read, text);
	has_not = open_method(lab, "act", 0);
	lab_stop_emulator(lab, SIGKILL);
	EXPECT_EQ(caller_finish(&caller, text), 1);
	EXPECT_TRUE(poll_for(has_read, 0, -1) & POLLERR);
	EXPECT_EQ(write_error(has_read, "200 late"), -ETIMEDOUT);
	close(has_read);
	lab_start_emulator(lab, NULL);
	lab_await_number(lab, "connects", 2);
	caller = call_method(lab, "act", "found");
	read_request(has_not, text);
	EXPECT_STREQ(text, "found");
	EXPECT_EQ(write_error(has_not, "200 yes"), 0);
	expect_response(&caller, "yes");
	close(has_not);
	answer(lab, "and anew");
}

TEST_F_TIMEOUT(methods, registrations_of_the_configuration, 60)
{
	struct lab *lab = &self->lab;

	start(lab, "\"methods\": [\"act\", \"other\"]");
	answer(lab, "first");
	ASSERT_EQ(mkdir(lab_path(lab, "methods/made"), 0777), 0);
	ASSERT_EQ(rmdir(lab_path(lab, "methods/act")), 0);
	lab_stop_daemon(lab, SIGTERM);
	lab_start_daemon(lab);
	EXPECT_EQ(access(lab_path(lab, "methods/other/call"), F_OK), 0);
	EXPECT_EQ(access(lab_path(lab, "methods/made"), F_OK), -1);
	answer(lab, "second");
	lab_stop_daemon(lab, SIGKILL);
	lab_start_daemon(lab);
	answer(lab, "third");
}

TEST_F_TIMEOUT(methods, a_daemon_that_dies_with_a_call, 60)
{
	struct lab *lab = &self->lab;
	struct caller caller;
	char text[TEXT_SIZE];
	int fd;

	start(lab, "\"methods\": [\"act\"]");
	fd = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "x");
	read_request(fd, text);
	lab_stop_daemon(lab, SIGKILL);
	/* Of the mount, which is gone. */
	EXPECT_EQ(write_error(fd, "200"), -ECONNABORTED);
	close(fd);
	expect_unavailable(lab, &caller);
	lab_start_daemon(lab);
	answer(lab, "again");
	/* Stopped in order it still says that nobody will answer. */
	fd = open_method(lab, "act", 0);
	caller = call_method(lab, "act", "x");
	read_request(fd, text);
	lab_stop_daemon(lab, SIGTERM);
	EXPECT_EQ(write_error(fd, "200"), -ENOTCONN);
	close(fd);
	expect_unavailable(lab, &caller);
}

/* Fills the connection with telemetry until it is killed or the daemon is. */
static pid_t start_flood(const struct lab *lab)
{
	_cleanup_(free_ptr) char *line = malloc(65536);
	pid_t pid;
	int fd;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	memset(line, 'x', 65536);
	line[65535] = '\n';
	fd = open(lab_path(lab, "telemetry"), O_WRONLY | O_CLOEXEC);
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};

		if (write(fd, line, 65536) < 0 && errno != ENOSPC)
			_exit(0);
		poll(&p, 1, 1000);
	}
}

/* The handler of `reboot`: what it wrote has arrived, whatever happens to this machine the moment after. */
TEST_F_TIMEOUT(methods, answer_then_reboot, 120)
{
	enum { N_ROUNDS = 10 };
	struct lab *lab = &self->lab;

	start(lab, "\"methods\": [\"act\"]");
	for (int i = 0; i < N_ROUNDS; ++i) {
		pid_t flood = i % 2 ? start_flood(lab) : 0;
		struct caller caller;
		char text[TEXT_SIZE];
		int fd, r;

		fd = open_method(lab, "act", 0);
		ASSERT_GE(fd, 0);
		caller = call_method(lab, "act", "now");
		read_request(fd, text);
		r = write_error(fd, "200 rebooting");
		kill(lab->daemon, SIGKILL);
		EXPECT_EQ(r, 0);
		lab_stop_daemon(lab, SIGKILL);
		expect_response(&caller, "rebooting");
		close(fd);
		if (flood) {
			kill(flood, SIGKILL);
			ASSERT_EQ(waitpid(flood, NULL, 0), flood);
		}
		lab_start_daemon(lab);
		lab_await_state(lab, "connected");
	}
}

/* --- many at once ----------------------------------------------------------------------------- */

struct served {
	int fd;
	char response[64];
};

TEST_F_TIMEOUT(methods, a_hundred_calls_at_once, 120)
{
	enum { N_METHODS = 10, N_EACH = 10, N_CALLS = N_METHODS * N_EACH };
	struct lab *lab = &self->lab;
	struct caller callers[N_CALLS];
	struct served served[N_CALLS];
	char text[TEXT_SIZE], name[32], want[64];

	start(lab, NULL);
	for (int i = 0; i < N_CALLS; ++i) {
		snprintf(name, sizeof(name), "m%d", i / N_EACH);
		if (i % N_EACH == 0) {
			char path[64];

			snprintf(path, sizeof(path), "methods/%s", name);
			ASSERT_EQ(mkdir(lab_path(lab, path), 0777), 0);
		}
		served[i].fd = open_method(lab, name, 0);
		ASSERT_GE(served[i].fd, 0);
	}
	for (int i = 0; i < N_CALLS; ++i) {
		snprintf(name, sizeof(name), "m%d", i / N_EACH);
		snprintf(text, sizeof(text), "call-%d", i);
		callers[i] = call_method(lab, name, text);
	}
	/* All calls are open before the first is answered. */
	for (int i = 0; i < N_CALLS; ++i) {
		read_request(served[i].fd, text);
		snprintf(served[i].response, sizeof(served[i].response), "200 m%d %.40s", i / N_EACH, text);
	}
	for (int left = N_CALLS; left > 0; --left) {
		struct served *one = &served[test_random() % (uint64_t)left];

		EXPECT_EQ(write_error(one->fd, one->response), 0);
		close(one->fd);
		*one = served[left - 1];
	}
	for (int i = 0; i < N_CALLS; ++i) {
		snprintf(want, sizeof(want), "m%d call-%d", i / N_EACH, i);
		expect_response(&callers[i], want);
	}
}

TEST_HARNESS_MAIN
