/* SPDX-License-Identifier: MIT */
/*
 * Who waits until the hub's machine has acknowledged what we sent. TCP acknowledgements are no events: the kernel
 * is asked, when everything was handed to it and then by a timer that becomes slower, and only while somebody
 * waits. (Time stamps of acknowledgements would be events, but come through the error queue of the socket, where
 * the receiving side would have to look for them all the time.)
 *
 * A wait's target is the number of ciphertext bytes written to the connection when all that was queued before it
 * had been encrypted: which is now when the session has no output left, else at the end of this turn. Until then it
 * is TARGET_UNKNOWN, and such waits are the last of the list.
 */

#include <errno.h>

#include "base/time.h"
#include "flow/link_internal.h"

#define TARGET_UNKNOWN UINT64_MAX

/* An acknowledgement comes after a round trip; one that is delayed, 40 ms later. */
#define INTERVAL_MIN_NS (50 * NSEC_PER_USEC)
#define INTERVAL_MAX_NS (20 * NSEC_PER_MSEC)

static struct link_delivery_wait *wait_of(struct list *iter)
{
	return container_of(iter, struct link_delivery_wait, link);
}

void link_awaited_check(struct link *link)
{
	struct list *iter = list_first(&link->awaited);
	uint64_t n_acknowledged;

	if (!iter)
		return;
	n_acknowledged = conn_n_acknowledged(link->conn);
	for (; iter && wait_of(iter)->target <= n_acknowledged; iter = list_first(&link->awaited)) {
		list_remove(iter);
		wait_of(iter)->on_acknowledged(wait_of(iter), 0);
	}
	if (list_is_empty(&link->awaited))
		loop_timer_disarm(&link->awaited_timer);
}

static void link_on_awaited_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct link *link = container_of(timer, struct link, awaited_timer);

	link_awaited_check(link);
	/* Nobody is left, or who came by the callbacks has armed it. */
	if (list_is_empty(&link->awaited) || loop_timer_is_armed(timer))
		return;
	link->awaited_interval_ns *= 2;
	if (link->awaited_interval_ns > INTERVAL_MAX_NS)
		link->awaited_interval_ns = INTERVAL_MAX_NS;
	loop_timer_arm(link->loop, timer, now_ns + link->awaited_interval_ns);
}

void link_awaited_init(struct link *link)
{
	list_init(&link->awaited);
	loop_timer_init(&link->awaited_timer, link_on_awaited_timer);
}

int link_await_acknowledged(struct link *link, struct link_delivery_wait *wait)
{
	uint64_t at_ns = loop_now_ns(link->loop) + INTERVAL_MIN_NS;

	if (link->state != LINK_ONLINE)
		return -ENOTCONN;
	wait->target = mqtt_session_output(link->session).len ? TARGET_UNKNOWN : conn_n_written(link->conn);
	list_append(&link->awaited, &wait->link);
	link->awaited_interval_ns = INTERVAL_MIN_NS;
	/* Not moved back: those who come every moment would keep it from firing. */
	if (!loop_timer_is_armed(&link->awaited_timer) || link->awaited_timer.at_ns > at_ns)
		loop_timer_arm(link->loop, &link->awaited_timer, at_ns);
	return 0;
}

void link_await_cancel(struct link *link, struct link_delivery_wait *wait)
{
	list_remove(&wait->link);
	if (list_is_empty(&link->awaited))
		loop_timer_disarm(&link->awaited_timer);
}

void link_awaited_written(struct link *link)
{
	uint64_t n_written = conn_n_written(link->conn);

	for (struct list *iter = link->awaited.prev;
	     iter != &link->awaited && wait_of(iter)->target == TARGET_UNKNOWN; iter = iter->prev)
		wait_of(iter)->target = n_written;
}

void link_awaited_offline(struct link *link)
{
	struct list *iter;

	loop_timer_disarm(&link->awaited_timer);
	/* None can come: this connection is over, and none other there. */
	while ((iter = list_first(&link->awaited))) {
		list_remove(iter);
		wait_of(iter)->on_acknowledged(wait_of(iter), -ECONNRESET);
	}
}

void link_awaited_stop(struct link *link)
{
	loop_timer_disarm(&link->awaited_timer);
	list_for_each_safe (iter, &link->awaited)
		list_remove(iter);
}
