/* SPDX-License-Identifier: MIT */
/*
 * Shared access signatures, see sas.h. The only file of this layer that calls a library: OpenSSL's one-shot
 * HMAC, so no context holds a copy of the key afterwards. What is signed is composed on the stack of
 * hub_sas_sign(); it has no secret in it.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

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

int hub_sas_sign(const struct hub_key *key, const struct hub_sas_fields *fields,
		 uint8_t out[static HUB_SIGNATURE_BYTES])
{
	uint8_t text[SIGNED_BYTES_MAX];
	struct writer w = writer_init(text, sizeof(text));
	unsigned int n = HUB_SIGNATURE_BYTES;

	signed_line_put(&w, fields->host);
	signed_line_put(&w, fields->client_id);
	signed_line_put(&w, fields->policy);
	signed_line_put(&w, fields->at);
	signed_line_put(&w, fields->expiry);
	if (w.error)
		return w.error;
	if (!HMAC(EVP_sha256(), key->data, (int)key->len, text, writer_len(&w), out, &n))
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
