/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_LISTEN_H
#define HUBCTL_LISTEN_H

/*
 * What `monitor`, `twin watch` and `command watch` have in common: to subscribe and print what is posted, one JSON object per
 * line, until there is enough of it or a signal comes.
 */

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>
#include <mosquitto.h>

#include "args.h"
#include "base/bytes.h"

#define LISTEN_HELP                                                                                          \
	"  --count N                      stop after N messages\n"                                           \
	"  --ready-fd N                   write a line to descriptor N once nothing can be missed\n"         \
	"  -q, --quiet                    no line on standard error at the start\n"

/* Members of an option table; their ids are for listen_apply(). */
#define LISTEN_OPTIONS                                                                                       \
	{"count", required_argument, NULL, 'n'}, {"ready-fd", required_argument, NULL, 'r'},                 \
	{                                                                                                    \
		"quiet", no_argument, NULL, 'q'                                                              \
	}

/* Of a command that has no others. */
extern const struct option listen_options[];

/* Members of a struct verb that does this; @defaults is a struct listen. */
#define LISTEN_VERB(defaults)                                                                                \
	.apply = listen_apply, .own = &(defaults), .own_size = sizeof(defaults), .run = listen_run

struct listen {
	const char *topic;  /* of everything; `/DEVICE` behind it is that of a device */
	const char *device; /* NULL: all of them */
	const char *start;  /* `monitoring`, of the line at the start */
	/* A posted message as JSON, the caller's reference; NULL when there is no memory. */
	json_object *(*convert)(struct bytes payload, const mosquitto_property *properties);
	uint64_t n_wanted; /* 0: no end */
	int ready_fd;      /* -1: none */
	bool quiet;
};

/* What is posted, but for the payload: the properties, numbers among them as such. As of `convert`. */
json_object *listen_properties(const mosquitto_property *properties);

/* Of LISTEN_VERB. The first word is the device, unless --device named one. */
int listen_apply(void *own, int id, const char *value);
int listen_run(const struct args *args, void *own);

#endif
