/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_OUTPUT_H
#define HUBCTL_OUTPUT_H

/*
 * What commands print: JSON for scripts, tables and lists for people.
 */

#include <stddef.h>

#include <json-c/json.h>

#include "base/bytes.h"

#define OUTPUT_CELL_MAX 128

struct output_column {
	const char *title;
	const char *member; /* of the row, a JSON pointer: `/commands/queued` */
};

/* One line. */
void output_json(json_object *json);

/* Indented. */
void output_json_pretty(json_object *json);

/* The array's objects as lines under titles; @if_empty is the one line when there are none. */
void output_table(json_object *rows, const struct output_column *columns, size_t n_columns,
		  const char *if_empty);

/* The members as `name: value` lines. */
void output_object(json_object *object);

/* Adds @payload to @object: as `payload` when it is text, else as `payload-base64`. Returns 0 or -ENOMEM. */
int output_payload_add(json_object *object, struct bytes payload);

/* Control characters, which a terminal would obey, become `?`. */
void output_sanitize(char *text);

#endif
