/* SPDX-License-Identifier: MIT */
/*
 * A journal for tests, see journal_box.h.
 */

#include <stdio.h>

#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"

static void box_on_stored(void *userdata, uint64_t sequence, int error)
{
	struct journal_box *box = userdata;

	++box->n_stored;
	box->stored = sequence;
	box->stored_error = error;
}

static void box_on_room(void *userdata)
{
	struct journal_box *box = userdata;

	++box->n_room;
}

static void box_on_lost(void *userdata, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	struct journal_box *box = userdata;

	++box->n_lost;
	box->lost_lane = lane;
	box->lost_first = first;
	box->lost_last = last;
}

static void box_on_event(void *userdata, const char *event, const char *text)
{
	struct journal_box *box = userdata;
	size_t len = strlen(box->events);

	(void)text;
	snprintf(box->events + len, sizeof(box->events) - len, "%s ", event);
}

void box_init(struct journal_box *box)
{
	*box = (struct journal_box){.max_bytes = UINT64_C(64) << 20};
	strcpy(box->dir, "/tmp/test-journal.XXXXXX");
	ASSERT_TRUE(mkdtemp(box->dir));
}

int box_open(struct journal_box *box)
{
	static const struct journal_ops ops = {
		.on_stored = box_on_stored,
		.on_room = box_on_room,
		.on_lost = box_on_lost,
		.on_event = box_on_event,
	};
	const struct loop_options loop_options = {.log = NULL};
	struct journal_options options = {
		.dir = box->dir,
		.is_volatile = box->is_volatile,
		.max_bytes = box->max_bytes,
		.guard = box->guard,
		.ops = &ops,
		.userdata = box,
	};
	int r;

	ASSERT_EQ(loop_new(&box->loop, &loop_options), 0);
	options.loop = box->loop;
	r = journal_new(&box->j, &options);
	if (r) {
		loop_free(box->loop);
		box->loop = NULL;
	}
	return r;
}

void box_close(struct journal_box *box)
{
	if (!box->loop)
		return;
	journal_stop(box->j);
	while (loop_n_in_flight(box->loop) > 0)
		ASSERT_EQ(loop_turn(box->loop, TIME_NEVER), 0);
	journal_free(box->j);
	loop_free(box->loop);
	box->j = NULL;
	box->loop = NULL;
}

void box_deinit(struct journal_box *box)
{
	char command[200];

	if (!box->dir[0])
		return;
	snprintf(command, sizeof(command), "rm -rf '%s'", box->dir);
	if (system(command) != 0)
		TEST_LOG("%s failed", command);
}

void box_turn(struct journal_box *box)
{
	ASSERT_EQ(loop_turn(box->loop, 0), 0);
}

int box_sync(struct journal_box *box)
{
	unsigned int n = box->n_stored;

	journal_sync(box->j);
	do
		ASSERT_EQ(loop_turn(box->loop, 10 * NSEC_PER_MSEC), 0);
	while (box->n_stored == n || loop_n_in_flight(box->loop) > 0);
	return box->stored_error;
}

bool box_wait_event(struct journal_box *box, const char *event)
{
	for (int i = 0; i < 200 && !strstr(box->events, event); ++i)
		ASSERT_EQ(loop_turn(box->loop, 10 * NSEC_PER_MSEC), 0);
	return strstr(box->events, event);
}

struct journal_lane *box_lane(struct journal_box *box, uint16_t channel, uint8_t priority, uint32_t ttl_s)
{
	struct journal_lane_key key = {.kind = JOURNAL_KIND_QUEUE,
				       .priority = priority,
				       .channel = channel,
				       .ttl_s = ttl_s,
				       .channel_name = "test"};
	struct journal_lane *lane = NULL;

	ASSERT_EQ(journal_lane_get(box->j, &key, &lane), 0);
	return lane;
}

static uint8_t pattern(uint64_t sequence, size_t i)
{
	return (uint8_t)(sequence * 131 + i * 7 + (i >> 8));
}

int box_append(struct journal_box *box, struct journal_lane *lane, size_t properties_len, size_t payload_len)
{
	uint64_t expected = journal_appended(box->j) + 1, sequence;
	uint8_t *properties, *payload;
	int r = journal_append(lane, expected ^ 0xabcd, expected * 1000, properties_len, payload_len,
			       &properties, &payload);

	if (r)
		return r;
	for (size_t i = 0; i < properties_len; ++i)
		properties[i] = pattern(expected, i);
	for (size_t i = 0; i < payload_len; ++i)
		payload[i] = pattern(expected, i + 1000);
	r = journal_commit(lane, &sequence);
	if (!r)
		ASSERT_EQ(sequence, expected);
	return r;
}

void box_check(const struct journal_cursor *at)
{
	struct journal_lane_key key;
	struct journal_record record;
	size_t n_wrong = 0;

	ASSERT_EQ(journal_read(at, &record), 0);
	journal_lane_key(at->lane, &key);
	ASSERT_EQ(record.sequence, at->sequence);
	ASSERT_TRUE(record.origin == 0 || record.origin == (at->sequence ^ 0xabcd));
	ASSERT_EQ(record.time_ms, at->sequence * 1000);
	ASSERT_EQ(record.expires_ms, key.ttl_s ? record.time_ms + key.ttl_s * 1000 : UINT64_MAX);
	ASSERT_EQ(record.channel, key.channel);
	ASSERT_EQ(record.priority, key.priority);
	for (size_t i = 0; i < record.properties.len; ++i)
		n_wrong += record.properties.data[i] != pattern(at->sequence, i);
	for (size_t i = 0; i < record.payload.len; ++i)
		n_wrong += record.payload.data[i] != pattern(at->sequence, i + 1000);
	ASSERT_EQ(n_wrong, 0u);
}

bool box_send(struct journal_box *box, struct journal_cursor *out)
{
	if (!journal_next_unsent(box->j, out))
		return false;
	box_check(out);
	journal_mark_sent(box->j, out);
	return true;
}

uint64_t box_drain(struct journal_box *box)
{
	struct journal_cursor at;
	uint64_t n = 0;

	while (box_send(box, &at)) {
		journal_mark_done(box->j, &at);
		++n;
	}
	box_turn(box);
	return n;
}
