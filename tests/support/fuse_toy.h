/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_FUSE_TOY_H
#define TESTS_SUPPORT_FUSE_TOY_H

/*
 * A small file tree behind a real mount, served by a process of its own, so that the test may open its files.
 * The test tells it what to do and asks what it saw through a socket.
 *
 *   sink     0666, record    takes writes up to 256 KiB, larger ones EMSGSIZE; O_SYNC writes and fsync wait for
 *                            TOY_ACK
 *   stream   0666, record    reads give what TOY_PUSH gave, waiting for it; polls
 *   call     0666, record    reads wait; writes as sink; counts who closes it
 *   doc      0644, document  text set by TOY_SET_DOC
 *   paper    0666, document  what was written last; waits as sink
 *   private  0600, record    as sink
 *   sub/leaf 0444, document  "leaf\n"
 *   box, live                names that come and go, see toy_box.h
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "fuse/tree.h"

#define TOY_MAX_RECORD 262144
#define TOY_TEXT_SIZE  512

enum toy_ask {
	TOY_QUIT,           /* unmounts and ends */
	TOY_N_REQUESTS,     /* of opcode @arg */
	TOY_N_WRITES,       /* on sink and private, accepted */
	TOY_N_BYTES,        /* in them */
	TOY_N_RELEASED,     /* files */
	TOY_N_PARKED,       /* requests that wait now */
	TOY_LAST_WRITE,     /* text */
	TOY_PUSH,           /* text for one READ of stream */
	TOY_ACK,            /* answers parked writes and fsyncs with -@arg */
	TOY_SET_DOC,        /* text */
	TOY_AWAIT_PARKED,   /* answered once @arg requests wait */
	TOY_AWAIT_RELEASED, /* answered once @arg files were released */
	TOY_ADD_FILES,      /* @arg documents named f0, f1, … in sub */
	TOY_AWAIT_GONE,
	TOY_GONE, /* whether the connection has ended */
	/* toy_box.h; text: a path */
	TOY_ADD_LIVE,        /* @arg directories; answers how many there have been */
	TOY_REMOVE_LIVE,     /* number @arg, as `rm -r` of the daemon's own */
	TOY_REMOVE,          /* text; answers an errno */
	TOY_MOVE,            /* text; answers an errno */
	TOY_N_ITEMS,         /* nodes of box and live that were not dropped */
	TOY_N_REMOVED,       /* removed nodes that are still known */
	TOY_N_CLOSED,        /* FLUSHes of call and of documents in box and live, but for */
	TOY_N_KILLED,        /* those of threads that were killed */
	TOY_AWAIT_CLOSED,    /* TOY_N_CLOSED + TOY_N_KILLED is @arg or more */
	TOY_AWAIT_FORGOTTEN, /* TOY_N_REMOVED is @arg or less */
	TOY_AWAIT_ITEMS,     /* TOY_N_ITEMS is @arg or less */
};

struct toy {
	pid_t pid;
	int control;
};

/* Starts a server that mounts at @path, as user @uid when that is not 0. Returns what fuse_mount() did. */
int toy_start(struct toy *toy, const char *path, uid_t uid);

/* Asks and waits for the answer; @text (TOY_TEXT_SIZE, may be NULL) gets its text. UINT64_MAX: the server is
 * gone. */
uint64_t toy_ask(struct toy *toy, enum toy_ask what, uint64_t arg, const char *question, char *text);

/* Ends it in order; returns its exit status. */
int toy_stop(struct toy *toy);

/* kill -9, and waits until it is gone. */
void toy_kill(struct toy *toy);

/* The tree without mount and process: for tests with a transport of their own. */
struct toy_tree;
int toy_tree_new(struct toy_tree **out, struct loop *loop, struct log *log);
void toy_tree_free(struct toy_tree *toy);
struct fuse_tree *toy_tree_fuse(struct toy_tree *toy);
/* As toy_ask(), for what needs no waiting. */
uint64_t toy_tree_do(struct toy_tree *toy, enum toy_ask what, uint64_t arg, char *text);

#endif
