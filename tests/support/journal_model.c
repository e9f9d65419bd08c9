/* SPDX-License-Identifier: MIT */
/*
 * What a journal has to have, see journal_model.h.
 *
 * Where nothing was damaged the journal has to do what the model does. What was hit by a flipped bit may be missing, and
 * nothing else; a header has two copies of everything, so one hit there costs nothing, but that the older state of the
 * two may bring back what was done with.
 */

#include "journal/internal.h"
#include "tests/harness.h"
#include "tests/support/journal_model.h"

static const struct journal_lane_key keys[MODEL_LANES] = {
	{.kind = JOURNAL_KIND_QUEUE, .priority = 5, .channel = 0, .channel_name = "a"},
	{.kind = JOURNAL_KIND_QUEUE, .priority = 5, .channel = 1, .channel_name = "b"},
	{.kind = JOURNAL_KIND_QUEUE, .priority = 0, .channel = 2, .channel_name = "c"},
	{.kind = JOURNAL_KIND_QUEUE, .priority = 9, .channel = 2, .channel_name = "c", .ttl_s = 1000000},
	{.kind = JOURNAL_KIND_QUEUE, .priority = 5, .channel = 0, .channel_name = "a", .ttl_s = 60},
	{.kind = JOURNAL_KIND_REJECTED, .priority = 5, .channel = 0, .channel_name = "a"},
};

void model_init(struct model *m, uint64_t seed)
{
	memset(m, 0, sizeof(*m));
	m->seed = m->random = seed;
}

uint64_t model_random(struct model *m, uint64_t n)
{
	/* splitmix64 */
	uint64_t z = (m->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % n;
}

static uint8_t pattern(uint64_t n, size_t i)
{
	return (uint8_t)((n * UINT64_C(0x9e3779b97f4a7c15) >> (i % 8 * 8)) + i / 8);
}

static void fill(uint8_t *at, size_t len, uint64_t n, size_t from)
{
	for (size_t i = 0; i < len; ++i)
		at[i] = pattern(n, from + i);
}

static bool is_filled(struct bytes bytes, uint64_t n, size_t from)
{
	for (size_t i = 0; i < bytes.len; ++i)
		if (bytes.data[i] != pattern(n, from + i))
			return false;
	return true;
}

/* Not sent, and not done with. */
static bool is_waiting(const struct model_record *record)
{
	return record->fate == MODEL_LIVE || record->fate == MODEL_MAYBE;
}

static bool is_there(const struct model_record *record)
{
	return record->fate == MODEL_LIVE || record->fate == MODEL_SENT;
}

/* The first record of all that may come; those before it are done with. */
static uint64_t first_waiting(const struct model *m)
{
	uint64_t n = 1;

	while (n <= m->n && !is_waiting(&m->records[n]))
		++n;
	return n;
}

/* What came is not what the model has. */
static void wrong(const struct model *m, uint64_t n, const char *what)
{
	const struct model_record *record = &m->records[n];

	harness_fail(__FILE__, __LINE__, true,
		     "record %" PRIu64 " of %" PRIu64 ", number %" PRIu64
		     " of lane %d, %s: fate %d, file %016" PRIx64 ", offset %" PRIu64 ", %" PRIu64
		     " bytes, %s, %s",
		     n, m->n, record->sequence, record->lane, what, record->fate, record->file,
		     record->offset, record->size, record->is_hit ? "hit" : "not hit",
		     record->is_stored ? "stored" : "not stored");
}

/* --- opening ---------------------------------------------------------------------------------- */

static uint64_t n_damaged(const struct model_run *run)
{
	struct journal_stats stats;

	journal_stats(run->box.j, &stats);
	return stats.n_damaged;
}

/* What was done with may come again, at any start: the newer state was hit, or it tells an end that the file does not have
 * any more. */
static void doubt_file(struct model *m, const struct model_file *file)
{
	for (uint64_t n = 1; n <= m->n; ++n) {
		struct model_record *record = &m->records[n];

		if (record->file != file->id)
			continue;
		if (record->fate == MODEL_DONE || record->fate == MODEL_LOST) {
			record->fate = MODEL_MAYBE;
			record->is_stored = false;
		}
		/* With both copies hit all of it may be lost. */
		if (file->n_header_hits > 1 && record->fate == MODEL_LIVE) {
			record->fate = MODEL_MAYBE;
			record->is_hit = true;
			record->is_stored = false;
			++m->n_hits;
		}
	}
}

void model_open(struct model_run *run, struct model *m, const char *dir)
{
	*run = (struct model_run){.model = m};
	for (size_t i = 0; i < m->n_files; ++i)
		if (m->files[i].n_header_hits || m->files[i].is_gone)
			doubt_file(m, &m->files[i]);
	snprintf(run->box.dir, sizeof(run->box.dir), "%s", dir);
	run->box.max_bytes = m->max_bytes;
	m->n_damaged_before += m->n_damaged;
	m->n_damaged = 0;
	ASSERT_EQ(box_open(&run->box), 0);
	run->n_first = m->n;
	run->is_exact = journal_n_bytes(run->box.j) == 0 && first_waiting(m) > m->n;
}

struct journal_lane *model_lane(struct model_run *run, unsigned int lane)
{
	if (!run->lanes[lane])
		ASSERT_EQ(journal_lane_get(run->box.j, &keys[lane], &run->lanes[lane]), 0);
	return run->lanes[lane];
}

void model_put_lane(struct model_run *run, unsigned int lane)
{
	if (run->lanes[lane])
		journal_lane_put(run->lanes[lane]);
	run->lanes[lane] = NULL;
}

static unsigned int lane_of(const struct journal_lane *lane)
{
	struct journal_lane_key key;

	journal_lane_key(lane, &key);
	for (unsigned int i = 0; i < MODEL_LANES; ++i)
		if (keys[i].kind == key.kind && keys[i].priority == key.priority &&
		    keys[i].channel == key.channel && keys[i].ttl_s == key.ttl_s) {
			ASSERT_STREQ(key.channel_name, keys[i].channel_name);
			return i;
		}
	harness_fail(__FILE__, __LINE__, true, "a lane that nobody made");
	return 0;
}

/* --- what comes out --------------------------------------------------------------------------- */

/* The record with the number that may be where it is not found. */
static uint64_t find_hit(const struct model *m, uint64_t sequence)
{
	for (uint64_t n = m->n; n > 0; --n)
		if (m->records[n].sequence == sequence && m->records[n].is_hit &&
		    (is_waiting(&m->records[n]) || m->records[n].fate == MODEL_SENT ||
		     m->records[n].fate == MODEL_LOST))
			return n;
	ASSERT_EQ(sequence, 0u);
	return 0;
}

/* The record at the cursor is what it was when it was appended. Returns its place in the model; *@is_damaged: it cannot be
 * read, and it was hit. */
static uint64_t check_record(const struct model_run *run, const struct journal_cursor *at, bool *is_damaged)
{
	struct model *m = run->model;
	const struct model_record *expected;
	struct journal_record record;
	int r = journal_read(at, &record);

	*is_damaged = r == -EBADMSG;
	if (r == -EBADMSG)
		return find_hit(m, at->sequence);
	ASSERT_EQ(r, 0);
	ASSERT_TRUE(record.time_ms >= 1 && record.time_ms <= m->n);
	expected = &m->records[record.time_ms];
	ASSERT_EQ(record.sequence, at->sequence);
	ASSERT_EQ(record.sequence, expected->sequence);
	ASSERT_EQ(lane_of(at->lane), expected->lane);
	ASSERT_EQ(record.channel, keys[expected->lane].channel);
	ASSERT_EQ(record.priority, keys[expected->lane].priority);
	ASSERT_EQ(record.expires_ms, keys[expected->lane].ttl_s
					     ? record.time_ms + keys[expected->lane].ttl_s * UINT64_C(1000)
					     : UINT64_MAX);
	ASSERT_TRUE(record.origin == 0 || record.origin == record.time_ms);
	ASSERT_EQ(record.properties.len, expected->properties_len);
	ASSERT_EQ(record.payload.len, expected->payload_len);
	ASSERT_TRUE(is_filled(record.properties, record.time_ms, 0));
	ASSERT_TRUE(is_filled(record.payload, record.time_ms, expected->properties_len));
	++m->n_checked;
	return record.time_ms;
}

/* The file was deleted or cut; what a process still has of it is gone with that. */
static bool is_gone(const struct model *m, uint64_t file)
{
	for (size_t i = 0; i < m->n_files; ++i)
		if (m->files[i].id == file && m->files[i].is_gone)
			return true;
	return false;
}

/* A record that may come did. */
static void note_seen(const struct model *m, struct model_record *record)
{
	if (record->fate == MODEL_MAYBE && !is_gone(m, record->file))
		record->fate = MODEL_LIVE;
}

/* The journal has to count it, once. */
static void count_lost(struct model *m, struct model_record *record)
{
	m->n_lost_stored += record->is_stored;
	record->is_stored = false;
}

/* The journal went past a record that may come. */
static void note_lost(struct model *m, uint64_t n, bool by_sender)
{
	struct model_record *record = &m->records[n];

	m->n_lost += record->is_hit;
	if (by_sender && record->is_hit)
		count_lost(m, record);
	record->fate = MODEL_LOST;
}

/* Whether a lane may have nothing that goes out next before @n is: the window is full, or a hole waits for what is in flight. */
static bool may_be_blocked(const struct model_run *run, unsigned int lane, uint64_t n)
{
	const struct model *m = run->model;
	uint64_t n_between = 0, i = 1;

	if (run->n_of_lane[lane] == 0)
		return false;
	if (m->had_cut || m->n_hits > 0 || m->n_withdrawn > 0)
		return true;
	while (i < n && (m->records[i].lane != lane || m->records[i].fate != MODEL_SENT))
		++i;
	for (; i < n; ++i)
		n_between += m->records[i].lane == lane;
	return n_between >= JOURNAL_WINDOW;
}

static bool is_queued(const struct model_record *record)
{
	return keys[record->lane].kind == JOURNAL_KIND_QUEUE;
}

/* There are two lanes of a key when an older state brought back what was lost, and its indexes were given once more. */
static bool has_twin(const struct model_run *run, unsigned int lane)
{
	unsigned int n = 0;

	for (struct journal_lane *at = journal_next_lane(run->box.j, NULL); at;
	     at = journal_next_lane(run->box.j, at))
		n += lane_of(at) == lane;
	return n > 1;
}

/* @n goes out next; 0: nothing does. */
static void check_order(struct model_run *run, uint64_t n)
{
	struct model *m = run->model;
	const struct model_record *next = &m->records[n];

	for (uint64_t i = first_waiting(m); i <= m->n; ++i) {
		const struct model_record *record = &m->records[i];
		bool is_before = !n || keys[record->lane].priority < keys[next->lane].priority ||
				 (keys[record->lane].priority == keys[next->lane].priority && i < n);

		if (!is_waiting(record) || !is_queued(record) || !is_before || i == n)
			continue;
		if (n && record->lane == next->lane && record->fate != MODEL_MAYBE &&
		    !has_twin(run, record->lane))
			wrong(m, i, "does not come in its turn");
		if (record->fate == MODEL_MAYBE && n && record->lane == next->lane &&
		    !has_twin(run, record->lane))
			note_lost(m, i, true);
		else if (record->fate == MODEL_LIVE && !may_be_blocked(run, record->lane, i))
			wrong(m, i, "does not come next");
	}
}

bool model_send(struct model_run *run)
{
	struct model *m = run->model;
	struct journal_cursor at;
	bool is_damaged;
	uint64_t n;

	if (run->n_flight == MODEL_FLIGHT_MAX)
		return false;
	if (!journal_next_unsent(run->box.j, &at)) {
		check_order(run, 0);
		return false;
	}
	n = check_record(run, &at, &is_damaged);
	if (!is_waiting(&m->records[n]) && !is_damaged)
		wrong(m, n, "comes again");
	ASSERT_TRUE(is_queued(&m->records[n]));
	check_order(run, n);
	if (is_damaged) {
		journal_mark_unread(&at);
		note_lost(m, n, false);
		return true;
	}
	journal_mark_sent(run->box.j, &at);
	ASSERT_TRUE(journal_is_sent(&at));
	m->records[n].fate = MODEL_SENT;
	++run->n_of_lane[m->records[n].lane];
	run->flight[run->n_flight++] = (struct model_flight){.at = at, .n = n};
	return true;
}

void model_end_one(struct model_run *run, size_t i)
{
	struct model_flight flight = run->flight[i];
	struct model_record *record = &run->model->records[flight.n];
	bool is_damaged = false;

	if (model_random(run->model, 2))
		ASSERT_EQ(check_record(run, &flight.at, &is_damaged), flight.n);
	if (is_damaged)
		count_lost(run->model, record);
	journal_mark_done(run->box.j, &flight.at);
	record->fate = MODEL_ENDING;
	--run->n_of_lane[record->lane];
	run->flight[i] = run->flight[--run->n_flight];
}

/* --- appending -------------------------------------------------------------------------------- */

static uint64_t left(const struct model_run *run)
{
	uint64_t n = journal_n_bytes(run->box.j);

	return n < run->model->max_bytes ? run->model->max_bytes - n : 0;
}

bool model_append(struct model_run *run, unsigned int lane, size_t properties_len, size_t payload_len)
{
	struct journal_lane *to = model_lane(run, lane);
	uint64_t size = journal_record_bytes(properties_len, payload_len), sequence, n;
	struct model *m = run->model;
	uint8_t *properties, *payload;
	int r;

	if (m->n == MODEL_RECORDS_MAX)
		return false;
	n = m->n + 1;
	r = size > left(run) ? -ENOSPC : 0;
	ASSERT_EQ(journal_append(to, n, n, properties_len, payload_len, &properties, &payload), r);
	if (r)
		return false;
	fill(properties, properties_len, n, 0);
	fill(payload, payload_len, n, properties_len);
	ASSERT_EQ(journal_commit(to, &sequence), 0);
	ASSERT_EQ(sequence, journal_appended(run->box.j));
	m->records[n] = (struct model_record){
		.sequence = sequence,
		.file = to->active->identity.id,
		.offset = to->active->head - size,
		.size = size,
		.properties_len = (uint32_t)properties_len,
		.payload_len = (uint32_t)payload_len,
		.lane = (uint8_t)lane,
		.fate = MODEL_LIVE,
		.is_hit = is_gone(m, to->active->identity.id),
	};
	if (m->records[n].is_hit) {
		m->records[n].fate = MODEL_MAYBE;
		++m->n_hits;
	}
	m->n = n;
	return true;
}

void model_append_half(struct model_run *run, unsigned int lane, size_t payload_len)
{
	uint8_t *properties, *payload;

	if (journal_append(model_lane(run, lane), 1, 1, 10, payload_len, &properties, &payload))
		return;
	fill(properties, 10, 1, 0);
	fill(payload, payload_len / 2, 1, 10);
}

void model_append_batch(struct model_run *run, unsigned int lane, uint64_t n, size_t payload_len)
{
	struct journal_lane *to = model_lane(run, lane);
	bool has_room = journal_has_room(run->box.j, n, n * payload_len);

	ASSERT_EQ(journal_reserve(to, n, n * payload_len), has_room ? 0 : -ENOSPC);
	if (!has_room)
		return;
	for (uint64_t i = 0; i < n && run->model->n < MODEL_RECORDS_MAX; ++i)
		ASSERT_TRUE(model_append(run, lane, model_random(run->model, payload_len + 1), 0));
}

/* --- the rest of the interface ---------------------------------------------------------------- */

/* Where the journal has a record. There may be two lanes of a key, after damage. */
static bool find_cursor(struct model_run *run, uint64_t n, struct journal_cursor *out)
{
	const struct model_record *record = &run->model->records[n];

	for (struct journal_lane *lane = journal_next_lane(run->box.j, NULL); lane;
	     lane = journal_next_lane(run->box.j, lane))
		if (lane_of(lane) == record->lane && journal_find(lane, record->sequence, out) &&
		    journal_time_ms(out) == n)
			return true;
	return false;
}

void model_find(struct model_run *run, uint64_t n)
{
	struct model_record *record = &run->model->records[n];
	struct journal_cursor at;
	bool is_damaged;

	if (!find_cursor(run, n, &at)) {
		ASSERT_TRUE(!is_there(record) || record->is_hit);
		return;
	}
	ASSERT_TRUE(is_waiting(record) || record->fate == MODEL_SENT);
	ASSERT_EQ(journal_is_sent(&at), record->fate == MODEL_SENT);
	ASSERT_EQ(check_record(run, &at, &is_damaged), n);
	note_seen(run->model, record);
}

void model_withdraw(struct model_run *run, uint64_t n)
{
	struct model_record *record = &run->model->records[n];
	struct journal_cursor at;

	if (!is_waiting(record))
		return;
	if (!find_cursor(run, n, &at)) {
		ASSERT_EQ(record->fate, MODEL_MAYBE);
		return;
	}
	journal_withdraw(run->box.j, &at);
	record->fate = MODEL_WITHDRAWN;
	++run->model->n_withdrawn;
}

/* Those before it are not there. */
static void pass_before(struct model_run *run, uint64_t n)
{
	struct model *m = run->model;

	for (uint64_t i = 1; i < n; ++i) {
		if (m->records[i].lane != m->records[n].lane || !is_waiting(&m->records[i]))
			continue;
		if (m->records[i].fate != MODEL_MAYBE)
			wrong(m, i, "is not the first one");
		note_lost(m, i, false);
	}
}

static bool end_first(struct model_run *run, struct journal_lane *lane)
{
	struct model *m = run->model;
	struct journal_cursor at;
	bool is_damaged;
	uint64_t n;

	if (!journal_first(lane, &at) || journal_is_sent(&at))
		return false;
	n = check_record(run, &at, &is_damaged);
	if (!has_twin(run, m->records[n].lane))
		pass_before(run, n);
	journal_mark_done(run->box.j, &at);
	m->records[n].fate = is_damaged ? MODEL_LOST : MODEL_WITHDRAWN;
	++m->n_withdrawn;
	return true;
}

bool model_end_first(struct model_run *run, unsigned int lane)
{
	return end_first(run, model_lane(run, lane));
}

void model_hold(struct model_run *run, uint64_t n_bytes)
{
	bool has_room = n_bytes <= left(run);

	ASSERT_EQ(journal_hold(run->box.j, n_bytes), has_room ? 0 : -ENOSPC);
	run->held += has_room ? n_bytes : 0;
}

void model_unhold(struct model_run *run, uint64_t n_bytes)
{
	journal_unhold(run->box.j, n_bytes);
	run->held -= n_bytes;
}

void model_flush(struct model_run *run)
{
	struct model *m = run->model;

	journal_flush_states(run->box.j);
	for (uint64_t n = 1; n <= m->n; ++n)
		if (m->records[n].fate == MODEL_ENDING)
			m->records[n].fate = MODEL_DONE;
}

/* What a turn did. */
static void turned(struct model_run *run)
{
	struct model *m = run->model;
	uint64_t stored = run->box.n_stored ? run->box.stored : 0;

	for (uint64_t n = 1; n <= m->n; ++n) {
		struct model_record *record = &m->records[n];

		if (record->fate == MODEL_ENDING)
			record->fate = MODEL_DONE;
		record->is_stored |=
			n > run->n_first && is_there(record) && !record->is_hit && record->sequence <= stored;
	}
	ASSERT_EQ(run->box.stored_error, 0);
	ASSERT_GE(journal_stored(run->box.j), run->stored);
	ASSERT_LE(journal_stored(run->box.j), journal_appended(run->box.j));
	run->stored = journal_stored(run->box.j);
}

void model_turn(struct model_run *run)
{
	do
		box_turn(&run->box);
	while (run->model->is_calm && loop_n_in_flight(run->box.loop) > 0);
	turned(run);
}

void model_sync(struct model_run *run)
{
	ASSERT_EQ(box_sync(&run->box), 0);
	ASSERT_EQ(run->box.stored, journal_appended(run->box.j));
	turned(run);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void walk_lane(struct model_run *run, struct journal_lane *lane, bool *is_seen)
{
	unsigned int number = lane_of(lane);
	struct model *m = run->model;
	struct journal_cursor at;
	uint64_t last = 0;

	for (bool more = journal_first(lane, &at); more; more = journal_next(&at, &at)) {
		bool is_damaged;
		uint64_t n = check_record(run, &at, &is_damaged);
		struct model_record *record = &m->records[n];

		ASSERT_GT(n, last);
		ASSERT_EQ(record->lane, number);
		if (!is_waiting(record) && record->fate != MODEL_SENT && !is_damaged)
			wrong(m, n, "is there again");
		if (!is_damaged)
			note_seen(m, record);
		is_seen[n] = true;
		last = n;
	}
}

void model_walk(struct model_run *run)
{
	bool is_seen[MODEL_RECORDS_MAX + 1] = {false};
	struct model *m = run->model;

	for (struct journal_lane *lane = journal_next_lane(run->box.j, NULL); lane;
	     lane = journal_next_lane(run->box.j, lane))
		walk_lane(run, lane, is_seen);
	for (uint64_t n = 1; n <= m->n; ++n) {
		struct model_record *record = &m->records[n];

		if (is_seen[n])
			continue;
		if (record->fate == MODEL_LIVE || (record->fate == MODEL_SENT && !record->is_hit))
			wrong(m, n, "is missing");
		if (record->fate == MODEL_MAYBE)
			note_lost(m, n, false);
	}
}

void model_check_counters(struct model_run *run)
{
	uint64_t n_records[MODEL_LANES] = {0}, n_bytes[MODEL_LANES] = {0}, sum = run->held;
	struct model *m = run->model;

	/* What was lost with the power counts with a hole that begins before what was stored. */
	if (!m->had_cut || m->n_hits == 0)
		ASSERT_LE(n_damaged(run), m->n_hits);
	m->n_damaged = n_damaged(run);
	ASSERT_GE(m->n_damaged + m->n_damaged_before, m->n_lost_stored);
	for (uint64_t n = 1; n <= m->n; ++n) {
		if (!is_there(&m->records[n]))
			continue;
		++n_records[m->records[n].lane];
		n_bytes[m->records[n].lane] += m->records[n].size;
		sum += m->records[n].size;
	}
	/* How many records an earlier daemon left may be counted wrong until they were sent. */
	if (run->held == journal_n_bytes(run->box.j) && first_waiting(m) > m->n && run->n_flight == 0)
		run->is_exact = true;
	if (m->n_hits > 0)
		return;
	ASSERT_LE(sum, journal_n_bytes(run->box.j));
	if (!run->is_exact)
		return;
	ASSERT_EQ(sum, journal_n_bytes(run->box.j));
	for (unsigned int i = 0; i < MODEL_LANES; ++i) {
		if (!run->lanes[i])
			continue;
		ASSERT_EQ(n_records[i], journal_lane_n_records(run->lanes[i]));
		ASSERT_EQ(n_bytes[i], journal_lane_n_bytes(run->lanes[i]));
	}
}

void model_drain(struct model_run *run)
{
	static const size_t flights[] = {0, 100, MODEL_FLIGHT_MAX - 1};
	struct model *m = run->model;
	size_t flight = flights[model_random(m, 3)];
	bool more = true;

	while (more) {
		more = model_send(run);
		while (run->n_flight > (more ? flight : 0)) {
			model_end_one(run, model_random(m, run->n_flight));
			more = true;
		}
	}
	for (struct journal_lane *lane = journal_next_lane(run->box.j, NULL); lane;
	     lane = journal_next_lane(run->box.j, lane))
		while (end_first(run, lane))
			;
	model_unhold(run, run->held);
	for (uint64_t n = 1; n <= m->n; ++n) {
		ASSERT_TRUE(!is_there(&m->records[n]));
		if (m->records[n].fate == MODEL_MAYBE)
			note_lost(m, n, false);
	}
	model_turn(run);
	model_check_counters(run);
	ASSERT_EQ(journal_n_bytes(run->box.j), 0u);
	for (struct journal_lane *lane = journal_next_lane(run->box.j, NULL); lane;
	     lane = journal_next_lane(run->box.j, lane)) {
		ASSERT_EQ(journal_lane_n_records(lane), 0u);
		ASSERT_EQ(journal_lane_n_bytes(lane), 0u);
	}
}

/* --- between processes ------------------------------------------------------------------------ */

void model_snapshot(struct model *m)
{
	m->n_before = m->n;
	for (uint64_t n = 1; n <= m->n; ++n)
		m->records[n].before = m->records[n].fate;
}

/* What became of a record after the power was cut. */
static enum model_fate fate_after_cut(const struct model *m, uint64_t n)
{
	const struct model_record *record = &m->records[n];

	if (n > m->n_before)
		return MODEL_MAYBE;
	if (record->before == MODEL_DONE || record->before == MODEL_WITHDRAWN || record->before == MODEL_LOST)
		return record->before;
	return is_there(record) ? MODEL_LIVE : MODEL_MAYBE;
}

static enum model_fate fate_after(const struct model *m, uint64_t n, enum model_end how)
{
	enum model_fate fate = m->records[n].fate;

	if (how == MODEL_CUT)
		return fate_after_cut(m, n);
	if (fate == MODEL_SENT)
		return MODEL_LIVE;
	if (fate == MODEL_ENDING)
		return how == MODEL_STOP ? MODEL_DONE : MODEL_MAYBE;
	return fate;
}

static struct model_file *hurt_file(struct model *m, uint64_t id)
{
	struct model_file *file = m->files;

	while (file < m->files + m->n_files && file->id != id)
		++file;
	ASSERT_LT(file, m->files + MODEL_FILES_MAX);
	if (file == m->files + m->n_files)
		m->files[m->n_files++] = (struct model_file){.id = id};
	return file;
}

/* Of a file that was begun since the snapshot, one copy of what is in its header may be missing. */
static void doubt_new_files(struct model *m)
{
	for (uint64_t n = m->n_before + 1; n <= m->n; ++n) {
		uint64_t first = 1;

		while (m->records[first].file != m->records[n].file)
			++first;
		if (first == n)
			++hurt_file(m, m->records[n].file)->n_header_hits;
	}
}

void model_ended(struct model *m, enum model_end how)
{
	m->had_cut |= how == MODEL_CUT;
	if (how == MODEL_CUT)
		doubt_new_files(m);
	for (uint64_t n = 1; n <= m->n; ++n) {
		struct model_record *record = &m->records[n];

		/* If it does not come, it need not be because of the hit. */
		record->is_stored &= record->fate != MODEL_ENDING;
		record->fate = (uint8_t)fate_after(m, n, how);
		if (record->fate == MODEL_LIVE && record->is_hit)
			record->fate = MODEL_MAYBE;
	}
}

/* One that may be done with need not be counted when it does not come. */
static void hit_record(struct model_record *record)
{
	record->is_stored &= is_there(record) || record->is_hit;
	record->is_hit = true;
	if (record->fate == MODEL_LIVE)
		record->fate = MODEL_MAYBE;
}

void model_hit(struct model *m, uint64_t file, uint64_t offset)
{
	++m->n_hits;
	if (offset < JOURNAL_HEADER_BYTES) {
		++hurt_file(m, file)->n_header_hits;
		/* The older state may say less of what is stored, and what is not is not counted. */
		for (uint64_t n = 1; n <= m->n; ++n)
			m->records[n].is_stored &= m->records[n].file != file;
		return;
	}
	for (uint64_t n = 1; n <= m->n; ++n) {
		struct model_record *record = &m->records[n];

		if (record->file == file && offset >= record->offset &&
		    offset - record->offset < record->size)
			hit_record(record);
	}
}

void model_hit_from(struct model *m, uint64_t file, uint64_t offset)
{
	hurt_file(m, file)->is_gone = true;
	++m->n_hits;
	for (uint64_t n = 1; n <= m->n; ++n) {
		struct model_record *record = &m->records[n];

		if (record->file != file || record->offset + record->size <= offset)
			continue;
		hit_record(record);
		record->is_stored = false;
		++m->n_hits;
	}
}

bool model_is_lost_file(const struct model *m, uint64_t file)
{
	for (size_t i = 0; i < m->n_files; ++i)
		if (m->files[i].id == file)
			return m->files[i].n_header_hits > 1;
	return false;
}
