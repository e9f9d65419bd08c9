/* SPDX-License-Identifier: MIT */
/*
 * What becomes of calls: responses, which the link takes at once or when it has room, and their acknowledgement;
 * refusals, which are 06A0 for a call that is over, likewise; and the end of a call.
 *
 * A call that has ended stays for its opener, so that who comes too late, or a second time, hears so.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/time.h"
#include "flow/methods_internal.h"

/* How long a response that was sent may take to be acknowledged. */
#define ACKNOWLEDGE_MAX_NS (60 * NSEC_PER_SEC)
/* Refusals that wait for room; more are dropped, and their callers wait for the hub's time limit. */
#define REFUSALS_MAX 1024

struct refusal {
	struct list link; /* methods.refusals */
	size_t correlation_len;
	uint8_t correlation[HUB_CORRELATION_BYTES_MAX];
};

static bool has_no_room(int error)
{
	return error == -EAGAIN || error == -ENOBUFS;
}

/* --- refusals --------------------------------------------------------------------------------- */

void methods_refuse(struct methods *m, struct bytes correlation)
{
	struct refusal *refusal;

	if (!has_no_room(link_respond_unavailable(m->link, correlation)) || m->n_refusals == REFUSALS_MAX)
		return;
	refusal = malloc(sizeof(*refusal));
	if (!refusal)
		return;
	memcpy(refusal->correlation, correlation.data, correlation.len);
	refusal->correlation_len = correlation.len;
	list_append(&m->refusals, &refusal->link);
	++m->n_refusals;
}

static void refusal_free(struct methods *m, struct refusal *refusal)
{
	list_remove(&refusal->link);
	--m->n_refusals;
	free(refusal);
}

void methods_drop_refusals(struct methods *m)
{
	list_for_each_safe (iter, &m->refusals)
		refusal_free(m, container_of(iter, struct refusal, link));
}

/* False: there is no room yet. */
static bool methods_send_refusals(struct methods *m)
{
	list_for_each_safe (iter, &m->refusals) {
		struct refusal *refusal = container_of(iter, struct refusal, link);
		struct bytes correlation = BYTES(refusal->correlation, refusal->correlation_len);

		if (has_no_room(link_respond_unavailable(m->link, correlation)))
			return false;
		refusal_free(m, refusal);
	}
	return true;
}

/* --- calls ------------------------------------------------------------------------------------ */

struct bytes method_call_correlation(const struct method_call *call)
{
	return BYTES(call->correlation, call->correlation_len);
}

void method_call_arm(struct method_call *call, uint64_t at_ns)
{
	if (at_ns == TIME_NEVER)
		loop_timer_disarm(&call->timer);
	else
		loop_timer_arm(call->owner->loop, &call->timer, at_ns);
}

static void call_drop_response(struct method_call *call)
{
	call->n_bytes -= call->response_len;
	call->owner->n_bytes -= call->response_len;
	free(call->response);
	call->response = NULL;
	call->response_len = 0;
	list_remove(&call->queue);
}

void method_call_free(struct method_call *call)
{
	loop_timer_disarm(&call->timer);
	link_await_cancel(call->owner->link, &call->delivery);
	call_drop_response(call);
	list_remove(&call->link);
	call->owner->n_bytes -= call->n_bytes;
	free(call);
}

/* It has a response, or will have none: stays for its opener, if there is one. */
static void call_end(struct method_call *call, enum call_state state)
{
	if (!call->opener) {
		method_call_free(call);
		return;
	}
	loop_timer_disarm(&call->timer);
	link_await_cancel(call->owner->link, &call->delivery);
	call_drop_response(call);
	call->state = state;
}

void method_call_end_late(struct method_call *call)
{
	struct method_opener *opener = call->opener;

	call_end(call, CALL_LATE);
	opener->on_gone(opener);
}

void method_call_finish(struct method_call *call, int error)
{
	struct method_opener *opener = call->awaited ? call->opener : NULL;

	call->awaited = false;
	call_end(call, CALL_ANSWERED);
	if (opener)
		opener->on_answered(opener, error);
}

void method_call_refuse(struct method_call *call)
{
	methods_refuse(call->owner, method_call_correlation(call));
	method_call_free(call);
}

/* --- responses -------------------------------------------------------------------------------- */

int method_respond_check(const struct method_opener *opener)
{
	if (!opener->call)
		return opener->method ? -ENOTCONN : -ENODEV;
	switch (opener->call->state) {
	case CALL_OPEN:
		return 0;
	case CALL_LATE:
		return -ETIMEDOUT;
	case CALL_WAITING:
	case CALL_QUEUED:
	case CALL_SENT:
	case CALL_ANSWERED:
		break;
	}
	return -EALREADY;
}

/* The link has taken the response. Returns 0 or METHOD_WAITS. */
static int call_sent(struct method_call *call)
{
	struct methods *m = call->owner;

	if (!call->awaited || link_await_acknowledged(m->link, &call->delivery)) {
		call_end(call, CALL_ANSWERED);
		return 0;
	}
	call_drop_response(call);
	call->state = CALL_SENT;
	method_call_arm(call, loop_now_ns(m->loop) + ACKNOWLEDGE_MAX_NS);
	return METHOD_WAITS;
}

/* The link has no room: keeps the response until it has. Returns 0, METHOD_WAITS, or negative. */
static int call_queue(struct method_call *call, uint32_t code, struct bytes payload)
{
	struct methods *m = call->owner;

	if (payload.len > link_packet_bytes_max(m->link))
		return -EMSGSIZE;
	if (payload.len > METHODS_BYTES_MAX - m->n_bytes)
		return -ENOBUFS;
	call->response = payload.len ? malloc(payload.len) : NULL;
	if (payload.len && !call->response)
		return -ENOMEM;
	if (payload.len)
		memcpy(call->response, payload.data, payload.len);
	call->response_len = payload.len;
	call->code = code;
	call->n_bytes += payload.len;
	m->n_bytes += payload.len;
	call->state = CALL_QUEUED;
	list_append(&m->queued, &call->queue);
	return call->awaited ? METHOD_WAITS : 0;
}

int method_respond(struct method_opener *opener, uint32_t code, struct bytes payload, bool wait)
{
	struct method_call *call = opener->call;
	int r = method_respond_check(opener);

	if (r)
		return r;
	call->was_read = true;
	call->awaited = wait;
	r = link_respond(call->owner->link, method_call_correlation(call), code, payload);
	if (!r)
		return call_sent(call);
	if (has_no_room(r))
		return call_queue(call, code, payload);
	/* It was stopped: as if the connection had ended. */
	return r == -ENOTCONN ? -ETIMEDOUT : r;
}

bool method_hurry(struct method_opener *opener)
{
	struct method_call *call = opener->call;
	uint64_t at_ns = loop_now_ns(call->owner->loop) + METHOD_HURRY_NS;

	if (call->state != CALL_SENT)
		return false;
	if (call->timer.at_ns > at_ns)
		method_call_arm(call, at_ns);
	return true;
}

void method_stop_waiting(struct method_opener *opener)
{
	struct method_call *call = opener->call;

	if (!call || !call->awaited)
		return;
	call->awaited = false;
	if (call->state == CALL_SENT)
		call_end(call, CALL_ANSWERED);
}

/* What the link did not take, as the hub would not: the call is as it was before, unless its opener believes that
 * it has its response. */
static void call_not_sent(struct method_call *call, int error)
{
	struct method_opener *opener = call->opener;

	if (!call->awaited) {
		methods_refuse(call->owner, method_call_correlation(call));
		call_end(call, CALL_ANSWERED);
		return;
	}
	call_drop_response(call);
	call->awaited = false;
	call->state = CALL_OPEN;
	opener->on_answered(opener, error);
}

void methods_on_writable(struct methods *m)
{
	struct list *iter;

	if (!methods_send_refusals(m))
		return;
	while ((iter = list_first(&m->queued))) {
		struct method_call *call = container_of(iter, struct method_call, queue);
		int r = link_respond(m->link, method_call_correlation(call), call->code,
				     BYTES(call->response, call->response_len));

		if (has_no_room(r))
			return;
		if (r)
			call_not_sent(call, r);
		else
			(void)call_sent(call);
	}
}
