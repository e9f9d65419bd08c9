/* SPDX-License-Identifier: MIT */
/*
 * Spare segments: made, taken, given back, kept and deleted, through the loop; and what a crash or a disk in trouble
 * leaves at each step.
 */

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "journal/internal.h"
#include "tests/harness.h"
#include "tests/support/disk.h"
#include "tests/support/journal_box.h"

#define SIZE (2 * JOURNAL_SEGMENT_BYTES_MIN)

FIXTURE(spares)
{
	char top[64];
	char base[80]; /* where segments are: that, or a file system in it */
	bool is_mounted;
	struct journal_guard guard;
	struct journal_dir dir;
	struct loop *loop;
	struct journal_spares *spares;
	struct journal_identity identity;
	struct disk disk;
};

static void open_base(struct fixture_spares *self)
{
	if (self->dir.fd >= 0)
		close(self->dir.fd);
	self->dir = (struct journal_dir){.fd = open(self->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
					 .check_fd = -1,
					 .guard = &self->guard};
	ASSERT_GE(self->dir.fd, 0);
}

FIXTURE_SETUP(spares)
{
	struct loop_options options = {.log = NULL};

	self->dir.fd = -1;
	strcpy(self->top, "/tmp/test-spares.XXXXXX");
	ASSERT_TRUE(mkdtemp(self->top));
	strcpy(self->base, self->top);
	open_base(self);
	ASSERT_EQ(loop_new(&self->loop, &options), 0);
	ASSERT_EQ(spares_new(&self->spares, self->loop, &self->dir), 0);
	self->identity = (struct journal_identity){
		.size = SIZE, .first_index = 77, .kind = JOURNAL_KIND_QUEUE, .channel_name = "sensors"};
}

static void settle(struct fixture_spares *self)
{
	while (!spares_is_idle(self->spares))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	ASSERT_EQ(loop_n_in_flight(self->loop), 0u);
}

static void stop(struct fixture_spares *self, bool keep)
{
	spares_stop(self->spares, keep);
	settle(self);
	spares_free(self->spares);
	self->spares = NULL;
}

FIXTURE_TEARDOWN(spares)
{
	char command[128];

	if (!self->top[0])
		return;
	if (!test_is_orphan()) {
		if (self->spares)
			stop(self, false);
		loop_free(self->loop);
		if (self->is_mounted)
			umount2(self->base, MNT_DETACH);
		disk_deinit(&self->disk);
	}
	snprintf(command, sizeof(command), "rm -rf %s", self->top);
	EXPECT_EQ(system(command), 0);
}

/* In a namespace of its own: it goes away with the test. */
static void mount_on_base(struct fixture_spares *self, const char *type, const char *data)
{
	SKIP_IF(geteuid() != 0, "mounting needs root");
	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
	SKIP_IF(mount("test", self->base, type, 0, data) < 0, "the file system cannot be mounted");
	self->is_mounted = true;
	open_base(self);
}

/* Files whose name ends so. */
static unsigned int count_files(const struct fixture_spares *self, const char *suffix)
{
	DIR *d = opendir(self->base);
	const struct dirent *entry;
	unsigned int n = 0;

	if (!d)
		return UINT32_MAX;
	while ((entry = readdir(d))) {
		size_t len = strlen(entry->d_name), suffix_len = strlen(suffix);

		n += entry->d_name[0] != '.' && len >= suffix_len &&
		     strcmp(entry->d_name + len - suffix_len, suffix) == 0;
	}
	closedir(d);
	return n;
}

static void prepare(struct fixture_spares *self, uint64_t size)
{
	spares_prepare(self->spares, size);
	settle(self);
}

static struct journal_segment *take(struct fixture_spares *self, uint64_t size)
{
	self->identity.size = size;
	return spares_take(self->spares, &self->identity);
}

static void expect_kept(const struct fixture_spares *self, uint64_t n, uint64_t n_bytes)
{
	EXPECT_EQ(spares_n(self->spares), n);
	EXPECT_EQ(spares_bytes(self->spares), n_bytes);
	EXPECT_EQ(count_files(self, ""), n);
}

/* A record of one byte, at the beginning. */
static void put_record(struct journal_segment *segment)
{
	struct journal_header header = {.payload_len = 1, .sequence = 5, .index = 77};
	uint8_t *at = segment->map + JOURNAL_HEADER_BYTES;

	journal_record_reserve(at, &header);
	at[JOURNAL_RECORD_HEADER_BYTES] = 'x';
	journal_record_publish(at, segment->identity.id);
}

static enum journal_found find_record(const struct journal_segment *segment)
{
	struct journal_header header;
	uint64_t size;

	return journal_record_at(segment_bytes(segment), segment->identity.id, JOURNAL_HEADER_BYTES, &header,
				 &size);
}

/* --- new ones --------------------------------------------------------------------------------- */

TEST_F(spares, one_is_made_and_taken)
{
	struct journal_segment *segment, *again;
	struct stat st;

	EXPECT_TRUE(!take(self, SIZE));
	spares_prepare(self->spares, SIZE);
	EXPECT_FALSE(spares_is_idle(self->spares));
	EXPECT_TRUE(!take(self, SIZE));
	/* It is being made. */
	spares_prepare(self->spares, SIZE);
	settle(self);
	spares_prepare(self->spares, SIZE);
	EXPECT_TRUE(spares_is_idle(self->spares));
	expect_kept(self, 1, SIZE);
	EXPECT_EQ(count_files(self, ".segment"), 1u);
	EXPECT_TRUE(!take(self, SIZE / 2));

	segment = take(self, SIZE);
	ASSERT_TRUE(segment);
	EXPECT_EQ(self->identity.id, segment->identity.id);
	EXPECT_EQ(segment->n_users, 1u);
	EXPECT_EQ(segment->head, JOURNAL_HEADER_BYTES + 0u);
	EXPECT_EQ(segment->next_index, 77u);
	EXPECT_EQ(spares_n(self->spares), 0u);
	EXPECT_FALSE(self->dir.is_dirty);
	ASSERT_EQ(fstat(segment->fd, &st), 0);
	EXPECT_EQ(st.st_size, (off_t)SIZE);
	EXPECT_GE(st.st_blocks * 512, (long)SIZE);
	EXPECT_EQ(st.st_mode, S_IFREG | 0600u);
	EXPECT_EQ(segment->map[JOURNAL_HEADER_BYTES], 0);
	EXPECT_EQ(segment->map[SIZE - 1], 0);

	ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
	EXPECT_TRUE(again->identity.kind == JOURNAL_KIND_QUEUE);
	EXPECT_STREQ(again->identity.channel_name, "sensors");
	EXPECT_EQ(again->state.generation, 1u);
	EXPECT_EQ(again->state.done_index, 77u);
	segment_free(again);
	segment_delete(segment);
}

TEST_F(spares, a_large_one_is_filled_piece_by_piece)
{
	struct journal_segment *segment;

	prepare(self, 4 << 20);
	segment = take(self, 4 << 20);
	ASSERT_TRUE(segment);
	for (size_t i = JOURNAL_HEADER_BYTES; i < 4 << 20; i += 4096)
		ASSERT_EQ(segment->map[i], 0);
	segment_delete(segment);
}

TEST_F(spares, a_volatile_one_is_only_allocated)
{
	struct journal_segment *segment;
	uint64_t n_turns = loop_n_turns(self->loop);

	mount_on_base(self, "tmpfs", "size=1m");
	self->dir.is_volatile = true;
	prepare(self, SIZE);
	/* open, allocate, two identities, rename. */
	EXPECT_LE(loop_n_turns(self->loop) - n_turns, 8u);
	segment = take(self, SIZE);
	ASSERT_TRUE(segment);
	segment_delete(segment);
}

TEST_F(spares, a_file_system_that_cannot_allocate_gets_zeros)
{
	struct journal_segment *segment;
	struct stat st;

	mount_on_base(self, "ramfs", NULL);
	self->dir.is_volatile = true;
	prepare(self, SIZE);
	segment = take(self, SIZE);
	ASSERT_TRUE(segment);
	ASSERT_EQ(fstat(segment->fd, &st), 0);
	EXPECT_EQ(st.st_size, (off_t)SIZE);
	segment_delete(segment);
}

/* --- used again ------------------------------------------------------------------------------- */

TEST_F(spares, one_that_was_used_has_no_records_left)
{
	struct journal_segment *segment, *again;
	uint64_t id;

	prepare(self, SIZE);
	segment = take(self, SIZE);
	ASSERT_TRUE(segment);
	id = segment->identity.id;
	put_record(segment);
	EXPECT_TRUE(find_record(segment) == JOURNAL_FOUND_RECORD);
	segment->state.done_index = 78;
	segment->state.end_offset = 4160;
	segment->state.end_index = 78;
	EXPECT_EQ(segment_write_state(segment), 0);
	EXPECT_EQ(segment_write_state(segment), 0);
	segment_unmap(segment);
	segment->recovered_head = 4160;
	segment->is_dirty = true;

	spares_give(self->spares, segment);
	EXPECT_TRUE(!take(self, SIZE));
	settle(self);
	expect_kept(self, 1, SIZE);
	self->identity.first_index = 100;
	segment = take(self, SIZE);
	ASSERT_TRUE(segment);
	EXPECT_TRUE(segment->identity.id != id);
	EXPECT_EQ(segment->map[JOURNAL_HEADER_BYTES + JOURNAL_RECORD_HEADER_BYTES], 'x');
	EXPECT_TRUE(find_record(segment) == JOURNAL_FOUND_NOTHING);
	EXPECT_EQ(segment->state.end_offset, 0u);
	EXPECT_EQ(segment->recovered_head, 0u);
	EXPECT_FALSE(segment->is_dirty);

	ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
	EXPECT_EQ(again->state.generation, 1u);
	EXPECT_EQ(again->state.done_index, 100u);
	EXPECT_EQ(again->head, 0u);
	segment_free(again);
	segment_delete(segment);
}

static struct journal_segment *make_unmapped(struct fixture_spares *self, uint64_t size)
{
	struct journal_segment *segment;

	self->identity.size = size;
	ASSERT_EQ(segment_new(&segment, &self->dir, &self->identity), 0);
	segment_unmap(segment);
	return segment;
}

TEST_F(spares, more_than_the_most_are_deleted)
{
	for (int i = 0; i < 5; ++i)
		spares_give(self->spares, make_unmapped(self, SIZE));
	settle(self);
	expect_kept(self, SPARES_MAX, SPARES_MAX * SIZE);
}

TEST_F(spares, what_failed_is_not_used_again)
{
	struct journal_segment *segment = make_unmapped(self, SIZE);

	segment->is_failed = true;
	spares_give(self->spares, segment);
	settle(self);
	expect_kept(self, 0, 0);
}

/* --- the check -------------------------------------------------------------------------------- */

TEST_F(spares, one_that_cannot_be_checked_is_not_kept)
{
	int fds[2];

	ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
	self->dir.check_fd = fds[1];
	prepare(self, SIZE);
	expect_kept(self, 0, 0);
	spares_give(self->spares, make_unmapped(self, SIZE));
	settle(self);
	expect_kept(self, 0, 0);
	close(fds[0]);
	close(fds[1]);
}

/* One that is ready is taken, and given back. */
static bool was_settled(struct fixture_spares *self)
{
	struct journal_segment *segment = take(self, SIZE);
	bool is_settled;

	ASSERT_TRUE(segment);
	is_settled = segment->is_settled;
	segment_unmap(segment);
	spares_give(self->spares, segment);
	settle(self);
	return is_settled;
}

TEST_F(spares, one_that_was_filled_and_checked_is_settled)
{
	_cleanup_(close_fd) int fd = memfd_create("lock", MFD_CLOEXEC);

	ASSERT_GE(fd, 0);
	self->dir.check_fd = fd;
	prepare(self, SIZE);
	EXPECT_TRUE(was_settled(self));
	/* Nothing changed in that. */
	EXPECT_TRUE(was_settled(self));
}

TEST_F(spares, one_that_was_filled_and_not_checked_is_not_settled)
{
	prepare(self, SIZE);
	EXPECT_FALSE(was_settled(self));
}

TEST_F(spares, one_that_was_never_filled_is_not_settled)
{
	_cleanup_(close_fd) int fd = memfd_create("lock", MFD_CLOEXEC);

	ASSERT_GE(fd, 0);
	self->dir.check_fd = fd;
	spares_give(self->spares, make_unmapped(self, SIZE));
	settle(self);
	EXPECT_FALSE(was_settled(self));
	EXPECT_FALSE(was_settled(self));
}

/* --- sizes ------------------------------------------------------------------------------------ */

TEST_F(spares, there_is_room_for_the_size_that_is_wanted)
{
	struct journal_segment *segment;

	prepare(self, SIZE);
	prepare(self, 2 * SIZE);
	expect_kept(self, 2, 3 * SIZE);
	/* The one that was wanted longest ago goes. */
	prepare(self, SIZE);
	prepare(self, 4 * SIZE);
	expect_kept(self, 2, 5 * SIZE);
	segment = take(self, SIZE);
	EXPECT_TRUE(segment);
	segment_delete(segment);
	segment = take(self, 4 * SIZE);
	EXPECT_TRUE(segment);
	segment_delete(segment);
}

TEST_F(spares, another_size_waits_for_the_one_being_made)
{
	spares_prepare(self->spares, SIZE);
	ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	spares_give(self->spares, make_unmapped(self, 4 * SIZE));
	spares_prepare(self->spares, 2 * SIZE);
	settle(self);
	/* There was no room for it. */
	expect_kept(self, 2, 5 * SIZE);
	prepare(self, 2 * SIZE);
	EXPECT_EQ(spares_n(self->spares), 2u);
	EXPECT_GE(spares_bytes(self->spares), 3 * SIZE);
	segment_delete(take(self, 2 * SIZE));
}

TEST_F(spares, several_sizes_are_made_one_after_the_other)
{
	for (uint64_t size = SIZE / 2; size <= 2 * SIZE; size *= 2)
		spares_prepare(self->spares, size);
	settle(self);
	/* The first one was wanted longest ago. */
	expect_kept(self, 2, 3 * SIZE);
}

TEST_F(spares, the_one_being_made_goes_when_its_space_is_needed)
{
	EXPECT_FALSE(spares_has(self->spares, SIZE));
	spares_prepare(self->spares, SIZE);
	ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_EQ(spares_n(self->spares), 1u);
	spares_drop(self->spares);
	settle(self);
	expect_kept(self, 0, 0);
	/* The next one is made as ever. */
	prepare(self, SIZE);
	EXPECT_TRUE(spares_has(self->spares, SIZE));
	expect_kept(self, 1, SIZE);
}

static int error_of(const struct journal_box *box)
{
	struct journal_stats stats;

	journal_stats(box->j, &stats);
	return stats.error;
}

static void wait_for_spare(struct journal_box *box, struct journal_lane *lane, uint64_t size)
{
	while (!spares_has(box->j->spares, size)) {
		ASSERT_EQ(box_append(box, lane, 0, 1000), 0);
		while (loop_n_in_flight(box->loop) > 0)
			ASSERT_EQ(loop_turn(box->loop, NSEC_PER_MSEC), 0);
		box_turn(box);
	}
}

/* A full disk is none when what could not be made was ready all the time. */
TEST(a_spare_one_ends_the_wait_for_space)
{
	struct journal_box box;
	struct journal_lane *lane;

	box_init(&box);
	ASSERT_EQ(box_open(&box), 0);
	lane = box_lane(&box, 1, 5, 0);
	wait_for_spare(&box, lane, SIZE);
	/* The timer finds it. */
	disk_on_make(box.j, SIZE, -ENOSPC);
	EXPECT_EQ(error_of(&box), -ENOSPC);
	EXPECT_TRUE(box_wait_event(&box, "disk-ok"));
	EXPECT_EQ(error_of(&box), 0);
	EXPECT_EQ(spares_n(box.j->spares), 1u);
	/* A writer finds it. */
	disk_on_make(box.j, SIZE, -ENOSPC);
	while (spares_has(box.j->spares, SIZE))
		ASSERT_EQ(box_append(&box, lane, 0, 1000), 0);
	EXPECT_EQ(error_of(&box), 0);
	box_close(&box);
	box_deinit(&box);
}

/* As when a daemon cannot start after all. */
TEST_F(spares, a_stop_before_the_first_turn_has_nothing_to_wait_for)
{
	spares_prepare(self->spares, SIZE);
	spares_give(self->spares, make_unmapped(self, SIZE));
	spares_stop(self->spares, true);
	EXPECT_TRUE(spares_is_idle(self->spares));
	spares_give(self->spares, make_unmapped(self, SIZE));
	EXPECT_TRUE(spares_is_idle(self->spares));
	spares_free(self->spares);
	self->spares = NULL;
	EXPECT_EQ(count_files(self, ""), 0u);
}

TEST_F(spares, a_size_that_is_not_wanted_any_more_goes)
{
	prepare(self, 8 * SIZE);
	for (int i = 0; i < SPARES_AGE_MAX; ++i)
		prepare(self, SIZE);
	expect_kept(self, 2, 9 * SIZE);
	prepare(self, SIZE);
	expect_kept(self, 1, SIZE);
}

/* --- the end, and what is left ---------------------------------------------------------------- */

TEST_F(spares, are_deleted_or_kept_at_the_end)
{
	struct journal_segment *segment;
	struct dirent *entry;
	DIR *d;

	prepare(self, SIZE);
	spares_give(self->spares, make_unmapped(self, SIZE));
	settle(self);
	stop(self, true);
	EXPECT_EQ(count_files(self, ".segment"), 2u);
	ASSERT_EQ(spares_new(&self->spares, self->loop, &self->dir), 0);

	/* As the journal does at start. */
	d = opendir(self->base);
	ASSERT_TRUE(d);
	while ((entry = readdir(d))) {
		if (entry->d_name[0] == '.' || segment_open(&segment, &self->dir, entry->d_name) != 0)
			continue;
		EXPECT_TRUE(segment->identity.kind == JOURNAL_KIND_SPARE);
		spares_give(self->spares, segment);
	}
	closedir(d);
	settle(self);
	expect_kept(self, 2, 2 * SIZE);
	stop(self, false);
	EXPECT_EQ(count_files(self, ""), 0u);
}

/* Ends it after each number of turns: whatever the step, nothing is left but whole spare ones. */
TEST_F_TIMEOUT(spares, an_end_at_any_step_leaves_nothing_half_made, 60)
{
	bool was_made = false;

	for (unsigned int n = 0; !was_made; ++n) {
		struct journal_segment *segment = make_unmapped(self, SIZE);

		ASSERT_LT(n, 100u);
		spares_prepare(self->spares, 4 * SIZE);
		spares_give(self->spares, segment);
		for (unsigned int i = 0; i < n && !spares_is_idle(self->spares); ++i)
			ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
		was_made = spares_is_idle(self->spares);
		stop(self, n % 2 == 0);
		EXPECT_EQ(count_files(self, ".spare"), 0u);
		EXPECT_LE(count_files(self, ".segment"), n % 2 == 0 ? 2u : 0u);
		ASSERT_EQ(spares_new(&self->spares, self->loop, &self->dir), 0);
		while (n % 2 == 0 && count_files(self, ".segment") > 0) {
			char command[128];

			snprintf(command, sizeof(command), "rm %s/*.segment", self->base);
			ASSERT_EQ(system(command), 0);
		}
	}
}

/* What a killed daemon leaves at any step of both kinds of work is one segment as it was, or spare ones. */
static void expect_killed_state(struct fixture_spares *self, uint64_t used_id)
{
	DIR *d = opendir(self->base);
	struct journal_segment *segment;
	const struct dirent *entry;
	unsigned int n = 0;

	ASSERT_TRUE(d);
	while ((entry = readdir(d))) {
		const char *dot = strrchr(entry->d_name, '.');

		if (!dot || strcmp(dot, ".segment") != 0)
			continue;
		ASSERT_EQ(segment_open(&segment, &self->dir, entry->d_name), 0);
		if (segment->identity.kind == JOURNAL_KIND_SPARE) {
			EXPECT_TRUE(segment->identity.id != used_id);
		} else {
			EXPECT_EQ(segment->identity.id, used_id);
			EXPECT_EQ(segment->state.end_index, 99u);
		}
		++n;
		segment_delete(segment);
	}
	closedir(d);
	EXPECT_GE(n, 1u);
}

static void run_and_be_killed(struct fixture_spares *self, struct journal_segment *segment,
			      unsigned int n_turns)
{
	struct journal_spares *spares;
	struct loop *loop;

	/* A ring is used by who made it. */
	if (loop_new(&loop, &(struct loop_options){.log = NULL}) || spares_new(&spares, loop, &self->dir))
		_exit(3);
	spares_give(spares, segment);
	spares_prepare(spares, 4 * SIZE);
	for (unsigned int i = 0; i < n_turns; ++i) {
		if (spares_is_idle(spares))
			_exit(1);
		loop_turn(loop, TIME_NEVER);
	}
	kill(getpid(), SIGKILL);
}

TEST_F_TIMEOUT(spares, a_kill_at_any_step_leaves_what_can_be_told_apart, 60)
{
	bool is_done = false;

	for (unsigned int n = 0; !is_done; ++n) {
		struct journal_segment *segment = make_unmapped(self, SIZE);
		uint64_t id = segment->identity.id;
		int status = 0;
		pid_t pid;

		ASSERT_LT(n, 100u);
		segment->state.end_offset = 10000;
		segment->state.end_index = 99;
		ASSERT_EQ(segment_write_state(segment), 0);
		fflush(NULL);
		pid = fork();
		ASSERT_GE(pid, 0);
		if (pid == 0)
			run_and_be_killed(self, segment, n);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		is_done = WIFEXITED(status);
		EXPECT_TRUE(is_done ? WEXITSTATUS(status) == 1 : WTERMSIG(status) == SIGKILL);
		segment_free(segment);
		expect_killed_state(self, id);
		/* The next daemon cleans up. */
		spares_free(self->spares);
		ASSERT_EQ(spares_new(&self->spares, self->loop, &self->dir), 0);
		EXPECT_EQ(count_files(self, ""), 0u);
	}
}

/* --- power cuts ------------------------------------------------------------------------------- */

/* The used segment as it was synced, or whole spare ones under whatever name; and no id is one it had. */
static void expect_cut_state(struct fixture_spares *self, uint64_t used_id)
{
	DIR *d = opendir(self->base);
	struct journal_segment *segment;
	const struct dirent *entry;

	ASSERT_TRUE(d);
	while ((entry = readdir(d))) {
		const char *dot = strrchr(entry->d_name, '.');

		if (!dot || strcmp(dot, ".segment") != 0)
			continue;
		ASSERT_EQ(segment_open(&segment, &self->dir, entry->d_name), 0);
		ASSERT_EQ(segment_map(segment), 0);
		EXPECT_FALSE(segment->is_private);
		if (segment->identity.kind == JOURNAL_KIND_SPARE) {
			EXPECT_TRUE(segment->identity.id != used_id);
			EXPECT_TRUE(find_record(segment) == JOURNAL_FOUND_NOTHING);
		} else {
			EXPECT_EQ(segment->identity.id, used_id);
			EXPECT_EQ(segment->state.end_index, 78u);
			EXPECT_TRUE(find_record(segment) == JOURNAL_FOUND_RECORD);
		}
		segment_unmap(segment);
		segment_delete(segment);
	}
	closedir(d);
}

/* A segment that is done with, and all of it on the disk. */
static struct journal_segment *make_used(struct fixture_spares *self)
{
	struct journal_segment *segment;

	self->identity.size = SIZE;
	ASSERT_EQ(segment_new(&segment, &self->dir, &self->identity), 0);
	put_record(segment);
	segment->state.done_index = segment->state.end_index = 78;
	segment->state.done_offset = segment->state.end_offset = 4160;
	ASSERT_EQ(segment_write_state(segment), 0);
	ASSERT_EQ(fsync(segment->fd), 0);
	ASSERT_EQ(fsync(self->dir.fd), 0);
	segment_unmap(segment);
	return segment;
}

/* Ends all that is in flight, of a disk that is gone. */
static void cut_power(struct fixture_spares *self, struct journal_segment *taken)
{
	disk_cut(&self->disk);
	stop(self, true);
	segment_free(taken);
	close(self->dir.fd);
	self->dir.fd = -1;
	disk_umount(&self->disk);
	disk_mount(&self->disk);
	open_base(self);
	ASSERT_EQ(spares_new(&self->spares, self->loop, &self->dir), 0);
	EXPECT_EQ(count_files(self, ".spare"), 0u);
}

TEST_F_TIMEOUT(spares, a_power_cut_at_any_step_leaves_what_can_be_told_apart, 120)
{
	const char *why = disk_why_not();
	bool is_done = false;

	SKIP_IF(why, why);
	disk_init(&self->disk, self->top, "disk", 16, NULL);
	disk_mount(&self->disk);
	snprintf(self->base, sizeof(self->base), "%s/disk", self->top);
	open_base(self);
	for (unsigned int n = 0; !is_done; ++n) {
		struct journal_segment *segment = make_used(self);
		uint64_t id = segment->identity.id;

		ASSERT_LT(n, 100u);
		spares_give(self->spares, segment);
		spares_prepare(self->spares, SIZE / 2);
		for (unsigned int i = 0; i < n && !spares_is_idle(self->spares); ++i)
			ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
		is_done = spares_is_idle(self->spares);
		/* What was ready is taken, and the power goes before anything of it is synced. */
		segment = take(self, SIZE);
		if (segment)
			put_record(segment);
		cut_power(self, segment);
		expect_cut_state(self, id);
	}
}

/* --- the disk --------------------------------------------------------------------------------- */

TEST_F(spares, a_full_disk_makes_none_and_leaves_nothing)
{
	mount_on_base(self, "tmpfs", "size=192k");
	prepare(self, SIZE);
	expect_kept(self, 1, SIZE);
	prepare(self, 2 * SIZE);
	expect_kept(self, 1, SIZE);
	EXPECT_TRUE(!take(self, 2 * SIZE));
	/* What waits can be had at once. */
	EXPECT_TRUE(spares_drop(self->spares));
	EXPECT_FALSE(spares_drop(self->spares));
	expect_kept(self, 0, 0);
	prepare(self, SIZE);
	expect_kept(self, 1, SIZE);
}

TEST_F(spares, a_read_only_disk_makes_none)
{
	struct journal_segment *segment;

	mount_on_base(self, "tmpfs", "size=1m");
	segment = make_unmapped(self, SIZE);
	ASSERT_EQ(mount(NULL, self->base, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	prepare(self, SIZE);
	EXPECT_EQ(spares_n(self->spares), 0u);
	spares_give(self->spares, segment);
	settle(self);
	EXPECT_EQ(spares_n(self->spares), 0u);
	EXPECT_EQ(count_files(self, ""), 1u);
}

TEST_F(spares, a_limit_of_file_size_makes_none)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = SIZE - 1;
	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	prepare(self, SIZE);
	expect_kept(self, 0, 0);
	prepare(self, SIZE / 2);
	expect_kept(self, 1, SIZE / 2);
}

TEST_HARNESS_MAIN
