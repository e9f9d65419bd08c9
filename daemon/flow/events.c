/* SPDX-License-Identifier: MIT */
/*
 * Events, see events.h. The lines and their readers are in lines.c; here they get their form. Events are rare:
 * nothing on the way of a message makes one.
 */

#include "flow/events.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/time.h"
#include "base/utf8.h"
#include "flow/lines.h"

#define EVENTS_BYTES_MAX ((size_t)64 * 1024)

struct events {
	struct loop *loop;
	struct lines *lines; /* NULL without a file */
};

int events_new(struct events **out, struct loop *loop)
{
	struct events *events = calloc(1, sizeof(*events));

	if (!events)
		return -ENOMEM;
	events->loop = loop;
	*out = events;
	return 0;
}

void events_free(struct events *events)
{
	if (!events)
		return;
	lines_free(events->lines);
	free(events);
}

int events_add_file(struct events *events, struct fuse_node *parent, const struct config_access *access)
{
	const struct lines_options options = {
		.parent = parent,
		.name = config_file_name(CONFIG_FILE_EVENTS),
		.access = access,
		.bytes_max = EVENTS_BYTES_MAX,
		.from_start = true,
	};

	return lines_new(&events->lines, &options);
}

void events_remove_file(struct events *events)
{
	lines_free(events->lines);
	events->lines = NULL;
}

/* What others sent may be in a reason: JSON takes UTF-8 only. */
static struct json_object *string_new(const char *text)
{
	return json_object_new_string(utf8_is_valid(bytes_from_str(text)) ? text : "(not UTF-8)");
}

static void add(struct json_object *object, const char *key, const char *text)
{
	struct json_object *value = text ? string_new(text) : NULL;

	if (value && json_object_object_add(object, key, value))
		json_object_put(value);
}

void events_emit(struct events *events, const char *event, const char *file, const char *fmt, ...)
{
	struct json_object *object;
	char reason[EVENTS_REASON_MAX] = "", at[TIME_ISO_LEN + 1];
	const char *text;
	va_list ap;

	if (!events->lines)
		return;
	object = json_object_new_object();
	if (!object)
		return;
	if (fmt) {
		va_start(ap, fmt);
		vsnprintf(reason, sizeof(reason), fmt, ap);
		va_end(ap);
	}
	time_format_iso(loop_wall_ms(events->loop), at);
	add(object, "time", at);
	add(object, "event", event);
	add(object, "file", file);
	add(object, "reason", fmt ? reason : NULL);
	text = json_object_to_json_string_ext(object,
					      JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text)
		lines_put(events->lines, bytes_from_str(text));
	json_object_put(object);
}
