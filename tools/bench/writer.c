/* SPDX-License-Identifier: MIT */
/*
 * Writes messages to a file and says how long it took: a file of telemetry, or one that serves for comparison.
 *
 * Each writer is a process with the file open for itself. Two times are taken, from a common start on: until
 * the last write(2) returned, and until the last fsync(2) returned, which with telemetry files is when the hub
 * has acknowledged everything. With --latency every single write is timed.
 *
 * Prints `write NS` and `done NS`, nanoseconds for one message, or `median NS` and `p99 NS` of one write;
 * `cpu NS` is the processor time of all writers for one message.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#include "bench.h"

#define WRITERS_MAX 64
#define BLOCK_MAX   (128 * 1024)

struct options {
	const char *path;
	uint64_t n_messages;
	size_t size;      /* bytes of a message */
	size_t per_write; /* messages in one write; more than one only as lines */
	unsigned int n_writers;
	bool lines;
	bool wait_for_hub; /* fsync in the end */
	bool latency;      /* O_SYNC, each write timed */
	bool regular;      /* an ordinary file: made, appended to, removed */
};

/* What the writers tell, in shared memory. */
struct times {
	uint64_t written_ns[WRITERS_MAX];
	uint64_t done_ns[WRITERS_MAX];
	uint64_t samples_ns[];
};

/* --- one writer ------------------------------------------------------------------------------- */

static size_t fill_block(const struct options *o, char *block)
{
	size_t len = 0;

	for (size_t i = 0; i < o->per_write; ++i) {
		memset(block + len, 'x', o->size);
		len += o->size;
		if (o->lines)
			block[len++] = '\n';
	}
	return len;
}

static void write_block(int fd, const char *block, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	for (;;) {
		ssize_t n = write(fd, block, len);

		if (n == (ssize_t)len)
			return;
		if (n >= 0)
			bench_fail("a write was cut short");
		if (errno != ENOSPC)
			bench_fail_errno("write");
		if (poll(&p, 1, -1) != 1)
			bench_fail_errno("poll");
	}
}

/* Longer than the daemon lets one wait: again. */
static void wait_for_hub(int fd)
{
	while (fsync(fd) < 0)
		if (errno != ETIMEDOUT && errno != EINTR)
			bench_fail_errno("fsync");
}

static void write_all(const struct options *o, unsigned int number, struct times *times)
{
	static char block[BLOCK_MAX];
	size_t len = fill_block(o, block);
	uint64_t n_writes = o->n_messages / o->n_writers / o->per_write;
	int flags = O_WRONLY | O_CLOEXEC | (o->regular ? O_CREAT | O_APPEND : 0) | (o->latency ? O_SYNC : 0);
	_cleanup_(close_fd) int fd = open(o->path, flags, 0600);

	if (fd < 0)
		bench_fail_errno(o->path);
	for (uint64_t i = 0; i < n_writes; ++i) {
		uint64_t before_ns = o->latency ? bench_now_ns() : 0;

		write_block(fd, block, len);
		if (o->latency)
			times->samples_ns[number * n_writes + i] = bench_now_ns() - before_ns;
	}
	times->written_ns[number] = bench_now_ns();
	if (o->wait_for_hub)
		wait_for_hub(fd);
	times->done_ns[number] = bench_now_ns();
}

/* --- all of them ------------------------------------------------------------------------------ */

static void run_writers(const struct options *o, struct times *times)
{
	for (unsigned int i = 0; i < o->n_writers; ++i) {
		pid_t pid = fork();

		if (pid < 0)
			bench_fail_errno("fork");
		if (pid == 0) {
			write_all(o, i, times);
			exit(0);
		}
	}
	for (unsigned int i = 0; i < o->n_writers; ++i) {
		int status;

		if (wait(&status) < 0 || status != 0)
			exit(1);
	}
}

static uint64_t latest(const uint64_t *ns, unsigned int n)
{
	uint64_t last = 0;

	for (unsigned int i = 0; i < n; ++i)
		if (ns[i] > last)
			last = ns[i];
	return last;
}

static double cpu_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e9 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e3;
}

static void report(const struct options *o, struct times *times, uint64_t start_ns, uint64_t n)
{
	if (o->latency) {
		bench_print_latencies(times->samples_ns, n);
	} else {
		printf("write %.1f\n",
		       (double)(latest(times->written_ns, o->n_writers) - start_ns) / (double)n);
		printf("done %.1f\n", (double)(latest(times->done_ns, o->n_writers) - start_ns) / (double)n);
	}
	printf("cpu %.1f\n", cpu_ns() / (double)n);
}

static void usage(void)
{
	fputs("usage: writer [-n MESSAGES] [-s BYTES] [-w WRITERS] [-b MESSAGES-PER-WRITE] [--lines]\n"
	      "              [--acked | --latency] [--regular] FILE\n",
	      stderr);
	exit(2);
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{"lines", no_argument, NULL, 'l'},
		{"acked", no_argument, NULL, 'a'},
		{"latency", no_argument, NULL, 't'},
		{"regular", no_argument, NULL, 'r'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "n:s:w:b:", options, NULL)) >= 0) {
		if (c == 'n')
			o->n_messages = strtoull(optarg, NULL, 10);
		else if (c == 's')
			o->size = strtoul(optarg, NULL, 10);
		else if (c == 'w')
			o->n_writers = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'b')
			o->per_write = strtoul(optarg, NULL, 10);
		else if (c == 'l')
			o->lines = true;
		else if (c == 'a')
			o->wait_for_hub = true;
		else if (c == 't')
			o->latency = true;
		else if (c == 'r')
			o->regular = true;
		else
			usage();
	}
	if (optind + 1 != argc || !o->n_writers || o->n_writers > WRITERS_MAX || !o->per_write ||
	    o->per_write * (o->size + 1) > BLOCK_MAX || (o->latency && o->per_write != 1) ||
	    o->n_messages < o->n_writers * o->per_write)
		usage();
	o->path = argv[optind];
}

int main(int argc, char **argv)
{
	struct options o = {.n_messages = 10000, .size = 128, .per_write = 1, .n_writers = 1};
	struct times *times;
	uint64_t start_ns, n;

	parse(&o, argc, argv);
	n = o.n_messages / o.n_writers / o.per_write * o.per_write * o.n_writers;
	times = mmap(NULL, sizeof(*times) + (o.latency ? n * sizeof(uint64_t) : 0), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (times == MAP_FAILED)
		bench_fail_errno("mmap");
	start_ns = bench_now_ns();
	run_writers(&o, times);
	report(&o, times, start_ns, n);
	if (o.regular && unlink(o.path) < 0)
		bench_fail_errno(o.path);
	return 0;
}
