/* SPDX-License-Identifier: MIT */
/*
 * Direct methods: each program of a directory is one.
 *
 * A method has as many workers as may run at a time, each with `methods/<name>/call` open; one open is one call. The
 * directory is made when it is missing, also when somebody removed it meanwhile, and is removed in the end if it
 * was made here. The answer is one write: `200 <output>` after exit code 0, else `500 <output>`.
 *
 * A method whose program was removed is leaving: it goes when its workers have stopped.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "crew.h"
#include "handlers.h"
#include "iothub.h"
#include "modes.h"

#define CODE_DONE   200
#define CODE_FAILED 500

struct methods_mode {
	struct crew crew;
	struct list list; /* of methods */
};

struct served {
	struct list link;
	struct handlers *handlers; /* the program is one of them */
	const struct handler *handler;
	char *dir, *call; /* paths below the mount */
	bool is_made;     /* the directory was made here */
	bool is_leaving;
	unsigned int n_workers; /* those that leave included */
	struct log_once once;
};

struct method_worker {
	struct worker worker;
	struct served *method;
};

static struct served *method_of(struct worker *w)
{
	return container_of(w, struct method_worker, worker)->method;
}

/* --- a call ----------------------------------------------------------------------------------- */

static int method_open_call(struct worker *w)
{
	struct served *method = method_of(w);
	int fd = open(method->call, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT)
		return fd >= 0 ? fd : -errno;
	if (mkdir(method->dir, 0777) == 0) {
		method->is_made = true;
	} else if (errno == EINVAL) {
		log_write_once(&w->crew->log, w->once, LOG_LEVEL_ERROR, "%s: no method can have this name",
			       method->handler->path);
		return -EINVAL;
	} else if (errno != EEXIST) {
		return -errno;
	}
	fd = open(method->call, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return fd >= 0 ? fd : -errno;
}

/* One write, whole or not at all. Returns 0 or a negative errno. */
static int answer_write(int fd, unsigned int code, struct bytes payload)
{
	_cleanup_(free_ptr) char *text = malloc(16 + payload.len);
	int n;

	if (!text)
		return -ENOMEM;
	n = snprintf(text, 16, "%u ", code);
	if (payload.len)
		memcpy(text + n, payload.data, payload.len);
	return write(fd, text, (size_t)n + payload.len) < 0 ? -errno : 0;
}

static int answer(struct worker *w, unsigned int code, struct bytes payload)
{
	struct log *log = &w->crew->log;
	const char *name = method_of(w)->handler->name;
	int r = answer_write(w->fd, code, payload);

	if (r == -EMSGSIZE) {
		log_warning(log, "%s: the hub takes no answer of %zu bytes", name, payload.len);
		r = answer_write(w->fd, CODE_FAILED, BYTES(NULL, 0));
	}
	if (r < 0)
		log_warning(log, "%s: the answer was not sent: %s", name, strerror(-r));
	return r;
}

static int call_start(struct worker *w, struct bytes request)
{
	struct served *method = method_of(w);
	char *argv[] = {method->handler->path, NULL};
	struct child_spec spec = {
		.path = method->handler->path,
		.argv = argv,
		.input = request,
		.capture = true,
		.output_bytes_max = w->crew->options->response_bytes_max,
	};
	struct environment env;
	int r = crew_environment(w->crew, &env);

	if (r == 0)
		r = environment_set(&env, "IOTHUB_METHOD", method->handler->name,
				    strlen(method->handler->name));
	spec.envp = env.vars;
	if (r == 0)
		r = worker_run(w, &spec);
	environment_deinit(&env);
	return r;
}

static enum worker_next method_on_input(struct worker *w, bool at_end)
{
	struct bytes request = buf_bytes(&w->input);
	int r;

	if (!at_end)
		return NEXT_INPUT;
	r = call_start(w, request);
	buf_consume(&w->input, request.len);
	if (r == 0)
		return NEXT_RUN;
	log_error(&w->crew->log, "%s: not started: %s", method_of(w)->handler->name, strerror(-r));
	answer(w, CODE_FAILED, BYTES(NULL, 0));
	return NEXT_PAUSE;
}

static enum worker_next method_on_end(struct worker *w)
{
	const char *name = method_of(w)->handler->name;
	bool is_done = child_succeeded(&w->child) && !w->child.too_long;
	char how[64];

	child_describe(&w->child, how, sizeof(how));
	if (w->child.too_long)
		log_warning(&w->crew->log, "%s: %s, with more than %zu bytes of output", name, how,
			    w->crew->options->response_bytes_max);
	else if (!is_done)
		log_warning(&w->crew->log, "%s: %s", name, how);
	else
		log_debug(&w->crew->log, "%s: %s, %zu bytes of output", name, how, buf_len(&w->child.output));
	/* Too late, or refused: it is over, and the next call may come. */
	if (is_daemon_gone(answer(w, is_done ? CODE_DONE : CODE_FAILED, buf_bytes(&w->child.output))))
		return NEXT_PAUSE;
	return NEXT_OPEN;
}

/* --- workers ---------------------------------------------------------------------------------- */

static void method_worker_free(struct worker *w)
{
	struct method_worker *mw = container_of(w, struct method_worker, worker);

	worker_deinit(w);
	mw->method->n_workers--;
	free(mw);
}

static const struct worker_ops method_ops = {
	.open = method_open_call,
	.on_input = method_on_input,
	.on_end = method_on_end,
	.free = method_worker_free,
	.input_bytes_max = IOTHUB_PACKET_BYTES_MAX,
};

static void method_leave(struct methods_mode *m, struct served *method)
{
	list_for_each_safe (l, &m->crew.workers) {
		struct worker *w = container_of(l, struct worker, link);

		if (method_of(w) == method)
			worker_leave(w, TIME_NEVER);
	}
}

/* As many workers that stay as there are to be. */
static void method_staff(struct methods_mode *m, struct served *method)
{
	unsigned int n = 0;

	list_for_each (l, &m->crew.workers) {
		struct worker *w = container_of(l, struct worker, link);

		n += method_of(w) == method && !w->is_leaving;
	}
	for (; n < m->crew.options->n_jobs; n++) {
		struct method_worker *mw = calloc(1, sizeof(*mw));

		if (!mw) {
			log_error(&m->crew.log, "%s: out of memory", method->handler->name);
			return;
		}
		mw->method = method;
		method->n_workers++;
		worker_init(&mw->worker, &m->crew, &method_ops, method->call, &method->once);
	}
}

/* --- methods ---------------------------------------------------------------------------------- */

static void method_free(struct served *method)
{
	list_remove(&method->link);
	if (method->is_made && method->dir)
		rmdir(method->dir);
	handlers_unref(method->handlers);
	free(method->dir);
	free(method->call);
	free(method);
}

static struct served *method_new(struct methods_mode *m, const char *name)
{
	struct served *method = calloc(1, sizeof(*method));

	if (!method)
		return NULL;
	list_init(&method->link);
	if (asprintf(&method->dir, "%s/" IOTHUB_DIR_METHODS "/%s", m->crew.options->mount, name) < 0)
		method->dir = NULL;
	if (!method->dir || asprintf(&method->call, "%s/" IOTHUB_FILE_METHOD_CALL, method->dir) < 0)
		method->call = NULL;
	if (!method->call) {
		method_free(method);
		return NULL;
	}
	list_append(&m->list, &method->link);
	return method;
}

static struct served *method_find(struct methods_mode *m, const char *name)
{
	list_for_each (l, &m->list) {
		struct served *method = container_of(l, struct served, link);

		if (strcmp(method->handler->name, name) == 0)
			return method;
	}
	return NULL;
}

/* Serves one, which may be there already, or be leaving. */
static void method_serve(struct methods_mode *m, struct handlers *handlers, const struct handler *handler)
{
	struct served *method = method_find(m, handler->name);

	if (!method)
		method = method_new(m, handler->name);
	if (!method) {
		log_error(&m->crew.log, "%s: out of memory", handler->name);
		return;
	}
	handlers_ref(handlers);
	handlers_unref(method->handlers);
	method->handlers = handlers;
	method->handler = handler;
	method->is_leaving = false;
	method_staff(m, method);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void methods_tidy(struct crew *crew)
{
	struct methods_mode *m = container_of(crew, struct methods_mode, crew);

	list_for_each_safe (l, &m->list) {
		struct served *method = container_of(l, struct served, link);

		if (method->n_workers == 0 && (method->is_leaving || crew->state != CREW_SERVING))
			method_free(method);
	}
}

static int methods_load(struct crew *crew)
{
	struct methods_mode *m = container_of(crew, struct methods_mode, crew);
	struct handlers *handlers;
	int r = handlers_load(&handlers, crew->options->program[0], &crew->log);

	if (r < 0)
		return r;
	if (handlers->n == 0)
		log_warning(&crew->log, "%s: there is no program in it", crew->options->program[0]);
	list_for_each (l, &m->list)
		container_of(l, struct served, link)->is_leaving = true;
	for (size_t i = 0; i < handlers->n; i++)
		method_serve(m, handlers, &handlers->list[i]);
	handlers_unref(handlers);
	list_for_each (l, &m->list) {
		struct served *method = container_of(l, struct served, link);

		if (method->is_leaving)
			method_leave(m, method);
	}
	methods_tidy(crew);
	return 0;
}

int run_methods(const struct run_options *options)
{
	static const struct crew_ops ops = {.load = methods_load, .tidy = methods_tidy};
	struct methods_mode m;
	int code = 1;

	list_init(&m.list);
	if (crew_init(&m.crew, options, &ops) == 0)
		code = crew_run(&m.crew);
	crew_deinit(&m.crew);
	list_for_each_safe (l, &m.list)
		method_free(container_of(l, struct served, link));
	return code;
}
