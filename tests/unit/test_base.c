/* SPDX-License-Identifier: MIT */
/*
 * The helpers everything stands on: runs of bytes, cursors, the bounded queue, lists, UTF-8, base64, times.
 */

#include <errno.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/cursor.h"
#include "base/list.h"
#include "base/log.h"
#include "base/time.h"
#include "base/utf8.h"
#include "tests/harness.h"

/* --- bytes ------------------------------------------------------------------------------------ */

TEST(bytes)
{
	EXPECT_TRUE(bytes_equal(BYTES(NULL, 0), BYTES_LIT("")));
	EXPECT_TRUE(bytes_equal(BYTES_LIT("a\0b"), BYTES("a\0b", 3)));
	EXPECT_FALSE(bytes_equal(BYTES_LIT("ab"), BYTES_LIT("ac")));
	EXPECT_FALSE(bytes_equal(BYTES_LIT("ab"), BYTES_LIT("abc")));
	EXPECT_TRUE(bytes_equal_str(BYTES_LIT("abc"), "abc"));
	EXPECT_FALSE(bytes_equal_str(BYTES_LIT("a\0b"), "a"));
	EXPECT_EQ(bytes_from_str(NULL).len, 0u);
	EXPECT_TRUE(bytes_start_with(BYTES_LIT("abc"), BYTES_LIT("ab")));
	EXPECT_TRUE(bytes_start_with(BYTES_LIT("abc"), BYTES(NULL, 0)));
	EXPECT_FALSE(bytes_start_with(BYTES_LIT("a"), BYTES_LIT("ab")));
}

/* --- cursors ---------------------------------------------------------------------------------- */

TEST(reader)
{
	struct reader r = reader_init(BYTES_LIT("\x01\x02\x03\x04\x05\x06\x07xyz"));

	EXPECT_EQ(reader_u8(&r), 1);
	EXPECT_EQ(reader_u16(&r), 0x203);
	EXPECT_EQ(reader_u32(&r), 0x4050607u);
	EXPECT_EQ(reader_left(&r), 3u);
	EXPECT_TRUE(bytes_equal_str(reader_take(&r, 2), "xy"));
	EXPECT_EQ(reader_take(&r, 0).len, 0u);
	EXPECT_EQ(r.error, 0);
	EXPECT_EQ(reader_left(&r), 1u);
}

TEST(reader_error_sticks)
{
	struct reader r = reader_init(BYTES_LIT("\xff\xff\xff"));

	EXPECT_EQ(reader_u32(&r), 0u);
	EXPECT_EQ(r.error, -EBADMSG);
	EXPECT_EQ(reader_u8(&r), 0);
	EXPECT_EQ(reader_u16(&r), 0);
	EXPECT_EQ(reader_take(&r, 1).len, 0u);
	EXPECT_EQ(reader_left(&r), 0u);
	reader_fail(&r, -EPROTO);
	EXPECT_EQ(r.error, -EBADMSG);
}

TEST(reader_of_nothing)
{
	struct reader r = reader_init(BYTES(NULL, 0));

	EXPECT_EQ(reader_left(&r), 0u);
	EXPECT_EQ(reader_take(&r, 0).len, 0u);
	EXPECT_EQ(r.error, 0);
	EXPECT_EQ(reader_u8(&r), 0);
	EXPECT_EQ(r.error, -EBADMSG);
}

TEST(writer)
{
	uint8_t out[10];
	struct writer w = writer_init(out, sizeof(out));

	writer_u8(&w, 1);
	writer_u16(&w, 0x203);
	writer_u32(&w, 0x4050607);
	writer_bytes_put(&w, BYTES_LIT("xyz"));
	writer_bytes_put(&w, BYTES(NULL, 0));
	EXPECT_EQ(w.error, 0);
	EXPECT_TRUE(bytes_equal(writer_bytes(&w), BYTES_LIT("\x01\x02\x03\x04\x05\x06\x07xyz")));
}

TEST(writer_error_sticks)
{
	uint8_t out[4] = {0};
	struct writer w = writer_init(out, 3);

	writer_u32(&w, UINT32_MAX);
	EXPECT_EQ(w.error, -ENOSPC);
	writer_u8(&w, 0xff);
	writer_bytes_put(&w, BYTES_LIT("x"));
	EXPECT_TRUE(writer_reserve(&w, 1) == NULL);
	writer_fail(&w, -EINVAL);
	EXPECT_EQ(w.error, -ENOSPC);
	EXPECT_EQ(writer_len(&w), 0u);
	EXPECT_EQ(out[0], 0);
}

/* --- buf -------------------------------------------------------------------------------------- */

TEST(buf_is_a_queue)
{
	struct buf b;

	buf_init(&b, 100);
	EXPECT_EQ(buf_append(&b, BYTES(NULL, 0)), 0);
	EXPECT_EQ(buf_len(&b), 0u);
	EXPECT_EQ(buf_append(&b, BYTES_LIT("hello ")), 0);
	EXPECT_EQ(buf_append(&b, BYTES_LIT("world")), 0);
	buf_consume(&b, 3);
	EXPECT_TRUE(bytes_equal_str(buf_bytes(&b), "lo world"));
	buf_consume(&b, 8);
	EXPECT_EQ(buf_len(&b), 0u);
	buf_deinit(&b);
	buf_deinit(&b);
}

TEST(buf_is_bounded)
{
	static const uint8_t data[64];
	uint8_t *at;
	struct buf b;

	buf_init(&b, 64);
	EXPECT_EQ(buf_append(&b, BYTES(data, 64)), 0);
	EXPECT_EQ(buf_append(&b, BYTES(data, 1)), -ENOBUFS);
	EXPECT_EQ(buf_len(&b), 64u);
	buf_consume(&b, 1);
	EXPECT_EQ(buf_append(&b, BYTES(data, 1)), 0);
	EXPECT_EQ(buf_reserve(&b, SIZE_MAX, &at), -ENOBUFS);
	EXPECT_EQ(buf_reserve(&b, 65, &at), -ENOBUFS);
	buf_deinit(&b);
	EXPECT_EQ(b.max, 64u);
}

TEST(buf_reserve_commits_what_was_filled)
{
	uint8_t *at;
	struct buf b;

	buf_init(&b, 1000);
	ASSERT_EQ(buf_reserve(&b, 500, &at), 0);
	memcpy(at, "abc", 3);
	buf_commit(&b, 3);
	EXPECT_TRUE(bytes_equal_str(buf_bytes(&b), "abc"));
	buf_deinit(&b);
}

/* Against a plain array, with random sizes of pieces in and out. */
TEST(buf_keeps_order)
{
	uint8_t in = 0, out = 0;
	struct buf b;

	buf_init(&b, 5000);
	for (int i = 0; i < 20000; ++i) {
		uint8_t piece[300];
		size_t n = (size_t)(test_random() % sizeof(piece)), n_out;

		for (size_t k = 0; k < n; ++k)
			piece[k] = (uint8_t)(in + k);
		if (buf_append(&b, BYTES(piece, n)) == 0)
			in = (uint8_t)(in + n);
		n_out = (size_t)(test_random() % 320);
		if (n_out > buf_len(&b))
			n_out = buf_len(&b);
		for (size_t k = 0; k < n_out; ++k)
			ASSERT_EQ(buf_bytes(&b).data[k], (uint8_t)(out + k));
		buf_consume(&b, n_out);
		out = (uint8_t)(out + n_out);
		ASSERT_LE(b.size, 4u * 5000);
	}
	buf_deinit(&b);
}

/* --- list ------------------------------------------------------------------------------------- */

struct item {
	int value;
	struct list link;
};

static int list_sum(struct list *head)
{
	int sum = 0;

	list_for_each (l, head)
		sum = sum * 10 + container_of(l, struct item, link)->value;
	return sum;
}

TEST(list)
{
	struct list head = LIST_INIT(head), other;
	struct item items[4];

	list_init(&other);
	for (int i = 0; i < 4; ++i) {
		items[i].value = i + 1;
		list_init(&items[i].link);
	}
	EXPECT_TRUE(list_is_empty(&head));
	EXPECT_TRUE(list_first(&head) == NULL);
	list_append(&head, &items[0].link);
	list_append(&head, &items[2].link);
	list_insert_before(&items[2].link, &items[1].link);
	EXPECT_EQ(list_sum(&head), 123);
	EXPECT_TRUE(list_first(&head) == &items[0].link);
	list_append(&other, &items[3].link);
	list_splice(&head, &other);
	EXPECT_TRUE(list_is_empty(&other));
	list_splice(&head, &other);
	EXPECT_EQ(list_sum(&head), 1234);
	list_remove(&items[1].link);
	list_remove(&items[1].link);
	EXPECT_FALSE(list_is_linked(&items[1].link));
	EXPECT_EQ(list_sum(&head), 134);
	list_for_each_safe (l, &head)
		list_remove(l);
	EXPECT_TRUE(list_is_empty(&head));
}

/* --- UTF-8 ------------------------------------------------------------------------------------ */

TEST(utf8)
{
	static const struct {
		struct bytes text;
		bool ok;
	} rows[] = {
		{BYTES_LIT(""), true},
		{BYTES_LIT("plain"), true},
		{BYTES_LIT("\x7f"), true},
		{BYTES_LIT("\xc2\x80"), true},
		{BYTES_LIT("\xdf\xbf"), true},
		{BYTES_LIT("\xe0\xa0\x80"), true},
		{BYTES_LIT("\xed\x9f\xbf"), true},
		{BYTES_LIT("\xee\x80\x80"), true},
		{BYTES_LIT("\xef\xbf\xbf"), true},
		{BYTES_LIT("\xf0\x90\x80\x80"), true},
		{BYTES_LIT("\xf4\x8f\xbf\xbf"), true},
		{BYTES_LIT("\x80"), false},
		{BYTES_LIT("\xbf"), false},
		{BYTES_LIT("\xc0\x80"), false},
		{BYTES_LIT("\xc1\xbf"), false},
		{BYTES_LIT("\xc2"), false},
		{BYTES_LIT("\xc2\x7f"), false},
		{BYTES_LIT("\xc2\xc0"), false},
		{BYTES_LIT("\xe0\x9f\xbf"), false},
		{BYTES_LIT("\xe2\x82"), false},
		{BYTES_LIT("\xe2\x82\x41"), false},
		{BYTES_LIT("\xed\xa0\x80"), false},
		{BYTES_LIT("\xed\xbf\xbf"), false},
		{BYTES_LIT("\xf0\x8f\xbf\xbf"), false},
		{BYTES_LIT("\xf0\x9f\x9a"), false},
		{BYTES_LIT("\xf0\x9f\x41\x80"), false},
		{BYTES_LIT("\xf4\x90\x80\x80"), false},
		{BYTES_LIT("\xf5\x80\x80\x80"), false},
		{BYTES_LIT("\xff"), false},
		{BYTES_LIT("good\xff"), false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		TEST_LOG("row %zu", i);
		EXPECT_EQ(utf8_is_valid(rows[i].text), rows[i].ok);
		EXPECT_EQ(utf8_is_mqtt_string(rows[i].text), rows[i].ok);
	}
	EXPECT_TRUE(utf8_is_valid(BYTES_LIT("a\0b")));
	EXPECT_FALSE(utf8_is_mqtt_string(BYTES_LIT("a\0b")));
	EXPECT_TRUE(utf8_is_mqtt_string(BYTES(NULL, 0)));
}

/* Every code point, and every three byte sequence that is none. */
TEST(utf8_every_code_point)
{
	for (uint32_t c = 0x800; c < 0x10000; ++c) {
		uint8_t b[] = {(uint8_t)(0xe0 | c >> 12), (uint8_t)(0x80 | (c >> 6 & 63)),
			       (uint8_t)(0x80 | (c & 63))};

		ASSERT_EQ(utf8_is_valid(BYTES(b, 3)), c < 0xd800 || c > 0xdfff);
		ASSERT_FALSE(utf8_is_valid(BYTES(b, 2)));
	}
	for (uint32_t c = 0x10000; c < 0x140000; ++c) {
		uint8_t b[] = {(uint8_t)(0xf0 | c >> 18), (uint8_t)(0x80 | (c >> 12 & 63)),
			       (uint8_t)(0x80 | (c >> 6 & 63)), (uint8_t)(0x80 | (c & 63))};

		ASSERT_EQ(utf8_is_valid(BYTES(b, 4)), c < 0x110000);
	}
}

/* --- base64 ----------------------------------------------------------------------------------- */

TEST(base64_vectors)
{
	/* RFC 4648 section 10 */
	static const char *const rows[][2] = {
		{"", ""},
		{"f", "Zg=="},
		{"fo", "Zm8="},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		char text[16];
		uint8_t data[16];
		ssize_t n;

		base64_encode(bytes_from_str(rows[i][0]), text);
		EXPECT_STREQ(text, rows[i][1]);
		EXPECT_EQ(strlen(text), BASE64_LEN(strlen(rows[i][0])));
		n = base64_decode(bytes_from_str(rows[i][1]), data, strlen(rows[i][0]));
		ASSERT_EQ(n, (ssize_t)strlen(rows[i][0]));
		EXPECT_MEMEQ(data, rows[i][0], (size_t)n);
		if (n > 0)
			EXPECT_EQ(base64_decode(bytes_from_str(rows[i][1]), data, (size_t)n - 1), -ENOSPC);
	}
}

TEST(base64_refuses)
{
	static const char *const rows[] = {
		"Z",      "Zg",    "Zg=",  "Zh==", "Zm9=", "====",  "Z===",     "Zg==Zg==",
		"Zm9v\n", "Zm 9v", "Zm-_", "Z=g=", "=Zg=", "Zm9vZ", "Zm9v====", "\xff\xff\xff\xff"};
	uint8_t data[16];

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		TEST_LOG("row %zu", i);
		EXPECT_EQ(base64_decode(bytes_from_str(rows[i]), data, sizeof(data)), -EINVAL);
	}
}

TEST(base64_round_trip)
{
	for (size_t n = 0; n < 100; ++n) {
		uint8_t in[100], out[100];
		char text[BASE64_LEN(100) + 1];

		for (size_t i = 0; i < n; ++i)
			in[i] = (uint8_t)test_random();
		base64_encode(BYTES(in, n), text);
		ASSERT_EQ(base64_decode(bytes_from_str(text), out, n), (ssize_t)n);
		EXPECT_MEMEQ(in, out, n);
	}
}

/* --- time ------------------------------------------------------------------------------------- */

TEST(time_texts)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} rows[] = {
		{0, "1970-01-01T00:00:00.000Z"},
		{1600987795320, "2020-09-24T22:49:55.320Z"},
		{951782399999, "2000-02-28T23:59:59.999Z"},
		{951782400000, "2000-02-29T00:00:00.000Z"},
		{951868800000, "2000-03-01T00:00:00.000Z"},
		{4107542399000, "2100-02-28T23:59:59.000Z"},
		{4107542400000, "2100-03-01T00:00:00.000Z"},
		{253402300799999, "9999-12-31T23:59:59.999Z"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		char text[TIME_ISO_LEN + 1];
		uint64_t ms = 1;

		time_format_iso(rows[i].ms, text);
		EXPECT_STREQ(text, rows[i].text);
		EXPECT_EQ(time_parse(bytes_from_str(rows[i].text), &ms), 0);
		EXPECT_EQ(ms, rows[i].ms);
	}
}

TEST(time_beyond_year_9999)
{
	char text[TIME_ISO_LEN + 1];

	time_format_iso(UINT64_MAX, text);
	EXPECT_STREQ(text, "9999-12-31T23:59:59.999Z");
}

TEST(time_forms)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} rows[] = {
		{"1600987795320", 1600987795320},           {"0", 0},
		{"2021-04-21T11:30:16Z", 1619004616000},    {"2021-04-21T11:30:16.5Z", 1619004616500},
		{"2021-04-21T11:30:16.05Z", 1619004616050}, {"2021-04-21T11:30:16.123456789Z", 1619004616123},
	};
	static const char *const bad[] = {
		"",
		"-1",
		"+1",
		" 1",
		"1.5",
		"1234567890123456",
		"2021-04-21",
		"2021-04-21T11:30:16",
		"2021-04-21T11:30:16-07:00",
		"2021-04-21T11:30:16+00:00",
		"2021-04-21T11:30:16.Z",
		"2021-04-21T11:30:16.1234567890Z",
		"2021-04-21T11:30:16.1x",
		"2021-04-21T11:30:16,5Z",
		"2021-04-21 11:30:16Z",
		"2021-04-21t11:30:16Z",
		"2021-04-21T11:30:16z",
		"2021-4-21T11:30:16Z0",
		"2021-13-21T11:30:16Z",
		"2021-00-21T11:30:16Z",
		"2021-04-31T11:30:16Z",
		"2021-02-29T11:30:16Z",
		"2100-02-29T11:30:16Z",
		"2021-04-00T11:30:16Z",
		"2021-04-21T24:00:00Z",
		"2021-04-21T11:60:16Z",
		"2021-04-21T11:30:60Z",
		"1969-12-31T23:59:59Z",
		"2021-04-21T11:30:1xZ",
		"2021-04-21T11:30:16Z ",
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		uint64_t ms = 1;

		TEST_LOG("%s", rows[i].text);
		EXPECT_EQ(time_parse(bytes_from_str(rows[i].text), &ms), 0);
		EXPECT_EQ(ms, rows[i].ms);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		uint64_t ms;

		TEST_LOG("\"%s\"", bad[i]);
		EXPECT_EQ(time_parse(bytes_from_str(bad[i]), &ms), -EINVAL);
	}
}

/* Every day of 800 years, against a calendar that counts. */
TEST(time_every_day)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	uint64_t day = 0;

	for (int y = 1970; y < 2770; ++y) {
		bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;

		for (int m = 0; m < 12; ++m) {
			for (int d = 1; d <= lengths[m] + (m == 1 && leap); ++d, ++day) {
				char text[TIME_ISO_LEN + 1], want[64];
				uint64_t ms;

				snprintf(want, sizeof(want), "%04d-%02d-%02dT12:34:56.789Z", y, m + 1, d);
				time_format_iso(day * 86400000 + 45296789, text);
				ASSERT_STREQ(text, want);
				ASSERT_EQ(time_parse(bytes_from_str(want), &ms), 0);
				ASSERT_EQ(ms, day * 86400000 + 45296789);
			}
		}
	}
}

/* --- log -------------------------------------------------------------------------------------- */

FIXTURE(log)
{
	struct log log;
	int read_fd;
	char text[4096];
};

FIXTURE_SETUP(log)
{
	int fds[2];

	ASSERT_EQ(pipe(fds), 0);
	self->read_fd = fds[0];
	self->log = (struct log){.fd = fds[1], .level = LOG_LEVEL_INFO, .name = "prog"};
}

FIXTURE_TEARDOWN(log)
{
	close(self->read_fd);
	close(self->log.fd);
}

/* What was written so far; the pipe is not closed, so something must have been. */
static const char *read_log(struct fixture_log *self)
{
	ssize_t n = read(self->read_fd, self->text, sizeof(self->text) - 1);

	self->text[n > 0 ? n : 0] = '\0';
	return self->text;
}

TEST_F(log, lines)
{
	log_error(&self->log, "cannot %s %d", "open", 7);
	EXPECT_STREQ(read_log(self), "prog: error: cannot open 7\n");
	log_debug(&self->log, "not seen");
	log_info(&self->log, "two\nlines\x7f");
	EXPECT_STREQ(read_log(self), "prog: two?lines?\n");
	self->log.journal = true;
	log_warning(&self->log, "careful");
	EXPECT_STREQ(read_log(self), "<4>careful\n");
	log_error(NULL, "nowhere");
}

TEST_F(log, long_lines_are_cut)
{
	char text[5000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_info(&self->log, "%s", text);
	EXPECT_EQ(strlen(read_log(self)), strlen("prog: ") + 1023 + 1);
}

TEST_F(log, once_until_the_text_changes)
{
	struct log_once once = {""};

	log_write_once(&self->log, &once, LOG_LEVEL_INFO, "down: %s", "a");
	log_write_once(&self->log, &once, LOG_LEVEL_INFO, "down: %s", "a");
	log_write_once(&self->log, &once, LOG_LEVEL_INFO, "down: %s", "b");
	EXPECT_STREQ(read_log(self), "prog: down: a\nprog: down: b\n");
	log_once_reset(&once);
	log_write_once(&self->log, &once, LOG_LEVEL_INFO, "down: %s", "b");
	EXPECT_STREQ(read_log(self), "prog: down: b\n");
}

TEST_HARNESS_MAIN
