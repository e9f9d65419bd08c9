/* SPDX-License-Identifier: MIT */
/*
 * Timers in a pairing heap: insertion and finding the first are O(1), removal O(log n) amortised. A link's
 * `prev` is the sibling before it or, for a first child, the parent; the root has neither prev nor next.
 */

#include <assert.h>

#include "base/time.h"
#include "loop/timer.h"

static struct loop_timer *heap_merge(struct loop_timer *a, struct loop_timer *b)
{
	struct loop_timer *low = b->at_ns < a->at_ns ? b : a, *high = low == a ? b : a;

	high->prev = low;
	high->next = low->child;
	if (low->child)
		low->child->prev = high;
	low->child = high;
	return low;
}

/* Makes one heap of a list of siblings: pairs from left to right, then all of them from the last pair on. */
static struct loop_timer *heap_merge_siblings(struct loop_timer *first)
{
	struct loop_timer *pairs = NULL, *root = NULL;

	while (first) {
		struct loop_timer *a = first, *b = a->next;

		first = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b) {
			b->next = b->prev = NULL;
			a = heap_merge(a, b);
		}
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct loop_timer *t = pairs;

		pairs = t->next;
		t->next = t->prev = NULL;
		root = root ? heap_merge(root, t) : t;
	}
	return root;
}

void timer_heap_insert(struct loop_timer **root, struct loop_timer *t)
{
	t->child = t->next = t->prev = NULL;
	*root = *root ? heap_merge(*root, t) : t;
}

void timer_heap_remove(struct loop_timer **root, struct loop_timer *t)
{
	struct loop_timer *rest = heap_merge_siblings(t->child);

	if (t == *root) {
		*root = rest;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		if (rest)
			*root = heap_merge(*root, rest);
	}
	t->child = t->next = t->prev = NULL;
}

void loop_timer_init(struct loop_timer *timer, loop_timer_fn fn)
{
	*timer = (struct loop_timer){.at_ns = TIME_NEVER, .fn = fn};
}

bool loop_timer_is_armed(const struct loop_timer *timer)
{
	return timer->at_ns != TIME_NEVER;
}
