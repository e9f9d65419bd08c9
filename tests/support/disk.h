/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_DISK_H
#define TESTS_SUPPORT_DISK_H

/*
 * A file system of one's own, to be filled, to fail, and to lose its power: ext4 on a loop device over an image, or over a
 * disk in memory (nbdkit under nbdfuse) that gives errors on demand. Needs root.
 *
 * Everything is mounted in a mount namespace that the test's processes share with nobody: no other process keeps
 * the file system alive when it is unmounted, and what a test leaves mounted when it dies goes with its last process,
 * with its loop device. The struct holds no pointers: a fixture keeps it in its shared memory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DISK_PATH_MAX 160

struct disk {
	char image[DISK_PATH_MAX];  /* a file */
	char dir[DISK_PATH_MAX];    /* where it is mounted */
	char nbd[DISK_PATH_MAX];    /* of nbdfuse; "" = there is none */
	char inject[DISK_PATH_MAX]; /* while this file exists, nbdkit answers with errors */
	pid_t nbdfuse;
	int log_fd; /* the loop device of the file system's journal; -1: it has none of its own */
	bool mounted;
};

/* Why there can be no disk here, for SKIP_IF; NULL: there can. Enters the mount namespace, before anything is mounted. */
const char *disk_why_not(void);
/* The same of one that gives errors. */
const char *disk_why_no_errors(void);

/* Makes the image in @base with a file system, and the directory @base/@name; mkfs.ext4 gets @options (one word such as
 * `-O^has_journal`, or NULL). Nothing is mounted yet. */
void disk_init(struct disk *disk, const char *base, const char *name, unsigned int mib, const char *options);
/* Likewise, on a disk in memory. */
void disk_init_errors(struct disk *disk, const char *base, const char *name, unsigned int mib,
		      const char *options);
/* A file system on an image, whose journal is on a disk of its own, in memory: errors are those of the journal only. */
void disk_init_log_errors(struct disk *disk, const char *base, const char *name, unsigned int mib);
/* Unmounts, whatever happened, and ends nbdfuse. Works with a zeroed disk, and twice. */
void disk_deinit(struct disk *disk);

void disk_mount(struct disk *disk);
/* Waits until nobody uses it: a ring that was killed lets go of its files a little later. */
void disk_umount(struct disk *disk);

/* The power goes: nothing that was not written to the device will be, and from now on everything is an error. */
void disk_cut(const struct disk *disk);
/* The file system finds itself damaged and lets nobody write any more. */
void disk_abort(const struct disk *disk);

/* Errors on and off. */
void disk_errors(const struct disk *disk, bool on);

/* Takes all the space there is, but @leave_bytes, with a file; and gives it back. */
void disk_fill(const struct disk *disk, uint64_t leave_bytes);
void disk_unfill(const struct disk *disk);

#endif
