/* SPDX-License-Identifier: MIT */
/*
 * Listening; see listen.h. What one read brought is printed with one flush, so a line is never held back
 * while there is nothing else to do, and a fast stream does not cost a write(2) each.
 *
 * A device's name may have characters that no topic filter may have. Then everything is subscribed to, and
 * what is not the device's is passed over here.
 */

#include "listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "session.h"

#define WAIT_MS 60000

const struct option listen_options[] = {
	LISTEN_OPTIONS,
	{NULL, 0, NULL, 0},
};

struct listener {
	const struct listen *listen;
	uint64_t n_printed;
	bool is_filtered_here;
	bool is_done;
};

int listen_apply(void *own, int id, const char *value)
{
	struct listen *l = own;
	uint64_t number;

	switch (id) {
	case 'd':
		l->device = value;
		return args_is_device(value) ? 0 : -EINVAL;
	case 'n':
		return args_number(value, UINT64_MAX, &l->n_wanted) == 0 && l->n_wanted > 0 ? 0 : -EINVAL;
	case 'r':
		if (args_number(value, INT32_MAX, &number) < 0)
			return -EINVAL;
		l->ready_fd = (int)number;
		return 0;
	case 'q':
		l->quiet = true;
		return 0;
	default:
		return -EINVAL;
	}
}

static bool is_number(const char *name)
{
	static const char *const names[] = {"version", "sequence-no", "delivery-count", "dropped"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

json_object *listen_properties(const mosquitto_property *properties)
{
	json_object *object = json_object_new_object();
	const mosquitto_property *p = properties;
	char *name, *value;
	bool is_later = false;

	while (object && (p = mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &value,
								  is_later))) {
		is_later = true;
		json_object_object_add(object, name,
				       is_number(name) ? json_object_new_uint64(strtoull(value, NULL, 10))
						       : json_object_new_string(value));
		free(name);
		free(value);
	}
	return object;
}

/* --- messages --------------------------------------------------------------------------------- */

static const char *member(json_object *json, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(json, name, &value) ? json_object_get_string(value) : "";
}

/* Whether it is of the device that is wanted, or of a module of it. */
static bool is_wanted(const struct listener *l, json_object *json)
{
	const char *id = member(json, "device-id"), *wanted = l->listen->device;
	size_t len = strlen(id);

	if (!l->is_filtered_here)
		return true;
	return strncmp(wanted, id, len) == 0 &&
	       (!wanted[len] ||
		(wanted[len] == '/' && strcmp(wanted + len + 1, member(json, "module-id")) == 0));
}

static void line_print(struct session *s, struct listener *l, struct bytes line)
{
	if (fwrite(line.data, 1, line.len, stdout) != line.len || putchar('\n') == EOF)
		session_fail(s, "standard output: %s", strerror(errno));
	else if (++l->n_printed == l->listen->n_wanted)
		l->is_done = true;
}

static void on_message(struct session *s, const struct mosquitto_message *message,
		       const mosquitto_property *properties)
{
	struct listener *l = s->userdata;
	json_object *json;
	const char *text;
	size_t len;

	if (l->is_done)
		return;
	json = l->listen->convert(BYTES(message->payload, (size_t)message->payloadlen), properties);
	text = json ? json_object_to_json_string_length(
			      json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len)
		    : NULL;
	if (!text)
		session_fail(s, "out of memory");
	else if (is_wanted(l, json))
		line_print(s, l, BYTES(text, len));
	json_object_put(json);
}

/* --- life ------------------------------------------------------------------------------------- */

static int tell_ready(struct session *s, const struct listen *l)
{
	int fd = l->ready_fd, r = 0;

	if (!l->quiet)
		fprintf(stderr, "%s %s on %s\n", l->start, l->device ? l->device : "all devices",
			s->target.host);
	if (fd >= 0 && write(fd, "ready\n", 6) != 6)
		r = session_fail(s, "--ready-fd %d: %s", fd, strerror(errno));
	close_fd(&fd);
	return r;
}

int listen_run(const struct args *args, void *own)
{
	struct listen *listen = own;
	struct listener l = {.listen = listen};
	struct session s;
	int r = session_open(&s, args);

	if (!listen->device)
		listen->device = args->words[0];
	s.on_message = on_message;
	s.userdata = &l;
	if (r == 0)
		r = session_subscribe_device(&s, listen->topic, listen->device);
	l.is_filtered_here = r == 1;
	if (r >= 0)
		r = tell_ready(&s, listen);
	while (r == 0 && !l.is_done) {
		r = session_turn(&s, WAIT_MS);
		if (fflush(stdout) == EOF)
			r = session_fail(&s, "standard output: %s", strerror(errno));
	}
	session_close(&s);
	return r == 0 || r == -EINTR ? 0 : 1;
}
