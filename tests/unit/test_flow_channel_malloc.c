/* SPDX-License-Identifier: MIT */
/*
 * Allocations that fail, one after the other, in everything that changes a channel: it was changed, or it is as it was,
 * and it is ready for the next message either way.
 */

#include <errno.h>

#include "base/cleanup.h"
#include "flow/channel_internal.h"
#include "tests/harness.h"
#include "tools/bench/preload/allocator.h"

/* The call that fails, counted down; 0 = none. */
static uint64_t fail_in;

bool allocator_fails(const void *caller)
{
	(void)caller;
	return fail_in && --fail_in == 0;
}

FIXTURE(failing)
{
	struct loop *loop;
	struct journal *journal;
	struct channels *channels;
	struct channel *channel;
	char dir[64];
};

FIXTURE_SETUP(failing)
{
	struct journal_options journal = {.dir = self->dir, .is_volatile = true, .max_bytes = 1 << 20};
	struct channels_options channels = {.run = 1};

	SKIP_IF(!ALLOCATOR_ASKS, "the sanitizer has an allocator of its own");
	snprintf(self->dir, sizeof(self->dir), "/tmp/test-channel.XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir));
	ASSERT_EQ(loop_new(&self->loop, &(struct loop_options){.log = NULL}), 0);
	journal.loop = self->loop;
	ASSERT_EQ(journal_new(&self->journal, &journal), 0);
	channels.loop = self->loop;
	channels.journal = self->journal;
	ASSERT_EQ(channels_new(&self->channels, &channels), 0);
	ASSERT_EQ(channels_add(self->channels, "a", &self->channel), 0);
	ASSERT_EQ(channel_set_property(self->channel, "x", BYTES_LIT("1")), 0);
	ASSERT_EQ(channel_set_property(self->channel, "y", BYTES_LIT("2")), 0);
	ASSERT_EQ(channel_set_text(self->channel, CHANNEL_TEXT_USER_ID, BYTES_LIT("u")), 0);
}

FIXTURE_TEARDOWN(failing)
{
	char command[96];

	if (!test_is_orphan() && self->channels) {
		channels_free(self->channels);
		journal_stop(self->journal);
		do
			ASSERT_EQ(loop_turn(self->loop, 0), 0);
		while (loop_n_in_flight(self->loop));
		journal_free(self->journal);
		loop_free(self->loop);
	}
	snprintf(command, sizeof(command), "rm -rf '%s'", self->dir);
	if (self->dir[0])
		ASSERT_EQ(system(command), 0);
}

/* --- what is compared ------------------------------------------------------------------------- */

/* All that is kept, and what the next message gets. */
struct state {
	char text[1024];
	uint8_t stamp[512];
	size_t stamp_len;
	struct journal_lane *lane;
};

static void state_take(struct fixture_failing *self, struct state *out)
{
	_cleanup_(free_ptr) uint8_t *file = NULL;
	size_t len;

	*out = (struct state){.lane = self->channel->lane, .stamp_len = stamp_len(&self->channel->stamp)};
	ASSERT_EQ(channels_encode(self->channels, &file, &len), 0);
	ASSERT_LT(len, sizeof(out->text));
	memcpy(out->text, file, len);
	ASSERT_LE(out->stamp_len, sizeof(out->stamp));
	stamp_put(&self->channel->stamp, 1, 1, out->stamp);
}

static bool state_equal(const struct state *a, const struct state *b)
{
	return strcmp(a->text, b->text) == 0 && a->stamp_len == b->stamp_len && a->lane == b->lane &&
	       memcmp(a->stamp, b->stamp, a->stamp_len) == 0;
}

/* --- changes, each another one than before ---------------------------------------------------- */

static int change_text(struct fixture_failing *self)
{
	return channel_set_text(self->channel, CHANNEL_TEXT_CONTENT_TYPE, BYTES_LIT("text/plain"));
}

static int change_empty(struct fixture_failing *self)
{
	return channel_set_text(self->channel, CHANNEL_TEXT_USER_ID, BYTES_LIT(""));
}

static int change_add(struct fixture_failing *self)
{
	return channel_set_property(self->channel, "z", BYTES_LIT("3"));
}

static int change_replace(struct fixture_failing *self)
{
	return channel_set_property(self->channel, "x", BYTES_LIT("4"));
}

static int change_rename(struct fixture_failing *self)
{
	return channel_rename_property(self->channel, "x", "w");
}

static int change_rename_over(struct fixture_failing *self)
{
	return channel_rename_property(self->channel, "w", "y");
}

static int change_remove(struct fixture_failing *self)
{
	return channel_remove_property(self->channel, "y");
}

static int change_ttl(struct fixture_failing *self)
{
	return channel_set_ttl(self->channel, 60);
}

static int change_priority(struct fixture_failing *self)
{
	return channel_set_priority(self->channel, 1);
}

static int change_channels(struct fixture_failing *self)
{
	struct channel *channel;

	return channels_add(self->channels, "b", &channel);
}

TEST_F(failing, changes)
{
	static int (*const changes[])(struct fixture_failing * self) = {
		change_text,        change_empty,  change_add, change_replace,  change_rename,
		change_rename_over, change_remove, change_ttl, change_priority, change_channels,
	};

	for (size_t i = 0; i < ARRAY_SIZE(changes); ++i) {
		struct state before, after;
		uint64_t left = 0;
		unsigned int n = 0;
		int r;

		state_take(self, &before);
		/* Until one goes through without having met the failure. */
		do {
			fail_in = ++n;
			r = changes[i](self);
			left = fail_in;
			fail_in = 0;
			state_take(self, &after);
			if (r) {
				ASSERT_EQ(r, -ENOMEM);
				ASSERT_TRUE(state_equal(&before, &after));
			}
		} while (r && !left);
		ASSERT_EQ(r, 0);
		EXPECT_FALSE(state_equal(&before, &after));
		EXPECT_GT(n, 1u);
	}
}

TEST_F(failing, what_is_kept)
{
	_cleanup_(free_ptr) uint8_t *file = NULL;
	size_t len;
	unsigned int n = 0;
	int r;

	do {
		fail_in = ++n;
		r = channels_encode(self->channels, &file, &len);
		fail_in = 0;
		if (r)
			ASSERT_EQ(r, -ENOMEM);
	} while (r);
	EXPECT_GT(n, 1u);
	ASSERT_EQ(channels_decode(self->channels, BYTES(file, len)), 0);
}

TEST_HARNESS_MAIN
