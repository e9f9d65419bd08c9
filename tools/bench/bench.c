/* SPDX-License-Identifier: MIT */
/*
 * Clocks, latencies and ends of the bench's programs.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"

#include "bench.h"

static uint64_t now(clockid_t clock, uint64_t unit_ns)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * (NSEC_PER_SEC / unit_ns) + (uint64_t)t.tv_nsec / unit_ns;
}

uint64_t bench_now_ns(void)
{
	return now(CLOCK_MONOTONIC, 1);
}

uint64_t bench_wall_ms(void)
{
	return now(CLOCK_REALTIME, NSEC_PER_MSEC);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

void bench_print_latencies(uint64_t *samples_ns, size_t n)
{
	qsort(samples_ns, n, sizeof(*samples_ns), compare_u64);
	printf("median %" PRIu64 "\np99 %" PRIu64 "\n", samples_ns[n / 2], samples_ns[n - 1 - n / 100]);
}

void bench_tell_ready(void)
{
	if (dprintf(3, "ready\n") < 0)
		bench_fail_errno("descriptor 3");
	close(3);
}

void bench_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

void bench_fail_errno(const char *what)
{
	bench_fail("%s: %s", what, strerror(errno));
}
