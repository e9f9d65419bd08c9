/* SPDX-License-Identifier: MIT */
/*
 * Origins and waiters, see waiters.h.
 *
 * All waiters wait equally long, so the list of all of them is in order of deadline and one timer serves it. A
 * waiter is in that list and in its origin's. Waiters and origins are kept for reuse: after the first of their
 * kind nothing is allocated.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/time.h"
#include "flow/waiters.h"

/* An origin's id: generation in the upper, slot in the lower 32 bits; generations start at 1, so 0 is nobody.
 */
#define ORIGIN_SLOT(id) ((uint32_t)(id))

struct waiter {
	struct fuse_parked parked;
	struct waiters *owner;
	struct list link; /* waiters.all, or waiters.spare */
	struct list kin;  /* origin.waiters */
	struct origin *origin;
	bool is_sync;
	uint64_t first, last; /* records it waits for; an fsync from the first on */
	uint64_t n_left;
	size_t size;
	int error;
	uint64_t deadline_ns;
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
	struct list all;
	struct list spare;
	unsigned int n_parked;
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
	list_init(&w->spare);
	loop_timer_init(&w->timer, waiters_on_timer);
	*out = w;
	return 0;
}

void waiters_free(struct waiters *w)
{
	if (!w)
		return;
	assert(list_is_empty(&w->all));
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
	*out = &slot->origin;
	return 0;
}

void origin_close(struct waiters *w, struct origin *origin)
{
	uint32_t index = ORIGIN_SLOT(origin->id);
	struct slot *slot = w->slots[index];

	assert(slot->open && list_is_empty(&origin->waiters));
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
	list_append(&w->spare, &waiter->link);
	--w->n_parked;
}

static void waiter_answer(struct waiter *waiter, ssize_t result)
{
	waiter_unlink(waiter);
	fuse_parked_reply(&waiter->parked, result);
}

static void waiter_park(struct waiter *waiter, struct waiters *w, struct origin *origin,
			struct fuse_request *req)
{
	uint64_t now_ns = loop_now_ns(w->loop);

	waiter->owner = w;
	waiter->origin = origin;
	waiter->deadline_ns = w->timeout_ns == TIME_NEVER ? TIME_NEVER : now_ns + w->timeout_ns;
	list_append(&w->all, &waiter->link);
	list_append(&origin->waiters, &waiter->kin);
	++w->n_parked;
	if (!loop_timer_is_armed(&w->timer))
		loop_timer_arm(w->loop, &w->timer, waiter->deadline_ns);
	fuse_park(req, &waiter->parked);
}

void waiters_park_write(struct waiters *w, struct origin *origin, struct fuse_request *req, uint64_t first,
			uint64_t last, size_t size)
{
	struct waiter *waiter = waiter_take(w);

	*waiter = (struct waiter){.first = first, .last = last, .n_left = last - first + 1, .size = size};
	waiter_park(waiter, w, origin, req);
}

int waiters_park_sync(struct waiters *w, struct origin *origin, struct fuse_request *req)
{
	struct waiter *waiter;
	int r = waiters_make_room(w);

	if (r)
		return r;
	waiter = waiter_take(w);
	*waiter = (struct waiter){
		.is_sync = true,
		.last = origin->last_sequence,
		.n_left = origin->n_unfinished,
	};
	waiter_park(waiter, w, origin, req);
	return FUSE_PARKED;
}

void waiters_interrupt(struct fuse_parked *parked)
{
	waiter_unlink(container_of(parked, struct waiter, parked));
}

/* --- outcomes --------------------------------------------------------------------------------- */

bool origin_waits_for(const struct origin *origin, uint64_t sequence)
{
	list_for_each (link, &origin->waiters) {
		const struct waiter *waiter = container_of(link, struct waiter, kin);

		if (!waiter->is_sync && sequence >= waiter->first && sequence <= waiter->last)
			return true;
	}
	return false;
}

void origin_appended(struct origin *origin, uint64_t sequence)
{
	origin->last_sequence = sequence;
	++origin->n_unfinished;
}

static void waiter_finish(struct waiter *waiter)
{
	if (waiter->is_sync)
		waiter_answer(waiter, origin_take_error(waiter->origin));
	else
		waiter_answer(waiter, waiter->error ? waiter->error : (ssize_t)waiter->size);
}

void origin_record_done(struct origin *origin, uint64_t sequence, int error)
{
	assert(origin->n_unfinished);
	--origin->n_unfinished;
	list_for_each_safe (link, &origin->waiters) {
		struct waiter *waiter = container_of(link, struct waiter, kin);

		if (sequence < waiter->first || sequence > waiter->last)
			continue;
		if (error && !waiter->error)
			waiter->error = error;
		if (--waiter->n_left == 0)
			waiter_finish(waiter);
	}
}

/* No outcome within the time: the records stay queued. The hub's last refusal says more than the clock, if
 * there is one. */
static void waiters_on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct waiters *w = container_of(timer, struct waiters, timer);
	struct list *link;

	while ((link = list_first(&w->all))) {
		struct waiter *waiter = container_of(link, struct waiter, link);
		int refused = waiter->is_sync ? waiter->origin->refused : 0;

		if (waiter->deadline_ns > now_ns) {
			loop_timer_arm(w->loop, &w->timer, waiter->deadline_ns);
			return;
		}
		waiter_answer(waiter, refused ? refused : -ETIMEDOUT);
	}
}
