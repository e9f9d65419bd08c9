/* SPDX-License-Identifier: MIT */
/*
 * Which journal: a directory `journal-CLIENT` below where iothubd keeps what outlives it, or what lasts until the
 * machine stops. Where there is one only, nobody needs to name it.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "config/config.h"
#include "inspect.h"

#define PREFIX "journal-"

DEFINE_CLEANUP(DIR *, closedir)

struct found {
	char *paths[32]; /* owned */
	size_t n;
};

static void found_deinit(struct found *found)
{
	while (found->n)
		free(found->paths[--found->n]);
}

static bool is_directory(const char *path)
{
	_cleanup_(closedir_ptr) DIR *dir = opendir(path);

	/* One that may not be read is told of when it is opened. */
	return dir || errno == EACCES;
}

/* Adds the journals below @parent, as many as there is room for. Returns 0 or -ENOMEM. */
static int add_below(struct found *found, const char *parent)
{
	_cleanup_(closedir_ptr) DIR *dir = parent ? opendir(parent) : NULL;
	struct dirent *entry;

	while (dir && found->n < ARRAY_SIZE(found->paths) && (entry = readdir(dir))) {
		_cleanup_(free_ptr) char *path = NULL;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;
		if (asprintf(&path, "%s/%s", parent, entry->d_name) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		if (is_directory(path))
			found->paths[found->n++] = TAKE_PTR(path);
	}
	return 0;
}

static int say_none(const struct config_source *places)
{
	fprintf(stderr, "iothub-journal: there is no journal in %s",
		places->state_dir ? places->state_dir : "");
	if (places->run_dir)
		fprintf(stderr, "%s%s", places->state_dir ? " or " : "", places->run_dir);
	fputs("; name its directory with --dir\n", stderr);
	return INSPECT_NOT_THERE;
}

static int say_many(const struct found *found)
{
	fputs("iothub-journal: which journal? There is more than one; name it with --dir:\n", stderr);
	for (size_t i = 0; i < found->n; ++i)
		fprintf(stderr, "%s\n", found->paths[i]);
	return INSPECT_WRONG;
}

/* The first journal one level below @parent, owned, or NULL. */
static char *find_deeper(const char *parent)
{
	_cleanup_(found_deinit) struct found found = {.n = 0};
	_cleanup_(closedir_ptr) DIR *dir = opendir(parent);
	struct dirent *entry;

	while (dir && !found.n && (entry = readdir(dir))) {
		_cleanup_(free_ptr) char *path = NULL;

		if (entry->d_name[0] == '.')
			continue;
		if (asprintf(&path, "%s/%s", parent, entry->d_name) < 0) {
			path = NULL;
			break;
		}
		if (add_below(&found, path) < 0)
			break;
	}
	return found.n ? TAKE_PTR(found.paths[0]) : NULL;
}

int inspect_say_no_journal(const struct inspect *inspect)
{
	_cleanup_(free_ptr) char *hint = find_deeper(inspect->dir);

	fprintf(stderr, "iothub-journal: %s is no journal", inspect->dir);
	if (hint)
		fprintf(stderr, " (did you mean %s?)", hint);
	fputc('\n', stderr);
	return INSPECT_NOT_THERE;
}

int inspect_find(struct inspect *inspect)
{
	_cleanup_(free_ptr) struct config_source_paths *room = malloc(sizeof(*room));
	_cleanup_(found_deinit) struct found found = {.n = 0};
	struct config_source places;
	int r;

	if (!room)
		return inspect_no_memory();
	config_source_init(&places, room);
	r = add_below(&found, inspect->dir_option ? inspect->dir_option : places.state_dir);
	if (!r && !inspect->dir_option)
		r = add_below(&found, places.run_dir);
	if (r < 0)
		return inspect_no_memory();
	if (found.n > 1)
		return say_many(&found);
	if (!found.n && !inspect->dir_option)
		return say_none(&places);
	inspect->dir = found.n ? TAKE_PTR(found.paths[0]) : strdup(inspect->dir_option);
	return inspect->dir ? 0 : inspect_no_memory();
}
