/* SPDX-License-Identifier: MIT */
#ifndef NET_DEVCA_H
#define NET_DEVCA_H

/*
 * A development certificate authority: makes itself, keeps itself in two PEM files and issues server
 * certificates, so that the emulator and the tests use TLS with full verification. Nothing a production hub
 * should be trusted through.
 *
 * Keys are EC P-256. The CA is valid for ten years, a server certificate for one, both from a day before
 * @now_ms on (clocks of development boards differ). Key files get mode 0600, certificates 0644; a file
 * appears whole or not at all.
 *
 * Functions return 0, -ENOMEM, -EINVAL or a negative errno of the file system; the failing file is logged.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

struct devca;

#define DEVCA_CA_DAYS     3650
#define DEVCA_SERVER_DAYS 365

/* Creates a key and a self-signed CA certificate with the common name @name (borrowed for the call, at most
 * 64 bytes). */
int devca_new(struct devca **out, const char *name, uint64_t now_ms);

/* Reads what devca_save() wrote; -ENOENT without a log line when @cert_file or @key_file is missing. */
int devca_load(struct devca **out, const char *cert_file, const char *key_file, struct log *log);

int devca_save(const struct devca *ca, const char *cert_file, const char *key_file, struct log *log);

/* NULL is fine. */
void devca_free(struct devca *ca);

/*
 * Makes a key and a certificate for a server and writes both. @names are the @n_names subject alternative
 * names, DNS names or IP address literals, at least one. -EINVAL: one of them can be neither.
 */
int devca_issue_server(const struct devca *ca, const char *const *names, size_t n_names, uint64_t now_ms,
		       const char *cert_file, const char *key_file, struct log *log);

#endif
