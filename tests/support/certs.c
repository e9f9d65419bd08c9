/* SPDX-License-Identifier: MIT */
/*
 * Throwaway certificates, see certs.h.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "net/devca.h"
#include "tests/support/certs.h"

DEFINE_CLEANUP(struct devca *, devca_free)

uint64_t certs_now_ms(void)
{
	return (uint64_t)time(NULL) * 1000;
}

static void certs_path(const struct certs *c, const char *name, char out[static CERTS_PATH_SIZE])
{
	snprintf(out, CERTS_PATH_SIZE, "%s/%s", c->dir, name);
}

int certs_init(struct certs *c)
{
	static const char *const names[] = {"localhost", "hub.test", "127.0.0.1", "::1"};
	_cleanup_(devca_free_ptr) struct devca *ca = NULL;
	const char *tmp = getenv("TMPDIR");
	int r;

	memset(c, 0, sizeof(*c));
	snprintf(c->dir, sizeof(c->dir), "%s/certs-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(c->dir))
		return -errno;
	certs_path(c, "ca.pem", c->ca_file);
	certs_path(c, "ca.key", c->ca_key_file);
	certs_path(c, "server.pem", c->cert_file);
	certs_path(c, "server.key", c->key_file);
	r = devca_new(&ca, "Test CA", certs_now_ms());
	if (!r)
		r = devca_save(ca, c->ca_file, c->ca_key_file, NULL);
	return r ? r : certs_issue(c, names, ARRAY_SIZE(names), certs_now_ms());
}

int certs_issue(struct certs *c, const char *const *names, size_t n_names, uint64_t now_ms)
{
	_cleanup_(devca_free_ptr) struct devca *ca = NULL;
	int r = devca_load(&ca, c->ca_file, c->ca_key_file, NULL);

	return r ? r : devca_issue_server(ca, names, n_names, now_ms, c->cert_file, c->key_file, NULL);
}

void certs_deinit(struct certs *c)
{
	if (!c->dir[0])
		return;
	unlink(c->ca_file);
	unlink(c->ca_key_file);
	unlink(c->cert_file);
	unlink(c->key_file);
	rmdir(c->dir);
	c->dir[0] = '\0';
}
