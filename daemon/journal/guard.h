/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_GUARD_H
#define JOURNAL_GUARD_H

/*
 * A page of a mapped file that cannot be read or written any more (the disk failed, somebody cut the file, there was
 * no space after all) raises SIGBUS. The guard knows the mappings in use: it puts a page of zeros in the place, and
 * whoever used the mapping goes on, and asks afterwards whether that happened.
 *
 * main.c owns the guard and calls journal_guard_handle() from its handler of SIGBUS.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Mappings at most. */
#define JOURNAL_GUARD_MAX 1024

struct journal_guard_range {
	uintptr_t at; /* 0 = free */
	size_t len;
	volatile bool hit; /* a page of it was replaced */
};

struct journal_guard {
	struct journal_guard_range ranges[JOURNAL_GUARD_MAX];
};

/* Returns the range, or NULL: no place is left (the mapping is then not guarded). @guard may be NULL. */
struct journal_guard_range *journal_guard_add(struct journal_guard *guard, void *at, size_t len);
/* NULL is fine. */
void journal_guard_remove(struct journal_guard_range *range);

/* Async-signal-safe. Whether @address was in a range: the instruction can be done again. */
bool journal_guard_handle(struct journal_guard *guard, const void *address);

#endif
