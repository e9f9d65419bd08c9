/* SPDX-License-Identifier: MIT */
/*
 * Telemetry files without kernel and network, see files_line.h. It looks into the link and into telemetry, to be the
 * hub.
 */

#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "flow/telemetry_internal.h"
#include "net/resolver.h"
#include "tests/harness.h"
#include "tests/support/files_line.h"

/* --- what goes up ----------------------------------------------------------------------------- */

static void on_online(void *userdata, bool session_present)
{
	telemetry_on_online(((struct files_line *)userdata)->telemetry, session_present);
}

static void on_offline(void *userdata)
{
	telemetry_on_offline(((struct files_line *)userdata)->telemetry);
}

static void on_writable(void *userdata)
{
	telemetry_on_writable(((struct files_line *)userdata)->telemetry);
}

static void on_puback(void *userdata, uint64_t cookie, const struct hub_status *status, struct bytes reason)
{
	telemetry_on_puback(((struct files_line *)userdata)->telemetry, cookie, status, reason);
}

static void on_changed(void *userdata)
{
	(void)userdata;
}

static void on_stored(void *userdata, uint64_t sequence, int error)
{
	telemetry_on_stored(((struct files_line *)userdata)->telemetry, sequence, error);
}

static void on_disk_room(void *userdata)
{
	telemetry_on_room(((struct files_line *)userdata)->telemetry);
}

static void on_lost(void *userdata, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	struct files_line *f = userdata;

	if (f->telemetry)
		telemetry_on_lost(f->telemetry, lane, first, last);
}

static void on_event(void *userdata, const char *event, const char *text)
{
	struct files_line *f = userdata;
	size_t len = strlen(f->events);

	snprintf(f->events + len, sizeof(f->events) - len, "%s: %s\n", event, text);
}

static void on_room(void *userdata)
{
	struct files_line *f = userdata;

	++f->n_room;
	if (f->files)
		telemetry_files_on_room(f->files);
}

static void on_empty(void *userdata)
{
	++((struct files_line *)userdata)->n_empty;
}

static void on_rejected(void *userdata, const struct journal_record *record, const char *reason)
{
	struct files_line *f = userdata;

	++f->n_rejected;
	snprintf(f->rejected, sizeof(f->rejected), "%.*s", (int)record->payload.len,
		 (const char *)record->payload.data);
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
}

/* --- life cycle ------------------------------------------------------------------------------- */

static const struct journal_ops journal_ops = {
	.on_stored = on_stored, .on_room = on_disk_room, .on_lost = on_lost, .on_event = on_event};

static void start_queue(struct files_line *f)
{
	const struct journal_options journal = {
		.loop = f->hub.loop,
		.log = &f->hub.log,
		.dir = f->dir,
		.is_volatile = !f->options.is_durable,
		.max_bytes = f->options.queue_bytes,
		.guard = f->options.guard,
		.ops = &journal_ops,
		.userdata = f,
	};
	struct channels_options channels = {.loop = f->hub.loop, .log = &f->hub.log, .run = f->options.run};
	struct telemetry_options telemetry = {
		.loop = f->hub.loop,
		.log = &f->hub.log,
		.on_room = on_room,
		.on_empty = on_empty,
		.on_rejected = on_rejected,
		.on_event = on_event,
		.userdata = f,
	};

	ASSERT_EQ(journal_new(&f->journal, &journal), 0);
	channels.journal = f->journal;
	ASSERT_EQ(channels_new(&f->channels, &channels), 0);
	ASSERT_EQ(waiters_new(&f->waiters, f->hub.loop,
			      f->options.timeout_ns ? f->options.timeout_ns : TIME_NEVER),
		  0);
	telemetry.journal = f->journal;
	telemetry.channels = f->channels;
	telemetry.waiters = f->waiters;
	ASSERT_EQ(telemetry_new(&f->telemetry, &telemetry), 0);
}

static void add_files(struct files_line *f, struct channel *channel, struct fuse_node *dir)
{
	struct config_access access[CONFIG_N_FILES] = {0};

	for (size_t i = 0; i < CONFIG_N_FILES; ++i)
		access[i].mode = 0222;
	ASSERT_EQ(telemetry_files_add(f->files, channel, dir, access, NULL), 0);
}

static void start_files(struct files_line *f)
{
	const struct fuse_tree_options tree = {.root_mode = 0755};

	telemetry_set_link(f->telemetry, f->hub.link);
	ASSERT_EQ(fuse_tree_new(&f->tree, &tree), 0);
	ASSERT_EQ(telemetry_files_new(&f->files, f->telemetry, &f->hub.log), 0);
	add_files(f, channels_default(f->channels), fuse_tree_root(f->tree));
	fuse_line_init(&f->line, f->tree);
}

static void start(struct files_line *f)
{
	static const struct link_ops link_ops = {
		.on_online = on_online,
		.on_offline = on_offline,
		.on_writable = on_writable,
		.on_puback = on_puback,
		.on_changed = on_changed,
	};

	link_line_init(&f->hub, &link_ops, f);
	ASSERT_EQ(loop_turn(f->hub.loop, 0), 0);
	start_queue(f);
	start_files(f);
}

void files_line_init(struct files_line *f, const struct files_line_options *options)
{
	f->options = *options;
	snprintf(f->dir, sizeof(f->dir), "/dev/shm/iothub-files-XXXXXX");
	ASSERT_TRUE(mkdtemp(f->dir) != NULL);
	start(f);
}

static void stop(struct files_line *f)
{
	if (f->tree)
		fuse_tree_detach(f->tree);
	fuse_tree_free(f->tree);
	telemetry_files_free(f->files);
	link_free(f->hub.link);
	resolver_free(f->hub.resolver);
	telemetry_free(f->telemetry);
	waiters_free(f->waiters);
	channels_free(f->channels);
	journal_stop(f->journal);
	while (loop_n_in_flight(f->hub.loop))
		ASSERT_EQ(loop_turn(f->hub.loop, TIME_NEVER), 0);
	journal_free(f->journal);
	f->tree = NULL;
	f->files = NULL;
	f->hub.link = NULL;
	f->hub.resolver = NULL;
	f->telemetry = NULL;
	f->waiters = NULL;
	f->channels = NULL;
	f->journal = NULL;
	link_line_deinit(&f->hub);
}

void files_line_deinit(struct files_line *f)
{
	char command[128];

	if (!test_is_orphan() && f->hub.loop)
		stop(f);
	if (!f->dir[0])
		return;
	snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
	if (system(command) != 0)
		TEST_LOG("%s was not removed", f->dir);
	f->dir[0] = '\0';
}

void files_line_restart(struct files_line *f)
{
	stop(f);
	start(f);
}

/* --- channels and files ----------------------------------------------------------------------- */

struct channel *files_line_default(struct files_line *f)
{
	return channels_default(f->channels);
}

struct channel *files_line_add(struct files_line *f, const char *name)
{
	const struct fuse_node_options options = {.name = name, .mode = S_IFDIR | 0755};
	struct channel *channel;
	struct fuse_node *dir;

	ASSERT_EQ(channels_add(f->channels, name, &channel), 0);
	ASSERT_EQ(fuse_node_add(&dir, fuse_tree_root(f->tree), &options), 0);
	add_files(f, channel, dir);
	return channel;
}

uint64_t files_line_lookup(struct files_line *f, const char *channel, const char *name)
{
	struct fuse_entry_out out;
	uint64_t dir = fuse_line_lookup(&f->line, channel);

	fuse_line_body(&f->line,
		       fuse_line_request(&f->line, FUSE_LOOKUP, dir, name, strlen(name) + 1, BYTES("", 0)),
		       &out, sizeof(out));
	return out.nodeid;
}

int files_line_echo(struct files_line *f, uint64_t node_id, const char *text)
{
	uint64_t fh = fuse_line_open(&f->line, node_id, O_WRONLY);
	int r = fuse_line_result(&f->line,
				 fuse_line_write(&f->line, node_id, fh, O_WRONLY, bytes_from_str(text)));

	fuse_line_release(&f->line, node_id, fh);
	return r;
}

/* --- time ------------------------------------------------------------------------------------- */

void files_line_turn(struct files_line *f)
{
	/* What is deferred runs in the same turn. */
	ASSERT_EQ(loop_turn(f->hub.loop, 0), 0);
}

int files_line_await(struct files_line *f, uint64_t unique)
{
	while (fuse_line_result(&f->line, unique) == FUSE_LINE_WAITS)
		ASSERT_EQ(loop_turn(f->hub.loop, TIME_NEVER), 0);
	return fuse_line_result(&f->line, unique);
}

void files_line_await_stored(struct files_line *f)
{
	journal_sync(f->journal);
	while (journal_stored(f->journal) < journal_appended(f->journal))
		ASSERT_EQ(loop_turn(f->hub.loop, TIME_NEVER), 0);
}

/* --- the hub ---------------------------------------------------------------------------------- */

void files_line_online(struct files_line *f, bool session_present)
{
	f->hub.has_session = session_present;
	link_line_online(&f->hub);
	files_line_turn(f);
}

void files_line_offline(struct files_line *f)
{
	link_line_offline(&f->hub);
	/* The next attempt is for the test to make. */
	loop_timer_disarm(&f->hub.link->retry);
	files_line_turn(f);
}

static void input(struct files_line *f, const struct mqtt_packet *packet)
{
	uint8_t bytes[512];
	struct writer w = writer_init(bytes, sizeof(bytes));

	ASSERT_EQ(mqtt_encode(&w, packet, MQTT_LEVEL_5), 0);
	mqtt_session_input(f->hub.link->session, writer_bytes(&w), loop_now_ns(f->hub.loop));
	files_line_turn(f);
}

/* The user property `status`, encoded into @w. */
static struct bytes status_property(struct writer *w, const char *status)
{
	if (status)
		mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_STATUS), bytes_from_str(status));
	return writer_bytes(w);
}

void files_line_disconnect(struct files_line *f, uint8_t reason, const char *status)
{
	uint8_t bytes[64];
	struct writer w = writer_init(bytes, sizeof(bytes));
	const struct mqtt_packet packet = {
		.type = MQTT_DISCONNECT,
		.disconnect.reason = reason,
		.properties.repeatable = status_property(&w, status),
	};

	input(f, &packet);
	ASSERT_NE((int)f->hub.link->state, LINK_ONLINE);
	loop_timer_disarm(&f->hub.link->retry);
}

bool files_line_next(struct files_line *f, struct mqtt_packet *out)
{
	files_line_turn(f);
	return link_line_next(&f->hub, MQTT_PUBLISH, out);
}

void files_line_puback(struct files_line *f, uint16_t packet_id, uint8_t reason, const char *status)
{
	uint8_t bytes[64];
	struct writer w = writer_init(bytes, sizeof(bytes));
	const struct mqtt_packet packet = {
		.type = MQTT_PUBACK,
		.ack = {.packet_id = packet_id, .reason = reason},
		.properties.repeatable = status_property(&w, status),
	};

	input(f, &packet);
}

uint16_t files_line_expect(struct files_line *f, const char *payload, bool keep)
{
	struct mqtt_packet packet;
	char got[256];
	uint16_t id;

	ASSERT_TRUE(files_line_next(f, &packet));
	id = packet.publish.packet_id;
	snprintf(got, sizeof(got), "%.*s", (int)packet.publish.payload.len,
		 (const char *)packet.publish.payload.data);
	ASSERT_STREQ(got, payload);
	if (!keep)
		files_line_puback(f, id, MQTT_REASON_SUCCESS, NULL);
	return id;
}

void files_line_expect_none(struct files_line *f)
{
	struct mqtt_packet packet;

	ASSERT_FALSE(files_line_next(f, &packet));
}

/* The first record of all lanes. */
static bool first_record(struct files_line *f, struct journal_cursor *out)
{
	struct journal_lane_key key;
	struct journal_cursor at;
	bool found = false;

	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(f->journal, lane));) {
		journal_lane_key(lane, &key);
		if (key.kind != JOURNAL_KIND_QUEUE || !journal_first(lane, &at) ||
		    (found && out->sequence < at.sequence))
			continue;
		*out = at;
		found = true;
	}
	return found;
}

void files_line_take(struct files_line *f, uint64_t last)
{
	struct journal_record record;
	struct journal_cursor at;

	while (first_record(f, &at) && at.sequence <= last) {
		ASSERT_EQ(journal_read(&at, &record), 0);
		journal_mark_done(f->journal, &at);
		telemetry_settle(f->telemetry, record.origin, at.sequence, 0);
	}
}

uint64_t files_line_n_queued(struct files_line *f)
{
	struct telemetry_stats stats;

	telemetry_stats(f->telemetry, &stats);
	return stats.n_queued;
}
