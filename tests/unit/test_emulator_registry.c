/* SPDX-License-Identifier: MIT */
/* Identities and policies, and their files. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/harness.h"
#include "tools/emulator/file.h"
#include "tools/emulator/registry.h"

FIXTURE(registry)
{
	char dir[64], command[128];
	struct emu_registry *r;
};

FIXTURE_SETUP(registry)
{
	snprintf(self->dir, sizeof(self->dir), "/tmp/registry-XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir) != NULL);
	ASSERT_EQ(emu_registry_load(&self->r, self->dir, NULL), 0);
}

FIXTURE_TEARDOWN(registry)
{
	if (!test_is_orphan())
		emu_registry_free(self->r);
	snprintf(self->command, sizeof(self->command), "rm -rf '%s'", self->dir);
	EXPECT_EQ(system(self->command), 0);
}

static int reload(struct fixture_registry *self)
{
	emu_registry_free(self->r);
	self->r = NULL;
	return emu_registry_load(&self->r, self->dir, NULL);
}

static struct emu_identity *find(struct fixture_registry *self, const char *id)
{
	return emu_registry_find(self->r, bytes_from_str(id));
}

static void write_file(struct fixture_registry *self, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", self->dir, name);
	ASSERT_EQ(emu_file_replace(path, bytes_from_str(text), false), 0);
}

static void read_file(struct fixture_registry *self, const char *name, char out[static 1024], mode_t *mode)
{
	char path[256];
	struct stat st;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", self->dir, name);
	f = fopen(path, "r");
	ASSERT_TRUE(f != NULL);
	memset(out, 0, 1024);
	ASSERT_GT(fread(out, 1, 1023, f), 0u);
	fclose(f);
	ASSERT_EQ(stat(path, &st), 0);
	*mode = st.st_mode & 0777;
}

TEST(ids)
{
	char longest[300];

	EXPECT_TRUE(emu_identity_id_is_valid("dev1"));
	EXPECT_TRUE(emu_identity_id_is_valid("a-:.+%_#*?!(),=@$'Z9"));
	EXPECT_TRUE(emu_identity_id_is_valid("dev/mod"));
	EXPECT_FALSE(emu_identity_id_is_valid(""));
	EXPECT_FALSE(emu_identity_id_is_valid("/"));
	EXPECT_FALSE(emu_identity_id_is_valid("dev/"));
	EXPECT_FALSE(emu_identity_id_is_valid("dev/mod/x"));
	EXPECT_FALSE(emu_identity_id_is_valid("/mod"));
	EXPECT_FALSE(emu_identity_id_is_valid("a b"));
	EXPECT_FALSE(emu_identity_id_is_valid("d\xc3\xa9v"));
	EXPECT_FALSE(emu_identity_id_is_valid("service"));
	EXPECT_FALSE(emu_identity_id_is_valid("service/x"));
	EXPECT_FALSE(emu_identity_id_is_valid(".."));
	EXPECT_FALSE(emu_identity_id_is_valid("../x"));
	EXPECT_FALSE(emu_identity_id_is_valid("x/.."));
	memset(longest, 'x', sizeof(longest));
	longest[128] = '/';
	longest[257] = '\0';
	EXPECT_TRUE(emu_identity_id_is_valid(longest));
	longest[128] = 'x';
	EXPECT_FALSE(emu_identity_id_is_valid(longest));
}

TEST_F(registry, keys_stay)
{
	struct emu_key keys[2], policy;

	ASSERT_EQ(emu_registry_add(self->r, "dev1"), 0);
	ASSERT_EQ(emu_registry_add(self->r, "a"), 0);
	ASSERT_EQ(emu_registry_add(self->r, "dev1/mod"), 0);
	EXPECT_EQ(emu_registry_add(self->r, "not a name"), -EINVAL);
	memcpy(keys, find(self, "dev1")->credentials.keys, sizeof(keys));
	policy = emu_registry_policy(self->r, BYTES_LIT("service"))->key;
	EXPECT_NE(memcmp(&keys[0], &keys[1], sizeof(keys[0])), 0);
	ASSERT_EQ(emu_registry_add(self->r, "dev1"), 0);
	EXPECT_EQ(memcmp(keys, find(self, "dev1")->credentials.keys, sizeof(keys)), 0);
	ASSERT_EQ(emu_registry_save(self->r), 0);

	ASSERT_EQ(reload(self), 0);
	ASSERT_EQ(emu_registry_n_identities(self->r), 3u);
	EXPECT_STREQ(emu_registry_identity(self->r, 0)->id, "a");
	EXPECT_STREQ(emu_registry_identity(self->r, 1)->id, "dev1");
	EXPECT_STREQ(emu_registry_identity(self->r, 2)->id, "dev1/mod");
	EXPECT_STREQ(emu_identity_module(find(self, "dev1/mod")), "mod");
	EXPECT_STREQ(emu_identity_module(find(self, "dev1")), "");
	EXPECT_EQ(find(self, "dev1")->credentials.keys[0].len, keys[0].len);
	EXPECT_MEMEQ(find(self, "dev1")->credentials.keys[0].data, keys[0].data, keys[0].len);
	EXPECT_MEMEQ(find(self, "dev1")->credentials.keys[1].data, keys[1].data, keys[1].len);
	EXPECT_MEMEQ(emu_registry_policy(self->r, BYTES_LIT("service"))->key.data, policy.data, policy.len);
	EXPECT_TRUE(find(self, "dev") == NULL);
	EXPECT_TRUE(find(self, "dev12") == NULL);
	EXPECT_TRUE(find(self, "") == NULL);
	EXPECT_TRUE(emu_registry_policy(self->r, BYTES_LIT("Service")) == NULL);
}

TEST_F(registry, a_thousand_devices)
{
	char id[16];

	for (int i = 0; i < 1000; i++) {
		snprintf(id, sizeof(id), "d%d", (i * 7919) % 1000);
		ASSERT_EQ(emu_registry_add(self->r, id), 0);
	}
	ASSERT_EQ(emu_registry_save(self->r), 0);
	ASSERT_EQ(reload(self), 0);
	ASSERT_EQ(emu_registry_n_identities(self->r), 1000u);
	for (int i = 0; i < 1000; i++) {
		snprintf(id, sizeof(id), "d%d", i);
		ASSERT_TRUE(find(self, id) != NULL);
		EXPECT_STREQ(find(self, id)->id, id);
	}
}

TEST_F(registry, what_it_does_not_understand_it_leaves_alone)
{
	static const char *const wrong[] = {
		"",
		"{",
		"[]",
		"{\"version\": 2, \"policies\": {}, \"devices\": {}}",
		"{\"version\": 1, \"policies\": {}, \"devices\": {}}",
		"{\"version\": 1, \"policies\": {\"service\": \"AAAA\", \"device\": \"AAAA\"}, \"devices\": "
		"[]}",
		"{\"version\": 1, \"policies\": {\"service\": \"AAAA\", \"device\": \"AAAA\"}, \"devices\": "
		"{\"d\": "
		"{\"primary-key\": \"AAAA\"}}}",
		"{\"version\": 1, \"policies\": {\"service\": \"AAAA\", \"device\": \"AAAA\"}, \"devices\": "
		"{\"a b\": "
		"{\"primary-key\": \"AAAA\", \"secondary-key\": \"AAAA\"}}}",
		"{\"version\": 1, \"policies\": {\"service\": \"A\", \"device\": \"AAAA\"}, \"devices\": {}}",
	};
	char text[1024];
	mode_t mode;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		TEST_LOG("%s", wrong[i]);
		write_file(self, "devices.json", wrong[i]);
		EXPECT_EQ(reload(self), -EINVAL);
		if (wrong[i][0]) {
			read_file(self, "devices.json", text, &mode);
			EXPECT_STREQ(text, wrong[i]);
		}
	}
	write_file(self, "devices.json",
		   "{\"version\": 1, \"policies\": {\"service\": \"AAAA\", \"device\": \"AAAA\"}, "
		   "\"devices\": {\"d\": "
		   "{\"primary-key\": \"AAAA\", \"secondary-key\": \"AAAA\"}}}");
	EXPECT_EQ(reload(self), 0);
}

TEST_F(registry, connection_strings)
{
	char text[1024];
	mode_t mode;

	ASSERT_EQ(emu_registry_add(self->r, "dev1"), 0);
	ASSERT_EQ(emu_registry_add(self->r, "dev1/mod"), 0);
	ASSERT_EQ(emu_registry_save(self->r), 0);
	ASSERT_EQ(emu_registry_write_connection_strings(self->r, "hub.example", 8883), 0);
	read_file(self, "devices/dev1.connection-string", text, &mode);
	EXPECT_EQ(mode, 0600u);
	EXPECT_EQ(strncmp(text, "HostName=hub.example;DeviceId=dev1;SharedAccessKey=", 51), 0);
	EXPECT_EQ(strlen(text), 51u + 44 + 1);
	read_file(self, "devices/dev1/mod.connection-string", text, &mode);
	EXPECT_EQ(strncmp(text, "HostName=hub.example;DeviceId=dev1;ModuleId=mod;SharedAccessKey=", 64), 0);
	ASSERT_EQ(emu_registry_write_connection_strings(self->r, "localhost", 1234), 0);
	read_file(self, "service.connection-string", text, &mode);
	EXPECT_EQ(mode, 0600u);
	EXPECT_EQ(strncmp(text, "HostName=localhost;SharedAccessKeyName=service;SharedAccessKey=", 62), 0);
	EXPECT_CONTAINS(text, ";Port=1234\n");
	read_file(self, "devices.json", text, &mode);
	EXPECT_EQ(mode, 0600u);
}

TEST_HARNESS_MAIN
