/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_TWIN_FILES_LINE_H
#define TESTS_SUPPORT_TWIN_FILES_LINE_H

/*
 * The files of the twin, behind a tree without a kernel (fuse_calls.h) and in front of a hub that is the test
 * (twin_line.h): the fixture `files`. For test files only, of which each is a program.
 */

#include "flow/twin_files.h"
#include "iothub.h"
#include "tests/support/fuse_calls.h"
#include "tests/support/twin_line.h"

FIXTURE(files)
{
	struct twin_line hub;
	struct fuse_calls calls;
	struct events *events;
	struct fuse_tree *tree;
	struct twin_files *files;
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
	fuse_calls_init(&self->calls, self->tree, "twin");
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

/* --- callers, besides those of fuse_calls.h ------------------------------------------------------- */

static inline int set_if_version(struct fuse_calls *c, const struct open *f, uint64_t version)
{
	const struct fuse_ioctl_in in = {
		.fh = f->fh, .cmd = (uint32_t)IOTHUB_IOC_TWIN_SET_IF_VERSION, .in_size = sizeof(version)};

	return request(c, FUSE_IOCTL, f->id, &in, sizeof(in), BYTES(&version, sizeof(version)));
}

static inline uint64_t get_version(struct fuse_calls *c, const struct open *f)
{
	const struct fuse_ioctl_in in = {
		.fh = f->fh, .cmd = (uint32_t)IOTHUB_IOC_TWIN_GET_VERSION, .out_size = sizeof(uint64_t)};
	struct {
		struct fuse_ioctl_out head;
		uint64_t version;
	} out;

	fuse_line_body(&c->line,
		       fuse_line_request(&c->line, FUSE_IOCTL, f->id, &in, sizeof(in), BYTES("", 0)), &out,
		       sizeof(out));
	return out.version;
}

#endif
