/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CRASH_PRELOAD_FAIL_MALLOC_H
#define TESTS_CRASH_PRELOAD_FAIL_MALLOC_H

/*
 * The file that $FAIL_MALLOC_FILE names, mapped by the program that runs with fail_malloc.so and by the test that watches it.
 */

#include <stdint.h>

#define FAIL_MALLOC_FRAMES 24

/* For addr2line(1). */
struct fail_malloc_frame {
	uint64_t at;     /* the place in the object below */
	char object[40]; /* its name without directories; "" = the program itself */
};

struct fail_malloc {
	uint64_t n_calls;     /* malloc(), calloc() and realloc() since the program started */
	uint64_t n_own;       /* of them by the program itself, not its libraries */
	uint64_t fail_at;     /* the call with this number fails, the first is 1; 0 = none */
	uint64_t fail_own_at; /* likewise, of the program's own */
	uint64_t n_failed;
	struct fail_malloc_frame frames[FAIL_MALLOC_FRAMES]; /* of the one that failed, innermost first */
	uint64_t n_frames;
};

#endif
