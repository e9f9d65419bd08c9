/* SPDX-License-Identifier: MIT */
/*
 * Twin states, see twin.h.
 *
 * json-c makes the objects, but it reads more than JSON has (names in single quotes, raw control characters,
 * `-01`, NaN), takes an escaped NUL for the end of a name, and spends memory on levels and values before anybody
 * has counted them. So a scan of the text comes first: it knows RFC 8259's grammar and nothing else, allocates
 * nothing, goes over each byte once and stops at the bounds. What it lets pass, json-c reads whole.
 *
 * The limits are looked for in the objects, not in the text, because a state is also checked after a merge. The
 * walk enters at most HUB_TWIN_LEVELS_MAX levels, whoever made the object.
 */

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/json_read.h"
#include "base/utf8.h"
#include "hub/twin.h"

/* Bytes of a key that a reason shows, and a NUL. */
#define KEY_SHOWN_SIZE 64

__attribute__((format(printf, 3, 4))) static int refuse(struct hub_twin_reason *reason, int error,
							const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason->text, sizeof(reason->text), fmt, ap);
	va_end(ap);
	return error;
}

/* --- the text ------------------------------------------------------------------------------------ */

struct scan {
	const uint8_t *text;
	size_t len;
	size_t pos;
	size_t n_values;
	unsigned int level; /* objects and arrays that are open */
	uint32_t objects;   /* bit n: level n + 1 is an object */
	bool is_first;      /* no member of the innermost one was seen yet */
	const char *wrong;  /* at @pos; NULL: nothing yet */
	bool too_much;      /* what is wrong is a bound of ours */
};

static_assert(HUB_TWIN_PARSE_LEVELS_MAX <= 32, "a bit for each level");
static_assert(HUB_TWIN_PARSE_LEVELS_MAX <= JSON_READ_LEVELS_MAX, "what is scanned can be read");

/* The byte at hand; -1 at the end. */
static int scan_peek(const struct scan *s)
{
	return s->pos < s->len ? s->text[s->pos] : -1;
}

static bool scan_fail(struct scan *s, const char *wrong)
{
	if (!s->wrong)
		s->wrong = s->pos == s->len ? "the text ends early" : wrong;
	return false;
}

/* Steps over @byte if it is the one at hand. */
static bool scan_skip(struct scan *s, char byte)
{
	bool found = scan_peek(s) == byte;

	s->pos += found;
	return found;
}

static void scan_space(struct scan *s)
{
	while (scan_skip(s, ' ') || scan_skip(s, '\t') || scan_skip(s, '\n') || scan_skip(s, '\r'))
		;
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* After a backslash. */
static bool scan_escape(struct scan *s, bool is_name)
{
	int c = scan_peek(s);
	size_t start;

	if (c != 'u') {
		/* The terminating NUL is no candidate: -1 and 0 are refused before strchr() sees them. */
		if (c <= 0 || !strchr("\"\\/bfnrt", c))
			return scan_fail(s, "there is no such escape");
		s->pos++;
		return true;
	}
	start = ++s->pos;
	while (s->pos - start < 4) {
		if (!is_hex(scan_peek(s)))
			return scan_fail(s, "4 hexadecimal digits follow \\u");
		s->pos++;
	}
	if (is_name && memcmp(s->text + start, "0000", 4) == 0)
		return scan_fail(s, "U+0000 is not allowed in keys");
	return true;
}

static bool scan_string(struct scan *s, bool is_name)
{
	if (!scan_skip(s, '"'))
		return scan_fail(s, is_name ? "a key in double quotes is expected" : "a value is expected");
	while (!scan_skip(s, '"')) {
		if (scan_peek(s) < 0x20)
			return scan_fail(s, "control characters are written as \\u escapes");
		if (!scan_skip(s, '\\'))
			s->pos++;
		else if (!scan_escape(s, is_name))
			return false;
	}
	return true;
}

static bool scan_digits(struct scan *s)
{
	if (!is_digit(scan_peek(s)))
		return scan_fail(s, "a digit is expected");
	while (is_digit(scan_peek(s)))
		s->pos++;
	return true;
}

/* json-c would make it the nearest number of 64 bits. */
static bool whole_is_held(const char *text)
{
	char *end;

	errno = 0;
	if (text[0] == '-')
		(void)strtoll(text, &end, 10);
	else
		(void)strtoull(text, &end, 10);
	return errno == 0;
}

/* The text of a fraction is kept and sent as it is, while it counts as 8 bytes. */
static bool scan_number_bounds(struct scan *s, size_t start, bool is_whole)
{
	char text[HUB_TWIN_NUMBER_BYTES_MAX + 1];
	size_t len = s->pos - start;

	if (len > HUB_TWIN_NUMBER_BYTES_MAX)
		return scan_fail(s, "a number has at most 40 characters");
	memcpy(text, s->text + start, len);
	text[len] = '\0';
	if (is_whole && !whole_is_held(text))
		return scan_fail(s, "a whole number has at most 64 bits: write it as a string");
	return true;
}

static bool scan_number(struct scan *s)
{
	size_t start = s->pos;
	bool is_whole = true;

	scan_skip(s, '-');
	if (scan_skip(s, '0')) {
		if (is_digit(scan_peek(s)))
			return scan_fail(s, "a number has no leading zeros");
	} else if (!scan_digits(s)) {
		return false;
	}
	if (scan_skip(s, '.')) {
		is_whole = false;
		if (!scan_digits(s))
			return false;
	}
	if (scan_skip(s, 'e') || scan_skip(s, 'E')) {
		is_whole = false;
		if (!scan_skip(s, '-'))
			scan_skip(s, '+');
		if (!scan_digits(s))
			return false;
	}
	return scan_number_bounds(s, start, is_whole);
}

static bool scan_word(struct scan *s, struct bytes word)
{
	struct bytes rest = BYTES(s->text + s->pos, s->len - s->pos);

	if (!bytes_start_with(rest, word)) {
		if (bytes_start_with(word, rest))
			s->pos = s->len;
		return scan_fail(s, "a value is expected");
	}
	s->pos += word.len;
	return true;
}

static bool scan_bound(struct scan *s, const char *wrong)
{
	s->too_much = true;
	return scan_fail(s, wrong);
}

static bool scan_open(struct scan *s, bool is_object)
{
	if (s->level == HUB_TWIN_PARSE_LEVELS_MAX)
		return scan_bound(s, "too many levels");
	s->objects = (s->objects & ~(1u << s->level)) | ((uint32_t)is_object << s->level);
	s->level++;
	s->is_first = true;
	s->pos++;
	return true;
}

/* Of an object or an array only the bracket; what follows is its members. */
static bool scan_value(struct scan *s)
{
	int c = scan_peek(s);

	if (++s->n_values > HUB_TWIN_PARSE_VALUES_MAX)
		return scan_bound(s, "too many values");
	switch (c) {
	case '{':
	case '[':
		return scan_open(s, c == '{');
	case 't':
		return scan_word(s, BYTES_LIT("true"));
	case 'f':
		return scan_word(s, BYTES_LIT("false"));
	case 'n':
		return scan_word(s, BYTES_LIT("null"));
	default:
		return c == '-' || is_digit(c) ? scan_number(s) : scan_string(s, false);
	}
}

/* One member of the innermost object or array, or its end. */
static bool scan_member(struct scan *s)
{
	bool is_object = s->objects >> (s->level - 1) & 1;

	scan_space(s);
	if (scan_skip(s, is_object ? '}' : ']')) {
		s->level--;
		s->is_first = false;
		return true;
	}
	if (!s->is_first && !scan_skip(s, ','))
		return scan_fail(s, is_object ? "a comma or } is expected" : "a comma or ] is expected");
	s->is_first = false;
	scan_space(s);
	if (is_object) {
		if (!scan_string(s, true))
			return false;
		scan_space(s);
		if (!scan_skip(s, ':'))
			return scan_fail(s, "a colon is expected");
		scan_space(s);
	}
	return scan_value(s);
}

static bool scan_text(struct scan *s)
{
	scan_space(s);
	if (scan_peek(s) != '{')
		return scan_fail(s, "a JSON object is expected");
	if (!scan_value(s))
		return false;
	while (s->level)
		if (!scan_member(s))
			return false;
	scan_space(s);
	return s->pos == s->len || scan_fail(s, "nothing may follow the object");
}

enum hub_twin_text hub_twin_scan(struct bytes text, size_t *out_len)
{
	struct scan s = {.text = text.data, .len = text.len};
	bool good;

	scan_space(&s);
	good = scan_value(&s);
	while (good && s.level)
		good = scan_member(&s);
	*out_len = s.pos;
	if (good)
		return HUB_TWIN_TEXT_WHOLE;
	if (s.too_much)
		return HUB_TWIN_TEXT_TOO_MUCH;
	return s.pos == s.len ? HUB_TWIN_TEXT_PART : HUB_TWIN_TEXT_BAD;
}

int hub_twin_parse(struct bytes text, struct json_object **out, struct hub_twin_reason *reason)
{
	struct scan scan = {.text = text.data, .len = text.len};

	reason->text[0] = '\0';
	if (text.len > HUB_TWIN_TEXT_BYTES_MAX)
		return refuse(reason, -EMSGSIZE, "the text has %zu bytes, at most %d are allowed", text.len,
			      HUB_TWIN_TEXT_BYTES_MAX);
	if (!utf8_is_valid(text))
		return refuse(reason, -EINVAL, "the text is not UTF-8");
	if (!scan_text(&scan))
		return refuse(reason, -EINVAL, "not a JSON object: byte %zu: %s", scan.pos + 1, scan.wrong);
	return json_read(text, HUB_TWIN_PARSE_LEVELS_MAX, out) ? refuse(reason, -ENOMEM, "not enough memory")
							       : 0;
}

/* --- the limits ---------------------------------------------------------------------------------- */

/* An object or an array that is being gone through. */
struct level {
	const struct json_object *container;
	const struct lh_entry *entry; /* of an object: the next one */
	size_t index;                 /* of an array: the next one */
	const char *key;              /* of the member at hand, or the array's own; empty: none yet */
	bool is_merged;               /* null takes away here: a patch, outside of arrays */
};

struct check {
	struct hub_twin_reason *reason;
	size_t size;
	struct level levels[HUB_TWIN_LEVELS_MAX + 1]; /* from the state itself to the innermost */
	size_t n_levels;
};

/* U+0080 to U+009F are control characters too. @c is followed by @next, which may be the final NUL. */
static bool is_control(uint8_t c, uint8_t next)
{
	return c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next < 0xa0);
}

/* @key as a reason shows it: the first bytes, and nothing that would break the line. */
static const char *key_show(const char *key, char out[static KEY_SHOWN_SIZE])
{
	size_t len = strlen(key), shown = len;
	bool is_text = utf8_is_valid(bytes_from_str(key));

	if (len >= KEY_SHOWN_SIZE) {
		shown = KEY_SHOWN_SIZE - sizeof("...");
		/* Not within a character. */
		while (shown && ((uint8_t)key[shown] & 0xc0) == 0x80)
			shown--;
	}
	for (size_t i = 0; i < shown; i++) {
		uint8_t c = (uint8_t)key[i];

		out[i] = key[i];
		if (is_control(c, (uint8_t)key[i + 1]) || (c >= 0x80 && !is_text))
			out[i] = '?';
		if (out[i] == '?' && c == 0xc2 && i + 1 < shown)
			out[++i] = '?';
	}
	snprintf(out + shown, KEY_SHOWN_SIZE - shown, "%s", shown < len ? "..." : "");
	return out;
}

static int refuse_key(const struct check *c, int error, const char *what)
{
	const char *key = c->levels[c->n_levels - 1].key;
	char shown[KEY_SHOWN_SIZE];

	return refuse(c->reason, error, "key \"%s\": %s", key_show(key, shown), what);
}

static int key_check(const struct check *c)
{
	const char *text = c->levels[c->n_levels - 1].key;
	const uint8_t *key = (const uint8_t *)text;
	size_t len = strlen(text);

	if (len == 0)
		return refuse_key(c, -EINVAL, "an empty key is not allowed");
	if (len > HUB_TWIN_KEY_BYTES_MAX)
		return refuse_key(c, -EMSGSIZE, "a key has at most 1024 bytes");
	if (!utf8_is_valid(BYTES(key, len)))
		return refuse_key(c, -EINVAL, "a key is UTF-8");
	for (size_t i = 0; i < len; i++) {
		if (key[i] == ' ')
			return refuse_key(c, -EINVAL, "a space is not allowed in keys");
		if (key[i] == '.')
			return refuse_key(c, -EINVAL, "a dot is not allowed in keys");
		if (key[i] == '$')
			return refuse_key(c, -EINVAL, "a $ is not allowed in keys");
		if (is_control(key[i], key[i + 1]))
			return refuse_key(c, -EINVAL, "control characters are not allowed in keys");
	}
	return 0;
}

static int string_check(struct check *c, struct json_object *value)
{
	size_t len = (size_t)json_object_get_string_len(value);

	c->size += len;
	if (len > HUB_TWIN_STRING_BYTES_MAX)
		return refuse_key(c, -EMSGSIZE, "a string has at most 4096 bytes");
	/* json-c holds it, but for many others text ends there; the hub takes none either. */
	if (memchr(json_object_get_string(value), '\0', len))
		return refuse_key(c, -EINVAL, "U+0000 is not allowed in strings");
	return 0;
}

/* Starts on the members of @container, which is an object or an array, in the member at hand. */
static int level_enter(struct check *c, const struct json_object *container, bool is_patch)
{
	const struct level *outer = c->n_levels ? &c->levels[c->n_levels - 1] : NULL;
	bool is_object = json_object_is_type(container, json_type_object);

	if (c->n_levels == ARRAY_SIZE(c->levels))
		return refuse_key(c, -EINVAL, "more than 10 levels are not allowed");
	c->levels[c->n_levels++] = (struct level){
		.container = container,
		.entry = is_object ? json_object_get_object(container)->head : NULL,
		.key = outer ? outer->key : "",
		.is_merged = is_patch && is_object,
	};
	return 0;
}

static int value_check(struct check *c, struct json_object *value, bool is_patch)
{
	switch (json_object_get_type(value)) {
	case json_type_object:
	case json_type_array:
		return level_enter(c, value, is_patch);
	case json_type_string:
		return string_check(c, value);
	case json_type_double:
		c->size += 8;
		return isfinite(json_object_get_double(value))
			       ? 0
			       : refuse_key(c, -EINVAL, "a number beyond all bounds is not allowed");
	case json_type_int:
		c->size += 8;
		return 0;
	case json_type_boolean:
		c->size += 4;
		return 0;
	case json_type_null:
		break;
	}
	return 0;
}

static int element_check(struct check *c, struct json_object *value)
{
	size_t before = c->size;
	int r = value_check(c, value, false);

	/* Never nothing: otherwise an array of nulls would have no bound. */
	c->size += c->size == before;
	return r;
}

static int member_check(struct check *c, const char *key, struct json_object *value)
{
	struct level *level = &c->levels[c->n_levels - 1];
	int r;

	level->key = key;
	r = key_check(c);
	if (r)
		return r;
	c->size += level->is_merged && !value ? 0 : strlen(key);
	return value_check(c, value, level->is_merged);
}

/* The next member or element of the innermost level, or its end. */
static int step_check(struct check *c)
{
	struct level *level = &c->levels[c->n_levels - 1];
	const struct lh_entry *entry = level->entry;

	if (entry) {
		level->entry = lh_entry_next(entry);
		return member_check(c, lh_entry_k(entry), lh_entry_v(entry));
	}
	if (json_object_is_type(level->container, json_type_array) &&
	    level->index < json_object_array_length(level->container))
		return element_check(c, json_object_array_get_idx(level->container, level->index++));
	c->n_levels--;
	return 0;
}

static int check(const struct json_object *object, bool is_patch, struct hub_twin_reason *reason)
{
	struct check c = {.reason = reason};
	int r;

	reason->text[0] = '\0';
	if (!json_object_is_type(object, json_type_object))
		return refuse(reason, -EINVAL, "a JSON object is expected");
	r = level_enter(&c, object, is_patch);
	while (r == 0 && c.n_levels)
		r = step_check(&c);
	if (r)
		return r;
	if (c.size > HUB_TWIN_STATE_BYTES_MAX)
		return refuse(reason, -EMSGSIZE, "the properties have %zu bytes, at most %u are allowed",
			      c.size, HUB_TWIN_STATE_BYTES_MAX);
	return 0;
}

int hub_twin_check(const struct json_object *state, struct hub_twin_reason *reason)
{
	return check(state, false, reason);
}

int hub_twin_check_patch(const struct json_object *patch, struct hub_twin_reason *reason)
{
	return check(patch, true, reason);
}
