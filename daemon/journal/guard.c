/* SPDX-License-Identifier: MIT */
/*
 * The mappings in use, for the handler of SIGBUS. It looks at all places, which takes microseconds of a fault that waited for a
 * disk.
 *
 * The table is read by a signal handler in the middle of anything, and may be changed by several threads: a place is
 * taken by changing its address from 0, by compare and exchange, to a value that is no mapping's, and it is valid
 * once the address is its own. A mapping stays in the table for as long as anybody uses it, so whoever faults finds
 * its own range whole, whatever happens to the other places meanwhile.
 *
 * The page that is put in place is private and anonymous: what is written there goes nowhere, so a range that was hit
 * is to be given up for writing. Neighbouring pages of that kind become one mapping in the kernel, so a file that
 * was cut as a whole does not use up the mappings of the process.
 *
 * System calls on such a page get EFAULT and no signal: bytes of a mapping are not given to the kernel directly.
 */

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "journal/guard.h"

/* Being filled in: no mapping begins in the first page. */
#define RANGE_TAKEN 1

static bool range_take(struct journal_guard_range *range)
{
	uintptr_t unused = 0;

	return __atomic_load_n(&range->at, __ATOMIC_RELAXED) == 0 &&
	       __atomic_compare_exchange_n(&range->at, &unused, RANGE_TAKEN, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

struct journal_guard_range *journal_guard_add(struct journal_guard *guard, void *at, size_t len)
{
	size_t first;

	if (!guard)
		return NULL;
	__atomic_store_n(&guard->page_bytes, (size_t)sysconf(_SC_PAGESIZE), __ATOMIC_RELAXED);
	/* Behind the one that was taken last there is mostly a free one. */
	first = __atomic_load_n(&guard->next, __ATOMIC_RELAXED);
	for (size_t i = 0; i < JOURNAL_GUARD_MAX; ++i) {
		struct journal_guard_range *range = &guard->ranges[(first + i) % JOURNAL_GUARD_MAX];

		if (!range_take(range))
			continue;
		__atomic_store_n(&guard->next, (first + i + 1) % JOURNAL_GUARD_MAX, __ATOMIC_RELAXED);
		__atomic_store_n(&range->len, len, __ATOMIC_RELAXED);
		__atomic_store_n(&range->hit, false, __ATOMIC_RELAXED);
		__atomic_store_n(&range->hit_end, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&range->at, (uintptr_t)at, __ATOMIC_RELEASE);
		return range;
	}
	return NULL;
}

void journal_guard_remove(struct journal_guard_range *range)
{
	if (!range)
		return;
	__atomic_store_n(&range->len, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&range->at, 0, __ATOMIC_RELEASE);
}

bool journal_guard_take_hit(struct journal_guard_range *range)
{
	return range && __atomic_exchange_n(&range->hit, false, __ATOMIC_ACQ_REL);
}

uintptr_t journal_guard_hit_end(const struct journal_guard_range *range)
{
	return range ? __atomic_load_n(&range->hit_end, __ATOMIC_ACQUIRE) : 0;
}

static void range_note_hit(struct journal_guard_range *range, uintptr_t end)
{
	uintptr_t last = __atomic_load_n(&range->hit_end, __ATOMIC_RELAXED);

	while (last < end && !__atomic_compare_exchange_n(&range->hit_end, &last, end, false,
							  __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	__atomic_store_n(&range->hit, true, __ATOMIC_RELEASE);
}

static struct journal_guard_range *guard_find(struct journal_guard *guard, uintptr_t address)
{
	for (size_t i = 0; i < JOURNAL_GUARD_MAX; ++i) {
		struct journal_guard_range *range = &guard->ranges[i];
		uintptr_t at = __atomic_load_n(&range->at, __ATOMIC_ACQUIRE);
		size_t len = __atomic_load_n(&range->len, __ATOMIC_ACQUIRE);

		/* Twice: the length has to be of that address. */
		if (at > RANGE_TAKEN && address - at < len &&
		    __atomic_load_n(&range->at, __ATOMIC_ACQUIRE) == at)
			return range;
	}
	return NULL;
}

bool journal_guard_handle(struct journal_guard *guard, const void *address)
{
	struct journal_guard_range *range = guard_find(guard, (uintptr_t)address);
	size_t page_bytes = __atomic_load_n(&guard->page_bytes, __ATOMIC_RELAXED);
	int saved_errno = errno;
	uintptr_t page;
	void *map;

	if (!range)
		return false;
	page = (uintptr_t)address & ~(uintptr_t)(page_bytes - 1);
	/* Before the page is there for other threads to see. */
	range_note_hit(range, page + page_bytes);
	map = mmap((void *)page, page_bytes, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE,
		   -1, 0);
	errno = saved_errno;
	return map != MAP_FAILED;
}
