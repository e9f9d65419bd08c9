/* SPDX-License-Identifier: MIT */
/*
 * The twin's file, see twin_store.h. Integers are big-endian:
 *
 *      0   8   "IOHTWIN1"
 *      8   4   CRC32C (RFC 3720, appendix B.4) of all bytes from 12 on
 *     12   4   I, bytes of the identity, at most 255
 *     16   8   version of the desired properties, 0 when the hub's twin was never seen
 *     24   8   version of the reported properties as confirmed, 0 likewise
 *     32   4   D
 *     36   4   R
 *     40   4   P, 0 when no patch waits
 *     44   I   identity: whose twin this is
 *          D   desired properties, a JSON object without null members
 *          R   reported properties as the hub confirmed them, likewise
 *          P   the patch that is still to be sent, what is in flight included; a JSON object, which may have the
 *              marks that twin_doc.h describes
 *
 * A file is valid when it has exactly 44 + I + D + R + P bytes, the checksum holds, either both versions or none is
 * 0, and the texts are such objects. Anything else, a file cut off anywhere or with a bit changed, is set aside, and so
 * is another identity's: as <path>.bad, or <path>.bad.1 to .4 when that name is taken. A sixth one replaces the oldest
 * without a patch, or else, if it has one itself, the oldest.
 *
 * Saving is a chain of operations, each started by the one before: the directory is opened, then <path>.new is
 * opened, written, synced and closed, renamed, the directory synced and closed. The state to save waits in `next`;
 * while a chain runs its bytes are in `bytes`. A chain that fails closes what it has opened and ends.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "flow/twin_doc.h"
#include "flow/twin_store.h"

#define MAGIC       "IOHTWIN1"
#define CHECKED_AT  12 /* first byte under the checksum */
#define HEADER_SIZE 44
/* Files set aside that are kept. */
#define N_ASIDE  5
#define FILE_MAX (HEADER_SIZE + TWIN_STORE_IDENTITY_MAX + 3 * HUB_TWIN_TEXT_BYTES_MAX)

void twin_store_state_deinit(struct twin_store_state *state)
{
	twin_doc_unref(state->desired);
	twin_doc_unref(state->reported);
	twin_doc_unref(state->pending);
	*state = (struct twin_store_state){0};
}

/* --- the format ------------------------------------------------------------------------------- */

/* Four bits at a time: files are small. */
static uint32_t crc32c(struct bytes data)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < data.len; ++i) {
		crc ^= data.data[i];
		crc = table[crc & 15] ^ crc >> 4;
		crc = table[crc & 15] ^ crc >> 4;
	}
	return ~crc;
}

static void writer_u64(struct writer *w, uint64_t v)
{
	writer_u32(w, (uint32_t)(v >> 32));
	writer_u32(w, (uint32_t)v);
}

static uint64_t reader_u64(struct reader *r)
{
	uint64_t high = reader_u32(r);

	return high << 32 | reader_u32(r);
}

/* The texts in the order of the file. */
struct texts {
	struct bytes identity, desired, reported, pending;
};

static void encode_texts(struct writer *w, const struct texts *t)
{
	writer_bytes_put(w, t->identity);
	writer_bytes_put(w, t->desired);
	writer_bytes_put(w, t->reported);
	writer_bytes_put(w, t->pending);
}

int twin_store_encode(const struct twin_store_state *state, struct bytes identity, uint8_t **out, size_t *len)
{
	const struct texts t = {
		.identity = identity,
		.desired = twin_doc_text(state->desired, false),
		.reported = twin_doc_text(state->reported, false),
		.pending = state->pending ? twin_doc_text(state->pending, false) : BYTES(NULL, 0),
	};
	struct writer w, checksum;

	if (!t.desired.len || !t.reported.len || (state->pending && !t.pending.len))
		return -ENOMEM;
	if (t.desired.len > HUB_TWIN_TEXT_BYTES_MAX || t.reported.len > HUB_TWIN_TEXT_BYTES_MAX ||
	    t.pending.len > HUB_TWIN_TEXT_BYTES_MAX)
		return -EMSGSIZE;
	*len = HEADER_SIZE + identity.len + t.desired.len + t.reported.len + t.pending.len;
	*out = malloc(*len);
	if (!*out)
		return -ENOMEM;
	w = writer_init(*out, *len);
	writer_bytes_put(&w, BYTES_LIT(MAGIC));
	writer_u32(&w, 0);
	writer_u32(&w, (uint32_t)identity.len);
	writer_u64(&w, state->desired_version);
	writer_u64(&w, state->reported_version);
	writer_u32(&w, (uint32_t)t.desired.len);
	writer_u32(&w, (uint32_t)t.reported.len);
	writer_u32(&w, (uint32_t)t.pending.len);
	encode_texts(&w, &t);
	assert(!w.error && writer_len(&w) == *len);
	checksum = writer_init(*out + sizeof(MAGIC) - 1, sizeof(uint32_t));
	writer_u32(&checksum, crc32c(BYTES(*out + CHECKED_AT, *len - CHECKED_AT)));
	return 0;
}

static int decode_object(struct bytes text, const struct json_object **out)
{
	struct hub_twin_reason reason;
	struct json_object *object;
	int r = hub_twin_parse(text, &object, &reason);

	if (r)
		return r == -ENOMEM ? r : -EBADMSG;
	*out = object;
	return 0;
}

static int decode_state(struct bytes text, const struct json_object **out)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *object = NULL;
	struct hub_twin_reason reason;
	int r = decode_object(text, &object);

	if (r)
		return r;
	if (hub_twin_check(object, &reason))
		return -EBADMSG;
	return twin_doc_apply(out, NULL, object);
}

static int decode_texts(const struct texts *t, struct twin_store_state *state)
{
	int r = decode_state(t->desired, &state->desired);

	if (!r)
		r = decode_state(t->reported, &state->reported);
	if (!r && t->pending.len)
		r = decode_object(t->pending, &state->pending);
	if (r)
		twin_store_state_deinit(state);
	return r;
}

/* Up to the texts, of which nothing is known yet. */
static int decode_header(struct bytes file, struct twin_store_state *state, struct texts *t)
{
	struct reader r = reader_init(file);
	uint32_t checksum, identity_len, desired_len, reported_len, pending_len;

	if (!bytes_equal(reader_take(&r, sizeof(MAGIC) - 1), BYTES_LIT(MAGIC)))
		return -EBADMSG;
	checksum = reader_u32(&r);
	if (r.error || checksum != crc32c(BYTES(r.pos, reader_left(&r))))
		return -EBADMSG;
	identity_len = reader_u32(&r);
	state->desired_version = reader_u64(&r);
	state->reported_version = reader_u64(&r);
	desired_len = reader_u32(&r);
	reported_len = reader_u32(&r);
	pending_len = reader_u32(&r);
	t->identity = reader_take(&r, identity_len);
	t->desired = reader_take(&r, desired_len);
	t->reported = reader_take(&r, reported_len);
	t->pending = reader_take(&r, pending_len);
	if (r.error || reader_left(&r) || !state->desired_version != !state->reported_version ||
	    state->desired_version == UINT64_MAX || state->reported_version == UINT64_MAX)
		return -EBADMSG;
	return 0;
}

int twin_store_decode(struct bytes file, struct bytes identity, struct twin_store_state *out)
{
	struct twin_store_state state = {0};
	struct texts t;
	int error = decode_header(file, &state, &t);

	if (error)
		return error;
	if (!bytes_equal(t.identity, identity))
		return -ESTALE;
	error = decode_texts(&t, &state);
	if (!error)
		*out = state;
	return error;
}

/* --- the file --------------------------------------------------------------------------------- */

enum step {
	STEP_IDLE,
	STEP_OPEN_DIR,
	STEP_OPEN,
	STEP_WRITE,
	STEP_SYNC,
	STEP_CLOSE,
	STEP_RENAME,
	STEP_SYNC_DIR,
	STEP_CLOSE_DIR,
};

struct twin_store {
	struct loop *loop;
	struct log *log;
	char *path;
	char *dir, *name, *new_name; /* of the file, those beside it without the directory */
	char *identity;
	struct twin_store_state next;         /* to be saved; no desired properties: nothing is */
	bool closing;                         /* free with the end of the chain */
	uint64_t next_generation, generation; /* of `next`, and of the chain */
	twin_store_fn fn;
	void *userdata;
	enum step step;
	int error; /* of the chain, the first one */
	int dir_fd, fd;
	uint8_t *bytes;
	size_t len, n_written;
	struct loop_op op;
	struct loop_deferred begin;
	struct loop_timer end; /* armed: closing, and the disk may still answer in time */
	struct log_once logged;
	char text[160]; /* of the last error */
};

static void store_on_op(struct loop_op *op, int res);
static void store_on_begin(struct loop_deferred *deferred);
static void store_on_end(struct loop_timer *timer, uint64_t now_ns);

static int store_set_names(struct twin_store *s, const char *path)
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

static void store_destroy(struct twin_store *s)
{
	assert(s->step == STEP_IDLE);
	twin_store_state_deinit(&s->next);
	loop_undefer(&s->begin);
	loop_timer_disarm(&s->end);
	free(s->path);
	free(s->dir);
	free(s->name);
	free(s->new_name);
	free(s->identity);
	free(s);
}

int twin_store_new(struct twin_store **out, struct loop *loop, struct log *log, const char *path,
		   const char *identity)
{
	struct twin_store *s;

	if (strlen(identity) > TWIN_STORE_IDENTITY_MAX)
		return -ENAMETOOLONG;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->log = log;
	s->dir_fd = -1;
	s->fd = -1;
	loop_op_init(&s->op, store_on_op);
	loop_deferred_init(&s->begin, store_on_begin);
	loop_timer_init(&s->end, store_on_end);
	s->identity = strdup(identity);
	if (!s->identity || store_set_names(s, path)) {
		store_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void twin_store_watch(struct twin_store *s, twin_store_fn fn, void *userdata)
{
	s->fn = fn;
	s->userdata = userdata;
}

const char *twin_store_error(const struct twin_store *s)
{
	return s->text;
}

/* --- loading ---------------------------------------------------------------------------------- */

/* Returns 0 and *@out, malloc()ed; -EBADMSG: what is there cannot be such a file. */
static int read_file(int dir_fd, const char *name, uint8_t **out, size_t *len)
{
	_cleanup_(close_fd) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(free_ptr) uint8_t *data = NULL;
	struct stat st;
	size_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
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

/* Whether the file has something that is nowhere else. */
static bool file_has_patch(int dir_fd, const char *name)
{
	_cleanup_(free_ptr) uint8_t *data = NULL;
	struct twin_store_state state;
	struct texts texts;
	size_t len;

	return read_file(dir_fd, name, &data, &len) == 0 &&
	       decode_header(BYTES(data, len), &state, &texts) == 0 && texts.pending.len > 0;
}

/* One that was set aside. */
struct aside {
	char name[NAME_MAX + 1];
	bool is_there, has_patch;
	struct timespec since;
};

static bool is_better(const struct aside *a, const struct aside *b)
{
	if (a->has_patch != b->has_patch)
		return !a->has_patch;
	if (a->since.tv_sec != b->since.tv_sec)
		return a->since.tv_sec < b->since.tv_sec;
	return a->since.tv_nsec < b->since.tv_nsec;
}

/* A name for one more: 0, or -EEXIST when what is there cannot be replaced. */
static int aside_choose(const struct twin_store *s, int dir_fd, struct aside *out)
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
		aside.has_patch = file_has_patch(dir_fd, aside.name);
		aside.since = st.st_ctim;
		if (r == 0 && !is_better(&aside, out))
			continue;
		*out = aside;
		r = 0;
	}
	return r;
}

static void store_set_aside(struct twin_store *s, int dir_fd, int error)
{
	const char *why = error == -ESTALE ? "is the twin of another device" : "is damaged";
	bool has_patch = file_has_patch(dir_fd, s->name);
	struct aside aside;
	int r = aside_choose(s, dir_fd, &aside);

	/* The hub has all that is in this one. */
	if (!r && !has_patch && aside.has_patch)
		r = -EEXIST;
	if (!r && renameat(dir_fd, s->name, dir_fd, aside.name) < 0)
		r = -errno;
	if (r)
		log_error(s->log, "%s %s, and cannot be set aside: %s; starting without a known twin",
			  s->path, why, strerror(-r));
	else
		log_error(s->log, "%s %s%s: set aside as %s%s; starting without a known twin", s->path, why,
			  has_patch ? ", with properties that were not sent" : "", aside.name,
			  !aside.is_there   ? ""
			  : aside.has_patch ? ", in place of an older one that had such, too"
					    : ", in place of an older one");
}

int twin_store_load(struct twin_store *s, struct twin_store_state *out)
{
	_cleanup_(close_fd) int dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(free_ptr) uint8_t *data = NULL;
	size_t len = 0;
	int r;

	r = dir_fd < 0 ? -errno : read_file(dir_fd, s->name, &data, &len);
	if (!r)
		r = twin_store_decode(BYTES(data, len), bytes_from_str(s->identity), out);
	if (r == -EBADMSG || r == -ESTALE)
		store_set_aside(s, dir_fd, r);
	else if (r && r != -ENOENT)
		log_error(s->log, "cannot read %s: %s; starting without a known twin", s->path, strerror(-r));
	return r;
}

/* --- saving ----------------------------------------------------------------------------------- */

static void store_fail(struct twin_store *s, int error)
{
	if (s->error)
		return;
	s->error = error;
	snprintf(s->text, sizeof(s->text), "cannot write %s: %s", s->path, strerror(-error));
	log_write_once(s->log, &s->logged, LOG_LEVEL_ERROR, "%s; trying again with the next change", s->text);
}

/* Starts the operation of @step. */
static void store_start(struct twin_store *s, enum step step)
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
	case STEP_CLOSE:
		loop_op_close(s->loop, &s->op, TAKE_FD(s->fd));
		break;
	case STEP_RENAME:
		loop_op_renameat(s->loop, &s->op, s->dir_fd, s->new_name, s->dir_fd, s->name);
		break;
	case STEP_SYNC_DIR:
		loop_op_fsync(s->loop, &s->op, s->dir_fd);
		break;
	case STEP_CLOSE_DIR:
		loop_op_close(s->loop, &s->op, TAKE_FD(s->dir_fd));
		break;
	}
}

/* Begins to save what waits. Returns whether it could; if not, it has been said why. */
static bool store_begin(struct twin_store *s)
{
	int r = twin_store_encode(&s->next, bytes_from_str(s->identity), &s->bytes, &s->len);

	twin_store_state_deinit(&s->next);
	s->generation = s->next_generation;
	s->error = 0;
	s->n_written = 0;
	if (r) {
		store_fail(s, r);
		return false;
	}
	store_start(s, STEP_OPEN_DIR);
	return true;
}

static void store_tell(struct twin_store *s)
{
	if (s->fn && !s->closing)
		s->fn(s->userdata, s->generation);
}

static void store_end(struct twin_store *s)
{
	s->step = STEP_IDLE;
	free(TAKE_PTR(s->bytes));
	if (!s->error) {
		s->text[0] = '\0';
		log_once_reset(&s->logged);
	}
	store_tell(s);
	if (s->next.desired && !(s->closing && s->error) && store_begin(s))
		return;
	if (s->closing)
		store_destroy(s);
}

static enum step step_next(const struct twin_store *s)
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
		return STEP_CLOSE;
	case STEP_CLOSE:
		return STEP_RENAME;
	case STEP_RENAME:
		return STEP_SYNC_DIR;
	case STEP_SYNC_DIR:
		return STEP_CLOSE_DIR;
	case STEP_CLOSE_DIR:
	case STEP_IDLE:
		break;
	}
	return STEP_IDLE;
}

static void store_on_op(struct loop_op *op, int res)
{
	struct twin_store *s = container_of(op, struct twin_store, op);
	enum step next;

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
	if (next == STEP_IDLE)
		store_end(s);
	else
		store_start(s, next);
}

static void store_on_begin(struct loop_deferred *deferred)
{
	struct twin_store *s = container_of(deferred, struct twin_store, begin);

	if (s->step == STEP_IDLE && s->next.desired && !store_begin(s))
		store_tell(s);
}

void twin_store_save(struct twin_store *s, const struct twin_store_state *state, uint64_t generation)
{
	assert(state->desired && state->reported && !s->closing);
	twin_store_state_deinit(&s->next);
	s->next = *state;
	s->next_generation = generation;
	twin_doc_ref(s->next.desired);
	twin_doc_ref(s->next.reported);
	twin_doc_ref(s->next.pending);
	if (s->step == STEP_IDLE)
		loop_defer(s->loop, &s->begin);
}

static void store_on_end(struct loop_timer *timer, uint64_t now_ns)
{
	const struct twin_store *s = container_of(timer, struct twin_store, end);

	(void)now_ns;
	log_error(s->log, "cannot write %s: the disk does not answer; the last changes may be lost", s->path);
}

void twin_store_free(struct twin_store *s)
{
	if (!s)
		return;
	s->closing = true;
	loop_undefer(&s->begin);
	if (s->step != STEP_IDLE || (s->next.desired && store_begin(s)))
		loop_timer_arm(s->loop, &s->end, loop_now_ns(s->loop) + TWIN_STORE_END_NS);
	else
		store_destroy(s);
}
