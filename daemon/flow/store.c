/* SPDX-License-Identifier: MIT */
/*
 * One file that is kept, see store.h.
 *
 * Saving is a chain of operations, each started by the one before: the directory is opened, then <path>.new is
 * opened, written, synced and renamed, the directory synced, the file system checked, and both closed. The owner is
 * asked for the content when a chain begins; while it runs the content is in `bytes`. A chain that fails closes what it
 * has opened and ends. `dirty`: the owner has something newer than the last chain. One that is freed asks for that at
 * once and keeps it in `last`: after store_free() there is no owner.
 */

#include "flow/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"

/* Files set aside that are kept. */
#define N_ASIDE 5

enum step {
	STEP_IDLE,
	STEP_OPEN_DIR,
	STEP_OPEN,
	STEP_WRITE,
	STEP_SYNC,
	STEP_RENAME,
	STEP_SYNC_DIR,
	STEP_CHECK,
	STEP_CLOSE,
	STEP_CLOSE_DIR,
};

struct store {
	struct loop *loop;
	struct log *log;
	char *path;
	char *dir, *name, *new_name; /* of the file, those beside it without the directory */
	size_t bytes_max;
	const char *without, *precious;
	const struct store_ops *ops;
	void *userdata;
	bool dirty;
	bool closing; /* free with the end of the chain */
	enum step step;
	int error; /* of the chain, or the last one; the first one of it */
	int dir_fd, fd;
	uint8_t *bytes;
	size_t len, n_written;
	uint8_t *last; /* to be written after the chain; NULL = nothing */
	size_t last_len;
	struct loop_op op;
	struct loop_deferred begin;
	struct loop_timer end; /* armed: closing, and the disk may still answer in time */
	struct log_once logged;
	bool is_unread; /* what is there could not be read, and may be good */
	char text[160]; /* of the last error */
};

static void store_on_op(struct loop_op *op, int res);
static void store_on_begin(struct loop_deferred *deferred);
static void store_on_end(struct loop_timer *timer, uint64_t now_ns);

static int store_set_names(struct store *s, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	s->path = strdup(path);
	s->name = strdup(name);
	/* The directory of /name is /, of name it is `.`. */
	s->dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	if (asprintf(&s->new_name, "%s.new", name) < 0)
		s->new_name = NULL;
	return s->path && s->name && s->dir && s->new_name ? 0 : -ENOMEM;
}

static void store_destroy(struct store *s)
{
	assert(s->step == STEP_IDLE);
	loop_undefer(&s->begin);
	loop_timer_disarm(&s->end);
	free(s->last);
	free(s->path);
	free(s->dir);
	free(s->name);
	free(s->new_name);
	free(s);
}

int store_new(struct store **out, const struct store_options *options)
{
	struct store *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->loop = options->loop;
	s->log = options->log;
	s->bytes_max = options->bytes_max;
	s->without = options->without;
	s->precious = options->precious;
	s->ops = options->ops;
	s->userdata = options->userdata;
	s->dir_fd = -1;
	s->fd = -1;
	loop_op_init(&s->op, store_on_op);
	loop_deferred_init(&s->begin, store_on_begin);
	loop_timer_init(&s->end, store_on_end);
	if (store_set_names(s, options->path)) {
		store_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

const char *store_error(const struct store *s)
{
	return s->text;
}

int store_result(const struct store *s)
{
	return s->error;
}

/* --- loading ---------------------------------------------------------------------------------- */

/* Returns 0 and *@out, malloc()ed; -EBADMSG: what is there cannot be such a file. */
static int read_file(int dir_fd, const char *name, size_t bytes_max, uint8_t **out, size_t *len)
{
	_cleanup_(close_fd) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(free_ptr) uint8_t *data = NULL;
	struct stat st;
	size_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > bytes_max)
		return -EBADMSG;
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return -ENOMEM;
	while (n < (size_t)st.st_size) {
		ssize_t r = read(fd, data + n, (size_t)st.st_size - n);

		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			break;
		n += r < 0 ? 0 : (size_t)r;
	}
	*out = TAKE_PTR(data);
	*len = n;
	return 0;
}

static bool file_is_precious(const struct store *s, int dir_fd, const char *name)
{
	_cleanup_(free_ptr) uint8_t *data = NULL;
	size_t len = 0;

	return s->ops->is_precious && read_file(dir_fd, name, s->bytes_max, &data, &len) == 0 &&
	       s->ops->is_precious(BYTES(data, len));
}

/* One that was set aside. */
struct aside {
	char name[NAME_MAX + 1];
	bool is_there, is_precious;
	struct timespec since;
};

static bool is_better(const struct aside *a, const struct aside *b)
{
	if (a->is_precious != b->is_precious)
		return !a->is_precious;
	if (a->since.tv_sec != b->since.tv_sec)
		return a->since.tv_sec < b->since.tv_sec;
	return a->since.tv_nsec < b->since.tv_nsec;
}

/* A name for one more: 0, or -EEXIST when what is there cannot be replaced. */
static int aside_choose(const struct store *s, int dir_fd, struct aside *out)
{
	int r = -EEXIST;

	for (unsigned int i = 0; i < N_ASIDE; ++i) {
		struct aside aside = {.is_there = true};
		struct stat st;
		int n = i ? snprintf(aside.name, sizeof(aside.name), "%s.bad.%u", s->name, i)
			  : snprintf(aside.name, sizeof(aside.name), "%s.bad", s->name);

		if (n < 0 || (size_t)n >= sizeof(aside.name))
			return -ENAMETOOLONG;
		if (fstatat(dir_fd, aside.name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			aside.is_there = false;
			*out = aside;
			return errno == ENOENT ? 0 : -errno;
		}
		if (!S_ISREG(st.st_mode))
			continue;
		aside.is_precious = file_is_precious(s, dir_fd, aside.name);
		aside.since = st.st_ctim;
		if (r == 0 && !is_better(&aside, out))
			continue;
		*out = aside;
		r = 0;
	}
	return r;
}

/* Returns 0; -EEXIST: those that are there have more, and stay; or the error. */
static int set_aside(struct store *s, const char *why)
{
	_cleanup_(close_fd) int dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool is_precious = file_is_precious(s, dir_fd, s->name);
	struct aside aside;
	int r = aside_choose(s, dir_fd, &aside);

	/* All that is in this one is somewhere else, too. */
	if (!r && !is_precious && aside.is_precious)
		r = -EEXIST;
	if (!r && renameat(dir_fd, s->name, dir_fd, aside.name) < 0)
		r = -errno;
	if (r)
		log_error(s->log, "%s %s, and cannot be set aside: %s; %s", s->path, why, strerror(-r),
			  s->without);
	else
		log_error(s->log, "%s %s%s%s: set aside as %s%s; %s", s->path, why,
			  is_precious ? ", with " : "", is_precious ? s->precious : "", aside.name,
			  !aside.is_there     ? ""
			  : aside.is_precious ? ", in place of an older one that had such, too"
					      : ", in place of an older one",
			  s->without);
	return r;
}

void store_set_aside(struct store *s, const char *why)
{
	(void)set_aside(s, why);
}

bool store_is_unread(const struct store *s)
{
	return s->is_unread;
}

int store_load(struct store *s, uint8_t **out, size_t *len)
{
	_cleanup_(close_fd) int dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir_fd < 0 ? -errno : read_file(dir_fd, s->name, s->bytes_max, out, len);

	if (r == -EBADMSG)
		store_set_aside(s, "is damaged");
	else if (r && r != -ENOENT) {
		s->is_unread = true;
		snprintf(s->text, sizeof(s->text), "cannot read %s: %s", s->path, strerror(-r));
		log_error(s->log, "%s; %s", s->text, s->without);
	}
	return r;
}

/* --- saving ----------------------------------------------------------------------------------- */

static void store_report(struct store *s, int error)
{
	snprintf(s->text, sizeof(s->text), "cannot write %s: %s", s->path, strerror(-error));
	log_write_once(s->log, &s->logged, LOG_LEVEL_ERROR, "%s; trying again with the next change", s->text);
}

static void store_fail(struct store *s, int error)
{
	if (s->error)
		return;
	s->error = error;
	store_report(s, error);
}

/* What could not be read stays, under another name. This may block, once. */
static void store_spare_unread(struct store *s)
{
	int r = set_aside(s, "could not be read");

	if (r && r != -ENOENT && r != -EEXIST)
		store_fail(s, r);
	else
		s->is_unread = false;
}

/* Starts the operation of @step. */
static void store_start(struct store *s, enum step step)
{
	s->step = step;
	switch (step) {
	case STEP_IDLE:
		break;
	case STEP_OPEN_DIR:
		loop_op_openat(s->loop, &s->op, AT_FDCWD, s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
		break;
	case STEP_OPEN:
		loop_op_openat(s->loop, &s->op, s->dir_fd, s->new_name,
			       O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
		break;
	case STEP_WRITE:
		loop_op_pwrite(s->loop, &s->op, s->fd, BYTES(s->bytes + s->n_written, s->len - s->n_written),
			       s->n_written);
		break;
	case STEP_SYNC:
		loop_op_fsync(s->loop, &s->op, s->fd);
		break;
	case STEP_RENAME:
		loop_op_renameat(s->loop, &s->op, s->dir_fd, s->new_name, s->dir_fd, s->name);
		break;
	case STEP_SYNC_DIR:
		loop_op_fsync(s->loop, &s->op, s->dir_fd);
		break;
	case STEP_CHECK:
		loop_op_check_fs(s->loop, &s->op, s->fd);
		break;
	case STEP_CLOSE:
		loop_op_close(s->loop, &s->op, TAKE_FD(s->fd));
		break;
	case STEP_CLOSE_DIR:
		loop_op_close(s->loop, &s->op, TAKE_FD(s->dir_fd));
		break;
	}
}

/* Takes what is to be saved next. */
static int store_take(struct store *s)
{
	if (s->last) {
		s->bytes = TAKE_PTR(s->last);
		s->len = s->last_len;
		return 0;
	}
	s->dirty = false;
	return s->ops->encode(s->userdata, &s->bytes, &s->len);
}

/* Begins to save what waits. Returns whether it could; if not, it has been said why. */
static bool store_begin(struct store *s)
{
	int r = store_take(s);

	s->error = 0;
	s->n_written = 0;
	if (r) {
		store_fail(s, r);
		return false;
	}
	store_start(s, STEP_OPEN_DIR);
	return true;
}

static void store_tell(struct store *s)
{
	if (s->ops->on_tried && !s->closing)
		s->ops->on_tried(s->userdata);
}

static void store_end(struct store *s)
{
	s->step = STEP_IDLE;
	free(TAKE_PTR(s->bytes));
	if (!s->error) {
		s->text[0] = '\0';
		log_once_reset(&s->logged);
	}
	store_tell(s);
	if (s->closing ? s->last && !s->error && store_begin(s) : s->dirty && store_begin(s))
		return;
	if (s->closing)
		store_destroy(s);
}

static enum step step_next(const struct store *s)
{
	/* What was opened is closed. */
	if (s->error)
		return s->fd >= 0 ? STEP_CLOSE : s->dir_fd >= 0 ? STEP_CLOSE_DIR : STEP_IDLE;
	switch (s->step) {
	case STEP_OPEN_DIR:
		return STEP_OPEN;
	case STEP_OPEN:
		return STEP_WRITE;
	case STEP_WRITE:
		return s->n_written < s->len ? STEP_WRITE : STEP_SYNC;
	case STEP_SYNC:
		return STEP_RENAME;
	case STEP_RENAME:
		return STEP_SYNC_DIR;
	case STEP_SYNC_DIR:
		return STEP_CHECK;
	case STEP_CHECK:
		return STEP_CLOSE;
	case STEP_CLOSE:
		return STEP_CLOSE_DIR;
	case STEP_CLOSE_DIR:
	case STEP_IDLE:
		break;
	}
	return STEP_IDLE;
}

static void store_on_op(struct loop_op *op, int res)
{
	struct store *s = container_of(op, struct store, op);
	enum step next;

	if (s->step == STEP_CHECK)
		res = loop_check_fs_error(res);
	if (res < 0)
		store_fail(s, res);
	else if (s->step == STEP_WRITE && res == 0)
		store_fail(s, -EIO);
	else if (s->step == STEP_OPEN_DIR)
		s->dir_fd = res;
	else if (s->step == STEP_OPEN)
		s->fd = res;
	else if (s->step == STEP_WRITE)
		s->n_written += (size_t)res;
	next = step_next(s);
	if (next == STEP_RENAME && s->is_unread) {
		store_spare_unread(s);
		next = step_next(s);
	}
	if (next == STEP_IDLE)
		store_end(s);
	else
		store_start(s, next);
}

static void store_on_begin(struct loop_deferred *deferred)
{
	struct store *s = container_of(deferred, struct store, begin);

	if (s->step == STEP_IDLE && s->dirty && !store_begin(s))
		store_tell(s);
}

void store_save(struct store *s)
{
	assert(!s->closing);
	s->dirty = true;
	if (s->step == STEP_IDLE)
		loop_defer(s->loop, &s->begin);
}

static void store_on_end(struct loop_timer *timer, uint64_t now_ns)
{
	const struct store *s = container_of(timer, struct store, end);

	(void)now_ns;
	log_error(s->log, "cannot write %s: the disk does not answer; the last changes may be lost", s->path);
}

void store_free(struct store *s)
{
	int r;

	if (!s)
		return;
	s->closing = true;
	loop_undefer(&s->begin);
	r = s->dirty ? s->ops->encode(s->userdata, &s->last, &s->last_len) : 0;
	if (r)
		store_report(s, r);
	if (s->step != STEP_IDLE || (s->last && store_begin(s)))
		loop_timer_arm(s->loop, &s->end, loop_now_ns(s->loop) + STORE_END_NS);
	else
		store_destroy(s);
}
