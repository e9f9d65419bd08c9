/* SPDX-License-Identifier: MIT */
/*
 * Values of command lines.
 */

#include <unistd.h>

#include "base/arguments.h"
#include "base/cleanup.h"
#include "base/time.h"
#include "iothub.h"
#include "tests/harness.h"

TEST(numbers)
{
	uint64_t n;

	ASSERT_EQ(argument_number("0", 0, 5, &n), 0);
	EXPECT_EQ(n, 0u);
	ASSERT_EQ(argument_number("18446744073709551615", 1, UINT64_MAX, &n), 0);
	EXPECT_EQ(n, UINT64_MAX);
	EXPECT_EQ(argument_number("18446744073709551616", 1, UINT64_MAX, &n), -EINVAL);
	EXPECT_EQ(argument_number("6", 0, 5, &n), -EINVAL);
	EXPECT_EQ(argument_number("0", 1, 5, &n), -EINVAL);
	EXPECT_EQ(argument_number("", 0, 5, &n), -EINVAL);
	EXPECT_EQ(argument_number("-1", 0, UINT64_MAX, &n), -EINVAL);
	EXPECT_EQ(argument_number(" 1", 0, 5, &n), -EINVAL);
	EXPECT_EQ(argument_number("1s", 0, 5, &n), -EINVAL);
}

TEST(seconds)
{
	uint64_t ns;

	ASSERT_EQ(argument_seconds("2", &ns), 0);
	EXPECT_EQ(ns, 2 * NSEC_PER_SEC);
	ASSERT_EQ(argument_seconds("0.5", &ns), 0);
	EXPECT_EQ(ns, NSEC_PER_SEC / 2);
	EXPECT_EQ(argument_seconds("0", &ns), -EINVAL);
	EXPECT_EQ(argument_seconds("", &ns), -EINVAL);
	EXPECT_EQ(argument_seconds(".", &ns), -EINVAL);
	EXPECT_EQ(argument_seconds("1.2.3", &ns), -EINVAL);
	EXPECT_EQ(argument_seconds("1e3", &ns), -EINVAL);
	EXPECT_EQ(argument_seconds("nan", &ns), -EINVAL);
	EXPECT_EQ(argument_seconds("-1", &ns), -EINVAL);
	EXPECT_EQ(argument_seconds("1000001", &ns), -EINVAL);
}

TEST(mount_dir)
{
	char *dir = NULL;

	setenv("IOTHUB_MOUNT", "/somewhere", 1);
	ASSERT_EQ(argument_mount_dir(&dir), 0);
	EXPECT_STREQ(dir, "/somewhere");
	free(dir);
	setenv("IOTHUB_MOUNT", "", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	ASSERT_EQ(argument_mount_dir(&dir), 0);
	EXPECT_STREQ(dir, geteuid() == 0 ? IOTHUB_MOUNT_DIR : "/run/user/7/iothub");
	free(dir);
}

TEST(mount_dir_of_a_user)
{
	char *dir = NULL;

	if (geteuid() == 0)
		ASSERT_EQ(seteuid(65534), 0);
	unsetenv("IOTHUB_MOUNT");
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	ASSERT_EQ(argument_mount_dir(&dir), 0);
	EXPECT_STREQ(dir, "/run/user/7/iothub");
	free(dir);
	unsetenv("XDG_RUNTIME_DIR");
	EXPECT_EQ(argument_mount_dir(&dir), -ENOENT);
	/* Else nothing can look for leaks. */
	ASSERT_EQ(seteuid(getuid()), 0);
	prctl(PR_SET_DUMPABLE, 1);
}

TEST_HARNESS_MAIN
