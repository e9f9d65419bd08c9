/* SPDX-License-Identifier: MIT */
#ifndef RUN_HANDLERS_H
#define RUN_HANDLERS_H

/*
 * The programs of a directory, or the one program that was named.
 */

#include <stddef.h>

#include "base/log.h"

/* Programs of a directory at most; more are an error. */
#define HANDLERS_MAX 256

struct handler {
	char *name; /* in the directory */
	char *path;
};

/* Referenced by whoever uses it, so that a run goes on with the programs it began with. */
struct handlers {
	unsigned int n_refs;
	size_t n;
	struct handler *list; /* by name, in the order of strcmp(3) */
};

/*
 * Looks into the directory @dir for executable regular files, links followed. Names that begin with a dot or end
 * with `~`, and those package managers make (`.dpkg-…`), are passed over in silence; other files that are not
 * executable, and those that everybody may write to or that belong to neither root nor us, are passed over with a line
 * in @log. Returns 0, or a negative errno after a line: -EPERM when the directory is such a one, -E2BIG beyond
 * HANDLERS_MAX.
 */
int handlers_load(struct handlers **out, const char *dir, struct log *log);

/* The one program @word: a path, or without a slash one that $PATH leads to and never one that happens to be here.
 * Returns 0, or a negative errno after a line: -EACCES when handlers_load() would pass it over. */
int handlers_load_program(struct handlers **out, const char *word, struct log *log);

struct handlers *handlers_ref(struct handlers *handlers);
/* NULL is fine. */
void handlers_unref(struct handlers *handlers);

#endif
