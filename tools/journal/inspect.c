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

#include "message.h"

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
	const char *name = item->segment->name, *at_least = item->is_at_least ? "at least " : "";
	const char *are = item->n_missing == 1 ? " is" : "s are";

	if (item->kind == WALK_UNREADABLE) {
		fprintf(stderr, "iothub-journal: %s: %s", name, strerror(-item->error));
		if (!item->is_at_least)
			fprintf(stderr, "; %" PRIu64 " record%s in it", item->n_missing, are);
		fputc('\n', stderr);
		return true;
	}
	if (item->kind != WALK_HOLE || !item->n_missing)
		return false;
	fprintf(stderr,
		"iothub-journal: %s: %s%" PRIu64 " record%s damaged, in %" PRIu64 " bytes at %" PRIu64 "\n",
		name, at_least, item->n_missing, are, item->size, item->offset);
	return true;
}

bool inspect_complain_files(const struct inspect *inspect)
{
	const struct store *store = &inspect->store;
	bool is_damaged = false;

	for (size_t i = 0; i < store->n_bad; ++i) {
		const struct store_bad *bad = &store->bad[i];

		is_damaged |= bad->is_damage;
		if (bad->is_damage || inspect->part == INSPECT_SEGMENTS ||
		    inspect->verb == &inspect_verb_verify)
			fprintf(stderr, "iothub-journal: %s: %s\n", bad->name, bad->why);
	}
	return is_damaged;
}

bool inspect_wants(struct inspect *inspect, const char *channel)
{
	bool is_wanted = !inspect->channel || strcmp(inspect->channel, channel) == 0;

	inspect->is_channel_there |= is_wanted;
	return is_wanted;
}

/* Records of a channel can be done with, so that none of them is looked at. */
static bool is_channel_there(struct inspect *inspect)
{
	for (size_t i = 0; i < inspect->store.n_segments; ++i) {
		char channel[MESSAGE_CHANNEL_SIZE];

		message_channel(&inspect->store.segments[i], channel);
		inspect_wants(inspect, channel);
	}
	return inspect->is_channel_there;
}

static int say_store(const struct inspect *inspect, int r)
{
	fprintf(stderr, "iothub-journal: %s: %s%s\n", inspect->dir, strerror(-r),
		r == -EACCES ? "; only root and the user of iothubd may read it" : "");
	return r == -ENOENT || r == -ENOTDIR ? INSPECT_NOT_THERE : INSPECT_FAILED;
}

int inspect_run(struct inspect *inspect)
{
	int code = inspect_find(inspect), r;

	if (code)
		return code;
	r = store_open(&inspect->store, inspect->dir);
	if (r < 0)
		return say_store(inspect, r);
	if (!inspect->store.is_journal)
		return inspect_say_no_journal(inspect);
	code = inspect->verb->run(inspect);
	if (code != INSPECT_DONE || !inspect->channel || is_channel_there(inspect))
		return code;
	fprintf(stderr, "iothub-journal: there is no channel %s in the journal\n", inspect->channel);
	return INSPECT_NOT_THERE;
}
