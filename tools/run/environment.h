/* SPDX-License-Identifier: MIT */
#ifndef RUN_ENVIRONMENT_H
#define RUN_ENVIRONMENT_H

/*
 * The environment of a program: ours, less what only we say, and what is added.
 */

#include <stddef.h>

struct environment {
	char **vars; /* `NAME=value`, ends with NULL; to be handed to execve(2) */
	size_t n;
	size_t n_allocated;
};

/*
 * Copies @vars (as environ(7); NULL is none) without the variables that are ours to set: what a message does not
 * have must not be there from elsewhere. Returns 0 or -ENOMEM; environment_deinit() in any case.
 */
int environment_init(struct environment *env, char *const *vars);
/* Idempotent. */
void environment_deinit(struct environment *env);

/* Sets a variable, in place of one of that name. Returns 0, -ENOMEM, -E2BIG (longer than the kernel takes),
 * -EINVAL (a NUL among the @len bytes). */
int environment_set(struct environment *env, const char *name, const char *value, size_t len);

/* Sets IOTHUB_PROPERTY_<name>: letters become capitals, and what is no letter, digit or `_` becomes `_`. Of several
 * properties that become the same the last stays. Returns as environment_set(). */
int environment_set_property(struct environment *env, const char *name, const char *value, size_t len);

#endif
