/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_FUSE_CALLS_H
#define TESTS_SUPPORT_FUSE_CALLS_H

/*
 * System calls as functions, for tests of a directory in a tree without a kernel (fuse_line.h), which has `events`
 * beside it. For test files only: names are short.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "tests/support/fuse_line.h"

struct fuse_calls {
	struct fuse_line line;
	const char *top; /* paths are below this directory in the root */
	uint64_t events_fh;
	char text[8192]; /* of the last read */
};

/* The tree has the directory @top and `events`. */
static inline void fuse_calls_init(struct fuse_calls *c, struct fuse_tree *tree, const char *top)
{
	c->top = top;
	fuse_line_init(&c->line, tree);
	c->events_fh = fuse_line_open(&c->line, fuse_line_lookup(&c->line, "events"), O_RDONLY);
}

static inline int request(struct fuse_calls *c, uint32_t opcode, uint64_t dir, const void *arg,
			  size_t arg_len, struct bytes data)
{
	return fuse_line_result(&c->line, fuse_line_request(&c->line, opcode, dir, arg, arg_len, data));
}

static inline struct bytes name_bytes(const char *name)
{
	return BYTES(name, strlen(name) + 1);
}

/* 0: there is none. */
static inline uint64_t lookup(struct fuse_calls *c, uint64_t dir, const char *name,
			      struct fuse_entry_out *out)
{
	uint64_t unique = fuse_line_request(&c->line, FUSE_LOOKUP, dir, name, strlen(name) + 1, BYTES("", 0));
	int r = fuse_line_result(&c->line, unique);
	struct fuse_entry_out entry;

	if (r) {
		EXPECT_EQ(r, -ENOENT);
		return 0;
	}
	fuse_line_body(&c->line, unique, &entry, sizeof(entry));
	if (out)
		*out = entry;
	return entry.nodeid;
}

/* The node of a path below the top directory; 0: there is none. */
static inline uint64_t node(struct fuse_calls *c, const char *path)
{
	uint64_t id = fuse_line_lookup(&c->line, c->top);
	char part[300];

	while (id && *path) {
		size_t len = strcspn(path, "/");

		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		id = lookup(c, id, part, NULL);
		path += len + (path[len] == '/');
	}
	return id;
}

struct open {
	uint64_t id, fh;
	uint32_t flags;
};

static inline struct open open_file(struct fuse_calls *c, const char *path, uint32_t flags)
{
	struct open f = {.id = node(c, path), .flags = flags};

	ASSERT_NE(f.id, 0u);
	f.fh = fuse_line_open(&c->line, f.id, flags);
	return f;
}

static inline int open_error(struct fuse_calls *c, const char *path, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	return request(c, FUSE_OPEN, node(c, path), &in, sizeof(in), BYTES("", 0));
}

static inline void close_file(struct fuse_calls *c, const struct open *f)
{
	fuse_line_release(&c->line, f->id, f->fh);
}

static inline struct open create(struct fuse_calls *c, const char *dir, const char *name, int *error)
{
	const struct fuse_create_in in = {.flags = O_WRONLY, .mode = 0666};
	uint64_t unique =
		fuse_line_request(&c->line, FUSE_CREATE, node(c, dir), &in, sizeof(in), name_bytes(name));
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;

	*error = fuse_line_result(&c->line, unique);
	if (*error)
		return (struct open){.id = 0};
	fuse_line_body(&c->line, unique, &out, sizeof(out));
	return (struct open){.id = out.entry.nodeid, .fh = out.open.fh, .flags = O_WRONLY};
}

static inline uint64_t put_at(struct fuse_calls *c, const struct open *f, uint64_t offset, const char *text)
{
	return fuse_line_write_at(&c->line, f->id, f->fh, f->flags, offset, bytes_from_str(text));
}

static inline int put(struct fuse_calls *c, const struct open *f, uint64_t offset, const char *text)
{
	return fuse_line_result(&c->line, put_at(c, f, offset, text));
}

/* As a shell does: `printf TEXT > FILE`. */
static inline int echo(struct fuse_calls *c, const char *text, const char *path)
{
	struct open f = open_file(c, path, O_WRONLY | O_TRUNC);
	int r = put(c, &f, 0, text);

	close_file(c, &f);
	return r;
}

static inline const char *read_at(struct fuse_calls *c, const struct open *f, uint64_t offset, uint32_t size)
{
	uint64_t unique = fuse_line_read(&c->line, f->id, f->fh, f->flags, offset, size);
	int r = fuse_line_result(&c->line, unique);
	struct bytes data;

	if (r) {
		snprintf(c->text, sizeof(c->text), "%s",
			 r == FUSE_LINE_WAITS ? "waits" : strerrorname_np(-r));
		return c->text;
	}
	data = fuse_line_data(&c->line, unique);
	snprintf(c->text, sizeof(c->text), "%.*s", (int)data.len, (const char *)data.data);
	return c->text;
}

static inline const char *cat(struct fuse_calls *c, const char *path)
{
	struct open f;
	const char *text;

	if (!node(c, path))
		return "none";
	f = open_file(c, path, O_RDONLY);
	text = read_at(c, &f, 0, 1024);
	close_file(c, &f);
	return text;
}

static inline struct fuse_attr attr_of(struct fuse_calls *c, const char *path)
{
	const struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	fuse_line_body(
		&c->line,
		fuse_line_request(&c->line, FUSE_GETATTR, node(c, path), &in, sizeof(in), BYTES("", 0)), &out,
		sizeof(out));
	return out.attr;
}

static inline uint64_t size_of(struct fuse_calls *c, const char *path)
{
	return attr_of(c, path).size;
}

static inline mode_t mode_of(struct fuse_calls *c, const char *path)
{
	return attr_of(c, path).mode;
}

static inline int make_dir(struct fuse_calls *c, const char *dir, const char *name)
{
	const struct fuse_mkdir_in in = {.mode = 0777};

	return request(c, FUSE_MKDIR, node(c, dir), &in, sizeof(in), name_bytes(name));
}

static inline int remove_name(struct fuse_calls *c, uint32_t opcode, const char *dir, const char *name)
{
	return request(c, opcode, node(c, dir), name, strlen(name) + 1, BYTES("", 0));
}

static inline int move(struct fuse_calls *c, const char *dir, const char *name, const char *new_dir,
		       const char *new_name)
{
	struct fuse_rename2_in in = {.newdir = node(c, new_dir)};
	char names[600];
	size_t len = strlen(name) + 1;

	memcpy(names, name, len);
	memcpy(names + len, new_name, strlen(new_name) + 1);
	return request(c, FUSE_RENAME2, node(c, dir), &in, sizeof(in),
		       BYTES(names, len + strlen(new_name) + 1));
}

static inline int cut(struct fuse_calls *c, const char *path, const struct open *f, uint64_t size)
{
	struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = size};

	if (f) {
		in.valid |= FATTR_FH;
		in.fh = f->fh;
	}
	return request(c, FUSE_SETATTR, f ? f->id : node(c, path), &in, sizeof(in), BYTES("", 0));
}

/* The newest line of `events` since the last look has @part; NULL: there is none. */
static inline void expect_event(struct fuse_calls *c, const char *part)
{
	const struct open f = {
		.id = fuse_line_lookup(&c->line, "events"), .fh = c->events_fh, .flags = O_NONBLOCK};
	char last[1024] = "";

	while (strcmp(read_at(c, &f, 0, 1024), "EAGAIN") != 0)
		snprintf(last, sizeof(last), "%.1000s", c->text);
	if (!part)
		EXPECT_STREQ(last, "");
	else if (!strstr(last, part))
		EXPECT_STREQ(last, part);
}

static inline bool is_changed(struct fuse_calls *c, const struct open *f)
{
	return (fuse_line_poll(&c->line, f->id, f->fh) & (POLLPRI | POLLERR)) == (POLLPRI | POLLERR);
}

#endif
