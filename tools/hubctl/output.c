/* SPDX-License-Identifier: MIT */
/*
 * JSON, tables and lists on standard output. Whether it could be written is looked at once, in the end, by
 * main(). What comes from devices may hold anything: for people, control characters are taken out.
 */

#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/utf8.h"

#define N_COLUMNS_MAX 8

/* --- JSON ------------------------------------------------------------------------------------- */

void output_json(json_object *json)
{
	puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

void output_json_pretty(json_object *json)
{
	puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
							  JSON_C_TO_STRING_NOSLASHESCAPE));
}

int output_payload_add(json_object *object, struct bytes payload)
{
	_cleanup_(free_ptr) char *text = NULL;

	if (utf8_is_valid(payload)) {
		json_object_object_add(
			object, "payload",
			json_object_new_string_len((const char *)payload.data, (int)payload.len));
		return 0;
	}
	text = malloc(BASE64_LEN(payload.len) + 1);
	if (!text)
		return -ENOMEM;
	base64_encode(payload, text);
	json_object_object_add(object, "payload-base64", json_object_new_string(text));
	return 0;
}

/* --- text ------------------------------------------------------------------------------------- */

void output_sanitize(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		/* U+0080 to U+009F are C2 80 to C2 9F. */
		if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			p[0] = p[1] = '?';
		else if (*p < ' ' || *p == 0x7f)
			*p = '?';
	}
}

/* Characters, not bytes. */
static int text_width(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* As much of @text as fits, cut between characters. */
static void cell_put(char *out, size_t size, const char *text)
{
	size_t used = strlen(out), n = strlen(text);

	if (n > size - 1 - used) {
		n = size - 1 - used;
		while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(out + used, text, n);
	out[used + n] = '\0';
}

static const char *scalar_text(json_object *value)
{
	if (json_object_is_type(value, json_type_boolean))
		return json_object_get_boolean(value) ? "yes" : "no";
	return value ? json_object_get_string(value) : "-";
}

/* A value in one line: `a, b` of an array, `name value, …` of an object. */
static void value_format(json_object *value, char *out, size_t size)
{
	out[0] = '\0';
	if (json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++) {
			cell_put(out, size, i ? ", " : "");
			cell_put(out, size, scalar_text(json_object_array_get_idx(value, i)));
		}
	} else if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, name, member)
		{
			cell_put(out, size, out[0] ? ", " : "");
			cell_put(out, size, name);
			cell_put(out, size, " ");
			cell_put(out, size, scalar_text(member));
		}
	} else {
		cell_put(out, size, scalar_text(value));
	}
	if (!out[0])
		cell_put(out, size, "-");
	output_sanitize(out);
}

/* --- tables and lists ------------------------------------------------------------------------- */

static void cell_format(json_object *row, const struct output_column *column,
			char out[static OUTPUT_CELL_MAX])
{
	json_object *value = NULL;

	if (json_pointer_get(row, column->member, &value) < 0)
		value = NULL;
	value_format(value, out, OUTPUT_CELL_MAX);
}

static void cell_print(const char *text, int width, bool is_last)
{
	printf("%s%*s", text, is_last ? 0 : width - text_width(text) + 2, "");
}

void output_table(json_object *rows, const struct output_column *columns, size_t n_columns,
		  const char *if_empty)
{
	size_t n_rows = json_object_array_length(rows);
	int widths[N_COLUMNS_MAX];
	char cell[OUTPUT_CELL_MAX];

	if (n_rows == 0) {
		puts(if_empty);
		return;
	}
	for (size_t c = 0; c < n_columns; c++) {
		widths[c] = text_width(columns[c].title);
		for (size_t i = 0; i < n_rows; i++) {
			cell_format(json_object_array_get_idx(rows, i), &columns[c], cell);
			if (text_width(cell) > widths[c])
				widths[c] = text_width(cell);
		}
	}
	for (size_t c = 0; c < n_columns; c++)
		cell_print(columns[c].title, widths[c], c + 1 == n_columns);
	putchar('\n');
	for (size_t i = 0; i < n_rows; i++) {
		for (size_t c = 0; c < n_columns; c++) {
			cell_format(json_object_array_get_idx(rows, i), &columns[c], cell);
			cell_print(cell, widths[c], c + 1 == n_columns);
		}
		putchar('\n');
	}
}

void output_object(json_object *object)
{
	char value[1024];
	int width = 0;

	json_object_object_foreach(object, counted, ignored)
	{
		(void)ignored;
		if (text_width(counted) > width)
			width = text_width(counted);
	}
	json_object_object_foreach(object, name, member)
	{
		value_format(member, value, sizeof(value));
		printf("%s:%*s%s\n", name, width - text_width(name) + 1, "", value);
	}
}
