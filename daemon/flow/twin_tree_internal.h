/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_TREE_INTERNAL_H
#define FLOW_TWIN_TREE_INTERNAL_H

/* What the files of the twin's trees share: twin_tree.c (nodes), twin_tree_dirs.c (what users do in directories),
 * twin_tree_leaves.c (open files of leaves). */

#include "flow/twin_tree.h"
#include "flow/key_name.h"
#include "hub/twin.h"

/* Longest path that is made: directories on all levels, what is in the last, and one that is refused for it. */
#define TWIN_PATH_MAX (HUB_TWIN_LEVELS_MAX + 3)

/* Of a file in `events`, from the mount point; longer ones are cut. */
#define TWIN_LABEL_SIZE 512

/* A rename under way: nodes that keep their open files while the object changes. */
struct twin_move {
	struct fuse_node *node; /* NULL = none */
	struct fuse_node *dir;
	const char *name;
	struct fuse_node *replaced; /* NULL = nothing */
};

struct twin_tree {
	const struct twin_writes *writes;
	struct log *log;
	struct log_once full_logged, name_logged;
	const char *name;
	struct config_access access;
	bool writable;
	struct fuse_node *root;
	struct twin_move move;
};

/* A directory or a leaf; lives as long as its fuse_node. */
struct twin_node {
	struct twin_tree *tree;
	const struct json_object *value; /* owned; NULL: a file that was created and is no property yet */
	unsigned int n_writers;          /* files open for writing */
};

static inline struct twin_node *twin_node_of(const struct fuse_node *fuse)
{
	return fuse_node_userdata(fuse);
}

/* --- twin_tree.c */

/* Adds a node without a value. Returns 0 or as fuse_node_add(). */
int twin_node_add(struct fuse_node **out, struct fuse_node *dir, const char *name, bool is_dir);
/* Takes it out of the tree; who polls what is below it is told. */
void twin_node_remove(struct fuse_node *fuse);

/* What @name in @dir (with NULL: @dir itself) is called in `events`. */
void twin_tree_label(char out[static TWIN_LABEL_SIZE], struct fuse_node *dir, const char *name);

/* The patch that gives the property @name in @dir @value; NULL takes it away. Returns 0, -EINVAL: @name is of no key,
 * -ENOMEM. */
int twin_tree_patch(const struct json_object **out, struct fuse_node *dir, const char *name,
		    const struct json_object *value);

/* Makes that patch and gives it to the twin. @writer may be NULL. As twin_writes_patch(). */
int twin_tree_set(struct fuse_node *dir, const char *name, const struct json_object *value,
		  struct twin_writer *writer);

/* --- twin_tree_dirs.c, twin_tree_leaves.c */

extern const struct fuse_dir_ops twin_dir_ops, twin_dir_ops_readonly;
extern const struct fuse_file_ops twin_leaf_ops;

/* Of all nodes: the owner's part ends. */
void twin_node_on_drop(struct fuse_node *fuse);

#endif
