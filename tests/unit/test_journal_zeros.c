/* SPDX-License-Identifier: MIT */
/*
 * Files of zeros, and files that only begin with them: by themselves, and as a journal finds them.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "journal/zeros.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"

/* Of no bytes yet. */
static int file_new(void)
{
	int fd = memfd_create("zeros", MFD_CLOEXEC);

	ASSERT_GE(fd, 0);
	return fd;
}

TEST(zeros_and_others)
{
	uint8_t data[100] = {0};

	for (size_t len = 1; len <= sizeof(data); ++len)
		EXPECT_TRUE(zeros_are(data, len));
	for (size_t i = 0; i < sizeof(data); ++i) {
		data[i] = 1;
		EXPECT_FALSE(zeros_are(data, sizeof(data)));
		EXPECT_TRUE(i == 0 || zeros_are(data, i));
		data[i] = 0;
	}
}

TEST(a_file_of_zeros)
{
	static const uint8_t zeros[40000];
	int fd = file_new();

	EXPECT_EQ(zeros_is_file(fd), 1);
	ASSERT_EQ(ftruncate(fd, INT64_C(1) << 40), 0);
	EXPECT_EQ(zeros_is_file(fd), 1);
	ASSERT_EQ(pwrite(fd, zeros, sizeof(zeros), 5000), (ssize_t)sizeof(zeros));
	EXPECT_EQ(zeros_is_file(fd), 1);
	close(fd);
}

TEST(a_file_that_begins_with_zeros)
{
	static const uint8_t zeros[100000];
	static const off_t places[] = {0, 4095, 4096, 16383, 16384, 99999, 100000, INT64_C(1) << 39};

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); ++i) {
		int fd = file_new();

		ASSERT_EQ(ftruncate(fd, INT64_C(1) << 40), 0);
		ASSERT_EQ(pwrite(fd, zeros, sizeof(zeros), 0), (ssize_t)sizeof(zeros));
		ASSERT_EQ(pwrite(fd, "x", 1, places[i]), 1);
		EXPECT_EQ(zeros_is_file(fd), 0);
		close(fd);
	}
}

/* Reading has an end. */
TEST(a_file_with_more_zeros_than_are_read)
{
	static const uint8_t zeros[1u << 20];
	int fd = file_new();

	for (uint64_t n = 0; n < ZEROS_BYTES_MAX; n += sizeof(zeros))
		ASSERT_EQ(write(fd, zeros, sizeof(zeros)), (ssize_t)sizeof(zeros));
	EXPECT_EQ(zeros_is_file(fd), 1);
	ASSERT_EQ(write(fd, zeros, sizeof(zeros)), (ssize_t)sizeof(zeros));
	EXPECT_EQ(zeros_is_file(fd), 0);
	close(fd);
}

TEST(a_file_that_cannot_be_read)
{
	int fd = file_new(), pipes[2];

	close(fd);
	EXPECT_EQ(zeros_is_file(fd), -EBADF);
	ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
	EXPECT_EQ(zeros_is_file(pipes[0]), -ESPIPE);
	close(pipes[0]);
	close(pipes[1]);
}

/* --- in a journal ----------------------------------------------------------------------------- */

FIXTURE(zeros)
{
	struct journal_box box;
};

FIXTURE_SETUP(zeros)
{
	box_init(&self->box);
	ASSERT_EQ(box_open(&self->box), 0);
}

FIXTURE_TEARDOWN(zeros)
{
	if (!test_is_orphan())
		box_close(&self->box);
	box_deinit(&self->box);
}

/* In the journal's directory. */
static void shell(const struct fixture_zeros *self, const char *what)
{
	char command[512];

	snprintf(command, sizeof(command), "cd '%s' && %s", self->box.dir, what);
	ASSERT_EQ(system(command), 0);
}

/* It is not one that nobody wrote to: that one is deleted. */
TEST_F(zeros, a_segment_whose_header_is_lost_goes_aside)
{
	struct journal_box *box = &self->box;

	for (int i = 0; i < 100; ++i)
		ASSERT_EQ(box_append(box, box_lane(box, 0, 5, 0), 44, 300), 0);
	ASSERT_EQ(box_sync(box), 0);
	box_close(box);
	shell(self, "test $(ls *.segment | wc -l) = 1");
	shell(self, "dd if=/dev/zero of=$(echo *.segment) bs=4096 count=1 conv=notrunc status=none");
	shell(self, "truncate -s 64K 00000000000000aa.segment");
	ASSERT_EQ(box_open(box), 0);
	EXPECT_TRUE(box_wait_event(box, "journal-damaged"));
	shell(self, "! ls *.segment 2> /dev/null");
	shell(self, "test $(ls damaged | wc -l) = 1");
	shell(self, "test $(cat damaged/*.segment | tr -d '\\0' | wc -c) -gt 30000");
}

TEST_HARNESS_MAIN
