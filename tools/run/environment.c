/* SPDX-License-Identifier: MIT */
/*
 * Environments, see environment.h. They are small: a variable is found by looking at all of them.
 */

#include "environment.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* One variable with its name and NUL, as execve(2) takes it: MAX_ARG_STRLEN of the kernel, 32 pages of 4096. */
#define VARIABLE_BYTES_MAX 131072

#define PROPERTY_PREFIX    "IOTHUB_PROPERTY_"

/* What a message may have or not, and what is between systemd and us. IOTHUB_MOUNT is not among them: it is set for
 * every program. */
static const char *const ours[] = {
	"IOTHUB_METHOD",       "IOTHUB_SEQUENCE_NO",      "IOTHUB_ENQUEUED_TIME",  "IOTHUB_DELIVERY_COUNT",
	"IOTHUB_MESSAGE_ID",   "IOTHUB_USER_ID",          "IOTHUB_CORRELATION_ID", "IOTHUB_CREATION_TIME",
	"IOTHUB_CONTENT_TYPE", "IOTHUB_CONTENT_ENCODING", "IOTHUB_PROPERTIES",     "NOTIFY_SOCKET",
};

static bool is_named(const char *variable, const char *name, size_t name_len)
{
	return strncmp(variable, name, name_len) == 0 && variable[name_len] == '=';
}

static bool is_ours(const char *variable)
{
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		if (is_named(variable, ours[i], strlen(ours[i])))
			return true;
	}
	return strncmp(variable, PROPERTY_PREFIX, strlen(PROPERTY_PREFIX)) == 0;
}

/* Room for one more and the NULL. */
static int environment_grow(struct environment *env)
{
	size_t n = env->n_allocated ? 2 * env->n_allocated : 64;
	char **vars;

	if (env->n + 2 <= env->n_allocated)
		return 0;
	vars = reallocarray(env->vars, n, sizeof(*vars));
	if (!vars)
		return -ENOMEM;
	env->vars = vars;
	env->n_allocated = n;
	return 0;
}

/* Takes @variable, also when it fails. */
static int environment_add(struct environment *env, char *variable)
{
	int r = variable ? environment_grow(env) : -ENOMEM;

	if (r < 0) {
		free(variable);
		return r;
	}
	env->vars[env->n++] = variable;
	env->vars[env->n] = NULL;
	return 0;
}

int environment_init(struct environment *env, char *const *vars)
{
	int r;

	*env = (struct environment){.vars = NULL};
	r = environment_grow(env);
	if (r == 0)
		env->vars[0] = NULL;
	for (; r == 0 && vars && *vars; vars++) {
		if (!is_ours(*vars))
			r = environment_add(env, strdup(*vars));
	}
	return r;
}

void environment_deinit(struct environment *env)
{
	for (size_t i = 0; i < env->n; i++)
		free(env->vars[i]);
	free(env->vars);
	*env = (struct environment){.vars = NULL};
}

int environment_set(struct environment *env, const char *name, const char *value, size_t len)
{
	size_t name_len = strlen(name);
	char *variable;

	if (strnlen(value, len) != len)
		return -EINVAL;
	if (name_len + 1 + len + 1 > VARIABLE_BYTES_MAX)
		return -E2BIG;
	variable = malloc(name_len + 1 + len + 1);
	if (!variable)
		return -ENOMEM;
	memcpy(variable, name, name_len);
	variable[name_len] = '=';
	memcpy(variable + name_len + 1, value, len);
	variable[name_len + 1 + len] = '\0';
	for (size_t i = 0; i < env->n; i++) {
		if (is_named(env->vars[i], name, name_len)) {
			free(env->vars[i]);
			env->vars[i] = variable;
			return 0;
		}
	}
	return environment_add(env, variable);
}

static char name_character(char c)
{
	if (c >= 'a' && c <= 'z')
		return (char)(c - 'a' + 'A');
	return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
}

int environment_set_property(struct environment *env, const char *name, const char *value, size_t len)
{
	size_t prefix_len = strlen(PROPERTY_PREFIX), name_len = strlen(name);
	_cleanup_(free_ptr) char *full = malloc(prefix_len + name_len + 1);

	if (!full)
		return -ENOMEM;
	memcpy(full, PROPERTY_PREFIX, prefix_len);
	for (size_t i = 0; i < name_len; i++)
		full[prefix_len + i] = name_character(name[i]);
	full[prefix_len + name_len] = '\0';
	return environment_set(env, full, value, len);
}
