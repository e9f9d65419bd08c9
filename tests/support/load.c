/* SPDX-License-Identifier: MIT */
/*
 * Writers and their judge, see load.h. A payload is `wWRITER NUMBER ` and letters that follow from both.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/load.h"

#define PAYLOAD_MAX (LOAD_PAD_MAX + 32)
/* Of a writer that finds no file. */
#define AWAY_NS (5 * NSEC_PER_MSEC)

/* --- messages --------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Most are short; one in 16 has up to all there may be. Returns the length. */
static size_t payload_make(const struct load *load, unsigned int writer, uint32_t number, char *out)
{
	uint64_t random = mix(load->seed ^ ((uint64_t)writer << 32 | number));
	size_t max = random % 16 ? load->pad_max / 16 : load->pad_max;
	size_t len = (size_t)snprintf(out, 32, "w%u %u ", writer, number);
	size_t pad = max ? (size_t)((random >> 8) % max) : 0;

	memset(out + len, 'a' + (int)((random >> 40) % 26), pad);
	out[len + pad] = '\0';
	return len + pad;
}

static uint64_t text_hash(const char *text, size_t len)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; ++i)
		hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
	return hash ? hash : 1;
}

/* --- a writer --------------------------------------------------------------------------------- */

static void nap(uint64_t ns)
{
	const struct timespec t = {.tv_sec = (time_t)(ns / NSEC_PER_SEC),
				   .tv_nsec = (long)(ns % NSEC_PER_SEC)};

	ppoll(NULL, 0, &t, NULL);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static uint8_t outcome_of(ssize_t n, size_t len)
{
	if (n == (ssize_t)len)
		return LOAD_ACKED;
	if (n >= 0)
		return LOAD_SHORT;
	return errno > 0 && errno < LOAD_SHORT ? (uint8_t)errno : LOAD_TRIED;
}

bool load_write(struct load *load, unsigned int number, int fd)
{
	struct load_writer *w = &load->writers[number];
	char payload[PAYLOAD_MAX];
	struct load_message *m;
	uint32_t power = __atomic_load_n(&load->power, __ATOMIC_SEQ_CST);
	uint8_t outcome;
	size_t len;

	len = payload_make(load, number, w->n_tried, payload);
	m = &w->messages[w->n_tried];
	__atomic_store_n(&m->outcome, LOAD_TRIED, __ATOMIC_RELAXED);
	__atomic_store_n(&w->n_tried, w->n_tried + 1, __ATOMIC_RELEASE);
	outcome = outcome_of(write(fd, payload, len), len);
	if (outcome == LOAD_ACKED && (power % 2 || __atomic_load_n(&load->power, __ATOMIC_SEQ_CST) != power))
		outcome = LOAD_TRIED;
	__atomic_store_n(&m->outcome, outcome, __ATOMIC_RELEASE);
	if (outcome == LOAD_ACKED)
		__atomic_store_n(&w->n_acked, w->n_acked + 1, __ATOMIC_RELEASE);
	return outcome == LOAD_ACKED;
}

__attribute__((noreturn)) static void writer_run(struct load *load, unsigned int number, const char *path)
{
	struct load_writer *w = &load->writers[number];
	int flags = O_WRONLY | O_CLOEXEC | (w->level == LOAD_STORED ? O_DSYNC : 0), fd = -1;
	uint64_t random = mix(load->seed + number);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!__atomic_load_n(&load->stop, __ATOMIC_ACQUIRE) && w->n_tried < LOAD_MESSAGES_MAX) {
		if (fd < 0)
			fd = open(path, flags);
		if (fd < 0) {
			++w->n_away;
			nap(AWAY_NS);
			continue;
		}
		errno = 0;
		if (!load_write(load, number, fd) && errno != ENOSPC) {
			close(fd);
			fd = -1;
		}
		random = mix(random + UINT64_C(0x9e3779b97f4a7c15));
		if (load->pause_us)
			nap(random % load->pause_us * NSEC_PER_USEC);
	}
	_exit(0);
}

void load_start(struct load *load, const struct lab *lab, unsigned int n_writers, bool all_stored)
{
	const char *path = lab_path(lab, "telemetry.raw");
	pid_t pid;

	ASSERT_LE(n_writers, LOAD_WRITERS_MAX + 0u);
	load->n_writers = n_writers;
	load->stop = false;
	for (unsigned int i = 0; i < n_writers; ++i) {
		struct load_writer *w = &load->writers[i];

		w->level = all_stored || i % 2 ? LOAD_STORED : LOAD_QUEUED;
		fflush(NULL);
		/* Not into what both share: the child's would be 0, and maybe later. */
		pid = fork();
		if (pid == 0)
			writer_run(load, i, path);
		ASSERT_GT(pid, 0);
		w->pid = pid;
	}
}

static void reap(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	if (signo)
		kill(*pid, signo);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

void load_stop(struct load *load)
{
	__atomic_store_n(&load->stop, true, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < load->n_writers; ++i)
		reap(&load->writers[i].pid, 0);
}

void load_deinit(struct load *load)
{
	for (unsigned int i = 0; i < LOAD_WRITERS_MAX; ++i)
		reap(&load->writers[i].pid, SIGKILL);
	reap(&load->judge, SIGKILL);
}

void load_power(struct load *load, bool on)
{
	ASSERT_EQ(load->power % 2, on ? 1u : 0u);
	__atomic_add_fetch(&load->power, 1, __ATOMIC_SEQ_CST);
}

/* --- figures ---------------------------------------------------------------------------------- */

uint32_t load_n_acked(const struct load *load, enum load_level level)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < load->n_writers; ++i)
		if (load->writers[i].level == level)
			n += __atomic_load_n(&load->writers[i].n_acked, __ATOMIC_ACQUIRE);
	return n;
}

uint32_t load_n_acked_all(const struct load *load)
{
	return load_n_acked(load, LOAD_QUEUED) + load_n_acked(load, LOAD_STORED);
}

uint32_t load_n_failed(const struct load *load, int error)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < load->n_writers; ++i)
		for (uint32_t k = 0; k < load->writers[i].n_tried; ++k)
			n += load->writers[i].messages[k].outcome == error;
	return n;
}

/* --- the judge -------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void complain(struct load *load, uint32_t *count,
							   const char *fmt, ...)
{
	struct load_verdict *v = &load->verdict;
	va_list ap;

	++*count;
	if (v->first[0])
		return;
	va_start(ap, fmt);
	vsnprintf(v->first, sizeof(v->first), fmt, ap);
	va_end(ap);
}

/* The value of `"key":"value"`, up to the next quote: nothing in it is escaped. */
static const char *value_find(const char *line, const char *key, size_t *len)
{
	const char *at = strstr(line, key);

	if (!at)
		return NULL;
	at += strlen(key);
	*len = strcspn(at, "\"");
	return at;
}

static void delivered(struct load *load, unsigned int writer, uint32_t number, uint64_t id)
{
	struct load_writer *w = &load->writers[writer];
	struct load_message *m = &w->messages[number];
	struct load_verdict *v = &load->verdict;

	if (m->n_delivered) {
		++v->n_twice;
		if (m->n_delivered < UINT8_MAX)
			++m->n_delivered;
		if (m->id != id)
			complain(load, &v->n_other_id, "w%u %u came again with another message-id", writer,
				 number);
		return;
	}
	m->n_delivered = 1;
	m->id = id;
	++v->n_delivered;
	if (w->last_first > number)
		complain(load, &v->n_misordered, "w%u %u came after %u", writer, number, w->last_first);
	else
		w->last_first = number;
}

static void message_judge(struct load *load, const char *line)
{
	char expected[PAYLOAD_MAX];
	size_t len = 0, id_len = 0;
	const char *payload = value_find(line, "\"payload\":\"", &len);
	const char *id = value_find(line, "\"message-id\":\"", &id_len);
	unsigned int writer, number;

	if (payload && sscanf(payload, "fence %u", &number) == 1) {
		__atomic_store_n(&load->fence, number, __ATOMIC_RELEASE);
		(void)!write(load->wake[1], "", 1);
	} else if (payload && id && sscanf(payload, "w%u %u ", &writer, &number) == 2 &&
		   writer < load->n_writers &&
		   number < __atomic_load_n(&load->writers[writer].n_tried, __ATOMIC_ACQUIRE) &&
		   payload_make(load, writer, number, expected) == len &&
		   memcmp(expected, payload, len) == 0) {
		delivered(load, writer, number, text_hash(id, id_len));
	} else if (!payload || strncmp(payload, "other ", 6) != 0) {
		complain(load, &load->verdict.n_unknown, "unknown: %.200s", line);
	}
	if (strstr(line, "\"dropped\":"))
		complain(load, &load->verdict.n_missed, "the monitor missed messages: %.200s", line);
}

void load_start_judge(struct load *load, struct lab *lab)
{
	pid_t pid;

	ASSERT_EQ(pipe2(load->wake, O_CLOEXEC | O_NONBLOCK), 0);
	load->seed = test_random();
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		FILE *in = lab_monitor_stream(lab);
		char *line = NULL;
		size_t size = 0;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getline(&line, &size, in) > 0)
			message_judge(load, line);
		_exit(0);
	}
	ASSERT_GT(pid, 0);
	load->judge = pid;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* @flags are of open(2), for the level. Returns false when something failed, or a signal ended it. */
static bool fence(struct load *load, const struct lab *lab, int flags)
{
	uint32_t number = ++load->n_fences;
	char text[32], byte;
	int len = snprintf(text, sizeof(text), "fence %u", number);
	_cleanup_(close_fd) int fd = open(lab_path(lab, "telemetry.raw"), O_WRONLY | O_CLOEXEC | flags);

	if (fd < 0 || write(fd, text, (size_t)len) != len)
		return false;
	while (__atomic_load_n(&load->fence, __ATOMIC_ACQUIRE) < number) {
		struct pollfd p = {.fd = load->wake[0], .events = POLLIN};

		if (poll(&p, 1, -1) != 1 || read(load->wake[0], &byte, 1) != 1)
			return false;
	}
	return true;
}

void load_fence(struct load *load, const struct lab *lab)
{
	ASSERT_TRUE(fence(load, lab, 0));
}

bool load_try_fence(struct load *load, const struct lab *lab)
{
	return fence(load, lab, O_SYNC);
}

uint32_t load_n_missing(const struct load *load)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < load->n_writers; ++i) {
		const struct load_writer *w = &load->writers[i];

		for (uint32_t k = 0; k < w->n_tried; ++k)
			n += w->messages[k].outcome == LOAD_ACKED && !w->messages[k].n_delivered;
	}
	return n;
}

static void message_verify(struct load *load, unsigned int writer, uint32_t number, enum load_level promise)
{
	const struct load_writer *w = &load->writers[writer];
	const struct load_message *m = &w->messages[number];
	struct load_verdict *v = &load->verdict;

	if (m->outcome == LOAD_SHORT)
		complain(load, &v->n_short, "w%u %u was written in part", writer, number);
	if (m->outcome == LOAD_ACKED && w->level >= promise && !m->n_delivered)
		complain(load, &v->n_lost, "w%u %u was acknowledged and is lost", writer, number);
	if ((m->outcome == ENOSPC || m->outcome == EROFS || m->outcome == EFBIG) && w->level == LOAD_QUEUED &&
	    m->n_delivered)
		complain(load, &v->n_refused, "w%u %u was refused (%s) and delivered", writer, number,
			 strerror(m->outcome));
}

static int compare_ids(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static void verify_ids(struct load *load)
{
	_cleanup_(free_ptr) uint64_t *ids = calloc((size_t)load->verdict.n_delivered + 1, sizeof(*ids));
	size_t n = 0;

	ASSERT_TRUE(ids != NULL);
	for (unsigned int i = 0; i < load->n_writers; ++i)
		for (uint32_t k = 0; k < load->writers[i].n_tried; ++k)
			if (load->writers[i].messages[k].n_delivered && n <= load->verdict.n_delivered)
				ids[n++] = load->writers[i].messages[k].id;
	qsort(ids, n, sizeof(*ids), compare_ids);
	for (size_t i = 1; i < n; ++i)
		if (ids[i] == ids[i - 1])
			complain(load, &load->verdict.n_same_id, "two messages have one message-id");
}

void load_verify(struct load *load, enum load_level promise)
{
	struct load_verdict *v = &load->verdict;

	for (unsigned int i = 0; i < load->n_writers; ++i)
		for (uint32_t k = 0; k < load->writers[i].n_tried; ++k)
			message_verify(load, i, k, promise);
	verify_ids(load);
	TEST_LOG("%u acknowledged (%u stored), %u delivered, %u of them again", load_n_acked_all(load),
		 load_n_acked(load, LOAD_STORED), v->n_delivered, v->n_twice);
	EXPECT_STREQ(v->first, "");
	EXPECT_EQ(v->n_lost, 0u);
	EXPECT_EQ(v->n_misordered, 0u);
	EXPECT_EQ(v->n_other_id, 0u);
	EXPECT_EQ(v->n_same_id, 0u);
	EXPECT_EQ(v->n_refused, 0u);
	EXPECT_EQ(v->n_unknown, 0u);
	EXPECT_EQ(v->n_short, 0u);
	EXPECT_EQ(v->n_missed, 0u);
}

/* --- what happens meanwhile ------------------------------------------------------------------- */

void load_pause(uint64_t max_ns)
{
	nap(test_random() % max_ns);
}

void load_last(uint64_t ns)
{
	nap(ns);
}

void load_hub_down(const struct lab *lab)
{
	char out[512];

	ASSERT_EQ(lab_hubctl(lab, out, sizeof(out), "fault", "set", "refuse", "reason=136", "device=dev1"),
		  0);
	/* Drops all connections of devices. */
	kill(lab->emulator, SIGUSR1);
}

void load_hub_up(const struct lab *lab)
{
	char out[512];

	ASSERT_EQ(lab_hubctl(lab, out, sizeof(out), "fault", "clear"), 0);
}

static bool write_other(const struct lab *lab, enum load_level level)
{
	int flags = O_WRONLY | O_CLOEXEC | (level == LOAD_STORED ? O_DSYNC : 0);
	_cleanup_(close_fd) int fd = open(lab_path(lab, "telemetry.raw"), flags);

	return fd >= 0 && write(fd, "other message", 13) == 13;
}

uint64_t load_resumed_ns(const struct lab *lab, enum load_level level, uint64_t limit_ns)
{
	uint64_t start_ns = now_ns();

	while (!write_other(lab, level) && now_ns() - start_ns < limit_ns)
		nap(AWAY_NS);
	return now_ns() - start_ns;
}
