/* SPDX-License-Identifier: MIT */
/*
 * Allocations that fail while something is signed for the first time, which is when the library looks its algorithms up:
 * it is signed right or not at all, and right the next time. Each in a process of its own, that knows no algorithm yet.
 */

#include <openssl/crypto.h>

#include "hub/sas.h"
#include "tests/harness.h"
#include "tools/bench/preload/allocator.h"

/* The call that fails, counted down; 0 = none. */
static uint64_t fail_in;

bool allocator_fails(const void *caller)
{
	(void)caller;
	return fail_in && --fail_in == 0;
}

enum outcome {
	SIGNED,      /* the call was not needed */
	RECOVERED,   /* as it should be */
	WRONG,       /* signed, but not right */
	NEVER_AGAIN, /* not even with memory */
};

static int sign(uint8_t out[static HUB_SIGNATURE_BYTES])
{
	static const struct hub_key key = {.data = "key", .len = 3};
	static const struct hub_sas_fields fields = {
		.host = BYTES_LIT("host"),
		.client_id = BYTES_LIT("device"),
		.at = BYTES_LIT("1"),
		.expiry = BYTES_LIT("2"),
	};

	return hub_sas_sign(&key, &fields, out);
}

static enum outcome sign_twice(uint64_t n)
{
	uint8_t first[HUB_SIGNATURE_BYTES], second[HUB_SIGNATURE_BYTES];
	bool is_reached;
	int r;

	fail_in = n;
	r = sign(first);
	is_reached = fail_in == 0;
	fail_in = 0;
	if (sign(second))
		return NEVER_AGAIN;
	if (r == 0 && memcmp(first, second, sizeof(first)) != 0)
		return WRONG;
	return is_reached ? RECOVERED : SIGNED;
}

TEST_TIMEOUT(signs_after_a_failed_allocation, 120)
{
	uint64_t n = 0;
	int status;

	SKIP_IF(!ALLOCATOR_ASKS, "the sanitizer has an allocator of its own");
	/* The library itself is there, as in a daemon with a context for TLS; of what fails there it would die. */
	ASSERT_TRUE(OSSL_LIB_CTX_get0_global_default() != NULL);
	do {
		pid_t pid = fork();

		++n;
		if (pid == 0)
			_exit((int)sign_twice(n));
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_TRUE(WIFEXITED(status));
		ASSERT_LE(WEXITSTATUS(status), RECOVERED + 0);
	} while (WEXITSTATUS(status) == RECOVERED);
	TEST_LOG("%" PRIu64 " allocations failed", n - 1);
	EXPECT_GT(n, 100u);
}

TEST_HARNESS_MAIN
