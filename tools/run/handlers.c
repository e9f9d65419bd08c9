/* SPDX-License-Identifier: MIT */
/*
 * Which programs there are, see handlers.h. As run-parts(8) does: what an editor or a package manager leaves beside a
 * program is not run, and neither is what just anybody could have put there.
 */

#include "handlers.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

static inline void closedir_ptr(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

DEFINE_CLEANUP(struct handlers *, handlers_unref)

/* --- what is a program ------------------------------------------------------------------------ */

static bool is_name(const char *name)
{
	size_t len = strlen(name);

	return name[0] != '.' && name[len - 1] != '~' && !strstr(name, ".dpkg-");
}

/* Why what others could have put there or changed is not to be trusted, or NULL. */
static const char *distrust(const struct stat *st)
{
	if (st->st_mode & S_IWOTH)
		return "everybody may write to it";
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "it is neither root's nor this user's";
	return NULL;
}

/* 1: it is one; 0: not, after a line; or a negative errno. */
static int look_at(const char *path, struct log *log)
{
	const char *why = NULL;
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		why = "not a file";
	else if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		why = "not executable";
	else
		why = distrust(&st);
	if (why)
		log_warning(log, "%s is not run: %s", path, why);
	return !why;
}

/* --- the list --------------------------------------------------------------------------------- */

static struct handlers *handlers_new(void)
{
	struct handlers *handlers = calloc(1, sizeof(*handlers));

	if (!handlers)
		return NULL;
	handlers->n_refs = 1;
	handlers->list = calloc(HANDLERS_MAX, sizeof(*handlers->list));
	if (!handlers->list) {
		free(handlers);
		return NULL;
	}
	return handlers;
}

struct handlers *handlers_ref(struct handlers *handlers)
{
	handlers->n_refs++;
	return handlers;
}

void handlers_unref(struct handlers *handlers)
{
	if (!handlers || --handlers->n_refs)
		return;
	for (size_t i = 0; i < handlers->n; i++) {
		free(handlers->list[i].name);
		free(handlers->list[i].path);
	}
	free(handlers->list);
	free(handlers);
}

static int handlers_add(struct handlers *handlers, const char *name, const char *path)
{
	struct handler *handler = &handlers->list[handlers->n];

	assert(handlers->n < HANDLERS_MAX);
	*handler = (struct handler){.name = strdup(name), .path = strdup(path)};
	handlers->n++;
	return handler->name && handler->path ? 0 : -ENOMEM;
}

static int by_name(const void *a, const void *b)
{
	const struct handler *left = a, *right = b;

	return strcmp(left->name, right->name);
}

/* --- a directory ------------------------------------------------------------------------------ */

static int look_at_entry(struct handlers *handlers, const char *dir, const char *name, struct log *log)
{
	_cleanup_(free_ptr) char *path = NULL;
	int r;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = look_at(path, log);
	/* It went while we looked. */
	if (r == -ENOENT)
		return 0;
	if (r <= 0)
		return r;
	return handlers->n < HANDLERS_MAX ? handlers_add(handlers, name, path) : -E2BIG;
}

/* Returns 0; or a negative errno, -EPERM with the reason in @why. */
static int look_into(struct handlers *handlers, const char *path, struct log *log, const char **why)
{
	_cleanup_(closedir_ptr) DIR *dir = opendir(path);
	struct dirent *entry;
	struct stat st;
	int r = 0;

	if (!dir || fstat(dirfd(dir), &st) < 0)
		return -errno;
	*why = distrust(&st);
	if (*why)
		return -EPERM;
	errno = 0;
	while (r == 0 && (entry = readdir(dir))) {
		if (is_name(entry->d_name))
			r = look_at_entry(handlers, path, entry->d_name, log);
		errno = 0;
	}
	return r < 0 ? r : -errno;
}

int handlers_load(struct handlers **out, const char *dir, struct log *log)
{
	_cleanup_(handlers_unref_ptr) struct handlers *handlers = handlers_new();
	const char *why = NULL;
	int r = handlers ? look_into(handlers, dir, log, &why) : -ENOMEM;

	if (r < 0) {
		if (r == -E2BIG)
			why = "too many programs";
		log_error(log, "%s: %s", dir, why ? why : strerror(-r));
		return r;
	}
	qsort(handlers->list, handlers->n, sizeof(*handlers->list), by_name);
	*out = TAKE_PTR(handlers);
	return 0;
}

/* --- a program -------------------------------------------------------------------------------- */

/* Path of the program @word in @path, as $PATH; the caller's. NULL: there is none. */
static char *find_in_path(const char *word, const char *path)
{
	while (path && *path) {
		size_t len = strcspn(path, ":");
		char *full;

		if (len > 0) {
			if (asprintf(&full, "%.*s/%s", (int)len, path, word) < 0)
				return NULL;
			if (access(full, X_OK) == 0)
				return full;
			free(full);
		}
		path += len + (path[len] == ':');
	}
	return NULL;
}

int handlers_load_program(struct handlers **out, const char *word, struct log *log)
{
	_cleanup_(handlers_unref_ptr) struct handlers *handlers = handlers_new();
	_cleanup_(free_ptr) char *path = NULL;
	int r;

	path = strchr(word, '/') ? strdup(word) : find_in_path(word, getenv("PATH"));
	if (!path)
		r = -ENOENT;
	else
		r = look_at(path, log);
	if (r == 0)
		return -EACCES;
	if (r > 0)
		r = handlers ? handlers_add(handlers, word, path) : -ENOMEM;
	if (r < 0) {
		log_error(log, "%s: %s", word, strerror(-r));
		return r;
	}
	*out = TAKE_PTR(handlers);
	return 0;
}
