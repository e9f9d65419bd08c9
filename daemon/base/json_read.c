/* SPDX-License-Identifier: MIT */
/*
 * JSON text to objects, see json_read.h. Every value is put into the container that is open as soon as it begins, so
 * that there is one owner of everything at any time: the outermost object.
 */

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json_object.h>

#include "base/json_read.h"
#include "base/utf8.h"

/* Longest number, as text. */
#define NUMBER_MAX 63

struct json_reader {
	const char *pos, *end;
	int error; /* the first one */
	/* Open containers, borrowed from the outermost, which is the first. */
	struct json_object *open[JSON_READ_LEVELS_MAX];
	size_t n_open, n_levels;
	/* The string that was read last, without escapes, and room for the longest there can be. */
	char *string;
	size_t string_len;
	/* Of the member at hand, likewise. */
	char *name;
};

static bool fail(struct json_reader *r, int error)
{
	if (!r->error)
		r->error = error;
	r->pos = r->end;
	return false;
}

static int peek(const struct json_reader *r)
{
	return r->pos < r->end ? (unsigned char)*r->pos : -1;
}

static bool skip(struct json_reader *r, char c)
{
	if (peek(r) != c)
		return false;
	++r->pos;
	return true;
}

static void skip_space(struct json_reader *r)
{
	while (r->pos < r->end && memchr(" \t\r\n", *r->pos, 4))
		++r->pos;
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

/* --- strings ---------------------------------------------------------------------------------- */

static void put_byte(struct json_reader *r, uint32_t byte)
{
	r->string[r->string_len++] = (char)byte;
}

/* As UTF-8, which takes no more bytes than the escape did. */
static void put_character(struct json_reader *r, uint32_t c)
{
	if (c < 0x80) {
		put_byte(r, c);
		return;
	}
	if (c < 0x800) {
		put_byte(r, 0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			put_byte(r, 0xe0 | c >> 12);
		} else {
			put_byte(r, 0xf0 | c >> 18);
			put_byte(r, 0x80 | (c >> 12 & 0x3f));
		}
		put_byte(r, 0x80 | (c >> 6 & 0x3f));
	}
	put_byte(r, 0x80 | (c & 0x3f));
}

/* The four digits behind \u. */
static bool read_hex(struct json_reader *r, uint32_t *out)
{
	static const char digits[] = "0123456789abcdef";

	*out = 0;
	for (int i = 0; i < 4; ++i) {
		int c = peek(r);
		const char *digit = c > 0 ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

		if (!digit)
			return fail(r, -EINVAL);
		*out = *out << 4 | (uint32_t)(digit - digits);
		++r->pos;
	}
	return true;
}

static bool read_unicode(struct json_reader *r)
{
	uint32_t c, low;

	if (!read_hex(r, &c))
		return false;
	if (c >= 0xd800 && c < 0xdc00 && r->end - r->pos >= 2 && memcmp(r->pos, "\\u", 2) == 0) {
		const char *before = r->pos;

		r->pos += 2;
		if (!read_hex(r, &low))
			return false;
		if (low >= 0xdc00 && low < 0xe000)
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		else
			r->pos = before;
	}
	put_character(r, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
	return true;
}

static bool read_escape(struct json_reader *r)
{
	static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	int c = peek(r);
	const char *at = c > 0 ? strchr(escapes, c) : NULL;

	if (skip(r, 'u'))
		return read_unicode(r);
	if (!at)
		return fail(r, -EINVAL);
	++r->pos;
	put_byte(r, (unsigned char)meant[at - escapes]);
	return true;
}

static bool read_string(struct json_reader *r)
{
	if (!skip(r, '"'))
		return fail(r, -EINVAL);
	r->string_len = 0;
	while (!skip(r, '"')) {
		int c = peek(r);

		if (c < 0x20)
			return fail(r, -EINVAL);
		++r->pos;
		if (c != '\\')
			put_byte(r, (uint32_t)c);
		else if (!read_escape(r))
			return false;
	}
	r->string[r->string_len] = '\0';
	return true;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Puts the new @value_take, whose reference is gone in any case, where it belongs. */
static bool add_take(struct json_reader *r, struct json_object *value_take)
{
	struct json_object *to = r->open[r->n_open - 1];
	int failed = json_object_is_type(to, json_type_object)
			     ? json_object_object_add(to, r->name, value_take)
			     : json_object_array_add(to, value_take);

	if (failed) {
		json_object_put(value_take);
		return fail(r, -ENOMEM);
	}
	return true;
}

/* As add_take(), of what is NULL only without memory. */
static bool add_new(struct json_reader *r, struct json_object *value_take)
{
	return value_take ? add_take(r, value_take) : fail(r, -ENOMEM);
}

static bool read_digits(struct json_reader *r)
{
	if (!is_digit(peek(r)))
		return fail(r, -EINVAL);
	while (is_digit(peek(r)))
		++r->pos;
	return true;
}

static bool add_whole(struct json_reader *r, const char *text)
{
	bool is_negative = text[0] == '-';
	int64_t number = 0;
	uint64_t large = 0;

	if (is_negative)
		number = strtoll(text, NULL, 10);
	else
		large = strtoull(text, NULL, 10);
	if (large > INT64_MAX)
		return add_new(r, json_object_new_uint64(large));
	return add_new(r, json_object_new_int64(is_negative ? number : (int64_t)large));
}

static bool read_number(struct json_reader *r)
{
	const char *start = r->pos;
	bool is_whole = true;
	char text[NUMBER_MAX + 1];

	skip(r, '-');
	if (!skip(r, '0') && !read_digits(r))
		return false;
	if (skip(r, '.')) {
		is_whole = false;
		if (!read_digits(r))
			return false;
	}
	if (skip(r, 'e') || skip(r, 'E')) {
		is_whole = false;
		if (!skip(r, '+'))
			skip(r, '-');
		if (!read_digits(r))
			return false;
	}
	if (r->pos - start > NUMBER_MAX)
		return fail(r, -EINVAL);
	memcpy(text, start, (size_t)(r->pos - start));
	text[r->pos - start] = '\0';
	return is_whole ? add_whole(r, text) : add_new(r, json_object_new_double_s(strtod(text, NULL), text));
}

static bool read_word(struct json_reader *r)
{
	static const struct bytes words[] = {BYTES_LIT("null"), BYTES_LIT("false"), BYTES_LIT("true")};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); ++i) {
		if ((size_t)(r->end - r->pos) < words[i].len ||
		    memcmp(r->pos, words[i].data, words[i].len) != 0)
			continue;
		r->pos += words[i].len;
		/* A null is NULL. */
		return i ? add_new(r, json_object_new_boolean(i == 2)) : add_take(r, NULL);
	}
	return fail(r, -EINVAL);
}

static bool read_open(struct json_reader *r, struct json_object *container_take)
{
	if (r->n_open == r->n_levels) {
		json_object_put(container_take);
		return fail(r, -EINVAL);
	}
	++r->pos;
	if (!add_new(r, container_take))
		return false;
	r->open[r->n_open++] = container_take;
	return true;
}

static bool read_value(struct json_reader *r)
{
	int c = peek(r);

	if (c == '{')
		return read_open(r, json_object_new_object());
	if (c == '[')
		return read_open(r, json_object_new_array());
	if (c == '"')
		return read_string(r) &&
		       add_new(r, json_object_new_string_len(r->string, (int)r->string_len));
	return c == '-' || is_digit(c) ? read_number(r) : read_word(r);
}

/* --- containers ------------------------------------------------------------------------------- */

static bool read_name(struct json_reader *r)
{
	char *name = r->name;

	if (!read_string(r))
		return false;
	r->name = r->string;
	r->string = name;
	skip_space(r);
	if (!skip(r, ':'))
		return fail(r, -EINVAL);
	skip_space(r);
	return true;
}

/* What comes next in the innermost container: a value, or its end. */
static bool read_next(struct json_reader *r)
{
	struct json_object *in = r->open[r->n_open - 1];
	bool is_object = json_object_is_type(in, json_type_object);
	bool is_first =
		(is_object ? (size_t)json_object_object_length(in) : json_object_array_length(in)) == 0;

	skip_space(r);
	if (skip(r, is_object ? '}' : ']')) {
		--r->n_open;
		return true;
	}
	if (!is_first) {
		if (!skip(r, ','))
			return fail(r, -EINVAL);
		skip_space(r);
	}
	if (is_object && !read_name(r))
		return false;
	return read_value(r);
}

static void read_all(struct json_reader *r)
{
	skip_space(r);
	if (!skip(r, '{')) {
		fail(r, -EINVAL);
		return;
	}
	r->n_open = 1;
	while (r->n_open && read_next(r))
		;
	skip_space(r);
	if (r->pos < r->end)
		fail(r, -EINVAL);
}

int json_read(struct bytes text, size_t n_levels, struct json_object **out)
{
	struct json_reader r = {.pos = (const char *)text.data,
				.end = (const char *)text.data + text.len,
				.n_levels = n_levels};
	struct json_object *outermost;

	assert(n_levels >= 1 && n_levels <= JSON_READ_LEVELS_MAX);
	if (!text.len || !utf8_is_valid(text))
		return -EINVAL;
	outermost = json_object_new_object();
	r.open[0] = outermost;
	r.string = malloc(text.len + 1);
	r.name = malloc(text.len + 1);
	if (outermost && r.string && r.name)
		read_all(&r);
	else
		r.error = -ENOMEM;
	free(r.string);
	free(r.name);
	if (r.error) {
		json_object_put(outermost);
		return r.error;
	}
	*out = outermost;
	return 0;
}
