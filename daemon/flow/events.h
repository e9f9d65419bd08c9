/* SPDX-License-Identifier: MIT */
#ifndef FLOW_EVENTS_H
#define FLOW_EVENTS_H

/*
 * The file `events`: what happened, a line of JSON each, for scripts that want to react and for people who want to
 * know why a write failed. The last 64 KiB are kept and given to every new reader first.
 *
 *     {"time":"2026-11-22T10:00:00.000Z","event":"connected"}
 *     {"time":"…","event":"refused","file":"methods/reboot/call","reason":"…"}
 */

#include "config/config.h"
#include "fuse/tree.h"
#include "loop/loop.h"

struct events;

/* Longest reason; longer ones are cut. */
#define EVENTS_REASON_MAX 512

/* Returns 0 or -ENOMEM. */
int events_new(struct events **out, struct loop *loop);
/* After the tree. NULL is fine. */
void events_free(struct events *events);

/* Adds the file; what happened before is not in it. Returns 0 or -ENOMEM. */
int events_add_file(struct events *events, struct fuse_node *parent, const struct config_access *access);
/* The tree with the file is gone: what happens from now on is dropped. */
void events_remove_file(struct events *events);

/* Adds an event. @event: one word, `connected`; @file: the file it is about, from the mount point, or NULL; @fmt: the
 * reason, or NULL. */
__attribute__((format(printf, 4, 5))) void events_emit(struct events *events, const char *event,
						       const char *file, const char *fmt, ...);

#endif
