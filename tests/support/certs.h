/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_CERTS_H
#define TESTS_SUPPORT_CERTS_H

/*
 * Throwaway certificates for a test: a directory with a CA and one server's certificate and key. Holds paths
 * only, so it may lie in a fixture and be removed by another process.
 */

#include <stddef.h>
#include <stdint.h>

#define CERTS_PATH_SIZE 160

struct certs {
	char dir[CERTS_PATH_SIZE - 16];
	char ca_file[CERTS_PATH_SIZE];
	char ca_key_file[CERTS_PATH_SIZE];
	char cert_file[CERTS_PATH_SIZE];
	char key_file[CERTS_PATH_SIZE];
};

/* Valid now, for localhost, hub.test, 127.0.0.1 and ::1. Returns 0 or a negative errno. */
int certs_init(struct certs *c);

/* Replaces the server's certificate by one for @names, issued at @now_ms. */
int certs_issue(struct certs *c, const char *const *names, size_t n_names, uint64_t now_ms);

uint64_t certs_now_ms(void);

/* Removes the files and the directory. Idempotent. */
void certs_deinit(struct certs *c);

#endif
