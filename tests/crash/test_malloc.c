/* SPDX-License-Identifier: MIT */
/*
 * An allocation that fails, at every place of a session: with fail_malloc.so in front of it, call N of the allocator
 * fails in the daemon, wherever that is, in a library too. A start may fail, with a message. After that the daemon goes on
 * whatever it is, ends in order when it is told to, and what it acknowledged is delivered. Everything else may end with
 * an error, but ends.
 *
 * $IOTHUB_MALLOC: how many calls are tried, spread over the session; 24 unless it is set; 0 = every one of them; `own` =
 * every one of the daemon's own.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "tests/crash/preload/fail_malloc.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/load.h"
#include "tests/support/process.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ALLOCATOR 1
#elif defined(__has_feature)
#define HAS_ALLOCATOR __has_feature(address_sanitizer)
#else
#define HAS_ALLOCATOR 0
#endif

#define N_CALLS   24
#define N_WRITES  3
#define TEXT_SIZE 4096
/* For one step that waits for the hub, and for the end. */
#define STEP_MAX_S 2
#define END_MAX_S  20

FIXTURE(failing)
{
	struct lab lab;
	struct fail_malloc *control;
	char library[PROCESS_PATH_MAX], file[LAB_PATH_MAX];
	unsigned int n_starts_failed, n_sessions;
	char text[TEXT_SIZE];
	struct load load;
};

/* Ends what a process waits in after @s seconds, and from then on every second; 0: no more. */
static void limit(int s)
{
	const struct itimerval timer = {.it_value.tv_sec = s, .it_interval.tv_sec = s ? 1 : 0};

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void on_alarm(int signo)
{
	(void)signo;
}

FIXTURE_SETUP(failing)
{
	struct sigaction action = {.sa_handler = on_alarm};
	int fd;

	SKIP_IF(HAS_ALLOCATOR, "the sanitizer has an allocator of its own");
	lab_init(&self->lab);
	snprintf(self->library, sizeof(self->library), "%s", process_path("tests/crash/fail_malloc.so"));
	ASSERT_EQ(access(self->library, R_OK), 0);
	snprintf(self->file, sizeof(self->file), "%s/malloc", self->lab.dir);
	fd = open(self->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, sizeof(*self->control)), 0);
	self->control = mmap(NULL, sizeof(*self->control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	ASSERT_TRUE(self->control != MAP_FAILED);
	ASSERT_EQ(sigaction(SIGALRM, &action, NULL), 0);
}

FIXTURE_TEARDOWN(failing)
{
	load_deinit(&self->load);
	lab_deinit(&self->lab);
}

/* --- the session: each step ends, well or not ------------------------------------------------- */

static void step_telemetry(struct fixture_failing *self)
{
	static const int flags[] = {O_WRONLY | O_CLOEXEC, O_WRONLY | O_CLOEXEC | O_DSYNC};

	for (unsigned int level = 0; level < 2; ++level) {
		_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "telemetry.raw"), flags[level]);

		for (unsigned int i = 0; i < N_WRITES && fd >= 0; ++i)
			load_write(&self->load, level, fd);
	}
}

static void file_write(struct fixture_failing *self, const char *name, int flags, const char *text)
{
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, name), O_WRONLY | O_CLOEXEC | flags, 0660);

	if (fd >= 0 && write(fd, text, strlen(text)) > 0)
		fsync(fd);
}

/* What is there now; streams wait for nothing. */
static void file_read(struct fixture_failing *self, const char *name)
{
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, name), O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	while (fd >= 0 && read(fd, self->text, sizeof(self->text)) > 0)
		;
}

static void directory_read(struct fixture_failing *self, const char *name)
{
	DIR *dir = opendir(lab_path(&self->lab, name));

	while (dir && readdir(dir))
		;
	if (dir)
		closedir(dir);
}

static void step_channel(struct fixture_failing *self)
{
	mkdir(lab_path(&self->lab, "channels/c"), 0777);
	file_write(self, "channels/c/priority", 0, "3\n");
	file_write(self, "channels/c/content-type", 0, "text/plain\n");
	file_write(self, "channels/c/properties/place", O_CREAT, "here\n");
	file_write(self, "channels/c/telemetry", 0, "other line\n");
	file_read(self, "channels/c/stats");
	directory_read(self, "channels/c/properties");
	unlink(lab_path(&self->lab, "channels/c/properties/place"));
	rmdir(lab_path(&self->lab, "channels/c"));
}

static void step_twin(struct fixture_failing *self)
{
	static unsigned int n;
	char patch[64];

	snprintf(patch, sizeof(patch), "{\"n\":%u,\"o\":{\"p\":[1,2]}}", ++n);
	file_write(self, "twin/reported.json", 0, patch);
	file_write(self, "twin/reported/leaf", O_CREAT, "17\n");
	file_read(self, "twin/reported.json");
	file_read(self, "twin/desired.json");
	directory_read(self, "twin/reported");
	unlink(lab_path(&self->lab, "twin/reported/leaf"));
}

static void step_command(struct fixture_failing *self)
{
	_cleanup_(close_fd) int fd =
		open(lab_path(&self->lab, "commands/next"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd < 0)
		return;
	/* It may be that the daemon is not connected for a while. */
	poll(&p, 1, 200);
	while (read(fd, self->text, sizeof(self->text)) > 0)
		;
}

/* A caller who waits a second at most, and its answer. */
static void step_method(struct fixture_failing *self)
{
	const char *method = "methods/m";
	pid_t caller;

	mkdir(lab_path(&self->lab, method), 0777);
	fflush(NULL);
	caller = fork();
	if (caller == 0) {
		lab_hubctl(&self->lab, self->text, sizeof(self->text), "method", "call", "dev1", "m", "x",
			   "--timeout", "1");
		_exit(0);
	}
	limit(1);
	{
		_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "methods/m/call"), O_RDWR | O_CLOEXEC);

		if (fd >= 0 && read(fd, self->text, sizeof(self->text)) >= 0)
			(void)!write(fd, "200 ok", 6);
	}
	limit(STEP_MAX_S);
	process_stop(&caller, 0);
	rmdir(lab_path(&self->lab, method));
}

static void session(struct fixture_failing *self)
{
	static void (*const steps[])(struct fixture_failing *) = {
		step_telemetry, step_channel, step_twin, step_command, step_method, step_telemetry,
	};
	static const char *const files[] = {"status", "events", "metrics", "twin/changes", "rejected"};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); ++i) {
		limit(STEP_MAX_S);
		steps[i](self);
		limit(0);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); ++i)
		file_read(self, files[i]);
	directory_read(self, "rejected");
	directory_read(self, "commands");
	++self->n_sessions;
}

/* --- a daemon with a call that fails ---------------------------------------------------------- */

/* One of all calls, or one of those that the daemon does itself; 0 = none. */
struct place {
	uint64_t any, own;
};

static void tell(struct fixture_failing *self)
{
	_cleanup_(free_ptr) char *log = lab_log(&self->lab, "daemon");
	const char *tail = log + (strlen(log) > 3000 ? strlen(log) - 3000 : 0);

	TEST_LOG("call %" PRIu64 " (own %" PRIu64 ") of %" PRIu64 " failed, in %s at 0x%" PRIx64
		 "; the daemon: %s",
		 self->control->fail_at, self->control->fail_own_at, self->control->n_calls,
		 self->control->object[0] ? self->control->object : "iothubd", self->control->caller, tail);
}

static bool start(struct fixture_failing *self, struct place at, int *status)
{
	char config[LAB_PATH_MAX], notify[LAB_PATH_MAX], log[LAB_PATH_MAX];
	const char *argv[] = {process_path("iothubd"), "--config", config, NULL};
	bool is_ready;

	snprintf(config, sizeof(config), "%s/iothubd.json", self->lab.dir);
	snprintf(notify, sizeof(notify), "%s/notify", self->lab.dir);
	snprintf(log, sizeof(log), "%s/daemon.log", self->lab.dir);
	unlink(log);
	memset(self->control, 0, sizeof(*self->control));
	self->control->fail_at = at.any;
	self->control->fail_own_at = at.own;
	setenv("LD_PRELOAD", self->library, 1);
	setenv("FAIL_MALLOC_FILE", self->file, 1);
	is_ready = process_try_notify(&self->lab.daemon, log, argv, notify, status);
	unsetenv("LD_PRELOAD");
	return is_ready;
}

/* Returns the wait status of a daemon that was told to end; one that does not is killed. */
static int end(struct fixture_failing *self)
{
	int status = -1, r;

	kill(self->lab.daemon, SIGTERM);
	limit(END_MAX_S);
	r = waitpid(self->lab.daemon, &status, 0);
	limit(0);
	if (r != self->lab.daemon) {
		harness_fail(__FILE__, __LINE__, false, "the daemon does not end");
		return lab_stop_daemon(&self->lab, SIGKILL);
	}
	self->lab.daemon = 0;
	return status;
}

/* Returns how many calls there were before the daemon was ready, none when it never was. */
static struct place run_one(struct fixture_failing *self, struct place at)
{
	int n_failed = harness_state.result->n_failed, status = 0;
	struct place ready = {0};

	if (!start(self, at, &status)) {
		_cleanup_(free_ptr) char *log = lab_log(&self->lab, "daemon");

		EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 0);
		EXPECT_TRUE(log[0] != '\0');
		EXPECT_EQ(self->control->n_failed, 1u);
		++self->n_starts_failed;
	} else {
		ready.any = self->control->n_calls;
		ready.own = self->control->n_own;
		session(self);
		EXPECT_EQ(waitpid(self->lab.daemon, &status, WNOHANG), 0);
		EXPECT_EQ(end(self), 0);
	}
	if (harness_state.result->n_failed != n_failed)
		tell(self);
	return ready;
}

/* --- all of them ------------------------------------------------------------------------------ */

static uint64_t pick(bool in_start, uint64_t n_start, uint64_t n_all)
{
	return in_start ? 1 + test_random() % n_start : n_start + 1 + test_random() % (n_all - n_start);
}

/* A third of them during the start; half of them the daemon's own, which are a few of all. */
static void run_some(struct fixture_failing *self, uint64_t n, struct place start, struct place all)
{
	for (uint64_t i = 0; i < n; ++i) {
		struct place at = {0};

		if (i % 2)
			at.own = pick(i % 3 == 0, start.own, all.own);
		else
			at.any = pick(i % 3 == 0, start.any, all.any);
		run_one(self, at);
	}
}

/* What a session does differs a little from one to the next, so that a few at the end may not come, or not be there. */
static void run_all(struct fixture_failing *self, struct place all, bool own_only)
{
	for (uint64_t i = 1; i <= all.own; ++i)
		run_one(self, (struct place){.own = i});
	for (uint64_t i = 1; i <= all.any && !own_only; ++i)
		run_one(self, (struct place){.any = i});
}

TEST_F_TIMEOUT(failing, no_crash_and_no_false_promise, 10800)
{
	static const char *const options[] = {"--quiet", NULL};
	const char *calls = getenv("IOTHUB_MALLOC");
	uint64_t n = calls ? strtoull(calls, NULL, 10) : N_CALLS;
	struct place ready, all;

	lab_start_emulator(&self->lab, options);
	lab_configure(&self->lab, NULL);
	lab_start_monitor(&self->lab);
	self->load.n_writers = 2;
	self->load.writers[1].level = LOAD_STORED;
	load_start_judge(&self->load, &self->lab);
	ready = run_one(self, (struct place){0});
	all = (struct place){self->control->n_calls, self->control->n_own};
	ASSERT_TRUE(ready.own > 0 && all.own > ready.own);
	if (n)
		run_some(self, n, ready, all);
	else
		run_all(self, all, calls && strcmp(calls, "own") == 0);
	lab_start_daemon(&self->lab);
	load_fence(&self->load, &self->lab);
	TEST_LOG("%" PRIu64 " calls, %" PRIu64 " before it is ready (%" PRIu64 " and %" PRIu64 " its own); "
		 "%u sessions, %u starts failed",
		 all.any, ready.any, all.own, ready.own, self->n_sessions, self->n_starts_failed);
	load_verify(&self->load, LOAD_QUEUED);
}

TEST_HARNESS_MAIN
