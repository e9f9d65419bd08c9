/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_FIELDS_H
#define CONFIG_FIELDS_H

/*
 * Fields of the JSON file (inside daemon/config only): what a table of them is made of, and the functions
 * that check and store one value. Each stores at @to when the value is good; returns 0, -EINVAL after logging
 * one line, -ENOMEM.
 */

#include <json-c/json_object.h>

#include "base/log.h"
#include "config/settings.h"

#define FIELD_PATH_MAX 128

/* Where we are in the file. */
struct place {
	const char *file;
	const char *directory; /* relative paths start here */
	struct log *log;
	struct settings *settings;
	char prefix[FIELD_PATH_MAX]; /* "files.telemetry." */
	const char *name;            /* of the field being read */
};

struct field {
	const char *name;
	int (*set)(struct place *p, const struct field *f, struct json_object *value, void *to);
	size_t offset; /* of @to in what the object describes */
	uint64_t min;
	uint64_t max;
};

struct field_table {
	const struct field *fields;
	size_t n_fields;
};

/* Logs `FILE: field "FIELD" ...` and returns -EINVAL. */
__attribute__((format(printf, 2, 3))) int field_fail(struct place *p, const char *fmt, ...);

/* Reads the fields of the object @value, each called `name.field` from there, into what starts at @to. */
int field_read_object(struct place *p, struct field_table table, struct json_object *value, void *to);

/* Goes into the object of the current field: its own are called `name.field` from there. Returns what place_leave() needs. */
size_t place_enter(struct place *p);
void place_leave(struct place *p, size_t entered);

/* The string's bytes; data NULL after logging that @what is needed. */
struct bytes field_get_string(struct place *p, struct json_object *value, const char *what);
/* Replaces @to by a copy. Returns 0 or -ENOMEM. */
int field_store_string(char **to, struct bytes text);
/* An enum: which of the @words it is; @what: "\"a\" or \"b\"". Returns 0 or -EINVAL. */
int field_set_word(struct place *p, struct json_object *value, const char *what, const char *const *words,
		   size_t n_words, void *to);

/* "a string" */
const char *field_type_name(struct json_object *value);

/* char *: a host name. */
int field_set_host(struct place *p, const struct field *f, struct json_object *value, void *to);
/* char *: an identity. */
int field_set_id(struct place *p, const struct field *f, struct json_object *value, void *to);
/* char *: a path, absolute or from the directory of the file. */
int field_set_path(struct place *p, const struct field *f, struct json_object *value, void *to);
/* char *: as above, or a URI, kept as it is. */
int field_set_key(struct place *p, const struct field *f, struct json_object *value, void *to);
/* Always an error: secrets have files of their own. */
int field_set_secret(struct place *p, const struct field *f, struct json_object *value, void *to);
/* uint16_t, from f->min to f->max. */
int field_set_u16(struct place *p, const struct field *f, struct json_object *value, void *to);
/* uint32_t, likewise. */
int field_set_u32(struct place *p, const struct field *f, struct json_object *value, void *to);
/* uint64_t, likewise. */
int field_set_u64(struct place *p, const struct field *f, struct json_object *value, void *to);
/* enum config_authentication. */
int field_set_authentication(struct place *p, const struct field *f, struct json_object *value, void *to);
/* enum config_storage. */
int field_set_storage(struct place *p, const struct field *f, struct json_object *value, void *to);
/* struct config: its channels. */
int field_set_channels(struct place *p, const struct field *f, struct json_object *value, void *to);
/* enum log_level. */
int field_set_log_level(struct place *p, const struct field *f, struct json_object *value, void *to);
/* struct config: its methods, from an array of at most f->max names. */
int field_set_methods(struct place *p, const struct field *f, struct json_object *value, void *to);
/* mode_t from a string of octal digits. */
int field_set_mode(struct place *p, const struct field *f, struct json_object *value, void *to);
/* uid_t from a name or a string of decimal digits. */
int field_set_owner(struct place *p, const struct field *f, struct json_object *value, void *to);
/* gid_t, likewise. */
int field_set_group(struct place *p, const struct field *f, struct json_object *value, void *to);

#endif
