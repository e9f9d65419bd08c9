/* SPDX-License-Identifier: MIT */
#ifndef FUSE_ABI_H
#define FUSE_ABI_H

/*
 * The kernel's FUSE ABI: linux/fuse.h, and what came after the version Debian 12 ships (7.38). Values are
 * from include/uapi/linux/fuse.h of Linux 6.18; they are ABI and never change.
 */

#include <linux/fuse.h>

#if FUSE_KERNEL_MINOR_VERSION < 40
/* INIT: the kernel sends requests again when asked by FUSE_NOTIFY_RESEND (Linux 6.9). */
#define FUSE_HAS_RESEND    (1ULL << 39)
#define FUSE_NOTIFY_RESEND 7
/* Set in the `unique` of a request that was sent again; the answer repeats it. */
#define FUSE_UNIQUE_RESEND (1ULL << 63)
#endif

#if FUSE_KERNEL_MINOR_VERSION < 42
/* INIT: requests may travel over io_uring (Linux 6.14). */
#define FUSE_OVER_IO_URING (1ULL << 41)
#endif

#if FUSE_KERNEL_MINOR_VERSION < 43
/* INIT: the kernel aborts the connection when a request is older than a limit (Linux 6.15). */
#define FUSE_REQUEST_TIMEOUT (1ULL << 42)
#endif

/* The first minor version whose kernel knows FUSE_NOTIFY_PRUNE (Linux 6.18). */
#define FUSE_MINOR_PRUNE 45

#if FUSE_KERNEL_MINOR_VERSION < 45
/* Drops the unused names of inodes, and with them the inodes; followed by @count identifiers. */
#define FUSE_NOTIFY_PRUNE 9
struct fuse_notify_prune_out {
	uint32_t count;
	uint32_t padding;
	uint64_t spare;
};
#endif

#endif
