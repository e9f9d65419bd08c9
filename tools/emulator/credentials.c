/* SPDX-License-Identifier: MIT */
/*
 * Credentials as JSON: in devices.json, and in what the service side asks for.
 */

#include "credentials.h"

#include <openssl/crypto.h>

#include "base/base64.h"
#include "base/cleanup.h"

static const char *key_read(struct emu_key *key, json_object *value)
{
	if (json_object_is_type(value, json_type_string) &&
	    emu_key_parse(key, json_object_get_string(value)) == 0)
		return NULL;
	return "a key is base64 of 1 to 64 bytes";
}

static const char *thumbprints_read(struct emu_credentials *c, json_object *value)
{
	static const char wrong[] =
		"thumbprints is an array of one or two SHA-256 fingerprints in hexadecimal digits";
	size_t n = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;

	if (n < 1 || n > N_THUMBPRINTS_MAX)
		return wrong;
	for (size_t i = 0; i < n; i++) {
		json_object *item = json_object_array_get_idx(value, i);

		if (!json_object_is_type(item, json_type_string) ||
		    emu_thumbprint_parse(json_object_get_string(item), c->thumbprints[i]) < 0)
			return wrong;
	}
	c->n_thumbprints = n;
	return NULL;
}

static const char *member_read(struct emu_credentials *c, const char *key, json_object *value, bool *is_x509,
			       bool *is_ca)
{
	const char *text = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";

	if (strcmp(key, "authentication") == 0) {
		*is_x509 = strcmp(text, "x509") == 0;
		return *is_x509 || strcmp(text, "sas") == 0 ? NULL : "authentication is sas or x509";
	}
	if (strcmp(key, "primary-key") == 0)
		return key_read(&c->keys[0], value);
	if (strcmp(key, "secondary-key") == 0)
		return key_read(&c->keys[1], value);
	if (strcmp(key, "thumbprints") == 0)
		return thumbprints_read(c, value);
	if (strcmp(key, "ca") == 0) {
		*is_ca = json_object_get_boolean(value);
		return json_object_is_type(value, json_type_boolean) ? NULL : "ca is true or false";
	}
	return "unknown member";
}

const char *emu_credentials_from_json(struct emu_credentials *credentials, json_object *object)
{
	bool is_x509 = false, is_ca = false, has_keys;
	const char *wrong = NULL;

	*credentials = (struct emu_credentials){.authentication = AUTHENTICATION_SAS};
	if (!json_object_is_type(object, json_type_object))
		return "not an object";
	json_object_object_foreach(object, key, value)
	{
		wrong = member_read(credentials, key, value, &is_x509, &is_ca);
		if (wrong)
			return wrong;
	}
	has_keys = credentials->keys[0].len || credentials->keys[1].len;
	if (!is_x509)
		return credentials->n_thumbprints || is_ca ? "thumbprints and ca are for x509" : NULL;
	if (has_keys)
		return "keys are for sas";
	if (is_ca == (credentials->n_thumbprints > 0))
		return "x509 needs either thumbprints or ca";
	credentials->authentication = is_ca ? AUTHENTICATION_CA : AUTHENTICATION_THUMBPRINT;
	return NULL;
}

static void key_add(json_object *object, const char *name, const struct emu_key *key)
{
	char text[BASE64_LEN(KEY_LEN_MAX) + 1];

	base64_encode(emu_key_bytes(key), text);
	json_object_object_add(object, name, json_object_new_string(text));
	OPENSSL_cleanse(text, sizeof(text));
}

static json_object *thumbprint_to_json(const uint8_t thumbprint[static THUMBPRINT_LEN])
{
	char text[2 * THUMBPRINT_LEN + 1];

	for (size_t i = 0; i < THUMBPRINT_LEN; i++)
		snprintf(text + 2 * i, 3, "%02x", thumbprint[i]);
	return json_object_new_string(text);
}

void emu_credentials_to_json(const struct emu_credentials *credentials, json_object *object, bool with_keys)
{
	bool is_sas = credentials->authentication == AUTHENTICATION_SAS;
	json_object *thumbprints;

	json_object_object_add(object, "authentication", json_object_new_string(is_sas ? "sas" : "x509"));
	switch (credentials->authentication) {
	case AUTHENTICATION_SAS:
		if (with_keys) {
			key_add(object, "primary-key", &credentials->keys[0]);
			key_add(object, "secondary-key", &credentials->keys[1]);
		}
		break;
	case AUTHENTICATION_THUMBPRINT:
		thumbprints = json_object_new_array();
		for (size_t i = 0; i < credentials->n_thumbprints; i++)
			json_object_array_add(thumbprints, thumbprint_to_json(credentials->thumbprints[i]));
		json_object_object_add(object, "thumbprints", thumbprints);
		break;
	case AUTHENTICATION_CA:
		json_object_object_add(object, "ca", json_object_new_boolean(true));
		break;
	}
}
