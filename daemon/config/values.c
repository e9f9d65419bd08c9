/* SPDX-License-Identifier: MIT */
/*
 * Values of the JSON file's fields: one function for each kind, see fields.h. Error lines name the file and
 * the field with its path (files.telemetry.mode), and never repeat a string's value: somebody may have put a
 * key in the wrong place.
 */

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "config/check.h"
#include "config/fields.h"
#include "hub/method.h"

int field_fail(struct place *p, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error(p->log, "%s: field \"%s%s\" %s", p->file, p->prefix, p->name, text);
	return -EINVAL;
}

const char *field_type_name(struct json_object *value)
{
	static const char *const names[] = {
		[json_type_null] = "null",         [json_type_boolean] = "true or false",
		[json_type_double] = "a fraction", [json_type_int] = "a number",
		[json_type_object] = "an object",  [json_type_array] = "an array",
		[json_type_string] = "a string",
	};

	return names[json_object_get_type(value)];
}

struct bytes field_get_string(struct place *p, struct json_object *value, const char *what)
{
	struct bytes text;

	if (!json_object_is_type(value, json_type_string)) {
		field_fail(p, "must be %s, not %s", what, field_type_name(value));
		return BYTES(NULL, 0);
	}
	text = BYTES(json_object_get_string(value), (size_t)json_object_get_string_len(value));
	if (text.len == 0 || memchr(text.data, '\0', text.len)) {
		field_fail(p, "must be %s, not %s", what, text.len ? "a string with a NUL" : "empty");
		return BYTES(NULL, 0);
	}
	return text;
}

int field_store_string(char **to, struct bytes text)
{
	char *copy = strndup((const char *)text.data, text.len);

	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

int field_set_host(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct bytes text = field_get_string(p, value, "a host name");

	(void)f;
	if (!text.data)
		return -EINVAL;
	if (!check_host(text))
		return field_fail(p, "is not a host name: write a DNS name or an IP address, without a port");
	return field_store_string(to, text);
}

int field_set_id(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct bytes text = field_get_string(p, value, "a string");

	(void)f;
	if (!text.data)
		return -EINVAL;
	if (!hub_id_is_valid(text))
		return field_fail(p, "is not valid: use 1 to %d ASCII letters, digits and -.%%_*?!(),:=@$'",
				  HUB_ID_MAX);
	return field_store_string(to, text);
}

int field_set_path(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct bytes text = field_get_string(p, value, "a path");
	char *path;

	(void)f;
	if (!text.data)
		return -EINVAL;
	path = settings_path_join(p->directory, (const char *)text.data);
	if (!path)
		return -ENOMEM;
	free(*(char **)to);
	*(char **)to = path;
	return 0;
}

/* A scheme (RFC 3986 section 3.1) and a colon. One letter would be a drive elsewhere, and is a file here. */
static bool is_uri(struct bytes text)
{
	size_t n = 0;

	while (n < text.len && ((text.data[n] | 0x20) >= 'a' && (text.data[n] | 0x20) <= 'z'))
		++n;
	while (n && n < text.len &&
	       (((text.data[n] | 0x20) >= 'a' && (text.data[n] | 0x20) <= 'z') ||
		(text.data[n] >= '0' && text.data[n] <= '9') ||
		(text.data[n] && strchr("+-.", text.data[n]))))
		++n;
	return n > 1 && n < text.len && text.data[n] == ':';
}

int field_set_key(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct bytes text = field_get_string(p, value, "a path or a URI");

	if (!text.data)
		return -EINVAL;
	return is_uri(text) ? field_store_string(to, text) : field_set_path(p, f, value, to);
}

int field_set_secret(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	(void)value;
	(void)to;
	return field_fail(
		p,
		"is a secret: put it into a file that only the daemon can read and name that in \"%s-file\"",
		f->name);
}

static int number_get(struct place *p, const struct field *f, struct json_object *value, uint64_t *out)
{
	/* A number over 64 bits reads as the largest, which is out of every range. */
	if (!json_object_is_type(value, json_type_int))
		return field_fail(p, "must be a whole number from %" PRIu64 " to %" PRIu64 ", not %s", f->min,
				  f->max, field_type_name(value));
	*out = json_object_get_uint64(value);
	if (json_object_get_int64(value) < 0 || *out < f->min || *out > f->max)
		return field_fail(p, "must be a whole number from %" PRIu64 " to %" PRIu64 ", not %s", f->min,
				  f->max, json_object_get_string(value));
	return 0;
}

int field_set_u16(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	uint64_t v = 0;
	int r = number_get(p, f, value, &v);

	if (r == 0)
		*(uint16_t *)to = (uint16_t)v;
	return r;
}

int field_set_u32(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	uint64_t v = 0;
	int r = number_get(p, f, value, &v);

	if (r == 0)
		*(uint32_t *)to = (uint32_t)v;
	return r;
}

int field_set_u64(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	return number_get(p, f, value, to);
}

int field_set_word(struct place *p, struct json_object *value, const char *what, const char *const *words,
		   size_t n_words, void *to)
{
	struct bytes text = field_get_string(p, value, what);

	if (!text.data)
		return -EINVAL;
	for (size_t i = 0; i < n_words; ++i) {
		if (bytes_equal_str(text, words[i])) {
			/* To gcc and clang that is what an enum without negative values is. */
			*(unsigned int *)to = (unsigned int)i;
			return 0;
		}
	}
	return field_fail(p, "must be %s", what);
}

int field_set_authentication(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	static const char *const words[] = {
		[CONFIG_AUTHENTICATION_SAS] = "sas",
		[CONFIG_AUTHENTICATION_X509] = "x509",
		[CONFIG_AUTHENTICATION_NONE] = "none",
	};

	(void)f;
	return field_set_word(p, value, "\"sas\", \"x509\" or \"none\"", words, ARRAY_SIZE(words), to);
}

int field_set_storage(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	static const char *const words[] = {
		[CONFIG_STORAGE_PERSISTENT] = "persistent",
		[CONFIG_STORAGE_VOLATILE] = "volatile",
	};

	(void)f;
	return field_set_word(p, value, "\"persistent\" or \"volatile\"", words, ARRAY_SIZE(words), to);
}

int field_set_log_level(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	static const char what[] = "\"error\", \"warning\", \"info\" or \"debug\"";
	struct bytes text = field_get_string(p, value, what);

	(void)f;
	if (!text.data)
		return -EINVAL;
	if (config_log_level_parse((const char *)text.data, to))
		return field_fail(p, "must be %s", what);
	return 0;
}

static bool is_listed(const struct config *config, struct bytes name)
{
	for (size_t i = 0; i < config->n_methods; ++i)
		if (bytes_equal_str(name, config->methods[i]))
			return true;
	return false;
}

int field_set_methods(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct config *config = to;
	size_t n;

	if (!json_object_is_type(value, json_type_array))
		return field_fail(p, "must be an array of names, not %s", field_type_name(value));
	n = json_object_array_length(value);
	if (n > f->max)
		return field_fail(p, "has %zu names: a hub allows %" PRIu64, n, f->max);
	config->methods = calloc(n ? n : 1, sizeof(char *));
	if (!config->methods)
		return -ENOMEM;
	for (size_t i = 0; i < n; ++i) {
		struct bytes name =
			field_get_string(p, json_object_array_get_idx(value, i), "an array of names");
		int r;

		if (!name.data)
			return -EINVAL;
		if (!hub_method_name_is_valid(name) || is_listed(config, name))
			return field_fail(p, "has a name at position %zu that %s", i + 1,
					  is_listed(config, name) ? "is there before" : "no method can have");
		r = field_store_string(&config->methods[i], name);
		if (r)
			return r;
		config->n_methods = i + 1;
	}
	return 0;
}

int field_set_mode(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	static const char what[] = "a string of octal digits from \"0\" to \"0666\"";
	struct bytes text = field_get_string(p, value, what);
	unsigned int mode = 0;

	(void)f;
	if (!text.data)
		return -EINVAL;
	for (size_t i = 0; i < text.len; ++i) {
		if (text.data[i] < '0' || text.data[i] > '7' || mode > 0777)
			return field_fail(p, "must be %s", what);
		mode = mode << 3 | (unsigned int)(text.data[i] - '0');
	}
	if (mode & ~0666u)
		return field_fail(p, "must be %s", what);
	*(mode_t *)to = mode;
	return 0;
}

/* Longest number and largest one that is an id. */
static bool id_number(struct bytes text, uint32_t *out)
{
	uint64_t v = 0;

	if (check_u64(text, 0, UINT32_MAX - 1, &v))
		return false;
	*out = (uint32_t)v;
	return true;
}

int field_set_group(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct bytes text = field_get_string(p, value, "a group's name");
	struct group *group;

	(void)f;
	if (!text.data)
		return -EINVAL;
	if (id_number(text, to))
		return 0;
	group = getgrnam((const char *)text.data);
	if (!group)
		return field_fail(p, "names a group that does not exist: create it or name another");
	*(gid_t *)to = group->gr_gid;
	return 0;
}

int field_set_owner(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct bytes text = field_get_string(p, value, "a user's name");
	struct passwd *user;

	(void)f;
	if (!text.data)
		return -EINVAL;
	if (id_number(text, to))
		return 0;
	user = getpwnam((const char *)text.data);
	if (!user)
		return field_fail(p, "names a user that does not exist: create it or name another");
	*(uid_t *)to = user->pw_uid;
	return 0;
}
