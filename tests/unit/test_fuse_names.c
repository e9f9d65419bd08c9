/* SPDX-License-Identifier: MIT */
/*
 * Names that are made, moved and removed, and what is asked about nodes that are not in the tree any more, by raw
 * requests.
 */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/fuse_raw.h"
#include "tests/support/toy_box.h"

/* Nodes of box and live that are there from the beginning. */
#define N_ITEMS     2

#define PRUNE_EVERY 1024
#define MAX_DROPPED 4096

FIXTURE(names)
{
	struct fuse_raw raw;
	uint64_t box;
};

static void init(struct fixture_names *self, uint32_t minor)
{
	struct fuse_init_in in = {.major = 7, .minor = minor, .flags = ~0u, .flags2 = ~0u};

	ASSERT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_INIT, 0, &in, sizeof(in))), 0);
	self->box = raw_lookup(&self->raw, 1, "box").nodeid;
}

FIXTURE_SETUP(names)
{
	raw_setup(&self->raw);
	init(self, 38);
}

FIXTURE_TEARDOWN(names)
{
	raw_teardown(&self->raw);
}

/* Replies are kept up to a number. */
static uint64_t request_name(struct fixture_names *self, uint32_t opcode, uint64_t dir, const void *arg,
			     size_t arg_len, const char *name)
{
	self->raw.n_replies = 0;
	return raw_request_data(&self->raw, opcode, dir, arg, arg_len, name, strlen(name) + 1);
}

static int mkdir_in(struct fixture_names *self, uint64_t dir, const char *name, uint64_t *id)
{
	struct fuse_mkdir_in in = {.mode = S_IFDIR | 0777, .umask = 022};
	uint64_t u = request_name(self, FUSE_MKDIR, dir, &in, sizeof(in), name);
	struct fuse_entry_out out;

	if (raw_error(&self->raw, u) == 0) {
		memcpy(&out, raw_body(&self->raw, u, sizeof(out)), sizeof(out));
		EXPECT_EQ(out.attr.mode, (uint32_t)(S_IFDIR | 0755));
		*id = out.nodeid;
	}
	return raw_error(&self->raw, u);
}

struct created {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

static int create_in(struct fixture_names *self, uint64_t dir, const char *name, uint32_t flags,
		     struct created *out)
{
	struct fuse_create_in in = {.flags = flags, .mode = S_IFREG | 0666, .umask = 022};
	uint64_t u = request_name(self, FUSE_CREATE, dir, &in, sizeof(in), name);

	if (self->raw.send_error == 0 && raw_error(&self->raw, u) == 0)
		memcpy(out, raw_body(&self->raw, u, sizeof(*out)), sizeof(*out));
	return raw_error(&self->raw, u);
}

static int remove_in(struct fixture_names *self, uint32_t opcode, uint64_t dir, const char *name)
{
	return raw_error(&self->raw, request_name(self, opcode, dir, NULL, 0, name));
}

static int rename_to(struct fixture_names *self, uint64_t dir, const char *name, uint64_t new_dir,
		     const char *new_name, uint32_t flags)
{
	struct {
		struct fuse_rename2_in in;
		char names[64];
	} m = {.in = {.newdir = new_dir, .flags = flags}};
	size_t len = strlen(name) + 1, new_len = strlen(new_name) + 1;

	memcpy(m.names, name, len);
	memcpy(m.names + len, new_name, new_len);
	self->raw.n_replies = 0;
	return raw_error(&self->raw,
			 raw_request(&self->raw, FUSE_RENAME2, dir, &m, sizeof(m.in) + len + new_len));
}

static int getattr(struct fixture_names *self, uint64_t id, struct fuse_attr_out *out)
{
	struct fuse_getattr_in in = {0};
	uint64_t u;

	self->raw.n_replies = 0;
	u = raw_request(&self->raw, FUSE_GETATTR, id, &in, sizeof(in));
	if (raw_error(&self->raw, u) == 0)
		memcpy(out, raw_body(&self->raw, u, sizeof(*out)), sizeof(*out));
	return raw_error(&self->raw, u);
}

static void forget(struct fixture_names *self, uint64_t id, uint64_t n)
{
	struct fuse_forget_in in = {.nlookup = n};

	raw_request(&self->raw, FUSE_FORGET, id, &in, sizeof(in));
}

static uint64_t n_items(struct fixture_names *self)
{
	return raw_toy(&self->raw, TOY_N_ITEMS, 0, NULL) - N_ITEMS;
}

static uint64_t n_removed(struct fixture_names *self)
{
	return raw_toy(&self->raw, TOY_N_REMOVED, 0, NULL);
}

TEST_F(names, are_made_and_removed)
{
	struct fuse_attr_out attr;
	struct created file;
	uint64_t dir;

	ASSERT_EQ(mkdir_in(self, self->box, "d", &dir), 0);
	ASSERT_EQ(create_in(self, dir, "f", O_RDWR, &file), 0);
	EXPECT_EQ(file.entry.attr.mode, (uint32_t)(S_IFREG | 0644));
	EXPECT_EQ(file.open.open_flags, (uint32_t)FOPEN_DIRECT_IO); /* it has a flush operation */
	EXPECT_EQ(n_items(self), 2u);
	EXPECT_EQ(getattr(self, self->box, &attr), 0);
	EXPECT_EQ(attr.attr.nlink, 3u);
	EXPECT_EQ(remove_in(self, FUSE_RMDIR, self->box, "d"), -ENOTEMPTY);
	EXPECT_EQ(remove_in(self, FUSE_UNLINK, self->box, "d"), -EISDIR);
	EXPECT_EQ(remove_in(self, FUSE_RMDIR, dir, "f"), -ENOTDIR);
	EXPECT_EQ(remove_in(self, FUSE_UNLINK, dir, "none"), -ENOENT);
	EXPECT_EQ(remove_in(self, FUSE_UNLINK, dir, "f"), 0);
	EXPECT_EQ(n_items(self), 2u);
	EXPECT_EQ(remove_in(self, FUSE_RMDIR, self->box, "d"), 0);
	EXPECT_EQ(n_items(self), 1u);
	/* The file is open. */
	EXPECT_EQ(
		raw_error(&self->raw, raw_write(&self->raw, file.entry.nodeid, file.open.fh, O_RDWR, "abc")),
		0);
	EXPECT_EQ(getattr(self, file.entry.nodeid, &attr), 0);
	EXPECT_EQ(attr.attr.nlink, 0u);
	EXPECT_EQ(attr.attr.size, 3u);
	raw_release(&self->raw, file.entry.nodeid, file.open.fh);
	EXPECT_EQ(n_items(self), 0u);
	EXPECT_EQ(n_removed(self), 2u);
	forget(self, file.entry.nodeid, 1);
	forget(self, dir, 1);
	EXPECT_EQ(n_removed(self), 0u);
}

TEST_F(names, are_checked)
{
	char name[300];
	uint64_t dir;

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	EXPECT_EQ(mkdir_in(self, self->box, name, &dir), -ENAMETOOLONG);
	name[255] = '\0';
	name[0] = 'x';
	EXPECT_EQ(mkdir_in(self, self->box, name, &dir), 0);
	EXPECT_EQ(mkdir_in(self, self->box, name, &dir), -EEXIST);
	EXPECT_EQ(mkdir_in(self, self->box, "a/b", &dir), -EINVAL);
	EXPECT_EQ(mkdir_in(self, self->box, "..", &dir), -EINVAL);
	EXPECT_EQ(mkdir_in(self, self->box, "no", &dir), -EACCES);
	EXPECT_EQ(mkdir_in(self, 1, "d", &dir), -EPERM);
	EXPECT_EQ(mkdir_in(self, raw_lookup(&self->raw, 1, "live").nodeid, "d", &dir), -EPERM);
	EXPECT_EQ(mkdir_in(self, raw_lookup(&self->raw, 1, "sink").nodeid, "d", &dir), -ENOTDIR);
	EXPECT_EQ(mkdir_in(self, 4242, "d", &dir), -ESTALE);
}

/* Its mode has not been compared: the kernel has to look it up first. */
TEST_F(names, create_does_not_open_what_is_there)
{
	struct created file;

	ASSERT_EQ(create_in(self, self->box, "f", O_RDWR | O_EXCL, &file), 0);
	EXPECT_EQ(create_in(self, self->box, "f", O_RDWR | O_EXCL, &file), -EEXIST);
	EXPECT_EQ(create_in(self, self->box, "f", O_RDWR, &file), -ESTALE);
}

TEST_F(names, create_whose_reply_is_lost_is_released)
{
	struct created file;

	self->raw.send_error = -ENOENT;
	create_in(self, self->box, "f", O_RDWR, &file);
	self->raw.send_error = 0;
	EXPECT_EQ(n_items(self), 1u);
	EXPECT_EQ(remove_in(self, FUSE_UNLINK, self->box, "f"), 0);
	EXPECT_EQ(n_items(self), 0u);
	EXPECT_EQ(n_removed(self), 0u);
}

TEST_F(names, renames)
{
	uint64_t a, b, c, d;

	ASSERT_EQ(mkdir_in(self, self->box, "a", &a), 0);
	ASSERT_EQ(mkdir_in(self, a, "b", &b), 0);
	ASSERT_EQ(mkdir_in(self, b, "c", &c), 0);
	EXPECT_EQ(rename_to(self, self->box, "a", b, "x", 0), -EINVAL);
	EXPECT_EQ(rename_to(self, self->box, "a", a, "x", 0), -EINVAL);
	EXPECT_EQ(rename_to(self, b, "c", self->box, "a", 0), -ENOTEMPTY);
	EXPECT_EQ(rename_to(self, self->box, "a", self->box, "a", 0), 0);
	EXPECT_EQ(rename_to(self, b, "c", self->box, "c", RENAME_NOREPLACE), 0);
	EXPECT_EQ(raw_lookup(&self->raw, self->box, "c").nodeid, c);
	EXPECT_EQ(rename_to(self, self->box, "c", a, "b", RENAME_NOREPLACE), -EEXIST);
	EXPECT_EQ(rename_to(self, self->box, "c", a, "b", RENAME_EXCHANGE), -EINVAL);
	EXPECT_EQ(rename_to(self, self->box, "c", a, "b", RENAME_WHITEOUT), -EINVAL);
	EXPECT_EQ(rename_to(self, self->box, "c", a, "b", 0), 0);
	EXPECT_EQ(raw_lookup(&self->raw, a, "b").nodeid, c);
	EXPECT_EQ(n_items(self), 2u);
	EXPECT_EQ(rename_to(self, self->box, "none", a, "x", 0), -ENOENT);
	EXPECT_EQ(rename_to(self, 1, "sink", self->box, "x", 0), -EPERM);
	EXPECT_EQ(rename_to(self, a, "b", raw_lookup(&self->raw, 1, "live").nodeid, "x", 0), -EXDEV);
	ASSERT_EQ(mkdir_in(self, b, "d", &d), -ESTALE);
	ASSERT_EQ(mkdir_in(self, c, "d", &d), 0);
	EXPECT_EQ(rename_to(self, self->box, "a", self->box, "z", 0), 0);
	EXPECT_EQ(raw_lookup(&self->raw, raw_lookup(&self->raw, self->box, "z").nodeid, "b").nodeid, c);
}

/* --- removed by the daemon --- */

static uint64_t add_live(struct fixture_names *self, uint64_t n)
{
	return raw_toy(&self->raw, TOY_ADD_LIVE, n, NULL) - n;
}

static struct fuse_entry_out lookup_live(struct fixture_names *self, uint64_t number)
{
	uint64_t live = raw_lookup(&self->raw, 1, "live").nodeid;
	char name[32];

	snprintf(name, sizeof(name), "%llu", (unsigned long long)number);
	self->raw.n_replies = 0;
	return raw_lookup(&self->raw, live, name);
}

TEST_F(names, transient_ones_are_not_kept)
{
	struct fuse_entry_out dir, leaf;

	add_live(self, 1);
	dir = lookup_live(self, 0);
	EXPECT_EQ(dir.entry_valid, 0u);
	EXPECT_EQ(dir.attr_valid, 0u);
	leaf = raw_lookup(&self->raw, dir.nodeid, "leaf");
	EXPECT_EQ(leaf.entry_valid, 1u);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "live/0"), 0u);
	EXPECT_EQ(n_items(self), 0u);
	EXPECT_EQ(n_removed(self), 2u);
}

/* What nobody has looked up or opened is gone at once. */
TEST_F(names, of_nobody_leave_nothing)
{
	add_live(self, 10);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "live"), 0u);
	EXPECT_EQ(raw_toy(&self->raw, TOY_N_ITEMS, 0, NULL), 1u);
	/* live itself was not looked up either. */
	EXPECT_EQ(n_removed(self), 0u);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "live"), (uint64_t)ENOENT);
}

TEST_F(names, what_is_removed_is_stale_and_then_not_there)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out attr;
	uint64_t dir, x;

	ASSERT_EQ(mkdir_in(self, self->box, "d", &dir), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "box/d"), 0u);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(getattr(self, dir, &attr), -ESTALE);
		EXPECT_EQ(getattr(self, dir, &attr), -ENOENT);
		EXPECT_EQ(mkdir_in(self, dir, "x", &x), -ESTALE);
		EXPECT_EQ(mkdir_in(self, dir, "x", &x), -ENOENT);
	}
	/* Another thread meanwhile, and those of a foreign namespace. */
	EXPECT_EQ(getattr(self, dir, &attr), -ESTALE);
	self->raw.thread = 78;
	EXPECT_EQ(getattr(self, dir, &attr), -ESTALE);
	self->raw.thread = 0;
	EXPECT_EQ(getattr(self, dir, &attr), -ESTALE);
	EXPECT_EQ(getattr(self, dir, &attr), -ESTALE);
	forget(self, dir, 1);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_GETATTR, dir, &in, sizeof(in))),
		  -ESTALE);
	EXPECT_EQ(n_removed(self), 0u);
}

TEST_F(names, an_open_directory_has_attributes_and_ends)
{
	struct fuse_open_in open = {0};
	struct fuse_read_in read = {.size = 4096};
	struct fuse_release_in release = {0};
	struct fuse_attr_out attr;
	uint64_t dir;

	ASSERT_EQ(mkdir_in(self, self->box, "d", &dir), 0);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_OPENDIR, dir, &open, sizeof(open))), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "box/d"), 0u);
	EXPECT_EQ(n_items(self), 0u);
	EXPECT_EQ(getattr(self, dir, &attr), 0);
	EXPECT_EQ(attr.attr.nlink, 0u);
	EXPECT_EQ(raw_error(&self->raw, raw_request(&self->raw, FUSE_READDIR, dir, &read, sizeof(read))),
		  -ENOENT);
	forget(self, dir, 1);
	EXPECT_EQ(n_removed(self), 1u);
	EXPECT_EQ(raw_error(&self->raw,
			    raw_request(&self->raw, FUSE_RELEASEDIR, dir, &release, sizeof(release))),
		  0);
	EXPECT_EQ(n_removed(self), 0u);
}

TEST_F(names, moves_of_the_daemon)
{
	struct created file;
	uint64_t dir;

	ASSERT_EQ(mkdir_in(self, self->box, "d", &dir), 0);
	ASSERT_EQ(create_in(self, dir, "f", O_RDWR, &file), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_MOVE, 0, "box/d/f"), 0u);
	EXPECT_EQ(raw_lookup(&self->raw, self->box, "moved-f").nodeid, file.entry.nodeid);
	EXPECT_EQ(remove_in(self, FUSE_RMDIR, self->box, "d"), 0);
	ASSERT_EQ(mkdir_in(self, self->box, "f", &dir), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_MOVE, 0, "box/f"), (uint64_t)EEXIST);
	EXPECT_EQ(raw_toy(&self->raw, TOY_MOVE, 0, "box"), (uint64_t)EINVAL);
	EXPECT_EQ(
		raw_error(&self->raw, raw_write(&self->raw, file.entry.nodeid, file.open.fh, O_RDWR, "abc")),
		0);
}

/* A record file with an inode of its own for each that waits. */
TEST_F(names, of_a_file_with_several_inodes)
{
	uint64_t first = raw_lookup(&self->raw, 1, "sink").nodeid, second, u;
	struct fuse_open_out a = raw_open(&self->raw, first, O_RDWR), b;
	struct fuse_attr_out attr;

	u = raw_write(&self->raw, first, a.fh, O_RDWR | O_SYNC, "abc");
	second = raw_lookup(&self->raw, 1, "sink").nodeid;
	ASSERT_NE(second, first);
	b = raw_open(&self->raw, second, O_RDWR);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "sink"), 0u);
	EXPECT_EQ(raw_error(&self->raw, raw_write(&self->raw, second, b.fh, O_RDWR, "d")), 0);
	raw_toy(&self->raw, TOY_ACK, 0, NULL);
	EXPECT_EQ(raw_error(&self->raw, u), 0);
	raw_release(&self->raw, second, b.fh);
	forget(self, first, 1);
	EXPECT_EQ(getattr(self, first, &attr), 0);
	raw_release(&self->raw, first, a.fh);
	EXPECT_EQ(n_removed(self), 1u);
	EXPECT_EQ(getattr(self, first, &attr), -ESTALE);
	forget(self, second, 1);
	EXPECT_EQ(n_removed(self), 0u);
}

/* Every node is dropped with the tree, also those whose files are open and those that are removed. */
TEST_F(names, end_with_the_tree)
{
	struct created file, other;

	add_live(self, 10);
	lookup_live(self, 3);
	ASSERT_EQ(create_in(self, self->box, "f", O_RDWR, &file), 0);
	ASSERT_EQ(create_in(self, self->box, "g", O_RDWR, &other), 0);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "box/f"), 0u);
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE, 0, "live/3"), 0u);
	/* toy_tree_free() asserts that nothing is left. */
}

static size_t n_pruned(struct fixture_names *self)
{
	size_t n = 0;

	for (size_t i = 0; i < self->raw.n_notes; i++) {
		const struct fuse_raw_message *m = &self->raw.notes[i];
		struct fuse_notify_prune_out head;

		EXPECT_EQ(m->header.error, FUSE_NOTIFY_PRUNE);
		memcpy(&head, m->body, sizeof(head));
		EXPECT_EQ(m->body_len, sizeof(head) + head.count * 8);
		n += head.count;
	}
	self->raw.n_notes = 0;
	return n;
}

static void live_and_die(struct fixture_names *self, uint64_t n)
{
	for (uint64_t i = add_live(self, n); n > 0; n--, i++) {
		lookup_live(self, i);
		EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE_LIVE, i, NULL), 0u);
	}
}

TEST_F(names, many_are_pruned)
{
	struct fuse_attr_out attr;
	uint64_t last;

	live_and_die(self, PRUNE_EVERY);
	EXPECT_EQ(self->raw.n_notes, 0u); /* by a kernel that does not know it */
	raw_teardown(&self->raw);
	memset(&self->raw, 0, sizeof(self->raw));
	raw_setup(&self->raw);
	init(self, FUSE_MINOR_PRUNE);

	/* Two are dropped each time, one is known. */
	live_and_die(self, PRUNE_EVERY / 2);
	EXPECT_GE(n_pruned(self), (size_t)PRUNE_EVERY / 2 - 1);
	EXPECT_EQ(n_removed(self), (uint64_t)PRUNE_EVERY / 2);
	add_live(self, 1);
	last = lookup_live(self, PRUNE_EVERY / 2).nodeid;
	EXPECT_EQ(raw_toy(&self->raw, TOY_REMOVE_LIVE, PRUNE_EVERY / 2, NULL), 0u);
	for (int i = 0; i < 10; i++) {
		live_and_die(self, 500);
		EXPECT_LE(n_removed(self), (uint64_t)MAX_DROPPED);
		n_pruned(self);
	}
	/* The oldest were given up; nobody needs to know. */
	EXPECT_EQ(n_removed(self), (uint64_t)MAX_DROPPED);
	EXPECT_EQ(getattr(self, last, &attr), -ESTALE);
	forget(self, last, 1);
	EXPECT_EQ(n_items(self), 0u);
}

/* --- ioctl --- */

static uint64_t send_ioctl(struct fixture_names *self, const struct created *file, uint32_t command,
			   const char *text, uint32_t flags)
{
	struct fuse_ioctl_in in = {.fh = file->open.fh, .flags = flags, .cmd = command};

	in.in_size = _IOC_DIR(command) & _IOC_WRITE ? _IOC_SIZE(command) : 0;
	in.out_size = _IOC_DIR(command) & _IOC_READ ? _IOC_SIZE(command) : 0;
	return raw_request_data(&self->raw, FUSE_IOCTL, file->entry.nodeid, &in, sizeof(in), text,
				in.in_size);
}

TEST_F(names, ioctl_of_a_document)
{
	struct {
		struct fuse_ioctl_out head;
		struct toy_box_bytes bytes;
	} out;
	struct created file;
	uint64_t u;

	ASSERT_EQ(create_in(self, self->box, "f", O_RDWR, &file), 0);
	u = send_ioctl(self, &file, TOY_BOX_SET, "1234567", 0);
	raw_body(&self->raw, u, sizeof(out.head));
	u = send_ioctl(self, &file, TOY_BOX_SWAP, "abcdefg", 0);
	memcpy(&out, raw_body(&self->raw, u, sizeof(out)), sizeof(out));
	EXPECT_EQ(out.head.result, 0);
	EXPECT_STREQ(out.bytes.text, "1234567");
	EXPECT_EQ(raw_error(&self->raw, send_ioctl(self, &file, _IO('T', 77), "", 0)), -ENOTTY);
	EXPECT_EQ(raw_error(&self->raw, send_ioctl(self, &file, TOY_BOX_CLEAR, "", FUSE_IOCTL_UNRESTRICTED)),
		  -ENOTTY);
	EXPECT_EQ(raw_error(&self->raw, send_ioctl(self, &file, TOY_BOX_CLEAR, "", FUSE_IOCTL_DIR)), -ENOTTY);
	file.open.fh++;
	EXPECT_EQ(raw_error(&self->raw, send_ioctl(self, &file, TOY_BOX_CLEAR, "", 0)), -EBADF);
}

TEST_HARNESS_MAIN
