/* SPDX-License-Identifier: MIT */
/*
 * Development CA, see devca.h. The profile of the certificates is RFC 5280's: version 3, random 127-bit
 * serial number, basic constraints and key usage critical, subject and authority key identifiers; server
 * certificates have serverAuth and the subject alternative names, which is all that clients look at.
 *
 * A file is written under a temporary name and renamed, so that a process killed in its first second leaves
 * nothing half.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "net/addrs.h"
#include "net/devca.h"

#define SERIAL_BITS 127

struct devca {
	EVP_PKEY *key;
	X509 *cert;
};

DEFINE_CLEANUP(X509 *, X509_free)
DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)
DEFINE_CLEANUP(BIGNUM *, BN_free)
DEFINE_CLEANUP(GENERAL_NAMES *, GENERAL_NAMES_free)
DEFINE_CLEANUP(GENERAL_NAME *, GENERAL_NAME_free)

/* --- making certificates ---------------------------------------------------------------------- */

static int cert_set_serial(X509 *cert)
{
	_cleanup_(BN_free_ptr) BIGNUM *serial = BN_new();

	if (!serial || !BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY))
		return -ENOMEM;
	return BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) ? 0 : -ENOMEM;
}

static int cert_set_validity(X509 *cert, uint64_t now_ms, int n_days)
{
	time_t now = (time_t)(now_ms / MSEC_PER_SEC);

	if (!X509_time_adj_ex(X509_getm_notBefore(cert), -1, 0, &now) ||
	    !X509_time_adj_ex(X509_getm_notAfter(cert), n_days, 0, &now))
		return -EINVAL;
	return 0;
}

/* Adds the extension @nid with a @value in the notation of x509v3_config(5). */
static int cert_add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok ? 0 : -ENOMEM;
}

/* A certificate for @key with everything but the extensions of its use. @issuer NULL: self-signed. */
static X509 *cert_new(EVP_PKEY *key, const char *name, X509 *issuer, uint64_t now_ms, int n_days)
{
	_cleanup_(X509_free_ptr) X509 *cert = X509_new();
	X509_NAME *subject = cert ? X509_get_subject_name(cert) : NULL;

	if (!cert || !X509_set_version(cert, X509_VERSION_3) || cert_set_serial(cert) ||
	    cert_set_validity(cert, now_ms, n_days) || !X509_set_pubkey(cert, key) ||
	    !X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
					0) ||
	    !X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert)))
		return NULL;
	if (cert_add_ext(cert, issuer ? issuer : cert, NID_subject_key_identifier, "hash") ||
	    cert_add_ext(cert, issuer ? issuer : cert, NID_authority_key_identifier, "keyid:always"))
		return NULL;
	return TAKE_PTR(cert);
}

/* A host name as it may stand in a certificate; a wildcard too. */
static bool name_is_usable(const char *name)
{
	size_t len = strlen(name);

	return addr_is_literal(name) ||
	       (len && len <= 253 &&
		strspn(name, "*-._0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == len);
}

static int general_name_new(GENERAL_NAME **out, const char *name)
{
	_cleanup_(GENERAL_NAME_free_ptr) GENERAL_NAME *general = GENERAL_NAME_new();
	ASN1_STRING *value;

	if (!general)
		return -ENOMEM;
	if (addr_is_literal(name)) {
		value = a2i_IPADDRESS(name);
		if (!value)
			return -ENOMEM;
		GENERAL_NAME_set0_value(general, GEN_IPADD, value);
	} else {
		value = ASN1_IA5STRING_new();
		if (!value || !ASN1_STRING_set(value, name, -1)) {
			ASN1_STRING_free(value);
			return -ENOMEM;
		}
		GENERAL_NAME_set0_value(general, GEN_DNS, value);
	}
	*out = TAKE_PTR(general);
	return 0;
}

static int cert_add_names(X509 *cert, const char *const *names, size_t n_names)
{
	_cleanup_(GENERAL_NAMES_free_ptr) GENERAL_NAMES *list = GENERAL_NAMES_new();

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < n_names; ++i) {
		GENERAL_NAME *name = NULL;
		int r = general_name_new(&name, names[i]);

		if (r)
			return r;
		if (!sk_GENERAL_NAME_push(list, name)) {
			GENERAL_NAME_free(name);
			return -ENOMEM;
		}
	}
	return X509_add1_ext_i2d(cert, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT) ? 0 : -ENOMEM;
}

/* --- files ------------------------------------------------------------------------------------ */

static int file_write(const char *path, mode_t mode, const char *text, size_t len, struct log *log)
{
	_cleanup_(close_fd) int fd = -1;
	char temp[PATH_MAX];
	ssize_t n;
	int r = 0;

	if (snprintf(temp, sizeof(temp), "%s.new", path) >= (int)sizeof(temp))
		return -ENAMETOOLONG;
	/* A left-over of a killed process may have any mode. */
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0) {
		r = -errno;
		log_error(log, "cannot write \"%s\": %s", path, strerror(-r));
		return r;
	}
	n = write(fd, text, len);
	if (n >= 0 && (size_t)n != len)
		r = -ENOSPC;
	else if (n < 0 || fchmod(fd, mode) || rename(temp, path))
		r = -errno;
	if (r) {
		log_error(log, "cannot write \"%s\": %s", path, strerror(-r));
		unlink(temp);
	}
	return r;
}

static int save(EVP_PKEY *key, X509 *cert, const char *cert_file, const char *key_file, struct log *log)
{
	BIO *bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
	char *text, *key_text;
	long len, key_len;
	int r = -ENOMEM;

	if (bio && key_bio && PEM_write_bio_X509(bio, cert) &&
	    PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL)) {
		len = BIO_get_mem_data(bio, &text);
		key_len = BIO_get_mem_data(key_bio, &key_text);
		r = file_write(key_file, 0600, key_text, (size_t)key_len, log);
		/* Last: whoever finds the certificate finds the key too. */
		if (!r)
			r = file_write(cert_file, 0644, text, (size_t)len, log);
	}
	BIO_free(bio);
	BIO_free(key_bio);
	return r;
}

static FILE *file_open(const char *path, struct log *log, int *error)
{
	FILE *file = fopen(path, "re");

	if (!file) {
		*error = -errno;
		if (*error != -ENOENT)
			log_error(log, "cannot read \"%s\": %s", path, strerror(-*error));
	}
	return file;
}

/* --- the CA ----------------------------------------------------------------------------------- */

/* Takes both, unless it fails. */
static int ca_make(struct devca **out, EVP_PKEY **key, X509 **cert)
{
	struct devca *ca = calloc(1, sizeof(*ca));

	if (!ca)
		return -ENOMEM;
	ca->key = TAKE_PTR(*key);
	ca->cert = TAKE_PTR(*cert);
	*out = ca;
	return 0;
}

int devca_new(struct devca **out, const char *name, uint64_t now_ms)
{
	_cleanup_(EVP_PKEY_free_ptr) EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(X509_free_ptr) X509 *cert = NULL;

	cert = key ? cert_new(key, name, NULL, now_ms, DEVCA_CA_DAYS) : NULL;
	if (!cert || cert_add_ext(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
	    cert_add_ext(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
	    !X509_sign(cert, key, EVP_sha256()))
		return -ENOMEM;
	return ca_make(out, &key, &cert);
}

int devca_load(struct devca **out, const char *cert_file, const char *key_file, struct log *log)
{
	_cleanup_(fclose_ptr) FILE *certs = NULL;
	_cleanup_(fclose_ptr) FILE *keys = NULL;
	_cleanup_(EVP_PKEY_free_ptr) EVP_PKEY *key = NULL;
	_cleanup_(X509_free_ptr) X509 *cert = NULL;
	/* Without one the library would ask for it on the terminal. */
	char no_password[] = "";
	int r = 0;

	certs = file_open(cert_file, log, &r);
	keys = r ? NULL : file_open(key_file, log, &r);
	if (r)
		return r;
	cert = PEM_read_X509(certs, NULL, NULL, NULL);
	key = PEM_read_PrivateKey(keys, NULL, NULL, no_password);
	if (!cert || !key || !X509_check_private_key(cert, key)) {
		log_error(log,
			  "\"%s\" and \"%s\" are not a CA's certificate and its key; remove both to make new "
			  "ones",
			  cert_file, key_file);
		return -EINVAL;
	}
	return ca_make(out, &key, &cert);
}

int devca_save(const struct devca *ca, const char *cert_file, const char *key_file, struct log *log)
{
	return save(ca->key, ca->cert, cert_file, key_file, log);
}

void devca_free(struct devca *ca)
{
	if (!ca)
		return;
	EVP_PKEY_free(ca->key);
	X509_free(ca->cert);
	free(ca);
}

int devca_issue_server(const struct devca *ca, const char *const *names, size_t n_names, uint64_t now_ms,
		       const char *cert_file, const char *key_file, struct log *log)
{
	_cleanup_(EVP_PKEY_free_ptr) EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(X509_free_ptr) X509 *cert = NULL;
	char common_name[65];
	int r;

	if (!n_names)
		return -EINVAL;
	for (size_t i = 0; i < n_names; ++i)
		if (!name_is_usable(names[i]))
			return -EINVAL;
	/* 64 bytes is the upper bound of a common name (RFC 5280 appendix A.1); nobody reads it. */
	snprintf(common_name, sizeof(common_name), "%s", names[0]);
	cert = key ? cert_new(key, common_name, ca->cert, now_ms, DEVCA_SERVER_DAYS) : NULL;
	if (!cert)
		return -ENOMEM;
	r = cert_add_names(cert, names, n_names);
	if (r)
		return r;
	if (cert_add_ext(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") ||
	    cert_add_ext(cert, ca->cert, NID_key_usage, "critical,digitalSignature") ||
	    cert_add_ext(cert, ca->cert, NID_ext_key_usage, "serverAuth") ||
	    !X509_sign(cert, ca->key, EVP_sha256()))
		return -ENOMEM;
	return save(key, cert, cert_file, key_file, log);
}
