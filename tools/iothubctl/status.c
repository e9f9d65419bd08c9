/* SPDX-License-Identifier: MIT */
/*
 * `status` and `events`: the daemon and its connection.
 */

#include "status.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arguments.h"
#include "base/cleanup.h"
#include "files.h"
#include "iothub.h"
#include "property.h"

/* Values that are text even if they are all digits. */
static const char *const text_keys[] = {"hub", "gateway", "device", "server", "last-error", "last-refusal"};

/* Takes the next line from @text. */
static bool next_line(struct bytes *text, struct bytes *key, struct bytes *value)
{
	while (text->len) {
		const uint8_t *end = memchr(text->data, '\n', text->len);
		struct bytes line = BYTES(text->data, end ? (size_t)(end - text->data) : text->len);
		const uint8_t *colon = memmem(line.data, line.len, ": ", 2);

		*text = BYTES(text->data + line.len + !!end, text->len - line.len - !!end);
		if (!colon)
			continue;
		*key = BYTES(line.data, (size_t)(colon - line.data));
		*value = BYTES(colon + 2, line.len - key->len - 2);
		return true;
	}
	return false;
}

static json_object *value_to_json(const char *key, struct bytes value)
{
	_cleanup_(free_ptr) char *text = strndup((const char *)value.data, value.len);
	bool is_text = !text;
	uint64_t number;

	for (size_t i = 0; i < ARRAY_SIZE(text_keys); i++)
		is_text = is_text || strcmp(key, text_keys[i]) == 0;
	if (!is_text && argument_number(text, 0, UINT64_MAX, &number) == 0)
		return json_object_new_uint64(number);
	return json_object_new_string_len((const char *)value.data, (int)value.len);
}

json_object *status_to_json(struct bytes text)
{
	json_object *out = json_object_new_object();
	struct bytes key, value;

	while (out && next_line(&text, &key, &value)) {
		_cleanup_(free_ptr) char *name = strndup((const char *)key.data, key.len);

		if (name)
			json_object_object_add(out, name, value_to_json(name, value));
	}
	return out;
}

bool status_is_connected(struct bytes text)
{
	struct bytes key, value;

	while (next_line(&text, &key, &value)) {
		if (bytes_equal_str(key, "state"))
			return bytes_equal_str(value, "connected");
	}
	return false;
}

static int run_status(const struct ctl_args *args)
{
	_cleanup_(json_put) json_object *json = NULL;
	_cleanup_(buf_deinit) struct buf text;
	int code = ctl_read_file(args, IOTHUB_FILE_STATUS, &text);
	struct bytes all = buf_bytes(&text);

	if (code)
		return code;
	if (args->options & CTL_OPTION_JSON) {
		json = status_to_json(all);
		puts(json_object_to_json_string_ext(json,
						    JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	} else {
		fwrite(all.data, 1, all.len, stdout);
	}
	return status_is_connected(all) ? CTL_DONE : CTL_OFFLINE;
}

const struct ctl_verb ctl_verb_status = {
	.name = "status",
	.what = "print the state of the connection and of the queue",
	.help = "Prints what iothubd says about its connection. Exit code 3: it is not connected.\n"
		"\n"
		"  --json               as an object\n",
	.options = CTL_OPTION_JSON,
	.run = run_status,
};

static int run_events(const struct ctl_args *args)
{
	return ctl_copy_lines(args, IOTHUB_FILE_EVENTS, args->options & CTL_OPTION_FOLLOW);
}

const struct ctl_verb ctl_verb_events = {
	.name = "events",
	.what = "print what happened",
	.help = "Prints the last events, lines of JSON.\n"
		"\n"
		"  --follow             and those to come, until it is interrupted\n",
	.options = CTL_OPTION_FOLLOW,
	.run = run_events,
};
