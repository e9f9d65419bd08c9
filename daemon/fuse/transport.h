/* SPDX-License-Identifier: MIT */
#ifndef FUSE_TRANSPORT_H
#define FUSE_TRANSPORT_H

/*
 * The seam between the tree and what carries its messages: the dev transport, later FUSE over io_uring, a
 * test.
 *
 * A transport hands over one request at a time and gets its reply, now or later, through its operations; the
 * reply names the request by the `unique` in its header.
 */

#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "fuse/tree.h"

struct fuse_transport;

struct fuse_transport_ops {
	/* Sends a reply, borrowed for the call. Returns 0, or -ENOENT and others when nobody waits for it any
	 * more. */
	int (*reply)(struct fuse_transport *transport, const struct iovec *iov, int n_iov);
	/* Sends a notification. Returns 0 or a negative errno; -ENOENT: the kernel does not know the node. */
	int (*notify)(struct fuse_transport *transport, const struct iovec *iov, int n_iov);
};

/* Embedded in the transport. */
struct fuse_transport {
	const struct fuse_transport_ops *ops;
	uint32_t max_pages; /* the kernel's limit for one request, in pages */
};

/* Connects @tree to @transport (borrowed); one at a time. */
void fuse_tree_attach(struct fuse_tree *tree, struct fuse_transport *transport);

/* Answers all parked requests with -ECONNABORTED and lets go of the transport. Not from inside an operation.
 */
void fuse_tree_detach(struct fuse_tree *tree);

/* Serves one request, as one read(2) of /dev/fuse returns it; borrowed for the call. */
void fuse_tree_request(struct fuse_tree *tree, struct bytes request);

/* Of a tree without a loop: what time it is. */
void fuse_tree_set_now_ns(struct fuse_tree *tree, uint64_t now_ns);

/* The kernel ended the connection: tells the tree's owner, once. The owner may free the transport in this
 * call. */
void fuse_tree_gone(struct fuse_tree *tree);

#endif
