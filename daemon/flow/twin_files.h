/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_FILES_H
#define FLOW_TWIN_FILES_H

/*
 * The directory `twin`: the device's twin as documents, as trees, and as a stream of what changes.
 *
 *   desired.json, reported.json         the whole object, indented, without `$version`
 *   desired.version, reported.version   its version, a decimal number
 *   changes                             a line of JSON for each change of the desired properties: read waits for it
 *   desired/, reported/                 the same objects as trees, see twin_tree.h
 *
 * What is read from the beginning of a file and on, up to its end, is one version of it. read fails with ENODATA
 * while the twin was never seen, on this run or one before; `reported.json` shows what was written here instead.
 * poll(2) reports POLLPRI and POLLERR on documents, versions and leaves that are others than when they were last read
 * from the beginning.
 *
 * What is written to `reported.json` is a merge patch as soon as it is a whole JSON object, however many writes it
 * took; what follows it is the next one. Offsets and truncation mean nothing. EINVAL: what was written cannot become
 * an object, or one that a twin can have; EMSGSIZE: it is too long, or has more than 256 objects in one write;
 * ENOSPC: too much waits for the hub. The reason is in `events`, what was collected is dropped, and nothing of the
 * write has happened (with several objects in one, ENOSPC may come after the first of them). With O_SYNC or O_DSYNC
 * a write waits for the outcome of its patches, and returns the hub's error; ETIMEDOUT: there was none in time, and
 * the patch stays on its way. fsync waits for all patches of the open file and returns the first error since the last.
 * An object that is not complete at the last close is refused in `events`. ioctls are those of iothub.h.
 *
 * Lines of `changes`, from the moment of open(2) on: {"version":N,"patch":{...}} for a change; {"version":N,
 * "desired":{...}} when the whole twin was fetched and is another; {"version":N} alone when a line would be longer
 * than 64 KiB.
 *
 * Who may write in spite of the mode of a file, root, gets EROFS for what only the hub writes.
 */

#include "config/config.h"
#include "flow/events.h"
#include "flow/twin.h"
#include "fuse/tree.h"

struct twin_files;

struct twin_files_options {
	struct loop *loop;
	struct log *log;
	struct events *events;
	struct twin *twin; /* outlives the tree */
	struct fuse_node *parent;
	/* CONFIG_FILE_TWIN: of what only the hub writes; CONFIG_FILE_REPORTED: of reported.json and the tree. Copied. */
	struct config_access twin_access, reported_access;
	uint64_t timeout_ns; /* how long a write or an fsync may wait; TIME_NEVER = for ever */
};

/* Adds the directory. Returns 0 or -ENOMEM. After an error @out may be there all the same, for twin_files_free(). */
int twin_files_new(struct twin_files **out, const struct twin_files_options *options);
/* After the tree, before the twin. NULL is fine. */
void twin_files_free(struct twin_files *files);

/* What the twin says, see struct twin_ops. They may come while the tree is being freed, not afterwards. */
void twin_files_on_desired_changed(struct twin_files *files, const struct json_object *patch,
				   uint64_t version);
void twin_files_on_reported_changed(struct twin_files *files, const struct json_object *patch,
				    uint64_t version);
void twin_files_on_refused(struct twin_files *files, int error, const char *reason);

#endif
