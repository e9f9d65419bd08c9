/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_TREE_H
#define FLOW_TWIN_TREE_H

/*
 * A properties object of the twin as a tree: an object is a directory, anything else a file with its text
 * (twin_leaf.h), and keys are names (key_name.h). A key whose name would be longer than 255 bytes is in the document
 * only, and so is what the tree has no room for; the log and `events` say so.
 *
 * The reported tree can be written:
 *
 *   write    what an open file holds so far, after each write, is the value; no other than that patch is made. A file
 *            holds what was there when it was opened, nothing after O_TRUNC; the beginning of a JSON object, array or
 *            quoted string waits for the rest of it, or the last close. An object makes the file a directory. null takes
 *            the property away. O_SYNC and fsync as twin_files.h says. ESTALE: the property is gone, or was taken away
 *            and made again; white space is accepted after a write of this open file did it.
 *   create   makes no property before the first write; without one the last close makes an empty string, as it does
 *            of what was truncated only. EINVAL: not the name of a key.
 *   mkdir    {}; rmdir of an empty one, unlink: null; rename: null and the value under its new key, in one patch.
 *
 * Errors of form and size are those of twin_files.h; the reason is in `events`.
 */

#include "config/config.h"
#include "flow/twin_writes.h"
#include "fuse/tree.h"

struct twin_tree;

struct twin_tree_options {
	const struct twin_writes *writes; /* outlives the tree */
	struct log *log;
	struct fuse_node *parent;
	const char *name; /* "desired"; a literal */
	const struct config_access
		*access; /* of the files; directories can be searched by who may read or write */
	bool writable;   /* else EROFS for whoever ignores modes */
};

/* Adds the directory, empty. Returns 0 or -ENOMEM. After an error @out may be there all the same. */
int twin_tree_new(struct twin_tree **out, const struct twin_tree_options *options);
/* After the nodes are gone. NULL is fine. */
void twin_tree_free(struct twin_tree *tree);

/* Makes the tree that of @object, which it takes a reference of. Open files and pollers of leaves that are others now
 * are told. */
void twin_tree_update(struct twin_tree *tree, const struct json_object *object);

#endif
