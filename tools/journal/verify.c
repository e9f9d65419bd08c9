/* SPDX-License-Identifier: MIT */
/*
 * iothub-journal verify: every checksum of every file.
 */

#include <inttypes.h>
#include <stdio.h>

#include "inspect.h"

struct sums {
	uint64_t n_records[WALK_N_STATES];
	uint64_t n_holes;    /* with nothing in them that was promised */
	uint64_t n_damaged;  /* records, as far as one can tell */
	uint64_t n_unusable; /* files */
	uint64_t n_bad_copies;
};

/* Damage that costs nothing: there is another copy. */
static void check_segments(const struct store *store, struct sums *sums)
{
	for (size_t i = 0; i < store->n_segments; ++i) {
		const struct store_segment *segment = &store->segments[i];

		if (segment->has_bad_identity)
			printf("%s: one of the two copies of its identity is damaged\n", segment->name);
		if (segment->has_bad_state)
			printf("%s: one of the two copies of its state is damaged or was not finished\n",
			       segment->name);
		if (segment->file_bytes < segment->identity.size)
			printf("%s: %" PRIu64 " of %" PRIu64 " bytes are there\n", segment->name,
			       segment->file_bytes, segment->identity.size);
		sums->n_bad_copies += segment->has_bad_identity;
	}
}

static void check_files(const struct inspect *inspect, struct sums *sums)
{
	const struct store *store = &inspect->store;

	inspect_complain_files(inspect);
	for (size_t i = 0; i < store->n_bad; ++i)
		sums->n_unusable += store->bad[i].is_damage;
	if (store->n_aside)
		printf("damaged: %zu files were put aside here earlier\n", store->n_aside);
}

static void check_item(const struct walk_item *item, struct sums *sums)
{
	switch (item->kind) {
	case WALK_RECORD:
		sums->n_records[item->state]++;
		break;
	case WALK_HOLE:
		if (!item->size)
			printf("%s: %" PRIu64 " record%s before it %s not there\n", item->segment->name,
			       item->n_gone, item->n_gone == 1 ? "" : "s", item->n_gone == 1 ? "is" : "are");
		sums->n_damaged += item->n_missing;
		sums->n_holes += !item->n_missing;
		break;
	case WALK_UNREADABLE:
		sums->n_damaged += item->n_missing;
		sums->n_unusable++;
		break;
	}
	if (item->kind != WALK_RECORD)
		inspect_complain(item);
}

static void print_sums(const struct store *store, const struct sums *sums)
{
	printf("%-10s %10zu\n%-10s %10zu\n%-10s %10" PRIu64 "\n", "segments", store->n_segments, "spare",
	       store->n_spares, "bytes", store->bytes);
	for (size_t state = 0; state < WALK_N_STATES; ++state)
		printf("%-10s %10" PRIu64 "\n", walk_state_name((enum walk_state)state),
		       sums->n_records[state]);
	printf("%-10s %10" PRIu64 "\n%-10s %10" PRIu64 "\n%-10s %10" PRIu64 "\n%-10s %10" PRIu64 "\n",
	       "holes", sums->n_holes, "damaged", sums->n_damaged, "unusable", sums->n_unusable, "bad-copies",
	       sums->n_bad_copies);
}

static int verify_run(struct inspect *inspect)
{
	struct walk_options options = {.all = true};
	struct sums sums = {.n_holes = 0};
	struct walk_item item;
	struct walk *walk;
	int r = inspect_walk(inspect, &options, &walk);

	if (r)
		return r;
	check_files(inspect, &sums);
	check_segments(&inspect->store, &sums);
	while ((r = walk_next(walk, &item)) > 0)
		check_item(&item, &sums);
	walk_free(walk);
	if (r < 0)
		return inspect_no_memory();
	print_sums(&inspect->store, &sums);
	return sums.n_damaged + sums.n_unusable + sums.n_bad_copies ? INSPECT_FAILED : INSPECT_DONE;
}

const struct inspect_verb inspect_verb_verify = {
	.name = "verify",
	.what = "checks every checksum and counts what there is",
	.help = "Reads everything, tells on standard error where records are missing or damaged, and prints "
		"sums.\n"
		"The exit code is 1 when there is damage. Holes are places of records that were never "
		"finished,\n"
		"or were not stored when the machine stopped: nothing in them was promised to anybody.\n",
	.options = "",
	.run = verify_run,
};
