/* SPDX-License-Identifier: MIT */
/*
 * What the journal finds when it is opened again: after a stop, after kill -9 at any moment, with bits that flipped and
 * files that were cut, and in a directory full of things that are none of its own.
 */

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "journal/internal.h"
#include "tests/harness.h"
#include "tests/support/guarded.h"
#include "tests/support/journal_box.h"

FIXTURE(recovery)
{
	struct journal_box box;
	bool is_mounted;
};

FIXTURE_SETUP(recovery)
{
	box_init(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
}

FIXTURE_TEARDOWN(recovery)
{
	if (!test_is_orphan())
		box_close(&self->box);
	if (self->is_mounted && !test_is_orphan())
		umount2(self->box.dir, MNT_DETACH);
	box_deinit(&self->box);
}

static void reopen(struct journal_box *box)
{
	box_close(box);
	box->events[0] = '\0';
	ASSERT_EQ(box_open(box), 0);
}

/* Calls for each segment's file; returns how many there are. */
static unsigned int for_segments(const char *path, void (*fn)(int dir_fd, const char *name))
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned int n = 0;

	ASSERT_TRUE(dir);
	while ((entry = readdir(dir))) {
		const char *suffix = strstr(entry->d_name, ".segment");

		if (!suffix || suffix[8])
			continue;
		++n;
		if (fn)
			fn(dirfd(dir), entry->d_name);
	}
	closedir(dir);
	return n;
}

/* In the directory. */
static void run(const char *dir, const char *what)
{
	char command[512];

	snprintf(command, sizeof(command), "cd '%s' && %s", dir, what);
	ASSERT_EQ(system(command), 0);
}

static uint64_t n_damaged(struct journal_box *box)
{
	struct journal_stats stats;

	journal_stats(box->j, &stats);
	return stats.n_damaged;
}

/* --- stops ------------------------------------------------------------------------------------ */

TEST_F(recovery, a_stop_loses_nothing_and_repeats_nothing)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane = box_lane(box, 3, 5, 60);
	struct journal_cursor at[100], cursor;
	struct journal_record record;
	struct journal_stats stats;

	for (int i = 0; i < 300; ++i)
		ASSERT_EQ(box_append(box, lane, 20, 1000), 0);
	for (int i = 0; i < 100; ++i)
		ASSERT_TRUE(box_send(box, &at[i]));
	for (int i = 0; i < 100; ++i)
		if (i % 3 != 1)
			journal_mark_done(box->j, &at[i]);
	reopen(box);
	journal_stats(box->j, &stats);
	EXPECT_EQ(stats.n_recovered, 233u);
	EXPECT_EQ(journal_appended(box->j), 300u);
	lane = box_lane(box, 3, 5, 60);
	EXPECT_EQ(journal_lane_n_records(lane), 233u);
	ASSERT_TRUE(journal_next_unsent(box->j, &cursor));
	ASSERT_EQ(journal_read(&cursor, &record), 0);
	EXPECT_EQ(record.origin, 0u);
	ASSERT_EQ(box_append(box, lane, 20, 1000), 0);
	for (uint64_t i = 1; i <= 301; ++i) {
		if (i <= 100 && i % 3 != 2)
			continue;
		ASSERT_TRUE(box_send(box, &cursor));
		ASSERT_EQ(cursor.sequence, i);
		journal_mark_done(box->j, &cursor);
	}
	EXPECT_FALSE(box_send(box, &cursor));
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_EQ(n_damaged(box), 0u);
}

TEST_F(recovery, many_starts_make_no_files)
{
	struct journal_box *box = &self->box;

	for (int i = 0; i < 50; ++i) {
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 5, 5), 0);
		reopen(box);
	}
	EXPECT_EQ(for_segments(box->dir, NULL), 1u);
	EXPECT_EQ(box_drain(box), 50u);
}

TEST_F(recovery, numbers_go_on_in_an_empty_journal)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane = box_lane(box, 1, 5, 0);

	for (int i = 0; i < 10; ++i)
		ASSERT_EQ(box_append(box, lane, 5, 5), 0);
	EXPECT_EQ(box_drain(box), 10u);
	reopen(box);
	EXPECT_EQ(for_segments(box->dir, NULL), 0u);
	EXPECT_EQ(journal_appended(box->j), 10u);
	reopen(box);
	EXPECT_EQ(journal_appended(box->j), 10u);
	lane = box_lane(box, 2, 5, 0);
	ASSERT_EQ(box_append(box, lane, 5, 5), 0);
	EXPECT_EQ(journal_appended(box->j), 11u);
}

/* Whoever made the files that are found may have been killed before it synced the directory. */
TEST_F(recovery, the_first_sync_is_of_the_directory_too)
{
	struct journal_box *box = &self->box;

	EXPECT_EQ(box_sync(box), 0);
	EXPECT_FALSE(box->j->dir.is_dirty);
	reopen(box);
	EXPECT_TRUE(box->j->dir.is_dirty);
	EXPECT_EQ(box_sync(box), 0);
	EXPECT_FALSE(box->j->dir.is_dirty);
	box_close(box);
	box->is_volatile = true;
	ASSERT_EQ(box_open(box), 0);
	EXPECT_FALSE(box->j->dir.is_dirty);
}

TEST_F(recovery, a_number_nobody_has_counted_to)
{
	static const char *const numbers[] = {"9223372036854775807", "9300000000000000000",
					      "18446744073709551615", "99999999999999999999"};
	struct journal_box *box = &self->box;

	box_close(box);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); ++i) {
		char command[64];

		snprintf(command, sizeof(command), "echo 1 %s > lock", numbers[i]);
		run(box->dir, command);
		ASSERT_EQ(box_open(box), 0);
		ASSERT_EQ(box_append(box, box_lane(box, 1, 5, 0), 5, 5), 0);
		reopen(box);
		EXPECT_EQ(box_drain(box), 1u);
		EXPECT_EQ(n_damaged(box), 0u);
		box_close(box);
	}
}

/* Opens it in a process that then ends as if it were killed. */
static int open_elsewhere(const struct journal_box *box)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct journal_box copy = *box;

		copy.loop = NULL;
		_exit(-box_open(&copy));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

TEST_F(recovery, one_process_at_a_time)
{
	EXPECT_EQ(open_elsewhere(&self->box), -EBUSY);
	box_close(&self->box);
	EXPECT_EQ(open_elsewhere(&self->box), 0);
	EXPECT_EQ(box_open(&self->box), 0);
}

/* --- kills ------------------------------------------------------------------------------------ */

enum outcome {
	NONE,
	QUEUED,
	SENT,
	ENDING, /* done with, in the turn that did not end */
	ENDED,
};

#define N_RECORDS 30000
#define N_LANES   5
#define N_ROUNDS  15

struct shared {
	uint8_t outcomes[N_RECORDS + 1];
	uint8_t lanes[N_RECORDS + 1];
	uint64_t n;
};

static void shared_end_turn(struct shared *s)
{
	for (uint64_t i = 1; i <= s->n; ++i)
		if (s->outcomes[i] == ENDING)
			s->outcomes[i] = ENDED;
}

static void child_step(struct journal_box *box, struct shared *s, struct journal_lane **lanes,
		       struct journal_cursor *in_flight, unsigned int *n_in_flight)
{
	unsigned int i = *n_in_flight ? (unsigned int)(test_random() % *n_in_flight) : 0;
	unsigned int lane = (unsigned int)(test_random() % N_LANES);
	struct journal_cursor at;

	switch (test_random() % 16) {
	case 0 ... 5:
		if (s->n == N_RECORDS || box_append(box, lanes[lane], 30, test_random() % 4000))
			return;
		++s->n;
		s->lanes[s->n] = (uint8_t)lane;
		s->outcomes[s->n] = QUEUED;
		return;
	case 6 ... 9:
		if (*n_in_flight == 500 || !box_send(box, &at))
			return;
		in_flight[(*n_in_flight)++] = at;
		s->outcomes[at.sequence] = SENT;
		return;
	case 10 ... 13:
		if (!*n_in_flight)
			return;
		s->outcomes[in_flight[i].sequence] = ENDING;
		journal_mark_done(box->j, &in_flight[i]);
		in_flight[i] = in_flight[--*n_in_flight];
		return;
	case 14:
		if (!journal_find(lanes[lane], 1 + test_random() % (s->n + 1), &at) || journal_is_sent(&at))
			return;
		journal_withdraw(box->j, &at);
		s->outcomes[at.sequence] = ENDED;
		return;
	default:
		if (test_random() % 8 == 0)
			journal_sync(box->j);
		box_turn(box);
		shared_end_turn(s);
	}
}

/* Never returns. */
static void child_run(struct journal_box *box, struct shared *s, unsigned int n_steps)
{
	struct journal_cursor in_flight[500];
	struct journal_lane *lanes[N_LANES];
	unsigned int n_in_flight = 0;
	int r = box_open(box);

	if (r)
		_exit(1);
	for (unsigned int i = 0; i < N_LANES; ++i)
		lanes[i] = box_lane(box, (uint16_t)i, (uint8_t)(i % 3), 0);
	/* What it was killed with was not done with. */
	for (uint64_t i = 1; i <= s->n; ++i) {
		struct journal_cursor at;

		if (s->outcomes[i] == SENT)
			s->outcomes[i] = QUEUED;
		if (s->outcomes[i] == ENDING)
			s->outcomes[i] = journal_find(lanes[s->lanes[i]], i, &at) ? QUEUED : ENDED;
	}
	while (n_steps-- > 0)
		child_step(box, s, lanes, in_flight, &n_in_flight);
	raise(SIGKILL);
}

static void check_after_kill(struct journal_box *box, const struct shared *s)
{
	uint64_t n_bytes = 0;

	EXPECT_EQ(journal_appended(box->j), s->n);
	for (struct journal_lane *lane = journal_next_lane(box->j, NULL); lane;
	     lane = journal_next_lane(box->j, lane)) {
		struct journal_lane_key key;
		struct journal_cursor at;
		bool more = journal_first(lane, &at);

		journal_lane_key(lane, &key);
		for (uint64_t i = 1; i <= s->n; ++i) {
			if (s->lanes[i] != key.channel || s->outcomes[i] == ENDED)
				continue;
			if (s->outcomes[i] == ENDING && (!more || at.sequence != i))
				continue;
			ASSERT_TRUE(more);
			ASSERT_EQ(at.sequence, i);
			more = journal_next(&at, &at);
		}
		ASSERT_FALSE(more);
		n_bytes += journal_lane_n_bytes(lane);
	}
	EXPECT_EQ(journal_n_bytes(box->j), n_bytes);
	EXPECT_EQ(n_damaged(box), 0u);
}

TEST_F_TIMEOUT(recovery, kills_at_any_moment, 60)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct journal_box *box = &self->box;

	ASSERT_TRUE(s != MAP_FAILED);
	box_close(box);
	for (int round = 0; round < N_ROUNDS; ++round) {
		unsigned int n_steps = (unsigned int)(test_random() % 4000);
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			struct journal_box copy = *box;

			child_run(&copy, s, n_steps);
		}
		test_random();
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		/* Sometimes the next child finds it as it was left. */
		if (round % 2)
			continue;
		ASSERT_EQ(box_open(box), 0);
		check_after_kill(box, s);
		box_close(box);
	}
	ASSERT_EQ(box_open(box), 0);
	check_after_kill(box, s);
	TEST_LOG("%llu records, %llu left", (unsigned long long)s->n, (unsigned long long)box_drain(box));
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

/* --- damage ----------------------------------------------------------------------------------- */

static void flip_bit(const char *dir, const char *name, uint64_t bit)
{
	_cleanup_(close_fd) int fd = -1;
	char path[512];
	uint8_t byte;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
	byte ^= (uint8_t)(1u << (bit % 8));
	ASSERT_EQ(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
}

/* In both identities. */
static void set_version(int dir_fd, const char *name, uint8_t version)
{
	_cleanup_(close_fd) int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(pwrite(fd, &version, 1, JOURNAL_IDENTITY_AT + 8), 1);
	ASSERT_EQ(pwrite(fd, &version, 1, JOURNAL_IDENTITY_COPY_AT + 8), 1);
}

static void make_newer(int dir_fd, const char *name)
{
	set_version(dir_fd, name, 2);
}

static void make_ours(int dir_fd, const char *name)
{
	set_version(dir_fd, name, 1);
}

TEST_F(recovery, what_a_later_version_wrote_is_left_for_it)
{
	struct journal_box *box = &self->box;
	unsigned int n_files;

	for (uint16_t channel = 0; channel < 40; ++channel)
		ASSERT_EQ(box_append(box, box_lane(box, channel, 5, 0), 30, 300), 0);
	box_close(box);
	n_files = for_segments(box->dir, make_newer);
	ASSERT_GE(n_files, 40u);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_TRUE(box_wait_event(box, "journal-damaged"));
	EXPECT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 300), 0);
	EXPECT_EQ(box_drain(box), 1u);
	box_close(box);
	/* That one is back. */
	EXPECT_GE(for_segments(box->dir, make_ours), n_files);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 40u);
	EXPECT_EQ(n_damaged(box), 0u);
}

/* Of the only one. */
static void segment_name_in(const char *path, char out[static 64])
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	ASSERT_TRUE(dir);
	out[0] = '\0';
	while ((entry = readdir(dir)))
		if (strstr(entry->d_name, ".segment"))
			snprintf(out, 64, "%.60s", entry->d_name);
	closedir(dir);
	ASSERT_TRUE(out[0]);
}

TEST_F(recovery, a_flipped_bit_costs_one_record_at_most)
{
	struct journal_box *box = &self->box, other = *box;
	const unsigned int n = 150;
	char name[64];

	for (unsigned int i = 0; i < n; ++i)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 300), 0);
	ASSERT_EQ(box_sync(box), 0);
	box_close(box);
	segment_name_in(box->dir, name);
	strcat(other.dir, ".copy");
	for (int i = 0; i < 100; ++i) {
		uint64_t bit = test_random() % (UINT64_C(65536) * 8), n_lost;

		run(box->dir, "rm -rf ../$(basename $PWD).copy && cp -a . ../$(basename $PWD).copy");
		flip_bit(other.dir, name, bit);
		other.loop = NULL;
		ASSERT_EQ(box_open(&other), 0);
		n_lost = n - box_drain(&other);
		if (n_lost > 1 || n_lost != n_damaged(&other))
			TEST_LOG("bit %llu", (unsigned long long)bit);
		ASSERT_LE(n_lost, 1u);
		ASSERT_EQ(n_damaged(&other), n_lost);
		ASSERT_EQ(journal_n_bytes(other.j), 0u);
		if (n_lost)
			EXPECT_TRUE(box_wait_event(&other, "journal-damaged"));
		other.events[0] = '\0';
		box_close(&other);
	}
	box_deinit(&other);
	ASSERT_EQ(box_open(box), 0);
}

TEST_F(recovery, damage_while_it_runs)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane = box_lane(box, 0, 5, 0);
	struct journal_cursor at[10], fifth;
	struct journal_record record;
	char name[64];

	for (int i = 0; i < 10; ++i)
		ASSERT_EQ(box_append(box, lane, 30, 300), 0);
	EXPECT_EQ(journal_first_unsent(lane), 1u);
	segment_name_in(box->dir, name);
	for (int i = 0; i < 4; ++i)
		ASSERT_TRUE(box_send(box, &at[i]));
	ASSERT_TRUE(journal_find(lane, 5, &fifth));
	flip_bit(box->dir, name, (at[1].offset + 100) * 8);
	flip_bit(box->dir, name, (fifth.offset + 20) * 8);
	EXPECT_EQ(journal_read(&at[1], &record), -EBADMSG);
	/* Those before the hole first. */
	EXPECT_FALSE(box_send(box, &at[4]));
	EXPECT_EQ(journal_first_unsent(lane), 0u);
	EXPECT_EQ(box->n_lost, 0u);
	for (int i = 3; i >= 0; --i) {
		EXPECT_FALSE(box_send(box, &at[4]));
		journal_mark_done(box->j, &at[i]);
		box_turn(box);
	}
	for (uint64_t i = 6; i <= 10; ++i) {
		ASSERT_TRUE(box_send(box, &at[4]));
		EXPECT_EQ(at[4].sequence, i);
		journal_mark_done(box->j, &at[4]);
	}
	EXPECT_EQ(n_damaged(box), 2u);
	EXPECT_EQ(journal_lane_n_records(lane), 0u);
	EXPECT_EQ(journal_first_unsent(lane), UINT64_MAX);
	/* Of the one that was sent the reader knows. */
	EXPECT_EQ(box->n_lost, 1u);
	EXPECT_TRUE(box->lost_lane == lane);
	EXPECT_LE(box->lost_first, 5u);
	EXPECT_EQ(box->lost_last, 5u);
	EXPECT_TRUE(box_wait_event(box, "journal-damaged"));
	run(box->dir, "test $(ls damaged | wc -l) = 2");
}

/* The last of a lane, with another lane's behind it; damaged when it was the next one already. */
TEST_F(recovery, damage_of_the_next_one)
{
	struct journal_box *box = &self->box;
	struct journal_lane *lane = box_lane(box, 0, 5, 0), *other;
	struct journal_cursor at;
	struct journal_record record;
	char name[64];

	ASSERT_EQ(box_append(box, lane, 30, 300), 0);
	segment_name_in(box->dir, name);
	other = box_lane(box, 1, 6, 0);
	ASSERT_EQ(box_append(box, other, 30, 300), 0);
	ASSERT_TRUE(journal_next_unsent(box->j, &at));
	ASSERT_EQ(at.sequence, 1u);
	flip_bit(box->dir, name, (at.offset + 100) * 8);
	EXPECT_EQ(journal_read(&at, &record), -EBADMSG);
	EXPECT_EQ(n_damaged(box), 0u);
	journal_mark_unread(&at);
	ASSERT_TRUE(box_send(box, &at));
	EXPECT_EQ(at.sequence, 2u);
	EXPECT_EQ(n_damaged(box), 1u);
	EXPECT_EQ(box->n_lost, 1u);
	EXPECT_TRUE(box->lost_lane == lane);
	EXPECT_EQ(box->lost_last, 1u);
	journal_mark_done(box->j, &at);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

static void cut_half(int dir_fd, const char *name)
{
	_cleanup_(close_fd) int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);

	ASSERT_EQ(ftruncate(fd, 32768), 0);
}

TEST_F(recovery, a_file_that_was_cut)
{
	struct journal_box *box = &self->box;
	uint64_t n;

	for (int i = 0; i < 100; ++i)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 44, 500), 0);
	ASSERT_EQ(box_sync(box), 0);
	box_close(box);
	EXPECT_EQ(for_segments(box->dir, cut_half), 1u);
	ASSERT_EQ(box_open(box), 0);
	n = box_drain(box);
	EXPECT_GT(n, 40u);
	EXPECT_EQ(n + n_damaged(box), 100u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
}

TEST_F(recovery, what_is_done_in_a_file_that_was_cut_stays_done)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;

	for (int i = 0; i < 800; ++i)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 0, 1), 0);
	box_close(box);
	run(box->dir, "truncate -s 8192 *.segment");
	for (uint64_t i = 1; i <= 5; ++i) {
		ASSERT_EQ(box_open(box), 0);
		ASSERT_TRUE(box_send(box, &at));
		EXPECT_EQ(at.sequence, i);
		journal_mark_done(box->j, &at);
		box_close(box);
	}
	ASSERT_EQ(box_open(box), 0);
}

TEST_F(recovery, a_file_that_is_no_segment_goes_aside)
{
	struct journal_box *box = &self->box;

	box_close(box);
	for (int i = 0; i < 40; ++i) {
		char command[64];

		snprintf(command, sizeof(command), "head -c 5000 /dev/urandom > %016x.segment", i + 1);
		run(box->dir, command);
	}
	ASSERT_EQ(box_open(box), 0);
	EXPECT_TRUE(box_wait_event(box, "journal-damaged"));
	EXPECT_EQ(for_segments(box->dir, NULL), 0u);
	run(box->dir, "test $(ls damaged | wc -l) = 16");
}

TEST_F(recovery, a_file_that_comes_back)
{
	struct journal_box *box = &self->box;
	char name[64], path[256], away[256];

	for (int i = 0; i < 10; ++i)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 300), 0);
	box_close(box);
	segment_name_in(box->dir, name);
	snprintf(path, sizeof(path), "%s/%s", box->dir, name);
	snprintf(away, sizeof(away), "%s/away", box->dir);
	ASSERT_EQ(rename(path, away), 0);
	/* Its numbers are lost with it, but for the file lock. */
	run(box->dir, "rm lock");
	ASSERT_EQ(box_open(box), 0);
	for (int i = 0; i < 20; ++i)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 300), 0);
	box_close(box);
	ASSERT_EQ(rename(away, path), 0);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 30u);
	EXPECT_EQ(n_damaged(box), 0u);
}

TEST_F(recovery, files_that_are_deleted)
{
	struct journal_box *box = &self->box;
	uint64_t n = 0, n_sent;

	for (; journal_n_bytes(box->j) < 4u << 20; ++n)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 3000), 0);
	ASSERT_EQ(box_sync(box), 0);
	box_close(box);
	ASSERT_EQ(box_open(box), 0);
	/* The first one, and one in the middle. */
	run(box->dir, "rm $(find . -size 128 -name '*.segment') $(find . -size 1024 -name '*.segment')");
	n_sent = box_drain(box);
	EXPECT_GT(n_sent, 500u);
	EXPECT_GT(n_damaged(box), 100u);
	EXPECT_EQ(n_sent + n_damaged(box), n);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_TRUE(box_wait_event(box, "journal-damaged"));
}

/* Appends in a process that is killed. */
static void append_and_die(const struct journal_box *box, unsigned int n, size_t payload_len)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct journal_box copy = *box;

		if (box_open(&copy))
			_exit(1);
		while (n-- > 0)
			if (box_append(&copy, box_lane(&copy, 0, 5, 0), 30, payload_len))
				_exit(2);
		raise(SIGKILL);
	}
	waitpid(pid, &status, 0);
	ASSERT_TRUE(WIFSIGNALED(status));
}

/* The lane is still wanted, so nothing noted the last number but the state. */
TEST_F(recovery, numbers_go_on_after_a_kill_when_all_is_done_with)
{
	struct journal_box *box = &self->box;
	int status;
	pid_t pid;

	box_close(box);
	pid = fork();
	if (pid == 0) {
		struct journal_box copy = *box;

		if (box_open(&copy))
			_exit(1);
		for (int i = 0; i < 3; ++i)
			if (box_append(&copy, box_lane(&copy, 0, 5, 0), 30, 300))
				_exit(2);
		box_drain(&copy);
		raise(SIGKILL);
	}
	waitpid(pid, &status, 0);
	ASSERT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(journal_appended(box->j), 3u);
	EXPECT_EQ(box_drain(box), 0u);
}

/* A power cut may keep records and lose the state that was written before them. */
TEST_F(recovery, a_header_that_is_older_than_the_records)
{
	struct journal_box *box = &self->box;

	for (int i = 0; i < 5; ++i)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 300), 0);
	box_close(box);
	run(box->dir, "head -c 4096 *.segment > header");
	append_and_die(box, 5, 300);
	run(box->dir, "dd if=header of=$(echo *.segment) bs=4096 conv=notrunc status=none");
	append_and_die(box, 1, 300);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(journal_appended(box->j), 6u);
	EXPECT_EQ(box_drain(box), 6u);
	EXPECT_EQ(n_damaged(box), 0u);
}

/* --- a disk that does not read ---------------------------------------------------------------- */

/* A file system in memory without space gives no page for a hole: reading one in a mapping is as on a disk that fails. In a
 * namespace of its own, so it goes away with the test. */
static void mount_memory(struct fixture_recovery *self)
{

	SKIP_IF(geteuid() != 0, "mounting needs root");
	box_close(&self->box);
	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
	ASSERT_EQ(mount("test", self->box.dir, "tmpfs", 0, "size=1m"), 0);
	self->is_mounted = true;
	self->box.guard = guarded();
}

/* Appends 50 records of a KiB each, of a daemon that is killed, takes the bytes of these pages from the file and all space from the
 * file system. */
static void lose_pages(struct fixture_recovery *self, const char *pages)
{
	char command[256];

	append_and_die(&self->box, 50, 1000);
	run(self->box.dir, "cp *.segment whole && sync -f whole");
	snprintf(command, sizeof(command), "fallocate -p %s *.segment && cp --sparse=always *.segment before",
		 pages);
	run(self->box.dir, command);
	run(self->box.dir, "dd if=/dev/zero of=filler bs=4096 status=none 2>/dev/null; true");
}

static const char unfill[] = "rm filler && cmp *.segment before && cat whole > $(echo *.segment)";

/* The disk reads again, with what it has in the file's header now. */
static const char reads_again[] =
	"rm filler; dd if=whole of=$(echo *.segment) bs=4096 skip=2 seek=2 conv=notrunc status=none";

/* Three records are before those pages. */
TEST_F(recovery, an_end_that_cannot_be_read_is_not_written)
{
	struct journal_box *box = &self->box;

	mount_memory(self);
	lose_pages(self, "-o 8192 -l 57344");
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 3u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_TRUE(box_wait_event(box, "journal-damaged"));
	box_close(box);
	/* Again, and with none before them now. */
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 0u);
	box_close(box);
	run(box->dir, reads_again);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 47u);
	EXPECT_EQ(n_damaged(box), 0u);
	box_close(box);
	EXPECT_EQ(for_segments(box->dir, NULL), 0u);
}

TEST_F(recovery, a_page_that_cannot_be_read_behind_all_records)
{
	struct journal_box *box = &self->box;

	mount_memory(self);
	lose_pages(self, "-o 61440 -l 4096");
	ASSERT_EQ(box_open(box), 0);
	run(box->dir, "rm filler");
	ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 1000), 0);
	EXPECT_EQ(for_segments(box->dir, NULL), 2u);
	EXPECT_EQ(box_drain(box), 51u);
	EXPECT_EQ(journal_n_bytes(box->j), 0u);
	EXPECT_EQ(n_damaged(box), 0u);
	box_close(box);
	EXPECT_EQ(for_segments(box->dir, NULL), 1u);
	/* All of it is read now. */
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 0u);
	box_close(box);
	EXPECT_EQ(for_segments(box->dir, NULL), 0u);
}

TEST_F(recovery, what_could_not_be_read_comes_before_what_is_newer)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at = {.sequence = 0};
	char name[64], command[256];
	uint64_t last = 0;

	mount_memory(self);
	lose_pages(self, "-o 8192 -l 57344");
	segment_name_in(box->dir, name);
	ASSERT_EQ(box_open(box), 0);
	run(box->dir, "rm filler");
	ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 1000), 0);
	box_close(box);
	snprintf(command, sizeof(command), "dd if=whole of=%s bs=4096 skip=2 seek=2 conv=notrunc status=none",
		 name);
	run(box->dir, command);
	ASSERT_EQ(box_open(box), 0);
	EXPECT_TRUE(!journal_next_lane(box->j, journal_next_lane(box->j, NULL)));
	for (unsigned int i = 1; i <= 51; ++i) {
		ASSERT_TRUE(box_send(box, &at));
		EXPECT_TRUE(i <= 50 ? at.sequence == i : at.sequence > last);
		last = at.sequence;
		journal_mark_done(box->j, &at);
	}
	EXPECT_FALSE(box_send(box, &at));
	EXPECT_EQ(n_damaged(box), 0u);
}

TEST_F(recovery, a_page_that_cannot_be_read_before_a_good_record)
{
	struct journal_box *box = &self->box;
	struct journal_cursor at;

	mount_memory(self);
	lose_pages(self, "-o 12288 -l 4096");
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(journal_lane_n_records(journal_next_lane(box->j, NULL)), 50u);
	ASSERT_TRUE(box_send(box, &at));
	run(box->dir, unfill);
	/* The disk reads again. */
	for (uint64_t n = 1; n < 50; n += box_send(box, &at))
		ASSERT_EQ(loop_turn(box->loop, 10 * NSEC_PER_MSEC), 0);
	EXPECT_EQ(at.sequence, 50u);
	EXPECT_EQ(n_damaged(box), 0u);
}

/* --- files that are none of its own ----------------------------------------------------------- */

TEST_F(recovery, a_directory_full_of_strange_things)
{
	struct journal_box *box = &self->box;

	ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 300), 0);
	box_close(box);
	run(box->dir,
	    "mkdir x.segment 00000000000000aa.segment && mkfifo 00000000000000ab.segment y.segment");
	run(box->dir,
	    "ln -s /dev/zero 00000000000000ac.segment && ln -s a a && : > 00000000000000ad.segment");
	run(box->dir, "truncate -s 1T 00000000000000ae.segment && : > 00000000000000af.segment");
	run(box->dir, "chmod 0 00000000000000af.segment && touch 00000000000000AE.segment .segment 1.spare");
	run(box->dir, "touch 00000000000000b0.segment.old && touch damaged");
	ASSERT_EQ(box_open(box), 0);
	EXPECT_EQ(box_drain(box), 1u);
	ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 30, 300), 0);
	EXPECT_EQ(box_sync(box), 0);
	reopen(box);
	EXPECT_EQ(box_drain(box), 1u);
}

TEST_HARNESS_MAIN
