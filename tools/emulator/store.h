/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_STORE_H
#define EMULATOR_STORE_H

/*
 * A log of records on disk. What was committed is there after the process ended in any way, and in the same
 * order; what was appended after the last commit may be there, or any beginning of it.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"

struct emu_store;

/* One record, borrowed. A negative return ends the replay and becomes its result. */
typedef int (*emu_store_record_fn)(void *userdata, struct bytes record);

/*
 * Opens or creates the log @path and gives every record in it to @fn; what follows the last whole record is cut
 * off. Returns 0, or the negative error, logged with the path.
 */
int emu_store_open(struct emu_store **out, const char *path, emu_store_record_fn fn, void *userdata,
		   struct log *log);

/* What was not committed is lost. NULL is fine. */
void emu_store_free(struct emu_store *s);

/* Adds a record, any bytes but a newline. An error sticks until the commit. */
void emu_store_append(struct emu_store *s, struct bytes record);

/* Everything appended is on disk when it returns 0. After an error, logged, nothing can be appended or
 * committed any more. */
int emu_store_commit(struct emu_store *s);

/* Bytes appended since the log was last written anew. */
uint64_t emu_store_n_bytes(const struct emu_store *s);

/* Starts the log anew: what is appended from here to the next commit takes the place of everything before, in
 * one step. What was appended must have been committed, and the records be all that counts: when the new log cannot
 * be written, it is dropped with a warning, the commit is a success, and emu_store_n_bytes() stays. */
void emu_store_rewrite(struct emu_store *s);

#endif
