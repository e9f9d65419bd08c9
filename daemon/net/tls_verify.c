/* SPDX-License-Identifier: MIT */
/*
 * Texts of certificate errors, see tls_verify.h. The names and dates in them come from a certificate nobody
 * vouches for: they are cut and reduced to printable ASCII.
 */

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "net/tls_verify.h"

/* Names of the certificate that a text lists. */
#define N_NAMES_SHOWN 4

#define NAMES_SIZE    256
#define DATE_SIZE     32

/* Appends "name" or ", name" if it fits. */
static void names_append(char out[static NAMES_SIZE], const unsigned char *name, int len)
{
	size_t used = strlen(out);

	if (len <= 0 || used + (size_t)len + 3 > NAMES_SIZE)
		return;
	if (used) {
		memcpy(out + used, ", ", 2);
		used += 2;
	}
	for (int i = 0; i < len; ++i)
		out[used++] = (char)(name[i] > 0x20 && name[i] < 0x7f ? name[i] : '?');
	out[used] = '\0';
}

static void names_append_ip(char out[static NAMES_SIZE], const ASN1_OCTET_STRING *ip)
{
	int family = ASN1_STRING_length(ip) == 4 ? AF_INET : AF_INET6;
	char text[INET6_ADDRSTRLEN];

	if (ASN1_STRING_length(ip) != 4 && ASN1_STRING_length(ip) != 16)
		return;
	if (inet_ntop(family, ASN1_STRING_get0_data(ip), text, sizeof(text)))
		names_append(out, (const unsigned char *)text, (int)strlen(text));
}

/* The names @cert is valid for. */
static void names_of(X509 *cert, char out[static NAMES_SIZE])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int n = names ? sk_GENERAL_NAME_num(names) : 0;

	out[0] = '\0';
	for (int i = 0; i < n && i < N_NAMES_SHOWN; ++i) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			names_append(out, ASN1_STRING_get0_data(name->d.dNSName),
				     ASN1_STRING_length(name->d.dNSName));
		else if (name->type == GEN_IPADD)
			names_append_ip(out, name->d.iPAddress);
	}
	if (n > N_NAMES_SHOWN)
		names_append(out, (const unsigned char *)"...", 3);
	if (!out[0])
		snprintf(out, NAMES_SIZE, "no host name");
	GENERAL_NAMES_free(names);
}

static void date_of(const ASN1_TIME *time, char out[static DATE_SIZE])
{
	struct tm tm;

	if (!time || !ASN1_TIME_to_tm(time, &tm) || !strftime(out, DATE_SIZE, "%Y-%m-%d %H:%M UTC", &tm))
		snprintf(out, DATE_SIZE, "an unreadable date");
}

/* `certificate of hub.local` for the hub's own, `certificate of the CA "name" of hub.local` for one above it.
 */
static void subject_of(X509_STORE_CTX *store, const char *host, char *out, size_t size)
{
	X509 *cert = X509_STORE_CTX_get_current_cert(store);
	char raw[128] = "", name[NAMES_SIZE] = "";

	if (cert && X509_STORE_CTX_get_error_depth(store) > 0) {
		int n = X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, raw,
						  sizeof(raw));

		names_append(name, (const unsigned char *)raw, n);
		snprintf(out, size, "certificate of the CA \"%s\" of %s", name, host);
	} else {
		snprintf(out, size, "certificate of %s", host);
	}
}

static void describe_untrusted(X509_STORE_CTX *store, const char *host, const char *ca_file, char *out,
			       size_t size)
{
	const char *why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(store));

	if (ca_file)
		snprintf(out, size,
			 "certificate of %s is not trusted: %s; \"ca-file\" (%s) does not hold the CA that "
			 "signed it",
			 host, why, ca_file);
	else
		snprintf(out, size,
			 "certificate of %s is not trusted: %s; set \"ca-file\" to the CA that signed it",
			 host, why);
}

static void describe_date(X509_STORE_CTX *store, const char *host, bool expired, char *out, size_t size)
{
	X509 *cert = X509_STORE_CTX_get_current_cert(store);
	char subject[384], date[DATE_SIZE];

	subject_of(store, host, subject, sizeof(subject));
	date_of(expired ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert), date);
	if (expired)
		snprintf(out, size, "%s expired on %s; renew it, or set the clock of this machine", subject,
			 date);
	else
		snprintf(out, size, "%s is not valid before %s; set the clock of this machine", subject,
			 date);
}

static void describe_name(X509_STORE_CTX *store, const char *host, char *out, size_t size)
{
	char names[NAMES_SIZE];

	names_of(X509_STORE_CTX_get_current_cert(store), names);
	snprintf(out, size, "certificate is for %s, not for %s; connect by a name it is valid for", names,
		 host);
}

void tls_verify_describe(X509_STORE_CTX *store, const char *host, const char *ca_file, char *out, size_t size)
{
	char subject[384];

	switch (X509_STORE_CTX_get_error(store)) {
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_CERT_UNTRUSTED:
		describe_untrusted(store, host, ca_file, out, size);
		break;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		describe_date(store, host, true, out, size);
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		describe_date(store, host, false, out, size);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		describe_name(store, host, out, size);
		break;
	default:
		subject_of(store, host, subject, sizeof(subject));
		snprintf(out, size, "%s is not valid: %s", subject,
			 X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
	}
}
