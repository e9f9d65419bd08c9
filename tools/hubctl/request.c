/* SPDX-License-Identifier: MIT */
/*
 * Requests and how they end; see request.h. The emulator's manual page has the interface: topics
 * `$service/…`, User Properties, JSON payloads, `status` and `reason` in answers that are errors.
 */

#include "request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "input.h"
#include "output.h"

/* Pages of a list; a hub that never ends it is not waited for. */
#define N_PAGES_MAX 10000

/* --- properties ------------------------------------------------------------------------------- */

/* libmosquitto would send anything, and the hub end the connection. */
static int string_check(const char *text)
{
	struct bytes b = bytes_from_str(text);

	if (b.len > UINT16_MAX)
		return MOSQ_ERR_PAYLOAD_SIZE;
	return utf8_is_mqtt_string(b) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_MALFORMED_UTF8;
}

void request_property(struct request *q, const char *name, const char *value)
{
	if (!value || q->error != MOSQ_ERR_SUCCESS)
		return;
	q->error = string_check(name);
	if (q->error == MOSQ_ERR_SUCCESS)
		q->error = string_check(value);
	if (q->error == MOSQ_ERR_SUCCESS)
		q->error = mosquitto_property_add_string_pair(&q->properties, MQTT_PROP_USER_PROPERTY, name,
							      value);
}

void request_content_type(struct request *q, const char *value)
{
	if (!value || q->error != MOSQ_ERR_SUCCESS)
		return;
	q->error = string_check(value);
	if (q->error == MOSQ_ERR_SUCCESS)
		q->error = mosquitto_property_add_string(&q->properties, MQTT_PROP_CONTENT_TYPE, value);
}

void request_property_number(struct request *q, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	request_property(q, name, text);
}

int request_payload_read(struct request *q, const char *word, const char *path)
{
	size_t len;

	if (input_read(word, path, &q->payload_taken, &len) < 0)
		return -1;
	q->payload = BYTES(q->payload_taken, len);
	return 0;
}

void request_payload_json(struct request *q, json_object *json)
{
	q->payload_taken = strdup(json_object_to_json_string_ext(
		json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	if (q->payload_taken)
		q->payload = bytes_from_str(q->payload_taken);
	else
		q->error = MOSQ_ERR_NOMEM;
}

/* --- errors of the hub ------------------------------------------------------------------------ */

struct status_text {
	const char *status, *name, *hint;
};

/* HUB-CONTRACT's statuses, with what to do where the hub's own reason does not say it. */
static const struct status_text status_texts[] = {
	{"0100", "Bad Request", NULL},
	{"0101", "Not Authorized", NULL},
	{"0102", "Not Allowed", NULL},
	{"0103", "Conflict", NULL},
	{"0104", "Precondition Failed", "it has another version by now; read it again"},
	{"0501", "Throttled", "try again later"},
	{"0502", "Quota Exceeded", "the queue is full; try again later"},
	{"0503", "Resource Exhausted", "try again later"},
	{"0504", "Not Found", "hubctl devices list shows what is there"},
	{"0601", "Server Error", NULL},
	{"0602", "Timeout", "try again"},
	{"0603", "Server Busy", "try again later"},
	{"06A0", "Target Unavailable", "the device is not connected or does not serve it"},
	{"06A1", "Target Timeout", "the device did not answer in time"},
	{"06A2", "Target Failed", "the device's answer was not valid"},
};

static struct status_text status_text_of(const char *status)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_texts); i++) {
		if (strcasecmp(status, status_texts[i].status) == 0)
			return status_texts[i];
	}
	return (struct status_text){.status = status, .name = "unknown status"};
}

static void error_print_json(const struct session_reply *reply, const char *name)
{
	json_object *error = json_object_new_object();

	json_object_object_add(error, "status", json_object_new_string(reply->status));
	json_object_object_add(error, "name", json_object_new_string(name));
	if (reply->reason[0])
		json_object_object_add(error, "reason", json_object_new_string(reply->reason));
	if (reply->trace_id[0])
		json_object_object_add(error, "trace-id", json_object_new_string(reply->trace_id));
	output_json(error);
	json_object_put(error);
}

void request_refused(const struct args *args, const char *about, struct session_reply *reply)
{
	struct status_text text = status_text_of(reply->status);
	const char *more = reply->reason[0] ? reply->reason : text.hint;

	output_sanitize(reply->reason);
	output_sanitize(reply->status);
	if (args->json)
		error_print_json(reply, text.name);
	fprintf(stderr, "hubctl: %s: %s (status %s)%s%s\n", about, text.name, reply->status, more ? ": " : "",
		more ? more : "");
}

/* --- sending ---------------------------------------------------------------------------------- */

static const char *property_problem(int error)
{
	switch (error) {
	case MOSQ_ERR_MALFORMED_UTF8:
		return "it is not UTF-8";
	case MOSQ_ERR_PAYLOAD_SIZE:
		return "it is longer than 65535 bytes";
	default:
		return mosquitto_strerror(error);
	}
}

/* The properties, the caller's from here on. Returns 0, or -1 when one is not valid: all is said then. */
static int properties_take(struct session *s, struct request *q, mosquitto_property **out)
{
	*out = TAKE_PTR(q->properties);
	if (q->error == MOSQ_ERR_SUCCESS)
		return 0;
	mosquitto_property_free_all(out);
	session_fail(s, "%s: a property is not valid: %s", q->about, property_problem(q->error));
	return -1;
}

int request_send(struct session *s, const struct args *args, struct request *q, struct session_reply *reply)
{
	mosquitto_property *properties;
	int r;

	*reply = (struct session_reply){.is_here = false};
	if (properties_take(s, q, &properties) < 0)
		return -1;
	r = session_request(s, q->topic, q->payload, properties, reply);
	if (r == -EREMOTEIO)
		request_refused(args, q->about, reply);
	return r < 0 ? -1 : 0;
}

int request_post(struct session *s, struct request *q)
{
	mosquitto_property *properties;

	if (properties_take(s, q, &properties) < 0)
		return -1;
	return session_post(s, q->topic, q->payload, properties) < 0 ? -1 : 0;
}

void request_deinit(struct request *q)
{
	mosquitto_property_free_all(&q->properties);
	free(q->payload_taken);
	q->payload_taken = NULL;
	q->payload = BYTES(NULL, 0);
}

int request_run(const struct args *args, struct request *q, request_print_fn *print, void *own)
{
	struct session_reply reply = {.is_here = false};
	struct session s;
	int r = session_open(&s, args);

	if (q->timeout_ms)
		s.timeout_ms = q->timeout_ms;
	if (r == 0)
		r = request_send(&s, args, q, &reply);
	if (r == 0)
		r = print(&s, args, &reply, own);
	session_reply_deinit(&reply);
	session_close(&s);
	return r < 0 ? 1 : 0;
}

/* --- payloads --------------------------------------------------------------------------------- */

json_object *request_reply_json(struct session *s, const struct session_reply *reply, enum json_type type)
{
	json_object *json = json_tokener_parse(reply->payload);

	if (json && json_object_is_type(json, type))
		return json;
	json_object_put(json);
	session_fail(s, "the answer of %s is not the JSON that was expected; is it another version?",
		     s->target.host);
	return NULL;
}

int request_print_json(struct session *s, const struct args *args, const struct session_reply *reply,
		       enum json_type type, void (*show)(json_object *answer))
{
	json_object *answer = request_reply_json(s, reply, type);

	if (!answer)
		return -1;
	if (args->json)
		output_json(answer);
	else
		show(answer);
	json_object_put(answer);
	return 0;
}

/* Moves the elements of @page to the end of @list. */
static void page_append(json_object *list, json_object *page)
{
	for (size_t i = 0; i < json_object_array_length(page); i++)
		json_object_array_add(list, json_object_get(json_object_array_get_idx(page, i)));
}

/* Where the next page begins; NULL at an empty list. */
static const char *last_of(json_object *list, const char *key)
{
	size_t n = json_object_array_length(list);
	json_object *value;

	if (n == 0 || !json_object_object_get_ex(json_object_array_get_idx(list, n - 1), key, &value))
		return NULL;
	return json_object_get_string(value);
}

/* 1: more follows, 0: that was the last, -1: all is said. */
static int page_get(struct session *s, const struct args *args, struct request *q, json_object *list)
{
	struct session_reply reply;
	char more[4] = "";
	json_object *page;
	int r = request_send(s, args, q, &reply);

	if (r == 0) {
		session_property(reply.properties, "more", more, sizeof(more));
		page = request_reply_json(s, &reply, json_type_array);
		r = !page ? -1 : strcmp(more, "1") == 0 && json_object_array_length(page) > 0 ? 1 : 0;
		if (page)
			page_append(list, page);
		json_object_put(page);
	}
	session_reply_deinit(&reply);
	return r;
}

static json_object *list_get(struct session *s, const struct args *args, const struct list_request *rq)
{
	json_object *list = json_object_new_array();
	int r = 1;

	for (unsigned int i = 0; r == 1 && i < N_PAGES_MAX; i++) {
		struct request q = {.topic = rq->topic, .about = rq->device ? rq->device : s->target.host};

		request_property(&q, "device", rq->device);
		if (rq->option)
			request_property(&q, rq->option, "1");
		request_property(&q, "after", last_of(list, rq->key));
		r = page_get(s, args, &q, list);
	}
	if (r >= 0)
		return list;
	json_object_put(list);
	return NULL;
}

int request_list_run(const struct args *args, const struct list_request *rq,
		     void (*print)(const struct args *args, json_object *list, const void *own),
		     const void *own)
{
	json_object *list = NULL;
	struct session s;

	if (session_open(&s, args) == 0)
		list = list_get(&s, args, rq);
	session_close(&s);
	if (!list)
		return 1;
	print(args, list, own);
	json_object_put(list);
	return 0;
}
