/* SPDX-License-Identifier: MIT */
/*
 * A line of `commands/stream` as iothub-run reads it, on any bytes.
 *
 * Checked beyond "does not crash": a line that is taken gives an environment the kernel takes, with each variable
 * once, or none.
 */

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "tools/run/delivery.h"

#define VARIABLE_BYTES_MAX 131072

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void environment_check(const struct environment *env)
{
	for (size_t i = 0; i < env->n; i++) {
		const char *end = strchr(env->vars[i], '=');

		assert(end && end > env->vars[i]);
		assert(strlen(env->vars[i]) < VARIABLE_BYTES_MAX);
		assert(strncmp(env->vars[i], "IOTHUB_", 7) == 0);
		for (size_t j = 0; j < i; j++)
			assert(strncmp(env->vars[i], env->vars[j], (size_t)(end - env->vars[i]) + 1) != 0);
	}
	assert(!env->vars[env->n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct delivery delivery;
	struct environment env;

	if (delivery_parse(&delivery, BYTES(data, size)) == 0) {
		assert(strlen(delivery.enqueued_time) <= DELIVERY_TIME_MAX);
		assert(delivery.payload.len <= size);
		assert(environment_init(&env, NULL) == 0);
		if (delivery_environment(&delivery, &env) == 0)
			environment_check(&env);
		environment_deinit(&env);
	}
	delivery_deinit(&delivery);
	return 0;
}
