/* SPDX-License-Identifier: MIT */
/*
 * The twin: reading it, and waiting for it. Waiting misses nothing: a document that was read from its beginning reports
 * POLLPRI from its next change on, so there is no moment between looking and waiting.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "files.h"
#include "iothub.h"
#include "property.h"

/* One of the two documents, open, and a property in it. */
struct view {
	const struct ctl_args *args;
	const char *what; /* as on the command line */
	const char *file;
	struct property property;
	int fd;
	struct buf text;
	json_object *document; /* owned; NULL: not known yet */
	json_object *value;
	bool is_there; /* the property, with this value */
};

static int view_open(struct view *v, const struct ctl_args *args, const char *what)
{
	int r;

	*v = (struct view){.args = args, .what = what, .fd = -1};
	buf_init(&v->text, CTL_TEXT_MAX);
	r = property_parse(&v->property, what);
	if (r == -EINVAL)
		return ctl_wrong(args->verb, "%s: neither in desired/ nor in reported/", what);
	v->file = v->property.is_desired ? IOTHUB_DIR_TWIN "/" IOTHUB_FILE_TWIN_DESIRED
					 : IOTHUB_DIR_TWIN "/" IOTHUB_FILE_TWIN_REPORTED;
	return r ? ctl_say(args, v->file, -r) : ctl_open(args, v->file, O_RDONLY, &v->fd);
}

static void view_deinit(struct view *v)
{
	property_deinit(&v->property);
	close_fd(&v->fd);
	buf_deinit(&v->text);
	json_object_put(v->document);
}

/* Reads the document anew. Returns 0, or the exit code; that nothing is known yet is no error, then nothing is there. */
static int view_read(struct view *v)
{
	int r = ctl_read(v->fd, &v->text);
	const char *why;

	json_object_put(v->document);
	v->document = NULL;
	v->is_there = false;
	if (r == -ENODATA)
		return 0;
	if (r)
		return ctl_say(v->args, v->file, -r);
	if (property_read_json(buf_bytes(&v->text), &v->document, &why) < 0) {
		fprintf(stderr, "iothubctl: %s/%s: %s\n", v->args->mount, v->file, why);
		return CTL_FAILED;
	}
	v->is_there = property_find(&v->property, v->document, &v->value);
	return 0;
}

static void view_print(const struct view *v)
{
	struct bytes text = property_text(v->value);

	fwrite(text.data, 1, text.len, stdout);
	putchar('\n');
}

static int say_missing(const struct view *v)
{
	if (!v->document)
		return ctl_say(v->args, v->file, ENODATA);
	fprintf(stderr, "iothubctl: %s: there is no such property\n", v->what);
	return CTL_NOT_THERE;
}

/* --- get -------------------------------------------------------------------------------------- */

/* What was read, and the version of just that. */
static int view_print_json(const struct view *v)
{
	_cleanup_(json_put) json_object *out = json_object_new_object();
	__u64 version;

	if (ioctl(v->fd, IOTHUB_IOC_TWIN_GET_VERSION, &version) < 0)
		return ctl_say(v->args, v->file, errno);
	json_object_object_add(out, "version", json_object_new_uint64(version));
	if (v->property.n_keys)
		json_object_object_add(out, "property", json_object_new_string(v->what));
	json_object_object_add(out,
			       v->property.n_keys       ? "value"
			       : v->property.is_desired ? "desired"
							: "reported",
			       json_object_get(v->value));
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	return CTL_DONE;
}

static int run_get(const struct ctl_args *args)
{
	_cleanup_(view_deinit) struct view v;
	int code = view_open(&v, args, args->n_words ? args->words[0] : "desired");

	if (!code)
		code = view_read(&v);
	if (code)
		return code;
	if (!v.is_there)
		return say_missing(&v);
	if (args->options & CTL_OPTION_JSON)
		return view_print_json(&v);
	if (v.property.n_keys)
		view_print(&v);
	else
		fwrite(buf_bytes(&v.text).data, 1, buf_len(&v.text), stdout);
	return CTL_DONE;
}

const struct ctl_verb ctl_verb_twin_get = {
	.name = "twin get",
	.words = "[desired | reported | desired/PATH | reported/PATH]",
	.what = "print properties, or one of them",
	.help = "Prints the desired or the reported properties, or one property: a string as it is, all\n"
		"else as JSON. Exit code 6: it is not there.\n"
		"\n"
		"  --json               in one object with the version of the properties\n",
	.options = CTL_OPTION_JSON,
	.n_words_max = 1,
	.run = run_get,
};

/* --- wait ------------------------------------------------------------------------------------- */

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* Waits for a change of the document since it was read. Returns 0, or the exit code. */
static int view_poll(struct view *v, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = v->fd, .events = POLLPRI};
	uint64_t now_ns = clock_ns(), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
	const struct timespec left = {.tv_sec = (time_t)(left_ns / NSEC_PER_SEC),
				      .tv_nsec = (long)(left_ns % NSEC_PER_SEC)};
	int n = ppoll(&p, 1, deadline_ns == TIME_NEVER ? NULL : &left, NULL);

	if (n > 0 || (n < 0 && errno == EINTR))
		return 0;
	if (n < 0)
		return ctl_say(v->args, v->file, errno);
	fprintf(stderr, "iothubctl: %s: not within the time\n", v->what);
	return CTL_TIMED_OUT;
}

/* What --change compares with. */
struct before {
	bool is_there;
	json_object *value; /* a reference */
};

static bool is_awaited(const struct view *v, const struct before *before)
{
	if (v->args->options & CTL_OPTION_CHANGE)
		return v->is_there != before->is_there ||
		       (v->is_there && !json_object_equal(v->value, before->value));
	return v->is_there && (!v->args->value || property_is(v->value, v->args->value));
}

static int view_wait(struct view *v, uint64_t deadline_ns)
{
	struct before before = {.is_there = false};
	int code = view_read(v);

	if (!code && v->is_there)
		before = (struct before){.is_there = true, .value = json_object_get(v->value)};
	while (!code && !is_awaited(v, &before)) {
		code = view_poll(v, deadline_ns);
		if (!code)
			code = view_read(v);
	}
	json_object_put(before.value);
	return code;
}

static int run_wait(const struct ctl_args *args)
{
	_cleanup_(view_deinit) struct view v = {.fd = -1};
	uint64_t deadline_ns = args->timeout_ns == TIME_NEVER ? TIME_NEVER : clock_ns() + args->timeout_ns;
	int code;

	if (args->value && args->options & CTL_OPTION_CHANGE)
		return ctl_wrong(args->verb, "--value or --change, not both");
	code = view_open(&v, args, args->words[0]);
	if (!code)
		code = view_wait(&v, deadline_ns);
	if (code)
		return code;
	if (!v.is_there)
		return say_missing(&v);
	view_print(&v);
	return CTL_DONE;
}

const struct ctl_verb ctl_verb_twin_wait = {
	.name = "twin wait",
	.words = "desired/PATH | reported/PATH",
	.what = "wait until a property is there, or has a value",
	.help = "Waits until the property is there, and prints it as get does. Exit code 4: not within the\n"
		"time; 6: with --change, it was removed.\n"
		"\n"
		"  --value VALUE        until it has this value: the text that is printed, or the same JSON\n"
		"  --change             until it is another one than now\n"
		"  --timeout SECONDS    how long to wait; default for ever\n",
	.options = CTL_OPTION_VALUE | CTL_OPTION_CHANGE | CTL_OPTION_TIMEOUT,
	.n_words_min = 1,
	.n_words_max = 1,
	.run = run_wait,
};

/* --- watch ------------------------------------------------------------------------------------ */

static int run_watch(const struct ctl_args *args)
{
	return ctl_copy_lines(args, IOTHUB_DIR_TWIN "/" IOTHUB_FILE_TWIN_CHANGES, true);
}

const struct ctl_verb ctl_verb_twin_watch = {
	.name = "twin watch",
	.what = "print changes of the desired properties",
	.help = "Prints a line of JSON for each change of the desired properties from now on, until it is\n"
		"interrupted.\n",
	.run = run_watch,
};
