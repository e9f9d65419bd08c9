/* SPDX-License-Identifier: MIT */
/*
 * Which hub, which device, which key. Looked for in this order; the first that is there decides:
 *
 *  1. --connection-string-file (the JSON file's fields about hub and device then do not count),
 *  2. connection-string-file in the JSON file,
 *  3. host and device-id in the JSON file, with the key from shared-access-key-file or the credential
 *     shared-access-key, or without a key when authentication is x509 or none,
 *  4. the credential connection-string (a file of that name in $CREDENTIALS_DIRECTORY),
 *  5. the file connection-string in the configuration directory.
 *
 * A certificate and its key are named in the JSON file only, also for a connection string with x509=true.
 *
 * Text with a key in it lives in a struct textfile only, which is wiped, and then decoded in the struct
 * config.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "config/connstr.h"
#include "config/settings.h"
#include "config/textfile.h"
#include "iothub.h"

#define CREDENTIAL_CONNECTION_STRING "connection-string"
#define CREDENTIAL_KEY               "shared-access-key"

static int string_replace(char **to, struct bytes text)
{
	char *copy = NULL;

	if (text.data) {
		copy = strndup((const char *)text.data, text.len);
		if (!copy)
			return -ENOMEM;
	}
	free(*to);
	*to = copy;
	return 0;
}

static bool path_is_below(const char *path, const char *directory)
{
	size_t len = directory ? strlen(directory) : 0;

	return len && strncmp(path, directory, len) == 0 && (path[len] == '/' || directory[len - 1] == '/');
}

/* Reads a secret and says so when its file is open to others; systemd's credentials are guarded by their
 * directory. */
static int secret_read(struct textfile *out, const char *path, const char *what, size_t max_bytes,
		       const struct config_source *source, struct log *log)
{
	bool is_credential = path_is_below(path, source->credentials_dir);
	int r = textfile_read(out, path, max_bytes);

	if (r) {
		textfile_log_error(log, what, path, r);
		return r;
	}
	if (S_ISREG(out->mode) && (out->mode & 077) && !is_credential)
		log_warning(log, "%s %s is a secret open to other users (mode %04o): chmod 600 it", what,
			    path, (unsigned int)(out->mode & 0777));
	return 0;
}

static int key_decode(struct config *c, struct bytes text, const char *path, const char *what,
		      struct log *log)
{
	int r = hub_key_decode(text, &c->key);

	if (r == -ENOSPC)
		log_error(log, "%s: %s is longer than any key: check that it is the right one", path, what);
	else if (r)
		log_error(log, "%s: %s is not base64: copy it again, whole and without quotes", path, what);
	return r ? -EINVAL : 0;
}

/* Whether the certificate and its key are named; @who needs them. */
static int x509_check(struct settings *s, const char *who, struct log *log)
{
	const struct config *c = &s->config;
	const char *missing = !c->certificate_file ? "certificate-file"
			      : !c->private_key    ? "private-key-file"
						   : NULL;

	if (!missing)
		return string_replace(&s->config.identity_path, bytes_from_str(c->certificate_file));
	log_error(log, "%s: field \"%s\" is missing: %s needs it",
		  c->config_path ? c->config_path : IOTHUB_CONFIG_FILE, missing, who);
	return -EINVAL;
}

static int connstr_apply(struct config *c, const struct connstr *cs, const char *path, struct log *log)
{
	int r = string_replace(&c->host, cs->fields[CONNSTR_HOST]);

	if (r == 0)
		r = string_replace(&c->device_id, cs->fields[CONNSTR_DEVICE]);
	if (r == 0)
		r = string_replace(&c->module_id, cs->fields[CONNSTR_MODULE]);
	if (r == 0)
		r = string_replace(&c->key_name, cs->fields[CONNSTR_KEY_NAME]);
	/* Where the hub is reached is local knowledge: the JSON file's stays unless the string has its own.
	 */
	if (r == 0 && cs->fields[CONNSTR_GATEWAY_HOST].data)
		r = string_replace(&c->gateway_host, cs->fields[CONNSTR_GATEWAY_HOST]);
	if (cs->port)
		c->port = cs->port;
	return r || cs->x509
		       ? r
		       : key_decode(c, cs->fields[CONNSTR_KEY], path, connstr_field_name(CONNSTR_KEY), log);
}

static int connection_string_read(struct settings *s, const char *path, const struct config_source *source,
				  struct log *log)
{
	char error[CONNSTR_ERROR_SIZE];
	struct textfile file;
	struct connstr cs;
	int r = secret_read(&file, path, "connection string file", CONNSTR_MAX, source, log);

	if (r)
		return r;
	r = connstr_parse(textfile_trimmed(&file), &cs, error);
	if (r)
		log_error(log, "%s: connection string: %s", path, error);
	else
		r = connstr_apply(&s->config, &cs, path, log);
	textfile_wipe(&file);
	if (r)
		return r;
	if (cs.x509) {
		s->config.authentication = CONFIG_AUTHENTICATION_X509;
		return x509_check(s, "a connection string with x509=true", log);
	}
	if (s->config.authentication == CONFIG_AUTHENTICATION_X509) {
		log_error(log,
			  "%s: connection string: it has a key, and \"authentication\" is \"x509\": keep one",
			  path);
		return -EINVAL;
	}
	return string_replace(&s->config.identity_path, bytes_from_str(path));
}

static int key_file_read(struct settings *s, const char *path, const struct config_source *source,
			 struct log *log)
{
	struct textfile file;
	int r = secret_read(&file, path, "key file", CONNSTR_MAX, source, log);

	if (r)
		return r;
	r = key_decode(&s->config, textfile_trimmed(&file), path, "the key", log);
	textfile_wipe(&file);
	if (r == 0)
		r = string_replace(&s->config.identity_path, bytes_from_str(path));
	return r;
}

/* The path of @name in @directory when a file is there; NULL when not or without memory. */
static char *path_if_exists(const char *directory, const char *name)
{
	char *path = directory ? settings_path_join(directory, name) : NULL;

	if (path && access(path, F_OK)) {
		free(path);
		path = NULL;
	}
	return path;
}

/* Name of a JSON field about the device that is set, or NULL. */
static const char *device_field(const struct settings *s)
{
	const struct {
		const char *name;
		const char *value;
	} fields[] = {
		{"host", s->config.host},
		{"device-id", s->config.device_id},
		{"module-id", s->config.module_id},
		{"shared-access-key-file", s->key_file},
		{"shared-access-key-name", s->config.key_name},
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); ++i)
		if (fields[i].value)
			return fields[i].name;
	return NULL;
}

/* A key nobody asks for would be a secret that protects nothing: whoever configured one meant another thing. */
static int check_no_key(const struct settings *s, struct log *log)
{
	bool none = s->config.authentication == CONFIG_AUTHENTICATION_NONE;
	const char *field = none && s->connection_string_file ? "connection-string-file"
			    : s->key_file                     ? "shared-access-key-file"
			    : s->config.key_name              ? "shared-access-key-name"
							      : NULL;

	if (!field)
		return 0;
	log_error(log, "%s: field \"%s\" brings a key and \"authentication\" is \"%s\": keep one",
		  s->config.config_path, field, none ? "none" : "x509");
	return -EINVAL;
}

/* The same for a certificate. */
static int check_no_certificate(const struct settings *s, struct log *log)
{
	const struct config *c = &s->config;

	if (c->authentication == CONFIG_AUTHENTICATION_X509 || !(c->certificate_file || c->private_key))
		return 0;
	log_error(log, "%s: field \"%s\" needs \"authentication\": \"x509\"", c->config_path,
		  c->certificate_file ? "certificate-file" : "private-key-file");
	return -EINVAL;
}

static int identity_from_fields(struct settings *s, const struct config_source *source, struct log *log)
{
	_cleanup_(free_ptr) char *credential = NULL;
	struct config *c = &s->config;

	if (!c->host || !c->device_id) {
		log_error(log, "%s: field \"%s\" is missing: \"%s\" needs it", c->config_path,
			  c->host ? "device-id" : "host",
			  device_field(s) ? device_field(s) : "authentication");
		return -EINVAL;
	}
	if (c->authentication == CONFIG_AUTHENTICATION_NONE)
		return 0;
	if (c->authentication == CONFIG_AUTHENTICATION_X509)
		return x509_check(s, "\"authentication\": \"x509\"", log);
	if (s->key_file)
		return key_file_read(s, s->key_file, source, log);
	credential = path_if_exists(source->credentials_dir, CREDENTIAL_KEY);
	if (credential)
		return key_file_read(s, credential, source, log);
	log_error(log,
		  "%s: field \"shared-access-key-file\" is missing: name the file with the key of device %s",
		  c->config_path, c->device_id);
	return -EINVAL;
}

static int identity_from_default(struct settings *s, const struct config_source *source, struct log *log)
{
	_cleanup_(free_ptr) char *path =
		path_if_exists(source->credentials_dir, CREDENTIAL_CONNECTION_STRING);

	if (!path)
		path = path_if_exists(source->config_dir, IOTHUB_CONNECTION_STRING_FILE);
	if (path)
		return connection_string_read(s, path, source, log);
	log_error(log,
		  "no hub to connect to: put the device's connection string into "
		  "%s/" IOTHUB_CONNECTION_STRING_FILE " or name its file with --connection-string-file",
		  source->config_dir ? source->config_dir : IOTHUB_CONFIG_DIR);
	return -ENOENT;
}

static void identity_forget(struct settings *s)
{
	char **const strings[] = {&s->config.host,           &s->config.gateway_host, &s->config.device_id,
				  &s->config.module_id,      &s->config.key_name,     &s->key_file,
				  &s->connection_string_file};

	for (size_t i = 0; i < ARRAY_SIZE(strings); ++i) {
		free(*strings[i]);
		*strings[i] = NULL;
	}
	s->config.port = 0;
	s->config.authentication = CONFIG_AUTHENTICATION_SAS;
}

/* What the JSON file says. */
static int identity_from_json(struct settings *s, const struct config_source *source, struct log *log)
{
	enum config_authentication authentication = s->config.authentication;
	int r = authentication == CONFIG_AUTHENTICATION_SAS ? 0 : check_no_key(s, log);

	if (r)
		return r;
	if (authentication == CONFIG_AUTHENTICATION_NONE)
		return identity_from_fields(s, source, log);
	if (s->connection_string_file && device_field(s)) {
		log_error(log, "%s: fields \"connection-string-file\" and \"%s\" are both there: keep one",
			  s->config.config_path, device_field(s));
		return -EINVAL;
	}
	if (s->connection_string_file)
		return connection_string_read(s, s->connection_string_file, source, log);
	if (device_field(s))
		return identity_from_fields(s, source, log);
	return identity_from_default(s, source, log);
}

int settings_find_identity(struct settings *s, const struct config_source *source, struct log *log)
{
	int r;

	if (source->connection_string_file) {
		identity_forget(s);
		return connection_string_read(s, source->connection_string_file, source, log);
	}
	r = identity_from_json(s, source, log);
	return r ? r : check_no_certificate(s, log);
}
