/* SPDX-License-Identifier: MIT */
#ifndef APP_STORAGE_H
#define APP_STORAGE_H

/*
 * Where a device's state is, and the directories for it. In the state directory, ID being the device's name (and its
 * module's) as in key_name.h, or `~` and a hash of it where that is too long for a file:
 *
 *   journal-ID/         what is queued; with volatile storage in the directory for that
 *   channels-ID.json    what users set of channels; there without a state directory, too
 *   twin-ID.json        the last known twin
 */

#include "base/log.h"
#include "config/config.h"

/* Strings are owned. */
struct storage {
	char *journal_dir;
	char *channels_path;
	char *twin_path; /* NULL: the twin is not kept, which was said */
	char *identity;  /* which twin it is: the hub's name and the device's */
};

/* Returns 0; -ENOMEM; or the error of making the directory of the journal, logged. */
int storage_prepare(struct storage *out, const struct config *config, struct log *log);
/* Idempotent. */
void storage_deinit(struct storage *storage);

#endif
