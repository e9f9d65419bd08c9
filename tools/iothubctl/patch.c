/* SPDX-License-Identifier: MIT */
/*
 * `twin patch`. Why something was refused, by the daemon or by the hub, is not in the errno but in `events`: that file
 * is read up to its end before the write, so that what comes afterwards is about the write, or about one at the same
 * time.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "files.h"
#include "iothub.h"
#include "property.h"

#define REPORTED       IOTHUB_DIR_TWIN "/" IOTHUB_FILE_TWIN_REPORTED
#define TEXT_MAX_BYTES IOTHUB_PACKET_BYTES_MAX
#define LINE_MAX_BYTES 65536
#define READ_BYTES     4096u

/* After the time is over, in case that a signal came before the system call it is to end. */
#define TICK_USEC 100000

/* --- the text --------------------------------------------------------------------------------- */

/* All of standard input, or of a file. */
static int text_read(const char *path, struct buf *text)
{
	_cleanup_(close_fd) int opened = -1;
	bool is_stdin = strcmp(path, "-") == 0;
	uint8_t *dst;
	ssize_t n = -1;
	int r;

	if (!is_stdin) {
		opened = open(path, O_RDONLY | O_CLOEXEC);
		if (opened < 0)
			return -errno;
	}
	while (n) {
		/* One byte more than is allowed shows that there is too much. */
		size_t room = TEXT_MAX_BYTES + 1 - buf_len(text);

		if (room == 0)
			return -ENOBUFS;
		r = buf_reserve(text, room < READ_BYTES ? room : READ_BYTES, &dst);
		if (r < 0)
			return r;
		n = read(is_stdin ? STDIN_FILENO : opened, dst, room < READ_BYTES ? room : READ_BYTES);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			buf_commit(text, (size_t)n);
	}
	return 0;
}

static int text_get(const struct ctl_args *args, struct buf *text)
{
	const char *word = args->n_words ? args->words[0] : NULL;
	const char *path = word && strcmp(word, "-") == 0 ? word : args->file;
	int r;

	if (!word == !args->file)
		return ctl_wrong(args->verb, "twin patch takes one of JSON, --file FILE and -");
	r = path ? text_read(path, text) : buf_append(text, bytes_from_str(word));
	if (!r)
		return 0;
	fprintf(stderr, "iothubctl: %s: %s\n", path ? path : "JSON",
		r == -ENOBUFS ? "too long" : strerror(-r));
	return r == -ENOBUFS ? CTL_REFUSED : CTL_FAILED;
}

/* What has no end would not be refused, but waited for. */
static int text_check(struct buf *text)
{
	_cleanup_(json_put) json_object *json = NULL;
	const char *why = "not enough memory";
	int r = buf_append(text, BYTES("", 1));

	if (!r)
		r = property_read_json(BYTES(buf_bytes(text).data, buf_len(text) - 1), &json, &why);
	if (!r && json_object_is_type(json, json_type_object))
		return 0;
	fprintf(stderr, "iothubctl: not a JSON object: %s\n", r ? why : "it is something else");
	return CTL_REFUSED;
}

/* --- reasons ---------------------------------------------------------------------------------- */

/* Takes the reason of a refusal from a line of `events`. */
static void reason_take(char *line, size_t len, char **reason)
{
	_cleanup_(json_put) json_object *json = NULL;
	json_object *file, *why;
	const char *error;

	line[len] = '\0';
	if (property_read_json(BYTES(line, len), &json, &error) < 0 ||
	    !json_object_object_get_ex(json, "file", &file) ||
	    !json_object_object_get_ex(json, "reason", &why) ||
	    strncmp(json_object_get_string(file), IOTHUB_DIR_TWIN "/", sizeof(IOTHUB_DIR_TWIN)) != 0)
		return;
	free(*reason);
	*reason = strdup(json_object_get_string(why));
}

/* Reads `events` up to what is there now. *@reason becomes that of the last refusal among it, if any; owned. A read gives
 * a line. */
static void events_read(int fd, char **reason)
{
	_cleanup_(free_ptr) char *line = malloc(LINE_MAX_BYTES + 1);
	ssize_t n = line && fd >= 0 ? 1 : 0;

	while (n > 0) {
		n = read(fd, line, LINE_MAX_BYTES);
		if (n > 0)
			reason_take(line, (size_t)n, reason);
	}
}

/* What is there has been read; -1 when that is not allowed, then reasons are not told. */
static int events_open(const struct ctl_args *args)
{
	_cleanup_(free_ptr) char *path = NULL, *old = NULL;
	int fd = -1;

	if (asprintf(&path, "%s/" IOTHUB_FILE_EVENTS, args->mount) < 0)
		path = NULL;
	if (path)
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	events_read(fd, &old);
	return fd;
}

/* --- the time --------------------------------------------------------------------------------- */

static void on_alarm(int signo)
{
	(void)signo;
}

/* Ends a system call that waits when the time is over. */
static void timer_start(uint64_t timeout_ns)
{
	const struct sigaction action = {.sa_handler = on_alarm};
	const struct itimerval timer = {
		.it_value = {.tv_sec = (time_t)(timeout_ns / NSEC_PER_SEC),
			     .tv_usec = (suseconds_t)(timeout_ns % NSEC_PER_SEC / NSEC_PER_USEC) + 1},
		.it_interval = {.tv_usec = TICK_USEC},
	};

	if (timeout_ns == TIME_NEVER)
		return;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

/* --- what went wrong -------------------------------------------------------------------------- */

static int say_other_version(const struct ctl_args *args)
{
	_cleanup_(buf_deinit) struct buf text;
	int code = ctl_read_file(args, IOTHUB_DIR_TWIN "/" IOTHUB_FILE_TWIN_REPORTED_VERSION, &text);
	const char *number = code ? NULL : (const char *)buf_bytes(&text).data;
	uint64_t version = number ? strtoull(number, NULL, 10) : 0;

	if (version && version != args->if_version)
		fprintf(stderr,
			"iothubctl: the reported properties have version %" PRIu64 ", not %" PRIu64
			"; nothing was changed\n",
			version, args->if_version);
	else
		fprintf(stderr,
			"iothubctl: the reported properties have another version than %" PRIu64
			"; nothing was changed\n",
			args->if_version);
	return CTL_OTHER_VERSION;
}

static int say_failed(const struct ctl_args *args, int error, int events)
{
	_cleanup_(free_ptr) char *reason = NULL;

	if (error == ESTALE && args->if_version)
		return say_other_version(args);
	/* Ours is the time that is over, or somebody stopped this program for a while. */
	if (error == ETIMEDOUT || error == EINTR) {
		fputs("iothubctl: the hub has not answered in time; the patch stays on its way, see "
		      "iothubctl "
		      "status\n",
		      stderr);
		return CTL_TIMED_OUT;
	}
	events_read(events, &reason);
	if (reason)
		fprintf(stderr, "iothubctl: refused: %s\n", reason);
	else if (error == EINVAL || error == EMSGSIZE)
		fprintf(stderr, "iothubctl: refused: %s; why is in the last lines of iothubctl events\n",
			strerror(error));
	else
		return ctl_say(args, REPORTED, error);
	return error == EINVAL || error == EMSGSIZE ? CTL_REFUSED : CTL_FAILED;
}

static void timer_stop(void)
{
	const struct itimerval timer = {.it_value = {0}};

	setitimer(ITIMER_REAL, &timer, NULL);
}

/* --- the patch -------------------------------------------------------------------------------- */

/* Returns 0 or a negative errno. */
static int patch_write(const struct ctl_args *args, int fd, struct bytes text)
{
	const __u64 if_version = args->if_version;
	ssize_t n = 0;
	int r = 0;

	if (if_version && ioctl(fd, IOTHUB_IOC_TWIN_SET_IF_VERSION, &if_version) < 0)
		return -errno;
	timer_start(args->timeout_ns);
	for (; !r && text.len; text = BYTES(text.data + n, text.len - (size_t)n)) {
		n = write(fd, text.data, text.len);
		if (n < 0) {
			r = -errno;
			n = 0;
		}
	}
	timer_stop();
	return r;
}

static int patch_send(const struct ctl_args *args, struct bytes text)
{
	bool waits = !(args->options & CTL_OPTION_NO_WAIT);
	_cleanup_(close_fd) int events = -1;
	_cleanup_(close_fd) int fd = -1;
	int code = ctl_open(args, REPORTED, O_WRONLY | (waits ? O_SYNC : 0), &fd);
	__u64 version;
	int r;

	if (code)
		return code;
	events = events_open(args);
	r = patch_write(args, fd, text);
	if (r)
		return say_failed(args, -r, events);
	if (waits && ioctl(fd, IOTHUB_IOC_TWIN_GET_VERSION, &version) < 0)
		return ctl_say(args, REPORTED, errno);
	if (waits)
		printf("%" PRIu64 "\n", (uint64_t)version);
	return CTL_DONE;
}

static int run_patch(const struct ctl_args *args)
{
	_cleanup_(buf_deinit) struct buf text;
	int code;

	buf_init(&text, TEXT_MAX_BYTES + 1);
	if (args->options & CTL_OPTION_NO_WAIT &&
	    args->options & (CTL_OPTION_IF_VERSION | CTL_OPTION_TIMEOUT))
		return ctl_wrong(args->verb,
				 "--if-version and --timeout are for who waits, not with --no-wait");
	code = text_get(args, &text);
	if (!code)
		code = text_check(&text);
	return code ? code : patch_send(args, BYTES(buf_bytes(&text).data, buf_len(&text) - 1));
}

const struct ctl_verb ctl_verb_twin_patch = {
	.name = "twin patch",
	.words = "JSON | --file FILE | -",
	.what = "change reported properties",
	.help = "Merges a JSON object into the reported properties (RFC 7396: null removes), waits for the\n"
		"hub, and prints their new version. Exit code 4: the hub has not answered in time, and the\n"
		"patch stays on its way; 7: another version; 8: refused, with the reason.\n"
		"\n"
		"  -                    the object is on standard input\n"
		"  --file FILE          the object is in this file\n"
		"  --if-version N       only if the reported properties have this version\n"
		"  --no-wait            do not wait for the hub, print nothing\n"
		"  --timeout SECONDS    how long to wait; default as long as iothubd does "
		"(\"ack-timeout\")\n",
	.options = CTL_OPTION_FILE | CTL_OPTION_IF_VERSION | CTL_OPTION_NO_WAIT | CTL_OPTION_TIMEOUT,
	.n_words_max = 1,
	.run = run_patch,
};
