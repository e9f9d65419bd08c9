/* SPDX-License-Identifier: MIT */
/*
 * Twins: parsing, limits, merging.
 *
 * A patch is checked on its own (keys, strings, levels, numbers that are some) and the result of a merge for
 * its size. Whatever is in a twin counts for at least one byte: a member by its key, an element of an array by
 * its value, or, where the contract gives that no length (null, containers, an empty string), as one. So the size
 * bounds the memory of a twin. The merge works on a copy, so that one that is refused leaves no trace.
 *
 * json-c reads more than JSON has: NaN and Infinity are refused as numbers, and names in single quotes, as an
 * escaped NUL, which it would take for the end of a name, before anything is read.
 */

#include "twin.h"

#include <math.h>

#include <json-c/json_visit.h>

#include "base/cleanup.h"
#include "base/utf8.h"

static inline void json_object_put_ptr(json_object **object)
{
	json_object_put(*object);
}

DEFINE_CLEANUP(json_tokener *, json_tokener_free)

const char *emu_twin_part_name(enum emu_twin_part part)
{
	return part == TWIN_DESIRED ? "desired" : "reported";
}

void emu_twin_init(struct emu_twin *twin)
{
	for (size_t i = 0; i < TWIN_N_PARTS; i++)
		twin->parts[i] = (struct emu_twin_properties){.version = 1};
}

void emu_twin_deinit(struct emu_twin *twin)
{
	for (size_t i = 0; i < TWIN_N_PARTS; i++) {
		json_object_put(twin->parts[i].object);
		twin->parts[i].object = NULL;
	}
}

/* --- limits: NULL, or what is wrong ----------------------------------------------------------- */

static const char *key_check(const char *key)
{
	size_t len = strlen(key);

	if (len == 0 || len > TWIN_KEY_MAX)
		return "a key has 1 to 1024 bytes";
	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)key[i];
		/* U+0080 to U+009F are control characters too. */
		bool is_c1 = c == 0xc2 && (uint8_t)key[i + 1] >= 0x80 && (uint8_t)key[i + 1] < 0xa0;

		if (c < 0x20 || c == 0x7f || c == '.' || c == '$' || c == ' ' || is_c1)
			return "a key has no control characters, '.', '$' and space";
	}
	return NULL;
}

/* What the limits are looked for with. */
struct check {
	const char *wrong; /* NULL: nothing yet */
	int level;         /* of containers entered */
	size_t size;
};

static const char *value_check(json_object *value, int level)
{
	switch (json_object_get_type(value)) {
	case json_type_object:
	case json_type_array:
		return level > TWIN_LEVELS_MAX ? "more than 10 levels deep" : NULL;
	case json_type_string:
		return json_object_get_string_len(value) > TWIN_STRING_MAX ? "a string has up to 4096 bytes"
									   : NULL;
	case json_type_double:
		return isfinite(json_object_get_double(value)) ? NULL : "not a number";
	case json_type_null:
	case json_type_boolean:
	case json_type_int:
		break;
	}
	return NULL;
}

static size_t value_size(json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_string:
		return (size_t)json_object_get_string_len(value);
	case json_type_int:
	case json_type_double:
		return 8;
	case json_type_boolean:
		return 4;
	case json_type_object:
	case json_type_array:
	case json_type_null:
		break;
	}
	return 0;
}

static size_t element_size(json_object *value)
{
	size_t size = value_size(value);

	return size ? size : 1;
}

static bool is_container(json_object *value)
{
	return json_object_is_type(value, json_type_object) || json_object_is_type(value, json_type_array);
}

static int on_check(json_object *value, int flags, json_object *parent, const char *key, size_t *index,
		    void *userdata)
{
	struct check *check = userdata;

	(void)index;
	if (flags & JSON_C_VISIT_SECOND) {
		check->level--;
		return JSON_C_VISIT_RETURN_CONTINUE;
	}
	if (key)
		check->wrong = key_check(key);
	if (!check->wrong && parent)
		check->wrong = value_check(value, check->level);
	check->level += is_container(value);
	check->size += key ? strlen(key) + value_size(value) : parent ? element_size(value) : 0;
	return check->wrong ? JSON_C_VISIT_RETURN_STOP : JSON_C_VISIT_RETURN_CONTINUE;
}

static struct check check_make(json_object *object)
{
	struct check check = {.wrong = NULL};

	json_c_visit(object, 0, on_check, &check);
	return check;
}

/* --- patches ---------------------------------------------------------------------------------- */

/* What the library would take for JSON: an escaped NUL, and names in single quotes. */
static bool is_lenient(struct bytes text)
{
	bool in_string = false;

	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == '"')
			in_string = !in_string;
		else if (!in_string && text.data[i] == '\'')
			return true;
		else if (in_string && text.data[i] == '\\') {
			if (text.len - i >= 6 && memcmp(text.data + i, "\\u0000", 6) == 0)
				return true;
			i++;
		}
	}
	return false;
}

static json_object *parse(struct bytes text)
{
	_cleanup_(json_tokener_free_ptr) json_tokener *tokener = json_tokener_new();
	json_object *object;

	if (!tokener || text.len == 0 || text.len > INT32_MAX)
		return NULL;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	object = json_tokener_parse_ex(tokener, (const char *)text.data, (int)text.len);
	if (json_tokener_get_error(tokener) == json_tokener_success &&
	    json_tokener_get_parse_end(tokener) == text.len)
		return object;
	json_object_put(object);
	return NULL;
}

bool emu_twin_patch_parse(struct bytes text, json_object **out, struct emu_outcome *outcome)
{
	_cleanup_(json_object_put_ptr) json_object *patch = NULL;
	const char *wrong = NULL;

	if (!utf8_is_valid(text) || is_lenient(text))
		wrong = "not UTF-8, a NUL in it, or single quotes";
	else if (!(patch = parse(text)) || !json_object_is_type(patch, json_type_object))
		wrong = "not a JSON object";
	else
		wrong = check_make(patch).wrong;
	if (wrong) {
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "the patch: %s", wrong);
		return false;
	}
	*out = TAKE_PTR(patch);
	return true;
}

/* The objects of the document that correspond to those of the patch being visited. */
struct merge {
	json_object *targets[TWIN_LEVELS_MAX + 1];
	int level;
};

/* The member @key of @target as an object, made one if it is not. */
static json_object *member_object(json_object *target, const char *key)
{
	json_object *member = NULL;

	if (json_object_object_get_ex(target, key, &member) && json_object_is_type(member, json_type_object))
		return member;
	member = json_object_new_object();
	json_object_object_add(target, key, member);
	return member;
}

static int on_merge(json_object *value, int flags, json_object *parent, const char *key, size_t *index,
		    void *userdata)
{
	struct merge *merge = userdata;
	json_object *target = merge->targets[merge->level];

	(void)index;
	if (!parent)
		return JSON_C_VISIT_RETURN_CONTINUE;
	if (flags & JSON_C_VISIT_SECOND) {
		merge->level--;
	} else if (!value) {
		json_object_object_del(target, key);
	} else if (json_object_is_type(value, json_type_object)) {
		merge->targets[++merge->level] = member_object(target, key);
	} else {
		json_object_object_add(target, key, json_object_get(value));
		return JSON_C_VISIT_RETURN_SKIP;
	}
	return JSON_C_VISIT_RETURN_CONTINUE;
}

bool emu_twin_patch(struct emu_twin *twin, enum emu_twin_part part, json_object *patch,
		    const uint64_t *if_version, struct emu_outcome *outcome)
{
	struct emu_twin_properties *p = &twin->parts[part];
	struct merge merge = {.level = 0};
	json_object *merged = NULL;

	if (if_version && *if_version != p->version) {
		emu_outcome_set(outcome, STATUS_PRECONDITION_FAILED, "another version");
		return false;
	}
	if (p->object && json_object_deep_copy(p->object, &merged, NULL) < 0) {
		emu_outcome_set(outcome, STATUS_SERVER_ERROR, "no memory");
		return false;
	}
	merge.targets[0] = merged ? merged : json_object_new_object();
	merged = merge.targets[0];
	json_c_visit(patch, 0, on_merge, &merge);
	if (check_make(merged).size > TWIN_PART_MAX) {
		json_object_put(merged);
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s properties over 32 KiB",
				emu_twin_part_name(part));
		return false;
	}
	json_object_put(p->object);
	p->object = merged;
	p->version++;
	return true;
}

json_object *emu_twin_to_json(const struct emu_twin *twin)
{
	json_object *root = json_object_new_object();

	for (size_t i = 0; i < TWIN_N_PARTS; i++) {
		const struct emu_twin_properties *p = &twin->parts[i];
		json_object *object = NULL;

		if (!p->object)
			object = json_object_new_object();
		else if (json_object_deep_copy(p->object, &object, NULL) < 0)
			object = NULL;
		if (!object) {
			json_object_put(root);
			return NULL;
		}
		json_object_object_add(object, "$version", json_object_new_uint64(p->version));
		json_object_object_add(root, emu_twin_part_name((enum emu_twin_part)i), object);
	}
	return root;
}
