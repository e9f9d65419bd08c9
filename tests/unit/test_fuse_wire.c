/* SPDX-License-Identifier: MIT */
/*
 * The FUSE wire format: which requests are taken, how INIT is answered, and the bytes of replies.
 */

#include <sys/stat.h>

#include "base/cleanup.h"
#include "fuse/wire.h"
#include "tests/harness.h"

struct builder {
	uint8_t data[1024];
	size_t len;
};

static void put(struct builder *b, const void *src, size_t len)
{
	memcpy(b->data + b->len, src, len);
	b->len += len;
}

static struct builder begin(uint32_t opcode)
{
	struct fuse_in_header header = {
		.opcode = opcode, .unique = 2, .nodeid = 1, .uid = 3, .gid = 4, .pid = 5};
	struct builder b = {.len = 0};

	put(&b, &header, sizeof(header));
	return b;
}

/* Sets the header's length to what is there, then parses. */
static int parse(struct fuse_wire_request *out, struct builder *b)
{
	uint32_t len = (uint32_t)b->len;

	memcpy(b->data, &len, sizeof(len));
	return fuse_wire_parse(out, BYTES(b->data, b->len));
}

TEST(header_is_read)
{
	struct builder b = begin(FUSE_STATFS);
	struct fuse_wire_request request;

	ASSERT_EQ(parse(&request, &b), 0);
	EXPECT_EQ(request.header.opcode, (uint32_t)FUSE_STATFS);
	EXPECT_EQ(request.header.unique, 2u);
	EXPECT_EQ(request.header.nodeid, 1u);
	EXPECT_EQ(request.header.pid, 5u);
}

TEST(short_header_and_wrong_length_cannot_be_answered)
{
	struct builder b = begin(FUSE_STATFS);
	struct fuse_wire_request request;
	uint32_t len = 41;

	EXPECT_EQ(fuse_wire_parse(&request, BYTES(b.data, 0)), -EBADMSG);
	EXPECT_EQ(fuse_wire_parse(&request, BYTES(b.data, 39)), -EBADMSG);
	memcpy(b.data, &len, sizeof(len));
	EXPECT_EQ(fuse_wire_parse(&request, BYTES(b.data, 40)), -EBADMSG);
	len = 39;
	memcpy(b.data, &len, sizeof(len));
	EXPECT_EQ(fuse_wire_parse(&request, BYTES(b.data, 40)), -EBADMSG);
}

/* Every opcode with a structure is refused when one byte of it is missing. */
TEST(short_structures_are_invalid)
{
	static const struct {
		uint32_t opcode;
		size_t size;
	} ops[] = {
		{FUSE_FORGET, 8},      {FUSE_BATCH_FORGET, 8}, {FUSE_GETATTR, 16},  {FUSE_SETATTR, 88},
		{FUSE_OPEN, 8},        {FUSE_OPENDIR, 8},      {FUSE_READ, 40},     {FUSE_READDIR, 40},
		{FUSE_WRITE, 40},      {FUSE_RELEASE, 24},     {FUSE_FSYNC, 16},    {FUSE_POLL, 24},
		{FUSE_RELEASEDIR, 24}, {FUSE_FSYNCDIR, 16},    {FUSE_INTERRUPT, 8}, {FUSE_FLUSH, 24},
		{FUSE_IOCTL, 32},
	};
	static const uint8_t zeros[128];

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct builder full = begin(ops[i].opcode), cut = begin(ops[i].opcode);
		struct fuse_wire_request request;

		put(&full, zeros, ops[i].size);
		put(&cut, zeros, ops[i].size - 1);
		EXPECT_EQ(parse(&request, &full), 0);
		EXPECT_EQ(parse(&request, &cut), -EINVAL);
		EXPECT_EQ(request.header.unique, 2u);
	}
}

TEST(names_end_with_the_only_nul)
{
	static const struct {
		const char *name;
		size_t len;
		int result;
	} rows[] = {
		{"status", 7, 0}, {"status", 6, -EINVAL},    {"", 1, -EINVAL},
		{"", 0, -EINVAL}, {"sta\0us\0", 7, -EINVAL}, {"a\0\0", 3, -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct builder b = begin(FUSE_LOOKUP);
		struct fuse_wire_request request;

		put(&b, rows[i].name, rows[i].len);
		EXPECT_EQ(parse(&request, &b), rows[i].result);
		if (rows[i].result == 0)
			EXPECT_TRUE(bytes_equal_str(request.name, rows[i].name));
	}
}

TEST(written_data_is_as_long_as_announced)
{
	for (uint32_t size = 3; size <= 5; size++) {
		struct builder b = begin(FUSE_WRITE);
		struct fuse_write_in in = {.size = size};
		struct fuse_wire_request request;

		put(&b, &in, sizeof(in));
		put(&b, "abcd", 4);
		EXPECT_EQ(parse(&request, &b), size == 4 ? 0 : -EINVAL);
		if (size == 4)
			EXPECT_TRUE(bytes_equal_str(request.data, "abcd"));
	}
}

TEST(names_follow_their_structure)
{
	static const struct {
		uint32_t opcode;
		size_t size;
	} rows[] = {{FUSE_MKDIR, 8}, {FUSE_CREATE, 16}, {FUSE_UNLINK, 0}, {FUSE_RMDIR, 0}};
	static const uint8_t zeros[16];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct builder full = begin(rows[i].opcode), none = begin(rows[i].opcode);
		struct fuse_wire_request request;

		put(&full, zeros, rows[i].size);
		put(&full, "name", 5);
		put(&none, zeros, rows[i].size);
		ASSERT_EQ(parse(&request, &full), 0);
		EXPECT_TRUE(bytes_equal_str(request.name, "name"));
		EXPECT_EQ(request.name.data[request.name.len], 0);
		EXPECT_EQ(parse(&request, &none), -EINVAL);
	}
}

TEST(two_names_of_a_rename)
{
	static const struct {
		const char *names;
		size_t len;
		int result;
	} rows[] = {
		{"old\0new", 8, 0},       {"old\0new", 7, -EINVAL}, {"old", 4, -EINVAL},
		{"old\0\0", 5, -EINVAL},  {"\0new", 5, -EINVAL},    {"a\0b\0c", 6, -EINVAL},
		{"a\0b\0\0", 5, -EINVAL}, {"", 0, -EINVAL},
	};
	static const uint32_t opcodes[] = {FUSE_RENAME, FUSE_RENAME2};
	struct fuse_rename2_in in = {.newdir = 9, .flags = 5};

	for (size_t i = 0; i < ARRAY_SIZE(rows) * 2; i++) {
		struct builder b = begin(opcodes[i % 2]);
		struct fuse_wire_request request;

		put(&b, &in, i % 2 ? sizeof(in) : sizeof(struct fuse_rename_in));
		put(&b, rows[i / 2].names, rows[i / 2].len);
		EXPECT_EQ(parse(&request, &b), rows[i / 2].result);
		if (rows[i / 2].result != 0)
			continue;
		EXPECT_TRUE(bytes_equal_str(request.name, "old"));
		EXPECT_TRUE(bytes_equal_str(request.new_name, "new"));
		EXPECT_EQ(request.rename.newdir, 9u);
		EXPECT_EQ(request.rename.flags, i % 2 ? 5u : 0u);
	}
}

TEST(ioctl_data_is_as_long_as_announced)
{
	for (uint32_t size = 3; size <= 5; size++) {
		struct builder b = begin(FUSE_IOCTL);
		struct fuse_ioctl_in in = {.in_size = size};
		struct fuse_wire_request request;

		put(&b, &in, sizeof(in));
		put(&b, "abcd", 4);
		EXPECT_EQ(parse(&request, &b), size == 4 ? 0 : -EINVAL);
		if (size == 4)
			EXPECT_TRUE(bytes_equal_str(request.data, "abcd"));
	}
}

TEST(batch_forget_count_is_checked)
{
	static const uint32_t counts[] = {0, 2, 3, UINT32_MAX};
	static const int results[] = {0, 0, -EINVAL, -EINVAL};

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct builder b = begin(FUSE_BATCH_FORGET);
		struct fuse_batch_forget_in in = {.count = counts[i]};
		struct fuse_forget_one ones[2] = {{7, 1}, {8, 2}};
		struct fuse_wire_request request;

		put(&b, &in, sizeof(in));
		put(&b, ones, sizeof(ones));
		ASSERT_EQ(parse(&request, &b), results[i]);
		if (counts[i] == 2)
			EXPECT_EQ(fuse_wire_forget_one(&request, 1).nodeid, 8u);
	}
}

TEST(extensions_are_cut_off)
{
	struct builder b = begin(FUSE_LOOKUP);
	struct fuse_wire_request request;
	uint16_t n = 1;

	put(&b, "doc", 4);
	put(&b, "12345678", 8);
	memcpy(b.data + offsetof(struct fuse_in_header, total_extlen), &n, sizeof(n));
	ASSERT_EQ(parse(&request, &b), 0);
	EXPECT_TRUE(bytes_equal_str(request.name, "doc"));
	n = 2;
	memcpy(b.data + offsetof(struct fuse_in_header, total_extlen), &n, sizeof(n));
	EXPECT_EQ(parse(&request, &b), -EINVAL);
}

TEST(init_of_a_kernel_before_7_36_is_short)
{
	struct fuse_init_in in = {.major = 7, .minor = 31, .flags = FUSE_BIG_WRITES, .flags2 = 0xffffffff};
	struct builder b = begin(FUSE_INIT), cut = begin(FUSE_INIT);
	struct fuse_wire_request request;

	put(&b, &in, 16);
	ASSERT_EQ(parse(&request, &b), 0);
	EXPECT_EQ(request.init.minor, 31u);
	EXPECT_EQ(request.init.flags2, 0u);
	put(&cut, &in, 15);
	EXPECT_EQ(parse(&request, &cut), -EINVAL);
}

TEST(init_takes_what_both_have)
{
	struct fuse_init_in in = {
		.major = 7, .minor = 45, .max_readahead = 131072, .flags = ~0u, .flags2 = ~0u};
	struct fuse_init_out out;
	uint64_t flags;

	ASSERT_EQ(fuse_wire_init(&in, 256, &out), 0);
	flags = out.flags | (uint64_t)out.flags2 << 32;
	EXPECT_EQ(out.major, 7u);
	EXPECT_EQ(out.minor, (uint32_t)FUSE_KERNEL_MINOR_VERSION);
	EXPECT_EQ(out.max_write, 266240u);
	EXPECT_GE(out.max_pages * (uint32_t)sysconf(_SC_PAGESIZE), out.max_write + 1);
	EXPECT_TRUE(flags & FUSE_ATOMIC_O_TRUNC);
	EXPECT_TRUE(flags & FUSE_HANDLE_KILLPRIV_V2);
	EXPECT_TRUE(flags & FUSE_HAS_RESEND);
	EXPECT_FALSE(flags & FUSE_REQUEST_TIMEOUT);
	EXPECT_FALSE(flags & FUSE_OVER_IO_URING);
	EXPECT_FALSE(flags & FUSE_WRITEBACK_CACHE);
	EXPECT_FALSE(flags & FUSE_POSIX_LOCKS);

	ASSERT_EQ(fuse_wire_init(&in, 32, &out), 0);
	EXPECT_EQ(out.max_pages, 32);
}

TEST(init_offers_nothing_the_kernel_lacks)
{
	struct fuse_init_in in = {
		.major = 7, .minor = 31, .flags = FUSE_BIG_WRITES | FUSE_ASYNC_READ, .flags2 = ~0u};
	struct fuse_init_out out;

	ASSERT_EQ(fuse_wire_init(&in, 256, &out), 0);
	EXPECT_EQ(out.minor, 31u);
	EXPECT_EQ(out.flags, (uint32_t)FUSE_BIG_WRITES);
	EXPECT_EQ(out.flags2, 0u);
	EXPECT_EQ(out.max_pages, 0);
}

TEST(init_versions)
{
	static const struct {
		uint32_t major, minor;
		int result;
	} rows[] = {{7, 22, -EPROTO}, {7, 23, 0}, {6, 40, -EPROTO}, {8, 0, 1}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fuse_init_in in = {.major = rows[i].major, .minor = rows[i].minor};
		struct fuse_init_out out;

		EXPECT_EQ(fuse_wire_init(&in, 256, &out), rows[i].result);
		if (rows[i].result == 1)
			EXPECT_EQ(out.major, 7u);
	}
}

TEST(messages)
{
	struct fuse_wire_message m;

	fuse_wire_reply(&m, 10, BYTES_LIT("abc"));
	EXPECT_EQ(m.n_iov, 2);
	EXPECT_EQ(m.header.len, 19u);
	EXPECT_EQ(m.header.error, 0);
	EXPECT_EQ(m.header.unique, 10u);
	fuse_wire_reply_parts(&m, 10, BYTES_LIT("head"), BYTES_LIT("data"));
	EXPECT_EQ(m.n_iov, 3);
	EXPECT_EQ(m.header.len, 24u);
	fuse_wire_reply_parts(&m, 10, BYTES_LIT("head"), BYTES(NULL, 0));
	EXPECT_EQ(m.n_iov, 2);
	fuse_wire_error(&m, 12, -EIO);
	EXPECT_EQ(m.n_iov, 1);
	EXPECT_EQ(m.header.len, 16u);
	EXPECT_EQ(m.header.error, -EIO);
	fuse_wire_notify(&m, FUSE_NOTIFY_POLL, BYTES_LIT("12345678"));
	EXPECT_EQ(m.header.unique, 0u);
	EXPECT_EQ(m.header.error, (int)FUSE_NOTIFY_POLL);
}

TEST(directory_entries_are_aligned_and_whole)
{
	uint8_t space[80];
	struct writer w = writer_init(space, sizeof(space));
	struct fuse_dirent head;

	EXPECT_TRUE(fuse_wire_dirent(&w, 9, 3, S_IFREG, BYTES_LIT("status")));
	EXPECT_EQ(writer_len(&w), 32u);
	EXPECT_TRUE(fuse_wire_dirent(&w, 9, 4, S_IFDIR, BYTES_LIT("12345678")));
	EXPECT_EQ(writer_len(&w), 64u);
	EXPECT_FALSE(fuse_wire_dirent(&w, 9, 5, S_IFDIR, BYTES_LIT("a")));
	EXPECT_EQ(writer_len(&w), 64u);
	memcpy(&head, space + 32, sizeof(head));
	EXPECT_EQ(head.ino, 9u);
	EXPECT_EQ(head.off, 4u);
	EXPECT_EQ(head.namelen, 8u);
	EXPECT_EQ(head.type, 4u); /* DT_DIR */
}

TEST(forgets_and_interrupts_are_not_answered)
{
	EXPECT_FALSE(fuse_wire_is_answered(FUSE_FORGET));
	EXPECT_FALSE(fuse_wire_is_answered(FUSE_BATCH_FORGET));
	EXPECT_FALSE(fuse_wire_is_answered(FUSE_INTERRUPT));
	EXPECT_TRUE(fuse_wire_is_answered(FUSE_READ));
}

TEST_HARNESS_MAIN
