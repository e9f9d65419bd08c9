/* SPDX-License-Identifier: MIT */
/*
 * Segments as files: what is on the disk after each call, what is taken for a segment, users of the mapping, and all
 * that a disk can answer: full, read-only, a limit of file size, of descriptors, of memory, a file cut while mapped.
 */

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "journal/segment.h"
#include "tests/harness.h"
#include "tests/support/guarded.h"

/* The sanitizer ends a process that gets no memory. */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_MEMORY_LIMIT 0
#elif defined(__has_feature)
#define HAS_MEMORY_LIMIT !__has_feature(address_sanitizer)
#else
#define HAS_MEMORY_LIMIT 1
#endif

#define SIZE JOURNAL_SEGMENT_BYTES_MIN

FIXTURE(segment)
{
	char base[64];
	bool is_mounted;
	struct journal_dir dir;
	struct journal_identity identity;
};

static void open_base(struct fixture_segment *self)
{
	if (self->dir.fd >= 0)
		close(self->dir.fd);
	self->dir = (struct journal_dir){.fd = open(self->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
					 .check_fd = -1,
					 .guard = guarded()};
	ASSERT_GE(self->dir.fd, 0);
}

FIXTURE_SETUP(segment)
{

	self->dir.fd = -1;
	strcpy(self->base, "/tmp/test-segment.XXXXXX");
	ASSERT_TRUE(mkdtemp(self->base));
	open_base(self);
	self->identity = (struct journal_identity){.size = SIZE,
						   .made_ms = 1234567890123,
						   .first_index = 77,
						   .kind = JOURNAL_KIND_QUEUE,
						   .priority = 3,
						   .channel = 4,
						   .ttl_s = 60,
						   .channel_name = "sensors"};
}

FIXTURE_TEARDOWN(segment)
{
	char command[128];

	if (!self->base[0])
		return;
	if (self->is_mounted && !test_is_orphan())
		umount2(self->base, MNT_DETACH);
	snprintf(command, sizeof(command), "rm -rf %s", self->base);
	EXPECT_EQ(system(command), 0);
}

/* In a namespace of its own: it goes away with the test. */
static void mount_on_base(struct fixture_segment *self, const char *type, const char *data)
{
	SKIP_IF(geteuid() != 0, "mounting needs root");
	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
	SKIP_IF(mount("test", self->base, type, 0, data) < 0, "the file system cannot be mounted");
	self->is_mounted = true;
	open_base(self);
}

static void remount(struct fixture_segment *self, unsigned long flags)
{
	ASSERT_EQ(mount(NULL, self->base, NULL, MS_REMOUNT | flags, NULL), 0);
}

static int count_files(const struct fixture_segment *self)
{
	char command[128];
	int n = -1;
	FILE *f;

	snprintf(command, sizeof(command), "ls -A %s | grep -cv lost.found", self->base);
	f = popen(command, "r");
	if (f) {
		if (fscanf(f, "%d", &n) != 1)
			n = -1;
		pclose(f);
	}
	return n;
}

static struct journal_segment *make(struct fixture_segment *self)
{
	struct journal_segment *segment;

	ASSERT_EQ(segment_new(&segment, &self->dir, &self->identity), 0);
	return segment;
}

static void read_header(const struct fixture_segment *self, const char *name, uint8_t *header)
{
	_cleanup_(close_fd) int fd = openat(self->dir.fd, name, O_RDONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(pread(fd, header, JOURNAL_HEADER_BYTES, 0), JOURNAL_HEADER_BYTES);
}

static void write_file(const struct fixture_segment *self, const char *name, const void *data, size_t len,
		       off_t at)
{
	_cleanup_(close_fd) int fd = openat(self->dir.fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(pwrite(fd, data, len, at), (ssize_t)len);
}

static void cut_file(const struct fixture_segment *self, const char *name, off_t len)
{
	_cleanup_(close_fd) int fd = openat(self->dir.fd, name, O_RDWR | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, len), 0);
}

static void expect_first_state(const struct journal_state *state, uint64_t generation)
{
	EXPECT_EQ(state->generation, generation);
	EXPECT_EQ(state->done_index, 77u);
	EXPECT_EQ(state->done_offset, JOURNAL_HEADER_BYTES + 0u);
	EXPECT_EQ(state->stored_offset, JOURNAL_HEADER_BYTES + 0u);
	EXPECT_EQ(state->end_offset, 0u);
}

/* --- making ----------------------------------------------------------------------------------- */

TEST_F(segment, a_new_one_is_all_there)
{
	struct journal_segment *segment = make(self);
	char name[JOURNAL_SEGMENT_NAME_SIZE];
	uint8_t header[JOURNAL_HEADER_BYTES];
	struct journal_identity identity;
	struct journal_state state;
	struct stat st;

	EXPECT_TRUE(self->identity.id != 0);
	EXPECT_EQ(segment->identity.id, self->identity.id);
	segment_name(self->identity.id, name);
	EXPECT_STREQ(segment->name, name);
	ASSERT_EQ(fstatat(self->dir.fd, name, &st, 0), 0);
	EXPECT_EQ(st.st_mode, S_IFREG | 0600u);
	EXPECT_EQ(st.st_size, (off_t)SIZE);
	EXPECT_GE(st.st_blocks * 512, (long)SIZE);
	EXPECT_EQ(fcntl(segment->fd, F_GETFD), FD_CLOEXEC);
	EXPECT_TRUE(self->dir.is_dirty);
	EXPECT_EQ(segment->n_users, 1u);
	EXPECT_EQ(segment->head, JOURNAL_HEADER_BYTES + 0u);
	EXPECT_EQ(segment->next_index, 77u);
	EXPECT_EQ(segment->last_sequence, 0u);
	EXPECT_FALSE(segment->is_private);
	expect_first_state(&segment->state, 1);
	EXPECT_EQ(segment_bytes(segment).len, SIZE);

	read_header(self, name, header);
	EXPECT_MEMEQ(header, segment->map, JOURNAL_HEADER_BYTES);
	EXPECT_MEMEQ(header, header + JOURNAL_IDENTITY_COPY_AT, JOURNAL_IDENTITY_BYTES);
	ASSERT_EQ(journal_identity_get(header, &identity), 0);
	EXPECT_EQ(identity.id, self->identity.id);
	EXPECT_STREQ(identity.channel_name, "sensors");
	journal_state_get(header, identity.id, &state);
	expect_first_state(&state, 1);
	segment_delete(segment);
	EXPECT_EQ(count_files(self), 0);
}

TEST_F(segment, each_has_its_own_id_and_goes_by_itself)
{
	struct journal_segment *a = make(self), *b = make(self);

	EXPECT_TRUE(a->identity.id != b->identity.id);
	segment_delete(a);
	EXPECT_EQ(count_files(self), 1);
	segment_free(b);
	EXPECT_EQ(count_files(self), 1);
	segment_free(NULL);
	segment_delete(NULL);
}

TEST_F(segment, what_is_written_into_the_mapping_is_in_the_file)
{
	struct journal_segment *segment = make(self);
	uint8_t text[5];
	_cleanup_(close_fd) int fd = openat(self->dir.fd, segment->name, O_RDONLY | O_CLOEXEC);

	memcpy(segment->map + SIZE - 5, "hello", 5);
	ASSERT_EQ(pread(fd, text, 5, (off_t)SIZE - 5), 5);
	EXPECT_MEMEQ(text, "hello", 5);
	segment_delete(segment);
}

/* --- opening ---------------------------------------------------------------------------------- */

TEST_F(segment, what_was_made_is_opened)
{
	struct journal_segment *segment = make(self), *again;

	ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
	EXPECT_TRUE(!again->map);
	EXPECT_EQ(again->fd, -1);
	EXPECT_EQ(again->n_users, 0u);
	EXPECT_FALSE(again->is_private);
	EXPECT_EQ(again->identity.id, self->identity.id);
	EXPECT_EQ(again->identity.size, SIZE);
	EXPECT_EQ(again->identity.made_ms, 1234567890123u);
	EXPECT_EQ(again->identity.first_index, 77u);
	EXPECT_TRUE(again->identity.kind == JOURNAL_KIND_QUEUE);
	EXPECT_EQ(again->identity.priority, 3);
	EXPECT_EQ(again->identity.channel, 4);
	EXPECT_EQ(again->identity.ttl_s, 60u);
	EXPECT_STREQ(again->identity.channel_name, "sensors");
	expect_first_state(&again->state, 1);
	/* The journal finds the end of what has none. */
	EXPECT_EQ(again->head, 0u);
	EXPECT_EQ(again->next_index, 0u);
	segment_free(again);
	segment_delete(segment);
	EXPECT_EQ(segment_open(&again, &self->dir, "0123456789abcdef.segment"), -ENOENT);
}

TEST_F(segment, what_is_no_segment_is_told)
{
	static const uint8_t zeros[2 * JOURNAL_HEADER_BYTES];
	static const char name[] = "0123456789abcdef.segment";
	struct journal_segment *segment, *made;

	EXPECT_EQ(segment_open(&segment, &self->dir, "a-name-that-is-too-long.segment"), -EBADMSG);
	write_file(self, name, "", 0, 0);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -ENODATA);
	write_file(self, name, zeros, 100, 0);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -ENODATA);
	write_file(self, name, zeros, sizeof(zeros), 0);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -ENODATA);
	/* It lost its header, and nobody knows what is in it. */
	write_file(self, name, "x", 1, JOURNAL_SEGMENT_BYTES_MIN - 1);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -EBADMSG);
	write_file(self, name, "x", 1, JOURNAL_HEADER_BYTES - 1);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -EBADMSG);
	ASSERT_EQ(unlinkat(self->dir.fd, name, 0), 0);

	ASSERT_EQ(mkdirat(self->dir.fd, name, 0700), 0);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -EBADMSG);
	ASSERT_EQ(unlinkat(self->dir.fd, name, AT_REMOVEDIR), 0);
	ASSERT_EQ(mkfifoat(self->dir.fd, name, 0600), 0);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -EBADMSG);
	ASSERT_EQ(unlinkat(self->dir.fd, name, 0), 0);
	made = make(self);
	ASSERT_EQ(symlinkat(made->name, self->dir.fd, name), 0);
	EXPECT_EQ(segment_open(&segment, &self->dir, name), -EBADMSG);
	segment_free(made);
}

TEST_F(segment, a_copy_under_another_name_is_no_segment_unless_spare)
{
	static const char name[] = "0123456789abcdef.segment";
	struct journal_segment *segment = make(self), *again;

	segment_unmap(segment);
	ASSERT_EQ(renameat(self->dir.fd, segment->name, self->dir.fd, name), 0);
	EXPECT_EQ(segment_open(&again, &self->dir, name), -EBADMSG);
	segment_free(segment);

	self->identity.kind = JOURNAL_KIND_SPARE;
	segment = make(self);
	ASSERT_EQ(renameat(self->dir.fd, segment->name, self->dir.fd, name), 0);
	ASSERT_EQ(segment_open(&again, &self->dir, name), 0);
	EXPECT_EQ(again->identity.id, segment->identity.id);
	segment_delete(again);
	EXPECT_EQ(faccessat(self->dir.fd, name, F_OK, 0), -1);
	segment_free(segment);
}

TEST_F(segment, numbers_nobody_makes_are_no_segment)
{
	struct journal_segment *segment = make(self), *again;
	struct journal_identity wrong[2];

	wrong[0] = wrong[1] = segment->identity;
	wrong[0].size = JOURNAL_SEGMENT_BYTES_MAX * 2;
	wrong[1].first_index = INT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); ++i) {
		journal_identity_put(&wrong[i], segment->map + JOURNAL_IDENTITY_AT);
		journal_identity_put(&wrong[i], segment->map + JOURNAL_IDENTITY_COPY_AT);
		EXPECT_EQ(segment_open(&again, &self->dir, segment->name), -EBADMSG);
	}
	segment_delete(segment);
}

TEST_F(segment, one_damaged_identity_does_not_matter)
{
	static const size_t at[] = {JOURNAL_IDENTITY_AT + 20, JOURNAL_IDENTITY_COPY_AT + 20};
	struct journal_segment *segment, *again;

	for (size_t i = 0; i < ARRAY_SIZE(at); ++i) {
		segment = make(self);
		segment->map[at[i]] ^= 0x10;
		ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
		EXPECT_EQ(again->identity.id, segment->identity.id);
		expect_first_state(&again->state, 1);
		segment_free(again);
		segment->map[at[1 - i]] ^= 0x10;
		EXPECT_EQ(segment_open(&again, &self->dir, segment->name), -EBADMSG);
		segment_delete(segment);
	}
}

/* --- the mapping ------------------------------------------------------------------------------ */

TEST_F(segment, is_mapped_while_it_has_users)
{
	struct journal_segment *segment = make(self);
	int fd = segment->fd;

	memcpy(segment->map + 5000, "kept", 4);
	ASSERT_EQ(segment_map(segment), 0);
	EXPECT_EQ(segment->fd, fd);
	segment_unmap(segment);
	EXPECT_TRUE(segment->map);
	segment_unmap(segment);
	EXPECT_TRUE(!segment->map && !segment->range);
	EXPECT_EQ(segment->fd, -1);
	EXPECT_EQ(fcntl(fd, F_GETFD), -1);
	EXPECT_FALSE(segment_was_hit(segment));
	ASSERT_EQ(segment_map(segment), 0);
	EXPECT_MEMEQ(segment->map + 5000, "kept", 4);
	segment_unmap(segment);
	ASSERT_EQ(unlinkat(self->dir.fd, segment->name, 0), 0);
	EXPECT_EQ(segment_map(segment), -ENOENT);
	EXPECT_EQ(segment->n_users, 0u);
	segment_free(segment);
}

TEST_F(segment, that_is_cut_while_mapped_reads_as_zeros_and_says_so)
{
	struct journal_segment *segment = make(self), *again;
	_cleanup_(close_fd) int fd = openat(self->dir.fd, segment->name, O_RDWR | O_CLOEXEC);
	uint8_t header[JOURNAL_HEADER_BYTES];

	memset(segment->map + 40000, 'x', 100);
	EXPECT_FALSE(segment_was_hit(segment));
	ASSERT_EQ(ftruncate(fd, JOURNAL_HEADER_BYTES), 0);
	EXPECT_EQ(segment->map[40000], 0);
	segment->map[50000] = 1;
	segment->state.done_index = 78;
	EXPECT_EQ(segment_write_state(segment), 0);
	EXPECT_TRUE(segment_was_hit(segment));
	EXPECT_FALSE(segment_was_hit(segment));

	/* Now the header as well: the state goes into the file all the same. */
	memcpy(header, segment->map, sizeof(header));
	ASSERT_EQ(ftruncate(fd, 0), 0);
	EXPECT_EQ(segment->map[0], 0);
	write_file(self, segment->name, header, sizeof(header), 0);
	segment->state.done_index = 79;
	EXPECT_EQ(segment_write_state(segment), 0);
	ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
	EXPECT_EQ(again->state.generation, 3u);
	EXPECT_EQ(again->state.done_index, 79u);
	segment_free(again);
	segment_delete(segment);
}

/* It is not made longer: its size is only what its header says. */
TEST_F(segment, that_was_cut_is_whole_with_zeros)
{
	static const off_t lengths[] = {JOURNAL_IDENTITY_BYTES, 4096, 5000, 40960, (off_t)SIZE - 1};
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); ++i) {
		struct journal_segment *segment = make(self), *again;

		memset(segment->map + 4096, 'x', SIZE - 4096);
		segment_unmap(segment);
		cut_file(self, segment->name, lengths[i]);
		ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
		expect_first_state(&again->state, lengths[i] < 4096 ? 0 : 1);
		ASSERT_EQ(segment_map(again), 0);
		EXPECT_EQ(again->map[4096], lengths[i] > 4096 ? 'x' : 0);
		EXPECT_EQ(again->map[SIZE - 1], 0);
		again->map[SIZE - 1] = 1;
		EXPECT_FALSE(segment_was_hit(again));
		ASSERT_EQ(fstat(again->fd, &st), 0);
		EXPECT_EQ(st.st_size, lengths[i]);
		EXPECT_TRUE(again->is_private);
		EXPECT_EQ(again->file_bytes, ((uint64_t)lengths[i] + 4095) / 4096 * 4096);
		segment_delete(again);
		segment_free(segment);
	}
}

TEST_F(segment, that_was_cut_ends_where_the_file_does)
{
	struct journal_segment *segment = make(self), *again;

	segment->state.stored_offset = 16384;
	segment->state.done_offset = 12288;
	segment->state.end_offset = 16384;
	segment->state.end_index = 99;
	EXPECT_EQ(segment_write_state(segment), 0);
	segment_unmap(segment);
	cut_file(self, segment->name, 8000);
	ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
	EXPECT_EQ(again->state.done_offset, 8192u);
	EXPECT_EQ(again->state.stored_offset, 8192u);
	EXPECT_EQ(again->head, 8192u);
	EXPECT_EQ(again->next_index, 99u);
	segment_free(again);
	segment_delete(segment);
}

TEST_F(segment, is_not_mapped_without_a_guard)
{
	static struct journal_guard full;
	static uint8_t bytes[JOURNAL_GUARD_MAX];
	struct journal_segment *segment = make(self), *other;

	for (size_t i = 0; i < JOURNAL_GUARD_MAX; ++i)
		ASSERT_TRUE(journal_guard_add(&full, bytes + i, 1));
	segment_unmap(segment);
	self->dir.guard = &full;
	EXPECT_EQ(segment_map(segment), -EMFILE);
	EXPECT_EQ(segment->n_users, 0u);
	EXPECT_EQ(segment_new(&other, &self->dir, &self->identity), -EMFILE);
	EXPECT_EQ(count_files(self), 1);
	journal_guard_remove(&full.ranges[77]);
	EXPECT_EQ(segment_map(segment), 0);
	segment_delete(segment);
}

/* --- state ------------------------------------------------------------------------------------ */

static void expect_done_index(struct fixture_segment *self, const struct journal_segment *segment,
			      uint64_t done_index, uint64_t generation)
{
	struct journal_segment *again;

	ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
	EXPECT_EQ(again->state.done_index, done_index);
	EXPECT_EQ(again->state.generation, generation);
	segment_free(again);
}

TEST_F(segment, the_newest_state_counts_mapped_or_not)
{
	struct journal_segment *segment = make(self);

	for (uint64_t i = 0; i < 6; ++i) {
		segment->state.done_index = 80 + i;
		if (i == 2)
			segment_unmap(segment);
		if (i == 4)
			ASSERT_EQ(segment_map(segment), 0);
		EXPECT_EQ(segment_write_state(segment), 0);
		EXPECT_EQ(segment->state.generation, 2 + i);
		expect_done_index(self, segment, 80 + i, 2 + i);
	}
	/* Torn: the one before it. */
	segment->map[JOURNAL_STATE_AT(1) + 300] ^= 1;
	expect_done_index(self, segment, 84, 6);
	segment->map[JOURNAL_STATE_AT(0) + 300] ^= 1;
	expect_done_index(self, segment, 77, 0);
	segment_delete(segment);
}

TEST_F(segment, an_end_says_where_everything_is)
{
	struct journal_segment *segment = make(self), *again;

	segment->state.end_offset = 8000;
	segment->state.end_index = 99;
	segment->state.last_sequence = 12345;
	segment->state.done[3] = 0x81;
	EXPECT_EQ(segment_write_state(segment), 0);
	ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
	EXPECT_EQ(again->head, 8000u);
	EXPECT_EQ(again->next_index, 99u);
	EXPECT_EQ(again->last_sequence, 12345u);
	EXPECT_EQ(again->state.done[3], 0x81);
	segment_free(again);
	segment_delete(segment);
}

TEST_F(segment, a_state_that_cannot_be_counts_as_none)
{
	static const struct journal_state wrong[] = {
		{.done_index = 76, .done_offset = 4096, .stored_offset = 4096},
		{.done_index = 80, .done_offset = 4095, .stored_offset = 4096},
		{.done_index = 80, .done_offset = 4100, .stored_offset = 4096},
		{.done_index = 80, .done_offset = SIZE + 8, .stored_offset = 4096},
		{.done_index = 80, .done_offset = 4104, .stored_offset = UINT64_MAX},
		{.done_index = 80,
		 .done_offset = 4104,
		 .stored_offset = 4096,
		 .end_offset = 4101,
		 .end_index = 90},
		{.done_index = 80,
		 .done_offset = 4104,
		 .stored_offset = 4096,
		 .end_offset = SIZE + 8,
		 .end_index = 90},
		{.done_index = 80,
		 .done_offset = 5000,
		 .stored_offset = 4096,
		 .end_offset = 4992,
		 .end_index = 90},
		{.done_index = 80,
		 .done_offset = 5000,
		 .stored_offset = 4096,
		 .end_offset = 6000,
		 .end_index = 79},
		/* More records than there is room for, and numbers nobody has counted to. */
		{.done_index = 77 + SIZE / 56, .done_offset = 4104, .stored_offset = 4096},
		{.done_index = 80,
		 .done_offset = 4104,
		 .stored_offset = 4096,
		 .end_offset = 5000,
		 .end_index = 77 + SIZE / JOURNAL_RECORD_HEADER_BYTES},
		{.done_index = 80,
		 .done_offset = 4104,
		 .stored_offset = 4096,
		 .end_offset = 6000,
		 .end_index = 90,
		 .last_sequence = INT64_MAX},
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); ++i) {
		struct journal_segment *segment = make(self), *again;

		segment->state = wrong[i];
		segment->state.generation = 7;
		EXPECT_EQ(segment_write_state(segment), 0);
		ASSERT_EQ(segment_open(&again, &self->dir, segment->name), 0);
		expect_first_state(&again->state, 8);
		EXPECT_EQ(again->head, 0u);
		segment_free(again);
		segment_delete(segment);
	}
}

/* --- what a disk answers ---------------------------------------------------------------------- */

TEST_F(segment, a_full_file_system_is_told_and_nothing_is_left)
{
	struct journal_segment *segments[9];
	int r, n = 0;

	mount_on_base(self, "tmpfs", "size=512k");
	while ((r = segment_new(&segments[n], &self->dir, &self->identity)) == 0)
		ASSERT_LT(++n, 9);
	EXPECT_EQ(r, -ENOSPC);
	EXPECT_EQ(n, 8);
	EXPECT_EQ(count_files(self), 8);
	segment_delete(segments[0]);
	EXPECT_EQ(segment_new(&segments[0], &self->dir, &self->identity), 0);
	while (n > 0)
		segment_delete(segments[--n]);
}

TEST_F(segment, a_full_ext4_has_room_for_all_of_what_it_gave)
{
	struct journal_segment *segments[512];
	char command[256];
	int r, n = 0;

	SKIP_IF(geteuid() != 0, "mounting needs root");
	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
	/* The image is the tmpfs's, and goes with it. */
	ASSERT_EQ(mount("test", self->base, "tmpfs", 0, "size=16m"), 0);
	self->is_mounted = true;
	snprintf(command, sizeof(command),
		 "exec 2>/dev/null; cd %s && truncate -s 8M image && mkfs.ext4 -q image && mkdir ext4 &&"
		 " mount -o loop image ext4",
		 self->base);
	SKIP_IF(system(command) != 0, "there is no ext4 in a file");
	strcat(self->base, "/ext4");
	open_base(self);
	while ((r = segment_new(&segments[n], &self->dir, &self->identity)) == 0)
		ASSERT_LT(++n, 511);
	EXPECT_EQ(r, -ENOSPC);
	EXPECT_GT(n, 32);
	EXPECT_EQ(count_files(self), n);
	for (int i = 0; i < n; ++i) {
		memset(segments[i]->map + JOURNAL_HEADER_BYTES, 'x', SIZE - JOURNAL_HEADER_BYTES);
		EXPECT_EQ(fdatasync(segments[i]->fd), 0);
		EXPECT_FALSE(segment_was_hit(segments[i]));
		segment_delete(segments[i]);
	}
	close(self->dir.fd);
	EXPECT_EQ(umount2(self->base, 0), 0);
	*strrchr(self->base, '/') = '\0';
}

TEST_F(segment, a_file_system_that_cannot_allocate_gets_zeros)
{
	struct journal_segment *segment;
	struct stat st;

	mount_on_base(self, "ramfs", NULL);
	segment = make(self);
	ASSERT_EQ(fstat(segment->fd, &st), 0);
	EXPECT_EQ(st.st_size, (off_t)SIZE);
	segment->map[SIZE - 1] = 1;
	EXPECT_FALSE(segment_was_hit(segment));
	segment_delete(segment);
}

/* Runs in a child, whose limits are its own. The number of failures. */
static int in_child(int (*run)(struct fixture_segment *self), struct fixture_segment *self)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(run(self));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int make_with_limit(struct fixture_segment *self, int resource, rlim_t value, int expected)
{
	struct rlimit limit, before;
	struct journal_segment *segment;
	int r;

	if (getrlimit((__rlimit_resource_t)resource, &before) < 0)
		return 1;
	limit = before;
	limit.rlim_cur = value;
	if (setrlimit((__rlimit_resource_t)resource, &limit) < 0)
		return 2;
	r = segment_new(&segment, &self->dir, &self->identity);
	if (setrlimit((__rlimit_resource_t)resource, &before) < 0)
		return 3;
	return r == expected ? 0 : 4;
}

static int make_with_file_limit(struct fixture_segment *self)
{
	signal(SIGXFSZ, SIG_IGN);
	return make_with_limit(self, RLIMIT_FSIZE, SIZE - 1, -ENOSPC);
}

static int make_with_file_limit_in_header(struct fixture_segment *self)
{
	signal(SIGXFSZ, SIG_IGN);
	return make_with_limit(self, RLIMIT_FSIZE, 100, -ENOSPC);
}

static int make_with_no_descriptor(struct fixture_segment *self)
{
	return make_with_limit(self, RLIMIT_NOFILE, (rlim_t)self->dir.fd + 1, -EMFILE);
}

static int make_with_no_memory(struct fixture_segment *self)
{
	return make_with_limit(self, RLIMIT_AS, 1, -ENOMEM);
}

TEST_F(segment, a_limit_of_the_process_is_told_and_nothing_is_left)
{
	EXPECT_EQ(in_child(make_with_file_limit, self), 0);
	EXPECT_EQ(in_child(make_with_file_limit_in_header, self), 0);
	EXPECT_EQ(in_child(make_with_no_descriptor, self), 0);
	if (HAS_MEMORY_LIMIT)
		EXPECT_EQ(in_child(make_with_no_memory, self), 0);
	EXPECT_EQ(count_files(self), 0);
	EXPECT_FALSE(self->dir.is_dirty);
}

TEST_F(segment, a_file_limit_on_a_file_system_that_cannot_allocate)
{
	mount_on_base(self, "ramfs", NULL);
	EXPECT_EQ(in_child(make_with_file_limit, self), 0);
	EXPECT_EQ(in_child(make_with_file_limit_in_header, self), 0);
	EXPECT_EQ(count_files(self), 0);
}

TEST_F(segment, a_read_only_file_system_is_read)
{
	struct journal_segment *segment, *cut;
	uint8_t header[JOURNAL_HEADER_BYTES];

	mount_on_base(self, "tmpfs", "size=1m");
	segment = make(self);
	memcpy(segment->map + 5000, "kept", 4);
	segment_unmap(segment);
	cut = make(self);
	memset(cut->map + 4096, 'x', SIZE - 4096);
	segment_unmap(cut);
	cut_file(self, cut->name, 5000);
	remount(self, MS_RDONLY);

	EXPECT_EQ(segment_new(&segment, &self->dir, &self->identity), -EROFS);
	EXPECT_EQ(count_files(self), 2);
	EXPECT_EQ(segment_write_state(segment), -EROFS);
	EXPECT_EQ(segment->state.generation, 1u);
	ASSERT_EQ(segment_map(segment), 0);
	EXPECT_TRUE(segment->is_private);
	EXPECT_MEMEQ(segment->map + 5000, "kept", 4);
	segment->map[SIZE - 1] = 1;
	segment->state.done_index = 78;
	EXPECT_EQ(segment_write_state(segment), -EROFS);
	EXPECT_FALSE(segment_was_hit(segment));
	read_header(self, segment->name, header);
	EXPECT_TRUE(memcmp(header, segment->map, JOURNAL_HEADER_BYTES) != 0);
	segment_unmap(segment);

	/* What is missing is there. */
	ASSERT_EQ(segment_map(cut), 0);
	EXPECT_EQ(cut->map[4999], 'x');
	EXPECT_EQ(cut->map[5000], 0);
	EXPECT_EQ(cut->map[SIZE - 1], 0);
	cut->map[SIZE - 1] = 1;
	EXPECT_FALSE(segment_was_hit(cut));
	segment_unmap(cut);

	remount(self, 0);
	ASSERT_EQ(segment_map(segment), 0);
	EXPECT_FALSE(segment->is_private);
	EXPECT_EQ(segment_write_state(segment), 0);
	expect_done_index(self, segment, 78, 2);
	segment_delete(segment);
	segment_delete(cut);
}

TEST_HARNESS_MAIN
