/* SPDX-License-Identifier: MIT */
/*
 * Channels: what every message gets, what a setter that fails leaves, whose number is whose, and what the next daemon
 * finds of what users set.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/time.h"
#include "flow/channel.h"
#include "mqtt/packet.h"
#include "tests/harness.h"

#define RUN 0x0123456789abcdef

FIXTURE(channels)
{
	struct loop *loop;
	struct log log;
	struct journal *journal;
	struct channels *channels;
	char dir[64], path[96];
	char events[512]; /* `event: text` lines */
};

/* --- life ------------------------------------------------------------------------------------- */

static void settle(struct fixture_channels *self)
{
	do
		ASSERT_EQ(loop_turn(self->loop, 0), 0);
	while (loop_n_in_flight(self->loop));
}

static void on_event(void *userdata, const char *event, const char *text)
{
	struct fixture_channels *self = userdata;
	size_t len = strlen(self->events);

	snprintf(self->events + len, sizeof(self->events) - len, "%s: %s\n", event, text);
}

static int open_channels_at(struct fixture_channels *self, const char *path,
			    const struct channel_declaration *declarations, size_t n)
{
	const struct channels_options options = {
		.loop = self->loop,
		.log = &self->log,
		.journal = self->journal,
		.path = path,
		.run = RUN,
		.declarations = declarations,
		.n_declarations = n,
		.on_event = on_event,
		.userdata = self,
	};

	return channels_new(&self->channels, &options);
}

static void open_channels(struct fixture_channels *self, const struct channel_declaration *declarations,
			  size_t n)
{
	ASSERT_EQ(open_channels_at(self, self->path, declarations, n), 0);
}

static void close_channels(struct fixture_channels *self)
{
	channels_free(TAKE_PTR(self->channels));
	settle(self);
}

/* The next daemon. */
static void again(struct fixture_channels *self)
{
	close_channels(self);
	open_channels(self, NULL, 0);
}

FIXTURE_SETUP(channels)
{
	struct journal_options journal = {.is_volatile = true, .max_bytes = 1 << 20};
	char dir[96];

	log_init(&self->log, "test", LOG_LEVEL_ERROR);
	snprintf(self->dir, sizeof(self->dir), "/tmp/test-channel.XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir));
	snprintf(self->path, sizeof(self->path), "%s/channels.json", self->dir);
	snprintf(dir, sizeof(dir), "%s/journal", self->dir);
	ASSERT_EQ(loop_new(&self->loop, &(struct loop_options){.log = &self->log}), 0);
	journal.loop = self->loop;
	journal.log = &self->log;
	journal.dir = dir;
	ASSERT_EQ(journal_new(&self->journal, &journal), 0);
	open_channels(self, NULL, 0);
}

FIXTURE_TEARDOWN(channels)
{
	char command[192];

	if (!test_is_orphan() && self->journal) {
		if (self->channels)
			close_channels(self);
		journal_stop(self->journal);
		settle(self);
		journal_free(self->journal);
		loop_free(self->loop);
	}
	snprintf(command, sizeof(command), "rm -rf '%s' '%s.away'", self->dir, self->dir);
	ASSERT_EQ(system(command), 0);
}

/* --- looking ---------------------------------------------------------------------------------- */

static struct channel *find(struct fixture_channels *self, const char *name)
{
	struct channel *c = channels_find(self->channels, name);

	ASSERT_TRUE(c);
	EXPECT_TRUE(channels_by_number(self->channels, c->number) == c);
	return c;
}

static struct channel *add(struct fixture_channels *self, const char *name)
{
	struct channel *c;

	ASSERT_EQ(channels_add(self->channels, name, &c), 0);
	return find(self, name) == c ? c : NULL;
}

static int set_text(struct channel *c, enum channel_text which, const char *value)
{
	return channel_set_text(c, which, bytes_from_str(value));
}

static int set_property(struct channel *c, const char *name, const char *value)
{
	return channel_set_property(c, name, bytes_from_str(value));
}

static void expect_text(const struct channel *c, enum channel_text which, const char *value)
{
	if (!value)
		EXPECT_TRUE(!c->texts[which]);
	else
		EXPECT_STREQ(c->texts[which] ? c->texts[which] : "(nothing)", value);
}

/* The lane for what is appended now is that of the channel's values. */
static void expect_lane(const struct channel *c)
{
	struct journal_lane_key key;

	journal_lane_key(c->lane, &key);
	EXPECT_EQ((int)key.kind, (int)JOURNAL_KIND_QUEUE);
	EXPECT_EQ(key.channel, c->number);
	EXPECT_EQ(key.priority, c->priority);
	EXPECT_EQ(key.ttl_s, c->ttl_s);
	EXPECT_STREQ(key.channel_name, c->name);
}

/* What a message gets, as a hub would read it: `content-type; key=value; …` without the daemon's own two. */
static void expect_stamp(struct channel *c, const char *wanted)
{
	size_t len = channel_properties_len(c), pos = 0, at;
	_cleanup_(free_ptr) uint8_t *bytes = malloc(len);
	struct mqtt_properties p;
	struct bytes key, value;
	char got[4096];

	ASSERT_TRUE(bytes);
	stamp_put(&c->stamp, 7, UINT64_C(1600987795320), bytes);
	ASSERT_EQ(mqtt_properties_decode(&p, BYTES(bytes, len), MQTT_PUBLISH), 0);
	at = (size_t)snprintf(got, sizeof(got), "%.*s", (int)p.content_type.len,
			      (const char *)p.content_type.data);
	while (mqtt_user_property_next(p.repeatable, &pos, &key, &value)) {
		if (bytes_equal_str(key, "message-id"))
			EXPECT_TRUE(bytes_equal_str(value, "0123456789abcdef-0000000000000007"));
		else if (bytes_equal_str(key, "creation-time"))
			EXPECT_TRUE(bytes_equal_str(value, "2020-09-24T22:49:55.320Z"));
		else
			at += (size_t)snprintf(got + at, sizeof(got) - at, "; %.*s=%.*s", (int)key.len,
					       (const char *)key.data, (int)value.len,
					       (const char *)value.data);
	}
	EXPECT_STREQ(got, wanted);
}

/* --- which there are -------------------------------------------------------------------------- */

TEST_F(channels, default_is_always_there)
{
	struct channel *c = channels_default(self->channels);

	EXPECT_STREQ(c->name, "default");
	EXPECT_EQ(c->number, 0u);
	EXPECT_TRUE(find(self, "default") == c);
	EXPECT_EQ((int)c->ack, (int)CHANNEL_ACK_QUEUED);
	EXPECT_EQ((int)c->when_full, (int)CHANNEL_FULL_REJECT);
	EXPECT_EQ(c->ttl_s, 0u);
	EXPECT_EQ(c->priority, CHANNEL_PRIORITY_DEFAULT);
	expect_lane(c);
	expect_stamp(c, "");
	EXPECT_EQ(channel_properties_len(c), (size_t)STAMP_LEN);
	EXPECT_EQ(channels_remove(c), -EBUSY);
	EXPECT_TRUE(!channels_next(self->channels, c));
}

TEST_F(channels, names)
{
	static const char *const bad[] = {"",         ".",  "..", ".x",  "a/b",    "a b",
					  "\xc3\xa4", "a%", "a:", "a\n", "default"};
	char longest[CHANNEL_NAME_MAX + 2];
	struct channel *c = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i)
		EXPECT_EQ(channels_add(self->channels, bad[i], &c),
			  strcmp(bad[i], "default") == 0 ? -EEXIST : -EINVAL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	EXPECT_EQ(channels_add(self->channels, longest, &c), -EINVAL);
	add(self, longest + 1);
	add(self, "A-z_0.9");
	EXPECT_EQ(channels_add(self->channels, "A-z_0.9", &c), -EEXIST);
}

TEST_F(channels, there_is_a_bound)
{
	struct channel *c = NULL;
	char name[16];

	for (unsigned int i = 1; i < CHANNELS_MAX; ++i) {
		snprintf(name, sizeof(name), "c%u", i);
		add(self, name);
	}
	EXPECT_EQ(channels_add(self->channels, "more", &c), -ENOSPC);
	EXPECT_EQ(channels_remove(find(self, "c7")), 0);
	EXPECT_TRUE(!channels_find(self->channels, "c7"));
	add(self, "more");
	again(self);
	find(self, "more");
	find(self, "c63");
}

TEST_F(channels, numbers_are_not_given_to_others)
{
	uint16_t a = add(self, "a")->number, b = add(self, "b")->number;

	EXPECT_NE(a, 0u);
	EXPECT_NE(a, b);
	EXPECT_EQ(channels_remove(find(self, "a")), 0);
	EXPECT_TRUE(!channels_by_number(self->channels, a));
	for (unsigned int i = 0; i < 100; ++i) {
		struct channel *c = add(self, "other");

		EXPECT_NE(c->number, a);
		EXPECT_NE(c->number, b);
		EXPECT_EQ(channels_remove(c), 0);
	}
	again(self);
	EXPECT_EQ(find(self, "b")->number, b);
	EXPECT_GT(add(self, "c")->number, b);
}

/* All numbers were in use once: those that nobody knows any more come again. */
TEST_F_TIMEOUT(channels, numbers_come_again, 120)
{
	uint16_t kept = add(self, "kept")->number;
	unsigned int n_again = 0;

	for (unsigned int i = 0; i < 66000; ++i) {
		struct channel *c;

		ASSERT_EQ(channels_add(self->channels, "other", &c), 0);
		ASSERT_NE(c->number, kept);
		ASSERT_NE(c->number, 0u);
		n_again += i > 60000 && c->number < 1000;
		ASSERT_EQ(channels_remove(c), 0);
		/* Now the journal forgets its lane. */
		ASSERT_EQ(loop_turn(self->loop, 0), 0);
	}
	EXPECT_GT(n_again, 0u);
}

/* What is queued is somebody's: a name has its number back, and nobody else gets it. */
TEST_F(channels, the_journal_knows_numbers_too)
{
	struct channel *c = add(self, "a");
	uint16_t number = c->number;
	uint8_t *properties, *payload;
	uint64_t sequence;

	ASSERT_EQ(journal_append(c->lane, 1, 1, 0, 1, &properties, &payload), 0);
	*payload = 'x';
	ASSERT_EQ(journal_commit(c->lane, &sequence), 0);
	ASSERT_EQ(channels_remove(c), 0);
	close_channels(self);
	/* channels.json is lost. */
	ASSERT_EQ(unlink(self->path), 0);
	open_channels(self, NULL, 0);
	EXPECT_NE(add(self, "b")->number, number);
	EXPECT_EQ(add(self, "a")->number, number);
}

TEST_F(channels, open_files_go_on)
{
	struct channel *c = add(self, "a"), *other;

	channel_ref(c);
	channel_ref(c);
	EXPECT_EQ(channels_remove(c), 0);
	EXPECT_TRUE(!channels_find(self->channels, "a"));
	EXPECT_TRUE(!channels_by_number(self->channels, c->number));
	other = add(self, "a");
	EXPECT_TRUE(other != c);
	expect_lane(c);
	expect_stamp(c, "");
	channel_unref(c);
	expect_lane(c);
	channel_unref(c);
	find(self, "a");
}

/* --- values ----------------------------------------------------------------------------------- */

TEST_F(channels, words)
{
	enum channel_when_full full = CHANNEL_FULL_REJECT;
	enum channel_ack ack = CHANNEL_ACK_QUEUED;

	for (enum channel_ack i = 0; i < CHANNEL_N_ACKS; ++i) {
		ASSERT_EQ(channel_ack_parse(bytes_from_str(channel_ack_name(i)), &ack), 0);
		EXPECT_EQ((int)ack, (int)i);
	}
	for (enum channel_when_full i = 0; i < CHANNEL_N_FULLS; ++i) {
		ASSERT_EQ(channel_when_full_parse(bytes_from_str(channel_when_full_name(i)), &full), 0);
		EXPECT_EQ((int)full, (int)i);
	}
	EXPECT_EQ(channel_ack_parse(BYTES_LIT("Stored"), &ack), -EINVAL);
	EXPECT_EQ(channel_ack_parse(BYTES_LIT(""), &ack), -EINVAL);
	EXPECT_EQ(channel_when_full_parse(BYTES_LIT("drop"), &full), -EINVAL);
}

TEST_F(channels, every_message_gets_the_properties)
{
	struct channel *c = add(self, "a");

	ASSERT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, "u"), 0);
	ASSERT_EQ(set_property(c, "site", "north"), 0);
	ASSERT_EQ(set_property(c, "line\xc3\xa9", "7"), 0);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_CONTENT_TYPE, "application/json"), 0);
	expect_stamp(c, "application/json; user-id=u; @site=north; @line\xc3\xa9=7");
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_CONTENT_ENCODING, "utf-8"), 0);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_CORRELATION_ID, "c"), 0);
	ASSERT_EQ(set_property(c, "site", "south"), 0);
	expect_stamp(c, "application/json; content-encoding=utf-8; user-id=u; correlation-id=c; @site=south; "
			"@line\xc3\xa9=7");
	/* Empty is not sent. */
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, ""), 0);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_CONTENT_TYPE, ""), 0);
	ASSERT_EQ(set_property(c, "site", ""), 0);
	expect_stamp(c, "; content-encoding=utf-8; correlation-id=c; @line\xc3\xa9=7");
	expect_text(c, CHANNEL_TEXT_USER_ID, NULL);
	EXPECT_STREQ(channel_property(c, "site"), "");
	ASSERT_EQ(channel_remove_property(c, "site"), 0);
	EXPECT_TRUE(!channel_property(c, "site"));
	EXPECT_EQ(channel_remove_property(c, "site"), -ENOENT);
	EXPECT_STREQ(channel_property_name(c, 0), "line\xc3\xa9");
	EXPECT_TRUE(!channel_property_name(c, 1));
	/* Nobody else does. */
	expect_stamp(channels_default(self->channels), "");
}

TEST_F(channels, properties_can_be_renamed)
{
	struct channel *c = add(self, "a");

	ASSERT_EQ(set_property(c, "x", "1"), 0);
	ASSERT_EQ(set_property(c, "y", "2"), 0);
	ASSERT_EQ(set_property(c, "z", "3"), 0);
	EXPECT_EQ(channel_rename_property(c, "none", "x"), -ENOENT);
	EXPECT_EQ(channel_rename_property(c, "x", "bad\n"), -EINVAL);
	EXPECT_EQ(channel_rename_property(c, "y", "y"), 0);
	expect_stamp(c, "; @x=1; @y=2; @z=3");
	ASSERT_EQ(channel_rename_property(c, "y", "other"), 0);
	expect_stamp(c, "; @x=1; @other=2; @z=3");
	ASSERT_EQ(channel_rename_property(c, "z", "x"), 0);
	expect_stamp(c, "; @other=2; @x=3");
	ASSERT_EQ(channel_rename_property(c, "other", "x"), 0);
	expect_stamp(c, "; @x=2");
}

TEST_F(channels, what_no_value_is)
{
	static const char *const bad[] = {"a\nb", "\x01", "\x7f", "\xc2\x80", "\xff", "\xc3", "\xed\xa0\x80"};
	static char large[CHANNEL_VALUE_MAX + 2], name[258];
	struct channel *c = add(self, "a");

	ASSERT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, "u"), 0);
	ASSERT_EQ(set_property(c, "p", "q"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		EXPECT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, bad[i]), -EINVAL);
		EXPECT_EQ(set_property(c, "p", bad[i]), -EINVAL);
		EXPECT_EQ(set_property(c, bad[i], "v"), -EINVAL);
	}
	EXPECT_EQ(channel_set_text(c, CHANNEL_TEXT_USER_ID, BYTES("a\0b", 3)), -EINVAL);
	memset(large, 'x', sizeof(large) - 1);
	EXPECT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, large), -EMSGSIZE);
	EXPECT_EQ(set_property(c, "p", large), -EMSGSIZE);
	EXPECT_EQ(set_property(c, "", "v"), -EINVAL);
	memset(name, 'n', 256);
	EXPECT_EQ(set_property(c, name, "v"), -EINVAL);
	EXPECT_EQ(channel_set_ttl(c, CHANNEL_TTL_MAX + 1), -EINVAL);
	EXPECT_EQ(channel_set_priority(c, CHANNEL_PRIORITY_MAX + 1), -EINVAL);
	expect_stamp(c, "; user-id=u; @p=q");
	expect_lane(c);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, large + 1), 0);
	name[255] = '\0';
	ASSERT_EQ(set_property(c, name, "v"), 0);
}

TEST_F(channels, properties_have_bounds)
{
	struct channel *c = add(self, "a");
	static char value[CHANNEL_VALUE_MAX + 1];
	char name[16];
	size_t len;
	int r = 0;

	memset(value, 'v', CHANNEL_VALUE_MAX);
	for (unsigned int i = 0; !r && i < CHANNEL_PROPERTIES_MAX; ++i) {
		snprintf(name, sizeof(name), "n%u", i);
		len = channel_properties_len(c);
		r = set_property(c, name, value);
	}
	/* A property that did not fit is not there, and the rest is as it was. */
	EXPECT_EQ(r, -EMSGSIZE);
	EXPECT_TRUE(!channel_property(c, name));
	EXPECT_EQ(channel_properties_len(c), len);
	EXPECT_LE(len, (size_t)CHANNEL_PROPERTY_BYTES_MAX + STAMP_LEN);
	EXPECT_GT(len, (size_t)CHANNEL_PROPERTY_BYTES_MAX - 2 * CHANNEL_VALUE_MAX);
	ASSERT_EQ(set_property(c, "n0", "little"), 0);
	ASSERT_EQ(set_property(c, name, value), 0);
	EXPECT_EQ(set_property(c, "n0", value), -EMSGSIZE);
	EXPECT_STREQ(channel_property(c, "n0"), "little");
	EXPECT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, value), -EMSGSIZE);
	expect_text(c, CHANNEL_TEXT_USER_ID, NULL);
	while (channel_property_name(c, 0))
		ASSERT_EQ(channel_remove_property(c, channel_property_name(c, 0)), 0);
	for (unsigned int i = 0; i < CHANNEL_PROPERTIES_MAX; ++i) {
		snprintf(name, sizeof(name), "m%u", i);
		ASSERT_EQ(set_property(c, name, "v"), 0);
	}
	EXPECT_EQ(set_property(c, "more", "v"), -ENOSPC);
	ASSERT_EQ(set_property(c, "m0", "w"), 0);
}

TEST_F(channels, the_lane_follows)
{
	struct channel *c = add(self, "a");
	struct journal_lane *before = c->lane;

	expect_lane(c);
	ASSERT_EQ(channel_set_priority(c, 0), 0);
	expect_lane(c);
	EXPECT_TRUE(c->lane != before);
	ASSERT_EQ(channel_set_ttl(c, 60), 0);
	expect_lane(c);
	EXPECT_EQ(c->priority, 0u);
	EXPECT_EQ(c->ttl_s, 60u);
	ASSERT_EQ(channel_set_ttl(c, CHANNEL_TTL_MAX), 0);
	expect_lane(c);
}

/* Messages that wait keep their lanes; one lane more than there can be is refused, and nothing has changed. */
TEST_F(channels, lanes_have_a_bound)
{
	struct channel *c = add(self, "a");
	struct journal_lane *lanes[JOURNAL_LANES_MAX];
	size_t n = 0;

	settle(self);
	for (int r = 0; n < ARRAY_SIZE(lanes); ++n) {
		const struct journal_lane_key key = {.kind = JOURNAL_KIND_REJECTED,
						     .channel = 9,
						     .ttl_s = (uint32_t)n,
						     .channel_name = "x"};

		r = journal_lane_get(self->journal, &key, &lanes[n]);
		if (r) {
			EXPECT_EQ(r, -ENOSPC);
			break;
		}
	}
	EXPECT_EQ(channel_set_ttl(c, 77), -ENOSPC);
	EXPECT_EQ(c->ttl_s, 0u);
	expect_lane(c);
	while (n)
		journal_lane_put(lanes[--n]);
	settle(self);
	EXPECT_EQ(channel_set_ttl(c, 77), 0);
}

/* --- what is kept ----------------------------------------------------------------------------- */

TEST_F(channels, settings_outlive_the_daemon)
{
	struct channel *c = add(self, "a");
	struct stat st;

	ASSERT_EQ(channel_set_ack(c, CHANNEL_ACK_HUB), 0);
	ASSERT_EQ(channel_set_when_full(c, CHANNEL_FULL_DROP_OLDEST), 0);
	ASSERT_EQ(channel_set_ttl(c, CHANNEL_TTL_MAX), 0);
	ASSERT_EQ(channel_set_priority(c, 9), 0);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_CONTENT_TYPE, "a\"\\/b \xe2\x82\xac"), 0);
	ASSERT_EQ(set_property(c, "q\"/", "\xf0\x9f\x98\x80"), 0);
	ASSERT_EQ(set_property(c, "empty", ""), 0);
	ASSERT_EQ(set_text(channels_default(self->channels), CHANNEL_TEXT_USER_ID, "me"), 0);
	for (int i = 0; i < 2; ++i) {
		again(self);
		c = find(self, "a");
		EXPECT_EQ((int)c->ack, (int)CHANNEL_ACK_HUB);
		EXPECT_EQ((int)c->when_full, (int)CHANNEL_FULL_DROP_OLDEST);
		EXPECT_EQ(c->ttl_s, (uint32_t)CHANNEL_TTL_MAX);
		EXPECT_EQ(c->priority, 9u);
		EXPECT_STREQ(channel_property(c, "empty"), "");
		expect_lane(c);
		expect_stamp(c, "a\"\\/b \xe2\x82\xac; @q\"/=\xf0\x9f\x98\x80");
		expect_stamp(channels_default(self->channels), "; user-id=me");
	}
	ASSERT_EQ(stat(self->path, &st), 0);
	EXPECT_EQ(st.st_mode & 0777u, 0600u);
	ASSERT_EQ(channels_remove(c), 0);
	again(self);
	EXPECT_TRUE(!channels_find(self->channels, "a"));
}

/* As large as it can be: it is read again. */
TEST_F(channels, the_largest_file)
{
	static char name[256], value[CHANNEL_VALUE_MAX + 1];

	memset(name, '\\', 255);
	memset(value, '"', CHANNEL_VALUE_MAX);
	for (unsigned int i = 1; i < CHANNELS_MAX; ++i) {
		struct channel *c;
		char text[CHANNEL_NAME_MAX + 1];

		memset(text, 'c', CHANNEL_NAME_MAX);
		snprintf(text + CHANNEL_NAME_MAX - 2, 3, "%02u", i);
		c = add(self, text);
		for (unsigned int k = 0; k < CHANNEL_PROPERTIES_MAX; ++k) {
			snprintf(name + 253, 3, "%02u", k);
			ASSERT_EQ(set_property(c, name, k < 12 ? value : ""), 0);
		}
	}
	again(self);
	EXPECT_STREQ(channel_property(channels_next(self->channels, channels_default(self->channels)), name),
		     "");
}

static const char *const declared_names[] = {"site", "line"};
static const char *const declared_values[] = {"north", "7"};

static struct channel_declaration declaration(const char *name)
{
	return (struct channel_declaration){
		.name = name,
		.ack = CHANNEL_ACK_STORED,
		.when_full = CHANNEL_FULL_BLOCK,
		.ttl_s = 60,
		.priority = 2,
		.texts = {[CHANNEL_TEXT_CONTENT_TYPE] = "text/plain"},
		.property_names = declared_names,
		.property_values = declared_values,
		.n_properties = 2,
	};
}

TEST_F(channels, declared)
{
	struct channel_declaration d[] = {declaration("a"), declaration("default")};
	struct channel *c;
	uint16_t number;

	close_channels(self);
	open_channels(self, d, 2);
	c = find(self, "a");
	number = c->number;
	EXPECT_EQ((int)c->ack, (int)CHANNEL_ACK_STORED);
	EXPECT_EQ((int)c->when_full, (int)CHANNEL_FULL_BLOCK);
	EXPECT_EQ(c->ttl_s, 60u);
	EXPECT_EQ(c->priority, 2u);
	expect_lane(c);
	expect_stamp(c, "text/plain; @site=north; @line=7");
	expect_stamp(channels_default(self->channels), "text/plain; @site=north; @line=7");
	/* What nobody set follows the configuration, what a user set does not. */
	ASSERT_EQ(channel_set_ttl(c, 61), 0);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_USER_ID, "u"), 0);
	d[0].priority = 3;
	d[0].ttl_s = 1;
	d[0].texts[CHANNEL_TEXT_CONTENT_TYPE] = "text/html";
	d[0].n_properties = 1;
	close_channels(self);
	open_channels(self, d, 2);
	c = find(self, "a");
	EXPECT_EQ(c->number, number);
	EXPECT_EQ(c->priority, 3u);
	EXPECT_EQ(c->ttl_s, 61u);
	expect_lane(c);
	expect_stamp(c, "text/html; user-id=u; @site=north");
	/* A user who takes one property away has set them all. */
	ASSERT_EQ(channel_remove_property(c, "site"), 0);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_CONTENT_TYPE, ""), 0);
	close_channels(self);
	open_channels(self, d, 2);
	c = find(self, "a");
	expect_stamp(c, "; user-id=u");
	/* Away until the next start, and then as declared. */
	ASSERT_EQ(channels_remove(c), 0);
	close_channels(self);
	open_channels(self, d, 2);
	expect_stamp(find(self, "a"), "text/html; @site=north");
	/* Not declared any more. */
	again(self);
	EXPECT_TRUE(!channels_find(self->channels, "a"));
	expect_stamp(channels_default(self->channels), "");
}

TEST_F(channels, made_and_declared)
{
	struct channel_declaration d = declaration("a");

	ASSERT_EQ(set_property(add(self, "a"), "x", "1"), 0);
	close_channels(self);
	open_channels(self, &d, 1);
	expect_stamp(find(self, "a"), "text/plain; @x=1");
	/* Somebody made it: it stays. */
	again(self);
	expect_stamp(find(self, "a"), "; @x=1");
}

TEST_F(channels, declared_ones_go_before_what_is_kept)
{
	struct channel_declaration d[CHANNELS_MAX];
	static char names[CHANNELS_MAX][8];
	char name[16];

	for (unsigned int i = 1; i < CHANNELS_MAX; ++i) {
		snprintf(name, sizeof(name), "c%u", i);
		add(self, name);
	}
	for (unsigned int i = 0; i < CHANNELS_MAX; ++i) {
		snprintf(names[i], sizeof(names[i]), "d%u", i);
		d[i] = declaration(names[i]);
	}
	close_channels(self);
	open_channels(self, d, CHANNELS_MAX - 1);
	find(self, "d0");
	EXPECT_TRUE(!channels_find(self->channels, "c1"));
	close_channels(self);
	EXPECT_EQ(open_channels_at(self, self->path, d, CHANNELS_MAX), -ENOSPC);
	EXPECT_TRUE(!self->channels);
}

TEST_F(channels, without_a_file)
{
	struct channel_declaration d = declaration("a");

	close_channels(self);
	ASSERT_EQ(unlink(self->path), 0);
	ASSERT_EQ(open_channels_at(self, NULL, &d, 1), 0);
	add(self, "b");
	ASSERT_EQ(channel_set_ttl(find(self, "a"), 5), 0);
	settle(self);
	EXPECT_EQ(access(self->path, F_OK), -1);
}

/* Nothing changed: a start writes nothing. */
TEST_F(channels, a_start_does_not_write)
{
	struct stat before, after;

	add(self, "a");
	again(self);
	settle(self);
	ASSERT_EQ(stat(self->path, &before), 0);
	again(self);
	settle(self);
	ASSERT_EQ(stat(self->path, &after), 0);
	EXPECT_EQ(before.st_ino, after.st_ino);
	EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

/* --- files that are not good ------------------------------------------------------------------ */

static void write_file(const struct fixture_channels *self, const void *data, size_t len)
{
	int fd = open(self->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static void write_state(const struct fixture_channels *self, const char *state)
{
	char file[8192];
	int len = snprintf(file, sizeof(file), "{\"crc32c\":\"%08" PRIx32 "\",\"state\":%s}\n",
			   crc32c(0, state, strlen(state)), state);

	ASSERT_LT((size_t)len, sizeof(file));
	write_file(self, file, (size_t)len);
}

static bool was_set_aside(const struct fixture_channels *self)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.bad", self->path);
	return unlink(path) == 0;
}

static void expect_event(struct fixture_channels *self, const char *what, int error)
{
	char text[256];

	snprintf(text, sizeof(text), "channels-error: cannot %s %s: %s\n", what, self->path, strerror(error));
	EXPECT_STREQ(self->events, text);
	self->events[0] = '\0';
}

/* The disk may read it the next time. */
TEST_F(channels, a_file_that_cannot_be_read_stays)
{
	char good[128], bad[128];

	ASSERT_EQ(channel_set_ttl(add(self, "mine"), 77), 0);
	close_channels(self);
	snprintf(good, sizeof(good), "%s.good", self->path);
	snprintf(bad, sizeof(bad), "%s.bad", self->path);
	for (int i = 0; i < 2; ++i) {
		ASSERT_EQ(rename(self->path, good), 0);
		ASSERT_EQ(symlink("channels.json", self->path), 0);
		open_channels(self, NULL, 0);
		settle(self);
		expect_event(self, "read", ELOOP);
		ASSERT_EQ(rename(good, self->path), 0);
		if (i == 1)
			(void)add(self, "other");
		again(self);
		EXPECT_EQ(channels_find(self->channels, "mine") != NULL, i == 0);
		EXPECT_EQ(channels_find(self->channels, "other") != NULL, i == 1);
		close_channels(self);
	}
	/* What was there is not lost. */
	ASSERT_EQ(rename(bad, self->path), 0);
	open_channels(self, NULL, 0);
	EXPECT_EQ(find(self, "mine")->ttl_s, 77u);
}

TEST_F(channels, what_cannot_be_kept_is_told)
{
	char away[128];

	snprintf(away, sizeof(away), "%s.away", self->dir);
	ASSERT_EQ(rename(self->dir, away), 0);
	ASSERT_EQ(channel_set_ttl(channels_default(self->channels), 10), 0);
	settle(self);
	expect_event(self, "write", ENOENT);
	/* Once. */
	ASSERT_EQ(channel_set_ttl(channels_default(self->channels), 20), 0);
	settle(self);
	ASSERT_EQ(rename(away, self->dir), 0);
	EXPECT_STREQ(self->events, "");
}

/* The checksum of RFC 3720 over the text as it stands: whoever changes the format must see the files that are there. */
TEST_F(channels, the_format)
{
	static const char wanted[] =
		"{\"crc32c\":\"XXXXXXXX\",\"state\":{\"channels\":[{\"name\":\"default\",\"number\":0},"
		"{\"name\":\"a\",\"number\":1,\"made\":true,\"ttl\":60,\"content-type\":\"text/plain\","
		"\"properties\":{\"site\":\"north\"}}],\"next\":2}}\n";
	struct channel *c = add(self, "a");
	char text[1024] = "";
	int fd;

	ASSERT_EQ(channel_set_ttl(c, 60), 0);
	ASSERT_EQ(set_text(c, CHANNEL_TEXT_CONTENT_TYPE, "text/plain"), 0);
	ASSERT_EQ(set_property(c, "site", "north"), 0);
	settle(self);
	fd = open(self->path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_GT(read(fd, text, sizeof(text) - 1), 20);
	close(fd);
	memcpy(text + strlen("{\"crc32c\":\""), "XXXXXXXX", 8);
	EXPECT_STREQ(text, wanted);
}

TEST_F_TIMEOUT(channels, every_cut_and_every_bit_is_noticed, 120)
{
	char text[256] = "";
	ssize_t len;
	int fd;

	add(self, "a");
	settle(self);
	fd = open(self->path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	len = read(fd, text, sizeof(text));
	ASSERT_GT(len, 20);
	ASSERT_LT((size_t)len, sizeof(text));
	close(fd);
	self->log.level = LOG_LEVEL_ERROR;
	self->log.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	for (ssize_t n = 0; n < len; ++n) {
		close_channels(self);
		write_file(self, text, (size_t)n);
		open_channels(self, NULL, 0);
		ASSERT_TRUE(was_set_aside(self));
		ASSERT_TRUE(!channels_find(self->channels, "a"));
	}
	for (size_t bit = 0; bit < (size_t)len * 8; ++bit) {
		close_channels(self);
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
		write_file(self, text, (size_t)len);
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
		open_channels(self, NULL, 0);
		ASSERT_TRUE(was_set_aside(self));
	}
	close_channels(self);
	write_file(self, text, (size_t)len);
	open_channels(self, NULL, 0);
	find(self, "a");
	close(self->log.fd);
}

TEST_F(channels, a_whole_file_with_anything_in_it)
{
	static const char *const states[] = {
		"{}",
		"{\"channels\":7,\"next\":-1}",
		"{\"channels\":[],\"next\":99999999999999999999}",
		"{\"channels\":[null,7,[],{},\"x\",{\"name\":7},{\"name\":\"../x\",\"made\":true},"
		"{\"name\":\"default\",\"number\":9,\"made\":true}]}",
		"{\"next\":1,\"channels\":[{\"name\":\"a\",\"number\":3,\"made\":true,\"ack\":\"sometimes\","
		"\"ttl\":-1,\"priority\":10,\"when-full\":7,\"content-type\":\"a\\nb\",\"user-id\":\"good\","
		"\"properties\":{\"\":\"x\",\"ok\":\"1\",\"n\":1,\"bad\":\"\\u0000\",\"x\\u0000y\":\"1\"},"
		"\"later\":{}},"
		"{\"name\":\"a\",\"number\":4,\"made\":true,\"correlation-id\":\"c\"},"
		"{\"name\":\"b\",\"number\":3,\"made\":true},{\"name\":\"c\",\"number\":0,\"made\":true},"
		"{\"name\":\"d\",\"number\":65536,\"made\":true},{\"name\":\"e\",\"number\":3}]}",
	};

	self->log.level = LOG_LEVEL_ERROR;
	for (size_t i = 0; i < ARRAY_SIZE(states); ++i) {
		close_channels(self);
		write_state(self, states[i]);
		open_channels(self, NULL, 0);
		EXPECT_FALSE(was_set_aside(self));
		EXPECT_EQ(channels_default(self->channels)->number, 0u);
	}
	EXPECT_EQ(find(self, "a")->number, 3u);
	EXPECT_EQ(find(self, "a")->ttl_s, 0u);
	expect_stamp(find(self, "a"), "; user-id=good; correlation-id=c; @ok=1; @x=1");
	/* One number is one channel's. */
	find(self, "b");
	find(self, "c");
	find(self, "d");
	EXPECT_TRUE(!channels_find(self->channels, "e"));
}

TEST_F(channels, whole_files_that_are_no_state)
{
	static const char *const states[] = {"[]",
					     "7",
					     "{\"a\":}",
					     "{} {}",
					     "{",
					     "{\"channels\":[[[[[[[[[[[[]]]]]]]]]]]]}",
					     "{\"a\":\"\xff\"}"};

	for (size_t i = 0; i < ARRAY_SIZE(states); ++i) {
		close_channels(self);
		write_state(self, states[i]);
		open_channels(self, NULL, 0);
		if (!was_set_aside(self))
			harness_fail(__FILE__, __LINE__, false, "%s was taken", states[i]);
	}
}

TEST_HARNESS_MAIN
