/* SPDX-License-Identifier: MIT */
/*
 * Torn and reordered writes: a machine loses its power after some records were appended and before they were synced.
 *
 * The files are taken after the last commit, and again with what was appended and marked since. Of the 512-byte sectors
 * that differ, any may have reached the disk: all subsets when they are few, else random ones ($IOTHUB_TORN_SAMPLES: how many); and
 * all prefixes, up to a byte. Whatever it is, the journal opens, every record of the commits before is there with its
 * bytes and in order, a record since then is there as it was or not at all, and nothing is called damaged, for nothing
 * was promised.
 */

#include "tests/harness.h"
#include "tests/support/journal_box.h"
#include "tests/support/journal_image.h"

#define SECTOR        512u
#define N_SECTORS_MAX 4096
#define N_SUBSETS_MAX 10 /* sectors of which all subsets are tried */
#define N_NUMBERS     4096

/* One that differs. */
struct sector {
	const char *name;
	size_t offset;
};

/* What has to come out. */
enum fate {
	FATE_UNKNOWN, /* appended since the commit: it may be there */
	FATE_STORED,  /* has to be there */
	FATE_ENDED,   /* since the commit: it may be there, because its end may be lost */
	FATE_DONE,    /* before the commit */
};

FIXTURE(torn)
{
	char dir[128];
	struct journal_box box;
	struct image before;
	struct image after;
	size_t n_old_files; /* of before; behind them are those that were made since, empty */
	struct sector sectors[N_SECTORS_MAX];
	size_t n_sectors;
	enum fate fates[N_NUMBERS];
	uint64_t n_stored; /* the last number of the commit */
	uint64_t n_appended;
	uint64_t n_samples;
	bool goes_on;         /* more is written after the recovery: */
	uint64_t last_number; /* two records up to this number */
	char sample[256];
};

FIXTURE_SETUP(torn)
{
	image_make_dir(self->dir);
	self->box.max_bytes = UINT64_C(64) << 20;
	snprintf(self->box.dir, sizeof(self->box.dir), "%s", self->dir);
	ASSERT_EQ(box_open(&self->box), 0);
}

FIXTURE_TEARDOWN(torn)
{
	if (harness_state.result->n_failed)
		TEST_LOG("sample: %s", self->sample);
	if (!test_is_orphan()) {
		box_close(&self->box);
		image_free(&self->before);
		image_free(&self->after);
	}
	if (self->dir[0])
		image_clear(self->dir);
}

/* --- the two moments -------------------------------------------------------------------------- */

static void append(struct fixture_torn *self, struct journal_lane *lane, size_t len)
{
	ASSERT_EQ(box_append(&self->box, lane, test_random() % 40, len), 0);
	ASSERT_LT(journal_appended(self->box.j), (uint64_t)N_NUMBERS);
}

/* Sends one and ends it. */
static void end_one(struct fixture_torn *self, enum fate fate)
{
	struct journal_cursor at;

	ASSERT_TRUE(box_send(&self->box, &at));
	journal_mark_done(self->box.j, &at);
	self->fates[at.sequence] = fate;
}

/* The files have records up to @n_stored, all of them stored. */
static void note_before(struct fixture_torn *self, uint64_t n_stored)
{
	self->n_stored = n_stored;
	for (uint64_t n = 1; n <= self->n_stored; ++n)
		if (self->fates[n] == FATE_UNKNOWN)
			self->fates[n] = FATE_STORED;
	image_take(&self->before, self->dir);
	self->n_old_files = self->before.n;
}

/* The last commit has ended. */
static void take_before(struct fixture_torn *self)
{
	box_turn(&self->box);
	ASSERT_EQ(box_sync(&self->box), 0);
	note_before(self, journal_appended(self->box.j));
}

/* Sectors of a file that is there at both moments, or later only: then it had nothing but zeros. */
static void compare_file(struct fixture_torn *self, const struct image_file *after)
{
	struct image_file *before = image_find(&self->before, after->name);

	if (!before) {
		before = &self->before.files[self->before.n++];
		ASSERT_LE(self->before.n, (size_t)IMAGE_FILES_MAX);
		*before = (struct image_file){.data = calloc(1, after->len + 1), .len = after->len};
		ASSERT_TRUE(before->data != NULL);
		strcpy(before->name, after->name);
	}
	ASSERT_EQ(before->len, after->len);
	for (size_t at = 0; at < after->len; at += SECTOR) {
		size_t n = after->len - at < SECTOR ? after->len - at : SECTOR;

		if (memcmp(before->data + at, after->data + at, n) == 0)
			continue;
		ASSERT_LT(self->n_sectors, (size_t)N_SECTORS_MAX);
		self->sectors[self->n_sectors++] = (struct sector){after->name, at};
	}
}

/* Nothing was synced since. */
static void take_after(struct fixture_torn *self)
{
	box_turn(&self->box);
	self->n_appended = journal_appended(self->box.j);
	image_take(&self->after, self->dir);
	box_close(&self->box);
	for (size_t i = 0; i < self->after.n; ++i)
		compare_file(self, &self->after.files[i]);
	ASSERT_GT(self->n_sectors, 0u);
}

/* --- samples ---------------------------------------------------------------------------------- */

/* @n bytes of the sector reach the disk. */
static void sector_apply(struct fixture_torn *self, struct image *image, size_t i, size_t n)
{
	const struct sector *sector = &self->sectors[i];
	struct image_file *to = image_find(image, sector->name);
	const struct image_file *from = image_find(&self->after, sector->name);

	n = to->len - sector->offset < n ? to->len - sector->offset : n;
	memcpy(to->data + sector->offset, from->data + sector->offset, n);
}

static void check_record(struct fixture_torn *self, const struct journal_cursor *at, uint64_t last[static 10])
{
	struct journal_lane_key key;

	journal_lane_key(at->lane, &key);
	ASSERT_LE(at->sequence, self->n_appended + (self->goes_on ? 2 : 0));
	ASSERT_GT(at->sequence, last[key.priority]);
	ASSERT_TRUE(self->fates[at->sequence] != FATE_DONE);
	last[key.priority] = at->sequence;
}

/* What comes after the recovery is stored like everything else, and a kill changes nothing. Numbers of records that were
 * lost are given again. */
static void go_on(struct fixture_torn *self)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	struct image killed;

	ASSERT_EQ(box_append(&self->box, lane, 10, 100), 0);
	ASSERT_EQ(box_append(&self->box, lane, 10, 700), 0);
	ASSERT_EQ(box_sync(&self->box), 0);
	self->last_number = journal_appended(self->box.j);
	image_take(&killed, self->dir);
	box_close(&self->box);
	image_put(&killed, self->dir);
	image_free(&killed);
	ASSERT_EQ(box_open(&self->box), 0);
}

static void check(struct fixture_torn *self, const struct image *image)
{
	uint64_t last[10] = {0}, n_come = 0, n_stored = 0, n_new = 0;
	struct journal_stats stats;
	struct journal_cursor at;

	image_put(image, self->dir);
	ASSERT_EQ(box_open(&self->box), 0);
	if (self->goes_on)
		go_on(self);
	while (box_send(&self->box, &at)) {
		check_record(self, &at, last);
		n_come += self->fates[at.sequence] == FATE_STORED;
		n_new += self->goes_on && at.sequence + 1 >= self->last_number;
		journal_mark_done(self->box.j, &at);
	}
	for (uint64_t n = 1; n <= self->n_stored; ++n)
		n_stored += self->fates[n] == FATE_STORED;
	journal_stats(self->box.j, &stats);
	box_close(&self->box);
	ASSERT_EQ(n_come, n_stored);
	ASSERT_EQ(n_new, self->goes_on ? 2u : 0u);
	ASSERT_EQ(stats.n_damaged, 0u);
	++self->n_samples;
}

static void try_all_subsets(struct fixture_torn *self)
{
	for (uint64_t subset = 0; subset < UINT64_C(1) << self->n_sectors; ++subset) {
		struct image image;

		snprintf(self->sample, sizeof(self->sample), "sectors %#" PRIx64 " of %zu", subset,
			 self->n_sectors);
		image_copy(&image, &self->before);
		for (size_t i = 0; i < self->n_sectors; ++i)
			if (subset >> i & 1)
				sector_apply(self, &image, i, SECTOR);
		check(self, &image);
		image_free(&image);
	}
}

/* Files that were made since may be missing, too. */
static void drop_new_files(struct fixture_torn *self, struct image *image)
{
	while (image->n > self->n_old_files && test_random() % 8 == 0)
		free(image->files[--image->n].data);
}

/* Each sector with the same chance, another one for each sample: few of them, half, nearly all. */
static void try_random_subsets(struct fixture_torn *self)
{
	uint64_t n = image_samples("IOTHUB_TORN_SAMPLES", 250);

	for (uint64_t k = 0; k < n; ++k) {
		uint64_t chance = 1 + test_random() % 99;
		struct image image;

		snprintf(self->sample, sizeof(self->sample), "random subset %" PRIu64 ", %" PRIu64 " %%", k,
			 chance);
		image_copy(&image, &self->before);
		for (size_t i = 0; i < self->n_sectors; ++i)
			if (test_random() % 100 < chance)
				sector_apply(self, &image, i, SECTOR);
		drop_new_files(self, &image);
		check(self, &image);
		image_free(&image);
	}
}

/* The sectors in their order, up to one of which @step, 2 * @step, … bytes came. */
static void try_prefixes(struct fixture_torn *self, size_t step)
{
	struct image image;

	image_copy(&image, &self->before);
	for (size_t i = 0; i < self->n_sectors; ++i)
		for (size_t n = 0; n < SECTOR; n += step) {
			size_t whole = n + step < SECTOR ? n + step : SECTOR;

			snprintf(self->sample, sizeof(self->sample), "%zu sectors and %zu bytes", i, whole);
			sector_apply(self, &image, i, whole);
			check(self, &image);
		}
	image_free(&image);
}

static void try_everything(struct fixture_torn *self)
{
	size_t step = image_samples("IOTHUB_TORN_SAMPLES", 0) ? 1 : 64;

	if (self->n_sectors <= N_SUBSETS_MAX)
		try_all_subsets(self);
	else
		try_random_subsets(self);
	/* With many sectors a step is one of them. */
	try_prefixes(self, self->n_sectors > 8 * N_SUBSETS_MAX ? SECTOR : step);
	TEST_LOG("%zu sectors differ: %" PRIu64 " samples", self->n_sectors, self->n_samples);
}

/* --- commits ---------------------------------------------------------------------------------- */

/* A few small records behind others, in one lane; some were sent and ended in the same time. */
TEST_F_TIMEOUT(torn, small_commit, 1200)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	for (int i = 0; i < 20; ++i)
		append(self, lane, test_random() % 300);
	end_one(self, FATE_DONE);
	take_before(self);
	for (int i = 0; i < 6; ++i)
		append(self, lane, 100 + test_random() % 400);
	end_one(self, FATE_ENDED);
	end_one(self, FATE_ENDED);
	take_after(self);
	ASSERT_LE(self->n_sectors, (size_t)N_SUBSETS_MAX);
	try_everything(self);
}

/* The same, and then life goes on. */
TEST_F_TIMEOUT(torn, and_more_is_written, 1200)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	for (int i = 0; i < 20; ++i)
		append(self, lane, test_random() % 300);
	take_before(self);
	for (int i = 0; i < 6; ++i)
		append(self, lane, 100 + test_random() % 400);
	take_after(self);
	self->goes_on = true;
	try_everything(self);
}

/* Behind what an earlier daemon had stored. */
TEST_F_TIMEOUT(torn, after_a_restart, 1200)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	for (int i = 0; i < 20; ++i)
		append(self, lane, test_random() % 300);
	box_close(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
	lane = box_lane(&self->box, 0, 5, 0);
	for (int i = 0; i < 4; ++i)
		append(self, lane, test_random() % 300);
	take_before(self);
	for (int i = 0; i < 6; ++i)
		append(self, lane, 100 + test_random() % 400);
	take_after(self);
	try_everything(self);
}

/* Behind the end that an earlier daemon wrote: that it is none any more may be lost, too. */
TEST_F_TIMEOUT(torn, behind_an_end, 1200)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	for (int i = 0; i < 20; ++i)
		append(self, lane, test_random() % 300);
	box_close(&self->box);
	note_before(self, 20);
	ASSERT_EQ(box_open(&self->box), 0);
	lane = box_lane(&self->box, 0, 5, 0);
	for (int i = 0; i < 6; ++i)
		append(self, lane, 100 + test_random() % 400);
	take_after(self);
	self->goes_on = true;
	try_everything(self);
}

/* Of two lanes, each in its own file. */
TEST_F_TIMEOUT(torn, two_lanes, 1200)
{
	struct journal_lane *lanes[2] = {box_lane(&self->box, 0, 5, 0), box_lane(&self->box, 1, 5, 0)};

	for (int i = 0; i < 20; ++i)
		append(self, lanes[i % 2], test_random() % 300);
	take_before(self);
	for (int i = 0; i < 16; ++i)
		append(self, lanes[test_random() % 2], test_random() % 150);
	take_after(self);
	try_everything(self);
}

/* Over the end of a segment, into one that nobody had synced. */
TEST_F_TIMEOUT(torn, into_a_new_segment, 1200)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	for (int i = 0; i < 100; ++i)
		append(self, lane, 400 + test_random() % 100);
	take_before(self);
	for (int i = 0; i < 60; ++i)
		append(self, lane, 400 + test_random() % 100);
	take_after(self);
	try_everything(self);
}

/* Into a segment that was used before: what is not written is a record of an earlier use. */
TEST_F_TIMEOUT(torn, into_a_used_segment, 1200)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);
	struct journal_lane *other = box_lane(&self->box, 1, 5, 0);

	for (int round = 0; round < 4; ++round) {
		for (int i = 0; i < 120; ++i)
			append(self, lane, 400 + test_random() % 100);
		for (int i = 0; i < 120; ++i)
			end_one(self, FATE_DONE);
		ASSERT_EQ(box_sync(&self->box), 0);
	}
	append(self, other, 100);
	take_before(self);
	for (int i = 0; i < 12; ++i)
		append(self, i % 2 ? lane : other, test_random() % 300);
	take_after(self);
	try_everything(self);
}

/* One record of many sectors. */
TEST_F_TIMEOUT(torn, a_long_record, 1200)
{
	struct journal_lane *lane = box_lane(&self->box, 0, 5, 0);

	append(self, lane, 100);
	take_before(self);
	append(self, lane, 12000);
	append(self, lane, 1);
	take_after(self);
	try_everything(self);
}

TEST_HARNESS_MAIN
