/* SPDX-License-Identifier: MIT */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

/*
 * Scope cleanup: `_cleanup_(free_ptr) char *s = NULL;`. Every helper accepts the empty value (NULL, -1).
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((__cleanup__(fn)))

/* Defines `name_ptr(T *)` for use with _cleanup_ from a destructor `name(T)` that accepts NULL. */
#define DEFINE_CLEANUP(type, name)                                                                           \
	static inline void name##_ptr(type *p)                                                               \
	{                                                                                                    \
		if (*p)                                                                                      \
			name(*p);                                                                            \
	}

static inline void free_ptr(void *p)
{
	free(*(void **)p);
}

static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

DEFINE_CLEANUP(FILE *, fclose)

/* Hands the value of a _cleanup_ variable to somebody else: the variable becomes NULL. */
#define TAKE_PTR(p)                                                                                          \
	({                                                                                                   \
		__typeof__(p) _taken = (p);                                                                  \
		(p) = NULL;                                                                                  \
		_taken;                                                                                      \
	})

#define TAKE_FD(fd)                                                                                          \
	({                                                                                                   \
		int _taken = (fd);                                                                           \
		(fd) = -1;                                                                                   \
		_taken;                                                                                      \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
