/* SPDX-License-Identifier: MIT */
/*
 * The twin, see twin.h. Here: life cycle, the documents that are published, what is stored, and the link's events.
 * What the hub says is in twin_sync.c, what goes to it in twin_patch.c.
 *
 * Two things go on with the hub, one request at a time:
 *
 *   sync     OFFLINE -> STALE -> FETCHING -> CURRENT; back to STALE by a gap in versions, by something that cannot be
 *            read, or by a patch whose outcome nobody knows;
 *   changes  a list of patches; the first is sent when sync is CURRENT and none is in flight. The twin is not fetched
 *            while one is: a fetched twin then has all changes that have an outcome and none of the others.
 *
 * Invariants: `seen` is reported.state with every change applied that is not conditional; versions are 0 together;
 * documents are replaced, never changed.
 */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "flow/twin_internal.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

/* --- documents -------------------------------------------------------------------------------- */

void twin_rebase(struct twin *t)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *seen = twin_doc_ref(t->reported.state);

	list_for_each (iter, &t->changes) {
		struct twin_change *change = container_of(iter, struct twin_change, link);
		const struct json_object *next;

		if (change->conditional)
			continue;
		if (twin_doc_apply(&next, seen, change->patch)) {
			log_error(t->log, "not enough memory for the reported properties");
			return;
		}
		twin_doc_unref(seen);
		seen = next;
	}
	twin_doc_unref(t->seen);
	t->seen = TAKE_PTR(seen);
}

void twin_tell_desired(struct twin *t, const struct json_object *patch)
{
	if (t->ops->on_desired_changed)
		t->ops->on_desired_changed(t->userdata, patch, t->desired.version);
}

void twin_tell_reported(struct twin *t, const struct json_object *patch)
{
	if (t->ops->on_reported_changed)
		t->ops->on_reported_changed(t->userdata, patch, t->reported.version);
}

struct twin_view twin_desired(const struct twin *t)
{
	return (struct twin_view){
		.object = t->desired.state,
		.version = t->desired.version,
		.known = t->desired.version > 0,
	};
}

struct twin_view twin_reported(const struct twin *t)
{
	return (struct twin_view){
		.object = t->seen,
		.version = t->reported.version,
		.known = t->reported.version > 0,
	};
}

/* --- the store -------------------------------------------------------------------------------- */

static void twin_on_saved(void *userdata, uint64_t generation)
{
	struct twin *t = userdata;

	t->stored = generation;
	link_kick(t->link);
}

static void twin_on_save(struct loop_deferred *deferred)
{
	struct twin *t = container_of(deferred, struct twin, save);
	_cleanup_(twin_doc_unref_ptr) const struct json_object *pending = NULL;
	const struct twin_store_state state = {
		.desired = t->desired.state,
		.reported = t->reported.state,
		.desired_version = t->desired.version,
		.reported_version = t->reported.version,
	};
	struct twin_store_state with_pending = state;

	if (twin_patch_pending(t, &pending)) {
		log_error(t->log, "not enough memory to store the twin");
		twin_on_saved(t, t->generation);
		return;
	}
	with_pending.pending = pending;
	twin_store_save(t->store, &with_pending, t->generation);
}

void twin_changed(struct twin *t)
{
	if (!t->store)
		return;
	++t->generation;
	loop_defer(t->loop, &t->save);
}

static int twin_restore(struct twin *t, const struct twin_store_state *state)
{
	struct hub_twin_reason reason;
	int r = 0;

	t->desired = (struct twin_part){twin_doc_ref(state->desired), state->desired_version};
	t->reported = (struct twin_part){twin_doc_ref(state->reported), state->reported_version};
	if (state->pending)
		r = twin_patch_restore(t, state->pending);
	if (r)
		return r;
	twin_rebase(t);
	log_debug(t->log, "the twin is known from before: desired version %llu, reported version %llu%s",
		  (unsigned long long)t->desired.version, (unsigned long long)t->reported.version,
		  state->pending ? ", and a patch to be sent" : "");
	/* Not what this daemon stores, but the hub would say so too. */
	if (hub_twin_check(t->seen, &reason))
		log_warning(t->log, "the reported properties to be sent: %s", reason.text);
	return 0;
}

static int twin_load(struct twin *t, const char *path, const char *identity)
{
	_cleanup_(twin_store_state_deinit) struct twin_store_state state = {0};
	int r = 0;

	if (path)
		r = twin_store_new(&t->store, t->loop, t->log, path, identity);
	if (r)
		return r;
	if (path)
		twin_store_watch(t->store, twin_on_saved, t);
	if (path && twin_store_load(t->store, &state) == 0)
		return twin_restore(t, &state);
	t->desired.state = twin_doc_ref(t->none);
	t->reported.state = twin_doc_ref(t->none);
	t->seen = twin_doc_ref(t->none);
	return 0;
}

/* --- life cycle ------------------------------------------------------------------------------- */

int twin_new(struct twin **out, const struct twin_options *options)
{
	struct twin *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->loop = options->loop;
	t->log = options->log;
	t->link = options->link;
	t->ops = options->ops;
	t->userdata = options->userdata;
	loop_deferred_init(&t->save, twin_on_save);
	twin_sync_init(t);
	twin_patch_init(t);
	t->none = twin_doc_new();
	r = t->none ? twin_load(t, options->store_path, options->identity) : -ENOMEM;
	if (!r)
		r = t->seen ? link_subscribe(t->link, &t->subscription) : -ENOMEM;
	if (r) {
		twin_free(t);
		return r;
	}
	*out = t;
	return 0;
}

void twin_free(struct twin *t)
{
	if (!t)
		return;
	if (list_is_linked(&t->save.link)) {
		loop_undefer(&t->save);
		twin_on_save(&t->save);
	}
	twin_store_free(t->store);
	twin_sync_deinit(t);
	twin_patch_deinit(t);
	twin_doc_unref(t->desired.state);
	twin_doc_unref(t->reported.state);
	twin_doc_unref(t->seen);
	twin_doc_unref(t->none);
	free(t);
}

/* --- the link's side -------------------------------------------------------------------------- */

void twin_on_online(struct twin *t, bool session_present)
{
	/* Whatever the session kept: changes at QoS 0 are not kept with it. */
	(void)session_present;
	assert(t->sync == TWIN_OFFLINE);
	t->sync = TWIN_STALE;
}

void twin_on_offline(struct twin *t)
{
	twin_sync_offline(t);
	twin_patch_offline(t);
}

void twin_on_writable(struct twin *t)
{
	twin_fetch(t);
	twin_send(t);
}

/* --- for all files of the twin ---------------------------------------------------------------- */

void twin_error(struct twin *t, struct log_once *once, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->error, sizeof(t->error), fmt, ap);
	va_end(ap);
	log_write_once(t->log, once, LOG_LEVEL_WARNING, "%s", t->error);
}

void twin_response_text(const struct link_response *response, char out[static TWIN_TEXT_SIZE])
{
	struct bytes reason = response->reason;
	size_t len = reason.len < 150 ? reason.len : 150, start;
	char text[HUB_STATUS_TEXT_SIZE];

	/* Not within a character. */
	while (len && len < reason.len && (reason.data[len] & 0xc0) == 0x80)
		--len;
	hub_status_format(&response->status, text);
	start = (size_t)snprintf(out, TWIN_TEXT_SIZE, "%s%s", text, len ? ": " : "");
	for (size_t i = 0; i < len; ++i)
		out[start + i] = reason.data[i] < 0x20 || reason.data[i] == 0x7f ? '?' : (char)reason.data[i];
	out[start + len] = '\0';
}

void twin_arm(struct twin *t, struct loop_timer *retry, struct backoff *backoff)
{
	uint64_t now_ns = loop_now_ns(t->loop), random;

	if (loop_timer_is_armed(retry))
		return;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		random = now_ns;
	loop_timer_arm(t->loop, retry, now_ns + backoff_failed(backoff, now_ns, random, 0));
}

bool twin_version_find(const struct mqtt_properties *properties, uint64_t *out)
{
	uint64_t value = 0;
	struct bytes text;

	if (!mqtt_user_property_find(properties->repeatable, HUB_PROP_VERSION, &text) || !text.len)
		return false;
	for (size_t i = 0; i < text.len; ++i)
		if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value))
			return false;
	*out = value;
	return value > 0 && value < UINT64_MAX;
}

void twin_info(const struct twin *t, struct twin_info *out)
{
	*out = t->counted;
	out->current = t->sync == TWIN_CURRENT;
	out->n_pending = t->n_changes;
	out->last_error = t->error[0] || !t->store ? t->error : twin_store_error(t->store);
}
