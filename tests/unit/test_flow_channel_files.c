/* SPDX-License-Identifier: MIT */
/*
 * The directory `channels`, behind a tree without a kernel (fuse_calls.h): what each system call gives, what the
 * channel has then, and what is said about what was refused. The queue behind it is real (files_line.h).
 */

#include <unistd.h>

#include "base/cleanup.h"
#include "flow/channel_files.h"
#include "tests/support/files_line.h"
#include "tests/support/fuse_calls.h"

FIXTURE(files)
{
	struct files_line queue;
	struct fuse_calls calls;
	struct events *events;
	struct fuse_tree *tree;
	struct channel_files *files;
	struct config_access access[CONFIG_N_FILES];
};

FIXTURE_SETUP(files)
{
	const struct files_line_options queue = {.queue_bytes = 1 << 20, .run = 1};
	const struct fuse_tree_options tree = {.root_mode = 0755};
	struct channel_files_options options = {.access = self->access};
	struct config_access *access = self->access;

	access[CONFIG_FILE_CHANNELS] = (struct config_access){.mode = 0660, .uid = 5, .gid = 6};
	access[CONFIG_FILE_EVENTS].mode = 0440;
	access[CONFIG_FILE_TELEMETRY].mode = 0220;
	files_line_init(&self->queue, &queue);
	ASSERT_EQ(fuse_tree_new(&self->tree, &tree), 0);
	ASSERT_EQ(events_new(&self->events, self->queue.hub.loop), 0);
	ASSERT_EQ(events_add_file(self->events, fuse_tree_root(self->tree), &access[CONFIG_FILE_EVENTS]), 0);
	options.channels = self->queue.channels;
	options.telemetry_files = self->queue.files;
	options.journal = self->queue.journal;
	options.events = self->events;
	options.loop = self->queue.hub.loop;
	options.parent = fuse_tree_root(self->tree);
	ASSERT_EQ(channel_files_new(&self->files, &options), 0);
	fuse_calls_init(&self->calls, self->tree, "channels");
}

FIXTURE_TEARDOWN(files)
{
	if (!test_is_orphan() && self->tree) {
		fuse_tree_detach(self->tree);
		fuse_tree_free(self->tree);
		channel_files_free(self->files);
		events_free(self->events);
	}
	files_line_deinit(&self->queue);
}

static struct channel *channel(struct fixture_files *self, const char *name)
{
	struct channel *c = channels_find(self->queue.channels, name);

	ASSERT_TRUE(c);
	return c;
}

static void expect_property(struct fixture_files *self, const char *name, const char *value)
{
	const char *have = channel_property(channel(self, "x"), name);

	EXPECT_STREQ(have ? have : "(none)", value ? value : "(none)");
}

static struct open create_property(struct fixture_files *self, const char *name)
{
	struct open f;
	int r;

	f = create(&self->calls, "x/properties", name, &r);
	ASSERT_EQ(r, 0);
	return f;
}

/* As a shell does: `printf TEXT > channels/x/properties/NAME`. */
static void add_property(struct fixture_files *self, const char *name, const char *text)
{
	struct open f = create_property(self, name);

	EXPECT_EQ(put(&self->calls, &f, 0, text), 0);
	close_file(&self->calls, &f);
}

static void make_x(struct fixture_files *self)
{
	ASSERT_EQ(make_dir(&self->calls, "", "x"), 0);
}

/* --- directories ------------------------------------------------------------------------------ */

TEST_F(files, what_a_channel_has)
{
	static const char *const names[] = {
		"telemetry", "telemetry.raw",  "telemetry.file", "content-type", "content-encoding",
		"user-id",   "correlation-id", "properties",     "ack",          "when-full",
		"ttl",       "priority",       "stats",
	};
	char path[64];

	make_x(self);
	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		snprintf(path, sizeof(path), "default/%s", names[i]);
		EXPECT_NE(node(&self->calls, path), 0u);
		snprintf(path, sizeof(path), "x/%s", names[i]);
		EXPECT_NE(node(&self->calls, path), 0u);
	}
	EXPECT_EQ(mode_of(&self->calls, ""), (mode_t)(S_IFDIR | 0775));
	EXPECT_EQ(mode_of(&self->calls, "x"), (mode_t)(S_IFDIR | 0555));
	EXPECT_EQ(mode_of(&self->calls, "x/properties"), (mode_t)(S_IFDIR | 0775));
	EXPECT_EQ(mode_of(&self->calls, "x/ttl"), (mode_t)(S_IFREG | 0660));
	EXPECT_EQ(mode_of(&self->calls, "x/stats"), (mode_t)(S_IFREG | 0440));
	EXPECT_EQ(mode_of(&self->calls, "x/telemetry"), (mode_t)(S_IFREG | 0220));
	EXPECT_STREQ(cat(&self->calls, "x/ack"), "queued\n");
	EXPECT_STREQ(cat(&self->calls, "x/when-full"), "reject\n");
	EXPECT_STREQ(cat(&self->calls, "x/ttl"), "0\n");
	EXPECT_STREQ(cat(&self->calls, "x/priority"), "5\n");
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "");
}

TEST_F(files, directories_are_made_and_removed)
{
	char name[16];

	make_x(self);
	EXPECT_EQ(make_dir(&self->calls, "", "x"), -EEXIST);
	EXPECT_EQ(make_dir(&self->calls, "", "x y"), -EINVAL);
	expect_event(&self->calls, "\"file\":\"channels\",\"reason\":\"a channel's name has");
	EXPECT_EQ(make_dir(&self->calls, "x", "y"), -EPERM);
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "x", "properties"), -EPERM);
	EXPECT_EQ(remove_name(&self->calls, FUSE_UNLINK, "x", "ttl"), -EPERM);
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "", "default"), -EBUSY);
	expect_event(&self->calls,
		     "\"file\":\"channels/default\",\"reason\":\"this channel is always there\"");
	add_property(self, "site", "north\n");
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "", "x"), 0);
	EXPECT_TRUE(!channels_find(self->queue.channels, "x"));
	EXPECT_EQ(node(&self->calls, "x"), 0u);
	make_x(self);
	EXPECT_EQ(node(&self->calls, "x/properties/site"), 0u);
	for (unsigned int i = 2; i < CHANNELS_MAX; ++i) {
		snprintf(name, sizeof(name), "c%u", i);
		ASSERT_EQ(make_dir(&self->calls, "", name), 0);
	}
	EXPECT_EQ(make_dir(&self->calls, "", "more"), -ENOSPC);
	expect_event(&self->calls, "as many channels as there can be");
}

TEST_F(files, open_files_of_a_removed_channel)
{
	struct open value, telemetry, stats, property;

	make_x(self);
	value = open_file(&self->calls, "x/user-id", O_RDWR);
	stats = open_file(&self->calls, "x/stats", O_RDONLY);
	telemetry = open_file(&self->calls, "x/telemetry", O_WRONLY);
	property = create_property(self, "site");
	EXPECT_EQ(remove_name(&self->calls, FUSE_RMDIR, "", "x"), 0);
	EXPECT_EQ(put(&self->calls, &value, 0, "u\n"), -ENODEV);
	EXPECT_EQ(put(&self->calls, &property, 0, "u\n"), -ENODEV);
	EXPECT_STREQ(read_at(&self->calls, &value, 0, 100), "ENODEV");
	EXPECT_STREQ(read_at(&self->calls, &stats, 0, 100), "ENODEV");
	EXPECT_EQ(put(&self->calls, &telemetry, 0, "goes out\n"), 0);
	EXPECT_EQ(journal_appended(self->queue.journal), 1u);
	close_file(&self->calls, &value);
	close_file(&self->calls, &stats);
	close_file(&self->calls, &property);
	/* Another one of its name is another one. */
	make_x(self);
	EXPECT_EQ(put(&self->calls, &telemetry, 0, "so does this\n"), 0);
	EXPECT_EQ(journal_appended(self->queue.journal), 2u);
	EXPECT_EQ(channel(self, "x")->stats.n_appended, 0u);
	close_file(&self->calls, &telemetry);
}

/* --- values ----------------------------------------------------------------------------------- */

TEST_F(files, values_are_set_at_once)
{
	struct open reader;

	make_x(self);
	reader = open_file(&self->calls, "x/content-type", O_RDONLY);
	EXPECT_EQ(echo(&self->calls, "application/json\n", "x/content-type"), 0);
	EXPECT_STREQ(channel(self, "x")->texts[CHANNEL_TEXT_CONTENT_TYPE], "application/json");
	EXPECT_STREQ(read_at(&self->calls, &reader, 0, 100), "application/json\n");
	EXPECT_EQ(size_of(&self->calls, "x/content-type"), strlen("application/json\n"));
	EXPECT_EQ(echo(&self->calls, "text", "x/content-type"), 0);
	EXPECT_STREQ(read_at(&self->calls, &reader, 0, 2), "te");
	EXPECT_STREQ(read_at(&self->calls, &reader, 2, 100), "xt\n");
	EXPECT_STREQ(read_at(&self->calls, &reader, 5, 100), "");
	close_file(&self->calls, &reader);
	EXPECT_EQ(echo(&self->calls, "utf-8\n", "x/content-encoding"), 0);
	EXPECT_EQ(echo(&self->calls, "u\n", "x/user-id"), 0);
	EXPECT_EQ(echo(&self->calls, "c\n", "x/correlation-id"), 0);
	EXPECT_EQ(echo(&self->calls, "hub\n", "x/ack"), 0);
	EXPECT_EQ(echo(&self->calls, "drop-oldest\n", "x/when-full"), 0);
	EXPECT_EQ(echo(&self->calls, "3600\n", "x/ttl"), 0);
	EXPECT_EQ(echo(&self->calls, "0\n", "x/priority"), 0);
	EXPECT_EQ((int)channel(self, "x")->ack, (int)CHANNEL_ACK_HUB);
	EXPECT_EQ((int)channel(self, "x")->when_full, (int)CHANNEL_FULL_DROP_OLDEST);
	EXPECT_EQ(channel(self, "x")->ttl_s, 3600u);
	EXPECT_EQ(channel(self, "x")->priority, 0u);
	EXPECT_STREQ(cat(&self->calls, "x/content-encoding"), "utf-8\n");
	EXPECT_STREQ(cat(&self->calls, "x/user-id"), "u\n");
	EXPECT_STREQ(cat(&self->calls, "x/correlation-id"), "c\n");
	EXPECT_STREQ(cat(&self->calls, "x/ack"), "hub\n");
	EXPECT_STREQ(cat(&self->calls, "x/when-full"), "drop-oldest\n");
	EXPECT_STREQ(cat(&self->calls, "x/ttl"), "3600\n");
	EXPECT_STREQ(cat(&self->calls, "x/priority"), "0\n");
	expect_event(&self->calls, NULL);
	/* Nobody else's. */
	EXPECT_STREQ(cat(&self->calls, "default/ttl"), "0\n");
	EXPECT_EQ(echo(&self->calls, "5\n", "default/ttl"), 0);
	EXPECT_EQ(channels_default(self->queue.channels)->ttl_s, 5u);
}

TEST_F(files, wrong_values)
{
	static const struct {
		const char *path, *text, *event;
	} cases[] = {
		{"x/ack", "sometimes\n",
		 "\"file\":\"channels/x/ack\",\"reason\":\"not one of queued, stored and hub\""},
		{"x/ack", "\n", "not one of"},
		{"x/ack", "hub\n\n", "not one of"},
		{"x/when-full", "drop\n", "not one of reject, block and drop-oldest"},
		{"x/ttl", "-1\n", "from 0, for ever, to 315360000"},
		{"x/ttl", "315360001\n", "from 0"},
		{"x/ttl", "1s\n", "from 0"},
		{"x/ttl", "\n", "from 0"},
		{"x/priority", "10\n", "a number from 0, first, to 9"},
		{"x/content-type", "a\nb\n",
		 "\"file\":\"channels/x/content-type\",\"reason\":\"a value is one line"},
		{"x/content-type", "\xff\n", "one line of UTF-8"},
		{"x/properties/site", "\x1b[m\n", "\"file\":\"channels/x/properties/site\""},
	};
	static char large[CHANNEL_VALUE_MAX + 8];

	make_x(self);
	add_property(self, "site", "north\n");
	ASSERT_EQ(echo(&self->calls, "text/plain\n", "x/content-type"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); ++i) {
		EXPECT_EQ(echo(&self->calls, cases[i].text, cases[i].path), -EINVAL);
		expect_event(&self->calls, cases[i].event);
	}
	memset(large, 'x', CHANNEL_VALUE_MAX + 1);
	EXPECT_EQ(echo(&self->calls, large, "x/content-type"), -EMSGSIZE);
	expect_event(&self->calls, "a value has at most 1024 bytes");
	memset(large, 'x', sizeof(large) - 1);
	EXPECT_EQ(echo(&self->calls, large, "x/content-type"), -EMSGSIZE);
	expect_event(&self->calls, "a value has at most 1024 bytes");
	/* What was there is there. */
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "text/plain\n");
	EXPECT_STREQ(cat(&self->calls, "x/properties/site"), "north\n");
	EXPECT_STREQ(cat(&self->calls, "x/ack"), "queued\n");
	EXPECT_STREQ(cat(&self->calls, "x/ttl"), "0\n");
	large[CHANNEL_VALUE_MAX] = '\n';
	large[CHANNEL_VALUE_MAX + 1] = '\0';
	EXPECT_EQ(echo(&self->calls, large, "x/content-type"), 0);
	EXPECT_EQ(size_of(&self->calls, "x/content-type"), (uint64_t)CHANNEL_VALUE_MAX + 1);
}

TEST_F(files, writes_in_pieces)
{
	struct open f;

	make_x(self);
	f = open_file(&self->calls, "x/content-type", O_WRONLY | O_TRUNC);
	EXPECT_EQ(put(&self->calls, &f, 0, "application"), 0);
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "application\n");
	EXPECT_EQ(put(&self->calls, &f, 11, "/json"), 0);
	EXPECT_EQ(put(&self->calls, &f, 16, "\n"), 0);
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "application/json\n");
	/* Two lines are no value, in whatever pieces they come. */
	EXPECT_EQ(put(&self->calls, &f, 17, "more\n"), -EINVAL);
	EXPECT_EQ(put(&self->calls, &f, 18, "more\n"), -EINVAL);
	expect_event(&self->calls, "a hole in a text");
	/* From the start again. */
	EXPECT_EQ(put(&self->calls, &f, 0, "text\n"), 0);
	EXPECT_EQ(put(&self->calls, &f, 0, ""), 0);
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "text\n");
	EXPECT_EQ(put(&self->calls, &f, 4, "/plain\n"), 0);
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "text/plain\n");
	close_file(&self->calls, &f);
	/* Without O_TRUNC, and with >>, it is the value all the same. */
	f = open_file(&self->calls, "x/content-type", O_WRONLY);
	EXPECT_EQ(put(&self->calls, &f, 0, "a\n"), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "a\n");
	f = open_file(&self->calls, "x/content-type", O_WRONLY | O_APPEND);
	EXPECT_EQ(put(&self->calls, &f, 2, "b\n"), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "x/content-type"), "b\n");
}

TEST_F(files, cut_to_nothing)
{
	struct open f;

	make_x(self);
	ASSERT_EQ(echo(&self->calls, "u\n", "x/user-id"), 0);
	ASSERT_EQ(echo(&self->calls, "7\n", "x/ttl"), 0);
	add_property(self, "site", "north\n");
	/* Not before it is known that nothing follows. */
	f = open_file(&self->calls, "x/user-id", O_WRONLY | O_TRUNC);
	EXPECT_STREQ(cat(&self->calls, "x/user-id"), "u\n");
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "x/user-id"), "");
	EXPECT_TRUE(!channel(self, "x")->texts[CHANNEL_TEXT_USER_ID]);
	ASSERT_EQ(echo(&self->calls, "u\n", "x/user-id"), 0);
	EXPECT_EQ(cut(&self->calls, "x/user-id", NULL, 0), 0);
	EXPECT_STREQ(cat(&self->calls, "x/user-id"), "");
	EXPECT_EQ(cut(&self->calls, "x/user-id", NULL, 5), -EINVAL);
	ASSERT_EQ(echo(&self->calls, "u\n", "x/user-id"), 0);
	EXPECT_EQ(echo(&self->calls, "\n", "x/user-id"), 0);
	EXPECT_STREQ(cat(&self->calls, "x/user-id"), "");
	f = open_file(&self->calls, "x/properties/site", O_RDWR);
	EXPECT_EQ(put(&self->calls, &f, 0, "south\n"), 0);
	EXPECT_EQ(cut(&self->calls, NULL, &f, 0), 0);
	EXPECT_EQ(put(&self->calls, &f, 0, "east\n"), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "x/properties/site"), "east\n");
	EXPECT_EQ(cut(&self->calls, "x/properties/site", NULL, 0), 0);
	expect_property(self, "site", "");
	/* There is no time to live without a number. */
	f = open_file(&self->calls, "x/ttl", O_WRONLY | O_TRUNC);
	close_file(&self->calls, &f);
	EXPECT_EQ(cut(&self->calls, "x/ttl", NULL, 0), 0);
	EXPECT_STREQ(cat(&self->calls, "x/ttl"), "7\n");
	/* What was refused takes nothing away. */
	ASSERT_EQ(echo(&self->calls, "u\n", "x/user-id"), 0);
	EXPECT_EQ(echo(&self->calls, "\x01", "x/user-id"), -EINVAL);
	EXPECT_STREQ(cat(&self->calls, "x/user-id"), "u\n");
}

/* --- properties ------------------------------------------------------------------------------- */

TEST_F(files, properties_come_and_go)
{
	struct open f;

	make_x(self);
	add_property(self, "site", "north\n");
	expect_property(self, "site", "north");
	EXPECT_STREQ(cat(&self->calls, "x/properties/site"), "north\n");
	EXPECT_EQ(size_of(&self->calls, "x/properties/site"), 6u);
	EXPECT_EQ(mode_of(&self->calls, "x/properties/site"), (mode_t)(S_IFREG | 0660));
	EXPECT_EQ(echo(&self->calls, "south\n", "x/properties/site"), 0);
	expect_property(self, "site", "south");
	/* touch */
	f = create_property(self, "empty");
	close_file(&self->calls, &f);
	expect_property(self, "empty", "");
	EXPECT_STREQ(cat(&self->calls, "x/properties/empty"), "");
	EXPECT_EQ(make_dir(&self->calls, "x/properties", "d"), -EPERM);
	f = open_file(&self->calls, "x/properties/site", O_RDWR);
	EXPECT_EQ(remove_name(&self->calls, FUSE_UNLINK, "x/properties", "site"), 0);
	expect_property(self, "site", NULL);
	EXPECT_EQ(node(&self->calls, "x/properties/site"), 0u);
	EXPECT_EQ(put(&self->calls, &f, 0, "again\n"), -ENODEV);
	close_file(&self->calls, &f);
	expect_property(self, "site", NULL);
}

TEST_F(files, names_of_properties)
{
	char name[16];
	int r;

	make_x(self);
	add_property(self, "a%2Fb", "1\n");
	add_property(self, "%2E%2E", "2\n");
	add_property(self, "\xc3\xa9 x", "3\n");
	expect_property(self, "a/b", "1");
	expect_property(self, "..", "2");
	expect_property(self, "\xc3\xa9 x", "3");
	EXPECT_EQ(echo(&self->calls, "4\n", "x/properties/a%2Fb"), 0);
	expect_property(self, "a/b", "4");
	create(&self->calls, "x/properties", "a%41", &r);
	EXPECT_EQ(r, -EINVAL);
	expect_event(&self->calls, "\"file\":\"channels/x/properties/a%41\",\"reason\":\"a name is UTF-8");
	create(&self->calls, "x/properties", "%", &r);
	EXPECT_EQ(r, -EINVAL);
	create(&self->calls, "x/properties", "%0A", &r);
	EXPECT_EQ(r, -EINVAL);
	create(&self->calls, "x/properties", "\xff", &r);
	EXPECT_EQ(r, -EINVAL);
	EXPECT_EQ(remove_name(&self->calls, FUSE_UNLINK, "x/properties", "a%2Fb"), 0);
	expect_property(self, "a/b", NULL);
	for (unsigned int i = 2; i < CHANNEL_PROPERTIES_MAX; ++i) {
		snprintf(name, sizeof(name), "p%u", i);
		add_property(self, name, "v");
	}
	create(&self->calls, "x/properties", "more", &r);
	EXPECT_EQ(r, -ENOSPC);
	expect_event(&self->calls, "a channel has at most 64 properties");
}

TEST_F(files, properties_are_renamed)
{
	struct open f;

	make_x(self);
	ASSERT_EQ(make_dir(&self->calls, "", "y"), 0);
	add_property(self, "a", "1\n");
	add_property(self, "b", "2\n");
	f = open_file(&self->calls, "x/properties/a", O_WRONLY);
	EXPECT_EQ(move(&self->calls, "x/properties", "a", "x/properties", "c%25"), 0);
	expect_property(self, "a", NULL);
	expect_property(self, "c%", "1");
	EXPECT_EQ(put(&self->calls, &f, 0, "3\n"), 0);
	close_file(&self->calls, &f);
	EXPECT_STREQ(cat(&self->calls, "x/properties/c%25"), "3\n");
	/* As an editor saves. */
	EXPECT_EQ(move(&self->calls, "x/properties", "c%25", "x/properties", "b"), 0);
	expect_property(self, "b", "3");
	expect_property(self, "c%", NULL);
	EXPECT_STREQ(cat(&self->calls, "x/properties/b"), "3\n");
	EXPECT_EQ(node(&self->calls, "x/properties/c%25"), 0u);
	EXPECT_EQ(move(&self->calls, "x/properties", "b", "x/properties", "bad%"), -EINVAL);
	expect_event(&self->calls, "channels/x/properties/bad%");
	EXPECT_EQ(move(&self->calls, "x/properties", "b", "y/properties", "b"), -EXDEV);
	EXPECT_EQ(move(&self->calls, "x/properties", "b", "x", "b"), -EXDEV);
	EXPECT_EQ(move(&self->calls, "", "x", "", "z"), -EPERM);
	expect_property(self, "b", "3");
}

/* --- what is there from the start ------------------------------------------------------------- */

TEST_F(files, channels_that_are_there_already)
{
	struct config_access access[CONFIG_N_FILES] = {{.mode = 0440}};
	struct channel_files_options options = {
		.channels = self->queue.channels,
		.telemetry_files = self->queue.files,
		.journal = self->queue.journal,
		.loop = self->queue.hub.loop,
		.access = access,
	};
	struct channel_files *files = NULL;
	struct fuse_tree *tree;
	struct fuse_node *dir;
	static char name[256];

	memset(name, '/', 255);
	make_x(self);
	ASSERT_EQ(channel_set_property(channel(self, "x"), "a/b", BYTES_LIT("1")), 0);
	/* It has no file. */
	ASSERT_EQ(channel_set_property(channel(self, "x"), name, BYTES_LIT("1")), 0);
	ASSERT_EQ(fuse_tree_new(&tree, &(struct fuse_tree_options){.root_mode = 0755}), 0);
	options.parent = fuse_tree_root(tree);
	ASSERT_EQ(channel_files_new(&files, &options), 0);
	dir = fuse_node_find(fuse_tree_root(tree), "channels");
	ASSERT_TRUE(dir && fuse_node_find(dir, "default") && fuse_node_find(dir, "x"));
	dir = fuse_node_find(fuse_node_find(dir, "x"), "properties");
	ASSERT_TRUE(dir && fuse_node_find(dir, "a%2Fb"));
	EXPECT_TRUE(!fuse_node_next_child(dir, fuse_node_find(dir, "a%2Fb")));
	fuse_tree_free(tree);
	channel_files_free(files);
}

/* --- until it is kept ------------------------------------------------------------------------- */

/* The same files, of channels that are kept in the directory @dir. */
struct kept {
	struct channels *channels;
	struct channel_files *files;
	struct events *events;
	struct fuse_tree *tree;
	struct fuse_calls calls;
	char dir[96];
	unsigned int n_in_flight; /* of others */
};

static struct kept *kept_new(struct fixture_files *self)
{
	static struct kept kept;
	static char path[128];
	const struct channels_options channels = {
		.loop = self->queue.hub.loop, .journal = self->queue.journal, .path = path};
	struct channel_files_options files = {
		.telemetry_files = self->queue.files,
		.journal = self->queue.journal,
		.loop = self->queue.hub.loop,
		.access = self->access,
	};

	snprintf(kept.dir, sizeof(kept.dir), "%s/kept", self->queue.dir);
	snprintf(path, sizeof(path), "%s/channels.json", kept.dir);
	ASSERT_EQ(mkdir(kept.dir, 0700), 0);
	ASSERT_EQ(loop_turn(self->queue.hub.loop, 0), 0);
	kept.n_in_flight = loop_n_in_flight(self->queue.hub.loop);
	ASSERT_EQ(channels_new(&kept.channels, &channels), 0);
	ASSERT_EQ(fuse_tree_new(&kept.tree, &(struct fuse_tree_options){.root_mode = 0755}), 0);
	ASSERT_EQ(events_new(&kept.events, self->queue.hub.loop), 0);
	ASSERT_EQ(events_add_file(kept.events, fuse_tree_root(kept.tree), &self->access[CONFIG_FILE_EVENTS]),
		  0);
	files.channels = kept.channels;
	files.parent = fuse_tree_root(kept.tree);
	ASSERT_EQ(channel_files_new(&kept.files, &files), 0);
	fuse_calls_init(&kept.calls, kept.tree, "channels");
	return &kept;
}

/* What is being written is on the disk. */
static void kept_settle(struct fixture_files *self, const struct kept *kept)
{
	do
		ASSERT_EQ(loop_turn(self->queue.hub.loop, 0), 0);
	while (loop_n_in_flight(self->queue.hub.loop) > kept->n_in_flight);
}

static void kept_free(struct fixture_files *self, struct kept *kept)
{
	fuse_tree_detach(kept->tree);
	fuse_tree_free(kept->tree);
	channel_files_free(kept->files);
	events_free(kept->events);
	channels_free(kept->channels);
	kept_settle(self, kept);
}

TEST_F(files, writers_can_wait_until_it_is_kept)
{
	struct kept *kept = kept_new(self);
	struct fuse_calls *c = &kept->calls;
	struct open f, other;
	uint64_t sync, write;

	kept_settle(self, kept);
	f = open_file(c, "default/user-id", O_WRONLY);
	other = open_file(c, "default/ttl", O_WRONLY);
	EXPECT_EQ(fuse_line_result(&c->line, fuse_line_fsync(&c->line, f.id, f.fh)), 0);
	EXPECT_EQ(put(c, &f, 0, "u\n"), 0);
	sync = fuse_line_fsync(&c->line, f.id, f.fh);
	EXPECT_EQ(fuse_line_result(&c->line, sync), FUSE_LINE_WAITS);
	EXPECT_EQ(fuse_line_result(&c->line, fuse_line_fsync(&c->line, f.id, f.fh)), -EBUSY);
	/* Set at once all the same; one write of the file is enough for both. */
	other.flags |= O_SYNC;
	write = put_at(c, &other, 0, "60\n");
	EXPECT_EQ(fuse_line_result(&c->line, write), FUSE_LINE_WAITS);
	EXPECT_STREQ(cat(c, "default/ttl"), "60\n");
	kept_settle(self, kept);
	EXPECT_EQ(fuse_line_result(&c->line, sync), 0);
	EXPECT_EQ(fuse_line_result(&c->line, write), 0);
	EXPECT_EQ(put(c, &other, 0, "bad\n"), -EINVAL);
	/* Somebody loses patience, or ends. */
	write = put_at(c, &other, 0, "61\n");
	fuse_line_interrupt(&c->line, write);
	EXPECT_EQ(fuse_line_result(&c->line, write), -EINTR);
	close_file(c, &other);
	kept_settle(self, kept);
	EXPECT_EQ(put(c, &f, 0, "v\n"), 0);
	fuse_line_fsync(&c->line, f.id, f.fh);
	kept_free(self, kept);
}

TEST_F(files, what_cannot_be_kept_is_said)
{
	struct kept *kept = kept_new(self);
	struct fuse_calls *c = &kept->calls;
	struct open f;
	uint64_t sync;

	kept_settle(self, kept);
	snprintf(c->text, sizeof(c->text), "%s/channels.json", kept->dir);
	ASSERT_EQ(unlink(c->text), 0);
	ASSERT_EQ(rmdir(kept->dir), 0);
	f = open_file(c, "default/user-id", O_WRONLY);
	EXPECT_EQ(put(c, &f, 0, "u\n"), 0);
	for (int i = 0; i < 2; ++i) {
		sync = fuse_line_fsync(&c->line, f.id, f.fh);
		EXPECT_EQ(fuse_line_result(&c->line, sync), FUSE_LINE_WAITS);
		kept_settle(self, kept);
		EXPECT_EQ(fuse_line_result(&c->line, sync), -ENOENT);
	}
	EXPECT_STREQ(cat(c, "default/user-id"), "u\n");
	/* The disk is back: who asks again has it tried again. */
	ASSERT_EQ(mkdir(kept->dir, 0700), 0);
	sync = fuse_line_fsync(&c->line, f.id, f.fh);
	kept_settle(self, kept);
	EXPECT_EQ(fuse_line_result(&c->line, sync), 0);
	snprintf(c->text, sizeof(c->text), "%s/channels.json", kept->dir);
	EXPECT_EQ(access(c->text, F_OK), 0);
	close_file(c, &f);
	kept_free(self, kept);
}

/* --- stats ------------------------------------------------------------------------------------ */

TEST_F(files, stats)
{
	make_x(self);
	EXPECT_STREQ(cat(&self->calls, "x/stats"),
		     "appended: 0\nstored: 0\nacked: 0\nretried: 0\nrejected: 0\n"
		     "expired: 0\ndropped: 0\nqueued: 0\nbytes: 0\noldest-age: 0\n");
	EXPECT_EQ(echo(&self->calls, "one\ntwo\n", "x/telemetry"), 0);
	/* Under any of its priorities. */
	EXPECT_EQ(echo(&self->calls, "1\n", "x/priority"), 0);
	EXPECT_EQ(echo(&self->calls, "three\n", "x/telemetry"), 0);
	EXPECT_EQ(echo(&self->calls, "other\n", "default/telemetry"), 0);
	EXPECT_CONTAINS(cat(&self->calls, "x/stats"), "appended: 3\n");
	EXPECT_CONTAINS(cat(&self->calls, "x/stats"), "queued: 3\n");
	EXPECT_TRUE(!strstr(self->calls.text, "bytes: 0\n"));
	EXPECT_CONTAINS(cat(&self->calls, "default/stats"), "appended: 1\n");
	EXPECT_EQ(size_of(&self->calls, "x/stats"), strlen(cat(&self->calls, "x/stats")));
	EXPECT_EQ(open_error(&self->calls, "x/stats", O_RDWR), -EACCES);
}

TEST_HARNESS_MAIN
