/* SPDX-License-Identifier: MIT */
#ifndef NET_TLS_KEY_H
#define NET_TLS_KEY_H

/*
 * Private keys by file or URI (inside daemon/net only).
 */

#include <openssl/evp.h>

#include "base/log.h"

/* Loads the private key in the file or at the URI @key, which is the caller's to free, for use with the algorithms of
 * @library; NULL: those of the process. Returns 0, or, with one line logged, the error of opening a file, or -EINVAL. */
int tls_key_load(EVP_PKEY **out, const char *key, OSSL_LIB_CTX *library, struct log *log);

#endif
