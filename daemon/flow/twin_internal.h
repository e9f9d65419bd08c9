/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_INTERNAL_H
#define FLOW_TWIN_INTERNAL_H

/* What the files of the twin share: twin.c (life, documents, store), twin_sync.c (what the hub says), twin_patch.c
 * (what goes to the hub). */

#include "base/time.h"
#include "flow/link.h"
#include "flow/twin.h"
#include "flow/twin_doc.h"
#include "flow/twin_store.h"
#include "net/backoff.h"

/* Without a response for this long a request counts as lost. */
#define TWIN_TIMEOUT_NS (30 * NSEC_PER_SEC)

/* Changes of the desired properties that are kept while the twin is fetched. */
#define TWIN_HELD_MAX       64
#define TWIN_HELD_BYTES_MAX (256u * 1024)

#define TWIN_ERROR_SIZE     320
/* A status and the first bytes of the hub\'s reason. */
#define TWIN_TEXT_SIZE (HUB_STATUS_TEXT_SIZE + 160)

enum twin_sync {
	TWIN_OFFLINE,
	TWIN_STALE,    /* to be fetched, with get_retry armed not before it fires */
	TWIN_FETCHING, /* nothing else is in flight */
	TWIN_CURRENT,  /* changes from the hub follow on what is known */
};

/* One properties object as the hub has it. */
struct twin_part {
	const struct json_object *state;
	uint64_t version; /* 0 = never seen */
};

/* A patch of ours that has no outcome yet. */
struct twin_change {
	struct list link;
	uint64_t first_id, last_id; /* calls of twin_patch() that are in it */
	const struct json_object *patch;
	size_t n_bytes; /* of its text, at most */
	bool conditional;
	bool in_doubt; /* conditional, and was sent: whether it happened the fetched twin tells */
	uint64_t if_version;
	bool sealed;         /* about to be sent or in flight: takes no more patches */
	uint64_t generation; /* sealed: what is to be stored before it is sent */
	struct list waiters;
};

/* A change of the desired properties that came while the twin is fetched. */
struct twin_held {
	struct list link;
	uint64_t version;
	size_t len;
	uint8_t payload[];
};

struct twin {
	struct loop *loop;
	struct log *log;
	struct link *link;
	const struct twin_ops *ops;
	void *userdata;
	struct twin_store *store;       /* NULL: none */
	const struct json_object *none; /* {} */

	struct twin_part desired, reported;
	const struct json_object *seen; /* reported, with the changes that are not conditional */
	struct loop_deferred save;
	uint64_t generation; /* of what is to be stored */
	uint64_t stored;     /* of what was stored last, or could not be */

	enum twin_sync sync;
	struct link_subscription subscription;
	struct link_request get;
	struct loop_timer get_retry;
	struct backoff get_backoff;
	struct list held;
	size_t n_held, held_bytes;
	bool held_lost; /* more came than is kept */

	struct list changes; /* in order; the first one is in flight if any is */
	size_t n_changes, n_conditional;
	uint64_t last_id;
	struct list writers;
	/* At the hub, and in none of the changes any more: its waiters hear of it when the twin that is being fetched has
	 * it. Nothing is sent meanwhile, so there is one at most. NULL: none. */
	struct twin_change *confirmed;
	uint64_t confirmed_version;
	const struct json_object *in_flight; /* the first change as it was sent; NULL: none is */
	struct link_request patch;
	struct loop_timer patch_retry; /* armed: nothing is sent */
	struct backoff patch_backoff;

	struct twin_info counted; /* its counters */
	char error[TWIN_ERROR_SIZE];
	struct log_once get_logged, patch_logged;
};

/* --- twin.c --- */

/* Stored at the end of the turn. */
void twin_changed(struct twin *t);

/* Makes `seen` anew. Without memory it stays as it is. */
void twin_rebase(struct twin *t);

void twin_tell_desired(struct twin *t, const struct json_object *patch);
void twin_tell_reported(struct twin *t, const struct json_object *patch);

/* Notes an error, and logs it when it is news. */
__attribute__((format(printf, 3, 4))) void twin_error(struct twin *t, struct log_once *once, const char *fmt,
						      ...);

/* What a response that is an error says, for people. */
void twin_response_text(const struct link_response *response, char out[static TWIN_TEXT_SIZE]);

/* Arms @retry for the next attempt unless it is armed. */
void twin_arm(struct twin *t, struct loop_timer *retry, struct backoff *backoff);

/* The number in the User Property `version`; false: there is none. */
bool twin_version_find(const struct mqtt_properties *properties, uint64_t *out);

/* --- twin_sync.c --- */

void twin_sync_init(struct twin *t);
void twin_sync_deinit(struct twin *t);
void twin_sync_offline(struct twin *t);

/* Asks for the twin if that is due. */
void twin_fetch(struct twin *t);

/* What is known is not what the hub has: at once, or with back-off. Online only. */
void twin_refetch(struct twin *t, bool later);

/* --- twin_patch.c --- */

void twin_patch_init(struct twin *t);
void twin_patch_deinit(struct twin *t);
void twin_patch_offline(struct twin *t);

/* A patch that was not sent before the last run ended. Returns 0 or -ENOMEM. */
int twin_patch_restore(struct twin *t, const struct json_object *patch);

/* Sends the first change if it may go. */
void twin_send(struct twin *t);

/* *@out: all changes that are not conditional as one patch; NULL: there is none. Returns 0 or -ENOMEM. */
int twin_patch_pending(struct twin *t, const struct json_object **out);

/*
 * The twin was fetched, @reported is not yet in its place. If the first change is in doubt, this decides: it waits to
 * be sent again, or is taken out and returned, with 0 or -ESTALE in *@error, for twin_patch_end().
 */
struct twin_change *twin_patch_decide(struct twin *t, const struct twin_doc_part *reported, int *error);

/* The twin was fetched, or is not going to be for now: whoever waits for it hears of what the hub has taken. */
void twin_patch_end_confirmed(struct twin *t);

/* The change, taken out of the list, has its outcome: tells and frees. NULL is fine. */
void twin_patch_end(struct twin *t, struct twin_change *change, int error, uint64_t version,
		    struct bytes reason);

#endif
