/* SPDX-License-Identifier: MIT */
#ifndef JOURNAL_GUARD_H
#define JOURNAL_GUARD_H

/*
 * A page of a mapped file that cannot be read or written any more (the disk failed, somebody cut the file, there was
 * no space after all) raises SIGBUS. The guard knows the mappings in use: it puts a page of zeros in the place, and
 * whoever used the mapping goes on, and asks afterwards whether that happened. A system call that is given such a page
 * fails with EFAULT instead, and the guard knows nothing of it.
 *
 * main.c owns the guard and calls journal_guard_handle() from its handler of SIGBUS.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Mappings at most: several for each lane. */
#define JOURNAL_GUARD_MAX 8192

struct journal_guard_range {
	uintptr_t at; /* 0 = free */
	size_t len;
	uintptr_t hit_end; /* behind the last page that was replaced, 0 = none */
	bool hit;          /* a page of it was replaced */
};

/* All zeros at first. Any thread may add, remove and handle. */
struct journal_guard {
	size_t page_bytes;
	size_t next; /* place to look at first for a free one */
	struct journal_guard_range ranges[JOURNAL_GUARD_MAX];
};

/* A mapping of @len bytes, removed before it is unmapped. Returns the range, or NULL: no place is left (the mapping is
 * then not guarded, and not to be used). @guard may be NULL. */
struct journal_guard_range *journal_guard_add(struct journal_guard *guard, void *at, size_t len);
/* NULL is fine. */
void journal_guard_remove(struct journal_guard_range *range);

/* Whether a page of it was replaced since the last call. NULL is fine: no. */
bool journal_guard_take_hit(struct journal_guard_range *range);
/* The address behind the last page of it that was ever replaced, 0: none was. NULL is fine: none. */
uintptr_t journal_guard_hit_end(const struct journal_guard_range *range);

/* Async-signal-safe. Whether @address was in a range: the instruction can be done again. */
bool journal_guard_handle(struct journal_guard *guard, const void *address);

#endif
