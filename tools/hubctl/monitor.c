/* SPDX-License-Identifier: MIT */
/*
 * `hubctl monitor`: prints the telemetry that arrives. message.c makes JSON of it, listen.c does the rest.
 */

#include "listen.h"
#include "message.h"
#include "verb.h"

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

static const struct listen listen_defaults = {
	.topic = "$service/telemetry",
	.start = "monitoring",
	.convert = message_to_json,
	.ready_fd = -1,
};

const struct verb verb_monitor = {
	.name = "monitor",
	.what = "print the telemetry that arrives, as JSON lines",
	.help = help,
	.options = options,
	LISTEN_VERB(listen_defaults),
};
