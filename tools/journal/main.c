/* SPDX-License-Identifier: MIT */
/*
 * iothub-journal: shows what is in the journal of iothubd, also while it runs.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "inspect.h"

/* A page that the disk cannot give is one of zeros: what was in it is missing. */
static struct journal_guard guard;

static void on_bus_error(int signo, siginfo_t *info, void *context)
{
	(void)context;
	if (!journal_guard_handle(&guard, info->si_addr))
		signal(signo, SIG_DFL);
}

static int guard_install(void)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL);
}

int main(int argc, char **argv)
{
	struct inspect inspect;
	int code = inspect_parse(&inspect, argc, argv);

	inspect.guard = &guard;
	if (code < 0)
		code = guard_install() < 0 ? INSPECT_FAILED : inspect_run(&inspect);
	inspect_deinit(&inspect);
	if ((fflush(stdout) == EOF || ferror(stdout)) && code == INSPECT_DONE) {
		fprintf(stderr, "iothub-journal: standard output: %s\n", strerror(errno));
		code = INSPECT_FAILED;
	}
	return code;
}
