/* SPDX-License-Identifier: MIT */
/*
 * Commands: one program, or those of a directory one after the other, for each.
 *
 * A worker has `commands/stream` open and reads a line, which is a command that is then its. It is settled when the
 * last program has ended: by writing `complete` or `reject` to its file `settle`, and abandoned by closing the
 * stream, which is also what the kernel does when we are killed. After an abandoned command its worker pauses, or a
 * program that always fails would keep the hub busy.
 *
 * `settle` is opened before the first program starts: numbers repeat when the hub is set up anew, and the directory of
 * that number belongs to the newest command, but a file that is open stays with its own.
 *
 * The daemon's end abandons all commands. Programs that run then go on to their end; until the last of them has come to
 * it no command is taken, so that none is run twice at a time. What they decided is remembered, and given when the
 * hub delivers the command again, instead of running it once more.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "crew.h"
#include "delivery.h"
#include "handlers.h"
#include "iothub.h"
#include "modes.h"

/* A line: payload and properties of the largest packet, where JSON makes six characters of a control character. */
#define LINE_BYTES_MAX (6 * IOTHUB_PACKET_BYTES_MAX + 65536)

enum verdict {
	VERDICT_COMPLETE,
	VERDICT_ABANDON,
	VERDICT_REJECT,
};

/* What the programs of a command decided that could not be settled then. */
struct decision {
	struct list link;
	uint64_t sequence_no;
	char enqueued_time[DELIVERY_TIME_MAX + 1];
	enum verdict verdict; /* COMPLETE or REJECT */
};

struct commands_mode {
	struct crew crew;
	char *stream, *dir;        /* paths */
	struct handlers *handlers; /* those of the next command */
	struct log_once once;
	struct list decisions; /* the oldest first; at most as many as there are workers */
};

struct command_worker {
	struct worker worker;
	struct commands_mode *mode;
	struct delivery delivery;
	struct environment env;
	struct handlers *handlers; /* of this command */
	size_t next;               /* the program after the one that runs */
	int settle;                /* its file; -1: it has none any more, and only the stream decides */
};

static struct command_worker *command_worker_of(struct worker *w)
{
	return container_of(w, struct command_worker, worker);
}

/* --- decisions that could not be given -------------------------------------------------------- */

static void decision_free(struct decision *decision)
{
	list_remove(&decision->link);
	free(decision);
}

/* As many as there are workers: a command that never comes back makes room in the end. */
static void decision_keep(struct commands_mode *m, const struct delivery *delivery, enum verdict verdict)
{
	struct decision *decision = calloc(1, sizeof(*decision));
	unsigned int n = 0;

	if (!decision)
		return;
	list_init(&decision->link);
	list_append(&m->decisions, &decision->link);
	decision->sequence_no = delivery->sequence_no;
	strcpy(decision->enqueued_time, delivery->enqueued_time);
	decision->verdict = verdict;
	list_for_each (l, &m->decisions)
		n++;
	if (n > m->crew.options->n_jobs)
		decision_free(container_of(list_first(&m->decisions), struct decision, link));
}

/* Takes the decision about this command, if there is one. */
static bool decision_take(struct commands_mode *m, const struct delivery *delivery, enum verdict *verdict)
{
	list_for_each (l, &m->decisions) {
		struct decision *decision = container_of(l, struct decision, link);

		if (decision->sequence_no != delivery->sequence_no ||
		    strcmp(decision->enqueued_time, delivery->enqueued_time) != 0)
			continue;
		*verdict = decision->verdict;
		decision_free(decision);
		return true;
	}
	return false;
}

/* --- settling --------------------------------------------------------------------------------- */

/*
 * Opens the command's file `settle`. Between its line and this the directory may have become that of a newer command:
 * its `properties.json` says so. Then there is no file for ours, which is nothing to the hub any more. Returns 0 or a
 * negative errno: -ENOENT, somebody else has decided.
 */
static int settle_open(struct command_worker *c)
{
	_cleanup_(close_fd) int dir = -1, fd = -1, properties = -1;
	_cleanup_(free_ptr) char *path = NULL;
	int r;

	if (asprintf(&path, "%s/%" PRIu64, c->mode->dir, c->delivery.sequence_no) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = openat(dir, IOTHUB_FILE_COMMAND_SETTLE, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	properties = openat(dir, IOTHUB_FILE_COMMAND_PROPERTIES, O_RDONLY | O_CLOEXEC);
	if (properties < 0)
		return -errno;
	r = delivery_compare(&c->delivery, properties);
	if (r == 1)
		c->settle = TAKE_FD(fd);
	else if (r == 0)
		log_warning(&c->mode->crew.log, "command %" PRIu64 ": the hub has another of this number",
			    c->delivery.sequence_no);
	return r < 0 ? r : 0;
}

/* The stream is open. Returns 0 or a negative errno. */
static int settle(struct command_worker *c, enum verdict verdict)
{
	const char *word = verdict == VERDICT_COMPLETE ? "complete" : "reject";
	int r = 0;

	if (c->settle >= 0)
		r = write(c->settle, word, strlen(word)) < 0 ? -errno : 0;
	else if (verdict != VERDICT_COMPLETE)
		r = -ESTALE; /* asking for the next line only completes */
	if (r < 0)
		log_warning(&c->mode->crew.log, "command %" PRIu64 ": could not be settled: %s",
			    c->delivery.sequence_no, strerror(-r));
	return r;
}

/* What became of the command is known: forgets it, and says what its worker does next. */
static enum worker_next command_finish(struct command_worker *c, enum verdict verdict)
{
	struct commands_mode *m = c->mode;
	int r = 0;

	if (verdict != VERDICT_ABANDON) {
		r = c->worker.state == WORKER_ORPHANED ? -ENOTCONN : settle(c, verdict);
		/* Closing abandons it, and the hub delivers it again. */
		if (r < 0)
			decision_keep(m, &c->delivery, verdict);
		if (is_daemon_gone(r))
			crew_lost(&m->crew);
	}
	close_fd(&c->settle);
	delivery_deinit(&c->delivery);
	environment_deinit(&c->env);
	handlers_unref(c->handlers);
	c->handlers = NULL;
	return verdict == VERDICT_ABANDON || r < 0 ? NEXT_PAUSE : NEXT_INPUT;
}

/* --- running ---------------------------------------------------------------------------------- */

/* Starts the next program of the command. Returns as worker_run(). */
static int command_run_next(struct command_worker *c)
{
	const struct run_options *options = c->mode->crew.options;
	const struct handler *handler = &c->handlers->list[c->next];
	char *argv[] = {handler->path, NULL};
	struct child_spec spec = {
		.path = handler->path,
		/* The arguments on our command line are those of the one program there is. */
		.argv = options->program[1] ? options->program : argv,
		.envp = c->env.vars,
		.input = c->delivery.payload,
	};
	int r = worker_run(&c->worker, &spec);

	if (r < 0)
		log_error(&c->mode->crew.log, "command %" PRIu64 ": %s: not started: %s",
			  c->delivery.sequence_no, handler->name, strerror(-r));
	else
		c->next++;
	return r;
}

/* Of what failed. */
static enum verdict command_judge(struct command_worker *c)
{
	const struct run_options *options = c->mode->crew.options;
	const struct child *child = &c->worker.child;

	/* Nobody's fault. */
	if (child->cut && c->mode->crew.state != CREW_SERVING)
		return VERDICT_ABANDON;
	if (!child->cut && WIFEXITED(child->status) && WEXITSTATUS(child->status) == EX_DATAERR)
		return VERDICT_REJECT;
	if (options->n_deliveries_max && c->delivery.delivery_count >= options->n_deliveries_max)
		return VERDICT_REJECT;
	return VERDICT_ABANDON;
}

static enum worker_next command_on_end(struct worker *w)
{
	struct command_worker *c = command_worker_of(w);
	const char *name = c->handlers->list[c->next - 1].name;
	bool is_done = child_succeeded(&w->child);
	enum verdict verdict = VERDICT_COMPLETE;
	char how[64];

	child_describe(&w->child, how, sizeof(how));
	if (is_done && c->next < c->handlers->n) {
		log_debug(&w->crew->log, "command %" PRIu64 ": %s: %s", c->delivery.sequence_no, name, how);
		return command_run_next(c) == 0 ? NEXT_RUN : command_finish(c, VERDICT_ABANDON);
	}
	if (!is_done)
		verdict = command_judge(c);
	log_write(&w->crew->log, is_done ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
		  "command %" PRIu64 ": %s: %s: %s", c->delivery.sequence_no, name, how,
		  verdict == VERDICT_COMPLETE  ? "completed"
		  : verdict == VERDICT_ABANDON ? "abandoned"
					       : "rejected");
	return command_finish(c, verdict);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The command is read. */
static enum worker_next command_start(struct command_worker *c)
{
	struct commands_mode *m = c->mode;
	enum verdict verdict = VERDICT_ABANDON;
	int r = settle_open(c);

	c->handlers = handlers_ref(m->handlers);
	c->next = 0;
	/* Closing the stream decides nothing that is decided already, and gives back to the hub what is not. */
	if (r < 0) {
		log_warning(&m->crew.log, "command %" PRIu64 ": not run, it cannot be settled: %s",
			    c->delivery.sequence_no, strerror(-r));
		return command_finish(c, VERDICT_ABANDON);
	}
	if (decision_take(m, &c->delivery, &verdict)) {
		log_debug(&m->crew.log, "command %" PRIu64 ": was run before", c->delivery.sequence_no);
		return command_finish(c, verdict);
	}
	r = crew_environment(&m->crew, &c->env);
	if (r == 0)
		r = delivery_environment(&c->delivery, &c->env);
	if (r == 0 && command_run_next(c) == 0)
		return NEXT_RUN;
	if (r < 0)
		log_error(&m->crew.log, "command %" PRIu64 ": its environment: %s", c->delivery.sequence_no,
			  strerror(-r));
	/* It will not be better the next time. */
	if (r == -E2BIG || r == -EINVAL)
		verdict = VERDICT_REJECT;
	return command_finish(c, verdict);
}

static enum worker_next command_on_input(struct worker *w, bool at_end)
{
	struct command_worker *c = command_worker_of(w);
	struct bytes line = buf_bytes(&w->input);
	int r;

	/* Only a daemon that ends does that. */
	if (at_end || !line.len)
		return NEXT_PAUSE;
	/* A read never returns bytes of two lines. */
	if (line.data[line.len - 1] != '\n')
		return NEXT_INPUT;
	r = delivery_parse(&c->delivery, line);
	buf_consume(&w->input, line.len);
	if (r == 0)
		return command_start(c);
	log_error(&w->crew->log, "%s: a line that is no command: %s", c->mode->stream, strerror(-r));
	delivery_deinit(&c->delivery);
	return NEXT_PAUSE;
}

static int stream_open(struct worker *w)
{
	struct commands_mode *m = command_worker_of(w)->mode;
	int fd;

	list_for_each (l, &m->crew.workers) {
		if (container_of(l, struct worker, link)->state == WORKER_ORPHANED)
			return -EBUSY;
	}
	fd = open(m->stream, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* --- workers ---------------------------------------------------------------------------------- */

static void command_worker_free(struct worker *w)
{
	struct command_worker *c = command_worker_of(w);

	worker_deinit(w);
	close_fd(&c->settle);
	delivery_deinit(&c->delivery);
	environment_deinit(&c->env);
	handlers_unref(c->handlers);
	free(c);
}

static const struct worker_ops command_ops = {
	.open = stream_open,
	.on_input = command_on_input,
	.on_end = command_on_end,
	.free = command_worker_free,
	.notices_loss = true,
	.input_bytes_max = LINE_BYTES_MAX,
};

/* As many workers that stay as there are to be: none without a program, since a command that nobody handled must not be
 * taken for complete. */
static void commands_staff(struct commands_mode *m)
{
	unsigned int n = 0;

	list_for_each_safe (l, &m->crew.workers) {
		struct worker *w = container_of(l, struct worker, link);

		if (m->handlers->n == 0)
			worker_leave(w, TIME_NEVER);
		n += !w->is_leaving;
	}
	for (; m->handlers->n && n < m->crew.options->n_jobs; n++) {
		struct command_worker *c = calloc(1, sizeof(*c));

		if (!c) {
			log_error(&m->crew.log, "out of memory");
			return;
		}
		c->mode = m;
		c->settle = -1;
		worker_init(&c->worker, &m->crew, &command_ops, m->stream, &m->once);
	}
}

/* --- all of them ------------------------------------------------------------------------------ */

static int commands_load(struct crew *crew)
{
	struct commands_mode *m = container_of(crew, struct commands_mode, crew);
	const char *word = crew->options->program[0];
	struct handlers *handlers;
	struct stat st;
	int r;

	if (stat(word, &st) == 0 && S_ISDIR(st.st_mode) && !crew->options->program[1])
		r = handlers_load(&handlers, word, &crew->log);
	else
		r = handlers_load_program(&handlers, word, &crew->log);
	if (r < 0)
		return r;
	if (handlers->n == 0)
		log_warning(&crew->log, "%s: there is no program in it, no command is taken", word);
	handlers_unref(m->handlers);
	m->handlers = handlers;
	commands_staff(m);
	return 0;
}

int run_commands(const struct run_options *options)
{
	static const struct crew_ops ops = {.load = commands_load};
	struct commands_mode m = {.handlers = NULL};
	int code = 1;

	list_init(&m.decisions);
	if (asprintf(&m.dir, "%s/" IOTHUB_DIR_COMMANDS, options->mount) < 0)
		m.dir = NULL;
	if (!m.dir || asprintf(&m.stream, "%s/" IOTHUB_FILE_COMMANDS_STREAM, m.dir) < 0)
		m.stream = NULL;
	if (crew_init(&m.crew, options, &ops) == 0 && m.stream)
		code = crew_run(&m.crew);
	crew_deinit(&m.crew);
	list_for_each_safe (l, &m.decisions)
		decision_free(container_of(l, struct decision, link));
	handlers_unref(m.handlers);
	free(m.stream);
	free(m.dir);
	return code;
}
