/* SPDX-License-Identifier: MIT */
/*
 * Strict JSON, see jsonfile.h. A field that stands twice is looked for afterwards in the text: that second pass can rely
 * on the text being JSON, so it only follows strings, braces and colons. What is no JSON is read by json-c again, which
 * says where and what is wrong, or lets it pass: NaN and Infinity, which the second pass finds too.
 */

#include <errno.h>
#include <stdbool.h>

#include <json-c/json_tokener.h>

#include "base/json_read.h"
#include "config/jsonfile.h"

/* Fields of the objects that are open, each object's after its parent's. */
struct scan {
	struct bytes text;
	size_t pos;
	struct bytes fields[JSONFILE_FIELDS_MAX];
	size_t n_fields;
	size_t first_field[JSONFILE_DEPTH_MAX + 1]; /* of the object at each depth */
	size_t depth;
};

static void place_find(struct bytes text, size_t pos, size_t *line, size_t *column)
{
	*line = 1;
	*column = 1;
	for (size_t i = 0; i < pos && i < text.len; ++i) {
		++*column;
		if (text.data[i] == '\n') {
			++*line;
			*column = 1;
		}
	}
}

static int fail_at(struct bytes text, size_t pos, const char *path, struct log *log, const char *what)
{
	size_t line, column;

	place_find(text, pos, &line, &column);
	log_error(log, "%s: line %zu, column %zu: %s: correct it there", path, line, column, what);
	return -EINVAL;
}

/* Steps over the string at @s->pos; returns what is between its quotes, escapes as they are. */
static struct bytes scan_string(struct scan *s)
{
	size_t start = ++s->pos;

	while (s->pos < s->text.len && s->text.data[s->pos] != '"')
		s->pos += s->text.data[s->pos] == '\\' ? 2 : 1;
	if (s->pos > s->text.len)
		s->pos = s->text.len;
	return BYTES(s->text.data + start, s->pos++ - start);
}

static bool scan_is_before_colon(const struct scan *s)
{
	size_t pos = s->pos;

	while (pos < s->text.len && memchr(" \t\r\n", s->text.data[pos], 4))
		++pos;
	return pos < s->text.len && s->text.data[pos] == ':';
}

/* Remembers a field of the innermost object; NULL or what is wrong with it. */
static const char *scan_field(struct scan *s, struct bytes name)
{
	/* No field has a name that needs one, and it would hide the same name written twice. */
	if (memchr(name.data, '\\', name.len))
		return "a field name with an escape";
	for (size_t i = s->first_field[s->depth]; i < s->n_fields; ++i)
		if (bytes_equal(s->fields[i], name))
			return "this field is there twice";
	if (s->n_fields == JSONFILE_FIELDS_MAX)
		return "more fields than any configuration has";
	s->fields[s->n_fields++] = name;
	return NULL;
}

/* NULL, or what is wrong at *@error_pos. */
static const char *scan_all(struct scan *s, size_t *error_pos)
{
	while (s->pos < s->text.len) {
		uint8_t c = s->text.data[s->pos];
		const char *wrong = NULL;

		*error_pos = s->pos;
		if (c == '"') {
			struct bytes name = scan_string(s);

			if (scan_is_before_colon(s))
				wrong = scan_field(s, name);
		} else if (c == '{') {
			if (s->depth == JSONFILE_DEPTH_MAX)
				return "too many objects in each other";
			s->first_field[++s->depth] = s->n_fields;
			++s->pos;
		} else if (c == '}') {
			if (s->depth > 0)
				s->n_fields = s->first_field[s->depth--];
			++s->pos;
		} else {
			/* The capitals of NaN and Infinity; JSON has none outside strings but a number's E.
			 */
			if (c >= 'A' && c <= 'Z' && c != 'E')
				wrong = "not JSON";
			++s->pos;
		}
		if (wrong)
			return wrong;
	}
	return NULL;
}

static int text_scan(struct bytes text, const char *path, struct log *log)
{
	struct scan s = {.text = text};
	size_t pos = 0;
	const char *wrong = scan_all(&s, &pos);

	return wrong ? fail_at(text, pos, path, log, wrong) : 0;
}

static int text_explain(struct json_tokener *tok, struct json_object **out, struct bytes text,
			const char *path, struct log *log)
{
	struct json_object *object;
	enum json_tokener_error error;

	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tok, (const char *)text.data, (int)text.len);
	error = json_tokener_get_error(tok);
	if (error == json_tokener_continue)
		return fail_at(text, text.len, path, log, "not JSON: the text ends too early");
	if (error != json_tokener_success)
		return fail_at(text, json_tokener_get_parse_end(tok), path, log,
			       json_tokener_error_desc(error));
	*out = object;
	return 0;
}

static int text_parse(struct json_object **out, struct bytes text, const char *path, struct log *log)
{
	struct json_tokener *tok;
	int r = json_read(text, JSONFILE_DEPTH_MAX, out);

	if (r != -EINVAL)
		return r;
	tok = json_tokener_new_ex(JSONFILE_DEPTH_MAX);
	if (!tok)
		return -ENOMEM;
	r = text_explain(tok, out, text, path, log);
	json_tokener_free(tok);
	return r;
}

int jsonfile_parse(struct json_object **out, struct bytes text, const char *path, struct log *log)
{
	size_t start = 0;
	int r;

	*out = NULL;
	if (text.len > JSONFILE_MAX)
		return fail_at(text, 0, path, log, "larger than any configuration");
	if (memchr(text.data, '\0', text.len))
		return fail_at(text, 0, path, log, "a NUL byte in the text");
	while (start < text.len && memchr(" \t\r\n", text.data[start], 4))
		++start;
	if (start == text.len || text.data[start] != '{')
		return fail_at(text, start, path, log, "the configuration must be one JSON object, { ... }");
	r = text_parse(out, text, path, log);
	if (r == 0)
		r = text_scan(text, path, log);
	if (r) {
		json_object_put(*out);
		*out = NULL;
	}
	return r;
}
