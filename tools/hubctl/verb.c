/* SPDX-License-Identifier: MIT */
/*
 * From a command line to an exit code, for every command; see verb.h.
 */

#include "verb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "output.h"

/* What print_answer() has to know. */
struct answer {
	const struct verb *verb;
	void *own;
};

static int print_answer(struct session *s, const struct args *args, const struct session_reply *reply,
			void *userdata)
{
	const struct answer *answer = userdata;
	const struct verb *verb = answer->verb;

	if (verb->print)
		return verb->print(s, args, reply, answer->own);
	return request_print_json(s, args, reply, verb->type, verb->show);
}

static int verb_request(const struct verb *verb, struct args *args, void *own)
{
	const char *device = verb->is_about_device ? args->words[0] : NULL;
	struct request q = {.topic = verb->topic, .about = device ? device : verb->about};
	struct answer answer = {.verb = verb, .own = own};
	int code = -1;

	request_property(&q, "device", device);
	if (verb->build)
		code = verb->build(&q, args, own);
	if (code < 0)
		code = request_run(args, &q, print_answer, &answer);
	request_deinit(&q);
	return code;
}

int verb_run(const struct verb *verb, int argc, char **argv)
{
	_cleanup_(free_ptr) void *own = malloc(verb->own_size + 1);
	struct args args;
	int code;

	if (!own) {
		fputs("hubctl: out of memory\n", stderr);
		return 1;
	}
	if (verb->own)
		memcpy(own, verb->own, verb->own_size);
	else
		memset(own, 0, verb->own_size);
	code = args_parse(&args, verb, own, argc, argv);
	if (code < 0 && verb->is_about_device)
		code = args_device(verb, args.words[0]);
	if (code < 0 && verb->check)
		code = verb->check(verb, &args, own);
	if (code >= 0)
		return code;
	return verb->run ? verb->run(&args, own) : verb_request(verb, &args, own);
}
