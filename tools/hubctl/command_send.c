/* SPDX-License-Identifier: MIT */
/*
 * `hubctl command send`: one command, or one for every line of a file, and, if asked to, how each ends.
 *
 * All of them go over one connection. Up to N_UNANSWERED_MAX requests are under way at a time; the answers come in
 * the order of the requests, and each has the number of its request, which is the number of its line. With --wait
 * up to N_UNSETTLED_MAX commands are with the hub at a time, less than what a queue holds there. The hub posts how
 * a command ends after it has answered the request, and to whom was subscribed before it: nothing can be missed.
 *
 * What the hub refuses ends the reading of lines; what was sent until then goes its way.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "input.h"
#include "output.h"
#include "verb.h"

#define N_PROPERTIES_MAX 64
#define EXPIRY_MAX_S     172800
#define N_UNANSWERED_MAX 64
#define N_UNSETTLED_MAX  500
#define WAIT_MS          60000

/* --- options ---------------------------------------------------------------------------------- */

static const char send_help[] =
	"Usage: hubctl command send DEVICE[/MODULE] [PAYLOAD] [OPTION]...\n"
	"Puts a command into the device's queue; the payload comes from standard input when it is\n"
	"not given. Prints the command's sequence number.\n"
	"\n"
	"  --file FILE                    the payload is in FILE; - is standard input\n"
	"  --lines                        a command for every line of FILE or standard input\n"
	"  --wait                         until the device has completed it, or it is given up: exit\n"
	"                                 code 1; at most --timeout if that is given\n"
	"  --property NAME=VALUE          an application property; can be given many times\n"
	"  --message-id TEXT, --user-id TEXT, --correlation-id TEXT, --creation-time TIME,\n"
	"  --content-type TEXT, --content-encoding TEXT\n"
	"                                 the message's system properties\n"
	"  --expiry SECONDS               when it is given up, 1 to 172800; 3600\n" ARGS_COMMON_HELP;

enum send_id {
	SEND_FILE = 1,
	SEND_PROPERTY,
	SEND_CONTENT_TYPE,
	SEND_EXPIRY,
	SEND_LINES,
	SEND_WAIT,
	SEND_TEXT, /* and up: a User Property under the option's name */
};

static const struct option send_options[] = {
	{"file", required_argument, NULL, SEND_FILE},
	{"property", required_argument, NULL, SEND_PROPERTY},
	{"content-type", required_argument, NULL, SEND_CONTENT_TYPE},
	{"expiry", required_argument, NULL, SEND_EXPIRY},
	{"lines", no_argument, NULL, SEND_LINES},
	{"wait", no_argument, NULL, SEND_WAIT},
	{"message-id", required_argument, NULL, SEND_TEXT},
	{"user-id", required_argument, NULL, SEND_TEXT + 1},
	{"correlation-id", required_argument, NULL, SEND_TEXT + 2},
	{"creation-time", required_argument, NULL, SEND_TEXT + 3},
	{"content-encoding", required_argument, NULL, SEND_TEXT + 4},
	{NULL, 0, NULL, 0},
};

#define N_TEXTS 5

struct send_options {
	const char *file;
	const char *content_type;
	const char *texts[N_TEXTS];
	const char *properties[N_PROPERTIES_MAX]; /* NAME=VALUE */
	size_t n_properties;
	uint64_t expiry_s; /* 0: the hub's default */
	bool lines, wait;
};

static int send_apply(void *own, int id, const char *value)
{
	struct send_options *o = own;

	switch (id) {
	case SEND_FILE:
		o->file = value;
		return 0;
	case SEND_CONTENT_TYPE:
		o->content_type = value;
		return 0;
	case SEND_EXPIRY:
		return args_number(value, EXPIRY_MAX_S, &o->expiry_s) == 0 && o->expiry_s > 0 ? 0 : -EINVAL;
	case SEND_LINES:
		o->lines = true;
		return 0;
	case SEND_WAIT:
		o->wait = true;
		return 0;
	case SEND_PROPERTY:
		if (o->n_properties == N_PROPERTIES_MAX || !strchr(value, '=') || *value == '=')
			return -EINVAL;
		o->properties[o->n_properties++] = value;
		return 0;
	default:
		o->texts[id - SEND_TEXT] = value;
		return 0;
	}
}

/* `NAME=VALUE` as the User Property `@NAME`. */
static void application_property(struct request *q, const char *text)
{
	const char *value = strchr(text, '=') + 1;
	_cleanup_(free_ptr) char *name = NULL;

	if (asprintf(&name, "@%.*s", (int)(value - 1 - text), text) < 0) {
		name = NULL;
		q->error = MOSQ_ERR_NOMEM;
		return;
	}
	request_property(q, name, value);
}

static void send_properties(struct request *q, const struct send_options *o)
{
	request_property(q, "device", q->about);
	for (const struct option *option = send_options; option->name; option++) {
		if (option->val >= SEND_TEXT)
			request_property(q, option->name, o->texts[option->val - SEND_TEXT]);
	}
	if (o->expiry_s)
		request_property_number(q, "ttl", o->expiry_s);
	for (size_t i = 0; i < o->n_properties; i++)
		application_property(q, o->properties[i]);
	request_content_type(q, o->content_type);
}

/* --- what is under way ------------------------------------------------------------------------ */

/* A command the hub has taken, and whose end is waited for. */
struct sent {
	uint64_t sequence_no;
	uint64_t at_ms;
	char enqueued_time[40];
};

struct sender {
	const struct args *args;
	const struct send_options *o;
	const char *device;
	struct input_lines lines; /* with --lines */
	struct bytes payload;     /* without */
	bool is_refused;          /* something was: no more is sent */
	uint64_t n_posted, n_answered;
	uint64_t n_settled, n_completed;
	uint64_t progress_ms; /* when the hub last answered, or began to owe an answer */
	size_t n_unsettled;
	struct sent unsettled[N_UNSETTLED_MAX]; /* in the order of the answers */
};

/* `command 5: completed, delivered 1 time` */
static void outcome_print(const struct sender *d, const struct sent *sent, const char *outcome,
			  uint64_t n_deliveries)
{
	json_object *object;

	if (!d->args->json) {
		printf("command %" PRIu64 ": %s, delivered %" PRIu64 " time%s\n", sent->sequence_no, outcome,
		       n_deliveries, n_deliveries == 1 ? "" : "s");
		return;
	}
	object = json_object_new_object();
	json_object_object_add(object, "sequence-no", json_object_new_uint64(sent->sequence_no));
	json_object_object_add(object, "enqueued-time", json_object_new_string(sent->enqueued_time));
	json_object_object_add(object, "outcome", json_object_new_string(outcome));
	json_object_object_add(object, "delivery-count", json_object_new_uint64(n_deliveries));
	output_json(object);
	json_object_put(object);
}

static void sent_print(const struct sender *d, const struct sent *sent)
{
	json_object *object;

	if (!d->args->json) {
		printf("command %" PRIu64 ", enqueued %s\n", sent->sequence_no, sent->enqueued_time);
		return;
	}
	object = json_object_new_object();
	json_object_object_add(object, "sequence-no", json_object_new_uint64(sent->sequence_no));
	json_object_object_add(object, "enqueued-time", json_object_new_string(sent->enqueued_time));
	output_json(object);
	json_object_put(object);
}

/* --- what comes ------------------------------------------------------------------------------- */

static void refused(struct sender *d, uint64_t number, struct session_reply *reply)
{
	char about[ARGS_DEVICE_MAX + 32];

	d->is_refused = true;
	snprintf(about, sizeof(about), "%s: line %" PRIu64, d->device, number);
	request_refused(d->args, d->o->lines ? about : d->device, reply);
}

static void on_reply(struct session *s, uint64_t number, struct session_reply *reply)
{
	struct sender *d = s->userdata;
	struct sent sent = {.at_ms = session_now_ms()};
	char text[24];

	d->n_answered++;
	d->progress_ms = sent.at_ms;
	if (session_reply_is_error(reply)) {
		refused(d, number, reply);
		return;
	}
	if (!session_property(reply->properties, "sequence-no", text, sizeof(text)) ||
	    !session_property(reply->properties, "enqueued-time", sent.enqueued_time,
			      sizeof(sent.enqueued_time)) ||
	    args_number(text, UINT64_MAX, &sent.sequence_no) < 0) {
		session_fail(s, "%s did not say the command's number", s->target.host);
		return;
	}
	if (!d->o->wait || !d->args->json)
		sent_print(d, &sent);
	if (d->o->wait)
		d->unsettled[d->n_unsettled++] = sent;
}

/* A command has ended, maybe not one of ours. */
static void on_message(struct session *s, const struct mosquitto_message *message,
		       const mosquitto_property *properties)
{
	struct sender *d = s->userdata;
	uint64_t sequence_no, n_deliveries;
	char number[24], count[24], outcome[32];
	size_t i = 0;

	(void)message;
	if (!session_property(properties, "sequence-no", number, sizeof(number)) ||
	    !session_property(properties, "delivery-count", count, sizeof(count)) ||
	    !session_property(properties, "outcome", outcome, sizeof(outcome)) ||
	    args_number(number, UINT64_MAX, &sequence_no) < 0 ||
	    args_number(count, UINT64_MAX, &n_deliveries) < 0)
		return;
	while (i < d->n_unsettled && d->unsettled[i].sequence_no != sequence_no)
		i++;
	if (i == d->n_unsettled)
		return;
	output_sanitize(outcome);
	outcome_print(d, &d->unsettled[i], outcome, n_deliveries);
	d->n_settled++;
	d->n_completed += strcmp(outcome, "completed") == 0;
	d->n_unsettled--;
	memmove(&d->unsettled[i], &d->unsettled[i + 1], (d->n_unsettled - i) * sizeof(d->unsettled[0]));
}

/* --- sending ---------------------------------------------------------------------------------- */

static bool has_room(const struct sender *d)
{
	uint64_t n_unanswered = d->n_posted - d->n_answered;

	return n_unanswered < N_UNANSWERED_MAX &&
	       (!d->o->wait || n_unanswered + d->n_unsettled < N_UNSETTLED_MAX);
}

static bool is_all_posted(const struct sender *d)
{
	if (d->is_refused)
		return true;
	return d->o->lines ? input_lines_are_done(&d->lines) : d->n_posted > 0;
}

static bool next_payload(struct sender *d, struct bytes *out)
{
	if (d->o->lines)
		return input_lines_next(&d->lines, out);
	*out = d->payload;
	return d->n_posted == 0;
}

/* As much as there is, and is room for. */
static int post(struct session *s, struct sender *d)
{
	struct request q = {.topic = "$service/commands/send", .about = d->device};
	int r = 0;

	if (d->o->lines && s->is_input_ready)
		r = input_lines_read(&d->lines);
	s->is_input_ready = false;
	while (r == 0 && !d->is_refused && has_room(d) && next_payload(d, &q.payload)) {
		if (d->n_posted == d->n_answered)
			d->progress_ms = session_now_ms();
		send_properties(&q, d->o);
		r = request_post(s, &q);
		d->n_posted++;
	}
	s->input_fd = d->o->lines && !is_all_posted(d) && has_room(d) ? d->lines.fd : -1;
	return r;
}

/* Milliseconds that are left for what is waited for, after a line when there are none. */
static int time_left(struct session *s, const struct sender *d, uint64_t *left_ms)
{
	uint64_t now_ms = session_now_ms(), since_ms;

	*left_ms = WAIT_MS;
	if (d->n_answered < d->n_posted)
		since_ms = d->progress_ms;
	else if (d->n_unsettled > 0 && d->args->has_timeout)
		since_ms = d->unsettled[0].at_ms;
	else
		return 0;
	if (now_ms < since_ms + s->timeout_ms) {
		*left_ms = since_ms + s->timeout_ms - now_ms;
		return 0;
	}
	if (d->n_answered < d->n_posted)
		return session_fail_late(s, "answer");
	return session_fail(s, "%s: command %" PRIu64 " was not settled within %" PRIu64 ".%" PRIu64 " s",
			    d->device, d->unsettled[0].sequence_no, s->timeout_ms / MSEC_PER_SEC,
			    s->timeout_ms % MSEC_PER_SEC / 100);
}

static bool is_done(const struct sender *d)
{
	return is_all_posted(d) && d->n_answered == d->n_posted && d->n_unsettled == 0;
}

static int send_all(struct session *s, struct sender *d)
{
	uint64_t left_ms;
	int r = 0;

	while (r == 0) {
		r = post(s, d);
		if (r < 0 || is_done(d))
			break;
		/* Lines, numbers and ends are shown when they are known. */
		if (fflush(stdout) == EOF)
			return session_fail(s, "standard output: %s", strerror(errno));
		r = time_left(s, d, &left_ms);
		if (r == 0)
			r = session_turn(s, left_ms);
	}
	if (r == -EINTR)
		return session_fail(s, "interrupted");
	if (r < 0 || d->is_refused)
		return -1;
	if (d->n_completed == d->n_settled)
		return 0;
	if (d->n_posted == 1)
		return session_fail(s, "%s: the command was not completed", d->device);
	return session_fail(s, "%s: %" PRIu64 " of %" PRIu64 " commands were not completed", d->device,
			    d->n_settled - d->n_completed, d->n_settled);
}

static int sender_run(struct sender *d)
{
	struct session s;
	int r = session_open(&s, d->args);

	s.userdata = d;
	s.on_reply = on_reply;
	s.on_message = on_message;
	if (r == 0 && d->o->wait)
		r = session_subscribe_device(&s, "$service/commands/outcomes", d->device);
	if (r >= 0)
		r = send_all(&s, d);
	session_close(&s);
	return r < 0 ? 1 : 0;
}

static int send_run(const struct args *args, void *own)
{
	const struct send_options *o = own;
	struct sender d = {.args = args, .o = o, .device = args->words[0], .lines = {.fd = -1}};
	_cleanup_(free_ptr) char *payload = NULL;
	int code = 1, r;

	if (o->lines)
		r = input_lines_open(&d.lines, o->file ? o->file : "-");
	else
		r = input_read(args->words[1], o->file ? o->file : "-", &payload, &d.payload.len);
	if (r == 0) {
		d.payload.data = (const uint8_t *)payload;
		code = sender_run(&d);
	}
	input_lines_close(&d.lines);
	return code;
}

static int send_check(const struct verb *verb, const struct args *args, const void *own)
{
	const struct send_options *o = own;

	if (args->words[1] && o->file)
		return args_wrong(verb, "PAYLOAD or --file, not both");
	if (args->words[1] && o->lines)
		return args_wrong(verb, "PAYLOAD or --lines, not both");
	return -1;
}

const struct verb verb_command_send = {
	.name = "command send",
	.what = "put a command into a device's queue",
	.help = send_help,
	.words = "DEVICE [PAYLOAD]",
	.n_words_min = 1,
	.n_words_max = 2,
	.is_about_device = true,
	.options = send_options,
	.apply = send_apply,
	.own_size = sizeof(struct send_options),
	.check = send_check,
	.run = send_run,
};
