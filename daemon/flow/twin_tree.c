/* SPDX-License-Identifier: MIT */
/*
 * The tree of a properties object, see twin_tree.h. Here: its nodes.
 *
 * Each node holds the value it shows. To follow a change, the object that a directory shows is compared with the new
 * one: values that are the same pointer are the same (twin_doc.h), so the work is that of the change. Leaves stay the
 * same nodes as long as they are leaves, so that open files and pollers follow; a property that becomes an object, or
 * stops being one, is another node.
 *
 * Files that were created and are no property yet have no value; the new object may give them one, but does not take
 * them away.
 *
 * A rename is a patch like others. What it moves in the tree is moved before the objects are compared, so that open
 * files stay with it.
 *
 * Objects are gone through without recursion; whoever made one, what is deeper than a twin can be is not shown.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "flow/twin_doc.h"
#include "flow/twin_tree_internal.h"

static bool is_object(const struct json_object *value)
{
	return json_object_is_type(value, json_type_object);
}

/* --- nodes ------------------------------------------------------------------------------------ */

void twin_node_on_drop(struct fuse_node *fuse)
{
	struct twin_node *node = twin_node_of(fuse);

	twin_doc_unref(node->value);
	free(node);
}

static mode_t node_mode(const struct twin_tree *tree, bool is_dir)
{
	mode_t mode = tree->access.mode;

	if (!is_dir)
		return S_IFREG | mode;
	return S_IFDIR | mode | (mode & 0444) >> 2 | (mode & 0222) >> 1;
}

static int node_add(struct twin_tree *tree, struct fuse_node **out, struct fuse_node *dir, const char *name,
		    bool is_dir)
{
	struct twin_node *node = calloc(1, sizeof(*node));
	const struct fuse_node_options options = {
		.name = name,
		.mode = node_mode(tree, is_dir),
		.uid = tree->access.uid,
		.gid = tree->access.gid,
		.transient = tree->root != NULL,
		.tells_changes = tree->root != NULL,
		.writers_wait = !is_dir && tree->writable,
		.ops = is_dir ? NULL : &twin_leaf_ops,
		.dir_ops = !is_dir          ? NULL
			   : tree->writable ? &twin_dir_ops
					    : &twin_dir_ops_readonly,
		.userdata = node,
	};
	int r;

	if (!node)
		return -ENOMEM;
	node->tree = tree;
	r = fuse_node_add(out, dir, &options);
	if (r)
		free(node);
	return r;
}

int twin_node_add(struct fuse_node **out, struct fuse_node *dir, const char *name, bool is_dir)
{
	return node_add(twin_node_of(dir)->tree, out, dir, name, is_dir);
}

/* What comes after @node in the walk over all that is below @top; NULL at the end. */
static struct fuse_node *node_next(struct fuse_node *top, struct fuse_node *node)
{
	struct fuse_node *next = fuse_node_is_dir(node) ? fuse_node_next_child(node, NULL) : NULL;

	while (!next && node != top) {
		struct fuse_node *dir = fuse_node_parent(node);

		next = fuse_node_next_child(dir, node);
		node = dir;
	}
	return next;
}

void twin_node_remove(struct fuse_node *fuse)
{
	for (struct fuse_node *node = fuse; node; node = node_next(fuse, node))
		if (!fuse_node_is_dir(node))
			fuse_node_changed(node);
	fuse_node_remove(fuse);
}

/* --- following an object ---------------------------------------------------------------------- */

static void tree_say(struct twin_tree *tree, struct log_once *once, const char *reason)
{
	char file[32];

	if (once->text[0])
		return;
	snprintf(file, sizeof(file), "twin/%s", tree->name);
	log_write_once(tree->log, once, LOG_LEVEL_WARNING, "%s: %s", file, reason);
	events_emit(tree->writes->events, "hidden", file, "%s", reason);
}

static void leaf_show(struct fuse_node *fuse, const struct json_object *value)
{
	struct twin_node *node = twin_node_of(fuse);
	bool same = node->value && twin_doc_equal(node->value, value);

	twin_doc_unref(node->value);
	node->value = twin_doc_ref(value);
	if (!same)
		fuse_node_changed(fuse);
}

/* The node for the member @key of what @dir shows, of the kind that @value needs; NULL: there can be none. */
static struct fuse_node *member_node(struct fuse_node *dir, const char *key, const struct json_object *value)
{
	struct twin_tree *tree = twin_node_of(dir)->tree;
	struct fuse_node *child;
	char name[KEY_NAME_SIZE];

	if (key_name_encode(key, name)) {
		tree_say(tree, &tree->name_logged,
			 "a key is too long for a name: the property is in the document only");
		return NULL;
	}
	child = fuse_node_find(dir, name);
	if (child && fuse_node_is_dir(child) != is_object(value)) {
		twin_node_remove(child);
		child = NULL;
	}
	if (!child && node_add(tree, &child, dir, name, is_object(value))) {
		tree_say(tree, &tree->full_logged,
			 "too many properties: those without a file are in the document only");
		return NULL;
	}
	return child;
}

static void member_remove(struct fuse_node *dir, const char *key)
{
	struct fuse_node *child;
	char name[KEY_NAME_SIZE];

	if (key_name_encode(key, name))
		return;
	child = fuse_node_find(dir, name);
	if (child && twin_node_of(child)->value)
		twin_node_remove(child);
}

/* A directory that is being brought up to date. */
struct level {
	struct fuse_node *dir;
	const struct json_object *object; /* what it is to show */
	const struct lh_entry *entry;     /* the next member */
};

struct walk {
	struct level levels[HUB_TWIN_LEVELS_MAX + 1];
	size_t n;
};

/* Starts on @dir, unless it shows @object already: takes away what is not in there. */
static void level_enter(struct walk *walk, struct fuse_node *dir, const struct json_object *object)
{
	const struct json_object *before = twin_node_of(dir)->value, *other;

	if (before == object || walk->n == ARRAY_SIZE(walk->levels))
		return;
	if (before) {
		json_object_object_foreach(before, key, value)
		{
			(void)value;
			if (!twin_doc_member(object, key, &other))
				member_remove(dir, key);
		}
	}
	walk->levels[walk->n++] = (struct level){dir, object, json_object_get_object(object)->head};
}

static void level_leave(struct walk *walk)
{
	const struct level *level = &walk->levels[--walk->n];
	struct twin_node *node = twin_node_of(level->dir);

	twin_doc_unref(node->value);
	node->value = twin_doc_ref(level->object);
}

static void level_step(struct walk *walk)
{
	struct level *level = &walk->levels[walk->n - 1];
	const struct lh_entry *entry = level->entry;
	const char *key = lh_entry_k(entry);
	const struct json_object *value = lh_entry_v(entry), *before;
	struct fuse_node *child;

	level->entry = lh_entry_next(entry);
	if (twin_doc_member(twin_node_of(level->dir)->value, key, &before) && before == value)
		return;
	child = member_node(level->dir, key, value);
	if (!child)
		return;
	if (fuse_node_is_dir(child))
		level_enter(walk, child, value);
	else
		leaf_show(child, value);
}

static void node_update(struct fuse_node *fuse, const struct json_object *object)
{
	struct walk walk = {.n = 0};

	level_enter(&walk, fuse, object);
	while (walk.n) {
		if (walk.levels[walk.n - 1].entry)
			level_step(&walk);
		else
			level_leave(&walk);
	}
}

void twin_tree_update(struct twin_tree *tree, const struct json_object *object)
{
	struct twin_move move = tree->move;

	tree->move = (struct twin_move){.node = NULL};
	if (move.node) {
		if (move.replaced)
			twin_node_remove(move.replaced);
		/* When it cannot be moved it is made anew. */
		(void)fuse_node_move(move.node, move.dir, move.name);
	}
	node_update(tree->root, object);
}

/* --- patches ---------------------------------------------------------------------------------- */

/* The nodes from below the tree's root to @fuse. Returns how many there are, at most @n_max. */
static size_t path_nodes(struct fuse_node *fuse, struct fuse_node **out, size_t n_max)
{
	const struct twin_tree *tree = twin_node_of(fuse)->tree;
	size_t n = 0;

	for (struct fuse_node *at = fuse; at != tree->root && n < n_max; at = fuse_node_parent(at))
		out[n++] = at;
	for (size_t i = 0; i < n / 2; ++i) {
		struct fuse_node *other = out[n - 1 - i];

		out[n - 1 - i] = out[i];
		out[i] = other;
	}
	return n;
}

void twin_tree_label(char out[static TWIN_LABEL_SIZE], struct fuse_node *dir, const char *name)
{
	struct fuse_node *nodes[TWIN_PATH_MAX];
	size_t n = path_nodes(dir, nodes, ARRAY_SIZE(nodes)), len;

	len = (size_t)snprintf(out, TWIN_LABEL_SIZE, "twin/%s", twin_node_of(dir)->tree->name);
	for (size_t i = 0; i < n && len < TWIN_LABEL_SIZE; ++i)
		len += (size_t)snprintf(out + len, TWIN_LABEL_SIZE - len, "/%s", fuse_node_name(nodes[i]));
	if (name && len < TWIN_LABEL_SIZE)
		snprintf(out + len, TWIN_LABEL_SIZE - len, "/%s", name);
}

int twin_tree_patch(const struct json_object **out, struct fuse_node *dir, const char *name,
		    const struct json_object *value)
{
	struct fuse_node *nodes[TWIN_PATH_MAX];
	char keys[TWIN_PATH_MAX][KEY_NAME_SIZE];
	const char *path[TWIN_PATH_MAX];
	size_t n = path_nodes(dir, nodes, TWIN_PATH_MAX - 1);

	for (size_t i = 0; i <= n; ++i) {
		if (key_name_decode(i < n ? fuse_node_name(nodes[i]) : name, keys[i]))
			return -EINVAL;
		path[i] = keys[i];
	}
	return twin_doc_patch_at(out, path, n + 1, value);
}

int twin_tree_set(struct fuse_node *dir, const char *name, const struct json_object *value,
		  struct twin_writer *writer)
{
	const struct twin_writes *writes = twin_node_of(dir)->tree->writes;
	_cleanup_(twin_doc_unref_ptr) const struct json_object *patch = NULL;
	char label[TWIN_LABEL_SIZE];
	int r;

	twin_tree_label(label, dir, name);
	r = twin_tree_patch(&patch, dir, name, value);
	if (r)
		return twin_writes_refuse(writes, label, r,
					  r == -EINVAL ? "not the name of a key: % stands for itself as %25"
						       : "not enough memory");
	return twin_writes_patch(writes, writer, patch, NULL, label);
}

/* --- life cycle ------------------------------------------------------------------------------- */

int twin_tree_new(struct twin_tree **out, const struct twin_tree_options *options)
{
	struct twin_tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return -ENOMEM;
	tree->writes = options->writes;
	tree->log = options->log;
	tree->name = options->name;
	tree->access = *options->access;
	tree->writable = options->writable;
	*out = tree;
	return node_add(tree, &tree->root, options->parent, options->name, true);
}

void twin_tree_free(struct twin_tree *tree)
{
	free(tree);
}
