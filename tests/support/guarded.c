/* SPDX-License-Identifier: MIT */
/* A guard for tests that lose pages, see guarded.h. */

#include <signal.h>

#include "tests/harness.h"
#include "tests/support/guarded.h"

/* As in main.c: the handler gets no argument. */
static struct journal_guard guard;

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
	(void)context;
	if (journal_guard_handle(&guard, info->si_addr))
		return;
	signal(signo, SIG_DFL);
	raise(signo);
}

struct journal_guard *guarded(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	ASSERT_EQ(sigaction(SIGBUS, &action, NULL), 0);
	return &guard;
}
