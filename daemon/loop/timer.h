/* SPDX-License-Identifier: MIT */
#ifndef LOOP_TIMER_H
#define LOOP_TIMER_H

/*
 * The heap of armed timers, private to the loop. Intrusive: arming allocates nothing.
 */

#include "loop/loop.h"

void timer_heap_insert(struct loop_timer **root, struct loop_timer *t);
void timer_heap_remove(struct loop_timer **root, struct loop_timer *t);

#endif
