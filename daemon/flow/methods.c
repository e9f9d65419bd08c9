/* SPDX-License-Identifier: MIT */
/*
 * Direct methods, see methods.h: how a call finds its opener and is read, who has registered what, and what the end
 * of a connection means. Responses are in method_calls.c.
 *
 * Objects: a method, with its subscription, its openers in one of three lists (reading, idle, busy) and the calls
 * that wait for one; a call, with its request behind it, in the list of all calls and, depending on its state, in
 * one more; a refusal, which is 06A0 for a call that is over, waiting for room in the link.
 *
 * Invariants: an opener has a call exactly when it is busy. No call waits while an opener of its method is idle or
 * reading. A call that has ended (ANSWERED, LATE) belongs to an opener who has not closed yet; without an
 * opener calls are only WAITING or QUEUED.
 */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/time.h"
#include "flow/methods_internal.h"
#include "hub/method.h"
#include "mqtt/packet.h"

static uint64_t add_ns(uint64_t at_ns, uint64_t ns)
{
	return ns > TIME_NEVER - at_ns ? TIME_NEVER : at_ns + ns;
}

/* --- calls and openers ------------------------------------------------------------------------ */

static void call_stop_waiting(struct method_call *call)
{
	list_remove(&call->queue);
	--call->method->n_waiting;
	call->method = NULL;
}

static struct method_opener *opener_of(struct list *iter)
{
	return iter ? container_of(iter, struct method_opener, link) : NULL;
}

static struct method_call *queued_call(struct list *iter)
{
	return iter ? container_of(iter, struct method_call, queue) : NULL;
}

static void opener_take(struct method_opener *opener, struct method_call *call)
{
	call->state = CALL_OPEN;
	call->opener = opener;
	opener->call = call;
	list_remove(&opener->link);
	list_append(&opener->method->busy, &opener->link);
	method_call_arm(call, add_ns(call->arrived_ns, call->owner->timeout_ns));
}

/* The first of the calls that wait, if there is one. */
static bool opener_take_waiting(struct method_opener *opener)
{
	struct method *method = opener->method;
	struct method_call *call = queued_call(list_first(&method->waiting));

	if (!call)
		return false;
	call_stop_waiting(call);
	opener_take(opener, call);
	return true;
}

/* His call is gone before he knew of it: he may have another. */
static void opener_make_idle(struct method_opener *opener)
{
	opener->call = NULL;
	list_remove(&opener->link);
	list_append(&opener->method->idle, &opener->link);
	if (opener_take_waiting(opener))
		opener->on_call(opener);
}

/* One that was given to an opener before is older than those that wait. */
static void method_add_waiting(struct method *method, struct method_call *call, uint64_t until_ns)
{
	struct list *iter = method->waiting.next;

	while (iter != &method->waiting && queued_call(iter)->arrived_ns <= call->arrived_ns)
		iter = iter->next;
	list_insert_before(iter, &call->queue);
	++method->n_waiting;
	call->method = method;
	call->state = CALL_WAITING;
	method_call_arm(call, until_ns);
}

/* Finds an opener for a call that nobody has read from, or lets it wait, or refuses it. */
static void method_place(struct method *method, struct method_call *call)
{
	struct methods *m = method->owner;
	struct method_opener *opener = opener_of(list_first(&method->reading));
	uint64_t wait_ns = m->wait_ns < m->timeout_ns ? m->wait_ns : m->timeout_ns;
	uint64_t until_ns = add_ns(call->arrived_ns, wait_ns);

	if (!opener)
		opener = opener_of(list_first(&method->idle));
	if (opener) {
		opener_take(opener, call);
		opener->on_call(opener);
	} else if (until_ns > loop_now_ns(m->loop) && method->n_waiting < METHOD_WAITING_MAX) {
		method_add_waiting(method, call, until_ns);
	} else {
		log_debug(m->log, "nobody is there to answer a call of %s", method->topic);
		method_call_refuse(call);
	}
}

/* --- arrival ---------------------------------------------------------------------------------- */

static void call_on_acknowledged(struct link_delivery_wait *wait, int error)
{
	method_call_finish(container_of(wait, struct method_call, delivery), error);
}

/* It has taken too long. */
static void call_on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct method_call *call = container_of(timer, struct method_call, timer);
	struct method_opener *opener = call->opener;

	(void)now_ns;
	switch (call->state) {
	case CALL_WAITING:
		call_stop_waiting(call);
		method_call_refuse(call);
		break;
	case CALL_OPEN:
		if (call->was_read) {
			methods_refuse(call->owner, method_call_correlation(call));
			method_call_end_late(call);
		} else {
			method_call_refuse(call);
			opener_make_idle(opener);
		}
		break;
	case CALL_QUEUED:
		methods_refuse(call->owner, method_call_correlation(call));
		method_call_finish(call, -ETIMEDOUT);
		break;
	case CALL_SENT:
		method_call_finish(call, -ETIMEDOUT);
		break;
	case CALL_ANSWERED:
	case CALL_LATE:
		break;
	}
}

static struct method_call *call_new(struct methods *m, const struct link_message *message)
{
	struct bytes correlation = message->properties->correlation_data;
	size_t n_bytes = sizeof(struct method_call) + message->payload.len;
	struct method_call *call;

	if (n_bytes > METHODS_BYTES_MAX - m->n_bytes) {
		log_write_once(m->log, &m->full_log, LOG_LEVEL_WARNING,
			       "more than %d MiB of method calls wait for their responses: further calls are "
			       "refused",
			       (int)(METHODS_BYTES_MAX >> 20));
		return NULL;
	}
	call = calloc(1, n_bytes);
	if (!call)
		return NULL;
	call->owner = m;
	call->n_bytes = n_bytes;
	call->arrived_ns = loop_now_ns(m->loop);
	memcpy(call->correlation, correlation.data, correlation.len);
	call->correlation_len = correlation.len;
	if (message->payload.len)
		memcpy(call->request, message->payload.data, message->payload.len);
	call->request_len = message->payload.len;
	loop_timer_init(&call->timer, call_on_timer);
	link_delivery_wait_init(&call->delivery);
	call->delivery.on_acknowledged = call_on_acknowledged;
	list_init(&call->queue);
	list_append(&m->calls, &call->link);
	m->n_bytes += n_bytes;
	return call;
}

static void method_on_message(struct link_subscription *sub, const struct link_message *message)
{
	struct method *method = container_of(sub, struct method, sub);
	struct methods *m = method->owner;
	struct bytes correlation = message->properties->correlation_data;
	struct method_call *call;

	/* Not the contract's, but a broker may do it. */
	if (message->delivery.packet_id)
		(void)link_settle(m->link, &message->delivery, LINK_COMPLETE);
	if (!correlation.len || correlation.len > HUB_CORRELATION_BYTES_MAX) {
		log_debug(m->log, "a call of %s without valid Correlation Data: there is no way to answer it",
			  method->topic);
		return;
	}
	call = call_new(m, message);
	if (call)
		method_place(method, call);
	else
		methods_refuse(m, correlation);
}

/* --- openers ---------------------------------------------------------------------------------- */

void method_open(struct method *method, struct method_opener *opener)
{
	opener->method = method;
	opener->call = NULL;
	list_init(&opener->link);
	list_append(&method->idle, &opener->link);
	(void)opener_take_waiting(opener);
}

void method_close(struct method_opener *opener)
{
	struct method_call *call = opener->call;

	list_remove(&opener->link);
	opener->call = NULL;
	if (!call)
		return;
	call->opener = NULL;
	call->awaited = false;
	switch (call->state) {
	case CALL_OPEN:
		if (call->was_read)
			method_call_refuse(call);
		else
			method_place(opener->method, call);
		break;
	case CALL_QUEUED:
		break;
	case CALL_WAITING:
	case CALL_SENT:
	case CALL_ANSWERED:
	case CALL_LATE:
		method_call_free(call);
		break;
	}
}

int method_read(struct method_opener *opener, size_t size, struct bytes *out)
{
	struct method_call *call = opener->call;
	size_t n_left;

	if (!call)
		return opener->method ? -EAGAIN : -ENODEV;
	n_left = call->request_len - call->n_read;
	if (n_left && call->state == CALL_LATE)
		return -ETIMEDOUT;
	*out = BYTES(call->request + call->n_read, n_left < size ? n_left : size);
	call->n_read += out->len;
	call->was_read = true;
	return 0;
}

void method_set_reading(struct method_opener *opener, bool reading)
{
	if (opener->call || !opener->method)
		return;
	list_remove(&opener->link);
	list_append(reading ? &opener->method->reading : &opener->method->idle, &opener->link);
}

uint32_t method_poll(const struct method_opener *opener)
{
	const struct method_call *call = opener->call;

	if (!call)
		return opener->method ? 0 : POLLIN | POLLOUT | POLLERR;
	switch (call->state) {
	case CALL_OPEN:
		return POLLIN | POLLOUT;
	case CALL_LATE:
		return POLLIN | POLLOUT | POLLERR;
	case CALL_WAITING:
	case CALL_QUEUED:
	case CALL_SENT:
	case CALL_ANSWERED:
		break;
	}
	return POLLIN;
}

/* --- the end of a connection ------------------------------------------------------------------ */

static void call_on_offline(struct method_call *call)
{
	struct method_opener *opener = call->opener;

	switch (call->state) {
	case CALL_OPEN:
		if (call->was_read) {
			method_call_end_late(call);
		} else {
			method_call_free(call);
			opener_make_idle(opener);
		}
		break;
	case CALL_QUEUED:
		method_call_finish(call, -ECONNRESET);
		break;
	case CALL_WAITING:
	case CALL_SENT: /* the link says so itself */
	case CALL_ANSWERED:
	case CALL_LATE:
		break;
	}
}

void methods_on_offline(struct methods *m)
{
	methods_drop_refusals(m);
	/* First, so that no opener is given one of them. */
	list_for_each_safe (iter, &m->calls) {
		struct method_call *call = container_of(iter, struct method_call, link);

		if (call->state == CALL_WAITING) {
			call_stop_waiting(call);
			method_call_free(call);
		}
	}
	list_for_each_safe (iter, &m->calls)
		call_on_offline(container_of(iter, struct method_call, link));
}

/* --- life cycle ------------------------------------------------------------------------------- */

int methods_register(struct methods *m, const char *name, struct method **out)
{
	static const char prefix[] = HUB_TOPIC_METHODS_PREFIX;
	size_t prefix_len = sizeof(prefix) - 1, name_len = strlen(name);
	struct method *method;
	int r;

	if (!hub_method_name_is_valid(BYTES(name, name_len)))
		return -EINVAL;
	method = calloc(1, sizeof(*method) + prefix_len + name_len + 1);
	if (!method)
		return -ENOMEM;
	method->owner = m;
	memcpy(method->topic, prefix, prefix_len);
	memcpy(method->topic + prefix_len, name, name_len);
	list_init(&method->reading);
	list_init(&method->idle);
	list_init(&method->busy);
	list_init(&method->waiting);
	link_subscription_init(&method->sub);
	method->sub.filter = BYTES(method->topic, prefix_len + name_len);
	method->sub.qos = 0;
	method->sub.on_message = method_on_message;
	r = link_subscribe(m->link, &method->sub);
	if (r) {
		free(method);
		return r;
	}
	list_append(&m->methods, &method->link);
	*out = method;
	return 0;
}

/* There will be no call for the openers of @list; they lose calls that they do not know of. */
static void method_dismiss(struct list *list)
{
	struct method_opener *opener;

	while ((opener = opener_of(list_first(list)))) {
		struct method_call *call = opener->call;

		list_remove(&opener->link);
		opener->method = NULL;
		if (call && call->state != CALL_OPEN)
			continue;
		opener->call = NULL;
		if (call)
			method_call_refuse(call);
		opener->on_gone(opener);
	}
}

int method_unregister(struct method *method)
{
	struct methods *m = method->owner;
	struct method_call *call;

	list_for_each (iter, &method->busy) {
		call = opener_of(iter)->call;
		if (call->state == CALL_OPEN && call->was_read)
			return -EBUSY;
	}
	link_unsubscribe(m->link, &method->sub);
	while ((call = queued_call(list_first(&method->waiting)))) {
		call_stop_waiting(call);
		method_call_refuse(call);
	}
	method_dismiss(&method->busy);
	method_dismiss(&method->idle);
	method_dismiss(&method->reading);
	list_remove(&method->link);
	free(method);
	return 0;
}

int methods_new(struct methods **out, const struct methods_options *options)
{
	struct methods *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->loop = options->loop;
	m->log = options->log;
	m->link = options->link;
	m->wait_ns = options->wait_ns;
	m->timeout_ns = options->timeout_ns;
	list_init(&m->methods);
	list_init(&m->calls);
	list_init(&m->queued);
	list_init(&m->refusals);
	*out = m;
	return 0;
}

void methods_free(struct methods *m)
{
	if (!m)
		return;
	assert(list_is_empty(&m->methods));
	methods_drop_refusals(m);
	/* Responses that had no room: their openers are gone. */
	list_for_each_safe (iter, &m->calls)
		method_call_free(container_of(iter, struct method_call, link));
	assert(!m->n_bytes);
	free(m);
}
