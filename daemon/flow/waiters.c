/* SPDX-License-Identifier: MIT */
/*
 * Origins and waiters, see waiters.h.
 *
 * A waiter waits for the hub, for the disk, or for room. All that wait for an outcome do so equally long, so the
 * list of them is in order of deadline and one timer serves it; each is in its origin's list, too. Those of them
 * that wait for the disk are in a third one, by the last record they wait for: a commit answers the first so many.
 * Blocked writes are in a list of their own, in the order they came, and in no other.
 *
 * Waiters and origins are kept for reuse: after the first of their kind nothing is allocated, but for the bytes of
 * blocked writes.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/time.h"
#include "flow/waiters.h"

/* An origin's id: generation in the upper, slot in the lower 32 bits; generations start at 1, so 0 is nobody.
 */
#define ORIGIN_SLOT(id) ((uint32_t)(id))

enum waiter_kind {
	WAITER_WRITE,
	WAITER_SYNC,
	WAITER_BLOCKED,
};

struct waiter {
	struct fuse_parked parked;
	struct waiters *owner;
	enum waiter_kind kind;
	struct list link;        /* waiters.all, waiters.blocked, or waiters.spare */
	struct list kin;         /* origin.waiters; not BLOCKED */
	struct list stored;      /* waiters.stored; WAIT_STORED only */
	struct origin *origin;   /* not BLOCKED */
	struct wait_write write; /* of a SYNC: the records from `first` on */
	uint64_t n_left;
	bool is_lost;     /* WRITE: a record of it is, or */
	bool is_all_lost; /* all of them that have no outcome */
	int error;
	uint64_t deadline_ns;
	uint32_t flags; /* BLOCKED: of the write, as are the following */
	uint8_t *data;  /* owned */
	size_t len;
};

struct slot {
	struct origin origin;
	bool open;
	uint32_t next_free;
};

struct waiters {
	struct loop *loop;
	uint64_t timeout_ns;
	struct loop_timer timer;
	struct list all;      /* that wait for an outcome */
	struct list stored;   /* those of them that wait for the disk */
	struct list blocked;  /* that wait for room */
	struct list doubtful; /* origins */
	bool has_lost;        /* one of `all` is */
	struct list spare;
	unsigned int n_parked;
	size_t n_blocked_bytes;
	uint64_t stored_sequence; /* up to here everything is stored */
	struct slot **slots;
	uint32_t n_slots;
	uint32_t size_slots;
	uint32_t first_free; /* UINT32_MAX = none */
};

static void waiters_on_timer(struct loop_timer *timer, uint64_t now_ns);

/* --- life cycle ------------------------------------------------------------------------------- */

int waiters_new(struct waiters **out, struct loop *loop, uint64_t timeout_ns)
{
	struct waiters *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->loop = loop;
	w->timeout_ns = timeout_ns;
	w->first_free = UINT32_MAX;
	list_init(&w->all);
	list_init(&w->stored);
	list_init(&w->blocked);
	list_init(&w->doubtful);
	list_init(&w->spare);
	loop_timer_init(&w->timer, waiters_on_timer);
	*out = w;
	return 0;
}

void waiters_free(struct waiters *w)
{
	if (!w)
		return;
	assert(list_is_empty(&w->all) && list_is_empty(&w->blocked));
	loop_timer_disarm(&w->timer);
	list_for_each_safe (link, &w->spare)
		free(container_of(link, struct waiter, link));
	for (uint32_t i = 0; i < w->n_slots; ++i)
		free(w->slots[i]);
	free(w->slots);
	free(w);
}

/* --- origins ---------------------------------------------------------------------------------- */

static int origin_add_slot(struct waiters *w)
{
	struct slot *slot;

	if (w->n_slots == ORIGINS_MAX)
		return -ENFILE;
	if (w->n_slots == w->size_slots) {
		uint32_t size = w->size_slots ? w->size_slots * 2 : 64;
		struct slot **slots = realloc(w->slots, size * sizeof(*slots));

		if (!slots)
			return -ENOMEM;
		w->slots = slots;
		w->size_slots = size;
	}
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	slot->origin.id = w->n_slots;
	slot->next_free = UINT32_MAX;
	w->first_free = w->n_slots;
	w->slots[w->n_slots++] = slot;
	return 0;
}

int origin_open(struct waiters *w, struct origin **out)
{
	struct slot *slot;
	int r;

	if (w->first_free == UINT32_MAX) {
		r = origin_add_slot(w);
		if (r)
			return r;
	}
	slot = w->slots[w->first_free];
	w->first_free = slot->next_free;
	slot->open = true;
	slot->origin = (struct origin){.id = slot->origin.id + (UINT64_C(1) << 32)};
	list_init(&slot->origin.waiters);
	list_init(&slot->origin.doubt);
	*out = &slot->origin;
	return 0;
}

void origin_close(struct waiters *w, struct origin *origin)
{
	uint32_t index = ORIGIN_SLOT(origin->id);
	struct slot *slot = w->slots[index];

	assert(slot->open && list_is_empty(&origin->waiters));
	list_remove(&origin->doubt);
	slot->open = false;
	slot->next_free = w->first_free;
	w->first_free = index;
}

struct origin *origin_find(struct waiters *w, uint64_t id)
{
	struct slot *slot;

	if (ORIGIN_SLOT(id) >= w->n_slots)
		return NULL;
	slot = w->slots[ORIGIN_SLOT(id)];
	return slot->open && slot->origin.id == id ? &slot->origin : NULL;
}

int origin_take_error(struct origin *origin)
{
	int error = origin->error;

	origin->error = 0;
	return error;
}

/* --- parking ---------------------------------------------------------------------------------- */

int waiters_make_room(struct waiters *w)
{
	struct waiter *waiter;

	if (w->n_parked == WAITERS_MAX)
		return -ENOBUFS;
	if (list_is_empty(&w->spare)) {
		waiter = malloc(sizeof(*waiter));
		if (!waiter)
			return -ENOMEM;
		list_append(&w->spare, &waiter->link);
	}
	return 0;
}

/* Room was made. */
static struct waiter *waiter_take(struct waiters *w)
{
	struct list *link = list_first(&w->spare);

	assert(link);
	list_remove(link);
	return container_of(link, struct waiter, link);
}

static void waiter_unlink(struct waiter *waiter)
{
	struct waiters *w = waiter->owner;

	list_remove(&waiter->link);
	list_remove(&waiter->kin);
	list_remove(&waiter->stored);
	free(waiter->data);
	w->n_blocked_bytes -= waiter->len;
	waiter->data = NULL;
	waiter->len = 0;
	list_append(&w->spare, &waiter->link);
	--w->n_parked;
}

static void waiter_answer(struct waiter *waiter, ssize_t result)
{
	waiter_unlink(waiter);
	fuse_parked_reply(&waiter->parked, result);
}

/* A place of the table, for a request that is parked next. Room was made. */
static struct waiter *waiter_new(struct waiters *w, enum waiter_kind kind)
{
	struct waiter *waiter = waiter_take(w);

	*waiter = (struct waiter){.owner = w, .kind = kind};
	list_init(&waiter->link);
	list_init(&waiter->kin);
	list_init(&waiter->stored);
	++w->n_parked;
	return waiter;
}

/* Commits come in the order of records, writes mostly too: the place is near the end. */
static void waiter_link_stored(struct waiter *waiter)
{
	struct list *at = &waiter->owner->stored;

	while (at->prev != &waiter->owner->stored &&
	       container_of(at->prev, struct waiter, stored)->write.last > waiter->write.last)
		at = at->prev;
	list_insert_before(at, &waiter->stored);
}

/* Begins to wait for an outcome. */
static void waiter_start(struct waiter *waiter, struct origin *origin, const struct wait_write *write,
			 uint64_t n_left)
{
	struct waiters *w = waiter->owner;
	uint64_t now_ns = loop_now_ns(w->loop);

	waiter->origin = origin;
	waiter->write = *write;
	waiter->n_left = n_left;
	waiter->deadline_ns = w->timeout_ns == TIME_NEVER ? TIME_NEVER : now_ns + w->timeout_ns;
	list_append(&w->all, &waiter->link);
	list_append(&origin->waiters, &waiter->kin);
	if (write->level == WAIT_STORED)
		waiter_link_stored(waiter);
	if (!loop_timer_is_armed(&w->timer))
		loop_timer_arm(w->loop, &w->timer, waiter->deadline_ns);
}

void waiters_park_write(struct waiters *w, struct origin *origin, struct fuse_request *req,
			const struct wait_write *write)
{
	struct waiter *waiter = waiter_new(w, WAITER_WRITE);

	waiter_start(waiter, origin, write, write->last - write->first + 1);
	fuse_park(req, &waiter->parked);
}

int waiters_park_sync(struct waiters *w, struct origin *origin, struct fuse_request *req,
		      enum wait_level level)
{
	const struct wait_write all = {.level = level, .last = origin->last_sequence};
	struct waiter *waiter;
	int r = waiters_make_room(w);

	if (r)
		return r;
	waiter = waiter_new(w, WAITER_SYNC);
	waiter_start(waiter, origin, &all, origin->n_unfinished);
	fuse_park(req, &waiter->parked);
	return FUSE_PARKED;
}

void waiters_interrupt(struct fuse_parked *parked)
{
	waiter_unlink(container_of(parked, struct waiter, parked));
}

/* --- blocked writes --------------------------------------------------------------------------- */

int waiters_park_blocked(struct waiters *w, struct fuse_file *file, struct fuse_request *req,
			 struct bytes data)
{
	struct waiter *waiter;
	uint8_t *copy;
	int r = waiters_make_room(w);

	if (r)
		return r;
	if (data.len > WAITERS_BLOCKED_BYTES_MAX - w->n_blocked_bytes)
		return -ENOBUFS;
	copy = malloc(data.len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data.data, data.len);
	waiter = waiter_new(w, WAITER_BLOCKED);
	waiter->flags = file->write_flags;
	waiter->data = copy;
	waiter->len = data.len;
	w->n_blocked_bytes += data.len;
	list_append(&w->blocked, &waiter->link);
	fuse_park(req, &waiter->parked);
	return FUSE_PARKED;
}

bool waiters_has_blocked(const struct waiters *w)
{
	return !list_is_empty(&w->blocked);
}

struct bytes waiters_blocked_bytes(struct fuse_parked *parked)
{
	const struct waiter *waiter = container_of(parked, struct waiter, parked);

	return BYTES(waiter->data, waiter->len);
}

bool waiters_next_blocked(struct waiters *w, struct fuse_parked *after, struct blocked_write *out)
{
	struct list *link = after ? container_of(after, struct waiter, parked)->link.next : w->blocked.next;
	struct waiter *waiter;

	if (link == &w->blocked)
		return false;
	waiter = container_of(link, struct waiter, link);
	*out = (struct blocked_write){
		.parked = &waiter->parked,
		.file = waiter->parked.file,
		.flags = waiter->flags,
		.data = BYTES(waiter->data, waiter->len),
	};
	return true;
}

void waiters_answer_blocked(const struct blocked_write *blocked, ssize_t result)
{
	waiter_answer(container_of(blocked->parked, struct waiter, parked), result);
}

void waiters_take_blocked(const struct blocked_write *blocked, struct origin *origin,
			  const struct wait_write *write)
{
	struct waiter *waiter = container_of(blocked->parked, struct waiter, parked);

	free(waiter->data);
	waiter->data = NULL;
	waiter->owner->n_blocked_bytes -= waiter->len;
	waiter->len = 0;
	waiter->kind = WAITER_WRITE;
	list_remove(&waiter->link);
	waiter_start(waiter, origin, write, write->last - write->first + 1);
}

/* --- outcomes --------------------------------------------------------------------------------- */

bool origin_waits_for(const struct origin *origin, uint64_t sequence, enum wait_level level)
{
	list_for_each (link, &origin->waiters) {
		const struct waiter *waiter = container_of(link, struct waiter, kin);

		if (waiter->kind == WAITER_WRITE && waiter->write.level >= level &&
		    sequence >= waiter->write.first && sequence <= waiter->write.last)
			return true;
	}
	return false;
}

void origin_appended(struct origin *origin, uint64_t sequence, uint64_t stored)
{
	if (origin->unstored_from <= stored)
		origin->unstored_from = sequence;
	origin->last_sequence = sequence;
	++origin->n_unfinished;
}

/* Of a write, as far as it is known. */
static int waiter_error(const struct waiter *waiter)
{
	return waiter->error ? waiter->error : waiter->is_lost ? -EIO : 0;
}

static void waiter_finish(struct waiter *waiter)
{
	int error = waiter->kind == WAITER_SYNC ? origin_take_error(waiter->origin) : waiter_error(waiter);

	waiter_answer(waiter, error || waiter->kind == WAITER_SYNC ? error : (ssize_t)waiter->write.size);
}

bool origin_answers(const struct origin *origin, uint64_t sequence)
{
	list_for_each (link, &origin->waiters) {
		const struct waiter *waiter = container_of(link, struct waiter, kin);

		if (waiter->n_left == 1 && sequence >= waiter->write.first && sequence <= waiter->write.last)
			return true;
	}
	return false;
}

void origin_record_done(struct origin *origin, uint64_t sequence, int error)
{
	assert(origin->n_unfinished);
	--origin->n_unfinished;
	if (sequence <= origin->doubt_until)
		--origin->n_doubtful;
	list_for_each_safe (link, &origin->waiters) {
		struct waiter *waiter = container_of(link, struct waiter, kin);

		if (sequence < waiter->write.first || sequence > waiter->write.last)
			continue;
		if (error && !waiter->error)
			waiter->error = error;
		if (--waiter->n_left == 0)
			waiter_finish(waiter);
	}
}

void waiters_on_stored(struct waiters *w, uint64_t sequence)
{
	struct list *link;

	if (sequence > w->stored_sequence)
		w->stored_sequence = sequence;
	while ((link = list_first(&w->stored))) {
		struct waiter *waiter = container_of(link, struct waiter, stored);

		if (waiter->write.last > sequence)
			break;
		waiter_finish(waiter);
	}
}

/* A write that waits for a record which could not be stored. Its own records have no outcome for it any more. */
static void waiter_fail(struct waiter *waiter, int error, waiters_withdraw_fn withdraw, void *userdata)
{
	const struct wait_write write = waiter->write;

	waiter->write.last = waiter->write.first - 1;
	withdraw(userdata, waiter->parked.file, &write, error);
	waiter_answer(waiter, error);
}

/* Origins with records that could not be stored: their next fsync says so, or the one that waits. */
static void origins_fail(struct waiters *w, uint64_t sequence, int error)
{
	for (uint32_t i = 0; i < w->n_slots; ++i) {
		struct origin *origin = &w->slots[i]->origin;

		if (w->slots[i]->open && origin->n_unfinished && origin->unstored_from <= sequence &&
		    origin->last_sequence > w->stored_sequence && !origin->error)
			origin->error = error;
	}
}

/* The first write that waits for a record up to @sequence. */
static struct waiter *waiters_first_write(struct waiters *w, uint64_t sequence)
{
	list_for_each (link, &w->stored) {
		struct waiter *waiter = container_of(link, struct waiter, stored);

		if (waiter->kind == WAITER_WRITE && waiter->write.first <= sequence)
			return waiter;
	}
	return NULL;
}

void waiters_on_not_stored(struct waiters *w, uint64_t sequence, int error, waiters_withdraw_fn withdraw,
			   void *userdata)
{
	struct waiter *write;

	/* Others may have their answer as well when records are withdrawn: begin anew each time. */
	while ((write = waiters_first_write(w, sequence)))
		waiter_fail(write, error, withdraw, userdata);
	origins_fail(w, sequence, error);
	list_for_each_safe (link, &w->stored) {
		struct waiter *waiter = container_of(link, struct waiter, stored);

		/* Without an error of its origin it waits for nothing that failed. */
		if (waiter->kind == WAITER_SYNC && waiter->origin->error)
			waiter_finish(waiter);
	}
	/* They will not be stored by a later commit. */
	if (sequence > w->stored_sequence)
		w->stored_sequence = sequence;
}

/* --- lost records ----------------------------------------------------------------------------- */

static void origin_doubt(struct waiters *w, struct origin *origin)
{
	origin->doubt_until = origin->last_sequence;
	origin->n_doubtful = origin->n_unfinished;
	if (!list_is_linked(&origin->doubt))
		list_append(&w->doubtful, &origin->doubt);
}

void waiters_on_lost(struct waiters *w, const struct journal_lane *lane, uint16_t channel, uint64_t first,
		     uint64_t last)
{
	list_for_each (link, &w->all) {
		struct waiter *waiter = container_of(link, struct waiter, link);
		const struct wait_write *write = &waiter->write;

		if (waiter->kind != WAITER_WRITE || write->lane != lane || write->first > last ||
		    write->last < first)
			continue;
		w->has_lost = waiter->is_lost = true;
		waiter->is_all_lost |= write->first >= first && write->last <= last;
	}
	for (uint32_t i = 0; i < w->n_slots; ++i) {
		struct origin *origin = &w->slots[i]->origin;

		if (w->slots[i]->open && origin->channel == channel && origin->n_unfinished &&
		    origin->last_sequence >= first)
			origin_doubt(w, origin);
	}
}

struct origin *waiters_writer(struct waiters *w, uint64_t sequence)
{
	list_for_each (link, &w->all) {
		const struct waiter *waiter = container_of(link, struct waiter, link);

		if (waiter->kind == WAITER_WRITE && sequence >= waiter->write.first &&
		    sequence <= waiter->write.last)
			return waiter->origin;
	}
	return NULL;
}

bool waiters_have_lost(const struct waiters *w)
{
	return w->has_lost || !list_is_empty(&w->doubtful);
}

/* The rest of it is taken back when it is to be stored as a whole; what waits for the hub goes on. */
static void waiter_fail_lost(struct waiter *waiter, waiters_withdraw_fn withdraw, void *userdata)
{
	uint64_t first = waiter->write.first, n = waiter->is_all_lost ? waiter->n_left : 0;
	struct origin *origin = waiter->origin;

	if (waiter->write.level == WAIT_STORED)
		waiter_fail(waiter, waiter_error(waiter), withdraw, userdata);
	else
		waiter_finish(waiter);
	/* An fsync beside it need not wait for them, and tells nobody twice. */
	while (n-- > 0)
		origin_record_done(origin, first, 0);
}

void waiters_fail_lost(struct waiters *w, waiters_withdraw_fn withdraw, void *userdata)
{
	while (w->has_lost) {
		struct waiter *lost = NULL;

		list_for_each (link, &w->all) {
			struct waiter *waiter = container_of(link, struct waiter, link);

			if (!lost && waiter->is_lost)
				lost = waiter;
		}
		w->has_lost = lost;
		if (lost)
			waiter_fail_lost(lost, withdraw, userdata);
	}
}

struct origin *waiters_next_doubtful(struct waiters *w, const struct origin *after)
{
	struct list *link = after ? after->doubt.next : w->doubtful.next;

	return link == &w->doubtful ? NULL : container_of(link, struct origin, doubt);
}

/* @n records up to @last are lost, all there are without an outcome. */
static void origin_lose(struct origin *origin, uint64_t last, uint64_t n)
{
	if (n && !origin->error)
		origin->error = -EIO;
	origin->n_unfinished -= n;
	origin->n_doubtful -= n;
	list_for_each (link, &origin->waiters) {
		struct waiter *waiter = container_of(link, struct waiter, kin);

		if (waiter->kind == WAITER_SYNC)
			waiter->n_left = waiter->write.last < last ? 0 : waiter->n_left - n;
	}
}

/* Those that do not wait for all of what is doubtful. */
static void origin_settle_syncs(struct origin *origin, uint64_t left)
{
	list_for_each (link, &origin->waiters) {
		struct waiter *waiter = container_of(link, struct waiter, kin);

		if (waiter->kind == WAITER_SYNC && waiter->write.last < left)
			origin_lose(origin, waiter->write.last, waiter->n_left);
	}
}

void origin_settle_doubt(struct origin *origin, uint64_t left)
{
	if (origin->doubt_until < left) {
		origin_lose(origin, origin->doubt_until, origin->n_doubtful);
		origin->doubt_until = 0;
		list_remove(&origin->doubt);
	} else {
		origin_settle_syncs(origin, left);
	}
	list_for_each_safe (link, &origin->waiters) {
		struct waiter *waiter = container_of(link, struct waiter, kin);

		if (waiter->kind == WAITER_SYNC && waiter->n_left == 0)
			waiter_finish(waiter);
	}
}

/* --- time ------------------------------------------------------------------------------------- */

/* What is known by now says more than the clock: an error, or the hub's last refusal. */
static int waiter_late(struct waiter *waiter)
{
	struct origin *origin = waiter->origin;
	bool is_sync = waiter->kind == WAITER_SYNC;
	int error = is_sync ? origin_take_error(origin) : waiter_error(waiter);

	if (!error && is_sync && waiter->write.level == WAIT_HUB)
		error = origin->refused;
	return error ? error : -ETIMEDOUT;
}

/* No outcome within the time: the records stay queued. */
static void waiters_on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct waiters *w = container_of(timer, struct waiters, timer);
	struct list *link;

	while ((link = list_first(&w->all))) {
		struct waiter *waiter = container_of(link, struct waiter, link);

		if (waiter->deadline_ns > now_ns) {
			loop_timer_arm(w->loop, &w->timer, waiter->deadline_ns);
			return;
		}
		waiter_answer(waiter, waiter_late(waiter));
	}
}
