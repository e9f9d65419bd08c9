/* SPDX-License-Identifier: MIT */
/*
 * Properties of a twin, see property.h. The names of keys are those of the files in the trees, so that what completes
 * there fits here; what need not be written with `%` may be.
 */

#include "property.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define LEVELS_MAX 32

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Appends the key that @name, of @len bytes, is to @out, and moves that behind it. */
static int key_decode(char **out, const char *name, size_t len)
{
	bool is_dots = (len == 1 && name[0] == '.') || (len == 2 && memcmp(name, "..", 2) == 0);
	char *dst = *out;

	if (is_dots)
		return -EINVAL;
	for (size_t i = 0; i < len && !(len == 1 && name[0] == '%'); i++) {
		if (name[i] != '%') {
			*dst++ = name[i];
			continue;
		}
		if (i + 2 >= len || hex_digit(name[i + 1]) < 0 || hex_digit(name[i + 2]) < 0)
			return -EINVAL;
		*dst = (char)(hex_digit(name[i + 1]) * 16 + hex_digit(name[i + 2]));
		if (!*dst++)
			return -EINVAL;
		i += 2;
	}
	*dst++ = '\0';
	*out = dst;
	return 0;
}

int property_parse(struct property *p, const char *name)
{
	size_t len = strcspn(name, "/");
	char *keys;
	int r = 0;

	*p = (struct property){.is_desired = len == 7 && memcmp(name, "desired", len) == 0};
	if (!p->is_desired && !(len == 8 && memcmp(name, "reported", len) == 0))
		return -EINVAL;
	/* A key is not longer than its name and the slash before it. */
	p->keys = keys = malloc(strlen(name) + 1);
	if (!keys)
		return -ENOMEM;
	for (name += len; !r && *name; name += len) {
		name += strspn(name, "/");
		len = strcspn(name, "/");
		if (len) {
			r = key_decode(&keys, name, len);
			p->n_keys++;
		}
	}
	return r;
}

void property_deinit(struct property *p)
{
	free(p->keys);
	p->keys = NULL;
}

bool property_find(const struct property *p, json_object *document, json_object **out)
{
	const char *key = p->keys;

	for (size_t i = 0; i < p->n_keys; i++, key += strlen(key) + 1) {
		if (!json_object_is_type(document, json_type_object) ||
		    !json_object_object_get_ex(document, key, &document))
			return false;
	}
	*out = document;
	return true;
}

struct bytes property_text(json_object *value)
{
	if (json_object_is_type(value, json_type_string))
		return BYTES(json_object_get_string(value), (size_t)json_object_get_string_len(value));
	return bytes_from_str(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN |
									    JSON_C_TO_STRING_NOSLASHESCAPE));
}

bool property_is(json_object *value, const char *text)
{
	_cleanup_(json_put) json_object *json = NULL;
	const char *why;

	if (bytes_equal_str(property_text(value), text))
		return true;
	return property_read_json(bytes_from_str(text), &json, &why) == 0 && json_object_equal(json, value);
}

int property_read_json(struct bytes text, json_object **out, const char **why)
{
	struct json_tokener *tokener = json_tokener_new_ex(LEVELS_MAX);
	enum json_tokener_error error;

	*why = "not enough memory";
	if (!tokener || text.len > INT32_MAX - 1) {
		json_tokener_free(tokener);
		return -EINVAL;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* The NUL, too: it says that a number is complete. */
	*out = json_tokener_parse_ex(tokener, (const char *)text.data, (int)text.len + 1);
	error = json_tokener_get_error(tokener);
	if (error == json_tokener_success && json_tokener_get_parse_end(tokener) < text.len)
		error = json_tokener_error_parse_unexpected;
	*why = error == json_tokener_continue ? "it ends too early" : json_tokener_error_desc(error);
	json_tokener_free(tokener);
	if (error == json_tokener_success)
		return 0;
	json_object_put(*out);
	*out = NULL;
	return -EINVAL;
}
