/* SPDX-License-Identifier: MIT */
/*
 * Names and directories of a device's state, and channels as the configuration declares them.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/declarations.h"
#include "app/storage.h"
#include "config/settings.h"
#include "tests/harness.h"

FIXTURE(storage)
{
	char dir[64];
	char host[252];
	char state_dir[128];
	char run_dir[128];
	struct log log;
	struct config config;
	struct storage storage;
};

FIXTURE_SETUP(storage)
{
	strcpy(self->dir, "/tmp/test-storage-XXXXXX");
	ASSERT_NE(mkdtemp(self->dir), NULL);
	snprintf(self->state_dir, sizeof(self->state_dir), "%s/a/b/state", self->dir);
	snprintf(self->run_dir, sizeof(self->run_dir), "%s/run", self->dir);
	self->log = (struct log){.fd = -1};
	self->config = (struct config){.host = self->host, .state_dir = self->state_dir};
	strcpy(self->host, "hub.example");
	strcpy(self->config.client_id, "dev1");
	self->config.run_dir = self->run_dir;
}

FIXTURE_TEARDOWN(storage)
{
	char command[128];

	if (!test_is_orphan())
		storage_deinit(&self->storage);
	snprintf(command, sizeof(command), "rm -rf '%s'", self->dir);
	(void)!system(command);
}

static int prepare(struct fixture_storage *self)
{
	storage_deinit(&self->storage);
	return storage_prepare(&self->storage, &self->config, &self->log);
}

static void expect_path(struct fixture_storage *self, const char *got, const char *below)
{
	size_t len = strlen(self->dir);

	ASSERT_TRUE(got != NULL);
	EXPECT_EQ(strncmp(got, self->dir, len), 0);
	EXPECT_STREQ(got + len, below);
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700;
}

TEST_F(storage, persistent)
{
	ASSERT_EQ(prepare(self), 0);
	expect_path(self, self->storage.journal_dir, "/a/b/state/journal-dev1");
	expect_path(self, self->storage.channels_path, "/a/b/state/channels-dev1.json");
	expect_path(self, self->storage.twin_path, "/a/b/state/twin-dev1.json");
	EXPECT_STREQ(self->storage.identity, "hub.example/dev1");
	EXPECT_TRUE(is_dir(self->state_dir));
	EXPECT_FALSE(is_dir(self->run_dir));
	/* And again, where it is. */
	ASSERT_EQ(prepare(self), 0);
	storage_deinit(&self->storage);
	storage_deinit(&self->storage);
}

TEST_F(storage, in_memory)
{
	self->config.storage = CONFIG_STORAGE_VOLATILE;
	ASSERT_EQ(prepare(self), 0);
	expect_path(self, self->storage.journal_dir, "/run/journal-dev1");
	/* What users set is worth keeping all the same. */
	expect_path(self, self->storage.channels_path, "/a/b/state/channels-dev1.json");
	expect_path(self, self->storage.twin_path, "/a/b/state/twin-dev1.json");
	EXPECT_TRUE(is_dir(self->run_dir));
	self->config.state_dir = NULL;
	ASSERT_EQ(prepare(self), 0);
	expect_path(self, self->storage.channels_path, "/run/channels-dev1.json");
	EXPECT_EQ(self->storage.twin_path, NULL);
}

TEST_F(storage, names_that_files_cannot_have)
{
	char first[256];

	strcpy(self->config.client_id, "a%b/m:1");
	ASSERT_EQ(prepare(self), 0);
	expect_path(self, self->storage.journal_dir, "/a/b/state/journal-a%25b%2Fm:1");
	/* Too long for a file: three bytes for each. */
	memset(self->config.client_id, '%', 128);
	self->config.client_id[128] = '\0';
	ASSERT_EQ(prepare(self), 0);
	snprintf(first, sizeof(first), "%s", self->storage.journal_dir);
	EXPECT_CONTAINS(first, "/journal-~");
	EXPECT_LT(strlen(strrchr(self->storage.twin_path, '/')), 40u);
	self->config.client_id[127] = 'x';
	ASSERT_EQ(prepare(self), 0);
	EXPECT_NE(strcmp(first, self->storage.journal_dir), 0);
}

TEST_F(storage, long_identities_have_no_twin)
{
	memset(self->host, 'h', sizeof(self->host) - 1);
	self->host[sizeof(self->host) - 1] = '\0';
	ASSERT_EQ(prepare(self), 0);
	EXPECT_EQ(self->storage.twin_path, NULL);
	self->host[250] = '\0';
	ASSERT_EQ(prepare(self), 0);
	EXPECT_NE(self->storage.twin_path, NULL);
}

TEST_F(storage, a_file_is_in_the_way)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/a", self->dir);
	file = fopen(path, "we");
	ASSERT_TRUE(file != NULL);
	fclose(file);
	EXPECT_EQ(prepare(self), -ENOTDIR);
	EXPECT_EQ(self->storage.journal_dir, NULL);
	self->config.state_dir = path;
	EXPECT_EQ(prepare(self), -ENOTDIR);
	/* The queue is elsewhere: the twin only is not kept. */
	self->config.storage = CONFIG_STORAGE_VOLATILE;
	EXPECT_EQ(prepare(self), 0);
	EXPECT_EQ(self->storage.twin_path, NULL);
}

TEST(declarations)
{
	static const char json[] = "{\"channels\": {\"alarm\": {\"ack\": \"hub\", \"when-full\": \"block\", "
				   "\"ttl\": 7, \"priority\": 1,\n"
				   "\"content-type\": \"t\", \"content-encoding\": \"e\", \"user-id\": "
				   "\"u\", \"correlation-id\": \"c\",\n"
				   "\"properties\": {\"level\": \"high\", \"where\": \"here\"}},\n"
				   "\"log\": {\"ack\": \"stored\", \"when-full\": \"drop-oldest\"},\n"
				   "\"default\": {\"ack\": \"queued\", \"when-full\": \"reject\"}}}";
	struct channel_declaration *d;
	struct settings settings;

	settings_init(&settings);
	ASSERT_EQ(settings_read(&settings, bytes_from_str(json), "c.json", NULL), 0);
	ASSERT_EQ(settings.config.n_channels, 3u);
	ASSERT_EQ(declarations_new(&d, &settings.config), 0);
	EXPECT_STREQ(d[0].name, "alarm");
	EXPECT_TRUE(d[0].ack == CHANNEL_ACK_HUB);
	EXPECT_TRUE(d[0].when_full == CHANNEL_FULL_BLOCK);
	EXPECT_EQ(d[0].ttl_s, 7u);
	EXPECT_EQ(d[0].priority, 1);
	EXPECT_STREQ(d[0].texts[CHANNEL_TEXT_CONTENT_TYPE], "t");
	EXPECT_STREQ(d[0].texts[CHANNEL_TEXT_CONTENT_ENCODING], "e");
	EXPECT_STREQ(d[0].texts[CHANNEL_TEXT_USER_ID], "u");
	EXPECT_STREQ(d[0].texts[CHANNEL_TEXT_CORRELATION_ID], "c");
	ASSERT_EQ(d[0].n_properties, 2u);
	EXPECT_STREQ(d[0].property_names[1], "where");
	EXPECT_STREQ(d[0].property_values[1], "here");
	EXPECT_TRUE(d[1].ack == CHANNEL_ACK_STORED);
	EXPECT_TRUE(d[1].when_full == CHANNEL_FULL_DROP_OLDEST);
	EXPECT_TRUE(d[2].ack == CHANNEL_ACK_QUEUED);
	EXPECT_TRUE(d[2].when_full == CHANNEL_FULL_REJECT);
	EXPECT_EQ(d[2].texts[CHANNEL_TEXT_USER_ID], NULL);
	free(d);
	settings_deinit(&settings);
}

TEST_HARNESS_MAIN
