/* SPDX-License-Identifier: MIT */
/*
 * An allocation that fails, at every place of a session: with fail_malloc.so in front of it, call N of the allocator
 * fails in the daemon, wherever that is, in a library too. A start may fail, with a message. After that the daemon goes on
 * whatever it is: at the end of the session it has a connection again, by itself, and delivers over it what it
 * acknowledged; and it ends in order when it is told to. Everything else may end with an error, but ends.
 *
 * $IOTHUB_MALLOC: how many calls are tried, spread over the session; 24 unless it is set; 0 = every one of them; `own` =
 * every one of the daemon's own. $IOTHUB_MALLOC_WORKERS: how many daemons at a time, each with a hub and a monitor of its
 * own; twice the number of processors unless it is set, since a run waits for half of its time.
 */

#include <dirent.h>
#include <dlfcn.h>
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

#define N_CALLS     24
#define N_WRITES    3
#define TEXT_SIZE   4096
#define WORKERS_MAX 16
#define PLACES_MAX  65536
/* Starting a hub is not worth it for less. */
#define PLACES_MIN 8
/* Of getgrnam(), at most. */
#define GETGRNAM_SIZE 1024
/* For the start, one step that waits for the hub, what follows a failed connection, and the end. */
#define START_MAX_S    20
#define STEP_MAX_S     2
#define RECOVERY_MAX_S 15
#define END_MAX_S      20

/* One of all calls, or one of those that the daemon does itself; none: both 0. */
struct place {
	uint64_t any, own;
};

/* A process that does one run after the other, in a lab of its own. */
struct worker {
	struct fixture_failing *test;
	pid_t pid;
	struct harness_result result;
	struct lab lab;
	struct fail_malloc *control;
	char library[PROCESS_PATH_MAX], file[LAB_PATH_MAX];
	pid_t sender; /* of a command */
	unsigned int n_starts_failed, n_sessions;
	unsigned int n_spared; /* sessions that did not come to the call */
	char text[TEXT_SIZE];
	struct load load;
};

FIXTURE(failing)
{
	uint32_t n_places, next; /* of @places: what the next worker that has time does */
	struct place places[PLACES_MAX];
	struct worker counter; /* of the calls there are */
	struct worker workers[WORKERS_MAX];
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

	SKIP_IF(HAS_ALLOCATOR, "the sanitizer has an allocator of its own");
	ASSERT_EQ(sigaction(SIGALRM, &action, NULL), 0);
	self->n_places = 0;
}

static void worker_stop(void *worker)
{
	struct worker *w = worker;

	process_stop(&w->sender, SIGKILL);
	load_deinit(&w->load);
	lab_deinit(&w->lab);
}

FIXTURE_TEARDOWN(failing)
{
	worker_stop(&self->counter);
	for (unsigned int i = 0; i < WORKERS_MAX; ++i)
		worker_stop(&self->workers[i]);
}

static void worker_start(struct worker *w)
{
	static const char *const options[] = {"--quiet", NULL};
	int fd;

	lab_init(&w->lab);
	snprintf(w->library, sizeof(w->library), "%s", process_path("tests/crash/fail_malloc.so"));
	ASSERT_EQ(access(w->library, R_OK), 0);
	snprintf(w->file, sizeof(w->file), "%s/malloc", w->lab.dir);
	fd = open(w->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, sizeof(*w->control)), 0);
	w->control = mmap(NULL, sizeof(*w->control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	ASSERT_TRUE(w->control != MAP_FAILED);
	lab_start_emulator(&w->lab, options);
	lab_configure(&w->lab, NULL);
	lab_start_monitor(&w->lab);
	w->load.n_writers = 2;
	w->load.writers[1].level = LOAD_STORED;
	load_start_judge(&w->load, &w->lab);
}

/* --- the session: each step ends, well or not ------------------------------------------------- */

static void step_telemetry(struct worker *w)
{
	static const int flags[] = {O_WRONLY | O_CLOEXEC, O_WRONLY | O_CLOEXEC | O_DSYNC};

	for (unsigned int level = 0; level < 2; ++level) {
		_cleanup_(close_fd) int fd = open(lab_path(&w->lab, "telemetry.raw"), flags[level]);

		for (unsigned int i = 0; i < N_WRITES && fd >= 0; ++i)
			load_write(&w->load, level, fd);
	}
}

static void file_write(struct worker *w, const char *name, int flags, const char *text)
{
	_cleanup_(close_fd) int fd = open(lab_path(&w->lab, name), O_WRONLY | O_CLOEXEC | flags, 0660);

	if (fd >= 0 && write(fd, text, strlen(text)) > 0)
		fsync(fd);
}

/* What is there now; streams wait for nothing. */
static void file_read(struct worker *w, const char *name)
{
	_cleanup_(close_fd) int fd = open(lab_path(&w->lab, name), O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	while (fd >= 0 && read(fd, w->text, sizeof(w->text)) > 0)
		;
}

static void directory_read(struct worker *w, const char *name)
{
	DIR *dir = opendir(lab_path(&w->lab, name));

	while (dir && readdir(dir))
		;
	if (dir)
		closedir(dir);
}

static void step_channel(struct worker *w)
{
	mkdir(lab_path(&w->lab, "channels/c"), 0777);
	file_write(w, "channels/c/priority", 0, "3\n");
	file_write(w, "channels/c/content-type", 0, "text/plain\n");
	file_write(w, "channels/c/properties/place", O_CREAT, "here\n");
	file_write(w, "channels/c/telemetry", 0, "other line\n");
	file_read(w, "channels/c/stats");
	directory_read(w, "channels/c/properties");
	unlink(lab_path(&w->lab, "channels/c/properties/place"));
	rmdir(lab_path(&w->lab, "channels/c"));
}

static void step_twin(struct worker *w)
{
	static unsigned int n;
	char patch[64];

	snprintf(patch, sizeof(patch), "{\"n\":%u,\"o\":{\"p\":[1,2]}}", ++n);
	file_write(w, "twin/reported.json", 0, patch);
	file_write(w, "twin/reported/leaf", O_CREAT, "17\n");
	file_read(w, "twin/reported.json");
	file_read(w, "twin/desired.json");
	directory_read(w, "twin/reported");
	unlink(lab_path(&w->lab, "twin/reported/leaf"));
}

static void step_send_command(struct worker *w)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		lab_hubctl(&w->lab, w->text, sizeof(w->text), "command", "send", "dev1", "command");
		_exit(0);
	}
	w->sender = pid;
}

static void step_command(struct worker *w)
{
	_cleanup_(close_fd) int fd =
		open(lab_path(&w->lab, "commands/next"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	process_stop(&w->sender, 0);
	if (fd < 0)
		return;
	/* It may be that the daemon is not connected for a while. */
	poll(&p, 1, 1000);
	while (read(fd, w->text, sizeof(w->text)) > 0)
		;
}

/* A caller who waits a second at most, and its answer. */
static void step_method(struct worker *w)
{
	const char *method = "methods/m";
	pid_t caller;

	mkdir(lab_path(&w->lab, method), 0777);
	fflush(NULL);
	caller = fork();
	if (caller == 0) {
		lab_hubctl(&w->lab, w->text, sizeof(w->text), "method", "call", "dev1", "m", "x", "--timeout",
			   "1");
		_exit(0);
	}
	limit(1);
	{
		_cleanup_(close_fd) int fd = open(lab_path(&w->lab, "methods/m/call"), O_RDWR | O_CLOEXEC);

		if (fd >= 0 && read(fd, w->text, sizeof(w->text)) >= 0)
			(void)!write(fd, "200 ok", 6);
	}
	limit(STEP_MAX_S);
	process_stop(&caller, 0);
	rmdir(lab_path(&w->lab, method));
}

static void session(struct worker *w)
{
	static void (*const steps[])(struct worker *) = {
		step_send_command, step_telemetry, step_channel,   step_twin,
		step_command,      step_method,    step_telemetry,
	};
	static const char *const files[] = {"status", "events", "metrics", "twin/changes", "rejected"};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); ++i) {
		limit(STEP_MAX_S);
		steps[i](w);
		limit(0);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); ++i)
		file_read(w, files[i]);
	directory_read(w, "rejected");
	directory_read(w, "commands");
	++w->n_sessions;
}

/* Over a connection it makes itself, if it lost the one it had; and all that it acknowledged is at the hub then. */
static void expect_delivery(struct worker *w)
{
	limit(RECOVERY_MAX_S);
	/* Once it may have been one of these calls that failed. */
	EXPECT_TRUE(load_try_fence(&w->load, &w->lab) || load_try_fence(&w->load, &w->lab));
	limit(0);
	EXPECT_EQ(load_n_missing(&w->load), 0u);
}

/* --- a daemon with a call that fails ---------------------------------------------------------- */

static void tell(struct worker *w)
{
	_cleanup_(free_ptr) char *log = lab_log(&w->lab, "daemon");
	const char *tail = log + (strlen(log) > 3000 ? strlen(log) - 3000 : 0);
	char stack[TEXT_SIZE] = "";
	size_t n = 0;

	for (uint64_t i = 0; i < w->control->n_frames && n < sizeof(stack); ++i) {
		const struct fail_malloc_frame *frame = &w->control->frames[i];

		n += (size_t)snprintf(stack + n, sizeof(stack) - n, " %s+0x%" PRIx64,
				      frame->object[0] ? frame->object : "iothubd", frame->at);
	}
	TEST_LOG("call %" PRIu64 " (own %" PRIu64 ") of %" PRIu64 " failed, in%s; the daemon: %s",
		 w->control->fail_at, w->control->fail_own_at, w->control->n_calls, stack, tail);
}

static bool start(struct worker *w, struct place at, int *status)
{
	char config[LAB_PATH_MAX], notify[LAB_PATH_MAX], log[LAB_PATH_MAX];
	const char *argv[] = {process_path("iothubd"), "--config", config, NULL};
	bool is_ready;

	snprintf(config, sizeof(config), "%s/iothubd.json", w->lab.dir);
	snprintf(notify, sizeof(notify), "%s/notify", w->lab.dir);
	snprintf(log, sizeof(log), "%s/daemon.log", w->lab.dir);
	unlink(log);
	memset(w->control, 0, sizeof(*w->control));
	w->control->fail_at = at.any;
	w->control->fail_own_at = at.own;
	setenv("LD_PRELOAD", w->library, 1);
	setenv("FAIL_MALLOC_FILE", w->file, 1);
	limit(START_MAX_S);
	is_ready = process_try_notify(&w->lab.daemon, log, argv, notify, status);
	limit(0);
	unsetenv("LD_PRELOAD");
	return is_ready;
}

/* glibc's getgrnam() has no answer to a failed allocation but to die; the daemon asks it before it does anything. */
static bool died_in_getgrnam(const struct worker *w)
{
	void *getgrnam = dlsym(RTLD_DEFAULT, "getgrnam");
	Dl_info info;
	uint64_t start;

	ASSERT_TRUE(getgrnam && dladdr(getgrnam, &info));
	start = (uint64_t)((uintptr_t)getgrnam - (uintptr_t)info.dli_fbase);
	for (uint64_t i = 0; i < w->control->n_frames; ++i) {
		const struct fail_malloc_frame *frame = &w->control->frames[i];

		if (frame->at > start && frame->at < start + GETGRNAM_SIZE &&
		    strcmp(frame->object, "libc.so.6") == 0)
			return true;
	}
	return false;
}

static void expect_refusal(struct worker *w, int status)
{
	_cleanup_(free_ptr) char *log = lab_log(&w->lab, "daemon");

	EXPECT_EQ(w->control->n_failed, 1u);
	++w->n_starts_failed;
	if (WIFSIGNALED(status) && died_in_getgrnam(w))
		return;
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 0);
	EXPECT_TRUE(log[0] != '\0');
}

/* Returns the wait status of a daemon that was told to end; one that does not is killed. */
static int end(struct worker *w)
{
	int status = -1, r;

	if (waitpid(w->lab.daemon, &status, WNOHANG) == w->lab.daemon) {
		w->lab.daemon = 0;
		harness_fail(__FILE__, __LINE__, false, "the daemon ended by itself");
		return status;
	}
	kill(w->lab.daemon, SIGTERM);
	limit(END_MAX_S);
	r = waitpid(w->lab.daemon, &status, 0);
	limit(0);
	if (r != w->lab.daemon) {
		harness_fail(__FILE__, __LINE__, false, "the daemon does not end");
		return lab_stop_daemon(&w->lab, SIGKILL);
	}
	w->lab.daemon = 0;
	return status;
}

/* Returns how many calls there were before the daemon was ready, none when it never was. */
static struct place run_one(struct worker *w, struct place at)
{
	int n_failed = harness_state.result->n_failed, status = 0;
	struct place ready = {0};

	if (!start(w, at, &status)) {
		expect_refusal(w, status);
	} else {
		ready.any = w->control->n_calls;
		ready.own = w->control->n_own;
		session(w);
		expect_delivery(w);
		w->n_spared += (at.any || at.own) && !w->control->n_failed;
		EXPECT_EQ(end(w), 0);
	}
	if (harness_state.result->n_failed != n_failed)
		tell(w);
	return ready;
}

/* --- all of them ------------------------------------------------------------------------------ */

static void worker_run(void *worker)
{
	struct worker *w = worker;
	struct fixture_failing *test = w->test;
	uint32_t i;

	worker_start(w);
	while ((i = __atomic_fetch_add(&test->next, 1, __ATOMIC_RELAXED)) < test->n_places) {
		run_one(w, test->places[i]);
		if ((i + 1) % 1000 == 0)
			TEST_LOG("%u of %u", i + 1, test->n_places);
	}
	lab_start_daemon(&w->lab);
	load_fence(&w->load, &w->lab);
	load_verify(&w->load, LOAD_QUEUED);
}

/* Failures are its own until it ends: each is told with the daemon it is of. */
static void worker_fork(struct fixture_failing *self, struct worker *w)
{
	pid_t pid;

	w->test = self;
	fflush(NULL);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid) {
		w->pid = pid;
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	harness_state.result = &w->result;
	harness_call(worker_run, w);
	/* In the middle of a run. */
	if (w->lab.daemon && w->result.n_failed)
		tell(w);
	harness_call(worker_stop, w);
	fflush(NULL);
	_exit(0);
}

static void worker_join(struct worker *w)
{
	EXPECT_EQ(process_stop(&w->pid, 0), 0);
	harness_state.result->n_failed += w->result.n_failed;
}

static void add_place(struct fixture_failing *self, struct place place)
{
	ASSERT_LT(self->n_places, PLACES_MAX + 0u);
	self->places[self->n_places++] = place;
}

static uint64_t pick(bool in_start, uint64_t n_start, uint64_t n_all)
{
	return in_start ? 1 + test_random() % n_start : n_start + 1 + test_random() % (n_all - n_start);
}

/* A third of them during the start; half of them the daemon's own, which are a few of all. */
static void add_some(struct fixture_failing *self, uint64_t n, struct place start, struct place all)
{
	for (uint64_t i = 0; i < n; ++i) {
		struct place at = {0};

		if (i % 2)
			at.own = pick(i % 3 == 0, start.own, all.own);
		else
			at.any = pick(i % 3 == 0, start.any, all.any);
		add_place(self, at);
	}
}

/* Those first that take longer. What a session does differs a little from one to the next, so that a few at the end may not come, or not be there. */
static void add_all(struct fixture_failing *self, struct place all, bool own_only)
{
	for (uint64_t i = all.own; i; --i)
		add_place(self, (struct place){.own = i});
	for (uint64_t i = own_only ? 0 : all.any; i; --i)
		add_place(self, (struct place){.any = i});
}

static void run_places(struct fixture_failing *self)
{
	const char *workers = getenv("IOTHUB_MALLOC_WORKERS");
	long n = workers ? atol(workers) : 2 * sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int n_sessions = 0, n_spared = 0, n_starts_failed = 0;

	n = n > WORKERS_MAX ? WORKERS_MAX : n;
	n = n > self->n_places / PLACES_MIN ? self->n_places / PLACES_MIN : n;
	n = n < 1 ? 1 : n;
	for (long i = 0; i < n; ++i)
		worker_fork(self, &self->workers[i]);
	for (long i = 0; i < n; ++i) {
		const struct worker *w = &self->workers[i];

		worker_join(&self->workers[i]);
		n_sessions += w->n_sessions;
		n_spared += w->n_spared;
		n_starts_failed += w->n_starts_failed;
	}
	TEST_LOG("%ld workers: %u sessions, %u of them without the call; %u starts failed", n, n_sessions,
		 n_spared, n_starts_failed);
	EXPECT_EQ(n_sessions + n_starts_failed, self->n_places);
}

TEST_F_TIMEOUT(failing, no_crash_and_no_false_promise, 3600)
{
	const char *calls = getenv("IOTHUB_MALLOC");
	uint64_t n = calls ? strtoull(calls, NULL, 10) : N_CALLS;
	struct worker *counter = &self->counter;
	struct place ready, all;

	worker_start(counter);
	ready = run_one(counter, (struct place){0});
	all = (struct place){counter->control->n_calls, counter->control->n_own};
	worker_stop(counter);
	ASSERT_TRUE(ready.own > 0 && all.own > ready.own);
	if (n)
		add_some(self, n, ready, all);
	else
		add_all(self, all, calls && strcmp(calls, "own") == 0);
	TEST_LOG("%" PRIu64 " calls, %" PRIu64 " before it is ready (%" PRIu64 " and %" PRIu64 " its own): "
		 "%u of them fail, one in each run",
		 all.any, ready.any, all.own, ready.own, self->n_places);
	run_places(self);
}

TEST_HARNESS_MAIN
