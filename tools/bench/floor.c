/* SPDX-License-Identifier: MIT */
/*
 * The floor of a write to a FUSE file: a server that mounts one file, `sink`, and throws away what is written,
 * with nothing between read(2) and write(2) of /dev/fuse. The protocol as the daemon speaks it to the kernel
 * (same INIT flags that matter, same open flags), and not the daemon's code for it.
 *
 *     floor DIR      prints a line when it is mounted; SIGTERM ends it
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/abi.h"
#include "fuse/mount.h"

#define SINK_ID     2
#define MAX_WRITE   266240
#define BUFFER_SIZE (MAX_WRITE + 4096)

struct request {
	const struct fuse_in_header *header;
	const uint8_t *arg;
};

static void reply(int fd, const struct request *req, int error, const void *body, size_t len)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + len), .error = error, .unique = req->header->unique};
	struct iovec iov[] = {{&out, sizeof(out)}, {NULL, len}};

	memcpy(&iov[1].iov_base, &body, sizeof(body));
	if (writev(fd, iov, len ? 2 : 1) < 0 && errno != ENOENT)
		perror("floor: reply");
}

static void fill_attr(struct fuse_attr *attr, uint64_t id)
{
	*attr = (struct fuse_attr){
		.ino = id,
		.mode = id == SINK_ID ? S_IFREG | 0222 : S_IFDIR | 0755,
		.nlink = 1,
		.uid = geteuid(),
		.gid = getegid(),
	};
}

static void on_init(int fd, const struct request *req)
{
	const struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 38,
		.flags = FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES,
		.max_write = MAX_WRITE,
		.max_pages = 66,
		.max_background = 64,
		.congestion_threshold = 48,
	};

	reply(fd, req, 0, &out, sizeof(out));
}

static void on_lookup(int fd, const struct request *req)
{
	struct fuse_entry_out out = {.nodeid = SINK_ID, .entry_valid = 3600, .attr_valid = 3600};

	if (strcmp((const char *)req->arg, "sink") != 0) {
		reply(fd, req, -ENOENT, NULL, 0);
		return;
	}
	fill_attr(&out.attr, SINK_ID);
	reply(fd, req, 0, &out, sizeof(out));
}

static void serve(int fd, const struct request *req)
{
	struct fuse_attr_out attr = {.attr_valid = 3600};
	const struct fuse_open_out open = {.open_flags = FOPEN_DIRECT_IO | FOPEN_STREAM | FOPEN_NOFLUSH |
							 FOPEN_PARALLEL_DIRECT_WRITES};
	struct fuse_write_out write = {0};

	switch (req->header->opcode) {
	case FUSE_WRITE:
		memcpy(&write.size, req->arg + offsetof(struct fuse_write_in, size), sizeof(write.size));
		reply(fd, req, 0, &write, sizeof(write));
		break;
	case FUSE_INIT:
		on_init(fd, req);
		break;
	case FUSE_LOOKUP:
		on_lookup(fd, req);
		break;
	case FUSE_GETATTR:
		fill_attr(&attr.attr, req->header->nodeid);
		reply(fd, req, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		reply(fd, req, 0, &open, sizeof(open));
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	case FUSE_RELEASE:
	case FUSE_FSYNC:
	case FUSE_DESTROY:
		reply(fd, req, 0, NULL, 0);
		break;
	default:
		reply(fd, req, -ENOSYS, NULL, 0);
		break;
	}
}

static void on_signal(int signo)
{
	(void)signo;
}

/* Until a signal, or until somebody unmounted it. */
static int run(int fd)
{
	static uint8_t buffer[BUFFER_SIZE] __attribute__((aligned(8)));

	for (;;) {
		ssize_t n = read(fd, buffer, sizeof(buffer));
		struct request req = {.header = (const void *)buffer, .arg = buffer + sizeof(*req.header)};

		if (n < 0 && errno == EINTR)
			return 0;
		if (n < 0 && errno != ENOENT) {
			perror("floor: read");
			return 1;
		}
		if (n >= (ssize_t)sizeof(*req.header))
			serve(fd, &req);
	}
}

int main(int argc, char **argv)
{
	/* Without SA_RESTART: the signal ends read(2). */
	const struct sigaction action = {.sa_handler = on_signal};
	struct fuse_mount mount;
	struct log log;
	int r;

	if (argc != 2) {
		fputs("usage: floor DIR\n", stderr);
		return 2;
	}
	log_init(&log, "floor", LOG_LEVEL_WARNING);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (fuse_mount(&mount, argv[1], &log) < 0)
		return 1;
	fcntl(mount.fd, F_SETFL, fcntl(mount.fd, F_GETFL) & ~O_NONBLOCK);
	printf("mounted\n");
	fflush(stdout);
	r = run(mount.fd);
	fuse_unmount(&mount, &log);
	return r;
}
