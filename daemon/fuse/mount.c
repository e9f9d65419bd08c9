/* SPDX-License-Identifier: MIT */
/*
 * Mounting and unmounting.
 *
 * What is at the mount point now decides: a plain empty directory is mounted over; a FUSE mount of ours whose
 * daemon died (every request fails with ENOTCONN or the like) is detached; anything else is in somebody's use
 * and an error. Looking must not wait for a daemon: the mount is identified by statx(2) without attributes
 * and by /proc/self/mountinfo, which ask no file system; only a mount of our own kind is sent a request, to
 * see whether somebody answers.
 *
 * The mount has default_permissions, so the kernel checks owner, group and mode of every file, and
 * allow_other where it may have it. The transport in dev.c serves the descriptor; until it has answered INIT
 * everybody waits.
 */

#include "fuse/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/helper.h"

#define SOURCE  "iothub"
#define FS_TYPE "fuse.iothub"
#define DEVICE  "/dev/fuse"

/* Daemons that died one after the other leave their mounts stacked; more than this is not an accident. */
#define MAX_STALE 16

enum mount_state {
	MOUNT_NONE,
	MOUNT_STALE, /* ours, its daemon is gone */
	MOUNT_LIVE,  /* ours, somebody answers */
	MOUNT_OTHER,
};

DEFINE_CLEANUP(DIR *, closedir)

/* The file system type of mount @id into @type, or the empty string. */
static void find_type(uint64_t id, char type[static 64])
{
	_cleanup_(fclose_ptr) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_(free_ptr) char *line = NULL;
	size_t size = 0;

	type[0] = '\0';
	/* `36 35 98:0 /root /mount-point options tag:value… - type source options` (proc(5)) */
	while (f && getline(&line, &size, f) > 0) {
		const char *tail = strstr(line, " - ");

		if (strtoull(line, NULL, 10) != id || !tail)
			continue;
		if (sscanf(tail, " - %63s", type) != 1)
			type[0] = '\0';
		return;
	}
}

/* What is mounted at the directory @fd, which was opened with O_PATH; its identifier to @id. */
static enum mount_state find_mount(int fd, uint64_t *id, char type[static 64])
{
	struct statx stx;

	*id = 0;
	type[0] = '\0';
	/* No attribute is asked for: no request is sent, and a mount of another user does not refuse. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) < 0)
		return MOUNT_OTHER;
	*id = stx.stx_mnt_id;
	if (!(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return MOUNT_NONE;
	find_type(*id, type);
	if (strcmp(type, FS_TYPE) != 0)
		return MOUNT_OTHER;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx) == 0)
		return MOUNT_LIVE;
	return errno == ENOTCONN || errno == ECONNABORTED || errno == ECONNREFUSED ? MOUNT_STALE : MOUNT_LIVE;
}

/* The mount that @path leads to now, or 0; asks no file system. */
static uint64_t find_id(const char *path)
{
	_cleanup_(close_fd) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statx stx;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) < 0)
		return 0;
	return stx.stx_mnt_id;
}

static bool is_empty(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedir_ptr) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (!dir) {
		close_fd(&fd);
		return false;
	}
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return false;
	}
	return true;
}

/* --- the mount point --- */

static char *copy_path(const char *path)
{
	char *copy = strdup(path);
	size_t len = copy ? strlen(copy) : 0;

	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	return copy;
}

static int log_open_error(const struct fuse_mount *m, int error, struct log *log)
{
	if (error == -ENOTDIR)
		log_error(log, "cannot mount at %s: it is not a directory", m->path);
	else if (error == -ENOENT)
		log_error(log, "cannot mount at %s: the directory above it does not exist", m->path);
	else
		log_error(log, "cannot mount at %s: %s", m->path, strerror(-error));
	return error;
}

/* The directory, made when it is missing, as an O_PATH descriptor. */
static int open_directory(struct fuse_mount *m, struct log *log)
{
	int fd;

	if (mkdir(m->path, 0755) == 0)
		m->made_dir = true;
	else if (errno != EEXIST && errno != EROFS && errno != EACCES && errno != EPERM)
		return log_open_error(m, -errno, log);
	fd = open(m->path, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? log_open_error(m, -errno, log) : fd;
}

static int detach(const struct fuse_mount *m, struct log *log)
{
	if (m->by_helper)
		return fuse_helper_unmount(m->path, log);
	if (umount2(m->path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	log_error(log, "cannot unmount %s: %s", m->path, strerror(errno));
	return -errno;
}

static int log_busy(const struct fuse_mount *m, enum mount_state state, const char *type, struct log *log)
{
	if (state == MOUNT_LIVE)
		log_error(log,
			  "%s is already mounted (another iothubd?): stop it or choose another \"mount\"",
			  m->path);
	else
		log_error(log, "something else (%s) is mounted at %s: unmount it or choose another \"mount\"",
			  type[0] ? type : "unknown", m->path);
	return -EBUSY;
}

/* An O_PATH descriptor of an empty directory with nothing mounted on it. */
static int prepare_directory(struct fuse_mount *m, struct log *log)
{
	for (int i = 0; i < MAX_STALE; i++) {
		_cleanup_(close_fd) int fd = open_directory(m, log);
		enum mount_state state;
		char type[64];
		uint64_t id;
		int r;

		if (fd < 0)
			return fd;
		state = find_mount(fd, &id, type);
		if (state == MOUNT_LIVE || state == MOUNT_OTHER)
			return log_busy(m, state, type, log);
		if (state == MOUNT_NONE) {
			if (is_empty(fd))
				return TAKE_FD(fd);
			log_error(log, "%s is not empty: remove what is in it or choose another \"mount\"",
				  m->path);
			return -EBUSY;
		}
		close_fd(&fd);
		r = detach(m, log);
		if (r < 0)
			return r;
		log_info(log, "detached the stale mount at %s of a daemon that died", m->path);
	}
	return log_busy(m, MOUNT_OTHER, FS_TYPE, log);
}

/* --- mounting --- */

static int log_device_error(int error, struct log *log)
{
	if (error == -ENOENT || error == -ENODEV || error == -ENXIO) {
		log_error(log, "there is no " DEVICE
			       ": load the kernel's fuse module (modprobe fuse; Debian's package "
			       "fuse3 sees to it), or give the container the device");
		return -ENODEV;
	}
	log_error(log, "cannot open " DEVICE ": %s: make it accessible (chmod 0666), or run as root",
		  strerror(-error));
	return -EACCES;
}

static int mount_as_root(int dir_fd, const char *path, struct log *log)
{
	_cleanup_(close_fd) int fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	char options[128], target[64];
	int r;

	if (fd < 0)
		return log_device_error(-errno, log);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fd);
	/* The directory that was looked at, whatever its name leads to by now. */
	snprintf(target, sizeof(target), "/proc/self/fd/%d", dir_fd);
	if (mount(SOURCE, target, FS_TYPE, MS_NOSUID | MS_NODEV | MS_NOATIME, options) == 0)
		return TAKE_FD(fd);
	r = -errno;
	if (r == -EPERM)
		log_error(log, "cannot mount at %s: not permitted (mounting needs CAP_SYS_ADMIN)", path);
	else if (r == -ENODEV)
		log_error(log, "cannot mount at %s: this kernel has no FUSE (modprobe fuse)", path);
	else
		log_error(log, "cannot mount at %s: %s", path, strerror(-r));
	return r;
}

static int mount_as_user(const char *path, struct log *log)
{
	_cleanup_(close_fd) int fd = -1;
	int flags;

	/* fusermount3 opens it with the user's rights; what it says then is harder to understand. */
	if (access(DEVICE, R_OK | W_OK) < 0)
		return log_device_error(-errno, log);
	fd = fuse_helper_mount(path, log);
	if (fd < 0)
		return TAKE_FD(fd);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int do_mount(struct fuse_mount *m, struct log *log)
{
	_cleanup_(close_fd) int dir_fd = prepare_directory(m, log);

	if (dir_fd < 0)
		return dir_fd;
	m->fd = m->by_helper ? mount_as_user(m->path, log) : mount_as_root(dir_fd, m->path, log);
	if (m->fd < 0)
		return m->fd;
	m->id = find_id(m->path);
	return 0;
}

int fuse_mount(struct fuse_mount *out, const char *path, struct log *log)
{
	struct fuse_mount m = {.fd = -1, .by_helper = geteuid() != 0};
	int r;

	*out = (struct fuse_mount){.fd = -1};
	if (path[0] != '/') {
		log_error(log, "cannot mount at %s: \"mount\" has to be an absolute path", path);
		return -EINVAL;
	}
	m.path = copy_path(path);
	if (!m.path)
		return -ENOMEM;
	r = do_mount(&m, log);
	if (r < 0) {
		if (m.made_dir)
			rmdir(m.path);
		free(m.path);
		return r;
	}
	*out = m;
	return 0;
}

/*
 * Whether what is mounted at the path is ours. While the connection lives its mount does, and nobody else has
 * its identifier. When it has ended, which POLLERR tells, the identifier may be another's: a mount that
 * answers is.
 */
static bool is_mounted(const struct fuse_mount *m)
{
	struct pollfd p = {.fd = m->fd};
	_cleanup_(close_fd) int dir_fd = -1;
	char type[64];
	uint64_t id;

	if (find_id(m->path) != m->id)
		return false;
	if (poll(&p, 1, 0) == 0)
		return true;
	dir_fd = open(m->path, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	return dir_fd >= 0 && find_mount(dir_fd, &id, type) == MOUNT_STALE;
}

void fuse_unmount(struct fuse_mount *m, struct log *log)
{
	bool mounted;

	if (!m->path)
		return;
	mounted = is_mounted(m);
	close_fd(&m->fd);
	if (mounted)
		detach(m, log);
	if (m->made_dir)
		rmdir(m->path);
	free(m->path);
	*m = (struct fuse_mount){.fd = -1};
}
