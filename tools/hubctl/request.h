/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_REQUEST_H
#define HUBCTL_REQUEST_H

/*
 * What most commands do: connect, one request, print the answer. Errors of the hub are put into words here.
 */

#include <json-c/json.h>

#include "args.h"
#include "session.h"

struct request {
	const char *topic;
	const char *about; /* what errors are about: a device, mostly */
	struct bytes payload;
	char *payload_taken; /* freed with the request */
	uint64_t timeout_ms; /* for the answer; 0: the same as for the connection */
	mosquitto_property *properties;
	int error; /* the first of what was added */
};

/* Adds a User Property. A NULL @value adds none. Errors wait for request_send(). */
void request_property(struct request *q, const char *name, const char *value);
void request_content_type(struct request *q, const char *value);
void request_property_number(struct request *q, const char *name, uint64_t value);

/* Sends it and does not wait, as session_post(); the properties are used up. Returns 0, or -1: all is said. */
int request_post(struct session *s, struct request *q);

/* Says what the hub answered that is an error, with --json also as an object on standard output. */
void request_refused(const struct args *args, const char *about, struct session_reply *reply);

/* Its payload: @word, or the file @path, as of input_read(). Returns 0, or -1 when all is said. */
int request_payload_read(struct request *q, const char *word, const char *path);

/* A copy of @json's text. */
void request_payload_json(struct request *q, json_object *json);

/* Idempotent. */
void request_deinit(struct request *q);

/*
 * Sends it and waits for the answer; the properties are used up. Returns 0, or -1 when it failed: all is said
 * then, with --json also the hub's error, as an object on standard output.
 */
int request_send(struct session *s, const struct args *args, struct request *q, struct session_reply *reply);

/* Prints the answer; returns 0, or -1 when all is said. */
typedef int request_print_fn(struct session *s, const struct args *args, const struct session_reply *reply,
			     void *own);

/* From the connection to what @print prints. Returns the exit code. */
int request_run(const struct args *args, struct request *q, request_print_fn *print, void *own);

/* Prints an answer that is JSON of @type: as it is with --json, else by @show. Returns as above. */
int request_print_json(struct session *s, const struct args *args, const struct session_reply *reply,
		       enum json_type type, void (*show)(json_object *answer));

/* Answer's payload, the caller's reference; NULL, and all is said, when it is not of @type. */
json_object *request_reply_json(struct session *s, const struct session_reply *reply, enum json_type type);

/* A list that comes in pages. */
struct list_request {
	const char *topic;
	const char *device; /* whose it is; NULL: the hub's */
	const char *option; /* a property to be set to 1; may be NULL */
	const char *key;    /* member of an element that the next page has to begin behind */
};

/* From the connection to what @print prints of all of it as one array. Returns the exit code. */
int request_list_run(const struct args *args, const struct list_request *rq,
		     void (*print)(const struct args *args, json_object *list, const void *own),
		     const void *own);

#endif
