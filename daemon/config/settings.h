/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

/*
 * A configuration while it is put together (inside daemon/config only): what the JSON file says, before
 * defaults, overrides and the key.
 */

#include "config/config.h"

/* Values of mode, uid and gid that were not set; no file has them. */
#define SETTINGS_NO_MODE ((mode_t)-1)
#define SETTINGS_NO_UID  ((uid_t)-1)
#define SETTINGS_NO_GID  ((gid_t)-1)

struct settings {
	struct config config; /* port and queue_bytes 0, and the values above, where nothing was set */
	char *connection_string_file; /* NULL = not set */
	char *key_file;               /* NULL = not set */
};

/* Defaults of everything that does not depend on the environment. */
void settings_init(struct settings *s);
/* Idempotent. */
void settings_deinit(struct settings *s);

/* Frees the channels of @c (channels.c). Idempotent. */
void settings_free_channels(struct config *c);

/*
 * Adds what the JSON text says; relative paths in it start at the directory of @path. Returns 0, -EINVAL
 * after logging one line, or -ENOMEM.
 */
int settings_read(struct settings *s, struct bytes text, const char *path, struct log *log);

/*
 * Fills in hub, device and key: from the connection string, or from the JSON file's fields and a key file
 * (credentials.c). Returns as config_load().
 */
int settings_find_identity(struct settings *s, const struct config_source *source, struct log *log);

/* @path itself when it is absolute, else joined to @directory; NULL without memory. Owned by the caller. */
char *settings_path_join(const char *directory, const char *path);

#endif
