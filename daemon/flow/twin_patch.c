/* SPDX-License-Identifier: MIT */
/*
 * Patches of the reported properties, in the order of their life: add, send, on_outcome, decide, end.
 *
 * Objects: changes, in order. A patch without an if-version goes into the last change, unless that is sealed (in flight,
 * or about to be) or conditional; so there are at most one such change more than conditional ones, and one sealed. Changes side by side
 * that came apart because one was in flight become one before they are sent again.
 *
 * An outcome that nobody knows, because the connection or the response was lost or the server failed, has the twin
 * fetched before anything is sent again. Then it costs nothing for a plain change: a merge patch that is applied twice
 * in a row is applied once. A conditional one is in doubt until the fetched twin decides, see twin.h. (A request that
 * the hub handles only after it has answered a later Get Twin would be decided wrongly. It answers in order.)
 *
 * Nothing is sent before all that happened until then is stored, or could not be: a process that comes after a crash
 * sends what the file has as pending, and that may be what the hub has already, but never something older than what a
 * writer was told is there.
 *
 * Calls of twin_patch() are numbered. A change knows the first and the last call in it, a writer the runs of its calls
 * that have no outcome.
 *
 * The version in an outcome that does not follow on the one that is known says that somebody else has written. Readers
 * have that version when the twin was fetched, and until then whoever waits for the patch goes on waiting.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "flow/twin_internal.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

static void twin_on_outcome(struct link_request *request, const struct link_response *response);

static void twin_on_patch_retry(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	link_kick(container_of(timer, struct twin, patch_retry)->link);
}

void twin_patch_init(struct twin *t)
{
	list_init(&t->changes);
	list_init(&t->writers);
	t->patch.on_response = twin_on_outcome;
	loop_timer_init(&t->patch_retry, twin_on_patch_retry);
	backoff_init(&t->patch_backoff);
}

static struct twin_change *change_first(struct twin *t)
{
	struct list *first = list_first(&t->changes);

	return first ? container_of(first, struct twin_change, link) : NULL;
}

static void change_free(struct twin_change *change)
{
	twin_doc_unref(change->patch);
	free(change);
}

/* A waiter may be cancelled later. */
static void change_forget(struct twin_change *change)
{
	list_for_each_safe (iter, &change->waiters)
		list_remove(iter);
	change_free(change);
}

static void change_remove(struct twin *t, struct twin_change *change)
{
	list_remove(&change->link);
	--t->n_changes;
	t->n_conditional -= change->conditional;
}

/* What is in flight has no outcome that anybody knows. */
static void twin_lose_flight(struct twin *t)
{
	struct twin_change *change = change_first(t);

	if (!t->in_flight)
		return;
	change->sealed = false;
	change->in_doubt = change->conditional;
	twin_doc_unref(TAKE_PTR(t->in_flight));
}

static void twin_lose_patch(struct twin *t)
{
	link_request_cancel(t->link, &t->patch);
	loop_timer_disarm(&t->patch_retry);
	twin_lose_flight(t);
	if (!list_is_empty(&t->changes))
		change_first(t)->sealed = false;
}

void twin_patch_deinit(struct twin *t)
{
	struct twin_change *change;

	assert(list_is_empty(&t->writers));
	twin_lose_patch(t);
	while ((change = change_first(t))) {
		change_remove(t, change);
		change_forget(change);
	}
	if (t->confirmed)
		change_forget(TAKE_PTR(t->confirmed));
}

void twin_patch_offline(struct twin *t)
{
	twin_lose_patch(t);
	twin_patch_end_confirmed(t);
}

/* --- add -------------------------------------------------------------------------------------- */

/* What a patch is going to do to the list. */
struct addition {
	struct twin_change *change;      /* where it goes; one that is not in the list is new */
	const struct json_object *patch; /* of that change afterwards; owned */
	size_t n_bytes;                  /* likewise */
	const struct json_object *seen;  /* reported properties with it; owned */
};

static void addition_deinit(struct addition *a)
{
	if (a->change && !list_is_linked(&a->change->link))
		change_free(a->change);
	twin_doc_unref(a->patch);
	twin_doc_unref(a->seen);
}

static int fail(struct hub_twin_reason *reason, int error, const char *text)
{
	snprintf(reason->text, sizeof(reason->text), "%s", text);
	return error;
}

static struct twin_change *change_new(const uint64_t *if_version)
{
	struct twin_change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	list_init(&change->link);
	list_init(&change->waiters);
	change->conditional = if_version != NULL;
	change->if_version = if_version ? *if_version : 0;
	return change;
}

/* The change that takes another plain patch, or NULL. */
static struct twin_change *change_open(struct twin *t)
{
	struct twin_change *last;

	if (list_is_empty(&t->changes))
		return NULL;
	last = container_of(t->changes.prev, struct twin_change, link);
	return last->conditional || last->sealed ? NULL : last;
}

/* Bytes of all patches with @a in them. Sizes of merged ones are sums first, and measured only when they matter. */
static size_t n_bytes_with(struct twin *t, struct addition *a, bool measured)
{
	size_t n = 0;

	if (measured)
		a->n_bytes = twin_doc_text(a->patch, false).len;
	list_for_each (iter, &t->changes) {
		struct twin_change *change = container_of(iter, struct twin_change, link);

		if (measured)
			change->n_bytes = twin_doc_text(change->patch, false).len;
		n += change == a->change ? 0 : change->n_bytes;
	}
	return n + a->n_bytes;
}

static int addition_place(struct twin *t, struct addition *a, const struct json_object *patch,
			  const uint64_t *if_version, struct hub_twin_reason *reason)
{
	struct twin_change *open = if_version ? NULL : change_open(t);

	if (if_version && t->n_conditional >= TWIN_CONDITIONAL_MAX)
		return fail(reason, -ENOSPC, "too many patches with an if-version wait for the hub");
	a->n_bytes = twin_doc_text(patch, false).len;
	if (open) {
		a->n_bytes += open->n_bytes;
		a->change = open;
		if (twin_doc_merge(&a->patch, open->patch, patch))
			return fail(reason, -ENOMEM, "not enough memory");
	} else {
		a->patch = twin_doc_ref(patch);
		a->change = change_new(if_version);
		if (!a->change)
			return fail(reason, -ENOMEM, "not enough memory");
	}
	if (n_bytes_with(t, a, false) > TWIN_PENDING_BYTES_MAX &&
	    n_bytes_with(t, a, true) > TWIN_PENDING_BYTES_MAX)
		return fail(reason, -ENOSPC, "too many properties wait for the hub");
	return 0;
}

static int addition_make(struct twin *t, struct addition *a, const struct json_object *patch,
			 const uint64_t *if_version, struct hub_twin_reason *reason)
{
	int r = hub_twin_check_patch(patch, reason);

	if (r)
		return r;
	if (twin_doc_apply(&a->seen, t->seen, patch))
		return fail(reason, -ENOMEM, "not enough memory");
	r = hub_twin_check(a->seen, reason);
	/* Limits count bytes of values; escapes, short numbers and nulls are longer as text. */
	if (!r && twin_doc_text(a->seen, false).len > TWIN_TEXT_BYTES_MAX)
		r = fail(reason, -EMSGSIZE, "the properties would be too long as JSON text");
	return r ? r : addition_place(t, a, patch, if_version, reason);
}

static struct twin_change *addition_commit(struct twin *t, struct addition *a)
{
	struct twin_change *change = TAKE_PTR(a->change);
	const struct json_object *before = change->patch;

	change->last_id = ++t->last_id;
	if (!list_is_linked(&change->link)) {
		change->first_id = change->last_id;
		list_append(&t->changes, &change->link);
		++t->n_changes;
		t->n_conditional += change->conditional;
	}
	change->n_bytes = a->n_bytes;
	change->patch = TAKE_PTR(a->patch);
	twin_doc_unref(before);
	if (!change->conditional) {
		twin_doc_unref(t->seen);
		t->seen = TAKE_PTR(a->seen);
	}
	return change;
}

/* Patch @id, which is in @change now, is @writer's. What is in one change has one outcome. */
static void writer_add(struct twin_writer *writer, const struct twin_change *change, uint64_t id)
{
	struct twin_run *last = writer->n_runs ? &writer->runs[writer->n_runs - 1] : NULL;

	if (last && (writer->n_runs == TWIN_RUNS_MAX || last->last >= change->first_id))
		last->last = id;
	else
		writer->runs[writer->n_runs++] = (struct twin_run){id, id};
}

int twin_patch(struct twin *t, struct json_object *patch, const uint64_t *if_version,
	       struct twin_writer *writer, struct twin_waiter *waiter, struct hub_twin_reason *reason)
{
	_cleanup_(addition_deinit) struct addition a = {0};
	struct twin_change *change;
	int r = addition_make(t, &a, patch, if_version, reason);

	if (r)
		return r;
	change = addition_commit(t, &a);
	if (writer)
		writer_add(writer, change, t->last_id);
	if (waiter)
		list_append(&change->waiters, &waiter->link);
	link_kick(t->link);
	if (if_version)
		return 0;
	twin_changed(t);
	twin_tell_reported(t, patch);
	return 0;
}

int twin_patch_restore(struct twin *t, const struct json_object *patch)
{
	struct twin_change *change = change_new(NULL);

	if (!change)
		return -ENOMEM;
	change->first_id = change->last_id = ++t->last_id;
	change->patch = twin_doc_ref(patch);
	change->n_bytes = twin_doc_text(patch, false).len;
	list_append(&t->changes, &change->link);
	++t->n_changes;
	return 0;
}

int twin_patch_pending(struct twin *t, const struct json_object **out)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *pending = NULL;

	list_for_each (iter, &t->changes) {
		struct twin_change *change = container_of(iter, struct twin_change, link);
		const struct json_object *merged;

		if (change->conditional)
			continue;
		if (!pending)
			merged = twin_doc_ref(change->patch);
		else if (twin_doc_merge(&merged, pending, change->patch))
			return -ENOMEM;
		twin_doc_unref(pending);
		pending = merged;
	}
	*out = TAKE_PTR(pending);
	return 0;
}

/* --- send ------------------------------------------------------------------------------------- */

/* Makes one of the plain changes at the front. Without memory they stay several. */
static void twin_join_changes(struct twin *t)
{
	struct twin_change *first = change_first(t);

	while (!first->conditional && !first->sealed && first->link.next != &t->changes) {
		struct twin_change *second = container_of(first->link.next, struct twin_change, link);
		const struct json_object *merged;

		if (second->conditional || twin_doc_merge(&merged, first->patch, second->patch))
			return;
		twin_doc_unref(first->patch);
		first->patch = merged;
		first->n_bytes += second->n_bytes;
		first->last_id = second->last_id;
		list_splice(&first->waiters, &second->waiters);
		change_remove(t, second);
		change_free(second);
	}
}

static int twin_send_change(struct twin *t, const struct twin_change *change)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *resolved = NULL;
	uint8_t properties[64];
	struct writer w = writer_init(properties, sizeof(properties));
	struct bytes text;
	char version[24];
	int r = twin_doc_resolve(&resolved, change->patch, t->reported.state);

	if (r)
		return r;
	text = twin_doc_text(resolved, false);
	if (!text.len)
		return -ENOMEM;
	if (change->conditional) {
		snprintf(version, sizeof(version), "%" PRIu64, change->if_version);
		mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_IF_VERSION), bytes_from_str(version));
	}
	r = link_request(t->link, &t->patch, BYTES_LIT(HUB_TOPIC_TWIN_REPORTED), writer_bytes(&w), text,
			 TWIN_TIMEOUT_NS);
	if (!r)
		t->in_flight = TAKE_PTR(resolved);
	return r;
}

/* Takes out a change that will not happen, whose outcome is @error. @text is for people. */
static void twin_refuse(struct twin *t, struct twin_change *change, int error, struct bytes reason,
			const char *text)
{
	bool conditional = change->conditional;

	change_remove(t, change);
	++t->counted.n_refused;
	link_kick(t->link);
	if (conditional) {
		log_debug(t->log, "a patch for reported version %" PRIu64 " was refused: %s",
			  change->if_version, text);
	} else {
		twin_error(t, &t->patch_logged, "reported properties were refused and are dropped: %s", text);
		twin_rebase(t);
		twin_changed(t);
		twin_tell_reported(t, NULL);
	}
	if (t->ops->on_refused)
		t->ops->on_refused(t->userdata, error, text);
	twin_patch_end(t, change, error, t->reported.version, reason);
}

void twin_send(struct twin *t)
{
	struct twin_change *change;
	int r;

	if (t->sync != TWIN_CURRENT || t->in_flight || loop_timer_is_armed(&t->patch_retry) ||
	    list_is_empty(&t->changes))
		return;
	twin_join_changes(t);
	change = change_first(t);
	if (!change->sealed)
		change->generation = t->generation;
	change->sealed = true;
	/* The store says when it is done. */
	if (t->stored < change->generation)
		return;
	r = twin_send_change(t, change);
	if (r == -EMSGSIZE)
		twin_refuse(t, change, r, BYTES(NULL, 0), "larger than the hub's Maximum Packet Size");
	else if (r && r != -EAGAIN && r != -ENOTCONN)
		twin_arm(t, &t->patch_retry, &t->patch_backoff);
}

/* --- on_outcome ------------------------------------------------------------------------------- */

/* The hub has taken @sent. */
static void twin_confirm(struct twin *t, struct twin_change *change, const struct json_object *sent,
			 const struct link_response *response)
{
	uint64_t version = 0;
	bool found = twin_version_find(response->properties, &version), follows;
	const struct json_object *state = NULL;

	follows = found && version == t->reported.version + 1;
	change_remove(t, change);
	if (twin_doc_apply(&state, t->reported.state, sent) == 0) {
		twin_doc_unref(t->reported.state);
		t->reported.state = state;
		t->reported.version += follows;
	}
	++t->counted.n_confirmed;
	backoff_progress(&t->patch_backoff);
	log_once_reset(&t->patch_logged);
	t->error[0] = '\0';
	/* Somebody else has written, or the hub does not say. */
	if (!follows || !state)
		twin_refetch(t, !found);
	if (change->conditional)
		twin_rebase(t);
	twin_changed(t);
	link_kick(t->link);
	twin_tell_reported(t, change->conditional ? NULL : t->none);
	if (follows && state) {
		twin_patch_end(t, change, 0, version, response->reason);
		return;
	}
	assert(!t->confirmed);
	t->confirmed = change;
	t->confirmed_version = found ? version : 0;
}

static void twin_on_refusal(struct twin *t, struct twin_change *change, const struct link_response *response)
{
	const struct hub_status *status = &response->status;
	char text[TWIN_TEXT_SIZE];

	twin_response_text(response, text);
	if (!status->retryable) {
		/* The version that is known here is not the hub's either. */
		if (response->error == -ESTALE && change->if_version == t->reported.version)
			twin_refetch(t, false);
		twin_refuse(t, change, response->error, response->reason, text);
		return;
	}
	change->sealed = false;
	twin_error(t, &t->patch_logged, "the hub refuses reported properties for now: %s; trying again",
		   text);
	twin_arm(t, &t->patch_retry, &t->patch_backoff);
	/* It may have happened before the error did: what is sent next depends on it. */
	if (status->class == HUB_SERVER_ERROR) {
		change->in_doubt = change->conditional;
		twin_refetch(t, true);
	}
}

static void twin_on_outcome(struct link_request *request, const struct link_response *response)
{
	struct twin *t = container_of(request, struct twin, patch);
	struct twin_change *change = change_first(t);
	_cleanup_(twin_doc_unref_ptr) const struct json_object *sent = NULL;

	assert(change && t->in_flight);
	if (!response->properties) {
		twin_lose_flight(t);
		twin_error(t, &t->patch_logged, "the hub did not answer a patch of the reported properties");
		twin_refetch(t, true);
		return;
	}
	sent = TAKE_PTR(t->in_flight);
	if (response->error)
		twin_on_refusal(t, change, response);
	else
		twin_confirm(t, change, sent, response);
}

/* --- decide, end ------------------------------------------------------------------------------ */

struct twin_change *twin_patch_decide(struct twin *t, const struct twin_doc_part *reported, int *error)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *wanted = NULL;
	struct twin_change *change = change_first(t);

	*error = 0;
	if (!change || !change->in_doubt)
		return NULL;
	change->in_doubt = false;
	if (reported->version == change->if_version)
		return NULL;
	if (reported->version != change->if_version + 1 || t->reported.version != change->if_version ||
	    twin_doc_apply(&wanted, t->reported.state, change->patch) ||
	    !twin_doc_equal(wanted, reported->state)) {
		*error = -ESTALE;
		++t->counted.n_refused;
	} else {
		++t->counted.n_confirmed;
	}
	change_remove(t, change);
	return change;
}

/* Takes what is in @change out of the runs of @writer; false: it has no part in it. */
static bool writer_settle(struct twin_writer *writer, const struct twin_change *change)
{
	bool has_part = false;
	uint32_t n = 0;

	for (uint32_t i = 0; i < writer->n_runs; ++i) {
		struct twin_run run = writer->runs[i];

		if (run.first <= change->last_id && run.last >= change->first_id) {
			has_part = true;
			run.first = change->last_id + 1;
		}
		if (run.first <= run.last)
			writer->runs[n++] = run;
	}
	writer->n_runs = n;
	return has_part;
}

/* The writers who have a part in @change. */
static void writers_told(struct twin *t, const struct twin_change *change, int error)
{
	list_for_each (iter, &t->writers) {
		struct twin_writer *writer = container_of(iter, struct twin_writer, link);

		if (writer_settle(writer, change) && !writer->error)
			writer->error = error;
	}
}

void twin_patch_end(struct twin *t, struct twin_change *change, int error, uint64_t version,
		    struct bytes reason)
{
	struct list waiters, *first;

	if (!change)
		return;
	writers_told(t, change, error);
	list_init(&waiters);
	list_splice(&waiters, &change->waiters);
	change_free(change);
	/* Each may cancel others. */
	while ((first = list_first(&waiters))) {
		struct twin_waiter *waiter = container_of(first, struct twin_waiter, link);

		list_remove(first);
		waiter->on_done(waiter, error, version, reason);
	}
}

void twin_patch_end_confirmed(struct twin *t)
{
	uint64_t version = t->confirmed_version ? t->confirmed_version : t->reported.version;

	twin_patch_end(t, TAKE_PTR(t->confirmed), 0, version, BYTES(NULL, 0));
}

/* --- writers and waiters ---------------------------------------------------------------------- */

void twin_writer_init(struct twin *t, struct twin_writer *writer)
{
	*writer = (struct twin_writer){.n_runs = 0};
	list_append(&t->writers, &writer->link);
}

void twin_writer_end(struct twin_writer *writer)
{
	list_remove(&writer->link);
}

int twin_wait(struct twin *t, const struct twin_writer *writer, struct twin_waiter *waiter)
{
	uint64_t id = t->last_id;

	if (writer && !writer->n_runs)
		return 0;
	if (writer)
		id = writer->runs[writer->n_runs - 1].last;
	if (t->confirmed && t->confirmed->last_id >= id) {
		list_append(&t->confirmed->waiters, &waiter->link);
		return TWIN_WAITS;
	}
	list_for_each (iter, &t->changes) {
		struct twin_change *change = container_of(iter, struct twin_change, link);

		if (change->last_id < id)
			continue;
		list_append(&change->waiters, &waiter->link);
		return TWIN_WAITS;
	}
	return 0;
}
