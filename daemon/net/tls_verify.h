/* SPDX-License-Identifier: MIT */
#ifndef NET_TLS_VERIFY_H
#define NET_TLS_VERIFY_H

/*
 * Why a certificate was not accepted, as one line for people.
 */

#include <stddef.h>

#include <openssl/x509_vfy.h>

/*
 * Describes the error @store is at. @host is what was connected to, @ca_file the file with the trusted
 * certificates or NULL for the system's store.
 */
void tls_verify_describe(X509_STORE_CTX *store, const char *host, const char *ca_file, char *out,
			 size_t size);

#endif
