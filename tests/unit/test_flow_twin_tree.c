/* SPDX-License-Identifier: MIT */
/* The reported tree: what is written, made, moved and removed there, and what the hub hears of it. */

#include <json-c/json.h>

#include "flow/key_name.h"
#include "flow/twin_tree_internal.h"
#include "tests/support/twin_files_line.h"

/* --- leaves ----------------------------------------------------------------------------------- */

TEST_F(files, leaves)
{
	struct open f;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":\"x\",\"$version\":1}}");
	EXPECT_EQ(echo(&self->calls, "5\n", "reported/a"), 0);
	take(self, "patch {\"a\":5}", "2");
	/* A newline of its own changes nothing. */
	f = open_file(&self->calls, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "text"), 0);
	EXPECT_EQ(put(&self->calls, &f, 4, "\n"), 0);
	take(self, "patch {\"a\":\"text\"}", "3");
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(put(&self->calls, &f, 5, "more\n"), 0);
	take(self, "patch {\"a\":\"text\\nmore\"}", "4");
	close_file(&self->calls, &f);
	/* >> */
	f = open_file(&self->calls, "reported/a", O_WRONLY | O_APPEND);
	EXPECT_EQ(put(&self->calls, &f, 0, "end\n"), 0);
	take(self, "patch {\"a\":\"text\\nmore\\nend\"}", "5");
	close_file(&self->calls, &f);
	f = open_file(&self->calls, "reported/a", O_RDWR);
	EXPECT_EQ(put(&self->calls, &f, 0, "TEXT"), 0);
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 5), "TEXT\n");
	EXPECT_EQ(put(&self->calls, &f, 100, "hole"), -EINVAL);
	EXPECT_EQ(cut(&self->calls, NULL, &f, 100), -EINVAL);
	EXPECT_EQ(cut(&self->calls, NULL, &f, 2), 0);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "TE\n");
	EXPECT_EQ(cut(&self->calls, "reported/a", NULL, 1), 0);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "T\n");
	EXPECT_EQ(cut(&self->calls, "reported/a", NULL, 100), -EINVAL);
	EXPECT_EQ(cut(&self->calls, "reported/a", NULL, 0), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "\n");
	take(self, "patch {\"a\":\"\"}", "6");
	/* > alone. */
	EXPECT_EQ(echo(&self->calls, "7", "reported/a"), 0);
	f = open_file(&self->calls, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "7\n");
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "\n");
	/* Opened and closed. */
	twin_line_next(&self->hub);
	f = open_file(&self->calls, "reported/a", O_WRONLY);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "\n");
}

TEST_F(files, leaves_that_wait)
{
	struct open f;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":1}}");
	f = open_file(&self->calls, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "[1,\n"), 0);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "1\n");
	EXPECT_EQ(put(&self->calls, &f, 4, "2]\n"), 0);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "[1,2]\n");
	close_file(&self->calls, &f);
	f = open_file(&self->calls, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "[1,\n"), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "[1,\n");
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n  \"a\": \"[1,\"\n}\n");
}

TEST_F(files, leaves_that_are_refused)
{
	char big[4200];
	struct open f;
	int error;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":1}}");
	memset(big, 'x', 4097);
	big[4097] = '\0';
	EXPECT_EQ(echo(&self->calls, big, "reported/a"), -EMSGSIZE);
	expect_event(&self->calls, "\"file\":\"twin/reported/a\"");
	EXPECT_EQ(echo(&self->calls, "\xff", "reported/a"), -EINVAL);
	expect_event(&self->calls, "UTF-8");
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "1\n");
	/* What was never written well is not there. */
	f = create(&self->calls, "reported", "b", &error);
	ASSERT_EQ(error, 0);
	EXPECT_EQ(put(&self->calls, &f, 0, big), -EMSGSIZE);
	EXPECT_NE(node(&self->calls, "reported/b"), 0u);
	close_file(&self->calls, &f);
	EXPECT_EQ(node(&self->calls, "reported/b"), 0u);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
}

TEST_F(files, leaves_that_go)
{
	struct open f;

	start_with(self,
		   "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"b\":2,\"c\":3,\"$version\":1}}");
	f = open_file(&self->calls, "reported/a", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "null"), 0);
	EXPECT_EQ(node(&self->calls, "reported/a"), 0u);
	EXPECT_EQ(put(&self->calls, &f, 4, "\n"), 0);
	EXPECT_EQ(put(&self->calls, &f, 5, "x"), -ESTALE);
	close_file(&self->calls, &f);
	f = open_file(&self->calls, "reported/b", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "{\"x\":"), 0);
	EXPECT_EQ(put(&self->calls, &f, 5, "{}}"), 0);
	EXPECT_NE(node(&self->calls, "reported/b/x"), 0u);
	EXPECT_EQ(put(&self->calls, &f, 8, "\n"), 0);
	close_file(&self->calls, &f);
	/* Somebody else takes it away. */
	f = open_file(&self->calls, "reported/c", O_RDWR);
	EXPECT_EQ(remove_name(&self->calls, FUSE_UNLINK, "reported", "c"), 0);
	EXPECT_STREQ(read_at(&self->calls, &f, 0, 9), "3\n");
	EXPECT_EQ(put(&self->calls, &f, 0, "\n"), -ESTALE);
	EXPECT_EQ(cut(&self->calls, NULL, &f, 0), -ESTALE);
	close_file(&self->calls, &f);
	take(self, "patch {\"a\":null,\"b\":{\"x\":{}},\"c\":null}", "2");
}

/* --- names ------------------------------------------------------------------------------------ */

TEST_F(files, create_and_touch)
{
	struct open f;
	int error;

	start_with(self, EMPTY);
	f = create(&self->calls, "reported", "a%2Fb", &error);
	ASSERT_EQ(error, 0);
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n}\n");
	/* Who looks at it does not make it. */
	EXPECT_STREQ(cat(&self->calls, "reported/a%2Fb"), "");
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(put(&self->calls, &f, 0, "1"), 0);
	close_file(&self->calls, &f);
	take(self, "patch {\"a/b\":1}", "2");
	f = create(&self->calls, "reported", "t", &error);
	close_file(&self->calls, &f);
	take(self, "patch {\"t\":\"\"}", "3");
	/* The property comes from elsewhere meanwhile. */
	f = create(&self->calls, "reported", "u", &error);
	EXPECT_EQ(echo(&self->calls, "{\"u\":7}", "reported.json"), 0);
	EXPECT_STREQ(cat(&self->calls, "reported/u"), "7\n");
	EXPECT_EQ(put(&self->calls, &f, 0, "8"), 0);
	close_file(&self->calls, &f);
	take(self, "patch {\"u\":8}", "4");
	/* Created and removed. */
	f = create(&self->calls, "reported", "v", &error);
	EXPECT_EQ(remove_name(&self->calls, FUSE_UNLINK, "reported", "v"), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	expect_event(&self->calls, NULL);
}

TEST_F(files, names_of_no_key)
{
	static const char *const names[] = {"a b", "a.b", "$a", "%", "%2E", "a%", "%2f", "\x01", "a\xff"};
	int error;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":1}}");
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		create(&self->calls, "reported", names[i], &error);
		EXPECT_EQ(error, -EINVAL);
		expect_event(&self->calls, "refused");
		EXPECT_EQ(make_dir(&self->calls, "reported", names[i]), -EINVAL);
		expect_event(&self->calls, "refused");
		EXPECT_EQ(move(&self->calls, "reported", "a", "reported", names[i]), -EINVAL);
		expect_event(&self->calls, "refused");
	}
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "1\n");
}

TEST_F(files, directories)
{
	char path[64] = "reported", name[] = "l";
	struct open f;
	int error;

	start_with(self, EMPTY);
	EXPECT_EQ(make_dir(&self->calls, "reported", "d"), 0);
	EXPECT_EQ(make_dir(&self->calls, "reported", "d"), -EEXIST);
	f = create(&self->calls, "reported/d", "x", &error);
	/* With a file that is no property yet, too. */
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "reported", "d"), -ENOTEMPTY);
	EXPECT_EQ(put(&self->calls, &f, 0, "1"), 0);
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "reported", "d"), -ENOTEMPTY);
	take(self, "patch {\"d\":{\"x\":1}}", "2");
	EXPECT_EQ(remove_name(&self->calls, FUSE_UNLINK, "reported/d", "x"), 0);
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "reported", "d"), 0);
	EXPECT_EQ(put(&self->calls, &f, 0, "2"), -ESTALE);
	close_file(&self->calls, &f);
	take(self, "patch {\"d\":null}", "3");
	/* As deep as a twin can be. */
	for (int i = 0; i < 10; ++i) {
		EXPECT_EQ(make_dir(&self->calls, path, name), 0);
		strcat(path, "/l");
	}
	EXPECT_EQ(make_dir(&self->calls, path, name), -EINVAL);
	expect_event(&self->calls, "levels");
	f = create(&self->calls, path, "leaf", &error);
	EXPECT_EQ(error, 0);
	EXPECT_EQ(put(&self->calls, &f, 0, "1"), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "reported/l/l/l/l/l/l/l/l/l/l/leaf"), "1\n");
}

TEST_F(files, renames)
{
	struct open f;
	int error;

	start_with(self,
		   "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"b\":2,\"d\":{\"x\":{\"y\":1}},"
		   "\"e\":{},\"$version\":1}}");
	f = open_file(&self->calls, "reported/a", O_WRONLY);
	EXPECT_EQ(move(&self->calls, "reported", "a", "reported/d", "z"), 0);
	EXPECT_EQ(node(&self->calls, "reported/a"), 0u);
	EXPECT_STREQ(cat(&self->calls, "reported/d/z"), "1\n");
	take(self, "patch {\"a\":null,\"d\":{\"z\":1}}", "2");
	/* The open file went with it. */
	EXPECT_EQ(put(&self->calls, &f, 0, "9"), 0);
	take(self, "patch {\"d\":{\"z\":9}}", "3");
	close_file(&self->calls, &f);
	EXPECT_EQ(move(&self->calls, "reported/d", "z", "reported", "b"), 0);
	EXPECT_STREQ(cat(&self->calls, "reported/b"), "9\n");
	take(self, "patch {\"b\":9,\"d\":{\"z\":null}}", "4");
	EXPECT_EQ(move(&self->calls, "reported", "e", "reported", "d"), -ENOTEMPTY);
	EXPECT_EQ(move(&self->calls, "reported", "d", "reported", "e"), 0);
	EXPECT_EQ(node(&self->calls, "reported/d"), 0u);
	EXPECT_STREQ(cat(&self->calls, "reported/e/x/y"), "1\n");
	take(self, "patch {\"d\":null,\"e\":{\"x\":{\"y\":1}}}", "5");
	/* What is no property yet. */
	f = create(&self->calls, "reported", "new", &error);
	EXPECT_EQ(move(&self->calls, "reported", "new", "reported/e", "new2"), 0);
	EXPECT_STREQ(twin_line_next(&self->hub), "");
	EXPECT_EQ(move(&self->calls, "reported/e", "new2", "reported", "b"), 0);
	take(self, "patch {\"b\":null}", "6");
	EXPECT_NE(node(&self->calls, "reported/b"), 0u);
	EXPECT_EQ(put(&self->calls, &f, 0, "8"), 0);
	close_file(&self->calls, &f);
	take(self, "patch {\"b\":8}", "7");
	EXPECT_STREQ(cat(&self->calls, "reported.json"),
		     "{\n  \"e\": {\n    \"x\": {\n      \"y\": 1\n    }\n  },\n  \"b\": 8\n}\n");
}

/* What editors and sed -i do: a file beside it, and a rename over it. */
TEST_F(files, an_editor_saves)
{
	struct open old, f;
	int error;

	start_with(self, "{\"desired\":{\"$version\":1},\"reported\":{\"a\":\"old\",\"$version\":1}}");
	old = open_file(&self->calls, "reported/a", O_RDONLY);
	f = create(&self->calls, "reported", "sedXyz", &error);
	EXPECT_EQ(put(&self->calls, &f, 0, "new\n"), 0);
	close_file(&self->calls, &f);
	EXPECT_EQ(move(&self->calls, "reported", "sedXyz", "reported", "a"), 0);
	EXPECT_TRUE(is_changed(&self->calls, &old));
	EXPECT_STREQ(read_at(&self->calls, &old, 0, 9), "old\n");
	close_file(&self->calls, &old);
	EXPECT_STREQ(cat(&self->calls, "reported/a"), "new\n");
	take(self, "patch {\"a\":\"new\",\"sedXyz\":null}", "2");
	EXPECT_STREQ(cat(&self->calls, "reported.json"), "{\n  \"a\": \"new\"\n}\n");
}

/* --- whatever happens ------------------------------------------------------------------------- */

struct pair {
	struct fuse_node *node;
	const struct json_object *object;
};

/* The directory shows its object, nothing else. Appends the directories in it to @todo; returns how many. */
static size_t expect_dir(const struct pair *dir, struct pair *todo)
{
	size_t n_children = 0, n_dirs = 0;
	char name[KEY_NAME_SIZE];

	EXPECT_TRUE(twin_node_of(dir->node)->value == dir->object);
	for (struct fuse_node *c = NULL; (c = fuse_node_next_child(dir->node, c));)
		n_children += twin_node_of(c)->value != NULL;
	EXPECT_EQ(n_children, (size_t)json_object_object_length(dir->object));
	json_object_object_foreach(dir->object, key, value)
	{
		struct fuse_node *child;

		ASSERT_EQ(key_name_encode(key, name), 0);
		child = fuse_node_find(dir->node, name);
		ASSERT_TRUE(child != NULL);
		EXPECT_EQ(fuse_node_is_dir(child), json_object_is_type(value, json_type_object));
		if (fuse_node_is_dir(child))
			todo[n_dirs++] = (struct pair){child, value};
		else
			EXPECT_TRUE(twin_node_of(child)->value == value);
	}
	return n_dirs;
}

static void expect_tree(struct fuse_node *fuse, const struct json_object *object)
{
	static struct pair todo[65536];
	size_t n = 1;

	todo[0] = (struct pair){fuse, object};
	for (size_t i = 0; i < n; ++i) {
		ASSERT_LT(n + 16, ARRAY_SIZE(todo));
		n += expect_dir(&todo[i], &todo[n]);
	}
}

static void expect_trees(struct fixture_files *self)
{
	struct fuse_node *twin = fuse_node_find(fuse_tree_root(self->tree), "twin");

	expect_tree(fuse_node_find(twin, "desired"), twin_desired(self->hub.twin).object);
	expect_tree(fuse_node_find(twin, "reported"), twin_reported(self->hub.twin).object);
}

static const char *random_key(void)
{
	static const char *const keys[] = {"a", "b", "c", "x/y", "%"};

	return keys[test_random() % ARRAY_SIZE(keys)];
}

/* {"a":{"b":1}} */
static void random_patch(char *out, size_t size)
{
	static const char *const leaves[] = {"1", "null", "\"t\"", "[1,null]", "false", "{}"};
	size_t depth = 1 + test_random() % 4, len = 0;

	for (size_t i = 0; i < depth; ++i)
		len += (size_t)snprintf(out + len, size - len, "{\"%s\":", random_key());
	snprintf(out + len, size - len, "%s%.*s", leaves[test_random() % ARRAY_SIZE(leaves)], (int)depth,
		 "}}}}");
}

/* A node of the reported tree that is there: its path below `twin`, from @dir on. */
static void random_path(struct fixture_files *self, char *out, size_t size, bool want_dir)
{
	struct fuse_node *at = fuse_node_find(fuse_node_find(fuse_tree_root(self->tree), "twin"), "reported");
	size_t len = (size_t)snprintf(out, size, "reported");

	for (;;) {
		struct fuse_node *next = NULL, *c = NULL;
		size_t n = 0;

		while ((c = fuse_node_next_child(at, c)))
			if ((!want_dir || fuse_node_is_dir(c)) && test_random() % ++n == 0)
				next = c;
		if (!next || (want_dir && test_random() % 3 == 0))
			return;
		len += (size_t)snprintf(out + len, size - len, "/%s", fuse_node_name(next));
		if (!fuse_node_is_dir(next))
			return;
		at = next;
	}
}

/* Splits off the last name; returns it. */
static char *split(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash)
		return NULL;
	*slash = '\0';
	return slash + 1;
}

static void random_step(struct fixture_files *self, uint64_t *version)
{
	char path[256], other[256], patch[512], name[KEY_NAME_SIZE], number[24], *last;
	struct open f;
	int error;

	key_name_encode(random_key(), name);
	random_path(self, path, sizeof(path), test_random() % 2);
	random_path(self, other, sizeof(other), true);
	random_patch(patch, sizeof(patch));
	switch (test_random() % 8) {
	case 0:
		snprintf(number, sizeof(number), "%" PRIu64, ++*version);
		send_desired(self, number, patch);
		return;
	case 1:
		EXPECT_EQ(echo(&self->calls, patch, "reported.json"), 0);
		return;
	case 2:
		make_dir(&self->calls, other, name);
		return;
	case 3:
		f = create(&self->calls, other, name, &error);
		if (error)
			return;
		if (test_random() % 3)
			put(&self->calls, &f, 0, patch + 5);
		close_file(&self->calls, &f);
		return;
	case 4:
	case 5:
		last = split(path);
		if (last && remove_name(&self->calls, FUSE_UNLINK, path, last))
			remove_name(&self->calls, FUSE_RMDIR, path, last);
		return;
	case 6:
		last = split(path);
		if (last)
			move(&self->calls, path, last, other, name);
		return;
	default:
		if (!S_ISDIR(mode_of(&self->calls, path)))
			echo(&self->calls, patch + 5, path);
		return;
	}
}

/* The hub takes all patches there are. */
static void settle(struct fixture_files *self, const struct json_object **hub, uint64_t *version)
{
	char number[24];

	while (twin_line_next(&self->hub)[0]) {
		const struct json_object *patch = json_tokener_parse(self->hub.payload_text), *next;

		ASSERT_EQ(twin_doc_apply(&next, *hub, patch), 0);
		twin_doc_unref(patch);
		twin_doc_unref(*hub);
		*hub = next;
		snprintf(number, sizeof(number), "%" PRIu64, ++*version);
		twin_line_respond(&self->hub, NULL, number, BYTES(NULL, 0));
		twin_line_turn(&self->hub);
	}
}

/* The tree is the document after whatever is done to either, and so is the hub's. */
TEST_F_TIMEOUT(files, random_steps, 120)
{
	const struct json_object *hub = twin_doc_new();
	uint64_t version = 1, reported = 1;

	start_with(self, EMPTY);
	for (int i = 0; i < 5000; ++i) {
		random_step(self, &version);
		expect_trees(self);
		if (test_random() % 4)
			continue;
		settle(self, &hub, &reported);
		EXPECT_TRUE(twin_doc_equal(hub, twin_reported(self->hub.twin).object));
	}
	TEST_LOG("desired version %" PRIu64 ", reported version %" PRIu64, version, reported);
	EXPECT_TRUE(version > 100 && reported > 100);
	twin_doc_unref(hub);
}

/* Files that are open when the daemon ends. */
TEST_F(files, the_end)
{
	struct open f, g;
	uint64_t unique;
	int error;

	start_with(self, EMPTY);
	f = create(&self->calls, "reported", "a", &error);
	g = open_file(&self->calls, "reported.json", O_WRONLY | O_SYNC);
	unique = put_at(&self->calls, &g, 0, "{\"b\":1}");
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
