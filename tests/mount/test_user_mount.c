/* SPDX-License-Identifier: MIT */
/*
 * The daemon as an ordinary user, in that user's default places: mounts through fusermount3, for that user
 * alone.
 *
 * All of it happens in a mount namespace of the test, where /dev/fuse is open to everybody.
 */

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define NOBODY    65534
#define AS_NOBODY "setpriv --reuid=65534 --regid=65534 --clear-groups "

FIXTURE(user)
{
	struct lab lab;
};

static void open_device(struct fixture_user *self)
{
	char dir[LAB_PATH_MAX], node[LAB_PATH_MAX + 8];

	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
	snprintf(dir, sizeof(dir), "%s/dev", self->lab.dir);
	snprintf(node, sizeof(node), "%s/fuse", dir);
	ASSERT_EQ(mkdir(dir, 0755), 0);
	/* What is mounted nodev has no devices. */
	ASSERT_EQ(mount("tmpfs", dir, "tmpfs", 0, "mode=755"), 0);
	ASSERT_EQ(mknod(node, S_IFCHR | 0600, makedev(10, 229)), 0);
	ASSERT_EQ(chmod(node, 0666), 0);
	ASSERT_EQ(mount(node, "/dev/fuse", NULL, MS_BIND, NULL), 0);
}

FIXTURE_SETUP(user)
{
	SKIP_IF(geteuid() != 0, "needs root to become another user (a user's tests all mount this way)");
	SKIP_IF(access("/dev/fuse", F_OK) < 0, "there is no /dev/fuse");
	SKIP_IF(system("command -v fusermount3 setpriv > /dev/null") != 0,
		"there is no fusermount3 or setpriv (packages fuse3, util-linux)");
	lab_init(&self->lab);
	open_device(self);
	setenv("BUILT", process_path("iothubd"), 1);
	lab_start_emulator(&self->lab, NULL);
	lab_start_monitor(&self->lab);
	/* The daemon's copy: the build directory may be closed to others. */
	ASSERT_EQ(lab_shell(&self->lab, "sh",
			    "set -e\n"
			    "mkdir -p $D/home/iothub $D/run && cp $BUILT $D/home/\n"
			    "cp $D/state/devices/dev1.connection-string $D/home/iothub/connection-string\n"
			    "cp $D/state/ca.pem $D/home/\n"
			    "chown -R 65534:65534 $D/home $D/run\n"
			    "chmod 700 $D/home $D/run\n"),
		  0);
	snprintf(self->lab.mount, sizeof(self->lab.mount), "%s/run/iothub", self->lab.dir);
}

FIXTURE_TEARDOWN(user)
{
	char dev[LAB_PATH_MAX];

	if (!self->lab.dir[0])
		return;
	lab_show_log(&self->lab, "daemon");
	/* An orphan is not in the namespace, where these mounts are. */
	snprintf(dev, sizeof(dev), "%s/dev", self->lab.dir);
	umount2(dev, MNT_DETACH);
	lab_deinit(&self->lab);
}

/* The daemon of nobody: finds connection string and mount point in the user's places. */
static void start_daemon(struct fixture_user *self)
{
	char script[1024], log[LAB_PATH_MAX], line[16] = "";
	const char *argv[] = {"/bin/sh", "-c", script, NULL};
	int ready[2];

	snprintf(script, sizeof(script),
		 "cd %s/home && exec env XDG_CONFIG_HOME=%s/home XDG_RUNTIME_DIR=%s/run "
		 "XDG_STATE_HOME=%s/home/.local/state " AS_NOBODY
		 "./iothubd --ca-file ca.pem --ready-fd 3 --log-level debug",
		 self->lab.dir, self->lab.dir, self->lab.dir, self->lab.dir);
	snprintf(log, sizeof(log), "%s/daemon.log", self->lab.dir);
	ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
	self->lab.daemon = process_start(log, argv, ready[1], -1);
	close(ready[1]);
	ASSERT_EQ(read(ready[0], line, 6), 6);
	EXPECT_STREQ(line, "ready\n");
	close(ready[0]);
}

static int run_as_nobody(struct fixture_user *self, const char *shell, const char *script)
{
	setenv("SCRIPT", script, 1);
	return lab_shell(&self->lab, shell, "exec " AS_NOBODY "$0 -c \"$SCRIPT\"");
}

static unsigned int n_mounts(struct fixture_user *self)
{
	_cleanup_(free_ptr) char *text = text_read("/proc/self/mountinfo");

	return text_count(text, self->lab.mount);
}

TEST_F(user, echo_arrives_and_the_end_is_clean)
{
	_cleanup_(fclose_ptr) FILE *monitor = lab_monitor_stream(&self->lab);
	struct stat st;

	start_daemon(self);
	EXPECT_EQ(n_mounts(self), 1u);
	EXPECT_EQ(run_as_nobody(self, "bash", "echo hello > $M/telemetry"), 0);
	lab_expect_payload(&self->lab, monitor, "hello");
	EXPECT_EQ(run_as_nobody(self, "dash", "printf now | dd oflag=sync of=$M/telemetry.raw status=none"),
		  0);
	lab_expect_payload(&self->lab, monitor, "now");
	EXPECT_EQ(run_as_nobody(self, "dash", "grep -qx 'state: connected' $M/status"), 0);
	/* Even root is somebody else, unless the administrator said otherwise. */
	if (system("grep -qx user_allow_other /etc/fuse.conf") != 0) {
		EXPECT_EQ(stat(lab_path(&self->lab, "status"), &st), -1);
		EXPECT_EQ(errno, EACCES);
	}
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
	EXPECT_EQ(n_mounts(self), 0u);
	EXPECT_NE(access(self->lab.mount, F_OK), 0);
}

TEST_F(user, a_killed_daemons_mount_is_replaced)
{
	_cleanup_(fclose_ptr) FILE *monitor = lab_monitor_stream(&self->lab);
	_cleanup_(free_ptr) char *log = NULL;

	start_daemon(self);
	lab_stop_daemon(&self->lab, SIGKILL);
	EXPECT_EQ(n_mounts(self), 1u);
	EXPECT_NE(run_as_nobody(self, "dash", "echo x 2>/dev/null > $M/telemetry"), 0);
	start_daemon(self);
	EXPECT_EQ(n_mounts(self), 1u);
	EXPECT_EQ(run_as_nobody(self, "bash", "echo again > $M/telemetry"), 0);
	lab_expect_payload(&self->lab, monitor, "again");
	EXPECT_EQ(lab_stop_daemon(&self->lab, SIGTERM), 0);
	EXPECT_EQ(n_mounts(self), 0u);
	log = lab_log(&self->lab, "daemon");
	EXPECT_EQ(text_count(log, "detached the stale mount"), 1u);
	EXPECT_EQ(text_count(log, "error: "), 0u);
}

TEST_HARNESS_MAIN
