/* SPDX-License-Identifier: MIT */
/*
 * What users make, move and remove in a tree of the twin, see twin_tree.h.
 *
 * Each is a patch, and the twin tells of it before twin_patch() returns: so the tree has changed by then, in
 * twin_tree_update(), as it does when somebody else makes the patch. Only files that are no property yet are added,
 * moved and removed right here.
 */

#include <errno.h>
#include <string.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "flow/twin_doc.h"
#include "flow/twin_tree_internal.h"

/* Whether there is a property @name in @dir, also one that is not shown. */
static bool dir_has(struct fuse_node *dir, const char *name)
{
	const struct json_object *value;
	char key[KEY_NAME_SIZE];

	return key_name_decode(name, key) == 0 && twin_doc_member(twin_node_of(dir)->value, key, &value);
}

/* Whether @name could be a property of @dir at all; the reason why not is told. */
static int name_check(struct fuse_node *dir, const char *name)
{
	const struct twin_writes *writes = twin_node_of(dir)->tree->writes;
	_cleanup_(twin_doc_unref_ptr) const struct json_object *empty = json_object_new_string("");
	_cleanup_(twin_doc_unref_ptr) const struct json_object *patch = NULL;
	struct hub_twin_reason reason = {.text = "not the name of a key: % stands for itself as %25"};
	char label[TWIN_LABEL_SIZE];
	int r = empty ? twin_tree_patch(&patch, dir, name, empty) : -ENOMEM;

	if (!r)
		r = hub_twin_check_patch(patch, &reason);
	if (!r || r == -ENOMEM)
		return r;
	twin_tree_label(label, dir, name);
	return twin_writes_refuse(writes, label, r, reason.text);
}

static int dir_mkdir(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *object = twin_doc_new();
	int r;

	(void)mode;
	if (dir_has(dir, name))
		return -EEXIST;
	r = object ? twin_tree_set(dir, name, object, NULL) : -ENOMEM;
	if (r)
		return r;
	*out = fuse_node_find(dir, name);
	/* The property is there, but it has no file, which was said. */
	return *out && fuse_node_is_dir(*out) ? 0 : -ENOMEM;
}

static int dir_create(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	int r;

	(void)mode;
	if (dir_has(dir, name))
		return -EEXIST;
	r = name_check(dir, name);
	return r ? r : twin_node_add(out, dir, name, false);
}

static int dir_unlink(struct fuse_node *dir, struct fuse_node *child)
{
	if (twin_node_of(child)->value)
		return twin_tree_set(dir, fuse_node_name(child), NULL, NULL);
	twin_node_remove(child);
	return 0;
}

/* With what is not shown, too. */
static bool dir_is_empty(struct fuse_node *dir)
{
	return !fuse_node_next_child(dir, NULL) && json_object_object_length(twin_node_of(dir)->value) == 0;
}

static int dir_rmdir(struct fuse_node *dir, struct fuse_node *child)
{
	return dir_is_empty(child) ? dir_unlink(dir, child) : -ENOTEMPTY;
}

/* *@out: the patch that moves the property. The file that is none yet takes away what it replaces. */
static int rename_patch(const struct json_object **out, struct fuse_node *child, struct fuse_node *new_dir,
			const char *new_name)
{
	const struct json_object *value = twin_node_of(child)->value;
	_cleanup_(twin_doc_unref_ptr) const struct json_object *there = NULL, *away = NULL;
	int r = twin_tree_patch(&there, new_dir, new_name, value);

	if (!r && value)
		r = twin_tree_patch(&away, fuse_node_parent(child), fuse_node_name(child), NULL);
	if (r)
		return r;
	if (away)
		return twin_doc_merge(out, away, there);
	*out = TAKE_PTR(there);
	return 0;
}

static int rename_property(struct fuse_node *child, struct fuse_node *new_dir, const char *new_name,
			   struct fuse_node *replaced)
{
	struct twin_tree *tree = twin_node_of(child)->tree;
	_cleanup_(twin_doc_unref_ptr) const struct json_object *patch = NULL;
	char label[TWIN_LABEL_SIZE];
	int r = rename_patch(&patch, child, new_dir, new_name);

	if (r)
		return r;
	twin_tree_label(label, new_dir, new_name);
	tree->move = (struct twin_move){child, new_dir, new_name, replaced};
	r = twin_writes_patch(tree->writes, NULL, patch, NULL, label);
	tree->move = (struct twin_move){.node = NULL};
	return r;
}

static int dir_rename(struct fuse_node *child, struct fuse_node *new_dir, const char *new_name,
		      struct fuse_node *replaced)
{
	int r;

	if (replaced && fuse_node_is_dir(replaced) && !dir_is_empty(replaced))
		return -ENOTEMPTY;
	if (!replaced && dir_has(new_dir, new_name))
		return -EEXIST;
	r = name_check(new_dir, new_name);
	if (r)
		return r;
	if (twin_node_of(child)->value || (replaced && twin_node_of(replaced)->value))
		return rename_property(child, new_dir, new_name, replaced);
	if (replaced)
		twin_node_remove(replaced);
	return fuse_node_move(child, new_dir, new_name);
}

const struct fuse_dir_ops twin_dir_ops = {
	.mkdir = dir_mkdir,
	.create = dir_create,
	.rmdir = dir_rmdir,
	.unlink = dir_unlink,
	.rename = dir_rename,
	.drop = twin_node_on_drop,
};

/* --- what only the hub changes: whoever gets here ignores modes ------------------------------- */

static int readonly_make(struct fuse_node *dir, const char *name, mode_t mode, struct fuse_node **out)
{
	(void)dir;
	(void)name;
	(void)mode;
	(void)out;
	return -EROFS;
}

static int readonly_remove(struct fuse_node *dir, struct fuse_node *child)
{
	(void)dir;
	(void)child;
	return -EROFS;
}

static int readonly_rename(struct fuse_node *child, struct fuse_node *new_dir, const char *new_name,
			   struct fuse_node *replaced)
{
	(void)child;
	(void)new_dir;
	(void)new_name;
	(void)replaced;
	return -EROFS;
}

const struct fuse_dir_ops twin_dir_ops_readonly = {
	.mkdir = readonly_make,
	.create = readonly_make,
	.rmdir = readonly_remove,
	.unlink = readonly_remove,
	.rename = readonly_rename,
	.drop = twin_node_on_drop,
};
