/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MOUNT_MOUNTED_H
#define TESTS_MOUNT_MOUNTED_H

/*
 * The toy tree, mounted for each test of a file, and what such tests do with it. For the one .c file of a test:
 * brings the harness and its fixture `mounted`.
 */

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "fuse/helper.h"
#include "tests/harness.h"
#include "tests/support/fuse_toy.h"

FIXTURE(mounted)
{
	struct toy toy;
	char path[64];
	char name[128]; /* file_path()'s */
};

static inline const char *file_path(struct fixture_mounted *self, const char *name)
{
	snprintf(self->name, sizeof(self->name), "%s/%s", self->path, name);
	return self->name;
}

static inline int open_file(struct fixture_mounted *self, const char *name, int flags)
{
	int fd = open(file_path(self, name), flags | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	return fd;
}

/* Runs @script in @shell, in the mounted directory; returns its wait status. */
static inline int run(struct fixture_mounted *self, const char *shell, const char *script)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (chdir(self->path) == 0)
			execlp(shell, shell, "-c", script, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status;
}

static inline uint64_t ask(struct fixture_mounted *self, enum toy_ask what, uint64_t arg)
{
	return toy_ask(&self->toy, what, arg, NULL, NULL);
}

static inline uint64_t tell(struct fixture_mounted *self, enum toy_ask what, const char *text)
{
	return toy_ask(&self->toy, what, 0, text, NULL);
}

FIXTURE_SETUP(mounted)
{
	SKIP_IF(access("/dev/fuse", F_OK) < 0, "there is no /dev/fuse");
	SKIP_IF(geteuid() != 0 && access("/dev/fuse", R_OK | W_OK) < 0, "users may not open /dev/fuse");
	strcpy(self->path, "/tmp/iothubd-mount-XXXXXX");
	ASSERT_TRUE(mkdtemp(self->path) != NULL);
	ASSERT_EQ(chmod(self->path, 0755), 0);
	ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
}

FIXTURE_TEARDOWN(mounted)
{
	if (!self->path[0])
		return;
	if (!test_is_orphan())
		toy_kill(&self->toy);
	if (umount2(self->path, MNT_DETACH) < 0 && errno == EPERM)
		fuse_helper_unmount(self->path, NULL);
	rmdir(self->path);
}

static inline int wait_child(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
