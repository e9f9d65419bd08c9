/* SPDX-License-Identifier: MIT */
/*
 * The documents of the twin, its versions and changes: what each system call gives, and what the hub hears. The trees
 * are in test_flow_twin_tree.c.
 */

#include "tests/support/twin_files_line.h"

/* --- reading ---------------------------------------------------------------------------------- */

TEST_F(files, before_anything_is_known)
{
	struct open f;

	start(self, TIME_NEVER);
	EXPECT_STREQ(cat(&self->calls, "desired.json"), "ENODATA");
	EXPECT_STREQ(cat(&self->calls, "desired.version"), "ENODATA");
	EXPECT_STREQ(cat(&self->calls, "reported.version"), "ENODATA");
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n}\n");
	EXPECT_EQ(size_of(&self->calls, "desired.json"), 0u);
	EXPECT_EQ(echo(&self->calls, "{\"a\":1}\n", "reported.json"), 0);
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n  \"a\": 1\n}\n");
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "1\n");
	f = open_file(&self->calls, "desired.json", O_RDONLY);
	EXPECT_EQ(get_version(&self->calls, &f), 0u);
	EXPECT_FALSE(is_changed(&self->calls, &f));
	twin_line_online(&self->hub);
	ASSERT_STREQ(twin_line_next(&self->hub), "get");
	send_twin(self, EMPTY);
	EXPECT_TRUE(is_changed(&self->calls, &f));
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 1024), "{\n}\n");
	EXPECT_FALSE(is_changed(&self->calls, &f));
	EXPECT_EQ(get_version(&self->calls, &f), 1u);
	EXPECT_STREQ(cat(&self->calls, "desired.version"), "1\n");
	take(self, "patch {\"a\":1}", "2");
	EXPECT_STREQ(cat(&self->calls, "reported.version"), "2\n");
	close_file(&self->calls, &f);
}

TEST_F(files, what_was_fetched)
{
	struct fuse_entry_out entry = {0};

	start_with(self, "{\"desired\":{\"s\":\"a b\",\"n\":1.50,\"o\":{\"list\":[1,null],\"x/y%\":true,"
			 "\"e\":{}},\"$version\":7},\"reported\":{\"r\":false,\"$version\":3}}");
	EXPECT_STREQ(cat(&self->calls, "desired/s"), "a b\n");
	EXPECT_STREQ(cat(&self->calls, "desired/n"), "1.50\n");
	EXPECT_STREQ(cat(&self->calls, "desired/o/list"), "[1,null]\n");
	EXPECT_STREQ(cat(&self->calls, "desired/o/x%2Fy%25"), "true\n");
	EXPECT_STREQ(cat(&self->calls, "desired.version"), "7\n");
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n  \"r\": false\n}\n");
	EXPECT_EQ(size_of(&self->calls, "reported.json"), strlen(self->calls.text));
	EXPECT_EQ(size_of(&self->calls, "desired/o/list"), 9u);
	EXPECT_EQ(mode_of(&self->calls, "desired/s"), (mode_t)(S_IFREG | 0440));
	EXPECT_EQ(mode_of(&self->calls, "desired/o/e"), (mode_t)(S_IFDIR | 0550));
	EXPECT_EQ(mode_of(&self->calls, "reported/r"), (mode_t)(S_IFREG | 0660));
	EXPECT_EQ(mode_of(&self->calls, "reported"), (mode_t)(S_IFDIR | 0770));
	EXPECT_EQ(mode_of(&self->calls, "reported.json"), (mode_t)(S_IFREG | 0660));
	EXPECT_EQ(mode_of(&self->calls, ""), (mode_t)(S_IFDIR | 0555));
	/* It can go at any time. */
	lookup(&self->calls, node(&self->calls, "desired"), "s", &entry);
	EXPECT_EQ(entry.entry_valid, 0u);
}

TEST_F(files, one_read_is_one_version)
{
	struct open f;

	start_with(self, "{\"desired\":{\"a\":1,\"$version\":1},\"reported\":{\"$version\":1}}");
	f = open_file(&self->calls, "desired.json", O_RDONLY);
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 4), "{\n  ");
	send_desired(self, "2", "{\"a\":22222}");
	EXPECT_STREQ(read_at(&self->calls, &f, 4, 100), "\"a\": 1\n}\n");
	EXPECT_EQ(get_version(&self->calls, &f), 1u);
	EXPECT_STREQ(read_at(&self->calls, &f, 13, 100), "");
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 100), "{\n  \"a\": 22222\n}\n");
	EXPECT_EQ(get_version(&self->calls, &f), 2u);
	EXPECT_EQ(size_of(&self->calls, "desired.json"), strlen(self->calls.text));
	close_file(&self->calls, &f);
	/* The same of a leaf. */
	f = open_file(&self->calls, "desired/a", O_RDONLY);
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 2), "22");
	send_desired(self, "3", "{\"a\":3}");
	EXPECT_STREQ(read_at(&self->calls, &f, 2, 100), "222\n");
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 100), "3\n");
	close_file(&self->calls, &f);
}

TEST_F(files, exactly_what_changed_is_told)
{
	struct open a, b, doc, version, reported, gone;

	start_with(self, "{\"desired\":{\"o\":{\"a\":1,\"b\":2},\"c\":3,\"$version\":1},\"reported\":{\"$"
			 "version\":1}}");
	a = open_file(&self->calls, "desired/o/a", O_RDONLY);
	b = open_file(&self->calls, "desired/o/b", O_RDONLY);
	gone = open_file(&self->calls, "desired/c", O_RDONLY);
	doc = open_file(&self->calls, "desired.json", O_RDONLY);
	version = open_file(&self->calls, "desired.version", O_RDONLY);
	reported = open_file(&self->calls, "reported.json", O_RDONLY);
	EXPECT_STREQ(read_at(&self->calls, &gone, 0, 9), "3\n");
	send_desired(self, "2", "{\"o\":{\"a\":5,\"b\":2,\"new\":{\"x\":1}},\"c\":null}");
	EXPECT_TRUE(is_changed(&self->calls, &a));
	EXPECT_FALSE(is_changed(&self->calls, &b));
	EXPECT_TRUE(is_changed(&self->calls, &gone));
	EXPECT_TRUE(is_changed(&self->calls, &doc));
	EXPECT_TRUE(is_changed(&self->calls, &version));
	EXPECT_FALSE(is_changed(&self->calls, &reported));
	EXPECT_EQ(node(&self->calls, "desired/c"), 0u);
	EXPECT_STREQ(read_at(&self->calls, &gone, 0, 9), "3\n");
	EXPECT_STREQ(cat(&self->calls, "desired/o/new/x"), "1\n");
	/* A leaf becomes a directory, a directory a leaf. */
	send_desired(self, "3", "{\"o\":{\"a\":{\"b\":{}},\"new\":[]}}");
	EXPECT_NE(node(&self->calls, "desired/o/a/b"), 0u);
	EXPECT_STREQ(cat(&self->calls, "desired/o/new"), "[]\n");
	EXPECT_STREQ(read_at(&self->calls, &a, 0, 9), "5\n");
	close_file(&self->calls, &a);
	close_file(&self->calls, &b);
	close_file(&self->calls, &gone);
	close_file(&self->calls, &doc);
	close_file(&self->calls, &version);
	close_file(&self->calls, &reported);
}

TEST_F(files, changes)
{
	struct open f;
	uint64_t waiting;

	start_with(self, EMPTY);
	f = open_file(&self->calls, "changes", O_RDONLY);
	waiting = fuse_line_read(&self->calls.line, f.id, f.fh, 0, 0, 1024);
	EXPECT_EQ(fuse_line_result(&self->calls.line, waiting), FUSE_LINE_WAITS);
	send_desired(self, "2", "{\"a\":{\"b\":null}}");
	EXPECT_TRUE(bytes_equal_str(fuse_line_data(&self->calls.line, waiting),
				    "{\"version\":2,\"patch\":{\"a\":{\"b\":null}}}\n"));
	/* A gap: all is fetched. */
	send_desired(self, "9", "{}");
	ASSERT_STREQ(twin_line_next(&self->hub), "get");
	send_twin(self, "{\"desired\":{\"z\":1,\"$version\":9},\"reported\":{\"$version\":1}}");
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 1024), "{\"version\":9,\"desired\":{\"z\":1}}\n");
	close_file(&self->calls, &f);
}

TEST_F(files, keys_without_a_name)
{
	char key[301], patch[400];

	start_with(self, EMPTY);
	memset(key, 'k', 300);
	key[300] = '\0';
	snprintf(patch, sizeof(patch), "{\"%s\":1,\"short\":2}", key);
	send_desired(self, "2", patch);
	expect_event(&self->calls, "too long for a name");
	EXPECT_STREQ(cat(&self->calls, "desired/short"), "2\n");
	EXPECT_TRUE(strstr(cat(&self->calls, "desired.json"), key) != NULL);
	snprintf(patch, sizeof(patch), "{\"%s\":2}", key);
	send_desired(self, "3", patch);
	expect_event(&self->calls, NULL);
	snprintf(patch, sizeof(patch), "{\"%s\":null}", key);
	send_desired(self, "4", patch);
	EXPECT_STREQ(cat(&self->calls, "desired.json"), "{\n  \"short\": 2\n}\n");
}

TEST_F(files, only_the_hub_writes_there)
{
	int error;

	start_with(self,
		   "{\"desired\":{\"a\":1,\"o\":{},\"$version\":1},\"reported\":{\"r\":1,\"$version\":1}}");
	EXPECT_EQ(open_error(&self->calls, "desired.json", O_WRONLY), -EROFS);
	EXPECT_EQ(open_error(&self->calls, "desired.version", O_RDWR), -EROFS);
	EXPECT_EQ(open_error(&self->calls, "reported.version", O_RDWR), -EROFS);
	EXPECT_EQ(open_error(&self->calls, "desired/a", O_WRONLY), -EROFS);
	EXPECT_EQ(open_error(&self->calls, "desired/a", O_RDONLY | O_TRUNC), -EROFS);
	EXPECT_EQ(cut(&self->calls, "desired/a", NULL, 0), -EROFS);
	EXPECT_EQ(cut(&self->calls, "desired.json", NULL, 0), -EROFS);
	EXPECT_EQ(make_dir(&self->calls, "desired", "x"), -EROFS);
	create(&self->calls, "desired", "x", &error);
	EXPECT_EQ(error, -EROFS);
	EXPECT_EQ(remove_name(&self->calls, FUSE_UNLINK, "desired", "a"), -EROFS);
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "desired", "o"), -EROFS);
	EXPECT_EQ(move(&self->calls, "desired", "a", "desired", "b"), -EROFS);
	EXPECT_EQ(move(&self->calls, "desired", "a", "reported", "b"), -EXDEV);
	EXPECT_EQ(move(&self->calls, "reported", "r", "desired", "b"), -EXDEV);
	EXPECT_EQ(make_dir(&self->calls, "", "x"), -EPERM);
}

/* --- reported.json ---------------------------------------------------------------------------- */

TEST_F(files, documents_in_pieces)
{
	struct open f;

	start_with(self, EMPTY);
	f = open_file(&self->calls, "reported.json", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "{\n"), 0);
	EXPECT_EQ(put(&self->calls, &f, 2, " \"a\": {\"b\""), 0);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(put(&self->calls, &f, 12, ":1}}"), 0);
	EXPECT_STREQ(cat(&self->calls, "reported/a/b"), "1\n");
	EXPECT_EQ(put(&self->calls, &f, 16, "\n"), 0);
	take(self, "patch {\"a\":{\"b\":1}}", "2");
	/* Several, and the beginning of one. */
	EXPECT_EQ(put(&self->calls, &f, 17, "{\"c\":1} {\"a\":null}\n{\"d\""), 0);
	take(self, "patch {\"a\":null,\"c\":1}", "3");
	EXPECT_EQ(cut(&self->calls, NULL, &f, 0), 0);
	EXPECT_EQ(put(&self->calls, &f, 0, ":2}"), 0);
	take(self, "patch {\"d\":2}", "4");
	expect_event(&self->calls, NULL);
	EXPECT_EQ(put(&self->calls, &f, 0, "{"), 0);
	close_file(&self->calls, &f);
	expect_event(&self->calls, "closed before its end");
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n  \"c\": 1,\n  \"d\": 2\n}\n");
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
		EXPECT_EQ(echo(&self->calls, texts[i], "reported.json"), -EINVAL);
		expect_event(&self->calls, "\"file\":\"twin/reported.json\"");
	}
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n}\n");
	/* What was collected is dropped with what was wrong. */
	f = open_file(&self->calls, "reported.json", O_WRONLY);
	EXPECT_EQ(put(&self->calls, &f, 0, "{\"a\":"), 0);
	EXPECT_EQ(put(&self->calls, &f, 0, "x"), -EINVAL);
	EXPECT_EQ(put(&self->calls, &f, 0, "{\"b\":1}"), 0);
	close_file(&self->calls, &f);
	take(self, "patch {\"b\":1}", "2");
	snprintf(big, sizeof(big), "{\"a\":\"%04200d\"}", 0);
	EXPECT_EQ(echo(&self->calls, big, "reported.json"), -EMSGSIZE);
	expect_event(&self->calls, "4096");
}

TEST_F(files, too_long_for_a_document)
{
	_cleanup_(free_ptr) char *piece = malloc(100001);
	struct open f;

	start_with(self, EMPTY);
	memset(piece, ' ', 100000);
	piece[0] = '{';
	piece[100000] = '\0';
	f = open_file(&self->calls, "reported.json", O_WRONLY);
	EXPECT_EQ(put(&self->calls, &f, 0, piece), 0);
	piece[0] = ' ';
	EXPECT_EQ(put(&self->calls, &f, 0, piece), 0);
	EXPECT_EQ(put(&self->calls, &f, 0, piece), -EMSGSIZE);
	expect_event(&self->calls, "too long");
	EXPECT_EQ(put(&self->calls, &f, 0, "{\"a\":1}"), 0);
	take(self, "patch {\"a\":1}", "2");
	close_file(&self->calls, &f);
}

/* --- waiting ---------------------------------------------------------------------------------- */

TEST_F(files, synchronous)
{
	struct open f;
	uint64_t unique;

	start_with(self, EMPTY);
	f = open_file(&self->calls, "reported.json", O_WRONLY | O_SYNC);
	unique = put_at(&self->calls, &f, 0, "{\"a\":1}\n");
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), FUSE_LINE_WAITS);
	take(self, "patch {\"a\":1}", "2");
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), 0);
	EXPECT_EQ(get_version(&self->calls, &f), 2u);
	/* Refused for good: once, here. */
	unique = put_at(&self->calls, &f, 0, "{\"a\":2}\n");
	EXPECT_STREQ(twin_line_next(&self->hub), "patch {\"a\":2}");
	twin_line_respond(&self->hub, "0102", NULL, BYTES(NULL, 0));
	twin_line_turn(&self->hub);
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), -EPERM);
	expect_event(&self->calls, "because");
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "1\n");
	EXPECT_EQ(fuse_line_result(&self->calls.line, fuse_line_fsync(&self->calls.line, f.id, f.fh)), 0);
	close_file(&self->calls, &f);
	/* A leaf waits in the same way; what is not complete does not. */
	f = open_file(&self->calls, "reported/a", O_WRONLY | O_TRUNC | O_SYNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "["), 0);
	unique = put_at(&self->calls, &f, 1, "3]");
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), FUSE_LINE_WAITS);
	take(self, "patch {\"a\":[3]}", "3");
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), 0);
	close_file(&self->calls, &f);
}

TEST_F(files, fsync_waits_for_all)
{
	struct open f;
	uint64_t unique;

	start_with(self, EMPTY);
	f = open_file(&self->calls, "reported.json", O_WRONLY);
	EXPECT_EQ(fuse_line_result(&self->calls.line, fuse_line_fsync(&self->calls.line, f.id, f.fh)), 0);
	EXPECT_EQ(put(&self->calls, &f, 0, "{\"a\":1}"), 0);
	EXPECT_STREQ(twin_line_next(&self->hub), "patch {\"a\":1}");
	EXPECT_EQ(put(&self->calls, &f, 0, "{\"b\":1}"), 0);
	unique = fuse_line_fsync(&self->calls.line, f.id, f.fh);
	twin_line_respond(&self->hub, "0100", NULL, BYTES(NULL, 0));
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), FUSE_LINE_WAITS);
	/* Another request of the same file does not wait as well. */
	EXPECT_EQ(fuse_line_result(&self->calls.line, fuse_line_fsync(&self->calls.line, f.id, f.fh)),
		  -EBUSY);
	take(self, "patch {\"b\":1}", "2");
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), -EINVAL);
	EXPECT_EQ(fuse_line_result(&self->calls.line, fuse_line_fsync(&self->calls.line, f.id, f.fh)), 0);
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n  \"b\": 1\n}\n");
	close_file(&self->calls, &f);
}

TEST_F(files, nobody_waits_for_ever)
{
	struct open f;
	uint64_t unique;

	start(self, 20 * NSEC_PER_MSEC);
	f = open_file(&self->calls, "reported.json", O_WRONLY | O_SYNC);
	unique = put_at(&self->calls, &f, 0, "{\"a\":1}");
	while (fuse_line_result(&self->calls.line, unique) == FUSE_LINE_WAITS)
		ASSERT_EQ(loop_turn(self->hub.hub.loop, TIME_NEVER), 0);
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), -ETIMEDOUT);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "1\n");
	unique = put_at(&self->calls, &f, 0, "{\"b\":1}");
	fuse_line_interrupt(&self->calls.line, unique);
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), -EINTR);
	close_file(&self->calls, &f);
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
	f = open_file(&self->calls, "reported.json", O_RDWR | O_SYNC);
	EXPECT_EQ(get_version(&self->calls, &f), 1u);
	EXPECT_EQ(set_if_version(&self->calls, &f, 1), 0);
	unique = put_at(&self->calls, &f, 0, "{\"a\":1}");
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n}\n");
	take(self, "patch if 1 {\"a\":1}", "2");
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), 0);
	EXPECT_EQ(get_version(&self->calls, &f), 2u);
	unique = put_at(&self->calls, &f, 0, "{\"a\":2}");
	EXPECT_STREQ(twin_line_next(&self->hub), "patch if 1 {\"a\":2}");
	twin_line_respond(&self->hub, "0104", NULL, BYTES(NULL, 0));
	twin_line_turn(&self->hub);
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), -ESTALE);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "1\n");
	EXPECT_EQ(set_if_version(&self->calls, &f, 0), 0);
	unique = put_at(&self->calls, &f, 0, "{\"a\":3}");
	take(self, "patch {\"a\":3}", "3");
	EXPECT_EQ(fuse_line_result(&self->calls.line, unique), 0);
	close_file(&self->calls, &f);
	other = open_file(&self->calls, "desired.json", O_RDONLY);
	EXPECT_EQ(set_if_version(&self->calls, &other, 1), -EINVAL);
	close_file(&self->calls, &other);
	other = open_file(&self->calls, "reported/a", O_WRONLY);
	EXPECT_EQ(set_if_version(&self->calls, &other, 1), -ENOTTY);
	close_file(&self->calls, &other);
}

TEST_HARNESS_MAIN
