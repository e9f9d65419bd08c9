/* SPDX-License-Identifier: MIT */
/*
 * The connection, its waiting and its errors; see session.h.
 *
 * One thread: poll(2) on the connection and on a signalfd. Callbacks of libmosquitto only note what came; the
 * function that waits for it looks. Responses come to a topic of their own and are matched by Correlation Data, a
 * counter: that of the request somebody waits for, or else the owner's of those that were posted.
 *
 * Only finding the address and TCP's handshake block inside libmosquitto. A timer bounds them: its signal
 * handler writes the line that comes with the signal and ends the process.
 */

#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "base/time.h"

#define TOPIC_RESPONSES "$service/responses"
#define POLL_MS_MAX     UINT64_C(1000) /* libmosquitto sends its pings from mosquitto_loop_misc() */
#define FIRST_ERROR     0x80           /* of MQTT's reason codes */
#define TOPIC_MAX       (ARGS_DEVICE_MAX + 64)

/* --- errors ----------------------------------------------------------------------------------- */

int session_fail(struct session *s, const char *fmt, ...)
{
	va_list list;

	if (s->state == SESSION_FAILED)
		return -EIO;
	s->state = SESSION_FAILED;
	fflush(stdout);
	fputs("hubctl: ", stderr);
	va_start(list, fmt);
	vfprintf(stderr, fmt, list);
	va_end(list);
	fputc('\n', stderr);
	return -EIO;
}

bool session_property(const mosquitto_property *properties, const char *name, char *out, size_t size)
{
	const mosquitto_property *p = properties;
	bool is_found = false, is_later = false;
	char *key, *value;

	while (!is_found && (p = mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &key, &value,
								     is_later))) {
		is_later = true;
		is_found = strcmp(key, name) == 0;
		if (is_found)
			snprintf(out, size, "%s", value);
		free(key);
		free(value);
	}
	return is_found;
}

void session_outcome_format(const mosquitto_property *properties, char *out, size_t size)
{
	char status[SESSION_STATUS_MAX], reason[SESSION_TEXT_MAX] = "";

	out[0] = '\0';
	if (!session_property(properties, "status", status, sizeof(status)))
		return;
	session_property(properties, "reason", reason, sizeof(reason));
	snprintf(out, size, " (status %s%s%s)", status, reason[0] ? ": " : "", reason);
}

/* What OpenSSL said, in words that tell what to do, or NULL when it said nothing. */
static const char *tls_problem(const struct session *s)
{
	if (strstr(s->tls_error, "certificate verify failed"))
		return "its certificate is not trusted; name the right CA with --ca-file";
	/* It went without a word, which is no matter of TLS. */
	if (strstr(s->tls_error, "unexpected eof"))
		return NULL;
	return s->tls_error[0] ? s->tls_error : NULL;
}

/* --- callbacks -------------------------------------------------------------------------------- */

static void on_connect(struct mosquitto *client, void *userdata, int code, int flags,
		       const mosquitto_property *properties)
{
	struct session *s = userdata;
	char outcome[SESSION_TEXT_MAX];

	(void)client;
	(void)flags;
	session_outcome_format(properties, outcome, sizeof(outcome));
	if (code)
		session_fail(s, "%s refused the connection: %s%s", s->target.host,
			     mosquitto_reason_string(code), outcome);
	else if (s->state == SESSION_CONNECTING)
		s->state = SESSION_OPEN;
}

static void on_subscribe(struct mosquitto *client, void *userdata, int mid, int n_granted, const int *granted,
			 const mosquitto_property *properties)
{
	struct session *s = userdata;

	(void)client;
	(void)mid;
	(void)properties;
	if (n_granted < 1 || granted[0] >= FIRST_ERROR)
		session_fail(s, "%s refused the subscription to %s: %s", s->target.host, s->filter,
			     n_granted < 1 ? "no answer for it" : mosquitto_reason_string(granted[0]));
	else
		s->is_answered = true;
}

/* The number of the request that is answered; 0 for none of ours. */
static uint64_t number_of(const mosquitto_property *properties)
{
	_cleanup_(free_ptr) void *data = NULL;
	uint64_t number = 0;
	uint16_t len = 0;

	if (mosquitto_property_read_binary(properties, MQTT_PROP_CORRELATION_DATA, &data, &len, false) &&
	    len == sizeof(number))
		memcpy(&number, data, len);
	return number;
}

static int reply_fill(struct session *s, struct session_reply *reply, const struct mosquitto_message *message,
		      const mosquitto_property *properties)
{
	size_t len = (size_t)message->payloadlen;

	reply->payload = malloc(len + 1);
	if (!reply->payload ||
	    (properties && mosquitto_property_copy_all(&reply->properties, properties) != MOSQ_ERR_SUCCESS))
		return session_fail(s, "out of memory");
	if (len)
		memcpy(reply->payload, message->payload, len);
	((char *)reply->payload)[len] = '\0';
	reply->payload_len = len;
	session_property(properties, "status", reply->status, sizeof(reply->status));
	session_property(properties, "reason", reply->reason, sizeof(reply->reason));
	session_property(properties, "trace-id", reply->trace_id, sizeof(reply->trace_id));
	reply->is_here = true;
	return 0;
}

static void on_response(struct session *s, const struct mosquitto_message *message,
			const mosquitto_property *properties)
{
	uint64_t number = number_of(properties);
	struct session_reply reply = {.is_here = false}, *waiting = s->reply;

	if (waiting && number == s->number) {
		s->reply = NULL;
		reply_fill(s, waiting, message, properties);
	} else if (s->on_reply && number > 0 && number <= s->number && s->state == SESSION_OPEN) {
		if (reply_fill(s, &reply, message, properties) == 0)
			s->on_reply(s, number, &reply);
		session_reply_deinit(&reply);
	}
}

static void on_message(struct mosquitto *client, void *userdata, const struct mosquitto_message *message,
		       const mosquitto_property *properties)
{
	struct session *s = userdata;

	(void)client;
	if (strcmp(message->topic, TOPIC_RESPONSES) != 0) {
		if (s->on_message && s->state == SESSION_OPEN)
			s->on_message(s, message, properties);
	} else {
		on_response(s, message, properties);
	}
}

static void on_disconnect(struct mosquitto *client, void *userdata, int code,
			  const mosquitto_property *properties)
{
	struct session *s = userdata;
	char outcome[SESSION_TEXT_MAX];

	(void)client;
	session_outcome_format(properties, outcome, sizeof(outcome));
	if (s->state == SESSION_CLOSED)
		return;
	if (tls_problem(s))
		session_fail(s, "%s: %s", s->target.host, tls_problem(s));
	else if (code >= FIRST_ERROR)
		session_fail(s, "%s ended the connection: %s%s", s->target.host,
			     mosquitto_reason_string(code), outcome);
	else
		session_fail(s, "the connection to %s was lost", s->target.host);
}

static void on_log(struct mosquitto *client, void *userdata, int level, const char *text)
{
	struct session *s = userdata;

	(void)client;
	if (level == MOSQ_LOG_ERR && !s->tls_error[0] && (strstr(text, "SSL") || strstr(text, "host name")))
		snprintf(s->tls_error, sizeof(s->tls_error), "%s", text);
}

/* --- waiting ---------------------------------------------------------------------------------- */

uint64_t session_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * MSEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

int session_turn(struct session *s, uint64_t timeout_ms)
{
	struct pollfd fds[] = {
		{.fd = mosquitto_socket(s->client), .events = POLLIN},
		{.fd = s->signal_fd, .events = POLLIN},
		{.fd = s->input_fd, .events = POLLIN},
	};
	int r = MOSQ_ERR_SUCCESS;

	if (s->state == SESSION_FAILED)
		return -EIO;
	if (mosquitto_want_write(s->client))
		fds[0].events |= POLLOUT;
	if (timeout_ms > POLL_MS_MAX)
		timeout_ms = POLL_MS_MAX;
	if (poll(fds, ARRAY_SIZE(fds), (int)timeout_ms) < 0 && errno != EINTR)
		return session_fail(s, "poll: %s", strerror(errno));
	if (fds[1].revents)
		return -EINTR;
	s->is_input_ready = fds[2].revents != 0;
	if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		r = mosquitto_loop_read(s->client, 1);
	if (r == MOSQ_ERR_SUCCESS && fds[0].revents & POLLOUT)
		r = mosquitto_loop_write(s->client, 1);
	if (r == MOSQ_ERR_SUCCESS)
		r = mosquitto_loop_misc(s->client);
	if (r != MOSQ_ERR_SUCCESS)
		return session_fail(s, "the connection to %s was lost: %s", s->target.host,
				    tls_problem(s) ? tls_problem(s) : mosquitto_strerror(r));
	return s->state == SESSION_FAILED ? -EIO : 0;
}

static bool is_open(const struct session *s)
{
	return s->state == SESSION_OPEN;
}

static bool is_subscribed(const struct session *s)
{
	return s->is_answered;
}

static bool is_replied(const struct session *s)
{
	return !s->reply;
}

int session_fail_late(struct session *s, const char *what)
{
	return session_fail(s, "%s did not %s within %" PRIu64 ".%" PRIu64 " s", s->target.host, what,
			    s->timeout_ms / MSEC_PER_SEC, s->timeout_ms % MSEC_PER_SEC / 100);
}

/* Takes what comes until @is_done. @what is what the hub did not do in time. */
static int wait_until(struct session *s, bool (*is_done)(const struct session *s), const char *what)
{
	uint64_t deadline_ms = session_now_ms() + s->timeout_ms, at_ms;

	while (!is_done(s)) {
		int r;

		at_ms = session_now_ms();
		if (at_ms >= deadline_ms)
			return session_fail_late(s, what);
		r = session_turn(s, deadline_ms - at_ms);
		if (r == -EINTR)
			return session_fail(s, "interrupted");
		if (r < 0)
			return r;
	}
	return s->state == SESSION_FAILED ? -EIO : 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static int signals_open(struct session *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
		s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	return s->signal_fd < 0 ? session_fail(s, "signals: %s", strerror(errno)) : 0;
}

static void on_alarm(int signo, siginfo_t *info, void *context)
{
	const char *line = info->si_value.sival_ptr;

	(void)signo;
	(void)context;
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		_exit(1);
	_exit(1);
}

/* mosquitto_connect() and its like, with an end. */
static int connect_bounded(struct session *s)
{
	struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO};
	struct itimerspec when = {
		.it_value = {.tv_sec = (time_t)(s->timeout_ms / MSEC_PER_SEC),
			     .tv_nsec = (long)(s->timeout_ms % MSEC_PER_SEC * NSEC_PER_MSEC)}};
	char line[SESSION_TEXT_MAX + 64], error[SERVICE_ERROR_MAX];
	struct sigevent event = {
		.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM, .sigev_value = {.sival_ptr = line}};
	timer_t timer;
	int r;

	snprintf(line, sizeof(line), "hubctl: %s:%u cannot be reached within %g s\n", s->target.host,
		 s->target.port, (double)s->timeout_ms / MSEC_PER_SEC);
	sigaction(SIGALRM, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		return session_fail(s, "timer: %s", strerror(errno));
	timer_settime(timer, 0, &when, NULL);
	r = service_client_connect(s->client, &s->target, error);
	timer_delete(timer);
	if (r < 0)
		session_fail(s, "%s%s%s", error, tls_problem(s) ? ": " : "",
			     tls_problem(s) ? tls_problem(s) : "");
	return r < 0 ? -EIO : 0;
}

int session_open(struct session *s, const struct args *args)
{
	char error[SERVICE_ERROR_MAX];
	int r;

	*s = (struct session){.signal_fd = -1, .input_fd = -1, .timeout_ms = args->timeout_ms};
	if (service_target_read(&s->target, args->connection_string_file, args->ca_file, error) < 0)
		return session_fail(s, "%s", error);
	signal(SIGPIPE, SIG_IGN);
	mosquitto_lib_init();
	if (service_client_new(&s->client, &s->target, s, error) < 0)
		return session_fail(s, "%s", error);
	mosquitto_connect_v5_callback_set(s->client, on_connect);
	mosquitto_subscribe_v5_callback_set(s->client, on_subscribe);
	mosquitto_message_v5_callback_set(s->client, on_message);
	mosquitto_disconnect_v5_callback_set(s->client, on_disconnect);
	mosquitto_log_callback_set(s->client, on_log);
	s->state = SESSION_CONNECTING;
	r = connect_bounded(s);
	if (r == 0)
		r = signals_open(s);
	return r < 0 ? r : wait_until(s, is_open, "take the connection");
}

void session_close(struct session *s)
{
	bool was_open = s->state == SESSION_OPEN;

	s->state = SESSION_CLOSED;
	if (s->client) {
		if (was_open)
			mosquitto_disconnect_v5(s->client, 0, NULL);
		mosquitto_destroy(s->client);
		mosquitto_lib_cleanup();
	}
	s->client = NULL;
	close_fd(&s->signal_fd);
	service_target_wipe(&s->target);
}

/* --- operations ------------------------------------------------------------------------------- */

int session_subscribe(struct session *s, const char *filter)
{
	int r;

	s->filter = filter;
	s->is_answered = false;
	r = mosquitto_subscribe_v5(s->client, NULL, filter, 0, 0, NULL);
	if (r != MOSQ_ERR_SUCCESS)
		return session_fail(s, "cannot subscribe to %s: %s", filter, mosquitto_strerror(r));
	return wait_until(s, is_subscribed, "answer the subscription");
}

int session_subscribe_device(struct session *s, const char *topic, const char *device)
{
	char filter[TOPIC_MAX];
	bool is_broad = device && strpbrk(device, "+#");
	int r;

	if (is_broad)
		device = NULL;
	snprintf(filter, sizeof(filter), "%s%s%s", topic, device ? "/" : "", device ? device : "");
	r = session_subscribe(s, filter);
	return r < 0 ? r : is_broad;
}

int session_post(struct session *s, const char *topic, struct bytes payload,
		 mosquitto_property *properties_take)
{
	mosquitto_property *properties = properties_take;
	int r;

	s->number++;
	r = mosquitto_property_add_binary(&properties, MQTT_PROP_CORRELATION_DATA, &s->number,
					  sizeof(s->number));
	if (r == MOSQ_ERR_SUCCESS)
		r = mosquitto_publish_v5(s->client, NULL, topic, (int)payload.len, payload.data, 0, false,
					 properties);
	mosquitto_property_free_all(&properties);
	if (r == MOSQ_ERR_OVERSIZE_PACKET || r == MOSQ_ERR_PAYLOAD_SIZE)
		return session_fail(s, "that is more than %s takes in one packet", s->target.host);
	if (r != MOSQ_ERR_SUCCESS)
		return session_fail(s, "cannot send to %s: %s", s->target.host, mosquitto_strerror(r));
	return 0;
}

int session_request(struct session *s, const char *topic, struct bytes payload,
		    mosquitto_property *properties_take, struct session_reply *reply)
{
	int r;

	*reply = (struct session_reply){.is_here = false};
	s->reply = reply;
	r = session_post(s, topic, payload, properties_take);
	if (r == 0)
		r = wait_until(s, is_replied, "answer");
	s->reply = NULL;
	if (r < 0)
		return r;
	return session_reply_is_error(reply) ? -EREMOTEIO : 0;
}

/* --- replies ---------------------------------------------------------------------------------- */

bool session_reply_is_error(const struct session_reply *reply)
{
	return reply->status[0] && strcmp(reply->status, "0001") != 0;
}

void session_reply_deinit(struct session_reply *reply)
{
	free(reply->payload);
	mosquitto_property_free_all(&reply->properties);
	*reply = (struct session_reply){.is_here = false};
}
