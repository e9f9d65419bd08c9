/* SPDX-License-Identifier: MIT */
/*
 * The files of the twin, behind a tree without a kernel (fuse_line.h) and in front of a hub that is the test
 * (twin_line.h): what each system call gives, and what the hub hears.
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

static void on_desired(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct fixture_files *self = userdata;

	if (self->files)
		twin_files_on_desired_changed(self->files, patch, version);
}

static void on_reported(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct fixture_files *self = userdata;

	if (self->files)
		twin_files_on_reported_changed(self->files, patch, version);
}

static void on_refused(void *userdata, int error, const char *reason)
{
	struct fixture_files *self = userdata;

	if (self->files)
		twin_files_on_refused(self->files, error, reason);
}

static void start_twin(struct fixture_files *self)
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

static void start(struct fixture_files *self, uint64_t timeout_ns)
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

static void send_twin(struct fixture_files *self, const char *text)
{
	twin_line_respond(&self->hub, NULL, NULL, bytes_from_str(text));
	twin_line_turn(&self->hub);
}

static void start_with(struct fixture_files *self, const char *twin)
{
	start(self, TIME_NEVER);
	twin_line_online(&self->hub);
	ASSERT_STREQ(twin_line_next(&self->hub), "get");
	send_twin(self, twin);
}

#define EMPTY "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}"

static void send_desired(struct fixture_files *self, const char *version, const char *patch)
{
	twin_line_desired(&self->hub, version, bytes_from_str(patch));
	twin_line_turn(&self->hub);
}

/* The device sends @patch, and the hub takes it. */
static void take(struct fixture_files *self, const char *patch, const char *version)
{
	EXPECT_STREQ(twin_line_next(&self->hub), patch);
	twin_line_respond(&self->hub, NULL, version, BYTES(NULL, 0));
	twin_line_turn(&self->hub);
}

/* --- callers ---------------------------------------------------------------------------------- */

static int request(struct fixture_files *self, uint32_t opcode, uint64_t dir, const void *arg, size_t arg_len,
		   struct bytes data)
{
	return fuse_line_result(&self->line, fuse_line_request(&self->line, opcode, dir, arg, arg_len, data));
}

static struct bytes name_bytes(const char *name)
{
	return BYTES(name, strlen(name) + 1);
}

/* 0: there is none. */
static uint64_t lookup(struct fixture_files *self, uint64_t dir, const char *name, struct fuse_entry_out *out)
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
static uint64_t node(struct fixture_files *self, const char *path)
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

static struct open open_file(struct fixture_files *self, const char *path, uint32_t flags)
{
	struct open f = {.id = node(self, path), .flags = flags};

	ASSERT_NE(f.id, 0u);
	f.fh = fuse_line_open(&self->line, f.id, flags);
	return f;
}

static int open_error(struct fixture_files *self, const char *path, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	return request(self, FUSE_OPEN, node(self, path), &in, sizeof(in), BYTES("", 0));
}

static void close_file(struct fixture_files *self, const struct open *f)
{
	fuse_line_release(&self->line, f->id, f->fh);
}

static struct open create(struct fixture_files *self, const char *dir, const char *name, int *error)
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

static uint64_t put_at(struct fixture_files *self, const struct open *f, uint64_t offset, const char *text)
{
	return fuse_line_write_at(&self->line, f->id, f->fh, f->flags, offset, bytes_from_str(text));
}

static int put(struct fixture_files *self, const struct open *f, uint64_t offset, const char *text)
{
	return fuse_line_result(&self->line, put_at(self, f, offset, text));
}

/* As a shell does: `printf TEXT > FILE`. */
static int echo(struct fixture_files *self, const char *text, const char *path)
{
	struct open f = open_file(self, path, O_WRONLY | O_TRUNC);
	int r = put(self, &f, 0, text);

	close_file(self, &f);
	return r;
}

static const char *read_at(struct fixture_files *self, const struct open *f, uint64_t offset, uint32_t size)
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

static const char *cat(struct fixture_files *self, const char *path)
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

static uint64_t size_of(struct fixture_files *self, const char *path)
{
	const struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	fuse_line_body(
		&self->line,
		fuse_line_request(&self->line, FUSE_GETATTR, node(self, path), &in, sizeof(in), BYTES("", 0)),
		&out, sizeof(out));
	return out.attr.size;
}

static mode_t mode_of(struct fixture_files *self, const char *path)
{
	const struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	fuse_line_body(
		&self->line,
		fuse_line_request(&self->line, FUSE_GETATTR, node(self, path), &in, sizeof(in), BYTES("", 0)),
		&out, sizeof(out));
	return out.attr.mode;
}

static int make_dir(struct fixture_files *self, const char *dir, const char *name)
{
	const struct fuse_mkdir_in in = {.mode = 0777};

	return request(self, FUSE_MKDIR, node(self, dir), &in, sizeof(in), name_bytes(name));
}

static int remove_name(struct fixture_files *self, uint32_t opcode, const char *dir, const char *name)
{
	return request(self, opcode, node(self, dir), name, strlen(name) + 1, BYTES("", 0));
}

static int move(struct fixture_files *self, const char *dir, const char *name, const char *new_dir,
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

static int cut(struct fixture_files *self, const char *path, const struct open *f, uint64_t size)
{
	struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = size};

	if (f) {
		in.valid |= FATTR_FH;
		in.fh = f->fh;
	}
	return request(self, FUSE_SETATTR, f ? f->id : node(self, path), &in, sizeof(in), BYTES("", 0));
}

static int set_if_version(struct fixture_files *self, const struct open *f, uint64_t version)
{
	const struct fuse_ioctl_in in = {
		.fh = f->fh, .cmd = (uint32_t)IOTHUB_IOC_TWIN_SET_IF_VERSION, .in_size = sizeof(version)};

	return request(self, FUSE_IOCTL, f->id, &in, sizeof(in), BYTES(&version, sizeof(version)));
}

static uint64_t get_version(struct fixture_files *self, const struct open *f)
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
static void expect_event(struct fixture_files *self, const char *part)
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

static bool is_changed(struct fixture_files *self, const struct open *f)
{
	return (fuse_line_poll(&self->line, f->id, f->fh) & (POLLPRI | POLLERR)) == (POLLPRI | POLLERR);
}

/* --- reading ---------------------------------------------------------------------------------- */

TEST_F(files, before_anything_is_known)
{
	struct open f;

	start(self, TIME_NEVER);
	EXPECT_STREQ(cat(self, "desired.json"), "ENODATA");
	EXPECT_STREQ(cat(self, "desired.version"), "ENODATA");
	EXPECT_STREQ(cat(self, "reported.version"), "ENODATA");
	EXPECT_STREQ(cat(self, "reported.json"), "{\n}\n");
	EXPECT_EQ(size_of(self, "desired.json"), 0u);
	EXPECT_EQ(echo(self, "{\"a\":1}\n", "reported.json"), 0);
	EXPECT_STREQ(cat(self, "reported.json"), "{\n  \"a\": 1\n}\n");
	EXPECT_STREQ(cat(self, "reported/a"), "1\n");
	f = open_file(self, "desired.json", O_RDONLY);
	EXPECT_EQ(get_version(self, &f), 0u);
	EXPECT_FALSE(is_changed(self, &f));
	twin_line_online(&self->hub);
	ASSERT_STREQ(twin_line_next(&self->hub), "get");
	send_twin(self, EMPTY);
	EXPECT_TRUE(is_changed(self, &f));
	EXPECT_STREQ(read_at(self, &f, 0, 1024), "{\n}\n");
	EXPECT_FALSE(is_changed(self, &f));
	EXPECT_EQ(get_version(self, &f), 1u);
	EXPECT_STREQ(cat(self, "desired.version"), "1\n");
	take(self, "patch {\"a\":1}", "2");
	EXPECT_STREQ(cat(self, "reported.version"), "2\n");
	close_file(self, &f);
}

TEST_F(files, what_was_fetched)
{
	struct fuse_entry_out entry;

	start_with(self, "{\"desired\":{\"s\":\"a b\",\"n\":1.50,\"o\":{\"list\":[1,null],\"x/y%\":true,"
			 "\"e\":{}},\"$version\":7},\"reported\":{\"r\":false,\"$version\":3}}");
	EXPECT_STREQ(cat(self, "desired/s"), "a b\n");
	EXPECT_STREQ(cat(self, "desired/n"), "1.50\n");
	EXPECT_STREQ(cat(self, "desired/o/list"), "[1,null]\n");
	EXPECT_STREQ(cat(self, "desired/o/x%2Fy%25"), "true\n");
	EXPECT_STREQ(cat(self, "desired.version"), "7\n");
	EXPECT_STREQ(cat(self, "reported.json"), "{\n  \"r\": false\n}\n");
	EXPECT_EQ(size_of(self, "reported.json"), strlen(self->text));
	EXPECT_EQ(size_of(self, "desired/o/list"), 9u);
	EXPECT_EQ(mode_of(self, "desired/s"), (mode_t)(S_IFREG | 0440));
	EXPECT_EQ(mode_of(self, "desired/o/e"), (mode_t)(S_IFDIR | 0550));
	EXPECT_EQ(mode_of(self, "reported/r"), (mode_t)(S_IFREG | 0660));
	EXPECT_EQ(mode_of(self, "reported"), (mode_t)(S_IFDIR | 0770));
	EXPECT_EQ(mode_of(self, "reported.json"), (mode_t)(S_IFREG | 0660));
	EXPECT_EQ(mode_of(self, ""), (mode_t)(S_IFDIR | 0555));
	/* It can go at any time. */
	lookup(self, node(self, "desired"), "s", &entry);
	EXPECT_EQ(entry.entry_valid, 0u);
}

TEST_F(files, one_read_is_one_version)
{
	struct open f;

	start_with(self, "{\"desired\":{\"a\":1,\"$version\":1},\"reported\":{\"$version\":1}}");
	f = open_file(self, "desired.json", O_RDONLY);
	EXPECT_STREQ(read_at(self, &f, 0, 4), "{\n  ");
	send_desired(self, "2", "{\"a\":22222}");
	EXPECT_STREQ(read_at(self, &f, 4, 100), "\"a\": 1\n}\n");
	EXPECT_EQ(get_version(self, &f), 1u);
	EXPECT_STREQ(read_at(self, &f, 13, 100), "");
	EXPECT_STREQ(read_at(self, &f, 0, 100), "{\n  \"a\": 22222\n}\n");
	EXPECT_EQ(get_version(self, &f), 2u);
	EXPECT_EQ(size_of(self, "desired.json"), strlen(self->text));
	close_file(self, &f);
	/* The same of a leaf. */
	f = open_file(self, "desired/a", O_RDONLY);
	EXPECT_STREQ(read_at(self, &f, 0, 2), "22");
	send_desired(self, "3", "{\"a\":3}");
	EXPECT_STREQ(read_at(self, &f, 2, 100), "222\n");
	EXPECT_STREQ(read_at(self, &f, 0, 100), "3\n");
	close_file(self, &f);
}

TEST_F(files, exactly_what_changed_is_told)
{
	struct open a, b, doc, version, reported, gone;

	start_with(self, "{\"desired\":{\"o\":{\"a\":1,\"b\":2},\"c\":3,\"$version\":1},\"reported\":{\"$"
			 "version\":1}}");
	a = open_file(self, "desired/o/a", O_RDONLY);
	b = open_file(self, "desired/o/b", O_RDONLY);
	gone = open_file(self, "desired/c", O_RDONLY);
	doc = open_file(self, "desired.json", O_RDONLY);
	version = open_file(self, "desired.version", O_RDONLY);
	reported = open_file(self, "reported.json", O_RDONLY);
	EXPECT_STREQ(read_at(self, &gone, 0, 9), "3\n");
	send_desired(self, "2", "{\"o\":{\"a\":5,\"b\":2,\"new\":{\"x\":1}},\"c\":null}");
	EXPECT_TRUE(is_changed(self, &a));
	EXPECT_FALSE(is_changed(self, &b));
	EXPECT_TRUE(is_changed(self, &gone));
	EXPECT_TRUE(is_changed(self, &doc));
	EXPECT_TRUE(is_changed(self, &version));
	EXPECT_FALSE(is_changed(self, &reported));
	EXPECT_EQ(node(self, "desired/c"), 0u);
	EXPECT_STREQ(read_at(self, &gone, 0, 9), "3\n");
	EXPECT_STREQ(cat(self, "desired/o/new/x"), "1\n");
	/* A leaf becomes a directory, a directory a leaf. */
	send_desired(self, "3", "{\"o\":{\"a\":{\"b\":{}},\"new\":[]}}");
	EXPECT_NE(node(self, "desired/o/a/b"), 0u);
	EXPECT_STREQ(cat(self, "desired/o/new"), "[]\n");
	EXPECT_STREQ(read_at(self, &a, 0, 9), "5\n");
	close_file(self, &a);
	close_file(self, &b);
	close_file(self, &gone);
	close_file(self, &doc);
	close_file(self, &version);
	close_file(self, &reported);
}

TEST_F(files, changes)
{
	struct open f;
	uint64_t waiting;

	start_with(self, EMPTY);
	f = open_file(self, "changes", O_RDONLY);
	waiting = fuse_line_read(&self->line, f.id, f.fh, 0, 0, 1024);
	EXPECT_EQ(fuse_line_result(&self->line, waiting), FUSE_LINE_WAITS);
	send_desired(self, "2", "{\"a\":{\"b\":null}}");
	EXPECT_TRUE(bytes_equal_str(fuse_line_data(&self->line, waiting),
				    "{\"version\":2,\"patch\":{\"a\":{\"b\":null}}}\n"));
	/* A gap: all is fetched. */
	send_desired(self, "9", "{}");
	ASSERT_STREQ(twin_line_next(&self->hub), "get");
	send_twin(self, "{\"desired\":{\"z\":1,\"$version\":9},\"reported\":{\"$version\":1}}");
	EXPECT_STREQ(read_at(self, &f, 0, 1024), "{\"version\":9,\"desired\":{\"z\":1}}\n");
	close_file(self, &f);
}

TEST_F(files, keys_without_a_name)
{
	char key[301], patch[400];

	start_with(self, EMPTY);
	memset(key, 'k', 300);
	key[300] = '\0';
	snprintf(patch, sizeof(patch), "{\"%s\":1,\"short\":2}", key);
	send_desired(self, "2", patch);
	expect_event(self, "too long for a name");
	EXPECT_STREQ(cat(self, "desired/short"), "2\n");
	EXPECT_TRUE(strstr(cat(self, "desired.json"), key) != NULL);
	snprintf(patch, sizeof(patch), "{\"%s\":2}", key);
	send_desired(self, "3", patch);
	expect_event(self, NULL);
	snprintf(patch, sizeof(patch), "{\"%s\":null}", key);
	send_desired(self, "4", patch);
	EXPECT_STREQ(cat(self, "desired.json"), "{\n  \"short\": 2\n}\n");
}

TEST_F(files, only_the_hub_writes_there)
{
	int error;

	start_with(self,
		   "{\"desired\":{\"a\":1,\"o\":{},\"$version\":1},\"reported\":{\"r\":1,\"$version\":1}}");
	EXPECT_EQ(open_error(self, "desired.json", O_WRONLY), -EROFS);
	EXPECT_EQ(open_error(self, "desired.version", O_RDWR), -EROFS);
	EXPECT_EQ(open_error(self, "reported.version", O_RDWR), -EROFS);
	EXPECT_EQ(open_error(self, "desired/a", O_WRONLY), -EROFS);
	EXPECT_EQ(open_error(self, "desired/a", O_RDONLY | O_TRUNC), -EROFS);
	EXPECT_EQ(cut(self, "desired/a", NULL, 0), -EROFS);
	EXPECT_EQ(cut(self, "desired.json", NULL, 0), -EROFS);
	EXPECT_EQ(make_dir(self, "desired", "x"), -EROFS);
	create(self, "desired", "x", &error);
	EXPECT_EQ(error, -EROFS);
	EXPECT_EQ(remove_name(self, FUSE_UNLINK, "desired", "a"), -EROFS);
	EXPECT_EQ(remove_name(self, FUSE_RMDIR, "desired", "o"), -EROFS);
	EXPECT_EQ(move(self, "desired", "a", "desired", "b"), -EROFS);
	EXPECT_EQ(move(self, "desired", "a", "reported", "b"), -EXDEV);
	EXPECT_EQ(move(self, "reported", "r", "desired", "b"), -EXDEV);
	EXPECT_EQ(make_dir(self, "", "x"), -EPERM);
}

/* --- reported.json ---------------------------------------------------------------------------- */

TEST_F(files, documents_in_pieces)
{
	struct open f;

	start_with(self, EMPTY);
	f = open_file(self, "reported.json", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(self, &f, 0, "{\n"), 0);
	EXPECT_EQ(put(self, &f, 2, " \"a\": {\"b\""), 0);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(put(self, &f, 12, ":1}}"), 0);
	EXPECT_STREQ(cat(self, "reported/a/b"), "1\n");
	EXPECT_EQ(put(self, &f, 16, "\n"), 0);
	take(self, "patch {\"a\":{\"b\":1}}", "2");
	/* Several, and the beginning of one. */
	EXPECT_EQ(put(self, &f, 17, "{\"c\":1} {\"a\":null}\n{\"d\""), 0);
	take(self, "patch {\"a\":null,\"c\":1}", "3");
	EXPECT_EQ(cut(self, NULL, &f, 0), 0);
	EXPECT_EQ(put(self, &f, 0, ":2}"), 0);
	take(self, "patch {\"d\":2}", "4");
	expect_event(self, NULL);
	EXPECT_EQ(put(self, &f, 0, "{"), 0);
	close_file(self, &f);
	expect_event(self, "closed before its end");
	EXPECT_STREQ(cat(self, "reported.json"), "{\n  \"c\": 1,\n  \"d\": 2\n}\n");
}

TEST_F(files, documents_that_are_none)
{
	static const char *const texts[] = {"[1]",
					    "5",
					    "x",
					    "{\"a\":1,}",
					    "{'a':1}",
					    "{\"a b\":1}",
					    "{\"a\":1} 5",
					    "{\"a\":1} {\"$b\":1}",
					    "{\"a\":\"\xff\"}"};
	char big[4300];
	struct open f;

	start_with(self, EMPTY);
	for (size_t i = 0; i < ARRAY_SIZE(texts); ++i) {
		EXPECT_EQ(echo(self, texts[i], "reported.json"), -EINVAL);
		expect_event(self, "\"file\":\"twin/reported.json\"");
	}
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_STREQ(cat(self, "reported.json"), "{\n}\n");
	/* What was collected is dropped with what was wrong. */
	f = open_file(self, "reported.json", O_WRONLY);
	EXPECT_EQ(put(self, &f, 0, "{\"a\":"), 0);
	EXPECT_EQ(put(self, &f, 0, "x"), -EINVAL);
	EXPECT_EQ(put(self, &f, 0, "{\"b\":1}"), 0);
	close_file(self, &f);
	take(self, "patch {\"b\":1}", "2");
	snprintf(big, sizeof(big), "{\"a\":\"%04200d\"}", 0);
	EXPECT_EQ(echo(self, big, "reported.json"), -EMSGSIZE);
	expect_event(self, "4096");
}

TEST_F(files, too_long_for_a_document)
{
	_cleanup_(free_ptr) char *piece = malloc(100001);
	struct open f;

	start_with(self, EMPTY);
	memset(piece, ' ', 100000);
	piece[0] = '{';
	piece[100000] = '\0';
	f = open_file(self, "reported.json", O_WRONLY);
	EXPECT_EQ(put(self, &f, 0, piece), 0);
	piece[0] = ' ';
	EXPECT_EQ(put(self, &f, 0, piece), 0);
	EXPECT_EQ(put(self, &f, 0, piece), -EMSGSIZE);
	expect_event(self, "too long");
	EXPECT_EQ(put(self, &f, 0, "{\"a\":1}"), 0);
	take(self, "patch {\"a\":1}", "2");
	close_file(self, &f);
}

/* --- waiting ---------------------------------------------------------------------------------- */

TEST_F(files, synchronous)
{
	struct open f;
	uint64_t unique;

	start_with(self, EMPTY);
	f = open_file(self, "reported.json", O_WRONLY | O_SYNC);
	unique = put_at(self, &f, 0, "{\"a\":1}\n");
	EXPECT_EQ(fuse_line_result(&self->line, unique), FUSE_LINE_WAITS);
	take(self, "patch {\"a\":1}", "2");
	EXPECT_EQ(fuse_line_result(&self->line, unique), 0);
	EXPECT_EQ(get_version(self, &f), 2u);
	/* Refused for good: once, here. */
	unique = put_at(self, &f, 0, "{\"a\":2}\n");
	EXPECT_STREQ(twin_line_next(&self->hub), "patch {\"a\":2}");
	twin_line_respond(&self->hub, "0102", NULL, BYTES(NULL, 0));
	twin_line_turn(&self->hub);
	EXPECT_EQ(fuse_line_result(&self->line, unique), -EPERM);
	expect_event(self, "because");
	EXPECT_STREQ(cat(self, "reported/a"), "1\n");
	EXPECT_EQ(fuse_line_result(&self->line, fuse_line_fsync(&self->line, f.id, f.fh)), 0);
	close_file(self, &f);
	/* A leaf waits in the same way; what is not complete does not. */
	f = open_file(self, "reported/a", O_WRONLY | O_TRUNC | O_SYNC);
	EXPECT_EQ(put(self, &f, 0, "["), 0);
	unique = put_at(self, &f, 1, "3]");
	EXPECT_EQ(fuse_line_result(&self->line, unique), FUSE_LINE_WAITS);
	take(self, "patch {\"a\":[3]}", "3");
	EXPECT_EQ(fuse_line_result(&self->line, unique), 0);
	close_file(self, &f);
}

TEST_F(files, fsync_waits_for_all)
{
	struct open f;
	uint64_t unique;

	start_with(self, EMPTY);
	f = open_file(self, "reported.json", O_WRONLY);
	EXPECT_EQ(fuse_line_result(&self->line, fuse_line_fsync(&self->line, f.id, f.fh)), 0);
	EXPECT_EQ(put(self, &f, 0, "{\"a\":1}"), 0);
	EXPECT_STREQ(twin_line_next(&self->hub), "patch {\"a\":1}");
	EXPECT_EQ(put(self, &f, 0, "{\"b\":1}"), 0);
	unique = fuse_line_fsync(&self->line, f.id, f.fh);
	twin_line_respond(&self->hub, "0100", NULL, BYTES(NULL, 0));
	EXPECT_EQ(fuse_line_result(&self->line, unique), FUSE_LINE_WAITS);
	/* Another request of the same file does not wait as well. */
	EXPECT_EQ(fuse_line_result(&self->line, fuse_line_fsync(&self->line, f.id, f.fh)), -EBUSY);
	take(self, "patch {\"b\":1}", "2");
	EXPECT_EQ(fuse_line_result(&self->line, unique), -EINVAL);
	EXPECT_EQ(fuse_line_result(&self->line, fuse_line_fsync(&self->line, f.id, f.fh)), 0);
	EXPECT_STREQ(cat(self, "reported.json"), "{\n  \"b\": 1\n}\n");
	close_file(self, &f);
}

TEST_F(files, nobody_waits_for_ever)
{
	struct open f;
	uint64_t unique;

	start(self, 20 * NSEC_PER_MSEC);
	f = open_file(self, "reported.json", O_WRONLY | O_SYNC);
	unique = put_at(self, &f, 0, "{\"a\":1}");
	while (fuse_line_result(&self->line, unique) == FUSE_LINE_WAITS)
		ASSERT_EQ(loop_turn(self->hub.hub.loop, TIME_NEVER), 0);
	EXPECT_EQ(fuse_line_result(&self->line, unique), -ETIMEDOUT);
	EXPECT_STREQ(cat(self, "reported/a"), "1\n");
	unique = put_at(self, &f, 0, "{\"b\":1}");
	fuse_line_interrupt(&self->line, unique);
	EXPECT_EQ(fuse_line_result(&self->line, unique), -EINTR);
	close_file(self, &f);
	twin_line_online(&self->hub);
	ASSERT_STREQ(twin_line_next(&self->hub), "get");
	send_twin(self, EMPTY);
	take(self, "patch {\"a\":1,\"b\":1}", "2");
}

TEST_F(files, for_one_version_only)
{
	struct open f, other;
	uint64_t unique;

	start_with(self, EMPTY);
	f = open_file(self, "reported.json", O_RDWR | O_SYNC);
	EXPECT_EQ(get_version(self, &f), 1u);
	EXPECT_EQ(set_if_version(self, &f, 1), 0);
	unique = put_at(self, &f, 0, "{\"a\":1}");
	EXPECT_STREQ(cat(self, "reported.json"), "{\n}\n");
	take(self, "patch if 1 {\"a\":1}", "2");
	EXPECT_EQ(fuse_line_result(&self->line, unique), 0);
	EXPECT_EQ(get_version(self, &f), 2u);
	unique = put_at(self, &f, 0, "{\"a\":2}");
	EXPECT_STREQ(twin_line_next(&self->hub), "patch if 1 {\"a\":2}");
	twin_line_respond(&self->hub, "0104", NULL, BYTES(NULL, 0));
	twin_line_turn(&self->hub);
	EXPECT_EQ(fuse_line_result(&self->line, unique), -ESTALE);
	EXPECT_STREQ(cat(self, "reported/a"), "1\n");
	EXPECT_EQ(set_if_version(self, &f, 0), 0);
	unique = put_at(self, &f, 0, "{\"a\":3}");
	take(self, "patch {\"a\":3}", "3");
	EXPECT_EQ(fuse_line_result(&self->line, unique), 0);
	close_file(self, &f);
	other = open_file(self, "desired.json", O_RDONLY);
	EXPECT_EQ(set_if_version(self, &other, 1), -EINVAL);
	close_file(self, &other);
	other = open_file(self, "reported/a", O_WRONLY);
	EXPECT_EQ(set_if_version(self, &other, 1), -ENOTTY);
	close_file(self, &other);
}

/* --- leaves ----------------------------------------------------------------------------------- */

TEST_F(files, leaves)
{
	struct open f;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":\"x\",\"$version\":1}}");
	EXPECT_EQ(echo(self, "5\n", "reported/a"), 0);
	take(self, "patch {\"a\":5}", "2");
	/* A newline of its own changes nothing. */
	f = open_file(self, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(self, &f, 0, "text"), 0);
	EXPECT_EQ(put(self, &f, 4, "\n"), 0);
	take(self, "patch {\"a\":\"text\"}", "3");
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(put(self, &f, 5, "more\n"), 0);
	take(self, "patch {\"a\":\"text\\nmore\"}", "4");
	close_file(self, &f);
	/* >> */
	f = open_file(self, "reported/a", O_WRONLY | O_APPEND);
	EXPECT_EQ(put(self, &f, 0, "end\n"), 0);
	take(self, "patch {\"a\":\"text\\nmore\\nend\"}", "5");
	close_file(self, &f);
	f = open_file(self, "reported/a", O_RDWR);
	EXPECT_EQ(put(self, &f, 0, "TEXT"), 0);
	EXPECT_STREQ(read_at(self, &f, 0, 5), "TEXT\n");
	EXPECT_EQ(put(self, &f, 100, "hole"), -EINVAL);
	EXPECT_EQ(cut(self, NULL, &f, 100), -EINVAL);
	EXPECT_EQ(cut(self, NULL, &f, 2), 0);
	EXPECT_STREQ(cat(self, "reported/a"), "TE\n");
	EXPECT_EQ(cut(self, "reported/a", NULL, 1), 0);
	EXPECT_STREQ(cat(self, "reported/a"), "T\n");
	EXPECT_EQ(cut(self, "reported/a", NULL, 100), -EINVAL);
	EXPECT_EQ(cut(self, "reported/a", NULL, 0), 0);
	close_file(self, &f);
	EXPECT_STREQ(cat(self, "reported/a"), "\n");
	take(self, "patch {\"a\":\"\"}", "6");
	/* > alone. */
	EXPECT_EQ(echo(self, "7", "reported/a"), 0);
	f = open_file(self, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_STREQ(cat(self, "reported/a"), "7\n");
	close_file(self, &f);
	EXPECT_STREQ(cat(self, "reported/a"), "\n");
	/* Opened and closed. */
	twin_line_next(&self->hub);
	f = open_file(self, "reported/a", O_WRONLY);
	close_file(self, &f);
	EXPECT_STREQ(cat(self, "reported/a"), "\n");
}

TEST_F(files, leaves_that_wait)
{
	struct open f;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":1}}");
	f = open_file(self, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(self, &f, 0, "[1,\n"), 0);
	EXPECT_STREQ(cat(self, "reported/a"), "1\n");
	EXPECT_EQ(put(self, &f, 4, "2]\n"), 0);
	EXPECT_STREQ(cat(self, "reported/a"), "[1,2]\n");
	close_file(self, &f);
	f = open_file(self, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(self, &f, 0, "[1,\n"), 0);
	close_file(self, &f);
	EXPECT_STREQ(cat(self, "reported/a"), "[1,\n");
	EXPECT_STREQ(cat(self, "reported.json"), "{\n  \"a\": \"[1,\"\n}\n");
}

TEST_F(files, leaves_that_are_refused)
{
	char big[4200];
	struct open f;
	int error;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":1}}");
	memset(big, 'x', 4097);
	big[4097] = '\0';
	EXPECT_EQ(echo(self, big, "reported/a"), -EMSGSIZE);
	expect_event(self, "\"file\":\"twin/reported/a\"");
	EXPECT_EQ(echo(self, "\xff", "reported/a"), -EINVAL);
	expect_event(self, "UTF-8");
	EXPECT_STREQ(cat(self, "reported/a"), "1\n");
	/* What was never written well is not there. */
	f = create(self, "reported", "b", &error);
	ASSERT_EQ(error, 0);
	EXPECT_EQ(put(self, &f, 0, big), -EMSGSIZE);
	EXPECT_NE(node(self, "reported/b"), 0u);
	close_file(self, &f);
	EXPECT_EQ(node(self, "reported/b"), 0u);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
}

TEST_F(files, leaves_that_go)
{
	struct open f;

	start_with(self,
		   "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"b\":2,\"c\":3,\"$version\":1}}");
	f = open_file(self, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(self, &f, 0, "null"), 0);
	EXPECT_EQ(node(self, "reported/a"), 0u);
	EXPECT_EQ(put(self, &f, 4, "\n"), 0);
	EXPECT_EQ(put(self, &f, 5, "x"), -ESTALE);
	close_file(self, &f);
	f = open_file(self, "reported/b", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(self, &f, 0, "{\"x\":"), 0);
	EXPECT_EQ(put(self, &f, 5, "{}}"), 0);
	EXPECT_NE(node(self, "reported/b/x"), 0u);
	EXPECT_EQ(put(self, &f, 8, "\n"), 0);
	close_file(self, &f);
	/* Somebody else takes it away. */
	f = open_file(self, "reported/c", O_RDWR);
	EXPECT_EQ(remove_name(self, FUSE_UNLINK, "reported", "c"), 0);
	EXPECT_STREQ(read_at(self, &f, 0, 9), "3\n");
	EXPECT_EQ(put(self, &f, 0, "\n"), -ESTALE);
	EXPECT_EQ(cut(self, NULL, &f, 0), -ESTALE);
	close_file(self, &f);
	take(self, "patch {\"a\":null,\"b\":{\"x\":{}},\"c\":null}", "2");
}

/* --- names ------------------------------------------------------------------------------------ */

TEST_F(files, create_and_touch)
{
	struct open f;
	int error;

	start_with(self, EMPTY);
	f = create(self, "reported", "a%2Fb", &error);
	ASSERT_EQ(error, 0);
	EXPECT_STREQ(cat(self, "reported.json"), "{\n}\n");
	/* Who looks at it does not make it. */
	EXPECT_STREQ(cat(self, "reported/a%2Fb"), "");
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(put(self, &f, 0, "1"), 0);
	close_file(self, &f);
	take(self, "patch {\"a/b\":1}", "2");
	f = create(self, "reported", "t", &error);
	close_file(self, &f);
	take(self, "patch {\"t\":\"\"}", "3");
	/* The property comes from elsewhere meanwhile. */
	f = create(self, "reported", "u", &error);
	EXPECT_EQ(echo(self, "{\"u\":7}", "reported.json"), 0);
	EXPECT_STREQ(cat(self, "reported/u"), "7\n");
	EXPECT_EQ(put(self, &f, 0, "8"), 0);
	close_file(self, &f);
	take(self, "patch {\"u\":8}", "4");
	/* Created and removed. */
	f = create(self, "reported", "v", &error);
	EXPECT_EQ(remove_name(self, FUSE_UNLINK, "reported", "v"), 0);
	close_file(self, &f);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	expect_event(self, NULL);
}

TEST_F(files, names_of_no_key)
{
	static const char *const names[] = {"a b", "a.b", "$a", "%", "%2E", "a%", "%2f", "\x01", "a\xff"};
	int error;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":1}}");
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		create(self, "reported", names[i], &error);
		EXPECT_EQ(error, -EINVAL);
		expect_event(self, "refused");
		EXPECT_EQ(make_dir(self, "reported", names[i]), -EINVAL);
		expect_event(self, "refused");
		EXPECT_EQ(move(self, "reported", "a", "reported", names[i]), -EINVAL);
		expect_event(self, "refused");
	}
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_STREQ(cat(self, "reported/a"), "1\n");
}

TEST_F(files, directories)
{
	char path[64] = "reported", name[] = "l";
	struct open f;
	int error;

	start_with(self, EMPTY);
	EXPECT_EQ(make_dir(self, "reported", "d"), 0);
	EXPECT_EQ(make_dir(self, "reported", "d"), -EEXIST);
	f = create(self, "reported/d", "x", &error);
	/* With a file that is no property yet, too. */
	EXPECT_EQ(remove_name(self, FUSE_RMDIR, "reported", "d"), -ENOTEMPTY);
	EXPECT_EQ(put(self, &f, 0, "1"), 0);
	EXPECT_EQ(remove_name(self, FUSE_RMDIR, "reported", "d"), -ENOTEMPTY);
	take(self, "patch {\"d\":{\"x\":1}}", "2");
	EXPECT_EQ(remove_name(self, FUSE_UNLINK, "reported/d", "x"), 0);
	EXPECT_EQ(remove_name(self, FUSE_RMDIR, "reported", "d"), 0);
	EXPECT_EQ(put(self, &f, 0, "2"), -ESTALE);
	close_file(self, &f);
	take(self, "patch {\"d\":null}", "3");
	/* As deep as a twin can be. */
	for (int i = 0; i < 10; ++i) {
		EXPECT_EQ(make_dir(self, path, name), 0);
		strcat(path, "/l");
	}
	EXPECT_EQ(make_dir(self, path, name), -EINVAL);
	expect_event(self, "levels");
	f = create(self, path, "leaf", &error);
	EXPECT_EQ(error, 0);
	EXPECT_EQ(put(self, &f, 0, "1"), 0);
	close_file(self, &f);
	EXPECT_STREQ(cat(self, "reported/l/l/l/l/l/l/l/l/l/l/leaf"), "1\n");
}

TEST_F(files, renames)
{
	struct open f;
	int error;

	start_with(self,
		   "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"b\":2,\"d\":{\"x\":{\"y\":1}},"
		   "\"e\":{},\"$version\":1}}");
	f = open_file(self, "reported/a", O_WRONLY);
	EXPECT_EQ(move(self, "reported", "a", "reported/d", "z"), 0);
	EXPECT_EQ(node(self, "reported/a"), 0u);
	EXPECT_STREQ(cat(self, "reported/d/z"), "1\n");
	take(self, "patch {\"a\":null,\"d\":{\"z\":1}}", "2");
	/* The open file went with it. */
	EXPECT_EQ(put(self, &f, 0, "9"), 0);
	take(self, "patch {\"d\":{\"z\":9}}", "3");
	close_file(self, &f);
	EXPECT_EQ(move(self, "reported/d", "z", "reported", "b"), 0);
	EXPECT_STREQ(cat(self, "reported/b"), "9\n");
	take(self, "patch {\"b\":9,\"d\":{\"z\":null}}", "4");
	EXPECT_EQ(move(self, "reported", "e", "reported", "d"), -ENOTEMPTY);
	EXPECT_EQ(move(self, "reported", "d", "reported", "e"), 0);
	EXPECT_EQ(node(self, "reported/d"), 0u);
	EXPECT_STREQ(cat(self, "reported/e/x/y"), "1\n");
	take(self, "patch {\"d\":null,\"e\":{\"x\":{\"y\":1}}}", "5");
	/* What is no property yet. */
	f = create(self, "reported", "new", &error);
	EXPECT_EQ(move(self, "reported", "new", "reported/e", "new2"), 0);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(move(self, "reported/e", "new2", "reported", "b"), 0);
	take(self, "patch {\"b\":null}", "6");
	EXPECT_NE(node(self, "reported/b"), 0u);
	EXPECT_EQ(put(self, &f, 0, "8"), 0);
	close_file(self, &f);
	take(self, "patch {\"b\":8}", "7");
	EXPECT_STREQ(cat(self, "reported.json"),
		     "{\n  \"e\": {\n    \"x\": {\n      \"y\": 1\n    }\n  },\n  \"b\": 8\n}\n");
}

/* What editors and sed -i do: a file beside it, and a rename over it. */
TEST_F(files, an_editor_saves)
{
	struct open old, f;
	int error;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":\"old\",\"$version\":1}}");
	old = open_file(self, "reported/a", O_RDONLY);
	f = create(self, "reported", "sedXyz", &error);
	EXPECT_EQ(put(self, &f, 0, "new\n"), 0);
	close_file(self, &f);
	EXPECT_EQ(move(self, "reported", "sedXyz", "reported", "a"), 0);
	EXPECT_TRUE(is_changed(self, &old));
	EXPECT_STREQ(read_at(self, &old, 0, 9), "old\n");
	close_file(self, &old);
	EXPECT_STREQ(cat(self, "reported/a"), "new\n");
	take(self, "patch {\"a\":\"new\",\"sedXyz\":null}", "2");
	EXPECT_STREQ(cat(self, "reported.json"), "{\n  \"a\": \"new\"\n}\n");
}

/* Files that are open when the daemon ends. */
TEST_F(files, the_end)
{
	struct open f, g;
	uint64_t unique;
	int error;

	start_with(self, EMPTY);
	f = create(self, "reported", "a", &error);
	g = open_file(self, "reported.json", O_WRONLY | O_SYNC);
	unique = put_at(self, &g, 0, "{\"b\":1}");
	fuse_tree_detach(self->tree);
	(void)f;
	(void)unique;
	fuse_tree_free(TAKE_PTR(self->tree));
	twin_files_free(TAKE_PTR(self->files));
	events_free(TAKE_PTR(self->events));
	take(self, "patch {\"b\":1,\"a\":\"\"}", "2");
	twin_line_deinit(&self->hub);
}

TEST_HARNESS_MAIN
