/* SPDX-License-Identifier: MIT */
/*
 * Commands of the hub that are not settled: a list of them, and settling one by its number, whoever handles it.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arguments.h"
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "files.h"
#include "iothub.h"
#include "property.h"

/* --- list ------------------------------------------------------------------------------------- */

static bool is_gone(int r)
{
	return r == -ENOENT || r == -ESTALE;
}

/* Reads one of the files of a command, whose directory is @dir. Returns 0 or a negative errno. */
static int command_read(int dir, const char *command, const char *file, struct buf *text)
{
	_cleanup_(free_ptr) char *path = NULL;
	_cleanup_(close_fd) int fd = -1;

	if (asprintf(&path, "%s/%s", command, file) < 0)
		path = NULL;
	if (!path)
		return -ENOMEM;
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : ctl_read(fd, text);
}

static int payload_add(json_object *command, struct bytes payload)
{
	_cleanup_(free_ptr) char *text = NULL;

	if (utf8_is_valid(payload)) {
		json_object_object_add(
			command, "payload",
			json_object_new_string_len((const char *)payload.data, (int)payload.len));
		return 0;
	}
	text = malloc(BASE64_LEN(payload.len) + 1);
	if (!text)
		return -ENOMEM;
	base64_encode(payload, text);
	json_object_object_add(command, "payload-base64", json_object_new_string(text));
	return 0;
}

/* Everything about a command, as a line of `stream` has it. Returns 0 or a negative errno. */
static int command_to_json(int dir, const char *command, json_object **out)
{
	_cleanup_(json_put) json_object *json = NULL;
	_cleanup_(buf_deinit) struct buf text;
	const char *why;
	int r;

	buf_init(&text, CTL_TEXT_MAX);
	r = command_read(dir, command, IOTHUB_FILE_COMMAND_PROPERTIES, &text);
	if (r)
		return r;
	if (property_read_json(buf_bytes(&text), &json, &why) < 0)
		return -EBADMSG;
	r = command_read(dir, command, IOTHUB_FILE_COMMAND_PAYLOAD, &text);
	if (!r)
		r = payload_add(json, buf_bytes(&text));
	if (!r)
		*out = TAKE_PTR(json);
	return r;
}

static int compare_numbers(const void *a, const void *b)
{
	json_object *const *left = a, *const *right = b;
	json_object *x = json_object_object_get(*left, "sequence-no");
	json_object *y = json_object_object_get(*right, "sequence-no");
	uint64_t m = json_object_get_uint64(x), n = json_object_get_uint64(y);

	return (m > n) - (m < n);
}

/* All commands, by their numbers. What is settled meanwhile is not among them. Returns 0 or a negative errno. */
static int commands_to_json(DIR *dir, json_object *list)
{
	const struct dirent *entry;

	while ((errno = 0, entry = readdir(dir))) {
		json_object *command = NULL;
		uint64_t number;
		int r;

		if (argument_number(entry->d_name, 0, UINT64_MAX, &number) < 0)
			continue;
		r = command_to_json(dirfd(dir), entry->d_name, &command);
		if (r && !is_gone(r))
			return r;
		if (!r)
			json_object_array_add(list, command);
	}
	if (errno)
		return -errno;
	json_object_array_sort(list, compare_numbers);
	return 0;
}

static void commands_print(json_object *list)
{
	static const char *const members[] = {"sequence-no", "enqueued-time", "delivery-count"};

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *command = json_object_array_get_idx(list, i);
		json_object *payload = json_object_object_get(command, "payload");

		for (size_t m = 0; m < ARRAY_SIZE(members); m++)
			printf("%s\t", json_object_get_string(json_object_object_get(command, members[m])));
		/* With what a terminal would obey escaped. */
		puts(payload ? json_object_to_json_string_ext(payload, JSON_C_TO_STRING_NOSLASHESCAPE)
			     : "binary");
	}
}

static int run_list(const struct ctl_args *args)
{
	_cleanup_(json_put) json_object *list = json_object_new_array();
	int fd, r, code = ctl_open(args, IOTHUB_DIR_COMMANDS, O_RDONLY | O_DIRECTORY, &fd);
	DIR *dir = code ? NULL : fdopendir(fd);

	if (code)
		return code;
	if (!dir) {
		close(fd);
		return ctl_say(args, IOTHUB_DIR_COMMANDS, ENOMEM);
	}
	r = list ? commands_to_json(dir, list) : -ENOMEM;
	closedir(dir);
	if (r)
		return ctl_say(args, IOTHUB_DIR_COMMANDS, -r);
	if (args->options & CTL_OPTION_JSON)
		puts(json_object_to_json_string_ext(list,
						    JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		commands_print(list);
	return CTL_DONE;
}

const struct ctl_verb ctl_verb_command_list = {
	.name = "command list",
	.what = "print the commands that are not settled",
	.help = "Prints a line for each command that is here and not settled: its number, when the hub took\n"
		"it, how many times it was delivered, and its payload, with tabs between.\n"
		"\n"
		"  --json               an array of objects, with all there is to know\n",
	.options = CTL_OPTION_JSON,
	.run = run_list,
};

/* --- complete, abandon, reject ---------------------------------------------------------------- */

static int say_settled(const char *number)
{
	fprintf(stderr, "iothubctl: there is no command %s here: it is settled, or its connection is over\n",
		number);
	return CTL_NOT_THERE;
}

static int run_settle(const struct ctl_args *args)
{
	const char *number = args->words[0], *word = strrchr(args->verb->name, ' ') + 1;
	_cleanup_(free_ptr) char *name = NULL;
	_cleanup_(close_fd) int dir = -1;
	_cleanup_(close_fd) int fd = -1;
	uint64_t n;
	int code;

	if (argument_number(number, 0, UINT64_MAX, &n) < 0)
		return ctl_wrong(args->verb, "%s is not the number of a command", number);
	/* That the command is not there is something else than that nothing is. */
	code = ctl_open(args, IOTHUB_DIR_COMMANDS, O_PATH | O_DIRECTORY, &dir);
	if (code)
		return code;
	if (asprintf(&name, "%" PRIu64 "/" IOTHUB_FILE_COMMAND_SETTLE, n) < 0)
		name = NULL;
	if (name)
		fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, word, strlen(word)) >= 0)
		return CTL_DONE;
	return is_gone(-errno) ? say_settled(number) : ctl_say(args, IOTHUB_DIR_COMMANDS, errno);
}

#define SETTLE_VERB(word, does)                                                                              \
	{                                                                                                    \
		.name = "command " word, .words = "N", .what = does,                                         \
		.help = "Settles the command with this number, also when somebody else handles it. Exit "    \
			"code 6: it is\n"                                                                    \
			"not there any more.\n",                                                             \
		.n_words_min = 1, .n_words_max = 1, .run = run_settle,                                       \
	}

const struct ctl_verb ctl_verb_command_complete =
	SETTLE_VERB("complete", "tell the hub that a command is done");
const struct ctl_verb ctl_verb_command_abandon =
	SETTLE_VERB("abandon", "let the hub deliver a command again");
const struct ctl_verb ctl_verb_command_reject =
	SETTLE_VERB("reject", "tell the hub to never deliver a command again");
