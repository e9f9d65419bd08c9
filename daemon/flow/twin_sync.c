/* SPDX-License-Identifier: MIT */
/*
 * What the hub says about the twin: the whole of it when asked, and changes of the desired properties as they happen.
 *
 * The twin is asked for when the hub has confirmed the subscription, so that every change is in the answer or comes
 * after it; changes that come meanwhile are held and applied to it by their version. One that does not follow on what
 * is known has the twin fetched anew. What cannot be read changes nothing: the last good twin stays, and the twin is
 * fetched with back-off, as it is after an answer that is an error. So whatever a hub sends, it is asked for its twin
 * once per message at most, and not faster than the back-off allows when its answer did not help.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow/twin_internal.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

static void twin_on_twin(struct link_request *request, const struct link_response *response);
static void twin_on_message(struct link_subscription *sub, const struct link_message *message);

static void twin_on_get_retry(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	link_kick(container_of(timer, struct twin, get_retry)->link);
}

void twin_sync_init(struct twin *t)
{
	t->subscription = (struct link_subscription){
		.filter = BYTES_LIT(HUB_TOPIC_TWIN_DESIRED),
		.on_message = twin_on_message,
	};
	link_subscription_init(&t->subscription);
	t->get.on_response = twin_on_twin;
	loop_timer_init(&t->get_retry, twin_on_get_retry);
	backoff_init(&t->get_backoff);
	list_init(&t->held);
}

/* --- what is held ----------------------------------------------------------------------------- */

static struct twin_held *held_take(struct twin *t)
{
	struct list *first = list_first(&t->held);
	struct twin_held *held;

	if (!first)
		return NULL;
	held = container_of(first, struct twin_held, link);
	list_remove(first);
	--t->n_held;
	t->held_bytes -= held->len;
	return held;
}

static void held_drop(struct twin *t)
{
	struct twin_held *held;

	while ((held = held_take(t)))
		free(held);
	t->held_lost = false;
}

static void held_add(struct twin *t, uint64_t version, struct bytes payload)
{
	struct twin_held *held = NULL;

	if (!t->held_lost && t->n_held < TWIN_HELD_MAX && t->held_bytes + payload.len <= TWIN_HELD_BYTES_MAX)
		held = malloc(sizeof(*held) + payload.len);
	if (!held) {
		held_drop(t);
		t->held_lost = true;
		return;
	}
	held->version = version;
	held->len = payload.len;
	if (payload.len)
		memcpy(held->payload, payload.data, payload.len);
	list_append(&t->held, &held->link);
	++t->n_held;
	t->held_bytes += payload.len;
}

void twin_sync_deinit(struct twin *t)
{
	link_unsubscribe(t->link, &t->subscription);
	twin_sync_offline(t);
}

void twin_sync_offline(struct twin *t)
{
	t->sync = TWIN_OFFLINE;
	link_request_cancel(t->link, &t->get);
	loop_timer_disarm(&t->get_retry);
	held_drop(t);
}

/* --- fetching --------------------------------------------------------------------------------- */

void twin_refetch(struct twin *t, bool later)
{
	t->sync = TWIN_STALE;
	if (later)
		twin_arm(t, &t->get_retry, &t->get_backoff);
	else
		link_kick(t->link);
}

void twin_fetch(struct twin *t)
{
	int r;

	if (t->sync != TWIN_STALE || t->in_flight || loop_timer_is_armed(&t->get_retry))
		return;
	/* The link says when there is an answer. Without the subscription the twin is of use all the same. */
	if (t->subscription.state != LINK_TOPIC_GRANTED && t->subscription.state != LINK_TOPIC_REFUSED)
		return;
	r = link_request(t->link, &t->get, BYTES_LIT(HUB_TOPIC_TWIN_GET), BYTES(NULL, 0), BYTES(NULL, 0),
			 TWIN_TIMEOUT_NS);
	if (!r)
		t->sync = TWIN_FETCHING;
	else if (r != -EAGAIN && r != -ENOTCONN)
		twin_arm(t, &t->get_retry, &t->get_backoff);
}

/* Puts what was fetched in its place. Returns whether anything is different. */
static bool twin_part_replace(struct twin *t, struct twin_part *part, struct twin_doc_part *fetched,
			      const char *name)
{
	if (part->version == fetched->version && twin_doc_equal(part->state, fetched->state))
		return false;
	if (fetched->version < part->version)
		log_warning(t->log,
			    "the hub's twin was made anew: the %s properties have version %llu after %llu",
			    name, (unsigned long long)fetched->version, (unsigned long long)part->version);
	twin_doc_unref(part->state);
	part->state = TAKE_PTR(fetched->state);
	part->version = fetched->version;
	return true;
}

/* What came of a change of the desired properties. */
enum applied {
	APPLIED,
	APPLIED_OLD, /* known already */
	APPLIED_GAP, /* something before it is missing */
	APPLIED_BAD, /* cannot be read; that was said */
};

static enum applied twin_apply(struct twin *t, uint64_t version, struct bytes payload)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *patch = NULL, *state = NULL;
	struct hub_twin_reason reason;
	int r;

	if (version <= t->desired.version)
		return APPLIED_OLD;
	if (version != t->desired.version + 1)
		return APPLIED_GAP;
	r = twin_doc_parse_patch(payload, &patch, &reason);
	if (!r)
		r = twin_doc_apply(&state, t->desired.state, patch);
	if (!r)
		r = hub_twin_check(state, &reason);
	if (r) {
		twin_error(t, &t->get_logged,
			   "a change of the desired properties cannot be used: %s; asking the hub for all",
			   reason.text[0] ? reason.text : strerror(-r));
		return APPLIED_BAD;
	}
	twin_doc_unref(t->desired.state);
	t->desired = (struct twin_part){TAKE_PTR(state), version};
	++t->counted.n_changes;
	twin_changed(t);
	twin_tell_desired(t, patch);
	return APPLIED;
}

/* What is missing or cannot be read now is not asked for at once: an answer is just here. */
static void twin_apply_held(struct twin *t)
{
	struct twin_held *held;
	bool again = t->held_lost;

	t->held_lost = false;
	while ((held = held_take(t))) {
		enum applied applied = twin_apply(t, held->version, BYTES(held->payload, held->len));

		free(held);
		if (applied == APPLIED_GAP || applied == APPLIED_BAD) {
			again = true;
			held_drop(t);
		}
	}
	if (again)
		twin_refetch(t, true);
}

static void twin_adopt(struct twin *t, struct twin_doc_whole *whole)
{
	int error = 0;
	struct twin_change *decided = twin_patch_decide(t, &whole->reported, &error);
	bool desired = twin_part_replace(t, &t->desired, &whole->desired, "desired");
	bool reported = twin_part_replace(t, &t->reported, &whole->reported, "reported");

	t->sync = TWIN_CURRENT;
	++t->counted.n_fetched;
	backoff_progress(&t->get_backoff);
	log_once_reset(&t->get_logged);
	t->error[0] = '\0';
	if (reported)
		twin_rebase(t);
	if (desired || reported || decided)
		twin_changed(t);
	/* First what is to go out, then who wants to know. */
	twin_send(t);
	if (desired)
		twin_tell_desired(t, NULL);
	if (reported)
		twin_tell_reported(t, NULL);
	twin_patch_end_confirmed(t);
	twin_patch_end(t, decided, error, t->reported.version, BYTES(NULL, 0));
	twin_apply_held(t);
}

static void twin_not_fetched(struct twin *t)
{
	twin_refetch(t, true);
	twin_patch_end_confirmed(t);
}

static void twin_on_twin(struct link_request *request, const struct link_response *response)
{
	struct twin *t = container_of(request, struct twin, get);
	_cleanup_(twin_doc_whole_deinit) struct twin_doc_whole whole = {0};
	struct hub_twin_reason reason;
	char text[TWIN_TEXT_SIZE];

	if (response->error) {
		twin_response_text(response, text);
		twin_error(t, &t->get_logged, "the hub does not give the twin: %s; trying again", text);
		twin_not_fetched(t);
		return;
	}
	if (twin_doc_parse_whole(response->payload, &whole, &reason)) {
		twin_error(t, &t->get_logged, "the hub's twin cannot be used: %s; trying again", reason.text);
		twin_not_fetched(t);
		return;
	}
	twin_adopt(t, &whole);
}

/* --- changes ---------------------------------------------------------------------------------- */

static void twin_on_message(struct link_subscription *sub, const struct link_message *message)
{
	struct twin *t = container_of(sub, struct twin, subscription);
	uint64_t version;

	if (t->sync == TWIN_OFFLINE)
		return;
	if (!twin_version_find(message->properties, &version)) {
		twin_error(t, &t->get_logged,
			   "a change of the desired properties has no version; asking the hub for all");
		/* Of what is held or fetched nobody knows whether it is in there. */
		t->held_lost = t->sync != TWIN_CURRENT;
		if (t->sync == TWIN_CURRENT)
			twin_refetch(t, true);
		return;
	}
	if (t->sync != TWIN_CURRENT) {
		held_add(t, version, message->payload);
		return;
	}
	switch (twin_apply(t, version, message->payload)) {
	case APPLIED:
	case APPLIED_OLD:
		break;
	case APPLIED_GAP:
		log_debug(t->log, "desired version %llu came after %llu: asking the hub for all",
			  (unsigned long long)version, (unsigned long long)t->desired.version);
		held_add(t, version, message->payload);
		twin_refetch(t, false);
		break;
	case APPLIED_BAD:
		twin_refetch(t, true);
		break;
	}
}
