/* SPDX-License-Identifier: MIT */
/*
 * The identity registry and its file, devices.json:
 *
 *   {"version": 1,
 *    "policies": {"service": "<base64 key>", "device": "<base64 key>"},
 *    "devices": {"<id>": {"primary-key": "<base64>", "secondary-key": "<base64>"}, …}}
 *
 * A module is an entry `device/module`. Identities are sorted by id, so finding one is a binary search. Both
 * policies always exist: `service` signs for the service side, `device` for any device's connection.
 *
 * The file is replaced as a whole. One that cannot be understood is an error, never overwritten.
 */

#include "registry.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <json-c/json.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "file.h"

#define ID_PART_MAX  128
#define DEFAULT_PORT 8883

enum {
	POLICY_SERVICE,
	POLICY_DEVICE,
	N_POLICIES,
};

struct emu_registry {
	struct log *log;
	char *dir;
	bool changed;
	struct emu_policy policies[N_POLICIES];
	struct emu_identity **identities;
	size_t n_identities;
	size_t size;
};

static inline void json_object_put_ptr(json_object **object)
{
	json_object_put(*object);
}

/* --- ids and keys ----------------------------------------------------------------------------- */

static bool id_part_is_valid(struct bytes part)
{
	static const char others[] = "-:.+%_#*?!(),=@$'";

	if (part.len == 0 || part.len > ID_PART_MAX || bytes_equal_str(part, ".") ||
	    bytes_equal_str(part, ".."))
		return false;
	for (size_t i = 0; i < part.len; i++) {
		uint8_t c = part.data[i];
		bool is_alphanumeric =
			(c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!is_alphanumeric && !memchr(others, c, sizeof(others) - 1))
			return false;
	}
	return true;
}

bool emu_identity_id_is_valid(const char *id)
{
	const char *slash = strchr(id, '/');
	struct bytes device = slash ? BYTES(id, (size_t)(slash - id)) : bytes_from_str(id);

	/* Client ids that begin with service/ are the service side's. */
	if (bytes_equal_str(device, "service"))
		return false;
	return id_part_is_valid(device) && (!slash || id_part_is_valid(bytes_from_str(slash + 1)));
}

static int key_generate(struct emu_key *key)
{
	key->len = KEY_LEN;
	return RAND_bytes(key->data, KEY_LEN) == 1 ? 0 : -EIO;
}

static int key_parse(struct emu_key *key, const char *text)
{
	ssize_t n = text ? base64_decode(bytes_from_str(text), key->data, sizeof(key->data)) : -EINVAL;

	if (n <= 0)
		return -EINVAL;
	key->len = (size_t)n;
	return 0;
}

static void key_format(const struct emu_key *key, char out[static BASE64_LEN(KEY_LEN_MAX) + 1])
{
	base64_encode(emu_key_bytes(key), out);
}

/* --- the sorted array ------------------------------------------------------------------------- */

static int id_compare(struct bytes id, const struct emu_identity *identity)
{
	size_t len = strlen(identity->id);
	int r = memcmp(id.data, identity->id, id.len < len ? id.len : len);

	return r ? r : (id.len > len) - (id.len < len);
}

/* Index of the first identity that is not below @id. */
static size_t lower_bound(const struct emu_registry *r, struct bytes id)
{
	size_t low = 0, high = r->n_identities;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (id_compare(id, r->identities[middle]) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct emu_identity *emu_registry_find(struct emu_registry *r, struct bytes id)
{
	size_t i;

	if (id.len == 0)
		return NULL;
	i = lower_bound(r, id);
	if (i == r->n_identities || id_compare(id, r->identities[i]) != 0)
		return NULL;
	return r->identities[i];
}

static int insert(struct emu_registry *r, struct emu_identity *identity)
{
	size_t i = lower_bound(r, bytes_from_str(identity->id));

	if (r->n_identities == r->size) {
		size_t size = r->size ? r->size * 2 : 16;
		struct emu_identity **grown = reallocarray(r->identities, size, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		r->identities = grown;
		r->size = size;
	}
	memmove(&r->identities[i + 1], &r->identities[i], (r->n_identities - i) * sizeof(r->identities[0]));
	r->identities[i] = identity;
	r->n_identities++;
	return 0;
}

static int add_with_keys(struct emu_registry *r, const char *id, const struct emu_key keys[static 2])
{
	_cleanup_(free_ptr) struct emu_identity *identity = calloc(1, sizeof(*identity));
	int ret;

	if (!identity)
		return -ENOMEM;
	strcpy(identity->id, id);
	identity->device_len = strcspn(id, "/");
	identity->keys[0] = keys[0];
	identity->keys[1] = keys[1];
	emu_session_init(&identity->session);
	ret = insert(r, identity);
	if (ret < 0)
		return ret;
	TAKE_PTR(identity);
	return 0;
}

int emu_registry_add(struct emu_registry *r, const char *id)
{
	struct emu_key keys[2];
	int ret;

	if (!emu_identity_id_is_valid(id))
		return -EINVAL;
	if (emu_registry_find(r, bytes_from_str(id)))
		return 0;
	ret = key_generate(&keys[0]);
	if (ret == 0)
		ret = key_generate(&keys[1]);
	if (ret == 0)
		ret = add_with_keys(r, id, keys);
	if (ret == 0)
		r->changed = true;
	return ret;
}

const struct emu_policy *emu_registry_policy(const struct emu_registry *r, struct bytes name)
{
	for (size_t i = 0; i < N_POLICIES; i++) {
		if (bytes_equal_str(name, r->policies[i].name))
			return &r->policies[i];
	}
	return NULL;
}

size_t emu_registry_n_identities(const struct emu_registry *r)
{
	return r->n_identities;
}

struct emu_identity *emu_registry_identity(const struct emu_registry *r, size_t i)
{
	return r->identities[i];
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
	return key_parse(key, json_object_get_string(value));
}

static int identity_from_json(struct emu_registry *r, const char *id, json_object *object)
{
	struct emu_key keys[2];

	if (!emu_identity_id_is_valid(id) || key_from_json(&keys[0], object, "primary-key") < 0 ||
	    key_from_json(&keys[1], object, "secondary-key") < 0)
		return -EINVAL;
	return add_with_keys(r, id, keys);
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

static int read_file(struct emu_registry *r, const char *path)
{
	_cleanup_(json_object_put_ptr) json_object *root = NULL;
	int ret;

	if (access(path, F_OK) < 0 && errno == ENOENT) {
		r->changed = true;
		ret = key_generate(&r->policies[POLICY_SERVICE].key);
		return ret < 0 ? ret : key_generate(&r->policies[POLICY_DEVICE].key);
	}
	if (access(path, R_OK) < 0) {
		ret = -errno;
		log_error(r->log, "%s: %s", path, strerror(errno));
		return ret;
	}
	root = json_object_from_file(path);
	ret = root ? registry_from_json(r, root) : -EINVAL;
	if (ret < 0)
		log_error(r->log,
			  "%s is not a device registry this version understands; move it away to start anew",
			  path);
	return ret;
}

int emu_registry_load(struct emu_registry **out, const char *dir, struct log *log)
{
	struct emu_registry *r = calloc(1, sizeof(*r));
	char path[PATH_MAX];
	int ret = -ENOMEM;

	if (!r)
		return -ENOMEM;
	r->log = log;
	r->policies[POLICY_SERVICE] = (struct emu_policy){.name = "service", .right = POLICY_SERVICE_CONNECT};
	r->policies[POLICY_DEVICE] = (struct emu_policy){.name = "device", .right = POLICY_DEVICE_CONNECT};
	r->dir = strdup(dir);
	if (r->dir)
		ret = path_format(r, "devices.json", path);
	if (ret == 0)
		ret = read_file(r, path);
	if (ret < 0) {
		emu_registry_free(r);
		return ret;
	}
	*out = r;
	return 0;
}

void emu_registry_free(struct emu_registry *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_identities; i++) {
		emu_session_deinit(&r->identities[i]->session);
		OPENSSL_cleanse(r->identities[i]->keys, sizeof(r->identities[i]->keys));
		free(r->identities[i]);
	}
	OPENSSL_cleanse(r->policies, sizeof(r->policies));
	free(r->identities);
	free(r->dir);
	free(r);
}

static json_object *key_to_json(const struct emu_key *key)
{
	char text[BASE64_LEN(KEY_LEN_MAX) + 1];

	key_format(key, text);
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

		json_object_object_add(device, "primary-key", key_to_json(&identity->keys[0]));
		json_object_object_add(device, "secondary-key", key_to_json(&identity->keys[1]));
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
	int ret = path_format(r, "devices.json", path);

	if (!r->changed || ret < 0)
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
static int connection_string_write(const struct emu_registry *r, const char *path, const char *host,
				   uint16_t port, const char *who, const struct emu_key *key)
{
	char text[1024], base64[BASE64_LEN(KEY_LEN_MAX) + 1], port_item[16] = "";
	int n, ret;

	key_format(key, base64);
	if (port != DEFAULT_PORT)
		snprintf(port_item, sizeof(port_item), ";Port=%u", port);
	n = snprintf(text, sizeof(text), "HostName=%s;%s;SharedAccessKey=%s%s\n", host, who, base64,
		     port_item);
	ret = n < (int)sizeof(text) ? emu_file_replace(path, BYTES(text, (size_t)n), false) : -ENAMETOOLONG;
	if (ret < 0)
		log_error(r->log, "%s: %s", path, strerror(-ret));
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(base64, sizeof(base64));
	return ret;
}

static int identity_write(const struct emu_registry *r, const struct emu_identity *identity, const char *host,
			  uint16_t port)
{
	char path[PATH_MAX], dir[PATH_MAX], who[IDENTITY_ID_MAX + 32];
	int ret = emu_registry_connection_string_path(r, identity, path, sizeof(path));

	if (ret < 0)
		return ret;
	if (*emu_identity_module(identity)) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
		ret = emu_dir_make(dir);
		snprintf(who, sizeof(who), "DeviceId=%.*s;ModuleId=%s", (int)identity->device_len,
			 identity->id, emu_identity_module(identity));
	} else {
		snprintf(who, sizeof(who), "DeviceId=%s", identity->id);
	}
	return ret < 0 ? ret : connection_string_write(r, path, host, port, who, &identity->keys[0]);
}

int emu_registry_write_connection_strings(struct emu_registry *r, const char *host, uint16_t port)
{
	char path[PATH_MAX];
	int ret = path_format(r, "devices", path);

	if (ret == 0)
		ret = emu_dir_make(path);
	for (size_t i = 0; i < r->n_identities && ret == 0; i++)
		ret = identity_write(r, r->identities[i], host, port);
	if (ret == 0)
		ret = path_format(r, "service.connection-string", path);
	if (ret == 0)
		ret = connection_string_write(r, path, host, port, "SharedAccessKeyName=service",
					      &r->policies[POLICY_SERVICE].key);
	return ret;
}
