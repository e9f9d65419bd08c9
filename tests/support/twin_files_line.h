/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_TWIN_FILES_LINE_H
#define TESTS_SUPPORT_TWIN_FILES_LINE_H

/*
 * The files of the twin, behind a tree without a kernel (fuse_line.h) and in front of a hub that is the test
 * (twin_line.h): the fixture `files`, and system calls as functions. For test files only, of which each is a program.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "flow/twin_files.h"
#include "iothub.h"
#include "tests/support/fuse_line.h"
#include "tests/support/twin_line.h"

FIXTURE(files)
{
	struct twin_line hub;
	struct fuse_line line;
	struct events *events;
	struct fuse_tree *tree;
	struct twin_files *files;
	uint64_t events_fh;
	char text[8192];
};

/* --- the device ------------------------------------------------------------------------------- */

static inline void on_desired(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct fixture_files *self = userdata;

	if (self->files)
		twin_files_on_desired_changed(self->files, patch, version);
}

static inline void on_reported(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct fixture_files *self = userdata;

	if (self->files)
		twin_files_on_reported_changed(self->files, patch, version);
}

static inline void on_refused(void *userdata, int error, const char *reason)
{
	struct fixture_files *self = userdata;

	if (self->files)
		twin_files_on_refused(self->files, error, reason);
}

static inline void start_twin(struct fixture_files *self)
{
	static const struct twin_ops ops = {
		.on_desired_changed = on_desired,
		.on_reported_changed = on_reported,
		.on_refused = on_refused,
	};
	const struct twin_options options = {
		.loop = self->hub.hub.loop,
		.log = &self->hub.hub.log,
		.link = self->hub.hub.link,
		.identity = "hub/dev",
		.ops = &ops,
		.userdata = self,
	};

	ASSERT_EQ(twin_new(&self->hub.twin, &options), 0);
}

static inline void start(struct fixture_files *self, uint64_t timeout_ns)
{
	const struct config_access read = {.mode = 0440}, both = {.mode = 0660};
	const struct fuse_tree_options tree = {.root_mode = 0755};
	struct twin_files_options files = {
		.log = &self->hub.hub.log,
		.twin_access = read,
		.reported_access = both,
		.timeout_ns = timeout_ns,
	};

	twin_line_init(&self->hub);
	start_twin(self);
	ASSERT_EQ(fuse_tree_new(&self->tree, &tree), 0);
	ASSERT_EQ(events_new(&self->events, self->hub.hub.loop), 0);
	ASSERT_EQ(events_add_file(self->events, fuse_tree_root(self->tree), &read), 0);
	files.loop = self->hub.hub.loop;
	files.events = self->events;
	files.twin = self->hub.twin;
	files.parent = fuse_tree_root(self->tree);
	ASSERT_EQ(twin_files_new(&self->files, &files), 0);
	fuse_line_init(&self->line, self->tree);
	self->events_fh = fuse_line_open(&self->line, fuse_line_lookup(&self->line, "events"), O_RDONLY);
}

FIXTURE_SETUP(files)
{
	(void)self;
}

FIXTURE_TEARDOWN(files)
{
	if (test_is_orphan() || !self->tree)
		return;
	fuse_tree_detach(self->tree);
	fuse_tree_free(self->tree);
	twin_files_free(TAKE_PTR(self->files));
	events_free(self->events);
	twin_line_deinit(&self->hub);
}

/* --- the hub ---------------------------------------------------------------------------------- */

static inline void send_twin(struct fixture_files *self, const char *text)
{
	twin_line_respond(&self->hub, NULL, NULL, bytes_from_str(text));
	twin_line_turn(&self->hub);
}

static inline void start_with(struct fixture_files *self, const char *twin)
{
	start(self, TIME_NEVER);
	twin_line_online(&self->hub);
	ASSERT_STREQ(twin_line_next(&self->hub), "get");
	send_twin(self, twin);
}

#define EMPTY "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}"

static inline void send_desired(struct fixture_files *self, const char *version, const char *patch)
{
	twin_line_desired(&self->hub, version, bytes_from_str(patch));
	twin_line_turn(&self->hub);
}

/* The device sends @patch, and the hub takes it. */
static inline void take(struct fixture_files *self, const char *patch, const char *version)
{
	EXPECT_STREQ(twin_line_next(&self->hub), patch);
	twin_line_respond(&self->hub, NULL, version, BYTES(NULL, 0));
	twin_line_turn(&self->hub);
}

/* --- callers ---------------------------------------------------------------------------------- */

static inline int request(struct fixture_files *self, uint32_t opcode, uint64_t dir, const void *arg,
			  size_t arg_len, struct bytes data)
{
	return fuse_line_result(&self->line, fuse_line_request(&self->line, opcode, dir, arg, arg_len, data));
}

static inline struct bytes name_bytes(const char *name)
{
	return BYTES(name, strlen(name) + 1);
}

/* 0: there is none. */
static inline uint64_t lookup(struct fixture_files *self, uint64_t dir, const char *name,
			      struct fuse_entry_out *out)
{
	uint64_t unique =
		fuse_line_request(&self->line, FUSE_LOOKUP, dir, name, strlen(name) + 1, BYTES("", 0));
	int r = fuse_line_result(&self->line, unique);
	struct fuse_entry_out entry;

	if (r) {
		EXPECT_EQ(r, -ENOENT);
		return 0;
	}
	fuse_line_body(&self->line, unique, &entry, sizeof(entry));
	if (out)
		*out = entry;
	return entry.nodeid;
}

/* The node of a path below `twin`; 0: there is none. */
static inline uint64_t node(struct fixture_files *self, const char *path)
{
	uint64_t id = fuse_line_lookup(&self->line, "twin");
	char part[300];

	while (id && *path) {
		size_t len = strcspn(path, "/");

		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		id = lookup(self, id, part, NULL);
		path += len + (path[len] == '/');
	}
	return id;
}

struct open {
	uint64_t id, fh;
	uint32_t flags;
};

static inline struct open open_file(struct fixture_files *self, const char *path, uint32_t flags)
{
	struct open f = {.id = node(self, path), .flags = flags};

	ASSERT_NE(f.id, 0u);
	f.fh = fuse_line_open(&self->line, f.id, flags);
	return f;
}

static inline int open_error(struct fixture_files *self, const char *path, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	return request(self, FUSE_OPEN, node(self, path), &in, sizeof(in), BYTES("", 0));
}

static inline void close_file(struct fixture_files *self, const struct open *f)
{
	fuse_line_release(&self->line, f->id, f->fh);
}

static inline struct open create(struct fixture_files *self, const char *dir, const char *name, int *error)
{
	const struct fuse_create_in in = {.flags = O_WRONLY, .mode = 0666};
	uint64_t unique = fuse_line_request(&self->line, FUSE_CREATE, node(self, dir), &in, sizeof(in),
					    name_bytes(name));
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;

	*error = fuse_line_result(&self->line, unique);
	if (*error)
		return (struct open){.id = 0};
	fuse_line_body(&self->line, unique, &out, sizeof(out));
	return (struct open){.id = out.entry.nodeid, .fh = out.open.fh, .flags = O_WRONLY};
}

static inline uint64_t put_at(struct fixture_files *self, const struct open *f, uint64_t offset,
			      const char *text)
{
	return fuse_line_write_at(&self->line, f->id, f->fh, f->flags, offset, bytes_from_str(text));
}

static inline int put(struct fixture_files *self, const struct open *f, uint64_t offset, const char *text)
{
	return fuse_line_result(&self->line, put_at(self, f, offset, text));
}

/* As a shell does: `printf TEXT > FILE`. */
static inline int echo(struct fixture_files *self, const char *text, const char *path)
{
	struct open f = open_file(self, path, O_WRONLY | O_TRUNC);
	int r = put(self, &f, 0, text);

	close_file(self, &f);
	return r;
}

static inline const char *read_at(struct fixture_files *self, const struct open *f, uint64_t offset,
				  uint32_t size)
{
	uint64_t unique = fuse_line_read(&self->line, f->id, f->fh, f->flags, offset, size);
	int r = fuse_line_result(&self->line, unique);
	struct bytes data;

	if (r) {
		snprintf(self->text, sizeof(self->text), "%s",
			 r == FUSE_LINE_WAITS ? "waits" : strerrorname_np(-r));
		return self->text;
	}
	data = fuse_line_data(&self->line, unique);
	snprintf(self->text, sizeof(self->text), "%.*s", (int)data.len, (const char *)data.data);
	return self->text;
}

static inline const char *cat(struct fixture_files *self, const char *path)
{
	struct open f;
	const char *text;

	if (!node(self, path))
		return "none";
	f = open_file(self, path, O_RDONLY);
	text = read_at(self, &f, 0, 1024);
	close_file(self, &f);
	return text;
}

static inline uint64_t size_of(struct fixture_files *self, const char *path)
{
	const struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	fuse_line_body(
		&self->line,
		fuse_line_request(&self->line, FUSE_GETATTR, node(self, path), &in, sizeof(in), BYTES("", 0)),
		&out, sizeof(out));
	return out.attr.size;
}

static inline mode_t mode_of(struct fixture_files *self, const char *path)
{
	const struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	fuse_line_body(
		&self->line,
		fuse_line_request(&self->line, FUSE_GETATTR, node(self, path), &in, sizeof(in), BYTES("", 0)),
		&out, sizeof(out));
	return out.attr.mode;
}

static inline int make_dir(struct fixture_files *self, const char *dir, const char *name)
{
	const struct fuse_mkdir_in in = {.mode = 0777};

	return request(self, FUSE_MKDIR, node(self, dir), &in, sizeof(in), name_bytes(name));
}

static inline int remove_name(struct fixture_files *self, uint32_t opcode, const char *dir, const char *name)
{
	return request(self, opcode, node(self, dir), name, strlen(name) + 1, BYTES("", 0));
}

static inline int move(struct fixture_files *self, const char *dir, const char *name, const char *new_dir,
		       const char *new_name)
{
	struct fuse_rename2_in in = {.newdir = node(self, new_dir)};
	char names[600];
	size_t len = strlen(name) + 1;

	memcpy(names, name, len);
	memcpy(names + len, new_name, strlen(new_name) + 1);
	return request(self, FUSE_RENAME2, node(self, dir), &in, sizeof(in),
		       BYTES(names, len + strlen(new_name) + 1));
}

static inline int cut(struct fixture_files *self, const char *path, const struct open *f, uint64_t size)
{
	struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = size};

	if (f) {
		in.valid |= FATTR_FH;
		in.fh = f->fh;
	}
	return request(self, FUSE_SETATTR, f ? f->id : node(self, path), &in, sizeof(in), BYTES("", 0));
}

static inline int set_if_version(struct fixture_files *self, const struct open *f, uint64_t version)
{
	const struct fuse_ioctl_in in = {
		.fh = f->fh, .cmd = (uint32_t)IOTHUB_IOC_TWIN_SET_IF_VERSION, .in_size = sizeof(version)};

	return request(self, FUSE_IOCTL, f->id, &in, sizeof(in), BYTES(&version, sizeof(version)));
}

static inline uint64_t get_version(struct fixture_files *self, const struct open *f)
{
	const struct fuse_ioctl_in in = {
		.fh = f->fh, .cmd = (uint32_t)IOTHUB_IOC_TWIN_GET_VERSION, .out_size = sizeof(uint64_t)};
	struct {
		struct fuse_ioctl_out head;
		uint64_t version;
	} out;

	fuse_line_body(&self->line,
		       fuse_line_request(&self->line, FUSE_IOCTL, f->id, &in, sizeof(in), BYTES("", 0)), &out,
		       sizeof(out));
	return out.version;
}

/* The newest line of `events` since the last look has @part; NULL: there is none. */
static inline void expect_event(struct fixture_files *self, const char *part)
{
	const struct open f = {
		.id = fuse_line_lookup(&self->line, "events"), .fh = self->events_fh, .flags = O_NONBLOCK};
	char last[1024] = "";

	while (strcmp(read_at(self, &f, 0, 1024), "EAGAIN") != 0)
		snprintf(last, sizeof(last), "%.1000s", self->text);
	if (!part)
		EXPECT_STREQ(last, "");
	else if (!strstr(last, part))
		EXPECT_STREQ(last, part);
}

static inline bool is_changed(struct fixture_files *self, const struct open *f)
{
	return (fuse_line_poll(&self->line, f->id, f->fh) & (POLLPRI | POLLERR)) == (POLLPRI | POLLERR);
}

#endif
