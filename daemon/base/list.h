/* SPDX-License-Identifier: MIT */
#ifndef BASE_LIST_H
#define BASE_LIST_H

/*
 * Intrusive doubly linked ring. The head is a link of its own; an unlinked link points to itself, so
 * list_remove() is idempotent and list_is_linked() needs no flag beside it.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

#define LIST_INIT(name)                                                                                      \
	{                                                                                                    \
		.next = &(name), .prev = &(name)                                                             \
	}

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_is_linked(const struct list *l)
{
	return l->next != l;
}

static inline bool list_is_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_insert_before(struct list *where, struct list *l)
{
	l->prev = where->prev;
	l->next = where;
	where->prev->next = l;
	where->prev = l;
}

/* Queue order: append at the end, take from the front. */
static inline void list_append(struct list *head, struct list *l)
{
	list_insert_before(head, l);
}

static inline void list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

/* Moves every link of @from to the end of @to; @from is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

static inline struct list *list_first(struct list *head)
{
	return list_is_empty(head) ? NULL : head->next;
}

#define list_for_each(iter, head) for (struct list *iter = (head)->next; iter != (head); iter = iter->next)

/* As list_for_each, and the body may remove or free @iter (and nothing else). */
#define list_for_each_safe(iter, head)                                                                       \
	for (struct list *iter = (head)->next, *iter##_next = iter->next; iter != (head);                    \
	     iter = iter##_next, iter##_next = iter->next)

#endif
