/* SPDX-License-Identifier: MIT */
/*
 * A file system of one's own, see disk.h. util-linux and e2fsprogs do the work.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/disk.h"
#include "tests/support/process.h"

/* Of ext4 and xfs alike: stop at once, 2: without writing the log. */
#define FS_IOC_SHUTDOWN    _IOR('X', 125, uint32_t)
#define SHUTDOWN_NO_LOG    2u
#define UMOUNT_RETRY_NS    (5 * (long)NSEC_PER_MSEC)
#define UMOUNT_RETRIES_MAX 4000
#define MOUNT              "/bin/mount"
#define MKFS               "/sbin/mkfs.ext4"
#define JOURNAL_MIB        8
#define LOOP_ATTEMPTS      100
#define SETSID             "/usr/bin/setsid"
#define NBDFUSE            "/usr/bin/nbdfuse"
#define NBDKIT             "/usr/bin/nbdkit"
#define OUTPUT_MAX         1024

static const char *ballast(const struct disk *disk)
{
	static char path[DISK_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/ballast", disk->dir);
	return path;
}

/* --- what is possible here -------------------------------------------------------------------- */

const char *disk_why_not(void)
{
	if (geteuid() != 0)
		return "a file system of one's own needs root";
	if (access("/dev/loop-control", R_OK | W_OK) != 0)
		return "there are no loop devices";
	if (access(MKFS, X_OK) != 0 || access(MOUNT, X_OK) != 0)
		return "there is no mkfs.ext4 or mount";
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return "this process may not mount";
	return NULL;
}

const char *disk_why_no_errors(void)
{
	if (access(NBDKIT, X_OK) != 0 || access(NBDFUSE, X_OK) != 0)
		return "there is no nbdkit or nbdfuse";
	return disk_why_not();
}

/* --- life cycle ------------------------------------------------------------------------------- */

static void run(const char *const *argv)
{
	char out[OUTPUT_MAX];
	int code = process_run(argv, out, sizeof(out));

	if (code)
		TEST_LOG("%s: %s", argv[0], out);
	ASSERT_EQ(code, 0);
}

/*
 * Attaches the file to a loop device, which goes when its last user does. Returns a descriptor, and the path. One that gives
 * errors is written past the page cache: of a write that nbdfuse gets in pieces, of which only the first is a success, a
 * loop device says that it was one (Linux 6.16 and later).
 */
static int attach_loop(const char *file, bool has_errors, char *path, size_t size)
{
	_cleanup_(close_fd) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	_cleanup_(close_fd) int fd = open(file, O_RDWR | O_CLOEXEC);
	struct loop_config config = {
		.fd = (uint32_t)fd,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | (has_errors ? LO_FLAGS_DIRECT_IO : 0u),
	};

	ASSERT_GE(control, 0);
	ASSERT_GE(fd, 0);
	/* Somebody else may take the one that was free. */
	for (int i = 0;; ++i) {
		int number = ioctl(control, LOOP_CTL_GET_FREE), loop;

		snprintf(path, size, "/dev/loop%d", number);
		loop = open(path, O_RDWR | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
			return loop;
		close_fd(&loop);
		ASSERT_LT(i, LOOP_ATTEMPTS);
	}
}

static void make_file_system(const char *image, const char *option, const char *value)
{
	const char *argv[] = {MKFS, "-q", "-F", image, option, value, NULL};

	run(argv);
}

static void name_dir(struct disk *disk, const char *base, const char *name)
{
	*disk = (struct disk){.log_fd = -1};
	snprintf(disk->dir, sizeof(disk->dir), "%s/%s", base, name);
	ASSERT_EQ(mkdir(disk->dir, 0755), 0);
}

static void make_image(struct disk *disk, const char *base, const char *name, unsigned int mib)
{
	_cleanup_(close_fd) int fd = -1;

	snprintf(disk->image, sizeof(disk->image), "%s/%s.img", base, name);
	fd = open(disk->image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, (off_t)mib << 20), 0);
}

void disk_init(struct disk *disk, const char *base, const char *name, unsigned int mib, const char *options)
{
	name_dir(disk, base, name);
	make_image(disk, base, name, mib);
	make_file_system(disk->image, options, NULL);
}

/* nbdfuse writes its number when its file is there. */
static void await_file(const char *dir, const char *file, pid_t pid)
{
	_cleanup_(close_fd) int fd = inotify_init1(IN_CLOEXEC);
	char events[4096];

	ASSERT_GE(fd, 0);
	ASSERT_GE(inotify_add_watch(fd, dir, IN_CLOSE_WRITE | IN_MOVED_TO), 0);
	while (access(file, F_OK) != 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		ASSERT_EQ(kill(pid, 0), 0);
		ASSERT_EQ(poll(&p, 1, 10000), 1);
		ASSERT_GT(read(fd, events, sizeof(events)), 0);
	}
}

/* Returns the path of a disk in memory that gives errors; a static buffer. */
static const char *start_nbd(struct disk *disk, const char *base, const char *name, unsigned int mib)
{
	static char image[DISK_PATH_MAX];
	char size[16], error_file[DISK_PATH_MAX + 16], log[DISK_PATH_MAX], ready[DISK_PATH_MAX];
	/* Out of the test's process group, which is killed with the test: see disk_enter(). */
	const char *argv[] = {SETSID,
			      NBDFUSE,
			      "--pidfile",
			      ready,
			      image,
			      "--command",
			      NBDKIT,
			      "-s",
			      "--exit-with-parent",
			      "--filter=error",
			      "memory",
			      size,
			      "error-rate=100%",
			      error_file,
			      NULL};

	snprintf(disk->nbd, sizeof(disk->nbd), "%s/%s.nbd", base, name);
	snprintf(image, sizeof(image), "%s/%s.nbd/disk", base, name);
	snprintf(disk->inject, sizeof(disk->inject), "%s/%s.inject", base, name);
	snprintf(size, sizeof(size), "%uM", mib);
	snprintf(error_file, sizeof(error_file), "error-file=%s", disk->inject);
	snprintf(log, sizeof(log), "%s/nbdfuse.log", base);
	snprintf(ready, sizeof(ready), "%s/%s.pid", base, name);
	ASSERT_EQ(mkdir(disk->nbd, 0755), 0);
	disk->nbdfuse = process_start(log, argv, -1, -1);
	await_file(base, ready, disk->nbdfuse);
	return image;
}

void disk_init_errors(struct disk *disk, const char *base, const char *name, unsigned int mib,
		      const char *options)
{
	name_dir(disk, base, name);
	strcpy(disk->image, start_nbd(disk, base, name, mib));
	make_file_system(disk->image, options, NULL);
}

void disk_init_log_errors(struct disk *disk, const char *base, const char *name, unsigned int mib)
{
	char path[32], option[48];

	name_dir(disk, base, name);
	disk->log_fd = attach_loop(start_nbd(disk, base, name, JOURNAL_MIB), true, path, sizeof(path));
	make_file_system(path, "-O", "journal_dev");
	make_image(disk, base, name, mib);
	snprintf(option, sizeof(option), "device=%s", path);
	make_file_system(disk->image, "-J", option);
}

/*
 * The test died, and what is mounted is so where nbdfuse is, which would unmount it as the last one there: a file system on
 * the disk that it is itself, so that neither would ever end. All that looks at loop devices then hangs as well.
 */
static void disk_enter(const struct disk *disk)
{
	_cleanup_(close_fd) int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)disk->nbdfuse);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
		TEST_LOG("%s: %s", path, strerror(errno));
}

void disk_deinit(struct disk *disk)
{
	if (!disk->dir[0])
		return;
	if (test_is_orphan() && disk->nbdfuse > 0)
		disk_enter(disk);
	if (disk->inject[0])
		unlink(disk->inject);
	/* After the test's processes are gone, or there is nothing to wait for. */
	if (disk->mounted)
		umount2(disk->dir, MNT_DETACH);
	disk->mounted = false;
	if (!test_is_orphan())
		close_fd(&disk->log_fd);
	if (disk->nbd[0])
		umount2(disk->nbd, MNT_DETACH);
	process_stop(&disk->nbdfuse, SIGTERM);
	disk->dir[0] = '\0';
}

/* --- mount ------------------------------------------------------------------------------------ */

void disk_mount(struct disk *disk)
{
	char path[32];
	int loop = attach_loop(disk->image, disk->nbd[0] && disk->log_fd < 0, path, sizeof(path));
	/* Without a journal, errors do not end writing. */
	const char *argv[] = {MOUNT, "-t", "ext4", "-o", "errors=continue", path, disk->dir, NULL};

	run(argv);
	disk->mounted = true;
	/* From now on it goes with the mount. */
	close(loop);
}

void disk_umount(struct disk *disk)
{
	const struct timespec pause = {.tv_nsec = UMOUNT_RETRY_NS};
	int n = 0, r;

	/* The kernel ends the ring of a killed process behind its back and tells nobody when. */
	while ((r = umount2(disk->dir, 0)) < 0 && errno == EBUSY && ++n < UMOUNT_RETRIES_MAX)
		ppoll(NULL, 0, &pause, NULL);
	ASSERT_EQ(r, 0);
	disk->mounted = false;
}

/* --- trouble ---------------------------------------------------------------------------------- */

void disk_cut(const struct disk *disk)
{
	_cleanup_(close_fd) int fd = open(disk->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t how = SHUTDOWN_NO_LOG;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(ioctl(fd, FS_IOC_SHUTDOWN, &how), 0);
}

void disk_abort(const struct disk *disk)
{
	/* remount,ro is refused while a file is mapped for writing. */
	const char *argv[] = {MOUNT, "-o", "remount,abort", disk->dir, NULL};

	run(argv);
}

void disk_errors(const struct disk *disk, bool on)
{
	_cleanup_(close_fd) int fd = -1;

	if (!on) {
		ASSERT_EQ(unlink(disk->inject), 0);
		return;
	}
	fd = open(disk->inject, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
}

void disk_fill(const struct disk *disk, uint64_t leave_bytes)
{
	_cleanup_(close_fd) int fd = open(ballast(disk), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	struct statvfs s;
	uint64_t free_bytes;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(fstatvfs(fd, &s), 0);
	free_bytes = (uint64_t)s.f_bfree * s.f_frsize;
	for (off_t at = 0; free_bytes > leave_bytes + (64u << 10); at += 64 << 10, free_bytes -= 64u << 10)
		if (fallocate(fd, 0, at, 64 << 10) < 0)
			break;
	ASSERT_EQ(fsync(fd), 0);
}

void disk_unfill(const struct disk *disk)
{
	ASSERT_EQ(unlink(ballast(disk)), 0);
}
