/* SPDX-License-Identifier: MIT */
/*
 * The daemon's files, see files.h. That there is none can be because the daemon does not run: then the directory is
 * empty, or says ENOTCONN when the daemon was killed. The file `status` is always there.
 */

#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "iothub.h"

#define READ_BYTES 65536u

/* Of a path below the mount point; the caller frees. */
static char *path_of(const struct ctl_args *args, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", args->mount, name) < 0 ? NULL : path;
}

static int say_no_daemon(const struct ctl_args *args, const char *why)
{
	fprintf(stderr,
		"iothubctl: %s: %s; start it (systemctl start iothubd), or name the place of the files with "
		"--mount\n",
		args->mount, why);
	return CTL_NO_DAEMON;
}

static int say_not_there(const struct ctl_args *args, const char *name)
{
	_cleanup_(free_ptr) char *status = path_of(args, IOTHUB_FILE_STATUS);

	if (status && access(status, F_OK) < 0 && errno != EACCES)
		return say_no_daemon(args, "iothubd does not run here");
	fprintf(stderr, "iothubctl: %s/%s: there is no such file\n", args->mount, name);
	return CTL_NOT_THERE;
}

int ctl_say(const struct ctl_args *args, const char *name, int error)
{
	const char *why;

	switch (error) {
	case ENOENT:
		return say_not_there(args, name);
	case ENOTCONN:
	case ECONNABORTED:
	case ENODEV:
		return say_no_daemon(args, "iothubd is gone");
	case ESHUTDOWN:
		return say_no_daemon(args, "iothubd is stopping");
	case ENODATA:
		fprintf(stderr,
			"iothubctl: %s: not known yet: the hub was never reached; see iothubctl status\n",
			name);
		return CTL_NOT_THERE;
	case EACCES:
	case EPERM:
		why = "not allowed: only root and the group of the files may; see iothubd.json(5), \"files\"";
		break;
	default:
		why = strerror(error);
		break;
	}
	fprintf(stderr, "iothubctl: %s/%s: %s\n", args->mount, name, why);
	return CTL_FAILED;
}

int ctl_open(const struct ctl_args *args, const char *name, int flags, int *out_fd)
{
	_cleanup_(free_ptr) char *path = path_of(args, name);

	*out_fd = path ? open(path, flags | O_CLOEXEC) : -1;
	return *out_fd < 0 ? ctl_say(args, name, path ? errno : ENOMEM) : 0;
}

int ctl_read(int fd, struct buf *text)
{
	uint8_t *dst;
	ssize_t n;
	int r;

	buf_consume(text, buf_len(text));
	for (;;) {
		r = buf_reserve(text, READ_BYTES, &dst);
		if (r < 0)
			return r == -ENOBUFS ? -EFBIG : r;
		n = pread(fd, dst, READ_BYTES - 1, (off_t)buf_len(text));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0) {
			*dst = '\0';
			return 0;
		}
		if (n > 0)
			buf_commit(text, (size_t)n);
	}
}

int ctl_read_file(const struct ctl_args *args, const char *name, struct buf *text)
{
	_cleanup_(close_fd) int fd = -1;
	int code, r;

	buf_init(text, CTL_TEXT_MAX);
	code = ctl_open(args, name, O_RDONLY, &fd);
	if (code)
		return code;
	r = ctl_read(fd, text);
	return r ? ctl_say(args, name, -r) : 0;
}

int ctl_copy_lines(const struct ctl_args *args, const char *name, bool follow)
{
	_cleanup_(free_ptr) char *data = malloc(READ_BYTES);
	_cleanup_(close_fd) int fd = -1;
	int code = data ? ctl_open(args, name, O_RDONLY | (follow ? 0 : O_NONBLOCK), &fd)
			: ctl_say(args, name, ENOMEM);
	ssize_t n = 1;

	if (code)
		return code;
	while (n > 0 || errno == EINTR) {
		n = read(fd, data, READ_BYTES);
		/* Whoever reads this in a pipe is to see a line when it is there; main() tells of errors. */
		if (n > 0 && (fwrite(data, 1, (size_t)n, stdout) != (size_t)n || fflush(stdout) == EOF))
			return CTL_DONE;
		if (n == 0)
			errno = ENOTCONN;
	}
	return errno == EAGAIN ? CTL_DONE : ctl_say(args, name, errno);
}
