/* SPDX-License-Identifier: MIT */
/*
 * The configuration, see config.h. The order: defaults, the JSON file, the command line's overrides, hub and
 * device and key (credentials.c), then what depends on the environment for everything still unset.
 */

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "config/jsonfile.h"
#include "config/settings.h"
#include "config/textfile.h"
#include "hub/contract.h"
#include "iothub.h"

/* Permissions of files without a rule: messages go in, the state comes out, and calls are answered. */
static const struct {
	const char *name;
	mode_t mode;
} config_files[CONFIG_N_FILES] = {
	[CONFIG_FILE_TELEMETRY] = {IOTHUB_FILE_TELEMETRY, 0220},
	[CONFIG_FILE_TELEMETRY_RAW] = {IOTHUB_FILE_TELEMETRY_RAW, 0220},
	[CONFIG_FILE_TELEMETRY_FILE] = {IOTHUB_FILE_TELEMETRY_FILE, 0220},
	[CONFIG_FILE_STATUS] = {IOTHUB_FILE_STATUS, 0440},
	[CONFIG_FILE_EVENTS] = {IOTHUB_FILE_EVENTS, 0440},
	[CONFIG_FILE_COMMANDS] = {IOTHUB_DIR_COMMANDS, 0440},
	[CONFIG_FILE_SETTLE] = {IOTHUB_FILE_COMMAND_SETTLE, 0220},
	[CONFIG_FILE_METHODS] = {IOTHUB_DIR_METHODS, 0660},
	[CONFIG_FILE_TWIN] = {IOTHUB_DIR_TWIN, 0440},
	[CONFIG_FILE_REPORTED] = {IOTHUB_DIR_TWIN_REPORTED, 0660},
	[CONFIG_FILE_CHANNELS] = {IOTHUB_DIR_CHANNELS, 0660},
	[CONFIG_FILE_REJECTED] = {IOTHUB_DIR_REJECTED, 0660},
};

const char *config_file_name(enum config_file file)
{
	return config_files[file].name;
}

int config_log_level_parse(const char *text, enum log_level *out)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		if (strcmp(names[i], text) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* An absolute path from the environment and what comes below it; NULL when there is none or it is too long.
 */
static const char *directory_compose(char *out, size_t size, const char *parent, const char *below)
{
	int n;

	if (!parent || parent[0] != '/')
		return NULL;
	n = snprintf(out, size, "%s%s", parent, below);
	return n > 0 && (size_t)n < size ? out : NULL;
}

void config_source_init(struct config_source *out, struct config_source_paths *paths)
{
	*out = (struct config_source){
		.credentials_dir = getenv("CREDENTIALS_DIRECTORY"),
		.uid = geteuid(),
		.gid = getegid(),
	};
	if (out->uid == 0) {
		out->config_dir = IOTHUB_CONFIG_DIR;
		out->runtime_dir = "/run";
		/* systemd's StateDirectory=. */
		out->state_dir = getenv("STATE_DIRECTORY");
		if (!out->state_dir)
			out->state_dir = IOTHUB_STATE_DIR;
		out->run_dir = getenv("RUNTIME_DIRECTORY");
		if (!out->run_dir)
			out->run_dir = IOTHUB_RUN_DIR;
		return;
	}
	out->config_dir = directory_compose(paths->config_dir, sizeof(paths->config_dir),
					    getenv("XDG_CONFIG_HOME"), "/" IOTHUB_CONFIG_DIR_USER);
	if (!out->config_dir)
		out->config_dir = directory_compose(paths->config_dir, sizeof(paths->config_dir),
						    getenv("HOME"), "/.config/" IOTHUB_CONFIG_DIR_USER);
	out->runtime_dir = directory_compose(paths->runtime_dir, sizeof(paths->runtime_dir),
					     getenv("XDG_RUNTIME_DIR"), "");
	out->run_dir = directory_compose(paths->run_dir, sizeof(paths->run_dir), getenv("XDG_RUNTIME_DIR"),
					 "/" IOTHUB_RUN_DIR_USER);
	out->state_dir = directory_compose(paths->state_dir, sizeof(paths->state_dir),
					   getenv("XDG_STATE_HOME"), "/" IOTHUB_STATE_DIR_USER);
	if (!out->state_dir)
		out->state_dir = directory_compose(paths->state_dir, sizeof(paths->state_dir), getenv("HOME"),
						   "/.local/state/" IOTHUB_STATE_DIR_USER);
}

char *settings_path_join(const char *directory, const char *path)
{
	size_t len = strlen(directory);
	char *out = NULL;

	if (path[0] == '/')
		return strdup(path);
	if (asprintf(&out, "%s%s%s", directory, len && directory[len - 1] == '/' ? "" : "/", path) < 0)
		return NULL;
	return out;
}

void settings_init(struct settings *s)
{
	*s = (struct settings){
		.config =
			{
				.uid = SETTINGS_NO_UID,
				.gid = SETTINGS_NO_GID,
				.ack_timeout_s = CONFIG_ACK_TIMEOUT_DEFAULT,
				.keep_alive_s = CONFIG_KEEP_ALIVE_DEFAULT,
				.token_lifetime_s = CONFIG_TOKEN_LIFETIME_DEFAULT,
				.session_expiry_s = CONFIG_SESSION_EXPIRY_DEFAULT,
				.method_wait_s = CONFIG_METHOD_WAIT_DEFAULT,
				.method_timeout_s = CONFIG_METHOD_TIMEOUT_DEFAULT,
				.log_level = LOG_LEVEL_INFO,
			},
	};
	for (size_t i = 0; i < CONFIG_N_FILES; ++i)
		s->config.files[i] = (struct config_access){
			.mode = config_files[i].mode, .uid = SETTINGS_NO_UID, .gid = SETTINGS_NO_GID};
}

void settings_deinit(struct settings *s)
{
	config_deinit(&s->config);
	free(s->connection_string_file);
	free(s->key_file);
	*s = (struct settings){0};
}

void config_deinit(struct config *c)
{
	char *const strings[] = {c->host,        c->gateway_host,  c->device_id,   c->module_id,
				 c->key_name,    c->ca_file,       c->mount,       c->certificate_file,
				 c->private_key, c->identity_path, c->config_path, c->state_dir,
				 c->run_dir};

	hub_key_wipe(&c->key);
	for (size_t i = 0; i < ARRAY_SIZE(strings); ++i)
		free(strings[i]);
	for (size_t i = 0; i < c->n_methods; ++i)
		free(c->methods[i]);
	free(c->methods);
	settings_free_channels(c);
	*c = (struct config){0};
}

/* The JSON file: the one that was named must exist, the default one may be missing. */
static int json_read(struct settings *s, const struct config_source *source, struct log *log)
{
	_cleanup_(free_ptr) char *path = NULL;
	struct textfile file;
	int r;

	if (!source->config_file && !source->config_dir)
		return 0;
	path = source->config_file ? strdup(source->config_file)
				   : settings_path_join(source->config_dir, IOTHUB_CONFIG_FILE);
	if (!path)
		return -ENOMEM;
	r = textfile_read(&file, path, JSONFILE_MAX);
	if (r == -ENOENT && !source->config_file)
		return 0;
	if (r) {
		textfile_log_error(log, "configuration file", path, r);
		return r;
	}
	r = settings_read(s, BYTES(file.data, file.len), path, log);
	textfile_wipe(&file);
	s->config.config_path = TAKE_PTR(path);
	return r;
}

static int path_override(char **to, const char *path)
{
	_cleanup_(free_ptr) char *here = NULL;
	char *joined;

	if (!path)
		return 0;
	here = getcwd(NULL, 0);
	if (!here)
		return -errno;
	joined = settings_path_join(here, path);
	if (!joined)
		return -ENOMEM;
	free(*to);
	*to = joined;
	return 0;
}

static int overrides_apply(struct settings *s, const struct config_source *source, struct log *log)
{
	int r = path_override(&s->config.ca_file, source->ca_file);

	/* Also makes a relative path of the JSON file absolute when the file itself was named by a relative
	 * one. */
	if (r == 0)
		r = path_override(&s->config.mount, source->mount ? source->mount : s->config.mount);
	if (r) {
		log_error(log, "the current directory is not known: %s: use absolute paths", strerror(-r));
		return r;
	}
	if (source->log_level && config_log_level_parse(source->log_level, &s->config.log_level)) {
		log_error(log, "--log-level must be error, warning, info or debug");
		return -EINVAL;
	}
	return 0;
}

static int mount_default(struct config *c, const struct config_source *source, struct log *log)
{
	if (c->mount)
		return 0;
	if (!source->runtime_dir) {
		log_error(
			log,
			"no place for the files: XDG_RUNTIME_DIR is not set: name a directory with --mount");
		return -ENOENT;
	}
	c->mount = settings_path_join(source->runtime_dir, IOTHUB_MOUNT_DIR_USER);
	return c->mount ? 0 : -ENOMEM;
}

/* Where the queue is has to be known: it must not be less safe than was asked for. */
static int storage_default(struct config *c, const struct config_source *source, struct log *log)
{
	bool persistent = c->storage == CONFIG_STORAGE_PERSISTENT;

	if (!c->state_dir && source->state_dir && !(c->state_dir = strdup(source->state_dir)))
		return -ENOMEM;
	if (source->run_dir && !(c->run_dir = strdup(source->run_dir)))
		return -ENOMEM;
	if (!c->queue_bytes)
		c->queue_bytes = persistent ? CONFIG_QUEUE_BYTES_PERSISTENT : CONFIG_QUEUE_BYTES_VOLATILE;
	if (persistent ? c->state_dir : c->run_dir)
		return 0;
	if (persistent)
		log_error(log, "no place for the queue: HOME is not set: name a directory in "
			       "\"state-directory\", or "
			       "set \"storage\" to \"volatile\"");
	else
		log_error(log, "no place for volatile storage: XDG_RUNTIME_DIR is not set: set it, or "
			       "\"storage\" to "
			       "\"persistent\"");
	return -ENOENT;
}

static void access_default(struct config *c, const struct config_source *source)
{
	if (c->uid == SETTINGS_NO_UID)
		c->uid = source->uid;
	if (c->gid == SETTINGS_NO_GID) {
		const struct group *group = getgrnam(IOTHUB_GROUP);

		c->gid = group ? group->gr_gid : source->gid;
	}
	for (size_t i = 0; i < CONFIG_N_FILES; ++i) {
		if (c->files[i].uid == SETTINGS_NO_UID)
			c->files[i].uid = c->uid;
		if (c->files[i].gid == SETTINGS_NO_GID)
			c->files[i].gid = c->gid;
	}
}

static int settings_complete(struct settings *s, const struct config_source *source, struct log *log)
{
	struct config *c = &s->config;
	int r = json_read(s, source, log);

	if (r == 0)
		r = overrides_apply(s, source, log);
	if (r == 0)
		r = settings_find_identity(s, source, log);
	if (r == 0)
		r = mount_default(c, source, log);
	if (r == 0)
		r = storage_default(c, source, log);
	if (r)
		return r;
	access_default(c, source);
	if (c->port == 0)
		c->port = HUB_PORT;
	return hub_client_id_format(c->device_id, c->module_id, c->client_id);
}

int config_load(struct config *out, const struct config_source *source, struct log *log)
{
	struct settings s;
	int r;

	settings_init(&s);
	r = settings_complete(&s, source, log);
	if (r == -ENOMEM)
		log_error(log, "no memory for the configuration");
	if (r == 0) {
		*out = s.config;
		hub_key_wipe(&s.config.key);
		s.config = (struct config){0};
	} else {
		*out = (struct config){0};
	}
	settings_deinit(&s);
	return r;
}
