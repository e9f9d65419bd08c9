/* SPDX-License-Identifier: MIT */
/*
 * Leaves of a twin as text, see twin_leaf.h. What JSON is and how it is read is hub/twin.c's to say; that reads
 * objects, so a value is put into one.
 */

#include "flow/twin_leaf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "flow/twin_doc.h"

#define BEFORE "{\"v\":"
#define AFTER  "}"

/* Without the newline. */
static struct bytes leaf_bytes(const struct json_object *value)
{
	struct json_object *v = (struct json_object *)(uintptr_t)value;

	if (json_object_is_type(value, json_type_string))
		return BYTES(json_object_get_string(v), (size_t)json_object_get_string_len(v));
	return twin_doc_text(value, false);
}

size_t twin_leaf_len(const struct json_object *value)
{
	return value ? leaf_bytes(value).len + 1 : 0;
}

size_t twin_leaf_put(const struct json_object *value, char *out, size_t size)
{
	struct bytes text = value ? leaf_bytes(value) : BYTES(NULL, 0);
	size_t len = text.len < size ? text.len : size;

	if (len)
		memcpy(out, text.data, len);
	if (value && len < size)
		out[len++] = '\n';
	return len;
}

static int fail(struct hub_twin_reason *reason, int error, const char *text)
{
	snprintf(reason->text, sizeof(reason->text), "%s", text);
	return error;
}

/* A whole JSON value, with white space at most around it. */
static int parse_json(struct bytes text, const struct json_object **out, struct hub_twin_reason *reason)
{
	_cleanup_(free_ptr) char *wrapped = malloc(text.len + sizeof(BEFORE AFTER));
	const struct json_object *value;
	struct json_object *object;
	int n, r;

	if (!wrapped)
		return fail(reason, -ENOMEM, "not enough memory");
	n = sprintf(wrapped, BEFORE "%.*s" AFTER, (int)text.len, (const char *)text.data);
	r = hub_twin_parse(BYTES(wrapped, (size_t)n), &object, reason);
	if (r)
		return r;
	value = NULL;
	twin_doc_member(object, "v", &value);
	*out = twin_doc_ref(value);
	json_object_put(object);
	return 0;
}

static int parse_string(struct bytes text, const struct json_object **out, struct hub_twin_reason *reason)
{
	if (!utf8_is_valid(text))
		return fail(reason, -EINVAL, "the text is not UTF-8");
	if (text.len && memchr(text.data, '\0', text.len))
		return fail(reason, -EINVAL, "U+0000 is not allowed in strings");
	*out = json_object_new_string_len(text.len ? (const char *)text.data : "", (int)text.len);
	return *out ? 0 : fail(reason, -ENOMEM, "not enough memory");
}

/* Bytes of the character that @lead begins; 0: it begins none. */
static size_t character_len(uint8_t lead)
{
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Whether the bytes at the end are the beginning of a character, and the others are fine. */
static bool ends_in_character(struct bytes text)
{
	size_t n = 1;

	while (n < 3 && n < text.len && (text.data[text.len - n] & 0xc0) == 0x80)
		++n;
	return n <= text.len && n < character_len(text.data[text.len - n]) &&
	       utf8_is_valid(BYTES(text.data, text.len - n));
}

static bool is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_all_space(struct bytes text)
{
	for (size_t i = 0; i < text.len; ++i)
		if (!is_space(text.data[i]))
			return false;
	return true;
}

/* Whether the value that begins here has an end that cannot be missed. */
static bool has_brackets(struct bytes text)
{
	size_t i = 0;

	while (i < text.len && is_space(text.data[i]))
		++i;
	return i < text.len && (text.data[i] == '{' || text.data[i] == '[' || text.data[i] == '"');
}

int twin_leaf_parse(struct bytes text, bool last, const struct json_object **out,
		    struct hub_twin_reason *reason)
{
	size_t len;

	if (text.len > TWIN_LEAF_TEXT_MAX)
		return fail(reason, -EMSGSIZE, "the text is too long");
	text = bytes_chomp(text);
	switch (hub_twin_scan(text, &len)) {
	case HUB_TWIN_TEXT_WHOLE:
		if (is_all_space(BYTES(text.data + len, text.len - len)))
			return parse_json(text, out, reason);
		break;
	case HUB_TWIN_TEXT_PART:
		if (!last && has_brackets(text))
			return TWIN_LEAF_WAITS;
		break;
	case HUB_TWIN_TEXT_TOO_MUCH:
		return fail(reason, -EINVAL, "more levels or values than a twin can have");
	case HUB_TWIN_TEXT_BAD:
		break;
	}
	if (!last && ends_in_character(text))
		return TWIN_LEAF_WAITS;
	return parse_string(text, out, reason);
}
