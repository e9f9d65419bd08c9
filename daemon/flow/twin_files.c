/* SPDX-License-Identifier: MIT */
/*
 * The directory `twin`, see twin_files.h: what is in it, and what happens there when the twin changes. Its documents
 * are in twin_documents.c, the trees in twin_tree*.c, and a stream of lines is lines.c's.
 *
 * When the twin changes all of it changes before the next request is read: nobody sees a document of one version beside
 * a tree of another one.
 */

#include "flow/twin_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "flow/lines.h"
#include "flow/twin_doc.h"
#include "flow/twin_documents.h"
#include "flow/twin_tree.h"
#include "iothub.h"

#define CHANGES_BYTES_MAX (256u * 1024)

/* One of the two objects, as the files show it. */
struct side {
	struct twin_tree *tree;
	const struct json_object *object; /* owned */
	uint64_t version;
	enum twin_document document, document_version;
};

struct twin_files {
	struct twin_writes writes;
	struct twin_documents *documents;
	struct lines *changes;
	struct side desired, reported;
};

/* --- changes ---------------------------------------------------------------------------------- */

static void side_update(struct twin_files *files, struct side *side, struct twin_view view)
{
	/* {} is something else than nothing known. */
	bool is_new = !side->version != !view.known || !twin_doc_equal(side->object, view.object);
	bool is_version_new = side->version != view.version;

	twin_tree_update(side->tree, view.object);
	twin_doc_unref(side->object);
	side->object = twin_doc_ref(view.object);
	side->version = view.version;
	twin_documents_changed(files->documents, side->document, is_new);
	twin_documents_changed(files->documents, side->document_version, is_version_new);
}

static void put_change(struct twin_files *files, const char *what, const struct json_object *value,
		       uint64_t version)
{
	_cleanup_(free_ptr) char *line = NULL;
	struct bytes text = twin_doc_text(value, false);
	int len;

	if (text.len && text.len + 64 < LINES_LINE_MAX)
		len = asprintf(&line, "{\"version\":%" PRIu64 ",\"%s\":%.*s}", version, what, (int)text.len,
			       (const char *)text.data);
	else
		len = asprintf(&line, "{\"version\":%" PRIu64 "}", version);
	if (len < 0) {
		line = NULL;
		return;
	}
	lines_put(files->changes, BYTES(line, (size_t)len));
}

void twin_files_on_desired_changed(struct twin_files *files, const struct json_object *patch,
				   uint64_t version)
{
	struct twin_view view = twin_desired(files->writes.twin);

	side_update(files, &files->desired, view);
	put_change(files, patch ? "patch" : "desired", patch ? patch : view.object, version);
}

void twin_files_on_reported_changed(struct twin_files *files, const struct json_object *patch,
				    uint64_t version)
{
	(void)patch;
	(void)version;
	side_update(files, &files->reported, twin_reported(files->writes.twin));
}

void twin_files_on_refused(struct twin_files *files, int error, const char *reason)
{
	twin_writes_refuse(&files->writes, "twin/" IOTHUB_FILE_TWIN_REPORTED, error, reason);
}

/* --- life cycle ------------------------------------------------------------------------------- */

static int add_trees(struct twin_files *files, const struct twin_files_options *options,
		     struct fuse_node *dir)
{
	struct twin_tree_options tree = {
		.writes = &files->writes,
		.log = options->log,
		.parent = dir,
		.name = IOTHUB_DIR_TWIN_DESIRED,
		.access = &options->twin_access,
	};
	int r = twin_tree_new(&files->desired.tree, &tree);

	if (r)
		return r;
	tree.name = IOTHUB_DIR_TWIN_REPORTED;
	tree.access = &options->reported_access;
	tree.writable = true;
	return twin_tree_new(&files->reported.tree, &tree);
}

static int add_files(struct twin_files *files, const struct twin_files_options *options,
		     struct fuse_node *dir)
{
	const struct twin_documents_options documents = {
		.writes = &files->writes,
		.parent = dir,
		.twin_access = &options->twin_access,
		.reported_access = &options->reported_access,
	};
	const struct lines_options changes = {
		.parent = dir,
		.name = IOTHUB_FILE_TWIN_CHANGES,
		.access = &options->twin_access,
		.bytes_max = CHANGES_BYTES_MAX,
	};
	int r = twin_documents_new(&files->documents, &documents);

	if (!r)
		r = lines_new(&files->changes, &changes);
	return r ? r : add_trees(files, options, dir);
}

int twin_files_new(struct twin_files **out, const struct twin_files_options *options)
{
	struct twin_files *files = calloc(1, sizeof(*files));
	const struct fuse_node_options node = {
		.name = IOTHUB_DIR_TWIN,
		.mode = S_IFDIR | 0555,
		.uid = options->twin_access.uid,
		.gid = options->twin_access.gid,
	};
	struct fuse_node *dir;
	int r;

	if (!files)
		return -ENOMEM;
	files->writes = (struct twin_writes){
		.loop = options->loop,
		.events = options->events,
		.twin = options->twin,
		.timeout_ns = options->timeout_ns,
	};
	files->desired.document = TWIN_DOCUMENT_DESIRED;
	files->desired.document_version = TWIN_DOCUMENT_DESIRED_VERSION;
	files->reported.document = TWIN_DOCUMENT_REPORTED;
	files->reported.document_version = TWIN_DOCUMENT_REPORTED_VERSION;
	/* From here on the tree knows it: the caller frees it, also after an error. */
	*out = files;
	r = fuse_node_add(&dir, options->parent, &node);
	if (!r)
		r = add_files(files, options, dir);
	if (r)
		return r;
	side_update(files, &files->desired, twin_desired(options->twin));
	side_update(files, &files->reported, twin_reported(options->twin));
	return 0;
}

void twin_files_free(struct twin_files *files)
{
	if (!files)
		return;
	twin_doc_unref(files->desired.object);
	twin_doc_unref(files->reported.object);
	twin_tree_free(files->desired.tree);
	twin_tree_free(files->reported.tree);
	lines_free(files->changes);
	twin_documents_free(files->documents);
	free(files);
}
