/* SPDX-License-Identifier: MIT */
/*
 * `hubctl monitor`: prints the telemetry that arrives. message.c makes JSON of it, listen.c does the rest.
 */

#include "commands.h"
#include "listen.h"
#include "message.h"

static const char help[] =
	"Usage: hubctl monitor [OPTION]...\n"
	"Prints the telemetry that arrives at the hub, one JSON object per line.\n"
	"\n"
	"  --device ID[/MODULE]           of this device only, and of its modules\n" LISTEN_HELP
		ARGS_COMMON_HELP;

static const struct option options[] = {
	{"device", required_argument, NULL, 'd'},
	LISTEN_OPTIONS,
	{NULL, 0, NULL, 0},
};

static int apply(void *own, int id, const char *value)
{
	return listen_apply(own, id, value);
}

int hubctl_monitor(int argc, char **argv)
{
	struct listen listen = {
		.topic = "$service/telemetry",
		.start = "monitoring",
		.convert = message_to_json,
		.ready_fd = -1,
	};
	const struct args_spec spec = {
		.command = "monitor",
		.help = help,
		.options = options,
		.apply = apply,
		.own = &listen,
	};
	struct args args;
	int code = args_parse(&args, &spec, argc, argv);

	return code >= 0 ? code : listen_run(&listen, &args);
}
