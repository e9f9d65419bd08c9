/* SPDX-License-Identifier: MIT */
/*
 * Running fusermount3, without a shell.
 *
 * It gets one end of a socket pair as descriptor 3, named by $_FUSE_COMMFD, mounts, and sends one byte with
 * the /dev/fuse descriptor attached (SCM_RIGHTS). When it refuses it says why on stderr, which is read
 * through a pipe so that the reason becomes part of our one log line. Its environment is ours to choose,
 * nothing is passed on.
 */

#include "fuse/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define PROGRAM       "fusermount3"
#define FUSE_CONF     "/etc/fuse.conf"
#define COMM_FD       3
#define COMM_FD_ENV   "_FUSE_COMMFD=3"

#define MOUNT_OPTIONS "fsname=iothub,subtype=iothub,nosuid,nodev,noatime,default_permissions"

/* What it wrote to stderr, its first line. */
struct complaint {
	char text[256];
};

/* posix_spawn(3) takes strings without const and leaves them alone. */
static char *plain(const char *text)
{
	union {
		const char *in;
		char *out;
	} u = {.in = text};

	return u.out;
}

/* Whether the administrator lets users mount for others. */
static bool may_allow_other(void)
{
	_cleanup_(fclose_ptr) FILE *f = fopen(FUSE_CONF, "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\r\n")] = '\0';
		if (strcmp(line, "user_allow_other") == 0)
			return true;
	}
	return false;
}

/* The child's descriptors are 0, 1 (ours), 2 and, if @comm_fd is not negative, COMM_FD; no signal is blocked.
 */
static int spawn(pid_t *pid, char *const argv[], int stderr_fd, int comm_fd)
{
	char env_comm[] = COMM_FD_ENV, env_path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *envp[] = {env_path, comm_fd >= 0 ? env_comm : NULL, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&actions);
	r = posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);
	if (r == 0 && comm_fd >= 0)
		r = posix_spawn_file_actions_adddup2(&actions, comm_fd, COMM_FD);
	if (r == 0)
		r = posix_spawnp(pid, PROGRAM, &actions, &attr, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -r;
}

/* Reads to the end, keeps the beginning, without `fusermount3: `. */
static void read_complaint(int fd, struct complaint *out)
{
	static const char prefix[] = PROGRAM ": ";
	char chunk[256];
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0 || (n < 0 && errno == EINTR)) {
		size_t room = sizeof(out->text) - 1 - len, take = n > 0 ? (size_t)n : 0;

		if (take > room)
			take = room;
		memcpy(out->text + len, chunk, take);
		len += take;
	}
	out->text[len] = '\0';
	out->text[strcspn(out->text, "\n")] = '\0';
	if (strncmp(out->text, prefix, sizeof(prefix) - 1) == 0)
		memmove(out->text, out->text + sizeof(prefix) - 1, strlen(out->text) - sizeof(prefix) + 2);
}

/* Returns 0 when it exited with 0, else -EPERM. */
static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		/* Where SIGCHLD is ignored nobody can tell. */
		if (errno != EINTR)
			return errno == ECHILD ? 0 : -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* The descriptor that came with the first byte, or -EPERM when the other side closed without sending one. */
static int receive_fd(int sock)
{
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buffer,
		.msg_controllen = sizeof(control.buffer),
	};
	struct cmsghdr *c;
	ssize_t n;
	int fd;

	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EPERM;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static int log_spawn_error(int error, struct log *log)
{
	if (error == -ENOENT)
		log_error(log, "there is no " PROGRAM ", which mounts for users: install the package fuse3");
	else
		log_error(log, "cannot run " PROGRAM ": %s", strerror(-error));
	return error;
}

/* Starts it with @comm (or NULL) as its end of the socket; @stderr_fd is where to read what it has to say.
 * Both of its descriptors are closed on our side. */
static int start(pid_t *pid, char *const argv[], int *comm, int *stderr_fd, struct log *log)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return log_spawn_error(-errno, log);
	r = spawn(pid, argv, fds[1], comm ? *comm : -1);
	close(fds[1]);
	if (comm)
		close_fd(comm);
	if (r < 0) {
		close(fds[0]);
		return log_spawn_error(r, log);
	}
	*stderr_fd = fds[0];
	return 0;
}

int fuse_helper_mount(const char *path, struct log *log)
{
	char options[] = MOUNT_OPTIONS ",allow_other", name[] = PROGRAM, o[] = "-o", end[] = "--";
	char *argv[] = {name, o, options, end, plain(path), NULL};
	_cleanup_(close_fd) int ours = -1, theirs = -1, said = -1, fd = -1;
	struct complaint complaint;
	int sv[2], r;
	pid_t pid = -1;

	if (!may_allow_other())
		options[sizeof(MOUNT_OPTIONS) - 1] = '\0';
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return log_spawn_error(-errno, log);
	ours = sv[0];
	theirs = sv[1];
	r = start(&pid, argv, &theirs, &said, log);
	if (r < 0)
		return r;
	fd = receive_fd(ours);
	read_complaint(said, &complaint);
	r = wait_for(pid);
	if (r == 0 && fd < 0)
		r = fd;
	if (r < 0) {
		log_error(log, "cannot mount at %s: " PROGRAM " says: %s", path,
			  complaint.text[0] ? complaint.text : strerror(-r));
		return r;
	}
	return TAKE_FD(fd);
}

int fuse_helper_unmount(const char *path, struct log *log)
{
	char name[] = PROGRAM, u[] = "-u", q[] = "-q", z[] = "-z", end[] = "--";
	char *argv[] = {name, u, q, z, end, plain(path), NULL};
	_cleanup_(close_fd) int said = -1;
	struct complaint complaint;
	pid_t pid = -1;
	int r;

	r = start(&pid, argv, NULL, &said, log);
	if (r < 0)
		return r;
	read_complaint(said, &complaint);
	r = wait_for(pid);
	if (r < 0)
		log_error(log, "cannot unmount %s: " PROGRAM " says: %s", path,
			  complaint.text[0] ? complaint.text : strerror(-r));
	return r;
}
