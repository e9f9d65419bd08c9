/* SPDX-License-Identifier: MIT */
/*
 * Mount points: what may be mounted over, what daemons that died leave, and users who mount through
 * fusermount3.
 */

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "fuse/mount.h"
#include "tests/harness.h"
#include "tests/support/fuse_toy.h"

#define NOBODY 65534

/* Everything happens below @base, in a mount namespace of the test: nothing is left when the test ends. */
FIXTURE(point)
{
	char base[64];
	char path[128];
	struct toy toy;
	struct log log;
	char text[4096]; /* what was logged, as of logged() */
};

static const char *logged(struct fixture_point *self)
{
	ssize_t n = pread(self->log.fd, self->text, sizeof(self->text) - 1, 0);

	self->text[n > 0 ? n : 0] = '\0';
	return self->text;
}

static int n_lines(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static int try_mount(struct fixture_point *self)
{
	struct fuse_mount m;

	EXPECT_EQ(ftruncate(self->log.fd, 0), 0);
	EXPECT_EQ(lseek(self->log.fd, 0, SEEK_SET), 0);
	return fuse_mount(&m, self->path, &self->log);
}

/* Mounts at @path and below it, in mountinfo. */
static int n_mounts(struct fixture_point *self)
{
	_cleanup_(fclose_ptr) FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024];
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, self->path) != NULL;
	return n;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

FIXTURE_SETUP(point)
{
	SKIP_IF(geteuid() != 0, "mounting needs root");
	SKIP_IF(access("/dev/fuse", F_OK) < 0, "there is no /dev/fuse");
	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
	strcpy(self->base, "/tmp/iothubd-point-XXXXXX");
	ASSERT_TRUE(mkdtemp(self->base) != NULL);
	ASSERT_EQ(chmod(self->base, 0755), 0);
	snprintf(self->path, sizeof(self->path), "%s/hub", self->base);
	log_init(&self->log, NULL, LOG_LEVEL_INFO);
	self->log.fd = memfd_create("log", MFD_CLOEXEC);
	ASSERT_GE(self->log.fd, 0);
}

static void umount_all(const char *path)
{
	while (umount2(path, MNT_DETACH) == 0)
		;
}

FIXTURE_TEARDOWN(point)
{
	char command[160];

	if (!self->base[0])
		return;
	if (!test_is_orphan()) {
		toy_kill(&self->toy);
		umount_all(self->path);
		snprintf(command, sizeof(command), "%s/dev", self->base);
		umount_all(command);
	}
	snprintf(command, sizeof(command), "rm -rf %s", self->base);
	EXPECT_EQ(system(command), 0);
}

TEST_F(point, directory_is_made_and_removed)
{
	struct fuse_mount m;

	ASSERT_EQ(fuse_mount(&m, self->path, &self->log), 0);
	EXPECT_GE(m.fd, 0);
	EXPECT_TRUE(fcntl(m.fd, F_GETFL) & O_NONBLOCK);
	EXPECT_TRUE(fcntl(m.fd, F_GETFD) & FD_CLOEXEC);
	EXPECT_EQ(n_mounts(self), 1);
	fuse_unmount(&m, &self->log);
	EXPECT_EQ(m.fd, -1);
	EXPECT_EQ(n_mounts(self), 0);
	EXPECT_FALSE(exists(self->path));
	fuse_unmount(&m, &self->log);
	EXPECT_STREQ(logged(self), "");
}

TEST_F(point, directory_that_was_there_stays)
{
	struct fuse_mount m;
	char with_slash[160];

	ASSERT_EQ(mkdir(self->path, 0755), 0);
	snprintf(with_slash, sizeof(with_slash), "%s//", self->path);
	ASSERT_EQ(fuse_mount(&m, with_slash, &self->log), 0);
	EXPECT_STREQ(m.path, self->path);
	fuse_unmount(&m, &self->log);
	EXPECT_TRUE(exists(self->path));
}

TEST_F(point, bad_paths)
{
	struct fuse_mount m;
	char path[200];

	EXPECT_EQ(fuse_mount(&m, "relative", &self->log), -EINVAL);
	EXPECT_CONTAINS(logged(self), "absolute");
	snprintf(path, sizeof(path), "%s/none/hub", self->base);
	EXPECT_EQ(fuse_mount(&m, path, &self->log), -ENOENT);
	EXPECT_CONTAINS(logged(self), "directory above it");
	ASSERT_EQ(mknod(self->path, S_IFREG | 0644, 0), 0);
	EXPECT_EQ(try_mount(self), -ENOTDIR);
	EXPECT_CONTAINS(logged(self), "not a directory");
	ASSERT_EQ(unlink(self->path), 0);
	ASSERT_EQ(symlink("/tmp", self->path), 0);
	EXPECT_EQ(try_mount(self), -ENOTDIR);
}

TEST_F(point, files_in_the_way)
{
	char path[200];

	ASSERT_EQ(mkdir(self->path, 0755), 0);
	snprintf(path, sizeof(path), "%s/file", self->path);
	ASSERT_EQ(mknod(path, S_IFREG | 0644, 0), 0);
	EXPECT_EQ(try_mount(self), -EBUSY);
	EXPECT_CONTAINS(logged(self), "is not empty: remove what is in it or choose another \"mount\"");
	EXPECT_EQ(n_lines(self->text), 1);
}

TEST_F(point, other_file_system)
{
	ASSERT_EQ(mkdir(self->path, 0755), 0);
	ASSERT_EQ(mount("tmpfs", self->path, "tmpfs", 0, NULL), 0);
	EXPECT_EQ(try_mount(self), -EBUSY);
	EXPECT_CONTAINS(logged(self), "(tmpfs)");
	EXPECT_EQ(n_mounts(self), 1);
}

TEST_F(point, live_daemon)
{
	ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
	EXPECT_EQ(try_mount(self), -EBUSY);
	EXPECT_CONTAINS(logged(self),
			"is already mounted (another iothubd?): stop it or choose another \"mount\"");
	EXPECT_EQ(n_lines(self->text), 1);
	EXPECT_EQ(toy_stop(&self->toy), 0);
	EXPECT_FALSE(exists(self->path));
}

/* At once, while the kernel still has the attributes of the mount's root. */
TEST_F(point, stale_mount_is_detached)
{
	struct stat st;

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
		ASSERT_EQ(stat(self->path, &st), 0);
		toy_kill(&self->toy);
		EXPECT_EQ(n_mounts(self), 1);
	}
	ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
	EXPECT_EQ(n_mounts(self), 1);
	ASSERT_EQ(stat(self->path, &st), 0);
	EXPECT_EQ(toy_stop(&self->toy), 0);
	EXPECT_EQ(n_mounts(self), 0);
}

TEST_F(point, stale_mount_is_told)
{
	struct fuse_mount m;

	ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
	toy_kill(&self->toy);
	ASSERT_EQ(fuse_mount(&m, self->path, &self->log), 0);
	EXPECT_CONTAINS(logged(self), "detached the stale mount");
	fuse_unmount(&m, &self->log);
	EXPECT_TRUE(exists(self->path));
}

TEST_F(point, unmount_with_files_open)
{
	char file[160];
	int fd;

	ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
	snprintf(file, sizeof(file), "%s/sink", self->path);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(toy_stop(&self->toy), 0);
	EXPECT_EQ(n_mounts(self), 0);
	EXPECT_FALSE(exists(self->path));
	EXPECT_EQ(write(fd, "x", 1), -1);
	close(fd);
}

TEST_F(point, aborted_connection_is_unmounted)
{
	struct fuse_mount m;
	char path[64];
	struct statx stx;
	int fd;

	mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0, NULL);
	ASSERT_EQ(fuse_mount(&m, self->path, &self->log), 0);
	fd = open(self->path, O_PATH | O_CLOEXEC);
	ASSERT_EQ(statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx), 0);
	close(fd);
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", stx.stx_dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	SKIP_IF(fd < 0, "there is no fusectl");
	ASSERT_EQ(write(fd, "1", 1), 1);
	close(fd);
	fuse_unmount(&m, &self->log);
	EXPECT_EQ(n_mounts(self), 0);
}

TEST_F(point, unmount_leaves_another_daemon_s_mount)
{
	struct fuse_mount m;

	ASSERT_EQ(fuse_mount(&m, self->path, &self->log), 0);
	ASSERT_EQ(umount2(self->path, MNT_DETACH), 0);
	ASSERT_EQ(toy_start(&self->toy, self->path, 0), 0);
	fuse_unmount(&m, &self->log);
	EXPECT_EQ(n_mounts(self), 1);
	EXPECT_EQ(toy_stop(&self->toy), 0);
}

TEST_F(point, unmount_leaves_what_others_mounted_since)
{
	struct fuse_mount m;

	ASSERT_EQ(fuse_mount(&m, self->path, &self->log), 0);
	ASSERT_EQ(umount2(self->path, MNT_DETACH), 0);
	ASSERT_EQ(mount("tmpfs", self->path, "tmpfs", 0, NULL), 0);
	fuse_unmount(&m, &self->log);
	EXPECT_EQ(n_mounts(self), 1);
	EXPECT_STREQ(logged(self), "");
}

/* In the namespace of the test, /dev/fuse becomes a node with this mode; 0 takes it away. */
static void replace_device(struct fixture_point *self, mode_t mode)
{
	char dir[80], node[96];

	snprintf(dir, sizeof(dir), "%s/dev", self->base);
	snprintf(node, sizeof(node), "%s/fuse", dir);
	ASSERT_EQ(mkdir(dir, 0755), 0);
	/* Over all of /dev: a file that is missing cannot be mounted. */
	ASSERT_EQ(mount("tmpfs", dir, "tmpfs", 0, "mode=755"), 0);
	if (mode != 0) {
		ASSERT_EQ(mknod(node, S_IFCHR | 0600, makedev(10, 229)), 0);
		ASSERT_EQ(chmod(node, mode), 0);
		ASSERT_EQ(mount(node, "/dev/fuse", NULL, MS_BIND, NULL), 0);
		return;
	}
	ASSERT_EQ(mount(dir, "/dev", NULL, MS_BIND, NULL), 0);
}

static void let_nobody_mount(struct fixture_point *self)
{
	SKIP_IF(access("/usr/bin/fusermount3", X_OK) < 0 && access("/bin/fusermount3", X_OK) < 0,
		"there is no fusermount3 (package fuse3)");
	replace_device(self, 0666);
	ASSERT_EQ(mkdir(self->path, 0755), 0);
	ASSERT_EQ(chown(self->path, NOBODY, NOBODY), 0);
}

/* Exit status of @script, run as nobody in the mount's directory. */
static int run_as_nobody(struct fixture_point *self, const char *script)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(NOBODY) == 0 && setuid(NOBODY) == 0 && chdir(self->path) == 0)
			execlp("sh", "sh", "-c", script, NULL);
		_exit(126);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_F(point, user_mounts_through_fusermount3)
{
	char text[TOY_TEXT_SIZE];

	let_nobody_mount(self);
	ASSERT_EQ(toy_start(&self->toy, self->path, NOBODY), 0);
	EXPECT_EQ(n_mounts(self), 1);
	EXPECT_EQ(run_as_nobody(self, "echo hello > sink && cat doc > /dev/null && ls -l > /dev/null"), 0);
	EXPECT_EQ(toy_ask(&self->toy, TOY_LAST_WRITE, 0, NULL, text), 6u);
	EXPECT_STREQ(text, "hello\n");
	EXPECT_EQ(toy_stop(&self->toy), 0);
	EXPECT_EQ(n_mounts(self), 0);
	EXPECT_TRUE(exists(self->path));
}

TEST_F(point, user_s_stale_mount_is_detached)
{
	let_nobody_mount(self);
	ASSERT_EQ(toy_start(&self->toy, self->path, NOBODY), 0);
	toy_kill(&self->toy);
	EXPECT_EQ(n_mounts(self), 1);
	ASSERT_EQ(toy_start(&self->toy, self->path, NOBODY), 0);
	EXPECT_EQ(n_mounts(self), 1);
	EXPECT_EQ(run_as_nobody(self, "echo hello > sink"), 0);
	EXPECT_EQ(toy_stop(&self->toy), 0);
	EXPECT_EQ(n_mounts(self), 0);
}

TEST_F(point, user_s_live_mount_is_busy_for_root)
{
	let_nobody_mount(self);
	ASSERT_EQ(toy_start(&self->toy, self->path, NOBODY), 0);
	EXPECT_EQ(try_mount(self), -EBUSY);
	EXPECT_CONTAINS(logged(self), "another iothubd?");
	EXPECT_EQ(toy_stop(&self->toy), 0);
}

/* fuse_mount() as nobody, in a child; returns its result. */
static int try_mount_as_nobody(struct fixture_point *self, const char *path_variable)
{
	int status = -1;
	pid_t pid;

	ASSERT_EQ(ftruncate(self->log.fd, 0), 0);
	ASSERT_EQ(lseek(self->log.fd, 0, SEEK_SET), 0);
	pid = fork();
	if (pid == 0) {
		struct fuse_mount m;

		if (path_variable)
			setenv("PATH", path_variable, 1);
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(255);
		_exit(-fuse_mount(&m, self->path, &self->log));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -255;
}

TEST_F(point, user_without_fusermount3)
{
	let_nobody_mount(self);
	EXPECT_EQ(try_mount_as_nobody(self, "/nonexistent"), -ENOENT);
	EXPECT_CONTAINS(logged(self), "install the package fuse3");
	EXPECT_EQ(n_lines(self->text), 1);
}

TEST_F(point, user_who_is_refused)
{
	let_nobody_mount(self);
	ASSERT_EQ(chown(self->path, 0, 0), 0);
	EXPECT_EQ(try_mount_as_nobody(self, NULL), -EPERM);
	EXPECT_CONTAINS(logged(self), "fusermount3 says: ");
	EXPECT_CONTAINS(self->text, self->path);
	EXPECT_EQ(n_lines(self->text), 1);
}

TEST_F(point, user_without_rights_on_the_device)
{
	let_nobody_mount(self);
	ASSERT_EQ(chmod("/dev/fuse", 0600), 0);
	EXPECT_EQ(try_mount_as_nobody(self, NULL), -EACCES);
	EXPECT_CONTAINS(logged(self), "cannot open /dev/fuse: Permission denied");
	EXPECT_EQ(n_lines(self->text), 1);
}

TEST_F(point, no_device)
{
	replace_device(self, 0);
	EXPECT_EQ(try_mount(self), -ENODEV);
	EXPECT_CONTAINS(logged(self), "there is no /dev/fuse");
	EXPECT_CONTAINS(self->text, "fuse3");
	EXPECT_EQ(n_lines(self->text), 1);
	EXPECT_FALSE(exists(self->path));
}

TEST_HARNESS_MAIN
