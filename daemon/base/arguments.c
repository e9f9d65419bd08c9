/* SPDX-License-Identifier: MIT */
/*
 * Values of command lines, see arguments.h.
 */

#include "base/arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "iothub.h"

#define SECONDS_MAX 1000000

int argument_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *out >= min && *out <= max ? 0 : -EINVAL;
}

int argument_seconds(const char *text, uint64_t *out_ns)
{
	double seconds;
	char *end;

	if (text[strspn(text, "0123456789.")])
		return -EINVAL;
	errno = 0;
	seconds = strtod(text, &end);
	if (end == text || *end || errno || seconds > SECONDS_MAX)
		return -EINVAL;
	*out_ns = (uint64_t)(seconds * (double)NSEC_PER_SEC);
	return *out_ns ? 0 : -EINVAL;
}

int argument_mount_dir(char **out)
{
	const char *given = getenv("IOTHUB_MOUNT"), *runtime = getenv("XDG_RUNTIME_DIR");

	if (given && *given)
		*out = strdup(given);
	else if (geteuid() == 0)
		*out = strdup(IOTHUB_MOUNT_DIR);
	else if (!runtime || !*runtime)
		return -ENOENT;
	else if (asprintf(out, "%s/" IOTHUB_MOUNT_DIR_USER, runtime) < 0)
		*out = NULL;
	return *out ? 0 : -ENOMEM;
}
