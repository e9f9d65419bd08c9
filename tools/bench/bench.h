/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

/*
 * What all programs of the bench share: clocks, the two figures of a latency, and an end with one line on stderr.
 */

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC. */
uint64_t bench_now_ns(void);

/* Since 1970-01-01T00:00:00Z. */
uint64_t bench_wall_ms(void);

/* Sorts the @n > 0 times and prints `median NS` and `p99 NS`. */
void bench_print_latencies(uint64_t *samples_ns, size_t n);

/* Writes a line to descriptor 3, which whoever started this program waits for, and closes it. */
void bench_tell_ready(void);

/* `program: what` on stderr, exit code 1. */
__attribute__((noreturn, format(printf, 1, 2))) void bench_fail(const char *fmt, ...);

/* `program: what: text of errno`, likewise. */
__attribute__((noreturn)) void bench_fail_errno(const char *what);

#endif
