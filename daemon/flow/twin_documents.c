/* SPDX-License-Identifier: MIT */
/*
 * Documents of the twin, see twin_documents.h.
 *
 * What is read is a snapshot: a text that never changes, with the version it is of. A document has the one of now, made
 * when somebody asks, and an open file the one that it was last read from its beginning with.
 *
 * What is written is collected until it is a whole JSON object. All objects of one write are looked at before the first
 * of them is a patch, so that a write happens or does not.
 */

#include "flow/twin_documents.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "flow/twin_doc.h"
#include "iothub.h"

/* Patches in one write. */
#define PATCHES_MAX    256

#define REPORTED_LABEL "twin/" IOTHUB_FILE_TWIN_REPORTED

struct snapshot {
	unsigned int n_refs;
	uint64_t version;
	size_t len;
	char text[];
};

struct document {
	struct twin_documents *owner;
	enum twin_document which;
	struct fuse_node *node;
	struct snapshot *snapshot; /* of now; NULL = nobody has asked */
};

struct twin_documents {
	const struct twin_writes *writes;
	struct document documents[TWIN_N_DOCUMENTS];
};

struct document_file {
	struct snapshot *snapshot; /* NULL = not read yet */
	bool is_writer;            /* the rest is in use */
	struct twin_write write;
	struct buf input;
	uint64_t if_version; /* 0 = any */
};

static struct document *document_of(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static const struct twin_writes *writes_of(const struct fuse_file *file)
{
	return document_of(file)->owner->writes;
}

/* --- snapshots -------------------------------------------------------------------------------- */

static void snapshot_unref(struct snapshot *snapshot)
{
	if (snapshot && --snapshot->n_refs == 0)
		free(snapshot);
}

static struct twin_view document_view(const struct document *d)
{
	const struct twin *twin = d->owner->writes->twin;

	switch (d->which) {
	case TWIN_DOCUMENT_DESIRED:
	case TWIN_DOCUMENT_DESIRED_VERSION:
		return twin_desired(twin);
	case TWIN_DOCUMENT_REPORTED:
	case TWIN_DOCUMENT_REPORTED_VERSION:
	case TWIN_N_DOCUMENTS:
		break;
	}
	return twin_reported(twin);
}

static bool is_version(const struct document *d)
{
	return d->which == TWIN_DOCUMENT_DESIRED_VERSION || d->which == TWIN_DOCUMENT_REPORTED_VERSION;
}

static int snapshot_new(struct snapshot **out, struct bytes text, uint64_t version)
{
	struct snapshot *snapshot = malloc(sizeof(*snapshot) + text.len + 1);

	if (!snapshot || !text.len) {
		free(snapshot);
		return -ENOMEM;
	}
	*snapshot = (struct snapshot){.n_refs = 1, .version = version, .len = text.len + 1};
	memcpy(snapshot->text, text.data, text.len);
	snapshot->text[text.len] = '\n';
	*out = snapshot;
	return 0;
}

/* Sees to it that there is the snapshot of now. Returns 0, -ENODATA or -ENOMEM. */
static int document_render(struct document *d)
{
	struct twin_view view = document_view(d);
	char number[24];
	int n;

	if (d->snapshot)
		return 0;
	if (!view.known && d->which != TWIN_DOCUMENT_REPORTED)
		return -ENODATA;
	if (!is_version(d))
		return snapshot_new(&d->snapshot, twin_doc_text(view.object, true), view.version);
	n = snprintf(number, sizeof(number), "%" PRIu64, view.version);
	return snapshot_new(&d->snapshot, BYTES(number, (size_t)n), view.version);
}

void twin_documents_changed(struct twin_documents *documents, enum twin_document which, bool notify)
{
	struct document *d = &documents->documents[which];

	snapshot_unref(d->snapshot);
	d->snapshot = NULL;
	if (notify)
		fuse_node_changed(d->node);
}

static uint64_t document_size(struct fuse_node *node)
{
	struct document *d = fuse_node_userdata(node);

	return document_render(d) ? 0 : d->snapshot->len;
}

/* --- open, read ------------------------------------------------------------------------------- */

static int document_open(struct fuse_file *file)
{
	struct document *d = document_of(file);
	bool writes = (file->flags & O_ACCMODE) != O_RDONLY;
	struct document_file *f;

	/* Only who ignores modes gets this far. */
	if ((writes || (file->flags & O_TRUNC)) && d->which != TWIN_DOCUMENT_REPORTED)
		return -EROFS;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	file->data = f;
	if (!writes)
		return 0;
	f->is_writer = true;
	buf_init(&f->input, HUB_TWIN_TEXT_BYTES_MAX);
	twin_write_init(&f->write, writes_of(file));
	return 0;
}

static int document_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct document_file *f = file->data;
	struct document *d = document_of(file);
	int r;

	(void)size;
	if (offset == 0 || !f->snapshot) {
		r = document_render(d);
		if (r)
			return r;
		++d->snapshot->n_refs;
		snapshot_unref(f->snapshot);
		f->snapshot = d->snapshot;
		/* It came last. */
		f->write.has_version = false;
	}
	fuse_reply_document(req, BYTES(f->snapshot->text, f->snapshot->len), offset);
	return 0;
}

static int document_truncate(struct fuse_node *node, struct fuse_file *file, uint64_t size)
{
	const struct document *d = fuse_node_userdata(node);

	(void)file;
	(void)size;
	return d->which == TWIN_DOCUMENT_REPORTED ? 0 : -EROFS;
}

/* --- write ------------------------------------------------------------------------------------ */

/* The whole objects of what was collected. */
struct patches {
	struct json_object *patch[PATCHES_MAX];
	size_t n;
	size_t n_bytes; /* of the text, up to the end of the last one */
};

static void patches_deinit(struct patches *p)
{
	while (p->n)
		json_object_put(p->patch[--p->n]);
}

static size_t count_space(struct bytes text)
{
	size_t n = 0;

	while (n < text.len && text.data[n] && strchr(" \t\r\n", text.data[n]))
		++n;
	return n;
}

static int too_much(struct hub_twin_reason *reason, const char *text)
{
	snprintf(reason->text, sizeof(reason->text), "%s", text);
	return -EMSGSIZE;
}

/* The next object of @text, or nothing when that is not complete. */
static int patches_add(struct patches *p, struct bytes text, struct hub_twin_reason *reason)
{
	size_t len = 0;
	int r;

	if (text.data[0] == '{') {
		switch (hub_twin_scan(text, &len)) {
		case HUB_TWIN_TEXT_PART:
			return 0;
		case HUB_TWIN_TEXT_WHOLE:
			text.len = len;
			break;
		case HUB_TWIN_TEXT_TOO_MUCH:
		case HUB_TWIN_TEXT_BAD:
			/* Read all the same, for the reason. */
			break;
		}
	}
	if (p->n == PATCHES_MAX)
		return too_much(reason, "more than 256 objects in one write");
	r = hub_twin_parse(text, &p->patch[p->n], reason);
	if (r)
		return r;
	++p->n;
	p->n_bytes += text.len;
	return 0;
}

static int patches_parse(struct patches *p, struct bytes text, struct hub_twin_reason *reason)
{
	size_t before;
	int r = 0;

	do {
		p->n_bytes += count_space(BYTES(text.data + p->n_bytes, text.len - p->n_bytes));
		before = p->n_bytes;
		if (before < text.len)
			r = patches_add(p, BYTES(text.data + before, text.len - before), reason);
	} while (!r && p->n_bytes > before);
	return r;
}

/* Whether each could be a patch after those before it. */
static int patches_check(const struct patches *p, const struct twin *twin, struct hub_twin_reason *reason)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *state =
		twin_doc_ref(twin_reported(twin).object);

	for (size_t i = 0; i < p->n; ++i) {
		const struct json_object *next;
		int r = hub_twin_check_patch(p->patch[i], reason);

		if (r)
			return r;
		if (twin_doc_apply(&next, state, p->patch[i]))
			return -ENOMEM;
		twin_doc_unref(state);
		state = next;
		r = hub_twin_check(state, reason);
		if (r)
			return r;
	}
	return 0;
}

/* Sends what is complete; @out_n: how many patches that were. */
static int input_send(struct fuse_file *file, size_t *out_n)
{
	_cleanup_(patches_deinit) struct patches patches = {.n = 0};
	struct document_file *f = file->data;
	struct hub_twin_reason reason = {.text = "not enough memory"};
	const struct twin_writes *writes = writes_of(file);
	int r = patches_parse(&patches, buf_bytes(&f->input), &reason);

	/* What one patch would be refused for, it is. */
	if (!r && patches.n > 1)
		r = patches_check(&patches, writes->twin, &reason);
	if (r)
		return twin_writes_refuse(writes, REPORTED_LABEL, r, reason.text);
	for (size_t i = 0; !r && i < patches.n; ++i)
		r = twin_writes_patch(writes, &f->write.writer, patches.patch[i],
				      f->if_version ? &f->if_version : NULL, REPORTED_LABEL);
	if (!r)
		buf_consume(&f->input, patches.n_bytes);
	*out_n = patches.n;
	return r;
}

static ssize_t document_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			      struct bytes data)
{
	struct document_file *f = file->data;
	bool waits = twin_write_waits(file);
	size_t n_patches = 0;
	int r = waits ? twin_write_can_wait(&f->write) : 0;

	(void)offset;
	if (r || !data.len)
		return r;
	r = buf_append(&f->input, data);
	if (r == -ENOBUFS)
		r = twin_writes_refuse(writes_of(file), REPORTED_LABEL, -EMSGSIZE, "the text is too long");
	if (!r)
		r = input_send(file, &n_patches);
	if (r) {
		buf_consume(&f->input, buf_len(&f->input));
		return r;
	}
	return waits && n_patches ? twin_write_wait(&f->write, req, data.len) : (ssize_t)data.len;
}

static int document_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	struct document_file *f = file->data;
	int r;

	(void)datasync;
	if (!f->is_writer)
		return 0;
	r = twin_write_can_wait(&f->write);
	return r ? r : (int)twin_write_wait(&f->write, req, 0);
}

static void document_release(struct fuse_file *file)
{
	struct document_file *f = file->data;

	snapshot_unref(f->snapshot);
	if (f->is_writer) {
		if (buf_len(&f->input))
			twin_writes_refuse(writes_of(file), REPORTED_LABEL, -EINVAL,
					   "not a JSON object: the file was closed before its end");
		buf_deinit(&f->input);
		twin_write_deinit(&f->write);
	}
	free(f);
}

/* --- ioctl ------------------------------------------------------------------------------------ */

static int document_get_version(struct fuse_file *file, struct fuse_request *req)
{
	const struct document_file *f = file->data;
	__u64 version = document_view(document_of(file)).version;

	if (f->write.has_version)
		version = f->write.version;
	else if (f->snapshot)
		version = f->snapshot->version;
	fuse_reply_ioctl(req, BYTES(&version, sizeof(version)));
	return 0;
}

static int document_ioctl(struct fuse_file *file, struct fuse_request *req, uint32_t command, struct bytes in)
{
	struct document_file *f = file->data;

	if (command == (uint32_t)IOTHUB_IOC_TWIN_GET_VERSION)
		return document_get_version(file, req);
	if (command != (uint32_t)IOTHUB_IOC_TWIN_SET_IF_VERSION)
		return -ENOTTY;
	if (!f->is_writer || in.len != sizeof(f->if_version))
		return -EINVAL;
	memcpy(&f->if_version, in.data, sizeof(f->if_version));
	return 0;
}

/* --- life cycle ------------------------------------------------------------------------------- */

static const struct fuse_file_ops document_ops = {
	.open = document_open,
	.release = document_release,
	.read = document_read,
	.write = document_write,
	.fsync = document_fsync,
	.interrupt = twin_write_interrupt,
	.truncate = document_truncate,
	.ioctl = document_ioctl,
	.size = document_size,
};

static const struct fuse_file_ops version_ops = {
	.open = document_open,
	.release = document_release,
	.read = document_read,
	.truncate = document_truncate,
	.size = document_size,
};

static int document_add(struct document *d, const struct twin_documents_options *options)
{
	static const char *const names[TWIN_N_DOCUMENTS] = {
		[TWIN_DOCUMENT_DESIRED] = IOTHUB_FILE_TWIN_DESIRED,
		[TWIN_DOCUMENT_REPORTED] = IOTHUB_FILE_TWIN_REPORTED,
		[TWIN_DOCUMENT_DESIRED_VERSION] = IOTHUB_FILE_TWIN_DESIRED_VERSION,
		[TWIN_DOCUMENT_REPORTED_VERSION] = IOTHUB_FILE_TWIN_REPORTED_VERSION,
	};
	const struct config_access *access =
		d->which == TWIN_DOCUMENT_REPORTED ? options->reported_access : options->twin_access;
	const struct fuse_node_options node = {
		.name = names[d->which],
		.mode = S_IFREG | access->mode,
		.uid = access->uid,
		.gid = access->gid,
		.writers_wait = d->which == TWIN_DOCUMENT_REPORTED,
		.ops = is_version(d) ? &version_ops : &document_ops,
		.userdata = d,
	};

	return fuse_node_add(&d->node, options->parent, &node);
}

int twin_documents_new(struct twin_documents **out, const struct twin_documents_options *options)
{
	struct twin_documents *documents = calloc(1, sizeof(*documents));
	int r = 0;

	if (!documents)
		return -ENOMEM;
	documents->writes = options->writes;
	*out = documents;
	for (unsigned int i = 0; !r && i < TWIN_N_DOCUMENTS; ++i) {
		documents->documents[i].owner = documents;
		documents->documents[i].which = (enum twin_document)i;
		r = document_add(&documents->documents[i], options);
	}
	return r;
}

void twin_documents_free(struct twin_documents *documents)
{
	if (!documents)
		return;
	for (size_t i = 0; i < TWIN_N_DOCUMENTS; ++i)
		snapshot_unref(documents->documents[i].snapshot);
	free(documents);
}
