/* SPDX-License-Identifier: MIT */
/*
 * Shared access signatures, see sas.h. The only file of this layer that calls OpenSSL: its one-shot HMAC, so no context
 * holds a copy of the key afterwards. What is signed is composed on the stack of hub_sas_sign(); it has no secret in it.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/base64.h"
#include "base/cursor.h"
#include "hub/identity.h"
#include "hub/sas.h"

/* host name, client id, policy, two times and five newlines. */
#define SIGNED_BYTES_MAX (255 + HUB_CLIENT_ID_SIZE + 256 + 2 * 32 + 5)

_Static_assert(HUB_KEY_TEXT_MAX == BASE64_LEN(HUB_KEY_BYTES_MAX), "the longest text of the longest key");

int hub_key_decode(struct bytes text, struct hub_key *out)
{
	ssize_t n;

	hub_key_wipe(out);
	if (text.len == 0)
		return -EINVAL;
	n = base64_decode(text, out->data, sizeof(out->data));
	if (n <= 0) {
		hub_key_wipe(out);
		return n < 0 ? (int)n : -EINVAL;
	}
	out->len = (size_t)n;
	return 0;
}

void hub_key_wipe(struct hub_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

static void signed_line_put(struct writer *w, struct bytes text)
{
	writer_bytes_put(w, text);
	writer_u8(w, '\n');
}

/* @library: whose algorithms; NULL: those of the process. */
static bool hmac_sha256(OSSL_LIB_CTX *library, const struct hub_key *key, const uint8_t *text, size_t len,
			uint8_t out[static HUB_SIGNATURE_BYTES])
{
	size_t n = 0;

	return EVP_Q_mac(library, "HMAC", NULL, "SHA256", NULL, key->data, key->len, text, len, out,
			 HUB_SIGNATURE_BYTES, &n) &&
	       n == HUB_SIGNATURE_BYTES;
}

/* An algorithm for which there was no memory once is never found again by the same library. */
static bool hmac_sha256_anew(const struct hub_key *key, const uint8_t *text, size_t len,
			     uint8_t out[static HUB_SIGNATURE_BYTES])
{
	OSSL_LIB_CTX *library = OSSL_LIB_CTX_new();
	bool is_done = library && hmac_sha256(library, key, text, len, out);

	OSSL_LIB_CTX_free(library);
	return is_done;
}

int hub_sas_sign(const struct hub_key *key, const struct hub_sas_fields *fields,
		 uint8_t out[static HUB_SIGNATURE_BYTES])
{
	uint8_t text[SIGNED_BYTES_MAX];
	struct writer w = writer_init(text, sizeof(text));

	signed_line_put(&w, fields->host);
	signed_line_put(&w, fields->client_id);
	signed_line_put(&w, fields->policy);
	signed_line_put(&w, fields->at);
	signed_line_put(&w, fields->expiry);
	if (w.error)
		return w.error;
	if (!hmac_sha256(NULL, key, text, writer_len(&w), out) &&
	    !hmac_sha256_anew(key, text, writer_len(&w), out))
		return -ENOMEM;
	return 0;
}

int hub_sas_make(struct hub_sas *out, const struct hub_key *key, const char *host, const char *client_id,
		 const char *policy, uint64_t now_ms, uint64_t lifetime_ms)
{
	struct hub_sas_fields fields;

	out->expiry_ms = lifetime_ms > UINT64_MAX - now_ms ? UINT64_MAX : now_ms + lifetime_ms;
	snprintf(out->at, sizeof(out->at), "%" PRIu64, now_ms);
	snprintf(out->expiry, sizeof(out->expiry), "%" PRIu64, out->expiry_ms);
	fields = (struct hub_sas_fields){
		.host = bytes_from_str(host),
		.client_id = bytes_from_str(client_id),
		.policy = bytes_from_str(policy),
		.at = bytes_from_str(out->at),
		.expiry = bytes_from_str(out->expiry),
	};
	return hub_sas_sign(key, &fields, out->signature);
}
