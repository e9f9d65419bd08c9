/* SPDX-License-Identifier: MIT */
/*
 * Bit rot: one bit of one file of a journal is flipped, at random, then the journal is opened and emptied.
 *
 * It opens always. Nothing comes out but what went in, in order. At most one record is missing, and then it is counted
 * and its bytes are in damaged/. $IOTHUB_FLIPS: how many flips; each is one of a journal that was closed, or killed.
 */

#include "tests/harness.h"
#include "tests/support/journal_box.h"
#include "tests/support/journal_image.h"

#define N_LANES   4
#define N_RECORDS 900

/* What became of a record before the journal was left. */
enum fate {
	FATE_QUEUED,
	FATE_DONE,
	FATE_WITHDRAWN,
};

FIXTURE(bitrot)
{
	char dir[128];
	struct journal_box box;
	struct image closed;
	struct image killed;
	enum fate fates[N_RECORDS + 1]; /* by number */
	bool is_seen[N_RECORDS + 1];
	char sample[256];
};

FIXTURE_SETUP(bitrot)
{
	image_make_dir(self->dir);
	self->box.max_bytes = UINT64_C(64) << 20;
	snprintf(self->box.dir, sizeof(self->box.dir), "%s", self->dir);
	ASSERT_EQ(box_open(&self->box), 0);
}

FIXTURE_TEARDOWN(bitrot)
{
	if (harness_state.result->n_failed)
		TEST_LOG("sample: %s", self->sample);
	if (!test_is_orphan()) {
		box_close(&self->box);
		image_free(&self->closed);
		image_free(&self->killed);
	}
	if (self->dir[0])
		image_clear(self->dir);
}

/* Four lanes of three priorities, one of them of several segments; of what was sent, every third one is not done. */
static void fill(struct fixture_bitrot *self)
{
	struct journal_lane *lanes[N_LANES] = {
		box_lane(&self->box, 0, 5, 0),
		box_lane(&self->box, 1, 5, 0),
		box_lane(&self->box, 2, 0, 0),
		box_lane(&self->box, 2, 9, 1000000),
	};
	struct journal_cursor at;

	for (uint64_t n = 1; n <= N_RECORDS; ++n) {
		size_t len = test_random() % 8 ? test_random() % 300 : test_random() % 3000;

		ASSERT_EQ(box_append(&self->box, lanes[test_random() % 2 ? 0 : test_random() % N_LANES],
				     test_random() % 60, len),
			  0);
		if (n % 10 == 0)
			ASSERT_EQ(box_sync(&self->box), 0);
		if (n > N_RECORDS / 3)
			continue;
		ASSERT_TRUE(box_send(&self->box, &at));
		if (at.sequence % 3 == 0)
			continue;
		journal_mark_done(self->box.j, &at);
		self->fates[at.sequence] = FATE_DONE;
	}
	for (int i = 0; i < 20; ++i)
		if (journal_find(lanes[i % N_LANES], N_RECORDS - (uint64_t)i, &at)) {
			journal_withdraw(self->box.j, &at);
			self->fates[at.sequence] = FATE_WITHDRAWN;
		}
	box_turn(&self->box);
	ASSERT_EQ(box_sync(&self->box), 0);
	image_take(&self->killed, self->dir);
	box_close(&self->box);
	image_take(&self->closed, self->dir);
}

/* Empties the journal; each record's bytes are checked on the way. Returns how many did not come that should have. */
static unsigned int drain(struct fixture_bitrot *self)
{
	uint64_t last[10] = {0};
	unsigned int n_missing = 0;
	struct journal_cursor at;

	memset(self->is_seen, 0, sizeof(self->is_seen));
	while (box_send(&self->box, &at)) {
		struct journal_lane_key key;

		journal_lane_key(at.lane, &key);
		ASSERT_LE(at.sequence, (uint64_t)N_RECORDS);
		ASSERT_GT(at.sequence, last[key.priority]);
		ASSERT_TRUE(self->fates[at.sequence] != FATE_WITHDRAWN);
		last[key.priority] = at.sequence;
		self->is_seen[at.sequence] = true;
		journal_mark_done(self->box.j, &at);
	}
	for (size_t n = 1; n <= N_RECORDS; ++n)
		n_missing += self->fates[n] == FATE_QUEUED && !self->is_seen[n];
	return n_missing;
}

/* One sample. Returns whether the record that was hit is missing. */
static bool flip_one(struct fixture_bitrot *self, struct image *image)
{
	struct image_file *file = &image->files[test_random() % image->n];
	uint64_t bit = test_random() % (8 * file->len);
	struct journal_stats stats;
	unsigned int n_missing;

	/* Most of a file is what was never written: half of the flips are where something is. */
	if (test_random() % 2)
		while (!file->data[bit / 8])
			bit = test_random() % (8 * file->len);
	snprintf(self->sample, sizeof(self->sample), "%s journal, bit %" PRIu64 " of byte %" PRIu64 " of %s",
		 image == &self->closed ? "closed" : "killed", bit % 8, bit / 8, file->name);
	file->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	image_put(image, self->dir);
	file->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	ASSERT_EQ(box_open(&self->box), 0);
	n_missing = drain(self);
	journal_stats(self->box.j, &stats);
	box_close(&self->box);
	ASSERT_LE(n_missing, 1u);
	ASSERT_LE(stats.n_damaged, 1u);
	ASSERT_GE(stats.n_damaged, (uint64_t)n_missing);
	ASSERT_EQ(image_count(self->dir, "damaged"), stats.n_damaged);
	return n_missing;
}

TEST_F(bitrot, nothing_was_flipped)
{
	struct journal_stats stats;

	fill(self);
	for (int i = 0; i < 2; ++i) {
		image_put(i ? &self->closed : &self->killed, self->dir);
		ASSERT_EQ(box_open(&self->box), 0);
		EXPECT_EQ(drain(self), 0u);
		for (size_t n = 1; n <= N_RECORDS; ++n)
			EXPECT_EQ(self->is_seen[n], self->fates[n] == FATE_QUEUED);
		journal_stats(self->box.j, &stats);
		EXPECT_EQ(stats.n_damaged, 0u);
		box_close(&self->box);
	}
}

TEST_F_TIMEOUT(bitrot, one_bit, 1200)
{
	uint64_t n = image_samples("IOTHUB_FLIPS", 300), n_lost = 0;

	fill(self);
	for (uint64_t i = 0; i < n; ++i)
		n_lost += flip_one(self, i % 2 ? &self->closed : &self->killed);
	TEST_LOG("%" PRIu64 " flips: 0 wrong records, %" PRIu64 " lost and counted, 0 failed starts", n,
		 n_lost);
	EXPECT_GT(n_lost, 0u);
}

TEST_HARNESS_MAIN
