/* SPDX-License-Identifier: MIT */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

/*
 * Test harness in the style of the kernel's selftests:
 *
 *     FIXTURE(name) { int fd; };
 *     FIXTURE_SETUP(name) { self->fd = open(...); ASSERT_GE(self->fd, 0); }
 *     FIXTURE_TEARDOWN(name) { close(self->fd); }
 *     TEST_F(name, reads_nothing) { EXPECT_EQ(read(self->fd, ...), 0); }
 *     TEST(plain) { SKIP_IF(geteuid() != 0, "needs root"); ... }
 *     TEST_HARNESS_MAIN
 *
 * Every test is a process of its own, in a process group of its own, with a time limit (TEST_TIMEOUT seconds,
 * default 30; TEST_F_TIMEOUT for another). ASSERT ends the test, EXPECT lets it go on; the teardown runs in
 * any case: when the test crashed or ran out of time, in a fresh process. `self` lies in shared memory, so
 * that process sees what the test had noted there. What is left of the process group is killed afterwards.
 *
 * Output is TAP. Arguments: names of tests to run; --list. $TEST_SEED fixes the random seed, which is
 * printed.
 */

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_TIMEOUT_DEFAULT 30

struct harness_test {
	const char *name;
	void (*setup)(void *self);
	void (*run)(void *self);
	void (*teardown)(void *self);
	size_t self_size;
	int timeout_s;
	struct harness_test *next;
};

/* Written by the test's process, read by the parent. */
struct harness_result {
	int n_failed;
	bool skipped;
	char reason[256];
};

struct harness {
	struct harness_test *first, **last;
	struct harness_result *result;
	jmp_buf *env;
	bool orphan;
	uint64_t seed;
};

/* Weak: a test and its support files share one. */
__attribute__((weak)) struct harness harness_state;

/* In a teardown: the process that ran the test is gone, and pointers in `self` lead nowhere. */
__attribute__((unused)) static bool test_is_orphan(void)
{
	return harness_state.orphan;
}

__attribute__((unused)) static uint64_t test_random(void)
{
	/* splitmix64 */
	uint64_t z = (harness_state.seed += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

__attribute__((unused)) static void harness_add(struct harness_test *test)
{
	if (!harness_state.last)
		harness_state.last = &harness_state.first;
	*harness_state.last = test;
	harness_state.last = &test->next;
}

__attribute__((format(printf, 4, 5), unused)) static void harness_fail(const char *file, int line, bool stop,
								       const char *fmt, ...)
{
	va_list ap;

	++harness_state.result->n_failed;
	printf("# %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	if (stop && harness_state.env)
		longjmp(*harness_state.env, 1);
}

#define FIXTURE(fixture) struct fixture_##fixture

#define FIXTURE_SETUP(fixture)                                                                               \
	static void fixture_##fixture##_setup_typed(struct fixture_##fixture *self);                         \
	__attribute__((unused)) static void fixture_##fixture##_setup(void *self)                            \
	{                                                                                                    \
		fixture_##fixture##_setup_typed(self);                                                       \
	}                                                                                                    \
	static void fixture_##fixture##_setup_typed(struct fixture_##fixture *self)

#define FIXTURE_TEARDOWN(fixture)                                                                            \
	static void fixture_##fixture##_teardown_typed(struct fixture_##fixture *self);                      \
	__attribute__((unused)) static void fixture_##fixture##_teardown(void *self)                         \
	{                                                                                                    \
		fixture_##fixture##_teardown_typed(self);                                                    \
	}                                                                                                    \
	static void fixture_##fixture##_teardown_typed(struct fixture_##fixture *self)

#define TEST_F_TIMEOUT(fixture, test, seconds)                                                               \
	static void test_##fixture##_##test##_typed(struct fixture_##fixture *self);                         \
	static void test_##fixture##_##test(void *self)                                                      \
	{                                                                                                    \
		test_##fixture##_##test##_typed(self);                                                       \
	}                                                                                                    \
	__attribute__((constructor)) static void test_##fixture##_##test##_register(void)                    \
	{                                                                                                    \
		static struct harness_test t = {#fixture "." #test,                                          \
						fixture_##fixture##_setup,                                   \
						test_##fixture##_##test,                                     \
						fixture_##fixture##_teardown,                                \
						sizeof(struct fixture_##fixture),                            \
						seconds,                                                     \
						NULL};                                                       \
		harness_add(&t);                                                                             \
	}                                                                                                    \
	static void test_##fixture##_##test##_typed(__attribute__((unused)) struct fixture_##fixture *self)

#define TEST_F(fixture, test) TEST_F_TIMEOUT(fixture, test, TEST_TIMEOUT_DEFAULT)

#define TEST_TIMEOUT(test, seconds)                                                                          \
	static void test_##test(void *self);                                                                 \
	__attribute__((constructor)) static void test_##test##_register(void)                                \
	{                                                                                                    \
		static struct harness_test t = {#test, NULL, test_##test, NULL, 1, seconds, NULL};           \
		harness_add(&t);                                                                             \
	}                                                                                                    \
	static void test_##test(__attribute__((unused)) void *self)

#define TEST(test) TEST_TIMEOUT(test, TEST_TIMEOUT_DEFAULT)

/* Ends the test as skipped, with the reason, when the condition holds. */
#define SKIP_IF(condition, why)                                                                              \
	do {                                                                                                 \
		if (condition) {                                                                             \
			harness_state.result->skipped = true;                                                \
			snprintf(harness_state.result->reason, sizeof(harness_state.result->reason), "%s",   \
				 (why));                                                                     \
			longjmp(*harness_state.env, 1);                                                      \
		}                                                                                            \
	} while (0)

#define HARNESS_CMP(a, op, b, stop)                                                                          \
	do {                                                                                                 \
		__typeof__(a) harness_a = (a);                                                               \
		__typeof__(b) harness_b = (b);                                                               \
		if (!(harness_a op harness_b))                                                               \
			harness_fail(__FILE__, __LINE__, stop, "expected %s %s %s: %lld, %lld", #a, #op, #b, \
				     (long long)harness_a, (long long)harness_b);                            \
	} while (0)

#define HARNESS_STR(a, b, stop)                                                                              \
	do {                                                                                                 \
		const char *harness_a = (a), *harness_b = (b);                                               \
		if (!harness_a || !harness_b || strcmp(harness_a, harness_b) != 0)                           \
			harness_fail(__FILE__, __LINE__, stop, "expected %s == %s: \"%s\", \"%s\"", #a, #b,  \
				     harness_a ? harness_a : "(null)", harness_b ? harness_b : "(null)");    \
	} while (0)

#define HARNESS_CONTAINS(a, b, stop)                                                                         \
	do {                                                                                                 \
		const char *harness_a = (a), *harness_b = (b);                                               \
		if (!harness_a || !strstr(harness_a, harness_b))                                             \
			harness_fail(__FILE__, __LINE__, stop, "expected %s to contain \"%s\": \"%s\"", #a,  \
				     harness_b, harness_a ? harness_a : "(null)");                           \
	} while (0)

#define HARNESS_MEM(a, b, n, stop)                                                                           \
	do {                                                                                                 \
		if (memcmp((a), (b), (n)) != 0)                                                              \
			harness_fail(__FILE__, __LINE__, stop, "%s and %s differ within %zu bytes", #a, #b,  \
				     (size_t)(n));                                                           \
	} while (0)

#define HARNESS_TRUE(x, want, stop)                                                                          \
	do {                                                                                                 \
		bool harness_x = (x);                                                                        \
		if (harness_x != (want))                                                                     \
			harness_fail(__FILE__, __LINE__, stop, "expected %s to be %s", #x,                   \
				     (want) ? "true" : "false");                                             \
	} while (0)

#define ASSERT_EQ(a, b)       HARNESS_CMP(a, ==, b, true)
#define ASSERT_NE(a, b)       HARNESS_CMP(a, !=, b, true)
#define ASSERT_LT(a, b)       HARNESS_CMP(a, <, b, true)
#define ASSERT_LE(a, b)       HARNESS_CMP(a, <=, b, true)
#define ASSERT_GT(a, b)       HARNESS_CMP(a, >, b, true)
#define ASSERT_GE(a, b)       HARNESS_CMP(a, >=, b, true)
#define ASSERT_TRUE(x)        HARNESS_TRUE(x, true, true)
#define ASSERT_FALSE(x)       HARNESS_TRUE(x, false, true)
#define ASSERT_STREQ(a, b)    HARNESS_STR(a, b, true)
#define ASSERT_CONTAINS(a, b) HARNESS_CONTAINS(a, b, true)
#define ASSERT_MEMEQ(a, b, n) HARNESS_MEM(a, b, n, true)
#define EXPECT_EQ(a, b)       HARNESS_CMP(a, ==, b, false)
#define EXPECT_NE(a, b)       HARNESS_CMP(a, !=, b, false)
#define EXPECT_LT(a, b)       HARNESS_CMP(a, <, b, false)
#define EXPECT_LE(a, b)       HARNESS_CMP(a, <=, b, false)
#define EXPECT_GT(a, b)       HARNESS_CMP(a, >, b, false)
#define EXPECT_GE(a, b)       HARNESS_CMP(a, >=, b, false)
#define EXPECT_TRUE(x)        HARNESS_TRUE(x, true, false)
#define EXPECT_FALSE(x)       HARNESS_TRUE(x, false, false)
#define EXPECT_STREQ(a, b)    HARNESS_STR(a, b, false)
#define EXPECT_CONTAINS(a, b) HARNESS_CONTAINS(a, b, false)
#define EXPECT_MEMEQ(a, b, n) HARNESS_MEM(a, b, n, false)

/* A comment in the test's output. */
#define TEST_LOG(...)                                                                                        \
	do {                                                                                                 \
		printf("# " __VA_ARGS__);                                                                    \
		printf("\n");                                                                                \
		fflush(stdout);                                                                              \
	} while (0)

/* Runs @fn in this process; assertions inside it come back here. */
static void harness_call(void (*fn)(void *self), void *self)
{
	jmp_buf env;

	harness_state.env = &env;
	if (fn && !setjmp(env))
		fn(self);
	harness_state.env = NULL;
}

static void harness_child(const struct harness_test *t, void *self, bool teardown_only)
{
	setpgid(0, 0);
	harness_state.orphan = teardown_only;
	if (!teardown_only) {
		harness_call(t->setup, self);
		if (!harness_state.result->n_failed && !harness_state.result->skipped)
			harness_call(t->run, self);
	}
	harness_call(t->teardown, self);
	fflush(NULL);
	/* exit() and not _exit(): the leak checker runs at exit. */
	exit(0);
}

/* Waits for @pid for at most @timeout_s; SIGCHLD is blocked. Returns its wait status, or -1 when time ran
 * out. */
static int harness_wait(pid_t pid, int timeout_s)
{
	struct timespec now, end;
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += timeout_s;
	for (;;) {
		struct timespec left;

		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		clock_gettime(CLOCK_MONOTONIC, &now);
		left.tv_sec = end.tv_sec - now.tv_sec;
		left.tv_nsec = end.tv_nsec - now.tv_nsec;
		if (left.tv_nsec < 0) {
			left.tv_sec -= 1;
			left.tv_nsec += 1000000000;
		}
		if (left.tv_sec < 0)
			return -1;
		sigtimedwait(&set, NULL, &left);
	}
}

/* One process of a test, and the end of all that it left behind. */
static int harness_spawn(const struct harness_test *t, void *self, bool teardown_only, int timeout_s)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		harness_child(t, self, teardown_only);
	}
	setpgid(pid, pid);
	status = harness_wait(pid, timeout_s);
	kill(-pid, SIGKILL);
	if (status == -1)
		waitpid(pid, NULL, 0);
	while (waitpid(-pid, NULL, 0) > 0)
		;
	return status;
}

static bool harness_run(const struct harness_test *t, int number)
{
	struct harness_result *result = harness_state.result;
	const char *limit = getenv("TEST_TIMEOUT_FACTOR");
	int timeout_s = t->timeout_s * (limit && atoi(limit) > 0 ? atoi(limit) : 1), status;
	size_t size = t->self_size;
	void *self;

	memset(result, 0, sizeof(*result));
	self = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (self == MAP_FAILED)
		abort();
	status = harness_spawn(t, self, false, timeout_s);
	if (status) {
		if (status == -1)
			printf("# %s: still running after %d s\n", t->name, timeout_s);
		else
			printf("# %s: ended with %s %d\n", t->name,
			       WIFSIGNALED(status) ? "signal" : "exit code",
			       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		++result->n_failed;
		if (t->teardown)
			harness_spawn(t, self, true, timeout_s);
	}
	munmap(self, size);
	if (result->n_failed)
		printf("not ok %d - %s\n", number, t->name);
	else if (result->skipped)
		printf("ok %d - %s # SKIP %s\n", number, t->name, result->reason);
	else
		printf("ok %d - %s\n", number, t->name);
	fflush(stdout);
	return !result->n_failed;
}

static bool harness_wanted(const struct harness_test *t, int argc, char **argv)
{
	if (argc < 2)
		return true;
	for (int i = 1; i < argc; ++i)
		if (strstr(t->name, argv[i]))
			return true;
	return false;
}

__attribute__((unused)) static int harness_main(int argc, char **argv)
{
	const char *seed = getenv("TEST_SEED");
	struct timespec now;
	int n = 0, number = 0, n_failed = 0;
	sigset_t set;

	for (struct harness_test *t = harness_state.first; t; t = t->next) {
		if (argc > 1 && strcmp(argv[1], "--list") == 0)
			printf("%s\n", t->name);
		n += harness_wanted(t, argc, argv);
	}
	if (argc > 1 && strcmp(argv[1], "--list") == 0)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	harness_state.seed =
		seed ? strtoull(seed, NULL, 0) : (uint64_t)now.tv_nsec ^ ((uint64_t)now.tv_sec << 20);
	harness_state.result = mmap(NULL, sizeof(struct harness_result), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (harness_state.result == MAP_FAILED)
		return 1;
	/* Grandchildren of a test that died come back here, to be waited for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	printf("TAP version 13\n1..%d\n# TEST_SEED=0x%" PRIx64 "\n", n, harness_state.seed);
	for (struct harness_test *t = harness_state.first; t; t = t->next)
		if (harness_wanted(t, argc, argv))
			n_failed += !harness_run(t, ++number);
	return n_failed ? 1 : 0;
}

#define TEST_HARNESS_MAIN                                                                                    \
	int main(int argc, char **argv)                                                                      \
	{                                                                                                    \
		return harness_main(argc, argv);                                                             \
	}

#endif
