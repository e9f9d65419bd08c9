/* SPDX-License-Identifier: MIT */
#ifndef FLOW_STORE_H
#define FLOW_STORE_H

/*
 * A file that keeps what is now for the daemon's next start. It is written as a new one and renamed, so that there is
 * a whole one at any time, the old or the new.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/time.h"
#include "loop/loop.h"

struct store;

struct store_ops {
	/* What is now: *@out is malloc()ed and the store's. Called when it is to be written, from the loop or from
	 * store_free(). Returns 0 or a negative errno, which is an error as the disk's are. */
	int (*encode)(void *userdata, uint8_t **out, size_t *len);
	/* What encode() gave the last time was tried: it is on the disk unless there is an error. May be NULL. */
	void (*on_tried)(void *userdata);
	/* Whether a file, one that was set aside too, has something that is nowhere else. NULL: none has. */
	bool (*is_precious)(struct bytes file);
};

struct store_options {
	struct loop *loop;
	struct log *log;
	const char *path; /* copied */
	size_t bytes_max; /* a larger file is none of ours */
	const char *
		without; /* what a daemon does without the file, for the log: "starting without …"; borrowed */
	const char
		*precious; /* what a precious file has, likewise: "properties that were not sent"; borrowed */
	const struct store_ops *ops;
	void *userdata;
};

/* Returns 0 or -ENOMEM. */
int store_new(struct store **out, const struct store_options *options);

/* A disk that has not answered this long after store_free() is said not to; whoever turns the loop may give up. */
#define STORE_END_NS (5 * NSEC_PER_SEC)

/*
 * Stops when what is to be saved is on the disk: the loop has operations in flight until then, and the object frees
 * itself with the last one. An error of the disk is the end of it too. No operation is called any more. NULL is fine.
 */
void store_free(struct store *s);

/*
 * Reads the file; this may block. Returns 0 and *@out, malloc()ed, or a negative errno: -ENOENT, there is none;
 * -EBADMSG, it cannot be one of ours and was set aside; or the disk's error. All but -ENOENT are logged. One that could not be
 * read may be a good one: it is set aside when something is saved in its place.
 */
int store_load(struct store *s, uint8_t **out, size_t *len);
/* Whether that is so, and nothing was saved since. */
bool store_is_unread(const struct store *s);

/*
 * The file cannot be used: it is called <path>.bad from now on, or <path>.bad.1 to .4 when that name is taken. A sixth
 * one replaces the oldest that is not precious, or else, if it is precious itself, the oldest. @why, for the log: "is
 * damaged".
 */
void store_set_aside(struct store *s, const char *why);

/*
 * There is something else to be kept now. It is asked for and written at the end of the turn, or when the write under
 * way has ended. An error of the disk is logged once, and the next change is tried all the same.
 */
void store_save(struct store *s);

/* The last error of the disk, that of store_load() too, "" after a success; valid until the next turn. And as a negative errno, 0 likewise. */
const char *store_error(const struct store *s);
int store_result(const struct store *s);

#endif
