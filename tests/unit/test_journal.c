/* SPDX-License-Identifier: MIT */
/*
 * The journal's contract: order, contiguity over the wrap, the bound with holds, watermarks.
 */

#include "journal/journal.h"
#include "tests/harness.h"

FIXTURE(journal)
{
	struct journal *j;
};

FIXTURE_SETUP(journal)
{
	ASSERT_EQ(journal_new(&self->j, 64 * 1024), 0);
}

FIXTURE_TEARDOWN(journal)
{
	if (!test_is_orphan())
		journal_free(self->j);
}

static uint8_t pattern(uint64_t sequence, size_t i)
{
	return (uint8_t)(sequence * 131 + i * 7);
}

static int append(struct journal *j, size_t n_properties, size_t n_payload)
{
	uint64_t sequence = journal_appended(j) + 1;
	uint8_t *properties, *payload;
	int r = journal_append(j, sequence ^ 0xabcd, n_properties, n_payload, &properties, &payload);

	if (r)
		return r;
	for (size_t i = 0; i < n_properties; ++i)
		properties[i] = pattern(sequence, i);
	for (size_t i = 0; i < n_payload; ++i)
		payload[i] = pattern(sequence, i + 1000);
	ASSERT_EQ(journal_commit(j), sequence);
	return 0;
}

static void check(struct journal *j, struct journal_cursor at)
{
	struct journal_record record;

	journal_read(j, at, &record);
	ASSERT_EQ(record.sequence, at.sequence);
	ASSERT_EQ(record.origin, at.sequence ^ 0xabcd);
	for (size_t i = 0; i < record.properties.len; ++i)
		ASSERT_EQ(record.properties.data[i], pattern(at.sequence, i));
	for (size_t i = 0; i < record.payload.len; ++i)
		ASSERT_EQ(record.payload.data[i], pattern(at.sequence, i + 1000));
}

TEST_F(journal, starts_empty)
{
	EXPECT_EQ(journal_appended(self->j), 0u);
	EXPECT_EQ(journal_acked(self->j), 0u);
	EXPECT_EQ(journal_n_bytes(self->j), 0u);
	EXPECT_EQ(journal_max_bytes(self->j), 65536u);
	EXPECT_EQ(journal_first(self->j).sequence, 1u);
}

TEST_F(journal, random_appends_and_acks_keep_every_byte)
{
	for (int round = 0; round < 3000; ++round) {
		struct journal_cursor at;
		uint64_t n;

		while (append(self->j, test_random() % 200, test_random() % 3000) == 0 && test_random() % 8)
			;
		at = journal_first(self->j);
		for (uint64_t s = journal_acked(self->j); s < journal_appended(self->j); ++s) {
			check(self->j, at);
			at = journal_next(self->j, at);
		}
		n = test_random() % (journal_appended(self->j) - journal_acked(self->j) + 1);
		for (uint64_t i = 0; i < n; ++i) {
			at = journal_first(self->j);
			journal_mark_sent(self->j, at.sequence);
			journal_mark_acked(self->j, at);
		}
	}
	EXPECT_GT(journal_acked(self->j), 1000u);
}

TEST_F(journal, full_is_enospc_and_changes_nothing)
{
	uint64_t appended, n_bytes;

	while (append(self->j, 10, 1000) == 0)
		;
	appended = journal_appended(self->j);
	n_bytes = journal_n_bytes(self->j);
	EXPECT_LE(n_bytes, 65536u);
	EXPECT_GT(n_bytes, 64000u);
	EXPECT_EQ(append(self->j, 10, 1000), -ENOSPC);
	EXPECT_EQ(journal_appended(self->j), appended);
	EXPECT_EQ(journal_n_bytes(self->j), n_bytes);
	journal_mark_sent(self->j, 1);
	journal_mark_acked(self->j, journal_first(self->j));
	EXPECT_EQ(append(self->j, 10, 1000), 0);
}

TEST_F(journal, has_room_is_a_promise)
{
	for (int i = 0; i < 200; ++i) {
		uint64_t n = test_random() % 4096;
		bool room = journal_has_room(self->j, 1, n);
		int r = append(self->j, n / 2, n - n / 2);

		if (room)
			ASSERT_EQ(r, 0);
	}
	EXPECT_FALSE(journal_has_room(self->j, 1, 65536));
	EXPECT_FALSE(journal_has_room(self->j, UINT64_MAX / 2, 0));
}

TEST_F(journal, held_bytes_are_in_use)
{
	ASSERT_EQ(journal_hold(self->j, 60000), 0);
	EXPECT_EQ(journal_hold(self->j, 6000), -ENOSPC);
	EXPECT_EQ(append(self->j, 0, 6000), -ENOSPC);
	EXPECT_EQ(append(self->j, 0, 5000), 0);
	journal_unhold(self->j, 60000);
	EXPECT_EQ(append(self->j, 0, 50000), 0);
}

TEST_HARNESS_MAIN
