/* SPDX-License-Identifier: MIT */
/*
 * The twin's file on a disk that stops answering: a filesystem of the test's own, whose server is stopped.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "fuse/helper.h"
#include "tests/harness.h"
#include "tests/support/fuse_toy.h"
#include "tests/support/lab.h"

FIXTURE(disk)
{
	struct lab lab;
	struct toy toy;
	char path[96];
};

FIXTURE_SETUP(disk)
{
	char script[256];

	lab_init(&self->lab);
	snprintf(self->path, sizeof(self->path), "%s/disk", self->lab.dir);
	ASSERT_EQ(mkdir(self->path, 0755), 0);
	ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
	lab_start_emulator(&self->lab, NULL);
	/* The journal is somewhere else: it waits for its disk. */
	lab_configure(&self->lab, "\"storage\": \"volatile\"");
	snprintf(script, sizeof(script),
		 "sed -i 's|\"state-directory\": \"[^\"]*\"|\"state-directory\": \"%s/box\"|' "
		 "$D/iothubd.json",
		 self->path);
	ASSERT_EQ(lab_shell(&self->lab, "sh", script), 0);
	lab_start_daemon(&self->lab);
	lab_await_state(&self->lab, "connected");
}

FIXTURE_TEARDOWN(disk)
{
	if (!test_is_orphan() && self->toy.pid)
		toy_kill(&self->toy);
	if (self->path[0] && umount2(self->path, MNT_DETACH) < 0 && errno == EPERM)
		fuse_helper_unmount(self->path, NULL);
	lab_deinit(&self->lab);
}

/* Whether the daemon has something open on that disk. */
static bool is_in_use(const struct fixture_disk *self)
{
	char fds[64], name[512], target[512];
	const struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(fds, sizeof(fds), "/proc/%d/fd", (int)self->lab.daemon);
	dir = opendir(fds);
	ASSERT_TRUE(dir);
	while ((entry = readdir(dir))) {
		ssize_t n;

		snprintf(name, sizeof(name), "%s/%s", fds, entry->d_name);
		n = readlink(name, target, sizeof(target));
		found |= n > 0 && strncmp(target, self->path, strlen(self->path)) == 0;
	}
	closedir(dir);
	return found;
}

/* Until the twin is there, and the daemon does nothing with it: a request that the disk has taken holds its process for ever. */
static void await_file(const struct fixture_disk *self, const char *path)
{
	while (access(path, F_OK) < 0)
		ASSERT_EQ(errno, ENOENT);
	while (is_in_use(self))
		;
}

/* What changes is stored. */
static void change_twin(struct fixture_disk *self)
{
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "twin/reported.json"), O_WRONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "{\"a\":1}", 7), 7);
}

/* What is on its way to the disk cannot be freed; the daemon says so, and ends. */
TEST_F(disk, that_does_not_answer_does_not_keep_the_daemon)
{
	_cleanup_(free_ptr) char *log = NULL;
	char path[128];
	int status;

	snprintf(path, sizeof(path), "%s/box/twin-dev1.json", self->path);
	await_file(self, path);
	ASSERT_EQ(kill(self->toy.pid, SIGSTOP), 0);
	change_twin(self);
	status = lab_stop_daemon(&self->lab, SIGTERM);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 1);
	log = lab_log(&self->lab, "daemon");
	ASSERT_TRUE(log);
	EXPECT_TRUE(strstr(log, path) && strstr(log, "does not answer"));
}

TEST_F(disk, that_answers_late_has_it_all)
{
	char path[128];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/box/twin-dev1.json", self->path);
	await_file(self, path);
	ASSERT_EQ(kill(self->toy.pid, SIGSTOP), 0);
	change_twin(self);
	pid = fork();
	if (pid == 0) {
		/* The mount is gone before the disk is waited for. */
		while (access(lab_path(&self->lab, "twin"), F_OK) == 0)
			;
		_exit(kill(self->toy.pid, SIGCONT) < 0);
	}
	status = lab_stop_daemon(&self->lab, SIGTERM);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0);
	/* It is there for the next one, without a hub. */
	lab_stop_emulator(&self->lab, SIGTERM);
	lab_start_daemon(&self->lab);
	EXPECT_EQ(lab_shell(&self->lab, "sh", "[ $(cat $M/twin/reported/a) = 1 ]"), 0);
}

TEST_HARNESS_MAIN
