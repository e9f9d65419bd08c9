/* SPDX-License-Identifier: MIT */
/*
 * Spare segments. Two things go on in the loop, each one at a time: making a segment ready, and deleting another.
 *
 * One that is new:        openat ID.spare, fallocate, write zeros, identity, copy, fsync, rename to ID.segment, fsync
 *                         of the directory, check, map.
 * One that is used again: openat OLD.segment, identity (SPARE, another id), copy, fsync, rename to ID.segment, fsync
 *                         of the directory, check, map.
 * On a volatile file system there is nothing to sync and, when it could allocate, nothing to fill.
 *
 * What a power cut leaves:
 *  - before the rename of a new one: at most ID.spare with anything in it. No segment; deleted at the next start.
 *  - after it: ID.segment, whose content was synced before the rename. A spare.
 *  - while the identity of a used one is written: either copy may be the old or the new one, or torn. The states are
 *    left alone: under the old identity they are valid, and the segment is as it was when it was done with; under the
 *    new one they fail their checksum, which has the id in it, and a spare has no use for them. Had they been written
 *    as well, an old identity could have come out with no state at all, and all its records been delivered again.
 *  - after that, before the rename: a spare with the name of its last use, which segment_open() accepts of spares.
 *
 * So at start everything of kind SPARE is spare. It gets another id all the same (spares_give()): it may be one that was
 * taken just before the power cut, with records of the id it has on the disk and its identity still in memory.
 *
 * spares_take() writes the identity into the mapping, and nothing waits for it: with the id on the disk since long, a
 * power cut keeps either the spare (nobody was promised anything before the first sync of the segment, which covers the
 * identity) or the segment. What the file had been used for before has another id and is no record in either case.
 *
 * The zeros are for speed. In an extent that was only allocated, the first write of each page changes the extent, so
 * each fdatasync(2) of records is also a commit of the file system's own journal (a third slower on ext4, and more where
 * a flush of the disk is slow); in one that was written it is not. One that is used again is not filled again. The check
 * (loop_op_check_fs()) says whether all that was committed; then syncs of records need no such check (is_settled).
 */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "journal/spares.h"

#define SPARE_SUFFIX ".spare"

enum spares_step {
	STEP_NONE,
	STEP_OPEN,
	STEP_ALLOCATE,
	STEP_FILL,
	STEP_IDENTITY,
	STEP_COPY,
	STEP_SYNC,
	STEP_RENAME,
	STEP_SYNC_DIR,
	STEP_CHECK,
};

struct spare {
	struct journal_segment *segment; /* mapped, with one user; NULL: the place is free */
	uint64_t wanted;                 /* n_wants when its size was wanted last */
};

struct journal_spares {
	struct loop *loop;
	struct journal_dir *dir;
	struct spare ready[SPARES_MAX];
	struct loop_deferred start; /* of what is to be done next */
	struct list given;          /* to be made ready again; not mapped */
	struct list doomed;         /* to be deleted; not mapped */
	uint64_t n_wants;
	uint64_t wanted[SPARES_MAX]; /* sizes to be made, first come first */
	size_t n_wanted;
	bool is_stopped;
	/* Being made ready: */
	enum spares_step step;
	struct loop_op op;
	struct journal_segment
		*work; /* not mapped, but with a descriptor from OPEN to SYNC; its name is the file's */
	char name[JOURNAL_SEGMENT_NAME_SIZE]; /* it will have */
	bool is_new;
	bool is_dropped; /* its space is needed */
	uint64_t n_filled;
	uint8_t identity[JOURNAL_IDENTITY_BYTES];
	/* Being deleted: */
	struct loop_op unlink;
	struct journal_segment *dying;
};

static void spares_on_op(struct loop_op *op, int res);
static void spares_on_unlink(struct loop_op *op, int res);
static void spares_on_start(struct loop_deferred *deferred);

/* --- life ------------------------------------------------------------------------------------- */

static bool is_half_made(const char *name)
{
	size_t len = strlen(name), suffix_len = strlen(SPARE_SUFFIX);

	return len > suffix_len && strcmp(name + len - suffix_len, SPARE_SUFFIX) == 0;
}

/* What cannot be deleted, or found, stays. */
static void delete_half_made(const struct journal_dir *dir)
{
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(d)))
		if (is_half_made(entry->d_name))
			unlinkat(dir->fd, entry->d_name, 0);
	closedir(d);
}

int spares_new(struct journal_spares **out, struct loop *loop, struct journal_dir *dir)
{
	struct journal_spares *spares = calloc(1, sizeof(*spares));

	if (!spares)
		return -ENOMEM;
	spares->loop = loop;
	spares->dir = dir;
	list_init(&spares->given);
	list_init(&spares->doomed);
	loop_op_init(&spares->op, spares_on_op);
	loop_op_init(&spares->unlink, spares_on_unlink);
	loop_deferred_init(&spares->start, spares_on_start);
	delete_half_made(dir);
	*out = spares;
	return 0;
}

bool spares_is_idle(const struct journal_spares *spares)
{
	return loop_op_is_idle(&spares->op) && loop_op_is_idle(&spares->unlink) &&
	       !list_is_linked(&spares->start.link);
}

void spares_free(struct journal_spares *spares)
{
	if (!spares)
		return;
	assert(spares_is_idle(spares) && !spares->work && !spares->dying);
	assert(list_is_empty(&spares->given) && list_is_empty(&spares->doomed));
	for (size_t i = 0; i < SPARES_MAX; ++i)
		assert(!spares->ready[i].segment);
	free(spares);
}

static void spares_wake(struct journal_spares *spares)
{
	if (!spares->is_stopped)
		loop_defer(spares->loop, &spares->start);
}

/* --- deleting --------------------------------------------------------------------------------- */

/* What cannot be deleted is found again at the next start. */
static void spares_on_unlink(struct loop_op *op, int res)
{
	struct journal_spares *spares = container_of(op, struct journal_spares, unlink);

	(void)res;
	segment_free(spares->dying);
	spares->dying = NULL;
	spares_wake(spares);
}

static void delete_next(struct journal_spares *spares)
{
	struct list *first = list_first(&spares->doomed);

	if (spares->dying || !first)
		return;
	list_remove(first);
	spares->dying = container_of(first, struct journal_segment, link);
	loop_op_unlinkat(spares->loop, &spares->unlink, spares->dir->fd, spares->dying->name);
}

static void spares_doom(struct journal_spares *spares, struct journal_segment *segment)
{
	if (segment->n_users)
		segment_unmap(segment);
	if (spares->is_stopped) {
		segment_delete(segment);
		return;
	}
	list_append(&spares->doomed, &segment->link);
	spares_wake(spares);
}

static struct journal_segment *spare_take(struct spare *spare)
{
	struct journal_segment *segment = spare->segment;

	spare->segment = NULL;
	return segment;
}

/* --- counting --------------------------------------------------------------------------------- */

static uint64_t list_bytes(const struct list *list, uint64_t *n)
{
	uint64_t n_bytes = 0;

	list_for_each (link, list) {
		n_bytes += container_of(link, struct journal_segment, link)->identity.size;
		++*n;
	}
	return n_bytes;
}

/* Those that are or will be ready. */
static uint64_t count_kept(const struct journal_spares *spares, uint64_t *n)
{
	uint64_t n_bytes = list_bytes(&spares->given, n);

	for (size_t i = 0; i < SPARES_MAX; ++i) {
		if (!spares->ready[i].segment)
			continue;
		n_bytes += spares->ready[i].segment->identity.size;
		++*n;
	}
	if (spares->work) {
		n_bytes += spares->work->identity.size;
		++*n;
	}
	return n_bytes;
}

static uint64_t count_all(const struct journal_spares *spares, uint64_t *n)
{
	uint64_t n_bytes = count_kept(spares, n) + list_bytes(&spares->doomed, n);

	if (spares->dying) {
		n_bytes += spares->dying->identity.size;
		++*n;
	}
	return n_bytes;
}

uint64_t spares_n(const struct journal_spares *spares)
{
	uint64_t n = 0;

	count_all(spares, &n);
	return n;
}

uint64_t spares_bytes(const struct journal_spares *spares)
{
	uint64_t n = 0;

	return count_all(spares, &n);
}

static bool is_full(const struct journal_spares *spares)
{
	uint64_t n = 0;

	count_kept(spares, &n);
	return n >= SPARES_MAX;
}

static bool has_size(const struct journal_spares *spares, uint64_t size)
{
	if (spares->work && spares->work->identity.size == size)
		return true;
	if (spares_has(spares, size))
		return true;
	list_for_each (link, &spares->given) {
		if (container_of(link, struct journal_segment, link)->identity.size == size)
			return true;
	}
	return false;
}

/* --- making ready ----------------------------------------------------------------------------- */

static void work_close(struct journal_segment *work)
{
	if (work->fd >= 0)
		close(work->fd);
	work->fd = -1;
}

/* The next step of the work, each with a callback of its own. */
static void work_go(struct journal_spares *spares, enum spares_step step)
{
	struct journal_segment *work = spares->work;
	struct loop_op *op = &spares->op;

	spares->step = step;
	switch (step) {
	case STEP_NONE:
		break;
	case STEP_OPEN:
		loop_op_openat(spares->loop, op, spares->dir->fd, work->name,
			       O_RDWR | O_CLOEXEC | O_NOFOLLOW | (spares->is_new ? O_CREAT | O_EXCL : 0),
			       0600);
		break;
	case STEP_ALLOCATE:
		loop_op_fallocate(spares->loop, op, work->fd, 0, 0, work->identity.size);
		break;
	case STEP_FILL:
		loop_op_pwrite(spares->loop, op, work->fd,
			       BYTES(segment_zeros, segment_fill_len(spares->n_filled, work->identity.size)),
			       spares->n_filled);
		break;
	case STEP_IDENTITY:
	case STEP_COPY:
		loop_op_pwrite(spares->loop, op, work->fd, BYTES(spares->identity, JOURNAL_IDENTITY_BYTES),
			       step == STEP_COPY ? JOURNAL_IDENTITY_COPY_AT : JOURNAL_IDENTITY_AT);
		break;
	case STEP_SYNC:
		loop_op_fsync(spares->loop, op, work->fd);
		break;
	case STEP_RENAME:
		loop_op_renameat(spares->loop, op, spares->dir->fd, work->name, spares->dir->fd,
				 spares->name);
		break;
	case STEP_SYNC_DIR:
		loop_op_fsync(spares->loop, op, spares->dir->fd);
		break;
	case STEP_CHECK:
		loop_op_check_fs(spares->loop, op, spares->dir->check_fd);
		break;
	}
}

static void work_end(struct journal_spares *spares, bool is_ready)
{
	struct journal_segment *work = spares->work;
	size_t i = 0;

	work_close(work);
	spares->work = NULL;
	spares->step = STEP_NONE;
	while (i < SPARES_MAX && spares->ready[i].segment)
		++i;
	if (is_ready && i < SPARES_MAX && segment_map(work) == 0 && !work->is_private)
		spares->ready[i] = (struct spare){.segment = work, .wanted = spares->n_wants};
	else
		spares_doom(spares, work);
	spares_wake(spares);
}

/* Whether the step under way is done, as far as it can be: a piece of the zeros is not. */
static bool work_took(struct journal_spares *spares, int res)
{
	struct journal_segment *work = spares->work;

	if (spares->step == STEP_ALLOCATE && res == -EOPNOTSUPP)
		return true;
	if (spares->step == STEP_CHECK)
		res = loop_check_fs_error(res);
	if (res < 0)
		return false;
	if (spares->step == STEP_OPEN)
		work->fd = res;
	else if (spares->step == STEP_FILL)
		spares->n_filled += (uint64_t)res;
	else if (spares->step == STEP_RENAME)
		memcpy(work->name, spares->name, sizeof(work->name));
	else if (spares->step == STEP_CHECK)
		work->is_settled |= spares->is_new && spares->dir->check_fd >= 0;
	/* No write of nothing, and none of half an identity. */
	return (spares->step != STEP_FILL || res > 0) &&
	       ((spares->step != STEP_IDENTITY && spares->step != STEP_COPY) ||
		res == JOURNAL_IDENTITY_BYTES);
}

static enum spares_step work_step_after(const struct journal_spares *spares, int res)
{
	bool is_volatile = spares->dir->is_volatile;

	switch (spares->step) {
	case STEP_OPEN:
		return spares->is_new ? STEP_ALLOCATE : STEP_IDENTITY;
	case STEP_ALLOCATE:
		return is_volatile && res == 0 ? STEP_IDENTITY : STEP_FILL;
	case STEP_FILL:
		return spares->n_filled < spares->work->identity.size ? STEP_FILL : STEP_IDENTITY;
	case STEP_IDENTITY:
		return STEP_COPY;
	case STEP_COPY:
		return is_volatile ? STEP_RENAME : STEP_SYNC;
	case STEP_SYNC:
		return STEP_RENAME;
	case STEP_RENAME:
		return is_volatile ? STEP_NONE : STEP_SYNC_DIR;
	case STEP_SYNC_DIR:
		return STEP_CHECK;
	case STEP_CHECK:
	case STEP_NONE:
		break;
	}
	return STEP_NONE;
}

static void spares_on_op(struct loop_op *op, int res)
{
	struct journal_spares *spares = container_of(op, struct journal_spares, op);
	bool goes_on = work_took(spares, res) && !spares->is_stopped && !spares->is_dropped;
	enum spares_step step = work_step_after(spares, res);

	if (goes_on && step != STEP_NONE)
		work_go(spares, step);
	else
		work_end(spares, goes_on);
}

/* Makes the work of a segment, which has its file's name, and gives it an id. */
static void work_begin(struct journal_spares *spares, struct journal_segment *work, uint64_t id, bool is_new)
{
	work->identity = (struct journal_identity){.id = id,
						   .size = work->identity.size,
						   .made_ms = loop_wall_ms(spares->loop),
						   .kind = JOURNAL_KIND_SPARE};
	segment_name(id, spares->name);
	journal_identity_put(&work->identity, spares->identity);
	spares->work = work;
	spares->is_new = is_new;
	spares->is_dropped = false;
	spares->n_filled = 0;
	work_go(spares, STEP_OPEN);
}

static void work_begin_new(struct journal_spares *spares, uint64_t id, uint64_t size)
{
	struct journal_identity identity = {.size = size};
	struct journal_segment *work = segment_of(spares->dir, &identity);

	if (!work)
		return;
	snprintf(work->name, sizeof(work->name), "%016" PRIx64 SPARE_SUFFIX, id);
	work_begin(spares, work, id, true);
}

static uint64_t take_wanted(struct journal_spares *spares)
{
	uint64_t size = spares->wanted[0];

	--spares->n_wanted;
	memmove(spares->wanted, spares->wanted + 1, spares->n_wanted * sizeof(spares->wanted[0]));
	return size;
}

/* What was given first: it is less work. What fails is not tried again before it is asked for again. */
static void make_next(struct journal_spares *spares)
{
	struct list *given = list_first(&spares->given);
	uint64_t id, size;

	if (spares->work || (given && segment_random_id(&id)))
		return;
	if (given) {
		list_remove(given);
		work_begin(spares, container_of(given, struct journal_segment, link), id, false);
		return;
	}
	while (spares->n_wanted > 0 && !spares->work) {
		size = take_wanted(spares);
		if (!is_full(spares) && !has_size(spares, size) && !segment_random_id(&id))
			work_begin_new(spares, id, size);
	}
}

static void spares_on_start(struct loop_deferred *deferred)
{
	struct journal_spares *spares = container_of(deferred, struct journal_spares, start);

	delete_next(spares);
	make_next(spares);
}

/* --- what is asked for ------------------------------------------------------------------------ */

/* A size is wanted: those nobody wants any more go, and one more if that is what it takes to have room. */
static void spares_age(struct journal_spares *spares, uint64_t size)
{
	struct spare *oldest = NULL;

	++spares->n_wants;
	for (size_t i = 0; i < SPARES_MAX; ++i) {
		struct spare *spare = &spares->ready[i];

		if (!spare->segment)
			continue;
		if (spare->segment->identity.size == size)
			spare->wanted = spares->n_wants;
		else if (spares->n_wants - spare->wanted > SPARES_AGE_MAX)
			spares_doom(spares, spare_take(spare));
		else if (!oldest || spare->wanted < oldest->wanted)
			oldest = spare;
	}
	if (oldest && is_full(spares) && !has_size(spares, size))
		spares_doom(spares, spare_take(oldest));
}

void spares_prepare(struct journal_spares *spares, uint64_t size)
{
	if (spares->is_stopped)
		return;
	spares_age(spares, size);
	for (size_t i = 0; i < spares->n_wanted; ++i)
		if (spares->wanted[i] == size)
			return;
	if (has_size(spares, size))
		return;
	if (spares->n_wanted == SPARES_MAX)
		take_wanted(spares);
	spares->wanted[spares->n_wanted++] = size;
	spares_wake(spares);
}

bool spares_has(const struct journal_spares *spares, uint64_t size)
{
	for (size_t i = 0; i < SPARES_MAX; ++i)
		if (spares->ready[i].segment && spares->ready[i].segment->identity.size == size)
			return true;
	return false;
}

struct journal_segment *spares_take(struct journal_spares *spares, struct journal_identity *identity)
{
	for (size_t i = 0; i < SPARES_MAX; ++i) {
		struct spare *spare = &spares->ready[i];
		struct journal_segment *segment = spare->segment;

		if (!segment || segment->identity.size != identity->size)
			continue;
		spare->segment = NULL;
		identity->id = segment->identity.id;
		segment_begin(segment, identity);
		if (!segment_was_hit(segment))
			return segment;
		/* The disk failed meanwhile. */
		spares_doom(spares, segment);
	}
	return NULL;
}

void spares_give(struct journal_spares *spares, struct journal_segment *segment_take)
{
	assert(segment_take->n_users == 0);
	list_remove(&segment_take->link);
	if (spares->is_stopped || segment_take->is_failed || segment_take->is_private || is_full(spares)) {
		spares_doom(spares, segment_take);
		return;
	}
	list_append(&spares->given, &segment_take->link);
	spares_wake(spares);
}

static bool delete_list(struct list *list)
{
	bool had_any = !list_is_empty(list);

	list_for_each_safe (link, list)
		segment_delete(container_of(link, struct journal_segment, link));
	return had_any;
}

bool spares_drop(struct journal_spares *spares)
{
	bool had_any = delete_list(&spares->given);

	had_any |= delete_list(&spares->doomed);
	spares->is_dropped = true;
	for (size_t i = 0; i < SPARES_MAX; ++i) {
		had_any |= spares->ready[i].segment != NULL;
		segment_delete(spare_take(&spares->ready[i]));
	}
	return had_any;
}

void spares_stop(struct journal_spares *spares, bool keep)
{
	spares->is_stopped = true;
	loop_undefer(&spares->start);
	for (size_t i = 0; keep && i < SPARES_MAX; ++i)
		segment_free(spare_take(&spares->ready[i]));
	spares_drop(spares);
}
