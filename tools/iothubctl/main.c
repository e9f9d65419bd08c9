/* SPDX-License-Identifier: MIT */
/*
 * iothubctl: the device side of a hub for people and scripts, by the files of iothubd alone.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "verb.h"

static const struct ctl_verb *const verbs[] = {
	&ctl_verb_status,
	&ctl_verb_events,
	&ctl_verb_twin_get,
	&ctl_verb_twin_patch,
	&ctl_verb_twin_wait,
	&ctl_verb_twin_watch,
	&ctl_verb_command_list,
	&ctl_verb_command_complete,
	&ctl_verb_command_abandon,
	&ctl_verb_command_reject,
	NULL,
};

int main(int argc, char **argv)
{
	struct ctl_args args;
	int code = ctl_args_parse(&args, verbs, argc, argv);

	if (code < 0)
		code = args.verb->run(&args);
	ctl_args_deinit(&args);
	if ((fflush(stdout) == EOF || ferror(stdout)) && code == CTL_DONE) {
		fprintf(stderr, "iothubctl: standard output: %s\n", strerror(errno));
		code = CTL_FAILED;
	}
	return code;
}
