/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_STORE_H
#define FLOW_TWIN_STORE_H

/*
 * The last known twin on disk, one file as in store.h: what is known of the hub's, and the patch that is still to be
 * sent.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "loop/loop.h"

struct json_object;
struct twin_store;

/* Bytes of an identity at most. */
#define TWIN_STORE_IDENTITY_MAX 255

struct twin_store_state {
	const struct json_object *desired, *reported; /* states, see twin_doc.h */
	const struct json_object *pending;            /* a patch, maybe with marks; NULL = none */
	uint64_t desired_version, reported_version;   /* both 0 = the hub's twin was never seen */
};

/* Drops the references. Idempotent. */
void twin_store_state_deinit(struct twin_store_state *state);

/* --- the format, described in twin_store.c ---------------------------------------------------- */

/* *@out is malloc()ed. Returns 0, -EMSGSIZE (a text longer than twins can be), -ENOMEM. */
int twin_store_encode(const struct twin_store_state *state, struct bytes identity, uint8_t **out,
		      size_t *len);

/* Returns 0 and references in *@out; -EBADMSG: not such a file, or a damaged one; -ESTALE: another identity's;
 * -ENOMEM. On error *@out is not touched. */
int twin_store_decode(struct bytes file, struct bytes identity, struct twin_store_state *out);

/* --- the file --------------------------------------------------------------------------------- */

/* A state of this generation was tried, all before it are history: it is on the disk unless there is an error. */
typedef void (*twin_store_fn)(void *userdata, uint64_t generation);

/* @path and @identity are copied. Returns 0, -ENAMETOOLONG, -ENOMEM. */
int twin_store_new(struct twin_store **out, struct loop *loop, struct log *log, const char *path,
		   const char *identity);

/* @fn is called from the loop for each state that was tried, until twin_store_free(). */
void twin_store_watch(struct twin_store *s, twin_store_fn fn, void *userdata);

/* What is to be saved is written all the same, as store_free() does it. NULL is fine. */
void twin_store_free(struct twin_store *s);

/*
 * Reads the file; this may block. Returns 0 and references in *@out, or a negative errno after which the daemon starts
 * without: -ENOENT, there is none; -EBADMSG, -ESTALE, it cannot be used and was set aside (store_set_aside()); or the
 * disk's error. All but -ENOENT are logged.
 */
int twin_store_load(struct twin_store *s, struct twin_store_state *out);

/*
 * This is the state now, of a @generation that only grows; the store takes references. It is written at the end of the turn, or when the write under
 * way has ended; of several states that wait only the last one is written. An error of the disk is logged once, and
 * the next state is tried all the same.
 */
void twin_store_save(struct twin_store *s, const struct twin_store_state *state, uint64_t generation);

/* The last error of the disk, "" after a success; valid until the next turn. */
const char *twin_store_error(const struct twin_store *s);

#endif
