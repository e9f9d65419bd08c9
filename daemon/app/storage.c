/* SPDX-License-Identifier: MIT */
/*
 * Paths and directories of a device's state, see storage.h.
 *
 * A directory that cannot be made is fatal when the queue would be in it: messages must not be less safe than was
 * asked for. Without its file the twin goes on, a restart just knows less.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "app/storage.h"
#include "base/cleanup.h"
#include "flow/key_name.h"

/* Longest ID: with what stands around it, `.new` behind it included, a file's name. */
#define STORAGE_ID_MAX 232
/* Longest identity of a twin. */
#define STORAGE_IDENTITY_MAX 255

/* FNV-1a. */
static uint64_t hash(const char *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *text; ++text)
		h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
	return h;
}

static void id_compose(const struct config *config, char out[static KEY_NAME_SIZE])
{
	/* No identity has a tilde. */
	if (key_name_encode(config->client_id, out) || strlen(out) > STORAGE_ID_MAX)
		snprintf(out, KEY_NAME_SIZE, "~%016" PRIx64, hash(config->client_id));
}

/* Makes the directory and those above it. Returns 0 or a negative error. */
static int directory_make(const char *path)
{
	_cleanup_(free_ptr) char *partial = strdup(path);
	struct stat st;

	if (!partial)
		return -ENOMEM;
	for (char *slash = partial + 1; (slash = strchr(slash, '/')); ++slash) {
		*slash = '\0';
		/* What is wrong with it shows below. */
		(void)mkdir(partial, 0700);
		*slash = '/';
	}
	if (mkdir(path, 0700) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static char *path_compose(const char *directory, const char *prefix, const char *id, const char *suffix)
{
	char *path;

	return asprintf(&path, "%s/%s-%s%s", directory, prefix, id, suffix) < 0 ? NULL : path;
}

static int queue_directory_make(const struct config *config, const char *path, struct log *log)
{
	int r = directory_make(path);

	if (r && config->storage == CONFIG_STORAGE_PERSISTENT)
		log_error(log,
			  "%s cannot be made: %s: the queue is there: name another directory in "
			  "\"state-directory\"",
			  path, strerror(-r));
	else if (r)
		log_error(log, "%s cannot be made: %s: the queue is there", path, strerror(-r));
	return r;
}

/* NULL, and the reason is logged; or there is no memory, which is one, too. */
static char *twin_path(const struct config *config, const char *id, const char *identity, struct log *log)
{
	int r = config->state_dir ? directory_make(config->state_dir) : 0;

	if (!config->state_dir)
		log_warning(log, "no state directory: the twin is not kept over a restart");
	else if (strlen(identity) > STORAGE_IDENTITY_MAX)
		log_warning(log,
			    "the names of hub and device are too long: the twin is not kept over a restart");
	else if (r)
		log_warning(log, "%s: %s: the twin is not kept over a restart", config->state_dir,
			    strerror(-r));
	else
		return path_compose(config->state_dir, "twin", id, ".json");
	return NULL;
}

int storage_prepare(struct storage *out, const struct config *config, struct log *log)
{
	const char *queue =
		config->storage == CONFIG_STORAGE_PERSISTENT ? config->state_dir : config->run_dir;
	char id[KEY_NAME_SIZE];
	int r = queue_directory_make(config, queue, log);

	*out = (struct storage){0};
	if (r)
		return r;
	id_compose(config, id);
	if (asprintf(&out->identity, "%s/%s", config->host, config->client_id) < 0)
		out->identity = NULL;
	out->journal_dir = path_compose(queue, "journal", id, "");
	out->channels_path =
		path_compose(config->state_dir ? config->state_dir : queue, "channels", id, ".json");
	if (!out->identity || !out->journal_dir || !out->channels_path) {
		storage_deinit(out);
		log_error(log, "no memory for the names of files");
		return -ENOMEM;
	}
	out->twin_path = twin_path(config, id, out->identity, log);
	return 0;
}

void storage_deinit(struct storage *storage)
{
	free(storage->journal_dir);
	free(storage->channels_path);
	free(storage->twin_path);
	free(storage->identity);
	*storage = (struct storage){0};
}
