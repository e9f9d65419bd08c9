/* SPDX-License-Identifier: MIT */
/*
 * Private keys, see tls_key.h, by OpenSSL's stores: files in any of its formats, and whatever providers add, such as
 * a key that never leaves its token (`pkcs11:`, with a provider named in openssl.cnf). Nobody is there to be asked
 * for a password, so a key that wants one is an error.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/store.h>
#include <openssl/ui.h>

#include "net/tls_key.h"

static int no_password(char *buf, int size, int writing, void *userdata)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)userdata;
	return -1;
}

/* The first private key of the store; NULL when there is none. */
static EVP_PKEY *store_key(OSSL_STORE_CTX *store)
{
	EVP_PKEY *out = NULL;

	OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
	while (!out && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (!info) {
			if (OSSL_STORE_error(store))
				break;
			continue;
		}
		if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			out = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	return out;
}

int tls_key_load(EVP_PKEY **out, const char *key, OSSL_LIB_CTX *library, struct log *log)
{
	UI_METHOD *ui = NULL;
	OSSL_STORE_CTX *store;
	const char *reason;

	if (key[0] == '/' && access(key, R_OK)) {
		int r = -errno;

		log_error(
			log,
			"cannot read the private key \"%s\": %s; set \"private-key-file\" to its file or URI",
			key, strerror(-r));
		return r;
	}
	ERR_clear_error();
	*out = NULL;
	ui = UI_UTIL_wrap_read_pem_callback(no_password, 0);
	store = ui ? OSSL_STORE_open_ex(key, library, NULL, ui, NULL, NULL, NULL, NULL) : NULL;
	if (store) {
		*out = store_key(store);
		OSSL_STORE_close(store);
	}
	UI_destroy_method(ui);
	if (*out)
		return 0;
	reason = ERR_reason_error_string(ERR_peek_error());
	log_error(log,
		  "there is no usable private key in \"%s\": %s; it must not need a password, and a URI "
		  "needs a "
		  "provider for it in openssl.cnf",
		  key, reason ? reason : "none found");
	return -EINVAL;
}
