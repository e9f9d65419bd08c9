/* SPDX-License-Identifier: MIT */
/*
 * iothub-journal on journals made by hand: what it lists, shows and exports, which damage it finds, and that it
 * changes nothing.
 */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "journal/format.h"
#include "mqtt/packet.h"
#include "tests/harness.h"
#include "tests/support/journal_box.h"
#include "tests/support/process.h"
#include "tests/support/segment_make.h"

#define TEXT_SIZE (1u << 20)
#define PROGRAM   "iothub-journal"

FIXTURE(journal)
{
	char parent[64];
	char dir[128]; /* parent/journal-device */
	char text[TEXT_SIZE];
	pid_t writer;
};

/* A journal's, without messages. */
static void make_dir(const char *dir)
{
	_cleanup_(free_ptr) char *lock = NULL;
	_cleanup_(close_fd) int fd = -1;

	ASSERT_EQ(mkdir(dir, 0700), 0);
	ASSERT_GT(asprintf(&lock, "%s/lock", dir), 0);
	fd = open(lock, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
}

FIXTURE_SETUP(journal)
{
	snprintf(self->parent, sizeof(self->parent), "/tmp/iothub-test-XXXXXX");
	ASSERT_TRUE(mkdtemp(self->parent));
	snprintf(self->dir, sizeof(self->dir), "%s/journal-device", self->parent);
	make_dir(self->dir);
	setenv("STATE_DIRECTORY", self->parent, 1);
	setenv("RUNTIME_DIRECTORY", "/nonexistent", 1);
	setenv("XDG_STATE_HOME", self->parent, 1);
	unsetenv("XDG_RUNTIME_DIR");
}

FIXTURE_TEARDOWN(journal)
{
	const char *const argv[] = {"/bin/rm", "-rf", self->parent, NULL};

	process_stop(&self->writer, SIGKILL);
	if (self->parent[0])
		process_run(argv, self->text, 100);
}

/* --- journals --------------------------------------------------------------------------------- */

/* One under way: its bytes, then the file. */
static struct segment_make segment_begin(uint64_t id, enum journal_kind kind, uint16_t channel,
					 const char *name, uint64_t first_index, uint64_t sequence)
{
	struct journal_identity identity = {
		.id = id,
		.size = JOURNAL_SEGMENT_BYTES_MIN,
		.kind = kind,
		.priority = (uint8_t)(channel ? 2 : 5),
		.channel = channel,
		.first_index = first_index,
	};
	struct segment_make make;
	uint8_t *data = calloc(1, JOURNAL_SEGMENT_BYTES_MIN);

	ASSERT_TRUE(data);
	snprintf(identity.channel_name, sizeof(identity.channel_name), "%s", name);
	segment_make_init(&make, data, &identity, sequence);
	return make;
}

/* @make->data moves to the file. */
static void segment_end(struct fixture_journal *self, struct segment_make *make)
{
	_cleanup_(free_ptr) char *path = NULL;
	_cleanup_(close_fd) int fd = -1;

	ASSERT_GT(asprintf(&path, "%s/%016" PRIx64 ".segment", self->dir, make->identity.id), 0);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_EQ(write(fd, make->data, JOURNAL_SEGMENT_BYTES_MIN), (ssize_t)JOURNAL_SEGMENT_BYTES_MIN);
	free(make->data);
	make->data = NULL;
}

/* Everything is stored; the first @n_done records are done, and then each whose bit is set in @bits. */
static void segment_mark(struct segment_make *make, uint64_t n_done, uint8_t bits, bool is_ended)
{
	struct journal_header header;
	struct journal_state state = {
		.generation = 1,
		.done_index = make->identity.first_index + n_done,
		.done_offset = JOURNAL_HEADER_BYTES,
		.stored_offset = make->head,
		.end_offset = is_ended ? make->head : 0,
		.end_index = is_ended ? make->index : 0,
		.last_sequence = is_ended ? make->sequence - 1 : 0,
		.done = {bits},
	};
	uint64_t size = 0;

	for (uint64_t i = 0; i < n_done; ++i, state.done_offset += size)
		ASSERT_TRUE(journal_record_at(segment_make_bytes(make), make->identity.id, state.done_offset,
					      &header, &size) == JOURNAL_FOUND_RECORD);
	journal_state_put(&state, make->identity.id, make->data);
}

static struct bytes properties(uint8_t room[static 200])
{
	struct mqtt_properties p = {.content_type = BYTES_LIT("text/plain")};
	struct writer w = writer_init(room, 200);

	mqtt_set(&p, MQTT_PROP_CONTENT_TYPE);
	mqtt_properties_encode(&w, &p, MQTT_PUBLISH);
	mqtt_user_property_put(&w, BYTES_LIT("message-id"), BYTES_LIT("m-1"));
	mqtt_user_property_put(&w, BYTES_LIT("@room"), BYTES_LIT("k\033itchen"));
	ASSERT_EQ(w.error, 0);
	return writer_bytes(&w);
}

static void add(struct segment_make *make, const char *payload)
{
	uint8_t room[200];

	ASSERT_NE(segment_make_add(make, properties(room), bytes_from_str(payload)), 0u);
}

/*
 * Two lanes of the queue, the first one with two segments, and one rejected message:
 *     default  1 done   2 done   3       6        in two files: 1 2 3 | 6
 *     alarms   4        5 withdrawn      7 done
 *     rejected 8
 */
static void make_usual(struct fixture_journal *self)
{
	struct segment_make make = segment_begin(0x11, JOURNAL_KIND_QUEUE, 0, "default", 0, 1);

	add(&make, "one");
	add(&make, "two");
	add(&make, "three");
	segment_mark(&make, 2, 0, true);
	segment_end(self, &make);
	make = segment_begin(0x12, JOURNAL_KIND_QUEUE, 0, "default", 3, 6);
	add(&make, "six\xff");
	segment_mark(&make, 0, 0, false);
	segment_end(self, &make);
	make = segment_begin(0x13, JOURNAL_KIND_QUEUE, 7, "alarms", 0, 4);
	add(&make, "{\"four\":4}");
	add(&make, "five");
	journal_record_withdraw(make.data + make.head -
				journal_record_bytes(properties((uint8_t[200]){0}).len, 4));
	make.sequence = 7;
	add(&make, "seven");
	segment_mark(&make, 0, 4, false);
	segment_end(self, &make);
	make = segment_begin(0x14, JOURNAL_KIND_REJECTED, 0, "", 0, 8);
	ASSERT_NE(segment_make_add(&make, BYTES_LIT(""), BYTES_LIT("\1\0\0\7\0\0\0\5no wayeight")), 0u);
	ASSERT_NE(segment_make_add(&make, BYTES_LIT("\xff"), BYTES_LIT("\1\0\0\7\0\0\1\0too long")), 0u);
	segment_mark(&make, 0, 0, false);
	segment_end(self, &make);
	make = segment_begin(0x15, JOURNAL_KIND_SPARE, 0, "", 0, 1);
	segment_end(self, &make);
}

/* Flips a bit of a segment's file. */
static void flip(struct fixture_journal *self, const char *name, off_t at)
{
	_cleanup_(free_ptr) char *path = NULL;
	_cleanup_(close_fd) int fd = -1;
	uint8_t byte;

	ASSERT_GT(asprintf(&path, "%s/%s.segment", self->dir, name), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	ASSERT_EQ(pwrite(fd, &byte, 1, at), 1);
}

/* In the journal's directory. */
static void shell(struct fixture_journal *self, const char *what)
{
	char command[512];

	snprintf(command, sizeof(command), "cd '%s' && %s", self->dir, what);
	ASSERT_EQ(system(command), 0);
}

static int run(struct fixture_journal *self, const char *a, const char *b, const char *c)
{
	const char *const argv[] = {process_path(PROGRAM), a, b, c, NULL};

	return process_run(argv, self->text, sizeof(self->text));
}

/* Line @n of the output as JSON, to be put. */
static json_object *json_line(struct fixture_journal *self, int n)
{
	const char *line = self->text;
	json_object *json;

	while (n--) {
		line = strchr(line, '\n');
		ASSERT_TRUE(line != NULL);
		line++;
	}
	json = json_tokener_parse(line);
	ASSERT_TRUE(json != NULL);
	return json;
}

static const char *member(json_object *json, const char *key)
{
	json_object *value;

	return json_object_object_get_ex(json, key, &value) ? json_object_get_string(value) : "none";
}

/* --- list ------------------------------------------------------------------------------------- */

TEST_F(journal, list)
{
	const char *at = self->text;

	make_usual(self);
	ASSERT_EQ(run(self, "list", NULL, NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 6u);
	EXPECT_CONTAINS(self->text, "         3  2023-11-14T22:13:20.003Z  queued     5        ");
	EXPECT_CONTAINS(self->text, "           5  default\n");
	/* In the order they came in, whatever their lanes. */
	for (int n = 3; n <= 9; ++n) {
		char want[16];

		if (n == 5 || n == 7)
			continue;
		snprintf(want, sizeof(want), "\n%10d  ", n);
		at = strstr(at, want);
		ASSERT_TRUE(at != NULL);
	}
	EXPECT_CONTAINS(self->text, "rejected");
}

TEST_F(journal, list_all)
{
	make_usual(self);
	ASSERT_EQ(run(self, "list", "--all", NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 10u);
	EXPECT_EQ(text_count(self->text, "  done  "), 3u);
	EXPECT_EQ(text_count(self->text, "  withdrawn  "), 1u);
	ASSERT_EQ(run(self, "list", "-a", "--channel=alarms"), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 5u);
}

TEST_F(journal, list_lanes_and_segments)
{
	make_usual(self);
	ASSERT_EQ(run(self, "list", "lanes", NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 4u);
	EXPECT_CONTAINS(self->text, "queue     5           0           2           ");
	EXPECT_CONTAINS(self->text, "2023-11-14T22:13:20.003Z  default\n");
	ASSERT_EQ(run(self, "segments", NULL, NULL), 2);
	ASSERT_EQ(run(self, "list", "segments", NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 5u);
	EXPECT_CONTAINS(self->text, "\n0000000000000011  queue ");
}

TEST_F(journal, an_empty_one)
{
	ASSERT_EQ(run(self, "list", NULL, NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 1u);
	ASSERT_EQ(run(self, "verify", NULL, NULL), 0);
	ASSERT_EQ(run(self, "export", NULL, NULL), 0);
	EXPECT_STREQ(self->text, "");
}

/* --- show ------------------------------------------------------------------------------------- */

TEST_F(journal, show)
{
	make_usual(self);
	ASSERT_EQ(run(self, "show", "3", NULL), 0);
	EXPECT_CONTAINS(self->text,
			"sequence: 3\ntime: 2023-11-14T22:13:20.003Z\nstate: queued\n"
			"channel: default\npriority: 5\nttl: 0\nplace: 0000000000000011.segment, ");
	EXPECT_CONTAINS(self->text, "\npayload: 5 bytes\ncontent-type: text/plain\nmessage-id: m-1\n"
				    "@room: k?itchen\n\nthree\n");
	ASSERT_EQ(run(self, "show", "7", NULL), 0);
	EXPECT_CONTAINS(self->text, "state: done\n");
	ASSERT_EQ(run(self, "show", "8", NULL), 0);
	EXPECT_CONTAINS(self->text, "state: rejected\nreason: no wa\nchannel: alarms\n");
	EXPECT_CONTAINS(self->text, "\n\nyeight\n");
	ASSERT_EQ(run(self, "show", "9", NULL), 0);
	EXPECT_CONTAINS(self->text, "properties: not understood\n00000000  ff  ");
}

TEST_F(journal, show_bytes)
{
	make_usual(self);
	ASSERT_EQ(run(self, "show", "--payload", "6"), 0);
	EXPECT_STREQ(self->text, "six\xff");
	ASSERT_EQ(run(self, "show", "6", "--hex"), 0);
	EXPECT_CONTAINS(self->text, "\n\n00000000  73 69 78 ff      ");
	EXPECT_CONTAINS(self->text, "  |six.|\n");
	ASSERT_EQ(run(self, "show", "100", NULL), 3);
	EXPECT_STREQ(self->text, "iothub-journal: there is no message 100\n");
}

/* --- export ----------------------------------------------------------------------------------- */

TEST_F(journal, export)
{
	json_object *json;

	make_usual(self);
	ASSERT_EQ(run(self, "export", NULL, NULL), 0);
	ASSERT_EQ(text_count(self->text, "\n"), 5u);
	json = json_line(self, 0);
	EXPECT_STREQ(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN),
		     "{\"sequence\":3,\"time\":\"2023-11-14T22:13:20.003Z\",\"state\":\"queued\","
		     "\"channel\":\"default\",\"priority\":5,\"ttl\":0,\"message-id\":\"m-1\","
		     "\"content-type\":\"text\\/plain\",\"properties\":{\"room\":\"k\\u001bitchen\"},"
		     "\"payload\":\"three\"}");
	json_object_put(json);
	json = json_line(self, 1);
	EXPECT_STREQ(member(json, "payload"), "{\"four\":4}");
	json_object_put(json);
	json = json_line(self, 2);
	EXPECT_STREQ(member(json, "payload"), "none");
	EXPECT_STREQ(member(json, "payload-base64"), "c2l4/w==");
	json_object_put(json);
	json = json_line(self, 3);
	EXPECT_STREQ(member(json, "reason"), "no wa");
	EXPECT_STREQ(member(json, "channel"), "alarms");
	json_object_put(json);
	json = json_line(self, 4);
	EXPECT_STREQ(member(json, "properties-base64"), "/w==");
	json_object_put(json);
	ASSERT_EQ(run(self, "export", "--all", NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 9u);
}

/* --- verify ----------------------------------------------------------------------------------- */

TEST_F(journal, verify)
{
	make_usual(self);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 0);
	EXPECT_STREQ(self->text, "segments            4\nspare               1\nbytes          327680\n"
				 "queued              3\nrejected            2\nexpired             0\n"
				 "done                3\nwithdrawn           1\nholes               0\n"
				 "damaged             0\nunusable            0\nbad-copies          0\n");
}

TEST_F(journal, verify_finds_a_damaged_record)
{
	make_usual(self);
	flip(self, "0000000000000013", 4096 + 60);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text, "0000000000000013.segment: 1 record is damaged, in ");
	EXPECT_CONTAINS(self->text, "\ndamaged             1\n");
	EXPECT_EQ(run(self, "export", NULL, NULL), 1);
	EXPECT_EQ(text_count(self->text, "\"sequence\""), 4u);
	EXPECT_EQ(run(self, "show", "4", NULL), 3);
	EXPECT_CONTAINS(self->text, "it may be one of those damaged");
}

/* In what is done with, damage costs nothing. */
TEST_F(journal, verify_of_what_is_done)
{
	make_usual(self);
	flip(self, "0000000000000011", 4096 + 60);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 0);
	EXPECT_CONTAINS(self->text, "\nholes               1\ndamaged             0\n");
}

TEST_F(journal, verify_finds_damage_at_the_ends)
{
	make_usual(self);
	/* The only record, the last one before the end, and a copy of an identity. */
	flip(self, "0000000000000012", 4096 + 60);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text, "\ndamaged             1\n");
	flip(self, "0000000000000012", 4096 + 60);
	flip(self, "0000000000000012", 20);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text, "one of the two copies of its identity is damaged\n");
	EXPECT_CONTAINS(self->text,
			"\ndamaged             0\nunusable            0\nbad-copies          1\n");
	EXPECT_CONTAINS(self->text, "\nqueued              3\n");
	flip(self, "0000000000000012", 2048 + 20);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text, "0000000000000012.segment: it does not begin as a segment does\n");
	EXPECT_CONTAINS(self->text,
			"\ndamaged             0\nunusable            1\nbad-copies          0\n");
	EXPECT_CONTAINS(self->text, "\nqueued              2\n");
}

/* What it had is known when its end is: as many as the daemon counts when it gets there. */
TEST_F(journal, verify_counts_the_records_of_a_cut_file)
{
	struct segment_make make = segment_begin(0x11, JOURNAL_KIND_QUEUE, 0, "default", 0, 1);

	for (int i = 0; i < 400; ++i)
		ASSERT_NE(segment_make_add(&make, BYTES_LIT(""), BYTES_LIT("eight...")), 0u);
	segment_mark(&make, 4, 0x10, true);
	segment_end(self, &make);
	shell(self, "truncate -s $((4096 + 100 * 64)) *.segment");
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text,
			"0000000000000011.segment: 300 records are damaged, in 19200 bytes at 10496\n");
	EXPECT_CONTAINS(self->text, "\nqueued             95\n");
	EXPECT_CONTAINS(self->text, "\ndamaged           300\n");
	shell(self, "truncate -s 4096 *.segment");
	EXPECT_EQ(run(self, "export", NULL, NULL), 1);
	/* Five are done with. */
	EXPECT_CONTAINS(self->text, ": 395 records are damaged, in 25600 bytes at 4096\n");
	shell(self, "truncate -s 4000 *.segment");
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text, "0000000000000011.segment: No data available; 395 records are in it\n");
	EXPECT_CONTAINS(self->text, "\ndamaged           395\nunusable            1\n");
}

TEST_F(journal, verify_counts_as_the_daemon_does)
{
	struct journal_box box = {.max_bytes = UINT64_C(64) << 20};
	struct journal_stats stats;
	char want[64];

	snprintf(box.dir, sizeof(box.dir), "%s", self->dir);
	ASSERT_EQ(box_open(&box), 0);
	for (int i = 0; i < 500; ++i)
		ASSERT_EQ(box_append(&box, box_lane(&box, 0, 5, 0), 10, 20), 0);
	ASSERT_EQ(box_sync(&box), 0);
	box_close(&box);
	shell(self, "truncate -s 20000 *.segment");
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	ASSERT_EQ(box_open(&box), 0);
	EXPECT_GT(box_drain(&box), 0u);
	journal_stats(box.j, &stats);
	box_close(&box);
	EXPECT_GT(stats.n_damaged, 200u);
	snprintf(want, sizeof(want), "\ndamaged    %10" PRIu64 "\n", stats.n_damaged);
	EXPECT_CONTAINS(self->text, want);
}

TEST_F(journal, verify_of_a_cut_file_whose_end_is_not_known)
{
	struct segment_make make = segment_begin(0x11, JOURNAL_KIND_QUEUE, 0, "default", 0, 1);

	for (int i = 0; i < 400; ++i)
		ASSERT_NE(segment_make_add(&make, BYTES_LIT(""), BYTES_LIT("eight...")), 0u);
	segment_mark(&make, 0, 0, false);
	segment_end(self, &make);
	make = segment_begin(0x12, JOURNAL_KIND_QUEUE, 0, "default", 400, 401);
	add(&make, "more");
	segment_end(self, &make);
	shell(self, "truncate -s $((4096 + 100 * 64)) 0000000000000011.segment");
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text, ": at least 1 record is damaged, in 19200 bytes at 10496\n");
	EXPECT_CONTAINS(self->text, "0000000000000012.segment: 299 records before it are not there\n");
	EXPECT_CONTAINS(self->text, "\nqueued            101\n");
}

/* The header is lost, the records are there; or nothing ever was. */
TEST_F(journal, files_that_begin_with_zeros)
{
	make_usual(self);
	shell(self, "truncate -s 64K 00000000000000aa.segment && : > 00000000000000ab.segment");
	EXPECT_EQ(run(self, "verify", NULL, NULL), 0);
	EXPECT_CONTAINS(self->text, "00000000000000aa.segment: nothing was written into it\n");
	EXPECT_CONTAINS(self->text, "00000000000000ab.segment: nothing was written into it\n");
	EXPECT_CONTAINS(self->text, "\nunusable            0\n");
	EXPECT_EQ(run(self, "export", NULL, NULL), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 5u);
	shell(self, "dd if=/dev/zero of=0000000000000012.segment bs=4096 count=1 conv=notrunc status=none");
	EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
	EXPECT_CONTAINS(self->text, "0000000000000012.segment: it does not begin as a segment does\n");
	EXPECT_CONTAINS(self->text, "\nunusable            1\n");
}

/* Whatever keeps a file from being read, nobody takes what is left for all there is. */
TEST_F(journal, messages_that_are_missing_are_told)
{
	static const struct {
		const char *what, *text;
	} rows[] = {
		{"head -c 65536 /dev/urandom > 0000000000000012.segment",
		 "0000000000000012.segment: it does not begin as a segment does\n"},
		{"dd if=/dev/zero of=0000000000000012.segment bs=4096 count=1 conv=notrunc status=none",
		 "0000000000000012.segment: it does not begin as a segment does\n"},
		{"mv 0000000000000012.segment 00000000000000aa.segment",
		 "00000000000000aa.segment: it is another segment than its name says\n"},
		{"mv 0000000000000012.segment saved.segment",
		 "saved.segment: it is another segment than its name says\n"},
		{"ln -sf nowhere 0000000000000012.segment", "0000000000000012.segment: it is a link\n"},
		{"rm 0000000000000012.segment && mkfifo 0000000000000012.segment",
		 "0000000000000012.segment: it is no file\n"},
		{"truncate -s 300 0000000000000012.segment", "0000000000000012.segment: No data available\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		shell(self, "rm -f *.segment");
		make_usual(self);
		shell(self, rows[i].what);
		EXPECT_EQ(run(self, "export", NULL, NULL), 1);
		EXPECT_CONTAINS(self->text, rows[i].text);
		EXPECT_EQ(text_count(self->text, "\"sequence\""), 4u);
		EXPECT_EQ(run(self, "list", NULL, NULL), 1);
		EXPECT_CONTAINS(self->text, rows[i].text);
		EXPECT_EQ(run(self, "list", "lanes", NULL), 1);
		EXPECT_CONTAINS(self->text, rows[i].text);
		EXPECT_EQ(run(self, "verify", NULL, NULL), 1);
		EXPECT_CONTAINS(self->text, "\nunusable            1\n");
		EXPECT_EQ(run(self, "show", "6", NULL), 3);
		EXPECT_CONTAINS(self->text, "it may be one of those damaged");
		EXPECT_EQ(run(self, "show", "3", NULL), 0);
	}
}

TEST_F(journal, list_segments_names_what_is_none)
{
	make_usual(self);
	shell(self, "truncate -s 64K 00000000000000aa.segment");
	EXPECT_EQ(run(self, "list", "segments", NULL), 0);
	EXPECT_CONTAINS(self->text, "00000000000000aa.segment: nothing was written into it\n");
	shell(self, "echo x >> 00000000000000aa.segment");
	EXPECT_EQ(run(self, "list", "segments", NULL), 1);
	EXPECT_CONTAINS(self->text, "00000000000000aa.segment: it does not begin as a segment does\n");
}

/* It may be one that was never stored. */
TEST_F(journal, verify_finds_a_missing_segment)
{
	struct segment_make make;

	make_usual(self);
	make = segment_begin(0x16, JOURNAL_KIND_QUEUE, 0, "default", 10, 20);
	add(&make, "twenty");
	segment_mark(&make, 0, 0, false);
	segment_end(self, &make);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 0);
	EXPECT_CONTAINS(self->text, "0000000000000016.segment: 6 records before it are not there\n");
	EXPECT_CONTAINS(self->text, "\nholes               1\ndamaged             0\n");
}

/* Indexes of one lane were given twice while a file could not be read: nothing is missing. */
TEST_F(journal, verify_of_two_lanes_with_one_key)
{
	struct segment_make make;

	make_usual(self);
	make = segment_begin(0x16, JOURNAL_KIND_QUEUE, 0, "default", 1, 20);
	add(&make, "twenty");
	segment_mark(&make, 0, 0, true);
	segment_end(self, &make);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 0);
	EXPECT_TRUE(!strstr(self->text, "before it"));
	EXPECT_CONTAINS(self->text, "\nholes               0\ndamaged             0\n");
}

/* What was not stored yet was promised to nobody. */
TEST_F(journal, verify_of_a_torn_end)
{
	struct segment_make make = segment_begin(0x11, JOURNAL_KIND_QUEUE, 0, "default", 0, 1);

	add(&make, "one");
	segment_mark(&make, 0, 0, false);
	add(&make, "two");
	make.data[make.head - 8] ^= 1;
	add(&make, "three");
	segment_end(self, &make);
	EXPECT_EQ(run(self, "verify", NULL, NULL), 0);
	EXPECT_CONTAINS(self->text, "\nqueued              2\n");
	EXPECT_CONTAINS(self->text, "\nholes               1\ndamaged             0\n");
}

/* --- beside a daemon -------------------------------------------------------------------------- */

/* Appends, sends and ends records until it is killed. A byte to @ready when there is something to see. */
__attribute__((noreturn)) static void be_a_daemon(const char *dir, int ready)
{
	struct journal_box box = {.max_bytes = UINT64_C(64) << 20};
	struct journal_lane *lanes[3];

	snprintf(box.dir, sizeof(box.dir), "%s", dir);
	ASSERT_EQ(box_open(&box), 0);
	for (uint16_t i = 0; i < 3; ++i)
		lanes[i] = box_lane(&box, i, (uint8_t)(i + 3), 0);
	for (uint64_t turn = 0;; ++turn) {
		struct journal_cursor at;

		for (uint64_t n = test_random() % 50; n > 0; --n)
			ASSERT_EQ(box_append(&box, lanes[test_random() % 3], test_random() % 90,
					     test_random() % 500),
				  0);
		for (uint64_t n = test_random() % 60; n > 0 && box_send(&box, &at); --n)
			journal_mark_done(box.j, &at);
		if (turn % 40 == 39)
			box_drain(&box);
		box_turn(&box);
		if (turn % 8 == 0)
			ASSERT_EQ(box_sync(&box), 0);
		if (turn == 20)
			ASSERT_EQ(write(ready, "", 1), 1);
	}
}

TEST_F_TIMEOUT(journal, beside_a_daemon, 120)
{
	int ready[2], status;
	char byte;

	ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
	fflush(NULL);
	self->writer = fork();
	if (self->writer == 0)
		be_a_daemon(self->dir, ready[1]);
	ASSERT_EQ(read(ready[0], &byte, 1), 1);
	for (int i = 0; i < 9; ++i) {
		static const char *const commands[] = {"verify", "export", "list"};
		int code = run(self, commands[i % 3], i % 3 ? "--all" : NULL, NULL);

		if (code)
			TEST_LOG("%s: %s", commands[i % 3], self->text);
		ASSERT_EQ(code, 0);
	}
	ASSERT_EQ(waitpid(self->writer, &status, WNOHANG), 0);
	process_stop(&self->writer, SIGKILL);
	/* It may have died on the way; what was stored is there. */
	ASSERT_EQ(run(self, "verify", NULL, NULL), 0);
	close(ready[0]);
	close(ready[1]);
}

/* --- where ------------------------------------------------------------------------------------ */

TEST_F(journal, which_journal)
{
	char other[128];

	make_usual(self);
	ASSERT_EQ(run(self, "list", "--dir", self->parent), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 6u);
	ASSERT_EQ(run(self, "list", "--dir", self->dir), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 6u);
	snprintf(other, sizeof(other), "%s/journal-other", self->parent);
	make_dir(other);
	ASSERT_EQ(run(self, "list", NULL, NULL), 2);
	EXPECT_CONTAINS(self->text, "which journal?");
	EXPECT_CONTAINS(self->text, other);
	EXPECT_CONTAINS(self->text, self->dir);
	ASSERT_EQ(run(self, "list", "--dir", other), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 1u);
	setenv("STATE_DIRECTORY", "/nonexistent", 1);
	setenv("XDG_STATE_HOME", "/nonexistent", 1);
	ASSERT_EQ(run(self, "list", NULL, NULL), 3);
	EXPECT_CONTAINS(self->text, "there is no journal in /nonexistent");
	ASSERT_EQ(run(self, "list", "--dir", "/nonexistent"), 3);
	EXPECT_STREQ(self->text, "iothub-journal: /nonexistent: No such file or directory\n");
}

TEST_F(journal, what_is_no_journal)
{
	static const char *const commands[] = {"verify", "export", "list"};
	char path[256], want[600];

	shell(self, "mkdir -p ../other/deep/empty && : > ../other/deep/lock.old && : > ../file");
	snprintf(path, sizeof(path), "%s/other/deep", self->parent);
	snprintf(want, sizeof(want), "iothub-journal: %s is no journal\n", path);
	for (size_t i = 0; i < ARRAY_SIZE(commands); ++i) {
		EXPECT_EQ(run(self, commands[i], "--dir", path), 3);
		EXPECT_STREQ(self->text, want);
	}
	shell(self, "mkdir ../other/deep/journal-dev1");
	snprintf(want, sizeof(want), "iothub-journal: %s/journal-dev1 is no journal\n", path);
	EXPECT_EQ(run(self, "verify", "--dir", path), 3);
	EXPECT_STREQ(self->text, want);
	shell(self, ": > ../other/deep/journal-dev1/00000000000000aa.segment");
	EXPECT_EQ(run(self, "verify", "--dir", path), 0);
	snprintf(path, sizeof(path), "%s/other", self->parent);
	snprintf(want, sizeof(want),
		 "iothub-journal: %s is no journal (did you mean %s/deep/journal-dev1?)\n", path, path);
	EXPECT_EQ(run(self, "verify", "--dir", path), 3);
	EXPECT_STREQ(self->text, want);
	snprintf(path, sizeof(path), "%s/file", self->parent);
	EXPECT_EQ(run(self, "verify", "--dir", path), 3);
	EXPECT_CONTAINS(self->text, "Not a directory\n");
}

TEST_F(journal, which_channel)
{
	struct segment_make make;

	make_usual(self);
	EXPECT_EQ(run(self, "list", "-c", "nosuch"), 3);
	EXPECT_CONTAINS(self->text, "iothub-journal: there is no channel nosuch in the journal\n");
	EXPECT_EQ(run(self, "export", "-c", "nosuch"), 3);
	EXPECT_STREQ(self->text, "iothub-journal: there is no channel nosuch in the journal\n");
	/* The rejected ones, too. */
	EXPECT_EQ(run(self, "export", "-c", "alarms"), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 2u);
	EXPECT_EQ(run(self, "list", "lanes", "--channel=alarms"), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 2u);
	EXPECT_EQ(run(self, "list", "segments", "--channel=default"), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 3u);
	EXPECT_EQ(run(self, "list", "segments", "--channel=nosuch"), 3);
	make = segment_begin(0x16, JOURNAL_KIND_QUEUE, 9, "idle", 0, 20);
	add(&make, "twenty");
	segment_mark(&make, 1, 0, true);
	segment_end(self, &make);
	EXPECT_EQ(run(self, "list", "-c", "idle"), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 1u);
	shell(self, "rm *13.segment *16.segment");
	EXPECT_EQ(run(self, "list", "-c", "#7"), 0);
	EXPECT_EQ(text_count(self->text, "\n"), 2u);
}

TEST_F(journal, command_line)
{
	static const struct {
		const char *a, *b, *c, *text;
		int code;
	} rows[] = {
		{NULL, NULL, NULL, "Usage: iothub-journal COMMAND", 2},
		{"--help", NULL, NULL, "Usage: iothub-journal COMMAND", 0},
		{"show", "--help", NULL, "Usage: iothub-journal show SEQUENCE", 0},
		{"--version", NULL, NULL, "iothub-journal ", 0},
		{"dump", NULL, NULL, "no such command: dump", 2},
		{"list", "--nothing", NULL, "--nothing is not an option", 2},
		{"list", "--dir", NULL, "--dir needs a value", 2},
		{"list", "all", NULL, "what is all? list takes [records | lanes | segments]", 2},
		{"list", "lanes", "lanes", "what is lanes?", 2},
		{"list", "--hex", NULL, "--hex and --payload are not options of list", 2},
		{"verify", "--all", NULL, "--all is not an option of verify", 2},
		{"verify", "x", NULL, "verify takes options only", 2},
		{"show", NULL, NULL, "show needs a number", 2},
		{"show", "x", NULL, "x: not the number of a message", 2},
		{"show", "0", NULL, "0: not the number of a message", 2},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		EXPECT_EQ(run(self, rows[i].a, rows[i].b, rows[i].c), rows[i].code);
		EXPECT_CONTAINS(self->text, rows[i].text);
	}
}

TEST_HARNESS_MAIN
