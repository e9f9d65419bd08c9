/* SPDX-License-Identifier: MIT */
/*
 * The files of the registry. devices.json:
 *
 *   {"version": 1,
 *    "policies": {"service": "<base64 key>", "device": "<base64 key>"},
 *    "devices": {"<id>": {"primary-key": "<base64>", "secondary-key": "<base64>"},
 *                "<id>": {"authentication": "x509", "thumbprints": ["<hex>", …]},
 *                "<id>": {"authentication": "x509", "ca": true}, …}}
 *
 * It is replaced as a whole. One that cannot be understood is an error, never overwritten. Connection strings
 * are written for whoever is to connect, and never read.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <json-c/json.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "credentials.h"
#include "file.h"
#include "registry_internal.h"

#define DEFAULT_PORT 8883

static inline void json_object_put_ptr(json_object **object)
{
	json_object_put(*object);
}

static int policy_generate(struct emu_policy *policy)
{
	policy->key.len = KEY_LEN;
	return RAND_bytes(policy->key.data, KEY_LEN) == 1 ? 0 : -EIO;
}

/* --- devices.json ----------------------------------------------------------------------------- */

static int path_format(const struct emu_registry *r, const char *name, char out[static PATH_MAX])
{
	int n = snprintf(out, PATH_MAX, "%s/%s", r->dir, name);

	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int key_from_json(struct emu_key *key, json_object *object, const char *name)
{
	json_object *value;

	if (!json_object_object_get_ex(object, name, &value) || !json_object_is_type(value, json_type_string))
		return -EINVAL;
	return emu_key_parse(key, json_object_get_string(value));
}

static int identity_from_json(struct emu_registry *r, const char *id, json_object *object)
{
	struct emu_credentials credentials;
	struct emu_identity *identity;

	if (!emu_identity_id_is_valid(id) || emu_credentials_from_json(&credentials, object))
		return -EINVAL;
	if (credentials.authentication == AUTHENTICATION_SAS &&
	    (credentials.keys[0].len == 0 || credentials.keys[1].len == 0))
		return -EINVAL;
	return emu_registry_add_with(r, id, &credentials, &identity);
}

static int registry_from_json(struct emu_registry *r, json_object *root)
{
	json_object *version, *policies, *devices;
	int ret = 0;

	if (!json_object_object_get_ex(root, "version", &version) || json_object_get_int(version) != 1 ||
	    !json_object_object_get_ex(root, "policies", &policies) ||
	    !json_object_object_get_ex(root, "devices", &devices) ||
	    !json_object_is_type(devices, json_type_object))
		return -EINVAL;
	for (size_t i = 0; i < N_POLICIES && ret == 0; i++)
		ret = key_from_json(&r->policies[i].key, policies, r->policies[i].name);
	if (ret < 0)
		return ret;
	json_object_object_foreach(devices, id, device)
	{
		ret = identity_from_json(r, id, device);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int emu_registry_read(struct emu_registry *r)
{
	_cleanup_(json_object_put_ptr) json_object *root = NULL;
	char path[PATH_MAX];
	int ret = r->dir ? path_format(r, "devices.json", path) : 0;

	if (ret < 0)
		return ret;
	if (!r->dir || (access(path, F_OK) < 0 && errno == ENOENT)) {
		r->changed = true;
		ret = policy_generate(&r->policies[POLICY_SERVICE]);
		return ret < 0 ? ret : policy_generate(&r->policies[POLICY_DEVICE]);
	}
	if (access(path, R_OK) < 0) {
		ret = -errno;
		log_error(r->log, "%s: %s", path, strerror(errno));
		return ret;
	}
	root = json_object_from_file(path);
	ret = root ? registry_from_json(r, root) : -EINVAL;
	r->changed = false;
	if (ret < 0)
		log_error(r->log,
			  "%s is not a device registry this version understands; move it away to start anew",
			  path);
	return ret;
}

static json_object *key_to_json(const struct emu_key *key)
{
	char text[BASE64_LEN(KEY_LEN_MAX) + 1];

	base64_encode(emu_key_bytes(key), text);
	return json_object_new_string(text);
}

static json_object *registry_to_json(const struct emu_registry *r)
{
	json_object *root = json_object_new_object();
	json_object *policies = json_object_new_object();
	json_object *devices = json_object_new_object();

	json_object_object_add(root, "version", json_object_new_int(1));
	json_object_object_add(root, "policies", policies);
	json_object_object_add(root, "devices", devices);
	for (size_t i = 0; i < N_POLICIES; i++)
		json_object_object_add(policies, r->policies[i].name, key_to_json(&r->policies[i].key));
	for (size_t i = 0; i < r->n_identities; i++) {
		const struct emu_identity *identity = r->identities[i];
		json_object *device = json_object_new_object();

		emu_credentials_to_json(&identity->credentials, device, true);
		json_object_object_add(devices, identity->id, device);
	}
	return root;
}

int emu_registry_save(struct emu_registry *r)
{
	_cleanup_(json_object_put_ptr) json_object *root = NULL;
	char path[PATH_MAX];
	const char *text;
	size_t len;
	int ret;

	if (!r->changed || !r->dir)
		return 0;
	ret = path_format(r, "devices.json", path);
	if (ret < 0)
		return ret;
	root = registry_to_json(r);
	text = json_object_to_json_string_length(root, JSON_C_TO_STRING_PRETTY, &len);
	ret = text ? emu_file_replace(path, BYTES(text, len), true) : -ENOMEM;
	if (ret < 0)
		log_error(r->log, "%s: %s", path, strerror(-ret));
	else
		r->changed = false;
	return ret;
}

/* --- connection strings ----------------------------------------------------------------------- */

int emu_registry_connection_string_path(const struct emu_registry *r, const struct emu_identity *identity,
					char *out, size_t size)
{
	int n = snprintf(out, size, "%s/devices/%s.connection-string", r->dir, identity->id);

	return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* `HostName=…;<who>;SharedAccessKey=…`, and `;Port=…` unless it is the port everybody assumes. */
static char *connection_string_new(const struct emu_registry *r, const char *who, const struct emu_key *key)
{
	char base64[BASE64_LEN(KEY_LEN_MAX) + 1], port_item[16] = "", *text;
	int n;

	base64_encode(emu_key_bytes(key), base64);
	if (r->port != DEFAULT_PORT)
		snprintf(port_item, sizeof(port_item), ";Port=%u", r->port);
	n = asprintf(&text, "HostName=%s;%s;SharedAccessKey=%s%s", r->host ? r->host : "localhost", who,
		     base64, port_item);
	OPENSSL_cleanse(base64, sizeof(base64));
	return n < 0 ? NULL : text;
}

char *emu_registry_connection_string(const struct emu_registry *r, const struct emu_identity *identity)
{
	char who[IDENTITY_ID_MAX + 32];

	if (identity->credentials.authentication != AUTHENTICATION_SAS)
		return NULL;
	if (*emu_identity_module(identity))
		snprintf(who, sizeof(who), "DeviceId=%.*s;ModuleId=%s", (int)identity->device_len,
			 identity->id, emu_identity_module(identity));
	else
		snprintf(who, sizeof(who), "DeviceId=%s", identity->id);
	return connection_string_new(r, who, &identity->credentials.keys[0]);
}

static int text_write(const struct emu_registry *r, const char *path, char *text_take)
{
	_cleanup_(free_ptr) char *text = text_take, *line = NULL;
	int n = text ? asprintf(&line, "%s\n", text) : -1, ret = -ENOMEM;

	if (n >= 0)
		ret = emu_file_replace(path, BYTES(line, (size_t)n), false);
	else
		line = NULL;
	if (ret < 0)
		log_error(r->log, "%s: %s", path, strerror(-ret));
	if (line)
		OPENSSL_cleanse(line, (size_t)n);
	if (text)
		OPENSSL_cleanse(text, strlen(text));
	return ret;
}

int emu_registry_write_connection_string(const struct emu_registry *r, const struct emu_identity *identity)
{
	char path[PATH_MAX], dir[PATH_MAX];
	int ret;

	if (!r->dir || identity->credentials.authentication != AUTHENTICATION_SAS)
		return 0;
	ret = emu_registry_connection_string_path(r, identity, path, sizeof(path));
	if (ret < 0)
		return ret;
	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	ret = emu_dir_make(dir);
	return ret < 0 ? ret : text_write(r, path, emu_registry_connection_string(r, identity));
}

void emu_registry_remove_connection_string(const struct emu_registry *r, const struct emu_identity *identity)
{
	char path[PATH_MAX];

	if (r->dir && emu_registry_connection_string_path(r, identity, path, sizeof(path)) == 0)
		unlink(path);
}

int emu_registry_write_connection_strings(struct emu_registry *r, const char *host, uint16_t port)
{
	char path[PATH_MAX];
	int ret = path_format(r, "devices", path);

	free(r->host);
	r->host = strdup(host);
	r->port = port;
	if (ret == 0)
		ret = emu_dir_make(path);
	for (size_t i = 0; i < r->n_identities && ret == 0; i++)
		ret = emu_registry_write_connection_string(r, r->identities[i]);
	if (ret == 0)
		ret = path_format(r, "service.connection-string", path);
	if (ret == 0)
		ret = text_write(r, path,
				 connection_string_new(r, "SharedAccessKeyName=service",
						       &r->policies[POLICY_SERVICE].key));
	return ret;
}
