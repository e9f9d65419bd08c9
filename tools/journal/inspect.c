/* SPDX-License-Identifier: MIT */
/*
 * What the commands have in common, see inspect.h.
 */

#include "inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int inspect_no_memory(void)
{
	fputs("iothub-journal: out of memory\n", stderr);
	return INSPECT_FAILED;
}

static uint64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int inspect_walk(struct inspect *inspect, const struct walk_options *options, struct walk **out)
{
	struct walk_options all = *options;

	all.guard = inspect->guard;
	all.now_ms = wall_ms();
	return walk_new(out, &inspect->store, &all) < 0 ? inspect_no_memory() : 0;
}

bool inspect_complain(const struct walk_item *item)
{
	const char *name = item->segment->name;

	if (item->kind == WALK_UNREADABLE) {
		fprintf(stderr, "iothub-journal: %s: %s\n", name, strerror(-item->error));
		return true;
	}
	if (item->kind != WALK_HOLE || !item->n_missing)
		return false;
	fprintf(stderr,
		"iothub-journal: %s: %" PRIu64 " records are damaged, in %" PRIu64 " bytes at %" PRIu64 "\n",
		name, item->n_missing, item->size, item->offset);
	return true;
}

static int say_store(const struct inspect *inspect, int r)
{
	fprintf(stderr, "iothub-journal: %s: %s%s\n", inspect->dir, strerror(-r),
		r == -EACCES ? "; only root and the user of iothubd may read it" : "");
	return r == -ENOENT ? INSPECT_NOT_THERE : INSPECT_FAILED;
}

int inspect_run(struct inspect *inspect)
{
	int code = inspect_find(inspect), r;

	if (code)
		return code;
	r = store_open(&inspect->store, inspect->dir);
	return r < 0 ? say_store(inspect, r) : inspect->verb->run(inspect);
}
