/* SPDX-License-Identifier: MIT */
/*
 * The identity registry in memory. A module is an entry `device/module`. Identities are sorted by id, so finding
 * one is a binary search. Both policies always exist: `service` signs for the service side, `device` for any
 * device's connection. Files are registry_file.c's.
 */

#include "registry_internal.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/base64.h"

#define ID_PART_MAX 128

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

int emu_credentials_complete(struct emu_credentials *credentials)
{
	int ret = 0;

	for (size_t i = 0; i < 2 && ret == 0; i++) {
		if (credentials->keys[i].len == 0)
			ret = key_generate(&credentials->keys[i]);
	}
	return ret;
}

int emu_key_parse(struct emu_key *key, const char *text)
{
	ssize_t n = text ? base64_decode(bytes_from_str(text), key->data, sizeof(key->data)) : -EINVAL;

	if (n <= 0)
		return -EINVAL;
	key->len = (size_t)n;
	return 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int emu_thumbprint_parse(const char *text, uint8_t out[static THUMBPRINT_LEN])
{
	size_t n = 0;

	for (; *text && n < THUMBPRINT_LEN; n++) {
		int high, low;

		if (n > 0 && *text == ':')
			text++;
		high = hex_value(text[0]);
		low = high < 0 ? -1 : hex_value(text[1]);
		if (low < 0)
			return -EINVAL;
		out[n] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return n == THUMBPRINT_LEN && !*text ? 0 : -EINVAL;
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

void emu_identity_reset(struct emu_identity *identity)
{
	emu_session_deinit(&identity->session);
	emu_session_init(&identity->session);
	emu_twin_deinit(&identity->twin);
	emu_twin_init(&identity->twin);
	emu_commands_deinit(&identity->commands);
}

static void identity_free(struct emu_identity *identity)
{
	emu_identity_reset(identity);
	OPENSSL_cleanse(&identity->credentials, sizeof(identity->credentials));
	free(identity);
}

int emu_registry_add_with(struct emu_registry *r, const char *id, const struct emu_credentials *credentials,
			  struct emu_identity **out)
{
	struct emu_identity *identity = calloc(1, sizeof(*identity));
	int ret;

	if (!identity)
		return -ENOMEM;
	strcpy(identity->id, id);
	identity->device_len = strcspn(id, "/");
	identity->credentials = *credentials;
	emu_session_init(&identity->session);
	emu_twin_init(&identity->twin);
	emu_commands_init(&identity->commands);
	ret = insert(r, identity);
	if (ret < 0) {
		identity_free(identity);
		return ret;
	}
	r->changed = true;
	*out = identity;
	return 0;
}

int emu_registry_add(struct emu_registry *r, const char *id)
{
	struct emu_credentials credentials = {.authentication = AUTHENTICATION_SAS};
	struct emu_identity *identity;
	int ret;

	if (!emu_identity_id_is_valid(id))
		return -EINVAL;
	if (emu_registry_find(r, bytes_from_str(id)))
		return 0;
	ret = emu_credentials_complete(&credentials);
	return ret < 0 ? ret : emu_registry_add_with(r, id, &credentials, &identity);
}

void emu_registry_set_credentials(struct emu_registry *r, struct emu_identity *identity,
				  const struct emu_credentials *credentials)
{
	identity->credentials = *credentials;
	r->changed = true;
}

void emu_registry_remove(struct emu_registry *r, struct emu_identity *identity)
{
	size_t i = lower_bound(r, bytes_from_str(identity->id));

	r->n_identities--;
	memmove(&r->identities[i], &r->identities[i + 1], (r->n_identities - i) * sizeof(r->identities[0]));
	identity_free(identity);
	r->changed = true;
}

size_t emu_registry_after(const struct emu_registry *r, struct bytes id)
{
	size_t i = id.len ? lower_bound(r, id) : 0;

	return i < r->n_identities && id.len && id_compare(id, r->identities[i]) == 0 ? i + 1 : i;
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

/* --- life ------------------------------------------------------------------------------------- */

int emu_registry_load(struct emu_registry **out, const char *dir, struct log *log)
{
	struct emu_registry *r = calloc(1, sizeof(*r));
	int ret = -ENOMEM;

	if (!r)
		return -ENOMEM;
	r->log = log;
	r->policies[POLICY_SERVICE] = (struct emu_policy){.name = "service", .right = POLICY_SERVICE_CONNECT};
	r->policies[POLICY_DEVICE] = (struct emu_policy){.name = "device", .right = POLICY_DEVICE_CONNECT};
	r->dir = dir ? strdup(dir) : NULL;
	if (!dir || r->dir)
		ret = emu_registry_read(r);
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
	for (size_t i = 0; i < r->n_identities; i++)
		identity_free(r->identities[i]);
	OPENSSL_cleanse(r->policies, sizeof(r->policies));
	free(r->identities);
	free(r->dir);
	free(r->host);
	free(r);
}
