/* SPDX-License-Identifier: MIT */
/*
 * Counts calls of the allocator, for LD_PRELOAD: those of the program itself and those of its libraries. The
 * two numbers stand as eight bytes each, in the machine's order, in the file that $BENCH_MALLOC_COUNT names,
 * so that they can be read while the program runs.
 */

#include "allocator.h"

struct counts {
	uint64_t own;
	uint64_t libraries;
};

static struct counts before_init;
static struct counts *counts = &before_init;
static struct allocator_program program;

__attribute__((constructor)) static void map_counts(void)
{
	struct counts *map = allocator_map("BENCH_MALLOC_COUNT", sizeof(*map));

	allocator_find_program(&program);
	if (map)
		counts = map;
}

bool allocator_fails(const void *caller)
{
	__atomic_add_fetch(allocator_is_own(&program, caller) ? &counts->own : &counts->libraries, 1,
			   __ATOMIC_RELAXED);
	return false;
}
