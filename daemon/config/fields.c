/* SPDX-License-Identifier: MIT */
/*
 * The fields of iothubd.json: tables of names, each with the function that checks and stores its value
 * (values.c). A field that is not in its table is an error: a misspelt name must not turn into a default
 * nobody asked for.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "config/check.h"
#include "config/fields.h"
#include "config/jsonfile.h"
#include "iothub.h"

static int object_read(struct place *p, struct field_table table, struct json_object *object, void *base);

static const struct field access_fields[] = {
	{"mode", field_set_mode, offsetof(struct config_access, mode), 0, 0},
	{"owner", field_set_owner, offsetof(struct config_access, uid), 0, 0},
	{"group", field_set_group, offsetof(struct config_access, gid), 0, 0},
};

size_t place_enter(struct place *p)
{
	size_t len = strlen(p->prefix);

	snprintf(p->prefix + len, sizeof(p->prefix) - len, "%s.", p->name);
	return len;
}

void place_leave(struct place *p, size_t entered)
{
	p->prefix[entered] = '\0';
}

int field_read_object(struct place *p, struct field_table table, struct json_object *value, void *to)
{
	size_t entered;
	int r;

	if (!json_object_is_type(value, json_type_object))
		return field_fail(p, "must be an object, not %s", field_type_name(value));
	entered = place_enter(p);
	r = object_read(p, table, value, to);
	place_leave(p, entered);
	return r;
}

static int set_access(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	(void)f;
	return field_read_object(p, (struct field_table){access_fields, ARRAY_SIZE(access_fields)}, value,
				 to);
}

#define FILE_OFFSET(file) ((file) * sizeof(struct config_access))

static const struct field file_fields[] = {
	{IOTHUB_FILE_TELEMETRY, set_access, FILE_OFFSET(CONFIG_FILE_TELEMETRY), 0, 0},
	{IOTHUB_FILE_TELEMETRY_RAW, set_access, FILE_OFFSET(CONFIG_FILE_TELEMETRY_RAW), 0, 0},
	{IOTHUB_FILE_TELEMETRY_FILE, set_access, FILE_OFFSET(CONFIG_FILE_TELEMETRY_FILE), 0, 0},
	{IOTHUB_FILE_STATUS, set_access, FILE_OFFSET(CONFIG_FILE_STATUS), 0, 0},
	{IOTHUB_FILE_EVENTS, set_access, FILE_OFFSET(CONFIG_FILE_EVENTS), 0, 0},
	{IOTHUB_DIR_COMMANDS, set_access, FILE_OFFSET(CONFIG_FILE_COMMANDS), 0, 0},
	{IOTHUB_FILE_COMMAND_SETTLE, set_access, FILE_OFFSET(CONFIG_FILE_SETTLE), 0, 0},
	{IOTHUB_DIR_METHODS, set_access, FILE_OFFSET(CONFIG_FILE_METHODS), 0, 0},
	{IOTHUB_DIR_TWIN, set_access, FILE_OFFSET(CONFIG_FILE_TWIN), 0, 0},
	{IOTHUB_DIR_TWIN_REPORTED, set_access, FILE_OFFSET(CONFIG_FILE_REPORTED), 0, 0},
	{IOTHUB_DIR_CHANNELS, set_access, FILE_OFFSET(CONFIG_FILE_CHANNELS), 0, 0},
	{IOTHUB_DIR_REJECTED, set_access, FILE_OFFSET(CONFIG_FILE_REJECTED), 0, 0},
};

static int set_files(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	(void)f;
	return field_read_object(p, (struct field_table){file_fields, ARRAY_SIZE(file_fields)}, value, to);
}

#define AT(member) offsetof(struct settings, member)

static const struct field top_fields[] = {
	/* The hub and who we are. */
	{"connection-string-file", field_set_path, AT(connection_string_file), 0, 0},
	{"connection-string", field_set_secret, 0, 0, 0},
	{"host", field_set_host, AT(config.host), 0, 0},
	{"port", field_set_u16, AT(config.port), 1, UINT16_MAX},
	{"gateway-host", field_set_host, AT(config.gateway_host), 0, 0},
	{"device-id", field_set_id, AT(config.device_id), 0, 0},
	{"module-id", field_set_id, AT(config.module_id), 0, 0},
	{"authentication", field_set_authentication, AT(config.authentication), 0, 0},
	{"shared-access-key-file", field_set_path, AT(key_file), 0, 0},
	{"shared-access-key", field_set_secret, 0, 0, 0},
	{"shared-access-key-name", field_set_id, AT(config.key_name), 0, 0},
	{"certificate-file", field_set_path, AT(config.certificate_file), 0, 0},
	{"private-key-file", field_set_key, AT(config.private_key), 0, 0},
	{"private-key", field_set_secret, 0, 0, 0},
	{"ca-file", field_set_path, AT(config.ca_file), 0, 0},
	/* The files. */
	{"mount", field_set_path, AT(config.mount), 0, 0},
	{"owner", field_set_owner, AT(config.uid), 0, 0},
	{"group", field_set_group, AT(config.gid), 0, 0},
	{"files", set_files, AT(config.files), 0, 0},
	{"state-directory", field_set_path, AT(config.state_dir), 0, 0},
	{"storage", field_set_storage, AT(config.storage), 0, 0},
	/* Behaviour. */
	{"queue-bytes", field_set_u64, AT(config.queue_bytes), CONFIG_QUEUE_BYTES_MIN,
	 CONFIG_QUEUE_BYTES_MAX},
	{"channels", field_set_channels, AT(config), 0, 0},
	{"ack-timeout", field_set_u32, AT(config.ack_timeout_s), 0, CONFIG_ACK_TIMEOUT_MAX},
	{"keep-alive", field_set_u16, AT(config.keep_alive_s), CONFIG_KEEP_ALIVE_MIN, UINT16_MAX},
	{"token-lifetime", field_set_u32, AT(config.token_lifetime_s), CONFIG_TOKEN_LIFETIME_MIN,
	 CONFIG_TOKEN_LIFETIME_MAX},
	{"methods", field_set_methods, AT(config), 0, CONFIG_METHODS_MAX},
	{"method-wait", field_set_u32, AT(config.method_wait_s), 0, CONFIG_METHOD_WAIT_MAX},
	{"method-timeout", field_set_u32, AT(config.method_timeout_s), CONFIG_METHOD_TIMEOUT_MIN,
	 CONFIG_METHOD_TIMEOUT_MAX},
	{"session-expiry", field_set_u32, AT(config.session_expiry_s), 0, UINT32_MAX},
	{"log-level", field_set_log_level, AT(config.log_level), 0, 0},
};

static const struct field *field_find(struct field_table table, const char *name)
{
	for (size_t i = 0; i < table.n_fields; ++i)
		if (strcmp(table.fields[i].name, name) == 0)
			return &table.fields[i];
	return NULL;
}

static int fail_unknown(struct place *p, struct field_table table)
{
	struct bytes name = bytes_from_str(p->name);
	size_t best = SIZE_MAX;
	const char *near = NULL;

	for (size_t i = 0; i < table.n_fields; ++i) {
		struct bytes known = bytes_from_str(table.fields[i].name);
		size_t distance = check_distance(name, known);

		if (distance < best && check_is_near(name, known, distance)) {
			best = distance;
			near = table.fields[i].name;
		}
	}
	if (near)
		return field_fail(p, "is not known: did you mean \"%s\"?", near);
	return field_fail(p, "is not known: iothubd.json(5) lists the fields there are");
}

static int object_read(struct place *p, struct field_table table, struct json_object *object, void *base)
{
	struct json_object_iterator it = json_object_iter_begin(object), end = json_object_iter_end(object);

	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		const char *name = json_object_iter_peek_name(&it);
		const struct field *f = field_find(table, name);
		int r;

		p->name = name;
		if (!f)
			return fail_unknown(p, table);
		r = f->set(p, f, json_object_iter_peek_value(&it), (char *)base + f->offset);
		if (r)
			return r;
	}
	return 0;
}

int settings_read(struct settings *s, struct bytes text, const char *path, struct log *log)
{
	struct place p = {.file = path, .log = log, .settings = s};
	_cleanup_(free_ptr) char *directory = strdup(path);
	struct json_object *object;
	char *slash;
	int r;

	if (!directory)
		return -ENOMEM;
	slash = strrchr(directory, '/');
	if (slash)
		slash[1] = '\0';
	p.directory = slash ? directory : ".";
	r = jsonfile_parse(&object, text, path, log);
	if (r)
		return r;
	r = object_read(&p, (struct field_table){top_fields, ARRAY_SIZE(top_fields)}, object, s);
	json_object_put(object);
	return r;
}
