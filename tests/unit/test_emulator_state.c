/* SPDX-License-Identifier: MIT */
/* What the hub keeps on disk: the log, and what comes back from it after the hub is gone. */

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/harness.h"
#include "tests/support/emu_service.h"
#include "tools/emulator/state.h"
#include "tools/emulator/store.h"

FIXTURE(state)
{
	char dir[64], path[128];
	struct emu_world w;
	bool has_world;
	struct emu_peer *peer, *service;
	struct emu_reply reply;
	struct mqtt_packet packet;
	char read[8192];
};

static void start(struct fixture_state *self)
{
	ASSERT_EQ(emu_world_init_kept(&self->w, self->dir), 0);
	self->has_world = true;
	self->peer = emu_peer_connected(&self->w, "dev1");
	self->service = emu_peer_service(&self->w, "service/t");
	ASSERT_TRUE(self->peer && self->service);
}

/* As kill -9 leaves it: what was not committed is lost. */
static void stop(struct fixture_state *self)
{
	if (!self->has_world)
		return;
	emu_store_free(self->w.hub.store);
	self->w.hub.store = NULL;
	emu_peer_close(self->peer);
	emu_peer_close(self->service);
	emu_world_deinit(&self->w);
	self->has_world = false;
}

FIXTURE_SETUP(state)
{
	strcpy(self->dir, "/tmp/iothub-emulator-XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir) != NULL);
	snprintf(self->path, sizeof(self->path), "%s/state.log", self->dir);
}

FIXTURE_TEARDOWN(state)
{
	char command[128];

	if (!test_is_orphan())
		stop(self);
	snprintf(command, sizeof(command), "rm -rf '%s'", self->dir);
	EXPECT_EQ(system(command), 0);
}

/* --- the log ---------------------------------------------------------------------------------- */

static int on_record(void *userdata, struct bytes record)
{
	struct fixture_state *self = userdata;
	size_t n = strlen(self->read);

	snprintf(self->read + n, sizeof(self->read) - n, "%.*s;", (int)record.len, (const char *)record.data);
	return 0;
}

static struct emu_store *store_open(struct fixture_state *self)
{
	struct emu_store *s;

	self->read[0] = '\0';
	return emu_store_open(&s, self->path, on_record, self, NULL) < 0 ? NULL : s;
}

static void append(struct emu_store *s, const char *record)
{
	emu_store_append(s, bytes_from_str(record));
	EXPECT_EQ(emu_store_commit(s), 0);
}

static void expect_records(struct fixture_state *self, const char *want)
{
	emu_store_free(store_open(self));
	EXPECT_STREQ(self->read, want);
}

static void store_fill(struct fixture_state *self)
{
	struct emu_store *s = store_open(self);

	ASSERT_TRUE(s != NULL);
	emu_store_append(s, BYTES_LIT("one"));
	emu_store_append(s, BYTES_LIT(""));
	EXPECT_EQ(emu_store_commit(s), 0);
	append(s, "three");
	emu_store_append(s, BYTES_LIT("never committed"));
	emu_store_free(s);
}

TEST_F(state, records_come_back_in_order)
{
	struct emu_store *s;

	store_fill(self);
	s = store_open(self);
	ASSERT_TRUE(s != NULL);
	EXPECT_STREQ(self->read, "one;;three;");
	append(s, "four");
	emu_store_free(s);
	expect_records(self, "one;;three;four;");
}

TEST_F(state, a_log_cut_anywhere_gives_its_whole_records)
{
	static const char *const wants[] = {"", "one;", "one;;", "one;;three;"};
	struct stat st;

	store_fill(self);
	ASSERT_EQ(stat(self->path, &st), 0);
	for (off_t size = st.st_size; size >= 0; size--) {
		struct emu_store *s;
		int n = size >= 38 ? 3 : size >= 23 ? 2 : size >= 13 ? 1 : 0;

		ASSERT_EQ(truncate(self->path, size), 0);
		s = store_open(self);
		ASSERT_TRUE(s != NULL);
		EXPECT_STREQ(self->read, wants[n]);
		emu_store_free(s);
	}
}

TEST_F(state, a_broken_byte_ends_the_log)
{
	for (off_t at = 0; at < 38; at++) {
		struct emu_store *s;
		char c;
		int fd;

		unlink(self->path);
		store_fill(self);
		fd = open(self->path, O_RDWR | O_CLOEXEC);
		ASSERT_EQ(pread(fd, &c, 1, at), 1);
		c ^= 1;
		ASSERT_EQ(pwrite(fd, &c, 1, at), 1);
		close(fd);
		s = store_open(self);
		ASSERT_TRUE(s != NULL);
		EXPECT_LT(strlen(self->read), strlen("one;;three;"));
		/* What is appended now stands behind what counts. */
		append(s, "more");
		emu_store_free(s);
		emu_store_free(store_open(self));
		EXPECT_TRUE(strstr(self->read, "more;") != NULL);
	}
}

TEST_F(state, a_rewritten_log_replaces_the_old_one)
{
	struct emu_store *s;

	store_fill(self);
	s = store_open(self);
	emu_store_rewrite(s);
	append(s, "new");
	EXPECT_EQ(emu_store_n_bytes(s), 13u);
	append(s, "newer");
	emu_store_free(s);
	expect_records(self, "new;newer;");
}

TEST_F(state, a_log_that_cannot_be_written_anew_goes_on)
{
	struct emu_store *s;
	char blocker[160];
	uint64_t n_bytes;

	store_fill(self);
	/* Where the new file would be. */
	snprintf(blocker, sizeof(blocker), "%s.new", self->path);
	ASSERT_EQ(mkdir(blocker, 0700), 0);
	s = store_open(self);
	n_bytes = emu_store_n_bytes(s);
	emu_store_rewrite(s);
	append(s, "anew");
	EXPECT_EQ(emu_store_n_bytes(s), n_bytes);
	append(s, "four");
	/* And when it can be again: */
	ASSERT_EQ(rmdir(blocker), 0);
	emu_store_free(s);
	s = store_open(self);
	EXPECT_STREQ(self->read, "one;;three;four;");
	emu_store_rewrite(s);
	append(s, "anew");
	emu_store_free(s);
	expect_records(self, "anew;");
}

TEST_F(state, a_write_that_fails_is_not_hidden)
{
	struct emu_store *s;
	int fd;

	store_fill(self);
	s = store_open(self);
	fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	/* The log's own descriptor is the last that was opened before. */
	ASSERT_EQ(dup2(fd, fd - 1), fd - 1);
	emu_store_append(s, BYTES_LIT("lost"));
	EXPECT_EQ(emu_store_commit(s), -ENOSPC);
	emu_store_append(s, BYTES_LIT("lost"));
	EXPECT_EQ(emu_store_commit(s), -ENOSPC);
	emu_store_free(s);
	close(fd);
}

/* --- the hub ---------------------------------------------------------------------------------- */

static const char *ask(struct fixture_state *self, const char *topic, const char *properties,
		       const char *payload)
{
	return emu_ask(self->service, &self->reply, topic, properties, payload);
}

TEST_F(state, twins_survive)
{
	start(self);
	EXPECT_STREQ(ask(self, "$service/twin/patch", "device=dev1", "{\"a\":{\"b\":1.50}}"), "");
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/patch/reported", NULL,
			     "{\"r\":\"\xc3\xa4\"}"),
		     "");
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/patch/reported", NULL, "{\"s\":null}"),
		     "");
	stop(self);
	start(self);
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/get", NULL, ""), "");
	EXPECT_STREQ(self->reply.payload,
		     "{\"desired\":{\"a\":{\"b\":1.50},\"$version\":2},\"reported\":{\"r\":"
		     "\"\xc3\xa4\",\"$version\":3}}");
}

TEST_F(state, commands_and_dead_letters_survive)
{
	struct emu_reply before;

	start(self);
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 1);
	ask(self, "$service/commands/send", "device=dev1,@a=b,message-id=m", "rejected");
	ask(self, "$service/commands/send", "device=dev1", "completed");
	ask(self, "$service/commands/send", "device=dev1", "in flight");
	ask(self, "$service/commands/send", "device=dev2", "queued");
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	emu_puback(self->peer, self->packet.publish.packet_id, 131, "0100");
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	emu_puback(self->peer, self->packet.publish.packet_id, 0, NULL);
	emu_ask(self->service, &before, "$service/commands/list", "device=dev2", "");
	stop(self);
	start(self);
	/* The session is there, and its delivery goes on. */
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.payload, "in flight"));
	EXPECT_TRUE(self->packet.publish.dup);
	EXPECT_FALSE(emu_peer_next(self->peer, &self->packet));
	ask(self, "$service/commands/list", "device=dev1", "");
	EXPECT_TRUE(strstr(self->reply.payload,
			   "\"dead-letter-reason\":\"rejected\",\"properties\":{\"@a\":\"b\","
			   "\"message-id\":\"m\"},\"payload\":\"rejected\"") != NULL);
	EXPECT_TRUE(strstr(self->reply.payload, "completed") == NULL);
	ask(self, "$service/commands/list", "device=dev1,completed=1", "");
	EXPECT_TRUE(strstr(self->reply.payload,
			   "{\"sequence-no\":2,\"state\":\"completed\",\"enqueued-time\":\"2023-11-14T22:13:"
			   "20.000Z\","
			   "\"expires-at\":\"2023-11-14T23:13:20.000Z\",\"delivery-count\":1,"
			   "\"settled-time\":\"2023-11-14T22:13:20.000Z\"}") != NULL);
	ask(self, "$service/commands/list", "device=dev2", "");
	EXPECT_STREQ(self->reply.payload, before.payload);
	/* Numbers are never given twice. */
	ask(self, "$service/commands/send", "device=dev1", "x");
	EXPECT_STREQ(emu_reply_property(&self->reply, "sequence-no"), "5");
}

TEST_F(state, sessions_survive)
{
	start(self);
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/commands@1"), 1);
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/methods/+"), 0);
	stop(self);
	start(self);
	ask(self, "$service/devices/show", "device=dev1", "");
	EXPECT_TRUE(strstr(self->reply.payload,
			   "\"subscriptions\":[\"$iothub/commands\",\"$iothub/methods/+\"]") != NULL);
	stop(self);
	/* One that was away ends at its time, which goes on while the hub does not run. */
	start(self);
	emu_peer_close(self->peer);
	self->peer = NULL;
	ask(self, "$service/devices/list", NULL, "");
	stop(self);
	ASSERT_EQ(emu_world_init_kept(&self->w, self->dir), 0);
	self->has_world = true;
	self->service = emu_peer_service(&self->w, "service/t");
	ask(self, "$service/devices/show", "device=dev1", "");
	EXPECT_TRUE(strstr(self->reply.payload, "\"session\":true") != NULL);
	emu_world_pass_ms(&self->w, 3600 * 1000);
	emu_peer_close(self->service);
	self->service = emu_peer_service(&self->w, "service/t");
	ask(self, "$service/devices/show", "device=dev1", "");
	EXPECT_TRUE(strstr(self->reply.payload, "\"session\":false") != NULL);
}

TEST_F(state, a_removed_device_leaves_nothing)
{
	start(self);
	ask(self, "$service/devices/add", "device=gone", "");
	ask(self, "$service/twin/patch", "device=gone", "{\"a\":1}");
	ask(self, "$service/commands/send", "device=gone", "x");
	EXPECT_STREQ(ask(self, "$service/devices/remove", "device=gone", ""), "");
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=gone", ""), "");
	stop(self);
	start(self);
	ask(self, "$service/devices/show", "device=gone", "");
	EXPECT_TRUE(strstr(self->reply.payload, "\"queued\":0,\"dead-lettered\":0},\"desired-version\":1") !=
		    NULL);
}

TEST_F(state, a_device_whose_removal_was_cut_short_leaves_nothing)
{
	start(self);
	ask(self, "$service/devices/add", "device=gone", "");
	ask(self, "$service/twin/patch", "device=gone", "{\"a\":1}");
	ask(self, "$service/commands/send", "device=gone", "x");
	/* Killed before the end of the turn. */
	emu_request_send(self->service, "$service/devices/remove", "device=gone", "", "cut");
	stop(self);
	start(self);
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=gone", ""), "");
	stop(self);
	start(self);
	ask(self, "$service/devices/show", "device=gone", "");
	EXPECT_TRUE(strstr(self->reply.payload, "\"queued\":0,\"dead-lettered\":0},\"desired-version\":1") !=
		    NULL);
}

TEST_F(state, devices_survive)
{
	char keys[512];

	start(self);
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=new", ""), "");
	ask(self, "$service/devices/keys", "device=new,regenerate=both", "");
	snprintf(keys, sizeof(keys), "%.400s", self->reply.payload);
	EXPECT_STREQ(ask(self, "$service/devices/add", "device=c",
			 "{\"authentication\":\"x509\",\"thumbprints\":"
			 "[\"00000000000000000000000000000000000000000000000000000000000000AA\"]}"),
		     "");
	stop(self);
	start(self);
	ask(self, "$service/devices/keys", "device=new", "");
	EXPECT_STREQ(self->reply.payload, keys);
	ask(self, "$service/devices/show", "device=c", "");
	EXPECT_TRUE(strstr(self->reply.payload,
			   "\"authentication\":\"x509\",\"thumbprints\":"
			   "[\"00000000000000000000000000000000000000000000000000000000000000aa\"]") != NULL);
}

TEST_F(state, the_log_is_written_anew)
{
	struct stat st;
	char text[4096], json[4200];

	memset(text, 'x', sizeof(text));
	start(self);
	ask(self, "$service/commands/send", "device=dev2,@a=b", "kept");
	ASSERT_EQ(emu_subscribe(self->peer, "$iothub/commands@0"), 0);
	ask(self, "$service/commands/send", "device=dev1", "completed");
	ask(self, "$service/commands/list", "device=dev1,completed=1", "");
	strcpy(self->read, self->reply.payload);
	for (int i = 0; i < 2000; i++) {
		snprintf(json, sizeof(json), "{\"a\":\"%.3990s%d\"}", text, i);
		ASSERT_TRUE(*emu_ask(self->peer, &self->reply, "$iothub/twin/patch/reported", NULL, json) ==
			    '\0');
	}
	ASSERT_EQ(stat(self->path, &st), 0);
	EXPECT_LT(st.st_size, 5 * 1024 * 1024);
	stop(self);
	start(self);
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/get", NULL, ""), "");
	EXPECT_TRUE(strstr(self->reply.payload, "x1999\",\"$version\":2001") != NULL);
	ask(self, "$service/commands/list", "device=dev2", "");
	EXPECT_TRUE(strstr(self->reply.payload, "\"@a\":\"b\"},\"payload\":\"kept\"") != NULL);
	ask(self, "$service/commands/list", "device=dev1,completed=1", "");
	EXPECT_STREQ(self->reply.payload, self->read);
	ask(self, "$service/commands/send", "device=dev2", "x");
	EXPECT_STREQ(emu_reply_property(&self->reply, "sequence-no"), "3");
}

TEST_HARNESS_MAIN
