/* SPDX-License-Identifier: MIT */
/*
 * The dev transport: one read(2) of /dev/fuse is one request, one writev(2) one reply.
 *
 * A multishot poll in the loop says that there is something to read; then requests are read and served until
 * the kernel has none left, because the poll speaks only when new ones come. At most REQUESTS_PER_TURN are
 * served at a time, so that busy writers do not keep the loop from its connection; the rest goes on in the
 * next turn, from a timer that is due at once.
 *
 * The object lives until its poll has ended. What the kernel may do wrong here is to end the connection; the
 * tree's owner is told last, because it may free this object then.
 */

#include "fuse/dev.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/transport.h"
#include "fuse/wire.h"

#define REQUESTS_PER_TURN 64

/* fs/fuse: the limit before it could be set, and where it can be read since Linux 6.13. */
#define MAX_PAGES_DEFAULT 256
#define MAX_PAGES_PATH    "/proc/sys/fs/fuse/max_pages_limit"

struct fuse_dev {
	struct fuse_transport transport;
	struct loop *loop;
	struct fuse_tree *tree; /* NULL once stopped */
	bool freed;             /* by the owner; the poll's end frees the memory */
	struct log *log;
	struct loop_op poll;
	struct loop_timer more;
	struct log_once reply_log;
	int fd;
	uint8_t buffer[FUSE_WIRE_MAX_REQUEST] __attribute__((aligned(8)));
};

/*
 * ENOENT: the kernel gave the request up, as it does with all of them when the connection ends; for
 * INVAL_INODE, it has forgotten the node. ENODEV, ENOTCONN: unmounted. None of it is worth a line.
 */
static int dev_send(struct fuse_dev *dev, const struct iovec *iov, int n_iov)
{
	ssize_t n = writev(dev->fd, iov, n_iov);
	int error;

	if (n >= 0)
		return 0;
	error = errno;
	if (error != ENOENT && error != ENODEV && error != ENOTCONN && error != ECONNABORTED)
		log_write_once(dev->log, &dev->reply_log, LOG_LEVEL_ERROR,
			       "the kernel refused a FUSE message: %s", strerror(error));
	return -error;
}

static int dev_reply(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	return dev_send(container_of(transport, struct fuse_dev, transport), iov, n_iov);
}

static int dev_notify(struct fuse_transport *transport, const struct iovec *iov, int n_iov)
{
	return dev_send(container_of(transport, struct fuse_dev, transport), iov, n_iov);
}

static const struct fuse_transport_ops dev_ops = {
	.reply = dev_reply,
	.notify = dev_notify,
};

/* One request. Returns 1, 0 when there is none, -ENOTCONN when the connection has ended. */
static int dev_serve_one(struct fuse_dev *dev)
{
	ssize_t n = read(dev->fd, dev->buffer, sizeof(dev->buffer));

	if (n > 0) {
		fuse_tree_request(dev->tree, BYTES(dev->buffer, (size_t)n));
		return 1;
	}
	/* ENOENT: the request was given up while it was copied to us. */
	if (n < 0 && (errno == EINTR || errno == ENOENT))
		return 1;
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0 && errno != ENODEV && errno != ECONNABORTED)
		log_error(dev->log, "cannot read FUSE requests: %s", strerror(errno));
	return -ENOTCONN;
}

/* The last thing a callback does. */
static void dev_serve(struct fuse_dev *dev)
{
	struct fuse_tree *tree = dev->tree;
	int r = 1;

	for (int i = 0; r > 0 && i < REQUESTS_PER_TURN; i++)
		r = dev_serve_one(dev);
	if (r > 0) {
		/* A nanosecond after this turn's clock: due in the next turn, not again in this one. */
		loop_timer_arm(dev->loop, &dev->more, loop_now_ns(dev->loop) + 1);
	} else if (r < 0) {
		loop_op_cancel(dev->loop, &dev->poll);
		loop_timer_disarm(&dev->more);
		fuse_tree_gone(tree);
	} else {
		loop_timer_disarm(&dev->more);
	}
}

static void on_more(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	dev_serve(container_of(timer, struct fuse_dev, more));
}

static void on_poll(struct loop_op *op, int res)
{
	struct fuse_dev *dev = container_of(op, struct fuse_dev, poll);

	if (!dev->tree) {
		if (dev->freed && loop_op_is_idle(op))
			free(dev);
		return;
	}
	/* An answer to the cancellation, or an event from before it. */
	if (op->cancelling)
		return;
	if (res < 0) {
		log_error(dev->log, "cannot wait for FUSE requests: %s", strerror(-res));
		loop_timer_disarm(&dev->more);
		fuse_tree_gone(dev->tree);
		return;
	}
	dev_serve(dev);
}

static uint32_t read_max_pages(struct log *log)
{
	_cleanup_(fclose_ptr) FILE *f = fopen(MAX_PAGES_PATH, "re");
	uint32_t needed = FUSE_WIRE_MAX_WRITE / (uint32_t)sysconf(_SC_PAGESIZE) + 1;
	char line[32];
	unsigned long n;

	if (!f || !fgets(line, sizeof(line), f))
		return MAX_PAGES_DEFAULT;
	n = strtoul(line, NULL, 10);
	if (n < needed)
		log_warning(log, "large writes will be refused: set %s to %u or more", MAX_PAGES_PATH,
			    needed);
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

int fuse_dev_new(struct fuse_dev **out, struct loop *loop, struct fuse_tree *tree, int fd, struct log *log)
{
	struct fuse_dev *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->transport.ops = &dev_ops;
	dev->transport.max_pages = read_max_pages(log);
	dev->loop = loop;
	dev->tree = tree;
	dev->log = log;
	dev->fd = fd;
	loop_op_init(&dev->poll, on_poll);
	loop_timer_init(&dev->more, on_more);
	fuse_tree_attach(tree, &dev->transport);
	loop_op_poll(loop, &dev->poll, fd, POLLIN);
	*out = dev;
	return 0;
}

void fuse_dev_stop(struct fuse_dev *dev)
{
	if (!dev->tree)
		return;
	fuse_tree_detach(dev->tree);
	dev->tree = NULL;
	loop_timer_disarm(&dev->more);
	loop_op_cancel(dev->loop, &dev->poll);
}

bool fuse_dev_is_idle(const struct fuse_dev *dev)
{
	return loop_op_is_idle(&dev->poll);
}

void fuse_dev_free(struct fuse_dev *dev)
{
	if (!dev)
		return;
	fuse_dev_stop(dev);
	dev->freed = true;
	if (fuse_dev_is_idle(dev))
		free(dev);
}
